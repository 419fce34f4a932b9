// SPDX-License-Identifier: Apache-2.0
//
// A guest's states through the library, on /dev/kvm with the built-in guest: paused wherever it is,
// reset from every state, stopped in between, by one thread and by many.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/x86/boot.h"
#include "base/macros.h"
#include "tests/guest/embed.h"
#include "vmm/builtin.h"

// Safety nets against a hang, far above what anything takes.
#define TRIES    60000
#define LIMIT_MS 60000

#define OUTPUT_MAX MIB

// ---- Helpers

static int make_file(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static struct veneer *make_printing(const char *const *options, int output)
{
	struct veneer_config *config = configure(options);
	assert_int_equal(veneer_config_set_fd(config, "serial.out", output, NULL), 0);
	return make_from(config);
}

static void start(struct veneer *vm)
{
	struct veneer_error error;
	if (veneer_start(vm, &error) < 0)
		fail_msg("%s", error.message);
}

static void pause_guest(struct veneer *vm)
{
	struct veneer_error error;
	if (veneer_pause(vm, &error) < 0)
		fail_msg("%s", error.message);
}

static void resume(struct veneer *vm)
{
	struct veneer_error error;
	if (veneer_resume(vm, &error) < 0)
		fail_msg("%s", error.message);
}

static void reset(struct veneer *vm)
{
	struct veneer_error error;
	if (veneer_reset(vm, &error) < 0)
		fail_msg("%s", error.message);
}

// All that a guest has printed so far; the caller's.
static char *output_of(int fd)
{
	char *text = calloc(1, OUTPUT_MAX + 1);
	assert_non_null(text);
	assert_true(pread(fd, text, OUTPUT_MAX, 0) >= 0);
	return text;
}

static unsigned count_in(const char *text, const char *words)
{
	unsigned count = 0;
	while ((text = strstr(text, words))) {
		text += strlen(words);
		count++;
	}
	return count;
}

static unsigned printed(int fd, const char *words)
{
	char *text = output_of(fd);
	unsigned count = count_in(text, words);
	free(text);
	return count;
}

// Until the words have been printed so often.
static void await_printed(int fd, const char *words, unsigned count)
{
	for (unsigned i = 0; i < TRIES && printed(fd, words) < count; i++)
		usleep(1000);
	if (printed(fd, words) < count) {
		char *text = output_of(fd);
		fail_msg("'%s' is not there %u times: %s", words, count, text);
	}
}

static uint64_t io_exits(struct veneer *vm)
{
	struct veneer_stats *stats = snapshot(vm);
	uint64_t count = exits(stats, 0, "io");
	veneer_stats_free(stats);
	return count;
}

static uint64_t running_ns(struct veneer *vm)
{
	struct veneer_stats *stats = snapshot(vm);
	uint64_t ns = stats->running_ns;
	veneer_stats_free(stats);
	return ns;
}

static void await_more_exits(struct veneer *vm, uint64_t than)
{
	for (unsigned i = 0; i < TRIES && io_exits(vm) <= than; i++)
		usleep(1000);
	assert_true(io_exits(vm) > than);
}

static void expect_event(struct veneer *vm, enum veneer_event_kind kind)
{
	struct veneer_event event;
	struct pollfd wait = {.fd = veneer_event_fd(vm), .events = POLLIN};
	assert_int_equal(poll(&wait, 1, LIMIT_MS), 1);
	assert_int_equal(veneer_next_event(vm, &event, sizeof(event)), 1);
	assert_int_equal(event.kind, kind);
}

static void expect_no_event(struct veneer *vm)
{
	struct veneer_event event;
	assert_int_equal(veneer_next_event(vm, &event, sizeof(event)), 0);
}

// A call that the state does not allow says which state that is.
static void expect_refused(int code, const struct veneer_error *error, const char *words)
{
	assert_int_equal(code, -EINVAL);
	assert_int_equal(error->kind, VENEER_ERROR_STATE);
	if (strcmp(error->message, words) != 0)
		fail_msg("'%s', not '%s'", error->message, words);
}

#define EXPECT_REFUSED(call, words)                                                                \
	do {                                                                                       \
		struct veneer_error refused = {.code = 0};                                         \
		expect_refused(call(vm, &refused), &refused, words);                               \
		assert_int_equal(call(vm, NULL), -EINVAL);                                         \
	} while (0)

static void end_it(struct veneer *vm)
{
	veneer_stop(vm);
	assert_int_equal(wait_for(vm).end, VENEER_END_STOPPED);
	veneer_destroy(vm);
}

// ---- Pausing

static void what_does_not_fit_the_state_is_refused(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	EXPECT_REFUSED(veneer_pause, "cannot pause a guest that has not been started");
	EXPECT_REFUSED(veneer_resume, "cannot resume a guest that has not been started");
	EXPECT_REFUSED(veneer_reset, "cannot reset a guest that has not been started");
	EXPECT_REFUSED(veneer_press_power_button,
		"cannot press the power button of a guest that has not been started");
	start(vm);
	EXPECT_REFUSED(veneer_start, "cannot start a guest that is running");
	pause_guest(vm);
	EXPECT_REFUSED(veneer_start, "cannot start a guest that is paused");
	EXPECT_REFUSED(veneer_press_power_button,
		"cannot press the power button of a guest that is paused");
	veneer_stop(vm);
	assert_int_equal(wait_for(vm).end, VENEER_END_STOPPED);
	EXPECT_REFUSED(veneer_start, "cannot start a guest that has ended");
	EXPECT_REFUSED(veneer_pause, "cannot pause a guest that has ended");
	EXPECT_REFUSED(veneer_resume, "cannot resume a guest that has ended");
	EXPECT_REFUSED(veneer_press_power_button,
		"cannot press the power button of a guest that has ended");
	veneer_destroy(vm);

	vm = make(OPTIONS("cmdline", "spin"));
	veneer_stop(vm); // before its start
	EXPECT_REFUSED(veneer_pause, "cannot pause a guest that has ended");
	veneer_destroy(vm);
}

// The guest that looks for its power button leaves for user space a hundred times a second.
static void a_paused_guest_does_nothing(void **state)
{
	(void)state;
	need_kvm();
	int output = make_file("output");
	struct veneer *vm = make_printing(OPTIONS("cmdline", "button", "cpus", "3"), output);
	start(vm);
	await_printed(output, "ready", 1);
	for (unsigned round = 0; round < 20; round++) {
		await_more_exits(vm, io_exits(vm));
		pause_guest(vm);
		assert_int_equal(veneer_get_state(vm), VENEER_STATE_PAUSED);
		uint64_t count = io_exits(vm), ran = running_ns(vm);
		usleep(50000);
		assert_int_equal(io_exits(vm), count);
		assert_int_equal(running_ns(vm), ran);
		resume(vm);
		assert_int_equal(veneer_get_state(vm), VENEER_STATE_RUNNING);
	}
	await_more_exits(vm, io_exits(vm));
	assert_int_equal(veneer_press_power_button(vm, NULL), 0);
	assert_int_equal(wait_for(vm).end, VENEER_END_EXIT);
	assert_int_equal(printed(output, "pressed"), 1);
	veneer_destroy(vm);
	close(output);
}

static void pausing_twice_is_pausing(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	start(vm);
	resume(vm); // of one that runs
	expect_event(vm, VENEER_EVENT_STARTED);
	expect_no_event(vm);
	pause_guest(vm);
	pause_guest(vm);
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_PAUSED);
	expect_event(vm, VENEER_EVENT_PAUSED);
	expect_no_event(vm);
	resume(vm);
	resume(vm);
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_RUNNING);
	expect_event(vm, VENEER_EVENT_RESUMED);
	expect_no_event(vm);
	end_it(vm);
}

