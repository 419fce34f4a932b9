// SPDX-License-Identifier: Apache-2.0
//
// What a bzImage's header says (Linux Documentation/arch/x86/boot.rst), and loading by it.
#include "arch/x86/bzimage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/x86/decompress.h"
#include "arch/x86/map.h"
#include "base/macros.h"

#define SECTOR             512u
#define HEADER_OFFSET      0x1f1u // of struct setup_header
#define HEADER_END         0x202u // with setup_sects in byte 0x201: where the header ends
#define HEADER_MAGIC       0x53726448u // "HdrS"
#define BOOT_FLAG          0xaa55u
#define VERSION_PAYLOAD    0x0208 // has payload_offset and payload_length
#define VERSION_XLOADFLAGS 0x020c
#define PARAGRAPH          16u // the unit of syssize

bool vn_bzimage_recognise(const struct vn_image *image)
{
	struct setup_header header;
	if (vn_image_read(image, HEADER_OFFSET, &header, sizeof(header), NULL) < 0)
		return false;
	return header.boot_flag == BOOT_FLAG && header.header == HEADER_MAGIC;
}

// Fields beyond the length that the kernel gives its header are not there.
static int read_header(
	const struct vn_image *image, struct setup_header *header, struct veneer_error *error)
{
	int code = vn_image_read(image, HEADER_OFFSET, header, sizeof(*header), error);
	if (code < 0)
		return code;
	size_t size = HEADER_END + (header->jump >> 8) - HEADER_OFFSET;
	if (size < sizeof(*header))
		memset((uint8_t *)header + size, 0, sizeof(*header) - size);
	return 0;
}

// 0 means 4, for the sake of ancient kernels.
static int find_setup_size(struct vn_bzimage *bzimage, struct veneer_error *error)
{
	uint64_t sectors = bzimage->header.setup_sects ? bzimage->header.setup_sects : 4;
	bzimage->setup_size = (sectors + 1) * SECTOR;
	if (bzimage->setup_size >= bzimage->image->size)
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel's setup part, %" PRIu64 " bytes, is longer than the file",
			bzimage->image->name, bzimage->setup_size);
	return 0;
}

// That part of the file whose length the header gives has to be there.
static int check_end(const struct vn_bzimage *bzimage, const char *part, uint64_t offset,
	uint64_t size, struct veneer_error *error)
{
	uint64_t end = bzimage->setup_size + offset + size;
	if (end > bzimage->image->size)
		return vn_fail(error, -ENOEXEC,
			"%s: the file is cut short: the kernel's %s ends at %" PRIu64
			", the file at %" PRIu64,
			bzimage->image->name, part, end, bzimage->image->size);
	return 0;
}

// A payload that the header does not mention, or in another format, is not for the host.
static int look_at_payload(struct vn_bzimage *bzimage, struct veneer_error *error)
{
	const struct setup_header *header = &bzimage->header;
	if (header->version < VERSION_PAYLOAD || header->payload_length == 0)
		return 0;
	int code = check_end(
		bzimage, "payload", header->payload_offset, header->payload_length, error);
	if (code < 0)
		return code;
	return vn_decompress_supports(bzimage->image, bzimage->setup_size + header->payload_offset,
		header->payload_length, &bzimage->on_host, error);
}

// Before 2.12, the ELF file in a payload tells a 64-bit kernel; that there is an entry point,
// nothing does.
static int check_entry(const struct vn_bzimage *bzimage, struct veneer_error *error)
{
	const struct setup_header *header = &bzimage->header;
	if (header->version >= VERSION_XLOADFLAGS && !(header->xloadflags & XLF_KERNEL_64))
		return vn_fail(error, -ENOEXEC,
			"%s: not a 64-bit kernel: its header names no 64-bit entry point",
			bzimage->image->name);
	if (header->version < VERSION_XLOADFLAGS && !bzimage->on_host)
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel must decompress itself, "
			"as it names no gzip, xz, zstd or lz4 payload; "
			"but it speaks boot protocol %u.%02u, "
			"and the 64-bit entry point needs 2.12",
			bzimage->image->name, header->version >> 8, header->version & 0xff);
	return 0;
}

int vn_bzimage_open(
	struct vn_bzimage *bzimage, const struct vn_image *image, struct veneer_error *error)
{
	*bzimage = (struct vn_bzimage){.image = image};
	int code = read_header(image, &bzimage->header, error);
	if (code == 0)
		code = find_setup_size(bzimage, error);
	if (code == 0)
		code = look_at_payload(bzimage, error);
	return code < 0 ? code : check_entry(bzimage, error);
}

static int write_elf(void *opaque, const void *data, size_t size)
{
	return vn_elf_write(opaque, data, size);
}

// What a sink returns when it has seen enough; nothing else in a decompression does.
#define ENOUGH (-EXFULL)

