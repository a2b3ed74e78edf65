/* A DERP client of ours against what servers may answer: derp.md 1.4.1, 2.3 to 2.8, 5.4;
 * rows D18 to D20 of the bad-input table. */
#include "tests/unit/transport/derp_raw.h"

static const struct key peer = { { 0x31, 1, 2, 3 } }, other = { { 0x32, 1, 2, 3 } };

#define REQUEST "GET /derp HTTP/1.1\r\nHost: relay.test\r\nUser-Agent: test\r\n"

/* ---- the request ---- */

static void a_native_client_asks_as_the_real_one_does(void **state)
{
	const struct str whom = name_of(&peer);
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	assert_int_equal(dial_native(&p, &whom, 1), 0);
	assert_int_equal(hear(p.client, &b), 0);
	assert_int_equal(buf_len(&b),
	                 strlen(REQUEST "Connection: Upgrade\r\nUpgrade: DERP\r\n\r\n"));
	assert_begins(&b, REQUEST "Connection: Upgrade\r\nUpgrade: DERP\r\n\r\n", buf_len(&b));
	buf_clear(&b);
	answer_101(&p, &b, false);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(hear(p.client, &b), 0);
	struct frame f = first_frame(&b);
	assert_int_equal(f.kind, DERP_CLIENT_INFO);
	assert_int_equal(buf_len(&b), 109);
	assert_memory_equal(f.p, p.client_conf.derp.public.b, KEY_LEN);
	assert_box(f.p + KEY_LEN, f.len - KEY_LEN, &p.client_conf.derp.public, p.server_secret,
	           MINIMAL_INFO);
	assert_int_equal(p.at_client.n_ready, 0);
	buf_clear(&b);
	add_server_info(&p, &b, "{\"version\":2}");
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(p.at_client.n_ready, 1);
	assert_true(key_eq(&p.at_client.peer_keys[0], &peer));
	buf_clear(&b);
	assert_int_equal(hear(p.client, &b), 0);
	assert_hex(buf_data(&b), buf_len(&b), "070000000101"); /* this is our home */
	buf_done(&b);
	pair_close(&p, OPS);
}

static void fast_start_saves_the_round_trip(void **state)
{
	static const char head[] = REQUEST "Connection: Upgrade\r\nDerp-Fast-Start: 1\r\n"
	                                   "Ideal-Node: 1a\r\nUpgrade: DERP\r\n\r\n";
	const struct str whom = name_of(&peer);
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.client_conf.has_meta_key = true;
	p.client_conf.meta_key = p.server_conf.derp.public;
	p.client_conf.derp.ideal_node = "1a";
	assert_int_equal(dial_native(&p, &whom, 1), 0);
	assert_int_equal(hear(p.client, &b), 0);
	assert_begins(&b, head, sizeof head - 1);
	buf_eat(&b, sizeof head - 1);
	assert_int_equal(first_frame(&b).kind, DERP_CLIENT_INFO);
	buf_clear(&b);
	assert_int_equal(derp_put_server_key(&b, &p.server_conf.derp.public, false), 0);
	add_server_info(&p, &b, "{\"version\":2}");
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(p.at_client.n_ready, 1);
	buf_clear(&b);
	assert_int_equal(hear(p.client, &b), 0);
	assert_int_equal(first_frame(&b).kind, DERP_NOTE_PREFERRED); /* not ClientInfo again */
	buf_done(&b);
	pair_close(&p, OPS);
}

static void a_client_without_a_key_or_with_a_second_channel_does_not_dial(void **state)
{
	const struct str whom = name_of(&peer), bad = STR("nodekey:00");
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.client_conf.derp.secret = NULL;
	assert_int_equal(dial_native(&p, &whom, 1), ERR_INVALID);
	pair_close(&p, OPS);
	assert_true(pair_open(&p, OPS));
	assert_int_equal(dial_native(&p, &bad, 1), ERR_INVALID);
	pair_close(&p, OPS);
	assert_true(pair_open(&p, OPS));
	assert_int_equal(dial_native(&p, &whom, 1), 0);
	assert_int_equal(dial_native(&p, &whom, 1), ERR_INVALID);
	pair_close(&p, OPS);
}

