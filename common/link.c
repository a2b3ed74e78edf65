#include "common/link_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/metric.h"

/* ---- states ---- */

static const uint8_t allowed[LINK_STATE_N] = {
	[LINK_SECURING] = 1 << LINK_GREETING | 1 << LINK_DEAD,
	[LINK_GREETING] = 1 << LINK_READY | 1 << LINK_DRAINING | 1 << LINK_DEAD,
	[LINK_READY] = 1 << LINK_DRAINING | 1 << LINK_DEAD,
	[LINK_DRAINING] = 1 << LINK_DEAD,
	[LINK_DEAD] = 0,
};

/* The only writer of state. */
static void link_set_state(struct link *l, enum link_state state)
{
	assert(allowed[l->state] & 1 << state);
	l->state = state;
	l->since_ms = loop_now_ms(l->links->loop);
	if (state == LINK_DEAD)
		metric_add(METRIC_CONNS_OPEN, -1);
}

enum link_state link_state(const struct link *l) { return l->state; }

/* ---- lanes ---- */

static struct lane *lane_new(struct link *l, struct chan *chan)
{
	struct lane *la = calloc(1, sizeof *la);

	if (!la)
		return NULL;
	la->link = l;
	la->chan = chan;
	if (chan)
		chan->up = la;
	la->queue.n_kept = (unsigned)l->ops->keeps_packets;
	la->sharing = l->side == SIDE_SERVER ? SHARED_BY_SENDERS : SHARED_BY_FLOWS;
	list_add_tail(&l->lanes, &la->node);
	l->n_lanes++;
	link_widen(l);
	return la;
}

static void free_dead_lanes(struct link *l)
{
	list_each(it, tmp, &l->dead_lanes) {
		list_del(it);
		free(container_of(it, struct lane, node));
	}
}

/* The lane's pointer is dead for its owner; memory stays while a transport
 * call that may still mention it is running. */
static void lane_kill(struct lane *la)
{
	struct link *l = la->link;

	lane_drop_queues(la, DROP_LINK_CLOSED);
	if (la->chan)
		la->chan->up = NULL;
	la->chan = NULL;
	list_del(&la->node);
	list_add_tail(&l->dead_lanes, &la->node);
	l->n_lanes--;
	link_widen(l);
	if (!l->inside)
		free_dead_lanes(l);
}

struct link *lane_link(const struct lane *la) { return la->link; }
void lane_set_user(struct lane *la, void *user) { la->user = user; }
void *lane_user(const struct lane *la) { return la->user; }

/* ---- closing ---- */

void link_close_with(struct link *l, enum close_why why, const char *text)
{
	if (l->state == LINK_DEAD)
		return;
	l->why = why;
	words_say(&l->text, "%s", text);
	link_set_state(l, LINK_DEAD);
	if (l->dirty) {
		list_del(&l->dirty_node);
		l->dirty = false;
	}
	list_del(&l->node);
	list_add_tail(&l->links->dead, &l->node);
	loop_defer(l->links->loop, LOOP_SWEEP, &l->links->sweep);
}

void link_close(struct link *l, enum close_why why) { link_close_with(l, why, close_text(why)); }

/* Says goodbye as far as the socket takes it. */
static void say_goodbye(struct link *l)
{
	struct buf *out = &l->links->out;

	if (!l->transport || l->conn_gone)
		return;
	l->ops->goodbye(l->transport, l->why);
	buf_clear(out);
	l->ops->flush(l->transport, out, TLS_RECORD_MAX);
	if (buf_len(out))
		conn_write(l->conn, buf_data(out), buf_len(out));
	buf_clear(out);
}

/* Of all workers, since the limit is; relaxed: a bound, not an order. */
static atomic_uint n_health;

static bool take_health(unsigned most)
{
	if (atomic_fetch_add_explicit(&n_health, 1, memory_order_relaxed) < most)
		return true;
	atomic_fetch_sub_explicit(&n_health, 1, memory_order_relaxed);
	return false;
}

static void no_health_client(struct link *l)
{
	if (l->is_health)
		atomic_fetch_sub_explicit(&n_health, 1, memory_order_relaxed);
	l->is_health = false;
}

static void bury(struct link *l, bool tell)
{
	const char *text = words_said(&l->text) ? words_text(&l->text) : close_text(l->why);

	list_each(it, tmp, &l->lanes) {
		struct lane *la = container_of(it, struct lane, node);
		if (tell)
			l->events->ended(l->owner, la, l->why, text);
		lane_kill(la);
	}
	link_forget_webs(l, tell);
	say_goodbye(l);
	if (!l->conn_gone)
		conn_close(l->conn);
	if (l->transport)
		l->ops->free(l->transport);
	metric_close(l->why);
	list_del(&l->node);
	l->links->n--;
	no_health_client(l);
	if (tell)
		l->events->closed(l->owner, l, l->why, text);
	free_dead_lanes(l);
	words_done(&l->text);
	free(l);
}

