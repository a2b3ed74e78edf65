/*
 * What the operator lets native DERP ends do: who may enter (derp.allow), for whom they
 * count (derp.account), whom they may talk to among themselves (derp.peering). Made from
 * the configuration, never changed, shared by all workers; a reload brings another one.
 */
#ifndef TUNN_SERVER_NATIVE_POLICY_H
#define TUNN_SERVER_NATIVE_POLICY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/base/key.h"

enum native_allow { NATIVE_ALLOW_NONE, NATIVE_ALLOW_KEYS, NATIVE_ALLOW_ANY, NATIVE_ALLOW_URL };
enum native_peering { NATIVE_PEERING_OPEN, NATIVE_PEERING_CLOSED, NATIVE_PEERING_KEYS };

struct native_keys { /* sorted */
	struct key *v;
	size_t n;
};

struct native_policy {
	atomic_uint refs;
	enum native_allow allow;
	enum native_peering peering;
	struct native_keys allowed, paired;
	char *verify_url; /* NATIVE_ALLOW_URL */
	char account[NAME_MAX_LEN + 1];
};

struct native_policy_conf {       /* words of the configuration; borrowed for the call */
	const char *const *allow; /* none, any, or nodekey:HEX...; NULL: none */
	size_t n_allow;
	const char *verify_url;     /* NULL: no */
	const char *const *peering; /* open, closed, or nodekey:HEX...; NULL: open */
	size_t n_peering;
	const char *account; /* NULL: "derp" */
};

/* What is wrong with such a list of words, or NULL. */
const char *native_allow_check(const char *word);
const char *native_peering_check(const char *word);

/* One reference. NULL: out of memory. The words have been checked; keys among the
 * words none, any, open, closed are told by the caller as an error. */
struct native_policy *native_policy_new(const struct native_policy_conf *);
struct native_policy *native_policy_ref(struct native_policy *);
void native_policy_unref(struct native_policy *); /* NULL allowed */

/* Without asking anybody: not for NATIVE_ALLOW_URL. */
bool native_policy_admits(const struct native_policy *, const struct key *);
bool native_policy_may_pair(const struct native_policy *, const struct key *, const struct key *);

#endif
