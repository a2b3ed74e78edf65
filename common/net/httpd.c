#include "common/net/httpd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/net/conn.h"
#include "common/net/listener.h"
#include "common/wire/http1.h"

enum {
	LISTENERS_MAX = 16,
	WAIT_MS = 10000,   /* for a request, for the next one, for an answer to move */
	ANSWER_MS = 60000, /* for a whole answer to be taken */
	TICK_MS = 500,
	INPUT_MAX = 2 * HTTPD_BODY_MAX, /* a request, and what came behind it */
	DATE_LEN = 40,
};

struct httpd {
	struct loop *loop;
	struct httpd_conf conf;
	struct listener *listeners[LISTENERS_MAX];
	unsigned n_listeners;
	struct timer *tick; /* runs while somebody is there */
	struct list clients;
	unsigned n_clients;
};

/* A connection; what is asked on it outlives it until the answer. */
struct client {
	struct httpd_request request; /* first: the owner's pointer is this client */
	struct httpd *httpd;
	struct list node;  /* in httpd.clients, the oldest first */
	struct conn *conn; /* NULL: gone */
	struct http1_reader *reader;
	struct buf in, out;
	struct buf body; /* of the request */
	size_t n_head;
	bool has_head; /* a head is complete, its body comes */
	bool asked;    /* the owner has the request */
	bool last;     /* the connection ends behind what is in `out` */
	bool inside;   /* pump() runs */
	uint64_t due_ms;
	struct task sweep;
};

/* ---- ending ---- */

static void client_free(struct client *c)
{
	list_del(&c->node);
	c->httpd->n_clients--;
	loop_undefer(c->httpd->loop, LOOP_SWEEP, &c->sweep);
	http1_reader_free(c->reader);
	buf_wipe(&c->in);
	buf_wipe(&c->body);
	buf_done(&c->in);
	buf_done(&c->body);
	buf_done(&c->out);
	free(c);
}

static void on_sweep(struct task *t) { client_free(container_of(t, struct client, sweep)); }

/* Its connection is gone. The memory goes when nobody looks at it any more. */
static void bury(struct client *c)
{
	c->conn = NULL;
	if (!c->asked)
		loop_defer(c->httpd->loop, LOOP_SWEEP, &c->sweep);
}

static void hang_up(struct client *c, bool politely)
{
	struct conn *conn = c->conn;

	if (!conn)
		return;
	if (politely)
		conn_close(conn);
	else
		conn_reset(conn);
	bury(c);
}

/* ---- answers ---- */

/* What the connection has room for; the rest when it has room again. */
static void push(struct client *c)
{
	size_t room;

	while (c->conn && buf_len(&c->out) && (room = conn_room(c->conn, buf_len(&c->out))) > 0) {
		size_t n = buf_len(&c->out) < room ? buf_len(&c->out) : room;
		if (conn_write(c->conn, buf_data(&c->out), n) < 0) {
			hang_up(c, false);
			return;
		}
		buf_eat(&c->out, n);
		conn_flush(c->conn); /* may tell that it is gone */
	}
	if (!c->conn || buf_len(&c->out))
		return;
	buf_clear(&c->out);
	if (c->last && conn_unsent(c->conn) == 0)
		hang_up(c, true);
}

static void push_answer(struct client *c)
{
	push(c);
	if (c->conn && !buf_len(&c->out)) /* for the next request */
		c->due_ms = loop_now_ms(c->httpd->loop) + WAIT_MS;
}

static const char *date_of_now(char out[static DATE_LEN])
{
	time_t now = (time_t)(clock_unix_ms() / 1000);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(out, DATE_LEN, "%a, %d %b %Y %H:%M:%S GMT", &tm); /* nobody sets a locale */
	return out;
}

static void forget_request(struct client *c)
{
	http1_reader_next(c->reader);
	c->request = (struct httpd_request){ .peer = c->request.peer, .local = c->request.local };
	c->has_head = false;
	c->n_head = 0;
	buf_wipe(&c->body);
	if (buf_len(&c->in) == 0)
		buf_wipe(&c->in);
}

