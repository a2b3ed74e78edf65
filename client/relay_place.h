/*
 * Where the relay is that an option names, and the proxy on the way there. Failures are
 * printed as `tunn COMMAND: ...`. Main thread.
 */
#ifndef TUNN_CLIENT_RELAY_PLACE_H
#define TUNN_CLIENT_RELAY_PLACE_H

#include <stdint.h>

#include "common/net/proxy.h"

struct relay_place {
	char host[256]; /* without brackets */
	uint16_t port;
	char authority[256 + 10]; /* host[:port], as in a URL */
};

/* Both: 0 or ERR_CONFIG. */
int relay_place_of(const char *command, const char *relay, struct relay_place *place_out);
/* option: --proxy, or NULL for what the environment says. */
int relay_place_proxy(const char *command, const struct relay_place *, const char *option,
                      struct proxy_conf *proxy_out);

#endif
