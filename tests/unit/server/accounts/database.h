/*
 * A state directory with accounts in it, a new one for each test, and words about it. One test
 * program includes this once, behind said.h.
 */
#ifndef TUNN_UNIT_SERVER_DATABASE_H
#define TUNN_UNIT_SERVER_DATABASE_H

#include <sqlite3.h>

#include "server/accounts/accounts.h"

static char dir[256], words[ACCOUNTS_ERROR_LEN];

/* A new state directory for each test. */
static inline int fresh(void **state)
{
	static unsigned n;
	char name[16];

	(void)state;
	snprintf(name, sizeof name, "state%u", n++);
	snprintf(dir, sizeof dir, "%s", file_path(name));
	words[0] = 0;
	return 0;
}

static inline const char *in_dir(const char *name)
{
	static char path[512];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static inline struct accounts *open_accounts(void)
{
	struct accounts *a = NULL;

	if (accounts_open(dir, &a, words) < 0)
		fail_msg("%s", words);
	return a;
}

static inline struct accounts *with_account(const char *name)
{
	struct accounts *a = open_accounts();

	if (accounts_add(a, name, NULL, words) < 0)
		fail_msg("%s", words);
	return a;
}

static inline void assert_words(const char *part)
{
	if (!strstr(words, part))
		fail_msg("not said: %s\nbut: %s", part, words);
}

static inline void sql(const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(in_dir("accounts.db"), &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

#endif
