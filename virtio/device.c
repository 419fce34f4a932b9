// SPDX-License-Identifier: Apache-2.0
//
// The device state machine. A driver that follows the specification never notices it; for one that
// does not, each step refuses what would lead to a state that the next step cannot handle.
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/macros.h"

#define DRIVER_STATUS_BITS                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
		VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

#define MAC_BYTES 6

#define CORE_FEATURES                                                                              \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |                              \
		BIT64(VIRTIO_RING_F_INDIRECT_DESC))

// A driver that breaks its device again and again after resets must not fill the log.
#define BROKEN_MESSAGES 10

// All queues' counters, each on cache lines of its own; queues[0] has the block.
static int create_stats(struct vn_virtio_device *device, struct veneer_error *error)
{
	size_t size = device->queue_count * sizeof(struct vn_queue_stats);
	struct vn_queue_stats *stats = aligned_alloc(VN_CACHE_LINE, size);
	if (!stats)
		return vn_fail(error, -ENOMEM, "%s: no memory for its counters", device->name);
	memset(stats, 0, size);
	for (unsigned i = 0; i < device->queue_count; i++)
		device->queues[i].stats = &stats[i];
	return 0;
}

int vn_virtio_device_init(struct vn_virtio_device *device, struct veneer_error *error)
{
	device->features |= CORE_FEATURES;
	device->transport = NULL;
	device->driver_features = 0;
	atomic_init(&device->status, 0);
	atomic_init(&device->generation, 0);
	atomic_init(&device->broken_count, 0);
	for (unsigned i = 0; i < device->queue_count; i++)
		device->queues[i].kick = -1;
	int code = -pthread_mutex_init(&device->lock, NULL);
	if (code < 0)
		return vn_fail(error, code, "%s: no lock: %s", device->name, strerror(-code));
	code = create_stats(device, error);
	if (code < 0)
		pthread_mutex_destroy(&device->lock);
	return code;
}

void vn_virtio_device_destroy(struct vn_virtio_device *device)
{
	free(device->queues[0].stats);
	pthread_mutex_destroy(&device->lock);
}

void vn_virtio_lock(struct vn_virtio_device *device)
{
	pthread_mutex_lock(&device->lock);
}

void vn_virtio_unlock(struct vn_virtio_device *device)
{
	pthread_mutex_unlock(&device->lock);
}

uint32_t vn_virtio_offered(const struct vn_virtio_device *device, uint32_t word)
{
	return word < 2 ? (uint32_t)(device->features >> (32 * word)) : 0;
}

