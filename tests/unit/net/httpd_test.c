/* The HTTP server, asked over real sockets byte by byte. */
#include "tests/unit/net/tcp.h"
#include "tests/unit/until.h"

#include <errno.h>
#include <signal.h>

#include "common/base/crypto.h"
#include "common/net/conn.h"
#include "common/net/httpd.h"
#include "common/net/listener.h"

enum { CLIENTS = 80, ANSWER_MAX = 1 << 20 };

static struct httpd *httpd;
static struct addr bound;
static unsigned n_routed, n_answered, last_status;
static struct httpd_request *kept; /* the one that is answered later */
static bool keep, take_posts;
static char seen_method[16], seen_path[64], seen_query[64], seen_body[70000], seen_host[64],
                seen_auth[64];
static bool seen_twice;
static struct str body;

static int clients[CLIENTS];
static char got[ANSWER_MAX + 4096];
static size_t n_got, n_wanted;
static bool got_end;

static void copy(char *out, size_t cap, struct str s)
{
	snprintf(out, cap, "%.*s", (int)s.len, s.len ? s.p : "");
}

static void reply(struct httpd_request *r)
{
	const struct httpd_answer a = { .status = 200, .type = "text/plain", .body = body };

	httpd_answer(r, &a);
}

static void on_route(void *owner, struct httpd_request *r)
{
	(void)owner;
	n_routed++;
	copy(seen_method, sizeof seen_method, r->method);
	copy(seen_path, sizeof seen_path, r->path);
	copy(seen_query, sizeof seen_query, r->query);
	copy(seen_body, sizeof seen_body, r->body);
	copy(seen_host, sizeof seen_host, r->host);
	copy(seen_auth, sizeof seen_auth, r->authorization);
	seen_twice = r->has_twice;
	if (keep)
		kept = r;
	else
		reply(r);
}

static bool takes(void *owner, struct str method, struct str path)
{
	(void)owner, (void)path;
	return take_posts && str_eq(method, STR("POST"));
}

static void on_answered(void *owner, int status)
{
	(void)owner;
	n_answered++;
	last_status = (unsigned)status;
}

static int set_up(void **state)
{
	const struct httpd_conf conf = { .route = on_route,
		                         .takes = takes,
		                         .answered = on_answered };
	struct addr at;

	(void)state;
	loop_set_up();
	n_routed = n_answered = last_status = 0;
	keep = take_posts = got_end = false;
	kept = NULL;
	n_got = 0;
	body = STR("hello");
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i] = -1;
	assert_int_equal(httpd_new(loop, &conf, &httpd), 0);
	addr_of_ip("127.0.0.1", 0, &at);
	assert_int_equal(httpd_listen(httpd, listener_bind(&at, false), &bound), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i] >= 0)
			close(clients[i]);
	httpd_free(httpd);
	loop_tear_down();
	conn_thread_done();
	return 0;
}

static void call(unsigned i)
{
	clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(clients[i], (struct sockaddr *)&bound.ss, bound.len), 0);
	fcntl(clients[i], F_SETFL, O_NONBLOCK);
}

static void say_n(unsigned i, const char *text, size_t len)
{
	assert_int_equal(send(clients[i], text, len, MSG_NOSIGNAL), len);
}

static void say(unsigned i, const char *text) { say_n(i, text, strlen(text)); }

static void hear(unsigned i)
{
	ssize_t n = recv(clients[i], got + n_got, sizeof got - 1 - n_got, 0);

	got_end |= n == 0 || (n < 0 && errno != EAGAIN);
	n_got += n > 0 ? (size_t)n : 0;
	got[n_got] = 0;
}

/* The first client hears as many bytes, or the end. */
static bool has_heard(void)
{
	hear(0);
	return got_end || n_got >= n_wanted;
}

static bool has_ended(void)
{
	hear(0);
	return got_end;
}

/* A whole answer, measured by its own length. */
static bool has_answer(void)
{
	hear(0);
	const char *head_end = strstr(got, "\r\n\r\n"), *len = strstr(got, "Content-Length: ");
	return got_end || (head_end && len &&
	                   n_got >= (size_t)(head_end + 4 - got) + strtoul(len + 16, NULL, 10));
}

