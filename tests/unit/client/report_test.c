#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "client/report.h"
#include "client/retry.h"

static const char *const one_peer[] = { "home-wg" };
static const char *const two_peers[] = { "home-wg", "other/office" };

static struct report *report;
static FILE *out, *err;
static char *out_text, *err_text_;
static size_t out_len, err_len;

static uint64_t now_ms;
static uint64_t time_of_test(void *arg) { return (void)arg, now_ms; }

static void begin(const char *const *peers, unsigned n)
{
	out = open_memstream(&out_text, &out_len);
	err = open_memstream(&err_text_, &err_len);
	assert_true(out && err);
	struct report_conf conf = { out, err, 51820, n, peers, time_of_test, NULL };

	now_ms = 0;
	report = report_new(&conf);
	assert_non_null(report);
}

static int end(void **state)
{
	(void)state;
	report_free(report);
	report = NULL;
	if (out) {
		fclose(out);
		fclose(err);
		free(out_text);
		free(err_text_);
		out = err = NULL;
	}
	return 0;
}

static const struct addr *where(void *arg, unsigned peer)
{
	static struct addr a;
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(51820) };

	(void)arg;
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK + peer);
	memcpy(&a.ss, &sin, sizeof sin);
	a.len = sizeof sin;
	return &a;
}

static const struct transport_ops grpc_ops = { .name = "grpc" };
static const struct way grpc_way = { .ops = &grpc_ops, .relay = "relay.example" };
static const struct transport_ops derp_ops = { .name = "derp" };
static const struct way derp_way = { .ops = &derp_ops, .relay = "relay.example" };

static void start(enum role role, bool chosen)
{
	struct report_port port = { .role = role, .chosen = chosen, .where = where };

	report_port(report, &port);
	report_relay(report, &grpc_way, "auto");
	report_ready(report, 1, STR("intern-wg"), STR("me"), STR("n1"));
}

static void tell(unsigned peer, enum peer_state state, enum role role)
{
	struct peer_status s = { .state = state, .role = role };

	report_peer(report, peer, &s);
}

static unsigned n_lines(void)
{
	unsigned n = 0;

	for (const char *c = out_text; *c; c++)
		n += *c == '\n';
	return n;
}

static bool said(const char *words) { return strstr(out_text, words) != NULL; }

static void start_is_at_most_five_lines_with_what_is_needed(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_LISTEN, true);
	tell(0, PEER_ABSENT, ROLE_UNKNOWN);
	tell(0, PEER_UP, ROLE_FORWARD);
	assert_true(n_lines() <= 5);
	assert_true(said("Endpoint = 127.0.0.1:51820"));
	assert_true(said("relay relay.example over grpc (auto)"));
	assert_true(said("--peer intern-wg"));
	assert_true(said("tunn relay 51820 --id home-wg --peer intern-wg"));
	assert_true(said("home-wg is up; next:"));
	for (char *line = out_text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		assert_true(!*line || strncmp(line, "tunn: ", 6) == 0);
}

static void the_forwarding_role_is_explained(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_FORWARD, true);
	assert_true(said("port 51820 is in use here"));
	assert_true(said("ListenPort = 51820"));
}

static void each_peer_has_its_address_named(void **state)
{
	(void)state;
	begin(two_peers, 2);
	start(ROLE_LISTEN, false);
	assert_true(said("127.0.0.1:51820 for home-wg, 127.0.0.2:51820 for other/office"));
}

static void an_unchanged_state_is_no_line(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_LISTEN, true);
	tell(0, PEER_UP, ROLE_FORWARD);
	unsigned n = n_lines();
	tell(0, PEER_UP, ROLE_FORWARD);
	assert_int_equal(n_lines(), n);
	tell(0, PEER_GONE, ROLE_UNKNOWN);
	tell(0, PEER_ABSENT, ROLE_UNKNOWN);
	assert_int_equal(n_lines(), n + 1);
	tell(0, PEER_UP, ROLE_FORWARD);
	assert_int_equal(n_lines(), n + 2);
}

