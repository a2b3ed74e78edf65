#include "tests/unit/said.h"

#include "common/base/crypto.h"
#include "common/base/metric.h"
#include "server/relay/router.h"

enum { DECLS = 12, ENDS = 24 };

/* An end as the router sees it, and what it was told. */
struct end {
	struct member member;
	struct decl decls[DECLS];
	unsigned n_packets, n_told, n_superseded;
	struct key last_src;
	uint8_t last_byte;
	enum peer_state last_state;
	enum role last_role;
	struct key last_peer;
	char text[200];
	bool same_instance, fight;
};

static struct router *router;
static struct end ends[ENDS];
static uint64_t now_ms;

static void on_deliver(void *owner, struct pkt *p)
{
	struct end *e = owner;

	e->n_packets++;
	e->last_src = p->src;
	e->last_byte = p->len ? p->data[0] : 0;
	pkt_free(p);
}

static void on_peer(void *owner, const struct peer_status *p)
{
	struct end *e = owner;

	assert_true(e->member.greeted);
	e->n_told++;
	e->last_state = p->state;
	e->last_role = p->role;
	e->last_peer = p->key;
	snprintf(e->text, sizeof e->text, "%.*s", (int)p->text.len, p->text.p);
}

static void on_superseded(void *owner, bool same_instance, bool fight)
{
	struct end *e = owner;

	e->n_superseded++;
	e->same_instance = same_instance;
	e->fight = fight;
	assert_false(e->member.joined);
}

/* There is one worker: the others are routers_test.c. */
static int on_tell(void *mates, enum router_news news, struct presence *p)
{
	(void)mates, (void)news, (void)p;
	return 0;
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
	.tell = on_tell,
	.forward = on_forward,
};
static _Atomic uint64_t seq;

static int set_up(void **state)
{
	(void)state;
	router = router_new(&(struct router_conf){ &events, NULL, &seq });
	now_ms = 1000000;
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
	router_free(router);
	pkt_pool_drain();
	return 0;
}

/* Fills in an end: account/id, instance i, declared peers separated by blanks. */
static struct end *end_of(unsigned i, const char *account, const char *id, const char *peers)
{
	struct end *e = &ends[i];
	struct presence *who = presence_new(DECLS);
	char words[200], *save = NULL;

	assert_non_null(who);
	presence_unref(e->member.who);
	memset(e, 0, sizeof *e);
	snprintf(who->account, sizeof who->account, "%s", account);
	snprintf(who->id, sizeof who->id, "%s", id);
	key_of_tunnel(str_of(account), str_of(id), &who->key);
	who->instance[0] = (uint8_t)(i + 1);
	who->bidirectional = true;
	who->n_peers = 0;
	e->member.who = who;
	e->member.decls = e->decls;
	e->member.owner = e;
	snprintf(words, sizeof words, "%s", peers);
	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
		assert_int_equal(key_of_peer(str_of(account), str_of(w),
		                             &who->peers[who->n_peers++]),
		                 0);
	return e;
}

static enum close_why try_join(struct end *e)
{
	enum close_why why = router_join(router, &e->member, now_ms);

	if (why == CLOSE_NONE)
		router_greet(router, &e->member, now_ms);
	return why;
}

static struct end *join(unsigned i, const char *account, const char *id, const char *peers)
{
	struct end *e = end_of(i, account, id, peers);

	assert_int_equal(try_join(e), CLOSE_NONE);
	return e;
}

static void leave(struct end *e) { router_leave(router, &e->member, now_ms); }

/* Sends one packet to account/id, with a forged source. */
static void send_to(struct end *from, const struct key *dst, uint8_t byte)
{
	struct pkt *p = pkt_new(1);

	assert_non_null(p);
	p->data[0] = byte;
	p->dst = *dst;
	memset(&p->src, 0xee, sizeof p->src);
	router_route(router, &from->member, p, now_ms);
}

/* ---- packets ---- */

