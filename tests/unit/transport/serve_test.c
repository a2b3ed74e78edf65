/* What the server side owes any gRPC client (rows S and G), by a foreign client in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/transport/caller.h"

#define TUNNEL "/tunn.v1.TunnelService/EstablishTunnel"
#define CHECK  "/grpc.health.v1.Health/Check"
#define WATCH  "/grpc.health.v1.Health/Watch"

/* A call with these request fields and nothing else said. */
static void bare(struct caller *c, struct rpc *r, const struct h2_field *f, size_t n)
{
	*r = (struct rpc){ .code = UINT32_MAX };
	h2_request(c->h2, f, n, r, &r->stream);
	caller_run(c);
}

static void with(struct caller *c, struct rpc *r, const char *path, const char *name,
                 const char *value)
{
	struct h2_field f = { str_of(name), str_of(value) };

	rpc_start_with(c, r, path, &f, 1);
	caller_run(c);
}

static bool is_alive(struct caller *c)
{
	struct rpc r;

	rpc_unary(c, &r, CHECK, "", 0);
	rpc_done(&r);
	return strcmp(r.status, "0") == 0 && c->rc == 0;
}

/* One HEADERS frame with everything, and the stream is gone. */
static void assert_only(const struct rpc *r, const char *http, const char *status)
{
	assert_string_equal(r->http, http);
	assert_string_equal(r->status, status);
	assert_int_equal(r->n_heads, 1);
	assert_true(r->ended);
	assert_int_equal(buf_len(&r->body), 0);
	assert_string_equal(r->type, "application/grpc");
}

static void S01_S14_other_methods_are_405_in_one_frame(void **state)
{
	static const char *const methods[] = { "GET", "PUT", "OPTIONS", "post" };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
		const struct h2_field f[] = {
			{ STR(":method"), str_of(methods[i]) },
			{ STR(":scheme"), STR("https") },
			{ STR(":path"), STR(CHECK) },
			{ STR(":authority"), STR("relay.test") },
			{ STR("content-type"), STR("application/grpc") },
		};
		bare(&c, &r, f, 5);
		assert_only(&r, "405", "13");
	}
	assert_true(is_alive(&c));
	caller_close(&c);
}

static void content_type(struct caller *c, struct rpc *r, const char *value)
{
	const struct h2_field f[] = {
		{ STR(":method"), STR("POST") },        { STR(":scheme"), STR("https") },
		{ STR(":path"), STR(CHECK) },           { STR(":authority"), STR("relay.test") },
		{ STR("content-type"), str_of(value) },
	};

	*r = (struct rpc){ .code = UINT32_MAX };
	h2_request(c->h2, f, 5, r, &r->stream);
	rpc_say(c, r, "", 0);
	rpc_half_close(c, r);
	caller_run(c);
	rpc_done(r);
}

static void S02_S03_content_types_of_grpc_and_no_te_are_served(void **state)
{
	static const char *const good[] = { "application/grpc", "application/grpc+proto",
		                            "application/grpc;charset=utf-8" };
	static const char *const bad[] = { "", "application/grpc-web", "application/grpcfoo",
		                           "application/json", "Application/grpc" };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		content_type(&c, &r, good[i]);
		assert_string_equal(r.status, "0");
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		content_type(&c, &r, bad[i]);
		assert_only(&r, "415", "13");
	}
	assert_int_equal(metric_sum(METRIC_NO_TE), sizeof good / sizeof *good);
	caller_close(&c);
}

static void S03_S05_S28_fields_of_a_connection_and_other_te_cost_the_stream(void **state)
{
	static const char *const bad[][2] = { { "te", "gzip" },
		                              { "connection", "x" },
		                              { "transfer-encoding", "chunked" },
		                              { "keep-alive", "1" },
		                              { ":authority", "twice" },
		                              { ":unknown", "x" } };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		with(&c, &r, CHECK, bad[i][0], bad[i][1]);
		assert_null(r.stream);
		assert_int_equal(r.code, H2_PROTOCOL_ERROR);
		assert_int_equal(r.n_heads, 0);
	}
	assert_true(is_alive(&c));
	caller_close(&c);
}

