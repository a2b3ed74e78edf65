#include "client/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "client/client.h"
#include "client/options.h"
#include "common/base/crypto.h"
#include "common/base/log.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, DEFAULT_PORT = 443, HOST_LEN = 256 };

struct command { /* everything that must live while the client runs */
	struct relay_options opts;
	char host[HOST_LEN];
	uint16_t port;
	char authority[HOST_LEN + 10];
	char *token; /* for every reconnect, in memory of its own; NULL before it is read */
	char host_id[NAME_MAX_LEN + 1];
	struct str *peers;
	const char *alpn[2]; /* ends with NULL */
	struct tls_ctx *tls;
	const struct transport_ops *ops;
	struct client_conf conf;
};

static int fail(int code, const char *what, const char *value, const char *why)
{
	fprintf(stderr, "tunn relay: %s%s%s: %s\n", what, value[0] ? " " : "", value, why);
	return code;
}

static int read_relay(struct command *cmd)
{
	const char *relay = cmd->opts.relay;

	if (addr_split_host(relay, DEFAULT_PORT, cmd->host, sizeof cmd->host, &cmd->port))
		return fail(EXIT_USAGE, "--relay", relay,
		            "takes https://HOST[:PORT] or HOST[:PORT]");
	bool v6 = strchr(cmd->host, ':') != NULL;
	int n = snprintf(cmd->authority, sizeof cmd->authority, "%s%s%s", v6 ? "[" : "", cmd->host,
	                 v6 ? "]" : "");
	if (cmd->port != DEFAULT_PORT)
		snprintf(cmd->authority + n, sizeof cmd->authority - (size_t)n, ":%u", cmd->port);
	return 0;
}

/* `auto` will walk the list once there is more to choose from than one that works
 * everywhere; for now it means the first. */
static int choose_transport(struct command *cmd)
{
	const char *name = cmd->opts.transport;

	cmd->conf.transport_is_auto = strcmp(name, "auto") == 0;
	cmd->ops = cmd->conf.transport_is_auto ? transports[0] : transport_named(str_of(name));
	return cmd->ops ? 0 : fail(EXIT_USAGE, "--transport", name, "not known here");
}

static int make_tls(struct command *cmd)
{
	char error[TLS_ERROR_LEN];
	struct tls_client_conf conf = { .ca_file = cmd->opts.ca_file, .alpn = cmd->alpn };

	if (cmd->opts.has_pin)
		*(cmd->opts.pin_is_raw ? &conf.raw_pin : &conf.pin) = cmd->opts.pin;

	cmd->alpn[0] = cmd->ops->alpn;
	if (tls_start() < 0)
		return fail(EXIT_FAILED, "start", "", "out of memory");
	if (tls_client_ctx_new(&conf, &cmd->tls, error))
		return fail(EXIT_USAGE, "TLS", "", error);
	return 0;
}

static int choose_proxy(struct command *cmd, struct proxy_conf *proxy_out)
{
	char warning[PROXY_ERROR_LEN] = "", error[PROXY_ERROR_LEN] = "";

	if (proxy_choose(cmd->opts.proxy, cmd->host, cmd->port, proxy_out, warning, error))
		return fail(EXIT_USAGE, "proxy", "", error);
	if (proxy_out->used && proxy_out->port == cmd->port &&
	    strcasecmp(proxy_out->host, cmd->host) == 0)
		return fail(EXIT_USAGE, "proxy", cmd->authority,
		            "is the relay itself (--proxy, https_proxy); a proxy is another program");
	if (warning[0])
		fprintf(stderr, "tunn relay: %s\n", warning);
	return 0;
}

static int read_token(struct command *cmd)
{
	cmd->token = crypto_secret_new(TOKEN_MAX_LEN + 1);
	if (!cmd->token)
		return fail(EXIT_FAILED, "start", "", "out of memory");
	return relay_options_token(&cmd->opts, cmd->host, cmd->token, TOKEN_MAX_LEN + 1) ?
	                       EXIT_USAGE :
	                       0;
}

static int list_peers(struct command *cmd)
{
	cmd->peers = calloc(cmd->opts.peers.n, sizeof *cmd->peers);
	if (!cmd->peers)
		return fail(EXIT_FAILED, "start", "", "out of memory");
	for (unsigned i = 0; i < cmd->opts.peers.n; i++)
		cmd->peers[i] = str_of(cmd->opts.peers.v[i]);
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
}

static int fill_uplink(struct command *cmd, struct uplink_conf *up)
{
	up->dial.host = cmd->host;
	up->dial.port = cmd->port;
	up->dial.fwmark = cmd->opts.fwmark;
	up->dial.bind_device = cmd->opts.bind_device;
	up->tls = cmd->tls;
	up->ops = cmd->ops;
	up->transport.authority = cmd->authority;
	up->transport.user_agent = "grpc-c-tunn/" TUNN_VERSION;
	up->once = cmd->opts.once;
	name_host(cmd);
	up->fallback_id = str_of(cmd->host_id);
	fill_hello(cmd, &up->hello);
	return choose_proxy(cmd, &up->dial.proxy);
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
	int rc = read_relay(cmd);

	if (cmd->opts.log_level && log_level_of(cmd->opts.log_level, &level) == 0)
		log_set_level(level);
	if (rc == 0)
		rc = choose_transport(cmd);
	if (rc == 0)
		rc = make_tls(cmd);
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
	cmd->conf.relay = cmd->authority;
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
	tls_ctx_unref(cmd.tls);
	free(cmd.peers);
	return rc;
}