static void respond(struct client *c, const struct httpd_answer *a, bool persists)
{
	const struct http1_request *q = http1_reader_request(c->reader);
	struct http1_field fields[HTTPD_FIELDS_MAX + 1];
	char date[DATE_LEN];
	struct http1_answer answer = { .status = a->status, .fields = fields, .body = a->body };

	if (a->type)
		fields[answer.n_fields++] = (struct http1_field){ STR("Content-Type"),
			                                          str_of(a->type) };
	for (size_t i = 0; i < a->n_fields && i < HTTPD_FIELDS_MAX; i++)
		fields[answer.n_fields++] = (struct http1_field){ a->fields[i].name,
			                                          a->fields[i].value };
	answer.date = str_of(date_of_now(date));
	answer.to_head = str_eq(q->method, STR("HEAD"));
	answer.close = !persists;
	answer.say_keep_alive = persists && q->minor == 0;
	if (c->httpd->conf.answered)
		c->httpd->conf.answered(c->httpd->conf.owner, a->status);
	c->last = !persists;
	c->due_ms = loop_now_ms(c->httpd->loop) + ANSWER_MS;
	if (http1_respond(&c->out, &answer) < 0) {
		hang_up(c, false);
		return;
	}
	forget_request(c);
	push_answer(c);
}

/* Before the owner has seen anything, and the end of the connection. */
static void refuse(struct client *c, int status)
{
	static const struct httpd_field allow = { STR("Allow"), STR("GET, HEAD") };
	struct httpd_answer a = { .status = status, .type = "text/plain; charset=utf-8" };

	if (status == 405) {
		a.fields = &allow;
		a.n_fields = 1;
	}
	a.body = str_of(status == 405 ? "only GET and HEAD\n" :
	                status == 408 ? "too slow\n" :
	                status == 411 ? "a body needs a Content-Length\n" :
	                status == 413 ? "the body is longer than 64 KiB\n" :
	                status == 431 ? "the head is longer than 8 KiB\n" :
	                                "not a request that can be read\n");
	respond(c, &a, false);
}

/* ---- requests ---- */

static bool may_ask(const struct client *c, const struct http1_request *q)
{
	const struct httpd_conf *conf = &c->httpd->conf;

	return str_eq(q->method, STR("GET")) || str_eq(q->method, STR("HEAD")) ||
	       (conf->takes && conf->takes(conf->owner, q->method, q->path));
}

/* The head is there. False: it was answered. */
static bool judge_head(struct client *c)
{
	const struct http1_request *q = http1_reader_request(c->reader);
	int status = !may_ask(c, q)                  ? 405 :
	             q->is_chunked                   ? 411 :
	             q->content_len > HTTPD_BODY_MAX ? 413 :
	                                               0;

	c->has_head = true;
	if (status) {
		refuse(c, status);
		return false;
	}
	if (q->expects && buf_len(&c->in) == 0) {
		static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
		if (buf_add(&c->out, go_on, sizeof go_on - 1) < 0)
			hang_up(c, false);
		push(c);
	}
	return c->conn != NULL;
}

/* True: a head is complete, and its request may go on. */
static bool take_head(struct client *c)
{
	size_t len = buf_len(&c->in), used = len;
	bool was_inside = http1_reader_is_inside(c->reader);
	int rc = http1_reader_feed(c->reader, buf_data(&c->in), len, &used);

	buf_eat(&c->in, used);
	c->n_head += used;
	if (!was_inside && (rc == 0 || http1_reader_is_inside(c->reader)))
		c->due_ms = loop_now_ms(c->httpd->loop) + WAIT_MS;
	if (c->n_head > HTTPD_HEAD_MAX) {
		refuse(c, 431);
		return false;
	}
	if (rc < 0 && rc != ERR_AGAIN) {
		refuse(c, http1_reader_fault(c->reader) ? http1_reader_fault(c->reader) : 400);
		return false;
	}
	return rc == 0 && judge_head(c);
}

