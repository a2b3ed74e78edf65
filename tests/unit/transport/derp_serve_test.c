/* A DERP server of ours against bytes that a client may send: derp.md 1.4, 2.3 to 2.9, 3.4;
 * rows D of the bad-input table. */
#include "tests/unit/transport/derp_raw.h"

#define SERVER_KEY_HEX                                                                             \
	"010000002844455250f09f9491358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166"  \
	"254"
#define CLIENT_INFO_HEX                                                                            \
	"0200000068675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f0001020304050"  \
	"60708090a0b0c0d0e0f1011121314151617ecf1b8744c8f81fa18c3a3bf4b37a4ec01df37ab074e4af8a215f" \
	"8c004258dfd2f52c9ae92823e7f72bb62f35c928ed8"
#define ANSWER_101                                                                                 \
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"             \
	"Derp-Version: 2\r\nDerp-Public-Key: "                                                     \
	"358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254\r\n\r\n"

/* ---- greeting ---- */

static void the_client_of_the_vectors_is_let_in(void **state)
{
	uint8_t info[109];
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.admit = admit_native;
	add(&b, FAST);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), 0);
	assert_hex(buf_data(&b), buf_len(&b), SERVER_KEY_HEX); /* and no word of HTTP */
	buf_clear(&b);
	assert_int_equal(hex_decode(STR(CLIENT_INFO_HEX), info, sizeof info), 0);
	assert_int_equal(buf_add(&b, info, sizeof info), 0);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(p.at_server.n_hello, 1);
	assert_int_equal(p.at_server.hello.n_peers, 0);
	assert_int_equal(p.at_server.hello.native_flags, 0);
	assert_int_equal(p.at_server.hello.id.len, 0);
	assert_hex(p.at_server.node_key.b, KEY_LEN,
	           "675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f");
	assert_int_equal(hear(p.server, &b), 0);
	struct frame f = first_frame(&b);
	assert_int_equal(f.kind, DERP_SERVER_INFO);
	assert_int_equal(buf_len(&b), 58);
	assert_box(f.p, f.len, &p.server_conf.derp.public, p.client_secret, "{\"version\":2}");
	buf_done(&b);
	pair_close(&p, OPS);
}

static void without_fast_start_101_and_ServerKey_leave_together(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	add(&b, "GET /derp HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\n"
	        "Connection: Upgrade\r\nUpgrade: DERP\r\n\r\n");
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), 0);
	assert_true(buf_len(&b) == sizeof ANSWER_101 - 1 + 45);
	assert_begins(&b, ANSWER_101, sizeof ANSWER_101 - 1);
	assert_hex(buf_data(&b) + sizeof ANSWER_101 - 1, 45, SERVER_KEY_HEX);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D03_every_request_that_real_clients_make_is_taken(void **state)
{
	static const char *const requests[] = {
		FAST,
		"GET /derp HTTP/1.1\r\nHost:\r\nUser-Agent: ntnj/derpnet\r\nDerp-Fast-Start: 1\r\n"
		"Connection: Upgrade\r\nUpgrade: DERP\r\n\r\n",
		"POST /derp HTTP/1.1\r\nhost: 127.0.0.1\r\nderp-fast-start: 1\r\nupgrade: derp\r\n"
		"content-length: 0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nUpgrade: DeRp\r\n\r\n",
		"GET /derp?x=1 HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nUpgrade: DERP\r\n\r\n",
		"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nUpgrade: WebSocket\r\n\r\n",
		"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nUpgrade: h2c, DERP\r\n\r\n",
	};
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		open_server(&p, requests[i], MINIMAL_INFO);
		pair_close(&p, OPS);
	}
}

