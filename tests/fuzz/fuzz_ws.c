/* WebSocket, the server's side: however the bytes are cut, payload and answers are the
 * same; what is answered are unmasked control frames, and none behind a close. The
 * first byte says where to cut. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/base/err.h"
#include "common/wire/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct side {
	int rc;
	struct buf payload, out;
};

static int collect(void *owner, const uint8_t *data, size_t len)
{
	assert(len > 0);
	return buf_add(&((struct side *)owner)->payload, data, len);
}

static bool run(const uint8_t *data, size_t len, size_t chunk, struct side *s)
{
	struct ws *ws;
	int flushed = 0;

	if (ws_new(collect, s, &ws) < 0)
		return false;
	for (size_t at = 0; at < len && s->rc == 0 && flushed == 0; at += chunk) {
		s->rc = ws_input(ws, data + at, len - at < chunk ? len - at : chunk);
		flushed = ws_flush(ws, &s->out);
		assert(flushed == 0 || flushed == -ENOMEM);
		ws_n_controls(ws);
	}
	ws_free(ws);
	return flushed == 0;
}

static void only_control_frames(const struct buf *out)
{
	struct cursor c = cursor_of(buf_data(out), buf_len(out));
	unsigned op = 0;

	while (cursor_left(&c)) {
		assert(op != 0x88);
		op = cursor_u8(&c);
		assert(op == 0x8a || op == 0x88);
		uint8_t n = cursor_u8(&c);
		assert(n <= 125);
		cursor_take(&c, n);
		assert(cursor_ok(&c));
	}
}

static bool same(const struct buf *a, const struct buf *b)
{
	return buf_len(a) == buf_len(b) &&
	       (buf_len(a) == 0 || memcmp(buf_data(a), buf_data(b), buf_len(a)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct side a = { 0 }, b = { 0 };

	if (len < 2)
		return 0;
	bool ok = run(data + 1, len - 1, len - 1, &a);
	ok &= run(data + 1, len - 1, 1 + data[0], &b);
	only_control_frames(&a.out);
	only_control_frames(&b.out);
	/* how many pongs wait at once depends on the cut */
	if (ok && a.rc != ERR_FLOOD && b.rc != ERR_FLOOD)
		assert(a.rc == b.rc && same(&a.payload, &b.payload) && same(&a.out, &b.out));
	buf_done(&a.payload);
	buf_done(&a.out);
	buf_done(&b.payload);
	buf_done(&b.out);
	return 0;
}
