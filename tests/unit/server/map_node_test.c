#include "tests/unit/said.h"

#include <string.h>

#include "common/base/json.h"
#include "common/net/tls.h"
#include "server/map_node.h"

static void assert_printed(const struct map_node *node, const char *wanted)
{
	char text[MAP_NODE_LEN];

	assert_int_equal(map_node_print(node, text), 0);
	assert_string_equal(text, wanted);
}

static void the_usual_ports_are_left_out(void **state)
{
	(void)state;
	assert_printed(&(struct map_node){ .host = "relay.example.org", .port = 443 },
	               "{\"Name\":\"900a\",\"RegionID\":900,\"HostName\":\"relay.example.org\"}");
	assert_printed(&(struct map_node){ .host = "::1", .port = 443, .stun_port = 3478 },
	               "{\"Name\":\"900a\",\"RegionID\":900,\"HostName\":\"::1\"}");
}

static void other_ports_and_no_stun_are_told(void **state)
{
	(void)state;
	assert_printed(&(struct map_node){ .host = "192.0.2.1", .port = 8443, .stun_port = 3479 },
	               "{\"Name\":\"900a\",\"RegionID\":900,\"HostName\":\"192.0.2.1\",\"DERPPort\":8443,"
	               "\"STUNPort\":3479}");
	assert_printed(&(struct map_node){ .host = "a", .port = 443, .stun_port = -1 },
	               "{\"Name\":\"900a\",\"RegionID\":900,\"HostName\":\"a\",\"STUNPort\":-1}");
}

static void a_certificate_of_our_own_is_named_by_its_hash(void **state)
{
	uint8_t pin[TLS_PIN_LEN];

	(void)state;
	memset(pin, 0xab, sizeof pin);
	assert_printed(&(struct map_node){ .host = "a", .port = 443, .raw_pin = pin },
	               "{\"Name\":\"900a\",\"RegionID\":900,\"HostName\":\"a\",\"CertName\":\"sha256-raw:"
	               "abababababababababababababababababababababababababababababababab\"}");
}

static void the_longest_name_has_room(void **state)
{
	char host[254] = "";
	const struct map_node node = { .host = host,
		                       .port = 65535,
		                       .stun_port = 65535,
		                       .raw_pin = (const uint8_t[TLS_PIN_LEN]){ 0 } };
	char text[MAP_NODE_LEN];

	(void)state;
	memset(host, 'a', sizeof host - 1);
	assert_int_equal(map_node_print(&node, text), 0);
	assert_non_null(strstr(text, host));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_usual_ports_are_left_out),
		cmocka_unit_test(other_ports_and_no_stun_are_told),
		cmocka_unit_test(a_certificate_of_our_own_is_named_by_its_hash),
		cmocka_unit_test(the_longest_name_has_room),
	};

	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