static void fast_start_is_1_and_nothing_else(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	add(&b, "GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: true\r\nUpgrade: DERP\r\n\r\n");
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), 0);
	assert_begins(&b, "HTTP/1.1 101 ", 13);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D01_pages_are_answered_until_a_request_becomes_a_conversation(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.admit = admit_native;
	add(&b, "GET /derp HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), 0);
	assert_begins(&b, "HTTP/1.1 426 ", 13);
	assert_true(contains(&b, "DERP requires connection upgrade"));
	buf_clear(&b);
	add(&b,
	    "GET /derp/latency-check HTTP/1.1\r\nHost: x\r\n\r\n"
	    "POST /derp/probe HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /"
	    "GET /generate_204 HTTP/1.1\r\nHost: x\r\nX-Tailscale-Challenge: ts_1\r\n\r\n" FAST);
	add_client_info(&p, &b, MINIMAL_INFO);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), 0);
	assert_begins(&b, "HTTP/1.1 200 ", 13);
	assert_true(contains(&b, "HTTP/1.1 405 ") && contains(&b, "bogus probe method"));
	assert_true(contains(&b, "X-Tailscale-Response: response ts_1"));
	assert_true(contains(&b, "DERP\xf0\x9f\x94\x91"));
	assert_int_equal(p.at_server.n_hello, 1);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void every_answer_has_the_date_but_not_the_101(void **state)
{
	static const struct {
		const char *request;
		bool dated;
	} rows[] = {
		{ "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true },
		{ "GET /generate_204 HTTP/1.1\r\nHost: x\r\n\r\n", true },
		{ "GET /\r\n", true },
		{ "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
		  "Sec-WebSocket-Protocol: derp\r\n\r\n",
		  true },
		{ "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n", false },
	};
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_true(pair_open(&p, OPS));
		p.server_conf.date = "Sun, 06 Nov 1994 08:49:37 GMT";
		add(&b, rows[i].request);
		feed(&p, p.server, &b);
		hear(p.server, &b);
		assert_begins(&b, "HTTP/1.1 ", 9);
		assert_int_equal(contains(&b, "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
		                 rows[i].dated);
		buf_clear(&b);
		pair_close(&p, OPS);
	}
	buf_done(&b);
}

static void a_request_that_is_none_is_answered_and_ends_the_connection(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	add(&b, "GET /derp HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n");
	assert_int_equal(feed(&p, p.server, &b), ERR_PROTOCOL);
	assert_true(hear(p.server, &b) < 0);
	assert_begins(&b, "HTTP/1.1 400 ", 13);
	assert_true(contains(&b, "Connection: close"));
	buf_done(&b);
	pair_close(&p, OPS);
}

static void a_connection_that_is_to_close_does(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	add(&b, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" FAST);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), ERR_CLOSED);
	assert_begins(&b, "HTTP/1.1 200 ", 13);
	assert_false(contains(&b, "DERP\xf0\x9f\x94\x91")); /* what came behind was not read */
	buf_done(&b);
	pair_close(&p, OPS);
}

static void what_an_end_says_of_itself_is_told(void **state)
{
	struct pair p;

	(void)state;
	open_server(&p, "GET /derp HTTP/1.1\r\nHost: x\r\nIdeal-Node: 1a\r\nUpgrade: DERP\r\n\r\n",
	            "{\"version\":2,\"IsProber\":true}");
	assert_int_equal(p.at_server.hello.native_flags, NATIVE_PROBER | NATIVE_NOT_IDEAL);
	pair_close(&p, OPS);
	open_mesh(&p, MESH_HEX);
	assert_int_equal(p.at_server.hello.native_flags, NATIVE_MESH);
	pair_close(&p, OPS);
	open_mesh(&p, "ABCD0000000000000000000000000000000000000000000000000000000000EF");
	assert_int_equal(p.at_server.hello.native_flags, NATIVE_MESH);
	pair_close(&p, OPS);
	open_mesh(&p, "abcd0000000000000000000000000000000000000000000000000000000000ee");
	assert_int_equal(p.at_server.hello.native_flags, 0); /* wrong: an ordinary end */
	pair_close(&p, OPS);
	open_server(&p, FAST, "{\"meshKey\":\"" MESH_HEX "\"}"); /* a server without one */
	assert_int_equal(p.at_server.hello.native_flags, 0);
	pair_close(&p, OPS);
}

static void a_mesh_key_of_zeros_is_none(void **state)
{
	static const uint8_t zeros[KEY_LEN];
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.server_conf.derp.mesh_key = zeros;
	p.admit = admit_native;
	add(&b, FAST);
	add_client_info(&p, &b,
	                "{\"meshKey\":\"0000000000000000000000000000000000000000000000000000000000"
	                "000000\"}");
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(p.at_server.hello.native_flags, 0);
	buf_done(&b);
	pair_close(&p, OPS);
}

/* The mark goes only to who asked for it, and without it nothing of ours is read. */
static void the_mark_is_shown_to_those_who_ask(void **state)
{
	static const char *const requests[] = {
		FAST,
		"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nTunn-Version: 2\r\n"
		"Upgrade: DERP\r\n\r\n",
		"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nTunn-Version:\r\n"
		"Upgrade: DERP\r\n\r\n",
		"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nTunn-Version: 1\r\n"
		"Upgrade: DERP\r\n\r\n",
	};
	static const char named[] =
	                "{\"version\":2,\"tunnId\":\"laptop\",\"tunnPeers\":[\"home\"]}";

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct buf b = { 0 };
		struct pair p;
		bool ours = i == 3;
		assert_true(pair_open(&p, OPS));
		if (!ours)
			p.admit = admit_native;
		add(&b, requests[i]);
		assert_int_equal(feed(&p, p.server, &b), 0);
		assert_int_equal(hear(p.server, &b), 0);
		assert_int_equal(buf_len(&b), ours ? 50 : 45);
		assert_int_equal(contains(&b, "tunn"), ours);
		buf_clear(&b);
		add_client_info(&p, &b, named);
		assert_int_equal(feed(&p, p.server, &b), 0);
		assert_int_equal(p.at_server.hello.n_peers, ours ? 1 : 0);
		assert_string_equal(p.at_server.id, ours ? "laptop" : "");
		assert_int_equal(hear(p.server, &b), 0);
		struct frame f = first_frame(&b);
		if (ours)
			assert_true(f.len > 53);
		else
			assert_int_equal(f.len, 53);
		buf_done(&b);
		pair_close(&p, OPS);
	}
}

/* ---- what ends it in the handshake ---- */

/* It failed, the owner was told of nobody, and not a byte was said behind ServerKey. */
static void assert_shut_out(struct pair *p, struct buf *b)
{
	assert_int_equal(feed(p, p->server, b), ERR_PROTOCOL);
	assert_int_equal(p->at_server.n_hello, 0);
	assert_true(hear(p->server, b) < 0);
	assert_int_equal(buf_len(b), 45);
	assert_true(OPS->input(p->server, (const uint8_t *)"x", 1, p->now_ms) < 0);
	buf_clear(b);
	pair_close(p, OPS);
}

static void begin(struct pair *p, struct buf *b)
{
	assert_true(pair_open(p, OPS));
	add(b, FAST);
}

static void D05_who_does_not_say_who_it_is_is_shut_out(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		if (type == DERP_CLIENT_INFO)
			continue;
		begin(&p, &b);
		derp_put(&b, (enum derp_type)type, p.client_secret, KEY_LEN);
		add_client_info(&p, &b, MINIMAL_INFO);
		assert_shut_out(&p, &b);
	}
	buf_done(&b);
}

static void D06_a_ClientInfo_too_short_or_too_long_is_refused_by_its_head(void **state)
{
	static const uint32_t bad[] = { 0, 55, 16385, UINT32_MAX };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		uint8_t head[FRAME_HEAD_LEN];
		begin(&p, &b);
		frame_put_head(head, DERP_CLIENT_INFO, bad[i]);
		assert_int_equal(buf_add(&b, head, sizeof head), 0);
		int expected = bad[i] < 56 ? ERR_PROTOCOL : ERR_TOO_BIG;
		assert_int_equal(feed(&p, p.server, &b), expected);
		assert_int_equal(p.at_server.n_hello, 0);
		buf_clear(&b);
		pair_close(&p, OPS);
	}
	for (uint32_t len = 56; len < 72; len++) { /* no box is so short */
		uint8_t zeros[72] = { 9 };
		begin(&p, &b);
		derp_put(&b, DERP_CLIENT_INFO, zeros, len);
		assert_shut_out(&p, &b);
	}
	buf_done(&b);
}

