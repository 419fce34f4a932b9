// SPDX-License-Identifier: Apache-2.0
//
// ACPI's generic event device (ACPI 6.3 section 5.6.9): what the guest is told of by a line and a
// register. The only event is the power button.
#ifndef VN_EVENT_H
#define VN_EVENT_H

#include <stdint.h>

#include "core/bus.h"
#include "core/irq.h"

// The line is up while something is pending: from the event until the interrupt's AML method has
// read the register. So a guest that has the line masked, or no driver for it yet, is told once it
// listens.
struct vn_event;

// With its register on the port bus, which it must outlive. `kvm` NULL: there is no line (tests
// without KVM). On failure nothing is left.
int vn_event_create(struct vn_event **event, const struct vn_kvm *kvm, struct vn_bus *pio,
	struct veneer_error *error);
void vn_event_destroy(struct vn_event *event);

// Clear all pending events.
void vn_event_reset(struct vn_event *event);

// From any thread. One that is still pending stays one.
void vn_event_raise(struct vn_event *event, uint8_t which);

#endif
