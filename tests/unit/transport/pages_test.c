#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/transport/pages.h"
#include "common/transport/transport.h"
#include "common/wire/h2.h"

extern const struct transport_ops transport_grpc;

#define TEXT "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
#define BROWSER                                                                                    \
	"Strict-Transport-Security: max-age=63072000; includeSubDomains\r\n"                       \
	"Content-Security-Policy: default-src 'self'; frame-ancestors 'none'; form-action "        \
	"'self'; base-uri 'self'; block-all-mixed-content; object-src 'none'\r\n"                  \
	"X-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\n"
#define CACHE "Cache-Control: no-cache, no-store, must-revalidate, no-transform, max-age=0\r\n"

/* ---- over HTTP/1.1 ---- */

/* As text, which is good until the next call. */
static const char *written(const struct http1_answer *a)
{
	static char text[4096];
	struct buf out = { 0 };

	assert_int_equal(http1_respond(&out, a), 0);
	assert_true(buf_len(&out) < sizeof text);
	memcpy(text, buf_data(&out), buf_len(&out));
	text[buf_len(&out)] = 0;
	buf_done(&out);
	return text;
}

static const char *asked(const char *method, const char *path, const char *challenge)
{
	struct page page;

	page_for(&(struct page_request){ str_of(method), str_of(path), str_of(challenge) }, &page);
	return written(&page.answer);
}

static void the_routes_of_derper_are_answered_as_derper_does(void **state)
{
	(void)state;
	assert_string_equal(asked("GET", "/derp/probe", NULL),
	                    "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"
	                    "Content-Length: 0\r\n\r\n");
	assert_string_equal(asked("HEAD", "/derp/latency-check", NULL),
	                    "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"
	                    "Content-Length: 0\r\n\r\n");
	assert_string_equal(asked("OPTIONS", "/derp/latency-check", NULL),
	                    "HTTP/1.1 405 Method Not Allowed\r\n" TEXT "Allow: GET, HEAD\r\n"
	                    "Content-Length: 19\r\n\r\nbogus probe method\n");
	assert_string_equal(asked("GET", "/derp", NULL),
	                    "HTTP/1.1 426 Upgrade Required\r\n" TEXT "Content-Length: 33\r\n\r\n"
	                    "DERP requires connection upgrade\n");
	assert_string_equal(asked("POST", "/robots.txt", NULL),
	                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n" BROWSER
	                    "Content-Length: 26\r\n\r\nUser-agent: *\nDisallow: /\n");
	assert_string_equal(asked("GET", "/bootstrap-dns", NULL),
	                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" BROWSER
	                    "Content-Length: 0\r\nConnection: close\r\n\r\n");
	assert_string_equal(asked("CONNECT", "a.tailscale.com:443", NULL),
	                    "HTTP/1.1 403 Forbidden\r\n" TEXT "Content-Length: 20\r\n\r\n"
	                    "CONNECT not enabled\n");
}

static void what_nobody_knows_is_the_home_page(void **state)
{
	static const char *const paths[] = { "/", "/derp/", "//derp", "/DERP", "/derp/probe/",
		                             "*", "" };

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		const char *text = asked("GET", paths[i], NULL);
		assert_ptr_equal(strstr(text, "HTTP/1.1 200 OK\r\n"
		                              "Content-Type: text/html; charset=utf-8\r\n" BROWSER),
		                 text);
		assert_non_null(strstr(text, "<h1>DERP</h1>"));
	}
}

