/*
 * Words for people about what went wrong. Nearly nothing ever has any, so they
 * take memory only when they are said. One thread.
 */
#ifndef TUNN_BASE_WORDS_H
#define TUNN_BASE_WORDS_H

#include <stdbool.h>
#include <stddef.h>

struct words { /* value type: zero at first */
	char *text;
};

/* Instead of those before. Without memory there are none. */
void words_say(struct words *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool words_said(const struct words *w) { return w->text != NULL; }
static inline const char *words_text(const struct words *w) { return w->text ? w->text : ""; }
void words_done(struct words *);

#endif
