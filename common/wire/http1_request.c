#include <assert.h>
#include <errno.h>
#include <http_parser.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/err.h"
#include "common/wire/http1.h"

/* A place in the head: its bytes move as it grows. */
struct span {
	uint16_t at, len;
};
static_assert(HTTP1_HEAD_MAX <= UINT16_MAX, "a span reaches everywhere");

struct http1_reader {
	http_parser parser;
	struct buf head; /* without empty lines in front */
	size_t n_bytes, line_at;
	unsigned n_lines;
	uint8_t last; /* byte */
	bool done;
	int fault;
	enum http1_name name; /* of the line in progress; HTTP1_NAME_N: none of ours */
	struct span method, target, field[HTTP1_NAME_N];
	struct http1_request request;
};

static const struct str names[] = {
	[HTTP1_HOST] = STR("host"),
	[HTTP1_UPGRADE] = STR("upgrade"),
	[HTTP1_DERP_FAST_START] = STR("derp-fast-start"),
	[HTTP1_IDEAL_NODE] = STR("ideal-node"),
	[HTTP1_TUNN_VERSION] = STR("tunn-version"),
	[HTTP1_SEC_WEBSOCKET_KEY] = STR("sec-websocket-key"),
	[HTTP1_SEC_WEBSOCKET_VERSION] = STR("sec-websocket-version"),
	[HTTP1_SEC_WEBSOCKET_PROTOCOL] = STR("sec-websocket-protocol"),
	[HTTP1_X_TAILSCALE_CHALLENGE] = STR("x-tailscale-challenge"),
	[HTTP1_AUTHORIZATION] = STR("authorization"),
	[HTTP1_ORIGIN] = STR("origin"),
	[HTTP1_SEC_FETCH_SITE] = STR("sec-fetch-site"),
	[HTTP1_CONTENT_TYPE] = STR("content-type"),
	[HTTP1_COOKIE] = STR("cookie"),
	[HTTP1_IF_NONE_MATCH] = STR("if-none-match"),
};
static_assert(sizeof names / sizeof *names == HTTP1_NAME_N, "a name for every http1_name");

/* ---- grammar (RFC 9110 5.6, RFC 9112) ---- */

static bool is_alnum(uint8_t c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static bool is_one_of(uint8_t c, const char *set) { return c && strchr(set, c); }

static bool is_all(struct str s, const char *beside_alnum)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum((uint8_t)s.p[i]) && !is_one_of((uint8_t)s.p[i], beside_alnum))
			return false;
	return true;
}

static bool is_token(struct str s) { return s.len && is_all(s, "!#$%&'*+-.^_`|~"); }
static bool is_host(struct str s) { return is_all(s, "-._~!$&'()*+,;=:[]%"); }

bool http1_is_like(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || strncasecmp(a.p, b.p, a.len) == 0);
}

static struct str trimmed(struct str s)
{
	while (s.len && is_one_of((uint8_t)s.p[s.len - 1], " \t"))
		s.len--;
	while (s.len && is_one_of((uint8_t)*s.p, " \t"))
		s.p++, s.len--;
	return s;
}

bool http1_has_token(struct str list, struct str token)
{
	while (list.len) {
		const char *comma = memchr(list.p, ',', list.len);
		size_t n = comma ? (size_t)(comma - list.p) : list.len;
		if (http1_is_like(trimmed((struct str){ list.p, n }), token))
			return true;
		n += comma != NULL;
		list.p += n;
		list.len -= n;
	}
	return false;
}

/* ---- one line after the other, each whole ---- */

static int refuse(struct http1_reader *r, int status)
{
	if (!r->fault)
		r->fault = status;
	return -1;
}

static struct span span_of(const struct http1_reader *r, struct str s)
{
	return (struct span){ (uint16_t)(s.p - (const char *)buf_data(&r->head)), (uint16_t)s.len };
}

static struct str text_of(const struct http1_reader *r, struct span s)
{
	return (struct str){ (const char *)buf_data(&r->head) + s.at, s.len };
}

static int on_url(http_parser *p, const char *at, size_t n)
{
	struct http1_reader *r = p->data;

	r->target = span_of(r, (struct str){ at, n });
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)at[i] <= ' ' || (uint8_t)at[i] >= 0x7f)
			return refuse(r, 400);
	return 0;
}

