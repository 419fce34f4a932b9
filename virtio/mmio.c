// SPDX-License-Identifier: Apache-2.0
//
// virtio-mmio registers (virtio 1.2 section 4.2.2). They lead to the device's state machine;
// what is kept here is what the transport alone knows: the selectors, InterruptStatus, and the
// descriptors that carry notifications and interrupts.
#include "virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/macros.h"

#define MAGIC   0x74726976 // "virt"
#define VERSION 2
#define VENDOR  0x52454e56 // "VNER"

// Owned by the vm. The selectors are under the device's lock; `interrupt_status` is set by loops
// and cleared by vCPUs; the rest is immutable once the guest runs.
struct vn_virtio_mmio {
	struct vn_virtio_transport transport;
	struct vn_virtio_device *device;
	const struct vn_kvm *kvm;
	vn_gpa notify; // the QueueNotify register
	struct vn_irq irq;
	atomic_uint interrupt_status;
	uint32_t device_features_sel;
	uint32_t driver_features_sel;
	uint32_t queue_sel;
};

static struct vn_virtio_mmio *from_transport(struct vn_virtio_transport *transport)
{
	return container_of(transport, struct vn_virtio_mmio, transport);
}

// The line is an edge for KVM, so it is raised for every event, also while the bit of an earlier
// one is not yet acknowledged: the driver may have read the status before this one. The release
// pairs with the acquire of a driver that reads InterruptStatus on another thread.
static void interrupt(struct vn_virtio_transport *transport, uint32_t cause)
{
	struct vn_virtio_mmio *mmio = from_transport(transport);
	atomic_fetch_or_explicit(&mmio->interrupt_status, cause, memory_order_release);
	vn_irq_raise(&mmio->irq);
}

static void interrupt_queue(struct vn_virtio_transport *transport, unsigned index)
{
	(void)index; // one line and one bit for all queues
	interrupt(transport, VIRTIO_MMIO_INT_VRING);
}

static void interrupt_config(struct vn_virtio_transport *transport)
{
	interrupt(transport, VIRTIO_MMIO_INT_CONFIG);
}

static void reset(struct vn_virtio_transport *transport)
{
	struct vn_virtio_mmio *mmio = from_transport(transport);
	mmio->device_features_sel = 0;
	mmio->driver_features_sel = 0;
	mmio->queue_sel = 0;
	atomic_store_explicit(&mmio->interrupt_status, 0, memory_order_relaxed);
}

static uint32_t read_register(struct vn_virtio_mmio *mmio, uint64_t offset)
{
	struct vn_virtio_device *device = mmio->device;
	const struct vn_virtio_queue *queue = vn_virtio_queue(device, mmio->queue_sel);
	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return device->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return vn_virtio_offered(device, mmio->device_features_sel);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return queue ? queue->size_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return queue && queue->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return atomic_load_explicit(&mmio->interrupt_status, memory_order_acquire);
	case VIRTIO_MMIO_STATUS:
		return vn_virtio_status(device);
	case VIRTIO_MMIO_SHM_LEN_LOW: // there are no shared memory regions
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return atomic_load_explicit(&device->generation, memory_order_acquire);
	default: // write-only or reserved
		return 0;
	}
}

static void set_low(vn_gpa *gpa, uint32_t value)
{
	gpa->addr = (gpa->addr & 0xffffffff00000000) | value;
}

static void set_high(vn_gpa *gpa, uint32_t value)
{
	gpa->addr = (gpa->addr & 0xffffffff) | ((uint64_t)value << 32);
}

