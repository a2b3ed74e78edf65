#include "tests/unit/said.h"

#include <time.h>

#include "common/base/crypto.h"
#include "common/base/map.h"

enum { N = 2000 };

static uint32_t keys[N]; /* the entries are their own keys */

static void what_is_put_is_found_until_deleted(void **state)
{
	struct map m;
	uint32_t a = 1, b = 2;

	(void)state;
	map_init(&m, sizeof a);
	assert_null(map_get(&m, &a));
	assert_null(map_del(&m, &a));
	assert_int_equal(map_put(&m, &a, &a), 0);
	assert_ptr_equal(map_get(&m, &a), &a);
	assert_null(map_get(&m, &b));
	assert_ptr_equal(map_del(&m, &a), &a);
	assert_null(map_del(&m, &a));
	assert_int_equal(m.n, 0);
	map_done(&m);
}

static void the_same_key_replaces(void **state)
{
	struct map m;
	uint32_t a = 1, same = 1;

	(void)state;
	map_init(&m, sizeof a);
	map_put(&m, &a, &a);
	map_put(&m, &same, &same);
	assert_int_equal(m.n, 1);
	assert_ptr_equal(map_get(&m, &a), &same);
	map_done(&m);
}

/* Deletion shifts entries back; chains must stay whole. */
static void any_mix_of_put_and_del_agrees_with_a_model(void **state)
{
	static bool there[N];
	unsigned seed = 3, count = 0;
	struct map m;

	(void)state;
	map_init(&m, sizeof *keys);
	for (unsigned step = 0; step < 200000; step++) {
		unsigned i = (unsigned)rand_r(&seed) % N;
		if (rand_r(&seed) % 2) {
			assert_int_equal(map_put(&m, &keys[i], &keys[i]), 0);
			count += !there[i];
			there[i] = true;
		} else {
			assert_ptr_equal(map_del(&m, &keys[i]), there[i] ? &keys[i] : NULL);
			count -= there[i];
			there[i] = false;
		}
		assert_int_equal(m.n, count);
		i = (unsigned)rand_r(&seed) % N;
		assert_ptr_equal(map_get(&m, &keys[i]), there[i] ? &keys[i] : NULL);
	}
	for (unsigned i = 0; i < N; i++)
		assert_ptr_equal(map_get(&m, &keys[i]), there[i] ? &keys[i] : NULL);
	map_done(&m);
}

static void every_entry_is_visited_once(void **state)
{
	static unsigned seen[N];
	struct map m;
	size_t pos = 0;
	uint32_t *e;

	(void)state;
	map_init(&m, sizeof *keys);
	for (unsigned i = 0; i < N; i++)
		map_put(&m, &keys[i], &keys[i]);
	while ((e = map_next(&m, &pos)))
		seen[e - keys]++;
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(seen[i], 1);
	map_done(&m);
	pos = 0;
	assert_null(map_next(&m, &pos));
}

/* ---- T44: an attacker who chooses keys ---- */

/* The usual unkeyed hashes, a byte at a time. */
static uint32_t fnv1a(uint32_t h, uint8_t b) { return (h ^ b) * 16777619u; }
static uint32_t djb2(uint32_t h, uint8_t b) { return h * 33 + b; }

enum { STAGES = 17, BLOCK = 8, CHOSEN_LEN = STAGES * BLOCK, CHOSEN = 100000, TRIES = 1 << 19 };

struct pair { /* two blocks that lead from one state of the hash to one other */
	uint8_t block[2][BLOCK];
};

struct trial {
	uint32_t h;
	uint8_t block[BLOCK];
};

static uint32_t over(uint32_t (*step)(uint32_t, uint8_t), uint32_t h, const uint8_t *p, size_t n)
{
	while (n--)
		h = step(h, *p++);
	return h;
}

static int by_hash(const void *a, const void *b)
{
	const struct trial *x = a, *y = b;
	return x->h < y->h ? -1 : x->h > y->h;
}

