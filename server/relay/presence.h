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
#include "server/accounts/account.h"

/* One of the tunnels that its account may have. It goes from who had a key to who takes the
 * key over, whichever worker they are of: so it is counted once, and who comes when the other
 * has just left is counted anew. */
enum slot { SLOT_NONE, SLOT_HELD, SLOT_LENT, SLOT_GONE };

struct presence {
	atomic_uint refs;
	_Atomic enum slot slot;
	unsigned worker;
	uint64_t seq; /* of its join, from one counter: the highest has the key */
	struct key key;
	char account[NAME_MAX_LEN + 1], id[NAME_MAX_LEN + 1];
	struct account *payer; /* what it sends and receives counts for; NULL: nobody counts */
	uint8_t instance[INSTANCE_LEN];
	enum role role;
	bool bidirectional;
	/* Native DERP ends (product.md section 4): several may have one key, and they
	 * declare everybody. */
	bool native;
	bool forwarder; /* an end of another relay of the mesh, whose link is of that worker */
	bool renewed;   /* it was there before, and has spoken: it is the active one again */
	uint8_t native_flags; /* NATIVE_* */
	uint8_t ip[16];       /* for those who watch: as in struct peer_status */
	uint16_t port;
	struct list unsaid; /* its own worker's: in mates.unsaid */
	unsigned n_peers;
	struct key peers[]; /* declared */
};

struct presence *presence_new(unsigned n_peers); /* one reference; NULL: out of memory */
struct presence *presence_ref(struct presence *);
void presence_unref(struct presence *); /* NULL allowed */
struct presence *presence_renew(
                const struct presence *); /* of a native end: a copy, one reference */

/* Gets it a slot of its account, lent by `before` (who has the key; NULL: nobody) if that has
 * one. CLOSE_NONE, or CLOSE_TUNNELS. is_lent_out: presence_return() is allowed. */
enum close_why presence_enter(struct presence *, struct presence *before, bool *is_lent_out);
/* It is not let in: who lent the slot has it again, or is gone as well. */
void presence_return(struct presence *, struct presence *before);
/* It goes, whether it has a slot or not. */
void presence_leave(struct presence *);

bool presence_declares(const struct presence *, const struct key *);

#endif
