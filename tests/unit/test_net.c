// SPDX-License-Identifier: Apache-2.0
//
// virtio-net from the driver's register accesses to packets on a real TAP interface and back: the
// device, the mmio transport, the rings, the I/O loops and the kernel's TAP together; only KVM is
// missing. The other end of the wire is a packet socket on the interface.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/spin.h"
#include "devices/net/backend.h"
#include "devices/net/net.h"
#include "mmio_driver.h"
#include "netns.h"
#include "virtio/mmio.h"

#define RINGS   MIB // 64 KiB for each queue
#define HEADERS (2 * MIB)
#define SENT    (4 * MIB)
#define BUFFERS (8 * MIB) // of SLOT bytes, one for each descriptor of a receive queue
#define SLOT    4096u
#define SIZE    256
#define QUEUES  5
#define HEADER  12u

#define UDP_HEADERS 42u // Ethernet, IPv4, UDP
#define GUEST_USO   (FEATURE(VIRTIO_NET_F_GUEST_USO4) | FEATURE(VIRTIO_NET_F_GUEST_USO6))

#define RX      0
#define TX      1
#define CONTROL 2

struct bench {
	struct vn_memory memory;
	struct vn_bus bus;
	struct vn_log log;
	struct vn_virtio_device *device;
	struct vn_virtio_mmio *mmio;
	struct ring rings[QUEUES];
	int wire; // where packets of NETNS_ETHERTYPE come out
	int inject; // where packets of any type are put in
	pthread_mutex_t lock;
	char warning[512]; // under the lock: the last one
};

static const uint8_t guest_mac[6] = {0x02, 'g', 'u', 'e', 's', 't'};

static struct bench bench = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void message(void *opaque, enum veneer_severity severity, const char *text)
{
	struct bench *to = opaque;
	(void)severity;
	pthread_mutex_lock(&to->lock);
	snprintf(to->warning, sizeof(to->warning), "%s", text);
	pthread_mutex_unlock(&to->lock);
}

static int make_memory(void **state)
{
	(void)state;
	struct vn_memory_options options = {.size = 16 * MIB, .node = -1};
	struct veneer_error error;
	bench.log = (struct vn_log){message, &bench};
	return vn_memory_create(&bench.memory, &options, 3 * GIB, &error);
}

static int destroy_memory(void **state)
{
	(void)state;
	vn_memory_destroy(&bench.memory);
	return 0;
}

static uint8_t *at(uint64_t gpa, uint64_t size)
{
	return ring_at(&bench.memory, gpa, size);
}

static void notify(unsigned queue)
{
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

// Negotiate, set `queues` queues up and start.
static void drive(uint64_t features, unsigned queues)
{
	assert_int_equal(mmio_negotiate(&bench.bus, features), MMIO_NEGOTIATED);
	for (unsigned i = 0; i < queues; i++) {
		mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_SEL, i);
		uint32_t size = mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_NUM_MAX);
		ring_init(&bench.rings[i], &bench.memory, RINGS + i * 0x10000,
			(uint16_t)(size < SIZE ? size : SIZE));
		mmio_queue(&bench.bus, i, &bench.rings[i]);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_READY), 1);
	}
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

static void open_wire(void)
{
	bench.wire = netns_packets("tap0", NETNS_ETHERTYPE);
	bench.inject = netns_packets("tap0", 0);
	assert_true(bench.wire >= 0 && bench.inject >= 0);
}

static void close_wire(void)
{
	close(bench.wire);
	close(bench.inject);
}

static char tap0[] = "tap0", none0[] = "none0";

static struct vn_loops loops = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int create(struct vn_virtio_device **device, const struct vn_net_options *options,
	struct veneer_error *error)
{
	struct vn_net_options values = *options;
	const struct vn_device_env env = {.name = "net0",
		.guest = "test",
		.memory = &bench.memory,
		.log = &bench.log,
		.loops = &loops};
	return vn_net_type.create(device, &env, &values, error);
}

