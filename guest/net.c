// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio-net driver. Descriptor i of a queue is buffer i for good, header and frame in one
 * piece: receive buffers go back to the device as soon as the next frame is asked for.
 */
#include "net.h"

#include "print.h"
#include "ring0.h"

#define FEATURE_MAC  (1ull << 5)
#define WANTED       (FEATURE_VERSION_1 | FEATURE_EVENT_IDX | FEATURE_MAC)
#define TIMEOUT_NS   10000000000ull
#define LATE_NS      1000000000ull
#define NOT_HELD     0xffff
#define MIN_RECEIVED 14

/* The receive buffer that the caller looks at. */
static uint16_t held = NOT_HELD;

static int start_queues(struct net *net)
{
	net->transmit.index = 1;
	virtio_queue_clear(&net->receive);
	virtio_queue_clear(&net->transmit);
	if (virtio_queue_start(&net->device, &net->receive) ||
		virtio_queue_start(&net->device, &net->transmit))
		return fail("network queues 0 and 1", "free queues", "none");
	if (net->receive.size < NET_BUFFERS || net->transmit.size < NET_BUFFERS)
		return fail("network queues", "room for 64 buffers", "less");
	for (uint16_t i = 0; i < NET_BUFFERS; i++) {
		net->receive.desc[i] =
			(struct virtio_desc){(uint64_t)(uintptr_t)(net->received + i * NET_STRIDE),
				NET_STRIDE, DESC_WRITE, 0};
		virtio_queue_push(&net->receive, i);
	}
	net->idle = ~0ull;
	held = NOT_HELD;
	virtio_queue_arm(&net->transmit, false);
	virtio_queue_arm(&net->receive, false);
	return 0;
}

int net_open(struct net *net)
{
	const char *word = machine_word("net");
	uint64_t wanted = 0;

	*net = (struct net){0};
	if (word)
		parse_number(&word, &wanted);
	if (!virtio_find(&net->device, DEVICE_ID_NET, wanted))
		return fail("network device", "one", "none");
	net->received = machine_alloc(NET_BUFFERS * NET_STRIDE, 4096);
	net->sent = machine_alloc(NET_BUFFERS * NET_STRIDE, 4096);
	if (!virtio_queue_alloc(&net->receive) || !virtio_queue_alloc(&net->transmit) ||
		!net->received || !net->sent)
		return fail("memory for the network", "some", "none");
	if (virtio_negotiate(&net->device, WANTED) ||
		(net->device.features & (FEATURE_VERSION_1 | FEATURE_MAC)) !=
			(FEATURE_VERSION_1 | FEATURE_MAC))
		return fail("network's feature negotiation", "FEATURES_OK", "refusal");
	if (start_queues(net))
		return 1;
	for (unsigned i = 0; i < sizeof(net->mac); i++)
		net->mac[i] = (uint8_t)virtio_config(&net->device, i, 1);
	net->irq = virtio_irq(&net->device, 0);
	if (net->irq < 0)
		return fail("interrupt vector for the network", "one", "none");
	virtio_write(&net->device, VIRTIO_STATUS,
		STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	virtio_queue_kick(&net->device, &net->receive);
	return 0;
}

/* A frame is there, so its interrupt must be, or come. */
static bool interrupted(const struct net *net, uint32_t seen)
{
	uint64_t end = rdtsc() + ns_to_ticks(LATE_NS);

	while (irq_counts[net->irq] == seen) {
		if (rdtsc() > end)
			return false;
		cpu_relax();
	}
	return true;
}

/* Sleeps until the receive queue's interrupt, or a tick; false if an interrupt is missing. */
static bool sleep_for_frame(struct net *net)
{
	uint32_t seen = irq_counts[net->irq];

	if (virtio_queue_arm(&net->receive, true))
		return true;
	ring0_wait(&irq_counts[net->irq], seen);
	if (net->receive.used->index != net->receive.used_index && !interrupted(net, seen))
		return false;
	virtio_irq_acknowledge(&net->device);
	return true;
}

const uint8_t *net_receive(struct net *net, unsigned *bytes, uint64_t idle_ns, bool *broken)
{
	uint64_t end = rdtsc() + ns_to_ticks(idle_ns);
	struct virtio_used_element element;

	if (held != NOT_HELD) {
		virtio_queue_push(&net->receive, held);
		virtio_queue_kick(&net->device, &net->receive);
		held = NOT_HELD;
	}
	while (!virtio_queue_pop(&net->receive, &element)) {
		if (rdtsc() > end)
			return NULL;
		if (!sleep_for_frame(net)) {
			*broken = fail("interrupt for a frame", "one", "none in a second");
			return NULL;
		}
	}
	if (element.id >= NET_BUFFERS || element.bytes < NET_HEADER + MIN_RECEIVED ||
		element.bytes > NET_STRIDE) {
		*broken = fail_number("received frame's bytes", NET_FRAME, element.bytes);
		return NULL;
	}
	held = (uint16_t)element.id;
	*bytes = element.bytes - NET_HEADER;
	return net->received + held * NET_STRIDE + NET_HEADER;
}

/* Takes back what has been sent. */
static void reclaim(struct net *net)
{
	struct virtio_used_element element;

	while (virtio_queue_pop(&net->transmit, &element))
		net->idle |= 1ull << element.id % NET_BUFFERS;
}

static bool await_idle(struct net *net, bool all)
{
	uint64_t end = rdtsc() + ns_to_ticks(TIMEOUT_NS);

	for (reclaim(net); all ? ~net->idle != 0 : !net->idle; reclaim(net)) {
		if (rdtsc() > end)
			return false;
		cpu_relax();
	}
	return true;
}

uint8_t *net_frame(struct net *net)
{
	unsigned i;

	if (!await_idle(net, false)) {
		fail("transmission", "completion", "none in 10 seconds");
		return NULL;
	}
	i = (unsigned)__builtin_ctzll(net->idle);
	memset(net->sent + i * NET_STRIDE, 0, NET_HEADER);
	return net->sent + i * NET_STRIDE + NET_HEADER;
}

void net_send(struct net *net, uint8_t *frame, unsigned bytes)
{
	uint8_t *start = frame - NET_HEADER;
	uint16_t i = (uint16_t)((size_t)(start - net->sent) / NET_STRIDE);

	net->idle &= ~(1ull << i);
	net->transmit.desc[i] =
		(struct virtio_desc){(uint64_t)(uintptr_t)start, NET_HEADER + bytes, 0, 0};
	virtio_queue_push(&net->transmit, i);
	virtio_queue_kick(&net->device, &net->transmit);
}

int net_close(struct net *net)
{
	int status = 0;

	if (!await_idle(net, true))
		status = fail("transmission", "completion", "none in 10 seconds");
	if (virtio_reset(&net->device))
		status = fail("network's status after a reset", "0", "not 0");
	return status;
}
