/*
 * The one door to jansson: reading JSON that strangers wrote, with bounds, and
 * writing small documents. Members are found and read as Go's encoding/json does
 * (that is what the other side of DERP uses): upper and lower case are one, underscores
 * are not; of several the last counts; null is nearly as if it was absent.
 *
 * Stricter than Go: what is not UTF-8, half a surrogate, NUL in a name and integers
 * beyond 64 bits are refused.
 *
 * json_start() first, once; then any thread, a document in one at a time. What
 * documents had in memory is wiped, since key files are among them.
 */
#ifndef TUNN_BASE_JSON_H
#define TUNN_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"

struct json;

void json_start(void);

struct json_limits {  /* a few bytes of text can take a hundred of memory */
	size_t len;   /* bytes of text */
	size_t depth; /* of containers in each other; 0: no container */
	size_t parts; /* members' names and values together, about */
};

/* One value of any kind with nothing after it. 0 and the document, the caller's to
 * json_free(); ERR_TOO_BIG beyond a limit; ERR_INVALID; -ENOMEM. line_out, if not NULL, is
 * set with ERR_INVALID: the line of the error, from 1. */
int json_parse(struct str text, const struct json_limits *, struct json **doc_out,
               unsigned *line_out);
void json_free(struct json *); /* a whole document, not a part of one; NULL allowed */

/* The last member of that name, or NULL: there is none, or this is no object (or NULL).
 * Lives as long as the document, like everything read from it. */
const struct json *json_get(const struct json *object, const char *name);

enum json_read { JSON_READ, JSON_ABSENT, JSON_IS_NULL, JSON_WRONG_TYPE };

/* What a value is: json_as_text(json_get(doc, "meshKey"), &key). JSON_ABSENT for NULL;
 * out is set with JSON_READ only. */
enum json_read json_as_text(const struct json *, struct str *text_out); /* UTF-8, may hold NUL */
enum json_read json_as_int(const struct json *, int64_t *n_out);        /* 2.0 and 2e0 are none */
enum json_read json_as_real(const struct json *, double *n_out);        /* integers too */
enum json_read json_as_bool(const struct json *, bool *truth_out);
enum json_read json_as_object(const struct json *, const struct json **object_out);
enum json_read json_as_array(const struct json *, const struct json **array_out);

/* Members or elements in their order; names are as they are written, the exact same
 * one once, with its last value. Nothing for other kinds and NULL:
 * for (struct json_walk w = json_walk(doc); json_next(&w);) ... w.name, w.value */
struct json_walk {
	struct str name; /* of a member */
	const struct json *value;
	const struct json *of; /* private, like the next two */
	void *at;
	size_t index;
};
struct json_walk json_walk(const struct json *container);
bool json_next(struct json_walk *);

/* Making a document. NULL: out of memory. */
struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_text(struct str); /* NULL also if it is not UTF-8 */
struct json *json_new_int(int64_t n);
struct json *json_new_bool(bool truth);
struct json *json_new_null(void);
/* Takes the value, which may be NULL: then -ENOMEM. Names are UTF-8. 0 or -ENOMEM. */
int json_put(struct json *object, const char *name, struct json *value);
int json_add(struct json *array, struct json *value);

enum json_style { JSON_ONE_LINE, JSON_TABS /* as Go's MarshalIndent with tabs */ };
/* Length of what is written with a NUL behind it, or ERR_TOO_BIG for cap bytes. */
int json_print(const struct json *, enum json_style, char *out, size_t cap);

/* However long it is: the caller's to free, and to wipe if it is a secret. NULL: out of
 * memory. */
char *json_text(const struct json *, enum json_style, size_t *len_out);

const char *json_library_version(void); /* of jansson */

#endif
