#include "common/transport/derp_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/metric.h"

enum {
	BEAT_MS = 15000,        /* of a client, and of a server to our own ends */
	BEAT_ANSWER_MS = 10000, /* a Ping unanswered for so long: dead */
	KEEP_ALIVE_MS = 60000,  /* derp.md 2.8; the other side gives up after 120 s */
	KEEP_ALIVE_MORE_MS = 5000,
	STALLED_MS = 2000, /* derp.md 3.3 */
	STALLED_MESH_MS = 30000,
	STALLED_MATE_MS = 5000, /* what we forward: derp.md 3.7 */
	/* Admission takes seconds at most, and so what is read until then stays below
	 * HELD_MAX (derp_serve.c). */
	HELD_SOME = 64 * 1024,
	HELD_REST_MS = 1000,
	SAID_AT_ONCE = 128 * 1024, /* more than packets ever are: it is what a mate is told */
	KEEPS_PACKETS = 32,
	KEEPS_BYTES = (KEEPS_PACKETS + 2) * (DERP_PACKET_MAX + DERP_PACKET_HEAD),
};

/* ---- failures, budgets ---- */

int derp_fail(struct transport *t, int err, const char *text)
{
	if (!t->failed) {
		t->failed = err;
		words_say(&t->error, "%s", text);
	}
	return t->failed;
}

int derp_spend(struct transport *t)
{
	if (t->side == SIDE_CLIENT || budget_spend(&t->controls, t->now_ms, &t->rest))
		return 0;
	return derp_fail(t, ERR_FLOOD, "too many frames that carry no packet");
}

/* ---- packets ---- */

static struct pkt *ignore(struct transport *t, enum drop_why why)
{
	t->chan.n_ignored++;
	metric_drop(why);
	return NULL;
}

int derp_get_any_packet(const struct transport *t, const struct frame *f, struct key *key_out,
                        uint32_t *flow_out, struct str *payload_out)
{
	*flow_out = 0;
	return f->kind == DERP_TUNN_FLOW && t->named ?
	                       derp_get_flow(f, key_out, flow_out, payload_out) :
	                       derp_get_packet(f, key_out, payload_out);
}

struct pkt *derp_packet(struct transport *t, struct str payload)
{
	struct pkt *p;

	if (t->now_ms < t->stale_until_ms)
		return ignore(t, DROP_STALE);
	if (payload.len > PKT_MAX) /* of a flow: the others' frames have that limit */
		return ignore(t, DROP_TOO_BIG);
	if ((p = pkt_new(payload.len)) == NULL)
		return ignore(t, DROP_NOMEM);
	if (payload.len)
		memcpy(p->data, payload.p, payload.len);
	memset(&p->src, 0, sizeof p->src);
	memset(&p->dst, 0, sizeof p->dst);
	p->born_ms = t->now_ms;
	return p;
}

static size_t derp_window(const struct chan *chan)
{
	return derp_of(chan)->stage == DERP_OPEN ? SIZE_MAX : 0;
}

static int derp_send(struct chan *chan, struct pkt *p)
{
	struct transport *t = derp_of(chan);
	int rc;

	if (t->stage != DERP_OPEN) {
		pkt_drop(p, DROP_LINK_CLOSED);
		return 0;
	}
	if (t->has_rate &&
	    !bucket_take(&t->rate, (uint32_t)(DERP_PACKET_HEAD + p->len), t->now_ms)) {
		pkt_drop(p, DROP_OVER_LIMIT);
		return 0;
	}
	const struct key *key = t->side == SIDE_SERVER ? &p->src : &p->dst;
	if (t->named && p->flow)
		rc = derp_put_flow(&t->out, key, p->flow, p->data, p->len);
	else if (t->side == SIDE_SERVER)
		rc = derp_put_packet(&t->out, DERP_RECV_PACKET, &p->src, p->data, p->len);
	else if (t->mesh)
		rc = derp_put_forward(&t->out, &p->src, &p->dst, p->data, p->len);
	else
		rc = derp_put_packet(&t->out, DERP_SEND_PACKET, &p->dst, p->data, p->len);
	if (rc < 0)
		pkt_drop(p, DROP_NOMEM);
	else
		pkt_free(p);
	return rc;
}

/* ---- signs of life ---- */

