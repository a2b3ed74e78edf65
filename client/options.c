#include "client/options.h"
#include "client/options_impl.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/map_ways.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/sandbox.h"
#include "common/net/addr.h"
#include "common/net/fetch.h"
#include "common/net/proxy.h"
#include "common/transport/transport.h"

#define PIN_OF_KEY  "sha256:"
#define PIN_OF_CERT "sha256-raw:"

enum { HOST_LEN = 256 };

struct raw { /* what the table fills; some of it is decoded afterwards */
	struct relay_options o;
	const char *port, *pin;
};

/* ---- checks: NULL, or what is allowed ---- */

static bool is_number(const char *v) { return v[strspn(v, "0123456789")] == 0; }

static uint16_t port_of(const char *v) /* 0: none */
{
	unsigned long n = *v && is_number(v) && strlen(v) <= 5 ? strtoul(v, NULL, 10) : 0;

	return n <= 65535 ? (uint16_t)n : 0;
}

static const char *check_port(const char *v) { return port_of(v) ? NULL : "must be 1 to 65535"; }

const char *option_check_id(const char *v)
{
	if (name_is_valid(str_of(v)))
		return NULL;
	return "must be 1 to 63 of a-z, 0-9 and -, not beginning with -";
}

static const char *check_peer(const char *v)
{
	if (peer_is_valid(str_of(v)))
		return NULL;
	return "must be ID, ACCOUNT/ID (each 1 to 63 of a-z, 0-9 and -) or nodekey: and 64 "
	       "lower-case hex digits";
}

const char *option_check_relay(const char *v)
{
	char host[HOST_LEN];
	uint16_t port;

	if (addr_split_host(v, 443, host, sizeof host, &port) == 0)
		return NULL;
	return "must be https://HOST[:PORT] or HOST[:PORT], IPv6 in brackets ([::1]:443)";
}

static const char *check_transport(const char *v)
{
	static char words[128];
	size_t n = (size_t)snprintf(words, sizeof words, "must be auto");

	if (strcmp(v, "auto") == 0 || transport_named(str_of(v)))
		return NULL;
	for (unsigned i = 0; transports[i] && n < sizeof words; i++)
		n += (size_t)snprintf(words + n, sizeof words - n, "%s%s",
		                      transports[i + 1] ? ", " : " or ", transports[i]->name);
	return words;
}

static const char *check_address(const char *v)
{
	struct addr a;

	return addr_of_ip(v, 0, &a) == 0 ? NULL : "must be a numeric address like 127.0.0.1 or ::1";
}

/* fe80::1%eth0, which getaddrinfo(3) reads */
static bool is_scoped(const char *v)
{
	const char *percent = strchr(v, '%');
	char ip[64];
	struct addr a;

	if (!percent || (size_t)(percent - v) >= sizeof ip || !percent[1] ||
	    strlen(percent + 1) >= IFNAMSIZ || strpbrk(percent + 1, "%/ \t\n"))
		return false;
	snprintf(ip, sizeof ip, "%.*s", (int)(percent - v), v);
	return addr_of_ip(ip, 0, &a) == 0 && strncasecmp(ip, "fe80:", 5) == 0;
}

static const char *check_host(const char *v)
{
	char host[HOST_LEN];
	uint16_t port;
	struct addr a;

	if (addr_of_ip(v, 0, &a) == 0)
		return addr_is_special(&a) ?
		                       "must be one host, no multicast, broadcast or 0.0.0.0" :
		                       NULL;
	if (is_scoped(v))
		return NULL;
	if (!is_number(v) && !strpbrk(v, ":/[") &&
	    addr_split_host(v, 1, host, sizeof host, &port) == 0)
		return NULL;
	return "must be a host name or a numeric address, without port";
}

/* The pin's letters; NULL: neither form. */
static const char *pin_hex(const char *v, bool *raw_out)
{
	*raw_out = strncmp(v, PIN_OF_CERT, strlen(PIN_OF_CERT)) == 0;
	if (*raw_out)
		return v + strlen(PIN_OF_CERT);
	return strncmp(v, PIN_OF_KEY, strlen(PIN_OF_KEY)) == 0 ? v + strlen(PIN_OF_KEY) : NULL;
}

