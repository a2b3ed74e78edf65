/* The reader of usage journals. The first byte, bit 0: CRCs are made right, which no mutation
 * finds; bits 1 and 2: of another boot, at another place. What is read is written as the
 * same bytes, ends at the first wrong record, and is none elsewhere. */
#include <stdlib.h>
#include <string.h>

#include "common/base/crc.h"
#include "server/accounts/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { RECORDS_MAX = 64, LEN_MAX = 1 + 70 * JOURNAL_RECORD_LEN };

static void need(int truth)
{
	if (!truth)
		abort();
}

static void put_le(uint8_t *p, uint64_t v, unsigned n)
{
	while (n--) {
		*p++ = (uint8_t)v;
		v >>= 8;
	}
}

/* As the header says, once more. */
static void make_right(const struct journal_file *f, uint64_t at, uint8_t *record)
{
	uint8_t all[20 + JOURNAL_RECORD_LEN - 4];

	put_le(all, (uint64_t)f->boot, 8);
	put_le(all + 8, f->number, 4);
	put_le(all + 12, at, 8);
	memcpy(all + 20, record, 4);
	memcpy(all + 24, record + 8, JOURNAL_RECORD_LEN - 8);
	put_le(record + 4, crc_32(0, all, sizeof all), 4);
}

static void read_one_less(const struct journal_file *f, uint64_t at, const uint8_t *p, size_t len,
                          size_t n)
{
	struct usage_total again[RECORDS_MAX];
	struct journal_file other = *f;

	if (n == 0)
		return;
	need(journal_parse(f, at, p, n * JOURNAL_RECORD_LEN - 1, again, RECORDS_MAX) == n - 1);
	need(journal_parse(f, at, p, len, again, n - 1) == n - 1);
	other.number ^= 1;
	need(journal_parse(&other, at, p, len, again, RECORDS_MAX) == 0);
	need(journal_parse(f, at + JOURNAL_RECORD_LEN, p, len, again, RECORDS_MAX) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1 || len > LEN_MAX)
		return 0;
	struct journal_file f = { .boot = data[0] & 2 ? INT64_MAX : 1, .number = 3 };
	uint64_t at = data[0] & 4 ? 1u << 20 : 0;
	size_t n_whole = (len - 1) / JOURNAL_RECORD_LEN, n;
	struct usage_total totals[RECORDS_MAX];
	uint8_t *p = malloc(len - 1 ? len - 1 : 1); /* of its length, for the sanitizer */

	if (!p)
		return 0;
	memcpy(p, data + 1, len - 1);
	for (size_t i = 0; data[0] & 1 && i < n_whole; i++)
		make_right(&f, at + i * JOURNAL_RECORD_LEN, p + i * JOURNAL_RECORD_LEN);
	n = journal_parse(&f, at, p, len - 1, totals, RECORDS_MAX);
	need(n <= n_whole);
	for (size_t i = 0; i < n; i++) {
		uint8_t record[JOURNAL_RECORD_LEN];
		journal_encode(&f, at + i * JOURNAL_RECORD_LEN, &totals[i], record);
		need(memcmp(record, p + i * JOURNAL_RECORD_LEN, sizeof record) == 0);
	}
	read_one_less(&f, at, p, len - 1, n);
	free(p);
	return 0;
}
