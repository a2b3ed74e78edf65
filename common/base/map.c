#include "common/base/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"

/* Open addressing, linear probing, backward-shift deletion: no tombstones. */
struct map_slot {
	const void *key; /* NULL: free */
	void *value;
	uint64_t hash;
};

void map_init(struct map *m, size_t key_len) { *m = (struct map){ .key_len = key_len }; }

void map_done(struct map *m)
{
	free(m->slots);
	m->slots = NULL;
	m->n = m->cap = 0;
}

static size_t find(const struct map *m, const void *key, uint64_t hash)
{
	size_t i = hash & (m->cap - 1);

	while (m->slots[i].key &&
	       (m->slots[i].hash != hash || memcmp(m->slots[i].key, key, m->key_len) != 0))
		i = (i + 1) & (m->cap - 1);
	return i;
}

void *map_get(const struct map *m, const void *key)
{
	if (m->n == 0)
		return NULL;
	size_t i = find(m, key, crypto_short_hash(key, m->key_len));
	return m->slots[i].key ? m->slots[i].value : NULL;
}

static int grow(struct map *m)
{
	size_t cap = m->cap ? 2 * m->cap : 16;
	struct map bigger = { .cap = cap, .key_len = m->key_len, .n = m->n };

	bigger.slots = calloc(cap, sizeof *bigger.slots);
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].key)
			bigger.slots[find(&bigger, m->slots[i].key, m->slots[i].hash)] =
			                m->slots[i];
	free(m->slots);
	*m = bigger;
	return 0;
}

int map_put(struct map *m, const void *key, void *value)
{
	uint64_t hash = crypto_short_hash(key, m->key_len);

	if ((m->n + 1) * 4 > m->cap * 3 && grow(m) < 0)
		return -ENOMEM;
	size_t i = find(m, key, hash);
	if (!m->slots[i].key)
		m->n++;
	m->slots[i] = (struct map_slot){ key, value, hash };
	return 0;
}

void *map_del(struct map *m, const void *key)
{
	if (m->n == 0)
		return NULL;
	size_t mask = m->cap - 1, i = find(m, key, crypto_short_hash(key, m->key_len));
	void *value = m->slots[i].value;
	if (!m->slots[i].key)
		return NULL;
	for (size_t j = (i + 1) & mask; m->slots[j].key; j = (j + 1) & mask) {
		size_t home = m->slots[j].hash & mask;
		if (((j - home) & mask) >= ((j - i) & mask)) { /* may move back to i */
			m->slots[i] = m->slots[j];
			i = j;
		}
	}
	m->slots[i] = (struct map_slot){ 0 };
	m->n--;
	return value;
}

void *map_next(const struct map *m, size_t *pos)
{
	while (*pos < m->cap) {
		const struct map_slot *s = &m->slots[(*pos)++];
		if (s->key)
			return s->value;
	}
	return NULL;
}
