/* What the tests of transports share: a pair that has met, packets and their exchange.
 * OPS is defined before this is included. */
#ifndef TUNN_TESTS_EXCHANGE_H
#define TUNN_TESTS_EXCHANGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/transport/back_to_back.h"

static const struct str peers[] = { { "home-wg", 7 }, { "other/box", 9 } };

static inline void connect_pair(struct pair *p)
{
	assert_true(pair_open(p, OPS));
	assert_int_equal(pair_dial(p, OPS, "laptop", peers, 2), 0);
	pair_run(p, OPS);
	assert_int_equal(p->at_client.n_ready, 1);
}

static inline struct pkt *packet(const struct key *src, const struct key *dst, const char *text,
                                 size_t len)
{
	struct pkt *pkt = pkt_new(len);

	assert_non_null(pkt);
	for (size_t i = 0; i < len; i++)
		pkt->data[i] = (uint8_t)text[i % strlen(text)];
	memset(&pkt->src, 0, sizeof pkt->src);
	memset(&pkt->dst, 0, sizeof pkt->dst);
	if (src)
		pkt->src = *src;
	if (dst)
		pkt->dst = *dst;
	return pkt;
}

static inline void exchange(struct pair *p, size_t len)
{
	const struct key *key = &p->at_client.peer_keys[len % 2];
	/* Native DERP has no place for the number of a local program. */
	size_t flow = p->at_server.hello.n_peers ? len : 0;
	struct pkt *got;

	struct pkt *up = packet(NULL, key, "upward", len);
	up->flow = (uint32_t)len;
	OPS->send(p->at_client.chan, up);
	struct pkt *down = packet(key, NULL, "downward", len);
	down->flow = (uint32_t)len;
	OPS->send(p->at_server.chan, down);
	pair_run(p, OPS);
	got = pktq_pop(&p->at_server.packets);
	assert_non_null(got);
	assert_int_equal(got->len, len);
	assert_int_equal(got->flow, flow);
	assert_true(key_eq(&got->dst, key));
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got->data[i], "upward"[i % 6]);
	pkt_free(got);
	got = pktq_pop(&p->at_client.packets);
	assert_non_null(got);
	assert_int_equal(got->len, len);
	assert_int_equal(got->flow, flow);
	assert_true(key_eq(&got->src, key));
	pkt_free(got);
	assert_null(pktq_pop(&p->at_client.packets));
	assert_null(pktq_pop(&p->at_server.packets));
}

#endif
