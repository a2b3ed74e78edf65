/*
 * Log lines: logfmt on standard error, `level=info msg="..." key=value`.
 *
 * Only `server`, `client` and the front door log; layers below return codes.
 * What is not printable ASCII is escaped. Never pass a token, a payload or
 * a whole key; what looks like a token in words from outside is redacted all
 * the same. Any thread; one write(2) per line, which never waits: a line that
 * standard error does not take is lost and counted.
 */
#ifndef TUNN_BASE_LOG_H
#define TUNN_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* From any thread, at any time. */
void log_set_level(enum log_level level);
int log_level_of(const char *name, enum log_level *level_out); /* 0 or ERR_INVALID */
const char *log_level_check(const char *name);                 /* an opt_check */
bool log_wants(enum log_level level);

/* msg and the values are escaped; fmt follows printf. */
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_wants(LOG_DEBUG))                                                          \
			log_at(LOG_DEBUG, __VA_ARGS__);                                            \
	} while (0)

/* At most `burst` lines a window; returns false for the suppressed ones and
 * counts them. When a new window lets a line through, *suppressed_out tells
 * how many were dropped before it. */
struct log_limit {
	uint64_t window_start_ms;
	unsigned n, suppressed;
};
bool log_limit_pass(struct log_limit *, uint64_t now_ms, unsigned burst, uint64_t window_ms,
                    unsigned *suppressed_out);

#endif