// Registers of the selected queue, which take no writes while it is ready.
static void write_queue_register(struct vn_virtio_queue *queue, uint64_t offset, uint32_t value)
{
	if (!queue || queue->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		// Sizes are 16 bits wide: a larger value is invalid, and stored as 0, which is too.
		queue->size = value <= UINT16_MAX ? (uint16_t)value : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		set_low(&queue->desc, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_high(&queue->desc, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
		set_low(&queue->avail, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_high(&queue->avail, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		set_low(&queue->used, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_high(&queue->used, value);
		break;
	}
}

// Where KVM has no ioeventfd for it: the same signal, by hand.
static void notify(struct vn_virtio_mmio *mmio, uint32_t index)
{
	const struct vn_virtio_queue *queue = vn_virtio_queue(mmio->device, index);
	if (queue)
		eventfd_write(queue->kick, 1);
}

static void write_register(struct vn_virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct vn_virtio_device *device = mmio->device;
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		mmio->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		vn_virtio_accept(device, mmio->driver_features_sel, value);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		mmio->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		mmio->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		if (value == 1)
			vn_virtio_queue_enable(device, mmio->queue_sel);
		else if (value == 0)
			vn_virtio_queue_disable(device, mmio->queue_sel);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		notify(mmio, value);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		atomic_fetch_and_explicit(&mmio->interrupt_status, ~value, memory_order_acq_rel);
		break;
	case VIRTIO_MMIO_STATUS:
		vn_virtio_set_status(device, value);
		break;
	default:
		write_queue_register(vn_virtio_queue(device, mmio->queue_sel), offset, value);
		break;
	}
}

// Registers are 32 bits wide and take aligned accesses of that width only: any other one reads as
// zero and writes nothing. No register has an offset that is not aligned.
static void mmio_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct vn_virtio_mmio *mmio = opaque;
	vn_virtio_lock(mmio->device);
	if (offset >= VIRTIO_MMIO_CONFIG) {
		vn_virtio_config_read(mmio->device, offset - VIRTIO_MMIO_CONFIG, data, size);
	} else {
		uint64_t value = size == 4 ? read_register(mmio, offset) : 0;
		memcpy(data, &value, size);
	}
	vn_virtio_unlock(mmio->device);
}

static void mmio_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	struct vn_virtio_mmio *mmio = opaque;
	vn_virtio_lock(mmio->device);
	if (offset >= VIRTIO_MMIO_CONFIG) {
		vn_virtio_config_write(mmio->device, offset - VIRTIO_MMIO_CONFIG, data, size);
	} else if (size == 4) {
		uint32_t value;
		memcpy(&value, data, sizeof(value));
		write_register(mmio, offset, value);
	}
	vn_virtio_unlock(mmio->device);
}

static const struct vn_bus_ops mmio_ops = {.read = mmio_read, .write = mmio_write};

static int open_kick(struct vn_virtio_mmio *mmio, unsigned index, struct veneer_error *error)
{
	struct vn_virtio_queue *queue = &mmio->device->queues[index];
	// Blocking: io_uring waits on such a descriptor, and fails with EAGAIN on the other kind.
	queue->kick = eventfd(0, EFD_CLOEXEC);
	if (queue->kick < 0)
		return vn_fail(error, -errno, "%s: no eventfd for queue %u: %s", mmio->device->name,
			index, strerror(errno));
	int code = vn_ioeventfd_add(mmio->kvm, mmio->notify, index, queue->kick, error);
	if (code < 0) {
		close(queue->kick);
		queue->kick = -1;
	}
	return code;
}

static void close_kicks(struct vn_virtio_mmio *mmio)
{
	for (unsigned i = mmio->device->queue_count; i-- > 0;) {
		struct vn_virtio_queue *queue = &mmio->device->queues[i];
		if (queue->kick < 0)
			continue;
		vn_ioeventfd_remove(mmio->kvm, mmio->notify, i, queue->kick);
		close(queue->kick);
		queue->kick = -1;
	}
}

static int open_kicks(struct vn_virtio_mmio *mmio, struct veneer_error *error)
{
	for (unsigned i = 0; i < mmio->device->queue_count; i++) {
		int code = open_kick(mmio, i, error);
		if (code < 0)
			return code;
	}
	return 0;
}

int vn_virtio_mmio_create(struct vn_virtio_mmio **result, struct vn_virtio_device *device,
	const struct vn_kvm *kvm, struct vn_bus *bus, uint64_t base, uint32_t gsi,
	struct veneer_error *error)
{
	struct vn_virtio_mmio *mmio = calloc(1, sizeof(*mmio));
	if (!mmio)
		return vn_fail(error, -ENOMEM, "%s: no memory for its transport", device->name);
	mmio->transport = (struct vn_virtio_transport){.interrupt_queue = interrupt_queue,
		.interrupt_config = interrupt_config,
		.reset = reset};
	mmio->device = device;
	mmio->kvm = kvm;
	mmio->notify = VN_GPA(base + VIRTIO_MMIO_QUEUE_NOTIFY);
	int code = vn_irq_open(&mmio->irq, kvm, gsi, error);
	if (code < 0)
		goto free_mmio;
	code = open_kicks(mmio, error);
	if (code < 0)
		goto close_all;
	// Last: nothing can be removed from a bus.
	code = vn_bus_add(bus, base, VN_VIRTIO_MMIO_SIZE, &mmio_ops, mmio, error);
	if (code < 0)
		goto close_all;
	device->transport = &mmio->transport;
	*result = mmio;
	return 0;

close_all:
	close_kicks(mmio);
	vn_irq_close(&mmio->irq);
free_mmio:
	free(mmio);
	return code;
}

void vn_virtio_mmio_destroy(struct vn_virtio_mmio *mmio)
{
	vn_virtio_reset(mmio->device);
	close_kicks(mmio);
	vn_irq_close(&mmio->irq);
	mmio->device->transport = NULL;
	free(mmio);
}
