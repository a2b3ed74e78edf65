/*
 * What `tunn status` shows: the answers of an admin listener (docs/ADMIN.md) as values, and
 * the rates between two of them. The relay that answers is trusted with nothing: texts become
 * printable ASCII, numbers stay in bounds. One thread.
 */
#ifndef TUNN_SERVER_STATUS_H
#define TUNN_SERVER_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/bytes.h"

enum {
	STATUS_SECONDS = 60, /* of series that are asked for */
	STATUS_TUNNELS = 1000,
	STATUS_REASONS = 16,
	STATUS_NAME = 72, /* "nodekey:" and 64 digits need no more than is cut */
};

struct status_tunnel {
	char account[STATUS_NAME], id[STATUS_NAME], address[STATUS_NAME], peer[STATUS_NAME];
	char peer_state[16], transport[16], role[16];
	int64_t since_unix_s, rtt_us; /* -1: not known, like the rates */
	int64_t bytes_in, bytes_out, queue_bytes, drops;
	int64_t rate_in, rate_out; /* bytes a second, since the status before */
};

struct status_series { /* -1: not measured; the newest is the last */
	int64_t v[STATUS_SECONDS];
	unsigned n;
};

struct status {
	char node[STATUS_NAME], version[32], state[STATUS_NAME], listening[STATUS_NAME];
	int64_t uptime_s;
	unsigned n_workers, n_silent;
	struct status_series bytes_in, bytes_out, packets_in, packets_out, open;
	struct status_series delay_p50, delay_p99, rtt_p50, rtt_p99;
	struct {
		char name[32];
		struct status_series count;
	} drops[STATUS_REASONS];
	unsigned n_drops;
	struct status_tunnel *tunnels; /* by account and id */
	unsigned n_tunnels;
	bool more; /* there are more than STATUS_TUNNELS */
	uint64_t taken_ms;
};

/* The bodies of /api/v1/nodes, series and tunnels. 0; ERR_INVALID: not such answers; -ENOMEM. */
int status_new(struct str nodes, struct str series, struct str tunnels, uint64_t now_ms,
               struct status **status_out);
void status_free(struct status *); /* NULL allowed */
/* Fills in the rates of its tunnels. */
void status_compare(struct status *, const struct status *before);

int64_t status_last(const struct status_series *);   /* -1: none */
int64_t status_newest(const struct status_series *); /* of those that there are; -1: none */
int64_t status_peak(const struct status_series *);   /* 0: none */
int64_t status_sum(const struct status_series *);

#endif
