// SPDX-License-Identifier: Apache-2.0
//
// Pauses at random moments while the built-in guest works with a disk, on /dev/kvm: a thousand
// under the journal whose judge also judges kills and power losses (crash.sh), and others under
// reads by interrupt and by polling, masked messages, and drivers that reset the disk or its queue.
//
//     test_pauses JOURNAL
//
// JOURNAL is the judge's program.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macros.h"
#include "tests/guest/embed.h"

#define DISK_SIZE  (8 * MIB)
#define OUTPUT_MAX (4 * MIB)

// At most so long runs and rests alternate.
#define RUN_US  3000
#define REST_US 1000

// A safety net against a hang, far above what anything takes.
#define PROGRESS_MS 60000

static const char *judge;
static char disk[] = "pauses-XXXXXX";

static int make_disk(void **state)
{
	(void)state;
	int fd = mkstemp(disk);
	if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0)
		return -1;
	return close(fd);
}

static int remove_disk(void **state)
{
	(void)state;
	return unlink(disk);
}

static int empty_disk(void **state)
{
	(void)state;
	return truncate(disk, 0) < 0 || truncate(disk, DISK_SIZE) < 0 ? -1 : 0;
}

struct guest {
	struct veneer *vm;
	int output;
	unsigned pauses; // so far
	unsigned seed;
};

static void start(struct guest *guest, const char *transport, const char *disk_options,
	const char *cmdline, unsigned seed)
{
	char path[128];
	struct veneer_error error;
	snprintf(path, sizeof(path), "%s%s", disk, disk_options);
	struct veneer_config *config = configure(OPTIONS("memory", "64M", "transport", transport,
		"disk", path, "rng", "off", "cmdline", cmdline));
	*guest = (struct guest){.output = memfd_create("output", MFD_CLOEXEC), .seed = seed};
	assert_int_equal(veneer_config_set_fd(config, "serial.out", guest->output, NULL), 0);
	guest->vm = make_from(config);
	if (veneer_start(guest->vm, &error) < 0)
		fail_msg("%s", error.message);
}

static uint64_t count_requests(struct veneer *vm)
{
	struct veneer_stats *stats = snapshot(vm);
	uint64_t requests = stats->devices[0]->queues[0]->requests;
	veneer_stats_free(stats);
	return requests;
}

static bool has_ended(const struct guest *guest)
{
	return veneer_get_state(guest->vm) == VENEER_STATE_ENDED;
}

static void pause_once(struct guest *guest)
{
	struct veneer_error error;
	usleep((useconds_t)rand_r(&guest->seed) % RUN_US);
	if (veneer_pause(guest->vm, &error) < 0) {
		if (!has_ended(guest))
			fail_msg("%s", error.message);
		return;
	}
	guest->pauses++;
	uint64_t before = count_requests(guest->vm);
	usleep((useconds_t)rand_r(&guest->seed) % REST_US);
	assert_int_equal(count_requests(guest->vm), before);
	assert_int_equal(veneer_resume(guest->vm, NULL), 0);
}

// What the guest has printed; the caller's.
static char *read_output(const struct guest *guest)
{
	char *text = calloc(1, OUTPUT_MAX + 1);
	assert_non_null(text);
	assert_true(pread(guest->output, text, OUTPUT_MAX, 0) >= 0);
	return text;
}

// The last number of a whole line "flushed N", or 0.
static uint64_t last_flushed(const char *text)
{
	uint64_t last = 0;
	for (const char *line = text; (line = strstr(line, "flushed ")); line++) {
		char *end;
		uint64_t number = strtoull(line + strlen("flushed "), &end, 10);
		if (*end == '\r' || *end == '\n')
			last = number;
	}
	return last;
}

