/*
 * Small files with secrets: reading only what nobody else could read, making
 * files whole or not at all. Blocks: start and commands only. Any thread.
 */
#ifndef TUNN_BASE_FILE_H
#define TUNN_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/bytes.h"

#define FILE_IS_OPEN_TO_OTHERS "others may read it: chmod 600 the file"

/* A descriptor of a regular file for reading and whether only its owner may do so; or a
 * negative code with the reason in *why_out (good until the next call). */
int file_open(const char *path, bool *is_private_out, const char **why_out);
/* Everything up to the end, or with one_line up to and with a line break. Length, -errno,
 * or ERR_TOO_BIG when cap bytes are not more than there is. On failure out is wiped. */
int file_read(int fd, bool one_line, char *out, size_t cap);
/* The same from standard input; at a terminal one line is asked for and not shown (by the
 * main thread alone). */
int file_ask(const char *prompt, char *out, size_t cap);

/* Parents as the umask says, the directory itself 0700; none is changed that exists. 0 or -errno.
 */
int file_make_dir(const char *dir);
/* Mode 0600, on the disk before it has its name; never replaces: -EEXIST. 0 or -errno. */
int file_create(const char *path, struct str content);
int file_replace(const char *path, struct str content); /* the same, in place of what is there */

#endif
