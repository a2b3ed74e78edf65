#include "common/wire/frame.h"

#include <errno.h>
#include <string.h>

#include "common/base/err.h"

void framer_done(struct framer *f) { buf_done(&f->partial); }

bool framer_is_between(const struct framer *f) { return f->head_len == 0; }

/* Keeps a part of a frame. Who has sent a quarter is believed the rest: it then has its place
 * and is not moved as it grows. */
__attribute__((noinline)) /* out of the way of the usual case */
static int
keep(struct framer *f, const uint8_t *p, size_t n)
{
	size_t have = buf_len(&f->partial);

	if (n && (have + n) * 4 >= f->len && !buf_room(&f->partial, f->len - have))
		return -ENOMEM;
	return buf_add(&f->partial, p, n);
}

static int read_head(struct framer *f, struct cursor *in)
{
	size_t n = FRAME_HEAD_LEN - f->head_len;

	n = cursor_left(in) < n ? cursor_left(in) : n;
	const uint8_t *p = cursor_take(in, n);
	if (n == FRAME_HEAD_LEN) /* nearly always; of a length the compiler knows */
		memcpy(f->head, p, FRAME_HEAD_LEN);
	else if (n)
		memcpy(f->head + f->head_len, p, n);
	f->head_len += n;
	if (f->head_len < FRAME_HEAD_LEN)
		return ERR_AGAIN;
	struct cursor c = cursor_of(f->head + 1, FRAME_HEAD_LEN - 1);
	f->len = cursor_u32be(&c);
	return f->check(f, f->head[0], f->len);
}

int frame_next(struct framer *f, struct cursor *in, struct frame *frame_out)
{
	if (f->head_len == 0 && buf_len(&f->partial))
		buf_clear(&f->partial); /* the frame given last */
	if (f->head_len < FRAME_HEAD_LEN) {
		int rc = read_head(f, in);
		if (rc < 0)
			return rc;
	}
	size_t have = buf_len(&f->partial), missing = f->len - have;
	size_t n = cursor_left(in) < missing ? cursor_left(in) : missing;
	const uint8_t *p = cursor_take(in, n);
	if (have == 0 && n == missing) { /* whole in this chunk: no copy */
		frame_out->p = p;
	} else {
		if (keep(f, p, n) < 0)
			return -ENOMEM;
		if (n < missing)
			return ERR_AGAIN;
		frame_out->p = buf_data(&f->partial);
	}
	frame_out->kind = f->head[0];
	frame_out->len = f->len;
	f->head_len = 0;
	return 0;
}
