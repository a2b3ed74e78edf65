/*
 * A server that is killed at any moment, between any two steps: what it had counted until its
 * last tick is there, and nothing twice.
 */
#include "tests/unit/server/accounts/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { ROUNDS = 50, ROWS = 3, MONTHS = 2 };

static const uint32_t months[MONTHS] = { NOVEMBER, DECEMBER };

/* ---- killed at random ---- */

/* Shared with the children: of each account and month, since the parent looked last. */
static struct shared {
	_Atomic uint64_t begun[ROWS][MONTHS]; /* no more than this; set before it is counted */
	_Atomic uint64_t safe[ROWS][MONTHS];  /* no less: a tick has ended since */
	_Atomic unsigned ticks;
} * shared;

static struct child {
	struct account *a[ROWS];
	uint64_t counted[ROWS][MONTHS];
	unsigned month; /* of the clock */
} child;

static unsigned below(unsigned n) { return crypto_random_below(n); }

static void child_tick(void)
{
	usage_ticks(1);
	for (unsigned row = 0; row < ROWS; row++)
		for (unsigned m = 0; m < MONTHS; m++)
			shared->safe[row][m] = child.counted[row][m];
	shared->ticks++;
}

static void child_count(unsigned row)
{
	if (!child.a[row])
		child.a[row] = ledger_get(usage_ledger, row + 1, "acme");
	if (!child.a[row])
		_exit(2);
	for (unsigned n = below(20); n > 0; n--) {
		unsigned bytes = below(65508);
		shared->begun[row][child.month] += bytes;
		account_count_sent(child.a[row], below(WORKERS), bytes);
		child.counted[row][child.month] += bytes;
	}
	if (below(4) == 0) { /* its last end leaves */
		account_unref(child.a[row]);
		child.a[row] = NULL;
	}
}

/* What was counted before the tick that sees the other month is of the old one. */
static void child_cross_the_edge(void)
{
	child_tick();
	child.month = below(MONTHS);
	usage_wall_ms = NOVEMBER_30 + 1000 * child.month;
	child_tick();
}

static void be_killed(void)
{
	child.month = below(MONTHS);
	memcpy(child.counted, (const void *)shared->safe, sizeof child.counted);
	usage_wall_ms = NOVEMBER_30 + 1000 * child.month;
	usage_file_max = 500; /* so that files change often */
	if (!usage_try_open()) {
		fprintf(stderr, "%s\n", usage_words);
		_exit(1);
	}
	for (;;) {
		child_count(below(ROWS));
		if (below(3) == 0)
			child_tick();
		if (below(100) == 0)
			child_cross_the_edge();
	}
}

static void kill_after(pid_t pid, unsigned ticks, unsigned more_us)
{
	unsigned until = shared->ticks + ticks;
	int status;

	while (shared->ticks < until && waitpid(pid, &status, WNOHANG) == 0)
		usleep(20);
	usleep(more_us);
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) == pid)
		assert_true(WIFSIGNALED(status));
	else
		fail_msg("a server ended by itself");
}

/* At least what was safe, at most what was counted; from here on it is known. */
static void look(unsigned round)
{
	usage_open();
	for (unsigned row = 0; row < ROWS; row++)
		for (unsigned m = 0; m < MONTHS; m++) {
			uint64_t sum = usage_of(row + 1, months[m]).sent;
			if (sum < shared->safe[row][m] || sum > shared->begun[row][m])
				fail_msg("round %u, account %u, month %u: %llu, not %llu to %llu",
				         round, row + 1, m, (unsigned long long)sum,
				         (unsigned long long)shared->safe[row][m],
				         (unsigned long long)shared->begun[row][m]);
			shared->safe[row][m] = shared->begun[row][m] = sum;
		}
	if (below(2))
		usage_ticks(1); /* merges */
	usage_close();
}

