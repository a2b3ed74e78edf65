/*
 * What this relay needs to speak DERP, from options and state directory: its node key,
 * the key of its mesh and its other relays, what native ends may do. Main thread; blocks
 * on files.
 */
#ifndef TUNN_SERVER_DERP_SETUP_H
#define TUNN_SERVER_DERP_SETUP_H

#include "common/net/tls.h"
#include "common/transport/transport.h"
#include "server/relay/mesh.h"
#include "server/relay/native_policy.h"
#include "server/options.h"

enum { DERP_SETUP_ERROR_LEN = 768 };

struct derp_setup {            /* zero-initialise */
	struct derp_conf conf; /* secrets lie in memory of their own, until done */
	uint8_t *secret, *mesh_key;
	struct native_policy *policy; /* references */
	struct tls_ctx *verify_tls;   /* NULL: none is needed */
	struct mesh_conf mesh;        /* n_with 0: no other relays */
};

/* 0, ERR_CONFIG or -errno with error_out in words. */
int derp_setup(struct derp_setup *, const struct server_options *,
               char error_out[static DERP_SETUP_ERROR_LEN]);
void derp_setup_done(struct derp_setup *);
/* The policy of fresh options. NULL: out of memory. */
struct native_policy *derp_setup_policy(const struct server_options *);
/* The account that native ends count for; NULL where none is let in. */
const char *derp_setup_account(const struct native_policy *);

#endif
