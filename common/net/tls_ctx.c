#include "common/net/tls_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "common/base/err.h"
#include "common/net/tls_meta.h"

#define SUITES_AES_FIRST                                                                           \
	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SUITES_CHACHA_FIRST                                                                        \
	"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
#define CIPHERS_12                                                                                 \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                               \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                               \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
/* Whoever connects chooses, before we know them: OpenSSL's default has ffdhe8192, whose
 * key costs 500 times as much CPU as X25519's. Every client has P-256 (RFC 8446 9.1). */
#define GROUPS "X25519:P-256"

static bool has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_cpu_supports("aes");
#else
	return false;
#endif
}

int tls_start(void)
{
	tls_take_memory();
	/* 3.0 goes on with a context that it could not finish. */
	return OPENSSL_init_ssl(0, NULL) == 1 && OSSL_LIB_CTX_get0_global_default() ? 0 : -ENOMEM;
}

static const char *last_error(void)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;
	return reason ? reason : "unknown error";
}

bool tls_is_starved(void)
{
	return ERR_GET_REASON(ERR_peek_error()) == ERR_R_MALLOC_FAILURE ||
	       ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
}

int tls_fail(int rc, char error_out[static TLS_ERROR_LEN], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(error_out, TLS_ERROR_LEN, fmt, ap);
	va_end(ap);
	if (tls_is_starved() && !strstr(error_out, " memory") && n >= 0 && n < TLS_ERROR_LEN)
		snprintf(error_out + n, TLS_ERROR_LEN - (size_t)n, " (out of memory)");
	ERR_clear_error();
	return rc;
}

static void set_alpn(struct tls_ctx *ctx, const char *const *alpn)
{
	for (; alpn && *alpn; alpn++) {
		size_t len = strlen(*alpn);
		if (ctx->alpn_len + 1 + len > sizeof ctx->alpn)
			return;
		ctx->alpn[ctx->alpn_len++] = (uint8_t)len;
		memcpy(ctx->alpn + ctx->alpn_len, *alpn, len);
		ctx->alpn_len += (unsigned)len;
	}
}

/* RFC 7301 3.2: ours in order of preference; nothing in common is an alert. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
	const struct tls_ctx *ctx = arg;

	(void)ssl;
	if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ctx->alpn,
	                          ctx->alpn_len, in, in_len) == OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_OK;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static struct tls_ctx *ctx_new(const SSL_METHOD *method, const char *const *alpn)
{
	struct tls_ctx *ctx = calloc(1, sizeof *ctx);

	if (!ctx)
		return NULL;
	atomic_init(&ctx->refs, 1);
	set_alpn(ctx, alpn);
	ctx->ssl = SSL_CTX_new(method);
	if (!ctx->ssl) {
		free(ctx);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(ctx->ssl, TLS1_2_VERSION);
	SSL_CTX_set_ciphersuites(ctx->ssl, has_aes() ? SUITES_AES_FIRST : SUITES_CHACHA_FIRST);
	SSL_CTX_set_cipher_list(ctx->ssl, CIPHERS_12);
	SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	                                              SSL_OP_CIPHER_SERVER_PREFERENCE |
	                                              SSL_OP_NO_TICKET);
	/* Buffers of idle tunnels go back to the heap. */
	SSL_CTX_set_mode(ctx->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
	return ctx;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
	atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	return ctx;
}

void tls_ctx_unref(struct tls_ctx *ctx)
{
	if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
		return;
	SSL_CTX_free(ctx->ssl);
	free(ctx->verify_name);
	free(ctx);
}

/* ---- server ---- */