static void a_packet_passes_where_both_declare_each_other(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *b = join(1, "acme", "b", "a");

	(void)state;
	send_to(a, &b->member.who->key, 7);
	assert_int_equal(b->n_packets, 1);
	assert_int_equal(b->last_byte, 7);
	send_to(b, &a->member.who->key, 8);
	assert_int_equal(a->n_packets, 1);
}

static void the_source_is_stamped_whatever_the_sender_wrote(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *b = join(1, "acme", "b", "a");

	(void)state;
	send_to(a, &b->member.who->key, 7);
	assert_true(key_eq(&b->last_src, &a->member.who->key));
}

static void one_sided_declaration_delivers_nothing_and_says_why(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *b = join(1, "acme", "b", "c");
	uint64_t drops = metric_drop_sum(DROP_NOT_MUTUAL);

	(void)state;
	assert_int_equal(a->last_state, PEER_NOT_MUTUAL);
	assert_string_equal(a->text, "b is connected but has not declared --peer a");
	send_to(a, &b->member.who->key, 7);
	assert_int_equal(b->n_packets, 0);
	assert_int_equal(metric_drop_sum(DROP_NOT_MUTUAL), drops + 1);
}

static void a_packet_to_whom_nobody_declared_is_dropped(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *c = join(1, "acme", "c", "a");
	uint64_t drops = metric_drop_sum(DROP_NOT_DECLARED);

	(void)state;
	send_to(a, &c->member.who->key, 7);
	assert_int_equal(c->n_packets, 0);
	assert_int_equal(metric_drop_sum(DROP_NOT_DECLARED), drops + 1);
}

static void an_absent_peer_costs_the_packet_and_is_told_at_a_bounded_rate(void **state)
{
	struct end *a = join(0, "acme", "a", "b");
	struct key b;
	unsigned told = a->n_told;

	(void)state;
	key_of_tunnel(STR("acme"), STR("b"), &b);
	assert_int_equal(a->last_state, PEER_ABSENT);
	for (unsigned i = 0; i < 1000; i++)
		send_to(a, &b, 1);
	assert_int_equal(a->n_told, told);
	now_ms += RETELL_MS;
	send_to(a, &b, 1);
	send_to(a, &b, 1);
	assert_int_equal(a->n_told, told + 1);
}

static void an_end_that_only_sends_gets_nothing(void **state)
{
	struct end *a = end_of(0, "acme", "a", "b"), *b;

	(void)state;
	a->member.who->bidirectional = false;
	assert_int_equal(try_join(a), CLOSE_NONE);
	b = join(1, "acme", "b", "a");
	send_to(a, &b->member.who->key, 1);
	send_to(b, &a->member.who->key, 2);
	assert_int_equal(b->n_packets, 1);
	assert_int_equal(a->n_packets, 0);
}

/* ---- states ---- */

static void both_learn_that_the_other_is_up_without_a_packet(void **state)
{
	struct end *a = end_of(0, "acme", "a", "b"), *b = end_of(1, "acme", "b", "a");

	(void)state;
	a->member.who->role = ROLE_LISTEN;
	b->member.who->role = ROLE_FORWARD;
	assert_int_equal(try_join(a), CLOSE_NONE);
	assert_int_equal(a->last_state, PEER_ABSENT);
	assert_int_equal(try_join(b), CLOSE_NONE);
	assert_int_equal(a->last_state, PEER_UP);
	assert_int_equal(b->last_state, PEER_UP);
	assert_int_equal(a->last_role, ROLE_FORWARD);
	assert_int_equal(b->last_role, ROLE_LISTEN);
	assert_true(key_eq(&a->last_peer, &b->member.who->key));
}

static void a_peer_that_leaves_is_gone_and_may_come_back(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *b = join(1, "acme", "b", "a");

	(void)state;
	leave(b);
	assert_int_equal(a->last_state, PEER_GONE);
	send_to(a, &b->member.who->key, 1);
	assert_int_equal(b->n_packets, 0);
	join(1, "acme", "b", "a");
	assert_int_equal(a->last_state, PEER_UP);
	send_to(a, &b->member.who->key, 1);
	assert_int_equal(b->n_packets, 1);
}

