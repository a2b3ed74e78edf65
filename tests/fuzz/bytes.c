/* Mutation of bytes where libFuzzer is not linked. */
#include "tests/fuzz/frames.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t cap)
{
	static unsigned n;

	if (len == 0 && cap)
		data[len++] = 0;
	n++;
	if (len)
		data[n * 7919 % len] ^= (uint8_t)(1u << n % 8);
	return len;
}
