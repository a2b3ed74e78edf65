/* tunn status: what an admin listener answers as values, rates, lines. */
#include "tests/unit/said.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/json.h"
#include "server/admin/status.h"
#include "server/admin/status_view.h"

#define NODES                                                                                      \
	"{\"nodes\":[{\"name\":\"blue\",\"version\":\"1.2.3\",\"state\":\"ready\",\"uptime_s\":"   \
	"90061,\"listening\":[\"[::]:443\",\"1.2.3.4:443\"],\"workers\":[{\"answers\":true},{"     \
	"\"answers\":false}]}]}"
#define SERIES                                                                                     \
	"{\"bytes_in\":[100,1250000],\"bytes_out\":[0,2500000],\"packets_in\":[1,1000],"           \
	"\"packets_out\":[1,2000],\"tunnels\":[5,3],\"queue_delay_us_p50\":[1500,null],"           \
	"\"queue_delay_us_p99\":[null,25000],\"rtt_us_p50\":[null,null],\"rtt_us_p99\":[null,"     \
	"null],\"drops\":{\"no_route\":[0,3],\"stale\":[0,0],\"over_limit\":[7,0]}}"
#define TUNNEL(account, id, in, out)                                                               \
	"{\"account\":\"" account "\",\"id\":\"" id "\",\"address\":\"192.0.2.7:4\","              \
	"\"transport\":\"grpc\",\"role\":\"listen\",\"worker\":0,\"since_unix_s\":1000,"           \
	"\"rtt_us\":null,\"in\":{\"packets\":1,\"bytes\":" #in "},\"out\":{\"packets\":1,"         \
	"\"bytes\":" #out "},\"queue\":{\"packets\":0,\"bytes\":7},\"drops\":{\"no_route\":2,"     \
	"\"stale\":3},\"n_peers\":1,\"peers\":[{\"key\":\"3f2a91bc.\",\"state\":\"up\","           \
	"\"account\":null,\"id\":null}]}"
#define TUNNELS(list) "{\"tunnels\":[" list "],\"next\":null,\"unanswered\":[]}"

static struct status *status_of(const char *nodes, const char *series, const char *tunnels,
                                uint64_t now_ms)
{
	struct status *s = NULL;

	assert_int_equal(status_new(str_of(nodes), str_of(series), str_of(tunnels), now_ms, &s), 0);
	assert_non_null(s);
	return s;
}

static char *text_of(const struct status *s, struct status_style style)
{
	struct buf out = { 0 };

	assert_int_equal(status_view(s, &style, &out), 0);
	assert_int_equal(buf_add(&out, "", 1), 0);
	char *text = strdup((const char *)buf_data(&out));
	buf_done(&out);
	assert_non_null(text);
	return text;
}

static void assert_says(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("\"%s\" is not in:\n%s", what, text);
}

static void answers_become_values(void **state)
{
	struct status *s = status_of(NODES, SERIES,
	                             TUNNELS(TUNNEL("b", "x", 5, 6) "," TUNNEL("a", "y", 7, 8)), 1);

	(void)state;
	assert_string_equal(s->node, "blue");
	assert_string_equal(s->listening, "[::]:443");
	assert_int_equal(s->n_workers, 2);
	assert_int_equal(s->n_silent, 1);
	assert_int_equal(status_last(&s->bytes_in), 1250000);
	assert_int_equal(status_last(&s->rtt_p50), -1);
	assert_int_equal(status_peak(&s->open), 5);
	assert_int_equal(s->n_drops, 2); /* those that there are */
	assert_int_equal(s->n_tunnels, 2);
	assert_string_equal(s->tunnels[0].account, "a");
	assert_int_equal(s->tunnels[0].drops, 5);
	assert_int_equal(s->tunnels[0].rtt_us, -1);
	assert_string_equal(s->tunnels[0].peer, "3f2a91bc.");
	assert_false(s->more);
	status_free(s);
}

static void what_is_no_answer_of_a_relay_is_refused(void **state)
{
	static const char *const bad[][3] = {
		{ "{}", SERIES, TUNNELS("") },
		{ "{\"nodes\":[]}", SERIES, TUNNELS("") },
		{ "[]", SERIES, TUNNELS("") },
		{ NODES, "{}", TUNNELS("") },
		{ NODES, SERIES, "{}" },
		{ NODES, SERIES, "" },
		{ NODES, "{\"bytes_in\":", TUNNELS("") },
	};
	struct status *s = NULL;

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(status_new(str_of(bad[i][0]), str_of(bad[i][1]), str_of(bad[i][2]),
		                            1, &s),
		                 ERR_INVALID);
	assert_null(s);
}

static void a_terminal_obeys_nothing_that_a_relay_says(void **state)
{
	struct status *s = status_of(
	                "{\"nodes\":[{\"name\":\"n\\u001b[2J\",\"version\":\"\\u009b2J\"}]}",
	                "{\"bytes_in\":[1],\"drops\":{\"no\\u001b[2J\":[9],\"\\u009b3J\":[8]}}",
	                TUNNELS(TUNNEL("a\\u001b]0;x\\u0007", "y\\u007f", 1, 1)), 1);
	char *text = text_of(s, (struct status_style){ .columns = 200, .rows = 50 });

	(void)state;
	for (const char *p = text; *p; p++)
		if ((*p < ' ' && *p != '\n') || *p == 0x7f)
			fail_msg("byte %#x in:\n%s", (unsigned char)*p, text);
	assert_says(text, "no?[2J");
	free(text);
	status_free(s);
}

