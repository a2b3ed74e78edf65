#include "common/net/fetch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/net/conn.h"
#include "common/wire/http1_response.h"

struct fetch {
	struct loop *loop;
	struct dial_conf dial;
	char host[256], device[64];
	struct dialler *dialler;
	struct tls_ctx *tls;    /* NULL: plain */
	struct conn *conn;      /* once connected */
	struct timer *deadline; /* behind the dialler's own */
	uint32_t timeout_ms;
	uint64_t started_ms;
	struct buf request;
	struct http1_response *response;
	bool cut, over;
	uint64_t asked_ms;
	uint32_t wait_ms;
	fetch_done *done;
	void *owner;
	struct task sweep;
};

static void fetch_free(struct fetch *f)
{
	dialler_free(f->dialler);
	timer_free(f->deadline);
	tls_ctx_unref(f->tls);
	http1_response_free(f->response);
	buf_wipe(&f->request);
	buf_done(&f->request);
	crypto_wipe(&f->dial.proxy, sizeof f->dial.proxy);
	free(f);
}

static void on_sweep(struct task *t) { fetch_free(container_of(t, struct fetch, sweep)); }

/* ---- the end ---- */

/* No event reaches it any more; the answer lives until the sweep. */
static void stop(struct fetch *f)
{
	f->over = true;
	dialler_stop(f->dialler);
	conn_close(f->conn);
	f->conn = NULL;
	timer_clear(f->deadline);
	loop_defer(f->loop, LOOP_SWEEP, &f->sweep);
}

void fetch_cancel(struct fetch *f)
{
	if (f && !f->over)
		stop(f);
}

static void succeed(struct fetch *f)
{
	const struct fetch_answer answer = { .status = http1_response_status(f->response),
		                             .body = http1_response_body(f->response),
		                             .wait_ms = f->wait_ms };

	stop(f);
	f->done(f->owner, &answer, "");
}

__attribute__((format(printf, 2, 3))) static void fail(struct fetch *f, const char *fmt, ...)
{
	char text[FETCH_ERROR_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	stop(f);
	f->done(f->owner, NULL, text);
}

static void on_deadline(void *arg)
{
	struct fetch *f = arg;

	fail(f, "%s:%u: no answer within %u.%u s", f->host, f->dial.port, f->timeout_ms / 1000,
	     f->timeout_ms % 1000 / 100);
}

/* ---- the connection ---- */

static void on_up(void *owner, const char *alpn)
{
	struct fetch *f = owner;

	(void)alpn;
	if (conn_write(f->conn, buf_data(&f->request), buf_len(&f->request)) < 0) {
		fail(f, "out of memory");
		return;
	}
	f->asked_ms = loop_now_ms(f->loop);
	conn_flush(f->conn);
}

static void judge(struct fetch *f, int rc)
{
	bool has_head = http1_response_has_head(f->response);

	if (rc == 0 || (rc == ERR_TOO_BIG && has_head && f->cut))
		succeed(f);
	else if (rc == ERR_TOO_BIG)
		fail(f, "%s:%u: the answer's %s is longer than is allowed", f->host, f->dial.port,
		     has_head ? "body" : "head");
	else
		fail(f, "%s:%u: %s", f->host, f->dial.port,
		     rc == ERR_PROTOCOL ? "the answer is not HTTP" : err_text(rc));
}

static void on_bytes(void *owner, const uint8_t *data, size_t len)
{
	struct fetch *f = owner;
	bool had_head = http1_response_has_head(f->response);
	int rc = http1_response_feed(f->response, data, len);

	if (!had_head && http1_response_has_head(f->response))
		f->wait_ms = (uint32_t)(loop_now_ms(f->loop) - f->asked_ms);
	if (rc != ERR_AGAIN)
		judge(f, rc);
}

static void on_room(void *owner) { (void)owner; }

/* An answer that lasts until the connection ends is whole only if it ended in order:
 * over TLS anybody on the way can end it (RFC 9112 9.8). */
static void on_closed(void *owner, enum close_why why, const char *text)
{
	struct fetch *f = owner;

	f->conn = NULL;
	if (why == (f->tls ? CLOSE_DONE : CLOSE_EOF) && http1_response_end(f->response) == 0)
		succeed(f);
	else if (why == CLOSE_DONE || why == CLOSE_EOF)
		fail(f, "%s:%u: the connection ended before the answer was complete", f->host,
		     f->dial.port);
	else
		fail(f, "%s:%u: %s", f->host, f->dial.port, text[0] ? text : close_text(why));
}

static const struct conn_events conn_events = { on_up, on_bytes, on_room, on_closed };

static void on_connected(void *owner, int fd, const struct addr *peer, const uint8_t *early,
                         size_t early_len)
{
	struct fetch *f = owner;
	const struct conn_conf conf = {
		.fd = fd,
		.tls = f->tls,
		.plain = !f->tls,
		.server_name = f->host,
		.early = early,
		.early_len = early_len,
		.limits = &limits_default,
	};

	(void)peer;
	uint64_t took_ms = loop_now_ms(f->loop) - f->started_ms;
	timer_set(f->deadline, took_ms < f->timeout_ms ? f->timeout_ms - took_ms : 0);
	int rc = conn_open(f->loop, &conf, &conn_events, f, &f->conn);
	if (rc < 0) {
		f->conn = NULL;
		fail(f, "%s:%u: %s", f->host, f->dial.port, err_text(rc));
	}
}

static void on_failed(void *owner, enum close_why why, const char *text)
{
	(void)why;
	fail(owner, "%s", text);
}

static const struct dial_events dial_events = { on_connected, on_failed };

/* ---- the start ---- */

static int url_error(char error_out[static FETCH_ERROR_LEN], const char *why)
{
	snprintf(error_out, FETCH_ERROR_LEN, "the URL %s", why);
	return ERR_INVALID;
}

/* The name is checked by the grammar that all our host options have. */
static int parse(const char *text, struct http1_url *url_out, char host_out[static 256],
                 char error_out[static FETCH_ERROR_LEN])
{
	const char *why;
	char host[256];
	uint16_t unused;
	struct addr ip;

	if (http1_url_of(text, url_out, &why) < 0)
		return url_error(error_out, why);
	if (url_out->host.len >= sizeof host)
		return url_error(error_out, "has a host name that is too long");
	memcpy(host, url_out->host.p, url_out->host.len);
	host[url_out->host.len] = 0;
	if (addr_of_ip(host, 0, &ip) == 0)
		memcpy(host_out, host, sizeof host);
	else if (addr_split_host(host, 443, host_out, 256, &unused) < 0)
		return url_error(error_out, "has no usable host name");
	return 0;
}

int fetch_check_url(const char *url, bool *https_out, char host_out[static 256],
                    char error_out[static FETCH_ERROR_LEN])
{
	struct http1_url u;
	int rc = parse(url, &u, host_out, error_out);

	if (rc == 0)
		*https_out = u.is_https;
	return rc;
}

__attribute__((format(printf, 2, 3))) static int put(struct buf *out, const char *fmt, ...)
{
	char line[HTTP1_URL_MAX + 64];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line)
		return ERR_TOO_BIG;
	return buf_add(out, line, (size_t)n);
}

