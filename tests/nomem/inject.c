#include "tests/nomem/inject.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

/* What does the work: the sanitizer's functions know one another by these
 * names, those of the C library by the others. */
#ifdef SANITIZED
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#endif
void *REAL(malloc)(size_t n);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *p, size_t n);
void *REAL(memalign)(size_t align, size_t n);
void REAL(free)(void *p);

void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void *memalign(size_t align, size_t n);
void *aligned_alloc(size_t align, size_t n);
int posix_memalign(void **p_out, size_t align, size_t n);
void free(void *p);
char *strdup(const char *s);
char *strndup(const char *s, size_t n);

static atomic_ulong asked, refused, first, last; /* first 0: nothing is refused */
static atomic_bool armed;
static atomic_long living;
static _Thread_local bool spared;

void inject_arm(unsigned long n, unsigned long times)
{
	atomic_store(&asked, 0);
	atomic_store(&refused, 0);
	atomic_store(&first, n);
	atomic_store(&last, n + (times - 1) < n ? (unsigned long)-1 : n + (times - 1));
	atomic_store(&armed, true);
}

unsigned long inject_disarm(void)
{
	atomic_store(&armed, false);
	return atomic_load(&asked);
}

unsigned long inject_failed(void) { return atomic_load(&refused); }
void inject_spare_this_thread(bool on) { spared = on; }
long inject_living(void) { return atomic_load(&living); }

void *inject_disown(void *p)
{
	atomic_fetch_sub(&living, p != NULL);
	return p;
}

void inject_own(void *p) { atomic_fetch_add(&living, p != NULL); }

/* A sanitizer gives up where a thread cannot begin for want of memory. */
static bool is_spared(void)
{
#ifdef SANITIZED
	static _Thread_local enum { UNKNOWN, FIRST, OTHER } thread;
	if (thread == UNKNOWN)
		thread = gettid() == getpid() ? FIRST : OTHER;
	return spared || thread == OTHER;
#else
	return spared;
#endif
}

static bool is_refused(void)
{
	if (!atomic_load_explicit(&armed, memory_order_relaxed) || is_spared())
		return false;
	unsigned long n = atomic_fetch_add(&asked, 1) + 1;
	if (!atomic_load(&first) || n < atomic_load(&first) || n > atomic_load(&last))
		return false;
	atomic_fetch_add(&refused, 1);
	errno = ENOMEM;
	return true;
}

static void *lives(void *p)
{
	if (p)
		atomic_fetch_add_explicit(&living, 1, memory_order_relaxed);
	return p;
}

void *malloc(size_t n) { return is_refused() ? NULL : lives(REAL(malloc)(n)); }

void *calloc(size_t n, size_t size) { return is_refused() ? NULL : lives(REAL(calloc)(n, size)); }

void *realloc(void *p, size_t n)
{
	if (!p)
		return malloc(n);
	if (n == 0) {
		free(p);
		return NULL;
	}
	return is_refused() ? NULL : REAL(realloc)(p, n);
}

void *memalign(size_t align, size_t n)
{
	return is_refused() ? NULL : lives(REAL(memalign)(align, n));
}

void *aligned_alloc(size_t align, size_t n) { return memalign(align, n); }

int posix_memalign(void **p_out, size_t align, size_t n)
{
	void *p = memalign(align, n);

	if (!p)
		return ENOMEM;
	*p_out = p;
	return 0;
}

void free(void *p)
{
	if (p)
		atomic_fetch_sub_explicit(&living, 1, memory_order_relaxed);
	REAL(free)(p);
}

/* The C library's would do, but a sanitizer's allocate on their own. */
static char *copy_of(const char *s, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy) {
		memcpy(copy, s, len);
		copy[len] = 0;
	}
	return copy;
}

char *strdup(const char *s) { return copy_of(s, strlen(s)); }
char *strndup(const char *s, size_t n) { return copy_of(s, strnlen(s, n)); }
