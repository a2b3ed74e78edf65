#include "tests/unit/said.h"

#include <sodium.h>

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

static void sha1_is_that_of_its_standard(void **state)
{
	uint8_t out[20];
	char hex[41];

	(void)state;
	assert_int_equal(
	                crypto_sha1((struct str[]){ { "ab", 2 }, { NULL, 0 }, { "c", 1 } }, 3, out),
	                0);
	hex_encode(out, 20, hex);
	assert_string_equal(hex, "a9993e364706816aba3e25717850c26c9cd0d89d"); /* RFC 3174 7.3 */
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

/* Made with libsodium 1.0.18 and computed again by other means. */
#define SERVER_SECRET "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e7f"
#define SERVER_PUBLIC "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
#define CLIENT_SECRET "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
#define CLIENT_PUBLIC "675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f"
#define CLIENT_INFO   "{\"version\":2,\"CanAckPings\":true}"
#define SERVER_INFO   "{\"version\":2}"
#define CLIENT_BOX                                                                                 \
	"000102030405060708090a0b0c0d0e0f1011121314151617ecf1b8744c8f81fa18c3a3bf4b37a4ec01df37ab" \
	"074e4af8a215f8c004258dfd2f52c9ae92823e7f72bb62f35c928ed8"
#define SERVER_BOX                                                                                 \
	"808182838485868788898a8b8c8d8e8f909192939495969765afc857872b9465654f4565d39a6ce59c18d990" \
	"9eff087c31664e4896"

struct node_pair {
	uint8_t secret[CRYPTO_NODE_KEY_LEN], public[CRYPTO_NODE_KEY_LEN];
};

static struct node_pair node_pair(const char *secret, const char *public)
{
	struct node_pair p;

	assert_int_equal(hex_decode(str_of(secret), p.secret, sizeof p.secret), 0);
	assert_int_equal(hex_decode(str_of(public), p.public, sizeof p.public), 0);
	return p;
}
#define SERVER node_pair(SERVER_SECRET, SERVER_PUBLIC)
#define CLIENT node_pair(CLIENT_SECRET, CLIENT_PUBLIC)

/* libsodium's randomness counts up while sealing is checked byte by byte. */
static uint8_t next_byte;
static const char *counting_name(void) { return "counting"; }
static void counting_bytes(void *const out, const size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)out)[i] = next_byte++;
}

static void seal_from(uint8_t first, const char *msg, struct node_pair from, struct node_pair to,
                      uint8_t *box_out)
{
	struct randombytes_implementation counting = { .implementation_name = counting_name,
		                                       .buf = counting_bytes };

	next_byte = first;
	randombytes_set_implementation(&counting);
	int rc = crypto_seal((const uint8_t *)msg, strlen(msg), to.public, from.secret, box_out);
	randombytes_set_implementation(&randombytes_sysrandom_implementation);
	assert_int_equal(rc, 0);
}

static void public_keys_are_those_of_their_secrets(void **state)
{
	struct node_pair pairs[] = { SERVER, CLIENT };
	uint8_t public[CRYPTO_NODE_KEY_LEN];

	(void)state;
	for (int i = 0; i < 2; i++) {
		crypto_node_public(pairs[i].secret, public);
		assert_memory_equal(public, pairs[i].public, sizeof public);
		crypto_node_clamp(pairs[i].secret);
		crypto_node_public(pairs[i].secret, public);
		assert_memory_equal(public, pairs[i].public, sizeof public);
	}
}

static void new_node_keys_are_clamped_and_differ(void **state)
{
	uint8_t a[CRYPTO_NODE_KEY_LEN], b[CRYPTO_NODE_KEY_LEN];

	(void)state;
	for (int i = 0; i < 64; i++) {
		crypto_node_key_new(a);
		assert_int_equal(a[0] & 7, 0);
		assert_int_equal(a[31] & 0xc0, 0x40);
		crypto_node_key_new(b);
		assert_memory_not_equal(a, b, sizeof a);
	}
}

static void boxes_are_sealed_byte_by_byte_as_the_original_seals_them(void **state)
{
	uint8_t box[128];
	char hex[257];

	(void)state;
	seal_from(0x00, CLIENT_INFO, CLIENT, SERVER, box);
	hex_encode(box, strlen(CLIENT_INFO) + CRYPTO_SEAL_EXTRA, hex);
	assert_string_equal(hex, CLIENT_BOX);
	seal_from(0x80, SERVER_INFO, SERVER, CLIENT, box);
	hex_encode(box, strlen(SERVER_INFO) + CRYPTO_SEAL_EXTRA, hex);
	assert_string_equal(hex, SERVER_BOX);
}

