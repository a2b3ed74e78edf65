#include "common/transport/pages.h"

#include <stddef.h>

static const struct page pages[] = {
	{ "/", "text/plain; charset=utf-8",
	  "This is a tunn relay: it passes datagrams between ends that run `tunn relay`.\n" },
};

const struct page *page_of(struct str path)
{
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
		if (str_eq(path, str_of(pages[i].path)))
			return &pages[i];
	return NULL;
}
