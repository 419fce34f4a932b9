// SPDX-License-Identifier: Apache-2.0
//
// How long to look for work before asking to be told of it. Being told costs the guest an exit and us
// a wake-up; looking costs processor time. So the time spent looking is bounded, and the bound follows
// what looking longer, or not at all, would have given:
//
//     it grows    when work came soon after we had given up,
//     it shrinks  when we had long given up by the time that work came,
//     none is spent for a growing number of times where work keeps coming soon after we have given up
//                 however long we look, as when the guest can only run once we stop.
//
// Times are nanoseconds of any steady clock. Belongs to one thread.
#ifndef VN_POLL_H
#define VN_POLL_H

#include <stdbool.h>
#include <stdint.h>

struct vn_poll {
	uint64_t max; // the bound's bound; 0: never look
	uint64_t bound;
	uint64_t since; // when there was something to do
	bool asleep; // has given up since then
	unsigned penalty; // how many times in a row to do without, the next time looking fails
	unsigned rest; // how many of these are left
};

// After a look at a queue: whether to look again at once, when it has just `found` work there, or given
// the driver something to which it may answer (`stirred`). If not, ask to be told.
bool vn_poll_look(struct vn_poll *poll, bool found, bool stirred, uint64_t now);

// `max` for a device's option of so many microseconds: 0 is the default, VENEER_POLL_OFF none.
uint64_t vn_poll_max(unsigned poll_us);

#endif
