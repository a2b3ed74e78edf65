/*
 * Keys: the 32-byte address of an end; and the grammar of names that lead to
 * them (product.md: tunnel ids, account names, peers). Any thread.
 */
#ifndef TUNN_BASE_KEY_H
#define TUNN_BASE_KEY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/base/bytes.h"

enum {
	KEY_LEN = 32,
	KEY_TEXT_LEN = 64,
	NAME_MAX_LEN = 63,                   /* [a-z0-9][a-z0-9-]{0,62} */
	PEER_MAX_LEN = 2 * NAME_MAX_LEN + 1, /* account/id; nodekey:HEX is shorter */
	PEERS_MAX = 512,                     /* declared by one end */
};

struct key {
	uint8_t b[KEY_LEN];
};

static inline bool key_eq(const struct key *a, const struct key *b)
{
	return memcmp(a->b, b->b, KEY_LEN) == 0;
}

bool name_is_valid(struct str name); /* tunnel id or account name */

/* The key of a named tunnel: BLAKE2b-256 over a prefix, account, "/", id, with
 * bit 255 set so that no Curve25519 key equals it. Both names valid. */
void key_of_tunnel(struct str account, struct str id, struct key *key_out);

/* What a peer is written as: `id` (of own account), `account/id`, or
 * `nodekey:` + 64 lower-case hex. 0 or ERR_INVALID. */
int key_of_peer(struct str own_account, struct str peer, struct key *key_out);
/* Account and id of a named one, pointing into what was given. False: it is written otherwise. */
bool key_peer_name(struct str own_account, struct str peer, struct str *account_out,
                   struct str *id_out);
bool peer_is_valid(struct str peer);

/* First 8 hex digits and a dot, for logs: whole keys are never logged. */
struct key_text {
	char s[12];
};
struct key_text key_brief(const struct key *);

/* Host name in id form: lower case, everything else `-`, trimmed. Returns 0,
 * or ERR_INVALID when nothing is left. out holds NAME_MAX_LEN + 1. */
int name_of_host(const char *host, char *out);

#endif
