// SPDX-License-Identifier: Apache-2.0
//
// virtio-net. A pair of queues, one for each direction, has a loop; the control queue is on the
// first pair's. All work is done in the loop's flush hook, at the end of a turn: send what the
// driver has made available, let the backend have its turn, receive while there are packets and
// buffers, then publish each queue once. Nothing is allocated or locked on that way, and no buffer
// of the driver's is in use while the loop sleeps.
//
// Packets are sent in batches, one of which is on its way at a time: the system call with which the
// next turn begins writes them, in order, and that turn gives their buffers back.
//
// The next packet's size is not known before it is read, so it is read into as many of the driver's
// buffers as the largest could need. They are taken from the queue in advance and kept: the window.
// What does not fit because the driver was slow lands in the spill and is moved on when there are
// more buffers. A packet that no number of buffers will ever hold is dropped.
#include "devices/net/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/macros.h"
#include "base/rate.h"
#include "base/spin.h"
#include "core/loops.h"
#include "devices/net/mac.h"
#include "devices/net/tap.h"
#include "devices/net/user.h"
#include "virtio/vhost.h"

#define QUEUE_SIZE   256
#define CONTROL_SIZE 64
#define QUEUES_MAX   (2 * VN_QUEUES_MAX + 1)

// Packets sent in one turn, and the pieces that they have.
#define SEND_MAX 32
#define SEND_IOV (2 * QUEUE_SIZE)

// Packets received in one turn: the guest works on those while the loop takes the next.
#define RECEIVE_MAX 16

#define WINDOW_CHAINS QUEUE_SIZE
#define WINDOW_IOV    (2 * QUEUE_SIZE)

// What CTRL_GUEST_OFFLOADS can switch (section 5.1.6.5.6.1).
#define GUEST_OFFLOADS                                                                             \
	(BIT64(VIRTIO_NET_F_GUEST_CSUM) | BIT64(VIRTIO_NET_F_GUEST_TSO4) |                         \
		BIT64(VIRTIO_NET_F_GUEST_TSO6) | BIT64(VIRTIO_NET_F_GUEST_ECN) |                   \
		BIT64(VIRTIO_NET_F_GUEST_USO4) | BIT64(VIRTIO_NET_F_GUEST_USO6))
// With any of these a packet may be as large as VN_NET_PACKET_MAX.
#define GUEST_SEGMENTS                                                                             \
	(BIT64(VIRTIO_NET_F_GUEST_TSO4) | BIT64(VIRTIO_NET_F_GUEST_TSO6) |                         \
		BIT64(VIRTIO_NET_F_GUEST_USO4) | BIT64(VIRTIO_NET_F_GUEST_USO6))

enum role { TX, RX, CONTROL, ROLES };

// One of the device's queues while it is started. On its pair's loop.
struct net_queue {
	struct net_pair *pair;
	enum role role;
	unsigned index;
	struct vn_virtqueue *ring;
	struct vn_queue_stats *stats;
	struct vn_ioloop_event kick;

	// With limits: when the next packet may pass, and whether the timer is set for that.
	uint64_t due;
	bool waiting;
	struct vn_ioloop_timer turn;

	struct vn_spin spin; // TX

	// While vhost serves it: `call` for an interrupt that has to go through here, `fault` when
	// it cannot make sense of the ring. Changed with the device's lock held.
	bool in_kernel;
	struct vn_ioloop_event call, fault;
};

// A chain in the window.
struct buffer {
	uint16_t head;
	uint16_t iov_count;
	uint64_t size; // bytes
};

// Receive buffers taken from the queue, in order, and the packet that waits in them for more.
struct window {
	unsigned chain_count, chains_max;
	unsigned iov_count;
	uint64_t size; // bytes in all
	uint64_t want; // bytes to have before a packet is read, if the driver has them
	size_t pending; // bytes of the packet that is being received, or 0
	size_t direct; // bytes of it in the window; the others are in the spill
	bool merge; // VIRTIO_NET_F_MRG_RXBUF
	bool clear_flags; // the driver knows no checksum offload, so nothing may speak of it
	struct buffer chains[WINDOW_CHAINS];
	struct iovec iov[WINDOW_IOV + 1]; // the last is for the spill
	uint8_t spill[VN_NET_PACKET_MAX];
};

// A packet of the batch that is being sent.
struct outgoing_packet {
	struct vn_net_packet packet;
	struct net_queue *queue;
	uint16_t head;
};

// The batch. There is a new one when none of it is on its way.
struct outgoing {
	unsigned in_flight;
	unsigned count, iov_count; // used of:
	struct outgoing_packet packets[SEND_MAX];
	struct iovec iov[SEND_IOV];
};

// A pair of queues. On its loop only, once the device is made.
struct net_pair {
	struct vn_net *net;
	unsigned index;
	struct vn_ioloop *loop;
	struct vn_ioloop_hook hook;
	struct vn_net_port port;
	struct net_queue *queues[ROLES]; // those that are started
	struct vn_vhost vhost;
	bool attached;
	bool wanted; // by the driver's last command, until the device is reset
	bool readable; // the backend may have packets
	bool paused; // with what the driver set and what has arrived
	struct window window;
	struct outgoing outgoing;
	struct iovec iov[QUEUE_SIZE]; // of the chain at hand in the control queue
};

// Owned by the vm. Immutable once created, but for what says otherwise.
struct vn_net {
	struct vn_virtio_device device;
	char name[16];
	uint8_t mac[6];
	struct vn_net_backend *backend;
	struct vn_loops *loops;
	unsigned pair_count; // of those in `pairs`
	struct net_pair *pairs[VN_QUEUES_MAX];
	struct vn_virtio_queue virtio_queues[QUEUES_MAX];
	struct net_queue queues[QUEUES_MAX];
	struct vn_rate packets[CONTROL], bytes[CONTROL]; // each way, shared by the pairs
	bool limited;
	// Offloads that the driver's last command left out, until the device is reset. On the first
	// pair's loop.
	uint64_t offloads_off;
	uint64_t poll_max; // ns
};

