#include "common/link_impl.h"

enum {
	LANE_PACKETS_MAX = 512,
	LANE_AGE_MS = 100,     /* a datagram older than this is worth less than its successor */
	BATCH_BYTES = 16375,   /* one DATA frame, one TLS record */
	PUMP_AT_PACKETS = 44,  /* 64 KiB: do not wait for the end of the turn */
	WINDOW_ENOUGH = 16384, /* send a larger packet into it anyhow, or it would never go */
};

/* ---- queues ---- */

static void drop(struct lane *la, struct pkt *p, enum drop_why why)
{
	la->n_dropped++;
	pkt_drop(p, why);
}

/* Handshakes first. */
static struct pkt *pop(struct lane *la)
{
	struct pkt *p = pktq_pop(la->urgent.head ? &la->urgent : &la->data);

	if (p)
		la->link->queued -= p->len;
	return p;
}

/* What is worth least: the oldest data. False: the queue is empty. */
static bool drop_oldest(struct lane *la, enum drop_why why)
{
	struct pkt *p = pktq_pop(la->data.head ? &la->data : &la->urgent);

	if (!p)
		return false;
	la->link->queued -= p->len;
	drop(la, p, why);
	return true;
}

void lane_drop_queues(struct lane *la, enum drop_why why)
{
	while (drop_oldest(la, why))
		;
}

uint64_t lane_n_unsent(const struct lane *la) { return la->n_dropped + la->urgent.n + la->data.n; }
uint64_t lane_n_ignored(const struct lane *la) { return la->chan ? la->chan->n_ignored : 0; }

void link_mark_dirty(struct link *l)
{
	if (l->dirty || l->state == LINK_DEAD)
		return;
	l->dirty = true;
	list_add_tail(&l->links->dirty, &l->dirty_node);
	loop_defer(l->links->loop, LOOP_PUMP, &l->links->pump);
}

/* ---- the pump ---- */

/* The next packet that is still worth sending; handshakes first. */
static struct pkt *next_packet(struct lane *la, uint64_t now_ms)
{
	struct pkt *p;

	while ((p = pop(la)) != NULL) {
		if (now_ms - p->born_ms <= LANE_AGE_MS)
			return p;
		drop(la, p, DROP_STALE);
	}
	return NULL;
}

static const struct pkt *peek(const struct lane *la)
{
	return la->urgent.head ? la->urgent.head : la->data.head;
}

/* Moves packets into the transport until a record's worth is there, one of each
 * lane in turn. Returns the bytes moved. */
static size_t fill(struct link *l, size_t room)
{
	uint64_t now_ms = loop_now_ms(l->links->loop);
	size_t moved = 0, before;

	do {
		before = moved;
		list_each(it, tmp, &l->lanes) {
			struct lane *la = container_of(it, struct lane, node);
			const struct pkt *head = peek(la);
			if (!head || !la->open || moved >= room)
				continue;
			size_t window = l->ops->window(la->chan);
			struct pkt *p;
			if (window < WINDOW_ENOUGH && window < head->len + 64 &&
			    now_ms - head->born_ms <= LANE_AGE_MS)
				continue; /* ages in the queue, where it can still be dropped */
			if (window == 0 || (p = next_packet(la, now_ms)) == NULL)
				continue;
			moved += p->len + 8;
			l->moved_ms = now_ms;
			l->ops->send(la->chan, p);
		}
	} while (moved < room && moved > before);
	return moved;
}

bool link_has_packets(const struct link *l)
{
	for (const struct list *it = l->lanes.next; it != &l->lanes; it = it->next)
		if (peek(container_of(it, struct lane, node)))
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

static void pump(struct link *l)
{
	if (!l->transport || l->state == LINK_DEAD)
		return;
	size_t room;
	do {
		room = conn_room(l->conn);
	} while (pump_once(l, room) && room && l->state != LINK_DEAD);
	if (l->state == LINK_DEAD)
		return;
	conn_flush(l->conn);
	if (l->state != LINK_DEAD && conn_unsent(l->conn) > l->limits->queued_bytes)
		link_close(l, CLOSE_STALLED);
}

void link_pump_dirty(struct task *task)
{
	struct links *ls = container_of(task, struct links, pump);

	while (!list_empty(&ls->dirty)) {
		struct link *l = container_of(ls->dirty.next, struct link, dirty_node);
		list_del(&l->dirty_node);
		l->dirty = false;
		pump(l);
	}
}

static struct lane *fattest(struct link *l)
{
	struct lane *found = NULL;

	list_each(it, tmp, &l->lanes) {
		struct lane *la = container_of(it, struct lane, node);
		if (!found ||
		    la->urgent.bytes + la->data.bytes > found->urgent.bytes + found->data.bytes)
			found = la;
	}
	return found;
}

/* Room for one more: within the lane by packets, within the link by bytes. */
static void make_room(struct lane *la, size_t len)
{
	struct link *l = la->link;

	if (la->urgent.n + la->data.n >= LANE_PACKETS_MAX)
		drop_oldest(la, DROP_QUEUE_FULL);
	while (l->queued + len > l->limits->queued_bytes &&
	       drop_oldest(fattest(l), DROP_QUEUE_FULL))
		;
}

void link_send(struct lane *la, struct pkt *p)
{
	struct link *l = la->link;

	if (l->state == LINK_DEAD || !la->chan) {
		drop(la, p, DROP_LINK_CLOSED);
		return;
	}
	make_room(la, p->len);
	l->queued += p->len;
	pktq_push(pkt_is_handshake(p) ? &la->urgent : &la->data, p);
	if (la->data.n % PUMP_AT_PACKETS == 0 && !l->inside)
		pump(l);
	else
		link_mark_dirty(l);
}
