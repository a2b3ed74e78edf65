#include "tests/fuzz/frames.h"

#include "tests/h2_frames.h"

#include <string.h>

enum { FRAMES_MAX = 512, ARENA = 1 << 20, HEAD = 9, LEN_MAX = 1 << 18 };

struct frame {
	uint8_t type, flags;
	uint32_t stream;
	const uint8_t *payload;
	size_t len;
	int is_tail; /* bytes that are no whole frame: kept as they are */
};

static struct frame frames[FRAMES_MAX + 1];
static unsigned n_frames;
static uint8_t arena[ARENA + 64]; /* put() keeps to the front of it */
static size_t arena_len;
static uint64_t dice;

static unsigned roll(unsigned sides)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return sides ? (unsigned)(dice >> 11) % sides : 0;
}

static int chance(unsigned percent) { return roll(100) < percent; }

/* ---- bytes ---- */

static void put(const void *p, size_t n)
{
	size_t room = arena_len < ARENA ? ARENA - arena_len : 0;

	n = n < room ? n : room;
	if (n)
		memcpy(arena + arena_len, p, n);
	arena_len += n;
}

static void put_byte(unsigned b) { put(&(uint8_t){ (uint8_t)b }, 1); }

static void put_varint(uint64_t v)
{
	for (; v > 127; v >>= 7)
		put_byte((unsigned)(v & 127) | 128);
	put_byte((unsigned)v);
}

/* ---- frames in and out ---- */

static void parse(const uint8_t *data, size_t len)
{
	n_frames = 0;
	while (len && n_frames < FRAMES_MAX) {
		struct frame *f = &frames[n_frames++];
		size_t n = len >= HEAD ? (size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2] :
		                         len;
		*f = (struct frame){ .payload = data, .len = len, .is_tail = 1 };
		if (len < HEAD || n > len - HEAD)
			return;
		*f = (struct frame){ .type = data[3],
			             .flags = data[4],
			             .stream = (uint32_t)data[5] << 24 | (uint32_t)data[6] << 16 |
			                       (uint32_t)data[7] << 8 | data[8],
			             .payload = data + HEAD,
			             .len = n };
		data += HEAD + n;
		len -= HEAD + n;
	}
}

static size_t write_frame(const struct frame *f, uint8_t *to, size_t cap)
{
	size_t head = f->is_tail ? 0 : HEAD;

	if (head + f->len > cap)
		return 0;
	if (head) {
		const uint8_t h[HEAD] = { (uint8_t)(f->len >> 16),
			                  (uint8_t)(f->len >> 8),
			                  (uint8_t)f->len,
			                  f->type,
			                  f->flags,
			                  (uint8_t)(f->stream >> 24),
			                  (uint8_t)(f->stream >> 16),
			                  (uint8_t)(f->stream >> 8),
			                  (uint8_t)f->stream };
		memcpy(to, h, HEAD);
	}
	memcpy(to + head, f->payload, f->len);
	return head + f->len;
}

/* ---- contents ---- */

static const char *const request_fields[][6] = {
	{ ":method", "POST", "POST", "POST", "GET", "CONNECT" },
	{ ":scheme", "https", "https", "http", "", "x" },
	{ ":path", "/tunn.v1.TunnelService/EstablishTunnel", "/grpc.health.v1.Health/Check",
	  "/grpc.health.v1.Health/Watch",
	  "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/" },
	{ ":authority", "x", "x", "relay.test:443", "", "a b" },
	{ "te", "trailers", "trailers", "trailers", "gzip", "" },
	{ "content-type", "application/grpc", "application/grpc", "application/grpc+proto",
	  "text/html", "" },
	{ "grpc-timeout", "1S", "0S", "99999999H", "123456789S", "x" },
	{ "grpc-encoding", "identity", "gzip", "identity", "br", "" },
	{ "authorization", "Bearer t", "bearer tunn_abcdefgh_x", "Basic eDp5", "Bearer ", "" },
	{ "x-bin", "AAAA", "AA", "!!!", "AAA=,AA==", "" },
	{ "content-length", "5", "0", "99999999999999999999", "x", "" },
	{ "user-agent", "grpc-go/1", "x", "\x1b[2J", "", "grpc-c/1" },
	{ "Upper", "x", "x", "x", "x", "x" },
	{ "connection", "close", "x", "x", "x", "x" },
};
static const char *const response_fields[][6] = {
	{ ":status", "200", "200", "200", "103", "404" },
	{ "content-type", "application/grpc", "application/grpc", "application/grpc", "text/html",
	  "" },
	{ "grpc-status", "0", "8", "16", "14", "abc" },
	{ "grpc-message", "words", "%41%zz", "%", "\xff\xfe", "" },
	{ "grpc-retry-pushback-ms", "10000", "-1", "99999999999999999999", "x", "" },
	{ "grpc-encoding", "identity", "gzip", "br", "", "x" },
	{ "location", "https://portal.test/login?t=1", "x", "", "//", "http://" },
	{ "content-length", "5", "0", "x", "", "99999999999999999999" },
	{ "Upper", "x", "x", "x", "x", "x" },
};
static const char *const words[] = { "a",          "b",        "acme/c", "home-wg",
	                             "nodekey:00", "",         "A",      "a/b/c",
	                             "tunn_x",     "\xff\xfe", "pool-",  "0123456789abcdef" };

