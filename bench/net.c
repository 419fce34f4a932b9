// SPDX-License-Identifier: Apache-2.0
//
// The other end of guest/net_load.c, on the host's side of a TAP; and, for the native figures, what
// the guest and its monitor are together: a program that reads and writes the TAP itself. Frames
// are of an EtherType that no protocol takes, or TCP segments for nobody's address, so that the
// network stack drops what comes; a receiver acknowledges every so many frames, which bounds those
// in flight.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TYPE_LOAD  0x88b5
#define FRAME_MAX  1514u
#define HEADERS    54u
#define SEGMENT    1460u
#define BYTES_MIN  60u
#define BYTES_MAX  (14u + 65535u)
#define ACK_SMALL  64u
#define ACK_LARGE  8u
#define BATCH      64u
#define HEADER_TAP 12u // as virtio 1 has it
#define IDLE_MS    10000
#define SAMPLES    65536u

struct end {
	int fd;
	int interface;
	unsigned header; // bytes before the frame
	unsigned bytes; // of the frame
	uint64_t count;
	uint8_t *out; // header and frame
	uint8_t in[HEADER_TAP + BYTES_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int fail(const char *what)
{
	fprintf(stderr, "bench-net: %s: %s\n", what, strerror(errno));
	return 1;
}

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void make_frame(uint8_t *buffer, unsigned header, unsigned bytes)
{
	uint8_t *frame = buffer + header;

	memset(buffer, 0, header + bytes);
	memset(frame, 0x02, 12);
	put16(frame + 12, TYPE_LOAD);
	if (bytes <= FRAME_MAX)
		return;
	struct virtio_net_hdr offload = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = HEADERS,
		.gso_size = SEGMENT,
		.csum_start = 34,
		.csum_offset = 16};
	memcpy(buffer, &offload, sizeof(offload));
	put16(frame + 12, ETHERTYPE_IP);
	frame[14] = 0x45;
	put16(frame + 16, bytes - 14);
	frame[22] = 64;
	frame[23] = IPPROTO_TCP;
	frame[26] = frame[30] = 10;
	frame[33] = 1;
	frame[46] = 0x50;
	frame[47] = 0x10;
}

// A packet socket that sees only frames of the load that come from the guest.
static int open_socket(struct end *end, const char *name)
{
	int on = 1, room = 64 << 20;

	end->interface = (int)if_nametoindex(name);
	struct sockaddr_ll where = {.sll_family = AF_PACKET,
		.sll_protocol = htons(TYPE_LOAD),
		.sll_ifindex = end->interface};
	end->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(TYPE_LOAD));
	if (end->fd < 0 || bind(end->fd, (struct sockaddr *)&where, sizeof(where)) < 0)
		return fail(name);
	setsockopt(end->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	setsockopt(end->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
	end->header = 0;
	if (end->bytes > FRAME_MAX) {
		end->header = sizeof(struct virtio_net_hdr);
		if (setsockopt(end->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0)
			return fail("PACKET_VNET_HDR");
	}
	return 0;
}

static int open_tap(struct end *end, const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int header = (int)HEADER_TAP;

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	end->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (end->fd < 0 || ioctl(end->fd, TUNSETIFF, &request) < 0 ||
		ioctl(end->fd, TUNSETVNETHDRSZ, &header) < 0)
		return fail(name);
	end->header = HEADER_TAP;
	if (end->bytes > FRAME_MAX && ioctl(end->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0)
		return fail("TUNSETOFFLOAD");
	return 0;
}

static int await_input(const struct end *end)
{
	struct pollfd input = {.fd = end->fd, .events = POLLIN};

	if (poll(&input, 1, IDLE_MS) > 0)
		return 0;
	errno = ETIMEDOUT;
	return fail("waiting for a frame");
}

// Takes acknowledgements; waits for one first if told to.
static int take_acks(struct end *end, uint64_t *acked, bool wait)
{
	unsigned each = end->bytes > FRAME_MAX ? ACK_LARGE : ACK_SMALL;

	if (wait && await_input(end))
		return 1;
	while (recv(end->fd, end->in, sizeof(end->in), MSG_DONTWAIT) > 0)
		*acked += each;
	return 0;
}

// Sends `count` frames, at most four acknowledgements' worth of them not yet acknowledged.
static int source(struct end *end)
{
	unsigned window = 4 * (end->bytes > FRAME_MAX ? ACK_LARGE : ACK_SMALL);
	struct iovec part = {end->out, end->header + end->bytes};
	// The stack cuts up, where it must, what it is told is IP, whatever the socket receives.
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
		.sll_protocol = htons(end->bytes > FRAME_MAX ? ETHERTYPE_IP : TYPE_LOAD),
		.sll_ifindex = end->interface};
	struct msghdr message = {&to, sizeof(to), &part, 1, NULL, 0, 0};
	struct mmsghdr batch[BATCH];
	uint64_t sent = 0, acked = 0;

	for (unsigned i = 0; i < BATCH; i++)
		batch[i] = (struct mmsghdr){.msg_hdr = message};
	while (sent < end->count) {
		uint64_t room = window - (sent - acked);
		if (room > end->count - sent)
			room = end->count - sent;
		int some = room ? sendmmsg(end->fd, batch, room < BATCH ? (unsigned)room : BATCH, 0)
				: 0;
		if (some < 0 && errno != ENOBUFS && errno != EAGAIN)
			return fail("sendmmsg");
		sent += some > 0 ? (uint64_t)some : 0;
		if (take_acks(end, &acked, sent - acked >= window))
			return 1;
	}
	return 0;
}

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

// One frame out, one back, `count` times.
static int round_trips(struct end *end)
{
	static uint32_t samples[SAMPLES];
	unsigned kept = end->count < SAMPLES ? (unsigned)end->count : SAMPLES;

	for (uint64_t i = 0; i < end->count; i++) {
		uint64_t start = now_ns();
		if (send(end->fd, end->out, end->bytes, 0) < 0)
			return fail("send");
		if (await_input(end) || recv(end->fd, end->in, sizeof(end->in), 0) < 0)
			return fail("recv");
		samples[i % SAMPLES] = (uint32_t)(now_ns() - start);
	}
	qsort(samples, kept, sizeof(samples[0]), compare_samples);
	printf("net.rtt.%u.p50 %.1f us\n", end->bytes, samples[kept / 2] / 1e3);
	printf("net.rtt.%u.p99 %.1f us\n", end->bytes, samples[kept - 1 - kept / 100] / 1e3);
	return 0;
}

static void report(const struct end *end, const char *direction, uint64_t ns)
{
	double pps = (double)end->count * 1e9 / (double)ns;

	printf("net.%s.%u.pps %.0f packets/s\n", direction, end->bytes, pps);
	printf("net.%s.%u.rate %.1f MiB/s\n", direction, end->bytes, pps * end->bytes / 1048576);
}

static int tap_send(struct end *end)
{
	uint64_t start = now_ns();

	for (uint64_t i = 0; i < end->count; i++) {
		if (write(end->fd, end->out, end->header + end->bytes) < 0)
			return fail("write to the TAP");
	}
	report(end, "send", now_ns() - start);
	return 0;
}

// As the guest does it: acknowledge every so many, or send every frame back.
static int tap_receive(struct end *end, bool reflect)
{
	unsigned each = end->bytes > FRAME_MAX ? ACK_LARGE : ACK_SMALL;
	uint8_t answer[HEADER_TAP + BYTES_MIN];
	uint64_t start = 0, done = 0;

	make_frame(answer, HEADER_TAP, BYTES_MIN);
	puts("net-load: ready");
	fflush(stdout);
	while (done < end->count) {
		ssize_t got = read(end->fd, end->in, sizeof(end->in));
		if (got < 0)
			return fail("read from the TAP");
		if (got != (ssize_t)(end->header + end->bytes))
			continue;
		if (!start)
			start = now_ns();
		if (++done % each && !reflect)
			continue;
		if (write(end->fd, answer, sizeof(answer)) < 0)
			return fail("write to the TAP");
	}
	if (!reflect)
		report(end, "receive", now_ns() - start);
	return 0;
}

static int run(struct end *end, const char *what)
{
	if (strcmp(what, "source") == 0)
		return source(end);
	if (strcmp(what, "rtt") == 0)
		return round_trips(end);
	if (strcmp(what, "tap-send") == 0)
		return tap_send(end);
	return tap_receive(end, strcmp(what, "tap-reflect") == 0);
}

int main(int argc, char **argv)
{
	static const char *const words[] = {
		"source", "rtt", "tap-send", "tap-receive", "tap-reflect"};
	static struct end end;
	bool known = false;

	for (unsigned i = 0; argc == 5 && i < 5; i++)
		known |= strcmp(argv[1], words[i]) == 0;
	if (known) {
		end.bytes = (unsigned)strtoul(argv[3], NULL, 10);
		end.count = strtoull(argv[4], NULL, 10);
	}
	if (!end.count || end.bytes < BYTES_MIN || end.bytes > BYTES_MAX) {
		fprintf(stderr, "usage: bench-net source|rtt|tap-send|tap-receive|tap-reflect "
				"INTERFACE BYTES COUNT\n");
		return 2;
	}
	if (strncmp(argv[1], "tap-", 4) == 0 ? open_tap(&end, argv[2]) : open_socket(&end, argv[2]))
		return 1;
	end.out = malloc(end.header + end.bytes);
	if (!end.out)
		return fail("memory");
	make_frame(end.out, end.header, end.bytes);
	int result = run(&end, argv[1]);
	free(end.out);
	close(end.fd);
	return result;
}
