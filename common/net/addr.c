#include "common/net/addr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"

static const struct sockaddr_in *v4(const struct addr *a) { return (const void *)&a->ss; }
static const struct sockaddr_in6 *v6(const struct addr *a) { return (const void *)&a->ss; }

const char *addr_ip_text(const struct addr *a, char out[static ADDR_TEXT_LEN])
{
	const struct in6_addr *in6 = &v6(a)->sin6_addr;

	out[0] = 0;
	if (a->ss.ss_family == AF_INET)
		inet_ntop(AF_INET, &v4(a)->sin_addr, out, ADDR_TEXT_LEN);
	else if (a->ss.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(in6))
		inet_ntop(AF_INET, in6->s6_addr + 12, out, ADDR_TEXT_LEN);
	else if (a->ss.ss_family == AF_INET6)
		inet_ntop(AF_INET6, in6, out, ADDR_TEXT_LEN);
	return out;
}

const char *addr_text(const struct addr *a, char out[static ADDR_TEXT_LEN])
{
	char ip[ADDR_TEXT_LEN];

	addr_ip_text(a, ip);
	if (!ip[0])
		snprintf(out, ADDR_TEXT_LEN, "-");
	else
		snprintf(out, ADDR_TEXT_LEN, strchr(ip, ':') ? "[%.*s]:%u" : "%.*s:%u",
		         INET6_ADDRSTRLEN, ip, addr_port(a));
	return out;
}

uint16_t addr_port(const struct addr *a)
{
	return ntohs(a->ss.ss_family == AF_INET6 ? v6(a)->sin6_port : v4(a)->sin_port);
}

void addr_set_port(struct addr *a, uint16_t port)
{
	if (a->ss.ss_family == AF_INET6)
		((struct sockaddr_in6 *)(void *)&a->ss)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)(void *)&a->ss)->sin_port = htons(port);
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	if (a->ss.ss_family != b->ss.ss_family || addr_port(a) != addr_port(b))
		return false;
	if (a->ss.ss_family == AF_INET)
		return v4(a)->sin_addr.s_addr == v4(b)->sin_addr.s_addr;
	return memcmp(&v6(a)->sin6_addr, &v6(b)->sin6_addr, sizeof(struct in6_addr)) == 0 &&
	       v6(a)->sin6_scope_id == v6(b)->sin6_scope_id;
}

bool addr_is_loopback(const struct addr *a)
{
	if (a->ss.ss_family == AF_INET)
		return ntohl(v4(a)->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&v6(a)->sin6_addr);
}

static bool is_special_v4(uint32_t ip) { return ip == 0 || ip == 0xffffffff || ip >> 28 == 14; }

bool addr_is_special(const struct addr *a)
{
	if (a->ss.ss_family == AF_INET)
		return is_special_v4(ntohl(v4(a)->sin_addr.s_addr));
	if (IN6_IS_ADDR_V4MAPPED(&v6(a)->sin6_addr)) {
		const uint8_t *ip = v6(a)->sin6_addr.s6_addr + 12;
		return is_special_v4((uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 |
		                     (uint32_t)ip[2] << 8 | ip[3]);
	}
	return IN6_IS_ADDR_UNSPECIFIED(&v6(a)->sin6_addr) ||
	       IN6_IS_ADDR_MULTICAST(&v6(a)->sin6_addr);
}

const char *addr_net_text(const uint8_t net[static ADDR_NET_LEN], char out[static ADDR_TEXT_LEN])
{
	uint8_t ip[16] = { 0 };
	bool is_v4 = net[0] == 4;

	memcpy(ip, net + 1, ADDR_NET_LEN - 1);
	inet_ntop(is_v4 ? AF_INET : AF_INET6, ip, out, ADDR_TEXT_LEN);
	strcat(out, is_v4 ? "/24" : "/64");
	return out;
}

int addr_of_ip(const char *ip, uint16_t port, struct addr *addr_out)
{
	struct addr a = { .len = sizeof(struct sockaddr_in) };
	struct sockaddr_in *sin = (void *)&a.ss;
	struct sockaddr_in6 *sin6 = (void *)&a.ss;

	if (inet_pton(AF_INET, ip, &sin->sin_addr) == 1) {
		a.ss.ss_family = AF_INET;
	} else if (inet_pton(AF_INET6, ip, &sin6->sin6_addr) == 1) {
		if (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
			struct in_addr in;
			memcpy(&in, sin6->sin6_addr.s6_addr + 12, sizeof in);
			memset(&a.ss, 0, sizeof a.ss);
			sin->sin_addr = in;
			a.ss.ss_family = AF_INET;
		} else {
			a.ss.ss_family = AF_INET6;
			a.len = sizeof *sin6;
		}
	} else {
		return ERR_INVALID;
	}
	addr_set_port(&a, port);
	*addr_out = a;
	return 0;
}

static int port_of(const char *text, uint16_t *port_out)
{
	unsigned v = 0;

	if (!*text || strlen(text) > 5)
		return ERR_INVALID;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return ERR_INVALID;
		v = v * 10 + (unsigned)(*text - '0');
	}
	if (v > 65535)
		return ERR_INVALID;
	*port_out = (uint16_t)v;
	return 0;
}

