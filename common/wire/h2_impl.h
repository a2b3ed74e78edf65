/*
 * The inside of h2, shared by its files only:
 *   h2.c         the session: input, budgets, output
 *   h2_stream.c  one stream: requests, responses, DATA out
 *   h2_mem.c     memory of the session
 */
#ifndef TUNN_WIRE_H2_IMPL_H
#define TUNN_WIRE_H2_IMPL_H

#include <nghttp2/nghttp2.h>

#include "common/base/bucket.h"
#include "common/base/den.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/base/words.h"
#include "common/wire/h2.h"
#include "common/wire/h2_limits.h"

struct h2_stream {
	struct list node;
	int32_t id;
	void *user;
	struct buf outgoing;
	struct h2_field *trailers; /* with their text in the same block */
	size_t n_trailers;
	bool finished; /* no more is appended to outgoing */
	bool deferred; /* nghttp2 waits for h2_resume() */
	bool refused;  /* opened beyond the rate: no events */
	bool spoken;   /* the first DATA of ours is on its way */
};

struct h2_block {
	struct h2_field fields[H2_HEADER_FIELDS_MAX];
	char text[]; /* text_cap bytes */
};

struct h2 {
	nghttp2_session *session; /* by h2_session(), which wakes it */
	struct den den;           /* its memory that was taken when it was made, */
	struct list blocks;       /* and the rest of it */
	bool made;                /* what comes now comes and goes: not from the den */
	/* Memory was missing: the session is in no state to be asked anything more
	 * (1.52 frees twice what it could not queue), so none of it is freed and
	 * nothing is called before h2_free(). */
	bool starved;
	enum h2_side side;
	const struct h2_events *events;
	void *owner;
	struct list streams;
	unsigned n_streams;

	/* One header block is in progress at a time (RFC 9113 4.3). */
	struct h2_block *block; /* only while it is */
	size_t n_fields, list_size, n_skipped;
	size_t text_len, text_cap; /* cap: the limit when the block began, a reload may change it */
	int32_t block_id;          /* stream of the block in progress, 0: none */
	uint64_t block_since_ms;

	const struct limits *limits;
	struct buf *out; /* during h2_flush() */
	size_t budget;

	uint64_t now_ms, opened_ms;
	bool greeted; /* the other side's SETTINGS are here */
	bool settings_acked;
	bool said_goaway; /* an error of the owner's, by h2_goaway() */
	struct bucket glitches, resets_in, resets_out;
	struct budget controls, opens;
	uint64_t data_sent, window_updates;
	uint64_t pinged_ms; /* by the other side, 0: never */
	unsigned ping_strikes;
	bool spoke;         /* HEADERS or DATA of ours since its last PING */
	unsigned pings_out; /* not yet acknowledged */
	bool rest;          /* the owner should not read for a moment */
	bool said_failure;
	int failed; /* first failure; terminate is never called inside a callback (T09) */
	uint32_t failed_code;
	struct words error;
};

/* Every call of the library goes through this. */
static inline nghttp2_session *h2_session(const struct h2 *h)
{
	den_wake((struct den *)(uintptr_t)&h->den);
	return h->session;
}

nghttp2_mem h2_mem(struct h2 *); /* for nghttp2, which copies it */
void h2_mem_done(struct h2 *);   /* after the session is gone */

struct h2_stream *h2_stream_new(struct h2 *, int32_t id); /* NULL: out of memory */
void h2_stream_free(struct h2 *, struct h2_stream *);
/* nghttp2's callbacks for DATA: how much may go, and the copy (NO_COPY). */
ssize_t h2_on_read(nghttp2_session *, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                   nghttp2_data_source *, void *arg);
int h2_on_send_data(nghttp2_session *, nghttp2_frame *, const uint8_t *frame_head, size_t len,
                    nghttp2_data_source *, void *arg);

#endif
