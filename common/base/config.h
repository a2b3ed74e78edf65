/*
 * Config files: a flat YAML mapping of option names to scalars or lists of
 * scalars, with the line of each value (the one door to libyaml). Strict: a
 * key twice, nesting, NUL and invalid UTF-8 are errors. Blocks on the file.
 */
#ifndef TUNN_BASE_CONFIG_H
#define TUNN_BASE_CONFIG_H

#include <stddef.h>

enum { CONFIG_FILE_MAX = 1 << 20, CONFIG_ERROR_LEN = 512 };

struct config_entry { /* one value; a list has one entry per item, same key */
	char *key, *value;
	unsigned line;
};
struct config {
	struct config_entry *entries;
	size_t n;
};

/* Regular files of at most 1 MiB. 0, or ERR_CONFIG with error_out as
 * `file:line:column: words`. */
int config_read(const char *path, struct config *config_out,
                char error_out[static CONFIG_ERROR_LEN]);
void config_done(struct config *);

#endif
