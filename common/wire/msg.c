#include "common/wire/msg.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/wire/grpc.h"
#include "health.pb-c.h"
#include "reflection.pb-c.h"
#include "tunn.pb-c.h"

/* ---- arena ---- */

struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	uint8_t data[] __attribute__((aligned(16)));
};

void arena_clear(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *b = a->blocks;
		a->blocks = b->next;
		crypto_wipe(b->data, b->used); /* there may have been a token */
		free(b);
	}
	a->used = 0;
	a->starved = false;
}

static void *arena_alloc(void *arg, size_t n)
{
	struct arena *a = arg;
	struct arena_block *b = a->blocks;

	n = (n + 15) & ~(size_t)15;
	if (n > ARENA_MAX - a->used)
		return NULL;
	if (!b || b->cap - b->used < n) {
		size_t cap = n > 2048 ? n : 2048;
		b = malloc(sizeof *b + cap);
		if (!b) {
			a->starved = true;
			return NULL;
		}
		b->next = a->blocks;
		b->used = 0;
		b->cap = cap;
		a->blocks = b;
	}
	void *p = b->data + b->used;
	b->used += n;
	a->used += n;
	return p;
}

static void arena_free(void *arg, void *p) { (void)arg, (void)p; }

static ProtobufCAllocator allocator(struct arena *a)
{
	return (ProtobufCAllocator){ arena_alloc, arena_free, a };
}

/* Why did unpack fail: memory, the arena's limit, or the bytes? */
static int unpack_error(const struct arena *a, size_t len)
{
	if (a->starved)
		return -ENOMEM;
	return a->used + 4096 + 2 * len > ARENA_MAX ? ERR_TOO_BIG : ERR_PROTOCOL;
}

/* ---- decoding ---- */

static struct str str(ProtobufCBinaryData b) { return (struct str){ (const char *)b.data, b.len }; }

static int decode_peers(struct arena *a, const Tunn__V1__RelayConfig *r, struct msg *m)
{
	size_t n = r->n_peer_ids + (r->peer_id.len > 0);

	if (n > PEERS_MAX)
		return ERR_TOO_BIG;
	m->peers = arena_alloc(a, (n ? n : 1) * sizeof *m->peers);
	if (!m->peers)
		return a->starved ? -ENOMEM : ERR_TOO_BIG;
	if (r->peer_id.len)
		m->peers[m->n_peers++] = str(r->peer_id);
	for (size_t i = 0; i < r->n_peer_ids; i++)
		m->peers[m->n_peers++] = str(r->peer_ids[i]);
	return 0;
}

/* protobuf-c cuts a longer varint; the copy it is made from has uint64, so that we see. */
static bool fits(uint64_t on_wire, uint32_t *n_out)
{
	*n_out = (uint32_t)on_wire;
	return on_wire <= UINT32_MAX;
}

static int decode_register(struct arena *a, const Tunn__V1__RegisterClient *r, struct msg *m)
{
	m->kind = MSG_REGISTER;
	m->tunnel_id = str(r->tunnel_id);
	m->token = str(r->auth_token);
	m->instance = str(r->instance);
	m->bidirectional = true;
	if (!fits(r->version, &m->version))
		return ERR_INVALID;
	if (!r->relay)
		return 0;
	m->has_relay = true;
	if (r->relay->has_bidirectional_case)
		m->bidirectional = r->relay->bidirectional;
	m->role = (int)r->relay->role;
	if (m->role < TUNN__V1__ROLE__UNKNOWN || m->role > TUNN__V1__ROLE__FORWARD)
		return ERR_INVALID;
	return decode_peers(a, r->relay, m);
}

static int decode_registered(const Tunn__V1__RegisterResponse *r, struct msg *m)
{
	m->kind = MSG_REGISTERED;
	m->error = str(r->error_message);
	m->account = str(r->account);
	m->node = str(r->node);
	m->tunnel_id = str(r->tunnel_id);
	if (!fits(r->version, &m->version) || !fits(r->max_payload, &m->max_payload))
		return ERR_INVALID;
	return 0;
}

