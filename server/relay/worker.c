#include "server/relay/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metric.h"
#include "common/base/pkt.h"
#include "common/link.h"
#include "common/net/listener.h"
#include "server/relay/admit.h"
#include "server/auth.h"
#include "server/relay/derp_verify.h"
#include "server/relay/mail.h"
#include "server/relay/mates.h"
#include "server/relay/mesh.h"
#include "server/relay/native_policy.h"
#include "server/relay/penalty.h"
#include "server/relay/session.h"
#include "server/relay/shortage.h"
#include "server/relay/survey.h"

enum {
	LISTENERS_MAX = 16,
	WARN_MS = 10000, /* between warnings of one kind */
	LEAVE_MS = 1000, /* after the ends were told to go: time for GOAWAY and close_notify */
};

enum stage { SERVING, TOLD, LEAVING };

struct worker {
	const struct worker_conf *conf;
	struct loop *loop;
	struct mailbox *mailbox;
	struct letter *last; /* for MAIL_ENDED */
	struct links *links;
	struct limits limits;      /* of all links, those that are open too */
	struct map newcomers;      /* struct newcomer by its number; also the user of its link */
	struct log_limit warnings; /* that newcomers are turned away */
	struct mates mates;
	struct mesh *mesh; /* of the first worker; NULL: none */
	struct sessions sessions;
	struct listener *listeners[LISTENERS_MAX];
	unsigned n_listeners;
	struct tls_ctx *tls;
	struct native_policy *policy;
	struct derp_verify *verify; /* NULL: no URL is asked */
	struct timer *stage_timer;
	enum stage stage;
	pthread_t thread;
};

/* ---- links ---- */

static bool is_deserted(const struct worker *w)
{
	return links_count(w->links) == mesh_n_links(w->mesh);
}

struct newcomer { /* a link without an admitted end */
	uint64_t number;
	struct link *link;
};

static void on_greeted(void *owner, struct link *l)
{
	struct worker *w = container_of(owner, struct worker, sessions);
	struct newcomer *nc = link_user(l);

	if (!nc)
		return;
	admit_leave(w->conf->admit, nc->number);
	map_del(&w->newcomers, &nc->number);
	link_set_user(l, NULL);
	free(nc);
}

static void on_closed(void *owner, struct link *l, enum close_why why, const char *text)
{
	struct worker *w = container_of(owner, struct worker, sessions);
	enum log_level level = close_is_noteworthy(why) ? LOG_INFO : LOG_DEBUG;
	bool stranger = link_user(l) != NULL;
	char peer[ADDR_TEXT_LEN];

	on_greeted(owner, l);
	if (why == CLOSE_FLOOD)
		sessions_offend(&w->sessions, l, OFFENCE_FLOOD);
	w->sessions.known = NULL; /* another link may come to lie there */
	if (log_wants(level) && (!stranger || sessions_may_log(&w->sessions)))
		log_at(level, "connection closed from=%s reason=%s: %s",
		       addr_text(link_peer(l), peer), close_label(why), text);
	if (w->stage != SERVING && is_deserted(w))
		loop_stop(w->loop, 0);
	else if (w->stage == TOLD && !sessions_may_leave(&w->sessions))
		timer_set(w->stage_timer, 0);
}

static int on_request(void *owner, struct link *l, struct web *web, const struct web_request *q)
{
	struct worker *w = container_of(owner, struct worker, sessions);

	return login_desk_ask(&w->sessions.desk, l, web, q);
}

static void on_unasked(void *owner, struct web *web)
{
	struct worker *w = container_of(owner, struct worker, sessions);

	login_desk_unasked(&w->sessions.desk, web);
}

static void on_exposed(void *owner, struct link *l, const char *token_id)
{
	struct worker *w = container_of(owner, struct worker, sessions);
	char peer[ADDR_TEXT_LEN];

	if (sessions_may_log(&w->sessions))
		log_warn("a token came in the address of a request and was refused: revoke it, tunn "
		         "token revoke %s (from=%s)",
		         *token_id ? token_id : "ID", addr_text(link_peer(l), peer));
}

static const struct link_events link_events = {
	.hello = session_on_hello,
	.packet = session_on_packet,
	.ended = session_on_ended,
	.closed = on_closed,
	.greeted = on_greeted,
	.wish = session_on_wish,
	.forward = session_on_forward,
	.request = on_request,
	.unasked = on_unasked,
	.exposed = on_exposed,
};

