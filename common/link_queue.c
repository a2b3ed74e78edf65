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
	uint64_t served_ms; /* since when it has had its turns and never run empty; 0: not yet */
	int32_t deficit;    /* bytes it may still send in this round (RFC 8290 4.2) */
	struct pktq handshakes, data;
	uint8_t n_ahead; /* handshakes since its last data */
	bool is_urgent;
};

/* Sources of all queues of this thread by hash, chained. */
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

static const struct key *key_of(const struct pkt *p, enum link_sharing by)
{
	return by == SHARED_BY_SENDERS ? &p->src : &p->dst;
}

static uint32_t flow_of(const struct pkt *p, enum link_sharing by)
{
	return by == SHARED_BY_SENDERS ? 0 : p->flow;
}

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

static void source_free(struct link_source *s)
{
	struct link_source **at = bucket_of(s->queue, &s->key, s->flow);

	while (*at != s)
		at = &(*at)->chain;
	*at = s->chain;
	if (n_spare >= SPARE_MAX) {
		free(s);
		return;
	}
	n_spare++;
	ring_add(&spare, &s->turn);
}

static struct link_source *source_new(struct link_queue *q, const struct key *key, uint32_t flow)
{
	struct link_source *s, **bucket = bucket_of(q, key, flow);

	if (spare) {
		s = first_in_turn(spare);
		ring_del_first(&spare);
		n_spare--;
	} else if ((s = malloc(sizeof *s)) == NULL) {
		return NULL;
	}
	*s = (struct link_source){ .queue = q,
		                   .key = *key,
		                   .flow = flow,
		                   .deficit = LINK_QUEUE_QUANTUM,
		                   .chain = *bucket };
	*bucket = s;
	ring_add(&q->fresh, &s->turn);
	return s;
}

/* NULL: out of memory. */
static struct link_source *source_get(struct link_queue *q, const struct key *key, uint32_t flow)
{
	if (q->last && is_of(q->last, key, flow))
		return q->last;
	struct link_source *s = *bucket_of(q, key, flow);
	while (s && !(s->queue == q && is_of(s, key, flow)))
		s = s->chain;
	if (!s)
		s = source_new(q, key, flow);
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

/* ---- one source ---- */

/* Others would not be where they belong behind it. */
static bool fits_behind(const struct pkt *final, const struct pkt *p, enum link_sharing by)
{
	return key_eq(key_of(final, by), key_of(p, by)) && flow_of(final, by) == flow_of(p, by) &&
	       !pkt_is_urgent(p);
}

static void append(struct link_queue *q, struct pkt *p)
{
	p->next = NULL;
	if (q->first) {
		q->final->next = p;
	} else {
		q->first = p;
		q->served_ms = 0;
	}
	q->final = p;
}

static struct pkt *pop_first(struct link_queue *q)
{
	struct pkt *p = q->first;

	q->first = p->next;
	p->next = NULL;
	q->n--;
	q->bytes -= p->len;
	return p;
}

/* ---- several ---- */

static struct pkt *pop(struct link_queue *q, struct pktq *from)
{
	struct pkt *p = pktq_pop(from);

