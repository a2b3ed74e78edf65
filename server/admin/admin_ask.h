/*
 * How the admin thread asks the accounts thread: a job there (auth_run) that reads the
 * database and answers by mail.
 */
#ifndef TUNN_SERVER_ADMIN_ASK_H
#define TUNN_SERVER_ADMIN_ASK_H

#include "server/books.h"
#include "server/admin/admin.h"

/* An admin_ask_accounts; owner is the struct auth. Admin thread. */
int admin_ask_auth(void *owner, const struct admin_question *, struct mailbox *reply, unsigned kind,
                   uint64_t number);

/* What is answered (docs/ADMIN.md). NULL: it cannot be read. Accounts thread. */
struct json *accounts_json(struct books *, const struct admin_question *);

#endif
