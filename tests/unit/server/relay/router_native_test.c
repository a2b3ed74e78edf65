/* Native DERP ends at one worker (derp.md 3.4 to 3.7); several are routers_test.c. */
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "server/relay/native_policy.h"
#include "server/relay/router.h"

enum { ENDS = 12, DECLS = 4 };

struct end {
	struct member member;
	struct decl decls[DECLS];
	unsigned n_packets, n_relayed, n_present, n_gone, n_absent, n_told, n_closed;
	struct key last_src, last_peer;
	struct peer_status last;
};

static struct router *router;
static struct end ends[ENDS];
static uint64_t now_ms;
static _Atomic uint64_t seq;
static bool no_memory;

static void on_deliver(void *owner, struct pkt *p)
{
	struct end *e = owner;

	e->n_packets++;
	e->last_src = p->src;
	pkt_free(p);
}

static void on_relay(void *owner, struct pkt *p)
{
	struct end *e = owner;

	assert_true(e->member.who->forwarder);
	e->n_relayed++;
	e->last_src = p->src;
	pkt_free(p);
}

static void on_peer(void *owner, const struct peer_status *p)
{
	struct end *e = owner;

	e->n_told++;
	e->n_present += p->state == PEER_UP;
	e->n_gone += p->state == PEER_GONE;
	e->n_absent += p->state == PEER_ABSENT;
	e->last = *p;
	e->last_peer = p->key;
}

static void on_close(void *owner)
{
	struct end *e = owner;

	e->n_closed++;
	router_leave(router, &e->member, now_ms); /* as a session does */
}

static void on_superseded(void *owner, bool same_instance, bool fight)
{
	(void)owner, (void)same_instance, (void)fight;
	fail_msg("%s", "native ends are never superseded");
}

static int on_tell(void *mates, enum router_news news, struct presence *p)
{
	(void)mates, (void)p;
	return news == ROUTER_JOIN && no_memory ? -12 : 0;
}

static void on_forward(void *mates, unsigned worker, struct pkt *p)
{
	(void)mates;
	pkt_free(p);
	fail_msg("a packet for worker %u", worker);
}

static const struct router_events events = {
	.deliver = on_deliver,
	.peer = on_peer,
	.superseded = on_superseded,
	.relay = on_relay,
	.close = on_close,
	.tell = on_tell,
	.forward = on_forward,
};

static int set_up(void **state)
{
	(void)state;
	router = router_new(&(struct router_conf){ &events, NULL, &seq });
	now_ms = 1000000;
	no_memory = false;
	memset(ends, 0, sizeof ends);
	return router ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENDS; i++) {
		if (ends[i].member.joined)
			router_leave(router, &ends[i].member, now_ms);
		presence_unref(ends[i].member.who);
	}
	now_ms += FIGHT_WINDOW_MS + 1;
	size_t n = router_n_places(router);
	router_free(router);
	pkt_pool_drain();
	if (n > 0)
		fprintf(stderr, "%zu places are left behind\n", n);
	return n == 0 ? 0 : -1;
}

static struct key native_key(uint8_t k) { return (struct key){ { k, 7, [31] = 0x11 } }; }

static struct end *native_of(unsigned i, uint8_t k, uint8_t flags)
{
	struct end *e = &ends[i];
	struct presence *who = presence_new(0);

	assert_non_null(who);
	presence_unref(e->member.who);
	memset(e, 0, sizeof *e);
	who->native = who->bidirectional = true;
	who->native_flags = flags;
	who->key = native_key(k);
	who->port = (uint16_t)(1000 + i);
	snprintf(who->account, sizeof who->account, "derp");
	snprintf(who->id, sizeof who->id, "nodekey:%u", k);
	e->member = (struct member){ .who = who, .decls = e->decls, .owner = e };
	return e;
}

static struct end *native(unsigned i, uint8_t k, uint8_t flags)
{
	struct end *e = native_of(i, k, flags);

	assert_int_equal(router_join(router, &e->member, now_ms), CLOSE_NONE);
	router_greet(router, &e->member, now_ms);
	return e;
}

/* An end of another relay, whose link is here. */
static struct end *remote(unsigned i, uint8_t k)
{
	struct end *e = native_of(i, k, 0);

