#include "tests/unit/net/tls_pair.h"

#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/net/tls_impl.h"

static uint8_t first_pin[TLS_PIN_LEN]; /* before any reissue */

static int make_first(void **state)
{
	certs_make(state);
	memcpy(first_pin, certs_pin, sizeof first_pin);
	return 0;
}

static struct tls_ctx *pinned(void) { return certs_client(NULL, certs_pin, certs_h2); }

static void a_handshake_agrees_however_its_bytes_are_cut(void **state)
{
	static const size_t chunks[] = { 0, 1, 2, 5, 100, 1000 };

	(void)state;
	for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
		pair_begin(certs_server(certs_h2), pinned(), "relay.test");
		pair_shake(chunks[i]);
		assert_int_equal(server.rc, 0);
		assert_int_equal(client.rc, 0);
		assert_string_equal(tls_alpn(server.tls), "h2");
		assert_string_equal(tls_alpn(client.tls), "h2");
		assert_string_equal(tls_cipher(client.tls), tls_cipher(server.tls));
		pair_done();
	}
}

static int read_all(struct end *e, struct end *from, uint8_t *to, size_t *len_out)
{
	int n;

	*len_out = 0;
	tls_feed(e->tls, buf_data(&from->out), buf_len(&from->out));
	while ((n = tls_read(e->tls, to + *len_out, TLS_RECORD_MAX, &e->out)) > 0)
		*len_out += (size_t)n;
	buf_clear(&from->out);
	return n;
}

static void what_is_sealed_comes_out_whole(void **state)
{
	static uint8_t in[100000], out[100000 + TLS_RECORD_MAX];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (uint8_t)(i * 13);
	pair_begin(certs_server(certs_h2), pinned(), "relay.test");
	pair_shake(0);
	assert_int_equal(tls_write(client.tls, in, sizeof in, &client.out), 0);
	/* seven records of at most 16 KiB, each 22 bytes longer (TLS 1.3) */
	assert_int_equal(buf_len(&client.out), sizeof in + 7 * 22);
	assert_int_equal(read_all(&server, &client, out, &len), ERR_AGAIN);
	assert_int_equal(len, sizeof in);
	assert_memory_equal(in, out, sizeof in);
	assert_int_equal(tls_write(server.tls, in, 10, &server.out), 0);
	assert_int_equal(read_all(&client, &server, out, &len), ERR_AGAIN);
	assert_int_equal(len, 10);
	pair_done();
}

static void a_goodbye_is_told_as_closed(void **state)
{
	uint8_t out[TLS_RECORD_MAX];
	size_t len;

	(void)state;
	pair_begin(certs_server(certs_h2), pinned(), "relay.test");
	pair_shake(0);
	tls_shutdown(client.tls, &client.out);
	assert_int_equal(read_all(&server, &client, out, &len), ERR_CLOSED);
	pair_done();
}

static void a_damaged_record_ends_the_connection(void **state)
{
	uint8_t out[TLS_RECORD_MAX];
	size_t len;

	(void)state;
	pair_begin(certs_server(certs_h2), pinned(), "relay.test");
	pair_shake(0);
	assert_int_equal(tls_write(client.tls, (const uint8_t *)"hello", 5, &client.out), 0);
	((uint8_t *)(uintptr_t)buf_data(&client.out))[7] ^= 1;
	assert_int_equal(read_all(&server, &client, out, &len), ERR_TLS);
	assert_int_equal(len, 0);
	assert_true(strlen(tls_error_text(server.tls)) > 5);
	pair_done();
}

/* ---- whom a client trusts ---- */

static void assert_trust(struct tls_ctx *ctx, const char *name, bool trusted, const char *words)
{
	pair_begin(certs_server(certs_h2), ctx, name);
	pair_shake(0);
	assert_int_equal(client.rc, trusted ? 0 : ERR_UNTRUSTED);
	if (!trusted && !strstr(tls_error_text(client.tls), words))
		fail_msg("\"%s\" is not in \"%s\"", words, tls_error_text(client.tls));
	pair_done();
}

static void the_pinned_key_is_trusted_whatever_the_name(void **state)
{
	(void)state;
	assert_trust(pinned(), "another.name", true, NULL);
}

