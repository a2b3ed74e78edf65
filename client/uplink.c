#include "client/uplink_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/retry.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/metric.h"

enum {
	DIAL_MS = 20000,
	DIAL_OTHERWISE_MS = 5000, /* where another place is tried otherwise */
	TEXT_LEN = 512,
};

/* -- the state machine */

static const char *const state_names[] = { "idle",  "dialing", "securing", "greeting",
	                                   "ready", "waiting", "ended" };
static_assert(sizeof state_names / sizeof *state_names == UPLINK_STATE_N, "a name for every state");

#define TO(state) (1u << UPLINK_##state)
static const unsigned moves[UPLINK_STATE_N] = {
	[UPLINK_IDLE] = TO(DIALING) | TO(ENDED),
	[UPLINK_DIALING] = TO(SECURING) | TO(WAITING) | TO(ENDED),
	[UPLINK_SECURING] = TO(GREETING) | TO(WAITING) | TO(ENDED),
	[UPLINK_GREETING] = TO(READY) | TO(WAITING) | TO(ENDED),
	[UPLINK_READY] = TO(WAITING) | TO(ENDED),
	[UPLINK_WAITING] = TO(DIALING) | TO(ENDED),
	[UPLINK_ENDED] = 0,
};
#undef TO

bool uplink_may_move(enum uplink_state from, enum uplink_state to) { return moves[from] >> to & 1; }
enum uplink_state uplink_state(const struct uplink *u) { return u->state; }
const struct way *uplink_way(const struct uplink *u) { return ways_now(&u->ways); }

static void set_state(struct uplink *u, enum uplink_state to)
{
	assert(uplink_may_move(u->state, to)); /* our own moves, no input decides them */
	log_debug("uplink %s -> %s", state_names[u->state], state_names[to]);
	u->state = to;
}

/* -- attempts and their ends */

static uint32_t random_bits(void)
{
	uint32_t r;

	crypto_random(&r, sizeof r);
	return r;
}

static struct dialler *dialler(const struct uplink *u) { return u->diallers[u->ways.at]; }

static void dial(struct uplink *u)
{
	timer_clear(u->wait);
	set_state(u, UPLINK_DIALING);
	u->attempt_ms = loop_now_ms(u->loop);
	dialler_start(dialler(u), ways_have_another(&u->ways) ? DIAL_OTHERWISE_MS : DIAL_MS);
}

static void on_wait_over(void *arg)
{
	struct uplink *u = arg;

	u->held_off = false;
	dial(u);
}

void uplink_wait(struct uplink *u, uint32_t delay_ms)
{
	if (u->state != UPLINK_WAITING)
		set_state(u, UPLINK_WAITING);
	u->due_ms = loop_now_ms(u->loop) + delay_ms;
	timer_set(u->wait, delay_ms);
}

/* Gives up what is there, attempt or connection. */
static void let_go(struct uplink *u)
{
	struct link *link = u->link;

	dialler_stop(dialler(u));
	timer_clear(u->drain);
	u->link = NULL;
	u->lane = NULL;
	if (link)
		link_close(link, CLOSE_LOCAL);
}

static void finish(struct uplink *u, int exit_code, enum close_why why, const char *text)
{
	timer_clear(u->wait);
	timer_clear(u->tick);
	set_state(u, UPLINK_ENDED);
	u->events->over(u->owner, exit_code, why, text);
}

static bool may_name_host(const struct uplink *u, const char *text)
{
	static const char needed[] = "id needed";

	return !u->host_named && !u->conf.hello.id.len && u->conf.fallback_id.len &&
	       strncmp(text, needed, sizeof needed - 1) == 0;
}

static void name_host(struct uplink *u)
{
	u->host_named = true;
	u->conf.hello.id = u->conf.fallback_id;
	uplink_wait(u, 0);
}

static int64_t reset_in_ms(const struct uplink *u)
{
	if (!u->resets_unix_s)
		return 0;
	int64_t now_s = clock_unix_ms() / 1000;
	if (u->resets_unix_s <= now_s)
		return 1;
	int64_t s = u->resets_unix_s - now_s; /* may be centuries */
	return s < RETRY_QUOTA_MAX_MS / 1000 ? s * 1000 : RETRY_QUOTA_MAX_MS;
}

