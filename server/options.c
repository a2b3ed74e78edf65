#include "server/options.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/key.h"
#include "common/base/log.h"
#include "common/net/addr.h"
#include "server/state.h"

enum { LISTEN_MAX = 16, NAMES_MAX = 32, DRAIN_MAX_MS = 8000, DRAIN_MS = 2000 };

static const char *check_listen(const char *v)
{
	struct addr a;
	bool any;

	return addr_of_listen(v, &a, &any) == 0 ?
	               NULL :
	               "write ADDR:PORT, [IPv6]:PORT or :PORT; a port is 1 to 65535 (0: any free one)";
}

static const char *check_name(const char *v)
{
	char host[256];
	uint16_t port;
	struct addr a;

	return addr_of_ip(v, 0, &a) == 0 || (!strchr(v, ':') &&
	                                     addr_split_host(v, 1, host, sizeof host, &port) == 0) ?
	               NULL :
	               "must be a host name or numeric address, without port";
}

static const char *check_node(const char *v)
{
	return name_is_valid(str_of(v)) ? NULL : "a node name is 1 to 63 of a-z, 0-9 and -";
}

static const char *check_level(const char *v)
{
	enum log_level unused;
	return log_level_of(v, &unused) == 0 ? NULL : "must be error, warn, info or debug";
}

#define AT(field) offsetof(struct server_options, field)

const struct opt server_opts[] = {
	{ OPT_LIST, "listen", "ADDR:PORT", "where to listen, several times; default :443 on IPv4 and "
	  "IPv6", AT(listen), 0, 0, LISTEN_MAX, check_listen, false },
	{ OPT_TEXT, "cert", "FILE", "certificate chain (PEM, leaf first); default: one of our own in the "
	  "state directory", AT(cert), 0, 0, 0, NULL, false },
	{ OPT_TEXT, "key", "FILE", "private key of --cert (PEM, 0600)", AT(key), 0, 0, 0, NULL, false },
	{ OPT_TEXT, "state", "DIR", "accounts and own certificate; default /var/lib/tunn for root",
	  AT(state), 0, 0, 0, NULL, false },
	{ OPT_LIST, "name", "HOST", "name or address that clients use, several times: goes into the own "
	  "certificate and the command line printed", AT(names), 0, 0, NAMES_MAX, check_name, false },
	{ OPT_TEXT, "node", "NAME", "name of this relay in logs; default: the host name", AT(node), 0, 0,
	  0, check_node, false },
	{ OPT_FLAG, "open", NULL, "no token needed; only on loopback", AT(open), 0, 0, 0, NULL, false },
	{ OPT_FLAG, "open-to-everyone", NULL, "with --open: also on other addresses",
	  AT(open_to_everyone), 0, 0, 0, NULL, false },
	{ OPT_DURATION, "drain", "TIME", "how long ends may take to leave on SIGTERM; default 2s, at "
	  "most 8s", AT(drain_ms), 0, 0, DRAIN_MAX_MS, NULL, false },
	{ OPT_TEXT, "log-level", "LEVEL", "error, warn, info or debug; default info", AT(log_level), 0,
	  0, 0, check_level, false },
	{ OPT_END, NULL, NULL, NULL, 0, 0, 0, 0, NULL, false },
};

static const struct opt_command command = {
	.name = "server",
	.usage = "[options]",
	.summary = "run a relay",
	.text = "Runs a relay. The first start makes a certificate, an account and a token, and prints "
	        "the command line for the clients. SIGTERM tells the ends to leave and stops; SIGHUP "
	        "reads config and certificate again.",
	.opts = server_opts,
};

static bool is_loopback(const char *listen)
{
	struct addr a;
	bool any;

	return addr_of_listen(listen, &a, &any) == 0 && !any && addr_is_loopback(&a);
}

static int check_together(const struct server_options *o)
{
	if (!o->cert != !o->key)
		return opts_fail("server", "--cert and --key belong together: give both or none");
	for (unsigned i = 0; i < o->listen.n; i++)
		for (unsigned k = 0; k < i; k++)
			if (strcmp(o->listen.v[i], o->listen.v[k]) == 0 &&
			    strcmp(strrchr(o->listen.v[i], ':') ? strrchr(o->listen.v[i], ':') : "", ":0"))
				return opts_fail("server", "--listen %s is given twice", o->listen.v[i]);
	for (unsigned i = 0; o->open && !o->open_to_everyone && i < o->listen.n; i++)
		if (!is_loopback(o->listen.v[i]))
			return opts_fail("server", "--open lets everybody in who reaches %s: listen on "
			                           "127.0.0.1, or add --open-to-everyone",
			                 o->listen.v[i]);
	if (o->open_to_everyone && !o->open)
		return opts_fail("server", "--open-to-everyone means nothing without --open");
	return 0;
}

static const char *default_node(void)
{
	static char name[NAME_MAX_LEN + 1];
	char host[256] = "";

	gethostname(host, sizeof host - 1);
	return name_of_host(host, name) == 0 ? name : "relay";
}

int server_options_read(int argc, char **argv, struct server_options *opts_out, bool *help_out)
{
	struct server_options o = { .drain_ms = DRAIN_MS, .log_level = "info" };
	struct opt_list words = { 0 };
	int rc = opts_read(&command, argc, argv, &o, &words, help_out);

	if (rc < 0 || *help_out)
		return rc;
	if (words.n)
		return opts_fail("server", "\"%s\" is not an option; addresses go with --listen",
		                 words.v[0]);
	if (o.listen.n == 0) {
		static const char *everywhere[] = { ":443" };
		o.listen = (struct opt_list){ everywhere, 1 };
	}
	if (!o.state)
		o.state = state_default_dir();
	if (!o.node)
		o.node = default_node();
	rc = check_together(&o);
	if (rc == 0)
		*opts_out = o;
	return rc;
}
