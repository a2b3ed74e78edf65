/*
 * What all workers know of a member: its key, who it is, whom it declares. Made
 * and filled in by its worker, never changed after router_join(); from then on
 * shared by all threads and freed with the last reference.
 */
#ifndef TUNN_SERVER_PRESENCE_H
#define TUNN_SERVER_PRESENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/key.h"
#include "common/base/list.h"
#include "common/transport/transport.h"

struct presence {
	atomic_uint refs;
	unsigned worker;
	uint64_t seq; /* of its join, from one counter: the highest has the key */
	struct key key;
	char account[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1];
	uint8_t instance[INSTANCE_LEN];
	enum role role;
	bool bidirectional;
	struct list unsaid; /* its own worker's: in mates.unsaid */
	unsigned n_peers;
	struct key peers[]; /* declared */
};

struct presence *presence_new(unsigned n_peers); /* one reference; NULL: out of memory */
struct presence *presence_ref(struct presence *);
void presence_unref(struct presence *); /* NULL allowed */

bool presence_declares(const struct presence *, const struct key *);

#endif
