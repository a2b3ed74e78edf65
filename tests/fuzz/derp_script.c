#include "tests/fuzz/derp_script.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/derp.h"
#include "tests/fuzz/frames.h"

enum { HEAD = 4, ITEMS_MAX = 64, OWN = 1 << 17, LEN_MAX = 1 << 16 };

static struct script_item items[ITEMS_MAX];
static unsigned n_items;
static uint8_t own[OWN]; /* payloads of what is new */
static size_t own_len;
static uint64_t dice;

static uint32_t roll(uint32_t n)
{
	dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(dice >> 33) % (n ? n : 1);
}
static bool chance(unsigned percent) { return roll(100) < percent; }

/* ---- reading, writing ---- */

bool script_next(struct cursor *c, struct script_item *item_out)
{
	uint8_t op = cursor_u8(c), type = cursor_u8(c), high = cursor_u8(c);
	size_t len = (size_t)high << 8 | cursor_u8(c);

	if (!cursor_ok(c))
		return false;
	if (len > cursor_left(c))
		len = cursor_left(c);
	item_out->op = op % SCRIPT_OP_N;
	item_out->type = type;
	item_out->payload = (struct str){ (const char *)cursor_take(c, len), len };
	return true;
}

int script_bytes(const struct script_item *it, struct buf *out)
{
	if (it->op == SCRIPT_RAW)
		return buf_add(out, it->payload.p, it->payload.len);
	return derp_put(out, (enum derp_type)it->type, it->payload.p, it->payload.len);
}

static void parse(const uint8_t *data, size_t len)
{
	struct cursor c = cursor_of(data, len);

	n_items = 0;
	while (n_items < ITEMS_MAX && script_next(&c, &items[n_items]))
		n_items++;
}

static size_t write_item(const struct script_item *it, uint8_t *to, size_t cap)
{
	if (HEAD + it->payload.len > cap || it->payload.len > UINT16_MAX)
		return 0;
	to[0] = it->op;
	to[1] = it->type;
	to[2] = (uint8_t)(it->payload.len >> 8);
	to[3] = (uint8_t)it->payload.len;
	if (it->payload.len)
		memcpy(to + HEAD, it->payload.p, it->payload.len);
	return HEAD + it->payload.len;
}

static size_t write_all(uint8_t *to, size_t cap)
{
	size_t len = 0;

	for (unsigned i = 0; i < n_items; i++)
		len += write_item(&items[i], to + len, cap - len);
	return len;
}

/* ---- contents ---- */

#define KEY64 "675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f"

static const char *const requests[] = {
	"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nUpgrade: DERP\r\n\r\n",
	"GET /derp HTTP/1.1\r\nHost: x\r\nDerp-Fast-Start: 1\r\nTunn-Version: 1\r\n"
	"Upgrade: DERP\r\n\r\n",
	"POST / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
	"GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OTo7PD0+Pw==\r\n"
	"Sec-WebSocket-Protocol: derp\r\nTunn-Version: 1\r\n\r\n",
	"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n",
	"HEAD /derp/latency-check HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /derp HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345",
	"GET /generate_204?t=1 HTTP/1.0\r\nConnection: keep-alive\r\n"
	"X-Tailscale-Challenge: ts_1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /login/token?a=b HTTP/1.1\r\nHost: x:1\r\nOrigin: https://x:1\r\nCookie: a=b\r\n"
	"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\na=b&c=d",
	"HEAD /login HTTP/1.0\r\nHost: x\r\n\r\n",
	"GET /derp HTTP/1.1\r\nHost: x\r\nIdeal-Node: 1a\r\nUpgrade: h2c, DERP\r\n\r\n",
};
static const char *const answers[] = {
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n",
	"HTTP/1.1 101 x\r\n\r\n",
	"HTTP/1.1 302 Found\r\nLocation: https://portal.test/\r\n\r\n",
	"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 426 x\r\n\r\n",
};
static const char *const client_infos[] = {
	"{\"version\":2,\"CanAckPings\":true}",
	"{\"tunnId\":\"laptop\",\"tunnPeers\":[\"home\",\"other/box\"],\"tunnToken\":\"tok\"}",
	"{\"tunnPeers\":[\"nodekey:" KEY64 "\"],\"tunnRole\":2,\"tunnOneWay\":true,"
	"\"tunnInstance\":\"000102030405060708090a0b0c0d0e0f\"}",
	"{\"version\":2,\"meshKey\":\"" KEY64 "\",\"IsProber\":true}",
	"{\"tunnId\":\"-\",\"tunnPeers\":[]}",
	"{}",
};
static const char *const server_infos[] = {
	"{\"version\":2}",
	"{\"version\":2,\"tunnAccount\":\"acme\",\"tunnId\":\"laptop\",\"tunnNode\":\"n1\","
	"\"tunnPeerKeys\":[\"" KEY64 "\",\"" KEY64 "\"]}",
	"{\"TokenBucketBytesPerSecond\":100,\"TokenBucketBytesBurst\":66000}",
	"{}",
};
#define ONE_OF(list) (list)[chance(60) ? 0 : roll(sizeof(list) / sizeof *(list))]