static int decode_peer_status(const Tunn__V1__PeerStatus *p, struct msg *m)
{
	m->kind = MSG_PEER_STATUS;
	m->peer_id = str(p->peer_id);
	m->text = str(p->text);
	m->state = (int)p->state;
	m->role = (int)p->role;
	return 0; /* values a later relay may add are the reader's to ignore */
}

static int decode_notice(const Tunn__V1__Notice *n, struct msg *m)
{
	m->kind = MSG_NOTICE;
	switch (n->notice_case) {
	case TUNN__V1__NOTICE__NOTICE_DRAINING:
		m->notice = MSG_NOTICE_DRAINING;
		m->text = str(n->draining->target);
		return fits(n->draining->within_ms, &m->within_ms) ? 0 : ERR_INVALID;
	case TUNN__V1__NOTICE__NOTICE_QUOTA:
		m->notice = MSG_NOTICE_QUOTA;
		m->resets_unix_s = n->quota->resets_unix_s;
		return fits(n->quota->percent, &m->percent) ? 0 : ERR_INVALID;
	case TUNN__V1__NOTICE__NOTICE_SUPERSEDED:
		m->notice = MSG_NOTICE_SUPERSEDED;
		m->text = str(n->superseded->text);
		break;
	default: break;
	}
	return 0;
}

static int decode_case(struct arena *a, const Tunn__V1__TunnelMessage *t, struct msg *m)
{
	switch (t->message_case) {
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_REGISTER_CLIENT:
		return decode_register(a, t->register_client, m);
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_REGISTER_RESPONSE:
		return decode_registered(t->register_response, m);
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_HEALTH_CHECK:
		m->kind = MSG_HEALTH_CHECK;
		m->timestamp = t->health_check->timestamp;
		return 0;
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_HEALTH_CHECK_RESPONSE:
		m->kind = MSG_HEALTH_ANSWER;
		m->timestamp = t->health_check_response->timestamp;
		m->response_timestamp = t->health_check_response->response_timestamp;
		return 0;
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_STREAM_CLOSED:
		m->kind = MSG_STREAM_CLOSED;
		m->text = str(t->stream_closed->reason);
		m->status = t->stream_closed->status;
		return 0;
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_UDP_PACKET:
		m->kind = MSG_UDP;
		m->tunnel_id = str(t->udp_packet->tunnel_id);
		m->peer_id = str(t->udp_packet->peer_id);
		m->data = str(t->udp_packet->data);
		return fits(t->udp_packet->flow, &m->flow) ? 0 : ERR_INVALID;
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_PEER_STATUS:
		return decode_peer_status(t->peer_status, m);
	case TUNN__V1__TUNNEL_MESSAGE__MESSAGE_NOTICE: return decode_notice(t->notice, m);
	default: return 0;
	}
}

int msg_decode(struct arena *a, const uint8_t *data, size_t len, struct msg *msg_out)
{
	ProtobufCAllocator al = allocator(a);
	struct msg m = { .kind = MSG_NONE };

	if (len > GRPC_MESSAGE_MAX)
		return ERR_TOO_BIG;
	Tunn__V1__TunnelMessage *t = tunn__v1__tunnel_message__unpack(&al, len, data);
	if (!t)
		return unpack_error(a, len);
	int rc = decode_case(a, t, &m);
	if (rc == 0)
		*msg_out = m;
	return rc;
}

/* ---- encoding: the structs are filled on the stack, nothing is allocated ---- */

static ProtobufCBinaryData bin(struct str s)
{
	return (ProtobufCBinaryData){ s.len, (uint8_t *)(uintptr_t)s.p };
}

static int put(const ProtobufCMessage *m, struct buf *out)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *p = buf_room(out, GRPC_PREFIX_LEN + n);

	if (!p)
		return -ENOMEM;
	grpc_put_prefix(p, (uint32_t)n);
	protobuf_c_message_pack(m, p + GRPC_PREFIX_LEN);
	buf_added(out, GRPC_PREFIX_LEN + n);
	return 0;
}

