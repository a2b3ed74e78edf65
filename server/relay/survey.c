#include "server/relay/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/relay/mail.h"
#include "server/relay/session_impl.h"

enum { SESSIONS_PER_TURN = 100 };

struct survey *survey_new(struct mailbox *reply, unsigned n_rows)
{
	struct survey *v = calloc(1, sizeof *v + n_rows * sizeof *v->rows);

	if (!v)
		return NULL;
	v->reply = reply;
	v->cap = n_rows;
	v->letter = letter_new();
	v->back = letter_new();
	list_init(&v->node);
	if (v->letter && v->back)
		return v;
	survey_free(v);
	return NULL;
}

void survey_free(struct survey *v)
{
	if (!v)
		return;
	letter_free(v->letter);
	letter_free(v->back);
	free(v);
}

void survey_send(struct survey *v, struct mailbox *worker)
{
	const struct mail m = { .kind = MAIL_SURVEY, .ptr = v };
	struct letter *l = v->letter;

	v->letter = NULL;
	mailbox_post_letter(worker, l, &m);
}

static void send_back(struct survey *v)
{
	const struct mail m = { .kind = MAIL_SURVEY, .ptr = v };
	struct letter *l = v->back;

	list_del(&v->node);
	v->back = NULL;
	mailbox_post_letter(v->reply, l, &m);
}

/* ---- rows ---- */

static bool matches(const struct session *s, const char *text)
{
	const struct presence *who = s->member.who;

	return !text[0] || strstr(who->id, text) || strstr(who->account, text) ||
	       strstr(s->address, text);
}

/* By the names that it declared: who is looked for is not there. */
static void put_peers(struct survey_row *row, const struct session *s)
{
	const struct presence *who = s->member.who;
	struct str account, id;

	row->n_peers = who->n_peers;
	for (unsigned i = 0; i < row->n_peers && i < SURVEY_PEERS_MAX; i++) {
		struct survey_peer *p = &row->peers[i];
		p->key = who->peers[i];
		p->state = s->member.decls[i].told;
		if (!key_peer_name(str_of(who->account), s->peers[i], &account, &id))
			continue;
		memcpy(p->account, account.p, account.len); /* grammar: fits */
		memcpy(p->id, id.p, id.len);
	}
}

/* Named ends first, native ones behind; both in the order in which they came. */
static uint64_t place_of_row(const struct session *s)
{
	return s->number | (uint64_t)s->member.who->native << 62;
}

static void put_row(struct survey_row *row, const struct session *s)
{
	const struct presence *who = s->member.who;
	const struct link *link = lane_link(s->lane);
	struct lane_load load;

	lane_load(s->lane, &load);
	*row = (struct survey_row){
		.place = place_of_row(s),
		.transport = link_transport_name(link),
		.role = who->role,
		.native = who->native,
		.for_ms = loop_now_ms(s->all->loop) - s->joined_ms,
		.rtt_us = link_rtt_us(link),
		.packets_in = s->packets_in,
		.bytes_in = s->bytes_in,
		.packets_out = s->packets_out,
		.bytes_out = s->bytes_out,
		.n_ignored = lane_n_ignored(s->lane),
		.queue_packets = load.packets,
		.queue_bytes = load.bytes,
	};
	memcpy(row->drops, s->member.n_dropped, sizeof s->member.n_dropped);
	row->drops[DROP_OVER_LIMIT] = s->member.n_over_limit;
	row->drops[DROP_STALE] += load.n_stale;
	row->drops[DROP_QUEUE_FULL] += load.n_full;
	row->drops[DROP_LINK_CLOSED] += load.n_other;
	memcpy(row->account, who->account, sizeof row->account);
	memcpy(row->id, who->id, sizeof row->id);
	memcpy(row->address, s->address, sizeof row->address);
	put_peers(row, s);
}

/* ---- the walk ---- */

/* False: the page is full, and this would have been the next. */
static bool look(struct survey *v, const struct session *s)
{
	if (!s->member.joined || place_of_row(s) <= v->after || !matches(s, v->text))
		return true;
	if (v->n == v->cap) {
		v->more = true;
		return false;
	}
	put_row(&v->rows[v->n++], s);
	return true;
}

/* The next session, or NULL: that were all. */
static struct session *next(struct survey *v)
{
	if (v->at == v->of && v->of == &v->sessions->named) {
		v->of = &v->sessions->natives;
		v->at = v->of->next;
	}
	if (v->at == v->of)
		return NULL;
	struct session *s = container_of(v->at, struct session, node);
	v->at = v->at->next;
	return s;
}

static void on_turn(struct task *t)
{
	struct survey *v = container_of(t, struct survey, task);

	for (unsigned i = 0; i < SESSIONS_PER_TURN; i++) {
		const struct session *s = next(v);
		if (!s || !look(v, s)) {
			send_back(v);
			return;
		}
	}
	loop_defer(v->sessions->loop, LOOP_POST, &v->task);
}

void survey_take(struct survey *v, struct sessions *ss, const struct links *links)
{
	v->gone = !links;
	if (links) {
		v->n_links = links_count(links);
		v->n_tunnels = router_n_members(ss->router);
	}
	if (v->gone || !v->cap) {
		send_back(v);
		return;
	}
	v->sessions = ss;
	v->of = &ss->named;
	v->at = v->of->next;
	v->task.cb = on_turn;
	list_add_tail(&ss->surveys, &v->node);
	loop_defer(ss->loop, LOOP_POST, &v->task);
}

void surveys_pass(struct sessions *ss, struct list *session_node)
{
	list_each(it, tmp, &ss->surveys) {
		struct survey *v = container_of(it, struct survey, node);
		if (v->at == session_node)
			v->at = session_node->next;
	}
}

void surveys_end(struct sessions *ss)
{
	list_each(it, tmp, &ss->surveys) {
		struct survey *v = container_of(it, struct survey, node);
		loop_undefer(ss->loop, LOOP_POST, &v->task);
		v->gone = true;
		send_back(v);
	}
}
