/*
 * Scenes: whole conversations that are played again and again, the n-th
 * allocation failing and then all from the n-th on, for every n; and what must
 * hold afterwards is asserted. Many in one process, which lives as long as a
 * relay would: a scene that leaves blocks behind leaks.
 */
#ifndef TUNN_NOMEM_SCENE_H
#define TUNN_NOMEM_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/nomem/inject.h"

struct scene {
	const char *name;
	void (*play)(void *arg); /* calls scene_short_of_memory() and scene_enough() once */
	void *arg;
};

/* From here on what fails, fails; and up to here. */
void scene_short_of_memory(void);
void scene_enough(void);
/* Is the shortage of this play one allocation, or all from the n-th on? */
bool scene_is_lasting(void);

/* Notes that `what` does not hold; the play goes on. */
#define scene_check(holds, what) scene_expect((holds), __FILE__, __LINE__, (what))
bool scene_expect(bool holds, const char *file, int line, const char *what);

/* Plays all. for_ms: for so long at most, each (NOMEM_MS changes it, 0: no limit).
 * The exit code of the program. */
int scenes_play(const char *title, const struct scene *, unsigned n_scenes, uint64_t for_ms);

#endif
