/*
 * What `tunn account` and `tunn token` do, asked as JSON and answered as JSON: the same
 * function whether the control socket of a running server asks (control.h) or the command
 * itself, which then has the state directory locked. Blocks on the database: the accounts
 * thread, or a command.
 *
 * A request is {"verb": "account add", "name": "acme", ...}; the members are those that the
 * command line has words for (commands.c). An answer is {"ok": true, ...} or {"ok": false,
 * "error": words, "code": one of invalid, not-found, exists, busy, again, denied, failed}.
 * again: another program writes to the database, nothing was done.
 */
#ifndef TUNN_SERVER_COMMANDS_H
#define TUNN_SERVER_COMMANDS_H

#include <sys/types.h>

#include "common/base/json.h"
#include "server/accounts/accounts.h"
#include "server/accounts/tiers.h"

/* What is going on with an account now; only a running server knows. */
struct account_live {
	unsigned n_tunnels;
	struct account_usage used; /* of this month, all of it */
};

struct login;

struct commands { /* all borrowed */
	struct accounts *accounts;
	const struct tiers *tiers;
	struct login *login;      /* NULL: no server runs */
	bool logs;                /* what was done goes to the log too: in a server */
	const char *derp_account; /* what native DERP ends count for; NULL: none are let in */
	void *owner;
	/* After an account's terms are others, it was suspended or removed (token_id NULL), or one
	 * of its tokens revoked: accounts_read() tells the rest. NULL allowed. */
	void (*changed)(void *owner, int64_t row, const char *token_id);
	/* False: the account has no tunnels. NULL allowed. */
	bool (*live)(void *owner, int64_t row, struct account_live *live_out);
};

/* On behalf of that user; "login" in the request is the name it goes by, for the audit. The
 * answer is the caller's to json_free(); NULL: out of memory. */
struct json *commands_run(const struct commands *, const struct json *request, uid_t uid);
/* The same for text; what is no request is answered too. */
struct json *commands_run_text(const struct commands *, struct str request, uid_t uid);
/* {"ok": false, "error": words, "code": by that negative code}; NULL: out of memory. */
struct json *commands_refusal(int rc, const char *words);

/* Warns in the log of tiers that accounts have and the config file has not. */
void commands_warn_of_tiers(const struct commands *);

#endif
