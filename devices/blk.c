// SPDX-License-Identifier: Apache-2.0
//
// virtio-blk. Each queue has a loop, and a request for every head that can be in flight, so nothing
// is allocated or locked between the driver's notification and its interrupt. All of a queue's work
// is done in the loop's flush hook, at the end of a turn: by then the turn's completions are in the
// used ring, and what is popped now is submitted by the system call in which the loop waits next.
#include "devices/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "devices/blk_file.h"
#include "vmm/ioloop.h"
#include "vmm/iovec.h"

#define SECTOR_SHIFT 9
#define QUEUES       1
#define QUEUE_SIZE   256
// A chain also holds a header and a status.
#define SEGMENTS_MAX (QUEUE_SIZE - 2)
#define RING_ENTRIES 256

// Where a request is, between pop and push. On the queue's loop only.
struct blk_request {
	struct vn_blk_io io;
	struct blk_queue *queue;
	uint8_t *status; // the guest's byte
	uint32_t writable; // bytes of the chain that the device may write, the status among them
	uint16_t head;
	struct iovec iov[QUEUE_SIZE];
};

// Owned by the device; from start to stop on its loop only.
struct blk_queue {
	struct vn_blk *blk;
	unsigned index;
	struct vn_virtqueue *ring;
	struct vn_ioloop *loop;
	struct vn_ioloop_event kick;
	struct vn_ioloop_hook hook;
	unsigned in_flight; // requests with the backend
	bool stopping;
	bool write_through; // the driver counts on writes being stable when they complete
	struct blk_request *requests; // QUEUE_SIZE of them, by head
};

// Owned by the vm. Immutable once created, but for what says otherwise.
struct vn_blk {
	struct vn_virtio_device device;
	char name[16];
	uint8_t serial[VIRTIO_BLK_ID_BYTES];
	struct virtio_blk_config config;
	struct vn_blk_backend *backend;
	atomic_uint errors; // of the host, over the device's life
	struct vn_virtio_queue virtio_queues[QUEUES];
	struct blk_queue queues[QUEUES];
};

static struct vn_blk *from_device(struct vn_virtio_device *device)
{
	return (struct vn_blk *)((char *)device - offsetof(struct vn_blk, device));
}

// Give the request back. `data` bytes from the start of its writable part are known to be written.
// The used length covers the status only where that follows them at once: a driver may take all
// bytes within the length for written (section 2.7.8.2).
static void complete(struct blk_request *request, uint8_t status, uint32_t data)
{
	*request->status = status;
	uint32_t written = data == request->writable - 1 ? request->writable : data;
	vn_virtqueue_push(request->queue->ring, request->head, written);
}

// Warn of the first host error, the second, the fourth...: a failing disk must not fill the log.
static void report(struct blk_request *request, int code, const char *reason)
{
	static const char *const names[] = {"read", "write", "flush"};
	const struct vn_blk_io *io = &request->io;
	struct vn_blk *blk = request->queue->blk;
	unsigned count = atomic_fetch_add_explicit(&blk->errors, 1, memory_order_relaxed) + 1;
	if ((count & (count - 1)) != 0)
		return;
	vn_warn(blk->device.log, "%s: %s at byte %llu failed: %s (error %u of this disk)",
		blk->name, names[io->kind], (unsigned long long)io->offset,
		reason ? reason : strerror(-code), count);
}

static void io_done(struct vn_blk_io *io, int code, const char *reason)
{
	struct blk_request *request =
		(struct blk_request *)((char *)io - offsetof(struct blk_request, io));
	request->queue->in_flight--;
	if (code < 0) {
		report(request, code, reason);
		complete(request, VIRTIO_BLK_S_IOERR, 0);
	} else {
		complete(request, VIRTIO_BLK_S_OK,
			io->kind == VN_BLK_READ ? request->writable - 1 : 0);
	}
}

static void submit(struct blk_request *request, enum vn_blk_kind kind)
{
	struct blk_queue *queue = request->queue;
	request->io.kind = kind;
	request->io.stable = kind == VN_BLK_WRITE && queue->write_through;
	request->io.done = io_done;
	queue->in_flight++;
	queue->blk->backend->ops->submit(queue->blk->backend, queue->loop, &request->io);
}

