/*
 * First start: one account and one token, so that a self-hoster has nothing to
 * set up. Blocks on files.
 */
#ifndef TUNN_SERVER_FIRST_H
#define TUNN_SERVER_FIRST_H

#include "server/accounts/accounts.h"

#define FIRST_ACCOUNT "main"

/* Where no account exists: makes FIRST_ACCOUNT and a token. On a terminal the
 * token is printed once; otherwise it goes to STATE/first-token (0600) and only
 * the path is printed. 0, or negative with error_out in words. */
int first_start(const char *state_dir, char error_out[static ACCOUNTS_ERROR_LEN]);

#endif
