/*
 * Which DERP server to use: the regions of a map in order of their latency, in each
 * its nodes in the map's order, one after the other as they fail. Only the choice,
 * region_probe.h measures. Reads no clock; one thread.
 */
#ifndef TUNN_CLIENT_REGIONS_H
#define TUNN_CLIENT_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/derp_map.h"

enum { REGION_UNKNOWN = UINT32_MAX }; /* did not answer, or was not asked */

struct ranked {
	const struct derp_region *region;
	uint32_t latency_ms; /* least heard */
};

struct regions {
	struct ranked *v; /* best first, once settled; all have a node for DERP */
	size_t n;
	size_t at, node; /* in use */
};

/* only: id or code of the one region to use, NULL: all but NoMeasureNoHome. The map is
 * borrowed. 0; ERR_INVALID with words: there is none such; -ENOMEM. */
int regions_init(struct regions *, const struct derp_map *, const char *only,
                 char error_out[static DERP_MAP_ERROR_LEN]);
void regions_done(struct regions *);

/* A measurement, one alone: note what is heard (the least counts), settle. Where there is
 * nothing to choose it is not needed. */
bool regions_have_choice(const struct regions *);
bool regions_may_measure(const struct derp_region *); /* not Avoid */
void regions_note(struct regions *, const struct derp_region *, uint32_t latency_ms);
bool regions_heard_any(const struct regions *);
/* Puts them in order and begins with the first: by latency times score; those unknown
 * behind, the avoided last, both by id. Tailscale's client does it again and again, and
 * prefers to stay; ends of a tunnel would lose each other by moving. */
void regions_settle(struct regions *);

/* The node in use, never NULL. */
const struct derp_node *regions_node(const struct regions *, const struct derp_region **region_out);
/* It failed: the next of its region, then the first of the next region. False: that was
 * the last, and it begins anew with the first. */
bool regions_next(struct regions *);

#endif
