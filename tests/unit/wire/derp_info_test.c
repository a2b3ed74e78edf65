/* What ClientInfo and ServerInfo say inside their boxes (derp.md 2.6). */
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/wire/derp_info.h"

#define HEX64       "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEX64_LESS  "00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEX64_UPPER "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"

static struct derp_client_info ci;
static struct derp_server_info si;
static struct derp_info_doc *doc;

/* From a block of just this length, so that a sanitizer sees one byte too many. */
static char *copy_of(const char *text, size_t len)
{
	char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	for (size_t i = 0; i < len; i++)
		copy[i] = text[i];
	return copy;
}

static void forget(void)
{
	derp_info_free(doc);
	doc = NULL;
}

static int client_bytes(const char *text, size_t len)
{
	char *copy = copy_of(text, len);

	forget();
	int rc = derp_client_info_read((struct str){ copy, len }, &ci, &doc);
	free(copy); /* what was read does not point into the text */
	if (rc < 0)
		assert_null(doc);
	return rc;
}

static int server_bytes(const char *text, size_t len)
{
	char *copy = copy_of(text, len);

	forget();
	int rc = derp_server_info_read((struct str){ copy, len }, &si, &doc);
	free(copy);
	if (rc < 0)
		assert_null(doc);
	return rc;
}

static int client(const char *text) { return client_bytes(text, strlen(text)); }
static int server(const char *text) { return server_bytes(text, strlen(text)); }

static void assert_str(struct str got, const char *expected)
{
	assert_int_equal(got.len, strlen(expected));
	assert_memory_equal(got.p, expected, got.len);
}

/* ---- ClientInfo ---- */

static void the_smallest_texts_of_real_clients_are_read(void **state)
{
	(void)state;
	assert_int_equal(client("{\"version\":2,\"CanAckPings\":true}"), 0);
	assert_true(ci.can_ack_pings);
	assert_false(ci.is_prober || ci.has_mesh_key || ci.is_named);
	assert_int_equal(client("{}"), 0);
	assert_false(ci.can_ack_pings || ci.is_prober || ci.has_mesh_key || ci.is_named);
	assert_int_equal(client("{\"version\": 2}"), 0); /* a C client's */
	assert_int_equal(client("{\"CanAckPings\":true,\"version\":2}"), 0);
	assert_true(ci.can_ack_pings);
	assert_int_equal(client("{\"version\": 2, \"meshKey\": \"\"}"), 0); /* an ESP32's */
	assert_false(ci.has_mesh_key);
	assert_int_equal(client("{\"can_ack_pings\":false,\"is_prober\":false,"
	                        "\"mesh_key\":\"none\",\"version\":2}"),
	                 0); /* tailscale-rs */
	assert_false(ci.has_mesh_key);
	assert_int_equal(client("{\"version\":2,\"CanAckPings\":true,\"IsProber\":true,"
	                        "\"AppName\":\"derpprobe\"}"),
	                 0);
	assert_true(ci.is_prober);
}

static void names_are_found_in_any_case_but_not_across_underscores(void **state)
{
	(void)state;
	assert_int_equal(client("{\"Version\":2,\"canackpings\":true,\"ISPROBER\":true,"
	                        "\"MeshKey\":\"" HEX64 "\"}"),
	                 0);
	assert_true(ci.can_ack_pings && ci.is_prober && ci.has_mesh_key);
	assert_int_equal(client("{\"meshkey\":\"" HEX64 "\"}"), 0);
	assert_true(ci.has_mesh_key);
	assert_int_equal(client("{\"mesh_key\":\"" HEX64 "\",\"Can_Ack_Pings\":true}"), 0);
	assert_false(ci.has_mesh_key || ci.can_ack_pings);
}

static void the_mesh_key_is_64_digits_or_nothing(void **state)
{
	static const char *const bad[] = { "\"badf00d\"",
		                           "\"" HEX64 "0\"",
		                           "\"" HEX64 "0000\"",
		                           "\"" HEX64 " \"",
		                           "\" " HEX64 "\"",
		                           "\"x" HEX64_LESS "\"",
		                           "7",
		                           "true",
		                           "[]",
		                           "{}" };
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "{\"meshKey\":%s}", bad[i]);
		assert_int_equal(client(text), ERR_PROTOCOL);
	}
	assert_int_equal(client("{\"meshKey\":null}"), 0);
	assert_false(ci.has_mesh_key);
	assert_int_equal(client("{\"meshKey\":\"" HEX64_UPPER "\"}"), 0);
	assert_true(ci.has_mesh_key);
	for (uint8_t i = 0; i < KEY_LEN; i++)
		assert_int_equal(ci.mesh_key[i], i);
}

