/*
 * A den: the memory of something that sleeps most of the time, as the state that a
 * library keeps for an idle connection: tens of kilobytes, nearly all of them zero.
 * Blocks are taken from it while its owner is made, and go all together. While
 * the owner sleeps, what is not zero lies packed on the heap, and the pages are
 * given back to the system; after den_wake() every byte is where it was.
 *
 * The owner wakes its den before anything touches a block of it (under
 * AddressSanitizer a block of a sleeping den is poisoned). One thread at a time;
 * den_done() may come on another than the first.
 */
#ifndef TUNN_BASE_DEN_H
#define TUNN_BASE_DEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DEN_MAX = 32 << 10 }; /* the largest den */

struct den { /* value type: all zero but `cap` before the first den_take() */
	size_t cap, used;
	struct den_region *region;
	uint8_t *base;
	uint64_t *packed; /* while asleep */
	size_t packed_len;
};

/* A block of n bytes, zeroed and aligned as malloc's; NULL: the den is full, or the
 * system has no memory. */
void *den_take(struct den *, size_t n);
bool den_has(const struct den *, const void *p); /* is p a block of this den? */
size_t den_size_of(const void *block);
/* Needs memory for a moment; without it the den just stays awake. */
void den_sleep(struct den *);
void den_wake_up(struct den *); /* den_wake() */
static inline void den_wake(struct den *d)
{
	if (d->packed)
		den_wake_up(d);
}
void den_done(struct den *); /* asleep or awake: nothing of it is left to read */

#endif
