#include "server/relay/session_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/base/token.h"
#include "common/net/mailbox.h"
#include "server/auth.h"
#include "server/relay/mail.h"
#include "server/relay/mates.h"
#include "server/relay/mesh.h"
#include "server/relay/survey.h"

#define STRANGERS_LINES     500
#define STRANGERS_WINDOW_MS 10000
#define OPEN_ACCOUNT        "open" /* of everybody on a relay that needs no token */
/* Its first words are stable: a client that reads them waits (grpc_close_why). */
#define FIGHT_TEXT "several instances keep taking this id from each other; stop all but one"

int sessions_init(struct sessions *ss, struct loop *loop)
{
	map_init(&ss->by_number, sizeof(uint64_t));
	list_init(&ss->named);
	list_init(&ss->natives);
	list_init(&ss->holding);
	list_init(&ss->surveys);
	ss->next_number = 1;
	ss->loop = loop;
	ss->release = timer_new(loop, sessions_release, ss);
	ss->expire = timer_new(loop, sessions_expire, ss);
	return ss->release && ss->expire ? 0 : -ENOMEM;
}

void sessions_done(struct sessions *ss)
{
	surveys_end(ss);
	shedding_end(ss);
	map_done(&ss->by_number);
	timer_free(ss->release);
	timer_free(ss->expire);
	account_unref(ss->native_payer);
}

/* ---- life ---- */

static void session_free(struct session *s)
{
	router_leave(s->all->router, &s->member, loop_now_ms(s->all->loop));
	surveys_pass(s->all, &s->node);
	shedding_pass(s->all, &s->node);
	list_del(&s->node);
	if (s->all->passing == s)
		s->all->passing = NULL;
	derp_verify_cancel(s->question);
	if (s->asked)
		map_del(&s->all->by_number, &s->number);
	if (s->lane)
		lane_set_user(s->lane, NULL);
	session_drop_held(s);
	session_unvouch(s);
	session_withdraw(s);
	presence_unref(s->member.who);
	free(s->member.decls);
	free(s->peers);
	free(s);
}

static int copy_peers(struct session *s, const struct hello *h)
{
	size_t len = h->n_peers * sizeof *s->peers;

	for (unsigned i = 0; i < h->n_peers; i++)
		len += h->peers[i].len;
	s->peers = malloc(len);
	s->member.decls = calloc(h->n_peers, sizeof *s->member.decls);
	if (!s->peers || !s->member.decls)
		return -ENOMEM;
	char *text = (char *)(s->peers + h->n_peers);
	for (unsigned i = 0; i < h->n_peers; i++) {
		s->peers[i] = (struct str){ text, h->peers[i].len };
		memcpy(text, h->peers[i].p, h->peers[i].len);
		text += h->peers[i].len;
	}
	return 0;
}

static void introduce(struct presence *who, const struct hello *h)
{
	who->role = h->role;
	who->bidirectional = h->bidirectional;
	if (h->has_instance)
		memcpy(who->instance, h->instance, INSTANCE_LEN);
	else
		crypto_random(who->instance, INSTANCE_LEN);
	memcpy(who->id, h->id.p ? h->id.p : "", h->id.len); /* grammar: fits */
}

struct session *session_new(struct sessions *ss, struct lane *lane, const struct hello *h)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->all = ss;
	s->lane = lane;
	list_add_tail(h->n_peers ? &ss->named : &ss->natives, &s->node);
	list_init(&s->holding);
	s->number = ss->next_number++;
	s->member.owner = s;
	s->has_id = h->id.len > 0;
	snprintf(s->address, sizeof s->address, "%.*s", (int)h->peer_address.len,
	         h->peer_address.p);
	s->member.who = presence_new(h->n_peers);
	if (s->member.who)
		introduce(s->member.who, h);
	if (!s->member.who || (h->n_peers && copy_peers(s, h) < 0)) {
		session_free(s);
		return NULL;
	}
	lane_set_user(lane, s);
	return s;
}

/* ---- admission ---- */

bool sessions_may_log(struct sessions *ss)
{
	unsigned unsaid;

	if (!log_limit_pass(&ss->strangers, loop_now_ms(ss->loop), STRANGERS_LINES,
	                    STRANGERS_WINDOW_MS, &unsaid))
		return false;
	if (unsaid)
		log_warn("%u lines about refused ends and closed connections were left out",
		         unsaid);
	return true;
}

