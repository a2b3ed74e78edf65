#include "common/wire/derp.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "common/base/err.h"

static const uint8_t magic[DERP_MAGIC_LEN] = { 'D', 'E', 'R', 'P', 0xf0, 0x9f, 0x94, 0x91 };
static const char mark[DERP_MARK_LEN + 1] = "tunn1";

enum {
	CLIENT_INFO_LEAST = KEY_LEN + DERP_NONCE_LEN,
	SERVER_KEY_LEAST = DERP_MAGIC_LEN + KEY_LEN,
	RESTARTING_LEN = 8,
	FLOW_LEN = 4,
	PRESENT_LEN = KEY_LEN + 16 + 2 + 1,
};

/* ---- heads ---- */

static int within(uint32_t len, uint32_t least, uint32_t most)
{
	return len < least ? ERR_PROTOCOL : len > most ? ERR_TOO_BIG : 0;
}

int derp_check_first_of_client(const struct framer *f, uint8_t type, uint32_t len)
{
	(void)f;
	if (type != DERP_CLIENT_INFO)
		return ERR_PROTOCOL;
	return within(len, CLIENT_INFO_LEAST, DERP_CLIENT_INFO_MAX);
}

int derp_check_client(const struct framer *f, uint8_t type, uint32_t len)
{
	(void)f;
	switch (type) {
	case DERP_SEND_PACKET: return within(len, KEY_LEN, KEY_LEN + DERP_PACKET_MAX);
	case DERP_FORWARD_PACKET: return within(len, 2 * KEY_LEN, 2 * KEY_LEN + DERP_PACKET_MAX);
	case DERP_NOTE_PREFERRED: return within(len, 1, 1);
	case DERP_WATCH_CONNS: return within(len, 0, 0);
	case DERP_CLOSE_PEER: return within(len, KEY_LEN, KEY_LEN);
	case DERP_PING: return within(len, DERP_PING_LEN, DERP_PING_FRAME_MAX);
	default: return within(len, 0, DERP_SERVER_FRAME_MAX); /* skipped */
	}
}

int derp_check_first_of_server(const struct framer *f, uint8_t type, uint32_t len)
{
	(void)f;
	if (type != DERP_SERVER_KEY)
		return ERR_PROTOCOL;
	return within(len, SERVER_KEY_LEAST, DERP_SERVER_KEY_MAX);
}

int derp_check_server(const struct framer *f, uint8_t type, uint32_t len)
{
	(void)f;
	if (type == DERP_RECV_PACKET)
		return within(len, KEY_LEN, KEY_LEN + DERP_PACKET_MAX);
	return within(len, 0, DERP_CLIENT_FRAME_MAX);
}

/* ---- put ---- */

uint8_t *derp_put_open(struct buf *out, enum derp_type type, size_t len)
{
	uint8_t *p = buf_room(out, FRAME_HEAD_LEN + len);

	if (!p)
		return NULL;
	frame_put_head(p, (uint8_t)type, (uint32_t)len);
	buf_added(out, FRAME_HEAD_LEN + len);
	return p + FRAME_HEAD_LEN;
}

static uint8_t *append(uint8_t *to, const void *p, size_t len)
{
	if (len)
		memcpy(to, p, len);
	return to + len;
}

static uint8_t *append_u32(uint8_t *to, uint32_t v)
{
	const uint32_t be = htobe32(v);

	return append(to, &be, sizeof be);
}

int derp_put(struct buf *out, enum derp_type type, const void *payload, size_t len)
{
	uint8_t *to = derp_put_open(out, type, len);

	if (!to)
		return -ENOMEM;
	append(to, payload, len);
	return 0;
}

int derp_put_server_key(struct buf *out, const struct key *key, bool marked)
{
	size_t len = sizeof magic + KEY_LEN + (marked ? DERP_MARK_LEN : 0);
	uint8_t *to = derp_put_open(out, DERP_SERVER_KEY, len);

	if (!to)
		return -ENOMEM;
	to = append(append(to, magic, sizeof magic), key->b, KEY_LEN);
	if (marked)
		append(to, mark, DERP_MARK_LEN);
	return 0;
}

int derp_put_packet(struct buf *out, enum derp_type type, const struct key *key, const uint8_t *p,
                    size_t len)
{
	uint8_t *to = derp_put_open(out, type, KEY_LEN + len);

	if (!to)
		return -ENOMEM;
	append(append(to, key->b, KEY_LEN), p, len);
	return 0;
}

int derp_put_flow(struct buf *out, const struct key *key, uint32_t flow, const uint8_t *p,
                  size_t len)
{
	uint8_t *to = derp_put_open(out, DERP_TUNN_FLOW, KEY_LEN + FLOW_LEN + len);

	if (!to)
		return -ENOMEM;
	append(append_u32(append(to, key->b, KEY_LEN), flow), p, len);
	return 0;
}

