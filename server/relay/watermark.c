#include "server/relay/watermark.h"

#include <stdbool.h>

static const struct {
	unsigned begins, over; /* percent */
} marks[] = { [WATERMARK_NEWCOMERS] = { 90, 85 }, [WATERMARK_ENDS] = { 97, 94 } };

/* most / 100 first: no product is too large. */
static bool is_at_least(const struct watermark *w, uint64_t used, unsigned percent)
{
	return used >= w->most / 100 * percent + w->most % 100 * percent / 100;
}

enum watermark_level watermark_step(struct watermark *w, uint64_t used)
{
	enum watermark_level level = WATERMARK_LOW;

	for (unsigned i = WATERMARK_NEWCOMERS; w->most && i <= WATERMARK_ENDS; i++)
		if (is_at_least(w, used, w->level >= i ? marks[i].over : marks[i].begins))
			level = (enum watermark_level)i;
	return w->level = level;
}
