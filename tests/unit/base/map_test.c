#include "tests/unit/said.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_found_until_deleted),
		cmocka_unit_test(the_same_key_replaces),
		cmocka_unit_test(any_mix_of_put_and_del_agrees_with_a_model),
		cmocka_unit_test(every_entry_is_visited_once),
	};
	for (uint32_t i = 0; i < N; i++)
		keys[i] = i;
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
