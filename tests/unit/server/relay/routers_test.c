/* Routers of several workers, and the mail between them, delivered in any order
 * that threads allow: in order from one worker to another, else at random. */
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "server/relay/router.h"
#include "tests/unit/server/relay/post.h"

enum { IDS = 6, ENDS = 40 };

struct end {
	struct member member;
	struct decl decls[IDS];
	struct worker *at;
	unsigned id, n_packets, n_superseded;
	bool same_instance, fight;
	enum peer_state told[IDS];
};

static struct end ends[ENDS];
static struct key keys[IDS];

/* ---- ends ---- */

static void on_deliver(void *owner, struct pkt *p)
{
	struct end *e = owner;

	assert_true(key_eq(&p->dst, &e->member.who->key));
	assert_true(e->member.who->native || presence_declares(e->member.who, &p->src));
	e->n_packets++;
	pkt_free(p);
}

static void on_peer(void *owner, const struct peer_status *p)
{
	struct end *e = owner;

	for (unsigned i = 0; i < IDS; i++)
		if (key_eq(&keys[i], &p->key))
			e->told[i] = p->state;
}

static void on_superseded(void *owner, bool same_instance, bool fight)
{
	struct end *e = owner;

	assert_false(e->member.joined);
	e->n_superseded++;
	e->same_instance = same_instance;
	e->fight = fight;
}

static const struct router_events events = {
	.deliver = on_deliver,
	.peer = on_peer,
	.superseded = on_superseded,
	.tell = on_tell,
	.forward = on_forward,
};

/* peers: a bit for each id. */
static struct end *end_of(unsigned i, unsigned worker, unsigned id, uint8_t instance,
                          unsigned peers)
{
	struct end *e = &ends[i];
	struct presence *who = presence_new(IDS);

	assert_non_null(who);
	presence_unref(e->member.who);
	memset(e, 0, sizeof *e);
	e->at = &workers[worker];
	e->id = id;
	snprintf(who->account, sizeof who->account, "acme");
	snprintf(who->id, sizeof who->id, "e%u", id);
	who->key = keys[id];
	who->instance[0] = instance;
	who->bidirectional = true;
	who->n_peers = 0;
	for (unsigned k = 0; k < IDS; k++)
		if (peers & 1u << k && k != id)
			who->peers[who->n_peers++] = keys[k];
	e->member = (struct member){ .who = who, .decls = e->decls, .owner = e };
	return e;
}

static enum close_why join(struct end *e)
{
	enum close_why why = router_join(e->at->router, &e->member, now_ms);

	if (why == CLOSE_NONE)
		router_greet(e->at->router, &e->member, now_ms);
	return why;
}

static struct end *joined(unsigned i, unsigned worker, unsigned id, uint8_t instance,
                          unsigned peers)
{
	struct end *e = end_of(i, worker, id, instance, peers);

	assert_int_equal(join(e), CLOSE_NONE);
	return e;
}

static void leave(struct end *e) { router_leave(e->at->router, &e->member, now_ms); }

static void send_to(struct end *from, unsigned id)
{
	struct pkt *p = pkt_new(1);

	assert_non_null(p);
	p->dst = keys[id];
	router_route(from->at->router, &from->member, p, now_ms);
}

static int set_up(void **state)
{
	(void)state;
	open_post();
	for (unsigned i = 0; i < IDS; i++) {
		char id[8];
		snprintf(id, sizeof id, "e%u", i);
		key_of_tunnel(STR("acme"), str_of(id), &keys[i]);
	}
	open_workers(&events);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENDS; i++)
		if (ends[i].member.joined)
			leave(&ends[i]);
	read_all();
	for (unsigned i = 0; i < ENDS; i++) {
		presence_unref(ends[i].member.who);
		ends[i].member.who = NULL;
	}
	for (unsigned i = 0; i < WORKERS; i++)
		router_free(workers[i].router);
	pkt_pool_drain();
	return 0;
}

/* ---- behaviours ---- */

