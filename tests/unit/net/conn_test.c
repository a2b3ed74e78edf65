#include "tests/unit/net/certs.h"
#include "tests/unit/net/tcp.h"
#include "tests/unit/until.h"

#include <netinet/tcp.h>
#include <signal.h>

#include "common/base/crypto.h"
#include "common/net/conn.h"

struct end {
	struct conn *conn;
	unsigned n_up, n_room, n_closed;
	size_t n_bytes;
	uint32_t sum;
	enum close_why why;
	char text[300], alpn[16];
	bool close_when_up, close_on_bytes, close_on_room, close_when_closed;
};

static struct tls_ctx *server_tls, *client_tls;
static struct end client, server;
static int fds[2];

static void on_up(void *owner, const char *alpn)
{
	struct end *e = owner;

	assert_int_equal(e->n_closed, 0);
	e->n_up++;
	snprintf(e->alpn, sizeof e->alpn, "%s", alpn);
	if (e->close_when_up)
		conn_close(e->conn);
}

static void on_bytes(void *owner, const uint8_t *data, size_t len)
{
	struct end *e = owner;

	assert_int_equal(e->n_closed, 0);
	for (size_t i = 0; i < len; i++)
		e->sum = e->sum * 31 + data[i];
	e->n_bytes += len;
	if (e->close_on_bytes)
		conn_close(e->conn);
}

static void on_room(void *owner)
{
	struct end *e = owner;

	assert_int_equal(e->n_closed, 0);
	e->n_room++;
	if (e->close_on_room)
		conn_close(e->conn);
}

static void on_closed(void *owner, enum close_why why, const char *text)
{
	struct end *e = owner;

	e->n_closed++;
	e->why = why;
	if (e->close_when_closed)
		conn_close(e->conn);
	e->conn = NULL;
	snprintf(e->text, sizeof e->text, "%s", text);
}

static const struct conn_events events = { on_up, on_bytes, on_room, on_closed };

static bool is_plain;

static void open_end(struct end *e, int fd, const void *first, size_t first_len)
{
	bool is_client = e == &client;
	const struct conn_conf conf = {
		.fd = fd,
		.plain = is_plain,
		.tls = is_plain  ? NULL :
		       is_client ? client_tls :
		                   server_tls,
		.server_name = is_client ? "relay.test" : NULL,
		.early = first,
		.early_len = first_len,
		.limits = &limits_default,
	};

	assert_int_equal(conn_open(loop, &conf, &events, e, &e->conn), 0);
}

static int set_up(void **state)
{
	(void)state;
	client = server = (struct end){ 0 };
	is_plain = false;
	loop_set_up();
	tcp_pair(fds);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	conn_close(client.conn);
	conn_close(server.conn);
	loop_tear_down();
	conn_thread_done();
	return 0;
}

static void open_both(void)
{
	open_end(&client, fds[0], NULL, 0);
	open_end(&server, fds[1], NULL, 0);
}

static bool client_up(void) { return client.n_up; }
static bool both_up(void) { return client.n_up && server.n_up; }
static bool server_got_five(void) { return server.n_bytes == 5; }
static bool client_closed(void) { return client.n_closed; }
static bool server_up(void) { return server.n_up; }
static bool server_closed(void) { return server.n_closed; }

static void bytes_pass_once_both_are_up(void **state)
{
	(void)state;
	open_both();
	until(both_up);
	assert_string_equal(client.alpn, "h2");
	assert_string_equal(server.alpn, "h2");
	assert_true(addr_eq(conn_peer(client.conn), conn_local(server.conn)));
	assert_int_equal(conn_write(client.conn, (const uint8_t *)"hello", 5), 0);
	conn_flush(client.conn);
	until(server_got_five);
}

