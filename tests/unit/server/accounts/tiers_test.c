#include "tests/unit/said.h"

#include <stddef.h>

#include "common/base/err.h"
#include "server/accounts/tiers.h"

struct target {
	struct tiers_words words;
	const char *state;
};
static const struct opt table[] = {
	TIERS_OPTS(struct target, words, 0),
	{ .kind = OPT_TEXT,
	  .name = "state",
	  .arg = "DIR",
	  .offset = offsetof(struct target, state),
	  .help = "x" },
	{ .kind = OPT_END },
};
static const struct opt_command command = {
	.name = "server", .usage = "", .summary = "test", .opts = table
};

static struct tiers tiers;

/* As `tunn server --config FILE` reads them. */
static int read_file(const char *text)
{
	char config[] = "--config",
	     *argv[] = { (char[]){ "server" }, config, (char *)(uintptr_t)file_with("s.yaml", text),
		         NULL };
	struct target t = { 0 };
	bool help;

	said_begin();
	int rc = opts_read(&command, 3, argv, &t, NULL, &help);
	if (rc == 0)
		rc = tiers_read("server", &t.words, &tiers);
	said_end();
	assert_int_equal(rc, said[0] ? ERR_CONFIG : 0);
	return rc;
}

static void assert_refused(const char *text, const char *words)
{
	assert_int_equal(read_file(text), ERR_CONFIG);
	assert_said(words);
}

static struct account_terms terms_of(const char *tier, const struct account_overrides *own)
{
	struct account_terms t;

	memset(&t, 0x55, sizeof t);
	assert_true(tiers_terms(&tiers, tier, own, &t));
	return t;
}

static void assert_terms(const struct account_terms *t, bool relay, uint32_t tunnels, uint64_t rate,
                         uint32_t burst_ms, uint64_t volume)
{
	assert_int_equal(t->relay, relay);
	assert_false(t->suspended);
	assert_int_equal(t->tunnels, tunnels);
	assert_int_equal(t->rate, rate);
	assert_int_equal(t->burst_ms, burst_ms);
	assert_int_equal(t->volume, volume);
}

static void without_a_table_there_are_free_pro_and_unlimited(void **state)
{
	(void)state;
	assert_int_equal(read_file("state: x\n"), 0);
	struct account_terms t = terms_of("free", NULL);
	assert_terms(&t, false, 3, 25000000, 10000, 1000000000);
	t = terms_of("pro", NULL);
	assert_terms(&t, true, 10, 62500000, 10000, 50000000000);
	t = terms_of("unlimited", NULL);
	assert_terms(&t, true, 0, 0, 0, 0);
	assert_string_equal(tiers.by_default, "unlimited");
	assert_false(tiers.off);
}

static void tiers_of_the_file_replace_the_table(void **state)
{
	(void)state;
	assert_int_equal(read_file("tiers:\n"
	                           "  gold: {relay: yes, tunnels: 100, rate: 2Gbit, burst: 500ms, "
	                           "volume: 3TiB}\n"
	                           "  tin:\n    relay: no\n    tunnels: 1\n    rate: unlimited\n"
	                           "    volume: unlimited\n"
	                           "default-tier: tin\n"),
	                 0);
	struct account_terms t = terms_of("gold", NULL);
	assert_terms(&t, true, 100, 250000000, 500, 3ull << 40);
	assert_int_equal(t.rank, 0); /* its place in the file */
	t = terms_of("tin", NULL);
	assert_terms(&t, false, 1, 0, 0, 0);
	assert_int_equal(t.rank, 1);
	assert_null(tiers_find(&tiers, "pro"));
	assert_string_equal(tiers.by_default, "tin");
	t = terms_of("unlimited", NULL); /* is in every table */
	assert_terms(&t, true, 0, 0, 0, 0);
	assert_int_equal(read_file("tiers: {unlimited: {relay: no, tunnels: 1, rate: unlimited, "
	                           "volume: 1GB}}\n"),
	                 0);
	t = terms_of("unlimited", NULL); /* unless the file says what it is */
	assert_terms(&t, false, 1, 0, 0, 1000000000);
}

#define REST "relay: yes, tunnels: 1, rate: 1Mbit, burst: 1s, volume: 1GB"

