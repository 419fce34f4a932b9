// SPDX-License-Identifier: Apache-2.0
//
// The loops of a guest: who shares one, and what a loop whose ring fails does to its guest, to that
// guest's other loops, and to other guests.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/sysfs.h"
#include "core/loops.h"
#include "ring_faults.h"

#define BAD "bad" // the name of the loop that fails

struct guest {
	struct vn_loops loops;
	struct vn_end_hook hook;
	atomic_uint ends;
	enum veneer_end end;
	char message[VN_END_MESSAGE_MAX];
};

static void ended(void *opaque, enum veneer_end end, uint32_t value, const char *message)
{
	struct guest *guest = opaque;
	(void)value;
	guest->end = end;
	snprintf(guest->message, sizeof(guest->message), "%s", message);
	atomic_fetch_add(&guest->ends, 1);
}

static void make_guest(struct guest *guest)
{
	*guest = (struct guest){.hook = {.ended = ended, .opaque = guest}};
	vn_loops_init(&guest->loops);
	guest->loops.end = &guest->hook;
}

static struct vn_ioloop *take(struct guest *guest, const char *name, bool dedicated)
{
	struct vn_ioloop *loop;
	struct veneer_error error;
	if (vn_loops_take(&guest->loops, name, dedicated, &loop, &error) < 0)
		fail_msg("%s", error.message);
	return loop;
}

static unsigned count_threads(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;
	assert_non_null(tasks);
	for (struct dirent *task; (task = readdir(tasks));) {
		char comm[32] = "";
		int tid = atoi(task->d_name);
		if (tid > 0)
			vn_sysfs_line("/proc/self/task", comm, sizeof(comm), "/%d/comm", tid);
		count += strcmp(comm, name) == 0;
	}
	closedir(tasks);
	return count;
}

// A thread takes its name when it first runs, and is listed for a moment after it was joined.
static void expect_threads(const char *name, unsigned count)
{
	for (unsigned tries = 0; tries < 1000 && count_threads(name) != count; tries++)
		usleep(1000);
	assert_int_equal(count_threads(name), count);
}

// A read of a pipe, which nobody writes to before the test does.
struct reader {
	struct vn_ioloop_op op;
	struct vn_ioloop *loop;
	int pipe[2];
	char byte;
	bool done;
};

static void read_done(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	struct reader *reader = (struct reader *)op; // the first member
	(void)flags;
	assert_int_equal(result, 1);
	reader->done = true;
}

static void begin(void *arg)
{
	struct reader *reader = arg;
	reader->op.complete = read_done;
	io_uring_prep_read(
		vn_ioloop_sqe(reader->loop, &reader->op), reader->pipe[0], &reader->byte, 1, 0);
}

static bool is_done(void *arg)
{
	return ((struct reader *)arg)->done;
}

static void finish(void *arg)
{
	struct reader *reader = arg;
	vn_ioloop_run_until(reader->loop, is_done, reader);
}

static void *wait_for(void *arg)
{
	struct reader *reader = arg;
	vn_ioloop_call(reader->loop, finish, reader);
	return NULL;
}

