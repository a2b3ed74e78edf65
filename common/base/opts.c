#include "common/base/opts.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/config.h"
#include "common/base/err.h"

enum { OPTIONS_MAX = 64, NAME_LEN = 64 };

enum origin { FROM_NOWHERE, FROM_FILE, FROM_ENV, FROM_ARGV };

struct reader {
	const struct opt_command *cmd;
	void *target;
	enum origin origin[OPTIONS_MAX]; /* who set it: the higher wins */
	const char *config_path;
	char where[600]; /* in front of an error: file:line, or the variable's name */
};

/* Known to every command, besides those of its table. */
static const char *const common_names[] = { "config", "help" };

int opts_fail(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "tunn%s%s: ", command[0] ? " " : "", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return ERR_CONFIG;
}

/* ---- suggestions ---- */

static unsigned distance(const char *a, const char *b) /* Levenshtein */
{
	unsigned row[NAME_LEN];
	size_t n = strlen(b);

	if (n + 1 > NAME_LEN)
		return NAME_LEN;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; *a; a++, i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned cost = diagonal + (*a != b[j - 1]);
			diagonal = row[j];
			unsigned step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
			row[j] = cost < step ? cost : step;
		}
	}
	return row[n];
}

const char *opts_nearest(const char *word, const char *const *candidates, size_t n)
{
	const char *best = NULL;
	unsigned best_distance = 3; /* farther is no typing error */

	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(word, candidates[i]);
		if (d < best_distance) {
			best_distance = d;
			best = candidates[i];
		}
	}
	return best;
}

static const char *nearest_option(const struct opt_command *cmd, const char *word)
{
	const char *names[OPTIONS_MAX + 2];
	size_t n = 0;

	for (const struct opt *o = cmd->opts; o->kind != OPT_END; o++)
		names[n++] = o->name;
	names[n++] = common_names[0];
	names[n++] = common_names[1];
	return opts_nearest(word, names, n);
}

/* ---- values ---- */

static int bad(const struct reader *r, const struct opt *o, const char *value, const char *why)
{
	if (r->where[0])
		return opts_fail(r->cmd->name, "%s: %s: \"%s\": %s", r->where, o->name, value, why);
	return opts_fail(r->cmd->name, "--%s \"%s\": %s", o->name, value, why);
}

static int set_number(const struct reader *r, const struct opt *o, const char *value, uint32_t *to)
{
	char words[100], *end;
	errno = 0;
	unsigned long v = isdigit((unsigned char)value[0]) ? strtoul(value, &end, 0) : 0;
	bool octal = value[0] == '0' && isdigit((unsigned char)value[1]);

	if (!isdigit((unsigned char)value[0]) || *end || errno || octal || v < o->min || v > o->max) {
		snprintf(words, sizeof words, "must be a number from %u to %u", o->min, o->max);
		return bad(r, o, value, words);
	}
	*to = (uint32_t)v;
	return 0;
}

static int set_duration(const struct reader *r, const struct opt *o, const char *value, unsigned *to)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
	char words[140];
	size_t digits = strspn(value, "0123456789");
	uint64_t v = digits && digits <= 9 ? strtoull(value, NULL, 10) : UINT64_MAX;

	for (size_t i = 0; v != UINT64_MAX && i < sizeof units / sizeof *units; i++) {
		if (strcmp(value + digits, units[i].name) != 0)
			continue;
		v *= units[i].ms;
		if (v < o->min || v > o->max)
			break;
		*to = (unsigned)v;
		return 0;
	}
	snprintf(words, sizeof words,
	         "must be a number with a unit (ms, s, m, h, d), from %u ms to %u ms", o->min, o->max);
	return bad(r, o, value, words);
}

static int set_list(const struct reader *r, const struct opt *o, const char *value,
                    struct opt_list *list)
{
	char words[60];

	if (list->n >= o->max) {
		snprintf(words, sizeof words, "at most %u are allowed", o->max);
		return bad(r, o, value, words);
	}
	const char **more = realloc(list->v, (list->n + 1) * sizeof *more);
	if (!more)
		return bad(r, o, value, "out of memory");
	list->v = more;
	list->v[list->n++] = value;
	return 0;
}

static int set_flag(const struct reader *r, const struct opt *o, const char *value, bool *to)
{
	if (strcmp(value, "true") == 0 || strcmp(value, "1") == 0)
		*to = true;
	else if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
		*to = false;
	else
		return bad(r, o, value, "must be true or false");
	return 0;
}

/* OPT_OPTIONAL: "" and true stand for the option without its argument. */
static void set_optional(const struct opt *o, const char *value, char *base)
{
	bool on = strcmp(value, "false") != 0;
	bool bare = !on || !value[0] || strcmp(value, "true") == 0;

	*(bool *)(void *)(base + o->offset) = on;
	*(const char **)(void *)(base + o->value_offset) = bare ? NULL : value;
}

static bool is_utf8_text(const char *value)
{
	for (; *value; value++)
		if ((unsigned char)*value < 0x20)
			return false;
	return true;
}

