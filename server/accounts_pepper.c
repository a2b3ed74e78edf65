#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "server/accounts_impl.h"

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