static void a_paused_guest_can_be_stopped(void **state)
{
	(void)state;
	need_kvm();
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	start(vm);
	pause_guest(vm);
	struct veneer_event end;
	assert_int_equal(veneer_wait(vm, 0, &end, sizeof(end), NULL), -ETIMEDOUT);
	uint64_t ran = running_ns(vm);
	veneer_stop(vm);
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_ENDED);
	assert_int_equal(wait_for(vm).end, VENEER_END_STOPPED);
	assert_int_equal(running_ns(vm), ran);
	veneer_destroy(vm);

	vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	start(vm);
	pause_guest(vm);
	veneer_destroy(vm); // which stops it
	expect_nothing_left(descriptors, threads);
}

// In KVM_RUN without an exit, asleep with and without a wake-up to come, as a processor that was
// never started, between two exits, and in the middle of one.
static void a_pause_finds_vcpus_wherever_they_are(void **state)
{
	static const char *const words[] = {"spin", "hlt", "smp spin", "smp hlt", "button",
		"blk-load=read4k,1,irq,1000000000 spin", "blk-load=read4k,32,poll,1000000000 spin"};
	(void)state;
	need_kvm();
	int disk = make_file("disk");
	assert_int_equal(ftruncate(disk, 8 * MIB), 0);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		struct veneer *vm = make(OPTIONS("cmdline", words[i], "cpus", "3", "disk", path));
		start(vm);
		for (unsigned round = 0; round < 30; round++) {
			usleep(round * 499);
			pause_guest(vm);
			assert_int_equal(veneer_get_state(vm), VENEER_STATE_PAUSED);
			resume(vm);
		}
		assert_int_equal(veneer_get_state(vm), VENEER_STATE_RUNNING);
		end_it(vm);
	}
	close(disk);
}

