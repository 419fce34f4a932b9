// SPDX-License-Identifier: Apache-2.0
//
// virtio over PCI (virtio 1.2 section 4.1). Register accesses lead to the device's state machine;
// what is kept here is what the transport alone knows: the selectors, the ISR status, which vector
// tells what, and the MSI-X table (PCI 3.0 section 6.8.2). One BAR holds it all, a page for each
// structure, so that a guest's hypervisor could hand them on one by one.
#include "virtio/pci.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/macros.h"

#define VENDOR        0x1af4
#define DEVICE_BASE   0x1040 // plus the virtio device ID
#define REVISION      1 // 0 is a transitional device
#define CLASS_UNKNOWN 0x00ff

// The BAR.
#define BAR         0
#define BAR_SIZE    0x8000
#define BAR_COMMON  0x0000
#define BAR_ISR     0x1000
#define BAR_DEVICE  0x2000
#define BAR_NOTIFY  0x3000
#define BAR_TABLE   0x4000
#define BAR_PENDING 0x5000
#define BAR_PAGE    0x1000

#define NOTIFY_MULTIPLIER 4

// The capabilities in configuration space.
#define CAP_MSIX   0x40
#define CAP_COMMON 0x4c
#define CAP_NOTIFY 0x5c
#define CAP_ISR    0x70
#define CAP_ACCESS 0x80
#define CAP_DEVICE 0x94
#define CAP_DATA   (CAP_ACCESS + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data))

// Words of an MSI-X table entry.
#define ENTRY_SIZE    16
#define ENTRY_ADDRESS 0
#define ENTRY_DATA    2
#define ENTRY_CONTROL 3

// The common configuration as the driver reads it (section 4.1.4.3).
struct common {
	struct virtio_pci_common_cfg basic;
	uint16_t queue_notify_data;
	uint16_t queue_reset;
};

static_assert(sizeof(struct common) == 60, "virtio 1.2 section 4.1.4.3");
static_assert(offsetof(struct common, queue_reset) == VIRTIO_PCI_COMMON_Q_RESET, "the same");

// A vector: what the table says of it, and the interrupt.
struct vector {
	uint32_t entry[ENTRY_SIZE / sizeof(uint32_t)];
	struct vn_msi msi;
};

// Owned by the vm. All under the device's lock, but for what loops read to raise an interrupt,
// which is atomic, and the function, which is the root's.
struct vn_virtio_pci {
	struct vn_virtio_transport transport;
	struct vn_pci_function function;
	struct vn_virtio_device *device;
	const struct vn_kvm *kvm;

	atomic_bool msix_enabled;
	bool msix_masked; // all vectors
	bool refused; // KVM did not take a vector, and that was said
	atomic_uint isr;
	atomic_uint config_vector;
	atomic_uint *queue_vectors;
	unsigned vector_count;
	struct vector *vectors;

	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint16_t queue_select;
};

static struct vn_virtio_pci *from_transport(struct vn_virtio_transport *transport)
{
	return container_of(transport, struct vn_virtio_pci, transport);
}

static struct vn_virtio_pci *from_function(struct vn_pci_function *function)
{
	return container_of(function, struct vn_virtio_pci, function);
}

// Without MSI-X there is no interrupt, as the function has no INTx: a driver that polls has the ISR
// status. With it only a change of the configuration shows there (section 4.1.4.5.1).
static void interrupt(struct vn_virtio_pci *pci, const atomic_uint *which, uint32_t cause)
{
	bool msix = atomic_load_explicit(&pci->msix_enabled, memory_order_acquire);
	if (!msix || cause == VIRTIO_PCI_ISR_CONFIG)
		atomic_fetch_or_explicit(&pci->isr, cause, memory_order_release);
	unsigned vector = atomic_load_explicit(which, memory_order_relaxed);
	if (msix && vector < pci->vector_count)
		vn_irq_raise(&pci->vectors[vector].msi.irq);
}

static void interrupt_queue(struct vn_virtio_transport *transport, unsigned index)
{
	struct vn_virtio_pci *pci = from_transport(transport);
	interrupt(pci, &pci->queue_vectors[index], 1);
}

