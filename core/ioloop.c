// SPDX-License-Identifier: Apache-2.0
//
// The I/O thread. It sleeps in one place, io_uring_submit_and_wait(), which also submits all that
// the last turn prepared; other threads leave it work in a list and wake it through an eventfd
// that the ring reads like any other.
#include "core/ioloop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/thread.h"

// Completions handled before the hooks flush, so that a busy queue cannot keep others waiting.
#define BATCH 64

// How long the kernel's thread looks for submissions before it sleeps, and has to be woken.
#define SQPOLL_IDLE_MS 10

// How long to wait for the cancelled requests of a failed ring.
#define CANCEL_MS 1000

#define MESSAGE_MAX 128

// The most that the kernel takes as one buffer.
#define BUFFER_MAX GIB

// A run of registered memory: buffers of BUFFER_MAX, but for the last, from number `first` on.
struct run {
	const char *base;
	size_t size;
	unsigned first;
};

// A call from another thread; lives on that thread's stack until `done`.
struct call {
	void (*fn)(void *arg);
	void *arg;
	bool done;
	struct call *next;
};

// The ring and the hooks belong to the loop's thread; what follows `lock` is shared under it.
struct vn_ioloop {
	struct io_uring ring;
	struct io_uring polled; // for transfers only, if there is one
	bool has_polled;
	unsigned polled_in_flight;
	struct io_uring_sqe nowhere; // for submissions after a failure
	int failure; // why it failed: a negative errno, or 0
	struct vn_ioloop_hook *hooks;
	struct vn_ioloop_event wake;
	bool awake; // the next turn waits for nothing
	int file; // registered as number 0, or -1
	struct run *runs;
	unsigned run_count;
	bool called; // somebody has left a call
	bool stop;
	uint64_t now; // nanoseconds; 0 until someone asks in this turn
	char name[16];
	unsigned entries;
	struct vn_ioloop_site site;
	struct vn_thread_place place;
	pthread_t thread;
	atomic_bool failed; // for good
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct call *calls;
	int setup; // 1 until the thread has made its ring, then 0 or a negative errno
	bool left; // the thread has closed its rings, and takes no calls any more
	bool joined;
};

bool vn_ioloop_has_failed(const struct vn_ioloop *loop)
{
	return atomic_load_explicit(&loop->failed, memory_order_acquire);
}

static void set_failed(struct vn_ioloop *loop)
{
	atomic_store_explicit(&loop->failed, true, memory_order_release);
}

// The owner is told later, by run(): here a caller may hold a lock.
static void fail(struct vn_ioloop *loop, int code)
{
	if (loop->failure == 0)
		loop->failure = code;
	set_failed(loop);
}

static void check_submitted(struct vn_ioloop *loop, int result)
{
	// EINTR comes from debuggers only, all signals but faults being blocked; EAGAIN and EBUSY
	// mean that the kernel lacks room until completions at hand are handled. The callers come
	// round again. EBADR means that completions are lost, and with them the guest's disk.
	if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
		fail(loop, result);
}

static void submit_and_wait(struct vn_ioloop *loop, unsigned wait)
{
	check_submitted(loop, io_uring_submit_and_wait(&loop->ring, wait));
}

struct io_uring_sqe *vn_ioloop_sqe(struct vn_ioloop *loop, struct vn_ioloop_op *op)
{
	struct io_uring_sqe *sqe = NULL;
	while (!vn_ioloop_has_failed(loop) && !(sqe = io_uring_get_sqe(&loop->ring)))
		submit_and_wait(loop, 0);
	if (!sqe)
		sqe = &loop->nowhere;
	io_uring_sqe_set_data(sqe, op);
	return sqe;
}

