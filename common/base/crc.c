#include "common/base/crc.h"

#include <zlib.h>

uint32_t crc_32(uint32_t before, const void *p, size_t n)
{
	return n ? (uint32_t)crc32_z(before, p, n) :
	           before; /* NULL would ask for the first value */
}
