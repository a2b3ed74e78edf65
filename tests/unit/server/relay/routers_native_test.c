/* Native DERP ends at several workers, and tunnels that name them, with mail in any order
 * that threads allow, against a model. */
#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "server/relay/router.h"
#include "tests/unit/server/relay/post.h"

enum { KEYS = 5, NATIVES = 30, TUNNELS = 6, ENDS = NATIVES + TUNNELS };

struct end {
	struct member member;
	struct decl decls[KEYS];
	struct worker *at;
	bool is_tunnel, watches;
	unsigned key; /* number of a node key, or of a tunnel */
	unsigned n_packets, n_closed;
	bool heard[KEYS];             /* has got a packet from it since it was told of its going */
	unsigned up[KEYS], due[KEYS]; /* of a watcher: told, and to be told */
	enum peer_state told[KEYS];   /* of a tunnel */
};

static struct end ends[ENDS];

static struct key key_of(const struct end *e)
{
	struct key k = { { (uint8_t)(1 + e->key), [31] = 0x11 } };
	char id[8];

	if (e->is_tunnel) {
		snprintf(id, sizeof id, "t%u", e->key);
		key_of_tunnel(STR("acme"), str_of(id), &k);
	}
	return k;
}

static struct key node_key(unsigned number)
{
	return (struct key){ { (uint8_t)(1 + number), [31] = 0x11 } };
}

static unsigned number_of(const struct key *key) { return key->b[0] - 1u; }
static bool is_of_tunnel(const struct key *key) { return key->b[31] & 0x80; }

static bool is_there(unsigned number)
{
	for (unsigned i = 0; i < NATIVES; i++)
		if (ends[i].member.joined && ends[i].key == number)
			return true;
	return false;
}

/* ---- what ends are told ---- */

static void on_deliver(void *owner, struct pkt *p)
{
	struct end *e = owner;

	assert_true(e->member.joined);
	assert_true(key_eq(&p->dst, &e->member.who->key));
	e->n_packets++;
	if (!is_of_tunnel(&p->src))
		e->heard[number_of(&p->src)] = true;
	pkt_free(p);
}

static void on_peer(void *owner, const struct peer_status *p)
{
	struct end *e = owner;

	if (is_of_tunnel(&p->key))
		return;
	unsigned n = number_of(&p->key);
	assert_true(n < KEYS);
	if (e->is_tunnel) {
		e->told[n] = p->state;
	} else if (p->state == PEER_UP) {
		assert_true(e->watches);
		e->up[n]++;
	} else if (p->state == PEER_GONE && e->watches) {
		/* one for watching, and one for having heard: both may come */
		assert_true(e->up[n] > 0 || e->heard[n]);
		if (e->heard[n])
			e->heard[n] = false;
		else
			e->up[n] = e->due[n] = 0;
	} else if (p->state == PEER_GONE) {
		assert_true(e->heard[n]);
		e->heard[n] = false;
	}
}

static void on_superseded(void *owner, bool same_instance, bool fight)
{
	struct end *e = owner;

	(void)same_instance, (void)fight;
	assert_true(e->is_tunnel);
}

static void leave(struct end *e) { router_leave(e->at->router, &e->member, now_ms); }

static void on_close(void *owner)
{
	struct end *e = owner;

	assert_true(e->member.joined);
	e->n_closed++;
	leave(e);
}

static const struct router_events events = {
	.deliver = on_deliver,
	.peer = on_peer,
	.superseded = on_superseded,
	.close = on_close,
	.tell = on_tell,
	.forward = on_forward,
};

/* ---- ends ---- */

static void due_at(const struct worker *w, const struct presence *who)
{
	for (unsigned i = 0; i < NATIVES; i++)
		if (ends[i].watches && ends[i].at == w)
			ends[i].due[number_of(&who->key)]++;
}

