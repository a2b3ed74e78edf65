/* The certificate that tells a DERP server's key, and who reads it. */
#include "tests/unit/net/tls_pair.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "common/base/crypto.h"
#include "common/net/tls_impl.h"
#include "common/net/tls_meta.h"

#define HEX "00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f"

static uint8_t key[KEY_LEN];

static int make(void **state)
{
	assert_int_equal(hex_decode(STR(HEX), key, sizeof key), 0);
	return certs_make(state);
}

static struct tls_ctx *derp_server(const uint8_t *derp_public)
{
	struct tls_server_conf conf = { .cert_file = certs_cert,
		                        .key_file = certs_key,
		                        .derp_public = derp_public };
	struct tls_ctx *ctx;

	assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
	return ctx;
}

static struct tls_ctx *pinned(void) { return certs_client(NULL, certs_pin, NULL); }

static struct tls_ctx *only(int version, struct tls_ctx *ctx)
{
	SSL_CTX_set_max_proto_version(ctx->ssl, version);
	return ctx;
}

static void connect_to(struct tls_ctx *server_ctx, int version)
{
	pair_begin(server_ctx, only(version, pinned()), "relay.test");
	pair_shake(0);
	assert_int_equal(server.rc, 0);
	assert_int_equal(client.rc, 0);
}

/* ---- how it is made ---- */

static size_t put(uint8_t *to, size_t at, const char *hex)
{
	size_t n = strlen(hex) / 2;

	assert_int_equal(hex_decode(str_of(hex), to + at, n), 0);
	return at + n;
}

#define NAME /* one CN, a PrintableString of 71 characters: derpkey and HEX */                     \
	"30523150304e06035504031347"                                                               \
	"646572706b6579"                                                                           \
	"3030313132323333343435353636373738383939616162626363646465656666"                         \
	"3130323133323433353436353736383739386139626163626463656466653066"
#define TIME "00000000000000000000000000"

/* What cannot be known before is zero here and in what is compared. */
static size_t expected(uint8_t der[static 512])
{
	size_t at = put(der, 0,
	                "30820163"
	                "30820115");

	at = put(der, at,
	         "a003020102"
	         "020102"
	         "300506032b6570"); /* v3, serial 2, Ed25519 */
	at = put(der, at, NAME);
	at = put(der, at,
	         "301e"
	         "170d" TIME "170d" TIME);
	at = put(der, at, NAME);
	at = put(der, at, "302a300506032b6570032100");
	memset(der + at, 0, 32);
	at = put(der, at + 32,
	         "a310300e"
	         "300c0603551d130101ff04023000");
	at = put(der, at,
	         "300506032b6570"
	         "034100");
	memset(der + at, 0, 64);
	return at + 64;
}

static void every_byte_but_key_dates_and_signature_is_that_of_the_original(void **state)
{
	enum { DATES = 111, DATE = 13, KEY = 235, SIGNATURE = 295 };
	X509 *cert = tls_meta_new(key);
	uint8_t want[512], *der = NULL;

	(void)state;
	assert_non_null(cert);
	size_t n = (size_t)i2d_X509(cert, &der);
	assert_int_equal(expected(want), n);
	assert_int_equal(n, 359);
	assert_true(der[KEY] || der[KEY + 1] || der[KEY + 2]);
	memset(der + DATES, 0, DATE);
	memset(der + DATES + DATE + 2, 0, DATE);
	memset(der + KEY, 0, 32);
	memset(der + SIGNATURE, 0, 64);
	assert_memory_equal(der, want, n);
	OPENSSL_free(der);
	X509_free(cert);
}

static void it_is_signed_with_its_own_key(void **state)
{
	X509 *cert = tls_meta_new(key);

	(void)state;
	assert_non_null(cert);
	assert_int_equal(EVP_PKEY_get_base_id(X509_get0_pubkey(cert)), EVP_PKEY_ED25519);
	assert_int_equal(X509_verify(cert, X509_get0_pubkey(cert)), 1);
	X509_free(cert);
}

static void it_is_valid_from_thirty_days_before_to_thirty_days_after(void **state)
{
	X509 *cert = tls_meta_new(key);
	int days, seconds;

	(void)state;
	assert_non_null(cert);
	assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(cert), NULL), 1);
	assert_int_equal(days, 30);
	assert_in_range(seconds, 0, 3600);
	assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(cert),
	                                X509_get0_notAfter(cert)),
	                 1);
	assert_int_equal(days, 60);
	assert_in_range(seconds, 0, 1);
	X509_free(cert);
}

