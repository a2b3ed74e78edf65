/*
 * How far away the regions of a DERP map are: STUN to the first two nodes of each that
 * have it; where nothing at all answers, since UDP is kept from us, the time of GET
 * /derp/latency-check over HTTPS, without connecting and TLS, as Tailscale's netcheck.
 * What is heard goes into a struct regions, which is settled then. Belongs to its
 * loop's thread.
 */
#ifndef TUNN_CLIENT_REGION_PROBE_H
#define TUNN_CLIENT_REGION_PROBE_H

#include <stdint.h>

#include "client/regions.h"
#include "common/net/loop.h"

enum {
	REGION_PROBE_NODES = 2,    /* of each region */
	REGION_PROBE_REGIONS = 64, /* of all; further ones are not heard */
	REGION_PROBE_NAMES_MS = 2000,
	REGION_PROBE_STUN_MS = 3000,
	REGION_PROBE_HTTPS_MS = 5000,
};

struct region_probe;

struct region_probe_conf {   /* borrowed until done or freed */
	const char *ca_file; /* NULL: the system's store */
	const char *proxy;   /* --proxy, for HTTPS; NULL: what the environment says */
	uint32_t fwmark;     /* as in dial.h */
	const char *bind_device;
};

enum region_probe_way { REGION_PROBE_NONE, REGION_PROBE_STUN, REGION_PROBE_HTTPS };

/* 0: done follows once, never from inside, with the regions in order; way says who
 * answered. -ENOMEM. crypto_start() first. */
int region_probe_start(struct loop *, const struct region_probe_conf *, struct regions *,
                       void (*done)(void *arg, enum region_probe_way way), void *arg,
                       struct region_probe **probe_out);
/* Before or after done, or in it; NULL allowed. */
void region_probe_free(struct region_probe *);

#endif