/* ---- answers ---- */

static void assert_failed_with(struct pair *p, struct buf *b, const char *words)
{
	int rc = feed(p, p->client, b);

	if (rc == 0)
		rc = hear(p->client, b);
	assert_true(rc < 0);
	if (!strstr(OPS->error_text(p->client), words))
		fail_msg("not said: %s, but: %s", words, OPS->error_text(p->client));
	assert_int_equal(p->at_client.n_ready, 0);
	buf_clear(b);
	pair_close(p, OPS);
}

static void begin(struct pair *p, struct buf *b)
{
	const struct str whom = name_of(&peer);

	assert_true(pair_open(p, OPS));
	assert_int_equal(dial_native(p, &whom, 1), 0);
	assert_int_equal(hear(p->client, b), 0);
	buf_clear(b);
}

static void an_answer_that_is_no_upgrade_is_told_in_words(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	begin(&p, &b);
	add(&b, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
	assert_failed_with(&p, &b, "404 Not Found");
	begin(&p, &b);
	add(&b, "HTTP/1.1 302 Found\r\nLocation: https://portal.test/login\r\n\r\n");
	assert_failed_with(&p, &b, "portal.test");
	begin(&p, &b);
	add(&b, "SSH-2.0-OpenSSH_9.2\r\n");
	assert_failed_with(&p, &b, "");
	buf_done(&b);
}

static void D18_a_greeting_that_is_not_derps_ends_it(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		uint8_t junk[44] = "DERP\xf0\x9f\x94\x91";
		begin(&p, &b);
		add(&b, "HTTP/1.1 101 x\r\n\r\n");
		switch (i) {
		case 0:
			junk[7]++;
			derp_put(&b, DERP_SERVER_KEY, junk, 40);
			break;
		case 1: derp_put(&b, DERP_SERVER_KEY, junk, 39); break;
		case 2: assert_non_null(derp_put_open(&b, DERP_SERVER_KEY, 1 << 20)); break;
		case 3: derp_put(&b, DERP_KEEP_ALIVE, NULL, 0); break;
		case 4: add_server_info(&p, &b, "{\"version\":2}"); break;
		default: add(&b, "\xff\xff\xff\xff\xff\xff");
		}
		assert_failed_with(&p, &b, "");
	}
	buf_done(&b);
}

/* Zero and low order. Nothing is said that was not written: not the place of the box. */
static void D18_a_server_whose_key_is_no_key_hears_nothing(void **state)
{
	static const struct key bad[] = { { { 0 } }, { { 1 } } };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		begin(&p, &b);
		add(&b, "HTTP/1.1 101 x\r\n\r\n");
		assert_int_equal(derp_put_server_key(&b, &bad[i], false), 0);
		assert_true(feed(&p, p.client, &b) < 0);
		assert_true(hear(p.client, &b) < 0);
		assert_int_equal(buf_len(&b), 0);
		assert_failed_with(&p, &b, "is no key");
	}
	buf_done(&b);
}

static void D18_a_server_whose_key_is_not_that_of_its_certificate_is_not_believed(void **state)
{
	const struct str whom = name_of(&peer);
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.client_conf.has_meta_key = true;
	p.client_conf.meta_key = p.server_conf.derp.public;
	assert_int_equal(dial_native(&p, &whom, 1), 0);
	assert_int_equal(derp_put_server_key(&b, &stranger, false), 0);
	assert_failed_with(&p, &b, "certificate");
	buf_done(&b);
}