static struct vn_net *from_device(struct vn_virtio_device *device)
{
	return container_of(device, struct vn_net, device);
}

// Copy from and to [offset, offset + size) of a vector that has as much.
static void copy_out(const struct iovec *iov, size_t offset, void *data, size_t size)
{
	for (char *at = data; size > 0; iov++) {
		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		size_t part = iov->iov_len - offset < size ? iov->iov_len - offset : size;
		memcpy(at, (const char *)iov->iov_base + offset, part);
		at += part;
		size -= part;
		offset = 0;
	}
}

static void copy_in(const struct iovec *iov, size_t offset, const void *data, size_t size)
{
	for (const char *at = data; size > 0; iov++) {
		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		size_t part = iov->iov_len - offset < size ? iov->iov_len - offset : size;
		memcpy((char *)iov->iov_base + offset, at, part);
		at += part;
		size -= part;
		offset = 0;
	}
}

// Whether a packet may pass now. If not, the loop is woken when it may.
static bool may_pass(struct net_queue *queue)
{
	struct vn_ioloop *loop = queue->pair->loop;
	if (queue->waiting)
		return false;
	if (!queue->pair->net->limited || queue->role == CONTROL ||
		queue->due <= vn_ioloop_now(loop))
		return true;
	queue->waiting = true;
	vn_ioloop_set_timer(loop, &queue->turn, queue->due);
	return false;
}

// A packet's size is known when it has passed, so it is the next one that waits for what this one
// took.
static void account(struct net_queue *queue, uint64_t size)
{
	struct vn_net *net = queue->pair->net;
	if (!net->limited)
		return;
	uint64_t now = vn_ioloop_now(queue->pair->loop);
	uint64_t packets = vn_rate_take(&net->packets[queue->role], 1, now);
	uint64_t bytes = vn_rate_take(&net->bytes[queue->role], size, now);
	queue->due = packets > bytes ? packets : bytes;
}

static void turn_has_come(struct vn_ioloop_timer *timer)
{
	container_of(timer, struct net_queue, turn)->waiting = false;
}

// Give the packet's buffers back.
static void sent(struct vn_net_packet *packet)
{
	struct outgoing_packet *outgoing = container_of(packet, struct outgoing_packet, packet);
	vn_virtqueue_push(outgoing->queue->ring, outgoing->head, 0);
	outgoing->queue->pair->outgoing.in_flight--;
}

static void send_packet(struct net_queue *queue, uint16_t head, const struct vn_chain *chain)
{
	struct net_pair *pair = queue->pair;
	struct vn_net_backend *backend = pair->net->backend;
	struct outgoing *outgoing = &pair->outgoing;
	struct outgoing_packet *next = &outgoing->packets[outgoing->count++];
	*next = (struct outgoing_packet){.packet = {.iov = chain->iov,
						 .count = chain->readable,
						 .size = (size_t)chain->readable_size,
						 .sent = sent},
		.queue = queue,
		.head = head};
	outgoing->iov_count += chain->readable;
	outgoing->in_flight++;
	account(queue, chain->readable_size - VN_NET_HEADER);
	vn_counter_add(&queue->stats->written_bytes, chain->readable_size - VN_NET_HEADER);
	backend->ops->send(backend, pair->index, pair->loop, &next->packet);
}

// Take the driver's next packet and send it: 1, 0 when there is none, or -EPROTO.
static int send_one(struct net_queue *queue)
{
	struct outgoing *outgoing = &queue->pair->outgoing;
	struct vn_virtqueue *ring = queue->ring;
	uint16_t head;
	int code = vn_virtqueue_pop(ring, &head);
	if (code <= 0)
		return code;
	struct vn_chain chain = {.iov = outgoing->iov + outgoing->iov_count, .iov_max = QUEUE_SIZE};
	code = vn_virtqueue_chain(ring, head, &chain);
	if (code < 0)
		return code;
	if (chain.writable > 0 || chain.readable_size < VN_NET_HEADER)
		return vn_virtqueue_break(
			ring, "chain %u is no packet: a header and data to be read", head);
	vn_counter_add(&queue->stats->requests, 1);
	if (chain.readable_size <= VN_NET_PACKET_MAX) {
		send_packet(queue, head, &chain);
	} else {
		vn_counter_add(&queue->stats->errors, 1);
		vn_virtqueue_push(ring, head, 0);
	}
	return 1;
}

// Send what the driver has made available, as much as a batch holds: how many packets were taken.
static unsigned transmit(struct net_queue *queue)
{
	struct outgoing *outgoing = &queue->pair->outgoing;
	unsigned taken = 0;
	if (outgoing->in_flight > 0)
		return 0;
	outgoing->count = outgoing->iov_count = 0;
	vn_virtqueue_disable_notify(queue->ring);
	while (taken < SEND_MAX && outgoing->iov_count + QUEUE_SIZE <= SEND_IOV &&
		may_pass(queue) && send_one(queue) == 1)
		taken++;
	if (taken > 0)
		vn_counter_add(&queue->stats->batches, 1);
	return taken;
}