static void another_key_than_the_pinned_is_refused_and_shown(void **state)
{
	uint8_t other[TLS_PIN_LEN];
	char hex[2 * TLS_PIN_LEN + 1];

	(void)state;
	memcpy(other, certs_pin, sizeof other);
	other[31] ^= 1;
	hex_encode(certs_pin, TLS_PIN_LEN, hex);
	assert_trust(certs_client(NULL, other, certs_h2), "relay.test", false, hex);
}

static void a_ca_is_trusted_for_the_names_of_the_certificate(void **state)
{
	(void)state;
	assert_trust(certs_client(certs_cert, NULL, certs_h2), "relay.test", true, NULL);
	assert_trust(certs_client(certs_cert, NULL, certs_h2), "localhost", true, NULL);
	assert_trust(certs_client(certs_cert, NULL, certs_h2), "192.0.2.5", true, NULL);
	assert_trust(certs_client(certs_cert, NULL, certs_h2), "::1", true, NULL);
	assert_trust(certs_client(certs_cert, NULL, certs_h2), "other.test", false, "--pin");
	assert_trust(certs_client(certs_cert, NULL, certs_h2), "192.0.2.6", false, "--pin");
}

static void without_pin_or_ca_a_self_signed_relay_is_refused_with_the_way_out(void **state)
{
	(void)state;
	assert_trust(certs_client(NULL, NULL, certs_h2), "relay.test", false, "--ca FILE");
	assert_trust(certs_client(NULL, NULL, certs_h2), "relay.test", false,
	             "tunn relay"); /* the issuer */
}

static void with_pin_and_ca_both_must_hold(void **state)
{
	uint8_t other[TLS_PIN_LEN] = { 1 };

	(void)state;
	assert_trust(certs_client(certs_cert, certs_pin, certs_h2), "relay.test", true, NULL);
	assert_trust(certs_client(certs_cert, certs_pin, certs_h2), "other.test", false, "--pin");
	assert_trust(certs_client(certs_cert, other, certs_h2), "relay.test", false, "pinned");
}

static void only_protocols_in_common_are_spoken(void **state)
{
	static const char *const old[] = { "http/1.1", NULL }, *const both[] = { "h2", "http/1.1",
		                                                                 NULL };

	(void)state;
	pair_begin(certs_server(certs_h2), certs_client(NULL, certs_pin, old), "relay.test");
	pair_shake(0);
	assert_int_equal(server.rc, ERR_TLS);
	pair_done();
	pair_begin(certs_server(both), certs_client(NULL, certs_pin, old), "relay.test");
	pair_shake(0);
	assert_string_equal(tls_alpn(client.tls), "http/1.1");
	pair_done();
	pair_begin(certs_server(both), certs_client(NULL, certs_pin, NULL),
	           "relay.test"); /* none offered */
	pair_shake(0);
	assert_int_equal(client.rc, 0);
	assert_string_equal(tls_alpn(server.tls), "");
	pair_done();
}

static void the_servers_order_of_protocols_counts(void **state)
{
	static const char *const ours[] = { "h2", "http/1.1", NULL }, *const theirs[] = {
		"http/1.1", "h2", NULL
	};

	(void)state;
	pair_begin(certs_server(ours), certs_client(NULL, certs_pin, theirs), "relay.test");
	pair_shake(0);
	assert_string_equal(tls_alpn(client.tls), "h2");
	pair_done();
}

static void tls_1_2_is_spoken_with_ecdhe_and_aead(void **state)
{
	struct tls_ctx *old = pinned();

	(void)state;
	SSL_CTX_set_max_proto_version(old->ssl, TLS1_2_VERSION);
	pair_begin(certs_server(certs_h2), old, "relay.test");
	pair_shake(0);
	assert_int_equal(server.rc, 0);
	assert_int_equal(client.rc, 0);
	assert_int_equal(strncmp(tls_cipher(server.tls), "ECDHE-", 6), 0);
	pair_done();
	old = pinned();
	SSL_CTX_set_max_proto_version(old->ssl, TLS1_2_VERSION);
	assert_int_equal(SSL_CTX_set_cipher_list(old->ssl, "ECDHE-ECDSA-AES128-SHA256"),
	                 1); /* CBC */
	pair_begin(certs_server(certs_h2), old, "relay.test");
	pair_shake(0);
	assert_int_equal(server.rc, ERR_TLS);
	pair_done();
}