static void put_u64(uint8_t out[static 8], uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		out[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t p[static 8])
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

int derp_ping(struct transport *t, uint64_t payload)
{
	uint8_t b[DERP_PING_LEN];

	put_u64(b, payload);
	return derp_put(&t->out, DERP_PING, b, sizeof b);
}

void derp_on_pong(struct transport *t, const struct frame *f)
{
	if (f->len < DERP_PING_LEN)
		return;
	uint64_t payload = get_u64(f->p);
	if (payload == t->fresh_mark) {
		t->stale_until_ms = 0;
	} else if (payload && payload == t->beat_sent_ms) {
		t->rtt_us = (int64_t)(t->now_ms - payload) * 1000;
		metric_observe(DISTRIBUTION_RTT, t->now_ms - payload, 1);
		t->beat_sent_ms = 0;
	}
}

/* One answer waits at most: who asks faster than it reads gets fewer. */
void derp_on_ping(struct transport *t, const struct frame *f)
{
	if (f->len < DERP_PING_LEN || t->has_pong)
		return;
	t->has_pong = true;
	memcpy(t->pong, f->p, sizeof t->pong);
}

static uint32_t beat_of(const struct transport *t)
{
	return t->conf->beat_ms ? t->conf->beat_ms : BEAT_MS;
}

/* A native end is never asked: the original does not, and some clients end at a frame
 * that they do not expect (derp.md 8). */
static bool may_ask(const struct transport *t)
{
	return t->stage == DERP_OPEN && (t->side == SIDE_CLIENT || t->named);
}

static void ask(struct transport *t, uint32_t within_ms)
{
	if (derp_ping(t, t->now_ms) < 0)
		return; /* what was not asked needs no answer; the next beat asks */
	t->beat_sent_ms = t->now_ms;
	if (!t->dead_ms || t->now_ms + within_ms < t->dead_ms)
		t->dead_ms = t->now_ms + within_ms;
}

static uint64_t next_beat(const struct transport *t)
{
	return t->now_ms + beat_of(t) * 9 / 10 + crypto_random_below(beat_of(t) / 5);
}

/* ---- our own words ---- */

int derp_say(struct transport *t, const struct key *about, const struct msg *m)
{
	static const struct key nobody;
	struct buf text = { 0 };
	int rc = msg_encode(m, &text);

	if (rc == 0) {
		buf_eat(&text, FRAME_HEAD_LEN); /* the prefix of a gRPC message */
		rc = derp_put_packet(&t->out, DERP_TUNN, about ? about : &nobody, buf_data(&text),
		                     buf_len(&text));
	}
	buf_done(&text);
	return rc;
}

int derp_hear(struct transport *t, const struct frame *f, struct key *about_out,
              struct msg *msg_out)
{
	struct str text;

	if (derp_get_packet(f, about_out, &text) < 0)
		return ERR_PROTOCOL;
	return msg_decode(&t->arena, (const uint8_t *)text.p, text.len, msg_out);
}

/* ---- in ---- */

int derp_frames(struct transport *t, struct cursor *in,
                int (*on_frame)(struct transport *, const struct frame *))
{
	enum derp_stage stage = t->stage;
	struct frame f;
	int rc = 0;

	if (stage == DERP_OVER) /* by what was held */
		return 0;
	while (t->stage == stage && (rc = frame_next(&t->framer, in, &f)) == 0) {
		t->partial_ms = 0; /* it is whole: the next has its own time */
		if ((rc = on_frame(t, &f)) < 0)
			break;
	}
	if (!t->partial_ms && !framer_is_between(&t->framer))
		t->partial_ms = t->now_ms;
	if (rc == ERR_AGAIN || rc == 0)
		return 0;
	return derp_fail(t, rc,
	                 rc == ERR_TOO_BIG ? "a frame longer than DERP has" :
	                 rc == -ENOMEM     ? "out of memory" :
	                                     "a frame that DERP does not have there");
}

int derp_take_in(struct transport *t, const uint8_t *data, size_t len)
{
	struct cursor in = cursor_of(data, len);
	size_t before = 0;
	int rc = 0;

	while (rc == 0 && cursor_left(&in) && cursor_left(&in) != before && t->stage != DERP_OVER) {
		before = cursor_left(&in);
		if (t->side == SIDE_CLIENT)
			rc = derp_dial_input(t, &in);
		else if (t->stage == DERP_HTTP)
			rc = derp_http_input(t, &in);
		else if (t->stage == DERP_ASKED)
			cursor_take(&in, cursor_left(&in)); /* the answer is the last */
		else
			rc = derp_serve_input(t, &in);
	}
	return rc;
}

static int derp_input(struct transport *t, const uint8_t *data, size_t len, uint64_t now_ms)
{
	if (t->failed)
		return t->failed;
	t->now_ms = now_ms;
	t->dead_ms = 0;
	return t->ws ? derp_ws_input(t, data, len) : derp_take_in(t, data, len);
}

/* ---- out ---- */

static bool derp_has_output(const struct transport *t)
{
	return buf_len(&t->out) || t->has_pong || (t->ws && ws_has_output(t->ws));
}

static size_t derp_waiting(const struct transport *t) { return buf_len(&t->out); }

/* Packets come only as the pump has room for them, but a mate that watches is told of all
 * ends at once, megabytes of them: they wait here, where they count against no limit. */
static int say_what_may_go(struct transport *t, struct buf *out, size_t budget)
{
	size_t n = buf_len(&t->out);

	if (n > SAID_AT_ONCE && n > budget && !t->failed && t->stage != DERP_OVER)
		n = budget;
	if (n == buf_len(&t->out) && buf_len(out) == 0) {
		struct buf empty = *out;
		*out = t->out;
		t->out = empty;
		return 0;
	}
	int rc = buf_add(out, buf_data(&t->out), n);
	if (rc == 0)
		buf_eat(&t->out, n);
	return rc;
}

static int derp_flush(struct transport *t, struct buf *out, size_t budget)
{
	int rc;

	if (t->has_pong && derp_put(&t->out, DERP_PONG, t->pong, sizeof t->pong) == 0)
		metric_add(METRIC_DERP_PONGS, 1);
	t->has_pong = false;
	rc = t->ws ? derp_ws_flush(t, out) : say_what_may_go(t, out, budget);
	if (rc < 0)
		return derp_fail(t, rc, "out of memory");
	return t->failed ? t->failed : t->stage == DERP_OVER ? ERR_CLOSED : 0;
}

/* ---- time ---- */

static int keep_alive(struct transport *t)
{
	if (t->stage != DERP_OPEN || t->side == SIDE_CLIENT || t->now_ms < t->next_keep_alive_ms)
		return 0;
	t->next_keep_alive_ms = t->now_ms + t->keep_alive_ms;
	return derp_put(&t->out, DERP_KEEP_ALIVE, NULL, 0);
}

static int derp_tick(struct transport *t, uint64_t now_ms)
{
	t->now_ms = now_ms;
	if (t->failed)
		return t->failed;
	if (t->stage == DERP_OPEN && buf_len(&t->held) && derp_serve_held(t) < 0)
		return t->failed;
	if (t->dead_ms && now_ms >= t->dead_ms)
		return derp_fail(t, -ETIMEDOUT, "no sign of life");
	if (t->partial_ms && now_ms - t->partial_ms > t->conf->limits->frame_ms)
		return derp_fail(t, -ETIMEDOUT, "a frame did not arrive in time");
	if (may_ask(t) && now_ms >= t->next_beat_ms) {
		t->next_beat_ms = next_beat(t);
		ask(t, BEAT_ANSWER_MS);
	}
	return keep_alive(t) < 0 ? derp_fail(t, -ENOMEM, "out of memory") : 0;
}

static bool derp_nap(struct transport *t)
{
	if (t->dead_ms)
		return false;
	if (framer_is_between(&t->framer))
		buf_done(&t->framer.partial);
	if (buf_len(&t->out) == 0)
		buf_done(&t->out);
	return true;
}

static uint32_t derp_rest_ms(struct transport *t)
{
	bool rest = t->rest;

	t->rest = false;
	if (t->stage == DERP_ASKED)
		return BUDGET_REST_MS;
	if (t->side == SIDE_SERVER && t->stage == DERP_PENDING)
		return buf_len(&t->held) > HELD_SOME ? HELD_REST_MS : BUDGET_REST_MS;
	return rest ? BUDGET_REST_MS : 0;
}

static void derp_freshen(struct transport *t, uint64_t now_ms, uint64_t stopped_ms)
{
	t->now_ms = now_ms;
	if (t->dead_ms)
		t->dead_ms += stopped_ms;
	if (t->partial_ms)
		t->partial_ms = now_ms;
	if (!may_ask(t))
		return;
	t->stale_until_ms = now_ms + BEAT_ANSWER_MS;
	t->fresh_mark = ~now_ms; /* no time of a heartbeat */
	derp_ping(t, t->fresh_mark);
}

static uint32_t derp_stalled_ms(const struct transport *t)
{
	if (t->stage != DERP_OPEN)
		return 0;
	if (t->side == SIDE_CLIENT)
		return t->watch ? STALLED_MATE_MS : 0;
	return t->mesh ? STALLED_MESH_MS : STALLED_MS;
}

static void derp_probe(struct transport *t, uint64_t now_ms, uint32_t within_ms)
{
	t->now_ms = now_ms;
	if (may_ask(t))
		ask(t, within_ms);
}

/* ---- life ---- */

static int derp_open(const struct transport_conf *conf, enum side side, uint64_t now_ms,
                     const struct transport_events *events, void *owner, struct transport **t_out)
{
	struct transport *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	t->chan = (struct chan){ .ops = &transport_derp, .transport = t };
	t->conf = conf;
	t->events = events;
	t->owner = owner;
	t->side = side;
	t->now_ms = now_ms;
	t->rtt_us = -1;
	t->next_beat_ms = next_beat(t);
	t->keep_alive_ms = KEEP_ALIVE_MS + crypto_random_below(KEEP_ALIVE_MORE_MS);
	t->next_keep_alive_ms = now_ms + t->keep_alive_ms;
	budget_init(&t->controls, conf->limits->controls_burst, conf->limits->controls_per_s,
	            now_ms);
	t->framer.check = side == SIDE_SERVER ? derp_check_first_of_client :
	                                        derp_check_first_of_server;
	*t_out = t;
	return 0;
}

static void derp_free(struct transport *t)
{
	if (!t)
		return;
	derp_dial_forget(t);
	http1_reader_free(t->reader);
	derp_web_free(t);
	http1_free(t->answer);
	ws_free(t->ws);
	buf_wipe(&t->framer.partial); /* half a ClientInfo, perhaps */
	framer_done(&t->framer);
	buf_done(&t->held);
	buf_done(&t->out);
	free(t->peer_keys);
	arena_clear(&t->arena);
	words_done(&t->error);
	free(t);
}

static int derp_tell_serving(struct transport *t, bool serving)
{
	(void)t, (void)serving; /* DERP has no health service */
	return 0;
}

static void derp_goodbye(struct transport *t, enum close_why why)
{
	(void)t, (void)why; /* nor a goodbye: it closes */
}

static void derp_end(struct chan *chan, enum close_why why, const char *text)
{
	struct transport *t = derp_of(chan);

	if (t->side == SIDE_SERVER)
		derp_serve_end(t, why, text);
	t->stage = DERP_OVER;
}

static void derp_stats(const struct transport *t, struct transport_stats *stats_out)
{
	stats_out->rtt_us = t->rtt_us;
	stats_out->companion = false;
}

static const char *derp_error_text(const struct transport *t) { return words_text(&t->error); }

const struct transport_ops transport_derp = {
	.name = "derp",
	.alpn = "http/1.1",
	.max_payload = DERP_PACKET_MAX,
	.packet_head = DERP_PACKET_HEAD,
	.keeps_packets = KEEPS_PACKETS,
	.keeps_bytes = KEEPS_BYTES,
	.open = derp_open,
	.input = derp_input,
	.flush = derp_flush,
	.waiting = derp_waiting,
	.has_output = derp_has_output,
	.tick = derp_tick,
	.nap = derp_nap,
	.rest_ms = derp_rest_ms,
	.freshen = derp_freshen,
	.stalled_ms = derp_stalled_ms,
	.probe = derp_probe,
	.tell_serving = derp_tell_serving,
	.goodbye = derp_goodbye,
	.free = derp_free,
	.stats = derp_stats,
	.error_text = derp_error_text,
	.dial = derp_dial,
	.admit = derp_serve_admit,
	.refuse = derp_serve_refuse,
	.window = derp_window,
	.send = derp_send,
	.tell_peer = derp_serve_tell_peer,
	.tell_notice = derp_serve_tell_notice,
	.answer = derp_answer,
	.end = derp_end,
};
