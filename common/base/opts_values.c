#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/bytes.h"
#include "common/base/err.h"
#include "common/base/opts_impl.h"
#include "common/base/units.h"

enum { MESSAGE_LEN = 1024 };

/* ---- memory ---- */

struct kept {
	struct kept *next;
	void *p;
	void (*free_fn)(void *);
};
static struct kept *all_kept;

const void *opts_mark(void) { return all_kept; }

void opts_release(const void *mark)
{
	while (all_kept != mark) {
		struct kept *k = all_kept;
		all_kept = k->next;
		k->free_fn(k->p);
		free(k);
	}
}

void *opts_keep(void *p, void (*free_fn)(void *))
{
	struct kept *k = p ? malloc(sizeof *k) : NULL;

	if (!k) {
		if (p)
			free_fn(p);
		return NULL;
	}
	*k = (struct kept){ all_kept, p, free_fn };
	all_kept = k;
	return p;
}

void *opts_alloc(size_t n) { return opts_keep(calloc(1, n), free); }

char *opts_copy(const char *s, size_t len)
{
	char *copy = opts_alloc(len + 1);

	if (copy)
		memcpy(copy, s, len);
	return copy;
}

/* ---- messages ---- */

struct opts_quoted opts_quote(const char *word)
{
	static const char hex[] = "0123456789abcdef";
	bool text = utf8_is_valid(word, strlen(word));
	struct opts_quoted q = { "" };
	size_t n = 0;

	if (strstr(word, "tunn_")) {
		snprintf(q.s, sizeof q.s, "(a token, not shown: revoke it)");
		return q;
	}
	if (strstr(word, "privkey:")) {
		snprintf(q.s, sizeof q.s, "(a secret key, not shown: make a new one)");
		return q;
	}
	q.s[n++] = '"';
	for (; *word && n + 9 < sizeof q.s; word++) {
		unsigned char c = (unsigned char)*word;
		if (c < 0x20 || c == 0x7f || (c >= 0x80 && !text)) {
			q.s[n++] = '\\';
			q.s[n++] = 'x';
			q.s[n++] = hex[c >> 4];
			q.s[n++] = hex[c & 15];
		} else {
			q.s[n++] = (char)c;
		}
	}
	snprintf(q.s + n, sizeof q.s - n, "%s\"", *word ? "..." : "");
	return q;
}

