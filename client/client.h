/*
 * The client of `tunn relay`: joins the local port and the uplink, handles
 * signals, tells the user. Runs its own loop in the calling thread.
 */
#ifndef TUNN_CLIENT_CLIENT_H
#define TUNN_CLIENT_CLIENT_H

#include <stdbool.h>

#include "client/local.h"
#include "client/map_ways.h"
#include "client/uplink.h"
#include "common/base/process.h"
#include "common/base/sandbox.h"

struct client_conf { /* borrowed while it runs */
	struct local_conf local;
	struct uplink_conf uplink;       /* hello.role is filled in */
	const char *const *peers;        /* as declared, in the order of hello */
	const struct map_ways_conf *map; /* where uplink.ways come from; NULL: they are there */
	bool transport_is_auto;
	struct process_user user; /* who to be once the local port is open */
	enum sandbox_mode seccomp;
};

/* Until SIGTERM, SIGINT or a refusal. The exit code (product.md section 3). */
int client_run(const struct client_conf *);

#endif
