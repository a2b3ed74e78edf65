#include "common/transport/grpc_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "common/base/crypto.h"

static const uint64_t DRAIN_MARK = UINT64_C(0x647261696e696e67); /* a PING, not a beat */

static void call_free(struct call *c)
{
	if (c->method && c->method->on_free)
		c->method->on_free(c);
	buf_wipe(&c->deframer.framer.partial); /* half a registration, perhaps */
	deframer_done(&c->deframer);
	free(c->names);
	free(c->peers);
	free(c->by_name);
	if (c->token)
		crypto_wipe(c->token, strlen(c->token));
	free(c->token);
	free(c);
}

void grpc_sweep(struct transport *t)
{
	list_each(it, tmp, &t->retired) {
		list_del(it);
		call_free(container_of(it, struct call, node));
	}
}

/* ---- events of the connection ---- */

static void on_closed(void *owner, struct h2_stream *st, uint32_t code)
{
	struct transport *t = owner;
	struct call *c = h2_user(st);

	if (!c)
		return;
	c->stream = NULL;
	if (t->side == SIDE_CLIENT)
		dial_closed(c, code);
	else
		call_ended(c, CLOSE_CANCELLED, "");
}

static uint32_t beat_of(const struct transport *t)
{
	return t->conf->beat_ms ? t->conf->beat_ms : BEAT_MS;
}

static void tell_all(struct transport *t, const struct notice *n, enum call_state least)
{
	list_each(it, tmp, &t->calls) {
		struct call *c = container_of(it, struct call, node);
		if (c->state >= least && c->chan.up)
			t->events->notice(t->owner, &c->chan, n);
	}
}

/* Proposal A8: twice the time between pings, on the next connections. */
static void tell_too_many_pings(struct transport *t)
{
	uint32_t beat_ms = 2 * beat_of(t);
	struct notice n = { .kind = NOTICE_TOO_MANY_PINGS,
		            .beat_ms = beat_ms < BEAT_MAX_MS ? beat_ms : BEAT_MAX_MS };

	tell_all(t, &n, CALL_AWAIT);
}

static void on_goaway(void *owner, uint32_t code, struct str debug)
{
	struct transport *t = owner;
	struct notice n = { .kind = NOTICE_DRAINING, .within_ms = GOAWAY_WITHIN_MS };

	if (code != H2_NO_ERROR)
		words_say(&t->error, "the other side said GOAWAY %u%s%.*s", code,
		          debug.len ? ": " : "", (int)(debug.len < 200 ? debug.len : 200),
		          debug.p ? debug.p : "");
	if (t->side == SIDE_SERVER || t->draining_told)
		return;
	if (code == H2_ENHANCE_YOUR_CALM && str_eq(debug, STR("too_many_pings")))
		tell_too_many_pings(t);
	t->draining_told = true;
	tell_all(t, &n, CALL_OPEN);
}

/* Everything that was under way when the drain was announced has arrived: the
 * last word has the real last stream (S22). */
static void end_drain(struct transport *t)
{
	if (t->drain_ms)
		h2_goaway(t->h2, H2_NO_ERROR, "");
	t->drain_ms = 0;
}

void grpc_beat_answered(struct transport *t)
{
	if (!t->beat_sent_ms)
		return;
	t->rtt_us = (int64_t)(t->now_ms - t->beat_sent_ms) * 1000;
	metric_observe(DISTRIBUTION_RTT, t->now_ms - t->beat_sent_ms, 1);
	t->beat_sent_ms = 0;
}

/* Asks for a sign of life in the streams whose other side has shown that it answers there. */
static bool ask_in_stream(struct transport *t)
{
	struct msg m = { .kind = MSG_HEALTH_CHECK, .timestamp = clock_unix_ms() };
	bool in_stream = false;

	list_each(it, tmp, &t->calls) {
		struct call *c = container_of(it, struct call, node);
		if (c->state == CALL_OPEN && (t->side == SIDE_CLIENT || c->beats)) {
			call_say(c, &m);
			in_stream = true;
		}
	}
	return in_stream;
}

/* What arrives before the answer was sent before now. Who is stopped again and again needs
 * many of them: a relay forgives a PING when it has said something since the one before
 * (gRPC A8), which it does in-stream; and there is one on its way at a time. */
static void mark_fresh(struct transport *t)
{
	t->stale_until_ms = t->now_ms + BEAT_ANSWER_MS;
	t->stopped_again = false;
	t->fresh_mark = ~t->now_ms; /* no time of a heartbeat */
	if (t->side == SIDE_CLIENT)
		ask_in_stream(t);
	h2_ping(t->h2, t->fresh_mark);
}

