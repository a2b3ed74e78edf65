#include "common/base/bytes.h"

#include "common/base/err.h"

uint64_t cursor_long_varint(struct cursor *c)
{
	uint64_t v = 0;

	if (cursor_left(c) >= 2 && c->p[1] < 0x80) { /* the length of a datagram */
		v = (uint64_t)(c->p[0] & 0x7f) | (uint64_t)c->p[1] << 7;
		c->p += 2;
		return v;
	}
	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t b = cursor_u8(c);
		if (c->bad)
			return 0;
		v |= (uint64_t)(b & 0x7f) << (shift < 64 ? shift : 63);
		if (!(b & 0x80)) {
			if (shift == 63 && b > 1)
				break;
			return v;
		}
	}
	c->bad = true;
	return 0;
}

bool utf8_is_valid(const void *p, size_t len)
{
	struct cursor c = cursor_of(p, len);

	while (cursor_left(&c)) {
		uint8_t b = cursor_u8(&c);
		unsigned more;
		uint32_t cp;

		if (b == 0)
			return false;
		if (b < 0x80)
			continue;
		if (b >= 0xc2 && b <= 0xdf) {
			more = 1;
			cp = b & 0x1f;
		} else if ((b & 0xf0) == 0xe0) {
			more = 2;
			cp = b & 0x0f;
		} else if (b >= 0xf0 && b <= 0xf4) {
			more = 3;
			cp = b & 0x07;
		} else {
			return false;
		}
		for (unsigned i = 0; i < more; i++) {
			uint8_t t = cursor_u8(&c);
			if (c.bad || (t & 0xc0) != 0x80)
				return false;
			cp = cp << 6 | (t & 0x3f);
		}
		if ((more == 2 && (cp < 0x800 || (cp >= 0xd800 && cp <= 0xdfff))) ||
		    (more == 3 && (cp < 0x10000 || cp > 0x10ffff)))
			return false;
	}
	return true;
}

void make_printable(char *p, size_t len)
{
	bool is_text = utf8_is_valid(p, len);

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)p[i];
		bool is_c1 = c == 0xc2 && i + 1 < len && (uint8_t)p[i + 1] < 0xa0;
		if (c < ' ' || c == 0x7f || (c >= 0x80 && !is_text))
			p[i] = '?';
		if (is_c1)
			p[i] = p[i + 1] = '?';
	}
}

void hex_encode(const uint8_t *p, size_t n, char *hex_out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		hex_out[2 * i] = digits[p[i] >> 4];
		hex_out[2 * i + 1] = digits[p[i] & 15];
	}
	hex_out[2 * n] = 0;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int hex_decode(struct str hex, uint8_t *out, size_t n)
{
	if (hex.len != 2 * n)
		return ERR_INVALID;
	for (size_t i = 0; i < hex.len; i++)
		if (nibble(hex.p[i]) < 0)
			return ERR_INVALID;
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)(nibble(hex.p[2 * i]) << 4 | nibble(hex.p[2 * i + 1]));
	return 0;
}