static void attach_as(struct vn_net_options net)
{
	struct veneer_error error = {.code = 0};
	net.tap = (struct vn_file){.name = tap0, .fd = -1};
	net.vhost = VN_NET_VHOST_OFF;
	memcpy(net.mac, guest_mac, sizeof(guest_mac));
	int flags = IFF_TAP | (net.queues > 1 ? IFF_MULTI_QUEUE : 0);
	assert_true(netns_tap("tap0", flags, true));
	bench.bus = (struct vn_bus){.count = 0};
	bench.warning[0] = '\0';
	if (create(&bench.device, &net, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(vn_virtio_mmio_create(&bench.mmio, bench.device, NULL, &bench.bus,
				 MMIO_BASE, 16, &error),
		0);
	assert_true(netns_set_up("tap0", true));
	open_wire();
}

static void attach(unsigned pairs)
{
	attach_as((struct vn_net_options){.queues = pairs});
}

static int detach(void **state)
{
	(void)state;
	close_wire();
	vn_virtio_mmio_destroy(bench.mmio);
	vn_net_type.destroy(bench.device);
	return netns_tap("tap0", IFF_TAP, false) ||
			       netns_tap("tap0", IFF_TAP | IFF_MULTI_QUEUE, false)
		       ? 0
		       : -1;
}

static int attach_all(void **state)
{
	(void)state;
	attach(1);
	drive(mmio_features(&bench.bus), 3);
	return 0;
}

static int attach_plain(void **state)
{
	(void)state;
	attach(1);
	drive(FEATURE(VIRTIO_F_VERSION_1), 2);
	return 0;
}

static int attach_two(void **state)
{
	(void)state;
	attach(2);
	drive(mmio_features(&bench.bus), 5);
	return 0;
}

// The device's loop needs a moment; a device that needs ten seconds is stuck.
static uint32_t wait_used(unsigned queue, uint32_t *id)
{
	uint32_t len;
	for (unsigned i = 0; i < 100000; i++) {
		if (ring_take(&bench.rings[queue], id, &len))
			return len;
		usleep(100);
	}
	fail_msg("queue %u: nothing comes back", queue);
	return 0;
}

static void assert_nothing_used(unsigned queue)
{
	usleep(20000);
	assert_int_equal(ring_used_index(&bench.rings[queue]), bench.rings[queue].used_next);
}

// The reason comes after the status.
static void assert_broken(const char *reason)
{
	bool said = false;
	for (unsigned i = 0; i < 100000 && !said; i++) {
		pthread_mutex_lock(&bench.lock);
		said = strstr(bench.warning, reason);
		pthread_mutex_unlock(&bench.lock);
		usleep(100);
	}
	if (!said)
		fail_msg("\"%s\" does not say \"%s\"", bench.warning, reason);
	assert_true(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

// A frame of `size` bytes: for everybody, of our type, numbered, each other byte its place.
static void make_frame(uint8_t *frame, uint32_t size, unsigned number)
{
	memset(frame, 0xff, 6);
	memcpy(frame + 6, "\x02test!", 6);
	frame[12] = NETNS_ETHERTYPE >> 8;
	frame[13] = NETNS_ETHERTYPE & 0xff;
	frame[14] = (uint8_t)number;
	for (uint32_t i = 15; i < size; i++)
		frame[i] = (uint8_t)(i * 7 + i / 256);
}

// An IPv4 TCP segment of `size` bytes with its Ethernet header, that takes several to send, and the
// virtio-net header that says so.
static struct virtio_net_hdr_v1 make_segment(uint8_t *frame, uint32_t size)
{
	make_frame(frame, size, 0);
	static const uint8_t ip[] = {0x08, 0x00, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9,
		8, 1, 10, 9, 8, 2, 0x30, 0x39, 0x30, 0x3a, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 2, 0,
		0, 0, 0, 0};
	memcpy(frame + 12, ip, sizeof(ip));
	frame[16] = (uint8_t)((size - 14) >> 8);
	frame[17] = (uint8_t)(size - 14);
	return (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16};
}

// The same of UDP: a datagram for each 1448 bytes.
static struct virtio_net_hdr_v1 make_datagrams(uint8_t *frame, uint32_t size)
{
	struct virtio_net_hdr_v1 header = make_segment(frame, size);
	make_frame(frame + 34, size - 34, 0);
	frame[23] = IPPROTO_UDP;
	frame[38] = (uint8_t)((size - 34) >> 8);
	frame[39] = (uint8_t)(size - 34);
	header.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	header.hdr_len = UDP_HEADERS;
	header.csum_offset = 6;
	return header;
}

// Whether this kernel's TAP has UDP segmentation, which is Linux 6.2's: by asking it, not the
// device.
static bool has_uso(void)
{
	struct ifreq request = netns_named("probe");
	request.ifr_flags = IFF_TAP | IFF_NO_PI;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0);
	bool has = ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | 0x20 | 0x40) == 0;
	close(fd);
	return has;
}

static void put_on_wire(const struct virtio_net_hdr_v1 *header, const uint8_t *frame, uint32_t size)
{
	static uint8_t packet[70000];
	memset(packet, 0, 10);
	if (header)
		memcpy(packet, header, 10);
	memcpy(packet + 10, frame, size);
	assert_int_equal(send(bench.inject, packet, 10 + size, 0), 10 + size);
}

// What comes out on the wire: a header of 10 bytes and a frame.
static uint32_t take_from_wire(int fd, uint8_t *packet, size_t size)
{
	ssize_t got = recv(fd, packet, size, 0);
	if (got < 0)
		fail_msg("nothing on the wire: %s", strerror(errno));
	return (uint32_t)got;
}

// Offer a packet at `gpa` to be sent, cut after each of `cuts`, which ends with 0.
static void offer_packet(unsigned head, uint64_t gpa, uint32_t size, const uint32_t *cuts)
{
	struct ring *ring = &bench.rings[TX];
	unsigned desc = head;
	for (; *cuts; cuts++, desc++) {
		ring_desc(ring, desc, gpa, *cuts, RING_NEXT, desc + 1);
		gpa += *cuts;
		size -= *cuts;
	}
	ring_desc(ring, desc, gpa, size, 0, 0);
	ring_offer(ring, head);
}

static const uint32_t uncut[] = {0};

static void send_packet(uint64_t gpa, uint32_t size, const uint32_t *cuts)
{
	uint32_t id;
	offer_packet(0, gpa, size, cuts);
	notify(TX);
	assert_int_equal(wait_used(TX, &id), 0);
	assert_int_equal(id, 0);
}

// Offer receive buffers `first` to `first + count - 1`, of `size` bytes each.
static void offer_buffers(unsigned queue, unsigned first, unsigned count, uint32_t size)
{
	for (unsigned i = first; i < first + count; i++) {
		memset(at(BUFFERS + i * SLOT, SLOT), 0xee, SLOT);
		ring_desc(&bench.rings[queue], i, BUFFERS + i * SLOT, size, RING_WRITE, 0);
		ring_offer(&bench.rings[queue], i);
	}
	notify(queue);
}

// Take a packet that may fill several buffers. Its size with the header.
static uint32_t take_packet(unsigned queue, uint8_t *packet)
{
	uint32_t id = 0;
	uint32_t size = wait_used(queue, &id);
	memcpy(packet, at(BUFFERS + id * SLOT, size), size);
	uint16_t buffers = ((struct virtio_net_hdr_v1 *)packet)->num_buffers;
	for (unsigned i = 1; i < buffers; i++) {
		uint32_t len = wait_used(queue, &id);
		memcpy(packet + size, at(BUFFERS + id * SLOT, len), len);
		size += len;
	}
	return size;
}

static void describes_itself(void **state)
{
	(void)state;
	uint32_t words[3];
	for (unsigned i = 0; i < 3; i++)
		words[i] = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + 4 * i);
	struct virtio_net_config config;
	memcpy(&config, words, sizeof(words));
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_DEVICE_ID), 1);
	assert_memory_equal(config.mac, guest_mac, sizeof(guest_mac));
	assert_int_equal(config.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(config.max_virtqueue_pairs, 1);
	assert_int_equal(config.mtu, 1500);
	uint64_t features = mmio_features(&bench.bus);
	static const unsigned offered[] = {VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM,
		VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VIRTIO_NET_F_MTU, VIRTIO_NET_F_MAC,
		VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN,
		VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN,
		VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ,
		VIRTIO_F_VERSION_1, VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
	uint64_t expected = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(offered); i++)
		expected |= FEATURE(offered[i]);
	if (has_uso())
		expected |= GUEST_USO | FEATURE(VIRTIO_NET_F_HOST_USO);
	assert_int_equal(features, expected);
}

static void refuses_vhost_where_there_is_none(void **state)
{
	(void)state;
	struct veneer_error error;
	struct vn_virtio_device *device;
	struct vn_net_options net = {
		.tap = {.name = tap0, .fd = -1}, .queues = 1, .vhost = VN_NET_VHOST_ON};
	if (access("/dev/vhost-net", F_OK) == 0)
		skip();
	assert_true(netns_tap("tap0", IFF_TAP, true));
	assert_int_equal(create(&device, &net, &error), -ENOENT);
	assert_non_null(strstr(error.message, "modprobe vhost_net"));
	net.vhost = VN_NET_VHOST_AUTO;
	assert_int_equal(create(&device, &net, &error), 0);
	vn_net_type.destroy(device);
	assert_true(netns_tap("tap0", IFF_TAP, false));
}

