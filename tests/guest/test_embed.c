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
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "tests/guest/embed.h"

static struct veneer_event run(struct veneer *vm)
{
	struct veneer_error error;
	if (veneer_start(vm, &error) < 0)
		fail_msg("%s", error.message);
	struct veneer_event end = wait_for(vm);
	veneer_destroy(vm);
	return end;
}

// Until the guest has printed something, if `count` is 1; what takes far too long fails by what is
// not there.
static void await_exits(struct veneer *vm, uint64_t count)
{
	bool printed = false;
	for (unsigned i = 0; i < 4000 && !printed; i++) {
		struct veneer_stats *stats = snapshot(vm);
		printed = exits(stats, 0, "io") >= count;
		veneer_stats_free(stats);
		usleep(5000);
	}
}

static void a_guest_hands_back_its_value(void **state)
{
	(void)state;
	need_kvm();
	run(make(OPTIONS("cmdline", "exit=0"))); // whatever libraries keep for good, they have now
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	struct veneer_event end = run(make(OPTIONS("cmdline", "exit=77")));
	assert_int_equal(end.end, VENEER_END_EXIT);
	assert_int_equal(end.value, 77);
	expect_nothing_left(descriptors, threads);
}

static void events_come_in_order(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "spin"));
	struct pollfd wait = {.fd = veneer_event_fd(vm), .events = POLLIN};
	struct veneer_event event;
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_CREATED);
	assert_int_equal(poll(&wait, 1, 0), 0);
	assert_int_equal(veneer_next_event(vm, &event, sizeof(event)), 0);
	assert_int_equal(veneer_start(vm, NULL), 0);
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_RUNNING);
	assert_int_equal(poll(&wait, 1, 60000), 1);
	assert_int_equal(veneer_next_event(vm, &event, sizeof(event)), 1);
	assert_int_equal(event.kind, VENEER_EVENT_STARTED);
	assert_int_equal(poll(&wait, 1, 100), 0);
	veneer_stop(vm);
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_ENDED);
	assert_int_equal(poll(&wait, 1, 60000), 1);
	assert_int_equal(wait_for(vm).end, VENEER_END_STOPPED);
	assert_int_equal(veneer_next_event(vm, &event, sizeof(event.kind)), 1);
	assert_int_equal(event.kind, VENEER_EVENT_ENDED);
	assert_int_equal(poll(&wait, 1, 0), 0);
	veneer_destroy(vm);
}

// Nothing that is called blocks for ever.
static void a_wait_has_a_limit(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "spin"));
	struct veneer_event end;
	struct veneer_error error;
	assert_int_equal(veneer_wait(vm, -1, &end, sizeof(end), &error), -EINVAL);
	assert_int_equal(error.kind, VENEER_ERROR_STATE);
	assert_non_null(strstr(error.message, "has not been started"));
	assert_int_equal(veneer_start(vm, NULL), 0);
	assert_int_equal(veneer_wait(vm, 0, &end, sizeof(end), NULL), -ETIMEDOUT);
	assert_int_equal(veneer_wait(vm, 50, &end, sizeof(end), &error), -ETIMEDOUT);
	assert_int_equal(error.kind, VENEER_ERROR_STATE);
	assert_non_null(strstr(error.message, "50 ms"));
	veneer_destroy(vm);
}

