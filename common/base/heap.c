#include "common/base/heap.h"

#include <malloc.h>

size_t heap_in_use(void)
{
	struct mallinfo2 m = mallinfo2(); /* of all arenas */

	return m.uordblks + m.hblkhd;
}

bool heap_trim(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.fordblks > HEAP_SPARE_MAX && m.fordblks > m.uordblks / 2 && malloc_trim(0) != 0;
}
