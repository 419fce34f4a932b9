// SPDX-License-Identifier: Apache-2.0
//
// virtio-blk. Each queue has a loop, and a request for every head that can be in flight, so nothing
// is allocated or locked between the driver's notification and its interrupt, but for the ranges of
// writes where O_DIRECT needs more than a sector (range.h). All of a queue's work
// is done in the loop's flush hook, at the end of a turn: by then the turn's completions are in the
// used ring, and what is popped now is submitted by the system call in which the loop waits next.
#include "devices/blk/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/iovec.h"
#include "base/macros.h"
#include "base/rate.h"
#include "base/spin.h"
#include "core/loops.h"
#include "devices/blk/file.h"

#define SECTOR_SHIFT 9
#define QUEUE_SIZE   256
// A chain also holds a header and a status.
#define SEGMENTS_MAX (QUEUE_SIZE - 2)

// Of a discard or a write of zeroes: a reset waits for it, so it must not be the whole disk.
#define RANGES_MAX        16
#define RANGE_SECTORS_MAX (1u << (30 - SECTOR_SHIFT))

// Where a request is, between pop and push. On the queue's loop only.
struct blk_request {
	struct vn_blk_io io;
	struct blk_queue *queue;
	uint8_t *status; // the guest's byte
	uint32_t writable; // bytes of the chain that the device may write, the status among them
	uint16_t head;
	uint64_t taken_ns; // when it was taken from the queue
	uint64_t size; // bytes that a read or write has in all
	bool detected; // a write of data that turned out to be zeroes
	bool paid; // within the disk's limits
	uint16_t range, range_count; // of a request that clears ranges: the next one, all
	struct virtio_blk_discard_write_zeroes ranges[RANGES_MAX];
	struct iovec iov[QUEUE_SIZE];
};

// Owned by the device; from start to stop on its loop only. No two share a cache line.
struct blk_queue {
	_Alignas(64) struct vn_blk *blk;
	unsigned index;
	struct vn_virtqueue *ring;
	struct vn_queue_stats *stats;
	struct vn_ioloop *loop;
	struct vn_blk_channel *channel;
	struct vn_ioloop_event kick;
	struct vn_ioloop_hook hook;
	struct vn_spin spin;
	struct vn_ioloop_timer turn; // when `held` may begin
	struct blk_request *held; // taken, not with the backend, and the last one taken
	unsigned in_flight; // requests with the backend
	bool stopping;
	enum vn_virtio_stop why; // it stops, or stopped last
	bool write_through; // the driver counts on writes being stable when they complete
	struct blk_request *requests; // QUEUE_SIZE of them, by head
};

// Owned by the vm. Immutable once created, but for what says otherwise.
struct vn_blk {
	struct vn_rate operations, bytes; // shared by the queues, and used only if `limited`
	struct vn_virtio_device device;
	char name[16];
	uint8_t serial[VIRTIO_BLK_ID_BYTES];
	struct virtio_blk_config config; // the capacity: under the device's lock
	struct vn_blk_backend *backend;
	atomic_uint errors; // of the host, over the device's life
	atomic_uint unsupported; // bits of the kinds that the host has not, which was said
	bool limited;
	bool sqpoll, iopoll;
	enum vn_blk_detect_zeroes detect_zeroes;
	uint64_t poll_max; // ns
	struct vn_loops *loops;
	unsigned queue_count;
	struct vn_virtio_queue virtio_queues[VN_QUEUES_MAX];
	struct blk_queue queues[VN_QUEUES_MAX];
};

static struct vn_blk *from_device(struct vn_virtio_device *device)
{
	return container_of(device, struct vn_blk, device);
}

// Give the request back. `data` bytes from the start of its writable part are known to be written.
// The used length covers the status only where that follows them at once: a driver may take all
// bytes within the length for written (section 2.7.8.2).
static void complete(struct blk_request *request, uint8_t status, uint32_t data)
{
	struct blk_queue *queue = request->queue;
	*request->status = status;
	uint32_t written = data == request->writable - 1 ? request->writable : data;
	vn_virtqueue_push(queue->ring, request->head, written);
	vn_counter_add(&queue->stats->requests, 1);
	vn_counter_add(&queue->stats->read_bytes, data);
	if (status != VIRTIO_BLK_S_OK)
		vn_counter_add(&queue->stats->errors, 1);
	vn_histogram_add(&queue->stats->latency, vn_ioloop_now(queue->loop) - request->taken_ns);
}

