#include "server/admin/admin_guard.h"

#include <string.h>
#include <strings.h>

#include "common/base/crypto.h"

static bool is_like(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || strncasecmp(a.p, b.p, a.len) == 0);
}

/* Without port and brackets. The port says nothing: who forwards one to ours by ssh has
 * another in front. Empty: not a host. */
static struct str host_of(struct str authority)
{
	struct str h = authority;
	const char *end;

	if (h.len && h.p[0] == '[') {
		end = memchr(h.p, ']', h.len);
		return end ? (struct str){ h.p + 1, (size_t)(end - h.p) - 1 } : STR("");
	}
	end = h.len ? memchr(h.p, ':', h.len) : NULL;
	if (end)
		h.len = (size_t)(end - h.p);
	return h;
}

static bool is_own(const struct admin_guard *g, struct str host, const struct addr *local)
{
	char ip[ADDR_TEXT_LEN];

	if (is_like(host, STR("localhost")) || is_like(host, str_of(addr_ip_text(local, ip))))
		return true;
	for (unsigned i = 0; i < g->names->n; i++)
		if (is_like(host, str_of(g->names->v[i])))
			return true;
	return false;
}

/* Only HTTP/1.0 can be without a Host, and no browser speaks it. */
static bool is_host_ours(const struct admin_guard *g, const struct httpd_request *r)
{
	return !r->host.p || is_own(g, host_of(r->host), &r->local);
}

/* An Origin of ours is the Host with a scheme before it (RFC 6454 6.2). */
static bool is_same_origin(struct str origin, struct str host)
{
	static const struct str schemes[] = { STR("http://"), STR("https://") };

	for (unsigned i = 0; i < 2; i++) {
		struct str s = schemes[i];
		if (origin.len > s.len && is_like((struct str){ origin.p, s.len }, s))
			return is_like((struct str){ origin.p + s.len, origin.len - s.len }, host);
	}
	return false;
}

static bool is_cross_site(const struct httpd_request *r)
{
	struct str from = r->sec_fetch_site;

	if (from.p && !str_eq(from, STR("same-origin")) && !str_eq(from, STR("none")))
		return true;
	return r->origin.p && !is_same_origin(r->origin, r->host);
}

static void digest_of(struct str token, uint8_t out[static ADMIN_DIGEST_LEN])
{
	crypto_digest(&token, 1, out, ADMIN_DIGEST_LEN);
}

void admin_guard_set_token(struct admin_guard *g, struct str token)
{
	digest_of(token, g->digest);
	g->needs_token = true;
}

/* Digests have one length, so that how long ours is does not show either. */
static bool has_token(const struct admin_guard *g, struct str authorization)
{
	static const struct str scheme = STR("bearer ");
	uint8_t digest[ADMIN_DIGEST_LEN];
	struct str token = authorization;
	bool is_bearer = token.len >= scheme.len &&
	                 is_like((struct str){ token.p, scheme.len }, scheme);

	if (is_bearer) {
		token.p += scheme.len;
		token.len -= scheme.len;
	}
	digest_of(token, digest);
	bool same = crypto_same(digest, g->digest, sizeof digest);
	crypto_wipe(digest, sizeof digest);
	return is_bearer && same;
}

enum admin_verdict admin_guard_check_host(const struct admin_guard *g,
                                          const struct httpd_request *r)
{
	if (r->has_twice)
		return ADMIN_BAD_REQUEST;
	return is_host_ours(g, r) ? ADMIN_PASS : ADMIN_MISDIRECTED;
}

enum admin_verdict admin_guard_check(const struct admin_guard *g, const struct httpd_request *r)
{
	enum admin_verdict host = admin_guard_check_host(g, r);

	if (host != ADMIN_PASS)
		return host;
	if (is_cross_site(r))
		return ADMIN_CROSS_SITE;
	if (g->needs_token && !has_token(g, r->authorization))
		return ADMIN_NO_TOKEN;
	return ADMIN_PASS;
}
