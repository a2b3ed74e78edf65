#include "common/net/cert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "common/base/err.h"
#include "common/net/tls_impl.h"

enum { PATH_LEN = 512, SERIAL_BITS = 127, DAYS = 3653 };

/* ---- files ---- */

/* Whole or not at all: a crash leaves the old file. */
static int write_file(const char *path, mode_t mode, int (*put)(FILE *, void *), void *what,
                      char error_out[static TLS_ERROR_LEN])
{
	char tmp[PATH_LEN + 8];
	FILE *f = NULL;
	int fd;

	snprintf(tmp, sizeof tmp, "%s.new", path);
	unlink(tmp);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd >= 0)
		f = fdopen(fd, "w");
	if (!f) {
		int err = errno;
		if (fd >= 0)
			close(fd);
		return tls_fail(-EIO, error_out, "cannot write %s: %s", tmp, strerror(err));
	}
	bool ok = put(f, what) == 1 && fflush(f) == 0 && fsync(fd) == 0;
	if (fclose(f) != 0 || !ok || rename(tmp, path) < 0) {
		int err = errno;
		unlink(tmp);
		return tls_fail(-EIO, error_out, "cannot write %s: %s", path, strerror(err));
	}
	return 0;
}

static int put_key(FILE *f, void *key)
{
	return PEM_write_PKCS8PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
}
static int put_cert(FILE *f, void *cert) { return PEM_write_X509(f, cert); }

static X509 *read_cert(const char *path)
{
	FILE *f = fopen(path, "re");
	X509 *cert = f ? PEM_read_X509(f, NULL, NULL, (void *)(uintptr_t) "") : NULL;

	if (f)
		fclose(f);
	ERR_clear_error();
	return cert;
}

/* NULL and errno ENOENT: there is none. */
static EVP_PKEY *read_key(const char *path)
{
	FILE *f = fopen(path, "re");
	EVP_PKEY *key;

	if (!f)
		return NULL;
	key = PEM_read_PrivateKey(f, NULL, NULL, (void *)(uintptr_t) "");
	fclose(f);
	if (!key)
		errno = tls_is_starved() ? ENOMEM : EINVAL;
	ERR_clear_error();
	return key;
}

/* ---- the certificate ---- */

static bool add_ext(X509 *cert, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(cert, ext, -1) == 1;
	X509_EXTENSION_free(ext);
	return ok;
}

static bool san_text(const char *const *names, size_t n, struct buf *out)
{
	static const char always[] = "DNS:localhost,IP:127.0.0.1,IP:::1";
	unsigned char bin[16];
	bool ok = buf_add(out, always, strlen(always)) == 0;

	for (size_t i = 0; ok && i < n; i++) {
		bool ip = inet_pton(AF_INET, names[i], bin) == 1 ||
		          inet_pton(AF_INET6, names[i], bin) == 1;
		ok = buf_add(out, ip ? ",IP:" : ",DNS:", ip ? 4 : 5) == 0 &&
		     buf_add(out, names[i], strlen(names[i])) == 0;
	}
	return ok && buf_add(out, "", 1) == 0;
}

static bool add_names(X509 *cert, const char *const *names, size_t n)
{
	struct buf san = { 0 };
	bool ok = san_text(names, n, &san) &&
	          add_ext(cert, NID_subject_alt_name, (const char *)buf_data(&san));

	buf_done(&san);
	return ok;
}

static bool set_serial(X509 *cert)
{
	BIGNUM *bn = BN_new();
	bool ok = bn && BN_rand(bn, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
	          BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert));

	BN_free(bn);
	return ok;
}

static X509 *make_cert(EVP_PKEY *key, const char *const *names, size_t n_names)
{
	X509 *cert = X509_new();
	X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;

	if (cert && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
	    X509_gmtime_adj(X509_getm_notBefore(cert), -86400) && /* clocks that are a bit off */
	    X509_time_adj_ex(X509_getm_notAfter(cert), DAYS, 0, NULL) &&
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
	                               (const unsigned char *)"tunn relay", -1, -1, 0) == 1 &&
	    X509_set_issuer_name(cert, name) == 1 && X509_set_pubkey(cert, key) == 1 &&
	    add_ext(cert, NID_basic_constraints, "critical,CA:FALSE") &&
	    add_ext(cert, NID_key_usage, "critical,digitalSignature") &&
	    add_ext(cert, NID_ext_key_usage, "serverAuth") && add_names(cert, names, n_names) &&
	    X509_sign(cert, key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

static EVP_PKEY *ensure_key(const char *path, char error_out[static TLS_ERROR_LEN])
{
	EVP_PKEY *key = read_key(path);

	if (key)
		return key;
	if (errno != ENOENT) {
		tls_fail(-EIO, error_out, "cannot read the key %s: %s", path, strerror(errno));
		return NULL;
	}
	key = EVP_EC_gen("P-256");
	if (!key) {
		tls_fail(-EIO, error_out, "cannot make a key");
		return NULL;
	}
	if (write_file(path, 0600, put_key, key, error_out) < 0) {
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static bool is_good(X509 *cert, EVP_PKEY *key, const char *const *names, size_t n_names)
{
	bool good = cert && X509_cmp_current_time(X509_get0_notAfter(cert)) > 0 &&
	            X509_check_private_key(cert, key) == 1;

	for (size_t i = 0; good && i < n_names; i++)
		good = tls_cert_has_name(cert, names[i]);
	return good;
}

int cert_ensure(const char *dir, const char *const *names, size_t n_names,
                char error_out[static TLS_ERROR_LEN])
{
	char key_path[PATH_LEN], cert_path[PATH_LEN];
	int rc = 0;

	snprintf(key_path, sizeof key_path, "%s/tls-key.pem", dir);
	snprintf(cert_path, sizeof cert_path, "%s/tls-cert.pem", dir);
	EVP_PKEY *key = ensure_key(key_path, error_out);
	if (!key)
		return -EIO;
	X509 *cert = read_cert(cert_path);
	if (!is_good(cert, key, names, n_names)) {
		X509_free(cert);
		cert = make_cert(key, names, n_names);
		rc = cert ? write_file(cert_path, 0644, put_cert, cert, error_out) :
		            tls_fail(-EIO, error_out,
		                     "cannot make a certificate for the names given");
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return rc;
}

int cert_pin_of_file(const char *cert_file, uint8_t pin_out[static TLS_PIN_LEN],
                     char error_out[static TLS_ERROR_LEN])
{
	X509 *cert = read_cert(cert_file);
	bool ok = cert && tls_spki_hash(cert, pin_out);

	X509_free(cert);
	return ok ? 0 : tls_fail(-EIO, error_out, "cannot read the certificate %s", cert_file);
}
