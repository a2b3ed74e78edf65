#include "tests/nomem/scene.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "tests/nomem/spread.h"

enum { HANG_S = 120, TOLD_MAX = 20 };

static struct shared { /* with the child that plays */
	struct spread spread;
	unsigned long n, asked, n_runs, n_bad;
	bool lasting, done;
} * shared;

/* ---- in the child ---- */

static unsigned long n_now, times_now;
static const char *name_now;

void scene_short_of_memory(void) { inject_arm(n_now, times_now); }

void scene_enough(void)
{
	unsigned long asked = inject_disarm();

	if (n_now == 0)
		shared->asked = asked;
}

bool scene_is_lasting(void) { return times_now > 1; }

bool scene_expect(bool holds, const char *file, int line, const char *what)
{
	if (holds)
		return true;
	shared->n_bad++;
	if (shared->n_bad <= TOLD_MAX)
		printf("BAD: %s, allocation %lu failing%s: %s (%s:%d)\n", name_now, n_now,
		       times_now > 1 ? " and all after it" : "", what, file, line);
	fflush(stdout);
	return false;
}

static long play(const struct scene *s, unsigned long n, bool lasting)
{
	long before = inject_living();

	n_now = n;
	times_now = lasting ? (unsigned long)-1 : 1;
	shared->n = n;
	shared->lasting = lasting;
	alarm(HANG_S);
	s->play(s->arg);
	buf_pool_drain();
	return inject_living() - before;
}

/* What is kept from a first use is no leak; what is left each time is. */
static void play_both_ways(const struct scene *s, unsigned long n)
{
	for (int lasting = 0; lasting < 2; lasting++) {
		shared->n_runs++;
		if (play(s, n, lasting) > 0 && play(s, n, lasting) > 0) {
			long left = play(s, n, lasting);
			if (left > 0)
				scene_expect(false, s->name, (int)left, "blocks are left behind");
		}
	}
}

static void child(const struct scene *s)
{
	const char *at = getenv("NOMEM_AT");
	unsigned long n;

	name_now = s->name;
	play(s, 0, false); /* what is made on first use is made */
	play(s, 0, false);
	if (shared->spread.n == 0)
		shared->spread.n = shared->asked;
	if (at) {
		play_both_ways(s, strtoul(at, NULL, 10));
	} else {
		while ((n = spread_next(&shared->spread)) != 0)
			play_both_ways(s, n);
	}
	shared->done = true;
	fflush(stdout);
	_exit(0);
}

/* ---- in the parent ---- */

/* A child that ended before its time has found something; another goes on behind it. */
static void watch(const struct scene *s)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		child(s);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		abort();
	if (shared->done)
		return;
	shared->n_bad++;
	printf("BAD: %s, allocation %lu failing%s: %s %d\n", s->name, shared->n,
	       shared->lasting ? " and all after it" : "",
	       WIFEXITED(status) ? "exit code" : "signal",
	       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	if (shared->n == 0 || getenv("NOMEM_AT"))
		shared->done = true;
}

int scenes_play(const char *title, const struct scene *scenes, unsigned n_scenes, uint64_t for_ms)
{
	const char *only = getenv("NOMEM_TEST");
	unsigned long n_runs = 0, n_asked = 0, n_bad = 0;

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	              0);
	if (shared == MAP_FAILED)
		return 1;
	for (unsigned i = 0; i < n_scenes; i++) {
		if (only && strcmp(only, scenes[i].name) != 0)
			continue;
		memset(shared, 0, sizeof *shared);
		spread_init(&shared->spread, 0, for_ms);
		while (!shared->done && shared->n_bad < TOLD_MAX)
			watch(&scenes[i]);
		n_runs += shared->n_runs;
		n_asked += shared->asked;
		n_bad += shared->n_bad;
	}
	printf("%s: %lu runs for %lu allocations: %lu bad\n", title, n_runs, n_asked, n_bad);
	return n_bad ? 1 : 0;
}
