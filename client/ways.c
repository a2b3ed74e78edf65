#include "client/ways.h"

void ways_worked(struct ways *w) { w->n_failed = 0; }

static const struct way *next(const struct ways *w) { return &w->v[(w->at + 1) % w->n]; }

void ways_begin_anew(struct ways *w)
{
	w->n_failed = 0;
	if (!ways_now(w)->is_same_place)
		w->at = 0;
}

bool ways_have_another(const struct ways *w)
{
	return w->n_failed + 1 < w->n && !next(w)->is_same_place;
}

bool ways_turn(struct ways *w, bool was_connected)
{
	if (w->n == 1 || (next(w)->is_same_place && !was_connected))
		return false;
	w->at = (w->at + 1) % w->n;
	if (++w->n_failed < w->n)
		return true;
	w->n_failed = 0;
	return false;
}
