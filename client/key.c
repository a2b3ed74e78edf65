/* `tunn key`: node keys in every form, and the keys of named tunnels. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/command.h"
#include "client/options.h"
#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/nodekey.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct key_options {
	const char *form; /* --format, or --to of convert */
	const char *key_file, *out;
};

#define SECRET_FORMS "privkey, json, hex, wireguard or raw"
#define PUBLIC_FORMS "nodekey, hex, wireguard, raw or np"
#define ALL_FORMS    "privkey, json, nodekey, np, hex, wireguard or raw"

static const char *check_form(const char *v)
{
	enum nodekey_form form;

	return nodekey_form_of(v, &form) == 0 ? NULL : "must be " ALL_FORMS;
}

/* A name that is a key itself is a mistake, and is not to be shown. */
static const char *check_key_file(const char *v)
{
	char unused[NODEKEY_ERROR_LEN];
	struct nodekey k;
	bool is_key = nodekey_read(str_of(v), NODEKEY_EITHER, &k, unused) == 0;

	crypto_wipe(&k, sizeof k);
	return is_key || strncmp(v, "privkey:", 8) == 0 ?
	                       "takes the name of a file: a key on the command line is seen by "
	                       "everybody on this machine" :
	                       NULL;
}

#define AT(field) .offset = offsetof(struct key_options, field)
#define FORM_ROW(name_, help_)                                                                     \
	{                                                                                          \
		.kind = OPT_TEXT, .name = name_, .arg = "FORM", AT(form), .check = check_form,     \
		.help = help_                                                                      \
	}
#define FORMAT_OF_NEW                                                                              \
	FORM_ROW("format", "write the key as FORM: " SECRET_FORMS "; default: privkey")
#define FORMAT_OF_PUB                                                                              \
	FORM_ROW("format", "write the key as FORM: " PUBLIC_FORMS "; default: nodekey")
#define TO_ROW FORM_ROW("to", "write the key as FORM: " ALL_FORMS)
#define KEY_FILE_ROW                                                                               \
	{                                                                                          \
		.kind = OPT_TEXT, .name = "key-file", .arg = "FILE", AT(key_file),                 \
		.traits = OPT_PRIVATE, .check = check_key_file,                                    \
		.help = "read the key from FILE (a secret one: mode 0600) or, with -, from "       \
		        "standard input; default: -"                                               \
	}
#define OUT_ROW                                                                                    \
	{                                                                                          \
		.kind = OPT_TEXT, .name = "out", .arg = "FILE", AT(out),                           \
		.help = "write to FILE, which must not be there yet (mode 0600), instead of "      \
		        "standard output"                                                          \
	}
#define SECRET_ROW                                                                                 \
	{                                                                                          \
		.kind = OPT_TEXT, .name = "key", .traits = OPT_SECRET,                             \
		.help = "a key given like this is seen by everybody on this machine: use "         \
		        "--key-file FILE, or --key-file - for standard input"                      \
	}

static const struct opt new_opts[] = { FORMAT_OF_NEW, OUT_ROW, SECRET_ROW, { .kind = OPT_END } };
static const struct opt pub_opts[] = {
	KEY_FILE_ROW, FORMAT_OF_PUB, SECRET_ROW, { .kind = OPT_END }
};
static const struct opt convert_opts[] = {
	TO_ROW, KEY_FILE_ROW, OUT_ROW, SECRET_ROW, { .kind = OPT_END }
};
static const struct opt id_opts[] = { { .kind = OPT_END } };
/* For --help of them all. */
static const struct opt key_opts[] = {
	FORM_ROW("format", "of new and pub: write the key as FORM; default: privkey or nodekey"),
	TO_ROW,
	KEY_FILE_ROW,
	OUT_ROW,
	SECRET_ROW,
	{ .kind = OPT_END },
};

#define FORMS_TEXT                                                                                 \
	"FORM is privkey (privkey:HEX), json (derper's file), nodekey (nodekey:HEX), np (np and "  \
	"32 bytes), hex, wireguard (base64) or raw (32 bytes). The form of a key that is read is " \
	"found out; the last three do not say whether it is secret or public, so it is taken for " \
	"what the form to write says."