// Start a read or write of the `size` bytes in request->io.iov.
static void transfer(
	struct blk_request *request, enum vn_blk_kind kind, uint64_t sector, uint64_t size)
{
	const struct vn_blk_backend *backend = request->queue->blk->backend;
	uint64_t sectors = size >> SECTOR_SHIFT;
	uint64_t capacity = backend->capacity >> SECTOR_SHIFT;
	if (size % (1u << SECTOR_SHIFT) != 0 || sector > capacity || sectors > capacity - sector ||
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
	submit(request, kind);
}

static void get_id(struct blk_request *request)
{
	uint32_t size = request->writable - 1;
	if (size > VIRTIO_BLK_ID_BYTES)
		size = VIRTIO_BLK_ID_BYTES;
	vn_iovec_scatter(request->io.iov, request->queue->blk->serial, size);
	complete(request, VIRTIO_BLK_S_OK, size);
}

// Carry out a chain. The header may be cut up or share a descriptor with data in any way, the
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
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
		transfer(request, VN_BLK_READ, header.sector, request->writable - 1);
		break;
	case VIRTIO_BLK_T_OUT:
		request->io.iov = chain->iov;
		request->io.iov_count = chain->readable;
		vn_iovec_advance(&request->io.iov, &request->io.iov_count, sizeof(header));
		transfer(request, VN_BLK_WRITE, header.sector,
			chain->readable_size - sizeof(header));
		break;
	case VIRTIO_BLK_T_FLUSH:
		request->io.offset = 0;
		submit(request, VN_BLK_FLUSH);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(request);
		break;
	default:
		complete(request, VIRTIO_BLK_S_UNSUPP, 0);
		break;
	}
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

// Take what the driver has made available, until it is told to notify again. At most a queue full
// in a turn: a driver that refills as fast as requests end must not keep the loop from its other
// work. The rest then has its turn by a kick of our own.
static void serve(struct blk_queue *queue)
{
	unsigned budget = QUEUE_SIZE;
	vn_virtqueue_disable_notify(queue->ring);
	do {
		while (budget > 0 && take(queue) == 1)
			budget--;
	} while (budget > 0 && vn_virtqueue_enable_notify(queue->ring));
	if (budget == 0)
		eventfd_write(queue->kick.fd, 1);
	if (vn_virtqueue_is_broken(queue->ring))
		vn_virtio_broken(&queue->blk->device, queue->index, queue->ring->broken);
}

static void flush(struct vn_ioloop_hook *hook)
{
	struct blk_queue *queue =
		(struct blk_queue *)((char *)hook - offsetof(struct blk_queue, hook));
	if (!queue->stopping && !vn_virtqueue_is_broken(queue->ring))
		serve(queue);
	if (vn_virtqueue_publish(queue->ring))
		vn_virtio_interrupt(&queue->blk->device, queue->index);
}

static void kicked(struct vn_ioloop_event *event)
{
	(void)event; // the flush at the end of this turn looks at the ring anyway
}

static void start_on_loop(void *arg)
{
	struct blk_queue *queue = arg;
	queue->stopping = false;
	vn_ioloop_add_hook(queue->loop, &queue->hook);
	vn_ioloop_watch(queue->loop, &queue->kick);
	flush(&queue->hook);
}

static void start(struct vn_virtio_device *device, unsigned index)
{
	struct blk_queue *queue = &from_device(device)->queues[index];
	queue->ring = &device->queues[index].ring;
	queue->kick.fd = device->queues[index].kick;
	queue->write_through = !vn_virtio_has(device, VIRTIO_BLK_F_FLUSH);
	vn_ioloop_call(queue->loop, start_on_loop, queue);
}

static bool is_idle(void *arg)
{
	const struct blk_queue *queue = arg;
	return queue->in_flight == 0;
}

static void stop_on_loop(void *arg)
{
	struct blk_queue *queue = arg;
	queue->stopping = true;
	vn_ioloop_unwatch(&queue->kick);
	vn_ioloop_run_until(queue->loop, is_idle, queue);
	vn_ioloop_remove_hook(queue->loop, &queue->hook);
}

