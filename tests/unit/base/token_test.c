#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/token.h"

/* Made by zlib and Python from the definition: a secret of zero bytes, of 0xff bytes. */
static const char low[] = "tunn_00000000_0000000000000000000000000000000000000000000_b12e70fa";
static const char high[] = "tunn_zzzzzzzz_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1_ef8da762";

static int check(const char *text) { return token_check(str_of(text)); }

static void new_token_has_the_format(void **state)
{
	char t[TOKEN_LEN + 1];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		token_new(t);
		assert_int_equal(strlen(t), TOKEN_LEN);
		assert_int_equal(check(t), 0);
	}
}

static void tokens_made_elsewhere_are_understood(void **state)
{
	(void)state;
	assert_int_equal(check(low), 0);
	assert_int_equal(check(high), 0);
}

static void no_two_tokens_are_alike(void **state)
{
	char a[TOKEN_LEN + 1], b[TOKEN_LEN + 1];

	(void)state;
	token_new(a);
	token_new(b);
	assert_false(str_eq(token_id(str_of(a)), token_id(str_of(b))));
	assert_false(str_eq(token_secret(str_of(a)), token_secret(str_of(b))));
}

static void parts_lie_between_the_underscores(void **state)
{
	struct str t = str_of(high);

	(void)state;
	assert_true(str_eq(token_id(t), STR("zzzzzzzz")));
	assert_true(str_eq(token_secret(t), STR("yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1")));
}

static void A01_every_single_typo_is_found(void **state)
{
	static const char wrong[] = "0aZ_ \n\t-\x80";
	char t[TOKEN_LEN + 1];

	(void)state;
	token_new(t);
	for (size_t at = 0; at < TOKEN_LEN; at++)
		for (size_t i = 0; i < sizeof wrong; i++) { /* with its NUL */
			char kept = t[at];
			if (kept == wrong[i])
				continue;
			t[at] = wrong[i];
			assert_int_equal(token_check((struct str){ t, TOKEN_LEN }), ERR_INVALID);
			t[at] = kept;
		}
}

static void A01_neighbours_swapped_are_found(void **state)
{
	char t[TOKEN_LEN + 1];

	(void)state;
	token_new(t);
	for (size_t at = 0; at + 1 < TOKEN_LEN; at++) {
		char a = t[at], b = t[at + 1];
		if (a == b)
			continue;
		t[at] = b, t[at + 1] = a;
		assert_int_equal(check(t), ERR_INVALID);
		t[at] = a, t[at + 1] = b;
	}
}

static void A01_every_other_length_is_refused(void **state)
{
	char t[2 * TOKEN_LEN];

	(void)state;
	token_new(t);
	memset(t + TOKEN_LEN, '0', TOKEN_LEN);
	for (size_t len = 0; len < sizeof t; len++) {
		char *exact = malloc(len ? len : 1); /* a sanitizer sees one byte too many */
		assert_non_null(exact);
		memcpy(exact, t, len);
		assert_int_equal(token_check((struct str){ exact, len }),
		                 len == TOKEN_LEN ? 0 : ERR_INVALID);
		free(exact);
	}
}

static void A01_lower_cased_token_is_refused(void **state)
{
	char t[] = "tunn_ABCDEFGH_0000000000000000000000000000000000000000000_961d0689";

	(void)state;
	assert_int_equal(check(t), 0);
	for (char *p = t; *p; p++)
		*p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
	assert_int_equal(check(t), ERR_INVALID);
}

static void hash_depends_on_secret_and_pepper(void **state)
{
	uint8_t pepper[TOKEN_PEPPER_LEN] = { 1 }, a[TOKEN_HASH_LEN], b[TOKEN_HASH_LEN];

	(void)state;
	token_hash(pepper, STR("secret"), a);
	token_hash(pepper, STR("secret"), b);
	assert_memory_equal(a, b, sizeof a);
	token_hash(pepper, STR("secres"), b);
	assert_memory_not_equal(a, b, sizeof a);
	pepper[31] = 1;
	token_hash(pepper, STR("secret"), b);
	assert_memory_not_equal(a, b, sizeof a);
}

/* hashlib.blake2b(b"secret", key=bytes(range(32)), digest_size=32) */
static void hash_is_keyed_blake2b_256(void **state)
{
	uint8_t pepper[TOKEN_PEPPER_LEN], hash[TOKEN_HASH_LEN];
	char hex[2 * TOKEN_HASH_LEN + 1];

	(void)state;
	for (unsigned i = 0; i < sizeof pepper; i++)
		pepper[i] = (uint8_t)i;
	token_hash(pepper, STR("secret"), hash);
	hex_encode(hash, sizeof hash, hex);
	assert_string_equal(hex,
	                    "1fb0395656807e0bf4720bb9161df8c93a764105853d923b42dc8abcacce45bc");
}

static void the_secret_is_taken_out_of_a_text(void **state)
{
	static const struct {
		const char *text, *without;
	} rows[] = {
		{ "", "" },
		{ "tunn: nothing", "tunn: nothing" },
		{ "tunn_", "tunn_" },
		{ "tunn_abcdefgh_", "tunn_abcdefgh_" },
		{ "a tunn_abcdefgh_SECRET_0123abcd, b", "a tunn_abcdefgh_***, b" },
		{ "cut: tunn_abcdefgh_S", "cut: tunn_abcdefgh_*" },
		{ "tunn_abcdefgh_XYZ0 tunn_abcdefgh_XYZ1", "tunn_abcdefgh_*** tunn_abcdefgh_***" },
		{ "tunn_tunn_abcdefgh_S", "tunn_tunn_abcd***" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		char text[100];
		strcpy(text, rows[i].text);
		token_redact(text);
		assert_string_equal(text, rows[i].without);
	}
}

static void A12_a_token_in_a_text_is_found_and_told_by_its_id(void **state)
{
	static const struct {
		const char *text;
		bool found;
		const char *id;
	} rows[] = {
		{ "", false, "" },
		{ "/tunn", false, "" },
		{ "/tunn_", true, "" },
		{ "/tunn_abcdefgh", true, "" },
		{ "/?t=tunn_abcdefgh_SECRET&x=1", true, "abcdefgh" },
		{ "tunn_abc-efgh_SECRET", true, "" },
		{ "/tunn_tunn_abcdefgh_S", true, "" },
	};
	char id[TOKEN_ID_LEN + 1];

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(token_in(str_of(rows[i].text), id), rows[i].found);
		assert_string_equal(id, rows[i].id);
	}
	assert_false(token_in((struct str){ NULL, 0 }, id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_token_has_the_format),
		cmocka_unit_test(tokens_made_elsewhere_are_understood),
		cmocka_unit_test(no_two_tokens_are_alike),
		cmocka_unit_test(parts_lie_between_the_underscores),
		cmocka_unit_test(A01_every_single_typo_is_found),
		cmocka_unit_test(A01_neighbours_swapped_are_found),
		cmocka_unit_test(A01_every_other_length_is_refused),
		cmocka_unit_test(A01_lower_cased_token_is_refused),
		cmocka_unit_test(hash_depends_on_secret_and_pepper),
		cmocka_unit_test(hash_is_keyed_blake2b_256),
		cmocka_unit_test(the_secret_is_taken_out_of_a_text),
		cmocka_unit_test(A12_a_token_in_a_text_is_found_and_told_by_its_id),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
