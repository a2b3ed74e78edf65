#include "server/login/login_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"

/* Without vowels, so that no words appear, and without Y (RFC 8628 6.1): 20 letters, 34 bits. */
static const char alphabet[] = "BCDFGHJKLMNPQRSTVWXZ";

void login_digest(struct str secret, uint8_t out[static DIGEST_LEN])
{
	crypto_digest(&secret, 1, out, DIGEST_LEN);
}

void login_secret(char out[static SECRET_TEXT_LEN + 1])
{
	uint8_t bytes[SECRET_TEXT_LEN / 2];

	crypto_random(bytes, sizeof bytes);
	hex_encode(bytes, sizeof bytes, out);
	crypto_wipe(bytes, sizeof bytes);
}

/* ---- user codes ---- */

int login_code_of(struct str text, char code_out[static CODE_LEN])
{
	char code[CODE_LEN];
	unsigned n = 0;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];
		if (c >= 'a' && c <= 'z')
			c = (char)(c - 32);
		if (c < 'A' || c > 'Z')
			continue;
		if (n == CODE_LEN || !strchr(alphabet, c))
			return ERR_INVALID;
		code[n++] = c;
	}
	if (n < CODE_LEN)
		return ERR_INVALID;
	memcpy(code_out, code, CODE_LEN);
	return 0;
}

void login_code_text(const char code[static CODE_LEN], char out[static LOGIN_CODE_TEXT + 1])
{
	snprintf(out, LOGIN_CODE_TEXT + 1, "%.4s-%.4s", code, code + 4);
}

struct login_pending *login_find(const struct login *l, struct str user_code)
{
	char code[CODE_LEN];

	return login_code_of(user_code, code) == 0 ? map_get(&l->by_code, code) : NULL;
}

static void draw_code(const struct login *l, char code[static CODE_LEN])
{
	do {
		for (unsigned i = 0; i < CODE_LEN; i++)
			code[i] = alphabet[crypto_random_below(sizeof alphabet - 1)];
	} while (map_get(&l->by_code, code));
}

/* ---- life ---- */

static void wipe_token(struct login_pending *p)
{
	crypto_secret_free(p->token);
	p->token = NULL;
}

/* A token that nobody fetched, and nobody can any more, would be valid for nobody, for ever.
 * False: another program has the database, and this is to be tried again. */
static bool take_back(struct login *l, struct login_pending *p, bool is_last)
{
	char kid[TOKEN_ID_LEN + 1], account[NAME_MAX_LEN + 1], error[ACCOUNTS_ERROR_LEN];
	int64_t row;

	if (!p->token)
		return true;
	snprintf(kid, sizeof kid, "%.*s", TOKEN_ID_LEN, token_id(str_of(p->token)).p);
	int rc = accounts_token_revoke(l->accounts, kid, clock_unix_ms() / 1000, &row, account,
	                               error);
	if (rc == ERR_AGAIN && !is_last)
		return false;
	wipe_token(p);
	if (rc < 0)
		log_error("token %s, which nobody fetched, stays valid: %s; tunn token revoke %s",
		          kid, error, kid);
	else
		log_info("login token revoked token=%s id=%s account=%s: nobody fetched it", kid,
		         p->id, account);
	return true;
}

/* The user code is used up, by whatever. */
static void settle(struct login *l, struct login_pending *p, enum login_state state)
{
	if (p->state == LOGIN_ASKED) {
		map_del(&l->by_code, p->code);
		p->source->n_pending--;
		p->source = NULL;
		l->n_asked--;
	}
	p->state = state;
}

void login_gone(struct login *l, struct login_pending *p)
{
	settle(l, p, LOGIN_EXPIRED);
	map_del(&l->by_device, p->device);
	list_del(&p->node);
	l->n--;
	wipe_token(p);
	free(p);
}

void login_expire(struct login *l, uint64_t now_ms)
{
	list_each(it, tmp, &l->all) {
		struct login_pending *p = container_of(it, struct login_pending, node);
		uint64_t age_s = (now_ms - p->since_ms) / 1000;
		if (age_s < LOGIN_LIFE_S)
			break;
		bool is_over = take_back(l, p, false);
		settle(l, p, LOGIN_EXPIRED);
		if (is_over && age_s >= LOGIN_LIFE_S + EXPIRED_LINGER_S)
			login_gone(l, p);
	}
	login_expire_sessions(l, now_ms);
	login_sweep_sources(l, now_ms);
}

