#include "tests/unit/said.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/asan.h"
#include "common/base/den.h"
#include "common/base/metric.h"

#ifdef HAS_ASAN
enum { HAS_PAGES = 0 }; /* there dens lie on the heap */
#else
enum { HAS_PAGES = 1 };
#endif

enum { CAP = 16 << 10, BLOCK = 3000 };

static void fill(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(seed * 2654435761u >> (i % 24)) * (i % 7 == seed % 7);
}

static void assert_filled(const uint8_t *p, size_t n, unsigned seed)
{
	uint8_t want[BLOCK];

	fill(want, n, seed);
	assert_memory_equal(p, want, n);
}

static uint8_t *take(struct den *d, size_t n)
{
	uint8_t *p = den_take(d, n);

	assert_non_null(p);
	return p;
}

static size_t resident_pages(const struct den *d)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 0;
	unsigned char in[CAP / 4096 + 1];

	assert_int_equal(mincore(d->base, d->cap, in), 0);
	for (size_t i = 0; i < d->cap / page; i++)
		n += in[i] & 1;
	return n;
}

static void blocks_are_apart_zeroed_and_aligned(void **state)
{
	struct den d = { .cap = CAP };
	uint8_t *p[5];

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		p[i] = den_take(&d, BLOCK + i);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % _Alignof(max_align_t), 0);
		for (unsigned k = 0; k < BLOCK + i; k++)
			assert_int_equal(p[i][k], 0);
		memset(p[i], 0xff, BLOCK + i);
		assert_true(den_has(&d, p[i]));
		assert_int_equal(den_size_of(p[i]), BLOCK + i);
	}
	assert_null(den_take(&d, BLOCK)); /* it is full */
	assert_null(den_take(&d, SIZE_MAX));
	assert_false(den_has(&d, &d));
	assert_false(den_has(&d, NULL));
	den_done(&d);
}

static void a_den_that_nobody_used_has_nothing(void **state)
{
	struct den d = { .cap = CAP };

	(void)state;
	assert_false(den_has(&d, NULL));
	den_sleep(&d);
	den_wake(&d);
	assert_null(d.base);
	den_done(&d);
}

static void after_sleep_every_byte_is_where_it_was(void **state)
{
	struct den d = { .cap = CAP };
	uint8_t *p[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		p[i] = take(&d, BLOCK);
		fill(p[i], BLOCK, i);
	}
	for (unsigned night = 0; night < 3; night++) {
		den_sleep(&d);
		den_sleep(&d); /* does not notice */
		assert_non_null(d.packed);
		assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 1);
		den_wake(&d);
		den_wake(&d);
		assert_null(d.packed);
		assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 0);
		assert_int_equal(metric_sum(METRIC_DENS_PACKED_BYTES), 0);
		for (unsigned i = 0; i < 4; i++) {
			assert_filled(p[i], BLOCK, i + night);
			fill(p[i], BLOCK, i + night + 1);
		}
	}
	den_done(&d);
}

static void a_full_den_and_one_of_zeros_come_back_too(void **state)
{
	struct den full = { .cap = DEN_MAX }, zeros = { .cap = DEN_MAX };
	uint8_t *p = take(&full, DEN_MAX - 64), *q = take(&zeros, DEN_MAX - 64);

	(void)state;
	memset(p, 0xa5, DEN_MAX - 64);
	den_sleep(&full);
	den_sleep(&zeros);
	assert_true(zeros.packed_len < 64 && full.packed_len > DEN_MAX - 64);
	den_wake(&full);
	den_wake(&zeros);
	for (size_t i = 0; i < DEN_MAX - 64; i++)
		assert_true(p[i] == 0xa5 && q[i] == 0);
	den_done(&full);
	den_done(&zeros);
}

static void who_sleeps_has_no_pages_and_little_on_the_heap(void **state)
{
	struct den d = { .cap = CAP };
	uint8_t *p = take(&d, CAP - 100);

	(void)state;
	p[0] = p[5000] = p[CAP - 200] = 1;
	den_sleep(&d);
	assert_true(d.packed_len < 100);
	assert_int_equal(metric_sum(METRIC_DENS_PACKED_BYTES), d.packed_len);
	if (HAS_PAGES)
		assert_int_equal(resident_pages(&d), 0);
	den_wake(&d);
	assert_true(p[0] && p[5000] && p[CAP - 200]);
	den_done(&d);
}

static void untouched_pages_cost_nothing_awake_either(void **state)
{
	struct den d = { .cap = CAP };

	(void)state;
	if (!HAS_PAGES)
		skip();
	*take(&d, CAP - 100) = 1;
	assert_int_equal(resident_pages(&d), 1);
	den_done(&d);
}

static void one_that_goes_in_its_sleep_leaves_nothing(void **state)
{
	struct den d = { .cap = CAP };
	uint8_t *p = take(&d, BLOCK);

	(void)state;
	fill(p, BLOCK, 1);
	den_sleep(&d);
	den_done(&d);
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 0);
	assert_int_equal(metric_sum(METRIC_DENS_PACKED_BYTES), 0);
	p = take(&d, BLOCK); /* the same place, or another: nothing to read */
	for (unsigned i = 0; i < BLOCK; i++)
		assert_int_equal(p[i], 0);
	den_done(&d);
}

static void hundreds_live_side_by_side_and_places_are_used_again(void **state)
{
	enum { N = 300 };
	static struct den d[N];
	uint8_t *p[N], *lowest = NULL, *highest = NULL;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < N; i++) {
			d[i].cap = i % 2 ? CAP : 4096;
			p[i] = take(&d[i], BLOCK);
			fill(p[i], BLOCK, i + round);
			if (round == 0 && (!lowest || p[i] < lowest))
				lowest = p[i];
			if (round == 0 && p[i] > highest)
				highest = p[i];
			assert_true(!HAS_PAGES || (p[i] >= lowest && p[i] <= highest));
			if (i % 3)
				den_sleep(&d[i]);
		}
		for (unsigned i = 0; i < N; i++) {
			den_wake(&d[i]);
			assert_filled(p[i], BLOCK, i + round);
		}
		for (unsigned i = 0; i < N; i++)
			den_done(&d[(i * 7) % N]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_apart_zeroed_and_aligned),
		cmocka_unit_test(a_den_that_nobody_used_has_nothing),
		cmocka_unit_test(after_sleep_every_byte_is_where_it_was),
		cmocka_unit_test(a_full_den_and_one_of_zeros_come_back_too),
		cmocka_unit_test(who_sleeps_has_no_pages_and_little_on_the_heap),
		cmocka_unit_test(untouched_pages_cost_nothing_awake_either),
		cmocka_unit_test(one_that_goes_in_its_sleep_leaves_nothing),
		cmocka_unit_test(hundreds_live_side_by_side_and_places_are_used_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