static void refuse(int fd)
{
	struct linger now = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* nothing stays behind */
	close(fd);
}

static void turn_away(struct worker *w, int fd, const struct addr *peer)
{
	char from[ADDR_TEXT_LEN];
	unsigned unsaid;

	refuse(fd);
	metric_add(METRIC_CONNS_TURNED_AWAY, 1);
	if (!log_limit_pass(&w->warnings, loop_now_ms(w->loop), 1, WARN_MS, &unsaid))
		return;
	log_warn("turning away new connections, %u since it was last said, now one from %s: %u wait "
	         "for their registration (limits.newcomers %u, limits.newcomers-per-network %u), or "
	         "they come too fast (limits.accept-rate %u)",
	         unsaid, addr_text(peer, from), admit_count(w->conf->admit), w->limits.newcomers,
	         w->limits.newcomers_per_net, w->limits.accepts_per_s);
}

/* It may have been admitted meanwhile, or be gone. */
static bool evict(struct worker *w, uint64_t number, enum close_why why)
{
	struct newcomer *nc = map_get(&w->newcomers, &number);

	if (nc)
		link_close(nc->link, why);
	return nc != NULL;
}

static int open_newcomer(struct worker *w, int fd, uint64_t number)
{
	struct newcomer *nc = calloc(1, sizeof *nc);
	struct link_conf conf = {
		.side = SIDE_SERVER,
		.fd = fd,
		.tls = w->tls,
		.transport = { .node = w->conf->node,
		               .serving = w->stage == SERVING,
		               .reflection = w->conf->reflection,
		               .derp = w->conf->derp },
		.limits = &w->limits,
	};

	if (!nc) {
		close(fd);
		return -ENOMEM;
	}
	nc->number = number;
	int rc = map_put(&w->newcomers, &nc->number, nc);
	if (rc < 0)
		close(fd);
	else if ((rc = link_open(w->links, &conf, &link_events, &w->sessions, &nc->link)) < 0)
		map_del(&w->newcomers, &nc->number);
	if (rc < 0)
		free(nc);
	else
		link_set_user(nc->link, nc);
	return rc;
}

static void on_accepted(void *owner, int fd, const struct addr *peer)
{
	struct worker *w = owner;
	struct admit *admit = w->conf->admit;
	struct newcomer_id evicted;

	metric_add(METRIC_CONNS_ACCEPTED, 1);
	if (penalty_refuses(w->conf->penalty, peer, loop_now_ms(w->loop))) {
		metric_add(METRIC_CONNS_PENALISED, 1);
		refuse(fd);
		return;
	}
	if (shortage_turns_away(w->conf->shortage)) { /* the main thread has said it */
		metric_add(METRIC_MEMORY_TURNED_AWAY, 1);
		refuse(fd);
		return;
	}
	uint64_t number = admit_enter(admit, peer, w->mates.self, loop_now_ms(w->loop), &evicted);
	if (evicted.number && evicted.worker == w->mates.self)
		evict(w, evicted.number, CLOSE_CROWDED);
	else if (evicted.number)
		mates_evict(&w->mates, evicted.worker, evicted.number);
	if (!number) {
		turn_away(w, fd, peer);
	} else if (open_newcomer(w, fd, number) < 0) {
		metric_add(METRIC_ACCEPT_ERRORS, 1);
		admit_leave(admit, number);
	}
}

/* ---- draining ---- */

static void not_serving(struct link *l, void *arg)
{
	(void)arg;
	link_tell_serving(l, false);
}

static void drain_link(struct link *l, void *arg)
{
	(void)arg;
	link_drain(l);
}

static void close_link(struct link *l, void *arg)
{
	(void)arg;
	link_close(l, CLOSE_DRAINING);
}

/* Health first, then the ends, the listener, GOAWAY; then time to leave, for who can be told. */
static void drain(struct worker *w, uint32_t within_ms)
{
	if (w->stage != SERVING)
		return;
	w->stage = TOLD;
	links_each(w->links, not_serving, NULL);
	sessions_tell_draining(&w->sessions, within_ms);
	for (unsigned i = 0; i < w->n_listeners; i++)
		listener_close(w->listeners[i]);
	w->n_listeners = 0;
	mesh_drain(w->mesh);
	links_each(w->links, drain_link, NULL);
	if (is_deserted(w))
		loop_stop(w->loop, 0);
	else
		timer_set(w->stage_timer, sessions_may_leave(&w->sessions) ? within_ms : 0);
}