static void boxes_of_the_original_are_opened(void **state)
{
	uint8_t box[sizeof CLIENT_BOX / 2], msg[sizeof CLIENT_INFO];

	(void)state;
	assert_int_equal(hex_decode(STR(CLIENT_BOX), box, sizeof box), 0);
	assert_int_equal(crypto_unseal(box, sizeof box, CLIENT.public, SERVER.secret, msg), 0);
	assert_memory_equal(msg, CLIENT_INFO, sizeof box - CRYPTO_SEAL_EXTRA);
	assert_int_equal(sizeof box - CRYPTO_SEAL_EXTRA, strlen(CLIENT_INFO));
}

static void each_seal_has_a_nonce_of_its_own(void **state)
{
	uint8_t a[CRYPTO_SEAL_EXTRA], b[CRYPTO_SEAL_EXTRA];

	(void)state; /* of nothing: a message may be empty */
	assert_int_equal(crypto_seal(NULL, 0, SERVER.public, CLIENT.secret, a), 0);
	assert_int_equal(crypto_seal(NULL, 0, SERVER.public, CLIENT.secret, b), 0);
	assert_memory_not_equal(a, b, 24);
	assert_int_equal(crypto_unseal(a, sizeof a, CLIENT.public, SERVER.secret, NULL), 0);
}

static void a_changed_cut_or_foreign_box_stays_shut(void **state)
{
	uint8_t box[sizeof SERVER_BOX / 2], msg[sizeof box];

	(void)state;
	assert_int_equal(hex_decode(STR(SERVER_BOX), box, sizeof box), 0);
	for (size_t len = 0; len < sizeof box; len++)
		assert_int_equal(crypto_unseal(box, len, SERVER.public, CLIENT.secret, msg),
		                 ERR_INVALID);
	for (size_t i = 0; i < sizeof box; i++) {
		box[i] ^= 1;
		assert_int_equal(crypto_unseal(box, sizeof box, SERVER.public, CLIENT.secret, msg),
		                 ERR_INVALID);
		box[i] ^= 1;
	}
	assert_int_equal(crypto_unseal(box, sizeof box, SERVER.public, SERVER.secret, msg),
	                 ERR_INVALID);
	assert_int_equal(crypto_unseal(box, sizeof box, SERVER.public, CLIENT.secret, msg), 0);
}

static void zero_keys_and_those_of_low_order_seal_and_open_nothing(void **state)
{
	static const struct node_pair low[] = {
		{ .public = { 0 } },
		{ .public = { 1 } },
		{ .public = { 0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
		              0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
		              0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00 } },
	};
	uint8_t box[CRYPTO_SEAL_EXTRA + 1], msg[1] = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof low / sizeof *low; i++) {
		assert_int_equal(crypto_seal(msg, 1, low[i].public, CLIENT.secret, box),
		                 ERR_INVALID);
		memset(box, 0, sizeof box);
		assert_int_equal(crypto_unseal(box, sizeof box, low[i].public, CLIENT.secret, msg),
		                 ERR_INVALID);
	}
	assert_int_equal(crypto_seal(msg, 1, SERVER.public, low[0].secret, box), ERR_INVALID);
	assert_int_equal(crypto_seal(msg, 1, SERVER.public, CLIENT.secret, box), 0);
	assert_int_equal(crypto_unseal(box, sizeof box, CLIENT.public, low[0].secret, msg),
	                 ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_is_blake2b_over_the_parts),
		cmocka_unit_test(a_keyed_digest_depends_on_its_key),
		cmocka_unit_test(sha1_is_that_of_its_standard),
		cmocka_unit_test(random_numbers_stay_below_their_bound_and_reach_all),
		cmocka_unit_test(secrets_compare_and_are_wiped),
		cmocka_unit_test(base64_has_padding),
		cmocka_unit_test(base64_is_read_with_and_without_padding),
		cmocka_unit_test(public_keys_are_those_of_their_secrets),
		cmocka_unit_test(new_node_keys_are_clamped_and_differ),
		cmocka_unit_test(boxes_are_sealed_byte_by_byte_as_the_original_seals_them),
		cmocka_unit_test(boxes_of_the_original_are_opened),
		cmocka_unit_test(each_seal_has_a_nonce_of_its_own),
		cmocka_unit_test(a_changed_cut_or_foreign_box_stays_shut),
		cmocka_unit_test(zero_keys_and_those_of_low_order_seal_and_open_nothing),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
