/*
 * How short of memory the relay is: a level with hysteresis, so that what is given up for it
 * is not given up and taken back every second (robustness.md 2.4). A value; one thread.
 *
 *   level                  begins at   is over below
 *   WATERMARK_NEWCOMERS    90 %        85 %            newcomers are turned away, and closed
 *   WATERMARK_ENDS         97 %        94 %            and ends of the lowest tier go
 */
#ifndef TUNN_SERVER_WATERMARK_H
#define TUNN_SERVER_WATERMARK_H

#include <stdint.h>

enum watermark_level { WATERMARK_LOW, WATERMARK_NEWCOMERS, WATERMARK_ENDS };

struct watermark {
	uint64_t most; /* bytes; 0: unlimited */
	enum watermark_level level;
};

/* So many bytes are used now: the level from now on. */
enum watermark_level watermark_step(struct watermark *, uint64_t used);

#endif