/* A key with a passphrase must fail, not ask at a terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf, (void)size, (void)rwflag;
	*(bool *)arg = true;
	return -1;
}

static int check_key_mode(const char *file, char error_out[static TLS_ERROR_LEN])
{
	struct stat st;

	if (stat(file, &st) < 0)
		return tls_fail(ERR_CONFIG, error_out, "cannot read the key %s: %s", file,
		                strerror(errno));
	if (st.st_mode & 077)
		return tls_fail(ERR_CONFIG, error_out,
		                "permissions of the key %s are too open (%04o): chmod 600 %s", file,
		                (unsigned)(st.st_mode & 07777), file);
	return 0;
}

/* OpenSSL's own words for these would not help. */
static int fail_file(const char *what, const char *file, char error_out[static TLS_ERROR_LEN])
{
	char reason[120];

	snprintf(reason, sizeof reason, "%s", last_error());
	if (tls_is_pkcs12(file))
		return tls_fail(ERR_CONFIG, error_out,
		                "the %s %s is PKCS#12, not PEM: openssl pkcs12 -in FILE -noenc",
		                what, file);
	return tls_fail(ERR_CONFIG, error_out, "cannot use the %s %s (PEM): %s", what, file,
	                reason);
}

static int fail_mismatch(SSL_CTX *ssl, const struct tls_server_conf *conf,
                         char error_out[static TLS_ERROR_LEN])
{
	STACK_OF(X509) *chain = NULL;

	SSL_CTX_get0_chain_certs(ssl, &chain);
	if (chain && sk_X509_num(chain) && X509_check_ca(SSL_CTX_get0_certificate(ssl)))
		return tls_fail(ERR_CONFIG, error_out,
		                "the certificates in %s are out of order: the first one is an "
		                "authority's, not that of the key %s",
		                conf->cert_file, conf->key_file);
	return tls_fail(ERR_CONFIG, error_out, "the key %s does not belong to the certificate %s",
	                conf->key_file, conf->cert_file);
}

static int load_key(SSL_CTX *ssl, const struct tls_server_conf *conf, const bool *asked,
                    char error_out[static TLS_ERROR_LEN])
{
	if (SSL_CTX_use_PrivateKey_file(ssl, conf->key_file, SSL_FILETYPE_PEM) != 1) {
		if (*asked)
			return tls_fail(ERR_CONFIG, error_out,
			                "the key %s has a passphrase: store it without one",
			                conf->key_file);
		if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH)
			return fail_mismatch(ssl, conf, error_out);
		return fail_file("key", conf->key_file, error_out);
	}
	return SSL_CTX_check_private_key(ssl) == 1 ? 0 : fail_mismatch(ssl, conf, error_out);
}

static int load(SSL_CTX *ssl, const struct tls_server_conf *conf,
                char error_out[static TLS_ERROR_LEN])
{
	bool asked = false;

	ERR_clear_error();
	SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ssl, &asked);
	if (SSL_CTX_use_certificate_chain_file(ssl, conf->cert_file) != 1)
		return fail_file("certificate", conf->cert_file, error_out);
	int rc = check_key_mode(conf->key_file, error_out);
	if (rc == 0)
		rc = load_key(ssl, conf, &asked, error_out);
	SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
	return rc ? rc : tls_cert_check(ssl, conf, error_out);
}

/* Behind all else; what is sent is the chain as it stands, nothing is found in a store
 * (the intermediates came with the file). */
static int add_meta(SSL_CTX *ssl, const uint8_t *derp_public, char error_out[static TLS_ERROR_LEN])
{
	X509 *meta = tls_meta_new(derp_public);
	bool ok = meta && SSL_CTX_add1_chain_cert(ssl, meta) == 1;

	X509_free(meta);
	return ok ? 0 :
	            tls_fail(-ENOMEM, error_out, "cannot make the certificate of the DERP key: %s",
	                     last_error());
}

int tls_leaf_raw_sha256(const struct tls_ctx *ctx, uint8_t hash_out[static TLS_PIN_LEN])
{
	X509 *leaf = SSL_CTX_get0_certificate(ctx->ssl);
	STACK_OF(X509) *chain = NULL;
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned len;

	SSL_CTX_get0_chain_certs(ctx->ssl, &chain);
	for (int i = 0; i < sk_X509_num(chain); i++)
		if (!tls_is_meta(sk_X509_value(chain, i)))
			return ERR_INVALID;
	if (!leaf || X509_digest(leaf, EVP_sha256(), hash, &len) != 1)
		return -ENOMEM;
	memcpy(hash_out, hash, TLS_PIN_LEN);
	return 0;
}

