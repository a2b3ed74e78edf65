#include "common/wire/derp_info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/json.h"

/* T33: nothing in here is deep, and 512 peers are the longest list. */
static const struct json_limits limits = { .len = 65536, .depth = 8, .parts = 2048 };

enum { TEXT_MAX = 65536, BEARABLE_ROLE = 2 };

struct derp_info_doc {
	struct json *json;
	void *items; /* peers or keys */
};

void derp_info_free(struct derp_info_doc *d)
{
	if (!d)
		return;
	json_free(d->json);
	free(d->items);
	free(d);
}

/* ---- reading ---- */

static int open_doc(struct str text, struct derp_info_doc **doc_out)
{
	struct derp_info_doc *d = calloc(1, sizeof *d);
	const struct json *object;
	int rc;

	if (!d)
		return -ENOMEM;
	rc = json_parse(text, &limits, &d->json, NULL);
	if (rc == 0 && json_as_object(d->json, &object) != JSON_READ)
		rc = ERR_PROTOCOL;
	if (rc < 0) {
		derp_info_free(d);
		return rc == -ENOMEM ? rc : ERR_PROTOCOL;
	}
	*doc_out = d;
	return 0;
}

/* Absent and null leave what is there, as in Go. False: another type. */
static bool get_bool(const struct json *o, const char *name, bool *v)
{
	return json_as_bool(json_get(o, name), v) != JSON_WRONG_TYPE;
}

static bool get_text(const struct json *o, const char *name, struct str *v)
{
	return json_as_text(json_get(o, name), v) != JSON_WRONG_TYPE;
}

static bool get_int(const struct json *o, const char *name, int64_t *v)
{
	return json_as_int(json_get(o, name), v) != JSON_WRONG_TYPE;
}

static bool get_u64(const struct json *o, const char *name, uint64_t *v)
{
	int64_t n = (int64_t)*v;
	bool ok = get_int(o, name, &n) && n >= 0;

	*v = (uint64_t)n;
	return ok;
}

/* derp.md 2.6: empty and null count as absent, since one client sends them. */
static bool get_mesh_key(const struct json *o, struct derp_client_info *info)
{
	struct str text = STR("");
	char lower[2 * KEY_LEN];

	if (!get_text(o, "meshKey", &text))
		return false;
	if (text.len == 0)
		return true;
	if (text.len != sizeof lower)
		return false;
	for (size_t i = 0; i < sizeof lower; i++)
		lower[i] = text.p[i] >= 'A' && text.p[i] <= 'F' ? (char)(text.p[i] | 32) :
		                                                  text.p[i];
	info->has_mesh_key = true;
	bool ok = hex_decode((struct str){ lower, sizeof lower }, info->mesh_key, KEY_LEN) == 0;
	crypto_wipe(lower, sizeof lower);
	return ok;
}

/* How many elements, or -1: no array, or too many. */
static int count(const struct json *array)
{
	const struct json *a;
	int n = 0;

	if (json_as_array(array, &a) != JSON_READ)
		return -1;
	for (struct json_walk w = json_walk(a); json_next(&w);)
		if (++n > PEERS_MAX)
			return -1;
	return n;
}

static int get_peers(const struct json *o, struct derp_info_doc *d, struct derp_client_info *info)
{
	const struct json *array = json_get(o, "tunnPeers");
	int n = array ? count(array) : 0;

	info->is_named = array != NULL;
	if (n < 0)
		return ERR_PROTOCOL;
	info->peers = d->items = calloc((size_t)n + 1, sizeof *info->peers);
	if (!info->peers)
		return -ENOMEM;
	for (struct json_walk w = json_walk(array); json_next(&w);)
		if (json_as_text(w.value, &info->peers[info->n_peers++]) != JSON_READ)
			return ERR_PROTOCOL;
	return 0;
}

static bool get_instance(const struct json *o, struct derp_client_info *info)
{
	struct str hex = STR("");

	if (!get_text(o, "tunnInstance", &hex))
		return false;
	info->has_instance = hex.len > 0;
	return hex.len == 0 || hex_decode(hex, info->instance, DERP_INSTANCE_LEN) == 0;
}

static int read_client(const struct json *o, struct derp_info_doc *d, struct derp_client_info *info)
{
	int64_t version; /* any will do */
	uint64_t role = 0;

	if (!get_int(o, "version", &version) || !get_bool(o, "CanAckPings", &info->can_ack_pings) ||
	    !get_bool(o, "IsProber", &info->is_prober) || !get_mesh_key(o, info) ||
	    !get_text(o, "tunnId", &info->id) || !get_text(o, "tunnToken", &info->token) ||
	    !get_bool(o, "tunnOneWay", &info->is_one_way) || !get_u64(o, "tunnRole", &role) ||
	    role > BEARABLE_ROLE || !get_instance(o, info))
		return ERR_PROTOCOL;
	info->role = (uint32_t)role;
	return get_peers(o, d, info);
}

int derp_client_info_read(struct str text, struct derp_client_info *info_out,
                          struct derp_info_doc **doc_out)
{
	struct derp_info_doc *d;
	int rc = open_doc(text, &d);

	if (rc < 0)
		return rc;
	*info_out = (struct derp_client_info){ .id = STR(""), .token = STR("") };
	rc = read_client(d->json, d, info_out);
	if (rc < 0)
		derp_info_free(d);
	else
		*doc_out = d;
	return rc;
}

