/*
 * Listening sockets that the service manager opened and hands over, so that no
 * connection is refused while the program is replaced (sd_listen_fds(3): LISTEN_PID,
 * LISTEN_FDS, descriptors from 3 on). Main thread, once, before others start.
 */
#ifndef TUNN_NET_HANDOVER_H
#define TUNN_NET_HANDOVER_H

enum { HANDOVER_MAX = 16, HANDOVER_ERROR_LEN = 160 };

/* How many there are, in fds_out, now the caller's; close-on-exec. 0 without a
 * service manager. ERR_CONFIG with words in error_out if one is not a listening TCP
 * socket or there are more than HANDOVER_MAX. The variables are gone afterwards. */
int handover_take(int fds_out[static HANDOVER_MAX], char error_out[static HANDOVER_ERROR_LEN]);

#endif
