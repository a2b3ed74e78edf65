/* Client: the request, the handshake, and the frames of a relay or of any DERP server. */
#include "common/transport/derp_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/transport/control.h"
#include "common/wire/derp_info.h"
#include "common/wire/grpc.h"

enum {
	RESTART_MAX_MS = 30000, /* D20 */
	HEALTH_MAX = 1024,      /* of the text that is shown */
};

void derp_dial_forget(struct transport *t)
{
	buf_wipe(&t->hello);
	buf_done(&t->hello);
}

/* ---- the request ---- */

/* derp.md 1.4.1 */
static int say_request(struct transport *t)
{
	const char *ideal = t->conf->derp.ideal_node;
	char head[1024];
	int n = snprintf(head, sizeof head,
	                 "GET /derp HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n"
	                 "Connection: Upgrade\r\n%s%s%s%s%sUpgrade: DERP\r\n\r\n",
	                 t->conf->authority, t->conf->user_agent,
	                 t->conf->has_meta_key ? "Derp-Fast-Start: 1\r\n" : "",
	                 ideal ? "Ideal-Node: " : "", ideal ? ideal : "", ideal ? "\r\n" : "",
	                 t->named ? "Tunn-Version: 1\r\n" : "");

	if (n < 0 || (size_t)n >= sizeof head)
		return ERR_TOO_BIG;
	return buf_add(&t->out, head, (size_t)n);
}

static int say_info(struct transport *t)
{
	const struct derp_conf *own = &t->conf->derp;
	size_t len = KEY_LEN + buf_len(&t->hello) + CRYPTO_SEAL_EXTRA, before = buf_len(&t->out);

	if (len > DERP_CLIENT_INFO_MAX)
		return derp_fail(t, ERR_INVALID,
		                 "too many peers: their names do not fit into what DERP "
		                 "lets an end say of itself");
	uint8_t *to = derp_put_open(&t->out, DERP_CLIENT_INFO, len);
	if (!to)
		return -ENOMEM;
	memcpy(to, own->public.b, KEY_LEN);
	int rc = crypto_seal(buf_data(&t->hello), buf_len(&t->hello), t->key.b, own->secret,
	                     to + KEY_LEN);
	derp_dial_forget(t);
	if (rc < 0) {
		buf_cut(&t->out, before); /* nothing was written there */
		return derp_fail(t, ERR_PROTOCOL, "the server's key is no key");
	}
	words_say(&t->error, "%s",
	          t->named ? "the relay closed the connection instead of an answer" :
	          t->watch ? "the relay closed the connection instead of an answer: it has another "
	                     "mesh key, or none" :
	                     "the DERP server closed the connection instead of an answer: it "
	                     "does not admit our node key, or does not know this version");
	return 0;
}

/* ---- dialling ---- */

static int write_hello(struct transport *t, const struct hello *h)
{
	struct derp_client_info info = { .can_ack_pings = true,
		                         .is_named = t->named,
		                         .id = h->id,
		                         .token = h->token,
		                         .has_instance = h->has_instance,
		                         .is_one_way = !h->bidirectional,
		                         .role = (uint32_t)h->role,
		                         .n_peers = h->n_peers,
		                         .peers = (struct str *)(uintptr_t)h->peers };

	memcpy(info.instance, h->instance, sizeof info.instance);
	if (t->conf->derp.mesh_key) {
		info.has_mesh_key = true;
		memcpy(info.mesh_key, t->conf->derp.mesh_key, KEY_LEN);
	}
	int rc = derp_client_info_write(&info, &t->hello);
	crypto_wipe(info.mesh_key, sizeof info.mesh_key);
	return rc;
}

static int learn_native_peers(struct transport *t, const struct hello *h)
{
	for (unsigned i = 0; i < h->n_peers; i++)
		if (key_of_peer(STR(""), h->peers[i], &t->peer_keys[i]) < 0)
			return ERR_INVALID;
	return 0;
}

