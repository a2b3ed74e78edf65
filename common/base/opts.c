#include "common/base/opts.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/config.h"
#include "common/base/err.h"
#include "common/base/opts_impl.h"

enum { NAMES_MAX = 128 };

/* ---- slots ---- */

static size_t count(const struct opt *o)
{
	size_t n = 0;

	while (o && o[n].kind != OPT_END)
		n++;
	return n;
}

static void add_slots(struct opts_reading *r, const struct opt *o, void *target)
{
	for (; o->kind != OPT_END; o++)
		r->slots[r->n_slots++] = (struct opts_slot){ .opt = o, .target = target };
}

static bool is_named(const struct opt *o, const char *name, size_t len)
{
	return strlen(o->name) == len && memcmp(o->name, name, len) == 0;
}

struct opts_slot *opts_find(const struct opts_reading *r, const char *name, size_t len)
{
	for (size_t i = 0; i < r->n_slots; i++)
		if (is_named(r->slots[i].opt, name, len))
			return &r->slots[i];
	return NULL;
}

static const char *nearest_name(const struct opts_reading *r, const char *word, unsigned not_traits)
{
	const char *names[NAMES_MAX];
	size_t n = 0;

	for (size_t i = 0; i < r->n_slots && n < NAMES_MAX; i++)
		if (!(r->slots[i].opt->traits & not_traits))
			names[n++] = r->slots[i].opt->name;
	return opts_nearest(word, names, n);
}

/* ---- two options that exclude each other ---- */

/* The strongest other one of those of which there can be one. */
static const struct opts_slot *rival_of(const struct opts_reading *r, const struct opts_slot *slot)
{
	const struct opts_slot *rival = NULL;

	for (size_t i = 0; (slot->opt->traits & OPT_ONE_OF) && i < r->n_slots; i++) {
		const struct opts_slot *s = &r->slots[i];
		if (s != slot && (s->opt->traits & OPT_ONE_OF) && !s->negative &&
		    s->by > (rival ? rival->by : OPTS_NOWHERE))
			rival = s;
	}
	return rival;
}

static int check_rival(const struct opts_reading *r, const struct opts_slot *slot,
                       const struct opts_origin *from)
{
	const struct opts_slot *rival = slot->negative ? NULL : rival_of(r, slot);

	if (!rival || rival->by != from->source)
		return 0;
	return opts_refuse(r, slot, from, "and %s%s exclude each other: give one of them",
	                   from->source == OPTS_ARGV ? "--" : "", rival->opt->name);
}

/* Has a stronger source spoken, for this option or against it? */
static bool is_outranked(const struct opts_reading *r, const struct opts_slot *slot,
                         enum opts_source source)
{
	const struct opts_slot *rival = rival_of(r, slot);

	return slot->by > source || (rival && rival->by > source);
}

/* ---- the command line ---- */

struct words {
	int argc, at; /* `at` is the next word */
	char **argv;
};

static bool is_all_digits(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isdigit((unsigned char)*s))
			return false;
	return true;
}

static int unknown_option(const struct opts_reading *r, const char *word, size_t len)
{
	char name[64], shown[64];
	size_t dashes = strspn(word, "-");

	if (dashes > len)
		dashes = len;
	snprintf(shown, sizeof shown, "%.*s", (int)len, word);
	snprintf(name, sizeof name, "%.*s", (int)(len - dashes), word + dashes);
	const char *near = nearest_name(r, name, OPT_SECRET | OPT_FILE);
	opts_fail(r->cmd->name, "unknown option %s%s%s%s", opts_quote(shown).s,
	          near ? ", did you mean --" : "", near ? near : "", near ? "?" : "");
	opts_usage(r->cmd);
	return ERR_CONFIG;
}

/* The value of the option before w->at; NULL: none. */
static int take_value(const struct opts_reading *r, const struct opts_slot *slot, struct words *w,
                      const char **value_out)
{
	const char *next = w->at < w->argc ? w->argv[w->at] : NULL;

	if (slot->opt->kind == OPT_FLAG)
		return 0;
	if (slot->opt->kind == OPT_OPTIONAL) {
		if (!next || next[0] == '-' || is_all_digits(next))
			return 0;
	} else if (!next || (next[0] == '-' && next[1] == '-')) {
		opts_fail(r->cmd->name, "--%s needs a value: --%s %s", slot->opt->name,
		          slot->opt->name, slot->opt->arg ? slot->opt->arg : "VALUE");
		opts_usage(r->cmd);
		return ERR_CONFIG;
	}
	*value_out = next;
	w->at++;
	return 0;
}

static int set_from_argv(const struct opts_reading *r, struct opts_slot *slot, const char *value,
                         bool bare)
{
	struct opts_origin from = { .source = OPTS_ARGV, .bare = bare };

	if (slot->by == OPTS_ARGV && slot->opt->kind != OPT_LIST)
		return opts_refuse(r, slot, &from, "is given twice");
	int rc = opts_set(r, slot, &from, value);
	return rc ? rc : check_rival(r, slot, &from);
}

