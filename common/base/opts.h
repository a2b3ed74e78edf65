/*
 * Options: one table per command that parses the command line, TUNN_*
 * environment variables and the YAML config file, checks values, prints --help
 * and is compared with the man page by a test. Blocks on the config file; used
 * at start and on reload.
 *
 * Precedence: command line, environment, file, default. `--flag value` and
 * `--flag=value` both work; `--no-flag` does not exist; a single-valued option
 * given twice on the command line is an error; list options add up, and the
 * same value twice in one list is an error. An empty variable counts as unset; a
 * list in a variable is separated by commas or blanks. `--config FILE` and
 * `--help` belong to every command and stand in no table.
 *
 * Main thread. What is read lives until the process ends, or until opts_release().
 */
#ifndef TUNN_BASE_OPTS_H
#define TUNN_BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>

struct opt_list { /* strings live until the process ends */
	const char **v;
	unsigned n;
};

struct opt_leaf {         /* a value in a tree of maps; lives like a list's strings */
	const char *path; /* "pro.rate", below the option's name */
	const char *value;
	const char *file;
	unsigned line, column; /* of the value */
};
struct opt_tree {
	struct opt_leaf *v;
	unsigned n;
};

enum opt_kind {
	OPT_FLAG,     /* bool */
	OPT_TEXT,     /* const char * */
	OPT_LIST,     /* struct opt_list */
	OPT_NUMBER,   /* uint32_t, decimal or 0x hex, min..max */
	OPT_SIZE,     /* uint32_t bytes, with or without a unit (B, kB, KiB, MB, MiB, GB, GiB) */
	OPT_DURATION, /* unsigned milliseconds; the unit (ms, s, m, h, d) is mandatory */
	OPT_OPTIONAL, /* bool, then at `value_offset` a const char *: the argument may be left out;
	                 the next word is it unless it begins with - or is a bare number (a PORT) */
	OPT_TREE,     /* struct opt_tree: a map, or a map of maps, of the config file and nothing
	                 else, with whatever keys; who knows them checks the leaves and answers by
	                 opts_refuse_leaf() */
	OPT_END       /* last row */
};

enum opt_trait {
	OPT_SECRET = 1,     /* refused on the command line and in the file, in the words of `help`;
	                       its variable is the caller's business; not in --help */
	OPT_PRIVATE = 2,    /* never printed: may hold a login */
	OPT_POSITIONAL = 4, /* a word that is no option sets it too, in the order of rows */
	OPT_FILE = 16,      /* a key of the config file and nothing else; "map.key" stands as
	                       key in the map of that name there; not in --help */
	OPT_ONE_OF = 8,     /* only one of these per command; of two sources the stronger wins */
	OPT_LINE = 32,      /* of the command line and nothing else: what is done, not how */
};

/* Checks a value: NULL, or words for people about what is allowed, which follow
 * the option's name: "must be 1 to 65535". Good until the next check. */
typedef const char *opt_check(const char *value);

struct opt {
	enum opt_kind kind;
	const char *name; /* without dashes; TUNN_NAME and the YAML key are made from it */
	const char *arg;  /* placeholder in --help, NULL for flags */
	const char *help;
	size_t offset, value_offset;
	unsigned min, max; /* OPT_NUMBER, OPT_SIZE (bytes), OPT_DURATION (ms); OPT_LIST: count */
	opt_check *check;
	unsigned traits; /* enum opt_trait or-ed */
};

struct opt_command {
	const char *name;    /* "relay" */
	const char *usage;   /* "PORT --peer ID... [options]" */
	const char *summary; /* one line for the list of commands */
	const char *text;    /* paragraphs printed by --help, may be NULL */
	const struct opt *opts;
	const struct opt *file_of; /* the config file may be that of the command with these options:
	                              its keys are known, but not read; NULL: no other's */
};

/* Reads everything into `target` (zeroed and defaulted by the caller). argv[0]
 * is the command's name. positional_out gets what neither is an option nor has a
 * row (NULL: there may be none). 0, or ERR_CONFIG after printing `tunn relay: ...` with the way out
 * (nearest option names, file:line for the file). *help_out: --help was printed on stdout. */
int opts_read(const struct opt_command *, int argc, char **argv, void *target,
              struct opt_list *positional_out, bool *help_out);
/* What is read after opts_mark() is given back by opts_release() of it: a reload
 * whose values are copied. */
const void *opts_mark(void);
void opts_release(const void *mark);
void opts_help(const struct opt_command *);
void opts_usage(const struct opt_command *); /* two lines on standard error */
/* "tunn NAME: text" on standard error; returns ERR_CONFIG. command NULL: "tunn: text". */
int opts_fail(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "tunn COMMAND: FILE:LINE:COLUMN: NAME.PATH text"; returns ERR_CONFIG. */
int opts_refuse_leaf(const char *command, const char *name, const struct opt_leaf *,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The candidate that differs least from `word`, or NULL if none is near. */
const char *opts_nearest(const char *word, const char *const *candidates, size_t n);
/* A word of the user's in quotes for a message: control characters escaped,
 * shortened, and a token or a secret key in it not shown. */
struct opts_quoted {
	char s[128];
};
struct opts_quoted opts_quote(const char *word);

#endif
