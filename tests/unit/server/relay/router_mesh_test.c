/* Ends of other relays, as the router of one worker sees them: forwarders. */
#include "tests/unit/said.h"

#include "common/base/metric.h"
#include "server/relay/native_policy.h"
#include "server/relay/router.h"

enum { ENDS = 8 };

struct end {
	struct member member;
	struct decl decl;
	unsigned n_delivered, n_relayed, n_up, n_gone, n_absent;
	struct key last_src, last_dst;
};

static struct router *router;
static struct end ends[ENDS];
static _Atomic uint64_t seq;
static const uint64_t now_ms = 1000000;

static void note(struct end *e, unsigned *count, struct pkt *p)
{
	++*count;
	e->last_src = p->src;
	e->last_dst = p->dst;
	pkt_free(p);
}

static void on_deliver(void *owner, struct pkt *p)
{
	struct end *e = owner;

	assert_false(e->member.who->forwarder);
	note(e, &e->n_delivered, p);
}

static void on_relay(void *owner, struct pkt *p)
{
	struct end *e = owner;

	assert_true(e->member.who->forwarder);
	note(e, &e->n_relayed, p);
}

static void on_peer(void *owner, const struct peer_status *p)
{
	struct end *e = owner;

	assert_false(e->member.who->forwarder);
	e->n_up += p->state == PEER_UP;
	e->n_gone += p->state == PEER_GONE;
	e->n_absent += p->state == PEER_ABSENT;
}

static int on_tell(void *mates, enum router_news news, struct presence *p)
{
	(void)mates, (void)news, (void)p;
	return 0;
}

static const struct router_events events = {
	.deliver = on_deliver, .relay = on_relay, .peer = on_peer, .tell = on_tell
};

static int set_up(void **state)
{
	(void)state;
	router = router_new(&(struct router_conf){ &events, NULL, &seq });
	memset(ends, 0, sizeof ends);
	return router ? 0 : -1;
}

static void leave(struct end *e)
{
	router_leave(router, &e->member, now_ms);
	presence_unref(e->member.who);
	e->member.who = NULL;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENDS; i++)
		if (ends[i].member.who)
			leave(&ends[i]);
	assert_int_equal(router_n_places(router), 0);
	router_free(router);
	pkt_pool_drain();
	return 0;
}

static struct end *join(struct end *e, unsigned n_peers, struct key key)
{
	e->member.who = e->member.who ? e->member.who : presence_new(n_peers);
	assert_non_null(e->member.who);
	e->member.who->key = key;
	e->member.who->bidirectional = true;
	e->member.decls = &e->decl;
	e->member.owner = e;
	assert_int_equal(router_join(router, &e->member, now_ms), CLOSE_NONE);
	router_greet(router, &e->member, now_ms);
	return e;
}

static struct key key_named(char name) { return (struct key){ { (uint8_t)name } }; }

static struct end *native(unsigned i, char name, bool away)
{
	ends[i].member.who = presence_new(0);
	assert_non_null(ends[i].member.who);
	ends[i].member.who->native = true;
	ends[i].member.who->forwarder = away;
	return join(&ends[i], 0, key_named(name));
}

static struct end *here(unsigned i, char name) { return native(i, name, false); }
static struct end *away(unsigned i, char name) { return native(i, name, true); }

static struct pkt *packet(char src, char dst)
{
	struct pkt *p = pkt_new(100);

	assert_non_null(p);
	memset(p->data, 0, p->len);
	p->src = key_named(src);
	p->dst = key_named(dst);
	return p;
}

static void route(struct end *from, char dst)
{
	router_route(router, &from->member, packet(0, dst), now_ms);
}

static void an_end_of_another_relay_is_reached_through_it(void **state)
{
	struct end *a = here(0, 'a'), *b = away(1, 'b');

	(void)state;
	route(a, 'b');
	assert_int_equal(b->n_relayed, 1);
	assert_int_equal(b->last_src.b[0], 'a');
	assert_int_equal(b->last_dst.b[0], 'b');
	leave(b);
	route(a, 'b');
	assert_int_equal(a->n_delivered + a->n_gone + a->n_absent, 0);
}

static void one_that_is_here_goes_before_it_and_after_that_it_is_there_again(void **state)
{
	struct end *a = here(0, 'a'), *first = away(1, 'b'), *b = here(2, 'b'),
	           *late = away(3, 'b');

	(void)state;
	route(b, 'a');
	route(a, 'b');
	assert_int_equal(b->n_delivered, 1);
	leave(b);
	assert_int_equal(a->n_gone, 0);
	route(a, 'b');
	assert_int_equal(first->n_relayed, 1);
	leave(first);
	assert_int_equal(a->n_gone, 0);
	route(a, 'b');
	assert_int_equal(late->n_relayed, 1);
	leave(late);
	assert_int_equal(a->n_gone, 1);
}

