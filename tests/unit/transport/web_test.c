/* Requests that the owner answers, the same over HTTP/1.1 and over h2. */
#include "tests/unit/said.h"

#include <errno.h>

#include "common/base/json.h"
#include "common/wire/h2.h"
#include "tests/unit/transport/back_to_back.h"

extern const struct transport_ops transport_derp, transport_grpc;

#define FORM "application/x-www-form-urlencoded"

/* Somebody with a browser. */
struct visit {
	struct pair p;
	const struct transport_ops *ops;
	struct h2 *h2; /* NULL: HTTP/1.1 */
	struct h2_stream *stream;
	char heard[16384]; /* status, fields, an empty line, body */
	size_t n_heard;
	bool ended;
	uint32_t code;
	int rc; /* of the server's transport */
};

static void hear(struct visit *v, const void *data, size_t len)
{
	assert_true(v->n_heard + len < sizeof v->heard);
	if (len)
		memcpy(v->heard + v->n_heard, data, len);
	v->n_heard += len;
	v->heard[v->n_heard] = 0;
}

static void on_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	(void)st, (void)end;
	for (size_t i = 0; i < head->n; i++) {
		hear(owner, head->fields[i].name.p, head->fields[i].name.len);
		hear(owner, ": ", 2);
		hear(owner, head->fields[i].value.p, head->fields[i].value.len);
		hear(owner, "\r\n", 2);
	}
	hear(owner, "\r\n", 2);
}
static void on_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	(void)st;
	hear(owner, data, len);
}
static void on_end(void *owner, struct h2_stream *st)
{
	(void)st;
	((struct visit *)owner)->ended = true;
}
static void on_closed(void *owner, struct h2_stream *st, uint32_t code)
{
	struct visit *v = owner;

	if (st == v->stream)
		v->stream = NULL;
	v->code = code;
}
static void on_goaway(void *owner, uint32_t code, struct str debug)
{
	(void)owner, (void)code, (void)debug;
}
static void on_ping(void *owner, uint64_t payload) { (void)owner, (void)payload; }
static const struct h2_events browser_events = { on_head,   on_data,   on_end,
	                                         on_closed, on_goaway, on_ping };

/* Until nobody has anything to say. */
static void move(struct visit *v)
{
	struct buf out = { 0 };

	for (unsigned turn = 0; turn < 4; turn++) {
		if (v->h2)
			h2_flush(v->h2, &out, 1 << 20);
		if (v->rc == 0 && buf_len(&out))
			v->rc = v->ops->input(v->p.server, buf_data(&out), buf_len(&out),
			                      v->p.now_ms);
		buf_clear(&out);
		int rc = v->ops->flush(v->p.server, &out, 1 << 20);
		v->rc = v->rc ? v->rc : rc;
		if (v->h2)
			h2_input(v->h2, buf_data(&out), buf_len(&out), v->p.now_ms);
		else
			hear(v, buf_data(&out), buf_len(&out));
		buf_clear(&out);
	}
	buf_done(&out);
}

static void visit_open(struct visit *v, bool over_h2)
{
	memset(v, 0, sizeof *v);
	v->ops = over_h2 ? &transport_grpc : &transport_derp;
	assert_true(pair_open(&v->p, v->ops));
	if (over_h2)
		assert_int_equal(h2_new(H2_CLIENT, &limits_default, v->p.now_ms, &browser_events, v,
		                        &v->h2),
		                 0);
	v->code = UINT32_MAX;
	move(v);
}

static void visit_close(struct visit *v)
{
	h2_free(v->h2);
	pair_close(&v->p, v->ops);
}

static void input(struct visit *v, const char *text)
{
	if (v->rc == 0)
		v->rc = v->ops->input(v->p.server, (const uint8_t *)text, strlen(text),
		                      v->p.now_ms);
}

/* body NULL: none. What is beyond the first bytes of it comes later, by say_more(). */
static void begin(struct visit *v, const char *method, const char *target, const char *type,
                  const char *body, size_t first)
{
	char text[12000];
	const struct h2_field f[] = {
		{ STR(":method"), str_of(method) },    { STR(":scheme"), STR("https") },
		{ STR(":path"), str_of(target) },      { STR(":authority"), STR("r.test:8443") },
		{ STR("origin"), STR("https://o") },   { STR("cookie"), STR("c=d; e=f") },
		{ STR("content-type"), str_of(type) },
	};

	if (v->h2) {
		assert_int_equal(h2_request(v->h2, f, type[0] ? 7 : 6, v, &v->stream), 0);
		if (body)
			buf_add(h2_outgoing(v->stream), body, first);
		if (!body || first == strlen(body))
			h2_finish(v->h2, v->stream, NULL, 0);
		else
			h2_resume(v->h2, v->stream);
		return;
	}
	int n = snprintf(text, sizeof text,
	                 "%s %s HTTP/1.1\r\nHost: r.test:8443\r\nOrigin: https://o\r\nCookie: c=d; "
	                 "e=f\r\n%s%s%s",
	                 method, target, type[0] ? "Content-Type: " : "", type,
	                 type[0] ? "\r\n" : "");
	if (body)
		n += snprintf(text + n, sizeof text - (size_t)n, "Content-Length: %zu\r\n",
		              strlen(body));
	snprintf(text + n, sizeof text - (size_t)n, "\r\n%.*s", (int)first, body ? body : "");
	input(v, text);
}

