#include "common/net/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/list.h"
#include "common/base/metric.h"

enum {
	BATCH = 32,             /* datagrams per recvmmsg or sendmmsg */
	PACKETS_PER_TURN = 256, /* then others have their turn */
	DATAGRAM_MAX = 65536,
	SOCKET_BUFFER = 7 << 20, /* asked for; the kernel may give less */
};

struct outgoing { /* an address in front of its packet in the queue */
	struct pkt *pkt;
	struct addr to;
};

struct udp {
	struct loop *loop;
	int fd;
	struct watch *watch;
	void (*on_packet)(void *owner, const struct addr *from, struct pkt *);
	void *owner;
	struct addr local;
	struct outgoing *queue;
	unsigned n_queued, queue_cap;
	uint32_t n_overflowed; /* wraps as the kernel's does */
	struct task flush, sweep;
	bool closed;
};

/* Where datagrams land before their size is known; one per thread. */
struct arrivals {
	uint8_t bytes[BATCH][DATAGRAM_MAX];
	struct addr from[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr msgs[BATCH];
	_Alignas(struct cmsghdr) uint8_t control[BATCH][CMSG_SPACE(sizeof(uint32_t))];
};
static _Thread_local struct arrivals *arrivals;

static bool prepare(void)
{
	if (!arrivals && !(arrivals = calloc(1, sizeof *arrivals)))
		return false;
	for (unsigned i = 0; i < BATCH; i++) {
		arrivals->iov[i] = (struct iovec){ arrivals->bytes[i], DATAGRAM_MAX };
		arrivals->msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &arrivals->from[i].ss,
			.msg_namelen = sizeof arrivals->from[i].ss,
			.msg_iov = &arrivals->iov[i],
			.msg_iovlen = 1,
			.msg_control = arrivals->control[i],
			.msg_controllen = sizeof arrivals->control[i],
		};
	}
	return true;
}

/* What the kernel had no room for (SO_RXQ_OVFL: all since the socket was made). */
static void count_overflow(struct udp *u, struct msghdr *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	uint32_t all;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL)
		return;
	memcpy(&all, CMSG_DATA(c), sizeof all);
	metric_add(METRIC_UDP_OVERFLOWS, all - u->n_overflowed);
	u->n_overflowed = all;
}

static void take(struct udp *u, unsigned i, uint64_t now_ms)
{
	size_t len = arrivals->msgs[i].msg_len;
	struct pkt *p;

	count_overflow(u, &arrivals->msgs[i].msg_hdr);
	if (arrivals->msgs[i].msg_hdr.msg_flags & MSG_TRUNC || len > PAYLOAD_MAX) {
		pkt_drop(NULL, len > PAYLOAD_MAX ? DROP_TOO_BIG : DROP_UDP_TRUNC);
		return;
	}
	p = pkt_new(len);
	if (!p) {
		pkt_drop(NULL, DROP_NOMEM);
		return;
	}
	memcpy(p->data, arrivals->bytes[i], len);
	memset(&p->src, 0, sizeof p->src);
	memset(&p->dst, 0, sizeof p->dst);
	p->born_ms = now_ms;
	arrivals->from[i].len = arrivals->msgs[i].msg_hdr.msg_namelen;
	u->on_packet(u->owner, &arrivals->from[i], p);
}

static void udp_on_readable(void *arg, unsigned what)
{
	struct udp *u = arg;
	uint64_t now_ms = loop_now_ms(u->loop);

	(void)what;
	for (unsigned total = 0; total < PACKETS_PER_TURN && !u->closed;) {
		if (!prepare())
			return;
		int n = recvmmsg(u->fd, arrivals->msgs, BATCH, MSG_DONTWAIT, NULL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			metric_add(METRIC_UDP_ERRORS, 1); /* told once, the socket lives */
			total++;
			continue;
		}
		if (n <= 0)
			return;
		for (int i = 0; i < n && !u->closed; i++)
			take(u, (unsigned)i, now_ms);
		if (n < BATCH)
			return;
		total += (unsigned)n;
	}
}

/* ---- sending ---- */

static enum drop_why why_of(int err) { return err == EMSGSIZE ? DROP_TOO_BIG : DROP_UDP_SEND; }

static unsigned drop(const struct outgoing *out, unsigned n, enum drop_why why)
{
	for (unsigned i = 0; i < n; i++)
		pkt_drop(out[i].pkt, why);
	return n;
}

static bool is_icmp(int err)
{
	return err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH;
}

/* The kernel's queue is full: who asks again at once spins. */
static bool is_full(int err) { return err == EAGAIN || err == ENOBUFS || err == ENOMEM; }

