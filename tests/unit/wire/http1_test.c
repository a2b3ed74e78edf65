#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/wire/http1.h"

/* Feeds a reply in pieces; gives the result and how many bytes belonged to it. */
static int feed(const char *text, size_t len, size_t chunk, struct http1_head *head_out,
                size_t *used_out)
{
	struct http1 *h;
	int rc = ERR_AGAIN;
	size_t used = 0;

	assert_int_equal(http1_new(&h), 0);
	*used_out = 0;
	for (size_t at = 0; at < len && rc == ERR_AGAIN; at += chunk) {
		size_t n = len - at < chunk ? len - at : chunk;
		rc = http1_feed(h, (const uint8_t *)text + at, n, &used);
		*used_out = rc == 0 ? at + used : at + n;
	}
	*head_out = *http1_head(h);
	http1_free(h);
	return rc;
}

static void assert_status(const char *text, int status)
{
	struct http1_head head;
	size_t used;

	assert_int_equal(feed(text, strlen(text), strlen(text), &head, &used), 0);
	assert_int_equal(head.status, status);
	assert_int_equal(used, strlen(text));
}

static void X01_status_lines_as_proxies_write_them_are_read(void **state)
{
	(void)state;
	assert_status("HTTP/1.1 200 Connection established\r\n\r\n", 200);
	assert_status("HTTP/1.1 200\r\n\r\n", 200);
	assert_status("HTTP/1.1 200 \r\n\r\n", 200);
	assert_status("HTTP/1.0 200 OK\r\n\r\n", 200);
	assert_status("HTTP/1.1 204 None\r\n\r\n", 204);
	assert_status("HTTP/1.1 299 Odd\r\n\r\n", 299);
	assert_status("HTTP/1.1 502 Bad Gateway\r\nServer: x\r\n\r\n", 502);
}