static void leaving_twice_is_harmless(void **state)
{
	struct end *a = join(0, "acme", "a", "b");

	(void)state;
	leave(a);
	leave(a);
	assert_int_equal(router_n_members(router), 0);
}

static void traffic_starts_once_it_becomes_mutual(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *b = join(1, "acme", "b", "x");

	(void)state;
	send_to(a, &b->member.who->key, 1);
	leave(b);
	b = join(1, "acme", "b", "a");
	send_to(a, &b->member.who->key, 1);
	assert_int_equal(b->n_packets, 1);
}

/* ---- accounts ---- */

static void across_accounts_nobody_learns_who_is_there(void **state)
{
	struct end *a = join(0, "acme", "a", "evil/b nobody/c"), *b = join(1, "evil", "b", "x");
	char there[sizeof a->text];

	(void)state;
	now_ms += RETELL_MS;
	send_to(a, &b->member.who->key, 1);
	assert_int_equal(a->last_state, PEER_ABSENT);
	snprintf(there, sizeof there, "%s", a->text);
	struct key nobody;
	key_of_tunnel(STR("nobody"), STR("c"), &nobody);
	send_to(a, &nobody, 1);
	assert_int_equal(a->last_state, PEER_ABSENT);
	assert_string_equal(a->text, there);
	assert_int_equal(b->n_packets, 0);
}

static void accounts_that_declare_each_other_exchange_packets(void **state)
{
	struct end *a = join(0, "acme", "a", "other/b"), *b = join(1, "other", "b", "acme/a");

	(void)state;
	assert_int_equal(a->last_state, PEER_UP);
	send_to(a, &b->member.who->key, 1);
	assert_int_equal(b->n_packets, 1);
}

static void the_same_id_in_two_accounts_is_two_ends(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *other = join(1, "other", "a", "b"),
	           *b = join(2, "acme", "b", "a");

	(void)state;
	assert_int_equal(other->n_superseded + a->n_superseded, 0);
	send_to(b, &a->member.who->key, 1);
	assert_int_equal(a->n_packets, 1);
	assert_int_equal(other->n_packets, 0);
}

/* ---- taking over ---- */

static void the_same_instance_takes_over_without_a_word_to_its_peers(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *b = join(1, "acme", "b", "a"),
	           *again = end_of(2, "acme", "a", "b");
	unsigned told = b->n_told;

	(void)state;
	memcpy(again->member.who->instance, a->member.who->instance, INSTANCE_LEN);
	for (unsigned i = 0; i < 20; i++) { /* as often as it likes */
		struct end *old = i % 2 ? again : a, *new = i % 2 ? a : again;
		assert_int_equal(try_join(new), CLOSE_NONE);
		assert_true(old->same_instance);
		assert_false(old->fight);
		send_to(b, &a->member.who->key, (uint8_t)i);
		assert_int_equal(new->last_byte, i);
	}
	assert_int_equal(b->n_told, told);
	assert_int_equal(router_n_members(router), 2);
}

static void another_instance_wins_and_the_older_is_told(void **state)
{
	struct end *old = join(0, "acme", "a", "b"), *new = join(1, "acme", "a", "b");

	(void)state;
	assert_int_equal(old->n_superseded, 1);
	assert_false(old->same_instance);
	assert_false(old->fight);
	assert_true(new->member.joined);
	assert_int_equal(router_n_members(router), 1);
}

static void fight(void)
{
	for (unsigned i = 0; i <= FIGHT_TAKEOVERS; i++)
		join(i, "acme", "a", "b");
	assert_int_equal(try_join(end_of(FIGHT_TAKEOVERS + 1, "acme", "a", "b")), CLOSE_FIGHT);
}

static void instances_that_fight_both_leave_and_rest(void **state)
{
	(void)state;
	fight();
	assert_true(ends[FIGHT_TAKEOVERS].fight);
	assert_int_equal(router_n_members(router), 0);
	now_ms += FIGHT_REST_MS - 1;
	assert_int_equal(try_join(end_of(0, "acme", "a", "b")), CLOSE_FIGHT);
	now_ms += 1;
	assert_int_equal(try_join(end_of(0, "acme", "a", "b")), CLOSE_NONE);
}

