// SPDX-License-Identifier: Apache-2.0
//
// The file backend: opening, which finds out what the file is and what O_DIRECT needs, and the data
// path, which is one submission for each operation and further ones for what a short transfer left or
// what the host does only in steps.
#include "devices/blk_file.h"

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

#include "devices/blk_file_format.h"
#include "vmm/iovec.h"

#define SECTOR 512
// A file system's blocks may be larger, but are not read to write a part of them.
#define PHYSICAL_MAX 4096

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

// Immutable once opened, but for the capacity.
struct blk_file {
	struct vn_blk_backend backend;
	char *path; // for messages
	int fd;
	bool device; // a block device
	bool unsafe; // nothing need be stable
	uint32_t memory_align; // of buffers for O_DIRECT; a power of two
};

static struct blk_file *from_backend(struct vn_blk_backend *backend)
{
	return (struct blk_file *)((char *)backend - offsetof(struct blk_file, backend));
}

// Move along by what has been transferred.
static void advance(struct vn_blk_io *io, size_t size)
{
	io->offset += size;
	io->size -= size;
	vn_iovec_advance(&io->iov, &io->iov_count, size);
}

static void finish(struct vn_blk_io *io, int code, const char *reason)
{
	free(io->bounce.iov_base);
	io->bounce.iov_base = NULL;
	io->done(io, code, reason);
}

static bool is_aligned(const struct blk_file *file, const struct vn_blk_io *io)
{
	for (unsigned i = 0; i < io->iov_count; i++) {
		uintptr_t base = (uintptr_t)io->iov[i].iov_base;
		if ((base & (file->memory_align - 1)) != 0 ||
			(io->iov[i].iov_len & (file->backend.block_size - 1)) != 0)
			return false;
	}
	return true;
}

// Submit what is left of a read or write, or the next step of it through the bounce buffer.
static void transfer(struct blk_file *file, struct vn_blk_io *io)
{
	const struct iovec *iov = io->iov;
	unsigned count = io->iov_count;
	if (io->bounce.iov_base) {
		io->bounce.iov_len = io->size < VN_BLK_BOUNCE_MAX ? io->size : VN_BLK_BOUNCE_MAX;
		if (io->kind == VN_BLK_WRITE)
			vn_iovec_gather(io->bounce.iov_base, io->iov, io->bounce.iov_len);
		iov = &io->bounce;
		count = 1;
	}
	struct io_uring_sqe *sqe = vn_ioloop_transfer_sqe(io->loop, &io->op);
	if (io->kind == VN_BLK_READ && count == 1)
		io_uring_prep_read(
			sqe, file->fd, iov->iov_base, (unsigned)iov->iov_len, io->offset);
	else if (io->kind == VN_BLK_READ)
		io_uring_prep_readv(sqe, file->fd, iov, count, io->offset);
	else if (count == 1)
		io_uring_prep_write(
			sqe, file->fd, iov->iov_base, (unsigned)iov->iov_len, io->offset);
	else
		io_uring_prep_writev(sqe, file->fd, iov, count, io->offset);
	if (io->kind == VN_BLK_WRITE && io->stable)
		sqe->rw_flags = RWF_DSYNC;
	vn_ioloop_use_registered(io->loop, sqe);
}

static void transferred(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = (struct vn_blk_io *)((char *)op - offsetof(struct vn_blk_io, op));
	struct blk_file *file = from_backend(io->backend);
	if (result == -EINTR || result == -EAGAIN) {
		transfer(file, io);
		return;
	}
	if (result < 0) {
		finish(io, result, NULL);
		return;
	}
	size_t size = (size_t)result;
	if (size > 0 && io->kind == VN_BLK_READ && io->bounce.iov_base)
		vn_iovec_scatter(io->iov, io->bounce.iov_base, size);
	advance(io, size);
	if (io->size == 0)
		finish(io, 0, NULL);
	else if (size == 0 || (file->backend.direct && size % file->backend.block_size != 0))
		finish(io, -EIO, io->kind == VN_BLK_READ ? "the file has become shorter" : NULL);
	else
		transfer(file, io);
}

