#include "server/command.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/opts.h"
#include "server/accounts.h"
#include "server/server.h"
#include "server/state.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int server_command(int argc, char **argv)
{
	struct server_options opts;
	enum log_level level;
	bool help;

	if (server_options_read(argc, argv, &opts, &help) < 0)
		return EXIT_USAGE;
	if (help)
		return EXIT_OK;
	log_level_of(opts.log_level, &level); /* checked when read */
	log_set_level(level);
	return server_run(&opts, argc, argv);
}

/* ---- account, token: on the server's state, beside a running server or not ---- */

struct state_options {
	const char *state, *id;
	const char *expires;
};

static const char *check_id(const char *v)
{
	return name_is_valid(str_of(v)) ? NULL : "must be 1 to 63 of a-z, 0-9 and -";
}

/* `90d` or `12h`; no longer than any other time (366 days). */
static int64_t seconds_of(const char *v)
{
	size_t digits = strspn(v, "0123456789");
	int64_t n = 0, unit = strcmp(v + digits, "d") == 0 ? 86400 :
	                      strcmp(v + digits, "h") == 0 ? 3600 :
	                                                     0;

	if (digits == 0 || digits > 5 || unit == 0)
		return 0;
	for (size_t i = 0; i < digits; i++)
		n = n * 10 + v[i] - '0';
	n *= unit;
	return n <= (int64_t)366 * 86400 ? n : 0;
}

static const char *check_expires(const char *v)
{
	return seconds_of(v) ? NULL : "must be days or hours, like 90d or 12h, at most 366d";
}

#define AT(field) offsetof(struct state_options, field)

#define STATE_OPT                                                                                  \
	{                                                                                          \
		.kind = OPT_TEXT, .name = "state", .arg = "DIR", .offset = AT(state),              \
		.help = "the server's state directory; default as tunn server"                     \
	}

static const struct opt account_opts[] = { STATE_OPT, { .kind = OPT_END } };

static const struct opt token_opts[] = {
	{ .kind = OPT_TEXT,
	  .name = "id",
	  .arg = "ID",
	  .offset = AT(id),
	  .check = check_id,
	  .help = "the token claims only this tunnel id" },
	{ .kind = OPT_TEXT,
	  .name = "expires",
	  .arg = "TIME",
	  .offset = AT(expires),
	  .check = check_expires,
	  .help = "the token ends after this time (90d, 12h); default: never" },
	STATE_OPT,
	{ .kind = OPT_END },
};

static const struct opt_command account_cmd = {
	.name = "account",
	.usage = "add NAME [options]",
	.summary = "manage the accounts of a relay",
	.text = "Adds an account to the relay whose state is on this machine. It works beside a running "
	        "server, which knows the account at once.",
	.opts = account_opts,
	.file_of = server_opts,
};
static const struct opt_command token_cmd = {
	.name = "token",
	.usage = "new ACCOUNT [options]",
	.summary = "make tokens for an account",
	.text = "Makes a token and prints it, this once: only a hash of it is stored. It works beside a "
	        "running server, which knows the token at once.",
	.opts = token_opts,
	.file_of = server_opts,
};

/* The verb and its one word. */
static int read_words(const struct opt_command *cmd, const char *verb, const char *what,
                      const struct opt_list *words)
{
	if (words->n == 0 || strcmp(words->v[0], verb) != 0)
		return opts_fail(cmd->name, "usage: tunn %s %s", cmd->name, cmd->usage);
	if (words->n != 2)
		return opts_fail(cmd->name, "%s needs one %s: tunn %s %s", verb, what, cmd->name,
		                 cmd->usage);
	return 0;
}

static int failed(const char *command, const char *text)
{
	opts_fail(command, "%s", text);
	return EXIT_FAILED;
}

int account_command(int argc, char **argv)
{
	struct state_options o = { 0 };
	struct opt_list words = { 0 };
	char error[ACCOUNTS_ERROR_LEN];
	struct accounts *a;
	bool help;

	if (opts_read(&account_cmd, argc, argv, &o, &words, &help) < 0)
		return EXIT_USAGE;
	if (help)
		return EXIT_OK;
	if (read_words(&account_cmd, "add", "NAME", &words) < 0)
		return EXIT_USAGE;
	if (!name_is_valid(str_of(words.v[1]))) {
		opts_fail("account", "\"%s\": %s", words.v[1], check_id(""));
		return EXIT_USAGE;
	}
	if (accounts_open(o.state ? o.state : state_default_dir(), &a, error) < 0)
		return failed("account", error);
	int rc = accounts_add(a, words.v[1], NULL, error);
	accounts_close(a);
	if (rc < 0)
		return failed("account", error);
	fprintf(stderr, "tunn: account %s added; make a token with: tunn token new %s\n",
	        words.v[1], words.v[1]);
	return EXIT_OK;
}

int token_command(int argc, char **argv)
{
	struct state_options o = { 0 };
	struct opt_list words = { 0 };
	char error[ACCOUNTS_ERROR_LEN], token[TOKEN_LEN + 1];
	struct accounts *a;
	bool help;

	if (opts_read(&token_cmd, argc, argv, &o, &words, &help) < 0)
		return EXIT_USAGE;
	if (help)
		return EXIT_OK;
	if (read_words(&token_cmd, "new", "ACCOUNT", &words) < 0)
		return EXIT_USAGE;
	if (accounts_open(o.state ? o.state : state_default_dir(), &a, error) < 0)
		return failed("token", error);
	int64_t expires = o.expires ? time(NULL) + seconds_of(o.expires) : 0;
	int rc = accounts_token_new(a, words.v[1], o.id, expires, token, error);
	accounts_close(a);
	if (rc < 0)
		return failed("token", error);
	fprintf(stderr, "tunn: token of account %s, shown only now:\n", words.v[1]);
	printf("%s\n", token);
	crypto_wipe(token, sizeof token);
	return EXIT_OK;
}
