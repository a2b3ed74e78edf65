/*
 * A slow link between two network namespaces, as two TUN devices with this
 * program between them: rate, one-way delay, a buffer that drops what does not
 * fit, random loss. The same in both directions, each with a buffer of its own.
 *
 *   linkemu [--rate-mbit R] [--delay-ms D] [--buffer-kb B] [--loss-percent L] [--seed N]
 *           NAMESPACE/DEVICE NAMESPACE/DEVICE
 *
 * Says `ready` when both devices are there; who runs it gives them addresses.
 * SIGUSR1 and the end (SIGTERM, SIGINT) print the statistics as a JSON line.
 *
 * An IP packet waits in the buffer until the wire is free, takes its length over
 * the rate to leave, and arrives the delay later. A lost one has used the wire.
 * Rate 0 is a wire without limit, on which nothing waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	PACKET_MAX = 65535,
	TURN = 64,           /* packets read of one side before the others have their turn */
	DEVICE_QUEUE = 8192, /* packets; what overflows there would be a loss we do not count */
	WAY_MAX = 1 << 28,   /* bytes on their way: a wire without limit must end somewhere */
};

struct packet {
	STAILQ_ENTRY(packet) node;
	uint64_t left_ns, due_ns; /* its last bit is on the wire; it is at the other end */
	bool lost;
	uint32_t len;
	uint8_t data[];
};

struct way {
	const char *name;
	int in, out;
	STAILQ_HEAD(, packet) packets;
	struct packet *waiting; /* the first whose last bit has not left; NULL: none */
	size_t waiting_bytes, all_bytes;
	uint64_t free_ns; /* when the wire has nothing to carry */
	uint64_t random;
	struct {
		uint64_t forwarded, bytes, buffer, loss, refused;
		uint64_t n_waits, wait_ns, wait_max_ns, late_max_ns;
	} n;
};

static struct {
	double rate_mbit, delay_ms, buffer_kb, loss_percent, seed;
} opt = { 0, 0, 1000, 0, 1 };

static volatile sig_atomic_t stopped, asked;