static void the_other_side_of_another_account_is_told_ours(void **state)
{
	(void)state;
	begin(two_peers, 2);
	start(ROLE_LISTEN, true);
	tell(1, PEER_ABSENT, ROLE_UNKNOWN);
	assert_true(said("or has not declared us"));
	assert_true(said("tunn relay 51820 --id office --peer me/intern-wg"));
	assert_true(said("the other side needs --peer me/intern-wg"));
	tell(0, PEER_NOT_MUTUAL, ROLE_UNKNOWN);
	assert_true(said(
	                "home-wg is there but has not declared us; it must run: tunn relay 51820 --id "
	                "home-wg --peer intern-wg"));
}

static void the_same_role_on_both_ends_is_told_once(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_LISTEN, true);
	tell(0, PEER_UP, ROLE_LISTEN);
	assert_true(said("--forward"));
	unsigned n = n_lines();
	tell(0, PEER_UP, ROLE_LISTEN);
	assert_int_equal(n_lines(), n);
	end(state);

	begin(one_peer, 1);
	start(ROLE_FORWARD, true);
	tell(0, PEER_UP, ROLE_FORWARD);
	assert_true(said("remove ListenPort"));
}

static void many_peers_are_summed_up_at_start(void **state)
{
	static const char *const many[] = { "a", "b", "c", "d", "e" };

	(void)state;
	begin(many, 5);
	start(ROLE_LISTEN, true);
	unsigned n = n_lines();
	for (unsigned i = 0; i < 4; i++)
		tell(i, i < 2 ? PEER_UP : PEER_ABSENT, ROLE_FORWARD);
	tell(4, PEER_NOT_MUTUAL, ROLE_UNKNOWN);
	assert_int_equal(n_lines(), n + 1);
	assert_true(said("2 of 5 peers are up; 1 did not declare us, e is one"));
	assert_true(n_lines() <= 5);
	tell(4, PEER_UP, ROLE_FORWARD);
	assert_true(said("e is up"));
}

static void a_reason_is_told_when_it_changes_or_a_minute_passed(void **state)
{
	(void)state;
	begin(one_peer, 1);
	report_lost(report, CLOSE_NETWORK, "connection refused", 1600, 1000);
	assert_int_equal(n_lines(), 1);
	assert_true(said("reconnecting in 1.6 s because: the network failed: connection refused"));
	for (uint64_t t = 2000; t < 1000 + REPORT_AGAIN_MS; t += 1000)
		report_lost(report, CLOSE_NETWORK, "connection refused", 10000, t);
	assert_int_equal(n_lines(), 1);
	report_lost(report, CLOSE_NETWORK, "connection refused", 10000, 1000 + REPORT_AGAIN_MS);
	assert_int_equal(n_lines(), 2);
	report_lost(report, CLOSE_TLS, "expired", 10000, 62000);
	assert_int_equal(n_lines(), 3);
	report_ready(report, 2, STR("x"), STR("me"), STR("n1"));
	assert_true(said("connected again\n"));
	report_lost(report, CLOSE_TLS, "expired", 200, 63000);
	assert_int_equal(n_lines(), 5);
}

static void a_rate_that_is_crossed_often_is_told_once(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_LISTEN, true);
	tell(0, PEER_UP, ROLE_FORWARD);
	unsigned n = n_lines();
	for (int i = 0; i < 5; i++) {
		tell(0, PEER_OVER_LIMIT, ROLE_UNKNOWN);
		tell(0, PEER_UP, ROLE_FORWARD);
	}
	assert_int_equal(n_lines(), n + 1);
	tell(0, PEER_GONE, ROLE_UNKNOWN);
	tell(0, PEER_UP, ROLE_FORWARD);
	tell(0, PEER_OVER_LIMIT, ROLE_UNKNOWN);
	assert_int_equal(n_lines(), n + 4);
}