static bool is_steady(const struct uplink *u)
{
	return u->state == UPLINK_READY && loop_now_ms(u->loop) - u->ready_ms >= RETRY_STEADY_MS;
}

/* No way is left to be tried at once. */
static void give_up(struct uplink *u, enum close_why why, const char *words)
{
	struct retry_end e = { .why = why,
		               .was_steady = is_steady(u),
		               .was_ever_ready = u->n_ready > 0,
		               .once = u->conf.once,
		               .may_name_host = may_name_host(u, words),
		               .reset_in_ms = reset_in_ms(u) };
	struct retry_next next = retry_after(&e, &u->backoff, random_bits());
	bool was_ready = u->state == UPLINK_READY;

	let_go(u);
	if (was_ready)
		ways_begin_anew(&u->ways);
	if (next.ends) {
		finish(u, next.exit_code, why, words);
	} else if (e.may_name_host && why == CLOSE_INVALID) {
		name_host(u);
	} else {
		u->held_off = why == CLOSE_QUOTA || why == CLOSE_FIGHT;
		uplink_wait(u, next.delay_ms);
		u->events->lost(u->owner, why, words, next.delay_ms);
	}
}

/* By the relay itself: it is the same by every way. */
static bool is_refusal(enum close_why why)
{
	enum verdict v = close_verdict(why);

	return v == VERDICT_FINAL || v == VERDICT_WAIT || why == CLOSE_TUNNELS ||
	       why == CLOSE_FIGHT;
}

/* Another way may lead where this one ended: not if the relay itself refused us. */
static bool turn(struct uplink *u, enum close_why why, bool is_doubtful, const char *words)
{
	const struct way *before = ways_now(&u->ways);

	if (u->state == UPLINK_READY || is_refusal(why))
		return false;
	if (is_doubtful)
		dialler_judge(dialler(u), false);
	let_go(u);
	/* Who shows the wrong certificate shows it to another protocol too. */
	if (!ways_turn(&u->ways, is_doubtful && why != CLOSE_UNTRUSTED))
		return false;
	uplink_wait(u, 0);
	u->events->turned(u->owner, before, why, words);
	return true;
}

/* The attempt or the connection came to an end that we did not choose. */
static void lost(struct uplink *u, enum close_why why, const char *text)
{
	char words[TEXT_LEN]; /* the text may go with the link */
	bool is_doubtful = u->state == UPLINK_SECURING || u->state == UPLINK_GREETING;

	snprintf(words, sizeof words, "%s", text);
	if (turn(u, why, is_doubtful, words))
		return;
	give_up(u, why, words);
}
void uplink_begin_anew(struct uplink *u, const char *reason)
{
	bool was_ready = u->state == UPLINK_READY;

	backoff_reset(&u->backoff);
	let_go(u);
	ways_begin_anew(&u->ways);
	uplink_wait(u, 0);
	if (was_ready)
		u->events->lost(u->owner, CLOSE_LOCAL, reason, 0);
}

/* -- the dialler */

static void on_connected(void *owner, int fd, const struct addr *peer, const uint8_t *early,
                         size_t early_len);
static void on_dial_failed(void *owner, enum close_why why, const char *text)
{
	struct uplink *u = owner;
	const char *device = path_held(u->path);
	char words[TEXT_LEN];

	if (device[0])
		snprintf(words, sizeof words,
		         "%s (held on device %s, the route leads into a tunnel)", text, device);
	else
		snprintf(words, sizeof words, "%s", text);
	lost(u, why, words);
}

static const struct dial_events dial_events = { on_connected, on_dial_failed };

/* -- the link */

/* Lanes and links outlive our interest in them until the sweep. */
static bool is_current(const struct uplink *u, const struct lane *lane)
{
	return lane && lane == u->lane;
}

static void on_up(void *owner, struct link *link)
{
	struct uplink *u = owner;

	if (link != u->link)
		return;
	int rc = link_dial(link, &u->conf.hello, &u->lane);
	if (rc)
		lost(u, close_of_err(rc), err_text(rc));
	else
		set_state(u, UPLINK_GREETING);
}

