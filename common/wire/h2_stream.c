#include "common/wire/h2_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

struct h2_stream *h2_stream_new(struct h2 *h, int32_t id)
{
	struct h2_stream *st = calloc(1, sizeof *st);

	if (!st)
		return NULL;
	st->id = id;
	list_add_tail(&h->streams, &st->node);
	h->n_streams++;
	return st;
}

void h2_stream_free(struct h2 *h, struct h2_stream *st)
{
	list_del(&st->node);
	h->n_streams--;
	buf_done(&st->outgoing);
	free(st->trailers);
	free(st);
}

/* ---- DATA out: counted here, handed over in h2_on_send_data (NO_COPY) ---- */

static void to_nv(const struct h2_field *fields, size_t n, nghttp2_nv *nv_out)
{
	for (size_t i = 0; i < n; i++)
		nv_out[i] = (nghttp2_nv){ (uint8_t *)(uintptr_t)fields[i].name.p,
			                  (uint8_t *)(uintptr_t)fields[i].value.p,
			                  fields[i].name.len, fields[i].value.len,
			                  NGHTTP2_NV_FLAG_NONE };
}

enum { FIELDS_OUT_MAX = 16, FRAME_HEAD_LEN = 9 };

ssize_t h2_on_read(nghttp2_session *s, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                   nghttp2_data_source *source, void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *st = source->ptr;
	size_t n = buf_len(&st->outgoing);

	(void)buf;
	if (n == 0 && !st->finished) {
		st->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (n && h->budget == 0)
		return NGHTTP2_ERR_PAUSE;
	if (n > len)
		n = len;
	if (n > H2_FRAME_DATA_MAX)
		n = H2_FRAME_DATA_MAX;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (st->finished && n == buf_len(&st->outgoing)) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (st->n_trailers) {
			nghttp2_nv nv[FIELDS_OUT_MAX];
			to_nv(st->trailers, st->n_trailers, nv);
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (nghttp2_submit_trailer(s, id, nv, st->n_trailers) != 0)
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
	}
	h->budget -= n < h->budget ? n : h->budget;
	return (ssize_t)n;
}

/* The buffer itself, when it is the frame: nothing is copied. */
static bool hand_over(struct h2 *h, struct buf *outgoing, const uint8_t *frame_head, size_t len)
{
	struct buf empty = *h->out;

	if (buf_len(h->out) || len != buf_len(outgoing) ||
	    !buf_prepend(outgoing, frame_head, FRAME_HEAD_LEN))
		return false;
	*h->out = *outgoing;
	*outgoing = empty;
	buf_clear(outgoing);
	return true;
}

int h2_on_send_data(nghttp2_session *s, nghttp2_frame *f, const uint8_t *frame_head, size_t len,
                    nghttp2_data_source *source, void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *st = source->ptr;
	/* a registration, with its token */
	bool wipe = !st->spoken && h->side == H2_CLIENT && len;

	(void)s, (void)f;
	st->spoken |= len > 0;
	if (!wipe && len && hand_over(h, &st->outgoing, frame_head, len))
		return 0;
	uint8_t *p = buf_room(h->out, FRAME_HEAD_LEN + len);
	if (!p)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	memcpy(p, frame_head, FRAME_HEAD_LEN);
	if (len)
		memcpy(p + FRAME_HEAD_LEN, buf_data(&st->outgoing), len);
	if (wipe)
		crypto_wipe((uint8_t *)(uintptr_t)buf_data(&st->outgoing), len);
	buf_eat(&st->outgoing, len);
	if (buf_len(&st->outgoing) == 0)
		buf_clear(&st->outgoing);
	buf_added(h->out, FRAME_HEAD_LEN + len);
	return 0;
}

/* ---- one stream ---- */

struct str h2_head_get(const struct h2_head *head, const char *name, unsigned *n_out)
{
	struct str want = str_of(name), found = { NULL, 0 };
	unsigned n = 0;

	for (size_t i = 0; i < head->n; i++) {
		if (!str_eq(head->fields[i].name, want))
			continue;
		if (n++ == 0)
			found = head->fields[i].value;
	}
	if (n_out)
		*n_out = n;
	return found;
}

int h2_request(struct h2 *h, const struct h2_field *fields, size_t n, void *user,
               struct h2_stream **stream_out)
{
	nghttp2_nv nv[FIELDS_OUT_MAX];
	struct h2_stream *st = n <= FIELDS_OUT_MAX && !h->starved ? h2_stream_new(h, 0) : NULL;

	if (!st)
		return -ENOMEM;
	nghttp2_data_provider provider = { { .ptr = st }, h2_on_read };
	st->user = user;
	to_nv(fields, n, nv);
	int32_t id = nghttp2_submit_request(h2_session(h), NULL, nv, n, &provider, st);
	if (id < 0) {
		h2_stream_free(h, st);
		return id == NGHTTP2_ERR_NOMEM ? -ENOMEM : ERR_CLOSED;
	}
	st->id = id;
	*stream_out = st;
	return 0;
}

int h2_respond(struct h2 *h, struct h2_stream *st, const struct h2_field *fields, size_t n,
               bool end)
{
	nghttp2_nv nv[FIELDS_OUT_MAX];
	nghttp2_data_provider provider = { { .ptr = st }, h2_on_read };

	if (n > FIELDS_OUT_MAX)
		return ERR_INVALID;
	if (h->starved)
		return -ENOMEM;
	to_nv(fields, n, nv);
	int rc = nghttp2_submit_response(h2_session(h), st->id, nv, n, end ? NULL : &provider);
	return rc == 0 ? 0 : rc == NGHTTP2_ERR_NOMEM ? -ENOMEM : ERR_CLOSED;
}

struct buf *h2_outgoing(struct h2_stream *st)
{
	buf_indent(&st->outgoing, FRAME_HEAD_LEN);
	return &st->outgoing;
}

void h2_resume(struct h2 *h, struct h2_stream *st)
{
	if (!st->deferred || h->starved)
		return;
	st->deferred = false;
	nghttp2_session_resume_data(h2_session(h), st->id);
}

/* Copies fields and their text into one block. */
static struct h2_field *fields_copy(const struct h2_field *fields, size_t n)
{
	size_t len = n * sizeof *fields;

	for (size_t i = 0; i < n; i++)
		len += fields[i].name.len + fields[i].value.len;
	struct h2_field *copy = malloc(len);
	if (!copy)
		return NULL;
	char *text = (char *)(copy + n);
	for (size_t i = 0; i < n; i++) {
		copy[i].name = (struct str){ text, fields[i].name.len };
		text = (char *)memcpy(text, fields[i].name.p, fields[i].name.len) +
		       fields[i].name.len;
		copy[i].value = (struct str){ text, fields[i].value.len };
		if (fields[i].value.len)
			memcpy(text, fields[i].value.p, fields[i].value.len);
		text += fields[i].value.len;
	}
	return copy;
}

int h2_finish(struct h2 *h, struct h2_stream *st, const struct h2_field *trailers, size_t n)
{
	if (st->finished)
		return 0;
	if (n > FIELDS_OUT_MAX)
		return ERR_INVALID;
	if (n) {
		st->trailers = fields_copy(trailers, n);
		if (!st->trailers) {
			h2_reset(h, st, NGHTTP2_INTERNAL_ERROR);
			return -ENOMEM;
		}
		st->n_trailers = n;
	}
	st->finished = true;
	h2_resume(h, st);
	return 0;
}

void h2_reset(struct h2 *h, struct h2_stream *st, uint32_t code)
{
	if (!h->starved)
		nghttp2_submit_rst_stream(h2_session(h), NGHTTP2_FLAG_NONE, st->id, code);
}

size_t h2_window(const struct h2 *h, const struct h2_stream *st)
{
	int32_t stream = nghttp2_session_get_stream_remote_window_size(h2_session(h), st->id);
	int32_t conn = nghttp2_session_get_remote_window_size(h2_session(h));
	int32_t window = stream < conn ? stream : conn;
	size_t queued = buf_len(&st->outgoing);

	return window > 0 && (size_t)window > queued ? (size_t)window - queued : 0;
}

/* Streams first: the session of a connection that sleeps would be woken by the question. */
size_t h2_waiting(const struct h2 *h)
{
	size_t sum = 0;

	for (const struct list *it = h->streams.next; it != &h->streams; it = it->next) {
		const struct h2_stream *st = container_of(it, struct h2_stream, node);
		size_t n = buf_len(&st->outgoing);
		if (n == 0)
			continue;
		int32_t window = nghttp2_session_get_stream_remote_window_size(h2_session(h),
		                                                               st->id);
		sum += window <= 0 ? 0 : n < (size_t)window ? n : (size_t)window;
	}
	if (sum == 0)
		return 0;
	int32_t conn = nghttp2_session_get_remote_window_size(h2_session(h));
	return conn <= 0 ? 0 : sum < (size_t)conn ? sum : (size_t)conn;
}

void h2_set_user(struct h2_stream *st, void *user) { st->user = user; }
void *h2_user(const struct h2_stream *st) { return st->user; }
unsigned h2_n_streams(const struct h2 *h) { return h->n_streams; }