/* A registration is told to each watcher there is when its news come. */
static void note_letter(struct worker *w, const struct letter *l)
{
	const struct presence *who = l->ptr;

	if (l->kind == NEWS && l->news == ROUTER_JOIN && who->native && !who->renewed)
		due_at(w, who);
}

static struct end *end_of(unsigned i, unsigned worker, unsigned key)
{
	struct end *e = &ends[i];
	bool is_tunnel = i >= NATIVES;
	struct presence *who = presence_new(is_tunnel ? KEYS : 0);

	assert_non_null(who);
	presence_unref(e->member.who);
	memset(e, 0, sizeof *e);
	e->at = &workers[worker];
	e->key = is_tunnel ? i - NATIVES : key;
	e->is_tunnel = is_tunnel;
	who->native = !is_tunnel;
	who->bidirectional = true;
	who->port = (uint16_t)(1 + i);
	who->key = key_of(e);
	who->n_peers = 0;
	snprintf(who->account, sizeof who->account, is_tunnel ? "acme" : "derp");
	e->member = (struct member){ .who = who, .decls = e->decls, .owner = e };
	return e;
}

static bool join(struct end *e)
{
	if (router_join(e->at->router, &e->member, now_ms) != CLOSE_NONE) {
		assert_true(no_memory);
		return false;
	}
	router_greet(e->at->router, &e->member, now_ms);
	if (!e->is_tunnel)
		due_at(e->at, e->member.who);
	return true;
}

static struct end *native(unsigned i, unsigned worker, unsigned key)
{
	struct end *e = end_of(i, worker, key);

	assert_true(join(e));
	return e;
}

/* peers: a bit for each node key. */
static struct end *tunnel_of(unsigned i, unsigned worker, unsigned peers, bool bidirectional)
{
	struct end *e = end_of(NATIVES + i, worker, 0);
	struct presence *who = e->member.who;

	who->bidirectional = bidirectional;
	for (unsigned k = 0; k < KEYS; k++)
		if (peers & 1u << k)
			who->peers[who->n_peers++] = node_key(k);
	return e;
}

static void send_to(struct end *from, struct key dst)
{
	struct pkt *p = pkt_new(1);

	assert_non_null(p);
	p->dst = dst;
	router_route(from->at->router, &from->member, p, now_ms);
}

static void watch(struct end *e)
{
	memset(e->up, 0, sizeof e->up);
	e->watches = true;
	router_watch(e->at->router, &e->member);
	for (unsigned k = 0; k < KEYS; k++) {
		assert_in_range(e->up[k], 0, 1);
		e->due[k] = e->up[k];
	}
}

static int set_up(void **state)
{
	(void)state;
	open_post();
	on_taken = note_letter;
	open_workers(&events);
	return 0;
}

static int tear_down(void **state)
{
	size_t n_left = 0;

	(void)state;
	for (unsigned i = 0; i < ENDS; i++)
		if (ends[i].member.joined)
			leave(&ends[i]);
	read_all();
	for (unsigned w = 0; w < WORKERS; w++) {
		/* who comes later lets fights of the past be forgotten */
		now_ms += 2 * FIGHT_WINDOW_MS;
		struct end *last = end_of(ENDS - 1, w, 0);
		if (join(last))
			leave(last);
		read_all();
	}
	for (unsigned w = 0; w < WORKERS; w++) {
		n_left += router_n_places(workers[w].router) + router_n_members(workers[w].router);
		router_free(workers[w].router);
	}
	for (unsigned i = 0; i < ENDS; i++) {
		presence_unref(ends[i].member.who);
		memset(&ends[i], 0, sizeof ends[i]);
	}
	pkt_pool_drain();
	if (n_left)
		fprintf(stderr, "%zu places are left behind\n", n_left);
	return n_left ? -1 : 0;
}

/* ---- behaviours ---- */

static void native_ends_of_two_workers_exchange_packets(void **state)
{
	struct end *a = native(0, 0, 0), *b = native(1, 1, 1);

	(void)state;
	read_all();
	send_to(a, node_key(1));
	send_to(b, node_key(0));
	read_all();
	assert_true(a->n_packets == 1 && b->n_packets == 1);
	leave(b);
	read_all();
	assert_false(a->heard[1]); /* it was told */
}

