#include "common/net/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/err.h"

enum { FIRST_FD = 3 };

static long number_in(const char *variable)
{
	const char *text = getenv(variable);
	char *end;

	if (!text || !*text)
		return 0;
	errno = 0;
	long n = strtol(text, &end, 10);
	return errno || *end ? -1 : n;
}

static int option_of(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

static bool is_listener(int fd)
{
	int domain = option_of(fd, SO_DOMAIN);

	return (domain == AF_INET || domain == AF_INET6) && option_of(fd, SO_TYPE) == SOCK_STREAM &&
	       option_of(fd, SO_ACCEPTCONN) == 1;
}

int handover_take(int fds_out[static HANDOVER_MAX], char error_out[static HANDOVER_ERROR_LEN])
{
	long pid = number_in("LISTEN_PID"), n = number_in("LISTEN_FDS");

	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (pid != (long)getpid() || n == 0)
		return 0;
	if (n < 0 || n > HANDOVER_MAX) {
		snprintf(error_out, HANDOVER_ERROR_LEN,
		         "LISTEN_FDS must be a number of sockets from 1 to %d", HANDOVER_MAX);
		return ERR_CONFIG;
	}
	for (int i = 0; i < n; i++) {
		if (!is_listener(FIRST_FD + i)) {
			snprintf(error_out, HANDOVER_ERROR_LEN,
			         "descriptor %d, handed over by the service manager, is no listening "
			         "TCP socket: its unit needs ListenStream= and Accept=no",
			         FIRST_FD + i);
			return ERR_CONFIG;
		}
		fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC);
		fds_out[i] = FIRST_FD + i;
	}
	return (int)n;
}
