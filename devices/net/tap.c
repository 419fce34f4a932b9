// SPDX-License-Identifier: Apache-2.0
//
// The TAP backend. The packets of a turn are written by the system call in which the loop waits
// next, or each by its own before Linux 6.4; each is read by a readv of its own. The kernel does
// either at once or not at all. What the loop's ring waits for is that an empty queue has packets
// again, by a poll. Changes of the interface come over a netlink socket, which the first pair's
// loop polls.
#include "devices/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/macros.h"

// UDP segmentation: Linux 6.2, and as those of backend.h.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define FEATURES                                                                                   \
	(BIT64(VIRTIO_NET_F_CSUM) | BIT64(VIRTIO_NET_F_HOST_TSO4) |                                \
		BIT64(VIRTIO_NET_F_HOST_TSO6) | BIT64(VIRTIO_NET_F_HOST_ECN) |                     \
		BIT64(VIRTIO_NET_F_GUEST_CSUM) | BIT64(VIRTIO_NET_F_GUEST_TSO4) |                  \
		BIT64(VIRTIO_NET_F_GUEST_TSO6) | BIT64(VIRTIO_NET_F_GUEST_ECN))
#define GUEST_USO (BIT64(VIRTIO_NET_F_GUEST_USO4) | BIT64(VIRTIO_NET_F_GUEST_USO6))

// A poll that may be in flight, and the request to cancel it.
struct watch {
	struct vn_ioloop *loop;
	struct vn_ioloop_op op, cancel;
	int fd;
	bool armed, cancelling;
};

// One queue of the interface. On its pair's loop from open to close.
struct tap_queue {
	struct tap *tap;
	struct watch watch;
	struct vn_net_port *port; // while open
	bool attached; // the kernel gives it packets
	bool gone; // the interface is
};

// Immutable once opened, but for the queues and the backend's link.
struct tap {
	struct vn_net_backend backend;
	const struct vn_log *log;
	char name[IFNAMSIZ];
	atomic_flag told; // that the interface was deleted
	bool nowait; // the kernel takes RWF_NOWAIT for it: Linux 6.4
	struct watch netlink; // on the first pair's loop
	struct tap_queue queues[VN_QUEUES_MAX];
};

static struct tap *from_backend(struct vn_net_backend *backend)
{
	return container_of(backend, struct tap, backend);
}

static void arm(struct watch *watch)
{
	if (watch->armed)
		return;
	io_uring_prep_poll_add(vn_ioloop_sqe(watch->loop, &watch->op), watch->fd, POLLIN);
	watch->armed = true;
}

static void cancelled(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)result; // the poll may have ended by itself
	(void)flags;
	struct watch *watch = container_of(op, struct watch, cancel);
	watch->cancelling = false;
}

static bool is_quiet(void *arg)
{
	const struct watch *watch = arg;
	return !watch->armed && !watch->cancelling;
}

static void disarm(struct watch *watch)
{
	if (watch->armed) {
		watch->cancel.complete = cancelled;
		watch->cancelling = true;
		io_uring_prep_cancel(vn_ioloop_sqe(watch->loop, &watch->cancel), &watch->op, 0);
	}
	vn_ioloop_run_until(watch->loop, is_quiet, watch);
}

static void queue_ready(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct watch *watch = container_of(op, struct watch, op);
	struct tap_queue *queue = container_of(watch, struct tap_queue, watch);
	watch->armed = false;
	if (result > 0 && queue->port && queue->attached)
		queue->port->ready(queue->port);
}

static int flags_of(const struct tap *tap)
{
	struct ifreq request = {.ifr_flags = 0};
	memcpy(request.ifr_name, tap->name, sizeof(request.ifr_name));
	return ioctl(tap->netlink.fd, SIOCGIFFLAGS, &request) < 0
		       ? -errno
		       : (unsigned short)request.ifr_flags;
}

static bool is_up(const struct tap *tap)
{
	int flags = flags_of(tap);
	return flags >= 0 && (flags & IFF_UP);
}

