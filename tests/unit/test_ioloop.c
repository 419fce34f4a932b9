// SPDX-License-Identifier: Apache-2.0
//
// The I/O loop: calls from many threads, eventfds, real file I/O, and a submission queue that
// fills.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/sysfs.h"
#include "base/thread.h"
#include "core/loops.h"

static struct vn_ioloop *make(unsigned entries)
{
	struct vn_ioloop *loop;
	struct veneer_error error;
	assert_int_equal(vn_ioloop_create(&loop, "test", entries, NULL, &error), 0);
	return loop;
}

static void starts_and_stops(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		vn_ioloop_destroy(make(8));
}

static void refuses_absurd_rings(void **state)
{
	(void)state;
	struct vn_ioloop *loop;
	struct veneer_error error = {.code = 0};
	assert_true(vn_ioloop_create(&loop, "test", GIB, NULL, &error) < 0);
	assert_true(strlen(error.message) > 0);
}

// The CPUs of each thread of this process whose name begins with `name`, joined.
static struct vn_cpuset cpus_of(const char *name)
{
	struct vn_cpuset all = {.bits = {0}};
	DIR *tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	for (struct dirent *task; (task = readdir(tasks));) {
		struct vn_cpuset cpus;
		char comm[32];
		int tid = atoi(task->d_name);
		vn_sysfs_line("/proc/self/task", comm, sizeof(comm), "/%d/comm", tid);
		if (tid == 0 || strncmp(comm, name, strlen(name)) != 0)
			continue;
		assert_int_equal(sched_getaffinity(tid, sizeof(cpus), (cpu_set_t *)&cpus), 0);
		vn_cpuset_or(&all, &cpus);
	}
	closedir(tasks);
	return all;
}

struct worked {
	struct vn_ioloop *loop;
	struct vn_ioloop_op op;
	char byte;
	bool done;
};

static void work_done(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	assert_int_equal(result, 1);
	((struct worked *)((char *)op - offsetof(struct worked, op)))->done = true;
}

static bool is_done(void *arg)
{
	return ((struct worked *)arg)->done;
}

// A read that one of the kernel's workers does.
static void work(void *arg)
{
	struct worked *worked = arg;
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	worked->op.complete = work_done;
	struct io_uring_sqe *sqe = vn_ioloop_sqe(worked->loop, &worked->op);
	io_uring_prep_read(sqe, fd, &worked->byte, 1, 0);
	sqe->flags |= IOSQE_ASYNC;
	vn_ioloop_run_until(worked->loop, is_done, worked);
	close(fd);
}

static void expect_cpus(const char *name, unsigned cpu)
{
	struct vn_cpuset one = {.bits = {0}}, are = cpus_of(name);
	vn_cpuset_add(&one, cpu);
	assert_memory_equal(&are, &one, sizeof(one));
}

static void runs_where_told(void **state)
{
	(void)state;
	struct vn_ioloop_site site = {.failed = NULL};
	struct veneer_error error;
	struct worked worked = {.loop = NULL};
	assert_int_equal(vn_thread_cpus(&site.cpus), 0);
	struct vn_cpuset all = site.cpus, none = {.bits = {0}};
	unsigned first = vn_cpuset_next(&all, 0), count = vn_cpuset_count(&all), next = 0;
	// One CPU after the other, and round again.
	for (unsigned round = 0; round < 2; round++) {
		unsigned cpu = first;
		for (unsigned i = 0; i < count; i++, cpu = vn_cpuset_next(&all, cpu + 1)) {
			struct vn_cpuset taken = vn_loops_next_cpu(&all, &next);
			assert_int_equal(vn_cpuset_count(&taken), 1);
			assert_true(vn_cpuset_has(&taken, cpu));
		}
	}
	site.cpus = none;
	vn_cpuset_add(&site.cpus, first);
	assert_int_equal(vn_ioloop_create(&worked.loop, "told", 8, &site, &error), 0);
	vn_ioloop_call(worked.loop, work, &worked);
	expect_cpus("told", first);
	expect_cpus("iou-wrk-", first);
	vn_ioloop_destroy(worked.loop);

	site.cpus = all;
	assert_int_equal(vn_ioloop_create(&worked.loop, "told", 8, &site, &error), 0);
	struct vn_cpuset are = cpus_of("told");
	assert_memory_equal(&are, &all, sizeof(all));
	vn_ioloop_destroy(worked.loop);
	are = vn_loops_next_cpu(&none, &next);
	assert_memory_equal(&are, &none, sizeof(none));
	// CPUs that no host of ours has: there is no thread then.
	site.cpus = none;
	vn_cpuset_add(&site.cpus, VN_HOST_CPUS_MAX - 1);
	assert_int_equal(vn_ioloop_create(&worked.loop, "told", 8, &site, &error), -EINVAL);
	assert_string_equal(error.message, "thread told may not run on CPUs 1023");
}

