#include "common/wire/ws.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

struct ws {
	wslay_event_context_ptr wslay; /* 8.5 kB with its two buffers; browsers are few */
	int (*payload)(void *owner, const uint8_t *data, size_t len);
	void *owner;
	struct cursor in; /* during ws_input() */
	struct buf *out;  /* during ws_flush() */
	uint64_t message_len;
	unsigned n_controls, n_in_input;
	uint8_t opcode; /* of the frame that is coming in */
	int err;        /* what ends ws_input() */
};

/* ---- handshake ---- */

bool ws_is_asked_for(const struct http1_request *q)
{
	struct str protocol = q->field[HTTP1_SEC_WEBSOCKET_PROTOCOL];

	return http1_is_like(q->field[HTTP1_UPGRADE], STR("websocket")) &&
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

	*a = (struct ws_answer){ .answer = { .status = 101, .fields = a->fields } };
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

/* Nothing more is read; what wslay has queued is still to be said. */
static void stop(struct ws *ws, int err)
{
	if (!ws->err)
		ws->err = err;
	wslay_event_shutdown_read(ws->wslay);
}

static void refuse_frame(struct ws *ws, enum ws_code code, int err)
{
	ws_close(ws, code);
	stop(ws, err);
}

static void on_frame_start(wslay_event_context_ptr ctx,
                           const struct wslay_event_on_frame_recv_start_arg *f, void *arg)
{
	struct ws *ws = arg;

	(void)ctx;
	ws->opcode = f->opcode;
	if (wslay_is_ctrl_frame(f->opcode) || f->payload_length == 0) {
		ws->n_controls++;
		if (++ws->n_in_input > WS_CONTROLS_MAX)
			refuse_frame(ws, WS_POLICY, ERR_FLOOD);
	}
	if (wslay_is_ctrl_frame(f->opcode))
		return;
	if (f->opcode != WSLAY_CONTINUATION_FRAME)
		ws->message_len = 0;
	if (f->opcode == WSLAY_TEXT_FRAME)
		refuse_frame(ws, WS_UNSUPPORTED, ERR_PROTOCOL);
	else if (f->payload_length > WS_RECEIVE_MAX - ws->message_len)
		refuse_frame(ws, WS_TOO_BIG, ERR_TOO_BIG);
	else
		ws->message_len += f->payload_length;
}

static void on_frame_chunk(wslay_event_context_ptr ctx,
                           const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
	struct ws *ws = arg;

	(void)ctx;
	if (ws->err || wslay_is_ctrl_frame(ws->opcode) || chunk->data_length == 0)
		return;
	int rc = ws->payload(ws->owner, chunk->data, chunk->data_length);
	if (rc < 0)
		stop(ws, rc);
}

/* One more copy than DERP without WebSocket has: wslay takes off the mask in a buffer
 * of its own, 4 KiB at a time. */
static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t cap, int flags, void *arg)
{
	struct ws *ws = arg;
	size_t n = cursor_left(&ws->in);

	(void)flags;
	if (n == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	n = n > cap ? cap : n;
	memcpy(buf, cursor_take(&ws->in, n), n);
	return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags,
                       void *arg)
{
	struct ws *ws = arg;

	(void)flags;
	if (buf_add(ws->out, data, len) < 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
		return -1;
	}
	return (ssize_t)len;
}

static const struct wslay_event_callbacks callbacks = {
	.recv_callback = on_recv,
	.send_callback = on_send,
	.on_frame_recv_start_callback = on_frame_start,
	.on_frame_recv_chunk_callback = on_frame_chunk,
};

int ws_input(struct ws *ws, const uint8_t *data, size_t len)
{
	if (ws->err)
		return ws->err;
	ws->in = cursor_of(data, len);
	ws->n_in_input = 0;
	int rc = wslay_event_recv(ws->wslay);
	if (ws->err)
		return ws->err;
	if (rc == WSLAY_ERR_NOMEM)
		stop(ws, -ENOMEM);
	else if (wslay_event_get_close_received(ws->wslay))
		stop(ws, ERR_CLOSED);
	else if (rc != 0 || !wslay_event_get_read_enabled(ws->wslay))
		stop(ws, ERR_PROTOCOL); /* the close frame that says so is queued */
	return ws->err;
}

unsigned ws_n_controls(struct ws *ws)
{
	unsigned n = ws->n_controls;

	ws->n_controls = 0;
	return n;
}

/* ---- what goes out ---- */

static int flush(struct ws *ws, struct buf *out)
{
	size_t before = buf_len(out);

	ws->out = out;
	if (wslay_event_send(ws->wslay) == 0)
		return 0;
	buf_cut(out, before); /* half a frame is worse than none */
	stop(ws, -ENOMEM);
	return -ENOMEM;
}

static int queue(struct ws *ws, const uint8_t *data, size_t len)
{
	const struct wslay_event_msg m = { WSLAY_BINARY_FRAME, data, len };

	switch (wslay_event_queue_msg(ws->wslay, &m)) {
	case 0: return 0;
	case WSLAY_ERR_NOMEM: return -ENOMEM;
	default: return ERR_CLOSED;
	}
}

int ws_send(struct ws *ws, const void *data, size_t len, struct buf *out)
{
	struct cursor c = cursor_of(data, len);
	size_t left;

	while ((left = cursor_left(&c)) > 0) {
		size_t n = left > WS_SEND_MAX ? WS_SEND_MAX : left;
		int rc = queue(ws, cursor_take(&c, n), n);
		if (rc == 0) /* at once: wslay holds no more than one */
			rc = flush(ws, out);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int ws_flush(struct ws *ws, struct buf *out) { return flush(ws, out); }
bool ws_has_output(const struct ws *ws) { return wslay_event_want_write(ws->wslay); }

int ws_close(struct ws *ws, enum ws_code code)
{
	int rc = wslay_event_queue_close(ws->wslay, code, NULL, 0);

	return rc == WSLAY_ERR_NOMEM ? -ENOMEM : 0;
}

int ws_new(int (*payload)(void *owner, const uint8_t *data, size_t len), void *owner,
           struct ws **ws_out)
{
	struct ws *ws = calloc(1, sizeof *ws);

	if (!ws)
		return -ENOMEM;
	ws->payload = payload;
	ws->owner = owner;
	if (wslay_event_context_server_init(&ws->wslay, &callbacks, ws) != 0) {
		free(ws);
		return -ENOMEM;
	}
	wslay_event_config_set_no_buffering(ws->wslay, 1);
	wslay_event_config_set_max_recv_msg_length(ws->wslay,
	                                           UINT64_MAX >> 1); /* ours is smaller */
	*ws_out = ws;
	return 0;
}

void ws_free(struct ws *ws)
{
	if (ws)
		wslay_event_context_free(ws->wslay);
	free(ws);
}

const char *ws_library_version(void) { return WSLAY_VERSION; }
