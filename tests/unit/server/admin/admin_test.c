/* Pure parts of the admin listener: who may ask, queries, the exposition, series. */
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "server/admin/admin_guard.h"
#include "server/admin/admin_metrics.h"
#include "server/admin/admin_query.h"
#include "server/admin/admin_series.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

/* ---- who may ask ---- */

static const char *names[] = { "relay.test", "2001:db8::7" };
static const struct opt_list name_list = { names, 2 };

static struct admin_guard guard_of(bool with_token)
{
	struct admin_guard g = { .names = &name_list };

	if (with_token)
		admin_guard_set_token(&g, STR(TOKEN));
	return g;
}

static struct httpd_request request_to(const char *host)
{
	struct httpd_request r = { .method = STR("GET"), .path = STR("/"), .host = str_of(host) };

	addr_of_ip("127.0.0.1", 9180, &r.local);
	return r;
}

static enum admin_verdict judge(const struct httpd_request *r, bool with_token)
{
	struct admin_guard g = guard_of(with_token);

	return admin_guard_check(&g, r);
}

static void hosts_of_ours_pass_whatever_their_port(void **state)
{
	static const char *const good[] = { "127.0.0.1:9180",    "127.0.0.1",  "localhost:9180",
		                            "LocalHost",         "relay.test", "RELAY.test:8080",
		                            "[2001:db8::7]:9180" };

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		struct httpd_request r = request_to(good[i]);
		if (judge(&r, false) != ADMIN_PASS)
			fail_msg("refused: %s", good[i]);
	}
	struct httpd_request none = request_to(NULL); /* HTTP/1.0 */
	assert_int_equal(judge(&none, false), ADMIN_PASS);
}

static void hosts_of_others_are_misdirected(void **state)
{
	static const char *const bad[] = {
		"",          "evil.test",          "localhost.evil.test",
		"127.0.0.2", "relay.test.evil",    "127.0.0.1.evil.test:9180",
		"[::1",      "[2001:db8::8]:9180", "xlocalhost"
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct httpd_request r = request_to(bad[i]);
		if (judge(&r, false) != ADMIN_MISDIRECTED)
			fail_msg("passed: \"%s\"", bad[i]);
	}
}

