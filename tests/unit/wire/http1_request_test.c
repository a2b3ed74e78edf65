#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/wire/http1.h"

/* A request as it was read, with text of its own. */
struct got {
	int rc, fault;
	size_t used;
	char text[4096]; /* everything in the request, one after the other */
};

static void write_out(const struct http1_request *q, struct got *g)
{
	int n = snprintf(g->text, sizeof g->text, "%.*s|%.*s|%.*s|1.%u|%s%s%s|%u",
	                 (int)q->method.len, q->method.p, (int)q->path.len, q->path.p,
	                 (int)q->query.len, q->query.p, q->minor, q->has_upgrade ? "upgrade " : "",
	                 q->keep_alive ? "keep " : "", q->say_keep_alive ? "say" : "", q->body_len);

	for (unsigned i = 0; i < HTTP1_NAME_N; i++)
		n += snprintf(g->text + n, sizeof g->text - (size_t)n, "|%u:%.*s", q->n_field[i],
		              (int)q->field[i].len, q->field[i].p ? q->field[i].p : "");
}

/* In pieces of the size of `chunk`, the first one of `first`. */
static void read_in(const char *text, size_t len, size_t first, size_t chunk, struct got *g)
{
	struct http1_reader *r;
	size_t n;

	memset(g, 0, sizeof *g);
	g->rc = ERR_AGAIN;
	assert_int_equal(http1_reader_new(&r), 0);
	for (size_t at = 0; at < len && g->rc == ERR_AGAIN; at += n) {
		size_t used = 0;
		n = at == 0 ? first : chunk;
		n = n > len - at ? len - at : n;
		char *piece = malloc(n); /* exact: a sanitizer sees one byte too many */
		assert_non_null(piece);
		memcpy(piece, text + at, n);
		g->rc = http1_reader_feed(r, (const uint8_t *)piece, n, &used);
		free(piece);
		g->used = g->rc == 0 ? at + used : 0;
	}
	g->fault = http1_reader_fault(r);
	if (g->rc == 0)
		write_out(http1_reader_request(r), g);
	assert_int_equal(http1_reader_is_inside(r), g->rc != 0 && len > 0);
	http1_reader_free(r);
}

/* Whole, byte by byte and cut once at every place: the same each time. */
static struct got read_all_ways(const char *text, size_t len)
{
	struct got whole, other;

	read_in(text, len, len, len, &whole);
	read_in(text, len, 1, 1, &other);
	assert_memory_equal(&whole, &other, sizeof whole);
	for (size_t cut = 1; cut<len; cut += len> 4000 ? 97 : 1) {
		read_in(text, len, cut, len, &other);
		assert_memory_equal(&whole, &other, sizeof whole);
	}
	return whole;
}

static void assert_read(const char *text, const char *as)
{
	struct got g = read_all_ways(text, strlen(text));

	assert_int_equal(g.rc, 0);
	assert_int_equal(g.fault, 0);
	assert_int_equal(g.used, strlen(text));
	if (strncmp(g.text, as, strlen(as)) != 0)
		fail_msg("read as %s\nnot as  %s", g.text, as);
}

static void assert_refused(const char *text, size_t len, int status)
{
	struct got g = read_all_ways(text, len);

	if (g.fault != status)
		fail_msg("%.60s: %d instead of %d", text, g.fault, status);
	assert_int_equal(g.rc, status == 431 ? ERR_TOO_BIG : ERR_PROTOCOL);
}

#define HOST "Host: derp.test\r\n"

static void what_derp_clients_ask_for_is_read(void **state)
{
	(void)state;
	assert_read("GET /derp HTTP/1.1\r\nHost: derp.test:3340\r\nUser-Agent: Go-http-client/1.1\r\n"
	            "Connection: Upgrade\r\nDerp-Fast-Start: 1\r\nIdeal-Node: 1a\r\n"
	            "Upgrade: DERP\r\n\r\n",
	            "GET|/derp||1.1|upgrade keep |0|1:derp.test:3340|1:DERP|1:1|1:1a|0:|0:|0:|0:|0:");
	/* ntnj/derpnet: an empty Host */
	assert_read("GET /derp HTTP/1.1\r\nHost:\r\nUpgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n",
	            "GET|/derp||1.1|keep |0|1:|1:DERP|1:1|0:");
	assert_read("GET /derp HTTP/1.1\r\nHost:  \t \r\n\r\n", "GET|/derp||1.1|keep |0|1:|0:");
	/* tailscale-rs: POST, lower case */
	assert_read("POST /derp HTTP/1.1\r\nhost: 192.0.2.1\r\nupgrade: DERP\r\n"
	            "connection: upgrade\r\ncontent-length: 0\r\n\r\n",
	            "POST|/derp||1.1|upgrade keep |0|1:192.0.2.1|1:DERP|");
	/* esp_wireguard: no word of Connection */
	assert_read("GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\r\n",
	            "GET|/derp||1.1|keep |0|1:a|1:WebSocket|");
	assert_read("GET /derp HTTP/1.1\r\n" HOST "TUNN-VERSION: 1\r\n\r\n",
	            "GET|/derp||1.1|keep |0|1:derp.test|0:|0:|0:|1:1|0:");
}