const char *option_check_pin(const char *v)
{
	uint8_t pin[TLS_PIN_LEN];
	bool raw;
	const char *hex = pin_hex(v, &raw);

	if (hex && hex_decode(str_of(hex), pin, sizeof pin) == 0)
		return NULL;
	return "must be sha256: (of the key, as tunn server prints it) or sha256-raw: (of the "
	       "certificate) and 64 lower-case hex digits";
}

const char *option_check_proxy(const char *v)
{
	static char words[PROXY_ERROR_LEN + 16];
	char warning[PROXY_ERROR_LEN] = "", error[PROXY_ERROR_LEN] = "";
	struct proxy_conf unused;

	if (strcmp(v, "none") == 0 || proxy_of_url(v, &unused, warning, error) == 0)
		return NULL;
	snprintf(words, sizeof words, "is no proxy: %s", error);
	return words;
}

void option_pin(const char *v, uint8_t pin_out[static TLS_PIN_LEN], bool *is_raw_out)
{
	hex_decode(str_of(pin_hex(v, is_raw_out)), pin_out, TLS_PIN_LEN);
}

static const char *check_device(const char *v)
{
	if (*v && strlen(v) < IFNAMSIZ && !strpbrk(v, "/ \t\n"))
		return NULL;
	return "must be the name of a network device, at most 15 letters";
}

/* A login in it is refused, and not shown. */
static const char *check_derp_map(const char *v)
{
	static char words[FETCH_ERROR_LEN + 32];
	char host[HOST_LEN], error[FETCH_ERROR_LEN];
	bool https;

	if (!map_ways_is_url(v))
		return strstr(v, "://") ? "must be a file, or an http or https URL" : NULL;
	if (fetch_check_url(v, &https, host, error) == 0)
		return NULL;
	snprintf(words, sizeof words, "cannot be used: %s", error);
	return words;
}

/* ---- the table ---- */

#define AT(field) .offset = offsetof(struct raw, field)

