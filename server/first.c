#include "server/first.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/crypto.h"

static int store(const char *state_dir, const char *token,
                 char error_out[static ACCOUNTS_ERROR_LEN])
{
	char path[STATE_DIR_MAX + 32], line[TOKEN_LEN + 2];

	snprintf(path, sizeof path, "%s/first-token", state_dir);
	snprintf(line, sizeof line, "%s\n", token);
	unlink(path); /* an old one may have another mode */
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write(fd, line, TOKEN_LEN + 1) == TOKEN_LEN + 1;
	crypto_wipe(line, sizeof line);
	if (!ok)
		snprintf(error_out, ACCOUNTS_ERROR_LEN,
		         "cannot write %s: %s; make another with: tunn token new " FIRST_ACCOUNT,
		         path, strerror(errno));
	else
		printf("tunn: first start: the token of account " FIRST_ACCOUNT " is in %s\n",
		       path);
	if (fd >= 0)
		close(fd);
	return ok ? 0 : -EIO;
}

static int show(const char *token)
{
	printf("tunn: first start: token of account " FIRST_ACCOUNT ", shown only now:\n\n  %s\n\n",
	       token);
	return 0;
}

/* All or nothing: a next start would make no token where there is an account. */
static int make_first(struct accounts *a, char token_out[static TOKEN_LEN + 1],
                      char error_out[static ACCOUNTS_ERROR_LEN])
{
	char what[80];
	int rc = accounts_begin(a, error_out);

	if (rc == 0)
		rc = accounts_add(a, FIRST_ACCOUNT, NULL, error_out);
	if (rc == 0)
		rc = accounts_token_new(a, FIRST_ACCOUNT, NULL, 0, token_out, error_out);
	if (rc == 0) {
		snprintf(what, sizeof what, "first start " FIRST_ACCOUNT " token=%.*s",
		         TOKEN_ID_LEN, token_id(str_of(token_out)).p);
		rc = accounts_audit(a, "server", what, error_out);
	}
	if (rc == 0)
		rc = accounts_commit(a, error_out);
	if (rc < 0)
		accounts_rollback(a);
	return rc;
}

static int make(struct accounts *a, const char *state_dir,
                char error_out[static ACCOUNTS_ERROR_LEN])
{
	char token[TOKEN_LEN + 1];
	int rc = make_first(a, token, error_out);

	if (rc == 0)
		rc = isatty(STDOUT_FILENO) ? show(token) : store(state_dir, token, error_out);
	crypto_wipe(token, sizeof token);
	return rc;
}

int first_start(const char *state_dir, char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct accounts *a;
	unsigned n = 0;
	int rc = accounts_open(state_dir, &a, error_out);

	if (rc < 0)
		return rc;
	rc = accounts_count(a, &n, error_out);
	if (rc == 0 && n == 0)
		rc = make(a, state_dir, error_out);
	accounts_close(a);
	return rc;
}