static void D08_what_is_no_object_of_ours_is_refused(void **state)
{
	static const char *const bad[] = { "",
		                           " ",
		                           "null",
		                           "[]",
		                           "2",
		                           "\"version\"",
		                           "{",
		                           "{}{}",
		                           "{} x",
		                           "{\"version\":}",
		                           "{'version':2}",
		                           "not JSON at all",
		                           "{\"version\":\"2\"}",
		                           "{\"version\":2.5}",
		                           "{\"version\":true}",
		                           "{\"CanAckPings\":1}",
		                           "{\"CanAckPings\":\"true\"}",
		                           "{\"IsProber\":\"\"}",
		                           "{\"IsProber\":[]}" };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(client(bad[i]), ERR_PROTOCOL);
	assert_int_equal(client_bytes("{}\0", 3), ERR_PROTOCOL);
	assert_int_equal(client_bytes("{\"x\":\"\xff\xfe\"}", 10), ERR_PROTOCOL);
}

static void D08_versions_and_unknown_members_do_not_matter(void **state)
{
	(void)state;
	assert_int_equal(client("{\"version\":0}"), 0);
	assert_int_equal(client("{\"version\":3}"), 0);
	assert_int_equal(client("{\"version\":-1}"), 0);
	assert_int_equal(client("{\"version\":null,\"CanAckPings\":null,\"IsProber\":null}"), 0);
	assert_false(ci.can_ack_pings || ci.is_prober);
	assert_int_equal(client("{\"later\":{\"a\":[1,2,{\"b\":null}]},\"CanAckPings\":true}"), 0);
	assert_true(ci.can_ack_pings);
}

static void D08_of_several_the_last_counts(void **state)
{
	(void)state;
	assert_int_equal(client("{\"CanAckPings\":false,\"CanAckPings\":true}"), 0);
	assert_true(ci.can_ack_pings);
	assert_int_equal(client("{\"CanAckPings\":true,\"canackpings\":false}"), 0);
	assert_false(ci.can_ack_pings);
	assert_int_equal(client("{\"tunnPeers\":[\"a\"],\"tunnId\":\"x\",\"tunnId\":\"y\"}"), 0);
	assert_str(ci.id, "y");
}

static void D08_depth_length_and_number_of_parts_are_bounded(void **state)
{
	char *text = malloc(200000);

	(void)state;
	assert_non_null(text);
	for (unsigned depth = 1; depth <= 1000; depth += depth < 12 ? 1 : 988) {
		char *to = text + sprintf(text, "{\"x\":");
		memset(to, '[', depth);
		memset(to + depth, ']', depth);
		strcpy(to + 2 * depth, "}");
		assert_int_equal(client(text), depth < 8 ? 0 : ERR_PROTOCOL);
	}
	size_t n = (size_t)sprintf(text, "{\"x\":\"");
	memset(text + n, 'x', 70000);
	strcpy(text + n + 70000, "\"}");
	assert_int_equal(client(text), ERR_PROTOCOL);
	n = (size_t)sprintf(text, "{\"x\":[");
	for (unsigned i = 0; i < 3000; i++)
		n += (size_t)sprintf(text + n, "1,");
	strcpy(text + n, "1]}");
	assert_int_equal(client(text), ERR_PROTOCOL);
	free(text);
}

/* ---- ours ---- */

