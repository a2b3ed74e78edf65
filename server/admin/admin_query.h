/*
 * The query of a request's URL: which names it may have, decoded values, and what is
 * wrong in words. Pure. Any thread.
 */
#ifndef TUNN_SERVER_ADMIN_QUERY_H
#define TUNN_SERVER_ADMIN_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bytes.h"

enum { QUERY_VALUE_MAX = 64, QUERY_ERROR_LEN = 160 };

struct query_value {
	const char *name; /* what may be given; NULL ends a list */
	bool is_given;
	char text[QUERY_VALUE_MAX + 1]; /* printable ASCII; "" if not given */
};

/* Fills in values by their names: each once at most, no others, no fragments. 0, or ERR_INVALID
 * with words. */
int query_read(struct str query, struct query_value *values,
               char error_out[static QUERY_ERROR_LEN]);
/* A decimal number from least to most; untouched if not given. 0 or ERR_INVALID with words. */
int query_number(const struct query_value *, uint64_t least, uint64_t most, uint64_t *n_out,
                 char error_out[static QUERY_ERROR_LEN]);

/* The query of a table that is asked for in pages. */
struct query_page {
	unsigned limit;                   /* rows */
	char cursor[QUERY_VALUE_MAX + 1]; /* of the answer before; "": from the beginning */
	char search[QUERY_VALUE_MAX + 1]; /* "": all */
};
/* `limit` 1 to 1000 (100), `cursor` and `q`. 0 or ERR_INVALID with words. */
int query_page(struct str query, struct query_page *page_out,
               char error_out[static QUERY_ERROR_LEN]);

#endif
