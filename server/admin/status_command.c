/* tunn status: asks, shows, and with --watch asks again each second. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/screen.h"
#include "server/admin/admin_token.h"
#include "server/command.h"
#include "server/options.h"
#include "server/admin/status_ask.h"
#include "server/admin/status_view.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EACH_MS = 1000 };

struct status_options {
	const char *admin, *token_file, *server_token_file, *ca_file, *pin;
	bool watch, json;
};

struct show { /* of one run */
	struct status_options o;
	char token[ADMIN_TOKEN_MAX];
	struct status_place place;
	struct loop *loop;
	struct status_ask *ask;
	struct timer *timer;
	struct watch *keys;
	struct status *last; /* what is on the screen */
	int64_t last_unix_s;
	bool draws; /* a screen, not lines */
	char trouble[STATUS_WORDS_LEN + 64];
};

/* ---- options ---- */

static int hex_of_pin(const char *v, uint8_t pin_out[static TLS_PIN_LEN])
{
	static const char form[] = "sha256:";

	if (strncmp(v, form, sizeof form - 1) != 0)
		return ERR_INVALID;
	return hex_decode(str_of(v + sizeof form - 1), pin_out, TLS_PIN_LEN);
}

static const char *check_pin(const char *v)
{
	uint8_t pin[TLS_PIN_LEN];

	return hex_of_pin(v, pin) == 0 ? NULL :
	                                 "must be sha256: and 64 lower-case hex digits, as tunn "
	                                 "server prints it";
}

/* As the server has it, or as a browser has it. */
static int place_of(const char *v, char base_out[static STATUS_URL_LEN])
{
	char error[FETCH_ERROR_LEN], host[256];
	struct addr addr;
	bool any, https;
	uint16_t port;

	if (strstr(v, "://")) {
		snprintf(base_out, STATUS_URL_LEN, "%s", v);
		for (size_t n = strlen(base_out); n && base_out[n - 1] == '/';)
			base_out[--n] = 0;
		return strlen(v) < STATUS_URL_LEN ? fetch_check_url(v, &https, host, error) :
		                                    ERR_INVALID;
	}
	if (addr_of_listen(v, &addr, &any) == 0) {
		char text[ADDR_TEXT_LEN];
		bool here = any || addr_is_special(&addr); /* 0.0.0.0 */
		bool plain = !any && addr_is_loopback(&addr);
		snprintf(base_out, STATUS_URL_LEN, "http%s://%s%s", plain ? "" : "s",
		         here ? "127.0.0.1" : "",
		         here ? strrchr(addr_text(&addr, text), ':') : addr_text(&addr, text));
		return addr_port(&addr) ? 0 : ERR_INVALID;
	}
	int rc = addr_split_host(v, 0, host, sizeof host, &port);
	if (rc == 0 && port)
		snprintf(base_out, STATUS_URL_LEN, "%s://%s",
		         strcmp(host, "localhost") == 0 ? "http" : "https", v);
	return rc == 0 && port ? 0 : ERR_INVALID;
}

static const char *check_place(const char *v)
{
	char base[STATUS_URL_LEN];

	if (strcmp(v, "off") == 0)
		return "must be the address of an admin listener";
	return place_of(v, base) == 0 ? NULL :
	                                "must be ADDR:PORT as tunn server has it (with its port), "
	                                "HOST:PORT, or the address of its page, "
	                                "http://127.0.0.1:9180";
}

