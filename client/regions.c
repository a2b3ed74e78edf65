#include "client/regions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/opts.h"

/* The place of the next node that has DERP, or n_nodes. */
static size_t next_derp(const struct derp_region *r, size_t from)
{
	while (from < r->n_nodes && r->nodes[from].stun_only)
		from++;
	return from;
}

static bool has_derp(const struct derp_region *r) { return next_derp(r, 0) < r->n_nodes; }

static void add(struct regions *rs, const struct derp_region *r)
{
	rs->v[rs->n++] = (struct ranked){ r, REGION_UNKNOWN };
}

static int choose_one(struct regions *rs, const struct derp_map *map, const char *only,
                      char error_out[static DERP_MAP_ERROR_LEN])
{
	const struct derp_region *r = derp_map_find(map, only);

	if (r && has_derp(r)) {
		add(rs, r);
		return 0;
	}
	snprintf(error_out, DERP_MAP_ERROR_LEN,
	         r ? "the region %s of the DERP map has no node for DERP" :
	             "the DERP map has no region %s (its id or its code)",
	         opts_quote(only).s);
	return ERR_INVALID;
}

int regions_init(struct regions *rs, const struct derp_map *map, const char *only,
                 char error_out[static DERP_MAP_ERROR_LEN])
{
	int rc = 0;

	*rs = (struct regions){ .v = calloc(map->n_regions + 1, sizeof *rs->v) };
	if (!rs->v) {
		snprintf(error_out, DERP_MAP_ERROR_LEN, "out of memory");
		return -ENOMEM;
	}
	if (only)
		rc = choose_one(rs, map, only, error_out);
	for (size_t i = 0; !only && i < map->n_regions; i++)
		if (has_derp(&map->regions[i]) && !map->regions[i].no_home)
			add(rs, &map->regions[i]);
	if (rc == 0 && rs->n == 0) {
		snprintf(error_out, DERP_MAP_ERROR_LEN,
		         "all regions of the DERP map are NoMeasureNoHome: name one");
		rc = ERR_INVALID;
	}
	if (rc == 0)
		regions_settle(rs);
	if (rc < 0)
		regions_done(rs);
	return rc;
}

void regions_done(struct regions *rs)
{
	free(rs->v);
	*rs = (struct regions){ .n = 0 };
}

/* ---- measuring ---- */

bool regions_have_choice(const struct regions *rs) { return rs->n > 1; }
bool regions_may_measure(const struct derp_region *r) { return !r->avoid; }

void regions_note(struct regions *rs, const struct derp_region *r, uint32_t latency_ms)
{
	for (size_t i = 0; i < rs->n; i++)
		if (rs->v[i].region == r && latency_ms < rs->v[i].latency_ms)
			rs->v[i].latency_ms = latency_ms;
}

bool regions_heard_any(const struct regions *rs)
{
	bool any = false;

	for (size_t i = 0; i < rs->n; i++)
		any = any || rs->v[i].latency_ms != REGION_UNKNOWN;
	return any;
}

/* ---- the order ---- */

/* Less than a millisecond is not nothing: a score shall count there, too. */
static double scored(const struct ranked *r)
{
	return (r->latency_ms ? r->latency_ms : 0.5) * r->region->score;
}

/* Heard, not heard, avoided. */
static int class_of(const struct ranked *r)
{
	return r->latency_ms != REGION_UNKNOWN ? 0 : r->region->avoid ? 2 : 1;
}

static int compare(const void *pa, const void *pb)
{
	const struct ranked *a = pa, *b = pb;

	if (class_of(a) != class_of(b))
		return class_of(a) - class_of(b);
	if (class_of(a) == 0 && scored(a) != scored(b))
		return scored(a) < scored(b) ? -1 : 1;
	return a->region->id < b->region->id ? -1 : a->region->id > b->region->id;
}

/* ---- one after the other ---- */

static void enter(struct regions *rs, size_t at)
{
	rs->at = at;
	rs->node = next_derp(rs->v[at].region, 0);
}

void regions_settle(struct regions *rs)
{
	qsort(rs->v, rs->n, sizeof *rs->v, compare);
	enter(rs, 0);
}

const struct derp_node *regions_node(const struct regions *rs,
                                     const struct derp_region **region_out)
{
	const struct derp_region *r = rs->v[rs->at].region;

	if (region_out)
		*region_out = r;
	return &r->nodes[rs->node];
}

bool regions_next(struct regions *rs)
{
	rs->node = next_derp(rs->v[rs->at].region, rs->node + 1);
	if (rs->node < rs->v[rs->at].region->n_nodes)
		return true;
	enter(rs, rs->at + 1 < rs->n ? rs->at + 1 : 0);
	return rs->at != 0;
}
