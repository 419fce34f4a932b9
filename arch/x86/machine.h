// SPDX-License-Identifier: Apache-2.0
//
// What the guest is told about its machine: the one description that ACPI tables, the device tree,
// the E820 map and CPUID are all made from, so that they agree.
#ifndef VN_X86_MACHINE_H
#define VN_X86_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/x86/cpuid.h"
#include "arch/x86/map.h"
#include "arch/x86/topology.h"
#include "core/memory.h"

// A virtio-mmio slot that holds a device.
struct vn_machine_virtio {
	uint64_t base;
	uint64_t size;
	uint32_t gsi;
};

// Guest-physical addresses that the BARs of PCI devices lie in.
struct vn_machine_window {
	uint64_t base;
	uint64_t size; // 0: the machine has no PCI
};

// How CPUs and memory are near to each other. The cells' memory is in vn_memory.
struct vn_machine_numa {
	unsigned cell_count; // 0: the guest is told nothing of it
	const uint8_t *cell_of; // by CPU; as the memory, the vm's
	uint8_t distance[VN_CELLS_MAX][VN_CELLS_MAX]; // 10 in a cell, more between two
};

// Filled by the vm while it is built; the memory it points to is the vm's.
struct vn_machine {
	unsigned cpus;
	struct vn_topology topology; // of them, and their APIC ids
	uint64_t tsc_hz; // 0 when KVM does not say
	unsigned address_bits; // that a guest-physical address can have
	const struct vn_memory *memory;
	struct vn_machine_virtio virtio[VN_VIRTIO_SLOTS]; // slot i, absent where size is 0
	struct vn_machine_window pci;
	struct vn_machine_numa numa;
	const char *cmdline; // as the guest receives it
	uint64_t initrd_start, initrd_end; // guest-physical; both 0 without one
};

// How many bits a guest-physical address can have, as CPUID leaf 0x80000008 says. Pure.
unsigned vn_machine_address_bits(const struct vn_cpuid *cpuid);

// Where a window for PCI fits: above all RAM, within `address_bits`. -ENOSPC when none does. Pure.
int vn_machine_place_window(struct vn_machine_window *window, const struct vn_memory *memory,
	unsigned address_bits, struct veneer_error *error);

// The guest's command line: a word for each virtio-mmio device, for kernels that find them neither
// through ACPI nor in a device tree, and then the user's (NULL: none). They come first because
// there nothing in the user's words can reach them: no open quote, and no `--`. -E2BIG when it does
// not fit. Pure.
int vn_machine_write_cmdline(const struct vn_machine *machine, char line[VN_MAP_CMDLINE_MAX],
	const char *words, struct veneer_error *error);

#endif
