/* One side of the derp transport against bytes written by hand. */
#ifndef TUNN_TESTS_DERP_RAW_H
#define TUNN_TESTS_DERP_RAW_H

#include "common/transport/transport.h"

extern const struct transport_ops transport_derp;
#define OPS (&transport_derp)

#include "common/base/bucket.h"
#include "common/base/json.h"
#include "common/base/metric.h"
#include "common/wire/derp.h"
#include "tests/unit/transport/exchange.h"

#define FAST                                                                                       \
	"GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nDerp-Fast-Start: 1\r\n"           \
	"Upgrade: DERP\r\n\r\n"
#define MINIMAL_INFO "{\"version\":2,\"CanAckPings\":true}"

static const struct key stranger = { { 0x55, 1, 2, 3 } };

/* ---- words of a raw peer ---- */

static inline void add(struct buf *b, const char *text)
{
	assert_int_equal(buf_add(b, text, strlen(text)), 0);
}

/* A box from `secret` to `to`, behind `head` bytes at `p`. */
static inline void add_sealed(struct buf *b, enum derp_type type, const struct key *shown,
                              const char *json, const struct key *to, const uint8_t *secret)
{
	size_t head = shown ? KEY_LEN : 0, len = strlen(json);
	uint8_t *at = derp_put_open(b, type, head + len + CRYPTO_SEAL_EXTRA);

	assert_non_null(at);
	if (shown)
		memcpy(at, shown->b, KEY_LEN);
	assert_int_equal(crypto_seal((const uint8_t *)json, len, to->b, secret, at + head), 0);
}

/* The client of the vectors says who it is. */
static inline void add_client_info(struct pair *p, struct buf *b, const char *json)
{
	add_sealed(b, DERP_CLIENT_INFO, &p->client_conf.derp.public, json,
	           &p->server_conf.derp.public, p->client_secret);
}

static inline void add_server_info(struct pair *p, struct buf *b, const char *json)
{
	add_sealed(b, DERP_SERVER_INFO, NULL, json, &p->client_conf.derp.public, p->server_secret);
}

/* ---- moving ---- */

/* Eats what is in b. From a block of its own, so that a sanitizer sees one byte too many. */
static inline int feed(struct pair *p, struct transport *t, struct buf *b)
{
	size_t len = buf_len(b);
	uint8_t *copy = malloc(len ? len : 1);
	int rc = 0;

	assert_non_null(copy);
	if (len)
		memcpy(copy, buf_data(b), len);
	buf_clear(b);
	for (size_t at = 0, n; at < len && rc == 0; at += n) {
		n = p->chunk && p->chunk < len - at ? p->chunk : len - at;
		rc = OPS->input(t, copy + at, n, p->now_ms);
	}
	free(copy);
	return rc;
}

static inline int hear(struct transport *t, struct buf *out) { return OPS->flush(t, out, 1 << 20); }

/* The next frame of what was heard, borrowed from it. */
static inline bool next_frame(struct cursor *c, struct frame *f)
{
	if (cursor_left(c) == 0)
		return false;
	f->kind = cursor_u8(c);
	f->len = cursor_u32be(c);
	f->p = cursor_take(c, f->len);
	assert_true(cursor_ok(c));
	return true;
}

static inline struct cursor reading(const struct buf *b)
{
	return cursor_of(buf_data(b), buf_len(b));
}

static inline struct frame first_frame(const struct buf *b)
{
	struct cursor c = reading(b);
	struct frame f = { 0 };

	assert_true(next_frame(&c, &f));
	return f;
}

static inline unsigned count_frames(const struct buf *b, unsigned type)
{
	struct cursor c = reading(b);
	struct frame f;
	unsigned n = 0;

	while (next_frame(&c, &f))
		n += f.kind == type;
	return n;
}

static inline void assert_hex(const void *p, size_t len, const char *hex)
{
	char text[512];

	assert_true(2 * len < sizeof text);
	hex_encode(p, len, text);
	assert_string_equal(text, hex);
}

static inline void assert_begins(const struct buf *b, const void *with, size_t len)
{
	assert_true(buf_len(b) >= len);
	assert_memory_equal(buf_data(b), with, len);
}

