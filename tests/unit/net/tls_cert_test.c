/* Certificates that an operator gives: chains made by the openssl program. */
#include "tests/unit/net/tls_pair.h"

#include "common/base/crypto.h"
#include "common/net/tls_impl.h"
#include "common/net/tls_meta.h"

static char dir[256];
static struct tls_server_conf conf;

static void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void sh(const char *fmt, ...)
{
	char command[2000];
	va_list ap;

	int n = snprintf(command, sizeof command, "umask 077; cd %s && ", dir);
	va_start(ap, fmt);
	vsnprintf(command + n, sizeof command - (size_t)n, fmt, ap);
	va_end(ap);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

/* NAME.pem and NAME.key, signed by the one whose words are in `by`. */
static void make(const char *name, const char *ext, const char *by)
{
	sh("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=%s "
	   "-keyout %s.key -out %s.csr 2>out && echo %s > ext && "
	   "openssl x509 -req -in %s.csr -days 30 %s -extfile ext -out %s.pem 2>>out",
	   name, name, name, ext, name, by, name);
}

static int make_all(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "%s", file_path(""));
	make("root", "basicConstraints=CA:TRUE", "-signkey root.key");
	make("middle", "basicConstraints=CA:TRUE", "-CA root.pem -CAkey root.key -CAcreateserial");
	make("leaf", "'subjectAltName=DNS:relay.test,DNS:*.wild.test,IP:192.0.2.5'",
	     "-CA middle.pem -CAkey middle.key -CAcreateserial");
	sh("cat leaf.pem middle.pem > chain.pem && cat leaf.pem middle.pem root.pem > whole.pem && "
	   "cat middle.pem leaf.pem > reversed.pem && cat leaf.pem root.pem middle.pem > mixed.pem");
	return 0;
}

static const char *at(const char *name)
{
	static char paths[4][300];
	static unsigned i;
	char *path = paths[i++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", dir, name);
	return path;
}

static struct tls_server_conf *with(const char *cert, const char *key)
{
	conf = (struct tls_server_conf){ .cert_file = at(cert),
		                         .key_file = at(key),
		                         .alpn = certs_h2 };
	return &conf;
}

static void assert_accepted(struct tls_server_conf *c)
{
	struct tls_ctx *ctx;

	if (tls_server_ctx_new(c, &ctx, certs_error))
		fail_msg("%s", certs_error);
	tls_ctx_unref(ctx);
}

static void C19_a_chain_in_order_is_accepted_with_or_without_its_root(void **state)
{
	(void)state;
	assert_accepted(with("chain.pem", "leaf.key"));
	assert_accepted(with("whole.pem", "leaf.key"));
	assert_accepted(with("root.pem", "root.key")); /* its own issuer */
}

static void C19_a_chain_out_of_order_is_refused(void **state)
{
	(void)state;
	certs_refused(with("reversed.pem", "leaf.key"),
	              "out of order: the first one is an authority's");
	certs_refused(with("mixed.pem", "leaf.key"),
	              "out of order: number 2 must be that of /CN=middle");
}

static void C19_a_leaf_without_its_issuer_is_refused(void **state)
{
	(void)state;
	certs_refused(with("leaf.pem", "leaf.key"),
	              "stands alone: append that of its issuer /CN=middle");
}

static void a_meta_certificate_goes_behind_all_that_the_file_has(void **state)
{
	static const uint8_t derp_public[KEY_LEN] = { 1, 2, 3 };
	struct {
		const char *file;
		int n;
	} rows[] = { { "chain.pem", 3 }, { "whole.pem", 4 } };
	uint8_t got[KEY_LEN];
	struct tls_ctx *ctx;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		with(rows[i].file, "leaf.key")->derp_public = derp_public;
		assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
		pair_begin(ctx, certs_client(at("root.pem"), NULL, certs_h2), "relay.test");
		pair_shake(0);
		assert_int_equal(client.rc, 0);
		STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls_ssl(client.tls));
		assert_int_equal(sk_X509_num(chain), rows[i].n);
		for (int k = 0; k < rows[i].n; k++)
			assert_int_equal(tls_is_meta(sk_X509_value(chain, k)), k == rows[i].n - 1);
		assert_true(tls_peer_derp_key(client.tls, got));
		assert_memory_equal(got, derp_public, KEY_LEN);
		pair_done();
	}
}

