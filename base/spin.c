// SPDX-License-Identifier: Apache-2.0
//
// How the bound adapts.
#include "base/spin.h"

// Less than this is over before a driver on another CPU can have seen anything.
#define BOUND_MIN   4000
#define PENALTY_MAX 1024

// Work came when we had given up, `slept` after that.
static void adapt(struct vn_spin *spin, uint64_t slept)
{
	if (spin->rest > 0) {
		spin->rest--;
	} else if (slept > spin->max) {
		spin->bound /= 2;
		if (spin->bound < BOUND_MIN)
			spin->bound = 0;
	} else if (spin->bound < spin->max) {
		spin->bound = spin->bound < BOUND_MIN ? BOUND_MIN : 2 * spin->bound;
		if (spin->bound > spin->max)
			spin->bound = spin->max;
	} else {
		spin->bound = 0;
		spin->rest = spin->penalty;
		spin->penalty = spin->penalty < PENALTY_MAX ? 2 * spin->penalty + 1 : PENALTY_MAX;
	}
}

static void learn(struct vn_spin *spin, uint64_t now)
{
	uint64_t elapsed = now - spin->since;
	if (!spin->asleep)
		spin->penalty = 0;
	else
		adapt(spin, elapsed > spin->bound ? elapsed - spin->bound : 0);
}

bool vn_spin_again(struct vn_spin *spin, bool found, bool stirred, uint64_t now)
{
	if (spin->max == 0)
		return false;
	if (found)
		learn(spin, now);
	if (found || stirred) {
		spin->since = now;
		spin->asleep = false;
	}
	if (now - spin->since >= spin->bound)
		spin->asleep = true;
	return !spin->asleep;
}
