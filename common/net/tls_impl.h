/*
 * Shared by tls.c (one connection), tls_ctx.c (contexts), tls_cert.c (is a
 * server's certificate fit for use?), tls_pin.c (is the peer's the pinned one?),
 * tls_meta.c and cert.c only.
 */
#ifndef TUNN_NET_TLS_IMPL_H
#define TUNN_NET_TLS_IMPL_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "common/base/words.h"
#include "common/net/tls.h"

struct tls_ctx {
	atomic_uint refs; /* release on unref, acquire before freeing */
	SSL_CTX *ssl;
	bool server, has_pin, has_raw_pin;
	uint8_t pin[TLS_PIN_LEN], raw_pin[TLS_PIN_LEN];
	char *verify_name; /* NULL: that of the connection */
	uint8_t alpn[64];  /* wire form: length, name, ... */
	unsigned alpn_len;
	const char *ca_option; /* NULL: --ca */
};

/* SHA-256 over the DER of the SubjectPublicKeyInfo. False: no memory. */
bool tls_spki_hash(const X509 *, uint8_t hash_out[static TLS_PIN_LEN]);

/* Before OpenSSL has any. False: it has, or others see to it; then connections do not nap. */
bool tls_take_memory(void);
bool tls_is_starved(void); /* did OpenSSL's last call fail for want of memory? */
/* Puts words for people into error_out, forgets OpenSSL's own; gives rc. */
int tls_fail(int rc, char error_out[static TLS_ERROR_LEN], const char *fmt, ...)
                __attribute__((format(printf, 3, 4)));
/* What is loaded: in force, for the names of the conf, chain whole and in order. 0 or
 * ERR_CONFIG with words. */
int tls_cert_check(SSL_CTX *, const struct tls_server_conf *, char error_out[static TLS_ERROR_LEN]);
bool tls_cert_has_name(X509 *, const char *dns_name_or_address); /* as clients compare */
bool tls_is_pkcs12(const char *file);
int tls_on_verify(int ok, X509_STORE_CTX *); /* OpenSSL's verify callback */
/* After the handshake, a client: 0, or ERR_UNTRUSTED with words. */
int tls_check_pins(const struct tls_ctx *, SSL *, struct words *);
void tls_common_name(const X509_NAME *, char *out, size_t cap); /* "?": none */
SSL *tls_ssl(const struct tls *);                               /* borrowed from it, awake */

#endif
