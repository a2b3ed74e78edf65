/*
 * A conn: one non-blocking TCP connection with TLS on it, or plain, as a byte stream.
 *
 * NEW -> SECURING -> UP -> CLOSED. conn_close() may be called in any state and
 * from inside any callback; it is idempotent; the memory goes in the loop's
 * sweep. No callback comes after conn_close() or after `closed`. Belongs to its
 * loop's thread.
 *
 * Sending: sealed records cannot be dropped any more, so the owner seals only
 * what conn_room() allows: at most 16 KiB less what the kernel still holds
 * unsent, up to 64 KiB while the socket keeps being found empty. `room` is told
 * when there is room again after there was none.
 */
#ifndef TUNN_NET_CONN_H
#define TUNN_NET_CONN_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/net/addr.h"
#include "common/net/loop.h"
#include "common/net/tls.h"

struct conn;

struct conn_events {
	void (*up)(void *owner, const char *alpn); /* handshake done; alpn "" if none */
	void (*bytes)(void *owner, const uint8_t *data, size_t len); /* borrowed */
	void (*room)(void *owner);
	/* Told once, not after conn_close(). text for people, "" if none. */
	void (*closed)(void *owner, enum close_why, const char *text);
};

struct conn_conf {
	int fd;                  /* connected TCP; taken, also on failure */
	struct tls_ctx *tls;     /* referenced */
	bool plain;              /* no TLS: up at once, bytes as they are */
	const char *server_name; /* client; borrowed for the call */
	const uint8_t *early; /* read from fd already (surplus behind a proxy's reply); likewise */
	size_t early_len;
	const struct limits *limits; /* borrowed while the conn lives */
};
int conn_open(struct loop *, const struct conn_conf *, const struct conn_events *, void *owner,
              struct conn **conn_out);

/* Plaintext bytes worth sealing now, of `want` that the owner has: 0 if there is no room,
 * fewer than there could be if it wants few. */
size_t conn_room(struct conn *, size_t want);
/* Seals and queues. Any length is accepted (control must go out), but more than
 * conn_room() grows memory; see conn_unsent(). */
int conn_write(struct conn *, const uint8_t *data, size_t len);
void conn_flush(struct conn *);          /* one batched write to the socket */
size_t conn_unsent(const struct conn *); /* ciphertext still in our memory */
/* When the kernel last took a byte, or had nothing to take. */
uint64_t conn_progress_ms(const struct conn *);
/* Nothing is going on: keeps little memory until something does. */
void conn_nap(struct conn *);
/* Reads nothing for so long, beyond what was read already. 0: nothing happens. */
void conn_rest(struct conn *, uint32_t ms);
/* We are going to take no more than that, in the long run: the window is what this needs, with
 * the round trip of the moment, and little is read at a time, since what waits in the kernel is
 * late. UINT64_MAX: as much as comes. Again when the rate or the path has changed. */
void conn_narrow(struct conn *, uint64_t bytes_per_s);
size_t conn_unread(const struct conn *); /* bytes that wait for us in the kernel */
/* Flushes what the socket takes at once, says close_notify, closes. */
void conn_close(struct conn *); /* NULL allowed */
void conn_reset(struct conn *); /* closes without a word, RST */

const struct addr *conn_peer(const struct conn *);
const struct addr *conn_local(const struct conn *);
const char *conn_cipher(const struct conn *);
bool conn_peer_derp_key(const struct conn *, uint8_t key_out[static 32]); /* tls_peer_derp_key() */

/* Gives the calling thread's read buffers back; its conns are closed. */
void conn_thread_done(void);

/* Options every tunn TCP socket gets: TCP_NODELAY, TCP_NOTSENT_LOWAT 16 KiB,
 * TCP_USER_TIMEOUT 15 s, keepalive 120/10/3, BBR where listed. Failures of
 * single options are not errors. */
void conn_tune(int fd);
/* What of that this kernel refuses to us, in words; false: nothing (F37). */
enum { CONN_LACKS_LEN = 160 };
bool conn_lacks(char lacks_out[static CONN_LACKS_LEN]);

#endif
