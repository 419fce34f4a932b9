// SPDX-License-Identifier: Apache-2.0
//
// The file backend: opening, and the data path. An operation is one submission, and further ones
// for what a short transfer left or what the host does only in steps. With O_DIRECT, what is not
// aligned goes through buffers of its channel, block by block where a block is written in part.
#include "devices/blk/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_size.h"
#include "base/iovec.h"
#include "base/macros.h"
#include "devices/blk/file_descriptor.h"
#include "devices/blk/file_format.h"
#include "devices/blk/file_measure.h"

// All buffers of a channel, and as much as it takes to align the first.
#define BOUNCE_MAPPING ((size_t)(VN_BLK_BOUNCE_COUNT + 1) * VN_BLK_BOUNCE_SIZE)

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

// Immutable once opened, but for the capacity and the ranges.
struct blk_file {
	struct vn_blk_backend backend;
	char *path; // for messages
	int fd;
	int tail_fd; // without O_DIRECT, for what is behind the last whole block; or -1
	int shared; // 0, or why `fd` has no open file description of its own: a negative errno
	bool unsafe; // nothing need be stable
	struct vn_blk_file_traits traits;
	struct vn_blk_ranges ranges; // of writes, where the alignment is above a sector
};

// Its loop's alone.
struct file_channel {
	struct vn_blk_channel channel;
	struct vn_blk_loop_ranges ranges;
	char *mapping; // of the buffers; NULL without O_DIRECT
	char *spare[VN_BLK_BOUNCE_COUNT];
	unsigned spare_count;
	struct vn_blk_io *waiting; // for a buffer
};

static struct blk_file *from_backend(struct vn_blk_backend *backend)
{
	return container_of(backend, struct blk_file, backend);
}

static struct file_channel *from_channel(struct vn_blk_channel *channel)
{
	return container_of(channel, struct file_channel, channel);
}

static struct blk_file *file_of(const struct vn_blk_io *io)
{
	return from_backend(io->channel->backend);
}

static struct vn_blk_io *from_op(struct vn_ioloop_op *op)
{
	return container_of(op, struct vn_blk_io, op);
}

static bool clears(const struct vn_blk_io *io)
{
	return io->kind == VN_BLK_DISCARD || io->kind == VN_BLK_ZERO;
}

// Move along by what has been done.
static void advance(struct vn_blk_io *io, size_t size)
{
	io->offset += size;
	io->size -= size;
	if (!clears(io))
		vn_iovec_advance(&io->iov, &io->iov_count, size);
}

static void go_on(struct vn_blk_io *io);

// To whoever waits the longest, or to the others.
static void give_back(struct vn_blk_io *io)
{
	struct file_channel *channel = from_channel(io->channel);
	struct vn_blk_io *next = channel->waiting;
	char *bounce = io->bounce;
	io->bounce = NULL;
	if (!next) {
		channel->spare[channel->spare_count++] = bounce;
		return;
	}
	channel->waiting = next->next;
	next->bounce = bounce;
	go_on(next);
}

static void finish(struct vn_blk_io *io, int code, const char *reason)
{
	if (io->bounce)
		give_back(io);
	if (io->locked)
		vn_blk_ranges_unlock(&io->range);
	io->locked = false;
	io->done(io, code, reason);
}

static bool is_aligned(const struct blk_file *file, const struct vn_blk_io *io)
{
	uint32_t align = file->traits.align;
	if (((io->offset | io->size) & (align - 1)) != 0)
		return false;
	for (unsigned i = 0; i < io->iov_count; i++) {
		uintptr_t base = (uintptr_t)io->iov[i].iov_base;
		if ((base & (file->traits.memory_align - 1)) != 0 ||
			(io->iov[i].iov_len & (align - 1)) != 0)
			return false;
	}
	return true;
}

// Submit what is left of a read or write.
static void transfer(struct blk_file *file, struct vn_blk_io *io)
{
	struct vn_ioloop *loop = io->channel->loop;
	const struct iovec *iov = io->iov;
	unsigned count = io->iov_count;
	struct io_uring_sqe *sqe = vn_ioloop_transfer_sqe(loop, &io->op);
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
	vn_ioloop_use_registered(loop, sqe);
}