static void it_is_made_once_for_a_key(void **state)
{
	uint8_t other[KEY_LEN] = { 1 };
	X509 *a = tls_meta_new(key), *b = tls_meta_new(key), *c = tls_meta_new(other);

	(void)state;
	assert_true(a && b && c);
	assert_ptr_equal(a, b);
	assert_int_not_equal(X509_cmp(a, c), 0);
	X509_free(a);
	X509_free(b);
	X509_free(c);
}

/* ---- how it is sent ---- */

static void it_comes_behind_the_leaf_in_both_versions(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		connect_to(derp_server(key), versions[i]);
		assert_int_equal(SSL_version(tls_ssl(client.tls)), versions[i]);
		STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls_ssl(client.tls));
		assert_int_equal(sk_X509_num(chain), 2);
		assert_false(tls_is_meta(sk_X509_value(chain, 0)));
		assert_true(tls_is_meta(sk_X509_value(chain, 1)));
		pair_done();
	}
}

static void a_server_without_a_derp_key_sends_none(void **state)
{
	uint8_t got[KEY_LEN] = { 7 };

	(void)state;
	connect_to(derp_server(NULL), TLS1_3_VERSION);
	assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(tls_ssl(client.tls))), 1);
	assert_false(tls_peer_derp_key(client.tls, got));
	assert_int_equal(got[0], 7);
	pair_done();
}

/* The one who has a CA, or a pin of the key, looks at the leaf alone. */
static void those_who_do_not_know_it_are_not_disturbed(void **state)
{
	(void)state;
	pair_begin(derp_server(key), certs_client(certs_cert, certs_pin, NULL), "relay.test");
	pair_shake(0);
	assert_int_equal(client.rc, 0);
	pair_done();
}

