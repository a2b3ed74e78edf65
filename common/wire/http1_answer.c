#include <errno.h>
#include <stdio.h>

#include "common/wire/http1.h"

const char *http1_reason(int status)
{
	switch (status) {
	case 100: return "Continue";
	case 101: return "Switching Protocols";
	case 200: return "OK";
	case 204: return "No Content";
	case 302: return "Found";
	case 303: return "See Other";
	case 304: return "Not Modified";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 408: return "Request Timeout";
	case 409: return "Conflict";
	case 411: return "Length Required";
	case 413: return "Content Too Large";
	case 415: return "Unsupported Media Type";
	case 417: return "Expectation Failed";
	case 421: return "Misdirected Request";
	case 426: return "Upgrade Required";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	case 500: return "Internal Server Error";
	case 503: return "Service Unavailable";
	case 505: return "HTTP Version Not Supported";
	default: return "";
	}
}

static void add(struct buf *b, struct str s, bool *ok) { *ok = *ok && buf_add(b, s.p, s.len) == 0; }

static void add_field(struct buf *b, struct str name, struct str value, bool *ok)
{
	add(b, name, ok);
	add(b, STR(": "), ok);
	add(b, value, ok);
	add(b, STR("\r\n"), ok);
}

bool http1_has_length(int status) { return status >= 200 && status != 204 && status != 304; }

int http1_respond(struct buf *out, const struct http1_answer *a)
{
	char text[80];
	size_t before = buf_len(out);
	bool ok = true;
	int n = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\n", a->status,
	                 http1_reason(a->status));

	add(out, (struct str){ text, (size_t)n }, &ok);
	for (size_t i = 0; i < a->n_fields; i++)
		add_field(out, a->fields[i].name, a->fields[i].value, &ok);
	if (a->date.len)
		add_field(out, STR("Date"), a->date, &ok);
	if (http1_has_length(a->status)) {
		snprintf(text, sizeof text, "%zu", a->body.len);
		add_field(out, STR("Content-Length"), str_of(text), &ok);
	}
	if (a->close)
		add_field(out, STR("Connection"), STR("close"), &ok);
	else if (a->say_keep_alive)
		add_field(out, STR("Connection"), STR("keep-alive"), &ok);
	add(out, STR("\r\n"), &ok);
	if (http1_has_length(a->status) && !a->to_head)
		add(out, a->body, &ok);
	if (!ok)
		buf_cut(out, before);
	return ok ? 0 : -ENOMEM;
}
