// SPDX-License-Identifier: Apache-2.0
//
// From a kernel's file to a vCPU about to run it.
#include "arch/x86/boot.h"

#include <assert.h>
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

#define CHUNK     (256 * KIB)
#define PAGE_SIZE 4096ull

// What a guest boots from, opened and looked at; belongs to who opened it.
struct vn_boot_source {
	struct vn_image kernel, initrd;
	bool has_initrd;
	bool decompresses_itself; // else `elf` is loaded, from the file or out of `bzimage`
	bool is_bzimage;
	struct vn_bzimage bzimage;
	struct vn_elf elf;
};

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

// Once the headers are read.
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

// The headers and the notes, which is all that decides how the kernel is entered.
static int look_at_elf(const struct vn_image *image, struct vn_elf *elf)
{
	uint8_t head[VN_ELF_HEAD_MAX];
	size_t size = image->size < sizeof(head) ? (size_t)image->size : sizeof(head);
	int code = vn_image_read(image, 0, head, size, elf->error);
	if (code == 0)
		code = vn_elf_look(elf, head, size);
	if (code >= 0)
		code = vn_elf_check_size(elf, image->size);
	for (unsigned i = 0; code == 0 && i < elf->note_count; i++) {
		const struct vn_elf_piece *note = &elf->note_pieces[i];
		if (note->file_size > 0)
			code = vn_image_read(
				image, note->offset, note->host, note->file_size, elf->error);
	}
	if (code < 0)
		return code;
	vn_elf_rewind(elf);
	return vn_elf_find_pvh(elf);
}

static int open_elf(struct vn_boot *boot, const struct vn_image *image, struct vn_elf *elf)
{
	int code = look_at_elf(image, elf);
	if (code < 0)
		return code;
	vn_linux_default_header(&boot->setup_header);
	boot->protocol = elf->pvh_entry ? VN_BOOT_PVH : VN_BOOT_LINUX64;
	return enter_elf(boot, elf, elf->pvh_entry ? elf->pvh_entry : elf->entry);
}

// The kernel's own decompressor works within its init_size bytes.
static int open_protected_mode(struct vn_boot *boot, const struct vn_bzimage *bzimage,
	const struct vn_memory *memory, struct veneer_error *error)
{
	int code = vn_bzimage_place(bzimage, memory, &boot->kernel_start, error);
	if (code < 0)
		return code;
	boot->kernel_end = boot->kernel_start + boot->setup_header.init_size;
	boot->setup_header.code32_start = (uint32_t)boot->kernel_start;
	boot->entry = VN_GPA(boot->kernel_start + VN_BZIMAGE_ENTRY64);
	return 0;
}

static int open_bzimage(struct vn_boot *boot, struct vn_boot_source *source)
{
	struct vn_elf *elf = &source->elf;
	int code = vn_bzimage_open(&source->bzimage, &source->kernel, elf->error);
	if (code < 0)
		return code;
	boot->protocol = VN_BOOT_LINUX64;
	boot->setup_header = source->bzimage.header;
	source->is_bzimage = true;
	source->decompresses_itself = !source->bzimage.on_host;
	if (source->decompresses_itself)
		return open_protected_mode(boot, &source->bzimage, elf->memory, elf->error);
	code = vn_bzimage_look(&source->bzimage, elf);
	return code < 0 ? code : enter_elf(boot, elf, elf->entry);
}

