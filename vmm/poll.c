// SPDX-License-Identifier: Apache-2.0
//
// The bound and what moves it.
#include "vmm/poll.h"

#include "veneer.h"

#define US_DEFAULT 50 // measured: docs/datapath.md

// Less than this is over before a driver on another CPU can have seen anything.
#define BOUND_MIN   4000
#define PENALTY_MAX 1024

// Work came when we had given up, `slept` after that.
static void adapt(struct vn_poll *poll, uint64_t slept)
{
	if (poll->rest > 0) {
		poll->rest--;
	} else if (slept > poll->max) {
		poll->bound /= 2;
		if (poll->bound < BOUND_MIN)
			poll->bound = 0;
	} else if (poll->bound < poll->max) {
		poll->bound = poll->bound < BOUND_MIN ? BOUND_MIN : 2 * poll->bound;
		if (poll->bound > poll->max)
			poll->bound = poll->max;
	} else {
		poll->bound = 0;
		poll->rest = poll->penalty;
		poll->penalty = poll->penalty < PENALTY_MAX ? 2 * poll->penalty + 1 : PENALTY_MAX;
	}
}

static void learn(struct vn_poll *poll, uint64_t now)
{
	uint64_t elapsed = now - poll->since;
	if (!poll->asleep)
		poll->penalty = 0;
	else
		adapt(poll, elapsed > poll->bound ? elapsed - poll->bound : 0);
}

bool vn_poll_look(struct vn_poll *poll, bool found, bool stirred, uint64_t now)
{
	if (poll->max == 0)
		return false;
	if (found)
		learn(poll, now);
	if (found || stirred) {
		poll->since = now;
		poll->asleep = false;
	}
	if (now - poll->since >= poll->bound)
		poll->asleep = true;
	return !poll->asleep;
}

uint64_t vn_poll_max(unsigned poll_us)
{
	return poll_us == VENEER_POLL_OFF ? 0 : 1000ull * (poll_us ? poll_us : US_DEFAULT);
}
