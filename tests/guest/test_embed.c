// SPDX-License-Identifier: Apache-2.0
//
// The library as embedders use it, on /dev/kvm with the built-in guest: many guests in one process,
// ends from every side, failures that leave nothing behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "veneer.h"

static void need_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		print_message("# no usable /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	close(fd);
}

static int entries(const char *path)
{
	DIR *directory = opendir(path);
	int count = 0;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

// Open descriptors and threads: what a guest must not leave behind. A thread that has been joined
// may still be listed for a moment.
static void expect_nothing_left(int descriptors, int threads)
{
	assert_int_equal(entries("/proc/self/fd"), descriptors);
	for (int tries = 0; tries < 1000 && entries("/proc/self/task") != threads; tries++)
		usleep(1000);
	assert_int_equal(entries("/proc/self/task"), threads);
}

static struct veneer *make(struct veneer_config *config)
{
	struct veneer *vm;
	struct veneer_error error = {""};
	if (veneer_create(&vm, config, &error) < 0)
		fail_msg("%s", error.message);
	return vm;
}

static struct veneer_result run(struct veneer_config *config)
{
	struct veneer *vm = make(config);
	struct veneer_error error = {""};
	struct veneer_result result;
	if (veneer_start(vm, &error) < 0)
		fail_msg("%s", error.message);
	veneer_wait(vm, &result);
	veneer_destroy(vm);
	return result;
}

static void a_guest_hands_back_its_value(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "exit=0";
	run(&config); // whatever libraries keep for good, they have now
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	config.cmdline = "exit=77";
	struct veneer_result result = run(&config);
	assert_int_equal(result.end, VENEER_END_EXIT);
	assert_int_equal(result.value, 77);
	expect_nothing_left(descriptors, threads);
}

static void the_descriptor_becomes_readable_at_the_end(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "spin";
	struct veneer *vm = make(&config);
	struct pollfd wait = {.fd = veneer_fd(vm), .events = POLLIN};
	assert_int_equal(veneer_start(vm, NULL), 0);
	assert_int_equal(poll(&wait, 1, 100), 0);
	veneer_stop(vm);
	assert_int_equal(poll(&wait, 1, 60000), 1);
	struct veneer_result result;
	veneer_wait(vm, &result);
	assert_int_equal(result.end, VENEER_END_STOPPED);
	veneer_destroy(vm);
}

static void *stop_and_wait(void *arg)
{
	struct veneer *vm = arg;
	struct veneer_result result;
	veneer_stop(vm);
	veneer_wait(vm, &result);
	return (void *)(uintptr_t)(result.end + 1);
}

static void any_thread_may_stop_and_wait(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "spin";
	config.cpus = 3;
	for (int round = 0; round < 10; round++) {
		struct veneer *vm = make(&config);
		assert_int_equal(veneer_start(vm, NULL), 0);
		usleep((useconds_t)(round * 500));
		pthread_t threads[4];
		for (int i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, stop_and_wait, vm), 0);
		for (int i = 0; i < 4; i++) {
			void *end;
			pthread_join(threads[i], &end);
			assert_int_equal((uintptr_t)end, VENEER_END_STOPPED + 1);
		}
		veneer_destroy(vm);
	}
}

static void a_plan_is_what_a_guest_is_made_with(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_error error = {""};
	struct veneer_plan *plan;
	if (veneer_plan_make(&plan, &config, true, &error) == -ENOSPC) {
		print_message("# %s\n", error.message);
		skip();
	}
	assert_string_equal(error.message, "");
	assert_non_null(strstr(plan->text, "vcpu0"));
	config.placement = &plan->placement;
	config.cmdline = "exit=9";
	assert_int_equal(run(&config).value, 9);
	veneer_plan_free(plan);
	veneer_plan_free(NULL);
}

// Nothing of a guest is left, whichever of its threads could not be placed.
static void a_place_that_is_not_there_is_an_error(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_placement placement = {.fifo = 0};
	struct veneer_error error = {""};
	struct veneer *vm;
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	config.placement = &placement;
	placement.vcpus[0].bits[15] = 1ull << 63;
	assert_int_equal(veneer_create(&vm, &config, &error), -EINVAL);
	assert_non_null(strstr(error.message, "CPU 1023 is not online"));
	placement = (struct veneer_placement){.fifo = 100};
	assert_int_equal(veneer_create(&vm, &config, &error), -EINVAL);
	assert_non_null(strstr(error.message, "from 1 to 99, not 100"));
	placement = (struct veneer_placement){.vcpus[1].bits[0] = 1};
	assert_int_equal(veneer_create(&vm, &config, &error), -EINVAL);
	assert_non_null(strstr(error.message, "the guest has 1 vCPU"));
	expect_nothing_left(descriptors, threads);
}

