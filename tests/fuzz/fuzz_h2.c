/*
 * HTTP/2 input in either role. The first byte: bit 0 the role, the rest where
 * to cut. The owner answers, ends and resets as the bytes tell it to, so that
 * events meet every state of a stream.
 */
#include <assert.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/wire/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct owner {
	struct h2 *h2;
	enum h2_side side;
	unsigned n_open; /* streams told of and not yet closed */
};

static const struct h2_field response[] = { { STR(":status"), STR("200") } };
static const struct h2_field trailers[] = { { STR("grpc-status"), STR("0") } };

static void say(struct owner *o, struct h2_stream *st, size_t n)
{
	uint8_t *room = buf_room(h2_outgoing(st), n);

	if (!room)
		return;
	memset(room, 'x', n);
	buf_added(h2_outgoing(st), n);
	h2_resume(o->h2, st);
}

static void on_head(void *owner, struct h2_stream *st, const struct h2_head *head, bool end)
{
	struct owner *o = owner;
	struct str path = h2_head_get(head, ":path", NULL);

	(void)end;
	if (!h2_user(st)) {
		h2_set_user(st, o);
		o->n_open++;
	}
	for (size_t i = 0; i < head->n; i++) /* every byte is there to be read */
		assert(!head->fields[i].name.len ||
		       head->fields[i].name.p[head->fields[i].name.len - 1] != '\n');
	if (o->side == H2_CLIENT)
		return;
	h2_respond(o->h2, st, response, 1, path.len % 3 == 1);
	if (path.len % 5 == 2)
		h2_reset(o->h2, st, H2_CANCEL);
}

static void on_data(void *owner, struct h2_stream *st, const uint8_t *data, size_t len)
{
	struct owner *o = owner;

	if (len && data[0] == 'e')
		h2_finish(o->h2, st, trailers, o->side == H2_SERVER);
	else if (len && data[0] == 'r')
		h2_reset(o->h2, st, H2_CANCEL);
	else
		say(o, st, len);
}

static void on_end(void *owner, struct h2_stream *st)
{
	struct owner *o = owner;

	h2_finish(o->h2, st, trailers, o->side == H2_SERVER);
}

static void on_closed(void *owner, struct h2_stream *st, uint32_t code)
{
	struct owner *o = owner;

	(void)code;
	if (h2_user(st)) {
		assert(o->n_open > 0);
		o->n_open--;
	}
}

static void on_goaway(void *owner, uint32_t code, struct str debug)
{
	volatile char last;

	(void)owner, (void)code;
	if (debug.len)
		last = debug.p[debug.len - 1];
	(void)last;
}

static void on_ping_ack(void *owner, uint64_t payload) { (void)owner, (void)payload; }

static const struct h2_events events = {
	on_head, on_data, on_end, on_closed, on_goaway, on_ping_ack
};

static void dial(struct owner *o)
{
	const struct h2_field f[] = { { STR(":method"), STR("POST") },
		                      { STR(":scheme"), STR("https") },
		                      { STR(":path"), STR("/a") } };
	struct h2_stream *st;

	if (h2_request(o->h2, f, 3, o, &st) == 0) {
		o->n_open++;
		say(o, st, 100);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	static int started;
	struct owner o = { 0 };
	struct buf out = { 0 };
	uint64_t now_ms = 1000;

	if (!started)
		started = crypto_start() == 0;
	if (len < 1)
		return 0;
	o.side = data[0] & 1 ? H2_CLIENT : H2_SERVER;
	size_t chunk = 1 + (size_t)(data[0] >> 1) * 8;
	if (h2_new(o.side, &limits_default, now_ms, &events, &o, &o.h2) < 0)
		return 0;
	if (o.side == H2_CLIENT)
		dial(&o);
	h2_flush(o.h2, &out, 1 << 14);
	h2_input(o.h2, (const uint8_t *)preface + (o.side == H2_CLIENT ? 24 : 0),
	         sizeof preface - 1 - (o.side == H2_CLIENT ? 24 : 0), now_ms);
	int rc = 0;
	for (size_t at = 1; at < len && rc == 0; at += chunk) {
		rc = h2_input(o.h2, data + at, len - at < chunk ? len - at : chunk, now_ms);
		now_ms += 100;
		buf_clear(&out);
		if (rc == 0)
			rc = h2_flush(o.h2, &out, 1 << 14);
		if (rc == 0)
			rc = h2_tick(o.h2, now_ms);
	}
	h2_goaway(o.h2, H2_NO_ERROR, "");
	h2_flush(o.h2, &out, 1 << 14);
	buf_done(&out);
	h2_free(o.h2);
	return 0;
}