static void takeovers_far_apart_are_no_fight(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENDS; i++) {
		join(i, "acme", "a", "b");
		now_ms += FIGHT_WINDOW_MS / FIGHT_TAKEOVERS + 1;
	}
}

static void a_fight_is_known_to_the_peers(void **state)
{
	struct end *b = join(ENDS - 1, "acme", "b", "a");

	(void)state;
	fight();
	assert_int_equal(b->last_state, PEER_GONE);
}

/* Nothing is left of ids that came, were taken over and went. */
static void fights_of_the_past_are_forgotten(void **state)
{
	char id[16];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(id, sizeof id, "id-%u", i);
		join(0, "acme", id, "b");
		leave(join(1, "acme", id, "b"));
		now_ms += 1000;
	}
	assert_true(router_n_places(router) <= FIGHT_WINDOW_MS / 1000 + 2);
	now_ms += FIGHT_WINDOW_MS;
	leave(join(0, "acme", "last", "b"));
	assert_int_equal(router_n_places(router), 0);
}

/* ---- accounts ---- */

/* The receiver's account: 250 KB at once, then 1 kB/s. */
static struct account *slow_account(void)
{
	const struct account_terms t = { .relay = true, .rate = 1000 };
	struct account *a = account_new("slow", 1, 1, &t, &(struct account_usage){ 0 });

	assert_non_null(a);
	return a;
}

static unsigned send_many(struct end *from, struct end *to, unsigned n)
{
	unsigned before = to->n_packets;

	for (unsigned i = 0; i < n; i++) {
		struct pkt *p = pkt_new(1000);
		assert_non_null(p);
		p->dst = to->member.who->key;
		router_route(router, &from->member, p, now_ms);
	}
	return to->n_packets - before;
}

static void a_receiver_over_its_rate_gets_nothing_and_its_sender_is_told(void **state)
{
	struct end *a = join(0, "acme", "a", "slow/b"), *b = end_of(1, "slow", "b", "acme/a");
	uint64_t before = metric_drop_sum(DROP_OVER_LIMIT);

	(void)state;
	b->member.who->payer = slow_account();
	assert_int_equal(try_join(b), CLOSE_NONE);
	assert_int_equal(send_many(a, b, 1000), ACCOUNT_BURST_MIN / 1000);
	assert_int_equal(metric_drop_sum(DROP_OVER_LIMIT) - before,
	                 1000 - ACCOUNT_BURST_MIN / 1000);
	assert_int_equal(a->last_state, PEER_OVER_LIMIT);
	assert_int_equal(a->n_told, 3); /* absent, up, over limit: not with every packet */
	now_ms += 3000;
	assert_int_equal(send_many(a, b, 2), 2);
	assert_int_equal(a->last_state, PEER_UP);
}

static void a_receiver_without_volume_gets_nothing(void **state)
{
	struct account_terms t = { .relay = true, .volume = 1000 };
	struct end *a = join(0, "acme", "a", "spent/b"), *b = end_of(1, "spent", "b", "acme/a");

	(void)state;
	b->member.who->payer = account_new("spent", 1, 1, &t, &(struct account_usage){ 0 });
	assert_non_null(b->member.who->payer);
	assert_int_equal(try_join(b), CLOSE_NONE);
	account_count_received(b->member.who->payer, 0, 1000);
	assert_int_equal(send_many(a, b, 1), 0);
	assert_int_equal(a->last_state, PEER_OVER_LIMIT);
}

/* Its session has asked the bucket for both before. */
static void who_sends_to_its_own_account_is_not_charged_again(void **state)
{
	struct end *a = end_of(0, "slow", "a", "b"), *b = end_of(1, "slow", "b", "a");

	(void)state;
	a->member.who->payer = slow_account();
	b->member.who->payer = account_ref(a->member.who->payer);
	assert_int_equal(try_join(a), CLOSE_NONE);
	assert_int_equal(try_join(b), CLOSE_NONE);
	assert_true(router_pays_both(router, &a->member, &b->member.who->key));
	assert_false(router_pays_both(router, &a->member, &a->member.who->key));
	assert_int_equal(send_many(a, b, 1000), 1000);
}

