#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

/* systemd hands credentials over as root's with an access list, whose mask shows as
 * a group permission: root's group may read. */
static bool is_private(const struct stat *st)
{
	if (st->st_mode & 037)
		return false;
	return !(st->st_mode & 040) || (st->st_uid == 0 && st->st_gid == 0);
}

/* Opening a pipe or a terminal must neither wait nor make it ours. */
int file_open(const char *path, bool *is_private_out, const char **why_out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int rc = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (rc < 0)
		*why_out = strerror(-rc);
	else if (!S_ISREG(st.st_mode))
		rc = ERR_INVALID;
	if (rc == ERR_INVALID)
		*why_out = "not a regular file (a pipe is read from -)";
	if (rc < 0 && fd >= 0)
		close(fd);
	if (rc < 0)
		return rc;
	*is_private_out = is_private(&st);
	return fd;
}

int file_read(int fd, bool one_line, char *out, size_t cap)
{
	size_t len = 0;
	int rc = 0;

	while (len < cap && !(one_line && memchr(out, '\n', len))) {
		ssize_t n = read(fd, out + len, cap - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (rc == 0 && len == cap)
		rc = ERR_TOO_BIG;
	if (rc < 0)
		crypto_wipe(out, cap);
	return rc < 0 ? rc : (int)len;
}

/* Who is asked and ends us by Ctrl-C would be left with a terminal that shows nothing: not
 * every shell sets it right. */
static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
enum { N_ENDING = sizeof ending / sizeof *ending };
static struct termios shown; /* the terminal as it was */

static void on_ending(int signo)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &shown);
	raise(signo); /* as if we had not been here: SA_RESETHAND */
}

static void catch_ending(struct sigaction before_out[static N_ENDING])
{
	const struct sigaction action = { .sa_handler = on_ending, .sa_flags = SA_RESETHAND };

	for (unsigned i = 0; i < N_ENDING; i++) {
		sigaction(ending[i], NULL, &before_out[i]);
		if (before_out[i].sa_handler == SIG_DFL)
			sigaction(ending[i], &action, NULL);
	}
}

int file_ask(const char *prompt, char *out, size_t cap)
{
	struct sigaction before[N_ENDING];
	struct termios quiet;

	if (tcgetattr(STDIN_FILENO, &shown) < 0)
		return file_read(STDIN_FILENO, false, out, cap);
	catch_ending(before);
	quiet = shown;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet); /* before anybody is asked to type */
	fprintf(stderr, "%s: ", prompt);
	int rc = file_read(STDIN_FILENO, true, out, cap);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
	for (unsigned i = 0; i < N_ENDING; i++)
		sigaction(ending[i], &before[i], NULL);
	fputc('\n', stderr);
	return rc;
}

int file_make_dir(const char *dir)
{
	char path[PATH_MAX];
	size_t len = strlen(dir);

	if (len == 0 || len >= sizeof path)
		return len ? -ENAMETOOLONG : -ENOENT;
	while (len > 1 && dir[len - 1] == '/')
		len--;
	memcpy(path, dir, len);
	path[len] = 0;
	for (char *p = path + 1; p < path + len; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_all(int fd, struct str s)
{
	while (s.len) {
		ssize_t n = write(fd, s.p, s.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		s.p += n;
		s.len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* File systems that cannot refuse to replace are asked beforehand. */
static int rename_new(const char *from, const char *to)
{
	struct stat st;

	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (lstat(to, &st) == 0)
		return -EEXIST;
	return rename(from, to) < 0 ? -errno : 0;
}

/* The name is there after a power cut too. A file system that has no such thing
 * has made the file all the same. */
static void sync_dir_of(const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) + 1 : 0;

	memcpy(dir, len ? path : ".", len ? len : 1);
	dir[len ? len : 1] = 0;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

static int rename_over(const char *from, const char *to)
{
	return rename(from, to) < 0 ? -errno : 0;
}

static int write_file(const char *path, struct str content,
                      int (*put)(const char *from, const char *to))
{
	char temp[PATH_MAX];
	int n = snprintf(temp, sizeof temp, "%s.XXXXXX", path);

	if (n < 0 || (size_t)n >= sizeof temp)
		return -ENAMETOOLONG;
	int fd = mkostemp(temp, O_CLOEXEC); /* 0600, mkstemp(3) */
	if (fd < 0)
		return -errno;
	int rc = write_all(fd, content);
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0)
		rc = put(temp, path);
	if (rc < 0)
		unlink(temp);
	else
		sync_dir_of(path);
	return rc;
}

int file_create(const char *path, struct str content)
{
	return write_file(path, content, rename_new);
}

int file_replace(const char *path, struct str content)
{
	return write_file(path, content, rename_over);
}
