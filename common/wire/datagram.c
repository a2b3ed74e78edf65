#include "common/wire/datagram.h"

#include "common/base/err.h"
#include "common/wire/grpc.h"

enum {
	LEN = 2, /* wire type: length-delimited */
	TAG_UDP_PACKET = 11 << 3 | LEN,
	TAG_TUNNEL_ID = 1 << 3 | LEN,
	TAG_PEER_ID = 2 << 3 | LEN,
	TAG_DATA = 3 << 3 | LEN,
	TAG_SOURCE_ADDR = 4 << 3 | LEN,
	TAG_FLOW = 5 << 3,
	UNKNOWN_FIELDS_MAX = 256,
};

/* Tags and lengths: no encoder needs more than 5 bytes, protobuf-c takes no more. */
static uint64_t take_short(struct cursor *c)
{
	size_t left = cursor_left(c);

	if (left && *c->p < 0x80)
		return *c->p++;
	uint64_t v = cursor_long_varint(c);
	if (cursor_ok(c) && left - cursor_left(c) > 5)
		c->bad = true;
	return c->bad ? 0 : v;
}

static struct str take_str(struct cursor *c)
{
	uint64_t n = take_short(c);
	const uint8_t *p = n <= cursor_left(c) ? cursor_take(c, (size_t)n) : NULL;

	if (!p)
		c->bad = true;
	return (struct str){ (const char *)p, (size_t)n };
}

/* Steps over a field this version does not know. */
static int skip(struct cursor *c, uint64_t tag)
{
	if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
		return ERR_PROTOCOL;
	switch (tag & 7) {
	case 0: cursor_varint(c); break;
	case 1: cursor_take(c, 8); break;
	case LEN: take_str(c); break;
	case 5: cursor_take(c, 4); break;
	default: return ERR_PROTOCOL;
	}
	return 0;
}

static int decode_field(struct cursor *c, uint64_t tag, struct datagram *d, unsigned *n_unknown)
{
	uint64_t v;

	switch (tag) {
	case TAG_TUNNEL_ID: d->tunnel_id = take_str(c); return 0;
	case TAG_PEER_ID: d->peer_id = take_str(c); return 0;
	case TAG_DATA: d->data = take_str(c); return 0;
	case TAG_SOURCE_ADDR: take_str(c); return 0;
	case TAG_FLOW:
		v = cursor_varint(c);
		d->flow = (uint32_t)v;
		return v > UINT32_MAX ? ERR_INVALID : 0;
	default:
		if (tag >> 3 >= 1 && tag >> 3 <= 5)
			return ERR_PROTOCOL; /* a known field of the wrong wire type */
		if (++*n_unknown > UNKNOWN_FIELDS_MAX)
			return ERR_TOO_BIG;
		return skip(c, tag);
	}
}

int datagram_decode(const uint8_t *msg, size_t len, struct datagram *datagram_out)
{
	struct cursor top = cursor_of(msg, len);
	struct datagram d = { 0 };
	unsigned n_unknown = 0;

	if (len == 0 || cursor_u8(&top) != TAG_UDP_PACKET)
		return ERR_NOT_FOUND;
	struct str inner = take_str(&top);
	if (!cursor_ok(&top))
		return ERR_PROTOCOL;
	if (cursor_left(&top))
		return ERR_NOT_FOUND;
	struct cursor c = cursor_of(inner.p, inner.len);
	while (cursor_left(&c)) {
		uint64_t tag = take_short(&c);
		int rc = cursor_ok(&c) ? decode_field(&c, tag, &d, &n_unknown) : ERR_PROTOCOL;
		if (!cursor_ok(&c))
			return ERR_PROTOCOL;
		if (rc < 0)
			return rc;
	}
	/* proto3 cannot tell an empty string from an absent one. */
	if (d.tunnel_id.len == 0)
		d.tunnel_id.p = NULL;
	if (d.peer_id.len == 0)
		d.peer_id.p = NULL;
	*datagram_out = d;
	return 0;
}

static size_t varint_len(uint32_t v)
{
	return v < 1u << 7 ? 1 : v < 1u << 14 ? 2 : v < 1u << 21 ? 3 : v < 1u << 28 ? 4 : 5;
}

static uint8_t *put_varint(uint8_t *p, uint32_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

static size_t str_size(struct str s) { return s.len ? 1 + varint_len((uint32_t)s.len) + s.len : 0; }

static uint8_t *put_str(uint8_t *p, uint8_t tag, struct str s)
{
	if (s.len == 0)
		return p;
	*p++ = tag;
	p = put_varint(p, (uint32_t)s.len);
	memcpy(p, s.p, s.len);
	return p + s.len;
}

static size_t inner_size(const struct datagram *d)
{
	return str_size(d->tunnel_id) + str_size(d->peer_id) + str_size(d->data) +
	       (d->flow ? 1 + varint_len(d->flow) : 0);
}

size_t datagram_size(const struct datagram *d)
{
	size_t inner = inner_size(d);
	return GRPC_PREFIX_LEN + 1 + varint_len((uint32_t)inner) + inner;
}

void datagram_encode(const struct datagram *d, uint8_t *out)
{
	uint32_t inner = (uint32_t)inner_size(d);
	uint8_t *p = out + GRPC_PREFIX_LEN;

	grpc_put_prefix(out, 1 + (uint32_t)varint_len(inner) + inner);
	*p++ = TAG_UDP_PACKET;
	p = put_varint(p, inner);
	p = put_str(p, TAG_TUNNEL_ID, d->tunnel_id);
	p = put_str(p, TAG_PEER_ID, d->peer_id);
	p = put_str(p, TAG_DATA, d->data);
	if (d->flow) {
		*p++ = TAG_FLOW;
		put_varint(p, d->flow);
	}
}
