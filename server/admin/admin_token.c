#include "server/admin/admin_token.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/file.h"

static int fail(const char *who, const char *path, const char *why)
{
	fprintf(stderr, "%s %s: %s\n", who, path, why);
	return ERR_CONFIG;
}

static const char *not_a_token(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return "blanks and characters outside ASCII cannot be sent in a header";
	return len < ADMIN_TOKEN_MIN ? "a token has at least 32 characters: openssl rand -hex 32" :
	                               NULL;
}

int admin_token_read(const char *who, const char *path, char text_out[static ADMIN_TOKEN_MAX])
{
	const char *why;
	bool is_private;
	int fd = file_open(path, &is_private, &why);

	if (fd < 0)
		return fail(who, path, why);
	int n = is_private ? file_read(fd, true, text_out, ADMIN_TOKEN_MAX) : 0;
	close(fd);
	if (!is_private)
		return fail(who, path, FILE_IS_OPEN_TO_OTHERS);
	if (n < 0)
		return fail(who, path, n == ERR_TOO_BIG ? "longer than a token is" : strerror(-n));
	while (n && (text_out[n - 1] == '\n' || text_out[n - 1] == '\r'))
		n--;
	why = not_a_token(text_out, (size_t)n);
	return why ? fail(who, path, why) : n;
}
