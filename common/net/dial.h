/*
 * Dialling: from a host name to a connected TCP socket, through a proxy where
 * one is set. Resolves anew each time, tries both families (RFC 8305: 250 ms
 * between attempts, first to connect wins; through a proxy the winner is the
 * first that answers CONNECT, and a denial ends all). Addresses that proved good
 * are tried behind what the name gives, also when it gives nothing any more;
 * those that connected in vain come last. Belongs to its loop's thread.
 */
#ifndef TUNN_NET_DIAL_H
#define TUNN_NET_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/proxy.h"

struct dial_family { /* zero: what the name gives */
	bool off;
	struct addr at; /* instead of what the name gives, at dial_conf.port; len 0: none */
};

struct dial_conf { /* borrowed until the dialler is freed */
	const char *host;
	uint16_t port;
	struct proxy_conf proxy;
	uint32_t fwmark;               /* 0: none (SO_MARK, needs CAP_NET_ADMIN) */
	const char *bind_device;       /* NULL: none (SO_BINDTODEVICE) */
	struct dial_family ipv4, ipv6; /* a proxy resolves itself: nothing to it */
};

struct dial_events {
	/* Takes fd; early bytes are borrowed; peer is the socket's peer (the proxy
	 * when there is one). */
	void (*connected)(void *owner, int fd, const struct addr *peer, const uint8_t *early,
	                  size_t early_len);
	void (*failed)(void *owner, enum close_why, const char *text);
};

struct dialler;
struct dialler *dialler_new(struct loop *, const struct dial_conf *, const struct dial_events *,
                            void *owner); /* NULL: out of memory */
/* One attempt of at most timeout_ms; exactly one event follows, never from
 * inside. A running attempt is given up. */
void dialler_start(struct dialler *, uint32_t timeout_ms);
void dialler_stop(struct dialler *);
/* What the last `connected` gave proved good, or did not. */
void dialler_judge(struct dialler *, bool is_good);
void dialler_free(struct dialler *); /* NULL allowed */
/* Overrides for the next attempts (the watch on our own route keeps the old device). */
void dialler_set_device(struct dialler *, const char *device /* "" none; copied */);

#endif
