/*
 * One relay of our mesh as it is written: HOST[:PORT][/DIALHOST]. HOST is whose
 * certificate it must show, DIALHOST, if given, whose address is dialled instead. Any
 * thread.
 */
#ifndef TUNN_SERVER_MESH_WITH_H
#define TUNN_SERVER_MESH_WITH_H

#include <stdint.h>

enum { MESH_WITH_MAX = 64, MESH_HOST_LEN = 256 };

struct mesh_with { /* value type */
	char host[MESH_HOST_LEN], dial_host[MESH_HOST_LEN];
	char authority[MESH_HOST_LEN + 16]; /* as in a URL: the port only where it is not 443 */
	uint16_t port;
};

int mesh_with_of(const char *text, struct mesh_with *with_out); /* 0 or ERR_INVALID */
const char *mesh_with_check(const char *text);                  /* an opt_check */

#endif
