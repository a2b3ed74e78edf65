#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/err.h"

static void digest_is_blake2b_over_the_parts(void **state)
{
	static const struct str parts[] = { { "ab", 2 }, { NULL, 0 }, { "c", 1 } };
	uint8_t out[64];
	char hex[129];

	(void)state;
	crypto_digest(parts, 3, out, 64);
	hex_encode(out, 64, hex);
	/* RFC 7693 appendix A */
	assert_string_equal(hex,
	                    "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
	                    "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
}

static void a_keyed_digest_depends_on_its_key(void **state)
{
	uint8_t key[32] = { 1 }, a[32], b[32], again[32];

	(void)state;
	crypto_keyed_digest(key, sizeof key, STR("secret"), a, sizeof a);
	crypto_keyed_digest(key, sizeof key, STR("secret"), again, sizeof again);
	key[0] = 2;
	crypto_keyed_digest(key, sizeof key, STR("secret"), b, sizeof b);
	assert_memory_equal(a, again, sizeof a);
	assert_memory_not_equal(a, b, sizeof a);
}

static void random_numbers_stay_below_their_bound_and_reach_all(void **state)
{
	unsigned seen[7] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 7000; i++) {
		uint32_t r = crypto_random_below(7);
		assert_true(r < 7);
		seen[r]++;
	}
	for (unsigned i = 0; i < 7; i++)
		assert_true(seen[i] > 500);
	assert_int_equal(crypto_random_below(1), 0);
}

static void secrets_compare_and_are_wiped(void **state)
{
	char a[] = "secret-a", b[] = "secret-b";

	(void)state;
	assert_true(crypto_same(a, a, 8));
	assert_false(crypto_same(a, b, 8));
	assert_true(crypto_same(a, b, 7));
	crypto_wipe(a, sizeof a);
	for (unsigned i = 0; i < sizeof a; i++)
		assert_int_equal(a[i], 0);
}

static void base64_has_padding(void **state)
{
	static const char *const expected[] = { "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==" };
	char out[16];

	(void)state;
	for (size_t n = 0; n < sizeof expected / sizeof *expected; n++) { /* RFC 4648 section 10 */
		crypto_base64((const uint8_t *)"foobar", n, out, sizeof out);
		assert_string_equal(out, expected[n]);
	}
}

static void base64_is_read_with_and_without_padding(void **state)
{
	static const char *const texts[] = { "",         "Zg==", "Zm8=", "Zm9v",
		                             "Zm9vYg==", "Zg",   "Zm8",  "Zm9vYg" };
	static const char *const bad[] = { "Z",        "Z===", "Zg=",    "Zg===", "=",
		                           "Zg==Zg==", "Z!",   "Zm9v\n", "Zh",    "_-_-" };
	uint8_t out[8];

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		int n = crypto_base64_decode(str_of(texts[i]), out, sizeof out);
		assert_int_equal(n, i < 5 ? i : i == 7 ? 4 : i - 4);
		assert_memory_equal(out, "foob", (size_t)n);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(crypto_base64_decode(str_of(bad[i]), out, sizeof out),
		                 ERR_INVALID);
	assert_int_equal(crypto_base64_decode(STR("Zm9v"), out, 2), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_is_blake2b_over_the_parts),
		cmocka_unit_test(a_keyed_digest_depends_on_its_key),
		cmocka_unit_test(random_numbers_stay_below_their_bound_and_reach_all),
		cmocka_unit_test(secrets_compare_and_are_wiped),
		cmocka_unit_test(base64_has_padding),
		cmocka_unit_test(base64_is_read_with_and_without_padding),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
