/* TLS: connections that nap. */
#include "tests/unit/net/certs.h"

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/metric.h"
#include "common/net/tls_impl.h"

static struct tls_ctx *server_ctx, *client_ctx;
static struct tls *server, *client;
static struct buf to_server, to_client;

/* Here and not in main(): who makes allocations fail has the library's memory in his hands. */
static int make(void **state)
{
	assert_int_equal(tls_start(), 0);
	return certs_make(state);
}

static int set_up(void **state)
{
	(void)state;
	server_ctx = certs_server(certs_h2);
	client_ctx = certs_client(NULL, certs_pin, certs_h2);
	assert_int_equal(tls_new(server_ctx, NULL, &server), 0);
	assert_int_equal(tls_new(client_ctx, "relay.test", &client), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tls_free(server);
	tls_free(client);
	tls_ctx_unref(server_ctx);
	tls_ctx_unref(client_ctx);
	buf_done(&to_server);
	buf_done(&to_client);
	server = client = NULL;
	return 0;
}

static void nap(void)
{
	tls_nap(server);
	tls_nap(client);
}

/* A handshake with naps behind every flight; the server's result. */
static int shake(void)
{
	int rc = ERR_AGAIN, rc_client;

	for (unsigned i = 0; i < 5 && rc == ERR_AGAIN; i++) {
		tls_feed(client, buf_data(&to_client), buf_len(&to_client));
		rc_client = tls_handshake(client, &to_server);
		assert_true(rc_client == 0 || rc_client == ERR_AGAIN);
		buf_clear(&to_client);
		nap();
		tls_feed(server, buf_data(&to_server), buf_len(&to_server));
		rc = tls_handshake(server, &to_client);
		buf_clear(&to_server);
		nap();
	}
	return rc;
}

static void say(struct tls *from, struct tls *to, struct buf *wire, struct buf *back,
                const char *text)
{
	uint8_t in[TLS_RECORD_MAX];
	size_t len = strlen(text);

	assert_int_equal(tls_write(from, (const uint8_t *)text, len, wire), 0);
	nap();
	tls_feed(to, buf_data(wire), buf_len(wire));
	assert_int_equal(tls_read(to, in, sizeof in, back), len);
	assert_memory_equal(in, text, len);
	nap();
	assert_int_equal(tls_read(to, in, sizeof in, back), ERR_AGAIN);
	buf_clear(wire);
	nap();
}

static void a_conversation_is_the_same_with_naps_in_between(void **state)
{
	(void)state;
	assert_int_equal(shake(), 0);
	for (unsigned i = 0; i < 10; i++) {
		say(client, server, &to_server, &to_client, "are you there?");
		say(server, client, &to_client, &to_server, "still.");
	}
	assert_string_equal(tls_alpn(server), "h2");
	nap();
	assert_string_equal(tls_cipher(server), tls_cipher(client));
	nap();
	tls_shutdown(client, &to_server);
	nap();
	tls_feed(server, buf_data(&to_server), buf_len(&to_server));
	assert_int_equal(tls_read(server, (uint8_t[1]){ 0 }, 1, &to_client), ERR_CLOSED);
}

static void who_naps_keeps_little(void **state)
{
	(void)state;
	if (!tls_take_memory())
		skip();
	assert_int_equal(shake(), 0);
	nap();
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 2);
	assert_in_range(metric_sum(METRIC_DENS_PACKED_BYTES), 1, 5000);
	assert_string_equal(tls_alpn(server), "h2");
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 1);
}

static void one_that_naps_may_be_freed(void **state)
{
	(void)state;
	nap();
	tear_down(state);
	assert_int_equal(metric_sum(METRIC_DENS_ASLEEP), 0);
	set_up(state);
	assert_int_equal(shake(), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_conversation_is_the_same_with_naps_in_between),
		TEST(who_naps_keeps_little),
		TEST(one_that_naps_may_be_freed),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, make, NULL);
}