int derp_dial(struct transport *t, const struct hello *h, struct chan **c_out)
{
	int rc;

	if (t->n_peers || t->watch || !t->conf->derp.secret)
		return ERR_INVALID; /* one channel, and nobody without a key */
	t->named = !h->watch && !h->native;
	t->watch = t->mesh = h->watch;
	t->n_peers = h->n_peers;
	t->peer_keys = calloc(h->n_peers + 1, sizeof *t->peer_keys);
	if (!t->peer_keys)
		return -ENOMEM;
	if (!t->named && (rc = learn_native_peers(t, h)) < 0)
		return rc;
	if ((rc = write_hello(t, h)) < 0 || (rc = say_request(t)) < 0)
		return rc;
	if (t->conf->has_meta_key) {
		t->key = t->conf->meta_key;
		t->stage = DERP_GREET;
		if (!t->named) /* a round trip less; ours waits to see who answers */
			rc = say_info(t);
	} else {
		rc = http1_new(&t->answer);
	}
	if (rc == 0)
		*c_out = &t->chan;
	return rc;
}

/* ---- the answers ---- */

static int on_answer(struct transport *t)
{
	const struct http1_head *head = http1_head(t->answer);
	char words[HTTP1_VALUE_LEN + 256];

	if (head->status == 101) {
		t->stage = DERP_GREET;
		http1_free(t->answer);
		t->answer = NULL;
		return 0;
	}
	snprintf(words, sizeof words,
	         "HTTP %d %s instead of DERP%s%s: no DERP server, or a proxy "
	         "that does not let upgrades pass",
	         head->status, head->reason, head->location[0] ? ", to " : "", head->location);
	return derp_fail(t, ERR_PROTOCOL, words);
}

static int take_answer(struct transport *t, struct cursor *in)
{
	size_t left = cursor_left(in), used = left;
	const uint8_t *p = in->p;
	int rc = http1_feed(t->answer, p, left, &used);

	cursor_take(in, rc == 0 ? used : left);
	if (rc == ERR_AGAIN)
		return 0;
	return rc == 0 ? on_answer(t) : derp_fail(t, rc, "the answer is not HTTP");
}

static int on_server_key(struct transport *t, const struct frame *f)
{
	bool marked, sent = t->conf->has_meta_key && !t->named;
	struct key key;

	if (derp_get_server_key(f, &key, &marked) < 0)
		return derp_fail(t, ERR_PROTOCOL, "the greeting is not DERP's");
	if (t->conf->has_meta_key && !key_eq(&key, &t->key))
		return derp_fail(t, ERR_PROTOCOL,
		                 "the server's key is not that of its certificate");
	if (t->named && !marked)
		return derp_fail(
		                t, ERR_INVALID,
		                "this DERP server is no tunn relay: it knows no ids and no tokens; "
		                "say --transport derp without --id, and name the peers as nodekey:HEX");
	t->key = key;
	t->stage = DERP_PENDING;
	t->framer.check = derp_check_server;
	return sent ? 0 : say_info(t);
}

/* What a server counts its clients by: of the one server that we are at it is our home. */
static int say_wishes(struct transport *t)
{
	static const uint8_t yes = 1;

	if (t->watch)
		return derp_put(&t->out, DERP_WATCH_CONNS, NULL, 0);
	return t->named ? 0 : derp_put(&t->out, DERP_NOTE_PREFERRED, &yes, sizeof yes);
}

