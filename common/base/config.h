/*
 * The one door to libyaml: a config file as a flat list of keys, each with one
 * value or a list of values; a key in a map is written "map.key", in a map in a map
 * "map.map.key". Blocks on the file; any thread.
 *
 * Strict: a regular file of at most 1 MiB, UTF-8 without NUL, one document, maps
 * two levels deep, no key twice, no anchors, no empty map within a map. A byte order
 * mark, CRLF and a missing last newline are fine.
 */
#ifndef TUNN_BASE_CONFIG_H
#define TUNN_BASE_CONFIG_H

#include <stdbool.h>

enum { CONFIG_ERROR_LEN = 512, CONFIG_FILE_MAX = 1024 * 1024 };

struct config_value {
	char *text;
	unsigned line, column; /* from 1 */
};

struct config_entry {
	struct config_value key;
	struct config_value *v;
	unsigned n;
	bool is_list; /* written as one, whatever n */
};

struct config {
	struct config_entry *v;
	unsigned n;
};

/* 0, ERR_CONFIG or -ENOMEM with "FILE:LINE:COLUMN: words" or "FILE: words" in
 * error_out. */
int config_read(const char *path, struct config **config_out,
                char error_out[static CONFIG_ERROR_LEN]);
void config_free(struct config *); /* NULL allowed */

const char *config_library_version(void);

#endif