const struct opt relay_opts[] = {
	{ .kind = OPT_TEXT,
	  .name = "port",
	  .arg = "PORT",
	  .traits = OPT_POSITIONAL,
	  AT(port),
	  .check = check_port,
	  .help = "the local UDP port, as the bare PORT" },
	{ .kind = OPT_LIST,
	  .name = "peer",
	  .arg = "ID",
	  AT(o.peers),
	  .max = PEERS_MAX,
	  .check = check_peer,
	  .help = "the other end: ID, ACCOUNT/ID or nodekey:HEX; once per peer" },
	{ .kind = OPT_TEXT,
	  .name = "id",
	  .arg = "ID",
	  AT(o.id),
	  .check = option_check_id,
	  .help = "name of this end; default: the id that the token is bound to, else the host name" },
	{ .kind = OPT_TEXT,
	  .name = "relay",
	  .arg = "URL",
	  AT(o.relay),
	  .check = option_check_relay,
	  .help = "the relay, https://HOST[:PORT] or HOST[:PORT]; default: " DEFAULT_RELAY },
	{ .kind = OPT_TEXT,
	  .name = "token-file",
	  .arg = "FILE",
	  AT(o.token_file),
	  .help = "read the token from FILE (mode 0600) or, with -, from standard input; default: the "
	          "file stored for the relay" },
	{ .kind = OPT_TEXT,
	  .name = "pin",
	  .arg = "sha256:HEX",
	  AT(pin),
	  .check = option_check_pin,
	  .help = "trust the relay with this public key, whoever signed its certificate; or with "
	          "this certificate, as a DERP map has it: sha256-raw:HEX" },
	{ .kind = OPT_TEXT,
	  .name = "ca",
	  .arg = "FILE",
	  AT(o.ca_file),
	  .help = "trust the certificates of this CA (PEM) instead of the system's" },
	{ .kind = OPT_OPTIONAL,
	  .name = "listen",
	  .arg = "ADDR",
	  .traits = OPT_ONE_OF,
	  AT(o.listen),
	  .value_offset = offsetof(struct raw, o.listen_addr),
	  .check = check_address,
	  .help = "local programs send to PORT here; default where PORT is free" },
	{ .kind = OPT_OPTIONAL,
	  .name = "forward",
	  .arg = "HOST",
	  .traits = OPT_ONE_OF,
	  AT(o.forward),
	  .value_offset = offsetof(struct raw, o.forward_host),
	  .check = check_host,
	  .help = "datagrams go to HOST:PORT, 127.0.0.1 if HOST is left out; default where PORT is in "
	          "use" },
	{ .kind = OPT_FLAG,
	  .name = "one-way",
	  AT(o.one_way),
	  .help = "send only: peers may not send back" },
	{ .kind = OPT_TEXT,
	  .name = "transport",
	  .arg = "NAME",
	  AT(o.transport),
	  .check = check_transport,
	  .help = "auto (grpc, then derp), grpc or derp; default: auto" },
	{ .kind = OPT_TEXT,
	  .name = "derp-map",
	  .arg = "FILE|URL",
	  .traits = OPT_PRIVATE,
	  AT(o.derp_map),
	  .check = check_derp_map,
	  .help = "a DERP map instead of --relay: its nearest region is used, the next when it fails; "
	          "every --peer is a nodekey:HEX" },
	{ .kind = OPT_TEXT,
	  .name = "derp-region",
	  .arg = "ID",
	  AT(o.derp_region),
	  .help = "only this region of --derp-map, by its id or code; both ends must be in one region" },
	{ .kind = OPT_TEXT,
	  .name = "key-file",
	  .arg = "FILE",
	  AT(o.key_file),
	  .help = "our node key, in any form that `tunn key` reads, for a DERP server without "
	          "--id; default: node.key beside the stored tokens, made when it is missing" },
	{ .kind = OPT_TEXT,
	  .name = "proxy",
	  .arg = "URL",
	  .traits = OPT_PRIVATE,
	  AT(o.proxy),
	  .check = option_check_proxy,
	  .help = "HTTP proxy, http://[USER:PASSWORD@]HOST[:PORT], or none; default: https_proxy and "
	          "no_proxy of the environment" },
	{ .kind = OPT_NUMBER,
	  .name = "fwmark",
	  .arg = "N",
	  AT(o.fwmark),
	  .min = 1,
	  .max = UINT32_MAX,
	  .help = "mark our own packets for policy routing (needs CAP_NET_ADMIN)" },
	{ .kind = OPT_TEXT,
	  .name = "bind-device",
	  .arg = "IFACE",
	  AT(o.bind_device),
	  .check = check_device,
	  .help = "keep our own connection on this network device" },
	{ .kind = OPT_FLAG,
	  .name = "once",
	  AT(o.once),
	  .help = "end with exit code 4 when the first connection fails" },
	{ .kind = OPT_TEXT,
	  .name = "log-level",
	  .arg = "LEVEL",
	  AT(o.log_level),
	  .check = log_level_check,
	  .help = "error, warn, info or debug; default: warn" },
	{ .kind = OPT_TEXT,
	  .name = "user",
	  .arg = "NAME",
	  AT(o.user),
	  .help = "when started as root, become this user once the local port is open; default: tunn, "
	          "where there is one" },
	{ .kind = OPT_TEXT,
	  .name = "seccomp",
	  .arg = "MODE",
	  AT(o.seccomp),
	  .check = sandbox_mode_check,
	  .help = "what a system call does that is not needed after start: kill, log (in the kernel's "
	          "log, to find what is missing) or off; default: kill" },
	{ .kind = OPT_TEXT,
	  .name = "token",
	  .traits = OPT_SECRET,
	  .help = "a token given like this is seen by everybody on this machine: use --token-file FILE, "
	          "the variable TUNN_TOKEN, or --token-file - for standard input" },
	{ .kind = OPT_END },
};