static int on_field(http_parser *p, const char *at, size_t n)
{
	struct http1_reader *r = p->data;
	struct str name = { at, n };

	if (++r->n_lines > HTTP1_LINES_MAX)
		return refuse(r, 431);
	if (!is_token(name)) /* a space before the colon, too: RFC 9112 5.1 */
		return refuse(r, 400);
	r->request.expects |= http1_is_like(name, STR("expect"));
	r->name = 0;
	while (r->name < HTTP1_NAME_N && !http1_is_like(name, names[r->name]))
		r->name++;
	return 0;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
	struct http1_reader *r = p->data;
	unsigned i = r->name;

	if (i < HTTP1_NAME_N) {
		/* of an empty value it is the next line that is pointed to */
		if (!r->request.n_field[i] && n)
			r->field[i] = span_of(r, trimmed((struct str){ at, n }));
		r->request.n_field[i] += r->request.n_field[i] < UINT8_MAX;
	}
	return 0;
}

/* RFC 9112 3.2 */
static int take_target(struct http1_reader *r)
{
	struct http1_request *q = &r->request;
	struct str t = text_of(r, r->target);
	bool is_connect = r->parser.method == HTTP_CONNECT;
	struct http_parser_url u;

	http_parser_url_init(&u);
	if (http_parser_parse_url(t.p, t.len, is_connect, &u) != 0 ||
	    u.field_set & 1 << UF_FRAGMENT)
		return refuse(r, 400);
	q->path = STR("/"); /* of http://host */
	if (is_connect)
		q->path = t;
	else if (u.field_set & 1 << UF_PATH)
		q->path = (struct str){ t.p + u.field_data[UF_PATH].off,
			                u.field_data[UF_PATH].len };
	if (u.field_set & 1 << UF_QUERY)
		q->query = (struct str){ t.p + u.field_data[UF_QUERY].off,
			                 u.field_data[UF_QUERY].len };
	return 0;
}

/* RFC 9112 6.1, 6.3, 9.3. Chunks are not read: the connection ends behind the answer. */
static int take_framing(struct http1_reader *r)
{
	struct http1_request *q = &r->request;
	const http_parser *p = &r->parser;
	uint64_t len = p->flags & F_CONTENTLENGTH ? p->content_length : 0;

	if (p->uses_transfer_encoding &&
	    (!(p->flags & F_CHUNKED) || p->flags & F_CONTENTLENGTH || p->http_minor == 0))
		return refuse(r, 400);
	q->has_upgrade = p->flags & F_CONNECTION_UPGRADE;
	/* who expects 100 may send the body or not, once it has an answer */
	q->content_len = len;
	q->is_chunked = p->uses_transfer_encoding;
	q->expects = q->expects && len;
	q->persists = http_should_keep_alive(p) && !q->is_chunked;
	q->keep_alive = q->persists && len <= HTTP1_BODY_MAX && !q->expects;
	q->say_keep_alive = q->keep_alive && p->http_minor == 0;
	q->body_len = q->keep_alive ? (uint32_t)len : 0;
	return 0;
}

/* Nothing behind the head goes to the parser, so that there is no body for it. */
static int on_complete(http_parser *p)
{
	struct http1_reader *r = p->data;
	struct http1_request *q = &r->request;

	q->method = text_of(r, r->method);
	q->minor = (uint8_t)(p->http_minor ? 1 : 0);
	for (unsigned i = 0; i < HTTP1_NAME_N; i++)
		if (q->n_field[i])
			q->field[i] = text_of(r, r->field[i]);
	if (q->n_field[HTTP1_HOST] > 1 || (q->minor && !q->n_field[HTTP1_HOST]) ||
	    !is_host(q->field[HTTP1_HOST]))
		return refuse(r, 400);
	if (take_target(r) < 0 || take_framing(r) < 0)
		return -1;
	r->done = true;
	http_parser_pause(p, 1);
	return 1;
}

static const http_parser_settings settings = {
	.on_url = on_url,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_complete,
};