static void D19_a_ServerInfo_that_cannot_be_read_ends_it(void **state)
{
	static const char *const bad[] = { "", "null", "{", "[2]", "{\"version\":\"2\"}" };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		begin(&p, &b);
		answer_101(&p, &b, false);
		add_server_info(&p, &b, bad[i]);
		assert_failed_with(&p, &b, "");
	}
	for (unsigned len = 0; len < 60; len += 13) { /* too short, and sealed by nobody */
		uint8_t zeros[60] = { 0 };
		begin(&p, &b);
		answer_101(&p, &b, false);
		derp_put(&b, DERP_SERVER_INFO, zeros, len);
		assert_failed_with(&p, &b, "");
	}
	begin(&p, &b);
	answer_101(&p, &b, false);
	add_sealed(&b, DERP_SERVER_INFO, NULL, "{}", &stranger, p.server_secret);
	assert_failed_with(&p, &b, "");
	buf_done(&b);
}

static void nothing_but_ServerInfo_counts_before_it(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	begin(&p, &b);
	answer_101(&p, &b, false);
	derp_put_packet(&b, DERP_RECV_PACKET, &peer, (const uint8_t *)"early", 5);
	derp_put(&b, DERP_KEEP_ALIVE, NULL, 0);
	derp_put(&b, (enum derp_type)0x66, "later", 5);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_null(p.at_client.packets.head);
	assert_int_equal(p.at_client.n_ready, 0);
	add_server_info(&p, &b, "{}");
	derp_put_packet(&b, DERP_RECV_PACKET, &peer, (const uint8_t *)"now", 3);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(p.at_client.n_ready, 1);
	assert_int_equal(p.at_client.packets.n, 1);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void an_admission_that_is_refused_is_explained(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	begin(&p, &b);
	answer_101(&p, &b, false);
	assert_int_equal(feed(&p, p.client, &b), 0);
	/* then the connection is closed: the link asks for words */
	assert_non_null(strstr(OPS->error_text(p.client), "does not admit our node key"));
	buf_done(&b);
	pair_close(&p, OPS);
}

/* ---- the token ---- */

static const char secret_token[] = "tunn_abcdefgh_SECRETSECRETSECRET";

static bool says_token(const struct buf *heard)
{
	char b64[100];

	crypto_base64((const uint8_t *)secret_token, strlen(secret_token), b64, sizeof b64);
	return contains(heard, secret_token) || contains(heard, "SECRET") || contains(heard, b64) ||
	       contains(heard, "laptop");
}

static int dial_named(struct pair *p)
{
	const struct hello h = { .id = STR("laptop"),
		                 .token = str_of(secret_token),
		                 .version = 1,
		                 .bidirectional = true,
		                 .n_peers = 2,
		                 .peers = peers };
	int rc = OPS->dial(p->client, &h, &p->at_client.chan);

	if (rc == 0)
		p->at_client.chan->up = &p->at_client;
	return rc;
}

/* With and without fast start; a server that has all the keys reads all it was sent. */
static void a_token_never_leaves_towards_a_server_that_is_not_ours(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		bool fast = i & 1, old_mark = i & 2;
		struct buf b = { 0 }, heard = { 0 };
		struct pair p;
		assert_true(pair_open(&p, OPS));
		p.client_conf.has_meta_key = fast;
		p.client_conf.meta_key = p.server_conf.derp.public;
		assert_int_equal(dial_named(&p), 0);
		assert_int_equal(hear(p.client, &heard), 0);
		assert_true(contains(&heard, "Tunn-Version: 1\r\n"));
		size_t len = buf_len(&heard);
		if (!fast)
			add(&b, "HTTP/1.1 101 x\r\n\r\n");
		if (old_mark) { /* reserved bytes, but not ours */
			uint8_t *at = derp_put_open(&b, DERP_SERVER_KEY, 45);
			assert_non_null(at);
			memcpy(at, "DERP\xf0\x9f\x94\x91", 8);
			memcpy(at + 8, p.server_conf.derp.public.b, KEY_LEN);
			memcpy(at + 40, "tunn0", 5);
		} else {
			assert_int_equal(derp_put_server_key(&b, &p.server_conf.derp.public, false),
			                 0);
		}
		add_server_info(&p, &b, "{\"version\":2}");
		assert_true(feed(&p, p.client, &b) < 0);
		assert_true(hear(p.client, &heard) < 0);
		assert_int_equal(buf_len(&heard), len); /* the request, and not a byte more */
		assert_false(says_token(&heard));
		assert_non_null(strstr(OPS->error_text(p.client), "is no tunn relay"));
		assert_non_null(strstr(OPS->error_text(p.client), "nodekey:HEX"));
		assert_int_equal(p.at_client.n_ready, 0);
		buf_done(&b);
		buf_done(&heard);
		pair_close(&p, OPS);
	}
}

