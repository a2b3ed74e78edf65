/*
 * The kernel's routing as rtnetlink tells it: a watch that says when links,
 * addresses or routes changed, and a question: by which device does an address
 * leave? Belongs to its loop's thread.
 */
#ifndef TUNN_NET_ROUTE_H
#define TUNN_NET_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/net/addr.h"
#include "common/net/loop.h"

struct route_watch;

enum { ROUTE_DEVICE_LEN = 16 };
struct route_info {
	int if_index;
	char device[ROUTE_DEVICE_LEN];
	bool is_tunnel;     /* ARPHRD_NONE, tun, wireguard: point-to-point without hardware */
	struct addr source; /* preferred source address, port 0; len 0 if unknown */
};

/* changed: at most once per 200 ms, after a burst has settled. */
int route_watch_open(struct loop *, void (*changed)(void *owner), void *owner,
                     struct route_watch **watch_out); /* 0 or -errno */
void route_watch_close(struct route_watch *);

/* Asks the kernel now (one netlink round trip, microseconds). 0 or -errno. */
int route_lookup(const struct addr *dst, uint32_t fwmark, struct route_info *info_out);
/* The device's index and kind by name; -ENODEV. */
int route_device(const char *name, struct route_info *info_out);

#endif
