#include "client/options.h"
#include "client/token_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/token.h"

enum { TEXT_LEN = 1024 };

struct place {            /* where the token goes */
	const char *from; /* for people */
	char *token;
	size_t cap;
};

static int fail(const struct place *p, const char *words)
{
	return opts_fail("relay", "token from %s: %s", p->from, words);
}

/* One line; blanks around it do not count. The text is the caller's to wipe. */
static int take_line(const struct place *p, const char *text, size_t len)
{
	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	while (len && isspace((unsigned char)*text)) {
		text++;
		len--;
	}
	if (len == 0)
		return fail(p, "it is empty");
	if (memchr(text, '\n', len) || memchr(text, '\r', len))
		return fail(p, "it has more than one line");
	if (len >= p->cap || token_check((struct str){ text, len }))
		return fail(p, "malformed token: it is tunn_ID_SECRET_CRC, was it copied in full?");
	memcpy(p->token, text, len);
	p->token[len] = 0;
	return 0;
}

/* len: what reading `text` gave, or why it failed. */
static int take_read(const struct place *p, char text[static TEXT_LEN], int len)
{
	int rc;

	if (len == ERR_TOO_BIG)
		rc = fail(p, "it is far too long for a token");
	else if (len < 0)
		rc = fail(p, err_text(len));
	else
		rc = take_line(p, text, (size_t)len);
	crypto_wipe(text, TEXT_LEN);
	return rc;
}

static int take_input(const struct place *p)
{
	char text[TEXT_LEN];
	int len = file_ask("token", text, sizeof text);

	return take_read(p, text, len);
}

static int take_file(const struct place *p)
{
	char text[TEXT_LEN];
	const char *why;
	bool is_private;
	int fd = file_open(p->from, &is_private, &why), rc;

	if (fd < 0)
		return fail(p, why);
	if (is_private)
		rc = take_read(p, text, file_read(fd, false, text, sizeof text));
	else
		rc = fail(p, FILE_IS_OPEN_TO_OTHERS);
	close(fd);
	return rc;
}

/* What /proc/PID/environ shows is overwritten, not only forgotten. */
static void wipe_variable(char *value)
{
	crypto_wipe(value, strlen(value));
	unsetenv("TUNN_TOKEN");
}

bool relay_options_place(const char *name, char path_out[static RELAY_PATH_LEN])
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n = -1;

	if (config && config[0] == '/')
		n = snprintf(path_out, RELAY_PATH_LEN, "%s/tunn/%s", config, name);
	else if (home && home[0] == '/')
		n = snprintf(path_out, RELAY_PATH_LEN, "%s/.config/tunn/%s", home, name);
	return n >= 0 && n < RELAY_PATH_LEN;
}

static int take(const struct relay_options *o, const char *variable, const char *stored,
                struct place *p)
{
	if (o->token_file && strcmp(o->token_file, "-") == 0) {
		p->from = "standard input";
		return take_input(p);
	}
	if (o->token_file) {
		p->from = o->token_file;
		return take_file(p);
	}
	if (variable) {
		p->from = "TUNN_TOKEN";
		return take_line(p, variable, strlen(variable));
	}
	p->from = stored;
	return stored[0] && access(stored, F_OK) == 0 ? take_file(p) : 0;
}

/* A self-hoster who forgot --relay must not hand the token to the default relay. */
static bool is_for_another(const struct relay_options *o, const char *variable, const char *stored)
{
	if (!o->relay_is_default)
		return false;
	return o->token_file ? strcmp(o->token_file, stored) != 0 : variable != NULL;
}

int relay_options_token(const struct relay_options *o, const char *authority, char *token_out,
                        size_t cap)
{
	struct place p = { .token = token_out, .cap = cap };
	char *variable = getenv("TUNN_TOKEN");
	char stored[TOKEN_PATH_LEN];
	int rc;

	token_out[0] = 0;
	token_file_path(authority, stored);
	if (relay_options_are_native(o))
		rc = 0;
	else if (is_for_another(o, variable, stored))
		rc = opts_fail("relay",
		               "which relay is the token for? Say --relay URL; to the default "
		               "relay only the token stored for it is sent (%s)",
		               stored);
	else
		rc = take(o, variable, stored, &p);
	if (variable)
		wipe_variable(variable);
	return rc;
}