static void key_exchanges_that_cost_much_are_refused(void **state)
{
	static const struct {
		const char *groups;
		bool is_served;
	} rows[] = { { "X25519", true },     { "P-256", true },  { "ffdhe8192:P-256", true },
		     { "ffdhe8192", false }, { "P-384", false }, { "P-521", false } };

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tls_ctx *c = pinned();
		assert_int_equal(SSL_CTX_set1_groups_list(c->ssl, rows[i].groups), 1);
		pair_begin(certs_server(certs_h2), c, "relay.test");
		pair_shake(0);
		assert_int_equal(server.rc, rows[i].is_served ? 0 : ERR_TLS);
		pair_done();
	}
}

/* OpenSSL keeps the key of a handshake in its secure heap as long as the connection lives. */
static void keys_of_a_hundred_thousand_connections_have_room(void **state)
{
	enum { N = 100000 };
	void **key = calloc(N, sizeof *key);
	size_t before, each;

	(void)state;
	assert_non_null(key);
	pair_begin(certs_server(certs_h2), pinned(), "relay.test");
	before = CRYPTO_secure_used();
	pair_shake(0);
	each = CRYPTO_secure_used() - before; /* of both sides */
	for (unsigned i = 0; i < N; i++)
		assert_non_null(key[i] = OPENSSL_secure_malloc(each / 2));
	for (unsigned i = 0; i < N; i++)
		OPENSSL_secure_free(key[i]);
	free(key);
	pair_done();
}