static void D07_who_has_not_the_key_it_shows_is_shut_out(void **state)
{
	static const struct key zero = { { 0 } }, low_order = { { 1 } };
	struct buf b = { 0 };
	struct pair p;
	struct key k;

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		begin(&p, &b);
		const struct key *own = &p.client_conf.derp.public,
		                 *to = &p.server_conf.derp.public;
		const uint8_t *secret = p.client_secret;
		switch (i) {
		case 0: own = &zero; break;
		case 1: own = &low_order; break;
		case 2: own = &stranger; break; /* of somebody else */
		case 3:                         /* the key of a named tunnel */
			k = *own;
			k.b[KEY_LEN - 1] |= 0x80;
			own = &k;
			break;
		case 4: /* ourselves, but not as a mate */
			own = to;
			secret = p.server_secret;
			break;
		default: to = &stranger; /* meant for another server */
		}
		add_sealed(&b, DERP_CLIENT_INFO, own, MINIMAL_INFO, to, secret);
		assert_shut_out(&p, &b);
	}
	begin(&p, &b); /* one bit of the box */
	add_client_info(&p, &b, MINIMAL_INFO);
	((uint8_t *)(uintptr_t)buf_data(&b))[buf_len(&b) - 1] ^= 1;
	assert_shut_out(&p, &b);
	buf_done(&b);
}

static void D08_who_says_no_JSON_is_shut_out(void **state)
{
	static const char *const bad[] = {
		"", "null", "[]", "{", "{\"meshKey\":\"badf00d\"}", "{\"version\":\"2\"}"
	};
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		begin(&p, &b);
		add_client_info(&p, &b, bad[i]);
		assert_shut_out(&p, &b);
	}
	buf_done(&b);
}

static bool refuse(struct pair *p, struct chan *c, const struct hello *h)
{
	(void)h;
	c->ops->refuse(c, CLOSE_DENIED, "secret words");
	p->at_server.chan = NULL;
	return false;
}

static void a_native_end_that_is_refused_hears_nothing_and_is_closed(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	begin(&p, &b);
	p.admit = refuse;
	add_client_info(&p, &b, MINIMAL_INFO);
	derp_put_packet(&b, DERP_SEND_PACKET, &stranger, (const uint8_t *)"x", 1);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), ERR_CLOSED);
	assert_int_equal(buf_len(&b), 45);
	assert_null(p.at_server.packets.head);
	buf_done(&b);
	pair_close(&p, OPS);
}

/* ---- frames ---- */

/* One frame of that kind and length from an admitted end. */
static int say(struct pair *p, unsigned type, size_t len)
{
	struct buf b = { 0 };
	uint8_t *at = derp_put_open(&b, (enum derp_type)type, len);

	assert_non_null(at);
	memset(at, 0x11, len);
	int rc = feed(p, p->server, &b);
	buf_done(&b);
	return rc;
}

static void D09_packets_of_0_to_65536_bytes_arrive_and_others_end_it(void **state)
{
	static const struct {
		size_t len;
		int rc;
	} cases[] = { { 0, ERR_PROTOCOL },
		      { 31, ERR_PROTOCOL },
		      { 32, 0 },
		      { 33, 0 },
		      { KEY_LEN + 65507, 0 },
		      { KEY_LEN + 65536, 0 },
		      { KEY_LEN + 65537, ERR_TOO_BIG } };
	struct pair p;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		open_server(&p, FAST, MINIMAL_INFO);
		assert_int_equal(say(&p, DERP_SEND_PACKET, cases[i].len), cases[i].rc);
		struct pkt *got = pktq_pop(&p.at_server.packets);
		assert_int_equal(got != NULL, cases[i].rc == 0);
		if (got) {
			assert_int_equal(got->len, cases[i].len - KEY_LEN);
			assert_int_equal(got->dst.b[KEY_LEN - 1], 0x11);
			assert_int_equal(got->src.b[0], 0); /* stamped by the router */
			assert_int_equal(got->flow, 0);
		}
		pkt_free(got);
		pair_close(&p, OPS);
	}
}

