#include "tests/unit/net/certs.h"
#include "tests/unit/net/names.h"
#include "tests/unit/until.h"

#include "tests/unit/net/httpd.h"

#include "common/net/fetch.h"

static struct tls_ctx *server_tls, *client_tls;
static struct fetch_conf conf;
static struct fetch *fetch;
static char url[300], words[FETCH_ERROR_LEN], body[8192];
static unsigned n_done;
static int status; /* -1: failed */
static size_t body_len;
static bool again;

static void start(void);

static void on_done(void *owner, const struct fetch_answer *a, const char *error)
{
	assert_ptr_equal(owner, &conf);
	n_done++;
	fetch = NULL;
	status = a ? a->status : -1;
	snprintf(words, sizeof words, "%s", error);
	body_len = a ? a->body.len : 0;
	assert_true(body_len < sizeof body);
	if (body_len)
		memcpy(body, a->body.p, body_len);
	body[body_len] = 0;
	if (again) {
		again = false;
		start();
	}
}

static bool done(void) { return n_done > 0; }
static bool done_twice(void) { return n_done == 2; }
static bool asked(void) { return httpd.n_requests > 0; }
static bool server_saw_the_end(void) { return httpd.n_closed > 0; }

static void start(void)
{
	int rc = fetch_start(loop, &conf, on_done, &conf, &fetch, words);

	if (rc != 0)
		fail_msg("%d: %s", rc, words);
}

static void get(const char *fmt)
{
	snprintf(url, sizeof url, fmt, httpd.port);
	start();
	assert_int_equal(n_done, 0);
	until(done);
}

static int set_up(void **state)
{
	(void)state;
	loop_set_up();
	httpd_start("127.0.0.1");
	names_set_up();
	conf = (struct fetch_conf){ .url = url, .timeout_ms = UNTIL_LIMIT_MS, .max_body = 1000 };
	n_done = 0;
	body_len = 0;
	status = 0;
	fetch = NULL;
	again = false;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fetch_cancel(fetch);
	httpd_stop();
	loop_tear_down();
	conn_thread_done();
	return 0;
}

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static void an_answer_gives_status_and_body(void **state)
{
	(void)state;
	httpd.answer = HELLO;
	get("http://127.0.0.1:%u/a/b?c=d");
	assert_int_equal(status, 200);
	assert_string_equal(body, "hello");
	assert_ptr_equal(strstr(httpd.request, "GET /a/b?c=d HTTP/1.1\r\n"), httpd.request);
	char host[40];
	snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%u\r\n", httpd.port);
	assert_non_null(strstr(httpd.request, host));
	assert_null(strstr(httpd.request, "Content-Length"));
}

static void a_body_is_posted_without_a_type(void **state)
{
	(void)state;
	conf.method = "POST";
	conf.body = STR("{\"a\":1}");
	httpd.answer = HELLO;
	get("http://127.0.0.1:%u");
	assert_int_equal(status, 200);
	assert_ptr_equal(strstr(httpd.request, "POST / HTTP/1.1\r\n"), httpd.request);
	assert_non_null(strstr(httpd.request, "\r\nContent-Length: 7\r\n"));
	assert_non_null(strstr(httpd.request, "\r\n\r\n{\"a\":1}"));
	assert_null(strcasestr(httpd.request, "Content-Type"));
}

static void a_token_is_shown_as_bearer(void **state)
{
	(void)state;
	conf.bearer = STR("secret-secret");
	httpd.answer = HELLO;
	get("http://127.0.0.1:%u/x");
	assert_int_equal(status, 200);
	assert_non_null(strstr(httpd.request, "\r\nAuthorization: Bearer secret-secret\r\n"));
}

static void any_status_is_an_answer_and_redirects_are_not_followed(void **state)
{
	(void)state;
	httpd.answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, 404);
	assert_string_equal(body, "none");
	n_done = 0;
	httpd.answer = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, 302);
	assert_int_equal(httpd.n_requests, 2);
}

static void names_are_resolved_and_sent(void **state)
{
	static const char *const ips[] = { "127.0.0.1", NULL };

	(void)state;
	names_are(ips);
	httpd.answer = HELLO;
	get("http://maps.test:%u/");
	assert_int_equal(status, 200);
	assert_non_null(strstr(httpd.request, "\r\nHost: maps.test:"));
}

