/*
 * The protos that are spoken here, as protoc compiled them: files, and which
 * name is defined in which. The tables are made at build time by
 * proto/descriptors; nothing is parsed at run time. Pure. Any thread.
 */
#ifndef TUNN_WIRE_DESCRIPTOR_H
#define TUNN_WIRE_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/bytes.h"

enum { DESCRIPTOR_FILES_MAX = 32 };

struct descriptor_file {
	const char *name;
	const uint8_t *data; /* a FileDescriptorProto */
	size_t len;
	uint32_t needs; /* what it imports: bits, by index */
};
struct descriptor_symbol {
	const char *name; /* full, without leading dot; methods as pkg.Service.Method */
	uint8_t file;     /* index */
	bool is_message;
};

extern const struct descriptor_file descriptor_files[];
extern const unsigned descriptor_n_files;
extern const struct descriptor_symbol descriptor_symbols[]; /* in strcmp order */
extern const unsigned descriptor_n_symbols;

int descriptor_file_named(struct str name);                               /* index or -1 */
const struct descriptor_symbol *descriptor_symbol_named(struct str name); /* or NULL */
/* The file and all that it imports, by whatever way: indexes. Returns how many. */
unsigned descriptor_closure(unsigned file, unsigned files_out[static DESCRIPTOR_FILES_MAX]);

#endif