/* derp.md 2.5: an unknown destination, not an error. */
static void a_packet_to_nobody_at_all_does_not_end_it(void **state)
{
	static const struct key zero;
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_mesh(&p, MESH_HEX);
	derp_put_packet(&b, DERP_SEND_PACKET, &zero, (const uint8_t *)"bogus", 5);
	derp_put_forward(&b, &zero, &zero, (const uint8_t *)"bogus", 5);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(p.at_server.n_forward, 1);
	assert_int_equal(p.at_server.packets.n, 2);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D12_what_only_a_mate_may_ends_others(void **state)
{
	struct pair p;

	(void)state;
	for (unsigned mate = 0; mate < 2; mate++) {
		static const struct {
			unsigned type;
			size_t len;
		} cases[] = { { DERP_FORWARD_PACKET, 64 },
			      { DERP_WATCH_CONNS, 0 },
			      { DERP_CLOSE_PEER, 32 } };
		for (size_t i = 0; i < 3; i++) {
			if (mate)
				open_mesh(&p, MESH_HEX);
			else
				open_server(&p, FAST, MINIMAL_INFO);
			assert_int_equal(say(&p, cases[i].type, cases[i].len),
			                 mate ? 0 : ERR_PROTOCOL);
			assert_int_equal(p.at_server.n_forward, mate && i == 0);
			if (mate && i == 1)
				assert_int_equal(p.at_server.wish.kind, WISH_WATCH);
			if (mate && i == 2) {
				assert_int_equal(p.at_server.wish.kind, WISH_CLOSE_PEER);
				assert_int_equal(p.at_server.wish.key.b[9], 0x11);
			}
			pair_close(&p, OPS);
		}
	}
	open_mesh(&p, MESH_HEX);
	assert_int_equal(say(&p, DERP_FORWARD_PACKET, 63), ERR_PROTOCOL);
	pair_close(&p, OPS);
	open_mesh(&p, MESH_HEX);
	assert_int_equal(say(&p, DERP_WATCH_CONNS, 1), ERR_TOO_BIG);
	pair_close(&p, OPS);
	open_mesh(&p, MESH_HEX);
	assert_int_equal(say(&p, DERP_CLOSE_PEER, 33), ERR_TOO_BIG);
	pair_close(&p, OPS);
}

static void a_packet_from_another_relay_has_both_keys(void **state)
{
	static const struct key a = { { 1 } }, b_key = { { 2 } };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_mesh(&p, MESH_HEX);
	derp_put_forward(&b, &a, &b_key, (const uint8_t *)"hello", 5);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(p.at_server.n_forward, 1);
	struct pkt *got = pktq_pop(&p.at_server.packets);
	assert_non_null(got);
	assert_true(key_eq(&got->src, &a) && key_eq(&got->dst, &b_key));
	assert_int_equal(got->len, 5);
	assert_memory_equal(got->data, "hello", 5);
	pkt_free(got);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D13_a_ping_is_answered_by_its_first_8_bytes(void **state)
{
	static const size_t good[] = { 8, 9, 1000 }, bad[] = { 0, 7, 1001 };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	for (size_t i = 0; i < 3; i++) {
		uint8_t *at = derp_put_open(&b, DERP_PING, good[i]);
		assert_non_null(at);
		memset(at, 0x77, good[i]);
		memcpy(at, "\1\2\3\4\5\6\7\x2a", 8);
		assert_int_equal(feed(&p, p.server, &b), 0);
		assert_int_equal(hear(p.server, &b), 0);
		assert_hex(buf_data(&b), buf_len(&b), "1300000008010203040506072a");
		buf_clear(&b);
	}
	pair_close(&p, OPS);
	for (size_t i = 0; i < 3; i++) {
		open_server(&p, FAST, MINIMAL_INFO);
		assert_int_equal(say(&p, DERP_PING, bad[i]),
		                 bad[i] < 8 ? ERR_PROTOCOL : ERR_TOO_BIG);
		assert_true(hear(p.server, &b) < 0);
		assert_int_equal(buf_len(&b), 0);
		pair_close(&p, OPS);
	}
	buf_done(&b);
}

static void D13_one_pong_waits_at_most(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	derp_put(&b, DERP_PING, "first...", 8);
	derp_put(&b, DERP_PING, "second..", 8);
	derp_put(&b, DERP_PING, "third...", 8);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_true(OPS->has_output(p.server));
	assert_int_equal(hear(p.server, &b), 0);
	assert_int_equal(count_frames(&b, DERP_PONG), 1);
	assert_true(contains(&b, "first..."));
	buf_clear(&b);
	assert_false(OPS->has_output(p.server));
	derp_put(&b, DERP_PING, "fourth..", 8);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_int_equal(hear(p.server, &b), 0);
	assert_true(contains(&b, "fourth.."));
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D14_frames_that_no_server_expects_are_skipped(void **state)
{
	static const unsigned types[] = { 0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x09, 0x0b,
		                          0x0f, 0x13, 0x14, 0x15, 0x16, 0x74, 0x75, 0x77, 0xff };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		unsigned before = p.at_server.n_wish;
		assert_int_equal(say(&p, types[i], 100), 0);
		assert_int_equal(say(&p, types[i], 0), 0);
		assert_int_equal(say(&p, types[i], 65600), 0);
		/* any frame makes its end the active one (3.6) */
		assert_int_equal(p.at_server.n_wish, before + 3);
		assert_int_equal(p.at_server.wish.kind, WISH_ACTIVE);
	}
	assert_int_equal(hear(p.server, &b), 0);
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(say(&p, DERP_SEND_PACKET, 40), 0);
	assert_int_equal(p.at_server.packets.n, 1);
	assert_int_equal(say(&p, 0x77, 65601), ERR_TOO_BIG);
	buf_done(&b);
	pair_close(&p, OPS);
}

/* Of a tunnel, a packet of a flow has four bytes more; of nobody else it is a packet. */
static void a_packet_of_a_flow_is_read_whole_or_not_at_all(void **state)
{
	struct pair p;

	(void)state;
	for (size_t len = 30; len < 40; len++) {
		connect_pair(&p);
		assert_int_equal(say(&p, DERP_TUNN_FLOW, len), len < 36 ? ERR_PROTOCOL : 0);
		assert_int_equal(p.at_server.packets.n, len >= 36);
		if (len >= 36)
			assert_int_equal(p.at_server.packets.head->flow, 0x11111111);
		pair_close(&p, OPS);
	}
	connect_pair(&p);
	assert_int_equal(say(&p, DERP_TUNN_FLOW, 36 + 65536), 0);
	assert_int_equal(p.at_server.packets.n, 1);
	assert_int_equal(say(&p, DERP_TUNN_FLOW, 36 + 65537), 0); /* dropped, counted */
	assert_int_equal(p.at_server.packets.n, 1);
	assert_int_equal(p.at_server.chan->n_ignored, 1);
	assert_int_equal(say(&p, DERP_TUNN_FLOW, 65601), ERR_TOO_BIG);
	pair_close(&p, OPS);
}

static void D15_a_home_is_noted_by_one_byte(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	for (unsigned value = 0; value < 3; value++) {
		const uint8_t byte = (uint8_t)value;
		derp_put(&b, DERP_NOTE_PREFERRED, &byte, 1);
		assert_int_equal(feed(&p, p.server, &b), 0);
		assert_int_equal(p.at_server.wish.kind, WISH_HOME);
		assert_int_equal(p.at_server.wish.on, value != 0);
	}
	assert_int_equal(say(&p, DERP_NOTE_PREFERRED, 2), ERR_TOO_BIG);
	pair_close(&p, OPS);
	open_server(&p, FAST, MINIMAL_INFO);
	assert_int_equal(say(&p, DERP_NOTE_PREFERRED, 0), ERR_PROTOCOL);
	pair_close(&p, OPS);
	buf_done(&b);
}

/* ---- however the bytes come ---- */

static void put_session(struct pair *p, struct buf *b, bool fast)
{
	add(b, "GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n");
	add(b, fast ? FAST : "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\n\r\n");
	add_client_info(p, b, MINIMAL_INFO);
	derp_put(b, DERP_NOTE_PREFERRED, "\1", 1);
	derp_put_packet(b, DERP_SEND_PACKET, &stranger, (const uint8_t *)"one", 3);
	derp_put(b, (enum derp_type)0x66, "unknown", 7);
	derp_put_packet(b, DERP_SEND_PACKET, &stranger, NULL, 0);
	derp_put(b, DERP_PING, "12345678", 8);
	derp_put_packet(b, DERP_SEND_PACKET, &stranger, (const uint8_t *)"three", 5);
}

static void assert_session(struct pair *p, struct buf *heard)
{
	static const char *const expected[] = { "one", "", "three" };

	assert_int_equal(p->at_server.n_hello, 1);
	assert_int_equal(p->at_server.n_wish, 4); /* active three times, home */
	for (unsigned i = 0; i < 3; i++) {
		struct pkt *got = pktq_pop(&p->at_server.packets);
		assert_non_null(got);
		assert_int_equal(got->len, strlen(expected[i]));
		assert_memory_equal(got->data, expected[i], got->len);
		assert_true(key_eq(&got->dst, &stranger));
		pkt_free(got);
	}
	assert_null(p->at_server.packets.head);
	assert_true(contains(heard, "HTTP/1.1 200 OK"));
	assert_true(contains(heard, "DERP\xf0\x9f\x94\x91"));
	assert_int_equal(memcmp(buf_data(heard) + buf_len(heard) - 13,
	                        "\x13\0\0\0\x08"
	                        "12345678",
	                        13),
	                 0);
}

static void D04_a_session_may_be_cut_anywhere(void **state)
{
	struct buf all = { 0 }, heard = { 0 }, part = { 0 };
	struct pair p;
	size_t len = 1;

	(void)state;
	for (unsigned fast = 0; fast < 2; fast++) {
		for (size_t at = 0; at <= len; at++) {
			assert_true(pair_open(&p, OPS));
			p.admit = admit_native;
			put_session(&p, &all, fast);
			len = buf_len(&all);
			p.chunk = at == 0 ? 1 : 0;
			assert_int_equal(buf_add(&part, buf_data(&all), at), 0);
			buf_eat(&all, at);
			assert_int_equal(feed(&p, p.server, &part), 0);
			assert_int_equal(hear(p.server, &heard), 0);
			assert_int_equal(feed(&p, p.server, &all), 0);
			assert_int_equal(hear(p.server, &heard), 0);
			assert_session(&p, &heard);
			buf_clear(&heard);
			pair_close(&p, OPS);
		}
	}
	buf_done(&all);
	buf_done(&heard);
	buf_done(&part);
}

/* ---- admission that takes its time ---- */

static bool later(struct pair *p, struct chan *c, const struct hello *h)
{
	(void)p, (void)c, (void)h;
	return false;
}

static void send_numbered(struct buf *b, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		const uint8_t byte = (uint8_t)i;
		derp_put_packet(b, DERP_SEND_PACKET, &stranger, &byte, 1);
	}
}

static void open_pending(struct pair *p, struct buf *b)
{
	begin(p, b);
	p->admit = later;
	add_client_info(p, b, MINIMAL_INFO);
}

static void assert_numbered(struct pair *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct pkt *got = pktq_pop(&p->at_server.packets);
		assert_non_null(got);
		assert_int_equal(got->data[0], i);
		pkt_free(got);
	}
	assert_null(p->at_server.packets.head);
}

