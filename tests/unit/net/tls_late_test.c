/* What a client of another make may ask for after the handshake (H32). */
#include "tests/unit/net/certs.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

static struct tls *server;
static struct tls_ctx *server_ctx;
static SSL_CTX *client_ctx;
static SSL *client;
static BIO *to_client, *from_client;

static void begin(int version)
{
	server_ctx = certs_server(NULL);
	assert_int_equal(tls_new(server_ctx, NULL, &server), 0);
	client_ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_min_proto_version(client_ctx, version);
	SSL_CTX_set_max_proto_version(client_ctx, version);
	client = SSL_new(client_ctx);
	to_client = BIO_new(BIO_s_mem());
	from_client = BIO_new(BIO_s_mem());
	SSL_set_bio(client, to_client, from_client);
	SSL_set_connect_state(client);
}

static int tear_down(void **state)
{
	(void)state;
	SSL_free(client);
	SSL_CTX_free(client_ctx);
	tls_free(server);
	tls_ctx_unref(server_ctx);
	return 0;
}

/* What the client has said goes through `how`, the answer back. */
static int serve(int (*how)(struct buf *out))
{
	struct buf out = { 0 };
	char *data;
	long len = BIO_get_mem_data(from_client, &data);

	tls_feed(server, (const uint8_t *)data, (size_t)len);
	int rc = how(&out);
	(void)BIO_reset(from_client);
	BIO_write(to_client, buf_data(&out), (int)buf_len(&out));
	buf_done(&out);
	return rc;
}

static int handshake(struct buf *out) { return tls_handshake(server, out); }

static int read_on(struct buf *out)
{
	static uint8_t plain[TLS_RECORD_MAX];
	int n;

	while ((n = tls_read(server, plain, sizeof plain, out)) > 0)
		;
	return n;
}

static void shake(void)
{
	int rc = ERR_AGAIN;

	for (unsigned i = 0; i < 5 && rc == ERR_AGAIN; i++) {
		SSL_do_handshake(client);
		rc = serve(handshake);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(SSL_do_handshake(client), 1);
}

static void H32_renegotiation_is_refused_and_the_connection_goes_on(void **state)
{
	(void)state;
	begin(TLS1_2_VERSION);
	shake();
	assert_int_equal(SSL_renegotiate(client), 1);
	assert_int_equal(SSL_do_handshake(client), -1);
	assert_int_equal(serve(read_on), ERR_AGAIN);
	ERR_clear_error();
	assert_int_equal(SSL_do_handshake(client), -1);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
	ERR_clear_error();
}

static void H32_key_updates_are_counted_and_answered(void **state)
{
	(void)state;
	begin(TLS1_3_VERSION);
	shake();
	assert_int_equal(tls_late_messages(server), 0);
	for (unsigned i = 1; i <= 100; i++) {
		assert_int_equal(SSL_key_update(client, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(client), 1);
		assert_int_equal(serve(read_on), ERR_AGAIN);
		assert_int_equal(tls_late_messages(server), i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(H32_renegotiation_is_refused_and_the_connection_goes_on,
		                          tear_down),
		cmocka_unit_test_teardown(H32_key_updates_are_counted_and_answered, tear_down),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, certs_make, NULL);
}
