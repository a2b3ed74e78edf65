/*
 * Raw TCP on loopback for tests that need the other side in their own hands.
 */
#ifndef TUNN_UNIT_TCP_H
#define TUNN_UNIT_TCP_H

#include "tests/unit/said.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

/* A listening socket; its port. */
static inline int tcp_listen(uint16_t *port_out)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a) | listen(fd, 16), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	*port_out = ntohs(a.sin_port);
	return fd;
}

/* Two connected sockets, non-blocking. */
static inline void tcp_pair_of(int fds[2], int segment) /* bytes; 0: as loopback has them */
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint16_t port;
	int l = tcp_listen(&port);

	a.sin_port = htons(port);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (segment) {
		setsockopt(l, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
		setsockopt(fds[0], IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
	}
	assert_int_equal(connect(fds[0], (struct sockaddr *)&a, sizeof a), 0);
	fds[1] = accept(l, NULL, NULL);
	close(l);
	for (unsigned i = 0; i < 2; i++)
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
}

static inline void tcp_pair(int fds[2]) { tcp_pair_of(fds, 0); }

#endif
