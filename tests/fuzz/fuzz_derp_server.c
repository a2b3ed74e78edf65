/*
 * The whole server conversation over DERP in memory: HTTP/1.1, the handshake with a box that
 * opens, frames, WebSocket, what the owner does in between. derp_script.h says what
 * the input is.
 */
#include <assert.h>
#include <string.h>

#include "common/base/json.h"
#include "common/wire/derp.h"
#include "tests/fuzz/derp_script.h"
#include "tests/unit/transport/back_to_back.h"

extern const struct transport_ops transport_derp;
#define OPS (&transport_derp)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed)
{
	return script_mutate(SCRIPT_OF_CLIENT, data, len, cap, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed)
{
	return script_cross(a, a_len, b, b_len, out, cap, seed);
}

struct scene {
	struct pair p;
	bool in_ws, over; /* over: the owner has ended the channel */
	int rc;
	enum { AT_ONCE, LATER, NEVER } admission;
};

static void welcome(struct chan *c, const struct hello *h)
{
	if (h->n_peers)
		welcome_all(c, h, "acme");
	else
		c->ops->admit(c, &(struct welcome){ .max_payload = DERP_PACKET_MAX });
}

static bool admit(struct pair *p, struct chan *c, const struct hello *h)
{
	struct scene *s = (struct scene *)(void *)p; /* its first member */

	if (s->admission == AT_ONCE)
		welcome(c, h);
	else if (s->admission == NEVER) {
		c->ops->refuse(c, CLOSE_DENIED, "no");
		s->over = true;
	}
	return s->admission == AT_ONCE;
}

/* Nothing is told of a channel that was ended or refused. */
static unsigned n_told(const struct told *t)
{
	return t->n_hello + t->n_ended + t->n_wish + t->n_forward + t->packets.n;
}

static void hand_over(struct scene *s, struct buf *b)
{
	unsigned before = n_told(&s->p.at_server);
	bool over = s->over;

	while (buf_len(b) && s->rc == 0) {
		size_t n = s->p.chunk && s->p.chunk < buf_len(b) ? s->p.chunk : buf_len(b);
		s->rc = OPS->input(s->p.server, buf_data(b), n, s->p.now_ms);
		buf_eat(b, n);
	}
	assert(!over || n_told(&s->p.at_server) == before);
	while (s->p.at_server.packets.n > 64)
		pkt_free(pktq_pop(&s->p.at_server.packets));
}

/* RFC 6455 5.2: FIN, masked with zeros. */
static int add_message(struct buf *out, uint8_t op, const struct buf *in)
{
	size_t n = buf_len(in);
	const uint8_t head[] = { (uint8_t)(0x80 | (op ? op & 15 : 2)),
		                 0xfe,
		                 (uint8_t)(n >> 8),
		                 (uint8_t)n,
		                 0,
		                 0,
		                 0,
		                 0 };

	return buf_add(out, head, sizeof head) < 0 ? -1 : buf_add(out, buf_data(in), n);
}

static void say(struct scene *s, const struct script_item *it)
{
	struct pair *p = &s->p;
	struct buf b = { 0 }, wrapped = { 0 };
	int rc = 0;

	if (it->op == SCRIPT_BOX) {
		size_t len = it->payload.len;
		uint8_t *at = derp_put_open(&b, DERP_CLIENT_INFO,
		                            KEY_LEN + len + CRYPTO_SEAL_EXTRA);
		s->admission = it->type % 3;
		if (at) {
			memcpy(at, p->client_conf.derp.public.b, KEY_LEN);
			crypto_seal((const uint8_t *)it->payload.p, len,
			            p->server_conf.derp.public.b, p->client_secret, at + KEY_LEN);
		}
	} else {
		rc = script_bytes(it, &b);
	}
	if (rc == 0 && s->in_ws && it->op != SCRIPT_RAW && buf_len(&b) < 65536) {
		if (add_message(&wrapped, 0, &b) == 0)
			hand_over(s, &wrapped);
	} else {
		hand_over(s, &b);
	}
	buf_done(&b);
	buf_done(&wrapped);
}

static void owner_does(struct scene *s, uint8_t what)
{
	struct pair *p = &s->p;
	struct chan *c = p->at_server.chan;
	struct peer_status st = { .state = (enum peer_state)(what / 16 % PEER_STATE_N),
		                  .text = STR("words") };
	struct notice n = { .kind = (enum notice_kind)(what / 16 % 3),
		            .target = STR(""),
		            .text = STR("x") };
	struct pkt *pkt;

	if (what % 10 == 0)
		OPS->nap(p->server);
	else if (what % 10 == 1)
		OPS->freshen(p->server, p->now_ms, 10000);
	else if (what % 10 == 2)
		OPS->probe(p->server, p->now_ms, 1000);
	else if (what % 10 == 9)
		pair_answer(p, 200 + what, "<p>words");
	if (!c || s->over || p->at_server.n_ended)
		return;
	switch (what % 10) {
	case 3:
		if (p->at_server.hello.n_peers == 0)
			c->ops->admit(c, &(struct welcome){ .max_payload = DERP_PACKET_MAX });
		break;
	case 4:
	case 5:
		if ((pkt = pkt_new((size_t)what * 257)) != NULL) {
			memset(pkt->data, what, pkt->len);
			memset(&pkt->src, what, KEY_LEN);
			OPS->send(c, pkt);
		}
		break;
	case 6: OPS->tell_peer(c, &st); break;
	case 7: OPS->tell_notice(c, &n); break;
	case 8:
		OPS->end(c, CLOSE_CANCELLED, "enough");
		s->over = true;
		break;
	default: break;
	}
}

static void play(struct scene *s, const struct script_item *it)
{
	struct buf out = { 0 };

	switch (it->op) {
	case SCRIPT_TIME:
		s->p.now_ms += (uint64_t)it->type * 1000;
		s->rc = OPS->tick(s->p.server, s->p.now_ms);
		break;
	case SCRIPT_DO: owner_does(s, it->type); break;
	case SCRIPT_WS: s->in_ws = !s->in_ws; break;
	case SCRIPT_CUT: s->p.chunk = it->type; break;
	default: say(s, it);
	}
	OPS->rest_ms(s->p.server);
	int rc = OPS->flush(s->p.server, &out, 1 << 16);
	if (s->rc == 0)
		s->rc = rc;
	buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t mesh_key[KEY_LEN];
	static int started;
	struct cursor c = cursor_of(data, len);
	struct script_item it;
	struct scene s = { 0 };
	struct buf out = { 0 };

	if (!started) {
		uint8_t digest[20];
		started = crypto_start() == 0;
		crypto_sha1(NULL, 0, digest); /* OpenSSL's first use */
		json_start();
	}
	if (pair_open(&s.p, OPS)) { /* memory may be short: tests/nomem */
		s.p.admit = admit;
		memcpy(mesh_key, s.p.client_conf.derp.public.b, KEY_LEN);
		s.p.server_conf.derp.mesh_key = mesh_key;
		while (s.rc == 0 && script_next(&c, &it))
			play(&s, &it);
		OPS->goodbye(s.p.server, CLOSE_LOCAL);
		OPS->flush(s.p.server, &out, 1 << 16);
	}
	buf_done(&out);
	pair_close(&s.p, OPS);
	return 0;
}
