// SPDX-License-Identifier: Apache-2.0
//
// The file backend: opening, which finds out what the file is and what O_DIRECT needs, and the data
// path, which is one submission for each operation and a further one for what a short transfer left.
#include "devices/blk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/iovec.h"

#define SECTOR 512

// Immutable once opened.
struct blk_file {
	struct vn_blk_backend backend;
	int fd;
	bool direct;
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
	struct io_uring_sqe *sqe = vn_ioloop_sqe(io->loop, &io->op);
	if (io->kind == VN_BLK_READ)
		io_uring_prep_readv2(sqe, file->fd, iov, count, io->offset, 0);
	else
		io_uring_prep_writev2(
			sqe, file->fd, iov, count, io->offset, io->stable ? RWF_DSYNC : 0);
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
	else if (size == 0 || (file->direct && size % file->backend.block_size != 0))
		finish(io, -EIO, io->kind == VN_BLK_READ ? "the file has become shorter" : NULL);
	else
		transfer(file, io);
}

static void flushed(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = (struct vn_blk_io *)((char *)op - offsetof(struct vn_blk_io, op));
	finish(io, result, NULL);
}

static void submit_transfer(struct blk_file *file, struct vn_blk_io *io)
{
	io->op.complete = transferred;
	if (file->direct && ((io->offset | io->size) & (file->backend.block_size - 1)) != 0) {
		finish(io, -EINVAL,
			"cache=none: offset and size are not multiples of the block size");
		return;
	}
	if (file->direct && !is_aligned(file, io)) {
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

static void submit(struct vn_blk_backend *backend, struct vn_ioloop *loop, struct vn_blk_io *io)
{
	struct blk_file *file = from_backend(backend);
	io->backend = backend;
	io->loop = loop;
	io->bounce.iov_base = NULL;
	if (io->kind != VN_BLK_FLUSH) {
		submit_transfer(file, io);
		return;
	}
	io->op.complete = flushed;
	io_uring_prep_fsync(vn_ioloop_sqe(loop, &io->op), file->fd, IORING_FSYNC_DATASYNC);
}

static void destroy(struct vn_blk_backend *backend)
{
	struct blk_file *file = from_backend(backend);
	close(file->fd);
	free(file);
}

static const struct vn_blk_backend_ops file_ops = {.submit = submit, .destroy = destroy};

static int open_failure(const struct veneer_disk *disk, int code, struct veneer_error *error)
{
	if (code == -EINVAL && disk->cache == VENEER_CACHE_NONE)
		return vn_fail(error, code,
			"disk %s: its file system has no O_DIRECT, which cache=none needs; use "
			"cache=writeback",
			disk->path);
	const char *remedy = !disk->readonly && (code == -EACCES || code == -EROFS)
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

// Size and, for a block device, the block size that partition tables on it are written in.
static int measure(
	struct blk_file *file, const struct veneer_disk *disk, struct veneer_error *error)
{
	struct stat status;
	if (fstat(file->fd, &status) < 0)
		return open_failure(disk, -errno, error);
	file->backend.capacity = (uint64_t)status.st_size;
	file->backend.block_size = SECTOR;
	if (S_ISBLK(status.st_mode)) {
		int block_size;
		if (ioctl(file->fd, BLKGETSIZE64, &file->backend.capacity) < 0 ||
			ioctl(file->fd, BLKSSZGET, &block_size) < 0)
			return open_failure(disk, -errno, error);
		file->backend.block_size = (uint32_t)block_size;
	}
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
	if (status.stx_dio_offset_align > file->backend.block_size)
		file->backend.block_size = status.stx_dio_offset_align;
	return 0;
}

static int judge_size(
	const struct blk_file *file, const struct veneer_disk *disk, struct veneer_error *error)
{
	const struct vn_blk_backend *backend = &file->backend;
	if (backend->capacity == 0)
		return vn_fail(error, -EINVAL, "disk %s: is empty", disk->path);
	if (backend->capacity % SECTOR != 0)
		return vn_fail(error, -EINVAL,
			"disk %s: its size, %llu bytes, is not a multiple of 512", disk->path,
			(unsigned long long)backend->capacity);
	if (backend->capacity % backend->block_size != 0)
		return vn_fail(error, -EINVAL,
			"disk %s: its size, %llu bytes, is not a multiple of %u, which cache=none "
			"needs here; use cache=writeback",
			disk->path, (unsigned long long)backend->capacity, backend->block_size);
	return 0;
}

static int open_file(struct blk_file *file, const struct veneer_disk *disk,
	const struct vn_log *log, struct veneer_error *error)
{
	int code = judge_kind(disk, error);
	if (code < 0)
		return code;
	int flags = O_CLOEXEC | (disk->readonly ? O_RDONLY : O_RDWR);
	file->direct = disk->cache == VENEER_CACHE_NONE;
	file->fd = open(disk->path, flags | (file->direct ? O_DIRECT : 0));
	if (file->fd < 0)
		return open_failure(disk, -errno, error);
	code = lock(file, disk, log, error);
	if (code == 0)
		code = measure(file, disk, error);
	if (code == 0 && file->direct)
		code = measure_direct(file, disk, error);
	if (code == 0)
		code = judge_size(file, disk, error);
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
	file->backend.write_cache = disk->cache != VENEER_CACHE_WRITETHROUGH;
	int code = open_file(file, disk, log, error);
	if (code < 0) {
		free(file);
		return code;
	}
	*backend = &file->backend;
	return 0;
}