static void F24_killed_at_any_moment_it_loses_at_most_a_second(void **state)
{
	(void)state;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	assert_true(shared != MAP_FAILED);
	usage_close();
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			be_killed();
		kill_after(pid, below(40), below(4000));
		if (round % 3) /* else the next one takes over, and may be killed while it does */
			look(round);
	}
	look(ROUNDS);
	assert_true(shared->ticks >= ROUNDS); /* it did something */
	munmap(shared, sizeof *shared);
}

/* ---- killed between two steps ---- */

static bool is_watching, is_refusing;

/* In place of the C library's: the moments between folding, deleting and merging. */
int unlink(const char *path)
{
	bool is_journal = strstr(path, ".journal") != NULL;

	if (is_journal && is_refusing) {
		errno = EPERM;
		return -1;
	}
	if (is_journal && is_watching)
		usage_copy("folded");
	int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
	if (is_journal && is_watching)
		usage_copy("deleted");
	return rc;
}

/* A server that was killed with 9 and 3 counted, some of it in the journal only. */
static void leave_a_journal(void)
{
	struct account *a = usage_get(1);

	usage_count(a, 5, 2);
	usage_ticks(12);
	usage_count(a, 4, 1);
	usage_ticks(1);
	usage_assert(usage_of(1, NOVEMBER), 5, 2);
	usage_copy("killed");
	account_unref(a);
}

static void what_is_there_is_right(const char *name)
{
	for (unsigned i = 0; i < 3; i++) {
		usage_go_to(name);
		usage_assert(usage_of(1, NOVEMBER), 9, 3);
		usage_ticks(2);
		usage_assert(usage_of(1, NOVEMBER), 9, 3);
	}
}

static void between_any_two_steps_nothing_is_counted_twice(void **state)
{
	(void)state;
	leave_a_journal();
	is_watching = true;
	usage_go_to("killed");
	is_watching = false;
	usage_copy("opened");
	usage_ticks(1);
	usage_copy("merged");
	what_is_there_is_right("killed");
	what_is_there_is_right("folded");
	what_is_there_is_right("deleted");
	what_is_there_is_right("opened");
	what_is_there_is_right("merged");
}

static void a_journal_that_cannot_be_deleted_is_not_counted_twice(void **state)
{
	(void)state;
	leave_a_journal();
	is_refusing = true;
	said_begin();
	what_is_there_is_right("killed");
	said_end();
	is_refusing = false;
	assert_said("cannot delete the usage journal");
	what_is_there_is_right("killed");
}

/* The disk reads it at the second attempt. */
static void a_journal_that_is_read_late_counts_for_who_is_there(void **state)
{
	char command[1024];
	struct account_usage u;

	(void)state;
	leave_a_journal();
	snprintf(command, sizeof command,
	         "cd %s/usage && for f in *; do mv $f ../kept && mkdir $f; done",
	         file_path("killed"));
	assert_int_equal(system(command), 0);
	said_begin();
	usage_terms.volume = 20000;
	usage_go_to("killed");
	struct account *a = usage_get(1);
	account_usage(a, &u);
	usage_assert(u, 5, 2);
	usage_count(a, 4, 0);
	usage_ticks(1);
	said_end();
	assert_said("cannot read the usage journal");
	snprintf(command, sizeof command,
	         "cd %s/usage && for f in *; do if rmdir $f 2>/dev/null; then mv ../kept $f; fi; done",
	         usage_dir);
	assert_int_equal(system(command), 0);
	usage_ticks(11);
	account_usage(a, &u);
	usage_assert(u, 13, 3);
	assert_int_equal(account_percent(a), 80);
	usage_assert(usage_of(1, NOVEMBER), 13, 3);
	account_unref(a);
	usage_go_to("killed");
	usage_assert(usage_of(1, NOVEMBER), 13, 3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, usage_fresh, usage_done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(between_any_two_steps_nothing_is_counted_twice),
		T(a_journal_that_cannot_be_deleted_is_not_counted_twice),
		T(a_journal_that_is_read_late_counts_for_who_is_there),
		T(F24_killed_at_any_moment_it_loses_at_most_a_second),
	};

	log_set_level(LOG_WARN);
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