static void S05_G17_a_host_beside_the_authority_does_no_harm(void **state)
{
	struct h2_field f = { STR("host"), STR("other.test") };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	rpc_start_with(&c, &r, CHECK, &f, 1);
	rpc_say(&c, &r, "", 0);
	rpc_half_close(&c, &r);
	caller_run(&c);
	assert_string_equal(r.status, "0");
	rpc_done(&r);
	caller_close(&c);
}

static void S04_T13_odd_paths_reach_no_handler(void **state)
{
	static const char *const paths[] = {
		"/",
		"//",
		"//tunn.v1.TunnelService/EstablishTunnel",
		"/tunn.v1.TunnelService//EstablishTunnel",
		"/tunn.v1.TunnelService/EstablishTunnel/",
		"/tunn.v1.TunnelService/EstablishTunnel?",
		"/tunn.v1.TunnelService/EstablishTunnel?x=1",
		"/tunn.v1.TunnelService/EstablishTunnel#x",
		"/tunn.v1.TunnelService/EstablishTunne",
		"/tunn.v1.TunnelService/EstablishTunnell",
		"/tunn.v1.TunnelService/establishTunnel",
		"/Tunn.v1.TunnelService/EstablishTunnel",
		"/tunn.v1.TunnelService/%45stablishTunnel",
		"/tunn.v1.TunnelService%2FEstablishTunnel",
		"/./tunn.v1.TunnelService/EstablishTunnel",
		"/x/../tunn.v1.TunnelService/EstablishTunnel",
		"/tunn.v1.TunnelService\\EstablishTunnel",
		"/tunn.v1.TunnelService/",
		"/tunn.v1.TunnelService",
		"/.tunn.v1.TunnelService/EstablishTunnel",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.health.v1.Health/List",
		"/tunn.v1.TunnelService/EstablishTunnel\x80",
	};
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		rpc_start(&c, &r, paths[i]);
		rpc_say(&c, &r, "\x0a\x00", 2); /* a registration, if it came to that */
		caller_run(&c);
		if (r.n_heads == 0) /* nghttp2 does not take every byte in a path */
			assert_int_equal(r.code, H2_PROTOCOL_ERROR);
		else
			assert_only(&r, "200", "12");
	}
	with(&c, &r, &TUNNEL[1], "x", "y"); /* no slash */
	assert_int_equal(r.code, H2_PROTOCOL_ERROR);
	assert_int_equal(c.n_hello, 0);
	assert_true(is_alive(&c));
	caller_close(&c);
}

static void G04_an_unknown_method_is_named_clean_and_short(void **state)
{
	char path[7000];
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	rpc_start(&c, &r, "/some.Service/Method%25");
	caller_run(&c);
	assert_string_equal(r.text, "unknown method /some.Service/Method%2525");
	memset(path, 'x', sizeof path);
	path[0] = '/';
	path[sizeof path - 1] = 0;
	rpc_start(&c, &r, path);
	caller_run(&c);
	assert_only(&r, "200", "12");
	assert_int_equal(strlen(r.text), strlen("unknown method ") + 256);
	caller_close(&c);
}

static void S06_G05_timeouts(void **state)
{
	static const char *const bad[] = { "1",   "S",   "123456789S", "-1S", "1s", "1.5S",
		                           "+1S", "1 S", "0x1S",       "1SS", "H",  "" };
	static const char *const none[] = { "0S", "0n", "00000000H", "0m" };
	static const char *const good[] = { "99999999H", "1n", "1u", "00000001S" };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		with(&c, &r, TUNNEL, "grpc-timeout", bad[i]);
		assert_only(&r, "400", "13");
	}
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		with(&c, &r, TUNNEL, "grpc-timeout", none[i]);
		assert_only(&r, "200", "4");
	}
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		with(&c, &r, TUNNEL, "grpc-timeout", good[i]);
		assert_non_null(r.stream);
		assert_string_equal(r.http, "200");
	}
	const struct h2_field twice[] = { { STR("grpc-timeout"), STR("1S") },
		                          { STR("grpc-timeout"), STR("1S") } };
	rpc_start_with(&c, &r, TUNNEL, twice, 2);
	caller_run(&c);
	assert_only(&r, "400", "13");
	caller_close(&c);
}