static void an_address_that_is_given_is_asked_for_the_name(void **state)
{
	struct dial_family v4 = { .off = false }, v6 = { .off = true };

	(void)state;
	assert_int_equal(addr_of_ip("127.0.0.1", 0, &v4.at), 0);
	conf.ipv4 = &v4;
	conf.ipv6 = &v6;
	httpd.answer = HELLO;
	get("http://maps.test:%u/"); /* does not exist */
	assert_int_equal(status, 200);
	assert_non_null(strstr(httpd.request, "\r\nHost: maps.test:"));
}

static void an_ipv6_literal_is_asked(void **state)
{
	(void)state;
	httpd_stop();
	httpd_start("::1");
	httpd.answer = HELLO;
	get("http://[::1]:%u/");
	assert_int_equal(status, 200);
	assert_non_null(strstr(httpd.request, "\r\nHost: [::1]:"));
}

static void over_tls_the_name_is_verified(void **state)
{
	static const char *const ips[] = { "127.0.0.1", NULL };

	(void)state;
	names_are(ips);
	httpd.tls = server_tls;
	httpd.answer = HELLO;
	conf.tls = client_tls;
	get("https://relay.test:%u/");
	assert_string_equal(words, "");
	assert_int_equal(status, 200);
	assert_string_equal(body, "hello");
}

static void a_certificate_for_another_name_is_refused(void **state)
{
	static const char *const ips[] = { "127.0.0.1", NULL };

	(void)state;
	names_are(ips);
	httpd.tls = server_tls;
	httpd.answer = HELLO;
	conf.tls = client_tls;
	get("https://other.test:%u/");
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "other.test:"));
	assert_non_null(strstr(words, "not trusted"));
	assert_int_equal(httpd.n_requests, 0);
}

static void a_certificate_of_nobody_we_know_is_refused(void **state)
{
	static const char *const ips[] = { "127.0.0.1", NULL };
	struct tls_client_conf system = { 0 };

	(void)state;
	names_are(ips);
	httpd.tls = server_tls;
	httpd.answer = HELLO;
	assert_int_equal(tls_client_ctx_new(&system, &conf.tls, certs_error), 0);
	get("https://relay.test:%u/");
	tls_ctx_unref(conf.tls);
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "not trusted"));
	assert_int_equal(httpd.n_requests, 0);
}

static void a_body_that_lasts_until_the_end_is_whole_if_the_end_is_in_order(void **state)
{
	static const char *const ips[] = { "127.0.0.1", NULL };

	(void)state;
	httpd.answer = "HTTP/1.0 200 OK\r\n\r\nall of it";
	httpd.close_behind = true;
	get("http://127.0.0.1:%u/");
	assert_string_equal(body, "all of it");
	names_are(ips);
	httpd.tls = server_tls;
	conf.tls = client_tls;
	n_done = 0;
	get("https://relay.test:%u/");
	assert_string_equal(body, "all of it");
}

static void a_body_that_is_cut_short_is_none(void **state)
{
	(void)state;
	httpd.answer = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello";
	httpd.close_behind = true;
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "before the answer was complete"));
}

static void a_connection_that_just_ends_is_told(void **state)
{
	(void)state;
	httpd.close_behind = true;
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "127.0.0.1:"));
	httpd.close_behind = false;
	httpd.reset_behind = true;
	n_done = 0;
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, -1);
	assert_true(strlen(words) > 20);
}

static char long_answer[6000];

static void a_body_that_is_too_long_fails_or_is_cut(void **state)
{
	(void)state;
	int n = snprintf(long_answer, sizeof long_answer,
	                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfa0\r\n");
	memset(long_answer + n, 'x', 4000);
	httpd.answer = long_answer;
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "longer"));
	n_done = 0;
	conf.cut = true;
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, 200);
	assert_int_equal(body_len, 1000);
}

static void what_is_not_http_is_told(void **state)
{
	(void)state;
	httpd.answer = "SSH-2.0-OpenSSH_9.2\r\n";
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "not HTTP"));
}

static void who_does_not_answer_is_given_up(void **state)
{
	(void)state;
	conf.timeout_ms = 200;
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "no answer within 0.2 s"));
	assert_int_equal(httpd.n_requests, 1);
	until(server_saw_the_end);
}

static void who_does_not_speak_tls_is_given_up(void **state)
{
	(void)state;
	conf.timeout_ms = 200;
	conf.tls = client_tls;
	get("https://127.0.0.1:%u/");
	assert_non_null(strstr(words, "no answer within"));
}

static void a_refused_connection_is_told(void **state)
{
	(void)state;
	listener_close(httpd.listener);
	httpd.listener = NULL;
	get("http://127.0.0.1:%u/");
	assert_int_equal(status, -1);
	assert_non_null(strstr(words, "refused"));
}