void vn_virtio_accept(struct vn_virtio_device *device, uint32_t word, uint32_t bits)
{
	if (word >= 2 || (vn_virtio_status(device) & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	uint64_t mask = 0xffffffffull << (32 * word);
	device->driver_features =
		(device->driver_features & ~mask) | ((uint64_t)bits << (32 * word));
}

bool vn_virtio_has(const struct vn_virtio_device *device, unsigned bit)
{
	return device->driver_features >> bit & 1;
}

static bool is_negotiated(const struct vn_virtio_device *device)
{
	return (device->driver_features & ~device->features) == 0 &&
	       vn_virtio_has(device, VIRTIO_F_VERSION_1);
}

uint32_t vn_virtio_status(const struct vn_virtio_device *device)
{
	return atomic_load_explicit(&device->status, memory_order_acquire);
}

static bool is_running(const struct vn_virtio_device *device)
{
	return vn_virtio_status(device) & VIRTIO_CONFIG_S_DRIVER_OK;
}

static void start_queue(struct vn_virtio_device *device, unsigned index)
{
	struct vn_virtio_queue *queue = &device->queues[index];
	struct vn_virtqueue_layout layout = {.size = queue->size,
		.desc = queue->desc,
		.avail = queue->avail,
		.used = queue->used,
		.event_idx = vn_virtio_has(device, VIRTIO_RING_F_EVENT_IDX),
		.indirect = vn_virtio_has(device, VIRTIO_RING_F_INDIRECT_DESC),
		.avail_next = queue->avail_next,
		.used_next = queue->used_next};
	struct veneer_error error;
	queue->paused = device->paused;
	if (queue->paused)
		return;
	if (vn_virtqueue_init(&queue->ring, device->memory, &layout, &error) < 0) {
		vn_virtio_broken(device, index, error.message);
		return;
	}
	queue->started = true;
	queue->stats->own_kicks = 0; // what was left of them went with the last stop
	device->ops->start(device, index);
}

static void stop_queue(struct vn_virtio_device *device, unsigned index)
{
	struct vn_virtio_queue *queue = &device->queues[index];
	if (queue->started)
		device->ops->stop(device, index, VN_VIRTIO_RESET);
	queue->started = queue->paused = false;
	queue->avail_next = queue->used_next = 0;
}

// A broken queue does not go on with the others: only a reset mends it.
static void pause_queue(struct vn_virtio_device *device, unsigned index)
{
	struct vn_virtio_queue *queue = &device->queues[index];
	if (!queue->started)
		return;
	device->ops->stop(device, index, VN_VIRTIO_PAUSE);
	queue->started = false;
	queue->paused = !vn_virtqueue_is_broken(&queue->ring);
	queue->avail_next = queue->ring.avail_next;
	queue->used_next = queue->ring.used_next;
}

// The last queue first: a network's control queue needs the others to carry out a command, and what
// it sends may be answered.
void vn_virtio_pause(struct vn_virtio_device *device)
{
	vn_virtio_lock(device);
	device->paused = true;
	for (unsigned i = device->queue_count; i-- > 0;)
		pause_queue(device, i);
	vn_virtio_unlock(device);
}

void vn_virtio_resume(struct vn_virtio_device *device)
{
	vn_virtio_lock(device);
	device->paused = false;
	for (unsigned i = 0; i < device->queue_count; i++)
		if (device->queues[i].paused)
			start_queue(device, i);
	vn_virtio_unlock(device);
}

static void start_device(struct vn_virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++)
		if (device->queues[i].ready)
			start_queue(device, i);
}

// Loops may report a broken queue until the last one has stopped, so the status is cleared after
// that. They take no lock to do so, and cannot wait for us while we wait for them.
static void reset_device(struct vn_virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++)
		stop_queue(device, i);
	if (device->ops->reset)
		device->ops->reset(device);
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct vn_virtio_queue *queue = &device->queues[i];
		queue->ready = false;
		queue->size = 0;
		queue->desc = queue->avail = queue->used = VN_GPA(0);
	}
	device->driver_features = 0;
	atomic_store_explicit(&device->status, 0, memory_order_release);
	device->transport->reset(device->transport);
}

