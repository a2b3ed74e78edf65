#include "server/auth.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "server/accounts/account.h"

enum { MAIL_QUESTION, MAIL_TIERS, MAIL_JOB, MAIL_STOP, JUMP_S = 60 };

struct job {
	void (*run)(struct books *, void *arg);
	void *arg;
};

struct question {
	struct mailbox *reply;
	unsigned kind;
	uint64_t number;
	struct identity *who;  /* of the answer, made by the asker with ... */
	struct letter *letter; /* ... what it comes in: no answer fails */
	char token[TOKEN_LEN];
};

struct auth {
	struct books *books;
	struct loop *loop;
	struct mailbox *mailbox;
	struct letter *last; /* for MAIL_STOP */
	pthread_t thread;
	int64_t offset_ms;   /* of the clock of the wall to the steady one; 0: never asked */
	atomic_uint waiting; /* relaxed: a bound, not an order */
};

void identity_free(struct identity *who)
{
	if (who)
		account_unref(who->payer);
	free(who);
}

static void question_free(struct question *q)
{
	if (!q)
		return;
	identity_free(q->who);
	letter_free(q->letter);
	crypto_wipe(q, sizeof *q);
	free(q);
}

static struct question *question_new(struct mailbox *reply, unsigned kind, uint64_t number,
                                     struct str token)
{
	struct question *q = malloc(sizeof *q);

	if (!q)
		return NULL;
	*q = (struct question){ .reply = reply, .kind = kind, .number = number };
	memcpy(q->token, token.p, TOKEN_LEN);
	q->who = calloc(1, sizeof *q->who);
	q->letter = letter_new();
	if (q->who && q->letter)
		return q;
	question_free(q);
	return NULL;
}

static void leave(struct auth *a)
{
	atomic_fetch_sub_explicit(&a->waiting, 1, memory_order_relaxed);
}

/* What expires does so by the clock of the wall: who sets it shall see that it counts. */
static int64_t now_s(struct auth *a)
{
	int64_t wall_ms = clock_unix_ms(), offset_ms = wall_ms - (int64_t)clock_now_ms();
	int64_t jump_s = (offset_ms - a->offset_ms) / 1000;

	if (a->offset_ms && llabs(jump_s) > JUMP_S)
		log_warn("the clock was set by %+lld s: tokens expire by the new time",
		         (long long)jump_s);
	a->offset_ms = offset_ms;
	return wall_ms / 1000;
}

static void answer(struct auth *a, struct question *q)
{
	struct mail m = { .kind = q->kind, .number = q->number, .ptr = q->who };

	books_identify(a->books, (struct str){ q->token, TOKEN_LEN }, now_s(a), q->who);
	mailbox_post_letter(q->reply, q->letter, &m);
	q->who = NULL;
	q->letter = NULL;
	leave(a);
	question_free(q);
}

/* What a reload brings for the books. */
struct reload {
	struct tiers tiers;
	char derp_account[NAME_MAX_LEN + 1]; /* "": none */
};

static void take(struct auth *a, struct reload *r)
{
	char error[ACCOUNTS_ERROR_LEN];

	books_take_tiers(a->books, &r->tiers);
	const char *derp_account = r->derp_account[0] ? r->derp_account : NULL;
	int rc = books_name_derp(a->books, derp_account, error);
	if (rc == ERR_AGAIN)
		log_warn("%s; DERP clients count as before meanwhile", error);
	else if (rc < 0)
		log_error("%s", error);
	free(r);
}

static void do_job(struct auth *a, struct job *j)
{
	j->run(a->books, j->arg);
	free(j);
}

static void on_mail(void *owner, struct mail *m)
{
	struct auth *a = owner;

	if (m->kind == MAIL_STOP)
		loop_stop(a->loop, 0);
	else if (m->kind == MAIL_TIERS)
		take(a, m->ptr);
	else if (m->kind == MAIL_JOB)
		do_job(a, m->ptr);
	else
		answer(a, m->ptr);
}

static void *run(void *arg)
{
	struct auth *a = arg;

	loop_run(a->loop);
	return NULL;
}

static void auth_free(struct auth *a)
{
	if (!a)
		return;
	mailbox_free(a->mailbox); /* what is in it is still answered */
	books_close(a->books);
	letter_free(a->last);
	loop_free(a->loop);
	free(a);
}

static int cannot(int rc, char error_out[static ACCOUNTS_ERROR_LEN])
{
	snprintf(error_out, ACCOUNTS_ERROR_LEN, "cannot start the accounts thread: %s",
	         strerror(-rc));
	return rc;
}

static int start(struct auth *a, const struct books_conf *conf,
                 char error_out[static ACCOUNTS_ERROR_LEN])
{
	a->loop = loop_new();
	a->last = letter_new();
	int rc = a->loop && a->last ? mailbox_new(a->loop, on_mail, NULL, a, &a->mailbox) : -ENOMEM;

	if (rc < 0)
		return cannot(rc, error_out);
	rc = books_open(a->loop, conf, &a->books, error_out);
	if (rc < 0)
		return rc;
	rc = -pthread_create(&a->thread, NULL, run, a);
	return rc < 0 ? cannot(rc, error_out) : 0;
}

int auth_start(const struct books_conf *conf, struct auth **auth_out,
               char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct auth *a = calloc(1, sizeof *a);

	if (!a)
		return cannot(-ENOMEM, error_out);
	int rc = start(a, conf, error_out);
	if (rc < 0) {
		auth_free(a);
		return rc;
	}
	*auth_out = a;
	return 0;
}

void auth_stop(struct auth *a)
{
	struct mail m = { .kind = MAIL_STOP };

	if (!a)
		return;
	mailbox_post_letter(a->mailbox, a->last, &m);
	a->last = NULL;
	pthread_join(a->thread, NULL);
	auth_free(a);
}

int auth_ask(struct auth *a, struct mailbox *reply, unsigned kind, uint64_t number,
             struct str token)
{
	if (token.len != TOKEN_LEN)
		return ERR_INVALID;
	if (atomic_fetch_add_explicit(&a->waiting, 1, memory_order_relaxed) >= AUTH_WAITING_MAX) {
		leave(a);
		return ERR_AGAIN;
	}
	struct question *q = question_new(reply, kind, number, token);
	struct mail m = { .kind = MAIL_QUESTION, .ptr = q };
	int rc = q ? mailbox_post(a->mailbox, &m) : -ENOMEM;
	if (rc < 0) {
		question_free(q);
		leave(a);
	}
	return rc;
}

int auth_reload(struct auth *a, const struct tiers *tiers, const char *derp_account)
{
	struct reload *r = calloc(1, sizeof *r);
	struct mail m = { .kind = MAIL_TIERS, .ptr = r };

	if (!r)
		return -ENOMEM;
	r->tiers = *tiers;
	snprintf(r->derp_account, sizeof r->derp_account, "%s", derp_account ? derp_account : "");
	int rc = mailbox_post(a->mailbox, &m);
	if (rc < 0)
		free(r);
	return rc;
}

int auth_run(struct auth *a, void (*run_job)(struct books *, void *arg), void *arg)
{
	struct job *j = malloc(sizeof *j);
	struct mail m = { .kind = MAIL_JOB, .ptr = j };

	if (!j)
		return -ENOMEM;
	*j = (struct job){ run_job, arg };
	int rc = mailbox_post(a->mailbox, &m);
	if (rc < 0)
		free(j);
	return rc;
}
