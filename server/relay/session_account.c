#include "server/relay/session_impl.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "server/accounts/accounts.h"
#include "server/accounts/usage.h"

enum {
	HELD_BYTES = 524288, /* more than what was read already when reading began to rest */
	HELD_MAX = 8192,     /* datagrams, also empty ones */
	HELD_MS = 3000,      /* of its rate, with what the kernel has: behind it is its heartbeat */
	STEP_MS = 5,         /* between two looks at who waits for the rate */
	NARROW_EVERY_MS = 1000, /* others begin and cease to wait, and paths change */
	MUCH_PERCENT = 80,      /* of the month's volume: worth saying */
	LOOK_MS = 3600000,      /* between two looks at the clock of the wall, which may be set */
	WIDE_MS = 1000,         /* without waiting: it may send as it likes again */
};

/* ---- entering ---- */

/* Accounts begin anew with the UTC month. */
static int64_t month_ends_unix_s(void) { return usage_month_end(usage_month_of(clock_unix_ms())); }

/* Begins with the word by which the end tells RESOURCE_EXHAUSTED apart (grpc_close_why). */
static const char *text_of(const struct session *s, enum close_why why, char out[static 200])
{
	struct account *a = s->member.who->payer;
	struct account_terms terms;
	char until[32];
	time_t at;
	struct tm tm;

	if (why == CLOSE_TUNNELS) {
		account_terms(a, &terms);
		snprintf(out, 200, "tunnels of the account are all in use: it may have %u at once",
		         terms.tunnels);
		return out;
	}
	if (why != CLOSE_QUOTA)
		return account_why_text(a, why);
	at = (time_t)month_ends_unix_s();
	strftime(until, sizeof until, "%Y-%m-%d %H:%M", gmtime_r(&at, &tm));
	snprintf(out, 200, "quota of the account's month is used up; the next begins on %s UTC",
	         until);
	return out;
}

bool session_enter(struct session *s)
{
	struct account *a = s->member.who->payer;
	char text[200];

	if (!a)
		return true;
	struct presence *before = router_holder(s->all->router, &s->member);
	enum close_why why = account_check(a);
	bool is_lent = false;
	if (why == CLOSE_NONE)
		why = presence_enter(s->member.who, before, &is_lent);
	if (is_lent)
		s->lender = presence_ref(before);
	if (why != CLOSE_NONE)
		session_refuse(s, why, text_of(s, why, text));
	return why == CLOSE_NONE;
}

void session_settle(struct session *s)
{
	presence_unref(s->lender);
	s->lender = NULL;
}

void session_withdraw(struct session *s)
{
	if (s->lender)
		presence_return(s->member.who, s->lender);
	session_settle(s);
	if (s->member.who)
		presence_leave(s->member.who);
}

/* ---- the rate ---- */

/* Whoever sends to its own account pays for both ends at once. */
static uint32_t ask(struct session *s, const struct pkt *p)
{
	bool both = router_pays_both(s->all->router, &s->member, &p->dst);

	return account_take(s->member.who->payer, both ? 2 * p->len : p->len,
	                    loop_now_ms(s->all->loop));
}

static void narrow(struct session *s)
{
	struct account *a = s->member.who->payer;

	if (!s->narrow)
		account_start_waiting(a);
	s->narrow = true;
	s->narrowed_ms = s->waited_ms;
	lane_narrow(s->lane, account_share(a));
}

static void stop_waiting(struct session *s)
{
	if (s->narrow)
		account_stop_waiting(s->member.who->payer);
	s->narrow = false;
}

static void wait_for(struct session *s, uint32_t ms)
{
	struct sessions *ss = s->all;

	s->waited_ms = loop_now_ms(ss->loop);
	if (!s->narrow || s->waited_ms - s->narrowed_ms >= NARROW_EVERY_MS)
		narrow(s);
	if (list_empty(&s->holding))
		list_add_tail(&ss->holding, &s->holding);
	if (!timer_is_set(ss->release))
		timer_set(ss->release, STEP_MS);
	lane_rest(s->lane, ms > STEP_MS ? ms : STEP_MS);
}

/* Streams of others go on on its connection; or more was on its way than its rate is for: then
 * nobody wants to wait for all of it. */
static bool is_too_much(const struct session *s, size_t len)
{
	if (!s->held.head)
		return false;
	if (s->held.bytes + len > HELD_BYTES || s->held.n == HELD_MAX)
		return true;
	uint64_t share = account_share(s->member.who->payer);
	return share < UINT64_MAX &&
	       s->held.bytes + len + lane_unread(s->lane) > share * HELD_MS / 1000;
}

static void hold(struct session *s, struct pkt *p, uint32_t ms)
{
	if (is_too_much(s, p->len)) {
		router_drop(&s->member, p, DROP_OVER_LIMIT);
		return;
	}
	pktq_push(&s->held, p);
	wait_for(s, ms);
}

static void widen(struct session *s)
{
	if (loop_now_ms(s->all->loop) - s->waited_ms < WIDE_MS)
		return;
	stop_waiting(s);
	lane_narrow(s->lane, UINT64_MAX);
}