static void on_stage(void *arg)
{
	struct worker *w = arg;

	if (w->stage == TOLD) {
		w->stage = LEAVING;
		sessions_end_all(&w->sessions, CLOSE_DRAINING);
		links_each(w->links, close_link, NULL);
		timer_set(w->stage_timer, LEAVE_MS);
	} else {
		loop_stop(w->loop, 0);
	}
}

/* ---- mail ---- */

static void take_news(struct worker *w, struct worker_news *news)
{
	tls_ctx_unref(w->tls); /* falls with its last link */
	w->tls = news->tls;
	sessions_take_policy(&w->sessions, news->policy);
	native_policy_unref(w->policy);
	w->policy = news->policy;
	w->limits = news->limits;
	free(news);
}

static void answer(const struct worker *w, uint64_t round)
{
	const struct mail alive = { .kind = MAIL_ALIVE, .number = round };

	if (w->conf->reports)
		mailbox_post(w->conf->reports, &alive); /* else it is asked again */
}

static void on_joined(struct worker *w, struct presence *p)
{
	char id[sizeof p->id];

	memcpy(id, p->id, sizeof id);
	if (router_on_join(w->sessions.router, p, loop_now_ms(w->loop)) < 0)
		log_error("out of memory: the ends of worker %u do not reach %s until it comes "
		          "again",
		          w->mates.self, id);
}

/* Memory is short. */
static void shed(struct worker *w, unsigned n_ends)
{
	struct shortage *s = w->conf->shortage;
	uint64_t numbers[SHORTAGE_NEWCOMERS];
	unsigned n = admit_newest(w->conf->admit, w->mates.self, numbers, SHORTAGE_NEWCOMERS);

	for (unsigned i = 0; i < n; i++)
		metric_add(METRIC_MEMORY_NEWCOMERS, evict(w, numbers[i], CLOSE_SHED));
	sessions_shed(&w->sessions, atomic_load_explicit(&s->rank, memory_order_relaxed), n_ends,
	              &s->lowest[w->mates.self]);
}

static void on_mail(void *owner, struct mail *m)
{
	struct worker *w = owner;
	struct router *router = w->sessions.router;
	uint64_t now_ms = loop_now_ms(w->loop);

	switch ((enum mail_kind)m->kind) {
	case MAIL_AUTH:
		session_on_auth(&w->sessions, m->number, m->ptr);
		identity_free(m->ptr);
		break;
	case MAIL_ACCOUNT:
		sessions_on_account(&w->sessions, m->ptr);
		account_unref(m->ptr);
		break;
	case MAIL_PERCENT:
		sessions_on_percent(&w->sessions, m->ptr, (unsigned)m->number);
		account_unref(m->ptr);
		break;
	case MAIL_REVOKED:
		sessions_on_revoked(&w->sessions, m->ptr);
		free(m->ptr);
		break;
	case MAIL_DERP: sessions_take_payer(&w->sessions, m->ptr); break;
	case MAIL_CONFIG: take_news(w, m->ptr); break;
	case MAIL_ALIVE: answer(w, m->number); break;
	case MAIL_DRAIN: drain(w, (uint32_t)m->number); break;
	case MAIL_EVICT: evict(w, m->number, CLOSE_CROWDED); break;
	case MAIL_SHED: shed(w, (unsigned)m->number); break;
	case MAIL_JOIN: on_joined(w, m->ptr); break;
	case MAIL_SURVEY: survey_take(m->ptr, &w->sessions, w->links); break;
	case MAIL_LEAVE: router_on_leave(router, m->ptr, now_ms); break;
	case MAIL_CLOSE: router_on_close(router, m->ptr); break;
	case MAIL_LOGIN: login_desk_on_answer(&w->sessions.desk, m->number, m->ptr); break;
	case MAIL_FIGHT: router_on_fight(router, m->ptr, now_ms); break;
	case MAIL_ENDED: break; /* ours to say */
	}
}

static void on_packet(void *owner, struct pkt *p)
{
	struct worker *w = owner;

	router_deliver(w->sessions.router, p);
}

/* ---- life ---- */