static void a_challenge_comes_back_if_it_can_do_no_harm(void **state)
{
	static const char *const bad[] = { "",    "a b",       "a\"",      "<a>",
		                           "a,b", "a\r\nX: b", "\xc3\xa4", "a/b" };
	char longest[PAGE_CHALLENGE_MAX + 2], wanted[300];

	(void)state;
	assert_string_equal(asked("POST", "/generate_204", "ts_192.0.2.7:Az-"),
	                    "HTTP/1.1 204 No Content\r\n" CACHE
	                    "X-Tailscale-Response: response ts_192.0.2.7:Az-\r\n\r\n");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_string_equal(asked("GET", "/generate_204", bad[i]),
		                    "HTTP/1.1 204 No Content\r\n" CACHE "\r\n");
	memset(longest, 'a', sizeof longest);
	longest[PAGE_CHALLENGE_MAX] = 0;
	snprintf(wanted, sizeof wanted,
	         "HTTP/1.1 204 No Content\r\n" CACHE "X-Tailscale-Response: response %s\r\n\r\n",
	         longest);
	assert_string_equal(asked("GET", "/generate_204", longest), wanted);
	longest[PAGE_CHALLENGE_MAX] = 'a';
	longest[PAGE_CHALLENGE_MAX + 1] = 0;
	assert_string_equal(asked("GET", "/generate_204", longest),
	                    "HTTP/1.1 204 No Content\r\n" CACHE "\r\n");
}

static void a_fault_is_told_and_ends_the_connection(void **state)
{
	static const int faults[] = { 400, 431, 503, 505 };

	(void)state;
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct page page;
		char line[80];
		page_for_fault(faults[i], &page);
		const char *text = written(&page.answer);
		snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", faults[i],
		         http1_reason(faults[i]));
		assert_ptr_equal(strstr(text, line), text);
		assert_non_null(strstr(text, "\r\nConnection: close\r\n\r\n"));
	}
}

static void an_answer_is_written_as_its_reader_wants_it(void **state)
{
	static const struct http1_field fields[] = { { STR("Upgrade"), STR("DERP") },
		                                     { STR("Connection"), STR("Upgrade") } };
	struct http1_answer a = { .status = 101, .fields = fields, .n_fields = 2 };

	(void)state;
	assert_string_equal(written(&a), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n"
	                                 "Connection: Upgrade\r\n\r\n");
	a = (struct http1_answer){ .status = 200,
		                   .body = STR("four"),
		                   .to_head = true,
		                   .say_keep_alive = true,
		                   .date = STR("Sun, 06 Nov 1994 08:49:37 GMT") };
	assert_string_equal(written(&a),
	                    "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	                    "Content-Length: 4\r\nConnection: keep-alive\r\n\r\n");
	a.to_head = false;
	a.close = true;
	assert_string_equal(written(&a),
	                    "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	                    "Content-Length: 4\r\nConnection: close\r\n\r\nfour");
}

/* ---- over HTTP/2 ---- */

struct browser {
	struct h2 *h2;
	struct transport *server;
	char head[2048], body[2048];
	size_t head_len, body_len;
	bool ended;
	uint32_t code;
};

static void on_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	struct browser *b = owner;

	(void)st, (void)end;
	for (size_t i = 0; i < head->n; i++)
		b->head_len += (size_t)snprintf(
		                b->head + b->head_len, sizeof b->head - b->head_len, "%.*s: %.*s\n",
		                (int)head->fields[i].name.len, head->fields[i].name.p,
		                (int)head->fields[i].value.len, head->fields[i].value.p);
}
static void on_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct browser *b = owner;

	(void)st;
	assert_true(b->body_len + len < sizeof b->body);
	memcpy(b->body + b->body_len, data, len);
	b->body_len += len;
}
static void on_end(void *owner, struct h2_stream *st)
{
	(void)st;
	((struct browser *)owner)->ended = true;
}
static void on_closed(void *owner, struct h2_stream *st, uint32_t code)
{
	(void)st;
	((struct browser *)owner)->code = code;
}
static void on_goaway(void *owner, uint32_t code, struct str debug)
{
	(void)owner, (void)code, (void)debug;
}
static void on_ping(void *owner, uint64_t payload) { (void)owner, (void)payload; }

static const struct h2_events browser_events = { on_head,   on_data,   on_end,
	                                         on_closed, on_goaway, on_ping };