static int encode_register(const struct msg *m, struct buf *out)
{
	Tunn__V1__TunnelMessage t = TUNN__V1__TUNNEL_MESSAGE__INIT;
	Tunn__V1__RegisterClient r = TUNN__V1__REGISTER_CLIENT__INIT;
	Tunn__V1__RelayConfig c = TUNN__V1__RELAY_CONFIG__INIT;
	ProtobufCBinaryData peers[PEERS_MAX];

	t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_REGISTER_CLIENT;
	t.register_client = &r;
	r.tunnel_id = bin(m->tunnel_id);
	r.auth_token = bin(m->token);
	r.instance = bin(m->instance);
	r.version = m->version;
	r.relay = &c;
	for (unsigned i = 0; i < m->n_peers && i < PEERS_MAX; i++)
		peers[i] = bin(m->peers[i]);
	c.n_peer_ids = m->n_peers < PEERS_MAX ? m->n_peers : PEERS_MAX;
	c.peer_ids = peers;
	c.role = (Tunn__V1__Role)m->role;
	if (!m->bidirectional) {
		c.has_bidirectional_case = TUNN__V1__RELAY_CONFIG__HAS_BIDIRECTIONAL_BIDIRECTIONAL;
		c.bidirectional = 0;
	}
	return put(&t.base, out);
}

static int encode_registered(const struct msg *m, struct buf *out)
{
	Tunn__V1__TunnelMessage t = TUNN__V1__TUNNEL_MESSAGE__INIT;
	Tunn__V1__RegisterResponse r = TUNN__V1__REGISTER_RESPONSE__INIT;

	t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_REGISTER_RESPONSE;
	t.register_response = &r;
	r.success = 1;
	r.account = bin(m->account);
	r.node = bin(m->node);
	r.tunnel_id = bin(m->tunnel_id);
	r.version = m->version;
	r.max_payload = m->max_payload;
	return put(&t.base, out);
}

static int encode_health(const struct msg *m, struct buf *out)
{
	Tunn__V1__TunnelMessage t = TUNN__V1__TUNNEL_MESSAGE__INIT;
	Tunn__V1__HealthCheck check = TUNN__V1__HEALTH_CHECK__INIT;
	Tunn__V1__HealthCheckResponse answer = TUNN__V1__HEALTH_CHECK_RESPONSE__INIT;

	if (m->kind == MSG_HEALTH_CHECK) {
		t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_HEALTH_CHECK;
		t.health_check = &check;
		check.timestamp = m->timestamp;
	} else {
		t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_HEALTH_CHECK_RESPONSE;
		t.health_check_response = &answer;
		answer.timestamp = m->timestamp;
		answer.response_timestamp = m->response_timestamp;
	}
	return put(&t.base, out);
}

static int encode_told(const struct msg *m, struct buf *out)
{
	Tunn__V1__TunnelMessage t = TUNN__V1__TUNNEL_MESSAGE__INIT;
	Tunn__V1__StreamClosed closed = TUNN__V1__STREAM_CLOSED__INIT;
	Tunn__V1__PeerStatus peer = TUNN__V1__PEER_STATUS__INIT;

	if (m->kind == MSG_STREAM_CLOSED) {
		t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_STREAM_CLOSED;
		t.stream_closed = &closed;
		closed.reason = bin(m->text);
		closed.status = m->status;
	} else {
		t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_PEER_STATUS;
		t.peer_status = &peer;
		peer.peer_id = bin(m->peer_id);
		peer.state = (Tunn__V1__PeerStatus__State)m->state;
		peer.text = bin(m->text);
		peer.role = (Tunn__V1__Role)m->role;
	}
	return put(&t.base, out);
}

