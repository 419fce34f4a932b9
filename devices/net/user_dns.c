// SPDX-License-Identifier: Apache-2.0
//
// Each query has a socket of its own, connected to the server: answers of others do not reach it,
// and its port, which the kernel chooses, is hard to guess. What is never answered is given up for
// a newer query when all places are taken.
#include "devices/net/user_dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define PORT        "53"

// For how long the file is not looked at again.
#define FRESH_NS NS_PER_S

// The packet's headers before what is cut into fragments: Ethernet and IPv4.
#define FRAME_BYTES (sizeof(struct ethhdr) + sizeof(struct iphdr))

// Whether the line names a server, in numbers as all must; its address, with a scope where it has
// one.
static bool parse_line(const char *line, struct sockaddr_storage *address)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_family = AF_INET6,
		.ai_socktype = SOCK_DGRAM};
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)address;
	struct addrinfo *found;
	char text[128];
	*address = (struct sockaddr_storage){.ss_family = AF_INET};
	if (sscanf(line, "nameserver%*[ \t]%127s", text) != 1)
		return false;
	if (inet_pton(AF_INET, text, &ipv4->sin_addr) == 1)
		return true;
	if (getaddrinfo(text, PORT, &hints, &found) != 0)
		return false;
	memcpy(address, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return true;
}

// The server to ask. False: libslirp has one.
static bool choose_server(FILE *file, struct sockaddr_storage *server)
{
	struct sockaddr_storage address;
	char line[512];
	server->ss_family = AF_UNSPEC;
	while (file && fgets(line, sizeof(line), file)) {
		if (!parse_line(line, &address))
			continue;
		if (address.ss_family == AF_INET)
			return false;
		if (server->ss_family == AF_UNSPEC)
			*server = address;
	}
	return true;
}

static void warn_of_none(struct vn_net_dns *dns)
{
	if (!dns->none_told)
		vn_warn(dns->log, "network: " RESOLV_CONF
				  " names no name server, so the guest's look-ups go to 127.0.0.1; "
				  "if none is there, add a line to the file: nameserver ADDRESS");
	dns->none_told = true;
}

