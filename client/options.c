#include "client/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/token.h"
#include "common/net/addr.h"
#include "common/net/proxy.h"
#include "common/transport/transport.h"

#define DEFAULT_RELAY "https://tunn.to"

/* ---- checks: NULL, or what is allowed ---- */

static const char *check_id(const char *v)
{
	return name_is_valid(str_of(v)) ?
	               NULL :
	               "an id is 1 to 63 of a-z, 0-9 and -, not beginning with -";
}

static const char *check_peer(const char *v)
{
	return peer_is_valid(str_of(v)) ?
	               NULL :
	               "a peer is ID, ACCOUNT/ID (a-z, 0-9 and -) or nodekey: and 64 hex digits";
}

static const char *check_relay(const char *v)
{
	char host[256];
	uint16_t port;

	return addr_split_host(v, 443, host, sizeof host, &port) == 0 ?
	               NULL :
	               "write https://HOST[:PORT] or HOST[:PORT], IPv6 as [::1]";
}

static const char *check_transport(const char *v)
{
	return strcmp(v, "auto") == 0 || transport_named(str_of(v)) ? NULL : "must be auto or grpc";
}

static const char *check_ip(const char *v)
{
	struct addr a;
	return addr_of_ip(v, 0, &a) == 0 ? NULL : "must be a numeric address like 127.0.0.1 or ::1";
}

static bool is_number(const char *v) { return v[strspn(v, "0123456789")] == 0; }

static const char *check_host(const char *v)
{
	char host[256];
	uint16_t port;
	struct addr a;

	if (addr_of_ip(v, 0, &a) == 0)
		return addr_is_special(&a) ? "multicast, broadcast and 0.0.0.0 are no places to forward to" :
		                             NULL;
	return !is_number(v) && !strchr(v, ':') && addr_split_host(v, 1, host, sizeof host, &port) == 0 ?
	               NULL :
	               "must be a host name or numeric address, without port";
}

static const char *check_pin(const char *v)
{
	uint8_t pin[TLS_PIN_LEN];
	return strncmp(v, "sha256:", 7) == 0 && hex_decode(str_of(v + 7), pin, sizeof pin) == 0 ?
	               NULL :
	               "must be sha256: and 64 lower-case hex digits, as tunn server prints it";
}

static const char *check_proxy(const char *v)
{
	static char error[PROXY_ERROR_LEN];
	char warning[PROXY_ERROR_LEN];
	struct proxy_conf unused;

	return strcmp(v, "none") == 0 || proxy_of_url(v, &unused, warning, error) == 0 ? NULL : error;
}

static const char *check_level(const char *v)
{
	enum log_level unused;
	return log_level_of(v, &unused) == 0 ? NULL : "must be error, warn, info or debug";
}

/* ---- the table ---- */

struct raw { /* what the table fills; the pin is decoded afterwards */
	struct relay_options o;
	const char *pin_text;
};
#define AT(field) offsetof(struct raw, o.field)

