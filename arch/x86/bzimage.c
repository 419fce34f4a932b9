// SPDX-License-Identifier: Apache-2.0
//
// Finding the payload of a bzImage (Linux Documentation/arch/x86/boot.rst).
#include "arch/x86/bzimage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/x86/decompress.h"

#define SECTOR             512u
#define HEADER_OFFSET      0x1f1u // of struct setup_header
#define HEADER_END         0x202u // with setup_sects in byte 0x201: where the header ends
#define HEADER_MAGIC       0x53726448u // "HdrS"
#define BOOT_FLAG          0xaa55u
#define VERSION_PAYLOAD    0x0208 // has payload_offset and payload_length
#define VERSION_XLOADFLAGS 0x020c

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

static int check_header(
	const struct vn_image *image, const struct setup_header *header, struct veneer_error *error)
{
	if (header->version < VERSION_PAYLOAD)
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel speaks boot protocol %u.%02u; 2.08 or newer is needed",
			image->name, header->version >> 8, header->version & 0xff);
	// Older ones are told apart by the ELF file in the payload.
	if (header->version >= VERSION_XLOADFLAGS && !(header->xloadflags & XLF_KERNEL_64))
		return vn_fail(error, -ENOEXEC, "%s: not a 64-bit kernel", image->name);
	return 0;
}

static int find_payload(const struct vn_image *image, const struct setup_header *header,
	uint64_t *offset, struct veneer_error *error)
{
	// 0 means 4, for the sake of ancient kernels.
	uint64_t sectors = header->setup_sects ? header->setup_sects : 4;
	uint64_t setup_size = (sectors + 1) * SECTOR;
	if (setup_size >= image->size)
		return vn_fail(error, -ENOEXEC,
			"%s: the kernel's setup part, %" PRIu64 " bytes, is longer than the file",
			image->name, setup_size);
	if (header->payload_length == 0)
		return vn_fail(error, -ENOEXEC, "%s: the kernel has no payload", image->name);
	*offset = setup_size + header->payload_offset;
	if (*offset + header->payload_length > image->size)
		return vn_fail(error, -ENOEXEC,
			"%s: the file is cut short: the kernel's payload ends at %" PRIu64
			", the file at %" PRIu64,
			image->name, *offset + header->payload_length, image->size);
	return 0;
}

static int write_elf(void *opaque, const void *data, size_t size)
{
	return vn_elf_write(opaque, data, size);
}

int vn_bzimage_load(const struct vn_image *image, struct setup_header *header, struct vn_elf *elf)
{
	int code = read_header(image, header, elf->error);
	if (code < 0)
		return code;
	code = check_header(image, header, elf->error);
	if (code < 0)
		return code;
	uint64_t offset = 0;
	code = find_payload(image, header, &offset, elf->error);
	if (code < 0)
		return code;
	const struct vn_sink sink = {.write = write_elf, .opaque = elf};
	code = vn_decompress(image, offset, header->payload_length, &sink, elf->error);
	if (code < 0)
		return code;
	return vn_elf_finish(elf);
}