struct io_uring_sqe *vn_ioloop_transfer_sqe(struct vn_ioloop *loop, struct vn_ioloop_op *op)
{
	struct io_uring_sqe *sqe = NULL;
	if (!loop->has_polled)
		return vn_ioloop_sqe(loop, op);
	while (!vn_ioloop_has_failed(loop) && !(sqe = io_uring_get_sqe(&loop->polled)))
		check_submitted(loop, io_uring_submit(&loop->polled));
	if (sqe)
		loop->polled_in_flight++;
	else
		sqe = &loop->nowhere;
	io_uring_sqe_set_data(sqe, op);
	return sqe;
}

uint64_t vn_ioloop_now(struct vn_ioloop *loop)
{
	if (loop->now == 0)
		loop->now = vn_clock_ns();
	return loop->now;
}

// Completions that were lost since the ring was created: it was full, and the kernel had no memory
// to keep them.
static unsigned count_lost(const struct io_uring *ring)
{
	return IO_URING_READ_ONCE(*ring->cq.koverflow);
}

// Run what has completed on a ring, and say how many these were.
static unsigned reap(struct vn_ioloop *loop, struct io_uring *ring)
{
	struct io_uring_cqe *cqes[BATCH];
	unsigned count = io_uring_peek_batch_cqe(ring, cqes, BATCH);
	for (unsigned i = 0; i < count; i++) {
		struct vn_ioloop_op *op = io_uring_cqe_get_data(cqes[i]);
		op->complete(op, cqes[i]->res, cqes[i]->flags);
	}
	io_uring_cq_advance(ring, count);
	if (count_lost(ring) > 0)
		fail(loop, -EBADR);
	return count;
}

// Submit to the second ring, and look at the device once.
static unsigned poll_device(struct vn_ioloop *loop)
{
	check_submitted(loop, io_uring_submit_and_get_events(&loop->polled));
	unsigned count = reap(loop, &loop->polled);
	loop->polled_in_flight -= count;
	return count;
}

static void turn(struct vn_ioloop *loop)
{
	bool awake = loop->awake || loop->polled_in_flight > 0;
	loop->awake = false;
	submit_and_wait(loop, awake ? 0 : 1);
	loop->now = 0;
	unsigned count = reap(loop, &loop->ring);
	if (loop->polled_in_flight > 0)
		count += poll_device(loop);
	if (awake && count == 0)
		__builtin_ia32_pause(); // the guest may be on the core's other thread
	for (struct vn_ioloop_hook *hook = loop->hooks; hook; hook = hook->next)
		hook->flush(hook);
}

// Calls run between turns, never within one, so they may run turns themselves.
static void run_calls(struct vn_ioloop *loop)
{
	loop->called = false;
	pthread_mutex_lock(&loop->lock);
	struct call *call;
	while (!vn_ioloop_has_failed(loop) && (call = loop->calls)) {
		loop->calls = call->next;
		pthread_mutex_unlock(&loop->lock);
		call->fn(call->arg);
		pthread_mutex_lock(&loop->lock);
		call->done = true; // from here on `call` may be gone
		pthread_cond_broadcast(&loop->changed);
	}
	pthread_mutex_unlock(&loop->lock);
}

static void wake_fired(struct vn_ioloop_event *event)
{
	struct vn_ioloop *loop = container_of(event, struct vn_ioloop, wake);
	loop->called = true;
}

// The kernel's own workers for a ring, which do what would block, are not its thread's children and
// run where they like unless told.
static int keep_workers(struct vn_ioloop *loop, struct io_uring *ring)
{
	const struct vn_cpuset *cpus = &loop->place.cpus;
	if (vn_cpuset_is_empty(cpus))
		return 0;
	return io_uring_register_iowq_aff(ring, sizeof(*cpus), (const cpu_set_t *)cpus);
}