static void a_tunnel_is_named_as_soon_as_its_peers_are(void **state)
{
	(void)state;
	assert_int_equal(client("{\"tunnPeers\":[\"home-wg\",\"other/box\"],\"tunnId\":\"laptop\","
	                        "\"tunnToken\":\"tok\",\"tunnRole\":2,\"tunnOneWay\":true,"
	                        "\"tunnInstance\":\"000102030405060708090a0b0c0d0e0f\"}"),
	                 0);
	assert_true(ci.is_named && ci.has_instance && ci.is_one_way);
	assert_int_equal(ci.role, 2);
	assert_int_equal(ci.n_peers, 2);
	assert_str(ci.peers[0], "home-wg");
	assert_str(ci.peers[1], "other/box");
	assert_str(ci.id, "laptop");
	assert_str(ci.token, "tok");
	assert_int_equal(ci.instance[15], 15);
	assert_int_equal(client("{\"tunnPeers\":[]}"), 0);
	assert_true(ci.is_named);
	assert_int_equal(ci.n_peers, 0);
	assert_str(ci.id, "");
	assert_str(ci.token, "");
	assert_false(ci.has_instance || ci.is_one_way);
	assert_int_equal(client("{\"tunnId\":\"laptop\"}"), 0);
	assert_false(ci.is_named);
}

static void members_of_ours_that_are_not_what_they_should_be_are_refused(void **state)
{
	static const char *const bad[] = {
		"\"tunnPeers\":null",
		"\"tunnPeers\":\"a\"",
		"\"tunnPeers\":{}",
		"\"tunnPeers\":[1]",
		"\"tunnPeers\":[\"a\",null]",
		"\"tunnPeers\":[[\"a\"]]",
		"\"tunnId\":1",
		"\"tunnToken\":[]",
		"\"tunnOneWay\":1",
		"\"tunnRole\":3",
		"\"tunnRole\":-1",
		"\"tunnRole\":4294967297",
		"\"tunnRole\":\"1\"",
		"\"tunnInstance\":\"00\"",
		"\"tunnInstance\":\"000102030405060708090a0b0c0d0e0g\"",
		"\"tunnInstance\":\"000102030405060708090a0b0c0d0e0f00\"",
		"\"tunnInstance\":7",
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "{\"version\":2,\"tunnPeers\":[\"b\"],%s}", bad[i]);
		if (client(text) != ERR_PROTOCOL)
			fail_msg("taken: %s", text);
	}
}

static char *with_list(const char *name, unsigned n, const char *each)
{
	char *text = malloc(100 + n * (strlen(each) + 10));

	assert_non_null(text);
	size_t len = (size_t)sprintf(text, "{\"%s\":[", name);
	for (unsigned i = 0; i < n; i++)
		len += (size_t)sprintf(text + len, "%s\"%s\"", i ? "," : "", each);
	strcpy(text + len, "]}");
	return text;
}

static void a_list_of_512_is_read_and_no_longer_one(void **state)
{
	(void)state;
	for (unsigned n = PEERS_MAX - 1; n <= PEERS_MAX + 1; n++) {
		char *peers = with_list("tunnPeers", n, "p"),
		     *keys = with_list("tunnPeerKeys", n, HEX64);
		assert_int_equal(client(peers), n <= PEERS_MAX ? 0 : ERR_PROTOCOL);
		if (n <= PEERS_MAX)
			assert_int_equal(ci.n_peers, n);
		assert_int_equal(server(keys), n <= PEERS_MAX ? 0 : ERR_PROTOCOL);
		if (n <= PEERS_MAX)
			assert_int_equal(si.n_keys, n);
		free(peers);
		free(keys);
	}
}

/* ---- ServerInfo ---- */

static void ServerInfo_of_any_server_is_read(void **state)
{
	(void)state;
	assert_int_equal(server("{\"version\":2}"), 0);
	assert_int_equal(si.version, 2);
	assert_int_equal(si.rate, 0);
	assert_false(si.is_named);
	assert_int_equal(server("{\"Version\":2,\"tokenbucketbytespersecond\":1000,"
	                        "\"TokenBucketBytesBurst\":70000,\"new\":[]}"),
	                 0);
	assert_int_equal(si.rate, 1000);
	assert_int_equal(si.burst, 70000);
	assert_int_equal(server("{}"), 0);
	assert_int_equal(server(""), ERR_PROTOCOL);
	assert_int_equal(server("{\"version\":\"2\"}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"TokenBucketBytesPerSecond\":-1}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"TokenBucketBytesPerSecond\":1e3}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"TokenBucketBytesBurst\":[]}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"TokenBucketBytesBurst\":99999999999999999999}"), ERR_PROTOCOL);
}

