#include "common/base/den.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/asan.h"
#include "common/base/crypto.h"
#include "common/base/metric.h"

enum {
	SLOTS = 64, /* of a region: one bit each */
	GROUP = 64, /* words that one mask tells about */
	GROUP_BYTES = GROUP * sizeof(uint64_t),
	BLOCK_ALIGN = _Alignof(max_align_t),
	/* words of a den that has no zeros; one more is written before it is known to be zero */
	PACKED_MAX = 1 + DEN_MAX / GROUP_BYTES * (1 + GROUP) + 1,
};
static_assert(DEN_MAX / GROUP_BYTES <= 64, "one mask tells about all groups");

/* In front of each block. */
struct head {
	_Alignas(max_align_t) size_t len;
};

/* ---- where dens lie: slots of one length, many in one mapping ---- */

/* The thread that made it takes slots, whoever has one gives it back. Regions stay
 * for ever: given back slots cost address space and nothing else. */
struct den_region {
	struct den_region *next; /* of this thread */
	_Atomic uint64_t free;   /* acquire before a slot is taken, release after its last use */
	uint8_t *base;
	size_t slot;
};

#ifdef HAS_ASAN
static bool slot_take(struct den *d)
{
	d->base = calloc(1, d->cap);
	if (d->base)
		ASAN_POISON_MEMORY_REGION(d->base, d->cap);
	return d->base != NULL;
}

static void slot_give(struct den *d)
{
	ASAN_UNPOISON_MEMORY_REGION(d->base, d->cap);
	free(d->base);
}

NOT_BY_ASAN static bool pages_give(struct den *d)
{
	for (size_t i = 0; i < d->used; i++)
		((volatile uint8_t *)d->base)[i] = 0;
	ASAN_POISON_MEMORY_REGION(d->base, d->cap);
	return true;
}
#else
static _Thread_local struct den_region *regions;

static struct den_region *region_new(size_t slot)
{
	struct den_region *r = malloc(sizeof *r);
	size_t len = SLOTS * slot;

	if (!r)
		return NULL;
	r->base = mmap(NULL, len, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->base == MAP_FAILED) {
		free(r);
		return NULL;
	}
	madvise(r->base, len, MADV_NOHUGEPAGE); /* all or nothing is not what we want */
	atomic_init(&r->free, UINT64_MAX);
	r->slot = slot;
	r->next = regions;
	regions = r;
	return r;
}

static struct den_region *region_with_room(size_t slot)
{
	for (struct den_region *r = regions; r; r = r->next)
		if (r->slot == slot && atomic_load_explicit(&r->free, memory_order_relaxed))
			return r;
	return region_new(slot);
}

static bool slot_take(struct den *d)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct den_region *r = region_with_room((d->cap + page - 1) / page * page);

	if (!r)
		return false;
	unsigned n = (unsigned)__builtin_ctzll(
	                atomic_load_explicit(&r->free, memory_order_acquire));
	atomic_fetch_and_explicit(&r->free, ~(UINT64_C(1) << n), memory_order_relaxed);
	d->region = r;
	d->base = r->base + n * r->slot;
	return true;
}

/* The pages read as zero from now on. */
static bool pages_give(struct den *d)
{
	return madvise(d->base, d->region->slot, MADV_DONTNEED) == 0;
}

static void slot_give(struct den *d)
{
	struct den_region *r = d->region;
	unsigned n = (unsigned)((size_t)(d->base - r->base) / r->slot);

	if (d->used && !pages_give(d))
		memset(d->base, 0, d->used); /* locked pages are not given back */
	atomic_fetch_or_explicit(&r->free, UINT64_C(1) << n, memory_order_release);
}
#endif

/* ---- blocks ---- */

NOT_BY_ASAN static void head_set(uint8_t *at, size_t len)
{
	((struct head *)(void *)at)->len = len;
}
NOT_BY_ASAN static size_t head_get(const uint8_t *at)
{
	return ((const struct head *)(const void *)at)->len;
}

