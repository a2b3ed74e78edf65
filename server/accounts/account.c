#include "server/accounts/account.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/key.h"
#include "server/accounts/usage.h"

enum { CACHE_LINE = 64 };
#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

/* Counted by one worker: written by it alone, read by the accounts thread. */
struct tally {
	_Alignas(CACHE_LINE) _Atomic uint64_t sent;
	_Atomic uint64_t received, packets_sent, packets_received;
};

struct account {
	atomic_uint refs;
	atomic_uint n_tunnels, n_waiting;
	int64_t row;
	char name[NAME_MAX_LEN + 1];
	unsigned n_workers;
	/* The terms, written by the accounts thread; each is right by itself. */
	atomic_bool relay, suspended;
	atomic_uint tunnels, burst_ms, rank;
	_Atomic uint64_t rate, volume;
	struct account_usage
	                before; /* of this month, what the tallies do not have; may be "negative" */
	/* Shared by all workers that carry its packets. */
	_Alignas(CACHE_LINE) _Atomic uint64_t empty_ns; /* when the bucket was empty */
	_Atomic uint64_t used;                          /* of the month's volume */
	struct tally tallies[];
};

/* Relaxed everywhere: each word stands alone, only references order anything. */
#define get(p)    atomic_load_explicit(p, memory_order_relaxed)
#define put(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define add(p, v) atomic_fetch_add_explicit(p, v, memory_order_relaxed)

/* ---- life ---- */

struct account *account_new(const char *name, int64_t row, unsigned n_workers,
                            const struct account_terms *terms, const struct account_usage *used)
{
	size_t size = sizeof(struct account) + n_workers * sizeof(struct tally);
	struct account *a = aligned_alloc(CACHE_LINE, size); /* both are multiples of the line */

	if (!a)
		return NULL;
	memset(a, 0, size);
	atomic_init(&a->refs, 1);
	a->row = row;
	a->n_workers = n_workers;
	snprintf(a->name, sizeof a->name, "%s", name);
	a->before = *used;
	account_set_terms(a, terms);
	return a;
}

struct account *account_ref(struct account *a)
{
	if (a)
		add(&a->refs, 1);
	return a;
}

void account_unref(struct account *a)
{
	if (a && atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1)
		free(a);
}

const char *account_name(const struct account *a) { return a->name; }
int64_t account_row(const struct account *a) { return a->row; }
unsigned account_n_tunnels(const struct account *a) { return get(&a->n_tunnels); }
unsigned account_rank(const struct account *a) { return get(&a->rank); }

/* ---- terms, usage ---- */

void account_set_terms(struct account *a, const struct account_terms *t)
{
	struct account_usage u;

	put(&a->relay, t->relay);
	put(&a->suspended, t->suspended);
	put(&a->tunnels, t->tunnels);
	put(&a->burst_ms, t->burst_ms);
	put(&a->rate, t->rate);
	put(&a->rank, t->rank);
	if (t->volume && !get(&a->volume)) { /* nobody has added up so far */
		account_usage(a, &u);
		put(&a->used, u.sent + u.received);
	}
	put(&a->volume, t->volume);
}

void account_usage(const struct account *a, struct account_usage *out)
{
	struct account_usage u = a->before;

	for (unsigned i = 0; i < a->n_workers; i++) {
		const struct tally *t = &a->tallies[i];
		u.sent += get(&t->sent);
		u.received += get(&t->received);
		u.packets_sent += get(&t->packets_sent);
		u.packets_received += get(&t->packets_received);
	}
	*out = u;
}

void account_terms(const struct account *a, struct account_terms *out)
{
	*out = (struct account_terms){ .relay = get(&a->relay),
		                       .suspended = get(&a->suspended),
		                       .tunnels = get(&a->tunnels),
		                       .rate = get(&a->rate),
		                       .burst_ms = get(&a->burst_ms),
		                       .volume = get(&a->volume),
		                       .rank = get(&a->rank) };
}

void account_learn(struct account *a, const struct account_usage *more)
{
	a->before = usage_plus(&a->before, more);
	if (get(&a->volume))
		add(&a->used, more->sent + more->received);
}

/* Workers go on counting meanwhile: what they count is of one month or the other, and is
 * in neither twice. */
void account_new_month(struct account *a, const struct account_usage *used,
                       struct account_usage *ended_out)
{
	struct account_usage u;

