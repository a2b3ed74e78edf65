#include "common/net/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/list.h"
#include "common/base/metric.h"

enum {
	BATCH_IN = 8,           /* reads per recvmmsg; a coalesced one has up to 64 KiB */
	BATCH_COALESCED = 2,    /* few, so that the cache still has them when they are cut up */
	BATCH_OUT = 32,         /* messages per sendmmsg */
	PACKETS_PER_TURN = 256, /* then others have their turn */
	DATAGRAM_MAX = 65536,
	/* udp(7), UDP_SEGMENT: so many in one message; newer kernels take 128. */
	GROUP_MAX = 64,
	/* 64 KiB with Ethernet's, IPv6's and UDP's headers: a larger one is cut up too
	 * early, before a receiver on this machine could have it whole. */
	GROUP_BYTES = 65536 - 14 - 40 - 8,
	IOVECS = 4 * GROUP_MAX,
	LOOK_BACK = 16,          /* destinations of a turn that are searched */
	SOCKET_BUFFER = 7 << 20, /* asked for; the kernel may give less */
};

struct outgoing { /* what a turn sends to one destination, in order */
	struct addr to;
	struct pktq packets;
};

struct udp {
	struct loop *loop;
	int fd;
	struct watch *watch;
	void (*on_packet)(void *owner, const struct addr *from, struct pkt *);
	void *owner;
	struct addr local;
	struct outgoing *outgoing;
	unsigned n_outgoing, outgoing_cap, last; /* last: where the newest packet went */
	/* Groups of this size and above the kernel refused; UINT32_MAX: none, 0: it has
	 * no UDP_SEGMENT. */
	uint32_t refused_len;
	unsigned n_alone;      /* of a group just refused: its packets go one by one */
	uint32_t doubted_len;  /* of that group */
	uint32_t n_overflowed; /* wraps as the kernel's does */
	unsigned n_coalesced;  /* datagrams in the last read */
	struct task flush, sweep;
	bool closed;
};

/* Where datagrams land before their size is known; one per thread. Pages are
 * touched as they are needed: of an idle client's one. */
struct arrivals {
	uint8_t bytes[BATCH_IN][DATAGRAM_MAX];
	struct addr from[BATCH_IN];
	struct iovec iov[BATCH_IN];
	struct mmsghdr msgs[BATCH_IN];
	_Alignas(struct cmsghdr) uint8_t
	                control[BATCH_IN][CMSG_SPACE(sizeof(uint32_t)) + CMSG_SPACE(sizeof(int))];
};
static _Thread_local struct arrivals *arrivals;

/* recvmmsg(2) writes lengths over the room that there was. */
static void renew(unsigned i)
{
	arrivals->msgs[i].msg_hdr.msg_namelen = sizeof arrivals->from[i].ss;
	arrivals->msgs[i].msg_hdr.msg_controllen = sizeof arrivals->control[i];
}

static bool prepare(void)
{
	if (arrivals)
		return true;
	if (!(arrivals = calloc(1, sizeof *arrivals)))
		return false;
	for (unsigned i = 0; i < BATCH_IN; i++) {
		arrivals->iov[i] = (struct iovec){ arrivals->bytes[i], DATAGRAM_MAX };
		arrivals->msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &arrivals->from[i].ss,
			.msg_iov = &arrivals->iov[i],
			.msg_iovlen = 1,
			.msg_control = arrivals->control[i],
		};
		renew(i);
	}
	return true;
}

/* What came with a read: 0 or the size at which the kernel has put datagrams together
 * (the last may be shorter), and all datagrams it had no room for since the socket was made. */
static size_t segment_of(struct msghdr *m, uint32_t *n_overflowed)
{
	int segment = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&segment, CMSG_DATA(c), sizeof segment);
		else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
			memcpy(n_overflowed, CMSG_DATA(c), sizeof *n_overflowed);
	}
	return segment > 0 ? (size_t)segment : 0;
}

/* The kernel counts datagrams that it has put together as one. Those it dropped are
 * taken to have been as many as in the reads around them. */
static void count_overflow(struct udp *u, uint32_t n_overflowed, unsigned n)
{
	uint32_t more = n_overflowed - u->n_overflowed;

	if (more)
		metric_add(METRIC_UDP_OVERFLOWS,
		           (int64_t)more * (n > u->n_coalesced ? n : u->n_coalesced));
	u->n_overflowed = n_overflowed;
	u->n_coalesced = n;
}

static void take(struct udp *u, const struct addr *from, const uint8_t *data, size_t len)
{
	struct pkt *p = len <= PAYLOAD_MAX ? pkt_new(len) : NULL;

	if (!p) {
		pkt_drop(NULL, len > PAYLOAD_MAX ? DROP_TOO_BIG : DROP_NOMEM);
		return;
	}
	memcpy(p->data, data, len);
	memset(&p->src, 0, sizeof p->src);
	memset(&p->dst, 0, sizeof p->dst);
	p->born_ms = loop_now_ms(u->loop);
	u->on_packet(u->owner, from, p);
}