static int set_up(struct worker *w)
{
	struct router_conf router = { &session_router_events, &w->mates, w->conf->seq };

	w->last = letter_new();
	w->loop = loop_new();
	if (!w->last || !w->loop || mates_init(&w->mates, w->loop) < 0)
		return -ENOMEM;
	w->links = links_new(w->loop);
	w->stage_timer = timer_new(w->loop, on_stage, w);
	if (sessions_init(&w->sessions, w->loop) < 0)
		return -ENOMEM;
	w->sessions.node = w->conf->node;
	w->sessions.penalty = w->conf->penalty;
	if (w->policy->verify_url) {
		w->verify = derp_verify_new(w->loop, w->policy->verify_url, w->conf->verify_tls);
		w->sessions.verify = w->verify;
	}
	w->sessions.router = router_new(&router);
	if (!w->links || !w->stage_timer || !w->sessions.router ||
	    (w->policy->verify_url && !w->verify))
		return -ENOMEM;
	return mailbox_new(w->loop, on_mail, on_packet, w, &w->mailbox);
}

int worker_new(const struct worker_conf *conf, struct worker **worker_out)
{
	struct worker *w = calloc(1, sizeof *w);

	if (!w)
		return -ENOMEM;
	w->conf = conf;
	w->tls = tls_ctx_ref(conf->tls);
	w->policy = native_policy_ref(conf->policy);
	w->limits = conf->limits;
	map_init(&w->newcomers, sizeof(uint64_t));
	login_desk_init(&w->sessions.desk);
	int rc = set_up(w);
	if (rc < 0) {
		worker_free(w);
		return rc;
	}
	w->sessions.mailbox = w->sessions.desk.mailbox = w->mailbox;
	w->sessions.own_key = conf->derp.public;
	sessions_take_policy(&w->sessions, w->policy);
	*worker_out = w;
	return 0;
}

void worker_know_mates(struct worker *w, struct worker *const *all, unsigned n, unsigned self)
{
	w->mates.n = n;
	w->mates.self = self;
	router_set_worker(w->sessions.router, self);
	w->sessions.worker = self;
	for (unsigned i = 0; i < n; i++)
		w->mates.box[i] = all[i]->mailbox;
}

int worker_listen(struct worker *w, int fd, struct addr *bound_out)
{
	if (w->n_listeners == LISTENERS_MAX) {
		close(fd);
		return -EMFILE;
	}
	int rc = listener_open(w->loop, fd, on_accepted, w, &w->listeners[w->n_listeners],
	                       bound_out);
	if (rc == 0)
		w->n_listeners++;
	return rc;
}

static void *run(void *arg)
{
	struct worker *w = arg;
	const struct mail ended = { .kind = MAIL_ENDED };

	mesh_start(w->mesh);
	loop_run(w->loop);
	login_desk_close(&w->sessions.desk);
	links_free(w->links); /* here: its packets belong to this thread's pool */
	w->links = NULL;
	pkt_pool_drain();
	buf_pool_drain();
	if (w->conf->reports) {
		mailbox_post_letter(w->conf->reports, w->last, &ended);
		w->last = NULL;
	}
	return NULL;
}

static int join_mesh(struct worker *w)
{
	const struct mesh_place here = { w->loop, w->links, w->sessions.router, &w->limits };

	if (!w->conf->mesh || w->mates.self != 0)
		return 0;
	return mesh_new(w->conf->mesh, &here, &w->mesh);
}

int worker_start(struct worker *w)
{
	int rc = join_mesh(w);

	if (rc < 0)
		return rc;
	w->sessions.auth = w->sessions.desk.auth = w->conf->auth;
	return -pthread_create(&w->thread, NULL, run, w);
}

struct mailbox *worker_mailbox(struct worker *w) { return w->mailbox; }
void worker_join(struct worker *w) { pthread_join(w->thread, NULL); }

void worker_free(struct worker *w)
{
	struct newcomer *nc;
	size_t pos = 0;

	if (!w)
		return;
	for (unsigned i = 0; i < w->n_listeners; i++)
		listener_close(w->listeners[i]);
	links_free(w->links);
	w->links = NULL; /* surveys that were never read still come */
	mesh_free(w->mesh);
	if (w->mailbox)
		mailbox_free(w->mailbox);
	login_desk_close(&w->sessions.desk);
	letter_free(w->last);
	timer_free(w->stage_timer);
	sessions_done(&w->sessions);
	derp_verify_free(w->verify);
	router_free(w->sessions.router);
	mates_done(&w->mates);
	loop_free(w->loop);
	tls_ctx_unref(w->tls);
	native_policy_unref(w->policy);
	while ((nc = map_next(&w->newcomers, &pos)) != NULL)
		free(nc);
	map_done(&w->newcomers);
	free(w);
}