static void a_tunnel_and_a_native_end_of_another_worker_exchange_packets(void **state)
{
	struct end *t = tunnel_of(0, 2, 1u << 0, true), *a = native(0, 0, 0), *b = native(1, 1, 1);

	(void)state;
	assert_true(join(t));
	read_all();
	assert_int_equal(t->told[0], PEER_UP);
	send_to(t, node_key(0));
	send_to(a, t->member.who->key);
	send_to(b, t->member.who->key); /* not declared */
	send_to(t, node_key(1));
	read_all();
	assert_true(a->n_packets == 1 && t->n_packets == 1 && b->n_packets == 0);
	leave(a);
	read_all();
	assert_int_equal(t->told[0], PEER_GONE);
}

static void a_tunnel_that_only_sends_gets_nothing_from_afar(void **state)
{
	struct end *t = tunnel_of(0, 2, 1u << 0, false), *a = native(0, 0, 0);

	(void)state;
	assert_true(join(t));
	read_all();
	send_to(t, node_key(0));
	send_to(a, t->member.who->key);
	read_all();
	assert_true(a->n_packets == 1 && t->n_packets == 0);
}

static void D17_who_spoke_last_has_the_packets_at_whichever_worker(void **state)
{
	struct end *a = native(0, 0, 0), *one = native(1, 1, 1), *two = native(2, 2, 1);

	(void)state;
	read_all();
	send_to(a, node_key(1));
	read_all();
	assert_int_equal(two->n_packets, 1);
	router_active(one->at->router, &one->member, now_ms);
	read_all();
	send_to(a, node_key(1));
	read_all();
	assert_int_equal(one->n_packets, 1);
	send_to(two, node_key(0));
	read_all();
	send_to(a, node_key(1));
	read_all();
	assert_int_equal(two->n_packets, 2);
	leave(two);
	read_all();
	assert_true(a->heard[1]); /* one is there */
	send_to(a, node_key(1));
	read_all();
	assert_int_equal(one->n_packets, 2);
}

/* The news that closes it and the news that it has spoken cross. */
static void an_end_that_speaks_while_it_is_being_closed_is_closed(void **state)
{
	struct end *one = native(0, 0, 0), *two = native(1, 1, 0);
	struct key key = node_key(0);

	(void)state;
	read_all();
	router_close_key(workers[2].router, &key);
	router_active(one->at->router, &one->member, now_ms);
	read_all();
	assert_true(one->n_closed == 1 && two->n_closed == 1);
}

/* ---- at random, against a model ---- */

/* All mail is read: of those with the key, the one with the highest number. */
static struct end *active(unsigned number)
{
	struct end *best = NULL;

	for (unsigned i = 0; i < NATIVES; i++)
		if (ends[i].member.joined && ends[i].key == number &&
		    (!best || ends[i].member.who->seq > best->member.who->seq))
			best = &ends[i];
	return best;
}

static void check_packet(struct end *from, struct end *to, struct key dst, bool arrives)
{
	unsigned before = to ? to->n_packets : 0, all = 0, all_before = 0;

	for (unsigned i = 0; i < ENDS; i++)
		all_before += ends[i].n_packets;
	send_to(from, dst);
	read_all();
	for (unsigned i = 0; i < ENDS; i++)
		all += ends[i].n_packets;
	assert_int_equal(all - all_before, arrives);
	if (to)
		assert_int_equal(to->n_packets - before, arrives);
}

static void check_tunnel(struct end *t)
{
	for (unsigned k = 0; k < KEYS; k++) {
		struct key key = node_key(k);
		bool declared = presence_declares(t->member.who, &key);
		struct end *who = active(k);
		check_packet(t, who, key, who && declared);
		if (declared)
			assert_int_equal(t->told[k] == PEER_UP, who != NULL);
		if (who)
			check_packet(who, t, t->member.who->key,
			             declared && t->member.who->bidirectional);
	}
}