	q->n--;
	q->bytes -= p->len;
	if (q->n == 0)
		forget_all(q);
	return p;
}

static void add_to(struct link_source *s, struct pkt *p)
{
	if (is_empty(s))
		s->served_ms = 0;
	if (pkt_is_urgent(p)) {
		pktq_push(&s->handshakes, p);
		hurry(s->queue, s);
	} else {
		pktq_push(&s->data, p);
	}
}

/* The only source is one of several from now on; new, if what it has is a turn at most. */
static bool split(struct link_queue *q, enum link_sharing by)
{
	struct link_source *s = source_get(q, key_of(q->first, by), flow_of(q->first, by));
	struct pkt *p, *next;

	if (!s)
		return false;
	for (p = q->first; p; p = next) {
		next = p->next;
		add_to(s, p);
	}
	q->first = NULL;
	s->served_ms = q->served_ms;
	if (s->data.bytes > LINK_QUEUE_QUANTUM) {
		q->old = q->fresh;
		q->fresh = NULL;
	}
	return true;
}

/* ---- what goes ---- */

static void drop(struct link_queue *q, struct pkt *p, enum drop_why why)
{
	q->n_dropped++;
	q->n_stale += why == DROP_STALE;
	q->n_full += why == DROP_QUEUE_FULL;
	pkt_drop(p, why);
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
static struct pkt *pop_of_fattest(struct link_queue *q, bool by_bytes)
{
	if (q->first)
		return pop_first(q);
	struct link_source *s = fatter(q->old, fatter(q->fresh, NULL, by_bytes), by_bytes);
	bool flood = s->handshakes.n > s->data.n; /* no honest end has so many */
	return pop(q, flood ? &s->handshakes : &s->data);
}

bool link_queue_drop(struct link_queue *q, enum drop_why why)
{
	if (q->n == 0)
		return false;
	drop(q, pop_of_fattest(q, true), why);
	return true;
}

void link_queue_drop_all(struct link_queue *q, enum drop_why why)
{
	while (q->first)
		drop(q, pop_first(q), why);
	while (q->n)
		drop(q, pop(q, next_fifo(next_in_turn(q))), why);
}

/* ---- in and out ---- */

__attribute__((noinline)) /* out of the way of the usual case */
static void
push_in_turn(struct link_queue *q, enum link_sharing by, struct pkt *p)
{
	struct link_source *s;

	if (q->n >= LINK_QUEUE_PACKETS_MAX)
		drop(q, pop_of_fattest(q, false), DROP_QUEUE_FULL);
	if (q->n == 0 || (q->first && (fits_behind(q->final, p, by) || !split(q, by)))) {
		append(q, p);
	} else if ((s = source_get(q, key_of(p, by), flow_of(p, by))) != NULL) {
		add_to(s, p);
	} else {
		drop(q, p, DROP_NOMEM);
		return;
	}
	q->n++;
	q->bytes += p->len;
}

void link_queue_push(struct link_queue *q, enum link_sharing by, struct pkt *p)
{
	if (!q->first || q->n >= LINK_QUEUE_PACKETS_MAX || !fits_behind(q->final, p, by)) {
		push_in_turn(q, by, p);
		return;
	}
	append(q, p);
	q->n++;
	q->bytes += p->len;
}

/* Another worker's clock may be a moment ahead of ours. */
static bool is_stale(const struct link_queue *q, const struct pkt *p, uint64_t *served_ms,
                     uint64_t now_ms)
{
	int64_t age_ms = (int64_t)(now_ms - p->born_ms);

	if (!*served_ms)
		*served_ms = now_ms;
	if (age_ms <= LINK_QUEUE_STANDING_AGE_MS || q->n <= q->n_kept)
		return false;
	if (pkt_is_urgent(p))
		return age_ms > LINK_QUEUE_HANDSHAKE_AGE_MS;
	return age_ms > LINK_QUEUE_AGE_MS || now_ms - *served_ms > LINK_QUEUE_AGE_MS;
}

__attribute__((noinline)) /* likewise */
static struct pkt *
take_in_turn(struct link_queue *q, size_t len_max, uint64_t now_ms)
{
	while (q->n) {
		struct link_source *s = next_urgent(q);
		if (!s)
			s = next_in_turn(q);
		struct pktq *from = next_fifo(s);
		size_t len = from->head->len;
		if (is_stale(q, from->head, &s->served_ms, now_ms)) {
			drop(q, pop(q, from), DROP_STALE);
			continue;
		}
		if (len > len_max)
			return NULL;
		charge(q, s, from, len);
		return pop(q, from);
	}
	return NULL;
}

struct pkt *link_queue_take(struct link_queue *q, size_t len_max, uint64_t now_ms)
{
	while (q->first && is_stale(q, q->first, &q->served_ms, now_ms))
		drop(q, pop_first(q), DROP_STALE);
	if (!q->first)
		return take_in_turn(q, len_max, now_ms);
	return q->first->len <= len_max ? pop_first(q) : NULL;
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
