/*
 * Questions and answers between processes of one machine: a stream socket in a directory, one
 * line each way per connection. Only the socket's owner and root are heard (its mode, and the
 * kernel's word on who connects).
 *
 * The serving side belongs to its loop's thread and never blocks; the asking side blocks.
 */
#ifndef TUNN_NET_LOCAL_SOCKET_H
#define TUNN_NET_LOCAL_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

#include "common/base/bytes.h"
#include "common/net/loop.h"

struct local_socket;

enum {
	LOCAL_QUESTION_MAX = 64 * 1024, /* bytes */
	LOCAL_CONNS_MAX = 16,
	LOCAL_DEADLINE_MS = 5000, /* for the question, and for taking the answer */
};

enum local_socket_trouble { /* why a question is not one */
	                    LOCAL_DENIED,
	                    LOCAL_TOO_BIG,
	                    LOCAL_CROWDED,
};

struct local_socket_events {
	/* The answer to a question of that user: malloc'ed, wiped and freed here, without a line
	 * break. NULL: out of memory, and the asker hears nothing. */
	char *(*question)(void *owner, struct str question, uid_t uid, size_t *len_out);
	char *(*trouble)(void *owner, enum local_socket_trouble, uid_t uid, size_t *len_out);
};

/* Replaces what a process that is gone left there: who calls has the directory for itself. 0 or
 * -errno. */
int local_socket_open(struct loop *, const char *dir, const char *name,
                      const struct local_socket_events *, void *owner,
                      struct local_socket **local_out);
void local_socket_close(
                struct local_socket *); /* removes the socket; NULL allowed; not from an event */

/* Asks and waits for the answer: malloc'ed and with a NUL behind it. 0; -ENOENT or -ECONNREFUSED:
 * nobody serves there; ERR_SLOW; ERR_CLOSED: no answer came; ERR_TOO_BIG; -errno. */
int local_socket_ask(const char *dir, const char *name, struct str question, unsigned limit_ms,
                     char **answer_out, size_t *len_out);

#endif
