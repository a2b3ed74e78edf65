/* Memory is short: which ends go, and which stay. */
#include "tests/unit/server/relay/fake_links.h"

#include "server/relay/shortage.h"

static struct account *low, *high;

static struct account *account(const char *name, unsigned rank)
{
	static const struct account_usage none;
	const struct account_terms terms = { .relay = true, .rank = rank };
	struct account *a = account_new(name, rank + 1, 1, &terms, &none);

	assert_non_null(a);
	return a;
}

static int set_up(void **state)
{
	int rc = sessions_fresh(state);

	low = account("low", 1);
	high = account("high", 4);
	return rc;
}

static int tear_down(void **state)
{
	int rc = sessions_gone(state);

	account_unref(low);
	account_unref(high);
	return rc;
}

static void enter_native(unsigned i, unsigned char flags)
{
	struct key key = { .b = { (uint8_t)(i + 1) } };
	const struct hello h = { .node_key = &key, .native_flags = flags };

	session_on_hello(&sessions, &lanes[i], &h);
	assert_true(lanes[i].admitted);
}

static unsigned n_open(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LANES; i++)
		n += lanes[i].admitted && !lanes[i].over;
	return n;
}

static atomic_uint lowest;

/* The lowest rank of those that stay. */
static unsigned shed(unsigned rank, unsigned n)
{
	lowest = RANK_UNKNOWN;
	sessions_shed(&sessions, rank, n, &lowest);
	assert_int_equal(lowest, RANK_UNKNOWN);
	pass(0);
	assert_int_not_equal(lowest, RANK_UNKNOWN);
	return lowest;
}

static unsigned lowest_rank(void)
{
	unsigned before = n_open(), rank = shed(0, 0);

	assert_int_equal(n_open(), before);
	return rank;
}

static void assert_gone(unsigned mask)
{
	for (unsigned i = 0; i < LANES; i++)
		assert_int_equal(lanes[i].over, mask >> i & 1);
}

static void the_newest_of_the_lowest_tier_go_first_and_with_words(void **state)
{
	(void)state;
	enter(0, low, "a", "x/y");
	enter(1, high, "b", "x/y");
	enter(2, low, "c", "x/y");
	enter(3, low, "d", "x/y");
	enter(4, high, "e", "x/y");
	assert_int_equal(lowest_rank(), 1);
	assert_int_equal(shed(1, 2), 1);
	assert_gone(1 << 2 | 1 << 3);
	assert_int_equal(lanes[3].why, CLOSE_SHED);
	assert_int_equal(close_verdict(CLOSE_SHED), VERDICT_RETRY);
	assert_non_null(strstr(lanes[3].text, "later"));
	assert_true(lanes[3].link.drained); /* or its connection would stay for minutes */
	assert_int_equal(shed(1, 2), 4);
	assert_gone(1 << 0 | 1 << 2 | 1 << 3);
	assert_int_equal(shed(1, 2), 4);
	assert_gone(1 << 0 | 1 << 2 | 1 << 3);
	assert_int_equal(shed(4, 1), 4);
	assert_gone(1 << 0 | 1 << 2 | 1 << 3 | 1 << 4);
	assert_int_equal(account_n_tunnels(low), 0);
}

static void a_tier_that_changes_counts_from_then_on(void **state)
{
	const struct account_terms better = { .relay = true, .rank = 9 };

	(void)state;
	enter(0, low, "a", "x/y");
	enter(1, high, "b", "x/y");
	account_set_terms(low, &better);
	assert_int_equal(lowest_rank(), 4);
}

static void ends_of_both_kinds_go_in_order_and_relays_of_the_mesh_stay(void **state)
{
	static const char *const any = "any";
	struct native_policy_conf conf = { .allow = &any, .n_allow = 1 };
	struct native_policy *policy = native_policy_new(&conf);

	(void)state;
	assert_non_null(policy);
	assert_int_equal(lowest_rank(), RANK_NONE);
	sessions_take_policy(&sessions, policy);
	enter_native(0, NATIVE_MESH);
	assert_int_equal(lowest_rank(), RANK_NONE);
	enter_native(1, 0);
	sessions_take_payer(&sessions, account_ref(low));
	assert_int_equal(lowest_rank(), 0); /* nobody counts for it */
	enter_native(2, 0);
	enter(3, low, "a", "x/y");
	enter_native(4, 0);
	enter(5, low, "b", "x/y");
	assert_int_equal(shed(1, 1), 0);
	assert_gone(1 << 5);
	assert_int_equal(shed(1, 2), 0);
	assert_gone(1 << 5 | 1 << 4 | 1 << 3);
	assert_int_equal(shed(1, 9), 0);
	assert_gone(1 << 5 | 1 << 4 | 1 << 3 | 1 << 2);
	assert_int_equal(shed(0, 9), RANK_NONE);
	assert_gone(1 << 5 | 1 << 4 | 1 << 3 | 1 << 2 | 1 << 1);
	sessions_end_all(&sessions, CLOSE_DRAINING);
	native_policy_unref(policy);
}