static size_t read_all_there_is(int fd, char *text, size_t have)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	while (poll(&wait, 1, 100) == 1) {
		ssize_t got = read(fd, text + have, OUTPUT_MAX - have);
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	return have;
}

// The guest writes to a pipe that is full, or waits for the transmitter in front of it.
static void a_pause_finds_a_full_pipe(void **state)
{
	enum { LINES = 32 * 16, PIPE = 4096, BUFFER = 8192 };
	(void)state;
	need_kvm();
	int pipe_fds[2];
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_true(fcntl(pipe_fds[1], F_SETPIPE_SZ, PIPE) >= PIPE);
	struct veneer *vm = make_printing(OPTIONS("cmdline", "flood=32"), pipe_fds[1]);
	start(vm);
	// An exit for each byte, and one for each look at the transmitter.
	await_more_exits(vm, (PIPE + BUFFER) / 16 * 20);
	for (unsigned round = 0; round < 10; round++) {
		usleep(round * 1009);
		pause_guest(vm);
		resume(vm);
	}
	// What is out of the guest arrives while it is paused.
	char *text = calloc(1, OUTPUT_MAX + 1);
	pause_guest(vm);
	uint64_t count = io_exits(vm);
	size_t have = read_all_there_is(pipe_fds[0], text, 0);
	assert_int_equal(io_exits(vm), count);
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_PAUSED);
	assert_in_range(have, 1, PIPE + BUFFER);
	resume(vm);
	while (have < LINES * 64) {
		struct pollfd wait = {.fd = pipe_fds[0], .events = POLLIN};
		assert_int_equal(poll(&wait, 1, LIMIT_MS), 1);
		ssize_t got = read(pipe_fds[0], text + have, OUTPUT_MAX - have);
		assert_true(got > 0);
		have += (size_t)got;
	}
	assert_int_equal(wait_for(vm).end, VENEER_END_EXIT);
	assert_int_equal(have, LINES * 64);
	for (unsigned i = 0; i < LINES; i++) {
		char line[80];
		snprintf(line, sizeof(line),
			"flood %010u of %010u: abcdefghijklmnopqrstuvwxyz 0123\n", i, LINES);
		assert_memory_equal(text + i * 64, line, 64);
	}
	free(text);
	veneer_destroy(vm);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

// A guest may end just when it is to pause: one of the two comes first.
static void a_pause_meets_an_end(void **state)
{
	(void)state;
	need_kvm();
	for (unsigned round = 0; round < 50; round++) {
		struct veneer_error error;
		struct veneer *vm = make(OPTIONS("cmdline", "exit=3", "cpus", "2"));
		start(vm);
		usleep(round * 101);
		int code = veneer_pause(vm, &error);
		if (code < 0)
			expect_refused(code, &error, "cannot pause a guest that has ended");
		else
			resume(vm);
		struct veneer_event end = wait_for(vm);
		assert_int_equal(end.end, VENEER_END_EXIT);
		assert_int_equal(end.value, 3);
		veneer_destroy(vm);
	}
}

