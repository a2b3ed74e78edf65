/* A DERP map of strangers: what is taken keeps within its bounds and every region is
 * found again. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "client/derp_map.h"
#include "common/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_node(const struct derp_node *n)
{
	assert(n->host[0] && strlen(n->host) < sizeof n->host && n->port);
	assert(!(n->has_raw_pin && n->verify_name[0]));
	assert(!(n->ipv4.off && n->ipv4.at.len) && !(n->ipv6.off && n->ipv6.at.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static bool started;
	struct derp_map map;
	char error[DERP_MAP_ERROR_LEN] = "", id[32];

	if (!started)
		json_start();
	started = true;
	if (derp_map_parse((struct str){ (const char *)data, len }, &map, error) < 0) {
		assert(error[0] && map.n_regions == 0 && !map.regions);
		return 0;
	}
	assert(map.n_regions && map.n_regions <= DERP_MAP_REGIONS);
	for (size_t i = 0; i < map.n_regions; i++) {
		assert(map.regions[i].n_nodes <= DERP_MAP_NODES && map.regions[i].score > 0);
		assert(i == 0 || map.regions[i - 1].id < map.regions[i].id);
		snprintf(id, sizeof id, "%lld", (long long)map.regions[i].id);
		assert(derp_map_find(&map, id) == &map.regions[i]);
		for (size_t k = 0; k < map.regions[i].n_nodes; k++)
			check_node(&map.regions[i].nodes[k]);
	}
	derp_map_done(&map);
	return 0;
}
