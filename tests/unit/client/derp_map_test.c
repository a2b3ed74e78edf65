#include "tests/unit/said.h"

#include "client/derp_map.h"
#include "common/base/err.h"
#include "common/base/json.h"

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct derp_map map;
static char words[DERP_MAP_ERROR_LEN];

static int tear_down(void **state)
{
	(void)state;
	derp_map_done(&map);
	return 0;
}

static void parse(const char *text)
{
	derp_map_done(&map);
	if (derp_map_parse(str_of(text), &map, words) != 0)
		fail_msg("%s", words);
}

static const struct derp_node *node(size_t region, size_t n)
{
	assert_true(region < map.n_regions && n < map.regions[region].n_nodes);
	return &map.regions[region].nodes[n];
}

static const char *ip(const struct addr *a)
{
	static char text[ADDR_TEXT_LEN];

	return addr_ip_text(a, text);
}

/* As control servers write it. */
static const char usual[] =
                "{\"Regions\":{"
                " \"17\":{\"RegionID\":17,\"RegionCode\":\"sao\",\"RegionName\":\"S\xc3\xa3o Paulo\","
                "  \"Latitude\":-23.5,\"Longitude\":-46.6,\"Nodes\":["
                "  {\"Name\":\"17a\",\"RegionID\":17,\"HostName\":\"derp17a.example.com\","
                "   \"IPv4\":\"192.0.2.17\",\"IPv6\":\"2001:db8::17\",\"CanPort80\":true},"
                "  {\"Name\":\"17s\",\"RegionID\":17,\"HostName\":\"stun.example.com\","
                "   \"STUNOnly\":true,\"STUNPort\":3479}]},"
                " \"9\":{\"RegionID\":9,\"RegionCode\":\"own\",\"RegionName\":\"Mine\",\"Nodes\":["
                "  {\"Name\":\"9a\",\"RegionID\":9,\"HostName\":\"192.0.2.9\",\"DERPPort\":8443,"
                "   \"CertName\":\"sha256-raw:" HEX64 "\",\"STUNPort\":-1,\"IPv6\":\"none\"},"
                "  {\"Name\":\"9b\",\"RegionID\":9,\"HostName\":\"front.example.com\","
                "   \"CertName\":\"derp.example.com\"}]}},"
                "\"HomeParams\":{\"RegionScore\":{\"9\":0.5,\"77\":2,\"17\":0}}}";

static void regions_come_in_order_of_their_ids(void **state)
{
	(void)state;
	parse(usual);
	assert_int_equal(map.n_regions, 2);
	assert_int_equal(map.regions[0].id, 9);
	assert_string_equal(map.regions[0].code, "own");
	assert_true(map.regions[0].score == 0.5 && map.regions[1].score == 1);
	assert_int_equal(map.regions[1].id, 17);
	assert_string_equal(map.regions[1].name, "S\xc3\xa3o Paulo");
	assert_false(map.regions[1].avoid || map.regions[1].no_home);
}

static void a_node_has_what_the_map_says_and_else_the_usual(void **state)
{
	(void)state;
	parse(usual);
	const struct derp_node *n = node(1, 0);
	assert_string_equal(n->name, "17a");
	assert_string_equal(n->host, "derp17a.example.com");
	assert_string_equal(n->verify_name, "");
	assert_false(n->has_raw_pin || n->stun_only || n->ipv4.off || n->ipv6.off);
	assert_string_equal(ip(&n->ipv4.at), "192.0.2.17");
	assert_string_equal(ip(&n->ipv6.at), "2001:db8::17");
	assert_int_equal(n->port, 443);
	assert_int_equal(n->stun_port, 3478);
	n = node(1, 1);
	assert_true(n->stun_only);
	assert_int_equal(n->stun_port, 3479);
	assert_int_equal(n->ipv4.at.len, 0);
	n = node(0, 1);
	assert_string_equal(n->verify_name, "derp.example.com");
}

static void a_pinned_certificate_and_a_family_switched_off_are_read(void **state)
{
	(void)state;
	parse(usual);
	const struct derp_node *n = node(0, 0);
	assert_true(n->has_raw_pin);
	assert_int_equal(n->raw_pin[1], 0x11);
	assert_int_equal(n->raw_pin[31], 0xff);
	assert_string_equal(n->verify_name, "");
	assert_true(n->ipv6.off);
	assert_false(n->ipv4.off);
	assert_int_equal(n->port, 8443);
	assert_int_equal(n->stun_port, 0);
}

