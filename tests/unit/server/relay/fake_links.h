/*
 * Sessions of one worker without links: in the place of common/link*.c are lanes that note
 * what they are told, and a clock that the test moves. One test program includes this once.
 */
#ifndef TUNN_UNIT_FAKE_LINKS_H
#define TUNN_UNIT_FAKE_LINKS_H

#include "tests/unit/said.h"

#include <errno.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/net/loop.h"
#include "server/accounts/accounts.h"
#include "server/relay/mates.h"
#include "server/relay/native_policy.h"
#include "server/relay/session_impl.h"

enum { LANES = 8 };

struct link {
	struct addr peer;
	bool closed, drained;
};

struct lane {
	struct link link;
	void *user;
	bool admitted, over;
	enum close_why why; /* it is over: refused, or ended */
	char text[200];
	unsigned n_got, percent; /* datagrams; the last that it was told */
	uint32_t rest_ms;
	uint64_t bytes_per_s; /* lane_narrow() */
	size_t unread;
	void (*on_got)(struct lane *); /* from inside link_send() */
};

static struct lane lanes[LANES];
static struct loop *loop;
static struct mates mates;
static struct sessions sessions;
static _Atomic uint64_t seq;
static uint64_t fake_ms;
static int64_t fake_unix_ms;

uint64_t clock_now_ms(void) { return fake_ms; }
uint64_t clock_thread_ms(void) { return fake_ms; }
int64_t clock_unix_ms(void) { return fake_unix_ms; }

/* ---- what sessions call ---- */

static inline void finish(struct lane *la, enum close_why why, const char *text)
{
	assert_false(la->over);
	la->over = true;
	la->why = why;
	snprintf(la->text, sizeof la->text, "%s", text);
}

int lane_admit(struct lane *la, const struct welcome *w)
{
	(void)w;
	la->admitted = true;
	return 0;
}

void lane_refuse(struct lane *la, enum close_why why, const char *text) { finish(la, why, text); }
void lane_end(struct lane *la, enum close_why why, const char *text) { finish(la, why, text); }

void link_send(struct lane *la, struct pkt *p)
{
	assert_false(la->over);
	la->n_got++;
	pkt_free(p);
	if (la->on_got)
		la->on_got(la);
}

int lane_tell_notice(struct lane *la, const struct notice *n)
{
	if (n->kind == NOTICE_QUOTA)
		la->percent = n->percent;
	return 0;
}

int lane_tell_peer(struct lane *la, const struct peer_status *p) { return (void)la, (void)p, 0; }
void lane_rest(struct lane *la, uint32_t ms) { la->rest_ms = ms; }
void lane_narrow(struct lane *la, uint64_t bytes_per_s) { la->bytes_per_s = bytes_per_s; }
size_t lane_unread(const struct lane *la) { return la->unread; }
uint64_t lane_n_unsent(const struct lane *la) { return (void)la, 0; }
uint64_t lane_n_ignored(const struct lane *la) { return (void)la, 0; }
void lane_load(const struct lane *la, struct lane_load *out) { (void)la, (void)out; }
struct link *lane_link(const struct lane *la) { return (struct link *)(uintptr_t)&la->link; }
void lane_set_user(struct lane *la, void *user) { la->user = user; }
void *lane_user(const struct lane *la) { return la->user; }
const struct addr *link_peer(const struct link *l) { return &l->peer; }
const char *link_transport_name(const struct link *l) { return (void)l, "fake"; }
int64_t link_rtt_us(const struct link *l) { return (void)l, -1; }
unsigned link_n_lanes(const struct link *l) { return (void)l, 0; }
void link_drain(struct link *l) { l->drained = true; }
void link_close(struct link *l, enum close_why why) { l->closed = why != CLOSE_NONE; }

/* ---- and what others call, who are not here ---- */

int link_open(struct links *ls, const struct link_conf *conf, const struct link_events *events,
              void *owner, struct link **link_out)
{
	(void)ls, (void)conf, (void)events, (void)owner, (void)link_out;
	return -ENOMEM;
}
int link_dial(struct link *l, const struct hello *h, struct lane **lane_out)
{
	(void)l, (void)h, (void)lane_out;
	return -ENOMEM;
}
void link_answer(struct web *web, const struct web_answer *a) { (void)web, (void)a; }
unsigned links_count(const struct links *ls) { return (void)ls, 0; }

/* ---- ends ---- */

static inline int sessions_fresh(void **state)
{
	static const struct router_conf conf = { &session_router_events, &mates, &seq };

	(void)state;
	fake_ms += 1000000;
	memset(lanes, 0, sizeof lanes);
	memset(&sessions, 0, sizeof sessions);
	log_set_level(LOG_ERROR);
	if (crypto_start() < 0 || (loop = loop_new()) == NULL)
		return -1;
	sessions.node = "n";
	sessions.router = router_new(&conf);
	return sessions.router ? sessions_init(&sessions, loop) : -1;
}

static inline int sessions_gone(void **state)
{
	(void)state;
	sessions_end_all(&sessions, CLOSE_DRAINING);
	sessions_done(&sessions);
	router_free(sessions.router);
	loop_free(loop);
	pkt_pool_drain();
	return 0;
}

static inline void stop_turn(struct task *t)
{
	(void)t;
	loop_stop(loop, 0);
}

/* Time passes, and who waits for its rate is looked at as by the timer. */
static inline void pass(uint64_t ms)
{
	static struct task last = { .cb = stop_turn };

	fake_ms += ms;
	loop_defer(loop, LOOP_SWEEP, &last);
	loop_run(loop);
	sessions_release(&sessions);
}

/* An end whose token is of that account comes in on lanes[i], or is refused. */
static inline struct lane *enter(unsigned i, struct account *a, const char *id, const char *peer)
{
	struct str declared = str_of(peer);
	const struct hello h = { .id = str_of(id),
		                 .version = 1,
		                 .bidirectional = true,
		                 .n_peers = 1,
		                 .peers = &declared };
	struct identity who = { .why = CLOSE_NONE, .payer = a };
	struct session *s = session_new(&sessions, &lanes[i], &h);

	assert_non_null(s);
	snprintf(who.account, sizeof who.account, "%s", account_name(a));
	s->asked = true;
	assert_int_equal(map_put(&sessions.by_number, &s->number, s), 0);
	session_on_auth(&sessions, s->number, &who);
	return &lanes[i];
}

static inline struct session *session_of(const struct lane *la)
{
	assert_non_null(la->user);
	return la->user;
}

/* One datagram to the first declared peer. */
static inline void say(struct lane *la, size_t len)
{
	struct pkt *p = pkt_new(len);

	assert_non_null(p);
	p->dst = session_of(la)->member.who->peers[0];
	session_on_packet(&sessions, la, p);
}

#endif
