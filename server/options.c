#include "server/options.h"

#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/key.h"
#include "common/base/log.h"
#include "common/base/sandbox.h"
#include "common/net/addr.h"
#include "common/net/fetch.h"
#include "server/memory.h"
#include "server/relay/mesh_with.h"
#include "server/relay/native_policy.h"
#include "server/state.h"
#include "server/relay/worker.h"

enum { DRAIN_MAX_MS = 8000, DRAIN_MS = 2000, KEYS_MAX = 4096 };

static const char off[] = "off";

/* ---- checks: NULL, or what is allowed ---- */

static const char *check_listen(const char *v)
{
	struct addr a;
	bool any;

	if (addr_of_listen(v, &a, &any) == 0)
		return NULL;
	if (strchr(v, ':') != strrchr(v, ':') && v[0] != '[')
		return "must have IPv6 addresses in brackets, like [::1]:443";
	return "must be ADDR:PORT, [IPV6]:PORT or :PORT with a port of 1 to 65535 (0: any free one)";
}

static const char *check_listen_or_off(const char *v)
{
	struct addr a;
	bool any;

	if (strcmp(v, off) == 0 || addr_of_listen(v, &a, &any) == 0)
		return NULL;
	return "must be off, ADDR:PORT, [IPV6]:PORT or :PORT";
}

static const char *check_name(const char *v)
{
	char host[256];
	uint16_t port;
	struct addr a;

	if (addr_of_ip(v, 0, &a) == 0)
		return NULL;
	if (!strpbrk(v, ":/[") && addr_split_host(v, 1, host, sizeof host, &port) == 0)
		return NULL;
	return "must be a host name or a numeric address, without port";
}

static const char *check_url(const char *v)
{
	static char words[FETCH_ERROR_LEN + 40], why[FETCH_ERROR_LEN];
	char host[256];
	bool https;

	if (fetch_check_url(v, &https, host, why) == 0)
		return NULL;
	snprintf(words, sizeof words, "must be an http or https URL: %s", why);
	return words;
}

static const char *check_memory(const char *v)
{
	uint64_t bytes;

	return memory_limit_of(v, &bytes) == 0 ? NULL :
	                                         "must be a size of at least 1MiB, or unlimited";
}

static const char *check_node(const char *v)
{
	return name_is_valid(str_of(v)) ? NULL : "must be 1 to 63 of a-z, 0-9 and -";
}

/* ---- the table ---- */

#define AT(field) .offset = offsetof(struct server_options, field)

