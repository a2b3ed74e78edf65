/* Server: the handshake of a DERP connection, and the frames of its end. */
#include "common/transport/derp_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "common/transport/control.h"
#include "common/wire/derp_info.h"

enum {
	HELD_MAX = 512 * 1024, /* reading rests while admission is pending */
	TOLD_MAX = 64 << 20,   /* a million PeerPresent: who lets more wait does not read */
};

/* ---- handshake ---- */

int derp_serve_begin(struct transport *t)
{
	http1_reader_free(t->reader);
	t->reader = NULL;
	t->stage = DERP_GREET;
	metric_add(METRIC_DERP_ACCEPTS, 1);
	if (derp_put_server_key(&t->out, &t->conf->derp.public, t->marked) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	return 0;
}

static void tell_native(struct transport *t, const struct derp_client_info *info)
{
	const struct hello hello = {
		.peer_address = str_of(t->conf->host_address),
		.version = DERP_VERSION,
		.bidirectional = true,
		.node_key = &t->key,
		.native_flags = (uint8_t)((t->mesh ? NATIVE_MESH : 0) |
		                          (info->is_prober ? NATIVE_PROBER : 0) |
		                          (t->not_ideal ? NATIVE_NOT_IDEAL : 0)),
	};

	t->events->hello(t->owner, &t->chan, &hello);
}

static void tell_named(struct transport *t, struct derp_client_info *info)
{
	struct hello hello = {
		.id = info->id,
		.token = info->token,
		.peer_address = str_of(t->conf->host_address),
		.has_instance = info->has_instance,
		.version = 1,
		.role = (enum role)info->role,
		.bidirectional = !info->is_one_way,
		.n_peers = hello_without_doubles(info->peers, info->n_peers),
		.peers = info->peers,
		.node_key = &t->key,
	};
	const char *error = hello_error(&hello);

	memcpy(hello.instance, info->instance, sizeof hello.instance);
	t->named = true;
	if (error)
		derp_serve_refuse(&t->chan, CLOSE_INVALID, error);
	else
		t->events->hello(t->owner, &t->chan, &hello);
}

static bool has_mesh_key(const struct transport *t, const struct derp_client_info *info)
{
	static const uint8_t none[KEY_LEN];
	const uint8_t *ours = t->conf->derp.mesh_key;

	return ours && info->has_mesh_key && !crypto_same(ours, none, KEY_LEN) &&
	       crypto_same(info->mesh_key, ours, KEY_LEN);
}

/* What is in the box proves that the end has the key it claims (derp.md 2.5). */
static int take_info(struct transport *t, struct str text)
{
	struct derp_info_doc *doc;
	struct derp_client_info info;
	int rc = derp_client_info_read(text, &info, &doc);

	if (rc < 0)
		return rc;
	t->mesh = has_mesh_key(t, &info);
	crypto_wipe(info.mesh_key, sizeof info.mesh_key);
	t->stage = DERP_PENDING;
	t->framer.check = derp_check_client;
	if (key_eq(&t->key, &t->conf->derp.public) && !t->mesh)
		rc = ERR_PROTOCOL; /* ourselves, but not as a mate */
	else if (info.is_named && t->marked)
		tell_named(t, &info);
	else
		tell_native(t, &info);
	derp_info_free(doc);
	return rc;
}

static int on_first(struct transport *t, const struct frame *f)
{
	struct str box;
	int rc = derp_get_client_info(f, &t->key, &box);

	if (rc < 0 || box.len < CRYPTO_SEAL_EXTRA || t->key.b[KEY_LEN - 1] & 0x80)
		return ERR_PROTOCOL; /* bit 255: keys of named tunnels have it (product.md 4) */
	size_t len = box.len - CRYPTO_SEAL_EXTRA;
	uint8_t *text = malloc(len + 1);
	if (!text)
		return -ENOMEM;
	rc = crypto_unseal((const uint8_t *)box.p, box.len, t->key.b, t->conf->derp.secret, text);
	if (rc == 0)
		rc = take_info(t, (struct str){ (const char *)text, len });
	else
		rc = ERR_PROTOCOL;
	crypto_wipe(text, len);
	free(text);
	buf_wipe(&t->framer.partial);
	return rc;
}

/* ---- admission ---- */

static int say_info(struct transport *t, const struct welcome *w)
{
	struct derp_server_info info = { .version = DERP_VERSION };
	struct buf text = { 0 };
	size_t before = buf_len(&t->out);

	if (t->named) {
		info.is_named = true;
		info.account = w->account;
		info.id = w->id;
		info.node = w->node;
		info.n_keys = w->n_peers;
		info.keys = (struct key *)(uintptr_t)w->peer_keys;
	}
	int rc = derp_server_info_write(&info, &text);
	uint8_t *box = rc == 0 ? derp_put_open(&t->out, DERP_SERVER_INFO,
	                                       buf_len(&text) + CRYPTO_SEAL_EXTRA) :
	                         NULL;
	if (box)
		rc = crypto_seal(buf_data(&text), buf_len(&text), t->key.b, t->conf->derp.secret,
		                 box);
	else
		rc = -ENOMEM;
	if (rc < 0)
		buf_cut(&t->out, before);
	buf_done(&text);
	return rc;
}

int derp_serve_admit(struct chan *chan, const struct welcome *w)
{
	struct transport *t = derp_of(chan);

	if (t->stage != DERP_PENDING)
		return ERR_CLOSED;
	if (say_info(t, w) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	t->stage = DERP_OPEN;
	t->next_keep_alive_ms = t->now_ms + t->keep_alive_ms;
	return 0;
}

void derp_serve_end(struct transport *t, enum close_why why, const char *text)
{
	const struct msg m = { .kind = MSG_STREAM_CLOSED,
		               .text = str_of(text),
		               .status = (uint32_t)close_grpc_status(why) };

	if (t->named)
		derp_say(t, NULL, &m);
	t->stage = DERP_OVER;
}

void derp_serve_refuse(struct chan *chan, enum close_why why, const char *text)
{
	derp_serve_end(derp_of(chan), why, text);
}

/* ---- an end's frames ---- */

static void wish(struct transport *t, enum wish_kind kind, bool on, const struct key *key)
{
	struct wish w = { .kind = kind, .on = on };

	if (key)
		w.key = *key;
	t->events->wish(t->owner, &t->chan, &w);
}

static int on_packet(struct transport *t, const struct frame *f)
{
	struct key dst;
	uint32_t flow;
	struct str payload;
	struct pkt *p;

	if (derp_get_any_packet(t, f, &dst, &flow, &payload) < 0)
		return ERR_PROTOCOL;
	if ((p = derp_packet(t, payload)) == NULL)
		return 0;
	p->dst = dst;
	p->flow = flow;
	t->events->packet(t->owner, &t->chan, p);
	return 0;
}

static int on_forward(struct transport *t, const struct frame *f)
{
	struct key src, dst;
	struct str payload;
	struct pkt *p;

	if (!t->mesh || derp_get_forward(f, &src, &dst, &payload) < 0)
		return ERR_PROTOCOL;
	if ((p = derp_packet(t, payload)) == NULL)
		return 0;
	p->src = src;
	p->dst = dst;
	t->events->forward(t->owner, &t->chan, p);
	return 0;
}

static int on_close_peer(struct transport *t, const struct frame *f)
{
	struct key key;
	struct str none;

	if (!t->mesh || derp_get_packet(f, &key, &none) < 0)
		return ERR_PROTOCOL;
	wish(t, WISH_CLOSE_PEER, true, &key);
	return 0;
}

static int on_watch(struct transport *t)
{
	if (!t->mesh)
		return ERR_PROTOCOL;
	wish(t, WISH_WATCH, true, NULL);
	return 0;
}

static int on_control(struct transport *t, const struct frame *f)
{
	switch (f->kind) {
	case DERP_NOTE_PREFERRED: wish(t, WISH_HOME, f->p[0] != 0, NULL); return 0;
	case DERP_WATCH_CONNS: return on_watch(t);
	case DERP_CLOSE_PEER: return on_close_peer(t, f);
	case DERP_PING:
		metric_add(METRIC_DERP_PINGS, 1);
		derp_on_ping(t, f);
		return 0;
	case DERP_PONG: derp_on_pong(t, f); return 0;
	default: metric_add(METRIC_DERP_UNKNOWN_FRAMES, 1); return 0; /* skipped, whatever it is */
	}
}

static int on_frame(struct transport *t, const struct frame *f)
{
	if (f->kind == DERP_SEND_PACKET || (f->kind == DERP_TUNN_FLOW && t->named))
		return on_packet(t, f);
	if (f->kind == DERP_FORWARD_PACKET)
		return on_forward(t, f);
	if (derp_spend(t) < 0)
		return ERR_FLOOD;
	if (!t->named) /* any frame counts (derp.md 3.6) */
		wish(t, WISH_ACTIVE, true, NULL);
	return t->stage == DERP_OVER ? 0 : on_control(t, f);
}

/* ---- in ---- */

static int hold(struct transport *t, struct cursor *in)
{
	size_t n = cursor_left(in);

	if (buf_len(&t->held) + n > HELD_MAX)
		return derp_fail(t, ERR_FLOOD, "too much before the end was admitted");
	if (buf_add(&t->held, cursor_take(in, n), n) < 0)
		return derp_fail(t, -ENOMEM, "out of memory");
	return 0;
}

int derp_serve_held(struct transport *t)
{
	struct buf held = t->held;
	struct cursor in = cursor_of(buf_data(&held), buf_len(&held));

	t->held = (struct buf){ 0 };
	int rc = derp_frames(t, &in, on_frame);
	buf_done(&held);
	return rc;
}

int derp_serve_input(struct transport *t, struct cursor *in)
{
	if (t->stage == DERP_PENDING)
		return hold(t, in);
	if (t->stage == DERP_OPEN && buf_len(&t->held) && derp_serve_held(t) < 0)
		return t->failed;
	return derp_frames(t, in, t->stage == DERP_GREET ? on_first : on_frame);
}

/* ---- what the relay tells ---- */

static int tell_native_peer(struct transport *t, const struct peer_status *p)
{
	struct derp_present present = { .key = p->key,
		                        .port = p->port,
		                        .flags = p->native_flags ? p->native_flags :
		                                                   DERP_PRESENT_REGULAR };

	switch (p->state) {
	case PEER_UP:
		memcpy(present.ip, p->ip, sizeof present.ip);
		return derp_put_present(&t->out, &present);
	case PEER_GONE:
		metric_add(METRIC_DERP_PEER_GONE, 1);
		return derp_put_gone(&t->out, &p->key, DERP_GONE_DISCONNECTED);
	case PEER_ABSENT:
		metric_add(METRIC_DERP_PEER_NOT_HERE, 1);
		return derp_put_gone(&t->out, &p->key, DERP_GONE_NOT_HERE);
	default: return 0;
	}
}

int derp_serve_tell_peer(struct chan *chan, const struct peer_status *p)
{
	struct transport *t = derp_of(chan);
	struct msg m;

	if (t->stage != DERP_OPEN)
		return ERR_CLOSED;
	if (buf_len(&t->out) > TOLD_MAX)
		return derp_fail(t, ERR_FLOOD, "it does not take what it is told");
	if (!t->named)
		return tell_native_peer(t, p);
	control_of_status(p, &m);
	return derp_say(t, &p->key, &m);
}

int derp_serve_tell_notice(struct chan *chan, const struct notice *n)
{
	struct transport *t = derp_of(chan);
	struct msg m;

	if (!t->named) /* Health and Restarting end some clients (derp.md 8) */
		return 0;
	control_of_notice(n, &m);
	return derp_say(t, NULL, &m);
}
