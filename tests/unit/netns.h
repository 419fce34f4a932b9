// SPDX-License-Identifier: Apache-2.0
//
// A network of the test's own, for tests: a namespace with TAP interfaces that the test makes, and
// packet sockets on them. Helpers that nothing in a given test calls are of no concern to the
// compiler.
#ifndef VN_TEST_NETNS_H
#define VN_TEST_NETNS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/macros.h"

#define NETNS_UNUSED __attribute__((unused))

// An Ethernet type that is for experiments, so that nothing else on an interface has it.
#define NETNS_ETHERTYPE 0x88b5

NETNS_UNUSED static bool netns_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return written;
}

// An ioctl about an interface, through a socket for that.
NETNS_UNUSED static bool netns_ioctl(unsigned long request, struct ifreq *of)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool done = ioctl(fd, request, of) == 0;
	close(fd);
	return done;
}

NETNS_UNUSED static struct ifreq netns_named(const char *name)
{
	struct ifreq request = {.ifr_flags = 0};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return request;
}

// A TAP interface carries packets at once when it is set up after its user has joined it; otherwise
// the kernel makes it do so some time later, and drops what is sent before.
NETNS_UNUSED static bool netns_set_up(const char *name, bool up)
{
	struct ifreq request = netns_named(name);
	if (!netns_ioctl(SIOCGIFFLAGS, &request))
		return false;
	request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
	return netns_ioctl(SIOCSIFFLAGS, &request);
}

NETNS_UNUSED static bool netns_set_mtu(const char *name, int mtu)
{
	struct ifreq request = netns_named(name);
	request.ifr_mtu = mtu;
	return netns_ioctl(SIOCSIFMTU, &request);
}

// Join the interface, or make it, and say whether it stays without whoever uses it.
NETNS_UNUSED static bool netns_tap(const char *name, int flags, bool stays)
{
	struct ifreq request = netns_named(name);
	request.ifr_flags = (short)(flags | IFF_NO_PI);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	bool done = fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 &&
		    ioctl(fd, TUNSETPERSIST, stays ? 1 : 0) == 0;
	if (fd >= 0)
		close(fd);
	return done;
}

// Enter a namespace of its own, before the first thread, where the caller may do all that the tests
// do. NULL, or why that cannot be.
NETNS_UNUSED static const char *netns_enter(void)
{
	unsigned uid = getuid(), gid = getgid();
	if (unshare(CLONE_NEWNET) < 0) {
		char map[64];
		if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
			return "no network namespace may be made here";
		snprintf(map, sizeof(map), "0 %u 1", uid);
		netns_write("/proc/self/setgroups", "deny");
		if (!netns_write("/proc/self/uid_map", map))
			return "no user namespace may be made here";
		snprintf(map, sizeof(map), "0 %u 1", gid);
		if (!netns_write("/proc/self/gid_map", map))
			return "no user namespace may be made here";
	}
	// Interfaces shall be silent but for what the tests send.
	netns_write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	if (!netns_set_up("lo", true))
		return "the loopback interface cannot be configured here";
	if (!netns_tap("probe", IFF_TAP, true) || !netns_tap("probe", IFF_TAP, false))
		return "no TAP interface can be made here: see /dev/net/tun";
	return NULL;
}

// What a test program without its network says.
NETNS_UNUSED static int netns_skip(const char *reason)
{
	printf("1..0 # SKIP %s\n", reason);
	return 0;
}

// A packet socket for `protocol` on an interface, whose packets are behind a 10-byte virtio-net
// header in both directions, or -1.
NETNS_UNUSED static int netns_packets(const char *name, int protocol)
{
	struct ifreq request = netns_named(name);
	if (!netns_ioctl(SIOCGIFINDEX, &request))
		return -1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	int on = 1, size = 4 * MIB;
	struct timeval patience = {.tv_sec = 10};
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
		.sll_protocol = htons((uint16_t)protocol),
		.sll_ifindex = request.ifr_ifindex};
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
		bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

#endif