static void a_second_relay_with_a_key_is_counted_once(void **state)
{
	int64_t before = (int64_t)metric_sum(METRIC_DERP_MULTI_FORWARDERS);

	(void)state;
	here(0, 'b');
	away(1, 'b');
	away(2, 'c');
	assert_int_equal(metric_sum(METRIC_DERP_MULTI_FORWARDERS) - before, 0);
	away(3, 'b');
	away(4, 'b');
	assert_int_equal(metric_sum(METRIC_DERP_MULTI_FORWARDERS) - before, 1);
}

static void what_a_mate_forwards_reaches_who_is_here_and_nobody_else(void **state)
{
	struct end *mate = here(0, 'm'), *a = here(1, 'a'), *b = away(2, 'b');

	(void)state;
	router_forward(router, &mate->member, packet('x', 'a'), 0);
	assert_int_equal(a->n_delivered, 1);
	assert_int_equal(a->last_src.b[0], 'x');
	router_forward(router, &mate->member, packet('x', 'b'), 0);
	assert_int_equal(b->n_relayed, 0);
}

/* Its sender pays at the other relay, where nobody knows what the receiver's account may. */
static void what_a_mate_forwards_keeps_to_the_limits_of_the_receiver(void **state)
{
	const struct account_terms t = { .relay = true, .rate = 1000, .volume = 1000000 };
	struct account *slow = account_new("derp", 1, 1, &t, &(struct account_usage){ 0 });
	struct end *mate = here(0, 'm'), *a = here(1, 'a');

	(void)state;
	assert_non_null(slow);
	a->member.who->payer = slow;
	mate->member.who->payer = account_ref(slow);
	for (unsigned i = 0; i < ACCOUNT_BURST_MIN / 100 + 1000; i++)
		router_forward(router, &mate->member, packet('x', 'a'), now_ms);
	assert_int_equal(a->n_delivered, ACCOUNT_BURST_MIN / 100);
	account_count_received(slow, 0, 1000000);
	router_forward(router, &mate->member, packet('x', 'a'), now_ms + 1000000);
	assert_int_equal(a->n_delivered, ACCOUNT_BURST_MIN / 100);
}

static void ends_of_other_relays_are_not_told_to_who_watches(void **state)
{
	struct end *mate = here(0, 'm'), *b = away(1, 'b');

	(void)state;
	router_watch(router, &mate->member);
	assert_int_equal(mate->n_up, 1); /* itself */
	away(2, 'c');
	leave(b);
	assert_int_equal(mate->n_up + mate->n_gone, 1);
}

/* No answer would come back: keys of tunnels are told to no other relay. */
static void to_a_tunnel_an_end_of_another_relay_is_nobody(void **state)
{
	struct end *tunnel = &ends[0], *b = away(1, 'b'), *local;
	struct key key = key_named('t');

	(void)state;
	key.b[KEY_LEN - 1] = 0x80;
	tunnel->member.who = presence_new(1);
	assert_non_null(tunnel->member.who);
	tunnel->member.who->peers[0] = key_named('b');
	join(tunnel, 1, key);
	assert_int_equal(tunnel->n_up, 0);
	assert_int_equal(tunnel->n_absent, 1);
	route(tunnel, 'b');
	assert_int_equal(b->n_relayed, 0);
	local = here(2, 'b');
	assert_int_equal(tunnel->n_up, 1);
	route(tunnel, 'b');
	assert_int_equal(local->n_delivered, 1);
	leave(local);
	assert_int_equal(tunnel->n_gone, 1);
	leave(b);
	assert_int_equal(tunnel->n_gone, 1);
}

static void who_may_pair_holds_across_relays_both_ways(void **state)
{
	const char *words[] = { "closed" };
	struct native_policy *policy = native_policy_new(
	                &(struct native_policy_conf){ .peering = words, .n_peering = 1 });
	struct end *a = here(0, 'a'), *b = away(1, 'b'), *mate = here(2, 'm');

	(void)state;
	assert_non_null(policy);
	router_set_policy(router, policy);
	route(a, 'b');
	router_forward(router, &mate->member, packet('b', 'a'), 0);
	assert_int_equal(b->n_relayed + a->n_delivered, 0);
	router_set_policy(router, NULL);
	native_policy_unref(policy);
	router_forward(router, &mate->member, packet('b', 'a'), 0);
	assert_int_equal(a->n_delivered, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_end_of_another_relay_is_reached_through_it),
		T(one_that_is_here_goes_before_it_and_after_that_it_is_there_again),
		T(a_second_relay_with_a_key_is_counted_once),
		T(what_a_mate_forwards_reaches_who_is_here_and_nobody_else),
		T(what_a_mate_forwards_keeps_to_the_limits_of_the_receiver),
		T(ends_of_other_relays_are_not_told_to_who_watches),
		T(to_a_tunnel_an_end_of_another_relay_is_nobody),
		T(who_may_pair_holds_across_relays_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
