/*
 * The whole client conversation over DERP in memory against whatever a server says. The
 * first byte says how it dials; derp_script.h what the rest is. A token is never in what is
 * said, and nothing of ours is said to a server that did not show the mark.
 */
#include <assert.h>
#include <string.h>

#include "common/base/json.h"
#include "common/wire/derp.h"
#include "tests/fuzz/derp_script.h"
#include "tests/fuzz/frames.h"
#include "tests/unit/transport/back_to_back.h"

extern const struct transport_ops transport_derp;
#define OPS (&transport_derp)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed);

enum { FAST = 1, NAMED = 2, WATCH = 4, UNMARKED = 8 };

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed)
{
	if (len == 0 || cap < 2)
		return LLVMFuzzerMutate(data, len, cap);
	if (seed % 16 == 0)
		data[0] = (uint8_t)(seed / 16);
	return 1 + script_mutate(SCRIPT_OF_SERVER, data + 1, len - 1, cap - 1, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed)
{
	if (a_len == 0 || b_len == 0 || cap == 0)
		return 0;
	out[0] = a[0];
	return 1 + script_cross(a + 1, a_len - 1, b + 1, b_len - 1, out + 1, cap - 1, seed);
}

static int dial(struct pair *p, uint8_t how)
{
	static const struct str names[] = { { "home", 4 }, { "other/box", 9 } },
	                        keys[] = { { "nodekey:675dd574ed7789310b3d2e7681f3790b466c773b1521"
		                             "fecf36577958371ea52f",
		                             72 } };
	struct hello h = { .version = 1, .bidirectional = true };

	if (how & WATCH) {
		h.watch = true;
	} else if (how & NAMED) {
		h.id = STR("laptop");
		h.token = STR("tokentokentoken");
		h.n_peers = 2;
		h.peers = names;
	} else {
		h.native = true;
		h.n_peers = 1;
		h.peers = keys;
	}
	return OPS->dial(p->client, &h, &p->at_client.chan);
}

static void hand_over(struct pair *p, struct buf *b)
{
	while (buf_len(b) && p->rc_client == 0) {
		size_t n = p->chunk && p->chunk < buf_len(b) ? p->chunk : buf_len(b);
		p->rc_client = OPS->input(p->client, buf_data(b), n, p->now_ms);
		buf_eat(b, n);
	}
	while (p->at_client.packets.n > 64)
		pkt_free(pktq_pop(&p->at_client.packets));
}

static void say(struct pair *p, const struct script_item *it, uint8_t how)
{
	struct buf b = { 0 };

	if (it->op == SCRIPT_BOX) {
		size_t len = it->payload.len;
		uint8_t *at = NULL;
		if (it->type % 2) /* behind the greeting it belongs to */
			derp_put_server_key(&b, &p->server_conf.derp.public, !(how & UNMARKED));
		at = derp_put_open(&b, DERP_SERVER_INFO, len + CRYPTO_SEAL_EXTRA);
		if (at)
			crypto_seal((const uint8_t *)it->payload.p, len,
			            p->client_conf.derp.public.b, p->server_secret, at);
	} else {
		script_bytes(it, &b);
	}
	hand_over(p, &b);
	buf_done(&b);
}

static void owner_does(struct pair *p, uint8_t what)
{
	struct pkt *pkt;

	switch (what % 6) {
	case 0: OPS->nap(p->client); break;
	case 1: OPS->freshen(p->client, p->now_ms, 10000); break;
	case 2: OPS->probe(p->client, p->now_ms, 1000); break;
	case 3:
		if (p->at_client.chan && what > 200) {
			OPS->end(p->at_client.chan, CLOSE_LOCAL, "");
			p->at_client.chan = NULL;
		}
		break;
	default:
		pkt = p->at_client.chan ? pkt_new((size_t)what * 257) : NULL;
		if (pkt) {
			memset(pkt->data, what, pkt->len);
			memset(&pkt->src, what, KEY_LEN);
			memset(&pkt->dst, what, KEY_LEN);
			OPS->send(p->at_client.chan, pkt);
		}
	}
}

static void play(struct pair *p, const struct script_item *it, uint8_t how, struct buf *said)
{
	switch (it->op) {
	case SCRIPT_TIME:
		p->now_ms += (uint64_t)it->type * 1000;
		p->rc_client = OPS->tick(p->client, p->now_ms);
		break;
	case SCRIPT_DO: owner_does(p, it->type); break;
	case SCRIPT_WS: break;
	case SCRIPT_CUT: p->chunk = it->type; break;
	default: say(p, it, how);
	}
	int rc = OPS->flush(p->client, said, 1 << 16);
	if (p->rc_client == 0)
		p->rc_client = rc;
	assert(buf_len(said) == 0 || !memmem(buf_data(said), buf_len(said), "tokentoken", 10));
	buf_clear(said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int started;
	struct cursor c = cursor_of(data, len);
	uint8_t how = cursor_u8(&c);
	struct script_item it;
	struct buf said = { 0 };
	struct pair p;

	if (!started) {
		started = crypto_start() == 0;
		json_start();
	}
	if (pair_open(&p, OPS)) { /* memory may be short: tests/nomem */
		p.client_conf.has_meta_key = how & FAST;
		p.client_conf.meta_key = p.server_conf.derp.public;
		p.rc_client = dial(&p, how);
		if (p.rc_client == 0)
			p.at_client.chan->up = &p.at_client;
		while (p.rc_client == 0 && script_next(&c, &it))
			play(&p, &it, how, &said);
		assert(p.at_client.n_ready <= 1 && p.at_client.n_ended <= 1);
		OPS->error_text(p.client);
		OPS->flush(p.client, &said, 1 << 16);
	}
	buf_done(&said);
	pair_close(&p, OPS);
	return 0;
}