static int read_option(const struct opts_reading *r, struct words *w)
{
	const char *word = w->argv[w->at++];
	const char *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	const char *value = eq ? eq + 1 : NULL;
	bool is_short_help = strcmp(word, "-h") == 0;
	struct opts_slot *slot = NULL;

	if (is_short_help)
		slot = opts_find(r, "help", 4);
	else if (strncmp(word, "--", 2) == 0)
		slot = opts_find(r, word + 2, len - 2);
	if (!slot)
		return unknown_option(r, word, len);
	if (slot->opt->traits & OPT_SECRET)
		return opts_fail(r->cmd->name, "--%s: %s", slot->opt->name, slot->opt->help);
	if (slot->opt->traits & OPT_FILE)
		return opts_fail(r->cmd->name, "%s is a key of the config file only",
		                 slot->opt->name);
	int rc = eq ? 0 : take_value(r, slot, w, &value);
	return rc ? rc : set_from_argv(r, slot, value, false);
}

static struct opts_slot *next_positional(const struct opts_reading *r, unsigned n_before)
{
	for (size_t i = 0; i < r->n_slots; i++)
		if ((r->slots[i].opt->traits & OPT_POSITIONAL) && n_before-- == 0)
			return &r->slots[i];
	return NULL;
}

static int read_positional(const struct opts_reading *r, const char *word, unsigned n_before,
                           struct opt_list *rest)
{
	struct opts_slot *slot = next_positional(r, n_before);

	if (strncmp(word, "tunn_", 5) == 0)
		return opts_fail(r->cmd->name,
		                 "a token on the command line is seen by everybody on this "
		                 "machine: put it in a file of mode 0600");
	if (strncmp(word, "privkey:", 8) == 0)
		return opts_fail(r->cmd->name,
		                 "a secret key on the command line is seen by everybody on this "
		                 "machine: put it in a file of mode 0600");
	if (slot)
		return set_from_argv(r, slot, word, true);
	if (rest) {
		rest->v[rest->n++] = word;
		return 0;
	}
	opts_fail(r->cmd->name, "unexpected argument %s", opts_quote(word).s);
	opts_usage(r->cmd);
	return ERR_CONFIG;
}

/* "-1" is a word, so that a port of -1 is answered as a port. */
static bool is_option(const char *word)
{
	return word[0] == '-' && word[1] && !isdigit((unsigned char)word[1]);
}

static int read_argv(const struct opts_reading *r, int argc, char **argv, struct opt_list *rest)
{
	struct words w = { .argc = argc, .at = 1, .argv = argv };
	unsigned n_positional = 0;
	bool literal = false;
	int rc = 0;

	while (rc == 0 && w.at < argc) {
		if (!literal && strcmp(argv[w.at], "--") == 0) {
			literal = true;
			w.at++;
		} else if (!literal && is_option(argv[w.at])) {
			rc = read_option(r, &w);
		} else {
			rc = read_positional(r, argv[w.at++], n_positional++, rest);
		}
	}
	return rc;
}

/* ---- the environment ---- */

static int split_list(const struct opts_reading *r, struct opts_slot *slot,
                      const struct opts_origin *from, const char *text)
{
	int rc = 0;

	while (rc == 0) {
		text += strspn(text, ", \t\r\n");
		size_t len = strcspn(text, ", \t\r\n");
		if (len == 0)
			break;
		const char *value = opts_copy(text, len);
		rc = value ? opts_set(r, slot, from, value) :
		             opts_fail(r->cmd->name, "out of memory");
		text += len;
	}
	return rc;
}

static int read_variable(const struct opts_reading *r, struct opts_slot *slot)
{
	struct opts_origin from = { .source = OPTS_ENV };
	char name[64];
	int rc;

	opts_variable(slot->opt, name);
	const char *value = getenv(name);
	if (!value || !*value)
		return 0;
	value = opts_copy(value, strlen(value)); /* the environment may be wiped */
	if (!value)
		return opts_fail(r->cmd->name, "out of memory");
	if (slot->opt->kind == OPT_LIST)
		rc = split_list(r, slot, &from, value);
	else
		rc = opts_set(r, slot, &from, value);
	return rc ? rc : check_rival(r, slot, &from);
}

static int read_env(const struct opts_reading *r)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < r->n_slots; i++) {
		struct opts_slot *slot = &r->slots[i];
		if (!(slot->opt->traits & (OPT_SECRET | OPT_FILE | OPT_LINE)) &&
		    strcmp(slot->opt->name, "help") != 0 && !is_outranked(r, slot, OPTS_ENV))
			rc = read_variable(r, slot);
	}
	return rc;
}

/* ---- the file ---- */

static int unknown_key(const struct opts_reading *r, const char *file,
                       const struct config_value *key)
{
	const char *near = nearest_name(r, key->text, OPT_SECRET | OPT_LINE);

	return opts_fail(r->cmd->name, "%s:%u:%u: unknown key %s%s%s%s", file, key->line,
	                 key->column, opts_quote(key->text).s, near ? ", did you mean \"" : "",
	                 near ? near : "", near ? "\"?" : "");
}

