/* What the files of accounts share; for them alone. */
#ifndef TUNN_SERVER_ACCOUNTS_IMPL_H
#define TUNN_SERVER_ACCOUNTS_IMPL_H

#include <sqlite3.h>

#include "server/accounts.h"

enum { ACCOUNTS_PATH_LEN = STATE_DIR_MAX + 32 };

struct accounts {
	sqlite3 *db;
	char db_path[ACCOUNTS_PATH_LEN];
	uint8_t pepper[TOKEN_PEPPER_LEN];
	sqlite3_stmt *find;
};

/* Both return -EIO. */
__attribute__((format(printf, 2, 3))) int say(char error_out[static ACCOUNTS_ERROR_LEN],
                                              const char *fmt, ...);
int say_db(struct accounts *, char error_out[static ACCOUNTS_ERROR_LEN]); /* SQLite's words */

#endif
