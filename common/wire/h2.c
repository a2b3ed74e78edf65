#include "common/wire/h2_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"

static void fail(struct h2 *h, int err, uint32_t code, const char *text)
{
	if (h->failed)
		return;
	h->failed = err;
	h->failed_code = code;
	words_say(&h->error, "%s", text);
}

/* nghttp2 answers most errors of a connection by a GOAWAY of its own and takes
 * the input as eaten; that frame is the first we hear of it. */
static void library_gave_up(struct h2 *h, const nghttp2_goaway *f)
{
	bool flood = f->error_code == NGHTTP2_ENHANCE_YOUR_CALM;
	char text[160];

	snprintf(text, sizeof text, "%.*s", (int)f->opaque_data_len,
	         f->opaque_data_len ? (const char *)f->opaque_data : "");
	fail(h, flood ? ERR_FLOOD : ERR_PROTOCOL, f->error_code,
	     text[0] ? text : nghttp2_http2_strerror(f->error_code));
}

static void glitch(struct h2 *h, unsigned weight, const char *what)
{
	if (!bucket_take(&h->glitches, weight, h->now_ms))
		fail(h, ERR_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM, what);
}

/* False: over both. */
static bool spend(struct h2 *h, struct budget *b) { return budget_spend(b, h->now_ms, &h->rest); }

/* ---- streams ---- */

static struct h2_stream *stream_of(nghttp2_session *s, int32_t id)
{
	return id > 0 ? nghttp2_session_get_stream_user_data(s, id) : NULL;
}

/* The stream if its owner is to hear of it. */
static struct h2_stream *told_stream_of(nghttp2_session *s, int32_t id)
{
	struct h2_stream *st = stream_of(s, id);
	return st && !st->refused ? st : NULL;
}

/* ---- header blocks ---- */

/* It is complete, or nobody will hear of it. */
static void block_done(struct h2 *h)
{
	h->block_id = 0;
	free(h->block);
	h->block = NULL;
}

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
	struct h2 *h = arg;

	h->n_fields = h->list_size = h->text_len = h->n_skipped = 0;
	h->block_id = f->hd.stream_id;
	h->block_since_ms = h->now_ms;
	if (h->side == H2_SERVER && f->headers.cat == NGHTTP2_HCAT_REQUEST) {
		struct h2_stream *st = h2_stream_new(h, f->hd.stream_id);
		if (!st) {
			block_done(h);
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM */
		}
		nghttp2_session_set_stream_user_data(s, f->hd.stream_id, st);
		st->refused = !spend(h, &h->opens);
		if (f->hd.stream_id ==
		    INT32_MAX) /* no id is left: the client needs a new connection */
			nghttp2_submit_shutdown_notice(s);
	}
	if (!h->block) {
		h->text_cap = h->limits->header_list;
		h->block = malloc(sizeof *h->block + h->text_cap);
	}
	if (h->block)
		return 0;
	block_done(h);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static struct str keep(struct h2 *h, const uint8_t *p, size_t len)
{
	char *to = h->block->text + h->text_len;

	memcpy(to, p, len);
	h->text_len += len;
	return (struct str){ to, len };
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
	struct h2 *h = arg;

	(void)s, (void)f, (void)flags;
	/* RFC 9113 6.5.2 counts 32 bytes for each field. nghttp2 advertises the
	 * limit but does not enforce it. */
	size_t size = name_len + value_len + 32, most = h->text_cap;
	/* A verdict stands also beside a message of 64 kB (G24). */
	if (h->side == H2_CLIENT && h->list_size + size > most &&
	    h->n_skipped++ < H2_SKIPPED_FIELDS_MAX)
		return 0;
	h->list_size += size;
	if (h->list_size > most || h->n_fields == H2_HEADER_FIELDS_MAX) {
		block_done(h);
		glitch(h, H2_GLITCH_HEADER_BOMB, "oversized header lists");
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	struct h2_field *field = &h->block->fields[h->n_fields++];
	field->name = keep(h, name, name_len);
	field->value = keep(h, value, value_len);
	return 0;
}

static int on_invalid_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *arg)
{
	struct h2 *h = arg;

	(void)s, (void)f, (void)name, (void)name_len, (void)value, (void)value_len, (void)flags;
	block_done(h);
	glitch(h, 1, "invalid header fields");
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM, not silence */
}