static void the_first_end_counts(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "exit=5";
	struct veneer *vm = make(&config);
	assert_int_equal(veneer_start(vm, NULL), 0);
	struct veneer_result result;
	veneer_wait(vm, &result);
	veneer_stop(vm);
	veneer_wait(vm, &result);
	assert_int_equal(result.end, VENEER_END_EXIT);
	assert_int_equal(result.value, 5);
	struct veneer_error error = {""};
	assert_true(veneer_start(vm, &error) < 0);
	assert_non_null(strstr(error.message, "started before"));
	veneer_destroy(vm);
}

static void a_stop_before_the_start_holds(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "exit=5";
	struct veneer *vm = make(&config);
	veneer_stop(vm);
	assert_int_equal(veneer_start(vm, NULL), 0);
	struct veneer_result result;
	veneer_wait(vm, &result);
	assert_int_equal(result.end, VENEER_END_STOPPED);
	veneer_destroy(vm);
}

static void a_running_guest_can_be_destroyed(void **state)
{
	(void)state;
	need_kvm();
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "spin";
	config.cpus = 2;
	struct veneer *vm = make(&config);
	assert_int_equal(veneer_start(vm, NULL), 0);
	veneer_destroy(vm);
	vm = make(&config);
	veneer_destroy(vm); // one that never ran
	veneer_destroy(NULL);
	expect_nothing_left(descriptors, threads);
}

static void guests_live_side_by_side(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vms[5];
	char words[5][16];
	for (unsigned i = 0; i < 5; i++) {
		struct veneer_config config = VENEER_CONFIG_INIT;
		snprintf(words[i], sizeof(words[i]), "exit=%u", 10 + i);
		config.cmdline = words[i];
		vms[i] = make(&config);
		memset(words[i], 'x', sizeof(words[i])); // the library keeps its own copy
	}
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(veneer_start(vms[i], NULL), 0);
	for (unsigned i = 5; i-- > 0;) {
		struct veneer_result result;
		veneer_wait(vms[i], &result);
		assert_int_equal(result.value, 10 + i);
		veneer_destroy(vms[i]);
	}
}

static void serial_output_is_whole_when_wait_returns(void **state)
{
	(void)state;
	need_kvm();
	FILE *file = tmpfile();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "flood=64";
	config.serial_out = fileno(file);
	struct veneer_result result = run(&config);
	assert_int_equal(result.end, VENEER_END_EXIT);
	assert_int_equal(result.value, 0);
	assert_int_equal(lseek(fileno(file), 0, SEEK_END), 64 << 10);
	fclose(file);
}

// A panic is an end of its own, whatever the guest or the embedder does after it.
static void a_panic_is_told_from_other_ends(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "panic reset";
	struct veneer_result result = run(&config);
	assert_int_equal(result.end, VENEER_END_PANIC);
	assert_non_null(strstr(result.message, "panicked"));
	config.cmdline = "reset";
	result = run(&config);
	assert_int_equal(result.end, VENEER_END_RESET);
	assert_string_equal(result.message, "");
	config.cmdline = "panic spin";
	struct veneer *vm = make(&config);
	struct pollfd wait = {.fd = veneer_fd(vm), .events = POLLIN};
	assert_int_equal(veneer_start(vm, NULL), 0);
	assert_int_equal(poll(&wait, 1, 60000), 1);
	veneer_stop(vm);
	veneer_wait(vm, &result);
	assert_int_equal(result.end, VENEER_END_PANIC);
	veneer_destroy(vm);
}

// What a thread blocks, from its lines in /proc: bit N - 1 stands for signal N. False when it is
// none of the library's: KVM, io_uring and sanitizers have threads of their own.
static bool blocked_signals(const char *task, unsigned long long *blocked)
{
	char path[64], line[128];
	bool ours = false;
	snprintf(path, sizeof(path), "/proc/self/task/%.16s/status", task);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "Name:", 5) == 0)
			ours = strstr(line, "vcpu") || strstr(line, "serial");
		sscanf(line, "SigBlk: %llx", blocked);
	}
	fclose(file);
	return ours;
}

