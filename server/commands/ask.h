/*
 * How `tunn account` and `tunn token` get something done: by asking the server that runs on
 * the state directory, or, where none runs, by themselves with the directory locked. Main thread
 * of a command; blocks.
 */
#ifndef TUNN_SERVER_ASK_H
#define TUNN_SERVER_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/json.h"
#include "common/base/opts.h"
#include "common/base/table.h"
#include "server/accounts/tiers.h"

enum { ASK_OK = 0, ASK_FAILED = 1, ASK_USAGE = 2 }; /* exit codes */

struct ask_options {         /* of every such command; zero-initialise */
	const char *command; /* "account" */
	const char *state;
	bool json;
	bool makes;               /* where there are no accounts yet, it begins them */
	struct tiers_words words; /* of the server's config file, for where none runs */
	struct tiers tiers;
};
#define ASK_OPTS(target, field)                                                                    \
	{ .kind = OPT_TEXT,                                                                        \
	  .name = "state",                                                                         \
	  .arg = "DIR",                                                                            \
	  .offset = offsetof(target, field.state),                                                 \
	  .help = "the server's state directory; default as tunn server" },                        \
	                { .kind = OPT_FLAG,                                                        \
		          .name = "json",                                                          \
		          .traits = OPT_LINE,                                                      \
		          .offset = offsetof(target, field.json),                                  \
		          .help = "print the answer as JSON, for programs" },                      \
	                TIERS_OPTS(target, field.words, OPT_FILE)

/* After opts_read(): 0, or ERR_CONFIG after printing. */
int ask_prepare(struct ask_options *);
/* Takes the request (NULL: out of memory), adds who asks. An exit code; with ASK_OK the answer,
 * the caller's to json_free(); else the refusal was printed. */
int ask(const struct ask_options *, struct json *request, struct json **answer_out);
/* With --json: prints it and gives true. */
bool ask_print_json(const struct ask_options *, const struct json *answer);
/* A text of an answer, as it may go to a terminal: "" if there is none. */
struct ask_text {
	char s[128];
};
struct ask_text ask_text(const struct json *answer, const char *name);
/* A list that is answered page by page, to the end or `most` rows (0: all): a table, or with --json
 * an object in one line with what else the last page says. */
struct ask_list {
	const char *rows, *key;  /* members: of an answer, and of a row what the next is "after" */
	const char *const *head; /* of the table; ends with NULL */
	uint64_t most;
	void *owner;
	struct json *(*request)(void *owner); /* of a page; NULL: out of memory */
	void (*add)(void *owner, struct table *, const struct json *page, const struct json *row);
};
int ask_list(const struct ask_options *, const struct ask_list *); /* an exit code */

/* At the end: did what was printed get out? An exit code. */
int ask_printed(const struct ask_options *);

/* One verb of a command. */
struct ask_verb {
	const char *name, *usage; /* "set", "set NAME [--tier TIER]..." */
	const char *word;         /* what must follow it: "NAME"; NULL: nothing */
	unsigned options;         /* bits of the command's own that it takes */
};
/* The verb of the words and the word behind it ("" if it takes none); NULL after printing. */
const struct ask_verb *ask_verb_of(const struct opt_command *, const struct ask_verb *verbs,
                                   unsigned n, const struct opt_list *words, const char **word_out);
const char *ask_check_name(const char *); /* an opt_check */

#endif