static void fields_of_websocket_and_of_the_portal_probe_are_read(void **state)
{
	(void)state;
	assert_read("GET /derp HTTP/1.1\r\n" HOST "Connection: keep-alive, Upgrade\r\n"
	            "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: derp\r\n\r\n",
	            "GET|/derp||1.1|upgrade keep |0|1:derp.test|1:websocket|0:|0:|0:|"
	            "1:dGhlIHNhbXBsZSBub25jZQ==|1:13|1:derp|0:");
	assert_read("GET /generate_204?t=1700000000 HTTP/1.1\r\n" HOST
	            "X-Tailscale-Challenge: ts_192.0.2.7\r\n\r\n",
	            "GET|/generate_204|t=1700000000|1.1|keep |0|1:derp.test|0:|0:|0:|0:|0:|0:|0:|"
	            "1:ts_192.0.2.7");
}

static void bytes_behind_the_blank_line_are_not_touched(void **state)
{
	static const char *const requests[] = {
		"GET /derp HTTP/1.1\r\n" HOST "Upgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n",
		"GET /derp HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: DERP\r\n\r\n",
		"GET /derp HTTP/1.1\r\n" HOST "Connection: close\r\nUpgrade: DERP\r\n\r\n",
		"POST /derp HTTP/1.1\r\n" HOST "Upgrade: DERP\r\nContent-Length: 0\r\n\r\n",
		"POST /derp HTTP/1.1\r\n" HOST "Upgrade: DERP\r\nContent-Length: 3\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "\r\n",
		"CONNECT a.test:443 HTTP/1.1\r\n" HOST "\r\n",
	};
	static const char surplus[] = "\x02\0\0\0\x48\r\n\r\nGET / HTTP/1.1\r\n";
	char text[300];

	(void)state;
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		size_t len = strlen(requests[i]);
		memcpy(text, requests[i], len);
		memcpy(text + len, surplus, sizeof surplus);
		struct got g = read_all_ways(text, len + sizeof surplus);
		assert_int_equal(g.rc, 0);
		assert_int_equal(g.used, len);
	}
}

static void one_reader_reads_one_request_after_the_other(void **state)
{
	static const char text[] = "GET /a HTTP/1.1\r\n" HOST "Upgrade: x\r\n\r\n"
	                           "\r\nHEAD /b HTTP/1.1\r\n" HOST "\r\n";
	struct http1_reader *r;
	size_t used, at = 0;

	(void)state;
	assert_int_equal(http1_reader_new(&r), 0);
	assert_false(http1_reader_is_inside(r));
	assert_int_equal(http1_reader_feed(r, (const uint8_t *)text, sizeof text - 1, &at), 0);
	assert_true(str_eq(http1_reader_request(r)->path, STR("/a")));
	http1_reader_next(r);
	assert_int_equal(http1_reader_feed(r, (const uint8_t *)text + at, 4, &used), ERR_AGAIN);
	assert_true(http1_reader_is_inside(r));
	at += 4;
	assert_int_equal(http1_reader_feed(r, (const uint8_t *)text + at, sizeof text - 1 - at,
	                                   &used),
	                 0);
	assert_true(str_eq(http1_reader_request(r)->method, STR("HEAD")));
	assert_true(str_eq(http1_reader_request(r)->path, STR("/b")));
	assert_int_equal(http1_reader_request(r)->n_field[HTTP1_UPGRADE], 0);
	http1_reader_free(r);
	http1_reader_free(NULL);
}

static void targets_of_every_form_are_split(void **state)
{
	(void)state;
	assert_read("GET / HTTP/1.0\r\n\r\n", "GET|/||1.0||0|0:");
	assert_read("GET /a?b=/c?d HTTP/1.1\r\n" HOST "\r\n", "GET|/a|b=/c?d|1.1|");
	assert_read("GET /? HTTP/1.1\r\n" HOST "\r\n", "GET|/||1.1|");
	assert_read("GET //derp HTTP/1.1\r\n" HOST "\r\n", "GET|//derp||1.1|");
	assert_read("GET /%64erp HTTP/1.1\r\n" HOST "\r\n", "GET|/%64erp||1.1|");
	assert_read("GET http://a.test/derp?x HTTP/1.1\r\n" HOST "\r\n", "GET|/derp|x|1.1|");
	assert_read("GET http://a.test HTTP/1.1\r\n" HOST "\r\n", "GET|/||1.1|");
	assert_read("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS|*||1.1|");
	assert_read("CONNECT a.test:443 HTTP/1.1\r\n" HOST "\r\n", "CONNECT|a.test:443||1.1|");
	assert_read("\r\n\r\nGET /x HTTP/1.1\r\n" HOST "\r\n", "GET|/x||1.1|");
}

