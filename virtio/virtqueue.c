// SPDX-License-Identifier: Apache-2.0
//
// The split virtqueue, device's side. The guest may write any of this memory at any moment, so the
// ring's own fields are C11 atomics, and descriptors are read once, through volatile, into a copy.
// All fields are little-endian, like every host that Veneer runs on.
//
// Ordering. The driver publishes with one index and suppresses with another field, and so does the
// device; each pairs with its opposite number:
//
//     avail->idx   stored by the driver after entries and descriptors   acquire in refill()
//     used->idx    stored in vn_virtqueue_publish()                     acquired by the driver
//     used->idx then used_event   against the driver's store of used_event, barrier, load of
//                  used->idx: both sequentially consistent, or a wanted interrupt is lost
//     avail_event then avail->idx against the driver's store of avail->idx, barrier, load of
//                  avail_event: likewise, or a notification is lost
#include "virtio/virtqueue.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian");

#define DESC_F_NEXT     1
#define DESC_F_WRITE    2
#define DESC_F_INDIRECT 4

#define AVAIL_F_NO_INTERRUPT 1
#define USED_F_NO_NOTIFY     1

#define CHAIN_BYTES_MAX BIT64(32)

// Packed because an indirect table may lie at any address.
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
} __attribute__((packed));

// Followed by used_event at ring[size].
struct vn_avail_ring {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	_Atomic uint16_t ring[];
};

struct used_element {
	_Atomic uint32_t id;
	_Atomic uint32_t len;
};

// Followed by avail_event, 16 bits wide, at ring[size].
struct vn_used_ring {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	struct used_element ring[];
};

// A table of descriptors: the queue's own, or an indirect one.
struct table {
	const uint8_t *descs;
	uint32_t size;
	bool indirect;
};

static struct desc read_desc(const struct table *table, uint32_t index)
{
	const volatile struct desc *from =
		(const volatile struct desc *)(table->descs + index * sizeof(struct desc));
	return (struct desc){from->addr, from->len, from->flags, from->next};
}

static _Atomic uint16_t *used_event(const struct vn_virtqueue *vq)
{
	return &vq->avail->ring[vq->size];
}

static _Atomic uint16_t *avail_event(const struct vn_virtqueue *vq)
{
	return (_Atomic uint16_t *)&vq->used->ring[vq->size];
}

int vn_virtqueue_break(struct vn_virtqueue *vq, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(vq->broken, sizeof(vq->broken), format, args);
	va_end(args);
	return -EPROTO;
}

static bool is_in_flight(const struct vn_virtqueue *vq, uint16_t head)
{
	return vq->in_flight[head / 64] >> (head % 64) & 1;
}

static void *translate(const struct vn_memory *memory, const char *part, vn_gpa gpa,
	uint64_t alignment, uint64_t length, struct veneer_error *error)
{
	void *host = gpa.addr % alignment ? NULL : vn_memory_at(memory, gpa, length);
	if (!host)
		vn_fail(error, -EINVAL, "the %s at 0x%llx is not %llu bytes of RAM aligned to %llu",
			part, (unsigned long long)gpa.addr, (unsigned long long)length,
			(unsigned long long)alignment);
	return host;
}

int vn_virtqueue_init(struct vn_virtqueue *vq, const struct vn_memory *memory,
	const struct vn_virtqueue_layout *layout, struct veneer_error *error)
{
	uint16_t size = layout->size;
	if (size == 0 || size > VN_VIRTQUEUE_SIZE_MAX || (size & (size - 1)) != 0)
		return vn_fail(error, -EINVAL, "size %u is no power of two from 1 to %u", size,
			VN_VIRTQUEUE_SIZE_MAX);

	// The event fields behind the rings exist only if EVENT_IDX was negotiated.
	uint64_t event = layout->event_idx ? sizeof(uint16_t) : 0;
	*vq = (struct vn_virtqueue){.memory = memory,
		.size = size,
		.event_idx = layout->event_idx,
		.indirect = layout->indirect,
		.avail_next = layout->avail_next,
		.avail_index = layout->avail_next,
		.used_next = layout->used_next,
		.used_published = layout->used_next};
	vq->desc = translate(
		memory, "descriptor table", layout->desc, 16, size * sizeof(struct desc), error);
	vq->avail = translate(memory, "available ring", layout->avail, 2,
		sizeof(struct vn_avail_ring) + size * sizeof(uint16_t) + event, error);
	vq->used = translate(memory, "used ring", layout->used, 4,
		sizeof(struct vn_used_ring) + size * sizeof(struct used_element) + event, error);
	return vq->desc && vq->avail && vq->used ? 0 : -EINVAL;
}