/* What comes behind it moves the input. */
static bool take_body(struct client *c)
{
	size_t n = (size_t)http1_reader_request(c->reader)->content_len;

	if (buf_add(&c->body, buf_data(&c->in), n) < 0) {
		hang_up(c, false);
		return false;
	}
	buf_eat(&c->in, n);
	return true;
}

static void hand_over(struct client *c)
{
	static const enum http1_name seen[] = { HTTP1_HOST, HTTP1_AUTHORIZATION, HTTP1_ORIGIN,
		                                HTTP1_SEC_FETCH_SITE };
	const struct http1_request *q = http1_reader_request(c->reader);
	struct httpd_request *r = &c->request;

	r->method = q->method;
	r->path = q->path;
	r->query = q->query;
	r->body = (struct str){ (const char *)buf_data(&c->body), buf_len(&c->body) };
	r->host = q->field[HTTP1_HOST];
	r->authorization = q->field[HTTP1_AUTHORIZATION];
	r->origin = q->field[HTTP1_ORIGIN];
	r->sec_fetch_site = q->field[HTTP1_SEC_FETCH_SITE];
	r->if_none_match = q->field[HTTP1_IF_NONE_MATCH];
	for (size_t i = 0; i < sizeof seen / sizeof *seen; i++)
		r->has_twice |= q->n_field[seen[i]] > 1;
	c->asked = true;
	c->httpd->conf.route(c->httpd->conf.owner, r);
}

static void pump(struct client *c)
{
	if (c->inside)
		return;
	c->inside = true;
	/* An answer has to leave before the next request is looked at. */
	while (c->conn && !c->asked && !c->last && !buf_len(&c->out) &&
	       (buf_len(&c->in) || c->has_head)) {
		if (!c->has_head && !take_head(c))
			continue;
		if (buf_len(&c->in) < http1_reader_request(c->reader)->content_len)
			break;
		if (take_body(c))
			hand_over(c);
	}
	c->inside = false;
}

void httpd_answer(struct httpd_request *r, const struct httpd_answer *a)
{
	struct client *c = (struct client *)(void *)r;
	const struct http1_request *q = http1_reader_request(c->reader);

	c->asked = false;
	if (!c->conn) {
		loop_defer(c->httpd->loop, LOOP_SWEEP, &c->sweep);
		return;
	}
	respond(c, a, q->persists);
	pump(c);
}

/* ---- connections ---- */

static void on_up(void *owner, const char *alpn) { (void)owner, (void)alpn; }

static void on_bytes(void *owner, const uint8_t *data, size_t len)
{
	struct client *c = owner;

	if (c->last) /* nobody reads it */
		return;
	if (buf_len(&c->in) + len > INPUT_MAX || buf_add(&c->in, data, len) < 0) {
		hang_up(c, false);
		return;
	}
	pump(c);
}

static void on_room(void *owner)
{
	struct client *c = owner;

	push_answer(c);
	pump(c);
}

static void on_closed(void *owner, enum close_why why, const char *text)
{
	(void)why, (void)text;
	bury(owner);
}

static const struct conn_events conn_events = { on_up, on_bytes, on_room, on_closed };

/* The oldest that asks nothing at the moment. */
static bool make_room(struct httpd *h)
{
	list_each(it, tmp, &h->clients) {
		struct client *c = container_of(it, struct client, node);
		if (!c->conn || c->asked)
			continue;
		hang_up(c, false);
		return true;
	}
	return false;
}

/* Who asked and went holds its place until the answer: else asking and going, over and over,
 * would give the owner more to do than there may be connections. */
static unsigned n_held(const struct httpd *h)
{
	unsigned n = 0;

	list_each(it, tmp, &h->clients) {
		const struct client *c = container_of(it, struct client, node);
		n += c->conn || c->asked;
	}
	return n;
}

static struct client *client_new(struct httpd *h, const struct addr *peer)
{
	struct client *c = calloc(1, sizeof *c);