static int run_judge(uint64_t seed, uint64_t flushed)
{
	char seed_text[24], flushed_text[24];
	int status;
	snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
	snprintf(flushed_text, sizeof(flushed_text), "%llu", (unsigned long long)flushed);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		execl(judge, judge, disk, seed_text, flushed_text, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// After all its pauses, it writes.
static void expect_progress(const struct guest *guest)
{
	uint64_t before = count_requests(guest->vm);
	for (unsigned tries = 0; tries < PROGRESS_MS && count_requests(guest->vm) <= before;
		tries++)
		usleep(1000);
	assert_true(count_requests(guest->vm) > before);
}

// Every fourth guest ends while it is paused.
static void end_journal(struct guest *guest, unsigned seed)
{
	if (seed % 4 == 0)
		assert_int_equal(veneer_pause(guest->vm, NULL), 0);
	assert_false(has_ended(guest));
	veneer_stop(guest->vm);
	assert_int_equal(wait_for(guest->vm).end, VENEER_END_STOPPED);
	veneer_destroy(guest->vm);
}

// The journal under `pauses` pauses, in guests of 25 each.
static void pause_journal(const char *transport, const char *disk_options, unsigned pauses)
{
	uint64_t batches = 0;
	need_kvm();
	for (unsigned seed = 1, left = pauses; left > 0; seed++) {
		struct guest guest;
		char words[32];
		snprintf(words, sizeof(words), "blk-journal=%u", seed);
		assert_int_equal(empty_disk(NULL), 0);
		start(&guest, transport, disk_options, words, seed);
		while (guest.pauses < 25 && guest.pauses < left && !has_ended(&guest))
			pause_once(&guest);
		left -= guest.pauses;
		if (has_ended(&guest))
			fail_msg("seed %u: it ended: %s", seed, read_output(&guest));
		expect_progress(&guest);
		end_journal(&guest, seed);
		char *text = read_output(&guest);
		uint64_t flushed = last_flushed(text);
		if (strstr(text, "FAIL") || run_judge(seed, flushed) != 0)
			fail_msg("disk%s, seed %u, flushed %llu", disk_options, seed,
				(unsigned long long)flushed);
		batches += flushed / 16;
		free(text);
		close(guest.output);
	}
	print_message("# disk%s: %u pauses, %llu batches\n", disk_options, pauses,
		(unsigned long long)batches);
	assert_true(batches > 0);
}

static void a_journal_survives_a_thousand_pauses(void **state)
{
	(void)state;
	pause_journal("pci", "", 300);
	pause_journal("pci", ",cache=none", 250);
	pause_journal("mmio", ",cache=writethrough", 200);
	pause_journal("mmio", ",cache=directsync,queues=3", 250);
}

// Most pauses find requests that are held back, and a timer for them.
static void a_journal_survives_pauses_under_a_limit(void **state)
{
	(void)state;
	pause_journal("pci", ",iops=2000:10", 100);
	pause_journal("mmio", ",bps=16M:128K,cache=none", 100);
}

static void the_judge_finds_what_is_lost(void **state)
{
	struct guest guest;
	(void)state;
	need_kvm();
	assert_int_equal(empty_disk(NULL), 0);
	start(&guest, "pci", "", "blk-journal=9,40", 9);
	while (!has_ended(&guest))
		pause_once(&guest);
	assert_int_equal(wait_for(guest.vm).end, VENEER_END_EXIT);
	veneer_destroy(guest.vm);
	close(guest.output);
	assert_int_equal(run_judge(9, 640), 0);
	assert_int_equal(run_judge(9, 641), 1);
	assert_int_equal(run_judge(8, 0), 1);
}

// A guest that checks itself ends with 0, having been paused on the way.
static void pause_until_it_ends(
	const char *transport, const char *disk_options, const char *words, unsigned least)
{
	struct guest guest;
	start(&guest, transport, disk_options, words, 1);
	while (!has_ended(&guest))
		pause_once(&guest);
	struct veneer_event end = wait_for(guest.vm);
	if (end.end != VENEER_END_EXIT || end.value != 0)
		fail_msg("%s: status %u: %s", words, end.value, read_output(&guest));
	if (guest.pauses < least)
		fail_msg("%s: only %u pauses", words, guest.pauses);
	print_message("# %s, disk%s: %u pauses\n", words, disk_options, guest.pauses);
	veneer_destroy(guest.vm);
	close(guest.output);
}

static void each_request_completes_once(void **state)
{
	static const char *const words[] = {"blk-load=read4k,32,irq,3000",
		"blk-load=write4k,128,poll,3000", "blk-load=read1m,4,irq,300",
		"wait=spin blk-load=read4k,1,irq,1000"};
	(void)state;
	need_kvm();
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		pause_until_it_ends("pci", "", words[i], 1);
		pause_until_it_ends("mmio", ",cache=none", words[i], 1);
	}
	pause_until_it_ends("pci", ",iops=5000:10", "blk-load=read4k,32,irq,3000", 10);
	pause_until_it_ends("mmio", ",iops=5000:10", "blk-load=read4k,32,poll,3000", 10);
}

static void a_driver_resets_around_pauses(void **state)
{
	(void)state;
	need_kvm();
	pause_until_it_ends("pci", "", "driver-reset=100 queue-reset=100", 10);
	pause_until_it_ends("mmio", "", "driver-reset=100 queue-reset=100", 10);
	pause_until_it_ends("pci", ",iops=1000:10", "driver-reset=30 queue-reset=30", 10);
}

static void a_masked_message_survives_pauses(void **state)
{
	(void)state;
	need_kvm();
	pause_until_it_ends("pci", "", "msix-mask=100", 10);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_journal_survives_a_thousand_pauses),
		cmocka_unit_test(a_journal_survives_pauses_under_a_limit),
		cmocka_unit_test(the_judge_finds_what_is_lost),
		cmocka_unit_test(each_request_completes_once),
		cmocka_unit_test(a_driver_resets_around_pauses),
		cmocka_unit_test(a_masked_message_survives_pauses),
	};
	if (argc != 2)
		return 2;
	judge = argv[1];
	return cmocka_run_group_tests_name("pauses", tests, make_disk, remove_disk);
}
