// SPDX-License-Identifier: Apache-2.0
//
// The user-network backend. libslirp wants to be asked which sockets to wait for, and told which
// are ready; those are kept in an epoll descriptor, together with a timer, and the loop's ring
// waits for that one. All of it happens in the device's turn: what the guest sent has gone into
// libslirp by then, and what libslirp has for the guest is in a queue of frames, which drops when
// it is full.
#include "devices/net/user.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/iovec.h"
#include "base/macros.h"
#include "devices/net/user_dns.h"

#define LIBRARY "libslirp.so.0"

#define MTU_DEFAULT 1500

#define FRAMES     256 // towards the guest
#define EVENTS_MAX 64 // sockets that are served in one turn
#define ERRORS_MAX 10 // messages on what a guest does wrong

// What libslirp says when it has nothing to do by a certain time, in milliseconds.
#define IDLE 1000

// The functions of libslirp.
struct library {
	__typeof__(slirp_new) *slirp_new;
	__typeof__(slirp_cleanup) *slirp_cleanup;
	__typeof__(slirp_input) *slirp_input;
	__typeof__(slirp_pollfds_fill) *slirp_pollfds_fill;
	__typeof__(slirp_pollfds_poll) *slirp_pollfds_poll;
	__typeof__(slirp_add_hostfwd) *slirp_add_hostfwd;
};

// What is known of a file descriptor of libslirp's; the index is the descriptor.
struct socket_watch {
	uint32_t events; // waited for, in epoll's words; 0: it is not in the set
	uint32_t ready;
	unsigned turn; // in which libslirp last named it
};

// Immutable once opened are the first part and the frames' size; the rest belongs to the loop's
// thread from open to close.
struct user {
	struct vn_net_backend backend;
	const struct vn_log *log;
	struct library library;
	Slirp *slirp;
	int epoll, timer;

	struct vn_ioloop *loop;
	struct vn_net_port *port; // while open
	struct vn_ioloop_op poll, cancel;
	bool polling, cancelling;
	bool due; // libslirp is to be asked and told in this turn
	unsigned turn;
	int64_t deadline; // of the timer, in milliseconds, or 0
	unsigned errors;
	struct socket_watch *sockets;
	int socket_count;
	struct vn_net_dns dns;

	// A ring of frames: FRAMES slots, `first` the oldest.
	unsigned first, count;
	size_t slot_size;
	uint32_t sizes[FRAMES];
	uint8_t *frames;
	uint8_t sent[VN_NET_PACKET_MAX]; // the packet that the guest sends
};

static struct user *from_backend(struct vn_net_backend *backend)
{
	return container_of(backend, struct user, backend);
}

static int64_t now_ns(void *opaque)
{
	(void)opaque;
	return (int64_t)vn_clock_ns();
}

// libslirp has a frame for the guest. One that is dropped is sent again by whoever misses it.
static ssize_t take_frame(const void *data, size_t size, void *opaque)
{
	struct user *user = opaque;
	if (!user->port || user->count == FRAMES || size > user->slot_size)
		return (ssize_t)size;
	unsigned slot = (user->first + user->count++) % FRAMES;
	memcpy(user->frames + slot * user->slot_size, data, size);
	user->sizes[slot] = (uint32_t)size;
	user->port->ready(user->port);
	return (ssize_t)size;
}

static void take_answer(void *opaque, const void *frame, size_t size)
{
	take_frame(frame, size, opaque);
}

static void guest_error(const char *text, void *opaque)
{
	struct user *user = opaque;
	if (user->errors++ < ERRORS_MAX)
		vn_warn(user->log, "network: the guest: %s", text);
}

// The descriptor was opened or will be closed: drop the cached state.
static void forget_socket(int fd, void *opaque)
{
	struct user *user = opaque;
	if (fd < user->socket_count && user->sockets[fd].events != 0) {
		epoll_ctl(user->epoll, EPOLL_CTL_DEL, fd, NULL);
		user->sockets[fd].events = 0;
	}
}

static void notify(void *opaque)
{
	struct user *user = opaque;
	user->due = true;
}

// There are no timers but those of IPv6, which is off.
static const SlirpCb callbacks = {.send_packet = take_frame,
	.guest_error = guest_error,
	.clock_get_ns = now_ns,
	.register_poll_fd = forget_socket,
	.unregister_poll_fd = forget_socket,
	.notify = notify};