static void ServerInfo_of_ours_says_keys_and_names(void **state)
{
	(void)state;
	assert_int_equal(server("{\"version\":2,\"tunnPeerKeys\":[\"" HEX64 "\"],"
	                        "\"tunnAccount\":\"acme\",\"tunnId\":\"laptop\","
	                        "\"tunnNode\":\"n1\"}"),
	                 0);
	assert_true(si.is_named);
	assert_int_equal(si.n_keys, 1);
	assert_int_equal(si.keys[0].b[31], 31);
	assert_str(si.account, "acme");
	assert_str(si.id, "laptop");
	assert_str(si.node, "n1");
	assert_int_equal(server("{\"tunnPeerKeys\":null}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"tunnPeerKeys\":[\"00\"]}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"tunnPeerKeys\":[\"" HEX64 "\",7]}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"tunnPeerKeys\":[\"" HEX64_UPPER "\"]}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"tunnAccount\":1}"), ERR_PROTOCOL);
	assert_int_equal(server("{\"tunnNode\":[]}"), ERR_PROTOCOL);
}

/* ---- written, and read back ---- */

static void what_any_server_is_told_are_the_bytes_of_the_original(void **state)
{
	struct derp_client_info c = { .can_ack_pings = true };
	struct derp_server_info s = { .version = 2 };
	struct buf out = { 0 };

	(void)state;
	assert_int_equal(derp_client_info_write(&c, &out), 0);
	assert_str((struct str){ (const char *)buf_data(&out), buf_len(&out) },
	           "{\"version\":2,\"CanAckPings\":true}");
	buf_clear(&out);
	assert_int_equal(derp_server_info_write(&s, &out), 0);
	assert_str((struct str){ (const char *)buf_data(&out), buf_len(&out) }, "{\"version\":2}");
	buf_clear(&out);
	c.has_mesh_key = c.is_prober = true;
	assert_int_equal(derp_client_info_write(&c, &out), 0);
	assert_int_equal(client_bytes((const char *)buf_data(&out), buf_len(&out)), 0);
	assert_true(ci.has_mesh_key && ci.is_prober);
	/* nothing of ours without being asked for */
	c = (struct derp_client_info){ .id = STR("laptop"), .token = STR("secret"), .role = 1 };
	buf_clear(&out);
	assert_int_equal(derp_client_info_write(&c, &out), 0);
	assert_null(memmem(buf_data(&out), buf_len(&out), "tunn", 4));
	assert_null(memmem(buf_data(&out), buf_len(&out), "secret", 6));
	buf_done(&out);
}