static void stop(struct vn_virtio_device *device, unsigned index)
{
	struct blk_queue *queue = &from_device(device)->queues[index];
	vn_ioloop_call(queue->loop, stop_on_loop, queue);
}

static void config_read(struct vn_virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	memcpy(data, (const char *)&from_device(device)->config + offset, size);
}

static const struct vn_virtio_ops blk_ops = {
	.start = start, .stop = stop, .config_read = config_read};

static void describe(struct vn_blk *blk, const struct vn_memory *memory, const struct vn_log *log)
{
	const struct vn_blk_backend *backend = blk->backend;
	blk->config = (struct virtio_blk_config){.capacity = backend->capacity >> SECTOR_SHIFT,
		.seg_max = SEGMENTS_MAX,
		.blk_size = backend->block_size};
	blk->device = (struct vn_virtio_device){.name = blk->name,
		.id = VIRTIO_ID_BLOCK,
		.features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE,
		.config_size = sizeof(blk->config),
		.queue_count = QUEUES,
		.queues = blk->virtio_queues,
		.ops = &blk_ops,
		.memory = memory,
		.log = log};
	// Without a write cache there is nothing to flush: a driver that sees no FLUSH takes the
	// disk for write-through (section 5.2.5.1), which it is.
	if (backend->write_cache)
		blk->device.features |= 1ull << VIRTIO_BLK_F_FLUSH;
	if (backend->readonly)
		blk->device.features |= 1ull << VIRTIO_BLK_F_RO;
}

static int create_queue(struct vn_blk *blk, unsigned index, struct veneer_error *error)
{
	struct blk_queue *queue = &blk->queues[index];
	blk->virtio_queues[index].size_max = QUEUE_SIZE;
	queue->blk = blk;
	queue->index = index;
	queue->kick.fire = kicked;
	queue->hook.flush = flush;
	queue->requests = calloc(QUEUE_SIZE, sizeof(*queue->requests));
	if (!queue->requests)
		return vn_fail(error, -ENOMEM, "%s: no memory for its requests", blk->name);
	int code = vn_ioloop_create(&queue->loop, blk->name, RING_ENTRIES, error);
	if (code < 0)
		free(queue->requests);
	return code;
}

static void destroy_queues(struct vn_blk *blk, unsigned count)
{
	for (unsigned i = count; i-- > 0;) {
		vn_ioloop_destroy(blk->queues[i].loop);
		free(blk->queues[i].requests);
	}
}

static int create_queues(struct vn_blk *blk, struct veneer_error *error)
{
	for (unsigned i = 0; i < QUEUES; i++) {
		int code = create_queue(blk, i, error);
		if (code < 0) {
			destroy_queues(blk, i);
			return code;
		}
	}
	return 0;
}

int vn_blk_create(struct vn_virtio_device **device, const char *name,
	const struct veneer_disk *disk, const struct vn_memory *memory, const struct vn_log *log,
	struct veneer_error *error)
{
	if (disk->serial && strlen(disk->serial) > VIRTIO_BLK_ID_BYTES)
		return vn_fail(error, -EINVAL,
			"disk %s: serial number '%s' is longer than %d bytes", disk->path,
			disk->serial, VIRTIO_BLK_ID_BYTES);
	struct vn_blk *blk = calloc(1, sizeof(*blk));
	if (!blk)
		return vn_fail(error, -ENOMEM, "%s: no memory", name);
	strncpy(blk->name, name, sizeof(blk->name) - 1);
	if (disk->serial)
		memcpy(blk->serial, disk->serial, strnlen(disk->serial, sizeof(blk->serial)));
	int code = vn_blk_file_open(&blk->backend, disk, log, error);
	if (code < 0)
		goto free_blk;
	describe(blk, memory, log);
	code = vn_virtio_device_init(&blk->device, error);
	if (code < 0)
		goto close_backend;
	code = create_queues(blk, error);
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

void vn_blk_destroy(struct vn_virtio_device *device)
{
	struct vn_blk *blk = from_device(device);
	destroy_queues(blk, QUEUES);
	vn_virtio_device_destroy(device);
	blk->backend->ops->destroy(blk->backend);
	free(blk);
}
