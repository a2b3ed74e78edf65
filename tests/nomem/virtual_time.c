/*
 * Time in which waiting takes none: clocks stand still, and whoever would sleep
 * until something happens moves them on instead. Linked into a program of one
 * thread it takes the place of the C library's functions.
 */
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned long long passed_ms;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	static struct timespec begun[CLOCK_BOOTTIME + 1];

	if (id < 0 || id > CLOCK_BOOTTIME || id == CLOCK_PROCESS_CPUTIME_ID ||
	    id == CLOCK_THREAD_CPUTIME_ID)
		return (int)syscall(SYS_clock_gettime, id, ts);
	if (!begun[id].tv_sec && syscall(SYS_clock_gettime, id, &begun[id]) != 0)
		return -1;
	*ts = begun[id];
	ts->tv_sec += (time_t)(passed_ms / 1000);
	ts->tv_nsec += (long)(passed_ms % 1000) * 1000000;
	if (ts->tv_nsec >= 1000000000) {
		ts->tv_nsec -= 1000000000;
		ts->tv_sec++;
	}
	return 0;
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
	int n = (int)syscall(SYS_epoll_pwait, fd, events, max, 0, NULL, 0);

	if (n == 0 && timeout_ms)
		passed_ms += timeout_ms > 0 ? (unsigned)timeout_ms : 1000;
	return n;
}
