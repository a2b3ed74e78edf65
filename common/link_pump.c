#include "common/base/metric.h"
#include "common/link_impl.h"

enum {
	BATCH_BYTES = 16375,   /* one DATA frame, one TLS record */
	PUMP_AT_BYTES = 62480, /* of 44 full datagrams, a batch of the conn: as much waits ... */
	PUMP_AT_PACKETS = 256, /* ... or as many, half of what a lane holds: before the turn ends */
	WINDOW_ENOUGH = 16384, /* send a larger packet into it anyhow, or it would never go */
	MESSAGE_MORE = 64,     /* and at most */
};

/* ---- queues ---- */

void lane_drop_queues(struct lane *la, enum drop_why why)
{
	la->link->queued -= la->queue.bytes;
	link_queue_drop_all(&la->queue, why);
}

uint64_t lane_n_unsent(const struct lane *la) { return la->queue.n_dropped + la->queue.n; }
uint64_t lane_n_ignored(const struct lane *la) { return la->chan ? la->chan->n_ignored : 0; }

void lane_load(const struct lane *la, struct lane_load *load_out)
{
	const struct link_queue *q = &la->queue;

	*load_out = (struct lane_load){ .packets = q->n, .bytes = q->bytes };
	load_out->n_stale = q->n_stale;
	load_out->n_full = q->n_full;
	load_out->n_other = q->n_dropped - q->n_stale - q->n_full;
}

void link_mark_dirty(struct link *l)
{
	if (l->dirty || l->state == LINK_DEAD)
		return;
	l->dirty = true;
	list_add_tail(&l->links->dirty, &l->dirty_node);
	loop_defer(l->links->loop, LOOP_PUMP, &l->links->pump);
}

/* ---- the pump ---- */

/* The next packet that is still worth sending, of at most that length, and that the
 * other side's window has room for; what does not fit ages in the queue, where it can
 * still be dropped. */
static struct pkt *next_packet(struct lane *la, size_t most, uint64_t now_ms)
{
	struct link *l = la->link;
	size_t window = l->ops->window(la->chan), before = la->queue.bytes;

	if (window == 0)
		return NULL;
	if (window < WINDOW_ENOUGH && (window < MESSAGE_MORE || window - MESSAGE_MORE < most))
		most = window > MESSAGE_MORE ? window - MESSAGE_MORE : 0;
	struct pkt *p = link_queue_take(&la->queue, most, now_ms);
	l->queued -= before - la->queue.bytes;
	return p;
}

/* Packets that came together and go together are counted together. */
struct same_age {
	uint64_t born_ms;
	unsigned n;
};

static void observe(const struct same_age *a, uint64_t now_ms)
{
	if (a->n) /* another worker's clock may be a moment ahead of ours */
		metric_observe(DISTRIBUTION_QUEUE, now_ms > a->born_ms ? now_ms - a->born_ms : 0,
		               a->n);
}

static void note_age(struct same_age *a, const struct pkt *p, uint64_t now_ms)
{
	if (a->born_ms != p->born_ms) {
		observe(a, now_ms);
		*a = (struct same_age){ .born_ms = p->born_ms };
	}
	a->n++;
}

/* Moves packets into the transport until the next would not fit into the record, one of
 * each lane in turn: a packet cut in two is copied once more at both sides. The first goes
 * in any case. */
static void fill(struct link *l, size_t room)
{
	uint64_t now_ms = loop_now_ms(l->links->loop);
	size_t moved = 0, before, head = l->ops->packet_head;
	struct same_age age = { 0 };

	do {
		before = moved;
		list_each(it, tmp, &l->lanes) {
			struct lane *la = container_of(it, struct lane, node);
			size_t most = moved == 0          ? SIZE_MAX :
			              room > moved + head ? room - moved - head :
			                                    0;
			struct pkt *p;
			if (!la->queue.n || !la->open || !most ||
			    (p = next_packet(la, most, now_ms)) == NULL)
				continue;
			note_age(&age, p, now_ms);
			moved += p->len + head;
			l->moved_ms = now_ms;
			l->ops->send(la->chan, p);
		}
	} while (moved < room && moved > before);
	observe(&age, now_ms);
	if (l->n_lanes > 1) { /* another is first next time, or one with large packets never is */
		struct list *first = l->lanes.next;
		list_del(first);
		list_add_tail(&l->lanes, first);
	}
}

