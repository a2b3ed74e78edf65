/*
 * A loop that runs until something is so, with a generous limit. One test
 * program includes this once.
 */
#ifndef TUNN_UNIT_UNTIL_H
#define TUNN_UNIT_UNTIL_H

#include "tests/unit/said.h"

#include "common/net/loop.h"

#ifndef UNTIL_LIMIT_MS
#define UNTIL_LIMIT_MS 20000
#endif

static struct loop *loop; /* between loop_set_up() and loop_tear_down() */
static struct timer *until_look, *until_limit;
static bool (*until_is)(void);
static bool until_late;

static inline void until_on_look(void *arg)
{
	(void)arg;
	if (until_is())
		loop_stop(loop, 0);
	else
		timer_set(until_look, 1);
}

static inline void until_on_limit(void *arg)
{
	(void)arg;
	until_late = true;
	loop_stop(loop, 0);
}

static inline void loop_set_up(void)
{
	loop = loop_new();
	assert_non_null(loop);
	until_look = timer_new(loop, until_on_look, NULL);
	until_limit = timer_new(loop, until_on_limit, NULL);
	assert_true(until_look && until_limit);
	until_late = false;
}

static inline void loop_tear_down(void)
{
	timer_free(until_look);
	timer_free(until_limit);
	loop_free(loop);
}

static inline void until(bool (*is)(void))
{
	until_is = is;
	timer_set(until_limit, UNTIL_LIMIT_MS);
	timer_set(until_look, 0);
	loop_run(loop);
	timer_clear(until_limit);
	timer_clear(until_look);
	assert_false(until_late);
}

#endif