static int learn_keys(struct uplink *u, const struct welcome *w)
{
	map_done(&u->by_key);
	for (unsigned i = 0; i < w->n_peers; i++) {
		u->keys[i] = w->peer_keys[i];
		if (!map_get(&u->by_key, &u->keys[i]) &&
		    map_put(&u->by_key, &u->keys[i], &u->keys[i]))
			return -ENOMEM;
	}
	return 0;
}

static void send_parked(struct uplink *u)
{
	struct pkt *p;
	unsigned peer;

	while ((p = parked_take(&u->parked, loop_now_ms(u->loop), &peer)))
		uplink_send(u, peer, p);
}

static void become_ready(struct uplink *u, const struct welcome *w)
{
	set_state(u, UPLINK_READY);
	u->ready_ms = loop_now_ms(u->loop);
	dialler_judge(dialler(u), true);
	ways_worked(&u->ways);
	u->resets_unix_s = 0;
	if (u->n_ready++)
		metric_add(METRIC_RECONNECTS, 1);
	u->events->ready(u->owner, u->n_ready, w, w->id.len ? w->id : u->conf.hello.id);
	path_connected(u->path, link_peer(u->link));
	send_parked(u);
}

static void on_ready(void *owner, struct lane *lane, const struct welcome *w)
{
	struct uplink *u = owner;

	if (!is_current(u, lane) || u->state != UPLINK_GREETING)
		return;
	if (w->n_peers != u->conf.hello.n_peers)
		lost(u, CLOSE_PROTOCOL, "the relay's answer does not fit the peers we named");
	else if (learn_keys(u, w))
		lost(u, CLOSE_NOMEM, close_text(CLOSE_NOMEM));
	else
		become_ready(u, w);
}

static bool peer_of_key(const struct uplink *u, const struct key *key, unsigned *peer_out)
{
	const struct key *k = map_get(&u->by_key, key);

	if (!k)
		return false;
	*peer_out = (unsigned)(k - u->keys);
	return true;
}

static void uplink_on_packet(void *owner, struct lane *lane, struct pkt *p)
{
	struct uplink *u = owner;
	unsigned peer;

	if (!is_current(u, lane))
		pkt_drop(p, DROP_LINK_CLOSED);
	else if (!peer_of_key(u, &p->src, &peer))
		pkt_drop(p, DROP_NOT_DECLARED);
	else
		u->events->packet(u->owner, peer, p);
}

static void on_peer(void *owner, struct lane *lane, const struct peer_status *status)
{
	struct uplink *u = owner;
	unsigned peer;

	if (is_current(u, lane) && peer_of_key(u, &status->key, &peer))
		u->events->peer(u->owner, peer, status);
}

static void on_notice(void *owner, struct lane *lane, const struct notice *n)
{
	struct uplink *u = owner;

	if (!is_current(u, lane))
		return;
	/* It comes twice, with other times: in our stream and as GOAWAY. */
	if (n->kind == NOTICE_DRAINING && u->state == UPLINK_READY && !timer_is_set(u->drain))
		timer_set(u->drain, n->within_ms / 2);
	if (n->kind == NOTICE_TOO_MANY_PINGS)
		u->beat_ms = n->beat_ms;
	if (n->kind == NOTICE_QUOTA)
		u->resets_unix_s = n->resets_unix_s;
	u->events->notice(u->owner, n);
}

static void on_drain_over(void *arg) { lost(arg, CLOSE_DRAINING, close_text(CLOSE_DRAINING)); }

static void on_ended(void *owner, struct lane *lane, enum close_why why, const char *text)
{
	struct uplink *u = owner;

	if (is_current(u, lane))
		lost(u, why, text);
}

static void on_closed(void *owner, struct link *link, enum close_why why, const char *text)
{
	struct uplink *u = owner;

	if (u->last && link == u->last) {
		u->last = NULL;
		u->events->over(u->owner, 0, CLOSE_LOCAL, "");
	} else if (u->link && link == u->link) {
		u->link = NULL; /* it is dead already */
		lost(u, why, text);
	}
}

static const struct link_events link_events = {
	.up = on_up,
	.ready = on_ready,
	.packet = uplink_on_packet,
	.peer = on_peer,
	.notice = on_notice,
	.ended = on_ended,
	.closed = on_closed,
};

