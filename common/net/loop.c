#include "common/net/loop.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include <event2/event.h>

#include "common/base/clock.h"

enum { UNSET_MS = INT32_MAX }; /* a timer that is not set looks up every 24 days */

struct watch {
	struct loop *loop;
	struct event *read, *write;
	void (*cb)(void *arg, unsigned what);
	void *arg;
};

struct timer {
	struct loop *loop;
	struct event *ev; /* always pending, so that setting the timer needs no memory */
	bool set;
	void (*cb)(void *arg);
	void *arg;
};

struct sig {
	struct sig *next;
	struct loop *loop;
	struct event *ev;
	void (*cb)(void *arg, int signo);
	void *arg;
	int signo;
};

struct phase {
	struct task *head, **tail;
	struct task *stop_after; /* the last one of this turn while the phase runs */
};

struct loop {
	struct event_base *base;
	struct sig *sigs;
	struct phase phases[LOOP_PHASE_N];
	uint64_t now_ms;
	bool stopped;
	int rc;
};

struct loop *loop_new(void)
{
	struct event_config *cfg = event_config_new();
	struct loop *l = calloc(1, sizeof *l);

	if (cfg && l) {
		/* One thread per loop; others reach it through a mailbox. */
		event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
		/* Timers are of milliseconds. Precise ones are a timerfd to libevent, set anew
		 * each turn; the environment could ask for it, and the sandbox has none. */
		event_config_set_flag(cfg, EVENT_BASE_FLAG_IGNORE_ENV);
		l->base = event_base_new_with_config(cfg);
	}
	if (cfg)
		event_config_free(cfg);
	if (!l || !l->base) {
		free(l);
		return NULL;
	}
	for (unsigned i = 0; i < LOOP_PHASE_N; i++)
		l->phases[i].tail = &l->phases[i].head;
	l->now_ms = clock_now_ms();
	return l;
}

uint64_t loop_now_ms(const struct loop *l) { return l->now_ms; }

void loop_stop(struct loop *l, int rc)
{
	l->stopped = true;
	l->rc = rc;
	event_base_loopbreak(l->base);
}

/* ---- phases ---- */

void loop_defer(struct loop *l, enum loop_phase phase, struct task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	t->next = NULL;
	*l->phases[phase].tail = t;
	l->phases[phase].tail = &t->next;
}

static struct task *task_of(struct task **next)
{
	static_assert(offsetof(struct task, next) == 0, "the tail points at the last task");
	return (struct task *)(void *)next;
}

void loop_undefer(struct loop *l, enum loop_phase phase, struct task *t)
{
	struct phase *p = &l->phases[phase];

	if (!t->queued)
		return;
	for (struct task **at = &p->head; *at; at = &(*at)->next) {
		if (*at != t)
			continue;
		*at = t->next;
		if (p->tail == &t->next)
			p->tail = at;
		if (p->stop_after == t)
			p->stop_after = at == &p->head ? NULL : task_of(at);
		t->queued = false;
		return;
	}
}

/* Tasks deferred to this phase while it runs wait for the next turn. */
static void run_phase(struct phase *p)
{
	struct task *t;

	p->stop_after = p->head ? task_of(p->tail) : NULL;
	while (p->stop_after) {
		t = p->head;
		if (t == p->stop_after)
			p->stop_after = NULL;
		p->head = t->next;
		if (!p->head)
			p->tail = &p->head;
		t->queued = false;
		t->cb(t);
	}
}

static bool has_tasks(const struct loop *l)
{
	for (unsigned i = 0; i < LOOP_PHASE_N; i++)
		if (l->phases[i].head)
			return true;
	return false;
}