// A vCPU within KVM_RUN shows the mask that it has there.
static int count_masked_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	int seen = 0;
	for (struct dirent *task; (task = readdir(tasks));) {
		unsigned long long blocked = 0;
		if (task->d_name[0] == '.' || !blocked_signals(task->d_name, &blocked))
			continue;
		seen++;
		assert_true(blocked >> (SIGTERM - 1) & 1);
		assert_true(blocked >> (SIGUSR1 - 1) & 1);
		assert_false(blocked >> (SIGSEGV - 1) & 1);
		assert_false(blocked >> (SIGBUS - 1) & 1);
	}
	closedir(tasks);
	return seen;
}

// The library's threads take no signal that is sent to the process, but a fault of their own does
// reach its handler.
static void threads_block_all_but_faults(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "spin";
	config.cpus = 2;
	struct veneer *vm = make(&config);
	assert_int_equal(veneer_start(vm, NULL), 0);
	int seen = 0;
	for (int i = 0; i < 200 && seen < 3; i++) { // they start, and then take their names
		usleep(50000);
		seen = count_masked_threads();
	}
	assert_int_equal(seen, 3); // two vCPUs and the serial port's loop
	veneer_destroy(vm);
}

struct seen {
	unsigned calls;
	uint64_t done, total;
	bool go_on;
};

static bool see_progress(void *opaque, uint64_t done, uint64_t total)
{
	struct seen *seen = opaque;
	seen->calls++;
	seen->done = done;
	seen->total = total;
	return seen->go_on;
}

static void cells_tell_their_backing(void **state)
{
	(void)state;
	need_kvm();
	const struct veneer_cell cells[2] = {
		{.cpus = {.bits = {1}}, .size = 64 << 20, .node = -1},
		{.cpus = {.bits = {2}}, .size = 128 << 20, .node = 0},
	};
	struct seen seen = {.go_on = true};
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cpus = 2;
	config.cells = cells;
	config.cell_count = 2;
	config.memory.prealloc = true;
	config.progress = see_progress;
	config.progress_opaque = &seen;
	struct veneer *vm = make(&config);
	struct veneer_backing backing;
	assert_int_equal(veneer_memory_backing(vm, 0, &backing), 0);
	assert_int_equal(backing.size, cells[0].size);
	assert_int_equal(backing.node, -1);
	assert_int_equal(veneer_memory_backing(vm, 1, &backing), 0);
	assert_int_equal(backing.size, cells[1].size);
	assert_int_equal(backing.page_size, 4096);
	assert_int_equal(backing.node, 0);
	assert_int_equal(veneer_memory_backing(vm, 2, &backing), -EINVAL);
	veneer_destroy(vm);
	assert_true(seen.calls > 0);
	assert_int_equal(seen.done, cells[0].size + cells[1].size);
	assert_int_equal(seen.total, cells[0].size + cells[1].size);

	int descriptors = entries("/proc/self/fd");
	struct veneer_error error = {""};
	seen.go_on = false;
	assert_int_equal(veneer_create(&vm, &config, &error), -ECANCELED);
	assert_true(error.message[0] != '\0');
	assert_int_equal(entries("/proc/self/fd"), descriptors);
}

static void failures_leave_nothing(void **state)
{
	(void)state;
	need_kvm();
	char path[] = "/tmp/veneer-embed-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	const struct veneer_disk good = {.path = path, .readonly = true};
	const struct veneer_disk disks[2] = {good, {.path = "/nonexistent/disk"}};
	const struct veneer_disk many[9] = {good};
	const struct veneer_disk named = {.path = path, .serial = "a serial of 21 bytes!"};
	struct veneer_config configs[7];
	for (int i = 0; i < 7; i++)
		configs[i] = (struct veneer_config)VENEER_CONFIG_INIT;
	configs[0].kernel = "/nonexistent/kernel";
	configs[1].cpus = 0;
	configs[2].cpus = VENEER_CPUS_MAX + 1;
	configs[3].disks = disks;
	configs[3].disk_count = 2;
	configs[4].struct_size = 4096;
	configs[5].disks = many;
	configs[5].disk_count = 9;
	configs[6].disks = &named;
	configs[6].disk_count = 1;
	const char *words[7] = {"/nonexistent/kernel", "0 CPUs", "65 CPUs", "/nonexistent/disk",
		"4096 bytes", "9 disks", "longer than 20"};
	for (int i = 0; i < 7; i++) {
		struct veneer *vm = NULL;
		struct veneer_error error = {""};
		assert_true(veneer_create(&vm, &configs[i], &error) < 0);
		assert_null(vm);
		if (!strstr(error.message, words[i]) || strchr(error.message, '\n'))
			fail_msg("case %d: \"%s\"", i, error.message);
	}
	expect_nothing_left(descriptors, threads);
	unlink(path);
	close(fd);
}

