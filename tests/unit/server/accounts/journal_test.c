/* The usage journal: what is read again of whole and of damaged files. */
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "server/accounts/journal.h"

enum { RECORDS = 10, LEN = RECORDS * JOURNAL_RECORD_LEN, MANY = 3000 };

static char dir[256];
static struct journal *j;

static int fresh(void **state)
{
	static unsigned n;
	char name[16], error[STATE_ERROR_LEN];

	(void)state;
	snprintf(name, sizeof name, "state%u", n++);
	snprintf(dir, sizeof dir, "%s", file_path(name));
	j = state_ensure(dir, error) < 0 ? NULL : journal_new(dir);
	return 0;
}

static int done(void **state)
{
	(void)state;
	journal_free(j);
	return 0;
}

static struct usage_total total_of(uint64_t i)
{
	return (struct usage_total){ .row = (int64_t)(i * 77 + 1),
		                     .month = 202611,
		                     .usage = { i << 40 | 5, i + 1, UINT64_MAX - i, i } };
}

static bool total_eq(const struct usage_total *a, const struct usage_total *b)
{
	return a->row == b->row && a->month == b->month && usage_eq(&a->usage, &b->usage);
}

static void write_some(unsigned first, unsigned n)
{
	assert_non_null(j);
	for (unsigned i = first; i < first + n; i++) {
		struct usage_total t = total_of(i);
		journal_put(j, &t);
	}
	assert_int_equal(journal_sync(j), 0);
}

/* The records 0, 1, ... in their order. */
struct expected {
	unsigned n;
	int rc;
};

static int take(void *owner, const struct usage_total *totals, size_t n)
{
	struct expected *e = owner;

	for (size_t i = 0; i < n; i++) {
		struct usage_total t = total_of(e->n++);
		assert_true(total_eq(&totals[i], &t));
	}
	return e->rc;
}

static struct journal_replayed read_back(uint32_t number, unsigned n)
{
	struct journal_file f = { .boot = journal_boot(j), .number = number };
	struct journal_replayed r = { 0 };
	struct expected e = { 0 };

	assert_int_equal(journal_replay(dir, &f, take, &e, &r), 0);
	assert_int_equal(r.records, n);
	assert_int_equal(e.n, n);
	return r;
}

static void what_was_written_is_read_again(void **state)
{
	(void)state;
	write_some(0, 1);
	write_some(1, MANY);
	assert_int_equal(read_back(1, MANY + 1).dropped, 0);
	assert_int_equal(journal_len(j), (MANY + 1) * JOURNAL_RECORD_LEN);
}

