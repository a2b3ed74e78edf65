#include "server/relay/workers.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/net/listener.h"
#include "server/relay/admit.h"
#include "server/relay/mail.h"
#include "server/relay/native_policy.h"
#include "server/relay/mates.h"
#include "server/relay/penalty.h"
#include "server/relay/shortage.h"

struct workers {
	struct worker_conf conf;
	_Atomic uint64_t seq;
	struct shortage shortage;
	unsigned n, n_started, n_ended;
	struct worker *worker[WORKERS_MAX];
	struct mailbox *mailbox[WORKERS_MAX];
	struct letter *last[WORKERS_MAX]; /* for MAIL_DRAIN */
	uint64_t round;                   /* of asking whether they live */
	unsigned n_answers;
};

unsigned workers_default(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;

	return n < WORKERS_MAX ? (unsigned)n : WORKERS_MAX;
}

/* ---- life ---- */

static int make_all(struct workers *ws, unsigned n)
{
	for (ws->n = 0; ws->n < n; ws->n++) {
		int rc = worker_new(&ws->conf, &ws->worker[ws->n]);
		if (rc < 0)
			return rc;
		ws->mailbox[ws->n] = worker_mailbox(ws->worker[ws->n]);
		ws->last[ws->n] = letter_new();
		if (!ws->last[ws->n]) {
			worker_free(ws->worker[ws->n]);
			return -ENOMEM;
		}
	}
	for (unsigned i = 0; i < n; i++)
		worker_know_mates(ws->worker[i], ws->worker, n, i);
	return 0;
}

int workers_new(const struct worker_conf *conf, unsigned n, struct workers **workers_out)
{
	struct workers *ws = calloc(1, sizeof *ws);

	if (!ws)
		return -ENOMEM;
	ws->conf = *conf;
	ws->conf.seq = &ws->seq;
	shortage_init(&ws->shortage);
	ws->conf.shortage = &ws->shortage;
	ws->conf.admit = admit_new(&conf->limits);
	ws->conf.penalty = penalty_new(conf->penalty_on);
	int rc = ws->conf.admit && ws->conf.penalty ? make_all(ws, n) : -ENOMEM;
	if (rc < 0)
		workers_free(ws);
	else
		*workers_out = ws;
	return rc;
}

int workers_listen(struct workers *ws, int fd, struct addr *bound_out)
{
	int fds[WORKERS_MAX] = { fd };

	/* All sockets before the first is used: how they share is seen by the first. */
	for (unsigned i = 1; i < ws->n; i++) {
		fds[i] = listener_again(fd);
		if (fds[i] < 0) {
			int rc = fds[i];
			while (i--)
				close(fds[i]);
			return rc;
		}
	}
	int rc = 0;
	for (unsigned i = 0; i < ws->n; i++)
		if (rc < 0)
			close(fds[i]);
		else
			rc = worker_listen(ws->worker[i], fds[i], bound_out);
	return rc;
}

int workers_start(struct workers *ws, struct auth *auth)
{
	ws->conf.auth = auth;
	int rc = 0;
	while (rc == 0 && ws->n_started < ws->n) {
		rc = worker_start(ws->worker[ws->n_started]);
		ws->n_started += rc == 0;
	}
	return rc;
}

struct mailbox *const *workers_mailboxes(const struct workers *ws) { return ws->mailbox; }
unsigned workers_count(const struct workers *ws) { return ws->n; }

bool workers_ended(struct workers *ws) { return ++ws->n_ended == ws->n; }

void workers_join(struct workers *ws)
{
	for (unsigned i = 0; ws && i < ws->n_started; i++)
		worker_join(ws->worker[i]);
}

void workers_free(struct workers *ws)
{
	if (!ws)
		return;
	for (unsigned i = 0; i < ws->n; i++) {
		worker_free(ws->worker[i]);
		letter_free(ws->last[i]);
	}
	admit_free(ws->conf.admit);
	penalty_free(ws->conf.penalty);
	free(ws);
}

/* ---- news for all ---- */

void workers_drain(struct workers *ws, uint32_t within_ms)
{
	const struct mail m = { .kind = MAIL_DRAIN, .number = within_ms };

	for (unsigned i = 0; ws && i < ws->n_started; i++) {
		mailbox_post_letter(ws->mailbox[i], ws->last[i], &m);
		ws->last[i] = NULL;
	}
}

int workers_reload(struct workers *ws, const struct worker_news *fresh)
{
	struct worker_news *news[WORKERS_MAX];
	struct letter *letters[WORKERS_MAX];
	bool whole = true;

	for (unsigned i = 0; i < ws->n; i++) {
		news[i] = malloc(sizeof *news[i]);
		letters[i] = letter_new();
		whole = whole && news[i] && letters[i];
	}
	for (unsigned i = 0; i < ws->n; i++) {
		if (!whole) {
			free(news[i]);
			letter_free(letters[i]);
			continue;
		}
		*news[i] = *fresh;
		tls_ctx_ref(fresh->tls);
		native_policy_ref(fresh->policy);
		const struct mail m = { .kind = MAIL_CONFIG, .ptr = news[i] };
		mailbox_post_letter(ws->mailbox[i], letters[i], &m);
	}
	if (whole) {
		admit_set_limits(ws->conf.admit, &fresh->limits);
		penalty_turn(ws->conf.penalty, fresh->penalty_on);
	}
	return whole ? 0 : -ENOMEM;
}

/* ---- memory ---- */

unsigned workers_shed(struct workers *ws, enum watermark_level level, unsigned n_ends)
{
	struct mail m = { .kind = MAIL_SHED };

	shortage_shut(&ws->shortage, level != WATERMARK_LOW);
	if (level == WATERMARK_LOW)
		return RANK_NONE;
	unsigned lowest = shortage_lowest(&ws->shortage, ws->n);
	if (level == WATERMARK_ENDS && lowest != RANK_NONE && admit_count(ws->conf.admit) == 0) {
		atomic_store_explicit(&ws->shortage.rank, lowest, memory_order_relaxed);
		m.number = (n_ends + ws->n - 1) / ws->n;
	}
	for (unsigned i = 0; i < ws->n; i++)
		mailbox_post(ws->mailbox[i], &m); /* else it is told in the next second */
	return m.number ? lowest : RANK_NONE;
}

/* ---- do they live? ---- */

void workers_ask(struct workers *ws)
{
	const struct mail m = { .kind = MAIL_ALIVE, .number = ++ws->round };

	ws->n_answers = 0;
	for (unsigned i = 0; i < ws->n; i++)
		mailbox_post(ws->mailbox[i], &m); /* else it does not answer */
}

/* Answers of an earlier round say nothing about this one. */
bool workers_answered(struct workers *ws, const struct mail *m)
{
	return m->number == ws->round && ++ws->n_answers == ws->n;
}
