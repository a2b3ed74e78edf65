/* Whom a client believes that was told of a DERP node: sha256-raw, and another name. */
#include "tests/unit/net/tls_pair.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "common/base/crypto.h"
#include "common/net/tls_impl.h"
#include "common/net/tls_meta.h"

enum { DAY_S = 86400 };

static const uint8_t derp_public[KEY_LEN] = { 1, 2, 3 };
static uint8_t raw[TLS_PIN_LEN]; /* of the relay's certificate */

static struct tls_ctx *derp_server(void)
{
	struct tls_server_conf conf = { .cert_file = certs_cert,
		                        .key_file = certs_key,
		                        .derp_public = derp_public };
	struct tls_ctx *ctx;

	assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
	return ctx;
}

static int make(void **state)
{
	certs_make(state);
	struct tls_ctx *ctx = derp_server();
	assert_int_equal(tls_leaf_raw_sha256(ctx, raw), 0);
	tls_ctx_unref(ctx);
	return 0;
}

static struct tls_ctx *client_with(struct tls_client_conf conf)
{
	struct tls_ctx *ctx;

	assert_int_equal(tls_client_ctx_new(&conf, &ctx, certs_error), 0);
	return ctx;
}

static struct tls_ctx *pinned(const uint8_t *raw_pin)
{
	return client_with((struct tls_client_conf){ .raw_pin = raw_pin });
}

/* words NULL: they come together. */
static void meet(struct tls_ctx *server_ctx, struct tls_ctx *client_ctx, const char *name,
                 const char *words)
{
	pair_begin(server_ctx, client_ctx, name);
	pair_shake(0);
	if (!words && client.rc)
		fail_msg("%s", tls_error_text(client.tls));
	if (words && (client.rc != ERR_UNTRUSTED || !strstr(tls_error_text(client.tls), words)))
		fail_msg("\"%s\" is not in \"%s\"", words, tls_error_text(client.tls));
}

static void meet_once(struct tls_ctx *server_ctx, struct tls_ctx *client_ctx, const char *name,
                      const char *words)
{
	meet(server_ctx, client_ctx, name, words);
	pair_done();
}

/* ---- certificates of other servers ---- */

static EVP_PKEY *theirs; /* their key, made with the first of them */

static X509 *cert_of(const char *cn, const char *san, long from_s, long to_s)
{
	X509 *cert = X509_new();

	theirs = theirs ? theirs : EVP_EC_gen("P-256");
	assert_true(cert && theirs);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 77);
	X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(cert), to_s);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
	                           (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, theirs);
	X509_EXTENSION *ext = san ? X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san) :
	                            NULL;
	if (ext)
		X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	assert_true(X509_sign(cert, theirs, EVP_sha256()) > 0);
	return cert;
}

/* A server whose leaf is that one. Takes it. */
static struct tls_ctx *server_of(X509 *leaf, uint8_t raw_out[static TLS_PIN_LEN])
{
	struct tls_ctx *ctx = derp_server();

	assert_int_equal(SSL_CTX_use_certificate(ctx->ssl, leaf), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx->ssl, theirs), 1);
	X509_free(leaf);
	assert_int_equal(tls_leaf_raw_sha256(ctx, raw_out), 0);
	return ctx;
}

/* Puts one more behind what a server shows. Takes it. */
static struct tls_ctx * and (struct tls_ctx * ctx, X509 *cert)
{
	assert_non_null(cert);
	assert_int_equal(SSL_CTX_add1_chain_cert(ctx->ssl, cert), 1);
	X509_free(cert);
	return ctx;
}

static X509 *relays_own(void)
{
	FILE *f = fopen(certs_cert, "r");
	X509 *cert = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;

	assert_non_null(cert);
	fclose(f);
	return cert;
}

/* ---- sha256-raw ---- */

static void the_pinned_certificate_is_trusted_for_its_names_beside_a_meta_certificate(void **state)
{
	static const char *const names[] = { "relay.test", "localhost", "192.0.2.5", "127.0.0.1",
		                             "::1" };
	uint8_t key[KEY_LEN];

	(void)state;
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		meet(derp_server(), pinned(raw), names[i], NULL);
		assert_true(tls_peer_derp_key(client.tls, key));
		pair_done();
	}
	struct tls_ctx *old = pinned(raw);
	SSL_CTX_set_max_proto_version(old->ssl, TLS1_2_VERSION);
	meet_once(derp_server(), old, "relay.test", NULL);
	meet_once(certs_server(NULL), pinned(raw), "relay.test", NULL);
	meet_once(and(derp_server(), cert_of("derpkey2", NULL, -DAY_S, DAY_S)), pinned(raw),
	          "relay.test", NULL);
}