/* Gives the number of datagrams that were in it. */
static unsigned take_read(struct udp *u, unsigned i)
{
	struct mmsghdr *m = &arrivals->msgs[i];
	struct addr *from = &arrivals->from[i];
	uint32_t n_overflowed = u->n_overflowed;
	size_t len = m->msg_len, segment = segment_of(&m->msg_hdr, &n_overflowed);
	unsigned n = segment && segment < len ? (unsigned)((len + segment - 1) / segment) : 1;

	count_overflow(u, n_overflowed, n);
	from->len = m->msg_hdr.msg_namelen;
	if (m->msg_hdr.msg_flags & MSG_TRUNC) { /* what is whole is good */
		pkt_drop(NULL, DROP_UDP_TRUNC);
		len -= segment ? len % segment : len;
		if (len == 0)
			return n;
	}
	if (n == 1)
		take(u, from, arrivals->bytes[i], len);
	for (size_t at = 0; n > 1 && at < len && !u->closed; at += segment)
		take(u, from, arrivals->bytes[i] + at, len - at < segment ? len - at : segment);
	return n;
}

static void udp_on_readable(void *arg, unsigned what)
{
	struct udp *u = arg;

	(void)what;
	for (unsigned total = 0; total < PACKETS_PER_TURN && !u->closed;) {
		if (!prepare())
			return;
		unsigned most = u->n_coalesced > 1 ? BATCH_COALESCED : BATCH_IN;
		int n = recvmmsg(u->fd, arrivals->msgs, most, MSG_DONTWAIT, NULL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			metric_add(METRIC_UDP_ERRORS, 1); /* told once, the socket lives */
			total++;
			continue;
		}
		for (int i = 0; i < n; i++) {
			if (!u->closed)
				total += take_read(u, (unsigned)i);
			renew((unsigned)i);
		}
		if (n < (int)most)
			return;
	}
}

/* ---- sending ---- */

static enum drop_why why_of(int err) { return err == EMSGSIZE ? DROP_TOO_BIG : DROP_UDP_SEND; }

static bool is_icmp(int err)
{
	return err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH;
}

/* The kernel's queue is full: who asks again at once spins. */
static bool is_full(int err) { return err == EAGAIN || err == ENOBUFS || err == ENOMEM; }

/* Of what is queued; a message is a group of packets from the head of `of`. */
struct batch {
	unsigned n, n_iov;
	struct outgoing *of[BATCH_OUT];
	struct mmsghdr msgs[BATCH_OUT];
	struct iovec iov[IOVECS];
	_Alignas(struct cmsghdr) uint8_t control[BATCH_OUT][CMSG_SPACE(sizeof(uint16_t))];
};

/* How many packets from p on the kernel can cut out of one message: of one size, but
 * the last may be shorter. An empty one would not be seen behind others. */
static unsigned group_of(const struct udp *u, const struct pkt *p)
{
	const uint32_t len = p->len;
	size_t bytes = len;
	unsigned n = 1;

	if (len >= u->refused_len)
		return 1;
	while ((p = p->next) != NULL && n < GROUP_MAX && p->len && p->len <= len &&
	       bytes + p->len <= GROUP_BYTES) {
		bytes += p->len;
		n++;
		if (p->len < len)
			break;
	}
	return n;
}

static void ask_segments(struct msghdr *h, uint8_t *control, size_t control_len, size_t len)
{
	uint16_t segment = (uint16_t)len;

	h->msg_control = control;
	h->msg_controllen = control_len;
	struct cmsghdr *c = CMSG_FIRSTHDR(h);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof segment);
	memcpy(CMSG_DATA(c), &segment, sizeof segment);
}

/* Adds n packets from p on as one message; gives the one behind them. */
static struct pkt *add_message(struct batch *b, struct outgoing *o, struct pkt *p, unsigned n)
{
	struct msghdr *h = &b->msgs[b->n].msg_hdr;

	*h = (struct msghdr){ .msg_iov = &b->iov[b->n_iov], .msg_iovlen = n };
	if (o->to.len) {
		h->msg_name = &o->to.ss;
		h->msg_namelen = o->to.len;
	}
	if (n > 1)
		ask_segments(h, b->control[b->n], sizeof b->control[b->n], p->len);
	for (unsigned i = 0; i < n; i++, p = p->next)
		b->iov[b->n_iov++] = (struct iovec){ p->data, p->len };
	b->of[b->n++] = o;
	return p;
}

/* False: nothing is left from the destination `from` on. */
static bool gather(struct udp *u, unsigned *from, struct batch *b)
{
	unsigned n_alone = u->n_alone;

	b->n = b->n_iov = 0;
	while (*from < u->n_outgoing && !u->outgoing[*from].packets.head)
		(*from)++;
	for (unsigned i = *from; i < u->n_outgoing; i++) {
		for (struct pkt *p = u->outgoing[i].packets.head; p;) {
			if (b->n == BATCH_OUT || b->n_iov + GROUP_MAX > IOVECS)
				return true;
			p = add_message(b, &u->outgoing[i], p, n_alone ? 1 : group_of(u, p));
			n_alone -= n_alone > 0;
		}
	}
	return b->n > 0;
}