// Poll the queue again now if that is worth it; otherwise enable notifications. Completions and
// timers in flight run this again anyway.
static void await_more(struct net_queue *queue, bool taken)
{
	struct net_pair *pair = queue->pair;
	const struct net_queue *rx = pair->queues[RX];
	if (vn_virtqueue_is_broken(queue->ring))
		return;
	// The driver may send more once it has buffers back, or answer to what it receives.
	bool stirred = vn_virtqueue_has_unpublished(queue->ring) ||
		       (rx && vn_virtqueue_has_unpublished(rx->ring));
	bool again = vn_spin_again(&queue->spin, taken, stirred, vn_ioloop_now(pair->loop));
	if (pair->outgoing.in_flight > 0 || queue->waiting)
		return;
	if (again || vn_virtqueue_enable_notify(queue->ring))
		vn_ioloop_stay_awake(pair->loop);
}

// Add the driver's next buffer to the window: 1, 0 when there is none, or -EPROTO.
static int take_buffer(struct window *window, struct vn_virtqueue *ring)
{
	uint16_t head;
	int code = vn_virtqueue_pop(ring, &head);
	if (code <= 0)
		return code;
	struct vn_chain chain = {.iov = window->iov + window->iov_count, .iov_max = QUEUE_SIZE};
	code = vn_virtqueue_chain(ring, head, &chain);
	if (code < 0)
		return code;
	if (chain.readable > 0 || chain.writable_size < VN_NET_HEADER)
		return vn_virtqueue_break(
			ring, "chain %u cannot take a packet: no room for a header", head);
	window->chains[window->chain_count++] =
		(struct buffer){head, chain.writable, chain.writable_size};
	window->iov_count += chain.writable;
	window->size += chain.writable_size;
	return 1;
}

static bool can_grow(const struct window *window, const struct vn_virtqueue *ring)
{
	return window->chain_count < window->chains_max && window->chain_count < ring->size &&
	       window->iov_count + QUEUE_SIZE <= WINDOW_IOV;
}

// Have `want` bytes in the window, if that can be. When it is for the driver to give more, it has
// been asked to notify.
static void grow(struct window *window, struct vn_virtqueue *ring, uint64_t want)
{
	while (window->size < want && can_grow(window, ring)) {
		int code = take_buffer(window, ring);
		if (code < 0 || (code == 0 && !vn_virtqueue_enable_notify(ring)))
			return;
	}
	vn_virtqueue_disable_notify(ring);
}

// Give the driver the first `size` bytes of the window, in as many buffers as they fill.
static void hand_over(struct window *window, struct vn_virtqueue *ring, size_t size)
{
	unsigned chains = 0, iovs = 0;
	for (uint64_t left = size; left > 0; chains++) {
		const struct buffer *buffer = &window->chains[chains];
		uint64_t part = buffer->size < left ? buffer->size : left;
		vn_virtqueue_push(ring, buffer->head, (uint32_t)part);
		window->size -= buffer->size;
		iovs += buffer->iov_count;
		left -= part;
	}
	window->chain_count -= chains;
	window->iov_count -= iovs;
	memmove(window->chains, window->chains + chains,
		window->chain_count * sizeof(window->chains[0]));
	memmove(window->iov, window->iov + iovs, window->iov_count * sizeof(window->iov[0]));
}

// Complete the header: how many buffers the packet fills.
static void finish_header(struct window *window, size_t size)
{
	uint16_t buffers = 0;
	for (uint64_t room = 0; room < size; buffers++)
		room += window->chains[buffers].size;
	copy_in(window->iov, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers,
		sizeof(buffers));
	if (window->clear_flags)
		copy_in(window->iov, offsetof(struct virtio_net_hdr_v1, flags), &(uint8_t){0}, 1);
}

// Bring the packet that was read to the driver. False when it waits for more buffers.
static bool deliver(struct net_queue *queue)
{
	struct window *window = &queue->pair->window;
	struct vn_virtqueue *ring = queue->ring;
	grow(window, ring, window->pending);
	if (window->size < window->pending) {
		if (can_grow(window, ring))
			return false;
		window->pending = 0;
		vn_counter_add(&queue->stats->requests, 1);
		vn_counter_add(&queue->stats->errors, 1);
		return true;
	}
	copy_in(window->iov, window->direct, window->spill, window->pending - window->direct);
	finish_header(window, window->pending);
	hand_over(window, ring, window->pending);
	vn_counter_add(&queue->stats->requests, 1);
	vn_counter_add(&queue->stats->read_bytes, window->pending - VN_NET_HEADER);
	window->pending = 0;
	return true;
}

// Read the backend's next packet. False when it has none or the driver no buffer.
static bool read_packet(struct net_queue *queue)
{
	struct net_pair *pair = queue->pair;
	struct vn_virtqueue *ring = queue->ring;
	struct window *window = &pair->window;
	struct vn_net_backend *backend = pair->net->backend;
	if (!pair->readable || !may_pass(queue))
		return false;
	grow(window, ring, window->want);
	if (window->chain_count == 0 || vn_virtqueue_is_broken(ring))
		return false;
	window->iov[window->iov_count] =
		(struct iovec){.iov_base = window->spill, .iov_len = sizeof(window->spill)};
	int size = backend->ops->receive(backend, pair->index, window->iov, window->iov_count + 1);
	if (size < 0) {
		pair->readable = false;
		return false;
	}
	account(queue, (uint64_t)size - VN_NET_HEADER);
	window->pending = (size_t)size;
	window->direct = window->pending < window->size ? window->pending : (size_t)window->size;
	return true;
}

static void receive(struct net_queue *queue)
{
	struct net_pair *pair = queue->pair;
	unsigned count = 0;
	while (count < RECEIVE_MAX) {
		if (pair->window.pending == 0 && !read_packet(queue))
			break;
		if (!deliver(queue))
			break;
		count++;
	}
	if (count > 0)
		vn_counter_add(&queue->stats->batches, 1);
	if (count == RECEIVE_MAX)
		vn_ioloop_stay_awake(pair->loop);
}