static void put_literal(const char *s)
{
	put_byte((unsigned)strlen(s) & 127);
	put(s, strlen(s) & 127);
}

/* RFC 7541 6.2.2, behind an update to the size of our table (4.2). */
static void put_block(enum frames_side side)
{
	const char *const(*table)[6] = side == FRAMES_OF_CLIENT ? request_fields : response_fields;
	unsigned n = side == FRAMES_OF_CLIENT ? 14 : 9, usual = side == FRAMES_OF_CLIENT ? 6 : 2;

	if (!chance(3))
		put("\x3f\xe1\x07", 3);
	for (unsigned i = 0; i < n; i++) {
		if (i < usual ? chance(4) : !chance(12))
			continue;
		for (unsigned twice = chance(3) ? 2 : 1; twice; twice--) {
			put_byte(chance(90) ? 0x00 : chance(50) ? 0x40 : 0x10);
			put_literal(table[i][0]);
			put_literal(table[i][1 + (chance(70) ? 0 : roll(5))]);
		}
	}
	if (chance(5))
		put_byte(roll(256));
}

/* A protobuf message: mostly fields of ours, mostly with the right wire type. */
static void put_message(unsigned depth)
{
	static const uint8_t top[] = { 1, 2, 5, 6, 9, 11, 12, 13 };

	for (unsigned n = depth ? roll(6) : 1 + (unsigned)chance(10); n; n--) {
		unsigned number = depth == 0 && !chance(5) ? (unsigned)top[roll(sizeof top)] :
		                                             1 + roll(14);
		unsigned wire = depth == 0 || chance(60) ? 2 : chance(85) ? 0 : roll(8);
		put_varint(number << 3 | wire);
		if (wire == 0) {
			put_varint(chance(70) ? roll(5) : (uint64_t)1 << roll(64));
		} else if (wire == 2) {
			size_t at = arena_len;
			if (depth < 3 && (depth == 0 || chance(35))) {
				put_message(depth + 1);
			} else if (chance(10)) {
				for (unsigned i = roll(2000); i; i--)
					put_byte(i);
			} else {
				const char *w = words[roll(sizeof words / sizeof *words)];
				put(w, strlen(w));
			}
			uint8_t body[4096];
			size_t len = arena_len - at;
			if (len > sizeof body)
				len = sizeof body;
			memcpy(body, arena + at, len);
			arena_len = at;
			put_varint(chance(98) ? len : roll(100000));
			put(body, len);
		} else {
			put("\1\2\3\4\5\6\7", 4 + roll(4));
		}
	}
}

/* Length-prefixed, as gRPC sends them. */
static void put_messages(void)
{
	for (unsigned n = 1 + (chance(20) ? roll(5) : 0); n; n--) {
		size_t at = arena_len;
		put("\0\0\0\0\0", 5);
		put_message(0);
		size_t len = arena_len - at - 5;
		if (len > ARENA) /* it was full before */
			return;
		if (chance(3))
			len = roll(1 << 20);
		arena[at] = chance(97) ? 0 : (uint8_t)roll(256);
		arena[at + 3] = (uint8_t)(len >> 8);
		arena[at + 4] = (uint8_t)len;
		arena[at + 2] = (uint8_t)(len >> 16);
	}
}

static uint32_t some_stream(void)
{
	if (n_frames && chance(70))
		return frames[roll(n_frames)].stream;
	return chance(80) ? 1 + 2 * roll(4) : roll(1 << 16);
}

static struct frame new_frame(enum frames_side side)
{
	static const uint8_t settings[] = { 0, 1, 0, 0, 4, 0, 0, 2, 0, 0, 0,  0, 0, 3, 0, 0, 0, 9,
		                            0, 4, 0, 0, 0, 1, 0, 5, 0, 0, 64, 0, 0, 6, 0, 0, 1, 0 };
	struct frame f = { .stream = some_stream(), .payload = arena + arena_len };
	size_t at = arena_len;

