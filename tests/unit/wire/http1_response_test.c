#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/wire/http1_response.h"

static char body[256];
static int status;

/* In pieces of `chunk`, then the end of the connection if `ends`. */
static int feed(const char *text, size_t len, size_t chunk, bool ends)
{
	struct http1_response *r;
	int rc = ERR_AGAIN;

	assert_int_equal(http1_response_new(sizeof body - 1, &r), 0);
	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk)
		rc = http1_response_feed(r, (const uint8_t *)text + at,
		                         len - at < chunk ? len - at : chunk);
	if (rc == ERR_AGAIN && ends)
		rc = http1_response_end(r);
	struct str b = http1_response_body(r);
	if (b.len)
		memcpy(body, b.p, b.len);
	body[b.len] = 0;
	status = http1_response_status(r);
	assert_int_equal(http1_response_has_head(r), status != 0);
	http1_response_free(r);
	return rc;
}

/* The same at every cut. */
static void gives(const char *text, int rc, int code, const char *words)
{
	for (size_t chunk = strlen(text); chunk > 0; chunk--) {
		assert_int_equal(feed(text, strlen(text), chunk, true), rc);
		assert_int_equal(status, code);
		assert_string_equal(body, words);
	}
}

static void a_length_ends_a_body(void **state)
{
	(void)state;
	gives("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0, 200, "hello");
	gives("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more", 0, 200, "hello");
	gives("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", 0, 500, "");
}

static void the_last_chunk_ends_a_body(void **state)
{
	(void)state;
	gives("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
	      0, 200, "hello");
	gives("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", ERR_PROTOCOL,
	      200, "hel");
	gives("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", ERR_PROTOCOL, 200, "");
}

static void the_end_of_the_connection_ends_a_body(void **state)
{
	(void)state;
	gives("HTTP/1.0 200 OK\r\n\r\nhello", 0, 200, "hello");
	gives("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 0, 200, "");
}

static void some_statuses_have_no_body(void **state)
{
	(void)state;
	gives("HTTP/1.1 204 No Content\r\n\r\n", 0, 204, "");
	gives("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0, 304, "");
	gives("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc", 0,
	      101, "");
}

static void informational_ones_are_passed_over(void **state)
{
	(void)state;
	gives("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
	      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	      0, 200, "ok");
}

static void what_ends_too_early_or_is_no_http_is_refused(void **state)
{
	(void)state;
	gives("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", ERR_PROTOCOL, 200, "hello");
	gives("HTTP/1.1 200 OK\r\n", ERR_PROTOCOL, 0, "");
	gives("220 mail.example ESMTP\r\n", ERR_PROTOCOL, 0, "");
	gives("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
	      ERR_PROTOCOL, 0, "");
	assert_int_equal(feed("", 0, 1, true), ERR_PROTOCOL);
}

static void a_body_that_is_too_long_is_there_as_far_as_is_allowed(void **state)
{
	char text[1000];
	int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");

	(void)state;
	memset(text + n, 'x', sizeof text - (size_t)n);
	for (size_t chunk = 1; chunk < 400; chunk += 7) {
		assert_int_equal(feed(text, sizeof text, chunk, false), ERR_TOO_BIG);
		assert_int_equal(strlen(body), sizeof body - 1);
		assert_int_equal(status, 200);
	}
}

static void a_head_without_end_is_given_up(void **state)
{
	static char text[70000];
	static const char one[] = "HTTP/1.1 103 Early Hints\r\n\r\n";

	(void)state;
	memset(text, 'x', sizeof text);
	memcpy(text, "HTTP/1.1 200 OK\r\nX: ", 20);
	assert_int_equal(feed(text, sizeof text, sizeof text, false), ERR_TOO_BIG);
	for (size_t at = 0; at + sizeof one - 1 < sizeof text; at += sizeof one - 1)
		memcpy(text + at, one, sizeof one - 1);
	assert_int_equal(feed(text, sizeof text, 1000, false), ERR_TOO_BIG);
}

/* ---- URLs ---- */

static void url_is(const char *text, bool https, const char *host, uint16_t port,
                   const char *target)
{
	struct http1_url u;
	const char *why = "";

	if (http1_url_of(text, &u, &why) != 0)
		fail_msg("%s: %s", text, why);
	assert_int_equal(u.is_https, https);
	assert_true(str_eq(u.host, str_of(host)));
	assert_int_equal(u.port, port);
	assert_true(str_eq(u.target, str_of(target)));
}

static void a_url_gives_host_port_and_target(void **state)
{
	(void)state;
	url_is("https://maps.example/derp/map.json", true, "maps.example", 443, "/derp/map.json");
	url_is("http://maps.example", false, "maps.example", 80, "");
	url_is("HTTPS://maps.example:8443/", true, "maps.example", 8443, "/");
	url_is("http://[2001:db8::1]:81/a?b=c&d#e", false, "2001:db8::1", 81, "/a?b=c&d");
	url_is("http://192.0.2.1?b", false, "192.0.2.1", 80, "?b");
	url_is("http://192.0.2.1/?#x", false, "192.0.2.1", 80, "/");
}

static void other_urls_are_refused(void **state)
{
	static const char *const bad[] = { "",
		                           "/etc/passwd",
		                           "maps.example",
		                           "//maps.example/",
		                           "file:///x",
		                           "ftp://maps.example",
		                           "http://",
		                           "http://:80/",
		                           "http://a@b/",
		                           "http://a:b@c/",
		                           "http://b:0/",
		                           "http://b:65536/",
		                           "http://b/\n",
		                           "http://b/\xc3\xa4",
		                           "http://b/ c" };
	static char text[HTTP1_URL_MAX + 2] = "http://b/";
	struct http1_url u;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *why = NULL;
		if (http1_url_of(bad[i], &u, &why) != ERR_INVALID)
			fail_msg("taken: %s", bad[i]);
		assert_non_null(why);
	}
	const char *why;
	memset(text + 9, 'x', sizeof text - 10);
	assert_int_equal(http1_url_of(text, &u, &why), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_length_ends_a_body),
		cmocka_unit_test(the_last_chunk_ends_a_body),
		cmocka_unit_test(the_end_of_the_connection_ends_a_body),
		cmocka_unit_test(some_statuses_have_no_body),
		cmocka_unit_test(informational_ones_are_passed_over),
		cmocka_unit_test(what_ends_too_early_or_is_no_http_is_refused),
		cmocka_unit_test(a_body_that_is_too_long_is_there_as_far_as_is_allowed),
		cmocka_unit_test(a_head_without_end_is_given_up),
		cmocka_unit_test(a_url_gives_host_port_and_target),
		cmocka_unit_test(other_urls_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