static int add(struct login *l, struct login_pending *p)
{
	int rc = map_put(&l->by_device, p->device, p);

	if (rc == 0 && (rc = map_put(&l->by_code, p->code, p)) < 0)
		map_del(&l->by_device, p->device);
	if (rc < 0)
		return rc;
	list_add_tail(&l->all, &p->node);
	l->n++;
	l->n_asked++;
	p->source->n_pending++;
	return 0;
}

int login_begin(struct login *l, const struct addr *from, struct str host, struct str id,
                uint64_t now_ms, char device_out[static SECRET_TEXT_LEN + 1],
                char user_out[static LOGIN_CODE_TEXT + 1])
{
	struct login_source *source = login_source_of(l, from);
	struct login_pending *p;

	if (!source)
		return -ENOMEM;
	if (source->n_pending >= LOGIN_PENDING_PER_NET || l->n_asked >= LOGIN_PENDING_MAX ||
	    l->n >= KEPT_MAX)
		return ERR_AGAIN;
	if ((p = calloc(1, sizeof *p)) == NULL)
		return -ENOMEM;
	*p = (struct login_pending){ .since_ms = now_ms, .interval_s = LOGIN_POLL_S };
	p->source = source;
	snprintf(p->host, sizeof p->host, "%.*s", (int)host.len, host.p);
	snprintf(p->id, sizeof p->id, "%.*s", (int)id.len, id.p);
	addr_ip_text(from, p->address);
	login_secret(device_out);
	login_digest(str_of(device_out), p->device);
	draw_code(l, p->code);
	login_code_text(p->code, user_out);
	int rc = add(l, p);
	if (rc < 0)
		free(p);
	return rc;
}

/* ---- decided ---- */

static int unknown(char error_out[static ACCOUNTS_ERROR_LEN])
{
	snprintf(error_out, ACCOUNTS_ERROR_LEN,
	         "no login waits with that code: codes end after %d minutes and work once",
	         LOGIN_LIFE_S / 60);
	return ERR_NOT_FOUND;
}

/* The token, if there is to be one, and a line about it: both or nothing. */
static int write_down(struct login *l, struct login_pending *p, const struct login_word *w,
                      char error_out[static ACCOUNTS_ERROR_LEN])
{
	char what[300];
	int rc = accounts_begin(l->accounts, error_out);

	if (rc == 0 && w->account)
		rc = accounts_token_new(l->accounts, w->account, p->id, w->expires_unix_s, p->token,
		                        error_out);
	if (rc == 0 && w->account)
		snprintf(what, sizeof what, "login approve %s id=%s token=%.*s host=%s from=%s",
		         w->account, p->id, TOKEN_ID_LEN, token_id(str_of(p->token)).p, p->host,
		         p->address);
	else
		snprintf(what, sizeof what, "login deny id=%s host=%s from=%s", p->id, p->host,
		         p->address);
	if (rc == 0)
		rc = accounts_audit(l->accounts, w->who, what, error_out);
	if (rc == 0)
		rc = accounts_commit(l->accounts, error_out);
	if (rc < 0)
		accounts_rollback(l->accounts);
	else
		log_info("%s, by %s", what, w->who);
	return rc;
}

int login_decide(struct login *l, struct login_pending *p, const struct login_word *w,
                 char error_out[static ACCOUNTS_ERROR_LEN])
{
	if (w->account && (p->token = crypto_secret_new(TOKEN_LEN + 1)) == NULL) {
		snprintf(error_out, ACCOUNTS_ERROR_LEN, "out of memory");
		return -ENOMEM;
	}
	int rc = write_down(l, p, w, error_out);
	if (rc < 0) {
		wipe_token(p);
		return rc;
	}
	snprintf(p->account, sizeof p->account, "%s", w->account ? w->account : "");
	settle(l, p, w->account ? LOGIN_APPROVED : LOGIN_DENIED);
	return 0;
}

