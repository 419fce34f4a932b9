// SPDX-License-Identifier: Apache-2.0
/*
 * The network under load: frames of one size sent as fast as they are taken, received as fast as
 * they come, or sent back one by one. bench/net.c is the other end.
 *
 * All frames sent are alike and buffer i belongs to descriptor i, so that nothing is written while
 * the clock runs. Frames above NET_FRAME are TCP segments for the host to cut up, or from it (TSO).
 * A receiver acknowledges every so many frames, which keeps the sender from outrunning it.
 */
#include "net.h"
#include "net_commands.h"
#include "print.h"
#include "report.h"
#include "ring0.h"

#define FEATURE_CSUM       (1ull << 0)
#define FEATURE_GUEST_CSUM (1ull << 1)
#define FEATURE_GUEST_TSO4 (1ull << 7)
#define FEATURE_HOST_TSO4  (1ull << 11)

#define OFFLOADS (FEATURE_CSUM | FEATURE_GUEST_CSUM | FEATURE_GUEST_TSO4 | FEATURE_HOST_TSO4)

/* struct virtio_net_hdr, section 5.1.6. */
#define HEADER_NEEDS_CSUM 1
#define HEADER_GSO_TCPV4  1

#define TYPE_IP     0x0800
#define TYPE_LOAD   0x88b5 /* IEEE 802's for experiments */
#define HEADERS     54 /* Ethernet, IPv4, TCP */
#define SEGMENT     1460
#define BYTES_MIN   60
#define BYTES_MAX   (14 + 65535)
#define FEW_BUFFERS 64 /* of large frames */
#define ACK_SMALL   64 /* frames, for each acknowledgement */
#define ACK_LARGE   8
#define IDLE_NS     10000000000ull

enum direction { SEND, RECEIVE, REFLECT };

struct traffic {
	struct virtio_device device;
	struct virtio_queue receive, transmit;
	uint16_t buffers; /* in each queue */
	uint32_t stride;
	uint8_t *received, *sent;
	int irq; /* of the receive queue */
	bool interrupts; /* wait for frames by them */
	enum direction direction;
	uint64_t bytes, count; /* of each frame; of frames */
	uint16_t in_flight; /* frames with the transmit queue */
	uint16_t next; /* descriptor of the next one */
	uint64_t notifications, start, done;
};

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

/* The host is told to compute both checksums' rest; nobody there has the address. */
static void make_segment(uint8_t *header, uint8_t *frame, unsigned bytes)
{
	header[0] = HEADER_NEEDS_CSUM;
	header[1] = HEADER_GSO_TCPV4;
	header[2] = HEADERS; /* little-endian, as the next three */
	header[4] = (uint8_t)(SEGMENT & 255);
	header[5] = SEGMENT >> 8;
	header[6] = 34; /* where the checksum's data begin, */
	header[8] = 16; /* and where it goes in them */
	put16(frame + 12, TYPE_IP);
	frame[14] = 0x45;
	put16(frame + 16, bytes - 14);
	frame[22] = 64;
	frame[23] = 6;
	frame[26] = frame[30] = 10;
	frame[33] = 1;
	frame[46] = 0x50;
	frame[47] = 0x10;
}

static void make_frame(uint8_t *buffer, unsigned bytes)
{
	uint8_t *frame = buffer + NET_HEADER;

	memset(buffer, 0, NET_HEADER + bytes);
	memset(frame, 0x02, 12); /* addresses, local and nobody's */
	put16(frame + 12, TYPE_LOAD);
	if (bytes > NET_FRAME)
		make_segment(buffer, frame, bytes);
}

/* What is sent: the load itself, or a short acknowledgement or answer. */
static unsigned sent_bytes(const struct traffic *t)
{
	return t->direction == RECEIVE ? BYTES_MIN : (unsigned)t->bytes;
}

