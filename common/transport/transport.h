/*
 * THE CONTRACT between a protocol and everything above it.
 *
 * A transport is a state machine between bytes and packets: bytes from the
 * other side go in through input(), what happened comes out through `events`,
 * bytes to be sent are appended to `out` by flush(). It never touches a file
 * descriptor and never reads a clock. Kind (struct transport_ops, constant, one
 * per protocol) and instance (struct transport, one conversation) are two
 * things. A transport belongs to one thread, the one that opened it.
 *
 * Begin here for a new transport: one codec in wire/, one file
 * transport_NAME.c that defines `const struct transport_ops transport_NAME`,
 * one line in transport.c. Everything that two transports would both need
 * (queues, drop policy, deadlines of connecting, closing) is in link.c.
 *
 * Re-entrance: events come only from inside input() and tick(), `ended` also
 * from inside flush(). From inside an event the owner may call any channel operation of that
 * transport (admit, refuse, send, tell_*, end) and goodbye(); never input(), tick(), flush() or
 * free(). After `ended` for a channel its pointer is dead.
 *
 * Failure: every int is 0 or a negative code of err.h. After input(), tick() or
 * flush() failed the conversation is over: the owner flushes once more, writes
 * what is in `out`, and frees. send() takes the packet whatever it returns.
 */
#ifndef TUNN_TRANSPORT_TRANSPORT_H
#define TUNN_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/base/key.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/base/pkt.h"

struct transport; /* opaque: one conversation */

/* A channel: one end's conversation. Transports embed this as first member of
 * their own struct; `up` is the link's, the rest the transport's. */
struct chan {
	const struct transport_ops *ops;
	struct transport *transport;
	void *up;           /* set by the link; NULL while it has not seen the channel */
	uint64_t n_ignored; /* datagrams of an open channel that came, but were dropped here */
};

enum side { SIDE_SERVER, SIDE_CLIENT };
enum role { ROLE_UNKNOWN, ROLE_LISTEN, ROLE_FORWARD };
enum peer_state {
	PEER_UNSPECIFIED,
	PEER_UP,
	PEER_ABSENT,
	PEER_NOT_MUTUAL,
	PEER_OVER_LIMIT,
	PEER_GONE,
	PEER_STATE_N
};
extern const char *const peer_state_names[PEER_STATE_N]; /* "up", "absent", ... */

enum { INSTANCE_LEN = 16, TOKEN_MAX_LEN = 256 };

/* What an end says of itself. All pointers are borrowed for the call; `peers`
 * and `id` have passed their grammar before the owner sees them.
 *
 * A native end is a DERP client that is no tunnel of ours: it has proved to have
 * node_key, names no id, and declares nobody and everybody (product.md section 4). */
struct hello {
	struct str id;           /* empty: the id the token is bound to */
	struct str token;        /* empty: none */
	struct str peer_address; /* set by the server's link, for logs */
	uint8_t instance[INSTANCE_LEN];
	bool has_instance;
	uint32_t version;
	enum role role;
	bool bidirectional;
	unsigned n_peers; /* 1 to PEERS_MAX; 0: native */
	const struct str *peers;
	const struct key *node_key; /* DERP, set by the server's transport; else NULL */
	bool native;                /* client: be a native end, without id and token */
	uint8_t native_flags;       /* NATIVE_*, of a native end */
	bool watch;                 /* native: tell me of all native ends (needs NATIVE_MESH) */
};
enum { NATIVE_MESH = 2, NATIVE_PROBER = 4, NATIVE_NOT_IDEAL = 8 }; /* as flags of PeerPresent */

/* What the relay answers. Borrowed for the call. */
struct welcome {
	struct str account, id, node;
	uint32_t max_payload, version;
	unsigned n_peers;
	const struct key *peer_keys; /* in the order of hello.peers */
	const struct key *node_key;  /* client, DERP: the relay's; else NULL */
};