struct counter {
	struct vn_ioloop *loop;
	int value; // changed on the loop's thread only
};

static void count_one(void *arg)
{
	((struct counter *)arg)->value++;
}

static void *count_many(void *arg)
{
	struct counter *counter = arg;
	for (int i = 0; i < 1000; i++)
		vn_ioloop_call(counter->loop, count_one, counter);
	return NULL;
}

static void calls_from_many_threads_all_run(void **state)
{
	(void)state;
	struct counter counter = {.loop = make(8)};
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_many, &counter), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	vn_ioloop_destroy(counter.loop);
	assert_int_equal(counter.value, 4000);
}

// An eventfd watched by the loop; each firing is answered on `back`.
struct watcher {
	struct vn_ioloop_event event;
	struct vn_ioloop *loop;
	uint64_t sum;
	int back;
};

static void fired(struct vn_ioloop_event *event)
{
	struct watcher *watcher = (struct watcher *)event; // the first member
	watcher->sum += event->count;
	eventfd_write(watcher->back, 1);
}

static void watch(void *arg)
{
	struct watcher *watcher = arg;
	vn_ioloop_watch(watcher->loop, &watcher->event);
}

static void unwatch(void *arg)
{
	vn_ioloop_unwatch(&((struct watcher *)arg)->event);
}

static void every_signal_of_an_eventfd_is_seen(void **state)
{
	(void)state;
	struct watcher watcher = {.event = {.fire = fired, .fd = eventfd(0, 0)},
		.loop = make(8),
		.back = eventfd(0, 0)};
	vn_ioloop_call(watcher.loop, watch, &watcher);
	eventfd_t answer;
	for (int i = 0; i < 500; i++) {
		eventfd_write(watcher.event.fd, 3);
		assert_int_equal(eventfd_read(watcher.back, &answer), 0);
	}
	vn_ioloop_call(watcher.loop, unwatch, &watcher);
	assert_int_equal(watcher.sum, 1500);

	// Not watched any more, then watched again: what came meanwhile is found.
	eventfd_write(watcher.event.fd, 5);
	vn_ioloop_call(watcher.loop, watch, &watcher);
	assert_int_equal(eventfd_read(watcher.back, &answer), 0);
	vn_ioloop_call(watcher.loop, unwatch, &watcher);
	assert_true(watcher.sum >= 1505);
	vn_ioloop_destroy(watcher.loop);
	close(watcher.event.fd);
	close(watcher.back);
}

#define WRITES 100

// Many writes at once through a ring of 8; the hook must see each turn's completions.
struct writer {
	struct vn_ioloop *loop;
	struct vn_ioloop_hook hook;
	int fd;
	unsigned done, flushed, bad;
	struct write {
		struct vn_ioloop_op op;
		struct writer *writer;
		char byte;
	} writes[WRITES];
};

static void written(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct write *write = (struct write *)op; // the first member
	write->writer->bad += result != 1;
	write->writer->done++;
}

static void flush(struct vn_ioloop_hook *hook)
{
	struct writer *writer = (struct writer *)((char *)hook - offsetof(struct writer, hook));
	writer->flushed = writer->done;
}

static bool all_done(void *arg)
{
	return ((struct writer *)arg)->done == WRITES;
}

static void write_all(void *arg)
{
	struct writer *writer = arg;
	vn_ioloop_add_hook(writer->loop, &writer->hook);
	for (unsigned i = 0; i < WRITES; i++) {
		struct write *write = &writer->writes[i];
		*write = (struct write){{written}, writer, (char)('a' + i % 26)};
		io_uring_prep_write(
			vn_ioloop_sqe(writer->loop, &write->op), writer->fd, &write->byte, 1, i);
	}
	vn_ioloop_run_until(writer->loop, all_done, writer);
	vn_ioloop_remove_hook(writer->loop, &writer->hook);
}

static void a_full_submission_queue_loses_nothing(void **state)
{
	(void)state;
	char path[] = "/tmp/veneer-ioloop-XXXXXX";
	struct writer writer = {.loop = make(8), .hook = {.flush = flush}, .fd = mkstemp(path)};
	assert_true(writer.fd >= 0);
	unlink(path);
	vn_ioloop_call(writer.loop, write_all, &writer);
	vn_ioloop_destroy(writer.loop);
	assert_int_equal(writer.bad, 0);
	assert_int_equal(writer.flushed, WRITES);
	char data[WRITES];
	assert_int_equal(pread(writer.fd, data, WRITES, 0), WRITES);
	for (int i = 0; i < WRITES; i++)
		assert_int_equal(data[i], 'a' + i % 26);
	close(writer.fd);
}

