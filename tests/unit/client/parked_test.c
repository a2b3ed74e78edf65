#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/parked.h"
#include "common/base/metric.h"

static struct pkt *packet(uint64_t born_ms, uint8_t mark)
{
	struct pkt *p = pkt_new(1);

	assert_non_null(p);
	p->born_ms = born_ms;
	p->data[0] = mark;
	return p;
}

static void young_packets_leave_in_order_with_their_peer(void **state)
{
	struct parked q = { 0 };
	unsigned peer;

	(void)state;
	for (uint8_t i = 0; i < PARKED_MAX; i++)
		parked_add(&q, i % 3, packet(1000, i), 1000);
	for (uint8_t i = 0; i < PARKED_MAX; i++) {
		struct pkt *p = parked_take(&q, 1000 + PARKED_AGE_MS, &peer);
		assert_non_null(p);
		assert_int_equal(p->data[0], i);
		assert_int_equal(peer, i % 3);
		pkt_free(p);
	}
	assert_null(parked_take(&q, 1000, &peer));
}

static void nothing_older_than_its_age_leaves(void **state)
{
	uint64_t stale = metric_drop_sum(DROP_STALE);
	struct parked q = { 0 };
	unsigned peer;

	(void)state;
	parked_add(&q, 0, packet(1000, 1), 1000);
	parked_add(&q, 1, packet(1100, 2), 1100);
	struct pkt *p = parked_take(&q, 1000 + PARKED_AGE_MS + 1, &peer);
	assert_non_null(p);
	assert_int_equal(p->data[0], 2);
	assert_int_equal(peer, 1);
	pkt_free(p);
	assert_int_equal(metric_drop_sum(DROP_STALE) - stale, 1);
}

static void the_oldest_makes_room(void **state)
{
	uint64_t dropped = metric_drop_sum(DROP_NOT_READY);
	struct parked q = { 0 };
	unsigned peer;

	(void)state;
	for (unsigned i = 0; i < PARKED_MAX + 5; i++)
		parked_add(&q, 0, packet(1000, (uint8_t)i), 1000);
	assert_int_equal(q.n, PARKED_MAX);
	assert_int_equal(metric_drop_sum(DROP_NOT_READY) - dropped, 5);
	struct pkt *p = parked_take(&q, 1000, &peer);
	assert_int_equal(p->data[0], 5);
	pkt_free(p);
	parked_drop_all(&q);
	assert_int_equal(q.n, 0);
}

static void old_ones_go_when_another_comes(void **state)
{
	struct parked q = { 0 };

	(void)state;
	parked_add(&q, 0, packet(1000, 0), 1000);
	parked_add(&q, 0, packet(2000, 1), 2000);
	assert_int_equal(q.n, 1);
	parked_drop_all(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(young_packets_leave_in_order_with_their_peer),
		cmocka_unit_test(nothing_older_than_its_age_leaves),
		cmocka_unit_test(the_oldest_makes_room),
		cmocka_unit_test(old_ones_go_when_another_comes),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	pkt_pool_drain();
	return rc;
}
