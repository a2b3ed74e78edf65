/*
 * The whole client conversation in memory: a registered request, and the bytes
 * that a hostile relay answers. 0xff 0x00 in the input lets a second pass.
 */
#include <string.h>

#include "tests/fuzz/frames.h"
#include "tests/unit/transport/back_to_back.h"

extern const struct transport_ops transport_grpc;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t cap, unsigned seed)
{
	return frames_mutate(FRAMES_OF_SERVER, data, len, cap, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                                 uint8_t *out, size_t cap, unsigned seed)
{
	return frames_cross(a, a_len, b, b_len, out, cap, seed);
}

static const uint8_t settings[] = "\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0";

/* Says what is pending, and a datagram where one may go. */
static void speak(struct pair *p, struct buf *out)
{
	struct chan *c = p->at_client.chan;
	struct pkt *pkt = c && p->at_client.n_ready ? pkt_new(20) : NULL;

	if (pkt) {
		memset(pkt->data, 0, pkt->len);
		pkt->dst = p->at_client.peer_keys[0];
		transport_grpc.send(c, pkt);
	}
	transport_grpc.flush(p->client, out, 1 << 16);
	buf_clear(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct str peers[] = { STR("b"), STR("acme/c") };
	static int started;
	struct buf out = { 0 };
	struct pair p;
	int rc;

	if (!started)
		started = crypto_start() == 0;
	if (!pair_open(&p, &transport_grpc) ||
	    pair_dial(&p, &transport_grpc, "a", peers, 2) < 0) { /* tests/nomem */
		pair_close(&p, &transport_grpc);
		return 0;
	}
	speak(&p, &out);
	rc = transport_grpc.input(p.client, settings, sizeof settings - 1, p.now_ms);
	while (len && rc == 0) {
		const uint8_t *mark = memmem(data, len, "\xff\x00", 2);
		size_t n = mark ? (size_t)(mark - data) + 2 : len;
		rc = transport_grpc.input(p.client, data, n, p.now_ms);
		p.now_ms += 1000;
		if (rc == 0)
			rc = transport_grpc.tick(p.client, p.now_ms);
		speak(&p, &out);
		data += n;
		len -= n;
	}
	transport_grpc.goodbye(p.client, CLOSE_LOCAL);
	transport_grpc.flush(p.client, &out, 1 << 16);
	buf_done(&out);
	pair_close(&p, &transport_grpc);
	return 0;
}