const struct opt relay_opts[] = {
	{ OPT_LIST, "peer", "ID", "the other end: ID, ACCOUNT/ID or nodekey:HEX; give it once for each "
	  "peer", AT(peers), 0, 1, PEERS_MAX, check_peer, false },
	{ OPT_TEXT, "id", "ID", "name of this end; default: the id the token is bound to, else the host "
	  "name", AT(id), 0, 0, 0, check_id, false },
	{ OPT_TEXT, "relay", "URL", "the relay, https://HOST[:PORT]; default " DEFAULT_RELAY,
	  AT(relay), 0, 0, 0, check_relay, false },
	{ OPT_TEXT, "token-file", "FILE", "read the token from FILE (0600), - for standard input; "
	  "default: the file stored for the relay's host", AT(token_file), 0, 0, 0, NULL, false },
	{ OPT_TEXT, "pin", "sha256:HEX", "trust exactly the relay with this public key (instead of chain "
	  "and name)", offsetof(struct raw, pin_text), 0, 0, 0, check_pin, false },
	{ OPT_TEXT, "ca", "FILE", "trust certificates issued by this CA (PEM), instead of the system's",
	  AT(ca_file), 0, 0, 0, NULL, false },
	{ OPT_OPTIONAL, "listen", "ADDR", "local programs send to PORT here; default: if PORT is free",
	  AT(listen), AT(listen_addr), 0, 0, check_ip, false },
	{ OPT_OPTIONAL, "forward", "HOST", "datagrams go to HOST:PORT; default: to 127.0.0.1 if PORT is "
	  "in use", AT(forward), AT(forward_host), 0, 0, check_host, false },
	{ OPT_FLAG, "one-way", NULL, "send only: peers may not send back", AT(one_way), 0, 0, 0, NULL,
	  false },
	{ OPT_TEXT, "transport", "NAME", "auto or grpc", AT(transport), 0, 0, 0, check_transport, false },
	{ OPT_TEXT, "proxy", "URL", "HTTP proxy, http://[USER:PASSWORD@]HOST[:PORT]; none: no proxy; "
	  "default: https_proxy and no_proxy", AT(proxy), 0, 0, 0, check_proxy, false },
	{ OPT_NUMBER, "fwmark", "N", "mark of our own packets, for policy routing (needs "
	  "CAP_NET_ADMIN)", AT(fwmark), 0, 1, UINT32_MAX, NULL, false },
	{ OPT_TEXT, "bind-device", "IFACE", "network device of our own connection, whatever the routes "
	  "say", AT(bind_device), 0, 0, 0, NULL, false },
	{ OPT_FLAG, "once", NULL, "end with 4 when the first connection fails", AT(once), 0, 0, 0, NULL,
	  false },
	{ OPT_TEXT, "log-level", "LEVEL", "error, warn, info or debug; default warn", AT(log_level), 0,
	  0, 0, check_level, false },
	{ OPT_END, NULL, NULL, NULL, 0, 0, 0, 0, NULL, false },
};

static const struct opt_command command = {
	.name = "relay",
	.usage = "PORT --peer ID... [options]",
	.summary = "carry UDP of a local port to a peer, through a relay",
	.text = "Carries the UDP of local port PORT to the peers named, through a relay on TCP 443. Run "
	        "the same words on both ends, each with the other's id as --peer.",
	.opts = relay_opts,
};

/* ---- reading ---- */

static int read_port(const struct opt_list *words, uint16_t *port_out)
{
	if (words->n == 0)
		return opts_fail("relay", "which port? tunn relay PORT --peer ID (WireGuard's is 51820)");
	if (words->n > 1)
		return opts_fail("relay", "\"%s\" is one word too many; one PORT is enough", words->v[1]);
	const char *v = words->v[0];
	unsigned long port = *v && is_number(v) && strlen(v) <= 5 ? strtoul(v, NULL, 10) : 0;
	if (port < 1 || port > 65535)
		return opts_fail("relay", "port must be 1 to 65535, not \"%s\"", v);
	*port_out = (uint16_t)port;
	return 0;
}

static int check_together(const struct relay_options *o)
{
	if (o->listen && o->forward)
		return opts_fail("relay", "--listen and --forward exclude each other");
	for (unsigned i = 0; i < o->peers.n; i++)
		for (unsigned k = 0; k < i; k++)
			if (strcmp(o->peers.v[i], o->peers.v[k]) == 0)
				return opts_fail("relay", "--peer %s is given twice", o->peers.v[i]);
	for (unsigned i = 0; o->id && i < o->peers.n; i++)
		if (strcmp(o->peers.v[i], o->id) == 0)
			return opts_fail("relay", "--peer %s is this end's own id: name the other end",
			                 o->id);
	return 0;
}