static int tell_ready(struct transport *t, const struct derp_server_info *info)
{
	char own[sizeof "nodekey:" + KEY_TEXT_LEN] = "nodekey:";
	hex_encode(t->conf->derp.public.b, KEY_LEN, own + strlen(own));
	const struct welcome w = {
		.account = info->account,
		.id = t->named ? info->id : str_of(own),
		.node = info->node,
		.max_payload = t->named ? PAYLOAD_MAX : DERP_PACKET_MAX,
		.version = 1,
		.n_peers = t->n_peers,
		.peer_keys = t->peer_keys,
		.node_key = &t->key,
	};

	words_done(&t->error);
	t->stage = DERP_OPEN;
	t->up = t->n_peers;
	if (say_wishes(t) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	if (t->watch)
		words_say(&t->error, "the relay closed the connection instead of saying who is "
		                     "there: it has another mesh key, or none");
	t->events->ready(t->owner, &t->chan, &w);
	return 0;
}

static int take_server_info(struct transport *t, const struct derp_server_info *info)
{
	if (info->rate)
		bucket_init(&t->rate, info->burst > UINT32_MAX ? UINT32_MAX : (uint32_t)info->burst,
		            info->rate > UINT32_MAX ? UINT32_MAX : (uint32_t)info->rate, t->now_ms);
	t->has_rate = info->rate != 0;
	if (!t->named)
		return tell_ready(t, info);
	if (!info->is_named || info->n_keys != t->n_peers || !name_is_valid(info->account) ||
	    !name_is_valid(info->id))
		return ERR_PROTOCOL;
	memcpy(t->peer_keys, info->keys, t->n_peers * sizeof *t->peer_keys);
	return tell_ready(t, info);
}

static int on_server_info(struct transport *t, const struct frame *f)
{
	struct derp_info_doc *doc = NULL;
	struct derp_server_info info;

	if (f->len < CRYPTO_SEAL_EXTRA)
		return ERR_PROTOCOL;
	size_t len = f->len - CRYPTO_SEAL_EXTRA;
	uint8_t *text = malloc(len + 1);
	if (!text)
		return -ENOMEM;
	int rc = crypto_unseal(f->p, f->len, t->key.b, t->conf->derp.secret, text);
	if (rc == 0)
		rc = derp_server_info_read((struct str){ (const char *)text, len }, &info, &doc);
	if (rc == 0)
		rc = take_server_info(t, &info);
	derp_info_free(doc);
	free(text);
	return rc < 0 && rc != -ENOMEM ? ERR_PROTOCOL : rc;
}

/* ---- a relay's frames ---- */

/* A native server says nothing of peers that come; a packet does. `up` is the peer
 * last heard of, since the next packet is nearly always from the same. */
static void note_native(struct transport *t, const struct key *src)
{
	struct peer_status p = { .key = *src, .state = PEER_UP };

	if (t->named || t->watch || (t->up < t->n_peers && key_eq(&t->peer_keys[t->up], src)))
		return;
	for (unsigned i = 0; i < t->n_peers; i++) {
		if (!key_eq(&t->peer_keys[i], src))
			continue;
		t->up = i;
		t->events->peer(t->owner, &t->chan, &p);
		return;
	}
}

static int on_packet(struct transport *t, const struct frame *f)
{
	struct key src;
	uint32_t flow;
	struct str payload;
	struct pkt *p;

	if (derp_get_any_packet(t, f, &src, &flow, &payload) < 0)
		return ERR_PROTOCOL;
	note_native(t, &src);
	if ((p = derp_packet(t, payload)) == NULL)
		return 0;
	p->src = src;
	p->flow = flow;
	t->events->packet(t->owner, &t->chan, p);
	return 0;
}

static void on_gone(struct transport *t, const struct frame *f)
{
	struct peer_status p = { .state = PEER_GONE };
	uint8_t reason;

	if (derp_get_gone(f, &p.key, &reason) < 0)
		return;
	if (reason == DERP_GONE_NOT_HERE)
		p.state = PEER_ABSENT;
	t->up = t->n_peers;
	t->events->peer(t->owner, &t->chan, &p);
}

static void on_present(struct transport *t, const struct frame *f)
{
	struct derp_present present;
	struct peer_status p = { .state = PEER_UP };

	if (!t->watch || derp_get_present(f, &present) < 0)
		return;
	words_done(&t->error); /* we may watch */
	p.key = present.key;
	memcpy(p.ip, present.ip, sizeof p.ip);
	p.port = present.port;
	p.native_flags = present.flags;
	t->events->peer(t->owner, &t->chan, &p);
}

static void on_restarting(struct transport *t, const struct frame *f)
{
	struct notice n = { .kind = NOTICE_DRAINING };
	uint32_t reconnect_ms, try_ms;

	if (derp_get_restarting(f, &reconnect_ms, &try_ms) < 0)
		return;
	n.within_ms = reconnect_ms < RESTART_MAX_MS ? reconnect_ms : RESTART_MAX_MS;
	t->events->notice(t->owner, &t->chan, &n);
}

/* D20: cut, but not within a character. */
static void on_health(struct transport *t, const struct frame *f)
{
	struct notice n = { .kind = NOTICE_HEALTH, .text = { (const char *)f->p, f->len } };

	if (f->len > HEALTH_MAX)
		for (n.text.len = HEALTH_MAX; n.text.len && (f->p[n.text.len] & 0xc0) == 0x80;)
			n.text.len--;
	if (utf8_is_valid(n.text.p, n.text.len))
		t->events->notice(t->owner, &t->chan, &n);
}

static int on_closed(struct transport *t, const struct msg *m)
{
	char text[GRPC_TEXT_MAX + 1];

	snprintf(text, sizeof text, "%.*s", (int)(m->text.len < 512 ? m->text.len : 512),
	         m->text.len ? m->text.p : "");
	t->stage = DERP_OVER;
	t->events->ended(t->owner, &t->chan, grpc_close_why((int)m->status, text), text);
	return 0;
}

static int on_words(struct transport *t, const struct frame *f)
{
	struct peer_status p;
	struct notice n;
	struct msg m;
	struct key about;
	int rc = derp_hear(t, f, &about, &m);

	if (rc == 0 && m.kind == MSG_STREAM_CLOSED) {
		rc = on_closed(t, &m);
	} else if (rc == 0 && m.kind == MSG_PEER_STATUS && control_to_status(&m, &p)) {
		p.key = about;
		t->events->peer(t->owner, &t->chan, &p);
	} else if (rc == 0 && m.kind == MSG_NOTICE && control_to_notice(&m, &n)) {
		t->events->notice(t->owner, &t->chan, &n);
	}
	arena_clear(&t->arena);
	return rc < 0 && rc != -ENOMEM ? ERR_PROTOCOL : rc;
}

static int on_frame(struct transport *t, const struct frame *f)
{
	switch (f->kind) {
	case DERP_RECV_PACKET: return on_packet(t, f);
	case DERP_PEER_GONE: on_gone(t, f); break;
	case DERP_PEER_PRESENT: on_present(t, f); break;
	case DERP_PING: derp_on_ping(t, f); break;
	case DERP_PONG: derp_on_pong(t, f); break;
	case DERP_RESTARTING: on_restarting(t, f); break;
	case DERP_HEALTH: on_health(t, f); break;
	case DERP_TUNN_FLOW: return t->named ? on_packet(t, f) : 0;
	case DERP_TUNN: return t->named ? on_words(t, f) : 0;
	default: break; /* KeepAlive, and what a later version may say */
	}
	return 0;
}

/* The handshake's frames may be among others; ServerInfo alone ends it. */
static int on_early_frame(struct transport *t, const struct frame *f)
{
	if (f->kind == DERP_SERVER_INFO)
		return on_server_info(t, f);
	if (f->kind == DERP_TUNN && t->named)
		return on_words(t, f);
	return 0;
}

int derp_dial_input(struct transport *t, struct cursor *in)
{
	switch (t->stage) {
	case DERP_HTTP:
		return t->answer ? take_answer(t, in) :
		                   derp_fail(t, ERR_PROTOCOL,
		                             "the server spoke before it was asked");
	case DERP_GREET: return derp_frames(t, in, on_server_key);
	case DERP_PENDING: return derp_frames(t, in, on_early_frame);
	default: return derp_frames(t, in, on_frame);
	}
}
