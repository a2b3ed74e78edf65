/*
 * The ways to the DERP servers of a map: fetches the map if it is not here yet, measures
 * its regions, lists the nodes in the order in which they are to be tried. Belongs to its
 * loop's thread.
 */
#ifndef TUNN_CLIENT_MAP_WAYS_H
#define TUNN_CLIENT_MAP_WAYS_H

#include "client/derp_map.h"
#include "client/ways.h"
#include "common/net/fetch.h"
#include "common/net/loop.h"

enum { MAP_WAYS_MAX = 64, MAP_WAYS_ERROR_LEN = FETCH_ERROR_LEN + DERP_MAP_ERROR_LEN };

struct map_ways_conf {              /* borrowed until freed */
	const struct derp_map *map; /* NULL: it is to be fetched from source */
	const char *source;         /* a file, or an http or https URL */
	const char *region;         /* id or code of the only one; NULL: the nearest */
	const char *ca_file, *proxy, *bind_device; /* as in struct relay_options */
	uint32_t fwmark;
	struct transport_conf transport; /* of all ways; authority is filled in */
};

bool map_ways_is_url(const char *source); /* else it is a file, which is read before */

struct map_ways;

/* ways NULL: there are none, words say why; `is_bad`: and it will not get better by
 * itself. Else they live until freed; words for people say why the first is first. */
struct map_ways_result {
	const struct way *ways;
	unsigned n;
	const char *words;
	bool is_bad;
};
typedef void map_ways_done(void *arg, const struct map_ways_result *);

/* done follows once, maybe from inside. NULL: out of memory, nothing follows. */
struct map_ways *map_ways_start(struct loop *, const struct map_ways_conf *, map_ways_done *done,
                                void *arg);
void map_ways_free(struct map_ways *); /* before or after done, not in it; NULL allowed */

#endif