static const char *name_of(enum vn_blk_kind kind)
{
	static const char *const names[] = {[VN_BLK_READ] = "read",
		[VN_BLK_WRITE] = "write",
		[VN_BLK_FLUSH] = "flush",
		[VN_BLK_DISCARD] = "discard",
		[VN_BLK_ZERO] = "write of zeroes"};
	return names[kind];
}

// Warn of the first host error, the second, the fourth...: a failing disk must not fill the log.
static void report(struct blk_request *request, int code, const char *reason)
{
	const struct vn_blk_io *io = &request->io;
	struct vn_blk *blk = request->queue->blk;
	unsigned count = atomic_fetch_add_explicit(&blk->errors, 1, memory_order_relaxed) + 1;
	if ((count & (count - 1)) != 0)
		return;
	vn_warn(blk->device.log, "%s: %s at byte %llu failed: %s (error %u of this disk)",
		blk->name, name_of(io->kind), (unsigned long long)io->offset,
		reason ? reason : strerror(-code), count);
}

// The host turned out to have no such operation, which is no error of the disk.
static void report_unsupported(struct vn_blk *blk, enum vn_blk_kind kind)
{
	unsigned bit = 1u << kind;
	unsigned before = atomic_fetch_or_explicit(&blk->unsupported, bit, memory_order_relaxed);
	if (!(before & bit))
		vn_warn(blk->device.log, "%s: the host cannot do a %s here", blk->name,
			name_of(kind));
}

static bool clears(enum vn_blk_kind kind)
{
	return kind == VN_BLK_DISCARD || kind == VN_BLK_ZERO;
}

static void submit(struct blk_request *request, enum vn_blk_kind kind);
static void next_range(struct blk_request *request);

static void io_done(struct vn_blk_io *io, int code, const char *reason)
{
	struct blk_request *request = container_of(io, struct blk_request, io);
	request->queue->in_flight--;
	if (code == -EOPNOTSUPP && request->detected) {
		request->detected = false;
		submit(request, VN_BLK_WRITE);
	} else if (code == -EOPNOTSUPP && clears(io->kind)) {
		report_unsupported(request->queue->blk, io->kind);
		complete(request, VIRTIO_BLK_S_UNSUPP, 0);
	} else if (code < 0) {
		report(request, code, reason);
		complete(request, VIRTIO_BLK_S_IOERR, 0);
	} else if (clears(io->kind) && !request->detected) {
		next_range(request);
	} else {
		if (io->kind == VN_BLK_WRITE || request->detected)
			vn_counter_add(&request->queue->stats->written_bytes, request->size);
		complete(request, VIRTIO_BLK_S_OK,
			io->kind == VN_BLK_READ ? request->writable - 1 : 0);
	}
}

// What a request takes of the disk's bandwidth.
static uint64_t bytes_of(const struct blk_request *request)
{
	return clears(request->io.kind) && !request->detected ? 0 : request->io.size;
}

// Whether the disk's limits let a request begin now. If not it is held, and the queue with it: what
// else the driver has made available stays in the ring until its turn has come, so that queues take
// turns and a reset has nothing to wait for.
static bool may_begin(struct blk_request *request)
{
	struct blk_queue *queue = request->queue;
	struct vn_blk *blk = queue->blk;
	if (request->paid || request->io.kind == VN_BLK_FLUSH)
		return true;
	request->paid = true;
	uint64_t now = vn_ioloop_now(queue->loop);
	uint64_t operation = vn_rate_take(&blk->operations, 1, now);
	uint64_t bytes = vn_rate_take(&blk->bytes, bytes_of(request), now);
	uint64_t turn = operation > bytes ? operation : bytes;
	if (turn == now)
		return true;
	queue->held = request;
	vn_ioloop_set_timer(queue->loop, &queue->turn, turn);
	return false;
}