void session_refuse(struct session *s, enum close_why why, const char *text)
{
	struct lane *lane = s->lane;

	metric_add(METRIC_REFUSALS, 1);
	if (sessions_may_log(s->all))
		log_info("refused end id=%s account=%s from=%s reason=%s: %s", s->member.who->id,
		         s->member.who->account, s->address, close_label(why), text);
	session_free(s);
	lane_refuse(lane, why, text);
}

/* Fills in keys, own and declared. NULL, or what is wrong. */
static const char *resolve_keys(struct session *s)
{
	struct presence *who = s->member.who;
	struct str account = str_of(who->account);

	key_of_tunnel(account, str_of(who->id), &who->key);
	for (unsigned i = 0; i < who->n_peers; i++) {
		struct key *key = &who->peers[i];
		if (key_of_peer(account, s->peers[i], key) < 0)
			return "a peer is not acceptable";
		if (key_eq(key, &who->key))
			return "a tunnel cannot be its own peer: give --peer the other end's id";
		for (unsigned k = 0; k < i; k++)
			if (key_eq(key, &who->peers[k]))
				return "two of the declared peers are the same end";
	}
	return NULL;
}

static void welcome(struct session *s)
{
	const struct presence *who = s->member.who;
	struct router *router = s->all->router;
	uint64_t now_ms = loop_now_ms(s->all->loop);
	struct welcome w = {
		.account = str_of(who->account),
		.id = str_of(who->id),
		.node = str_of(s->all->node),
		.max_payload = PAYLOAD_MAX,
		.version = 1,
		.n_peers = who->n_peers,
		.peer_keys = who->peers,
	};

	session_settle(s);
	metric_add(METRIC_REGISTRATIONS, 1);
	metric_add(METRIC_SESSIONS_OPEN, 1);
	s->joined_ms = now_ms;
	if (who->native)
		native_joined(s);
	log_info("end joined id=%s account=%s from=%s transport=%s peers=%u worker=%u", who->id,
	         who->account, s->address, link_transport_name(lane_link(s->lane)), who->n_peers,
	         who->worker);
	session_vouch(s);
	if (lane_admit(s->lane, &w) < 0)
		return;
	router_greet(router, &s->member, now_ms);
	session_tell_quota(s);
	session_watch_expiry(s);
}

void session_join(struct session *s)
{
	if (!session_enter(s))
		return;
	enum close_why why = router_join(s->all->router, &s->member, loop_now_ms(s->all->loop));
	if (why != CLOSE_NONE)
		session_refuse(s, why, why == CLOSE_FIGHT ? FIGHT_TEXT : close_text(why));
	else
		welcome(s);
}

static void join(struct session *s)
{
	const char *error = resolve_keys(s);

	if (error)
		session_refuse(s, CLOSE_INVALID, error);
	else
		session_join(s);
}

static const char *why_not(const struct identity *who)
{
	if (who->why != CLOSE_UNAUTHENTICATED)
		return close_text(who->why);
	if (!who->account[0])
		return close_text(CLOSE_UNAUTHENTICATED);
	return who->revoked ? "the token was revoked" : "the token has expired";
}

/* Whoever has a token that was good once does not guess. */
static void not_identified(struct session *s, const struct identity *who)
{
	bool is_guess = who->why == CLOSE_UNAUTHENTICATED && !who->account[0];
	struct sessions *ss = s->all;
	struct link *l = lane_link(s->lane);

	snprintf(s->member.who->account, sizeof s->member.who->account, "%s", who->account);
	session_refuse(s, who->why, why_not(who));
	if (is_guess)
		sessions_offend(ss, l, OFFENCE_TOKEN);
}

