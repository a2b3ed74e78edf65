/*
 * A UDP generator that checks what comes back: sequence, checksum, time.
 *
 *   udpgen echo ADDR:PORT [--gso]
 *   udpgen sink ADDR:PORT [--seconds S] [--live] [--gso] [--arrivals FILE]
 *   udpgen send ADDR:PORT --rate PPS --size BYTES --seconds S [--gso]
 *   udpgen ping ADDR:PORT --rate PPS --size BYTES --seconds S [--window N] [--live] [--gso]
 *
 * rate 0 is as fast as a window of N (256) outstanding datagrams allows (ping) or as
 * the socket takes (send). The last line is JSON. Port 0 prints `port N` first.
 * --gso: what is due together is sent and received together, by UDP_SEGMENT and UDP_GRO.
 * --arrivals: of each whole datagram, as it came: nanoseconds of CLOCK_MONOTONIC, microseconds on
 * its way, bytes (8, 4, 4 bytes in the machine's order).
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/net/addr.h"

enum { HEAD = 24, BATCH = 32, SAMPLES = 1 << 20, SIZE_MAX_UDP = 65507, GSO_SEGMENTS = 64 };
enum { GSO_BYTES = 65536 - 14 - 40 - 8 }; /* what a receiver can have in one piece */
#define LATE_NS UINT64_C(2000000000)      /* what is not back by then is lost */

struct head { /* in front of every datagram of at least HEAD bytes */
	uint64_t seq, sent_ns;
	uint32_t len, sum;
};

struct arrival { /* in the file of --arrivals */
	uint64_t ns;
	uint32_t late_us, len;
};

static struct {
	unsigned rate, size, window;
	double seconds;
	bool live, gso;
	FILE *arrivals;
} opt = { 1000, 1420, 256, 5, false, false, NULL };

static struct {
	uint64_t sent, received, lost, duplicated, reordered, corrupt, bytes, next_seq;
	uint32_t *latency_us;
	uint64_t n_latency, first_ns, last_ns;
} st;

static volatile sig_atomic_t stopped;
static void on_stop(int signo)
{
	(void)signo;
	stopped = 1;
}

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint32_t sum_of(const uint8_t *p, size_t n)
{
	uint32_t a = 1, b = 0; /* Adler-32 without the modulus: enough to see damage */
	while (n--) {
		a += *p++;
		b += a;
	}
	return a ^ b << 7;
}

static void make(uint8_t *d, size_t size, uint64_t seq)
{
	struct head h = { .seq = seq, .sent_ns = now_ns(), .len = (uint32_t)size };

	if (size < HEAD)
		return;
	memcpy(d, &h, HEAD);
	h.sum = sum_of(d, HEAD - 4) + (uint32_t)seq;
	memcpy(d, &h, HEAD);
}

static uint8_t body[65536]; /* the same for all, but for the head */

static bool is_whole(const uint8_t *d, size_t n, struct head *h)
{
	if (n < HEAD)
		return false;
	memcpy(h, d, HEAD);
	uint32_t sum = h->sum;
	struct head zero = *h;
	zero.sum = 0;
	uint8_t raw[HEAD];
	memcpy(raw, &zero, HEAD);
	return h->len == n && sum_of(raw, HEAD - 4) + (uint32_t)h->seq == sum &&
	       memcmp(d + HEAD, body + HEAD, n - HEAD) == 0;
}

static uint8_t seen[1 << 22]; /* bitmap of the last 32 M sequence numbers */

