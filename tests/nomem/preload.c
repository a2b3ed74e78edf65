/* The allocations of any program: INJECT_AT=n (and INJECT_TIMES) with LD_PRELOAD; and its
 * threads: THREAD_AT=n, the n-th cannot be started. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/nomem/inject.h"

__attribute__((constructor)) static void begin(void)
{
	const char *at = getenv("INJECT_AT"), *times = getenv("INJECT_TIMES");

	if (at)
		inject_arm(strtoul(at, NULL, 10), times ? strtoul(times, NULL, 10) : 1);
}

int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	static unsigned n;
	const char *at = getenv("THREAD_AT");
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (at && ++n == strtoul(at, NULL, 10)) /* a server's are all started by one */
		return EAGAIN;
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return real(out, attr, run, arg);
}