static void check_native(struct end *e)
{
	for (unsigned k = 0; k < KEYS; k++) {
		struct end *who = k == e->key ? e : active(k); /* it speaks: it is its key's */
		check_packet(e, who, node_key(k), who != NULL);
		if (!is_there(k))
			assert_false(e->heard[k]);
		if (!e->watches)
			continue;
		assert_int_equal(e->up[k] > 0, is_there(k));
		assert_int_equal(e->up[k], e->due[k]);
	}
}

static void check_all(void)
{
	read_all();
	for (unsigned i = 0; i < ENDS; i++) {
		if (ends[i].member.joined && ends[i].is_tunnel)
			check_tunnel(&ends[i]);
		else if (ends[i].member.joined)
			check_native(&ends[i]);
	}
}

static void close_a_key(void)
{
	bool was_there[NATIVES];
	unsigned number = roll(KEYS);
	struct key key = node_key(number);

	read_all(); /* so that the worker knows all */
	for (unsigned i = 0; i < NATIVES; i++)
		was_there[i] = ends[i].member.joined && ends[i].key == number;
	router_close_key(workers[roll(WORKERS)].router, &key);
	for (unsigned n = roll(10); n; n--) {
		struct end *e = &ends[roll(NATIVES)];
		if (e->member.joined)
			router_active(e->at->router, &e->member, now_ms);
		read_one(roll(WORKERS), roll(WORKERS));
	}
	read_all();
	for (unsigned i = 0; i < NATIVES; i++)
		assert_false(was_there[i] && ends[i].member.joined);
}

static void act(struct end *e, unsigned i)
{
	if (!e->member.joined) {
		if (i < NATIVES)
			join(end_of(i, roll(WORKERS), roll(KEYS)));
		else
			join(tunnel_of(i - NATIVES, roll(WORKERS), roll(1u << KEYS), roll(2)));
		return;
	}
	switch (roll(8)) {
	case 0: leave(e); break;
	case 1:
		if (!e->is_tunnel)
			watch(e);
		break;
	case 2: send_to(e, key_of(&ends[NATIVES + roll(TUNNELS)])); break;
	case 3:
		if (!e->is_tunnel)
			router_active(e->at->router, &e->member, now_ms);
		break;
	default: send_to(e, node_key(roll(KEYS)));
	}
}

static void play(bool memory_runs_out)
{
	for (unsigned i = NATIVES; i < ENDS; i++) /* so that their keys are known */
		end_of(i, 0, 0);
	for (unsigned round = 0; round < 1500; round++) {
		for (unsigned n = 1 + roll(40); n; n--) {
			unsigned i = roll(ENDS);
			no_memory = memory_runs_out && roll(4) == 0;
			now_ms += FIGHT_WINDOW_MS; /* nobody fights */
			if (roll(10) < 5)
				read_one(roll(WORKERS), roll(WORKERS));
			else
				act(&ends[i], i);
		}
		no_memory = false;
		if (roll(5) == 0)
			close_a_key();
		check_all();
	}
}

static void workers_agree_on_native_ends_in_whatever_order_mail_comes(void **state)
{
	(void)state;
	seed = 7;
	play(false);
}

static void workers_agree_on_native_ends_when_memory_ran_out(void **state)
{
	(void)state;
	seed = 8;
	play(true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(native_ends_of_two_workers_exchange_packets),
		TEST(a_tunnel_and_a_native_end_of_another_worker_exchange_packets),
		TEST(a_tunnel_that_only_sends_gets_nothing_from_afar),
		TEST(D17_who_spoke_last_has_the_packets_at_whichever_worker),
		TEST(an_end_that_speaks_while_it_is_being_closed_is_closed),
		TEST(workers_agree_on_native_ends_in_whatever_order_mail_comes),
		TEST(workers_agree_on_native_ends_when_memory_ran_out),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
