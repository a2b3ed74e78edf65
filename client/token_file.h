/*
 * The file of the token for a relay, one for each host and port: whoever asks for no other uses
 * it, and another relay of the same host never gets it. Blocks: start and commands only. Main
 * thread.
 */
#ifndef TUNN_CLIENT_TOKEN_FILE_H
#define TUNN_CLIENT_TOKEN_FILE_H

#include <stdbool.h>

#include "client/options.h"

enum { TOKEN_PATH_LEN = RELAY_PATH_LEN };

/* Where it is, there or not, of a relay_place's authority: "" where there is no home, or the host
 * cannot be part of a path. */
void token_file_path(const char *authority, char out[static TOKEN_PATH_LEN]);
/* Makes it, mode 0600, and the directories on the way. 0, -EEXIST without `force`, or -errno. */
int token_file_write(const char *path, const char *token, bool force);

#endif
