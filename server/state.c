#include "server/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_LEN = 512 };

const char *state_default_dir(void)
{
	static char path[PATH_LEN];
	const char *dir = getenv("STATE_DIRECTORY"), *home = getenv("HOME");

	if (dir && *dir)
		return dir;
	if (geteuid() == 0)
		return "/var/lib/tunn";
	dir = getenv("XDG_STATE_HOME");
	if (dir && *dir)
		snprintf(path, sizeof path, "%s/tunn", dir);
	else
		snprintf(path, sizeof path, "%s/.local/state/tunn", home ? home : ".");
	return path;
}

static int make_parents(const char *dir)
{
	char path[PATH_LEN];

	if (strlen(dir) >= sizeof path)
		return -ENAMETOOLONG;
	strcpy(path, dir);
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int state_ensure(const char *dir, char error_out[static STATE_ERROR_LEN])
{
	int rc = make_parents(dir);

	if (rc == 0 && access(dir, R_OK | W_OK | X_OK) < 0)
		rc = -errno;
	if (rc < 0)
		snprintf(error_out, STATE_ERROR_LEN,
		         "cannot use the state directory %s: %s; give another with --state DIR", dir,
		         strerror(-rc));
	return rc;
}

int state_lock(const char *dir, char error_out[static STATE_ERROR_LEN])
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
	snprintf(error_out, STATE_ERROR_LEN,
	         rc == -EWOULDBLOCK ? "another tunn server uses the state directory %s: stop it, or "
	                              "give this one another with --state DIR" :
	                              "cannot lock the state directory %s",
	         dir);
	return rc;
}
