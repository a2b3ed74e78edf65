#include "common/wire/descriptor.h"

#include <string.h>

int descriptor_file_named(struct str name)
{
	for (unsigned i = 0; i < descriptor_n_files; i++)
		if (str_eq(name, str_of(descriptor_files[i].name)))
			return (int)i;
	return -1;
}

static int compare(struct str a, struct str b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int cmp = n ? memcmp(a.p, b.p, n) : 0;

	return cmp ? cmp : (a.len > b.len) - (a.len < b.len);
}

const struct descriptor_symbol *descriptor_symbol_named(struct str name)
{
	unsigned lo = 0, hi = descriptor_n_symbols;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		int cmp = compare(name, str_of(descriptor_symbols[mid].name));
		if (cmp == 0)
			return &descriptor_symbols[mid];
		if (cmp < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

unsigned descriptor_closure(unsigned file, unsigned files_out[static DESCRIPTOR_FILES_MAX])
{
	uint32_t seen = UINT32_C(1) << file;
	unsigned n = 0;

	files_out[n++] = file;
	for (unsigned at = 0; at < n; at++)
		for (unsigned i = 0; i < descriptor_n_files; i++) {
			uint32_t bit = UINT32_C(1) << i;
			if (descriptor_files[files_out[at]].needs & bit & ~seen) {
				seen |= bit;
				files_out[n++] = i;
			}
		}
	return n;
}
