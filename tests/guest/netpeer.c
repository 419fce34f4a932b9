// SPDX-License-Identifier: Apache-2.0
//
// The host's end of the network tests with the built-in guest: pings it, has datagrams sent back,
// sends and counts numbered ones, and checks every byte. Exits 0, or 1 with a line that says why.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/macros.h"
#include "guest/pattern.h"

#define DATA_MAX   65507
#define IP_BYTES   20
#define REPLY_MS   10000
#define PACE_EVERY 16
#define PACE_US    2000

static uint8_t data[DATA_MAX], got[DATA_MAX + 64];

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static unsigned long number(const char *text, unsigned long max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (*end || end == text || n > max)
		die("%s is not a number up to %lu", text, max);
	return n;
}

// As the guest numbers them: the number, then the pattern with the number as its seed.
static void fill_numbered(uint64_t n, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 8) {
		uint64_t word = at ? pattern_word(n, at) : n;

		memcpy(data + at, &word, bytes - at < 8 ? bytes - at : 8);
	}
}

static int open_socket(int type, int protocol)
{
	int fd = socket(AF_INET, type, protocol);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	return fd;
}

static void connect_to(int fd, const char *ip, unsigned long port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	if (inet_pton(AF_INET, ip, &to.sin_addr) != 1)
		die("%s is no address", ip);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect to %s: %s", ip, strerror(errno));
}

static void send_all(int fd, size_t bytes)
{
	if (send(fd, data, bytes, 0) != (ssize_t)bytes)
		die("send %zu bytes: %s", bytes, strerror(errno));
}

static size_t receive(int fd, const char *what)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	ssize_t n;

	if (poll(&wait, 1, REPLY_MS) != 1)
		die("%s: nothing in %d ms", what, REPLY_MS);
	n = recv(fd, got, sizeof(got), 0);
	if (n < 0)
		die("%s: %s", what, strerror(errno));
	return (size_t)n;
}

static uint16_t checksum(const uint8_t *p, size_t bytes)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum += (uint32_t)p[i] << (i & 1 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

// An echo request for each number, and its own answer before the next.
static void ping(const char *ip, unsigned long count, size_t bytes)
{
	const size_t header = sizeof(struct icmphdr);
	int fd = open_socket(SOCK_RAW, IPPROTO_ICMP);

	connect_to(fd, ip, 0);
	for (unsigned long n = 0; n < count; n++) {
		struct icmphdr echo = {.type = ICMP_ECHO};
		size_t length;

		echo.un.echo.id = htons(0x5645);
		echo.un.echo.sequence = htons((uint16_t)n);
		fill_numbered(n, bytes + header);
		memcpy(data, &echo, header);
		echo.checksum = htons(checksum(data, bytes + header));
		memcpy(data, &echo, header);
		send_all(fd, bytes + header);
		do {
			length = receive(fd, "echo reply");
		} while (length >= IP_BYTES + header && got[IP_BYTES] != ICMP_ECHOREPLY);
		if (length != IP_BYTES + header + bytes)
			die("echo reply %lu has %zu bytes, not %zu", n, length,
				IP_BYTES + header + bytes);
		if (checksum(got + IP_BYTES, length - IP_BYTES))
			die("echo reply %lu has a wrong checksum", n);
		if (memcmp(got + IP_BYTES + 4, data + 4, bytes + header - 4))
			die("echo reply %lu differs from its request", n);
	}
	close(fd);
}

// A few datagrams under way at a time; they come back in order.
static void echo(const char *ip, unsigned long port, unsigned long count, size_t bytes)
{
	const unsigned long window = 8;
	int fd = open_socket(SOCK_DGRAM, 0);
	unsigned long sent = 0;

	connect_to(fd, ip, port);
	for (unsigned long n = 0; n < count; n++) {
		size_t length;

		for (; sent < count && sent < n + window; sent++) {
			fill_numbered(sent, bytes);
			send_all(fd, bytes);
		}
		length = receive(fd, "datagram back");
		fill_numbered(n, bytes);
		if (length != bytes || memcmp(got, data, bytes))
			die("datagram %lu came back with %zu bytes, different", n, length);
	}
	close(fd);
}

// Slowly enough for a TAP's queue.
static void send_numbered(const char *ip, unsigned long port, unsigned long count, size_t bytes)
{
	int fd = open_socket(SOCK_DGRAM, 0);

	connect_to(fd, ip, port);
	for (unsigned long n = 0; n < count; n++) {
		fill_numbered(n, bytes);
		send_all(fd, bytes);
		if (n % PACE_EVERY == PACE_EVERY - 1)
			usleep(PACE_US);
	}
	close(fd);
}

static void receive_numbered(
	const char *interface, unsigned long port, unsigned long count, size_t bytes)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = open_socket(SOCK_DGRAM, 0), room = 8 * MIB;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (setsockopt(
		    fd, SOL_SOCKET, SO_BINDTODEVICE, interface, (socklen_t)strlen(interface) + 1) ||
		bind(fd, (struct sockaddr *)&any, sizeof(any)))
		die("bind to %s: %s", interface, strerror(errno));
	puts("ready");
	fflush(stdout);
	for (unsigned long n = 0; n < count; n++) {
		size_t length = receive(fd, "numbered datagram");

		fill_numbered(n, bytes);
		if (length != bytes || memcmp(got, data, bytes))
			die("datagram %lu of %lu has %zu bytes or differs", n, count, length);
	}
	close(fd);
}

static void quit(const char *ip, unsigned long port)
{
	int fd = open_socket(SOCK_DGRAM, 0);

	connect_to(fd, ip, port);
	memcpy(data, "quit", 4);
	send_all(fd, 4);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned long port = argc > 3 ? number(argv[3], 0xffff) : 0;
	unsigned long count = argc > 4 ? number(argv[4], 1000000) : 0;
	size_t bytes = argc > 5 ? number(argv[5], DATA_MAX - 8) : 0;
	const char *word = argc > 1 ? argv[1] : "";

	if (argc == 6 && !strcmp(word, "ping"))
		ping(argv[2], count, bytes);
	else if (argc == 6 && !strcmp(word, "echo"))
		echo(argv[2], port, count, bytes);
	else if (argc == 6 && !strcmp(word, "send"))
		send_numbered(argv[2], port, count, bytes);
	else if (argc == 6 && !strcmp(word, "recv"))
		receive_numbered(argv[2], port, count, bytes);
	else if (argc == 4 && !strcmp(word, "quit"))
		quit(argv[2], port);
	else
		die("usage: netpeer ping|echo|send|recv IP-or-interface PORT COUNT BYTES, "
		    "netpeer quit IP PORT");
	return 0;
}
