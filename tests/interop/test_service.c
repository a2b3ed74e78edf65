/*
 * grpc.testing.TestService, the service that gRPC's interop clients know, behind
 * `tunn server`: the Makefile links this with all of tunn, and the list of
 * services here takes the place of the shipped one. Messages and names are those
 * of Debian's grpc-proto package.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/transport/grpc_impl.h"
#include "grpc/testing/messages.pb-c.h"

enum { ECHO_MAX = 256, MESSAGE_MAX = 1 << 20 };
#define ECHO_INITIAL  "x-grpc-test-echo-initial"
#define ECHO_TRAILING "x-grpc-test-echo-trailing-bin"

struct own { /* of a call */
	char initial[ECHO_MAX], trailing[ECHO_MAX], text[ECHO_MAX];
	int status;
	size_t size; /* asked for, or received */
};

static struct own *own_of(struct call *c) { return (struct own *)c->own; }

/* ---- metadata that is to be echoed ---- */

static void on_start(struct call *c, const struct h2_head *head)
{
	struct str initial = h2_head_get(head, ECHO_INITIAL, NULL);
	struct str trailing = h2_head_get(head, ECHO_TRAILING, NULL);
	struct own *own = own_of(c);
	uint8_t bytes[ECHO_MAX / 2];
	int n = crypto_base64_decode(trailing, bytes, sizeof bytes);

	if (initial.len && initial.len < sizeof own->initial)
		memcpy(own->initial, initial.p, initial.len);
	if (trailing.len && n >= 0) {
		crypto_base64(bytes, (size_t)n, own->trailing, sizeof own->trailing);
		own->trailing[strcspn(own->trailing, "=")] = 0; /* said without padding */
	}
}

static void respond(struct call *c)
{
	struct own *own = own_of(c);
	struct metadata m = { { { STR(ECHO_INITIAL), str_of(own->initial) } },
		              own->initial[0] != 0 };

	serve_respond_with(c, &m);
}

static void finish(struct call *c)
{
	struct own *own = own_of(c);
	struct metadata m = { { { STR(ECHO_TRAILING), str_of(own->trailing) } },
		              own->trailing[0] != 0 };

	respond(c);
	serve_finish_with(c, own->status, own->text, &m);
}

/* ---- messages ---- */

static void say(struct call *c, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *to = buf_room(h2_outgoing(c->stream), GRPC_PREFIX_LEN + n);

	if (!to)
		return;
	respond(c);
	grpc_put_prefix(to, (uint32_t)n);
	protobuf_c_message_pack(m, to + GRPC_PREFIX_LEN);
	buf_added(h2_outgoing(c->stream), GRPC_PREFIX_LEN + n);
	h2_resume(c->chan.transport->h2, c->stream);
}

/* Both kinds of response are a payload in field 1. */
static void say_payload(struct call *c, size_t size)
{
	Grpc__Testing__StreamingOutputCallResponse r =
	                GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	static uint8_t zeros[MESSAGE_MAX];

	payload.body = (ProtobufCBinaryData){ size < sizeof zeros ? size : sizeof zeros, zeros };
	r.payload = &payload;
	say(c, &r.base);
}

static void keep_status(struct call *c, const Grpc__Testing__EchoStatus *s)
{
	struct own *own = own_of(c);

	if (!s)
		return;
	own->status = s->code;
	strncpy(own->text, s->message, sizeof own->text - 1);
}

/* ---- methods ---- */

static void empty_on_message(struct call *c, const uint8_t *msg, size_t len)
{
	(void)c, (void)msg, (void)len;
}

static void empty_on_end(struct call *c)
{
	static const uint8_t nothing[GRPC_PREFIX_LEN];

	respond(c);
	buf_add(h2_outgoing(c->stream), nothing, sizeof nothing);
	finish(c);
}

static void unary_on_message(struct call *c, const uint8_t *msg, size_t len)
{
	Grpc__Testing__SimpleRequest *q = grpc__testing__simple_request__unpack(NULL, len, msg);

	if (!q) {
		serve_broken(c, ERR_PROTOCOL);
		return;
	}
	if (q->expect_compressed && q->expect_compressed->value)
		serve_finish(c, GRPC_INVALID_ARGUMENT, "expected a compressed message");
	keep_status(c, q->response_status);
	own_of(c)->size = q->response_size > 0 ? (size_t)q->response_size : 0;
	grpc__testing__simple_request__free_unpacked(q, NULL);
}

static void unary_on_end(struct call *c)
{
	if (own_of(c)->status == GRPC_OK)
		say_payload(c, own_of(c)->size);
	finish(c);
}

static void input_on_message(struct call *c, const uint8_t *msg, size_t len)
{
	Grpc__Testing__StreamingInputCallRequest *q =
	                grpc__testing__streaming_input_call_request__unpack(NULL, len, msg);

	if (!q) {
		serve_broken(c, ERR_PROTOCOL);
		return;
	}
	if (q->expect_compressed && q->expect_compressed->value)
		serve_finish(c, GRPC_INVALID_ARGUMENT, "expected a compressed message");
	own_of(c)->size += q->payload ? q->payload->body.len : 0;
	grpc__testing__streaming_input_call_request__free_unpacked(q, NULL);
}

static void input_on_end(struct call *c)
{
	Grpc__Testing__StreamingInputCallResponse r =
	                GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;

	r.aggregated_payload_size = (int32_t)own_of(c)->size;
	say(c, &r.base);
	finish(c);
}

/* A response for each that is asked for, at once whatever interval_us says. */
static void output_on_message(struct call *c, const uint8_t *msg, size_t len)
{
	Grpc__Testing__StreamingOutputCallRequest *q =
	                grpc__testing__streaming_output_call_request__unpack(NULL, len, msg);

	if (!q) {
		serve_broken(c, ERR_PROTOCOL);
		return;
	}
	for (size_t i = 0; i < q->n_response_parameters; i++) {
		int32_t size = q->response_parameters[i]->size;
		say_payload(c, size > 0 ? (size_t)size : 0);
	}
	keep_status(c, q->response_status);
	if (own_of(c)->status != GRPC_OK)
		finish(c);
	grpc__testing__streaming_output_call_request__free_unpacked(q, NULL);
}

#define METHOD(name, kind, does)                                                                   \
	{                                                                                          \
		"/grpc.testing.TestService/" name, kind,                                           \
		                .message_max = MESSAGE_MAX, .own_len = sizeof(struct own),         \
		                .on_start = on_start, .on_message = does##_on_message,             \
		                .on_end = does##_on_end                                            \
	}
#define output_on_end finish

static const struct method methods[] = {
	METHOD("EmptyCall", UNARY, empty),
	METHOD("UnaryCall", UNARY, unary),
	METHOD("StreamingInputCall", CLIENT_STREAMING, input),
	METHOD("StreamingOutputCall", SERVER_STREAMING, output),
	METHOD("FullDuplexCall", BIDI_STREAMING, output),
};

static const struct service test_service = { .name = "grpc.testing.TestService",
	                                     .methods = methods,
	                                     .n_methods = sizeof methods / sizeof *methods };

extern const struct service tunnel_service, health_service;
const struct service *const services[] = { &tunnel_service, &health_service, &test_service, NULL };
