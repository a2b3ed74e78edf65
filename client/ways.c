#include "client/ways.h"

void ways_worked(struct ways *w) { w->n_failed = 0; }

bool ways_turn(struct ways *w, bool was_connected)
{
	unsigned next = (w->at + 1) % w->n;

	if (w->n == 1 || (w->v[next].is_same_place && !was_connected))
		return false;
	w->at = next;
	if (++w->n_failed < w->n)
		return true;
	w->n_failed = 0;
	return false;
}