static int start_queues(struct traffic *t)
{
	unsigned bytes = sent_bytes(t);

	t->transmit.index = 1;
	if (!virtio_queue_alloc(&t->receive) || !virtio_queue_alloc(&t->transmit))
		return fail("memory for the network's queues", "some", "none");
	virtio_queue_clear(&t->receive);
	virtio_queue_clear(&t->transmit);
	if (virtio_queue_start(&t->device, &t->receive) ||
		virtio_queue_start(&t->device, &t->transmit) || t->receive.size < t->buffers ||
		t->transmit.size < t->buffers)
		return fail("network queues 0 and 1", "free queues for the buffers", "none");
	for (uint16_t i = 0; i < t->buffers; i++) {
		uint8_t *in = t->received + (size_t)i * t->stride;
		uint8_t *out = t->sent + (size_t)i * t->stride;

		make_frame(out, bytes);
		t->receive.desc[i] =
			(struct virtio_desc){(uint64_t)(uintptr_t)in, t->stride, DESC_WRITE, 0};
		t->transmit.desc[i] =
			(struct virtio_desc){(uint64_t)(uintptr_t)out, NET_HEADER + bytes, 0, 0};
		virtio_queue_push(&t->receive, i);
	}
	virtio_queue_arm(&t->transmit, false);
	virtio_queue_arm(&t->receive, false);
	return 0;
}