static void refuses_options(void **state)
{
	(void)state;
	struct veneer_error error;
	struct vn_virtio_device *device;
	struct vn_net_options net = {
		.tap = {.name = tap0, .fd = -1}, .queues = 1, .mac = {0x01, 2, 3, 4, 5, 6}};
	struct ifreq request = netns_named("tap0");
	assert_true(netns_tap("tap0", IFF_TAP, true));
	assert_int_equal(create(&device, &net, &error), -EINVAL);
	assert_non_null(strstr(error.message, "begins with 01"));
	assert_true(netns_ioctl(SIOCGIFHWADDR, &request));
	memcpy(net.mac, request.ifr_hwaddr.sa_data, sizeof(net.mac));
	assert_int_equal(create(&device, &net, &error), -EINVAL);
	assert_non_null(strstr(error.message, "is the MAC address of the host's interface itself"));
	assert_true(netns_tap("tap0", IFF_TAP, false));
	net.tap = (struct vn_file){.name = none0, .fd = -1};
	assert_int_equal(create(&device, &net, &error), -ENODEV);
}

// However the driver cuts a packet up, it is the same on the wire.
static void sends(void **state)
{
	(void)state;
	static const uint32_t cuts[][4] = {{0}, {12, 0}, {5, 0}, {1, 30, 0}, {12, 14, 100, 0}};
	uint8_t packet[2048], frame[1000];
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		make_frame(frame, sizeof(frame), i);
		memset(at(SENT, HEADER), 0, HEADER);
		memcpy(at(SENT + HEADER, sizeof(frame)), frame, sizeof(frame));
		send_packet(SENT, HEADER + sizeof(frame), cuts[i]);
		assert_int_equal(
			take_from_wire(bench.wire, packet, sizeof(packet)), 10 + sizeof(frame));
		assert_memory_equal(packet + 10, frame, sizeof(frame));
	}
	assert_true(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING);
}

static struct veneer_queue_stats counted(unsigned queue)
{
	struct vn_arena arena = {NULL};
	const struct veneer_device_stats *stats;
	assert_int_equal(vn_virtio_stats(bench.device, &arena, &stats), 0);
	struct veneer_queue_stats copy = *stats->queues[queue];
	vn_arena_free(&arena);
	return copy;
}

#define FRAME 1000 // bytes

static void send_frames(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		memset(at(SENT + i * 2048, HEADER), 0, HEADER);
		make_frame(at(SENT + i * 2048 + HEADER, FRAME), FRAME, i);
		offer_packet(i, SENT + i * 2048, HEADER + FRAME, uncut);
	}
	notify(TX);
}

// Never faster than the limit, either way; how much slower is the machine's affair.
static void limits_are_kept(void **state)
{
	(void)state;
	enum { COUNT = 40 };
	static const struct {
		struct vn_net_options net;
		uint64_t ns; // the last of 40 packets cannot pass before
	} cases[] = {
		{{.queues = 1, .pps = {400, 1}}, 38 * 2500000ull},
		{{.queues = 1, .pps = {400, 20}}, 19 * 2500000ull},
		{{.queues = 1, .bps = {MIB, 4096}}, 33000000},
		{{.queues = 1, .pps = {400, 1}, .bps = {1ull << 40, 0}}, 38 * 2500000ull},
		{{.queues = 1, .pps = {1ull << 40, 0}}, 0},
	};
	uint8_t frame[FRAME], packet[SLOT];
	uint32_t id;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		attach_as(cases[i].net);
		drive(mmio_features(&bench.bus), 3);
		uint64_t start = vn_clock_ns();
		send_frames(COUNT);
		for (unsigned k = 0; k < COUNT; k++) {
			wait_used(TX, &id);
			assert_int_equal(id, k);
		}
		assert_true(vn_clock_ns() - start >= cases[i].ns);
		start = vn_clock_ns();
		offer_buffers(RX, 0, COUNT, 1526);
		for (unsigned k = 0; k < COUNT; k++) {
			make_frame(frame, FRAME, k);
			put_on_wire(NULL, frame, FRAME);
		}
		for (unsigned k = 0; k < COUNT; k++) {
			assert_int_equal(take_packet(RX, packet), HEADER + FRAME);
			assert_int_equal(packet[HEADER + 14], k);
		}
		assert_true(vn_clock_ns() - start >= cases[i].ns);
		assert_int_equal(detach(NULL), 0);
	}
}

static void pause_and_resume(void)
{
	vn_virtio_pause(bench.device);
	vn_virtio_resume(bench.device);
}

// Pauses find packets that wait for their turn, and a timer for them, either way.
static void a_pause_keeps_packets_that_wait(void **state)
{
	(void)state;
	enum { COUNT = 20 };
	uint8_t frame[FRAME], packet[SLOT];
	uint32_t id;
	attach_as((struct vn_net_options){.queues = 1, .pps = {400, 1}});
	drive(mmio_features(&bench.bus), 3);
	uint64_t start = vn_clock_ns();
	send_frames(COUNT);
	for (unsigned k = 0; k < COUNT; k++) {
		pause_and_resume();
		wait_used(TX, &id);
		assert_int_equal(id, k);
	}
	assert_true(vn_clock_ns() - start >= (COUNT - 2) * 2500000ull);
	start = vn_clock_ns();
	offer_buffers(RX, 0, COUNT, 1526);
	for (unsigned k = 0; k < COUNT; k++) {
		make_frame(frame, FRAME, k);
		put_on_wire(NULL, frame, FRAME);
	}
	for (unsigned k = 0; k < COUNT; k++) {
		pause_and_resume();
		assert_int_equal(take_packet(RX, packet), HEADER + FRAME);
		assert_int_equal(packet[HEADER + 14], k);
	}
	assert_true(vn_clock_ns() - start >= (COUNT - 2) * 2500000ull);
	assert_int_equal(detach(NULL), 0);
}

// A reset has nothing to wait for while packets do, and what was sent before counts after it.
static void a_reset_does_not_wait_for_a_limit(void **state)
{
	(void)state;
	uint32_t id;
	attach_as((struct vn_net_options){.queues = 1, .pps = {1, 1}});
	for (unsigned round = 0; round < 2; round++) {
		drive(mmio_features(&bench.bus), 3);
		send_frames(10);
		if (round == 0) {
			wait_used(TX, &id);
			wait_used(TX, &id);
		}
		assert_nothing_used(TX);
	}
	assert_int_equal(detach(NULL), 0);
}

