#include "common/net/resolve.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What the helper thread and the loop share. Whoever lets go last frees it; the
 * answer is written before the eventfd, which orders it. */
struct lookup {
	atomic_int holders; /* acq_rel: the last one sees everything */
	char host[256];
	uint16_t port;
	int fd;
	struct addr addrs[RESOLVE_MAX];
	size_t n;
	char error[160];
};

struct resolve {
	struct lookup *lookup;
	struct watch *watch;
	void (*done)(void *owner, const struct addr *, size_t n, const char *error);
	void *owner;
};

static void let_go(struct lookup *l)
{
	if (atomic_fetch_sub_explicit(&l->holders, 1, memory_order_acq_rel) != 1)
		return;
	close(l->fd);
	free(l);
}

/* IPv6 first, families alternating (RFC 8305 section 4). */
static void interleave(struct lookup *l, const struct addrinfo *list)
{
	const struct addrinfo *next[2] = { list, list };
	static const int families[2] = { AF_INET6, AF_INET };

	for (unsigned turn = 0; l->n < RESOLVE_MAX && (next[0] || next[1]); turn++) {
		const struct addrinfo **at = &next[turn % 2];
		while (*at && (*at)->ai_family != families[turn % 2])
			*at = (*at)->ai_next;
		if (!*at)
			continue;
		struct addr *a = &l->addrs[l->n++];
		memcpy(&a->ss, (*at)->ai_addr, (*at)->ai_addrlen);
		a->len = (*at)->ai_addrlen;
		addr_set_port(a, l->port);
		*at = (*at)->ai_next;
	}
}

static void look_up(struct lookup *l)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	struct addr ip;

	if (l->error[0])
		return;
	if (addr_of_ip(l->host, l->port, &ip) == 0) {
		l->addrs[l->n++] = ip;
		return;
	}
	int rc = getaddrinfo(l->host, NULL, &hints, &list);
	if (rc != 0) {
		snprintf(l->error, sizeof l->error, "%s",
		         rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		return;
	}
	interleave(l, list);
	freeaddrinfo(list);
	if (l->n == 0)
		snprintf(l->error, sizeof l->error, "no address");
}

static void *run(void *arg)
{
	struct lookup *l = arg;
	uint64_t one = 1;

	look_up(l);
	if (write(l->fd, &one, sizeof one) < 0) {
		/* An eventfd at zero takes it. */
	}
	let_go(l);
	return NULL;
}

static void resolve_free(struct resolve *r)
{
	watch_free(r->watch);
	if (r->lookup)
		let_go(r->lookup);
	free(r);
}

static void on_answer(void *arg, unsigned what)
{
	struct resolve *r = arg;
	struct lookup *l = r->lookup;
	uint64_t n;

	(void)what;
	if (read(l->fd, &n, sizeof n) < 0)
		return;
	watch_want(r->watch, 0);
	r->lookup = NULL;
	r->done(r->owner, l->addrs, l->n, l->error);
	let_go(l);
	resolve_free(r);
}

static int start_thread(struct lookup *l)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int rc = pthread_create(&thread, &attr, run, l);
	pthread_attr_destroy(&attr);
	return -rc;
}

/* Where nobody has to be asked, no thread is needed, nor the right to make one. */
static int start(struct lookup *l)
{
	struct addr unused;

	if (!l->error[0] && addr_of_ip(l->host, 0, &unused) < 0)
		return start_thread(l);
	run(l);
	return 0;
}

int resolve_start(struct loop *loop, const char *host, uint16_t port,
                  void (*done)(void *owner, const struct addr *, size_t n, const char *error),
                  void *owner, struct resolve **resolve_out)
{
	struct resolve *r = calloc(1, sizeof *r);
	struct lookup *l = calloc(1, sizeof *l);

	if (!r || !l || (l->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0) {
		free(r);
		free(l);
		return -ENOMEM;
	}
	if (strlen(host) < sizeof l->host)
		memcpy(l->host, host, strlen(host) + 1);
	else /* cut short it would be another's name */
		snprintf(l->error, sizeof l->error, "no host has a name that long");
	l->port = port;
	atomic_init(&l->holders, 2);
	*r = (struct resolve){ .lookup = l, .done = done, .owner = owner };
	r->watch = watch_new(loop, l->fd, on_answer, r);
	int rc = r->watch && watch_want(r->watch, WATCH_READ) == 0 ? start(l) : -ENOMEM;
	if (rc < 0) {
		let_go(l); /* the thread's share */
		resolve_free(r);
		return rc;
	}
	*resolve_out = r;
	return 0;
}

void resolve_cancel(struct resolve *r)
{
	if (r)
		resolve_free(r);
}

/* nsswitch.conf(5): "hosts: files mdns4_minimal [NOTFOUND=return] dns". The C library
 * maps a module at the first question to it, and takes a mapped one as it is. */
static void load_modules(char *services)
{
	char *rest, module[64];

	for (char *name = strtok_r(services, " \t\n", &rest); name;
	     name = strtok_r(NULL, " \t\n", &rest)) {
		snprintf(module, sizeof module, "libnss_%s.so.2", name);
		if (name[0] != '[' && !dlopen(module, RTLD_NOW))
			dlerror(); /* built in, or not there: the C library will say */
	}
}

void resolve_prepare(void)
{
	static const char key[] = "hosts:";
	FILE *f = fopen("/etc/nsswitch.conf", "re");
	char *line = NULL;
	size_t cap = 0;

	while (f && getline(&line, &cap, f) > 0)
		if (strncmp(line, key, strlen(key)) == 0)
			load_modules(line + strlen(key));
	free(line);
	if (f)
		fclose(f);
	/* The first question of the process to any database makes what all of them
	 * share; without memory for that glibc 2.36 crashes (nss_database.c). */
	getprotobyname("tcp");
}