static void account(const uint8_t *d, size_t n)
{
	struct head h;
	uint64_t now = now_ns();

	if (!st.first_ns)
		st.first_ns = now;
	st.last_ns = now;
	if (!is_whole(d, n, &h)) {
		st.corrupt++;
		return;
	}
	uint64_t bit = h.seq % (sizeof seen * 8);
	if (seen[bit / 8] & 1 << bit % 8) {
		st.duplicated++;
		return;
	}
	seen[bit / 8] |= (uint8_t)(1 << bit % 8);
	if (h.seq < st.next_seq)
		st.reordered++;
	else
		st.next_seq = h.seq + 1;
	st.received++;
	st.bytes += n;
	struct arrival one = { now, (uint32_t)((now - h.sent_ns) / 1000), (uint32_t)n };
	st.latency_us[st.n_latency++ % SAMPLES] = one.late_us;
	if (opt.arrivals)
		fwrite(&one, sizeof one, 1, opt.arrivals);
}

static int order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static uint32_t percentile(double p)
{
	uint64_t n = st.n_latency < SAMPLES ? st.n_latency : SAMPLES;
	return n ? st.latency_us[(uint64_t)(p * (double)(n - 1))] : 0;
}

static void report(void)
{
	uint64_t expected = st.sent ? st.sent : st.next_seq;
	uint64_t n = st.n_latency < SAMPLES ? st.n_latency : SAMPLES;
	double span = (double)(st.last_ns - st.first_ns) / 1e9;

	st.lost = expected > st.received ? expected - st.received : 0;
	qsort(st.latency_us, n, sizeof *st.latency_us, order);
	printf("{\"sent\": %llu, \"received\": %llu, \"lost\": %llu, \"duplicated\": %llu, "
	       "\"reordered\": %llu, \"corrupt\": %llu, \"seconds\": %.3f, \"pps\": %.0f, "
	       "\"mbit\": %.1f, \"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u}\n",
	       (unsigned long long)st.sent, (unsigned long long)st.received,
	       (unsigned long long)st.lost, (unsigned long long)st.duplicated,
	       (unsigned long long)st.reordered, (unsigned long long)st.corrupt, span,
	       span > 0 ? (double)st.received / span : 0,
	       span > 0 ? (double)st.bytes * 8 / span / 1e6 : 0, percentile(0.5), percentile(0.99),
	       percentile(1));
	fflush(stdout);
}

static void live(uint64_t *next_ns, uint64_t *last_received)
{
	uint64_t now = now_ns();

	if (!opt.live || now < *next_ns)
		return;
	printf("  %8llu/s  rtt %6.2f ms  missing %llu\n",
	       (unsigned long long)(st.received - *last_received),
	       st.n_latency ? st.latency_us[(st.n_latency - 1) % SAMPLES] / 1000.0 : 0,
	       (unsigned long long)(st.sent > st.received ? st.sent - st.received : 0));
	fflush(stdout);
	*last_received = st.received;
	*next_ns = now + 1000000000;
}

static int open_socket(const struct addr *bind_to, const struct addr *connect_to)
{
	const struct addr *a = bind_to ? bind_to : connect_to;
	int fd = socket(a->ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 7 << 20, on = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	if (opt.gso && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) < 0) {
		perror("udpgen: UDP_GRO");
		exit(1);
	}
	if (bind_to && bind(fd, (const struct sockaddr *)&bind_to->ss, bind_to->len) < 0) {
		perror("udpgen: bind");
		exit(1);
	}
	if (bind_to) {
		struct addr real = { .len = sizeof real.ss };
		getsockname(fd, (struct sockaddr *)&real.ss, &real.len);
		printf("port %u\n", addr_port(&real));
		fflush(stdout);
	}
	if (connect_to &&
	    connect(fd, (const struct sockaddr *)&connect_to->ss, connect_to->len) < 0) {
		perror("udpgen: connect");
		exit(1);
	}
	return fd;
}

