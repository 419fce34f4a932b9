// SPDX-License-Identifier: Apache-2.0
//
// pvpanic: the register by which a guest's kernel says that it has panicked (QEMU's
// docs/specs/pvpanic). It is one device in two forms, an I/O port that ACPI names and a PCI
// function; a kernel with drivers for both writes to both.
#ifndef VN_PVPANIC_H
#define VN_PVPANIC_H

#include "core/bus.h"
#include "core/end.h"
#include "core/ioloop.h"
#include "devices/serial.h"
#include "pci/root.h"

struct vn_pvpanic;

// Where it reports, and what tells it that the guest has said its last words. All of it must
// outlive the device.
struct vn_pvpanic_site {
	const struct vn_end_hook *end;
	const struct vn_log *log;
	struct vn_ioloop *loop; // for a timer
	struct vn_serial *serial;
};

int vn_pvpanic_create(struct vn_pvpanic **pvpanic, const struct vn_pvpanic_site *site,
	struct veneer_error *error);

// Put it on the port bus, and in a slot of the PCI root.
int vn_pvpanic_add_port(struct vn_pvpanic *pvpanic, struct vn_bus *pio, struct veneer_error *error);
int vn_pvpanic_add_pci(
	struct vn_pvpanic *pvpanic, struct vn_pci *root, unsigned slot, struct veneer_error *error);

// Stop the timer that waits for a second without output, while the guest is paused; and start it
// again, with a whole second.
void vn_pvpanic_pause(struct vn_pvpanic *pvpanic);
void vn_pvpanic_resume(struct vn_pvpanic *pvpanic);

// Forget what the guest has reported. No vCPU runs.
void vn_pvpanic_reset(struct vn_pvpanic *pvpanic);

// Once no vCPU runs any more.
void vn_pvpanic_destroy(struct vn_pvpanic *pvpanic);

#endif
