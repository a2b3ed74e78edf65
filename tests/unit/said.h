/*
 * What the code under test says on standard error, and files for it to read.
 * One test program includes this once.
 */
#ifndef TUNN_UNIT_SAID_H
#define TUNN_UNIT_SAID_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char said[8192]; /* between said_begin() and said_end() */
static int said_fd = -1, said_real = -1;

static inline void said_begin(void)
{
	char path[] = "/tmp/tunn-said-XXXXXX";

	fflush(stderr);
	said_fd = mkstemp(path);
	assert_true(said_fd >= 0);
	unlink(path);
	said_real = dup(STDERR_FILENO);
	dup2(said_fd, STDERR_FILENO);
}

static inline void said_end(void)
{
	fflush(stderr);
	dup2(said_real, STDERR_FILENO);
	close(said_real);
	ssize_t n = pread(said_fd, said, sizeof said - 1, 0);
	said[n > 0 ? n : 0] = 0;
	close(said_fd);
}

static inline void assert_said(const char *words)
{
	if (!strstr(said, words))
		fail_msg("not said: %s\nbut: %s", words, said);
}

static inline void assert_not_said(const char *words)
{
	if (strstr(said, words))
		fail_msg("said, and must not be: %s", words);
}

static char said_dir[] = "/tmp/tunn-unit-XXXXXX"; /* of this program, made on first use */

static inline void said_rm_dir(void)
{
	char command[sizeof said_dir + 16];

	snprintf(command, sizeof command, "rm -rf %s", said_dir);
	if (system(command) != 0)
		fprintf(stderr, "%s stays\n", said_dir);
}

/* Its path, good until the next call but three. */
static inline const char *file_path(const char *name)
{
	static char paths[4][256];
	static unsigned at;
	static bool made;

	if (!made) {
		assert_non_null(mkdtemp(said_dir));
		atexit(said_rm_dir);
		made = true;
	}
	char *path = paths[at++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", said_dir, name);
	return path;
}

static inline const char *file_with_bytes(const char *name, const void *bytes, size_t len)
{
	const char *path = file_path(name);
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
	chmod(path, 0600);
	return path;
}

static inline const char *file_with(const char *name, const char *text)
{
	return file_with_bytes(name, text, strlen(text));
}

#endif
