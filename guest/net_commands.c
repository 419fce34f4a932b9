// SPDX-License-Identifier: Apache-2.0
/*
 * As much of ARP, IPv4, ICMP and UDP (RFC 826, 791, 792, 768) as it takes to be a host that answers
 * pings, sends datagrams back, or sends and counts numbered ones. Every checksum is checked.
 */
#include "net_commands.h"

#include "net.h"
#include "pattern.h"
#include "print.h"
#include "ring0.h"

#define TYPE_IP       0x0800
#define TYPE_ARP      0x0806
#define PROTOCOL_ICMP 1
#define PROTOCOL_UDP  17
#define PORT          9 /* discard: that of numbered datagrams */
#define BROADCAST     0xffffffffu
#define DEFAULT_IP    0xc0000202u /* 192.0.2.2 */
#define IDLE_NS       30000000000ull

/* Offsets in a frame whose IP header has no options. */
#define ETHER_TYPE   12
#define ETHER_BYTES  14
#define ARP_OPCODE   20
#define ARP_SENDER   22 /* MAC, IP of the sender, then of the target */
#define ARP_TARGET   32
#define ARP_BYTES    42
#define IP_LENGTH    16
#define IP_FRAGMENT  20
#define IP_TTL       22
#define IP_PROTOCOL  23
#define IP_CHECKSUM  24
#define IP_SOURCE    26
#define IP_TARGET    30
#define IP_BYTES     20
#define PAYLOAD      (ETHER_BYTES + IP_BYTES) /* of IP */
#define UDP_TARGET   (PAYLOAD + 2)
#define UDP_LENGTH   (PAYLOAD + 4)
#define UDP_CHECKSUM (PAYLOAD + 6)
#define UDP_BYTES    8
#define UDP_DATA     (PAYLOAD + UDP_BYTES)
#define DATA_MAX     (NET_FRAME - UDP_DATA)

struct host {
	struct net net;
	uint32_t ip;
	uint64_t mark;
	bool quit; /* a datagram said so */
	uint64_t arps, pings, datagrams, wrong, bytes;
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
	put16(p, value >> 16);
	put16(p + 2, value & 0xffff);
}

