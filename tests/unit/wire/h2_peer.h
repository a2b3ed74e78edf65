/*
 * Two sides of HTTP/2 in memory, what each was told, and raw frames. One test
 * program includes this once.
 */
#ifndef TUNN_UNIT_H2_PEER_H
#define TUNN_UNIT_H2_PEER_H

#include "tests/h2_frames.h"
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/wire/h2.h"
#include "common/wire/h2_limits.h"

/* ---- two sides, and what each was told ---- */

struct side {
	struct h2 *h2;
	struct h2_stream *stream; /* the latest */
	unsigned n_heads, n_data, n_ends, n_closed, n_goaways, n_pings;
	size_t n_bytes;
	uint32_t sum, closed_code, goaway_code;
	uint64_t ping;
	char path[64], status[8], trailer[64], goaway[64];
	bool end_with_head;
};

static struct side server, client;

static inline struct h2_stream *latest(const struct side *s)
{
	assert_non_null(s->stream);
	return s->stream;
}

static uint64_t now_ms;
static bool naps; /* both, after every piece that moved */

static inline void copy(char *to, size_t cap, struct str s)
{
	snprintf(to, cap, "%.*s", (int)s.len, s.p ? s.p : "");
}

static inline void on_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	struct side *s = owner;

	s->stream = st;
	s->n_heads++;
	s->end_with_head = end;
	if (h2_head_get(head, ":path", NULL).p)
		copy(s->path, sizeof s->path, h2_head_get(head, ":path", NULL));
	if (h2_head_get(head, ":status", NULL).p)
		copy(s->status, sizeof s->status, h2_head_get(head, ":status", NULL));
	if (h2_head_get(head, "grpc-status", NULL).p)
		copy(s->trailer, sizeof s->trailer, h2_head_get(head, "grpc-status", NULL));
}

static inline void on_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct side *s = owner;

	if (s->stream)
		assert_ptr_equal(st, s->stream);
	s->n_data++;
	s->n_bytes += len;
	for (size_t i = 0; i < len; i++)
		s->sum = s->sum * 31 + data[i];
}

static inline void on_end(void *owner, struct h2_stream *st)
{
	struct side *s = owner;

	assert_ptr_equal(st, s->stream);
	s->n_ends++;
}

static inline void on_closed(void *owner, struct h2_stream *st, uint32_t code)
{
	struct side *s = owner;

	s->n_closed++;
	s->closed_code = code;
	if (st == s->stream)
		s->stream = NULL;
}

static inline void on_goaway(void *owner, uint32_t code, struct str debug)
{
	struct side *s = owner;

	s->n_goaways++;
	s->goaway_code = code;
	copy(s->goaway, sizeof s->goaway, debug);
}

static inline void on_ping_ack(void *owner, uint64_t payload)
{
	struct side *s = owner;

	s->n_pings++;
	s->ping = payload;
}

static const struct h2_events events = {
	on_head, on_data, on_end, on_closed, on_goaway, on_ping_ack
};

static inline int set_up(void **state)
{
	(void)state;
	now_ms = 1000;
	naps = false;
	server = client = (struct side){ 0 };
	assert_int_equal(h2_new(H2_SERVER, &limits_default, now_ms, &events, &server, &server.h2),
	                 0);
	assert_int_equal(h2_new(H2_CLIENT, &limits_default, now_ms, &events, &client, &client.h2),
	                 0);
	return 0;
}

static inline int tear_down(void **state)
{
	(void)state;
	h2_free(server.h2);
	h2_free(client.h2);
	return 0;
}

/* Moves what one side says; the other's result. */
static inline int move(struct side *from, struct side *to, size_t chunk, bool *some_out)
{
	struct buf out = { 0 };
	int rc = 0;

	assert_int_equal(h2_flush(from->h2, &out, 1 << 20), 0);
	*some_out = buf_len(&out) > 0;
	while (buf_len(&out) && rc == 0) {
		size_t n = chunk && chunk < buf_len(&out) ? chunk : buf_len(&out);
		rc = h2_input(to->h2, buf_data(&out), n, now_ms);
		buf_eat(&out, n);
		if (naps) {
			h2_nap(to->h2);
			h2_nap(from->h2);
		}
	}
	buf_done(&out);
	return rc;
}