static void on_connected(void *owner, int fd, const struct addr *peer, const uint8_t *early,
                         size_t early_len)
{
	struct uplink *u = owner;
	const struct way *way = ways_now(&u->ways);
	struct link_conf conf = { .side = SIDE_CLIENT,
		                  .fd = fd,
		                  .tls = way->tls,
		                  .server_name = way->dial.host,
		                  .early = early,
		                  .early_len = early_len,
		                  .ops = way->ops,
		                  .transport = way->transport };

	(void)peer;
	conf.transport.beat_ms = u->beat_ms;
	set_state(u, UPLINK_SECURING);
	int rc = link_open(u->links, &conf, &link_events, u, &u->link);
	if (rc)
		lost(u, close_of_err(rc), err_text(rc));
}

/* -- for the owner */

static bool make_diallers(struct uplink *u)
{
	u->diallers = calloc(u->ways.n, sizeof *u->diallers);
	for (unsigned i = 0; u->diallers && i < u->ways.n; i++)
		if (!(u->diallers[i] = dialler_new(u->loop, &u->ways.v[i].dial, &dial_events, u)))
			return false;
	return u->diallers != NULL;
}

/* All ways leave this machine alike. */
static bool make_parts(struct uplink *u)
{
	struct path_conf path = { .fwmark = u->ways.v[0].dial.fwmark,
		                  .is_fixed = u->ways.v[0].dial.bind_device != NULL };

	u->links = links_new(u->loop);
	u->path = path_new(u->loop, &path, &uplink_path_events, u);
	u->wait = timer_new(u->loop, on_wait_over, u);
	u->drain = timer_new(u->loop, on_drain_over, u);
	u->tick = timer_new(u->loop, uplink_on_tick, u);
	u->keys = calloc(u->conf.hello.n_peers, sizeof *u->keys);
	return u->links && make_diallers(u) && u->path && u->wait && u->drain && u->tick && u->keys;
}

struct uplink *uplink_new(struct loop *loop, const struct uplink_conf *conf,
                          const struct uplink_events *events, void *owner)
{
	struct uplink *u = calloc(1, sizeof *u);

	if (!u)
		return NULL;
	u->loop = loop;
	u->conf = *conf;
	u->ways = (struct ways){ .v = conf->ways, .n = conf->n_ways };
	u->events = events;
	u->owner = owner;
	map_init(&u->by_key, KEY_LEN);
	if (!make_parts(u)) {
		uplink_free(u);
		return NULL;
	}
	return u;
}

void uplink_start(struct uplink *u)
{
	u->ticked_ms = loop_now_ms(u->loop);
	timer_set(u->tick, UPLINK_TICK_MS);
	dial(u);
}

void uplink_send(struct uplink *u, unsigned peer, struct pkt *p)
{
	if (u->state == UPLINK_ENDED) {
		pkt_drop(p, DROP_NOT_READY);
	} else if (u->state != UPLINK_READY) {
		parked_add(&u->parked, peer, p, loop_now_ms(u->loop));
	} else {
		p->dst = u->keys[peer];
		link_send(u->lane, p);
	}
}

void uplink_close(struct uplink *u)
{
	if (u->state == UPLINK_ENDED)
		return;
	u->last = u->link;
	if (u->lane)
		lane_end(u->lane, CLOSE_LOCAL, "");
	u->lane = NULL;
	let_go(u);
	timer_clear(u->wait);
	timer_clear(u->tick);
	set_state(u, UPLINK_ENDED);
	if (!u->last)
		u->events->over(u->owner, 0, CLOSE_LOCAL, "");
}

void uplink_free(struct uplink *u)
{
	if (!u)
		return;
	if (u->links)
		links_free(u->links);
	for (unsigned i = 0; u->diallers && i < u->ways.n; i++)
		dialler_free(u->diallers[i]);
	free(u->diallers);
	path_free(u->path);
	timer_free(u->wait);
	timer_free(u->drain);
	timer_free(u->tick);
	parked_drop_all(&u->parked);
	map_done(&u->by_key);
	free(u->keys);
	free(u);
}