static void what_comes_before_admission_is_held_in_order(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (unsigned by_tick = 0; by_tick < 2; by_tick++) {
		open_pending(&p, &b);
		send_numbered(&b, 0, 10);
		assert_int_equal(feed(&p, p.server, &b), 0);
		p.chunk = 7;
		send_numbered(&b, 10, 10);
		assert_true(buf_len(&b) > 3);
		buf_cut(&b, buf_len(&b) - 3); /* ends within a frame */
		assert_int_equal(feed(&p, p.server, &b), 0);
		assert_int_equal(OPS->rest_ms(p.server), BUDGET_REST_MS); /* not faster than that */
		assert_null(p.at_server.packets.head);
		assert_int_equal(hear(p.server, &b), 0);
		assert_int_equal(buf_len(&b), 45);
		buf_clear(&b);
		welcome_native(p.at_server.chan);
		assert_int_equal(OPS->rest_ms(p.server), 0);
		if (by_tick) {
			assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
			assert_numbered(&p, 19);
		}
		send_numbered(&b, 19, 3);
		assert_true(buf_len(&b) > FRAME_HEAD_LEN + KEY_LEN);
		buf_eat(&b, FRAME_HEAD_LEN + KEY_LEN + 1 - 3);
		assert_int_equal(feed(&p, p.server, &b), 0);
		if (by_tick) {
			for (unsigned i = 19; i < 22; i++) {
				struct pkt *got = pktq_pop(&p.at_server.packets);
				assert_non_null(got);
				assert_int_equal(got->data[0], i);
				pkt_free(got);
			}
		} else {
			assert_numbered(&p, 22);
		}
		buf_clear(&b);
		pair_close(&p, OPS);
	}
	buf_done(&b);
}

