/*
 * What the user of `tunn relay` sees (product.md section 8): at most five short
 * lines at start, then one line when something changes, never one per packet
 * and never one per attempt. One thread.
 */
#ifndef TUNN_CLIENT_REPORT_H
#define TUNN_CLIENT_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/ways.h"
#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/net/addr.h"
#include "common/transport/transport.h"

struct report;

enum { REPORT_AGAIN_MS = 60000 }; /* an unchanged reason is repeated this often at most */

struct report_conf { /* what it points to lives as long as the report */
	FILE *out, *err;
	uint16_t port;
	unsigned n_peers;
	const char *const *peers;      /* as declared */
	uint64_t (*now_ms)(void *arg); /* bounds the lines per second; NULL: no time passes */
	void *arg;
};

/* What the local port does. where: per peer, listening on or forwarding to. */
struct report_port {
	enum role role;
	bool chosen; /* by whether the port was free */
	const struct addr *(*where)(void *arg, unsigned peer);
	const struct addr *too; /* second address of the first peer, or NULL */
	void *arg;
};

struct report *report_new(const struct report_conf *); /* NULL: out of memory */
void report_free(struct report *);                     /* NULL allowed */

void report_port(struct report *, const struct report_port *);
/* choice: who or what chose it, NULL: the user. */
void report_relay(struct report *, const struct way *, const char *choice);
/* The way that led there, told where it is another than was told last. */
void report_way(struct report *, const struct way *);
/* That way did not lead there. */
void report_turned(struct report *, const struct way *, enum close_why, const char *text,
                   uint64_t now_ms);
/* n: how many-th connection. id: empty if neither side knows it. */
void report_ready(struct report *, unsigned n, struct str id, struct str account, struct str node);
void report_peer(struct report *, unsigned peer, const struct peer_status *);
void report_notice(struct report *, const struct notice *);
void report_lost(struct report *, enum close_why, const char *text, uint32_t delay_ms,
                 uint64_t now_ms);
void report_held(struct report *, const char *device, const char *tunnel);
void report_over(struct report *, int exit_code, enum close_why, const char *text);

#endif
