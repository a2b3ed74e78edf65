#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/command.h"
#include "client/login.h"
#include "client/options.h"
#include "client/options_impl.h"
#include "client/relay_place.h"
#include "client/token_file.h"
#include "common/base/crypto.h"
#include "common/base/opts.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct login_options {
	const char *relay, *id, *pin, *ca_file, *proxy;
	bool force;
};

#define AT(field) .offset = offsetof(struct login_options, field)

static const struct opt login_opts[] = {
	{ .kind = OPT_TEXT,
	  .name = "relay",
	  .arg = "URL",
	  AT(relay),
	  .check = option_check_relay,
	  .help = "the relay, https://HOST[:PORT] or HOST[:PORT]; default: " DEFAULT_RELAY },
	{ .kind = OPT_TEXT,
	  .name = "id",
	  .arg = "ID",
	  AT(id),
	  .check = option_check_id,
	  .help = "the tunnel id that the token is for, and no other; default: the host name" },
	{ .kind = OPT_TEXT,
	  .name = "pin",
	  .arg = "sha256:HEX",
	  AT(pin),
	  .check = option_check_pin,
	  .help = "trust the relay with this public key, as for tunn relay" },
	{ .kind = OPT_TEXT,
	  .name = "ca",
	  .arg = "FILE",
	  AT(ca_file),
	  .help = "trust the certificates of this CA (PEM) instead of the system's" },
	{ .kind = OPT_TEXT,
	  .name = "proxy",
	  .arg = "URL",
	  .traits = OPT_PRIVATE,
	  AT(proxy),
	  .check = option_check_proxy,
	  .help = "HTTP proxy, http://[USER:PASSWORD@]HOST[:PORT], or none; default: https_proxy and "
	          "no_proxy of the environment" },
	{ .kind = OPT_FLAG,
	  .name = "force",
	  AT(force),
	  .help = "replace the token that is stored for this relay" },
	{ .kind = OPT_END },
};

static const struct opt_command command = {
	.name = "login",
	.usage = "[--relay URL] [--id ID] [options]",
	.summary = "get a token from a relay by approving a code in a browser",
	.text = "Shows an address and a code. Once somebody who has a token of the account has approved "
	        "the code there, on any machine, a token for this tunnel id is stored where tunn relay "
	        "looks for it.",
	.opts = login_opts,
	.file_of = relay_opts,
};

struct task { /* of one run */
	struct login_options o;
	struct relay_place place;
	struct proxy_conf proxy;
	char id[NAME_MAX_LEN + 1], host[NAME_MAX_LEN + 1], path[TOKEN_PATH_LEN];
	struct tls_ctx *tls;
};

/* The machine's name, for whoever approves: letters, digits, dots and dashes. */
static void name_host(char out[static NAME_MAX_LEN + 1])
{
	gethostname(out, NAME_MAX_LEN);
	out[NAME_MAX_LEN] = 0;
	for (char *p = out; *p; p++)
		if (!(*p >= '0' && *p <= '9') && !((*p | 32) >= 'a' && (*p | 32) <= 'z') &&
		    !strchr("-._", *p))
			*p = '-';
	if (!out[0])
		memcpy(out, "unnamed", sizeof "unnamed");
}

static int choose_id(struct task *t)
{
	if (t->o.id)
		snprintf(t->id, sizeof t->id, "%s", t->o.id);
	else if (name_of_host(t->host, t->id))
		return opts_fail("login", "--id is missing: the host name %s is no tunnel id",
		                 opts_quote(t->host).s);
	return 0;
}

/* Before anybody is bothered. */
static int choose_file(struct task *t)
{
	token_file_path(t->place.authority, t->path);
	if (!t->path[0])
		return opts_fail("login", "no place for the token: set HOME or XDG_CONFIG_HOME");
	if (!t->o.force && access(t->path, F_OK) == 0)
		return opts_fail("login", "%s holds a token already: --force replaces it", t->path);
	return 0;
}

static int make_tls(struct task *t)
{
	char error[TLS_ERROR_LEN];
	uint8_t pin[TLS_PIN_LEN];
	bool is_raw = false;
	struct tls_client_conf conf = { .ca_file = t->o.ca_file };

	if (t->o.pin) {
		option_pin(t->o.pin, pin, &is_raw);
		*(is_raw ? &conf.raw_pin : &conf.pin) = pin;
	}
	if (tls_start() < 0)
		return opts_fail("login", "out of memory");
	return tls_client_ctx_new(&conf, &t->tls, error) ? opts_fail("login", "TLS: %s", error) : 0;
}

static int prepare(struct task *t)
{
	int rc = relay_place_of("login", t->o.relay ? t->o.relay : DEFAULT_RELAY, &t->place);

	name_host(t->host);
	if (rc == 0)
		rc = choose_id(t);
	if (rc == 0)
		rc = choose_file(t);
	if (rc == 0)
		rc = relay_place_proxy("login", &t->place, t->o.proxy, &t->proxy);
	return rc == 0 ? make_tls(t) : rc;
}

static void say_next(const struct task *t)
{
	printf("tunn: next: tunn relay 51820 --peer OTHER-ID");
	if (t->o.relay)
		printf(" --relay https://%s", t->place.authority);
	if (t->o.pin)
		printf(" --pin %s", t->o.pin);
	if (t->o.ca_file)
		printf(" --ca %s", t->o.ca_file);
	printf("\n");
}

static int store(const struct task *t, const struct login_result *r)
{
	int rc = token_file_write(t->path, r->token, t->o.force);

	if (rc == -EEXIST)
		return opts_fail("login", "%s appeared meanwhile: run it again with --force",
		                 t->path);
	if (rc < 0)
		return opts_fail("login", "cannot write %s: %s", t->path, strerror(-rc));
	printf("tunn: the token for the tunnel id %s of account %s is in %s\n", t->id, r->account,
	       t->path);
	say_next(t);
	return 0;
}

int login_command(int argc, char **argv)
{
	struct task t = { 0 };
	struct login_result *result = NULL;
	bool help;

	if (opts_read(&command, argc, argv, &t.o, NULL, &help))
		return EXIT_USAGE;
	if (help)
		return 0;
	int rc = prepare(&t) ? EXIT_USAGE : 0;
	if (rc == 0 && (result = crypto_secret_new(sizeof *result)) == NULL)
		rc = EXIT_FAILED;
	if (rc == 0) {
		const struct login_conf conf = { .authority = t.place.authority,
			                         .id = t.id,
			                         .host = t.host,
			                         .tls = t.tls,
			                         .proxy = &t.proxy };
		rc = login_run(&conf, result);
	}
	if (rc == 0 && store(&t, result))
		rc = EXIT_FAILED;
	crypto_secret_free(result);
	tls_ctx_unref(t.tls);
	crypto_wipe(&t.proxy, sizeof t.proxy);
	return rc;
}