// Several times as many packets as the queue has entries, in order, and none is lost.
static void sends_full_queues(void **state)
{
	(void)state;
	uint8_t packet[2048];
	uint32_t id;
	for (unsigned i = 0; i < SIZE; i++) {
		memset(at(SENT + i * 256, HEADER), 0, HEADER);
		make_frame(at(SENT + i * 256 + HEADER, 100), 100, i);
	}
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			offer_packet(i, SENT + i * 256, HEADER + 100, uncut);
		notify(TX);
		for (unsigned i = 0; i < SIZE; i++) {
			wait_used(TX, &id);
			assert_int_equal(id, i);
			assert_int_equal(take_from_wire(bench.wire, packet, sizeof(packet)), 110);
			assert_int_equal(packet[10 + 14], i);
		}
	}
	assert_int_equal(counted(TX).requests, 4 * SIZE);
	assert_int_equal(counted(TX).written_bytes, 4 * SIZE * 100);
	assert_in_range(counted(TX).batches, 4 * SIZE / 32, 4 * SIZE);
	assert_int_equal(counted(TX).errors + counted(TX).read_bytes, 0);
}

// A driver that notifies only when it is asked to: how many of its packets, one after the other, it
// did not notify of.
static unsigned unnotified(unsigned poll_us)
{
	attach_as((struct vn_net_options){.queues = 1, .poll_us = poll_us});
	drive(mmio_features(&bench.bus), 3);
	unsigned count = 0;
	uint32_t id;
	for (unsigned i = 0; i < 300; i++) {
		uint16_t index = bench.rings[TX].avail_next;
		offer_packet(0, SENT, HEADER + 100, uncut);
		if (ring_avail_event(&bench.rings[TX]) == index)
			notify(TX);
		else
			count++;
		wait_used(TX, &id);
	}
	bool asks = false;
	for (unsigned i = 0; i < 100000 && !asks; i++) {
		asks = ring_avail_event(&bench.rings[TX]) == bench.rings[TX].avail_next;
		usleep(100);
	}
	assert_true(asks); // now that nothing is sent any more
	assert_int_equal(detach(NULL), 0);
	return count;
}

// None is ever forgotten, however the end of looking and the next packet meet.
static void polled_queues_need_fewer_notifications(void **state)
{
	(void)state;
	memset(at(SENT, HEADER), 0, HEADER);
	make_frame(at(SENT + HEADER, 100), 100, 0);
	assert_true(unnotified(VN_SPIN_US_MAX) > 0);
	assert_true(unnotified(0) < 300);
	for (unsigned poll_us = 1; poll_us < 200; poll_us += 49)
		unnotified(poll_us);
}

// A large segment goes out whole, behind the header that the driver wrote.
static void sends_segments_whole(void **state)
{
	(void)state;
	static uint8_t frame[40054], packet[70000];
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	int wire = netns_packets("tap0", ETH_P_IP);
	memcpy(at(SENT, HEADER), &header, HEADER);
	memcpy(at(SENT + HEADER, sizeof(frame)), frame, sizeof(frame));
	send_packet(SENT, HEADER + sizeof(frame), uncut);
	assert_int_equal(take_from_wire(wire, packet, sizeof(packet)), 10 + sizeof(frame));
	assert_memory_equal(packet + 10, frame, sizeof(frame));
	const struct virtio_net_hdr_v1 *got = (const void *)packet;
	assert_int_equal(got->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(got->gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(got->gso_size, 1448);
	assert_int_equal(got->csum_start, 34);
	assert_int_equal(got->csum_offset, 16);
	close(wire);
}

// So do datagrams in one piece; a kernel that does not know of that drops them.
static void sends_datagrams_whole(void **state)
{
	(void)state;
	static uint8_t frame[UDP_HEADERS + 27 * 1448], packet[70000];
	struct virtio_net_hdr_v1 header = make_datagrams(frame, sizeof(frame));
	int wire = netns_packets("tap0", ETH_P_IP);
	memcpy(at(SENT, HEADER), &header, HEADER);
	memcpy(at(SENT + HEADER, sizeof(frame)), frame, sizeof(frame));
	send_packet(SENT, HEADER + sizeof(frame), uncut);
	if (has_uso()) {
		assert_int_equal(take_from_wire(wire, packet, sizeof(packet)), 10 + sizeof(frame));
		assert_memory_equal(packet, &header, 10);
		assert_memory_equal(packet + 10, frame, sizeof(frame));
	} else {
		assert_int_equal(recv(wire, packet, sizeof(packet), MSG_DONTWAIT), -1);
	}
	close(wire);
}

// Packets that are none come back to the driver as if sent, and what follows is sent.
static void drops_malformed_packets(void **state)
{
	(void)state;
	static const struct virtio_net_hdr_v1 headers[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xfff0, .csum_offset = 0xfff0},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 99, .csum_offset = 100},
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 0xffff, .gso_size = 1},
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 54, .gso_size = 0},
		{.gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 0xffff},
		{.gso_type = 0x7f, .gso_size = 8},
		{.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4, .gso_size = 0},
		{.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4, .hdr_len = 0xffff, .gso_size = 8},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
			.csum_start = 34,
			.csum_offset = 16,
			.gso_size = 8},
	};
	uint8_t packet[2048];
	for (unsigned i = 0; i < ARRAY_SIZE(headers); i++) {
		make_frame(at(SENT + HEADER, 100), 100, 1);
		memcpy(at(SENT, HEADER), &headers[i], HEADER);
		send_packet(SENT, HEADER + 100, uncut);
	}
	memset(at(SENT, HEADER), 0, HEADER);
	send_packet(SENT, HEADER, uncut); // no frame at all
	send_packet(SENT, HEADER + 13, uncut); // part of an Ethernet header
	send_packet(SENT, MIB, uncut); // longer than any packet
	make_frame(at(SENT + HEADER, 100), 100, 2);
	send_packet(SENT, HEADER + 100, uncut);
	do
		assert_int_equal(take_from_wire(bench.wire, packet, sizeof(packet)), 110);
	while (packet[10 + 14] == 1); // the kernel knew better than the test what is malformed
	assert_int_equal(packet[10 + 14], 2);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

static void receive_frames(unsigned queue, unsigned count)
{
	uint8_t frame[1514], packet[SLOT];
	for (unsigned i = 0; i < count; i++) {
		make_frame(frame, sizeof(frame), i);
		put_on_wire(NULL, frame, sizeof(frame));
	}
	for (unsigned i = 0; i < count; i++) {
		make_frame(frame, sizeof(frame), i);
		assert_int_equal(take_packet(queue, packet), HEADER + sizeof(frame));
		assert_memory_equal(packet + HEADER, frame, sizeof(frame));
		assert_int_equal(((struct virtio_net_hdr_v1 *)packet)->num_buffers, 1);
	}
}

