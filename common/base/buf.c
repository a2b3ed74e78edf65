#include "common/base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"

enum {
	KEEP_CAP = 512,   /* an empty buf keeps no more than this (idle tunnels) */
	POOL_CAP = 512,   /* blocks of this, twice this ... */
	POOL_CLASSES = 9, /* ... up to 128 KiB */
	STEEP_CAP = 2048, /* what outgrows this is a record: the next is 32 KiB */
	POOL_BYTES_MAX = 1 << 20,
};

/* ---- blocks that come and go with every record: kept by the thread, not by the buf ---- */

struct spare {
	struct spare *next;
};

static _Thread_local struct {
	struct spare *blocks[POOL_CLASSES];
	size_t bytes;
} pool;

/* POOL_CLASSES or more: not a size that is kept. All are powers of two. */
static unsigned class_of(size_t cap)
{
	return (unsigned)__builtin_ctzl(cap) - (unsigned)__builtin_ctz(POOL_CAP);
}

static uint8_t *block_get(size_t cap)
{
	unsigned i = class_of(cap);
	struct spare *s = i < POOL_CLASSES ? pool.blocks[i] : NULL;

	if (!s)
		return malloc(cap);
	pool.blocks[i] = s->next;
	pool.bytes -= cap;
	return (uint8_t *)s;
}

static void block_put(uint8_t *base, size_t cap)
{
	unsigned i = class_of(cap);
	struct spare *s = (struct spare *)(void *)base;

	if (i >= POOL_CLASSES || pool.bytes + cap > POOL_BYTES_MAX) {
		free(base);
		return;
	}
	s->next = pool.blocks[i];
	pool.blocks[i] = s;
	pool.bytes += cap;
}

void buf_pool_drain(void)
{
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		struct spare *next;
		for (struct spare *s = pool.blocks[i]; s; s = next) {
			next = s->next;
			free(s);
		}
		pool.blocks[i] = NULL;
	}
	pool.bytes = 0;
}

/* ---- bufs ---- */

void buf_done(struct buf *b)
{
	if (b->base)
		block_put(b->base, b->cap);
	*b = (struct buf){ 0 };
}

uint8_t *buf_room(struct buf *b, size_t n)
{
	if (b->cap - b->off - b->len >= n)
		return b->base + b->off + b->len;
	if (b->cap - b->len >= n && b->off >= b->len && b->off > BUF_INDENT_MAX) {
		memcpy(b->base, b->base + b->off, b->len); /* cheap: regions do not overlap */
		b->off = 0;
		return b->base + b->len;
	}
	size_t off = b->off <= BUF_INDENT_MAX ? b->off : 0;
	size_t cap = b->cap ? b->cap : POOL_CAP;
	while (cap - b->len - off < n)
		cap *= cap == STEEP_CAP ? 16 : 2;
	uint8_t *base = block_get(cap);
	if (!base)
		return NULL;
	if (b->len)
		memcpy(base + off, b->base + b->off, b->len);
	if (b->base)
		block_put(b->base, b->cap);
	b->base = base;
	b->cap = cap;
	b->off = off;
	return b->base + b->off + b->len;
}

void buf_indent(struct buf *b, size_t n)
{
	assert(n <= BUF_INDENT_MAX);
	if (b->len == 0 && b->off == 0 && buf_room(b, n))
		b->off = n;
}

bool buf_prepend(struct buf *b, const void *data, size_t n)
{
	if (b->off < n)
		return false;
	b->off -= n;
	b->len += n;
	memcpy(b->base + b->off, data, n);
	return true;
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

void buf_cut(struct buf *b, size_t len)
{
	assert(len <= b->len);
	b->len = len;
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
