// SPDX-License-Identifier: Apache-2.0
//
// The ways in which a guest ends itself: the debug-exit port, the ACPI sleep control and reset
// registers, and the keyboard controller's reset line.
#ifndef VN_POWER_H
#define VN_POWER_H

#include "vmm/bus.h"
#include "vmm/end.h"

// Put all of them on the port bus. `hook` must outlive the bus.
int vn_power_add(struct vn_bus *pio, const struct vn_end_hook *hook, struct veneer_error *error);

#endif
