/*
 * WebSocket (RFC 6455), a server's side, the one door to wslay: the answer to the
 * handshake, then payload of binary messages out of bytes and bytes out of payload.
 * The boundaries of messages mean nothing (derp.md 1.10). In memory, bounded, no
 * extensions. Reads no clock. One thread.
 */
#ifndef TUNN_WIRE_WS_H
#define TUNN_WIRE_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/wire/http1.h"

enum {
	WS_SEND_MAX = 32768,       /* of a message of ours: the Go and browser ends take no more */
	WS_RECEIVE_MAX = 16 << 20, /* of a message of theirs; it passes through, nothing holds it */
	WS_PONGS_MAX = 8192,       /* bytes of pongs that wait for somebody to read them */
};

/* RFC 6455 7.4.1 */
enum ws_code {
	WS_NORMAL = 1000,
	WS_GOING_AWAY = 1001,
	WS_PROTOCOL = 1002,
	WS_UNSUPPORTED = 1003,
	WS_POLICY = 1008,
	WS_TOO_BIG = 1009,
	WS_INTERNAL = 1011,
};

/* Does derper take this for WebSocket? Otherwise `Upgrade: websocket` is an old
 * name of raw DERP (derp.md 1.4). */
bool ws_is_asked_for(const struct http1_request *);

/* The answer to a handshake: 101, or a refusal behind which the connection ends.
 * Its pointers lead to constants and into the struct, which must not be moved. */
struct ws_answer {
	struct http1_answer answer;
	struct http1_field fields[4];
	char accept[29];
	/* 101, but `derp` is no whole token of Sec-WebSocket-Protocol: ws_close(WS_POLICY)
	 * has to follow at once. */
	bool no_protocol;
};
void ws_accept(const struct http1_request *, struct ws_answer *answer_out);

struct ws;

/* payload: bytes of binary messages as they come, borrowed for the call; it must not call
 * anything here. A negative result ends ws_input() with it. */
int ws_new(int (*payload)(void *owner, const uint8_t *data, size_t len), void *owner,
           struct ws **ws_out); /* 0 or -ENOMEM */
void ws_free(struct ws *);      /* NULL allowed */

/* Eats all. 0; ERR_CLOSED: the other side has closed, or the answer to our own close came;
 * ERR_PROTOCOL, ERR_TOO_BIG, ERR_FLOOD, -ENOMEM. After a failure, too, ws_flush() may
 * have something to say (a close frame), and the connection ends behind it. */
int ws_input(struct ws *, const uint8_t *data, size_t len);
/* Frames since the last question that carry nothing: pings, pongs, and data frames without
 * data. The transport keeps the budget. */
unsigned ws_n_controls(struct ws *);

/* Appends messages of at most WS_SEND_MAX bytes with this payload. 0, ERR_CLOSED after a
 * close frame, or -ENOMEM. */
int ws_send(struct ws *, const void *data, size_t len, struct buf *out);
/* Appends the control frames that wait. 0 or -ENOMEM. */
int ws_flush(struct ws *, struct buf *out);
bool ws_has_output(const struct ws *); /* control frames wait */
/* Queues a close frame, once. Nothing is sent behind it, and payload is no longer
 * told. 0 or -ENOMEM. */
int ws_close(struct ws *, enum ws_code);

const char *ws_library_version(void);

#endif