static struct str keep(const void *p, size_t len)
{
	uint8_t *to = own + own_len;

	if (len > OWN - own_len)
		return STR("");
	memcpy(to, p, len);
	own_len += len;
	return (struct str){ (const char *)to, len };
}

/* TunnelMessages: StreamClosed, PeerStatus, Notice. */
static const char *const words[] = { "\x4a\x04\x12\x02no",
	                             "\x62\x04\x0a\x00\x10\x01",
	                             "\x6a\x05\x0a\x03\x08\xe8\x07",
	                             "\x6a\x02\x1a\x00",
	                             "\x62\x02\x10\x03",
	                             "\x2a\x02\x08\x01",
	                             "\xff\xff" };

static struct script_item new_frame(enum script_side side)
{
	static const uint8_t of_client[] = {
		DERP_SEND_PACKET, DERP_NOTE_PREFERRED, DERP_WATCH_CONNS, DERP_CLOSE_PEER, DERP_PING,
		DERP_PONG,        DERP_FORWARD_PACKET, DERP_TUNN,        DERP_TUNN_FLOW
	};
	static const uint8_t of_server[] = { DERP_RECV_PACKET,  DERP_KEEP_ALIVE, DERP_PEER_GONE,
		                             DERP_PEER_PRESENT, DERP_PING,       DERP_PONG,
		                             DERP_HEALTH,       DERP_RESTARTING, DERP_TUNN,
		                             DERP_TUNN_FLOW };
	static const size_t lens[] = { 0, 1, 8, 31, 32, 33, 50, 51, 64, 70, 200, 1000, 1001 };
	struct script_item it = { .op = SCRIPT_FRAME };
	uint8_t body[2048] = { 0 };
	size_t len = lens[roll(sizeof lens / sizeof *lens)];

	it.type = side == SCRIPT_OF_CLIENT ? of_client[roll(sizeof of_client)] :
	                                     of_server[roll(sizeof of_server)];
	if (chance(5))
		it.type = (uint8_t)roll(256);
	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(chance(50) ? 0x31 : roll(256));
	if (it.type == DERP_TUNN) {
		const char *w = words[roll(sizeof words / sizeof *words)];
		memcpy(body + 32, w, strlen(w));
		len = 32 + strlen(w);
	} else if (chance(70)) {
		len = it.type == DERP_NOTE_PREFERRED                            ? 1 :
		      it.type == DERP_WATCH_CONNS || it.type == DERP_KEEP_ALIVE ? 0 :
		      it.type == DERP_CLOSE_PEER                                ? 32 :
		      it.type == DERP_PING || it.type == DERP_PONG || it.type == DERP_RESTARTING ?
		                                   8 :
		      it.type == DERP_PEER_GONE    ? 33 :
		      it.type == DERP_PEER_PRESENT ? 51 :
		                                     len;
	}
	it.payload = keep(body, len);
	return it;
}

