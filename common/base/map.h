/*
 * A hash table from keys of one fixed length to pointers. The table borrows
 * the key bytes from the entry (they must live as long as the entry stays in
 * it) and hashes with a random SipHash key. One thread.
 */
#ifndef TUNN_BASE_MAP_H
#define TUNN_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map {
	struct map_slot *slots;
	size_t n, cap; /* cap is zero or a power of two */
	size_t key_len;
};

void map_init(struct map *, size_t key_len);
void map_done(struct map *); /* the entries are the caller's */
void *map_get(const struct map *, const void *key);
/* Replaces an entry of the same key. 0 or -ENOMEM. */
int map_put(struct map *, const void *key, void *value);
void *map_del(struct map *, const void *key); /* gives the entry, or NULL */
/* Visits every entry; *pos starts at 0; NULL at the end. No put or del between. */
void *map_next(const struct map *, size_t *pos);

#endif
