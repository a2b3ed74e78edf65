#include "common/base/limits.h"

const struct limits limits_default = {
#define LIMITS_VALUE(field, kind, key, value, least, most, words) .field = value,
	LIMITS(LIMITS_VALUE)
#undef LIMITS_VALUE
};