static void only_a_certificate_that_is_sent_alone_can_be_pinned_raw(void **state)
{
	static const uint8_t derp_public[KEY_LEN] = { 1, 2, 3 };
	uint8_t hash[TLS_PIN_LEN];
	char hex[2 * TLS_PIN_LEN + 1];
	struct tls_ctx *ctx;

	(void)state;
	with("root.pem", "root.key")->derp_public = derp_public;
	assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
	assert_int_equal(tls_leaf_raw_sha256(ctx, hash), 0);
	hex_encode(hash, sizeof hash, hex);
	sh("openssl x509 -in root.pem -outform DER | sha256sum | grep -q '^%s '", hex);
	tls_ctx_unref(ctx);
	assert_int_equal(tls_server_ctx_new(with("chain.pem", "leaf.key"), &ctx, certs_error), 0);
	assert_int_equal(tls_leaf_raw_sha256(ctx, hash), ERR_INVALID);
	tls_ctx_unref(ctx);
}

static void C19_pkcs12_is_told_with_the_way_out(void **state)
{
	(void)state;
	sh("openssl pkcs12 -export -in chain.pem -inkey leaf.key -passout pass:x -out both.p12");
	certs_refused(with("both.p12", "leaf.key"), "is PKCS#12, not PEM: openssl pkcs12 -in FILE");
	certs_refused(with("chain.pem", "both.p12"), "is PKCS#12, not PEM");
}

static void C19_a_key_with_a_passphrase_is_refused_without_asking(void **state)
{
	(void)state;
	sh("openssl ec -in leaf.key -aes128 -passout pass:x -out locked.key 2>out");
	certs_refused(with("chain.pem", "locked.key"), "has a passphrase: store it without one");
}

static void C18_a_key_of_another_certificate_is_refused(void **state)
{
	(void)state;
	certs_refused(with("chain.pem", "root.key"), "does not belong");
	sh("openssl genrsa -out rsa.key 2048 2>out");
	certs_refused(with("chain.pem", "rsa.key"), "does not belong");
}

static void C18_a_certificate_for_another_name_is_refused(void **state)
{
	static const char *const good[] = { "relay.test", "192.0.2.5", "a.wild.test" };
	static const char *const bad[] = { "relay.tes", "b.a.wild.test", "192.0.2.6", "::1" };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		with("chain.pem", "leaf.key")->names = &good[i];
		conf.n_names = 1;
		assert_accepted(&conf);
	}
	for (unsigned i = 0; i < 4; i++) {
		with("chain.pem", "leaf.key")->names = &bad[i];
		conf.n_names = 1;
		certs_refused(&conf, "is not for ");
		assert_non_null(strstr(certs_error, bad[i]));
	}
}

/* Dates by hand: this openssl program makes none in the past. */
static void dated(const char *from, const char *to)
{
	sh("rm -rf ca && mkdir ca && touch ca/index && echo 01 > ca/serial && "
	   "printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=ca/index\\nserial=ca/serial\\n"
	   "new_certs_dir=ca\\ndefault_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' > ca/cnf && "
	   "openssl ca -batch -config ca/cnf -selfsign -keyfile leaf.key -in leaf.csr -startdate %s "
	   "-enddate %s -out dated.pem -notext >out 2>&1",
	   from, to);
}

static void C18_expired_or_not_yet_valid_is_refused(void **state)
{
	(void)state;
	dated("20200101000000Z", "20210101000000Z");
	certs_refused(with("dated.pem", "leaf.key"), "has expired");
	with("dated.pem", "leaf.key")->allow_expired = true;
	assert_accepted(&conf);
	dated("20900101000000Z", "20910101000000Z");
	with("dated.pem", "leaf.key")->allow_expired = true;
	certs_refused(&conf, "is not valid yet");
}

static void C17_a_key_that_others_may_read_is_refused(void **state)
{
	(void)state;
	sh("cp leaf.key open.key");
	static const unsigned modes[] = { 0644, 0640, 0604, 0660 };
	for (unsigned i = 0; i < 4; i++) {
		sh("chmod %o open.key", modes[i]);
		certs_refused(with("chain.pem", "open.key"), "too open");
	}
	sh("chmod 400 open.key");
	assert_accepted(with("chain.pem", "open.key"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(C19_a_chain_in_order_is_accepted_with_or_without_its_root),
		cmocka_unit_test(C19_a_chain_out_of_order_is_refused),
		cmocka_unit_test(C19_a_leaf_without_its_issuer_is_refused),
		cmocka_unit_test(a_meta_certificate_goes_behind_all_that_the_file_has),
		cmocka_unit_test(only_a_certificate_that_is_sent_alone_can_be_pinned_raw),
		cmocka_unit_test(C19_pkcs12_is_told_with_the_way_out),
		cmocka_unit_test(C19_a_key_with_a_passphrase_is_refused_without_asking),
		cmocka_unit_test(C18_a_key_of_another_certificate_is_refused),
		cmocka_unit_test(C18_a_certificate_for_another_name_is_refused),
		cmocka_unit_test(C18_expired_or_not_yet_valid_is_refused),
		cmocka_unit_test(C17_a_key_that_others_may_read_is_refused),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, make_all, NULL);
}