static void S07_G19_an_expired_deadline_resets_the_stream(void **state)
{
	struct caller c;
	struct rpc r, longer;

	(void)state;
	caller_open(&c, false);
	with(&c, &r, WATCH, "grpc-timeout", "300m");
	with(&c, &longer, WATCH, "grpc-timeout", "99999999H");
	caller_tick(&c, 299);
	assert_non_null(r.stream);
	caller_tick(&c, 1);
	assert_null(r.stream);
	assert_int_equal(r.code, H2_CANCEL);
	assert_non_null(longer.stream);
	caller_close(&c);
}

static void S08_G10_messages_have_nothing_to_do_with_frames(void **state)
{
	static uint8_t m[66560];
	struct caller c;
	struct rpc r;

	(void)state;
	m[0] = 0x7a;                           /* an unknown field fills the message */
	m[1] = 0xfc, m[2] = 0x87, m[3] = 0x04; /* 66556 */
	caller_open(&c, false);
	rpc_start(&c, &r, CHECK);
	uint8_t prefix[GRPC_PREFIX_LEN];
	grpc_put_prefix(prefix, sizeof m);
	for (size_t i = 0; i < sizeof prefix + sizeof m; i++) { /* a frame for each byte */
		rpc_say_bytes(&c, &r, i < 5 ? prefix + i : &m[i - 5], 1);
		caller_run(&c);
	}
	rpc_half_close(&c, &r);
	caller_run(&c);
	assert_string_equal(r.status, "0");
	rpc_done(&r);
	caller_close(&c);
}

static void G10_thousands_of_messages_in_one_frame(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, true);
	rpc_start(&c, &r, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
	for (int i = 0; i < 450; i++)
		rpc_say(&c, &r, "\x22\x01x", 3);
	caller_run(&c);
	size_t len;
	int n = 0;
	while (rpc_heard(&r, &len))
		n++;
	assert_int_equal(n, 450);
	rpc_done(&r);
	caller_close(&c);
	caller_open(&c, false);
	rpc_start(&c, &r, TUNNEL);
	rpc_say(&c, &r,
	        "\x0a\x05\x4a\x03\x1a\x01"
	        "b",
	        7); /* registers and is left waiting */
	for (int i = 0; i < 5000; i++)
		rpc_say(&c, &r, "\x5a\x00", 2); /* datagrams that come too early */
	caller_run(&c);
	assert_int_equal(c.n_hello, 1);
	assert_int_equal(metric_drop_sum(DROP_NOT_READY), 5000);
	assert_non_null(r.stream);
	caller_close(&c);
}

/* What a tunnel that says these bytes hears. */
static void says(struct caller *c, struct rpc *r, const char *encoding, const void *p, size_t n,
                 bool end)
{
	struct h2_field f = { STR("grpc-encoding"), str_of(encoding) };

	rpc_start_with(c, r, TUNNEL, &f, encoding[0] != 0);
	rpc_say_bytes(c, r, p, n);
	if (end)
		rpc_half_close(c, r);
	caller_run(c);
	assert_null(r->stream);
	assert_true(r->ended);
}

static void S09_G06_G07_flags_and_encodings(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	says(&c, &r, "", "\2\0\0\0\0", 5, false);
	assert_string_equal(r.status, "13");
	says(&c, &r, "gzip", "\xff\0\0\0\0", 5, false);
	assert_string_equal(r.status, "13");
	says(&c, &r, "", "\1\0\0\0\0", 5, false);
	assert_string_equal(r.status, "13");
	says(&c, &r, "identity", "\1\0\0\0\0", 5, false);
	assert_string_equal(r.status, "13");
	assert_string_equal(r.accept, "");
	says(&c, &r, "gzip", "\1\0\0\0\0", 5, false);
	assert_string_equal(r.status, "12");
	assert_string_equal(r.accept, "identity");
	assert_true(is_alive(&c));
	caller_close(&c);
}

