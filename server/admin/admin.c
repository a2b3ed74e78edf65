#include "server/admin/admin_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/net/conn.h"
#include "server/relay/mail.h"
#include "server/admin/page.h"

enum { TICK_MS = 1000 };

struct news {
	struct tls_ctx *tls; /* a reference, or NULL */
	struct limits limits;
};

/* ---- waiting requests ---- */

static void on_late(void *arg)
{
	struct admin_wait *w = arg;

	w->on_late(w);
}

int admin_wait_begin(struct admin *a, struct admin_wait *w, struct httpd_request *r)
{
	w->admin = a;
	w->timer = timer_new(a->loop, on_late, w);
	if (!w->timer)
		return -ENOMEM;
	w->request = r;
	w->number = a->next_number++;
	list_add_tail(&a->waits, &w->node);
	timer_set(w->timer, ADMIN_WAIT_MS);
	return 0;
}

void admin_wait_end(struct admin_wait *w)
{
	list_del(&w->node);
	timer_free(w->timer);
	if (w->free)
		w->free(w);
	free(w);
}

struct admin_wait *admin_wait_get(struct admin *a, uint64_t number)
{
	list_each(it, tmp, &a->waits) {
		struct admin_wait *w = container_of(it, struct admin_wait, node);
		if (w->number == number)
			return w;
	}
	return NULL;
}

/* ---- do the workers answer? ---- */

unsigned admin_n_workers(const struct admin *a) { return workers_count(a->conf.workers); }

static void ask_worker(struct admin *a, unsigned i)
{
	struct survey *v = survey_new(a->mailbox, 0);

	if (!v)
		return; /* in a second again */
	v->worker = i;
	a->asked_ms[i] = loop_now_ms(a->loop);
	survey_send(v, workers_mailboxes(a->conf.workers)[i]);
}

static bool is_late(const struct admin *a, unsigned i)
{
	return a->asked_ms[i] && loop_now_ms(a->loop) - a->asked_ms[i] >= ADMIN_WAIT_MS;
}

void admin_note_late(struct admin *a)
{
	for (unsigned i = 0; i < admin_n_workers(a); i++)
		if (is_late(a, i))
			a->state[i].answers = false;
}

/* Who has not answered yet is not asked again: a worker that hangs shall not be buried
 * under our mail. */
static void on_tick(void *arg)
{
	struct admin *a = arg;

	timer_set(a->tick, TICK_MS);
	series_tick(&a->series, clock_unix_ms() / 1000);
	admin_note_late(a);
	for (unsigned i = 0; i < admin_n_workers(a); i++)
		if (!a->asked_ms[i])
			ask_worker(a, i);
}

static void note_worker(struct admin *a, const struct survey *v)
{
	struct admin_worker_state *s = &a->state[v->worker];

	a->asked_ms[v->worker] = 0;
	s->answers = !v->gone;
	s->n_links = v->n_links;
	s->n_tunnels = v->n_tunnels;
	a->heard[v->worker] = true;
}

const char *admin_why_not_ready(const struct admin *a)
{
	static _Thread_local char words[60];

	if (a->stage != ADMIN_SERVING)
		return a->stage == ADMIN_STARTING ? "starting" : "draining";
	if (metric_sum(METRIC_MEMORY_SHORT))
		return "memory is short";
	for (unsigned i = 0; i < admin_n_workers(a); i++) {
		if (!a->heard[i] && !is_late(a, i))
			return "starting";
		if (!a->state[i].answers) {
			snprintf(words, sizeof words, "worker %u does not answer", i);
			return words;
		}
	}
	return NULL;
}

/* ---- mail ---- */

static void take_news(struct admin *a, struct news *news)
{
	if (news->tls)
		httpd_set_tls(a->httpd, news->tls);
	tls_ctx_unref(news->tls);
	a->limits = news->limits;
	free(news);
}

static void on_survey(struct admin *a, struct survey *v)
{
	if (v->cap == 0) {
		note_worker(a, v);
		survey_free(v);
	} else {
		admin_on_survey(a, v);
	}
}

static void on_mail(void *owner, struct mail *m)
{
	struct admin *a = owner;

	switch (m->kind) {
	case MAIL_SURVEY: on_survey(a, m->ptr); break;
	case ADMIN_MAIL_STAGE: a->stage = (enum admin_stage)m->number; break;
	case ADMIN_MAIL_NEWS: take_news(a, m->ptr); break;
	case ADMIN_MAIL_ACCOUNTS: admin_on_accounts(a, m->number, m->ptr); break;
	case ADMIN_MAIL_STOP: loop_stop(a->loop, 0); break;
	}
}