// Look for entries beyond those known. The acquire pairs with the driver's write barrier between
// filling an entry and storing idx.
static int refill(struct vn_virtqueue *vq)
{
	uint16_t index = atomic_load_explicit(&vq->avail->idx, memory_order_acquire);
	// The index may come from an empty page; the guest is about to end.
	if (vn_memory_is_lost(vq->memory))
		return 0;
	vq->avail_index = index;
	uint16_t pending = (uint16_t)(vq->avail_index - vq->avail_next);
	if (pending > vq->size)
		return vn_virtqueue_break(vq,
			"the available index went from %u to %u in a queue of %u", vq->avail_next,
			vq->avail_index, vq->size);
	return pending != 0;
}

int vn_virtqueue_pop(struct vn_virtqueue *vq, uint16_t *head)
{
	if (vn_virtqueue_is_broken(vq))
		return -EPROTO;
	if (vq->avail_index == vq->avail_next) {
		int more = refill(vq);
		if (more <= 0)
			return more;
	}
	uint16_t slot = vq->avail_next & (uint16_t)(vq->size - 1);
	uint16_t taken = atomic_load_explicit(&vq->avail->ring[slot], memory_order_relaxed);
	// As in refill(): this entry may come from an empty page.
	if (vn_memory_is_lost(vq->memory))
		return 0;
	if (taken >= vq->size)
		return vn_virtqueue_break(vq, "available entry %u holds head %u in a queue of %u",
			vq->avail_next, taken, vq->size);
	if (is_in_flight(vq, taken))
		return vn_virtqueue_break(vq,
			"available entry %u holds head %u, which is in flight already",
			vq->avail_next, taken);
	vq->in_flight[taken / 64] |= BIT64(taken % 64);
	vq->avail_next++;
	*head = taken;
	return 1;
}

void vn_virtqueue_unpop(struct vn_virtqueue *vq, uint16_t head)
{
	vq->avail_next--;
	vq->in_flight[head / 64] &= ~BIT64(head % 64);
}

void vn_virtqueue_advance(struct vn_virtqueue *vq, uint16_t avail_next)
{
	vq->avail_next = vq->avail_index = avail_next;
	vq->used_next = vq->used_published =
		atomic_load_explicit(&vq->used->idx, memory_order_relaxed);
}

// Check one buffer of a chain, translate its address and add it.
static int add_buffer(
	struct vn_virtqueue *vq, uint16_t head, const struct desc *desc, struct vn_chain *chain)
{
	bool write = desc->flags & DESC_F_WRITE;
	uint16_t count = (uint16_t)(chain->readable + chain->writable);
	if (!write && chain->writable > 0)
		return vn_virtqueue_break(
			vq, "chain %u has a readable buffer after a writable one", head);
	if (desc->len == 0)
		return vn_virtqueue_break(vq, "chain %u has an empty buffer", head);
	if (count == vq->size || count == chain->iov_max)
		return vn_virtqueue_break(
			vq, "chain %u loops or has more than %u buffers", head, count);
	if (chain->readable_size + chain->writable_size + desc->len > CHAIN_BYTES_MAX)
		return vn_virtqueue_break(vq, "chain %u has more than 2^32 bytes", head);
	void *host = vn_memory_at(vq->memory, VN_GPA(desc->addr), desc->len);
	if (!host)
		return vn_virtqueue_break(vq,
			"chain %u has a buffer outside RAM: %u bytes at 0x%llx", head, desc->len,
			(unsigned long long)desc->addr);

	chain->iov[count] = (struct iovec){.iov_base = host, .iov_len = desc->len};
	if (write) {
		chain->writable++;
		chain->writable_size += desc->len;
	} else {
		chain->readable++;
		chain->readable_size += desc->len;
	}
	return 0;
}

// Continue in the indirect table that a descriptor of the queue refers to. Its WRITE flag means
// nothing (section 2.7.5.3.2). The table may be longer than a chain may be.
static int enter_indirect(
	struct vn_virtqueue *vq, uint16_t head, const struct desc *desc, struct table *table)
{
	if (!vq->indirect)
		return vn_virtqueue_break(
			vq, "chain %u has an indirect table, which was not negotiated", head);
	if (table->indirect)
		return vn_virtqueue_break(
			vq, "chain %u has an indirect table within another", head);
	if (desc->flags & DESC_F_NEXT)
		return vn_virtqueue_break(vq, "chain %u goes on after its indirect table", head);
	if (desc->len == 0 || desc->len % sizeof(struct desc) != 0)
		return vn_virtqueue_break(
			vq, "chain %u has an indirect table of %u bytes", head, desc->len);
	table->descs = vn_memory_at(vq->memory, VN_GPA(desc->addr), desc->len);
	table->size = (uint32_t)(desc->len / sizeof(struct desc));
	table->indirect = true;
	if (!table->descs)
		return vn_virtqueue_break(vq,
			"chain %u has an indirect table outside RAM: %u bytes at 0x%llx", head,
			desc->len, (unsigned long long)desc->addr);
	return 0;
}

