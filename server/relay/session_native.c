#include "server/relay/session_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <netinet/in.h>

#include "common/base/log.h"
#include "common/base/metric.h"
#include "server/relay/native_policy.h"

enum {
	ABSENT_BURST = 3, /* derp.md 3.4 */
	ABSENT_PER_S = 1,
	SETTLED_MS = 5000, /* a home that changes later has moved */
};

/* ---- who may enter ---- */

/* IPv4 in its mapped form, as PeerPresent has it. */
static void note_address(struct presence *who, const struct addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	who->port = addr_port(a);
	if (a->ss.ss_family == AF_INET6) {
		memcpy(who->ip, &((const struct sockaddr_in6 *)(const void *)&a->ss)->sin6_addr,
		       sizeof who->ip);
	} else if (a->ss.ss_family == AF_INET) {
		memcpy(who->ip, mapped, sizeof mapped);
		memcpy(who->ip + sizeof mapped,
		       &((const struct sockaddr_in *)(const void *)&a->ss)->sin_addr, 4);
	}
}

static void introduce(struct session *s, const struct hello *h)
{
	struct presence *who = s->member.who;

	who->native = true;
	who->key = *h->node_key;
	who->native_flags = h->native_flags;
	note_address(who, link_peer(lane_link(s->lane)));
	snprintf(who->account, sizeof who->account, "%s", s->all->policy->account);
	snprintf(who->id, sizeof who->id, "nodekey:%s", key_brief(h->node_key).s);
	bucket_init(&s->absent, ABSENT_BURST, ABSENT_PER_S, loop_now_ms(s->all->loop));
}

static bool is_mate(const struct session *s) { return s->member.who->native_flags & NATIVE_MESH; }

/* NULL: it may enter. */
static const char *objection(const struct session *s)
{
	const struct native_policy *p = s->all->policy;

	if (is_mate(s) || native_policy_admits(p, &s->member.who->key))
		return NULL;
	return p->allow == NATIVE_ALLOW_NONE ?
	                       "DERP clients that are no tunnels of ours are not admitted "
	                       "(derp.allow: none)" :
	                       "its node key is not in derp.allow";
}

static void on_verified(void *owner, enum close_why why, const char *text)
{
	struct session *s = owner;

	s->question = NULL;
	if (why == CLOSE_NONE)
		session_join(s);
	else
		session_refuse(s, why, text);
}

static void verify(struct session *s)
{
	const struct addr *from = link_peer(lane_link(s->lane));
	int rc = derp_verify_ask(s->all->verify, &s->member.who->key, from, on_verified, s,
	                         &s->question);

	if (rc == ERR_AGAIN)
		session_refuse(s, CLOSE_UNAVAILABLE, "too many wait for derp.verify-url");
	else if (rc < 0)
		session_refuse(s, close_of_err(rc), err_text(rc));
}

int native_on_hello(struct sessions *ss, struct lane *lane, const struct hello *h)
{
	struct session *s = session_new(ss, lane, h);
	const char *error;

	if (!s) {
		lane_refuse(lane, CLOSE_NOMEM, close_text(CLOSE_NOMEM));
		return -ENOMEM;
	}
	introduce(s, h);
	if (!is_mate(s)) /* its ends pay where they are */
		s->member.who->payer = account_ref(ss->native_payer);
	error = ss->verify ? NULL : objection(s);
	if (error)
		session_refuse(s, CLOSE_DENIED, error);
	else if (ss->auth && !is_mate(s) && !s->member.who->payer)
		session_refuse(s, CLOSE_UNAVAILABLE,
		               "the account of derp.account is not known yet");
	else if (ss->verify && !is_mate(s))
		verify(s);
	else
		session_join(s);
	return ERR_AGAIN; /* who was not asked about has been told */
}

void sessions_take_payer(struct sessions *ss, struct account *a)
{
	account_unref(ss->native_payer);
	ss->native_payer = a;
}

/* Who is no longer allowed is cut off; a URL is not asked again. */
void sessions_take_policy(struct sessions *ss, const struct native_policy *policy)
{
	ss->policy = policy;
	router_set_policy(ss->router, policy);
	list_each(it, tmp, &ss->natives) {
		struct session *s = container_of(it, struct session, node);
		if (s->member.joined && policy->allow != NATIVE_ALLOW_URL && objection(s))
			session_dismiss(s, CLOSE_DENIED, objection(s));
	}
}

/* ---- counting ---- */

void native_joined(struct session *s)
{
	metric_add(METRIC_DERP_OPEN, 1);
	if (s->member.who->native_flags & NATIVE_NOT_IDEAL)
		metric_add(METRIC_DERP_NOT_IDEAL, 1);
}

void native_left(struct session *s)
{
	metric_add(METRIC_DERP_OPEN, -1);
	if (s->member.who->native_flags & NATIVE_NOT_IDEAL)
		metric_add(METRIC_DERP_NOT_IDEAL, -1);
	if (s->is_home)
		metric_add(METRIC_DERP_HOME, -1);
}

bool native_may_tell(struct session *s, const struct peer_status *p)
{
	return p->state != PEER_ABSENT || bucket_take(&s->absent, 1, loop_now_ms(s->all->loop));
}

/* ---- what they ask ---- */

static void note_home(struct session *s, bool on)
{
	bool settled = loop_now_ms(s->all->loop) - s->joined_ms > SETTLED_MS;

	if (s->is_home == on)
		return;
	s->is_home = on;
	metric_add(METRIC_DERP_HOME, on ? 1 : -1);
	if (settled)
		metric_add(on ? METRIC_DERP_HOME_MOVES_IN : METRIC_DERP_HOME_MOVES_OUT, 1);
}

void session_on_wish(void *owner, struct lane *lane, const struct wish *w)
{
	struct sessions *ss = owner;
	struct session *s = lane_user(lane);

	if (!s || !s->member.joined)
		return;
	switch (w->kind) {
	case WISH_ACTIVE: router_active(ss->router, &s->member, loop_now_ms(ss->loop)); break;
	case WISH_HOME: note_home(s, w->on); break;
	case WISH_WATCH: /* who has our own key is ourselves: nothing to tell */
		if (!key_eq(&s->member.who->key, &ss->own_key))
			router_watch(ss->router, &s->member);
		break;
	case WISH_CLOSE_PEER: router_close_key(ss->router, &w->key); break;
	}
}

void session_on_forward(void *owner, struct lane *lane, struct pkt *p)
{
	struct sessions *ss = owner;
	struct session *s = lane_user(lane);

	if (s && s->member.joined)
		router_forward(ss->router, &s->member, p, loop_now_ms(ss->loop));
	else
		pkt_drop(p, DROP_NOT_READY);
}