static int look_at_kernel(struct vn_boot *boot, struct vn_boot_source *source,
	const struct vn_memory *memory, struct veneer_error *error)
{
	const struct vn_image *image = &source->kernel;
	vn_elf_begin(&source->elf, image->name, memory, error);
	if (vn_bzimage_recognise(image))
		return open_bzimage(boot, source);
	char magic[SELFMAG] = "";
	size_t size = image->size < SELFMAG ? (size_t)image->size : SELFMAG;
	int code = vn_image_read(image, 0, magic, size, error);
	if (code < 0)
		return code;
	if (memcmp(magic, ELFMAG, SELFMAG) != 0)
		return vn_fail(error, -ENOEXEC, "%s: neither an ELF kernel nor a Linux bzImage",
			image->name);
	return open_elf(boot, image, &source->elf);
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

static int place_initrd(struct vn_boot *boot, const struct vn_memory *memory,
	const struct vn_image *image, struct veneer_error *error)
{
	uint64_t floor = initrd_floor(boot);
	uint64_t ceiling = initrd_ceiling(boot, memory);
	uint64_t start = initrd_place(memory, image->size, floor, ceiling);
	if (start == 0)
		return initrd_too_large(boot, image, floor, ceiling, error);
	boot->initrd_start = start;
	boot->initrd_end = start + image->size;
	return 0;
}

static int open_kernel(struct vn_boot_source *source, struct vn_boot *boot,
	const struct vn_boot_files *files, const struct vn_memory *memory,
	struct veneer_error *error)
{
	int code = 0;
	if (files->kernel)
		code = vn_image_open(&source->kernel, files->kernel, error);
	else
		vn_image_from_memory(
			&source->kernel, "the built-in guest", files->builtin, files->builtin_size);
	return code == 0 ? look_at_kernel(boot, source, memory, error) : code;
}

static int open_initrd(struct vn_boot_source *source, struct vn_boot *boot,
	const struct vn_boot_files *files, const struct vn_memory *memory,
	struct veneer_error *error)
{
	int code = vn_image_open(&source->initrd, files->initrd, error);
	if (code < 0)
		return code;
	source->has_initrd = true;
	return place_initrd(boot, memory, &source->initrd, error);
}

// Return `code`; on failure, say in the message and the key which option it is about.
static int of_option(const char *option, int code, struct veneer_error *error)
{
	if (code < 0) {
		vn_error_set_key(error, "%s", option);
		vn_error_insert(error, 0, ": ");
		vn_error_insert(error, 0, option);
	}
	return code;
}

int vn_boot_open(struct vn_boot_source **result, struct vn_boot *boot,
	const struct vn_boot_files *files, const struct vn_memory *memory,
	struct veneer_error *error)
{
	*boot = (struct vn_boot){0};
	struct vn_boot_source *source = calloc(1, sizeof(*source));
	if (!source)
		return vn_fail(error, -ENOMEM, "no memory for a kernel's headers");
	source->kernel.fd = source->initrd.fd = -1;
	int code = of_option("kernel", open_kernel(source, boot, files, memory, error), error);
	if (code == 0 && files->initrd)
		code = of_option("initrd", open_initrd(source, boot, files, memory, error), error);
	if (code < 0) {
		vn_boot_close(source);
		return code;
	}
	*result = source;
	return 0;
}

static int load_kernel(struct vn_boot_source *source, const struct vn_boot *boot,
	const struct vn_memory *memory, struct veneer_error *error)
{
	const struct vn_image *image = &source->kernel;
	struct vn_elf *elf = &source->elf;
	elf->error = error;
	if (source->decompresses_itself)
		return vn_bzimage_load(&source->bzimage, memory, boot->kernel_start, error);
	if (source->is_bzimage)
		return vn_bzimage_decompress(&source->bzimage, elf);
	// What is in memory already needs no pieces.
	int code = image->fd < 0 ? vn_elf_write(elf, image->data, image->size)
				 : load_elf_file(image, elf);
	return code == 0 ? vn_elf_finish(elf) : code;
}

static int load_initrd(const struct vn_boot_source *source, const struct vn_boot *boot,
	const struct vn_memory *memory, struct veneer_error *error)
{
	const struct vn_image *image = &source->initrd;
	void *host = vn_memory_at(memory, VN_GPA(boot->initrd_start), image->size);
	if (!host)
		return vn_fail(error, -EFAULT, "%s: no memory for an initrd", image->name);
	return vn_image_read(image, 0, host, image->size, error);
}

int vn_boot_load(struct vn_boot_source *source, const struct vn_boot *boot,
	const struct vn_memory *memory, struct veneer_error *error)
{
	int code = of_option("kernel", load_kernel(source, boot, memory, error), error);
	if (code == 0 && source->has_initrd)
		code = of_option("initrd", load_initrd(source, boot, memory, error), error);
	return code;
}

void vn_boot_close(struct vn_boot_source *source)
{
	if (!source)
		return;
	vn_image_close(&source->kernel);
	vn_image_close(&source->initrd);
	free(source);
}

int vn_boot_check_cmdline(
	const struct vn_boot *boot, const char *cmdline, struct veneer_error *error)
{
	uint64_t max = VN_MAP_CMDLINE_MAX - 1;
	if (boot->setup_header.cmdline_size < max)
		max = boot->setup_header.cmdline_size;
	size_t length = strlen(cmdline);
	if (length <= max)
		return 0;
	vn_fail(error, -E2BIG, "the kernel command line has %zu bytes; this kernel takes %" PRIu64,
		length, max);
	vn_error_set_key(error, "cmdline");
	return -E2BIG;
}

int vn_boot_finish(const struct vn_boot *boot, const struct vn_machine *machine, vn_gpa rsdp,
	const void *dtb, size_t dtb_size, struct veneer_error *error)
{
	// A kernel above 1 MiB has been loaded, so this is RAM.
	uint8_t *low = vn_memory_at(machine->memory, VN_GPA(0), VN_MAP_KERNEL_MIN);
	if (!low)
		return vn_fail(error, -EFAULT, "the guest has less than 1 MiB of memory");
	assert(strlen(machine->cmdline) < VN_MAP_CMDLINE_MAX); // vn_boot_check_cmdline()
	strcpy((char *)low + VN_MAP_CMDLINE, machine->cmdline);
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