static void begin_read(struct reader *reader, struct vn_ioloop *loop)
{
	*reader = (struct reader){.loop = loop};
	assert_int_equal(pipe2(reader->pipe, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(fcntl(reader->pipe[0], F_SETFL, 0), 0);
	vn_ioloop_call(loop, begin, reader);
}

static void put(struct reader *reader)
{
	assert_int_equal(write(reader->pipe[1], "x", 1), 1);
}

static void close_pipe(struct reader *reader)
{
	close(reader->pipe[0]);
	close(reader->pipe[1]);
}

// The read works.
static void expect_read(struct reader *reader)
{
	put(reader);
	vn_ioloop_call(reader->loop, finish, reader);
	assert_true(reader->done);
	assert_int_equal(reader->byte, 'x');
	close_pipe(reader);
}

// The read is over without having been done, and nothing will do it: what is in the pipe stays
// there.
static void expect_no_read(struct reader *reader)
{
	char byte = 0;
	assert_false(reader->done);
	put(reader);
	usleep(20000);
	assert_int_equal(reader->byte, 0);
	assert_int_equal(fcntl(reader->pipe[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(read(reader->pipe[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	close_pipe(reader);
}

static void small_devices_share_one(void **state)
{
	struct guest guest;
	(void)state;
	make_guest(&guest);
	expect_threads(VN_LOOPS_SHARED_NAME, 0);
	struct vn_ioloop *first = take(&guest, "first", false);
	struct vn_ioloop *second = take(&guest, "second", false);
	struct vn_ioloop *queue = take(&guest, "queue", true);
	struct vn_ioloop *other = take(&guest, "queue", true);
	assert_ptr_equal(first, second);
	assert_ptr_not_equal(first, queue);
	assert_ptr_not_equal(other, queue);
	expect_threads(VN_LOOPS_SHARED_NAME, 1);
	expect_threads("queue", 2);
	vn_loops_give_back(&guest.loops, first);
	expect_threads(VN_LOOPS_SHARED_NAME, 1);
	vn_loops_give_back(&guest.loops, second);
	expect_threads(VN_LOOPS_SHARED_NAME, 0);
	first = take(&guest, "again", false);
	expect_threads(VN_LOOPS_SHARED_NAME, 1);
	vn_loops_give_back(&guest.loops, first);
	vn_loops_give_back(&guest.loops, queue);
	vn_loops_give_back(&guest.loops, other);
	expect_threads("queue", 0);
	vn_loops_destroy(&guest.loops);
	assert_int_equal(guest.ends, 0);
}

// Have the loop named BAD fail while a read is in flight on it and the caller waits for that.
static void fail_with(enum ring_fault fault, struct reader *reader)
{
	ring_fault_thread = BAD;
	atomic_store(&ring_fault, fault);
	vn_ioloop_call(reader->loop, finish, reader);
	atomic_store(&ring_fault, RING_WORKS);
	assert_true(vn_ioloop_has_failed(reader->loop));
	expect_threads(BAD, 0);
}

static void have_kernel_submit(void *arg)
{
	assert_int_equal(vn_ioloop_set_polling(arg, true, false), 0);
}

static void ends_its_guest(enum ring_fault fault, bool sqpoll, const char *message)
{
	struct guest guest, neighbour;
	struct reader lost, right;
	make_guest(&guest);
	make_guest(&neighbour);
	struct vn_ioloop *bad = take(&guest, BAD, true);
	if (sqpoll)
		vn_ioloop_call(bad, have_kernel_submit, bad);
	begin_read(&lost, bad);
	begin_read(&right, take(&neighbour, "right", true));
	fail_with(fault, &lost);
	assert_int_equal(guest.ends, 1);
	assert_int_equal(guest.end, VENEER_END_FAILED);
	assert_string_equal(guest.message, message);
	expect_no_read(&lost);
	// It takes calls, in which nothing happens any more.
	begin_read(&lost, lost.loop);
	vn_ioloop_call(lost.loop, finish, &lost);
	expect_no_read(&lost);
	assert_true(vn_loops_have_failed(&guest.loops));
	vn_loops_give_back(&guest.loops, lost.loop);
	vn_loops_destroy(&guest.loops);
	assert_int_equal(guest.ends, 1);

	expect_read(&right);
	assert_false(vn_loops_have_failed(&neighbour.loops));
	assert_int_equal(neighbour.ends, 0);
	vn_loops_give_back(&neighbour.loops, right.loop);
	vn_loops_destroy(&neighbour.loops);
}

static void a_submission_that_fails_ends_its_guest(void **state)
{
	(void)state;
	ends_its_guest(RING_REFUSES, false,
		"I/O thread bad cannot go on: io_uring fails: Bad file descriptor");
}

static void a_completion_that_is_lost_ends_its_guest(void **state)
{
	(void)state;
	ends_its_guest(
		RING_LOSES, false, "I/O thread bad cannot go on: io_uring lost a completion");
}

// The kernel's thread that submits does not end with the loop's.
static void so_does_a_ring_with_sqpoll(void **state)
{
	(void)state;
	ends_its_guest(RING_REFUSES, true,
		"I/O thread bad cannot go on: io_uring fails: Bad file descriptor");
	ends_its_guest(RING_LOSES, true, "I/O thread bad cannot go on: io_uring lost a completion");
}

static void try_to_register(void *arg)
{
	struct reader *reader = arg;
	struct iovec run = {&reader->byte, 1};
	assert_int_equal(vn_ioloop_register_file(reader->loop, 0), -EIO);
	assert_int_equal(vn_ioloop_register_memory(reader->loop, &run, 1), -EIO);
	assert_int_equal(vn_ioloop_set_polling(reader->loop, true, false), -EIO);
}

// Somebody waits for a queue's other loop, which may wait for the one that failed.
static void other_queues_of_the_guest_are_abandoned(void **state)
{
	struct guest guest;
	struct reader lost, waiting, small;
	pthread_t waiter;
	(void)state;
	make_guest(&guest);
	begin_read(&lost, take(&guest, BAD, true));
	begin_read(&waiting, take(&guest, "waiting", true));
	begin_read(&small, take(&guest, "small", false));
	assert_int_equal(pthread_create(&waiter, NULL, wait_for, &waiting), 0);
	fail_with(RING_REFUSES, &lost);
	pthread_join(waiter, NULL);
	assert_true(vn_ioloop_has_failed(waiting.loop));
	expect_threads("waiting", 0);
	expect_no_read(&waiting);
	assert_int_equal(guest.ends, 1);
	assert_non_null(strstr(guest.message, BAD));

	// What is taken too late is no use either.
	struct reader late = {.loop = take(&guest, "late", true)};
	vn_ioloop_call(late.loop, try_to_register, &late);
	expect_threads("late", 0);
	expect_read(&small);
	expect_no_read(&lost);
	vn_loops_give_back(&guest.loops, late.loop);
	vn_loops_give_back(&guest.loops, small.loop);
	vn_loops_give_back(&guest.loops, waiting.loop);
	vn_loops_give_back(&guest.loops, lost.loop);
	vn_loops_destroy(&guest.loops);
}

// The small devices' own loop fails; it also watches and has a timer, as they do.
struct small {
	struct vn_ioloop *loop;
	struct vn_ioloop_event event;
	struct vn_ioloop_timer timer;
};

static void fired(struct vn_ioloop_event *event)
{
	(void)event;
}

static void expired(struct vn_ioloop_timer *timer)
{
	(void)timer;
}

static void open_small(void *arg)
{
	struct small *small = arg;
	vn_ioloop_watch(small->loop, &small->event);
	vn_ioloop_set_timer(small->loop, &small->timer, UINT64_MAX / 2);
}

static void close_small(void *arg)
{
	struct small *small = arg;
	vn_ioloop_cancel_timer(&small->timer);
	vn_ioloop_unwatch(&small->event);
}

static void the_shared_one_may_fail_too(void **state)
{
	struct guest guest;
	struct reader queue;
	(void)state;
	make_guest(&guest);
	struct small small = {.loop = take(&guest, "small", false),
		.event = {.fire = fired, .fd = eventfd(0, EFD_CLOEXEC)},
		.timer = {.expire = expired}};
	vn_ioloop_call(small.loop, open_small, &small);
	begin_read(&queue, take(&guest, "queue", true));
	ring_fault_thread = VN_LOOPS_SHARED_NAME;
	atomic_store(&ring_fault, RING_REFUSES);
	vn_ioloop_call(small.loop, close_small, &small);
	atomic_store(&ring_fault, RING_WORKS);
	expect_threads(VN_LOOPS_SHARED_NAME, 0);
	assert_int_equal(guest.ends, 1);
	assert_non_null(strstr(guest.message, "I/O thread " VN_LOOPS_SHARED_NAME " cannot go on"));
	vn_ioloop_call(queue.loop, finish, &queue);
	expect_no_read(&queue);
	vn_loops_give_back(&guest.loops, queue.loop);
	vn_loops_give_back(&guest.loops, small.loop);
	vn_loops_destroy(&guest.loops);
	close(small.event.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_devices_share_one),
		cmocka_unit_test(a_submission_that_fails_ends_its_guest),
		cmocka_unit_test(a_completion_that_is_lost_ends_its_guest),
		cmocka_unit_test(so_does_a_ring_with_sqpoll),
		cmocka_unit_test(other_queues_of_the_guest_are_abandoned),
		cmocka_unit_test(the_shared_one_may_fail_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
