/*
 * The file with the token of the admin listener, as the server and who asks it read it.
 * Start and commands only: blocks. Prints its own errors, never the token.
 */
#ifndef TUNN_SERVER_ADMIN_TOKEN_H
#define TUNN_SERVER_ADMIN_TOKEN_H

#include "server/admin/admin_guard.h"

/* Its length; ERR_CONFIG after "WHO FILE: why". text_out is the caller's to wipe. */
int admin_token_read(const char *who, const char *path, char text_out[static ADMIN_TOKEN_MAX]);

#endif