static void towards_ours_the_token_is_only_in_the_box(void **state)
{
	struct buf heard = { 0 }, said = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.heard_by_server = &heard;
	p.heard_by_client = &said;
	assert_int_equal(dial_named(&p), 0);
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.n_ready, 1);
	assert_string_equal(p.at_server.token, secret_token);
	assert_false(says_token(&heard));
	assert_false(says_token(&said));
	buf_done(&heard);
	buf_done(&said);
	pair_close(&p, OPS);
}

static void a_welcome_that_does_not_fit_the_question_ends_it(void **state)
{
	static const char two_keys[] = "[\"" MESH_HEX "\",\"" MESH_HEX "\"]";
	static const struct {
		const char *rest;
		bool good;
	} cases[] = {
		{ "\"tunnAccount\":\"acme\",\"tunnId\":\"laptop\"", true },
		{ "\"tunnAccount\":\"ACME\",\"tunnId\":\"laptop\"", false },
		{ "\"tunnAccount\":\"acme\",\"tunnId\":\"\"", false },
		{ "\"tunnAccount\":\"acme\"", false },
		{ "\"tunnAccount\":\"acme\",\"tunnId\":\"laptop\",\"tunnPeerKeys\":[]", false },
		{ "\"tunnAccount\":\"acme\",\"tunnId\":\"laptop\",\"tunnPeerKeys\":null", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf b = { 0 };
		struct pair p;
		char info[400];
		assert_true(pair_open(&p, OPS));
		assert_int_equal(dial_named(&p), 0);
		answer_101(&p, &b, true);
		snprintf(info, sizeof info, "{\"version\":2,\"tunnPeerKeys\":%s,%s}", two_keys,
		         cases[i].rest);
		add_server_info(&p, &b, info);
		assert_int_equal(feed(&p, p.client, &b), cases[i].good ? 0 : ERR_PROTOCOL);
		assert_int_equal(p.at_client.n_ready, cases[i].good);
		buf_done(&b);
		pair_close(&p, OPS);
	}
}

static void too_many_names_are_an_error_in_words(void **state)
{
	static struct str many[PEERS_MAX];
	static char names[PEERS_MAX][NAME_MAX_LEN + 1];
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		snprintf(names[i], sizeof names[i], "a-name-that-is-rather-long-for-a-tunnel-%u",
		         i);
		many[i] = str_of(names[i]);
	}
	assert_true(pair_open(&p, OPS));
	assert_int_equal(pair_dial(&p, OPS, "laptop", many, PEERS_MAX), 0);
	answer_101(&p, &b, true);
	assert_failed_with(&p, &b, "too many peers");
	buf_done(&b);
}

/* ---- frames ---- */

static int say_packet(struct pair *p, const struct key *src, size_t len)
{
	static const uint8_t data[DERP_PACKET_MAX];
	struct buf b = { 0 };

	assert_int_equal(derp_put_packet(&b, DERP_RECV_PACKET, src, data, len), 0);
	int rc = feed(p, p->client, &b);
	buf_done(&b);
	return rc;
}