static const char shorter[] = "the file has become shorter";

static void transferred(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = from_op(op);
	struct blk_file *file = file_of(io);
	if (result == -EINTR || result == -EAGAIN) {
		transfer(file, io);
		return;
	}
	if (result < 0) {
		finish(io, result, NULL);
		return;
	}
	size_t size = (size_t)result;
	advance(io, size);
	if (io->size == 0)
		finish(io, 0, NULL);
	else if (size == 0 || size % file->traits.align != 0)
		finish(io, -EIO, io->kind == VN_BLK_READ ? shorter : NULL);
	else
		transfer(file, io);
}

static void flushed(struct vn_ioloop_op *op, int result, uint32_t flags);

static void flush(struct blk_file *file, struct vn_blk_io *io)
{
	io->op.complete = flushed;
	struct io_uring_sqe *sqe = vn_ioloop_sqe(io->channel->loop, &io->op);
	io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	vn_ioloop_use_registered(io->channel->loop, sqe);
}

static void flushed(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = from_op(op);
	if (result == -EINTR || result == -EAGAIN)
		flush(file_of(io), io);
	else
		finish(io, result, NULL);
}

// The steps of what is not aligned.
enum part_step {
	PART_READ, // whole blocks into the buffer, around what is wanted
	PART_FETCH, // the block that changes in part
	PART_STORE, // whole blocks from the buffer
	PART_TAIL, // what is behind the last whole block, by the page cache
	PART_ZERO, // zeroes into a part of a block, by the page cache
};

static const char zeroes[4096];

static void parted(struct vn_ioloop_op *op, int result, uint32_t flags);