// Output that nobody takes: a pipe that is full.
static void fill(int fd)
{
	char junk[4096] = "";
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while (write(fd, junk, sizeof(junk)) > 0)
		;
	while (write(fd, junk, 1) > 0)
		;
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

static uint64_t milliseconds(void)
{
	return vn_clock_ns() / NS_PER_MS;
}

static void *wait_without_limit(void *arg)
{
	return (void *)(intptr_t)veneer_wait(arg, -1, NULL, 0, NULL);
}

// A thread that waits while output is being written, which takes a second here, does not keep
// another one beyond its limit; and what one gave up, the next one does.
static void each_wait_has_its_own_limit(void **state)
{
	(void)state;
	need_kvm();
	int ends[2];
	pthread_t thread;
	void *result;
	assert_int_equal(pipe(ends), 0);
	fill(ends[1]);
	struct veneer_config *config = configure(OPTIONS("cmdline", "flood=64"));
	assert_int_equal(veneer_config_set_fd(config, "serial.out", ends[1], NULL), 0);
	struct veneer *vm = make_from(config);
	assert_int_equal(veneer_start(vm, NULL), 0);
	await_exits(vm, 200); // its buffer is full, or will be
	uint64_t before = milliseconds();
	veneer_stop(vm);
	assert_int_equal(veneer_wait(vm, 0, NULL, 0, NULL), -ETIMEDOUT);
	assert_int_equal(veneer_wait(vm, 50, NULL, 0, NULL), -ETIMEDOUT);
	assert_int_equal(pthread_create(&thread, NULL, wait_without_limit, vm), 0);
	usleep(200000); // it is in there
	assert_int_equal(veneer_wait(vm, 0, NULL, 0, NULL), -ETIMEDOUT);
	assert_int_equal(veneer_wait(vm, 50, NULL, 0, NULL), -ETIMEDOUT);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, 0);
	assert_true(milliseconds() - before >= 900);
	assert_int_equal(wait_for(vm).end, VENEER_END_STOPPED);
	veneer_destroy(vm);
	close(ends[0]);
	close(ends[1]);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 // which do not survive that there are no more addresses
#else
#define SANITIZED 0
#endif

// Room for some threads' stacks and not for 48.
static void limit_addresses(struct rlimit *before)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu", &pages), 1);
	fclose(file);
	assert_int_equal(getrlimit(RLIMIT_AS, before), 0);
	struct rlimit limit = *before;
	limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + 24 * MIB;
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
}

// Not one vCPU goes on when another one has no thread.
static void a_start_that_fails_ends_the_guest(void **state)
{
	(void)state;
	need_kvm();
	if (SANITIZED) {
		print_message("# a limit of addresses leaves no room for a sanitizer's\n");
		skip();
	}
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "48"));
	struct veneer_error error;
	struct veneer_event event;
	struct rlimit limit;
	limit_addresses(&limit);
	int code = veneer_start(vm, &error);
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	assert_int_equal(code, -EAGAIN);
	assert_int_equal(error.kind, VENEER_ERROR_HOST);
	assert_non_null(strstr(error.message, "cannot start thread vcpu"));
	assert_null(strstr(error.message, "vcpu0:"));
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_ENDED);
	assert_int_equal(veneer_next_event(vm, &event, sizeof(event)), 1);
	assert_int_equal(event.kind, VENEER_EVENT_ENDED);
	event = wait_for(vm);
	assert_int_equal(event.end, VENEER_END_FAILED);
	assert_string_equal(event.message, error.message);
	veneer_destroy(vm);
	expect_nothing_left(descriptors, threads);
}

// Structures of a program that was built for a later interface, or an earlier one.
static void structures_have_other_sizes(void **state)
{
	(void)state;
	need_kvm();
	struct {
		struct veneer_hooks hooks;
		unsigned char later[16];
	} hooks = {.hooks = {.size = sizeof(hooks)}};
	struct {
		struct veneer_event event;
		unsigned char later[16];
	} event;
	struct {
		struct veneer_backing backing;
		unsigned char later[16];
	} backing;
	const unsigned char zero[16] = {0};
	struct veneer_config *config = configure(OPTIONS("cmdline", "exit=5"));
	struct veneer *vm;
	hooks.later[7] = 1;
	assert_int_equal(veneer_create(&vm, config, &hooks.hooks, NULL), -E2BIG);
	hooks.later[7] = 0;
	hooks.hooks.size = 8;
	assert_int_equal(veneer_create(&vm, config, &hooks.hooks, NULL), -EINVAL);
	hooks.hooks.size = sizeof(hooks);
	assert_int_equal(veneer_create(&vm, config, &hooks.hooks, NULL), 0);
	veneer_config_free(config);
	memset(&backing, 0xff, sizeof(backing));
	assert_int_equal(veneer_memory_backing(vm, 0, &backing.backing, sizeof(backing)), 0);
	assert_int_equal(backing.backing.size, 256 * MIB);
	assert_memory_equal(backing.later, zero, sizeof(zero));
	assert_int_equal(veneer_start(vm, NULL), 0);
	memset(&event, 0xff, sizeof(event));
	assert_int_equal(veneer_wait(vm, 60000, &event.event, sizeof(event), NULL), 0);
	assert_int_equal(event.event.value, 5);
	assert_memory_equal(event.later, zero, sizeof(zero));
	memset(&event, 0xff, sizeof(event));
	assert_int_equal(veneer_next_event(vm, &event.event, sizeof(event)), 1);
	assert_int_equal(event.event.kind, VENEER_EVENT_STARTED);
	assert_memory_equal(event.later, zero, sizeof(zero));
	memset(&event, 0xff, sizeof(event));
	assert_int_equal(veneer_next_event(vm, &event.event, sizeof(event.event.kind)), 1);
	assert_int_equal(event.event.kind, VENEER_EVENT_ENDED);
	assert_int_equal((unsigned)event.event.end, 0xffffffff); // not touched
	veneer_destroy(vm);
}