static void another_relay_node_is_named(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_LISTEN, true);
	report_ready(report, 2, STR("intern-wg"), STR("me"), STR("n2"));
	assert_true(said("now to the relay node n2"));
}

static void text_from_outside_cannot_steer_the_terminal(void **state)
{
	(void)state;
	begin(one_peer, 1);
	report_lost(report, CLOSE_UNAVAILABLE, "x\033[2J\ny\x9b\r", 1000, 0);
	assert_int_equal(n_lines(), 1);
	assert_null(strpbrk(out_text, "\033\r\x9b"));
}

static void what_a_relay_says_as_we_do_is_said_once(void **state)
{
	(void)state;
	begin(one_peer, 1);
	report_over(report, EXIT_REFUSED, CLOSE_UNAUTHENTICATED, "the token is not valid here");
	assert_string_equal(
	                err_text_,
	                "tunn: ended: the token is not valid here (tunn login gets one, or tunn "
	                "token new on the relay; give it with --token-file or TUNN_TOKEN)\n");
}

static void a_refusal_goes_to_standard_error_with_a_way_out(void **state)
{
	(void)state;
	begin(one_peer, 1);
	report_over(report, EXIT_REFUSED, CLOSE_UNAUTHENTICATED, "");
	assert_non_null(strstr(err_text_, "the token is not valid here"));
	assert_non_null(strstr(err_text_, "--token-file"));
	fflush(out);
	assert_int_equal(out_len, 0);
	report_over(report, EXIT_UNREACHABLE, CLOSE_NETWORK, "no route");
	assert_non_null(strstr(err_text_, "cannot reach the relay"));
}

static void quota_tells_until_when(void **state)
{
	struct notice n = { .kind = NOTICE_QUOTA, .percent = 80, .resets_unix_s = 1769904000 };

	(void)state;
	begin(one_peer, 1);
	report_notice(report, &n);
	report_notice(report, &n);
	assert_int_equal(n_lines(), 1);
	report_lost(report, CLOSE_QUOTA, "", 3600000, 0);
	assert_true(said("the next begins on 2026-02-01 00:00 UTC"));
	assert_true(said("in 60 min"));
}

static void a_native_ends_whole_key_is_told_for_the_other_side(void **state)
{
	static const char key[] =
	                "nodekey:640428b8a493fa147ebf8bd96dc73904b817580c15d254bfcecb68900000000a";

	(void)state;
	begin(one_peer, 1);
	report_ready(report, 1, str_of(key), STR(""), STR(""));
	char *at = strstr(out_text, key);
	assert_non_null(at);
	assert_non_null(strstr(at + 1, key)); /* behind --peer */
}

static void D20_what_a_relay_says_of_its_health_is_told(void **state)
{
	struct notice n = { .kind = NOTICE_HEALTH, .text = STR("too\033 hot") };
	char *text = malloc(4000);

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 4000);
	begin(one_peer, 1);
	report_notice(report, &n);
	assert_true(said("not well: too? hot\n"));
	n.text = (struct str){ text, 4000 }; /* without an end */
	report_notice(report, &n);
	n.text = STR("");
	report_notice(report, &n);
	assert_true(said("well again"));
	assert_int_equal(n_lines(), 3);
	assert_true(strlen(out_text) < 1300);
	free(text);
}

static void the_held_device_comes_with_the_line_to_add(void **state)
{
	(void)state;
	begin(one_peer, 1);
	report_held(report, "eth0", "wg0");
	assert_true(said("--bind-device eth0"));
	assert_true(said("FwMark"));
}

