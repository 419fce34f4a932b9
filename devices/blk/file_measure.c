// SPDX-License-Identifier: Apache-2.0
//
// Measuring a file or block device: block sizes, what it can clear, the alignment that O_DIRECT
// needs.
#include "devices/blk/file_measure.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

// A file system's blocks may be larger, but are not read to write a part of them.
#define PHYSICAL_MAX 4096
// Beyond this, O_DIRECT's alignment is not looked for.
#define ALIGN_MAX 65536

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

int vn_blk_file_no_direct(const char *path, struct veneer_error *error)
{
	return vn_fail(error, -EINVAL,
		"disk %s: its file system has no O_DIRECT, "
		"which cache=none and cache=directsync need; "
		"use cache=writeback or cache=writethrough",
		path);
}

// A number of a block device's queue; a partition has its disk's. 0 where there is none to read.
static uint64_t read_limit(dev_t number, const char *name)
{
	static const char *const places[] = {"queue", "../queue"};
	uint64_t limit = 0;
	bool found = false;
	for (unsigned i = 0; i < 2 && !found; i++) {
		char path[96];
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(number),
			minor(number), places[i], name);
		FILE *stream = fopen(path, "re");
		if (!stream)
			continue;
		found = fscanf(stream, "%lu", &limit) == 1;
		fclose(stream);
	}
	return found ? limit : 0;
}

// The block size that partition tables on a block device are written in, what it had better be
// accessed in, and what it can clear. A hole there is zeroes written with leave to unmap, without
// which a device has no use for fallocate() as a discard.
static int measure_device(struct vn_blk_backend *backend, int fd, const char *path, dev_t number,
	struct veneer_error *error)
{
	int block_size;
	unsigned physical, io_min = 0, io_best = 0;
	int alignment = 0;
	if (ioctl(fd, BLKSSZGET, &block_size) < 0 || ioctl(fd, BLKPBSZGET, &physical) < 0)
		return vn_fail(error, -errno, "disk %s: its block size is unknown: %s", path,
			strerror(errno));
	if (ioctl(fd, BLKIOMIN, &io_min) == 0)
		backend->io_min = io_min;
	if (ioctl(fd, BLKIOOPT, &io_best) == 0)
		backend->io_best = io_best;
	if (ioctl(fd, BLKALIGNOFF, &alignment) == 0 && alignment > 0)
		backend->alignment = (uint32_t)alignment;
	backend->block_size = (uint32_t)block_size;
	backend->physical_size = physical;
	backend->zeroes = !backend->readonly;
	backend->discards = !backend->readonly && read_limit(number, "discard_max_bytes") > 0 &&
			    read_limit(number, "write_zeroes_max_bytes") > 0;
	backend->zero_align = (uint32_t)block_size;
	return 0;
}

static bool is_power_of_two(uint64_t value)
{
	return value > 0 && (value & (value - 1)) == 0;
}

// A file is accessed best in its file system's blocks. Whether holes can be punched is asked where
// there is nothing to lose, behind its end.
static void measure_file(struct vn_blk_backend *backend, int fd, const struct stat *status)
{
	uint32_t block = (uint32_t)status->st_blksize;
	backend->block_size = VN_BLK_SECTOR;
	backend->physical_size = VN_BLK_SECTOR;
	if (is_power_of_two((uint64_t)status->st_blksize) && block >= VN_BLK_SECTOR) {
		backend->physical_size = block < PHYSICAL_MAX ? block : PHYSICAL_MAX;
		backend->io_best = block > PHYSICAL_MAX ? block : 0;
	}
	backend->io_min = backend->physical_size;
	backend->discards =
		!backend->readonly && fallocate(fd, PUNCH, status->st_size, PHYSICAL_MAX) == 0;
	backend->zeroes = backend->discards;
	backend->zero_align = 1;
}

// The smallest size that a read at the beginning may have. File systems that look at alignment do
// so before anything else.
static uint32_t try_alignment(int fd)
{
	void *memory;
	uint32_t align = VN_BLK_SECTOR;
	if (posix_memalign(&memory, ALIGN_MAX, ALIGN_MAX) != 0)
		return align;
	while (align < ALIGN_MAX && pread(fd, memory, align, 0) < 0 && errno == EINVAL)
		align *= 2;
	free(memory);
	return align;
}

// What O_DIRECT needs: as statx(2) says, Linux 6.1; else a block device's block size, or what a
// file's reads show.
static int measure_direct(struct vn_blk_file_traits *traits, const struct vn_blk_backend *backend,
	int fd, const char *path, struct veneer_error *error)
{
	struct statx status;
	bool told = statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
		    (status.stx_mask & STATX_DIOALIGN);
	if (told && status.stx_dio_offset_align == 0)
		return vn_blk_file_no_direct(path, error);
	if (told) {
		traits->align = status.stx_dio_offset_align;
		traits->memory_align = status.stx_dio_mem_align;
	} else {
		traits->align = traits->device ? backend->block_size : try_alignment(fd);
		traits->memory_align = traits->align;
	}
	if (traits->align < VN_BLK_SECTOR)
		traits->align = VN_BLK_SECTOR;
	return 0;
}

// What IOPOLL needs below O_DIRECT: a device with queues that are polled.
static int check_polling(const char *path, dev_t number, struct veneer_error *error)
{
	if (read_limit(number, "io_poll") == 1)
		return 0;
	vn_fail(error, -EOPNOTSUPP,
		"disk %s: iopoll=on: "
		"its device has no queues that are polled (io_poll in /sys/block/*/queue); "
		"an NVMe device has them with nvme.poll_queues=N on the host's kernel command line",
		path);
	vn_error_set_key(error, "disk.iopoll");
	return -EOPNOTSUPP;
}

// The block size that was asked for; and what a driver had better keep to is not below what
// O_DIRECT needs.
static void apply(const struct vn_blk_file_traits *traits, struct vn_blk_backend *backend,
	const struct vn_blk_options *disk)
{
	if (disk->block_size)
		backend->block_size = (uint32_t)disk->block_size;
	uint32_t least = traits->align > backend->block_size ? traits->align : backend->block_size;
	if (backend->physical_size < least)
		backend->physical_size = least;
	if (backend->io_min < traits->align)
		backend->io_min = traits->align;
}

int vn_blk_file_measure(struct vn_blk_file_traits *traits, struct vn_blk_backend *backend, int fd,
	const char *path, const struct vn_blk_options *disk, struct veneer_error *error)
{
	struct stat status;
	int code = 0;
	if (fstat(fd, &status) < 0)
		return vn_fail(error, -errno, "disk %s: %s", path, strerror(errno));
	*traits = (struct vn_blk_file_traits){
		.device = S_ISBLK(status.st_mode), .align = 1, .memory_align = 1};
	dev_t number = traits->device ? status.st_rdev : status.st_dev;
	if (traits->device)
		code = measure_device(backend, fd, path, number, error);
	else
		measure_file(backend, fd, &status);
	if (code == 0 && backend->direct)
		code = measure_direct(traits, backend, fd, path, error);
	if (code == 0 && disk->iopoll)
		code = check_polling(path, number, error);
	if (code == 0)
		apply(traits, backend, disk);
	return code;
}
