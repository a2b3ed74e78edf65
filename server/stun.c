#include "server/stun.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/metric.h"
#include "common/wire/stun.h"

/*
 * Why the main thread: the workers carry datagrams and the accounts thread waits for the
 * disk, while here are only signals, reports of workers and a timer or two. So a flood has
 * one thread of its own to fill, beside as many workers as there are CPUs, and the
 * scheduler shares out the rest. What it cannot take the kernel drops from a small buffer.
 * A probe comes late only where the main thread is busy: a reload, memory that is given
 * back (heap_trim, when hardly a datagram passes); clients take the best of several.
 */
enum {
	BATCH = 16,
	PER_TURN = 64, /* of one socket; then signals and the watchdog have their turn */
	/* A longer request can be right (its attributes are anybody's); pages are touched as
	 * they are needed, so for the real ones of 40 bytes it is one each. */
	DATAGRAM_MAX = 65536,
	/* Little: an answer that waited makes us seem far away. */
	RECEIVE_BUFFER = 64 << 10,
	PAUSE_MS = 1000, /* after an error in reading: the next would come at once */
};

union control { /* where it was sent to, and so where the answer comes from */
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

struct batch {
	uint8_t bytes[BATCH][DATAGRAM_MAX];
	uint8_t answers[BATCH][STUN_ANSWER_MAX];
	struct addr from[BATCH];
	union control control[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr msgs[BATCH];
};

struct socket {
	struct stun *stun;
	int fd;
	struct watch *watch;
	struct timer *pause;
};

struct stun {
	struct loop *loop;
	struct socket sockets[STUN_SOCKETS_MAX];
	unsigned n;
	struct batch batch;
};

/* ---- one batch ---- */

static int receive(const struct socket *s)
{
	struct batch *b = &s->stun->batch;

	for (unsigned i = 0; i < BATCH; i++) {
		b->iov[i] = (struct iovec){ b->bytes[i], DATAGRAM_MAX };
		b->msgs[i].msg_hdr = (struct msghdr){ .msg_name = &b->from[i].ss,
			                              .msg_namelen = sizeof b->from[i].ss,
			                              .msg_iov = &b->iov[i],
			                              .msg_iovlen = 1,
			                              .msg_control = &b->control[i],
			                              .msg_controllen = sizeof b->control[i] };
	}
	return recvmmsg(s->fd, b->msgs, BATCH, MSG_DONTWAIT, NULL);
}

/* An IPv4 address that came by an IPv6 socket is written as stun_addr wants it. */
static struct stun_addr seen_as(const struct addr *from)
{
	struct stun_addr a = { .ip = { [10] = 0xff, [11] = 0xff }, .port = addr_port(from) };

	if (from->ss.ss_family == AF_INET6)
		memcpy(a.ip, &((const struct sockaddr_in6 *)(const void *)&from->ss)->sin6_addr,
		       16);
	else
		memcpy(a.ip + 12, &((const struct sockaddr_in *)(const void *)&from->ss)->sin_addr,
		       4);
	return a;
}

/* What told where the query was sent to tells the kernel where the answer is from, but for
 * the interface: the way back is the routing table's. */
static void forget_interface(struct msghdr *h)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			((struct in_pktinfo *)(void *)CMSG_DATA(c))->ipi_ifindex = 0;
		else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
			((struct in6_pktinfo *)(void *)CMSG_DATA(c))->ipi6_ifindex = 0;
	}
}

/* The message becomes its own answer. False: it stays unanswered. */
static bool answer(struct batch *b, unsigned i)
{
	struct msghdr *h = &b->msgs[i].msg_hdr;
	uint8_t txid[STUN_TXID_LEN];

	if (stun_read_request(b->bytes[i], b->msgs[i].msg_len, txid) < 0) {
		metric_add(METRIC_STUN_NOT_STUN, 1);
		return false;
	}
	struct stun_addr seen = seen_as(&b->from[i]);
	size_t len = stun_write_answer(txid, &seen, b->answers[i]);
	b->iov[i] = (struct iovec){ b->answers[i], len };
	metric_add(len < STUN_ANSWER_MAX ? METRIC_STUN_IPV4 : METRIC_STUN_IPV6, 1);
	h->msg_flags = 0;
	if (h->msg_controllen)
		forget_interface(h);
	else
		h->msg_control = NULL;
	return true;
}