static void submit(struct blk_request *request, enum vn_blk_kind kind)
{
	struct blk_queue *queue = request->queue;
	request->io.kind = kind;
	request->io.stable = (kind == VN_BLK_WRITE || kind == VN_BLK_ZERO) && queue->write_through;
	request->io.done = io_done;
	// What came from the guest's memory may have come from an empty page.
	if (kind != VN_BLK_READ && vn_memory_is_lost(queue->blk->device.memory)) {
		complete(request, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	request->io.memory = queue->blk->device.memory;
	if (queue->blk->limited && !may_begin(request))
		return;
	queue->in_flight++;
	queue->blk->backend->ops->submit(queue->channel, &request->io);
}

static void turn_has_come(struct vn_ioloop_timer *timer)
{
	struct blk_queue *queue = container_of(timer, struct blk_queue, turn);
	struct blk_request *request = queue->held;
	queue->held = NULL;
	submit(request, request->io.kind);
}

static bool is_within(const struct vn_blk_backend *backend, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity =
		atomic_load_explicit(&backend->capacity, memory_order_relaxed) >> SECTOR_SHIFT;
	return sector <= capacity && sectors <= capacity - sector;
}

// Whether a write is to become one of zeroes, and what that needs.
static bool detect_zeroes(struct blk_request *request)
{
	enum vn_blk_detect_zeroes mode = request->queue->blk->detect_zeroes;
	uint32_t align = request->queue->blk->backend->zero_align;
	request->detected = mode != VN_BLK_DETECT_ZEROES_OFF &&
			    ((request->io.offset | request->io.size) & (align - 1)) == 0 &&
			    vn_iovec_is_zero(request->io.iov, request->io.size);
	request->io.unmap = mode == VN_BLK_DETECT_ZEROES_UNMAP;
	return request->detected;
}

// Start a read or write of the `size` bytes in request->io.iov.
static void transfer(
	struct blk_request *request, enum vn_blk_kind kind, uint64_t sector, uint64_t size)
{
	const struct vn_blk_backend *backend = request->queue->blk->backend;
	if (size % (1u << SECTOR_SHIFT) != 0 || !is_within(backend, sector, size >> SECTOR_SHIFT) ||
		(kind == VN_BLK_WRITE && backend->readonly)) {
		complete(request, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	if (size == 0) {
		complete(request, VIRTIO_BLK_S_OK, 0);
		return;
	}
	request->io.offset = sector << SECTOR_SHIFT;
	request->io.size = size;
	request->size = size;
	if (kind == VN_BLK_WRITE && detect_zeroes(request))
		kind = VN_BLK_ZERO;
	submit(request, kind);
}

// The status of a range before anything is done to it (section 5.2.6.2).
static uint8_t check_range(
	const struct blk_request *request, const struct virtio_blk_discard_write_zeroes *range)
{
	uint32_t flags = request->io.kind == VN_BLK_ZERO ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	if (range->flags & ~flags)
		return VIRTIO_BLK_S_UNSUPP;
	if (range->num_sectors > RANGE_SECTORS_MAX ||
		!is_within(request->queue->blk->backend, range->sector, range->num_sectors))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

// Go on with the next range that is not empty, or end the request. Once the queue is reset, nobody
// waits for the rest.
static void next_range(struct blk_request *request)
{
	const struct blk_queue *queue = request->queue;
	if (queue->stopping && queue->why == VN_VIRTIO_RESET &&
		request->range < request->range_count) {
		complete(request, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	while (request->range < request->range_count) {
		const struct virtio_blk_discard_write_zeroes *range =
			&request->ranges[request->range++];
		if (range->num_sectors == 0)
			continue;
		request->io.offset = range->sector << SECTOR_SHIFT;
		request->io.size = (uint64_t)range->num_sectors << SECTOR_SHIFT;
		request->io.unmap = range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		submit(request, request->io.kind);
		return;
	}
	complete(request, VIRTIO_BLK_S_OK, 0);
}

// A discard or a write of zeroes: the `size` bytes in request->io.iov are ranges, copied at once,
// all of which are checked before the first is carried out.
static void clear(struct blk_request *request, enum vn_blk_kind kind, uint64_t size)
{
	const struct vn_virtio_device *device = &request->queue->blk->device;
	unsigned feature = kind == VN_BLK_ZERO ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD;
	uint8_t status = VIRTIO_BLK_S_OK;
	if (!vn_virtio_has(device, feature) || size > sizeof(request->ranges))
		status = VIRTIO_BLK_S_UNSUPP;
	else if (size == 0 || size % sizeof(request->ranges[0]) != 0)
		status = VIRTIO_BLK_S_IOERR;
	else
		vn_iovec_gather(request->ranges, request->io.iov, size);
	request->io.kind = kind;
	request->range = 0;
	request->range_count = (uint16_t)(size / sizeof(request->ranges[0]));
	for (unsigned i = 0; status == VIRTIO_BLK_S_OK && i < request->range_count; i++)
		status = check_range(request, &request->ranges[i]);
	if (status == VIRTIO_BLK_S_OK)
		next_range(request);
	else
		complete(request, status, 0);
}

static void get_id(struct blk_request *request)
{
	uint32_t size = request->writable - 1;
	if (size > VIRTIO_BLK_ID_BYTES)
		size = VIRTIO_BLK_ID_BYTES;
	vn_iovec_scatter(request->io.iov, request->queue->blk->serial, size);
	complete(request, VIRTIO_BLK_S_OK, size);
}

// Carry out a request. Its data is in request->io.iov: `in` bytes from the driver, or room for what
// goes to it.
static void dispatch(
	struct blk_request *request, const struct virtio_blk_outhdr *header, uint64_t in)
{
	switch (header->type) {
	case VIRTIO_BLK_T_IN:
		transfer(request, VN_BLK_READ, header->sector, request->writable - 1);
		break;
	case VIRTIO_BLK_T_OUT:
		transfer(request, VN_BLK_WRITE, header->sector, in);
		break;
	case VIRTIO_BLK_T_FLUSH:
		request->io.offset = 0;
		submit(request, VN_BLK_FLUSH);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(request);
		break;
	case VIRTIO_BLK_T_DISCARD:
		clear(request, VN_BLK_DISCARD, in);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		clear(request, VN_BLK_ZERO, in);
		break;
	default:
		complete(request, VIRTIO_BLK_S_UNSUPP, 0);
		break;
	}
}

// Types whose data comes from the driver.
static bool is_out(uint32_t type)
{
	return type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_DISCARD ||
	       type == VIRTIO_BLK_T_WRITE_ZEROES;
}

// Take a chain apart. The header may be cut up or share a descriptor with data in any way, the
// status is the last writable byte, and what is between them is data (section 2.7.4).
static void carry_out(struct blk_request *request, const struct vn_chain *chain)
{
	struct virtio_blk_outhdr header;
	vn_iovec_gather(&header, chain->iov, sizeof(header));

	struct iovec *writable = chain->iov + chain->readable;
	unsigned writable_count = chain->writable;
	struct iovec *last = &writable[writable_count - 1];
	request->status = (uint8_t *)last->iov_base + --last->iov_len;
	if (last->iov_len == 0)
		writable_count--;
	request->writable = (uint32_t)chain->writable_size;

	request->io.iov = writable;
	request->io.iov_count = writable_count;
	if (is_out(header.type)) {
		request->io.iov = chain->iov;
		request->io.iov_count = chain->readable;
		vn_iovec_advance(&request->io.iov, &request->io.iov_count, sizeof(header));
	}
	dispatch(request, &header, chain->readable_size - sizeof(header));
}

// 1 when a request was taken, 0 when there is none, or -EPROTO.
static int take(struct blk_queue *queue)
{
	uint16_t head;
	int code = vn_virtqueue_pop(queue->ring, &head);
	if (code <= 0)
		return code;
	struct blk_request *request = &queue->requests[head];
	request->queue = queue;
	request->head = head;
	request->taken_ns = vn_ioloop_now(queue->loop);
	request->detected = request->paid = false;
	struct vn_chain chain = {.iov = request->iov, .iov_max = QUEUE_SIZE};
	code = vn_virtqueue_chain(queue->ring, head, &chain);
	if (code < 0)
		return code;
	if (chain.readable_size < sizeof(struct virtio_blk_outhdr) || chain.writable_size == 0)
		return vn_virtqueue_break(
			queue->ring, "chain %u has no room for a header and a status", head);
	carry_out(request, &chain);
	return 1;
}

// Take what the driver has made available, at most `budget` requests, and say how many of these are
// left.
static unsigned take_all(struct blk_queue *queue, unsigned budget)
{
	while (budget > 0 && !queue->held && take(queue) == 1)
		budget--;
	return budget;
}

// Take what there is, and see to it that we come back for more: at once, or when the driver
// notifies. At most a queue full in a turn: a driver that refills as fast as requests end must not
// keep the loop from its other work.
static void serve(struct blk_queue *queue)
{
	bool ended = vn_virtqueue_has_unpublished(queue->ring);
	vn_virtqueue_disable_notify(queue->ring);
	unsigned budget = take_all(queue, QUEUE_SIZE);
	bool again =
		!vn_virtqueue_is_broken(queue->ring) &&
		vn_spin_again(&queue->spin, budget < QUEUE_SIZE, ended, vn_ioloop_now(queue->loop));
	while (!again && !queue->held && budget > 0 && vn_virtqueue_enable_notify(queue->ring))
		budget = take_all(queue, budget);
	if (budget < QUEUE_SIZE)
		vn_counter_add(&queue->stats->batches, 1);
	if (!queue->held && (again || budget == 0))
		vn_ioloop_stay_awake(queue->loop);
	if (vn_virtqueue_is_broken(queue->ring))
		vn_virtio_broken(&queue->blk->device, queue->index, queue->ring->broken);
}

static void flush(struct vn_ioloop_hook *hook)
{
	struct blk_queue *queue = container_of(hook, struct blk_queue, hook);
	if (!queue->stopping && !queue->held && !vn_virtqueue_is_broken(queue->ring))
		serve(queue);
	if (vn_virtqueue_publish(queue->ring))
		vn_virtio_interrupt(&queue->blk->device, queue->index);
}

// The flush at the end of this turn looks at the ring anyway.
static void kicked(struct vn_ioloop_event *event)
{
	struct blk_queue *queue = container_of(event, struct blk_queue, kick);
	vn_virtio_notified(&queue->blk->device, queue->index, event->count);
}

static void start_on_loop(void *arg)
{
	struct blk_queue *queue = arg;
	queue->stopping = false;
	queue->spin = (struct vn_spin){.max = queue->blk->poll_max};
	vn_ioloop_add_hook(queue->loop, &queue->hook);
	vn_ioloop_watch(queue->loop, &queue->kick);
	flush(&queue->hook);
}

static void start(struct vn_virtio_device *device, unsigned index)
{
	struct blk_queue *queue = &from_device(device)->queues[index];
	queue->ring = &device->queues[index].ring;
	queue->stats = device->queues[index].stats;
	queue->kick.fd = device->queues[index].kick;
	queue->write_through = !vn_virtio_has(device, VIRTIO_BLK_F_FLUSH);
	vn_ioloop_call(queue->loop, start_on_loop, queue);
}

static bool is_idle(void *arg)
{
	const struct blk_queue *queue = arg;
	return queue->in_flight == 0;
}

// The driver takes back what has not begun, or finds it begun anew. It is the last that was taken.
static void forget_held(struct blk_queue *queue)
{
	vn_ioloop_cancel_timer(&queue->turn);
	if (!queue->held)
		return;
	vn_rate_return(&queue->blk->operations, 1);
	vn_rate_return(&queue->blk->bytes, bytes_of(queue->held));
	if (queue->why == VN_VIRTIO_PAUSE)
		vn_virtqueue_unpop(queue->ring, queue->held->head);
	queue->held = NULL;
}

static void stop_on_loop(void *arg)
{
	struct blk_queue *queue = arg;
	queue->stopping = true;
	vn_ioloop_unwatch(&queue->kick);
	forget_held(queue);
	vn_ioloop_run_until(queue->loop, is_idle, queue);
	if (queue->why == VN_VIRTIO_PAUSE)
		flush(&queue->hook);
	vn_ioloop_remove_hook(queue->loop, &queue->hook);
}

static void stop(struct vn_virtio_device *device, unsigned index, enum vn_virtio_stop why)
{
	struct blk_queue *queue = &from_device(device)->queues[index];
	queue->why = why;
	vn_ioloop_call(queue->loop, stop_on_loop, queue);
}

static void config_read(struct vn_virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	memcpy(data, (const char *)&from_device(device)->config + offset, size);
}

struct registration {
	struct blk_queue *queue;
	int code;
};

// Not the runs of RAM: Linux 6.1 refuses a buffer that is in two files.
static void register_on_loop(void *arg)
{
	struct registration *registration = arg;
	struct blk_queue *queue = registration->queue;
	const struct vn_memory *memory = queue->blk->device.memory;
	struct iovec parts[VN_RAM_MAX];
	unsigned count = 0;
	for (unsigned i = 0; i < memory->cell_count; i++)
		for (unsigned n = 0; n < memory->cells[i].part_count; n++) {
			const struct vn_memory_part *part = &memory->cells[i].parts[n];
			parts[count++] = (struct iovec){
				vn_memory_at(memory, part->start, part->size), part->size};
		}
	registration->code = vn_ioloop_register_memory(queue->loop, parts, count);
}

// Guest memory is registered where that saves pinning it for each request, and where all of it is
// there already: pinning would make what the guest may never use.
static void settle(struct vn_virtio_device *device)
{
	struct vn_blk *blk = from_device(device);
	int code = 0;
	if (!blk->backend->direct || !device->memory->stays)
		return;
	for (unsigned i = 0; i < blk->queue_count; i++) {
		struct registration registration = {.queue = &blk->queues[i]};
		vn_ioloop_call(blk->queues[i].loop, register_on_loop, &registration);
		if (registration.code < 0)
			code = registration.code;
	}
	if (code < 0)
		vn_note(device->log,
			"%s: guest memory is not registered with io_uring, "
			"which pins it for each request instead: %s%s",
			blk->name, strerror(-code),
			code == -ENOMEM ? "; raise the limit of locked memory (ulimit -l)" : "");
}

static const struct vn_virtio_ops blk_ops = {
	.start = start, .stop = stop, .config_read = config_read, .settle = settle};

// What the fields of the configuration space hold that say how to access the disk well.
static void describe_topology(
	struct virtio_blk_config *config, const struct vn_blk_backend *backend)
{
	uint32_t block = backend->block_size;
	uint32_t minimum = backend->io_min / block;
	while (((uint64_t)block << config->physical_block_exp) < backend->physical_size)
		config->physical_block_exp++;
	config->alignment_offset = (uint8_t)(backend->alignment / block);
	config->min_io_size = minimum <= UINT16_MAX ? (uint16_t)minimum : 0;
	config->opt_io_size = backend->io_best / block;
}

static void describe_clearing(
	struct virtio_blk_config *config, const struct vn_blk_backend *backend)
{
	if (backend->discards) {
		config->max_discard_sectors = RANGE_SECTORS_MAX;
		config->max_discard_seg = RANGES_MAX;
		config->discard_sector_alignment = backend->physical_size >> SECTOR_SHIFT;
	}
	if (backend->zeroes) {
		config->max_write_zeroes_sectors = RANGE_SECTORS_MAX;
		config->max_write_zeroes_seg = RANGES_MAX;
		config->write_zeroes_may_unmap = 1;
	}
}

static uint64_t offered(const struct vn_blk *blk)
{
	const struct vn_blk_backend *backend = blk->backend;
	uint64_t features = BIT64(VIRTIO_BLK_F_SEG_MAX) | BIT64(VIRTIO_BLK_F_BLK_SIZE) |
			    BIT64(VIRTIO_BLK_F_TOPOLOGY);
	// Without a write cache there is nothing to flush: a driver that sees no FLUSH takes the
	// disk for write-through (section 5.2.5.1), which it is.
	if (backend->write_cache)
		features |= BIT64(VIRTIO_BLK_F_FLUSH);
	if (backend->readonly)
		features |= BIT64(VIRTIO_BLK_F_RO);
	if (backend->discards)
		features |= BIT64(VIRTIO_BLK_F_DISCARD);
	if (backend->zeroes)
		features |= BIT64(VIRTIO_BLK_F_WRITE_ZEROES);
	if (blk->queue_count > 1)
		features |= BIT64(VIRTIO_BLK_F_MQ);
	return features;
}

static void describe(struct vn_blk *blk, const struct vn_memory *memory, const struct vn_log *log)
{
	const struct vn_blk_backend *backend = blk->backend;
	blk->config = (struct virtio_blk_config){.capacity = backend->capacity >> SECTOR_SHIFT,
		.seg_max = SEGMENTS_MAX,
		.blk_size = backend->block_size,
		.num_queues = (uint16_t)blk->queue_count};
	describe_topology(&blk->config, backend);
	describe_clearing(&blk->config, backend);
	blk->device = (struct vn_virtio_device){.name = blk->name,
		.id = VIRTIO_ID_BLOCK,
		.features = offered(blk),
		.config_size = sizeof(blk->config),
		.queue_count = blk->queue_count,
		.queues = blk->virtio_queues,
		.ops = &blk_ops,
		.memory = memory,
		.log = log};
}

struct attachment {
	struct blk_queue *queue;
	int rings, file; // 0 or a negative errno
};

static void attach_on_loop(void *arg)
{
	struct attachment *attachment = arg;
	struct blk_queue *queue = attachment->queue;
	struct vn_blk_backend *backend = queue->blk->backend;
	attachment->rings =
		vn_ioloop_set_polling(queue->loop, queue->blk->sqpoll, queue->blk->iopoll);
	if (attachment->rings == 0)
		attachment->file = backend->ops->attach(backend, queue->loop, &queue->channel);
}

static void detach_on_loop(void *arg)
{
	struct blk_queue *queue = arg;
	queue->blk->backend->ops->detach(queue->channel);
}

static int create_loop(struct blk_queue *queue, struct vn_loops *loops, struct veneer_error *error)
{
	struct vn_blk *blk = queue->blk;
	char name[32];
	snprintf(name, sizeof(name), "%s-%u", blk->name, queue->index);
	int code = vn_loops_take(loops, name, true, &queue->loop, error);
	if (code < 0)
		return code;
	struct attachment attachment = {.queue = queue};
	vn_ioloop_call(queue->loop, attach_on_loop, &attachment);
	if (attachment.rings == 0 && attachment.file == 0)
		return 0;
	vn_loops_give_back(loops, queue->loop);
	if (attachment.rings < 0)
		return vn_fail(error, attachment.rings, "%s: no io_uring with sqpoll or iopoll: %s",
			blk->name, strerror(-attachment.rings));
	return vn_fail(error, attachment.file, "%s: io_uring does not take its file: %s", blk->name,
		strerror(-attachment.file));
}

static int create_queue(
	struct vn_blk *blk, unsigned index, struct vn_loops *loops, struct veneer_error *error)
{
	struct blk_queue *queue = &blk->queues[index];
	blk->virtio_queues[index].size_max = QUEUE_SIZE;
	queue->blk = blk;
	queue->index = index;
	queue->kick.fire = kicked;
	queue->turn.expire = turn_has_come;
	queue->hook.flush = flush;
	queue->requests = calloc(QUEUE_SIZE, sizeof(*queue->requests));
	if (!queue->requests)
		return vn_fail(error, -ENOMEM, "%s: no memory for its requests", blk->name);
	int code = create_loop(queue, loops, error);
	if (code < 0)
		free(queue->requests);
	return code;
}

static void destroy_queues(struct vn_blk *blk, unsigned count)
{
	for (unsigned i = count; i-- > 0;) {
		vn_ioloop_call(blk->queues[i].loop, detach_on_loop, &blk->queues[i]);
		vn_loops_give_back(blk->loops, blk->queues[i].loop);
		free(blk->queues[i].requests);
	}
}

static int create_queues(struct vn_blk *blk, struct vn_loops *loops, struct veneer_error *error)
{
	blk->loops = loops;
	for (unsigned i = 0; i < blk->queue_count; i++) {
		int code = create_queue(blk, i, loops, error);
		if (code < 0) {
			destroy_queues(blk, i);
			return code;
		}
	}
	return 0;
}

// More queues than CPUs are of no use, and more than these are rarely worth their threads.
static bool complete_options(void *values, const struct vn_device_guest *guest)
{
	struct vn_blk_options *options = values;
	if (options->queues == 0)
		options->queues =
			guest->cpus < VN_BLK_QUEUES_DEFAULT ? guest->cpus : VN_BLK_QUEUES_DEFAULT;
	return true;
}

static unsigned count_loops(const void *values)
{
	return ((const struct vn_blk_options *)values)->queues;
}

static int open_backend(struct vn_blk *blk, const struct vn_blk_options *options,
	const struct vn_log *log, struct veneer_error *error)
{
	char text[32];
	int code = vn_blk_file_open(&blk->backend, options, log, error);
	if (code < 0 || !options->detect_zeroes || blk->backend->zeroes)
		return code;
	blk->backend->ops->destroy(blk->backend);
	return vn_fail(error, -EOPNOTSUPP, "disk %s: detect-zeroes: %s",
		vn_file_called(&options->path, text),
		options->readonly ? "it is read-only"
				  : "its file system has no other way to write zeroes");
}

static int create(struct vn_virtio_device **device, const struct vn_device_env *env, void *values,
	struct veneer_error *error)
{
	const struct vn_blk_options *options = values;
	struct vn_blk *blk = aligned_alloc(_Alignof(struct vn_blk), sizeof(*blk));
	if (!blk)
		return vn_fail(error, -ENOMEM, "%s: no memory", env->name);
	memset(blk, 0, sizeof(*blk));
	strncpy(blk->name, env->name, sizeof(blk->name) - 1);
	if (options->serial)
		memcpy(blk->serial, options->serial, strnlen(options->serial, sizeof(blk->serial)));
	blk->queue_count = options->queues;
	blk->poll_max = options->poll_us * NS_PER_US;
	blk->limited = options->iops.per_second > 0 || options->bps.per_second > 0;
	vn_rate_init(&blk->operations, options->iops.per_second, options->iops.burst);
	vn_rate_init(&blk->bytes, options->bps.per_second, options->bps.burst);
	blk->detect_zeroes = options->detect_zeroes;
	blk->sqpoll = options->sqpoll;
	blk->iopoll = options->iopoll;
	int code = open_backend(blk, options, env->log, error);
	if (code < 0)
		goto free_blk;
	describe(blk, env->memory, env->log);
	code = vn_virtio_device_init(&blk->device, error);
	if (code < 0)
		goto close_backend;
	code = create_queues(blk, env->loops, error);
	if (code < 0)
		goto destroy_device;
	*device = &blk->device;
	return 0;

destroy_device:
	vn_virtio_device_destroy(&blk->device);
close_backend:
	blk->backend->ops->destroy(blk->backend);
free_blk:
	free(blk);
	return code;
}

// The lock keeps the capacity and its generation together for a driver that reads both.
int vn_blk_refresh(struct vn_virtio_device *device, struct veneer_error *error)
{
	struct vn_blk *blk = from_device(device);
	vn_virtio_lock(device);
	int code = blk->backend->ops->refresh(blk->backend, error);
	uint64_t sectors = blk->backend->capacity >> SECTOR_SHIFT;
	bool changed = sectors != blk->config.capacity;
	if (changed) {
		blk->config.capacity = sectors;
		vn_virtio_config_changed(device);
	}
	vn_virtio_unlock(device);
	if (changed)
		vn_note(device->log, "%s: its size is now %llu bytes", blk->name,
			(unsigned long long)sectors << SECTOR_SHIFT);
	return code;
}

static void destroy(struct vn_virtio_device *device)
{
	struct vn_blk *blk = from_device(device);
	destroy_queues(blk, blk->queue_count);
	vn_virtio_device_destroy(device);
	blk->backend->ops->destroy(blk->backend);
	free(blk);
}

const struct vn_device_type vn_blk_type = {.option = &vn_blk_option,
	.kind = "blk",
	.complete = complete_options,
	.count_loops = count_loops,
	.create = create,
	.refresh = vn_blk_refresh,
	.destroy = destroy};