static void an_address_of_the_other_family_switches_a_family_off(void **state)
{
	(void)state;
	parse("{\"Regions\":{\"1\":{\"Nodes\":[{\"HostName\":\"h\",\"IPv4\":\"2001:db8::1\","
	      "\"IPv6\":\"\",\"STUNTestIP\":\"192.0.2.5\"}]}}}");
	assert_true(node(0, 0)->ipv4.off);
	assert_int_equal(node(0, 0)->ipv4.at.len, 0);
	assert_false(node(0, 0)->ipv6.off);
	assert_string_equal(ip(&node(0, 0)->stun_at), "192.0.2.5");
	assert_int_equal(addr_port(&node(0, 0)->stun_at), 3478);
}

static void members_are_decoded_as_go_does(void **state)
{
	(void)state;
	parse("{\"omitDefaultRegions\":true,\"regions\":{\"1\":{\"regioncode\":\"A\",\"AVOID\":true,"
	      "\"noMeasureNoHome\":true,\"unknown\":[{}],\"nodes\":[{\"hostname\":\"a\",\"HOSTNAME\":"
	      "\"b\",\"STUNOnly\":null,\"DERPPort\":null,\"IPv4\":null},null]},\"2\":null}}");
	assert_int_equal(map.n_regions, 1);
	assert_true(map.regions[0].avoid && map.regions[0].no_home);
	assert_int_equal(map.regions[0].n_nodes, 1);
	assert_string_equal(node(0, 0)->host, "b");
	assert_int_equal(node(0, 0)->port, 443);
}

static void a_region_is_found_by_id_or_code(void **state)
{
	struct derp_map none = { .n_regions = 0 };

	(void)state;
	parse(usual);
	assert_ptr_equal(derp_map_find(&map, "17"), &map.regions[1]);
	assert_ptr_equal(derp_map_find(&map, "SAO"), &map.regions[1]);
	assert_ptr_equal(derp_map_find(&map, "own"), &map.regions[0]);
	assert_null(derp_map_find(&map, "18"));
	assert_null(derp_map_find(&map, "017"));
	assert_null(derp_map_find(&map, ""));
	assert_null(derp_map_find(&none, "17"));
}

static void names_lose_what_a_terminal_would_obey(void **state)
{
	char text[400];

	(void)state;
	snprintf(text, sizeof text,
	         "{\"Regions\":{\"1\":{\"RegionCode\":\"a\\u001b[2Jb\\u009bc\",\"RegionName\":"
	         "\"%062d\xc3\xa4\",\"Nodes\":[{\"HostName\":\"h\"}]}}}",
	         0);
	parse(text);
	assert_string_equal(map.regions[0].code, "a?[2Jb??c");
	assert_int_equal(strlen(map.regions[0].name), 62); /* not half a character */
}

/* ---- refused ---- */

static void refused(const char *text, const char *expected)
{
	derp_map_done(&map);
	assert_int_equal(derp_map_parse(str_of(text), &map, words), ERR_INVALID);
	if (!strstr(words, expected))
		fail_msg("\"%s\" is not in \"%s\"", expected, words);
	assert_int_equal(map.n_regions, 0);
	assert_null(map.regions);
}

#define NODE(members) "{\"Regions\":{\"900\":{\"Nodes\":[{\"HostName\":\"h\"},{" members "}]}}}"

static void what_is_no_map_is_refused_in_words(void **state)
{
	(void)state;
	refused("", "not JSON (line 1)");
	refused("{\n\"Regions\":\n", "not JSON (line 3)");
	refused("[]", "not a JSON object");
	refused("null", "not a JSON object");
	refused("{}", "no Regions");
	refused("{\"Regions\":{}}", "no Regions");
	refused("{\"Regions\":[]}", "Regions is not an object");
	refused("{\"Regions\":{\"1\":null}}", "null");
	refused("{\"Regions\":{\"1\":{}}}", "no region has a node for DERP");
	refused("{\"Regions\":{\"1\":{\"Nodes\":[{\"HostName\":\"h\",\"STUNOnly\":true}]}}}",
	        "no region has a node for DERP");
	refused("<html>", "not JSON");
}

static void a_bad_region_is_named(void **state)
{
	(void)state;
	refused("{\"Regions\":{\"x\":{\"Nodes\":[]}}}", "region \"x\"");
	refused("{\"Regions\":{\"0\":{}}}", "from 1 on");
	refused("{\"Regions\":{\"9007199254740992\":{}}}", "2^53");
	refused("{\"Regions\":{\"-1\":{}}}", "from 1 on");
	refused("{\"Regions\":{\"1\":{\"RegionID\":2}}}", "RegionID says 2");
	refused("{\"Regions\":{\"1\":{\"RegionID\":\"1\"}}}", "RegionID is not a whole number");
	refused("{\"Regions\":{\"1\":{\"Nodes\":{}}}}", "Nodes is not a list");
	refused("{\"Regions\":{\"1\":{\"Avoid\":1}}}", "Avoid is not true or false");
	refused("{\"Regions\":{\"1\":7}}", "not an object");
	refused("{\"HomeParams\":{\"RegionScore\":{\"1\":\"x\"}},\"Regions\":{\"1\":{\"Nodes\":"
	        "[{\"HostName\":\"h\"}]}}}",
	        "RegionScore");
}

