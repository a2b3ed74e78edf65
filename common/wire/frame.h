/*
 * Frames with a head of five bytes, one that says the kind and four with the length
 * in network order, cut out of a stream however it comes in pieces: gRPC's
 * length-prefixed messages and DERP's frames are both of this form. Pure. One thread.
 */
#ifndef TUNN_WIRE_FRAME_H
#define TUNN_WIRE_FRAME_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"

enum { FRAME_HEAD_LEN = 5 };

struct frame {
	uint8_t kind;
	uint32_t len;
	const uint8_t *p;
};

struct framer { /* zero-initialise, but for `check` */
	/* Asked once the head is there, before any byte of the frame is kept: what it
	 * returns but 0 is what frame_next() returns. */
	int (*check)(const struct framer *, uint8_t kind, uint32_t len);
	struct buf partial; /* a frame that began in an earlier chunk */
	uint32_t len;
	uint8_t head[FRAME_HEAD_LEN], head_len;
};

void framer_done(struct framer *);
bool framer_is_between(const struct framer *); /* not in the middle of a frame */
/* The next whole frame, borrowed until the next call: 0. ERR_AGAIN: all of `in` is
 * eaten, more is needed. What `check` found, or -ENOMEM: the stream is broken. */
int frame_next(struct framer *, struct cursor *in, struct frame *frame_out);

/* Here since every datagram that is sent has one. */
static inline void frame_put_head(uint8_t out[static FRAME_HEAD_LEN], uint8_t kind, uint32_t len)
{
	const uint32_t be = htobe32(len);

	out[0] = kind;
	memcpy(out + 1, &be, sizeof be);
}

#endif
