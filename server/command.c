#include "server/command.h"

#include "common/base/log.h"
#include "common/base/opts.h"
#include "server/server.h"

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
