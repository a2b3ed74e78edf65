#include "common/wire/http1_response.h"

#include <errno.h>
#include <http_parser.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/wire/http1.h"

struct http1_response {
	http_parser parser;
	struct buf body;
	size_t max_body, n_head; /* of the head, the informational ones before it included */
	int status;              /* of the final response, once its head is there */
	int rc;                  /* ERR_AGAIN: goes on */
};

static bool is_final(const http_parser *p)
{
	return p->status_code >= 200 || p->status_code == 101; /* RFC 9110 15.2 */
}

static int on_head(http_parser *p)
{
	struct http1_response *r = p->data;

	if (is_final(p))
		r->status = (int)p->status_code;
	/* RFC 9112 6.3: whatever the fields say. 1 stands for no body. */
	return p->status_code < 200 || p->status_code == 204 || p->status_code == 304;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
	struct http1_response *r = p->data;
	size_t room = r->max_body - buf_len(&r->body);

	if (buf_add(&r->body, at, n < room ? n : room) < 0)
		r->rc = -ENOMEM;
	else if (n > room)
		r->rc = ERR_TOO_BIG;
	return r->rc == ERR_AGAIN ? 0 : -1;
}

static int on_complete(http_parser *p)
{
	struct http1_response *r = p->data;

	if (!is_final(p))
		return 0;
	r->rc = 0;
	http_parser_pause(p, 1); /* what follows was not asked for */
	return 0;
}

static const http_parser_settings settings = {
	.on_headers_complete = on_head,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

int http1_response_new(size_t max_body, struct http1_response **r_out)
{
	struct http1_response *r = calloc(1, sizeof *r);

	if (!r)
		return -ENOMEM;
	r->max_body = max_body;
	r->rc = ERR_AGAIN;
	http_parser_init(&r->parser, HTTP_RESPONSE);
	r->parser.data = r;
	*r_out = r;
	return 0;
}

void http1_response_free(struct http1_response *r)
{
	if (!r)
		return;
	buf_wipe(&r->body); /* a token, perhaps */
	buf_done(&r->body);
	free(r);
}

static int parse(struct http1_response *r, const uint8_t *data, size_t len)
{
	http_parser_execute(&r->parser, &settings, (const char *)data, len);
	if (r->rc == ERR_AGAIN && HTTP_PARSER_ERRNO(&r->parser) != HPE_OK)
		r->rc = ERR_PROTOCOL;
	return r->rc;
}

/* A head is looked at byte by byte so that its length can be bounded, whatever the
 * pieces; it is short. */
int http1_response_feed(struct http1_response *r, const uint8_t *data, size_t len)
{
	size_t at = 0;

	for (; r->rc == ERR_AGAIN && !r->status && at < len; at++) {
		if (++r->n_head > HTTP1_HEAD_MAX)
			return r->rc = ERR_TOO_BIG;
		parse(r, data + at, 1);
	}
	if (r->rc == ERR_AGAIN && at < len)
		parse(r, data + at, len - at);
	return r->rc;
}

int http1_response_end(struct http1_response *r)
{
	if (parse(r, NULL, 0) == ERR_AGAIN)
		r->rc = ERR_PROTOCOL;
	return r->rc;
}

bool http1_response_has_head(const struct http1_response *r) { return r->status != 0; }
int http1_response_status(const struct http1_response *r) { return r->status; }

struct str http1_response_body(const struct http1_response *r)
{
	return (struct str){ (const char *)buf_data(&r->body), buf_len(&r->body) };
}

/* ---- where to ask ---- */

static bool is_printable(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return false;
	return true;
}

static struct str part(const struct http_parser_url *u, struct str text, unsigned field)
{
	if (!(u->field_set & 1u << field))
		return (struct str){ text.p, 0 };
	return (struct str){ text.p + u->field_data[field].off, u->field_data[field].len };
}

static int refuse(const char **error_out, const char *words)
{
	*error_out = words;
	return ERR_INVALID;
}

/* From the path, or from the `?` where there is none, to the end of the query. */
static struct str target_of(const struct http_parser_url *u, struct str text)
{
	struct str path = part(u, text, UF_PATH), query = part(u, text, UF_QUERY);

	if (!query.len)
		return path;
	const char *from = path.len ? path.p : query.p - 1;
	return (struct str){ from, (size_t)(query.p + query.len - from) };
}

int http1_url_of(const char *text, struct http1_url *url_out, const char **error_out)
{
	struct str s = str_of(text);
	struct http_parser_url u;

	http_parser_url_init(&u);
	if (s.len > HTTP1_URL_MAX)
		return refuse(error_out, "is longer than 2048 bytes");
	if (!is_printable(s))
		return refuse(error_out,
		              "has bytes that must be percent-encoded (blanks, control characters)");
	if (http_parser_parse_url(s.p, s.len, 0, &u) != 0)
		return refuse(error_out, "is not of the form https://HOST[:PORT]/PATH");
	struct str scheme = part(&u, s, UF_SCHEMA);
	bool is_https = http1_is_like(scheme, STR("https"));
	if (!is_https && !http1_is_like(scheme, STR("http")))
		return refuse(error_out, "must begin with https:// or http://");
	if (u.field_set & 1 << UF_USERINFO)
		return refuse(error_out, "has a login, which is not supported");
	if (u.field_set & 1 << UF_PORT && u.port == 0)
		return refuse(error_out, "has port 0");
	*url_out = (struct http1_url){
		.is_https = is_https,
		.host = part(&u, s, UF_HOST),
		.port = u.field_set & 1 << UF_PORT ? u.port :
		        is_https                   ? 443 :
		                                     80,
		.target = target_of(&u, s),
	};
	return 0;
}