// Find out whom to ask; false: that is libslirp's to do.
static bool find_server(struct vn_net_dns *dns)
{
	uint64_t now = vn_clock_ns();
	if (dns->read_ns != 0 && now - dns->read_ns < FRESH_NS)
		return dns->relays;
	const struct sockaddr_storage before = dns->server;
	FILE *file = fopen(RESOLV_CONF, "re");
	dns->relays = choose_server(file, &dns->server);
	if (file)
		fclose(file);
	dns->read_ns = now;
	if (!dns->relays || dns->server.ss_family != AF_UNSPEC) {
		dns->none_told = false;
	} else {
		struct sockaddr_in *local = (struct sockaddr_in *)&dns->server;
		*local = (struct sockaddr_in){.sin_family = AF_INET,
			.sin_port = htons(53),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		warn_of_none(dns);
	}
	if (memcmp(&before, &dns->server, sizeof(before)) != 0)
		dns->failure_told = false;
	return dns->relays;
}

static void warn_of_failure(struct vn_net_dns *dns, const struct sockaddr_storage *server, int code)
{
	char name[NI_MAXHOST] = "";
	getnameinfo((const struct sockaddr *)server, sizeof(*server), name, sizeof(name), NULL, 0,
		NI_NUMERICHOST);
	if (!dns->failure_told)
		vn_warn(dns->log, "network: the name server %s does not serve the guest: %s", name,
			strerror(code));
	dns->failure_told = true;
}

static void forget(struct vn_net_dns *dns, struct vn_net_dns_query *query)
{
	if (query->fd < 0)
		return;
	close(query->fd);
	query->fd = -1;
	dns->pending--;
}

// A free place, or where all are taken, one in turn.
static struct vn_net_dns_query *take_place(struct vn_net_dns *dns)
{
	struct vn_net_dns_query *query = NULL;
	for (unsigned i = 0; i < VN_NET_DNS_PENDING && (!query || query->fd >= 0); i++)
		query = &dns->queries[dns->next++ % VN_NET_DNS_PENDING];
	forget(dns, query);
	return query;
}

// A socket to the server that has been asked: a descriptor or a negative errno.
static int ask(const struct vn_net_dns *dns, const uint8_t *data, size_t size)
{
	int fd = socket(dns->server.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	if (connect(fd, (const struct sockaddr *)&dns->server, sizeof(dns->server)) == 0 &&
		send(fd, data, size, MSG_NOSIGNAL) >= 0 &&
		epoll_ctl(dns->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
		return fd;
	int code = -errno;
	close(fd);
	return code;
}

// A whole datagram without options to the name server's port. What else goes there is left to
// libslirp.
static bool is_query(const struct vn_net_dns_headers *headers, size_t size)
{
	const size_t before = offsetof(struct vn_net_dns_headers, udp);
	size_t length = ntohs(headers->udp.len);
	return headers->ether.h_proto == htons(ETH_P_IP) && headers->ip.version == 4 &&
	       headers->ip.ihl == 5 && headers->ip.protocol == IPPROTO_UDP &&
	       (headers->ip.frag_off & htons(IP_MF | IP_OFFMASK)) == 0 &&
	       headers->ip.daddr == htonl(VN_NET_DNS_ADDRESS) && headers->udp.dest == htons(53) &&
	       length >= sizeof(headers->udp) && length <= size - before;
}

bool vn_net_dns_take(struct vn_net_dns *dns, const uint8_t *frame, size_t size)
{
	struct vn_net_dns_headers headers;
	if (size < sizeof(headers))
		return false;
	memcpy(&headers, frame, sizeof(headers));
	if (!is_query(&headers, size) || !find_server(dns))
		return false;
	struct vn_net_dns_query *query = take_place(dns);
	query->from = headers;
	query->fd = ask(dns, frame + sizeof(headers), ntohs(headers.udp.len) - sizeof(headers.udp));
	if (query->fd < 0)
		warn_of_failure(dns, &dns->server, -query->fd);
	else
		dns->pending++;
	return true;
}

// The one's complement sum of section 1 of RFC 1071, of what is in network order, unfolded.
static uint32_t sum(const void *data, size_t size, uint32_t start)
{
	const uint8_t *at = data;
	for (size_t i = 0; i < size; i++)
		start += (uint32_t)at[i] << (i % 2 ? 0 : 8);
	return start;
}

static uint16_t fold(uint32_t value)
{
	while (value >> 16)
		value = (value & 0xffff) + (value >> 16);
	return htons((uint16_t)~value);
}

// Deliver `size` bytes of UDP header and data, which are behind FRAME_BYTES at `packet`, in as many
// fragments as they take. Each one's headers overwrite what was delivered before it.
static void deliver(
	struct vn_net_dns *dns, uint8_t *packet, size_t size, struct ethhdr ether, struct iphdr ip)
{
	size_t most = (dns->mtu - sizeof(ip)) & ~(size_t)7, part;
	for (size_t at = 0; at < size; at += part) {
		part = size - at < most ? size - at : most;
		ip.tot_len = htons((uint16_t)(sizeof(ip) + part));
		ip.frag_off = htons((uint16_t)(at / 8 | (at + part < size ? IP_MF : 0)));
		ip.check = 0;
		ip.check = fold(sum(&ip, sizeof(ip), 0));
		memcpy(packet + at, &ether, sizeof(ether));
		memcpy(packet + at + sizeof(ether), &ip, sizeof(ip));
		dns->deliver(dns->opaque, packet + at, FRAME_BYTES + part);
	}
}

// Send an answer of `size` bytes, which is in `answer` behind room for headers, to who asked.
static void answer(struct vn_net_dns *dns, const struct vn_net_dns_headers *from, size_t size)
{
	struct ethhdr ether = {.h_proto = htons(ETH_P_IP)};
	memcpy(ether.h_dest, from->ether.h_source, ETH_ALEN);
	memcpy(ether.h_source, from->ether.h_dest, ETH_ALEN);
	const struct iphdr ip = {.version = 4,
		.ihl = 5,
		.ttl = 64,
		.id = htons(dns->id++),
		.protocol = IPPROTO_UDP,
		.saddr = from->ip.daddr,
		.daddr = from->ip.saddr};
	size += sizeof(struct udphdr);
	struct udphdr udp = {
		.source = from->udp.dest, .dest = from->udp.source, .len = htons((uint16_t)size)};
	uint8_t *at = dns->answer + FRAME_BYTES;
	memcpy(at, &udp, sizeof(udp));
	// Of the pseudo header: addresses, protocol and length.
	const uint32_t pseudo = sum((const uint8_t *)&ip + offsetof(struct iphdr, saddr),
		2 * sizeof(ip.saddr), IPPROTO_UDP + (uint32_t)size);
	udp.check = fold(sum(at, size, pseudo));
	if (udp.check == 0)
		udp.check = 0xffff; // 0 means that there is none
	memcpy(at, &udp, sizeof(udp));
	deliver(dns, dns->answer, size, ether, ip);
}

static void finish(struct vn_net_dns *dns, struct vn_net_dns_query *query)
{
	const size_t room = sizeof(struct vn_net_dns_headers);
	// As much as an IPv4 packet takes.
	ssize_t size = recv(query->fd, dns->answer + room,
		UINT16_MAX - sizeof(struct iphdr) - sizeof(struct udphdr), MSG_DONTWAIT);
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size < 0) {
		int code = errno;
		struct sockaddr_storage server = {.ss_family = AF_UNSPEC};
		socklen_t length = sizeof(server);
		getpeername(query->fd, (struct sockaddr *)&server, &length);
		warn_of_failure(dns, &server, code);
	} else {
		dns->failure_told = false;
		answer(dns, &query->from, (size_t)size);
	}
	forget(dns, query);
}

bool vn_net_dns_ready(struct vn_net_dns *dns, int fd)
{
	for (unsigned i = 0; dns->pending > 0 && i < VN_NET_DNS_PENDING; i++) {
		if (dns->queries[i].fd != fd)
			continue;
		finish(dns, &dns->queries[i]);
		return true;
	}
	return false;
}

void vn_net_dns_open(struct vn_net_dns *dns)
{
	for (unsigned i = 0; i < VN_NET_DNS_PENDING; i++)
		dns->queries[i].fd = -1;
	find_server(dns);
}

void vn_net_dns_close(struct vn_net_dns *dns)
{
	for (unsigned i = 0; i < VN_NET_DNS_PENDING; i++)
		forget(dns, &dns->queries[i]);
}
