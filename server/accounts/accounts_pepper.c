#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "server/accounts/accounts_impl.h"

static int read_pepper(const char *path, uint8_t pepper_out[static TOKEN_PEPPER_LEN],
                       char error_out[static ACCOUNTS_ERROR_LEN])
{
	uint8_t bytes[TOKEN_PEPPER_LEN + 1] = { 0 };
	struct stat st = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return ERR_NOT_FOUND;
	ssize_t n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, bytes, sizeof bytes);
	if (n < 0)
		accounts_say(-EIO, error_out, "cannot read %s: %s", path, strerror(errno));
	else if (n != TOKEN_PEPPER_LEN)
		accounts_say(-EIO, error_out, "%s has not %d bytes: restore it from a backup", path,
		             TOKEN_PEPPER_LEN);
	else if (st.st_mode & 077)
		accounts_say(-EIO, error_out, "others may read %s: chmod 600 it", path);
	else
		memcpy(pepper_out, bytes, TOKEN_PEPPER_LEN);
	if (fd >= 0)
		close(fd);
	crypto_wipe(bytes, sizeof bytes);
	return n == TOKEN_PEPPER_LEN && !(st.st_mode & 077) ? 0 : -EIO;
}

static bool write_pepper(int fd)
{
	uint8_t pepper[TOKEN_PEPPER_LEN];

	crypto_random(pepper, sizeof pepper);
	bool ok = write(fd, pepper, sizeof pepper) == sizeof pepper && fsync(fd) == 0;
	crypto_wipe(pepper, sizeof pepper);
	return ok;
}

/* Two processes may start at once: the file appears whole, by link(2). */
static int make_pepper(const char *path, char error_out[static ACCOUNTS_ERROR_LEN])
{
	char tmp[ACCOUNTS_PATH_LEN + 8];

	snprintf(tmp, sizeof tmp, "%s.XXXXXX", path);
	int fd = mkostemp(tmp, O_CLOEXEC);
	bool ok = fd >= 0 && write_pepper(fd) && (link(tmp, path) == 0 || errno == EEXIST);
	if (!ok)
		accounts_say(-EIO, error_out, "cannot write %s: %s", path, strerror(errno));
	if (fd >= 0) {
		close(fd);
		unlink(tmp);
	}
	return ok ? 0 : -EIO;
}

int accounts_load_pepper(const char *state_dir, const char *db_path,
                         uint8_t pepper_out[static TOKEN_PEPPER_LEN],
                         char error_out[static ACCOUNTS_ERROR_LEN])
{
	char path[ACCOUNTS_PATH_LEN];

	snprintf(path, sizeof path, "%s/pepper", state_dir);
	int rc = read_pepper(path, pepper_out, error_out);
	if (rc != ERR_NOT_FOUND)
		return rc;
	bool had_db = access(db_path, F_OK) == 0;
	rc = read_pepper(path, pepper_out, error_out); /* somebody may have made both meanwhile */
	if (rc == ERR_NOT_FOUND && had_db)
		return accounts_say(
		                -EIO, error_out,
		                "%s is missing, and no token in %s works without it: restore it "
		                "from a backup, or remove the database to start anew",
		                path, db_path);
	if (rc == ERR_NOT_FOUND)
		rc = make_pepper(path, error_out);
	return rc < 0 ? rc : read_pepper(path, pepper_out, error_out);
}

/* ---- is it the right one? ---- */

static int keep_mark(struct accounts *a, const uint8_t mark[static TOKEN_HASH_LEN],
                     char error_out[static ACCOUNTS_ERROR_LEN])
{
	sqlite3_stmt *st = accounts_prepare(a,
	                                    "INSERT INTO pepper SELECT ?1 "
	                                    "WHERE NOT EXISTS (SELECT 1 FROM pepper)",
	                                    error_out);

	sqlite3_bind_blob(st, 1, mark, TOKEN_HASH_LEN, SQLITE_STATIC);
	return accounts_run(a, st, error_out);
}

static int compare_mark(struct accounts *a, sqlite3_stmt *st,
                        const uint8_t mark[static TOKEN_HASH_LEN],
                        char error_out[static ACCOUNTS_ERROR_LEN])
{
	if (sqlite3_column_bytes(st, 0) == TOKEN_HASH_LEN &&
	    crypto_same(sqlite3_column_blob(st, 0), mark, TOKEN_HASH_LEN))
		return 0;
	return accounts_say(
	                -EIO, error_out,
	                "the pepper beside %s is not the one that its tokens were made with, and "
	                "none of them would work: restore both from the same backup",
	                a->db_path);
}

int accounts_check_pepper(struct accounts *a, char error_out[static ACCOUNTS_ERROR_LEN])
{
	uint8_t mark[TOKEN_HASH_LEN];
	sqlite3_stmt *st = accounts_prepare(a, "SELECT mark FROM pepper", error_out);

	if (!st)
		return -EIO;
	token_hash(a->pepper, STR("tunn/v1/pepper"), mark); /* says nothing of it, or of a token */
	int rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		rc = compare_mark(a, st, mark, error_out);
	else if (rc == SQLITE_DONE)
		rc = keep_mark(a, mark, error_out);
	else
		rc = accounts_say_db(a, error_out);
	sqlite3_finalize(st);
	return rc;
}
