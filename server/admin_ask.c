#include "server/admin_ask.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "server/auth.h"

struct job {
	struct admin_question question;
	struct mailbox *reply;
	unsigned kind;
	uint64_t number;
	struct letter *letter;
};

static void job_free(struct job *j)
{
	if (!j)
		return;
	letter_free(j->letter);
	free(j);
}

struct json *accounts_json(struct accounts *accounts, const struct admin_question *q)
{
	char error[ACCOUNTS_ERROR_LEN];
	unsigned total;

	(void)q;
	if (accounts_count(accounts, &total, error) < 0) {
		log_error("admin: %s", error);
		return NULL;
	}
	struct json *o = json_new_object();
	if (json_put(o, "total", json_new_int(total)) == 0)
		return o;
	json_free(o);
	return NULL;
}

static void answer(struct books *books, void *arg)
{
	struct job *j = arg;
	const struct mail m = { .kind = j->kind,
		                .number = j->number,
		                .ptr = accounts_json(books_accounts(books), &j->question) };

	mailbox_post_letter(j->reply, j->letter, &m);
	j->letter = NULL;
	job_free(j);
}

int admin_ask_auth(void *owner, const struct admin_question *q, struct mailbox *reply,
                   unsigned kind, uint64_t number)
{
	struct job *j;

	if (q->subject == ADMIN_USAGE)
		return ERR_NOT_FOUND;
	j = malloc(sizeof *j);
	if (!j)
		return -ENOMEM;
	*j = (struct job){ *q, reply, kind, number, letter_new() };
	int rc = j->letter ? auth_run(owner, answer, j) : -ENOMEM;
	if (rc < 0)
		job_free(j);
	return rc;
}
