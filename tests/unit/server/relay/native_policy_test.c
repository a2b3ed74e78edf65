/* What the operator lets native DERP ends do. */
#include "tests/unit/said.h"

#include "server/relay/native_policy.h"

#define A "nodekey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765"
#define B "nodekey:675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f"
#define C "nodekey:358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"

static struct key key_of(const char *word)
{
	struct key k;

	assert_int_equal(key_of_peer(STR(""), str_of(word), &k), 0);
	return k;
}

static struct native_policy *policy(const char *const *allow, size_t n_allow,
                                    const char *const *peering, size_t n_peering)
{
	struct native_policy *p = native_policy_new(
	                &(struct native_policy_conf){ .allow = allow,
	                                              .n_allow = n_allow,
	                                              .peering = peering,
	                                              .n_peering = n_peering });

	assert_non_null(p);
	return p;
}

static bool admits(const struct native_policy *p, const char *word)
{
	struct key k = key_of(word);

	return native_policy_admits(p, &k);
}

static bool may_pair(const struct native_policy *p, const char *a, const char *b)
{
	struct key ka = key_of(a), kb = key_of(b);
	bool may = native_policy_may_pair(p, &ka, &kb);

	assert_int_equal(may, native_policy_may_pair(p, &kb, &ka));
	return may;
}

static void nobody_is_admitted_unless_it_is_said(void **state)
{
	const char *none[] = { "none" };
	struct native_policy *p = policy(NULL, 0, NULL, 0);

	(void)state;
	assert_false(admits(p, A));
	assert_string_equal(p->account, "derp");
	assert_true(may_pair(p, A, B));
	native_policy_unref(p);
	p = policy(none, 1, NULL, 0);
	assert_int_equal(p->allow, NATIVE_ALLOW_NONE);
	assert_false(admits(p, A));
	native_policy_unref(p);
}

static void any_admits_all_and_a_list_those_in_it(void **state)
{
	const char *any[] = { "any" }, *list[] = { B, A, A };
	struct native_policy *p = policy(any, 1, NULL, 0);

	(void)state;
	assert_true(admits(p, A) && admits(p, C));
	native_policy_unref(p);
	p = policy(list, 3, NULL, 0);
	assert_true(admits(p, A) && admits(p, B));
	assert_false(admits(p, C));
	native_policy_unref(p);
}

/* It is asked elsewhere, and until it has answered nobody enters. */
static void a_URL_admits_nobody_by_itself(void **state)
{
	const char *any[] = { "any" };
	struct native_policy *p = native_policy_new(
	                &(struct native_policy_conf){ .allow = any,
	                                              .n_allow = 1,
	                                              .verify_url = "http://127.0.0.1:1/",
	                                              .account = "acme" });

	(void)state;
	assert_non_null(p);
	assert_int_equal(p->allow, NATIVE_ALLOW_URL);
	assert_string_equal(p->verify_url, "http://127.0.0.1:1/");
	assert_string_equal(p->account, "acme");
	assert_false(admits(p, A));
	native_policy_unref(p);
}

static void peering_is_open_closed_or_among_those_of_a_list(void **state)
{
	const char *open[] = { "open" }, *closed[] = { "closed" }, *list[] = { A, B };
	struct native_policy *p = policy(NULL, 0, open, 1);

	(void)state;
	assert_true(may_pair(p, A, B));
	native_policy_unref(p);
	p = policy(NULL, 0, closed, 1);
	assert_false(may_pair(p, A, B));
	assert_true(may_pair(p, A, A)); /* several connections of one end */
	native_policy_unref(p);
	p = policy(NULL, 0, list, 2);
	assert_true(may_pair(p, A, B));
	assert_false(may_pair(p, A, C) || may_pair(p, C, C));
	native_policy_unref(p);
}

static void words_that_mean_nothing_are_refused(void **state)
{
	static const char *const bad[] = { "",
		                           "all",
		                           "Any",
		                           "NONE",
		                           "nodekey:",
		                           "nodekey:00",
		                           "nodekey:50D20B455ECF12BC453F83C2CFDB2A24925D06CF2598DC"
		                           "AA54E91AF82CE9F765",
		                           A "0",
		                           "home-wg" };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_non_null(native_allow_check(bad[i]));
		assert_non_null(native_peering_check(bad[i]));
	}
	assert_null(native_allow_check("any"));
	assert_null(native_allow_check("none"));
	assert_null(native_allow_check(A));
	assert_null(native_peering_check("open"));
	assert_null(native_peering_check("closed"));
	assert_null(native_peering_check(B));
	assert_non_null(native_allow_check("open"));
	assert_non_null(native_peering_check("any"));
}

static void it_lives_as_long_as_somebody_needs_it(void **state)
{
	const char *list[] = { A };
	struct native_policy *p = policy(list, 1, list, 1);

	(void)state;
	assert_ptr_equal(native_policy_ref(p), p);
	native_policy_unref(p);
	assert_true(admits(p, A));
	native_policy_unref(p);
	native_policy_unref(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_admitted_unless_it_is_said),
		cmocka_unit_test(any_admits_all_and_a_list_those_in_it),
		cmocka_unit_test(a_URL_admits_nobody_by_itself),
		cmocka_unit_test(peering_is_open_closed_or_among_those_of_a_list),
		cmocka_unit_test(words_that_mean_nothing_are_refused),
		cmocka_unit_test(it_lives_as_long_as_somebody_needs_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
