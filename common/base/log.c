#include "common/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/base/metric.h"
#include "common/base/token.h"

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static _Atomic enum log_level threshold = LOG_INFO; /* relaxed: a line more or less */

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

bool log_wants(enum log_level level)
{
	return level <= atomic_load_explicit(&threshold, memory_order_relaxed);
}

int log_level_of(const char *name, enum log_level *level_out)
{
	for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level_out = (enum log_level)i;
			return 0;
		}
	}
	return ERR_INVALID;
}

const char *log_level_check(const char *name)
{
	enum log_level unused;

	return log_level_of(name, &unused) == 0 ? NULL : "must be error, warn, info or debug";
}

/* Escapes so that a line stays a line and a terminal stays calm (T24). What is not ASCII may
 * be a control character of eight bits, or turn the direction of what is read. */
static size_t escape(char *dst, size_t cap, const char *src)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (; *src && n + 5 < cap; src++) {
		unsigned char c = (unsigned char)*src;
		if (c == '"' || c == '\\') {
			dst[n++] = '\\';
			dst[n++] = (char)c;
		} else if (c < 0x20 || c >= 0x7f) {
			dst[n++] = '\\';
			dst[n++] = 'x';
			dst[n++] = hex[c >> 4];
			dst[n++] = hex[c & 15];
		} else {
			dst[n++] = (char)c;
		}
	}
	dst[n] = 0;
	return n;
}

/* A reader that stands still (a pager, a stopped terminal, a journal that hangs) must not
 * stop the workers. What poll(2) calls writable takes a whole line (pipe(7), PIPE_BUF). */
static void put_line(const char *line, size_t n)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) || write(STDERR_FILENO, line, n) < 0)
		metric_add(METRIC_LOG_LINES_LOST, 1);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char msg[1024], line[2304];
	int saved = errno;
	struct timespec ts;
	struct tm tm;
	va_list ap;

	if (!log_wants(level))
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	token_redact(msg);

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	size_t n = strftime(line, sizeof line, "ts=%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ level=%s msg=\"",
	                      ts.tv_nsec / 1000000, level_names[level]);
	n += escape(line + n, sizeof line - n - 3, msg);
	line[n++] = '"';
	line[n++] = '\n';
	put_line(line, n);
	errno = saved;
}

bool log_limit_pass(struct log_limit *l, uint64_t now_ms, unsigned burst, uint64_t window_ms,
                    unsigned *suppressed_out)
{
	*suppressed_out = 0;
	if (now_ms - l->window_start_ms >= window_ms) {
		*suppressed_out = l->suppressed;
		l->window_start_ms = now_ms;
		l->n = l->suppressed = 0;
	}
	if (l->n >= burst) {
		l->suppressed++;
		return false;
	}
	l->n++;
	return true;
}
