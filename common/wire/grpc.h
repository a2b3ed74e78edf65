/*
 * gRPC over HTTP/2 as far as it is not HTTP/2: length-prefixed messages,
 * grpc-timeout, percent-encoding, status codes and their mappings (gRPC
 * PROTOCOL-HTTP2.md, statuscodes.md, http-grpc-status-mapping.md). Pure. Any
 * thread.
 */
#ifndef TUNN_WIRE_GRPC_H
#define TUNN_WIRE_GRPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/wire/frame.h"

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_UNAUTHENTICATED = 16,
};
enum {
	GRPC_PREFIX_LEN = FRAME_HEAD_LEN,
	GRPC_MESSAGE_MAX = 66560, /* a datagram, two ids, prefixes; checked from the prefix */
	GRPC_TEXT_MAX = 512,      /* a status message of ours, before encoding */
};

/* Cuts a stream of DATA into messages, however it was cut into frames. */
struct deframer {
	struct framer framer;
	uint32_t message_max; /* 0: GRPC_MESSAGE_MAX */
};
struct deframer deframer_of(uint32_t message_max);
enum { GRPC_COMPRESSED = -10050 }; /* deframe_next: flag 1, nothing here decompresses */
void deframer_done(struct deframer *);
/* The next whole message, borrowed until the next call: 0. ERR_AGAIN: all of
 * `in` is eaten, more is needed. ERR_TOO_BIG, ERR_PROTOCOL (flag), GRPC_COMPRESSED,
 * -ENOMEM: the stream is broken. */
int deframe_next(struct deframer *, struct cursor *in, const uint8_t **msg_out, size_t *len_out);
bool deframer_is_between(const struct deframer *); /* not in the middle of a message */

void grpc_put_prefix(uint8_t out[static GRPC_PREFIX_LEN], uint32_t len);

/* `application/grpc`, or that followed by + or ; */
bool grpc_is_content_type(struct str value);
/* The value of a field whose name ends in -bin: base64 values, padded or not,
 * between commas. */
bool grpc_is_bin(struct str value);
/* 1 to 8 digits and one of H M S m u n. 0 or ERR_INVALID; clamps at UINT64_MAX / 2. */
int grpc_timeout(struct str value, uint64_t *ms_out);

/* Percent-encoding of grpc-message: everything outside 0x20-0x7e, and %. */
size_t grpc_message_encode(struct str text, char *out, size_t cap);
/* Undecodable escapes stay as they are (G24). NUL-terminates, cuts at cap. */
void grpc_message_decode(struct str value, char *out, size_t cap);

/* grpc-status: decimal without leading zeros, 0 to 16; else GRPC_UNKNOWN. */
int grpc_status_parse(struct str value);
int grpc_status_of_http(struct str http_status); /* when grpc-status is missing */
int grpc_status_of_rst(uint32_t h2_code);
/* What a client makes of a status and its message. */
enum close_why grpc_close_why(int status, const char *text);

#endif
