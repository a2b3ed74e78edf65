#include "client/token_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/options.h"
#include "common/base/crypto.h"
#include "common/base/file.h"
#include "common/base/token.h"

enum { AUTHORITY_LEN = 256 + 10 };

void token_file_path(const char *authority, char out[static TOKEN_PATH_LEN])
{
	char name[sizeof "tokens/" + AUTHORITY_LEN];
	int n = snprintf(name, sizeof name, "tokens/%s", authority);

	for (char *c = name; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (authority[0] == '.' || strchr(authority, '/') || n < 0 || (size_t)n >= sizeof name ||
	    !relay_options_place(name, out))
		out[0] = 0;
}

int token_file_write(const char *path, const char *token, bool force)
{
	char dir[TOKEN_PATH_LEN], line[TOKEN_LEN + 2];

	snprintf(dir, sizeof dir, "%s", path);
	*strrchr(dir, '/') = 0; /* a path of ours */
	int rc = file_make_dir(dir);
	if (rc < 0)
		return rc;
	int n = snprintf(line, sizeof line, "%s\n", token);
	struct str text = { line, (size_t)n };
	rc = force ? file_replace(path, text) : file_create(path, text);
	crypto_wipe(line, sizeof line);
	return rc;
}