static enum vn_vhost_queue vhost_queue(const struct net_queue *queue)
{
	return queue->role == RX ? VN_VHOST_RX : VN_VHOST_TX;
}

// A change of which pairs have packets, made on the loop of each.
struct attachment {
	struct net_pair *pair;
	bool attached;
	int code;
};

// Have vhost carry packets for those of the pair's queues that it serves, or not.
static int attach_in_kernel(struct net_pair *pair, bool attached)
{
	struct vn_net_backend *backend = pair->net->backend;
	int code = 0;
	for (unsigned role = 0; role < CONTROL && code == 0; role++)
		if (pair->queues[role] && pair->queues[role]->in_kernel)
			code = vn_vhost_set_tap(&pair->vhost, vhost_queue(pair->queues[role]),
				attached ? backend->ops->descriptor(backend, pair->index) : -1);
	return code;
}

// vhost takes only what the kernel gives packets, so that comes before and goes after it.
static int attach(struct net_pair *pair, bool attached)
{
	struct vn_net_backend *backend = pair->net->backend;
	if (!attached)
		attach_in_kernel(pair, false);
	int code = backend->ops->attach(backend, pair->index, attached);
	if (code < 0)
		return code;
	pair->attached = attached;
	if (!attached)
		return 0;
	code = attach_in_kernel(pair, true);
	if (code < 0)
		attach(pair, false);
	return code;
}

static void attach_on_loop(void *arg)
{
	struct attachment *attachment = arg;
	struct net_pair *pair = attachment->pair;
	pair->wanted = pair->wanted && attachment->attached;
	if (attachment->attached == pair->attached)
		return;
	if (attachment->attached && (!pair->queues[TX] || !pair->queues[RX])) {
		attachment->code = -EINVAL;
		return;
	}
	attachment->code = attach(pair, attachment->attached);
	pair->wanted = attachment->code == 0 && attachment->attached;
}

// VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET: the first `count` pairs are used (section 5.1.6.5.5). On the
// first pair's loop, which may wait for the others' since none of them ever waits for it.
static int set_pairs(struct vn_net *net, unsigned count)
{
	if (count < 1 || count > net->pair_count)
		return -EINVAL;
	for (unsigned i = 1; i < net->pair_count; i++) {
		struct attachment attachment = {.pair = net->pairs[i], .attached = i < count};
		vn_ioloop_call(net->pairs[i]->loop, attach_on_loop, &attachment);
		if (attachment.code < 0)
			return attachment.code;
	}
	return 0;
}

// VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET: just these are used, of those that were negotiated (section
// 5.1.6.5.6.1). While the first receive queue is stopped, its start brings them to the backend.
static int set_offloads(struct vn_net *net, uint64_t offloads)
{
	if ((offloads & ~(net->device.driver_features & GUEST_OFFLOADS)) != 0)
		return -EINVAL;
	if (net->pairs[0]->queues[RX]) {
		int code = net->backend->ops->set_offloads(net->backend, offloads);
		if (code < 0)
			return code;
	}
	net->offloads_off = ~offloads;
	return 0;
}