static void say_more(struct visit *v, const char *text, bool end)
{
	if (!v->h2) {
		input(v, text);
	} else if (v->stream) { /* else it was refused */
		buf_add(h2_outgoing(v->stream), text, strlen(text));
		if (end)
			h2_finish(v->h2, v->stream, NULL, 0);
		h2_resume(v->h2, v->stream);
	}
	move(v);
}

static void ask(struct visit *v, const char *method, const char *target, const char *type,
                const char *body)
{
	begin(v, method, target, type, body, body ? strlen(body) : 0);
	move(v);
}

static void assert_heard(const struct visit *v, const char *words)
{
	if (!strcasestr(v->heard, words))
		fail_msg("not heard: %s\nbut: %s", words, v->heard);
}

static void assert_status(const struct visit *v, int status)
{
	char line[32];

	snprintf(line, sizeof line, v->h2 ? ":status: %d\r\n" : "HTTP/1.1 %d ", status);
	if (strstr(v->heard, line) != v->heard)
		fail_msg("not status %d: %s", status, v->heard);
}

#define EACH_HTTP for (unsigned with_h2 = 0; with_h2 < 2; with_h2++)

/* ---- asking and answering ---- */

static void the_owner_is_asked_with_what_the_request_says(void **state)
{
	struct visit v;

	(void)state;
	EACH_HTTP
	{
		visit_open(&v, with_h2);
		ask(&v, "POST", "/login/token?a=b", FORM, "c=d&e=f");
		assert_int_equal(v.p.n_request, 1);
		assert_string_equal(v.p.asked, "POST|/login/token|a=b|r.test:8443|https://o|c=d; "
		                               "e=f|" FORM "|c=d&e=f|");
		assert_int_equal(v.n_heard, 0);
		visit_close(&v);
	}
}

static void the_answer_comes_whenever_the_owner_has_it(void **state)
{
	struct visit v;

	(void)state;
	EACH_HTTP
	{
		visit_open(&v, with_h2);
		ask(&v, "GET", "/login", "", NULL);
		v.p.now_ms += 3000;
		assert_int_equal(v.ops->tick(v.p.server, v.p.now_ms), 0);
		move(&v);
		assert_int_equal(v.n_heard, 0);
		assert_true(pair_answer(&v.p, 303, "moved"));
		move(&v);
		assert_status(&v, 303);
		assert_heard(&v, "\r\ncontent-type: text/x\r\n");
		assert_heard(&v, "\r\nset-cookie: a=b\r\n");
		assert_heard(&v, "\r\ncontent-length: 5\r\n");
		assert_heard(&v, "\r\n\r\nmoved");
		assert_int_equal(v.p.n_unasked, 0);
		assert_int_equal(v.rc, with_h2 ? 0 : ERR_CLOSED);
		visit_close(&v);
	}
}

