#include "tests/unit/said.h"

#include "common/base/metric.h"
#include "common/base/pkt.h"

static struct pkt *filled(size_t len, uint8_t first)
{
	struct pkt *p = pkt_new(len);

	assert_non_null(p);
	assert_int_equal(p->len, len);
	memset(p->data, 0, len);
	if (len)
		p->data[0] = first;
	return p;
}

static void any_size_up_to_the_largest_datagram_fits(void **state)
{
	static const size_t sizes[] = { 0, 1, 1420, 1900, 2000, 4096, PAYLOAD_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct pkt *p = pkt_new(sizes[i]);
		assert_non_null(p);
		memset(p->data, 0xee, sizes[i]);
		pkt_free(p);
	}
	pkt_free(NULL);
	pkt_pool_drain();
}

static void freed_packets_are_used_again_without_allocating(void **state)
{
	uint64_t before;

	(void)state;
	pkt_free(filled(1420, 1));
	before = metric_sum(METRIC_PKT_ALLOCS);
	for (unsigned i = 0; i < 1000; i++) {
		struct pkt *p = pkt_new(i);
		assert_int_equal(p->flow, 0);
		p->flow = 5;
		pkt_free(p);
	}
	assert_int_equal(metric_sum(METRIC_PKT_ALLOCS), before);
	pkt_pool_drain();
	pkt_free(pkt_new(10));
	assert_int_equal(metric_sum(METRIC_PKT_ALLOCS), before + 1);
	pkt_pool_drain();
}

static void the_packet_freed_last_is_used_first(void **state)
{
	struct pkt *first = filled(10, 0), *last = filled(10, 0);

	(void)state;
	pkt_free(first);
	pkt_free(last);
	assert_ptr_equal(pkt_new(20), last);
	assert_ptr_equal(pkt_new(20), first);
	pkt_free(first);
	pkt_free(last);
	pkt_pool_drain();
}

static void a_dropped_packet_is_counted_by_reason(void **state)
{
	uint64_t stale = metric_drop_sum(DROP_STALE), full = metric_drop_sum(DROP_QUEUE_FULL);

	(void)state;
	pkt_drop(filled(10, 0), DROP_STALE);
	assert_int_equal(metric_drop_sum(DROP_STALE), stale + 1);
	assert_int_equal(metric_drop_sum(DROP_QUEUE_FULL), full);
	pkt_pool_drain();
}

static void a_queue_gives_the_oldest_first_and_knows_its_bytes(void **state)
{
	struct pktq q = { 0 };
	struct pkt *p;

	(void)state;
	assert_null(pktq_pop(&q));
	for (unsigned i = 0; i < 10; i++)
		pktq_push(&q, filled(i + 1, (uint8_t)i));
	assert_int_equal(q.n, 10);
	assert_int_equal(q.bytes, 55);
	for (unsigned i = 0; i < 10; i++) {
		p = pktq_pop(&q);
		assert_int_equal(p->data[0], i);
		assert_null(p->next);
		pkt_free(p);
	}
	assert_int_equal(q.n, 0);
	assert_int_equal(q.bytes, 0);
	assert_null(q.head);
	assert_null(q.tail);
	pkt_pool_drain();
}

static bool is_handshake(size_t len, const uint8_t first[4])
{
	struct pkt *p = filled(len, 0);

	memcpy(p->data, first, len < 4 ? len : 4);
	bool is = pkt_is_handshake(p);
	pkt_free(p);
	return is;
}

static void U07_wireguard_handshakes_are_told_by_type_and_length(void **state)
{
	static const uint8_t initiation[4] = { 1 }, response[4] = { 2 }, cookie[4] = { 3 },
	                     data[4] = { 4 }, reserved[4] = { 1, 0, 0, 1 };

	(void)state;
	assert_true(is_handshake(148, initiation));
	assert_true(is_handshake(92, response));
	assert_true(is_handshake(64, cookie));
	assert_false(is_handshake(147, initiation));
	assert_false(is_handshake(149, initiation));
	assert_false(is_handshake(148, response));
	assert_false(is_handshake(92, cookie));
	assert_false(is_handshake(148, data));
	assert_false(is_handshake(148, reserved));
	assert_false(is_handshake(0, initiation));
	assert_false(is_handshake(3, initiation));
	pkt_pool_drain();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_size_up_to_the_largest_datagram_fits),
		cmocka_unit_test(freed_packets_are_used_again_without_allocating),
		cmocka_unit_test(the_packet_freed_last_is_used_first),
		cmocka_unit_test(a_dropped_packet_is_counted_by_reason),
		cmocka_unit_test(a_queue_gives_the_oldest_first_and_knows_its_bytes),
		cmocka_unit_test(U07_wireguard_handshakes_are_told_by_type_and_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