bool link_has_packets(const struct link *l)
{
	for (const struct list *it = l->lanes.next; it != &l->lanes; it = it->next)
		if (container_of(it, struct lane, node)->queue.n)
			return true;
	return false;
}

/* One record: packets if there is room for them, control in any case. */
static bool pump_once(struct link *l, size_t room)
{
	struct buf *out = &l->links->out;
	size_t batch = room < BATCH_BYTES ? room : BATCH_BYTES;
	/* The end of the last packet may be left, and cannot be dropped any more. */
	size_t left = batch ? l->ops->waiting(l->transport) : 0;

	if (left < batch)
		fill(l, batch - left);
	l->inside = true; /* flush() may tell `ended`; nobody pumps this link meanwhile */
	int rc = l->ops->flush(l->transport, out, batch);
	bool some = buf_len(out) > 0;
	int rc_write = some ? conn_write(l->conn, buf_data(out), buf_len(out)) : 0;
	if (l->state == LINK_GREETING)
		buf_wipe(out); /* a registration has a token */
	else
		buf_clear(out);
	link_settle(l, rc < 0 ? rc : rc_write);
	return some && l->state != LINK_DEAD;
}

static bool has_more(const struct link *l)
{
	return l->state != LINK_DEAD && (link_has_packets(l) || l->ops->has_output(l->transport));
}

/* About what there is to seal: payload with its heads. */
static size_t wanted(const struct link *l) { return 2 * l->queued + l->ops->waiting(l->transport); }

static void pump(struct link *l)
{
	if (!l->transport || l->state == LINK_DEAD)
		return;
	l->busy = true;
	size_t room;
	do {
		room = conn_room(l->conn, wanted(l));
	} while (pump_once(l, room) && room && has_more(l));
	if (l->state == LINK_DEAD)
		return;
	conn_flush(l->conn);
	if (l->state == LINK_DEAD)
		return;
	if (conn_unsent(l->conn) > l->limits->queued_bytes)
		link_close(l, CLOSE_STALLED);
	else if (l->drowsy)
		link_nap(l);
}

/* What came before the end was admitted goes on with a tick: now, not when the next is due. */
static void resume(struct link *l)
{
	l->admitted_late = false;
	if (l->state == LINK_DEAD)
		return;
	l->inside = true;
	link_settle(l, l->ops->tick(l->transport, loop_now_ms(l->links->loop)));
}

void link_pump_dirty(struct task *task)
{
	struct links *ls = container_of(task, struct links, pump);

	while (!list_empty(&ls->dirty)) {
		struct link *l = container_of(ls->dirty.next, struct link, dirty_node);
		list_del(&l->dirty_node);
		l->dirty = false;
		if (l->admitted_late)
			resume(l);
		pump(l);
	}
}

static struct lane *fattest(struct link *l)
{
	struct lane *found = NULL;

	list_each(it, tmp, &l->lanes) {
		struct lane *la = container_of(it, struct lane, node);
		if (!found || la->queue.bytes > found->queue.bytes)
			found = la;
	}
	return found;
}

/* Room for len more bytes in the link: of the fattest source of the fattest lane. */
static void make_room(struct link *l, size_t len)
{
	size_t most = l->limits->queued_bytes;

	if (most < l->ops->keeps_bytes)
		most = l->ops->keeps_bytes;
	while (l->queued + len > most && l->queued) {
		struct link_queue *q = &fattest(l)->queue;
		l->queued -= q->bytes;
		link_queue_drop(q, DROP_QUEUE_FULL);
		l->queued += q->bytes;
	}
}

/* Has the queue become another batch's worth longer? */
static bool is_batch(const struct link_queue *q, size_t last)
{
	return q->n % PUMP_AT_PACKETS == 0 || q->bytes % PUMP_AT_BYTES < last;
}

void link_send(struct lane *la, struct pkt *p)
{
	struct link *l = la->link;
	bool closed = l->state == LINK_DEAD || !la->chan;

	if (closed || p->len > l->ops->max_payload) {
		la->queue.n_dropped++;
		pkt_drop(p, closed ? DROP_LINK_CLOSED : DROP_TOO_BIG);
		return;
	}
	size_t len = p->len;
	l->drowsy = false;
	make_room(l, len);
	l->queued -= la->queue.bytes;
	link_queue_push(&la->queue, la->sharing, p);
	l->queued += la->queue.bytes;
	if (is_batch(&la->queue, len) && !l->inside)
		pump(l);
	else
		link_mark_dirty(l);
}
