#include "common/net/conn.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/list.h"
#include "common/base/metric.h"

enum {
	READ_BYTES = 65536,
	READ_FEW = 4096, /* of a conn that was narrowed; what makes a record whole is the rest of it
	                  */
	NARROW_MIN = 16384, /* the window of a narrow conn: some segments, even at the least rate */
	NARROW_MS = 30,     /* so much of its rate may wait in the kernel, beside round trips */
	NARROW_MIN_LOOPBACK = 65536,
	NARROW_MAX_MS = 1000,
	BATCH_MIN = 16384, /* what may wait in the kernel: TCP_NOTSENT_LOWAT */
	BATCH_MAX = 65536, /* sealed at once while the socket is found empty */
	USER_TIMEOUT_MS = 15000,
	LOWAT = 16384,
	MINUTE_MS = 60000,
};

#ifdef TUNN_UNBATCHED /* one packet a record, one record a write: tests/bench/latency.py */
#define UNBATCHED 1
#else
#define UNBATCHED 0
#endif

enum conn_state { CONN_SECURING, CONN_UP, CONN_CLOSED };

struct conn {
	struct loop *loop;
	int fd;
	struct watch *watch;
	struct tls *tls; /* NULL: plain */
	const struct limits *limits;
	enum conn_state state;
	const struct conn_events *events;
	void *owner;
	struct addr peer, local;
	struct buf out;       /* sealed, not yet taken by the kernel */
	struct buf early;     /* read before we got the descriptor */
	size_t batch;         /* how much may be sealed while the socket is empty */
	size_t kernel_unsent; /* at most; exact when asked */
	bool asked;           /* in this pump */
	bool no_room;         /* the owner was told that there is none */
	uint64_t progress_ms;
	struct timer *rest;   /* NULL: never rested */
	bool narrow;          /* conn_narrow() */
	bool deaf;            /* the other side takes nothing any more */
	unsigned late_before; /* tls_late_messages() when the minute began */
	uint64_t minute_ms;
	struct task start, sweep;
};

/* Where bytes land before anybody knows what they are; one per thread. */
struct scratch {
	uint8_t wire[READ_BYTES];
	uint8_t plain[TLS_RECORD_MAX];
};
static _Thread_local struct scratch *scratch;

static bool have_scratch(void)
{
	if (!scratch)
		scratch = malloc(sizeof *scratch);
	return scratch != NULL;
}

static const struct {
	int level, name, value;
	const char *words; /* what it is without, where somebody would notice */
} options[] = {
	{ IPPROTO_TCP, TCP_NODELAY, 1, NULL },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, LOWAT, "TCP_NOTSENT_LOWAT (latency under load)" },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS, "TCP_USER_TIMEOUT (dead connections)" },
	{ SOL_SOCKET, SO_KEEPALIVE, 1, NULL },
	/* Later than a conversation's own signs of life, of which DERP's are 65 s apart: with
	 * TCP_USER_TIMEOUT one lost probe is the end. */
	{ IPPROTO_TCP, TCP_KEEPIDLE, 120, NULL },
	{ IPPROTO_TCP, TCP_KEEPINTVL, 10, NULL },
	{ IPPROTO_TCP, TCP_KEEPCNT, 3, NULL },
};

static void lack(const char *words, char *out)
{
	size_t n = strlen(out);

	if (words)
		snprintf(out + n, CONN_LACKS_LEN - n, "%s%s", n ? ", " : "", words);
}

static void tune(int fd, char lacks[static CONN_LACKS_LEN])
{
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
		               sizeof options[i].value) < 0)
			lack(options[i].words, lacks);
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3) < 0)
		lack("BBR congestion control (latency, loss)", lacks);
}

void conn_tune(int fd)
{
	char lacks[CONN_LACKS_LEN] = "";

	tune(fd, lacks);
}

bool conn_lacks(char lacks_out[static CONN_LACKS_LEN])
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	lacks_out[0] = 0;
	if (fd < 0)
		return false;
	tune(fd, lacks_out);
	close(fd);
	return lacks_out[0];
}

/* ---- closing ---- */

static void on_sweep(struct task *t)
{
	struct conn *c = container_of(t, struct conn, sweep);

	tls_free(c->tls);
	buf_done(&c->out);
	buf_done(&c->early);
	free(c);
}

