#include "common/wire/stun.h"

#include <stdbool.h>
#include <string.h>

#include "common/base/bytes.h"
#include "common/base/crc.h"
#include "common/base/err.h"

enum {
	HEADER_LEN = 20,
	BINDING_REQUEST = 0x0001,
	BINDING_ANSWER = 0x0101,
	MAPPED_ADDRESS = 0x0001,
	XOR_MAPPED_ADDRESS = 0x0020,
	XOR_MAPPED_ADDRESS_OLD = 0x8020, /* of drafts before RFC 5389; still seen */
	SOFTWARE = 0x8022,
	FINGERPRINT = 0x8028,
	FINGERPRINT_LEN = 8, /* with its head */
	FAMILY_IPV4 = 1,
	FAMILY_IPV6 = 2,
};
static const uint32_t cookie = 0x2112a442, fingerprint_xor = 0x5354554e;
static const uint8_t ipv4_prefix[12] = { [10] = 0xff, [11] = 0xff };

static uint8_t *put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v) { return put16(put16(p, v >> 16), (uint16_t)v); }

static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

static uint32_t fingerprint_of(const uint8_t *p, size_t len)
{
	return crc_32(0, p, len) ^ fingerprint_xor;
}

/* ---- header and attributes ---- */

struct header {
	uint16_t type, len;
	const uint8_t *txid;
};

static uint8_t *put_header(uint8_t *p, uint16_t type, uint16_t len, const uint8_t *txid)
{
	p = put32(put16(put16(p, type), len), cookie);
	return put_bytes(p, txid, STUN_TXID_LEN);
}

/* RFC 5389, 6. A type of more than 14 bits is of another protocol on the port. */
static bool read_header(struct cursor *c, struct header *h_out)
{
	h_out->type = cursor_u16be(c);
	h_out->len = cursor_u16be(c);
	bool is_stun = cursor_u32be(c) == cookie;
	h_out->txid = cursor_take(c, STUN_TXID_LEN);
	return cursor_ok(c) && is_stun && h_out->type < 0x4000;
}

struct attr {
	uint16_t type;
	struct str value;
};

/* False: there is no more, or the cursor is bad. The padding has to be there. */
static bool next_attr(struct cursor *c, struct attr *a_out)
{
	if (cursor_left(c) == 0)
		return false;
	a_out->type = cursor_u16be(c);
	a_out->value.len = cursor_u16be(c);
	a_out->value.p = (const char *)cursor_take(c, a_out->value.len);
	cursor_take(c, -a_out->value.len & 3);
	return cursor_ok(c);
}

/* ---- requests ---- */

static const struct str software = { "tailnode", 8 };

void stun_write_request(const uint8_t txid[static STUN_TXID_LEN],
                        uint8_t out[static STUN_REQUEST_LEN])
{
	uint8_t *p = put_header(out, BINDING_REQUEST, STUN_REQUEST_LEN - HEADER_LEN, txid);

	p = put16(put16(p, SOFTWARE), (uint16_t)software.len);
	p = put_bytes(p, software.p, software.len);
	size_t before = (size_t)(p - out);
	put32(put16(put16(p, FINGERPRINT), 4), fingerprint_of(out, before));
}

/* The last attribute has to be one that covers all before it. */
static bool is_fingerprint(const struct attr *a, const uint8_t *p, size_t len)
{
	struct cursor c = cursor_of(a->value.p, a->value.len);

	return a->type == FINGERPRINT && a->value.len == 4 &&
	       cursor_u32be(&c) == fingerprint_of(p, len - FINGERPRINT_LEN);
}

int stun_read_request(const void *p, size_t len, uint8_t txid_out[static STUN_TXID_LEN])
{
	struct cursor c = cursor_of(p, len);
	struct header h;
	struct attr a = { 0 };
	bool is_known = false;

	if (!read_header(&c, &h) || h.type != BINDING_REQUEST)
		return ERR_PROTOCOL;
	while (next_attr(&c, &a))
		is_known = is_known || (a.type == SOFTWARE && str_eq(a.value, software));
	if (!cursor_ok(&c) || !is_known || !is_fingerprint(&a, p, len))
		return ERR_PROTOCOL;
	memcpy(txid_out, h.txid, STUN_TXID_LEN);
	return 0;
}