static void sweep(struct task *task)
{
	struct links *ls = container_of(task, struct links, sweep);

	list_each(it, tmp, &ls->dead)
		bury(container_of(it, struct link, node), true);
}

void link_settle(struct link *l, int rc)
{
	l->inside = false;
	if (rc < 0 && l->state != LINK_DEAD) {
		const char *text = l->ops->error_text(l->transport);
		enum close_why why = rc == -ETIMEDOUT ? CLOSE_TIMEOUT : close_of_err(rc);
		link_close_with(l, why, *text ? text : close_text(why));
	}
	if (l->state == LINK_DRAINING && l->n_lanes == 0)
		link_close(l, CLOSE_DRAINING);
	free_dead_lanes(l);
}

/* The same, and what there is to say goes out. */
void link_settle_and_say(struct link *l, int rc)
{
	link_settle(l, rc);
	if (l->state != LINK_DEAD && l->transport && l->ops->has_output(l->transport))
		link_mark_dirty(l);
}

/* A newcomer no more. */
static void greet(struct link *l)
{
	if (l->greeted || l->side == SIDE_CLIENT)
		return;
	l->greeted = true;
	if (l->events->greeted)
		l->events->greeted(l->owner, l);
}

/* Load balancers ask for health and nothing else, for ever. */
static void check_health_client(struct link *l)
{
	struct transport_stats stats;

	if (l->state != LINK_GREETING || l->greeted || l->side == SIDE_CLIENT)
		return;
	l->ops->stats(l->transport, &stats);
	if (!stats.companion || !take_health(l->limits->health_conns))
		return;
	l->is_health = true;
	greet(l);
}

/* ---- what the transport tells ---- */

static int on_hello(void *owner, struct chan *chan, const struct hello *hello)
{
	struct link *l = owner;

	if (l->state == LINK_DRAINING) {
		l->ops->refuse(chan, CLOSE_DRAINING, close_text(CLOSE_DRAINING));
		return ERR_CLOSED;
	}
	struct lane *la = lane_new(l, chan);
	if (!la) {
		l->ops->refuse(chan, CLOSE_NOMEM, close_text(CLOSE_NOMEM));
		return -ENOMEM;
	}
	return l->events->hello(l->owner, la, hello);
}

static void on_ready(void *owner, struct chan *chan, const struct welcome *welcome)
{
	struct link *l = owner;
	struct lane *la = chan->up;

	la->open = true;
	if (l->state == LINK_GREETING)
		link_set_state(l, LINK_READY);
	l->events->ready(l->owner, la, welcome);
}

static void on_packet(void *owner, struct chan *chan, struct pkt *p)
{
	struct link *l = owner;

	if (l->state == LINK_DEAD || !chan->up)
		pkt_drop(p, DROP_LINK_CLOSED);
	else
		l->events->packet(l->owner, chan->up, p);
	l->drowsy = false;
}

static void on_peer(void *owner, struct chan *chan, const struct peer_status *p)
{
	struct link *l = owner;
	l->events->peer(l->owner, chan->up, p);
}

static void on_notice(void *owner, struct chan *chan, const struct notice *n)
{
	struct link *l = owner;
	l->events->notice(l->owner, chan->up, n);
}

static void on_ended(void *owner, struct chan *chan, enum close_why why, const char *text)
{
	struct link *l = owner;
	struct lane *la = chan->up;

	if (!la)
		return;
	l->events->ended(l->owner, la, why, text);
	lane_kill(la);
	if (l->side == SIDE_CLIENT && l->n_lanes == 0) /* a client's link has no other purpose */
		link_close_with(l, why, text);
}

static void on_wish(void *owner, struct chan *chan, const struct wish *wish)
{
	struct link *l = owner;

	if (chan->up)
		l->events->wish(l->owner, chan->up, wish);
}

static void on_forward(void *owner, struct chan *chan, struct pkt *p)
{
	struct link *l = owner;

	if (l->state == LINK_DEAD || !chan->up)
		pkt_drop(p, DROP_LINK_CLOSED);
	else
		l->events->forward(l->owner, chan->up, p);
	l->drowsy = false;
}

static const struct transport_events transport_events = {
	on_hello, on_ready,   on_packet,       on_peer,         on_notice,      on_ended,
	on_wish,  on_forward, link_on_request, link_on_unasked, link_on_exposed
};