int loop_run(struct loop *l)
{
	l->stopped = false;
	while (!l->stopped) {
		int flags = EVLOOP_ONCE | (has_tasks(l) ? EVLOOP_NONBLOCK : 0);
		if (event_base_loop(l->base, flags) < 0)
			return -1;
		l->now_ms = clock_now_ms(); /* there may have been no handler */
		for (unsigned i = 0; i < LOOP_PHASE_N; i++)
			run_phase(&l->phases[i]);
	}
	return l->rc;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	while (l->phases[LOOP_SWEEP].head) /* closed since the last turn */
		run_phase(&l->phases[LOOP_SWEEP]);
	while (l->sigs) {
		struct sig *s = l->sigs;
		l->sigs = s->next;
		event_free(s->ev);
		free(s);
	}
	event_base_free(l->base);
	free(l);
}

/* ---- descriptors ---- */

/* The first handler of a turn reads the clock; it costs less than asking
 * whether somebody has. */
static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;

	(void)fd;
	w->loop->now_ms = clock_now_ms();
	w->cb(w->arg, what & EV_READ ? WATCH_READ : WATCH_WRITE);
}

struct watch *watch_new(struct loop *l, int fd, void (*cb)(void *arg, unsigned what), void *arg)
{
	struct watch *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	*w = (struct watch){ .loop = l, .cb = cb, .arg = arg };
	w->read = event_new(l->base, fd, EV_READ | EV_PERSIST, on_event, w);
	w->write = event_new(l->base, fd, EV_WRITE | EV_PERSIST, on_event, w);
	if (!w->read || !w->write) {
		watch_free(w);
		return NULL;
	}
	return w;
}

static int want(struct event *ev, bool on)
{
	bool is = event_pending(ev, EV_READ | EV_WRITE, NULL);

	if (on == is)
		return 0;
	return on ? event_add(ev, NULL) : event_del(ev);
}

int watch_want(struct watch *w, unsigned what)
{
	int rc = want(w->read, what & WATCH_READ);
	return want(w->write, what & WATCH_WRITE) < 0 || rc < 0 ? -1 : 0;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	if (w->read)
		event_free(w->read);
	if (w->write)
		event_free(w->write);
	free(w);
}

/* ---- timers ---- */

static int pend(struct timer *t, uint64_t delay_ms)
{
	struct timeval tv = { (time_t)(delay_ms / 1000), (suseconds_t)(delay_ms % 1000) * 1000 };
	return event_add(t->ev, &tv);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct timer *t = arg;
	bool was_set = t->set;

	(void)fd, (void)what;
	t->loop->now_ms = clock_now_ms();
	timer_clear(t);
	if (was_set)
		t->cb(t->arg);
}

struct timer *timer_new(struct loop *l, void (*cb)(void *arg), void *arg)
{
	struct timer *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	*t = (struct timer){ .loop = l, .cb = cb, .arg = arg };
	t->ev = evtimer_new(l->base, on_timeout, t);
	if (!t->ev || pend(t, UNSET_MS) < 0) {
		timer_free(t);
		return NULL;
	}
	return t;
}

void timer_set(struct timer *t, uint64_t delay_ms)
{
	t->set = true;
	pend(t, delay_ms);
}

void timer_clear(struct timer *t)
{
	t->set = false;
	pend(t, UNSET_MS);
}

bool timer_is_set(const struct timer *t) { return t->set; }

void timer_free(struct timer *t)
{
	if (!t)
		return;
	if (t->ev)
		event_free(t->ev);
	free(t);
}

/* ---- signals ---- */

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct sig *s = arg;

	(void)fd, (void)what;
	s->loop->now_ms = clock_now_ms();
	s->cb(s->arg, s->signo);
}

int loop_on_signal(struct loop *l, int signo, void (*cb)(void *arg, int signo), void *arg)
{
	struct sig *s = calloc(1, sizeof *s);

	if (!s)
		return -1;
	*s = (struct sig){ .next = l->sigs, .loop = l, .cb = cb, .arg = arg, .signo = signo };
	s->ev = evsignal_new(l->base, signo, on_signal, s);
	if (!s->ev || event_add(s->ev, NULL) < 0) {
		if (s->ev)
			event_free(s->ev);
		free(s);
		return -1;
	}
	l->sigs = s;
	return 0;
}

const char *loop_library_version(void) { return event_get_version(); }
