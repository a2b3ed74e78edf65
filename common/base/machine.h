/*
 * How much memory this process may have: the machine's, or less where a control group
 * bounds it (a container, a service with MemoryMax=). Blocks on files; any thread.
 */
#ifndef TUNN_BASE_MACHINE_H
#define TUNN_BASE_MACHINE_H

#include <stdint.h>

/* Bytes: the least of the machine's memory and of what the control group and those around it
 * allow (cgroup v2: memory.max and memory.high; v1: memory.limit_in_bytes). 0: not known.
 * root: "", in tests a directory that has /proc and /sys/fs/cgroup. */
uint64_t machine_memory(const char *root);

#endif