void session_on_auth(struct sessions *ss, uint64_t number, const struct identity *who)
{
	struct session *s = map_del(&ss->by_number, &number);
	char text[200];

	if (!s)
		return;
	s->asked = false;
	if (who->why != CLOSE_NONE) {
		not_identified(s, who);
		return;
	}
	snprintf(s->member.who->account, sizeof s->member.who->account, "%s", who->account);
	snprintf(s->token_id, sizeof s->token_id, "%s", who->token_id);
	s->expires_unix_s = who->expires_unix_s;
	s->member.who->payer = account_ref(who->payer);
	if (who->has_bound && s->has_id && strcmp(who->bound_id, s->member.who->id) != 0) {
		snprintf(text, sizeof text, "the token is bound to the id %s", who->bound_id);
		session_refuse(s, CLOSE_DENIED, text);
		return;
	}
	if (who->has_bound)
		snprintf(s->member.who->id, sizeof s->member.who->id, "%s", who->bound_id);
	if (!s->member.who->id[0]) {
		session_refuse(s, CLOSE_INVALID,
		               "id needed: the token is not bound to one, give --id");
		return;
	}
	join(s);
}

static int ask(struct session *s, const struct hello *h)
{
	struct sessions *ss = s->all;

	if (h->token.len == 0) {
		session_refuse(s, CLOSE_UNAUTHENTICATED,
		               "none was given, and this relay needs one");
		return ERR_CLOSED;
	}
	if (token_check(h->token) < 0) {
		session_refuse(s, CLOSE_UNAUTHENTICATED,
		               "malformed token (tunn_ID_SECRET_CRC): typing error?");
		return ERR_CLOSED;
	}
	if (!session_may_ask(s))
		return ERR_CLOSED;
	if (map_put(&ss->by_number, &s->number, s) < 0) {
		session_refuse(s, CLOSE_NOMEM, close_text(CLOSE_NOMEM));
		return -ENOMEM;
	}
	s->asked = true;
	if (auth_ask(ss->auth, ss->mailbox, MAIL_AUTH, s->number, h->token) < 0) {
		session_refuse(s, CLOSE_UNAVAILABLE, "too many ends register at once");
		return ERR_CLOSED;
	}
	return ERR_AGAIN;
}

int session_on_hello(void *owner, struct lane *lane, const struct hello *h)
{
	struct sessions *ss = owner;
	struct session *s;

	if (h->n_peers == 0)
		return native_on_hello(ss, lane, h);
	s = session_new(ss, lane, h);
	if (!s) {
		lane_refuse(lane, CLOSE_NOMEM, close_text(CLOSE_NOMEM));
		return -ENOMEM;
	}
	if (ss->auth)
		return ask(s, h);
	if (!s->has_id) {
		session_refuse(s, CLOSE_INVALID,
		               "id needed: this relay knows no tokens, give --id");
		return ERR_CLOSED;
	}
	snprintf(s->member.who->account, sizeof s->member.who->account, "%s", OPEN_ACCOUNT);
	join(s);
	return ERR_AGAIN; /* join() has admitted or refused it */
}

/* ---- packets ---- */

void session_on_packet(void *owner, struct lane *lane, struct pkt *p)
{
	struct session *s = lane_user(lane);

	(void)owner;
	s->packets_in++;
	s->bytes_in += p->len;
	metric_add(METRIC_PKTS_IN, 1);
	metric_add(METRIC_BYTES_IN, p->len);
	if (s->member.who->native && pkt_is_disco(p))
		metric_add(METRIC_DERP_DISCO_IN, 1);
	if (s->member.who->payer)
		session_spend(s, p);
	else
		router_route(s->all->router, &s->member, p, loop_now_ms(s->all->loop));
}

bool session_pass(struct session *s, struct pkt *p)
{
	struct sessions *ss = s->all;
	size_t len = p->len;

	ss->passing = s;
	bool went = router_route(ss->router, &s->member, p, loop_now_ms(ss->loop));
	if (ss->passing != s)
		return false;
	if (went)
		account_count_sent(s->member.who->payer, ss->worker, len);
	return true;
}

static void session_deliver(void *owner, struct pkt *p)
{
	struct session *s = owner;

	s->packets_out++;
	s->bytes_out += p->len;
	metric_add(METRIC_PKTS_OUT, 1);
	metric_add(METRIC_BYTES_OUT, p->len);
	if (s->member.who->payer)
		account_count_received(s->member.who->payer, s->all->worker, p->len);
	link_send(s->lane, p);
}

/* ---- leaving ---- */

