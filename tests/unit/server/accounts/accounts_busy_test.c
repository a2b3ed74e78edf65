/* Another program, an operator's shell or a backup, has the database open and writes to it. */
#include "tests/unit/server/accounts/usage.h"

#include <sys/wait.h>

#include "common/base/metric.h"
#include "server/accounts/accounts_impl.h"

static unsigned n_sleeps;
static pid_t holder;
static int holder_pipe = -1;

static int counted_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs, (void)us;
	n_sleeps++;
	return us;
}

/* Holds the right to write until let_go(). */
static void hold(void)
{
	char path[512], ready;
	int up[2], down[2];

	snprintf(path, sizeof path, "%s/accounts.db", usage_dir);
	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	holder = fork();
	assert_true(holder >= 0);
	if (holder == 0) {
		sqlite3 *db = NULL;
		close(down[1]);
		bool ok = sqlite3_open(path, &db) == SQLITE_OK &&
		          sqlite3_exec(db, "BEGIN IMMEDIATE; UPDATE account SET created = created",
		                       NULL, NULL, NULL) == SQLITE_OK;
		if (!ok || write(up[1], "x", 1) != 1 || read(down[0], &ready, 1) < 0)
			_exit(1);
		_exit(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK);
	}
	close(up[1]);
	close(down[0]);
	holder_pipe = down[1];
	assert_int_equal(read(up[0], &ready, 1), 1);
	close(up[0]);
}

static void let_go(void)
{
	int status;

	close(holder_pipe);
	assert_int_equal(waitpid(holder, &status, 0), holder);
	assert_int_equal(status, 0);
}

static int set_up(void **state)
{
	int rc = usage_fresh(state);

	n_sleeps = 0;
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	assert_non_null(vfs); /* no memory */
	vfs->xSleep = counted_sleep;
	if (usage_accounts)
		accounts_never_wait(usage_accounts);
	return rc;
}

static void tokens_are_looked_up_while_another_program_writes(void **state)
{
	char token[TOKEN_LEN + 1];
	struct identity who;

	(void)state;
	assert_non_null(usage_accounts);
	assert_int_equal(accounts_token_new(usage_accounts, "acme", NULL, 0, token, usage_words),
	                 0);
	hold();
	accounts_authenticate(usage_accounts, str_of(token), 1, &who);
	assert_int_equal(who.why, CLOSE_NONE);
	assert_string_equal(who.account, "acme");
	struct account *a = usage_get(2); /* with its usage of the month */
	let_go();
	account_unref(a);
	assert_int_equal(n_sleeps, 0);
}

static void usage_waits_in_the_journal_and_nobody_for_it(void **state)
{
	uint64_t failures = metric_sum(METRIC_USAGE_FAILURES);
	struct account *a = usage_get(1);

	(void)state;
	usage_ticks(1);
	hold();
	said_begin();
	for (unsigned i = 0; i < 30; i++) {
		usage_count(a, 1, 2);
		usage_ticks(1);
	}
	said_end();
	usage_assert(usage_of(1, NOVEMBER), 0, 0);
	assert_int_equal(n_sleeps, 0);
	char pid[32];
	snprintf(pid, sizeof pid, "(pid %d), which changes it", (int)holder);
	assert_non_null(strstr(said, pid));
	assert_null(strstr(strstr(said, pid) + 1, pid));            /* once */
	assert_true(metric_sum(METRIC_USAGE_FAILURES) == failures); /* nothing was lost */
	usage_copy("killed");
	said_begin();
	let_go();
	usage_ticks(1); /* not ten seconds later */
	said_end();
	usage_assert(usage_of(1, NOVEMBER), 30, 60);
	assert_non_null(strstr(said, "into the accounts database again"));
	account_unref(a);
	usage_go_to("killed");
	usage_assert(usage_of(1, NOVEMBER), 30, 60);
}