static void drop_all(struct udp *u, enum drop_why why)
{
	for (unsigned i = 0; i < u->n_outgoing; i++)
		for (struct pkt *p; (p = pktq_pop(&u->outgoing[i].packets)) != NULL;)
			pkt_drop(p, why);
	u->n_alone = 0;
}

static void sent(struct udp *u, const struct batch *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct pktq *q = &b->of[i]->packets;
		if (u->n_alone) { /* alone it passes: it was the group that was refused */
			u->n_alone--;
			u->refused_len = u->doubted_len;
		}
		for (size_t k = b->msgs[i].msg_hdr.msg_iovlen; k; k--)
			pkt_free(pktq_pop(q));
	}
}

/* The first message of the batch was refused: by route (EMSGSIZE, EIO), by a setting
 * of the socket (EINVAL), by a firewall: whatever it is, one by one they may pass. */
static void refused(struct udp *u, const struct batch *b, int err)
{
	struct pktq *q = &b->of[0]->packets;

	if (b->msgs[0].msg_hdr.msg_iovlen > 1) {
		u->n_alone = (unsigned)b->msgs[0].msg_hdr.msg_iovlen;
		u->doubted_len = q->head->len;
		return;
	}
	pkt_drop(pktq_pop(q), why_of(err));
	u->n_alone -= u->n_alone > 0;
}

static void udp_flush(struct udp *u)
{
	struct batch b;

	for (unsigned from = 0; gather(u, &from, &b);) {
		int n = sendmmsg(u->fd, b.msgs, b.n, MSG_DONTWAIT);
		if (n < 0 && is_icmp(errno)) { /* that was an earlier datagram's */
			metric_add(METRIC_UDP_ERRORS, 1);
			n = sendmmsg(u->fd, b.msgs, b.n, MSG_DONTWAIT);
		}
		if (n >= 0)
			sent(u, &b, (unsigned)n);
		else if (is_full(errno)) /* what is newest goes */
			drop_all(u, DROP_UDP_SEND);
		else
			refused(u, &b, errno);
	}
	u->n_outgoing = 0;
}

static void on_flush(struct task *t) { udp_flush(container_of(t, struct udp, flush)); }

static bool goes_to(const struct outgoing *o, const struct addr *to)
{
	return o->to.len == to->len && memcmp(&o->to.ss, &to->ss, to->len) == 0;
}

static struct outgoing *new_outgoing(struct udp *u, const struct addr *to)
{
	if (u->n_outgoing == u->outgoing_cap) {
		unsigned cap = u->outgoing_cap ? 2 * u->outgoing_cap : 1;
		struct outgoing *all = realloc(u->outgoing, cap * sizeof *all);
		if (!all)
			return NULL;
		u->outgoing = all;
		u->outgoing_cap = cap;
	}
	u->last = u->n_outgoing++;
	u->outgoing[u->last] = (struct outgoing){ .to = *to };
	return &u->outgoing[u->last];
}

/* The newest that goes there, so that order is kept where a destination has two. */
static struct outgoing *find_outgoing(struct udp *u, const struct addr *to)
{
	if (u->n_outgoing && goes_to(&u->outgoing[u->last], to))
		return &u->outgoing[u->last];
	for (unsigned i = u->n_outgoing, n = 0; i && n < LOOK_BACK; n++) {
		if (goes_to(&u->outgoing[--i], to)) {
			u->last = i;
			return &u->outgoing[i];
		}
	}
	return new_outgoing(u, to);
}

void udp_queue(struct udp *u, const struct addr *to, struct pkt *p)
{
	static const struct addr connected = { .len = 0 };
	struct outgoing *o = find_outgoing(u, to ? to : &connected);

	if (!o) {
		pkt_drop(p, DROP_NOMEM);
		return;
	}
	pktq_push(&o->packets, p);
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

/* A kernel that does not know UDP_SEGMENT would take a group for one datagram. */
static void ask_offload(struct udp *u)
{
	int value = 0, on = 1;
	socklen_t len = sizeof value;

	if (getsockopt(u->fd, SOL_UDP, UDP_SEGMENT, &value, &len) == 0)
		u->refused_len = UINT32_MAX;
	setsockopt(u->fd, SOL_UDP, UDP_GRO, &on, sizeof on);
}

static void on_sweep(struct task *t)
{
	struct udp *u = container_of(t, struct udp, sweep);

	free(u->outgoing);
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
	ask_offload(u);
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

int udp_set_way(struct udp *u, uint32_t fwmark, const char *device)
{
	if (fwmark && setsockopt(u->fd, SOL_SOCKET, SO_MARK, &fwmark, sizeof fwmark) < 0)
		return -errno;
	if (device &&
	    setsockopt(u->fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) < 0)
		return -errno;
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
