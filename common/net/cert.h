/*
 * The relay's own certificate: ECDSA P-256, self-signed, ten years, kept in the
 * state directory. A reissue keeps the key, so the pin stays. Blocks on files:
 * only at start and in helpers, never on a worker.
 */
#ifndef TUNN_NET_CERT_H
#define TUNN_NET_CERT_H

#include <stddef.h>
#include <stdint.h>

#include "common/net/tls.h"

/* Makes DIR/tls-key.pem (0600) and DIR/tls-cert.pem where missing; a missing or
 * expired certificate is issued anew for the key that is there. names: DNS
 * names or addresses for subjectAltName. 0 or negative with error_out filled. */
int cert_ensure(const char *dir, const char *const *names, size_t n_names,
                char error_out[static TLS_ERROR_LEN]);
/* SHA-256 of the SubjectPublicKeyInfo of the first certificate in the file. */
int cert_pin_of_file(const char *cert_file, uint8_t pin_out[static TLS_PIN_LEN],
                     char error_out[static TLS_ERROR_LEN]);

#endif