static int store(const struct reader *r, const struct opt *o, const char *value)
{
	char *base = r->target;
	void *to = base + o->offset;
	const char *why = NULL;

	if (!is_utf8_text(value))
		return bad(r, o, "...", "control characters are not allowed");
	if (o->check && (o->kind != OPT_OPTIONAL || value[0]))
		why = o->check(value);
	if (why)
		return bad(r, o, value, why);
	switch (o->kind) {
	case OPT_FLAG: return set_flag(r, o, value, to);
	case OPT_TEXT:
		if (!value[0])
			return bad(r, o, value, "must not be empty");
		*(const char **)to = value;
		return 0;
	case OPT_LIST: return set_list(r, o, value, to);
	case OPT_NUMBER: return set_number(r, o, value, to);
	case OPT_DURATION: return set_duration(r, o, value, to);
	case OPT_OPTIONAL: set_optional(o, value, base); return 0;
	case OPT_END: break;
	}
	return ERR_CONFIG;
}

/* A stronger origin starts a list anew. */
static int set(struct reader *r, const struct opt *o, const char *value, enum origin origin)
{
	size_t i = (size_t)(o - r->cmd->opts);

	if (r->origin[i] > origin)
		return 0;
	if (r->origin[i] == origin && origin == FROM_ARGV && o->kind != OPT_LIST)
		return opts_fail(r->cmd->name, "--%s is given twice", o->name);
	if (r->origin[i] != origin && o->kind == OPT_LIST)
		*(struct opt_list *)(void *)((char *)r->target + o->offset) = (struct opt_list){ 0 };
	r->origin[i] = origin;
	return store(r, o, value);
}

/* ---- command line ---- */