static int look_at_elf(void *opaque, const void *data, size_t size)
{
	int code = vn_elf_look(opaque, data, size);
	return code > 0 ? ENOUGH : code;
}

int vn_bzimage_look(const struct vn_bzimage *bzimage, struct vn_elf *elf)
{
	const struct vn_sink sink = {.write = look_at_elf, .opaque = elf};
	int code =
		vn_decompress(bzimage->image, bzimage->setup_size + bzimage->header.payload_offset,
			bzimage->header.payload_length, &sink, elf->error);
	if (code == ENOUGH) {
		vn_elf_rewind(elf);
		return 0;
	}
	return code < 0 ? code : vn_elf_check_size(elf, 0); // it ends within its headers
}

int vn_bzimage_decompress(const struct vn_bzimage *bzimage, struct vn_elf *elf)
{
	const struct vn_sink sink = {.write = write_elf, .opaque = elf};
	int code =
		vn_decompress(bzimage->image, bzimage->setup_size + bzimage->header.payload_offset,
			bzimage->header.payload_length, &sink, elf->error);
	return code < 0 ? code : vn_elf_finish(elf);
}

// The bytes of the protected-mode part. What the file has after them, such as a signature, is not
// the kernel's.
static int check_part(const struct vn_bzimage *bzimage, uint64_t *size, struct veneer_error *error)
{
	*size = (uint64_t)bzimage->header.syssize * PARAGRAPH;
	int code = check_end(bzimage, "protected-mode part", 0, *size, error);
	if (code < 0)
		return code;
	if (*size <= VN_BZIMAGE_ENTRY64)
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel's protected-mode part, %" PRIu64
			" bytes, ends before its 64-bit entry point",
			bzimage->image->name, *size);
	if (bzimage->header.init_size < *size)
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel's init_size, %u bytes, "
			"is less than its protected-mode part, %" PRIu64,
			bzimage->image->name, bzimage->header.init_size, *size);
	return 0;
}

static int check_address(const struct vn_bzimage *bzimage, struct veneer_error *error)
{
	const struct setup_header *header = &bzimage->header;
	if (header->pref_address < VN_MAP_KERNEL_MIN || header->pref_address >= VN_MAP_HOLE)
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel prefers address 0x%" PRIx64
			"; kernels are loaded between 1 MiB and 3 GiB",
			bzimage->image->name, (uint64_t)header->pref_address);
	uint32_t align = header->kernel_alignment;
	if (header->relocatable_kernel && (align == 0 || (align & (align - 1)) != 0))
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel's alignment, %u, is not a power of two",
			bzimage->image->name, align);
	return 0;
}

// The address that the kernel prefers, or where that has no room and the kernel is relocatable, the
// lowest suitable one above: it never runs below. 0: none. The hole's beginning is also where the
// page tables at the entry point could not follow.
static uint64_t find_place(const struct setup_header *header, const struct vn_memory *memory)
{
	const uint64_t align = header->relocatable_kernel ? header->kernel_alignment : 1;
	for (unsigned i = 0; i < memory->ram_count; i++) {
		const struct vn_ram *ram = &memory->ram[i];
		uint64_t start = ram->start.addr;
		if (start >= VN_MAP_HOLE)
			break;
		if (start < header->pref_address)
			start = header->pref_address;
		start = (start + align - 1) & ~(align - 1);
		if (start != header->pref_address && !header->relocatable_kernel)
			break;
		uint64_t end = ram->start.addr + ram->size;
		if (start < end && header->init_size <= end - start)
			return start;
	}
	return 0;
}

int vn_bzimage_place(const struct vn_bzimage *bzimage, const struct vn_memory *memory,
	uint64_t *start, struct veneer_error *error)
{
	uint64_t size;
	int code = check_part(bzimage, &size, error);
	if (code == 0)
		code = check_address(bzimage, error);
	if (code < 0)
		return code;
	*start = find_place(&bzimage->header, memory);
	if (!*start)
		return vn_fail(error, -E2BIG,
			"%s: the kernel needs %" PRIu64
			"M of memory to decompress itself, and the guest has %" PRIu64 "K",
			bzimage->image->name,
			((uint64_t)bzimage->header.pref_address + bzimage->header.init_size + MIB -
				1) /
				MIB,
			memory->size / 1024);
	return 0;
}

int vn_bzimage_load(const struct vn_bzimage *bzimage, const struct vn_memory *memory,
	uint64_t start, struct veneer_error *error)
{
	uint64_t size = (uint64_t)bzimage->header.syssize * PARAGRAPH;
	void *host = vn_memory_at(memory, VN_GPA(start), size);
	if (!host)
		return vn_fail(
			error, -EFAULT, "%s: no memory for the kernel", bzimage->image->name);
	return vn_image_read(bzimage->image, bzimage->setup_size, host, size, error);
}