/* As a DERP client connects: it offers no protocol. */
static void a_server_that_has_a_derp_key_tells_it(void **state)
{
	static const uint8_t derp_public[32] = { 4, 5, 6 };
	const struct tls_server_conf conf = { .cert_file = certs_cert,
		                              .key_file = certs_key,
		                              .alpn = certs_h2,
		                              .derp_public = derp_public };
	struct tls_ctx *plain[] = { server_tls, client_tls };
	uint8_t got[32];

	(void)state;
	assert_int_equal(tls_server_ctx_new(&conf, &server_tls, certs_error), 0);
	client_tls = certs_client(NULL, certs_pin, NULL);
	open_both();
	tls_ctx_unref(server_tls);
	tls_ctx_unref(client_tls);
	server_tls = plain[0];
	client_tls = plain[1];
	until(both_up);
	assert_string_equal(client.alpn, "");
	assert_string_equal(server.alpn, "");
	assert_true(conn_peer_derp_key(client.conn, got));
	assert_memory_equal(got, derp_public, sizeof got);
	assert_false(conn_peer_derp_key(server.conn, got));
}

static uint8_t early[64];

static bool early_bytes_are_there(void)
{
	return recv(fds[1], early, sizeof early, MSG_PEEK) == sizeof early;
}

static bool plain_is_over(void) { return server.n_closed && server.n_bytes == 12; }

static void a_plain_conn_passes_bytes_as_they_are(void **state)
{
	(void)state;
	is_plain = true;
	open_end(&client, fds[0], NULL, 0);
	open_end(&server, fds[1], (const uint8_t *)"before ", 7);
	until(both_up);
	assert_string_equal(client.alpn, "");
	assert_string_equal(conn_cipher(client.conn), "");
	assert_true(conn_room(client.conn, SIZE_MAX) > 0);
	assert_int_equal(conn_write(client.conn, (const uint8_t *)"hello", 5), 0);
	conn_nap(client.conn);
	conn_close(client.conn); /* what was written goes out before */
	client.conn = NULL;
	until(plain_is_over);
	assert_int_equal(server.why, CLOSE_EOF);
}

/* Surplus behind a proxy's reply belongs to the handshake. */
static void bytes_read_before_are_not_lost(void **state)
{
	(void)state;
	open_end(&client, fds[0], NULL, 0);
	until(early_bytes_are_there);
	assert_int_equal(recv(fds[1], early, sizeof early, 0), sizeof early);
	open_end(&server, fds[1], early, sizeof early);
	until(both_up);
}

/* ---- a peer in our own hands: reads only when told ---- */

static struct tls *raw;
static bool raw_is_up;
static size_t raw_bytes;
static uint32_t raw_sum;

static void raw_take(const uint8_t *data, size_t len)
{
	uint8_t plain[TLS_RECORD_MAX];
	struct buf out = { 0 };
	int n;

	tls_feed(raw, data, len);
	if (!raw_is_up)
		raw_is_up = tls_handshake(raw, &out) == 0;
	while (raw_is_up && (n = tls_read(raw, plain, sizeof plain, &out)) > 0) {
		for (int i = 0; i < n; i++)
			raw_sum = raw_sum * 31 + plain[i];
		raw_bytes += (size_t)n;
	}
	if (buf_len(&out))
		assert_int_equal(send(fds[1], buf_data(&out), buf_len(&out), 0), buf_len(&out));
	buf_done(&out);
}

/* Reads what has arrived by now. */
static void raw_read(void)
{
	uint8_t data[65536];
	ssize_t n;

	while ((n = recv(fds[1], data, sizeof data, 0)) > 0)
		raw_take(data, (size_t)n);
}

static bool raw_handshake_done(void)
{
	if (!client.n_up || !raw_is_up)
		raw_read();
	return client.n_up && raw_is_up;
}

static size_t sent;
static uint32_t sent_sum;

/* Seals all there is room for; how much. */
static size_t fill(void)
{
	static uint8_t block[16384];
	size_t total = 0, room;

	while ((room = conn_room(client.conn, SIZE_MAX)) > 0) {
		size_t n = room < sizeof block ? room : sizeof block;
		memset(block, (int)(sent % 251), n);
		for (size_t i = 0; i < n; i++)
			sent_sum = sent_sum * 31 + block[i];
		assert_int_equal(conn_write(client.conn, block, n), 0);
		conn_flush(client.conn);
		total += n;
		sent += n;
	}
	return total;
}

static bool room_again(void)
{
	raw_read();
	return client.n_room > 0;
}

static bool all_there(void)
{
	raw_read();
	return raw_bytes == sent;
}

