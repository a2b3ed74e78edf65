#include "common/net/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/net/conn.h"
#include "common/net/resolve.h"
#include "common/net/route.h"

enum {
	STAGGER_MS = 250, /* RFC 8305 section 5 */
	PROXY_REPLY_MS = 15000,
	RESOLVE_MS = 5000, /* then the last good addresses are tried */
	REPLY_CHUNK = 4096,
	TEXT_LEN = 512,
};

struct addrs {
	struct addr v[RESOLVE_MAX];
	size_t n;
};

struct attempt { /* one socket on its way */
	struct dialler *dialler;
	int fd; /* -1: unused */
	struct addr to;
	struct watch *watch;
	struct proxy *proxy; /* CONNECT is underway */
	struct buf request;
};

struct dialler {
	struct loop *loop;
	const struct dial_conf *conf;
	const struct dial_events *events;
	void *owner;
	char device[ROUTE_DEVICE_LEN]; /* override of conf->bind_device */
	struct resolve *resolve;
	struct addrs list, good, bad; /* to try now; proved good; connected in vain */
	struct addr last;             /* that won */
	size_t next;
	struct attempt attempts[RESOLVE_MAX];
	unsigned n_open;
	struct timer *stagger, *deadline, *resolving;
	uint32_t timeout_ms;
	enum close_why why; /* of the last failed attempt */
	char text[TEXT_LEN];
	struct task report; /* the event is never told from inside start */
};

static void next_attempt(struct dialler *d);

static bool addrs_have(const struct addrs *l, const struct addr *a)
{
	for (size_t i = 0; i < l->n; i++)
		if (addr_eq(&l->v[i], a))
			return true;
	return false;
}

static void addrs_add(struct addrs *l, const struct addr *a)
{
	if (l->n < RESOLVE_MAX && !addrs_have(l, a))
		l->v[l->n++] = *a;
}

static const char *target_host(const struct dialler *d)
{
	return d->conf->proxy.used ? d->conf->proxy.host : d->conf->host;
}

static uint16_t target_port(const struct dialler *d)
{
	return d->conf->proxy.used ? d->conf->proxy.port : d->conf->port;
}

__attribute__((format(printf, 3, 4))) static void note(struct dialler *d, enum close_why why,
                                                       const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(d->text, sizeof d->text, fmt, ap);
	va_end(ap);
	d->why = why;
}

/* ---- ending ---- */

static void attempt_end(struct attempt *a)
{
	if (a->fd < 0)
		return;
	watch_free(a->watch);
	close(a->fd);
	proxy_free(a->proxy);
	buf_done(&a->request);
	*a = (struct attempt){ .dialler = a->dialler, .fd = -1 };
	a->dialler->n_open--;
}

void dialler_stop(struct dialler *d)
{
	resolve_cancel(d->resolve);
	d->resolve = NULL;
	for (size_t i = 0; i < RESOLVE_MAX; i++)
		attempt_end(&d->attempts[i]);
	timer_clear(d->stagger);
	timer_clear(d->deadline);
	timer_clear(d->resolving);
	loop_undefer(d->loop, LOOP_PUMP, &d->report);
}

static void on_report(struct task *t)
{
	struct dialler *d = container_of(t, struct dialler, report);

	dialler_stop(d);
	d->events->failed(d->owner, d->why, d->text);
}

static void give_up(struct dialler *d) { loop_defer(d->loop, LOOP_PUMP, &d->report); }

static void won(struct attempt *a, const uint8_t *early, size_t early_len)
{
	struct dialler *d = a->dialler;
	int fd = a->fd;
	struct addr peer = a->to;

	d->last = a->to;
	watch_free(a->watch);
	proxy_free(a->proxy);
	buf_done(&a->request);
	*a = (struct attempt){ .dialler = d, .fd = -1 };
	d->n_open--;
	dialler_stop(d);
	d->events->connected(d->owner, fd, &peer, early, early_len);
}

static void attempt_failed(struct attempt *a)
{
	struct dialler *d = a->dialler;

	attempt_end(a);
	if (d->next < d->list.n)
		next_attempt(d);
	else if (d->n_open == 0)
		give_up(d);
}

/* The proxy's other addresses would say the same, and each wrong login brings
 * an account nearer to being locked. */
static void denied(struct dialler *d)
{
	dialler_stop(d);
	give_up(d);
}

/* ---- CONNECT ---- */

static void send_request(struct attempt *a)
{
	while (buf_len(&a->request)) {
		ssize_t n = send(a->fd, buf_data(&a->request), buf_len(&a->request), MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			note(a->dialler, CLOSE_PROXY, "proxy %s:%u: %s", target_host(a->dialler),
			     target_port(a->dialler), strerror(errno));
			attempt_failed(a);
			return;
		}
		buf_eat(&a->request, (size_t)n);
	}
	watch_want(a->watch, WATCH_READ);
}

