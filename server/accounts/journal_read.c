#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/bytes.h"
#include "common/base/crc.h"
#include "server/accounts/journal.h"

enum {
	HEAD_LEN = 8, /* length, version, CRC */
	BODY_LEN = JOURNAL_RECORD_LEN - HEAD_LEN,
	CRC_AT = 4,
	VERSION = 1,
	CHUNK = 512, /* records that are read at once */
	BOOT_DIGITS = 16,
	NUMBER_DIGITS = 8,
};
static const char suffix[] = ".journal";

/* ---- a record ---- */

static uint8_t *put(uint8_t *p, uint64_t v, unsigned n_bytes)
{
	for (unsigned i = 0; i < n_bytes; i++)
		*p++ = (uint8_t)(v >> 8 * i);
	return p;
}

static uint64_t get(const uint8_t **p, unsigned n_bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n_bytes; i++)
		v |= (uint64_t) * (*p)++ << 8 * i;
	return v;
}

static uint32_t crc_of(const struct journal_file *f, uint64_t at, const uint8_t *record)
{
	uint8_t place[8 + 4 + 8];
	uint32_t crc;

	put(put(put(place, (uint64_t)f->boot, 8), f->number, 4), at, 8);
	crc = crc_32(0, place, sizeof place);
	crc = crc_32(crc, record, CRC_AT);
	return crc_32(crc, record + HEAD_LEN, BODY_LEN);
}

void journal_encode(const struct journal_file *f, uint64_t at, const struct usage_total *t,
                    uint8_t record_out[static JOURNAL_RECORD_LEN])
{
	uint8_t *p = put(put(record_out, BODY_LEN, 2), VERSION, 2) + 4;

	p = put(put(p, (uint64_t)t->row, 8), t->month, 4);
	p = put(put(p, t->usage.sent, 8), t->usage.received, 8);
	put(put(p, t->usage.packets_sent, 8), t->usage.packets_received, 8);
	put(record_out + CRC_AT, crc_of(f, at, record_out), 4);
}

static bool decode(const struct journal_file *f, uint64_t at, const uint8_t *record,
                   struct usage_total *out)
{
	const uint8_t *p = record;

	if (get(&p, 2) != BODY_LEN || get(&p, 2) != VERSION || get(&p, 4) != crc_of(f, at, record))
		return false;
	out->row = (int64_t)get(&p, 8);
	out->month = (uint32_t)get(&p, 4);
	out->usage.sent = get(&p, 8);
	out->usage.received = get(&p, 8);
	out->usage.packets_sent = get(&p, 8);
	out->usage.packets_received = get(&p, 8);
	return true;
}

size_t journal_parse(const struct journal_file *f, uint64_t at, const uint8_t *bytes, size_t len,
                     struct usage_total *totals_out, size_t cap)
{
	size_t n = 0;

	while (n < cap && len - n * JOURNAL_RECORD_LEN >= JOURNAL_RECORD_LEN &&
	       decode(f, at + n * JOURNAL_RECORD_LEN, bytes + n * JOURNAL_RECORD_LEN,
	              &totals_out[n]))
		n++;
	return n;
}

/* ---- a file ---- */

void journal_path_of(const char *state_dir, const struct journal_file *f,
                     char path_out[static JOURNAL_PATH_LEN])
{
	snprintf(path_out, JOURNAL_PATH_LEN, "%.*s/usage/%0*llx-%0*x%s", STATE_DIR_MAX, state_dir,
	         BOOT_DIGITS, (unsigned long long)f->boot, NUMBER_DIGITS, f->number, suffix);
}

/* Bytes read: fewer than cap at the end of the file only. */
static ssize_t read_full(int fd, uint8_t *out, size_t cap)
{
	size_t n = 0;

	while (n < cap) {
		ssize_t got = read(fd, out + n, cap - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

static int replay_fd(int fd, const struct journal_file *f,
                     int (*take)(void *owner, const struct usage_total *, size_t n), void *owner,
                     uint64_t *records_out)
{
	uint8_t chunk[CHUNK * JOURNAL_RECORD_LEN];
	struct usage_total totals[CHUNK];
	uint64_t at = 0;
	size_t n;

	do {
		ssize_t len = read_full(fd, chunk, sizeof chunk);
		if (len < 0)
			return (int)len;
		n = journal_parse(f, at, chunk, (size_t)len, totals, CHUNK);
		int rc = n ? take(owner, totals, n) : 0;
		if (rc < 0)
			return rc;
		at += n * JOURNAL_RECORD_LEN;
	} while (n == CHUNK);
	*records_out = at / JOURNAL_RECORD_LEN;
	return 0;
}

int journal_replay(const char *state_dir, const struct journal_file *f,
                   int (*take)(void *owner, const struct usage_total *, size_t n), void *owner,
                   struct journal_replayed *replayed_out)
{
	char path[JOURNAL_PATH_LEN];
	struct stat st;
	uint64_t records = 0;

	journal_path_of(state_dir, f, path);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = fstat(fd, &st) < 0 ? -errno : replay_fd(fd, f, take, owner, &records);
	close(fd);
	if (rc < 0)
		return rc;
	*replayed_out = (struct journal_replayed){
		.records = records, .dropped = (uint64_t)st.st_size - records * JOURNAL_RECORD_LEN
	};
	return 0;
}

/* ---- the directory ---- */

static int open_dir(const char *state_dir)
{
	char dir[JOURNAL_PATH_LEN];

	snprintf(dir, sizeof dir, "%.*s/usage", STATE_DIR_MAX, state_dir);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Exactly what journal_path_of() writes. */
static bool is_journal(const char *name, struct journal_file *f_out)
{
	uint8_t b[BOOT_DIGITS / 2 + NUMBER_DIGITS / 2];
	struct str boot = { name, BOOT_DIGITS };
	struct str number = { name + BOOT_DIGITS + 1, NUMBER_DIGITS };
	uint64_t v = 0;

	if (strlen(name) != BOOT_DIGITS + 1 + NUMBER_DIGITS + sizeof suffix - 1 ||
	    name[BOOT_DIGITS] != '-' || strcmp(number.p + NUMBER_DIGITS, suffix) != 0 ||
	    hex_decode(boot, b, BOOT_DIGITS / 2) < 0 ||
	    hex_decode(number, b + BOOT_DIGITS / 2, NUMBER_DIGITS / 2) < 0)
		return false;
	f_out->number = 0;
	for (unsigned i = 0; i < BOOT_DIGITS / 2; i++)
		v = v << 8 | b[i];
	for (unsigned i = BOOT_DIGITS / 2; i < sizeof b; i++)
		f_out->number = f_out->number << 8 | b[i];
	f_out->boot = (int64_t)v;
	return f_out->boot > 0;
}

int journal_each_old(const char *state_dir, int64_t boot,
                     void (*on_file)(void *owner, const struct journal_file *), void *owner)
{
	int fd = open_dir(state_dir);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct journal_file f;
	const struct dirent *e;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((e = readdir(d)))
		if (is_journal(e->d_name, &f) && f.boot != boot)
			on_file(owner, &f);
	closedir(d);
	return 0;
}

int journal_delete(const char *state_dir, const struct journal_file *f)
{
	char path[JOURNAL_PATH_LEN];

	journal_path_of(state_dir, f, path);
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int journal_sync_dir(const char *state_dir)
{
	int fd = open_dir(state_dir), rc;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc;
}