static const struct opt_command command = {
	.name = "relay",
	.usage = "PORT --peer ID... [options]",
	.summary = "carry the UDP of a local port to a peer, through a relay",
	.text = "Run it on both ends, each with the other's id as --peer. With WireGuard:\n"
	        "  at home:        tunn relay 51820 --id home-wg --peer laptop-wg\n"
	        "  on the laptop:  tunn relay 51820 --id laptop-wg --peer home-wg\n"
	        "and on the laptop `Endpoint = 127.0.0.1:51820`.",
	.opts = relay_opts,
};

/* ---- reading ---- */

static int fail_usage(const char *words)
{
	opts_fail(command.name, "%s", words);
	opts_usage(&command);
	return ERR_CONFIG;
}

static bool is_node_key(const char *peer) { return strncmp(peer, "nodekey:", 8) == 0; }

static bool are_node_keys(const struct opt_list *peers)
{
	for (unsigned i = 0; i < peers->n; i++)
		if (!is_node_key(peers->v[i]))
			return false;
	return true;
}

bool relay_options_are_native(const struct relay_options *o)
{
	return o->derp_map ||
	       (strcmp(o->transport, "derp") == 0 && !o->id && are_node_keys(&o->peers));
}

static int check_derp(const struct relay_options *o)
{
	if (o->derp_region && !o->derp_map)
		return fail_usage("--derp-region means nothing without --derp-map");
	if (o->key_file && !relay_options_are_native(o))
		return fail_usage(
		                "--key-file is for DERP servers that know no ids: --transport derp "
		                "or --derp-map, every --peer nodekey:HEX, no --id");
	if (!o->derp_map)
		return 0;
	if (o->relay)
		return fail_usage("--relay and --derp-map both say where to connect: give one");
	if (o->id)
		return fail_usage(
		                "--id means nothing to the servers of a --derp-map: an end is its "
		                "node key there (--key-file)");
	if (strcmp(o->transport, "grpc") == 0)
		return fail_usage("--derp-map needs --transport derp, or auto");
	if (!are_node_keys(&o->peers))
		return fail_usage(
		                "with --derp-map every --peer is nodekey: and 64 hex digits, as the "
		                "other end prints it at its start");
	return 0;
}

static int check_together(const struct raw *raw)
{
	const struct relay_options *o = &raw->o;

	if (!raw->port)
		return fail_usage(
		                "the port is missing: tunn relay PORT --peer ID (WireGuard's port is "
		                "51820)");
	if (o->peers.n == 0)
		return fail_usage("--peer is missing: name the other end, as in --peer home-wg");
	int rc = check_derp(o);
	if (rc)
		return rc;
	if (o->derp_map && raw->pin)
		return fail_usage(
		                "--pin is of one relay: a node of a --derp-map has its own, CertName");
	for (unsigned i = 0; o->id && i < o->peers.n; i++)
		if (strcmp(o->peers.v[i], o->id) == 0)
			return opts_fail(command.name,
			                 "--peer %s is this end's own --id: name the other end",
			                 o->id);
	return 0;
}

static void decode(struct raw *raw)
{
	struct relay_options *o = &raw->o;

	o->port = port_of(raw->port);
	o->relay_is_default = !o->relay;
	if (!o->relay)
		o->relay = DEFAULT_RELAY;
	o->has_pin = raw->pin != NULL;
	if (o->has_pin)
		option_pin(raw->pin, o->pin, &o->pin_is_raw);
}

int relay_options_read(int argc, char **argv, struct relay_options *opts_out, bool *help_out)
{
	struct raw raw = { .o = { .transport = "auto", .log_level = "warn", .seccomp = "kill" } };
	int rc = opts_read(&command, argc, argv, &raw, NULL, help_out);

	if (rc || *help_out)
		return rc;
	rc = check_together(&raw);
	if (rc)
		return rc;
	decode(&raw);
	*opts_out = raw.o;
	return 0;
}
