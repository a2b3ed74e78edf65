/* The front door: the table of commands. */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/command.h"
#include "common/base/config.h"
#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/base/opts.h"
#include "common/base/process.h"
#include "common/net/loop.h"
#include "common/net/tls.h"
#include "common/wire/h2.h"
#include "common/wire/http1.h"
#include "common/wire/msg.h"
#include "server/accounts/accounts.h"
#include "server/command.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static int version_command(int argc, char **argv);
static int help_command(int argc, char **argv);

static const struct {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "relay", "carry UDP of a local port to a peer, through a relay", relay_command },
	{ "login", "get a token from a relay, by a browser", login_command },
	{ "server", "run a relay", server_command },
	{ "status", "show what a relay does, from its admin listener", status_command },
	{ "account", "manage the accounts of a relay", account_command },
	{ "token", "make, list and revoke the tokens of an account", token_command },
	{ "key", "make and convert node keys", key_command },
	{ "version", "print the version; --deps: of the libraries too", version_command },
	{ "help", "explain a command", help_command },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *to)
{
	fprintf(to,
	        "tunn carries UDP where UDP is blocked.\n\nusage: tunn COMMAND [options]\n\n"
	        "  tunn relay 51820 --id laptop --peer home    the same on both ends, ids swapped\n"
	        "  tunn server                                 a relay of your own\n\n");
	for (unsigned i = 0; i < N_COMMANDS; i++)
		fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "\ntunn COMMAND --help tells more; the manual is tunn(1).\n");
}

struct version_options {
	bool deps;
};
static const struct opt version_opts[] = {
	{ .kind = OPT_FLAG,
	  .name = "deps",
	  .offset = offsetof(struct version_options, deps),
	  .help = "also the versions of the libraries" },
	{ .kind = OPT_END },
};
static const struct opt_command version_cmd = {
	.name = "version", .usage = "[--deps]", .summary = "print the version", .opts = version_opts
};

static int version_command(int argc, char **argv)
{
	struct version_options o = { 0 };
	bool help;

	if (opts_read(&version_cmd, argc, argv, &o, NULL, &help))
		return EXIT_USAGE;
	if (help)
		return EXIT_OK;
	printf("tunn %s\n", TUNN_VERSION);
	if (o.deps)
		printf("nghttp2 %s\nprotobuf-c %s\nhttp-parser %s\nopenssl %s\nlibevent %s\n"
		       "libsodium %s\nlibyaml %s\nsqlite %s\njansson %s\n",
		       h2_library_version(), msg_library_version(), http1_library_version(),
		       tls_version(), loop_library_version(), crypto_version(),
		       config_library_version(), accounts_library_version(),
		       json_library_version());
	return EXIT_OK;
}

static int unknown(const char *word)
{
	const char *names[N_COMMANDS];

	for (unsigned i = 0; i < N_COMMANDS; i++)
		names[i] = commands[i].name;
	const char *near = opts_nearest(word, names, N_COMMANDS);
	opts_fail(NULL, "unknown command %s%s%s%s", opts_quote(word).s,
	          near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	usage(stderr);
	return EXIT_USAGE;
}

static int run(int argc, char **argv)
{
	for (unsigned i = 0; i < N_COMMANDS; i++)
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].run(argc, argv);
	return unknown(argv[0]);
}

static int help_command(int argc, char **argv)
{
	char option[] = "--help";
	char *words[] = { argc > 1 ? argv[1] : NULL, option, NULL };

	if (argc > 1 && strcmp(argv[1], "help") != 0 && strcmp(argv[1], "--help") != 0)
		return run(2, words);
	usage(stdout);
	return EXIT_OK;
}

/* A socket must never become standard output (C26). */
static void fill_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* What is a command with dashes in front. */
static int run_or_flag(int argc, char **argv)
{
	if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)
		return help_command(1, argv);
	if (strcmp(argv[0], "--version") == 0)
		return version_command(1, argv);
	return run(argc, argv);
}

int main(int argc, char **argv)
{
	fill_standard_descriptors();
	process_hide_memory();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit on files costs a journal, not the relay */
	if (crypto_start() < 0) {
		opts_fail(NULL, "no source of randomness");
		return EXIT_FAILED;
	}
	json_start();
	if (argc > 1)
		return run_or_flag(argc - 1, argv + 1);
	usage(stderr);
	return EXIT_USAGE;
}
