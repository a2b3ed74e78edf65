/* Is this an AddressSanitizer build? Then it is told which memory nobody may touch. */
#ifndef TUNN_BASE_ASAN_H
#define TUNN_BASE_ASAN_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN
#endif

#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#define NOT_BY_ASAN __attribute__((no_sanitize("address")))
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define NOT_BY_ASAN
#endif

#endif
