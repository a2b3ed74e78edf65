/*
 * The control socket of a running server, STATE/control.sock: `tunn account` and `tunn token`
 * ask there (commands.h says what), its owner and root alone. On the accounts thread's loop; where
 * there is none, on the main thread's.
 */
#ifndef TUNN_SERVER_CONTROL_H
#define TUNN_SERVER_CONTROL_H

#include "common/net/loop.h"
#include "server/commands/commands.h"

#define CONTROL_NAME "control.sock"

struct control;

/* Borrows the commands for as long as it lives; NULL: the relay is open and has no accounts, which
 * is what everybody is told. 0, or negative with words. The state directory
 * is locked. */
int control_open(struct loop *, const char *state_dir, const struct commands *,
                 struct control **control_out, char error_out[static ACCOUNTS_ERROR_LEN]);
void control_close(struct control *); /* NULL allowed */

#endif
