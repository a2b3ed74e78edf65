/* A client of another make: Go's crypto/tls, which reads certificates strictly. */
#include "tests/unit/net/certs.h"

#include <poll.h>

#include "common/base/crypto.h"
#include "tests/unit/net/tcp.h"

enum { WAIT_MS = 30000 };

static const uint8_t derp_public[32] = { 0xde, 0x4b, 1, 2, 3 };

/* False: it said goodbye. */
static bool get(int fd, uint8_t *to, size_t cap, size_t *len_out)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	ssize_t n = read(fd, to, cap);
	*len_out = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static char text[1000]; /* what the client says */

static void hear(FILE *client) { text[fread(text, 1, sizeof text - 1, client)] = 0; }

/* The client says nothing before it has come twice. */
static int come(int listener, FILE *client)
{
	struct pollfd p[2] = { { .fd = listener, .events = POLLIN },
		               { .fd = fileno(client), .events = POLLIN } };

	assert_true(poll(p, 2, WAIT_MS) > 0);
	if (p[0].revents)
		return accept(listener, NULL, NULL);
	hear(client);
	fail_msg("%s", text);
	return -1;
}

/* Until the handshake is over and the client has left. */
static void serve(int fd, struct tls_ctx *ctx)
{
	uint8_t in[16384];
	struct buf out = { 0 };
	struct tls *tls;
	int rc = ERR_AGAIN;
	size_t n;

	assert_int_equal(tls_new(ctx, NULL, &tls), 0);
	while (get(fd, in, sizeof in, &n)) {
		if (rc != ERR_AGAIN)
			continue;
		tls_feed(tls, in, n);
		rc = tls_handshake(tls, &out);
		assert_int_equal(write(fd, buf_data(&out), buf_len(&out)), buf_len(&out));
		buf_clear(&out);
	}
	assert_int_equal(rc, 0);
	assert_string_equal(tls_alpn(tls), "");
	tls_free(tls);
	buf_done(&out);
	close(fd);
}

static void assert_meets(const char *host)
{
	const struct tls_server_conf conf = { .cert_file = certs_cert,
		                              .key_file = certs_key,
		                              .alpn = certs_h2,
		                              .derp_public = derp_public };
	char leaf[2 * TLS_PIN_LEN + 1], key[65], command[700];
	uint8_t hash[TLS_PIN_LEN];
	struct tls_ctx *ctx;
	uint16_t port;

	assert_int_equal(tls_server_ctx_new(&conf, &ctx, certs_error), 0);
	assert_int_equal(tls_leaf_raw_sha256(ctx, hash), 0);
	hex_encode(hash, sizeof hash, leaf);
	hex_encode(derp_public, sizeof derp_public, key);
	int listener = tcp_listen(&port);
	snprintf(command, sizeof command, "%s 127.0.0.1:%u %s %s %s 2>&1", file_path("client"),
	         port, host, leaf, key);
	FILE *client = popen(command, "r");
	assert_non_null(client);
	for (unsigned i = 0; i < 2; i++)
		serve(come(listener, client), ctx);
	hear(client);
	if (pclose(client) != 0)
		fail_msg("%s", text);
	assert_string_equal(text, "met the server twice\n");
	close(listener);
	tls_ctx_unref(ctx);
}

static void a_go_client_meets_a_derp_server_whose_certificate_it_has_pinned(void **state)
{
	char command[400];

	(void)state;
	if (system("command -v go >/dev/null") != 0) {
		print_message("there is no go here: not tried\n");
		skip();
	}
	snprintf(command, sizeof command,
	         "GO111MODULE=off GOTOOLCHAIN=local go build -o %s tests/unit/net/meta_client.go",
	         file_path("client"));
	assert_int_equal(system(command), 0);
	assert_meets("relay.test");
	assert_meets("127.0.0.1");
	assert_meets("192.0.2.5");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_go_client_meets_a_derp_server_whose_certificate_it_has_pinned),
	};
	if (crypto_start() < 0)
		return 1;
	return cmocka_run_group_tests(tests, certs_make, NULL);
}