// Two runs of memory, one of them longer than the kernel takes as one buffer.
#define PAGE ((size_t)4096)

struct registered {
	struct vn_ioloop *loop;
	struct iovec runs[2];
	int fd, code;
};

static void register_all(void *arg)
{
	struct registered *all = arg;
	all->code = vn_ioloop_register_file(all->loop, all->fd);
	if (all->code == 0)
		all->code = vn_ioloop_register_memory(all->loop, all->runs, 2);
}

static void check_choice(const struct registered *all, const char *at, size_t size, int buffer)
{
	struct io_uring_sqe sqe;
	for (unsigned write = 0; write < 2; write++) {
		if (write)
			io_uring_prep_write(&sqe, all->fd, at, (unsigned)size, 0);
		else
			io_uring_prep_read(&sqe, all->fd, (void *)(uintptr_t)at, (unsigned)size, 0);
		uint8_t plain = sqe.opcode;
		uint8_t fixed = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		vn_ioloop_use_registered(all->loop, &sqe);
		assert_int_equal(sqe.opcode, buffer < 0 ? plain : fixed);
		if (buffer >= 0)
			assert_int_equal(sqe.buf_index, buffer);
		assert_int_equal(sqe.fd, 0);
		assert_true(sqe.flags & IOSQE_FIXED_FILE);
	}
}

// Registering brings all of it in and pins it, for which there must be room.
static void registered_memory_is_cut_at_a_gigabyte(void **state)
{
	(void)state;
	char path[] = "/tmp/veneer-ioloop-XXXXXX";
	struct registered all = {.loop = make(8), .fd = mkstemp(path)};
	assert_true(all.fd >= 0);
	unlink(path);
	char *first = mmap(NULL, GIB + 2 * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *second = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(first != MAP_FAILED && second != MAP_FAILED);
	madvise(first, GIB + 2 * PAGE, MADV_HUGEPAGE);
	all.runs[0] = (struct iovec){first, GIB + 2 * PAGE};
	all.runs[1] = (struct iovec){second, PAGE};
	vn_ioloop_call(all.loop, register_all, &all);
	if (all.code == -ENOMEM) {
		print_message("# a gigabyte cannot be locked here\n");
	} else {
		assert_int_equal(all.code, 0);
		check_choice(&all, first, PAGE, 0);
		check_choice(&all, first, GIB, 0);
		check_choice(&all, first + 1, GIB, -1);
		check_choice(&all, first + GIB - 1, 1, 0);
		check_choice(&all, first + GIB - 1, 2, -1);
		check_choice(&all, first + GIB, 2 * PAGE, 1);
		check_choice(&all, first + GIB, 2 * PAGE + 1, -1);
		check_choice(&all, first + GIB + 2 * PAGE - 1, 1, 1);
		check_choice(&all, second, PAGE, 2);
		check_choice(&all, second, PAGE + 1, -1);
		check_choice(&all, path, 1, -1);
	}
	vn_ioloop_destroy(all.loop);
	munmap(first, GIB + 2 * PAGE);
	munmap(second, PAGE);
	close(all.fd);
	if (all.code == -ENOMEM)
		skip();
}

static void on_fault(int signal)
{
	(void)signal;
	_exit(42);
}

static void fault(void *arg)
{
	*(volatile char *)arg = 1;
}

// A fault on the loop's thread reaches the process's handler: the kernel ends the process past it
// if the signal is blocked there.
static void faults_reach_their_handler(void **state)
{
	(void)state;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct vn_ioloop *loop;
		signal(SIGSEGV, on_fault);
		if (vn_ioloop_create(&loop, "test", 8, NULL, NULL) < 0)
			_exit(1);
		vn_ioloop_call(loop, fault,
			mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		_exit(2);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_and_stops),
		cmocka_unit_test(refuses_absurd_rings),
		cmocka_unit_test(runs_where_told),
		cmocka_unit_test(calls_from_many_threads_all_run),
		cmocka_unit_test(every_signal_of_an_eventfd_is_seen),
		cmocka_unit_test(a_full_submission_queue_loses_nothing),
		cmocka_unit_test(registered_memory_is_cut_at_a_gigabyte),
		cmocka_unit_test(faults_reach_their_handler),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