// A guest that panicked is given a second without output for its last words: not one of a pause.
static void a_pause_is_no_silence(void **state)
{
	(void)state;
	need_kvm();
	int output = make_file("output");
	struct veneer *vm = make_printing(OPTIONS("cmdline", "panic spin"), output);
	struct veneer_error error;
	start(vm);
	await_printed(output, "spin: for ever", 1);
	if (veneer_pause(vm, &error) == 0) {
		sleep(2);
		assert_int_equal(veneer_get_state(vm), VENEER_STATE_PAUSED);
		resume(vm);
	} else {
		expect_refused(-EINVAL, &error, "cannot pause a guest that has ended");
	}
	assert_int_equal(wait_for(vm).end, VENEER_END_PANIC);
	veneer_destroy(vm);
	close(output);
}

// ---- Reset

// What lies outside of the kernel's image stays, the kernel begins anew.
static void a_running_guest_is_reset(void **state)
{
	(void)state;
	need_kvm();
	int output = make_file("output");
	struct veneer *vm =
		make_printing(OPTIONS("cmdline", "keep=0xbeef smp spin", "cpus", "3"), output);
	start(vm);
	await_printed(output, "spin: for ever", 1);
	assert_int_equal(printed(output, "keep: found 0, leaves beef"), 1);
	expect_event(vm, VENEER_EVENT_STARTED);
	for (unsigned life = 2; life < 8; life++) {
		reset(vm);
		assert_int_equal(veneer_get_state(vm), VENEER_STATE_RUNNING);
		expect_event(vm, VENEER_EVENT_RESET);
		expect_no_event(vm);
		await_printed(output, "spin: for ever", life);
		assert_int_equal(printed(output, "keep: found beef, leaves beef"), life - 1);
		assert_int_equal(printed(output, "smp: 3 of 3 CPUs up"), life);
	}
	assert_int_equal(printed(output, "FAIL"), 0);
	end_it(vm);
	close(output);
}

static void a_paused_guest_is_reset_and_stays_so(void **state)
{
	(void)state;
	need_kvm();
	int output = make_file("output");
	struct veneer *vm =
		make_printing(OPTIONS("cmdline", "keep=0xcafe button", "cpus", "2"), output);
	start(vm);
	await_printed(output, "ready", 1);
	for (unsigned life = 2; life < 5; life++) {
		pause_guest(vm);
		reset(vm);
		reset(vm);
		assert_int_equal(veneer_get_state(vm), VENEER_STATE_PAUSED);
		uint64_t count = io_exits(vm);
		usleep(50000);
		assert_int_equal(io_exits(vm), count);
		assert_int_equal(printed(output, "ready"), life - 1);
		resume(vm);
		await_printed(output, "ready", life);
		assert_int_equal(printed(output, "keep: found cafe"), life - 1);
	}
	assert_int_equal(veneer_press_power_button(vm, NULL), 0);
	assert_int_equal(wait_for(vm).end, VENEER_END_EXIT);
	veneer_destroy(vm);
	close(output);
}

static void a_press_does_not_outlive_a_reset(void **state)
{
	(void)state;
	need_kvm();
	int input[2], output = make_file("output");
	assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	struct veneer_config *config = configure(OPTIONS("cmdline", "echo button"));
	assert_int_equal(veneer_config_set_fd(config, "serial.in", input[0], NULL), 0);
	assert_int_equal(veneer_config_set_fd(config, "serial.out", output, NULL), 0);
	struct veneer *vm = make_from(config);
	start(vm);
	await_printed(output, "ready", 1); // for lines to echo
	assert_int_equal(veneer_press_power_button(vm, NULL), 0);
	reset(vm);
	await_printed(output, "ready", 2);
	assert_int_equal(write(input[1], "quit\n", 5), 5);
	await_printed(output, "ready", 3); // for the button
	await_more_exits(vm, io_exits(vm) + 10);
	assert_int_equal(printed(output, "pressed"), 0);
	assert_int_equal(veneer_press_power_button(vm, NULL), 0);
	assert_int_equal(wait_for(vm).end, VENEER_END_EXIT);
	assert_int_equal(printed(output, "pressed"), 1);
	veneer_destroy(vm);
	for (unsigned i = 0; i < 2; i++)
		close(input[i]);
	close(output);
}

