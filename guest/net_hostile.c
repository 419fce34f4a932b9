// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks on a virtio-net device: one bad buffer in either queue. After each the device is reset
 * and must send a frame. Buffers for frames to come only matter once one comes.
 */
#include "net.h"
#include "net_commands.h"
#include "print.h"
#include "ring0.h"

#define WAIT_NS  100000000ull
#define BREAK_NS 10000000000ull /* for a device that has to break, however busy the host is */
#define FRAME    60
#define BIG      (1u << 20)
#define RECEIVE  0
#define TRANSMIT 1

enum place { IN_RAM, OUTSIDE_RAM, ACROSS_TOP };

struct net_attack {
	const char *name;
	unsigned queue;
	enum place place;
	uint32_t bytes;
	uint16_t flags; /* with DESC_NEXT, the next one is itself */
	uint16_t head; /* if not 0, made available in place of the descriptor that is bad */
	uint8_t header; /* what each byte of the frame's header is */
	bool breaks; /* the device must need a reset: nothing else makes sense */
};

static const struct net_attack attacks[] = {
	{"send-outside-ram", TRANSMIT, OUTSIDE_RAM, FRAME, 0, 0, 0, true},
	{"send-wraps", TRANSMIT, ACROSS_TOP, BIG, 0, 0, 0, true},
	{"send-loop", TRANSMIT, IN_RAM, FRAME, DESC_NEXT, 0, 0, true},
	{"send-head-too-large", TRANSMIT, IN_RAM, FRAME, 0, 0xfff0, 0, true},
	{"send-writable", TRANSMIT, IN_RAM, FRAME, DESC_WRITE, 0, 0, false},
	{"send-empty", TRANSMIT, IN_RAM, 0, 0, 0, 0, false},
	{"send-short-header", TRANSMIT, IN_RAM, NET_HEADER - 1, 0, 0, 0, false},
	{"send-no-frame", TRANSMIT, IN_RAM, NET_HEADER, 0, 0, 0, false},
	{"send-one-byte", TRANSMIT, IN_RAM, NET_HEADER + 1, 0, 0, 0, false},
	{"send-huge", TRANSMIT, IN_RAM, BIG, 0, 0, 0, false},
	{"send-wild-header", TRANSMIT, IN_RAM, FRAME, 0, 0, 0xff, false},
	{"send-odd-header", TRANSMIT, IN_RAM, FRAME, 0, 0, 0x13, false},
	{"receive-outside-ram", RECEIVE, OUTSIDE_RAM, NET_STRIDE, DESC_WRITE, 0, 0, false},
	{"receive-wraps", RECEIVE, ACROSS_TOP, BIG, DESC_WRITE, 0, 0, false},
	{"receive-loop", RECEIVE, IN_RAM, FRAME, DESC_WRITE | DESC_NEXT, 0, 0, false},
	{"receive-head-too-large", RECEIVE, IN_RAM, FRAME, DESC_WRITE, 0xfff0, 0, false},
	{"receive-readable", RECEIVE, IN_RAM, NET_STRIDE, 0, 0, 0, false},
	{"receive-empty", RECEIVE, IN_RAM, 0, DESC_WRITE, 0, 0, false},
	{"receive-short", RECEIVE, IN_RAM, NET_HEADER + 1, DESC_WRITE, 0, 0, false},
};

static uint64_t address(const struct net_attack *attack, const void *buffer)
{
	switch (attack->place) {
	case OUTSIDE_RAM:
		return 1ull << 45;
	case ACROSS_TOP:
		return ~0xfffull;
	default:
		return (uint64_t)(uintptr_t)buffer;
	}
}

/* All descriptors are bad: also those of the receive buffers that the device has already. */
static void strike(struct net *net, const struct net_attack *attack, uint8_t *buffer)
{
	struct virtio_queue *queue = attack->queue == RECEIVE ? &net->receive : &net->transmit;

	memset(buffer, 0, BIG);
	memset(buffer, attack->header, NET_HEADER);
	for (uint16_t i = 0; i < queue->size; i++)
		queue->desc[i] = (struct virtio_desc){
			address(attack, buffer), attack->bytes, attack->flags, i};
	virtio_queue_push(queue, attack->head ? attack->head : (uint16_t)(queue->size - 1));
	virtio_write(&net->device, VIRTIO_QUEUE_NOTIFY, queue->index);
}

static const char *observe(const struct net *net, const struct net_attack *attack)
{
	const struct virtio_queue *queue =
		attack->queue == RECEIVE ? &net->receive : &net->transmit;
	uint64_t end = rdtsc() + ns_to_ticks(attack->breaks ? BREAK_NS : WAIT_NS);

	do {
		if (virtio_read(&net->device, VIRTIO_STATUS) & STATUS_NEEDS_RESET)
			return "NEEDS_RESET";
		if (queue->used->index != queue->used_index && attack->queue == TRANSMIT)
			return "completion";
	} while (rdtsc() < end);
	return "silence";
}

/* A frame of an experimental type, to everyone. */
static int check_works(struct net *net)
{
	uint8_t *frame;

	if (net_open(net))
		return 1;
	frame = net_frame(net);
	if (!frame)
		return 1;
	memset(frame, 0, FRAME);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, net->mac, 6);
	frame[12] = 0x88;
	frame[13] = 0xb5;
	net_send(net, frame, FRAME);
	return net_close(net);
}

static int run_attack(const struct net_attack *attack)
{
	uint64_t mark = machine_mark();
	const char *outcome;
	struct net net;
	uint8_t *buffer;
	int failed;

	if (net_open(&net))
		return 1;
	buffer = machine_alloc(BIG, 4096);
	if (!buffer)
		return fail("memory for the attacks", "1 MiB", "less");
	strike(&net, attack, buffer);
	outcome = observe(&net, attack);
	failed = virtio_reset(&net.device) ? 1 : check_works(&net);
	machine_release(mark);
	if (failed)
		return fail(attack->name, "a working network after a reset", "none");
	if (attack->breaks && !text_equal(outcome, "NEEDS_RESET"))
		return fail(attack->name, "NEEDS_RESET", outcome);
	print("net-hostile %s: ok (%s)\n", attack->name, outcome);
	return 0;
}

int command_net_hostile(const char *value)
{
	unsigned failures = 0, count = sizeof(attacks) / sizeof(attacks[0]);

	(void)value;
	for (unsigned i = 0; i < count; i++)
		failures += (unsigned)run_attack(&attacks[i]);
	print("net-hostile: %u attacks, %u failures\n", count, failures);
	return failures > 0;
}
