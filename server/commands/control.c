#include "server/commands/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/net/local_socket.h"

enum { DENIED_BURST = 5, DENIED_WINDOW_MS = 60000 };

#define OPEN_WORDS                                                                                 \
	"this relay was started with --open: nobody needs a token, and it has no accounts; start " \
	"it without --open to have them"

struct control {
	struct loop *loop;
	const struct commands *commands; /* NULL: an open relay's */
	struct local_socket *local;
	struct log_limit denied;
};

/* Takes the answer. */
static char *text_of(struct json *answer, size_t *len_out)
{
	char *text = answer ? json_text(answer, JSON_ONE_LINE, len_out) : NULL;

	json_free(answer);
	return text;
}

static char *on_question(void *owner, struct str question, uid_t uid, size_t *len_out)
{
	const struct control *c = owner;

	if (!c->commands)
		return text_of(commands_refusal(ERR_NOT_FOUND, OPEN_WORDS), len_out);
	return text_of(commands_run_text(c->commands, question, uid), len_out);
}

static char *on_trouble(void *owner, enum local_socket_trouble why, uid_t uid, size_t *len_out)
{
	struct control *c = owner;
	unsigned suppressed;

	switch (why) {
	case LOCAL_TOO_BIG:
		return text_of(commands_refusal(ERR_INVALID, "the request is longer than 64 KiB"),
		               len_out);
	case LOCAL_CROWDED:
		return text_of(commands_refusal(-EBUSY, "too many commands at once: try again"),
		               len_out);
	case LOCAL_DENIED: break;
	}
	if (log_limit_pass(&c->denied, loop_now_ms(c->loop), DENIED_BURST, DENIED_WINDOW_MS,
	                   &suppressed))
		log_warn("admin: uid=%u was refused at the control socket", (unsigned)uid);
	return text_of(commands_refusal(-EPERM, "only the user that the server runs as and root "
	                                        "may do this"),
	               len_out);
}

static const struct local_socket_events events = { .question = on_question, .trouble = on_trouble };

int control_open(struct loop *loop, const char *state_dir, const struct commands *commands,
                 struct control **control_out, char error_out[static ACCOUNTS_ERROR_LEN])
{
	struct control *c = calloc(1, sizeof *c);
	int rc = c ? 0 : -ENOMEM;

	if (rc == 0) {
		c->loop = loop;
		c->commands = commands;
		rc = local_socket_open(loop, state_dir, CONTROL_NAME, &events, c, &c->local);
	}
	if (rc < 0) {
		snprintf(error_out, ACCOUNTS_ERROR_LEN, "cannot open the control socket %s/%s: %s",
		         state_dir, CONTROL_NAME, strerror(-rc));
		free(c);
		return rc;
	}
	*control_out = c;
	return 0;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	local_socket_close(c->local);
	free(c);
}
