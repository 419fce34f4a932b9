// SPDX-License-Identifier: Apache-2.0
//
// The part of the guest's address map that depends on the guest: where, above its memory, there is
// room for PCI devices that its processor can address. And what its command line says of it.
#include "arch/x86/machine.h"

#include <errno.h>
#include <stdio.h>

#include "base/macros.h"

#define WINDOW_ALIGNMENT   GIB
#define WINDOW_SIZE_MAX    (16 * GIB)
#define WINDOW_SIZE_MIN    GIB
#define LEAF_ADDRESS_SIZES 0x80000008u
#define DEFAULT_BITS       36 // of a processor without that leaf

// Bits 7 to 0 are the processor's; bits 23 to 16, where not zero, are what nested paging leaves to
// a guest (AMD APM volume 3, appendix E).
unsigned vn_machine_address_bits(const struct vn_cpuid *cpuid)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *leaf = &cpuid->entries[i];
		unsigned processor = leaf->eax & 0xff, guest = leaf->eax >> 16 & 0xff;

		if (leaf->function == LEAF_ADDRESS_SIZES && processor != 0)
			return guest != 0 && guest < processor ? guest : processor;
	}
	return DEFAULT_BITS;
}

int vn_machine_place_window(struct vn_machine_window *window, const struct vn_memory *memory,
	unsigned address_bits, struct veneer_error *error)
{
	uint64_t limit = address_bits < 64 ? BIT64(address_bits) : UINT64_MAX;
	const struct vn_ram *last = &memory->ram[memory->ram_count - 1];
	uint64_t base = last->start.addr + last->size;

	if (base < VN_MAP_HIGH_RAM)
		base = VN_MAP_HIGH_RAM;
	base = (base + WINDOW_ALIGNMENT - 1) & ~(WINDOW_ALIGNMENT - 1);
	if (base >= limit || limit - base < WINDOW_SIZE_MIN)
		return vn_fail(error, -ENOSPC,
			"no room for PCI devices above the guest's memory, "
			"which ends near %llu GiB: its processor addresses %llu GiB; "
			"give it less memory",
			(unsigned long long)(base / GIB), (unsigned long long)(limit / GIB));
	window->base = base;
	window->size = limit - base < WINDOW_SIZE_MAX ? limit - base : WINDOW_SIZE_MAX;
	return 0;
}

int vn_machine_write_cmdline(const struct vn_machine *machine, char line[VN_MAP_CMDLINE_MAX],
	const char *words, struct veneer_error *error)
{
	size_t used = 0;

	if (!words)
		words = "";
	for (unsigned i = 0; used < VN_MAP_CMDLINE_MAX && i < VN_VIRTIO_SLOTS; i++) {
		const struct vn_machine_virtio *virtio = &machine->virtio[i];
		if (virtio->size)
			used += (size_t)snprintf(line + used, VN_MAP_CMDLINE_MAX - used,
				"%svirtio_mmio.device=%lluK@0x%llx:%u", used ? " " : "",
				(unsigned long long)virtio->size / 1024,
				(unsigned long long)virtio->base, virtio->gsi);
	}
	if (used < VN_MAP_CMDLINE_MAX)
		used += (size_t)snprintf(line + used, VN_MAP_CMDLINE_MAX - used, "%s%s",
			used && *words ? " " : "", words);
	if (used >= VN_MAP_CMDLINE_MAX)
		return vn_fail(error, -E2BIG,
			"the kernel's command line is too long: "
			"with the words that list the virtio devices at most %llu bytes fit",
			VN_MAP_CMDLINE_MAX - 1);
	return 0;
}
