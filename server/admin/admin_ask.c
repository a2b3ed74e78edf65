#include "server/admin/admin_ask.h"

#include <errno.h>
#include <stdlib.h>

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

/* One of a page, for `usage`. */
static struct json *usage_of(const struct json *account)
{
	static const char *const members[] = { "sent_bytes", "received_bytes", "sent_packets",
		                               "received_packets" };
	const struct json *used = json_get(account, "usage");
	struct json *o = json_new_object();
	struct str text = STR("");
	int64_t n = 0;
	int rc = json_as_text(json_get(account, "name"), &text) == JSON_READ ? 0 : ERR_INVALID;

	rc = rc < 0 ? rc : json_put(o, "account", json_new_text(text));
	for (unsigned i = 0; rc == 0 && i < sizeof members / sizeof *members; i++) {
		json_as_int(json_get(used, members[i]), &n);
		rc = json_put(o, members[i], json_new_int(n));
	}
	bool limited = json_as_int(json_get(json_get(account, "limits"), "volume_bytes"), &n) ==
	               JSON_READ;
	if (rc == 0)
		rc = json_put(o, "volume_bytes", limited ? json_new_int(n) : json_new_null());
	if (rc == 0)
		return o;
	json_free(o);
	return NULL;
}

/* The page with its usage alone. Takes the page. */
static struct json *only_usage(struct json *page)
{
	struct json *list = json_new_array(), *o = json_new_object();
	struct str month = STR("");
	int rc = list && o ? 0 : -ENOMEM;

	for (struct json_walk w = json_walk(json_get(page, "accounts")); rc == 0 && json_next(&w);)
		rc = json_add(list, usage_of(w.value));
	json_as_text(json_get(page, "month"), &month);
	rc = rc < 0 ? rc : json_put(o, "month", json_new_text(month));
	if (rc < 0) {
		json_free(list);
	} else {
		rc = json_put(o, "usage", list);
	}
	json_free(page);
	if (rc == 0)
		return o;
	json_free(o);
	return NULL;
}

/* The last name of a page is the cursor of the next. */
static struct json *cursor_after(const struct json *page)
{
	struct str name = STR("");
	bool more = false;

	json_as_bool(json_get(page, "more"), &more);
	for (struct json_walk w = json_walk(json_get(page, "accounts")); json_next(&w);)
		json_as_text(json_get(w.value, "name"), &name);
	return more ? json_new_text(name) : json_new_null();
}

struct json *accounts_json(struct books *books, const struct admin_question *q)
{
	struct json *ask = json_new_object(), *page = NULL, *next;
	bool ok = false;

	if (json_put(ask, "verb", json_new_text(STR("account list"))) == 0 &&
	    json_put(ask, "after", json_new_text(str_of(q->page.cursor))) == 0 &&
	    json_put(ask, "part", json_new_text(str_of(q->page.search))) == 0 &&
	    json_put(ask, "n", json_new_int(q->page.limit)) == 0)
		page = books_run(books, ask);
	json_free(ask);
	json_as_bool(json_get(page, "ok"), &ok);
	if (!ok) {
		json_free(page);
		return NULL;
	}
	next = cursor_after(page);
	if (q->subject == ADMIN_USAGE)
		page = only_usage(page);
	if (json_put(page, "next", next) == 0)
		return page;
	json_free(page);
	return NULL;
}

static void answer(struct books *books, void *arg)
{
	struct job *j = arg;
	const struct mail m = { .kind = j->kind,
		                .number = j->number,
		                .ptr = accounts_json(books, &j->question) };

	mailbox_post_letter(j->reply, j->letter, &m);
	j->letter = NULL;
	job_free(j);
}

int admin_ask_auth(void *owner, const struct admin_question *q, struct mailbox *reply,
                   unsigned kind, uint64_t number)
{
	struct job *j;

	j = malloc(sizeof *j);
	if (!j)
		return -ENOMEM;
	*j = (struct job){ *q, reply, kind, number, letter_new() };
	int rc = j->letter ? auth_run(owner, answer, j) : -ENOMEM;
	if (rc < 0)
		job_free(j);
	return rc;
}