static void what_is_wrong_is_told_with_its_place(void **state)
{
	(void)state;
	assert_refused("tiers:\n  pro: {" REST ", spede: 1}\n",
	               "s.yaml:2:77: tiers.pro.spede is no key of a tier: relay, tunnels, rate, burst, "
	               "volume");
	assert_refused("tiers: {pro: {" REST ", rates: 1Mbit}}\n", "did you mean \"rate\"?");
	assert_refused("tiers: {pro: {" REST ", rate: 2Mbit}}\n",
	               "\"tiers.pro.rate\" is there already");
	assert_refused("tiers: {Pro: {" REST "}}\n",
	               "s.yaml:1:22: tiers.Pro.relay is no name of a tier");
	assert_refused("tiers: {pro: yes}\n", "s.yaml:1:14: tiers.pro must be a map");
	assert_refused("tiers: {pro: [a]}\n", "tiers.pro takes one value, not a list");
	assert_refused("tiers: {pro: {relay: [yes]}}\n",
	               "tiers.pro.relay takes one value, not a list");
	assert_refused("tiers: off\n", "s.yaml:1:8: tiers is a map of the config file");
	assert_refused("tiers: {pro: {}}\n", "there is nothing in the map tiers.pro");
	assert_refused("tiers: {pro: {relay: {a: b}}}\n", "deeper than two levels");
	assert_refused("tier: {pro: {" REST "}}\n", "unknown key \"tier.pro.relay\"");
	assert_refused("default-tier: gold\n",
	               "default-tier: there is no tier \"gold\" among free, pro, unlimited");
	assert_refused("default-tier: A\n", "default-tier must be 1 to 63");
	assert_refused("limits: maybe\n", "limits must be on or off");
}

static void C22_nothing_is_unlimited_without_the_word(void **state)
{
	(void)state;
	assert_refused("tiers: {pro: {relay: yes, tunnels: 1, rate: 0, volume: 1GB}}\n",
	               "s.yaml:1:45: tiers.pro.rate must be 1Mbit to");
	assert_refused("tiers: {pro: {relay: yes, tunnels: 1, rate: 0Mbit, volume: 1GB}}\n",
	               "or unlimited, not \"0Mbit\"");
	assert_refused("tiers: {pro: {relay: yes, tunnels: 0, rate: unlimited, volume: 1GB}}\n",
	               "tiers.pro.tunnels must be 1 to 1000000, or unlimited");
	assert_refused("tiers: {pro: {relay: yes, tunnels: 1, rate: unlimited, volume: 0}}\n",
	               "tiers.pro.volume must be 1 to");
	assert_refused("tiers: {pro: {relay: yes, tunnels: 1, volume: 1GB}}\n",
	               "s.yaml:1:22: tiers.pro has no rate: give it, or say unlimited");
	assert_refused("tiers: {pro: {tunnels: 1, rate: unlimited, volume: 1GB}}\n",
	               "tiers.pro has no relay");
}

static void C15_C16_units_are_checked_and_bounded(void **state)
{
	static const char *const bad[] = {
		"volume: 10XB",
		"volume: -1",
		"volume: 1e999",
		"volume: 18446744073709551616",
		"volume: 18446744073709551615kB",
		"volume: 1000001TB",
		"rate: 999kbit",
		"rate: 1001Gbit",
		"rate: 147573952589676413Gbit",
		"rate: 500",
		"rate: 500MB",
		"burst: 5",
		"burst: 5 s",
		"burst: -1s",
		"burst: 1000000h",
		"burst: 99ms",
		"burst: unlimited",
		"tunnels: 1000001",
		"tunnels: -1",
		"tunnels: 0x10",
		"tunnels: default",
		"relay: perhaps",
		"relay: unlimited",
	};
	char text[200], words[64];

	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "tiers:\n  pro:\n    %s\n", bad[i]);
		snprintf(words, sizeof words, "s.yaml:3:%zu: tiers.pro.%.*s must be ",
		         strcspn(bad[i], " ") + 6, (int)strcspn(bad[i], ":"), bad[i]);
		assert_refused(text, words);
	}
}

static void rate_and_burst_go_together(void **state)
{
	(void)state;
	assert_refused("tiers: {a: {relay: yes, tunnels: 1, rate: 1Mbit, volume: 1GB}}\n",
	               "tiers.a has a rate and no burst");
	assert_refused("tiers: {a: {relay: yes, tunnels: 1, rate: unlimited, burst: 1s, volume: "
	               "1GB}}\n",
	               "tiers.a has a burst, which means nothing without a rate");
}

static void too_many_tiers_are_refused(void **state)
{
	char *text = malloc(64 * 128);
	size_t n = 0;

	(void)state;
	assert_non_null(text);
	n += (size_t)sprintf(text, "tiers:\n");
	for (unsigned i = 0; i < 63; i++)
		n += (size_t)sprintf(text + n, "  t%u: {" REST "}\n", i);
	assert_int_equal(read_file(text), 0);
	assert_int_equal(tiers.n, 64);
	sprintf(text + n, "  t63: {" REST "}\n");
	assert_refused(text, "tiers.t63.relay is one tier more than 63");
	free(text);
}

static struct account_overrides own_of(enum term t, const char *value)
{
	struct account_overrides o = { 0 };

	assert_null(terms_read(&o, t, value));
	return o;
}

