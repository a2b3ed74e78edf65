/*
 * The accounts thread: answers what a token is worth, so that no worker waits
 * for the database. Its own thread, loop and mailbox.
 */
#ifndef TUNN_SERVER_AUTH_H
#define TUNN_SERVER_AUTH_H

#include <stdint.h>

#include "common/net/mailbox.h"
#include "server/books.h"

struct auth;

enum { AUTH_WAITING_MAX = 4096 }; /* questions at once; more are refused as unavailable */

/* Opens the books: the state directory is locked. */
int auth_start(const struct books_conf *, struct auth **auth_out,
               char error_out[static ACCOUNTS_ERROR_LEN]);
/* After the askers have stopped, before their mailboxes are freed: what was
 * asked is still answered. NULL allowed. */
void auth_stop(struct auth *);

/* From any thread. The answer is posted to `reply` as mail {kind, number, ptr:
 * struct identity, given}. Negative, and no answer will come: ERR_INVALID (not
 * the length of a token), ERR_AGAIN (AUTH_WAITING_MAX) or -ENOMEM. */
int auth_ask(struct auth *, struct mailbox *reply, unsigned kind, uint64_t number,
             struct str token);
/* Runs a job on the accounts thread, which has the books. From any thread. 0, or -ENOMEM:
 * it will not run. */
int auth_run(struct auth *, void (*job)(struct books *, void *arg), void *arg);
void identity_free(struct identity *);
/* From any thread: what the config file says now; derp_account as in struct books_conf. 0 or
 * -ENOMEM. */
int auth_reload(struct auth *, const struct tiers *, const char *derp_account);

#endif
