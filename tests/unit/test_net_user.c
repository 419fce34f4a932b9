// SPDX-License-Identifier: Apache-2.0
//
// User networking without a guest: the test makes the frames that one would send, by hand, and looks
// at what comes back and at what reaches real sockets. It needs nothing but a loopback interface, so
// it has no other where it can have a network namespace of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <poll.h>

#include "devices/net_user.h"
#include "netns.h"

#define HEADER 12u
#define GUEST  0x0a00020fu
#define HOST   0x0a000202u

static const uint8_t guest_mac[6] = {0x02, 1, 2, 3, 4, 5};

struct bench {
	struct vn_net_port port;
	struct vn_net_backend *backend;
	struct vn_ioloop *loop;
	struct vn_ioloop_hook hook;
	struct vn_log log;
	bool readable;
	int listener; // on the host's loopback
	uint16_t listener_port;
};

static struct bench bench;

// A frame on its way, in either direction.
struct frame {
	uint8_t data[2048]; // the virtio-net header first
	int size;
};

static void ready(struct vn_net_port *port)
{
	(void)port;
	bench.readable = true;
}

static void take_turn(struct vn_ioloop_hook *hook)
{
	(void)hook;
	bench.backend->ops->turn(bench.backend, 0);
}

static void open_on_loop(void *arg)
{
	(void)arg;
	vn_ioloop_add_hook(bench.loop, &bench.hook);
	bench.backend->ops->open(bench.backend, 0, bench.loop, &bench.port);
	take_turn(&bench.hook);
}

static void close_on_loop(void *arg)
{
	(void)arg;
	vn_ioloop_remove_hook(bench.loop, &bench.hook);
	bench.backend->ops->close(bench.backend, 0);
}

static void packet_sent(struct vn_net_packet *packet)
{
	packet->count = 0;
}

static void send_on_loop(void *arg)
{
	struct frame *frame = arg;
	struct iovec iov[2] = {{frame->data, 20}, {frame->data + 20, (size_t)frame->size - 20}};
	struct vn_net_packet packet = {iov, 2, (size_t)frame->size, packet_sent, {NULL}};
	bench.backend->ops->send(bench.backend, 0, bench.loop, &packet);
	assert_int_equal(packet.count, 0);
	take_turn(&bench.hook);
}

static void receive_on_loop(void *arg)
{
	struct frame *frame = arg;
	struct iovec iov[2] = {{frame->data, 17}, {frame->data + 17, sizeof(frame->data) - 17}};
	frame->size = -EAGAIN;
	if (bench.readable)
		frame->size = bench.backend->ops->receive(bench.backend, 0, iov, 2);
}

static void transmit(struct frame *frame)
{
	vn_ioloop_call(bench.loop, send_on_loop, frame);
}