static void an_end_that_is_there_would_be_replaced(void **state)
{
	struct end *a = join(0, "acme", "a", "b"), *again = end_of(1, "acme", "a", "b");

	(void)state;
	assert_ptr_equal(router_holder(router, &again->member), a->member.who);
	leave(a);
	assert_null(router_holder(router, &again->member));
}

/* ---- at random, against two lines of a model ---- */

static void pick_peers(unsigned *seed, unsigned own, char *out)
{
	out[0] = 0;
	for (unsigned i = 0; i < 12; i++) { /* each of three accounts, four ids */
		char word[16];
		snprintf(word, sizeof word, "%c/%c ", 'x' + (int)(i / 4), 'a' + (int)(i % 4));
		if (i != own && rand_r(seed) % 3 == 0)
			strcat(out, word);
	}
	if (!out[0])
		strcpy(out, own ? "x/a" : "x/b");
}

static bool declares(const struct end *e, const struct end *other)
{
	return presence_declares(e->member.who, &other->member.who->key);
}

static void nothing_ever_arrives_where_it_was_not_declared_on_both_sides(void **state)
{
	unsigned seed = 11, delivered = 0;

	(void)state;
	for (unsigned step = 0; step < 200000; step++) {
		unsigned i = (unsigned)rand_r(&seed) % 12;
		struct end *e = &ends[i], *to = &ends[(unsigned)rand_r(&seed) % 12];
		char id[2] = { (char)('a' + i % 4), 0 }, account[2] = { (char)('x' + i / 4), 0 },
		     peers[100];
		now_ms += (uint64_t)rand_r(&seed) % 100;
		if (!e->member.joined) {
			pick_peers(&seed, i, peers);
			e = end_of(i, account, id, peers);
			try_join(e);
		} else if (rand_r(&seed) % 20 == 0) {
			leave(e);
		} else if (to->member.who) {
			unsigned before = to->n_packets;
			send_to(e, &to->member.who->key, 1);
			bool expected = to->member.joined && declares(e, to) && declares(to, e);
			assert_int_equal(to->n_packets - before, expected);
			if (expected)
				assert_true(key_eq(&to->last_src, &e->member.who->key));
			delivered += expected;
		}
	}
	assert_true(delivered > 1000); /* the model says yes often enough to mean something */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_packet_passes_where_both_declare_each_other),
		TEST(the_source_is_stamped_whatever_the_sender_wrote),
		TEST(one_sided_declaration_delivers_nothing_and_says_why),
		TEST(a_packet_to_whom_nobody_declared_is_dropped),
		TEST(an_absent_peer_costs_the_packet_and_is_told_at_a_bounded_rate),
		TEST(an_end_that_only_sends_gets_nothing),
		TEST(both_learn_that_the_other_is_up_without_a_packet),
		TEST(a_peer_that_leaves_is_gone_and_may_come_back),
		TEST(leaving_twice_is_harmless),
		TEST(traffic_starts_once_it_becomes_mutual),
		TEST(across_accounts_nobody_learns_who_is_there),
		TEST(accounts_that_declare_each_other_exchange_packets),
		TEST(the_same_id_in_two_accounts_is_two_ends),
		TEST(the_same_instance_takes_over_without_a_word_to_its_peers),
		TEST(another_instance_wins_and_the_older_is_told),
		TEST(instances_that_fight_both_leave_and_rest),
		TEST(takeovers_far_apart_are_no_fight),
		TEST(a_fight_is_known_to_the_peers),
		TEST(fights_of_the_past_are_forgotten),
		TEST(a_receiver_over_its_rate_gets_nothing_and_its_sender_is_told),
		TEST(a_receiver_without_volume_gets_nothing),
		TEST(who_sends_to_its_own_account_is_not_charged_again),
		TEST(an_end_that_is_there_would_be_replaced),
		TEST(nothing_ever_arrives_where_it_was_not_declared_on_both_sides),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
