#include "tests/unit/said.h"

#include "common/base/buf.h"
#include "common/base/heap.h"

static void what_is_added_comes_out_in_order(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_int_equal(buf_add(&b, "hello", 5), 0);
	assert_int_equal(buf_add(&b, " you", 4), 0);
	assert_int_equal(buf_len(&b), 9);
	assert_memory_equal(buf_data(&b), "hello you", 9);
	buf_eat(&b, 6);
	assert_int_equal(buf_len(&b), 3);
	assert_memory_equal(buf_data(&b), "you", 3);
	buf_done(&b);
	assert_int_equal(buf_len(&b), 0);
}

static void what_is_cut_off_at_the_end_is_forgotten(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_int_equal(buf_add(&b, "abcdef", 6), 0);
	buf_eat(&b, 1);
	buf_cut(&b, 3);
	assert_int_equal(buf_add(&b, "x", 1), 0);
	assert_int_equal(buf_len(&b), 4);
	assert_memory_equal(buf_data(&b), "bcdx", 4);
	buf_cut(&b, 0);
	assert_int_equal(buf_len(&b), 0);
	buf_done(&b);
}

static void adding_nothing_needs_no_memory(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_int_equal(buf_add(&b, NULL, 0), 0);
	assert_null(b.base);
	buf_clear(&b);
	buf_done(&b);
}

static void room_may_be_used_in_part(void **state)
{
	struct buf b = { 0 };
	uint8_t *p = buf_room(&b, 100);

	(void)state;
	assert_non_null(p);
	memcpy(p, "abc", 3);
	buf_added(&b, 3);
	assert_int_equal(buf_len(&b), 3);
	assert_memory_equal(buf_data(&b), "abc", 3);
	buf_done(&b);
}

/* Beside a model: a plain array with two indexes. */
static void content_survives_any_mix_of_adding_and_eating(void **state)
{
	static uint8_t model[1 << 20];
	size_t in = 0, out = 0;
	struct buf b = { 0 };
	unsigned seed = 7;

	(void)state;
	for (size_t i = 0; i < sizeof model; i++)
		model[i] = (uint8_t)(i * 31 + i / 251);
	while (in < sizeof model) {
		size_t n = (size_t)rand_r(&seed) % 3000;
		if (n > sizeof model - in)
			n = sizeof model - in;
		assert_int_equal(buf_add(&b, model + in, n), 0);
		in += n;
		size_t eat = (size_t)rand_r(&seed) % (buf_len(&b) + 1);
		assert_memory_equal(buf_data(&b), model + out, buf_len(&b));
		buf_eat(&b, eat);
		out += eat;
		assert_int_equal(buf_len(&b), in - out);
	}
	buf_done(&b);
}

static void a_large_buffer_is_given_back_when_cleared(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_non_null(buf_room(&b, 100000));
	buf_added(&b, 100000);
	buf_clear(&b);
	assert_null(b.base);
	assert_int_equal(buf_add(&b, "x", 1), 0);
	buf_clear(&b);
	assert_non_null(b.base); /* small: kept for the next use */
	buf_done(&b);
}

/* ThreadSanitizer's allocator does not tell. */
static void need_heap_in_use(void)
{
	void *block = malloc(100);
	bool told = heap_in_use() > 0;

	free(block);
	if (!told)
		skip();
}

static void memory_of_a_large_buffer_serves_the_next_one(void **state)
{
	struct buf a = { 0 }, b = { 0 };

	(void)state;
	need_heap_in_use();
	assert_non_null(buf_room(&a, 20000));
	const uint8_t *first = a.base;
	size_t before = heap_in_use();
	buf_clear(&a);
	assert_ptr_equal(buf_room(&b, 20000), first);
	assert_int_equal(heap_in_use(), before);
	buf_done(&b);
	assert_int_equal(heap_in_use(), before);
	buf_pool_drain();
	assert_true(heap_in_use() < before);
}

static void what_the_pool_keeps_is_bounded(void **state)
{
	enum { BUFS = 100, ROOM = 60000 };
	static struct buf bufs[BUFS];
	size_t before = heap_in_use();

	(void)state;
	need_heap_in_use();
	for (unsigned i = 0; i < BUFS; i++)
		assert_non_null(buf_room(&bufs[i], ROOM));
	for (unsigned i = 0; i < BUFS; i++)
		buf_done(&bufs[i]);
	assert_in_range(heap_in_use() - before, 500000, 1100000);
	buf_pool_drain();
	assert_int_equal(heap_in_use(), before);
}

static void eating_in_steps_does_not_grow_memory(void **state)
{
	struct buf b = { 0 };
	uint8_t block[1000] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		assert_int_equal(buf_add(&b, block, sizeof block), 0);
		if (i)
			buf_eat(&b, sizeof block);
	}
	assert_true(b.cap <= 8192);
	buf_done(&b);
}

static void room_in_front_lasts_while_the_content_grows(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_false(buf_prepend(&b, "x", 1)); /* nobody asked for it */
	buf_indent(&b, 9);
	assert_int_equal(buf_len(&b), 0);
	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(buf_add(&b, &(uint8_t){ (uint8_t)i }, 1), 0);
	buf_indent(&b, 3); /* too late, and harmless */
	assert_true(buf_prepend(&b, "123456789", 9));
	assert_false(buf_prepend(&b, "0", 1));
	assert_int_equal(buf_len(&b), 20009);
	assert_memory_equal(buf_data(&b), "123456789", 9);
	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(buf_data(&b)[9 + i], (uint8_t)i);
	buf_done(&b);
}

static void wiped_buf_is_empty_and_leaves_nothing_to_read(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_wipe(&b);
	assert_int_equal(buf_add(&b, "a secret of some length", 23), 0);
	buf_eat(&b, 9);
	buf_wipe(&b);
	assert_int_equal(buf_len(&b), 0);
	for (size_t i = 0; i < b.cap; i++)
		assert_int_equal(b.base[i], 0);
	assert_true(b.cap >= 23);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(room_in_front_lasts_while_the_content_grows),
		cmocka_unit_test(wiped_buf_is_empty_and_leaves_nothing_to_read),
		cmocka_unit_test(what_is_added_comes_out_in_order),
		cmocka_unit_test(what_is_cut_off_at_the_end_is_forgotten),
		cmocka_unit_test(adding_nothing_needs_no_memory),
		cmocka_unit_test(room_may_be_used_in_part),
		cmocka_unit_test(content_survives_any_mix_of_adding_and_eating),
		cmocka_unit_test(a_large_buffer_is_given_back_when_cleared),
		cmocka_unit_test(memory_of_a_large_buffer_serves_the_next_one),
		cmocka_unit_test(what_the_pool_keeps_is_bounded),
		cmocka_unit_test(eating_in_steps_does_not_grow_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