	e->member.who->forwarder = true;
	assert_int_equal(router_join(router, &e->member, now_ms), CLOSE_NONE);
	return e;
}

static struct end *tunnel(unsigned i, const char *id, uint8_t peer, bool bidirectional)
{
	struct end *e = &ends[i];
	struct presence *who = presence_new(1);

	assert_non_null(who);
	memset(e, 0, sizeof *e);
	snprintf(who->account, sizeof who->account, "acme");
	snprintf(who->id, sizeof who->id, "%s", id);
	key_of_tunnel(STR("acme"), str_of(id), &who->key);
	who->bidirectional = bidirectional;
	who->peers[0] = native_key(peer);
	e->member = (struct member){ .who = who, .decls = e->decls, .owner = e };
	assert_int_equal(router_join(router, &e->member, now_ms), CLOSE_NONE);
	router_greet(router, &e->member, now_ms);
	return e;
}

static void leave(struct end *e) { router_leave(router, &e->member, now_ms); }

static struct pkt *packet_to(const struct key *dst, bool disco)
{
	static const uint8_t magic[] = { 'T', 'S', 0xf0, 0x9f, 0x92, 0xac };
	struct pkt *p = pkt_new(62);

	assert_non_null(p);
	memset(p->data, 0, p->len);
	if (disco)
		memcpy(p->data, magic, sizeof magic);
	p->dst = *dst;
	return p;
}

static void send_to(struct end *from, struct key dst)
{
	router_route(router, &from->member, packet_to(&dst, false), now_ms);
}

static void look_for(struct end *from, struct key dst)
{
	router_route(router, &from->member, packet_to(&dst, true), now_ms);
}

static void forward(struct end *mate, struct key src, struct key dst)
{
	struct pkt *p = packet_to(&dst, false);

	p->src = src;
	router_forward(router, &mate->member, p, now_ms);
}

/* ---- packets ---- */

static void packets_go_to_the_key_they_name_and_to_nobody_else(void **state)
{
	struct end *a = native(0, 1, 0), *b = native(1, 2, 0), *c = native(2, 3, 0);

	(void)state;
	send_to(a, native_key(2));
	send_to(b, native_key(3));
	send_to(a, native_key(1)); /* to oneself */
	assert_true(a->n_packets == 1 && b->n_packets == 1 && c->n_packets == 1);
	assert_true(key_eq(&b->last_src, &a->member.who->key));
	assert_int_equal(a->n_told + b->n_told + c->n_told, 0);
}

static void D10_D11_only_who_looks_for_a_path_is_told_that_nobody_is_there(void **state)
{
	static const struct key zero;
	struct end *a = native(0, 1, 0);
	uint64_t dropped = metric_drop_sum(DROP_NO_ROUTE);

	(void)state;
	send_to(a, native_key(9));
	send_to(a, zero);
	assert_int_equal(a->n_told, 0);
	look_for(a, native_key(9));
	assert_int_equal(a->n_absent, 1);
	assert_true(a->last_peer.b[0] == 9);
	assert_int_equal(metric_drop_sum(DROP_NO_ROUTE), dropped + 3);
}

/* ---- D17: several with one key ---- */

static void D17_who_spoke_last_has_the_packets(void **state)
{
	struct end *a = native(0, 1, 0), *one = native(1, 2, 0);

	(void)state;
	send_to(a, native_key(2));
	assert_int_equal(one->n_packets, 1);
	struct end *two = native(2, 2, 0); /* the newest, without a word */
	send_to(a, native_key(2));
	assert_int_equal(two->n_packets, 1);
	router_active(router, &one->member, now_ms);
	send_to(a, native_key(2));
	assert_int_equal(one->n_packets, 2);
	send_to(two, native_key(1)); /* a packet counts as well */
	send_to(a, native_key(2));
	assert_true(one->n_packets == 2 && two->n_packets == 2);
	router_active(router, &two->member, now_ms); /* it is already */
	struct end *three = native(3, 2, 0);
	leave(three); /* then the one that spoke last before it */
	send_to(a, native_key(2));
	assert_int_equal(two->n_packets, 3);
	leave(two);
	send_to(a, native_key(2));
	assert_int_equal(one->n_packets, 3);
	assert_int_equal(a->n_gone, 0); /* somebody is still there */
	assert_string_equal(one->member.who->id, "nodekey:2");
}