static void open_against_raw(void)
{
	sent = raw_bytes = 0;
	sent_sum = raw_sum = 0;
	raw_is_up = false;
	assert_int_equal(tls_new(server_tls, NULL, &raw), 0);
	open_end(&client, fds[0], NULL, 0);
	until(raw_handshake_done);
}

static void raw_done(void)
{
	tls_free(raw);
	close(fds[1]);
}

/* What is sealed can no longer be dropped: little of it waits for a peer that does not read. */
static void a_peer_that_does_not_read_stops_the_sealing_until_it_reads(void **state)
{
	(void)state;
	open_against_raw();
	assert_true(fill() >= 16384);
	assert_int_equal(conn_room(client.conn, SIZE_MAX), 0);
	assert_true(conn_unsent(client.conn) <= 1 << 17); /* the kernel took the rest */
	assert_int_equal(client.n_room, 0);
	until(room_again);
	assert_true(fill() > 0);
	until(all_there);
	assert_int_equal(raw_sum, sent_sum);
	raw_done();
}

static bool raw_eof(void)
{
	raw_read();
	return recv(fds[1], early, 1, 0) == 0;
}

static void a_conn_may_be_closed_from_inside_room(void **state)
{
	(void)state;
	open_against_raw();
	client.close_on_room = true;
	fill();
	until(raw_eof);
	assert_int_equal(client.n_room, 1);
	client.conn = NULL;
	raw_done();
}

/* ---- reading more slowly ---- */

/* What the kernel takes from a sender while nobody reads. */
static size_t held_by_the_kernel(void)
{
	static const uint8_t block[4096];

	conn_rest(server.conn, 60000);
	while (send(fds[0], block, sizeof block, MSG_NOSIGNAL) > 0)
		;
	return conn_unread(server.conn);
}

static void open_plain_server(int segment)
{
	close(fds[0]);
	close(fds[1]);
	tcp_pair_of(fds, segment);
	is_plain = true;
	open_end(&server, fds[1], NULL, 0);
	until(server_up);
}

static void little_waits_in_the_kernel_for_a_narrow_conn(void **state)
{
	(void)state;
	open_plain_server(1448);
	conn_narrow(server.conn, 12500);
	assert_in_range(held_by_the_kernel(), 1448, 32768);
	close(fds[0]);
}

static void a_conn_that_is_not_narrow_any_more_takes_what_it_took(void **state)
{
	int lock;
	socklen_t len = sizeof lock;

	(void)state;
	open_plain_server(1448);
	conn_narrow(server.conn, 12500);
	conn_narrow(server.conn, UINT64_MAX);
	if (getsockopt(fds[1], SOL_SOCKET, SO_BUF_LOCK, &lock, &len) == 0)
		assert_int_equal(lock, 0); /* it grows as others do */
	conn_narrow(server.conn, 100000000);
	assert_true(held_by_the_kernel() > 100000);
	close(fds[0]);
}

/* Segments of loopback are as large as the least window: they need more room than others. */
static void a_narrow_conn_over_loopback_still_takes_its_segments(void **state)
{
	(void)state;
	open_plain_server(0);
	conn_narrow(server.conn, 12500);
	assert_in_range(held_by_the_kernel(), 32768, 200000);
	close(fds[0]);
}

/* Control must go out: nothing is refused for want of room. */
static void more_than_there_is_room_for_is_taken_and_arrives(void **state)
{
	static uint8_t block[300000];

	(void)state;
	open_against_raw();
	assert_int_equal(conn_write(client.conn, block, sizeof block), 0);
	assert_true(conn_unsent(client.conn) > sizeof block);
	conn_flush(client.conn);
	sent = sizeof block;
	until(all_there);
	assert_int_equal(conn_unsent(client.conn), 0);
	raw_done();
}

static void an_end_without_goodbye_after_the_handshake_is_told_so(void **state)
{
	(void)state;
	open_against_raw();
	client.close_when_closed = true; /* harmless: it is closed */
	raw_done();
	until(client_closed);
	assert_int_equal(client.why, CLOSE_EOF);
	assert_int_equal(client.n_closed, 1);
}

