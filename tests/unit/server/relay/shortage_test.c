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
	assert_int_equal(sessions_lowest_rank(&sessions), 1);
	assert_int_equal(sessions_shed(&sessions, 1, 2), 2);
	assert_gone(1 << 2 | 1 << 3);
	assert_int_equal(lanes[3].why, CLOSE_SHED);
	assert_int_equal(close_verdict(CLOSE_SHED), VERDICT_RETRY);
	assert_non_null(strstr(lanes[3].text, "later"));
	assert_true(lanes[3].link.drained); /* or its connection would stay for minutes */
	assert_int_equal(sessions_shed(&sessions, 1, 2), 1);
	assert_gone(1 << 0 | 1 << 2 | 1 << 3);
	assert_int_equal(sessions_lowest_rank(&sessions), 4);
	assert_int_equal(sessions_shed(&sessions, 1, 2), 0);
	assert_int_equal(sessions_shed(&sessions, 4, 1), 1);
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
	assert_int_equal(sessions_lowest_rank(&sessions), 4);
}

static void ends_of_both_kinds_go_in_order_and_relays_of_the_mesh_stay(void **state)
{
	static const char *const any = "any";
	struct native_policy_conf conf = { .allow = &any, .n_allow = 1 };
	struct native_policy *policy = native_policy_new(&conf);

	(void)state;
	assert_non_null(policy);
	assert_int_equal(sessions_lowest_rank(&sessions), RANK_NONE);
	sessions_take_policy(&sessions, policy);
	enter_native(0, NATIVE_MESH);
	assert_int_equal(sessions_lowest_rank(&sessions), RANK_NONE);
	enter_native(1, 0);
	sessions_take_payer(&sessions, account_ref(low));
	assert_int_equal(sessions_lowest_rank(&sessions), 0); /* nobody counts for it */
	enter_native(2, 0);
	enter(3, low, "a", "x/y");
	enter_native(4, 0);
	enter(5, low, "b", "x/y");
	assert_int_equal(sessions_shed(&sessions, 1, 1), 1);
	assert_gone(1 << 5);
	assert_int_equal(sessions_shed(&sessions, 1, 2), 2);
	assert_gone(1 << 5 | 1 << 4 | 1 << 3);
	assert_int_equal(sessions_shed(&sessions, 1, 9), 1);
	assert_gone(1 << 5 | 1 << 4 | 1 << 3 | 1 << 2);
	assert_int_equal(sessions_shed(&sessions, 0, 9), 1);
	assert_int_equal(sessions_lowest_rank(&sessions), RANK_NONE);
	sessions_end_all(&sessions, CLOSE_DRAINING);
	native_policy_unref(policy);
}

static void the_lowest_is_that_of_all_workers(void **state)
{
	struct shortage s;

	(void)state;
	shortage_init(&s);
	assert_false(shortage_turns_away(&s));
	assert_int_equal(shortage_lowest(&s, 3), RANK_NONE);
	atomic_store(&s.lowest[2], 5);
	atomic_store(&s.lowest[1], 7);
	assert_int_equal(shortage_lowest(&s, 3), 5);
	assert_int_equal(shortage_lowest(&s, 2), 7);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_newest_of_the_lowest_tier_go_first_and_with_words),
		TEST(a_tier_that_changes_counts_from_then_on),
		TEST(ends_of_both_kinds_go_in_order_and_relays_of_the_mesh_stay),
		TEST(the_lowest_is_that_of_all_workers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