/* Keys that are in use lie where no core dump and, as far as the limit for locked
 * memory goes (8 MiB as a rule), no swap takes them. Without it they work all the same.
 * OpenSSL keeps LEAST bytes there for each connection as long as it lives, and when
 * all is used up no handshake succeeds: room for 131,000 of them. */
static void keep_keys_apart(void)
{
	enum { HEAP = 4 << 20, LEAST = 32 };

	if (!CRYPTO_secure_malloc_initialized())
		CRYPTO_secure_malloc_init(HEAP, LEAST);
}

int tls_server_ctx_new(const struct tls_server_conf *conf, struct tls_ctx **ctx_out,
                       char error_out[static TLS_ERROR_LEN])
{
	struct tls_ctx *ctx = ctx_new(TLS_server_method(), conf->alpn);

	if (!ctx) {
		return tls_fail(-ENOMEM, error_out, "out of memory");
	}
	ctx->server = true;
	keep_keys_apart();
	SSL_CTX_set1_groups_list(ctx->ssl, GROUPS);
	SSL_CTX_set_num_tickets(ctx->ssl, 0);
	SSL_CTX_set_alpn_select_cb(ctx->ssl, choose_alpn, ctx);
	int rc = load(ctx->ssl, conf, error_out);
	if (rc == 0 && conf->derp_public)
		rc = add_meta(ctx->ssl, conf->derp_public, error_out);
	if (rc < 0) {
		tls_ctx_unref(ctx);
		return rc;
	}
	*ctx_out = ctx;
	return 0;
}

/* ---- client ---- */

static bool take_trust(struct tls_ctx *ctx, const struct tls_client_conf *conf)
{
	ctx->has_pin = conf->pin != NULL;
	if (conf->pin)
		memcpy(ctx->pin, conf->pin, TLS_PIN_LEN);
	ctx->has_raw_pin = conf->raw_pin != NULL;
	if (conf->raw_pin)
		memcpy(ctx->raw_pin, conf->raw_pin, TLS_PIN_LEN);
	if (!conf->verify_name || !conf->verify_name[0])
		return true;
	ctx->verify_name = strdup(conf->verify_name);
	return ctx->verify_name != NULL;
}

int tls_client_ctx_new(const struct tls_client_conf *conf, struct tls_ctx **ctx_out,
                       char error_out[static TLS_ERROR_LEN])
{
	struct tls_ctx *ctx = ctx_new(TLS_client_method(), conf->alpn);

	if (!ctx) {
		return tls_fail(-ENOMEM, error_out, "out of memory");
	}
	if (!take_trust(ctx, conf)) {
		tls_ctx_unref(ctx);
		return tls_fail(-ENOMEM, error_out, "out of memory");
	}
	ctx->ca_option = conf->ca_option;
	SSL_CTX_set_alpn_protos(ctx->ssl, ctx->alpn, ctx->alpn_len);
	if (!(conf->pin || conf->raw_pin) || conf->ca_file) {
		int ok = conf->ca_file ? SSL_CTX_load_verify_file(ctx->ssl, conf->ca_file) :
		                         SSL_CTX_set_default_verify_paths(ctx->ssl);
		if (ok != 1) {
			tls_ctx_unref(ctx);
			return tls_fail(ERR_CONFIG, error_out,
			                "cannot use the CA file %s (PEM): %s",
			                conf->ca_file ? conf->ca_file : "of the system",
			                last_error());
		}
		SSL_CTX_set_verify(ctx->ssl, SSL_VERIFY_PEER, tls_on_verify);
	}
	*ctx_out = ctx;
	return 0;
}

bool tls_spki_hash(const X509 *cert, uint8_t hash_out[static TLS_PIN_LEN])
{
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);

	if (len <= 0)
		return false;
	SHA256(der, (size_t)len, hash_out);
	OPENSSL_free(der);
	return true;
}