static void read_reply(struct attempt *a)
{
	uint8_t data[REPLY_CHUNK];
	size_t used = 0;
	ssize_t n = recv(a->fd, data, sizeof data, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		note(a->dialler, CLOSE_PROXY, "proxy %s:%u closed the connection without an answer",
		     target_host(a->dialler), target_port(a->dialler));
		attempt_failed(a);
		return;
	}
	int rc = proxy_reply(a->proxy, data, (size_t)n, &used);
	if (rc == 0) {
		won(a, data + used, (size_t)n - used);
	} else if (rc != ERR_AGAIN) {
		note(a->dialler, proxy_why(a->proxy), "%s", proxy_text(a->proxy));
		if (proxy_why(a->proxy) == CLOSE_PROXY_DENIED)
			denied(a->dialler);
		else
			attempt_failed(a);
	}
}

static void start_connect(struct attempt *a)
{
	struct dialler *d = a->dialler;

	if (proxy_new(&d->conf->proxy, d->conf->host, d->conf->port, &a->proxy) < 0 ||
	    proxy_request(a->proxy, &a->request) < 0) {
		note(d, CLOSE_NOMEM, "out of memory");
		attempt_failed(a);
		return;
	}
	send_request(a);
}

/* ---- connecting ---- */

static void on_event(void *arg, unsigned what)
{
	struct attempt *a = arg;
	int err = 0;
	socklen_t len = sizeof err;

	if (a->proxy) {
		if (what == WATCH_READ)
			read_reply(a);
		else
			send_request(a);
		return;
	}
	getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		char text[ADDR_TEXT_LEN];
		note(a->dialler, CLOSE_NETWORK, "%s%s (%s): %s",
		     a->dialler->conf->proxy.used ? "proxy " : "", target_host(a->dialler),
		     addr_text(&a->to, text), strerror(err));
		attempt_failed(a);
	} else if (a->dialler->conf->proxy.used) {
		start_connect(a);
	} else {
		won(a, NULL, 0);
	}
}

static int set_way(struct dialler *d, int fd)
{
	const char *device = d->device[0] ? d->device : d->conf->bind_device;

	if (d->conf->fwmark &&
	    setsockopt(fd, SOL_SOCKET, SO_MARK, &d->conf->fwmark, sizeof d->conf->fwmark) < 0) {
		note(d, CLOSE_NETWORK, "--fwmark %u: %s (needs CAP_NET_ADMIN)", d->conf->fwmark,
		     strerror(errno));
		return -1;
	}
	if (device &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0) {
		note(d, CLOSE_NETWORK, "SO_BINDTODEVICE %s failed: %s", device, strerror(errno));
		return -1;
	}
	return 0;
}

static int open_attempt(struct attempt *a)
{
	struct dialler *d = a->dialler;
	char text[ADDR_TEXT_LEN];

	a->fd = socket(a->to.ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0) {
		note(d, CLOSE_NETWORK, "socket: %s", strerror(errno));
		return -1;
	}
	d->n_open++;
	if (set_way(d, a->fd) < 0)
		return -1;
	conn_tune(a->fd);
	if (connect(a->fd, (const struct sockaddr *)&a->to.ss, a->to.len) < 0 &&
	    errno != EINPROGRESS) {
		note(d, CLOSE_NETWORK, "%s (%s): %s", target_host(d), addr_text(&a->to, text),
		     strerror(errno));
		return -1;
	}
	a->watch = watch_new(d->loop, a->fd, on_event, a);
	return a->watch && watch_want(a->watch, WATCH_WRITE) == 0 ? 0 : -1;
}

static void next_attempt(struct dialler *d)
{
	timer_clear(d->stagger);
	while (d->next < d->list.n) {
		struct attempt *a = &d->attempts[d->next];
		a->to = d->list.v[d->next++];
		if (open_attempt(a) == 0) {
			if (d->next < d->list.n)
				timer_set(d->stagger, STAGGER_MS);
			return;
		}
		attempt_end(a);
	}
	if (d->n_open == 0)
		give_up(d);
}

static void on_stagger(void *arg) { next_attempt(arg); }

/* ---- resolving ---- */

/* What the name gives now, then what was good before, then what was not. */
static void try_all(struct dialler *d, const struct addrs *found)
{
	const struct addrs *from[] = { found, &d->good };

	d->list.n = d->next = 0;
	for (unsigned last = 0; last < 2; last++)
		for (unsigned k = 0; k < 2; k++)
			for (size_t i = 0; i < from[k]->n; i++)
				if (addrs_have(&d->bad, &from[k]->v[i]) == last)
					addrs_add(&d->list, &from[k]->v[i]);
	next_attempt(d);
}

/* Has the conf the last word on the family? */
static bool is_settled(const struct dialler *d, const struct dial_family *f)
{
	return !d->conf->proxy.used && (f->off || f->at.len);
}

