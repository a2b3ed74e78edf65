/*
 * What the server may do, and how it gives that up: descriptors, user,
 * capabilities, system calls. Main thread, before the others start, but for
 * rights_enter_sandbox(), which is for all of them. Prints its own errors.
 */
#ifndef TUNN_SERVER_RIGHTS_H
#define TUNN_SERVER_RIGHTS_H

#include "common/base/limits.h"
#include "common/base/process.h"
#include "server/options.h"

struct rights {
	struct process_user user;
	unsigned descriptors; /* the limit */
	unsigned workers;
};

/* Each gives an exit code, 0: go on. workers 0: as many as fit this machine. */
int rights_count_descriptors(struct rights *, unsigned workers);
/* Files are made and opened as the user we shall be. Three of root's rights stay until
 * rights_drop(): to bind a low port, to choose BBR, to read the key of --key. */
int rights_become_user(struct rights *, const struct server_options *);
int rights_drop(const struct rights *, const char *key_file);

/* asks_url: whom we ask about newcomers (derp_verify.h); NULL: nobody. Without it and
 * other relays of a mesh we can only answer who came. */
void rights_enter_sandbox(const struct server_options *, const char *asks_url);
unsigned rights_needs(const char *asks_url, const struct opt_list *mesh_with); /* sandbox_enter() */
/* Who has not registered, or only asks for health, leaves room for the others (C27). */
void rights_fit(const struct rights *, struct limits *);

#endif
