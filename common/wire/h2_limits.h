/*
 * Constants of one HTTP/2 connection that nobody changes; what an operator may
 * change is in common/base/limits.h.
 */
#ifndef TUNN_WIRE_H2_LIMITS_H
#define TUNN_WIRE_H2_LIMITS_H

enum {
	H2_STREAM_WINDOW = 1 << 20,  /* 100 Mbit/s at 80 ms; memory per stream */
	H2_CONN_WINDOW = 4 << 20,    /* memory per connection that is not read */
	H2_HEADER_FIELDS_MAX = 100,  /* CPU of many tiny fields */
	H2_SKIPPED_FIELDS_MAX = 4,   /* client: fields that do not fit, of one block */
	H2_FRAME_DATA_MAX = 16375,   /* 9 + this = one TLS record (limits.md 2.4) */
	H2_WINDOW_UPDATE_BASE = 200, /* WINDOW_UPDATEs beyond base + 10 per DATA sent */
	H2_WINDOW_UPDATE_PER_DATA = 10,
	H2_GLITCH_HEADER_BOMB = 10, /* weight of an oversized header list */
	H2_DEN_BYTES = 26 << 10,    /* what nghttp2 takes for a session, before anything is said */
};

#endif