static int open_ring(struct vn_ioloop *loop, struct io_uring *ring, bool sqpoll, unsigned flags)
{
	// SINGLE_ISSUER binds the ring to the thread that makes it; DEFER_TASKRUN completes only
	// when this thread asks, which saves an interrupt for each completion. Linux 6.1.
	// TASKRUN_FLAG lets it see that there is something to ask for, without a system call, when
	// it does not wait.
	struct io_uring_params params = {
		.flags = flags | IORING_SETUP_SINGLE_ISSUER, .sq_thread_idle = SQPOLL_IDLE_MS};
	params.flags |= sqpoll ? IORING_SETUP_SQPOLL
			       : IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
	int code = io_uring_queue_init_params(loop->entries, ring, &params);
	if (code < 0)
		return code;
	code = keep_workers(loop, ring);
	if (code < 0) {
		io_uring_queue_exit(ring);
		return code;
	}
	// Saves looking the ring itself up with each system call; without that it works too.
	io_uring_register_ring_fd(ring);
	return 0;
}

static int setup(struct vn_ioloop *loop)
{
	int code = open_ring(loop, &loop->ring, false, 0);
	if (code == 0)
		vn_ioloop_watch(loop, &loop->wake);
	pthread_mutex_lock(&loop->lock);
	loop->setup = code;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
	return code;
}

static struct io_uring *transfer_ring(struct vn_ioloop *loop)
{
	return loop->has_polled ? &loop->polled : &loop->ring;
}

// The kernel takes a ring apart in its own time; what it holds of memory, and the file's lock, go
// now.
static void unregister(struct vn_ioloop *loop)
{
	if (loop->run_count > 0)
		io_uring_unregister_buffers(transfer_ring(loop));
	if (loop->file >= 0 && loop->has_polled)
		io_uring_unregister_files(&loop->polled);
	if (loop->file >= 0)
		io_uring_unregister_files(&loop->ring);
}

// Whether requests that the kernel was given have not completed. Each completes once.
static bool is_busy(const struct io_uring *ring)
{
	// The thread of SQPOLL takes what it was given sooner or later.
	bool later = ring->flags & IORING_SETUP_SQPOLL;
	unsigned given = IO_URING_READ_ONCE(*(later ? ring->sq.ktail : ring->sq.khead));
	unsigned ended = IO_URING_READ_ONCE(*ring->cq.khead) + count_lost(ring);
	return (int)(given - ended) > 0;
}

// Cancel the requests of a failed ring and wait for their ends, as far as it still works. Whether
// all have ended.
static bool cancel_all(struct io_uring *ring)
{
	struct io_uring_sync_cancel_reg all = {
		.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
		.timeout = {.tv_sec = CANCEL_MS / 1000}};
	uint64_t deadline = vn_clock_ns() + CANCEL_MS * NS_PER_MS;
	(void)io_uring_register_sync_cancel(ring, &all);
	while (is_busy(ring) && vn_clock_ns() < deadline) {
		struct io_uring_cqe *cqes[BATCH];
		if (io_uring_get_events(ring) < 0)
			return false;
		unsigned count = io_uring_peek_batch_cqe(ring, cqes, BATCH);
		io_uring_cq_advance(ring, count);
		if (count == 0)
			sched_yield();
	}
	return !is_busy(ring);
}

static bool settle(struct vn_ioloop *loop)
{
	if (!vn_ioloop_has_failed(loop))
		return true; // before that, whoever uses the loop has waited
	bool settled = cancel_all(&loop->ring);
	return loop->has_polled ? cancel_all(&loop->polled) && settled : settled;
}

// Unregistering waits for requests in flight, which may be for ever: the kernel then takes the ring
// apart when they end, and the file stays locked meanwhile. The end of a thread waits for the
// workers of its rings.
static void close_rings(struct vn_ioloop *loop)
{
	if (settle(loop))
		unregister(loop);
	if (loop->has_polled)
		io_uring_queue_exit(&loop->polled);
	io_uring_queue_exit(&loop->ring);
}

static void tell_failure(const struct vn_ioloop *loop)
{
	char text[MESSAGE_MAX];
	if (loop->failure == 0 || !loop->site.failed)
		return;
	snprintf(text, sizeof(text), "I/O thread %s cannot go on: io_uring %s%s", loop->name,
		loop->failure == -EBADR ? "lost a completion" : "fails: ",
		loop->failure == -EBADR ? "" : strerror(-loop->failure));
	loop->site.failed(loop->site.opaque, text);
}