static void every_answer_has_the_date(void **state)
{
	struct visit v;

	(void)state;
	EACH_HTTP
	for (unsigned refused = 0; refused < 2; refused++) {
		visit_open(&v, with_h2);
		v.p.server_conf.date = "Sun, 06 Nov 1994 08:49:37 GMT";
		v.p.refuse_requests = refused ? ERR_AGAIN : 0;
		ask(&v, "GET", "/login", "", NULL);
		assert_true(refused || pair_answer(&v.p, 200, "yes"));
		move(&v);
		assert_heard(&v, "\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
		visit_close(&v);
	}
}

static void HEAD_is_answered_without_the_body(void **state)
{
	struct visit v;

	(void)state;
	EACH_HTTP
	{
		visit_open(&v, with_h2);
		ask(&v, "HEAD", "/login", "", NULL);
		assert_true(pair_answer(&v.p, 200, "nobody hears it"));
		move(&v);
		assert_status(&v, 200);
		assert_heard(&v, "\r\ncontent-length: 15\r\n");
		assert_null(strstr(v.heard, "nobody"));
		visit_close(&v);
		visit_open(&v, with_h2);
		v.p.refuse_requests = ERR_AGAIN;
		ask(&v, "HEAD", "/login", "", NULL);
		assert_status(&v, 503);
		assert_string_equal(strstr(v.heard, "\r\n\r\n"), "\r\n\r\n");
		visit_close(&v);
		if (with_h2)
			continue;
		visit_open(&v, false);
		ask(&v, "HEAD", "/login", "text/plain", "x");
		assert_status(&v, 415);
		assert_string_equal(strstr(v.heard, "\r\n\r\n"), "\r\n\r\n");
		visit_close(&v);
	}
}

static void a_body_may_come_in_pieces(void **state)
{
	struct visit v;

	(void)state;
	EACH_HTTP
	{
		visit_open(&v, with_h2);
		begin(&v, "POST", "/login", FORM, "a=1&b=2&c=3", 4);
		move(&v);
		assert_int_equal(v.p.n_request, 0);
		say_more(&v, "b=2&", false);
		assert_int_equal(v.p.n_request, 0);
		say_more(&v, "c=3", true);
		assert_int_equal(v.p.n_request, 1);
		assert_int_equal(v.p.asked_body, 11);
		assert_non_null(strstr(v.p.asked, "|a=1&b=2&c=3|"));
		visit_close(&v);
	}
}

static void other_paths_are_pages_as_ever(void **state)
{
	static const char *const paths[] = { "/", "/login2", "/LOGIN", "/robots.txt?login",
		                             "//login" };
	struct visit v;

	(void)state;
	EACH_HTTP
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		visit_open(&v, with_h2);
		ask(&v, "GET", paths[i], "", NULL);
		assert_int_equal(v.p.n_request, 0);
		assert_status(&v, 200);
		visit_close(&v);
	}
}

static void a_token_in_an_address_is_for_the_owner(void **state)
{
	static const char *const targets[] = { "/tunn_abcdefgh_x", "/?t=tunn_abcdefgh_x",
		                               "/derp/probe?tunn_" };
	struct visit v;

	(void)state;
	EACH_HTTP
	for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
		visit_open(&v, with_h2);
		ask(&v, "GET", targets[i], "", NULL);
		assert_int_equal(v.p.n_request, 1);
		visit_close(&v);
	}
}

/* ---- refusing ---- */

static void what_the_owner_does_not_have_is_404_and_not_now_is_503(void **state)
{
	struct visit v;

	(void)state;
	EACH_HTTP
	{
		visit_open(&v, with_h2);
		v.p.refuse_requests = ERR_NOT_FOUND;
		ask(&v, "GET", "/login", "", NULL);
		assert_status(&v, 404);
		visit_close(&v);
		visit_open(&v, with_h2);
		v.p.refuse_requests = ERR_AGAIN;
		ask(&v, "GET", "/login", "", NULL);
		assert_status(&v, 503);
		assert_int_equal(v.p.n_unasked, 0);
		visit_close(&v);
	}
}

static void a_body_has_at_most_8_KiB(void **state)
{
	char body[WEB_BODY_MAX + 2];
	struct visit v;

	(void)state;
	memset(body, 'a', sizeof body);
	body[WEB_BODY_MAX + 1] = 0;
	EACH_HTTP
	{
		visit_open(&v, with_h2);
		ask(&v, "POST", "/login", FORM, body);
		assert_int_equal(v.p.n_request, 0);
		assert_status(&v, 413);
		visit_close(&v);
		visit_open(&v, with_h2);
		ask(&v, "POST", "/login", FORM, body + 1);
		assert_int_equal(v.p.n_request, 1);
		assert_int_equal(v.p.asked_body, WEB_BODY_MAX);
		visit_close(&v);
	}
}

static void a_body_that_is_no_form_is_refused(void **state)
{
	static const char *const types[] = { "", "text/plain", "multipart/form-data; boundary=x",
		                             FORM "x" };
	static const char *const good[] = { FORM, FORM ";charset=utf-8",
		                            "Application/X-WWW-Form-URLencoded" };
	struct visit v;

	(void)state;
	EACH_HTTP
	{
		for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
			visit_open(&v, with_h2);
			ask(&v, "POST", "/login", types[i], "a=b");
			assert_int_equal(v.p.n_request, 0);
			assert_status(&v, 415);
			visit_close(&v);
		}
		for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
			visit_open(&v, with_h2);
			ask(&v, "POST", "/login", good[i], "a=b");
			assert_int_equal(v.p.n_request, 1);
			visit_close(&v);
		}
	}
}