static void do_part(struct vn_blk_io *io, enum part_step step, uint64_t offset, uint64_t size)
{
	// What was copied into the bounce buffer may have come from an empty page.
	if (step == PART_STORE && io->memory && vn_memory_is_lost(io->memory)) {
		finish(io, -EFAULT, NULL);
		return;
	}
	struct blk_file *file = file_of(io);
	struct vn_ioloop *loop = io->channel->loop;
	bool cached = step == PART_TAIL || step == PART_ZERO;
	unsigned length = (unsigned)size;
	io->op.complete = parted;
	io->step = step;
	io->step_offset = offset;
	io->step_size = size;
	struct io_uring_sqe *sqe =
		cached ? vn_ioloop_sqe(loop, &io->op) : vn_ioloop_transfer_sqe(loop, &io->op);
	if (step == PART_READ || step == PART_FETCH)
		io_uring_prep_read(sqe, file->fd, io->bounce, length, offset);
	else if (step == PART_STORE)
		io_uring_prep_write(sqe, file->fd, io->bounce, length, offset);
	else if (step == PART_ZERO)
		io_uring_prep_write(sqe, file->fd, zeroes, length, offset);
	else if (io->kind == VN_BLK_READ)
		io_uring_prep_readv(sqe, file->tail_fd, io->iov, io->iov_count, offset);
	else
		io_uring_prep_writev(sqe, file->tail_fd, io->iov, io->iov_count, offset);
	if (io->stable && step != PART_FETCH)
		sqe->rw_flags = RWF_DSYNC;
	vn_ioloop_use_registered(loop, sqe);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

// The next step of a read or write, which has a buffer.
static void next_part(struct vn_blk_io *io)
{
	const struct blk_file *file = file_of(io);
	uint64_t align = file->traits.align, mask = ~(align - 1);
	uint64_t start = io->offset & mask;
	uint64_t end = (io->offset + io->size + align - 1) & mask;
	uint64_t limit = UINT64_MAX; // of whole blocks
	if (file->tail_fd >= 0)
		limit = mask & atomic_load_explicit(&file->backend.capacity, memory_order_relaxed);
	if (io->size == 0) {
		finish(io, 0, NULL);
	} else if (io->offset >= limit) {
		do_part(io, PART_TAIL, io->offset, io->size);
	} else if (io->kind == VN_BLK_READ) {
		do_part(io, PART_READ, start, least(least(end, limit) - start, VN_BLK_BOUNCE_SIZE));
	} else if (start < io->offset || io->size < align) {
		do_part(io, PART_FETCH, start, align);
	} else {
		uint64_t size = least(least(io->size & mask, limit - start), VN_BLK_BOUNCE_SIZE);
		vn_iovec_gather(io->bounce, io->iov, size);
		do_part(io, PART_STORE, start, size);
	}
}

// Put what is to be written into the block that was read.
static void change(struct vn_blk_io *io)
{
	uint64_t at = io->offset - io->step_offset;
	uint64_t size = least(io->size, io->step_size - at);
	if (io->kind == VN_BLK_ZERO)
		memset(io->bounce + at, 0, size);
	else
		vn_iovec_gather(io->bounce + at, io->iov, size);
}

// Move along by what a step did that transferred `size` bytes, with what is around.
static void advance_part(struct vn_blk_io *io, uint64_t size)
{
	uint64_t before = io->offset - io->step_offset;
	uint64_t done = size > before ? least(io->size, size - before) : 0;
	if (io->step == PART_READ)
		vn_iovec_scatter(io->iov, io->bounce + before, done);
	advance(io, done);
}

static void parted(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = from_op(op);
	bool cached = io->step == PART_TAIL || io->step == PART_ZERO;
	bool reads = io->step == PART_FETCH || io->kind == VN_BLK_READ;
	if (result == -EINTR || result == -EAGAIN) {
		do_part(io, io->step, io->step_offset, io->step_size);
		return;
	}
	if (result < 0) {
		finish(io, result, NULL);
		return;
	}
	uint64_t size = (uint64_t)result;
	bool whole = size > 0 && (cached || size % file_of(io)->traits.align == 0);
	if (io->step == PART_FETCH && whole) {
		change(io);
		do_part(io, PART_STORE, io->step_offset, io->step_size);
		return;
	}
	if (io->step != PART_FETCH)
		advance_part(io, size);
	if (!whole && io->size > 0)
		finish(io, -EIO, reads ? shorter : NULL);
	else
		go_on(io);
}

// The steps of clearing a range.
enum clear_step {
	CLEAR_PUNCH, // a hole, which reads as zero
	CLEAR_ZERO, // zeroes in place
	CLEAR_REPUNCH, // where the file system cannot do that: a hole...
	CLEAR_FILL, // ...and new blocks in it
	CLEAR_SYNC,
};

static void cleared(struct vn_ioloop_op *op, int result, uint32_t flags);

static void clear(struct blk_file *file, struct vn_blk_io *io, enum clear_step step)
{
	static const int modes[] = {[CLEAR_PUNCH] = PUNCH,
		[CLEAR_ZERO] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		[CLEAR_REPUNCH] = PUNCH,
		[CLEAR_FILL] = FALLOC_FL_KEEP_SIZE};
	struct vn_ioloop *loop = io->channel->loop;
	io->op.complete = cleared;
	io->step = step;
	struct io_uring_sqe *sqe = vn_ioloop_sqe(loop, &io->op);
	if (step == CLEAR_SYNC)
		io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	else
		io_uring_prep_fallocate(
			sqe, file->fd, modes[step], (off_t)io->offset, (off_t)io->step_size);
	vn_ioloop_use_registered(loop, sqe);
}

// Another way to the same end, where the host does not know this one. A block device knows
// CLEAR_ZERO always, a file that got this far CLEAR_PUNCH.
static bool retry(struct blk_file *file, struct vn_blk_io *io)
{
	if (io->kind != VN_BLK_ZERO)
		return false;
	if (io->step == CLEAR_PUNCH)
		clear(file, io, CLEAR_ZERO);
	else if (io->step == CLEAR_ZERO && !io->unmap && !file->traits.device)
		clear(file, io, CLEAR_REPUNCH);
	else
		return false;
	return true;
}

static void cleared(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_blk_io *io = from_op(op);
	struct blk_file *file = file_of(io);
	if (result == -EINTR || result == -EAGAIN) {
		clear(file, io, io->step);
	} else if (result == -EOPNOTSUPP && retry(file, io)) {
		return;
	} else if (result < 0 && io->step != CLEAR_FILL) { // the hole reads as zero anyway
		finish(io, result, NULL);
	} else if (io->step == CLEAR_REPUNCH) {
		clear(file, io, CLEAR_FILL);
	} else if (io->stable && io->step != CLEAR_SYNC) {
		clear(file, io, CLEAR_SYNC);
	} else {
		advance(io, io->step_size);
		go_on(io);
	}
}

// The next step of clearing: parts of a device's blocks are written, which O_DIRECT does with a
// buffer.
static void next_clearing(struct vn_blk_io *io)
{
	struct blk_file *file = file_of(io);
	uint64_t align = file->backend.zero_align, mask = ~(align - 1);
	uint64_t start = io->offset & mask;
	if (io->size == 0) {
		finish(io, 0, NULL);
	} else if (start == io->offset && io->size >= align) {
		io->step_size = io->size & mask;
		clear(file, io, io->kind == VN_BLK_DISCARD || io->unmap ? CLEAR_PUNCH : CLEAR_ZERO);
	} else if (file->backend.direct) {
		do_part(io, PART_FETCH, start, align);
	} else {
		uint64_t size = least(io->size, start + align - io->offset);
		do_part(io, PART_ZERO, io->offset, least(size, sizeof(zeroes)));
	}
}

static void go_on(struct vn_blk_io *io)
{
	if (clears(io))
		next_clearing(io);
	else
		next_part(io);
}

// Go on with a buffer, at once or when there is one.
static void take_buffer(struct vn_blk_io *io)
{
	struct file_channel *channel = from_channel(io->channel);
	struct vn_blk_io **end = &channel->waiting;
	if (channel->spare_count > 0) {
		io->bounce = channel->spare[--channel->spare_count];
		go_on(io);
		return;
	}
	while (*end)
		end = &(*end)->next;
	io->next = NULL;
	*end = io;
}

// Begin with what holds its range, if it needs that.
static void begin(struct vn_blk_io *io)
{
	struct blk_file *file = file_of(io);
	bool direct = file->backend.direct;
	if (clears(io)) {
		uint64_t parts = (io->offset | io->size) & (file->backend.zero_align - 1);
		if (direct && parts != 0)
			take_buffer(io);
		else
			next_clearing(io);
	} else if (direct && !is_aligned(file, io)) {
		take_buffer(io);
	} else {
		io->op.complete = transferred;
		transfer(file, io);
	}
}

static void granted(struct vn_blk_range *range)
{
	begin(container_of(range, struct vn_blk_io, range));
}

// The blocks that are written: for itself, if only in part.
static bool lock_range(struct vn_blk_io *io)
{
	uint64_t align = file_of(io)->traits.align, mask = ~(align - 1);
	io->locked = true;
	io->range = (struct vn_blk_range){.start = io->offset & mask,
		.end = (io->offset + io->size + align - 1) & mask,
		.exclusive = ((io->offset | io->size) & (align - 1)) != 0,
		.granted = granted};
	return vn_blk_ranges_lock(&from_channel(io->channel)->ranges, &io->range);
}

// Only whole blocks are discarded. False: there are none.
static bool trim(const struct blk_file *file, struct vn_blk_io *io)
{
	uint64_t own = file->backend.zero_align;
	uint64_t align = file->traits.align > own ? file->traits.align : own;
	uint64_t start = (io->offset + align - 1) & ~(align - 1);
	uint64_t end = (io->offset + io->size) & ~(align - 1);
	if (start >= end)
		return false;
	io->offset = start;
	io->size = end - start;
	return true;
}

static void submit(struct vn_blk_channel *channel, struct vn_blk_io *io)
{
	struct blk_file *file = from_backend(channel->backend);
	io->channel = channel;
	io->bounce = NULL;
	io->locked = false;
	if (file->unsafe)
		io->stable = false;
	if (io->kind == VN_BLK_FLUSH && file->unsafe)
		finish(io, 0, NULL);
	else if (io->kind == VN_BLK_FLUSH)
		flush(file, io);
	else if (io->kind == VN_BLK_DISCARD && !trim(file, io))
		finish(io, 0, NULL);
	else if (file->traits.align <= VN_BLK_SECTOR || io->kind == VN_BLK_READ || lock_range(io))
		begin(io);
}

static void free_channel(struct file_channel *channel)
{
	if (channel->mapping)
		munmap(channel->mapping, BOUNCE_MAPPING);
	free(channel);
}

// With O_DIRECT, memory for all buffers, which exists from when it is used. Mapped, because a loop
// that fails may leave the kernel with pages of it.
static int make_channel(struct file_channel **made, const struct blk_file *file)
{
	struct file_channel *channel =
		aligned_alloc(_Alignof(struct file_channel), sizeof(*channel));
	if (!channel)
		return -ENOMEM;
	*channel = (struct file_channel){.waiting = NULL};
	*made = channel;
	if (!file->backend.direct)
		return 0;
	void *mapping = mmap(
		NULL, BOUNCE_MAPPING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapping == MAP_FAILED) {
		free(channel);
		return -ENOMEM;
	}
	channel->mapping = mapping;
	char *first = channel->mapping + (-(uintptr_t)mapping & (VN_BLK_BOUNCE_SIZE - 1));
	while (channel->spare_count < VN_BLK_BOUNCE_COUNT) {
		char *buffer = first + channel->spare_count * VN_BLK_BOUNCE_SIZE;
		channel->spare[channel->spare_count++] = buffer;
	}
	return 0;
}

static int attach(
	struct vn_blk_backend *backend, struct vn_ioloop *loop, struct vn_blk_channel **result)
{
	struct blk_file *file = from_backend(backend);
	struct file_channel *channel;
	int code = make_channel(&channel, file);
	if (code < 0)
		return code;
	channel->channel = (struct vn_blk_channel){backend, loop};
	code = vn_ioloop_register_file(loop, file->fd);
	if (code == 0 && file->traits.align > VN_BLK_SECTOR)
		code = vn_blk_ranges_attach(&file->ranges, &channel->ranges, loop);
	if (code < 0) {
		free_channel(channel);
		return code;
	}
	*result = &channel->channel;
	return 0;
}

static void detach(struct vn_blk_channel *given)
{
	struct file_channel *channel = from_channel(given);
	if (from_backend(given->backend)->traits.align > VN_BLK_SECTOR)
		vn_blk_ranges_detach(&channel->ranges);
	free_channel(channel);
}

static void close_files(struct blk_file *file)
{
	if (file->tail_fd >= 0)
		close(file->tail_fd);
	if (file->fd >= 0)
		close(file->fd);
}

static void destroy(struct vn_blk_backend *backend)
{
	struct blk_file *file = from_backend(backend);
	close_files(file);
	vn_blk_ranges_destroy(&file->ranges);
	free(file->path);
	free(file);
}

static int access_mode(const struct vn_blk_options *disk)
{
	return disk->readonly ? O_RDONLY : O_RDWR;
}

// Whether a disk that could not be opened for reading and writing can be for reading.
static bool can_be_read(const struct vn_blk_options *disk)
{
	int fd = disk->path.name ? open(disk->path.name, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int open_failure(const struct blk_file *file, const struct vn_blk_options *disk, int code,
	struct veneer_error *error)
{
	if (code == -EINVAL && file->backend.direct)
		return vn_blk_file_no_direct(file->path, error);
	bool refused = code == -EACCES || code == -EPERM || code == -EROFS;
	const char *remedy = refused && !disk->readonly && can_be_read(disk)
				     ? "; add readonly if it is to be read only"
				     : "";
	return vn_fail(error, code, "disk %s: %s%s", file->path, strerror(-code), remedy);
}

// Before it is opened, because opening a FIFO would wait and some devices act on it.
static int check_kind(
	const struct blk_file *file, const struct vn_blk_options *disk, struct veneer_error *error)
{
	struct stat status;
	int code = disk->path.name ? stat(disk->path.name, &status) : fstat(disk->path.fd, &status);
	if (code < 0)
		return open_failure(file, disk, -errno, error);
	if (S_ISDIR(status.st_mode))
		return vn_fail(error, -EISDIR, "disk %s: is a directory", file->path);
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
		return vn_fail(error, -EINVAL, "disk %s: is neither a file nor a block device",
			file->path);
	return 0;
}

// Images on block devices too: there are storage managers that put them into logical volumes.
static int check_format(
	const struct blk_file *file, const struct vn_blk_options *disk, struct veneer_error *error)
{
	const struct vn_blk_format *format = NULL;
	if (disk->raw)
		return 0;
	int fd = disk->path.name ? open(disk->path.name, O_RDONLY | O_CLOEXEC) : file->fd;
	int code = fd < 0 ? -errno : vn_blk_format_probe(fd, &format);
	if (fd >= 0 && fd != file->fd)
		close(fd);
	if (code < 0)
		return open_failure(file, disk, code, error);
	if (!format)
		return 0;
	return vn_fail(error, -EINVAL,
		"disk %s: is a %s image, not a raw disk: "
		"convert it with 'qemu-img convert -f %s -O raw %s NEW', "
		"or add format=raw if these bytes are the disk's own",
		file->path, format->name, format->driver, disk->path.name ? file->path : "OLD");
}

static int open_path(
	struct blk_file *file, const struct vn_blk_options *disk, struct veneer_error *error)
{
	int direct = file->backend.direct ? O_DIRECT : 0;
	file->fd = open(disk->path.name, O_CLOEXEC | access_mode(disk) | direct);
	return file->fd < 0 ? open_failure(file, disk, -errno, error) : 0;
}

static int take_descriptor(
	struct blk_file *file, const struct vn_blk_options *disk, struct veneer_error *error)
{
	int direct = file->backend.direct ? O_DIRECT : 0;
	struct vn_blk_descriptor own;
	int code = vn_blk_descriptor_take(
		&own, disk->path.fd, access_mode(disk) | direct, file->path, error);
	if (code < 0)
		return code;
	file->fd = own.fd;
	file->shared = own.refused;
	return 0;
}

// A path is opened for writing only once its contents are accepted: udev rescans a block device
// when a writer closes it.
static int open_it(
	struct blk_file *file, const struct vn_blk_options *disk, struct veneer_error *error)
{
	int code = check_kind(file, disk, error);
	if (code == 0 && !disk->path.name)
		code = take_descriptor(file, disk, error);
	if (code == 0)
		code = check_format(file, disk, error);
	return code == 0 && disk->path.name ? open_path(file, disk, error) : code;
}

static int lock(struct blk_file *file, const struct vn_blk_options *disk, const struct vn_log *log,
	struct veneer_error *error)
{
	struct flock whole = {.l_type = disk->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
	if (file->shared)
		vn_warn(log,
			"disk %s: cannot be opened again (%s), "
			"so another guest that is given the same descriptor is not noticed",
			file->path, strerror(-file->shared));
	if (fcntl(file->fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return vn_fail(error, -EBUSY,
			"disk %s: is in use; guests can share it only if all have it readonly",
			file->path);
	vn_warn(log, "disk %s: cannot be locked against other guests: %s", file->path,
		strerror(errno));
	return 0;
}

static int read_capacity(struct blk_file *file, uint64_t *capacity, struct veneer_error *error)
{
	int code = vn_file_size(file->fd, capacity);
	if (code < 0)
		return vn_fail(error, code, "disk %s: its size is unknown: %s", file->path,
			strerror(-code));
	return 0;
}

static int check_capacity(
	const struct blk_file *file, uint64_t capacity, struct veneer_error *error)
{
	uint32_t block = file->backend.block_size, own = file->backend.zero_align;
	uint32_t unit = block > own ? block : own;
	if (capacity == 0)
		return vn_fail(error, -EINVAL, "disk %s: is empty", file->path);
	if (capacity % VN_BLK_SECTOR != 0)
		return vn_fail(error, -EINVAL,
			"disk %s: its size, %llu bytes, is not a multiple of 512", file->path,
			(unsigned long long)capacity);
	if (capacity % unit != 0)
		return vn_fail(error, -EINVAL,
			"disk %s: its size, %llu bytes, is not a multiple of its block size, %u",
			file->path, (unsigned long long)capacity, unit);
	if (file->shared && file->tail_fd < 0 && capacity % file->traits.align != 0)
		return vn_fail(error, -EINVAL,
			"disk %s: its size, %llu bytes, is not a multiple of %u, "
			"which O_DIRECT needs, and it cannot be opened again without that; "
			"use cache=writeback or cache=writethrough",
			file->path, (unsigned long long)capacity, file->traits.align);
	return 0;
}

// Requests in flight may see the old size or the new one.
static int refresh(struct vn_blk_backend *backend, struct veneer_error *error)
{
	struct blk_file *file = from_backend(backend);
	uint64_t capacity = 0;
	int code = read_capacity(file, &capacity, error);
	if (code == 0)
		code = check_capacity(file, capacity, error);
	if (code == 0)
		atomic_store_explicit(&backend->capacity, capacity, memory_order_relaxed);
	return code;
}

static const struct vn_blk_backend_ops file_ops = {.attach = attach,
	.submit = submit,
	.detach = detach,
	.refresh = refresh,
	.destroy = destroy};

// The last block of a file may be one in part, which O_DIRECT cannot write without making the file
// longer: that goes through the page cache, by a description of its own. Where there can be none,
// check_capacity() wants whole blocks.
static int open_tail(
	struct blk_file *file, const struct vn_blk_options *disk, struct veneer_error *error)
{
	struct stat status, tail;
	int flags = O_CLOEXEC | access_mode(disk);
	if (file->shared)
		return 0;
	int fd = disk->path.name ? open(disk->path.name, flags)
				 : vn_blk_descriptor_reopen(disk->path.fd, flags);
	if (fd < 0)
		return open_failure(file, disk, disk->path.name ? -errno : fd, error);
	file->tail_fd = fd;
	if (fstat(file->fd, &status) < 0 || fstat(file->tail_fd, &tail) < 0)
		return open_failure(file, disk, -errno, error);
	if (status.st_dev != tail.st_dev || status.st_ino != tail.st_ino)
		return vn_fail(
			error, -EAGAIN, "disk %s: was replaced while it was opened", file->path);
	return 0;
}

static int prepare_alignment(
	struct blk_file *file, const struct vn_blk_options *disk, struct veneer_error *error)
{
	const struct vn_blk_file_traits *traits = &file->traits;
	if (traits->align > VN_BLK_BOUNCE_SIZE || traits->memory_align > VN_BLK_BOUNCE_SIZE)
		return vn_fail(error, -EINVAL,
			"disk %s: O_DIRECT needs multiples of %u bytes here, more than %u; "
			"use cache=writeback or cache=writethrough",
			file->path,
			traits->align > traits->memory_align ? traits->align : traits->memory_align,
			(unsigned)VN_BLK_BOUNCE_SIZE);
	if (traits->align > VN_BLK_SECTOR && !traits->device)
		return open_tail(file, disk, error);
	return 0;
}

static int open_file(struct blk_file *file, const struct vn_blk_options *disk,
	const struct vn_log *log, struct veneer_error *error)
{
	int code = open_it(file, disk, error);
	if (code == 0)
		code = lock(file, disk, log, error);
	if (code == 0)
		code = vn_blk_file_measure(
			&file->traits, &file->backend, file->fd, file->path, disk, error);
	if (code == 0)
		code = prepare_alignment(file, disk, error);
	if (code == 0)
		code = refresh(&file->backend, error);
	return code;
}

int vn_blk_file_open(struct vn_blk_backend **backend, const struct vn_blk_options *disk,
	const struct vn_log *log, struct veneer_error *error)
{
	char text[32];
	struct blk_file *file = aligned_alloc(_Alignof(struct blk_file), sizeof(*file));
	if (!file)
		return vn_fail(error, -ENOMEM, "no memory for a disk");
	*file = (struct blk_file){.fd = -1, .tail_fd = -1};
	vn_blk_ranges_init(&file->ranges);
	file->backend.ops = &file_ops;
	file->backend.readonly = disk->readonly;
	file->backend.direct =
		disk->cache == VN_BLK_CACHE_NONE || disk->cache == VN_BLK_CACHE_DIRECTSYNC;
	file->backend.write_cache =
		disk->cache != VN_BLK_CACHE_WRITETHROUGH && disk->cache != VN_BLK_CACHE_DIRECTSYNC;
	file->unsafe = disk->cache == VN_BLK_CACHE_UNSAFE;
	file->path = strdup(vn_file_called(&disk->path, text));
	int code = file->path ? open_file(file, disk, log, error)
			      : vn_fail(error, -ENOMEM, "no memory for a disk");
	if (code < 0) {
		destroy(&file->backend);
		return code;
	}
	*backend = &file->backend;
	return 0;
}
