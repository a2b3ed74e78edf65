#include "common/net/proxy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/crypto.h"
#include "common/base/opts.h"
#include "common/net/addr.h"
#include "common/wire/http1.h"

enum {
	DEFAULT_PORT = 443,
	URL_LEN = 1024,
	REQUEST_LEN = 2048,
	TLS_ALERT = 21, /* RFC 8446 5.1: types of records */
	TLS_HANDSHAKE = 22,
};

struct proxy {
	struct proxy_conf conf;
	char target[300];
	struct http1 *http;
	enum close_why why;
	int first;                            /* byte of the answer, -1: none yet */
	char text[2 * PROXY_ERROR_LEN + 600]; /* two hosts of 255 and the words */
};

/* ---- which proxy ---- */

static int percent_decode(const char *from, size_t len, char *to, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = from[i];
		if (c == '%') {
			char hex[3] = { i + 1 < len ? from[i + 1] : 0,
				        i + 2 < len ? from[i + 2] : 0, 0 };
			if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1]))
				return ERR_CONFIG;
			c = (char)strtol(hex, NULL, 16);
			i += 2;
		}
		if (c == 0 || n + 1 >= cap)
			return ERR_CONFIG;
		to[n++] = c;
	}
	to[n] = 0;
	return 0;
}

/* `user:pass` in front of the last @. */
static int take_login(const char *text, size_t len, struct proxy_conf *c)
{
	const char *colon = memchr(text, ':', len);
	size_t user_len = colon ? (size_t)(colon - text) : len;

	if (percent_decode(text, user_len, c->user, sizeof c->user) < 0)
		return ERR_CONFIG;
	if (!colon)
		return 0;
	return percent_decode(colon + 1, len - user_len - 1, c->password, sizeof c->password);
}

static int bad_url(char error_out[static PROXY_ERROR_LEN], const char *why)
{
	/* The URL may hold a password: it is not repeated. */
	snprintf(error_out, PROXY_ERROR_LEN,
	         "proxy URL %s; write http://[USER:PASSWORD@]HOST[:PORT]", why);
	return ERR_CONFIG;
}

int proxy_of_url(const char *url, struct proxy_conf *conf_out,
                 char warn_out[static PROXY_ERROR_LEN], char error_out[static PROXY_ERROR_LEN])
{
	struct proxy_conf c = { .used = true };
	const char *scheme_end = strstr(url, "://"), *rest = url;

	warn_out[0] = 0;
	if (scheme_end && (scheme_end - url != 4 || strncasecmp(url, "http", 4) != 0))
		return bad_url(error_out, "has a scheme that is not supported (only http)");
	if (scheme_end)
		rest = scheme_end + 3;
	else
		snprintf(warn_out, PROXY_ERROR_LEN,
		         "the proxy is given without a scheme, http:// is assumed");
	const char *at = strrchr(rest, '@');
	if (strstr(at ? at + 1 : rest, "://")) /* addr_split_host() takes https:// */
		return bad_url(error_out, "has two schemes");
	if (at && take_login(rest, (size_t)(at - rest), &c) < 0)
		return bad_url(error_out,
		               "has a login that cannot be read (percent-encode @ : / %)");
	if (addr_split_host(at ? at + 1 : rest, DEFAULT_PORT, c.host, sizeof c.host, &c.port) < 0)
		return bad_url(error_out, "has no usable host and port");
	*conf_out = c;
	return 0;
}

/* Digits up to `end`; -1 for anything else. */
static int number(const char *text, const char *end)
{
	int v = 0;

	if (text == end || end - text > 5)
		return -1;
	for (; text < end; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		v = v * 10 + *text - '0';
	}
	return v;
}

struct network { /* ADDRESS/BITS */
	int family, bits;
	uint8_t ip[16];
};