static void headers_complete(struct h2 *h, struct h2_stream *st, const nghttp2_frame *f)
{
	struct h2_head head = { h->block->fields, h->n_fields };
	bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct str status = h2_head_get(&head, ":status", NULL);

	if (st->refused) {
		nghttp2_submit_rst_stream(h2_session(h), NGHTTP2_FLAG_NONE, st->id,
		                          NGHTTP2_REFUSED_STREAM);
		return;
	}
	bool informational = status.len == 3 && status.p[0] == '1'; /* RFC 9110 15.2: skipped */
	if (!informational)
		h->events->head(h->owner, st, &head, end);
}

/* nghttp2 refuses the frame by itself: an RST_STREAM or GOAWAY follows. */
static int on_invalid_frame(nghttp2_session *s, const nghttp2_frame *f, int error, void *arg)
{
	struct h2 *h = arg;

	(void)s, (void)error;
	if (f->hd.type == NGHTTP2_HEADERS)
		block_done(h);
	else if (f->hd.type == NGHTTP2_GOAWAY && h->side == H2_SERVER)
		/* grpc-go leaves with one that names a stream of its own: a goodbye. */
		fail(h, ERR_CLOSED, NGHTTP2_PROTOCOL_ERROR, "left by a GOAWAY");
	return 0;
}

/* ---- frames ---- */

/* gRPC A8: a PING that comes early is a strike, unless we have spoken since the
 * one before (stock clients measure bandwidth by a PING behind data). */
static void count_ping(struct h2 *h, const nghttp2_frame *f)
{
	const struct limits *lim = h->limits;

	if (f->hd.flags & NGHTTP2_FLAG_ACK) {
		if (h->pings_out)
			h->pings_out--;
		else
			glitch(h, 1, "acknowledgements of PINGs never sent");
		return;
	}
	bool early = h->pinged_ms && h->now_ms - h->pinged_ms < lim->ping_ms;
	if (h->spoke)
		h->ping_strikes = 0;
	else if (early && h->side == H2_SERVER && ++h->ping_strikes > lim->ping_strikes)
		fail(h, ERR_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
	h->spoke = false;
	h->pinged_ms = h->now_ms;
}

static void count_frame(struct h2 *h, const nghttp2_frame *f)
{
	switch (f->hd.type) {
	case NGHTTP2_DATA:
		if (f->hd.length == 0 && !(f->hd.flags & NGHTTP2_FLAG_END_STREAM))
			glitch(h, 1, "empty DATA frames");
		return;
	case NGHTTP2_WINDOW_UPDATE:
		/* A healthy tunnel sends hundreds a second, but in proportion. */
		if (++h->window_updates >
		    H2_WINDOW_UPDATE_BASE + H2_WINDOW_UPDATE_PER_DATA * h->data_sent)
			glitch(h, 1, "WINDOW_UPDATE frames without need");
		return;
	case NGHTTP2_PRIORITY: return; /* a glitch, counted when it began */
	case NGHTTP2_RST_STREAM:
		if (!bucket_take(&h->resets_in, 1, h->now_ms))
			fail(h, ERR_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM, "too many RST_STREAM frames");
		break;
	case NGHTTP2_PING: count_ping(h, f); break;
	default: break;
	}
	if (!spend(h, &h->controls))
		fail(h, ERR_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM, "too many control frames");
}

static int on_frame_recv(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *st = stream_of(s, f->hd.stream_id);

	count_frame(h, f);
	if (h->failed)
		return 0;
	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		if (st && h->block)
			headers_complete(h, st, f);
		block_done(h);
		break;
	case NGHTTP2_SETTINGS:
		if (f->hd.flags & NGHTTP2_FLAG_ACK)
			h->settings_acked = true;
		else
			h->greeted = true;
		break;
	case NGHTTP2_PING:
		if (f->hd.flags & NGHTTP2_FLAG_ACK) {
			uint64_t payload;
			memcpy(&payload, f->ping.opaque_data, sizeof payload);
			h->events->ping_ack(h->owner, payload);
		}
		break;
	case NGHTTP2_GOAWAY:
		h->events->goaway(h->owner, f->goaway.error_code,
		                  (struct str){ (const char *)f->goaway.opaque_data,
		                                f->goaway.opaque_data_len });
		break;
	default: break;
	}
	if (f->hd.flags & NGHTTP2_FLAG_END_STREAM &&
	    (f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS)) {
		st = told_stream_of(s, f->hd.stream_id); /* the head event may have reset it */
		if (st)
			h->events->end(h->owner, st);
	}
	return 0;
}

