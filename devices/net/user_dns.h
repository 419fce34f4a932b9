// SPDX-License-Identifier: Apache-2.0
//
// DNS queries of a guest with user networking, for name servers that libslirp does not know: it
// asks the first IPv4 address in /etc/resolv.conf and nobody where there is none. Then queries over
// UDP are relayed here, to the first IPv6 address or, where the file names nobody, to 127.0.0.1, as
// resolv.conf(5) has it. The file is read again as it changes.
#ifndef VN_NET_USER_DNS_H
#define VN_NET_USER_DNS_H

#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

#define VN_NET_DNS_ADDRESS 0x0a000203u // the guest's name server: 10.0.2.3
#define VN_NET_DNS_PENDING 64

// What is before a query and its answer.
struct vn_net_dns_headers {
	struct ethhdr ether;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

// A query that has no answer yet.
struct vn_net_dns_query {
	int fd; // connected to the server, or -1
	struct vn_net_dns_headers from;
};

// Embedded in the backend; on its loop's thread only, once it is open.
struct vn_net_dns {
	const struct vn_log *log;
	int epoll; // its sockets are added to this
	size_t mtu; // bytes
	void (*deliver)(
		void *opaque, const void *frame, size_t size); // copies a frame for the guest
	void *opaque;

	bool relays; // libslirp knows no server
	struct sockaddr_storage server;
	uint64_t read_ns; // when the file was read, CLOCK_MONOTONIC, or 0
	bool none_told, failure_told; // cleared once it is otherwise

	struct vn_net_dns_query queries[VN_NET_DNS_PENDING];
	unsigned next; // place to look at
	unsigned pending; // places that are taken
	uint16_t id; // of the next IPv4 packet
	uint8_t answer[sizeof(struct vn_net_dns_headers) + 65536];
};

// The fields up to `opaque` are set, `epoll` at the latest before the first frame comes. Warns
// where the host has no name server.
void vn_net_dns_open(struct vn_net_dns *dns);
void vn_net_dns_close(struct vn_net_dns *dns);

// Relay the frame if it is a query that libslirp cannot pass on; false: the frame is for libslirp.
bool vn_net_dns_take(struct vn_net_dns *dns, const uint8_t *frame, size_t size);

// A socket in `epoll` is readable; false: it is none of these.
bool vn_net_dns_ready(struct vn_net_dns *dns, int fd);

#endif
