#include "common/link_impl.h"

#include <errno.h>
#include <time.h>

#include "common/base/clock.h"

enum {
	TICK_MS = 500,
	STOP_MS = 250,             /* a tick that much late, without work: we were stopped */
	GREETING_CLIENT_MS = 5000, /* longer means a proxy that buffers (robustness.md 3.5) */
	STALL_CLIENT_MS = 15000,
};

/* Something waits, and for too long nothing has been taken: by the socket, or by
 * the windows of the protocol, which cost no socket room (T10). */
static bool is_stalled(struct link *l, uint64_t now_ms)
{
	uint64_t limit = l->ops->stalled_ms(l->transport);

	if (!limit)
		limit = l->side == SIDE_SERVER ? l->limits->stalled_ms : STALL_CLIENT_MS;
	if (conn_unsent(l->conn) == 0 && !link_has_packets(l) &&
	    l->ops->waiting(l->transport) == 0) {
		l->stalled_since_ms = 0;
		return false;
	}
	bool by_socket = conn_unsent(l->conn) > 0 || conn_room(l->conn, SIZE_MAX) == 0;
	uint64_t progress_ms = by_socket ? conn_progress_ms(l->conn) : l->moved_ms;
	if (!l->stalled_since_ms || progress_ms > l->stalled_since_ms)
		l->stalled_since_ms = now_ms;
	return now_ms - l->stalled_since_ms > limit;
}

/* Over its deadline for this state? None is refreshed by bytes (T02). */
static bool is_late(struct link *l, uint64_t now_ms)
{
	uint64_t spent = now_ms - l->since_ms;

	switch (l->state) {
	case LINK_SECURING: return spent > l->limits->handshake_ms;
	case LINK_GREETING:
		if (l->side == SIDE_CLIENT)
			return spent > GREETING_CLIENT_MS;
		return !l->is_health && spent > l->limits->register_ms;
	default: return false;
	}
}

void link_nap(struct link *l)
{
	l->drowsy = true;
	if (!l->transport || l->ops->nap(l->transport))
		conn_nap(l->conn);
}

/* Idle for a whole tick: most of what a relay has lies in links like this. A client has one. */
static void nap_if_idle(struct link *l)
{
	if (!l->busy && !l->drowsy && l->side == SIDE_SERVER)
		link_nap(l);
	l->busy = false;
}

static void tick_link(struct link *l, uint64_t now_ms)
{
	nap_if_idle(l);
	if (is_late(l, now_ms)) {
		link_close_with(l, CLOSE_SLOW_START,
		                l->state == LINK_SECURING ?
		                                "the TLS handshake took too long" :
		                l->side == SIDE_CLIENT ?
		                                "no answer to the registration within 5 s (a "
		                                "proxy that buffers?)" :
		                                "no end registered in time");
		return;
	}
	if (!l->transport)
		return;
	if (is_stalled(l, now_ms)) {
		link_close(l, CLOSE_STALLED);
		return;
	}
	l->inside = true;
	link_settle_and_say(l, l->ops->tick(l->transport, now_ms));
	if (l->state != LINK_DEAD && link_has_packets(l))
		link_mark_dirty(l); /* windows may have opened; the old ones are dropped */
}

/* The time in which we did not run counts against nobody, and what waited for us
 * in the kernels on the way is too old to be delivered (F04). */
static void go_on(struct link *l, uint64_t now_ms, uint64_t stopped_ms)
{
	l->stalled_since_ms = 0;
	if (l->state < LINK_READY)
		l->since_ms = now_ms;
	if (l->transport) {
		l->ops->freshen(l->transport, now_ms, stopped_ms);
		link_mark_dirty(l);
	}
}

/* As HTTP writes it: RFC 9110 5.6.7. */
static void note_date(struct links *ls)
{
	time_t now = (time_t)(clock_unix_ms() / 1000);
	struct tm tm;

	if (!gmtime_r(&now, &tm) ||
	    !strftime(ls->date, sizeof ls->date, "%a, %d %b %Y %H:%M:%S GMT", &tm))
		ls->date[0] = 0;
}

static void note_time(struct links *ls)
{
	note_date(ls);
	ls->ticked_ms = loop_now_ms(ls->loop);
	ls->ticked_thread_ms = clock_thread_ms();
}

/* Time that went into work is no stop: else whoever keeps us busy enough, by a flood of
 * handshakes or by datagrams, would extend its deadlines and make us drop what the others send. */
void links_notice_stop(struct links *ls)
{
	uint64_t now_ms = loop_now_ms(ls->loop), gap_ms = now_ms - ls->ticked_ms;

	if (gap_ms <= TICK_MS + STOP_MS)
		return;
	uint64_t worked_ms = clock_thread_ms() - ls->ticked_thread_ms;
	note_time(ls);
	if (gap_ms <= TICK_MS + STOP_MS + worked_ms)
		return;
	list_each(it, tmp, &ls->all)
		go_on(container_of(it, struct link, node), now_ms, gap_ms);
}

static void on_tick(void *arg)
{
	struct links *ls = arg;
	uint64_t now_ms = loop_now_ms(ls->loop);

	links_notice_stop(ls);
	note_time(ls);
	timer_set(ls->tick, TICK_MS);
	list_each(it, tmp, &ls->all)
		tick_link(container_of(it, struct link, node), now_ms);
}

int links_start_ticking(struct links *ls)
{
	ls->tick = timer_new(ls->loop, on_tick, ls);
	if (!ls->tick)
		return -ENOMEM;
	note_time(ls);
	timer_set(ls->tick, TICK_MS);
	return 0;
}

/* ---- who comes too fast ---- */

/* For one reason never less long than for another. */
void link_rest(struct link *l, uint32_t ms)
{
	if (ms == 0 || l->conn_gone)
		return;
	uint64_t until_ms = loop_now_ms(l->links->loop) + ms;
	if (until_ms <= l->rests_until_ms)
		return;
	l->rests_until_ms = until_ms;
	conn_rest(l->conn, ms);
}

void lane_rest(struct lane *lane, uint32_t ms)
{
	if (lane->link->n_lanes == 1)
		link_rest(lane->link, ms);
}

static void narrow(struct link *l, uint64_t bytes_per_s)
{
	l->narrow = bytes_per_s != UINT64_MAX;
	if (!l->conn_gone)
		conn_narrow(l->conn, bytes_per_s);
}

void link_widen(struct link *l)
{
	if (l->narrow)
		narrow(l, UINT64_MAX);
}

void lane_narrow(struct lane *lane, uint64_t bytes_per_s)
{
	if (bytes_per_s == UINT64_MAX)
		link_widen(lane->link);
	else if (lane->link->n_lanes == 1)
		narrow(lane->link, bytes_per_s);
}

size_t lane_unread(const struct lane *lane)
{
	const struct link *l = lane->link;

	return l->n_lanes == 1 && !l->conn_gone ? conn_unread(l->conn) : 0;
}
