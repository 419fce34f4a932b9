// SPDX-License-Identifier: Apache-2.0
//
// From a kernel's file to a vCPU about to run it.
#include "arch/x86/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/bzimage.h"
#include "arch/x86/elf.h"
#include "arch/x86/entry.h"
#include "arch/x86/image.h"
#include "arch/x86/linux.h"
#include "arch/x86/pvh.h"
#include "base/macros.h"
#include "core/kvm.h"

#define CHUNK     (256u << 10)
#define PAGE_SIZE 4096ull

static int load_elf_file(const struct vn_image *image, struct vn_elf *elf)
{
	uint8_t *chunk = malloc(CHUNK);
	if (!chunk)
		return vn_fail(elf->error, -ENOMEM, "%s: out of memory", image->name);
	uint64_t offset = 0;
	int code = 0;
	while (code == 0 && offset < image->size && !vn_elf_complete(elf)) {
		uint64_t left = image->size - offset;
		size_t size = left < CHUNK ? (size_t)left : CHUNK;
		code = vn_image_read(image, offset, chunk, size, elf->error);
		if (code == 0)
			code = vn_elf_write(elf, chunk, size);
		offset += size;
	}
	free(chunk);
	return code;
}

// After vn_elf_finish().
static int enter_elf(struct vn_boot *boot, const struct vn_elf *elf, uint64_t entry)
{
	if (!vn_elf_contains(elf, entry))
		return vn_fail(elf->error, -ENOEXEC,
			"%s: the entry point 0x%" PRIx64 " lies outside all segments", elf->name,
			entry);
	boot->entry = VN_GPA(entry);
	boot->kernel_start = elf->kernel_start;
	boot->kernel_end = elf->kernel_end;
	return 0;
}

static int load_elf(struct vn_boot *boot, const struct vn_image *image, struct vn_elf *elf)
{
	// What is in memory already needs no pieces.
	int code = image->fd < 0 ? vn_elf_write(elf, image->data, image->size)
				 : load_elf_file(image, elf);
	if (code == 0)
		code = vn_elf_finish(elf);
	if (code < 0)
		return code;
	vn_linux_default_header(&boot->setup_header);
	boot->protocol = elf->pvh_entry ? VN_BOOT_PVH : VN_BOOT_LINUX64;
	return enter_elf(boot, elf, elf->pvh_entry ? elf->pvh_entry : elf->entry);
}

// The kernel's own decompressor works within its init_size bytes.
static int load_protected_mode(struct vn_boot *boot, const struct vn_bzimage *bzimage,
	const struct vn_memory *memory, struct veneer_error *error)
{
	int code = vn_bzimage_load(bzimage, memory, &boot->kernel_start, error);
	if (code < 0)
		return code;
	boot->kernel_end = boot->kernel_start + boot->setup_header.init_size;
	boot->setup_header.code32_start = (uint32_t)boot->kernel_start;
	boot->entry = VN_GPA(boot->kernel_start + VN_BZIMAGE_ENTRY64);
	return 0;
}

static int load_bzimage(struct vn_boot *boot, const struct vn_image *image, struct vn_elf *elf)
{
	struct vn_bzimage bzimage;
	int code = vn_bzimage_open(&bzimage, image, elf->error);
	if (code < 0)
		return code;
	boot->protocol = VN_BOOT_LINUX64;
	boot->setup_header = bzimage.header;
	if (!bzimage.on_host)
		return load_protected_mode(boot, &bzimage, elf->memory, elf->error);
	code = vn_bzimage_decompress(&bzimage, elf);
	return code < 0 ? code : enter_elf(boot, elf, elf->entry);
}

static int load_kernel(struct vn_boot *boot, const struct vn_image *image,
	const struct vn_memory *memory, struct veneer_error *error)
{
	struct vn_elf elf;
	vn_elf_begin(&elf, image->name, memory, error);
	if (vn_bzimage_recognise(image))
		return load_bzimage(boot, image, &elf);
	char magic[SELFMAG] = "";
	size_t size = image->size < SELFMAG ? (size_t)image->size : SELFMAG;
	int code = vn_image_read(image, 0, magic, size, error);
	if (code < 0)
		return code;
	if (memcmp(magic, ELFMAG, SELFMAG) != 0)
		return vn_fail(error, -ENOEXEC, "%s: neither an ELF kernel nor a Linux bzImage",
			image->name);
	return load_elf(boot, image, &elf);
}