static void pages_of_other_sites_may_not_ask(void **state)
{
	static const struct {
		const char *origin, *site;
		enum admin_verdict want;
	} cases[] = {
		{ NULL, NULL, ADMIN_PASS },
		{ "http://localhost:9180", "same-origin", ADMIN_PASS },
		{ "https://localhost:9180", NULL, ADMIN_PASS },
		{ NULL, "none", ADMIN_PASS },
		{ NULL, "cross-site", ADMIN_CROSS_SITE },
		{ NULL, "same-site", ADMIN_CROSS_SITE },
		{ NULL, "", ADMIN_CROSS_SITE },
		{ "null", NULL, ADMIN_CROSS_SITE },
		{ "", NULL, ADMIN_CROSS_SITE },
		{ "http://localhost:3000", NULL, ADMIN_CROSS_SITE },
		{ "http://evil.test", NULL, ADMIN_CROSS_SITE },
		{ "ftp://localhost:9180", NULL, ADMIN_CROSS_SITE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct httpd_request r = request_to("localhost:9180");
		r.origin = str_of(cases[i].origin);
		r.sec_fetch_site = str_of(cases[i].site);
		if (judge(&r, false) != cases[i].want)
			fail_msg("row %zu", i);
	}
}

static void a_token_is_the_whole_of_it_and_nothing_else(void **state)
{
	static const struct {
		const char *authorization;
		enum admin_verdict want;
	} cases[] = {
		{ "Bearer " TOKEN, ADMIN_PASS },
		{ "bearer " TOKEN, ADMIN_PASS },
		{ NULL, ADMIN_NO_TOKEN },
		{ "", ADMIN_NO_TOKEN },
		{ "Bearer ", ADMIN_NO_TOKEN },
		{ TOKEN, ADMIN_NO_TOKEN },
		{ "Basic " TOKEN, ADMIN_NO_TOKEN },
		{ "Bearer " TOKEN "0", ADMIN_NO_TOKEN },
		{ "Bearer  " TOKEN, ADMIN_NO_TOKEN },
		{ "Bearer 0123456789abcdef0123456789abcde", ADMIN_NO_TOKEN },
		{ "Bearer 0123456789abcdef0123456789abcdeF", ADMIN_NO_TOKEN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct httpd_request r = request_to("localhost");
		r.authorization = str_of(cases[i].authorization);
		if (judge(&r, true) != cases[i].want)
			fail_msg("row %zu", i);
	}
}

static void a_field_twice_is_a_bad_request(void **state)
{
	struct httpd_request r = request_to("localhost");

	(void)state;
	r.has_twice = true;
	assert_int_equal(judge(&r, false), ADMIN_BAD_REQUEST);
}

/* ---- queries ---- */

static struct query_value values[3];
static char error[QUERY_ERROR_LEN];

static int read_query(const char *text)
{
	values[0] = (struct query_value){ .name = "limit" };
	values[1] = (struct query_value){ .name = "q" };
	values[2] = (struct query_value){ .name = NULL };
	return query_read(str_of(text), values, error);
}

static void values_are_decoded(void **state)
{
	(void)state;
	assert_int_equal(read_query("q=a%2Fb+c%3d&limit=7"), 0);
	assert_string_equal(values[1].text, "a/b c=");
	assert_string_equal(values[0].text, "7");
	assert_int_equal(read_query(""), 0);
	assert_false(values[0].is_given);
	assert_int_equal(read_query("&q=&"), 0);
	assert_true(values[1].is_given);
	assert_int_equal(
	                read_query("q=0123456789012345678901234567890123456789012345678901234567890123"),
	                0);
}

static void what_is_wrong_is_said(void **state)
{
	static const char *const bad[][2] = {
		{ "nope=1", "knows only: limit, q" },
		{ "q=1&q=2", "q is given twice" },
		{ "q=%0a", "printable ASCII" },
		{ "q=%", "printable ASCII" },
		{ "q=%2", "printable ASCII" },
		{ "q=%zz", "printable ASCII" },
		{ "q=%c3%a4", "printable ASCII" },
		{ "q=01234567890123456789012345678901234567890123456789012345678901234",
		  "longer than 64" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (read_query(bad[i][0]) == 0 || !strstr(error, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], error);
	}
}

static void numbers_have_bounds(void **state)
{
	static const char *const bad[] = { "limit=",   "limit=0",  "limit=1001",
		                           "limit=-1", "limit=1x", "limit=99999999999999999999" };
	uint64_t n = 5;

	(void)state;
	assert_int_equal(read_query(""), 0);
	assert_int_equal(query_number(&values[0], 1, 1000, &n, error), 0);
	assert_int_equal(n, 5);
	assert_int_equal(read_query("limit=1000"), 0);
	assert_int_equal(query_number(&values[0], 1, 1000, &n, error), 0);
	assert_int_equal(n, 1000);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(read_query(bad[i]), 0);
		assert_true(query_number(&values[0], 1, 1000, &n, error) < 0);
		assert_string_equal(error, "limit must be 1 to 1000");
	}
}

/* ---- the exposition ---- */

static char *exposition(void)
{
	static const struct admin_worker_state workers[2] = { { 3, 2, true }, { 0, 0, false } };
	const struct admin_metrics m = { .workers = workers, .n_workers = 2, .ready = true };
	struct buf out = { 0 };

	assert_int_equal(admin_metrics_put(&m, &out), 0);
	assert_int_equal(buf_add(&out, "", 1), 0);
	char *text = strdup((const char *)buf_data(&out));
	buf_done(&out);
	assert_non_null(text);
	return text;
}

static void counters_and_gauges_are_told_apart(void **state)
{
	(void)state;
	metric_add(METRIC_CONNS_OPEN, -1); /* of another thread's more */
	metric_drop(DROP_STALE);
	char *text = exposition();
	assert_non_null(strstr(text, "# TYPE tunn_packets_in_total counter\n"));
	assert_non_null(strstr(text,
	                       "# TYPE tunn_connections_open gauge\ntunn_connections_open -1\n"));
	assert_non_null(strstr(text, "tunn_packets_dropped_total{reason=\"stale\"} 1\n"));
	assert_non_null(strstr(text, "tunn_worker_connections{worker=\"0\"} 3\n"));
	assert_non_null(strstr(text, "tunn_worker_answers{worker=\"1\"} 0\n"));
	assert_int_equal(text[strlen(text) - 1], '\n');
	free(text);
	metric_add(METRIC_CONNS_OPEN, 1);
}

/* ---- series ---- */

static int64_t newest(const struct json *doc, const char *name)
{
	const struct json *column = json_get(doc, name);
	int64_t n = -1;

	for (struct json_walk w = json_walk(column); json_next(&w);)
		assert_int_equal(json_as_int(w.value, &n), JSON_READ);
	return n;
}

static int64_t length(const struct json *doc)
{
	int64_t n = -1;

	assert_int_equal(json_as_int(json_get(doc, "length"), &n), JSON_READ);
	return n;
}

static void each_second_has_what_was_added_in_it(void **state)
{
	struct series s = { 0 };

	(void)state;
	metric_add(METRIC_BYTES_IN, 1000000);
	series_tick(&s, 100);
	assert_int_equal(s.n, 0); /* over which time? */
	metric_add(METRIC_BYTES_IN, 70);
	metric_drop(DROP_STALE);
	series_tick(&s, 101);
	struct json *doc = series_json(&s, 10);
	assert_int_equal(length(doc), 1);
	assert_int_equal(newest(doc, "bytes_in"), 70);
	assert_int_equal(newest(json_get(doc, "drops"), "stale"), 1);
	assert_int_equal(newest(json_get(doc, "drops"), "no_route"), 0);
	json_free(doc);
}

static void the_oldest_second_goes_after_ten_minutes(void **state)
{
	static struct series s;

	(void)state;
	series_tick(&s, 0);
	for (unsigned i = 1; i <= SERIES_SECONDS + 5; i++) {
		metric_add(METRIC_PKTS_IN, i);
		series_tick(&s, i);
	}
	struct json *doc = series_json(&s, SERIES_SECONDS);
	assert_int_equal(length(doc), SERIES_SECONDS);
	assert_int_equal(newest(doc, "packets_in"), SERIES_SECONDS + 5);
	struct json_walk w = json_walk(json_get(doc, "packets_in"));
	int64_t first;
	assert_true(json_next(&w));
	assert_int_equal(json_as_int(w.value, &first), JSON_READ);
	assert_int_equal(first, 6);
	json_free(doc);
	doc = series_json(&s, 2);
	assert_int_equal(length(doc), 2);
	assert_int_equal(newest(doc, "packets_in"), SERIES_SECONDS + 5);
	json_free(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_of_ours_pass_whatever_their_port),
		cmocka_unit_test(hosts_of_others_are_misdirected),
		cmocka_unit_test(pages_of_other_sites_may_not_ask),
		cmocka_unit_test(a_token_is_the_whole_of_it_and_nothing_else),
		cmocka_unit_test(a_field_twice_is_a_bad_request),
		cmocka_unit_test(values_are_decoded),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(numbers_have_bounds),
		cmocka_unit_test(counters_and_gauges_are_told_apart),
		cmocka_unit_test(each_second_has_what_was_added_in_it),
		cmocka_unit_test(the_oldest_second_goes_after_ten_minutes),
	};

	if (crypto_start() < 0)
		return 1;
	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
