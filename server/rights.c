#include "server/rights.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/sandbox.h"
#include "common/net/fetch.h"
#include "common/net/resolve.h"
#include "server/relay/mesh_with.h"
#include "server/state.h"
#include "server/relay/workers.h"

enum {
	EXIT_RUNTIME = 1,
	EXIT_CONFIG = 2,
	DESCRIPTORS_LEAST = 32,
	DESCRIPTORS_OWN = 28,   /* loops, listeners, database, what a reload opens */
	DESCRIPTORS_WORKER = 6, /* for each worker but one: loop, mailbox, listeners */
	DESCRIPTORS_FEW = 512,
	CONNECTIONS_LEAST = 4,
};

/* ---- descriptors ---- */

static unsigned room_of(const struct rights *r)
{
	unsigned own = DESCRIPTORS_OWN + (r->workers - 1) * DESCRIPTORS_WORKER;

	return r->descriptors > own ? r->descriptors - own : 0;
}

void rights_fit(const struct rights *r, struct limits *l)
{
	unsigned room = room_of(r) / 2;

	if (l->newcomers > room)
		l->newcomers = room;
	if (l->health_conns > room / 2)
		l->health_conns = room / 2;
}

int rights_count_descriptors(struct rights *r, unsigned workers)
{
	r->descriptors = process_descriptors();
	/* Where they are few, each is worth more as a connection. */
	r->workers = workers ? workers : r->descriptors < DESCRIPTORS_FEW ? 1 : workers_default();
	if (r->descriptors < DESCRIPTORS_LEAST) {
		fprintf(stderr,
		        "tunn server: only %u file descriptors (ulimit -n): at least %u are needed, "
		        "and one more for each connection\n",
		        r->descriptors, DESCRIPTORS_LEAST);
		return EXIT_CONFIG;
	}
	if (room_of(r) < CONNECTIONS_LEAST) {
		fprintf(stderr,
		        "tunn server: only %u file descriptors (ulimit -n): too few for --workers "
		        "%u, each takes %u\n",
		        r->descriptors, r->workers, DESCRIPTORS_WORKER);
		return EXIT_CONFIG;
	}
	if (r->descriptors < DESCRIPTORS_FEW)
		log_warn("only %u file descriptors (ulimit -n): that is room for %u connections",
		         r->descriptors, room_of(r));
	return 0;
}

/* ---- user and capabilities ---- */

int rights_become_user(struct rights *r, const struct server_options *opts)
{
	struct process_user *u = &r->user;
	char error[STATE_ERROR_LEN];

	if (process_user_find(opts->user, u) < 0) {
		fprintf(stderr, "tunn server: --user %s: there is no such user\n", opts->user);
		return EXIT_CONFIG;
	}
	if (u->changes && geteuid() != 0) {
		log_warn("--user %s has no effect: only root can become somebody else", u->name);
		u->changes = false;
	}
	if (u->changes && state_give(opts->state, u->uid, u->gid, error) < 0) {
		fprintf(stderr, "tunn server: %s\n", error);
		return EXIT_RUNTIME;
	}
	int rc = process_become(u, PROCESS_BIND | PROCESS_READ_ALL | PROCESS_NET_ADMIN);
	if (rc < 0) {
		fprintf(stderr, "tunn server: cannot become the user %s: %s\n", u->name,
		        strerror(-rc));
		return EXIT_RUNTIME;
	}
	if (u->uid == 0 && !opts->user)
		log_warn("running as root, though without its rights: make a user \"" PROCESS_USER
		         "\" or name one with --user");
	return 0;
}

int rights_drop(const struct rights *r, const char *key_file)
{
	struct process_user same = r->user;

	same.changes = false;
	int rc = process_become(&same, 0);
	if (rc < 0) {
		fprintf(stderr, "tunn server: cannot give up rights: %s\n", strerror(-rc));
		return EXIT_RUNTIME;
	}
	if (access(key_file, R_OK) < 0)
		log_warn("the user %s may not read %s: SIGHUP will not find a new key, a restart "
		         "will",
		         r->user.name, key_file);
	return 0;
}

/* ---- system calls ---- */

/* A name is looked up on a thread, and by modules that are loaded before. */
static unsigned needs_to_reach(const char *host)
{
	struct addr ip;

	if (addr_of_ip(host, 0, &ip) == 0)
		return SANDBOX_SOCKETS;
	return SANDBOX_SOCKETS | SANDBOX_THREADS | SANDBOX_NSS;
}

unsigned rights_needs(const char *asks_url, const struct opt_list *mesh_with)
{
	char host[256], error[FETCH_ERROR_LEN];
	unsigned needs = SANDBOX_FILES;
	struct mesh_with with;
	bool https;

	if (asks_url && fetch_check_url(asks_url, &https, host, error) == 0)
		needs |= needs_to_reach(host);
	for (unsigned i = 0; i < mesh_with->n; i++)
		if (mesh_with_of(mesh_with->v[i], &with) == 0)
			needs |= needs_to_reach(with.dial_host);
	return needs;
}

void rights_enter_sandbox(const struct server_options *opts, const char *asks_url)
{
	unsigned needs = rights_needs(asks_url, &opts->mesh_with);
	enum sandbox_mode mode = SANDBOX_KILL;

	sandbox_mode_of(opts->seccomp, &mode); /* checked when read */
	if (needs & SANDBOX_NSS)
		resolve_prepare();
	int rc = sandbox_enter(mode, needs);
	if (mode == SANDBOX_OFF)
		log_warn("--seccomp off: a fault in us could use every system call");
	else if (rc < 0)
		log_warn("no system call filter: %s", strerror(-rc));
}
