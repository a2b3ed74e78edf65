/*
 * The process-wide bound on memory (limits.memory; robustness.md 2.4): once a second resident
 * memory is compared with it, and workers are told how short it is (workers_shed). The log
 * says it once when it begins, once when ends begin to go, and when it is over. Main thread.
 */
#ifndef TUNN_SERVER_MEMORY_H
#define TUNN_SERVER_MEMORY_H

#include <stdint.h>

#include "server/accounts/tiers.h"
#include "server/relay/workers.h"

struct memory;

enum { MEMORY_LEAST = 1 << 20, MEMORY_SHARE_PERCENT = 75 };

/* A size, or `unlimited` (0). 0, or ERR_INVALID: neither, or less than MEMORY_LEAST. */
int memory_limit_of(const char *words, uint64_t *bytes_out);

struct memory *memory_start(struct loop *, struct workers *); /* borrows; NULL: out of memory */
void memory_stop(struct memory *);                            /* NULL allowed */
/* words: as checked; NULL: a share of what there was at the start. The tiers, lowest first,
 * are copied: their names. NULL: the relay is open, all ends are alike. */
void memory_set_limit(struct memory *, const char *words, const struct tiers *);

#endif
