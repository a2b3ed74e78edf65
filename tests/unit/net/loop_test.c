#include "tests/unit/until.h"

#include <signal.h>
#include <sys/socket.h>

#include "common/base/clock.h"

static char order[32];

static void note(char c)
{
	size_t n = strlen(order);

	assert_true(n + 1 < sizeof order);
	order[n] = c;
	order[n + 1] = 0;
}

static int set_up(void **state)
{
	(void)state;
	order[0] = 0;
	loop_set_up();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	loop_tear_down();
	return 0;
}

static void on_pump(struct task *t) { note('p'), (void)t; }
static void on_flush(struct task *t) { note('f'), (void)t; }
static void on_post(struct task *t) { note('o'), (void)t; }
static void on_sweep(struct task *t) { note('s'), (void)t; }
static void on_timer(void *arg) { note(*(const char *)arg); }

static bool swept(void) { return strchr(order, 's'); }

static void phases_run_in_their_order_after_the_events(void **state)
{
	struct task pump = { .cb = on_pump }, flush = { .cb = on_flush }, post = { .cb = on_post },
	            sweep = { .cb = on_sweep };
	char name = 't';
	struct timer *t = timer_new(loop, on_timer, &name);

	(void)state;
	assert_non_null(t);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	loop_defer(loop, LOOP_POST, &post);
	loop_defer(loop, LOOP_FLUSH, &flush);
	loop_defer(loop, LOOP_PUMP, &pump);
	loop_defer(loop, LOOP_PUMP, &pump); /* again: once */
	timer_set(t, 0);
	until(swept);
	assert_string_equal(order, "tpfos");
	timer_free(t);
}

static struct task again;
static unsigned n_again;

static void defer_again(struct task *t)
{
	if (++n_again < 5)
		loop_defer(loop, LOOP_PUMP, t);
	note('a');
}

static bool five_times(void) { return n_again == 5; }

static void a_task_deferred_from_inside_its_phase_runs_in_the_next_turn(void **state)
{
	struct task sweep = { .cb = on_sweep };

	(void)state;
	n_again = 0;
	again = (struct task){ .cb = defer_again };
	loop_defer(loop, LOOP_PUMP, &again);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(five_times);
	assert_memory_equal(order, "asaaaa",
	                    6); /* the sweep of the first turn came before the second */
}

static void a_task_taken_back_does_not_run(void **state)
{
	struct task a = { .cb = on_pump }, b = { .cb = on_flush }, c = { .cb = on_post },
	            sweep = { .cb = on_sweep };

	(void)state;
	loop_defer(loop, LOOP_PUMP, &a);
	loop_defer(loop, LOOP_PUMP, &b);
	loop_defer(loop, LOOP_PUMP, &c);
	loop_undefer(loop, LOOP_PUMP, &c); /* the last */
	loop_undefer(loop, LOOP_PUMP, &a); /* the first */
	loop_undefer(loop, LOOP_PUMP, &a); /* not queued: nothing */
	loop_defer(loop, LOOP_PUMP, &c);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(swept);
	assert_string_equal(order, "fos");
}

static struct task victim = { .cb = on_flush };

static void take_victim_back(struct task *t)
{
	(void)t;
	loop_undefer(loop, LOOP_PUMP, &victim);
}

static void a_task_may_take_back_the_one_behind_it(void **state)
{
	struct task first = { .cb = take_victim_back }, sweep = { .cb = on_sweep };

	(void)state;
	loop_defer(loop, LOOP_PUMP, &first);
	loop_defer(loop, LOOP_PUMP, &victim);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(swept);
	assert_string_equal(order, "s");
}

/* Else what is deferred meanwhile would run in the same turn, for ever if it defers itself. */
static void a_phase_ends_though_its_last_task_was_taken_back(void **state)
{
	struct task first = { .cb = take_victim_back }, sweep = { .cb = on_sweep };

	(void)state;
	n_again = 0;
	again = (struct task){ .cb = defer_again };
	loop_defer(loop, LOOP_PUMP, &first);
	loop_defer(loop, LOOP_PUMP, &again);
	loop_defer(loop, LOOP_PUMP, &victim);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(five_times);
	assert_string_equal(order, "asaaaa");
}

static void put_victim_behind(struct task *t)
{
	note('p');
	loop_undefer(loop, LOOP_PUMP, &victim);
	loop_defer(loop, LOOP_PUMP, t);
	loop_defer(loop, LOOP_PUMP, &victim);
	t->cb = on_pump;
}

static bool both_again(void) { return strlen(order) == 4; }