/* ---- what the conn tells ---- */

static void on_up(void *owner, const char *alpn)
{
	struct link *l = owner;

	if (l->state == LINK_DEAD) /* let go in this turn */
		return;
	const struct transport_ops *agreed = transport_of_alpn(alpn);
	if (l->side == SIDE_SERVER)
		l->ops = agreed;
	if (!agreed || strcmp(agreed->alpn, l->ops->alpn) != 0) {
		link_close_with(l, CLOSE_NOT_GRPC,
		                "HTTP/2 was not agreed in the TLS handshake (ALPN), maybe a box on the "
		                "way strips it");
		return;
	}
	if (l->side == SIDE_CLIENT)
		l->conf.has_meta_key = conn_peer_derp_key(l->conn, l->conf.meta_key.b);
	int rc = l->ops->open(&l->conf, l->side, loop_now_ms(l->links->loop), &transport_events, l,
	                      &l->transport);
	if (rc < 0) {
		link_close(l, close_of_err(rc));
		return;
	}
	l->local = *conn_local(l->conn);
	link_set_state(l, LINK_GREETING);
	link_mark_dirty(l);
	if (l->side == SIDE_CLIENT)
		l->events->up(l->owner, l);
}

static void on_bytes(void *owner, const uint8_t *data, size_t len)
{
	struct link *l = owner;

	l->busy = true;
	links_notice_stop(l->links);
	if (l->state == LINK_DEAD || !l->transport)
		return;
	l->inside = true;
	link_settle_and_say(l, l->ops->input(l->transport, data, len, loop_now_ms(l->links->loop)));
	if (l->state == LINK_DEAD)
		return;
	if (l->drowsy)
		link_mark_dirty(l); /* a heartbeat: pumped, it naps */
	link_rest(l, l->ops->rest_ms(l->transport));
	check_health_client(l);
}

static void on_room(void *owner) { link_mark_dirty(owner); }

static void on_conn_closed(void *owner, enum close_why why, const char *text)
{
	struct link *l = owner;
	const char *last = l->transport ? l->ops->error_text(l->transport) : ""; /* a GOAWAY's */

	l->conn_gone = true;
	link_close_with(l, why, *text ? text : *last ? last : close_text(why));
}

static const struct conn_events conn_events = { on_up, on_bytes, on_room, on_conn_closed };

/* ---- opening ---- */

struct links *links_new(struct loop *loop)
{
	struct links *ls = calloc(1, sizeof *ls);

	if (!ls)
		return NULL;
	ls->loop = loop;
	list_init(&ls->all);
	list_init(&ls->dirty);
	list_init(&ls->dead);
	ls->pump.cb = link_pump_dirty;
	ls->sweep.cb = sweep;
	if (links_start_ticking(ls) < 0) {
		free(ls);
		return NULL;
	}
	return ls;
}

void links_free(struct links *ls)
{
	if (!ls)
		return;
	list_each(it, tmp, &ls->all)
		link_close(container_of(it, struct link, node), CLOSE_LOCAL);
	list_each(it, tmp, &ls->dead)
		bury(container_of(it, struct link, node), false);
	loop_undefer(ls->loop, LOOP_PUMP, &ls->pump);
	loop_undefer(ls->loop, LOOP_SWEEP, &ls->sweep);
	timer_free(ls->tick);
	buf_done(&ls->out);
	conn_thread_done();
	link_queue_thread_done();
	free(ls);
}

unsigned links_count(const struct links *ls) { return ls->n; }

void links_each(struct links *ls, void (*visit)(struct link *, void *arg), void *arg)
{
	list_each(it, tmp, &ls->all)
		visit(container_of(it, struct link, node), arg);
}

int link_open(struct links *ls, const struct link_conf *conf, const struct link_events *events,
              void *owner, struct link **link_out)
{
	struct link *l = calloc(1, sizeof *l);

	if (!l) {
		close(conf->fd);
		return -ENOMEM;
	}
	l->links = ls;
	l->side = conf->side;
	l->ops = conf->ops;
	l->conf = conf->transport;
	l->events = events;
	l->owner = owner;
	l->since_ms = loop_now_ms(ls->loop);
	list_init(&l->lanes);
	list_init(&l->dead_lanes);
	list_init(&l->webs);
	list_init(&l->dirty_node);
	l->limits = conf->limits ? conf->limits : &limits_default;
	l->conf.limits = l->limits;
	l->conf.date = ls->date;
	const struct conn_conf conn = {
		.fd = conf->fd,
		.tls = conf->tls,
		.server_name = conf->server_name,
		.early = conf->early,
		.early_len = conf->early_len,
		.limits = l->limits,
	};
	int rc = conn_open(ls->loop, &conn, &conn_events, l, &l->conn);
	if (rc < 0) {
		free(l);
		return rc;
	}
	l->peer = *conn_peer(l->conn);
	l->conf.host_address = addr_text(&l->peer, l->peer_text);
	l->local = *conn_local(l->conn);
	list_add_tail(&ls->all, &l->node);
	ls->n++;
	metric_add(METRIC_CONNS_OPEN, 1);
	*link_out = l;
	return 0;
}

