#include "server/map_node.h"

#include <errno.h>
#include <stdio.h>

#include "common/base/json.h"
#include "common/net/tls.h"
#include "server/stun.h"

enum { FIRST_REGION = 900, DERP_PORT = 443 }; /* 900 to 999 are the users' own */

static int put_pin(struct json *o, const uint8_t *raw_pin)
{
	char text[sizeof "sha256-raw:" + 2 * TLS_PIN_LEN];
	int n = snprintf(text, sizeof text, "sha256-raw:");

	hex_encode(raw_pin, TLS_PIN_LEN, text + n);
	return json_put(o, "CertName", json_new_text(str_of(text)));
}

static int fill(struct json *o, const struct map_node *node)
{
	int rc = json_put(o, "Name", json_new_text(STR("900a")));

	if (rc == 0)
		rc = json_put(o, "RegionID", json_new_int(FIRST_REGION));
	if (rc == 0)
		rc = json_put(o, "HostName", json_new_text(str_of(node->host)));
	if (rc == 0 && node->port != DERP_PORT)
		rc = json_put(o, "DERPPort", json_new_int(node->port));
	if (rc == 0 && node->stun_port != 0 && node->stun_port != STUN_PORT)
		rc = json_put(o, "STUNPort",
		              json_new_int(node->stun_port < 0 ? -1 : node->stun_port));
	return rc == 0 && node->raw_pin ? put_pin(o, node->raw_pin) : rc;
}

int map_node_print(const struct map_node *node, char text_out[static MAP_NODE_LEN])
{
	struct json *o = json_new_object();
	int rc = o ? fill(o, node) : -ENOMEM;

	if (rc == 0)
		rc = json_print(o, JSON_ONE_LINE, text_out, MAP_NODE_LEN);
	json_free(o);
	return rc < 0 ? rc : 0;
}
