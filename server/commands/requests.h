/*
 * What people see of logins that wait: `tunn account requests`, `approve` and `deny`. A
 * command's main thread.
 */
#ifndef TUNN_SERVER_REQUESTS_H
#define TUNN_SERVER_REQUESTS_H

#include "common/base/json.h"

void requests_print(const struct json *answer);   /* of "account requests" */
void requests_decided(const struct json *answer); /* of "account approve" and "account deny" */

#endif