static bool ends_in_version(struct str line) /* CR LF behind it; the parser is lax about it */
{
	static const char name[] = " HTTP/";
	size_t len = sizeof name - 1 + sizeof "1.1\r\n" - 1;

	return line.len > len && memcmp(line.p + line.len - len, name, sizeof name - 1) == 0;
}

static void parse(struct http1_reader *r, struct str s)
{
	http_parser_execute(&r->parser, &settings, s.p, s.len);
}

/* The parser knows a few methods, but any is taken (derp.md 1.3): it is told of one that has
 * the same form of target. Leaves what is behind the method. */
static int take_method(struct http1_reader *r, struct str *line)
{
	const char *end = memchr(line->p, ' ', line->len);
	struct str method = { line->p, end ? (size_t)(end - line->p) : 0 };

	if (!ends_in_version(*line) || !is_token(method))
		return refuse(r, 400);
	r->method = span_of(r, method);
	parse(r, str_eq(method, STR("CONNECT")) ? method : STR("GET"));
	line->p += method.len;
	line->len -= method.len;
	return 0;
}

static int end_line(struct http1_reader *r)
{
	struct str line = { (const char *)buf_data(&r->head) + r->line_at,
		            buf_len(&r->head) - r->line_at };
	bool is_first = r->line_at == 0;

	if (is_first && take_method(r, &line) < 0)
		return -1;
	parse(r, line);
	if (r->done)
		return 0;
	if (HTTP_PARSER_ERRNO(&r->parser) != HPE_OK)
		return refuse(r, 400);
	if (is_first && r->parser.http_major != 1)
		return refuse(r, r->parser.http_major > 1 ? 505 : 400);
	r->line_at = buf_len(&r->head);
	return 0;
}

/* Stricter than the parser: lines end by CR LF and nothing else, none begins with
 * white space (RFC 9112 2.2, 5.2), no control characters (RFC 9110 5.5). */
static bool is_allowed(const struct http1_reader *r, uint8_t c)
{
	if (r->last == '\r' || c == '\n')
		return r->last == '\r' && c == '\n';
	if (c == '\r')
		return true;
	if (c < ' ' || c == 0x7f)
		return c == '\t' && buf_len(&r->head) > r->line_at;
	return c != ' ' || buf_len(&r->head) > r->line_at;
}

static int eat(struct http1_reader *r, uint8_t c)
{
	if (++r->n_bytes > HTTP1_HEAD_MAX)
		return refuse(r, 431);
	if (!is_allowed(r, c))
		return refuse(r, 400);
	if (buf_add(&r->head, &c, 1) < 0)
		return refuse(r, 503);
	r->last = c;
	if (c != '\n')
		return 0;
	if (buf_len(&r->head) > 2) /* empty lines before a request are nothing: RFC 9112 2.2 */
		return end_line(r);
	buf_clear(&r->head);
	return 0;
}

int http1_reader_feed(struct http1_reader *r, const uint8_t *data, size_t len, size_t *used_out)
{
	if (r->done)
		http1_reader_next(r);
	for (size_t i = 0; i < len && !r->fault; i++) {
		eat(r, data[i]);
		if (r->done) {
			*used_out = i + 1;
			return 0;
		}
	}
	switch (r->fault) {
	case 0: return ERR_AGAIN;
	case 431: return ERR_TOO_BIG;
	case 503: return -ENOMEM;
	default: return ERR_PROTOCOL;
	}
}

void http1_reader_next(struct http1_reader *r)
{
	buf_wipe(&r->head); /* there may be a secret in it */
	buf_done(&r->head);
	*r = (struct http1_reader){ 0 };
	http_parser_init(&r->parser, HTTP_REQUEST);
	r->parser.data = r;
}

int http1_reader_new(struct http1_reader **r_out)
{
	struct http1_reader *r = calloc(1, sizeof *r);

	if (!r)
		return -ENOMEM;
	http1_reader_next(r);
	*r_out = r;
	return 0;
}

void http1_reader_free(struct http1_reader *r)
{
	if (r)
		http1_reader_next(r);
	free(r);
}

const struct http1_request *http1_reader_request(const struct http1_reader *r)
{
	return &r->request;
}

bool http1_reader_is_inside(const struct http1_reader *r) { return r->n_bytes && !r->done; }
int http1_reader_fault(const struct http1_reader *r) { return r->fault; }
