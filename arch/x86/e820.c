// SPDX-License-Identifier: Apache-2.0
//
// Which of the guest's memory its kernel may use. The range from VN_MAP_LOW_RAM_END up to 1 MiB is
// the PC's legacy area: RAM as far as KVM is concerned, but no kernel expects any there. PCI's
// configuration space is reserved with or without PCI: kernels use it only where they find it so.
#include "arch/x86/e820.h"

#include "arch/x86/map.h"

unsigned vn_e820_build(
	const struct vn_memory *memory, struct vn_e820_entry entries[static VN_E820_MAX])
{
	const struct vn_e820_entry ecam = {VN_MAP_ECAM, VN_MAP_ECAM_SIZE, VN_E820_RESERVED};
	unsigned count = 0;
	bool above_hole = false;
	entries[count++] = (struct vn_e820_entry){0, VN_MAP_LOW_RAM_END, VN_E820_RAM};
	entries[count++] = (struct vn_e820_entry){
		VN_MAP_ACPI, VN_MAP_ACPI_END - VN_MAP_ACPI, VN_E820_RESERVED};
	for (unsigned i = 0; i < memory->ram_count; i++) {
		const struct vn_ram *ram = &memory->ram[i];
		uint64_t start = ram->start.addr;
		uint64_t end = start + ram->size;
		if (start < VN_MAP_KERNEL_MIN)
			start = VN_MAP_KERNEL_MIN;
		if (start > VN_MAP_ECAM && !above_hole) {
			entries[count++] = ecam;
			above_hole = true;
		}
		if (start < end)
			entries[count++] = (struct vn_e820_entry){start, end - start, VN_E820_RAM};
	}
	if (!above_hole)
		entries[count++] = ecam;
	return count;
}
