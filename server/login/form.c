#include "server/login/form.h"

#include <stdbool.h>

#include "common/base/err.h"

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int form_byte(struct str *s)
{
	char c = *s->p++;

	s->len--;
	if (c == '+')
		return ' ';
	if (c != '%')
		return (unsigned char)c;
	int high = s->len < 2 ? -1 : digit_of(s->p[0]);
	int low = high < 0 ? -1 : digit_of(s->p[1]);
	if (low < 0)
		return ERR_INVALID;
	s->p += 2;
	s->len -= 2;
	return high << 4 | low;
}

static int decode(struct str s, char *out, size_t cap)
{
	size_t n = 0;

	while (s.len) {
		int c = form_byte(&s);
		if (c < ' ' || c == 0x7f)
			return ERR_INVALID;
		if (n + 1 >= cap)
			return ERR_TOO_BIG;
		out[n++] = (char)c;
	}
	out[n] = 0;
	return 0;
}

static struct str cut(struct str *s, char at)
{
	const char *end = s->len ? memchr(s->p, at, s->len) : NULL;
	struct str head = { s->p, end ? (size_t)(end - s->p) : s->len };
	size_t n = head.len + (end != NULL);

	s->p += n;
	s->len -= n;
	return head;
}

int form_get(struct str form, const char *name, char *out, size_t cap)
{
	struct str found = { NULL, 0 };
	bool is_there = false;
	int rc;

	out[0] = 0;
	while (form.len) {
		struct str value = cut(&form, '&');
		if (!str_eq(cut(&value, '='), str_of(name)))
			continue;
		if (is_there)
			return ERR_INVALID;
		is_there = true;
		found = value;
	}
	rc = is_there ? decode(found, out, cap) : ERR_NOT_FOUND;
	if (rc < 0)
		out[0] = 0;
	return rc;
}
