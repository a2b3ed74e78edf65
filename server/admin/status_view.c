#include "server/admin/status_view.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/units.h"

enum { CELL = 80, SPARK_LEAST = 10 };

struct writer {
	const struct status *s;
	const struct status_style *style;
	struct buf *out;
	unsigned lines;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof text)
		n = sizeof text - 1;
	if (n < 0 || buf_add(w->out, text, (size_t)n) < 0)
		w->failed = true;
	for (int i = 0; i < n; i++)
		w->lines += text[i] == '\n';
}

/* SGR of ECMA-48 around a text. */
enum look { PLAIN = 0, BOLD = 1, DIM = 2, RED = 31, GREEN = 32, YELLOW = 33 };
static void put_as(struct writer *w, enum look look, const char *text)
{
	if (w->style->colour && look != PLAIN)
		put(w, "\033[%dm%s\033[0m", look, text);
	else
		put(w, "%s", text);
}

/* ---- numbers ---- */

static const char *rate(int64_t bytes, char out[static UNITS_LEN])
{
	return bytes < 0 ? "-" : units_brief((uint64_t)bytes * 8, "bit/s", out);
}

static const char *size(int64_t bytes, char out[static UNITS_LEN])
{
	return units_size_brief((uint64_t)bytes, out);
}

static const char *delay(int64_t us, char out[static UNITS_LEN])
{
	if (us < 0)
		return "-";
	if (us < 1000)
		snprintf(out, UNITS_LEN, us ? "%lld us" : "<1 ms", (long long)us);
	else if (us % 1000 == 0 && us < 10000) /* heartbeats count whole milliseconds */
		snprintf(out, UNITS_LEN, "%lld ms", (long long)us / 1000);
	else if (us < 1000000)
		snprintf(out, UNITS_LEN, "%.*f ms",
		         us < 9995  ? 2 :
		         us < 99950 ? 1 :
		                      0,
		         (double)us / 1000);
	else
		snprintf(out, UNITS_LEN, "%.2f s", (double)us / 1000000);
	return out;
}

static const char *lasted(int64_t s, char out[static UNITS_LEN])
{
	if (s < 0)
		s = 0;
	if (s >= 86400)
		snprintf(out, UNITS_LEN, "%lld d %lld h", (long long)(s / 86400),
		         (long long)(s % 86400 / 3600));
	else if (s >= 3600)
		snprintf(out, UNITS_LEN, "%lld h %lld min", (long long)(s / 3600),
		         (long long)(s % 3600 / 60));
	else if (s >= 60)
		snprintf(out, UNITS_LEN, "%lld min %lld s", (long long)(s / 60),
		         (long long)(s % 60));
	else
		snprintf(out, UNITS_LEN, "%lld s", (long long)s);
	return out;
}

/* ---- the relay ---- */

static void put_node(struct writer *w)
{
	const struct status *s = w->s;
	const char *between = w->style->utf8 ? " · " : ", ";
	bool ready = strcmp(s->state, "ready") == 0;
	char up[UNITS_LEN];

	put_as(w, BOLD, s->node);
	put(w, "  ");
	put_as(w, ready ? GREEN : YELLOW, s->state);
	put(w, "  up %s%sversion %s%s%u worker%s", lasted(s->uptime_s, up), between, s->version,
	    between, s->n_workers, s->n_workers == 1 ? "" : "s");
	if (s->n_silent)
		put(w, " (%u not answering)", s->n_silent);
	put(w, "%s%s\n", between, s->listening);
	if (w->style->trouble) {
		put_as(w, RED, w->style->trouble);
		put(w, "\n");
	}
	put(w, "\n");
}