void session_spend(struct session *s, struct pkt *p)
{
	uint32_t ms;

	if (account_is_spent(s->member.who->payer)) {
		router_drop(&s->member, p, DROP_OVER_LIMIT);
		session_check_account(s);
		return;
	}
	ms = s->held.head ? STEP_MS : ask(s, p);
	if (ms) {
		hold(s, p, ms);
		return;
	}
	if (s->narrow)
		widen(s);
	session_pass(s, p);
}

/* What is passed on may fill another link, which is sent, and then finds that this session, or
 * another one, is over. */
static void release(struct session *s)
{
	uint32_t ms = 0;

	while (s->held.head && !account_is_spent(s->member.who->payer) &&
	       (ms = ask(s, s->held.head)) == 0) {
		struct pkt *p = pktq_pop(&s->held);
		p->born_ms = loop_now_ms(s->all->loop); /* it was no queue that it waited in */
		if (!session_pass(s, p))
			return;
	}
	if (!s->held.head)
		list_del(&s->holding);
	else if (ms)
		wait_for(s, ms);
	else
		session_check_account(s);
}

static void move_to(struct list *to, struct list *node)
{
	list_del(node);
	list_add_tail(to, node);
}

/* Whoever is asked first gets all of the account's rate that there is at the moment: it is
 * another one each time. */
void sessions_release(void *arg)
{
	struct sessions *ss = arg;
	struct list now;

	list_init(&now);
	while (!list_empty(&ss->holding))
		move_to(&now, ss->holding.next);
	if (!list_empty(&now))
		move_to(&now, now.next);
	while (!list_empty(&now)) {
		struct session *s = container_of(now.next, struct session, holding);
		move_to(&ss->holding, &s->holding);
		release(s);
	}
	if (!list_empty(&ss->holding))
		timer_set(ss->release, STEP_MS);
}

void session_drop_held(struct session *s)
{
	stop_waiting(s);
	list_del(&s->holding);
	for (struct pkt *p; (p = pktq_pop(&s->held)) != NULL;)
		pkt_drop(p, DROP_LINK_CLOSED);
}

/* ---- what changes while it is here ---- */

static void tell_percent(struct session *s, unsigned percent)
{
	struct notice n = { .kind = NOTICE_QUOTA,
		            .percent = percent,
		            .resets_unix_s = month_ends_unix_s() };

	lane_tell_notice(s->lane, &n);
}

void session_tell_quota(struct session *s)
{
	unsigned percent = s->member.who->payer ? account_percent(s->member.who->payer) : 0;

	if (percent >= MUCH_PERCENT && !s->member.who->native)
		tell_percent(s, percent);
}

void session_check_account(struct session *s)
{
	enum close_why why = account_check(s->member.who->payer);
	char text[200];

	if (why == CLOSE_NONE)
		return;
	if (why == CLOSE_QUOTA)
		tell_percent(s, 100);
	session_dismiss(s, why, text_of(s, why, text));
}

/* One thing for each session that is in, of whichever kind. */
static void each(struct list *sessions, void (*visit)(struct session *, const void *),
                 const void *arg)
{
	list_each(it, tmp, sessions) {
		struct session *s = container_of(it, struct session, node);
		if (s->member.joined)
			visit(s, arg);
	}
}

static void check_if_of(struct session *s, const void *account)
{
	if (s->member.who->payer && (!account || s->member.who->payer == account))
		session_check_account(s);
}

void sessions_on_account(struct sessions *ss, const struct account *a)
{
	each(&ss->named, check_if_of, a);
	each(&ss->natives, check_if_of, a);
}

void sessions_on_percent(struct sessions *ss, const struct account *a, unsigned percent)
{
	list_each(it, tmp, &ss->named) { /* DERP has no words for it */
		struct session *s = container_of(it, struct session, node);
		if (s->member.joined && s->member.who->payer == a)
			tell_percent(s, percent);
	}
}

static void end_if_by(struct session *s, const void *token_id)
{
	if (strcmp(s->token_id, token_id) == 0)
		session_dismiss(s, CLOSE_UNAUTHENTICATED, "the token was revoked");
}

void sessions_on_revoked(struct sessions *ss, const char *token_id)
{
	each(&ss->named, end_if_by, token_id);
}

/* ---- tokens that expire ---- */

static int64_t now_s(void) { return clock_unix_ms() / 1000; }

void session_watch_expiry(struct session *s)
{
	struct sessions *ss = s->all;

	if (!s->expires_unix_s)
		return;
	int64_t left_s = s->expires_unix_s + TOKEN_SKEW_S - now_s();
	uint64_t ms = left_s < 0 ? 0 : left_s > LOOK_MS / 1000 ? LOOK_MS : (uint64_t)left_s * 1000;
	if (timer_is_set(ss->expire) && loop_now_ms(ss->loop) + ms >= ss->expire_ms)
		return;
	ss->expire_ms = loop_now_ms(ss->loop) + ms;
	timer_set(ss->expire, ms);
}

static void end_if_expired(struct session *s, const void *unused)
{
	(void)unused;
	if (token_has_expired(s->expires_unix_s, now_s()))
		session_dismiss(s, CLOSE_UNAUTHENTICATED, "the token has expired");
	else
		session_watch_expiry(s);
}

void sessions_expire(void *arg)
{
	struct sessions *ss = arg;

	each(&ss->named, end_if_expired, NULL);
}