// Any loop may be the first to notice.
static void tell_deleted(struct tap *tap)
{
	if (!atomic_flag_test_and_set(&tap->told))
		vn_warn(tap->log, "network: interface %s was deleted", tap->name);
}

// The first queue is always attached, so nothing else takes its interface away.
static bool is_deleted(const struct tap *tap)
{
	struct ifreq request;
	return ioctl(tap->queues[0].watch.fd, TUNGETIFF, &request) < 0 && errno == EBADFD;
}

static void look_at_link(struct tap *tap, struct vn_net_port *port)
{
	bool link = is_up(tap);
	if (atomic_exchange_explicit(&tap->backend.link, link, memory_order_relaxed) != link)
		port->link_changed(port);
}

// What the messages say does not matter, only that there were some: then look.
static void netlink_ready(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct watch *watch = container_of(op, struct watch, op);
	struct tap *tap = container_of(watch, struct tap, netlink);
	struct vn_net_port *port = tap->queues[0].port;
	watch->armed = false;
	if (result < 0 || !port)
		return;
	char message[4096];
	ssize_t size;
	do
		size = recv(watch->fd, message, sizeof(message), MSG_DONTWAIT);
	while (size > 0 || (size < 0 && errno == ENOBUFS));
	look_at_link(tap, port);
	if (is_deleted(tap))
		tell_deleted(tap);
	arm(watch);
}

static void open_queue(struct vn_net_backend *backend, unsigned pair, struct vn_ioloop *loop,
	struct vn_net_port *port)
{
	struct tap *tap = from_backend(backend);
	struct tap_queue *queue = &tap->queues[pair];
	queue->port = port;
	queue->watch.loop = loop;
	queue->watch.op.complete = queue_ready;
	if (queue->attached && !queue->gone)
		arm(&queue->watch);
	if (pair > 0)
		return;
	tap->netlink.loop = loop;
	tap->netlink.op.complete = netlink_ready;
	look_at_link(tap, port);
	arm(&tap->netlink);
}

static void close_queue(struct vn_net_backend *backend, unsigned pair, bool keep)
{
	(void)keep; // it is with the kernel
	struct tap *tap = from_backend(backend);
	struct tap_queue *queue = &tap->queues[pair];
	queue->port = NULL;
	disarm(&queue->watch);
	if (pair == 0)
		disarm(&tap->netlink);
}

// An interface that is down has no packets. One that was deleted never has: polling it would end at
// once, again and again.
static int receive(
	struct vn_net_backend *backend, unsigned pair, const struct iovec *iov, unsigned count)
{
	struct tap *tap = from_backend(backend);
	struct tap_queue *queue = &tap->queues[pair];
	ssize_t size;
	do
		size = readv(queue->watch.fd, iov, (int)count);
	while (size < 0 && errno == EINTR);
	if (size >= (ssize_t)VN_NET_HEADER)
		return (int)size;
	if (size < 0 && errno == EBADFD && queue->attached) {
		queue->gone = true;
		tell_deleted(tap);
	} else if (queue->attached) {
		arm(&queue->watch);
	}
	return -EAGAIN;
}

// The kernel drops what it cannot send: EIO from an interface that is down, EINVAL for a header
// that does not fit the packet, EAGAIN when the socket's buffer is full.
static void written(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)result;
	(void)flags;
	struct vn_net_packet *packet = container_of(op, struct vn_net_packet, op);
	packet->sent(packet);
}

// Submissions are carried out one after the other, by the system call that makes them: with
// RWF_NOWAIT none is put off, neither to wait for room nor to another thread. Without that, packets
// go one by one.
static void send_packet(struct vn_net_backend *backend, unsigned pair, struct vn_ioloop *loop,
	struct vn_net_packet *packet)
{
	const struct tap *tap = from_backend(backend);
	int fd = tap->queues[pair].watch.fd;
	if (!tap->nowait) {
		while (writev(fd, packet->iov, (int)packet->count) < 0 && errno == EINTR)
			;
		packet->sent(packet);
		return;
	}
	packet->op.complete = written;
	struct io_uring_sqe *sqe = vn_ioloop_sqe(loop, &packet->op);
	if (packet->count == 1)
		io_uring_prep_write(
			sqe, fd, packet->iov->iov_base, (unsigned)packet->iov->iov_len, 0);
	else
		io_uring_prep_writev(sqe, fd, packet->iov, packet->count, 0);
	sqe->rw_flags = RWF_NOWAIT;
	vn_ioloop_use_registered(loop, sqe);
}