static void receives(void **state)
{
	(void)state;
	offer_buffers(RX, 0, 200, 1526);
	receive_frames(RX, 100);
	receive_frames(RX, 100);
	assert_true(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_VRING);
	// Without buffers packets wait, and come when there are some.
	uint8_t frame[100], packet[SLOT];
	make_frame(frame, sizeof(frame), 9);
	put_on_wire(NULL, frame, sizeof(frame));
	assert_nothing_used(RX);
	offer_buffers(RX, 0, 1, 1526);
	assert_int_equal(take_packet(RX, packet), HEADER + sizeof(frame));
	assert_memory_equal(packet + HEADER, frame, sizeof(frame));
	assert_true(counted(RX).requests >= 201); // the host may have sent some of its own
	assert_true(counted(RX).read_bytes >= counted(RX).requests * 60);
}

// The same, by a driver that knows neither events nor offloads nor merging.
static void receives_plainly(void **state)
{
	(void)state;
	offer_buffers(RX, 0, 200, 1526);
	receive_frames(RX, 200);
}

// A header alone in its buffer, and the rest cut up.
static void receives_into_cut_buffers(void **state)
{
	(void)state;
	uint8_t frame[600];
	uint32_t id;
	struct ring *ring = &bench.rings[RX];
	ring_desc(ring, 3, BUFFERS, 7, RING_WRITE | RING_NEXT, 4);
	ring_desc(ring, 4, BUFFERS + 100, 5, RING_WRITE | RING_NEXT, 5);
	ring_desc(ring, 5, BUFFERS + 200, 500, RING_WRITE | RING_NEXT, 6);
	ring_desc(ring, 6, BUFFERS + 1000, 2000, RING_WRITE, 0);
	memset(at(BUFFERS, 4096), 0xee, 4096);
	ring_offer(ring, 3);
	notify(RX);
	make_frame(frame, sizeof(frame), 1);
	put_on_wire(NULL, frame, sizeof(frame));
	assert_int_equal(wait_used(RX, &id), HEADER + sizeof(frame));
	assert_int_equal(id, 3);
	assert_memory_equal(at(BUFFERS + 200, 500), frame, 500);
	assert_memory_equal(at(BUFFERS + 1000, 100), frame + 500, 100);
	assert_int_equal(*at(BUFFERS + 1100, 1), 0xee);
	static const uint8_t one[] = {1, 0}; // num_buffers, bytes 10 and 11 of the header
	assert_memory_equal(at(BUFFERS + 103, 2), one, 2);
}

// 64 KiB in one packet, over as many buffers of 1526 bytes as it takes.
static void receives_segments_whole(void **state)
{
	(void)state;
	static uint8_t frame[65482], packet[80000]; // the kernel keeps below 64 KiB
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	for (unsigned round = 0; round < 4; round++) {
		offer_buffers(RX, 0, 60, 1526);
		put_on_wire(&header, frame, sizeof(frame));
		assert_int_equal(take_packet(RX, packet), HEADER + sizeof(frame));
		assert_memory_equal(packet + HEADER, frame, sizeof(frame));
		const struct virtio_net_hdr_v1 *got = (const void *)packet;
		assert_int_equal(got->num_buffers, (HEADER + sizeof(frame) + 1525) / 1526);
		assert_int_equal(got->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(got->gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
		assert_int_equal(got->gso_size, 1448);
		assert_int_equal(got->csum_start, 34);
		// What is left over holds small packets. The slots come round in order.
		struct ring *ring = &bench.rings[RX];
		receive_frames(RX, (unsigned)(uint16_t)(ring->avail_next - ring->used_next));
	}
}

// A packet whose buffers come late: some, then some more, then enough. Nothing of it is lost.
static void receives_when_buffers_are_late(void **state)
{
	(void)state;
	static uint8_t frame[30054], packet[80000];
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	offer_buffers(RX, 0, 3, 1526);
	put_on_wire(&header, frame, sizeof(frame));
	assert_nothing_used(RX);
	offer_buffers(RX, 3, 4, 1526);
	assert_nothing_used(RX);
	offer_buffers(RX, 7, 20, 1526);
	assert_int_equal(take_packet(RX, packet), HEADER + sizeof(frame));
	assert_memory_equal(packet + HEADER, frame, sizeof(frame));
	receive_frames(RX, 7);
}

// Whoever takes no offloads is sent no large segment and hears nothing of checksums.
static void segments_for_the_plain(void **state)
{
	(void)state;
	static uint8_t frame[54 + 4 * 1448];
	uint8_t packet[SLOT];
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	offer_buffers(RX, 0, 50, 1526);
	put_on_wire(&header, frame, sizeof(frame));
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(take_packet(RX, packet), HEADER + 54 + 1448);
		assert_memory_equal(packet + HEADER + 54, frame + 54 + i * 1448, 1448);
		static const struct virtio_net_hdr_v1 plain = {.num_buffers = 1};
		assert_memory_equal(packet, &plain, HEADER);
	}
}

// A packet larger than its buffer is not delivered in part; smaller ones are.
static void drops_what_does_not_fit(void **state)
{
	(void)state;
	uint8_t frame[1000], packet[SLOT];
	offer_buffers(RX, 0, 10, HEADER + 200);
	make_frame(frame, 201, 1);
	put_on_wire(NULL, frame, 201);
	make_frame(frame, 1000, 2);
	put_on_wire(NULL, frame, 1000);
	make_frame(frame, 200, 3);
	put_on_wire(NULL, frame, 200);
	assert_int_equal(take_packet(RX, packet), HEADER + 200);
	assert_memory_equal(packet + HEADER, frame, 200);
	assert_nothing_used(RX);
}

// The same where buffers merge: a queue that is all taken and still too small.
static void drops_what_no_queue_holds(void **state)
{
	(void)state;
	static uint8_t frame[30054];
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	offer_buffers(RX, 0, SIZE, 100);
	put_on_wire(&header, frame, sizeof(frame));
	uint8_t packet[SLOT];
	make_frame(frame, 80, 3);
	put_on_wire(NULL, frame, 80);
	assert_int_equal(take_packet(RX, packet), HEADER + 80);
	assert_memory_equal(packet + HEADER, frame, 80);
}

// A command: class and cmd, then data. The answer.
static uint8_t command(unsigned queue, uint8_t class, uint8_t cmd, const void *data, uint32_t size)
{
	struct ring *ring = &bench.rings[queue];
	uint32_t id;
	*at(HEADERS, 1) = class;
	*at(HEADERS + 1, 1) = cmd;
	if (size > 0)
		memcpy(at(HEADERS + 16, size), data, size);
	*at(HEADERS + 64, 1) = 0xee;
	ring_desc(ring, 0, HEADERS, 2, RING_NEXT, size > 0 ? 1 : 2);
	ring_desc(ring, 1, HEADERS + 16, size, RING_NEXT, 2);
	ring_desc(ring, 2, HEADERS + 64, 1, RING_WRITE, 0);
	ring_offer(ring, 0);
	notify(queue);
	assert_int_equal(wait_used(queue, &id), 1);
	return *at(HEADERS + 64, 1);
}

static uint8_t set_offloads(unsigned queue, uint64_t offloads)
{
	return command(queue, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		&offloads, 8);
}

static void refuses_commands(void **state)
{
	(void)state;
	uint8_t data[32] = {1};
	for (unsigned class = 0; class < 8; class ++)
		for (unsigned cmd = 0; cmd < 3; cmd++)
			for (uint32_t size = 0; size < 24; size += 3)
				assert_int_equal(
					command(CONTROL, (uint8_t) class, (uint8_t)cmd, data, size),
					VIRTIO_NET_ERR);
	uint64_t offloads = FEATURE(VIRTIO_NET_F_MAC);
	assert_int_equal(set_offloads(CONTROL, offloads), VIRTIO_NET_ERR);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

// Offloads that the driver gives up at run time: segments are cut from then on.
static void switches_offloads(void **state)
{
	(void)state;
	static uint8_t frame[54 + 4 * 1448], packet[80000];
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	uint64_t offloads = 0;
	offer_buffers(RX, 0, 100, 1526);
	put_on_wire(&header, frame, sizeof(frame));
	assert_int_equal(take_packet(RX, packet), HEADER + sizeof(frame));
	assert_int_equal(set_offloads(CONTROL, offloads), VIRTIO_NET_OK);
	put_on_wire(&header, frame, sizeof(frame));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(take_packet(RX, packet), HEADER + 54 + 1448);
	offloads = FEATURE(VIRTIO_NET_F_GUEST_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_TSO4);
	assert_int_equal(set_offloads(CONTROL, offloads), VIRTIO_NET_OK);
	put_on_wire(&header, frame, sizeof(frame));
	assert_int_equal(take_packet(RX, packet), HEADER + sizeof(frame));
}

// Reset a queue alone and set it up again; `between` runs while the device does without.
static void reset_queue(unsigned queue, void (*between)(void))
{
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_SEL, queue);
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_READY, 0);
	if (between)
		between();
	uint16_t size = bench.rings[queue].size;
	ring_init(&bench.rings[queue], &bench.memory, RINGS + queue * 0x10000, size);
	mmio_queue(&bench.bus, queue, &bench.rings[queue]);
}

