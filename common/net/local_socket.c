#include "common/net/local_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/list.h"
#include "common/net/listener.h"

enum { PATH_LEN = 512, BACKLOG = 128, ANSWER_MAX = 64 << 20, READ_LEN = 16384 };

struct local_socket {
	struct loop *loop;
	const struct local_socket_events *events;
	void *owner;
	struct listener *listener;
	struct list conns;
	unsigned n_conns;
	char path[PATH_LEN];
};

struct asker { /* a connection */
	struct list others;
	struct local_socket *local;
	int fd;
	uid_t uid;
	struct watch *watch;
	struct timer *deadline;
	char *in; /* LOCAL_QUESTION_MAX bytes */
	size_t in_len;
	char *answer; /* NULL: it is still asking */
	size_t len, sent;
};

/* ---- the address ---- */

/* A path of any length: the kernel's structure has room for 107 bytes, so that the directory
 * is named by a descriptor where it is longer. Negative or 0; *dir_fd_out is to be closed. */
static int address_of(const char *dir, const char *name, struct sockaddr_un *sun, int *dir_fd_out)
{
	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*dir_fd_out = -1;
	int n = snprintf(sun->sun_path, sizeof sun->sun_path, "%s/%s", dir, name);
	if (n < 0 || (size_t)n < sizeof sun->sun_path)
		return n < 0 ? -EINVAL : 0;
	*dir_fd_out = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir_fd_out < 0)
		return -errno;
	n = snprintf(sun->sun_path, sizeof sun->sun_path, "/proc/self/fd/%d/%s", *dir_fd_out, name);
	return n < 0 || (size_t)n >= sizeof sun->sun_path ? -ENAMETOOLONG : 0;
}

