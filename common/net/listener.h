/*
 * A listening TCP socket. Accepts at most 64 connections a turn; when
 * descriptors run out it gives up its reserve descriptor to accept and close
 * one connection, then pauses 100 ms. Belongs to its loop's thread.
 */
#ifndef TUNN_NET_LISTENER_H
#define TUNN_NET_LISTENER_H

#include <stdbool.h>

#include "common/net/addr.h"
#include "common/net/loop.h"

struct listener;

/* A socket that listens, or -errno; -EADDRINUSE also if another relay is there. `any`
 * binds both families on one IPv6 socket, IPv4 alone where there is no IPv6. */
int listener_bind(const struct addr *, bool any);
/* IPv4 comes in through it too, as IPv6. */
bool listener_is_dual(int fd);
/* Another for the same address, so that the kernel spreads connections over the two
 * (SO_REUSEPORT); a duplicate where fd is not of listener_bind(). Or -errno. */
int listener_again(int fd);
/* Takes such a socket, also on failure. `accepted` takes fd (non-blocking,
 * close-on-exec). bound_out gives the real port for port 0. 0 or -errno. */
int listener_open(struct loop *, int fd,
                  void (*accepted)(void *owner, int fd, const struct addr *peer), void *owner,
                  struct listener **listener_out, struct addr *bound_out);
void listener_close(struct listener *); /* NULL allowed */

#endif