static void on_signal(int signo)
{
	if (signo == SIGUSR1)
		asked = 1;
	else
		stopped = 1;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list args;

	fputs("linkemu: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- the wire ---- */

/* splitmix64 (Steele, Lea, Flood 2014): any seed is a good one. */
static uint64_t draw(struct way *w)
{
	uint64_t z = w->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static bool is_lost(struct way *w)
{
	return (double)(draw(w) >> 11) * 0x1p-53 * 100 < opt.loss_percent;
}

static void let_leave(struct way *w, uint64_t now)
{
	while (w->waiting && w->waiting->left_ns <= now) {
		w->waiting_bytes -= w->waiting->len;
		w->waiting = STAILQ_NEXT(w->waiting, node);
	}
}

static bool fits(const struct way *w, size_t len)
{
	if (opt.rate_mbit > 0 && (double)(w->waiting_bytes + len) > opt.buffer_kb * 1000)
		return false;
	return w->all_bytes + len <= WAY_MAX;
}

static void take(struct way *w, const uint8_t *data, size_t len, uint64_t now)
{
	struct packet *p;

	let_leave(w, now);
	if (!fits(w, len) || (p = malloc(sizeof *p + len)) == NULL) {
		w->n.buffer++;
		return;
	}
	uint64_t start = w->free_ns > now ? w->free_ns : now, wait = start - now;
	uint64_t takes = opt.rate_mbit > 0 ? (uint64_t)((double)len * 8000 / opt.rate_mbit) : 0;
	p->len = (uint32_t)len;
	p->left_ns = w->free_ns = start + takes;
	p->due_ns = p->left_ns + (uint64_t)(opt.delay_ms * 1e6);
	p->lost = is_lost(w);
	memcpy(p->data, data, len);
	STAILQ_INSERT_TAIL(&w->packets, p, node);
	if (!w->waiting)
		w->waiting = p;
	w->waiting_bytes += len;
	w->all_bytes += len;
	w->n.n_waits++;
	w->n.wait_ns += wait;
	if (wait > w->n.wait_max_ns)
		w->n.wait_max_ns = wait;
}

static void hand_over(struct way *w, const struct packet *p, uint64_t now)
{
	if (p->lost) {
		w->n.loss++;
		return;
	}
	if (now - p->due_ns > w->n.late_max_ns)
		w->n.late_max_ns = now - p->due_ns;
	if (write(w->out, p->data, p->len) != (ssize_t)p->len) {
		w->n.refused++; /* the device is down */
		return;
	}
	w->n.forwarded++;
	w->n.bytes += p->len;
}

static void deliver(struct way *w)
{
	struct packet *p;
	uint64_t now = now_ns();

	let_leave(w, now);
	while ((p = STAILQ_FIRST(&w->packets)) != NULL && p->due_ns <= now) {
		STAILQ_REMOVE_HEAD(&w->packets, node);
		w->all_bytes -= p->len;
		hand_over(w, p, now);
		free(p);
	}
}

static void read_some(struct way *w)
{
	static uint8_t data[PACKET_MAX];
	ssize_t len;

	for (int i = 0; i < TURN && (len = read(w->in, data, sizeof data)) > 0; i++)
		take(w, data, (size_t)len, now_ns());
}

/* ---- statistics ---- */

static void report(struct way *ways)
{
	for (int i = 0; i < 2; i++) {
		struct way *w = &ways[i];
		size_t n = 0;
		struct packet *p;
		STAILQ_FOREACH(p, &w->packets, node)
		n++;
		printf("%s\"%s\": {\"forwarded\": %llu, \"bytes\": %llu, \"dropped_buffer\": %llu, "
		       "\"dropped_loss\": %llu, \"refused\": %llu, \"on_the_way\": %zu, "
		       "\"wait_us\": %.0f, \"wait_max_us\": %.0f, \"late_max_us\": %.0f}%s",
		       i ? ", " : "{", w->name, (unsigned long long)w->n.forwarded,
		       (unsigned long long)w->n.bytes, (unsigned long long)w->n.buffer,
		       (unsigned long long)w->n.loss, (unsigned long long)w->n.refused, n,
		       w->n.n_waits ? (double)w->n.wait_ns / 1e3 / (double)w->n.n_waits : 0,
		       (double)w->n.wait_max_ns / 1e3, (double)w->n.late_max_ns / 1e3,
		       i ? "}\n" : "");
		/* Times are of the span since the last report, counts since the start. */
		w->n.n_waits = w->n.wait_ns = w->n.wait_max_ns = w->n.late_max_ns = 0;
	}
	fflush(stdout);
}

/* ---- running ---- */

static struct timespec *until_due(const struct way *ways, struct timespec *ts_out)
{
	uint64_t due = UINT64_MAX, now = now_ns();

	for (int i = 0; i < 2; i++) {
		const struct packet *p = STAILQ_FIRST(&ways[i].packets);
		if (p && p->due_ns < due)
			due = p->due_ns;
	}
	if (due == UINT64_MAX)
		return NULL;
	uint64_t ns = due > now ? due - now : 0;
	*ts_out = (struct timespec){ (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
	return ts_out;
}

static void run(struct way *ways, const sigset_t *mask)
{
	struct pollfd fds[2] = { { ways[0].in, POLLIN, 0 }, { ways[1].in, POLLIN, 0 } };

	while (!stopped) {
		struct timespec ts;
		/* Signals come here and nowhere else. */
		int n = ppoll(fds, 2, until_due(ways, &ts), mask);
		if (n < 0 && errno != EINTR)
			die("ppoll: %s", strerror(errno));
		for (int i = 0; i < 2; i++) {
			if (n > 0 && fds[i].revents)
				read_some(&ways[i]);
			deliver(&ways[i]);
		}
		if (asked) {
			asked = 0;
			report(ways);
		}
	}
	report(ways);
}

/* What was on the way. */
static void forget(struct way *w)
{
	struct packet *p;

	while ((p = STAILQ_FIRST(&w->packets)) != NULL) {
		STAILQ_REMOVE_HEAD(&w->packets, node);
		free(p);
	}
}

/* ---- start ---- */

/* A TUN device stays in the namespace in which it was made; its descriptor works from anywhere. */
static int open_device(char *where)
{
	char *dev = strchr(where, '/'), path[256];
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };

	if (!dev || dev == where || !dev[1] || strlen(dev + 1) >= IFNAMSIZ)
		die("'%s': must be NAMESPACE/DEVICE", where);
	snprintf(path, sizeof path, "/run/netns/%.*s", (int)(dev - where), where);
	strcpy(ifr.ifr_name, dev + 1);
	int ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
		die("namespace %s: %s", path, strerror(errno));
	close(ns);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0)
		die("device %s: %s", where, strerror(errno));
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_qlen = DEVICE_QUEUE;
	if (s < 0 || ioctl(s, SIOCSIFTXQLEN, &ifr) < 0)
		die("queue of %s: %s", where, strerror(errno));
	close(s);
	return fd;
}

static double number(const char *name, const char *text, double most)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0 && v <= most))
		die("--%s %s: must be a number from 0 to %.0f", name, text, most);
	return v;
}

