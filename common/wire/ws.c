#include "common/wire/ws.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

enum { CONTROL_LEN_MAX = 125 }; /* RFC 6455 5.5 */

struct ws {
	wslay_frame_context_ptr wslay; /* 4.2 kB: takes off the mask in a buffer of its own */
	int (*payload)(void *owner, const uint8_t *data, size_t len);
	void *owner;
	struct cursor in;   /* during ws_input() */
	struct buf *out;    /* where on_send() appends */
	struct buf waiting; /* pongs, close */
	uint64_t frame_len; /* what has come of the frame */
	uint64_t message_len;
	uint8_t control[CONTROL_LEN_MAX]; /* payload of the control frame that is coming */
	unsigned n_controls;
	bool in_message, closed; /* we have said close */
	int err;                 /* what ended ws_input() */
};

/* ---- handshake ---- */

bool ws_is_asked_for(const struct http1_request *q)
{
	struct str protocol = q->field[HTTP1_SEC_WEBSOCKET_PROTOCOL];

	return http1_has_token(q->field[HTTP1_UPGRADE], STR("websocket")) && protocol.len &&
	       memmem(protocol.p, protocol.len, "derp", 4);
}

/* 16 bytes in base64, RFC 6455 4.2.1 */
static bool is_key(struct str s)
{
	uint8_t nonce[16];

	return s.len == 24 && crypto_base64_decode(s, nonce, sizeof nonce) == sizeof nonce;
}