/* RFC 1071, over `bytes` and what `sum` has already; 0 for data with a checksum that is right. */
static uint16_t checksum(const uint8_t *p, unsigned bytes, uint32_t sum)
{
	for (unsigned i = 0; i + 1 < bytes; i += 2)
		sum += get16(p + i);
	if (bytes & 1)
		sum += (uint32_t)p[bytes - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* UDP's, with the pseudo header: addresses, protocol, length. */
static uint16_t udp_checksum(const uint8_t *frame, unsigned bytes)
{
	uint32_t sum = PROTOCOL_UDP + bytes;

	for (unsigned i = IP_SOURCE; i < PAYLOAD; i += 2)
		sum += get16(frame + i);
	return checksum(frame + PAYLOAD, bytes, sum);
}

/* Four numbers with dots between them. */
static bool parse_ip(const char *s, uint32_t *ip)
{
	uint64_t part;

	*ip = 0;
	for (unsigned i = 0; i < 4; i++) {
		if (!parse_number(&s, &part) || part > 255 || *s != (i < 3 ? '.' : '\0'))
			return false;
		*ip = *ip << 8 | (uint32_t)part;
		s++;
	}
	return true;
}

static int open_host(struct host *host)
{
	const char *word = machine_word("ip");

	*host = (struct host){.ip = DEFAULT_IP, .mark = machine_mark()};
	const uint8_t *mac = host->net.mac;
	if (word && !parse_ip(word, &host->ip))
		return fail("ip=", "four numbers with dots", word);
	if (net_open(&host->net))
		return 1;
	print("net: %02x:%02x:%02x:%02x:%02x:%02x at %u.%u.%u.%u\n", mac[0], mac[1], mac[2], mac[3],
		mac[4], mac[5], host->ip >> 24, host->ip >> 16 & 255, host->ip >> 8 & 255,
		host->ip & 255);
	return 0;
}

static int close_host(struct host *host, int status)
{
	status |= net_close(&host->net);
	machine_release(host->mark);
	return status;
}

static int wrong(struct host *host, const char *what, unsigned expected, unsigned got)
{
	host->wrong++;
	return fail_number(what, expected, got);
}

/* A frame that answers `frame`: the same, sent back. */
static uint8_t *answer(struct host *host, const uint8_t *frame, unsigned bytes)
{
	uint8_t *reply = net_frame(&host->net);

	if (!reply)
		return NULL;
	memcpy(reply, frame, bytes);
	memcpy(reply, frame + 6, 6);
	memcpy(reply + 6, host->net.mac, 6);
	return reply;
}

static void answer_arp(struct host *host, const uint8_t *frame, unsigned bytes)
{
	uint8_t *reply;

	if (bytes < ARP_BYTES || get16(frame + ARP_OPCODE) != 1 ||
		get32(frame + ARP_TARGET + 6) != host->ip)
		return;
	reply = answer(host, frame, ARP_BYTES);
	if (!reply)
		return;
	put16(reply + ARP_OPCODE, 2);
	memcpy(reply + ARP_TARGET, frame + ARP_SENDER, 10);
	memcpy(reply + ARP_SENDER, host->net.mac, 6);
	put32(reply + ARP_SENDER + 6, host->ip);
	net_send(&host->net, reply, ARP_BYTES);
	host->arps++;
}

/* Bytes of an IP packet for this host whose header is right and simple, 0 for any other. */
static unsigned check_ip(struct host *host, const uint8_t *frame, unsigned bytes)
{
	unsigned length = get16(frame + IP_LENGTH);

	if (bytes < PAYLOAD || frame[ETHER_BYTES] != 0x45 || get16(frame + IP_FRAGMENT) & 0x3fff)
		return 0;
	if (checksum(frame + ETHER_BYTES, IP_BYTES, 0)) {
		wrong(host, "IP checksum's remainder", 0,
			checksum(frame + ETHER_BYTES, IP_BYTES, 0));
		return 0;
	}
	if (get32(frame + IP_TARGET) != host->ip || length < IP_BYTES + UDP_BYTES)
		return 0;
	if (length > bytes - ETHER_BYTES) {
		wrong(host, "IP length", bytes - ETHER_BYTES, length);
		return 0;
	}
	return length - IP_BYTES;
}

static void send_back(struct host *host, uint8_t *reply, unsigned payload)
{
	put32(reply + IP_TARGET, get32(reply + IP_SOURCE));
	put32(reply + IP_SOURCE, host->ip);
	reply[IP_TTL] = 64;
	put16(reply + IP_CHECKSUM, 0);
	put16(reply + IP_CHECKSUM, checksum(reply + ETHER_BYTES, IP_BYTES, 0));
	host->bytes += payload;
	if (reply[IP_PROTOCOL] == PROTOCOL_UDP) {
		put16(reply + UDP_CHECKSUM, 0);
		put16(reply + UDP_CHECKSUM, udp_checksum(reply, payload));
	} else {
		put16(reply + PAYLOAD + 2, 0);
		put16(reply + PAYLOAD + 2, checksum(reply + PAYLOAD, payload, 0));
	}
	net_send(&host->net, reply, PAYLOAD + payload);
}

static void answer_ping(struct host *host, const uint8_t *frame, unsigned payload)
{
	uint16_t rest = checksum(frame + PAYLOAD, payload, 0);
	uint8_t *reply;

	if (frame[PAYLOAD] != 8)
		return;
	if (rest) {
		wrong(host, "ICMP checksum's remainder", 0, rest);
		return;
	}
	reply = answer(host, frame, PAYLOAD + payload);
	if (!reply)
		return;
	reply[PAYLOAD] = 0;
	send_back(host, reply, payload);
	host->pings++;
}

/* Bytes of data of a good datagram, or -1. */
static int check_udp(struct host *host, const uint8_t *frame, unsigned payload)
{
	unsigned length = get16(frame + UDP_LENGTH);

	if (length < UDP_BYTES || length > payload) {
		wrong(host, "UDP length", payload, length);
		return -1;
	}
	if (get16(frame + UDP_CHECKSUM) && udp_checksum(frame, length)) {
		wrong(host, "UDP checksum's remainder", 0, udp_checksum(frame, length));
		return -1;
	}
	if (length == UDP_BYTES + 4 && !memcmp(frame + UDP_DATA, "quit", 4)) {
		host->quit = true;
		return -1;
	}
	return (int)(length - UDP_BYTES);
}

static void answer_udp(struct host *host, const uint8_t *frame, unsigned payload)
{
	int bytes = check_udp(host, frame, payload);
	uint8_t *reply;

	if (bytes < 0)
		return;
	payload = (unsigned)bytes + UDP_BYTES;
	reply = answer(host, frame, PAYLOAD + payload);
	if (!reply)
		return;
	put16(reply + IP_LENGTH, IP_BYTES + payload);
	put16(reply + PAYLOAD, get16(frame + UDP_TARGET));
	put16(reply + UDP_TARGET, get16(frame + PAYLOAD));
	send_back(host, reply, payload);
	host->datagrams++;
}

int command_net_echo(const char *value)
{
	uint64_t limit = ~0ull;
	unsigned bytes, payload;
	struct host host;
	bool broken = false;

	if (*value && !parse_number(&value, &limit))
		return fail("net-echo=", "a number", value);
	if (open_host(&host))
		return 1;
	print("net-echo: ready\n");
	while (!host.quit && !broken && host.pings + host.datagrams < limit) {
		const uint8_t *frame = net_receive(&host.net, &bytes, IDLE_NS, &broken);

		if (!frame)
			continue;
		if (get16(frame + ETHER_TYPE) == TYPE_ARP)
			answer_arp(&host, frame, bytes);
		if (get16(frame + ETHER_TYPE) != TYPE_IP)
			continue;
		payload = check_ip(&host, frame, bytes);
		if (payload && frame[IP_PROTOCOL] == PROTOCOL_ICMP)
			answer_ping(&host, frame, payload);
		else if (payload && frame[IP_PROTOCOL] == PROTOCOL_UDP)
			answer_udp(&host, frame, payload);
	}
	print("net-echo: %lu ARP, %lu pings, %lu datagrams, %lu bytes answered, %lu wrong\n",
		host.arps, host.pings, host.datagrams, host.bytes, host.wrong);
	return close_host(&host, broken || host.wrong);
}

/* The data of numbered datagram `n`: its number, then the pattern with the number as its seed. */
static void fill_numbered(uint8_t *data, uint64_t n, unsigned bytes)
{
	for (unsigned at = 0; at < bytes; at += 8) {
		uint64_t word = at ? pattern_word(n, at) : n;

		memcpy(data + at, &word, 8);
	}
}

static void make_datagram(const struct host *host, uint8_t *frame, uint64_t n, unsigned bytes)
{
	memset(frame, 0, UDP_DATA);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, host->net.mac, 6);
	put16(frame + ETHER_TYPE, TYPE_IP);
	frame[ETHER_BYTES] = 0x45;
	put16(frame + IP_LENGTH, IP_BYTES + UDP_BYTES + bytes);
	frame[IP_TTL] = 64;
	frame[IP_PROTOCOL] = PROTOCOL_UDP;
	put32(frame + IP_SOURCE, host->ip);
	put32(frame + IP_TARGET, BROADCAST);
	put16(frame + IP_CHECKSUM, checksum(frame + ETHER_BYTES, IP_BYTES, 0));
	put16(frame + PAYLOAD, PORT);
	put16(frame + UDP_TARGET, PORT);
	put16(frame + UDP_LENGTH, UDP_BYTES + bytes);
	fill_numbered(frame + UDP_DATA, n, bytes);
	put16(frame + UDP_CHECKSUM, udp_checksum(frame, UDP_BYTES + bytes));
}

int command_net_send(const char *value)
{
	uint64_t count, bytes, start, ns, n = 0;
	const char *text = value;
	struct host host;

	if (!parse_number(&text, &count) || *text++ != ',' || !parse_number(&text, &bytes) ||
		!bytes || bytes % 8 || bytes > DATA_MAX)
		return fail("net-send=", "COUNT,SIZE; SIZE a multiple of 8, at most 1472", value);
	if (open_host(&host))
		return 1;
	for (start = rdtsc(); n < count; n++) {
		uint8_t *frame = net_frame(&host.net);

		if (!frame)
			break;
		make_datagram(&host, frame, n, (unsigned)bytes);
		net_send(&host.net, frame, UDP_DATA + (unsigned)bytes);
	}
	ns = ticks_to_ns(rdtsc() - start);
	print("net-send: %lu of %lu datagrams of %lu bytes in %lu us\n", n, count, bytes,
		ns / 1000);
	return close_host(&host, n < count);
}

/* Whether a datagram is one of the numbered ones, and its number. */
static bool is_numbered(const uint8_t *data, unsigned bytes, uint64_t *n)
{
	static uint8_t expected[DATA_MAX];

	if (bytes < 8 || bytes % 8 || bytes > DATA_MAX)
		return false;
	memcpy(n, data, 8);
	fill_numbered(expected, *n, bytes);
	return !memcmp(data, expected, bytes);
}

int command_net_recv(const char *value)
{
	uint64_t count, n, next = 0, misplaced = 0;
	unsigned bytes, payload;
	struct host host;
	bool broken = false;

	if (!parse_number(&value, &count))
		return fail("net-recv=", "a number", value);
	if (open_host(&host))
		return 1;
	print("net-recv: ready\n");
	while (!host.quit && !broken && host.datagrams < count) {
		const uint8_t *frame = net_receive(&host.net, &bytes, IDLE_NS, &broken);
		int data;

		if (!frame)
			continue;
		if (get16(frame + ETHER_TYPE) == TYPE_ARP)
			answer_arp(&host, frame, bytes);
		if (get16(frame + ETHER_TYPE) != TYPE_IP)
			continue;
		payload = check_ip(&host, frame, bytes);
		if (!payload || frame[IP_PROTOCOL] != PROTOCOL_UDP ||
			get16(frame + UDP_TARGET) != PORT)
			continue;
		data = check_udp(&host, frame, payload);
		if (data < 0)
			continue;
		if (!is_numbered(frame + UDP_DATA, (unsigned)data, &n)) {
			wrong(&host, "datagram with the pattern", (unsigned)host.datagrams, ~0u);
			continue;
		}
		misplaced += n != next;
		next = n + 1;
		host.datagrams++;
		host.bytes += (unsigned)data;
	}
	print("net-recv: %lu of %lu datagrams, %lu bytes, %lu misplaced, %lu wrong\n",
		host.datagrams, count, host.bytes, misplaced, host.wrong);
	return close_host(&host, broken || host.wrong || host.datagrams < count);
}
