/*
 * This relay as a node of a DERP map: what is put into the policy file of Tailscale or
 * the map of headscale (docs/DERP.md). Pure. Any thread.
 */
#ifndef TUNN_SERVER_MAP_NODE_H
#define TUNN_SERVER_MAP_NODE_H

#include <stddef.h>
#include <stdint.h>

enum { MAP_NODE_LEN = 512 };

struct map_node {         /* borrowed for the call */
	const char *host; /* the name or address that the certificate is for */
	uint16_t port;
	int stun_port;          /* 0: the usual one; negative: no STUN */
	const uint8_t *raw_pin; /* TLS_PIN_LEN bytes; NULL: an authority has signed it */
};

/* One line of JSON. 0, ERR_TOO_BIG or -ENOMEM. */
int map_node_print(const struct map_node *, char text_out[static MAP_NODE_LEN]);

#endif