// A command that was not negotiated is no command, whatever it says.
static int command(
	struct vn_net *net, const struct virtio_net_ctrl_hdr *header, const void *data, size_t size)
{
	uint16_t pairs;
	uint64_t offloads;
	if (header->class == VIRTIO_NET_CTRL_MQ && header->cmd == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET &&
		size == sizeof(pairs) && vn_virtio_has(&net->device, VIRTIO_NET_F_MQ)) {
		memcpy(&pairs, data, sizeof(pairs));
		return set_pairs(net, pairs);
	}
	if (header->class == VIRTIO_NET_CTRL_GUEST_OFFLOADS &&
		header->cmd == VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET && size == sizeof(offloads) &&
		vn_virtio_has(&net->device, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) {
		memcpy(&offloads, data, sizeof(offloads));
		return set_offloads(net, offloads);
	}
	return -EOPNOTSUPP;
}

// Carry out one command (section 5.1.6.5): 1, 0 when there is none, or -EPROTO.
static int control_one(struct net_queue *queue)
{
	struct net_pair *pair = queue->pair;
	struct vn_virtqueue *ring = queue->ring;
	uint16_t head;
	int code = vn_virtqueue_pop(ring, &head);
	if (code <= 0)
		return code;
	struct vn_chain chain = {.iov = pair->iov, .iov_max = QUEUE_SIZE};
	code = vn_virtqueue_chain(ring, head, &chain);
	if (code < 0)
		return code;
	struct virtio_net_ctrl_hdr header;
	if (chain.readable_size < sizeof(header) || chain.writable_size == 0)
		return vn_virtqueue_break(
			ring, "chain %u is no command: a header and room for an answer", head);
	copy_out(chain.iov, 0, &header, sizeof(header));
	// No command has more data than this; one that says it has is refused for its size.
	uint8_t data[sizeof(uint64_t)];
	uint64_t size = chain.readable_size - sizeof(header);
	copy_out(chain.iov, sizeof(header), data, size < sizeof(data) ? size : sizeof(data));
	code = command(pair->net, &header, data, size);
	uint8_t ack = code == 0 ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
	copy_in(chain.iov + chain.readable, 0, &ack, sizeof(ack));
	vn_virtqueue_push(ring, head, sizeof(ack));
	vn_counter_add(&queue->stats->requests, 1);
	vn_counter_add(&queue->stats->written_bytes, chain.readable_size);
	vn_counter_add(&queue->stats->read_bytes, sizeof(ack));
	if (code < 0)
		vn_counter_add(&queue->stats->errors, 1);
	return 1;
}

// Commands are few: the driver may always notify.
static void obey(struct net_queue *queue)
{
	unsigned budget = CONTROL_SIZE;
	while (budget > 0 && control_one(queue) == 1)
		budget--;
	if (budget < CONTROL_SIZE)
		vn_counter_add(&queue->stats->batches, 1);
	if (vn_virtqueue_enable_notify(queue->ring))
		vn_ioloop_stay_awake(queue->pair->loop);
}

static bool is_ours(const struct net_queue *queue)
{
	return queue && !queue->in_kernel;
}

static void serve(struct net_pair *pair, struct net_queue *const queues[ROLES])
{
	struct vn_net_backend *backend = pair->net->backend;
	unsigned taken = queues[TX] ? transmit(queues[TX]) : 0;
	if (pair->queues[RX] && backend->ops->turn)
		backend->ops->turn(backend, pair->index);
	if (queues[RX])
		receive(queues[RX]);
	if (queues[CONTROL])
		obey(queues[CONTROL]);
	if (queues[TX])
		await_more(queues[TX], taken > 0);
	for (unsigned role = 0; role < ROLES; role++)
		if (queues[role] && vn_virtqueue_is_broken(queues[role]->ring))
			vn_virtio_broken(&pair->net->device, queues[role]->index,
				queues[role]->ring->broken);
}

static void flush(struct vn_ioloop_hook *hook)
{
	struct net_pair *pair = container_of(hook, struct net_pair, hook);
	struct net_queue *whole[ROLES] = {NULL};
	for (unsigned role = 0; role < ROLES; role++)
		if (is_ours(pair->queues[role]) &&
			!vn_virtqueue_is_broken(pair->queues[role]->ring))
			whole[role] = pair->queues[role];
	serve(pair, whole);
	for (unsigned role = 0; role < ROLES; role++) {
		struct net_queue *queue = pair->queues[role];
		if (is_ours(queue) && vn_virtqueue_publish(queue->ring))
			vn_virtio_interrupt(&pair->net->device, queue->index);
	}
}

// The flush at the end of this turn looks at the ring anyway.
static void kicked(struct vn_ioloop_event *event)
{
	struct net_queue *queue = container_of(event, struct net_queue, kick);
	vn_virtio_notified(&queue->pair->net->device, queue->index, event->count);
}

static void ready(struct vn_net_port *port)
{
	struct net_pair *pair = container_of(port, struct net_pair, port);
	pair->readable = true;
}

static void link_changed(struct vn_net_port *port)
{
	struct net_pair *pair = container_of(port, struct net_pair, port);
	vn_virtio_config_changed(&pair->net->device);
}

// Begin to receive, with what the driver negotiated and has not switched off since. Offloads that
// the host refuses are none to wait for: it sends whole packets then. A packet that waited at a
// pause still does.
static void start_receiving(struct net_pair *pair)
{
	struct vn_net *net = pair->net;
	struct window *window = &pair->window;
	uint64_t features = net->device.driver_features;
	pair->paused = false;
	window->chain_count = window->iov_count = 0;
	window->size = 0;
	window->merge = features & BIT64(VIRTIO_NET_F_MRG_RXBUF);
	window->clear_flags = !(features & BIT64(VIRTIO_NET_F_GUEST_CSUM));
	window->chains_max = window->merge ? WINDOW_CHAINS : 1;
	window->want = (features & GUEST_SEGMENTS) ? VN_NET_PACKET_MAX
						   : VN_NET_HEADER + 18u + net->backend->mtu;
	pair->readable = true; // what was kept has been told of before
	if (pair->index == 0 && net->backend->ops->set_offloads)
		net->backend->ops->set_offloads(
			net->backend, features & GUEST_OFFLOADS & ~net->offloads_off);
	net->backend->ops->open(net->backend, pair->index, pair->loop, &pair->port);
	if (pair->wanted && !pair->attached && attach(pair, true) < 0)
		vn_warn(net->device.log, "%s: pair %u cannot go on after its queue's reset",
			net->name, pair->index);
}

// Put the window's buffers back into the ring. What is in them of a packet that waits for more is
// copied to the spill area.
static void put_window_back(struct net_queue *queue)
{
	struct window *window = &queue->pair->window;
	if (window->pending > 0 && window->direct > 0) {
		memmove(window->spill + window->direct, window->spill,
			window->pending - window->direct);
		copy_out(window->iov, 0, window->spill, window->direct);
		window->direct = 0;
	}
	while (window->chain_count > 0)
		vn_virtqueue_unpop(queue->ring, window->chains[--window->chain_count].head);
}

// Drop what the driver set and the packet that waits for buffers.
static void forget(struct net_pair *pair)
{
	struct vn_net_backend *backend = pair->net->backend;
	pair->window.pending = 0;
	if (pair->index > 0 && pair->attached)
		attach(pair, false);
	if (pair->index == 0 && backend->ops->set_offloads)
		backend->ops->set_offloads(backend, 0);
}

static void stop_receiving(struct net_queue *queue, enum vn_virtio_stop why)
{
	struct net_pair *pair = queue->pair;
	struct vn_net_backend *backend = pair->net->backend;
	pair->paused = why == VN_VIRTIO_PAUSE;
	backend->ops->close(backend, pair->index, pair->paused);
	if (pair->paused)
		put_window_back(queue);
	else
		forget(pair);
}

// After a reset of a paused device.
static void forget_on_loop(void *arg)
{
	struct net_pair *pair = arg;
	struct vn_net_backend *backend = pair->net->backend;
	if (!pair->paused)
		return;
	pair->paused = false;
	backend->ops->close(backend, pair->index, false);
	forget(pair);
}

static void call_relayed(struct vn_ioloop_event *event)
{
	struct net_queue *queue = container_of(event, struct net_queue, call);
	vn_virtio_interrupt(&queue->pair->net->device, queue->index);
}

static void fault_found(struct vn_ioloop_event *event)
{
	struct net_queue *queue = container_of(event, struct net_queue, fault);
	struct net_pair *pair = queue->pair;
	vn_vhost_set_tap(&pair->vhost, vhost_queue(queue), -1);
	vn_virtqueue_break(queue->ring, "the host's vhost-net cannot make sense of what is in it");
	vn_virtio_broken(&pair->net->device, queue->index, queue->ring->broken);
}

// Where vhost signals that the driver wants an interrupt.
static int call_fd(const struct net_queue *queue)
{
	int fd = vn_virtio_interrupt_fd(&queue->pair->net->device, queue->index);
	return fd >= 0 ? fd : queue->call.fd;
}

static void interrupt_moved(struct vn_virtio_device *device, unsigned index)
{
	const struct net_queue *queue = &from_device(device)->queues[index];
	if (queue->in_kernel)
		vn_vhost_set_call(&queue->pair->vhost, vhost_queue(queue), call_fd(queue));
}

// Hand a queue over to vhost, if that can serve it. It does not touch up headers: a driver needs to
// have accepted what they may say.
static bool start_in_kernel(struct net_queue *queue)
{
	const uint64_t needed = BIT64(VIRTIO_NET_F_MRG_RXBUF) | BIT64(VIRTIO_NET_F_GUEST_CSUM);
	struct net_pair *pair = queue->pair;
	struct vn_net *net = pair->net;
	uint64_t features = net->device.driver_features;
	if (pair->vhost.fd < 0 || queue->role == CONTROL || (features & needed) != needed)
		return false;
	struct vn_vhost_fds fds = {queue->kick.fd, call_fd(queue), queue->fault.fd};
	enum vn_vhost_queue which = vhost_queue(queue);
	int code = vn_vhost_start(&pair->vhost, which, features, queue->ring, &fds);
	if (code == 0 && pair->attached)
		code = vn_vhost_set_tap(&pair->vhost, which,
			net->backend->ops->descriptor(net->backend, pair->index));
	if (code < 0) {
		vn_vhost_stop(&pair->vhost, which, NULL);
		vn_warn(net->device.log, "%s: queue %u is served without vhost, which refuses: %s",
			net->name, queue->index, strerror(-code));
		return false;
	}
	queue->in_kernel = true;
	vn_ioloop_watch(pair->loop, &queue->call);
	vn_ioloop_watch(pair->loop, &queue->fault);
	return true;
}

static void stop_in_kernel(struct net_queue *queue)
{
	vn_vhost_stop(&queue->pair->vhost, vhost_queue(queue), queue->ring);
	vn_ioloop_unwatch(&queue->call);
	vn_ioloop_unwatch(&queue->fault);
	queue->in_kernel = false;
}

static void start_on_loop(void *arg)
{
	struct net_queue *queue = arg;
	struct net_pair *pair = queue->pair;
	if (queue->role == RX)
		start_receiving(pair);
	queue->spin = (struct vn_spin){.max = pair->net->poll_max};
	pair->queues[queue->role] = queue;
	if (!start_in_kernel(queue))
		vn_ioloop_watch(pair->loop, &queue->kick);
	flush(&pair->hook);
}

// Which queue it is depends on what the driver negotiated: without MQ the third is the control
// queue (section 5.1.2).
static void start(struct vn_virtio_device *device, unsigned index)
{
	struct vn_net *net = from_device(device);
	struct net_queue *queue = &net->queues[index];
	unsigned pairs = vn_virtio_has(device, VIRTIO_NET_F_MQ) ? net->pair_count : 1;
	bool control = index == 2 * pairs && vn_virtio_has(device, VIRTIO_NET_F_CTRL_VQ);
	queue->pair = NULL;
	if (!control && index >= 2 * pairs)
		return; // set up, though the driver said that it would not use it
	queue->pair = net->pairs[control ? 0 : index / 2];
	queue->role = control ? CONTROL : index % 2 == 0 ? RX : TX;
	queue->ring = &device->queues[index].ring;
	queue->stats = device->queues[index].stats;
	queue->kick.fd = device->queues[index].kick;
	vn_ioloop_call(queue->pair->loop, start_on_loop, queue);
}

static bool is_sent(void *arg)
{
	const struct net_pair *pair = arg;
	return pair->outgoing.in_flight == 0;
}

// How a queue is stopped, on its loop.
struct net_stop {
	struct net_queue *queue;
	enum vn_virtio_stop why;
};

static void stop_on_loop(void *arg)
{
	const struct net_stop *stop = arg;
	struct net_queue *queue = stop->queue;
	struct net_pair *pair = queue->pair;
	bool ours = !queue->in_kernel;
	pair->queues[queue->role] = NULL;
	if (queue->role == TX)
		vn_ioloop_run_until(pair->loop, is_sent, pair);
	if (ours)
		vn_ioloop_unwatch(&queue->kick);
	else
		stop_in_kernel(queue);
	vn_ioloop_cancel_timer(&queue->turn);
	queue->waiting = false;
	if (queue->role == RX)
		stop_receiving(queue, stop->why);
	// What vhost signalled last may have gone with the call's eventfd: say it again.
	if (stop->why == VN_VIRTIO_PAUSE && (!ours || vn_virtqueue_publish(queue->ring)))
		vn_virtio_interrupt(&pair->net->device, queue->index);
}

static void stop(struct vn_virtio_device *device, unsigned index, enum vn_virtio_stop why)
{
	struct net_stop stop = {&from_device(device)->queues[index], why};
	if (stop.queue->pair)
		vn_ioloop_call(stop.queue->pair->loop, stop_on_loop, &stop);
}

// What the driver set through the control queue. The loops have no queue left that uses it.
static void reset(struct vn_virtio_device *device)
{
	struct vn_net *net = from_device(device);
	net->offloads_off = 0;
	for (unsigned i = 0; i < net->pair_count; i++) {
		net->pairs[i]->wanted = false;
		vn_ioloop_call(net->pairs[i]->loop, forget_on_loop, net->pairs[i]);
	}
}

static void config_read(struct vn_virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	struct vn_net *net = from_device(device);
	struct virtio_net_config config = {
		.status = atomic_load_explicit(&net->backend->link, memory_order_relaxed)
				  ? VIRTIO_NET_S_LINK_UP
				  : 0,
		.max_virtqueue_pairs = (uint16_t)net->pair_count,
		.mtu = net->backend->mtu};
	memcpy(config.mac, net->mac, sizeof(config.mac));
	memcpy(data, (const char *)&config + offset, size);
}

static const struct vn_virtio_ops net_ops = {.start = start,
	.stop = stop,
	.reset = reset,
	.config_read = config_read,
	.interrupt_moved = interrupt_moved};

static void describe(struct vn_net *net, const struct vn_memory *memory, const struct vn_log *log)
{
	const struct vn_net_backend *backend = net->backend;
	net->device = (struct vn_virtio_device){.name = net->name,
		.id = VIRTIO_ID_NET,
		.mac = net->mac,
		.features = backend->features | BIT64(VIRTIO_NET_F_MAC) |
			    BIT64(VIRTIO_NET_F_STATUS) | BIT64(VIRTIO_NET_F_MTU) |
			    BIT64(VIRTIO_NET_F_MRG_RXBUF),
		.config_size = offsetof(struct virtio_net_config, speed),
		.queue_count = 2 * backend->pairs,
		.queues = net->virtio_queues,
		.ops = &net_ops,
		.memory = memory,
		.log = log};
	if (backend->features & GUEST_OFFLOADS)
		net->device.features |= BIT64(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (backend->pairs > 1)
		net->device.features |= BIT64(VIRTIO_NET_F_MQ);
	for (unsigned i = 0; i < net->device.queue_count; i++)
		net->virtio_queues[i].size_max = QUEUE_SIZE;
	// A control queue only where there is something to control.
	if (net->device.features &
		(BIT64(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT64(VIRTIO_NET_F_MQ))) {
		net->device.features |= BIT64(VIRTIO_NET_F_CTRL_VQ);
		net->virtio_queues[net->device.queue_count++].size_max = CONTROL_SIZE;
	}
	for (unsigned i = 0; i < net->device.queue_count; i++) {
		net->queues[i].index = i;
		net->queues[i].kick.fire = kicked;
		net->queues[i].turn.expire = turn_has_come;
		net->queues[i].call = (struct vn_ioloop_event){.fire = call_relayed, .fd = -1};
		net->queues[i].fault = (struct vn_ioloop_event){.fire = fault_found, .fd = -1};
	}
}

struct preparation {
	struct net_pair *pair;
	int code;
};

static void prepare_on_loop(void *arg)
{
	struct preparation *preparation = arg;
	struct net_pair *pair = preparation->pair;
	struct vn_net_backend *backend = pair->net->backend;
	if (backend->ops->descriptor)
		preparation->code = vn_ioloop_register_file(
			pair->loop, backend->ops->descriptor(backend, pair->index));
	if (preparation->code == 0)
		vn_ioloop_add_hook(pair->loop, &pair->hook);
}

static int create_loop(struct net_pair *pair, struct vn_loops *loops, struct veneer_error *error)
{
	const struct vn_net *net = pair->net;
	char name[24];
	snprintf(name, sizeof(name), net->backend->pairs > 1 ? "%s.%u" : "%s", net->name,
		pair->index);
	int code = vn_loops_take(loops, name, true, &pair->loop, error);
	if (code < 0)
		return code;
	struct preparation preparation = {.pair = pair};
	vn_ioloop_call(pair->loop, prepare_on_loop, &preparation);
	if (preparation.code == 0)
		return 0;
	vn_loops_give_back(loops, pair->loop);
	return vn_fail(error, preparation.code, "%s: io_uring does not take its interface: %s",
		net->name, strerror(-preparation.code));
}

static int create_pair(
	struct vn_net *net, unsigned index, struct vn_loops *loops, struct veneer_error *error)
{
	struct net_pair *pair = calloc(1, sizeof(*pair));
	if (!pair)
		return vn_fail(error, -ENOMEM, "%s: no memory for its queues", net->name);
	pair->net = net;
	pair->index = index;
	pair->hook.flush = flush;
	pair->vhost.fd = -1;
	pair->port = (struct vn_net_port){ready, link_changed};
	pair->attached = index == 0;
	int code = create_loop(pair, loops, error);
	if (code < 0) {
		free(pair);
		return code;
	}
	net->pairs[net->pair_count++] = pair;
	return 0;
}

static void remove_hook(void *arg)
{
	struct net_pair *pair = arg;
	vn_ioloop_remove_hook(pair->loop, &pair->hook);
}

static void close_event(struct vn_ioloop_event *event)
{
	if (event->fd >= 0)
		close(event->fd);
}

static void destroy_pairs(struct vn_net *net)
{
	while (net->pair_count > 0) {
		struct net_pair *pair = net->pairs[--net->pair_count];
		vn_ioloop_call(pair->loop, remove_hook, pair);
		vn_loops_give_back(net->loops, pair->loop);
		vn_vhost_close(&pair->vhost);
		free(pair);
	}
	for (unsigned i = 0; i < net->device.queue_count; i++) {
		close_event(&net->queues[i].fault);
		close_event(&net->queues[i].call);
	}
}

static int open_event(
	const struct vn_net *net, struct vn_ioloop_event *event, struct veneer_error *error)
{
	event->fd = eventfd(0, EFD_CLOEXEC);
	return event->fd < 0
		       ? vn_fail(error, -errno, "%s: no eventfd: %s", net->name, strerror(errno))
		       : 0;
}

// A vhost for each pair, unless that is not wanted, or not to be had and not insisted upon. It
// knows no limits.
static int open_vhost(
	struct vn_net *net, const struct vn_net_options *options, struct veneer_error *error)
{
	struct veneer_error reason;
	int code = 0;
	if (options->vhost == VN_NET_VHOST_OFF || net->limited || !net->backend->ops->descriptor)
		return 0;
	for (unsigned i = 0; code == 0 && i < net->pair_count; i++)
		code = vn_vhost_open(&net->pairs[i]->vhost, net->device.memory, &reason);
	if (code < 0) {
		for (unsigned i = 0; i < net->pair_count; i++)
			vn_vhost_close(&net->pairs[i]->vhost);
		return options->vhost == VN_NET_VHOST_ON
			       ? vn_fail(error, code, "%s", reason.message)
			       : 0;
	}
	for (unsigned i = 0; code == 0 && i < 2 * net->pair_count; i++) {
		code = open_event(net, &net->queues[i].call, error);
		if (code == 0)
			code = open_event(net, &net->queues[i].fault, error);
	}
	return code;
}

// A driver takes an address as it is, so one that no interface may have is refused here, and one
// that the host's end has: it would take the guest's packets for its own.
static int check_mac(const struct vn_net *net, struct veneer_error *error)
{
	const uint8_t *mac = net->mac;
	if (mac[0] & 1)
		return vn_fail(error, -EINVAL,
			"%s: a MAC address that begins with %02x is for groups, "
			"not for one interface",
			net->name, mac[0]);
	if (memcmp(mac, net->backend->host_mac, sizeof(net->mac)) == 0)
		return vn_fail(error, -EINVAL,
			"%s: " VN_MAC_FORMAT " is the MAC address of the host's interface itself; "
			"the guest needs another",
			net->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return 0;
}

static void set_limits(struct vn_net *net, const struct vn_net_options *options)
{
	const struct vn_rate_options *pps = &options->pps, *bps = &options->bps;
	net->limited = pps->per_second > 0 || bps->per_second > 0;
	for (unsigned role = 0; role < CONTROL; role++) {
		vn_rate_init(&net->packets[role], pps->per_second, pps->burst);
		vn_rate_init(&net->bytes[role], bps->per_second, bps->burst);
	}
}

// The address that was given, or the one that belongs to this guest and interface.
static int choose_mac(struct vn_net *net, const struct vn_device_env *env,
	const struct vn_net_options *options, struct veneer_error *error)
{
	static const uint8_t none[6];
	char user[32];
	memcpy(net->mac, options->mac, sizeof(net->mac));
	if (memcmp(net->mac, none, sizeof(none)) != 0)
		return 0;
	// Interfaces' names have no blank, so what stands for one without is no name.
	snprintf(user, sizeof(user), "user %u", env->number);
	const char *interface = net->backend->name ? net->backend->name : user;
	return vn_mac_derive(net->mac, "", env->guest, interface, error);
}

static int open_backend(struct vn_net *net, const struct vn_device_env *env,
	const struct vn_net_options *options, struct veneer_error *error)
{
	int code = options->user ? vn_net_user_open(&net->backend, options, env->log, error)
				 : vn_net_tap_open(&net->backend, options, env->log, error);
	if (code < 0)
		return code;
	code = choose_mac(net, env, options, error);
	if (code == 0)
		code = check_mac(net, error);
	if (code < 0)
		net->backend->ops->destroy(net->backend);
	return code;
}

static unsigned count_loops(const void *values)
{
	return ((const struct vn_net_options *)values)->queues;
}

static int create(struct vn_virtio_device **device, const struct vn_device_env *env, void *values,
	struct veneer_error *error)
{
	const struct vn_net_options *options = values;
	// The limits have cache lines of their own.
	struct vn_net *net = aligned_alloc(_Alignof(struct vn_net), sizeof(*net));
	if (!net)
		return vn_fail(error, -ENOMEM, "%s: no memory", env->name);
	memset(net, 0, sizeof(*net));
	strncpy(net->name, env->name, sizeof(net->name) - 1);
	int code = open_backend(net, env, options, error);
	if (code < 0)
		goto free_net;
	describe(net, env->memory, env->log);
	set_limits(net, options);
	net->poll_max = options->poll_us * NS_PER_US;
	code = vn_virtio_device_init(&net->device, error);
	if (code < 0)
		goto close_backend;
	net->loops = env->loops;
	for (unsigned i = 0; code == 0 && i < net->backend->pairs; i++)
		code = create_pair(net, i, env->loops, error);
	if (code == 0)
		code = open_vhost(net, options, error);
	if (code < 0)
		goto destroy_device;
	*device = &net->device;
	return 0;

destroy_device:
	destroy_pairs(net);
	vn_virtio_device_destroy(&net->device);
close_backend:
	net->backend->ops->destroy(net->backend);
free_net:
	free(net);
	return code;
}

static void destroy(struct vn_virtio_device *device)
{
	struct vn_net *net = from_device(device);
	destroy_pairs(net);
	vn_virtio_device_destroy(device);
	net->backend->ops->destroy(net->backend);
	free(net);
}

const struct vn_device_type vn_net_type = {.option = &vn_net_option,
	.kind = "net",
	.count_loops = count_loops,
	.create = create,
	.destroy = destroy};
