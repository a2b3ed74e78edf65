/*
 * A growable queue of bytes: append at the end, consume from the front.
 * Memory is given back when it runs empty after having been large, to a pool of
 * the calling thread: what comes and goes with every record allocates nothing.
 * Belongs to one thread.
 */
#ifndef TUNN_BASE_BUF_H
#define TUNN_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BUF_INDENT_MAX = 16 };

struct buf { /* value type: read through the functions */
	uint8_t *base;
	size_t off, len, cap; /* content is base[off .. off + len) */
};

void buf_done(struct buf *); /* frees; an empty buf needs none */
static inline size_t buf_len(const struct buf *b) { return b->len; }
static inline const uint8_t *buf_data(const struct buf *b)
{
	return b->len ? b->base + b->off : b->base;
}
/* Room for n more bytes at the returned place, NULL when out of memory;
 * buf_added() then says how many were written. Pointers into the buf die. */
uint8_t *buf_room(struct buf *, size_t n);
void buf_added(struct buf *, size_t n);
int buf_add(struct buf *, const void *data, size_t n); /* 0 or -ENOMEM, all or nothing */
void buf_eat(struct buf *, size_t n);                  /* n <= buf_len */
/* Keeps n bytes free in front of an empty buf, if there is memory; buf_prepend() puts
 * n bytes before the content. False: there is no room in front. */
void buf_indent(struct buf *, size_t n);
bool buf_prepend(struct buf *, const void *data, size_t n);
void buf_cut(struct buf *, size_t len); /* forgets what is behind len; len <= buf_len */
void buf_clear(struct buf *);
void buf_wipe(struct buf *); /* clears it and leaves nothing to read in its memory */

void buf_pool_drain(void); /* returns the calling thread's pool to the heap */

#endif