static void a_packet_goes_to_the_worker_of_its_destination(void **state)
{
	struct end *a = joined(0, 0, 0, 1, 1u << 1), *b = joined(1, 1, 1, 1, 1u << 0);

	(void)state;
	read_all();
	assert_int_equal(a->told[1], PEER_UP);
	assert_int_equal(b->told[0], PEER_UP);
	send_to(a, 1);
	assert_int_equal(b->n_packets, 0);
	read_all();
	assert_int_equal(b->n_packets, 1);
}

static void a_packet_that_comes_too_late_goes_nowhere(void **state)
{
	struct end *a = joined(0, 0, 0, 1, 1u << 1), *b = joined(1, 1, 1, 1, 1u << 0);
	uint64_t no_route = metric_drop_sum(DROP_NO_ROUTE),
	         not_mutual = metric_drop_sum(DROP_NOT_MUTUAL);

	(void)state;
	read_all();
	send_to(a, 1);
	leave(b);
	read_one(0, 1);
	assert_int_equal(metric_drop_sum(DROP_NO_ROUTE), no_route + 1);
	b = joined(1, 1, 1, 1, 1u << 0);
	read_all();
	send_to(a, 1);
	b = joined(2, 1, 1, 1, 1u << 2); /* again, without a */
	read_all();
	assert_int_equal(metric_drop_sum(DROP_NOT_MUTUAL), not_mutual + 1);
	assert_int_equal(b->n_packets, 0);
}

static void the_newest_has_the_key_wherever_it_came(void **state)
{
	struct end *first = joined(0, 0, 0, 1, 1u << 1), *second = joined(1, 1, 0, 2, 1u << 1);

	(void)state;
	read_all();
	assert_int_equal(first->n_superseded, 1);
	assert_false(first->same_instance || first->fight);
	assert_true(second->member.joined);
	struct end *again = joined(2, 2, 0, 2, 1u << 1);
	read_all();
	assert_true(second->same_instance);
	assert_true(again->member.joined);
}

/* One that comes back at another worker, unnoticed by its peer. */
static void the_same_instance_moves_without_a_word(void **state)
{
	struct end *a = joined(0, 0, 0, 1, 1u << 1);

	(void)state;
	joined(1, 1, 1, 1, 1u << 0);
	read_all();
	a->told[1] = PEER_UNSPECIFIED;
	joined(2, 2, 1, 1, 1u << 0);
	read_all();
	assert_int_equal(a->told[1], PEER_UNSPECIFIED);
	send_to(a, 1);
	read_all();
	assert_int_equal(ends[2].n_packets, 1);
}

static void a_fight_from_worker_to_worker_ends_both(void **state)
{
	struct end *peer = joined(ENDS - 1, 2, 1, 1, 1u << 0);

	(void)state;
	for (unsigned i = 0; i <= FIGHT_TAKEOVERS; i++) {
		joined(i, i % 2, 0, (uint8_t)(i + 1), 1u << 1);
		read_all();
	}
	assert_int_equal(join(end_of(10, 2, 0, 99, 1u << 1)), CLOSE_FIGHT);
	read_all();
	assert_true(ends[FIGHT_TAKEOVERS].fight);
	assert_int_equal(peer->told[0], PEER_GONE);
	for (unsigned w = 0; w < WORKERS; w++) /* known to all */
		assert_int_equal(join(end_of(11, w, 0, 50, 1u << 1)), CLOSE_FIGHT);
	now_ms += FIGHT_REST_MS;
	assert_int_equal(join(end_of(12, 1, 0, 50, 1u << 1)), CLOSE_NONE);
}

/* ---- native ends, of which several may have one key ---- */

static struct end *native(unsigned i, unsigned worker, unsigned id)
{
	struct end *e = end_of(i, worker, id, 0, 0);

	e->member.who->native = true;
	assert_int_equal(join(e), CLOSE_NONE);
	read_all();
	return e;
}

static void forward(struct end *mate, unsigned id, uint8_t src)
{
	struct pkt *p = pkt_new(1);

	assert_non_null(p);
	p->src = (struct key){ { src } };
	p->dst = keys[id];
	router_forward(mate->at->router, &mate->member, p, now_ms);
}

static void a_packet_reaches_who_was_active_when_it_was_sent(void **state)
{
	struct end *a = native(0, 0, 0), *idle = native(1, 1, 1), *active = native(2, 2, 1);

	(void)state;
	send_to(a, 1);
	router_active(idle->at->router, &idle->member, now_ms);
	while (read_one(1, 2)) /* the news overtakes the packet */
		;
	read_all();
	assert_int_equal(active->n_packets, 1);
	send_to(a, 1);
	read_all();
	assert_int_equal(idle->n_packets, 1);
}

