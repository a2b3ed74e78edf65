#include "common/base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "common/base/bytes.h"
#include "common/base/err.h"

struct reader {
	const char *path;
	char *text;
	size_t len;
	yaml_parser_t parser;
	struct config config;
	char *error;
};

static int say(struct reader *r, const yaml_mark_t *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int say(struct reader *r, const yaml_mark_t *at, const char *fmt, ...)
{
	int n = at ? snprintf(r->error, CONFIG_ERROR_LEN, "%s:%zu:%zu: ", r->path, at->line + 1,
	                      at->column + 1) :
	             snprintf(r->error, CONFIG_ERROR_LEN, "%s: ", r->path);
	va_list ap;

	va_start(ap, fmt);
	if (n < CONFIG_ERROR_LEN)
		vsnprintf(r->error + n, CONFIG_ERROR_LEN - (size_t)n, fmt, ap);
	va_end(ap);
	return ERR_CONFIG;
}

/* ---- the file ---- */

static int load(struct reader *r)
{
	struct stat st;
	int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) < 0) {
		int err = errno;
		if (fd >= 0)
			close(fd);
		return say(r, NULL, "cannot read the config file: %s", strerror(err));
	}
	if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_FILE_MAX) {
		close(fd);
		return say(r, NULL, S_ISREG(st.st_mode) ? "a config file has at most 1 MiB" :
		                                          "not a regular file");
	}
	r->text = malloc((size_t)st.st_size + 1);
	ssize_t n = r->text ? read(fd, r->text, (size_t)st.st_size) : -1;
	close(fd);
	if (n < 0)
		return say(r, NULL, "cannot read the config file");
	r->len = (size_t)n;
	for (size_t i = 0; i < r->len; i++)
		if (r->text[i] == 0)
			return say(r, NULL, "NUL byte at offset %zu", i);
	if (!utf8_is_valid(r->text, r->len))
		return say(r, NULL, "not valid UTF-8");
	return 0;
}

/* ---- events ---- */

static int next(struct reader *r, yaml_event_t *ev)
{
	if (yaml_parser_parse(&r->parser, ev))
		return 0;
	return say(r, &r->parser.problem_mark, "%s",
	           r->parser.problem ? r->parser.problem : "not YAML");
}

static const char *scalar(const yaml_event_t *ev) { return (const char *)ev->data.scalar.value; }

static int add(struct reader *r, const char *key, const yaml_event_t *ev)
{
	struct config_entry *more = realloc(r->config.entries, (r->config.n + 1) * sizeof *more);

	if (!more)
		return say(r, NULL, "out of memory");
	r->config.entries = more;
	more[r->config.n] = (struct config_entry){ strdup(key), strdup(scalar(ev)),
		                                   (unsigned)ev->start_mark.line + 1 };
	if (!more[r->config.n].key || !more[r->config.n].value)
		return say(r, NULL, "out of memory");
	r->config.n++;
	return 0;
}

static bool is_known(const struct reader *r, const char *key)
{
	for (size_t i = 0; i < r->config.n; i++)
		if (strcmp(r->config.entries[i].key, key) == 0)
			return true;
	return false;
}

static int read_list(struct reader *r, const char *key)
{
	yaml_event_t ev;
	int rc;

	while ((rc = next(r, &ev)) == 0) {
		yaml_event_type_t type = ev.type;
		if (type == YAML_SCALAR_EVENT)
			rc = add(r, key, &ev);
		else if (type != YAML_SEQUENCE_END_EVENT)
			rc = say(r, &ev.start_mark, "items of \"%s\" must be plain values", key);
		yaml_event_delete(&ev);
		if (rc < 0 || type == YAML_SEQUENCE_END_EVENT)
			return rc;
	}
	return rc;
}

static int read_value(struct reader *r, const char *key)
{
	yaml_event_t ev;
	int rc = next(r, &ev);

	if (rc < 0)
		return rc;
	if (ev.type == YAML_SCALAR_EVENT)
		rc = add(r, key, &ev);
	else if (ev.type == YAML_SEQUENCE_START_EVENT)
		rc = read_list(r, key);
	else
		rc = say(r, &ev.start_mark, "\"%s\" must be a value or a list of values", key);
	yaml_event_delete(&ev);
	return rc;
}

static int read_mapping(struct reader *r)
{
	yaml_event_t ev;
	int rc;

	while ((rc = next(r, &ev)) == 0) {
		if (ev.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&ev);
			return 0;
		}
		if (ev.type != YAML_SCALAR_EVENT)
			rc = say(r, &ev.start_mark, "keys must be plain words");
		else if (is_known(r, scalar(&ev)))
			rc = say(r, &ev.start_mark, "\"%s\" is given twice", scalar(&ev));
		else
			rc = read_value(r, scalar(&ev));
		yaml_event_delete(&ev);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int read_document(struct reader *r)
{
	yaml_event_t ev;
	int rc;

	while ((rc = next(r, &ev)) == 0) {
		yaml_event_type_t type = ev.type;
		if (type == YAML_MAPPING_START_EVENT)
			rc = read_mapping(r);
		else if (type == YAML_SCALAR_EVENT && ev.data.scalar.length)
			rc = say(r, &ev.start_mark, "expected lines of the form `key: value`");
		else if (type == YAML_SEQUENCE_START_EVENT || type == YAML_ALIAS_EVENT)
			rc = say(r, &ev.start_mark, "expected lines of the form `key: value`");
		yaml_event_delete(&ev);
		if (rc < 0 || type == YAML_STREAM_END_EVENT)
			return rc;
	}
	return rc;
}

int config_read(const char *path, struct config *config_out, char error_out[static CONFIG_ERROR_LEN])
{
	struct reader r = { .path = path, .error = error_out };
	int rc = load(&r);

	if (rc == 0) {
		if (!yaml_parser_initialize(&r.parser)) {
			free(r.text);
			return say(&r, NULL, "out of memory");
		}
		yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
		yaml_parser_set_input_string(&r.parser, (const unsigned char *)r.text, r.len);
		rc = read_document(&r);
		yaml_parser_delete(&r.parser);
	}
	free(r.text);
	if (rc < 0)
		config_done(&r.config);
	else
		*config_out = r.config;
	return rc;
}

void config_done(struct config *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->entries[i].key);
		free(c->entries[i].value);
	}
	free(c->entries);
	*c = (struct config){ 0 };
}