static void *stop_and_wait(void *arg)
{
	struct veneer *vm = arg;
	struct veneer_event end;
	veneer_stop(vm);
	if (veneer_wait(vm, -1, &end, sizeof(end), NULL) < 0)
		return NULL;
	return (void *)(uintptr_t)(end.end + 1);
}

static void any_thread_may_stop_and_wait(void **state)
{
	(void)state;
	need_kvm();
	for (int round = 0; round < 10; round++) {
		struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "3"));
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
	struct veneer_config *config =
		configure(OPTIONS("cpus", "1,pin=auto", "cmdline", "exit=9"));
	struct veneer_error error;
	struct veneer_plan *plan;
	char pin[64];
	int code = veneer_plan_make(&plan, config, &error);
	if (code == -ENOSPC) {
		veneer_config_free(config);
		print_message("# %s\n", error.message);
		skip();
	}
	if (code < 0)
		fail_msg("%s", error.message);
	assert_non_null(strstr(plan->text, "vcpu0"));
	assert_true(veneer_config_get(config, "cpus.pin", pin, sizeof(pin)) > 0);
	assert_memory_equal(pin, "0:", 2);
	veneer_plan_free(plan);
	veneer_plan_free(NULL);
	assert_int_equal(run(make_from(config)).value, 9);
}

// Nothing of a guest is left, whichever of its threads could not be placed.
static void a_place_that_is_not_there_is_an_error(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_config *config = configure(OPTIONS("cpus", "1"));
	struct veneer_error error;
	struct veneer *vm;
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	assert_int_equal(veneer_config_set(config, "cpus", "1,pin=1023", NULL), 0);
	assert_int_equal(veneer_create(&vm, config, NULL, &error), -EINVAL);
	assert_non_null(strstr(error.message, "CPU 1023 is not online"));
	assert_int_equal(veneer_config_set(config, "cpus", "1,pin=0", NULL), 0);
	assert_int_equal(veneer_config_set(config, "cpus.vmm", "1023", NULL), 0);
	assert_int_equal(veneer_create(&vm, config, NULL, &error), -EINVAL);
	assert_non_null(strstr(error.message, "1023"));
	expect_nothing_left(descriptors, threads);
	veneer_config_free(config);
}

static void the_first_end_counts(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "exit=5"));
	assert_int_equal(veneer_start(vm, NULL), 0);
	wait_for(vm);
	veneer_stop(vm);
	struct veneer_event end = wait_for(vm);
	assert_int_equal(end.end, VENEER_END_EXIT);
	assert_int_equal(end.value, 5);
	struct veneer_error error;
	assert_int_equal(veneer_start(vm, &error), -EINVAL);
	assert_int_equal(error.kind, VENEER_ERROR_STATE);
	assert_non_null(strstr(error.message, "cannot start a guest that has ended"));
	veneer_destroy(vm);
}

static void a_stop_before_the_start_holds(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "exit=5"));
	veneer_stop(vm);
	assert_int_equal(veneer_start(vm, NULL), -EINVAL);
	assert_int_equal(wait_for(vm).end, VENEER_END_STOPPED);
	veneer_destroy(vm);
}

static void a_running_guest_can_be_destroyed(void **state)
{
	(void)state;
	need_kvm();
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	assert_int_equal(veneer_start(vm, NULL), 0);
	veneer_destroy(vm);
	vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	veneer_destroy(vm); // one that never ran
	veneer_destroy(NULL);
	expect_nothing_left(descriptors, threads);
}

