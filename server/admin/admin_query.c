#include "server/admin/admin_query.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/err.h"
#include "server/login/form.h"

__attribute__((format(printf, 2, 3))) static int fail(char error_out[static QUERY_ERROR_LEN],
                                                      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error_out, QUERY_ERROR_LEN, fmt, ap);
	va_end(ap);
	return ERR_INVALID;
}

static struct query_value *find(struct query_value *values, struct str name)
{
	for (; values->name; values++)
		if (str_eq(str_of(values->name), name))
			return values;
	return NULL;
}

/* What may be given, for the error. */
static int fail_name(const struct query_value *values, char error_out[static QUERY_ERROR_LEN])
{
	char names[QUERY_ERROR_LEN] = "";
	size_t n = 0;

	for (; values->name && n < sizeof names - 1; values++)
		n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "",
		                      values->name);
	return fail(error_out, n ? "the query knows only: %.100s" : "no query is known here%s",
	            names);
}

static int decode(struct str text, struct query_value *v, char error_out[static QUERY_ERROR_LEN])
{
	size_t n = 0;

	while (text.len) {
		int c = form_byte(&text);
		if (c < ' ' || c > '~')
			return fail(error_out, "%s: only printable ASCII", v->name);
		if (n == QUERY_VALUE_MAX)
			return fail(error_out, "%s is longer than %d bytes", v->name,
			            QUERY_VALUE_MAX);
		v->text[n++] = (char)c;
	}
	v->text[n] = 0;
	return 0;
}

static int take_pair(struct str pair, struct query_value *values,
                     char error_out[static QUERY_ERROR_LEN])
{
	const char *eq = memchr(pair.p, '=', pair.len);
	size_t name_len = eq ? (size_t)(eq - pair.p) : pair.len;
	struct query_value *v = find(values, (struct str){ pair.p, name_len });

	if (!v)
		return fail_name(values, error_out);
	if (v->is_given)
		return fail(error_out, "%s is given twice", v->name);
	v->is_given = true;
	if (!eq)
		return 0;
	return decode((struct str){ eq + 1, pair.len - name_len - 1 }, v, error_out);
}

int query_read(struct str query, struct query_value *values, char error_out[static QUERY_ERROR_LEN])
{
	int rc = 0;

	while (query.len && rc == 0) {
		const char *amp = memchr(query.p, '&', query.len);
		size_t n = amp ? (size_t)(amp - query.p) : query.len;
		if (n)
			rc = take_pair((struct str){ query.p, n }, values, error_out);
		n += amp != NULL;
		query.p += n;
		query.len -= n;
	}
	return rc;
}

int query_number(const struct query_value *v, uint64_t least, uint64_t most, uint64_t *n_out,
                 char error_out[static QUERY_ERROR_LEN])
{
	size_t len = strlen(v->text);

	if (!v->is_given)
		return 0;
	uint64_t n = strtoull(v->text, NULL, 10);
	if (len == 0 || len > 18 || strspn(v->text, "0123456789") != len || n < least || n > most)
		return fail(error_out, "%s must be %llu to %llu", v->name,
		            (unsigned long long)least, (unsigned long long)most);
	*n_out = n;
	return 0;
}

int query_page(struct str query, struct query_page *page_out,
               char error_out[static QUERY_ERROR_LEN])
{
	enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000 };
	struct query_value values[] = {
		{ .name = "limit" }, { .name = "cursor" }, { .name = "q" }, { .name = NULL }
	};
	uint64_t limit = LIMIT_DEFAULT;
	int rc = query_read(query, values, error_out);

	if (rc == 0)
		rc = query_number(&values[0], 1, LIMIT_MAX, &limit, error_out);
	if (rc < 0)
		return rc;
	page_out->limit = (unsigned)limit;
	memcpy(page_out->cursor, values[1].text, sizeof page_out->cursor);
	memcpy(page_out->search, values[2].text, sizeof page_out->search);
	return 0;
}
