#include "common/link_queue.h"

#include <stdlib.h>

#include "common/base/crypto.h"
#include "common/base/list.h"

enum {
	BUCKETS = 256,
	SPARE_MAX = 256, /* 40 kB kept per thread at most */
};

struct link_source {
	struct link_ring turn;     /* in fresh or old */
	struct link_ring hurry;    /* in urgent, while is_urgent */
	struct link_source *chain; /* in its bucket, while is_indexed */
	struct link_queue *queue;
	struct key key;
	uint32_t flow;
	int32_t deficit; /* bytes it may still send in this round (RFC 8290 4.2) */
	struct pktq handshakes, data;
	uint8_t n_ahead; /* handshakes since its last data */
	bool is_urgent, is_indexed;
};

/* Sources of all queues of this thread by hash, chained. A queue with one source needs
 * none of it. */
static _Thread_local struct link_source *buckets[BUCKETS];
static _Thread_local struct link_ring *spare;
static _Thread_local unsigned n_spare;

/* ---- rings ---- */

static void ring_add(struct link_ring **ring, struct link_ring *n)
{
	if (*ring) {
		n->next = (*ring)->next;
		(*ring)->next = n;
	} else {
		n->next = n;
	}
	*ring = n;
}

static void ring_del_first(struct link_ring **ring)
{
	struct link_ring *first = (*ring)->next;

	if (first == *ring)
		*ring = NULL;
	else
		(*ring)->next = first->next;
}

static void ring_del(struct link_ring **ring, const struct link_ring *n)
{
	struct link_ring *before = *ring;

	while (before->next != n)
		before = before->next;
	if (before == n)
		*ring = NULL;
	else if (*ring == n)
		*ring = before;
	before->next = n->next;
}

static struct link_source *first_in_turn(const struct link_ring *ring)
{
	return container_of(ring->next, struct link_source, turn);
}

static struct link_source *first_in_hurry(const struct link_ring *ring)
{
	return container_of(ring->next, struct link_source, hurry);
}

/* ---- sources ---- */

static bool is_empty(const struct link_source *s) { return !s->data.head && !s->handshakes.head; }

static bool is_of(const struct link_source *s, const struct key *key, uint32_t flow)
{
	return key_eq(&s->key, key) && s->flow == flow;
}

static struct link_source **bucket_of(const struct link_queue *q, const struct key *key,
                                      uint32_t flow)
{
	struct {
		uint64_t queue;
		struct key key;
		uint64_t flow;
	} id = { (uintptr_t)q, *key, flow };

	return &buckets[crypto_short_hash(&id, sizeof id) % BUCKETS];
}

static void add_to_index(struct link_source *s)
{
	struct link_source **bucket = bucket_of(s->queue, &s->key, s->flow);

	s->chain = *bucket;
	*bucket = s;
	s->is_indexed = true;
}

static void source_free(struct link_source *s)
{
	if (s->is_indexed) {
		struct link_source **at = bucket_of(s->queue, &s->key, s->flow);
		while (*at != s)
			at = &(*at)->chain;
		*at = s->chain;
	}
	if (n_spare >= SPARE_MAX) {
		free(s);
		return;
	}
	n_spare++;
	ring_add(&spare, &s->turn);
}

static struct link_source *source_new(struct link_queue *q, const struct key *key, uint32_t flow)
{
	struct link_source *s;

	if (spare) {
		s = first_in_turn(spare);
		ring_del_first(&spare);
		n_spare--;
	} else if ((s = malloc(sizeof *s)) == NULL) {
		return NULL;
	}
	*s = (struct link_source){
		.queue = q, .key = *key, .flow = flow, .deficit = LINK_QUEUE_QUANTUM
	};
	ring_add(&q->fresh, &s->turn);
	return s;
}

static struct link_source *find(struct link_queue *q, const struct key *key, uint32_t flow)
{
	struct link_source *s = *bucket_of(q, key, flow);

	while (s && !(s->queue == q && is_of(s, key, flow)))
		s = s->chain;
	return s;
}

/* Another source than that of the last packet. Who is not indexed is alone in its queue,
 * and `last`. */
__attribute__((noinline)) /* out of the way of the usual case */
static struct link_source *
turn_to(struct link_queue *q, const struct key *key, uint32_t flow)
{
	if (!q->fresh && !q->old)
		return q->last = source_new(q, key, flow);
	if (q->last && !q->last->is_indexed)
		add_to_index(q->last);
	struct link_source *s = find(q, key, flow);
	if (!s && (s = source_new(q, key, flow)) != NULL)
		add_to_index(s);
	if (s)
		q->last = s;
	return s;
}

static void hurry(struct link_queue *q, struct link_source *s)
{
	if (s->is_urgent || !s->handshakes.head || s->deficit <= 0)
		return;
	s->is_urgent = true;
	ring_add(&q->urgent, &s->hurry);
}

static void leave(struct link_queue *q, struct link_source *s)
{
	if (s->is_urgent)
		ring_del(&q->urgent, &s->hurry);
	if (q->last == s)
		q->last = NULL;
	source_free(s);
}

/* Nobody waits, so nobody can be ahead of others: the next packet begins anew. */
static void forget_all(struct link_queue *q)
{
	struct link_ring **ring;

	q->urgent = NULL;
	q->last = NULL;
	while (*(ring = q->fresh ? &q->fresh : &q->old)) {
		struct link_source *s = first_in_turn(*ring);
		ring_del_first(ring);
		source_free(s);
	}
}

/* ---- whose turn it is ---- */

/* The usual case, or NULL: nobody else is there. It owes nothing to those who come. */
static struct link_source *lone(const struct link_queue *q)
{
	if (q->fresh || q->old->next != q->old)
		return NULL;
	struct link_source *s = first_in_turn(q->old);
	s->deficit = LINK_QUEUE_QUANTUM;
	return s;
}

