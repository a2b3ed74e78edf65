#include "common/transport/pages.h"

#include <stdio.h>

static const char text_type[] = "text/plain; charset=utf-8";

static const char home_body[] =
                "<!DOCTYPE html>\n"
                "<html lang=\"en\">\n"
                "<head><meta charset=\"utf-8\"><title>tunn relay</title></head>\n"
                "<body>\n"
                "<h1>DERP</h1>\n"
                "<p>This is a tunn relay: it passes datagrams between ends that run\n"
                "<code>tunn relay</code>, and it is a DERP server, which offers STUN, helps ends\n"
                "find their way to each other and relays their encrypted packets.</p>\n"
                "<p>More about <a href=\"https://tailscale.com/kb/1232/derp-servers\">DERP\n"
                "servers</a>.</p>\n"
                "</body>\n"
                "</html>\n";

static void add_field(struct page *p, const char *name, const char *value)
{
	p->fields[p->answer.n_fields++] = (struct http1_field){ str_of(name), str_of(value) };
}

/* What is answered instead of what was asked for. */
static void refuse(struct page *p, int status, const char *words)
{
	p->answer.status = status;
	p->answer.body = str_of(words);
	add_field(p, "Content-Type", text_type);
	add_field(p, "X-Content-Type-Options", "nosniff");
}

/* For browsers, derp.md 1.3. */
static void guard(struct page *p)
{
	add_field(p, "Strict-Transport-Security", "max-age=63072000; includeSubDomains");
	add_field(p, "Content-Security-Policy",
	          "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; "
	          "block-all-mixed-content; object-src 'none'");
	add_field(p, "X-Frame-Options", "DENY");
	add_field(p, "X-Content-Type-Options", "nosniff");
}

static void home(const struct page_request *q, struct page *p)
{
	(void)q;
	add_field(p, "Content-Type", "text/html; charset=utf-8");
	guard(p);
	p->answer.body = str_of(home_body);
}

static void robots(const struct page_request *q, struct page *p)
{
	(void)q;
	add_field(p, "Content-Type", text_type);
	guard(p);
	p->answer.body = STR("User-agent: *\nDisallow: /\n");
}

/* As derper says it without a name to look up. */
static void bootstrap_dns(const struct page_request *q, struct page *p)
{
	(void)q;
	add_field(p, "Content-Type", "application/json");
	guard(p);
	p->answer.close = true;
}

static void probe(const struct page_request *q, struct page *p)
{
	if (str_eq(q->method, STR("GET")) || str_eq(q->method, STR("HEAD"))) {
		add_field(p, "Access-Control-Allow-Origin", "*");
		return;
	}
	refuse(p, 405, "bogus probe method\n");
	add_field(p, "Allow", "GET, HEAD");
}

/* Asked for where it cannot be upgraded. */
static void derp(const struct page_request *q, struct page *p)
{
	(void)q;
	refuse(p, 426, "DERP requires connection upgrade\n");
}

static bool is_challenge(struct str s)
{
	static const char allowed[] =
	                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";

	for (size_t i = 0; i < s.len; i++)
		if (!memchr(allowed, s.p[i], sizeof allowed - 1))
			return false;
	return s.len && s.len <= PAGE_CHALLENGE_MAX;
}

/* Who finds something else here is behind a captive portal. */
static void generate_204(const struct page_request *q, struct page *p)
{
	p->answer.status = 204;
	add_field(p, "Cache-Control",
	          "no-cache, no-store, must-revalidate, no-transform, max-age=0");
	if (!is_challenge(q->challenge))
		return;
	snprintf(p->response, sizeof p->response, "response %.*s", (int)q->challenge.len,
	         q->challenge.p);
	add_field(p, "X-Tailscale-Response", p->response);
}

static const struct route {
	const char *path;
	void (*fill)(const struct page_request *, struct page *);
} routes[] = {
	{ "/derp", derp },
	{ "/derp/probe", probe },
	{ "/derp/latency-check", probe },
	{ "/generate_204", generate_204 },
	{ "/robots.txt", robots },
	{ "/bootstrap-dns", bootstrap_dns },
};

static void begin(struct page *p)
{
	p->answer = (struct http1_answer){ .status = 200, .fields = p->fields };
}

void page_for(const struct page_request *q, struct page *page_out)
{
	void (*fill)(const struct page_request *, struct page *) = home;

	begin(page_out);
	page_out->answer.to_head = str_eq(q->method, STR("HEAD"));
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
		if (str_eq(q->path, str_of(routes[i].path)))
			fill = routes[i].fill;
	if (str_eq(q->method, STR("CONNECT")))
		refuse(page_out, 403, "CONNECT not enabled\n");
	else
		fill(q, page_out);
}

void page_for_fault(int status, struct page *page_out)
{
	const char *words = "the request is malformed\n";

	if (status == 404)
		words = "there is nothing like that on this relay\n";
	else if (status == 411)
		words = "the length of the body is needed: Content-Length\n";
	else if (status == 413)
		words = "the body of the request is larger than 8 KiB\n";
	else if (status == 415)
		words = "a body is application/x-www-form-urlencoded\n";
	else if (status == 417)
		words = "send the body at once, without Expect\n";
	else if (status == 431)
		words = "the head of the request is larger than 16 KiB or 100 lines\n";
	else if (status == 503)
		words = "the relay is busy or out of memory: try again\n";
	else if (status == 505)
		words = "HTTP/1.0, HTTP/1.1 or, by ALPN, HTTP/2\n";
	begin(page_out);
	refuse(page_out, status, words);
	page_out->answer.close = true;
}
