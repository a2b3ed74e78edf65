/* Sessions and their accounts: who enters, what is held for the rate, what ends them. */
#include "tests/unit/server/relay/fake_links.h"

enum { RATE = 1000000, LEN = 1000 }; /* a datagram a millisecond */

static const struct account_usage none;
static const struct account_terms unlimited = { .relay = true };
static const struct account_terms slow = { .relay = true, .rate = RATE, .burst_ms = 1 };

static struct account *account(const char *name, const struct account_terms *t)
{
	struct account *a = account_new(name, 1, 2, t, &none);

	assert_non_null(a);
	return a;
}

/* Its burst is used up. */
static struct account *spent(const char *name, struct account_terms t)
{
	struct account *a = account(name, &t);

	while (account_take(a, LEN, fake_ms) == 0)
		;
	return a;
}

static void what_comes_too_fast_is_held_and_goes_in_order_of_the_rate(void **state)
{
	struct account *a = spent("slow", slow), *b = account("fast", &unlimited);
	struct lane *from = enter(0, a, "a", "fast/b"), *to = enter(1, b, "b", "slow/a");
	struct account_usage u;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		say(from, LEN);
	assert_int_equal(to->n_got, 0);
	assert_true(from->rest_ms > 0 && from->bytes_per_s == RATE);
	pass(50);
	assert_in_range(to->n_got, 49, 51);
	account_usage(a, &u);
	assert_int_equal(u.sent, to->n_got * LEN);
	account_usage(b, &u);
	assert_int_equal(u.received, to->n_got * LEN);
	pass(60);
	assert_int_equal(to->n_got, 100);
	account_unref(a);
	account_unref(b);
}

/* Others of the account that only sit there have no part in it. */
static void those_that_wait_are_read_at_their_share_of_the_rate(void **state)
{
	struct account *a = spent("slow", slow), *b = account("fast", &unlimited);
	struct lane *from[2] = { enter(0, a, "a", "fast/x"), enter(1, a, "b", "fast/y") };

	(void)state;
	enter(2, b, "x", "slow/a");
	enter(3, b, "y", "slow/b");
	enter(4, a, "c", "fast/z");
	say(from[0], LEN);
	assert_int_equal(from[0]->bytes_per_s, RATE);
	say(from[1], LEN);
	assert_int_equal(from[1]->bytes_per_s, RATE / 2);
	for (unsigned ms = 0; ms < 1200; ms += 5) {
		for (unsigned i = 0; i < 2; i++)
			for (unsigned n = 0; n < 5; n++)
				say(from[i], LEN);
		pass(5);
	}
	assert_int_equal(from[0]->bytes_per_s, RATE / 2);
	session_on_ended(&sessions, from[1], CLOSE_EOF, "");
	from[1]->over = true;
	assert_int_equal(account_share(a), RATE);
	for (unsigned i = 0; i < 10; i++) /* what is held goes, and a second passes */
		pass(200);
	say(from[0], LEN);
	assert_true(from[0]->bytes_per_s == UINT64_MAX); /* it did not wait for long */
	account_unref(a);
	account_unref(b);
}

/* The heartbeat of an end comes behind all of it. */
static void more_than_the_rate_is_for_is_not_waited_for(void **state)
{
	struct account *a = spent("slow", slow), *b = account("fast", &unlimited);
	struct lane *from = enter(0, a, "a", "fast/b"), *to = enter(1, b, "b", "slow/a");

	(void)state;
	from->unread = 3 * RATE + 1;
	for (unsigned i = 0; i < 100; i++)
		say(from, LEN);
	from->unread = 0;
	pass(200);
	assert_int_equal(to->n_got, 1); /* whatever it is, one may wait */
	for (unsigned i = 0; i < 400; i++)
		say(from, LEN);
	pass(500);
	assert_int_equal(to->n_got, 401);
	account_unref(a);
	account_unref(b);
}

static void held_datagrams_do_not_pass_the_volume(void **state)
{
	struct account_terms t = slow;
	t.volume = 10 * LEN;
	struct account *a = spent("slow", t), *b = account("fast", &unlimited);
	struct lane *from = enter(0, a, "a", "fast/b"), *to = enter(1, b, "b", "slow/a");

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		say(from, LEN);
	pass(200);
	assert_int_equal(to->n_got, 10);
	assert_true(from->over);
	assert_int_equal(from->why, CLOSE_QUOTA);
	assert_int_equal(from->percent, 100);
	account_unref(a);
	account_unref(b);
}

