/*
 * Reading untrusted bytes: a cursor that cannot overrun and remembers its
 * first error. Read ten fields, ask cursor_ok() once. Any thread.
 */
#ifndef TUNN_BASE_BYTES_H
#define TUNN_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A run of bytes somebody else owns; not NUL-terminated, may hold NUL. */
struct str {
	const char *p;
	size_t len;
};

#define STR(lit) ((struct str){ (lit), sizeof(lit) - 1 })
static inline struct str str_of(const char *s) { return (struct str){ s, s ? strlen(s) : 0 }; }
static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

struct cursor {
	const uint8_t *p, *end;
	bool bad;
};

static inline struct cursor cursor_of(const void *p, size_t len)
{
	const uint8_t *b = p;
	return (struct cursor){ b, len ? b + len : b, false };
}
static inline bool cursor_ok(const struct cursor *c) { return !c->bad; }
static inline size_t cursor_left(const struct cursor *c)
{
	return c->bad ? 0 : (size_t)(c->end - c->p);
}

/* Each returns zero (or NULL) and marks the cursor bad when bytes are missing. They are
 * here since every datagram is read by a dozen of them. */
static inline const uint8_t *cursor_take(struct cursor *c, size_t n) /* borrows from the input */
{
	const uint8_t *p = c->p;

	if (c->bad || (size_t)(c->end - c->p) < n) {
		c->bad = true;
		return NULL;
	}
	if (n)
		c->p += n;
	return p;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 1);
	return p ? *p : 0;
}

static inline uint16_t cursor_u16be(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 2);
	return p ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}

static inline uint32_t cursor_u32be(struct cursor *c)
{
	const uint8_t *p = cursor_take(c, 4);
	return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

uint64_t cursor_long_varint(struct cursor *); /* the first byte is not the last, or missing */
static inline uint64_t cursor_varint(struct cursor *c) /* protobuf, at most 10 bytes */
{
	return !c->bad && c->p < c->end && *c->p < 0x80 ? *c->p++ : cursor_long_varint(c);
}

/* Valid UTF-8 without NUL (RFC 3629: no surrogates, no overlong forms). */
bool utf8_is_valid(const void *p, size_t len);

/* For terminals and people: control characters (C1 of Unicode too), and in what is not UTF-8 all
 * that is not ASCII, become '?'. */
void make_printable(char *p, size_t len);

/* 2n lower-case digits; decode takes exactly 2n of them, either case refused
 * but lower. Returns 0 or ERR_INVALID. */
void hex_encode(const uint8_t *p, size_t n, char *hex_out /* 2n + 1 */);
int hex_decode(struct str hex, uint8_t *out, size_t n);

#endif