static void interrupt_config(struct vn_virtio_transport *transport)
{
	struct vn_virtio_pci *pci = from_transport(transport);
	interrupt(pci, &pci->config_vector, VIRTIO_PCI_ISR_CONFIG);
}

// With MSI-X, signalling the vector's eventfd is all that a queue's interrupt takes. While the
// vector is masked, a signal stays in the eventfd, as one of vn_irq_raise() does.
static int interrupt_fd(struct vn_virtio_transport *transport, unsigned index)
{
	struct vn_virtio_pci *pci = from_transport(transport);
	unsigned vector = atomic_load_explicit(&pci->queue_vectors[index], memory_order_relaxed);
	if (!atomic_load_explicit(&pci->msix_enabled, memory_order_relaxed) ||
		vector >= pci->vector_count)
		return -1;
	return pci->vectors[vector].msi.irq.fd;
}

// The MSI-X table belongs to the PCI function and stays as it is; only the device's vector numbers
// are reset.
static void reset(struct vn_virtio_transport *transport)
{
	struct vn_virtio_pci *pci = from_transport(transport);
	pci->device_feature_select = 0;
	pci->driver_feature_select = 0;
	pci->queue_select = 0;
	atomic_store_explicit(&pci->config_vector, VIRTIO_MSI_NO_VECTOR, memory_order_relaxed);
	for (unsigned i = 0; i < pci->device->queue_count; i++)
		atomic_store_explicit(
			&pci->queue_vectors[i], VIRTIO_MSI_NO_VECTOR, memory_order_relaxed);
	atomic_store_explicit(&pci->isr, 0, memory_order_relaxed);
}

static void fill_queue(const struct vn_virtio_pci *pci, struct common *common)
{
	const struct vn_virtio_queue *queue = vn_virtio_queue(pci->device, pci->queue_select);
	if (!queue)
		return;
	struct virtio_pci_common_cfg *basic = &common->basic;
	basic->queue_size = queue->size ? queue->size : queue->size_max;
	basic->queue_msix_vector = (uint16_t)atomic_load_explicit(
		&pci->queue_vectors[pci->queue_select], memory_order_relaxed);
	basic->queue_enable = queue->ready;
	basic->queue_notify_off = pci->queue_select;
	basic->queue_desc_lo = (uint32_t)queue->desc.addr;
	basic->queue_desc_hi = (uint32_t)(queue->desc.addr >> 32);
	basic->queue_avail_lo = (uint32_t)queue->avail.addr;
	basic->queue_avail_hi = (uint32_t)(queue->avail.addr >> 32);
	basic->queue_used_lo = (uint32_t)queue->used.addr;
	basic->queue_used_hi = (uint32_t)(queue->used.addr >> 32);
	// queue_reset reads 0: a queue's reset is over when the write that asked for it is.
}

static void read_common(const struct vn_virtio_pci *pci, uint64_t offset, void *data, unsigned size)
{
	struct vn_virtio_device *device = pci->device;
	struct common common = {
		.basic = {
			.device_feature_select = pci->device_feature_select,
			.device_feature = vn_virtio_offered(device, pci->device_feature_select),
			.guest_feature_select = pci->driver_feature_select,
			.guest_feature = pci->driver_feature_select < 2
						 ? (uint32_t)(device->driver_features >>
							      (32 * pci->driver_feature_select))
						 : 0,
			.msix_config = (uint16_t)atomic_load_explicit(
				&pci->config_vector, memory_order_relaxed),
			.num_queues = (uint16_t)device->queue_count,
			.device_status = (uint8_t)vn_virtio_status(device),
			.config_generation = (uint8_t)atomic_load_explicit(
				&device->generation, memory_order_acquire),
			.queue_select = pci->queue_select,
		}};
	fill_queue(pci, &common);
	memset(data, 0, size);
	if (offset < sizeof(common)) {
		uint64_t left = sizeof(common) - offset;
		memcpy(data, (char *)&common + offset, size < left ? size : left);
	}
}

// A vector that does not exist becomes NO_VECTOR, which the driver reads back (section 4.1.5.1.2).
static void set_vector(const struct vn_virtio_pci *pci, atomic_uint *which, uint32_t vector)
{
	atomic_store_explicit(which, vector < pci->vector_count ? vector : VIRTIO_MSI_NO_VECTOR,
		memory_order_relaxed);
}