// Threads that wait for a call that has not begun now make it themselves.
static void leave(struct vn_ioloop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->left = true;
	loop->calls = NULL;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
}

static void *run(void *arg)
{
	struct vn_ioloop *loop = arg;
	pthread_setname_np(pthread_self(), loop->name);
	if (setup(loop) < 0)
		return NULL;
	while (!loop->stop && !vn_ioloop_has_failed(loop)) {
		turn(loop);
		if (loop->called)
			run_calls(loop);
	}
	vn_ioloop_unwatch(&loop->wake);
	tell_failure(loop);
	close_rings(loop);
	leave(loop);
	return NULL;
}

static int start_thread(struct vn_ioloop *loop, struct veneer_error *error)
{
	int code = vn_thread_start(&loop->thread, &loop->place, run, loop);
	if (code < 0)
		return vn_thread_fail(error, code, loop->name, &loop->place);

	pthread_mutex_lock(&loop->lock);
	while (loop->setup > 0)
		pthread_cond_wait(&loop->changed, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
	if (loop->setup == 0)
		return 0;
	pthread_join(loop->thread, NULL);
	if (loop->setup == -EPERM || loop->setup == -ENOSYS)
		return vn_fail(error, loop->setup,
			"this host forbids io_uring: "
			"see /proc/sys/kernel/io_uring_disabled "
			"and the container's system-call filter");
	if (loop->setup == -EINVAL)
		return vn_fail(error, loop->setup, "io_uring here is too old: Linux 6.1 is needed");
	return vn_fail(error, loop->setup, "cannot make an io_uring for %s: %s", loop->name,
		strerror(-loop->setup));
}

int vn_ioloop_create(struct vn_ioloop **result, const char *name, unsigned entries,
	const struct vn_ioloop_site *site, struct veneer_error *error)
{
	struct vn_ioloop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return vn_fail(error, -ENOMEM, "no memory for I/O thread %s", name);
	strncpy(loop->name, name, sizeof(loop->name) - 1);
	loop->entries = entries;
	loop->file = -1;
	if (site)
		loop->site = *site;
	loop->place.cpus = loop->site.cpus;
	loop->setup = 1;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->changed, NULL);
	loop->wake = (struct vn_ioloop_event){.fire = wake_fired, .fd = eventfd(0, EFD_CLOEXEC)};
	int code = loop->wake.fd < 0 ? vn_fail(error, -errno, "no eventfd for I/O thread %s: %s",
					       name, strerror(errno))
				     : start_thread(loop, error);
	if (code < 0) {
		if (loop->wake.fd >= 0)
			close(loop->wake.fd);
		free(loop);
		return code;
	}
	*result = loop;
	return 0;
}

static void stop(void *arg)
{
	struct vn_ioloop *loop = arg;
	loop->stop = true;
}

void vn_ioloop_destroy(struct vn_ioloop *loop)
{
	vn_ioloop_call(loop, stop, loop);
	if (!loop->joined)
		pthread_join(loop->thread, NULL);
	close(loop->wake.fd);
	pthread_cond_destroy(&loop->changed);
	pthread_mutex_destroy(&loop->lock);
	free(loop->runs);
	free(loop);
}

void vn_ioloop_abandon(struct vn_ioloop *loop)
{
	set_failed(loop);
	eventfd_write(loop->wake.fd, 1);
}

// Under the lock, which the loop's thread does not take once it has left. Afterwards its thread is
// gone, and the kernel's workers of its rings are too.
static void join(struct vn_ioloop *loop)
{
	while (!loop->left)
		pthread_cond_wait(&loop->changed, &loop->lock);
	if (!loop->joined)
		pthread_join(loop->thread, NULL);
	loop->joined = true;
}

