/* `tunn relay`, `tunn login` and `tunn key`. */
#ifndef TUNN_CLIENT_COMMAND_H
#define TUNN_CLIENT_COMMAND_H

/* The exit code. crypto_start() has been called. */
int relay_command(int argc, char **argv);
int login_command(int argc, char **argv);
int key_command(int argc, char **argv);

#endif
