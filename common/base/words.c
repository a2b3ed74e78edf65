#include "common/base/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void words_say(struct words *w, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	free(w->text); /* they may quote themselves */
	w->text = text;
}

void words_done(struct words *w)
{
	free(w->text);
	w->text = NULL;
}