static void hostile_values_stay_in_bounds(void **state)
{
	static const char nodes[] =
	                "{\"nodes\":[{\"name\":\"\\u001b[31mred\",\"state\":7,\"version\":\"v\\n\","
	                "\"uptime_s\":-5,\"workers\":{},\"listening\":[9]}]}";
	static const char series[] =
	                "{\"bytes_in\":[-1,9223372036854775807,\"x\"],\"drops\":{\"a\":[-3],\"b\":4}}";
	static const char tunnels[] =
	                "{\"tunnels\":[7,{\"id\":\"\\u00e4\\u001b]0;\",\"in\":3,\"peers\":\"no\",\"drops\":[1]}],"
	                "\"next\":\"0.1\"}";
	struct status *s = status_of(nodes, series, tunnels, 1);
	char *text = text_of(s, (struct status_style){ .columns = 80 });

	(void)state;
	assert_null(strchr(text, '\033'));
	assert_says(text, "?[31mred");
	assert_true(s->more);
	assert_int_equal(s->n_tunnels, 2);
	free(text);
	status_free(s);
}

static void rates_are_between_two_and_start_anew_when_an_end_is_back(void **state)
{
	struct status *a = status_of(
	                NODES, SERIES,
	                TUNNELS(TUNNEL("a", "x", 1000, 1000) "," TUNNEL("a", "y", 9000, 1)), 1000);
	struct status *b = status_of(NODES, SERIES,
	                             TUNNELS(TUNNEL("a", "x", 3000, 1500) "," TUNNEL(
	                                             "a", "y", 5, 2) "," TUNNEL("a", "z", 5, 2)),
	                             3000);

	(void)state;
	status_compare(b, a);
	assert_int_equal(b->tunnels[0].rate_in, 1000);
	assert_int_equal(b->tunnels[0].rate_out, 250);
	assert_int_equal(b->tunnels[1].rate_in, -1); /* another one of that name */
	assert_int_equal(b->tunnels[2].rate_in, -1);
	status_compare(b, b); /* no time between them */
	status_free(a);
	status_free(b);
}

static void lines_say_it_for_people(void **state)
{
	struct status *s = status_of(NODES, SERIES, TUNNELS(TUNNEL("a", "x", 1500, 2500)), 1);
	char *text = text_of(s, (struct status_style){ .columns = 120, .now_unix_s = 1090 });

	(void)state;
	assert_says(text,
	            "blue  ready  up 1 d 1 h, version 1.2.3, 2 workers (1 not answering), [::]:443\n");
	assert_says(text, "In            10.0 Mbit/s   1.00 kpkt/s  peak 10.0 Mbit/s\n");
	assert_says(text, "Tunnels     3, peak 5\n");
	assert_says(text, "Dropped     3/s, 10 in the last minute: no route 3, over limit 7\n");
	assert_says(text, "Queue delay median 1.50 ms, 99 % 25.0 ms\n");
	assert_says(text, "Round trip  nothing was measured in the last minute\n");
	assert_says(text, "1 min 30 s\n");
	assert_null(strchr(text, '\033'));
	for (const char *p = text; *p; p++)
		assert_true(*p == '\n' || (*p >= ' ' && *p <= '~'));
	free(text);
	status_free(s);
}

static void tables_fit_any_width_and_height(void **state)
{
	struct status *s = status_of(
	                NODES, SERIES,
	                TUNNELS(TUNNEL("northwind-and-sons",
	                               "a-rather-long-name-of-a-tunnel-in-the-cellar", 1234567,
	                               99) "," TUNNEL("a", "b", 0, 0) "," TUNNEL("a", "c", 0, 0)),
	                1);

	(void)state;
	for (unsigned columns = 30; columns < 200; columns++) {
		char *text = text_of(s, (struct status_style){ .columns = columns });
		char *line = strstr(text, "TUNNEL");
		assert_non_null(line);
		for (char *next; *line; line = next) {
			size_t len = strcspn(line, "\n");
			if (len > columns)
				fail_msg("%u columns: %.*s", columns, (int)len, line);
			next = line + len + (line[len] == '\n');
		}
		free(text);
	}
	for (unsigned rows = 1; rows < 20; rows++) {
		char *text = text_of(s, (struct status_style){ .columns = 80, .rows = rows });
		unsigned n = 0;
		for (const char *p = text; *p; p++)
			n += *p == '\n';
		assert_true(rows < 13 ? n <= 13 : n <= rows); /* above the table there are ten */
		free(text);
	}
	status_free(s);
}

static void the_busiest_are_first_when_it_is_watched(void **state)
{
	struct status *a = status_of(
	                NODES, SERIES,
	                TUNNELS(TUNNEL("a", "idle", 0, 0) "," TUNNEL("a", "busy", 0, 0)), 1);
	struct status *b = status_of(
	                NODES, SERIES,
	                TUNNELS(TUNNEL("a", "idle", 0, 0) "," TUNNEL("a", "busy", 125000, 0)),
	                1001);

	(void)state;
	status_compare(b, a);
	char *text = text_of(b, (struct status_style){ .columns = 100, .rates = true });
	assert_true(strstr(text, "busy") < strstr(text, "idle"));
	assert_says(text, "1.00 Mbit/s");
	free(text);
	status_free(a);
	status_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_become_values),
		cmocka_unit_test(what_is_no_answer_of_a_relay_is_refused),
		cmocka_unit_test(a_terminal_obeys_nothing_that_a_relay_says),
		cmocka_unit_test(hostile_values_stay_in_bounds),
		cmocka_unit_test(rates_are_between_two_and_start_anew_when_an_end_is_back),
		cmocka_unit_test(lines_say_it_for_people),
		cmocka_unit_test(tables_fit_any_width_and_height),
		cmocka_unit_test(the_busiest_are_first_when_it_is_watched),
	};

	json_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
