/*
 * Control messages of tunn.v1, grpc.health.v1 and grpc.reflection.v1: the one door to protobuf-c.
 * Every identifier arrives as bytes with a length, checked by whoever uses it.
 * One thread per arena.
 */
#ifndef TUNN_WIRE_MSG_H
#define TUNN_WIRE_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/base/key.h"

/* Memory of one decoded message; what msg_decode() gives points into it. */
struct arena {
	struct arena_block *blocks;
	size_t used;
	bool starved; /* what failed, failed for want of memory */
};
enum { ARENA_MAX = 512 * 1024 }; /* protobuf-c amplifies unknown fields 56 times */
void arena_clear(struct arena *);

enum msg_kind {
	MSG_NONE, /* empty envelope, or only fields this version does not know */
	MSG_REGISTER,
	MSG_REGISTERED,
	MSG_HEALTH_CHECK,
	MSG_HEALTH_ANSWER,
	MSG_STREAM_CLOSED,
	MSG_UDP,
	MSG_PEER_STATUS,
	MSG_NOTICE,
};
enum msg_notice { MSG_NOTICE_NONE, MSG_NOTICE_DRAINING, MSG_NOTICE_QUOTA, MSG_NOTICE_SUPERSEDED };

struct msg { /* which fields count depends on kind */
	enum msg_kind kind;
	/* register */
	struct str tunnel_id, token, instance;
	uint32_t version;
	bool has_relay, bidirectional;
	int role;
	unsigned n_peers;
	struct str *peers; /* union of peer_id and peer_ids, in this order */
	/* registered */
	struct str account, node, error;
	uint32_t max_payload;
	/* health */
	int64_t timestamp, response_timestamp;
	/* stream closed: of gRPC */
	uint32_t status;
	/* stream closed, peer status, notice */
	struct str text;
	struct str peer_id; /* also udp */
	int state;
	enum msg_notice notice;
	uint32_t within_ms, percent;
	int64_t resets_unix_s;
	/* udp: the slow way; see datagram.h */
	struct str data;
	uint32_t flow;
};

/* 0; ERR_PROTOCOL: not protobuf; ERR_TOO_BIG: beyond ARENA_MAX or more than
 * PEERS_MAX peers; ERR_INVALID: an enum out of range; -ENOMEM. */
int msg_decode(struct arena *, const uint8_t *data, size_t len, struct msg *msg_out);
/* Appends prefix and message. 0 or -ENOMEM. */
int msg_encode(const struct msg *, struct buf *out);

enum health_state { HEALTH_UNKNOWN, HEALTH_SERVING, HEALTH_NOT_SERVING, HEALTH_SERVICE_UNKNOWN };
int health_request_decode(struct arena *, const uint8_t *data, size_t len, struct str *service_out);
int health_answer_encode(enum health_state, struct buf *out);

enum reflection_ask {
	ASK_NOTHING, /* or what this version does not know */
	ASK_FILE,
	ASK_SYMBOL,
	ASK_EXTENSION,
	ASK_EXTENSION_NUMBERS,
	ASK_SERVICES,
};
struct reflection_request {
	enum reflection_ask ask;
	struct str host, name; /* name: of the file, symbol or type that is asked for */
	int32_t number;        /* of the extension */
};
struct reflection_answer { /* all borrowed */
	const struct reflection_request *request;
	enum { REFLECTION_FILES, REFLECTION_SERVICES, REFLECTION_NUMBERS, REFLECTION_ERROR } kind;
	unsigned n_items;        /* at most REFLECTION_ITEMS_MAX */
	const struct str *items; /* descriptors, or names of services */
	int status;
	struct str text;
};
enum { REFLECTION_ITEMS_MAX = 32 };
int reflection_request_decode(struct arena *, const uint8_t *data, size_t len,
                              struct reflection_request *request_out);
int reflection_answer_encode(const struct reflection_answer *, struct buf *out);

const char *msg_library_version(void);

#endif
