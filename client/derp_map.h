/*
 * A DERP map: the regions of a network of DERP servers and their nodes, from the
 * JSON that control servers give out (Tailscale's DERPMap). Decoded as Go does:
 * names of members in any case, unknown ones ignored, null stands for absent. What
 * we could not keep to is refused in words instead of being passed over. Constant
 * once parsed; any thread.
 */
#ifndef TUNN_CLIENT_DERP_MAP_H
#define TUNN_CLIENT_DERP_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"
#include "common/net/dial.h"
#include "common/net/tls.h"

enum {
	DERP_MAP_BYTES = 1 << 20, /* the JSON; Tailscale's own has 20 kB */
	DERP_MAP_REGIONS = 512,
	DERP_MAP_NODES = 32, /* of one region */
	DERP_MAP_TEXT = 64,  /* names of regions and nodes; longer is cut */
	DERP_MAP_ERROR_LEN = 512,
	DERP_PORT = 443,
	DERP_STUN_PORT = 3478,
};

struct derp_node {
	char name[DERP_MAP_TEXT];
	char host[256];        /* to dial, SNI, Host, and the name in its certificate */
	char verify_name[256]; /* instead of host in the certificate; "" none */
	bool has_raw_pin;      /* CertName sha256-raw: */
	uint8_t raw_pin[TLS_PIN_LEN];
	struct dial_family ipv4, ipv6;
	uint16_t port;       /* DERP */
	uint16_t stun_port;  /* 0: no STUN */
	struct addr stun_at; /* STUNTestIP; len 0: none */
	bool stun_only;      /* no DERP here */
};

struct derp_region {
	int64_t id; /* 1 to 2^53-1 */
	char code[DERP_MAP_TEXT], name[DERP_MAP_TEXT];
	bool avoid;              /* the last to be chosen by itself */
	bool no_home;            /* NoMeasureNoHome: only when it is named */
	double score;            /* HomeParams: latencies count times this; 1 as a rule */
	struct derp_node *nodes; /* in order of preference */
	size_t n_nodes;
};

struct derp_map {
	struct derp_region *regions; /* in order of their ids */
	size_t n_regions;
};

/* 0, or ERR_INVALID (the map), -ENOMEM: error_out says what is wrong where and the way
 * out. The map then is empty. */
int derp_map_parse(struct str json, struct derp_map *map_out,
                   char error_out[static DERP_MAP_ERROR_LEN]);
int derp_map_read(const char *file, struct derp_map *map_out,
                  char error_out[static DERP_MAP_ERROR_LEN]); /* the same; blocks */
void derp_map_done(struct derp_map *);

/* Who the node has to prove to be: its pinned certificate alone, else a chain to ca_file
 * (NULL: the system's store) and its name. No ALPN, as DERP's clients. 0 or as
 * tls_client_ctx_new(), which blocks on files. */
int derp_node_tls(const struct derp_node *, const char *ca_file, struct tls_ctx **ctx_out,
                  char error_out[static TLS_ERROR_LEN]);
bool derp_node_is_usual(const struct derp_node *); /* contexts of such may be shared */

/* By id or code, in any case; NULL: none. */
const struct derp_region *derp_map_find(const struct derp_map *, const char *id_or_code);

#endif