static void guests_live_side_by_side(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vms[5];
	for (unsigned i = 0; i < 5; i++) {
		char words[16];
		snprintf(words, sizeof(words), "exit=%u", 10 + i);
		vms[i] = make(OPTIONS("cmdline", words));
	}
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(veneer_start(vms[i], NULL), 0);
	for (unsigned i = 5; i-- > 0;) {
		assert_int_equal(wait_for(vms[i]).value, 10 + i);
		veneer_destroy(vms[i]);
	}
}

static void serial_output_is_whole_when_wait_returns(void **state)
{
	(void)state;
	need_kvm();
	FILE *file = tmpfile();
	struct veneer_config *config = configure(OPTIONS("cmdline", "flood=64"));
	assert_int_equal(veneer_config_set_fd(config, "serial.out", fileno(file), NULL), 0);
	struct veneer_event end = run(make_from(config));
	assert_int_equal(end.end, VENEER_END_EXIT);
	assert_int_equal(end.value, 0);
	assert_int_equal(lseek(fileno(file), 0, SEEK_END), 64 * KIB);
	fclose(file);
}

// A panic is an end of its own, whatever the guest or the embedder does after it.
static void a_panic_is_told_from_other_ends(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_event end = run(make(OPTIONS("cmdline", "panic reset")));
	assert_int_equal(end.end, VENEER_END_PANIC);
	assert_non_null(strstr(end.message, "panicked"));
	end = run(make(OPTIONS("cmdline", "reset")));
	assert_int_equal(end.end, VENEER_END_RESET);
	assert_string_equal(end.message, "");
	struct veneer *vm = make(OPTIONS("cmdline", "panic spin"));
	assert_int_equal(veneer_start(vm, NULL), 0);
	assert_int_equal(wait_for(vm).end, VENEER_END_PANIC);
	veneer_stop(vm);
	assert_int_equal(wait_for(vm).end, VENEER_END_PANIC);
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
			ours = strstr(line, "vcpu") || strstr(line, "devices");
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
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	assert_int_equal(veneer_start(vm, NULL), 0);
	int seen = 0;
	for (int i = 0; i < 200 && seen < 3; i++) { // they start, and then take their names
		usleep(50000);
		seen = count_masked_threads();
	}
	assert_int_equal(seen, 3); // two vCPUs and the small devices' loop
	veneer_destroy(vm);
}

