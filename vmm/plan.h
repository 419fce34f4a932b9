// SPDX-License-Identifier: Apache-2.0
//
// Which of a guest's threads runs where: what its options say of it, and what is chosen for it.
#ifndef VN_PLAN_H
#define VN_PLAN_H

#include "host/host.h"
#include "host/placement.h"
#include "vmm/config.h"

// What the option `cpus` says; the vCPUs' part is empty where it is to be chosen.
void vn_plan_placement(struct vn_placement *placement, const struct vn_spec *spec);

// What the guest needs places for, but for its I/O threads.
struct vn_placement_guest vn_plan_guest(const struct vn_spec *spec);

// Choose, if the option `cpus` says pin=auto, else take what it says; and explain. `plan` is zero
// before; its strings are the caller's, also after a failure. NULL: explain nothing.
int vn_plan_on(struct veneer_plan *plan, struct vn_placement *placement, const struct vn_spec *spec,
	const struct vn_host *host, struct veneer_error *error);

#endif