static void a_packet_tells_that_its_peer_is_there(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_client(&p, &peer, "{\"version\":2}");
	assert_int_equal(say_packet(&p, &other, 5), 0);
	assert_int_equal(p.at_client.n_peer, 0);
	assert_int_equal(say_packet(&p, &peer, 0), 0);
	assert_int_equal(p.at_client.n_peer, 1);
	assert_int_equal(p.at_client.peer.state, PEER_UP);
	assert_int_equal(say_packet(&p, &peer, 65536), 0);
	assert_int_equal(p.at_client.n_peer, 1);
	assert_int_equal(p.at_client.packets.n, 3);
	assert_true(key_eq(&p.at_client.packets.tail->src, &peer));
	derp_put_gone(&b, &peer, DERP_GONE_DISCONNECTED);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(p.at_client.peer.state, PEER_GONE);
	derp_put_gone(&b, &peer, DERP_GONE_NOT_HERE);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(p.at_client.peer.state, PEER_ABSENT);
	assert_int_equal(say_packet(&p, &peer, 1), 0);
	assert_int_equal(p.at_client.peer.state, PEER_UP);
	assert_int_equal(p.at_client.n_peer, 4);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D20_frames_a_server_should_not_send_are_borne_or_end_it(void **state)
{
	static const unsigned skipped[] = { 0x00, 0x01, 0x02, 0x03, 0x04, 0x06, 0x07,
		                            0x09, 0x0a, 0x10, 0x11, 0x16, 0x74, 0x99 };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_client(&p, &peer, "{\"version\":2}");
	for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++) {
		static const uint8_t junk[300] = { 7 };
		derp_put(&b, (enum derp_type)skipped[i], junk, 0);
		derp_put(&b, (enum derp_type)skipped[i], junk, sizeof junk);
		assert_int_equal(feed(&p, p.client, &b), 0);
	}
	derp_put(&b, DERP_PEER_GONE, "short", 5);
	derp_put(&b, DERP_RESTARTING, "short", 5);
	derp_put(&b, DERP_PING, "short", 5);
	derp_put(&b, DERP_PONG, "short", 5);
	derp_put(&b, DERP_HEALTH, "\xff\xfe", 2);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(p.at_client.n_peer + p.at_client.n_notice, 0);
	derp_put_gone(&b, &other, DERP_GONE_NOT_HERE); /* nobody we know: the owner looks */
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(hear(p.client, &b), 0);
	assert_int_equal(buf_len(&b), 0);
	derp_put(&b, DERP_RECV_PACKET, "31 bytes, and not one more.....", 31);
	assert_int_equal(feed(&p, p.client, &b), ERR_PROTOCOL);
	buf_clear(&b);
	pair_close(&p, OPS);
	open_client(&p, &peer, "{\"version\":2}");
	assert_non_null(derp_put_open(&b, DERP_RECV_PACKET, KEY_LEN + 65537));
	buf_cut(&b, FRAME_HEAD_LEN);
	assert_int_equal(feed(&p, p.client, &b), ERR_TOO_BIG);
	buf_clear(&b);
	pair_close(&p, OPS);
	open_client(&p, &peer, "{\"version\":2}");
	add(&b, "\x99\x01"); /* 1 << 24 and more */
	buf_add(&b, "\0\0\0", 3);
	assert_int_equal(feed(&p, p.client, &b), ERR_TOO_BIG);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D20_words_of_health_are_cut_at_a_kilobyte(void **state)
{
	static const char *const each[] = { "x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x94\x91" };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_client(&p, &peer, "{\"version\":2}");
	for (unsigned i = 0; i < 4; i++)
		for (unsigned shift = 0; shift < 4; shift++) {
			size_t n = strlen(each[i]);
			uint8_t *at = derp_put_open(&b, DERP_HEALTH, 1 << 20);
			assert_non_null(at);
			memset(at, 'y', 1 << 20);
			for (size_t k = shift; k + n <= 1 << 20; k += n)
				memcpy(at + k, each[i], n);
			unsigned before = p.at_client.n_notice;
			assert_int_equal(feed(&p, p.client, &b), 0);
			assert_int_equal(p.at_client.n_notice, before + 1);
			assert_int_equal(p.at_client.notice.kind, NOTICE_HEALTH);
			assert_in_range(p.at_client.notice.text.len, 1021, 1024);
		}
	derp_put(&b, DERP_HEALTH, NULL, 0);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(p.at_client.notice.text.len, 0);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void D20_a_restart_is_announced_for_30_s_at_most(void **state)
{
	static const uint32_t said[] = { 0, 1, 30000, 30001, UINT32_MAX };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_client(&p, &peer, "{\"version\":2}");
	for (unsigned i = 0; i < 5; i++) {
		derp_put_restarting(&b, said[i], said[i]);
		assert_int_equal(feed(&p, p.client, &b), 0);
		assert_int_equal(p.at_client.notice.kind, NOTICE_DRAINING);
		assert_int_equal(p.at_client.notice.within_ms, said[i] < 30000 ? said[i] : 30000);
	}
	assert_int_equal(p.at_client.n_notice, 5);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void a_ping_is_answered_once_at_a_time(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_client(&p, &peer, "{\"version\":2}");
	derp_put(&b, DERP_PING, "12345678", 8);
	derp_put(&b, DERP_PING, "abcdefgh", 8);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(hear(p.client, &b), 0);
	assert_int_equal(buf_len(&b), 13);
	assert_begins(&b,
	              "\x13\0\0\0\x08"
	              "12345678",
	              13);
	buf_done(&b);
	pair_close(&p, OPS);
}

static void frames_may_be_cut_anywhere(void **state)
{
	struct buf all = { 0 }, part = { 0 };
	struct pair p;
	size_t len = 1;

	(void)state;
	for (size_t at = 0; at <= len; at++) {
		begin(&p, &all);
		p.chunk = at == 0 ? 1 : 0;
		answer_101(&p, &all, false);
		add_server_info(&p, &all, "{\"version\":2}");
		derp_put_packet(&all, DERP_RECV_PACKET, &peer, (const uint8_t *)"one", 3);
		derp_put(&all, DERP_KEEP_ALIVE, NULL, 0);
		derp_put_packet(&all, DERP_RECV_PACKET, &peer, NULL, 0);
		derp_put_gone(&all, &peer, DERP_GONE_DISCONNECTED);
		assert_true(buf_len(&all) == len || at == 0);
		len = buf_len(&all);
		assert_int_equal(buf_add(&part, buf_data(&all), at), 0);
		buf_eat(&all, at);
		assert_int_equal(feed(&p, p.client, &part), 0);
		assert_int_equal(feed(&p, p.client, &all), 0);
		assert_int_equal(p.at_client.n_ready, 1);
		assert_int_equal(p.at_client.packets.n, 2);
		assert_int_equal(p.at_client.n_peer, 2);
		assert_int_equal(p.at_client.peer.state, PEER_GONE);
		pair_close(&p, OPS);
	}
	buf_done(&all);
	buf_done(&part);
}

/* ---- the server's bucket ---- */

static unsigned n_sent(const char *server_info, unsigned n, size_t len)
{
	struct buf b = { 0 };
	struct pair p;

	open_client(&p, &peer, server_info);
	for (unsigned i = 0; i < n; i++)
		OPS->send(p.at_client.chan, packet(NULL, &peer, "x", len));
	while (OPS->has_output(p.client)) /* megabytes are not said at once */
		assert_int_equal(hear(p.client, &b), 0);
	unsigned sent = count_frames(&b, DERP_SEND_PACKET);
	buf_done(&b);
	pair_close(&p, OPS);
	return sent;
}

static void the_rate_that_a_server_asks_for_is_kept(void **state)
{
	char info[200];

	(void)state;
	assert_int_equal(n_sent("{\"version\":2}", 1000, 100), 1000);
	snprintf(info, sizeof info,
	         "{\"version\":2,\"TokenBucketBytesPerSecond\":1,\"TokenBucketBytesBurst\":%u}",
	         2 * (5 + 32 + 100));
	uint64_t dropped = metric_drop_sum(DROP_OVER_LIMIT);
	assert_int_equal(n_sent(info, 1000, 100), 2);
	assert_int_equal(metric_drop_sum(DROP_OVER_LIMIT), dropped + 998);
	assert_int_equal(n_sent("{\"TokenBucketBytesPerSecond\":0,\"TokenBucketBytesBurst\":1}", 5,
	                        100),
	                 5);
	assert_int_equal(n_sent("{\"TokenBucketBytesPerSecond\":9000000000000,"
	                        "\"TokenBucketBytesBurst\":9000000000000}",
	                        50, 60000),
	                 50);
}

/* ---- a mate that watches ---- */

static void a_watcher_says_so_and_is_told_of_all(void **state)
{
	const struct hello h = { .version = 1, .bidirectional = true, .watch = true };
	const struct derp_present present = { .key = other, .ip = { 1, 2 }, .port = 9, .flags = 5 };
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.client_conf.derp.mesh_key = the_mesh_key;
	assert_int_equal(OPS->dial(p.client, &h, &p.at_client.chan), 0);
	p.at_client.chan->up = &p.at_client;
	assert_int_equal(hear(p.client, &b), 0);
	buf_clear(&b);
	answer_101(&p, &b, false);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(hear(p.client, &b), 0);
	struct frame f = first_frame(&b);
	assert_box(f.p + KEY_LEN, f.len - KEY_LEN, &p.client_conf.derp.public, p.server_secret,
	           "{\"meshKey\":\"" MESH_HEX "\",\"version\":2,\"CanAckPings\":true}");
	buf_clear(&b);
	add_server_info(&p, &b, "{\"version\":2}");
	assert_int_equal(derp_put_present(&b, &present), 0);
	assert_int_equal(feed(&p, p.client, &b), 0);
	assert_int_equal(hear(p.client, &b), 0);
	assert_hex(buf_data(&b), buf_len(&b), "1000000000");
	assert_int_equal(p.at_client.n_peer, 1);
	assert_int_equal(p.at_client.peer.state, PEER_UP);
	assert_true(key_eq(&p.at_client.peer.key, &other));
	assert_int_equal(p.at_client.peer.port, 9);
	assert_int_equal(p.at_client.peer.native_flags, 5);
	buf_clear(&b);
	OPS->send(p.at_client.chan, packet(&peer, &other, "x", 3));
	assert_int_equal(hear(p.client, &b), 0);
	f = first_frame(&b);
	assert_int_equal(f.kind, DERP_FORWARD_PACKET);
	assert_memory_equal(f.p, peer.b, KEY_LEN);
	assert_memory_equal(f.p + KEY_LEN, other.b, KEY_LEN);
	buf_done(&b);
	pair_close(&p, OPS);
}

/* ---- both, without an id ---- */

static void a_native_pair_exchanges_datagrams_of_every_size(void **state)
{
	static const size_t sizes[] = { 0, 1, 1420, 32768, 65507, 65535, 65536 };
	const struct str whom = name_of(&peer);
	struct pair p;

	(void)state;
	for (size_t chunk = 0; chunk < 5000; chunk = chunk * 7 + 1) {
		assert_true(pair_open(&p, OPS));
		p.admit = admit_native;
		p.chunk = chunk;
		assert_int_equal(dial_native(&p, &whom, 1), 0);
		pair_run(&p, OPS);
		assert_int_equal(p.at_client.n_ready, 1);
		assert_true(key_eq(&p.at_server.node_key, &p.client_conf.derp.public));
		p.at_client.peer_keys[0] = p.at_client.peer_keys[1] = peer;
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			exchange(&p, sizes[i]);
		pair_close(&p, OPS);
	}
}

static void F04_what_was_sent_before_a_stop_is_dropped_at_a_client_too(void **state)
{
	const struct str whom = name_of(&peer);
	struct pair p;

	(void)state;
	assert_true(pair_open(&p, OPS));
	p.admit = admit_native;
	assert_int_equal(dial_native(&p, &whom, 1), 0);
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.n_ready, 1);
	OPS->send(p.at_server.chan, packet(&peer, NULL, "old", 100));
	OPS->freshen(p.client, p.now_ms, 10000);
	pair_run(&p, OPS);
	assert_null(p.at_client.packets.head);
	OPS->send(p.at_server.chan, packet(&peer, NULL, "new", 100));
	pair_run(&p, OPS);
	assert_int_equal(p.at_client.packets.n, 1);
	pair_close(&p, OPS);
}

static void a_client_naps_between_frames_and_not_while_it_waits_for_an_answer(void **state)
{
	struct buf b = { 0 };
	struct pair p;

	(void)state;
	open_client(&p, &peer, "{\"version\":2}");
	assert_true(OPS->nap(p.client));
	assert_int_equal(say_packet(&p, &peer, 10), 0);
	OPS->probe(p.client, p.now_ms, 1000);
	assert_false(OPS->nap(p.client));
	assert_int_equal(hear(p.client, &b), 0);
	assert_int_equal(count_frames(&b, DERP_PING), 1);
	p.now_ms += 1000;
	assert_int_equal(OPS->tick(p.client, p.now_ms), -110);
	assert_non_null(strstr(OPS->error_text(p.client), "sign of life"));
	buf_done(&b);
	pair_close(&p, OPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_native_client_asks_as_the_real_one_does),
		cmocka_unit_test(fast_start_saves_the_round_trip),
		cmocka_unit_test(a_client_without_a_key_or_with_a_second_channel_does_not_dial),
		cmocka_unit_test(an_answer_that_is_no_upgrade_is_told_in_words),
		cmocka_unit_test(D18_a_greeting_that_is_not_derps_ends_it),
		cmocka_unit_test(D18_a_server_whose_key_is_no_key_hears_nothing),
		cmocka_unit_test(
		                D18_a_server_whose_key_is_not_that_of_its_certificate_is_not_believed),
		cmocka_unit_test(D19_a_ServerInfo_that_cannot_be_read_ends_it),
		cmocka_unit_test(nothing_but_ServerInfo_counts_before_it),
		cmocka_unit_test(an_admission_that_is_refused_is_explained),
		cmocka_unit_test(a_token_never_leaves_towards_a_server_that_is_not_ours),
		cmocka_unit_test(towards_ours_the_token_is_only_in_the_box),
		cmocka_unit_test(a_welcome_that_does_not_fit_the_question_ends_it),
		cmocka_unit_test(too_many_names_are_an_error_in_words),
		cmocka_unit_test(a_packet_tells_that_its_peer_is_there),
		cmocka_unit_test(D20_frames_a_server_should_not_send_are_borne_or_end_it),
		cmocka_unit_test(D20_words_of_health_are_cut_at_a_kilobyte),
		cmocka_unit_test(D20_a_restart_is_announced_for_30_s_at_most),
		cmocka_unit_test(a_ping_is_answered_once_at_a_time),
		cmocka_unit_test(frames_may_be_cut_anywhere),
		cmocka_unit_test(the_rate_that_a_server_asks_for_is_kept),
		cmocka_unit_test(a_watcher_says_so_and_is_told_of_all),
		cmocka_unit_test(a_native_pair_exchanges_datagrams_of_every_size),
		cmocka_unit_test(F04_what_was_sent_before_a_stop_is_dropped_at_a_client_too),
		cmocka_unit_test(a_client_naps_between_frames_and_not_while_it_waits_for_an_answer),
	};
	return cmocka_run_group_tests(tests, start_derp, NULL);
}