static void a_method_is_any_token(void **state)
{
	(void)state;
	assert_read("BREW /pot?a HTTP/1.1\r\n" HOST "\r\n", "BREW|/pot|a|1.1|keep |0|");
	assert_read("get / HTTP/1.1\r\n" HOST "\r\n", "get|/||1.1|keep |0|");
	assert_read("G / HTTP/1.0\r\n\r\n", "G|/||1.0||0|");
	assert_read("connect /x HTTP/1.1\r\n" HOST "\r\n", "connect|/x||1.1|keep |0|");
	assert_read("x!#$%&'*+-.^_`|~9 * HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\n",
	            "x!#$%&'*+-.^_`|~9|*||1.1|keep |3|");
}

static void the_connection_goes_on_as_the_client_says(void **state)
{
	static const struct {
		const char *version, *fields, *as;
	} rows[] = {
		{ "1.1", "", "keep |0" },
		{ "1.1", "Connection: close\r\n", "|0" },
		{ "1.1", "Connection: foo, CLOSE\r\n", "|0" },
		{ "1.1", "Connection: foo\r\nConnection: close\r\n", "|0" },
		{ "1.0", "", "|0" },
		{ "1.0", "Connection: keep-alive\r\n", "keep say|0" },
		{ "1.0", "Connection: Keep-Alive\r\nContent-Length: 5\r\n", "keep say|5" },
		{ "1.1", "Content-Length: 16384\r\n", "keep |16384" },
		{ "1.1", "Content-Length: 16385\r\n", "|0" },
		{ "1.1", "Content-Length: 5\r\nExpect: 100-continue\r\n", "|0" },
		{ "1.1", "Expect: 100-continue\r\n", "keep |0" },
		{ "1.1", "Transfer-Encoding: chunked\r\n", "|0" },
		{ "1.1", "Transfer-Encoding: gzip, chunked\r\n", "|0" },
	};
	char text[300], as[100];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(text, sizeof text, "POST / HTTP/%s\r\n" HOST "%s\r\n", rows[i].version,
		         rows[i].fields);
		snprintf(as, sizeof as, "POST|/||%s|%s|1:derp.test", rows[i].version, rows[i].as);
		assert_read(text, as);
	}
}

static void of_several_lines_the_first_is_told_and_their_number(void **state)
{
	(void)state;
	assert_read("GET / HTTP/1.1\r\n" HOST "Upgrade:\r\nupgrade: b\r\nSec-WebSocket-Key: k\r\n"
	            "Sec-WebSocket-Key: l\r\n\r\n",
	            "GET|/||1.1|keep |0|1:derp.test|2:|0:|0:|0:|2:k|");
}