static void a_bad_node_is_named(void **state)
{
	(void)state;
	refused(NODE(""), "node 2 of region \"900\": HostName is missing");
	refused(NODE("\"HostName\":\"a b\""), "HostName");
	refused(NODE("\"HostName\":\"a:443\""), "HostName");
	refused(NODE("\"HostName\":\"https://a\""), "HostName");
	refused(NODE("\"HostName\":\"a\\u0000b\""), "HostName");
	refused(NODE("\"HostName\":\"h\",\"DERPPort\":65536"), "65535");
	refused(NODE("\"HostName\":\"h\",\"DERPPort\":-1"), "DERPPort");
	refused(NODE("\"HostName\":\"h\",\"STUNPort\":70000"), "STUNPort");
	refused(NODE("\"HostName\":\"h\",\"STUNPort\":1.5"), "STUNPort is not a whole number");
	refused(NODE("\"HostName\":\"h\",\"STUNTestIP\":\"x\""), "STUNTestIP");
	refused(NODE("\"HostName\":\"h\",\"CertName\":\"sha256-raw:0011\""), "64 lower-case");
	refused(NODE("\"HostName\":\"h\",\"CertName\":\"sha256-raw:" HEX64 "00\""),
	        "64 lower-case");
	refused(NODE("\"HostName\":\"h\",\"CertName\":\"a/b\""), "CertName");
}

static void unverified_tls_is_refused_with_the_way_out(void **state)
{
	(void)state;
	refused(NODE("\"HostName\":\"h\",\"InsecureForTests\":true"), "InsecureForTests");
	assert_non_null(strstr(words, "sha256-raw:"));
	parse(NODE("\"HostName\":\"h\",\"InsecureForTests\":false"));
}

static void more_than_anybody_has_is_refused(void **state)
{
	static char text[DERP_MAP_BYTES + 100];
	size_t n = (size_t)snprintf(text, sizeof text, "{\"Regions\":{\"1\":{\"Nodes\":[");

	(void)state;
	for (unsigned i = 0; i <= DERP_MAP_NODES; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "%s{\"HostName\":\"h\"}",
		                      i ? "," : "");
	snprintf(text + n, sizeof text - n, "]}}}");
	refused(text, "more than 32 nodes");
	n = (size_t)snprintf(text, sizeof text, "{\"Regions\":{");
	for (unsigned i = 0; i <= DERP_MAP_REGIONS; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "%s\"%u\":{}", i ? "," : "",
		                      i + 1);
	snprintf(text + n, sizeof text - n, "}}");
	refused(text, "more than 512 regions");
	memset(text, ' ', sizeof text - 1);
	text[sizeof text - 1] = 0;
	refused(text, "1 MiB");
}

/* ---- files ---- */

static void a_file_is_read(void **state)
{
	(void)state;
	derp_map_done(&map);
	assert_int_equal(derp_map_read(file_with("map.json", usual), &map, words), 0);
	assert_int_equal(map.n_regions, 2);
	derp_map_done(&map);
	assert_int_equal(derp_map_read(file_path("none.json"), &map, words), ERR_INVALID);
	assert_non_null(strstr(words, "No such file"));
	assert_int_equal(derp_map_read("/", &map, words), ERR_INVALID);
	assert_true(strlen(words) > 5);
	assert_int_equal(derp_map_read("/dev/zero", &map, words), ERR_INVALID);
	assert_non_null(strstr(words, "1 MiB"));
}

#define T(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(regions_come_in_order_of_their_ids),
		T(a_node_has_what_the_map_says_and_else_the_usual),
		T(a_pinned_certificate_and_a_family_switched_off_are_read),
		T(an_address_of_the_other_family_switches_a_family_off),
		T(members_are_decoded_as_go_does),
		T(a_region_is_found_by_id_or_code),
		T(names_lose_what_a_terminal_would_obey),
		T(what_is_no_map_is_refused_in_words),
		T(a_bad_region_is_named),
		T(a_bad_node_is_named),
		T(unverified_tls_is_refused_with_the_way_out),
		T(more_than_anybody_has_is_refused),
		T(a_file_is_read),
	};
	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
