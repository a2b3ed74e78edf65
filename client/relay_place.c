#include "client/relay_place.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/opts.h"
#include "common/net/addr.h"

enum { DEFAULT_PORT = 443 };

int relay_place_of(const char *command, const char *relay, struct relay_place *p)
{
	if (addr_split_host(relay, DEFAULT_PORT, p->host, sizeof p->host, &p->port))
		return opts_fail(command, "--relay %s: takes https://HOST[:PORT] or HOST[:PORT]",
		                 relay);
	bool v6 = strchr(p->host, ':') != NULL;
	int n = snprintf(p->authority, sizeof p->authority, "%s%s%s", v6 ? "[" : "", p->host,
	                 v6 ? "]" : "");
	if (p->port != DEFAULT_PORT)
		snprintf(p->authority + n, sizeof p->authority - (size_t)n, ":%u", p->port);
	return 0;
}

int relay_place_proxy(const char *command, const struct relay_place *p, const char *option,
                      struct proxy_conf *proxy_out)
{
	char warning[PROXY_ERROR_LEN] = "", error[PROXY_ERROR_LEN] = "";

	if (proxy_choose(option, p->host, p->port, proxy_out, warning, error))
		return opts_fail(command, "proxy: %s", error);
	if (proxy_out->used && proxy_out->port == p->port &&
	    strcasecmp(proxy_out->host, p->host) == 0)
		return opts_fail(command,
		                 "proxy %s: is the relay itself (--proxy, https_proxy); a proxy is "
		                 "another program",
		                 p->authority);
	if (warning[0])
		fprintf(stderr, "tunn %s: %s\n", command, warning);
	return 0;
}