static struct link_source *next_urgent(struct link_queue *q)
{
	while (q->urgent) {
		struct link_source *s = first_in_hurry(q->urgent);
		if (s->handshakes.head && s->deficit > 0)
			return s;
		ring_del_first(&q->urgent);
		s->is_urgent = false;
	}
	return NULL;
}

/* RFC 8290 4.2. Somebody has a packet. Who has run empty stays for the round, so that it
 * cannot come back as new at once. */
static struct link_source *next_in_turn(struct link_queue *q)
{
	for (;;) {
		struct link_ring **ring = q->fresh ? &q->fresh : &q->old;
		struct link_source *s = first_in_turn(*ring);
		bool is_over = s->deficit <= 0;
		if (!is_over && !is_empty(s))
			return s;
		if (is_over) {
			s->deficit += LINK_QUEUE_QUANTUM;
			hurry(q, s);
		}
		if (ring == &q->fresh) {
			ring_del_first(ring);
			ring_add(&q->old, &s->turn);
		} else if (is_over) {
			q->old = q->old->next;
		} else {
			ring_del_first(ring);
			leave(q, s);
		}
	}
}

/* Its handshakes first, but not for ever. */
static struct pktq *next_fifo(struct link_source *s)
{
	bool rests = s->n_ahead >= LINK_QUEUE_AHEAD_MAX && s->data.head;

	return s->handshakes.head && !rests ? &s->handshakes : &s->data;
}

static void charge(struct link_queue *q, struct link_source *s, const struct pktq *from, size_t len)
{
	s->deficit -= (int32_t)len + LINK_QUEUE_PACKET_COST;
	s->n_ahead = from == &s->data ? 0 : s->n_ahead + (s->n_ahead < LINK_QUEUE_AHEAD_MAX);
	if (q->urgent && first_in_hurry(q->urgent) == s)
		q->urgent = q->urgent->next;
}

/* ---- packets ---- */

static struct pkt *pop(struct link_queue *q, struct pktq *from)
{
	struct pkt *p = pktq_pop(from);

	q->n--;
	q->bytes -= p->len;
	return p;
}

static void drop(struct link_queue *q, struct pktq *from, enum drop_why why)
{
	pkt_drop(pop(q, from), why);
	q->n_dropped++;
	if (q->n == 0)
		forget_all(q);
}

static size_t weight(const struct link_source *s, bool by_bytes)
{
	return by_bytes ? s->data.bytes + s->handshakes.bytes : s->data.n + s->handshakes.n;
}

static struct link_source *fatter(struct link_ring *ring, struct link_source *found, bool by_bytes)
{
	struct link_ring *it = ring;

	while (it) {
		struct link_source *s = container_of(it, struct link_source, turn);
		if (!is_empty(s) && (!found || weight(s, by_bytes) > weight(found, by_bytes)))
			found = s;
		it = it->next == ring ? NULL : it->next;
	}
	return found;
}

/* Who fills the queue by what it is full of. Looks at every source: only when there is no room. */
static void drop_of_fattest(struct link_queue *q, bool by_bytes, enum drop_why why)
{
	struct link_source *s = fatter(q->old, fatter(q->fresh, NULL, by_bytes), by_bytes);
	bool flood = s->handshakes.n > s->data.n; /* no honest end has so many */

	drop(q, flood ? &s->handshakes : &s->data, why);
}

bool link_queue_drop(struct link_queue *q, enum drop_why why)
{
	if (q->n == 0)
		return false;
	drop_of_fattest(q, true, why);
	return true;
}

void link_queue_drop_all(struct link_queue *q, enum drop_why why)
{
	while (q->n) {
		struct link_source *s = next_in_turn(q);
		drop(q, s->data.head ? &s->data : &s->handshakes, why);
	}
}

void link_queue_push(struct link_queue *q, const struct key *source, uint32_t flow, struct pkt *p)
{
	if (q->n >= LINK_QUEUE_PACKETS_MAX)
		drop_of_fattest(q, false, DROP_QUEUE_FULL);
	struct link_source *s = q->last;
	if ((!s || !is_of(s, source, flow)) && (s = turn_to(q, source, flow)) == NULL) {
		q->n_dropped++;
		pkt_drop(p, DROP_NOMEM);
		return;
	}
	q->n++;
	q->bytes += p->len;
	if (pkt_is_handshake(p)) {
		pktq_push(&s->handshakes, p);
		hurry(q, s);
	} else {
		pktq_push(&s->data, p);
	}
}

/* Another worker's clock may be a moment ahead of ours. */
static bool is_stale(const struct pkt *p, uint64_t now_ms)
{
	return now_ms > p->born_ms && now_ms - p->born_ms > LINK_QUEUE_AGE_MS;
}

struct pkt *link_queue_take(struct link_queue *q, size_t len_max, uint64_t now_ms)
{
	while (q->n) {
		struct link_source *s = lone(q);
		if (!s && (s = next_urgent(q)) == NULL)
			s = next_in_turn(q);
		struct pktq *from = next_fifo(s);
		const struct pkt *head = from->head;
		if (is_stale(head, now_ms)) {
			drop(q, from, DROP_STALE);
			continue;
		}
		if (head->len > len_max)
			return NULL;
		struct pkt *p = pop(q, from);
		charge(q, s, from, p->len);
		if (q->n == 0)
			forget_all(q);
		return p;
	}
	return NULL;
}

void link_queue_thread_done(void)
{
	while (spare) {
		struct link_source *s = first_in_turn(spare);
		ring_del_first(&spare);
		free(s);
	}
	n_spare = 0;
}
