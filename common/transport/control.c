#include "common/transport/control.h"

const char *hello_error(const struct hello *h)
{
	if (h->id.len && !name_is_valid(h->id))
		return "tunnel_id must be 1 to 63 of a-z, 0-9 and -, not starting with -";
	if (h->n_peers == 0)
		return "relay.peer_ids must name at least one peer";
	for (unsigned i = 0; i < h->n_peers; i++)
		if (!peer_is_valid(h->peers[i]))
			return "a peer is written id, account/id or nodekey:HEX";
	if (h->token.len > TOKEN_MAX_LEN)
		return "auth_token is longer than a token";
	return NULL;
}

unsigned hello_without_doubles(struct str *peers, unsigned n_peers)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_peers; i++) {
		unsigned k = 0;
		while (k < n && !str_eq(peers[k], peers[i]))
			k++;
		if (k == n)
			peers[n++] = peers[i];
	}
	return n;
}

void control_of_status(const struct peer_status *p, struct msg *msg_out)
{
	*msg_out = (struct msg){ .kind = MSG_PEER_STATUS,
		                 .state = (int)p->state,
		                 .text = p->text,
		                 .role = (int)p->role };
}

void control_of_notice(const struct notice *n, struct msg *msg_out)
{
	*msg_out = (struct msg){ .kind = MSG_NOTICE,
		                 .within_ms = n->within_ms,
		                 .percent = n->percent,
		                 .resets_unix_s = n->resets_unix_s };
	msg_out->notice = n->kind == NOTICE_DRAINING ? MSG_NOTICE_DRAINING :
	                  n->kind == NOTICE_QUOTA    ? MSG_NOTICE_QUOTA :
	                                               MSG_NOTICE_SUPERSEDED;
	msg_out->text = n->kind == NOTICE_DRAINING ? n->target : n->text;
}

bool control_to_status(const struct msg *m, struct peer_status *status_out)
{
	if (m->state <= PEER_UNSPECIFIED || m->state >= PEER_STATE_N)
		return false;
	*status_out = (struct peer_status){ .state = (enum peer_state)m->state, .text = m->text };
	if (m->role == ROLE_LISTEN || m->role == ROLE_FORWARD)
		status_out->role = (enum role)m->role;
	if (!utf8_is_valid(m->text.p, m->text.len))
		status_out->text = STR("");
	return true;
}

bool control_to_notice(const struct msg *m, struct notice *notice_out)
{
	struct notice n = { .within_ms = m->within_ms,
		            .percent = m->percent,
		            .resets_unix_s = m->resets_unix_s };

	if (!utf8_is_valid(m->text.p, m->text.len))
		return false;
	switch (m->notice) {
	case MSG_NOTICE_DRAINING:
		n.kind = NOTICE_DRAINING;
		n.target = m->text;
		break;
	case MSG_NOTICE_QUOTA: n.kind = NOTICE_QUOTA; break;
	case MSG_NOTICE_SUPERSEDED:
		n.kind = NOTICE_SUPERSEDED;
		n.text = m->text;
		break;
	default: return false;
	}
	*notice_out = n;
	return true;
}
