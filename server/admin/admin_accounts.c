/* What the accounts thread is asked: accounts and their usage. One question at a time, however
 * many ask here: registrations wait there for one page, and not for all. */
#include "server/admin/admin_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct accounts_wait {
	struct admin_wait wait; /* first */
	struct admin_question question;
	bool asked;
};

static void on_late(struct admin_wait *w)
{
	admin_fail(w->request, 503, "the accounts thread does not answer");
	admin_wait_end(w);
}

static struct accounts_wait *next_unasked(struct admin *a)
{
	list_each(it, tmp, &a->waits) {
		struct admin_wait *w = container_of(it, struct admin_wait, node);
		struct accounts_wait *aw = (struct accounts_wait *)(void *)w;
		if (w->on_late == on_late && !aw->asked)
			return aw;
	}
	return NULL;
}

static void refuse(struct accounts_wait *aw, int rc)
{
	if (rc == ERR_NOT_FOUND)
		admin_fail(aw->wait.request, 404, "this relay does not keep that");
	else
		admin_fail(aw->wait.request, 503, "the accounts cannot be asked now");
	admin_wait_end(&aw->wait);
}

static void ask_next(struct admin *a)
{
	struct accounts_wait *aw;

	while (!a->accounts_busy && (aw = next_unasked(a)) != NULL) {
		int rc = a->ask_accounts(a->accounts, &aw->question, a->mailbox,
		                         ADMIN_MAIL_ACCOUNTS, aw->wait.number);
		aw->asked = a->accounts_busy = rc == 0;
		if (rc < 0)
			refuse(aw, rc);
	}
}

void admin_on_accounts(struct admin *a, uint64_t number, struct json *doc)
{
	struct admin_wait *w = admin_wait_get(a, number);

	a->accounts_busy = false;
	if (!w) { /* too late */
		json_free(doc);
	} else {
		if (doc)
			admin_answer_json(w->request, 200, doc);
		else
			admin_fail(w->request, 503, "the accounts cannot be read now");
		admin_wait_end(w);
	}
	ask_next(a);
}

static void ask(struct admin *a, struct httpd_request *r, const struct admin_question *q)
{
	struct accounts_wait *aw = calloc(1, sizeof *aw);

	if (!aw || admin_wait_begin(a, &aw->wait, r) < 0) {
		free(aw);
		admin_fail(r, 503, "out of memory");
		return;
	}
	aw->wait.on_late = on_late;
	aw->question = *q;
	ask_next(a);
}

static void serve(struct admin *a, struct httpd_request *r, enum admin_subject subject)
{
	struct admin_question q = { .subject = subject };
	char error[QUERY_ERROR_LEN];

	if (query_page(r->query, &q.page, error) < 0)
		admin_fail(r, 400, "%s", error);
	else if (!a->ask_accounts)
		admin_fail(r, 404, "this relay is open to everybody: it has no accounts");
	else
		ask(a, r, &q);
}

void admin_accounts(struct admin *a, struct httpd_request *r) { serve(a, r, ADMIN_ACCOUNTS); }
void admin_usage(struct admin *a, struct httpd_request *r) { serve(a, r, ADMIN_USAGE); }
