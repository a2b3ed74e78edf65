/*
 * Runs every test of a unit test program again and again, the n-th allocation
 * failing, for every n: each time in a child of its own. A test may pass, and it
 * may fail an assertion, since what it asserts is the life with memory; it may
 * not crash, hang, draw a sanitizer's report or, when it passes, leak.
 *
 * This file takes the place of cmocka's runner in the program it is linked into.
 * NOMEM_MS: how long a test may be run again (then n are left out, all over its
 * length); 0: until every n was. NOMEM_TEST, NOMEM_AT: only this test, this n.
 */
#include "common/base/buf.h"
#include "tests/nomem/inject.h"
#include "tests/nomem/spread.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/crypto.h>

enum {
	HANG_S = 120,
	FOR_MS = 200,
};

struct group {
	const char *name;
	CMFixtureFunction set_up, tear_down;
};

static struct shared { /* with the children */
	unsigned long asked, refused;
	long grown;
	bool passed;
} * shared;
static unsigned long n_asked;
static unsigned n_runs, n_passed, n_asserted, n_bad;

/* OpenSSL keeps what it made on first use, and where that fails, parts of it; its
 * own blocks are refused like all, but not counted as living. */
static void *ssl_malloc(size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return inject_disown(malloc(n));
}
static void *ssl_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return p ? realloc(p, n) : inject_disown(malloc(n));
}
static void ssl_free(void *p, const char *file, int line)
{
	(void)file, (void)line;
	inject_own(p);
	free(p);
}

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0"; /* the living blocks are counted instead */
}
const char *__ubsan_default_options(void) { return "print_stacktrace=1"; }

static void play(const struct group *g, const struct CMUnitTest *t, unsigned long n,
                 unsigned long times)
{
	void *group_state = NULL, *state;

	if (g->set_up && g->set_up(&group_state) != 0)
		exit(255);
	state = group_state;
	long before = inject_living();
	inject_arm(n, times);
	int rc = t->setup_func ? t->setup_func(&state) : 0;
	if (rc == 0)
		t->test_func(&state);
	if (rc == 0 && t->teardown_func)
		rc = t->teardown_func(&state);
	shared->asked = inject_disarm();
	shared->refused = inject_failed();
	buf_pool_drain();
	shared->grown = inject_living() - before;
	shared->passed = rc == 0;
	if (g->tear_down)
		g->tear_down(&group_state);
	exit(rc == 0 ? 0 : 255);
}

/* The wait status. What it printed is in `said`. */
static int in_child(const struct group *g, const struct CMUnitTest *t, unsigned long n,
                    unsigned long times, FILE *said)
{
	int status;

	memset(shared, 0, sizeof *shared);
	rewind(said);
	if (ftruncate(fileno(said), 0) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		dup2(fileno(said), STDOUT_FILENO);
		dup2(fileno(said), STDERR_FILENO);
		alarm(HANG_S);
		play(g, t, n, times);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		abort();
	return status;
}

static void show(FILE *said)
{
	char line[512];

	rewind(said);
	while (fgets(line, sizeof line, said))
		printf("    %s", line);
}

static void look(const struct group *g, const struct CMUnitTest *t, unsigned long n,
                 unsigned long times, long grows, FILE *said)
{
	int status = in_child(g, t, n, times, said);
	bool ended = WIFEXITED(status);
	bool asserted = ended && WEXITSTATUS(status) == 255;
	bool passed = ended && WEXITSTATUS(status) == 0 && shared->passed;
	bool leaks = passed && shared->grown > grows;

	n_runs++;
	n_passed += passed && !leaks;
	n_asserted += asserted;
	if ((passed && !leaks) || asserted)
		return;
	n_bad++;
	if (leaks)
		printf("LEAK: %s, allocation %lu of its own failing%s: %ld blocks\n", t->name, n,
		       times > 1 ? " and all after it" : "", shared->grown - grows);
	else
		printf("BAD: %s, allocation %lu failing%s: %s %d\n", t->name, n,
		       times > 1 ? " and all after it" : "", ended ? "exit code" : "signal",
		       ended ? WEXITSTATUS(status) : WTERMSIG(status));
	if (!leaks)
		show(said);
	fflush(stdout);
}

static void each(const struct group *g, const struct CMUnitTest *t, FILE *said)
{
	const char *only = getenv("NOMEM_TEST"), *at = getenv("NOMEM_AT");
	struct spread spread;
	unsigned long n;

	if (only && strcmp(only, t->name) != 0)
		return;
	int status = in_child(g, t, 0, 1, said);
	long grows = shared->grown;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 255) /* does not apply here, or fails: */
		return;                                      /* what `make unit` is for */
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		printf("BAD: %s fails with all the memory it wants\n", t->name);
		show(said);
		n_bad++;
		return;
	}
	n_asked += shared->asked;
	for (spread_init(&spread, shared->asked, FOR_MS); (n = spread_next(&spread)) != 0;) {
		if (at && strtoul(at, NULL, 10) != n)
			continue;
		look(g, t, n, 1, grows, said);
		look(g, t, n, (unsigned long)-1, grows, said);
	}
}

int _cmocka_run_group_tests(const char *group_name, const struct CMUnitTest *const tests,
                            const size_t num_tests, CMFixtureFunction group_setup,
                            CMFixtureFunction group_teardown)
{
	struct group g = { group_name, group_setup, group_teardown };
	FILE *said = tmpfile();

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	if (!said || shared == MAP_FAILED ||
	    CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) != 1)
		return 1;
	for (size_t i = 0; i < num_tests; i++)
		each(&g, &tests[i], said);
	fclose(said);
	printf("%s: %u runs for %lu allocations: %u passed, %u asserted, %u bad\n", g.name, n_runs,
	       n_asked, n_passed, n_asserted, n_bad);
	return n_bad ? 1 : 0;
}