// However it ended.
static void a_guest_that_has_ended_is_reset_and_starts_again(void **state)
{
	static const struct {
		const char *words;
		enum veneer_end end;
	} cases[] = {
		{"keep=0xf00d reset", VENEER_END_RESET},
		{"keep=0xf00d reset=cf9", VENEER_END_RESET},
		{"keep=0xf00d poweroff", VENEER_END_POWEROFF},
		{"keep=0xf00d triple", VENEER_END_CRASH},
		{"keep=0xf00d panic reset", VENEER_END_PANIC},
		{"keep=0xf00d dump", VENEER_END_EXIT},
	};
	(void)state;
	need_kvm();
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int output = make_file("output");
		struct veneer *vm =
			make_printing(OPTIONS("cmdline", cases[i].words, "cpus", "2"), output);
		struct veneer_event end;
		for (unsigned life = 1; life < 4; life++) {
			start(vm);
			expect_event(vm, VENEER_EVENT_STARTED);
			assert_int_equal(wait_for(vm).end, cases[i].end);
			expect_event(vm, VENEER_EVENT_ENDED);
			assert_int_equal(printed(output, "keep: found"), life);
			assert_int_equal(printed(output, "keep: found f00d"), life - 1);
			reset(vm);
			expect_event(vm, VENEER_EVENT_RESET);
			expect_no_event(vm);
			assert_int_equal(veneer_get_state(vm), VENEER_STATE_CREATED);
			assert_int_equal(veneer_wait(vm, -1, &end, sizeof(end), NULL), -EINVAL);
			EXPECT_REFUSED(
				veneer_reset, "cannot reset a guest that has not been started");
		}
		veneer_destroy(vm);
		close(output);
	}
}

static void a_guest_that_was_stopped_starts_again(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
	for (unsigned life = 0; life < 5; life++) {
		start(vm);
		usleep(life * 3001);
		if (life % 2)
			pause_guest(vm);
		veneer_stop(vm);
		if (life < 3) // with the end waited for, and not
			assert_int_equal(wait_for(vm).end, VENEER_END_STOPPED);
		reset(vm);
	}
	veneer_stop(vm);
	reset(vm); // one that was stopped before its start
	start(vm);
	end_it(vm);
}

static void resets_leave_nothing_behind(void **state)
{
	(void)state;
	need_kvm();
	struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2", "net", "user"));
	start(vm);
	reset(vm);
	int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
	for (unsigned i = 0; i < 50; i++)
		reset(vm);
	expect_nothing_left(descriptors, threads);
	for (unsigned i = 0; i < 50; i++) {
		veneer_stop(vm);
		reset(vm);
		start(vm);
	}
	expect_nothing_left(descriptors, threads);
	end_it(vm);
}

static void devices_work_after_a_reset(void **state)
{
	static const char *const transports[] = {"pci", "mmio"};
	(void)state;
	need_kvm();
	int disk = make_file("disk");
	assert_int_equal(ftruncate(disk, 8 * MIB), 0);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d,queues=2", disk);
	for (unsigned i = 0; i < 2; i++) {
		int output = make_file("output");
		struct veneer *vm =
			make_printing(OPTIONS("transport", transports[i], "disk", path, "net",
					      "user", "rng", "on", "cpus", "2", "cmdline",
					      "blk-fill=7 blk-check=7 net-send=20,64 "
					      "blk-load=read4k,32,irq,1000000000 spin"),
				output);
		start(vm);
		for (unsigned life = 1; life < 6; life++) {
			await_printed(output, "net-send: 20 of 20", life);
			usleep(life * 10007); // with reads in flight
			assert_int_equal(printed(output, "seed 7: ok"), 2 * life);
			assert_int_equal(printed(output, "FAIL"), 0);
			if (life == 3)
				pause_guest(vm);
			reset(vm);
			if (life == 3)
				resume(vm);
		}
		end_it(vm);
		close(output);
	}
	close(disk);
}

// As a guest's kernel may do with its own console: what it has sent is not lost by its reset.
static void output_survives_a_reset(void **state)
{
	(void)state;
	need_kvm();
	int output = make_file("output");
	struct veneer *vm = make_printing(OPTIONS("cmdline", "flood=32 reset"), output);
	for (unsigned life = 1; life < 4; life++) {
		start(vm);
		assert_int_equal(wait_for(vm).end, VENEER_END_RESET);
		assert_int_equal(printed(output, "0123\n"), life * 32 * 16);
		assert_int_equal(printed(output, "reset\n"), life);
		reset(vm);
	}
	veneer_destroy(vm);
	close(output);
}