static void what_is_held_is_bounded(void **state)
{
	struct buf b = { 0 };
	struct pair p;
	size_t n = 0;
	int rc;

	(void)state;
	open_pending(&p, &b);
	do {
		for (unsigned i = 0; i < 100; i++)
			send_numbered(&b, 0, 10);
		n += buf_len(&b);
		rc = feed(&p, p.server, &b);
	} while (rc == 0 && n < 4 << 20);
	assert_int_equal(rc, ERR_FLOOD);
	assert_in_range(n, 400000, 700000);
	assert_null(p.at_server.packets.head);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void an_end_refused_in_the_end_is_told_nothing_and_what_was_held_is_not_read(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_pending(&p, &b);
	send_numbered(&b, 0, 10);
	assert_int_equal(feed(&p, p.server, &b), 0);
	OPS->refuse(p.at_server.chan, CLOSE_DENIED, "no");
	assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
	send_numbered(&b, 0, 10);
	assert_int_equal(feed(&p, p.server, &b), 0);
	assert_null(p.at_server.packets.head);
	assert_int_equal(hear(p.server, &b), ERR_CLOSED);
	assert_int_equal(buf_len(&b), 45);
	buf_done(&b);
	pair_close(&p, OPS);
}

/* The owner ends the channel in the middle of what it is told. */
static void end_at_first_packet(void *owner, struct chan *c, struct pkt *pkt)
{
	struct pair *p = owner;

	assert_non_null(p->at_server.chan);
	pktq_push(&p->at_server.packets, pkt);
	p->at_server.chan = NULL;
	c->ops->end(c, CLOSE_CANCELLED, "enough");
}

static void nothing_is_told_of_a_channel_that_was_ended(void **state)
{
	struct transport_events ending = pair_events;
	struct buf b = { 0 };

	(void)state;
	ending.packet = end_at_first_packet;
	for (unsigned held = 0; held < 2; held++) {
		struct pair p;
		assert_true(pair_open(&p, OPS));
		OPS->free(p.server);
		assert_int_equal(OPS->open(&p.server_conf, SIDE_SERVER, p.now_ms, &ending, &p,
		                           &p.server),
		                 0);
		p.admit = later;
		add(&b, FAST);
		add_client_info(&p, &b, MINIMAL_INFO);
		if (held)
			send_numbered(&b, 0, 3);
		assert_int_equal(feed(&p, p.server, &b), 0);
		welcome_native(p.at_server.chan);
		send_numbered(&b, 3, 3);
		assert_int_equal(feed(&p, p.server, &b), 0);
		assert_int_equal(p.at_server.packets.n, 1);
		assert_int_equal(hear(p.server, &b), ERR_CLOSED);
		buf_clear(&b);
		pair_close(&p, OPS);
	}
	buf_done(&b);
}

/* ---- budgets ---- */

static void frames_that_carry_nothing_are_slowed_then_ended(void **state)
{
	struct pair p;
	unsigned n = 0, n_rest = 0;
	int rc;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	for (unsigned i = 0; i < 5000; i++) /* packets are none */
		assert_int_equal(say(&p, DERP_SEND_PACKET, 32), 0);
	assert_int_equal(OPS->rest_ms(p.server), 0);
	do {
		rc = say(&p, DERP_NOTE_PREFERRED, 1);
		if (rc == 0 && OPS->rest_ms(p.server)) {
			assert_true(n >= limits_default.controls_burst - 1);
			n_rest++;
		}
		n++;
	} while (rc == 0 && n < 5000);
	assert_int_equal(rc, ERR_FLOOD);
	assert_in_range(n, limits_default.controls_burst * 2 - 1,
	                limits_default.controls_burst * 2 + 10);
	assert_true(n_rest > 100);
	assert_non_null(strstr(OPS->error_text(p.server), "no packet"));
	pair_close(&p, OPS);
}

static void who_keeps_to_the_rate_is_never_ended(void **state)
{
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	for (unsigned i = 0; i < 3000; i++) {
		p.now_ms += 1000 / limits_default.controls_per_s;
		assert_int_equal(say(&p, DERP_PING, 8), 0);
		assert_int_equal(OPS->rest_ms(p.server), 0);
	}
	pair_close(&p, OPS);
}

static void requests_count_too(void **state)
{
	struct buf b = { 0 }, out = { 0 };
	struct pair p;
	unsigned n = 0;
	int rc;

	(void)state;
	assert_true(pair_open(&p, OPS));
	do {
		add(&b, "GET /derp/latency-check HTTP/1.1\r\nHost: x\r\n\r\n");
		rc = feed(&p, p.server, &b);
		hear(p.server, &out);
		buf_clear(&out);
	} while (rc == 0 && ++n < 5000);
	assert_int_equal(rc, ERR_FLOOD);
	assert_true(n >= limits_default.controls_burst * 2 - 1);
	buf_done(&b);
	buf_done(&out);
	pair_close(&p, OPS);
}

/* ---- time ---- */

static void D16_half_a_frame_has_its_time_and_what_trickles_in_does_not_give_more(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (unsigned where = 0; where < 3; where++) {
		assert_true(pair_open(&p, OPS));
		p.admit = admit_native;
		add(&b, FAST);
		if (where > 1) {
			add_client_info(&p, &b, MINIMAL_INFO);
			assert_int_equal(feed(&p, p.server, &b), 0);
			for (unsigned s = 0; s < 200; s++) { /* idle between frames is no sin */
				p.now_ms += 1000;
				assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
			}
			derp_put_packet(&b, DERP_SEND_PACKET, &stranger, p.client_secret, 32);
		} else if (where > 0) {
			add_client_info(&p, &b, MINIMAL_INFO);
		}
		assert_true(buf_len(&b) > 35);
		size_t n = buf_len(&b) - 35;
		buf_cut(&b, n);
		assert_int_equal(feed(&p, p.server, &b), 0);
		for (uint32_t ms = 0; ms < limits_default.frame_ms; ms += 1000) {
			p.now_ms += 1000;
			assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
			buf_add(&b, where ? "\0" : "x", 1);
			assert_int_equal(feed(&p, p.server, &b), 0);
		}
		p.now_ms += 1;
		assert_int_equal(OPS->tick(p.server, p.now_ms), -110); /* ETIMEDOUT */
		pair_close(&p, OPS);
	}
	buf_done(&b);
}

/* Every frame is whole within a second, but no chunk ends where one does: so writes who fills
 * a buffer and says what is in it when it is full. */
static void a_stream_of_frames_cut_anywhere_is_never_late(void **state)
{
	struct buf b = { 0 }, whole = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	derp_put_packet(&whole, DERP_SEND_PACKET, &stranger, p.client_secret, 32);
	assert_int_equal(buf_add(&b, buf_data(&whole), 1), 0);
	for (uint32_t ms = 0; ms < 3 * limits_default.frame_ms; ms += 1000) {
		assert_int_equal(feed(&p, p.server, &b), 0);
		p.now_ms += 1000;
		assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
		assert_int_equal(buf_add(&b, buf_data(&whole) + 1, buf_len(&whole) - 1), 0);
		assert_int_equal(buf_add(&b, buf_data(&whole), 1), 0);
	}
	buf_done(&b);
	buf_done(&whole);
	pair_close(&p, OPS);
}

/* Seconds at which KeepAlive was said. */
static unsigned keep_alives(struct pair *p, uint64_t *at, unsigned cap)
{
	struct buf b = { 0 };
	unsigned n = 0;

	while (n < cap) {
		p->now_ms += 250;
		assert_int_equal(OPS->tick(p->server, p->now_ms), 0);
		assert_int_equal(hear(p->server, &b), 0);
		if (buf_len(&b)) {
			assert_hex(buf_data(&b), buf_len(&b), "0600000000"); /* and never Ping */
			at[n++] = p->now_ms;
		}
		buf_clear(&b);
	}
	buf_done(&b);
	return n;
}

static void KeepAlive_has_one_period_for_each_connection(void **state)
{
	uint64_t least = UINT64_MAX, most = 0;

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		struct pair p;
		uint64_t at[6], began;
		open_server(&p, FAST, MINIMAL_INFO);
		began = p.now_ms;
		keep_alives(&p, at, 6);
		uint64_t period = at[0] - began;
		assert_in_range(period, 60000, 65250);
		for (unsigned k = 1; k < 6; k++)
			assert_in_range(at[k] - at[k - 1] + 250, period, period + 500);
		least = period < least ? period : least;
		most = period > most ? period : most;
		pair_close(&p, OPS);
	}
	assert_true(most > least);
}