static void a_task_taken_back_and_deferred_again_waits_for_the_next_turn(void **state)
{
	struct task first = { .cb = put_victim_behind }, sweep = { .cb = on_sweep };

	(void)state;
	loop_defer(loop, LOOP_PUMP, &first);
	loop_defer(loop, LOOP_PUMP, &victim);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(both_again);
	assert_string_equal(order, "pspf");
}

static void defer_until_five(struct task *t)
{
	if (++n_again < 5)
		loop_defer(loop, LOOP_PUMP, t);
	else
		loop_stop(loop, 0);
}

/* Nothing but the limit would wake it. */
static void a_turn_with_work_left_is_followed_without_sleeping(void **state)
{
	(void)state;
	n_again = 0;
	again = (struct task){ .cb = defer_until_five };
	timer_set(until_limit, UNTIL_LIMIT_MS);
	loop_defer(loop, LOOP_PUMP, &again);
	assert_int_equal(loop_run(loop), 0);
	assert_false(until_late);
	assert_int_equal(n_again, 5);
}

static struct task earlier = { .cb = on_pump }, later = { .cb = on_post };

static void defer_both_ways(struct task *t)
{
	(void)t;
	note('f');
	loop_defer(loop, LOOP_PUMP, &earlier);
	loop_defer(loop, LOOP_POST, &later);
}

static bool pumped(void) { return strchr(order, 'p'); }

static void a_later_phase_is_of_this_turn_and_an_earlier_of_the_next(void **state)
{
	struct task flush = { .cb = defer_both_ways }, sweep = { .cb = on_sweep };

	(void)state;
	loop_defer(loop, LOOP_FLUSH, &flush);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(pumped);
	assert_string_equal(order, "fosp");
}

struct owned {
	struct task sweep;
	unsigned *freed;
};

static void free_owned(struct task *t)
{
	struct owned *o = (struct owned *)(void *)t;

	(*o->freed)++;
	free(o);
}

static void what_waits_for_the_sweep_is_swept_when_the_loop_goes(void **state)
{
	unsigned freed = 0;
	struct loop *short_lived = loop_new();

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct owned *o = calloc(1, sizeof *o);
		assert_true(short_lived && o);
		o->sweep.cb = free_owned;
		o->freed = &freed;
		loop_defer(short_lived, LOOP_SWEEP, &o->sweep);
	}
	loop_free(short_lived);
	assert_int_equal(freed, 3);
	loop_free(NULL);
}

static bool three(void) { return strlen(order) == 3; }

static void timers_fire_once_in_order_of_their_time(void **state)
{
	static char names[] = "abc";
	struct timer *t[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		t[i] = timer_new(loop, on_timer, &names[i]);
		assert_non_null(t[i]);
	}
	timer_set(t[2], 30);
	timer_set(t[1], 20);
	timer_set(t[0], 500);
	timer_set(t[0], 10); /* replaces */
	assert_true(timer_is_set(t[0]));
	until(three);
	assert_string_equal(order, "abc");
	assert_false(timer_is_set(t[0]));
	timer_set(t[0], 0);
	timer_clear(t[0]);
	assert_false(timer_is_set(t[0]));
	for (unsigned i = 0; i < 3; i++)
		timer_free(t[i]);
}

static int fds[2];
static struct watch *watch;

static void free_own_watch(void *arg, unsigned what)
{
	(void)arg;
	assert_int_equal(what, WATCH_READ);
	note('s');
	watch_free(watch);
}

