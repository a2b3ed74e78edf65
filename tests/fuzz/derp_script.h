/*
 * Structure-aware mutation of one side of a DERP connection: the input is a script of
 * items, each an op, a type and a payload; the target makes bytes of them. So boxes are
 * always whole, and the lengths of frames nearly so.
 */
#ifndef TUNN_FUZZ_DERP_SCRIPT_H
#define TUNN_FUZZ_DERP_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"

enum script_side { SCRIPT_OF_CLIENT, SCRIPT_OF_SERVER };

enum script_op {
	SCRIPT_RAW,   /* the payload as it is: HTTP, or nothing sensible */
	SCRIPT_FRAME, /* a frame of that type */
	SCRIPT_BOX,   /* ClientInfo or ServerInfo with this JSON */
	SCRIPT_TIME,  /* type: seconds that pass */
	SCRIPT_DO,    /* type: what the owner does */
	SCRIPT_WS,    /* from now on in WebSocket messages, or no longer */
	SCRIPT_CUT,   /* type: bytes handed over at once from now on; 0: all */
	SCRIPT_OP_N
};

struct script_item { /* payload borrowed from the input */
	uint8_t op, type;
	struct str payload;
};

/* False: that was all. */
bool script_next(struct cursor *, struct script_item *item_out);
/* The bytes of a SCRIPT_RAW or SCRIPT_FRAME; 0 or -ENOMEM. */
int script_bytes(const struct script_item *, struct buf *out);

/* As LLVMFuzzerCustomMutator and LLVMFuzzerCustomCrossOver. */
size_t script_mutate(enum script_side, uint8_t *data, size_t len, size_t cap, unsigned seed);
size_t script_cross(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out,
                    size_t cap, unsigned seed);

#endif