static void what_is_written_is_read_back(void **state)
{
	char token[128];
	size_t n = 0;
	const struct str peers[] = { STR("home-wg"), STR("other/box"), STR("nodekey:" HEX64) };
	struct derp_client_info c = { .can_ack_pings = true,
		                      .is_named = true,
		                      .id = STR("laptop"),
		                      .has_instance = true,
		                      .instance = { 1, 2, [15] = 255 },
		                      .is_one_way = true,
		                      .role = 2,
		                      .n_peers = 3,
		                      .peers = (struct str *)(uintptr_t)peers };
	struct buf out = { 0 };

	(void)state;
	for (char ch = 0x21; ch < 0x7f; ch++) /* every character a token may have, and more */
		token[n++] = ch;
	c.token = (struct str){ token, n };
	assert_int_equal(derp_client_info_write(&c, &out), 0);
	assert_int_equal(client_bytes((const char *)buf_data(&out), buf_len(&out)), 0);
	assert_true(ci.is_named && ci.has_instance && ci.is_one_way && ci.can_ack_pings);
	assert_true(str_eq(ci.token, c.token) && str_eq(ci.id, c.id));
	assert_memory_equal(ci.instance, c.instance, sizeof c.instance);
	assert_int_equal(ci.role, 2);
	assert_int_equal(ci.n_peers, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_true(str_eq(ci.peers[i], peers[i]));
	buf_done(&out);
}

static void a_welcome_for_512_peers_is_read_back(void **state)
{
	struct key *keys = calloc(PEERS_MAX, sizeof *keys);
	struct derp_server_info s = { .version = 2,
		                      .is_named = true,
		                      .account = STR("acme"),
		                      .id = STR("laptop"),
		                      .node = STR("n1"),
		                      .n_keys = PEERS_MAX,
		                      .keys = keys };
	struct buf out = { 0 };

	(void)state;
	assert_non_null(keys);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		crypto_random(&keys[i], sizeof *keys);
	int rc = derp_server_info_write(&s, &out);
	if (rc == 0)
		rc = server_bytes((const char *)buf_data(&out), buf_len(&out));
	bool same = rc == 0 && si.n_keys == PEERS_MAX &&
	            memcmp(si.keys, keys, PEERS_MAX * sizeof *keys) == 0;
	free(keys);
	buf_done(&out);
	assert_int_equal(rc, 0);
	assert_true(same);
	assert_str(si.account, "acme");
	assert_str(si.node, "n1");
}

static void a_text_that_is_not_UTF8_is_not_written(void **state)
{
	const struct str peer = { "\xff\xfe", 2 };
	struct derp_client_info c = { .is_named = true,
		                      .n_peers = 1,
		                      .peers = (struct str *)(uintptr_t)&peer };
	struct buf out = { 0 };

	(void)state;
	assert_true(derp_client_info_write(&c, &out) < 0);
	assert_int_equal(buf_len(&out), 0);
	buf_done(&out);
}

/* ---- boxes (derp.md 2.9) ---- */

static void the_boxes_of_the_vectors_open_and_can_be_read(void **state)
{
	static const char server_secret[] = "202122232425262728292a2b2c2d2e2f303132333435363738393a"
	                                    "3b3c3d3e7f",
	                  client_secret[] = "606162636465666768696a6b6c6d6e6f707172737475767778797a"
	                                    "7b7c7d7e7f",
	                  client_box[] = "000102030405060708090a0b0c0d0e0f1011121314151617ecf1b874"
	                                 "4c8f81fa18c3a3bf4b37a4ec01df37ab074e4af8a215f8c004258dfd"
	                                 "2f52c9ae92823e7f72bb62f35c928ed8",
	                  server_box[] = "808182838485868788898a8b8c8d8e8f909192939495969765afc857"
	                                 "872b9465654f4565d39a6ce59c18d9909eff087c31664e4896";
	uint8_t ss[32], sp[32], cs[32], cp[32], box[72], text[32];

	(void)state;
	assert_int_equal(hex_decode(str_of(server_secret), ss, 32), 0);
	assert_int_equal(hex_decode(str_of(client_secret), cs, 32), 0);
	crypto_node_public(ss, sp);
	crypto_node_public(cs, cp);
	assert_int_equal(hex_decode(str_of(client_box), box, 72), 0);
	assert_int_equal(crypto_unseal(box, 72, cp, ss, text), 0);
	assert_int_equal(client_bytes((const char *)text, 32), 0);
	assert_true(ci.can_ack_pings);
	assert_int_equal(hex_decode(str_of(server_box), box, 53), 0);
	assert_int_equal(crypto_unseal(box, 53, sp, cs, text), 0);
	assert_int_equal(server_bytes((const char *)text, 13), 0);
	assert_int_equal(si.version, 2);
}

static int tidy(void **state)
{
	(void)state;
	forget();
	buf_pool_drain();
	return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, tidy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_smallest_texts_of_real_clients_are_read),
		TEST(names_are_found_in_any_case_but_not_across_underscores),
		TEST(the_mesh_key_is_64_digits_or_nothing),
		TEST(D08_what_is_no_object_of_ours_is_refused),
		TEST(D08_versions_and_unknown_members_do_not_matter),
		TEST(D08_of_several_the_last_counts),
		TEST(D08_depth_length_and_number_of_parts_are_bounded),
		TEST(a_tunnel_is_named_as_soon_as_its_peers_are),
		TEST(members_of_ours_that_are_not_what_they_should_be_are_refused),
		TEST(a_list_of_512_is_read_and_no_longer_one),
		TEST(ServerInfo_of_any_server_is_read),
		TEST(ServerInfo_of_ours_says_keys_and_names),
		TEST(what_any_server_is_told_are_the_bytes_of_the_original),
		TEST(what_is_written_is_read_back),
		TEST(a_welcome_for_512_peers_is_read_back),
		TEST(a_text_that_is_not_UTF8_is_not_written),
		TEST(the_boxes_of_the_vectors_open_and_can_be_read),
	};

	json_start();
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
