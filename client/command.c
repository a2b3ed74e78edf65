#include "client/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"
#include "client/options.h"
#include "client/relay_place.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/nodekey.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, HOST_LEN = 256, WAYS_MAX = 4 };

struct command { /* everything that must live while the client runs */
	struct relay_options opts;
	struct relay_place place;
	char *token; /* for every reconnect, in memory of its own; NULL before it is read */
	char host_id[NAME_MAX_LEN + 1];
	struct str *peers;
	uint8_t *secret; /* of our node key, in memory of its own; NULL before it is there */
	bool is_native;
	struct way ways[WAYS_MAX];
	unsigned n_ways;
	struct derp_map derp_map; /* of a file */
	struct map_ways_conf map;
	struct client_conf conf;
};

static int fail(int code, const char *what, const char *value, const char *why)
{
	fprintf(stderr, "tunn relay: %s%s%s: %s\n", what, value[0] ? " " : "", value, why);
	return code;
}

/* ---- ways ---- */

/* DERP's own clients offer no protocol, and servers need none of them to. */
static int make_tls(struct command *cmd, const struct transport_ops *ops, struct tls_ctx **ctx_out)
{
	char error[TLS_ERROR_LEN];
	const char *const alpn[] = { ops->alpn, NULL };
	bool offers = ops == transports[0];
	struct tls_client_conf conf = { .ca_file = cmd->opts.ca_file,
		                        .alpn = offers ? alpn : NULL };

	if (cmd->opts.has_pin)
		*(cmd->opts.pin_is_raw ? &conf.raw_pin : &conf.pin) = cmd->opts.pin;
	if (tls_client_ctx_new(&conf, ctx_out, error))
		return fail(EXIT_USAGE, "TLS", "", error);
	return 0;
}

static void fill_transport(struct command *cmd, struct transport_conf *t)
{
	t->authority = cmd->place.authority;
	t->user_agent = "grpc-c-tunn/" TUNN_VERSION;
	t->derp.secret = cmd->secret;
	crypto_node_public(cmd->secret, t->derp.public.b);
}

static int add_way(struct command *cmd, const struct transport_ops *ops)
{
	struct way *w = &cmd->ways[cmd->n_ways];

	w->dial.host = cmd->place.host;
	w->dial.port = cmd->place.port;
	w->dial.fwmark = cmd->opts.fwmark;
	w->dial.bind_device = cmd->opts.bind_device;
	w->ops = ops;
	w->relay = cmd->place.authority;
	w->is_same_place = true;
	fill_transport(cmd, &w->transport);
	int rc = relay_place_proxy("relay", &cmd->place, cmd->opts.proxy, &w->dial.proxy);
	rc = rc ? EXIT_USAGE : make_tls(cmd, ops, &w->tls);
	if (rc == 0)
		cmd->n_ways++;
	return rc;
}

/* `auto`: each in the order of the list. */
static int list_ways(struct command *cmd)
{
	const char *name = cmd->opts.transport;
	bool all = strcmp(name, "auto") == 0;
	int rc = 0;

	cmd->conf.transport_is_auto = all;
	for (unsigned i = 0; transports[i] && rc == 0; i++)
		if (all || strcmp(transports[i]->name, name) == 0)
			rc = add_way(cmd, transports[i]);
	return rc;
}

/* ---- our own key ---- */

/* What others name us by, so it stays. */
static int read_own_key(struct command *cmd)
{
	char error[NODEKEY_ERROR_LEN], path[RELAY_PATH_LEN];
	struct nodekey key = { 0 };
	bool created;
	int rc;

	if (cmd->opts.key_file)
		rc = nodekey_read_file(cmd->opts.key_file, NODEKEY_SECRET, &key, error);
	else if (relay_options_place("node.key", path))
		rc = nodekey_load_or_create(path, &key, &created, error);
	else
		return fail(EXIT_USAGE, "node key", "",
		            "there is no home to keep it in (HOME): say --key-file FILE");
	if (rc == 0)
		memcpy(cmd->secret, key.key.b, KEY_LEN);
	crypto_wipe(&key, sizeof key);
	return rc == 0 ? 0 : fail(EXIT_USAGE, "node key", "", error);
}

/* A tunnel has its id; a key is made for the moment, since DERP wants one. */
static int make_key(struct command *cmd)
{
	cmd->secret = crypto_secret_new(KEY_LEN);
	if (!cmd->secret)
		return fail(EXIT_FAILED, "start", "", "out of memory");
	if (cmd->is_native)
		return read_own_key(cmd);
	crypto_node_key_new(cmd->secret);
	return 0;
}

static int read_token(struct command *cmd)
{
	cmd->token = crypto_secret_new(TOKEN_MAX_LEN + 1);
	if (!cmd->token)
		return fail(EXIT_FAILED, "start", "", "out of memory");
	return relay_options_token(&cmd->opts, cmd->place.authority, cmd->token,
	                           TOKEN_MAX_LEN + 1) ?
	                       EXIT_USAGE :
	                       0;
}

static bool is_own_key(const struct command *cmd, struct str peer)
{
	struct key own, key;

	crypto_node_public(cmd->secret, own.b);
	return cmd->is_native && key_of_peer(STR(""), peer, &key) == 0 && key_eq(&key, &own);
}