/* ---- answers ---- */

/* RFC 5389, 15.2: the address is hidden from middleboxes that rewrite what looks like one. */
static void mask(uint8_t *ip, size_t n, const uint8_t *txid)
{
	uint8_t key[16];

	put_bytes(put32(key, cookie), txid, STUN_TXID_LEN);
	for (size_t i = 0; i < n; i++)
		ip[i] ^= key[i];
}

size_t stun_write_answer(const uint8_t txid[static STUN_TXID_LEN], const struct stun_addr *seen,
                         uint8_t out[static STUN_ANSWER_MAX])
{
	bool is_ipv4 = memcmp(seen->ip, ipv4_prefix, sizeof ipv4_prefix) == 0;
	uint16_t n = is_ipv4 ? 4 : 16;
	uint8_t *p = put_header(out, BINDING_ANSWER, 8 + n, txid);

	p = put16(put16(p, XOR_MAPPED_ADDRESS), 4 + n);
	p = put16(p, is_ipv4 ? FAMILY_IPV4 : FAMILY_IPV6);
	p = put16(p, (uint16_t)(seen->port ^ cookie >> 16));
	memcpy(p, seen->ip + 16 - n, n);
	mask(p, n, txid);
	return (size_t)(p + n - out);
}

/* RFC 5389, 15.1 and 15.2; bytes behind the address are passed over. */
static bool read_address(struct str value, const uint8_t *txid, struct stun_addr *a_out)
{
	struct cursor c = cursor_of(value.p, value.len);
	unsigned family = cursor_u16be(&c) & 0xff; /* the first byte means nothing */
	size_t n = family == FAMILY_IPV4 ? 4 : 16;

	a_out->port = cursor_u16be(&c);
	const uint8_t *ip = cursor_take(&c, n);
	if (!ip || (family != FAMILY_IPV4 && family != FAMILY_IPV6))
		return false;
	memcpy(a_out->ip, ipv4_prefix, sizeof ipv4_prefix);
	memcpy(a_out->ip + 16 - n, ip, n);
	if (txid) {
		a_out->port ^= cookie >> 16;
		mask(a_out->ip + 16 - n, n, txid);
	}
	return true;
}

/* The last masked address counts, else the last plain one: middleboxes rewrite those. */
static bool find_address(struct cursor *c, const uint8_t *txid, struct stun_addr *seen_out)
{
	struct stun_addr masked, plain;
	bool has_masked = false, has_plain = false;

	for (struct attr a; next_attr(c, &a);) {
		if (a.type == XOR_MAPPED_ADDRESS || a.type == XOR_MAPPED_ADDRESS_OLD) {
			if (!read_address(a.value, txid, &masked))
				return false;
			has_masked = true;
		} else if (a.type == MAPPED_ADDRESS) {
			if (!read_address(a.value, NULL, &plain))
				return false;
			has_plain = true;
		}
	}
	if (!cursor_ok(c) || !(has_masked || has_plain))
		return false;
	*seen_out = has_masked ? masked : plain;
	return true;
}

int stun_read_answer(const void *p, size_t len, uint8_t txid_out[static STUN_TXID_LEN],
                     struct stun_addr *seen_out)
{
	struct cursor c = cursor_of(p, len);
	struct header h;

	if (!read_header(&c, &h) || h.type != BINDING_ANSWER || h.len > cursor_left(&c))
		return ERR_PROTOCOL;
	struct cursor attrs = cursor_of(cursor_take(&c, h.len), h.len);
	if (!find_address(&attrs, h.txid, seen_out))
		return ERR_PROTOCOL;
	memcpy(txid_out, h.txid, STUN_TXID_LEN);
	return 0;
}
