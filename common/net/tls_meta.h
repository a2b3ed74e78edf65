/*
 * The meta certificate of a DERP server: its public key as the name of one more
 * certificate behind leaf and intermediates. A client that finds it there need not
 * wait for ServerKey (design: derp.md 1.2.1). It proves nothing by itself.
 * Any thread.
 */
#ifndef TUNN_NET_TLS_META_H
#define TUNN_NET_TLS_META_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/key.h"

/* The same one for the same key as long as the process lives. Gives a reference.
 * NULL: out of memory. */
X509 *tls_meta_new(const uint8_t derp_public[static KEY_LEN]);
/* Is it one by its name, whatever else is in it? */
bool tls_is_meta(const X509 *);
/* The key in the first one of the chain (NULL allowed) that can be read. False: none,
 * or it says that there is none. */
bool tls_meta_find(const STACK_OF(X509) *, uint8_t key_out[static KEY_LEN]);

#endif