static inline void run(size_t chunk)
{
	bool a, b;

	do {
		assert_int_equal(move(&client, &server, chunk, &a), 0);
		assert_int_equal(move(&server, &client, chunk, &b), 0);
	} while (a || b);
}

static inline void request(const char *path)
{
	const struct h2_field f[] = { { STR(":method"), STR("POST") },
		                      { STR(":scheme"), STR("https") },
		                      { STR(":authority"), STR("x") },
		                      { STR(":path"), str_of(path) } };

	assert_int_equal(h2_request(client.h2, f, 4, NULL, &client.stream), 0);
}

static inline void respond(bool end)
{
	const struct h2_field f[] = { { STR(":status"), STR("200") } };

	assert_int_equal(h2_respond(server.h2, latest(&server), f, 1, end), 0);
}

static inline void say(struct side *s, const char *byte, size_t n)
{
	uint8_t *room = buf_room(h2_outgoing(latest(s)), n);

	assert_non_null(room);
	memset(room, *byte, n);
	buf_added(h2_outgoing(latest(s)), n);
	h2_resume(s->h2, s->stream);
}

/* ---- raw frames ---- */

static inline void frame(struct buf *b, uint8_t type, uint8_t flags, uint32_t stream, const void *p,
                         size_t n)
{
	const uint8_t head[9] = { (uint8_t)(n >> 16),
		                  (uint8_t)(n >> 8),
		                  (uint8_t)n,
		                  type,
		                  flags,
		                  (uint8_t)(stream >> 24),
		                  (uint8_t)(stream >> 16),
		                  (uint8_t)(stream >> 8),
		                  (uint8_t)stream };

	assert_int_equal(buf_add(b, head, sizeof head), 0);
	assert_int_equal(buf_add(b, p, n), 0);
}

static inline void field(struct buf *b, const char *name, const char *value)
{
	uint8_t lens[2] = { (uint8_t)strlen(name), (uint8_t)strlen(value) };

	buf_add(b, "\0", 1); /* literal, not indexed (RFC 7541 6.2.2) */
	buf_add(b, &lens[0], 1);
	buf_add(b, name, lens[0]);
	buf_add(b, &lens[1], 1);
	buf_add(b, value, lens[1]);
}

/* Our decoder's table is smaller than the default; a block begins by agreeing (RFC 7541 4.2). */
static inline void begin_block(struct buf *b) { buf_add(b, "\x3f\xe1\x07", 3); }

static inline void head_block(struct buf *b)
{
	begin_block(b);
	field(b, ":method", "POST");
	field(b, ":scheme", "https");
	field(b, ":authority", "x");
	field(b, ":path", "/p");
}

static inline void open_raw(struct buf *b, uint32_t stream)
{
	struct buf block = { 0 };

	head_block(&block);
	frame(b, HEADERS, END_HEADERS, stream, buf_data(&block), buf_len(&block));
	buf_done(&block);
}

static inline void discard_output(struct h2 *h2)
{
	struct buf out = { 0 };

	h2_flush(h2, &out, 1 << 20);
	buf_done(&out);
}

static inline void greet_raw(struct buf *b)
{
	discard_output(server.h2); /* its SETTINGS, acknowledged here */
	buf_add(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	frame(b, SETTINGS, 0, 0, NULL, 0);
	frame(b, SETTINGS, ACK, 0, NULL, 0);
}

/* Feeds raw bytes; what the server answers is thrown away. */
static inline int feed(struct buf *b)
{
	int rc = h2_input(server.h2, buf_data(b), buf_len(b), now_ms);

	if (rc == 0)
		discard_output(server.h2);
	buf_clear(b);
	return rc;
}

/* The GOAWAY a failed server says; its code, or -1. */
static inline int64_t last_word(void)
{
	struct buf out = { 0 };
	int64_t code = -1;

	h2_flush(server.h2, &out, 1 << 20);
	while (buf_len(&out) >= 9) {
		const uint8_t *p = buf_data(&out);
		size_t n = 9 + ((size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2]);
		if (p[3] == GOAWAY)
			code = (int64_t)p[13] << 24 | p[14] << 16 | p[15] << 8 | p[16];
		buf_eat(&out, n);
	}
	buf_done(&out);
	return code;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