static void an_end_whose_turn_it_cannot_be_keeps_quiet_when_memory_ran_out(void **state)
{
	struct end *a = native(0, 1, 0), *one = native(1, 2, 0), *two = native(2, 2, 0);

	(void)state;
	no_memory = true;
	router_active(router, &one->member, now_ms);
	assert_int_equal(router_join(router, &native_of(4, 5, 0)->member, now_ms), CLOSE_NOMEM);
	no_memory = false;
	send_to(a, native_key(2));
	assert_true(one->n_packets == 0 && two->n_packets == 1);
}

/* ---- who is told of leaving ---- */

static void who_heard_from_a_key_is_told_once_when_its_last_end_has_gone(void **state)
{
	struct end *a = native(0, 1, 0), *b = native(1, 2, 0), *c = native(2, 3, 0),
	           *b2 = native(3, 2, 0);

	(void)state;
	send_to(b, native_key(1));
	send_to(b2, native_key(1));
	send_to(a, native_key(3));
	leave(b);
	assert_int_equal(a->n_gone, 0);
	leave(b2);
	assert_int_equal(a->n_gone, 1);
	assert_int_equal(a->last_peer.b[0], 2);
	assert_int_equal(c->n_gone, 0); /* has heard from a only */
	b = native(1, 2, 0);
	leave(b); /* came and went without a word to a */
	assert_int_equal(a->n_gone, 1);
	b = native(1, 2, 0);
	send_to(b, native_key(1));
	leave(b);
	assert_int_equal(a->n_gone, 2);
}

static void who_leaves_is_forgotten_by_those_it_heard_from(void **state)
{
	struct end *a = native(0, 1, 0), *b = native(1, 2, 0);

	(void)state;
	send_to(a, native_key(2));
	send_to(b, native_key(1));
	send_to(b, native_key(2));
	leave(b);
	assert_int_equal(a->n_gone, 1);
	assert_int_equal(b->n_told, 0);
	leave(a);
	assert_int_equal(router_n_places(router), 0);
}

/* ---- watchers ---- */

static void a_watcher_sees_all_that_are_there_itself_too_and_each_that_comes(void **state)
{
	struct end *a = native(0, 1, 0), *mate = native(1, 2, NATIVE_MESH);

	(void)state;
	native(2, 1, 0); /* the same key: seen once */
	remote(3, 6);    /* nobody of ours */
	tunnel(4, "home", 1, true);
	router_watch(router, &mate->member);
	assert_int_equal(mate->n_present, 2);
	native(5, 4, NATIVE_NOT_IDEAL);
	assert_int_equal(mate->n_present, 3);
	assert_int_equal(mate->last.native_flags, NATIVE_NOT_IDEAL);
	assert_int_equal(mate->last.port, 1005);
	native(6, 4, 0); /* derp.md 3.6: each registration is told */
	assert_int_equal(mate->n_present, 4);
	leave(&ends[5]);
	assert_int_equal(mate->n_gone, 0);
	leave(&ends[6]);
	assert_int_equal(mate->n_gone, 1);
	router_active(router, &a->member, now_ms);
	remote(7, 8);
	leave(&ends[7]);
	leave(&ends[3]);
	leave(&ends[4]);
	assert_int_equal(mate->n_present, 4);
	assert_int_equal(mate->n_gone, 1);
	router_watch(router, &mate->member); /* again: all of them once more */
	assert_int_equal(mate->n_present, 6);
	native(5, 4, 0); /* and yet told once */
	assert_int_equal(mate->n_present, 7);
	leave(mate);
	leave(&ends[5]);
	assert_int_equal(mate->n_gone, 1);
}

/* ---- the mesh ---- */