static const struct opt *find(const struct opt_command *cmd, const char *name, size_t len)
{
	for (const struct opt *o = cmd->opts; o->kind != OPT_END; o++)
		if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

static int unknown(const struct opt_command *cmd, const char *name, size_t len)
{
	char word[NAME_LEN];

	snprintf(word, sizeof word, "%.*s", (int)len, name);
	if (strcmp(word, "token") == 0)
		return opts_fail(cmd->name, "a token is never given on the command line, where everybody "
		                            "on this machine can read it: use --token-file FILE, "
		                            "TUNN_TOKEN, or --token-file - for standard input");
	const char *near = nearest_option(cmd, word);
	if (near)
		return opts_fail(cmd->name, "unknown option --%s, did you mean --%s?", word, near);
	return opts_fail(cmd->name, "unknown option --%s; see tunn %s --help", word, cmd->name);
}

/* Is the next word an argument that may be left out? Not an option, and not the
 * only positional that could be left (a port, say). */
static bool looks_like_value(const struct opt *o, const char *word)
{
	return word && word[0] != '-' && (!o->check || !o->check(word));
}

static int read_option(struct reader *r, int argc, char **argv, int *i, bool *help)
{
	const char *name = argv[*i] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct opt *o = find(r->cmd, name, len);
	const char *value = eq ? eq + 1 : NULL, *following = *i + 1 < argc ? argv[*i + 1] : NULL;

	if (!o && len == 4 && memcmp(name, "help", 4) == 0) {
		*help = true;
		return 0;
	}
	bool is_config = !o && len == 6 && memcmp(name, "config", 6) == 0;
	if (!o && !is_config)
		return unknown(r->cmd, name, len);
	if (o && o->kind == OPT_FLAG) {
		if (eq)
			return opts_fail(r->cmd->name, "--%s takes no value", o->name);
		value = "true";
	} else if (!value && o && o->kind == OPT_OPTIONAL) {
		value = looks_like_value(o, following) ? argv[++*i] : "";
	} else if (!value) {
		if (!following)
			return opts_fail(r->cmd->name, "--%.*s needs a value (%s)", (int)len, name,
			                 o ? o->arg : "FILE");
		value = argv[++*i];
	}
	if (is_config) {
		r->config_path = value;
		return 0;
	}
	return set(r, o, value, FROM_ARGV);
}

static int read_argv(struct reader *r, int argc, char **argv, struct opt_list *positional, bool *help)
{
	bool only_words = false;

	for (int i = 1; i < argc && !*help; i++) {
		int rc = 0;
		if (!only_words && strcmp(argv[i], "--") == 0)
			only_words = true;
		else if (!only_words && strcmp(argv[i], "-h") == 0)
			*help = true;
		else if (!only_words && strncmp(argv[i], "--", 2) == 0)
			rc = read_option(r, argc, argv, &i, help);
		else if (!only_words && argv[i][0] == '-' && argv[i][1])
			rc = opts_fail(r->cmd->name, "unknown option %s; options begin with --", argv[i]);
		else
			rc = set_list(r, &(struct opt){ .name = "arguments", .max = 16 }, argv[i],
			              positional);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- environment and file ---- */

static void env_name(const char *option, char out[static NAME_LEN])
{
	size_t n = (size_t)snprintf(out, NAME_LEN, "TUNN_");

	for (; *option && n + 1 < NAME_LEN; option++)
		out[n++] = *option == '-' ? '_' : (char)toupper((unsigned char)*option);
	out[n] = 0;
}

/* Lists are separated by commas in the environment. */
static int set_env(struct reader *r, const struct opt *o, const char *value)
{
	if (o->kind != OPT_LIST)
		return set(r, o, value, FROM_ENV);
	char *copy = strdup(value), *rest = copy;
	for (char *item; copy && (item = strsep(&rest, ",")) != NULL;) {
		int rc = *item ? set(r, o, item, FROM_ENV) : 0;
		if (rc < 0)
			return rc;
	}
	return copy ? 0 : ERR_CONFIG;
}

static int read_env(struct reader *r)
{
	char name[NAME_LEN];

	for (const struct opt *o = r->cmd->opts; o->kind != OPT_END; o++) {
		env_name(o->name, name);
		const char *value = getenv(name);
		if (!value || !*value)
			continue;
		snprintf(r->where, sizeof r->where, "%s", name);
		int rc = set_env(r, o, value);
		if (rc < 0)
			return rc;
	}
	if (!r->config_path)
		r->config_path = getenv("TUNN_CONFIG");
	r->where[0] = 0;
	return 0;
}

static int set_entry(struct reader *r, const struct config_entry *e)
{
	const struct opt *o = find(r->cmd, e->key, strlen(e->key));
	const char *near;

	snprintf(r->where, sizeof r->where, "%s:%u", r->config_path, e->line);
	if (o) {
		char *value = strdup(e->value);
		return value ? set(r, o, value, FROM_FILE) : ERR_CONFIG;
	}
	near = nearest_option(r->cmd, e->key);
	return opts_fail(r->cmd->name, "%s: unknown key \"%s\"%s%s%s", r->where, e->key,
	                 near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int read_file(struct reader *r)
{
	char error[CONFIG_ERROR_LEN];
	struct config config;

	if (!r->config_path || !*r->config_path)
		return 0;
	if (config_read(r->config_path, &config, error) < 0)
		return opts_fail(r->cmd->name, "%s", error);
	int rc = 0;
	for (size_t i = 0; i < config.n && rc == 0; i++)
		rc = set_entry(r, &config.entries[i]);
	config_done(&config);
	r->where[0] = 0;
	return rc;
}

int opts_read(const struct opt_command *cmd, int argc, char **argv, void *target,
              struct opt_list *positional_out, bool *help_out)
{
	struct reader r = { .cmd = cmd, .target = target };
	int rc;

	*help_out = false;
	rc = read_argv(&r, argc, argv, positional_out, help_out);
	if (rc == 0 && *help_out) {
		opts_help(cmd);
		return 0;
	}
	if (rc == 0)
		rc = read_env(&r);
	if (rc == 0)
		rc = read_file(&r);
	for (const struct opt *o = cmd->opts; rc == 0 && o->kind != OPT_END; o++) {
		const struct opt_list *list = (const void *)((const char *)target + o->offset);
		if (o->kind == OPT_LIST && list->n < o->min)
			rc = opts_fail(cmd->name, "--%s %s is needed; see tunn %s --help", o->name,
			               o->arg, cmd->name);
	}
	return rc;
}

/* ---- help ---- */

static void wrap(const char *text, unsigned indent, unsigned column)
{
	enum { WIDTH = 80 };

	while (*text) {
		size_t len = strcspn(text, " ");
		if (column + len + 1 > WIDTH && column > indent) {
			printf("\n%*s", (int)indent, "");
			column = indent;
		}
		printf("%.*s ", (int)len, text);
		column += (unsigned)len + 1;
		text += len;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void help_option(const char *name, const char *arg, bool optional, const char *text)
{
	enum { COLUMN = 26 };
	int n = printf("  --%s%s%s%s", name, arg ? (optional ? " [" : " ") : "", arg ? arg : "",
	               arg && optional ? "]" : "");

	printf(n < COLUMN ? "%*s" : "\n%*s", n < COLUMN ? COLUMN - n : COLUMN, "");
	wrap(text, COLUMN, COLUMN);
}

void opts_help(const struct opt_command *cmd)
{
	printf("usage: tunn %s %s\n\n", cmd->name, cmd->usage);
	wrap(cmd->text ? cmd->text : cmd->summary, 0, 0);
	printf("\n");
	for (const struct opt *o = cmd->opts; o->kind != OPT_END; o++)
		help_option(o->name, o->arg, o->kind == OPT_OPTIONAL, o->help);
	help_option("config", "FILE", false, "read options from this YAML file: `name: value`");
	help_option("help", NULL, false, "this text");
	printf("\nEvery option is also an environment variable (TUNN_ and its name in upper case,\n"
	       "with _ for -) and a key of the config file. The command line wins, then the\n"
	       "environment, then the file. See tunn(1).\n");
}
