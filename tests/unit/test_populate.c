// SPDX-License-Identifier: Apache-2.0
//
// Touching memory with many threads: all of it is there, on the node's CPUs, its maker is told how
// far it is, and what fails in one thread ends the others.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/macros.h"
#include "core/populate.h"

#define SIZE (320 * MIB) // some slices, and not a whole number of them for every thread

static struct vn_populate_range map(uint64_t size)
{
	void *host = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(host != MAP_FAILED);
	return (struct vn_populate_range){host, size, 4096, -1};
}

static void unmap(const struct vn_populate_range *range)
{
	munmap(range->host, range->size);
}

static uint64_t resident(const struct vn_populate_range *range)
{
	size_t pages = range->size / 4096;
	unsigned char *map = malloc(pages);
	uint64_t count = 0;
	assert_non_null(map);
	assert_int_equal(mincore(range->host, range->size, map), 0);
	for (size_t i = 0; i < pages; i++)
		count += map[i] & 1;
	free(map);
	return count * 4096;
}

static void *nothing(void *arg)
{
	return arg;
}

// A sanitizer starts a thread of its own beside the first one that the program starts.
static int start_one(void **state)
{
	(void)state;
	pthread_t thread;
	return pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL);
}

static unsigned threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;
	assert_non_null(tasks);
	for (struct dirent *entry; (entry = readdir(tasks));)
		count += entry->d_name[0] != '.';
	closedir(tasks);
	return count;
}

// A thread that was joined is listed for a moment yet.
static void assert_threads(unsigned expected)
{
	for (unsigned i = 0; i < 2000 && threads() != expected; i++)
		usleep(5000);
	assert_int_equal(threads(), expected);
}

struct seen {
	pthread_t thread;
	unsigned calls;
	uint64_t done, total;
	bool go_on;
};

static bool look(void *opaque, uint64_t done, uint64_t total)
{
	struct seen *seen = opaque;
	assert_true(pthread_equal(seen->thread, pthread_self()));
	assert_true(done >= seen->done);
	assert_true(done <= total);
	seen->calls++;
	seen->done = done;
	seen->total = total;
	return seen->go_on;
}

static void every_page_is_there(void **state)
{
	(void)state;
	struct vn_populate_range ranges[] = {map(SIZE), map(64 * MIB + 4096)};
	struct seen seen = {.thread = pthread_self(), .go_on = true};
	unsigned failed, before = threads();
	ranges[1].node = 0;
	assert_int_equal(vn_populate(ranges, 2, &(struct vn_progress){look, &seen}, &failed), 0);
	assert_int_equal(resident(&ranges[0]), ranges[0].size);
	assert_int_equal(resident(&ranges[1]), ranges[1].size);
	assert_true(seen.calls > 0);
	assert_int_equal(seen.done, ranges[0].size + ranges[1].size);
	assert_int_equal(seen.total, ranges[0].size + ranges[1].size);
	assert_threads(before);
	unmap(&ranges[0]);
	unmap(&ranges[1]);
}

static void little_needs_no_threads(void **state)
{
	(void)state;
	struct vn_populate_range range = map(4 * MIB);
	struct seen seen = {.thread = pthread_self(), .go_on = true};
	unsigned failed;
	assert_int_equal(vn_populate(&range, 1, &(struct vn_progress){look, &seen}, &failed), 0);
	assert_int_equal(resident(&range), range.size);
	assert_int_equal(seen.calls, 0);
	unmap(&range);
}

// Memory that is not there is what a thread can meet without harm to this machine.
static void one_failure_ends_all(void **state)
{
	(void)state;
	struct vn_populate_range ranges[] = {map(128 * MIB), map(128 * MIB), map(128 * MIB)};
	unsigned failed, before = threads();
	munmap(ranges[1].host + 64 * MIB, 4096);
	assert_int_equal(
		vn_populate(ranges, 3, &(struct vn_progress){NULL, NULL}, &failed), -ENOMEM);
	assert_int_equal(failed, 1);
	assert_threads(before);
	for (unsigned i = 0; i < 3; i++)
		unmap(&ranges[i]);
	struct vn_populate_range little = map(4 * MIB);
	munmap(little.host, 4096);
	assert_int_equal(
		vn_populate(&little, 1, &(struct vn_progress){NULL, NULL}, &failed), -ENOMEM);
	assert_int_equal(failed, 0);
	unmap(&little);
}

// Its maker gives up at the first call, which comes before this much can be touched, or after all.
static void its_maker_can_give_up(void **state)
{
	(void)state;
	struct vn_populate_range range = map(SIZE);
	struct seen seen = {.thread = pthread_self()};
	unsigned failed, before = threads();
	assert_int_equal(
		vn_populate(&range, 1, &(struct vn_progress){look, &seen}, &failed), -ECANCELED);
	assert_threads(before);
	unmap(&range);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_page_is_there),
		cmocka_unit_test(little_needs_no_threads),
		cmocka_unit_test(one_failure_ends_all),
		cmocka_unit_test(its_maker_can_give_up),
	};
	return cmocka_run_group_tests(tests, start_one, NULL);
}