void admin_tell(struct admin *a, enum admin_stage stage)
{
	const struct mail m = { .kind = ADMIN_MAIL_STAGE, .number = stage };

	if (a)
		mailbox_post(a->mailbox, &m); /* without memory /readyz is late to know */
}

void admin_reload(struct admin *a, struct tls_ctx *tls, const struct limits *limits)
{
	struct news *news = a ? malloc(sizeof *news) : NULL;
	const struct mail m = { .kind = ADMIN_MAIL_NEWS, .ptr = news };

	if (!news)
		return; /* the old certificate is shown until the next reload */
	*news = (struct news){ tls ? tls_ctx_ref(tls) : NULL, *limits };
	if (mailbox_post(a->mailbox, &m) == 0)
		return;
	tls_ctx_unref(news->tls);
	free(news);
}

/* ---- life ---- */

static void forget_waits(struct admin *a)
{
	list_each(it, tmp, &a->waits)
		admin_wait_end(container_of(it, struct admin_wait, node));
}

static void *run(void *arg)
{
	struct admin *a = arg;

	timer_set(a->tick, 0);
	loop_run(a->loop);
	forget_waits(a);
	httpd_free(a->httpd);
	a->httpd = NULL;
	conn_thread_done(); /* here: they are the thread's */
	buf_pool_drain();
	return NULL;
}

static int open_httpd(struct admin *a, int fd, struct addr *bound_out)
{
	const struct httpd_conf conf = { .tls = a->conf.tls,
		                         .max_conns = a->conf.max_conns,
		                         .route = admin_on_request,
		                         .answered = admin_on_answered,
		                         .owner = a };
	int rc = httpd_new(a->loop, &conf, &a->httpd);

	if (rc < 0) {
		close(fd);
		return rc;
	}
	rc = httpd_listen(a->httpd, fd, &a->bound);
	if (rc == 0)
		*bound_out = a->bound;
	return rc;
}

static int set_up(struct admin *a, int fd, struct addr *bound_out)
{
	a->loop = loop_new();
	a->last = letter_new();
	a->tick = a->loop ? timer_new(a->loop, on_tick, a) : NULL;
	int rc = a->tick && a->last ? mailbox_new(a->loop, on_mail, NULL, a, &a->mailbox) : -ENOMEM;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	a->started_ms = loop_now_ms(a->loop);
	a->started_unix_s = clock_unix_ms() / 1000;
	return open_httpd(a, fd, bound_out);
}

int admin_new(const struct admin_conf *conf, struct admin **admin_out, struct addr *bound_out)
{
	struct admin *a = calloc(1, sizeof *a);

	if (!a) {
		close(conf->fd);
		return -ENOMEM;
	}
	a->conf = *conf;
	a->limits = conf->limits;
	a->guard.names = conf->names;
	if (conf->token.len)
		admin_guard_set_token(&a->guard, conf->token);
	a->conf.token = (struct str){ 0 };
	page_start();
	list_init(&a->waits);
	a->next_number = 1;
	if (a->conf.n_listening > ADMIN_LISTENING_MAX)
		a->conf.n_listening = ADMIN_LISTENING_MAX;
	for (unsigned i = 0; i < a->conf.n_listening; i++)
		a->listening[i] = conf->listening[i];
	int rc = set_up(a, conf->fd, bound_out);
	if (rc < 0)
		admin_free(a);
	else
		*admin_out = a;
	return rc;
}

void admin_set_accounts(struct admin *a, admin_ask_accounts *ask, void *owner)
{
	a->ask_accounts = ask;
	a->accounts = owner;
}

int admin_start(struct admin *a)
{
	int rc = -pthread_create(&a->thread, NULL, run, a);

	a->started = rc == 0;
	return rc;
}

void admin_stop(struct admin *a)
{
	const struct mail m = { .kind = ADMIN_MAIL_STOP };

	if (!a || !a->started)
		return;
	mailbox_post_letter(a->mailbox, a->last, &m);
	a->last = NULL;
	pthread_join(a->thread, NULL);
	a->started = false;
}

void admin_free(struct admin *a)
{
	if (!a)
		return;
	mailbox_free(a->mailbox); /* surveys that came back late are freed */
	letter_free(a->last);
	timer_free(a->tick);
	httpd_free(a->httpd);
	loop_free(a->loop);
	crypto_wipe(&a->guard, sizeof a->guard);
	free(a);
}
