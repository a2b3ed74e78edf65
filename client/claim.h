/*
 * Which local addresses the tunns of this machine listen on: each holds a name
 * for its address as long as it lives, so that another does not forward to it
 * and send its datagrams in a circle. Main thread; never blocks.
 */
#ifndef TUNN_CLIENT_CLAIM_H
#define TUNN_CLIENT_CLAIM_H

#include <stdbool.h>

#include "common/net/addr.h"

/* The descriptor that holds the claim, to be closed; -1: another has it, or the
 * kernel knows no such names, which harms nobody. */
int claim_listening(const struct addr *);
bool claim_is_held(const struct addr *); /* also by a listener on all addresses */

#endif