/* Sends up to BATCH; gives how many are dealt with, of `left` that are queued. */
static unsigned send_batch(struct udp *u, const struct outgoing *out, unsigned left)
{
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	unsigned n = left < BATCH ? left : BATCH;

	for (unsigned i = 0; i < n; i++) {
		iov[i] = (struct iovec){ out[i].pkt->data, out[i].pkt->len };
		msgs[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
		if (out[i].to.len) {
			msgs[i].msg_hdr.msg_name = (void *)(uintptr_t)&out[i].to.ss;
			msgs[i].msg_hdr.msg_namelen = out[i].to.len;
		}
	}
	int sent = sendmmsg(u->fd, msgs, n, MSG_DONTWAIT);
	if (sent < 0 && is_icmp(errno)) { /* that was an earlier datagram's */
		metric_add(METRIC_UDP_ERRORS, 1);
		sent = sendmmsg(u->fd, msgs, n, MSG_DONTWAIT);
	}
	if (sent < 0 && is_full(errno)) /* what is newest goes */
		return drop(out, left, DROP_UDP_SEND);
	if (sent < 0)
		return drop(out, 1, why_of(errno));
	for (int i = 0; i < sent; i++)
		pkt_free(out[i].pkt);
	return (unsigned)sent;
}

static void udp_flush(struct udp *u)
{
	unsigned done = 0;

	while (done < u->n_queued)
		done += send_batch(u, u->queue + done, u->n_queued - done);
	u->n_queued = 0;
}

static void on_flush(struct task *t) { udp_flush(container_of(t, struct udp, flush)); }

void udp_queue(struct udp *u, const struct addr *to, struct pkt *p)
{
	if (u->n_queued == u->queue_cap) {
		unsigned cap = u->queue_cap ? 2 * u->queue_cap : 16;
		struct outgoing *q = realloc(u->queue, cap * sizeof *q);
		if (!q) {
			pkt_drop(p, DROP_NOMEM);
			return;
		}
		u->queue = q;
		u->queue_cap = cap;
	}
	struct outgoing *o = &u->queue[u->n_queued++];
	o->pkt = p;
	o->to.len = 0;
	if (to)
		o->to = *to;
	loop_defer(u->loop, LOOP_FLUSH, &u->flush);
}

/* ---- life ---- */

static void ask_buffers(int fd)
{
	int size = SOCKET_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void on_sweep(struct task *t)
{
	struct udp *u = container_of(t, struct udp, sweep);

	free(u->queue);
	free(u);
}

static int udp_bind(struct udp *u, const struct addr *local)
{
	int on = 1;

	u->fd = socket(local->ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (u->fd < 0)
		return -errno;
	if (local->ss.ss_family == AF_INET6)
		setsockopt(u->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	ask_buffers(u->fd);
	setsockopt(u->fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
	u->local.len = sizeof u->local.ss;
	if (bind(u->fd, (const struct sockaddr *)&local->ss, local->len) < 0 ||
	    getsockname(u->fd, (struct sockaddr *)&u->local.ss, &u->local.len) < 0)
		return -errno;
	return 0;
}

int udp_open(struct loop *loop, const struct addr *local,
             void (*on_packet)(void *owner, const struct addr *from, struct pkt *), void *owner,
             struct udp **udp_out)
{
	struct udp *u = calloc(1, sizeof *u);

	if (!u)
		return -ENOMEM;
	*u = (struct udp){ .loop = loop, .on_packet = on_packet, .owner = owner, .fd = -1 };
	u->flush.cb = on_flush;
	u->sweep.cb = on_sweep;
	int rc = udp_bind(u, local);
	if (rc == 0) {
		u->watch = watch_new(loop, u->fd, udp_on_readable, u);
		if (!u->watch || watch_want(u->watch, WATCH_READ) < 0)
			rc = -ENOMEM;
	}
	if (rc < 0) {
		watch_free(u->watch);
		if (u->fd >= 0)
			close(u->fd);
		free(u);
		return rc;
	}
	*udp_out = u;
	return 0;
}

int udp_connect(struct udp *u, const struct addr *remote)
{
	if (connect(u->fd, (const struct sockaddr *)&remote->ss, remote->len) < 0)
		return -errno;
	u->local.len = sizeof u->local.ss;
	getsockname(u->fd, (struct sockaddr *)&u->local.ss, &u->local.len);
	return 0;
}

const struct addr *udp_local(const struct udp *u) { return &u->local; }

void udp_close(struct udp *u)
{
	if (!u || u->closed)
		return;
	u->closed = true;
	udp_flush(u);
	loop_undefer(u->loop, LOOP_FLUSH, &u->flush);
	watch_free(u->watch);
	close(u->fd);
	loop_defer(u->loop, LOOP_SWEEP, &u->sweep);
}