/* The text is ours: what the other side says of itself could look like the rest. */
static void left(struct session *s, enum close_why why, const char *text)
{
	metric_add(METRIC_SESSIONS_OPEN, -1);
	if (s->member.who->native)
		native_left(s);
	log_info("end left id=%s account=%s from=%s reason=%s packets_in=%llu packets_out=%llu "
	         "dropped=%llu ignored=%llu%s%s",
	         s->member.who->id, s->member.who->account, s->address, close_label(why),
	         (unsigned long long)s->packets_in, (unsigned long long)s->packets_out,
	         (unsigned long long)lane_n_unsent(s->lane),
	         (unsigned long long)lane_n_ignored(s->lane), *text ? ": " : "", text);
}

void session_on_ended(void *owner, struct lane *lane, enum close_why why, const char *text)
{
	struct session *s = lane_user(lane);

	(void)owner, (void)text;
	if (!s)
		return;
	if (s->member.joined)
		left(s, why, "");
	if (why == CLOSE_FLOOD)
		session_was_known(s);
	s->lane = NULL;
	session_free(s);
}

static void session_tell_peer(void *owner, const struct peer_status *p)
{
	struct session *s = owner;

	if (!s->member.who->native || native_may_tell(s, p))
		lane_tell_peer(s->lane, p);
}

void session_dismiss(struct session *s, enum close_why why, const char *text)
{
	struct lane *lane = s->lane;

	left(s, why, text);
	session_free(s);
	lane_end(lane, why, text);
}

static void session_close(void *owner)
{
	session_dismiss(owner, CLOSE_CANCELLED, "closed by a relay of the mesh");
}

static void session_superseded(void *owner, bool same_instance, bool fight)
{
	struct session *s = owner;
	struct lane *lane = s->lane;
	enum close_why why = fight ? CLOSE_FIGHT : CLOSE_SUPERSEDED;
	const char *text = fight ? FIGHT_TEXT : "superseded by another instance with the same id";
	struct notice n = { .kind = NOTICE_SUPERSEDED, .text = str_of(text) };

	left(s, why, text);
	session_free(s);
	if (same_instance) {
		lane_end(lane, CLOSE_CANCELLED, "replaced by your own new connection");
		return;
	}
	if (!fight)
		lane_tell_notice(lane, &n);
	lane_end(lane, why, text);
}

/* ---- the other workers ---- */

static int session_tell(void *mates, enum router_news news, struct presence *p)
{
	static const enum mail_kind kinds[] = {
		[ROUTER_JOIN] = MAIL_JOIN,
		[ROUTER_LEAVE] = MAIL_LEAVE,
		[ROUTER_FIGHT] = MAIL_FIGHT,
		[ROUTER_CLOSE] = MAIL_CLOSE,
	};

	return mates_tell(mates, kinds[news], p);
}

static void session_forward(void *mates, unsigned worker, struct pkt *p)
{
	mates_forward(mates, worker, p);
}

const struct router_events session_router_events = {
	.deliver = session_deliver,
	.peer = session_tell_peer,
	.superseded = session_superseded,
	.relay = mesh_relay, /* forwarders are no sessions */
	.close = session_close,
	.tell = session_tell,
	.forward = session_forward,
};

/* ---- draining ---- */

void sessions_tell_draining(struct sessions *ss, uint32_t within_ms)
{
	struct notice n = { .kind = NOTICE_DRAINING, .within_ms = within_ms, .target = STR("") };

	list_each(it, tmp, &ss->named) {
		struct session *s = container_of(it, struct session, node);
		if (s->member.joined)
			lane_tell_notice(s->lane, &n);
	}
}

bool sessions_may_leave(const struct sessions *ss) { return !list_empty(&ss->named); }

static void end_all(struct list *sessions, enum close_why why)
{
	list_each(it, tmp, sessions) {
		struct session *s = container_of(it, struct session, node);
		struct lane *lane = s->lane;
		if (s->member.joined) {
			session_dismiss(s, why, close_text(why));
			continue;
		}
		session_free(s);
		lane_end(lane, why, close_text(why));
	}
}

void sessions_end_all(struct sessions *ss, enum close_why why)
{
	end_all(&ss->named, why);
	end_all(&ss->natives, why);
}
