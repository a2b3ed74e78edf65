/*
 * The clock: read once per turn of the loop and passed on as now_ms.
 *
 * CLOCK_BOOTTIME goes on while a laptop sleeps, so a wake-up shows as a gap
 * and every deadline that passed meanwhile is due at once. Any thread.
 */
#ifndef TUNN_BASE_CLOCK_H
#define TUNN_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_now_ms(void);
uint64_t clock_thread_ms(void); /* how long this thread has been running on a CPU; a system call */
int64_t clock_unix_ms(void);    /* wall clock: only for token expiry and the wire */

#endif