// The first address that an initrd may have: past all that the kernel uses before it looks where
// the initrd is.
static uint64_t initrd_floor(const struct vn_boot *boot)
{
	uint64_t early_end = boot->kernel_start + boot->setup_header.init_size;
	return early_end > boot->kernel_end ? early_end : boot->kernel_end;
}

// Up to where a kernel looks for an initrd, whatever memory there is.
static uint64_t initrd_limit(const struct vn_boot *boot)
{
	uint64_t allowed = (uint64_t)boot->setup_header.initrd_addr_max + 1;
	// initrd_addr_max speaks of the 32-bit entry point then.
	bool above = boot->setup_header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G;
	return above || allowed > VN_MAP_HOLE ? VN_MAP_HOLE : allowed;
}

// The end of the memory below the hole, or of what the kernel allows.
static uint64_t initrd_ceiling(const struct vn_boot *boot, const struct vn_memory *memory)
{
	uint64_t end = 0;
	for (unsigned i = 0; i < memory->ram_count; i++)
		if (memory->ram[i].start.addr < VN_MAP_HOLE)
			end = memory->ram[i].start.addr + memory->ram[i].size;
	uint64_t limit = initrd_limit(boot);
	return end < limit ? end : limit;
}

// The highest place for `size` bytes in one run of RAM between the two, or 0: nothing is loaded
// there.
static uint64_t initrd_place(
	const struct vn_memory *memory, uint64_t size, uint64_t floor, uint64_t ceiling)
{
	for (unsigned i = memory->ram_count; i-- > 0;) {
		const struct vn_ram *ram = &memory->ram[i];
		uint64_t low = ram->start.addr > floor ? ram->start.addr : floor;
		uint64_t end = ram->start.addr + ram->size;
		end = end < ceiling ? end : ceiling;
		uint64_t start = size <= end ? (end - size) & ~(PAGE_SIZE - 1) : 0;
		if (start >= low)
			return start;
	}
	return 0;
}

// More memory helps below the hole only, and as far up as the kernel looks for an initrd.
static int initrd_too_large(const struct vn_boot *boot, const struct vn_image *image,
	uint64_t floor, uint64_t ceiling, struct veneer_error *error)
{
	uint64_t needed = floor + image->size + PAGE_SIZE;
	char remedy[64] = "";
	if (needed <= initrd_limit(boot))
		snprintf(remedy, sizeof(remedy),
			"; behind the kernel, it needs %" PRIu64 "M of memory",
			(needed + MIB - 1) / MIB);
	return vn_fail(error, -E2BIG,
		"%s: an initrd of %" PRIu64 " KiB does not fit between the kernel's end at %" PRIu64
		" KiB and %" PRIu64 " KiB%s",
		image->name, image->size / 1024, floor / 1024, ceiling / 1024, remedy);
}

static int load_initrd(struct vn_boot *boot, const struct vn_memory *memory,
	const struct vn_image *image, struct veneer_error *error)
{
	uint64_t floor = initrd_floor(boot);
	uint64_t ceiling = initrd_ceiling(boot, memory);
	uint64_t start = initrd_place(memory, image->size, floor, ceiling);
	if (start == 0)
		return initrd_too_large(boot, image, floor, ceiling, error);
	void *host = vn_memory_at(memory, VN_GPA(start), image->size);
	if (!host)
		return vn_fail(error, -EFAULT, "%s: no memory for an initrd", image->name);
	boot->initrd_start = start;
	boot->initrd_end = start + image->size;
	return vn_image_read(image, 0, host, image->size, error);
}

static int open_kernel(struct vn_image *image, const char *path, const void *builtin,
	size_t builtin_size, struct veneer_error *error)
{
	if (path)
		return vn_image_open(image, path, error);
	vn_image_from_memory(image, "the built-in guest", builtin, builtin_size);
	return 0;
}

int vn_boot_load(struct vn_boot *boot, const struct vn_memory *memory, const char *kernel_path,
	const void *builtin, size_t builtin_size, const char *initrd_path,
	struct veneer_error *error)
{
	*boot = (struct vn_boot){0};
	struct vn_image image;
	int code = open_kernel(&image, kernel_path, builtin, builtin_size, error);
	if (code < 0)
		return code;
	code = load_kernel(boot, &image, memory, error);
	vn_image_close(&image);
	if (code < 0 || !initrd_path)
		return code;

