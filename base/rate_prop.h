// SPDX-License-Identifier: Apache-2.0
//
// A property type for a rate and its burst: N[:BURST].
#ifndef VN_RATE_PROP_H
#define VN_RATE_PROP_H

#include "base/prop.h"

struct vn_rate_options {
	uint64_t per_second; // 0: no limit
	uint64_t burst; // 0: a tenth of a second's worth
};

// `min` of the property: the smallest rate.
extern const struct vn_prop_type vn_prop_rate; // numbers
extern const struct vn_prop_type vn_prop_byte_rate; // sizes

#endif
