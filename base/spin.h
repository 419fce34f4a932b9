// SPDX-License-Identifier: Apache-2.0
//
// Busy polling with a bound that adapts. A notification costs the guest an exit and the loop a
// wake-up; polling costs processor time. The time spent polling in vain is bounded, and the bound
// follows what a longer bound, or none, would have gained:
//
//     it grows    when work came soon after polling had ended,
//     it shrinks  when work came long after,
//     it is 0     for a growing number of times when work keeps coming soon after the end of
//                 polling at the largest bound: the guest can only run once polling ends.
//
// Times are nanoseconds of any steady clock. Belongs to one thread.
#ifndef VN_SPIN_H
#define VN_SPIN_H

#include <stdbool.h>
#include <stdint.h>

// Of `max`, as people give it.
#define VN_SPIN_US_MAX     10000
#define VN_SPIN_US_DEFAULT 50 // measured: docs/datapath.md

struct vn_spin {
	uint64_t max; // the largest bound; 0: never poll
	uint64_t bound;
	uint64_t since; // when there was something to do
	bool asleep; // polling has ended since then
	unsigned penalty; // how many times in a row to do without, the next time polling fails
	unsigned rest; // how many of these are left
};

// After the queue was polled, and work was `found` or the driver was given something that it may
// answer (`stirred`). True: poll the queue again now. False: enable notifications.
bool vn_spin_again(struct vn_spin *spin, bool found, bool stirred, uint64_t now);

#endif
