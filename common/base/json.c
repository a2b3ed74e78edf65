#include "common/base/json.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <setjmp.h>
#include <stdlib.h>

#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/list.h"

/* Lies before each block: its size, so that it can be wiped, and its neighbours among
 * the blocks of one parsing. */
union head {
	struct {
		struct list others;
		size_t n;
	} v;
	max_align_t align;
};

/* Jansson 2.14 reads and writes beyond a string's end when its buffer could not grow (it
 * looks for the closing quote that was not stored). So it never learns of it: a
 * parsing that finds no memory is left by a jump, and its blocks are freed from below. */
struct parsing {
	jmp_buf starved;
	struct list blocks;
};
static _Thread_local struct parsing *parsing; /* NULL: jansson is writing */

static void *block_malloc(size_t n)
{
	union head *h = n <= SIZE_MAX - sizeof *h ? malloc(sizeof *h + n) : NULL;

	if (!h && parsing)
		longjmp(parsing->starved, 1);
	if (!h)
		return NULL;
	h->v.n = n;
	list_init(&h->v.others);
	if (parsing)
		list_add_tail(&parsing->blocks, &h->v.others);
	return h + 1;
}

static void block_free(void *p)
{
	union head *h = p;

	if (!h)
		return;
	h--;
	list_del(&h->v.others);
	crypto_wipe(p, h->v.n);
	free(h);
}

/* Jansson would open /dev/urandom for its seed in the middle of work. */
void json_start(void)
{
	json_set_alloc_funcs(block_malloc, block_free);
	json_object_seed(1 + crypto_random_below(UINT32_MAX));
}

static json_t *own(struct json *j) { return (json_t *)j; }
/* Walking and counting references are not const in jansson. */
static json_t *borrowed(const struct json *j) { return (json_t *)(uintptr_t)j; }
static struct json *given(json_t *j) { return (struct json *)j; }

/* Before anything is allocated; strings are skipped, grammar is jansson's business. */
static bool is_within(struct str text, const struct json_limits *limits)
{
	struct cursor c = cursor_of(text.p, text.len);
	size_t depth = 0, parts = 1;
	bool is_string = false;

	if (text.len > limits->len)
		return false;
	while (cursor_left(&c) && depth <= limits->depth && parts <= limits->parts) {
		uint8_t b = cursor_u8(&c);
		if (is_string && b == '\\')
			cursor_u8(&c);
		else if (b == '"')
			is_string = !is_string;
		else if (!is_string && (b == '[' || b == '{'))
			depth++;
		else if (!is_string && (b == ']' || b == '}'))
			depth -= depth > 0;
		if (!is_string && strchr("[{,:", b) && b)
			parts++;
	}
	return depth <= limits->depth && parts <= limits->parts;
}

/* Jansson gives a member that comes again the place of the first. Without doubles
 * order is certain, so that "a" and "A" can be told apart by it. */
static json_t *load(struct str text, json_error_t *error)
{
	size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
	json_t *j = json_loadb(text.p, text.len, flags | JSON_REJECT_DUPLICATES, error);

	if (!j && json_error_code(error) == json_error_duplicate_key)
		j = json_loadb(text.p, text.len, flags, error);
	return j;
}

/* 0 with NULL and the error where there is no document, or -ENOMEM. */
static int load_or_starve(struct str text, json_t **j_out, json_error_t *error)
{
	struct parsing here;

	list_init(&here.blocks);
	parsing = &here;
	if (setjmp(here.starved) == 0) {
		*j_out = load(text, error);
		parsing = NULL;
		list_del(&here.blocks);
		return 0;
	}
	parsing = NULL;
	list_each(b, next, &here.blocks)
		block_free(container_of(b, union head, v.others) + 1);
	return -ENOMEM;
}

int json_parse(struct str text, const struct json_limits *limits, struct json **doc_out,
               unsigned *line_out)
{
	json_error_t error;
	json_t *j = NULL;

	if (!is_within(text, limits))
		return ERR_TOO_BIG;
	if (load_or_starve(text.len ? text : STR(""), &j, &error) < 0)
		return -ENOMEM;
	if (!j && line_out)
		*line_out = error.line > 0 ? (unsigned)error.line : 1;
	if (!j)
		return ERR_INVALID;
	*doc_out = given(j);
	return 0;
}

void json_free(struct json *j) { json_decref(own(j)); }

/* Letters have two code points beside ASCII that fold to k and s: KELVIN SIGN and
 * LATIN SMALL LETTER LONG S. Go folds them, so nobody must slip through by them. */
static char folded(struct cursor *c)
{
	uint8_t b = cursor_u8(c);

	if (b >= 'A' && b <= 'Z')
		return (char)(b - 'A' + 'a');
	if (b == 0xc5 && cursor_left(c) && *c->p == 0xbf)
		return cursor_take(c, 1) ? 's' : 0;
	if (b == 0xe2 && cursor_left(c) >= 2 && c->p[0] == 0x84 && c->p[1] == 0xaa)
		return cursor_take(c, 2) ? 'k' : 0;
	return (char)b;
}

static bool is_same_name(struct str a, const char *name)
{
	struct cursor ca = cursor_of(a.p, a.len), cb = cursor_of(name, strlen(name));

	while (cursor_left(&ca) && cursor_left(&cb))
		if (folded(&ca) != folded(&cb))
			return false;
	return cursor_left(&ca) == cursor_left(&cb);
}