/* Frames that nghttp2 takes without a word to on_frame_recv(). */
static int on_begin_frame(nghttp2_session *s, const nghttp2_frame_hd *hd, void *arg)
{
	struct h2 *h = arg;

	(void)s;
	if (hd->type > NGHTTP2_CONTINUATION)
		glitch(h, 1, "frames of unknown type");
	else if (hd->type == NGHTTP2_PRIORITY)
		glitch(h, 1, "PRIORITY frames");
	return 0;
}

/* Frames of types we do not know are skipped (RFC 9113 4.1). */
static int on_unknown_frame(nghttp2_session *s, void **payload, const nghttp2_frame_hd *hd,
                            void *arg)
{
	(void)s, (void)payload, (void)hd, (void)arg;
	return NGHTTP2_ERR_CANCEL;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *st = told_stream_of(s, id);

	(void)flags;
	if (st && !h->failed)
		h->events->data(h->owner, st, data, len);
	return h->failed ? NGHTTP2_ERR_PAUSE : 0;
}

static int on_stream_close(nghttp2_session *s, int32_t id, uint32_t code, void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *st = stream_of(s, id);

	if (st) {
		if (!st->refused)
			h->events->closed(h->owner, st, code);
		h2_stream_free(h, st);
	}
	if (id == h->block_id) /* reset while its header block was coming in */
		block_done(h);
	return 0; /* anything else leaks in 1.52 (CVE-2023-35945) */
}

static int on_frame_send(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
	struct h2 *h = arg;

	if (f->hd.type == NGHTTP2_DATA)
		h->data_sent++;
	if (f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS)
		h->spoke = true;
	if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != NGHTTP2_NO_ERROR &&
	    !h->said_goaway)
		library_gave_up(h, &f->goaway);
	if (f->hd.type == NGHTTP2_RST_STREAM && f->rst_stream.error_code != NGHTTP2_NO_ERROR &&
	    f->rst_stream.error_code != NGHTTP2_CANCEL &&
	    !bucket_take(&h->resets_out, 1, h->now_ms))
		fail(h, ERR_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM,
		     "provoked too many RST_STREAM frames");
	/* Early end of a response: free the stream too (RFC 9113 8.1). */
	if (h->side == H2_SERVER && f->hd.flags & NGHTTP2_FLAG_END_STREAM &&
	    (f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) &&
	    nghttp2_session_get_stream_remote_close(s, f->hd.stream_id) == 0)
		nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

/* ---- the session ---- */

static int make_session(struct h2 *h)
{
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;
	nghttp2_mem mem = h2_mem(h);
	int rc = NGHTTP2_ERR_NOMEM;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
	nghttp2_session_callbacks_set_unpack_extension_callback(cb, on_unknown_frame);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_send_data_callback(cb, h2_on_send_data);
	if (nghttp2_option_new(&opt) == 0) {
		/* Else on_begin_frame() would not see them. */
		for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++)
			nghttp2_option_set_user_recv_extension_type(opt, (uint8_t)type);
		nghttp2_option_set_max_deflate_dynamic_table_size(opt, 1024);
		nghttp2_option_set_peer_max_concurrent_streams(opt, h->limits->streams);
		rc = h->side == H2_SERVER ?
		                     nghttp2_session_server_new3(&h->session, cb, h, opt, &mem) :
		                     nghttp2_session_client_new3(&h->session, cb, h, opt, &mem);
		nghttp2_option_del(opt);
	}
	nghttp2_session_callbacks_del(cb);
	h->made = true;
	return rc == 0 ? 0 : -ENOMEM;
}

