#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/base/opts_impl.h"

enum { LEFT_WIDTH = 26, LINE_WIDTH = 80, WORD_MAX = 40 };

const struct opt opts_common_table[] = {
	{ .kind = OPT_TEXT,
	  .name = "config",
	  .arg = "FILE",
	  .help = "read options from a YAML file",
	  .offset = offsetof(struct opts_common, config) },
	{ .kind = OPT_FLAG,
	  .name = "help",
	  .help = "print this and end",
	  .offset = offsetof(struct opts_common, help) },
	{ .kind = OPT_END },
};

/* ---- the nearest word ---- */

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

static bool same_letter(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Letters to insert, remove, replace or swap with their neighbour. */
static unsigned distance(const char *a, size_t n, const char *b, size_t m)
{
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];

	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			unsigned same = same_letter(a[i - 1], b[j - 1]) ? 0 : 1;
			d[i][j] = least(d[i - 1][j - 1] + same,
			                least(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
			    same_letter(a[i - 2], b[j - 1]))
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[n][m];
}

const char *opts_nearest(const char *word, const char *const *candidates, size_t n)
{
	size_t len = strlen(word);
	unsigned best = (unsigned)len / 3 + 2; /* that far is not near */
	const char *found = NULL;

	if (len == 0 || len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t m = strlen(candidates[i]);
		if (m > WORD_MAX)
			continue;
		unsigned far = distance(word, len, candidates[i], m);
		if (len >= 3 && strncmp(word, candidates[i], len) == 0)
			far = least(far, 1); /* the beginning of it */
		if (far < best && far < m) {
			best = far;
			found = candidates[i];
		}
	}
	return found;
}

/* ---- --help ---- */

static unsigned print_left(const struct opt *o)
{
	const char *arg = o->arg ? o->arg : "VALUE";

	switch (o->kind) {
	case OPT_FLAG: return (unsigned)printf("  --%s", o->name);
	case OPT_OPTIONAL: return (unsigned)printf("  --%s [%s]", o->name, arg);
	case OPT_LIST: return (unsigned)printf("  --%s %s...", o->name, arg);
	default: return (unsigned)printf("  --%s %s", o->name, arg);
	}
}

/* Words from column `indent` on, wrapped and indented to it. */
static void print_wrapped(const char *text, size_t len, unsigned indent)
{
	const char *end = text + len;
	unsigned at = indent;

	while (text < end) {
		unsigned n = (unsigned)strcspn(text, " \n");
		if (at > indent && at + n + 1 > LINE_WIDTH) {
			printf("\n%*s", (int)indent, "");
			at = indent;
		} else if (at > indent) {
			putchar(' ');
			at++;
		}
		printf("%.*s", (int)n, text);
		at += n;
		text += n;
		text += strspn(text, " ");
	}
	putchar('\n');
}

/* Lines that fit stay as they are written. */
static void print_text(const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\n");
		if (n <= LINE_WIDTH)
			printf("%.*s\n", (int)n, text);
		else
			print_wrapped(text, n, 0);
		text += n + (text[n] == '\n');
	}
}

static void print_option(const struct opt *o)
{
	unsigned at = print_left(o);

	if (at + 2 > LEFT_WIDTH)
		printf("\n%*s", LEFT_WIDTH, "");
	else
		printf("%*s", (int)(LEFT_WIDTH - at), "");
	print_wrapped(o->help, strlen(o->help), LEFT_WIDTH);
}

static void print_table(const struct opt *o)
{
	for (; o->kind != OPT_END; o++)
		if (!(o->traits & (OPT_SECRET | OPT_FILE)))
			print_option(o);
}

void opts_help(const struct opt_command *cmd)
{
	printf("tunn %s: %s\n\nusage: tunn %s %s\n\noptions:\n", cmd->name, cmd->summary, cmd->name,
	       cmd->usage);
	print_table(cmd->opts);
	print_table(opts_common_table);
	if (cmd->text) {
		putchar('\n');
		print_text(cmd->text);
	}
	printf("\nEach option is also a variable (--log-level: TUNN_LOG_LEVEL) and a key of the\n"
	       "config file (log-level: debug). The command line wins over the environment,\n"
	       "the environment over the file. More: man tunn\n");
}

void opts_usage(const struct opt_command *cmd)
{
	fprintf(stderr, "usage: tunn %s %s\nhelp:  tunn %s --help\n", cmd->name, cmd->usage,
	        cmd->name);
}