static const struct transport_events server_events = { 0 };

static void exchange(struct browser *b)
{
	struct buf out = { 0 };

	for (unsigned turn = 0; turn < 4; turn++) {
		h2_flush(b->h2, &out, 1 << 20);
		transport_grpc.input(b->server, buf_data(&out), buf_len(&out), 1000);
		buf_clear(&out);
		transport_grpc.flush(b->server, &out, 1 << 20);
		h2_input(b->h2, buf_data(&out), buf_len(&out), 1000);
		buf_clear(&out);
	}
	buf_done(&out);
}

static void over_h2(struct browser *b, const struct h2_field *fields, size_t n, const char *body)
{
	struct transport_conf conf = { .node = "n1",
		                       .serving = true,
		                       .date = "Sun, 06 Nov 1994 08:49:37 GMT",
		                       .limits = &limits_default };
	struct h2_stream *st;

	*b = (struct browser){ .code = UINT32_MAX };
	assert_int_equal(transport_grpc.open(&conf, SIDE_SERVER, 1000, &server_events, b,
	                                     &b->server),
	                 0);
	assert_int_equal(h2_new(H2_CLIENT, &limits_default, 1000, &browser_events, b, &b->h2), 0);
	assert_int_equal(h2_request(b->h2, fields, n, b, &st), 0);
	assert_int_equal(buf_add(h2_outgoing(st), body, strlen(body)), 0);
	h2_finish(b->h2, st, NULL, 0);
	exchange(b);
	transport_grpc.free(b->server);
	h2_free(b->h2);
}

static void a_page_over_h2_has_lower_case_and_nothing_of_a_connection(void **state)
{
	static const char *const paths[] = { "/", "/derp", "/bootstrap-dns?q=a", "/robots.txt?",
		                             "/generate_204?t=1" };
	static const char *const statuses[] = { "200", "426", "200", "200", "204" };
	struct browser b;

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		const struct h2_field f[] = {
			{ STR(":method"), STR("POST") },
			{ STR(":scheme"), STR("https") },
			{ STR(":path"), str_of(paths[i]) },
			{ STR(":authority"), STR("r.test") },
			{ STR("content-type"), STR("text/x") },
			{ STR("x-tailscale-challenge"), STR("ab") },
		};
		over_h2(&b, f, 6, "what nobody reads");
		assert_true(b.ended);
		assert_int_equal(b.code, H2_NO_ERROR);
		char wanted[20];
		snprintf(wanted, sizeof wanted, ":status: %s\n", statuses[i]);
		assert_ptr_equal(strstr(b.head, wanted), b.head);
		for (size_t k = 0, value = 0; b.head[k]; k++) {
			value = b.head[k] == '\n' ?
			                        0 :
			                        value + (b.head[k] == ' ' && b.head[k - 1] == ':');
			assert_true(value || b.head[k] < 'A' || b.head[k] > 'Z');
		}
		assert_non_null(strstr(b.head, "\ndate: Sun, 06 Nov 1994 08:49:37 GMT\n"));
		assert_null(strstr(b.head, "connection:"));
		assert_null(strstr(b.head, "grpc-"));
		assert_int_equal(strstr(b.head, "x-tailscale-response: response ab\n") != NULL,
		                 i == 4);
		assert_int_equal(strstr(b.head, "content-length: ") != NULL, i != 4);
	}
}

static int start(void **state)
{
	(void)state;
	return crypto_start();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_routes_of_derper_are_answered_as_derper_does),
		cmocka_unit_test(what_nobody_knows_is_the_home_page),
		cmocka_unit_test(a_challenge_comes_back_if_it_can_do_no_harm),
		cmocka_unit_test(a_fault_is_told_and_ends_the_connection),
		cmocka_unit_test(an_answer_is_written_as_its_reader_wants_it),
		cmocka_unit_test(a_page_over_h2_has_lower_case_and_nothing_of_a_connection),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