// How many threads of this process have a name that is `name`.
static unsigned count_threads(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;
	assert_non_null(tasks);
	for (struct dirent *task; (task = readdir(tasks));) {
		char path[64], comm[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", task->d_name);
		FILE *file = task->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (file && fscanf(file, "%31s", comm) == 1)
			count += strncmp(comm, name, strlen(name)) == 0;
		if (file)
			fclose(file);
	}
	closedir(tasks);
	return count;
}

// One for each vCPU and each queue of a disk or network, and one for all else. KVM and io_uring
// have threads of their own.
static void no_thread_does_nothing(void **state)
{
	static const struct {
		const char *name;
		unsigned count;
	} expected[] = {{"vcpu", 2}, {"blk0-", 2}, {"net0", 1}, {"devices", 1}};
	char disk[] = "embed-XXXXXX", text[32];
	struct veneer_error error;
	struct veneer *vm;
	unsigned all = 0, kernel = 0;
	(void)state;
	need_kvm();
	int fd = mkstemp(disk), before = entries("/proc/self/task");
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB), 0);
	snprintf(text, sizeof(text), "%s,queues=2", disk);
	struct veneer_config *config = configure(
		OPTIONS("cmdline", "spin", "cpus", "2", "disk", text, "net", "user", "rng", "on"));
	int code = veneer_create(&vm, config, NULL, &error);
	veneer_config_free(config);
	unlink(disk);
	close(fd);
	if (code == -ENOENT && strstr(error.message, "libslirp")) {
		print_message("# %s\n", error.message);
		skip();
	}
	if (code < 0)
		fail_msg("%s", error.message);
	assert_int_equal(veneer_start(vm, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		// They start, and then take their names.
		for (int tries = 0; tries < 10000; tries++) {
			if (count_threads(expected[i].name) == expected[i].count)
				break;
			usleep(1000);
		}
		assert_int_equal(count_threads(expected[i].name), expected[i].count);
		all += expected[i].count;
	}
	kernel = count_threads("kvm") + count_threads("iou-");
	assert_in_range(entries("/proc/self/task") - before, all, all + kernel);
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
	struct seen seen = {.go_on = true};
	const struct veneer_hooks hooks = {
		.size = sizeof(hooks), .opaque = &seen, .progress = see_progress};
	struct veneer_config *config = configure(OPTIONS("cpus", "2", "numa",
		"cell=0,cpus=0,memory=64M", "numa", "cell=1,cpus=1,memory=128M,node=0"));
	struct veneer *vm;
	assert_int_equal(veneer_config_set(config, "memory.prealloc", NULL, NULL), 0);
	assert_int_equal(veneer_create(&vm, config, &hooks, NULL), 0);
	struct veneer_backing backing;
	size_t size = sizeof(backing);
	assert_int_equal(veneer_memory_backing(vm, 0, &backing, size), 0);
	assert_int_equal(backing.size, 64 * MIB);
	assert_int_equal(backing.node, -1);
	assert_int_equal(veneer_memory_backing(vm, 1, &backing, size), 0);
	assert_int_equal(backing.size, 128 * MIB);
	assert_int_equal(backing.page_size, 4096);
	assert_int_equal(backing.node, 0);
	assert_int_equal(veneer_memory_backing(vm, 2, &backing, size), -EINVAL);
	veneer_destroy(vm);
	assert_true(seen.calls > 0);
	assert_int_equal(seen.done, 192 * MIB);
	assert_int_equal(seen.total, 192 * MIB);

	int descriptors = entries("/proc/self/fd");
	struct veneer_error error;
	seen.go_on = false;
	assert_int_equal(veneer_create(&vm, config, &hooks, &error), -ECANCELED);
	assert_int_equal(error.kind, VENEER_ERROR_CANCELED);
	assert_string_equal(error.key, "numa");
	assert_true(error.message[0] != '\0');
	assert_int_equal(entries("/proc/self/fd"), descriptors);
	veneer_config_free(config);
}

// Pages that this process touched. Without transparent huge pages, each page of guest memory is
// one.
#define SMALL_PAGES(megabytes) ((megabytes)*256L)

static long minor_faults(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static void use_huge_pages(bool use)
{
	assert_int_equal(prctl(PR_SET_THP_DISABLE, !use, 0, 0, 0), 0);
}

struct failure {
	const char *options[20];
	enum veneer_error_kind kind;
	const char *key, *words;
};

// What is expected of it, and how much of guest memory it touched.
static long expect_failure(struct veneer_config *config, const struct failure *failure)
{
	struct veneer *vm = NULL;
	struct veneer_error error;
	assert_int_equal(veneer_config_set(config, "memory.prealloc", NULL, NULL), 0);
	long before = minor_faults();
	int code = veneer_create(&vm, config, NULL, &error);
	long faults = minor_faults() - before;
	assert_null(vm);
	if (code >= 0 || code != error.code || error.kind != failure->kind ||
		!strstr(error.message, failure->words) || strchr(error.message, '\n') ||
		strcmp(error.key, failure->key) != 0)
		fail_msg("%s: %d, kind %d, '%s', \"%s\"", failure->words, code, (int)error.kind,
			error.key, error.message);
	return faults;
}

// Whatever is wrong is told before memory is spent: 256 MiB, of which none is touched.
static void failures_leave_nothing(void **state)
{
	static const struct failure cases[] = {
		{{"kernel", "/nonexistent/kernel"}, VENEER_ERROR_CONFIG, "kernel",
			"/nonexistent/kernel"},
		{{"kernel", "/proc/self/exe"}, VENEER_ERROR_GUEST, "kernel", "/proc/self/exe"},
		{{"kernel", "/etc/passwd"}, VENEER_ERROR_GUEST, "kernel", "neither an ELF kernel"},
		{{"initrd", "/nonexistent/initrd"}, VENEER_ERROR_CONFIG, "initrd",
			"/nonexistent/initrd"},
		{{"disk", "/dev/null"}, VENEER_ERROR_CONFIG, "disk0",
			"neither a file nor a block device"},
		{{"net", "user", "disk", "/nonexistent/disk"}, VENEER_ERROR_CONFIG, "disk0",
			"/nonexistent/disk"},
		{{"cpus", "1,pin=1023"}, VENEER_ERROR_CONFIG, "cpus", "1023"},
		{{"numa", "cell=0,cpus=0-1,memory=256M"}, VENEER_ERROR_CONFIG, "numa0.cpus",
			"last CPU is 0"},
		{{"net", "user", "net", "user", "net", "user", "net", "user", "net", "user", "net",
			 "user", "net", "user", "net", "user", "net", "user"},
			VENEER_ERROR_CONFIG, "net8", "9 other devices"},
	};
	(void)state;
	need_kvm();
	use_huge_pages(false);
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct veneer_config *config = configure(cases[i].options);
		assert_in_range(expect_failure(config, &cases[i]), 0, SMALL_PAGES(16));
		veneer_config_free(config);
	}
	expect_nothing_left(descriptors, threads);

	// That memory which is touched shows: the same without a mistake.
	long before = minor_faults();
	veneer_destroy(make(OPTIONS("memory", "256M,prealloc")));
	assert_true(minor_faults() - before >= SMALL_PAGES(256));
	use_huge_pages(true);
}

