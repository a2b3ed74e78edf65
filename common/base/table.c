#include "common/base/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

enum { CELL_LEN = 128 };

void table_init(struct table *t, const char *const *head)
{
	*t = (struct table){ .head = head };
	for (; head[t->n_columns]; t->n_columns++)
		t->widths[t->n_columns] = (unsigned)strlen(head[t->n_columns]);
}

static void forget(struct table *t)
{
	while (t->n)
		free(t->cells[--t->n]);
}

void table_done(struct table *t)
{
	forget(t);
	free(t->cells);
}

void table_add(struct table *t, struct str text)
{
	unsigned *width = &t->widths[t->n % t->n_columns];

	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;
		void *cells = realloc(t->cells, cap * sizeof *t->cells);
		if (!cells)
			return;
		t->cells = cells;
		t->cap = cap;
	}
	t->cells[t->n++] = strndup(text.p, text.len);
	if (text.len > *width)
		*width = (unsigned)text.len;
}

void table_addf(struct table *t, const char *fmt, ...)
{
	char text[CELL_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	table_add(t, str_of(text));
}

/* The last column is not filled up. */
static void print_cell(const struct table *t, unsigned column, const char *text, FILE *to)
{
	bool is_last = column + 1 == t->n_columns;

	fprintf(to, "%-*s%s", is_last ? 0 : (int)t->widths[column] + 2, text ? text : "",
	        is_last ? "\n" : "");
}

void table_print(struct table *t, FILE *to)
{
	for (unsigned i = 0; !t->printed && i < t->n_columns; i++)
		print_cell(t, i, t->head[i], to);
	t->printed = true;
	for (size_t i = 0; i < t->n; i++)
		print_cell(t, (unsigned)(i % t->n_columns), t->cells[i], to);
	forget(t);
}

const char *table_time(int64_t unix_s, char out[static TABLE_TIME_LEN])
{
	time_t t = unix_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, TABLE_TIME_LEN, "%Y-%m-%d %H:%M UTC", &tm))
		snprintf(out, TABLE_TIME_LEN, "?");
	return out;
}
