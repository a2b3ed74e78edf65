#include "tests/unit/said.h"

#include <malloc.h>
#include <stdio.h>

#include "common/base/heap.h"

enum { N = 64 << 10, SIZE = 1 << 10, PAGES_EACH = 64 };

static size_t resident_kb(void)
{
	size_t kb = 0;
	char line[200];
	FILE *f = fopen("/proc/self/status", "r");

	assert_non_null(f);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "VmRSS: %zu", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

/* What a sanitizer's allocator does is its own affair. */
static bool is_glibc(void)
{
	size_t before = mallinfo2().uordblks;
	void *volatile p = malloc(100000);
	bool counted = mallinfo2().uordblks >= before + 100000;

	free(p);
	return counted;
}

static void what_a_crowd_left_between_living_blocks_is_given_back(void **state)
{
	size_t before, full;

	(void)state;
	if (!is_glibc())
		skip();
	void **block = calloc(N, sizeof *block);
	assert_non_null(block);
	before = heap_in_use();
	assert_false(heap_trim());
	for (unsigned i = 0; i < N; i++) {
		block[i] = malloc(SIZE);
		assert_non_null(block[i]);
		memset(block[i], 1, SIZE);
	}
	assert_true(heap_in_use() >= before + (size_t)N * SIZE);
	assert_false(heap_trim());
	full = resident_kb();
	for (unsigned i = 0; i < N; i++)
		if (i % PAGES_EACH && i != N - 1)
			free(block[i]);
	assert_true(resident_kb() + N / 4 > full); /* of itself the allocator keeps it */
	assert_true(heap_trim());
	assert_true(resident_kb() + N / 2 < full);
	assert_false(heap_trim()); /* the allocator still counts it as free: not again and again */
	for (unsigned i = 0; i < N; i += PAGES_EACH)
		free(block[i]);
	free(block[N - 1]);
	assert_true(heap_in_use() < before + PAGES_EACH * SIZE); /* some are kept for the thread */
	free(block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_crowd_left_between_living_blocks_is_given_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