static const struct opt_command key_cmd = {
	.name = "key",
	.usage = "new|pub|convert|id [options]",
	.summary = "make and convert the keys of DERP and WireGuard, and those of named tunnels",
	.text = "  tunn key new [--format FORM] [--out FILE]     makes a secret key\n"
	        "  tunn key pub [--key-file FILE]                prints its public key\n"
	        "  tunn key convert --to FORM [--key-file FILE]  writes it in another form\n"
	        "  tunn key id ACCOUNT/ID                        prints the key of a tunnel\n"
	        "\n" FORMS_TEXT,
	.opts = key_opts,
	.file_of = relay_opts,
};

static int fail(int code, const char *words)
{
	opts_fail(key_cmd.name, "%s", words);
	return code;
}

/* ---- writing ---- */

static int print(const struct nodekey *k, enum nodekey_form form)
{
	char text[NODEKEY_WRITTEN_MAX];
	int n = nodekey_write(k, form, text), rc = EXIT_OK;

	if (n == ERR_INVALID)
		rc = fail(EXIT_USAGE, "a key of this kind cannot have that form");
	else if (n < 0)
		rc = fail(EXIT_FAILED, err_text(n));
	else if (fwrite(text, 1, (size_t)n, stdout) != (size_t)n || fflush(stdout) != 0)
		rc = fail(EXIT_FAILED, "standard output cannot be written");
	crypto_wipe(text, sizeof text);
	return rc;
}

static int put(const struct nodekey *k, enum nodekey_form form, const char *path)
{
	char error[NODEKEY_ERROR_LEN];

	if (!path && nodekey_form_is_binary(form) && isatty(STDOUT_FILENO))
		return fail(EXIT_USAGE,
		            "bytes are not written to a terminal: use --out FILE or a pipe");
	if (!path)
		return print(k, form);
	if (nodekey_create_file(path, k, form, error) < 0)
		return fail(EXIT_FAILED, error);
	return EXIT_OK;
}

/* ---- the verbs ---- */

static enum nodekey_form form_or(const struct key_options *o, enum nodekey_form standard)
{
	enum nodekey_form form = standard;

	if (o->form)
		nodekey_form_of(o->form, &form); /* checked when read */
	return form;
}

static int read_key(const struct key_options *o, enum nodekey_kind wanted, struct nodekey *k_out)
{
	char error[NODEKEY_ERROR_LEN];

	if (nodekey_read_file(o->key_file ? o->key_file : "-", wanted, k_out, error) < 0)
		return fail(EXIT_USAGE, error);
	return EXIT_OK;
}

static int run_new(const struct key_options *o, const char *word)
{
	enum nodekey_form form = form_or(o, NODEKEY_PRIVKEY);
	char text[NODEKEY_WRITTEN_MAX];
	struct nodekey secret, public;

	(void)word;
	if (nodekey_kind_of(form) == NODEKEY_PUBLIC)
		return fail(EXIT_USAGE, "--format of a secret key must be " SECRET_FORMS);
	nodekey_new(&secret);
	nodekey_public(&secret, &public);
	int rc = put(&secret, form, o->out);
	crypto_wipe(&secret, sizeof secret);
	if (rc == EXIT_OK && o->out && nodekey_write(&public, NODEKEY_NODEKEY, text) > 0)
		fprintf(stderr, "tunn: the secret key is in %s; its public key: %s", o->out, text);
	return rc;
}

static int run_pub(const struct key_options *o, const char *word)
{
	enum nodekey_form form = form_or(o, NODEKEY_NODEKEY);
	struct nodekey secret, public;

	(void)word;
	if (nodekey_kind_of(form) == NODEKEY_SECRET)
		return fail(EXIT_USAGE, "--format of a public key must be " PUBLIC_FORMS);
	int rc = read_key(o, NODEKEY_SECRET, &secret);
	if (rc)
		return rc;
	nodekey_public(&secret, &public);
	crypto_wipe(&secret, sizeof secret);
	return put(&public, form, NULL);
}