static void write_kernel(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, vn_builtin_guest, vn_builtin_guest_size), vn_builtin_guest_size);
	close(fd);
}

// A reset is refused, and changes nothing.
static void expect_no_kernel(struct veneer *vm, const char *path)
{
	struct veneer_error error = {.code = 0};
	enum veneer_state before = veneer_get_state(vm);
	assert_int_equal(veneer_reset(vm, &error), -ENOENT);
	assert_non_null(strstr(error.message, path));
	assert_null(strchr(error.message, '\n'));
	assert_int_equal(veneer_get_state(vm), before);
}

static void a_kernel_that_is_gone_is_no_end(void **state)
{
	(void)state;
	need_kvm();
	char directory[] = "/tmp/veneer-life-XXXXXX", path[64];
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/kernel", directory);
	static const char *const words[] = {"spin", "reset"};
	for (unsigned i = 0; i < 3; i++) { // while it runs, is paused, and has ended
		write_kernel(path);
		struct veneer *vm =
			make(OPTIONS("kernel", path, "cmdline", words[i == 2], "cpus", "2"));
		start(vm);
		if (i == 1)
			pause_guest(vm);
		if (i == 2)
			assert_int_equal(wait_for(vm).end, VENEER_END_RESET);
		assert_int_equal(unlink(path), 0);
		expect_no_kernel(vm, path);
		expect_no_kernel(vm, path);
		if (i == 1)
			resume(vm);
		if (i == 2)
			assert_int_equal(wait_for(vm).end, VENEER_END_RESET); // still
		write_kernel(path); // the next reset finds it again
		reset(vm);
		if (i < 2)
			veneer_stop(vm);
		else
			start(vm);
		assert_int_equal(wait_for(vm).end, i < 2 ? VENEER_END_STOPPED : VENEER_END_RESET);
		veneer_destroy(vm);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

// The files are found damaged only while they are loaded over the guest's own.
static bool files_are_damaged;

int __real_vn_boot_load(struct vn_boot_source *source, const struct vn_boot *boot,
	const struct vn_memory *memory, struct veneer_error *error);
int __wrap_vn_boot_load(struct vn_boot_source *source, const struct vn_boot *boot,
	const struct vn_memory *memory, struct veneer_error *error);

int __wrap_vn_boot_load(struct vn_boot_source *source, const struct vn_boot *boot,
	const struct vn_memory *memory, struct veneer_error *error)
{
	return files_are_damaged ? vn_fail(error, -ENOEXEC, "damaged")
				 : __real_vn_boot_load(source, boot, memory, error);
}

static void a_reset_that_fails_ends_the_guest(void **state)
{
	static const char *const words[] = {"spin", "spin", "reset"};
	(void)state;
	need_kvm();
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) { // it runs, is paused, has ended
		struct veneer *vm = make(OPTIONS("cmdline", words[i], "cpus", "2"));
		struct veneer_error error = {.code = 0};
		start(vm);
		if (i == 1)
			pause_guest(vm);
		if (i == 2)
			assert_int_equal(wait_for(vm).end, VENEER_END_RESET);
		files_are_damaged = true;
		assert_int_equal(veneer_reset(vm, &error), -ENOEXEC);
		files_are_damaged = false;
		assert_int_equal(veneer_get_state(vm), VENEER_STATE_ENDED);
		struct veneer_event end = wait_for(vm);
		assert_int_equal(end.end, VENEER_END_FAILED);
		assert_string_equal(end.message, "damaged");
		EXPECT_REFUSED(veneer_start, "cannot start a guest that has ended");
		reset(vm);
		start(vm);
		if (i < 2)
			veneer_stop(vm);
		assert_int_equal(wait_for(vm).end, i < 2 ? VENEER_END_STOPPED : VENEER_END_RESET);
		veneer_destroy(vm);
	}
}

// Another process of this user may have taken all the room for queued signals.
static void a_pause_needs_no_room_for_signals(void **state)
{
	static const char *const words[] = {"hlt", "spin"};
	struct rlimit before, none;
	(void)state;
	need_kvm();
	assert_int_equal(getrlimit(RLIMIT_SIGPENDING, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &none), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		struct veneer *vm = make(OPTIONS("cmdline", words[i], "cpus", "2"));
		start(vm);
		for (unsigned round = 0; round < 20; round++) {
			usleep(round * 499);
			pause_guest(vm);
			resume(vm);
		}
		end_it(vm);
	}
	assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &before), 0);
}

