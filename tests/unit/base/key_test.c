#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/key.h"

#define HEX62  "00112233445566778899aabbccddeeff00112233445566778899aabbccddee"
#define NAME63 "a23456789-123456789-123456789-123456789-123456789-123456789-123"

static void tunnel_key_is_the_vector_of_protocol_md(void **state)
{
	struct key key;
	char hex[KEY_TEXT_LEN + 1];

	(void)state;
	key_of_tunnel(STR("acme"), STR("home-wg"), &key);
	hex_encode(key.b, KEY_LEN, hex);
	assert_string_equal(hex,
	                    "d88094756d42385445ff4524d0fc8e8fce9268ad327df9b442772a0f87c033c8");
}

static void no_tunnel_key_can_be_a_curve25519_key(void **state)
{
	struct key key;
	char id[16];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(id, sizeof id, "id-%d", i);
		key_of_tunnel(STR("a"), str_of(id), &key);
		assert_true(key.b[31] & 0x80);
	}
}

static void account_and_id_do_not_run_into_each_other(void **state)
{
	struct key a, b;

	(void)state;
	key_of_tunnel(STR("ab"), STR("c"), &a);
	key_of_tunnel(STR("a"), STR("bc"), &b);
	assert_false(key_eq(&a, &b));
}

static void names_follow_their_grammar(void **state)
{
	static const char *const bad[] = { "",    "-a",  "A",        "a_b",      "a.b",
		                           "a b", "a/b", "\xc3\xa4", NAME63 "4", "a\n" };

	(void)state;
	assert_true(name_is_valid(STR("a")));
	assert_true(name_is_valid(STR("0-")));
	assert_true(name_is_valid(STR(NAME63)));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(name_is_valid(str_of(bad[i])));
	assert_false(name_is_valid((struct str){ "a\0b", 3 }));
}

static void a_bare_peer_is_of_the_own_account(void **state)
{
	struct key bare, full, other;

	(void)state;
	assert_int_equal(key_of_peer(STR("acme"), STR("home"), &bare), 0);
	assert_int_equal(key_of_peer(STR("other"), STR("acme/home"), &full), 0);
	assert_int_equal(key_of_peer(STR("other"), STR("home"), &other), 0);
	assert_true(key_eq(&bare, &full));
	assert_false(key_eq(&bare, &other));
}

static void a_node_key_is_itself(void **state)
{
	struct key key;
	uint8_t expected[KEY_LEN];

	(void)state;
	assert_int_equal(key_of_peer(STR("a"), STR("nodekey:" HEX62 "7f"), &key), 0);
	hex_decode(STR(HEX62 "7f"), expected, KEY_LEN);
	assert_memory_equal(key.b, expected, KEY_LEN);
}

static void peers_outside_the_grammar_change_nothing(void **state)
{
	static const char *const bad[] = {
		"",
		"/",
		"a/",
		"/a",
		"a/b/c",
		"A",
		"a/B",
		"nodekey:",
		"nodekey:" HEX62,
		"nodekey:" HEX62 "7F",
		"nodekey:" HEX62 "7fa",
		"nodekey:" HEX62 "80",
		"NODEKEY:" HEX62 "7f",
		"nodekey:" HEX62 "ff",
	};
	struct key key, before;

	(void)state;
	memset(&key, 5, sizeof key);
	before = key;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(key_of_peer(STR("a"), str_of(bad[i]), &key), ERR_INVALID);
		assert_true(key_eq(&key, &before));
		assert_false(peer_is_valid(str_of(bad[i])));
	}
}

static void logs_see_only_the_beginning_of_a_key(void **state)
{
	struct key key;

	(void)state;
	memset(&key, 0xab, sizeof key);
	assert_string_equal(key_brief(&key).s, "abababab.");
}

static void assert_host_name(const char *host, const char *expected)
{
	char out[NAME_MAX_LEN + 1];

	assert_int_equal(name_of_host(host, out), expected ? 0 : ERR_INVALID);
	if (expected)
		assert_string_equal(out, expected);
}

static void host_names_become_ids(void **state)
{
	(void)state;
	assert_host_name("Laptop", "laptop");
	assert_host_name("my_host.example.org", "my-host");
	assert_host_name("--x--", "x");
	assert_host_name("a__b", "a-b");
	assert_host_name(NAME63 "456", NAME63);
	assert_host_name("", NULL);
	assert_host_name("...", NULL);
	assert_host_name("\xc3\xa4", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tunnel_key_is_the_vector_of_protocol_md),
		cmocka_unit_test(no_tunnel_key_can_be_a_curve25519_key),
		cmocka_unit_test(account_and_id_do_not_run_into_each_other),
		cmocka_unit_test(names_follow_their_grammar),
		cmocka_unit_test(a_bare_peer_is_of_the_own_account),
		cmocka_unit_test(a_node_key_is_itself),
		cmocka_unit_test(peers_outside_the_grammar_change_nothing),
		cmocka_unit_test(logs_see_only_the_beginning_of_a_key),
		cmocka_unit_test(host_names_become_ids),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