int link_dial(struct link *l, const struct hello *hello, struct lane **lane_out)
{
	struct lane *la;
	struct chan *chan;

	if (l->state == LINK_DEAD || !l->transport)
		return ERR_CLOSED;
	la = lane_new(l, NULL);
	if (!la)
		return -ENOMEM;
	int rc = l->ops->dial(l->transport, hello, &chan);
	if (rc < 0) {
		lane_kill(la);
		return rc;
	}
	la->chan = chan;
	chan->up = la;
	if (hello->watch)
		la->sharing = SHARED_BY_SENDERS; /* we are a relay there too */
	link_mark_dirty(l);
	*lane_out = la;
	return 0;
}

/* ---- one channel ---- */

int lane_admit(struct lane *la, const struct welcome *welcome)
{
	struct link *l = la->link;

	if (l->state == LINK_DEAD)
		return ERR_CLOSED;
	int rc = l->ops->admit(la->chan, welcome);
	if (rc == 0) {
		la->open = true;
		l->admitted_late = !l->inside;
		if (l->state == LINK_GREETING)
			link_set_state(l, LINK_READY);
		no_health_client(l);
		greet(l);
	}
	link_mark_dirty(l);
	return rc;
}

void lane_refuse(struct lane *la, enum close_why why, const char *text)
{
	struct link *l = la->link;
	struct chan *chan = la->chan;

	lane_kill(la); /* first: refuse() frees the channel */
	if (l->state != LINK_DEAD)
		l->ops->refuse(chan, why, text);
	link_mark_dirty(l);
}

int lane_tell_peer(struct lane *la, const struct peer_status *p)
{
	if (la->link->state == LINK_DEAD)
		return ERR_CLOSED;
	int rc = la->link->ops->tell_peer(la->chan, p);
	link_mark_dirty(la->link);
	return rc;
}

int lane_tell_notice(struct lane *la, const struct notice *n)
{
	if (la->link->state == LINK_DEAD)
		return ERR_CLOSED;
	int rc = la->link->ops->tell_notice(la->chan, n);
	link_mark_dirty(la->link);
	return rc;
}

void lane_end(struct lane *la, enum close_why why, const char *text)
{
	struct link *l = la->link;
	struct chan *chan = la->chan;

	lane_kill(la); /* first: end() frees the channel */
	if (l->state != LINK_DEAD)
		l->ops->end(chan, why, text);
	link_mark_dirty(l);
	if (l->state == LINK_DRAINING && l->n_lanes == 0 && !l->inside)
		link_close(l, CLOSE_DRAINING);
}

void link_drain(struct link *l)
{
	if (l->state == LINK_SECURING) {
		link_close(l, CLOSE_DRAINING);
	} else if (l->state < LINK_DRAINING) {
		l->ops->goodbye(l->transport, CLOSE_DRAINING);
		link_set_state(l, LINK_DRAINING);
		link_mark_dirty(l);
	}
}

void link_tell_serving(struct link *l, bool serving)
{
	l->conf.serving = serving;
	if (l->transport && l->state != LINK_DEAD) {
		l->ops->tell_serving(l->transport, serving);
		link_mark_dirty(l);
	}
}

void link_probe(struct link *l, uint32_t within_ms)
{
	if (l->transport && l->state != LINK_DEAD) {
		l->ops->probe(l->transport, loop_now_ms(l->links->loop), within_ms);
		link_mark_dirty(l);
	}
}

void *link_owner(const struct link *l) { return l->owner; }
void link_set_user(struct link *l, void *user) { l->user = user; }
void *link_user(const struct link *l) { return l->user; }
const struct addr *link_peer(const struct link *l) { return &l->peer; }
const struct addr *link_local(const struct link *l) { return &l->local; }
const char *link_transport_name(const struct link *l) { return l->ops ? l->ops->name : "-"; }
unsigned link_n_lanes(const struct link *l) { return l->n_lanes; }

int64_t link_rtt_us(const struct link *l)
{
	struct transport_stats stats = { .rtt_us = -1 };

	if (l->transport)
		l->ops->stats(l->transport, &stats);
	return stats.rtt_us;
}