static size_t padded(size_t n) { return (n + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN; }

void *den_take(struct den *d, size_t n)
{
	size_t at = d->used;

	assert(d->cap <= DEN_MAX && d->cap % GROUP_BYTES == 0 && !d->packed);
	if (n > d->cap || at + sizeof(struct head) + padded(n) > d->cap)
		return NULL;
	if (!d->base && !slot_take(d))
		return NULL;
	d->used += sizeof(struct head) + padded(n);
	head_set(d->base + at, n);
	ASAN_UNPOISON_MEMORY_REGION(d->base + at + sizeof(struct head), n);
	return d->base + at + sizeof(struct head);
}

bool den_has(const struct den *d, const void *p)
{
	return d->base && (uintptr_t)p - (uintptr_t)d->base < d->cap;
}

size_t den_size_of(const void *block)
{
	return head_get((const uint8_t *)block - sizeof(struct head));
}

/* ---- sleeping: a mask of the groups that are not zero; for each of them a mask of its
 * words that are not zero, and these ---- */

NOT_BY_ASAN static bool is_zero(const uint64_t *group)
{
	uint64_t any = 0;

	for (unsigned i = 0; i < GROUP; i++) /* without a branch: vectors do it */
		any |= group[i];
	return any == 0;
}

/* Returns the words written. */
NOT_BY_ASAN static size_t pack(const struct den *d, uint64_t to[static PACKED_MAX])
{
	const uint64_t *from = (const uint64_t *)(const void *)d->base;
	size_t n = 1, n_groups = (d->used + GROUP_BYTES - 1) / GROUP_BYTES;

	to[0] = 0;
	for (size_t g = 0; g < n_groups; g++, from += GROUP) {
		if (is_zero(from))
			continue;
		uint64_t *mask = &to[n++];
		*mask = 0;
		for (unsigned i = 0; i < GROUP; i++) {
			to[n] = from[i];
			n += from[i] != 0;
			*mask |= (uint64_t)(from[i] != 0) << i;
		}
		to[0] |= UINT64_C(1) << g;
	}
	return n;
}

NOT_BY_ASAN static void unpack(struct den *d, const uint64_t *from)
{
	for (uint64_t groups = *from++; groups; groups &= groups - 1) {
		uint64_t *to = (uint64_t *)(void *)d->base + __builtin_ctzll(groups) * GROUP;
		for (uint64_t mask = *from++; mask; mask &= mask - 1)
			to[__builtin_ctzll(mask)] = *from++;
	}
}

static void forget_packed(struct den *d)
{
	crypto_wipe(d->packed, d->packed_len);
	free(d->packed);
	d->packed = NULL;
}

void den_sleep(struct den *d)
{
	uint64_t all[PACKED_MAX];

	if (d->packed || !d->used)
		return;
	d->packed_len = pack(d, all) * sizeof *all;
	d->packed = malloc(d->packed_len);
	if (d->packed)
		memcpy(d->packed, all, d->packed_len);
	crypto_wipe(all, d->packed_len + sizeof *all);
	if (!d->packed)
		return;
	if (!pages_give(d)) {
		forget_packed(d);
		return;
	}
	metric_add(METRIC_DENS_ASLEEP, 1);
	metric_add(METRIC_DENS_PACKED_BYTES, (int64_t)d->packed_len);
}

static void note_awake(const struct den *d)
{
	metric_add(METRIC_DENS_ASLEEP, -1);
	metric_add(METRIC_DENS_PACKED_BYTES, -(int64_t)d->packed_len);
}

#ifdef HAS_ASAN
static void unpoison_blocks(const struct den *d)
{
	for (size_t at = 0; at < d->used;) {
		size_t len = head_get(d->base + at);
		at += sizeof(struct head);
		ASAN_UNPOISON_MEMORY_REGION(d->base + at, len);
		at += padded(len);
	}
}
#else
static void unpoison_blocks(const struct den *d) { (void)d; }
#endif

void den_wake_up(struct den *d)
{
	unpack(d, d->packed);
	unpoison_blocks(d);
	note_awake(d);
	forget_packed(d);
}

void den_done(struct den *d)
{
	if (d->packed) {
		note_awake(d);
		forget_packed(d);
	}
	if (d->base)
		slot_give(d);
	*d = (struct den){ .cap = d->cap };
}
