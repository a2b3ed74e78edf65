#include "common/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/metric.h"

enum { ACCEPTS_PER_TURN = 64, PAUSE_MS = 100, BACKLOG = 1024 };

struct listener {
	int fd, reserve_fd; /* given up to get rid of one connection when none is left */
	struct watch *watch;
	struct timer *pause;
	void (*accepted)(void *owner, int fd, const struct addr *peer);
	void *owner;
};

static int open_reserve(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

/* Out of descriptors: the waiting connection would wake us for ever. */
static void shed(struct listener *l)
{
	close(l->reserve_fd);
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	l->reserve_fd = open_reserve();
	watch_want(l->watch, 0);
	timer_set(l->pause, PAUSE_MS);
}

static void on_readable(void *arg, unsigned what)
{
	struct listener *l = arg;

	(void)what;
	for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct addr peer = { .len = sizeof peer.ss };
		int fd = accept4(l->fd, (struct sockaddr *)&peer.ss, &peer.len,
		                 SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			l->accepted(l->owner, fd, &peer);
			continue;
		}
		if (errno == EAGAIN)
			return;
		metric_add(METRIC_ACCEPT_ERRORS, 1);
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			shed(l);
			return;
		}
	}
}

static void on_pause_over(void *arg)
{
	struct listener *l = arg;
	watch_want(l->watch, WATCH_READ);
}

/* Bound, and listening if nobody else is there; with `again` beside those that are. */
static int bind_socket(const struct addr *addr, bool any, bool again)
{
	int on = 1, off = 0;
	int fd = socket(addr->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	/* What it accepts inherits this, when the right to choose it may be gone. */
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3);
	if (addr->ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &off : &on, sizeof on);
	if (again)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	int rc = bind(fd, (const struct sockaddr *)&addr->ss, addr->len);
	/* Not before: a second relay would bind beside the first, and nobody notice. */
	if (rc == 0 && !again)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	if (rc < 0 || listen(fd, BACKLOG) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

bool listener_is_dual(int fd)
{
	int domain = 0, v6only = 1;
	socklen_t len = sizeof domain, v6_len = sizeof v6only;

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &v6_len);
	return domain == AF_INET6 && !v6only;
}

int listener_again(int fd)
{
	struct addr addr = { .len = sizeof addr.ss };
	int shares = 0, again = -1;
	socklen_t len = sizeof shares;

	getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shares, &len);
	if (shares && getsockname(fd, (struct sockaddr *)&addr.ss, &addr.len) == 0)
		again = bind_socket(&addr, listener_is_dual(fd), true);
	if (again < 0)
		again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return again < 0 ? -errno : again;
}

static int bind_any(const struct addr *addr)
{
	int fd = bind_socket(addr, true, false);

	if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) { /* a machine without IPv6 */
		struct addr v4;
		addr_of_ip("0.0.0.0", addr_port(addr), &v4);
		fd = bind_socket(&v4, false, false);
	}
	return fd;
}

int listener_bind(const struct addr *addr, bool any)
{
	return any ? bind_any(addr) : bind_socket(addr, false, false);
}

int listener_open(struct loop *loop, int fd,
                  void (*accepted)(void *owner, int fd, const struct addr *peer), void *owner,
                  struct listener **listener_out, struct addr *bound_out)
{
	struct listener *l = calloc(1, sizeof *l);

	if (!l) {
		close(fd);
		return -ENOMEM;
	}
	*l = (struct listener){ .fd = fd, .accepted = accepted, .owner = owner };
	l->reserve_fd = open_reserve();
	l->watch = watch_new(loop, fd, on_readable, l);
	l->pause = timer_new(loop, on_pause_over, l);
	bound_out->len = sizeof bound_out->ss;
	if (!l->watch || !l->pause || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
	    watch_want(l->watch, WATCH_READ) < 0 ||
	    getsockname(fd, (struct sockaddr *)&bound_out->ss, &bound_out->len) < 0) {
		listener_close(l);
		return -ENOMEM;
	}
	*listener_out = l;
	return 0;
}

void listener_close(struct listener *l)
{
	if (!l)
		return;
	watch_free(l->watch);
	timer_free(l->pause);
	if (l->reserve_fd >= 0)
		close(l->reserve_fd);
	close(l->fd);
	free(l);
}
