/*
 * The program's side of the device authorisation flow (RFC 8628): asks the relay for codes,
 * says where to go with them, waits, and has a token at the end. On a loop of its own,
 * until it is over. Main thread.
 */
#ifndef TUNN_CLIENT_LOGIN_H
#define TUNN_CLIENT_LOGIN_H

#include "common/base/key.h"
#include "common/base/token.h"
#include "common/net/proxy.h"
#include "common/net/tls.h"

struct login_conf {            /* borrowed for the call */
	const char *authority; /* of the relay */
	const char *id, *host; /* of the tunnel, of this machine: letters that need no encoding */
	struct tls_ctx *tls;
	const struct proxy_conf *proxy;
};

struct login_result {
	char account[NAME_MAX_LEN + 1];
	char token[TOKEN_LEN + 1]; /* the caller's to wipe, whatever happened */
};

/* The exit code: 0; 1 it failed or nobody approved it in time; 3 it was denied. Prints what
 * people have to know; never the token. */
int login_run(const struct login_conf *, struct login_result *result_out);

#endif
