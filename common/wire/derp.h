/*
 * DERP frames, both roles: opaque packets addressed by 32-byte Curve25519 keys, over a
 * byte stream (tailscale.com/derp, protocol version 2). Pure; no keys are kept
 * here. One thread for each framer.
 *
 * `put` functions append one frame to `out`: 0 or -ENOMEM. `get` functions read a
 * payload: 0 or ERR_PROTOCOL. What they give points into the frame.
 */
#ifndef TUNN_WIRE_DERP_H
#define TUNN_WIRE_DERP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/base/key.h"
#include "common/wire/frame.h"

enum derp_type {
	DERP_SERVER_KEY = 0x01,     /* S: magic, key */
	DERP_CLIENT_INFO = 0x02,    /* C: key, nonce, box of JSON */
	DERP_SERVER_INFO = 0x03,    /* S: nonce, box of JSON */
	DERP_SEND_PACKET = 0x04,    /* C: destination, packet */
	DERP_RECV_PACKET = 0x05,    /* S: source, packet */
	DERP_KEEP_ALIVE = 0x06,     /* S: nothing */
	DERP_NOTE_PREFERRED = 0x07, /* C: one byte, is this server its home? */
	DERP_PEER_GONE = 0x08,      /* S: key, reason */
	DERP_PEER_PRESENT = 0x09,   /* S to a watcher: key, address, port, flags */
	DERP_FORWARD_PACKET = 0x0a, /* mesh: source, destination, packet */
	DERP_WATCH_CONNS = 0x10,    /* mesh: nothing */
	DERP_CLOSE_PEER = 0x11,     /* mesh: key */
	DERP_PING = 0x12,           /* 8 bytes */
	DERP_PONG = 0x13,           /* the 8 bytes */
	DERP_HEALTH = 0x14,         /* S: text, empty when healthy again */
	DERP_RESTARTING = 0x15,     /* S: u32 reconnect in ms, u32 try for ms */
	/* Between our own ends (PROTOCOL.md): */
	DERP_TUNN = 0x74,      /* key, a TunnelMessage about its end */
	DERP_TUNN_FLOW = 0x75, /* key, u32 flow, packet: of another flow than 0 */
};

enum {
	DERP_VERSION = 2,
	DERP_PACKET_MAX = 65536,
	DERP_NONCE_LEN = 24,
	DERP_TAG_LEN = 16,
	DERP_MAGIC_LEN = 8,
	DERP_PING_LEN = 8,
	DERP_PING_FRAME_MAX = 1000,                   /* longer from a client is an error */
	DERP_CLIENT_INFO_MAX = 16384,                 /* T33; 512 ids of ours fit */
	DERP_SERVER_FRAME_MAX = DERP_PACKET_MAX + 64, /* anything a client sends */
	DERP_SERVER_KEY_MAX = 1024,
	DERP_CLIENT_FRAME_MAX = 1 << 20, /* anything a server sends */
	DERP_DISCO_LEAST = 62,           /* magic, key, nonce */
	DERP_PACKET_HEAD = FRAME_HEAD_LEN + KEY_LEN,
	DERP_MARK_LEN = 5, /* behind the key in ServerKey: this server is one of ours */
};

enum derp_gone { DERP_GONE_DISCONNECTED = 0x00, DERP_GONE_NOT_HERE = 0x01 };
enum { /* flags of PeerPresent */
       DERP_PRESENT_REGULAR = 1,
       DERP_PRESENT_MESH = 2,
       DERP_PRESENT_PROBER = 4,
       DERP_PRESENT_NOT_IDEAL = 8,
};

struct derp_present {
	struct key key;
	uint8_t ip[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port;
	uint8_t flags;
};

/* ERR_PROTOCOL: no such frame from that side at that moment, or a length it cannot
 * have; ERR_TOO_BIG. For struct framer. */
int derp_check_first_of_client(const struct framer *, uint8_t type, uint32_t len);
int derp_check_client(const struct framer *, uint8_t type, uint32_t len);
int derp_check_first_of_server(const struct framer *, uint8_t type, uint32_t len);
int derp_check_server(const struct framer *, uint8_t type, uint32_t len);

int derp_put(struct buf *out, enum derp_type, const void *payload, size_t len);
int derp_put_server_key(struct buf *out, const struct key *, bool marked);
/* In place of payload: the head, and `more` bytes to be filled in. NULL: out of memory. */
uint8_t *derp_put_open(struct buf *out, enum derp_type, size_t len);
/* A packet behind one key (SendPacket, RecvPacket). */
int derp_put_packet(struct buf *out, enum derp_type, const struct key *, const uint8_t *p,
                    size_t len);
int derp_put_flow(struct buf *out, const struct key *, uint32_t flow, const uint8_t *p, size_t len);
int derp_put_forward(struct buf *out, const struct key *src, const struct key *dst,
                     const uint8_t *p, size_t len);
int derp_put_gone(struct buf *out, const struct key *, enum derp_gone);
int derp_put_present(struct buf *out, const struct derp_present *);
int derp_put_restarting(struct buf *out, uint32_t reconnect_ms, uint32_t try_ms);

int derp_get_server_key(const struct frame *, struct key *key_out, bool *marked_out);
int derp_get_client_info(const struct frame *, struct key *key_out, struct str *box_out);
int derp_get_packet(const struct frame *, struct key *key_out, struct str *packet_out);
int derp_get_flow(const struct frame *, struct key *key_out, uint32_t *flow_out,
                  struct str *packet_out);
int derp_get_forward(const struct frame *, struct key *src_out, struct key *dst_out,
                     struct str *packet_out);
int derp_get_gone(const struct frame *, struct key *key_out, uint8_t *reason_out);
int derp_get_present(const struct frame *, struct derp_present *present_out);
int derp_get_restarting(const struct frame *, uint32_t *reconnect_ms_out, uint32_t *try_ms_out);

#endif
