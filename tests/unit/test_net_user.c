// SPDX-License-Identifier: Apache-2.0
//
// User networking without a guest: the test makes the frames that one would send, by hand, and
// looks at what comes back and at what reaches real sockets. It needs nothing but a loopback
// interface, so it has no other where it can have a network namespace of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mount.h>

#include "base/macros.h"
#include "devices/net/user.h"
#include "netns.h"

#define HEADER 12u
#define GUEST  0x0a00020fu
#define HOST   0x0a000202u
#define DNS    0x0a000203u

#define DNS_PORT 53

static const uint8_t guest_mac[6] = {0x02, 1, 2, 3, 4, 5};

struct bench {
	struct vn_net_port port;
	struct vn_net_backend *backend;
	struct vn_ioloop *loop;
	struct vn_ioloop_hook hook;
	struct vn_log log;
	bool readable;
	pthread_mutex_t lock;
	char warnings[1024]; // under the lock: all
	const char *no_resolv_conf; // why /etc/resolv.conf cannot be the test's own, or NULL
	int listener; // on the host's loopback
	uint16_t listener_port;
};

static struct bench bench = {.lock = PTHREAD_MUTEX_INITIALIZER};

// A frame on its way, in either direction.
struct frame {
	uint8_t data[2048]; // the virtio-net header first
	int size;
};

static void message(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	(void)severity;
	pthread_mutex_lock(&bench.lock);
	size_t used = strlen(bench.warnings);
	snprintf(bench.warnings + used, sizeof(bench.warnings) - used, "%s\n", text);
	pthread_mutex_unlock(&bench.lock);
}

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
	bench.backend->ops->close(bench.backend, 0, false);
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

