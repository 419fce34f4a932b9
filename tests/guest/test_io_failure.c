// SPDX-License-Identifier: Apache-2.0
//
// A disk's io_uring fails under a guest that writes, on /dev/kvm with the built-in guest: that
// guest ends, the one beside it in the same process goes on, and nothing waits for ever.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/macros.h"
#include "tests/guest/embed.h"
#include "tests/unit/ring_faults.h"

#define DISK_SIZE (8 * MIB)
#define REQUESTS  100 // that the guest has made before its ring fails
#define WAIT_MS   60000

static char disks[][20] = {"io-failure-XXXXXX", "io-failure-XXXXXX", "io-failure-XXXXXX"};

static int make_disks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
		int fd = mkstemp(disks[i]);
		if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0)
			return -1;
		close(fd);
	}
	return 0;
}

static int remove_disks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++)
		unlink(disks[i]);
	return 0;
}

// With disks at these paths, a list that ends with NULL.
static struct veneer *start(const char *cmdline, const char *const *paths)
{
	struct veneer_config *config;
	struct veneer_error error;
	struct veneer *vm;
	assert_int_equal(veneer_config_new(&config, NULL), 0);
	assert_int_equal(veneer_config_set(config, "memory", "64M", NULL), 0);
	assert_int_equal(veneer_config_set(config, "cmdline", cmdline, NULL), 0);
	for (; *paths; paths++)
		if (veneer_config_set(config, "disk", *paths, &error) < 0)
			fail_msg("%s", error.message);
	if (veneer_create(&vm, config, NULL, &error) < 0)
		fail_msg("%s", error.message);
	veneer_config_free(config);
	if (veneer_start(vm, &error) < 0)
		fail_msg("%s", error.message);
	return vm;
}

static uint64_t count_requests(struct veneer *vm, unsigned of)
{
	struct veneer_stats *stats;
	assert_int_equal(veneer_get_stats(vm, &stats, NULL), 0);
	uint64_t requests = stats->devices[of]->queues[0]->requests;
	veneer_stats_free(stats);
	return requests;
}

static void await_requests(struct veneer *vm, unsigned of, uint64_t count)
{
	for (unsigned tries = 0; tries < WAIT_MS && count_requests(vm, of) < count; tries++)
		usleep(1000);
	assert_true(count_requests(vm, of) >= count);
}

// A guest that writes to the disk, with `options` of it.
static struct veneer *start_writer(const char *options)
{
	char text[64];
	snprintf(text, sizeof(text), "%s,%s", disks[0], options);
	struct veneer *vm = start("blk-journal=1", (const char *const[]){text, NULL});
	await_requests(vm, 0, REQUESTS);
	ring_fault_thread = "blk0-0";
	return vm;
}

static void expect_failure(struct veneer *vm, const char *why)
{
	struct veneer_event end;
	struct veneer_error error;
	char message[128];
	snprintf(message, sizeof(message), "I/O thread blk0-0 cannot go on: io_uring %s", why);
	assert_int_equal(veneer_wait(vm, WAIT_MS, &end, sizeof(end), NULL), 0);
	atomic_store(&ring_fault, RING_WORKS);
	assert_int_equal(end.end, VENEER_END_FAILED);
	assert_string_equal(end.message, message);
	// Neither goes on, nor begins anew.
	assert_int_equal(veneer_resume(vm, &error), -EINVAL);
	assert_int_equal(veneer_reset(vm, &error), -EINVAL);
	assert_int_equal(error.kind, VENEER_ERROR_STATE);
	assert_string_equal(
		error.message, "cannot reset a guest of which an I/O thread has failed");
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_ENDED);
	veneer_destroy(vm);
}

// A guest that writes to its second disk, so that the first one's thread, which has the name of the
// one that fails, sleeps.
static struct veneer *start_neighbour(void)
{
	struct veneer *vm =
		start("blk-journal=2 disk=1", (const char *const[]){disks[1], disks[2], NULL});
	await_requests(vm, 1, REQUESTS);
	return vm;
}

static void expect_health(struct veneer *vm)
{
	struct veneer_event end;
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_RUNNING);
	await_requests(vm, 1, count_requests(vm, 1) + REQUESTS);
	veneer_stop(vm);
	assert_int_equal(veneer_wait(vm, WAIT_MS, &end, sizeof(end), NULL), 0);
	assert_int_equal(end.end, VENEER_END_STOPPED);
	veneer_destroy(vm);
}

static void only_the_guest_of_the_ring_ends(void **state)
{
	static const struct {
		enum ring_fault fault;
		const char *options, *why;
	} cases[] = {
		{RING_REFUSES, "queues=1", "fails: Bad file descriptor"},
		{RING_LOSES, "queues=1", "lost a completion"},
		{RING_REFUSES, "queues=3,cache=writethrough", "fails: Bad file descriptor"},
		{RING_LOSES, "queues=3,cache=writethrough", "lost a completion"},
	};
	(void)state;
	need_kvm();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct veneer *neighbour = start_neighbour();
		struct veneer *vm = start_writer(cases[i].options);
		atomic_store(&ring_fault, cases[i].fault);
		expect_failure(vm, cases[i].why);
		expect_health(neighbour);
	}
}

// Nobody waits for the guest's end before it is destroyed; and nothing of it is left.
static void a_destroy_does_not_wait_for_ever(void **state)
{
	int descriptors, threads;
	(void)state;
	need_kvm();
	// Whatever libraries keep for good, they have afterwards.
	veneer_destroy(start("spin", (const char *const[]){NULL}));
	descriptors = entries("/proc/self/fd");
	threads = entries("/proc/self/task");
	struct veneer *vm = start_writer("queues=2");
	atomic_store(&ring_fault, RING_LOSES);
	veneer_destroy(vm);
	atomic_store(&ring_fault, RING_WORKS);
	expect_nothing_left(descriptors, threads);
}

typedef int call(struct veneer *vm, struct veneer_error *error);

// Nor does a pause, or a reset: the guest ends meanwhile.
static void a_pause_does_not_wait_for_ever(void **state)
{
	static call *const calls[] = {veneer_pause, veneer_reset};
	(void)state;
	need_kvm();
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct veneer *vm = start_writer("queues=2");
		atomic_store(&ring_fault, RING_REFUSES);
		assert_int_equal(calls[i](vm, NULL), -EINVAL);
		expect_failure(vm, "fails: Bad file descriptor");
		vm = start_writer("queues=2");
		atomic_store(&ring_fault, RING_LOSES);
		assert_int_equal(calls[i](vm, NULL), -EINVAL);
		expect_failure(vm, "lost a completion");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_guest_of_the_ring_ends),
		cmocka_unit_test(a_destroy_does_not_wait_for_ever),
		cmocka_unit_test(a_pause_does_not_wait_for_ever),
	};
	return cmocka_run_group_tests_name("io_failure", tests, make_disks, remove_disks);
}