static int greet(struct h2 *h)
{
	nghttp2_settings_entry iv[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h->limits->streams },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h->limits->header_list },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 }, /* client only */
	};
	size_t n = sizeof iv / sizeof *iv - (h->side == H2_SERVER);

	if (nghttp2_submit_settings(h2_session(h), NGHTTP2_FLAG_NONE, iv, n) != 0 ||
	    nghttp2_session_set_local_window_size(h2_session(h), NGHTTP2_FLAG_NONE, 0,
	                                          H2_CONN_WINDOW) != 0)
		return -ENOMEM;
	return 0;
}

static void fill_buckets(struct h2 *h, uint64_t now_ms)
{
	const struct limits *lim = h->limits;

	bucket_init(&h->glitches, lim->glitches_burst, lim->glitches_per_s, now_ms);
	budget_init(&h->controls, lim->controls_burst, lim->controls_per_s, now_ms);
	bucket_init(&h->resets_out, lim->resets_out_burst, lim->resets_out_per_s, now_ms);
	bucket_init(&h->resets_in, lim->resets_in_burst, lim->resets_in_per_s, now_ms);
	budget_init(&h->opens, lim->streams_burst, lim->streams_per_s, now_ms);
}

int h2_new(enum h2_side side, const struct limits *limits, uint64_t now_ms,
           const struct h2_events *events, void *owner, struct h2 **h2_out)
{
	struct h2 *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	h->side = side;
	h->events = events;
	h->owner = owner;
	h->limits = limits;
	h->now_ms = h->opened_ms = now_ms;
	list_init(&h->streams);
	list_init(&h->blocks);
	h->den.cap = H2_DEN_BYTES;
	fill_buckets(h, now_ms);
	if (make_session(h) < 0 || greet(h) < 0) {
		h2_free(h);
		return -ENOMEM;
	}
	*h2_out = h;
	return 0;
}

void h2_free(struct h2 *h)
{
	if (!h)
		return;
	nghttp2_session_del(h2_session(h));
	h2_mem_done(h);
	den_done(&h->den);
	list_each(it, tmp, &h->streams)
		h2_stream_free(h, container_of(it, struct h2_stream, node));
	free(h->block);
	words_done(&h->error);
	free(h);
}

/* The last word, with the reason as its debug data (RFC 9113 6.8). */
static void say_failure(struct h2 *h)
{
	if (h->said_failure || h->starved)
		return;
	h->said_failure = true;
	nghttp2_submit_goaway(h2_session(h), NGHTTP2_FLAG_NONE,
	                      nghttp2_session_get_last_proc_stream_id(h2_session(h)),
	                      h->failed_code, (const uint8_t *)words_text(&h->error),
	                      strlen(words_text(&h->error)));
}

/* Is there anything to ask nghttp2 for? */
static bool can_go_on(struct h2 *h)
{
	if (h->starved)
		fail(h, -ENOMEM, NGHTTP2_INTERNAL_ERROR, "out of memory");
	return !h->failed;
}

static int end_of_input(struct h2 *h, ssize_t rc)
{
	if (can_go_on(h) && rc < 0) {
		bool flood = rc == NGHTTP2_ERR_FLOODED;
		fail(h, flood ? ERR_FLOOD : ERR_PROTOCOL,
		     flood ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR,
		     nghttp2_strerror((int)rc));
	}
	if (!h->failed &&
	    nghttp2_session_get_outbound_queue_size(h2_session(h)) > h->limits->queued_frames)
		fail(h, ERR_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM,
		     "does not read the answers it provokes");
	if (h->failed)
		say_failure(h);
	return h->failed;
}

int h2_input(struct h2 *h, const uint8_t *data, size_t len, uint64_t now_ms)
{
	if (!can_go_on(h))
		return h->failed;
	h->now_ms = now_ms;
	return end_of_input(h, nghttp2_session_mem_recv(h2_session(h), data, len));
}

