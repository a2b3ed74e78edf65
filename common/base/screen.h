/*
 * A terminal that is drawn again and again: its alternate screen, its size, keys that
 * come at once. Each picture is written whole, over the one before, so nothing flickers.
 * What the terminal was like is put back by screen_close(), and at exit in any case.
 * Main thread, one at a time.
 */
#ifndef TUNN_BASE_SCREEN_H
#define TUNN_BASE_SCREEN_H

#include <stdbool.h>

#include "common/base/buf.h"

struct screen_size {
	unsigned columns, rows;
};

/* Is standard output a terminal that knows how? */
bool screen_is_there(void);
/* Does it show more than ASCII, and may there be colours (no-color.org)? */
bool screen_has_utf8(void);
bool screen_has_colour(void);
/* Of standard output; 0 rows where it is no terminal, and then what $COLUMNS says or 100. */
struct screen_size screen_size(void);

void screen_open(void);  /* after screen_is_there() said yes */
void screen_close(void); /* what was there before is back; may be called without screen_open() */
/* Lines, each ended by a line break; more than fit are left out. */
void screen_draw(const struct buf *lines);

#endif
