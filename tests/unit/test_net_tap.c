// SPDX-License-Identifier: Apache-2.0
//
// The TAP backend by itself: what it refuses and what it then advises, and which way packets go, on
// interfaces of a network namespace of the test's own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/virtio_net.h>
#include <pthread.h>

#include "base/macros.h"
#include "devices/net/tap.h"
#include "netns.h"

#define PACKET 100 // bytes, the header among them

// One queue of a backend, as a device has it, and what was told to it.
struct bench {
	struct vn_net_backend *backend;
	struct vn_ioloop *loop;
	struct pair {
		struct vn_net_port port;
		unsigned index;
		bool readable;
		unsigned link_changes;
	} pairs[2];
	struct vn_log log;
	pthread_mutex_t lock;
	char warning[512]; // under the lock
};

static struct bench bench = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void message(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	(void)severity;
	pthread_mutex_lock(&bench.lock);
	snprintf(bench.warning, sizeof(bench.warning), "%s", text);
	pthread_mutex_unlock(&bench.lock);
}

static int try_open(const char *name, unsigned queues, unsigned mtu, struct veneer_error *error)
{
	struct vn_net_options options = {
		.tap = {.name = (char *)(uintptr_t)name, .fd = -1}, .queues = queues, .mtu = mtu};
	return vn_net_tap_open(&bench.backend, &options, &bench.log, error);
}

static void assert_refused(
	const char *name, unsigned queues, unsigned mtu, int code, const char *text)
{
	struct veneer_error error = {.code = 0};
	assert_int_equal(try_open(name, queues, mtu, &error), code);
	if (!strstr(error.message, text))
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
	assert_null(strchr(error.message, '\n'));
}

static void assert_opens(const char *name, unsigned queues, unsigned mtu)
{
	struct veneer_error error = {.code = 0};
	if (try_open(name, queues, mtu, &error) < 0)
		fail_msg("%s", error.message);
}

static void close_backend(void)
{
	bench.backend->ops->destroy(bench.backend);
}

static void refuses_names(void **state)
{
	(void)state;
	static const char *const bad[] = {"tap", "tap=", "tap=sixteen-bytes-ab", "tap=a/b"};
	uint64_t given;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vn_net_options options;
		struct veneer_error error = {.code = 0};
		assert_int_equal(
			vn_option_parse(&vn_net_option, &options, &given, bad[i], &error), -EINVAL);
		assert_non_null(strstr(error.message, i == 0 ? "tap=NAME" : "interface"));
	}
	struct vn_net_options options;
	struct veneer_error error = {.code = 0};
	assert_int_equal(
		vn_option_parse(&vn_net_option, &options, &given, "tap=fifteen-bytes-a", &error),
		0);
	vn_option_release(&vn_net_option, &options);
}

static void refuses_what_is_missing(void **state)
{
	(void)state;
	assert_refused("none0", 1, 0, -ENODEV,
		"there is no interface none0; make it: ip tuntap add none0 mode tap user");
	assert_refused("none0", 2, 0, -ENODEV, "mode tap multi_queue user");
	// Asking has not made it.
	struct ifreq request = netns_named("none0");
	assert_false(netns_ioctl(SIOCGIFINDEX, &request));
}

static void refuses_other_kinds(void **state)
{
	(void)state;
	assert_refused("lo", 1, 0, -EINVAL, "lo is not a TAP interface");
	assert_refused("lo", 2, 0, -EINVAL, "lo is not a TAP interface");
	assert_true(netns_tap("tun9", IFF_TUN, true));
	assert_refused("tun9", 1, 0, -EINVAL, "tun9 is not a TAP interface");
	assert_true(netns_tap("tun9", IFF_TUN, false));
}

static void refuses_one_queue_for_several(void **state)
{
	(void)state;
	assert_true(netns_tap("tap0", IFF_TAP, true));
	assert_refused("tap0", 3, 0, -EINVAL,
		"tap0 has one queue, not 3; make it again: ip link delete tap0; "
		"ip tuntap add tap0 mode tap multi_queue");
	assert_true(netns_tap("tap0", IFF_TAP, false));
}

static void refuses_what_is_busy(void **state)
{
	(void)state;
	assert_true(netns_tap("tap0", IFF_TAP, true));
	assert_opens("tap0", 1, 0);
	struct vn_net_backend *first = bench.backend;
	assert_refused("tap0", 1, 0, -EBUSY, "tap0 is in use by another program");
	first->ops->destroy(first);
	assert_opens("tap0", 1, 0);
	close_backend();
	assert_true(netns_tap("tap0", IFF_TAP, false));
}