/* The server was killed, and comes again while the operator's shell has a transaction open. */
static void what_an_earlier_start_left_waits_too(void **state)
{
	struct account *a = usage_get(1);

	(void)state;
	usage_ticks(1);
	usage_count(a, 1, 2);
	usage_ticks(1);
	account_unref(a);
	usage_copy("killed_before");
	usage_close();
	snprintf(usage_dir, sizeof usage_dir, "%s", file_path("killed_before"));
	hold();
	uint64_t failures = metric_sum(METRIC_USAGE_FAILURES);
	said_begin();
	usage_open();
	accounts_never_wait(usage_accounts);
	n_sleeps = 0;
	usage_ticks(30);
	said_end();
	assert_int_equal(n_sleeps, 0);
	assert_true(metric_sum(METRIC_USAGE_FAILURES) == failures);
	assert_non_null(strstr(said, "level=warn"));
	assert_null(strstr(said, "level=error"));
	assert_null(strstr(strstr(said, "level=warn") + 1, "level=warn")); /* once */
	let_go();
	said_begin();
	usage_ticks(11);
	said_end();
	assert_non_null(strstr(said, "journals of before are taken over"));
	usage_assert(usage_of(1, NOVEMBER), 1, 2);
}

/* The second look that lets an account go is ten seconds after the first, and no later second of
 * somebody's transaction. */
static void who_comes_again_meanwhile_is_still_known(void **state)
{
	struct account *a = usage_get(1), *b = usage_get(2);

	(void)state;
	usage_ticks(1);
	hold();
	usage_count(a, 1, 2); /* is to be folded */
	account_unref(b);
	usage_ticks(15);
	assert_non_null(ledger_find(usage_ledger, 2));
	let_go();
	account_unref(a);
}

static void a_short_while_is_not_worth_a_word(void **state)
{
	struct account *a = usage_get(1);

	(void)state;
	usage_ticks(11);
	hold();
	said_begin();
	usage_count(a, 1, 0);
	usage_ticks(12);
	let_go();
	usage_ticks(1);
	said_end();
	usage_assert(usage_of(1, NOVEMBER), 1, 0);
	assert_string_equal(said, "");
	account_unref(a);
}

static void a_change_is_refused_at_once_and_says_who_has_it(void **state)
{
	char expected[64];

	(void)state;
	assert_non_null(usage_accounts);
	hold();
	assert_int_equal(accounts_begin(usage_accounts, usage_words), ERR_AGAIN);
	snprintf(expected, sizeof expected, "held by accounts_busy_t (pid %d)", (int)holder);
	assert_non_null(strstr(usage_words, expected));
	assert_int_equal(accounts_add(usage_accounts, "dune", NULL, usage_words), ERR_AGAIN);
	let_go();
	assert_int_equal(n_sleeps, 0);
	assert_int_equal(accounts_add(usage_accounts, "dune", NULL, usage_words), 0);
}

static void who_cannot_be_seen_can_be_found(void **state)
{
	char who[ACCOUNTS_HOLDER_LEN];

	(void)state;
	assert_non_null(usage_accounts);
	accounts_holder(file_path("nothing_there"), who);
	assert_string_equal(who, "another program (sudo lslocks shows it)");
}

static void who_has_not_said_never_waits_first(void **state)
{
	struct accounts *a;

	(void)state;
	assert_int_equal(accounts_open(usage_dir, &a, usage_words), 0);
	hold();
	assert_int_equal(accounts_begin(a, usage_words), ERR_AGAIN);
	let_go();
	assert_true(n_sleeps > 0);
	accounts_close(a);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, usage_done)
	const struct CMUnitTest tests[] = {
		T(tokens_are_looked_up_while_another_program_writes),
		T(usage_waits_in_the_journal_and_nobody_for_it),
		T(what_an_earlier_start_left_waits_too),
		T(who_comes_again_meanwhile_is_still_known),
		T(a_short_while_is_not_worth_a_word),
		T(a_change_is_refused_at_once_and_says_who_has_it),
		T(who_cannot_be_seen_can_be_found),
		T(who_has_not_said_never_waits_first),
	};

	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
