// SPDX-License-Identifier: Apache-2.0
//
// What Linux finds in memory when it is entered at its 64-bit entry point.
#include "arch/x86/linux.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "arch/x86/e820.h"
#include "arch/x86/entry.h"

#include "base/macros.h"

#define BOOT_FLAG      0xaa55
#define HEADER_MAGIC   0x53726448 // "HdrS"
#define LOADER_UNKNOWN 0xff // a boot loader without an id of its own
#define VIDEO_NORMAL   0xffff

#define PAGE_SIZE     0x1000ull
#define PAGE_PRESENT  0x01ull
#define PAGE_WRITE    0x02ull
#define PAGE_LARGE    0x80ull
#define TABLE_ENTRIES 512
#define DIRECTORIES   4 // 1 GiB each: all of the first 4 GiB

_Static_assert(VN_MAP_BOOT_PARAMS + sizeof(struct boot_params) <= VN_MAP_PAGE_TABLES,
	"boot_params fits its place");
_Static_assert(VN_MAP_PAGE_TABLES + (2 + DIRECTORIES) * PAGE_SIZE <= VN_MAP_PAGE_TABLES_END,
	"the page tables fit their place");

void vn_linux_default_header(struct setup_header *header)
{
	*header = (struct setup_header){.boot_flag = BOOT_FLAG,
		.header = HEADER_MAGIC,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = UINT32_MAX,
		.kernel_alignment = 2 * MIB,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = VN_MAP_CMDLINE_MAX - 1};
}

// Map the first 4 GiB one to one: the kernel needs itself, boot_params and the command line
// mapped, and makes tables of its own at once.
static void write_page_tables(uint8_t *low)
{
	uint64_t *pml4 = (uint64_t *)(void *)(low + VN_MAP_PAGE_TABLES);
	uint64_t *pdpt = pml4 + TABLE_ENTRIES;
	uint64_t *directory = pdpt + TABLE_ENTRIES;
	memset(pml4, 0, 2 * PAGE_SIZE);
	pml4[0] = (VN_MAP_PAGE_TABLES + PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE;
	for (uint64_t i = 0; i < DIRECTORIES; i++)
		pdpt[i] = (VN_MAP_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITE;
	for (uint64_t i = 0; i < DIRECTORIES * TABLE_ENTRIES; i++)
		directory[i] = i << 21 | PAGE_PRESENT | PAGE_WRITE | PAGE_LARGE;
}

// A list of setup_data nodes under construction.
struct setup_list {
	uint8_t *low;
	uint64_t *link; // where the next node's address goes
	uint64_t next; // guest-physical; nodes are 8-byte aligned
};

static int add_setup_data(struct setup_list *list, uint32_t type, const void *data, size_t size)
{
	struct setup_data *node = (struct setup_data *)(void *)(list->low + list->next);
	uint64_t room = VN_MAP_SETUP_DATA_END - list->next;
	if (room < sizeof(*node) || size > room - sizeof(*node))
		return -E2BIG;
	node->next = 0;
	node->type = type;
	node->len = (uint32_t)size;
	memcpy(node->data, data, size);
	*list->link = list->next;
	list->link = (uint64_t *)(void *)node; // `next` comes first
	list->next += (sizeof(*node) + size + 7) & ~7ull;
	return 0;
}

static int write_setup_data(
	uint8_t *low, const void *dtb, size_t dtb_size, uint64_t *first, struct veneer_error *error)
{
	struct setup_list list = {.low = low, .link = first, .next = VN_MAP_SETUP_DATA};
	uint8_t seed[32];
	if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return vn_fail(error, -EIO, "getrandom: no random seed for the guest");
	int code = add_setup_data(&list, SETUP_RNG_SEED, seed, sizeof(seed));
	explicit_bzero(seed, sizeof(seed));
	if (code == 0)
		code = add_setup_data(&list, SETUP_DTB, dtb, dtb_size);
	if (code < 0)
		return vn_fail(error, code,
			"the device tree of %zu bytes is too large to hand over", dtb_size);
	return 0;
}

static void fill_memory_map(struct boot_params *params, const struct vn_memory *memory)
{
	struct vn_e820_entry entries[VN_E820_MAX];
	unsigned count = vn_e820_build(memory, entries);
	for (unsigned i = 0; i < count; i++)
		params->e820_table[i] = (struct boot_e820_entry){
			entries[i].start, entries[i].size, (uint32_t)entries[i].type};
	params->e820_entries = (uint8_t)count;
}

int vn_linux_write(uint8_t *low, const struct vn_boot *boot, const struct vn_machine *machine,
	vn_gpa rsdp, const void *dtb, size_t dtb_size, struct veneer_error *error)
{
	uint64_t setup_data = 0;
	int code = write_setup_data(low, dtb, dtb_size, &setup_data, error);
	if (code < 0)
		return code;

	uint64_t initrd_size = boot->initrd_end - boot->initrd_start;
	struct boot_params params = {.acpi_rsdp_addr = rsdp.addr, .hdr = boot->setup_header};
	params.hdr.type_of_loader = LOADER_UNKNOWN;
	params.hdr.vid_mode = VIDEO_NORMAL;
	params.hdr.cmd_line_ptr = (uint32_t)VN_MAP_CMDLINE;
	params.hdr.ramdisk_image = (uint32_t)boot->initrd_start;
	params.hdr.ramdisk_size = (uint32_t)initrd_size;
	params.ext_ramdisk_image = (uint32_t)(boot->initrd_start >> 32);
	params.ext_ramdisk_size = (uint32_t)(initrd_size >> 32);
	params.hdr.setup_data = setup_data;
	fill_memory_map(&params, machine->memory);
	memcpy(low + VN_MAP_BOOT_PARAMS, &params, sizeof(params));

	write_page_tables(low);
	memcpy(low + VN_MAP_GDT, vn_entry_gdt, sizeof(vn_entry_gdt));
	return 0;
}