/* Where the key is a path below that tree: what follows its name, else NULL. */
static const char *path_in(const struct opt *o, const char *key)
{
	size_t len = strlen(o->name);

	return o->kind == OPT_TREE && strncmp(key, o->name, len) == 0 && key[len] == '.' ?
	                       key + len + 1 :
	                       NULL;
}

static bool is_of_other(const struct opt *o, const char *key)
{
	for (; o && o->kind != OPT_END; o++)
		if (strcmp(o->name, key) == 0 || path_in(o, key))
			return true;
	return false;
}

static int read_leaves(const struct opts_reading *r, struct opts_slot *slot, const char *file,
                       const struct config_entry *e)
{
	struct opt_leaf leaf = { .path = path_in(slot->opt, e->key.text), .file = file };
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < e->n; i++) {
		leaf.value = e->v[i].text;
		leaf.line = e->v[i].line;
		leaf.column = e->v[i].column;
		rc = e->is_list ? opts_refuse_leaf(r->cmd->name, slot->opt->name, &leaf,
		                                   "takes one value, not a list") :
		                  opts_add_leaf(r, slot, &leaf);
	}
	return rc;
}

/* NULL: no key of this command's file. */
static struct opts_slot *find_key(const struct opts_reading *r, const char *key)
{
	struct opts_slot *slot = opts_find(r, key, strlen(key));

	for (size_t i = 0; !slot && i < r->n_slots; i++)
		if (path_in(r->slots[i].opt, key))
			slot = &r->slots[i];
	return slot && (slot->opt->traits & OPT_LINE) ? NULL : slot;
}

static int read_values(const struct opts_reading *r, struct opts_slot *slot, const char *file,
                       const struct config_entry *e)
{
	struct opts_origin from = { .source = OPTS_FILE, .file = file };
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < e->n; i++) {
		from.line = e->v[i].line;
		from.column = e->v[i].column;
		rc = opts_set(r, slot, &from, e->v[i].text);
	}
	return rc || e->n == 0 ? rc : check_rival(r, slot, &from);
}

static int read_entry(const struct opts_reading *r, const char *file, const struct config_entry *e)
{
	struct opts_slot *slot = find_key(r, e->key.text);
	struct opts_origin from = {
		.source = OPTS_FILE, .file = file, .line = e->key.line, .column = e->key.column
	};

	if (!slot && is_of_other(r->cmd->file_of, e->key.text))
		return 0;
	if (!slot)
		return unknown_key(r, file, &e->key);
	if (path_in(slot->opt, e->key.text))
		return read_leaves(r, slot, file, e);
	if (slot->opt->traits & OPT_SECRET)
		return opts_refuse(r, slot, &from, "is no key: %s", slot->opt->help);
	if (strcmp(slot->opt->name, "config") == 0 || strcmp(slot->opt->name, "help") == 0)
		return opts_refuse(r, slot, &from, "has no place in a config file");
	if (e->is_list && slot->opt->kind != OPT_LIST)
		return opts_refuse(r, slot, &from, "takes one value, not a list");
	return is_outranked(r, slot, OPTS_FILE) ? 0 : read_values(r, slot, file, e);
}

static int read_config(const struct opts_reading *r, const char *file)
{
	char error[CONFIG_ERROR_LEN];
	struct config *config;
	int rc = 0;

	if (config_read(file, &config, error))
		return opts_fail(r->cmd->name, "%s", error);
	if (!opts_keep(config, (void (*)(void *))config_free))
		return opts_fail(r->cmd->name, "out of memory");
	for (unsigned i = 0; rc == 0 && i < config->n; i++)
		rc = read_entry(r, file, &config->v[i]);
	return rc;
}

/* ---- all of it ---- */

static int read_all(const struct opts_reading *r, const struct opts_common *common, int argc,
                    char **argv, struct opt_list *rest)
{
	int rc = read_argv(r, argc, argv, rest);

	if (rc || common->help)
		return rc;
	rc = read_env(r);
	if (rc == 0 && common->config)
		rc = read_config(r, common->config);
	return rc;
}

int opts_read(const struct opt_command *cmd, int argc, char **argv, void *target,
              struct opt_list *positional_out, bool *help_out)
{
	struct opts_common common = { 0 };
	struct opts_reading r = { .cmd = cmd };
	struct opt_list rest = { 0 };

	r.slots = calloc(count(cmd->opts) + count(opts_common_table), sizeof *r.slots);
	rest.v = opts_alloc((size_t)(argc + 1) * sizeof *rest.v);
	if (!r.slots || !rest.v) {
		free(r.slots);
		return opts_fail(cmd->name, "out of memory");
	}
	add_slots(&r, cmd->opts, target);
	add_slots(&r, opts_common_table, &common);
	int rc = read_all(&r, &common, argc, argv, positional_out ? &rest : NULL);
	free(r.slots);
	if (rc)
		return rc;
	if (common.help)
		opts_help(cmd);
	*help_out = common.help;
	if (positional_out)
		*positional_out = rest;
	return 0;
}