static int put_host(const struct fetch *f, const struct http1_url *u, struct buf *out)
{
	bool v6 = strchr(f->host, ':') != NULL;
	char port[8] = "";

	if (u->port != (u->is_https ? 443 : 80)) /* RFC 9110 4.2.3 */
		snprintf(port, sizeof port, ":%u", u->port);
	return put(out, "Host: %s%s%s%s\r\n", v6 ? "[" : "", f->host, v6 ? "]" : "", port);
}

static int write_request(const struct fetch *f, const struct fetch_conf *conf,
                         const struct http1_url *u, struct buf *out)
{
	bool bare = u->target.len == 0 || u->target.p[0] == '?';
	int rc = put(out, "%s %s%.*s HTTP/1.1\r\n", conf->method ? conf->method : "GET",
	             bare ? "/" : "", (int)u->target.len, u->target.p);

	if (rc == 0)
		rc = put_host(f, u, out);
	if (rc == 0)
		rc = put(out, "User-Agent: tunn/" TUNN_VERSION "\r\nConnection: close\r\n");
	if (rc == 0 && conf->type)
		rc = put(out, "Content-Type: %s\r\n", conf->type);
	if (rc == 0 && conf->bearer.len)
		rc = put(out, "Authorization: Bearer %.*s\r\n", (int)conf->bearer.len,
		         conf->bearer.p);
	if (rc == 0 && conf->body.len)
		rc = put(out, "Content-Length: %zu\r\n", conf->body.len);
	if (rc == 0)
		rc = put(out, "\r\n");
	return rc == 0 ? buf_add(out, conf->body.p, conf->body.len) : rc;
}

static int set_up(struct fetch *f, const struct fetch_conf *conf, const struct http1_url *u)
{
	f->dial = (struct dial_conf){ .host = f->host, .port = u->port, .fwmark = conf->fwmark };
	if (conf->proxy)
		f->dial.proxy = *conf->proxy;
	if (conf->ipv4)
		f->dial.ipv4 = *conf->ipv4;
	if (conf->ipv6)
		f->dial.ipv6 = *conf->ipv6;
	if (conf->bind_device) {
		snprintf(f->device, sizeof f->device, "%s", conf->bind_device);
		f->dial.bind_device = f->device;
	}
	f->tls = u->is_https ? tls_ctx_ref(conf->tls) : NULL;
	f->dialler = dialler_new(f->loop, &f->dial, &dial_events, f);
	f->deadline = timer_new(f->loop, on_deadline, f);
	if (!f->dialler || !f->deadline)
		return -ENOMEM;
	int rc = write_request(f, conf, u, &f->request);
	return rc == 0 ? http1_response_new(conf->max_body, &f->response) : rc;
}

int fetch_start(struct loop *loop, const struct fetch_conf *conf, fetch_done *done, void *owner,
                struct fetch **fetch_out, char error_out[static FETCH_ERROR_LEN])
{
	char host[256];
	struct http1_url u;
	int rc = parse(conf->url, &u, host, error_out);

	if (rc < 0)
		return rc;
	if (u.is_https && !conf->tls) {
		snprintf(error_out, FETCH_ERROR_LEN, "https needs certificates to trust");
		return ERR_CONFIG;
	}
	struct fetch *f = calloc(1, sizeof *f);
	if (f) {
		*f = (struct fetch){ .loop = loop, .done = done, .owner = owner };
		f->cut = conf->cut;
		f->timeout_ms = conf->timeout_ms;
		f->started_ms = loop_now_ms(loop);
		f->sweep.cb = on_sweep;
		memcpy(f->host, host, sizeof host);
	}
	rc = f ? set_up(f, conf, &u) : -ENOMEM;
	if (rc < 0) {
		if (f)
			fetch_free(f);
		snprintf(error_out, FETCH_ERROR_LEN, "%s", err_text(rc));
		return rc;
	}
	dialler_start(f->dialler, f->timeout_ms);
	*fetch_out = f;
	return 0;
}
