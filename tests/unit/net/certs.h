/*
 * A relay's certificate and contexts for both sides. One test program includes
 * this once.
 */
#ifndef TUNN_UNIT_CERTS_H
#define TUNN_UNIT_CERTS_H

#include "tests/unit/said.h"

#include "common/base/err.h"
#include "common/net/cert.h"
#include "common/net/tls.h"

static char certs_cert[256], certs_key[256], certs_error[TLS_ERROR_LEN];
static uint8_t certs_pin[TLS_PIN_LEN];
static const char *const certs_h2[] = { "h2", NULL };

/* Makes DIR/tls-cert.pem and DIR/tls-key.pem below the program's directory. */
static inline int certs_make(void **state)
{
	static const char *const names[] = { "relay.test", "192.0.2.5" };
	const char *dir = file_path("");

	(void)state;
	snprintf(certs_cert, sizeof certs_cert, "%s/tls-cert.pem", dir);
	snprintf(certs_key, sizeof certs_key, "%s/tls-key.pem", dir);
	assert_int_equal(cert_ensure(dir, names, 2, certs_error), 0);
	assert_int_equal(cert_pin_of_file(certs_cert, certs_pin, certs_error), 0);
	return 0;
}

static inline struct tls_ctx *certs_server(const char *const *alpn)
{
	struct tls_ctx *ctx;

	struct tls_server_conf conf = { .cert_file = certs_cert,
		                        .key_file = certs_key,
		                        .alpn = alpn };
	assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
	return ctx;
}

static inline void certs_refused(const struct tls_server_conf *conf, const char *words)
{
	struct tls_ctx *ctx;

	assert_true(tls_server_ctx_new(conf, &ctx, certs_error) == ERR_CONFIG);
	if (!strstr(certs_error, words))
		fail_msg("\"%s\" is not in \"%s\"", words, certs_error);
}

static inline struct tls_ctx *certs_client(const char *ca_file, const uint8_t *pin,
                                           const char *const *alpn)
{
	struct tls_client_conf conf = { .ca_file = ca_file, .pin = pin, .alpn = alpn };
	struct tls_ctx *ctx;

	assert_int_equal(tls_client_ctx_new(&conf, &ctx, certs_error), 0);
	return ctx;
}

#endif
