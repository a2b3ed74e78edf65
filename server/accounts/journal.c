#include "server/accounts/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crypto.h"

enum { BATCH = 1024 }; /* records that are written at once */

struct journal {
	char state_dir[STATE_DIR_MAX + 1];
	char path[JOURNAL_PATH_LEN];
	struct journal_file file;
	uint32_t oldest; /* number of the first file that was not deleted */
	int fd;          /* negative: the file is still to be made */
	uint64_t end;    /* of what is on the disk */
	uint64_t at;     /* of what was handed to the kernel since */
	int failed;      /* since the last sync */
	size_t n_batch;
	uint8_t batch[BATCH * JOURNAL_RECORD_LEN];
};

static void name_file(struct journal *j, uint32_t number)
{
	j->file.number = number;
	journal_path_of(j->state_dir, &j->file, j->path);
}

struct journal *journal_new(const char *state_dir)
{
	struct journal *j = strlen(state_dir) <= STATE_DIR_MAX ? malloc(sizeof *j) : NULL;

	if (!j)
		return NULL;
	memset(j, 0, offsetof(struct journal, batch));
	j->fd = -1;
	snprintf(j->state_dir, sizeof j->state_dir, "%s", state_dir);
	while (j->file.boot == 0) { /* 0 is what many boots became */
		crypto_random(&j->file.boot, sizeof j->file.boot);
		j->file.boot &= INT64_MAX;
	}
	j->oldest = 1;
	name_file(j, 1);
	return j;
}

void journal_free(struct journal *j)
{
	if (j && j->fd >= 0)
		close(j->fd);
	free(j);
}

int64_t journal_boot(const struct journal *j) { return j->file.boot; }
const char *journal_path(const struct journal *j) { return j->path; }
uint64_t journal_len(const struct journal *j) { return j->end; }

static int make_dir(const struct journal *j)
{
	char dir[JOURNAL_PATH_LEN];

	snprintf(dir, sizeof dir, "%s/usage", j->state_dir);
	if (mkdir(dir, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	int fd = open(j->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

static int make_file(struct journal *j)
{
	int rc = make_dir(j);

	if (rc < 0)
		return rc;
	j->fd = open(j->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (j->fd < 0)
		return -errno;
	rc = journal_sync_dir(j->state_dir);
	if (rc < 0) {
		unlink(j->path);
		close(j->fd);
		j->fd = -1;
	}
	return rc;
}

static void next_file(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
	j->end = j->at = 0;
	name_file(j, j->file.number + 1);
}

/* A full disk has room again some day, and the place of what failed is written over. On
 * anything else the descriptor may never work again, and what the kernel says of its pages is
 * not to be relied on. */
static void on_failure(struct journal *j, int rc)
{
	j->at = j->end;
	j->n_batch = 0;
	if (rc == -ENOSPC || rc == -EDQUOT || (j->fd < 0 && rc != -EEXIST))
		return;
	if (j->fd >= 0 && j->end == 0)
		unlink(j->path); /* else one file a second would be left behind */
	next_file(j);
}

static int write_batch(struct journal *j)
{
	const uint8_t *p = j->batch;
	size_t left = j->n_batch * JOURNAL_RECORD_LEN;

	while (left) {
		ssize_t n = pwrite(j->fd, p, left, (off_t)j->at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		left -= (size_t)n;
		j->at += (uint64_t)n;
	}
	j->n_batch = 0;
	return 0;
}

static void flush(struct journal *j)
{
	if (j->fd < 0)
		j->failed = make_file(j);
	if (j->failed == 0)
		j->failed = write_batch(j);
}

void journal_put(struct journal *j, const struct usage_total *t)
{
	if (j->failed == 0 && j->n_batch == BATCH)
		flush(j);
	if (j->failed < 0)
		return;
	size_t before = j->n_batch * JOURNAL_RECORD_LEN;
	journal_encode(&j->file, j->at + before, t, j->batch + before);
	j->n_batch++;
}

int journal_sync(struct journal *j)
{
	int rc;

	if (j->failed == 0 && j->n_batch)
		flush(j);
	if (j->failed == 0 && j->at > j->end && fdatasync(j->fd) < 0)
		j->failed = -errno;
	rc = j->failed;
	j->failed = 0;
	if (rc < 0)
		on_failure(j, rc);
	j->end = j->at;
	return rc;
}

void journal_rotate(struct journal *j)
{
	if (j->fd >= 0)
		next_file(j);
}

int journal_drop_old(struct journal *j)
{
	struct journal_file old = j->file;
	int rc = 0;

	if (j->oldest == j->file.number)
		return 0;
	for (old.number = j->oldest; rc == 0 && old.number < j->file.number; old.number++)
		rc = journal_delete(j->state_dir, &old);
	if (rc == 0)
		rc = journal_sync_dir(j->state_dir);
	if (rc == 0)
		j->oldest = j->file.number;
	return rc;
}