static int send_all(struct h2 *h, struct buf *out, size_t budget)
{
	const uint8_t *data;
	ssize_t n;

	h->out = out;
	h->budget = budget;
	while ((n = nghttp2_session_mem_send(h2_session(h), &data)) > 0) {
		if (buf_add(out, data, (size_t)n) < 0) {
			h2_starve(h); /* a frame is lost: nothing may follow it */
			break;
		}
	}
	h->out = NULL;
	can_go_on(h);
	return n < 0 && !h->failed ? ERR_PROTOCOL : 0;
}

int h2_flush(struct h2 *h, struct buf *out, size_t budget)
{
	int rc = h->starved ? 0 : send_all(h, out, budget);

	if (rc < 0 || can_go_on(h))
		return rc;
	/* A budget broke while sending, or nghttp2 gave up: the last word. */
	say_failure(h);
	rc = h->starved ? 0 : send_all(h, out, 0);
	return rc < 0 ? rc : h->failed;
}

bool h2_has_output(const struct h2 *h)
{
	if (h->starved)
		return !h->failed;
	return !h->den.packed && nghttp2_session_want_write(h->session) != 0; /* h2_nap() */
}

bool h2_is_over(const struct h2 *h)
{
	return !h->starved && !h->den.packed && !nghttp2_session_want_read(h->session) &&
	       !nghttp2_session_want_write(h->session);
}

int h2_tick(struct h2 *h, uint64_t now_ms)
{
	const struct limits *lim = h->limits;

	h->now_ms = now_ms;
	if (!can_go_on(h))
		return h->failed;
	if (!h->greeted && now_ms - h->opened_ms > lim->preface_ms)
		fail(h, ERR_SLOW, NGHTTP2_PROTOCOL_ERROR, "no HTTP/2 preface in time");
	else if (!h->settings_acked && now_ms - h->opened_ms > lim->settings_ack_ms)
		fail(h, ERR_FLOOD, NGHTTP2_SETTINGS_TIMEOUT, "never acknowledged SETTINGS");
	else if (h->block_id && now_ms - h->block_since_ms > lim->header_block_ms)
		fail(h, ERR_SLOW, NGHTTP2_ENHANCE_YOUR_CALM, "a header block that does not end");
	list_each(it, tmp, &h->streams) { /* one that allows nothing, or a byte at a time */
		if (buf_len(&container_of(it, struct h2_stream, node)->outgoing) >
		    lim->queued_bytes)
			fail(h, ERR_FLOOD, NGHTTP2_ENHANCE_YOUR_CALM,
			     "does not take what it asks for");
	}
	if (h->failed)
		say_failure(h);
	return h->failed;
}

uint32_t h2_rest_ms(struct h2 *h)
{
	uint32_t ms = h->rest ? BUDGET_REST_MS : 0;

	h->rest = false;
	return ms;
}

const char *h2_error_text(const struct h2 *h) { return words_text(&h->error); }

void h2_ping(struct h2 *h, uint64_t payload)
{
	uint8_t opaque[8];

	memcpy(opaque, &payload, sizeof opaque);
	h->pings_out++;
	if (!h->starved)
		nghttp2_submit_ping(h2_session(h), NGHTTP2_FLAG_NONE, opaque);
}

void h2_shutdown_notice(struct h2 *h)
{
	if (!h->starved)
		nghttp2_submit_shutdown_notice(h2_session(h));
}

void h2_goaway(struct h2 *h, uint32_t code, const char *debug)
{
	if (h->starved)
		return;
	h->said_goaway |= code != NGHTTP2_NO_ERROR;
	nghttp2_submit_goaway(h2_session(h), NGHTTP2_FLAG_NONE,
	                      nghttp2_session_get_last_proc_stream_id(h2_session(h)), code,
	                      (const uint8_t *)debug, strlen(debug));
}

const char *h2_code_name(uint32_t code) { return nghttp2_http2_strerror(code); }
const char *h2_library_version(void) { return nghttp2_version(0)->version_str; }