int relay_options_read(int argc, char **argv, struct relay_options *opts_out, bool *help_out)
{
	struct raw raw = { .o = { .relay = DEFAULT_RELAY, .transport = "auto", .log_level = "warn" } };
	struct opt_list words = { 0 };
	int rc = opts_read(&command, argc, argv, &raw, &words, help_out);

	if (rc < 0 || *help_out)
		return rc;
	raw.o.relay_is_default = strcmp(raw.o.relay, DEFAULT_RELAY) == 0;
	if (raw.pin_text) {
		raw.o.has_pin = true;
		hex_decode(str_of(raw.pin_text + 7), raw.o.pin, TLS_PIN_LEN);
	}
	rc = read_port(&words, &raw.o.port);
	free(words.v);
	if (rc == 0)
		rc = check_together(&raw.o);
	if (rc == 0)
		*opts_out = raw.o;
	return rc;
}

/* ---- the token ---- */

static int bad_token(const char *from, const char *why)
{
	return opts_fail("relay", "token from %s: %s", from, why);
}

/* One line; surrounding blanks do not count. Wipes nothing: `text` is the caller's. */
static int take_token(const char *from, char *text, char *token_out, size_t cap)
{
	size_t len = strlen(text);

	while (len && strchr(" \t\r\n", text[len - 1]))
		len--;
	size_t skip = strspn(text, " \t");
	if (skip > len)
		skip = len;
	if (len == skip)
		return bad_token(from, "it is empty");
	if (memchr(text + skip, '\n', len - skip))
		return bad_token(from, "more than one line");
	if (len - skip >= cap || token_check((struct str){ text + skip, len - skip }) < 0)
		return bad_token(from, "malformed token (tunn_ID_SECRET_CRC): copied in full?");
	memcpy(token_out, text + skip, len - skip);
	token_out[len - skip] = 0;
	return 0;
}

static int token_of_fd(int fd, const char *from, char *token_out, size_t cap)
{
	char text[1024];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof text - 1 && (n = read(fd, text + len, sizeof text - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = 0;
	int rc = strlen(text) != len ? bad_token(from, "it holds NUL bytes") :
	                               take_token(from, text, token_out, cap);
	crypto_wipe(text, sizeof text);
	return rc;
}

static int token_of_file(const char *path, char *token_out, size_t cap)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

	if (fd < 0)
		return bad_token(path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		rc = bad_token(path, "not a regular file");
	else if (st.st_mode & 077)
		rc = bad_token(path, "its permissions are too open: chmod 600 it");
	else
		rc = token_of_fd(fd, path, token_out, cap);
	close(fd);
	return rc;
}

static int token_of_env(char *value, char *token_out, size_t cap)
{
	int rc = take_token("TUNN_TOKEN", value, token_out, cap);

	crypto_wipe(value, strlen(value)); /* what /proc/PID/environ shows */
	unsetenv("TUNN_TOKEN");
	return rc;
}

static void stored_path(const char *host, char *out, size_t cap)
{
	const char *dir = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (dir && *dir)
		snprintf(out, cap, "%s/tunn/tokens/%s", dir, host);
	else
		snprintf(out, cap, "%s/.config/tunn/tokens/%s", home ? home : "", host);
}

int relay_options_token(const struct relay_options *o, const char *relay_host, char *token_out,
                        size_t cap)
{
	char path[1024], *env = getenv("TUNN_TOKEN");

	token_out[0] = 0;
	stored_path(relay_host, path, sizeof path);
	bool given = o->token_file ? strcmp(o->token_file, path) != 0 : env != NULL;
	if (given && o->relay_is_default)
		return opts_fail("relay", "for which relay is this token? Give --relay %s if it is the "
		                          "hosted one; a token is never sent there by default",
		                 DEFAULT_RELAY);
	if (o->token_file && strcmp(o->token_file, "-") == 0)
		return token_of_fd(STDIN_FILENO, "standard input", token_out, cap);
	if (o->token_file)
		return token_of_file(o->token_file, token_out, cap);
	if (env)
		return token_of_env(env, token_out, cap);
	return access(path, F_OK) == 0 ? token_of_file(path, token_out, cap) : 0;
}