static int network_of(const char *text, size_t len, struct network *net_out)
{
	char ip[64];
	const char *slash = memchr(text, '/', len);
	size_t ip_len = slash ? (size_t)(slash - text) : 0;

	if (!slash || ip_len >= sizeof ip)
		return ERR_INVALID;
	memcpy(ip, text, ip_len);
	ip[ip_len] = 0;
	net_out->family = strchr(ip, ':') ? AF_INET6 : AF_INET;
	net_out->bits = number(slash + 1, text + len);
	if (net_out->bits < 0 || net_out->bits > (net_out->family == AF_INET ? 32 : 128) ||
	    inet_pton(net_out->family, ip, net_out->ip) != 1)
		return ERR_INVALID;
	return 0;
}

static bool in_network(const char *entry, size_t len, const char *host)
{
	struct network net;
	uint8_t ip[16];

	if (network_of(entry, len, &net) < 0 || inet_pton(net.family, host, ip) != 1)
		return false;
	for (int i = 0; i < net.bits; i++)
		if ((net.ip[i / 8] ^ ip[i / 8]) & 0x80 >> i % 8)
			return false;
	return true;
}

/* An address is covered by itself alone: 0.0.1 is no suffix of 127.0.0.1. */
static bool address_matches(const char *pattern, size_t len, const struct addr *host)
{
	char ip[64];
	struct addr a;

	if (len >= sizeof ip)
		return false;
	memcpy(ip, pattern, len);
	ip[len] = 0;
	return addr_of_ip(ip, 0, &a) == 0 && addr_eq(&a, host);
}

static bool host_matches(const char *pattern, size_t len, const char *host)
{
	size_t host_len = strlen(host);

	if (host_len && host[host_len - 1] == '.')
		host_len--;
	if (len && pattern[0] == '.') { /* .corp covers corp and everything below */
		pattern++;
		len--;
	}
	if (len && pattern[len - 1] == '.')
		len--;
	if (len == 0 || len > host_len || strncasecmp(host + host_len - len, pattern, len) != 0)
		return false;
	return len == host_len || host[host_len - len - 1] == '.';
}

static bool entry_matches(const char *entry, size_t len, const char *host, uint16_t port)
{
	const char *colon;
	struct addr ip;

	if (len == 1 && entry[0] == '*')
		return true;
	if (in_network(entry, len, host))
		return true;
	colon = memrchr(entry, ':', len);
	if (colon && (memchr(entry, ':', len) == colon || colon[-1] == ']')) { /* not bare IPv6 */
		if (number(colon + 1, entry + len) != port)
			return false;
		len = (size_t)(colon - entry);
	}
	if (len > 1 && entry[0] == '[' && entry[len - 1] == ']') {
		entry++;
		len -= 2;
	}
	return addr_of_ip(host, 0, &ip) == 0 ? address_matches(entry, len, &ip) :
	                                       host_matches(entry, len, host);
}

static const char *next_entry(const char *list, size_t *len_out)
{
	static const char separators[] = ", \t";

	list += strspn(list, separators);
	*len_out = strcspn(list, separators);
	return *len_out ? list : NULL;
}

bool proxy_is_bypassed(const char *no_proxy, const char *host, uint16_t port)
{
	size_t len;

	for (const char *p = no_proxy; p && (p = next_entry(p, &len)); p += len)
		if (entry_matches(p, len, host, port))
			return true;
	return false;
}

/* Names the first entry that is written as a network and is none. */
static void warn_of_networks(const char *no_proxy, char warn_out[static PROXY_ERROR_LEN])
{
	struct network unused;
	char entry[64];
	size_t len;

	for (const char *p = no_proxy; p && (p = next_entry(p, &len)); p += len) {
		if (!memchr(p, '/', len) || network_of(p, len, &unused) == 0)
			continue;
		snprintf(entry, sizeof entry, "%.*s", (int)len, p);
		snprintf(warn_out, PROXY_ERROR_LEN,
		         "no_proxy: %s is no network (ADDRESS/BITS): left out",
		         opts_quote(entry).s);
		return;
	}
}

static const char *env_either(const char *lower, const char *upper)
{
	const char *v = getenv(lower);

	if (!v || !*v)
		v = getenv(upper);
	return v && *v ? v : NULL;
}

