#include "server/commands/ask.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/net/local_socket.h"
#include "server/commands/commands.h"
#include "server/commands/control.h"

enum {
	ANSWER_MAX = 64 << 20,
	ANSWER_DEPTH = 6,
	ANSWER_PARTS = 1 << 20,
	ANSWER_MS = 20000, /* the database may be busy for some of it */
	START_MS = 3000,   /* a server that has the lock opens its socket meanwhile */
	PAUSE_MS = 50,
	AGAIN_MS = 5000, /* another program has the database: the server does not wait, we do */
};

int ask_prepare(struct ask_options *o)
{
	if (!o->state)
		o->state = state_default_dir();
	return tiers_read(o->command, &o->words, &o->tiers);
}

static int failed(const struct ask_options *o, const char *words)
{
	opts_fail(o->command, "%s", words);
	return ASK_FAILED;
}

/* ---- a server that runs ---- */

static int unreachable(const struct ask_options *o, int rc)
{
	char words[ACCOUNTS_ERROR_LEN];

	if (rc == -EACCES || rc == -EPERM)
		snprintf(words, sizeof words,
		         "the state directory %s is another user's: run this as the user that the "
		         "server runs as, or as root",
		         o->state);
	else
		snprintf(words, sizeof words,
		         "no answer from the tunn server at %s/" CONTROL_NAME ": %s", o->state,
		         rc == ERR_CLOSED ? "it ended, or has no memory" : err_text(rc));
	return failed(o, words);
}

/* Takes the text. NULL: it is no answer. */
static struct json *parse(char *text, size_t len)
{
	static const struct json_limits limits = { ANSWER_MAX, ANSWER_DEPTH, ANSWER_PARTS };
	struct json *answer = NULL;
	int rc = json_parse((struct str){ text, len }, &limits, &answer, NULL);

	crypto_wipe(text, len);
	free(text);
	return rc < 0 ? NULL : answer;
}

static int ask_server(const struct ask_options *o, struct str request, struct json **answer_out)
{
	char *text = NULL;
	size_t len = 0;
	int rc = local_socket_ask(o->state, CONTROL_NAME, request, ANSWER_MS, &text, &len);

	if (rc == 0)
		*answer_out = parse(text, len);
	return rc == 0 && !*answer_out ? ERR_PROTOCOL : rc;
}

/* ---- no server ---- */

/* No accounts were ever there. */
static bool is_empty(const struct ask_options *o)
{
	char path[STATE_DIR_MAX + 32];

	snprintf(path, sizeof path, "%s/accounts.db", o->state);
	return access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* Who mistyped --state, or forgot sudo, must not take the emptiness of another directory for the
 * relay's. */
static int refuse_empty(const struct ask_options *o)
{
	char words[ACCOUNTS_ERROR_LEN];

	snprintf(words, sizeof words,
	         "there are no accounts in the state directory %.400s: no tunn server was started "
	         "with it; name the server's with --state or its --config%s",
	         o->state, geteuid() == 0 ? "" : ", or use sudo");
	return failed(o, words);
}

static int run_here(const struct ask_options *o, const struct json *request, uid_t uid,
                    struct json **answer_out)
{
	struct commands c = { .tiers = &o->tiers };
	char error[ACCOUNTS_ERROR_LEN];

	if (accounts_open(o->state, &c.accounts, error) < 0)
		return failed(o, error);
	*answer_out = commands_run(&c, request, uid);
	accounts_close(c.accounts);
	return *answer_out ? ASK_OK : failed(o, "out of memory");
}

static bool is_absent(int rc) { return rc == -ENOENT || rc == -ENOTDIR || rc == -ECONNREFUSED; }

/* The server, or the lock: who has it is a server that will answer soon, or another command. */
static int ask_or_run(const struct ask_options *o, const struct json *request, struct str text,
                      struct json **answer_out)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	uint64_t end_ms = clock_now_ms() + START_MS;
	char error[ACCOUNTS_ERROR_LEN], words[ACCOUNTS_ERROR_LEN];
	uid_t uid = getuid();

	for (;;) {
		int rc = ask_server(o, text, answer_out);
		if (!is_absent(rc))
			return rc < 0 ? unreachable(o, rc) : ASK_OK;
		bool is_first = is_empty(o);
		if (is_first && !o->makes)
			return refuse_empty(o);
		if (state_become_owner(o->state, error) < 0)
			return failed(o, error);
		int lock = state_lock_now(o->state, error);
		if (lock >= 0) {
			rc = run_here(o, request, uid, answer_out);
			close(lock);
			if (rc == ASK_OK && is_first)
				fprintf(stderr, "tunn: the first account in %s\n", o->state);
			return rc;
		}
		if (lock != -EWOULDBLOCK)
			return failed(o, error);
		if (clock_now_ms() >= end_ms)
			break;
		nanosleep(&pause, NULL);
	}
	snprintf(words, sizeof words,
	         "a tunn server uses the state directory %s, but does not answer at %s: wait "
	         "until it has started, or stop it and try again; its log may say why",
	         o->state, CONTROL_NAME);
	return failed(o, words);
}