const struct opt server_opts[] = {
	{ .kind = OPT_LIST,
	  .name = "listen",
	  .arg = "ADDR:PORT",
	  AT(listen),
	  .max = LISTEN_MAX,
	  .check = check_listen,
	  .help = "where to listen; default: :443, all addresses" },
	{ .kind = OPT_LIST,
	  .name = "stun",
	  .arg = "ADDR:PORT|off",
	  AT(stun),
	  .max = LISTEN_MAX,
	  .check = check_listen_or_off,
	  .help = "where to answer STUN, by which DERP clients choose their region; default: port "
	          "3478 of the addresses of --listen" },
	{ .kind = OPT_TEXT,
	  .name = "admin",
	  .arg = "ADDR:PORT|off",
	  AT(admin),
	  .check = check_listen_or_off,
	  .help = "where programs and people of the operator may look, by HTTP: /metrics, /healthz, "
	          "/readyz, /api/v1/; default: " ADMIN_DEFAULT
	          ", if it is free; other than loopback it speaks TLS and needs --admin-token-file" },
	{ .kind = OPT_TEXT,
	  .name = "admin-token-file",
	  .arg = "FILE",
	  AT(admin_token_file),
	  .help = "what every request to --admin must bring as Authorization: Bearer TOKEN (at least "
	          "32 characters, mode 0600)" },
	{ .kind = OPT_TEXT,
	  .name = "cert",
	  .arg = "FILE",
	  AT(cert),
	  .help = "certificate chain (PEM, leaf first); default: one of our own in the state "
	          "directory" },
	{ .kind = OPT_TEXT,
	  .name = "key",
	  .arg = "FILE",
	  AT(key),
	  .help = "private key of --cert (PEM, mode 0600)" },
	{ .kind = OPT_FLAG,
	  .name = "allow-expired",
	  AT(allow_expired),
	  .help = "start although --cert has expired; clients with a pin still connect" },
	{ .kind = OPT_TEXT,
	  .name = "state",
	  .arg = "DIR",
	  AT(state),
	  .help = "where accounts and own certificate are; default: $STATE_DIRECTORY, for root "
	          "/var/lib/tunn, else ~/.local/state/tunn" },
	{ .kind = OPT_LIST,
	  .name = "name",
	  .arg = "HOST",
	  AT(names),
	  .max = NAMES_MAX,
	  .check = check_name,
	  .help = "name or address that clients use: --cert must be for it, our own certificate will "
	          "be; the first is in the printed command line" },
	{ .kind = OPT_TEXT,
	  .name = "node",
	  .arg = "NAME",
	  AT(node),
	  .check = check_node,
	  .help = "name of this relay as told to ends; default: the host name" },
	{ .kind = OPT_FLAG,
	  .name = "open",
	  AT(open),
	  .help = "nobody needs a token; only where --listen is a loopback address" },
	{ .kind = OPT_FLAG,
	  .name = "open-to-everyone",
	  AT(open_to_everyone),
	  .help = "with --open: on every address" },
	{ .kind = OPT_NUMBER,
	  .name = "workers",
	  .arg = "N",
	  AT(workers),
	  .min = 1,
	  .max = WORKERS_MAX,
	  .help = "threads that carry datagrams, 1 to 64; default: one for each CPU" },
	{ .kind = OPT_DURATION,
	  .name = "drain",
	  .arg = "TIME",
	  AT(drain_ms),
	  .max = DRAIN_MAX_MS,
	  .help = "how long ends may take to leave when the server stops; default: 2s" },
	{ .kind = OPT_NUMBER,
	  .name = "audit-days",
	  .arg = "N",
	  AT(audit_days),
	  .min = 1,
	  .max = AUDIT_DAYS_MAX,
	  .help = "how long tunn account log remembers who did what; default: 400" },
	{ .kind = OPT_FLAG,
	  .name = "reflection",
	  AT(reflection),
	  .help = "let tools like grpcurl ask which services there are (gRPC server reflection)" },
	{ .kind = OPT_LIST,
	  .name = "derp.allow",
	  .arg = "WHO",
	  AT(derp_allow),
	  .max = KEYS_MAX,
	  .check = native_allow_check,
	  .help = "DERP clients that are admitted besides tunnels: none, any, or nodekey:HEX, once "
	          "per key; default: none" },
	{ .kind = OPT_TEXT,
	  .name = "derp.verify-url",
	  .arg = "URL",
	  AT(derp_verify_url),
	  .check = check_url,
	  .help = "ask there whether a DERP client is admitted, as derper's -verify-client-url does; "
	          "no answer means no" },
	{ .kind = OPT_LIST,
	  .name = "derp.peering",
	  .arg = "WHO",
	  AT(derp_peering),
	  .max = KEYS_MAX,
	  .check = native_peering_check,
	  .help = "which DERP clients may send to each other: open (all), closed (none), or "
	          "nodekey:HEX, once per key; tunnels decide for themselves by --peer nodekey:HEX; "
	          "default: open" },
	{ .kind = OPT_TEXT,
	  .name = "derp.account",
	  .arg = "NAME",
	  AT(derp_account),
	  .check = check_node,
	  .help = "the account that DERP clients count for; default: derp" },
	{ .kind = OPT_TEXT,
	  .name = "derp.key",
	  .arg = "FILE",
	  AT(derp_key),
	  .help = "this relay's node key, also one of derper's files; it must stay the same; default: "
	          "derp.key in the state directory, made at the first start" },
	{ .kind = OPT_TEXT,
	  .name = "mesh-key-file",
	  .arg = "FILE",
	  AT(mesh_key_file),
	  .help = "the mesh's key (64 hex digits, mode 0600): who has it may watch our DERP clients "
	          "and send for those of other relays" },
	{ .kind = OPT_LIST,
	  .name = "mesh-with",
	  .arg = "HOST[:PORT][/DIALHOST]",
	  AT(mesh_with),
	  .max = MESH_WITH_MAX,
	  .check = mesh_with_check,
	  .help = "reach the DERP clients of that relay of our region too, as derper's -mesh-with "
	          "does; it must have the same mesh key, and name this one; our own name may be among "
	          "them" },
	{ .kind = OPT_TEXT,
	  .name = "mesh-ca",
	  .arg = "FILE",
	  AT(mesh_ca),
	  .help = "trust these certificate authorities (PEM) for --mesh-with, not the system's" },
	{ .kind = OPT_TEXT,
	  .name = "log-level",
	  .arg = "LEVEL",
	  AT(log_level),
	  .check = log_level_check,
	  .help = "error, warn, info or debug; default: info" },
	{ .kind = OPT_TEXT,
	  .name = "user",
	  .arg = "NAME",
	  AT(user),
	  .help = "when started as root, become this user once ports are bound and keys are read; "
	          "default: tunn, where there is one" },
	{ .kind = OPT_TEXT,
	  .name = "seccomp",
	  .arg = "MODE",
	  AT(seccomp),
	  .check = sandbox_mode_check,
	  .help = "what a system call does that is not needed after start: kill, log (in the kernel's "
	          "log, to find what is missing) or off; default: kill" },
	TIERS_OPTS(struct server_options, tiers_words, 0),
	{ .kind = OPT_TEXT,
	  .name = "limits.penalty",
	  .arg = "on|off",
	  AT(penalty),
	  .check = tiers_check_limits,
	  .help = "off: networks from which tokens are guessed or connections flooded are not refused "
	          "for a while, as test tools need it; default: on" },
	{ .kind = OPT_TEXT,
	  .name = "limits.memory",
	  .arg = "SIZE|unlimited",
	  AT(memory),
	  .check = check_memory,
	  .help = "near so much memory newcomers are turned away, then ends of the lowest tier; "
	          "default: three quarters of what the machine or the control group gives" },
#define LIMITS_ROW(field, kind_, key, value, least, most, words)                                   \
	{ .kind = OPT_##kind_,                                                                     \
	  .name = "limits." key,                                                                   \
	  AT(limits.field),                                                                        \
	  .min = least,                                                                            \
	  .max = most,                                                                             \
	  .traits = OPT_FILE,                                                                      \
	  .help = words },
	LIMITS(LIMITS_ROW)
#undef LIMITS_ROW
	                { .kind = OPT_END },
};