/* What the kernel refuses, or has no room for, is not tried again: the client does. */
static void send_all(int fd, struct mmsghdr *msgs, unsigned n)
{
	for (unsigned at = 0; at < n;) {
		int sent = sendmmsg(fd, msgs + at, n - at, MSG_DONTWAIT);
		metric_add(sent > 0 ? METRIC_STUN_SUCCESS : METRIC_STUN_WRITE_ERRORS,
		           sent > 0 ? sent : 1);
		at += sent > 0 ? (unsigned)sent : 1;
	}
}

static void on_readable(void *arg, unsigned what)
{
	struct socket *s = arg;
	struct batch *b = &s->stun->batch;
	int n = BATCH;

	(void)what;
	for (unsigned total = 0; total < PER_TURN && n == BATCH; total += BATCH) {
		n = receive(s);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			metric_add(METRIC_STUN_READ_ERRORS, 1);
			watch_want(s->watch, 0);
			timer_set(s->pause, PAUSE_MS);
		}
		unsigned n_answers = 0;
		for (int i = 0; i < n; i++)
			if (answer(b, (unsigned)i))
				b->msgs[n_answers++] = b->msgs[i];
		send_all(s->fd, b->msgs, n_answers);
	}
}

static void on_pause_over(void *arg)
{
	struct socket *s = arg;

	watch_want(s->watch, WATCH_READ);
}

/* ---- life ---- */

static int bind_socket(const struct addr *addr, bool any)
{
	int on = 1, v6only = !any, size = RECEIVE_BUFFER;
	int fd = socket(addr->ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (addr->ss.ss_family == AF_INET6) { /* of IPv4 through it this tells too */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
	} else {
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	}
	if (bind(fd, (const struct sockaddr *)&addr->ss, addr->len) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int bind_any(const struct addr *addr)
{
	int fd = bind_socket(addr, true);

	if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) { /* a machine without IPv6 */
		struct addr v4;
		addr_of_ip("0.0.0.0", addr_port(addr), &v4);
		fd = bind_socket(&v4, false);
	}
	return fd;
}

static void socket_done(struct socket *s)
{
	watch_free(s->watch);
	timer_free(s->pause);
	close(s->fd);
}

struct stun *stun_new(struct loop *loop)
{
	struct stun *st = calloc(1, sizeof *st);

	if (st)
		st->loop = loop;
	return st;
}

int stun_listen(struct stun *st, const struct addr *addr, bool any, struct addr *bound_out)
{
	struct addr bound = { .len = sizeof bound.ss };

	if (st->n == STUN_SOCKETS_MAX)
		return -ENOBUFS;
	int fd = any ? bind_any(addr) : bind_socket(addr, false);
	if (fd < 0)
		return fd;
	struct socket *s = &st->sockets[st->n];
	*s = (struct socket){ .stun = st, .fd = fd };
	s->watch = watch_new(st->loop, fd, on_readable, s);
	s->pause = timer_new(st->loop, on_pause_over, s);
	if (!s->watch || !s->pause || watch_want(s->watch, WATCH_READ) < 0 ||
	    getsockname(fd, (struct sockaddr *)&bound.ss, &bound.len) < 0) {
		socket_done(s);
		return -ENOMEM;
	}
	st->n++;
	*bound_out = bound;
	return 0;
}

void stun_free(struct stun *st)
{
	if (!st)
		return;
	while (st->n)
		socket_done(&st->sockets[--st->n]);
	free(st);
}