static void S10_S15_G08_a_long_message_is_refused_from_its_prefix(void **state)
{
	static const char *const prefixes[] = { "\0\xff\xff\xff\xff", "\0\0\1\4\1" };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (int i = 0; i < 2; i++) {
		says(&c, &r, "", prefixes[i], 5, false);
		assert_string_equal(r.status, "8");
		assert_int_equal(r.code,
		                 H2_NO_ERROR); /* the client had not ended: the stream is freed */
	}
	assert_true(is_alive(&c));
	caller_close(&c);
}

/* Each within its limit, but anybody can begin a hundred of them. */
static void T12_unfinished_messages_of_strangers_are_bounded_together(void **state)
{
	enum { N = 20, LEN = 60000 };
	static uint8_t half[GRPC_PREFIX_LEN + LEN];
	struct rpc r[N];
	struct caller c;
	unsigned n_open = 0;

	(void)state;
	caller_open(&c, false);
	grpc_put_prefix(half, LEN + 1);
	for (unsigned i = 0; i < N; i++) {
		rpc_start(&c, &r[i], i % 2 ? CHECK : TUNNEL);
		rpc_say_bytes(&c, &r[i], half, sizeof half);
		caller_run(&c);
		n_open += r[i].stream != NULL;
		assert_true(r[i].stream || strcmp(r[i].status, "8") == 0);
	}
	assert_in_range(n_open, 1, 256 * 1024 / LEN);
	for (unsigned i = 0; i < N; i++)
		if (r[i].stream)
			rpc_cancel(&c, &r[i]);
	caller_run(&c);
	rpc_start(&c, &r[0], TUNNEL); /* there is room again */
	rpc_say_bytes(&c, &r[0], half, sizeof half);
	caller_run(&c);
	assert_non_null(r[0].stream);
	caller_close(&c);
}

static void S11_G09_the_end_within_a_message_is_internal(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t n = 1; n < 8; n++) {
		says(&c, &r, "", "\0\0\0\0\3abc", n, true);
		assert_string_equal(r.status, "13");
	}
	caller_close(&c);
}

static void S11_G12_a_unary_call_has_one_message(void **state)
{
	static const char *const paths[] = { CHECK, WATCH };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (int i = 0; i < 2; i++) {
		rpc_start(&c, &r, paths[i]);
		rpc_half_close(&c, &r);
		caller_run(&c);
		assert_string_equal(r.status, "12");
		assert_string_equal(r.text, "no request message");
		rpc_start(&c, &r, paths[i]);
		rpc_say(&c, &r, "", 0);
		rpc_say(&c, &r, "", 0);
		caller_run(&c);
		assert_string_equal(r.status, "12");
		assert_string_equal(r.text, "more than one request message");
	}
	caller_close(&c);
}

static void S12_what_is_no_protobuf_is_internal(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	rpc_unary(&c, &r, CHECK, "\x0a\x7f", 2);
	assert_string_equal(r.status, "13");
	caller_close(&c);
}

static void S13_S19_S28_an_answer_ends_with_its_status_in_trailers(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	rpc_unary(&c, &r, CHECK, "", 0);
	assert_string_equal(r.http, "200");
	assert_string_equal(r.type, "application/grpc");
	assert_int_equal(r.n_heads, 2);
	assert_string_equal(r.status, "0");
	assert_string_equal(r.text, "");
	rpc_done(&r);
	caller_close(&c);
}