int derp_put_forward(struct buf *out, const struct key *src, const struct key *dst,
                     const uint8_t *p, size_t len)
{
	uint8_t *to = derp_put_open(out, DERP_FORWARD_PACKET, 2 * KEY_LEN + len);

	if (!to)
		return -ENOMEM;
	append(append(append(to, src->b, KEY_LEN), dst->b, KEY_LEN), p, len);
	return 0;
}

int derp_put_gone(struct buf *out, const struct key *key, enum derp_gone reason)
{
	const uint8_t r = (uint8_t)reason;

	return derp_put_packet(out, DERP_PEER_GONE, key, &r, sizeof r);
}

int derp_put_present(struct buf *out, const struct derp_present *p)
{
	uint8_t *to = derp_put_open(out, DERP_PEER_PRESENT, PRESENT_LEN);
	const uint8_t tail[] = { (uint8_t)(p->port >> 8), (uint8_t)p->port, p->flags };

	if (!to)
		return -ENOMEM;
	append(append(append(to, p->key.b, KEY_LEN), p->ip, sizeof p->ip), tail, sizeof tail);
	return 0;
}

int derp_put_restarting(struct buf *out, uint32_t reconnect_ms, uint32_t try_ms)
{
	uint8_t *to = derp_put_open(out, DERP_RESTARTING, RESTARTING_LEN);

	if (!to)
		return -ENOMEM;
	append_u32(append_u32(to, reconnect_ms), try_ms);
	return 0;
}

/* ---- get ---- */

static void get_key(struct cursor *c, struct key *key)
{
	const uint8_t *p = cursor_take(c, KEY_LEN);

	if (p)
		memcpy(key->b, p, KEY_LEN);
}

static struct str rest(struct cursor *c)
{
	size_t len = cursor_left(c);

	return (struct str){ (const char *)cursor_take(c, len), len };
}

static int verdict(const struct cursor *c) { return cursor_ok(c) ? 0 : ERR_PROTOCOL; }

int derp_get_server_key(const struct frame *f, struct key *key_out, bool *marked_out)
{
	struct cursor c = cursor_of(f->p, f->len);
	const uint8_t *m = cursor_take(&c, sizeof magic);

	get_key(&c, key_out);
	if (!cursor_ok(&c) || memcmp(m, magic, sizeof magic) != 0)
		return ERR_PROTOCOL;
	struct str more = rest(&c);
	*marked_out = more.len >= DERP_MARK_LEN && memcmp(more.p, mark, DERP_MARK_LEN) == 0;
	return 0;
}

int derp_get_client_info(const struct frame *f, struct key *key_out, struct str *box_out)
{
	return derp_get_packet(f, key_out, box_out);
}

int derp_get_packet(const struct frame *f, struct key *key_out, struct str *packet_out)
{
	struct cursor c = cursor_of(f->p, f->len);

	get_key(&c, key_out);
	*packet_out = rest(&c);
	return verdict(&c);
}

int derp_get_flow(const struct frame *f, struct key *key_out, uint32_t *flow_out,
                  struct str *packet_out)
{
	struct cursor c = cursor_of(f->p, f->len);

	get_key(&c, key_out);
	*flow_out = cursor_u32be(&c);
	*packet_out = rest(&c);
	return verdict(&c);
}

int derp_get_forward(const struct frame *f, struct key *src_out, struct key *dst_out,
                     struct str *packet_out)
{
	struct cursor c = cursor_of(f->p, f->len);

	get_key(&c, src_out);
	get_key(&c, dst_out);
	*packet_out = rest(&c);
	return verdict(&c);
}

int derp_get_gone(const struct frame *f, struct key *key_out, uint8_t *reason_out)
{
	struct cursor c = cursor_of(f->p, f->len);

	get_key(&c, key_out);
	*reason_out = cursor_left(&c) ? cursor_u8(&c) : DERP_GONE_DISCONNECTED;
	return verdict(&c);
}

/* 32 bytes from old servers, 50 from those without flags. */
int derp_get_present(const struct frame *f, struct derp_present *present_out)
{
	struct cursor c = cursor_of(f->p, f->len);
	const uint8_t *ip;

	*present_out = (struct derp_present){ 0 };
	get_key(&c, &present_out->key);
	if (!cursor_ok(&c))
		return ERR_PROTOCOL;
	if (cursor_left(&c) < sizeof present_out->ip + 2)
		return 0;
	ip = cursor_take(&c, sizeof present_out->ip);
	memcpy(present_out->ip, ip, sizeof present_out->ip);
	present_out->port = cursor_u16be(&c);
	if (cursor_left(&c))
		present_out->flags = cursor_u8(&c);
	return 0;
}

int derp_get_restarting(const struct frame *f, uint32_t *reconnect_ms_out, uint32_t *try_ms_out)
{
	struct cursor c = cursor_of(f->p, f->len);

	*reconnect_ms_out = cursor_u32be(&c);
	*try_ms_out = cursor_u32be(&c);
	return verdict(&c);
}
