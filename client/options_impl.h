/*
 * What the options of `tunn relay` and `tunn login` have in common: checks as in opts.h.
 * Main thread.
 */
#ifndef TUNN_CLIENT_OPTIONS_IMPL_H
#define TUNN_CLIENT_OPTIONS_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/net/tls.h"

#define DEFAULT_RELAY "https://tunn.to"

const char *option_check_id(const char *value);
const char *option_check_relay(const char *value);
const char *option_check_proxy(const char *value);
const char *option_check_pin(const char *value);
/* Of a value that passed option_check_pin(). */
void option_pin(const char *value, uint8_t pin_out[static TLS_PIN_LEN], bool *is_raw_out);

#endif
