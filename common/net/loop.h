/*
 * One thread's event loop (libevent underneath) and the order of its turn:
 *
 *   kernel events -> mail -> timers -> LOOP_PUMP -> LOOP_FLUSH -> LOOP_POST -> LOOP_SWEEP
 *
 * Handlers only mark work; tasks deferred to a phase run once at the end of the
 * turn, in phase order. Memory is freed in LOOP_SWEEP and nowhere else, so that
 * nothing disappears under a handler that is still running. A task deferred
 * from inside a phase to the same or an earlier phase runs in the next turn,
 * which then does not sleep.
 *
 * Everything here belongs to the thread that runs the loop, but loop_new() and
 * set-up before loop_run() may happen in the thread that starts it.
 */
#ifndef TUNN_NET_LOOP_H
#define TUNN_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct watch;
struct timer;

struct loop *loop_new(void);   /* NULL: out of memory or descriptors */
void loop_free(struct loop *); /* sweeps first; NULL allowed */
int loop_run(struct loop *);   /* until loop_stop(); gives its rc */
void loop_stop(struct loop *, int rc);
uint64_t loop_now_ms(const struct loop *); /* read once per turn */

enum { WATCH_READ = 1, WATCH_WRITE = 2 };
/* Level triggered. The descriptor stays the caller's. */
struct watch *watch_new(struct loop *, int fd, void (*cb)(void *arg, unsigned what), void *arg);
int watch_want(struct watch *, unsigned what); /* 0: none */
void watch_free(struct watch *);               /* NULL allowed; allowed from its own callback */

/* By the kernel's coarse clock: one may fire a tick (1 to 10 ms) too early or late. */
struct timer *timer_new(struct loop *, void (*cb)(void *arg), void *arg);
void timer_set(struct timer *, uint64_t delay_ms); /* once; replaces an earlier setting */
void timer_clear(struct timer *);
bool timer_is_set(const struct timer *);
void timer_free(struct timer *); /* NULL allowed; allowed from its own callback */

/* cb runs in the loop, not in signal context. At most one loop per process
 * handles signals. */
int loop_on_signal(struct loop *, int signo, void (*cb)(void *arg, int signo), void *arg);

enum loop_phase { LOOP_PUMP, LOOP_FLUSH, LOOP_POST, LOOP_SWEEP, LOOP_PHASE_N };
struct task { /* embedded by its owner; zero-initialise */
	struct task *next;
	void (*cb)(struct task *);
	bool queued;
};
void loop_defer(struct loop *, enum loop_phase, struct task *); /* no-op when queued */
/* Before the owner of a task that may be queued is freed. */
void loop_undefer(struct loop *, enum loop_phase, struct task *);

const char *loop_library_version(void); /* of libevent */

#endif