static void refuses_a_large_mtu(void **state)
{
	(void)state;
	assert_true(netns_tap("tap0", IFF_TAP, true));
	assert_refused("tap0", 1, 1501, -EINVAL,
		"1501 is above the 1500 of interface tap0; raise that: ip link set tap0 mtu 1501");
	assert_opens("tap0", 1, 1400);
	assert_int_equal(bench.backend->mtu, 1400);
	close_backend();
	assert_true(netns_set_mtu("tap0", 9000));
	assert_opens("tap0", 1, 0);
	assert_int_equal(bench.backend->mtu, 9000);
	assert_int_equal(bench.backend->pairs, 1);
	close_backend();
	assert_true(netns_tap("tap0", IFF_TAP, false));
}

// An interface with several queues serves a guest that has one.
static void opens_one_of_several(void **state)
{
	(void)state;
	assert_true(netns_tap("tap0", IFF_TAP | IFF_MULTI_QUEUE, true));
	assert_opens("tap0", 1, 0);
	assert_int_equal(bench.backend->pairs, 1);
	close_backend();
	assert_true(netns_tap("tap0", IFF_TAP | IFF_MULTI_QUEUE, false));
}

// A queue that the embedding program has opened: of an interface that is deleted with it.
static int queue_of(const char *name, int flags)
{
	struct ifreq request = netns_named(name);
	request.ifr_flags = (short)flags;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	return fd;
}

static int try_descriptor(int fd, unsigned queues, struct veneer_error *error)
{
	struct vn_net_options options = {.tap = {.fd = fd}, .queues = queues};
	return vn_net_tap_open(&bench.backend, &options, &bench.log, error);
}

static void assert_descriptor_refused(int fd, unsigned queues, int code, const char *text)
{
	struct veneer_error error = {.code = 0};
	char called[32];
	int flags = fcntl(fd, F_GETFL);
	snprintf(called, sizeof(called), "descriptor %d", fd);
	assert_int_equal(try_descriptor(fd, queues, &error), code);
	if (!strstr(error.message, text) || !strstr(error.message, called))
		fail_msg("\"%s\" does not say \"%s\" of %s", error.message, text, called);
	assert_int_equal(fcntl(fd, F_GETFL), flags);
}