int proxy_choose(const char *flag, const char *host, uint16_t port, struct proxy_conf *conf_out,
                 char warn_out[static PROXY_ERROR_LEN], char error_out[static PROXY_ERROR_LEN])
{
	const char *no_proxy = env_either("no_proxy", "NO_PROXY");
	const char *url = flag ? flag : env_either("https_proxy", "HTTPS_PROXY");
	char warning[PROXY_ERROR_LEN];

	*conf_out = (struct proxy_conf){ 0 };
	warn_out[0] = 0;
	if (!url || (flag && strcmp(flag, "none") == 0))
		return 0;
	if (!flag) {
		warn_of_networks(no_proxy, warn_out);
		if (proxy_is_bypassed(no_proxy, host, port))
			return 0;
	}
	int rc = proxy_of_url(url, conf_out, warning, error_out);
	if (warning[0] && !warn_out[0]) /* one is enough to look there */
		memcpy(warn_out, warning, sizeof warning);
	return rc;
}

/* ---- CONNECT (RFC 9110 9.3.6) ---- */

int proxy_new(const struct proxy_conf *conf, const char *host, uint16_t port,
              struct proxy **proxy_out)
{
	struct proxy *p = calloc(1, sizeof *p);
	bool v6 = strchr(host, ':') != NULL;

	if (!p)
		return -ENOMEM;
	p->conf = *conf;
	p->first = -1;
	snprintf(p->target, sizeof p->target, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "",
	         port);
	if (http1_new(&p->http) < 0) {
		proxy_free(p);
		return -ENOMEM;
	}
	*proxy_out = p;
	return 0;
}

void proxy_free(struct proxy *p)
{
	if (!p)
		return;
	http1_free(p->http);
	crypto_wipe(&p->conf, sizeof p->conf);
	free(p);
}

/* Basic (RFC 7617): sent at once, since the user configured it for this proxy. */
static int put_login(const struct proxy *p, struct buf *out)
{
	char login[sizeof p->conf.user + sizeof p->conf.password];
	char base64[2 * sizeof login];

	if (!p->conf.user[0])
		return 0;
	int n = snprintf(login, sizeof login, "%s:%s", p->conf.user, p->conf.password);
	crypto_base64((const uint8_t *)login, (size_t)n, base64, sizeof base64);
	int rc = buf_add(out, "Proxy-Authorization: Basic ", 27);
	rc = rc == 0 ? buf_add(out, base64, strlen(base64)) : rc;
	rc = rc == 0 ? buf_add(out, "\r\n", 2) : rc;
	crypto_wipe(login, sizeof login);
	crypto_wipe(base64, sizeof base64);
	return rc;
}

int proxy_request(struct proxy *p, struct buf *out)
{
	char text[REQUEST_LEN];
	int n = snprintf(text, sizeof text,
	                 "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: tunn/" TUNN_VERSION "\r\n"
	                 "Proxy-Connection: keep-alive\r\n",
	                 p->target, p->target);

	int rc = buf_add(out, text, (size_t)n);
	rc = rc == 0 ? put_login(p, out) : rc;
	return rc == 0 ? buf_add(out, "\r\n", 2) : rc;
}

__attribute__((format(printf, 3, 4))) static int refused(struct proxy *p, enum close_why why,
                                                         const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(p->text, sizeof p->text, "proxy %s:%u, asked for %s: ", p->conf.host,
	                 p->conf.port, p->target);

	va_start(ap, fmt);
	vsnprintf(p->text + n, sizeof p->text - (size_t)n, fmt, ap);
	va_end(ap);
	p->why = why;
	return ERR_CLOSED;
}

/* The schemes of a Proxy-Authenticate list: words followed by a blank or the
 * end, outside quotes, that are not parameters. */