static int get_keys(const struct json *o, struct derp_info_doc *d, struct derp_server_info *info)
{
	const struct json *array = json_get(o, "tunnPeerKeys");
	struct str hex;
	int n = array ? count(array) : 0;

	info->is_named = array != NULL;
	if (n < 0)
		return ERR_PROTOCOL;
	info->keys = d->items = calloc((size_t)n + 1, sizeof *info->keys);
	if (!info->keys)
		return -ENOMEM;
	for (struct json_walk w = json_walk(array); json_next(&w);)
		if (json_as_text(w.value, &hex) != JSON_READ ||
		    hex_decode(hex, info->keys[info->n_keys++].b, KEY_LEN) < 0)
			return ERR_PROTOCOL;
	return 0;
}

int derp_server_info_read(struct str text, struct derp_server_info *info_out,
                          struct derp_info_doc **doc_out)
{
	struct derp_server_info info = { .account = STR(""), .id = STR(""), .node = STR("") };
	struct derp_info_doc *d;
	uint64_t version = 0;
	int rc = open_doc(text, &d);

	if (rc < 0)
		return rc;
	const struct json *o = d->json;
	if (!get_u64(o, "version", &version) ||
	    !get_u64(o, "TokenBucketBytesPerSecond", &info.rate) ||
	    !get_u64(o, "TokenBucketBytesBurst", &info.burst) ||
	    !get_text(o, "tunnAccount", &info.account) || !get_text(o, "tunnId", &info.id) ||
	    !get_text(o, "tunnNode", &info.node))
		rc = ERR_PROTOCOL;
	info.version = (uint32_t)version;
	if (rc == 0)
		rc = get_keys(o, d, &info);
	if (rc < 0) {
		derp_info_free(d);
		return rc;
	}
	*info_out = info;
	*doc_out = d;
	return 0;
}

/* ---- writing ---- */

static int put_text(struct json *o, const char *name, struct str v)
{
	return v.len ? json_put(o, name, json_new_text(v)) : 0;
}

static int put_hex(struct json *o, const char *name, const uint8_t *p, size_t n)
{
	char hex[2 * KEY_LEN + 1];

	hex_encode(p, n, hex);
	int rc = json_put(o, name, json_new_text(str_of(hex)));
	crypto_wipe(hex, sizeof hex); /* the mesh key, perhaps */
	return rc;
}

/* Takes the document; rc: of what was put into it. */
static int print(struct json *o, int rc, struct buf *out)
{
	char *text = o && rc == 0 ? malloc(TEXT_MAX) : NULL;

	if (!text)
		rc = -ENOMEM;
	else if ((rc = json_print(o, JSON_ONE_LINE, text, TEXT_MAX)) >= 0)
		rc = buf_add(out, text, (size_t)rc);
	if (text)
		crypto_wipe(text, TEXT_MAX); /* a token, perhaps */
	free(text);
	json_free(o);
	return rc;
}

static int put_named(struct json *o, const struct derp_client_info *info)
{
	struct json *peers = json_new_array();
	int rc = peers ? 0 : -ENOMEM;

	for (unsigned i = 0; rc == 0 && i < info->n_peers; i++)
		rc = json_add(peers, json_new_text(info->peers[i]));
	if (rc < 0)
		json_free(peers);
	else
		rc = json_put(o, "tunnPeers", peers);
	if (rc == 0)
		rc = put_text(o, "tunnId", info->id);
	if (rc == 0)
		rc = put_text(o, "tunnToken", info->token);
	if (rc == 0 && info->has_instance)
		rc = put_hex(o, "tunnInstance", info->instance, sizeof info->instance);
	if (rc == 0 && info->role)
		rc = json_put(o, "tunnRole", json_new_int(info->role));
	if (rc == 0 && info->is_one_way)
		rc = json_put(o, "tunnOneWay", json_new_bool(true));
	return rc;
}

int derp_client_info_write(const struct derp_client_info *info, struct buf *out)
{
	struct json *o = json_new_object();
	int rc = o ? 0 : -ENOMEM;

	if (rc == 0 && info->has_mesh_key)
		rc = put_hex(o, "meshKey", info->mesh_key, sizeof info->mesh_key);
	if (rc == 0)
		rc = json_put(o, "version", json_new_int(2));
	if (rc == 0)
		rc = json_put(o, "CanAckPings", json_new_bool(info->can_ack_pings));
	if (rc == 0 && info->is_prober)
		rc = json_put(o, "IsProber", json_new_bool(true));
	if (rc == 0 && info->is_named)
		rc = put_named(o, info);
	return print(o, rc, out);
}

static int put_welcome(struct json *o, const struct derp_server_info *info)
{
	struct json *keys = json_new_array();
	char hex[2 * KEY_LEN + 1];
	int rc = keys ? 0 : -ENOMEM;

	for (unsigned i = 0; rc == 0 && i < info->n_keys; i++) {
		hex_encode(info->keys[i].b, KEY_LEN, hex);
		rc = json_add(keys, json_new_text(str_of(hex)));
	}
	if (rc < 0)
		json_free(keys);
	else
		rc = json_put(o, "tunnPeerKeys", keys);
	if (rc == 0)
		rc = put_text(o, "tunnAccount", info->account);
	if (rc == 0)
		rc = put_text(o, "tunnId", info->id);
	return rc == 0 ? put_text(o, "tunnNode", info->node) : rc;
}

int derp_server_info_write(const struct derp_server_info *info, struct buf *out)
{
	struct json *o = json_new_object();
	int rc = o ? json_put(o, "version", json_new_int(info->version)) : -ENOMEM;

	if (rc == 0 && info->is_named)
		rc = put_welcome(o, info);
	return print(o, rc, out);
}