static void opens_descriptors(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	int one = queue_of("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	int many = queue_of("tap1", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);
	for (unsigned queues = 1; queues <= 3; queues++) {
		int fd = queues == 1 ? one : many;
		if (try_descriptor(fd, queues, &error) < 0)
			fail_msg("%s", error.message);
		assert_int_equal(bench.backend->pairs, queues);
		assert_string_equal(bench.backend->name, queues == 1 ? "tap0" : "tap1");
		close_backend();
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	}
	close(one);
	close(many);
}

static void refuses_other_descriptors(void **state)
{
	(void)state;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fresh = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int bare = queue_of("tap0", IFF_TAP | IFF_NO_PI);
	int one = queue_of("tap1", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	assert_descriptor_refused(null, 1, -EINVAL, "is no queue of a TAP interface");
	assert_descriptor_refused(fresh, 1, -EINVAL, "is no queue of a TAP interface");
	assert_descriptor_refused(bare, 1, -EINVAL, "IFF_TAP, IFF_NO_PI and IFF_VNET_HDR");
	assert_descriptor_refused(one, 2, -EINVAL,
		"is the only queue that interface tap1 can have, not one of 2; "
		"make it with IFF_MULTI_QUEUE, or leave out queues=2");
	close(null);
	close(fresh);
	close(bare);
	close(one);
}

// Neither without an interface of that name here, nor with one.
static void refuses_another_namespace(void **state)
{
	(void)state;
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int there = queue_of("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	assert_descriptor_refused(there, 1, -ENODEV, "tap0 of another network namespace");
	int here = queue_of("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	assert_descriptor_refused(there, 1, -ENODEV, "tap0 of another network namespace");
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	close(here);
	close(there);
	close(home);
}

static void ready(struct vn_net_port *port)
{
	((struct pair *)port)->readable = true;
}

static void link_changed(struct vn_net_port *port)
{
	((struct pair *)port)->link_changes++;
}

static void open_on_loop(void *arg)
{
	struct pair *pair = arg;
	bench.backend->ops->open(bench.backend, pair->index, bench.loop, &pair->port);
}

static void close_on_loop(void *arg)
{
	struct pair *pair = arg;
	bench.backend->ops->close(bench.backend, pair->index, false);
}

static int start_two(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	assert_true(netns_tap("tap0", IFF_TAP | IFF_MULTI_QUEUE, true));
	assert_opens("tap0", 2, 0);
	assert_int_equal(bench.backend->pairs, 2);
	assert_true(netns_set_up("tap0", true));
	assert_int_equal(vn_ioloop_create(&bench.loop, "test", 16, NULL, &error), 0);
	bench.warning[0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		bench.pairs[i] = (struct pair){.index = i, .port = {ready, link_changed}};
		vn_ioloop_call(bench.loop, open_on_loop, &bench.pairs[i]);
	}
	return 0;
}

static void close_two(void)
{
	for (unsigned i = 0; i < 2; i++)
		vn_ioloop_call(bench.loop, close_on_loop, &bench.pairs[i]);
	vn_ioloop_destroy(bench.loop);
	close_backend();
}

static int stop_two(void **state)
{
	(void)state;
	close_two();
	return netns_tap("tap0", IFF_TAP | IFF_MULTI_QUEUE, false) ? 0 : -1;
}

// One look at a pair, as a device takes it in a turn.
struct look {
	struct pair *pair;
	uint8_t data[4096];
	int size;
	unsigned link_changes;
};

static void look_on_loop(void *arg)
{
	struct look *look = arg;
	struct iovec iov = {look->data, sizeof(look->data)};
	look->link_changes = look->pair->link_changes;
	look->size = -EAGAIN;
	if (!look->pair->readable)
		return;
	look->size = bench.backend->ops->receive(bench.backend, look->pair->index, &iov, 1);
	if (look->size < 0)
		look->pair->readable = false;
}

// The next packet of a pair, waiting for it where `wait` says so.
static int next_packet(unsigned index, struct look *look, bool wait)
{
	look->pair = &bench.pairs[index];
	for (unsigned i = 0; i < (wait ? 100000 : 100); i++) {
		vn_ioloop_call(bench.loop, look_on_loop, look);
		if (look->size > 0)
			return look->size;
		usleep(100);
	}
	return look->size;
}

static void put_on_wire(int fd, unsigned number)
{
	uint8_t packet[PACKET - 2] = {0}; // the header of packet sockets is 10 bytes
	memset(packet + 10, 0xff, 6);
	packet[10 + 12] = NETNS_ETHERTYPE >> 8;
	packet[10 + 13] = NETNS_ETHERTYPE & 0xff;
	packet[10 + 14] = (uint8_t)number;
	assert_int_equal(send(fd, packet, sizeof(packet), 0), sizeof(packet));
}

static void assert_packet(const struct look *look, unsigned number)
{
	assert_int_equal(look->size, PACKET);
	assert_int_equal(look->data[12 + 14], number);
}

static void receives_in_order(void **state)
{
	(void)state;
	static struct look look;
	int fd = netns_packets("tap0", 0);
	assert_true(fd >= 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 50; i++)
			put_on_wire(fd, i);
		for (unsigned i = 0; i < 50; i++) {
			next_packet(0, &look, true);
			assert_packet(&look, i);
		}
		assert_int_equal(next_packet(0, &look, false), -EAGAIN);
	}
	close(fd);
}

struct attachment {
	unsigned pair;
	bool attached;
	int code;
};

static void attach_on_loop(void *arg)
{
	struct attachment *to = arg;
	to->code = bench.backend->ops->attach(bench.backend, to->pair, to->attached);
}

static int attach(unsigned pair, bool attached)
{
	struct attachment to = {pair, attached, 0};
	vn_ioloop_call(bench.loop, attach_on_loop, &to);
	return to.code;
}

struct sending {
	struct vn_net_packet packet;
	unsigned pair;
	bool sent;
};

static void packet_sent(struct vn_net_packet *packet)
{
	((struct sending *)packet)->sent = true;
}

static bool is_sent(void *arg)
{
	return ((struct sending *)arg)->sent;
}

static void send_on_loop(void *arg)
{
	struct sending *sending = arg;
	bench.backend->ops->send(bench.backend, sending->pair, bench.loop, &sending->packet);
	vn_ioloop_run_until(bench.loop, is_sent, sending);
}

static void send_from(unsigned index, unsigned number)
{
	uint8_t packet[PACKET] = {0};
	memset(packet + 12, 0xff, 6);
	packet[12 + 6] = 0x02;
	packet[12 + 12] = NETNS_ETHERTYPE >> 8;
	packet[12 + 13] = NETNS_ETHERTYPE & 0xff;
	packet[12 + 14] = (uint8_t)number;
	struct iovec iov[2] = {{packet, 5}, {packet + 5, sizeof(packet) - 5}};
	struct sending sending = {
		.packet = {iov, 2, sizeof(packet), packet_sent, {NULL}}, .pair = index};
	vn_ioloop_call(bench.loop, send_on_loop, &sending);
}

// The second pair has packets only while it is attached; both together have all of them.
static void attaches_pairs(void **state)
{
	(void)state;
	static struct look look;
	int fd = netns_packets("tap0", 0);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < 20; i++)
		put_on_wire(fd, i);
	for (unsigned i = 0; i < 20; i++) {
		next_packet(0, &look, true);
		assert_packet(&look, i);
	}
	assert_int_equal(next_packet(1, &look, false), -EAGAIN);

	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(attach(1, true), 0);
		assert_int_equal(attach(0, false), 0);
		for (unsigned i = 0; i < 20; i++)
			put_on_wire(fd, i);
		for (unsigned i = 0; i < 20; i++) {
			next_packet(1, &look, true);
			assert_packet(&look, i);
		}
		assert_int_equal(next_packet(0, &look, false), -EAGAIN);
		assert_int_equal(attach(0, true), 0);
		assert_int_equal(attach(1, false), 0);
		put_on_wire(fd, 7);
		next_packet(0, &look, true);
		assert_packet(&look, 7);
		assert_int_equal(next_packet(1, &look, false), -EAGAIN);
	}
	close(fd);
}

static void assert_link(bool up, unsigned changes)
{
	struct look look = {.pair = &bench.pairs[0]};
	for (unsigned i = 0; i < 100000; i++) {
		vn_ioloop_call(bench.loop, look_on_loop, &look);
		if (look.link_changes >= changes)
			break;
		usleep(100);
	}
	assert_int_equal(look.link_changes, changes);
	assert_int_equal(atomic_load(&bench.backend->link), up);
}

// An interface that is down loses packets, both ways; one that is up again has them again.
static void follows_the_link(void **state)
{
	(void)state;
	static struct look look;
	assert_link(true, 1); // it came up before the queues were opened
	assert_true(netns_set_up("tap0", false));
	assert_link(false, 2);
	send_from(0, 1);
	assert_int_equal(next_packet(0, &look, false), -EAGAIN);

	assert_true(netns_set_up("tap0", true));
	assert_link(true, 3);
	int fd = netns_packets("tap0", NETNS_ETHERTYPE);
	assert_true(fd >= 0);
	put_on_wire(fd, 2);
	next_packet(0, &look, true);
	assert_packet(&look, 2);
	send_from(0, 3);
	uint8_t got[4096];
	do
		assert_int_equal(recv(fd, got, sizeof(got), 0), PACKET - 2);
	while (got[10 + 14] == 2); // its own, on the way out
	assert_int_equal(got[10 + 14], 3);
	close(fd);
}

// A deleted interface is said once, and is no reason to be busy or to hang.
static void survives_deletion(void **state)
{
	(void)state;
	static struct look look;
	struct ifreq request = netns_named("tap0");
	assert_true(netns_tap("tap0", IFF_TAP | IFF_MULTI_QUEUE, false));
	assert_true(netns_ioctl(SIOCGIFINDEX, &request));
	// Deletion by a message; there is no ioctl for it.
	int code = system("ip link delete tap0");
	if (code != 0)
		fail_msg("ip link delete: %d", code);
	assert_link(false, 2);
	assert_int_equal(next_packet(0, &look, false), -EAGAIN);
	send_from(0, 1);
	assert_int_equal(attach(1, true) < 0, true);
	pthread_mutex_lock(&bench.lock);
	if (!strstr(bench.warning, "interface tap0 was deleted"))
		fail_msg("\"%s\"", bench.warning);
	pthread_mutex_unlock(&bench.lock);
}

static int stop_deleted(void **state)
{
	(void)state;
	close_two();
	return 0;
}

int main(void)
{
	const char *reason = netns_enter();
	if (reason)
		return netns_skip(reason);
	bench.log = (struct vn_log){message, &bench};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_names),
		cmocka_unit_test(refuses_what_is_missing),
		cmocka_unit_test(refuses_other_kinds),
		cmocka_unit_test(refuses_one_queue_for_several),
		cmocka_unit_test(refuses_what_is_busy),
		cmocka_unit_test(refuses_a_large_mtu),
		cmocka_unit_test(opens_one_of_several),
		cmocka_unit_test(opens_descriptors),
		cmocka_unit_test(refuses_other_descriptors),
		cmocka_unit_test(refuses_another_namespace),
		cmocka_unit_test_setup_teardown(receives_in_order, start_two, stop_two),
		cmocka_unit_test_setup_teardown(attaches_pairs, start_two, stop_two),
		cmocka_unit_test_setup_teardown(follows_the_link, start_two, stop_two),
		cmocka_unit_test_setup_teardown(survives_deletion, start_two, stop_deleted),
	};
	return cmocka_run_group_tests_name("net_tap", tests, NULL, NULL);
}
