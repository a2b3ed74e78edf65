/*
 * The usage journal: files STATE/usage/<boot>-<number>.journal, to which a server appends
 * totals each second and which the next one reads when the first did not get to put
 * them into the database. A boot is one run of a server: 63 random bits.
 *
 * A record is little-endian: length of what follows the head (2 bytes), version (2), CRC-32
 * (4); account row (8), month (4), bytes sent and received, datagrams sent and received (8 each).
 * The CRC is over boot, number of the file and place in it too: an old block that a file
 * system shows after a power cut is no record here. Records are of one length.
 *
 * Accounts thread; blocks on the disk. Errors are -errno.
 */
#ifndef TUNN_SERVER_JOURNAL_H
#define TUNN_SERVER_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "server/state.h"
#include "server/accounts/usage.h"

struct journal;

struct journal_file { /* which one */
	int64_t boot;
	uint32_t number;
};

enum {
	JOURNAL_RECORD_LEN = 52,
	JOURNAL_FILE_MAX = 16 << 20, /* bytes; then another one begins */
	JOURNAL_PATH_LEN = STATE_DIR_MAX + 48,
};

/* ---- writing ---- */

/* Of a new boot. Touches no file before something is written. NULL: out of memory. */
struct journal *journal_new(const char *state_dir);
void journal_free(struct journal *); /* the files stay; NULL allowed */
int64_t journal_boot(const struct journal *);
const char *journal_path(const struct journal *); /* of the file that is written now */
uint64_t journal_len(const struct journal *);     /* of it, in bytes */
/* Appends; errors show at journal_sync(), which writes and has it on the disk. After one
 * nothing since the last sync counts as written: put it again. A file behaves as
 * if what failed had not been tried; after other errors than a full disk another file begins. */
void journal_put(struct journal *, const struct usage_total *);
int journal_sync(struct journal *);
/* What is put next begins another file. */
void journal_rotate(struct journal *);
/* Deletes the files of this boot before the one that is written, or to be begun. */
int journal_drop_old(struct journal *);

/* ---- reading (journal_read.c) ---- */

/* The totals at the beginning of `bytes`, which stand at `at` in the file: up to cap of
 * them, until the first that is not whole and right. Returns how many. */
size_t journal_parse(const struct journal_file *, uint64_t at, const uint8_t *bytes, size_t len,
                     struct usage_total *totals_out, size_t cap);
void journal_encode(const struct journal_file *, uint64_t at, const struct usage_total *,
                    uint8_t record_out[static JOURNAL_RECORD_LEN]);

struct journal_replayed {
	uint64_t records;
	uint64_t dropped; /* bytes from the first damaged record to the end of the file */
};
/* All totals of a file to `take`, some at a time; its negative code ends it. */
int journal_replay(const char *state_dir, const struct journal_file *,
                   int (*take)(void *owner, const struct usage_total *, size_t n), void *owner,
                   struct journal_replayed *replayed_out);
/* Each file of other boots than this. on_file may delete it. 0 also when there is none. */
int journal_each_old(const char *state_dir, int64_t boot,
                     void (*on_file)(void *owner, const struct journal_file *), void *owner);
int journal_delete(const char *state_dir, const struct journal_file *);
/* What was deleted stays so, after a power cut too. */
int journal_sync_dir(const char *state_dir);
void journal_path_of(const char *state_dir, const struct journal_file *,
                     char path_out[static JOURNAL_PATH_LEN]);

#endif
