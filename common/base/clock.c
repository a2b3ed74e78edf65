#include "common/base/clock.h"

#include <time.h>

static uint64_t read_ms(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t clock_now_ms(void) { return read_ms(CLOCK_BOOTTIME); }
uint64_t clock_thread_ms(void) { return read_ms(CLOCK_THREAD_CPUTIME_ID); }
int64_t clock_unix_ms(void) { return (int64_t)read_ms(CLOCK_REALTIME); }
