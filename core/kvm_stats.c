// SPDX-License-Identifier: Apache-2.0
//
// The format: a header that says where three blocks are; an id; descriptors, each followed by a
// name of `name_size` bytes; and the data, 64-bit words to which the descriptors give offsets. The
// kernel wrote it, yet sizes are checked, because a mistake there would be memory overwritten here.
#include "core/kvm_stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/macros.h"

#define NAME_MAX_BYTES 256
#define DESCS_MAX      4096
#define DATA_MAX       MIB // bytes

int vn_kvm_stats_open(int fd)
{
	return ioctl(fd, KVM_GET_STATS_FD, NULL);
}

static int read_block(int fd, void *block, size_t size, uint64_t offset)
{
	ssize_t got;
	do {
		got = pread(fd, block, size, (off_t)offset);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	return (size_t)got == size ? 0 : -EPROTO;
}

// The descriptors as KVM has them, one behind the other.
struct descs {
	struct kvm_stats_header header;
	size_t each; // bytes of a descriptor with its name
	char *block;
};

static const struct kvm_stats_desc *desc_at(const struct descs *descs, uint32_t index)
{
	return (const struct kvm_stats_desc *)(descs->block + index * descs->each);
}

static int read_descs(int fd, struct vn_arena *arena, struct descs *descs)
{
	int code = read_block(fd, &descs->header, sizeof(descs->header), 0);
	if (code < 0)
		return code;
	const struct kvm_stats_header *header = &descs->header;
	descs->each = sizeof(struct kvm_stats_desc) + header->name_size;
	if (header->name_size == 0 || header->name_size > NAME_MAX_BYTES ||
		header->num_desc > DESCS_MAX || descs->each % _Alignof(struct kvm_stats_desc) != 0)
		return -EPROTO;
	size_t size = header->num_desc * descs->each;
	descs->block = vn_arena_alloc(arena, size);
	if (!descs->block)
		return -ENOMEM;
	return read_block(fd, descs->block, size, header->desc_offset);
}

// Bytes of the data block, as far as any descriptor reaches.
static int data_size(const struct descs *descs, size_t *size)
{
	*size = 0;
	for (uint32_t i = 0; i < descs->header.num_desc; i++) {
		const struct kvm_stats_desc *desc = desc_at(descs, i);
		uint64_t end = desc->offset + (uint64_t)desc->size * sizeof(uint64_t);
		if (desc->offset % sizeof(uint64_t) != 0 || end > DATA_MAX || desc->size == 0)
			return -EPROTO;
		if (memchr(desc->name, 0, descs->header.name_size) == NULL)
			return -EPROTO;
		if (end > *size)
			*size = end;
	}
	return 0;
}

// A kind or unit that a newer kernel has invented is as good as a plain number.
static struct veneer_kvm_stat describe(const struct kvm_stats_desc *desc, const uint64_t *values)
{
	uint32_t kind = (desc->flags & KVM_STATS_TYPE_MASK) >> KVM_STATS_TYPE_SHIFT;
	uint32_t unit = (desc->flags & KVM_STATS_UNIT_MASK) >> KVM_STATS_UNIT_SHIFT;
	uint32_t base = desc->flags & KVM_STATS_BASE_MASK;
	return (struct veneer_kvm_stat){.name = desc->name,
		.kind = kind <= KVM_STATS_TYPE_MAX ? (enum veneer_kvm_kind)kind
						   : VENEER_KVM_KIND_INSTANT,
		.unit = unit <= KVM_STATS_UNIT_MAX >> KVM_STATS_UNIT_SHIFT
				? (enum veneer_kvm_unit)unit
				: VENEER_KVM_UNIT_NONE,
		.base = base == KVM_STATS_BASE_POW2 ? 2 : 10,
		.exponent = desc->exponent,
		.bucket_size = desc->bucket_size,
		.value_count = desc->size,
		.values = values};
}

int vn_kvm_stats_read(int fd, struct vn_arena *arena, const struct veneer_kvm_stat *const **result)
{
	struct descs descs = {.header.num_desc = 0};
	size_t size = 0;
	int code = fd < 0 ? 0 : read_descs(fd, arena, &descs);
	if (code == 0)
		code = data_size(&descs, &size);
	if (code < 0)
		return code;
	uint32_t count = descs.header.num_desc;
	struct veneer_kvm_stat *stats = vn_arena_alloc(arena, count * sizeof(*stats));
	const struct veneer_kvm_stat **list = vn_arena_alloc(arena, (count + 1) * sizeof(*list));
	uint64_t *data = vn_arena_alloc(arena, size);
	if (!stats || !list || !data)
		return -ENOMEM;
	code = size > 0 ? read_block(fd, data, size, descs.header.data_offset) : 0;
	if (code < 0)
		return code;
	for (uint32_t i = 0; i < count; i++) {
		const struct kvm_stats_desc *desc = desc_at(&descs, i);
		stats[i] = describe(desc, data + desc->offset / sizeof(uint64_t));
		list[i] = &stats[i];
	}
	*result = list;
	return 0;
}
