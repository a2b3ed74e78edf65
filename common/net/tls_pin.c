#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "common/base/bytes.h"
#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/net/tls_impl.h"
#include "common/net/tls_meta.h"

static int refuse(struct words *words, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct words *words, const char *fmt, ...)
{
	char text[TLS_ERROR_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	words_say(words, "%s", text);
	return ERR_UNTRUSTED;
}

static int check_key(X509 *leaf, const uint8_t pin[static TLS_PIN_LEN], struct words *words)
{
	uint8_t hash[TLS_PIN_LEN];
	char hex[2 * TLS_PIN_LEN + 1], issuer[48];

	if (!tls_spki_hash(leaf, hash))
		return refuse(words, "out of memory");
	if (crypto_same(hash, pin, TLS_PIN_LEN))
		return 0;
	hex_encode(hash, sizeof hash, hex);
	tls_common_name(X509_get_issuer_name(leaf), issuer, sizeof issuer);
	return refuse(words,
	              "the relay showed the key sha256:%s, which is not the pinned one: wrong relay, a "
	              "new key, or somebody intercepts TLS (the certificate was issued by %s); compare "
	              "with what the relay prints",
	              hex, issuer);
}

/* ---- the whole certificate ---- */

/* The handshake proved the leaf's key and no other's. Who took a certificate farther
 * behind for the pinned one would believe anybody who puts a copy of it there, behind
 * one of his own that is named as a meta certificate. */
static int check_alone(SSL *ssl, const X509 *leaf, struct words *words)
{
	const STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
	int n_more = 0;

	if (tls_is_meta(leaf))
		return refuse(words, "the relay's own certificate is named as a DERP meta "
		                     "certificate: somebody intercepts TLS");
	for (int i = 1; i < sk_X509_num(chain); i++)
		n_more += !tls_is_meta(sk_X509_value(chain, i));
	if (n_more == 0)
		return 0;
	return refuse(words,
	              "the relay showed %d more certificates behind the pinned one, where sha256-raw "
	              "allows none: pin its key with sha256:HEX or trust its CA",
	              n_more);
}

static int check_hash(const X509 *leaf, const uint8_t pin[static TLS_PIN_LEN], struct words *words)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	char hex[2 * TLS_PIN_LEN + 1], issuer[48];
	unsigned len;

	if (X509_digest(leaf, EVP_sha256(), hash, &len) != 1 || len != TLS_PIN_LEN)
		return refuse(words, "out of memory");
	if (crypto_same(hash, pin, TLS_PIN_LEN))
		return 0;
	hex_encode(hash, TLS_PIN_LEN, hex);
	tls_common_name(X509_get_issuer_name(leaf), issuer, sizeof issuer);
	return refuse(words,
	              "the relay showed the certificate sha256-raw:%s, which is not the pinned one: "
	              "wrong relay, a new certificate, or somebody intercepts TLS (it was issued by "
	              "%s); compare with what the relay prints",
	              hex, issuer);
}

/* By subjectAltName alone: a common name is not what clients of other makes compare. */
static int check_name(SSL *ssl, X509 *leaf, struct words *words)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	char *host = X509_VERIFY_PARAM_get0_host(param, 0);
	char *ip = host ? NULL : X509_VERIFY_PARAM_get1_ip_asc(param);
	const unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
	                       X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
	int rc = 0;

	if (!(host && X509_check_host(leaf, host, 0, flags, NULL) == 1) &&
	    !(ip && X509_check_ip_asc(leaf, ip, 0) == 1))
		rc = refuse(words,
		            "the pinned certificate is not for %s (subjectAltName): the relay needs "
		            "one that is, tunn server --name HOST, or pin its key with sha256:HEX",
		            host ? host :
		            ip   ? ip :
		                   "?");
	OPENSSL_free(ip);
	return rc;
}

static int check_dates(const X509 *leaf, struct words *words)
{
	if (X509_cmp_current_time(X509_get0_notAfter(leaf)) != 1)
		return refuse(words, "the pinned certificate has expired: the relay needs a new "
		                     "one, and the pin changes with it");
	if (X509_cmp_current_time(X509_get0_notBefore(leaf)) != -1)
		return refuse(words,
		              "the pinned certificate is not valid yet: is the clock right?");
	return 0;
}

static int check_raw(const struct tls_ctx *ctx, SSL *ssl, X509 *leaf, struct words *words)
{
	int rc = check_alone(ssl, leaf, words);

	if (rc == 0)
		rc = check_hash(leaf, ctx->raw_pin, words);
	if (rc == 0)
		rc = check_name(ssl, leaf, words);
	return rc ? rc : check_dates(leaf, words);
}

int tls_check_pins(const struct tls_ctx *ctx, SSL *ssl, struct words *words)
{
	X509 *leaf = SSL_get0_peer_certificate(ssl);
	int rc = 0;

	if (!ctx->has_pin && !ctx->has_raw_pin)
		return 0;
	if (!leaf)
		return refuse(words, "the relay showed no certificate");
	if (ctx->has_pin)
		rc = check_key(leaf, ctx->pin, words);
	return rc == 0 && ctx->has_raw_pin ? check_raw(ctx, ssl, leaf, words) : rc;
}
