/*
 * HTTP/2 (RFC 9113), the one door to nghttp2: bytes in, requests and responses
 * out, bytes out. Knows nothing of gRPC. Reads no clock. One thread.
 *
 * Events come only from inside h2_input(), `closed` also from inside h2_flush().
 * From inside one, every function of this header may be called but h2_input(),
 * h2_flush() and h2_free().
 */
#ifndef TUNN_WIRE_H2_H
#define TUNN_WIRE_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"

struct h2;
struct h2_stream; /* dead after `closed` */

enum h2_side { H2_SERVER, H2_CLIENT };

/* RFC 9113 section 7 */
enum h2_code {
	H2_NO_ERROR = 0,
	H2_PROTOCOL_ERROR = 1,
	H2_INTERNAL_ERROR = 2,
	H2_REFUSED_STREAM = 7,
	H2_CANCEL = 8,
	H2_ENHANCE_YOUR_CALM = 11,
};

struct h2_field {
	struct str name, value;
};
struct h2_head { /* borrowed for the event; pseudo header fields first */
	const struct h2_field *fields;
	size_t n;
};
/* The first field of that name; empty str (p NULL) when absent. n_out, if not
 * NULL, gets how many there are. */
struct str h2_head_get(const struct h2_head *, const char *name, unsigned *n_out);

struct h2_events {
	/* Server: a request's header block is complete. Client: a final response,
	 * or trailers (no :status). end: nothing follows. */
	void (*head)(void *owner, struct h2_stream *, const struct h2_head *, bool end);
	void (*data)(void *owner, struct h2_stream *, const uint8_t *data, size_t len);
	void (*end)(void *owner, struct h2_stream *); /* END_STREAM after data or head */
	/* The stream is gone, by whoever; code as in RST_STREAM. Last of a stream. */
	void (*closed)(void *owner, struct h2_stream *, uint32_t code);
	void (*goaway)(void *owner, uint32_t code, struct str debug);
	void (*ping_ack)(void *owner, uint64_t payload);
};

/* limits, events and owner are borrowed until h2_free(). */
int h2_new(enum h2_side, const struct limits *, uint64_t now_ms, const struct h2_events *,
           void *owner, struct h2 **h2_out);
void h2_free(struct h2 *); /* no events; NULL allowed */

/* Eats all or fails with ERR_PROTOCOL, ERR_FLOOD, ERR_CLOSED or -ENOMEM. After a failure a
 * GOAWAY is pending where one can be said. What nghttp2 ends by itself fails in
 * the h2_flush() that says its GOAWAY. */
int h2_input(struct h2 *, const uint8_t *data, size_t len, uint64_t now_ms);
/* Appends frames to out: all control frames, then DATA until `budget` bytes of
 * it are there. 0 or the failure there is; what is in out is still to be sent. */
int h2_flush(struct h2 *, struct buf *out, size_t budget);
bool h2_has_output(const struct h2 *);
/* Nothing is going on: keeps little memory until it is called for anything again. */
void h2_nap(struct h2 *);
/* Deadlines: SETTINGS, their acknowledgement, a header block. 0, ERR_SLOW or
 * ERR_FLOOD, or the failure there was. */
int h2_tick(struct h2 *, uint64_t now_ms);
/* How long the owner should not read, after too many control frames; 0 usually.
 * Says it once. */
uint32_t h2_rest_ms(struct h2 *);
bool h2_is_over(const struct h2 *);           /* both directions said goodbye, nothing left to do */
const char *h2_error_text(const struct h2 *); /* of the last failure, "" if none */

/* There was no memory for something that the other side must hear: the
 * connection is over, -ENOMEM from the next h2_input(), h2_flush() or h2_tick(). */
void h2_starve(struct h2 *);
void h2_ping(struct h2 *, uint64_t payload);
/* First GOAWAY of a graceful shutdown: everything open goes on, RFC 9113 6.8. */
void h2_shutdown_notice(struct h2 *);
void h2_goaway(struct h2 *, uint32_t code, const char *debug);

int h2_request(struct h2 *, const struct h2_field *fields, size_t n, void *user,
               struct h2_stream **stream_out); /* client */
/* end: the response is this one HEADERS frame (gRPC Trailers-Only). */
int h2_respond(struct h2 *, struct h2_stream *, const struct h2_field *fields, size_t n, bool end);
/* DATA to be sent: append to it, then say so. */
struct buf *h2_outgoing(struct h2_stream *);
void h2_resume(struct h2 *, struct h2_stream *);
/* Ends our half after what is outgoing; with trailers if n > 0. A server that
 * ends before the client does resets the stream with NO_ERROR behind it. */
int h2_finish(struct h2 *, struct h2_stream *, const struct h2_field *trailers, size_t n);
void h2_reset(struct h2 *, struct h2_stream *, uint32_t code);
/* Bytes of DATA the peer's windows allow beyond what is outgoing. */
size_t h2_window(const struct h2 *, const struct h2_stream *);

/* Bytes of DATA that are outgoing and allowed by the windows, of all streams. */
size_t h2_waiting(const struct h2 *);

void h2_set_user(struct h2_stream *, void *user);
void *h2_user(const struct h2_stream *);
unsigned h2_n_streams(const struct h2 *);

const char *h2_code_name(uint32_t code); /* "CANCEL"; "unknown" */
const char *h2_library_version(void);

#endif