static void flushed(struct vn_ioloop_op *op, int result, uint32_t flags);

static void flush(struct blk_file *file, struct vn_blk_io *io)
{
	io->op.complete = flushed;
	struct io_uring_sqe *sqe = vn_ioloop_sqe(io->loop, &io->op);
	io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	vn_ioloop_use_registered(io->loop, sqe);
}

static void flushed(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = (struct vn_blk_io *)((char *)op - offsetof(struct vn_blk_io, op));
	if (result == -EINTR || result == -EAGAIN)
		flush(from_backend(io->backend), io);
	else
		finish(io, result, NULL);
}

static void submit_transfer(struct blk_file *file, struct vn_blk_io *io)
{
	io->op.complete = transferred;
	if (file->backend.direct &&
		((io->offset | io->size) & (file->backend.block_size - 1)) != 0) {
		finish(io, -EINVAL,
			"O_DIRECT: offset and size are not multiples of the block size");
		return;
	}
	if (file->backend.direct && !is_aligned(file, io)) {
		size_t align =
			file->memory_align > sizeof(void *) ? file->memory_align : sizeof(void *);
		int code = posix_memalign(&io->bounce.iov_base, align, VN_BLK_BOUNCE_MAX);
		if (code > 0) {
			io->bounce.iov_base = NULL;
			finish(io, -code, NULL);
			return;
		}
	}
	transfer(file, io);
}

// The steps of clearing a range.
enum step {
	STEP_PUNCH, // a hole, which reads as zero
	STEP_ZERO, // zeroes in place
	STEP_REPUNCH, // where the file system cannot do that: a hole...
	STEP_FILL, // ...and new blocks in it
	STEP_SYNC,
};

static void cleared(struct vn_ioloop_op *op, int result, uint32_t flags);

static void clear(struct blk_file *file, struct vn_blk_io *io, enum step step)
{
	static const int modes[] = {[STEP_PUNCH] = PUNCH,
		[STEP_ZERO] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		[STEP_REPUNCH] = PUNCH,
		[STEP_FILL] = FALLOC_FL_KEEP_SIZE};
	io->op.complete = cleared;
	io->step = step;
	struct io_uring_sqe *sqe = vn_ioloop_sqe(io->loop, &io->op);
	if (step == STEP_SYNC)
		io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	else
		io_uring_prep_fallocate(
			sqe, file->fd, modes[step], (off_t)io->offset, (off_t)io->size);
	vn_ioloop_use_registered(io->loop, sqe);
}

// Another way to the same end, where the host does not know this one. A block device knows
// STEP_ZERO always, a file that got this far STEP_PUNCH.
static bool retry(struct blk_file *file, struct vn_blk_io *io)
{
	if (io->kind != VN_BLK_ZERO)
		return false;
	if (io->step == STEP_PUNCH)
		clear(file, io, STEP_ZERO);
	else if (io->step == STEP_ZERO && !io->unmap && !file->device)
		clear(file, io, STEP_REPUNCH);
	else
		return false;
	return true;
}

static void cleared(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = (struct vn_blk_io *)((char *)op - offsetof(struct vn_blk_io, op));
	struct blk_file *file = from_backend(io->backend);
	if (result == -EINTR || result == -EAGAIN)
		clear(file, io, io->step);
	else if (result == -EOPNOTSUPP && retry(file, io))
		return;
	else if (result < 0 && io->step != STEP_FILL) // the hole reads as zero anyway
		finish(io, result, NULL);
	else if (io->step == STEP_REPUNCH)
		clear(file, io, STEP_FILL);
	else if (io->stable && io->step != STEP_SYNC)
		clear(file, io, STEP_SYNC);
	else
		finish(io, 0, NULL);
}

