#include "server/login/login_desk.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/net/mailbox.h"
#include "server/auth.h"
#include "server/login/login.h"
#include "server/relay/mail.h"

struct login_question {
	struct mailbox *reply;
	struct letter *letter; /* that it comes back in: no answer fails */
	uint64_t number;
	struct addr from;
	struct web_request request; /* leads into text */
	struct login_answer answer;
	size_t text_len;
	char text[];
};

struct ticket {
	uint64_t number;
	struct web *web;
};

/* ---- questions ---- */

enum { PARTS = 8 };

static struct str *part_of(struct web_request *q, unsigned i)
{
	struct str *const parts[PARTS] = { &q->method, &q->path,   &q->query,        &q->host,
		                           &q->origin, &q->cookie, &q->content_type, &q->body };

	return parts[i];
}

static struct login_question *question_new(const struct web_request *request)
{
	struct web_request q = *request;
	struct login_question *made;
	size_t len = 0;

	for (unsigned i = 0; i < PARTS; i++)
		len += part_of(&q, i)->len;
	if ((made = malloc(sizeof *made + len)) == NULL)
		return NULL;
	made->text_len = len;
	char *to = made->text;
	for (unsigned i = 0; i < PARTS; i++) {
		struct str *s = part_of(&q, i);
		if (s->len)
			memcpy(to, s->p, s->len);
		s->p = to;
		to += s->len;
	}
	made->request = q;
	if ((made->letter = letter_new()) != NULL)
		return made;
	free(made);
	return NULL;
}

static void question_free(struct login_question *q)
{
	if (!q)
		return;
	letter_free(q->letter);
	crypto_wipe(q, sizeof *q + q->text_len);
	free(q);
}

/* On the accounts thread: it goes back with the answer. */
static void answer(struct books *books, void *arg)
{
	struct login_question *q = arg;
	const struct login_ask ask = { &q->request, &q->from, clock_now_ms(),
		                       clock_unix_ms() / 1000 };
	struct mail m = { .kind = MAIL_LOGIN, .number = q->number, .ptr = q };
	struct letter *letter = q->letter;

	login_serve(books_logins(books), &ask, &q->answer);
	q->letter = NULL;
	mailbox_post_letter(q->reply, letter, &m);
}

/* ---- the desk ---- */

void login_desk_init(struct login_desk *d)
{
	*d = (struct login_desk){ .next_number = 1 };
	map_init(&d->by_number, sizeof(uint64_t));
}

void login_desk_close(struct login_desk *d)
{
	struct ticket *t;
	size_t pos = 0;

	while ((t = map_next(&d->by_number, &pos)) != NULL)
		free(t);
	map_done(&d->by_number);
	map_init(&d->by_number, sizeof(uint64_t));
}

static struct ticket *ticket_new(struct login_desk *d, struct web *web)
{
	struct ticket *t = malloc(sizeof *t);

	if (!t)
		return NULL;
	*t = (struct ticket){ d->next_number++, web };
	if (map_put(&d->by_number, &t->number, t) == 0)
		return t;
	free(t);
	return NULL;
}

static void tear(struct login_desk *d, struct ticket *t)
{
	map_del(&d->by_number, &t->number);
	free(t);
}

int login_desk_ask(struct login_desk *d, struct link *link, struct web *web,
                   const struct web_request *request)
{
	struct login_question *q;
	struct ticket *t;

	if (!d->auth)
		return ERR_NOT_FOUND;
	if (d->n >= LOGIN_DESK_MAX)
		return ERR_AGAIN;
	if ((q = question_new(request)) == NULL)
		return -ENOMEM;
	if ((t = ticket_new(d, web)) == NULL) {
		question_free(q);
		return -ENOMEM;
	}
	q->reply = d->mailbox;
	q->number = t->number;
	q->from = *link_peer(link);
	int rc = auth_run(d->auth, answer, q);
	if (rc < 0) {
		question_free(q);
		tear(d, t);
		return rc;
	}
	web->user = t;
	d->n++;
	return 0;
}

void login_desk_unasked(struct login_desk *d, struct web *web) { tear(d, web->user); }

void login_desk_on_answer(struct login_desk *d, uint64_t number, struct login_question *q)
{
	struct ticket *t = map_get(&d->by_number, &number);

	d->n--;
	if (t) {
		struct web *web = t->web;
		tear(d, t);
		link_answer(web, &q->answer.web);
	}
	question_free(q);
}
