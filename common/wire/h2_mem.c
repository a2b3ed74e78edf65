/* Memory of one nghttp2 session. */
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

	return h->starved ? NULL : have(h, malloc(sizeof(struct block) + n));
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
	void *p = size && n > (SIZE_MAX - sizeof(struct block)) / size ? NULL :
	                                                                 mem_malloc(n * size, arg);

	return p ? memset(p, 0, n * size) : NULL;
}

static void mem_free(void *p, void *arg)
{
	struct h2 *h = arg;

	if (!p || h->starved)
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