#define AT(field) .offset = offsetof(struct status_options, field)
static const struct opt status_opts[] = {
	{ .kind = OPT_TEXT,
	  .name = "admin",
	  .arg = "ADDR:PORT|URL",
	  AT(admin),
	  .check = check_place,
	  .help = "the admin listener of the relay; default: " ADMIN_DEFAULT },
	{ .kind = OPT_TEXT,
	  .name = "token-file",
	  .arg = "FILE",
	  AT(token_file),
	  .help = "the token of its --admin-token-file" },
	{ .kind = OPT_TEXT,
	  .name = "admin-token-file",
	  .arg = "FILE",
	  .traits = OPT_FILE,
	  AT(server_token_file),
	  .help = "the same, in the server's config file" },
	{ .kind = OPT_TEXT,
	  .name = "ca",
	  .arg = "FILE",
	  AT(ca_file),
	  .help = "over TLS: trust these certificates instead of the system's" },
	{ .kind = OPT_TEXT,
	  .name = "pin",
	  .arg = "sha256:HEX",
	  AT(pin),
	  .check = check_pin,
	  .help = "over TLS: trust this key and no other, as tunn server prints it" },
	{ .kind = OPT_FLAG,
	  .name = "watch",
	  .traits = OPT_LINE,
	  AT(watch),
	  .help = "again each second until Ctrl-C or q; a line each where there is no terminal" },
	{ .kind = OPT_FLAG,
	  .name = "json",
	  .traits = OPT_LINE,
	  AT(json),
	  .help = "print what the relay answers, for programs: an object in one line" },
	{ .kind = OPT_END },
};

static const struct opt_command status_cmd = {
	.name = "status",
	.usage = "[--admin ADDR:PORT|URL] [--token-file FILE] [--watch] [--json]",
	.summary = "show what a relay does, from its admin listener",
	.text = "Traffic, tunnels, drops by reason and delays of a running tunn server, and a table of "
	        "its tunnels as wide as the terminal: what each carried so far, or with --watch what "
	        "it carries now, the busiest first. The page of the same address shows more.",
	.opts = status_opts,
	.file_of = server_opts,
};

static int make_tls(struct show *sh)
{
	struct tls_client_conf conf = { .ca_file = sh->o.ca_file };
	uint8_t pin[TLS_PIN_LEN];
	char error[TLS_ERROR_LEN];

	if (strncmp(sh->place.base, "https:", 6) != 0)
		return 0;
	if (sh->o.pin && hex_of_pin(sh->o.pin, pin) == 0)
		conf.pin = pin;
	if (tls_start() < 0 || tls_client_ctx_new(&conf, &sh->place.tls, error) < 0)
		return opts_fail(status_cmd.name, "TLS: %s", error);
	return 0;
}

static int prepare(struct show *sh)
{
	const char *file = sh->o.token_file ? sh->o.token_file : sh->o.server_token_file;
	int n = 0;

	place_of(sh->o.admin ? sh->o.admin : ADMIN_DEFAULT, sh->place.base);
	if (file)
		n = admin_token_read("tunn status: --token-file", file, sh->token);
	if (n < 0)
		return n;
	sh->place.token = (struct str){ sh->token, (size_t)n };
	return make_tls(sh);
}

/* ---- showing ---- */

static void draw(struct show *sh)
{
	struct screen_size size = screen_size();
	struct buf out = { 0 };
	const struct status_style style = { .columns = size.columns,
		                            .rows = sh->draws ? size.rows : 0,
		                            .colour = screen_has_colour(),
		                            .utf8 = screen_has_utf8(),
		                            .rates = sh->o.watch,
		                            .now_unix_s = clock_unix_ms() / 1000,
		                            .trouble = sh->trouble[0] ? sh->trouble : NULL };
	bool lines = sh->o.watch && !sh->draws;
	int rc = lines ? status_view_line(sh->last, style.now_unix_s, &out) :
	                 status_view(sh->last, &style, &out);

	if (rc == 0 && sh->draws)
		screen_draw(&out);
	else if (rc == 0)
		fwrite(buf_data(&out), 1, buf_len(&out), stdout);
	fflush(stdout);
	buf_done(&out);
}

/* Standard output that nobody reads any more is the end too. */
static void go_on(struct show *sh)
{
	if (ferror(stdout))
		loop_stop(sh->loop, EXIT_FAILED);
	else if (sh->o.watch)
		timer_set(sh->timer, EACH_MS);
	else
		loop_stop(sh->loop, EXIT_OK);
}