// A segment comes whole, or in as many packets as it takes.
static void assert_segment_in(unsigned pieces)
{
	static uint8_t frame[54 + 4 * 1448], packet[80000];
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	offer_buffers(RX, 0, 16, 1526);
	put_on_wire(&header, frame, sizeof(frame));
	for (unsigned i = 0; i < pieces; i++)
		assert_int_equal(take_packet(RX, packet), HEADER + 54 + 4 * 1448 / pieces);
	reset_queue(RX, NULL); // with the buffers that are left
}

static void switch_on(void)
{
	uint64_t all = bench.device->driver_features &
		       (FEATURE(VIRTIO_NET_F_GUEST_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_TSO4));
	assert_int_equal(set_offloads(CONTROL, all), VIRTIO_NET_OK);
}

// What a command said holds until the next or a reset of the device, whatever queue is reset
// meanwhile.
static void offloads_outlast_queues(void **state)
{
	(void)state;
	assert_segment_in(1);
	assert_int_equal(set_offloads(CONTROL, 0), VIRTIO_NET_OK);
	assert_segment_in(4);
	assert_segment_in(4);
	reset_queue(CONTROL, NULL);
	reset_queue(TX, NULL);
	assert_segment_in(4);
	reset_queue(RX, switch_on);
	assert_segment_in(1);
	assert_int_equal(set_offloads(CONTROL, 0), VIRTIO_NET_OK);
	drive(mmio_features(&bench.bus), 3);
	assert_segment_in(1);
}

static void take_datagrams(unsigned count)
{
	uint8_t packet[SLOT];
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(take_packet(RX, packet), HEADER + UDP_HEADERS + 1448);
}

// Datagrams in one piece, for a driver that takes such of both versions of IP; and one by one for
// any other, and where the host's kernel has no such thing.
static void receives_datagrams_whole(void **state)
{
	(void)state;
	static uint8_t frame[UDP_HEADERS + 40 * 1448], packet[80000];
	struct virtio_net_hdr_v1 header = make_datagrams(frame, sizeof(frame));
	if (!has_uso()) {
		print_message("# this kernel's TAP has no UDP segmentation\n");
		skip();
	}
	for (unsigned round = 0; round < 3; round++) {
		offer_buffers(RX, 0, 60, 1526);
		put_on_wire(&header, frame, sizeof(frame));
		if (round == 2) {
			take_datagrams(40);
			break;
		}
		assert_int_equal(take_packet(RX, packet), HEADER + sizeof(frame));
		assert_memory_equal(packet, &header, 10);
		assert_memory_equal(packet + HEADER, frame, sizeof(frame));
		struct ring *ring = &bench.rings[RX];
		receive_frames(RX, (unsigned)(uint16_t)(ring->avail_next - ring->used_next));
		uint64_t offloads = FEATURE(VIRTIO_NET_F_GUEST_CSUM) |
				    (round == 0 ? GUEST_USO : FEATURE(VIRTIO_NET_F_GUEST_USO4));
		assert_int_equal(set_offloads(CONTROL, offloads), VIRTIO_NET_OK);
	}
}

static uint8_t set_pairs(uint16_t pairs)
{
	return command(4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2);
}

// Of 64 flows each of two pairs receives some.
static void assert_flows_spread(void)
{
	uint8_t frame[100];
	unsigned first = 0, second = 0;
	uint32_t id, len;
	(void)make_segment(frame, sizeof(frame));
	for (unsigned flow = 0; flow < 64; flow++) {
		frame[37] = (uint8_t)flow; // a port: what the host tells flows apart by
		put_on_wire(NULL, frame, sizeof(frame));
	}
	for (unsigned i = 0; i < 100000 && first + second < 64; i++) {
		first += ring_take(&bench.rings[0], &id, &len);
		second += ring_take(&bench.rings[2], &id, &len);
		usleep(100);
	}
	assert_int_equal(first + second, 64);
	assert_true(first > 0);
	assert_true(second > 0);
}