/* RFC 9112 11.2: what two readers may understand in two ways. */
static void what_could_smuggle_a_request_is_refused(void **state)
{
	static const char *const bad[] = {
		"POST / HTTP/1.1\r\n" HOST
		"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST
		"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n",
		"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length: -3\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length: 3 3\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length : 3\r\n\r\n",
		"POST / HTTP/1.1\r\n" HOST "Content-Length\t: 3\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X: a\r\n folded\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X: a\r\n\tfolded\r\n\r\n",
		"GET / HTTP/1.1\r\n " HOST "\r\n",
		" GET / HTTP/1.1\r\n" HOST "\r\n",
		"GET / HTTP/1.1\n" HOST "\r\n",
		"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "\n",
		"GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X y: a\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X\xc3\xa4: a\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n",
		"GET / HTTP/1.1\r\n" HOST "X\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_refused(bad[i], strlen(bad[i]), 400);
	static const char nul[] = "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
	assert_refused(nul, sizeof nul - 1, 400);
}

static void a_request_has_one_host(void **state)
{
	static const char *const bad[] = {
		"GET /derp HTTP/1.1\r\n\r\n",
		"GET /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_refused(bad[i], strlen(bad[i]), 400);
	assert_read("GET / HTTP/1.1\r\nHost: [2001:db8::1%25eth0]:443\r\n\r\n", "GET|/|");
}

static void what_is_no_request_is_refused_with_the_status_that_fits(void **state)
{
	static const struct {
		const char *text;
		int status;
	} rows[] = {
		{ "SSH-2.0-OpenSSH_9.2\r\n", 400 },
		{ "\x16\x03\x01\x02", 400 },
		{ "GET /\r\n", 400 },
		{ "GET / HTTP/0.9\r\n", 400 },
		{ "GET / HTTX/1.1\r\n", 400 },
		{ "GET  / HTTP/1.1 \r\n" HOST "\r\n", 400 },
		{ "G\xc3\xa4T / HTTP/1.1\r\n", 400 },
		{ "G(T / HTTP/1.1\r\n", 400 },
		{ "/ HTTP/1.1\r\n", 400 },
		{ "PRI * HTTP/2.0\r\n", 505 },
		{ "GET / HTTP/2.0\r\n", 505 },
		{ "GET / HTTP/3.0\r\n", 505 },
		{ "GET noslash HTTP/1.1\r\n" HOST "\r\n", 400 },
		{ "GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400 },
		{ "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400 },
		{ "CONNECT /x HTTP/1.1\r\n" HOST "\r\n", 400 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_refused(rows[i].text, strlen(rows[i].text), rows[i].status);
}

static void a_fault_stays(void **state)
{
	struct http1_reader *r;
	size_t used;

	(void)state;
	assert_int_equal(http1_reader_new(&r), 0);
	assert_int_equal(http1_reader_feed(r, (const uint8_t *)"\1", 1, &used), ERR_PROTOCOL);
	static const char good[] = "GET / HTTP/1.0\r\n\r\n";
	assert_int_equal(http1_reader_feed(r, (const uint8_t *)good, sizeof good - 1, &used),
	                 ERR_PROTOCOL);
	http1_reader_free(r);
}

static void the_head_is_bounded_in_bytes(void **state)
{
	static char text[HTTP1_HEAD_MAX + 1];

	(void)state;
	for (size_t len = HTTP1_HEAD_MAX; len <= sizeof text; len++) {
		int n = sprintf(text, "GET / HTTP/1.1\r\n" HOST "X: ");
		memset(text + n, 'a', len - (size_t)n);
		memcpy(text + len - 4, "\r\n\r\n", 4);
		if (len <= HTTP1_HEAD_MAX)
			assert_int_equal(read_all_ways(text, len).rc, 0);
		else
			assert_refused(text, len, 431);
	}
	memset(text, '\n', sizeof text);
	for (size_t i = 0; i < sizeof text; i += 2)
		text[i] = '\r'; /* empty lines without end */
	assert_refused(text, sizeof text, 431);
}

static void the_head_is_bounded_in_lines(void **state)
{
	static char text[4096];

	(void)state;
	strcpy(text, "GET / HTTP/1.1\r\n" HOST);
	for (unsigned i = 1; i < HTTP1_LINES_MAX; i++)
		strcat(text, "a: b\r\n");
	size_t allowed = strlen(text);
	strcat(text, "\r\n");
	assert_int_equal(read_all_ways(text, strlen(text)).rc, 0);
	strcpy(text + allowed, "a: b\r\n\r\n");
	assert_refused(text, strlen(text), 431);
}

static void a_head_cut_anywhere_wants_more(void **state)
{
	static const char text[] = "\r\nGET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: DERP\r\n\r\n";

	(void)state;
	for (size_t len = 1; len < sizeof text - 1; len++)
		assert_int_equal(read_all_ways(text, len).rc, ERR_AGAIN);
}

static void tokens_of_lists_are_found_whole_and_in_any_case(void **state)
{
	(void)state;
	assert_true(http1_has_token(STR("derp"), STR("derp")));
	assert_true(http1_has_token(STR(" a ,\tDeRp ,, b"), STR("derp")));
	assert_false(http1_has_token(STR("xderp, derpx"), STR("derp")));
	assert_false(http1_has_token(STR(""), STR("derp")));
	assert_false(http1_has_token(STR(",,"), STR("derp")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_derp_clients_ask_for_is_read),
		cmocka_unit_test(fields_of_websocket_and_of_the_portal_probe_are_read),
		cmocka_unit_test(bytes_behind_the_blank_line_are_not_touched),
		cmocka_unit_test(one_reader_reads_one_request_after_the_other),
		cmocka_unit_test(targets_of_every_form_are_split),
		cmocka_unit_test(a_method_is_any_token),
		cmocka_unit_test(the_connection_goes_on_as_the_client_says),
		cmocka_unit_test(of_several_lines_the_first_is_told_and_their_number),
		cmocka_unit_test(what_could_smuggle_a_request_is_refused),
		cmocka_unit_test(a_request_has_one_host),
		cmocka_unit_test(what_is_no_request_is_refused_with_the_status_that_fits),
		cmocka_unit_test(a_fault_stays),
		cmocka_unit_test(the_head_is_bounded_in_bytes),
		cmocka_unit_test(the_head_is_bounded_in_lines),
		cmocka_unit_test(a_head_cut_anywhere_wants_more),
		cmocka_unit_test(tokens_of_lists_are_found_whole_and_in_any_case),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
