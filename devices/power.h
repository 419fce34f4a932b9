// SPDX-License-Identifier: Apache-2.0
//
// The ways in which a guest ends itself: the debug-exit port, the ACPI sleep control and reset
// registers, the chipset's reset control register, and the keyboard controller's reset line.
#ifndef VN_POWER_H
#define VN_POWER_H

#include <stdatomic.h>

#include "core/bus.h"
#include "core/end.h"

// Owned by whoever adds it to a bus, which it must outlive. Any vCPU may access any port at any
// time.
struct vn_power {
	const struct vn_end_hook *hook;
	_Atomic uint8_t reset_control;
};

// Put all of them on the port bus. `hook` must outlive it too.
int vn_power_add(struct vn_power *power, struct vn_bus *pio, const struct vn_end_hook *hook,
	struct veneer_error *error);

// As before the guest ran. No vCPU runs.
void vn_power_reset(struct vn_power *power);

#endif
