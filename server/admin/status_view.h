/*
 * A status as lines for people, as wide as there is room. Pure.
 */
#ifndef TUNN_SERVER_STATUS_VIEW_H
#define TUNN_SERVER_STATUS_VIEW_H

#include "common/base/buf.h"
#include "server/admin/status.h"

struct status_style {
	unsigned columns, rows; /* rows 0: as many as there are */
	bool colour, utf8;
	bool rates; /* of tunnels, the busiest first; else what they carried, by name */
	int64_t now_unix_s;
	const char *trouble; /* said above all else; NULL: none */
};

int status_view(const struct status *, const struct status_style *, struct buf *out); /* -ENOMEM */
/* The same in one line, without tunnels. */
int status_view_line(const struct status *, int64_t now_unix_s, struct buf *out);

#endif