struct batch {
	uint8_t data[BATCH][65536];
	struct sockaddr_storage from[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr m[BATCH];
	_Alignas(struct cmsghdr) uint8_t control[BATCH][CMSG_SPACE(sizeof(int))];
};
static struct batch in;

static int receive(int fd, int flags)
{
	for (int i = 0; i < BATCH; i++) {
		in.iov[i] = (struct iovec){ in.data[i], sizeof in.data[i] };
		in.m[i].msg_hdr = (struct msghdr){
			.msg_name = &in.from[i],
			.msg_namelen = sizeof in.from[i],
			.msg_iov = &in.iov[i],
			.msg_iovlen = 1,
			.msg_control = opt.gso ? in.control[i] : NULL,
			.msg_controllen = opt.gso ? sizeof in.control[i] : 0
		};
	}
	return recvmmsg(fd, in.m, BATCH, flags, NULL);
}

/* The size of the datagrams that came together. */
static unsigned segment_of(struct mmsghdr *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(&m->msg_hdr);
	int segment = 0;

	if (c && c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
		memcpy(&segment, CMSG_DATA(c), sizeof segment);
	return segment > 0 ? (unsigned)segment : m->msg_len;
}

/* Sent as n bytes, it is cut into datagrams of this size. */
static void ask_segments(struct msghdr *h, uint8_t *control, unsigned size)
{
	uint16_t segment = (uint16_t)size;

	h->msg_control = control;
	h->msg_controllen = CMSG_SPACE(sizeof segment);
	struct cmsghdr *c = CMSG_FIRSTHDR(h);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof segment);
	memcpy(CMSG_DATA(c), &segment, sizeof segment);
}

static void echo(int fd)
{
	while (!stopped) {
		int n = receive(fd, MSG_WAITFORONE);
		for (int i = 0; i < n; i++) {
			unsigned segment = segment_of(&in.m[i]);
			in.iov[i].iov_len = in.m[i].msg_len;
			in.m[i].msg_hdr.msg_controllen = 0;
			if (segment < in.m[i].msg_len)
				ask_segments(&in.m[i].msg_hdr, in.control[i], segment);
		}
		for (int done = 0; done < n;) {
			int k = sendmmsg(fd, in.m + done, (unsigned)(n - done), 0);
			if (k <= 0)
				break;
			done += k;
		}
	}
}

/* Up to a batch; how many reads that were. */
static int account_some(int fd)
{
	int n = receive(fd, MSG_DONTWAIT);

	for (int i = 0; i < n; i++) {
		unsigned all = in.m[i].msg_len, segment = segment_of(&in.m[i]), at = 0;
		do {
			account(in.data[i] + at, all - at < segment ? all - at : segment);
			at += segment;
		} while (at < all);
	}
	return n;
}

static void sink(int fd)
{
	uint64_t end = 0, next = now_ns() + 1000000000, last = 0;

	while (!stopped && (!end || now_ns() < end)) {
		struct pollfd p = { fd, POLLIN, 0 };
		if (poll(&p, 1, 100) > 0 && account_some(fd) > 0 && !end && opt.seconds > 0)
			end = now_ns() + (uint64_t)(opt.seconds * 1e9);
		live(&next, &last);
	}
	report();
}

static uint8_t out[2 * 65536]; /* what send_some() sends: bodies side by side */

static void fill(void)
{
	for (size_t i = 0; i < GSO_SEGMENTS && (i + 1) * opt.size <= sizeof out; i++)
		memcpy(out + i * opt.size, body, opt.size);
}

/* One datagram, or with --gso as many of those that are due as one message takes. */
static bool send_some(int fd, uint64_t due)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
	unsigned most = opt.gso && opt.size ? GSO_BYTES / opt.size : 1, n = 1;
	struct iovec iov = { .iov_base = out };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (most > GSO_SEGMENTS)
		most = GSO_SEGMENTS;
	if (most > 1)
		n = due < most ? (unsigned)due : most;
	for (unsigned i = 0; i < n; i++)
		make(out + i * opt.size, opt.size, st.sent + i);
	if (n > 1)
		ask_segments(&h, control, opt.size);
	iov.iov_len = (size_t)n * opt.size;
	if (sendmsg(fd, &h, MSG_DONTWAIT) < 0)
		return false;
	st.sent += n;
	return true;
}

