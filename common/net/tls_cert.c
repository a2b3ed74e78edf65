#include <stdio.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <openssl/x509v3.h>

#include "common/base/err.h"
#include "common/net/tls_impl.h"

static const char *name_text(const X509_NAME *name, char out[static 128])
{
	X509_NAME_oneline(name, out, 128);
	return out;
}

int64_t tls_not_after_unix_s(const struct tls_ctx *ctx)
{
	X509 *cert = SSL_CTX_get0_certificate(ctx->ssl);
	struct tm tm;

	return cert && ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1 ? timegm(&tm) : 0;
}

static int check_dates(const X509 *cert, const struct tls_server_conf *conf,
                       char error_out[static TLS_ERROR_LEN])
{
	if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0 && !conf->allow_expired)
		return tls_fail(ERR_CONFIG, error_out,
		                "the certificate %s has expired: get a new one", conf->cert_file);
	if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
		return tls_fail(ERR_CONFIG, error_out,
		                "the certificate %s is not valid yet: is the clock right?",
		                conf->cert_file);
	return 0;
}

bool tls_cert_has_name(X509 *cert, const char *name)
{
	bool is_ip = X509_check_ip_asc(cert, name, 0) != -2;

	return is_ip ? X509_check_ip_asc(cert, name, 0) == 1 :
	               X509_check_host(cert, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) ==
	                                       1;
}

static int check_names(X509 *cert, const struct tls_server_conf *conf,
                       char error_out[static TLS_ERROR_LEN])
{
	for (size_t i = 0; i < conf->n_names; i++)
		if (!tls_cert_has_name(cert, conf->names[i]))
			return tls_fail(ERR_CONFIG, error_out,
			                "the certificate %s is not for %s: clients would refuse it",
			                conf->cert_file, conf->names[i]);
	return 0;
}

/* RFC 8446 4.4.2: each certificate certifies the one before it. */
static int check_order(X509 *leaf, STACK_OF(X509) * chain, const char *file,
                       char error_out[static TLS_ERROR_LEN])
{
	char issuer[128];

	for (int i = 0; i < sk_X509_num(chain); i++) {
		const X509_NAME *wanted = X509_get_issuer_name(leaf);
		leaf = sk_X509_value(chain, i);
		if (X509_NAME_cmp(wanted, X509_get_subject_name(leaf)) != 0)
			return tls_fail(ERR_CONFIG, error_out,
			                "the certificates in %s are out of order: number %d must "
			                "be that of %s",
			                file, i + 2, name_text(wanted, issuer));
	}
	return 0;
}

static bool is_known_root(const X509_NAME *name)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_OBJECT *found = NULL;

	if (store && ctx && X509_STORE_set_default_paths(store) == 1 &&
	    X509_STORE_CTX_init(ctx, store, NULL, NULL) == 1)
		found = X509_STORE_CTX_get_obj_by_subject(ctx, X509_LU_X509, name);
	bool is_known = found != NULL;
	X509_OBJECT_free(found);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return is_known;
}

/* Without the one between, only those clients that have it by chance connect. */
static int check_alone(X509 *cert, const char *file, char error_out[static TLS_ERROR_LEN])
{
	const X509_NAME *issuer = X509_get_issuer_name(cert);
	char text[128];

	if (X509_NAME_cmp(issuer, X509_get_subject_name(cert)) == 0 || is_known_root(issuer))
		return 0;
	return tls_fail(ERR_CONFIG, error_out,
	                "the certificate %s stands alone: append that of its issuer %s", file,
	                name_text(issuer, text));
}

int tls_cert_check(SSL_CTX *ssl, const struct tls_server_conf *conf,
                   char error_out[static TLS_ERROR_LEN])
{
	X509 *cert = SSL_CTX_get0_certificate(ssl);
	STACK_OF(X509) *chain = NULL;

	SSL_CTX_get0_chain_certs(ssl, &chain);
	int rc = check_dates(cert, conf, error_out);
	if (rc == 0)
		rc = check_names(cert, conf, error_out);
	if (rc == 0)
		rc = chain && sk_X509_num(chain) ?
		                     check_order(cert, chain, conf->cert_file, error_out) :
		                     check_alone(cert, conf->cert_file, error_out);
	return rc;
}

bool tls_is_pkcs12(const char *file)
{
	FILE *f = fopen(file, "re");
	PKCS12 *p12 = f ? d2i_PKCS12_fp(f, NULL) : NULL;
	bool is_pkcs12 = p12 != NULL;

	if (f)
		fclose(f);
	PKCS12_free(p12);
	ERR_clear_error();
	return is_pkcs12;
}