static int run_convert(const struct key_options *o, const char *word)
{
	enum nodekey_form form = form_or(o, NODEKEY_FORM_N);
	struct nodekey k;

	(void)word;
	if (form == NODEKEY_FORM_N)
		return fail(EXIT_USAGE, "convert needs --to FORM: " ALL_FORMS);
	int rc = read_key(o, nodekey_kind_of(form), &k);
	if (rc)
		return rc;
	rc = put(&k, form, o->out);
	crypto_wipe(&k, sizeof k);
	return rc;
}

static int run_id(const struct key_options *o, const char *word)
{
	const char *slash = strchr(word, '/');
	char hex[KEY_TEXT_LEN + 1];
	struct key key;

	(void)o;
	if (!slash || key_of_peer(STR(""), str_of(word), &key) < 0) {
		opts_fail(key_cmd.name,
		          "%s is no ACCOUNT/ID (each 1 to 63 of a-z, 0-9 and -): a tunnel's key is "
		          "that of its id in its account",
		          opts_quote(word).s);
		return EXIT_USAGE;
	}
	hex_encode(key.b, KEY_LEN, hex);
	if (puts(hex) < 0 || fflush(stdout) != 0)
		return fail(EXIT_FAILED, "standard output cannot be written");
	return EXIT_OK;
}

static const struct verb {
	struct opt_command cmd;
	int (*run)(const struct key_options *, const char *word);
	bool has_word;
} verbs[] = {
	{ { .name = "key new",
	    .usage = "[--format FORM] [--out FILE]",
	    .summary = "make a secret node key",
	    .opts = new_opts,
	    .file_of = relay_opts },
	  run_new,
	  false },
	{ { .name = "key pub",
	    .usage = "[--key-file FILE] [--format FORM]",
	    .summary = "print the public key of a secret one",
	    .opts = pub_opts,
	    .file_of = relay_opts },
	  run_pub,
	  false },
	{ { .name = "key convert",
	    .usage = "--to FORM [--key-file FILE] [--out FILE]",
	    .summary = "write a key in another form",
	    .text = FORMS_TEXT,
	    .opts = convert_opts,
	    .file_of = relay_opts },
	  run_convert,
	  false },
	{ { .name = "key id",
	    .usage = "ACCOUNT/ID",
	    .summary = "print the key of a named tunnel",
	    .opts = id_opts,
	    .file_of = relay_opts },
	  run_id,
	  true },
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

/* A word that is too much may be a secret: it is not repeated. */
static int check_words(const struct verb *v, const struct opt_list *words)
{
	if (v->has_word && words->n == 1)
		return 0;
	if (!v->has_word && words->n == 0)
		return 0;
	if (!v->has_word)
		return opts_fail(v->cmd.name, "takes no words besides options; a key is read from "
		                              "--key-file FILE or standard input, since a command "
		                              "line is seen by everybody on this machine");
	return opts_fail(v->cmd.name, "usage: tunn %s %s", v->cmd.name, v->cmd.usage);
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	struct key_options o = { 0 };
	struct opt_list words = { 0 };
	bool help;

	if (opts_read(&v->cmd, argc, argv, &o, &words, &help) < 0)
		return EXIT_USAGE;
	if (help)
		return EXIT_OK;
	if (check_words(v, &words) < 0)
		return EXIT_USAGE;
	return v->run(&o, v->has_word ? words.v[0] : NULL);
}

int key_command(int argc, char **argv)
{
	struct key_options unused = { 0 };
	struct opt_list words = { 0 };
	bool help;

	for (int i = 0; argc > 1 && i < N_VERBS; i++)
		if (strcmp(argv[1], verbs[i].cmd.name + strlen("key ")) == 0)
			return run_verb(&verbs[i], argc - 1, argv + 1);
	if (opts_read(&key_cmd, argc, argv, &unused, &words, &help) < 0)
		return EXIT_USAGE;
	if (help)
		return EXIT_OK;
	opts_fail(key_cmd.name, "usage: tunn key %s", key_cmd.usage);
	return EXIT_USAGE;
}