static void S16_G14_bin_fields(void **state)
{
	static const char *const good[] = { "",         "YQ", "YQ==", "YWI", "YWJj", "YQ,YWI=,YWJj",
		                            "YQ, YQ==", ",",  "q6ur", "+/+/" };
	static const char *const bad[] = { "!!!",  "Y",   "YQ=",  "YQ===", "YQ==YQ==",
		                           "YQ,!", "a b", "-_-_", "=" };
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		with(&c, &r, TUNNEL, "x-bin", good[i]);
		assert_non_null(r.stream);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		with(&c, &r, TUNNEL, "x-bin", bad[i]);
		assert_only(&r, "400", "13");
		with(&c, &r, TUNNEL, "x-binary", bad[i]);
		assert_non_null(r.stream);
	}
	assert_true(is_alive(&c)); /* CVE-2023-32732 was losing the connection */
	caller_close(&c);
}

static void S17_S18_S24_S25_the_settings_we_send(void **state)
{
	struct transport_conf conf = { .node = "n1", .limits = &limits_default };
	uint32_t value[8] = { 0 };
	struct transport *t;
	struct buf out = { 0 };

	(void)state;
	assert_int_equal(transport_grpc.open(&conf, SIDE_SERVER, 1000, &caller_server_events, NULL,
	                                     &t),
	                 0);
	assert_int_equal(transport_grpc.flush(t, &out, 1 << 16), 0);
	const uint8_t *p = buf_data(&out);
	assert_int_equal(p[3], 4);
	for (size_t at = 9; at < 9 + (size_t)p[2]; at += 6) {
		unsigned id = (unsigned)p[at] << 8 | p[at + 1];
		assert_true(id <= 9); /* nothing of gRPC's own: 0xfe03 would bring raw bytes */
		if (id < 8)
			value[id] = (uint32_t)p[at + 2] << 24 | (uint32_t)p[at + 3] << 16 |
			            (uint32_t)p[at + 4] << 8 | p[at + 5];
	}
	assert_int_equal(value[3], 100);     /* MAX_CONCURRENT_STREAMS */
	assert_int_equal(value[4], 1 << 20); /* INITIAL_WINDOW_SIZE */
	assert_int_equal(value[6], 8192);    /* MAX_HEADER_LIST_SIZE */
	p += 9 + p[2];
	assert_int_equal(p[3], 8); /* WINDOW_UPDATE of the connection, to 4 MiB */
	assert_int_equal(((uint32_t)p[9] << 24 | (uint32_t)p[10] << 16 | (uint32_t)p[11] << 8 |
	                  p[12]) + 65535,
	                 4 << 20);
	buf_done(&out);
	transport_grpc.free(t);
}

static void S18_a_header_list_beyond_8_KiB_costs_the_stream(void **state)
{
	static char value[9000];
	struct caller c;
	struct rpc r;

	(void)state;
	memset(value, 'v', sizeof value - 1);
	caller_open(&c, false);
	with(&c, &r, CHECK, "x-long", value);
	assert_null(r.stream);
	assert_int_equal(r.n_heads, 0);
	value[7000] = 0;
	with(&c, &r, TUNNEL, "x-long", value);
	assert_non_null(r.stream);
	assert_true(is_alive(&c));
	caller_close(&c);
}

static void S21_a_connection_without_calls_is_let_go(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	rpc_start(&c, &r, WATCH);
	rpc_say(&c, &r, "", 0);
	rpc_half_close(&c, &r);
	caller_run(&c);
	for (int s = 0; s < 900; s++)
		caller_tick(&c, 1000);
	assert_int_equal(c.rc, 0); /* a watch is a call, however silent */
	rpc_cancel(&c, &r);
	caller_run(&c);
	for (int s = 0; s < 300; s++)
		caller_tick(&c, 1000);
	assert_int_equal(c.rc, 0);
	caller_tick(&c, 1000);
	assert_int_equal(c.rc, ERR_CLOSED);
	assert_int_equal(c.goaway, H2_NO_ERROR);
	assert_string_equal(c.goaway_text, "idle");
	rpc_done(&r);
	caller_close(&c);
}

