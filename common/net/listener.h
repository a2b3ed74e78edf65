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

/* `accepted` takes fd (non-blocking, close-on-exec). `any` binds both families
 * on one IPv6 socket, IPv4 alone where there is no IPv6. bound_out gives the
 * real port for port 0. 0 or -errno. */
int listener_open(struct loop *, const struct addr *, bool any,
                  void (*accepted)(void *owner, int fd, const struct addr *peer), void *owner,
                  struct listener **listener_out, struct addr *bound_out);
/* The same with a socket that listens already; takes it, also on failure. */
int listener_take(struct loop *, int fd,
                  void (*accepted)(void *owner, int fd, const struct addr *peer), void *owner,
                  struct listener **listener_out, struct addr *bound_out);
void listener_close(struct listener *); /* NULL allowed */

#endif
