/*
 * Answers STUN (common/wire/stun.h) on UDP sockets of its own: each from the address that
 * was asked, to the one exact form of request that Tailscale's software sends; whatever
 * else comes is counted and stays unanswered. No answer is longer than 44 bytes, to a
 * request of 40 at least. Main thread: why is said in stun.c.
 */
#ifndef TUNN_SERVER_STUN_H
#define TUNN_SERVER_STUN_H

#include <stdbool.h>

#include "common/net/addr.h"
#include "common/net/loop.h"

enum { STUN_PORT = 3478, STUN_SOCKETS_MAX = 16 };

struct stun;

struct stun *stun_new(struct loop *); /* NULL: out of memory */
/* One socket more, of STUN_SOCKETS_MAX at most. `any`: both families, IPv4 alone where
 * there is no IPv6. bound_out gives the real port for port 0. 0 or -errno. */
int stun_listen(struct stun *, const struct addr *, bool any, struct addr *bound_out);
void stun_free(struct stun *); /* NULL allowed; not from inside an event of its sockets */

#endif
