/*
 * A tunnel from greeting to goodbye between two grpc transports in memory. While
 * memory was short a conversation may have broken; it may not hang in the air: a
 * minute later it is over, or it works.
 */
#include <errno.h>

#include "tests/nomem/scene.h"
#include "tests/unit/transport/back_to_back.h"

extern const struct transport_ops transport_grpc;
#define OPS (&transport_grpc)

struct talk {
	struct pair pair;
	int rc[2]; /* of the server and of the client, once one of them failed */
};

static bool is_over(const struct talk *t) { return t->rc[0] || t->rc[1]; }

static void note(struct talk *t, struct transport *who, int rc)
{
	int *at = &t->rc[who == t->pair.client];

	*at = *at ? *at : rc;
}

/* As a link does it: what is there to say is said also when saying it failed. */
static bool move(struct talk *t, struct transport *from, struct transport *to)
{
	struct buf out = { 0 };
	bool some;

	note(t, from, OPS->flush(from, &out, 1 << 20));
	some = buf_len(&out) > 0;
	if (some && !is_over(t))
		note(t, to, OPS->input(to, buf_data(&out), buf_len(&out), t->pair.now_ms));
	buf_done(&out);
	return some;
}

static void run(struct talk *t)
{
	struct pair *p = &t->pair;

	for (bool some = true; some && !is_over(t);) {
		some = move(t, p->client, p->server);
		if (!is_over(t) && move(t, p->server, p->client))
			some = true;
	}
}

static void pass_time(struct talk *t, unsigned seconds)
{
	struct pair *p = &t->pair;

	for (unsigned i = 0; i < seconds && !is_over(t); i++) {
		p->now_ms += 1000;
		note(t, p->server, OPS->tick(p->server, p->now_ms));
		note(t, p->client, OPS->tick(p->client, p->now_ms));
		run(t);
	}
}

static void send(struct chan *c, const struct key *dst, const struct key *src, size_t len)
{
	struct pkt *p = c ? pkt_new(len) : NULL;

	if (!p)
		return;
	memset(p->data, 'x', len);
	p->dst = *dst;
	p->src = *src;
	OPS->send(c, p);
}

static unsigned take_all(struct pktq *q)
{
	struct pkt *p;
	unsigned n = 0;

	for (; (p = pktq_pop(q)) != NULL; n++)
		pkt_free(p);
	return n;
}

static void exchange(struct talk *t, size_t len)
{
	struct told *client = &t->pair.at_client, *server = &t->pair.at_server;

	if (!client->n_ready || client->n_ended || server->n_ended)
		return;
	send(client->chan, &client->peer_keys[0], &client->peer_keys[0], len);
	send(server->chan, &client->peer_keys[0], &client->peer_keys[0], len);
	run(t);
}

static void tell(struct talk *t)
{
	struct peer_status s = { .key = t->pair.at_client.peer_keys[0],
		                 .state = PEER_UP,
		                 .text = STR("words") };
	struct notice n = { .kind = NOTICE_QUOTA, .percent = 80, .text = STR("") };
	struct chan *c = t->pair.at_server.chan;

	if (!c || !t->pair.at_client.n_ready)
		return;
	OPS->tell_peer(c, &s);
	OPS->tell_notice(c, &n);
	run(t);
}

/* The other side hears of it, or the conversation is over. */
static void check_nothing_hangs(struct talk *t)
{
	struct told *client = &t->pair.at_client, *server = &t->pair.at_server;

	pass_time(t, 60);
	scene_check(t->rc[0] != ERR_PROTOCOL && t->rc[1] != ERR_PROTOCOL,
	            "want of memory is no breach of the protocol");
	if (is_over(t))
		return;
	if (client->n_ended) {
		scene_check(close_verdict(client->why) != VERDICT_FINAL, "no reason to give up");
		scene_check(server->n_ended || !server->n_hello || !server->chan,
		            "the server knows of it");
		return;
	}
	if (!scene_check(client->n_ready && server->chan && !server->n_ended, "it is ready"))
		return;
	take_all(&client->packets);
	take_all(&server->packets);
	exchange(t, 1000);
	scene_check(take_all(&client->packets) == 1 && take_all(&server->packets) == 1,
	            "datagrams pass both ways");
}

static void say_goodbye(struct talk *t)
{
	struct pair *p = &t->pair;
	struct buf out = { 0 };

	OPS->goodbye(p->server, CLOSE_DRAINING);
	OPS->goodbye(p->client, CLOSE_LOCAL);
	OPS->flush(p->server, &out, 1 << 16);
	OPS->flush(p->client, &out, 1 << 16);
	buf_done(&out);
}

static void play(void *arg)
{
	const struct str peers[] = { STR("b"), STR("acme/c") };
	struct talk t = { .rc = { 0, 0 } };

	(void)arg;
	scene_short_of_memory();
	if (pair_open(&t.pair, OPS)) {
		int rc = pair_dial(&t.pair, OPS, "a", peers, 2);
		note(&t, t.pair.client, rc);
		run(&t);
		exchange(&t, 1);
		exchange(&t, 60000);
		tell(&t);
		pass_time(&t, 20); /* heartbeats */
		exchange(&t, 1400);
		scene_enough();
		check_nothing_hangs(&t);
		say_goodbye(&t);
	}
	scene_enough();
	pair_close(&t.pair, OPS);
}

int main(void)
{
	const struct scene scenes[] = { { "a_tunnel_from_greeting_to_goodbye", play, NULL } };

	if (crypto_start() < 0)
		return 1;
	return scenes_play("conversation", scenes, 1, 10000);
}
