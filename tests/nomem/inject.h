/*
 * Makes the n-th allocation of the process fail, wherever it is made: ours, or
 * inside nghttp2, protobuf-c, OpenSSL, libevent, SQLite, the C library. Linked
 * into a program it takes the place of malloc and its like (with a sanitizer, in
 * front of the sanitizer's).
 */
#ifndef TUNN_NOMEM_INJECT_H
#define TUNN_NOMEM_INJECT_H

#include <stdbool.h>

/* From now on the n-th allocation fails (n >= 1) and `times` - 1 that follow it;
 * n == 0: none, they are only counted. */
void inject_arm(unsigned long n, unsigned long times);
/* Ends it; gives how many were asked for since inject_arm(). */
unsigned long inject_disarm(void);
unsigned long inject_failed(void); /* how many were refused since inject_arm() */
/* Allocations of the calling thread are neither counted nor refused. */
void inject_spare_this_thread(bool on);
long inject_living(void);     /* blocks allocated and not freed */
void *inject_disown(void *p); /* gives p, which is not counted as living from now on */
void inject_own(void *p);     /* counted again, to be freed */

#endif
