/*
 * An account that has tunnels, as all threads know it: what it may, what it has
 * used. The accounts thread makes it and changes its terms (ledger.h); workers
 * hold references, spend and count. Nothing here locks: the terms are read as they are at
 * the moment, the bucket is one word that all workers exchange, and each worker counts in
 * a cache line of its own.
 *
 * The rate is a token bucket over all workers: in every span of t seconds at most
 * burst + rate * t bytes are granted, whoever asks (GCRA, ITU-T I.371: what is kept is
 * the moment at which the bucket was empty). It starts full.
 */
#ifndef TUNN_SERVER_ACCOUNT_H
#define TUNN_SERVER_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

struct account;

struct account_terms {
	bool relay;        /* its ends may exchange datagrams */
	bool suspended;    /* by the operator: no end of it is let in */
	uint32_t tunnels;  /* at once; 0: as many as it likes */
	uint64_t rate;     /* bytes per second, sent and received together; 0: as fast as it can */
	uint32_t burst_ms; /* so long as much as it sends, if it rested before: rate * burst_ms at
	                      once */
	uint64_t volume;   /* bytes of a UTC month, likewise; 0: as much as it likes */
	unsigned rank; /* of its tier: its place in the table, 0 goes first when memory is short */
};
enum { ACCOUNT_BURST_MIN = 262144 }; /* bytes; more than the largest datagram costs */

/* Of a UTC month, or since the process began. */
struct account_usage {
	uint64_t sent, received;                 /* bytes of UDP payload */
	uint64_t packets_sent, packets_received; /* datagrams */
};

/* One reference; terms are copied, `used` is what is known of its month. NULL: out of memory. */
struct account *account_new(const char *name, int64_t row, unsigned n_workers,
                            const struct account_terms *, const struct account_usage *used);
struct account *account_ref(struct account *); /* NULL allowed */
void account_unref(struct account *);          /* NULL allowed */

const char *account_name(const struct account *);
int64_t account_row(const struct account *); /* in the database */
unsigned account_n_tunnels(const struct account *);
unsigned account_rank(const struct account *); /* of its terms */

/* ---- accounts thread ---- */

void account_set_terms(struct account *, const struct account_terms *);
void account_terms(const struct account *, struct account_terms *terms_out);
/* What it has used in this month: what was known when it was made, and what the workers
 * have counted since. */
void account_usage(const struct account *, struct account_usage *usage_out);
/* So much more was used in this month than was known when it was made. */
void account_learn(struct account *, const struct account_usage *more);
/* A new month begins, of which `used` is known already (of one that the clock went back to;
 * else nothing). ended_out is what the one that ends has in the end: not a byte is between both. */
void account_new_month(struct account *, const struct account_usage *used,
                       struct account_usage *ended_out);
/* Percent of the month's volume that is used; 0: it may use as much as it likes. */
unsigned account_percent(const struct account *);
/* True when nobody else has a reference and its bucket is full again: nothing is lost if it is
 * made anew. */
bool account_is_unused(const struct account *, uint64_t now_ms);

/* ---- workers ---- */

/* May an end of it be here? CLOSE_NONE, CLOSE_DENIED (suspended, or without relay: in the
 * words of account_why_text()) or CLOSE_QUOTA. */
enum close_why account_check(const struct account *);
const char *account_why_text(const struct account *, enum close_why);
/* Counts a tunnel. CLOSE_TUNNELS: it has as many as it may. */
enum close_why account_enter(struct account *);
void account_leave(struct account *); /* after each account_enter() that gave CLOSE_NONE */

/* Takes `bytes` from the bucket. 0: they may go. Else none were taken, and it will have so
 * many in that many milliseconds, if nobody else asks. */
uint32_t account_take(struct account *, uint64_t bytes, uint64_t now_ms);
/* A tunnel waits for the rate now and then, until account_stop_waiting(). */
void account_start_waiting(struct account *);
void account_stop_waiting(struct account *);
/* What each of those that wait has of the rate, in bytes per second; UINT64_MAX: there is none. */
uint64_t account_share(const struct account *);
/* Counts a datagram that went on, resp. was handed to its link. `worker`: whose thread it is. */
void account_count_sent(struct account *, unsigned worker, uint64_t bytes);
void account_count_received(struct account *, unsigned worker, uint64_t bytes);
/* Whether the month's volume is used up. */
bool account_is_spent(const struct account *);

#endif