static int start(struct vn_net_forward *forwards, size_t count)
{
	struct vn_net_options options = {
		.tap = VN_NO_FILE, .user = true, .forwards = {forwards, count}};
	struct veneer_error error = {.code = 0};
	bench.warnings[0] = '\0';
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

static void assert_refused(struct vn_net_options options, int code, const char *text)
{
	struct veneer_error error = {.code = 0};
	struct vn_net_backend *backend;
	assert_int_equal(vn_net_user_open(&backend, &options, &bench.log, &error), code);
	if (!strstr(error.message, text))
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
}

static void refuses_options(void **state)
{
	(void)state;
	struct vn_net_forward busy = {.address = {htonl(INADDR_LOOPBACK)},
		.host_port = (uint16_t)bench.listener_port,
		.guest_port = 80};
	assert_refused((struct vn_net_options){.user = true, .forwards = {&busy, 1}}, -EADDRINUSE,
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
	struct vn_net_forward forward = {.address = address.sin_addr,
		.host_port = ntohs(address.sin_port),
		.guest_port = 80};
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

static char resolv_conf[] = "/tmp/veneer-resolv-XXXXXX";

static void put_resolv_conf(const char *text)
{
	FILE *file = fopen(resolv_conf, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

// A file of the test's own in place of /etc/resolv.conf, for this process; or why not.
static const char *replace_resolv_conf(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return "no mount namespace may be made here";
	int fd = mkstemp(resolv_conf);
	if (fd < 0)
		return "no file in /tmp";
	close(fd);
	if (mount(resolv_conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0)
		return "nothing can be mounted on /etc/resolv.conf";
	put_resolv_conf("nameserver 127.0.0.1\n");
	return NULL;
}

static int open_server(const char *address)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM};
	struct addrinfo *found;
	assert_int_equal(getaddrinfo(address, "53", &hints, &found), 0);
	int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct timeval patience = {.tv_sec = 10};
	if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
			       bind(fd, found->ai_addr, found->ai_addrlen) < 0)) {
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

static void make_query(struct frame *frame, uint16_t port, const char *text)
{
	unsigned size = 8 + (unsigned)strlen(text);
	begin(frame, ETH_P_IP);
	uint8_t *udp = ip_of(frame) + 20;
	put16(udp, port);
	put16(udp + 2, DNS_PORT);
	put16(udp + 4, size);
	memcpy(udp + 8, text, strlen(text));
	finish_ip(frame, 17, GUEST, DNS, size, 6);
}

static void send_query(uint16_t port, const char *text)
{
	struct frame frame;
	make_query(&frame, port, text);
	transmit(&frame);
}

// What comes from the name server, put together of its fragments: UDP header and data, *size bytes.
static const uint8_t *get_answer(size_t *size)
{
	static uint8_t packet[65536];
	struct frame frame;
	bool more = true;
	*size = 0;
	while (more) {
		const uint8_t *part = next_packet(&frame, 17), *ip = ip_of(&frame);
		unsigned fragment = get16(ip + 6), length = get16(ip + 2) - 20u;
		more = fragment & 0x2000;
		assert_memory_equal(frame.data + HEADER, guest_mac, 6);
		assert_int_equal(fold(sum(ip, 20, 0)), 0);
		assert_int_equal(get32(ip + 12), DNS);
		assert_int_equal(get32(ip + 16), GUEST);
		assert_int_equal(8 * (fragment & 0x1fff), *size);
		memcpy(packet + *size, part, length);
		*size += length;
	}
	assert_int_equal(get16(packet + 4), *size);
	uint32_t pseudo = (DNS >> 16) + (DNS & 0xffff) + (GUEST >> 16) + (GUEST & 0xffff) + 17;
	assert_int_equal(fold(sum(packet, *size, pseudo + (uint32_t)*size)), 0);
	return packet;
}

static void ask_server(int server, uint16_t port, const char *text, size_t answer_size)
{
	static uint8_t data[65536];
	struct sockaddr_storage from;
	socklen_t from_size = sizeof(from);
	size_t size;
	send_query(port, text);
	ssize_t got = recvfrom(server, data, sizeof(data), 0, (struct sockaddr *)&from, &from_size);
	assert_int_equal(got, strlen(text));
	assert_memory_equal(data, text, strlen(text));
	for (size_t i = 0; i < answer_size; i++)
		data[i] = (uint8_t)(i * 5 + i / 256);
	assert_int_equal(sendto(server, data, answer_size, 0, (struct sockaddr *)&from, from_size),
		answer_size);
	const uint8_t *udp = get_answer(&size);
	assert_int_equal(size, 8 + answer_size);
	assert_int_equal(get16(udp), DNS_PORT);
	assert_int_equal(get16(udp + 2), port);
	assert_memory_equal(udp + 8, data, answer_size);
}

static bool warns_of(const char *text)
{
	pthread_mutex_lock(&bench.lock);
	bool found = strstr(bench.warnings, text);
	pthread_mutex_unlock(&bench.lock);
	return found;
}

static void need_resolv_conf(void)
{
	if (!bench.no_resolv_conf)
		return;
	print_message("# %s\n", bench.no_resolv_conf);
	skip();
}

// Whoever the host's programs ask, the guest's queries reach.
static void passes_queries(void **state)
{
	static const struct {
		const char *file, *server;
		bool warning;
	} hosts[] = {
		{"nameserver 127.0.0.1\n", "127.0.0.1", false},
		{"nameserver ::1\n", "::1", false},
		{"nameserver ::1\nnameserver 127.0.0.1\n", "127.0.0.1", false},
		{"; nameserver 127.0.0.9\nsearch x\nnameserver\t fe80::53%lo \nnameserver ::1",
			"fe80::53%lo", false},
		{"nameserver none\nnameserver ::9%none0\nnameserver ::1\n", "::1", false},
		{"search example.org\n", "127.0.0.1", true},
		{"", "127.0.0.1", true},
	};
	need_resolv_conf();
	if (system("ip -6 address replace fe80::53/64 dev lo nodad 2>/dev/null") != 0) {
		print_message("# no IPv6 here, or no ip (iproute2)\n");
		skip();
	}
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		put_resolv_conf(hosts[i].file);
		start(NULL, 0);
		announce();
		int server = open_server(hosts[i].server);
		assert_true(server >= 0);
		ask_server(server, 40000, "question", 100);
		ask_server(server, 40001, "x", 0);
		ask_server(server, 40000, "another question", 512);
		assert_int_equal(
			warns_of("/etc/resolv.conf names no name server"), hosts[i].warning);
		close(server);
		stop(state);
	}
}

// Answers larger than a packet come in fragments.
static void passes_large_answers(void **state)
{
	static const size_t sizes[] = {1472, 1473, 1480, 2952, 4096, 20000, 65507};
	(void)state;
	need_resolv_conf();
	put_resolv_conf("");
	start(NULL, 0);
	int server = open_server("127.0.0.1");
	assert_true(server >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		ask_server(server, 40000, "question", sizes[i]);
	close(server);
	stop(state);
}

static void assert_warning(const char *text)
{
	for (unsigned i = 0; i < 100000 && !warns_of(text); i++)
		usleep(100);
	if (!warns_of(text))
		fail_msg("\"%s\" does not say \"%s\"", bench.warnings, text);
}

// The file changes while the guest runs; and a server that is not there is named.
static void follows_the_file(void **state)
{
	need_resolv_conf();
	put_resolv_conf("nameserver 127.0.0.1\n");
	start(NULL, 0);
	assert_string_equal(bench.warnings, "");
	put_resolv_conf("");
	usleep(1100000);
	send_query(40000, "question");
	assert_warning("/etc/resolv.conf names no name server");
	assert_warning("the name server 127.0.0.1 does not serve the guest: Connection refused");
	size_t told = strlen(bench.warnings);
	int server = open_server("127.0.0.1");
	ask_server(server, 40000, "question", 100);
	close(server);
	assert_int_equal(strlen(bench.warnings), told);
	stop(state);
}

static unsigned count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;
	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

// Queries that nobody answers take a bounded number of descriptors, and the newest still get
// through.
static void forgets_old_queries(void **state)
{
	need_resolv_conf();
	put_resolv_conf("");
	unsigned before = count_descriptors();
	start(NULL, 0);
	int server = open_server("127.0.0.1");
	assert_true(server >= 0);
	for (unsigned i = 0; i < 200; i++)
		send_query((uint16_t)(40000 + i), "question");
	unsigned most = count_descriptors();
	assert_true(most > before + 64 && most < before + 64 + 30);
	uint8_t data[64];
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(recv(server, data, sizeof(data), 0), 8);
	ask_server(server, 50000, "question", 100);
	close(server);
	stop(state);
	assert_int_equal(count_descriptors(), before);
}

// Queries that are none in some way: their lengths, flags and addresses do not lead astray.
static void survives_bad_queries(void **state)
{
	struct frame frame;
	need_resolv_conf();
	put_resolv_conf("");
	start(NULL, 0);
	srand(1);
	for (unsigned i = 0; i < 5000; i++) {
		make_query(&frame, 40000, "question");
		frame.data[HEADER + (unsigned)rand() % 42] = (uint8_t)rand();
		if (i % 4 == 0)
			frame.size = (int)(20 + (unsigned)rand() % ((unsigned)frame.size - 20));
		transmit(&frame);
	}
	while (receive_now(&frame))
		;
	int server = open_server("127.0.0.1");
	announce();
	ask_server(server, 40000, "question", 100);
	close(server);
	stop(state);
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
	bool alone = unshare(CLONE_NEWNET) == 0;
	if (alone && !netns_set_up("lo", true))
		return netns_skip("the loopback interface cannot be configured here");
	bench.no_resolv_conf =
		alone ? replace_resolv_conf() : "no network namespace may be made here";
	bench.log.message = message;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_options),
		WITH(offers_an_address),
		WITH(connects_to_the_host),
		cmocka_unit_test(forwards_ports),
		cmocka_unit_test(passes_queries),
		cmocka_unit_test(passes_large_answers),
		cmocka_unit_test(follows_the_file),
		cmocka_unit_test(forgets_old_queries),
		cmocka_unit_test(survives_bad_queries),
		WITH(drops_what_is_not_taken),
		WITH(survives_garbage),
		WITH(reopens),
	};
	int failures =
		cmocka_run_group_tests_name("net_user", tests, make_listener, close_listener);
	unlink(resolv_conf);
	return failures;
}