static struct veneer_stats *snapshot(struct veneer *vm)
{
	struct veneer_stats *stats;
	struct veneer_error error = {""};
	if (veneer_stats(vm, &stats, &error) < 0)
		fail_msg("%s", error.message);
	return stats;
}

static uint64_t exits(const struct veneer_stats *stats, unsigned vcpu, const char *reason)
{
	for (unsigned i = 0; stats->vcpus[vcpu]->exits[i]; i++)
		if (strcmp(stats->vcpus[vcpu]->exits[i]->reason, reason) == 0)
			return stats->vcpus[vcpu]->exits[i]->count;
	return 0;
}

static void *read_often(void *arg)
{
	for (unsigned i = 0; i < 100; i++)
		veneer_stats_free(snapshot(arg));
	return NULL;
}

// The guest's first words are on their way out; what takes far too long fails by what is not there.
static void await_output(struct veneer *vm)
{
	bool printed = false;
	for (unsigned i = 0; i < 4000 && !printed; i++) {
		struct veneer_stats *stats = snapshot(vm);
		printed = exits(stats, 0, "io") > 0;
		veneer_stats_free(stats);
		usleep(5000);
	}
}

// Before, while and after it runs; also by two threads at once; and a snapshot outlives its guest.
static void statistics_at_any_time(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cmdline = "spin";
	config.cpus = 2;
	struct veneer *vm = make(&config);
	struct veneer_stats *before = snapshot(vm);
	assert_int_equal(before->running_ns, 0);
	assert_int_equal(before->vcpus[1]->index, 1);
	assert_null(before->vcpus[2]);
	assert_null(before->vcpus[0]->exits[0]);
	assert_null(before->devices[0]);
	assert_non_null(before->kvm[0]);
	assert_int_equal(veneer_start(vm, NULL), 0);

	pthread_t threads[2];
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_often, vm), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	await_output(vm);
	veneer_stop(vm);
	struct veneer_result result;
	veneer_wait(vm, &result);
	struct veneer_stats *after = snapshot(vm), *later = snapshot(vm);
	veneer_destroy(vm);
	assert_true(after->time_ns > before->time_ns);
	assert_true(after->running_ns > 0);
	assert_int_equal(after->running_ns, later->running_ns); // it has ended
	assert_in_range(exits(after, 0, "signal"), 0, 1); // the stop
	assert_true(exits(after, 0, "io") > 0); // what it printed
	veneer_stats_free(before);
	veneer_stats_free(after);
	veneer_stats_free(later);
	veneer_stats_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_hands_back_its_value),
		cmocka_unit_test(the_descriptor_becomes_readable_at_the_end),
		cmocka_unit_test(any_thread_may_stop_and_wait),
		cmocka_unit_test(a_plan_is_what_a_guest_is_made_with),
		cmocka_unit_test(a_place_that_is_not_there_is_an_error),
		cmocka_unit_test(the_first_end_counts),
		cmocka_unit_test(a_stop_before_the_start_holds),
		cmocka_unit_test(a_running_guest_can_be_destroyed),
		cmocka_unit_test(guests_live_side_by_side),
		cmocka_unit_test(serial_output_is_whole_when_wait_returns),
		cmocka_unit_test(a_panic_is_told_from_other_ends),
		cmocka_unit_test(threads_block_all_but_faults),
		cmocka_unit_test(cells_tell_their_backing),
		cmocka_unit_test(failures_leave_nothing),
		cmocka_unit_test(statistics_at_any_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