	if (!c || http1_reader_new(&c->reader) < 0) {
		free(c);
		return NULL;
	}
	c->httpd = h;
	c->sweep.cb = on_sweep;
	c->request.peer = *peer;
	c->due_ms = loop_now_ms(h->loop) + WAIT_MS;
	list_add_tail(&h->clients, &c->node);
	h->n_clients++;
	return c;
}

static void on_accepted(void *owner, int fd, const struct addr *peer)
{
	struct httpd *h = owner;
	struct conn_conf conf = {
		.fd = fd, .tls = h->conf.tls, .plain = !h->conf.tls, .limits = &limits_default
	};
	struct client *c = NULL;

	if (n_held(h) < h->conf.max_conns || make_room(h))
		c = client_new(h, peer);
	if (!c) {
		close(fd);
		return;
	}
	if (conn_open(h->loop, &conf, &conn_events, c, &c->conn) < 0) {
		c->conn = NULL;
		client_free(c);
		return;
	}
	c->request.local = *conn_local(c->conn);
	if (!timer_is_set(h->tick))
		timer_set(h->tick, TICK_MS);
}

unsigned httpd_n_conns(const struct httpd *h)
{
	unsigned n = 0;

	list_each(it, tmp, &h->clients) {
		const struct client *c = container_of(it, struct client, node);
		n += c->conn != NULL;
	}
	return n;
}

/* ---- time ---- */

static bool is_stalled(const struct client *c, uint64_t now_ms)
{
	return (conn_unsent(c->conn) || buf_len(&c->out)) &&
	       now_ms - conn_progress_ms(c->conn) > WAIT_MS;
}

static void look_at(struct client *c, uint64_t now_ms)
{
	if (!c->conn)
		return;
	if (is_stalled(c, now_ms)) {
		hang_up(c, false);
	} else if (c->asked) {
		return; /* the owner has its own time */
	} else if (now_ms > c->due_ms) {
		if (!c->last && (c->has_head || http1_reader_is_inside(c->reader)))
			refuse(c, 408);
		hang_up(c, true);
	} else if (c->last) {
		push(c);
	}
}

static void on_tick(void *arg)
{
	struct httpd *h = arg;

	list_each(it, tmp, &h->clients)
		look_at(container_of(it, struct client, node), loop_now_ms(h->loop));
	if (h->n_clients)
		timer_set(h->tick, TICK_MS);
}

/* ---- life ---- */

int httpd_new(struct loop *loop, const struct httpd_conf *conf, struct httpd **httpd_out)
{
	struct httpd *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	h->loop = loop;
	h->conf = *conf;
	if (!h->conf.max_conns || h->conf.max_conns > HTTPD_CONNS_MAX)
		h->conf.max_conns = HTTPD_CONNS_MAX;
	if (h->conf.tls)
		tls_ctx_ref(h->conf.tls);
	list_init(&h->clients);
	h->tick = timer_new(loop, on_tick, h);
	if (!h->tick) {
		httpd_free(h);
		return -ENOMEM;
	}
	*httpd_out = h;
	return 0;
}

int httpd_listen(struct httpd *h, int fd, struct addr *bound_out)
{
	if (h->n_listeners == LISTENERS_MAX) {
		close(fd);
		return -EMFILE;
	}
	int rc = listener_open(h->loop, fd, on_accepted, h, &h->listeners[h->n_listeners],
	                       bound_out);
	if (rc == 0)
		h->n_listeners++;
	return rc;
}

void httpd_set_tls(struct httpd *h, struct tls_ctx *tls)
{
	tls_ctx_ref(tls);
	tls_ctx_unref(h->conf.tls);
	h->conf.tls = tls;
}

void httpd_free(struct httpd *h)
{
	if (!h)
		return;
	for (unsigned i = 0; i < h->n_listeners; i++)
		listener_close(h->listeners[i]);
	list_each(it, tmp, &h->clients) {
		struct client *c = container_of(it, struct client, node);
		if (c->conn)
			conn_close(c->conn);
		client_free(c);
	}
	timer_free(h->tick);
	tls_ctx_unref(h->conf.tls);
	free(h);
}