static void informational_responses_before_the_final_one_are_skipped(void **state)
{
	(void)state;
	assert_status("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200);
	assert_status("HTTP/1.1 103 Early\r\nLocation: x\r\n\r\nHTTP/1.1 502 Bad\r\n\r\n", 502);
}

static void after_101_the_connection_is_no_longer_http(void **state)
{
	static const char text[] =
	                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n"
	                "Upgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: 2\r\n\r\n"
	                "\x01\0\0\0\x28HTTP/1.1 200 OK\r\n\r\n";
	struct http1_head head;
	size_t used;

	(void)state;
	for (size_t chunk = 1; chunk <= sizeof text; chunk++) {
		assert_int_equal(feed(text, sizeof text - 1, chunk, &head, &used), 0);
		assert_int_equal(head.status, 101);
		assert_string_equal(head.reason, "Switching Protocols");
		assert_int_equal(used, strstr(text, "\x01") - text);
	}
}

static void a_reason_is_told_as_far_as_it_is_short_and_printable(void **state)
{
	static const struct {
		const char *line, *reason;
	} rows[] = {
		{ "HTTP/1.1 403 CONNECT not enabled\r\n\r\n", "CONNECT not enabled" },
		{ "HTTP/1.1 403\r\n\r\n", "" },
		{ "HTTP/1.1 403 \x1b[2Jred\r\n\r\n", "?[2Jred" },
		{ "HTTP/1.1 403 \xc3\xa4\r\n\r\n", "??" },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n", "No" },
		{ "HTTP/1.1 403 0123456789012345678901234567890123456789012345678901234567890123456789"
		  "\r\n\r\n",
		  "012345678901234567890123456789012345678901234567890123456789012" },
	};
	struct http1_head head;
	size_t used;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (size_t chunk = 1; chunk <= strlen(rows[i].line); chunk++) {
			assert_int_equal(feed(rows[i].line, strlen(rows[i].line), chunk, &head,
			                      &used),
			                 0);
			assert_string_equal(head.reason, rows[i].reason);
		}
}

static void X02_a_body_announced_by_a_reply_to_connect_is_not_awaited(void **state)
{
	(void)state;
	assert_status("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200);
	assert_status("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200);
}

static void X03_bytes_behind_the_head_are_the_tunnels(void **state)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nVia: x\r\n\r\n\x16\x03\x01 surplus";
	struct http1_head head;
	size_t used;

	(void)state;
	for (size_t chunk = 1; chunk <= sizeof text; chunk++) {
		assert_int_equal(feed(text, sizeof text - 1, chunk, &head, &used), 0);
		assert_int_equal(head.status, 200);
		assert_int_equal(used, strstr(text, "\x16") - text);
	}
}

static void X04_lines_may_end_with_lf_alone(void **state)
{
	(void)state;
	assert_status("HTTP/1.1 200 OK\nVia: x\n\n", 200);
}

static void X04_a_head_that_does_not_end_is_too_big(void **state)
{
	static char text[1 << 20];
	struct http1_head head;
	size_t used;

	(void)state;
	int n = sprintf(text, "HTTP/1.1 200 OK\r\nX: ");
	memset(text + n, 'a', sizeof text - (size_t)n);
	assert_int_equal(feed(text, sizeof text, 4096, &head, &used), ERR_TOO_BIG);
	assert_true(used <= HTTP1_HEAD_MAX + 4096);
}

static void X04_a_head_of_too_many_lines_is_too_big(void **state)
{
	static char text[4096];
	struct http1_head head;
	size_t used;

	(void)state;
	strcpy(text, "HTTP/1.1 200 OK\r\n");
	for (unsigned i = 0; i < HTTP1_LINES_MAX; i++)
		strcat(text, "a: b\r\n");
	size_t allowed = strlen(text);
	strcat(text, "\r\n");
	assert_int_equal(feed(text, strlen(text), 100, &head, &used), 0);
	strcpy(text + allowed, "a: b\r\n\r\n");
	assert_int_equal(feed(text, strlen(text), 100, &head, &used), ERR_TOO_BIG);
}

static void X04_the_longest_head_allowed_is_read(void **state)
{
	static char text[HTTP1_HEAD_MAX + 1];
	struct http1_head head;
	size_t used;

	(void)state;
	for (size_t len = HTTP1_HEAD_MAX; len <= HTTP1_HEAD_MAX + 1; len++) {
		int n = sprintf(text, "HTTP/1.1 200 OK\r\nX: ");
		memset(text + n, 'a', len - (size_t)n);
		memcpy(text + len - 4, "\r\n\r\n", 4);
		assert_int_equal(feed(text, len, len, &head, &used),
		                 len > HTTP1_HEAD_MAX ? ERR_TOO_BIG : 0);
	}
	assert_int_equal(feed(text, HTTP1_HEAD_MAX, 1, &head, &used), ERR_AGAIN);
}

static void nothing_wants_more(void **state)
{
	struct http1 *h;
	size_t used = 77;

	(void)state;
	assert_int_equal(http1_new(&h), 0);
	assert_int_equal(http1_feed(h, NULL, 0, &used), ERR_AGAIN);
	assert_int_equal(used, 77);
	http1_free(h);
	http1_free(NULL);
}

static void fields_nobody_asks_for_leave_those_we_read_alone(void **state)
{
	static const char text[] = "HTTP/1.1 302 Go\r\nLocation-Of-Something: no\r\nLocatio: no\r\n"
	                           "X-Of-More-Than-Thirty-One-Letters-Location: no\r\n"
	                           "Location:\r\nA:\r\n\r\n";
	struct http1_head head;
	size_t used;

	(void)state;
	assert_int_equal(feed(text, sizeof text - 1, 3, &head, &used), 0);
	assert_string_equal(head.location, "");
	assert_string_equal(head.proxy_authenticate, "");
}

static void bytes_at_random_are_never_read_beyond(void **state)
{
	struct http1_head head;
	unsigned seed = 7;
	size_t used;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		size_t len = (size_t)(rand_r(&seed) % 200) + 1;
		char *text = malloc(len); /* exact: a sanitizer sees one byte too many */
		assert_non_null(text);
		for (size_t k = 0; k < len; k++)
			text[k] = (char)rand_r(&seed);
		if (i % 2 && len > 9)
			memcpy(text, "HTTP/1.1 ", 9);
		int rc = feed(text, len, 1 + i % 50, &head, &used);
		assert_true(rc != 0 || used <= len);
		free(text);
	}
}

static void what_is_no_http_is_a_protocol_error(void **state)
{
	static const char *const bad[] = {
		"SSH-2.0-OpenSSH\r\n\r\n", "\x15\x03\x01\x00\x02\x02\x16",
		"GET / HTTP/1.1\r\n\r\n",  "HTTP/1.1 abc\r\n\r\n",
		"\r\r\r\r\r\x01",          "HTTP/1.1 200 OK\r\nb\x01d: x\r\n\r\n"
	};
	struct http1_head head;
	size_t used;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(feed(bad[i], strlen(bad[i]), 7, &head, &used), ERR_PROTOCOL);
}

static void a_head_cut_anywhere_wants_more(void **state)
{
	static const char text[] =
	                "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"a,b\"\r\n\r\n";
	struct http1_head head;
	size_t used;

	(void)state;
	for (size_t len = 1; len < sizeof text - 1; len++)
		assert_int_equal(feed(text, len, len, &head, &used), ERR_AGAIN);
}

static void X05_several_challenges_are_joined(void **state)
{
	static const char text[] =
	                "HTTP/1.1 407 No\r\nPROXY-AUTHENTICATE: Negotiate\r\nproxy-authenticate: "
	                "Basic realm=\"a\"\r\nLocation: http://x/y\r\n\r\n";
	struct http1_head head;
	size_t used;

	(void)state;
	for (size_t chunk = 1; chunk < sizeof text; chunk++) {
		assert_int_equal(feed(text, sizeof text - 1, chunk, &head, &used), 0);
		assert_string_equal(head.proxy_authenticate, "Negotiate, Basic realm=\"a\"");
		assert_string_equal(head.location, "http://x/y");
	}
}

static void a_long_value_is_cut(void **state)
{
	static char text[8192];
	struct http1_head head;
	size_t used;

	(void)state;
	int n = sprintf(text, "HTTP/1.1 302 Go\r\nLocation: ");
	memset(text + n, 'l', 5000);
	strcat(text, "\r\n\r\n");
	assert_int_equal(feed(text, strlen(text), 999, &head, &used), 0);
	assert_int_equal(strlen(head.location), HTTP1_VALUE_LEN - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(X01_status_lines_as_proxies_write_them_are_read),
		cmocka_unit_test(informational_responses_before_the_final_one_are_skipped),
		cmocka_unit_test(after_101_the_connection_is_no_longer_http),
		cmocka_unit_test(a_reason_is_told_as_far_as_it_is_short_and_printable),
		cmocka_unit_test(X02_a_body_announced_by_a_reply_to_connect_is_not_awaited),
		cmocka_unit_test(X03_bytes_behind_the_head_are_the_tunnels),
		cmocka_unit_test(X04_lines_may_end_with_lf_alone),
		cmocka_unit_test(X04_a_head_that_does_not_end_is_too_big),
		cmocka_unit_test(X04_a_head_of_too_many_lines_is_too_big),
		cmocka_unit_test(X04_the_longest_head_allowed_is_read),
		cmocka_unit_test(nothing_wants_more),
		cmocka_unit_test(fields_nobody_asks_for_leave_those_we_read_alone),
		cmocka_unit_test(bytes_at_random_are_never_read_beyond),
		cmocka_unit_test(what_is_no_http_is_a_protocol_error),
		cmocka_unit_test(a_head_cut_anywhere_wants_more),
		cmocka_unit_test(X05_several_challenges_are_joined),
		cmocka_unit_test(a_long_value_is_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
