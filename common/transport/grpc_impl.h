/*
 * The inside of the gRPC transport, shared by its files only:
 *   transport_grpc.c  the table of operations, one conversation
 *   grpc_call.c       one call: messages in and out, heartbeat, ending
 *   grpc_serve.c      server: from a request to its method's handlers, answers
 *   grpc_services.c   server: the list of services
 *   grpc_tunnel.c     server: EstablishTunnel
 *   grpc_health.c     server: the health service
 *   grpc_reflection.c server: which services there are
 *   grpc_page.c       server: plain HTTP, for which there are pages or the owner's answers
 *   grpc_dial.c       client: the request and its answers
 * One thread, that of the transport.
 */
#ifndef TUNN_TRANSPORT_GRPC_IMPL_H
#define TUNN_TRANSPORT_GRPC_IMPL_H

#include "common/base/bucket.h"
#include "common/base/list.h"
#include "common/base/words.h"
#include "common/transport/transport.h"
#include "common/wire/grpc.h"
#include "common/wire/h2.h"
#include "common/wire/msg.h"

enum {
	BEAT_MS = 15000,         /* health_check or PING, +-10 % */
	BEAT_ANSWER_MS = 10000,  /* dead when nothing at all came after that */
	BODY_SNIPPET = 256,      /* of what is not gRPC, for the error text */
	BODY_MS = 1000,          /* for its arrival */
	BEAT_MAX_MS = 120000,    /* however often we are told too_many_pings */
	DRAIN_ANSWER_MS = 5000,  /* of the PING behind the GOAWAY that announces a drain */
	UNREAD_MAX = 64 * 1024,  /* of what we say beside datagrams: who makes us has to read */
	HALVES_MAX = 256 * 1024, /* of one connection; anybody can begin a message */
	SERVE_METADATA_MAX = 4,
	GOAWAY_WITHIN_MS = 5000, /* a foreign GOAWAY is taken as this much notice */
};

struct call;

/* Server: what is served. grpc_serve.c sees to everything that is the same for
 * all methods: the path, deadlines, framing, how many messages a request may
 * have. A method's handlers come in the order on_start, on_message, on_end,
 * none after the call is over; each may answer and end the call. */
enum streaming { UNARY, SERVER_STREAMING, CLIENT_STREAMING, BIDI_STREAMING };
struct method {
	const char *path; /* "/package.Service/Method" */
	enum streaming streaming;
	bool is_channel;      /* its calls are channels, others are company for them */
	bool is_plain;        /* HTTP without gRPC: on_message, if any, gets the body in pieces */
	uint32_t message_max; /* 0: GRPC_MESSAGE_MAX */
	size_t own_len;       /* bytes of its own in each call, zeroed at first */
	void (*on_start)(struct call *, const struct h2_head *); /* may be NULL */
	void (*on_message)(struct call *, const uint8_t *msg, size_t len);
	void (*on_end)(struct call *);  /* the client has said all */
	void (*on_free)(struct call *); /* may be NULL */
};
struct service {
	const char *name; /* "package.Service" */
	const struct method *methods;
	unsigned n_methods;
	bool (*is_offered)(const struct transport *); /* NULL: always */
};
extern const struct service *const services[]; /* NULL-terminated */

/* AWAIT -> PENDING -> OPEN -> OVER; any -> OVER. call_retire() is the only way
 * to OVER; the memory goes at the end of input() or tick(). Calls of companion
 * services stay in AWAIT until they are over. */
enum call_state {
	CALL_AWAIT,   /* server: no register_client yet; client: no register_response */
	CALL_PENDING, /* server: hello told, not yet admitted */
	CALL_OPEN,    /* packets flow */
	CALL_OVER,
};

struct peer { /* a declared peer, as written, with its key */
	struct key key;
	struct str name;
};

struct call {
	struct chan chan; /* first: a struct chan * of ours is a struct call * */
	struct list node;
	struct h2_stream *stream;    /* NULL once it is gone or given up */
	const struct method *method; /* server */
	enum call_state state;
	struct deframer deframer;
	size_t half;                                 /* its bytes in transport.halves */
	uint64_t opened_ms, partial_ms, deadline_ms; /* 0: none */
	bool responded;                              /* server: response HEADERS are out */
	bool has_spoken;                             /* server: a message has come */
	bool beats;                                  /* server: the end has sent a health_check */
	bool deaf;                                   /* more than UNREAD_MAX waits for it */
	uint32_t version;

	struct str id; /* client: as asked for */
	char *names;   /* text of the id and of the peers' names */
	struct peer *peers;
	unsigned n_peers;
	uint16_t *by_name, *by_key; /* indexes into peers, sorted */
	unsigned last_in, last_out; /* peer of the previous packet; n_peers: none yet */

	char *token; /* server: from metadata, until registration */
	bool bad_auth;
	bool no_encoding; /* server: grpc-encoding is absent or identity (S9) */

	_Alignas(max_align_t) unsigned char own[]; /* method->own_len; client: struct answer */
};