static void nothing_is_made_before_something_is_written(void **state)
{
	struct stat st;

	(void)state;
	assert_non_null(j);
	assert_int_equal(journal_sync(j), 0);
	assert_true(stat(journal_path(j), &st) < 0);
	write_some(0, 1);
	assert_int_equal(stat(journal_path(j), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void boots_are_of_63_bits_and_differ(void **state)
{
	struct journal *other = journal_new(dir);

	(void)state;
	assert_non_null(j);
	assert_non_null(other);
	assert_true(journal_boot(j) > 0 && journal_boot(other) > 0);
	assert_true(journal_boot(j) != journal_boot(other));
	journal_free(other);
}

static void write_file(const uint8_t *bytes, size_t len)
{
	FILE *f = fopen(journal_path(j), "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
}

static void bytes_of(uint8_t out[static LEN])
{
	write_some(0, RECORDS);
	FILE *f = fopen(journal_path(j), "rb");
	assert_non_null(f);
	assert_int_equal(fread(out, 1, LEN, f), LEN);
	fclose(f);
}

static void F25_a_torn_tail_is_dropped_and_counted(void **state)
{
	uint8_t bytes[LEN];

	(void)state;
	bytes_of(bytes);
	for (size_t len = 0; len <= LEN; len++) {
		write_file(bytes, len);
		assert_int_equal(read_back(1, (unsigned)(len / JOURNAL_RECORD_LEN)).dropped,
		                 len % JOURNAL_RECORD_LEN);
	}
}

static void F25_a_flipped_bit_ends_the_reading(void **state)
{
	uint8_t bytes[LEN];

	(void)state;
	bytes_of(bytes);
	for (size_t bit = 0; bit < 8 * LEN; bit += 3) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		write_file(bytes, LEN);
		size_t whole = bit / 8 / JOURNAL_RECORD_LEN;
		assert_int_equal(read_back(1, (unsigned)whole).dropped,
		                 LEN - whole * JOURNAL_RECORD_LEN);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

/* A power cut may leave the length of a file and none of its blocks. */
static void F25_blocks_of_zeros_and_garbage_are_dropped(void **state)
{
	uint8_t bytes[LEN];

	(void)state;
	bytes_of(bytes);
	memset(bytes + 4 * JOURNAL_RECORD_LEN, 0, LEN - 4 * JOURNAL_RECORD_LEN);
	write_file(bytes, LEN);
	assert_int_equal(read_back(1, 4).dropped, 6 * JOURNAL_RECORD_LEN);
	crypto_random(bytes, LEN);
	write_file(bytes, LEN);
	assert_int_equal(read_back(1, 0).dropped, LEN);
}

/* Nor a block of an older file that shows up in it: its CRC is of another place. */
static void a_record_is_one_only_where_it_was_written(void **state)
{
	uint8_t bytes[LEN];

	(void)state;
	bytes_of(bytes);
	memmove(bytes, bytes + JOURNAL_RECORD_LEN, LEN - JOURNAL_RECORD_LEN);
	write_file(bytes, LEN);
	read_back(1, 0);
	journal_rotate(j);
	write_some(0, 3);
	write_file(bytes, LEN);
	read_back(2, 0);
}

static void files_before_the_one_that_is_written_can_be_dropped(void **state)
{
	struct stat st;
	char first[JOURNAL_PATH_LEN], second[JOURNAL_PATH_LEN];

	(void)state;
	write_some(0, 2);
	snprintf(first, sizeof first, "%s", journal_path(j));
	journal_rotate(j);
	write_some(0, 1);
	snprintf(second, sizeof second, "%s", journal_path(j));
	assert_string_not_equal(first, second);
	read_back(1, 2);
	assert_int_equal(journal_drop_old(j), 0);
	assert_true(stat(first, &st) < 0);
	read_back(2, 1);
	journal_rotate(j);
	assert_int_equal(journal_drop_old(j), 0);
	assert_true(stat(second, &st) < 0);
}

static void count_file(void *owner, const struct journal_file *f)
{
	int64_t *boot = owner;

	assert_int_equal(f->boot, *boot);
	assert_int_equal(f->number, 1);
	(*boot) = -1; /* once */
}

static void only_journals_of_other_boots_are_old(void **state)
{
	char path[512];
	int64_t boot, none = 0;

	(void)state;
	assert_non_null(j);
	boot = journal_boot(j);
	assert_int_equal(journal_each_old(dir, 0, count_file, &none), 0); /* no directory */
	write_some(0, 1);
	static const char *const others[] = { "a.journal",
		                              "0000000000000001-0000001.journal",
		                              "000000000000000g-00000001.journal",
		                              "0000000000000001-00000001.journal~",
		                              "0000000000000000-00000001.journal",
		                              "8000000000000001-00000001.journal" };
	for (unsigned i = 0; i < sizeof others / sizeof *others; i++) {
		snprintf(path, sizeof path, "%s/usage/%s", dir, others[i]);
		FILE *f = fopen(path, "w");
		assert_non_null(f);
		fclose(f);
	}
	assert_int_equal(journal_each_old(dir, boot, count_file, &none), 0);
	assert_int_equal(journal_each_old(dir, 1, count_file, &boot), 0);
	assert_int_equal(boot, -1);
}

static void who_takes_may_end_it(void **state)
{
	struct journal_file f;
	struct journal_replayed r;
	struct expected e = { .rc = ERR_CLOSED };

	(void)state;
	write_some(0, MANY);
	f = (struct journal_file){ journal_boot(j), 1 };
	assert_int_equal(journal_replay(dir, &f, take, &e, &r), ERR_CLOSED);
	assert_true(e.n < MANY);
	f.number = 7;
	assert_true(journal_replay(dir, &f, take, &e, &r) < 0);
}

static void months_end_when_they_do(void **state)
{
	(void)state;
	assert_int_equal(usage_month_of(0), 197001);
	assert_int_equal(usage_month_of(-1), 197001);
	assert_int_equal(usage_month_of(1709251199999), 202402); /* 29 February, 23:59:59.999 */
	assert_int_equal(usage_month_of(1709251200000), 202403);
	assert_int_equal(usage_month_end(202402), 1709251200);
	for (uint32_t year = 1970; year < 2100; year++)
		for (uint32_t m = 1; m <= 12; m++) {
			int64_t end = usage_month_end(year * 100 + m);
			assert_int_equal(usage_month_of(1000 * end - 1), year * 100 + m);
			assert_int_equal(usage_month_of(1000 * end),
			                 m < 12 ? year * 100 + m + 1 : (year + 1) * 100 + 1);
		}
}

#define T(name) cmocka_unit_test_setup_teardown(name, fresh, done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_written_is_read_again),
		T(nothing_is_made_before_something_is_written),
		T(boots_are_of_63_bits_and_differ),
		T(F25_a_torn_tail_is_dropped_and_counted),
		T(F25_a_flipped_bit_ends_the_reading),
		T(F25_blocks_of_zeros_and_garbage_are_dropped),
		T(a_record_is_one_only_where_it_was_written),
		T(files_before_the_one_that_is_written_can_be_dropped),
		T(only_journals_of_other_boots_are_old),
		T(who_takes_may_end_it),
		T(months_end_when_they_do),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
