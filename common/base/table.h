/*
 * Tables for people on standard output: columns as wide as what is in them, a head, blanks
 * between. Cells are short words. One thread; may be printed in parts, each as soon as its
 * rows are there.
 */
#ifndef TUNN_BASE_TABLE_H
#define TUNN_BASE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/bytes.h"

enum { TABLE_COLUMNS_MAX = 16, TABLE_TIME_LEN = 32 };

struct table {                   /* value type */
	const char *const *head; /* borrowed */
	unsigned n_columns, widths[TABLE_COLUMNS_MAX];
	char **cells;
	size_t n, cap;
	bool printed; /* the head was */
};

void table_init(struct table *, const char *const *head /* NULL at its end */);
void table_done(struct table *);
/* The next cell, row after row; without memory it is empty. */
void table_add(struct table *, struct str text);
void table_addf(struct table *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(struct table *, FILE *); /* and forgets the rows */

/* "2026-11-21 18:00 UTC" */
const char *table_time(int64_t unix_s, char out[static TABLE_TIME_LEN]);

#endif