static int encode_notice(const struct msg *m, struct buf *out)
{
	Tunn__V1__TunnelMessage t = TUNN__V1__TUNNEL_MESSAGE__INIT;
	Tunn__V1__Notice n = TUNN__V1__NOTICE__INIT;
	Tunn__V1__Draining draining = TUNN__V1__DRAINING__INIT;
	Tunn__V1__Quota quota = TUNN__V1__QUOTA__INIT;
	Tunn__V1__Superseded superseded = TUNN__V1__SUPERSEDED__INIT;

	t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_NOTICE;
	t.notice = &n;
	if (m->notice == MSG_NOTICE_DRAINING) {
		n.notice_case = TUNN__V1__NOTICE__NOTICE_DRAINING;
		n.draining = &draining;
		draining.within_ms = m->within_ms;
		draining.target = bin(m->text);
	} else if (m->notice == MSG_NOTICE_QUOTA) {
		n.notice_case = TUNN__V1__NOTICE__NOTICE_QUOTA;
		n.quota = &quota;
		quota.percent = m->percent;
		quota.resets_unix_s = m->resets_unix_s;
	} else {
		n.notice_case = TUNN__V1__NOTICE__NOTICE_SUPERSEDED;
		n.superseded = &superseded;
		superseded.text = bin(m->text);
	}
	return put(&t.base, out);
}

static int encode_udp(const struct msg *m, struct buf *out)
{
	Tunn__V1__TunnelMessage t = TUNN__V1__TUNNEL_MESSAGE__INIT;
	Tunn__V1__UdpPacket u = TUNN__V1__UDP_PACKET__INIT;

	t.message_case = TUNN__V1__TUNNEL_MESSAGE__MESSAGE_UDP_PACKET;
	t.udp_packet = &u;
	u.tunnel_id = bin(m->tunnel_id);
	u.peer_id = bin(m->peer_id);
	u.data = bin(m->data);
	u.flow = m->flow;
	return put(&t.base, out);
}

int msg_encode(const struct msg *m, struct buf *out)
{
	switch (m->kind) {
	case MSG_REGISTER: return encode_register(m, out);
	case MSG_REGISTERED: return encode_registered(m, out);
	case MSG_HEALTH_CHECK:
	case MSG_HEALTH_ANSWER: return encode_health(m, out);
	case MSG_STREAM_CLOSED:
	case MSG_PEER_STATUS: return encode_told(m, out);
	case MSG_NOTICE: return encode_notice(m, out);
	case MSG_UDP: return encode_udp(m, out);
	case MSG_NONE: break;
	}
	return ERR_INVALID;
}

/* ---- grpc.health.v1 ---- */

int health_request_decode(struct arena *a, const uint8_t *data, size_t len, struct str *service_out)
{
	ProtobufCAllocator al = allocator(a);
	Grpc__Health__V1__HealthCheckRequest *r = grpc__health__v1__health_check_request__unpack(
	                &al, len, data);

	if (!r)
		return unpack_error(a, len);
	*service_out = str(r->service);
	return 0;
}

int health_answer_encode(enum health_state state, struct buf *out)
{
	Grpc__Health__V1__HealthCheckResponse r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	r.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)state;
	return put(&r.base, out);
}

/* ---- grpc.reflection.v1 ---- */

typedef Grpc__Reflection__V1__ServerReflectionRequest Asked;
#define ASKED(which) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##which
#define TOLD(which)  GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##which

int reflection_request_decode(struct arena *a, const uint8_t *data, size_t len,
                              struct reflection_request *request_out)
{
	ProtobufCAllocator al = allocator(a);
	Asked *q = grpc__reflection__v1__server_reflection_request__unpack(&al, len, data);
	struct reflection_request r = { .ask = ASK_NOTHING };

	if (!q)
		return unpack_error(a, len);
	r.host = str(q->host);
	switch (q->message_request_case) {
	case ASKED(FILE_BY_FILENAME):
		r.ask = ASK_FILE;
		r.name = str(q->file_by_filename);
		break;
	case ASKED(FILE_CONTAINING_SYMBOL):
		r.ask = ASK_SYMBOL;
		r.name = str(q->file_containing_symbol);
		break;
	case ASKED(FILE_CONTAINING_EXTENSION):
		r.ask = ASK_EXTENSION;
		r.name = str(q->file_containing_extension->containing_type);
		r.number = q->file_containing_extension->extension_number;
		break;
	case ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE):
		r.ask = ASK_EXTENSION_NUMBERS;
		r.name = str(q->all_extension_numbers_of_type);
		break;
	case ASKED(LIST_SERVICES):
		r.ask = ASK_SERVICES;
		r.name = str(q->list_services);
		break;
	default: break;
	}
	*request_out = r;
	return 0;
}

