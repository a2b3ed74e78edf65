#include "common/base/heap.h"

#include <malloc.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN
#endif

#ifdef HAS_ASAN
#include <sanitizer/allocator_interface.h>

size_t heap_in_use(void) { return __sanitizer_get_current_allocated_bytes(); }
bool heap_trim(void) { return false; }
#else
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
#endif