static void schemes_of(const char *list, char *out, size_t cap)
{
	bool quoted = false, at_start = true;
	size_t n = 0;

	for (; *list && n + 3 < cap; list++) {
		if (*list == '"')
			quoted = !quoted;
		if (quoted || *list == '"')
			continue;
		if (*list == ',' || isspace((unsigned char)*list)) {
			at_start = at_start || *list == ',';
			continue;
		}
		size_t len = strcspn(list, " ,=\t");
		if (at_start && list[len] != '=' && n + len + 3 < cap) {
			n += (size_t)snprintf(out + n, cap - n, "%s%.*s", n ? ", " : "", (int)len,
			                      list);
		}
		at_start = false;
		list += len ? len - 1 : 0;
	}
	out[n] = 0;
}

static int wants_login(struct proxy *p, const struct http1_head *head)
{
	char schemes[200] = "";

	schemes_of(head->proxy_authenticate, schemes, sizeof schemes);
	if (schemes[0] && !strcasestr(schemes, "Basic"))
		return refused(p, CLOSE_PROXY_DENIED,
		               "wants a login (407) and offers %s, but we speak Basic only: a "
		               "program such as cntlm can stand in between",
		               schemes);
	if (p->conf.user[0])
		return refused(p, CLOSE_PROXY_DENIED,
		               "the login was not accepted (407); it is not tried again");
	if (!schemes[0])
		return refused(p, CLOSE_PROXY_DENIED,
		               "wants a login (407) but does not say which kind");
	return refused(p, CLOSE_PROXY_DENIED,
	               "wants a login (407, offers %s): --proxy http://USER:PASSWORD@%s:%u",
	               schemes, p->conf.host, p->conf.port);
}

/* The host and port of a Location; "" where it has none. */
static const char *host_of(const char *url, int *len_out)
{
	const char *host = url + strcspn(url, ":/?#"), *at;

	if (strncmp(host, "://", 3) == 0)
		host += 3;
	else if (strncmp(url, "//", 2) == 0)
		host = url + 2;
	else
		host = url;
	size_t len = strcspn(host, "/?#");
	at = memrchr(host, '@', len); /* behind a login, which is nobody's business */
	if (at) {
		len -= (size_t)(at + 1 - host);
		host = at + 1;
	}
	*len_out = (int)len;
	return host;
}

static int redirected(struct proxy *p, const struct http1_head *head)
{
	int len;
	const char *host = host_of(head->location, &len);

	if (len == 0)
		return refused(p, CLOSE_PROXY, "sends us elsewhere (%d): a login page?",
		               head->status);
	return refused(p, CLOSE_PROXY, "sends us to %.*s instead (%d): a login page?", len, host,
	               head->status);
}

static int judge(struct proxy *p, const struct http1_head *head)
{
	if (head->status >= 200 && head->status <= 299)
		return 0;
	if (head->status == 407)
		return wants_login(p, head);
	if (head->status == 403)
		return refused(p, CLOSE_PROXY_DENIED, "does not allow this target (403)");
	if (head->status >= 300 && head->status <= 399)
		return redirected(p, head);
	return refused(p, CLOSE_PROXY, "answered %d", head->status);
}

int proxy_reply(struct proxy *p, const uint8_t *data, size_t len, size_t *used_out)
{
	if (p->first < 0 && len)
		p->first = data[0];
	int rc = http1_feed(p->http, data, len, used_out);

	if (rc == ERR_AGAIN)
		return rc;
	if (rc == ERR_TOO_BIG)
		return refused(p, CLOSE_PROXY,
		               "the answer does not end (over 16 KiB or 100 lines)");
	if (rc < 0 && (p->first == TLS_ALERT || p->first == TLS_HANDSHAKE))
		return refused(p, CLOSE_PROXY,
		               "what answers speaks TLS: that is no http:// proxy, is it the relay?");
	if (rc < 0)
		return refused(p, CLOSE_PROXY, "what answers does not speak HTTP");
	return judge(p, http1_head(p->http));
}

enum close_why proxy_why(const struct proxy *p) { return p->why; }
const char *proxy_text(const struct proxy *p) { return p->text; }
