/* The hot codec against protobuf-c: whatever both accept means the same, and
 * what one encodes the other reads back. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "common/wire/datagram.h"
#include "common/wire/grpc.h"
#include "common/wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int same(struct str a, struct str b)
{
	return a.len == b.len && (!a.len || !memcmp(a.p, b.p, a.len));
}

static void round_trip(const struct datagram *d)
{
	size_t n = datagram_size(d);
	uint8_t *out = malloc(n);
	struct datagram back;

	datagram_encode(d, out);
	assert(datagram_decode(out + GRPC_PREFIX_LEN, n - GRPC_PREFIX_LEN, &back) == 0);
	assert(same(back.tunnel_id, d->tunnel_id) && same(back.peer_id, d->peer_id));
	assert(same(back.data, d->data) && back.flow == d->flow);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct arena arena = { 0 };
	struct datagram d;
	struct msg m;

	if (len > GRPC_MESSAGE_MAX)
		return 0;
	int fast = datagram_decode(data, len, &d);
	int slow = msg_decode(&arena, data, len, &m);
	if (fast == 0)
		round_trip(&d);
	if (fast == 0 && slow == 0) {
		assert(m.kind == MSG_UDP);
		assert(same(m.tunnel_id, d.tunnel_id) && same(m.peer_id, d.peer_id));
		assert(same(m.data, d.data) && m.flow == d.flow);
	}
	/* What ours takes, protobuf-c takes; not the other way round: protobuf-c lets
	 * an overlong field number 0 pass, which every other parser refuses. */
	if (fast == 0)
		assert(slow == 0 || slow == ERR_TOO_BIG);
	arena_clear(&arena);
	return 0;
}
