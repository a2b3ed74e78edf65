#include "common/net/tls_meta.h"

#include <stdatomic.h>
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#define PREFIX "derpkey"
enum { PREFIX_LEN = sizeof PREFIX - 1, VERSION = 2, DAYS = 30 };

/* ---- to read one ---- */

/* The last CN counts where there are several, as in Go. Borrows from the certificate. */
static struct str common_name(const X509 *cert)
{
	const X509_NAME *name = X509_get_subject_name(cert);
	int at = -1, last = -1;

	while ((at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0)
		last = at;
	const X509_NAME_ENTRY *entry = last < 0 ? NULL : X509_NAME_get_entry(name, last);
	const ASN1_STRING *cn = X509_NAME_ENTRY_get_data(entry);
	return cn ? (struct str){ (const char *)ASN1_STRING_get0_data(cn),
		                  (size_t)ASN1_STRING_length(cn) } :
	            (struct str){ 0 };
}

bool tls_is_meta(const X509 *cert)
{
	struct str cn = common_name(cert);

	return cn.len >= PREFIX_LEN && memcmp(cn.p, PREFIX, PREFIX_LEN) == 0;
}

/* Digits of either case, unlike everywhere else. */
static bool read_key(const X509 *cert, uint8_t key_out[static KEY_LEN])
{
	struct str cn = common_name(cert);
	char hex[2 * KEY_LEN];

	if (!tls_is_meta(cert) || cn.len != PREFIX_LEN + sizeof hex)
		return false;
	for (size_t i = 0; i < sizeof hex; i++) {
		char c = cn.p[PREFIX_LEN + i];
		hex[i] = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
	}
	return hex_decode((struct str){ hex, sizeof hex }, key_out, KEY_LEN) == 0;
}

static bool is_zero(const uint8_t key[static KEY_LEN])
{
	static const uint8_t zero[KEY_LEN];

	return memcmp(key, zero, KEY_LEN) == 0;
}

bool tls_meta_find(const STACK_OF(X509) * chain, uint8_t key_out[static KEY_LEN])
{
	uint8_t key[KEY_LEN];
	int64_t version;

	for (int i = 0; i < sk_X509_num(chain); i++) {
		const X509 *cert = sk_X509_value(chain, i);
		if (!read_key(cert, key) ||
		    ASN1_INTEGER_get_int64(&version, X509_get0_serialNumber(cert)) != 1 ||
		    version < 0 || version > UINT8_MAX)
			continue;
		if (version == 0 || is_zero(key))
			return false;
		memcpy(key_out, key, KEY_LEN);
		return true;
	}
	return false;
}

/* ---- to make one ---- */

/* OpenSSL's table allows a CN 64 characters, the name has 71. The table is not asked
 * where the type of the string is given. */
static bool set_name(X509 *cert, const uint8_t derp_public[static KEY_LEN])
{
	char cn[PREFIX_LEN + 2 * KEY_LEN + 1] = PREFIX;
	X509_NAME *name = X509_get_subject_name(cert);

	hex_encode(derp_public, KEY_LEN, cn + PREFIX_LEN);
	return X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_PRINTABLESTRING,
	                                  (const unsigned char *)cn, -1, -1, 0) == 1 &&
	       X509_set_issuer_name(cert, name) == 1;
}

/* And no other: who watches certificates expire passes over it as long as its subject
 * and authority key identifiers are the same, that is, both missing. */
static bool set_extension(X509 *cert)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
	                                          "critical,CA:FALSE");
	bool ok = ext && X509_add_ext(cert, ext, -1) == 1;

	X509_EXTENSION_free(ext);
	return ok;
}

static X509 *make(const uint8_t derp_public[static KEY_LEN])
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	X509 *cert = X509_new();
	bool ok = key && cert && X509_set_version(cert, X509_VERSION_3) == 1 &&
	          ASN1_INTEGER_set(X509_get_serialNumber(cert), VERSION) == 1 &&
	          X509_time_adj_ex(X509_getm_notBefore(cert), -DAYS, 0, NULL) &&
	          X509_time_adj_ex(X509_getm_notAfter(cert), DAYS, 0, NULL) &&
	          set_name(cert, derp_public) && X509_set_pubkey(cert, key) == 1 &&
	          set_extension(cert) && X509_sign(cert, key, NULL) > 0;

	EVP_PKEY_free(key);
	if (ok)
		return cert;
	X509_free(cert);
	return NULL;
}

/* The first one that was made; set once. Release by its maker, acquire by all others. */
static _Atomic(X509 *) first;

static bool is_of(const X509 *cert, const uint8_t derp_public[static KEY_LEN])
{
	uint8_t key[KEY_LEN];

	return read_key(cert, key) && memcmp(key, derp_public, KEY_LEN) == 0;
}

X509 *tls_meta_new(const uint8_t derp_public[static KEY_LEN])
{
	X509 *cert = atomic_load_explicit(&first, memory_order_acquire), *none = NULL;

	if (cert && is_of(cert, derp_public)) {
		X509_up_ref(cert);
		return cert;
	}
	cert = make(derp_public);
	if (cert &&
	    atomic_compare_exchange_strong_explicit(&first, &none, cert, memory_order_release,
	                                            memory_order_relaxed))
		X509_up_ref(cert);
	return cert;
}
