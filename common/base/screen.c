#include "common/base/screen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* ECMA-48, and what xterm added to it and all others have by now. */
#define ENTER                                                                                      \
	"\033[?1049h\033[?25l\033[?7l\033[2J" /* alternate, no cursor, lines are cut, empty        \
	                                       */
#define LEAVE       "\033[?7h\033[?25h\033[?1049l"
#define HOME        "\033[H"
#define END_OF_LINE "\033[K\r\n"
#define CLEAR_BELOW "\033[J"

enum { COLUMNS_DEFAULT = 100, COLUMNS_LEAST = 20, COLUMNS_MOST = 1000 };

static bool is_open, has_keys;
static struct termios before;

bool screen_is_there(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

bool screen_has_utf8(void)
{
	const char *names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

	for (unsigned i = 0; i < 3; i++) {
		const char *v = getenv(names[i]);
		if (v && *v) /* the first that is set counts */
			return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
	}
	return false;
}

bool screen_has_colour(void)
{
	const char *no = getenv("NO_COLOR");

	return screen_is_there() && !(no && *no);
}

struct screen_size screen_size(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize w;

	if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col)
		return (struct screen_size){ w.ws_col, w.ws_row };
	unsigned long n = columns ? strtoul(columns, NULL, 10) : 0;
	if (n < COLUMNS_LEAST || n > COLUMNS_MOST)
		n = COLUMNS_DEFAULT;
	return (struct screen_size){ (unsigned)n, 0 };
}

/* All of it, also to a terminal that is slow. */
static void write_all(const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t done = write(STDOUT_FILENO, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		p += done;
		n -= (size_t)done;
	}
}

static void say(const char *s) { write_all((const uint8_t *)s, strlen(s)); }

void screen_open(void)
{
	static bool at_exit;
	struct termios keys;

	if (is_open)
		return;
	if (!at_exit)
		atexit(screen_close);
	at_exit = is_open = true;
	has_keys = tcgetattr(STDIN_FILENO, &before) == 0;
	if (has_keys) { /* what is typed would stand in the picture */
		keys = before;
		keys.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
		tcsetattr(STDIN_FILENO, TCSANOW, &keys);
	}
	say(ENTER);
}

void screen_close(void)
{
	if (!is_open)
		return;
	is_open = false;
	say(LEAVE);
	if (has_keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

void screen_draw(const struct buf *lines)
{
	const char *p = (const char *)buf_data(lines), *end = p + buf_len(lines);
	unsigned left = screen_size().rows;
	struct buf out = { 0 };
	int rc = buf_add(&out, HOME, strlen(HOME));

	while (p < end && left-- > 0 && rc == 0) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);
		rc = buf_add(&out, p, n);
		if (rc == 0) /* the last line has no break: the screen would move up */
			rc = buf_add(&out, END_OF_LINE, left ? strlen(END_OF_LINE) : 3);
		p += n + 1;
	}
	if (rc == 0 && left && left != (unsigned)-1)
		rc = buf_add(&out, CLEAR_BELOW, strlen(CLEAR_BELOW));
	if (rc == 0)
		write_all(buf_data(&out), buf_len(&out));
	buf_done(&out);
}