static void a_watch_may_be_freed_from_its_own_callback(void **state)
{
	(void)state;
	assert_int_equal(pipe(fds), 0);
	watch = watch_new(loop, fds[0], free_own_watch, NULL);
	assert_non_null(watch);
	assert_int_equal(watch_want(watch, WATCH_READ), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	until(swept);
	close(fds[0]);
	close(fds[1]);
}

static void free_watch_once(void *arg, unsigned what)
{
	(void)arg, (void)what;
	note('s');
	watch_free(watch);
}

static void a_watch_freed_while_both_ways_are_ready_tells_no_more(void **state)
{
	struct task sweep = { .cb = on_sweep };

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	watch = watch_new(loop, fds[0], free_watch_once, NULL);
	assert_non_null(watch);
	assert_int_equal(watch_want(watch, WATCH_READ | WATCH_WRITE), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	until(swept);
	order[0] = 0;
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(swept);
	assert_string_equal(order, "s"); /* the task's */
	close(fds[0]);
	close(fds[1]);
}

static struct timer *own;

static void free_own_timer(void *arg)
{
	(void)arg;
	note('s');
	timer_free(own);
}

static void a_timer_may_be_freed_from_its_own_callback(void **state)
{
	(void)state;
	own = timer_new(loop, free_own_timer, NULL);
	assert_non_null(own);
	timer_set(own, 0);
	until(swept);
	assert_string_equal(order, "s");
	timer_free(NULL);
}

static void count_readable(void *arg, unsigned what)
{
	(void)arg, (void)what;
	note('r');
	if (strlen(order) == 3)
		watch_want(watch, 0);
}

static void a_watch_tells_until_it_is_not_wanted(void **state)
{
	struct task sweep = { .cb = on_sweep };

	(void)state;
	assert_int_equal(pipe(fds), 0);
	watch = watch_new(loop, fds[0], count_readable, NULL);
	assert_non_null(watch);
	watch_want(watch, WATCH_READ);
	assert_int_equal(write(fds[1], "x", 1), 1);
	until(three);
	loop_defer(loop, LOOP_SWEEP, &sweep);
	until(swept);
	assert_string_equal(order, "rrrs");
	watch_free(watch);
	close(fds[0]);
	close(fds[1]);
}

static int heard;

static void on_signal(void *arg, int signo)
{
	(void)arg;
	heard = signo;
}

static bool heard_one(void) { return heard != 0; }

static void signals_are_told_in_the_loop(void **state)
{
	(void)state;
	heard = 0;
	assert_int_equal(loop_on_signal(loop, SIGUSR2, on_signal, NULL), 0);
	raise(SIGUSR2);
	assert_int_equal(heard, 0); /* not in signal context */
	until(heard_one);
	assert_int_equal(heard, SIGUSR2);
}

static uint64_t told_ms;

static void tell_time(void *arg, int signo)
{
	(void)arg, (void)signo;
	told_ms = loop_now_ms(loop);
	loop_stop(loop, 0);
}

static void tell_time_of_task(struct task *t)
{
	(void)t;
	tell_time(NULL, 0);
}

/* The loop has not run for a while; when it was, by the clock. */
static uint64_t time_passed(void)
{
	uint64_t now_ms = clock_now_ms();

	while (now_ms < loop_now_ms(loop) + 3)
		now_ms = clock_now_ms();
	return now_ms;
}

static void the_time_of_a_signal_is_that_of_its_turn(void **state)
{
	(void)state;
	assert_int_equal(loop_on_signal(loop, SIGUSR1, tell_time, NULL), 0);
	uint64_t raised_ms = time_passed();
	raise(SIGUSR1);
	loop_run(loop);
	assert_true(told_ms >= raised_ms);
}

static void the_time_of_a_task_is_that_of_its_turn(void **state)
{
	struct task t = { .cb = tell_time_of_task };

	(void)state;
	loop_defer(loop, LOOP_PUMP, &t);
	uint64_t deferred_ms = time_passed();
	loop_run(loop);
	assert_true(told_ms >= deferred_ms);
}

static void stop(void *arg)
{
	(void)arg;
	loop_stop(loop, 42);
}

static void run_gives_the_code_of_stop(void **state)
{
	struct timer *t = timer_new(loop, stop, NULL);

	(void)state;
	assert_non_null(t);
	timer_set(t, 0);
	assert_int_equal(loop_run(loop), 42);
	timer_free(t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(phases_run_in_their_order_after_the_events),
		TEST(a_task_deferred_from_inside_its_phase_runs_in_the_next_turn),
		TEST(a_task_taken_back_does_not_run),
		TEST(a_task_may_take_back_the_one_behind_it),
		TEST(a_phase_ends_though_its_last_task_was_taken_back),
		TEST(a_task_taken_back_and_deferred_again_waits_for_the_next_turn),
		TEST(a_turn_with_work_left_is_followed_without_sleeping),
		TEST(a_later_phase_is_of_this_turn_and_an_earlier_of_the_next),
		TEST(what_waits_for_the_sweep_is_swept_when_the_loop_goes),
		TEST(timers_fire_once_in_order_of_their_time),
		TEST(a_watch_may_be_freed_from_its_own_callback),
		TEST(a_watch_freed_while_both_ways_are_ready_tells_no_more),
		TEST(a_timer_may_be_freed_from_its_own_callback),
		TEST(a_watch_tells_until_it_is_not_wanted),
		TEST(signals_are_told_in_the_loop),
		TEST(the_time_of_a_signal_is_that_of_its_turn),
		TEST(the_time_of_a_task_is_that_of_its_turn),
		TEST(run_gives_the_code_of_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
