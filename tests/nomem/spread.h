/*
 * The numbers from 1 to n in an order that is spread over all of them from the
 * beginning, so that whoever has to stop early has seen some of everywhere.
 * Limited to NOMEM_MS milliseconds (0: not at all).
 */
#ifndef TUNN_NOMEM_SPREAD_H
#define TUNN_NOMEM_SPREAD_H

#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct spread {
	unsigned long n; /* may be set after spread_init() */
	unsigned long stride, at, given;
	uint64_t until_ms; /* 0: no limit */
};

/* Past virtual_time.c. */
static inline uint64_t spread_now_ms(void)
{
	struct timespec ts = { 0 };

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static inline unsigned long spread_gcd(unsigned long a, unsigned long b)
{
	return b ? spread_gcd(b, a % b) : a;
}

static inline void spread_init(struct spread *s, unsigned long n, uint64_t for_ms)
{
	const char *ms = getenv("NOMEM_MS");

	*s = (struct spread){ .n = n };
	if (ms)
		for_ms = strtoul(ms, NULL, 10);
	if (for_ms)
		s->until_ms = spread_now_ms() + for_ms;
}

/* 0: that was all, or the time is over. */
static inline unsigned long spread_next(struct spread *s)
{
	if (s->given == s->n || (s->until_ms && spread_now_ms() > s->until_ms))
		return 0;
	if (!s->stride)
		for (s->stride = s->n * 5 / 8 | 1; spread_gcd(s->stride, s->n) != 1;)
			s->stride++;
	s->given++;
	s->at = (s->at + s->stride) % s->n;
	return s->at + 1;
}

#endif