	code = vn_image_open(&image, initrd_path, error);
	if (code < 0)
		return code;
	code = load_initrd(boot, memory, &image, error);
	vn_image_close(&image);
	return code;
}

static int write_cmdline(
	uint8_t *low, const struct vn_boot *boot, const char *cmdline, struct veneer_error *error)
{
	uint64_t max = VN_MAP_CMDLINE_MAX - 1;
	if (boot->setup_header.cmdline_size < max)
		max = boot->setup_header.cmdline_size;
	size_t length = strlen(cmdline);
	if (length > max)
		return vn_fail(error, -E2BIG,
			"the kernel command line has %zu bytes; this kernel takes %" PRIu64, length,
			max);
	memcpy(low + VN_MAP_CMDLINE, cmdline, length + 1);
	return 0;
}

int vn_boot_finish(const struct vn_boot *boot, const struct vn_machine *machine, vn_gpa rsdp,
	const void *dtb, size_t dtb_size, struct veneer_error *error)
{
	// A kernel above 1 MiB has been loaded, so this is RAM.
	uint8_t *low = vn_memory_at(machine->memory, VN_GPA(0), VN_MAP_KERNEL_MIN);
	if (!low)
		return vn_fail(error, -EFAULT, "the guest has less than 1 MiB of memory");
	int code = write_cmdline(low, boot, machine->cmdline, error);
	if (code < 0)
		return code;
	return boot->protocol == VN_BOOT_PVH
		       ? vn_pvh_write(low, boot, machine, rsdp, dtb, dtb_size, error)
		       : vn_linux_write(low, boot, machine, rsdp, dtb, dtb_size, error);
}

// After a reset, MTRRs are off, which makes all memory uncached and makes Linux give up PAT too;
// and Linux believes a cleared FAST_STRING bit, and avoids `rep movsb`.
int vn_boot_prepare_vcpu(int vcpu_fd, struct veneer_error *error)
{
	enum { MSR_MISC_ENABLE = 0x1a0, MSR_MTRR_DEF_TYPE = 0x2ff };
	enum { MISC_ENABLE_FAST_STRING = 1, MTRR_ENABLE = 1 << 11, MTRR_WRITE_BACK = 6 };
	union {
		struct kvm_msrs list;
		uint8_t room[sizeof(struct kvm_msrs) + 2 * sizeof(struct kvm_msr_entry)];
	} msrs = {.list.nmsrs = 2};
	struct kvm_msr_entry *entries = msrs.list.entries;
	entries[0].index = MSR_MISC_ENABLE;
	entries[1].index = MSR_MTRR_DEF_TYPE;
	int count = vn_kvm_ioctl(vcpu_fd, KVM_GET_MSRS, &msrs);
	if (count == 2) {
		entries[0].data |= MISC_ENABLE_FAST_STRING;
		entries[1].data = MTRR_ENABLE | MTRR_WRITE_BACK;
		count = vn_kvm_ioctl(vcpu_fd, KVM_SET_MSRS, &msrs);
	}
	if (count < 0)
		return vn_fail(error, count, "setting the boot MSRs: %s", strerror(-count));
	if (count < 2)
		return vn_fail(error, -EIO, "KVM refuses MSR 0x%x", entries[count].index);
	return 0;
}

int vn_boot_enter(const struct vn_boot *boot, int vcpu_fd, struct veneer_error *error)
{
	struct kvm_sregs sregs;
	int code = vn_kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);
	if (code < 0)
		return vn_fail(error, code, "KVM_GET_SREGS: %s", strerror(-code));
	struct kvm_regs regs;
	vn_entry_state(boot, &regs, &sregs);
	code = vn_kvm_ioctl(vcpu_fd, KVM_SET_SREGS, &sregs);
	if (code < 0)
		return vn_fail(error, code, "KVM_SET_SREGS: %s", strerror(-code));
	code = vn_kvm_ioctl(vcpu_fd, KVM_SET_REGS, &regs);
	if (code < 0)
		return vn_fail(error, code, "KVM_SET_REGS: %s", strerror(-code));
	return 0;
}