void vn_virtio_set_status(struct vn_virtio_device *device, uint32_t status)
{
	if (status == 0) {
		reset_device(device);
		return;
	}
	uint32_t before = vn_virtio_status(device);
	uint32_t added = status & ~before & DRIVER_STATUS_BITS;
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !is_negotiated(device))
		added &= ~(uint32_t)VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((before | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~(uint32_t)VIRTIO_CONFIG_S_DRIVER_OK;
	atomic_fetch_or_explicit(&device->status, added, memory_order_acq_rel);
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		start_device(device);
}

void vn_virtio_reset(struct vn_virtio_device *device)
{
	vn_virtio_lock(device);
	reset_device(device);
	vn_virtio_unlock(device);
}

struct vn_virtio_queue *vn_virtio_queue(struct vn_virtio_device *device, uint32_t index)
{
	return index < device->queue_count ? &device->queues[index] : NULL;
}

void vn_virtio_queue_enable(struct vn_virtio_device *device, uint32_t index)
{
	struct vn_virtio_queue *queue = vn_virtio_queue(device, index);
	if (!queue || queue->ready)
		return;
	if (queue->size == 0 || queue->size > queue->size_max ||
		(queue->size & (queue->size - 1)) != 0)
		return;
	queue->ready = true;
	if (is_running(device))
		start_queue(device, index);
}

void vn_virtio_queue_disable(struct vn_virtio_device *device, uint32_t index)
{
	struct vn_virtio_queue *queue = vn_virtio_queue(device, index);
	if (!queue)
		return;
	stop_queue(device, index);
	queue->ready = false;
}

// How much of an access lies within the configuration space.
static uint32_t clip(const struct vn_virtio_device *device, uint64_t offset, uint32_t size)
{
	if (offset >= device->config_size)
		return 0;
	uint64_t left = device->config_size - offset;
	return size < left ? size : (uint32_t)left;
}

void vn_virtio_config_read(
	struct vn_virtio_device *device, uint64_t offset, void *data, uint32_t size)
{
	uint32_t within = clip(device, offset, size);
	memset(data, 0, size);
	if (within > 0)
		device->ops->config_read(device, (uint32_t)offset, data, within);
}

void vn_virtio_config_write(
	struct vn_virtio_device *device, uint64_t offset, const void *data, uint32_t size)
{
	uint32_t within = clip(device, offset, size);
	if (within > 0 && device->ops->config_write)
		device->ops->config_write(device, (uint32_t)offset, data, within);
}

void vn_virtio_interrupt(struct vn_virtio_device *device, unsigned index)
{
	vn_counter_add(&device->queues[index].stats->interrupts, 1);
	device->transport->interrupt_queue(device->transport, index);
}

int vn_virtio_interrupt_fd(const struct vn_virtio_device *device, unsigned index)
{
	struct vn_virtio_transport *transport = device->transport;
	return transport->interrupt_fd ? transport->interrupt_fd(transport, index) : -1;
}

void vn_virtio_settle(struct vn_virtio_device *device)
{
	if (!device->ops->settle)
		return;
	vn_virtio_lock(device);
	device->ops->settle(device);
	vn_virtio_unlock(device);
}

void vn_virtio_interrupt_moved(struct vn_virtio_device *device, unsigned index)
{
	if (device->queues[index].started && device->ops->interrupt_moved)
		device->ops->interrupt_moved(device, index);
}

void vn_virtio_notified(struct vn_virtio_device *device, unsigned index, uint64_t count)
{
	struct vn_queue_stats *stats = device->queues[index].stats;
	uint64_t own = stats->own_kicks < count ? stats->own_kicks : count;
	stats->own_kicks -= own;
	if (count == own)
		return;
	vn_counter_add(&stats->notifications, count - own);
	vn_counter_add(&stats->wakeups, 1);
}

void vn_virtio_kick_again(struct vn_virtio_device *device, unsigned index)
{
	device->queues[index].stats->own_kicks++;
	eventfd_write(device->queues[index].kick, 1);
}

void vn_virtio_broken(struct vn_virtio_device *device, unsigned index, const char *reason)
{
	uint32_t before = atomic_fetch_or_explicit(
		&device->status, VIRTIO_CONFIG_S_NEEDS_RESET, memory_order_acq_rel);
	if (before & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	unsigned count = atomic_fetch_add_explicit(&device->broken_count, 1, memory_order_relaxed);
	if (count < BROKEN_MESSAGES)
		vn_warn(device->log, "%s: the guest's driver broke queue %u: %s%s", device->name,
			index, reason,
			count == BROKEN_MESSAGES - 1 ? " (not reported from here on)" : "");
	if (before & VIRTIO_CONFIG_S_DRIVER_OK)
		device->transport->interrupt_config(device->transport);
}

void vn_virtio_config_changed(struct vn_virtio_device *device)
{
	atomic_fetch_add_explicit(&device->generation, 1, memory_order_acq_rel);
	if (is_running(device))
		device->transport->interrupt_config(device->transport);
}

int vn_virtio_stats(const struct vn_virtio_device *device, struct vn_arena *arena,
	const struct veneer_device_stats **result)
{
	unsigned count = device->queue_count;
	struct veneer_device_stats *stats = vn_arena_alloc(arena, sizeof(*stats));
	struct veneer_queue_stats *queues = vn_arena_alloc(arena, count * sizeof(*queues));
	const struct veneer_queue_stats **list = vn_arena_alloc(arena, (count + 1) * sizeof(*list));
	if (!stats || !queues || !list)
		return -ENOMEM;
	char *name = vn_arena_alloc(arena, strlen(device->name) + 1);
	uint8_t *mac = device->mac ? vn_arena_alloc(arena, MAC_BYTES) : NULL;
	if (!name || (device->mac && !mac))
		return -ENOMEM;
	strcpy(name, device->name);
	if (mac)
		memcpy(mac, device->mac, MAC_BYTES);
	*stats = (struct veneer_device_stats){
		.name = name, .virtio_id = device->id, .queues = list, .mac = mac};
	int code = 0;
	for (unsigned i = 0; code == 0 && i < count; i++) {
		list[i] = &queues[i];
		code = vn_queue_stats_read(device->queues[i].stats, i, arena, &queues[i]);
	}
	*result = stats;
	return code;
}