// All threads of a program may block the signal that is the kick, and one for the process then
// stays pending.
static void a_signal_for_the_process_stops_no_guest(void **state)
{
	sigset_t urgent, before;
	(void)state;
	need_kvm();
	int output = make_file("output");
	sigemptyset(&urgent);
	sigaddset(&urgent, SIGURG);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &urgent, &before), 0);
	struct veneer *vm = make_printing(OPTIONS("cmdline", "button"), output);
	start(vm);
	await_printed(output, "ready", 1);
	for (unsigned round = 0; round < 10; round++) {
		assert_int_equal(kill(getpid(), SIGURG), 0);
		await_more_exits(vm, io_exits(vm) + 3);
		pause_guest(vm);
		resume(vm);
	}
	end_it(vm);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	close(output);
}

// ---- Many threads

#define THREADS 4
#define CALLS   1000

struct crowd {
	struct veneer *vm;
	atomic_uint seed;
};

static void expect_done_or_refused(int code, const struct veneer_error *error)
{
	if (code == 0)
		return;
	if (code != -EINVAL || error->kind != VENEER_ERROR_STATE ||
		!strstr(error->message, " a guest that "))
		fail_msg("%d: %s", code, error->message);
}

static void look_at(struct veneer *vm, unsigned which)
{
	struct veneer_event event;
	struct veneer_error error = {.code = 0};
	int code;
	switch (which % 5) {
	case 0:
		veneer_stats_free(snapshot(vm));
		break;
	case 1:
		assert_in_range(veneer_get_state(vm), VENEER_STATE_CREATED, VENEER_STATE_PAUSED);
		break;
	case 2:
		veneer_next_event(vm, &event, sizeof(event));
		break;
	case 3:
		assert_int_equal(veneer_refresh_disk(vm, "disk0", NULL), 0);
		break;
	default:
		code = veneer_wait(vm, 0, &event, sizeof(event), &error);
		if (code != -ETIMEDOUT)
			expect_done_or_refused(code, &error);
	}
}

// Most often what keeps the guest alive; an end is followed by a reset and a start sooner or later.
static void do_something(struct veneer *vm, unsigned what)
{
	struct veneer_error error = {.code = 0};
	unsigned which = what % 32;
	int code = 0;
	if (which < 8)
		code = veneer_pause(vm, &error);
	else if (which < 16)
		code = veneer_resume(vm, &error);
	else if (which < 20)
		code = veneer_press_power_button(vm, &error);
	else if (which < 22)
		code = veneer_start(vm, &error);
	else if (which < 23)
		code = veneer_reset(vm, &error);
	else if (which < 24 && what / 32 % 4 == 0)
		veneer_stop(vm);
	else
		look_at(vm, what / 32);
	expect_done_or_refused(code, &error);
}

static void *call_often(void *arg)
{
	struct crowd *crowd = arg;
	uint32_t seed = atomic_fetch_add(&crowd->seed, 1);
	for (unsigned i = 0; i < CALLS; i++) {
		seed = seed * 1664525 + 1013904223;
		do_something(crowd->vm, seed >> 16);
	}
	return NULL;
}

static void expect_it_still_works(struct veneer *vm, int output)
{
	veneer_stop(vm);
	(void)wait_for(vm);
	reset(vm);
	unsigned lives = printed(output, "ready");
	start(vm);
	await_printed(output, "ready", lives + 1);
	pause_guest(vm);
	resume(vm);
	end_it(vm);
}

static void any_call_from_any_thread_in_any_order(void **state)
{
	static const char *const words[] = {
		"button=1000000", "smp button=1000000", "blk-fill=3 button=1000000"};
	(void)state;
	need_kvm();
	int disk = make_file("disk");
	assert_int_equal(ftruncate(disk, MIB), 0);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	for (unsigned round = 0; round < ARRAY_SIZE(words); round++) {
		int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
		int output = make_file("output");
		struct crowd crowd = {.vm = make_printing(OPTIONS("cmdline", words[round], "cpus",
								  "2", "disk", path, "net", "user"),
					      output),
			.seed = round * THREADS};
		start(crowd.vm);
		pthread_t callers[THREADS];
		for (unsigned i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&callers[i], NULL, call_often, &crowd), 0);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(callers[i], NULL);
		expect_it_still_works(crowd.vm, output);
		close(output);
		expect_nothing_left(descriptors, threads);
	}
	close(disk);
}