struct peer_status {
	struct key key;
	enum peer_state state;
	enum role role;
	struct str text; /* borrowed */
	/* Of a native end that is up, for those who watch: */
	uint8_t ip[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port;
	uint8_t native_flags;
};

/* What a native end asks of the relay itself. */
enum wish_kind {
	WISH_ACTIVE,     /* it spoke: of several ends with its key it gets the packets */
	WISH_HOME,       /* this relay is its home (`on`) */
	WISH_WATCH,      /* mesh: be told of all native ends, now and from now on */
	WISH_CLOSE_PEER, /* mesh: ends with `key` are to be closed */
};
struct wish { /* borrowed */
	enum wish_kind kind;
	bool on;
	struct key key;
};

enum notice_kind {
	NOTICE_DRAINING,
	NOTICE_QUOTA,
	NOTICE_SUPERSEDED,
	NOTICE_HEALTH,         /* client: what a DERP server says of itself; empty: it is well */
	NOTICE_TOO_MANY_PINGS, /* client: the next conversations are to use beat_ms */
};
struct notice { /* borrowed */
	enum notice_kind kind;
	uint32_t within_ms; /* draining */
	struct str target;  /* draining */
	uint32_t percent;   /* quota */
	int64_t resets_unix_s;
	struct str text;  /* superseded, health */
	uint32_t beat_ms; /* too many pings */
};

/* Plain HTTP that the owner answers (web.h says what is asked of it). A web is one request
 * and its answer. Transports embed this as first member; `node` and `up` are the link's,
 * `user` is of whoever is above it. */
struct web {
	const struct transport_ops *ops;
	struct transport *transport;
	struct list node;
	void *up; /* NULL: nobody waits for the answer */
	void *user;
};

enum { WEB_BODY_MAX = 8192, WEB_FIELDS_MAX = 12 };

struct web_request { /* borrowed for the call; nothing is decoded */
	struct str method, path;
	struct str query; /* without '?' */
	struct str host;  /* with the port, if it was said; of no grammar yet, like the rest */
	struct str origin, cookie, content_type; /* empty: none */
	struct str body; /* if there is one, application/x-www-form-urlencoded */
};

struct web_field {
	struct str name, value;
};
struct web_answer { /* borrowed for the call */
	int status;
	const struct web_field *fields; /* of this answer alone */
	size_t n_fields;                /* at most WEB_FIELDS_MAX */
	struct str body;
};

/* What a transport tells its owner, the link. */
struct transport_events {
	/* Server: a channel wants in. 0: admitted, admit() was called from inside;
	 * ERR_AGAIN: admit() and then a tick(), or refuse(), follows later; any other
	 * value: refuse() was called from inside. */
	int (*hello)(void *owner, struct chan *, const struct hello *);
	/* Client: packets may flow. Once per channel, before any packet. */
	void (*ready)(void *owner, struct chan *, const struct welcome *);
	/* The owner takes the packet. Server: dst is set, src is zero. Client: src
	 * is set, dst is zero. Only for channels that are admitted or ready. */
	void (*packet)(void *owner, struct chan *, struct pkt *);
	void (*peer)(void *owner, struct chan *, const struct peer_status *);
	void (*notice)(void *owner, struct chan *, const struct notice *);
	/* The other side ended the channel or it broke; the last event of it. Not
	 * told after refuse() or end(). text may be empty, is never NULL, and comes
	 * from outside: escape it. */
	void (*ended)(void *owner, struct chan *, enum close_why, const char *text);
	/* Server, native ends only. */
	void (*wish)(void *owner, struct chan *, const struct wish *);
	/* Server, only of ends with NATIVE_MESH: a packet from another relay's native
	 * end; src and dst are set. The owner takes it. */
	void (*forward)(void *owner, struct chan *, struct pkt *);
	/* Server: somebody asks for what only the owner can say. 0: answer() follows, never from
	 * inside, unless `unasked` does; ERR_NOT_FOUND: there is no such thing here; else: not
	 * now. NULL: as if nobody ever asked. */
	int (*request)(void *owner, struct web *, const struct web_request *);
	/* Who asked is gone; the pointer is dead. */
	void (*unasked)(void *owner, struct web *);
	/* Server: a token came where none belongs, in the path of a request that was refused for
	 * it. Its id, or "": unclear. NULL: not of interest. */
	void (*exposed)(void *owner, const char *token_id);
};

/* What a DERP conversation must know. */
struct derp_conf {
	const uint8_t *secret; /* Curve25519, KEY_LEN; NULL: this process has none */
	struct key public;
	const uint8_t *mesh_key; /* KEY_LEN; NULL: none */
	const char *ideal_node;  /* client: the node it would rather have reached, or NULL */
};

/* What a conversation must know; the owner keeps it until free(). */
struct transport_conf {
	const char *authority;    /* client: host[:port] as in :authority */
	const char *user_agent;   /* client */
	uint32_t beat_ms;         /* client: between signs of life; 0: the default */
	const char *node;         /* server: this node's name */
	const char *host_address; /* where the connection comes from; the link fills it in */
	const char *date; /* server: now, RFC 9110 5.6.7; NULL: unknown. The link fills it in */
	bool serving;     /* server: first answer of the health service */
	bool reflection;  /* server: tells tools which services there are */
	const struct limits *limits; /* the link fills it in */
	struct derp_conf derp;
	/* client: the relay's node key, if its certificates had it under TLS 1.3, so that
	 * they are as good as its word. The link fills it in. */
	struct key meta_key;
	bool has_meta_key;
};

struct transport_stats {
	int64_t rtt_us; /* to the other side's transport, last heartbeat; -1: not known yet */
	bool companion; /* server: has served a call that is no channel (health) */
};

struct transport_ops {
	const char *name, *alpn;
	size_t max_payload;
	size_t packet_head; /* bytes a packet usually has in front */
	/* So much may wait for a channel whatever its age and the limits (DERP probers
	 * keep 30 packets of 64 KiB in flight and count what is lost). */
	size_t keeps_packets, keeps_bytes;