static void submit(struct vn_blk_backend *backend, struct vn_ioloop *loop, struct vn_blk_io *io)
{
	struct blk_file *file = from_backend(backend);
	io->backend = backend;
	io->loop = loop;
	io->bounce.iov_base = NULL;
	if (file->unsafe)
		io->stable = false;
	if (io->kind == VN_BLK_FLUSH && file->unsafe)
		finish(io, 0, NULL);
	else if (io->kind == VN_BLK_FLUSH)
		flush(file, io);
	else if (io->kind == VN_BLK_DISCARD)
		clear(file, io, STEP_PUNCH);
	else if (io->kind == VN_BLK_ZERO)
		clear(file, io, io->unmap ? STEP_PUNCH : STEP_ZERO);
	else
		submit_transfer(file, io);
}

static int attach(struct vn_blk_backend *backend, struct vn_ioloop *loop)
{
	return vn_ioloop_register_file(loop, from_backend(backend)->fd);
}

static void destroy(struct vn_blk_backend *backend)
{
	struct blk_file *file = from_backend(backend);
	close(file->fd);
	free(file->path);
	free(file);
}

// Whether a disk that could not be opened for reading and writing can be for reading.
static bool can_be_read(const struct veneer_disk *disk)
{
	int fd = open(disk->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int open_failure(const struct veneer_disk *disk, int code, struct veneer_error *error)
{
	bool direct = disk->cache == VENEER_CACHE_NONE || disk->cache == VENEER_CACHE_DIRECTSYNC;
	if (code == -EINVAL && direct)
		return vn_fail(error, code,
			"disk %s: its file system has no O_DIRECT, which cache=none and "
			"cache=directsync need; use cache=writeback or cache=writethrough",
			disk->path);
	bool refused = code == -EACCES || code == -EPERM || code == -EROFS;
	const char *remedy = refused && !disk->readonly && can_be_read(disk)
				     ? "; add readonly if it is to be read only"
				     : "";
	return vn_fail(error, code, "disk %s: %s%s", disk->path, strerror(-code), remedy);
}

// Judged before it is opened, because opening a FIFO would wait and some devices act on it.
static int judge_kind(const struct veneer_disk *disk, struct veneer_error *error)
{
	struct stat status;
	if (stat(disk->path, &status) < 0)
		return open_failure(disk, -errno, error);
	if (S_ISDIR(status.st_mode))
		return vn_fail(error, -EISDIR, "disk %s: is a directory", disk->path);
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
		return vn_fail(error, -EINVAL, "disk %s: is neither a file nor a block device",
			disk->path);
	return 0;
}

// Images on block devices too: there are storage managers that put them into logical volumes.
static int judge_format(const struct veneer_disk *disk, struct veneer_error *error)
{
	const struct vn_blk_format *format = NULL;
	if (disk->raw)
		return 0;
	int code = vn_blk_format_probe(disk->path, &format);
	if (code < 0)
		return open_failure(disk, code, error);
	if (!format)
		return 0;
	return vn_fail(error, -EINVAL,
		"disk %s: is a %s image, not a raw disk: convert it with 'qemu-img convert -f %s "
		"-O raw %s NEW', or add format=raw if these bytes are the disk's own",
		disk->path, format->name, format->driver, disk->path);
}

static int lock(struct blk_file *file, const struct veneer_disk *disk, const struct vn_log *log,
	struct veneer_error *error)
{
	struct flock whole = {.l_type = disk->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(file->fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return vn_fail(error, -EBUSY,
			"disk %s: is in use; guests can share it only if all have it readonly",
			disk->path);
	vn_warn(log, "disk %s: cannot be locked against other guests: %s", disk->path,
		strerror(errno));
	return 0;
}

static int read_capacity(struct blk_file *file, uint64_t *capacity, struct veneer_error *error)
{
	struct stat status;
	int code =
		file->device ? ioctl(file->fd, BLKGETSIZE64, capacity) : fstat(file->fd, &status);
	if (code < 0)
		return vn_fail(error, -errno, "disk %s: its size is unknown: %s", file->path,
			strerror(errno));
	if (!file->device)
		*capacity = (uint64_t)status.st_size;
	return 0;
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
static int measure_device(struct blk_file *file, dev_t number, struct veneer_error *error)
{
	struct vn_blk_backend *backend = &file->backend;
	int block_size;
	unsigned physical, io_min = 0, io_best = 0;
	int alignment = 0;
	if (ioctl(file->fd, BLKSSZGET, &block_size) < 0 ||
		ioctl(file->fd, BLKPBSZGET, &physical) < 0)
		return vn_fail(error, -errno, "disk %s: its block size is unknown: %s", file->path,
			strerror(errno));
	if (ioctl(file->fd, BLKIOMIN, &io_min) == 0)
		backend->io_min = io_min;
	if (ioctl(file->fd, BLKIOOPT, &io_best) == 0)
		backend->io_best = io_best;
	if (ioctl(file->fd, BLKALIGNOFF, &alignment) == 0 && alignment > 0)
		backend->alignment = (uint32_t)alignment;
	backend->block_size = (uint32_t)block_size;
	backend->physical_size = physical;
	backend->zeroes = !backend->readonly;
	backend->discards = !backend->readonly && read_limit(number, "discard_max_bytes") > 0 &&
			    read_limit(number, "write_zeroes_max_bytes") > 0;
	return 0;
}

static bool is_power_of_two(uint64_t value)
{
	return value > 0 && (value & (value - 1)) == 0;
}

// A file is accessed best in its file system's blocks. Whether holes can be punched is asked where
// there is nothing to lose, behind its end.
static void measure_file(struct blk_file *file, const struct stat *status)
{
	struct vn_blk_backend *backend = &file->backend;
	uint32_t block = (uint32_t)status->st_blksize;
	backend->block_size = SECTOR;
	backend->physical_size = SECTOR;
	if (is_power_of_two((uint64_t)status->st_blksize) && block >= SECTOR) {
		backend->physical_size = block < PHYSICAL_MAX ? block : PHYSICAL_MAX;
		backend->io_best = block > PHYSICAL_MAX ? block : 0;
	}
	backend->io_min = backend->physical_size;
	backend->discards = !backend->readonly &&
			    fallocate(file->fd, PUNCH, status->st_size, PHYSICAL_MAX) == 0;
	backend->zeroes = backend->discards;
}

static int measure(
	struct blk_file *file, const struct veneer_disk *disk, struct veneer_error *error)
{
	struct stat status;
	if (fstat(file->fd, &status) < 0)
		return open_failure(disk, -errno, error);
	file->device = S_ISBLK(status.st_mode);
	if (file->device)
		return measure_device(file, status.st_rdev, error);
	measure_file(file, &status);
	return 0;
}

// What O_DIRECT needs (statx(2), Linux 6.1). File systems that do not say get what they all take:
// sectors.
static int measure_direct(
	struct blk_file *file, const struct veneer_disk *disk, struct veneer_error *error)
{
	struct statx status;
	file->memory_align = SECTOR;
	if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) < 0 ||
		!(status.stx_mask & STATX_DIOALIGN))
		return 0;
	if (status.stx_dio_offset_align == 0)
		return open_failure(disk, -EINVAL, error);
	file->memory_align = status.stx_dio_mem_align;
	struct vn_blk_backend *backend = &file->backend;
	if (status.stx_dio_offset_align > backend->block_size)
		backend->block_size = status.stx_dio_offset_align;
	if (backend->physical_size < backend->block_size)
		backend->physical_size = backend->io_min = backend->block_size;
	return 0;
}

static int judge_capacity(
	const struct blk_file *file, uint64_t capacity, struct veneer_error *error)
{
	if (capacity == 0)
		return vn_fail(error, -EINVAL, "disk %s: is empty", file->path);
	if (capacity % SECTOR != 0)
		return vn_fail(error, -EINVAL,
			"disk %s: its size, %llu bytes, is not a multiple of 512", file->path,
			(unsigned long long)capacity);
	if (capacity % file->backend.block_size != 0)
		return vn_fail(error, -EINVAL,
			"disk %s: its size, %llu bytes, is not a multiple of %u, which O_DIRECT "
			"needs here; use cache=writeback",
			file->path, (unsigned long long)capacity, file->backend.block_size);
	return 0;
}

// Requests in flight may see the old size or the new one.
static int refresh(struct vn_blk_backend *backend, struct veneer_error *error)
{
	struct blk_file *file = from_backend(backend);
	uint64_t capacity = 0;
	int code = read_capacity(file, &capacity, error);
	if (code == 0)
		code = judge_capacity(file, capacity, error);
	if (code == 0)
		atomic_store_explicit(&backend->capacity, capacity, memory_order_relaxed);
	return code;
}

static const struct vn_blk_backend_ops file_ops = {
	.attach = attach, .submit = submit, .refresh = refresh, .destroy = destroy};

// What IOPOLL needs: O_DIRECT, and below it a device with queues that are polled.
static int judge_polling(
	const struct blk_file *file, const struct veneer_disk *disk, struct veneer_error *error)
{
	struct stat status;
	if (!file->backend.direct)
		return vn_fail(error, -EINVAL,
			"disk %s: iopoll=on is for cache=none and cache=directsync", disk->path);
	if (fstat(file->fd, &status) < 0)
		return open_failure(disk, -errno, error);
	if (read_limit(file->device ? status.st_rdev : status.st_dev, "io_poll") == 1)
		return 0;
	return vn_fail(error, -EOPNOTSUPP,
		"disk %s: iopoll=on: its device has no queues that are polled (io_poll in "
		"/sys/block/*/queue); an NVMe device has them with nvme.poll_queues=N on the "
		"host's kernel command line",
		disk->path);
}

static int open_file(struct blk_file *file, const struct veneer_disk *disk,
	const struct vn_log *log, struct veneer_error *error)
{
	int code = judge_kind(disk, error);
	if (code == 0)
		code = judge_format(disk, error);
	if (code < 0)
		return code;
	int flags = O_CLOEXEC | (disk->readonly ? O_RDONLY : O_RDWR);
	file->backend.direct =
		disk->cache == VENEER_CACHE_NONE || disk->cache == VENEER_CACHE_DIRECTSYNC;
	file->fd = open(disk->path, flags | (file->backend.direct ? O_DIRECT : 0));
	if (file->fd < 0)
		return open_failure(disk, -errno, error);
	code = lock(file, disk, log, error);
	if (code == 0)
		code = measure(file, disk, error);
	if (code == 0 && file->backend.direct)
		code = measure_direct(file, disk, error);
	if (code == 0 && disk->iopoll)
		code = judge_polling(file, disk, error);
	if (code == 0)
		code = refresh(&file->backend, error);
	if (code < 0)
		close(file->fd);
	return code;
}

int vn_blk_file_open(struct vn_blk_backend **backend, const struct veneer_disk *disk,
	const struct vn_log *log, struct veneer_error *error)
{
	struct blk_file *file = calloc(1, sizeof(*file));
	if (!file)
		return vn_fail(error, -ENOMEM, "disk %s: no memory", disk->path);
	file->backend.ops = &file_ops;
	file->backend.readonly = disk->readonly;
	file->backend.write_cache =
		disk->cache != VENEER_CACHE_WRITETHROUGH && disk->cache != VENEER_CACHE_DIRECTSYNC;
	file->unsafe = disk->cache == VENEER_CACHE_UNSAFE;
	file->path = strdup(disk->path);
	int code = file->path ? open_file(file, disk, log, error)
			      : vn_fail(error, -ENOMEM, "disk %s: no memory", disk->path);
	if (code < 0) {
		free(file->path);
		free(file);
		return code;
	}
	*backend = &file->backend;
	return 0;
}
