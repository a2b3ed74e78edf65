/*
 * CRC-32 of IEEE 802.3, reflected; by zlib, whose one door this is. Finds accidents,
 * not intent. Any thread.
 */
#ifndef TUNN_BASE_CRC_H
#define TUNN_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Of bytes that stand behind those of which `before` is the CRC; 0: of the first ones. */
uint32_t crc_32(uint32_t before, const void *p, size_t n);

#endif