static void an_end_here_goes_before_one_of_another_relay(void **state)
{
	struct end *a = native(0, 1, 0), *far = remote(1, 2), *further = remote(2, 2);

	(void)state;
	send_to(a, native_key(2));
	assert_true(far->n_relayed == 1 && further->n_relayed == 0); /* the first keeps it */
	struct end *here = native(3, 2, 0);
	send_to(a, native_key(2));
	assert_int_equal(here->n_packets, 1);
	leave(here);
	assert_int_equal(a->n_gone, 0);
	leave(far);
	send_to(a, native_key(2));
	assert_int_equal(further->n_relayed, 1);
	leave(further);
	look_for(a, native_key(2));
	assert_int_equal(a->n_absent, 1);
}

static void what_another_relay_forwards_is_delivered_and_never_forwarded_again(void **state)
{
	struct end *a = native(0, 1, 0), *mate = native(1, 2, NATIVE_MESH), *far = remote(2, 3);

	(void)state;
	forward(mate, native_key(9), native_key(1));
	assert_int_equal(a->n_packets, 1);
	assert_int_equal(a->last_src.b[0], 9);
	forward(mate, native_key(9), native_key(3));
	assert_int_equal(far->n_relayed, 0);
	forward(mate, native_key(9), native_key(77));
	assert_int_equal(mate->n_told, 0); /* it was looking for no path */
	struct pkt *p = packet_to(&(struct key){ { 77 } }, true);
	p->src = native_key(9);
	router_forward(router, &mate->member, p, now_ms);
	assert_int_equal(mate->n_absent, 1);
	assert_int_equal(mate->last_peer.b[0], 77);
}

static void T18_a_mate_can_neither_be_nor_reach_a_tunnel(void **state)
{
	struct end *a = native(0, 1, 0), *mate = native(1, 2, NATIVE_MESH),
	           *t = tunnel(2, "home", 1, true);
	int64_t forged = metric_sum(METRIC_DERP_FORGED);

	(void)state;
	forward(mate, t->member.who->key, native_key(1));
	assert_int_equal(a->n_packets, 0);
	assert_int_equal(metric_sum(METRIC_DERP_FORGED), forged + 1);
	forward(mate, native_key(1), t->member.who->key);
	assert_int_equal(t->n_packets, 0);
}

static void closing_a_key_closes_all_its_ends_and_no_others(void **state)
{
	struct end *a = native(0, 1, 0), *b = native(1, 1, 0), *c = native(2, 2, 0),
	           *far = remote(3, 1), *t = tunnel(4, "home", 2, true);
	struct key key = native_key(1), nobody = native_key(99);

	(void)state;
	router_close_key(router, &nobody);
	router_close_key(router, &t->member.who->key);
	router_close_key(router, &key);
	assert_true(a->n_closed == 1 && b->n_closed == 1);
	assert_int_equal(c->n_closed + far->n_closed + t->n_closed, 0);
	router_close_key(router, &key);
	assert_int_equal(a->n_closed + b->n_closed + far->n_closed, 2);
	key = native_key(2);
	router_close_key(router, &key); /* the last of its place, which goes too */
	assert_int_equal(c->n_closed, 1);
}

/* ---- tunnels ---- */

static void a_tunnel_that_names_a_node_key_talks_with_that_end(void **state)
{
	struct end *t = tunnel(0, "home", 1, true);

	(void)state;
	assert_int_equal(t->n_absent, 1);
	struct end *a = native(1, 1, 0), *b = native(2, 2, 0);
	assert_int_equal(t->n_present, 1); /* up, without a packet */
	send_to(t, native_key(1));
	assert_int_equal(a->n_packets, 1);
	assert_true(key_eq(&a->last_src, &t->member.who->key));
	send_to(a, t->member.who->key);
	assert_int_equal(t->n_packets, 1);
	assert_true(key_eq(&t->last_src, &a->member.who->key));
	uint64_t not_mutual = metric_drop_sum(DROP_NOT_MUTUAL);
	send_to(b, t->member.who->key); /* not declared */
	assert_int_equal(t->n_packets, 1);
	assert_int_equal(metric_drop_sum(DROP_NOT_MUTUAL), not_mutual + 1);
	send_to(t, native_key(2));
	assert_int_equal(b->n_packets, 0);
	leave(a);
	assert_int_equal(t->n_gone, 1);
}

