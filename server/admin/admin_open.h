/*
 * The admin listener as --admin asks for it: where, with which token, over TLS or not.
 * Main thread, before rights are dropped. Prints its own errors.
 */
#ifndef TUNN_SERVER_ADMIN_OPEN_H
#define TUNN_SERVER_ADMIN_OPEN_H

#include "server/admin/admin.h"
#include "server/auth.h"
#include "server/options.h"
#include "server/rights.h"
#include "server/stun_start.h"

struct admin_place { /* of the relay; borrowed while the admin lives, but for cert and key */
	const struct server_options *opts;
	const struct rights *rights;
	const struct places *listening;
	const char *cert, *key; /* files, for TLS */
	struct workers *workers;
};

/* An exit code, 0: go on. admin_out is NULL where it is off. What was asked for has to be;
 * the default address costs a line in the log where it cannot be had. */
int admin_open(const struct admin_place *, struct admin **admin_out);
/* Its thread; auth NULL: the relay has no accounts. An exit code. */
int admin_open_thread(struct admin *, struct auth *); /* NULL allowed */
/* After a reload: the certificate as the files have it now. */
void admin_open_again(struct admin *, const struct admin_place *, const struct limits *);

#endif
