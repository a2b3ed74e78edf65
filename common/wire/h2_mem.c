/* Memory of one nghttp2 session: what it takes while it is made lies in its den, the rest
 * on the heap. The hash table of streams and the buffer for one frame are most of it, and
 * nearly all zero. */
#include "common/wire/h2_impl.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Before each block that nghttp2 has; keeps what follows as aligned as it was. */
struct block {
	struct list node;
};
static_assert(sizeof(struct block) % _Alignof(max_align_t) == 0, "malloc's alignment");

static void *have(struct h2 *h, struct block *b)
{
	if (!b) {
		h->starved = true;
		return NULL;
	}
	list_add_tail(&h->blocks, &b->node);
	return b + 1;
}

static void *mem_malloc(size_t n, void *arg)
{
	struct h2 *h = arg;

	if (h->starved)
		return NULL;
	void *p = h->made ? NULL : den_take(&h->den, n);
	return p ? p : have(h, malloc(sizeof(struct block) + n));
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
	struct h2 *h = arg;
	void *p = size && n > (SIZE_MAX - sizeof(struct block)) / size ? NULL :
	                                                                 mem_malloc(n * size, arg);

	if (p && !den_has(&h->den, p)) /* else it is */
		memset(p, 0, n * size);
	return p;
}

static void mem_free(void *p, void *arg)
{
	struct h2 *h = arg;

	if (!p || h->starved || den_has(&h->den, p))
		return;
	struct block *b = (struct block *)p - 1;
	list_del(&b->node);
	free(b);
}

static void *mem_realloc(void *p, size_t n, void *arg)
{
	struct h2 *h = arg;

	if (!p)
		return mem_malloc(n, arg);
	if (h->starved)
		return NULL;
	if (den_has(&h->den, p)) {
		void *moved = mem_malloc(n, arg);
		size_t had = den_size_of(p);
		return moved ? memcpy(moved, p, had < n ? had : n) : NULL;
	}
	struct block *b = (struct block *)p - 1;
	list_del(&b->node);
	struct block *grown = realloc(b, sizeof *b + n);
	if (!grown)
		list_add_tail(&h->blocks, &b->node);
	return have(h, grown);
}

nghttp2_mem h2_mem(struct h2 *h)
{
	return (nghttp2_mem){ h, mem_malloc, mem_free, mem_calloc, mem_realloc };
}

void h2_mem_done(struct h2 *h)
{
	list_each(it, tmp, &h->blocks)
		free(container_of(it, struct block, node));
	list_init(&h->blocks);
}

void h2_starve(struct h2 *h) { h->starved = true; }

void h2_nap(struct h2 *h)
{
	if (h->den.packed || h->failed || h->starved || h2_has_output(h))
		return;
	list_each(it, tmp, &h->streams) {
		struct buf *b = &container_of(it, struct h2_stream, node)->outgoing;
		if (buf_len(b) == 0)
			buf_done(b);
	}
	den_sleep(&h->den);
}