static void tunnels_of_an_account_wait_equally(void **state)
{
	struct account *a = spent("slow", slow), *b = account("fast", &unlimited);
	struct lane *from[3], *to[3];
	static const char *const ids[] = { "a", "b", "c" }, *const theirs[] = { "x", "y", "z" };
	char peer[3][16], back[3][16];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		snprintf(peer[i], sizeof peer[i], "fast/%s", theirs[i]);
		snprintf(back[i], sizeof back[i], "slow/%s", ids[i]);
		from[i] = enter(2 * i, a, ids[i], peer[i]);
		to[i] = enter(2 * i + 1, b, theirs[i], back[i]);
	}
	for (unsigned ms = 0; ms < 600; ms += 5) { /* each alone has more than the rate */
		for (unsigned i = 0; i < 3; i++)
			for (unsigned n = 0; n < 10; n++)
				say(from[i], LEN);
		pass(5);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(to[i]->n_got, 150, 250);
	account_unref(a);
	account_unref(b);
}

/* As a link that finds, while it sends, that one of its streams is over. */
static struct lane *ends_with_it;

static void end_another(struct lane *la)
{
	struct lane *other = ends_with_it;

	(void)la;
	ends_with_it = NULL;
	if (!other)
		return;
	other->over = true;
	session_on_ended(&sessions, other, CLOSE_CANCELLED, "");
}

static void an_end_may_go_while_what_was_held_is_let_out(void **state)
{
	(void)state;
	for (unsigned victim = 0; victim < 3; victim++) {
		struct account *a = spent("slow", slow);
		struct lane *v[3] = { enter(0, a, "a", "c"), enter(1, a, "b", "c"),
			              enter(2, a, "c", "a") };
		for (unsigned i = 0; i < 3; i++)
			for (unsigned n = 0; n < 10; n++)
				say(v[i], LEN);
		v[0]->on_got = v[2]->on_got = end_another;
		ends_with_it = v[victim];
		pass(30);
		assert_null(ends_with_it);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(v[i]->over, i == victim);
		sessions_end_all(&sessions, CLOSE_DRAINING);
		memset(lanes, 0, sizeof lanes);
		assert_int_equal(account_n_tunnels(a), 0);
		account_unref(a);
	}
}

/* ---- tunnels at once ---- */

static const struct account_terms two = { .relay = true, .tunnels = 2 };

/* The presence of an end of that account at another worker, which counts it. */
static struct presence *far_end(struct account *a, const char *id)
{
	struct presence *who = presence_new(1);
	bool is_lent;

	assert_non_null(who);
	snprintf(who->account, sizeof who->account, "%s", account_name(a));
	snprintf(who->id, sizeof who->id, "%s", id);
	key_of_tunnel(str_of(who->account), str_of(id), &who->key);
	who->payer = account_ref(a);
	who->worker = 1;
	who->seq = ++seq;
	who->instance[0] = (uint8_t)seq;
	assert_int_equal(presence_enter(who, NULL, &is_lent), CLOSE_NONE);
	assert_int_equal(router_on_join(sessions.router, presence_ref(who), fake_ms), 0);
	return who;
}

static void who_takes_a_key_over_at_another_worker_is_counted_once(void **state)
{
	struct account *a = account("acme", &two);
	struct presence *far = far_end(a, "a");
	struct lane *b = enter(0, a, "b", "a"), *again = enter(1, a, "a", "b"),
	            *c = enter(2, a, "c", "a");

	(void)state;
	assert_true(b->admitted && again->admitted && !c->admitted);
	assert_int_equal(c->why, CLOSE_TUNNELS);
	assert_int_equal(account_n_tunnels(a), 2);
	presence_leave(far); /* it hears of it */
	presence_unref(far);
	assert_int_equal(account_n_tunnels(a), 2);
	account_unref(a);
}

/* The news that it has left is still on its way here. */
static void who_takes_over_from_one_that_has_left_needs_a_slot(void **state)
{
	struct account *a = account("acme", &two);
	struct presence *far = far_end(a, "a");

	(void)state;
	presence_leave(far);
	presence_unref(far);
	struct lane *b = enter(0, a, "b", "c"), *c = enter(1, a, "c", "b"),
	            *again = enter(2, a, "a", "b");
	assert_true(b->admitted && c->admitted && !again->admitted);
	assert_int_equal(again->why, CLOSE_TUNNELS);
	assert_int_equal(account_n_tunnels(a), 2);
	account_unref(a);
}

