/*
 * Options: one table per command that parses the command line, TUNN_*
 * environment variables and the YAML config file, checks values, prints --help
 * and is compared with the man page by a test. Blocks on the config file; used
 * at start and on reload.
 *
 * Precedence: command line, environment, file, default. `--flag value` and
 * `--flag=value` both work; `--no-flag` does not exist; a single-valued option
 * given twice on the command line is an error; list options add up.
 */
#ifndef TUNN_BASE_OPTS_H
#define TUNN_BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>

struct opt_list { /* strings live until the process ends */
	const char **v;
	unsigned n;
};

enum opt_kind {
	OPT_FLAG,       /* bool */
	OPT_TEXT,       /* const char * */
	OPT_LIST,       /* struct opt_list */
	OPT_NUMBER,     /* uint32_t, decimal or 0x hex, min..max */
	OPT_DURATION,   /* unsigned milliseconds; the unit (ms, s, m, h, d) is mandatory */
	OPT_OPTIONAL,   /* bool, then at `value_offset` a const char *: the argument may be left out */
	OPT_END         /* last row */
};

/* Checks a value: NULL, or words for people about what is allowed. */
typedef const char *opt_check(const char *value);

struct opt {
	enum opt_kind kind;
	const char *name; /* without dashes; TUNN_NAME and the YAML key are made from it */
	const char *arg;  /* placeholder in --help, NULL for flags */
	const char *help;
	size_t offset, value_offset;
	unsigned min, max; /* OPT_NUMBER, OPT_DURATION (ms); OPT_LIST: count */
	opt_check *check;
	bool secret; /* never allowed on the command line; reserved */
};

struct opt_command {
	const char *name;      /* "relay" */
	const char *usage;     /* "PORT --peer ID... [options]" */
	const char *summary;   /* one line for the list of commands */
	const char *text;      /* paragraphs printed by --help, may be NULL */
	const struct opt *opts;
};

/* Reads everything into `target` (zeroed and defaulted by the caller). argv[0]
 * is the command's name. positional_out gets what is not an option. 0, or
 * ERR_CONFIG after printing `tunn relay: ...` with the way out (nearest option
 * names, file:line for the file). *help_out: --help was printed on stdout. */
int opts_read(const struct opt_command *, int argc, char **argv, void *target,
              struct opt_list *positional_out, bool *help_out);
void opts_help(const struct opt_command *);
/* "tunn NAME: text" on standard error; returns ERR_CONFIG. */
int opts_fail(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The candidate that differs least from `word`, or NULL if none is near. */
const char *opts_nearest(const char *word, const char *const *candidates, size_t n);

#endif