static void the_openssl_program_shows_what_derp_clients_look_for(void **state)
{
	X509 *cert = tls_meta_new(key);
	char command[600], text[8192];

	(void)state;
	assert_non_null(cert);
	FILE *f = fopen(file_path("meta.pem"), "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, cert), 1);
	fclose(f);
	X509_free(cert);
	snprintf(command, sizeof command, "openssl x509 -in %s -noout -text -nameopt RFC2253",
	         file_path("meta.pem"));
	f = popen(command, "r");
	assert_non_null(f);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	assert_int_equal(pclose(f), 0);
	assert_non_null(strstr(text, "Serial Number: 2 (0x2)"));
	assert_non_null(strstr(text, "Subject: CN=derpkey" HEX));
	assert_non_null(strstr(text, "Issuer: CN=derpkey" HEX));
	assert_non_null(strstr(text, "X509v3 Basic Constraints: critical"));
	assert_null(strstr(text, "Key Identifier"));
}

/* ---- who reads it ---- */

static void a_client_learns_the_key(void **state)
{
	uint8_t got[KEY_LEN];

	(void)state;
	connect_to(derp_server(key), TLS1_3_VERSION);
	assert_true(tls_peer_derp_key(client.tls, got));
	assert_memory_equal(got, key, KEY_LEN);
	assert_false(tls_peer_derp_key(server.tls, got)); /* clients have none */
	pair_done();
}

static void it_is_not_looked_at_before_1_3_nor_before_the_handshake_is_over(void **state)
{
	uint8_t got[KEY_LEN];

	(void)state;
	connect_to(derp_server(key), TLS1_2_VERSION);
	assert_false(tls_peer_derp_key(client.tls, got));
	pair_done();
	pair_begin(derp_server(key), pinned(), "relay.test");
	assert_false(tls_peer_derp_key(client.tls, got));
	pair_step(&client, &server, 0);
	assert_false(tls_peer_derp_key(client.tls, got));
	pair_done();
}

/* As others may make it: with that name, of that type, with that serial number. */
static X509 *odd(const char *cn, int type, int64_t serial)
{
	EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	X509 *cert = X509_new();

	assert_true(k && cert);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set_int64(X509_get_serialNumber(cert), serial);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_NID(X509_get_subject_name(cert), NID_commonName, type,
	                           (const unsigned char *)cn, (int)strlen(cn), -1, 0);
	X509_set_pubkey(cert, k);
	assert_true(X509_sign(cert, k, NULL) > 0);
	EVP_PKEY_free(k);
	return cert;
}

static bool find(X509 *a, X509 *b, uint8_t got[static KEY_LEN])
{
	STACK_OF(X509) *chain = sk_X509_new_null();

	assert_true(chain && sk_X509_push(chain, a) && (!b || sk_X509_push(chain, b)));
	bool found = tls_meta_find(chain, got);
	sk_X509_pop_free(chain, X509_free);
	return found;
}

static void other_servers_ones_are_read_as_the_original_reads_them(void **state)
{
	static const struct {
		const char *cn;
		int type;
		int64_t serial;
		bool is_read;
	} rows[] = {
		{ "derpkey" HEX, V_ASN1_UTF8STRING, 2, true },
		{ "derpkey" HEX, V_ASN1_PRINTABLESTRING, 1, true },
		{ "derpkey" HEX, V_ASN1_PRINTABLESTRING, 255, true },
		{ "derpkey00112233445566778899AABBCCDDEEFF102132435465768798a9BaCbDcEdFe0F",
		  V_ASN1_PRINTABLESTRING, 2, true },
		{ "derpkey" HEX, V_ASN1_PRINTABLESTRING, 256, false },
		{ "derpkey" HEX, V_ASN1_PRINTABLESTRING, 0, false },
		{ "derpkey" HEX, V_ASN1_PRINTABLESTRING, -2, false },
		{ "derpkey" HEX, V_ASN1_PRINTABLESTRING, INT64_MAX, false },
		{ "derpkey" HEX "0", V_ASN1_PRINTABLESTRING, 2, false },
		{ "derpkey0011", V_ASN1_PRINTABLESTRING, 2, false },
		{ "derpkey", V_ASN1_PRINTABLESTRING, 2, false },
		{ "derpke", V_ASN1_PRINTABLESTRING, 2, false },
		{ "", V_ASN1_UTF8STRING, 2, false },
		{ "Derpkey" HEX, V_ASN1_PRINTABLESTRING, 2, false },
		{ "xderpkey" HEX, V_ASN1_PRINTABLESTRING, 2, false },
		{ "derpkey 0112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f",
		  V_ASN1_PRINTABLESTRING, 2, false },
		{ "derpkeyg0112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f",
		  V_ASN1_PRINTABLESTRING, 2, false },
		{ "derpkey0000000000000000000000000000000000000000000000000000000000000000",
		  V_ASN1_PRINTABLESTRING, 2, false },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint8_t got[KEY_LEN] = { 9, 9 }, same[KEY_LEN] = { 9, 9 };
		bool found = find(odd(rows[i].cn, rows[i].type, rows[i].serial), NULL, got);
		if (found != rows[i].is_read || memcmp(got, found ? key : same, sizeof got) != 0)
			fail_msg("%s, serial %ld", rows[i].cn, (long)rows[i].serial);
	}
	assert_false(tls_meta_find(NULL, (uint8_t[KEY_LEN]){ 0 }));
}

static void the_first_that_can_be_read_counts(void **state)
{
	uint8_t got[KEY_LEN];
	char other[] = "derpkey" HEX;

	(void)state;
	other[7] = 'f';
	assert_true(find(odd("derpkeyxx", V_ASN1_UTF8STRING, 2),
	                 odd("derpkey" HEX, V_ASN1_UTF8STRING, 2), got));
	assert_memory_equal(got, key, KEY_LEN);
	assert_true(find(odd(other, V_ASN1_UTF8STRING, 300),
	                 odd("derpkey" HEX, V_ASN1_UTF8STRING, 2), got));
	assert_memory_equal(got, key, KEY_LEN);
	assert_true(find(odd(other, V_ASN1_UTF8STRING, 2), odd("derpkey" HEX, V_ASN1_UTF8STRING, 2),
	                 got));
	assert_int_equal(got[0], 0xf0);
	/* one that says "none" ends the search, too */
	assert_false(find(odd(other, V_ASN1_UTF8STRING, 0),
	                  odd("derpkey" HEX, V_ASN1_UTF8STRING, 2), got));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_but_key_dates_and_signature_is_that_of_the_original),
		cmocka_unit_test(it_is_signed_with_its_own_key),
		cmocka_unit_test(it_is_valid_from_thirty_days_before_to_thirty_days_after),
		cmocka_unit_test(it_is_made_once_for_a_key),
		cmocka_unit_test(it_comes_behind_the_leaf_in_both_versions),
		cmocka_unit_test(a_server_without_a_derp_key_sends_none),
		cmocka_unit_test(those_who_do_not_know_it_are_not_disturbed),
		cmocka_unit_test(the_openssl_program_shows_what_derp_clients_look_for),
		cmocka_unit_test(a_client_learns_the_key),
		cmocka_unit_test(it_is_not_looked_at_before_1_3_nor_before_the_handshake_is_over),
		cmocka_unit_test(other_servers_ones_are_read_as_the_original_reads_them),
		cmocka_unit_test(the_first_that_can_be_read_counts),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, make, NULL);
}
