/* grpc.health.v1.Health (gRPC health checking protocol, version 1). */
#include "common/transport/grpc_impl.h"

#include <string.h>

struct own { /* of a call */
	struct str service;
	char name[128];
};

static struct own *own_of(struct call *c) { return (struct own *)c->own; }

static enum health_state health_of(const struct transport *t, struct str service)
{
	if (service.len && !service_named(t, service))
		return HEALTH_SERVICE_UNKNOWN;
	return t->serving ? HEALTH_SERVING : HEALTH_NOT_SERVING;
}

/* False: the call is over. */
static bool tell_health(struct call *c)
{
	struct transport *t = c->chan.transport;

	serve_respond(c);
	int rc = health_answer_encode(health_of(t, own_of(c)->service), h2_outgoing(c->stream));
	if (rc == 0)
		h2_resume(t->h2, c->stream);
	else
		serve_broken(c, rc);
	return rc == 0;
}

static void on_message(struct call *c, const uint8_t *msg, size_t len)
{
	struct transport *t = c->chan.transport;
	struct own *own = own_of(c);
	struct str service;
	int rc = health_request_decode(&t->arena, msg, len, &service);

	if (rc < 0) {
		serve_broken(c, rc);
	} else if (service.len > sizeof own->name) {
		serve_finish(c, GRPC_NOT_FOUND, "unknown service");
	} else {
		if (service.len)
			memcpy(own->name, service.p, service.len);
		own->service = (struct str){ own->name, service.len };
	}
	arena_clear(&t->arena);
}

static void on_end_check(struct call *c)
{
	if (health_of(c->chan.transport, own_of(c)->service) == HEALTH_SERVICE_UNKNOWN) {
		serve_finish(c, GRPC_NOT_FOUND, "unknown service");
	} else if (tell_health(c)) {
		serve_finish(c, GRPC_OK, "");
	}
}

/* An unknown service stays open and may appear. */
static void on_end_watch(struct call *c) { tell_health(c); }

enum { CHECK, WATCH };

static const struct method methods[] = {
	[CHECK] = { "/grpc.health.v1.Health/Check", UNARY, .own_len = sizeof(struct own),
	            .on_message = on_message, .on_end = on_end_check },
	[WATCH] = { "/grpc.health.v1.Health/Watch", SERVER_STREAMING, .own_len = sizeof(struct own),
	            .on_message = on_message, .on_end = on_end_watch },
};

const struct service health_service = { .name = "grpc.health.v1.Health",
	                                .methods = methods,
	                                .n_methods = 2 };

int health_tell_serving(struct transport *t, bool serving)
{
	if (t->serving == serving)
		return 0;
	t->serving = serving;
	list_each(it, tmp, &t->calls) {
		struct call *c = container_of(it, struct call, node);
		if (c->method == &methods[WATCH] && c->responded)
			tell_health(c);
	}
	return 0;
}