// The command line, with the words for virtio-mmio devices, is as long as the kernel's is at most.
static void a_long_command_line_leaves_nothing(void **state)
{
	const struct failure failure = {
		.kind = VENEER_ERROR_CONFIG, .key = "cmdline", .words = "command line"};
	char words[4096];
	(void)state;
	need_kvm();
	use_huge_pages(false);
	struct veneer_config *config = configure(OPTIONS("net", "user"));
	memset(words, 'x', 2040);
	words[2040] = '\0';
	assert_int_equal(veneer_config_set(config, "cmdline", words, NULL), 0);
	assert_in_range(expect_failure(config, &failure), 0, SMALL_PAGES(16));
	veneer_config_free(config);
	use_huge_pages(true);
}

// What the host lacks at the moment is not the configuration's fault.
static void a_port_that_is_taken(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);
	struct failure failure = {
		.kind = VENEER_ERROR_HOST, .key = "net0.hostfwd", .words = "cannot forward"};
	char forward[64];
	(void)state;
	need_kvm();
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
	snprintf(forward, sizeof(forward), "user,hostfwd=tcp:127.0.0.1:%u:22",
		(unsigned)ntohs(address.sin_port));
	use_huge_pages(false);
	struct veneer_config *config = configure(OPTIONS("net", forward));
	assert_in_range(expect_failure(config, &failure), 0, SMALL_PAGES(16));
	veneer_config_free(config);
	use_huge_pages(true);
	close(fd);
}

static void *read_often(void *arg)
{
	for (unsigned i = 0; i < 100; i++)
		veneer_stats_free(snapshot(arg));
	return NULL;
}

// Before, while and after it runs; also by two threads at once; and a snapshot outlives its guest.
static void statistics_at_any_time(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
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
	await_exits(vm, 1);
	veneer_stop(vm);
	wait_for(vm);
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

// A device is called as the configuration calls it, beside its name in messages.
static void statistics_name_what_was_configured(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("net", "user", "net", "user", "rng", "on"));
	struct veneer_stats *stats = snapshot(vm);
	assert_string_equal(stats->devices[0]->key, "net0");
	assert_string_equal(stats->devices[1]->key, "net1");
	assert_string_equal(stats->devices[2]->key, "rng");
	assert_string_equal(stats->devices[2]->name, "rng0");
	assert_null(stats->devices[3]);
	veneer_destroy(vm);
	veneer_stats_free(stats);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_hands_back_its_value),
		cmocka_unit_test(events_come_in_order),
		cmocka_unit_test(a_wait_has_a_limit),
		cmocka_unit_test(each_wait_has_its_own_limit),
		cmocka_unit_test(a_start_that_fails_ends_the_guest),
		cmocka_unit_test(structures_have_other_sizes),
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
		cmocka_unit_test(no_thread_does_nothing),
		cmocka_unit_test(cells_tell_their_backing),
		cmocka_unit_test(failures_leave_nothing),
		cmocka_unit_test(a_long_command_line_leaves_nothing),
		cmocka_unit_test(a_port_that_is_taken),
		cmocka_unit_test(statistics_at_any_time),
		cmocka_unit_test(statistics_name_what_was_configured),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