static void S22_the_last_goaway_follows_the_ping(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	rpc_start(&c, &r, TUNNEL);
	rpc_say(&c, &r,
	        "\x0a\x05\x4a\x03\x1a\x01"
	        "b",
	        7);
	caller_run(&c);
	transport_grpc.goodbye(c.server, CLOSE_DRAINING);
	caller_run(&c);
	assert_int_equal(c.n_goaways, 2);
	assert_int_equal(c.goaway, H2_NO_ERROR);
	assert_non_null(r.stream); /* what is open goes on */
	caller_close(&c);
}

static void S22_who_answers_no_ping_is_not_waited_for(void **state)
{
	struct buf out = { 0 };
	struct caller c;
	struct rpc r;
	unsigned n = 0;

	(void)state;
	caller_open(&c, false);
	rpc_start(&c, &r, TUNNEL);
	rpc_say(&c, &r,
	        "\x0a\x05\x4a\x03\x1a\x01"
	        "b",
	        7);
	caller_run(&c);
	transport_grpc.goodbye(c.server, CLOSE_DRAINING);
	for (int s = 0; s < 6; s++) {
		transport_grpc.tick(c.server, c.now_ms += 1000);
		transport_grpc.flush(c.server, &out, 1 << 16);
		while (buf_len(&out)) {
			const uint8_t *p = buf_data(&out);
			n += p[3] == 7;
			buf_eat(&out, 9 + ((size_t)p[1] << 8 | p[2]));
		}
		assert_int_equal(n, s < 4 ? 1 : 2);
	}
	buf_done(&out);
	caller_close(&c);
}

static void S26_settings_that_are_never_acknowledged_end_the_connection(void **state)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	struct caller c;

	(void)state;
	caller_open(&c, false);
	transport_grpc.input(c.server, (const uint8_t *)preface, sizeof preface - 1, c.now_ms);
	assert_int_equal(transport_grpc.tick(c.server, c.now_ms + 5000), 0);
	assert_int_equal(transport_grpc.tick(c.server, c.now_ms + 5001), ERR_FLOOD);
	caller_close(&c);
}

static void S27_each_refusal_has_its_status_and_a_hint_when_to_come_back(void **state)
{
	static const struct {
		enum close_why why;
		const char *status, *pushback;
	} rows[] = {
		{ CLOSE_UNAUTHENTICATED, "16", "" }, { CLOSE_DENIED, "7", "" },
		{ CLOSE_TUNNELS, "8", "10000" },     { CLOSE_QUOTA, "8", "-1" },
		{ CLOSE_SUPERSEDED, "10", "" },      { CLOSE_DRAINING, "14", "" },
		{ CLOSE_UNAVAILABLE, "14", "" },     { CLOSE_INVALID, "3", "" },
	};
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		c.refuse = rows[i].why;
		rpc_start(&c, &r, TUNNEL);
		rpc_say(&c, &r,
		        "\x0a\x05\x4a\x03\x1a\x01"
		        "b",
		        7);
		caller_run(&c);
		assert_string_equal(r.status, rows[i].status);
		assert_string_equal(r.pushback, rows[i].pushback);
		assert_null(r.stream);
	}
	caller_close(&c);
}