static bool make_room(struct user *user, int fd)
{
	if (fd < user->socket_count)
		return true;
	int count = fd + 64;
	struct socket_watch *sockets = reallocarray(user->sockets, (size_t)count, sizeof(*sockets));
	if (!sockets)
		return false;
	memset(sockets + user->socket_count, 0,
		(size_t)(count - user->socket_count) * sizeof(*sockets));
	user->sockets = sockets;
	user->socket_count = count;
	return true;
}

// libslirp names a descriptor to wait for. It is its own index.
static int add_socket(int fd, int events, void *opaque)
{
	struct user *user = opaque;
	if (fd < 0 || !make_room(user, fd))
		return -1;
	struct socket_watch *watch = &user->sockets[fd];
	uint32_t wanted = (events & SLIRP_POLL_IN ? EPOLLIN : 0u) |
			  (events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
			  (events & SLIRP_POLL_PRI ? EPOLLPRI : 0u) | EPOLLERR | EPOLLHUP;
	watch->turn = user->turn;
	if (watch->events == wanted)
		return fd;
	struct epoll_event event = {.events = wanted, .data.fd = fd};
	if (epoll_ctl(user->epoll, EPOLL_CTL_MOD, fd, &event) < 0 &&
		epoll_ctl(user->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -1;
	watch->events = wanted;
	return fd;
}

static int ready_events(int fd, void *opaque)
{
	const struct user *user = opaque;
	if (fd < 0 || fd >= user->socket_count)
		return 0;
	uint32_t ready = user->sockets[fd].ready;
	return (ready & EPOLLIN ? SLIRP_POLL_IN : 0) | (ready & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
	       (ready & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (ready & EPOLLERR ? SLIRP_POLL_ERR : 0) |
	       (ready & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

// Tell libslirp which of the descriptors that it named are ready.
static void tell(struct user *user)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(user->epoll, events, EVENTS_MAX, 0);
	for (int i = 0; i < count; i++)
		if (!vn_net_dns_ready(&user->dns, events[i].data.fd) &&
			events[i].data.fd < user->socket_count)
			user->sockets[events[i].data.fd].ready = events[i].events;
	user->library.slirp_pollfds_poll(user->slirp, count < 0, ready_events, user);
	for (int i = 0; i < count; i++)
		if (events[i].data.fd < user->socket_count)
			user->sockets[events[i].data.fd].ready = 0;
}

// Have the timer end in `timeout` milliseconds, or earlier: that only costs a turn.
static void set_timer(struct user *user, uint32_t timeout)
{
	int64_t now = (int64_t)(vn_clock_ns() / NS_PER_MS);
	int64_t deadline = timeout < IDLE ? now + timeout : 0;
	bool pending = user->deadline > now;
	if (deadline == user->deadline || (pending && (!deadline || user->deadline < deadline)))
		return;
	struct itimerspec spec = {.it_value = vn_clock_timespec((uint64_t)deadline * NS_PER_MS)};
	timerfd_settime(user->timer, TFD_TIMER_ABSTIME, &spec, NULL);
	user->deadline = deadline;
}

// Ask libslirp what to wait for, and wait for nothing else.
static void ask(struct user *user)
{
	uint32_t timeout = UINT32_MAX;
	user->turn++;
	user->library.slirp_pollfds_fill(user->slirp, &timeout, add_socket, user);
	for (int fd = 0; fd < user->socket_count; fd++)
		if (user->sockets[fd].turn != user->turn)
			forget_socket(fd, user);
	set_timer(user, timeout);
}

static void polled(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct user *user = container_of(op, struct user, poll);
	user->polling = false;
	user->due = user->due || result > 0;
}

static void turn(struct vn_net_backend *backend, unsigned pair)
{
	(void)pair;
	struct user *user = from_backend(backend);
	if (!user->due)
		return;
	user->due = false;
	tell(user);
	ask(user);
	if (!user->polling) {
		io_uring_prep_poll_add(vn_ioloop_sqe(user->loop, &user->poll), user->epoll, POLLIN);
		user->polling = true;
	}
}

static void open_pair(struct vn_net_backend *backend, unsigned pair, struct vn_ioloop *loop,
	struct vn_net_port *port)
{
	(void)pair;
	struct user *user = from_backend(backend);
	user->loop = loop;
	user->port = port;
	user->poll.complete = polled;
	user->due = true;
}

static void cancelled(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)result; // the poll may have ended by itself
	(void)flags;
	struct user *user = container_of(op, struct user, cancel);
	user->cancelling = false;
}

static bool is_quiet(void *arg)
{
	const struct user *user = arg;
	return !user->polling && !user->cancelling;
}

// Connections stay, as they would if the guest's cable were pulled.
static void close_pair(struct vn_net_backend *backend, unsigned pair, bool keep)
{
	(void)pair;
	struct user *user = from_backend(backend);
	user->port = NULL;
	if (!keep)
		user->count = 0;
	if (user->polling) {
		user->cancel.complete = cancelled;
		user->cancelling = true;
		io_uring_prep_cancel(vn_ioloop_sqe(user->loop, &user->cancel), &user->poll, 0);
	}
	vn_ioloop_run_until(user->loop, is_quiet, user);
}

// Copy as much of `size` bytes as there is room for behind the first `offset`; how many.
static size_t scatter(
	const struct iovec *iov, unsigned count, size_t offset, const uint8_t *data, size_t size)
{
	size_t done = 0;
	for (; count > 0 && done < size; iov++, count--) {
		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		size_t part =
			iov->iov_len - offset < size - done ? iov->iov_len - offset : size - done;
		memcpy((uint8_t *)iov->iov_base + offset, data + done, part);
		done += part;
		offset = 0;
	}
	return done;
}

static int receive(
	struct vn_net_backend *backend, unsigned pair, const struct iovec *iov, unsigned count)
{
	(void)pair;
	struct user *user = from_backend(backend);
	if (user->count == 0)
		return -EAGAIN;
	static const uint8_t header[VN_NET_HEADER];
	size_t size = scatter(iov, count, 0, header, sizeof(header));
	size += scatter(iov, count, sizeof(header), user->frames + user->first * user->slot_size,
		user->sizes[user->first]);
	user->first = (user->first + 1) % FRAMES;
	user->count--;
	return (int)size;
}

// Only whole frames: no offload was offered, so the header says nothing that counts.
static void input(struct user *user, const struct vn_net_packet *packet)
{
	if (packet->size < VN_NET_HEADER + ETH_HLEN ||
		packet->size > VN_NET_HEADER + user->slot_size)
		return;
	vn_iovec_gather(user->sent, packet->iov, packet->size);
	const uint8_t *frame = user->sent + VN_NET_HEADER;
	size_t size = packet->size - VN_NET_HEADER;
	if (!vn_net_dns_take(&user->dns, frame, size))
		user->library.slirp_input(user->slirp, frame, (int)size);
	user->due = true;
}

static void send_packet(struct vn_net_backend *backend, unsigned pair, struct vn_ioloop *loop,
	struct vn_net_packet *packet)
{
	(void)pair;
	(void)loop;
	input(from_backend(backend), packet);
	packet->sent(packet);
}

static void destroy(struct vn_net_backend *backend)
{
	struct user *user = from_backend(backend);
	if (user->slirp)
		user->library.slirp_cleanup(user->slirp);
	vn_net_dns_close(&user->dns);
	if (user->timer >= 0)
		close(user->timer);
	if (user->epoll >= 0)
		close(user->epoll);
	free(user->sockets);
	free(user->frames);
	free(user);
}

static const struct vn_net_backend_ops user_ops = {.open = open_pair,
	.close = close_pair,
	.receive = receive,
	.send = send_packet,
	.turn = turn,
	.destroy = destroy};

// It stays loaded: glib, which it brings, cannot be unloaded.
static int load(struct library *library, struct veneer_error *error)
{
	void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!handle)
		return vn_fail(error, -ENOENT,
			"network: user networking needs " LIBRARY
			"; install Debian's package libslirp0: %s",
			dlerror());
	library->slirp_new = (__typeof__(slirp_new) *)dlsym(handle, "slirp_new");
	library->slirp_cleanup = (__typeof__(slirp_cleanup) *)dlsym(handle, "slirp_cleanup");
	library->slirp_input = (__typeof__(slirp_input) *)dlsym(handle, "slirp_input");
	library->slirp_pollfds_fill =
		(__typeof__(slirp_pollfds_fill) *)dlsym(handle, "slirp_pollfds_fill");
	library->slirp_pollfds_poll =
		(__typeof__(slirp_pollfds_poll) *)dlsym(handle, "slirp_pollfds_poll");
	library->slirp_add_hostfwd =
		(__typeof__(slirp_add_hostfwd) *)dlsym(handle, "slirp_add_hostfwd");
	dlclose(handle);
	if (!library->slirp_new || !library->slirp_cleanup || !library->slirp_input ||
		!library->slirp_pollfds_fill || !library->slirp_pollfds_poll ||
		!library->slirp_add_hostfwd)
		return vn_fail(error, -ENOENT, "network: this " LIBRARY " is older than 4.1");
	return 0;
}

static int add_forward(
	struct user *user, const struct vn_net_forward *forward, struct veneer_error *error)
{
	const struct in_addr guest = {htonl(0x0a00020f)};
	char address[INET_ADDRSTRLEN];
	errno = 0;
	if (user->library.slirp_add_hostfwd(user->slirp, forward->udp, forward->address,
		    forward->host_port, guest, forward->guest_port) == 0)
		return 0;
	int code = errno ? -errno : -EIO;
	inet_ntop(AF_INET, &forward->address, address, sizeof(address));
	vn_fail(error, code, "network: cannot forward %s:%s:%u:%u: %s",
		forward->udp ? "udp" : "tcp", address, forward->host_port, forward->guest_port,
		strerror(-code));
	vn_error_set_key(error, "net.hostfwd");
	return code;
}

static int start_slirp(
	struct user *user, const struct vn_net_options *options, struct veneer_error *error)
{
	const SlirpConfig config = {.version = 1,
		.in_enabled = true,
		.vnetwork.s_addr = htonl(0x0a000200),
		.vnetmask.s_addr = htonl(0xffffff00),
		.vhost.s_addr = htonl(0x0a000202),
		.vnameserver.s_addr = htonl(VN_NET_DNS_ADDRESS),
		.vdhcp_start.s_addr = htonl(0x0a00020f),
		.if_mtu = user->backend.mtu,
		.if_mru = user->backend.mtu};
	user->slirp = user->library.slirp_new(&config, &callbacks, user);
	if (!user->slirp)
		return vn_fail(error, -EINVAL, "network: libslirp refuses to start");
	int code = 0;
	for (size_t i = 0; code == 0 && i < options->forwards.count; i++)
		code = add_forward(user, &options->forwards.list[i], error);
	return code;
}

static int open_descriptors(struct user *user, struct veneer_error *error)
{
	struct epoll_event event = {.events = EPOLLIN};
	user->epoll = epoll_create1(EPOLL_CLOEXEC);
	user->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	event.data.fd = user->timer;
	if (user->epoll < 0 || user->timer < 0 ||
		epoll_ctl(user->epoll, EPOLL_CTL_ADD, user->timer, &event) < 0)
		return vn_fail(error, -errno, "network: no epoll or timer descriptor: %s",
			strerror(errno));
	user->dns.epoll = user->epoll;
	return 0;
}

int vn_net_user_open(struct vn_net_backend **backend, const struct vn_net_options *options,
	const struct vn_log *log, struct veneer_error *error)
{
	struct user *user = calloc(1, sizeof(*user));
	if (!user)
		return vn_fail(error, -ENOMEM, "network: no memory");
	user->epoll = user->timer = -1;
	user->log = log;
	user->backend.ops = &user_ops;
	user->backend.pairs = 1;
	user->backend.mtu = MTU_DEFAULT;
	user->dns.log = log;
	user->dns.mtu = user->backend.mtu;
	user->dns.deliver = take_answer;
	user->dns.opaque = user;
	vn_net_dns_open(&user->dns);
	atomic_init(&user->backend.link, true);
	user->slot_size = user->backend.mtu + ETH_HLEN;
	user->frames = calloc(FRAMES, user->slot_size);
	int code = user->frames ? load(&user->library, error)
				: vn_fail(error, -ENOMEM, "network: no memory for frames");
	if (code == 0)
		code = open_descriptors(user, error);
	if (code == 0)
		code = start_slirp(user, options, error);
	if (code < 0) {
		destroy(&user->backend);
		return code;
	}
	*backend = &user->backend;
	return 0;
}
