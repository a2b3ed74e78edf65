/* The allocations of any program: INJECT_AT=n (and INJECT_TIMES) with LD_PRELOAD. */
#include <stdlib.h>

#include "tests/nomem/inject.h"

__attribute__((constructor)) static void begin(void)
{
	const char *at = getenv("INJECT_AT"), *times = getenv("INJECT_TIMES");

	if (at)
		inject_arm(strtoul(at, NULL, 10), times ? strtoul(times, NULL, 10) : 1);
}
