/*
 * Host names to addresses without blocking the loop: getaddrinfo(3) on a helper
 * thread. Numeric hosts answer too, in the next turn. Belongs to the loop's
 * thread.
 */
#ifndef TUNN_NET_RESOLVE_H
#define TUNN_NET_RESOLVE_H

#include <stddef.h>

#include "common/net/addr.h"
#include "common/net/loop.h"

struct resolve;
enum { RESOLVE_MAX = 16 };

/* done: n addresses with `port` set, families interleaved, IPv6 first (RFC 8305
 * section 4); n == 0: error says why. Called once, never from inside start. */
int resolve_start(struct loop *, const char *host, uint16_t port,
                  void (*done)(void *owner, const struct addr *, size_t n, const char *error),
                  void *owner, struct resolve **resolve_out);
/* Loads what looking up will need, so that afterwards no code has to be mapped
 * and a want of memory costs one lookup.
 * Blocks on files; once, at start. */
void resolve_prepare(void);
void resolve_cancel(struct resolve *); /* before done only; NULL allowed */

#endif