/* The question, said again in the answer. */
static void fill_asked(const struct reflection_request *r, Asked *q,
                       Grpc__Reflection__V1__ExtensionRequest *extension)
{
	ProtobufCBinaryData name = bin(r->name);

	q->host = bin(r->host);
	switch (r->ask) {
	case ASK_FILE:
		q->message_request_case = ASKED(FILE_BY_FILENAME);
		q->file_by_filename = name;
		break;
	case ASK_SYMBOL:
		q->message_request_case = ASKED(FILE_CONTAINING_SYMBOL);
		q->file_containing_symbol = name;
		break;
	case ASK_EXTENSION:
		q->message_request_case = ASKED(FILE_CONTAINING_EXTENSION);
		q->file_containing_extension = extension;
		extension->containing_type = name;
		extension->extension_number = r->number;
		break;
	case ASK_EXTENSION_NUMBERS:
		q->message_request_case = ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE);
		q->all_extension_numbers_of_type = name;
		break;
	case ASK_SERVICES:
		q->message_request_case = ASKED(LIST_SERVICES);
		q->list_services = name;
		break;
	case ASK_NOTHING: break;
	}
}

int reflection_answer_encode(const struct reflection_answer *a, struct buf *out)
{
	Asked q;
	Grpc__Reflection__V1__ExtensionRequest extension =
	                GRPC__REFLECTION__V1__EXTENSION_REQUEST__INIT;
	Grpc__Reflection__V1__ServerReflectionResponse r =
	                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
	Grpc__Reflection__V1__FileDescriptorResponse files =
	                GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
	Grpc__Reflection__V1__ListServiceResponse list =
	                GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
	Grpc__Reflection__V1__ExtensionNumberResponse numbers =
	                GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;
	Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
	ProtobufCBinaryData items[REFLECTION_ITEMS_MAX];
	Grpc__Reflection__V1__ServiceResponse names[REFLECTION_ITEMS_MAX],
	                *name_of[REFLECTION_ITEMS_MAX];

	grpc__reflection__v1__server_reflection_request__init(&q);
	fill_asked(a->request, &q, &extension);
	r.valid_host = q.host;
	r.original_request = &q;
	for (unsigned i = 0; i < a->n_items; i++) {
		items[i] = bin(a->items[i]);
		grpc__reflection__v1__service_response__init(&names[i]);
		names[i].name = items[i];
		name_of[i] = &names[i];
	}
	switch (a->kind) {
	case REFLECTION_FILES:
		r.message_response_case = TOLD(FILE_DESCRIPTOR_RESPONSE);
		r.file_descriptor_response = &files;
		files.n_file_descriptor_proto = a->n_items;
		files.file_descriptor_proto = items;
		break;
	case REFLECTION_SERVICES:
		r.message_response_case = TOLD(LIST_SERVICES_RESPONSE);
		r.list_services_response = &list;
		list.n_service = a->n_items;
		list.service = name_of;
		break;
	case REFLECTION_NUMBERS:
		r.message_response_case = TOLD(ALL_EXTENSION_NUMBERS_RESPONSE);
		r.all_extension_numbers_response = &numbers;
		numbers.base_type_name = bin(a->request->name);
		break;
	case REFLECTION_ERROR:
		r.message_response_case = TOLD(ERROR_RESPONSE);
		r.error_response = &error;
		error.error_code = a->status;
		error.error_message = bin(a->text);
		break;
	}
	return put(&r.base, out);
}

const char *msg_library_version(void) { return protobuf_c_version(); }