int vn_virtqueue_chain(struct vn_virtqueue *vq, uint16_t head, struct vn_chain *chain)
{
	if (vn_virtqueue_is_broken(vq))
		return -EPROTO;
	chain->readable = chain->writable = 0;
	chain->readable_size = chain->writable_size = 0;

	// This ends: add_buffer() takes no more buffers than the queue has descriptors (a chain is
	// no longer than that, section 2.7.5.3.1), and enter_indirect() succeeds once.
	struct table table = {.descs = vq->desc, .size = vq->size};
	uint32_t index = head;
	for (;;) {
		struct desc desc = read_desc(&table, index);
		int code;
		if (desc.flags & DESC_F_INDIRECT) {
			code = enter_indirect(vq, head, &desc, &table);
			if (code < 0)
				return code;
			index = 0;
			continue;
		}
		code = add_buffer(vq, head, &desc, chain);
		if (code < 0 || !(desc.flags & DESC_F_NEXT))
			return code;
		index = desc.next;
		if (index >= table.size)
			return vn_virtqueue_break(vq, "chain %u goes on at descriptor %u of %u",
				head, index, table.size);
	}
}

void vn_virtqueue_push(struct vn_virtqueue *vq, uint16_t head, uint32_t written)
{
	struct used_element *element = &vq->used->ring[vq->used_next & (uint16_t)(vq->size - 1)];
	atomic_store_explicit(&element->id, head, memory_order_relaxed);
	atomic_store_explicit(&element->len, written, memory_order_relaxed);
	vq->used_next++;
	vq->in_flight[head / 64] &= ~BIT64(head % 64);
}

bool vn_virtqueue_publish(struct vn_virtqueue *vq)
{
	uint16_t before = vq->used_published;
	uint16_t after = vq->used_next;
	if (before == after)
		return false;
	vq->used_published = after;
	// Releases the entries to the driver's acquire of used->idx. Stronger than that, because
	// the load that follows must not pass it: the driver sets used_event (or flags), has a full
	// barrier, and looks at used->idx once more. One of the two sees the other.
	atomic_store_explicit(&vq->used->idx, after, memory_order_seq_cst);
	if (!vq->event_idx)
		return !(atomic_load_explicit(&vq->avail->flags, memory_order_seq_cst) &
			 AVAIL_F_NO_INTERRUPT);
	// Did the index pass used_event? Section 2.7.7.2, in arithmetic modulo 2^16.
	uint16_t event = atomic_load_explicit(used_event(vq), memory_order_seq_cst);
	return (uint16_t)(after - event - 1) < (uint16_t)(after - before);
}

// Hints that nothing depends on, so relaxed; and not stored again and again, because the driver
// reads the same cache line.
void vn_virtqueue_disable_notify(struct vn_virtqueue *vq)
{
	if (!vq->event_idx) {
		if (atomic_load_explicit(&vq->used->flags, memory_order_relaxed) !=
			USED_F_NO_NOTIFY)
			atomic_store_explicit(
				&vq->used->flags, USED_F_NO_NOTIFY, memory_order_relaxed);
		return;
	}
	// If the driver would still reach avail_event, move it 2^15 away; once passed it cannot
	// match for 2^16 buffers.
	if (vq->avail_event == vq->avail_next &&
		atomic_load_explicit(&vq->avail->idx, memory_order_relaxed) == vq->avail_next) {
		vq->avail_event ^= 0x8000;
		atomic_store_explicit(avail_event(vq), vq->avail_event, memory_order_relaxed);
	}
}

bool vn_virtqueue_enable_notify(struct vn_virtqueue *vq)
{
	if (vn_virtqueue_is_broken(vq) || vn_memory_is_lost(vq->memory))
		return false;
	// The driver stores avail->idx, has a full barrier, and looks here; so the load that
	// follows must not pass this store. One of the two sees the other.
	if (vq->event_idx) {
		vq->avail_event = vq->avail_next;
		atomic_store_explicit(avail_event(vq), vq->avail_event, memory_order_seq_cst);
	} else {
		atomic_store_explicit(&vq->used->flags, 0, memory_order_seq_cst);
	}
	return atomic_load_explicit(&vq->avail->idx, memory_order_seq_cst) != vq->avail_next;
}