static int open_traffic(struct traffic *t)
{
	uint64_t wanted = FEATURE_VERSION_1 | FEATURE_EVENT_IDX, needed = FEATURE_VERSION_1;
	bool large = t->bytes > NET_FRAME;

	if (!virtio_find(&t->device, DEVICE_ID_NET, 0))
		return fail("network device", "one", "none");
	t->buffers = large ? FEW_BUFFERS : QUEUE_MAX;
	t->stride = ((uint32_t)t->bytes + NET_HEADER + NET_STRIDE - 1) & ~(NET_STRIDE - 1u);
	t->received = machine_alloc((size_t)t->buffers * t->stride, 4096);
	t->sent = machine_alloc((size_t)t->buffers * t->stride, 4096);
	if (!t->received || !t->sent)
		return fail("memory for frames", "some", "none");
	if (large) {
		wanted |= OFFLOADS;
		needed |= OFFLOADS;
	}
	if (virtio_negotiate(&t->device, wanted) || (t->device.features & needed) != needed)
		return fail("network's features", large ? "TSO both ways" : "VERSION_1", "less");
	if (start_queues(t))
		return 1;
	t->irq = virtio_irq(&t->device, 0);
	if (t->irq < 0)
		return fail("interrupt vector for the network", "one", "none");
	virtio_write(&t->device, VIRTIO_STATUS,
		STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	virtio_queue_kick(&t->device, &t->receive);
	return 0;
}

static void kick(struct traffic *t, struct virtio_queue *queue)
{
	t->notifications += virtio_queue_kick(&t->device, queue);
}

static void reclaim(struct traffic *t)
{
	struct virtio_used_element element;

	while (virtio_queue_pop(&t->transmit, &element))
		t->in_flight--;
}

/* Waits until at most `in_flight` frames are with the device; 1 if that takes too long. */
static int await_sent(struct traffic *t, uint16_t in_flight)
{
	uint64_t end = rdtsc() + ns_to_ticks(IDLE_NS);

	for (reclaim(t); t->in_flight > in_flight; reclaim(t)) {
		if (rdtsc() > end)
			return fail("transmission", "completion", "none in 10 seconds");
		cpu_relax();
	}
	return 0;
}

static void push_frame(struct traffic *t)
{
	virtio_queue_push(&t->transmit, t->next);
	t->next = (uint16_t)((t->next + 1) % t->buffers);
	t->in_flight++;
}

/* One frame at once: an acknowledgement or an answer. */
static int send_one(struct traffic *t)
{
	if (await_sent(t, t->buffers - 1))
		return 1;
	push_frame(t);
	kick(t, &t->transmit);
	return 0;
}

/* Refills the queue whenever a quarter of it is free. */
static int send_all(struct traffic *t)
{
	uint64_t pushed = 0;

	t->start = rdtsc();
	while (pushed < t->count) {
		for (; t->in_flight < t->buffers && pushed < t->count; pushed++)
			push_frame(t);
		kick(t, &t->transmit);
		if (await_sent(t, (uint16_t)(t->buffers - t->buffers / 4)))
			return 1;
	}
	t->done = pushed;
	return await_sent(t, 0);
}

/* Sleeps until an interrupt if that is how to wait; what is there already ends it at once. */
static void await_frame(struct traffic *t)
{
	uint32_t seen;

	if (!t->interrupts) {
		cpu_relax();
		return;
	}
	seen = irq_counts[t->irq];
	if (virtio_queue_arm(&t->receive, true))
		return;
	ring0_wait(&irq_counts[t->irq], seen);
	virtio_irq_acknowledge(&t->device);
}

/*
 * Whether the frame is of the load, and not of the host's own accord; the first starts the clock.
 */
static bool is_load(struct traffic *t, const struct virtio_used_element *element)
{
	if (element->id >= t->buffers || element->bytes != NET_HEADER + t->bytes)
		return false;
	if (!t->start)
		t->start = rdtsc();
	return true;
}

static int take_frame(struct traffic *t, const struct virtio_used_element *element)
{
	unsigned each = t->bytes > NET_FRAME ? ACK_LARGE : ACK_SMALL;
	bool wanted = is_load(t, element);

	virtio_queue_push(&t->receive, (uint16_t)(element->id % t->buffers));
	if (!wanted)
		return 0;
	t->done++;
	if (t->direction == RECEIVE && t->done % each)
		return 0;
	kick(t, &t->receive);
	return send_one(t);
}

static int receive_all(struct traffic *t)
{
	uint64_t end = rdtsc() + ns_to_ticks(IDLE_NS);
	struct virtio_used_element element;

	while (t->done < t->count) {
		if (virtio_queue_pop(&t->receive, &element)) {
			if (take_frame(t, &element))
				return 1;
			end = rdtsc() + ns_to_ticks(IDLE_NS);
			continue;
		}
		if (rdtsc() > end)
			return fail_number("frames received", t->count, t->done);
		kick(t, &t->receive);
		await_frame(t);
	}
	return 0;
}

static void row(const struct traffic *t, const char *figure, uint64_t thousandths, unsigned digits,
	const char *unit, enum report_better better)
{
	static const char *const names[] = {"send", "receive", "reflect"};
	char key[48];

	format_text(key, sizeof(key), "net.%s.%lu.%s.%s", names[t->direction], t->bytes,
		t->interrupts ? "irq" : "poll", figure);
	report_row(key, thousandths, digits, unit, better);
}

static void report(const struct traffic *t, uint64_t ns, uint64_t interrupts)
{
	row(t, "pps", t->done * 1000000000 / ns * 1000, 0, "packets/s", HIGHER_IS_BETTER);
	row(t, "rate", (t->done * t->bytes * 1000000 / (ns / 1000) * 1000) >> 20, 1, "MiB/s",
		HIGHER_IS_BETTER);
	row(t, "notified", t->notifications * 1000 / t->done, 3, "/packet", LOWER_IS_BETTER);
	row(t, "interrupted", interrupts * 1000 / t->done, 3, "/packet", LOWER_IS_BETTER);
}

static int run(struct traffic *t)
{
	uint32_t interrupts = irq_counts[t->irq];
	int failures;

	t->notifications = 0;
	print("net-load: ready\n");
	failures = t->direction == SEND ? send_all(t) : receive_all(t);
	if (!failures)
		report(t, ticks_to_ns(rdtsc() - t->start), irq_counts[t->irq] - interrupts);
	return failures;
}

/* The rest behind `word` and a comma, or NULL. */
static const char *parse_word(const char *text, const char *word)
{
	while (*word) {
		if (*text++ != *word++)
			return NULL;
	}
	return *text == ',' ? text + 1 : NULL;
}

/* send|receive|reflect,BYTES,COUNT[,irq] */
static bool parse_traffic(const char *text, struct traffic *t)
{
	static const char *const words[] = {"send", "receive", "reflect"};
	const char *rest = NULL;

	for (unsigned i = 0; i < 3 && !rest; i++) {
		rest = parse_word(text, words[i]);
		t->direction = (enum direction)i;
	}
	if (!rest || !parse_number(&rest, &t->bytes) || *rest++ != ',' ||
		!parse_number(&rest, &t->count))
		return false;
	t->interrupts = text_equal(rest, ",irq");
	return (!*rest || t->interrupts) && t->count && t->bytes >= BYTES_MIN &&
	       t->bytes <= BYTES_MAX;
}

int command_net_load(const char *value)
{
	uint64_t mark = machine_mark();
	struct traffic t = {0};
	int failures;

	if (!parse_traffic(value, &t))
		return fail("net-load=", "send|receive|reflect,BYTES,COUNT[,irq]", value);
	failures = open_traffic(&t) || run(&t);
	if (t.device.id && virtio_reset(&t.device))
		failures = fail("network's status after a reset", "0", "not 0");
	machine_release(mark);
	return failures;
}
