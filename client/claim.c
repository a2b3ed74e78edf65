#include "client/claim.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* An abstract name (unix(7)) is the network namespace's, as a port is, and goes with
 * its socket. */
static socklen_t name_of(const char *address, struct sockaddr_un *un_out)
{
	*un_out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int n = snprintf(un_out->sun_path + 1, sizeof un_out->sun_path - 1, "tunn/listen/%s",
	                 address);

	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int claim_listening(const struct addr *a)
{
	char text[ADDR_TEXT_LEN];
	struct sockaddr_un un;
	socklen_t len = name_of(addr_text(a, text), &un);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&un, len) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool is_held(const char *address)
{
	struct sockaddr_un un;
	socklen_t len = name_of(address, &un);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool held = fd >= 0 && connect(fd, (const struct sockaddr *)&un, len) == 0;

	if (fd >= 0)
		close(fd);
	return held;
}

bool claim_is_held(const struct addr *a)
{
	char text[ADDR_TEXT_LEN];
	struct addr all;

	if (is_held(addr_text(a, text)))
		return true;
	addr_of_ip(a->ss.ss_family == AF_INET6 ? "::" : "0.0.0.0", addr_port(a), &all);
	return addr_is_loopback(a) && is_held(addr_text(&all, text));
}
