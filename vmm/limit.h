// SPDX-License-Identifier: Apache-2.0
//
// A rate that several threads share: so much a second, and a burst after a pause. It is a token bucket,
// kept as the time at which it will be full again, so that one atomic word is all that it takes, no
// thread waits for another, and each learns at once when its turn is. Times are nanoseconds of a
// steady clock.
#ifndef VN_LIMIT_H
#define VN_LIMIT_H

#include <stdatomic.h>
#include <stdint.h>

struct vn_limit {
	_Alignas(64) _Atomic uint64_t full; // alone in its cache line
	uint64_t rate; // units a second; 0: no limit
	uint64_t burst; // ns: the time that the bucket takes to fill
};

// `burst` units, or, where that is 0, a tenth of a second's worth.
void vn_limit_init(struct vn_limit *limit, uint64_t rate, uint64_t burst);

// Take `units`, at most 2^32, and return when they may be used: `now` or later. Whoever takes more
// than the bucket holds waits for a full one, and those that come after pay the rest.
uint64_t vn_limit_take(struct vn_limit *limit, uint64_t units, uint64_t now);

// Give back what was taken and will not be used.
void vn_limit_return(struct vn_limit *limit, uint64_t units);

#endif
