/*
 * The heap: how much of it is in use, and giving back what is not. The allocator
 * keeps what a crowd has left behind (freed blocks lie between living ones), so
 * resident memory would show the largest crowd of all time.
 */
#ifndef TUNN_BASE_HEAP_H
#define TUNN_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

enum {
	HEAP_SPARE_MAX = 8 << 20,   /* free bytes that are not worth a walk */
	HEAP_GROWN_MIN = 512 << 10, /* nor is less growth of resident memory since the last one */
};

size_t heap_in_use(void); /* any thread */
/* Resident memory of the process that is its own and no file's; 0: not known. With what is
 * free and was not given back. Any thread. */
size_t heap_resident(void);
/* Gives free pages back to the system if there are more than HEAP_SPARE_MAX bytes
 * free and more than an eighth of what is in use. Threads that allocate wait
 * meanwhile, tens of milliseconds for 100 MB: when it is quiet. True: it did.
 * One thread. */
bool heap_trim(void);
void heap_give_back(void); /* the same, whatever there is; any thread */

#endif
