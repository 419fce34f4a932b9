// SPDX-License-Identifier: Apache-2.0
//
// A PCI Express root: one bus of 32 devices behind ECAM and the ports CF8/CFC, without legacy
// interrupts. Functions describe their configuration space and BARs; the root decodes. BARs are
// 64-bit and memory only, in one window above RAM; the guest may move them within it.
#ifndef VN_PCI_H
#define VN_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bus.h"
#include "core/memory.h"

#define VN_PCI_SLOTS       32 // slot 0 is the host bridge
#define VN_PCI_CONFIG_SIZE 4096
#define VN_PCI_BARS        3 // 64-bit, so every second register

struct vn_pci;
struct vn_pci_function;

// A function's part, on the vCPU thread that made the access. The root's lock is held, but for
// accesses to a BAR, which it would only slow down. Each may be NULL where there is nothing to do;
// those for BARs only where there are none.
struct vn_pci_ops {
	// Memory decoding of a BAR begins at an address, or ends: where ioeventfds come and go.
	void (*map)(struct vn_pci_function *function, unsigned bar, vn_gpa address);
	void (*unmap)(struct vn_pci_function *function, unsigned bar, vn_gpa address);

	// The guest is about to read [offset, offset + size) of the configuration space: the last
	// moment to bring `config` up to date.
	void (*config_reading)(struct vn_pci_function *function, unsigned offset, unsigned size);

	// The guest has written [offset, offset + size) of the configuration space, which has the
	// new value already, as far as `writable` lets it through.
	void (*config_written)(struct vn_pci_function *function, unsigned offset, unsigned size);

	// The function is reset: its configuration space is as it was before the guest ran, and no
	// BAR is mapped.
	void (*reset)(struct vn_pci_function *function);

	// Accesses to a BAR: naturally aligned, 1 to 8 bytes, within it. Reads leave `data`
	// (already all ones) as it is where there is nothing to read.
	void (*bar_read)(struct vn_pci_function *function, unsigned bar, uint64_t offset,
		void *data, unsigned size);
	void (*bar_write)(struct vn_pci_function *function, unsigned bar, uint64_t offset,
		const void *data, unsigned size);
};

// One function, embedded in its owner, which fills the first part before vn_pci_add().
struct vn_pci_function {
	const struct vn_pci_ops *ops;
	uint8_t config[VN_PCI_CONFIG_SIZE]; // little-endian; header type 0
	uint8_t writable[VN_PCI_CONFIG_SIZE]; // bits that the guest may write, beyond the header's
	uint64_t bar_size[VN_PCI_BARS]; // 0 or a power of two of at least 4 KiB

	uint64_t bar_home[VN_PCI_BARS]; // the root's from here on: where it is after a reset
	uint64_t bar_address[VN_PCI_BARS]; // valid while mapped
	bool bar_mapped[VN_PCI_BARS];
};

// Put a root on the buses: ECAM and the window on `mmio`, CF8 and CFC on `pio`.
int vn_pci_create(struct vn_pci **pci, struct vn_bus *mmio, struct vn_bus *pio,
	uint64_t window_base, uint64_t window_size, struct veneer_error *error);

// Once no vCPU runs any more; touches no function.
void vn_pci_destroy(struct vn_pci *pci);

// Everything as before the guest ran. No vCPU runs.
void vn_pci_reset(struct vn_pci *pci);

// Give a function a slot and places for its BARs, before the guest runs. Memory decoding is off,
// as after a reset. The function stays the caller's and is there as long as a vCPU runs. -EEXIST
// for a slot that is taken or is none, -ENOSPC where the window has no room for a BAR.
int vn_pci_add(struct vn_pci *pci, unsigned slot, struct vn_pci_function *function,
	struct veneer_error *error);

#endif