static void who_forwards_has_spoken(void **state)
{
	struct end *first = native(0, 0, 0), *second = native(1, 0, 0);

	(void)state;
	forward(first, 0, 1);
	assert_int_equal(first->n_packets, 1);
	forward(second, 0, 1);
	assert_int_equal(second->n_packets, 1);
}

static void nobody_and_named_tunnels_are_no_source_of_a_forwarded_packet(void **state)
{
	struct end *mate = native(0, 0, 0), *end = native(1, 0, 1);
	uint64_t forged = metric_sum(METRIC_DERP_FORGED);
	struct pkt *p = pkt_new(1);

	(void)state;
	forward(mate, 1, 0);
	assert_non_null(p);
	p->src = keys[2];
	p->dst = keys[1];
	router_forward(mate->at->router, &mate->member, p, now_ms);
	assert_int_equal(metric_sum(METRIC_DERP_FORGED), forged + 2);
	assert_int_equal(end->n_packets, 0);
}

/* ---- at random, against a model ---- */

static struct end *holder(unsigned id)
{
	struct end *found = NULL;

	for (unsigned i = 0; i < ENDS; i++) {
		if (!ends[i].member.joined || ends[i].id != id)
			continue;
		assert_null(found); /* one at most */
		found = &ends[i];
	}
	return found;
}

static void check_pair(struct end *a, unsigned id)
{
	struct end *b = holder(id);
	bool declared = presence_declares(a->member.who, &keys[id]);
	bool mutual = b && declared && presence_declares(b->member.who, &a->member.who->key);
	unsigned before = b ? b->n_packets : 0;

	send_to(a, id);
	read_all();
	if (b)
		assert_int_equal(b->n_packets - before, mutual);
	if (declared)
		assert_int_equal(a->told[id] == PEER_UP, mutual);
}

/* All mail is read: whoever is joined reaches whom it should, and nobody else. */
static void check_all(void)
{
	read_all();
	for (unsigned i = 0; i < ENDS; i++)
		for (unsigned id = 0; id < IDS && ends[i].member.joined; id++)
			check_pair(&ends[i], id);
}

static void step(void)
{
	unsigned i = roll(ENDS), what = roll(10);
	struct end *e = &ends[i];

	now_ms += FIGHT_WINDOW_MS; /* nobody fights */
	if (what < 6) {
		read_one(roll(WORKERS), roll(WORKERS));
	} else if (!e->member.joined) {
		enum close_why why = join(end_of(i, roll(WORKERS), roll(IDS), (uint8_t)roll(3),
		                                 roll(1u << IDS)));
		assert_true(why == CLOSE_NONE || (why == CLOSE_NOMEM && no_memory));
	} else if (what == 9) {
		leave(e);
	} else {
		send_to(e, roll(IDS));
	}
}

static void play(bool memory_runs_out)
{
	for (unsigned round = 0; round < 3000; round++) {
		for (unsigned n = 1 + roll(30); n; n--) {
			no_memory = memory_runs_out && roll(4) == 0;
			step();
		}
		check_all();
	}
}

static void workers_agree_in_whatever_order_mail_comes(void **state)
{
	(void)state;
	seed = 4;
	play(false);
}

static void workers_agree_when_memory_ran_out(void **state)
{
	(void)state;
	seed = 5;
	play(true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_packet_goes_to_the_worker_of_its_destination),
		TEST(a_packet_that_comes_too_late_goes_nowhere),
		TEST(the_newest_has_the_key_wherever_it_came),
		TEST(the_same_instance_moves_without_a_word),
		TEST(a_fight_from_worker_to_worker_ends_both),
		TEST(a_packet_reaches_who_was_active_when_it_was_sent),
		TEST(who_forwards_has_spoken),
		TEST(nobody_and_named_tunnels_are_no_source_of_a_forwarded_packet),
		TEST(workers_agree_in_whatever_order_mail_comes),
		TEST(workers_agree_when_memory_ran_out),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
