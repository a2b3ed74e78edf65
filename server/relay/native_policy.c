#include "server/relay/native_policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_ACCOUNT "derp"

/* ---- keys ---- */

static int order(const void *a, const void *b) { return memcmp(a, b, KEY_LEN); }

static bool has(const struct native_keys *keys, const struct key *key)
{
	return keys->n && bsearch(key, keys->v, keys->n, sizeof *keys->v, order) != NULL;
}

static int learn(struct native_keys *keys, const char *const *words, size_t n)
{
	keys->v = calloc(n ? n : 1, sizeof *keys->v);
	if (!keys->v)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (key_of_peer(STR(""), str_of(words[i]), &keys->v[keys->n]) == 0)
			keys->n++;
	qsort(keys->v, keys->n, sizeof *keys->v, order);
	return 0;
}

/* ---- words ---- */

static bool is_node_key(const char *word)
{
	return strncmp(word, "nodekey:", 8) == 0 && peer_is_valid(str_of(word));
}

const char *native_allow_check(const char *word)
{
	if (strcmp(word, "none") == 0 || strcmp(word, "any") == 0 || is_node_key(word))
		return NULL;
	return "must be none, any, or nodekey: and 64 lower-case hex digits, once per key";
}

const char *native_peering_check(const char *word)
{
	if (strcmp(word, "open") == 0 || strcmp(word, "closed") == 0 || is_node_key(word))
		return NULL;
	return "must be open, closed, or nodekey: and 64 lower-case hex digits, once per key";
}

static bool says(const char *const *words, size_t n, const char *word)
{
	return n == 1 && strcmp(words[0], word) == 0;
}

/* ---- life ---- */

static enum native_allow allow_of(const struct native_policy_conf *conf)
{
	if (conf->verify_url)
		return NATIVE_ALLOW_URL;
	if (conf->n_allow == 0 || says(conf->allow, conf->n_allow, "none"))
		return NATIVE_ALLOW_NONE;
	return says(conf->allow, conf->n_allow, "any") ? NATIVE_ALLOW_ANY : NATIVE_ALLOW_KEYS;
}

static enum native_peering peering_of(const struct native_policy_conf *conf)
{
	if (conf->n_peering == 0 || says(conf->peering, conf->n_peering, "open"))
		return NATIVE_PEERING_OPEN;
	return says(conf->peering, conf->n_peering, "closed") ? NATIVE_PEERING_CLOSED :
	                                                        NATIVE_PEERING_KEYS;
}

struct native_policy *native_policy_new(const struct native_policy_conf *conf)
{
	struct native_policy *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	p->allow = allow_of(conf);
	p->peering = peering_of(conf);
	snprintf(p->account, sizeof p->account, "%s",
	         conf->account ? conf->account : DEFAULT_ACCOUNT);
	p->verify_url = conf->verify_url ? strdup(conf->verify_url) : NULL;
	if ((conf->verify_url && !p->verify_url) ||
	    learn(&p->allowed, conf->allow, conf->n_allow) < 0 ||
	    learn(&p->paired, conf->peering, conf->n_peering) < 0) {
		native_policy_unref(p);
		return NULL;
	}
	return p;
}

struct native_policy *native_policy_ref(struct native_policy *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void native_policy_unref(struct native_policy *p)
{
	if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(p->allowed.v);
	free(p->paired.v);
	free(p->verify_url);
	free(p);
}

/* ---- questions ---- */

bool native_policy_admits(const struct native_policy *p, const struct key *key)
{
	return p->allow == NATIVE_ALLOW_ANY ||
	       (p->allow == NATIVE_ALLOW_KEYS && has(&p->allowed, key));
}

bool native_policy_may_pair(const struct native_policy *p, const struct key *a, const struct key *b)
{
	switch (p->peering) {
	case NATIVE_PEERING_OPEN: return true;
	case NATIVE_PEERING_CLOSED: return key_eq(a, b);
	case NATIVE_PEERING_KEYS: return has(&p->paired, a) && has(&p->paired, b);
	}
	return false;
}
