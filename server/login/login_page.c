#include <stdarg.h>
#include <stdio.h>

#include "common/base/crypto.h"
#include "server/login/login_impl.h"

static const char style[] =
                ":root{color-scheme:light dark}"
                "body{font:1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:2rem auto;padding:0 1rem;"
                "background:#fff;color:#1a1a1a}"
                "h1{font-size:1.4rem}label{display:block;margin:1rem 0 .3rem}"
                "input{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;border:1px solid #767676;"
                "border-radius:.4rem;background:transparent;color:inherit}"
                "button{font:inherit;padding:.6rem 1.2rem;margin:1rem .5rem 0 0;border:1px solid #0b57d0;"
                "border-radius:.4rem;background:#0b57d0;color:#fff}"
                "button.no{background:transparent;color:inherit;border-color:#767676}"
                "form.in{display:inline}dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem 1rem}"
                "dd{margin:0;overflow-wrap:anywhere}.code{font:1.6rem ui-monospace,monospace}"
                ".bad{color:#b3261e}"
                "@media(prefers-color-scheme:dark){body{background:#121212;color:#e6e6e6}"
                ".bad{color:#f2b8b5}button{background:#a8c7fa;border-color:#a8c7fa;color:#062e6f}}";

/* ---- writing ---- */

__attribute__((format(printf, 2, 3))) static void put(struct login_answer *a, const char *fmt, ...)
{
	size_t len = a->web.body.len, left = sizeof a->body - len;
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(a->body + len, left, fmt, ap);
	va_end(ap);
	a->web.body = (struct str){ a->body, len + (n > 0 && (size_t)n < left ? (size_t)n : 0) };
}

static void put_text(struct login_answer *a, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '<': put(a, "&lt;"); break;
		case '>': put(a, "&gt;"); break;
		case '&': put(a, "&amp;"); break;
		case '"': put(a, "&quot;"); break;
		case '\'': put(a, "&#39;"); break;
		default: put(a, "%c", *text);
		}
}

void login_add_field(struct login_answer *a, const char *name, const char *value)
{
	a->fields[a->web.n_fields++] = (struct web_field){ str_of(name), str_of(value) };
	a->web.fields = a->fields;
}

/* Scripts there are none, and no style but ours. */
static void begin(struct login_answer *a, int status, const char *title)
{
	uint8_t random[16];
	char nonce[32];

	crypto_random(random, sizeof random);
	crypto_base64(random, sizeof random, nonce, sizeof nonce);
	snprintf(a->policy, sizeof a->policy,
	         "default-src 'none'; style-src 'nonce-%s'; form-action 'self'; base-uri 'none'; "
	         "frame-ancestors 'none'",
	         nonce);
	a->web.status = status;
	login_add_field(a, "Content-Type", "text/html; charset=utf-8");
	login_add_field(a, "Content-Security-Policy", a->policy);
	a->web.body = (struct str){ a->body, 0 };
	put(a,
	    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
	    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
	    "<title>%s</title><style nonce=\"%s\">%s</style></head>\n<body><main><h1>%s</h1>\n",
	    title, nonce, style, title);
}

static void end(struct login_answer *a) { put(a, "</main></body></html>\n"); }

static void put_warning(struct login_answer *a, const char *words)
{
	if (!words[0])
		return;
	put(a, "<p class=\"bad\" role=\"alert\">");
	put_text(a, words);
	put(a, "</p>\n");
}

static void put_code_input(struct login_answer *a, const char *code)
{
	put(a, "<label for=\"code\">The code that the program shows</label>"
	       "<input id=\"code\" name=\"user_code\" value=\"");
	put_text(a, code);
	put(a, "\" placeholder=\"XXXX-XXXX\" maxlength=\"16\" autocomplete=\"off\" "
	       "autocapitalize=\"characters\" spellcheck=\"false\" required>\n");
}

/* ---- documents ---- */

void login_page_message(struct login_answer *a, int status, const char *title, const char *words)
{
	begin(a, status, title);
	put(a, "<p>");
	put_text(a, words);
	put(a, "</p>\n");
	end(a);
}

void login_page_sign_in(struct login_answer *a, int status, const char *words, const char *code)
{
	begin(a, status, "Sign in to approve a login");
	put_warning(a, words);
	put(a,
	    "<p>A program asks for a token for its tunnel. Sign in with a token of your account to "
	    "see which one, and to approve it or not.</p>\n"
	    "<form method=\"post\" action=\"/login\">");
	put_code_input(a, code);
	put(a,
	    "<label for=\"token\">A token of your account</label>"
	    "<input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"off\" required>\n"
	    "<button>Sign in</button></form>\n"
	    "<p>The token goes to this relay only, and is not kept in this browser.</p>\n");
	end(a);
}

void login_page_code(struct login_answer *a, int status, const char *words, const char *account)
{
	begin(a, status, "Approve a login");
	put_warning(a, words);
	put(a, "<p>Signed in as account ");
	put_text(a, account);
	put(a, ".</p>\n<form method=\"get\" action=\"/login\">");
	put_code_input(a, "");
	put(a, "<button>Go on</button></form>\n");
	end(a);
}

static void put_decision(struct login_answer *a, const struct login_session *s, const char *code,
                         const char *action, const char *button)
{
	put(a,
	    "<form class=\"in\" method=\"post\" action=\"/login/%s\">"
	    "<input type=\"hidden\" name=\"form\" value=\"%s\">"
	    "<input type=\"hidden\" name=\"user_code\" value=\"%s\">%s</form>\n",
	    action, s->form, code, button);
}

void login_page_confirm(struct login_answer *a, const struct login_session *s,
                        const struct login_pending *p, uint64_t now_ms)
{
	char code[LOGIN_CODE_TEXT + 1];

	login_code_text(p->code, code);
	begin(a, 200, "Approve this login?");
	put(a, "<p class=\"code\">%s</p>\n<dl><dt>Asked from</dt><dd>", code);
	put_text(a, p->address);
	put(a, "</dd><dt>Machine</dt><dd>");
	put_text(a, p->host);
	put(a, "</dd><dt>Tunnel id</dt><dd>");
	put_text(a, p->id);
	put(a, "</dd><dt>Asked</dt><dd>%u s ago</dd><dt>For account</dt><dd>",
	    (unsigned)((now_ms - p->since_ms) / 1000));
	put_text(a, s->account);
	put(a,
	    "</dd></dl>\n<p>Approve only if you started <code>tunn login</code> yourself and it shows this "
	    "code. It gets a token of your account that claims this tunnel id and no "
	    "other.</p>\n");
	put_decision(a, s, code, "approve", "<button>Approve</button>");
	put_decision(a, s, code, "deny", "<button class=\"no\">Deny</button>");
	end(a);
}
