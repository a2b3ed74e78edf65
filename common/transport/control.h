/*
 * What both transports say beside packets: the owner's words to and from messages of
 * tunn.v1, and the grammar of a registration. Pure. Any thread.
 */
#ifndef TUNN_TRANSPORT_CONTROL_H
#define TUNN_TRANSPORT_CONTROL_H

#include "common/transport/transport.h"
#include "common/wire/msg.h"

/* What is wrong with the id, the peers or the token, in words; NULL: nothing. */
const char *hello_error(const struct hello *);
/* Drops doubles, keeps the order; returns how many are left. */
unsigned hello_without_doubles(struct str *peers, unsigned n);

/* peer_id is the caller's to fill in. Text is borrowed from what is translated. */
void control_of_status(const struct peer_status *, struct msg *msg_out);
void control_of_notice(const struct notice *, struct msg *msg_out);
/* False: nothing this version knows, or nothing that may be shown. The key is the
 * caller's to fill in. */
bool control_to_status(const struct msg *, struct peer_status *status_out);
bool control_to_notice(const struct msg *, struct notice *notice_out);

#endif
