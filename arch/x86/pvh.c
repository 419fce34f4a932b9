// SPDX-License-Identifier: Apache-2.0
//
// start_info, its modules and its memory map, in one page.
#include "arch/x86/pvh.h"

#include <errno.h>
#include <string.h>

#include "arch/x86/e820.h"

enum { MODULE_INITRD, MODULE_DTB, MODULE_COUNT };

struct pvh_page {
	struct vn_pvh_start_info info;
	struct vn_pvh_module modules[MODULE_COUNT];
	struct vn_pvh_memory memory[VN_E820_MAX];
	char dtb_name[4];
};

_Static_assert(sizeof(struct vn_pvh_start_info) == 56, "laid down by the protocol");
_Static_assert(sizeof(struct vn_pvh_module) == 32, "laid down by the protocol");
_Static_assert(sizeof(struct vn_pvh_memory) == 24, "laid down by the protocol");
_Static_assert(VN_MAP_PVH_INFO + sizeof(struct pvh_page) <= VN_MAP_BOOT_PARAMS, "fits its place");

#define PAGE_GPA(member) (VN_MAP_PVH_INFO + offsetof(struct pvh_page, member))

static uint32_t fill_memory_map(const struct vn_memory *memory, struct vn_pvh_memory *map)
{
	struct vn_e820_entry entries[VN_E820_MAX];
	unsigned count = vn_e820_build(memory, entries);
	for (unsigned i = 0; i < count; i++)
		map[i] = (struct vn_pvh_memory){
			entries[i].start, entries[i].size, (uint32_t)entries[i].type, 0};
	return count;
}

int vn_pvh_write(uint8_t *low, const struct vn_boot *boot, const struct vn_machine *machine,
	vn_gpa rsdp, const void *dtb, size_t dtb_size, struct veneer_error *error)
{
	if (dtb_size > VN_MAP_SETUP_DATA_END - VN_MAP_SETUP_DATA)
		return vn_fail(error, -E2BIG,
			"the device tree of %zu bytes is too large to hand over", dtb_size);
	memcpy(low + VN_MAP_SETUP_DATA, dtb, dtb_size);

	struct pvh_page page = {.info = {.magic = VN_PVH_MAGIC,
					.version = 1, // the first that has a memory map
					.module_count = MODULE_COUNT,
					.modules = PAGE_GPA(modules),
					.cmdline = VN_MAP_CMDLINE,
					.rsdp = rsdp.addr,
					.memory_map = PAGE_GPA(memory)},
		.modules[MODULE_INITRD] = {.start = boot->initrd_start,
			.size = boot->initrd_end - boot->initrd_start},
		.modules[MODULE_DTB] = {.start = VN_MAP_SETUP_DATA,
			.size = dtb_size,
			.cmdline = PAGE_GPA(dtb_name)},
		.dtb_name = "dtb"};
	page.info.memory_map_count = fill_memory_map(machine->memory, page.memory);
	memcpy(low + VN_MAP_PVH_INFO, &page, sizeof(page));
	return 0;
}