static void describe(const struct login_pending *p, uint64_t now_ms, struct login_entry *e)
{
	*e = (struct login_entry){ .age_s = (unsigned)((now_ms - p->since_ms) / 1000) };
	login_code_text(p->code, e->user_code);
	memcpy(e->address, p->address, sizeof e->address);
	memcpy(e->host, p->host, sizeof e->host);
	memcpy(e->id, p->id, sizeof e->id);
}

static int decide(struct login *l, const char *user_code, const struct login_word *w,
                  uint64_t now_ms, struct login_entry *entry_out,
                  char error_out[static ACCOUNTS_ERROR_LEN])
{
	login_expire(l, now_ms);
	struct login_pending *p = login_find(l, str_of(user_code));
	if (!p)
		return unknown(error_out);
	describe(p, now_ms, entry_out);
	return login_decide(l, p, w, error_out);
}

int login_approve(struct login *l, const char *user_code, const char *account, const char *who,
                  uint64_t now_ms, struct login_entry *entry_out,
                  char error_out[static ACCOUNTS_ERROR_LEN])
{
	const struct login_word w = { .account = account, .who = who };

	return decide(l, user_code, &w, now_ms, entry_out, error_out);
}

int login_deny(struct login *l, const char *user_code, const char *who, uint64_t now_ms,
               struct login_entry *entry_out, char error_out[static ACCOUNTS_ERROR_LEN])
{
	const struct login_word w = { .who = who };

	return decide(l, user_code, &w, now_ms, entry_out, error_out);
}

unsigned login_list(struct login *l, uint64_t now_ms, struct login_entry *entries_out, unsigned cap)
{
	unsigned n = 0;

	login_expire(l, now_ms);
	list_each(it, tmp, &l->all) {
		const struct login_pending *p = container_of(it, struct login_pending, node);
		if (p->state != LOGIN_ASKED)
			continue;
		if (n < cap)
			describe(p, now_ms, &entries_out[n]);
		n++;
	}
	return n;
}

/* ---- fetched ---- */

/* RFC 8628 3.5: who polls too early is to wait longer from now on. The way of a packet may
 * become shorter meanwhile. */
static bool is_early(struct login_pending *p, uint64_t now_ms)
{
	enum { SLACK_MS = 500 };
	bool early = p->polled_ms && now_ms - p->polled_ms + SLACK_MS < p->interval_s * 1000;

	p->polled_ms = now_ms;
	if (early && p->interval_s < LOGIN_POLL_MAX_S)
		p->interval_s += LOGIN_POLL_S;
	return early;
}

const char *login_poll(struct login *l, struct str device_code, uint64_t now_ms,
                       struct login_pending **pending_out)
{
	uint8_t device[DIGEST_LEN];
	struct login_pending *p;

	login_digest(device_code, device);
	p = map_get(&l->by_device, device);
	if (!p)
		return "invalid_grant";
	switch (p->state) {
	case LOGIN_EXPIRED: return "expired_token";
	case LOGIN_DENIED: login_gone(l, p); return "access_denied";
	case LOGIN_ASKED: return is_early(p, now_ms) ? "slow_down" : "authorization_pending";
	case LOGIN_APPROVED: break;
	}
	*pending_out = p;
	return NULL;
}

/* ---- all of it ---- */

struct login *login_new(struct accounts *accounts)
{
	struct login *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->accounts = accounts;
	map_init(&l->by_device, DIGEST_LEN);
	map_init(&l->by_code, CODE_LEN);
	map_init(&l->sources, ADDR_NET_LEN);
	list_init(&l->all);
	list_init(&l->sessions);
	return l;
}

void login_free(struct login *l)
{
	struct login_source *s;
	size_t pos = 0;

	if (!l)
		return;
	list_each(it, tmp, &l->all) {
		struct login_pending *p = container_of(it, struct login_pending, node);
		take_back(l, p, true);
		login_gone(l, p);
	}
	login_free_sessions(l);
	while ((s = map_next(&l->sources, &pos)) != NULL)
		free(s);
	map_done(&l->sources);
	map_done(&l->by_code);
	map_done(&l->by_device);
	free(l);
}