static void told(struct show *sh, struct status *s, char *json)
{
	if (sh->last)
		status_compare(s, sh->last);
	status_free(sh->last);
	sh->last = s;
	sh->last_unix_s = clock_unix_ms() / 1000;
	sh->trouble[0] = 0;
	if (sh->o.json) {
		fputs(json, stdout);
		fflush(stdout);
		return;
	}
	if (sh->o.watch && screen_is_there() && !sh->draws) {
		sh->draws = true;
		screen_open();
	}
	draw(sh);
}

/* What is on the screen stays there, with the time it is of. */
static void not_told(struct show *sh, const char *error)
{
	time_t t = sh->last_unix_s;
	char when[16] = "";
	struct tm tm;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof when, "%H:%M:%S", &tm);
	if (sh->draws) {
		snprintf(sh->trouble, sizeof sh->trouble, "nothing new since %s: %s", when, error);
		draw(sh);
	} else {
		fprintf(stderr, "tunn status: %s\n", error);
	}
}

static void on_done(void *owner, struct status *s, char *json, const char *error)
{
	struct show *sh = owner;
	bool is_first = !sh->last;

	if (s)
		told(sh, s, json);
	else
		not_told(sh, error);
	free(json);
	if (!s && is_first)
		loop_stop(sh->loop, EXIT_FAILED);
	else
		go_on(sh);
}

static void on_timer(void *arg) { status_ask_start(((struct show *)arg)->ask); }

/* ---- the terminal ---- */

static void on_signal(void *arg, int signo)
{
	struct show *sh = arg;

	if (signo == SIGWINCH) {
		if (sh->draws)
			draw(sh);
	} else if (signo == SIGTSTP) {
		screen_close();
		raise(SIGSTOP);
		if (sh->draws)
			screen_open();
	} else {
		loop_stop(sh->loop, EXIT_OK);
	}
}

static void on_key(void *arg, unsigned what)
{
	struct show *sh = arg;
	char keys[64];
	ssize_t n = read(STDIN_FILENO, keys, sizeof keys);

	(void)what;
	if (n <= 0)
		watch_want(sh->keys, 0);
	else if (memchr(keys, 'q', (size_t)n) || memchr(keys, 'Q', (size_t)n))
		loop_stop(sh->loop, EXIT_OK);
}

static int listen_to_people(struct show *sh)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP };

	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		if (loop_on_signal(sh->loop, signals[i], on_signal, sh) < 0)
			return ERR_CONFIG;
	if (!isatty(STDIN_FILENO) || !screen_is_there())
		return 0;
	sh->keys = watch_new(sh->loop, STDIN_FILENO, on_key, sh);
	return sh->keys ? watch_want(sh->keys, WATCH_READ) : ERR_CONFIG;
}

static int run(struct show *sh)
{
	int rc = EXIT_FAILED;

	sh->loop = loop_new();
	sh->ask = sh->loop ? status_ask_new(sh->loop, &sh->place, on_done, sh) : NULL;
	sh->timer = sh->loop ? timer_new(sh->loop, on_timer, sh) : NULL;
	if (!sh->ask || !sh->timer || (sh->o.watch && listen_to_people(sh) < 0)) {
		opts_fail(status_cmd.name, "out of memory or file descriptors");
	} else {
		status_ask_start(sh->ask);
		rc = loop_run(sh->loop);
	}
	screen_close();
	watch_free(sh->keys);
	timer_free(sh->timer);
	status_ask_free(sh->ask);
	loop_free(sh->loop);
	return rc;
}

int status_command(int argc, char **argv)
{
	struct show sh = { 0 };
	bool help;

	if (opts_read(&status_cmd, argc, argv, &sh.o, NULL, &help) < 0)
		return EXIT_USAGE;
	if (help)
		return EXIT_OK;
	int rc = prepare(&sh) < 0 ? EXIT_USAGE : run(&sh);
	status_free(sh.last);
	tls_ctx_unref(sh.place.tls);
	crypto_wipe(sh.token, sizeof sh.token);
	return rc;
}