static void drain(int fd, int wait_ms)
{
	struct pollfd p = { fd, POLLIN, 0 };

	if (wait_ms && poll(&p, 1, wait_ms) <= 0)
		return;
	while (account_some(fd) > 0)
		;
}

static void run(int fd, bool ping)
{
	uint64_t start = now_ns(), end = start + (uint64_t)(opt.seconds * 1e9),
	         next = start + 1000000000, last = 0, stuck_ns = 0, stuck_at = 0;

	fill();
	while (!stopped && now_ns() < end) {
		uint64_t now = now_ns();
		uint64_t due = opt.rate ? (now - start) * opt.rate / 1000000000 : UINT64_MAX;
		uint64_t window = ping && !opt.rate ? st.received + st.lost + opt.window :
		                                      UINT64_MAX;
		uint64_t most = due < window ? due : window;
		for (int i = 0; i < BATCH && st.sent < most; i++)
			if (!send_some(fd, most - st.sent))
				break;
		if (ping)
			drain(fd, st.sent < most ? 0 : 1);
		else if (st.sent >= due)
			usleep(20);
		if (st.received != stuck_at || !stuck_ns) {
			stuck_at = st.received;
			stuck_ns = now;
		} else if (now - stuck_ns > 200000000) {
			st.lost = st.sent - st.received; /* the window moves on without them */
		}
		live(&next, &last);
	}
	for (end = now_ns() + LATE_NS; ping && st.received < st.sent && now_ns() < end;)
		drain(fd, 100);
	report();
}

static bool take(int argc, char **argv, int *i)
{
	if (strcmp(argv[*i], "--live") == 0)
		return opt.live = true;
	if (strcmp(argv[*i], "--gso") == 0)
		return opt.gso = true;
	if (*i + 1 >= argc)
		return false;
	const char *v = argv[*i + 1];
	if (strcmp(argv[*i], "--rate") == 0)
		opt.rate = (unsigned)atoi(v);
	else if (strcmp(argv[*i], "--size") == 0)
		opt.size = (unsigned)atoi(v);
	else if (strcmp(argv[*i], "--window") == 0)
		opt.window = (unsigned)atoi(v);
	else if (strcmp(argv[*i], "--seconds") == 0)
		opt.seconds = atof(v);
	else if (strcmp(argv[*i], "--arrivals") == 0)
		return (*i)++, (opt.arrivals = fopen(v, "w")) != NULL;
	else
		return false;
	(*i)++;
	return true;
}

int main(int argc, char **argv)
{
	struct addr a;
	bool any;

	for (int i = 3; i < argc; i++)
		if (!take(argc, argv, &i))
			argc = 0;
	if (argc < 3 || addr_of_listen(argv[2], &a, &any) < 0 || opt.size > SIZE_MAX_UDP) {
		fprintf(stderr,
		        "usage: udpgen echo|sink|send|ping ADDR:PORT [--rate PPS] [--size BYTES] "
		        "[--seconds S] [--window N] [--gso] [--live] "
		        "[--arrivals FILE]\n");
		return 2;
	}
	signal(SIGTERM, on_stop);
	signal(SIGINT, on_stop);
	struct sigaction sa = { .sa_handler = on_stop };
	sigaction(SIGTERM, &sa, NULL);
	for (size_t i = 0; i < sizeof body; i++)
		body[i] = (uint8_t)(i * 7);
	st.latency_us = calloc(SAMPLES, sizeof *st.latency_us);
	if (strcmp(argv[1], "echo") == 0)
		echo(open_socket(&a, NULL));
	else if (strcmp(argv[1], "sink") == 0)
		sink(open_socket(&a, NULL));
	else
		run(open_socket(NULL, &a), strcmp(argv[1], "ping") == 0);
	return 0;
}
