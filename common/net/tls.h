/*
 * The one door to OpenSSL: contexts, and one connection's record layer over
 * memory. tls_* never touches a socket: conn.c feeds ciphertext in and takes
 * ciphertext out.
 *
 * A context may be shared by threads after it is made (reference counted with
 * atomics inside OpenSSL); a struct tls belongs to one thread.
 */
#ifndef TUNN_NET_TLS_H
#define TUNN_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"

enum { TLS_PIN_LEN = 32, TLS_RECORD_MAX = 16384, TLS_ERROR_LEN = 384 };

struct tls_ctx;
struct tls;

/* Once, before all else here. -ENOMEM: not to be used, OpenSSL would crash. */
int tls_start(void);

/* Server: PEM chain, each certificate followed by that of its issuer, and key.
 * error_out gets words for people (file, what is wrong, way out). TLS 1.2 with ECDHE+AEAD and 1.3;
 * AES-128-GCM first where the CPU has AES; X25519 or P-256; no renegotiation, compression or early
 * data; ALPN from `alpn` (NULL-terminated, in order of preference; a client that offers none is let
 * in without, one that offers only others gets no_application_protocol). */
struct tls_server_conf {
	const char *cert_file, *key_file;
	const char *const *alpn;
	const char *const *names; /* DNS names and addresses that the certificate must be for */
	size_t n_names;
	bool allow_expired;
	/* 32 bytes, borrowed: sent with a meta certificate behind the chain. NULL: none */
	const uint8_t *derp_public;
};
int tls_server_ctx_new(const struct tls_server_conf *, struct tls_ctx **ctx_out,
                       char error_out[static TLS_ERROR_LEN]);

/* When the certificate of a server's context expires. */
int64_t tls_not_after_unix_s(const struct tls_ctx *);
/* What clients pin a server's certificate by as sha256-raw:HEX, the SHA-256 of its DER.
 * ERR_INVALID: they would refuse it, since it is not sent alone. */
int tls_leaf_raw_sha256(const struct tls_ctx *, uint8_t hash_out[static TLS_PIN_LEN]);

/* Client. ca_file NULL: the system's store. pin and raw_pin NULL: none; either replaces
 * chain checks unless ca_file is given too (product.md section 3), pin the name as well.
 * raw_pin is a DERP node's sha256-raw: one certificate (meta certificates aside), valid
 * now, its subjectAltName for the server. */
struct tls_client_conf {
	const char *ca_file;
	const uint8_t *pin;      /* SHA-256 of the leaf's SubjectPublicKeyInfo */
	const uint8_t *raw_pin;  /* SHA-256 of the leaf */
	const char *verify_name; /* instead of the server's, which stays the SNI; NULL or "": none
	                          */
	const char *const *alpn; /* NULL: none is offered */
	const char *ca_option;   /* how people give ca_file, a literal; NULL: --ca, beside --pin */
};
int tls_client_ctx_new(const struct tls_client_conf *, struct tls_ctx **ctx_out,
                       char error_out[static TLS_ERROR_LEN]);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *);
void tls_ctx_unref(struct tls_ctx *); /* NULL allowed */

/* server_name: SNI and the name to verify (client); a numeric address is
 * verified as an address and not sent. NULL on the server. */
int tls_new(struct tls_ctx *, const char *server_name, struct tls **tls_out);
void tls_free(struct tls *);

/* Handshake: feed what arrived, then step. ERR_AGAIN: more bytes needed; 0: done;
 * ERR_TLS: failed, ERR_UNTRUSTED: by the certificate shown; tls_error_text() says why.
 * Output goes to `out` in all cases. */
int tls_handshake(struct tls *, struct buf *out);
const char *tls_alpn(const struct tls *); /* "" when none was chosen */
/* Client, after the handshake: the key that a DERP server told with its certificates, so
 * that it need not be waited for. It is as good as the peer's certificate. False: none. */
bool tls_peer_derp_key(const struct tls *, uint8_t key_out[static 32]);

/* Ciphertext from the socket. Borrows `data` until the next tls_feed() or
 * until tls_read() has returned ERR_AGAIN, whichever comes first. */
void tls_feed(struct tls *, const uint8_t *data, size_t len);
/* One record's plaintext at most. >0 bytes, ERR_AGAIN, ERR_CLOSED (close_notify),
 * ERR_TLS. May append (KeyUpdate, tickets) to `out`. */
int tls_read(struct tls *, uint8_t *dst, size_t cap, struct buf *out);
/* What a server reads first may hold a token: the library wipes its own copy, the
 * reader does so with `dst` while this is true. */
bool tls_is_early(const struct tls *);
/* Messages of the handshake protocol received after the handshake, so far:
 * KeyUpdate, tickets. Each costs CPU and none is needed often. */
unsigned tls_late_messages(const struct tls *);
/* Seals len bytes (one record per 16 KiB) into `out`. 0, ERR_TLS or -ENOMEM. */
int tls_write(struct tls *, const uint8_t *data, size_t len, struct buf *out);
void tls_shutdown(struct tls *, struct buf *out); /* close_notify */
/* Nothing is going on: keeps little memory until it is called for anything again. */
void tls_nap(struct tls *);

/* Words for people about the last failure: certificate problems name subject,
 * issuer and the way out (--ca, --pin). */
const char *tls_error_text(const struct tls *);
const char *tls_cipher(const struct tls *);

const char *tls_version(void); /* of OpenSSL */

void tls_thread_done(void); /* gives the calling thread's spare buffers back */

#endif