void vn_ioloop_call(struct vn_ioloop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = {.fn = fn, .arg = arg};
	pthread_mutex_lock(&loop->lock);
	assert(loop->joined || !pthread_equal(pthread_self(), loop->thread));
	if (!loop->left) {
		struct call **end = &loop->calls;
		while (*end)
			end = &(*end)->next;
		*end = &call;
		eventfd_write(loop->wake.fd, 1);
	}
	while (!call.done && !loop->left)
		pthread_cond_wait(&loop->changed, &loop->lock);
	if (vn_ioloop_has_failed(loop))
		join(loop);
	if (!call.done)
		fn(arg);
	pthread_mutex_unlock(&loop->lock);
}

void vn_ioloop_stay_awake(struct vn_ioloop *loop)
{
	loop->awake = true;
}

void vn_ioloop_add_hook(struct vn_ioloop *loop, struct vn_ioloop_hook *hook)
{
	hook->next = loop->hooks;
	loop->hooks = hook;
}

void vn_ioloop_remove_hook(struct vn_ioloop *loop, struct vn_ioloop_hook *hook)
{
	struct vn_ioloop_hook **at = &loop->hooks;
	while (*at != hook)
		at = &(*at)->next;
	*at = hook->next;
}

void vn_ioloop_run_until(struct vn_ioloop *loop, bool (*done)(void *arg), void *arg)
{
	while (!vn_ioloop_has_failed(loop) && !done(arg))
		turn(loop);
}

int vn_ioloop_set_polling(struct vn_ioloop *loop, bool sqpoll, bool iopoll)
{
	int code = 0;
	if (vn_ioloop_has_failed(loop))
		return -EIO;
	if (iopoll) {
		code = open_ring(loop, &loop->polled, sqpoll, IORING_SETUP_IOPOLL);
		loop->has_polled = code == 0;
	} else if (sqpoll) {
		struct io_uring ring;
		code = open_ring(loop, &ring, true, 0);
		if (code < 0)
			return code;
		vn_ioloop_unwatch(&loop->wake);
		io_uring_queue_exit(&loop->ring);
		loop->ring = ring;
		vn_ioloop_watch(loop, &loop->wake);
	}
	return code;
}

int vn_ioloop_register_file(struct vn_ioloop *loop, int fd)
{
	if (vn_ioloop_has_failed(loop))
		return -EIO;
	int code = io_uring_register_files(&loop->ring, &fd, 1);
	if (code == 0 && loop->has_polled) {
		code = io_uring_register_files(&loop->polled, &fd, 1);
		if (code < 0)
			io_uring_unregister_files(&loop->ring);
	}
	if (code == 0)
		loop->file = fd;
	return code;
}

// Cut the runs into as many buffers as they take, and count them; `buffers` may be NULL.
static unsigned cut(struct iovec *buffers, const struct run *runs, unsigned count)
{
	unsigned number = 0;
	for (unsigned i = 0; i < count; i++)
		for (size_t at = 0; at < runs[i].size; at += BUFFER_MAX, number++) {
			size_t left = runs[i].size - at;
			if (buffers)
				buffers[number] =
					(struct iovec){(char *)(uintptr_t)runs[i].base + at,
						left < BUFFER_MAX ? left : BUFFER_MAX};
		}
	return number;
}

int vn_ioloop_register_memory(struct vn_ioloop *loop, const struct iovec *runs, unsigned count)
{
	if (vn_ioloop_has_failed(loop))
		return -EIO;
	loop->runs = calloc(count, sizeof(*loop->runs));
	if (!loop->runs)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		loop->runs[i] =
			(struct run){runs[i].iov_base, runs[i].iov_len, cut(NULL, loop->runs, i)};
	unsigned number = cut(NULL, loop->runs, count);
	struct iovec *buffers = calloc(number, sizeof(*buffers));
	if (!buffers)
		return -ENOMEM;
	cut(buffers, loop->runs, count);
	int code = io_uring_register_buffers(transfer_ring(loop), buffers, number);
	free(buffers);
	if (code == 0)
		loop->run_count = count;
	return code;
}

