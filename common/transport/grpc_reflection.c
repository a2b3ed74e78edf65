/* grpc.reflection.v1 and v1alpha: what is served, told to tools like grpcurl. Only
 * where the operator asked for it. Both versions have the same messages. */
#include "common/transport/grpc_impl.h"

#include <assert.h>

#include "common/wire/descriptor.h"

enum {
	NAME_LEN_MAX = 1024, /* of what is asked for, since it is echoed */
};

static_assert((int)REFLECTION_ITEMS_MAX >= (int)DESCRIPTOR_FILES_MAX, "an answer holds all files");

static bool is_offered(const struct transport *t) { return t->conf->reflection; }

static void give_file(struct reflection_answer *a, unsigned file, struct str *items)
{
	unsigned files[DESCRIPTOR_FILES_MAX];

	a->kind = REFLECTION_FILES;
	a->n_items = descriptor_closure(file, files);
	for (unsigned i = 0; i < a->n_items; i++) {
		const struct descriptor_file *f = &descriptor_files[files[i]];
		items[i] = (struct str){ (const char *)f->data, f->len };
	}
}

static void give_services(const struct transport *t, struct reflection_answer *a, struct str *items)
{
	a->kind = REFLECTION_SERVICES;
	for (unsigned i = 0; services[i] && a->n_items < REFLECTION_ITEMS_MAX; i++)
		if (service_is_offered(t, services[i]))
			items[a->n_items++] = str_of(services[i]->name);
}

static void answer(struct call *c, const struct reflection_request *r)
{
	struct transport *t = c->chan.transport;
	struct str items[REFLECTION_ITEMS_MAX];
	struct reflection_answer a = { .request = r,
		                       .kind = REFLECTION_ERROR,
		                       .items = items,
		                       .status = GRPC_NOT_FOUND,
		                       .text = STR("not found") };
	const struct descriptor_symbol *s = descriptor_symbol_named(r->name);
	int file = descriptor_file_named(r->name);

	switch (r->ask) {
	case ASK_SERVICES: give_services(t, &a, items); break;
	case ASK_FILE:
		if (file >= 0)
			give_file(&a, (unsigned)file, items);
		break;
	case ASK_SYMBOL:
		if (s)
			give_file(&a, s->file, items);
		break;
	case ASK_EXTENSION_NUMBERS:
		if (s && s->is_message)
			a.kind = REFLECTION_NUMBERS; /* none: proto3 has no extensions */
		break;
	case ASK_EXTENSION: break;
	case ASK_NOTHING:
		a.status = GRPC_INVALID_ARGUMENT;
		a.text = STR("message_request is missing");
		break;
	}
	int rc = reflection_answer_encode(&a, h2_outgoing(c->stream));
	if (rc == 0)
		h2_resume(t->h2, c->stream);
	else
		serve_broken(c, rc);
}

static bool may_ask(struct call *c)
{
	struct transport *t = c->chan.transport;

	if (!t->reflections.burst_milli)
		bucket_init(&t->reflections, t->conf->limits->reflections_burst,
		            t->conf->limits->reflections_per_s, t->now_ms);
	if (!bucket_take(&t->reflections, 1, t->now_ms)) {
		serve_finish(c, GRPC_RESOURCE_EXHAUSTED, "too many reflection requests");
		return false;
	}
	if (buf_len(h2_outgoing(c->stream)) > UNREAD_MAX) {
		h2_reset(t->h2, c->stream,
		         H2_ENHANCE_YOUR_CALM); /* a status would wait behind them */
		call_retire(c);
		return false;
	}
	return true;
}

static void on_message(struct call *c, const uint8_t *msg, size_t len)
{
	struct transport *t = c->chan.transport;
	struct reflection_request r;

	if (!may_ask(c))
		return;
	int rc = reflection_request_decode(&t->arena, msg, len, &r);
	if (rc < 0) {
		serve_broken(c, rc);
	} else if (r.name.len > NAME_LEN_MAX || r.host.len > NAME_LEN_MAX ||
	           !utf8_is_valid(r.name.p, r.name.len) || !utf8_is_valid(r.host.p, r.host.len)) {
		serve_finish(c, GRPC_INVALID_ARGUMENT,
		             "a name is longer than 1024 bytes or not UTF-8");
	} else {
		serve_respond(c);
		answer(c, &r);
	}
	arena_clear(&t->arena);
}

static void on_end(struct call *c) { serve_finish(c, GRPC_OK, ""); }

#define METHOD(version)                                                                            \
	{                                                                                          \
		"/grpc.reflection." version ".ServerReflection/ServerReflectionInfo",              \
		                BIDI_STREAMING, .on_message = on_message, .on_end = on_end         \
	}

static const struct method v1[] = { METHOD("v1") }, v1alpha[] = { METHOD("v1alpha") };

const struct service reflection_service = { "grpc.reflection.v1.ServerReflection", v1, 1,
	                                    is_offered };
const struct service reflection_alpha_service = { "grpc.reflection.v1alpha.ServerReflection",
	                                          v1alpha, 1, is_offered };