static void http1_bodies_without_length_or_with_Expect_are_refused(void **state)
{
	struct visit v;

	(void)state;
	visit_open(&v, false);
	input(&v, "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: " FORM
	          "\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n");
	move(&v);
	assert_status(&v, 411);
	visit_close(&v);
	visit_open(&v, false);
	input(&v, "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: " FORM
	          "\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
	move(&v);
	assert_status(&v, 417);
	assert_int_equal(v.p.n_request, 0);
	visit_close(&v);
}

/* ---- who leaves, who is slow, who wants more ---- */

static void whoever_leaves_is_told_to_the_owner_once(void **state)
{
	struct visit v;

	(void)state;
	visit_open(&v, true);
	ask(&v, "GET", "/login", "", NULL);
	assert_non_null(v.stream);
	h2_reset(v.h2, v.stream, H2_CANCEL);
	move(&v);
	assert_int_equal(v.p.n_unasked, 1);
	assert_false(pair_answer(&v.p, 200, "late"));
	assert_int_equal(v.rc, 0);
	visit_close(&v);
}

static void http1_answers_one_request_and_nothing_behind_it(void **state)
{
	struct visit v;

	(void)state;
	visit_open(&v, false);
	ask(&v, "GET", "/login", "", NULL);
	ask(&v, "GET", "/login", "", NULL);
	ask(&v, "GET", "/robots.txt", "", NULL);
	assert_int_equal(v.p.n_request, 1);
	assert_int_equal(v.n_heard, 0);
	assert_true(v.ops->rest_ms(v.p.server) > 0); /* what is sent meanwhile is not wanted */
	assert_true(pair_answer(&v.p, 200, "one"));
	move(&v);
	assert_heard(&v, "\r\nConnection: close\r\n");
	assert_null(strstr(v.heard + 1, "HTTP/1.1"));
	assert_int_equal(v.rc, ERR_CLOSED);
	visit_close(&v);
}

static void h2_answers_several_in_any_order(void **state)
{
	struct visit v;

	(void)state;
	visit_open(&v, true);
	for (unsigned i = 0; i < 3; i++)
		ask(&v, "POST", "/login", FORM, "a=b");
	assert_int_equal(v.p.n_request, 3);
	for (unsigned i = 0; i < 3; i++) {
		v.n_heard = 0;
		assert_true(pair_answer(&v.p, 200, "x"));
		move(&v);
		assert_status(&v, 200);
	}
	visit_close(&v);
}

static void the_bodies_of_one_connection_have_a_bound(void **state)
{
	struct visit v;
	unsigned asked = 0;

	(void)state;
	visit_open(&v, true);
	for (; asked < 60; asked++) {
		v.n_heard = 0;
		ask(&v, "POST", "/login", FORM, "a=b");
		if (v.n_heard)
			break;
	}
	assert_status(&v, 503);
	assert_in_range(asked, 16, 32); /* 256 KiB of 8 KiB each, with their heads */
	while (pair_answer(&v.p, 200, "x"))
		;
	move(&v);
	v.n_heard = 0;
	ask(&v, "POST", "/login", FORM, "a=b");
	assert_int_equal(v.n_heard, 0);
	visit_close(&v);
}

static void a_body_that_trickles_ends_the_request(void **state)
{
	struct visit v;

	(void)state;
	EACH_HTTP
	{
		visit_open(&v, with_h2);
		begin(&v, "POST", "/login", FORM, "a=1&b=2&c=3&d=4", 1);
		move(&v);
		for (unsigned i = 0; i < 12 && v.rc == 0 && v.code == UINT32_MAX; i++) {
			v.p.now_ms += 4000;
			v.rc = v.ops->tick(v.p.server, v.p.now_ms);
			say_more(&v, "x", false);
		}
		if (with_h2)
			assert_int_equal(v.code, H2_CANCEL);
		else
			assert_int_equal(v.rc, -ETIMEDOUT);
		assert_int_equal(v.p.n_request, 0);
		visit_close(&v);
	}
}

static int start(void **state)
{
	(void)state;
	json_start();
	return crypto_start();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_owner_is_asked_with_what_the_request_says),
		cmocka_unit_test(the_answer_comes_whenever_the_owner_has_it),
		cmocka_unit_test(every_answer_has_the_date),
		cmocka_unit_test(HEAD_is_answered_without_the_body),
		cmocka_unit_test(a_body_may_come_in_pieces),
		cmocka_unit_test(other_paths_are_pages_as_ever),
		cmocka_unit_test(a_token_in_an_address_is_for_the_owner),
		cmocka_unit_test(what_the_owner_does_not_have_is_404_and_not_now_is_503),
		cmocka_unit_test(a_body_has_at_most_8_KiB),
		cmocka_unit_test(a_body_that_is_no_form_is_refused),
		cmocka_unit_test(http1_bodies_without_length_or_with_Expect_are_refused),
		cmocka_unit_test(whoever_leaves_is_told_to_the_owner_once),
		cmocka_unit_test(http1_answers_one_request_and_nothing_behind_it),
		cmocka_unit_test(h2_answers_several_in_any_order),
		cmocka_unit_test(the_bodies_of_one_connection_have_a_bound),
		cmocka_unit_test(a_body_that_trickles_ends_the_request),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