/* ---- asking ---- */

/* The name under which somebody became root, if so. */
static const char *login(void)
{
	const char *sudo = getenv("SUDO_USER");
	const struct passwd *pw = sudo && *sudo ? NULL : getpwuid(getuid());

	return sudo && *sudo ? sudo : pw ? pw->pw_name : "";
}

/* ASK_OK, or the exit code of the refusal, which is printed. */
static int judge(const struct ask_options *o, const struct json *answer)
{
	bool ok = false;
	struct str words = STR("the answer makes no sense"), code = STR("");
	char text[ACCOUNTS_ERROR_LEN];

	json_as_bool(json_get(answer, "ok"), &ok);
	if (ok)
		return ASK_OK;
	json_as_text(json_get(answer, "error"), &words);
	json_as_text(json_get(answer, "code"), &code);
	snprintf(text, sizeof text, "%.*s", (int)words.len, words.p);
	make_printable(text, strlen(text));
	opts_fail(o->command, "%s", text);
	return str_eq(code, STR("invalid")) ? ASK_USAGE : ASK_FAILED;
}

static bool is_refused_for_now(const struct json *answer)
{
	struct str code = STR("");

	json_as_text(json_get(answer, "code"), &code);
	return str_eq(code, STR("again"));
}

static int ask_patiently(const struct ask_options *o, const struct json *request, struct str text,
                         struct json **answer_out)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	uint64_t end_ms = clock_now_ms() + AGAIN_MS;
	int rc;

	while ((rc = ask_or_run(o, request, text, answer_out)) == ASK_OK &&
	       is_refused_for_now(*answer_out) && clock_now_ms() < end_ms) {
		json_free(*answer_out);
		*answer_out = NULL;
		nanosleep(&pause, NULL);
	}
	return rc;
}

int ask(const struct ask_options *o, struct json *request, struct json **answer_out)
{
	struct json *answer = NULL;
	size_t len = 0;
	char *text = NULL;
	int rc = json_put(request, "login", json_new_text(str_of(login())));

	if (rc == 0)
		text = json_text(request, JSON_ONE_LINE, &len);
	rc = text ? ask_patiently(o, request, (struct str){ text, len }, &answer) :
	            failed(o, "out of memory");
	free(text);
	json_free(request);
	if (rc == ASK_OK)
		rc = judge(o, answer);
	if (rc == ASK_OK)
		*answer_out = answer;
	else
		json_free(answer);
	return rc;
}

bool ask_print_json(const struct ask_options *o, const struct json *answer)
{
	size_t len;
	char *text = o->json ? json_text(answer, JSON_ONE_LINE, &len) : NULL;

	if (text) {
		printf("%s\n", text);
		crypto_wipe(text, len);
		free(text);
	}
	return o->json;
}

struct ask_text ask_text(const struct json *answer, const char *name)
{
	struct str text = STR("");
	struct ask_text out;

	json_as_text(json_get(answer, name), &text);
	snprintf(out.s, sizeof out.s, "%.*s", (int)text.len, text.p);
	make_printable(out.s, strlen(out.s));
	return out;
}

int ask_printed(const struct ask_options *o)
{
	char words[100];

	if (fflush(stdout) == 0 && !ferror(stdout))
		return ASK_OK;
	snprintf(words, sizeof words, "done, but the answer cannot be written: %s",
	         strerror(errno));
	return failed(o, words);
}

/* ---- words ---- */

const char *ask_check_name(const char *v)
{
	return name_is_valid(str_of(v)) ? NULL : "must be 1 to 63 of a-z, 0-9 and -";
}

const struct ask_verb *ask_verb_of(const struct opt_command *cmd, const struct ask_verb *verbs,
                                   unsigned n, const struct opt_list *words, const char **word_out)
{
	const struct ask_verb *verb = NULL;

	for (unsigned i = 0; words->n && !verb && i < n; i++)
		if (strcmp(words->v[0], verbs[i].name) == 0)
			verb = &verbs[i];
	if (!verb && words->n)
		opts_fail(cmd->name, "there is no %s", opts_quote(words->v[0]).s);
	if (!verb) {
		opts_fail(cmd->name, "usage: tunn %s %s", cmd->name, cmd->usage);
		return NULL;
	}
	if (words->n != (verb->word ? 2u : 1u)) {
		opts_fail(cmd->name, "%s needs %s%s: tunn %s %s", verb->name,
		          verb->word ? "one " : "no word", verb->word ? verb->word : "", cmd->name,
		          verb->usage);
		return NULL;
	}
	*word_out = verb->word ? words->v[1] : "";
	return verb;
}
