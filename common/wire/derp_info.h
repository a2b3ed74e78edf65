/*
 * What DERP's ClientInfo and ServerInfo say inside their boxes: JSON, read as Go's
 * encoding/json would, strict where the original is (derp.md 2.6). The tunn members make a
 * tunnel of ours of the conversation (PROTOCOL.md). Pure. Any thread.
 */
#ifndef TUNN_WIRE_DERP_INFO_H
#define TUNN_WIRE_DERP_INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/base/key.h"

enum { DERP_INSTANCE_LEN = 16 };

struct derp_client_info {
	bool can_ack_pings, is_prober, has_mesh_key;
	uint8_t mesh_key[KEY_LEN];
	/* tunnPeers is there: */
	bool is_named;
	struct str id, token; /* may be empty */
	bool has_instance, is_one_way;
	uint8_t instance[DERP_INSTANCE_LEN];
	uint32_t role; /* as in RelayConfig */
	unsigned n_peers;
	struct str *peers; /* at most PEERS_MAX */
};

struct derp_server_info {
	uint32_t version;
	uint64_t rate, burst; /* bytes that a client may send; 0: no limit */
	/* tunnPeerKeys is there: */
	bool is_named;
	struct str account, id, node;
	unsigned n_keys;
	struct key *keys;
};

struct derp_info_doc; /* opaque: what was read */

/* Reads; text and arrays of what is given belong to *doc_out, which
 * derp_info_free() frees and wipes. ERR_PROTOCOL: not what it should be; -ENOMEM. */
int derp_client_info_read(struct str text, struct derp_client_info *info_out,
                          struct derp_info_doc **doc_out);
int derp_server_info_read(struct str text, struct derp_server_info *info_out,
                          struct derp_info_doc **doc_out);
void derp_info_free(struct derp_info_doc *); /* NULL allowed */

/* Append JSON. 0 or -ENOMEM. */
int derp_client_info_write(const struct derp_client_info *, struct buf *out);
int derp_server_info_write(const struct derp_server_info *, struct buf *out);

#endif