static void read_options(int argc, char **argv)
{
	static const struct {
		const char *name;
		double *to, most;
	} options[] = {
		{ "rate-mbit", &opt.rate_mbit, 10000 },  { "delay-ms", &opt.delay_ms, 60000 },
		{ "buffer-kb", &opt.buffer_kb, 100000 }, { "loss-percent", &opt.loss_percent, 100 },
		{ "seed", &opt.seed, 4294967295 },
	};
	enum { N = sizeof options / sizeof *options };
	struct option names[N + 1] = { 0 };
	int i;

	for (i = 0; i < N; i++)
		names[i] = (struct option){ options[i].name, required_argument, NULL, 0 };
	for (int c; (c = getopt_long(argc, argv, "", names, &i)) != -1;) {
		if (c != 0)
			exit(2); /* getopt said what */
		*options[i].to = number(options[i].name, optarg, options[i].most);
	}
	if (argc - optind != 2)
		die("two ends are needed, each NAMESPACE/DEVICE");
	if (opt.rate_mbit > 0 && opt.buffer_kb < 1.5)
		die("--buffer-kb %g: must be at least 1.5, one packet", opt.buffer_kb);
}

/* Signals only within ppoll(). */
static void catch_signals(sigset_t *mask_out)
{
	struct sigaction sa = { .sa_handler = on_signal };
	sigset_t ours;

	sigemptyset(&ours);
	for (const int *s = (const int[]){ SIGUSR1, SIGTERM, SIGINT, 0 }; *s; s++) {
		sigaddset(&ours, *s);
		sigaction(*s, &sa, NULL);
	}
	sigprocmask(SIG_BLOCK, &ours, mask_out);
}

int main(int argc, char **argv)
{
	struct way ways[2] = { { .name = "there" }, { .name = "back" } };
	sigset_t mask;

	read_options(argc, argv);
	catch_signals(&mask);
	/* Deadlines to the microsecond, also where others compute. Refused: then as well as it
	 * goes. */
	prctl(PR_SET_TIMERSLACK, 1);
	sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
	for (int i = 0; i < 2; i++) {
		int fd = open_device(argv[optind + i]);
		ways[i].in = ways[1 - i].out = fd;
		ways[i].random = (uint64_t)opt.seed + (uint64_t)i * 0x632be59bd9b4e019;
		STAILQ_INIT(&ways[i].packets);
	}
	puts("ready");
	fflush(stdout);
	run(ways, &mask);
	for (int i = 0; i < 2; i++)
		forget(&ways[i]);
	return 0;
}
