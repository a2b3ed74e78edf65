#include "server/relay/mates.h"

#include <errno.h>

#include "common/base/metric.h"

enum { AGAIN_MS = 100 };

/* ---- packets ---- */

static void on_post(struct task *t)
{
	struct mates *m = container_of(t, struct mates, post);

	for (unsigned i = 0; i < m->n; i++)
		if (m->staged[i].n)
			mailbox_post_packets(m->box[i], &m->staged[i]);
}

void mates_forward(struct mates *m, unsigned worker, struct pkt *p)
{
	metric_add(METRIC_PKTS_FORWARDED, 1);
	pktq_push(&m->staged[worker], p);
	loop_defer(m->loop, LOOP_POST, &m->post);
}

/* ---- news ---- */

static int tell_all(struct mates *m, enum mail_kind kind, struct presence *p)
{
	const struct mail mail = { .kind = kind, .ptr = p };
	struct letter *letters[WORKERS_MAX] = { 0 };
	bool whole = true;

	for (unsigned i = 0; i < m->n; i++)
		if (i != m->self && !(letters[i] = letter_new()))
			whole = false;
	for (unsigned i = 0; i < m->n; i++) {
		if (!whole) {
			letter_free(letters[i]);
		} else if (letters[i]) {
			presence_ref(p);
			mailbox_post_letter(m->box[i], letters[i], &mail);
		}
	}
	return whole ? 0 : -ENOMEM;
}

static void on_again(void *arg)
{
	struct mates *m = arg;

	list_each(it, tmp, &m->unsaid) {
		struct presence *p = container_of(it, struct presence, unsaid);
		if (tell_all(m, MAIL_LEAVE, p) < 0) {
			timer_set(m->again, AGAIN_MS);
			return;
		}
		list_del(it);
		presence_unref(p);
	}
}

int mates_tell(struct mates *m, enum mail_kind kind, struct presence *p)
{
	int rc = tell_all(m, kind, p);

	if (rc == 0 || kind != MAIL_LEAVE)
		return rc;
	if (list_empty(&p->unsaid)) {
		presence_ref(p);
		list_add_tail(&m->unsaid, &p->unsaid);
		timer_set(m->again, AGAIN_MS);
	}
	return 0;
}

void mates_evict(struct mates *m, unsigned worker, uint64_t number)
{
	struct mail mail = { .kind = MAIL_EVICT, .number = number };

	mailbox_post(m->box[worker], &mail); /* or its deadline ends it */
}

/* ---- life ---- */

int mates_init(struct mates *m, struct loop *loop)
{
	*m = (struct mates){ .loop = loop, .post.cb = on_post };
	list_init(&m->unsaid);
	m->again = timer_new(loop, on_again, m);
	return m->again ? 0 : -ENOMEM;
}

void mates_done(struct mates *m)
{
	struct pkt *p;

	if (!m->loop)
		return;
	for (unsigned i = 0; i < m->n; i++)
		while ((p = pktq_pop(&m->staged[i])) != NULL)
			pkt_drop(p, DROP_LINK_CLOSED);
	list_each(it, tmp, &m->unsaid) {
		list_del(it);
		presence_unref(container_of(it, struct presence, unsaid));
	}
	timer_free(m->again);
}
