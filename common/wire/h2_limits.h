/*
 * Limits of one HTTP/2 connection, each with what it protects (robustness.md
 * 2.3 and 2.4: what nghttp2 leaves to its user).
 */
#ifndef TUNN_WIRE_H2_LIMITS_H
#define TUNN_WIRE_H2_LIMITS_H

enum {
	H2_STREAMS_MAX = 100,         /* ends on one connection: memory of sessions */
	H2_STREAM_WINDOW = 1 << 20,   /* 100 Mbit/s at 80 ms; memory per stream */
	H2_CONN_WINDOW = 4 << 20,     /* memory per connection that is not read */
	H2_HEADER_LIST_MAX = 8192,    /* HPACK expansion (T08); name + value + 32 each */
	H2_HEADER_FIELDS_MAX = 100,   /* CPU of many tiny fields */
	H2_FRAME_DATA_MAX = 16375,    /* 9 + this = one TLS record (limits.md 2.4) */
	H2_OUTBOUND_FRAMES_MAX = 512, /* answers a peer provokes but does not read (T06) */
	H2_SETTINGS_ACK_MS = 5000,    /* a peer that opens streams beyond the limit (T06) */
	H2_SENT_RST_BURST = 50,       /* MadeYouReset (T05) */
	H2_SENT_RST_PER_S = 1,
	H2_RECV_RST_BURST = 200, /* rapid reset (T04) */
	H2_RECV_RST_PER_S = 20,
	H2_GLITCH_BURST = 1000, /* empty DATA, PRIORITY, unknown frames, ... */
	H2_GLITCH_PER_S = 50,
	H2_CONTROL_BURST = 500, /* every frame but DATA and WINDOW_UPDATE */
	H2_CONTROL_PER_S = 100,
	H2_WINDOW_UPDATE_BASE = 200, /* WINDOW_UPDATEs beyond base + 10 per DATA sent */
	H2_WINDOW_UPDATE_PER_DATA = 10,
	H2_GLITCH_HEADER_BOMB = 10, /* weight of an oversized header list */
	H2_STREAMS_PER_S = 50,      /* requests opened, sustained */
	H2_STREAMS_BURST = 200,
};

#endif
