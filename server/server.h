/*
 * The relay: owns its workers, the accounts thread and the signals. Main thread.
 */
#ifndef TUNN_SERVER_SERVER_H
#define TUNN_SERVER_SERVER_H

#include "server/options.h"

/* Runs until SIGTERM or SIGINT has drained it; argv is read again on SIGHUP.
 * Gives the exit code. */
int server_run(const struct server_options *, int argc, char **argv);

#endif