static void add_settled(struct dialler *d, const struct dial_family *f, struct addrs *list)
{
	struct addr a = f->at;

	if (!is_settled(d, f) || f->off)
		return;
	addr_set_port(&a, d->conf->port);
	addrs_add(list, &a);
}

static void try_found(struct dialler *d, const struct addr *found, size_t n)
{
	struct addrs list = { .n = 0 };

	add_settled(d, &d->conf->ipv6, &list);
	add_settled(d, &d->conf->ipv4, &list);
	for (size_t i = 0; i < n; i++)
		if (!is_settled(d, found[i].ss.ss_family == AF_INET6 ? &d->conf->ipv6 :
		                                                       &d->conf->ipv4))
			addrs_add(&list, &found[i]);
	try_all(d, &list);
}

static void try_good(struct dialler *d, const char *error)
{
	note(d, CLOSE_NETWORK, "cannot resolve %s: %s", target_host(d), error);
	try_found(d, NULL, 0);
}

static void on_resolved(void *owner, const struct addr *addrs, size_t n, const char *error)
{
	struct dialler *d = owner;

	d->resolve = NULL;
	timer_clear(d->resolving);
	if (n == 0) {
		try_good(d, error);
		return;
	}
	try_found(d, addrs, n);
}

static void on_slow_resolve(void *arg)
{
	struct dialler *d = arg;

	if (d->good.n == 0)
		return; /* nothing better to do than to wait on */
	resolve_cancel(d->resolve);
	d->resolve = NULL;
	try_good(d, "no answer");
}

static void on_deadline(void *arg)
{
	struct dialler *d = arg;

	if (d->resolve)
		note(d, CLOSE_SLOW_START, "cannot resolve %s: no answer", target_host(d));
	else
		note(d, CLOSE_SLOW_START, "%s%s:%u: no answer within %u s",
		     d->conf->proxy.used ? "proxy " : "", target_host(d), target_port(d),
		     d->timeout_ms / 1000);
	give_up(d);
}

/* ---- life ---- */

struct dialler *dialler_new(struct loop *loop, const struct dial_conf *conf,
                            const struct dial_events *events, void *owner)
{
	struct dialler *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	*d = (struct dialler){ .loop = loop, .conf = conf, .events = events, .owner = owner };
	d->report.cb = on_report;
	for (size_t i = 0; i < RESOLVE_MAX; i++)
		d->attempts[i] = (struct attempt){ .dialler = d, .fd = -1 };
	d->stagger = timer_new(loop, on_stagger, d);
	d->deadline = timer_new(loop, on_deadline, d);
	d->resolving = timer_new(loop, on_slow_resolve, d);
	if (!d->stagger || !d->deadline || !d->resolving) {
		dialler_free(d);
		return NULL;
	}
	return d;
}

void dialler_start(struct dialler *d, uint32_t timeout_ms)
{
	dialler_stop(d);
	d->list.n = d->next = 0;
	d->timeout_ms = d->conf->proxy.used && timeout_ms > PROXY_REPLY_MS ? PROXY_REPLY_MS :
	                                                                     timeout_ms;
	note(d, CLOSE_NETWORK, "%s has no address", target_host(d));
	timer_set(d->deadline, d->timeout_ms);
	if (is_settled(d, &d->conf->ipv4) && is_settled(d, &d->conf->ipv6)) {
		try_found(d, NULL, 0);
		return;
	}
	if (resolve_start(d->loop, target_host(d), target_port(d), on_resolved, d, &d->resolve) <
	    0) {
		d->resolve = NULL;
		note(d, CLOSE_NOMEM, "out of memory");
		give_up(d);
		return;
	}
	timer_set(d->resolving, RESOLVE_MS);
}

void dialler_free(struct dialler *d)
{
	if (!d)
		return;
	if (d->stagger && d->deadline && d->resolving)
		dialler_stop(d);
	timer_free(d->stagger);
	timer_free(d->deadline);
	timer_free(d->resolving);
	free(d);
}

void dialler_judge(struct dialler *d, bool is_good)
{
	struct addrs good = { .v = { d->last }, .n = 1 };

	if (!d->last.len)
		return;
	if (!is_good) {
		if (addrs_have(&d->bad, &d->last) || d->bad.n == RESOLVE_MAX)
			d->bad.n = 0; /* they had their turn, this one last */
		addrs_add(&d->bad, &d->last);
		return;
	}
	for (size_t i = 0; i < d->list.n; i++)
		if (!addrs_have(&d->bad, &d->list.v[i]))
			addrs_add(&good, &d->list.v[i]);
	d->good = good;
	d->bad.n = 0;
}

void dialler_set_device(struct dialler *d, const char *device)
{
	snprintf(d->device, sizeof d->device, "%s", device);
}