static const struct opt_command command = {
	.name = "server",
	.usage = "[options]",
	.summary = "run a relay",
	.text = "The first start makes a certificate, an account and a token, and prints the command "
	        "line for the clients. SIGTERM tells the ends to leave, then stops. SIGHUP reads "
	        "options, config file and certificate again.",
	.opts = server_opts,
};

/* ---- reading ---- */

static bool is_loopback(const char *listen)
{
	struct addr a;
	bool any;

	return addr_of_listen(listen, &a, &any) == 0 && !any && addr_is_loopback(&a);
}

static bool is_same(const char *one, const char *other)
{
	struct addr a, b;
	bool any_a, any_b;

	addr_of_listen(one, &a, &any_a); /* both have been checked */
	addr_of_listen(other, &b, &any_b);
	return any_a == any_b && addr_port(&a) != 0 && addr_eq(&a, &b);
}

static int check_listeners(const struct server_options *o)
{
	for (unsigned i = 0; i < o->listen.n; i++)
		for (unsigned k = 0; k < i; k++)
			if (is_same(o->listen.v[i], o->listen.v[k]))
				return opts_fail(command.name,
				                 "--listen %s is the same address as --listen %s",
				                 o->listen.v[i], o->listen.v[k]);
	for (unsigned i = 0; o->open && !o->open_to_everyone && i < o->listen.n; i++)
		if (!is_loopback(o->listen.v[i]))
			return opts_fail(command.name,
			                 "--open lets in everybody who reaches %s: "
			                 "--listen 127.0.0.1:443 keeps it on this machine, "
			                 "--open-to-everyone says that it is meant",
			                 o->listen.v[i]);
	return 0;
}

static int check_stuns(const struct server_options *o)
{
	for (unsigned i = 0; o->stun.n > 1 && i < o->stun.n; i++) {
		if (strcmp(o->stun.v[i], off) == 0)
			return opts_fail(command.name, "--stun off stands alone");
		for (unsigned k = 0; k < i; k++)
			if (is_same(o->stun.v[i], o->stun.v[k]))
				return opts_fail(command.name,
				                 "--stun %s is the same address as --stun %s",
				                 o->stun.v[i], o->stun.v[k]);
	}
	return 0;
}

/* Rows that only together make sense. */
static int check_limits(const struct limits *l)
{
	if (l->queued_frames < 2 * l->streams)
		return opts_fail(command.name,
		                 "limits.queued-frames %u is less than two for each of the %u "
		                 "streams of limits.streams: honest answers would be a flood",
		                 l->queued_frames, l->streams);
	return 0;
}

