#include "common/transport/transport.h"

#include <assert.h>
#include <string.h>

extern const struct transport_ops transport_grpc, transport_derp;

const struct transport_ops *const transports[] = { &transport_grpc, &transport_derp, NULL };

const char *const peer_state_names[] = {
	[PEER_UNSPECIFIED] = "unspecified", [PEER_UP] = "up",
	[PEER_ABSENT] = "absent",           [PEER_NOT_MUTUAL] = "not mutual",
	[PEER_OVER_LIMIT] = "over limit",   [PEER_GONE] = "gone",
};
static_assert(sizeof peer_state_names / sizeof *peer_state_names == PEER_STATE_N, "a name each");

const struct transport_ops *transport_named(struct str name)
{
	for (const struct transport_ops *const *t = transports; *t; t++)
		if (str_eq(str_of((*t)->name), name))
			return *t;
	return NULL;
}

const struct transport_ops *transport_of_alpn(const char *alpn)
{
	if (!*alpn)
		alpn = "http/1.1"; /* as everybody did before there was ALPN; DERP clients do */
	for (const struct transport_ops *const *t = transports; *t; t++)
		if (strcmp((*t)->alpn, alpn) == 0)
			return *t;
	return NULL;
}