/* Some clients end at a Ping that they do not expect (derp.md 8). */
static void a_native_end_is_never_asked(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	OPS->probe(p.server, p.now_ms, 100);
	OPS->freshen(p.server, p.now_ms, 10000);
	for (unsigned s = 0; s < 50; s++) {
		p.now_ms += 1000;
		assert_int_equal(OPS->tick(p.server, p.now_ms), 0);
	}
	assert_int_equal(hear(p.server, &b), 0);
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(say(&p, DERP_SEND_PACKET, 40), 0); /* and what it sends is taken */
	assert_int_equal(p.at_server.packets.n, 1);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void a_server_that_naps_goes_on_where_it_was(void **state)
{
	struct buf b = { 0 }, rest = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	assert_true(OPS->nap(p.server));
	send_numbered(&b, 0, 2);
	assert_true(buf_len(&b) > 50);
	buf_add(&rest, buf_data(&b) + 50, buf_len(&b) - 50);
	buf_cut(&b, 50);
	assert_int_equal(feed(&p, p.server, &b), 0);
	OPS->nap(p.server); /* within a frame */
	assert_int_equal(feed(&p, p.server, &rest), 0);
	assert_numbered(&p, 2);
	assert_int_equal(OPS->stalled_ms(p.server), 2000);
	buf_done(&b);
	buf_done(&rest);
	pair_close(&p, OPS);
	open_mesh(&p, MESH_HEX);
	assert_int_equal(OPS->stalled_ms(p.server), 30000);
	pair_close(&p, OPS);
}

/* ---- what the relay tells ---- */

static int tell_present(struct pair *p, unsigned n)
{
	struct peer_status s = { .state = PEER_UP, .text = STR(""), .port = (uint16_t)n };

	memcpy(s.key.b, &n, sizeof n);
	return OPS->tell_peer(p->at_server.chan, &s);
}

static void a_mate_is_told_of_any_number_of_ends_as_it_has_room(void **state)
{
	enum { ENDS = 50000, ROOM = 16375, EACH = 56 };
	struct buf b = { 0 };
	struct pair p;
	size_t told = 0;

	(void)state;
	open_mesh(&p, MESH_HEX);
	hear(p.server, &b);
	buf_clear(&b);
	for (unsigned i = 0; i < ENDS; i++)
		assert_int_equal(tell_present(&p, i), 0);
	assert_int_equal(OPS->flush(p.server, &b, 0), 0);
	assert_int_equal(buf_len(&b), 0);
	while (OPS->has_output(p.server)) {
		size_t before = buf_len(&b);
		told = OPS->waiting(p.server);
		assert_int_equal(OPS->flush(p.server, &b, ROOM), 0);
		assert_in_range(buf_len(&b) - before, 1, 128 * 1024);
		assert_int_equal(OPS->waiting(p.server), told - (buf_len(&b) - before));
	}
	assert_int_equal(buf_len(&b), ENDS * EACH);
	for (unsigned i = 0; i < ENDS; i++)
		assert_memory_equal(buf_data(&b) + (size_t)i * EACH + 5, &i, sizeof i);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void a_mate_that_takes_nothing_of_it_is_ended(void **state)
{
	struct buf b = { 0 };
	struct pair p;
	unsigned n = 0;

	(void)state;
	open_mesh(&p, MESH_HEX);
	while (tell_present(&p, n) == 0)
		assert_in_range(n++, 0, 2000000);
	assert_in_range(n, 1000000, 2000000);
	assert_int_equal(OPS->flush(p.server, &b, 0), ERR_FLOOD);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void a_native_end_is_told_in_its_own_words(void **state)
{
	struct peer_status s = { .key = { { 7, [31] = 8 } },
		                 .state = PEER_UP,
		                 .text = STR("words"),
		                 .ip = { [10] = 0xff, 0xff, 192, 0, 2, 1 },
		                 .port = 0x1234 };
	struct notice n = { .kind = NOTICE_DRAINING, .within_ms = 1000, .target = STR("") };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_server(&p, FAST, MINIMAL_INFO);
	assert_int_equal(OPS->tell_peer(p.at_server.chan, &s), 0);
	hear(p.server, &b);
	assert_hex(buf_data(&b), buf_len(&b),
	           "09000000330700000000000000000000000000000000000000000000000000000000000008"
	           "00000000000000000000ffffc0000201123401");
	buf_clear(&b);
	s.native_flags = NATIVE_MESH | NATIVE_NOT_IDEAL;
	assert_int_equal(OPS->tell_peer(p.at_server.chan, &s), 0);
	hear(p.server, &b);
	assert_int_equal(buf_len(&b), 56);
	assert_int_equal(buf_data(&b)[55], 10);
	buf_clear(&b);
	s.state = PEER_GONE;
	assert_int_equal(OPS->tell_peer(p.at_server.chan, &s), 0);
	s.state = PEER_ABSENT;
	assert_int_equal(OPS->tell_peer(p.at_server.chan, &s), 0);
	hear(p.server, &b);
	assert_int_equal(buf_len(&b), 2 * 38);
	assert_begins(&b, "\x08\0\0\0\x21\x07", 6);
	assert_int_equal(buf_data(&b)[37], 0);
	assert_int_equal(buf_data(&b)[75], 1);
	buf_clear(&b);
	/* nothing that it would not understand */
	s.state = PEER_NOT_MUTUAL;
	assert_int_equal(OPS->tell_peer(p.at_server.chan, &s), 0);
	s.state = PEER_OVER_LIMIT;
	assert_int_equal(OPS->tell_peer(p.at_server.chan, &s), 0);
	assert_int_equal(OPS->tell_notice(p.at_server.chan, &n), 0);
	n.kind = NOTICE_SUPERSEDED;
	assert_int_equal(OPS->tell_notice(p.at_server.chan, &n), 0);
	OPS->end(p.at_server.chan, CLOSE_DRAINING, "bye");
	assert_int_equal(hear(p.server, &b), ERR_CLOSED);
	assert_int_equal(buf_len(&b), 0);
	buf_done(&b);
	pair_close(&p, OPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_client_of_the_vectors_is_let_in),
		cmocka_unit_test(without_fast_start_101_and_ServerKey_leave_together),
		cmocka_unit_test(D03_every_request_that_real_clients_make_is_taken),
		cmocka_unit_test(fast_start_is_1_and_nothing_else),
		cmocka_unit_test(D01_pages_are_answered_until_a_request_becomes_a_conversation),
		cmocka_unit_test(every_answer_has_the_date_but_not_the_101),
		cmocka_unit_test(a_request_that_is_none_is_answered_and_ends_the_connection),
		cmocka_unit_test(a_connection_that_is_to_close_does),
		cmocka_unit_test(what_an_end_says_of_itself_is_told),
		cmocka_unit_test(a_mesh_key_of_zeros_is_none),
		cmocka_unit_test(the_mark_is_shown_to_those_who_ask),
		cmocka_unit_test(D05_who_does_not_say_who_it_is_is_shut_out),
		cmocka_unit_test(D06_a_ClientInfo_too_short_or_too_long_is_refused_by_its_head),
		cmocka_unit_test(D07_who_has_not_the_key_it_shows_is_shut_out),
		cmocka_unit_test(D08_who_says_no_JSON_is_shut_out),
		cmocka_unit_test(a_native_end_that_is_refused_hears_nothing_and_is_closed),
		cmocka_unit_test(D09_packets_of_0_to_65536_bytes_arrive_and_others_end_it),
		cmocka_unit_test(a_packet_to_nobody_at_all_does_not_end_it),
		cmocka_unit_test(D12_what_only_a_mate_may_ends_others),
		cmocka_unit_test(a_packet_from_another_relay_has_both_keys),
		cmocka_unit_test(D13_a_ping_is_answered_by_its_first_8_bytes),
		cmocka_unit_test(D13_one_pong_waits_at_most),
		cmocka_unit_test(D14_frames_that_no_server_expects_are_skipped),
		cmocka_unit_test(a_packet_of_a_flow_is_read_whole_or_not_at_all),
		cmocka_unit_test(D15_a_home_is_noted_by_one_byte),
		cmocka_unit_test(D04_a_session_may_be_cut_anywhere),
		cmocka_unit_test(what_comes_before_admission_is_held_in_order),
		cmocka_unit_test(what_is_held_is_bounded),
		cmocka_unit_test(
		                an_end_refused_in_the_end_is_told_nothing_and_what_was_held_is_not_read),
		cmocka_unit_test(nothing_is_told_of_a_channel_that_was_ended),
		cmocka_unit_test(frames_that_carry_nothing_are_slowed_then_ended),
		cmocka_unit_test(who_keeps_to_the_rate_is_never_ended),
		cmocka_unit_test(requests_count_too),
		cmocka_unit_test(
		                D16_half_a_frame_has_its_time_and_what_trickles_in_does_not_give_more),
		cmocka_unit_test(a_stream_of_frames_cut_anywhere_is_never_late),
		cmocka_unit_test(KeepAlive_has_one_period_for_each_connection),
		cmocka_unit_test(a_native_end_is_never_asked),
		cmocka_unit_test(a_server_that_naps_goes_on_where_it_was),
		cmocka_unit_test(a_mate_is_told_of_any_number_of_ends_as_it_has_room),
		cmocka_unit_test(a_mate_that_takes_nothing_of_it_is_ended),
		cmocka_unit_test(a_native_end_is_told_in_its_own_words),
	};
	return cmocka_run_group_tests(tests, start_derp, NULL);
}