// One waits, another pauses and resumes, and a third ends it.
static void *wait_without_limit(void *arg)
{
	struct veneer_event end;
	if (veneer_wait(arg, -1, &end, sizeof(end), NULL) < 0)
		return NULL;
	return (void *)(uintptr_t)(end.end + 1);
}

static void who_waits_hears_of_an_end_in_a_pause(void **state)
{
	(void)state;
	need_kvm();
	for (unsigned round = 0; round < 10; round++) {
		struct veneer *vm = make(OPTIONS("cmdline", "spin", "cpus", "2"));
		pthread_t waiter;
		void *end;
		start(vm);
		assert_int_equal(pthread_create(&waiter, NULL, wait_without_limit, vm), 0);
		pause_guest(vm);
		reset(vm); // which is no end
		usleep(round * 1009);
		if (round % 2)
			resume(vm);
		veneer_stop(vm);
		pthread_join(waiter, &end);
		assert_int_equal((uintptr_t)end, VENEER_END_STOPPED + 1);
		veneer_destroy(vm);
	}
}

// One thread writes the rest of the output after an end, to a pipe that nobody reads, which takes a
// second. A reset waits for it; another wait for the end keeps to its limit.
static void a_reset_meets_a_wait(void **state)
{
	(void)state;
	need_kvm();
	int pipe_fds[2];
	pthread_t waiter;
	void *end;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_true(fcntl(pipe_fds[1], F_SETPIPE_SZ, 4096) >= 4096);
	struct veneer *vm = make_printing(OPTIONS("cmdline", "flood=64"), pipe_fds[1]);
	start(vm);
	await_more_exits(vm, (4096 + 8192) / 16 * 20); // the pipe and the buffer are full
	veneer_stop(vm);
	assert_int_equal(pthread_create(&waiter, NULL, wait_without_limit, vm), 0);
	usleep(200000); // it is in there
	assert_int_equal(veneer_wait(vm, 50, NULL, 0, NULL), -ETIMEDOUT);
	reset(vm);
	assert_int_equal(veneer_get_state(vm), VENEER_STATE_CREATED);
	pthread_join(waiter, &end);
	assert_int_equal((uintptr_t)end, VENEER_END_STOPPED + 1);
	start(vm);
	end_it(vm);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_does_not_fit_the_state_is_refused),
		cmocka_unit_test(a_paused_guest_does_nothing),
		cmocka_unit_test(pausing_twice_is_pausing),
		cmocka_unit_test(a_paused_guest_can_be_stopped),
		cmocka_unit_test(a_pause_finds_vcpus_wherever_they_are),
		cmocka_unit_test(a_pause_finds_a_full_pipe),
		cmocka_unit_test(a_pause_meets_an_end),
		cmocka_unit_test(a_pause_is_no_silence),
		cmocka_unit_test(a_running_guest_is_reset),
		cmocka_unit_test(a_paused_guest_is_reset_and_stays_so),
		cmocka_unit_test(a_press_does_not_outlive_a_reset),
		cmocka_unit_test(a_guest_that_has_ended_is_reset_and_starts_again),
		cmocka_unit_test(a_guest_that_was_stopped_starts_again),
		cmocka_unit_test(resets_leave_nothing_behind),
		cmocka_unit_test(devices_work_after_a_reset),
		cmocka_unit_test(output_survives_a_reset),
		cmocka_unit_test(a_kernel_that_is_gone_is_no_end),
		cmocka_unit_test(a_reset_that_fails_ends_the_guest),
		cmocka_unit_test(a_pause_needs_no_room_for_signals),
		cmocka_unit_test(a_signal_for_the_process_stops_no_guest),
		cmocka_unit_test(any_call_from_any_thread_in_any_order),
		cmocka_unit_test(who_waits_hears_of_an_end_in_a_pause),
		cmocka_unit_test(a_reset_meets_a_wait),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