static int list_peers(struct command *cmd)
{
	cmd->peers = calloc(cmd->opts.peers.n, sizeof *cmd->peers);
	if (!cmd->peers)
		return fail(EXIT_FAILED, "start", "", "out of memory");
	for (unsigned i = 0; i < cmd->opts.peers.n; i++) {
		cmd->peers[i] = str_of(cmd->opts.peers.v[i]);
		if (is_own_key(cmd, cmd->peers[i]))
			return fail(EXIT_USAGE, "--peer", cmd->opts.peers.v[i],
			            "is this end's own key: name the other end");
	}
	return 0;
}

static void name_host(struct command *cmd)
{
	char host[HOST_LEN] = "";

	gethostname(host, sizeof host - 1);
	if (name_of_host(host, cmd->host_id))
		cmd->host_id[0] = 0;
}

static void fill_hello(struct command *cmd, struct hello *h)
{
	h->id = str_of(cmd->opts.id ? cmd->opts.id : "");
	h->token = str_of(cmd->token);
	h->has_instance = true;
	crypto_random(h->instance, sizeof h->instance);
	h->version = 1;
	h->bidirectional = !cmd->opts.one_way;
	h->n_peers = cmd->opts.peers.n;
	h->peers = cmd->peers;
	h->native = cmd->is_native;
}

/* A file is read before we become somebody who may not. */
static int fill_map(struct command *cmd)
{
	char error[DERP_MAP_ERROR_LEN];
	const char *source = cmd->opts.derp_map;
	bool is_file = !map_ways_is_url(source);

	if (is_file && derp_map_read(source, &cmd->derp_map, error) < 0)
		return fail(EXIT_USAGE, "--derp-map", source, error);
	cmd->map = (struct map_ways_conf){ .map = is_file ? &cmd->derp_map : NULL,
		                           .source = source,
		                           .region = cmd->opts.derp_region,
		                           .ca_file = cmd->opts.ca_file,
		                           .proxy = cmd->opts.proxy,
		                           .fwmark = cmd->opts.fwmark,
		                           .bind_device = cmd->opts.bind_device };
	fill_transport(cmd, &cmd->map.transport);
	cmd->conf.map = &cmd->map;
	return 0;
}

static int fill_uplink(struct command *cmd, struct uplink_conf *up)
{
	int rc = cmd->opts.derp_map ? fill_map(cmd) : list_ways(cmd);

	up->ways = cmd->ways;
	up->n_ways = cmd->n_ways;
	up->once = cmd->opts.once;
	name_host(cmd);
	up->fallback_id = str_of(cmd->is_native ? "" : cmd->host_id);
	fill_hello(cmd, &up->hello);
	return rc;
}

static void fill_local(const struct command *cmd, struct local_conf *local)
{
	local->port = cmd->opts.port;
	local->n_peers = cmd->opts.peers.n;
	local->listen = cmd->opts.listen;
	local->forward = cmd->opts.forward;
	local->listen_addr = cmd->opts.listen_addr;
	local->forward_host = cmd->opts.forward_host;
}

static int choose_user(struct command *cmd)
{
	struct process_user *u = &cmd->conf.user;

	if (process_user_find(cmd->opts.user, u))
		return fail(EXIT_USAGE, "--user", cmd->opts.user, "there is no such user");
	if (u->changes && geteuid() != 0) {
		log_warn("--user %s has no effect: only root can become somebody else", u->name);
		u->changes = false;
	}
	if (u->uid == 0 && !cmd->opts.user)
		log_warn("running as root, though without most of its rights: make a user "
		         "\"" PROCESS_USER "\" or name one with --user");
	return 0;
}

static int prepare(struct command *cmd)
{
	enum log_level level;
	int rc = relay_place_of("relay", cmd->opts.relay, &cmd->place) ? EXIT_USAGE : 0;

	cmd->is_native = relay_options_are_native(&cmd->opts);

	if (cmd->opts.log_level && log_level_of(cmd->opts.log_level, &level) == 0)
		log_set_level(level);
	if (rc == 0 && tls_start() < 0)
		rc = fail(EXIT_FAILED, "start", "", "out of memory");
	if (rc == 0)
		rc = make_key(cmd);
	if (rc == 0)
		rc = read_token(cmd);
	if (rc == 0)
		rc = choose_user(cmd);
	if (rc == 0)
		rc = list_peers(cmd);
	if (rc == 0)
		rc = fill_uplink(cmd, &cmd->conf.uplink);
	fill_local(cmd, &cmd->conf.local);
	cmd->conf.peers = cmd->opts.peers.v;
	sandbox_mode_of(cmd->opts.seccomp, &cmd->conf.seccomp); /* checked when read */
	return rc;
}

int relay_command(int argc, char **argv)
{
	struct command cmd = { 0 };
	bool help = false;

	if (relay_options_read(argc, argv, &cmd.opts, &help))
		return EXIT_USAGE;
	if (help)
		return 0;
	int rc = prepare(&cmd);
	if (rc == 0)
		rc = client_run(&cmd.conf);
	crypto_secret_free(cmd.token);
	crypto_secret_free(cmd.secret);
	for (unsigned i = 0; i < cmd.n_ways; i++)
		tls_ctx_unref(cmd.ways[i].tls);
	derp_map_done(&cmd.derp_map);
	free(cmd.peers);
	return rc;
}