static void who_takes_over_here_is_counted_once(void **state)
{
	struct account *a = account("acme", &two);
	struct lane *b = enter(0, a, "b", "a"), *first = enter(1, a, "a", "b"),
	            *again = enter(2, a, "a", "b");

	(void)state;
	assert_true(b->admitted && again->admitted);
	assert_int_equal(first->why, CLOSE_SUPERSEDED);
	assert_int_equal(account_n_tunnels(a), 2);
	account_unref(a);
}

/* Both go, whoever's the slot was at the moment. */
static void a_fight_leaves_nobody_counted(void **state)
{
	struct account *a = account("acme", &two);
	unsigned n = 0;

	(void)state;
	while (n < LANES && enter(n, a, "a", "b")->why != CLOSE_FIGHT)
		n++;
	assert_int_equal(lanes[n].why, CLOSE_FIGHT);
	assert_int_equal(account_n_tunnels(a), 0);
	account_unref(a);
}

static void who_is_not_let_in_gives_the_slot_back(void **state)
{
	struct account *a = account("acme", &two);
	struct presence *far = far_end(a, "a"), *who = presence_new(1);
	bool is_lent;

	(void)state;
	assert_non_null(who);
	who->payer = account_ref(a);
	for (unsigned gone = 0; gone < 2; gone++) {
		assert_int_equal(presence_enter(who, far, &is_lent), CLOSE_NONE);
		assert_true(is_lent);
		if (gone)
			presence_leave(far);
		assert_int_equal(account_n_tunnels(a), 1);
		presence_return(who, far);
		assert_int_equal(account_n_tunnels(a), gone ? 0 : 1);
	}
	presence_unref(who);
	presence_unref(far);
	account_unref(a);
}

/* ---- native ends ---- */

static struct lane *enter_native(unsigned i, uint8_t flags)
{
	const struct key key = { { (uint8_t)(i + 1) } };
	const struct hello h = {
		.version = 1, .bidirectional = true, .node_key = &key, .native_flags = flags
	};

	session_on_hello(&sessions, &lanes[i], &h);
	return &lanes[i];
}

/* A reload lets them in at once, and names their account when the database was asked. */
static void native_ends_wait_for_who_pays_but_relays_of_the_mesh_do_not(void **state)
{
	static const char *const any = "any";
	struct native_policy_conf conf = { .allow = &any, .n_allow = 1 };
	struct native_policy *policy = native_policy_new(&conf);
	struct account *a = account("derp", &unlimited);

	(void)state;
	assert_non_null(policy);
	sessions_take_policy(&sessions, policy);
	sessions.auth = (struct auth *)&sessions; /* there are accounts */
	assert_int_equal(enter_native(0, 0)->why, CLOSE_UNAVAILABLE);
	assert_true(enter_native(1, NATIVE_MESH)->admitted);
	sessions_take_payer(&sessions, account_ref(a));
	assert_true(enter_native(2, 0)->admitted);
	assert_true(enter_native(3, NATIVE_MESH)->admitted);
	assert_int_equal(account_n_tunnels(a), 1);
	sessions_end_all(&sessions, CLOSE_DRAINING);
	native_policy_unref(policy);
	account_unref(a);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, sessions_fresh, sessions_gone)
	const struct CMUnitTest tests[] = {
		TEST(what_comes_too_fast_is_held_and_goes_in_order_of_the_rate),
		TEST(those_that_wait_are_read_at_their_share_of_the_rate),
		TEST(more_than_the_rate_is_for_is_not_waited_for),
		TEST(held_datagrams_do_not_pass_the_volume),
		TEST(tunnels_of_an_account_wait_equally),
		TEST(an_end_may_go_while_what_was_held_is_let_out),
		TEST(who_takes_a_key_over_at_another_worker_is_counted_once),
		TEST(who_takes_over_from_one_that_has_left_needs_a_slot),
		TEST(who_takes_over_here_is_counted_once),
		TEST(a_fight_leaves_nobody_counted),
		TEST(who_is_not_let_in_gives_the_slot_back),
		TEST(native_ends_wait_for_who_pays_but_relays_of_the_mesh_do_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