/* The descriptor goes at once, the memory in the sweep. */
static void shut(struct conn *c)
{
	c->state = CONN_CLOSED;
	watch_free(c->watch);
	c->watch = NULL;
	timer_free(c->rest);
	c->rest = NULL;
	close(c->fd);
	c->fd = -1;
	loop_undefer(c->loop, LOOP_PUMP, &c->start);
	loop_defer(c->loop, LOOP_SWEEP, &c->sweep);
}

static void lost(struct conn *c, enum close_why why, const char *text)
{
	if (c->state == CONN_CLOSED)
		return;
	shut(c);
	c->events->closed(c->owner, why, text);
}

static void lost_errno(struct conn *c, int err)
{
	enum close_why why = close_of_err(-err);
	lost(c, why, why == CLOSE_TIMEOUT ? "the network took nothing for 15 s" : "");
}

/* Unread bytes would turn the goodbye into a reset (RFC 1122 4.2.2.13). */
static void discard_input(const struct conn *c)
{
	size_t total = 0;
	ssize_t n = 1;

	while (n > 0 && total < c->limits->turn_bytes && have_scratch()) {
		n = recv(c->fd, scratch->wire, sizeof scratch->wire, MSG_DONTWAIT);
		total += n > 0 ? (size_t)n : 0;
	}
}