	switch (roll(16)) {
	case 0 ... 4:
		f.type = HEADERS;
		f.flags = (uint8_t)((chance(95) ? END_HEADERS : 0) | (chance(15) ? END_STREAM : 0));
		put_block(side);
		break;
	case 5 ... 9:
		f.type = DATA;
		f.flags = chance(10) ? END_STREAM : 0;
		put_messages();
		break;
	case 10:
		f.type = RST_STREAM;
		put("\0\0\0", 3);
		put_byte(roll(15));
		break;
	case 11:
		f.type = SETTINGS;
		f.stream = 0;
		f.flags = chance(30) ? ACK : 0;
		if (!f.flags)
			put(settings + 6 * roll(6), 6);
		break;
	case 12:
		f.type = PING;
		f.stream = 0;
		f.flags = chance(50) ? ACK : 0;
		put("12345678", 8);
		break;
	case 13:
		f.type = GOAWAY;
		f.stream = 0;
		put("\0\0\0\1\0\0\0", 7);
		put_byte(roll(15));
		put("too_many_pings", roll(15));
		break;
	case 14:
		f.type = WINDOW_UPDATE;
		f.stream = chance(50) ? 0 : f.stream;
		put(chance(80) ? "\0\1\0\0" : "\x7f\xff\xff\xff", 4);
		break;
	default: /* of no known type: time passes */ f.type = 0xfa; put("\xff\x00", 2);
	}
	f.len = arena_len - at;
	return f;
}

/* ---- steps ---- */

static void insert(unsigned at, struct frame f)
{
	if (n_frames >= FRAMES_MAX)
		return;
	memmove(frames + at + 1, frames + at, (n_frames - at) * sizeof *frames);
	frames[at] = f;
	n_frames++;
}

static void cut(unsigned at)
{
	struct frame second = frames[at];
	size_t n = frames[at].len ? roll((unsigned)frames[at].len) : 0;

	second.payload += n;
	second.len -= n;
	frames[at].len = n;
	if (second.type == HEADERS) {
		frames[at].flags &= (uint8_t)~END_HEADERS;
		second.type = CONTINUATION;
	} else {
		frames[at].flags &= (uint8_t)~END_STREAM;
	}
	insert(at + 1, second);
}

static void alter_payload(struct frame *f)
{
	size_t room = f->len + 64;

	if (arena_len + room > ARENA)
		return;
	uint8_t *to = arena + arena_len;
	memcpy(to, f->payload, f->len);
	size_t n = LLVMFuzzerMutate(to, f->len, room);
	arena_len += room;
	if (f->type == DATA && !chance(20) && n >= 5) { /* one message that fills the frame */
		to[1] = to[2] = 0;
		to[3] = (uint8_t)((n - 5) >> 8);
		to[4] = (uint8_t)(n - 5);
	}
	f->payload = to;
	f->len = n;
}

static void step(enum frames_side side)
{
	unsigned at = roll(n_frames), kind = n_frames ? roll(12) : 0;
	struct frame *f = &frames[at];

	switch (kind) {
	case 0 ... 3: insert(roll(n_frames + 1), new_frame(side)); break;
	case 4:
		memmove(f, f + 1, (n_frames - at - 1) * sizeof *f);
		n_frames--;
		break;
	case 5: insert(at, *f); break;
	case 6: {
		struct frame *other = &frames[roll(n_frames)], swap = *other;
		*other = *f;
		*f = swap;
		break;
	}
	case 7: f->flags ^= (uint8_t)(1u << roll(8)); break;
	case 8: f->stream = some_stream(); break;
	case 9: f->type = (uint8_t)roll(11); break;
	case 10: cut(at); break;
	default: alter_payload(f);
	}
}

static size_t write_all(uint8_t *to, size_t cap)
{
	size_t len = 0;

	for (unsigned i = 0; i < n_frames; i++)
		len += write_frame(&frames[i], to + len, cap - len);
	return len;
}

size_t frames_mutate(enum frames_side side, uint8_t *data, size_t len, size_t cap, unsigned seed)
{
	static uint8_t out[LEN_MAX];

	dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	arena_len = 0;
	if (len > LEN_MAX || chance(4))
		return LLVMFuzzerMutate(data, len, cap);
	parse(data, len);
	for (unsigned n = 1 + roll(4); n; n--)
		step(side);
	size_t n = write_all(out, cap < LEN_MAX ? cap : LEN_MAX);
	memcpy(data, out, n);
	return n;
}

size_t frames_cross(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out,
                    size_t cap, unsigned seed)
{
	struct frame of_b[FRAMES_MAX];
	size_t len = 0;

	dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	parse(b, b_len);
	unsigned n_b = n_frames, i = 0, k = 0;
	memcpy(of_b, frames, n_b * sizeof *of_b);
	parse(a, a_len);
	while (i < n_frames || k < n_b) {
		const struct frame *f = k == n_b || (i < n_frames && chance(60)) ? &frames[i++] :
		                                                                   &of_b[k++];
		if (!chance(10))
			len += write_frame(f, out + len, cap - len);
	}
	return len;
}