static void own_limits_win_one_by_one(void **state)
{
	(void)state;
	tiers_builtin(&tiers);
	struct account_overrides own = own_of(TERM_RATE, "1Gbit");
	struct account_terms t = terms_of("pro", &own);
	assert_terms(&t, true, 10, 125000000, 10000, 50000000000);
	assert_null(terms_read(&own, TERM_VOLUME, "unlimited"));
	assert_null(terms_read(&own, TERM_RELAY, "no"));
	t = terms_of("pro", &own);
	assert_terms(&t, false, 10, 125000000, 10000, 0);
	terms_forget(&own, TERM_RELAY);
	terms_forget(&own, TERM_RATE);
	t = terms_of("pro", &own);
	assert_terms(&t, true, 10, 62500000, 10000, 0);
}

static void own_rate_of_a_tier_without_one_has_a_burst(void **state)
{
	(void)state;
	tiers_builtin(&tiers);
	struct account_overrides own = own_of(TERM_RATE, "1Gbit");
	struct account_terms t = terms_of("unlimited", &own);
	assert_terms(&t, true, 0, 125000000, 10000, 0);
	own = own_of(TERM_RATE, "unlimited");
	t = terms_of("pro", &own); /* and without a rate there is none */
	assert_terms(&t, true, 10, 0, 0, 50000000000);
}

static void unknown_tier_has_the_terms_of_the_default_one(void **state)
{
	struct account_terms t;

	(void)state;
	assert_int_equal(read_file("default-tier: free\n"), 0);
	assert_false(tiers_terms(&tiers, "gold", NULL, &t));
	assert_terms(&t, false, 3, 25000000, 10000, 1000000000);
}

static void limits_off_leaves_nobody_limited(void **state)
{
	(void)state;
	assert_int_equal(read_file("limits: off\n"), 0);
	assert_true(tiers.off);
	struct account_overrides own = own_of(TERM_RATE, "1Mbit");
	assert_null(terms_read(&own, TERM_RELAY, "no"));
	struct account_terms t = terms_of("free", &own);
	assert_terms(&t, true, 0, 0, 0, 0);
	assert_int_equal(read_file("limits: on\n"), 0);
	assert_false(tiers.off);
}

static void terms_are_said_as_they_are_read(void **state)
{
	static const char *const said_as[TERM_N] = { "yes", "10", "500Mbit", "10s", "50GB" };
	char text[UNITS_LEN];

	(void)state;
	tiers_builtin(&tiers);
	struct account_terms t = terms_of("pro", NULL);
	for (unsigned i = 0; i < TERM_N; i++) {
		assert_string_equal(terms_text(&t, (enum term)i, text), said_as[i]);
		assert_null(term_check((enum term)i, text));
	}
	t = terms_of("unlimited", NULL);
	assert_string_equal(terms_text(&t, TERM_TUNNELS, text), "unlimited");
	assert_string_equal(terms_text(&t, TERM_RATE, text), "unlimited");
	assert_string_equal(terms_text(&t, TERM_VOLUME, text), "unlimited");
}

static void terms_survive_json(void **state)
{
	struct account_overrides back;

	(void)state;
	tiers_builtin(&tiers);
	for (unsigned i = 0; i < tiers.n; i++) {
		struct account_terms t = tiers.v[i].terms;
		struct json *j = terms_json(&t, NULL);
		assert_non_null(j);
		terms_of_json(j, &back);
		assert_int_equal(back.has, (1u << TERM_N) - 1);
		assert_terms(&back.terms, t.relay, t.tunnels, t.rate, t.burst_ms, t.volume);
		json_free(j);
	}
	struct account_overrides own = own_of(TERM_BURST, "7s");
	struct json *j = terms_json(&own.terms, &own);
	terms_of_json(j, &back);
	assert_int_equal(back.has, 1u << TERM_BURST);
	assert_int_equal(back.terms.burst_ms, 7000);
	json_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_table_there_are_free_pro_and_unlimited),
		cmocka_unit_test(tiers_of_the_file_replace_the_table),
		cmocka_unit_test(what_is_wrong_is_told_with_its_place),
		cmocka_unit_test(C22_nothing_is_unlimited_without_the_word),
		cmocka_unit_test(C15_C16_units_are_checked_and_bounded),
		cmocka_unit_test(rate_and_burst_go_together),
		cmocka_unit_test(too_many_tiers_are_refused),
		cmocka_unit_test(own_limits_win_one_by_one),
		cmocka_unit_test(own_rate_of_a_tier_without_one_has_a_burst),
		cmocka_unit_test(unknown_tier_has_the_terms_of_the_default_one),
		cmocka_unit_test(limits_off_leaves_nobody_limited),
		cmocka_unit_test(terms_are_said_as_they_are_read),
		cmocka_unit_test(terms_survive_json),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	opts_release(NULL);
	return failed;
}
