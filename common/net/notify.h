/*
 * The service manager, by the protocol of sd_notify(3): one datagram to
 * $NOTIFY_SOCKET per message. Without that variable nothing is sent. Opened once
 * at start, before the sandbox allows no more sockets; then any thread.
 */
#ifndef TUNN_NET_NOTIFY_H
#define TUNN_NET_NOTIFY_H

void notify_open(void);
/* "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=words", several with newlines. */
void notify_say(const char *state);
/* A reload begins; "READY=1" ends it. */
void notify_reloading(void);
/* How often to say WATCHDOG=1: half of what the manager waits. 0: it does not watch. */
unsigned notify_watchdog_ms(void);

#endif