struct answer { /* client: what came instead of a tunnel */
	char http_status[4];
	int status; /* of gRPC; -1: not told */
	char text[GRPC_TEXT_MAX];
	unsigned n_snippet;
	bool not_grpc;
};

struct transport {
	const struct transport_conf *conf;
	const struct transport_events *events;
	void *owner;
	enum side side;
	struct h2 *h2;
	struct list calls, retired;
	struct arena arena;
	size_t halves; /* bytes of unfinished messages, of calls that await their first */
	struct bucket reflections; /* server: requests to the reflection service */
	bool inside;               /* input() or tick() runs: retired calls are kept */
	bool serving, companion;
	bool draining_told; /* client: to the owner; server: to the client */
	uint64_t drain_ms;  /* server: when the last GOAWAY is due; 0: not draining, or said */
	uint64_t busy_ms;   /* when there last was a call */
	uint64_t now_ms, last_rx_ms, next_beat_ms, dead_ms; /* dead_ms 0: nothing asked */
	uint64_t beat_sent_ms;
	uint64_t stale_until_ms; /* datagrams are too old until then, or fresh_mark is answered */
	uint64_t fresh_mark;
	bool stopped_again; /* since fresh_mark was sent */
	int64_t rtt_us;
	int failed;
	struct words error;
};

extern const struct transport_ops transport_grpc;

static inline struct answer *answer_of(struct call *c) { return (struct answer *)c->own; }
static inline struct call *call_of(const struct chan *c) { return (struct call *)(uintptr_t)c; }

/* transport_grpc.c */
void grpc_sweep(struct transport *);
/* The other side has answered what ask() asked: the round trip is known. */
void grpc_beat_answered(struct transport *);

/* grpc_call.c */
struct call *call_new(struct transport *, struct h2_stream *, const struct method *);
void call_retire(struct call *); /* gives up the stream's user pointer; frees later */
/* Copies id and names; keys may follow later. -ENOMEM. */
int call_set_peers(struct call *, struct str id, const struct str *names, unsigned n);
int call_set_keys(struct call *, const struct key *keys);
int call_peer_by_name(const struct call *, struct str name); /* index or -1 */
int call_peer_by_key(const struct call *, const struct key *);
/* Cuts data into messages and hands each to on_message until the call is over. */
void call_data(struct call *, const uint8_t *data, size_t len,
               void (*on_message)(struct call *, const uint8_t *msg, size_t len),
               void (*on_broken)(struct call *, int err));
int call_say(struct call *, const struct msg *); /* appends, resumes */
void call_datagram(struct call *, const uint8_t *msg, size_t len,
                   void (*on_other)(struct call *, const struct msg *),
                   void (*on_broken)(struct call *, int err));
size_t call_window(const struct chan *);
int call_send(struct chan *, struct pkt *);
bool call_is_late(const struct call *);
void call_end_deaf(struct call *);
void call_answer_health(struct call *, const struct msg *);
/* Tells the owner once that the channel is over, and retires it. */
void call_ended(struct call *, enum close_why, const char *text);

/* grpc_serve.c */
void serve_head(void *owner, struct h2_stream *, const struct h2_head *, bool end);
void serve_data(void *owner, struct h2_stream *, const uint8_t *data, size_t len);
void serve_end(void *owner, struct h2_stream *);
void serve_respond(struct call *); /* response HEADERS, once */
/* Fields of a service's own, before its messages or after them (S19: lower-case
 * names, none that begins with grpc-; values of -bin fields are base64). */
struct metadata {
	struct h2_field f[SERVE_METADATA_MAX];
	unsigned n;
};
void serve_respond_with(struct call *, const struct metadata *);
void serve_finish_with(struct call *, int status, const char *text, const struct metadata *);
void serve_finish(struct call *, int status, const char *text); /* trailers, retires */
/* Ends the call for the reason a lower layer found, and tells the owner. */
void serve_broken(struct call *, int err);
void serve_tick(struct call *);
bool service_is_offered(const struct transport *, const struct service *);
const struct service *service_named(const struct transport *, struct str name); /* or NULL */

/* grpc_tunnel.c */
int tunnel_admit(struct chan *, const struct welcome *);
void tunnel_refuse(struct chan *, enum close_why, const char *text);
int tunnel_tell_peer(struct chan *, const struct peer_status *);
int tunnel_tell_notice(struct chan *, const struct notice *);
void tunnel_end(struct call *, enum close_why, const char *text);

/* grpc_health.c */
int health_tell_serving(struct transport *, bool serving);

/* grpc_page.c */
/* A request of somebody who is no end: a page follows when it has ended. */
void page_head(struct transport *, struct h2_stream *, const struct h2_head *);
void page_answer(struct web *, const struct web_answer *);

/* grpc_dial.c */
int dial_dial(struct transport *, const struct hello *, struct chan **c_out);
void dial_head(void *owner, struct h2_stream *, const struct h2_head *, bool end);
void dial_data(void *owner, struct h2_stream *, const uint8_t *data, size_t len);
void dial_end(void *owner, struct h2_stream *);
void dial_closed(struct call *, uint32_t code);
void dial_tick(struct call *);

#endif
