/*
 * Shared by commands*.c and nobody else: a request in work.
 */
#ifndef TUNN_SERVER_COMMANDS_IMPL_H
#define TUNN_SERVER_COMMANDS_IMPL_H

#include "server/commands/commands.h"

enum { COMMAND_WORD_LEN = 128 };

struct job {
	const struct commands *c;
	const struct json *request;
	struct json *answer; /* an object that the verb fills */
	int64_t now_unix_s;
	const char *who; /* for the audit */
	char error[ACCOUNTS_ERROR_LEN];
	char what[AUDIT_WHAT_LEN];            /* for the audit: what was done */
	int64_t changed_row;                  /* 0: nothing that concerns live tunnels */
	char changed_token[TOKEN_ID_LEN + 1]; /* "": all of the account's */
};

/* A verb: 0, or negative with words in job->error. */
typedef int command_verb(struct job *);
command_verb command_account_add, command_account_list, command_account_show, command_account_set,
                command_account_suspend, command_account_resume, command_account_rm,
                command_account_log, command_account_requests, command_account_approve,
                command_account_deny, command_token_new, command_token_list, command_token_revoke;

int job_fail(struct job *, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int job_starve(struct job *); /* -ENOMEM */
/* Adds to job->what. */
void job_say(struct job *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The text of a member: 0, ERR_NOT_FOUND where there is none, or ERR_INVALID with words. */
int job_word(struct job *, const struct json *value, const char *name,
             char out[static COMMAND_WORD_LEN]);
/* The account that the request names. */
int job_account(struct job *, struct account_record *out);

/* Lists are asked for in pages, each "after" the last of the one before, "n" rows at most, so that
 * no answer is long, and whoever else asks the accounts thread does not wait. */
enum { COMMAND_PAGE_MAX = 1000 };
int job_page(struct job *, unsigned *n_out);
/* Answers with a page: row_json() of each of rc rows of v, of which there were n + 1 asked for;
 * negative rc: fails with it. NULL from row_json: out of memory. */
typedef struct json *job_row(const struct job *, const void *v, unsigned i);
int job_answer_page(struct job *, const char *name, int rc, unsigned n, const void *v, job_row *);

#endif