static void the_pinned_certificate_is_refused_for_other_names(void **state)
{
	static const char *const names[] = { "relay.tes", "www.relay.test", "192.0.2.6",
		                             "tunn relay" };
	char words[100];

	(void)state;
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(words, sizeof words, "is not for %s (subjectAltName)", names[i]);
		meet_once(derp_server(), pinned(raw), names[i], words);
	}
}

static void a_common_name_is_no_name(void **state)
{
	uint8_t hash[TLS_PIN_LEN];
	struct tls_ctx *ctx = server_of(cert_of("relay.test", NULL, -DAY_S, DAY_S), hash);

	(void)state;
	meet_once(ctx, pinned(hash), "relay.test", "is not for relay.test");
}

static void another_certificate_than_the_pinned_is_refused_and_shown(void **state)
{
	uint8_t hash[TLS_PIN_LEN], other[TLS_PIN_LEN];
	char hex[2 * TLS_PIN_LEN + 1], words[200];

	(void)state;
	hex_encode(raw, sizeof raw, hex);
	snprintf(words, sizeof words, "sha256-raw:%s, which is not the pinned one", hex);
	for (unsigned i = 0; i < TLS_PIN_LEN; i += 31) {
		memcpy(other, raw, sizeof other);
		other[i] ^= 1;
		meet_once(derp_server(), pinned(other), "relay.test", words);
	}
	/* the same key and names do not help */
	struct tls_ctx *ctx = server_of(cert_of("a", "DNS:relay.test", -DAY_S, DAY_S), hash);
	meet_once(ctx, pinned(hash), "relay.test", NULL);
	ctx = server_of(cert_of("b", "DNS:relay.test", -DAY_S, DAY_S), other);
	meet_once(ctx, pinned(hash), "relay.test", "not the pinned one");
}

static void the_pin_of_a_key_is_not_that_of_a_certificate(void **state)
{
	(void)state;
	meet_once(derp_server(), pinned(certs_pin), "relay.test", "not the pinned one");
	meet_once(derp_server(), certs_client(NULL, raw, NULL), "relay.test", "not the pinned one");
}

static void intermediates_are_refused_with_the_way_out(void **state)
{
	(void)state;
	meet_once(and(derp_server(), cert_of("middle", NULL, -DAY_S, DAY_S)), pinned(raw),
	          "relay.test", "showed 1 more certificates behind the pinned one");
	/* also the pinned one itself once more */
	meet_once(and(derp_server(), relays_own()), pinned(raw), "relay.test", "sha256:HEX");
}

/* Who has the relay's certificate, as everybody has, but not its key. */
static void a_copy_of_the_pinned_certificate_behind_another_leaf_proves_nothing(void **state)
{
	static const char *const names[] = { "derpkey", "derpkey01", "other" };
	uint8_t hash[TLS_PIN_LEN];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct tls_ctx *ctx = server_of(cert_of(names[i], "DNS:relay.test", -DAY_S, DAY_S),
		                                hash);
		meet_once(and(ctx, relays_own()), pinned(raw), "relay.test",
		          i < 2 ? "named as a DERP meta certificate" : "more certificates");
	}
	struct tls_ctx *ctx = server_of(cert_of("derpkey", "DNS:relay.test", -DAY_S, DAY_S), hash);
	meet_once(ctx, pinned(hash), "relay.test", "named as a DERP meta certificate");
}

static void a_pin_lasts_no_longer_than_its_certificate(void **state)
{
	uint8_t hash[TLS_PIN_LEN];
	struct tls_ctx *ctx = server_of(cert_of("x", "DNS:relay.test", -2 * DAY_S, -DAY_S), hash);

	(void)state;
	meet_once(ctx, pinned(hash), "relay.test", "has expired");
	ctx = server_of(cert_of("x", "DNS:relay.test", DAY_S, 2 * DAY_S), hash);
	meet_once(ctx, pinned(hash), "relay.test", "is not valid yet");
	ctx = server_of(cert_of("x", "DNS:relay.test", -60, 3600), hash);
	meet_once(ctx, pinned(hash), "relay.test", NULL);
}