// Flows spread over two pairs once the driver says so, and no longer when it takes that back.
static void uses_several_pairs(void **state)
{
	(void)state;
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + 8) & 0xffff, 2);
	offer_buffers(0, 0, 100, 1526);
	offer_buffers(2, 100, 100, 1526);
	assert_int_equal(set_pairs(0), VIRTIO_NET_ERR);
	assert_int_equal(set_pairs(3), VIRTIO_NET_ERR);
	receive_frames(0, 10);
	assert_nothing_used(2);

	assert_int_equal(set_pairs(2), VIRTIO_NET_OK);
	assert_flows_spread();

	// That holds for a receive queue that was reset meanwhile, and whatever becomes of the
	// queue that the command came by.
	reset_queue(4, NULL);
	reset_queue(2, NULL);
	offer_buffers(2, 100, 100, 1526);
	assert_flows_spread();

	assert_int_equal(set_pairs(1), VIRTIO_NET_OK);
	receive_frames(0, 10);
	assert_nothing_used(2);

	// A reset takes it back as well.
	assert_int_equal(set_pairs(2), VIRTIO_NET_OK);
	drive(mmio_features(&bench.bus), 5);
	offer_buffers(0, 0, 100, 1526);
	offer_buffers(2, 100, 100, 1526);
	receive_frames(0, 50);
	assert_nothing_used(2);
}

// The control queue is the third for a driver that did not negotiate several pairs.
static void finds_the_control_queue(void **state)
{
	(void)state;
	uint64_t offloads = 0;
	drive(mmio_features(&bench.bus) & ~FEATURE(VIRTIO_NET_F_MQ), 5);
	assert_int_equal(set_offloads(CONTROL, offloads), VIRTIO_NET_OK);
	uint16_t pairs = 1;
	assert_int_equal(
		command(CONTROL, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, 2),
		VIRTIO_NET_ERR);
	offer_buffers(0, 0, 20, 1526);
	receive_frames(0, 10);
}

// A driver that starts afresh receives, whatever waited before.
static void assert_recovers(void)
{
	uint8_t frame[100], packet[SLOT];
	drive(mmio_features(&bench.bus), 3);
	offer_buffers(RX, 0, SIZE, 1526);
	make_frame(frame, sizeof(frame), 77);
	put_on_wire(NULL, frame, sizeof(frame));
	do
		take_packet(RX, packet);
	while (memcmp(packet + HEADER, frame, sizeof(frame)) != 0);
}

static void breaks_on_bad_chains(void **state)
{
	receives(state);
	ring_desc(&bench.rings[RX], 0, BUFFERS, 1526, 0, 0);
	ring_offer(&bench.rings[RX], 0);
	uint8_t frame[100];
	make_frame(frame, sizeof(frame), 1);
	put_on_wire(NULL, frame, sizeof(frame));
	notify(RX);
	assert_broken("broke queue 0: chain 0 cannot take a packet");

	drive(mmio_features(&bench.bus), 3);
	offer_buffers(RX, 5, 1, 11);
	put_on_wire(NULL, frame, sizeof(frame));
	assert_broken("broke queue 0: chain 5 cannot take a packet");

	drive(mmio_features(&bench.bus), 3);
	offer_packet(7, SENT, 11, uncut);
	notify(TX);
	assert_broken("broke queue 1: chain 7 is no packet");

	drive(mmio_features(&bench.bus), 3);
	ring_desc(&bench.rings[TX], 2, SENT, 100, RING_NEXT, 3);
	ring_desc(&bench.rings[TX], 3, SENT, 100, RING_WRITE, 0);
	ring_offer(&bench.rings[TX], 2);
	notify(TX);
	assert_broken("broke queue 1: chain 2 is no packet");

	drive(mmio_features(&bench.bus), 3);
	ring_desc(&bench.rings[CONTROL], 0, HEADERS, 2, 0, 0);
	ring_offer(&bench.rings[CONTROL], 0);
	notify(CONTROL);
	assert_broken("broke queue 2: chain 0 is no command");

	drive(mmio_features(&bench.bus), 3);
	ring_desc(&bench.rings[CONTROL], 0, HEADERS, 1, RING_NEXT, 1);
	ring_desc(&bench.rings[CONTROL], 1, HEADERS + 64, 1, RING_WRITE, 0);
	ring_offer(&bench.rings[CONTROL], 0);
	notify(CONTROL);
	assert_broken("broke queue 2: chain 0 is no command");

	assert_recovers();
}

// Anything at all in the rings and around them: the device may break, and must come back.
static void survives_garbage(void **state)
{
	(void)state;
	srand(1);
	for (unsigned round = 0; round < 300; round++) {
		drive(mmio_features(&bench.bus), 3);
		for (unsigned q = 0; q < 3; q++) {
			struct ring *ring = &bench.rings[q];
			for (unsigned i = 0; i < ring->size; i++)
				ring_desc(ring, i,
					rand() % 8 ? SENT + (unsigned)rand() % 100000
						   : (uint64_t)rand() << 12,
					(unsigned)rand() % (rand() % 4 ? 2000 : 200000),
					(unsigned)rand() % (rand() % 16 ? 4 : 8),
					(unsigned)rand() % (rand() % 16 ? ring->size : 65536u));
			for (unsigned i = 0; i < 20; i++)
				ring_offer(
					ring, (unsigned)rand() % (rand() % 32 ? ring->size : 300u));
			notify(q);
		}
		uint8_t frame[100];
		make_frame(frame, sizeof(frame), round);
		put_on_wire(NULL, frame, sizeof(frame));
	}
	assert_recovers();
}

static atomic_bool flooding;

static void *flood(void *arg)
{
	(void)arg;
	uint8_t packet[1010] = {0};
	make_frame(packet + 10, 1000, 0);
	while (atomic_load(&flooding))
		send(bench.inject, packet, sizeof(packet), MSG_DONTWAIT);
	return NULL;
}

// Resets while packets come and go: each returns, and afterwards nothing is written.
static void resets_under_load(void **state)
{
	(void)state;
	pthread_t thread;
	atomic_store(&flooding, true);
	assert_int_equal(pthread_create(&thread, NULL, flood, NULL), 0);
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < SIZE; i++) {
			memset(at(SENT + i * 256, HEADER), 0, HEADER);
			make_frame(at(SENT + i * 256 + HEADER, 100), 100, i);
			offer_packet(i, SENT + i * 256, HEADER + 100, uncut);
		}
		offer_buffers(RX, 0, SIZE, 1526);
		notify(TX);
		usleep((unsigned)rand() % 2000);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		memset(at(BUFFERS, SIZE * SLOT), 0x11, SIZE * SLOT);
		uint16_t used = ring_used_index(&bench.rings[RX]);
		usleep(300);
		assert_int_equal(ring_used_index(&bench.rings[RX]), used);
		const uint8_t *data = at(BUFFERS, SIZE * SLOT);
		for (unsigned i = 0; i < SIZE * SLOT; i++)
			if (data[i] != 0x11)
				fail_msg("byte %u was written after the reset", i);
		drive(mmio_features(&bench.bus), 3);
	}
	atomic_store(&flooding, false);
	pthread_join(thread, NULL);
}