static void before_the_handshake_nothing_can_be_sent(void **state)
{
	(void)state;
	open_both();
	assert_int_equal(conn_room(client.conn, SIZE_MAX), 0);
	assert_int_equal(conn_write(client.conn, (const uint8_t *)"x", 1), ERR_CLOSED);
	until(both_up);
	assert_true(conn_room(client.conn, SIZE_MAX) >= 16384);
	assert_string_equal(conn_cipher(client.conn), conn_cipher(server.conn));
	assert_true(addr_port(conn_peer(client.conn)) != 0);
}

static bool fd_hung_up(void)
{
	char c;
	return recv(fds[1], &c, 1, 0) == 0;
}

static void a_conn_closed_before_it_started_says_nothing(void **state)
{
	(void)state;
	open_end(&client, fds[0], NULL, 0);
	conn_close(client.conn);
	client.conn = NULL;
	until(fd_hung_up);
	assert_int_equal(client.n_up + client.n_closed, 0);
	close(fds[1]);
}

static void what_was_written_before_a_close_arrives_before_it(void **state)
{
	(void)state;
	open_both();
	until(both_up);
	assert_int_equal(conn_write(client.conn, (const uint8_t *)"hello", 5), 0);
	conn_close(client.conn);
	client.conn = NULL;
	until(server_closed);
	assert_int_equal(server.n_bytes, 5);
	assert_int_equal(server.why, CLOSE_DONE);
}

static void a_conn_reset_here_is_a_reset_there(void **state)
{
	(void)state;
	open_both();
	until(both_up);
	conn_reset(client.conn);
	conn_reset(client.conn); /* again is harmless */
	client.conn = NULL;
	until(server_closed);
	assert_int_equal(server.why, CLOSE_RESET);
	assert_int_equal(client.n_closed, 0);
}

static int option(int level, int name)
{
	int v = -1;
	socklen_t len = sizeof v;

	assert_int_equal(getsockopt(fds[0], level, name, &v, &len), 0);
	return v;
}

/* As a relay says why, closes, and gets one more datagram meanwhile. */
static void what_was_said_before_a_reset_is_heard_by_who_still_sends(void **state)
{
	(void)state;
	is_plain = true;
	open_end(&client, fds[0], NULL, 0);
	until(client_up);
	assert_int_equal(send(fds[1], "bye!!", 5, 0), 5);
	struct linger now = { 1, 0 };
	assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	close(fds[1]);
	assert_int_equal(conn_write(client.conn, (const uint8_t *)"more", 4), 0);
	conn_flush(client.conn);
	assert_int_equal(client.n_closed, 0);
	until(client_closed);
	assert_int_equal(client.n_bytes, 5);
	assert_int_equal(client.why, CLOSE_RESET);
}

static void every_socket_gets_the_options_of_the_header(void **state)
{
	(void)state;
	conn_tune(fds[0]);
	assert_int_equal(option(IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option(IPPROTO_TCP, TCP_NOTSENT_LOWAT), 16384);
	assert_int_equal(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 15000);
	assert_int_equal(option(SOL_SOCKET, SO_KEEPALIVE), 1);
	/* With TCP_USER_TIMEOUT one lost probe ends the connection: none is sent on one that
	 * has signs of life of its own, each 65 s at least. */
	assert_in_range(option(IPPROTO_TCP, TCP_KEEPIDLE), 66 + 15, 300);
	assert_int_equal(option(IPPROTO_TCP, TCP_KEEPINTVL), 10);
	assert_int_equal(option(IPPROTO_TCP, TCP_KEEPCNT), 3);
	close(fds[0]);
	close(fds[1]);
}

static bool closed_by_server(void) { return client.n_closed == 1; }

static void a_close_is_told_to_the_other_side_as_done(void **state)
{
	(void)state;
	open_both();
	until(both_up);
	conn_close(server.conn);
	conn_close(server.conn); /* again is harmless */
	server.conn = NULL;
	until(closed_by_server);
	assert_int_equal(client.why, CLOSE_DONE);
	assert_int_equal(server.n_closed, 0); /* it did it itself */
}

static void a_conn_may_be_closed_from_inside_up(void **state)
{
	(void)state;
	server.close_when_up = true;
	open_both();
	until(client_closed);
	assert_int_equal(server.n_up, 1);
	server.conn = NULL;
}

static void a_conn_may_be_closed_from_inside_bytes(void **state)
{
	uint8_t block[100] = { 0 };

	(void)state;
	server.close_on_bytes = true;
	open_both();
	until(both_up);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(conn_write(client.conn, block, sizeof block), 0);
	conn_flush(client.conn);
	until(client_closed);
	assert_int_equal(server.n_bytes, sizeof block); /* none after it */
	server.conn = NULL;
}

static void a_connection_that_ends_without_goodbye_is_told_so(void **state)
{
	(void)state;
	open_end(&server, fds[1], NULL, 0);
	close(fds[0]);
	until(server_closed);
	assert_int_equal(server.why, CLOSE_EOF);
}

static void a_reset_is_told_so(void **state)
{
	struct linger now = { 1, 0 };

	(void)state;
	open_end(&server, fds[1], NULL, 0);
	setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fds[0]);
	until(server_closed);
	assert_int_equal(server.why, CLOSE_RESET);
}