static void a_goaway_that_names_the_clients_own_stream_is_a_goodbye(void **state)
{
	static const char bytes[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
	                            "\0\0\x8\7\0\0\0\0\0\0\0\0\1\0\0\0\0";
	struct caller c;

	(void)state;
	caller_open(&c, false);
	assert_int_equal(transport_grpc.input(c.server, (const uint8_t *)bytes, sizeof bytes - 1,
	                                      c.now_ms),
	                 ERR_CLOSED);
	caller_close(&c);
}

static void G18_cancelled_at_every_point_leaves_nothing(void **state)
{
	struct caller c;
	struct rpc r[4];

	(void)state;
	caller_open(&c, false);
	rpc_start(&c, &r[0], TUNNEL);
	rpc_cancel(&c, &r[0]); /* before its HEADERS are sent or with them */
	caller_run(&c);
	rpc_start(&c, &r[1], TUNNEL);
	rpc_say_bytes(&c, &r[1], "\0\0", 2);
	caller_run(&c);
	rpc_cancel(&c, &r[1]);
	caller_run(&c);
	rpc_start(&c, &r[2], TUNNEL);
	rpc_say(&c, &r[2],
	        "\x0a\x05\x4a\x03\x1a\x01"
	        "b",
	        7);
	caller_run(&c);
	rpc_cancel(&c, &r[2]);
	caller_run(&c);
	assert_int_equal(c.n_hello, 1);
	assert_int_equal(c.n_ended, 1);
	rpc_start(&c, &r[3], CHECK); /* the answer crosses the reset */
	rpc_say(&c, &r[3], "", 0);
	rpc_half_close(&c, &r[3]);
	c.withheld = true;
	caller_run(&c);
	rpc_cancel(&c, &r[3]);
	caller_run(&c);
	c.withheld = false;
	assert_true(is_alive(&c));
	rpc_done(&r[3]);
	caller_close(&c);
}

static void G20_10000_health_checks_on_one_connection(void **state)
{
	struct caller c;
	struct rpc r;

	(void)state;
	caller_open(&c, false);
	for (int i = 0; i < 10000; i++) {
		rpc_unary(&c, &r, CHECK, "", 0);
		assert_string_equal(r.status, "0");
		assert_null(r.stream);
		rpc_done(&r);
		caller_tick(&c, 20); /* 50 a second is what a connection may open */
	}
	assert_int_equal(c.rc, 0);
	caller_close(&c);
}

static int start(void **state)
{
	(void)state;
	return crypto_start();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(S01_S14_other_methods_are_405_in_one_frame),
		cmocka_unit_test(S02_S03_content_types_of_grpc_and_no_te_are_served),
		cmocka_unit_test(S03_S05_S28_fields_of_a_connection_and_other_te_cost_the_stream),
		cmocka_unit_test(S05_G17_a_host_beside_the_authority_does_no_harm),
		cmocka_unit_test(S04_T13_odd_paths_reach_no_handler),
		cmocka_unit_test(G04_an_unknown_method_is_named_clean_and_short),
		cmocka_unit_test(S06_G05_timeouts),
		cmocka_unit_test(S07_G19_an_expired_deadline_resets_the_stream),
		cmocka_unit_test(S08_G10_messages_have_nothing_to_do_with_frames),
		cmocka_unit_test(G10_thousands_of_messages_in_one_frame),
		cmocka_unit_test(S09_G06_G07_flags_and_encodings),
		cmocka_unit_test(S10_S15_G08_a_long_message_is_refused_from_its_prefix),
		cmocka_unit_test(T12_unfinished_messages_of_strangers_are_bounded_together),
		cmocka_unit_test(S11_G09_the_end_within_a_message_is_internal),
		cmocka_unit_test(S11_G12_a_unary_call_has_one_message),
		cmocka_unit_test(S12_what_is_no_protobuf_is_internal),
		cmocka_unit_test(S13_S19_S28_an_answer_ends_with_its_status_in_trailers),
		cmocka_unit_test(S16_G14_bin_fields),
		cmocka_unit_test(S17_S18_S24_S25_the_settings_we_send),
		cmocka_unit_test(S18_a_header_list_beyond_8_KiB_costs_the_stream),
		cmocka_unit_test(S21_a_connection_without_calls_is_let_go),
		cmocka_unit_test(S22_the_last_goaway_follows_the_ping),
		cmocka_unit_test(S22_who_answers_no_ping_is_not_waited_for),
		cmocka_unit_test(S26_settings_that_are_never_acknowledged_end_the_connection),
		cmocka_unit_test(S27_each_refusal_has_its_status_and_a_hint_when_to_come_back),
		cmocka_unit_test(a_goaway_that_names_the_clients_own_stream_is_a_goodbye),
		cmocka_unit_test(G18_cancelled_at_every_point_leaves_nothing),
		cmocka_unit_test(G20_10000_health_checks_on_one_connection),
	};
	return cmocka_run_group_tests(tests, start, NULL);
}
