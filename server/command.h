/*
 * The server's commands; each gives the exit code.
 */
#ifndef TUNN_SERVER_COMMAND_H
#define TUNN_SERVER_COMMAND_H

int server_command(int argc, char **argv);
int account_command(int argc, char **argv);
int token_command(int argc, char **argv);
int status_command(int argc, char **argv);

#endif