static void set_low(vn_gpa *gpa, uint32_t value)
{
	gpa->addr = (gpa->addr & 0xffffffff00000000) | value;
}

static void set_high(vn_gpa *gpa, uint32_t value)
{
	gpa->addr = (gpa->addr & 0xffffffff) | ((uint64_t)value << 32);
}

// Where the rings are, and how long; takes no writes while the queue is enabled.
static void write_queue(struct vn_virtio_queue *queue, uint64_t offset, uint32_t value)
{
	if (!queue || queue->ready)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		queue->size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		set_low(&queue->desc, value);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_high(&queue->desc, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		set_low(&queue->avail, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_high(&queue->avail, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		set_low(&queue->used, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_high(&queue->used, value);
		break;
	}
}

static void enable_queue(struct vn_virtio_pci *pci, uint32_t value)
{
	struct vn_virtio_queue *queue = vn_virtio_queue(pci->device, pci->queue_select);
	if (!queue || value != 1)
		return;
	if (queue->size == 0)
		queue->size = queue->size_max; // what a driver reads that never wrote it
	vn_virtio_queue_enable(pci->device, pci->queue_select);
}

// Section 2.6.1: afterwards the queue is as after a reset of the device.
static void reset_queue(struct vn_virtio_pci *pci, uint32_t value)
{
	struct vn_virtio_queue *queue = vn_virtio_queue(pci->device, pci->queue_select);
	if (!queue || value != 1 || !vn_virtio_has(pci->device, VIRTIO_F_RING_RESET))
		return;
	vn_virtio_queue_disable(pci->device, pci->queue_select);
	queue->size = 0;
	queue->desc = queue->avail = queue->used = VN_GPA(0);
	set_vector(pci, &pci->queue_vectors[pci->queue_select], VIRTIO_MSI_NO_VECTOR);
}

// The width of the field that begins at an offset, 0 where none does or it takes no writes.
static unsigned field_size(uint64_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_STATUS:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
	case VIRTIO_PCI_COMMON_Q_RESET:
		return 2;
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return 4;
	default:
		return 0;
	}
}

// Fields take writes of their own width only, as section 4.1.3.1 has drivers make them.
static void write_common(
	struct vn_virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
	struct vn_virtio_device *device = pci->device;
	uint32_t value = 0;
	if (size != field_size(offset))
		return;
	memcpy(&value, data, size);
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		pci->device_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		pci->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		vn_virtio_accept(device, pci->driver_feature_select, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		set_vector(pci, &pci->config_vector, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		vn_virtio_set_status(device, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		pci->queue_select = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		if (vn_virtio_queue(device, pci->queue_select)) {
			set_vector(pci, &pci->queue_vectors[pci->queue_select], value);
			vn_virtio_interrupt_moved(device, pci->queue_select);
		}
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		enable_queue(pci, value);
		break;
	case VIRTIO_PCI_COMMON_Q_RESET:
		reset_queue(pci, value);
		break;
	default:
		write_queue(vn_virtio_queue(device, pci->queue_select), offset, value);
		break;
	}
}

// Bring KVM's state of a vector up to date with its table entry and the function's control.
static void update_vector(struct vn_virtio_pci *pci, struct vector *vector)
{
	bool enabled = atomic_load_explicit(&pci->msix_enabled, memory_order_relaxed);
	const uint32_t *entry = vector->entry;
	uint64_t address = entry[ENTRY_ADDRESS] | (uint64_t)entry[ENTRY_ADDRESS + 1] << 32;
	int code;
	if (!enabled || pci->msix_masked || (entry[ENTRY_CONTROL] & PCI_MSIX_ENTRY_CTRL_MASKBIT)) {
		code = vn_msi_mask(&vector->msi);
	} else {
		code = vn_msi_set(&vector->msi, address, entry[ENTRY_DATA]);
		if (code == 0)
			code = vn_msi_unmask(&vector->msi);
	}
	if (code < 0 && !pci->refused) {
		pci->refused = true;
		vn_warn(pci->device->log,
			"%s: KVM does not take interrupt vector %zu (address 0x%llx, data 0x%x): "
			"%s",
			pci->device->name, (size_t)(vector - pci->vectors),
			(unsigned long long)address, entry[ENTRY_DATA], strerror(-code));
	}
}

static void read_table(const struct vn_virtio_pci *pci, uint64_t offset, void *data, unsigned size)
{
	const char *entry = (const char *)pci->vectors[offset / ENTRY_SIZE].entry;
	memcpy(data, entry + offset % ENTRY_SIZE, size);
}

static void write_table(struct vn_virtio_pci *pci, uint64_t offset, const void *data, unsigned size)
{
	struct vector *vector = &pci->vectors[offset / ENTRY_SIZE];
	if (size < sizeof(vector->entry[0]))
		return; // words and pairs of them only
	memcpy((char *)vector->entry + offset % ENTRY_SIZE, data, size);
	vector->entry[ENTRY_CONTROL] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	update_vector(pci, vector);
}

static void read_pending(
	const struct vn_virtio_pci *pci, uint64_t offset, void *data, unsigned size)
{
	uint64_t bits = 0;
	for (unsigned i = 0; i < 8 * size && 8 * offset + i < pci->vector_count; i++)
		if (vn_msi_is_pending(&pci->vectors[8 * offset + i].msi))
			bits |= BIT64(i);
	memcpy(data, &bits, size);
}

static void read_page(
	struct vn_virtio_pci *pci, uint64_t page, uint64_t offset, void *data, unsigned size)
{
	switch (page) {
	case BAR_COMMON:
		read_common(pci, offset, data, size);
		break;
	case BAR_ISR: // reading takes the bits away
		memset(data, 0, size);
		if (offset == 0)
			*(uint8_t *)data = (uint8_t)atomic_exchange_explicit(
				&pci->isr, 0, memory_order_acquire);
		break;
	case BAR_DEVICE:
		vn_virtio_config_read(pci->device, offset, data, size);
		break;
	case BAR_TABLE:
		if (offset < pci->vector_count * ENTRY_SIZE)
			read_table(pci, offset, data, size);
		break;
	case BAR_PENDING:
		read_pending(pci, offset, data, size);
		break;
	}
}

static void write_page(
	struct vn_virtio_pci *pci, uint64_t page, uint64_t offset, const void *data, unsigned size)
{
	switch (page) {
	case BAR_COMMON:
		write_common(pci, offset, data, size);
		break;
	case BAR_DEVICE:
		vn_virtio_config_write(pci->device, offset, data, size);
		break;
	case BAR_TABLE:
		if (offset < pci->vector_count * ENTRY_SIZE)
			write_table(pci, offset, data, size);
		break;
	}
}

// Where KVM has no ioeventfd for it: the same signal, by hand. Its value says nothing new.
static void notify(struct vn_virtio_pci *pci, uint64_t offset)
{
	const struct vn_virtio_queue *queue =
		vn_virtio_queue(pci->device, (uint32_t)(offset / NOTIFY_MULTIPLIER));
	if (queue && offset % NOTIFY_MULTIPLIER == 0)
		eventfd_write(queue->kick, 1);
}

static void bar_read(
	struct vn_pci_function *function, unsigned bar, uint64_t offset, void *data, unsigned size)
{
	struct vn_virtio_pci *pci = from_function(function);
	(void)bar;
	vn_virtio_lock(pci->device);
	read_page(pci, offset & ~(uint64_t)(BAR_PAGE - 1), offset % BAR_PAGE, data, size);
	vn_virtio_unlock(pci->device);
}

static void bar_write(struct vn_pci_function *function, unsigned bar, uint64_t offset,
	const void *data, unsigned size)
{
	struct vn_virtio_pci *pci = from_function(function);
	uint64_t page = offset & ~(uint64_t)(BAR_PAGE - 1);
	(void)bar;
	if (page == BAR_NOTIFY) {
		notify(pci, offset % BAR_PAGE);
		return;
	}
	vn_virtio_lock(pci->device);
	write_page(pci, page, offset % BAR_PAGE, data, size);
	vn_virtio_unlock(pci->device);
}

static vn_gpa notify_address(vn_gpa bar, unsigned queue)
{
	return VN_GPA(bar.addr + BAR_NOTIFY + queue * NOTIFY_MULTIPLIER);
}

// An ioeventfd that KVM refuses, for example because the guest has put two BARs over each other,
// costs an exit: the notification then arrives in bar_write().
static void map(struct vn_pci_function *function, unsigned bar, vn_gpa address)
{
	struct vn_virtio_pci *pci = from_function(function);
	(void)bar;
	for (unsigned i = 0; i < pci->device->queue_count; i++)
		vn_ioeventfd_add_any(
			pci->kvm, notify_address(address, i), pci->device->queues[i].kick, NULL);
}

static void unmap(struct vn_pci_function *function, unsigned bar, vn_gpa address)
{
	struct vn_virtio_pci *pci = from_function(function);
	(void)bar;
	for (unsigned i = pci->device->queue_count; i-- > 0;)
		vn_ioeventfd_remove_any(
			pci->kvm, notify_address(address, i), pci->device->queues[i].kick);
}

static bool overlaps(unsigned offset, unsigned size, unsigned start, unsigned length)
{
	return offset < start + length && start < offset + size;
}

// An access to the BAR through configuration space (section 4.1.4.9), at the offset and with the
// length that the driver has set. False: the BAR itself would not take such an access.
static bool window(const struct vn_pci_function *function, uint32_t *offset, uint32_t *size)
{
	struct virtio_pci_cap cap;
	memcpy(&cap, &function->config[CAP_ACCESS], sizeof(cap));
	*offset = cap.offset;
	*size = cap.length;
	return cap.bar == BAR && (cap.length == 1 || cap.length == 2 || cap.length == 4) &&
	       cap.offset % cap.length == 0 && cap.offset < BAR_SIZE;
}

static void config_reading(struct vn_pci_function *function, unsigned offset, unsigned size)
{
	uint32_t where, length;
	if (overlaps(offset, size, CAP_DATA, 4) && window(function, &where, &length))
		bar_read(function, BAR, where, &function->config[CAP_DATA], length);
}

static void update_msix(struct vn_virtio_pci *pci)
{
	uint16_t control;
	memcpy(&control, &pci->function.config[CAP_MSIX + PCI_MSIX_FLAGS], sizeof(control));
	vn_virtio_lock(pci->device);
	pci->msix_masked = control & PCI_MSIX_FLAGS_MASKALL;
	atomic_store_explicit(
		&pci->msix_enabled, control & PCI_MSIX_FLAGS_ENABLE, memory_order_release);
	for (unsigned i = 0; i < pci->vector_count; i++)
		update_vector(pci, &pci->vectors[i]);
	for (unsigned i = 0; i < pci->device->queue_count; i++)
		vn_virtio_interrupt_moved(pci->device, i);
	vn_virtio_unlock(pci->device);
}

static void reset_vectors(struct vn_virtio_pci *pci)
{
	for (unsigned i = 0; i < pci->vector_count; i++) {
		uint32_t *entry = pci->vectors[i].entry;
		memset(entry, 0, ENTRY_SIZE);
		entry[ENTRY_CONTROL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
}

// What is pending in a vector goes with it.
static void reset_function(struct vn_pci_function *function)
{
	struct vn_virtio_pci *pci = from_function(function);
	vn_virtio_lock(pci->device);
	reset_vectors(pci);
	vn_virtio_unlock(pci->device);
	update_msix(pci);
	vn_virtio_lock(pci->device);
	for (unsigned i = 0; i < pci->vector_count; i++)
		(void)vn_msi_reset(&pci->vectors[i].msi);
	vn_virtio_unlock(pci->device);
}

static void config_written(struct vn_pci_function *function, unsigned offset, unsigned size)
{
	uint32_t where, length;
	if (overlaps(offset, size, CAP_MSIX + PCI_MSIX_FLAGS, 2))
		update_msix(from_function(function));
	if (overlaps(offset, size, CAP_DATA, 4) && window(function, &where, &length))
		bar_write(function, BAR, where, &function->config[CAP_DATA], length);
}

static const struct vn_pci_ops function_ops = {
	.map = map,
	.unmap = unmap,
	.config_reading = config_reading,
	.config_written = config_written,
	.reset = reset_function,
	.bar_read = bar_read,
	.bar_write = bar_write,
};

// Base class and sub-class, which tell those who list devices what kind they are of.
static uint16_t class_of(uint32_t id)
{
	switch (id) {
	case VIRTIO_ID_NET:
		return 0x0200; // network controller: Ethernet
	case VIRTIO_ID_BLOCK:
		return 0x0100; // mass storage: SCSI
	default:
		return CLASS_UNKNOWN;
	}
}

static void fill16(struct vn_pci_function *function, unsigned offset, uint32_t value)
{
	uint16_t half = (uint16_t)value;
	memcpy(&function->config[offset], &half, sizeof(half));
}

static void fill_header(struct vn_virtio_pci *pci)
{
	struct vn_pci_function *function = &pci->function;
	fill16(function, PCI_VENDOR_ID, VENDOR);
	fill16(function, PCI_DEVICE_ID, DEVICE_BASE + pci->device->id);
	fill16(function, PCI_STATUS, PCI_STATUS_CAP_LIST);
	function->config[PCI_REVISION_ID] = REVISION;
	fill16(function, PCI_CLASS_DEVICE, class_of(pci->device->id));
	fill16(function, PCI_SUBSYSTEM_VENDOR_ID, VENDOR);
	fill16(function, PCI_SUBSYSTEM_ID, DEVICE_BASE + pci->device->id);
	function->config[PCI_CAPABILITY_LIST] = CAP_MSIX;
	function->bar_size[BAR] = BAR_SIZE;
}

static void fill_msix(struct vn_virtio_pci *pci)
{
	struct vn_pci_function *function = &pci->function;
	const uint32_t table = BAR_TABLE | BAR, pending = BAR_PENDING | BAR;
	function->config[CAP_MSIX] = PCI_CAP_ID_MSIX;
	function->config[CAP_MSIX + PCI_CAP_LIST_NEXT] = CAP_COMMON;
	fill16(function, CAP_MSIX + PCI_MSIX_FLAGS, pci->vector_count - 1);
	memcpy(&function->config[CAP_MSIX + PCI_MSIX_TABLE], &table, sizeof(table));
	memcpy(&function->config[CAP_MSIX + PCI_MSIX_PBA], &pending, sizeof(pending));
	function->writable[CAP_MSIX + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
}

// A virtio capability at `at`, of which `size` bytes are in use. A structure that has no place in
// the BAR has no length.
static void fill_cap(struct vn_virtio_pci *pci, unsigned at, unsigned next, size_t size,
	uint8_t type, uint32_t offset, uint32_t length)
{
	struct virtio_pci_cap cap = {.cap_vndr = PCI_CAP_ID_VNDR,
		.cap_next = (uint8_t)next,
		.cap_len = (uint8_t)size,
		.cfg_type = type,
		.bar = BAR,
		.offset = offset,
		.length = length};
	memcpy(&pci->function.config[at], &cap, sizeof(cap));
}

static void fill_caps(struct vn_virtio_pci *pci)
{
	struct vn_pci_function *function = &pci->function;
	uint32_t config_size = pci->device->config_size;
	uint32_t multiplier = NOTIFY_MULTIPLIER;
	fill_cap(pci, CAP_COMMON, CAP_NOTIFY, sizeof(struct virtio_pci_cap),
		VIRTIO_PCI_CAP_COMMON_CFG, BAR_COMMON, sizeof(struct common));
	fill_cap(pci, CAP_NOTIFY, CAP_ISR, sizeof(struct virtio_pci_notify_cap),
		VIRTIO_PCI_CAP_NOTIFY_CFG, BAR_NOTIFY,
		pci->device->queue_count * NOTIFY_MULTIPLIER);
	memcpy(&function->config[CAP_NOTIFY + VIRTIO_PCI_NOTIFY_CAP_MULT], &multiplier,
		sizeof(multiplier));
	fill_cap(pci, CAP_ISR, CAP_ACCESS, sizeof(struct virtio_pci_cap), VIRTIO_PCI_CAP_ISR_CFG,
		BAR_ISR, 1);
	fill_cap(pci, CAP_ACCESS, config_size ? CAP_DEVICE : 0, sizeof(struct virtio_pci_cfg_cap),
		VIRTIO_PCI_CAP_PCI_CFG, 0, 0);
	function->writable[CAP_ACCESS + VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(&function->writable[CAP_ACCESS + VIRTIO_PCI_CAP_OFFSET], 0xff, 12);
	if (config_size)
		fill_cap(pci, CAP_DEVICE, 0, sizeof(struct virtio_pci_cap),
			VIRTIO_PCI_CAP_DEVICE_CFG, BAR_DEVICE, config_size);
}

static int open_vectors(struct vn_virtio_pci *pci, struct vn_irqs *irqs, struct veneer_error *error)
{
	reset_vectors(pci);
	for (unsigned i = 0; i < pci->vector_count; i++) {
		int code = vn_msi_open(&pci->vectors[i].msi, irqs, error);
		if (code < 0)
			return code;
	}
	return 0;
}

static int open_kicks(struct vn_virtio_pci *pci, struct veneer_error *error)
{
	for (unsigned i = 0; i < pci->device->queue_count; i++) {
		struct vn_virtio_queue *queue = &pci->device->queues[i];
		// Blocking: io_uring waits on such a descriptor, and fails with EAGAIN on the other
		// kind.
		queue->kick = eventfd(0, EFD_CLOEXEC);
		if (queue->kick < 0)
			return vn_fail(error, -errno, "%s: no eventfd for queue %u: %s",
				pci->device->name, i, strerror(errno));
	}
	return 0;
}

// What vn_virtio_pci_create() made, in reverse; also where it got half way.
static void dismantle(struct vn_virtio_pci *pci)
{
	for (unsigned i = pci->device->queue_count; i-- > 0;) {
		struct vn_virtio_queue *queue = &pci->device->queues[i];
		if (queue->kick >= 0)
			close(queue->kick);
		queue->kick = -1;
	}
	for (unsigned i = pci->vector_count; i-- > 0;)
		if (pci->vectors[i].msi.irqs)
			vn_msi_close(&pci->vectors[i].msi);
	free(pci->queue_vectors);
	free(pci->vectors);
	free(pci);
}

static struct vn_virtio_pci *allocate(struct vn_virtio_device *device, const struct vn_kvm *kvm)
{
	struct vn_virtio_pci *pci = calloc(1, sizeof(*pci));
	if (!pci)
		return NULL;
	pci->transport = (struct vn_virtio_transport){.interrupt_queue = interrupt_queue,
		.interrupt_config = interrupt_config,
		.interrupt_fd = interrupt_fd,
		.reset = reset};
	pci->function.ops = &function_ops;
	pci->device = device;
	pci->kvm = kvm;
	pci->vector_count = device->queue_count + 1;
	pci->vectors = calloc(pci->vector_count, sizeof(*pci->vectors));
	pci->queue_vectors = calloc(device->queue_count, sizeof(*pci->queue_vectors));
	if (!pci->vectors || !pci->queue_vectors) {
		free(pci->queue_vectors);
		free(pci->vectors);
		free(pci);
		return NULL;
	}
	reset(&pci->transport);
	return pci;
}

int vn_virtio_pci_create(struct vn_virtio_pci **result, struct vn_virtio_device *device,
	const struct vn_kvm *kvm, struct vn_irqs *irqs, struct vn_pci *root, unsigned slot,
	struct veneer_error *error)
{
	struct vn_virtio_pci *pci = allocate(device, kvm);
	if (!pci)
		return vn_fail(error, -ENOMEM, "%s: no memory for its transport", device->name);
	fill_header(pci);
	fill_msix(pci);
	fill_caps(pci);
	int code = open_vectors(pci, irqs, error);
	if (code == 0)
		code = open_kicks(pci, error);
	// Last: nothing can be removed from a root.
	if (code == 0)
		code = vn_pci_add(root, slot, &pci->function, error);
	if (code < 0) {
		dismantle(pci);
		return code;
	}
	device->features |= BIT64(VIRTIO_F_RING_RESET);
	device->transport = &pci->transport;
	*result = pci;
	return 0;
}

void vn_virtio_pci_destroy(struct vn_virtio_pci *pci)
{
	vn_virtio_reset(pci->device);
	if (pci->function.bar_mapped[BAR])
		unmap(&pci->function, BAR, VN_GPA(pci->function.bar_address[BAR]));
	pci->device->transport = NULL;
	dismantle(pci);
}