// With buffers that the device has taken already, with none, and with too few of them.
static void a_pause_loses_no_packet(void **state)
{
	(void)state;
	static uint8_t frame[30054], packet[80000];
	struct virtio_net_hdr_v1 header = make_segment(frame, sizeof(frame));
	for (unsigned round = 0; round < 10; round++) {
		offer_buffers(RX, 0, 20, 1526);
		pause_and_resume();
		vn_virtio_pause(bench.device);
		make_frame(frame, 400, round);
		put_on_wire(NULL, frame, 400);
		assert_nothing_used(RX);
		vn_virtio_resume(bench.device);
		assert_int_equal(take_packet(RX, packet), HEADER + 400);
		assert_memory_equal(packet + HEADER, frame, 400);
		receive_frames(RX, 19);

		header = make_segment(frame, sizeof(frame));
		put_on_wire(&header, frame, sizeof(frame));
		pause_and_resume();
		offer_buffers(RX, 0, 5, 1526);
		usleep(1000);
		pause_and_resume();
		offer_buffers(RX, 5, 15, 1526);
		assert_int_equal(take_packet(RX, packet), HEADER + sizeof(frame));
		assert_memory_equal(packet + HEADER, frame, sizeof(frame));
	}
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

static void a_pause_keeps_what_commands_said(void **state)
{
	(void)state;
	assert_int_equal(set_offloads(CONTROL, 0), VIRTIO_NET_OK);
	pause_and_resume();
	assert_segment_in(4);
	switch_on();
	pause_and_resume();
	assert_segment_in(1);
}

static void a_pause_keeps_pairs(void **state)
{
	(void)state;
	offer_buffers(0, 0, 100, 1526);
	offer_buffers(2, 100, 100, 1526);
	assert_int_equal(set_pairs(2), VIRTIO_NET_OK);
	pause_and_resume();
	assert_flows_spread();
}

// The next driver finds what the first one found.
static void a_reset_in_a_pause_forgets(void **state)
{
	(void)state;
	uint8_t frame[100];
	uint32_t id;
	offer_buffers(0, 0, 100, 1526);
	offer_buffers(2, 100, 100, 1526);
	assert_int_equal(set_offloads(4, 0), VIRTIO_NET_OK);
	assert_int_equal(set_pairs(2), VIRTIO_NET_OK);
	vn_virtio_pause(bench.device);
	vn_virtio_reset(bench.device);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
	vn_virtio_resume(bench.device);
	drive(mmio_features(&bench.bus), 5);
	assert_segment_in(1);
	offer_buffers(0, 0, 100, 1526);
	offer_buffers(2, 100, 100, 1526);
	(void)make_segment(frame, sizeof(frame));
	for (unsigned flow = 0; flow < 64; flow++) {
		frame[37] = (uint8_t)flow;
		put_on_wire(NULL, frame, sizeof(frame));
	}
	for (unsigned flow = 0; flow < 64; flow++)
		wait_used(0, &id);
	assert_nothing_used(2);
}

static void take_link_down(void)
{
	assert_true(netns_set_up("tap0", false));
}

// The driver is told of a link that goes down and comes back.
static void tells_of_the_link(void **state)
{
	(void)state;
	for (unsigned up = 0; up < 2; up++) {
		uint32_t before = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG_GENERATION);
		mmio_set(&bench.bus, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
		assert_true(netns_set_up("tap0", up));
		for (unsigned i = 0; i < 100000; i++) {
			if (mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) &
				VIRTIO_MMIO_INT_CONFIG)
				break;
			usleep(100);
		}
		assert_true(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) &
			    VIRTIO_MMIO_INT_CONFIG);
		assert_int_not_equal(mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG_GENERATION), before);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + 4) >> 16,
			up ? VIRTIO_NET_S_LINK_UP : 0);
	}
	// Also of one that has changed while the first receive queue was being reset.
	uint32_t before = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG_GENERATION);
	reset_queue(RX, take_link_down);
	assert_int_not_equal(mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG_GENERATION), before);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + 4) >> 16, 0);
	assert_true(netns_set_up("tap0", true));
	close_wire(); // its sockets remember that the interface was down
	open_wire();
	offer_buffers(RX, 0, 20, 1526);
	receive_frames(RX, 10);
}

#define WITH(test, setup) cmocka_unit_test_setup_teardown(test, setup, detach)

int main(void)
{
	const char *reason = netns_enter();
	if (reason)
		return netns_skip(reason);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_vhost_where_there_is_none),
		cmocka_unit_test(refuses_options),
		cmocka_unit_test(polled_queues_need_fewer_notifications),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(a_pause_keeps_packets_that_wait),
		cmocka_unit_test(a_reset_does_not_wait_for_a_limit),
		WITH(describes_itself, attach_all),
		WITH(sends, attach_all),
		WITH(sends_full_queues, attach_all),
		WITH(sends_segments_whole, attach_all),
		WITH(sends_datagrams_whole, attach_all),
		WITH(drops_malformed_packets, attach_all),
		WITH(receives, attach_all),
		WITH(receives_plainly, attach_plain),
		WITH(receives_into_cut_buffers, attach_all),
		WITH(receives_segments_whole, attach_all),
		WITH(receives_datagrams_whole, attach_all),
		WITH(receives_when_buffers_are_late, attach_all),
		WITH(segments_for_the_plain, attach_plain),
		WITH(drops_what_does_not_fit, attach_plain),
		WITH(drops_what_no_queue_holds, attach_all),
		WITH(refuses_commands, attach_all),
		WITH(switches_offloads, attach_all),
		WITH(offloads_outlast_queues, attach_all),
		WITH(uses_several_pairs, attach_two),
		WITH(finds_the_control_queue, attach_two),
		WITH(breaks_on_bad_chains, attach_all),
		WITH(survives_garbage, attach_all),
		WITH(resets_under_load, attach_all),
		WITH(a_pause_loses_no_packet, attach_all),
		WITH(a_pause_keeps_what_commands_said, attach_all),
		WITH(a_pause_keeps_pairs, attach_two),
		WITH(a_reset_in_a_pause_forgets, attach_two),
		WITH(tells_of_the_link, attach_all),
	};
	return cmocka_run_group_tests_name("net", tests, make_memory, destroy_memory);
}