/* use: bind() or connect(). A descriptor or -errno. */
static int socket_at(const char *dir, const char *name, int flags,
                     int (*use)(int, const struct sockaddr *, socklen_t))
{
	const struct timeval limit = { .tv_sec = LOCAL_DEADLINE_MS / 1000 };
	struct sockaddr_un sun;
	int dir_fd, fd = -1, rc = address_of(dir, name, &sun, &dir_fd);

	if (rc == 0) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
		rc = fd < 0 ? -errno : 0;
	}
	/* So long connect() waits for a place among those who are to be accepted. */
	if (rc == 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (rc == 0 && use(fd, (const struct sockaddr *)&sun, sizeof sun) < 0)
		rc = errno == EAGAIN ? ERR_SLOW : -errno;
	if (dir_fd >= 0)
		close(dir_fd);
	if (rc < 0 && fd >= 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

/* ---- a connection ---- */

static void asker_end(struct asker *k)
{
	list_del(&k->others);
	k->local->n_conns--;
	watch_free(k->watch);
	timer_free(k->deadline);
	close(k->fd);
	free(k->in);
	if (k->answer)
		crypto_wipe(k->answer, k->len);
	free(k->answer);
	free(k);
}

static void on_deadline(void *arg) { asker_end(arg); }

/* Sends what the socket takes; the connection ends when that was all. */
static void pump(struct asker *k)
{
	while (k->sent < k->len) {
		ssize_t n = send(k->fd, k->answer + k->sent, k->len - k->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && watch_want(k->watch, WATCH_WRITE) == 0)
			return;
		if (n < 0)
			break;
		k->sent += (size_t)n;
	}
	asker_end(k);
}

/* Takes the answer, which gets its line break. */
static void answer_with(struct asker *k, char *text, size_t len)
{
	char *line = text ? malloc(len + 1) : NULL;

	if (line) {
		memcpy(line, text, len);
		line[len] = '\n';
		k->answer = line;
		k->len = len + 1;
		timer_set(k->deadline, LOCAL_DEADLINE_MS);
	}
	if (text)
		crypto_wipe(text, len);
	free(text);
	pump(k);
}

static void answer_trouble(struct asker *k, enum local_socket_trouble why)
{
	const struct local_socket *l = k->local;
	size_t len = 0;
	char *text = l->events->trouble(l->owner, why, k->uid, &len);

	answer_with(k, text, len);
}

static void answer_question(struct asker *k, size_t line_len)
{
	const struct local_socket *l = k->local;
	size_t len = 0;
	char *text = l->events->question(l->owner, (struct str){ k->in, line_len }, k->uid, &len);

	answer_with(k, text, len);
}

static void on_question(struct asker *k)
{
	char *room = k->in + k->in_len;
	ssize_t n = recv(k->fd, room, LOCAL_QUESTION_MAX - k->in_len, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		asker_end(k);
		return;
	}
	k->in_len += (size_t)n;
	const char *end = memchr(room, '\n', (size_t)n);
	if (end)
		answer_question(k, (size_t)(end - k->in));
	else if (k->in_len == LOCAL_QUESTION_MAX)
		answer_trouble(k, LOCAL_TOO_BIG);
}

static void on_ready(void *arg, unsigned what)
{
	struct asker *k = arg;

	(void)what;
	if (k->answer)
		pump(k);
	else
		on_question(k);
}

/* NULL: out of memory; fd is closed. */
static struct asker *asker_new(struct local_socket *l, int fd)
{
	struct asker *k = calloc(1, sizeof *k);

	if (!k) {
		close(fd);
		return NULL;
	}
	*k = (struct asker){ .local = l, .fd = fd, .uid = (uid_t)-1 };
	list_add_tail(&l->conns, &k->others);
	l->n_conns++;
	k->in = malloc(LOCAL_QUESTION_MAX);
	k->watch = watch_new(l->loop, fd, on_ready, k);
	k->deadline = timer_new(l->loop, on_deadline, k);
	if (!k->in || !k->watch || !k->deadline || watch_want(k->watch, WATCH_READ) < 0) {
		asker_end(k);
		return NULL;
	}
	timer_set(k->deadline, LOCAL_DEADLINE_MS);
	return k;
}

/* The mode of the socket may have been changed, and so may that of its directory. */
static bool is_allowed(struct asker *k)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof peer;

	if (getsockopt(k->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
		k->uid = peer.uid;
	return k->uid == 0 || (k->uid != (uid_t)-1 && k->uid == geteuid());
}

static void on_accepted(void *owner, int fd, const struct addr *peer)
{
	struct local_socket *l = owner;
	struct asker *k = asker_new(l, fd);

	(void)peer;
	if (!k)
		return;
	if (!is_allowed(k))
		answer_trouble(k, LOCAL_DENIED);
	else if (l->n_conns > LOCAL_CONNS_MAX)
		answer_trouble(k, LOCAL_CROWDED);
}

/* ---- serving ---- */

/* Nobody else can have connected before: the mask holds from the first moment. */
static int listen_at(const char *dir, const char *name)
{
	mode_t old = umask(0177);
	int fd = socket_at(dir, name, SOCK_NONBLOCK, bind);

	umask(old);
	if (fd >= 0 && listen(fd, BACKLOG) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

int local_socket_open(struct loop *loop, const char *dir, const char *name,
                      const struct local_socket_events *events, void *owner,
                      struct local_socket **local_out)
{
	struct local_socket *l = calloc(1, sizeof *l);
	struct addr unused;

	if (!l)
		return -ENOMEM;
	*l = (struct local_socket){ .loop = loop, .events = events, .owner = owner };
	list_init(&l->conns);
	int n = snprintf(l->path, sizeof l->path, "%s/%s", dir, name);
	int rc = n > 0 && (size_t)n < sizeof l->path ? 0 : -ENAMETOOLONG;
	if (rc == 0 && unlink(l->path) < 0 && errno != ENOENT)
		rc = -errno;
	if (rc == 0)
		rc = listen_at(dir, name);
	if (rc >= 0)
		rc = listener_open(loop, rc, on_accepted, l, &l->listener, &unused);
	if (rc < 0) {
		free(l);
		return rc;
	}
	*local_out = l;
	return 0;
}

void local_socket_close(struct local_socket *l)
{
	if (!l)
		return;
	unlink(l->path);
	listener_close(l->listener);
	list_each(it, next, &l->conns)
		asker_end(container_of(it, struct asker, others));
	free(l);
}

/* ---- asking ---- */

/* 0 when it is ready, ERR_SLOW or -errno. */
static int await(int fd, short events, uint64_t end_ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		uint64_t now_ms = clock_now_ms();
		if (now_ms >= end_ms)
			return ERR_SLOW;
		int n = poll(&p, 1, (int)(end_ms - now_ms));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int send_all(int fd, const char *p, size_t len, uint64_t end_ms)
{
	int rc = 0;

	while (rc == 0 && len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			p += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			rc = await(fd, POLLOUT, end_ms);
		} else if (errno == EPIPE || errno == ECONNRESET) {
			return 0; /* perhaps it has said why */
		} else if (errno != EINTR) {
			rc = -errno;
		}
	}
	return rc;
}

struct answer {
	char *text;
	size_t len, cap;
};

static int grow(struct answer *a)
{
	size_t cap = a->cap ? 2 * a->cap : READ_LEN;
	char *text = cap <= ANSWER_MAX ? malloc(cap) : NULL;

	if (!text)
		return cap <= ANSWER_MAX ? -ENOMEM : ERR_TOO_BIG;
	if (a->text) {
		memcpy(text, a->text, a->len);
		crypto_wipe(a->text, a->len); /* a token may be in it */
		free(a->text);
	}
	a->text = text;
	a->cap = cap;
	return 0;
}

/* Up to the line break. */
static int receive(int fd, struct answer *a, uint64_t end_ms)
{
	for (;;) {
		int rc = a->len + 1 >= a->cap ? grow(a) : 0;
		if (rc == 0)
			rc = await(fd, POLLIN, end_ms);
		if (rc < 0)
			return rc;
		ssize_t n = recv(fd, a->text + a->len, a->cap - a->len - 1, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return ERR_CLOSED;
		a->len += (size_t)n;
		if (a->text[a->len - 1] == '\n')
			break;
	}
	a->text[--a->len] = 0;
	return 0;
}

static int ask(int fd, struct str question, uint64_t end_ms, struct answer *a)
{
	int rc = send_all(fd, question.p, question.len, end_ms);

	if (rc == 0)
		rc = send_all(fd, "\n", 1, end_ms);
	return rc ? rc : receive(fd, a, end_ms);
}

int local_socket_ask(const char *dir, const char *name, struct str question, unsigned limit_ms,
                     char **answer_out, size_t *len_out)
{
	struct answer a = { 0 };
	int fd = socket_at(dir, name, 0, connect);

	if (fd < 0)
		return fd;
	int rc = ask(fd, question, clock_now_ms() + limit_ms, &a);
	close(fd);
	if (rc < 0) {
		if (a.text)
			crypto_wipe(a.text, a.len);
		free(a.text);
		return rc;
	}
	*answer_out = a.text;
	*len_out = a.len;
	return 0;
}