static void forget(void)
{
	n_got = 0;
	got[0] = 0;
}

static void ask(const char *text)
{
	forget();
	if (clients[0] < 0)
		call(0);
	say(0, text);
	until(has_answer);
}

static void assert_got(const char *words)
{
	if (!strstr(got, words))
		fail_msg("\"%s\" is not in:\n%.400s", words, got);
}

#define HOST "Host: a\r\n"

static bool one_routed(void) { return n_routed == 1; }

static void a_request_comes_whole_and_its_answer_is_measured(void **state)
{
	(void)state;
	ask("GET /a/b?c=d HTTP/1.1\r\nHost: localhost:1\r\nAuthorization: Bearer x\r\n\r\n");
	assert_string_equal(seen_method, "GET");
	assert_string_equal(seen_path, "/a/b");
	assert_string_equal(seen_query, "c=d");
	assert_string_equal(seen_host, "localhost:1");
	assert_string_equal(seen_auth, "Bearer x");
	assert_got("HTTP/1.1 200 OK\r\n");
	assert_got("Content-Type: text/plain\r\n");
	assert_got("Content-Length: 5\r\n");
	assert_got("\r\nDate: ");
	assert_got("\r\n\r\nhello");
	assert_int_equal(last_status, 200);
}

static void a_connection_is_kept_and_http_1_0_is_told_so(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		ask("GET / HTTP/1.1\r\n" HOST "\r\n");
	ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	assert_got("Connection: keep-alive");
	ask("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	assert_got("Connection: close");
	until(has_ended);
	assert_int_equal(n_routed, 5);
}

static void every_cut_of_a_request_gives_the_same(void **state)
{
	static const char text[] = "POST /p HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc";

	(void)state;
	take_posts = true;
	for (size_t cut = 1; cut < sizeof text - 1; cut++) {
		n_routed = 0;
		call(1);
		say_n(1, text, cut);
		for (unsigned turn = 0; turn < 3; turn++) { /* let it be seen alone */
			n_wanted = 0;
			n_got = 0;
			call(0);
			until(has_heard);
			close(clients[0]);
			clients[0] = -1;
		}
		assert_int_equal(n_routed, 0);
		say_n(1, text + cut, sizeof text - 1 - cut);
		until(one_routed);
		assert_string_equal(seen_body, "abc");
		close(clients[1]);
		clients[1] = -1;
	}
}

static void requests_sent_together_are_answered_in_order(void **state)
{
	(void)state;
	call(0);
	say(0, "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST
	       "\r\nGET /3 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	until(has_ended);
	assert_int_equal(n_routed, 3);
	assert_string_equal(seen_path, "/3");
}

static void head_is_measured_and_not_sent(void **state)
{
	(void)state;
	call(0);
	say(0, "HEAD / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	until(has_ended);
	assert_got("Content-Length: 5\r\n");
	assert_null(strstr(got, "hello"));
}

static void other_methods_are_refused_where_no_route_takes_them(void **state)
{
	(void)state;
	ask("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
	assert_got("HTTP/1.1 405 ");
	assert_got("Allow: GET, HEAD\r\n");
	until(has_ended);
	assert_int_equal(n_routed, 0);
	assert_int_equal(last_status, 405);
}

static void a_body_comes_whole_and_one_that_is_too_long_not_at_all(void **state)
{
	static char request[HTTPD_BODY_MAX + 200];

	(void)state;
	take_posts = true;
	int n = snprintf(request, sizeof request,
	                 "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", HTTPD_BODY_MAX);
	memset(request + n, 'x', HTTPD_BODY_MAX);
	call(0);
	say_n(0, request, (size_t)n + HTTPD_BODY_MAX);
	until(has_answer);
	assert_int_equal(n_routed, 1);
	assert_int_equal(strlen(seen_body), HTTPD_BODY_MAX);
	ask("POST / HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\n");
	assert_got("HTTP/1.1 413 ");
	until(has_ended);
	assert_int_equal(n_routed, 1);
}

static void chunks_are_refused(void **state)
{
	(void)state;
	take_posts = true;
	ask("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
	assert_got("HTTP/1.1 411 ");
	until(has_ended);
}

static void who_waits_with_the_body_is_told_to_go_on(void **state)
{
	(void)state;
	take_posts = true;
	call(0);
	say(0, "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	n_wanted = 25;
	until(has_heard);
	assert_string_equal(got, "HTTP/1.1 100 Continue\r\n\r\n");
	ask("ok");
	assert_string_equal(seen_body, "ok");
}

static void what_is_no_request_is_refused_and_the_connection_ends(void **state)
{
	static const char *const bad[][2] = {
		{ "\x16\x03\x01\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\r\n\r\n", "400" },
		{ "GET / HTTP/1.1\nHost: a\n\n", "400" },
		{ "GET / HTTP/1.1\r\n" HOST "Content-Length: 1, 2\r\n\r\n", "400" },
		{ "GET / HTTP/2.0\r\n" HOST "\r\n", "505" },
		{ "BREW / HTTP/1.1\r\n" HOST "\r\n", "405" },
	};
	char want[40];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		got_end = false;
		ask(bad[i][0]);
		until(has_ended);
		snprintf(want, sizeof want, "HTTP/1.1 %s ", bad[i][1]);
		assert_got(want);
		close(clients[0]);
		clients[0] = -1;
	}
	assert_int_equal(n_routed, 0);
}

static void a_head_longer_than_8_kib_is_refused(void **state)
{
	static char request[HTTPD_HEAD_MAX + 100];

	(void)state;
	int n = snprintf(request, sizeof request, "GET / HTTP/1.1\r\n" HOST "X: ");
	memset(request + n, 'x', HTTPD_HEAD_MAX);
	call(0);
	say_n(0, request, (size_t)n + HTTPD_HEAD_MAX);
	until(has_answer);
	assert_got("HTTP/1.1 431 ");
	until(has_ended);
}

static void a_field_that_is_there_twice_is_told(void **state)
{
	(void)state;
	ask("GET / HTTP/1.1\r\n" HOST "Authorization: a\r\nauthorization: b\r\n\r\n");
	assert_true(seen_twice);
	ask("GET / HTTP/1.1\r\n" HOST "Accept: a\r\nAccept: b\r\n\r\n");
	assert_false(seen_twice);
}

static void an_answer_may_come_later_and_what_follows_waits(void **state)
{
	(void)state;
	keep = true;
	call(0);
	say(0, "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n");
	until(one_routed);
	assert_string_equal(seen_path, "/1");
	keep = false;
	reply(kept);
	assert_int_equal(n_routed, 2);
	until(has_answer);
}

static bool none_left(void) { return httpd_n_conns(httpd) == 0; }

static void a_request_outlives_its_connection(void **state)
{
	(void)state;
	keep = true;
	call(0);
	say(0, "GET /kept HTTP/1.1\r\n" HOST "\r\n");
	until(one_routed);
	close(clients[0]);
	clients[0] = -1;
	until(none_left);
	assert_true(str_eq(kept->path, STR("/kept")));
	reply(kept);
	keep = false;
	ask("GET / HTTP/1.1\r\n" HOST "\r\n");
	assert_got("200 OK");
}

static struct httpd_request *all_kept[CLIENTS];
static unsigned n_expected;
static bool as_expected(void) { return n_routed == n_expected; }

static void keep_all(void *owner, struct httpd_request *r)
{
	(void)owner;
	all_kept[n_routed++] = r;
}

static void whoever_asks_and_goes_holds_its_place_until_the_answer(void **state)
{
	const struct httpd_conf conf = { .route = keep_all, .max_conns = 4 };
	struct addr at;

	(void)state;
	httpd_free(httpd);
	assert_int_equal(httpd_new(loop, &conf, &httpd), 0);
	addr_of_ip("127.0.0.1", 0, &at);
	assert_int_equal(httpd_listen(httpd, listener_bind(&at, false), &bound), 0);
	for (unsigned i = 1; i <= 6; i++) {
		call(i);
		say(i, "GET / HTTP/1.1\r\n" HOST "\r\n");
		n_expected = i < 4 ? i : 4;
		until(as_expected);
		close(clients[i]);
		clients[i] = -1;
		until(none_left);
	}
	call(0);
	until(has_ended); /* no place for it either, though nobody is there any more */
	assert_int_equal(n_routed, 4);
	while (n_routed)
		reply(all_kept[--n_routed]);
	close(clients[0]);
	got_end = false;
	call(0);
	say(0, "GET / HTTP/1.1\r\n" HOST "\r\n");
	until(one_routed);
	reply(all_kept[0]);
	until(has_answer);
	assert_got("200 OK");
}

static void a_long_answer_arrives_whole(void **state)
{
	static char text[ANSWER_MAX];

	(void)state;
	memset(text, 'y', sizeof text);
	body = (struct str){ text, sizeof text };
	call(0);
	say(0, "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	until(has_ended);
	const char *start = strstr(got, "\r\n\r\n") + 4;
	assert_int_equal(strspn(start, "y"), sizeof text);
	assert_int_equal(n_got, (size_t)(start - got) + sizeof text);
}

static bool all_there(void) { return httpd_n_conns(httpd) == HTTPD_CONNS_MAX; }

static void the_oldest_idle_connection_makes_room_for_a_new_one(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= HTTPD_CONNS_MAX; i++)
		call(i);
	until(all_there);
	say(2, "GET / HT"); /* not whole */
	ask("GET / HTTP/1.1\r\n" HOST "\r\n");
	assert_got("200 OK");
	assert_true(httpd_n_conns(httpd) <= HTTPD_CONNS_MAX);
}

static void who_waits_for_an_answer_is_not_sent_away(void **state)
{
	(void)state;
	keep = true;
	call(1);
	say(1, "GET /first HTTP/1.1\r\n" HOST "\r\n");
	until(one_routed);
	for (unsigned i = 2; i <= HTTPD_CONNS_MAX; i++)
		call(i);
	until(all_there);
	keep = false;
	ask("GET / HTTP/1.1\r\n" HOST "\r\n");
	reply(kept);
	close(clients[0]);
	clients[0] = clients[1];
	clients[1] = -1;
	forget();
	got_end = false;
	until(has_answer);
	assert_got("200 OK");
}

static void what_is_left_open_goes_with_the_server(void **state)
{
	(void)state;
	keep = true;
	call(0);
	call(1);
	say(0, "GET / HTTP/1.1\r\n" HOST "\r\n");
	say(1, "GET / HT");
	until(one_routed);
	httpd_free(httpd);
	httpd = NULL;
	until(has_ended);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_request_comes_whole_and_its_answer_is_measured),
		TEST(a_connection_is_kept_and_http_1_0_is_told_so),
		TEST(every_cut_of_a_request_gives_the_same),
		TEST(requests_sent_together_are_answered_in_order),
		TEST(head_is_measured_and_not_sent),
		TEST(other_methods_are_refused_where_no_route_takes_them),
		TEST(a_body_comes_whole_and_one_that_is_too_long_not_at_all),
		TEST(chunks_are_refused),
		TEST(who_waits_with_the_body_is_told_to_go_on),
		TEST(what_is_no_request_is_refused_and_the_connection_ends),
		TEST(a_head_longer_than_8_kib_is_refused),
		TEST(a_field_that_is_there_twice_is_told),
		TEST(an_answer_may_come_later_and_what_follows_waits),
		TEST(a_request_outlives_its_connection),
		TEST(whoever_asks_and_goes_holds_its_place_until_the_answer),
		TEST(a_long_answer_arrives_whole),
		TEST(the_oldest_idle_connection_makes_room_for_a_new_one),
		TEST(who_waits_for_an_answer_is_not_sent_away),
		TEST(what_is_left_open_goes_with_the_server),
	};

	if (crypto_start() < 0)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
