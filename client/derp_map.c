#include "client/derp_map.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/opts.h"

enum { DEPTH = 16, PARTS = 65536 };
#define ID_MAX  ((int64_t)1 << 53)
#define RAW_PIN "sha256-raw:"

/* Where we are, for words, and the first error. */
struct reading {
	const char *region; /* its key in the map */
	unsigned node;      /* from 1; 0: none */
	int rc;
	char *error; /* DERP_MAP_ERROR_LEN */
};

__attribute__((format(printf, 2, 3))) static int refuse(struct reading *r, const char *fmt, ...)
{
	char where[64] = "";
	va_list ap;
	int n;

	if (r->rc < 0)
		return r->rc;
	r->rc = ERR_INVALID;
	if (r->node)
		snprintf(where, sizeof where, "node %u of ", r->node);
	n = r->region ? snprintf(r->error, DERP_MAP_ERROR_LEN, "%sregion %s: ", where,
	                         opts_quote(r->region).s) :
	                0;
	va_start(ap, fmt);
	vsnprintf(r->error + n, DERP_MAP_ERROR_LEN - (size_t)n, fmt, ap);
	va_end(ap);
	return r->rc;
}

static int no_memory(struct reading *r)
{
	if (r->rc == 0)
		snprintf(r->error, DERP_MAP_ERROR_LEN, "out of memory");
	return r->rc = -ENOMEM;
}

/* ---- members: absent and null leave what is there ---- */

static void wrong(struct reading *r, enum json_read got, const char *name, const char *type)
{
	if (got == JSON_WRONG_TYPE)
		refuse(r, "%s is not %s", name, type);
}

static bool get_bool(struct reading *r, const struct json *o, const char *name)
{
	bool v = false;

	wrong(r, json_as_bool(json_get(o, name), &v), name, "true or false");
	return v;
}

static int64_t get_int(struct reading *r, const struct json *o, const char *name)
{
	int64_t v = 0;

	wrong(r, json_as_int(json_get(o, name), &v), name, "a whole number");
	return v;
}

static struct str get_text(struct reading *r, const struct json *o, const char *name)
{
	struct str v = { "", 0 };

	wrong(r, json_as_text(json_get(o, name), &v), name, "a text");
	return v;
}

/* Would a terminal obey it? C0, DEL, and C1, which are two bytes. */
static bool is_control(const char *p, size_t i)
{
	uint8_t b = (uint8_t)p[i], before = i ? (uint8_t)p[i - 1] : 0;

	return b < ' ' || b == 0x7f || (before == 0xc2 && b < 0xa0);
}

