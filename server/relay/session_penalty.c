#include "server/relay/session_impl.h"

#include "common/base/log.h"
#include "common/base/metric.h"
#include "server/relay/native_policy.h"

static const char *const what[] = {
	[OFFENCE_TOKEN] = "tokens that are not valid here came",
	[OFFENCE_FLOOD] = "connections that flooded us came",
};
static const unsigned n_of[] = {
	[OFFENCE_TOKEN] = PENALTY_FAILURES, [OFFENCE_FLOOD] = PENALTY_FLOODS
};

static void tell(struct sessions *ss, const struct addr *from, enum offence offence, uint32_t ms)
{
	uint8_t net[ADDR_NET_LEN];
	char text[ADDR_TEXT_LEN];

	metric_add(METRIC_PENALTIES, 1);
	if (!sessions_may_log(ss))
		return;
	addr_net(from, net);
	log_warn("refusing connections network=%s for=%us: %u %s from it within %d s, and no "
	         "tunnel with a token is there; \"limits: {penalty: off}\" in the config file, "
	         "then SIGHUP, lets it in",
	         addr_net_text(net, text), ms / 1000, n_of[offence], what[offence],
	         PENALTY_WINDOW_S);
}

/* Who is open already has no more than newcomers have. */
void sessions_offend(struct sessions *ss, struct link *l, enum offence offence)
{
	uint64_t now_ms = loop_now_ms(ss->loop);
	uint32_t ms;

	if (!ss->penalty || (offence == OFFENCE_FLOOD && ss->known == l))
		return;
	ms = penalty_offend(ss->penalty, link_peer(l), offence, now_ms);
	if (ms)
		tell(ss, link_peer(l), offence, ms);
	if (penalty_refuses(ss->penalty, link_peer(l), now_ms))
		link_close(l, CLOSE_PENALTY);
}

bool session_may_ask(struct session *s)
{
	struct penalty *penalty = s->all->penalty;
	struct link *l = lane_link(s->lane);

	if (!penalty || !penalty_refuses(penalty, link_peer(l), loop_now_ms(s->all->loop)))
		return true;
	session_refuse(s, CLOSE_PENALTY,
	               "too many tokens that are not valid came from your network; it is refused "
	               "for a while");
	link_close(l, CLOSE_PENALTY);
	return false;
}

/* By a token, or by a node key that the operator knows or asks for. */
static bool is_authenticated(const struct session *s)
{
	const struct presence *who = s->member.who;

	if (!who->native)
		return s->token_id[0] != 0;
	return (who->native_flags & NATIVE_MESH) || s->all->policy->allow != NATIVE_ALLOW_ANY;
}

void session_vouch(struct session *s)
{
	if (s->all->penalty && is_authenticated(s))
		s->vouched = penalty_vouch(s->all->penalty, link_peer(lane_link(s->lane)));
}

void session_unvouch(struct session *s)
{
	if (s->vouched)
		penalty_unvouch(s->all->penalty, s->vouched);
}

/* Then its network is vouched for by nobody, and strangers there would pay for it. */
void session_was_known(struct session *s)
{
	if (s->vouched)
		s->all->known = lane_link(s->lane);
}
