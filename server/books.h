/*
 * The books of a relay: accounts (accounts.h), what their tiers allow (tiers.h), what they use
 * (ledger.h), and the control socket by which an operator changes them (control.h); whatever
 * changes for tunnels that are here goes to the workers by mail within a second.
 *
 * Accounts thread, all of it; books_open() and books_close() before and after it runs.
 */
#ifndef TUNN_SERVER_BOOKS_H
#define TUNN_SERVER_BOOKS_H

#include "common/net/loop.h"
#include "common/net/mailbox.h"
#include "server/accounts/accounts.h"
#include "server/accounts/tiers.h"

struct books;
struct login;

struct books_conf { /* borrowed for the call, except the mailboxes */
	const char *state_dir;
	const struct tiers *tiers;
	unsigned audit_days;            /* as accounts_keep_audit() */
	const char *derp_account;       /* what native DERP ends count for; NULL: none are let in */
	unsigned n_workers;             /* who count */
	struct mailbox *const *workers; /* who are told; NULL: nobody */
};

/* The state directory is locked. 0, or negative with words. */
int books_open(struct loop *, const struct books_conf *, struct books **books_out,
               char error_out[static ACCOUNTS_ERROR_LEN]);
/* Puts down what was counted last. NULL allowed. */
void books_close(struct books *);

/* As accounts_authenticate(), and the account, live. */
void books_identify(struct books *, struct str token, int64_t now_unix_s,
                    struct identity *identity_out);
/* What commands_run() answers to an operator's program that may only look. */
struct json *books_run(struct books *, const struct json *request);
struct login *books_logins(struct books *); /* borrowed */
void books_take_tiers(struct books *, const struct tiers *);
/* Native DERP ends count for the account of that name from now on; it is added if there is
 * none, and no command removes it. NULL: none are let in. 0, or negative with words; after
 * ERR_AGAIN it is tried again each second. */
int books_name_derp(struct books *, const char *account, char error_out[static ACCOUNTS_ERROR_LEN]);

#endif
