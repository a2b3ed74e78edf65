#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "server/login/login_impl.h"

enum { PER_ACCOUNT = 8 };

static void end(struct login *l, struct login_session *s)
{
	list_del(&s->node);
	l->n_sessions--;
	crypto_wipe(s, sizeof *s);
	free(s);
}

void login_expire_sessions(struct login *l, uint64_t now_ms)
{
	list_each(it, tmp, &l->sessions) {
		struct login_session *s = container_of(it, struct login_session, node);
		if (now_ms - s->since_ms >= (uint64_t)LOGIN_SESSION_S * 1000)
			end(l, s);
	}
}

void login_sign_out(struct login *l, int64_t row)
{
	list_each(it, tmp, &l->sessions) {
		struct login_session *s = container_of(it, struct login_session, node);
		if (s->row == row)
			end(l, s);
	}
}

void login_free_sessions(struct login *l)
{
	list_each(it, tmp, &l->sessions)
		end(l, container_of(it, struct login_session, node));
}

/* Of an account that has too many the oldest goes, or else the oldest of all. */
static void make_room(struct login *l, const char *account)
{
	struct login_session *oldest = NULL;
	unsigned n = 0;

	list_each(it, tmp, &l->sessions) {
		struct login_session *s = container_of(it, struct login_session, node);
		if (strcmp(s->account, account) != 0)
			continue;
		oldest = oldest ? oldest : s;
		n++;
	}
	if (n >= PER_ACCOUNT)
		end(l, oldest);
	else if (l->n_sessions >= LOGIN_SESSIONS_MAX)
		end(l, container_of(l->sessions.next, struct login_session, node));
}

struct login_session *login_sign_in(struct login *l, const struct identity *who, uint64_t now_ms,
                                    char cookie_out[static SECRET_TEXT_LEN + 1])
{
	struct login_session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	make_room(l, who->account);
	s->since_ms = now_ms;
	memcpy(s->account, who->account, sizeof s->account);
	s->row = who->row;
	s->expires_unix_s = who->expires_unix_s;
	login_secret(cookie_out);
	login_digest(str_of(cookie_out), s->cookie);
	login_secret(s->form);
	list_add_tail(&l->sessions, &s->node);
	l->n_sessions++;
	return s;
}

/* The value of ours among `a=b; c=d` (RFC 6265 4.2.1). */
static struct str value_of(struct str cookies)
{
	struct str name = STR(LOGIN_COOKIE "=");

	while (cookies.len) {
		const char *end = memchr(cookies.p, ';', cookies.len);
		size_t n = end ? (size_t)(end - cookies.p) : cookies.len;
		if (n > name.len && memcmp(cookies.p, name.p, name.len) == 0)
			return (struct str){ cookies.p + name.len, n - name.len };
		n += end != NULL;
		cookies.p += n;
		cookies.len -= n;
		while (cookies.len && *cookies.p == ' ')
			cookies.p++, cookies.len--;
	}
	return (struct str){ NULL, 0 };
}

struct login_session *login_session_of(const struct login *l, struct str cookies)
{
	struct str value = value_of(cookies);
	uint8_t digest[DIGEST_LEN];

	if (value.len != SECRET_TEXT_LEN)
		return NULL;
	login_digest(value, digest);
	list_each(it, tmp, &l->sessions) {
		struct login_session *s = container_of(it, struct login_session, node);
		if (crypto_same(s->cookie, digest, DIGEST_LEN))
			return s;
	}
	return NULL;
}