static int attach(struct vn_net_backend *backend, unsigned pair, bool attached)
{
	struct tap_queue *queue = &from_backend(backend)->queues[pair];
	struct ifreq request = {.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
	if (ioctl(queue->watch.fd, TUNSETQUEUE, &request) < 0)
		return -errno;
	queue->attached = attached;
	if (attached && queue->port)
		arm(&queue->watch);
	return 0;
}

// Segmentation needs checksums, in the kernel as in section 5.1.3.1. The kernel leaves datagrams
// whole for both versions of IP or for none.
static int set_offloads(struct vn_net_backend *backend, uint64_t features)
{
	unsigned long flags = 0;
	if (features & BIT64(VIRTIO_NET_F_GUEST_CSUM)) {
		flags |= TUN_F_CSUM;
		if (features & BIT64(VIRTIO_NET_F_GUEST_TSO4))
			flags |= TUN_F_TSO4;
		if (features & BIT64(VIRTIO_NET_F_GUEST_TSO6))
			flags |= TUN_F_TSO6;
		if ((features & BIT64(VIRTIO_NET_F_GUEST_ECN)) &&
			(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
			flags |= TUN_F_TSO_ECN;
		if ((features & GUEST_USO) == GUEST_USO)
			flags |= TUN_F_USO4 | TUN_F_USO6;
	}
	int fd = from_backend(backend)->queues[0].watch.fd;
	return ioctl(fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

static int descriptor(struct vn_net_backend *backend, unsigned pair)
{
	return from_backend(backend)->queues[pair].watch.fd;
}

static void destroy(struct vn_net_backend *backend)
{
	struct tap *tap = from_backend(backend);
	for (unsigned i = backend->pairs; i-- > 0;)
		close(tap->queues[i].watch.fd);
	if (tap->netlink.fd >= 0)
		close(tap->netlink.fd);
	free(tap);
}

static const struct vn_net_backend_ops tap_ops = {.open = open_queue,
	.close = close_queue,
	.receive = receive,
	.send = send_packet,
	.attach = attach,
	.set_offloads = set_offloads,
	.descriptor = descriptor,
	.destroy = destroy};

static int open_netlink(struct tap *tap, struct veneer_error *error)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	tap->netlink.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (tap->netlink.fd < 0 ||
		bind(tap->netlink.fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return vn_fail(error, -errno, "network: cannot watch interface %s: %s", tap->name,
			strerror(errno));
	return 0;
}

static int missing(const struct tap *tap, bool multi_queue, struct veneer_error *error)
{
	return vn_fail(error, -ENODEV,
		"network: there is no interface %s; make it: "
		"ip tuntap add %s mode tap%s user \"$(id -un)\"; ip link set %s up",
		tap->name, tap->name, multi_queue ? " multi_queue" : "", tap->name);
}

// Make `fd` a queue of the interface: 0 or a negative errno. The kernel would make an interface
// that is missing, for those who may, so that is looked at before.
static int join(const struct tap *tap, int fd, bool multi_queue)
{
	struct ifreq request = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
						     (multi_queue ? IFF_MULTI_QUEUE : 0))};
	memcpy(request.ifr_name, tap->name, sizeof(request.ifr_name));
	return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : 0;
}

static int refusal(const struct tap *tap, int code, bool multi_queue, struct veneer_error *error)
{
	const char *name = tap->name;
	switch (code) {
	case -EBUSY:
		return vn_fail(
			error, code, "network: interface %s is in use by another program", name);
	case -E2BIG:
		return vn_fail(error, code, "network: interface %s has no queues left", name);
	case -EPERM:
		return vn_fail(error, code,
			"network: interface %s belongs to another user; make it again: "
			"ip link delete %s; ip tuntap add %s mode tap%s user \"$(id -un)\"; "
			"ip link set %s up",
			name, name, name, multi_queue ? " multi_queue" : "", name);
	case -EINVAL:
		return vn_fail(error, code, "network: interface %s is not a TAP interface", name);
	default:
		return vn_fail(error, code, "network: cannot open interface %s: %s", name,
			strerror(-code));
	}
}

static int open_tun(const struct tap *tap, struct veneer_error *error)
{
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	return vn_fail(error, -errno, "network: interface %s: cannot open /dev/net/tun: %s%s",
		tap->name, strerror(errno),
		errno == ENOENT || errno == ENODEV ? "; load it: modprobe tun" : "");
}

// The first queue, which finds out whether the interface has several: the kernel refuses both those
// that are asked for and not there and those that are there and not asked for.
static int open_first(struct tap *tap, unsigned queues, struct veneer_error *error)
{
	bool multi_queue = queues > 1;
	int flags = flags_of(tap);
	if (flags == -ENODEV)
		return missing(tap, multi_queue, error);
	int fd = open_tun(tap, error);
	if (fd < 0)
		return fd;
	tap->queues[0].watch.fd = fd;
	tap->backend.pairs = 1;
	int code = join(tap, fd, multi_queue);
	if (code != -EINVAL)
		return code < 0 ? refusal(tap, code, multi_queue, error) : 0;
	int other = join(tap, fd, !multi_queue);
	if (other == -EINVAL || !multi_queue)
		return other < 0 ? refusal(tap, other, multi_queue, error) : 0;
	return vn_fail(error, -EINVAL,
		"network: interface %s has one queue, not %u; make it again: ip link delete %s; "
		"ip tuntap add %s mode tap multi_queue user \"$(id -un)\"; ip link set %s up",
		tap->name, queues, tap->name, tap->name, tap->name);
}

// The interface is asked for its MTU, address and state by its name, in the network namespace of
// this thread, where another one may have that name.
static bool is_here(const struct tap *tap)
{
	struct ifreq of_queue = {.ifr_flags = 0}, of_name = {.ifr_flags = 0};
	memcpy(of_name.ifr_name, tap->name, sizeof(of_name.ifr_name));
	return ioctl(tap->queues[0].watch.fd, SIOCGIFHWADDR, &of_queue) == 0 &&
	       ioctl(tap->netlink.fd, SIOCGIFHWADDR, &of_name) == 0 &&
	       memcmp(of_queue.ifr_hwaddr.sa_data, of_name.ifr_hwaddr.sa_data,
		       sizeof(tap->backend.host_mac)) == 0;
}

static int check_queue(
	struct tap *tap, const char *called, unsigned queues, struct veneer_error *error)
{
	static const int needed = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	struct ifreq request = {.ifr_flags = 0};
	if (ioctl(tap->queues[0].watch.fd, TUNGETIFF, &request) < 0)
		return vn_fail(error, -EINVAL,
			"network: %s is no queue of a TAP interface (TUNSETIFF)", called);
	memcpy(tap->name, request.ifr_name, sizeof(tap->name));
	if ((request.ifr_flags & needed) != needed)
		return vn_fail(error, -EINVAL,
			"network: %s was not made with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
			called);
	if (queues > 1 && !(request.ifr_flags & IFF_MULTI_QUEUE))
		return vn_fail(error, -EINVAL,
			"network: %s is the only queue that interface %s can have, not one of %u; "
			"make it with IFF_MULTI_QUEUE, or leave out queues=%u",
			called, tap->name, queues, queues);
	if (!is_here(tap))
		return vn_fail(error, -ENODEV,
			"network: %s is a queue of interface %s of another network namespace",
			called, tap->name);
	return 0;
}

// A queue that the embedding program opened, perhaps with more privileges than are left. TUNSETIFF
// has bound it to its open file description, so there can be no other one: this one becomes
// non-blocking, also for the program.
static int take_first(
	struct tap *tap, const struct vn_file *file, unsigned queues, struct veneer_error *error)
{
	char text[32];
	const char *called = vn_file_called(file, text);
	int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return vn_fail(error, -errno, "network: %s: %s", called, strerror(errno));
	tap->queues[0].watch.fd = fd;
	tap->backend.pairs = 1;
	int code = check_queue(tap, called, queues, error);
	if (code < 0)
		return code;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return vn_fail(error, -errno, "network: %s: %s", called, strerror(errno));
	return 0;
}

static int open_further(struct tap *tap, unsigned queues, struct veneer_error *error)
{
	while (tap->backend.pairs < queues) {
		int fd = open_tun(tap, error);
		if (fd < 0)
			return fd;
		unsigned i = tap->backend.pairs++;
		tap->queues[i].watch.fd = fd;
		int code = join(tap, fd, true);
		if (code == 0)
			code = attach(&tap->backend, i, false);
		if (code < 0)
			return refusal(tap, code, true, error);
	}
	return 0;
}

static int measure(struct tap *tap, unsigned mtu, struct veneer_error *error)
{
	int size = VN_NET_HEADER;
	if (ioctl(tap->queues[0].watch.fd, TUNSETVNETHDRSZ, &size) < 0)
		return refusal(tap, -errno, false, error);
	struct ifreq request = {.ifr_mtu = 0};
	memcpy(request.ifr_name, tap->name, sizeof(request.ifr_name));
	if (ioctl(tap->netlink.fd, SIOCGIFMTU, &request) < 0)
		return refusal(tap, -errno, false, error);
	if (mtu > (unsigned)request.ifr_mtu)
		return vn_fail(error, -EINVAL,
			"network: an MTU of %u is above the %d of interface %s; raise that: "
			"ip link set %s mtu %u",
			mtu, request.ifr_mtu, tap->name, tap->name, mtu);
	tap->backend.mtu = (uint16_t)(mtu ? mtu : (unsigned)request.ifr_mtu);
	if (ioctl(tap->netlink.fd, SIOCGIFHWADDR, &request) < 0)
		return refusal(tap, -errno, false, error);
	memcpy(tap->backend.host_mac, request.ifr_hwaddr.sa_data, sizeof(tap->backend.host_mac));
	atomic_init(&tap->backend.link, is_up(tap));
	return 0;
}

// Find out what the kernel can do. One that leaves datagrams whole on their way in takes whole ones
// on their way out.
static int probe(struct tap *tap, struct veneer_error *error)
{
	tap->backend.features = FEATURES;
	if (set_offloads(&tap->backend, BIT64(VIRTIO_NET_F_GUEST_CSUM) | GUEST_USO) == 0)
		tap->backend.features |= GUEST_USO | BIT64(VIRTIO_NET_F_HOST_USO);
	// What is too short for a header is no packet, but the kernel looks at the flag first.
	const struct iovec none = {&(char){0}, 1};
	tap->nowait = pwritev2(tap->queues[0].watch.fd, &none, 1, -1, RWF_NOWAIT) >= 0 ||
		      errno != EOPNOTSUPP;
	int code = set_offloads(&tap->backend, 0);
	return code < 0 ? refusal(tap, code, false, error) : 0;
}

int vn_net_tap_open(struct vn_net_backend **backend, const struct vn_net_options *options,
	const struct vn_log *log, struct veneer_error *error)
{
	char text[32];
	struct tap *tap = calloc(1, sizeof(*tap));
	if (!tap)
		return vn_fail(error, -ENOMEM, "network: no memory");
	strncpy(tap->name, vn_file_called(&options->tap, text), sizeof(tap->name) - 1);
	tap->log = log;
	atomic_flag_clear(&tap->told);
	tap->backend.ops = &tap_ops;
	tap->queues[0].attached = true;
	int code = open_netlink(tap, error);
	if (code == 0)
		code = options->tap.name ? open_first(tap, options->queues, error)
					 : take_first(tap, &options->tap, options->queues, error);
	if (code == 0)
		code = open_further(tap, options->queues, error);
	if (code == 0)
		code = measure(tap, options->mtu, error);
	if (code == 0)
		code = probe(tap, error);
	if (code < 0) {
		destroy(&tap->backend);
		return code;
	}
	tap->backend.name = tap->name;
	*backend = &tap->backend;
	return 0;
}