static void a_native_end_is_told_when_a_tunnel_it_heard_from_has_gone(void **state)
{
	struct end *a = native(0, 1, 0), *t = tunnel(1, "home", 1, true);

	(void)state;
	send_to(t, native_key(1));
	leave(t);
	assert_int_equal(a->n_gone, 1);
	assert_true(key_eq(&a->last_peer, &t->member.who->key));
	leave(a);
	assert_int_equal(router_n_places(router), 0);
}

static void a_tunnel_that_only_sends_gets_nothing_from_a_native_end(void **state)
{
	struct end *a = native(0, 1, 0), *t = tunnel(1, "home", 1, false);
	uint64_t one_way = metric_drop_sum(DROP_ONE_WAY);

	(void)state;
	send_to(t, native_key(1));
	send_to(a, t->member.who->key);
	assert_true(a->n_packets == 1 && t->n_packets == 0);
	assert_int_equal(metric_drop_sum(DROP_ONE_WAY), one_way + 1);
}

/* ---- derp.peering ---- */

static struct native_policy *peering(const char *const *words, size_t n)
{
	struct native_policy *p = native_policy_new(
	                &(struct native_policy_conf){ .peering = words, .n_peering = n });

	assert_non_null(p);
	router_set_policy(router, p);
	return p;
}

static void peering_is_of_native_ends_among_themselves(void **state)
{
	struct end *a = native(0, 1, 0), *b = native(1, 2, 0), *c = native(2, 3, 0),
	           *mate = native(3, 4, NATIVE_MESH), *t = tunnel(4, "home", 1, true);
	char word_a[80] = "nodekey:", word_b[80] = "nodekey:";
	const char *closed[] = { "closed" }, *list[] = { word_a, word_b };

	(void)state;
	hex_encode(a->member.who->key.b, KEY_LEN, word_a + 8);
	hex_encode(b->member.who->key.b, KEY_LEN, word_b + 8);
	struct native_policy *p = peering(closed, 1);
	send_to(a, native_key(2));
	look_for(a, native_key(2)); /* as if nobody was there */
	forward(mate, native_key(9), native_key(2));
	assert_int_equal(b->n_packets, 0);
	assert_int_equal(a->n_absent, 1);
	send_to(a, t->member.who->key);
	send_to(t, native_key(1));
	send_to(a, native_key(1));
	assert_true(t->n_packets == 1 && a->n_packets == 2);
	native_policy_unref(p);
	p = peering(list, 2);
	send_to(a, native_key(2));
	send_to(b, native_key(1));
	assert_true(b->n_packets == 1 && a->n_packets == 3);
	send_to(c, native_key(1));
	send_to(a, native_key(3));
	forward(mate, native_key(9), native_key(2));
	assert_true(c->n_packets == 0 && a->n_packets == 3 && b->n_packets == 1);
	forward(mate, native_key(1), native_key(2));
	assert_int_equal(b->n_packets, 2);
	native_policy_unref(p);
	router_set_policy(router, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(packets_go_to_the_key_they_name_and_to_nobody_else),
		TEST(D10_D11_only_who_looks_for_a_path_is_told_that_nobody_is_there),
		TEST(D17_who_spoke_last_has_the_packets),
		TEST(an_end_whose_turn_it_cannot_be_keeps_quiet_when_memory_ran_out),
		TEST(who_heard_from_a_key_is_told_once_when_its_last_end_has_gone),
		TEST(who_leaves_is_forgotten_by_those_it_heard_from),
		TEST(a_watcher_sees_all_that_are_there_itself_too_and_each_that_comes),
		TEST(an_end_here_goes_before_one_of_another_relay),
		TEST(what_another_relay_forwards_is_delivered_and_never_forwarded_again),
		TEST(T18_a_mate_can_neither_be_nor_reach_a_tunnel),
		TEST(closing_a_key_closes_all_its_ends_and_no_others),
		TEST(a_tunnel_that_names_a_node_key_talks_with_that_end),
		TEST(a_native_end_is_told_when_a_tunnel_it_heard_from_has_gone),
		TEST(a_tunnel_that_only_sends_gets_nothing_from_a_native_end),
		TEST(peering_is_of_native_ends_among_themselves),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