static bool is_alone(const struct opt_list *list, const char *word)
{
	for (unsigned i = 0; i < list->n; i++)
		if (strcmp(list->v[i], word) == 0)
			return list->n == 1;
	return true;
}

static int check_derp(const struct server_options *o)
{
	static const char *const alone[] = { "none", "any", "open", "closed" };

	for (unsigned i = 0; i < sizeof alone / sizeof *alone; i++)
		if (!is_alone(&o->derp_allow, alone[i]) || !is_alone(&o->derp_peering, alone[i]))
			return opts_fail(command.name,
			                 "derp.%s: %s stands alone: give it, or give keys",
			                 i < 2 ? "allow" : "peering", alone[i]);
	if (o->derp_verify_url && o->derp_allow.n)
		return opts_fail(
		                command.name,
		                "derp.verify-url and derp.allow both say who is admitted: give one");
	return 0;
}

static int check_mesh(const struct server_options *o)
{
	if (o->mesh_with.n && !o->mesh_key_file)
		return opts_fail(
		                command.name,
		                "--mesh-with needs --mesh-key-file: the key that all relays of the "
		                "mesh have, as `openssl rand -hex 32` makes it");
	if (o->mesh_ca && !o->mesh_with.n)
		return opts_fail(command.name, "--mesh-ca means nothing without --mesh-with");
	return 0;
}

static int check_admin(const struct server_options *o)
{
	if (o->admin_token_file && server_options_no_admin(o))
		return opts_fail(command.name, "--admin-token-file means nothing with --admin off");
	if (o->admin_token_file || server_options_no_admin(o) || server_options_admin_is_local(o))
		return 0;
	return opts_fail(command.name,
	                 "--admin %s can be reached from other machines: --admin-token-file FILE "
	                 "says who may ask (openssl rand -hex 32), --admin " ADMIN_DEFAULT
	                 " keeps it on this one",
	                 o->admin);
}

static int check_together(const struct server_options *o)
{
	if (!o->cert != !o->key)
		return opts_fail(command.name, "%s is missing: --cert and --key go together",
		                 o->cert ? "--key" : "--cert");
	if (o->open_to_everyone && !o->open)
		return opts_fail(command.name, "--open-to-everyone means nothing without --open");
	int rc = check_listeners(o);
	if (rc == 0)
		rc = check_stuns(o);
	if (rc == 0)
		rc = check_admin(o);
	if (rc == 0)
		rc = check_derp(o);
	if (rc == 0)
		rc = check_mesh(o);
	return rc ? rc : check_limits(&o->limits);
}

/* Asked once: workers read the name while a reload reads options again. */
static const char *default_node(void)
{
	static char name[NAME_MAX_LEN + 1];
	char host[256] = "";

	if (name[0])
		return name;
	gethostname(host, sizeof host - 1);
	if (name_of_host(host, name) < 0)
		snprintf(name, sizeof name, "relay");
	return name;
}

static void fill_defaults(struct server_options *o)
{
	static const char *everywhere[] = { ":443" };

	if (o->listen.n == 0)
		o->listen = (struct opt_list){ everywhere, 1 };
	if (!o->state)
		o->state = state_default_dir();
	if (!o->node)
		o->node = default_node();
}

bool server_options_no_admin(const struct server_options *o)
{
	return o->admin && strcmp(o->admin, off) == 0;
}

bool server_options_admin_is_local(const struct server_options *o)
{
	return is_loopback(o->admin ? o->admin : ADMIN_DEFAULT);
}

bool server_options_penalty(const struct server_options *o)
{
	return !o->penalty || strcmp(o->penalty, "off") != 0;
}

bool server_options_no_stun(const struct server_options *o)
{
	return o->stun.n == 1 && strcmp(o->stun.v[0], off) == 0;
}

int server_options_read(int argc, char **argv, struct server_options *opts_out, bool *help_out)
{
	struct server_options o = { .drain_ms = DRAIN_MS,
		                    .audit_days = AUDIT_DAYS,
		                    .log_level = "info",
		                    .seccomp = "kill",
		                    .limits = limits_default };
	int rc = opts_read(&command, argc, argv, &o, NULL, help_out);

	if (rc || *help_out)
		return rc;
	fill_defaults(&o);
	rc = check_together(&o);
	if (rc == 0)
		rc = tiers_read(command.name, &o.tiers_words, &o.tiers);
	if (rc == 0)
		*opts_out = o;
	return rc;
}