static void lines_that_the_relay_causes_are_bounded(void **state)
{
	struct peer_status up = { .state = PEER_UP }, gone = { .state = PEER_GONE };
	struct notice quota = { .kind = NOTICE_QUOTA };

	(void)state;
	begin(one_peer, 1);
	for (unsigned i = 0; i < 10000; i++) {
		quota.percent = i;
		report_peer(report, 0, i % 2 ? &up : &gone);
		report_notice(report, &quota);
		report_ready(report, 2 + i, STR("intern-wg"), STR("me"), STR("n2"));
	}
	assert_in_range(n_lines(), 10, 130);
	now_ms = 10000;
	report_lost(report, CLOSE_RESET, "", 200, now_ms);
	assert_true(said("lines were left out"));
	assert_true(said("the connection was reset"));
	report_over(report, EXIT_REFUSED, CLOSE_DENIED, "");
	assert_non_null(strstr(err_text_, "ended:"));
}

static void a_token_that_comes_back_is_not_shown(void **state)
{
	(void)state;
	begin(one_peer, 1);
	report_lost(report, CLOSE_NOT_GRPC, "you said tunn_abcdefgh_SECRET0123456789", 200, 0);
	assert_true(said("you said tunn_abcdefgh_***"));
	assert_false(said("SECRET"));
}

static void a_way_that_does_not_lead_there_is_said_with_the_reason(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_LISTEN, true);
	report_turned(report, &grpc_way, CLOSE_NOT_GRPC, "HTTP/2 was not agreed", 1);
	assert_true(said("relay.example over grpc does not work, trying the next way: "));
	assert_true(said("HTTP/2 was not agreed"));
	unsigned n = n_lines();
	report_turned(report, &grpc_way, CLOSE_NOT_GRPC, "HTTP/2 was not agreed", 2);
	assert_int_equal(n_lines(), n);
}

static void the_way_that_led_there_is_said_when_it_is_another(void **state)
{
	(void)state;
	begin(one_peer, 1);
	start(ROLE_LISTEN, true);
	unsigned n = n_lines();
	report_way(report, &grpc_way);
	assert_int_equal(n_lines(), n);
	report_way(report, &derp_way);
	assert_true(said("relay relay.example over derp from now on"));
	report_way(report, &derp_way);
	assert_int_equal(n_lines(), n + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(the_way_that_led_there_is_said_when_it_is_another, end),
		cmocka_unit_test_teardown(start_is_at_most_five_lines_with_what_is_needed, end),
		cmocka_unit_test_teardown(the_forwarding_role_is_explained, end),
		cmocka_unit_test_teardown(each_peer_has_its_address_named, end),
		cmocka_unit_test_teardown(an_unchanged_state_is_no_line, end),
		cmocka_unit_test_teardown(the_other_side_of_another_account_is_told_ours, end),
		cmocka_unit_test_teardown(the_same_role_on_both_ends_is_told_once, end),
		cmocka_unit_test_teardown(many_peers_are_summed_up_at_start, end),
		cmocka_unit_test_teardown(a_reason_is_told_when_it_changes_or_a_minute_passed, end),
		cmocka_unit_test_teardown(a_rate_that_is_crossed_often_is_told_once, end),
		cmocka_unit_test_teardown(another_relay_node_is_named, end),
		cmocka_unit_test_teardown(text_from_outside_cannot_steer_the_terminal, end),
		cmocka_unit_test_teardown(a_refusal_goes_to_standard_error_with_a_way_out, end),
		cmocka_unit_test_teardown(what_a_relay_says_as_we_do_is_said_once, end),
		cmocka_unit_test_teardown(quota_tells_until_when, end),
		cmocka_unit_test_teardown(a_native_ends_whole_key_is_told_for_the_other_side, end),
		cmocka_unit_test_teardown(D20_what_a_relay_says_of_its_health_is_told, end),
		cmocka_unit_test_teardown(the_held_device_comes_with_the_line_to_add, end),
		cmocka_unit_test_teardown(lines_that_the_relay_causes_are_bounded, end),
		cmocka_unit_test_teardown(a_token_that_comes_back_is_not_shown, end),
		cmocka_unit_test_teardown(a_way_that_does_not_lead_there_is_said_with_the_reason,
		                          end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