static void on_ping_ack(void *owner, uint64_t payload)
{
	struct transport *t = owner;

	if (payload == DRAIN_MARK) {
		end_drain(t);
	} else if (payload == t->fresh_mark) {
		bool again = t->stopped_again && t->now_ms < t->stale_until_ms;
		t->stale_until_ms = 0;
		if (again)
			mark_fresh(t);
	} else if (payload && payload == t->beat_sent_ms) {
		grpc_beat_answered(t);
	}
}

static const struct h2_events server_events = { serve_head, serve_data, serve_end,
	                                        on_closed,  on_goaway,  on_ping_ack };
static const struct h2_events client_events = { dial_head, dial_data, dial_end,
	                                        on_closed, on_goaway, on_ping_ack };

/* ---- operations ---- */

static uint64_t next_beat(const struct transport *t)
{
	uint32_t beat_ms = beat_of(t);

	return t->now_ms + beat_ms * 9 / 10 + crypto_random_below(beat_ms / 5);
}

static int grpc_open(const struct transport_conf *conf, enum side side, uint64_t now_ms,
                     const struct transport_events *events, void *owner, struct transport **t_out)
{
	struct transport *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	t->conf = conf;
	t->events = events;
	t->owner = owner;
	t->side = side;
	t->serving = conf->serving;
	t->now_ms = t->last_rx_ms = t->busy_ms = now_ms;
	t->next_beat_ms = next_beat(t);
	t->rtt_us = -1;
	list_init(&t->calls);
	list_init(&t->retired);
	int rc = h2_new(side == SIDE_SERVER ? H2_SERVER : H2_CLIENT, conf->limits, now_ms,
	                side == SIDE_SERVER ? &server_events : &client_events, t, &t->h2);
	if (rc < 0) {
		free(t);
		return rc;
	}
	*t_out = t;
	return 0;
}

static void grpc_free(struct transport *t)
{
	if (!t)
		return;
	list_each(it, tmp, &t->calls) {
		list_del(it);
		call_free(container_of(it, struct call, node));
	}
	grpc_sweep(t);
	arena_clear(&t->arena);
	h2_free(t->h2);
	words_done(&t->error);
	free(t);
}

static int failed(struct transport *t, int rc, const char *text)
{
	if (rc < 0 && !t->failed) {
		t->failed = rc;
		if (!words_said(&t->error))
			words_say(&t->error, "%s", text);
	}
	return t->failed;
}

static int grpc_input(struct transport *t, const uint8_t *data, size_t len, uint64_t now_ms)
{
	if (t->failed)
		return t->failed;
	t->now_ms = t->last_rx_ms = now_ms;
	t->dead_ms = 0;
	t->inside = true;
	int rc = h2_input(t->h2, data, len, now_ms);
	t->inside = false;
	grpc_sweep(t);
	if (rc == 0 && h2_is_over(t->h2))
		rc = ERR_CLOSED;
	return failed(t, rc, h2_error_text(t->h2));
}

static int grpc_flush(struct transport *t, struct buf *out, size_t budget)
{
	int rc = h2_flush(t->h2, out, budget);

	if (rc == 0 && h2_is_over(t->h2))
		rc = ERR_CLOSED;
	return failed(t, rc, h2_error_text(t->h2));
}

static size_t grpc_waiting(const struct transport *t) { return h2_waiting(t->h2); }
static bool grpc_has_output(const struct transport *t) { return h2_has_output(t->h2); }

/* By a PING only where nobody answers in-stream: only that keeps proxies from closing an
 * idle stream. */
static void ask(struct transport *t, uint32_t within_ms)
{
	t->beat_sent_ms = t->now_ms;
	if (!ask_in_stream(t))
		h2_ping(t->h2, t->now_ms);
	if (!t->dead_ms || t->now_ms + within_ms < t->dead_ms)
		t->dead_ms = t->now_ms + within_ms;
}

static bool is_idle(struct transport *t)
{
	if (!list_empty(&t->calls))
		t->busy_ms = t->now_ms;
	return t->now_ms - t->busy_ms > t->conf->limits->idle_ms;
}