static struct script_item new_item(enum script_side side)
{
	struct script_item it = { .op = SCRIPT_TIME,
		                  .type = (uint8_t)roll(70),
		                  .payload = STR("") };
	bool of_client = side == SCRIPT_OF_CLIENT;
	const char *text;

	switch (roll(16)) {
	case 0:
	case 1:
		it.op = SCRIPT_RAW;
		text = of_client ? ONE_OF(requests) : ONE_OF(answers);
		it.payload = str_of(text);
		return it;
	case 2:
	case 3:
	case 4:
		it.op = SCRIPT_BOX;
		it.type = (uint8_t)roll(4);
		text = of_client ? ONE_OF(client_infos) : ONE_OF(server_infos);
		it.payload = str_of(text);
		return it;
	case 5:
	case 6:
	case 7:
		it.op = SCRIPT_DO;
		it.type = (uint8_t)roll(256);
		return it;
	case 8: return it;
	case 9: it.op = chance(50) ? SCRIPT_WS : SCRIPT_CUT; return it;
	default: return new_frame(side);
	}
}

/* ---- steps ---- */

static void insert(unsigned at, struct script_item it)
{
	if (n_items >= ITEMS_MAX)
		return;
	memmove(items + at + 1, items + at, (n_items - at) * sizeof *items);
	items[at] = it;
	n_items++;
}

static void alter(struct script_item *it)
{
	size_t room = it->payload.len + 64;

	if (room > OWN - own_len || room > UINT16_MAX)
		return;
	uint8_t *to = own + own_len;
	if (it->payload.len)
		memcpy(to, it->payload.p, it->payload.len);
	it->payload.len = LLVMFuzzerMutate(to, it->payload.len, room);
	it->payload.p = (const char *)to;
	own_len += room;
}

static void step(enum script_side side)
{
	unsigned at = roll(n_items), kind = n_items ? roll(10) : 0;
	struct script_item *it = &items[at];

	switch (kind) {
	case 0 ... 3: insert(roll(n_items + 1), new_item(side)); break;
	case 4:
		memmove(it, it + 1, (n_items - at - 1) * sizeof *it);
		n_items--;
		break;
	case 5: insert(at, *it); break;
	case 6: {
		struct script_item *with = &items[roll(n_items)], swap = *with;
		*with = *it;
		*it = swap;
		break;
	}
	case 7: it->type = (uint8_t)roll(256); break;
	case 8: it->op = (uint8_t)roll(SCRIPT_OP_N); break;
	default: alter(it);
	}
}

size_t script_mutate(enum script_side side, uint8_t *data, size_t len, size_t cap, unsigned seed)
{
	static uint8_t out[LEN_MAX];

	dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	own_len = 0;
	if (len > LEN_MAX || chance(4))
		return LLVMFuzzerMutate(data, len, cap);
	parse(data, len);
	for (unsigned n = 1 + roll(4); n; n--)
		step(side);
	size_t n = write_all(out, cap < LEN_MAX ? cap : LEN_MAX);
	memcpy(data, out, n);
	return n;
}

size_t script_cross(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t *out,
                    size_t cap, unsigned seed)
{
	struct script_item of_b[ITEMS_MAX];
	size_t len = 0;

	dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	parse(b, b_len);
	unsigned n_b = n_items, i = 0, k = 0;
	memcpy(of_b, items, n_b * sizeof *of_b);
	parse(a, a_len);
	while (i < n_items || k < n_b) {
		const struct script_item *it = k == n_b || (i < n_items && chance(60)) ?
		                                               &items[i++] :
		                                               &of_b[k++];
		if (!chance(10))
			len += write_item(it, out + len, cap - len);
	}
	return len;
}
