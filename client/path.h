/*
 * The path: by which device the kernel leads to the relay, and what to do when
 * that changes. A full-tunnel WireGuard (AllowedIPs = 0.0.0.0/0) takes the
 * default route, and with it the connection that carries it; then the path
 * holds on to the device of before (product.md section 6). Belongs to its
 * loop's thread.
 */
#ifndef TUNN_CLIENT_PATH_H
#define TUNN_CLIENT_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/route.h"

struct path;

struct path_events {
	/* Connect from now on by this device ("": as the kernel leads), and again
	 * at once if `tunnel` is not NULL: it names the device that took the route. */
	void (*device)(void *owner, const char *device, const char *tunnel);
	/* Links, addresses or routes changed. */
	void (*changed)(void *owner);
};

struct path_conf {
	uint32_t fwmark; /* as the connection is marked */
	bool is_fixed;   /* the user chose a device: only `changed` is told */
};

/* Works without a watch where the kernel gives none. NULL: out of memory. */
struct path *path_new(struct loop *, const struct path_conf *, const struct path_events *,
                      void *owner);
void path_free(struct path *); /* NULL allowed */
/* A connection to this address (relay or proxy) works: remember its way. */
void path_connected(struct path *, const struct addr *peer);
/* About once a second: routing rules change without the watch telling. */
void path_tick(struct path *);
const char *path_held(const struct path *); /* the device held on to, "" if none */

enum path_verdict { PATH_STAY, PATH_HOLD, PATH_FREE };
/* What to do: `device` was the way before ("" unknown), `held` tells whether we
 * hold on to it, `now` is the kernel's answer. Pure. */
enum path_verdict path_judge(const char *device, bool held, const struct route_info *now);

#endif
