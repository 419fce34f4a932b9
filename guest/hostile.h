// SPDX-License-Identifier: Apache-2.0
/*
 * A driver that does what no driver should.
 */
#ifndef GUEST_HOSTILE_H
#define GUEST_HOSTILE_H

/*
 * Runs the attack that `value` names, or every one for "all", against the first disk, and prints
 * `hostile NAME: ok` or a FAIL line for each. Returns the exit status: 0 or 1.
 */
int command_hostile(const char *value);

#endif