/* Splits `[v6]:port`, `host:port`, `:port` at its last colon. host_out is cut
 * out of the brackets; *bracketed_out says so. port_out NULL-terminated text,
 * or NULL when there is none. */
static int split(const char *text, char *host_out, size_t cap, const char **port_out,
                 bool *bracketed_out)
{
	const char *end, *colon;
	size_t len;

	*bracketed_out = text[0] == '[';
	if (*bracketed_out) {
		end = strchr(++text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return ERR_INVALID;
		*port_out = end[1] ? end + 2 : NULL;
	} else {
		colon = strrchr(text, ':');
		if (colon && strchr(text, ':') != colon)
			return ERR_INVALID; /* IPv6 needs brackets */
		end = colon ? colon : text + strlen(text);
		*port_out = colon ? colon + 1 : NULL;
	}
	len = (size_t)(end - text);
	if (len >= cap)
		return ERR_INVALID;
	memcpy(host_out, text, len);
	host_out[len] = 0;
	return 0;
}

int addr_of_listen(const char *text, struct addr *addr_out, bool *any_out)
{
	char host[INET6_ADDRSTRLEN + 1];
	const char *port_text;
	uint16_t port;
	bool bracketed;
	int rc;

	if (port_of(text, &port) == 0) {
		host[0] = 0;
	} else if (split(text, host, sizeof host, &port_text, &bracketed) < 0 || !port_text ||
	           port_of(port_text, &port) < 0 || (bracketed && !strchr(host, ':'))) {
		return ERR_INVALID;
	}
	rc = addr_of_ip(host[0] ? host : "::", port, addr_out);
	if (rc == 0)
		*any_out = host[0] == 0;
	return rc;
}

static bool host_is_valid(const char *host)
{
	size_t label = 0, len = strlen(host);

	if (len == 0 || len > 253)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = host[i];
		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
			continue;
		}
		if (!isalnum((unsigned char)c) && c != '-')
			return false;
		if (++label > 63)
			return false;
	}
	return true;
}

int addr_split_host(const char *text, uint16_t default_port, char *host_out, size_t host_cap,
                    uint16_t *port_out)
{
	char host[256], rest[300];
	const char *port_text;
	uint16_t port = default_port;
	bool bracketed;
	struct addr ip;

	if (strncmp(text, "https://", 8) == 0)
		text += 8;
	size_t len = strlen(text);
	if (len >= sizeof rest)
		return ERR_INVALID;
	memcpy(rest, text, len + 1);
	if (len && rest[len - 1] == '/')
		rest[len - 1] = 0;
	if (split(rest, host, sizeof host, &port_text, &bracketed) < 0)
		return ERR_INVALID;
	if (port_text && (port_of(port_text, &port) < 0 || port == 0))
		return ERR_INVALID;
	if (bracketed ? addr_of_ip(host, 0, &ip) < 0 || !strchr(host, ':') : !host_is_valid(host))
		return ERR_INVALID;
	if (strlen(host) >= host_cap)
		return ERR_INVALID;
	memcpy(host_out, host, strlen(host) + 1);
	*port_out = port;
	return 0;
}

void addr_net(const struct addr *addr, uint8_t out[static ADDR_NET_LEN])
{
	memset(out, 0, ADDR_NET_LEN);
	if (addr->ss.ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)&addr->ss;
		out[0] = 4;
		memcpy(out + 1, &v4->sin_addr, 3);
		return;
	}
	const struct sockaddr_in6 *v6 = (const void *)&addr->ss;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) { /* a socket for both families */
		out[0] = 4;
		memcpy(out + 1, v6->sin6_addr.s6_addr + 12, 3);
		return;
	}
	out[0] = 6;
	memcpy(out + 1, v6->sin6_addr.s6_addr, 8);
}
