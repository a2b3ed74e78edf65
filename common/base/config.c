#include "common/base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "common/base/bytes.h"
#include "common/base/err.h"

struct reader { /* one config_read() */
	const char *path;
	char *error;
	struct config *config;
	yaml_parser_t parser;
};

enum {
	KEYS_MAX = 1000,
	VALUES_MAX = 4096, /* far above any use; the search for doubles is linear */
	MAPS_MAX = 2,      /* in each other, the file itself not counted */
};

static int fail(struct reader *r, const char *what, const char *about)
{
	snprintf(r->error, CONFIG_ERROR_LEN, "%s: %s%s", r->path, what, about);
	return ERR_CONFIG;
}

static int fail_at(struct reader *r, size_t line, size_t column, const char *what,
                   const char *about)
{
	snprintf(r->error, CONFIG_ERROR_LEN, "%s:%zu:%zu: %s%s", r->path, line, column, what,
	         about);
	return ERR_CONFIG;
}

static int fail_mark(struct reader *r, yaml_mark_t at, const char *what)
{
	return fail_at(r, at.line + 1, at.column + 1, what, "");
}

static int fail_memory(struct reader *r)
{
	fail(r, "out of memory", "");
	return -ENOMEM;
}

/* ---- the file's bytes ---- */

static int read_all(struct reader *r, int fd, char *text, size_t *len_out)
{
	size_t len = 0;

	for (;;) {
		ssize_t n = read(fd, text + len, CONFIG_FILE_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(r, "cannot be read: ", strerror(errno));
		len += (size_t)n;
		if (len > CONFIG_FILE_MAX)
			return fail(r, "is larger than 1 MiB, which no config file is", "");
		if (n == 0)
			break;
	}
	*len_out = len;
	return 0;
}

static int read_regular(struct reader *r, int fd, char **text_out, size_t *len_out)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail(r, "cannot be read: ", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fail(r, "is a directory, not a config file", "");
	if (!S_ISREG(st.st_mode))
		return fail(r, "is not a regular file", "");
	char *text = malloc(CONFIG_FILE_MAX + 1);
	if (!text)
		return fail_memory(r);
	int rc = read_all(r, fd, text, len_out);
	if (rc)
		free(text);
	else
		*text_out = text;
	return rc;
}

static int read_file(struct reader *r, char **text_out, size_t *len_out)
{
	/* Not blocking, or opening a FIFO would wait for its writer. */
	int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return fail(r, "cannot be opened: ", strerror(errno));
	int rc = read_regular(r, fd, text_out, len_out);
	close(fd);
	return rc;
}

/* Bytes of the valid UTF-8 character without NUL at the front of p, 0: not one. */
static size_t char_len(const char *p, size_t left)
{
	for (size_t n = 1; n <= 4 && n <= left; n++)
		if (utf8_is_valid(p, n))
			return n;
	return 0;
}

static int check_text(struct reader *r, const char *text, size_t len)
{
	size_t line = 1, column = 1;
	char what[80];

	if (utf8_is_valid(text, len))
		return 0;
	for (size_t i = 0; i < len;) {
		size_t n = char_len(text + i, len - i);
		if (n == 0) {
			snprintf(what, sizeof what, "byte %zu is %s", i,
			         text[i] ? "not UTF-8" : "NUL, which no text holds");
			return fail_at(r, line, column, what, "");
		}
		line += text[i] == '\n';
		column = text[i] == '\n' ? 1 : column + 1;
		i += n;
	}
	return 0;
}

/* ---- what libyaml makes of it ---- */

static int next_event(struct reader *r, yaml_event_t *event)
{
	if (yaml_parser_parse(&r->parser, event))
		return 0;
	if (r->parser.error == YAML_MEMORY_ERROR)
		return fail_memory(r);
	return fail_at(r, r->parser.problem_mark.line + 1, r->parser.problem_mark.column + 1,
	               "not YAML: ", r->parser.problem ? r->parser.problem : "syntax error");
}

static bool is_null(const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;

	return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static int copy_scalar(struct reader *r, const yaml_event_t *event, struct config_value *value_out)
{
	const char *text = (const char *)event->data.scalar.value;

	if (event->data.scalar.anchor)
		return fail_mark(r, event->start_mark, "anchors have no use here");
	if (strlen(text) != event->data.scalar.length) /* "\0" in double quotes */
		return fail_mark(r, event->start_mark, "holds a NUL, which no text holds");
	value_out->text = strdup(text);
	value_out->line = (unsigned)event->start_mark.line + 1;
	value_out->column = (unsigned)event->start_mark.column + 1;
	return value_out->text ? 0 : fail_memory(r);
}

static int add_value(struct reader *r, struct config_entry *entry, const yaml_event_t *event)
{
	if (is_null(event))
		return fail_mark(r, event->start_mark, "the value is missing");
	if (entry->n == VALUES_MAX)
		return fail_mark(r, event->start_mark, "too many values");
	void *v = realloc(entry->v, (entry->n + 1) * sizeof *entry->v);
	if (!v)
		return fail_memory(r);
	entry->v = v;
	int rc = copy_scalar(r, event, &entry->v[entry->n]);
	if (rc == 0)
		entry->n++;
	return rc;
}

static const char *unwanted(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_MAPPING_START_EVENT: return "a map deeper than two levels, which no key here has";
	case YAML_SEQUENCE_START_EVENT: return "a list inside a list";
	case YAML_ALIAS_EVENT: return "aliases have no use here";
	default: return "not expected here";
	}
}

static int read_list(struct reader *r, struct config_entry *entry)
{
	yaml_event_t event;
	bool more = true;
	int rc = 0;

	entry->is_list = true;
	while (rc == 0 && more) {
		rc = next_event(r, &event);
		if (rc)
			break;
		more = event.type != YAML_SEQUENCE_END_EVENT;
		if (event.type == YAML_SCALAR_EVENT)
			rc = add_value(r, entry, &event);
		else if (more)
			rc = fail_mark(r, event.start_mark, unwanted(&event));
		yaml_event_delete(&event);
	}
	return rc;
}

/* A map that is read: the file itself, or one that has a name. */
struct map {
	const char *prefix; /* "map" or "map.map"; NULL: the file */
	unsigned depth;
};

static int read_map(struct reader *r, const struct map *);

/* A map stands for its keys: the entry at hand goes. */
static int read_inner_map(struct reader *r, const struct map *outer)
{
	struct config_value key = r->config->v[--r->config->n].key;
	const struct map inner = { .prefix = key.text, .depth = outer->depth + 1 };
	unsigned before = r->config->n;
	int rc = read_map(r, &inner);

	/* Nothing would be left of what was written; the outer one may be empty, as the file may.
	 */
	if (rc == 0 && r->config->n == before && outer->depth)
		rc = fail_at(r, key.line, key.column, "there is nothing in the map ", key.text);
	free(key.text);
	return rc;
}

static int read_value(struct reader *r, struct config_entry *entry, const struct map *in)
{
	yaml_event_t event;
	int rc = next_event(r, &event);

	if (rc)
		return rc;
	if (event.type == YAML_SCALAR_EVENT)
		rc = add_value(r, entry, &event);
	else if (event.type == YAML_SEQUENCE_START_EVENT)
		rc = read_list(r, entry);
	else if (event.type == YAML_MAPPING_START_EVENT && in->depth < MAPS_MAX)
		rc = read_inner_map(r, in);
	else
		rc = fail_mark(r, event.start_mark, unwanted(&event));
	yaml_event_delete(&event);
	return rc;
}

/* Also a map of that name is it. */
static bool is_same_key(const char *have, const char *key)
{
	size_t len = strlen(key);

	return strncmp(have, key, len) == 0 && (!have[len] || have[len] == '.');
}

static int check_twice(struct reader *r, const struct config_value *key)
{
	char what[160];

	for (unsigned i = 0; i + 1 < r->config->n; i++) {
		if (is_same_key(r->config->v[i].key.text, key->text)) {
			snprintf(what, sizeof what, "key \"%.80s\" is there already, in line %u",
			         key->text, r->config->v[i].key.line);
			return fail_at(r, key->line, key->column, what, "");
		}
	}
	return 0;
}

/* "map.key" */
static int add_prefix(struct reader *r, struct config_value *key, const char *prefix)
{
	size_t cap = strlen(prefix) + 1 + strlen(key->text) + 1;
	char *text = malloc(cap);

	if (!text)
		return fail_memory(r);
	snprintf(text, cap, "%s.%s", prefix, key->text);
	free(key->text);
	key->text = text;
	return 0;
}

static int read_entry(struct reader *r, const yaml_event_t *key, const struct map *in)
{
	if (key->type != YAML_SCALAR_EVENT)
		return fail_mark(r, key->start_mark, "a key is a word, nothing else");
	if (r->config->n == KEYS_MAX)
		return fail_mark(r, key->start_mark, "too many keys");
	void *v = realloc(r->config->v, (r->config->n + 1) * sizeof *r->config->v);
	if (!v)
		return fail_memory(r);
	r->config->v = v;
	struct config_entry *entry = &r->config->v[r->config->n++];
	memset(entry, 0, sizeof *entry);
	int rc = copy_scalar(r, key, &entry->key);
	if (rc == 0 && in->prefix)
		rc = add_prefix(r, &entry->key, in->prefix);
	if (rc == 0)
		rc = check_twice(r, &entry->key);
	return rc ? rc : read_value(r, entry, in);
}

static int read_map(struct reader *r, const struct map *in)
{
	yaml_event_t event;
	bool more = true;
	int rc = 0;

	while (rc == 0 && more) {
		rc = next_event(r, &event);
		if (rc)
			break;
		more = event.type != YAML_MAPPING_END_EVENT;
		if (more)
			rc = read_entry(r, &event, in);
		yaml_event_delete(&event);
	}
	return rc;
}

static int read_documents(struct reader *r)
{
	static const struct map file = { 0 };
	yaml_event_type_t type = YAML_NO_EVENT;
	yaml_event_t event;
	unsigned n_documents = 0;
	int rc = 0;

	while (rc == 0 && type != YAML_STREAM_END_EVENT) {
		rc = next_event(r, &event);
		if (rc)
			break;
		type = event.type;
		if (type == YAML_DOCUMENT_START_EVENT && n_documents++)
			rc = fail_mark(r, event.start_mark,
			               "a second document: one file is one document");
		else if (type == YAML_MAPPING_START_EVENT)
			rc = read_map(r, &file);
		else if (type == YAML_SEQUENCE_START_EVENT || type == YAML_ALIAS_EVENT ||
		         (type == YAML_SCALAR_EVENT && !is_null(&event)))
			rc = fail_mark(r, event.start_mark, "lines of `key: value` are expected");
		yaml_event_delete(&event);
	}
	return rc;
}

static int parse(struct reader *r, const char *text, size_t len)
{
	int rc = check_text(r, text, len);

	if (rc)
		return rc;
	if (!yaml_parser_initialize(&r->parser))
		return fail_memory(r);
	yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, len);
	rc = read_documents(r);
	yaml_parser_delete(&r->parser);
	return rc;
}

int config_read(const char *path, struct config **config_out,
                char error_out[static CONFIG_ERROR_LEN])
{
	struct reader r = { .path = path, .error = error_out };
	char *text = NULL;
	size_t len = 0, bom = 0;
	int rc = read_file(&r, &text, &len);

	if (rc)
		return rc;
	r.config = calloc(1, sizeof *r.config);
	rc = r.config ? 0 : fail_memory(&r);
	if (rc == 0) {
		bom = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
		rc = parse(&r, text + bom, len - bom);
	}
	free(text);
	if (rc)
		config_free(r.config);
	else
		*config_out = r.config;
	return rc;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->n; i++) {
		for (unsigned j = 0; j < c->v[i].n; j++)
			free(c->v[i].v[j].text);
		free(c->v[i].v);
		free(c->v[i].key.text);
	}
	free(c->v);
	free(c);
}

const char *config_library_version(void) { return yaml_get_version_string(); }