static void a_name_that_does_not_exist_is_told(void **state)
{
	(void)state;
	get("http://nowhere.test:%u/");
	assert_non_null(strstr(words, "cannot resolve nowhere.test"));
}

static void a_cancelled_fetch_tells_nothing_and_hangs_up(void **state)
{
	(void)state;
	snprintf(url, sizeof url, "http://127.0.0.1:%u/", httpd.port);
	start();
	until(asked);
	fetch_cancel(fetch);
	fetch = NULL;
	until(server_saw_the_end);
	start();
	fetch_cancel(fetch); /* before anything happened */
	fetch_cancel(NULL);
	fetch = NULL;
	assert_int_equal(n_done, 0);
}

static void another_may_be_started_from_inside(void **state)
{
	(void)state;
	httpd.answer = HELLO;
	again = true;
	get("http://127.0.0.1:%u/");
	until(done_twice);
	assert_int_equal(httpd.n_requests, 2);
	assert_int_equal(status, 200);
}

static void a_url_that_cannot_be_asked_is_refused_without_repeating_it(void **state)
{
	static const struct {
		const char *url, *words;
	} bad[] = {
		{ "", "form" },
		{ "example.com", "form" },
		{ "ftp://sesame.example/", "https://" },
		{ "https:///sesame", "form" },
		{ "https://user:sesame@example.com/", "login" },
		{ "https://example.com/ sesame", "percent" },
		{ "https://example.com/\r\nsesame: x", "percent" },
		{ "https://exa_mple.com/sesame", "" },
		{ "https://example.com:0/sesame", "port" },
		{ "https://example.com:70000/sesame", "form" },
		{ "https://[::1/sesame", "form" },
		{ "https://example.com/sesame", "certificates" }, /* none given */
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		conf.url = bad[i].url;
		assert_int_not_equal(fetch_start(loop, &conf, on_done, &conf, &fetch, words), 0);
		assert_null(fetch);
		assert_true(strlen(words) > 10);
		assert_null(strstr(words, "sesame"));
		if (!strstr(words, bad[i].words))
			fail_msg("%s: %s", bad[i].url, words);
	}
}

static void a_url_is_checked_before_anybody_asks(void **state)
{
	char host[256];
	bool https = false;

	(void)state;
	assert_int_equal(fetch_check_url("https://[2001:db8::1]:8443/map?x", &https, host, words),
	                 0);
	assert_true(https);
	assert_string_equal(host, "2001:db8::1");
	assert_int_equal(fetch_check_url("HTTP://Example.com", &https, host, words), 0);
	assert_false(https);
	assert_int_equal(fetch_check_url("nonsense", &https, host, words), ERR_INVALID);
}

static int make_tls(void **state)
{
	if (tls_start() < 0 || certs_make(state) < 0)
		return -1;
	server_tls = certs_server(NULL);
	client_tls = certs_client(certs_cert, NULL, NULL);
	return 0;
}

static int free_tls(void **state)
{
	(void)state;
	tls_ctx_unref(server_tls);
	tls_ctx_unref(client_tls);
	return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_answer_gives_status_and_body),
		T(a_body_is_posted_without_a_type),
		T(a_token_is_shown_as_bearer),
		T(any_status_is_an_answer_and_redirects_are_not_followed),
		T(names_are_resolved_and_sent),
		T(an_address_that_is_given_is_asked_for_the_name),
		T(an_ipv6_literal_is_asked),
		T(over_tls_the_name_is_verified),
		T(a_certificate_for_another_name_is_refused),
		T(a_certificate_of_nobody_we_know_is_refused),
		T(a_body_that_lasts_until_the_end_is_whole_if_the_end_is_in_order),
		T(a_body_that_is_cut_short_is_none),
		T(a_connection_that_just_ends_is_told),
		T(a_body_that_is_too_long_fails_or_is_cut),
		T(what_is_not_http_is_told),
		T(who_does_not_answer_is_given_up),
		T(who_does_not_speak_tls_is_given_up),
		T(a_refused_connection_is_told),
		T(a_name_that_does_not_exist_is_told),
		T(a_cancelled_fetch_tells_nothing_and_hangs_up),
		T(another_may_be_started_from_inside),
		T(a_url_that_cannot_be_asked_is_refused_without_repeating_it),
		T(a_url_is_checked_before_anybody_asks),
	};
	return cmocka_run_group_tests(tests, make_tls, free_tls);
}