/* Names for people and logs, cut between characters. */
static void get_name(struct reading *r, const struct json *o, const char *name,
                     char out[static DERP_MAP_TEXT])
{
	struct str v = get_text(r, o, name);
	size_t n = v.len < DERP_MAP_TEXT ? v.len : DERP_MAP_TEXT - 1;

	while (n && n < v.len && ((uint8_t)v.p[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++) {
		out[i] = is_control(v.p, i) ? '?' : v.p[i];
		if (out[i] == '?' && i && (uint8_t)v.p[i - 1] == 0xc2)
			out[i - 1] = '?';
	}
	out[n] = 0;
}

static uint16_t get_port(struct reading *r, const struct json *o, const char *name, uint16_t usual)
{
	int64_t v = get_int(r, o, name);

	if (v > UINT16_MAX)
		refuse(r, "%s is beyond 65535", name);
	return v == 0 ? usual : v < 0 || v > UINT16_MAX ? 0 : (uint16_t)v;
}

/* ---- nodes ---- */

/* NUL-terminated in out, or ERR_INVALID: not a text that fits and has no NUL. */
static int to_text(struct str s, char *out, size_t cap)
{
	if (s.len >= cap || (s.len && memchr(s.p, 0, s.len)))
		return ERR_INVALID;
	memcpy(out, s.p, s.len);
	out[s.len] = 0;
	return 0;
}

/* A name or an address, without a port. */
static bool is_host(const char *text)
{
	char host[256];
	uint16_t port;
	struct addr ip;

	if (addr_of_ip(text, 0, &ip) == 0)
		return true;
	return !strpbrk(text, ":/[]") && addr_split_host(text, 1, host, sizeof host, &port) == 0;
}

static void get_host(struct reading *r, const struct json *o, struct derp_node *n)
{
	struct str v = get_text(r, o, "HostName");

	if (!v.len)
		refuse(r, "HostName is missing");
	else if (to_text(v, n->host, sizeof n->host) < 0 || !is_host(n->host))
		refuse(r, "HostName is neither a host name nor an address");
}

/* Anything that is no address of the family, by convention "none", switches it off. */
static void get_family(struct reading *r, const struct json *o, const char *name, int family,
                       struct dial_family *f)
{
	struct str v = get_text(r, o, name);
	char text[64];

	if (!v.len)
		return;
	f->off = to_text(v, text, sizeof text) < 0 || addr_of_ip(text, 0, &f->at) < 0 ||
	         f->at.ss.ss_family != family;
	if (f->off)
		f->at = (struct addr){ .len = 0 };
}

static void get_stun_ip(struct reading *r, const struct json *o, struct derp_node *n)
{
	struct str v = get_text(r, o, "STUNTestIP");
	char text[64];

	if (v.len &&
	    (to_text(v, text, sizeof text) < 0 || addr_of_ip(text, n->stun_port, &n->stun_at) < 0))
		refuse(r, "STUNTestIP is not an address");
}

static void get_cert_name(struct reading *r, const struct json *o, struct derp_node *n)
{
	struct str v = get_text(r, o, "CertName");
	size_t prefix = strlen(RAW_PIN);

	if (v.len >= prefix && memcmp(v.p, RAW_PIN, prefix) == 0) {
		struct str hex = { v.p + prefix, v.len - prefix };
		n->has_raw_pin = hex_decode(hex, n->raw_pin, sizeof n->raw_pin) == 0;
		if (!n->has_raw_pin)
			refuse(r,
			       "CertName " RAW_PIN " is not followed by 64 lower-case hex digits");
	} else if (to_text(v, n->verify_name, sizeof n->verify_name) < 0 ||
	           (v.len && !is_host(n->verify_name))) {
		refuse(r, "CertName is neither a host name nor " RAW_PIN "HEX");
	}
}

static int read_node(struct reading *r, const struct json *o, struct derp_node *n)
{
	*n = (struct derp_node){ .stun_only = get_bool(r, o, "STUNOnly") };
	get_name(r, o, "Name", n->name);
	get_host(r, o, n);
	get_cert_name(r, o, n);
	get_family(r, o, "IPv4", AF_INET, &n->ipv4);
	get_family(r, o, "IPv6", AF_INET6, &n->ipv6);
	n->port = get_port(r, o, "DERPPort", DERP_PORT);
	if (!n->port)
		refuse(r, "DERPPort is not a port");
	n->stun_port = get_port(r, o, "STUNPort", DERP_STUN_PORT);
	get_stun_ip(r, o, n);
	if (get_bool(r, o, "InsecureForTests"))
		refuse(r,
		       "InsecureForTests is set, but who a node is is always verified here: give "
		       "its certificate as CertName \"" RAW_PIN "HEX\" instead");
	return r->rc;
}

/* ---- regions ---- */

static size_t count(const struct json *container)
{
	size_t n = 0;

	for (struct json_walk w = json_walk(container); json_next(&w);)
		n++;
	return n;
}

static int read_nodes(struct reading *r, const struct json *o, struct derp_region *region)
{
	const struct json *list = NULL, *node;

	wrong(r, json_as_array(json_get(o, "Nodes"), &list), "Nodes", "a list");
	size_t n = count(list);
	if (n > DERP_MAP_NODES)
		return refuse(r, "more than %d nodes", DERP_MAP_NODES);
	region->nodes = n ? calloc(n, sizeof *region->nodes) : NULL;
	if (n && !region->nodes)
		return no_memory(r);
	for (struct json_walk w = json_walk(list); json_next(&w) && r->rc == 0;) {
		r->node++;
		enum json_read got = json_as_object(w.value, &node);
		wrong(r, got, "it", "an object");
		if (got == JSON_READ)
			read_node(r, node, &region->nodes[region->n_nodes++]);
	}
	r->node = 0;
	return r->rc;
}

static int64_t id_of(const char *text)
{
	char *end;

	if (text[0] < '1' || text[0] > '9')
		return 0;
	errno = 0;
	long long id = strtoll(text, &end, 10);
	return *end || errno || id >= ID_MAX ? 0 : id;
}

static int read_region(struct reading *r, const struct json *o, struct derp_region *region)
{
	int64_t id = get_int(r, o, "RegionID");

	*region = (struct derp_region){ .id = id_of(r->region), .score = 1 };
	if (!region->id)
		return refuse(r, "ids are whole numbers from 1 on, below 2^53");
	if (id && id != region->id)
		return refuse(r, "RegionID says %lld", (long long)id);
	get_name(r, o, "RegionCode", region->code);
	get_name(r, o, "RegionName", region->name);
	region->avoid = get_bool(r, o, "Avoid");
	region->no_home = get_bool(r, o, "NoMeasureNoHome");
	return r->rc ? r->rc : read_nodes(r, o, region);
}

static int by_id(const void *a, const void *b)
{
	const struct derp_region *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* null: a region that is left out (a tailnet's policy file says so). */
static void read_entry(struct reading *r, const struct json_walk *w, struct derp_map *map)
{
	const struct json *region;
	char key[32];

	r->region = to_text(w->name, key, sizeof key) == 0 ? key : "with a long name";
	enum json_read got = json_as_object(w->value, &region);
	wrong(r, got, "it", "an object");
	if (got == JSON_READ)
		read_region(r, region, &map->regions[map->n_regions++]);
	r->region = NULL;
}

static int read_regions(struct reading *r, const struct json *doc, struct derp_map *map)
{
	const struct json *regions = NULL;

	wrong(r, json_as_object(json_get(doc, "Regions"), &regions), "Regions", "an object");
	size_t n = count(regions);
	if (r->rc == 0 && n == 0)
		return refuse(r, "it has no Regions");
	if (n > DERP_MAP_REGIONS)
		return refuse(r, "more than %d regions", DERP_MAP_REGIONS);
	map->regions = n ? calloc(n, sizeof *map->regions) : NULL;
	if (n && !map->regions)
		return no_memory(r);
	for (struct json_walk w = json_walk(regions); json_next(&w) && r->rc == 0;)
		read_entry(r, &w, map);
	if (r->rc == 0 && map->n_regions == 0)
		refuse(r, "all its Regions are null");
	if (r->rc == 0)
		qsort(map->regions, map->n_regions, sizeof *map->regions, by_id);
	return r->rc;
}

static struct derp_region *region_of(const struct derp_map *map, int64_t id)
{
	struct derp_region key = { .id = id };

	return map->n_regions ? bsearch(&key, map->regions, map->n_regions, sizeof key, by_id) :
	                        NULL;
}

static int read_scores(struct reading *r, const struct json *doc, struct derp_map *map)
{
	const struct json *params = NULL, *scores = NULL;
	char id[32];
	double score;

	wrong(r, json_as_object(json_get(doc, "HomeParams"), &params), "HomeParams", "an object");
	wrong(r, json_as_object(json_get(params, "RegionScore"), &scores), "RegionScore",
	      "an object");
	for (struct json_walk w = json_walk(scores); json_next(&w) && r->rc == 0;) {
		enum json_read got = json_as_real(w.value, &score);
		wrong(r, got, "RegionScore", "of numbers");
		struct derp_region *region = to_text(w.name, id, sizeof id) == 0 ?
		                                             region_of(map, id_of(id)) :
		                                             NULL;
		if (got == JSON_READ && region && score > 0)
			region->score = score;
	}
	return r->rc;
}

static bool has_derp(const struct derp_map *map)
{
	for (size_t i = 0; i < map->n_regions; i++)
		for (size_t k = 0; k < map->regions[i].n_nodes; k++)
			if (!map->regions[i].nodes[k].stun_only)
				return true;
	return false;
}

static int read_map(struct reading *r, const struct json *doc, struct derp_map *map)
{
	const struct json *top;

	if (json_as_object(doc, &top) != JSON_READ)
		return refuse(r, "it is not a JSON object");
	if (read_regions(r, top, map) < 0 || read_scores(r, top, map) < 0)
		return r->rc;
	return has_derp(map) ? 0 : refuse(r, "no region has a node for DERP");
}

/* ---- the whole ---- */

int derp_map_parse(struct str text, struct derp_map *map_out,
                   char error_out[static DERP_MAP_ERROR_LEN])
{
	static const struct json_limits limits = { DERP_MAP_BYTES, DEPTH, PARTS };
	struct reading r = { .error = error_out };
	struct json *doc;
	unsigned line = 0;

	*map_out = (struct derp_map){ .n_regions = 0 };
	int rc = json_parse(text, &limits, &doc, &line);
	if (rc == -ENOMEM)
		return no_memory(&r);
	if (rc == ERR_TOO_BIG)
		return refuse(&r, "it is larger than a DERP map may be (1 MiB)");
	if (rc < 0)
		return refuse(&r, "it is not JSON (line %u)", line);
	rc = read_map(&r, doc, map_out);
	json_free(doc);
	if (rc < 0)
		derp_map_done(map_out);
	return rc;
}

int derp_map_read(const char *file, struct derp_map *map_out,
                  char error_out[static DERP_MAP_ERROR_LEN])
{
	FILE *f = fopen(file, "re");
	char *text = malloc(DERP_MAP_BYTES + 1);
	int rc = -ENOMEM;

	*map_out = (struct derp_map){ .n_regions = 0 };
	errno = f ? ENOMEM : errno;
	size_t n = f && text ? fread(text, 1, DERP_MAP_BYTES + 1, f) : 0;
	if (f && text && !ferror(f)) {
		rc = derp_map_parse((struct str){ text, n }, map_out, error_out);
	} else {
		rc = errno == ENOMEM ? -ENOMEM : ERR_INVALID;
		snprintf(error_out, DERP_MAP_ERROR_LEN, "%s", strerror(errno));
	}
	free(text);
	if (f)
		fclose(f);
	return rc;
}

void derp_map_done(struct derp_map *map)
{
	for (size_t i = 0; i < map->n_regions; i++)
		free(map->regions[i].nodes);
	free(map->regions);
	*map = (struct derp_map){ .n_regions = 0 };
}

bool derp_node_is_usual(const struct derp_node *n) { return !n->has_raw_pin && !n->verify_name[0]; }

int derp_node_tls(const struct derp_node *n, const char *ca_file, struct tls_ctx **ctx_out,
                  char error_out[static TLS_ERROR_LEN])
{
	const struct tls_client_conf conf = {
		.ca_file = n->has_raw_pin ? NULL : ca_file,
		.raw_pin = n->has_raw_pin ? n->raw_pin : NULL,
		.verify_name = n->verify_name,
		.ca_option = "--ca", /* --pin is of one relay */
	};

	return tls_client_ctx_new(&conf, ctx_out, error_out);
}

const struct derp_region *derp_map_find(const struct derp_map *map, const char *id_or_code)
{
	const struct derp_region *found = region_of(map, id_of(id_or_code));

	for (size_t i = 0; i < map->n_regions && !found; i++)
		if (map->regions[i].code[0] && strcasecmp(map->regions[i].code, id_or_code) == 0)
			found = &map->regions[i];
	return found;
}