const struct json *json_get(const struct json *object, const char *name)
{
	const struct json *last = NULL;

	if (!json_is_object(borrowed(object)))
		return NULL;
	for (struct json_walk w = json_walk(object); json_next(&w);)
		if (is_same_name(w.name, name))
			last = w.value;
	return last;
}

/* JSON_READ means: look further. */
static enum json_read read_as(const struct json *j, bool is_right)
{
	if (!j)
		return JSON_ABSENT;
	if (json_is_null(borrowed(j)))
		return JSON_IS_NULL;
	return is_right ? JSON_READ : JSON_WRONG_TYPE;
}

enum json_read json_as_text(const struct json *j, struct str *text_out)
{
	enum json_read r = read_as(j, json_is_string(borrowed(j)));

	if (r == JSON_READ)
		*text_out = (struct str){ json_string_value(borrowed(j)),
			                  json_string_length(borrowed(j)) };
	return r;
}

enum json_read json_as_int(const struct json *j, int64_t *n_out)
{
	enum json_read r = read_as(j, json_is_integer(borrowed(j)));

	if (r == JSON_READ)
		*n_out = json_integer_value(borrowed(j));
	return r;
}

enum json_read json_as_real(const struct json *j, double *n_out)
{
	enum json_read r = read_as(j, json_is_number(borrowed(j)));

	if (r == JSON_READ)
		*n_out = json_number_value(borrowed(j));
	return r;
}

enum json_read json_as_bool(const struct json *j, bool *truth_out)
{
	enum json_read r = read_as(j, json_is_boolean(borrowed(j)));

	if (r == JSON_READ)
		*truth_out = json_is_true(borrowed(j));
	return r;
}

enum json_read json_as_object(const struct json *j, const struct json **object_out)
{
	enum json_read r = read_as(j, json_is_object(borrowed(j)));

	if (r == JSON_READ)
		*object_out = j;
	return r;
}

enum json_read json_as_array(const struct json *j, const struct json **array_out)
{
	enum json_read r = read_as(j, json_is_array(borrowed(j)));

	if (r == JSON_READ)
		*array_out = j;
	return r;
}

struct json_walk json_walk(const struct json *container)
{
	struct json_walk w = { .of = container };

	if (json_is_object(borrowed(container)))
		w.at = json_object_iter(borrowed(container));
	return w;
}

bool json_next(struct json_walk *w)
{
	json_t *of = borrowed(w->of);

	if (json_is_array(of)) {
		w->value = given(json_array_get(of, w->index++));
		return w->value != NULL;
	}
	if (!w->at)
		return false;
	w->name = (struct str){ json_object_iter_key(w->at), json_object_iter_key_len(w->at) };
	w->value = given(json_object_iter_value(w->at));
	w->at = json_object_iter_next(of, w->at);
	return true;
}

struct json *json_new_object(void) { return given(json_object()); }
struct json *json_new_array(void) { return given(json_array()); }
struct json *json_new_text(struct str s) { return given(json_stringn(s.len ? s.p : "", s.len)); }
struct json *json_new_int(int64_t n) { return given(json_integer(n)); }
struct json *json_new_null(void) { return given(json_null()); }
struct json *json_new_bool(bool truth) { return given(json_boolean(truth)); }

int json_put(struct json *object, const char *name, struct json *value)
{
	return json_object_set_new(own(object), name, own(value)) == 0 ? 0 : -ENOMEM;
}

int json_add(struct json *array, struct json *value)
{
	return json_array_append_new(own(array), own(value)) == 0 ? 0 : -ENOMEM;
}

/* Jansson indents by blanks only: one a level, each made a tab. A line break in a
 * string is written as an escape, so every one here begins a line. */
static void blanks_to_tabs(char *text, size_t len)
{
	bool is_begin = false;

	for (size_t i = 0; i < len; i++) {
		is_begin = text[i] == '\n' || (is_begin && text[i] == ' ');
		if (is_begin && text[i] == ' ')
			text[i] = '\t';
	}
}

static size_t flags_of(enum json_style style)
{
	return JSON_ENCODE_ANY | (style == JSON_TABS ? JSON_INDENT(1) : JSON_COMPACT);
}

int json_print(const struct json *j, enum json_style style, char *out, size_t cap)
{
	size_t len = j ? json_dumpb(borrowed(j), out, cap, flags_of(style)) : 0;

	if (len == 0 || len >= cap || len > INT_MAX) /* 0: also memory to find circles is missing */
		return ERR_TOO_BIG;
	if (style == JSON_TABS)
		blanks_to_tabs(out, len);
	out[len] = 0;
	return (int)len;
}

char *json_text(const struct json *j, enum json_style style, size_t *len_out)
{
	size_t cap = 1 + (j ? json_dumpb(borrowed(j), NULL, 0, flags_of(style)) : 0);
	char *text = cap > 1 && cap <= INT_MAX ? malloc(cap) : NULL;
	int len = text ? json_print(j, style, text, cap) : -1;

	if (len < 0) {
		free(text);
		return NULL;
	}
	*len_out = (size_t)len;
	return text;
}

const char *json_library_version(void) { return jansson_version_str(); }