// The number of the buffer that holds all of [at, at + size), or -1.
static int buffer_of(const struct vn_ioloop *loop, const char *at, size_t size)
{
	for (unsigned i = 0; i < loop->run_count; i++) {
		const struct run *run = &loop->runs[i];
		if (at < run->base || at >= run->base + run->size)
			continue;
		size_t offset = (size_t)(at - run->base);
		bool within = size <= run->size - offset &&
			      offset / BUFFER_MAX == (offset + size - 1) / BUFFER_MAX;
		return within ? (int)(run->first + offset / BUFFER_MAX) : -1;
	}
	return -1;
}

void vn_ioloop_use_registered(const struct vn_ioloop *loop, struct io_uring_sqe *sqe)
{
	if (sqe->fd == loop->file) {
		sqe->fd = 0;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
	if (sqe->opcode != IORING_OP_READ && sqe->opcode != IORING_OP_WRITE)
		return;
	int buffer = buffer_of(loop, (const char *)(uintptr_t)sqe->addr, sqe->len);
	if (buffer < 0)
		return;
	sqe->opcode = sqe->opcode == IORING_OP_READ ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
	sqe->buf_index = (uint16_t)buffer;
}

static void arm(struct vn_ioloop_event *event)
{
	struct io_uring_sqe *sqe = vn_ioloop_sqe(event->loop, &event->op);
	io_uring_prep_read(sqe, event->fd, &event->count, sizeof(event->count), 0);
	event->armed = true;
}

static void event_read(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)flags;
	struct vn_ioloop_event *event = container_of(op, struct vn_ioloop_event, op);
	event->armed = false;
	if (event->stopping)
		return;
	if (result == (int)sizeof(event->count))
		event->fire(event);
	arm(event);
}

void vn_ioloop_watch(struct vn_ioloop *loop, struct vn_ioloop_event *event)
{
	event->op.complete = event_read;
	event->loop = loop;
	event->stopping = false;
	arm(event);
}

static bool is_quiet(void *arg)
{
	const struct vn_ioloop_event *event = arg;
	return !event->armed;
}

void vn_ioloop_unwatch(struct vn_ioloop_event *event)
{
	// A signal of our own ends the read, whatever else does.
	event->stopping = true;
	eventfd_write(event->fd, 1);
	vn_ioloop_run_until(event->loop, is_quiet, event);
}

static void timed_out(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)result;
	(void)flags;
	struct vn_ioloop_timer *timer = container_of(op, struct vn_ioloop_timer, timeout);
	timer->pending--;
	bool expired = timer->set; // it may be set again from within
	timer->set = false;
	if (expired)
		timer->expire(timer);
}

void vn_ioloop_set_timer(struct vn_ioloop *loop, struct vn_ioloop_timer *timer, uint64_t ns)
{
	timer->timeout.complete = timed_out;
	timer->loop = loop;
	timer->at = (struct __kernel_timespec){
		.tv_sec = (int64_t)(ns / NS_PER_S), .tv_nsec = (long long)(ns % NS_PER_S)};
	timer->set = true;
	timer->pending++;
	io_uring_prep_timeout(
		vn_ioloop_sqe(loop, &timer->timeout), &timer->at, 0, IORING_TIMEOUT_ABS);
}

static void removed(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)result; // it may have expired before
	(void)flags;
	struct vn_ioloop_timer *timer = container_of(op, struct vn_ioloop_timer, removal);
	timer->pending--;
}

static bool is_over(void *arg)
{
	const struct vn_ioloop_timer *timer = arg;
	return timer->pending == 0;
}

void vn_ioloop_cancel_timer(struct vn_ioloop_timer *timer)
{
	if (!timer->set)
		return;
	timer->set = false;
	timer->removal.complete = removed;
	timer->pending++;
	io_uring_prep_timeout_remove(vn_ioloop_sqe(timer->loop, &timer->removal),
		(uint64_t)(uintptr_t)&timer->timeout, 0);
	vn_ioloop_run_until(timer->loop, is_over, timer);
}
