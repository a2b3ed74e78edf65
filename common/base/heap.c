#include "common/base/heap.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/asan.h"

#ifdef HAS_ASAN
#include <sanitizer/allocator_interface.h>

size_t heap_in_use(void) { return __sanitizer_get_current_allocated_bytes(); }
size_t heap_resident(void) { return heap_in_use(); }
bool heap_trim(void) { return false; }
void heap_give_back(void) {}
#else
size_t heap_in_use(void)
{
	struct mallinfo2 m = mallinfo2(); /* of all arenas */

	return m.uordblks + m.hblkhd;
}

/* proc_pid_statm(5). */
size_t heap_resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	size_t pages = 0, shared = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%*u %zu %zu", &pages, &shared) != 2 || shared > pages)
		pages = shared = 0;
	fclose(f);
	return (pages - shared) * (size_t)sysconf(_SC_PAGESIZE);
}

void heap_give_back(void) { malloc_trim(0); }

static bool has_spare(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.fordblks > HEAP_SPARE_MAX && m.fordblks > m.uordblks / 8;
}

/* The allocator counts as free what it has given back already, so only resident
 * memory tells whether there is anything new. */
bool heap_trim(void)
{
	static size_t least; /* resident since it was last given back */
	size_t now = heap_resident();

	if (now < least)
		least = now;
	if (now - least < HEAP_GROWN_MIN || !has_spare())
		return false;
	malloc_trim(0);
	least = heap_resident();
	return true;
}
#endif
