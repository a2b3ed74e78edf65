#include "server/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/process.h"

enum { PATH_LEN = STATE_DIR_MAX + 32, LOCK_WAIT_MS = 300, LOCK_PAUSE_MS = 20 };

const char *state_default_dir(void)
{
	static char path[PATH_LEN];
	const char *dir = getenv("STATE_DIRECTORY"), *home = getenv("HOME");

	if (dir && *dir) { /* systemd.exec(5): several are separated by colons */
		snprintf(path, sizeof path, "%.*s", (int)strcspn(dir, ":"), dir);
		return path;
	}
	if (geteuid() == 0)
		return "/var/lib/tunn";
	dir = getenv("XDG_STATE_HOME");
	if (dir && *dir)
		snprintf(path, sizeof path, "%s/tunn", dir);
	else
		snprintf(path, sizeof path, "%s/.local/state/tunn", home ? home : ".");
	return path;
}

static int check_dir(const char *dir)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (st.st_mode & S_IWOTH)
		return -EPERM;
	return access(dir, R_OK | W_OK | X_OK) < 0 ? -errno : 0;
}

int state_ensure(const char *dir, char error_out[static STATE_ERROR_LEN])
{
	int rc = strlen(dir) <= STATE_DIR_MAX ? file_make_dir(dir) : -ENAMETOOLONG;

	if (rc == 0)
		rc = check_dir(dir);
	if (rc == -EPERM)
		snprintf(error_out, STATE_ERROR_LEN,
		         "everybody may write to the state directory \"%.400s\", so what is in it could "
		         "be anybody's: chmod o-w it, or give another with --state DIR",
		         dir);
	else if (rc < 0)
		snprintf(error_out, STATE_ERROR_LEN,
		         "cannot use the state directory \"%.400s\": %s; give another with --state DIR",
		         dir, strerror(-rc));
	return rc;
}

static int give_files(int dir_fd, uid_t uid, gid_t gid);

/* The one directory in it, of the journals. */
static int give_usage(int dir_fd, uid_t uid, gid_t gid)
{
	int fd = openat(dir_fd, "usage", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : give_files(fd, uid, gid);
}

/* The names are root's own: nobody else could have put a link among them. Takes dir_fd. */
static int give_files(int dir_fd, uid_t uid, gid_t gid)
{
	DIR *d = fdopendir(dir_fd);
	const struct dirent *e;
	struct stat st;
	int rc = d ? 0 : -errno;

	while (rc == 0 && (e = readdir(d))) {
		if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode) && strcmp(e->d_name, "usage") == 0)
			rc = give_usage(dir_fd, uid, gid);
		else if (S_ISREG(st.st_mode) && st.st_nlink == 1 &&
		         fchownat(dir_fd, e->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
			rc = -errno;
	}
	if (rc == 0 && fchown(dir_fd, uid, gid) < 0) /* last: a next start repeats what failed */
		rc = -errno;
	if (d)
		closedir(d);
	else
		close(dir_fd);
	return rc;
}

int state_give(const char *dir, uid_t uid, gid_t gid, char error_out[static STATE_ERROR_LEN])
{
	struct stat st;
	int rc = state_ensure(dir, error_out);

	if (rc < 0)
		return rc;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
	} else if (st.st_uid != 0 || (st.st_mode & 022)) {
		close(fd);
	} else {
		rc = give_files(fd, uid, gid);
	}
	if (rc < 0)
		snprintf(error_out, STATE_ERROR_LEN,
		         "cannot give the state directory \"%.400s\" to its user: %s", dir,
		         strerror(-rc));
	return rc;
}

int state_become_owner(const char *dir, char error_out[static STATE_ERROR_LEN])
{
	struct process_user user = { .changes = true };
	struct stat st;

	if (geteuid() != 0 || stat(dir, &st) < 0 || st.st_uid == 0)
		return 0;
	user.uid = st.st_uid;
	user.gid = st.st_gid;
	int rc = process_become(&user, 0);
	if (rc < 0)
		snprintf(error_out, STATE_ERROR_LEN,
		         "cannot become the owner of the state directory \"%.400s\" (uid %u): %s",
		         dir, (unsigned)user.uid, strerror(-rc));
	return rc;
}

int state_lock_now(const char *dir, char error_out[static STATE_ERROR_LEN])
{
	char path[PATH_LEN];
	int rc = state_ensure(dir, error_out);

	if (rc < 0)
		return rc;
	snprintf(path, sizeof path, "%s/server.lock", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc == -EWOULDBLOCK)
		snprintf(error_out, STATE_ERROR_LEN,
		         "another tunn server uses the state directory %s: stop it, or give this one "
		         "another with --state DIR",
		         dir);
	else
		snprintf(error_out, STATE_ERROR_LEN, "cannot lock %s: %s", path, strerror(-rc));
	return rc;
}

int state_lock(const char *dir, char error_out[static STATE_ERROR_LEN])
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_MS * 1000000 };
	int rc = state_lock_now(dir, error_out);

	for (unsigned ms = 0; rc == -EWOULDBLOCK && ms < LOCK_WAIT_MS; ms += LOCK_PAUSE_MS) {
		nanosleep(&pause, NULL);
		rc = state_lock_now(dir, error_out);
	}
	return rc;
}