	account_usage(a, &u);
	a->before.sent += used->sent - u.sent;
	a->before.received += used->received - u.received;
	a->before.packets_sent += used->packets_sent - u.packets_sent;
	a->before.packets_received += used->packets_received - u.packets_received;
	if (get(&a->volume))
		add(&a->used, used->sent + used->received - u.sent - u.received);
	*ended_out = u;
}

/* A worker counts in its tally first: for that moment a new month may be "below" nothing. */
static uint64_t used_of(const struct account *a)
{
	int64_t used = (int64_t)get(&a->used);

	return used < 0 ? 0 : (uint64_t)used;
}

unsigned account_percent(const struct account *a)
{
	uint64_t volume = get(&a->volume), used = used_of(a);

	return !volume        ? 0 :
	       used >= volume ? 100 :
	                        (unsigned)(100.0 * (double)used / (double)volume);
}

static void count(struct account *a, _Atomic uint64_t *bytes, _Atomic uint64_t *packets, uint64_t n)
{
	put(bytes, get(bytes) + n); /* the only writer */
	put(packets, get(packets) + 1);
	if (get(&a->volume))
		add(&a->used, n);
}

void account_count_sent(struct account *a, unsigned worker, uint64_t bytes)
{
	struct tally *t = &a->tallies[worker];

	count(a, &t->sent, &t->packets_sent, bytes);
}

void account_count_received(struct account *a, unsigned worker, uint64_t bytes)
{
	struct tally *t = &a->tallies[worker];

	count(a, &t->received, &t->packets_received, bytes);
}

bool account_is_spent(const struct account *a)
{
	uint64_t volume = get(&a->volume);

	return volume && used_of(a) >= volume;
}

/* ---- admission ---- */

enum close_why account_check(const struct account *a)
{
	if (get(&a->suspended) || !get(&a->relay))
		return CLOSE_DENIED;
	return account_is_spent(a) ? CLOSE_QUOTA : CLOSE_NONE;
}

const char *account_why_text(const struct account *a, enum close_why why)
{
	if (why == CLOSE_DENIED && get(&a->suspended))
		return "the account is suspended or removed: ask the relay's operator";
	if (why == CLOSE_DENIED)
		return "the account's tier has no UDP relay: it needs Pro";
	return close_text(why);
}

enum close_why account_enter(struct account *a)
{
	unsigned most = get(&a->tunnels), n = get(&a->n_tunnels);

	do {
		if (most && n >= most)
			return CLOSE_TUNNELS;
	} while (!atomic_compare_exchange_weak_explicit(
	                &a->n_tunnels, &n, n + 1, memory_order_relaxed, memory_order_relaxed));
	return CLOSE_NONE;
}

void account_leave(struct account *a)
{
	atomic_fetch_sub_explicit(&a->n_tunnels, 1, memory_order_relaxed);
}

/* ---- the rate ---- */

static uint64_t burst_ns(const struct account *a, uint64_t rate)
{
	uint64_t ns = get(&a->burst_ms) * NS_PER_MS, least = ACCOUNT_BURST_MIN * NS_PER_S / rate;

	return ns > least ? ns : least;
}

bool account_is_unused(const struct account *a, uint64_t now_ms)
{
	uint64_t rate = get(&a->rate), burst = rate ? burst_ns(a, rate) : 0;

	return atomic_load_explicit(&a->refs, memory_order_acquire) == 1 &&
	       get(&a->empty_ns) + burst <= now_ms * NS_PER_MS;
}

uint32_t account_take(struct account *a, uint64_t bytes, uint64_t now_ms)
{
	uint64_t rate = get(&a->rate), now = now_ms * NS_PER_MS;

	if (!rate)
		return 0;
	uint64_t burst = burst_ns(a, rate), cost = (bytes * NS_PER_S + rate - 1) / rate;
	uint64_t full = now > burst ? now - burst : 0, empty = get(&a->empty_ns), then;
	do {
		then = (empty > full ? empty : full) + cost;
		if (then > now)
			return (uint32_t)((then - now + NS_PER_MS - 1) / NS_PER_MS);
	} while (!atomic_compare_exchange_weak_explicit(
	                &a->empty_ns, &empty, then, memory_order_relaxed, memory_order_relaxed));
	return 0;
}

void account_start_waiting(struct account *a) { add(&a->n_waiting, 1); }

void account_stop_waiting(struct account *a)
{
	atomic_fetch_sub_explicit(&a->n_waiting, 1, memory_order_relaxed);
}

uint64_t account_share(const struct account *a)
{
	uint64_t rate = get(&a->rate);
	unsigned n = get(&a->n_waiting);

	return !rate ? UINT64_MAX : n ? rate / n : rate;
}