/* ---- many ---- */

enum { MANY = 1000, A_TURN = 100 };

static struct lane crowd[MANY];

static void come(unsigned i, struct account *a)
{
	static const struct key key = { .b = { 1 } };
	struct str peer = STR("x/y");
	char id[16];

	snprintf(id, sizeof id, "m%u", i);
	const struct hello h = { .id = str_of(id), .n_peers = 1, .peers = &peer };
	crowd[i] = (struct lane){ .over = false };
	struct session *s = session_new(&sessions, &crowd[i], &h);
	assert_non_null(s);
	s->member.who->payer = account_ref(a);
	s->member.who->peers[0] = key;
	snprintf(s->member.who->account, sizeof s->member.who->account, "%s", account_name(a));
	key_of_tunnel(str_of(account_name(a)), str_of(id), &s->member.who->key);
	session_join(s);
	assert_true(crowd[i].admitted);
}

static unsigned n_gone(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < MANY; i++)
		n += crowd[i].over;
	return n;
}

static void a_turn_looks_at_some_of_many_and_misses_none(void **state)
{
	unsigned turns = 0;

	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		come(i, i == 3 ? low : high);
	lowest = RANK_UNKNOWN;
	sessions_shed(&sessions, 4, MANY, &lowest);
	for (; lowest == RANK_UNKNOWN; turns++) {
		unsigned before = n_gone();
		assert_true(turns < MANY);
		pass(0);
		assert_true(n_gone() - before <= A_TURN);
		sessions_shed(&sessions, 1, MANY, &lowest); /* the one before is not over */
	}
	assert_true(turns >= MANY / A_TURN);
	assert_int_equal(lowest, 1);
	assert_int_equal(n_gone(), MANY - 1);
	assert_false(crowd[3].over);
}

static void who_goes_by_itself_while_it_looks_is_passed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		come(i, high);
	lowest = RANK_UNKNOWN;
	sessions_shed(&sessions, 1, 0, &lowest);
	pass(0); /* the next would be that: */
	for (unsigned i = MANY - A_TURN; i-- > MANY - 2 * A_TURN;)
		session_on_ended(&sessions, &crowd[i], CLOSE_EOF, "");
	for (unsigned i = 0; i < MANY && lowest == RANK_UNKNOWN; i++)
		pass(0);
	assert_int_equal(lowest, 4);
	sessions_shed(&sessions, 1, 0, &lowest);
	pass(0); /* and the end of sessions is the end of it */
}

/* ---- all workers ---- */

static void the_lowest_is_that_of_all_workers(void **state)
{
	struct shortage s;

	(void)state;
	shortage_init(&s);
	assert_false(shortage_turns_away(&s));
	assert_int_equal(shortage_lowest(&s, 3), RANK_NONE);
	atomic_store(&s.lowest[2], 5);
	atomic_store(&s.lowest[1], 7);
	assert_int_equal(shortage_lowest(&s, 3), RANK_NONE); /* the first has not looked yet */
	atomic_store(&s.lowest[0], RANK_NONE);
	assert_int_equal(shortage_lowest(&s, 3), 5);
	assert_int_equal(shortage_lowest(&s, 2), 7);
}

static void what_was_known_in_another_shortage_is_forgotten(void **state)
{
	struct shortage s;

	(void)state;
	shortage_init(&s);
	shortage_shut(&s, true);
	assert_true(shortage_turns_away(&s));
	atomic_store(&s.lowest[0], 5);
	shortage_shut(&s, true);
	assert_int_equal(shortage_lowest(&s, 1), 5);
	shortage_shut(&s, false);
	assert_false(shortage_turns_away(&s));
	shortage_shut(&s, true);
	assert_int_equal(shortage_lowest(&s, 1), RANK_NONE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_newest_of_the_lowest_tier_go_first_and_with_words),
		TEST(a_tier_that_changes_counts_from_then_on),
		TEST(ends_of_both_kinds_go_in_order_and_relays_of_the_mesh_stay),
		TEST(a_turn_looks_at_some_of_many_and_misses_none),
		TEST(who_goes_by_itself_while_it_looks_is_passed),
		TEST(the_lowest_is_that_of_all_workers),
		TEST(what_was_known_in_another_shortage_is_forgotten),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
