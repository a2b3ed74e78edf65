#include "common/wire/http1.h"

#include <errno.h>
#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/err.h"

struct http1 {
	http_parser parser;
	struct http1_head head;
	size_t n_bytes;
	unsigned n_lines;
	char name[32]; /* of the field in progress, cut */
	size_t name_len;
	bool in_value, done;
	char *value; /* where the value in progress goes, or NULL */
};

/* ---- fields that matter ---- */

static char *place_for(struct http1 *h)
{
	if (strcasecmp(h->name, "proxy-authenticate") == 0)
		return h->head.proxy_authenticate;
	if (strcasecmp(h->name, "location") == 0)
		return h->head.location;
	return NULL;
}

static void append(char *to, size_t cap, const char *p, size_t n)
{
	size_t have = strlen(to), room = cap - 1 - have;

	if (n > room)
		n = room;
	memcpy(to + have, p, n);
	to[have + n] = 0;
}

/* For people to read: whoever answered has no say in what their terminal does. */
static int on_reason(http_parser *p, const char *at, size_t n)
{
	struct http1 *h = p->data;

	for (size_t i = 0; i < n; i++)
		append(h->head.reason, sizeof h->head.reason,
		       at[i] >= ' ' && at[i] < 0x7f ? at + i : "?", 1);
	return 0;
}

static int on_field(http_parser *p, const char *at, size_t n)
{
	struct http1 *h = p->data;

	if (h->in_value)
		h->name_len = 0;
	h->in_value = false;
	size_t room = sizeof h->name - 1 - h->name_len;
	if (n > room)
		n = room;
	memcpy(h->name + h->name_len, at, n);
	h->name_len += n;
	h->name[h->name_len] = 0;
	return 0;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
	struct http1 *h = p->data;

	if (!h->in_value) {
		if (++h->n_lines > HTTP1_LINES_MAX)
			return -1;
		h->value = place_for(h);
		if (h->value && h->value[0])
			append(h->value, HTTP1_VALUE_LEN, ", ", 2);
	}
	h->in_value = true;
	if (h->value)
		append(h->value, HTTP1_VALUE_LEN, at, n);
	return 0;
}

/* What follows a head belongs to the tunnel or is not wanted: no body. */
static int on_complete(http_parser *p)
{
	struct http1 *h = p->data;

	h->done = true;
	h->head.status = (int)p->status_code;
	http_parser_pause(p, 1);
	return 1;
}

static const http_parser_settings settings = {
	.on_status = on_reason,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_complete,
};

static void begin_head(struct http1 *h)
{
	http_parser_init(&h->parser, HTTP_RESPONSE);
	h->parser.data = h;
	h->head = (struct http1_head){ 0 };
	h->in_value = true;
	h->done = false;
}

int http1_new(struct http1 **h_out)
{
	struct http1 *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	begin_head(h);
	*h_out = h;
	return 0;
}

void http1_free(struct http1 *h) { free(h); }

const struct http1_head *http1_head(const struct http1 *h) { return &h->head; }

/* One byte at a time: the parser does not say exactly where a paused head ends,
 * and a reply is read once per connection. */
int http1_feed(struct http1 *h, const uint8_t *data, size_t len, size_t *used_out)
{
	for (size_t i = 0; i < len; i++) {
		if (++h->n_bytes > HTTP1_HEAD_MAX)
			return ERR_TOO_BIG;
		http_parser_execute(&h->parser, &settings, (const char *)data + i, 1);
		/* RFC 9110 15.2: another follows, but for 101 */
		if (h->done && h->head.status < 200 && h->head.status != 101) {
			begin_head(h);
			continue;
		}
		if (h->done) {
			*used_out = i + 1;
			return 0;
		}
		if (HTTP_PARSER_ERRNO(&h->parser) != HPE_OK)
			return h->n_lines > HTTP1_LINES_MAX ? ERR_TOO_BIG : ERR_PROTOCOL;
	}
	return ERR_AGAIN;
}

const char *http1_library_version(void)
{
	static char text[32];
	unsigned long v = http_parser_version(); /* 8 bits each: major, minor, patch */

	snprintf(text, sizeof text, "%lu.%lu.%lu", v >> 16 & 255, v >> 8 & 255, v & 255);
	return text;
}