static int accept_key(struct str key, char out[static 29])
{
	static const struct str guid = STR("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
	uint8_t digest[20];
	int rc = crypto_sha1((struct str[]){ key, guid }, 2, digest);

	if (rc < 0)
		return rc;
	crypto_base64(digest, sizeof digest, out, 29);
	return 0;
}

static void add_field(struct ws_answer *a, struct str name, struct str value)
{
	a->fields[a->answer.n_fields++] = (struct http1_field){ name, value };
}

static void refuse(struct ws_answer *a, int status, struct str words)
{
	a->answer.status = status;
	a->answer.body = words;
	a->answer.close = status != 426; /* which says itself what it wants of Connection */
}

void ws_accept(const struct http1_request *q, struct ws_answer *a)
{
	struct str key = q->field[HTTP1_SEC_WEBSOCKET_KEY];

	*a = (struct ws_answer){ .answer = { .status = 101,
		                             .fields = a->fields,
		                             .to_head = str_eq(q->method, STR("HEAD")) } };
	if (q->minor == 0 || !q->has_upgrade) {
		refuse(a, 426, STR("WebSocket wants HTTP/1.1 and Connection: Upgrade\n"));
		add_field(a, STR("Connection"), STR("Upgrade"));
		add_field(a, STR("Upgrade"), STR("websocket"));
	} else if (!str_eq(q->method, STR("GET"))) {
		refuse(a, 405, STR("WebSocket begins with GET\n"));
		add_field(a, STR("Allow"), STR("GET"));
	} else if (!str_eq(q->field[HTTP1_SEC_WEBSOCKET_VERSION], STR("13"))) {
		refuse(a, 400, STR("Sec-WebSocket-Version has to be 13\n"));
		add_field(a, STR("Sec-WebSocket-Version"), STR("13"));
	} else if (q->n_field[HTTP1_SEC_WEBSOCKET_KEY] != 1 || !is_key(key)) {
		refuse(a, 400, STR("Sec-WebSocket-Key has to be 16 bytes in base64\n"));
	} else if (accept_key(key, a->accept) < 0) {
		refuse(a, 503, STR("the relay is out of memory\n"));
	}
	if (a->answer.status != 101) {
		add_field(a, STR("Content-Type"), STR("text/plain; charset=utf-8"));
		return;
	}
	add_field(a, STR("Upgrade"), STR("websocket"));
	add_field(a, STR("Connection"), STR("Upgrade"));
	add_field(a, STR("Sec-WebSocket-Accept"), str_of(a->accept));
	a->no_protocol = !http1_has_token(q->field[HTTP1_SEC_WEBSOCKET_PROTOCOL], STR("derp"));
	if (!a->no_protocol)
		add_field(a, STR("Sec-WebSocket-Protocol"), STR("derp"));
}

/* ---- what comes in ---- */

static int say(struct ws *ws, struct buf *out, unsigned opcode, const uint8_t *data, size_t len);

/* What is queued can still be said. */
static int refuse_frame(struct ws *ws, enum ws_code code, int err)
{
	int rc = ws_close(ws, code);

	return rc < 0 ? rc : err;
}

/* RFC 6455 5.1, 5.2, 5.4 */
static int judge_frame(struct ws *ws, const struct wslay_frame_iocb *f)
{
	bool is_begun = f->opcode == WSLAY_CONTINUATION_FRAME;

	if (f->rsv || !f->mask || f->opcode > WSLAY_PONG)
		return refuse_frame(ws, WS_PROTOCOL, ERR_PROTOCOL);
	if (wslay_is_ctrl_frame(f->opcode) || f->payload_length == 0)
		ws->n_controls++;
	if (wslay_is_ctrl_frame(f->opcode))
		return 0;
	if (f->opcode > WSLAY_BINARY_FRAME || is_begun != ws->in_message)
		return refuse_frame(ws, WS_PROTOCOL, ERR_PROTOCOL);
	if (f->opcode == WSLAY_TEXT_FRAME)
		return refuse_frame(ws, WS_UNSUPPORTED, ERR_PROTOCOL);
	ws->message_len = is_begun ? ws->message_len : 0;
	if (f->payload_length > WS_RECEIVE_MAX - ws->message_len)
		return refuse_frame(ws, WS_TOO_BIG, ERR_TOO_BIG);
	ws->message_len += f->payload_length;
	ws->in_message = !f->fin;
	return 0;
}

static bool is_code(unsigned code) /* RFC 6455 7.4, and what IANA has beside it */
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

/* The code comes back, the reason does not: nobody here reads it. */
static int on_close(struct ws *ws, size_t len)
{
	unsigned code = len >= 2 ? (unsigned)ws->control[0] << 8 | ws->control[1] : 0;

	if (len == 1 || (len && !is_code(code)))
		return refuse_frame(ws, WS_PROTOCOL, ERR_PROTOCOL);
	if (ws->closed)
		return ERR_CLOSED;
	ws->closed = true;
	int rc = say(ws, &ws->waiting, WSLAY_CONNECTION_CLOSE, ws->control, len ? 2 : 0);
	return rc < 0 ? rc : ERR_CLOSED;
}

static int on_ping(struct ws *ws, size_t len)
{
	if (ws->closed)
		return 0;
	if (buf_len(&ws->waiting) + len > WS_PONGS_MAX)
		return refuse_frame(ws, WS_POLICY, ERR_FLOOD);
	return say(ws, &ws->waiting, WSLAY_PONG, ws->control, len);
}

/* Part of a frame, or all of it. */
static int on_part(struct ws *ws, const struct wslay_frame_iocb *f)
{
	bool is_control = wslay_is_ctrl_frame(f->opcode);
	size_t n = f->data_length;
	int rc = ws->frame_len == 0 ? judge_frame(ws, f) : 0;

	if (rc < 0)
		return rc;
	if (is_control && n) /* wslay has seen to it that it fits */
		memcpy(ws->control + ws->frame_len, f->data, n);
	else if (n && !ws->closed)
		rc = ws->payload(ws->owner, f->data, n);
	ws->frame_len += n;
	if (rc < 0 || ws->frame_len < f->payload_length)
		return rc;
	ws->frame_len = 0;
	if (f->opcode == WSLAY_CONNECTION_CLOSE)
		return on_close(ws, (size_t)f->payload_length);
	return f->opcode == WSLAY_PING ? on_ping(ws, (size_t)f->payload_length) : 0;
}

static ssize_t on_recv(uint8_t *buf, size_t cap, int flags, void *arg)
{
	struct ws *ws = arg;
	size_t left = cursor_left(&ws->in), n = left > cap ? cap : left;

	(void)flags;
	if (n == 0)
		return -1;
	memcpy(buf, cursor_take(&ws->in, n), n);
	return (ssize_t)n;
}

int ws_input(struct ws *ws, const uint8_t *data, size_t len)
{
	struct wslay_frame_iocb f;
	ssize_t rc;

	ws->in = cursor_of(data, len);
	while (ws->err == 0 && (rc = wslay_frame_recv(ws->wslay, &f)) != WSLAY_ERR_WANT_READ)
		ws->err = rc < 0 ? refuse_frame(ws, WS_PROTOCOL, ERR_PROTOCOL) : on_part(ws, &f);
	return ws->err;
}

unsigned ws_n_controls(struct ws *ws)
{
	unsigned n = ws->n_controls;

	ws->n_controls = 0;
	return n;
}

/* ---- what goes out ---- */

static ssize_t on_send(const uint8_t *data, size_t len, int flags, void *arg)
{
	(void)flags;
	return buf_add(((struct ws *)arg)->out, data, len) < 0 ? -1 : (ssize_t)len;
}

static int say(struct ws *ws, struct buf *out, unsigned opcode, const uint8_t *data, size_t len)
{
	struct wslay_frame_iocb f = { .fin = 1,
		                      .opcode = (uint8_t)opcode,
		                      .payload_length = len,
		                      .data = data,
		                      .data_length = len };
	size_t before = buf_len(out);

	ws->out = out;
	if (wslay_frame_send(ws->wslay, &f) >= 0)
		return 0;
	buf_cut(out, before); /* half a frame is worse than none, and wslay goes on with it */
	ws->closed = true;
	return ws->err = -ENOMEM;
}

int ws_flush(struct ws *ws, struct buf *out)
{
	int rc = buf_add(out, buf_data(&ws->waiting), buf_len(&ws->waiting));

	if (rc == 0)
		buf_done(&ws->waiting);
	return rc;
}

int ws_send(struct ws *ws, const void *data, size_t len, struct buf *out)
{
	struct cursor c = cursor_of(data, len);
	int rc = ws->closed ? ERR_CLOSED : ws_flush(ws, out);

	while (rc == 0 && cursor_left(&c)) {
		size_t n = cursor_left(&c) > WS_SEND_MAX ? WS_SEND_MAX : cursor_left(&c);
		rc = say(ws, out, WSLAY_BINARY_FRAME, cursor_take(&c, n), n);
	}
	return rc;
}

bool ws_has_output(const struct ws *ws) { return buf_len(&ws->waiting) > 0; }

int ws_close(struct ws *ws, enum ws_code code)
{
	const uint8_t payload[] = { (uint8_t)(code >> 8), (uint8_t)code };

	if (ws->closed)
		return 0;
	ws->closed = true;
	return say(ws, &ws->waiting, WSLAY_CONNECTION_CLOSE, payload, sizeof payload);
}

int ws_new(int (*payload)(void *owner, const uint8_t *data, size_t len), void *owner,
           struct ws **ws_out)
{
	static const struct wslay_frame_callbacks callbacks = { .send_callback = on_send,
		                                                .recv_callback = on_recv };
	struct ws *ws = calloc(1, sizeof *ws);

	if (!ws)
		return -ENOMEM;
	ws->payload = payload;
	ws->owner = owner;
	if (wslay_frame_context_init(&ws->wslay, &callbacks, ws) != 0) {
		free(ws);
		return -ENOMEM;
	}
	*ws_out = ws;
	return 0;
}

void ws_free(struct ws *ws)
{
	if (!ws)
		return;
	wslay_frame_context_free(ws->wslay);
	buf_done(&ws->waiting);
	free(ws);
}

const char *ws_library_version(void) { return WSLAY_VERSION; }