/* One bar a second, the newest on the right. */
static void put_spark(struct writer *w, const struct status_series *v, unsigned room)
{
	static const char *const bars[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	int64_t peak = status_peak(v);
	unsigned n = v->n < room ? v->n : room;

	for (unsigned i = v->n - n; i < v->n; i++)
		put(w, "%s", v->v[i] < 0 ? " " : bars[peak ? v->v[i] * 7 / peak : 0]);
}

static void put_traffic(struct writer *w, const char *name, const struct status_series *bytes,
                        const struct status_series *packets)
{
	char now[UNITS_LEN], peak[UNITS_LEN], count[UNITS_LEN];
	int64_t n = status_last(packets);
	unsigned used = 12 + 13 + 14 + 2 + 18, room = w->style->columns;

	put_as(w, DIM, name);
	put(w, "%*s%13s%14s", (int)(12 - strlen(name)), "", rate(status_last(bytes), now),
	    n < 0 ? "-" : units_brief((uint64_t)n, "pkt/s", count));
	put(w, "  peak %s", rate(status_peak(bytes), peak));
	if (w->style->utf8 && room >= used + SPARK_LEAST) {
		put(w, "%*s", (int)(13 - strlen(peak)), "");
		put_spark(w, bytes, room - used);
	}
	put(w, "\n");
}

static void put_drops(struct writer *w)
{
	const struct status *s = w->s;
	int64_t all = 0, now = 0;
	char name[sizeof s->drops[0].name];

	put_as(w, DIM, "Dropped");
	put(w, "     ");
	for (unsigned i = 0; i < s->n_drops; i++) {
		all += status_sum(&s->drops[i].count);
		now += status_last(&s->drops[i].count);
	}
	if (!all) {
		put(w, "nothing in the last minute\n");
		return;
	}
	put(w, "%lld/s, %lld in the last minute:", (long long)now, (long long)all);
	for (unsigned i = 0; i < s->n_drops; i++) {
		snprintf(name, sizeof name, "%s", s->drops[i].name);
		for (char *p = name; (p = strchr(p, '_'));)
			*p = ' ';
		put(w, "%s ", i ? "," : "");
		put_as(w, YELLOW, name);
		put(w, " %lld", (long long)status_sum(&s->drops[i].count));
	}
	put(w, "\n");
}

static void put_delay(struct writer *w, const char *name, const struct status_series *p50,
                      const struct status_series *p99)
{
	char half[UNITS_LEN], most[UNITS_LEN];

	put_as(w, DIM, name);
	put(w, "%*s", (int)(12 - strlen(name)), "");
	if (status_newest(p50) < 0 && status_newest(p99) < 0)
		put(w, "nothing was measured in the last minute\n");
	else
		put(w, "median %s, 99 %% %s\n", delay(status_newest(p50), half),
		    delay(status_newest(p99), most));
}

static void put_open(struct writer *w)
{
	int64_t now = status_last(&w->s->open);

	put_as(w, DIM, "Tunnels");
	if (now < 0)
		put(w, "     -\n");
	else
		put(w, "     %lld, peak %lld\n", (long long)now,
		    (long long)status_peak(&w->s->open));
}

/* ---- tunnels ---- */

typedef void put_cell(const struct status_tunnel *, const struct status_style *,
                      char out[static CELL]);

static void cell_tunnel(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	(void)st;
	snprintf(out, CELL, "%s", t->id);
}
static void cell_account(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	(void)st;
	snprintf(out, CELL, "%s", t->account);
}
static void cell_peer(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	(void)st;
	snprintf(out, CELL, "%s", t->peer[0] ? t->peer : "-");
}
static void cell_state(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	(void)st;
	snprintf(out, CELL, "%s", t->peer_state[0] ? t->peer_state : "-");
}
static void cell_way(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	(void)st;
	snprintf(out, CELL, "%s", t->transport);
}
static void cell_address(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	(void)st;
	snprintf(out, CELL, "%s", t->address);
}
static void cell_in(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	char n[UNITS_LEN];

	snprintf(out, CELL, "%s", st->rates ? rate(t->rate_in, n) : size(t->bytes_in, n));
}
static void cell_out(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	char n[UNITS_LEN];

	snprintf(out, CELL, "%s", st->rates ? rate(t->rate_out, n) : size(t->bytes_out, n));
}
static void cell_rtt(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	char n[UNITS_LEN];

	(void)st;
	snprintf(out, CELL, "%s", delay(t->rtt_us, n));
}
static void cell_queue(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	char n[UNITS_LEN];

	(void)st;
	snprintf(out, CELL, "%s", size(t->queue_bytes, n));
}
static void cell_drops(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	(void)st;
	snprintf(out, CELL, "%lld", (long long)t->drops);
}
static void cell_since(const struct status_tunnel *t, const struct status_style *st, char *out)
{
	char n[UNITS_LEN];

	snprintf(out, CELL, "%s", lasted(st->now_unix_s - t->since_unix_s, n));
}

static const struct column {
	const char *head;
	put_cell *cell;
	bool number;
	unsigned rank, most; /* what is ranked last goes first where it is narrow */
} columns[] = {
	{ "TUNNEL", cell_tunnel, false, 0, 40 }, { "ACCOUNT", cell_account, false, 5, 24 },
	{ "PEER", cell_peer, false, 6, 24 },     { "STATE", cell_state, false, 7, 16 },
	{ "WAY", cell_way, false, 10, 8 },       { "ADDRESS", cell_address, false, 9, 48 },
	{ "IN", cell_in, true, 0, 16 },          { "OUT", cell_out, true, 0, 16 },
	{ "RTT", cell_rtt, true, 3, 12 },        { "QUEUE", cell_queue, true, 4, 12 },
	{ "DROPS", cell_drops, true, 2, 20 },    { "SINCE", cell_since, true, 8, 16 },
};
enum { N_COLUMNS = sizeof columns / sizeof *columns, GAP = 2, NAME_LEAST = 8 };

static unsigned measure(const struct column *c, const struct status_tunnel *const *rows, unsigned n,
                        const struct status_style *st)
{
	unsigned width = (unsigned)strlen(c->head);
	char text[CELL];

	for (unsigned i = 0; i < n; i++) {
		c->cell(rows[i], st, text);
		unsigned len = (unsigned)strlen(text);
		width = len > width ? len : width;
	}
	return width < c->most ? width : c->most;
}

static unsigned total(const unsigned widths[static N_COLUMNS])
{
	unsigned sum = 0;

	for (unsigned i = 0; i < N_COLUMNS; i++)
		sum += widths[i] ? widths[i] + GAP : 0;
	return sum - GAP;
}

/* Columns leave until the rest fits; then the names are cut. */
static void fit(unsigned widths[static N_COLUMNS], unsigned room)
{
	for (unsigned rank = N_COLUMNS; rank > 0 && total(widths) > room; rank--)
		for (unsigned i = 0; i < N_COLUMNS; i++)
			if (columns[i].rank == rank)
				widths[i] = 0;
	unsigned now = total(widths);
	if (now <= room)
		return;
	widths[0] = widths[0] > now - room + NAME_LEAST ? widths[0] - (now - room) : NAME_LEAST;
}

static void put_row(struct writer *w, const struct status_tunnel *t,
                    const unsigned widths[static N_COLUMNS])
{
	char text[CELL], line[512] = "";
	size_t n = 0;

	for (unsigned i = 0; i < N_COLUMNS; i++) {
		int width = (int)widths[i];
		if (!width || n >= sizeof line - CELL)
			continue;
		if (t)
			columns[i].cell(t, w->style, text);
		else
			snprintf(text, sizeof text, "%s", columns[i].head);
		n += (size_t)snprintf(line + n, sizeof line - n, "%*s%*.*s", n ? GAP : 0, "",
		                      columns[i].number ? width : -width, width, text);
	}
	while (n && line[n - 1] == ' ')
		line[--n] = 0;
	put_as(w, t ? PLAIN : DIM, line);
	put(w, "\n");
}

static int by_rate(const void *a, const void *b)
{
	const struct status_tunnel *x = *(const struct status_tunnel *const *)a,
	                           *y = *(const struct status_tunnel *const *)b;
	int64_t p = x->rate_in + x->rate_out, q = y->rate_in + y->rate_out;

	return p != q ? (p < q ? 1 : -1) : strcmp(x->id, y->id);
}

static void put_tunnels(struct writer *w)
{
	const struct status *s = w->s;
	const struct status_tunnel **rows = calloc(s->n_tunnels + 1, sizeof *rows);
	unsigned n = s->n_tunnels, widths[N_COLUMNS], head = w->lines + 3;

	if (!rows) {
		w->failed = true;
		return;
	}
	for (unsigned i = 0; i < n; i++)
		rows[i] = &s->tunnels[i];
	if (w->style->rates)
		qsort(rows, n, sizeof *rows, by_rate);
	if (w->style->rows && n > (w->style->rows > head ? w->style->rows - head : 0))
		n = w->style->rows > head ? w->style->rows - head : 0;
	for (unsigned i = 0; i < N_COLUMNS; i++)
		widths[i] = measure(&columns[i], rows, n, w->style);
	fit(widths, w->style->columns);
	put(w, "\n");
	put_row(w, NULL, widths);
	for (unsigned i = 0; i < n; i++)
		put_row(w, rows[i], widths);
	if (n < s->n_tunnels || s->more)
		put(w, "and %u%s more\n", s->n_tunnels - n, s->more ? " or" : "");
	free(rows);
}

int status_view(const struct status *s, const struct status_style *style, struct buf *out)
{
	struct writer w = { .s = s, .style = style, .out = out };

	put_node(&w);
	put_traffic(&w, "In", &s->bytes_in, &s->packets_in);
	put_traffic(&w, "Out", &s->bytes_out, &s->packets_out);
	put_open(&w);
	put_drops(&w);
	put_delay(&w, "Queue delay", &s->delay_p50, &s->delay_p99);
	put_delay(&w, "Round trip", &s->rtt_p50, &s->rtt_p99);
	if (s->n_tunnels)
		put_tunnels(&w);
	else
		put(&w, "\nno tunnel is connected\n");
	return w.failed ? -ENOMEM : 0;
}

int status_view_line(const struct status *s, int64_t now_unix_s, struct buf *out)
{
	struct writer w = { .s = s, .out = out };
	char in[UNITS_LEN], to[UNITS_LEN], when[16] = "";
	int64_t dropped = 0;
	time_t t = now_unix_s;
	struct tm tm;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof when, "%H:%M:%S", &tm);
	for (unsigned i = 0; i < s->n_drops; i++)
		dropped += status_last(&s->drops[i].count);
	put(&w, "%s  %s  %s  tunnels %lld  in %s  out %s  dropped %lld/s", when, s->node, s->state,
	    (long long)status_last(&s->open), rate(status_last(&s->bytes_in), in),
	    rate(status_last(&s->bytes_out), to), (long long)dropped);
	for (unsigned i = 0; i < s->n_drops; i++)
		if (status_last(&s->drops[i].count) > 0)
			put(&w, "  %s %lld/s", s->drops[i].name,
			    (long long)status_last(&s->drops[i].count));
	put(&w, "\n");
	return w.failed ? -ENOMEM : 0;
}
