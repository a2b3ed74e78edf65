#include "server/relay/mesh_with.h"

#include <stdio.h>
#include <string.h>

#include "common/base/err.h"
#include "common/net/addr.h"

enum { HTTPS_PORT = 443 };

/* Without port, IPv6 without brackets too. */
static int read_dial_host(const char *text, char *host_out)
{
	struct addr ip;
	uint16_t none;

	if (addr_of_ip(text, 0, &ip) == 0 && strlen(text) < MESH_HOST_LEN)
		memcpy(host_out, text, strlen(text) + 1);
	else if (strpbrk(text, ":/[") ||
	         addr_split_host(text, 1, host_out, MESH_HOST_LEN, &none) < 0)
		return ERR_INVALID;
	return 0;
}

int mesh_with_of(const char *text, struct mesh_with *with_out)
{
	struct mesh_with w = { .port = HTTPS_PORT };
	char first[MESH_HOST_LEN + 16];
	size_t len = strcspn(text, "/");

	if (len >= sizeof first)
		return ERR_INVALID;
	memcpy(first, text, len);
	first[len] = 0;
	if (addr_split_host(first, HTTPS_PORT, w.host, sizeof w.host, &w.port) < 0)
		return ERR_INVALID;
	if (!text[len])
		memcpy(w.dial_host, w.host, sizeof w.host);
	else if (read_dial_host(text + len + 1, w.dial_host) < 0)
		return ERR_INVALID;
	const char *left = strchr(w.host, ':') ? "[" : "", *right = *left ? "]" : "";
	if (w.port == HTTPS_PORT)
		snprintf(w.authority, sizeof w.authority, "%s%s%s", left, w.host, right);
	else
		snprintf(w.authority, sizeof w.authority, "%s%s%s:%u", left, w.host, right, w.port);
	*with_out = w;
	return 0;
}

const char *mesh_with_check(const char *text)
{
	struct mesh_with unused;

	return mesh_with_of(text, &unused) == 0 ?
	                       NULL :
	                       "must be HOST[:PORT], and after a / the host to dial "
	                       "instead, without port";
}