/* Found by the birthday paradox; gives the state both lead to. */
static uint32_t find_pair(uint32_t (*step)(uint32_t, uint8_t), uint32_t h, struct pair *pair_out)
{
	struct trial *t = calloc(TRIES, sizeof *t);

	assert_non_null(t);
	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t block = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
		block = (block ^ block >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		block ^= block >> 27;
		memcpy(t[i].block, &block, BLOCK);
		t[i].h = over(step, h, t[i].block, BLOCK);
	}
	qsort(t, TRIES, sizeof *t, by_hash);
	unsigned i = 1;
	while (i < TRIES &&
	       (t[i].h != t[i - 1].h || memcmp(t[i].block, t[i - 1].block, BLOCK) == 0))
		i++;
	assert_true(i < TRIES);
	memcpy(pair_out->block[0], t[i - 1].block, BLOCK);
	memcpy(pair_out->block[1], t[i].block, BLOCK);
	h = t[i].h;
	free(t);
	return h;
}

/* Pairs behind one another: 2 to the STAGES keys of one hash. */
static uint8_t (*colliding_keys(uint32_t (*step)(uint32_t, uint8_t)))[CHOSEN_LEN]
{
	uint8_t(*made)[CHOSEN_LEN] = calloc(CHOSEN, CHOSEN_LEN);
	struct pair pairs[STAGES];
	uint32_t h = 2166136261u;

	assert_non_null(made);
	for (unsigned i = 0; i < STAGES; i++)
		h = find_pair(step, h, &pairs[i]);
	for (unsigned k = 0; k < CHOSEN; k++) {
		for (unsigned i = 0; i < STAGES; i++)
			memcpy(made[k] + (size_t)i * BLOCK, pairs[i].block[k >> i & 1], BLOCK);
		assert_int_equal(over(step, 2166136261u, made[k], CHOSEN_LEN), h);
	}
	return made;
}

static double seconds_to_put_and_get(uint8_t (*k)[CHOSEN_LEN])
{
	struct map m;
	clock_t start = clock();

	map_init(&m, CHOSEN_LEN);
	for (unsigned i = 0; i < CHOSEN; i++)
		assert_int_equal(map_put(&m, k[i], k[i]), 0);
	for (unsigned i = 0; i < CHOSEN; i++)
		assert_ptr_equal(map_get(&m, k[i]), k[i]);
	assert_int_equal(m.n, CHOSEN);
	map_done(&m);
	return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* With an unkeyed hash the chosen keys would take 5 thousand million steps,
 * some ten thousand times as long as random ones. */
static void T44_keys_that_collide_in_simple_hashes_cost_no_more_than_others(void **state)
{
	uint32_t (*const simple[])(uint32_t, uint8_t) = { fnv1a, djb2 };
	uint8_t(*other)[CHOSEN_LEN] = calloc(CHOSEN, CHOSEN_LEN);

	(void)state;
	assert_non_null(other);
	crypto_random(other, (size_t)CHOSEN * CHOSEN_LEN);
	double usual = seconds_to_put_and_get(other);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t(*chosen)[CHOSEN_LEN] = colliding_keys(simple[i]);
		double seconds = seconds_to_put_and_get(chosen);
		if (seconds > 20 * usual + 1)
			fail_msg("%f s, %f s for random keys", seconds, usual);
		free(chosen);
	}
	free(other);
}

static void T44_every_start_draws_another_hash_key(void **state)
{
	uint64_t before[8], same = 0;

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		before[i] = crypto_short_hash(&keys[i], sizeof keys[i]);
	assert_int_equal(crypto_start(), 0);
	for (uint32_t i = 0; i < 8; i++)
		same += before[i] == crypto_short_hash(&keys[i], sizeof keys[i]);
	assert_int_equal(same, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_found_until_deleted),
		cmocka_unit_test(the_same_key_replaces),
		cmocka_unit_test(any_mix_of_put_and_del_agrees_with_a_model),
		cmocka_unit_test(every_entry_is_visited_once),
		cmocka_unit_test(T44_keys_that_collide_in_simple_hashes_cost_no_more_than_others),
		cmocka_unit_test(T44_every_start_draws_another_hash_key),
	};
	for (uint32_t i = 0; i < N; i++)
		keys[i] = i;
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