static void with_a_ca_or_the_other_pin_all_must_hold(void **state)
{
	static const uint8_t other[TLS_PIN_LEN] = { 1 };
	struct tls_client_conf conf = { .ca_file = certs_cert, .raw_pin = raw };
	uint8_t hash[TLS_PIN_LEN];

	(void)state;
	meet_once(derp_server(), client_with(conf), "relay.test", NULL);
	struct tls_ctx *ctx = server_of(cert_of("x", "DNS:relay.test", -DAY_S, DAY_S), hash);
	conf.raw_pin = hash;
	meet_once(ctx, client_with(conf), "relay.test", "not trusted");
	conf = (struct tls_client_conf){ .pin = certs_pin, .raw_pin = raw };
	meet_once(derp_server(), client_with(conf), "relay.test", NULL);
	conf.pin = other;
	meet_once(derp_server(), client_with(conf), "relay.test", "showed the key");
	conf = (struct tls_client_conf){ .pin = certs_pin, .raw_pin = other };
	meet_once(derp_server(), client_with(conf), "relay.test", "showed the certificate");
}

static void who_is_refused_stays_refused(void **state)
{
	static const uint8_t other[TLS_PIN_LEN] = { 1 };
	uint8_t key[KEY_LEN];

	(void)state;
	meet(derp_server(), certs_client(NULL, other, NULL), "relay.test", "not the pinned one");
	assert_int_equal(tls_handshake(client.tls, &client.out), ERR_UNTRUSTED);
	assert_false(tls_peer_derp_key(client.tls, key));
	pair_done();
	meet(derp_server(), pinned(other), "relay.test", "not the pinned one");
	assert_int_equal(tls_handshake(client.tls, &client.out), ERR_UNTRUSTED);
	pair_done();
}

/* ---- another name ---- */

static struct tls_ctx *verifying(const char *name)
{
	return client_with((struct tls_client_conf){ .ca_file = certs_cert, .verify_name = name });
}

static void one_name_is_sent_and_another_verified(void **state)
{
	(void)state;
	meet(derp_server(), verifying("relay.test"), "front.test", NULL);
	assert_string_equal(SSL_get_servername(tls_ssl(server.tls), TLSEXT_NAMETYPE_host_name),
	                    "front.test");
	pair_done();
	meet_once(derp_server(), verifying("192.0.2.5"), "front.test", NULL);
	meet(derp_server(), verifying("relay.test"), "203.0.113.9", NULL);
	assert_null(SSL_get_servername(tls_ssl(server.tls), TLSEXT_NAMETYPE_host_name));
	pair_done();
}

static void the_name_that_is_sent_does_not_count_then(void **state)
{
	(void)state;
	meet_once(derp_server(), verifying("other.test"), "relay.test",
	          "hostname mismatch, wanted other.test");
	meet_once(derp_server(), verifying("other.test"), "192.0.2.5", "wanted other.test");
	meet_once(derp_server(), verifying("192.0.2.6"), "relay.test", "IP address mismatch");
	meet_once(derp_server(), verifying("relay.test"), "front.test", NULL);
	meet_once(derp_server(), verifying(""), "front.test", "wanted front.test");
	meet_once(derp_server(), verifying(NULL), "front.test", "wanted front.test");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		                the_pinned_certificate_is_trusted_for_its_names_beside_a_meta_certificate),
		cmocka_unit_test(the_pinned_certificate_is_refused_for_other_names),
		cmocka_unit_test(a_common_name_is_no_name),
		cmocka_unit_test(another_certificate_than_the_pinned_is_refused_and_shown),
		cmocka_unit_test(the_pin_of_a_key_is_not_that_of_a_certificate),
		cmocka_unit_test(intermediates_are_refused_with_the_way_out),
		cmocka_unit_test(
		                a_copy_of_the_pinned_certificate_behind_another_leaf_proves_nothing),
		cmocka_unit_test(a_pin_lasts_no_longer_than_its_certificate),
		cmocka_unit_test(with_a_ca_or_the_other_pin_all_must_hold),
		cmocka_unit_test(who_is_refused_stays_refused),
		cmocka_unit_test(one_name_is_sent_and_another_verified),
		cmocka_unit_test(the_name_that_is_sent_does_not_count_then),
	};
	if (crypto_start() < 0)
		return 1;
	int rc = cmocka_run_group_tests(tests, make, NULL);
	EVP_PKEY_free(theirs);
	return rc;
}