/* What a box says. */
static inline void assert_box(const uint8_t *box, size_t len, const struct key *from,
                              const uint8_t *secret, const char *expected)
{
	uint8_t text[1024];

	assert_true(len >= CRYPTO_SEAL_EXTRA && len - CRYPTO_SEAL_EXTRA < sizeof text);
	assert_int_equal(crypto_unseal(box, len, from->b, secret, text), 0);
	text[len - CRYPTO_SEAL_EXTRA] = 0;
	assert_string_equal((const char *)text, expected);
}

static inline bool contains(const struct buf *b, const char *word)
{
	return buf_len(b) && memmem(buf_data(b), buf_len(b), word, strlen(word)) != NULL;
}

/* ---- a server with an admitted native end ---- */

static inline void welcome_native(struct chan *c)
{
	c->ops->admit(c, &(struct welcome){ .max_payload = DERP_PACKET_MAX });
}

static inline bool admit_native(struct pair *p, struct chan *c, const struct hello *h)
{
	(void)p, (void)h;
	welcome_native(c);
	return true;
}

/* Opened; what the client sent before it was silent has been answered. */
static inline void open_server(struct pair *p, const char *request, const char *info)
{
	struct buf b = { 0 };

	assert_true(pair_open(p, OPS));
	p->admit = admit_native;
	add(&b, request);
	add_client_info(p, &b, info);
	assert_int_equal(feed(p, p->server, &b), 0);
	assert_int_equal(hear(p->server, &b), 0);
	assert_int_equal(p->at_server.n_hello, 1);
	buf_done(&b);
}

static const uint8_t the_mesh_key[KEY_LEN] = { 0xab, 0xcd, [31] = 0xef };

static inline void open_mesh(struct pair *p, const char *key_hex)
{
	char info[200];
	struct buf b = { 0 };

	snprintf(info, sizeof info, "{\"meshKey\":\"%s\",\"version\":2}", key_hex);
	assert_true(pair_open(p, OPS));
	p->server_conf.derp.mesh_key = the_mesh_key;
	p->admit = admit_native;
	add(&b, FAST);
	add_client_info(p, &b, info);
	assert_int_equal(feed(p, p->server, &b), 0);
	assert_int_equal(hear(p->server, &b), 0);
	buf_done(&b);
}

#define MESH_HEX "abcd0000000000000000000000000000000000000000000000000000000000ef"

/* ---- a client whose server is written by hand ---- */

static inline int dial_native(struct pair *p, const struct str *whom, unsigned n)
{
	const struct hello h = {
		.version = 1, .bidirectional = true, .native = true, .n_peers = n, .peers = whom
	};
	int rc = OPS->dial(p->client, &h, &p->at_client.chan);

	if (rc == 0)
		p->at_client.chan->up = &p->at_client;
	return rc;
}

static inline struct str name_of(const struct key *key)
{
	static char names[4][80];
	static unsigned at;
	char *to = names[at++ % 4];

	memcpy(to, "nodekey:", 8);
	hex_encode(key->b, KEY_LEN, to + 8);
	return str_of(to);
}

static inline void answer_101(struct pair *p, struct buf *b, bool marked)
{
	add(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n");
	assert_int_equal(derp_put_server_key(b, &p->server_conf.derp.public, marked), 0);
}

/* A native client that is ready. */
static inline void open_client(struct pair *p, const struct key *peer, const char *server_info)
{
	const struct str whom = name_of(peer);
	struct buf b = { 0 };

	assert_true(pair_open(p, OPS));
	assert_int_equal(dial_native(p, &whom, 1), 0);
	answer_101(p, &b, false);
	add_server_info(p, &b, server_info);
	assert_int_equal(feed(p, p->client, &b), 0);
	assert_int_equal(p->at_client.n_ready, 1);
	hear(p->client, &b);
	buf_done(&b);
}

static inline int start_derp(void **state)
{
	uint8_t digest[20];

	(void)state;
	json_start();
	/* OpenSSL does not survive that its first use finds no memory. */
	return crypto_start() == 0 ? crypto_sha1(NULL, 0, digest) : -1;
}

#endif
