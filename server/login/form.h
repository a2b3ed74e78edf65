/*
 * The names and values of a form or query, application/x-www-form-urlencoded (WHATWG
 * URL 5.1). Any thread.
 */
#ifndef TUNN_SERVER_FORM_H
#define TUNN_SERVER_FORM_H

#include <stddef.h>

#include "common/base/bytes.h"

/* The value of that name, decoded, as a string in out, which is "" on failure. 0;
 * ERR_NOT_FOUND; ERR_INVALID: it is there twice (RFC 6749 3.2), a %XX that is none, or a control
 * character; ERR_TOO_BIG: longer than cap - 1. */
int form_get(struct str form, const char *name, char *out, size_t cap);
/* The next byte of a value, decoded, taken from the text, which is not empty. ERR_INVALID: a %XX
 * that is none. */
int form_byte(struct str *text);

#endif
