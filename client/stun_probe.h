/*
 * How far away are they: asks STUN servers (common/wire/stun.h) for sign of life, three
 * times each, 100 ms apart, and tells how long each took. Who answers is asked no more; the
 * time is that of the try that was answered. Belongs to its loop's thread.
 */
#ifndef TUNN_CLIENT_STUN_PROBE_H
#define TUNN_CLIENT_STUN_PROBE_H

#include <stdint.h>

#include "common/net/addr.h"
#include "common/net/loop.h"

enum { STUN_PROBE_SILENT = UINT32_MAX };

struct stun_probe;

struct stun_probe_conf {            /* borrowed while it is started */
	const struct addr *targets; /* n of them; those of a family that we lack stay silent */
	const void *const *places;  /* n: targets that have the same are one to whoever asks,
	                             * nodes and families of one region; NULL: none are */
	unsigned n, timeout_ms;
	uint32_t fwmark;         /* 0: none */
	const char *bind_device; /* NULL: none */
};

/* `done` comes once, from the loop: when all have answered; when three or one of each place have,
 * and the others had as long as the slowest of them (50 ms at least) after the last try; or when
 * timeout_ms have passed. latencies_ms are in the order of the targets, STUN_PROBE_SILENT for those
 * that did not answer, and borrowed. crypto_start() first. 0 or -errno. */
int stun_probe_start(struct loop *, const struct stun_probe_conf *,
                     void (*done)(void *arg, const uint32_t *latencies_ms, unsigned n), void *arg,
                     struct stun_probe **probe_out);
void stun_probe_free(struct stun_probe *); /* before or after `done`, or in it; NULL allowed */

#endif