void conn_close(struct conn *c)
{
	if (!c || c->state == CONN_CLOSED)
		return;
	if (c->tls)
		tls_shutdown(c->tls, &c->out);
	if (buf_len(&c->out) &&
	    send(c->fd, buf_data(&c->out), buf_len(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		/* It was only a goodbye. */
	}
	discard_input(c);
	shut(c);
}

void conn_reset(struct conn *c)
{
	struct linger now = { 1, 0 };

	if (c->state == CONN_CLOSED)
		return;
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	shut(c);
}

/* ---- sending ---- */

static bool is_resting(const struct conn *c) { return c->rest && timer_is_set(c->rest); }

static void rewatch(struct conn *c)
{
	bool write = buf_len(&c->out) || c->no_room;
	watch_want(c->watch, (is_resting(c) ? 0 : WATCH_READ) | (write ? WATCH_WRITE : 0));
}

static void on_rested(void *arg) { rewatch(arg); }

void conn_rest(struct conn *c, uint32_t ms)
{
	if (ms == 0 || c->state == CONN_CLOSED)
		return;
	if (!c->rest)
		c->rest = timer_new(c->loop, on_rested, c);
	if (!c->rest)
		return; /* out of memory: it was only a kindness to the others */
	timer_set(c->rest, ms);
	rewatch(c);
}

/* Two round trips: the sender hears of room only when it was made. The segments of loopback are
 * as large as such a window and would go by timers: it gets the least that they pass through. */
static void limit_unread(const struct conn *c, uint64_t bytes_per_s)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof info;

	if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return;
	bool is_loopback = info.tcpi_advmss > NARROW_MIN;
	uint64_t ms = NARROW_MS + 2 * (uint64_t)info.tcpi_rtt / 1000;
	uint64_t all = bytes_per_s * (ms < NARROW_MAX_MS ? ms : NARROW_MAX_MS) / 1000;
	uint64_t least = is_loopback ? NARROW_MIN_LOOPBACK : NARROW_MIN;
	int window = all < least ? (int)least : all > INT_MAX ? INT_MAX : (int)all;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
	if (!is_loopback)
		setsockopt(c->fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof window);
}

/* Where the kernel refuses it things are later, not wrong. */
void conn_narrow(struct conn *c, uint64_t bytes_per_s)
{
	int unlocked = 0, window = INT_MAX;

	if (c->state == CONN_CLOSED)
		return;
	c->narrow = bytes_per_s < INT_MAX;
	if (c->narrow) {
		limit_unread(c, bytes_per_s);
		return;
	}
	setsockopt(c->fd, SOL_SOCKET, SO_BUF_LOCK, &unlocked, sizeof unlocked);
	setsockopt(c->fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof window);
}

size_t conn_unread(const struct conn *c)
{
	int n = 0;

	return c->state != CONN_CLOSED && ioctl(c->fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

void conn_flush(struct conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	c->asked = false;
	while (buf_len(&c->out)) {
		ssize_t n = send(c->fd, buf_data(&c->out), buf_len(&c->out), MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				break;
			if ((errno != ECONNRESET && errno != EPIPE) || is_resting(c)) {
				lost_errno(c, errno);
				return;
			}
			c->deaf = true; /* it has left: why may be in what is to be read yet */
			buf_clear(&c->out);
			break;
		}
		metric_add(METRIC_SOCKET_WRITES, 1);
		metric_add(METRIC_TLS_BYTES_OUT, n);
		c->progress_ms = loop_now_ms(c->loop);
		c->kernel_unsent += (size_t)n;
		buf_eat(&c->out, (size_t)n);
	}
	if (buf_len(&c->out) == 0)
		buf_clear(&c->out);
	rewatch(c);
}

/* What may wait in the kernel in any case has room for that much? Who sends now and then
 * need not ask each time. */
static bool surely_fits(const struct conn *c, size_t want)
{
	size_t most = c->kernel_unsent + buf_len(&c->out);

	return most < BATCH_MIN && want <= BATCH_MIN - most;
}

/* How much the kernel has that it could not send yet, once per pump at most. The batch
 * grows while it keeps up. */
static void ask_kernel(struct conn *c)
{
	int unsent = 0;

	if (ioctl(c->fd, SIOCOUTQNSD, &unsent) < 0)
		unsent = 0;
	if ((size_t)unsent < c->kernel_unsent || unsent == 0)
		c->progress_ms = loop_now_ms(c->loop);
	if (unsent == 0 && c->batch < BATCH_MAX)
		c->batch *= 2;
	else if (unsent)
		c->batch = BATCH_MIN;
	c->kernel_unsent = (size_t)unsent;
	c->asked = true;
}

size_t conn_room(struct conn *c, size_t want)
{
	if (c->state != CONN_UP || c->deaf)
		return 0;
	if (!c->asked && !surely_fits(c, want))
		ask_kernel(c);
	size_t waiting = c->kernel_unsent + buf_len(&c->out);
	if (waiting < c->batch)
		return UNBATCHED ? 1 : c->batch - waiting;
	if (!c->no_room) {
		c->no_room = true;
		rewatch(c);
	}
	return 0;
}

int conn_write(struct conn *c, const uint8_t *data, size_t len)
{
	if (c->state != CONN_UP)
		return ERR_CLOSED;
	int rc = c->tls ? tls_write(c->tls, data, len, &c->out) : buf_add(&c->out, data, len);
	if (UNBATCHED)
		conn_flush(c);
	return rc;
}

void conn_nap(struct conn *c)
{
	if (buf_len(&c->out) == 0)
		buf_done(&c->out);
	if (c->tls)
		tls_nap(c->tls);
}

size_t conn_unsent(const struct conn *c) { return buf_len(&c->out); }
uint64_t conn_progress_ms(const struct conn *c) { return c->progress_ms; }

static void on_writable(struct conn *c)
{
	conn_flush(c);
	if (c->state != CONN_UP || buf_len(&c->out) || !c->no_room)
		return;
	c->no_room = false;
	rewatch(c);
	c->events->room(c->owner);
}

/* ---- receiving ---- */

/* More messages of the handshake protocol than this minute may have? */
static bool is_late_flood(struct conn *c)
{
	unsigned n = tls_late_messages(c->tls);
	uint64_t now_ms = loop_now_ms(c->loop);

	if (now_ms - c->minute_ms >= MINUTE_MS) {
		c->minute_ms = now_ms;
		c->late_before = n;
	}
	return n - c->late_before > c->limits->key_updates;
}

static void deliver(struct conn *c)
{
	int n;

	while (c->state == CONN_UP &&
	       (n = tls_read(c->tls, scratch->plain, sizeof scratch->plain, &c->out)) > 0) {
		bool early = tls_is_early(c->tls);
		c->events->bytes(c->owner, scratch->plain, (size_t)n);
		if (early)
			crypto_wipe(scratch->plain, (size_t)n);
	}
	if (c->state != CONN_UP)
		return;
	if (is_late_flood(c))
		lost(c, CLOSE_FLOOD, "too many TLS KeyUpdate messages");
	else if (n == ERR_CLOSED)
		lost(c, CLOSE_DONE, "");
	else if (n != ERR_AGAIN)
		lost(c, CLOSE_TLS, tls_error_text(c->tls));
	else if (buf_len(&c->out))
		conn_flush(c); /* an answer of the record layer itself */
}

static void go_up(struct conn *c, const char *alpn)
{
	c->state = CONN_UP;
	c->events->up(c->owner, alpn);
}

/* Goes on with the handshake; what is fed behind it is delivered. */
static void step(struct conn *c)
{
	if (c->state == CONN_SECURING) {
		int rc = tls_handshake(c->tls, &c->out);
		if (buf_len(&c->out))
			conn_flush(c); /* also alerts */
		if (c->state == CONN_CLOSED || rc == ERR_AGAIN)
			return;
		if (rc < 0) {
			lost(c, close_of_err(rc), tls_error_text(c->tls));
			return;
		}
		go_up(c, tls_alpn(c->tls));
	}
	if (c->state == CONN_UP)
		deliver(c);
}

static void take(struct conn *c, const uint8_t *data, size_t len)
{
	if (c->tls) {
		tls_feed(c->tls, data, len);
		step(c);
	} else if (len) {
		c->events->bytes(c->owner, data, len);
	}
}

void conn_thread_done(void)
{
	tls_thread_done();
	free(scratch);
	scratch = NULL;
}

static void on_readable(struct conn *c)
{
	size_t total = 0;

	while (c->state != CONN_CLOSED && !is_resting(c) && total < c->limits->turn_bytes &&
	       have_scratch()) {
		size_t most = c->narrow ? READ_FEW : sizeof scratch->wire;
		ssize_t n = recv(c->fd, scratch->wire, most, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			if (n == 0)
				lost(c, c->deaf ? CLOSE_RESET : CLOSE_EOF, "");
			else
				lost_errno(c, errno);
			return;
		}
		metric_add(METRIC_TLS_BYTES_IN, n);
		total += (size_t)n;
		take(c, scratch->wire, (size_t)n);
		if ((size_t)n < most)
			return;
	}
}

static void on_event(void *arg, unsigned what)
{
	struct conn *c = arg;

	if (what == WATCH_READ)
		on_readable(c);
	else
		on_writable(c);
}

/* ---- opening ---- */

static void on_start(struct task *t)
{
	struct conn *c = container_of(t, struct conn, start);

	/* The socket is not read before this: the early bytes come first. */
	if (!have_scratch() || watch_want(c->watch, WATCH_READ) < 0) {
		lost(c, CLOSE_NOMEM, "");
		return;
	}
	if (!c->tls)
		go_up(c, "");
	if (c->state != CONN_CLOSED && (c->tls || buf_len(&c->early)))
		take(c, buf_data(&c->early), buf_len(&c->early));
	buf_done(&c->early);
}

int conn_open(struct loop *loop, const struct conn_conf *conf, const struct conn_events *events,
              void *owner, struct conn **conn_out)
{
	struct conn *c = calloc(1, sizeof *c);
	int rc = -ENOMEM, fd = conf->fd;

	if (!c) {
		close(fd);
		return rc;
	}
	*c = (struct conn){ .loop = loop, .fd = fd, .events = events, .owner = owner };
	c->batch = BATCH_MIN;
	c->limits = conf->limits;
	c->progress_ms = c->minute_ms = loop_now_ms(loop);
	c->start.cb = on_start;
	c->sweep.cb = on_sweep;
	c->peer.len = c->local.len = sizeof c->peer.ss;
	getpeername(fd, (struct sockaddr *)&c->peer.ss, &c->peer.len);
	getsockname(fd, (struct sockaddr *)&c->local.ss, &c->local.len);
	conn_tune(fd);
	c->watch = watch_new(loop, fd, on_event, c);
	if (c->watch && buf_add(&c->early, conf->early, conf->early_len) == 0)
		rc = conf->plain ? 0 : tls_new(conf->tls, conf->server_name, &c->tls);
	if (rc < 0) {
		watch_free(c->watch);
		close(fd);
		buf_done(&c->early);
		free(c);
		return rc;
	}
	loop_defer(loop, LOOP_PUMP, &c->start);
	*conn_out = c;
	return 0;
}

const struct addr *conn_peer(const struct conn *c) { return &c->peer; }
const struct addr *conn_local(const struct conn *c) { return &c->local; }
const char *conn_cipher(const struct conn *c) { return c->tls ? tls_cipher(c->tls) : ""; }

bool conn_peer_derp_key(const struct conn *c, uint8_t key_out[static 32])
{
	return c->tls && tls_peer_derp_key(c->tls, key_out);
}
