/*
 * Shared by opts*.c and nobody else: a reading in progress.
 */
#ifndef TUNN_BASE_OPTS_IMPL_H
#define TUNN_BASE_OPTS_IMPL_H

#include "common/base/opts.h"

/* Where values come from, the stronger the greater. */
enum opts_source { OPTS_NOWHERE, OPTS_FILE, OPTS_ENV, OPTS_ARGV };

struct opts_slot { /* an option of this reading */
	const struct opt *opt;
	char *target;
	enum opts_source by; /* who set it */
	bool negative;       /* a flag set to `no`, which excludes nothing */
};

struct opts_reading {
	const struct opt_command *cmd;
	struct opts_slot *slots;
	size_t n_slots;
};

struct opts_origin { /* of the value at hand, for messages */
	enum opts_source source;
	const char *file; /* OPTS_FILE */
	unsigned line, column;
	bool bare; /* OPTS_ARGV: written without the option's name */
};

/* The options that belong to every command. */
struct opts_common {
	const char *config;
	bool help;
};
extern const struct opt opts_common_table[];

struct opts_slot *opts_find(const struct opts_reading *, const char *name, size_t len);
/* Checks and stores. value NULL: given without. 0 or ERR_CONFIG after printing. */
int opts_set(const struct opts_reading *, struct opts_slot *, const struct opts_origin *,
             const char *value);
/* To an OPT_TREE; borrows the strings for good. 0 or ERR_CONFIG after printing. */
int opts_add_leaf(const struct opts_reading *, struct opts_slot *, const struct opt_leaf *);
/* "tunn relay: --peer WORDS", from whatever source. Returns ERR_CONFIG. */
int opts_refuse(const struct opts_reading *, const struct opts_slot *, const struct opts_origin *,
                const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void opts_variable(const struct opt *, char out[static 64]); /* "TUNN_TOKEN_FILE" */

/* Memory that lives until the process ends, reachable for leak checkers. */
void *opts_keep(void *p, void (*free_fn)(void *)); /* NULL: out of memory, p is freed */
void *opts_alloc(size_t n);
char *opts_copy(const char *s, size_t len);

#endif