int opts_fail(const char *command, const char *fmt, ...)
{
	char text[MESSAGE_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	bool front = !command || !*command;
	fprintf(stderr, "tunn%s%s: %s\n", front ? "" : " ", front ? "" : command, text);
	return ERR_CONFIG;
}

void opts_variable(const struct opt *o, char out[static 64])
{
	size_t n = (size_t)snprintf(out, 64, "TUNN_%s", o->name);

	for (size_t i = 0; i < n && i < 64; i++)
		out[i] = out[i] == '-' || out[i] == '.' ? '_' :
		                                          (char)toupper((unsigned char)out[i]);
}

int opts_refuse(const struct opts_reading *r, const struct opts_slot *slot,
                const struct opts_origin *from, const char *fmt, ...)
{
	char words[MESSAGE_LEN], variable[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	if (from->source == OPTS_FILE)
		return opts_fail(r->cmd->name, "%s:%u:%u: %s %s", from->file, from->line,
		                 from->column, slot->opt->name, words);
	if (from->source == OPTS_ENV) {
		opts_variable(slot->opt, variable);
		return opts_fail(r->cmd->name, "%s %s", variable, words);
	}
	return opts_fail(r->cmd->name, "%s%s %s", from->bare ? "" : "--", slot->opt->name, words);
}

int opts_refuse_leaf(const char *command, const char *name, const struct opt_leaf *leaf,
                     const char *fmt, ...)
{
	char words[MESSAGE_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	return opts_fail(command, "%s:%u:%u: %s.%s %s", leaf->file, leaf->line, leaf->column, name,
	                 leaf->path, words);
}

static int refuse_value(const struct opts_reading *r, const struct opts_slot *slot,
                        const struct opts_origin *from, const char *words, const char *value)
{
	if (slot->opt->traits & OPT_PRIVATE)
		return opts_refuse(r, slot, from, "%s", words);
	return opts_refuse(r, slot, from, "%s, not %s", words, opts_quote(value).s);
}

/* ---- kinds ---- */

static int bool_of(const char *word, bool *yes_out)
{
	static const char *const yes[] = { "true", "yes", "on", "1" };
	static const char *const no[] = { "false", "no", "off", "0" };

	for (unsigned i = 0; i < 4; i++) {
		if (strcmp(word, yes[i]) == 0 || strcmp(word, no[i]) == 0) {
			*yes_out = strcmp(word, yes[i]) == 0;
			return 0;
		}
	}
	return ERR_INVALID;
}

static int digit_of(char c, unsigned base)
{
	unsigned v = 99;

	if (c >= '0' && c <= '9')
		v = (unsigned)(c - '0');
	else if (c >= 'a' && c <= 'f')
		v = (unsigned)(c - 'a') + 10;
	else if (c >= 'A' && c <= 'F')
		v = (unsigned)(c - 'A') + 10;
	return v < base ? (int)v : -1;
}

/* Reads digits up to `end_out`; what passes UINT32_MAX stays above it. */
static int digits_of(const char *s, unsigned base, uint64_t *n_out, const char **end_out)
{
	uint64_t n = 0;
	const char *p = s;

	for (; digit_of(*p, base) >= 0; p++)
		if (n <= UINT32_MAX)
			n = n * base + (unsigned)digit_of(*p, base);
	*n_out = n;
	*end_out = p;
	return p == s ? ERR_INVALID : 0;
}

static int set_number(const struct opts_reading *r, struct opts_slot *slot,
                      const struct opts_origin *from, const char *value)
{
	const struct opt *o = slot->opt;
	bool hex = value[0] == '0' && (value[1] == 'x' || value[1] == 'X');
	uint64_t n = 0;
	const char *end;
	char words[96];

	if (digits_of(value + (hex ? 2 : 0), hex ? 16 : 10, &n, &end) || *end || n < o->min ||
	    n > o->max) {
		snprintf(words, sizeof words, "must be a number from %u to %u (or 0x...)", o->min,
		         o->max);
		return refuse_value(r, slot, from, words, value);
	}
	*(uint32_t *)(void *)(slot->target + o->offset) = (uint32_t)n;
	return 0;
}

static int set_size(const struct opts_reading *r, struct opts_slot *slot,
                    const struct opts_origin *from, const char *value)
{
	const struct opt *o = slot->opt;
	char words[128];
	uint64_t n;

	if (units_size(value, &n) < 0 || n < o->min || n > o->max) {
		snprintf(words, sizeof words,
		         "must be a size from %u to %u bytes (unit: B, kB, KiB, MB, MiB, GB, GiB)",
		         o->min, o->max);
		return refuse_value(r, slot, from, words, value);
	}
	*(uint32_t *)(void *)(slot->target + o->offset) = (uint32_t)n;
	return 0;
}

static const char *duration_text(unsigned ms, char out[static 16])
{
	if (ms % 1000)
		snprintf(out, 16, "%ums", ms);
	else
		snprintf(out, 16, "%us", ms / 1000);
	return out;
}

static int set_duration(const struct opts_reading *r, struct opts_slot *slot,
                        const struct opts_origin *from, const char *value)
{
	const struct opt *o = slot->opt;
	char words[128], low[16], high[16];
	uint64_t ms;

	if (units_duration(value, &ms) < 0 || ms < o->min || ms > o->max) {
		snprintf(words, sizeof words,
		         "must be a time from %s to %s with its unit (ms, s, m, h, d)",
		         duration_text(o->min, low), duration_text(o->max, high));
		return refuse_value(r, slot, from, words, value);
	}
	*(unsigned *)(void *)(slot->target + o->offset) = (unsigned)ms;
	return 0;
}

static int check_text(const struct opts_reading *r, const struct opts_slot *slot,
                      const struct opts_origin *from, const char *value)
{
	const char *words = slot->opt->check ? slot->opt->check(value) : NULL;

	if (words)
		return refuse_value(r, slot, from, words, value);
	if (!*value)
		return opts_refuse(r, slot, from, "must not be empty");
	return 0;
}

static int set_text(const struct opts_reading *r, struct opts_slot *slot,
                    const struct opts_origin *from, const char *value, size_t offset)
{
	int rc = check_text(r, slot, from, value);

	if (rc == 0)
		*(const char **)(void *)(slot->target + offset) = value;
	return rc;
}

/* Room for one more at the end of n of that size, doubling where n is a power of two; v
 * where there is some. NULL: out of memory. */
static void *grown(const void *v, unsigned n, size_t size)
{
	if (n && (n & (n - 1)))
		return (void *)(uintptr_t)v;
	void *bigger = opts_alloc((n ? 2 * n : 1) * size);
	if (bigger && n)
		memcpy(bigger, v, n * size);
	return bigger;
}

static int add_to_list(const struct opts_reading *r, struct opts_slot *slot,
                       const struct opts_origin *from, const char *value)
{
	struct opt_list *list = (struct opt_list *)(void *)(slot->target + slot->opt->offset);
	int rc = check_text(r, slot, from, value);

	if (rc)
		return rc;
	if (slot->by == OPTS_NOWHERE)
		*list = (struct opt_list){ 0 }; /* a default goes, it is not added to */
	for (unsigned i = 0; i < list->n; i++)
		if (strcmp(list->v[i], value) == 0)
			return opts_refuse(r, slot, from, "%s is given twice", opts_quote(value).s);
	if (slot->opt->max && list->n == slot->opt->max)
		return opts_refuse(r, slot, from, "is given more than %u times", slot->opt->max);
	const char **v = grown(list->v, list->n, sizeof *v);
	if (!v)
		return opts_fail(r->cmd->name, "out of memory");
	list->v = v;
	list->v[list->n++] = value;
	return 0;
}

int opts_add_leaf(const struct opts_reading *r, struct opts_slot *slot, const struct opt_leaf *leaf)
{
	struct opt_tree *tree = (struct opt_tree *)(void *)(slot->target + slot->opt->offset);
	struct opt_leaf *v = grown(tree->v, tree->n, sizeof *v);

	if (!v)
		return opts_fail(r->cmd->name, "out of memory");
	tree->v = v;
	tree->v[tree->n++] = *leaf;
	slot->by = OPTS_FILE;
	return 0;
}

static int set_flag(const struct opts_reading *r, struct opts_slot *slot,
                    const struct opts_origin *from, const char *value)
{
	bool yes = true;

	if (value && bool_of(value, &yes))
		return refuse_value(r, slot, from, "must be yes or no", value);
	slot->negative = !yes;
	*(bool *)(slot->target + slot->opt->offset) = yes;
	return 0;
}

/* In a file or variable the bare option is written as yes. */
static int set_optional(const struct opts_reading *r, struct opts_slot *slot,
                        const struct opts_origin *from, const char *value)
{
	bool yes = true;

	if (value && (from->source == OPTS_ARGV || bool_of(value, &yes))) {
		int rc = set_text(r, slot, from, value, slot->opt->value_offset);
		if (rc)
			return rc;
	}
	slot->negative = !yes;
	*(bool *)(slot->target + slot->opt->offset) = yes;
	return 0;
}

int opts_set(const struct opts_reading *r, struct opts_slot *slot, const struct opts_origin *from,
             const char *value)
{
	int rc = ERR_CONFIG;

	switch (slot->opt->kind) {
	case OPT_FLAG: rc = set_flag(r, slot, from, value); break;
	case OPT_OPTIONAL: rc = set_optional(r, slot, from, value); break;
	case OPT_TEXT: rc = set_text(r, slot, from, value, slot->opt->offset); break;
	case OPT_LIST: rc = add_to_list(r, slot, from, value); break;
	case OPT_NUMBER: rc = set_number(r, slot, from, value); break;
	case OPT_SIZE: rc = set_size(r, slot, from, value); break;
	case OPT_DURATION: rc = set_duration(r, slot, from, value); break;
	case OPT_TREE: rc = opts_refuse(r, slot, from, "is a map of the config file"); break;
	case OPT_END: break;
	}
	if (rc == 0)
		slot->by = from->source;
	return rc;
}