static void garbage_instead_of_tls_is_told_so(void **state)
{
	(void)state;
	open_end(&server, fds[1], NULL, 0);
	assert_int_equal(send(fds[0], "SSH-2.0-OpenSSH\r\n", 17, 0), 17);
	until(server_closed);
	assert_int_equal(server.why, CLOSE_TLS);
	assert_true(strlen(server.text) > 5);
	close(fds[0]);
}

static void a_relay_that_is_not_trusted_is_told_with_the_way_out(void **state)
{
	struct tls_ctx *mine = client_tls;

	(void)state;
	client_tls = certs_client(certs_cert, NULL, certs_h2);
	client.conn = NULL;
	const struct conn_conf conf = { .fd = fds[0],
		                        .tls = client_tls,
		                        .server_name = "other.test",
		                        .limits = &limits_default };
	assert_int_equal(conn_open(loop, &conf, &events, &client, &client.conn), 0);
	open_end(&server, fds[1], NULL, 0);
	until(client_closed);
	assert_int_equal(client.why, CLOSE_UNTRUSTED);
	assert_non_null(strstr(client.text, "--pin"));
	tls_ctx_unref(client_tls);
	client_tls = mine;
}

static void closing_nothing_is_harmless(void **state)
{
	(void)state;
	conn_close(NULL);
	close(fds[0]);
	close(fds[1]);
}

static int make_tls(void **state)
{
	certs_make(state);
	server_tls = certs_server(certs_h2);
	client_tls = certs_client(NULL, certs_pin, certs_h2);
	return 0;
}

static int free_tls(void **state)
{
	(void)state;
	tls_ctx_unref(server_tls);
	tls_ctx_unref(client_tls);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bytes_pass_once_both_are_up),
		TEST(a_server_that_has_a_derp_key_tells_it),
		TEST(bytes_read_before_are_not_lost),
		TEST(a_plain_conn_passes_bytes_as_they_are),
		TEST(a_peer_that_does_not_read_stops_the_sealing_until_it_reads),
		TEST(a_conn_may_be_closed_from_inside_room),
		TEST(little_waits_in_the_kernel_for_a_narrow_conn),
		TEST(a_conn_that_is_not_narrow_any_more_takes_what_it_took),
		TEST(a_narrow_conn_over_loopback_still_takes_its_segments),
		TEST(more_than_there_is_room_for_is_taken_and_arrives),
		TEST(an_end_without_goodbye_after_the_handshake_is_told_so),
		TEST(before_the_handshake_nothing_can_be_sent),
		TEST(a_conn_closed_before_it_started_says_nothing),
		TEST(what_was_written_before_a_close_arrives_before_it),
		TEST(a_conn_reset_here_is_a_reset_there),
		TEST(what_was_said_before_a_reset_is_heard_by_who_still_sends),
		TEST(every_socket_gets_the_options_of_the_header),
		TEST(a_close_is_told_to_the_other_side_as_done),
		TEST(a_conn_may_be_closed_from_inside_up),
		TEST(a_conn_may_be_closed_from_inside_bytes),
		TEST(a_connection_that_ends_without_goodbye_is_told_so),
		TEST(a_reset_is_told_so),
		TEST(garbage_instead_of_tls_is_told_so),
		TEST(a_relay_that_is_not_trusted_is_told_with_the_way_out),
		TEST(closing_nothing_is_harmless),
	};
	if (crypto_start() < 0)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, make_tls, free_tls);
}
