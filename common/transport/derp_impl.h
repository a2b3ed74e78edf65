/*
 * The inside of the derp transport, shared by its files only:
 *   transport_derp.c  life, time, the way out
 *   derp_http.c       server: HTTP/1.1 until a request becomes a conversation, WebSocket
 *   derp_serve.c      server: the handshake, an end's frames
 *   derp_dial.c       client: the request, the handshake, a relay's frames
 *
 *   stage      server                          client
 *   HTTP       requests are answered           the request is out, an answer is awaited
 *   ASKED      the owner has a request         -
 *   GREET      ServerKey is out                ServerKey is awaited
 *   PENDING    hello told, not yet admitted    ClientInfo is out, ServerInfo is awaited
 *   OPEN       packets flow                    packets flow
 *   OVER       nothing more is read; what is in `out` is said, then the link ends
 *
 * There is one channel. Failures of the other side end the conversation without a
 * word, as DERP does; our own ends are told why (DERP_TUNN).
 */
#ifndef TUNN_TRANSPORT_DERP_IMPL_H
#define TUNN_TRANSPORT_DERP_IMPL_H

#include "common/base/bucket.h"
#include "common/base/buf.h"
#include "common/base/words.h"
#include "common/transport/transport.h"
#include "common/wire/derp.h"
#include "common/wire/http1.h"
#include "common/wire/msg.h"
#include "common/wire/ws.h"

enum derp_stage { DERP_HTTP, DERP_ASKED, DERP_GREET, DERP_PENDING, DERP_OPEN, DERP_OVER };

struct transport {
	struct chan chan; /* first: its struct chan * is this struct */
	const struct transport_conf *conf;
	const struct transport_events *events;
	void *owner;
	enum side side;
	enum derp_stage stage;
	struct framer framer;
	struct buf out; /* said, but for flush() */

	struct http1_reader *reader; /* server, DERP_HTTP */
	uint32_t skip;               /* server: bytes of a body that are still to come */
	struct web_call *web;        /* server, DERP_HTTP, DERP_ASKED: what the owner is asked */
	size_t plain_len;            /* server: of `out`, the answer before WebSocket began */
	struct ws *ws;               /* server: frames come and go inside WebSocket messages */
	struct http1 *answer;        /* client, DERP_HTTP */
	struct buf held;             /* server, DERP_PENDING: what came before we were admitted */

	struct key key;   /* server: the end's; client: the relay's */
	bool named;       /* a tunnel of ours: knows DERP_TUNN */
	bool marked;      /* server: the client said Tunn-Version */
	bool mesh;        /* server: it has shown the mesh key; client: it watches */
	bool not_ideal;   /* server: it wanted another node */
	bool watch;       /* client: WatchConns is to be said */
	unsigned up;      /* client: native peers from which a packet has come, see derp_dial.c */
	struct buf hello; /* client: JSON of ClientInfo, until it is out */
	struct key *peer_keys; /* client: for `ready` */
	unsigned n_peers;

	bool has_pong;
	uint8_t pong[DERP_PING_LEN];
	struct bucket rate; /* client: bytes we may send; of ServerInfo */
	bool has_rate;
	struct budget controls; /* frames but packets, requests */
	bool rest;

	struct arena arena;
	uint64_t now_ms, partial_ms;    /* since when a frame is unfinished; 0: none is */
	uint64_t next_beat_ms, dead_ms; /* 0: nothing asked */
	uint64_t keep_alive_ms, next_keep_alive_ms; /* server: period, next */
	uint64_t beat_sent_ms, stale_until_ms, fresh_mark;
	int64_t rtt_us;
	int failed;
	struct words error;
};

extern const struct transport_ops transport_derp;

static inline struct transport *derp_of(const struct chan *c)
{
	return (struct transport *)(uintptr_t)c;
}

/* transport_derp.c */
/* The conversation is broken: remembers the first reason, returns it. */
int derp_fail(struct transport *, int err, const char *text);
/* One frame but a packet: within the budget? 0 or ERR_FLOOD. */
int derp_spend(struct transport *);
/* Whose packet, of which flow: 0 or ERR_PROTOCOL. */
int derp_get_any_packet(const struct transport *, const struct frame *, struct key *key_out,
                        uint32_t *flow_out, struct str *payload_out);
/* A packet came: what it is as struct pkt, NULL if it is dropped (counted). */
struct pkt *derp_packet(struct transport *, struct str payload);
int derp_ping(struct transport *, uint64_t payload);
void derp_on_pong(struct transport *, const struct frame *);
void derp_on_ping(struct transport *, const struct frame *);
/* A message of tunn.v1 about `about` (NULL: nobody in particular). */
int derp_say(struct transport *, const struct key *about, const struct msg *);
/* The message of a DERP_TUNN frame, good until derp.arena is cleared. */
int derp_hear(struct transport *, const struct frame *, struct key *about_out, struct msg *msg_out);
/* Bytes of the stream, all of them eaten whatever becomes of them. */
int derp_take_in(struct transport *, const uint8_t *data, size_t len);
/* Frames out of bytes, each to `on_frame` until it fails or the stage is OVER. */
int derp_frames(struct transport *, struct cursor *in,
                int (*on_frame)(struct transport *, const struct frame *));

/* derp_http.c */
int derp_http_input(struct transport *, struct cursor *in); /* DERP_HTTP */
int derp_ws_input(struct transport *, const uint8_t *data, size_t len);
int derp_ws_flush(struct transport *, struct buf *out); /* what is in t->out */
void derp_answer(struct web *, const struct web_answer *);
void derp_web_free(struct transport *); /* tells who waits for the answer */

/* derp_serve.c */
int derp_serve_begin(struct transport *); /* ServerKey; DERP_GREET */
int derp_serve_input(struct transport *, struct cursor *in);
int derp_serve_admit(struct chan *, const struct welcome *);
int derp_serve_held(struct transport *); /* what came while admission was pending */
void derp_serve_refuse(struct chan *, enum close_why, const char *text);
int derp_serve_tell_peer(struct chan *, const struct peer_status *);
int derp_serve_tell_notice(struct chan *, const struct notice *);
void derp_serve_end(struct transport *, enum close_why, const char *text);

/* derp_dial.c */
int derp_dial(struct transport *, const struct hello *, struct chan **c_out);
int derp_dial_input(struct transport *, struct cursor *in);
void derp_dial_forget(struct transport *); /* what was kept for the handshake */

#endif
