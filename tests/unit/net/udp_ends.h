/*
 * Two UDP sockets on one loop, and a kernel between them that can be told to refuse.
 * One test program includes this once.
 */
#ifndef TUNN_UNIT_UDP_ENDS_H
#define TUNN_UNIT_UDP_ENDS_H

#include "tests/unit/until.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/base/metric.h"
#include "common/net/udp.h"

/* The kernel's answers, in front of libc's. */
static int send_errno, n_sends, send_most; /* the errno of each call; most messages a call takes */
static int n_sends_well;                   /* calls before those that have send_errno */
static int group_errno;                    /* the errno of a message of many datagrams ... */
static size_t group_most;                  /* longer than this */
static int n_messages, n_groups, n_reads;  /* that the kernel took; was offered; gave */
static int sender_fd;                      /* of the last call */
static bool truncate_next, no_offload;
static size_t room_next; /* for the next read */

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	n_sends++;
	sender_fd = fd;
	if (send_most) {
		n = n < (unsigned)send_most ? n : (unsigned)send_most;
		send_most = 0;
	} else if (send_errno && n_sends > n_sends_well) {
		errno = send_errno;
		return -1;
	}
	for (unsigned i = 0; i < n; i++) {
		if (!msgs[i].msg_hdr.msg_controllen)
			continue;
		n_groups++;
		if (!group_errno || msgs[i].msg_hdr.msg_iov[0].iov_len <= group_most)
			continue;
		if (i) { /* sendmmsg(2): the error comes with the next call */
			n = i;
			break;
		}
		errno = group_errno;
		return -1;
	}
	int sent = (int)syscall(SYS_sendmmsg, fd, msgs, n, flags);
	n_messages += sent > 0 ? sent : 0;
	return sent;
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
	struct iovec *iov = msgs[0].msg_hdr.msg_iov;
	size_t room = iov->iov_len;

	if (room_next)
		iov->iov_len = room_next;
	int got = (int)syscall(SYS_recvmmsg, fd, msgs, n, flags, timeout);

	iov->iov_len = room;
	if (got > 0 && truncate_next) {
		msgs[0].msg_hdr.msg_flags |= MSG_TRUNC;
		truncate_next = false;
	}
	if (got > 0) {
		room_next = 0;
		n_reads += got;
	}
	return got;
}

/* A kernel before 4.18. */
static bool is_unknown(int level, int name)
{
	return no_offload && level == SOL_UDP && (name == UDP_SEGMENT || name == UDP_GRO);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (is_unknown(level, name)) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (is_unknown(level, name)) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

enum { MANY = 100, A_TURN = 256 /* datagrams, says the header */, BURST = 10000, BURST_LEN = 4000 };
enum { FULL = 1420, GROUP = 46 /* of those fit 64 KiB */, GROUP_MAX = 64 /* says udp(7) */ };

struct end {
	struct udp *udp;
	unsigned n;
	size_t bytes, last_len;
	struct addr last_from;
	uint8_t last_byte;
	unsigned n_out_of_order;
	bool close_on_packet;
};

static struct end a, b;

static void on_packet(void *owner, const struct addr *from, struct pkt *p)
{
	struct end *e = owner;

	if (p->len && p->data[0] != (uint8_t)e->n)
		e->n_out_of_order++;
	e->n++;
	e->bytes += p->len;
	e->last_len = p->len;
	e->last_byte = p->len ? p->data[p->len - 1] : 0;
	e->last_from = *from;
	assert_true(p->born_ms > 0);
	pkt_free(p);
	if (e->close_on_packet)
		udp_close(e->udp);
}

static void open_at(struct end *e, const char *ip)
{
	struct addr local;

	*e = (struct end){ 0 };
	assert_int_equal(addr_of_ip(ip, 0, &local), 0);
	assert_int_equal(udp_open(loop, &local, on_packet, e, &e->udp), 0);
}

static int set_up(void **state)
{
	(void)state;
	send_errno = group_errno = n_sends = send_most = n_messages = n_groups = n_reads = 0;
	n_sends_well = 0;
	group_most = 0;
	truncate_next = no_offload = false;
	room_next = 0;
	loop_set_up();
	open_at(&a, "127.0.0.1");
	open_at(&b, "127.0.0.1");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	udp_close(a.udp);
	udp_close(b.udp);
	loop_tear_down();
	pkt_pool_drain();
	return 0;
}

static void send_to(struct end *from, const struct addr *to, size_t len, uint8_t byte)
{
	struct pkt *p = pkt_new(len);

	memset(p->data, byte, len);
	udp_queue(from->udp, to, p);
}

static unsigned awaited;
static inline bool all_arrived(void) { return b.n >= awaited; }
static bool queue_was_full(void) { return n_sends >= 2; }

/* The most datagrams of a turn. */
static struct task look;
static unsigned seen, most;

static void note_turn(struct task *t)
{
	most = b.n - seen > most ? b.n - seen : most;
	seen = b.n;
	loop_defer(loop, LOOP_PUMP, t);
}

static uint64_t overflows;
static unsigned n_before, n_same;
/* Nothing more comes: the kernel's buffer is empty. */
static bool burst_was_taken(void)
{
	n_same = b.n && b.n == n_before ? n_same + 1 : 0;
	n_before = b.n;
	return n_same == 20;
}

#endif