static bool receive_now(struct frame *frame)
{
	vn_ioloop_call(bench.loop, receive_on_loop, frame);
	return frame->size > 0;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static uint32_t sum(const uint8_t *data, size_t size, uint32_t start)
{
	for (size_t i = 0; i + 1 < size; i += 2)
		start += get16(data + i);
	return size % 2 ? start + (uint32_t)(data[size - 1] << 8) : start;
}

static uint16_t fold(uint32_t value)
{
	while (value >> 16)
		value = (value & 0xffff) + (value >> 16);
	return (uint16_t)~value;
}

static void begin(struct frame *frame, unsigned type)
{
	memset(frame, 0, sizeof(*frame));
	memset(frame->data + HEADER, 0xff, 6);
	memcpy(frame->data + HEADER + 6, guest_mac, 6);
	put16(frame->data + HEADER + 12, type);
}

static uint8_t *ip_of(struct frame *frame)
{
	return frame->data + HEADER + 14;
}

// Complete an IPv4 packet whose payload of `size` bytes is in place.
static void finish_ip(struct frame *frame, uint8_t protocol, uint32_t from, uint32_t to,
	unsigned size, unsigned checksum_at)
{
	uint8_t *ip = ip_of(frame);
	ip[0] = 0x45;
	put16(ip + 2, 20 + size);
	ip[8] = 64;
	ip[9] = protocol;
	put32(ip + 12, from);
	put32(ip + 16, to);
	put16(ip + 10, fold(sum(ip, 20, 0)));
	put16(ip + 20 + checksum_at, fold(sum(ip + 12, 8 + size, protocol + size)));
	frame->size = (int)(HEADER + 14 + 20 + size);
}

// Say who has the guest's address, as an answer or of our own accord.
static void announce(void)
{
	struct frame frame;
	begin(&frame, ETH_P_ARP);
	uint8_t *arp = ip_of(&frame);
	put16(arp, 1);
	put16(arp + 2, ETH_P_IP);
	arp[4] = 6;
	arp[5] = 4;
	put16(arp + 6, 2);
	memcpy(arp + 8, guest_mac, 6);
	put32(arp + 14, GUEST);
	put32(arp + 24, HOST);
	frame.size = HEADER + 14 + 28;
	transmit(&frame);
}

static void ask_for_host(void)
{
	struct frame frame;
	begin(&frame, ETH_P_ARP);
	uint8_t *arp = ip_of(&frame);
	put16(arp, 1);
	put16(arp + 2, ETH_P_IP);
	arp[4] = 6;
	arp[5] = 4;
	put16(arp + 6, 1);
	memcpy(arp + 8, guest_mac, 6);
	put32(arp + 14, GUEST);
	put32(arp + 24, HOST);
	frame.size = HEADER + 14 + 28;
	transmit(&frame);
}

// The next IPv4 packet of a protocol; questions for the guest's address are answered meanwhile.
static uint8_t *next_packet(struct frame *frame, uint8_t protocol)
{
	for (unsigned i = 0; i < 100000; i++) {
		if (!receive_now(frame)) {
			usleep(100);
			continue;
		}
		static const uint8_t none[HEADER];
		assert_memory_equal(frame->data, none, HEADER);
		unsigned type = get16(frame->data + HEADER + 12);
		if (type == ETH_P_ARP && get16(ip_of(frame) + 6) == 1)
			announce();
		if (type == ETH_P_IP && ip_of(frame)[9] == protocol)
			return ip_of(frame) + 20;
	}
	fail_msg("no packet of protocol %u comes", protocol);
	return NULL;
}

static int make_listener(void **state)
{
	(void)state;
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	bench.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(bench.listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(bench.listener, 4), 0);
	assert_int_equal(getsockname(bench.listener, (struct sockaddr *)&address, &size), 0);
	bench.listener_port = ntohs(address.sin_port);
	return 0;
}

static int close_listener(void **state)
{
	(void)state;
	close(bench.listener);
	return 0;
}

static int start(const char *const *forwards, size_t count)
{
	struct veneer_net options = {
		.backend = VENEER_NET_USER, .forwards = forwards, .forward_count = count};
	struct veneer_error error = {""};
	if (vn_net_user_open(&bench.backend, &options, &bench.log, &error) < 0)
		fail_msg("%s", error.message);
	bench.port.ready = ready;
	bench.readable = false;
	bench.hook.flush = take_turn;
	assert_int_equal(vn_ioloop_create(&bench.loop, "test", 16, NULL, &error), 0);
	vn_ioloop_call(bench.loop, open_on_loop, NULL);
	return 0;
}

static int start_plain(void **state)
{
	(void)state;
	return start(NULL, 0);
}

static int stop(void **state)
{
	(void)state;
	vn_ioloop_call(bench.loop, close_on_loop, NULL);
	vn_ioloop_destroy(bench.loop);
	bench.backend->ops->destroy(bench.backend);
	return 0;
}

static void assert_refused(struct veneer_net options, int code, const char *text)
{
	struct veneer_error error = {""};
	struct vn_net_backend *backend;
	assert_int_equal(vn_net_user_open(&backend, &options, &bench.log, &error), code);
	if (!strstr(error.message, text))
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
}

static void refuses_options(void **state)
{
	(void)state;
	static const char *const wrong[] = {"", "tcp", "tcp:127.0.0.1:80", "tcp:localhost:80:80",
		"tcp:127.0.0.1:0:80", "tcp:127.0.0.1:80:65536",
		"tcp:127.0.0.1:80:", "tcp:127.0.0.1:80:80:80", "sctp:127.0.0.1:80:80",
		"tcp:127.0.0.1:+80:80",
		"tcp:127.0.0.1:80:80                                                            "};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused((struct veneer_net){.forwards = &wrong[i], .forward_count = 1},
			-EINVAL, "is not tcp:HOSTADDR:HOSTPORT:GUESTPORT");
	assert_refused((struct veneer_net){.queues = 2}, -EINVAL, "one queue, not 2");
	assert_refused((struct veneer_net){.mtu = 65535}, -EINVAL, "at most 65521");
	char busy[64];
	snprintf(busy, sizeof(busy), "tcp:127.0.0.1:%u:80", bench.listener_port);
	const char *forward = busy;
	assert_refused((struct veneer_net){.forwards = &forward, .forward_count = 1}, -EADDRINUSE,
		"cannot forward tcp:127.0.0.1:");
}

// A guest that has no address yet is offered 10.0.2.15, with a router and a name server.
static void offers_an_address(void **state)
{
	(void)state;
	struct frame frame;
	begin(&frame, ETH_P_IP);
	uint8_t *udp = ip_of(&frame) + 20, *bootp = udp + 8;
	put16(udp, 68);
	put16(udp + 2, 67);
	put16(udp + 4, 8 + 300);
	bootp[0] = 1;
	bootp[1] = 1;
	bootp[2] = 6;
	put32(bootp + 4, 0x12345678);
	memcpy(bootp + 28, guest_mac, 6);
	put32(bootp + 236, 0x63825363);
	static const uint8_t discover[] = {53, 1, 1, 255};
	memcpy(bootp + 240, discover, sizeof(discover));
	finish_ip(&frame, 17, 0, 0xffffffff, 8 + 300, 6);
	transmit(&frame);

	udp = next_packet(&frame, 17);
	bootp = udp + 8;
	assert_int_equal(get16(udp + 2), 68);
	assert_int_equal(bootp[0], 2);
	assert_int_equal(get32(bootp + 4), 0x12345678);
	assert_int_equal(get32(bootp + 16), GUEST);
	static const uint8_t offer[] = {53, 1, 2};
	assert_memory_equal(bootp + 240, offer, sizeof(offer));
}

// A TCP connection of which the test is the guest's end.
struct tcp {
	uint16_t from, to;
	uint32_t sent, received; // sequence numbers
};

static void put_segment(struct tcp *tcp, uint8_t flags, const char *data, unsigned size)
{
	struct frame frame;
	begin(&frame, ETH_P_IP);
	uint8_t *segment = ip_of(&frame) + 20;
	put16(segment, tcp->from);
	put16(segment + 2, tcp->to);
	put32(segment + 4, tcp->sent);
	put32(segment + 8, tcp->received);
	segment[12] = 0x50;
	segment[13] = flags;
	put16(segment + 14, 0x4000);
	if (size > 0)
		memcpy(segment + 20, data, size);
	finish_ip(&frame, 6, GUEST, HOST, 20 + size, 16);
	transmit(&frame);
	tcp->sent += size + (flags & 3 ? 1 : 0); // FIN and SYN count
}

#define FIN 0x01
#define SYN 0x02
#define PSH 0x08
#define ACK 0x10

// The next segment that has one of `flags`, or data where they are 0; its data, of *size bytes.
static const uint8_t *get_segment(struct frame *frame, uint8_t flags, unsigned *size)
{
	for (;;) {
		const uint8_t *segment = next_packet(frame, 6);
		unsigned header = 4u * (segment[12] >> 4);
		*size = get16(ip_of(frame) + 2) - 20u - header;
		if (flags ? segment[13] & flags : *size > 0)
			return segment + header;
	}
}

static void exchange(struct tcp *tcp, int host)
{
	struct frame frame;
	char got[16] = "";
	unsigned size;
	put_segment(tcp, ACK | PSH, "question", 8);
	assert_int_equal(recv(host, got, 8, MSG_WAITALL), 8);
	assert_string_equal(got, "question");
	assert_int_equal(send(host, "answer", 6, 0), 6);
	const uint8_t *data = get_segment(&frame, 0, &size);
	assert_int_equal(size, 6);
	assert_memory_equal(data, "answer", 6);
	tcp->received += 6;
	put_segment(tcp, ACK, NULL, 0);
	put_segment(tcp, ACK | FIN, NULL, 0);
	assert_int_equal(recv(host, got, sizeof(got), 0), 0);
}

static void connects_to_the_host(void **state)
{
	(void)state;
	struct frame frame;
	unsigned size;
	struct tcp tcp = {.from = 40000, .to = bench.listener_port, .sent = 1000};
	announce();
	put_segment(&tcp, SYN, NULL, 0);
	(void)get_segment(&frame, SYN, &size);
	const uint8_t *segment = ip_of(&frame) + 20;
	assert_int_equal(segment[13] & (SYN | ACK), SYN | ACK);
	assert_int_equal(get32(segment + 8), tcp.sent);
	tcp.received = get32(segment + 4) + 1;
	put_segment(&tcp, ACK, NULL, 0);
	int host = accept4(bench.listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(host >= 0);
	exchange(&tcp, host);
	close(host);
}

// A port that was free a moment ago.
static uint16_t free_port(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void forwards_ports(void **state)
{
	(void)state;
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(free_port())};
	char text[64];
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u:80", ntohs(address.sin_port));
	const char *forward = text;
	start(&forward, 1);
	announce();
	int host = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(host, (struct sockaddr *)&address, sizeof(address)), 0);

	struct frame frame;
	unsigned size;
	(void)get_segment(&frame, SYN, &size);
	const uint8_t *segment = ip_of(&frame) + 20;
	assert_int_equal(get32(ip_of(&frame) + 16), GUEST);
	assert_int_equal(get16(segment + 2), 80);
	struct tcp tcp = {.from = 80, .to = get16(segment), .sent = 5000};
	tcp.received = get32(segment + 4) + 1;
	put_segment(&tcp, SYN | ACK, NULL, 0);
	exchange(&tcp, host);
	close(host);
	stop(state);
}

// A guest that takes nothing: what is too much is dropped, and what it then takes is whole.
static void drops_what_is_not_taken(void **state)
{
	(void)state;
	struct frame frame;
	for (unsigned i = 0; i < 1000; i++)
		ask_for_host();
	unsigned count = 0;
	while (receive_now(&frame)) {
		assert_int_equal(get16(frame.data + HEADER + 12), ETH_P_ARP);
		assert_int_equal(get32(ip_of(&frame) + 14), HOST);
		count++;
	}
	assert_int_equal(count, 256);
	ask_for_host();
	assert_true(receive_now(&frame));
}

// Frames that are none, or too large, or garbage behind a good beginning.
static void survives_garbage(void **state)
{
	(void)state;
	struct frame frame;
	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		begin(&frame, rand() % 4 ? ETH_P_IP : ETH_P_ARP);
		for (unsigned at = HEADER + 14; at < sizeof(frame.data); at++)
			frame.data[at] = (uint8_t)rand();
		unsigned size = (unsigned)rand() % (sizeof(frame.data) - 60);
		if (rand() % 2)
			finish_ip(&frame, rand() % 2 ? 1 : 2, GUEST, HOST, size, 2);
		frame.size = (int)(20 + (unsigned)rand() % (sizeof(frame.data) - 20));
		transmit(&frame);
		if (i % 64 == 0)
			while (receive_now(&frame))
				;
	}
	while (receive_now(&frame))
		;
	ask_for_host();
	assert_true(receive_now(&frame));
}

