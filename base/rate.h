// SPDX-License-Identifier: Apache-2.0
//
// A token bucket that several threads share: a rate, and a burst after a pause. Its whole state is
// one atomic word, the time at which the bucket will be full again: no thread waits for another,
// and each learns at once when its turn is. Times are nanoseconds of a steady clock.
#ifndef VN_RATE_H
#define VN_RATE_H

#include <stdatomic.h>
#include <stdint.h>

struct vn_rate {
	_Alignas(64) _Atomic uint64_t full; // alone in its cache line
	uint64_t per_second; // units; 0: no limit
	uint64_t burst; // ns: the time that the bucket takes to fill
};

// `burst` in units; 0: a tenth of a second's worth.
void vn_rate_init(struct vn_rate *rate, uint64_t per_second, uint64_t burst);

// Take `units`, at most 2^32. Returns the time from which they may be used: `now` or later. Taking
// more than the bucket holds waits for a full bucket only; the rest delays those who take next.
uint64_t vn_rate_take(struct vn_rate *rate, uint64_t units, uint64_t now);

// Give back units that were taken and will not be used.
void vn_rate_return(struct vn_rate *rate, uint64_t units);

#endif