static void older_than_tls_1_2_is_refused(void **state)
{
	struct tls_ctx *old = pinned();

	(void)state;
	SSL_CTX_set_min_proto_version(old->ssl, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(old->ssl, TLS1_1_VERSION);
	SSL_CTX_set_cipher_list(old->ssl, "ALL:@SECLEVEL=0");
	pair_begin(certs_server(certs_h2), old, "relay.test");
	pair_shake(0);
	assert_int_equal(server.rc, ERR_TLS);
	assert_non_null(strstr(tls_error_text(server.tls), "protocol"));
	pair_done();
}

static void garbage_instead_of_a_handshake_is_refused_in_words(void **state)
{
	static const uint8_t garbage[] = "GET / HTTP/1.1\r\nHost: relay.test\r\n\r\n";

	(void)state;
	pair_begin(certs_server(certs_h2), pinned(), "relay.test");
	tls_feed(server.tls, garbage, sizeof garbage - 1);
	assert_int_equal(tls_handshake(server.tls, &server.out), ERR_TLS);
	assert_true(strlen(tls_error_text(server.tls)) > 5);
	pair_done();
}

/* ---- files ---- */

static void assert_no_server(const char *cert, const char *key, const char *words)
{
	struct tls_server_conf conf = { .cert_file = cert, .key_file = key, .alpn = certs_h2 };

	certs_refused(&conf, words);
}

static void bad_files_are_named(void **state)
{
	(void)state;
	assert_no_server("/nowhere/cert.pem", certs_key, "/nowhere/cert.pem");
	assert_no_server(certs_cert, "/nowhere/key.pem", "/nowhere/key.pem");
	assert_no_server(file_with("garbage", "no PEM\n"), certs_key, "garbage");
	assert_no_server(certs_cert, file_with("garbage", "no PEM\n"), "garbage");
}

static void an_unusable_ca_file_is_named(void **state)
{
	struct tls_client_conf conf = { .ca_file = "/nowhere/ca.pem", .alpn = certs_h2 };
	struct tls_ctx *ctx;

	(void)state;
	assert_int_equal(tls_client_ctx_new(&conf, &ctx, certs_error), ERR_CONFIG);
	assert_non_null(strstr(certs_error, "/nowhere/ca.pem"));
}

/* ---- our own certificate ---- */

static void the_certificate_is_kept(void **state)
{
	struct stat before, after;
	const char *dir = file_path("");

	(void)state;
	assert_int_equal(stat(certs_cert, &before), 0);
	assert_int_equal(cert_ensure(dir, NULL, 0, certs_error), 0);
	assert_int_equal(stat(certs_cert, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(stat(certs_key, &after), 0);
	assert_int_equal(after.st_mode & 0777, 0600);
}

static void a_name_that_is_new_is_in_the_certificate_from_then_on(void **state)
{
	static const char *const names[] = { "new.example", "2001:db8::7" };
	struct tls_server_conf conf = {
		.cert_file = certs_cert, .key_file = certs_key, .names = names, .n_names = 2
	};
	struct tls_ctx *ctx;

	(void)state;
	certs_refused(&conf, "is not for new.example");
	assert_int_equal(cert_ensure(file_path(""), names, 2, certs_error), 0);
	assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
	tls_ctx_unref(ctx);
	assert_int_equal(cert_pin_of_file(certs_cert, certs_pin, certs_error), 0);
	assert_memory_equal(certs_pin, first_pin, sizeof first_pin);
	certs_make(NULL);
}

/* As many and as long as the options let through. */
static void no_name_is_left_out_of_the_certificate(void **state)
{
	static char text[32][254];
	const char *names[32];
	struct tls_server_conf conf = {
		.cert_file = certs_cert, .key_file = certs_key, .names = names, .n_names = 32
	};
	struct tls_ctx *ctx;

	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		memset(text[i], 'a' + (int)(i % 26), 253);
		for (unsigned k = 50; k < 250; k += 50)
			text[i][k] = '.';
		text[i][0] = (char)('a' + i / 26);
		names[i] = text[i];
	}
	assert_int_equal(cert_ensure(file_path(""), names, 32, certs_error), 0);
	assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
	tls_ctx_unref(ctx);
	certs_make(NULL);
}

static void a_reissue_keeps_the_key_and_so_the_pin(void **state)
{
	uint8_t pin[TLS_PIN_LEN];

	(void)state;
	assert_int_equal(unlink(certs_cert), 0);
	certs_make(NULL);
	assert_int_equal(cert_pin_of_file(certs_cert, pin, certs_error), 0);
	assert_memory_equal(pin, first_pin, sizeof pin);
	file_with("tls-cert.pem", "damaged\n"); /* also where it cannot be read */
	certs_make(NULL);
	assert_int_equal(cert_pin_of_file(certs_cert, pin, certs_error), 0);
	assert_memory_equal(pin, first_pin, sizeof pin);
}

/* Valid from yesterday until an hour ago, of our own key. */
static void write_expired(void)
{
	FILE *f = fopen(certs_key, "r");
	EVP_PKEY *key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
	X509 *cert = X509_new();

	assert_true(key && cert);
	fclose(f);
	X509_gmtime_adj(X509_getm_notBefore(cert), -86400);
	X509_gmtime_adj(X509_getm_notAfter(cert), -3600);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	f = fopen(certs_cert, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, cert), 1);
	fclose(f);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void an_expired_certificate_is_refused_and_issued_anew_for_the_same_key(void **state)
{
	uint8_t pin[TLS_PIN_LEN];

	(void)state;
	write_expired();
	assert_no_server(certs_cert, certs_key, "expired");
	assert_non_null(strstr(certs_error, certs_cert));
	certs_make(NULL);
	tls_ctx_unref(certs_server(certs_h2)); /* asserts that it can be used */
	assert_int_equal(cert_pin_of_file(certs_cert, pin, certs_error), 0);
	assert_memory_equal(pin, first_pin, sizeof pin);
}

/* Else TLS would not start: the pair is what is used. */
static void a_certificate_of_another_key_is_issued_anew(void **state)
{
	char command[900];

	(void)state;
	snprintf(command, sizeof command,
	         "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x "
	         "-keyout %s.tmp -out %s >/dev/null 2>&1",
	         certs_cert, certs_cert);
	assert_int_equal(system(command), 0);
	assert_no_server(certs_cert, certs_key, "does not belong");
	certs_make(NULL);
	tls_ctx_unref(certs_server(certs_h2));
	assert_memory_equal(certs_pin, first_pin, sizeof first_pin);
}

static void a_certificate_that_cannot_be_read_has_no_pin(void **state)
{
	uint8_t pin[TLS_PIN_LEN];

	(void)state;
	assert_true(cert_pin_of_file("/nowhere/cert.pem", pin, certs_error) < 0);
	assert_non_null(strstr(certs_error, "/nowhere/cert.pem"));
	assert_true(cert_pin_of_file(file_with("no.pem", "no PEM\n"), pin, certs_error) < 0);
	assert_non_null(strstr(certs_error, "no.pem"));
}

static void a_damaged_key_is_never_replaced(void **state)
{
	char dir[256], command[600], key[300];
	struct stat st;

	(void)state;
	snprintf(dir, sizeof dir, "%s", file_path("damaged"));
	snprintf(command, sizeof command, "mkdir %s", dir);
	assert_int_equal(system(command), 0);
	snprintf(key, sizeof key, "%s/tls-key.pem", dir);
	file_with("damaged/tls-key.pem", "not a key\n");
	assert_true(cert_ensure(dir, NULL, 0, certs_error) < 0);
	assert_non_null(strstr(certs_error, key));
	assert_int_equal(stat(key, &st), 0);
	assert_int_equal(st.st_size, 10);
}

static void an_unwritable_directory_is_named(void **state)
{
	(void)state;
	assert_true(cert_ensure("/proc/self/nowhere", NULL, 0, certs_error) < 0);
	assert_non_null(strstr(certs_error, "/proc/self/nowhere"));
}

/* By the openssl program, as an operator would look at it. */
static void the_certificate_is_what_the_manual_says(void **state)
{
	static const char *const lines[] = { "prime256v1",
		                             "DNS:localhost",
		                             "DNS:relay.test",
		                             "IP Address:192.0.2.5",
		                             "TLS Web Server Authentication",
		                             "CA:FALSE" };
	char command[700], text[16384];

	(void)state;
	snprintf(command, sizeof command, "openssl x509 -in %s -noout -text -checkend %lu",
	         certs_cert, 3600ul * 24 * 3650);
	FILE *f = popen(command, "r");
	assert_non_null(f);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	assert_int_equal(pclose(f), 0); /* ten years */
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		if (!strstr(text, lines[i]))
			fail_msg("no %s in\n%s", lines[i], text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_handshake_agrees_however_its_bytes_are_cut),
		cmocka_unit_test(what_is_sealed_comes_out_whole),
		cmocka_unit_test(a_goodbye_is_told_as_closed),
		cmocka_unit_test(a_damaged_record_ends_the_connection),
		cmocka_unit_test(the_pinned_key_is_trusted_whatever_the_name),
		cmocka_unit_test(another_key_than_the_pinned_is_refused_and_shown),
		cmocka_unit_test(a_ca_is_trusted_for_the_names_of_the_certificate),
		cmocka_unit_test(without_pin_or_ca_a_self_signed_relay_is_refused_with_the_way_out),
		cmocka_unit_test(with_pin_and_ca_both_must_hold),
		cmocka_unit_test(only_protocols_in_common_are_spoken),
		cmocka_unit_test(the_servers_order_of_protocols_counts),
		cmocka_unit_test(tls_1_2_is_spoken_with_ecdhe_and_aead),
		cmocka_unit_test(key_exchanges_that_cost_much_are_refused),
		cmocka_unit_test(keys_of_a_hundred_thousand_connections_have_room),
		cmocka_unit_test(older_than_tls_1_2_is_refused),
		cmocka_unit_test(garbage_instead_of_a_handshake_is_refused_in_words),
		cmocka_unit_test(bad_files_are_named),
		cmocka_unit_test(an_unusable_ca_file_is_named),
		cmocka_unit_test(the_certificate_is_kept),
		cmocka_unit_test(a_name_that_is_new_is_in_the_certificate_from_then_on),
		cmocka_unit_test(no_name_is_left_out_of_the_certificate),
		cmocka_unit_test(a_reissue_keeps_the_key_and_so_the_pin),
		cmocka_unit_test(
		                an_expired_certificate_is_refused_and_issued_anew_for_the_same_key),
		cmocka_unit_test(a_certificate_of_another_key_is_issued_anew),
		cmocka_unit_test(a_certificate_that_cannot_be_read_has_no_pin),
		cmocka_unit_test(a_damaged_key_is_never_replaced),
		cmocka_unit_test(an_unwritable_directory_is_named),
		cmocka_unit_test(the_certificate_is_what_the_manual_says),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, make_first, NULL);
}