	/* one connection */

	/* Starts a conversation; what must be said first is pending at once. conf,
	 * events and owner are borrowed until free(). */
	int (*open)(const struct transport_conf *conf, enum side, uint64_t now_ms,
	            const struct transport_events *events, void *owner, struct transport **t_out);
	/* Borrows data; eats all of it or fails. */
	int (*input)(struct transport *, const uint8_t *data, size_t len, uint64_t now_ms);
	/* Appends everything that may be said now to out: control first, then up to
	 * `budget` bytes of channel data, rounded up to a whole frame. What is in
	 * out is to be sent also when this failed. */
	int (*flush)(struct transport *, struct buf *out, size_t budget);
	/* Bytes that the channels were handed, that the other side's windows allow, and
	 * that flush() has not said yet: its budget was used up. */
	size_t (*waiting)(const struct transport *);
	/* Is there something flush() would say? */
	bool (*has_output)(const struct transport *);
	/* Keepalive and the deadlines of the protocol; about once a second. */
	int (*tick)(struct transport *, uint64_t now_ms);
	/* Nothing has come or gone for a moment: keeps little memory until it does. False:
	 * an answer is awaited, that was not worth while. */
	bool (*nap)(struct transport *);
	/* How long the owner should not read from the other side, which sends too
	 * much control; 0 usually. Asked after input(); says it once. */
	uint32_t (*rest_ms)(struct transport *);
	/* This process was stopped for so long: that does not count for deadlines, and
	 * datagrams are dropped until the other side has answered a question asked now,
	 * since what comes before was sent long ago. */
	void (*freshen)(struct transport *, uint64_t now_ms, uint64_t stopped_ms);
	/* How long the other side may take nothing; 0: the limit of all links. */
	uint32_t (*stalled_ms)(const struct transport *);
	/* Asks for a sign of life now, with the deadline of a normal heartbeat
	 * shortened to within_ms (after a sleep, a new network). */
	void (*probe)(struct transport *, uint64_t now_ms, uint32_t within_ms);
	/* Server: what the health service answers from now on. */
	int (*tell_serving)(struct transport *, bool serving);
	/* Says that the conversation ends, graceful where the protocol can. Open
	 * channels are not told `ended`. */
	void (*goodbye)(struct transport *, enum close_why);
	/* No call to the owner happens from inside. NULL allowed. */
	void (*free)(struct transport *);
	void (*stats)(const struct transport *, struct transport_stats *stats_out);
	/* Text of the last failure, for people; never NULL, comes from outside. */
	const char *(*error_text)(const struct transport *);

	/* one channel */

	int (*dial)(struct transport *, const struct hello *, struct chan **c_out); /* client */
	int (*admit)(struct chan *, const struct welcome *);                        /* server */
	/* Server: refuses a channel that was not admitted. The channel is dead. */
	void (*refuse)(struct chan *, enum close_why, const char *text);
	/* Payload bytes the other side allows now and that are not yet handed over. */
	size_t (*window)(const struct chan *);
	/* Takes the packet. Client: dst says to whom; server: src says from whom; a client
	 * with `watch` forwards, src says for whom. */
	int (*send)(struct chan *, struct pkt *);
	int (*tell_peer)(struct chan *, const struct peer_status *);
	int (*tell_notice)(struct chan *, const struct notice *);
	/* Server: what `request` asked for. The web is dead. */
	void (*answer)(struct web *, const struct web_answer *);
	/* Ends the channel after what was sent; the channel is dead. */
	void (*end)(struct chan *, enum close_why, const char *text);
};

/* The list. NULL-terminated, in the order `--transport auto` tries. */
extern const struct transport_ops *const transports[];
const struct transport_ops *transport_named(struct str name);    /* or NULL */
const struct transport_ops *transport_of_alpn(const char *alpn); /* "": none was agreed; or NULL */

#endif