static int grpc_tick(struct transport *t, uint64_t now_ms)
{
	t->now_ms = now_ms;
	t->inside = true;
	list_each(it, tmp, &t->calls) {
		struct call *c = container_of(it, struct call, node);
		if (t->side == SIDE_SERVER)
			serve_tick(c);
		else
			dial_tick(c);
	}
	t->inside = false;
	grpc_sweep(t);
	if (t->side == SIDE_SERVER && is_idle(t)) {
		h2_goaway(t->h2, H2_NO_ERROR, "idle");
		return failed(t, ERR_CLOSED, "no call for too long");
	}
	if (t->drain_ms && now_ms >= t->drain_ms)
		end_drain(t);
	if (t->dead_ms && now_ms >= t->dead_ms)
		return failed(t, -ETIMEDOUT, "no sign of life");
	if (now_ms >= t->next_beat_ms) {
		t->next_beat_ms = next_beat(t);
		ask(t, BEAT_ANSWER_MS);
	}
	return failed(t, h2_tick(t->h2, now_ms), h2_error_text(t->h2));
}

static bool grpc_nap(struct transport *t)
{
	if (t->dead_ms)
		return false;
	list_each(it, tmp, &t->calls) {
		struct buf *partial = &container_of(it, struct call, node)->deframer.framer.partial;
		if (buf_len(partial) == 0)
			buf_done(partial);
	}
	h2_nap(t->h2);
	return true;
}

static uint32_t grpc_rest_ms(struct transport *t) { return h2_rest_ms(t->h2); }

static void grpc_freshen(struct transport *t, uint64_t now_ms, uint64_t stopped_ms)
{
	t->now_ms = now_ms;
	if (t->dead_ms)
		t->dead_ms += stopped_ms;
	if (now_ms < t->stale_until_ms)
		t->stopped_again = true;
	else
		mark_fresh(t);
	t->stale_until_ms = now_ms + BEAT_ANSWER_MS;
	list_each(it, tmp, &t->calls) {
		struct call *c = container_of(it, struct call, node);
		c->opened_ms = now_ms;
		c->partial_ms = c->partial_ms ? now_ms : 0;
	}
}

static uint32_t grpc_stalled_ms(const struct transport *t)
{
	(void)t;
	return 0;
}

static void grpc_probe(struct transport *t, uint64_t now_ms, uint32_t within_ms)
{
	t->now_ms = now_ms;
	ask(t, within_ms);
}

static void grpc_goodbye(struct transport *t, enum close_why why)
{
	if (why == CLOSE_DRAINING && t->side == SIDE_SERVER && !t->draining_told) {
		t->draining_told = true;
		h2_shutdown_notice(t->h2);
		h2_ping(t->h2, DRAIN_MARK);
		t->drain_ms = t->now_ms + DRAIN_ANSWER_MS;
	} else if (!t->failed) {
		h2_goaway(t->h2, why == CLOSE_FLOOD ? H2_ENHANCE_YOUR_CALM : H2_NO_ERROR, "");
	}
}

static void grpc_stats(const struct transport *t, struct transport_stats *stats_out)
{
	stats_out->rtt_us = t->rtt_us;
	stats_out->companion = t->companion;
}

static const char *grpc_error_text(const struct transport *t) { return words_text(&t->error); }

static void grpc_end(struct chan *chan, enum close_why why, const char *text)
{
	struct call *c = call_of(chan);

	if (chan->transport->side == SIDE_SERVER) {
		tunnel_end(c, why, text);
		return;
	}
	if (c->stream)
		h2_finish(chan->transport->h2, c->stream, NULL, 0);
	call_retire(c);
}

const struct transport_ops transport_grpc = {
	.name = "grpc",
	.alpn = "h2",
	.max_payload = PAYLOAD_MAX,
	.packet_head = 14,
	.open = grpc_open,
	.input = grpc_input,
	.flush = grpc_flush,
	.waiting = grpc_waiting,
	.has_output = grpc_has_output,
	.tick = grpc_tick,
	.nap = grpc_nap,
	.rest_ms = grpc_rest_ms,
	.freshen = grpc_freshen,
	.stalled_ms = grpc_stalled_ms,
	.probe = grpc_probe,
	.tell_serving = health_tell_serving,
	.goodbye = grpc_goodbye,
	.free = grpc_free,
	.stats = grpc_stats,
	.error_text = grpc_error_text,
	.dial = dial_dial,
	.admit = tunnel_admit,
	.refuse = tunnel_refuse,
	.window = call_window,
	.send = call_send,
	.tell_peer = tunnel_tell_peer,
	.tell_notice = tunnel_tell_notice,
	.answer = page_answer,
	.end = grpc_end,
};