// Closed with connections and polls in flight, and opened again: it goes on.
static void reopens(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		struct tcp tcp = {.from = (uint16_t)(41000 + i), .to = bench.listener_port};
		announce();
		put_segment(&tcp, SYN, NULL, 0);
		vn_ioloop_call(bench.loop, close_on_loop, NULL);
		bench.readable = false;
		vn_ioloop_call(bench.loop, open_on_loop, NULL);
	}
	while (bench.listener >= 0) {
		struct pollfd wait = {.fd = bench.listener, .events = POLLIN};
		if (poll(&wait, 1, 50) <= 0)
			break;
		close(accept4(bench.listener, NULL, NULL, SOCK_CLOEXEC));
	}
	offers_an_address(state);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, start_plain, stop)

int main(void)
{
	if (!dlopen("libslirp.so.0", RTLD_NOW))
		return netns_skip("no libslirp.so.0: install libslirp0");
	// Where there is no namespace to be had the host's own loopback does.
	if (unshare(CLONE_NEWNET) == 0 && !netns_set_up("lo", true))
		return netns_skip("the loopback interface cannot be configured here");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_options),
		WITH(offers_an_address),
		WITH(connects_to_the_host),
		cmocka_unit_test(forwards_ports),
		WITH(drops_what_is_not_taken),
		WITH(survives_garbage),
		WITH(reopens),
	};
	return cmocka_run_group_tests_name("net_user", tests, make_listener, close_listener);
}
