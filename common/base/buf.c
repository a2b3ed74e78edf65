#include "common/base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"

enum { KEEP_CAP = 4096 }; /* an empty buf keeps no more than this (idle tunnels) */

void buf_done(struct buf *b)
{
	free(b->base);
	*b = (struct buf){ 0 };
}

uint8_t *buf_room(struct buf *b, size_t n)
{
	if (b->cap - b->off - b->len >= n)
		return b->base + b->off + b->len;
	if (b->cap - b->len >= n && b->off >= b->len) { /* cheap: regions do not overlap */
		memcpy(b->base, b->base + b->off, b->len);
		b->off = 0;
		return b->base + b->len;
	}
	size_t cap = b->cap ? b->cap : 512;
	while (cap - b->len < n)
		cap *= 2;
	uint8_t *base = malloc(cap);
	if (!base)
		return NULL;
	if (b->len)
		memcpy(base, b->base + b->off, b->len);
	free(b->base);
	b->base = base;
	b->cap = cap;
	b->off = 0;
	return b->base + b->len;
}

void buf_added(struct buf *b, size_t n)
{
	assert(b->off + b->len + n <= b->cap);
	b->len += n;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
	if (n == 0)
		return 0;
	uint8_t *p = buf_room(b, n);
	if (!p)
		return -ENOMEM;
	memcpy(p, data, n);
	b->len += n;
	return 0;
}

void buf_eat(struct buf *b, size_t n)
{
	assert(n <= b->len);
	b->off += n;
	b->len -= n;
	if (b->len == 0)
		b->off = 0;
}

void buf_clear(struct buf *b)
{
	b->off = b->len = 0;
	if (b->cap > KEEP_CAP)
		buf_done(b);
}

void buf_wipe(struct buf *b)
{
	if (b->base)
		crypto_wipe(b->base, b->cap);
	buf_clear(b);
}
