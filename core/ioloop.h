// SPDX-License-Identifier: Apache-2.0
//
// An I/O thread around one io_uring: everything it waits for (notifications, disk completions,
// work from other threads) is a completion of that ring, so it waits in one place, and each turn is
// one system call that submits all that the last turn prepared.
//
//     turn: io_uring_submit_and_wait -> every completion's `complete` -> every attached `flush`
//
// The flush is where a queue publishes all that completed in this turn and raises at most one
// interrupt. A loop uses its ring from its own thread only; other threads reach it through
// vn_ioloop_call().
//
// A loop whose ring fails or loses a completion does not recover: it reports the failure to its
// owner and closes the ring, and its thread ends. From then on no operation completes, submissions
// go nowhere, waits for completions return at once, and calls run on their callers' threads, one at
// a time. When such a call runs, the kernel no longer accesses the memory of operations in flight
// by address. It may still write to pages that it has pinned for O_DIRECT: unmap that memory, and
// do not reuse it.
#ifndef VN_IOLOOP_H
#define VN_IOLOOP_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cpuset.h"
#include "base/error.h"

struct vn_ioloop;

// Something the ring will complete; embedded in its owner's structure, alive and unmoved until
// `complete` has run. `result` is the completion's res, `flags` its flags (IORING_CQE_F_MORE: more
// completions of the same operation follow).
struct vn_ioloop_op {
	void (*complete)(struct vn_ioloop_op *op, int result, uint32_t flags);
};

// Called once at the end of each turn.
struct vn_ioloop_hook {
	void (*flush)(struct vn_ioloop_hook *hook);
	struct vn_ioloop_hook *next; // the loop's
};

// Where a new loop runs, and who is told of its failure.
struct vn_ioloop_site {
	struct vn_cpuset cpus; // of its thread; empty: inherit the creator's affinity
	// Called at most once, on the loop's thread, when its ring has failed. May be NULL.
	void (*failed)(void *opaque, const char *message);
	void *opaque;
};

// Create a loop with a ring of `entries` submissions and start its thread, named `name` (at most
// 15 bytes), together with what the kernel starts to work for the ring. Signals that are sent are
// blocked in it. `site` may be NULL: the creator's affinity, and no report of a failure.
int vn_ioloop_create(struct vn_ioloop **loop, const char *name, unsigned entries,
	const struct vn_ioloop_site *site, struct veneer_error *error);

// Make the loop fail as soon as its thread notices, without a report. From any thread.
void vn_ioloop_abandon(struct vn_ioloop *loop);

// From any thread.
bool vn_ioloop_has_failed(const struct vn_ioloop *loop);

// Stop the thread and free the loop. Every operation must have completed, unless the loop has
// failed, and every hook be gone.
void vn_ioloop_destroy(struct vn_ioloop *loop);

// Run `fn(arg)` on the loop's thread and return when it has returned. From any thread but the
// loop's own. This is how queues are handed to the loop and taken back. If the loop has failed,
// its thread has ended when this returns.
void vn_ioloop_call(struct vn_ioloop *loop, void (*fn)(void *arg), void *arg);

// On the loop's thread only, from here on:

// Exchange the ring, before the loop has anything else to do, for one whose submissions the kernel
// takes by a thread of its own (`sqpoll`), or have reads and writes done on a second ring, whose
// completions are looked for at the device without interrupts as long as any is to come (`iopoll`);
// with both, that is the second ring's. 0 or a negative errno.
int vn_ioloop_set_polling(struct vn_ioloop *loop, bool sqpoll, bool iopoll);

// A submission entry whose completion goes to `op`; prepare it with one io_uring_prep_*() function
// and, if it is to be, vn_ioloop_use_registered(). Never NULL: a full submission queue is submitted
// first, and a failed loop has an entry that is never submitted.
struct io_uring_sqe *vn_ioloop_sqe(struct vn_ioloop *loop, struct vn_ioloop_op *op);

// Make known to the ring, once instead of with each operation, the file that most operations of
// this loop are on. 0 or a negative errno. The file stays open as long as the loop lives.
int vn_ioloop_register_file(struct vn_ioloop *loop, int fd);

// The same for the memory that most of them read into or write from, in `count` runs: its pages,
// all of which then exist, are pinned and counted against the limit of locked memory (-ENOMEM)
// until the loop's end.
int vn_ioloop_register_memory(struct vn_ioloop *loop, const struct iovec *runs, unsigned count);

// Let a prepared submission refer to what has been registered, if it can: to the file if it is on
// that, and to memory if it is a read or write of one piece that lies within one gigabyte of it,
// which is the most that the kernel registers as one buffer.
void vn_ioloop_use_registered(const struct vn_ioloop *loop, struct io_uring_sqe *sqe);

// The same for a read or write of the registered file.
struct io_uring_sqe *vn_ioloop_transfer_sqe(struct vn_ioloop *loop, struct vn_ioloop_op *op);

// A blocking eventfd that the loop reads again and again: `fire` runs once for each read that found
// it signalled. Owned by whoever is notified; fields other than `fire` and `fd` are the loop's.
struct vn_ioloop_event {
	struct vn_ioloop_op op;
	void (*fire)(struct vn_ioloop_event *event);
	struct vn_ioloop *loop;
	int fd;
	uint64_t count;
	bool armed;
	bool stopping;
};

// Begin and end watching. Ending returns when no read of `fd` is in flight any more; it may run
// turns of the loop meanwhile, and so other owners' completions.
void vn_ioloop_watch(struct vn_ioloop *loop, struct vn_ioloop_event *event);
void vn_ioloop_unwatch(struct vn_ioloop_event *event);

// For a hook: have the next turn submit what is prepared and take what has completed, but wait for
// nothing, so that the hooks are called again at once.
void vn_ioloop_stay_awake(struct vn_ioloop *loop);

// When this turn was, by CLOCK_MONOTONIC in nanoseconds: the clock is read by the first that asks
// in a turn, and all that the turn does happens then.
uint64_t vn_ioloop_now(struct vn_ioloop *loop);

// A moment of CLOCK_MONOTONIC at which the loop calls `expire`. Owned by whoever is called; fields
// other than `expire` are the loop's. Setting it is for one that is not set; cancelling is for any,
// and returns when it will not be called any more: it may run turns of the loop meanwhile.
struct vn_ioloop_timer {
	void (*expire)(struct vn_ioloop_timer *timer);
	struct vn_ioloop_op timeout, removal;
	struct vn_ioloop *loop;
	struct __kernel_timespec at;
	unsigned pending; // operations
	bool set;
};

void vn_ioloop_set_timer(struct vn_ioloop *loop, struct vn_ioloop_timer *timer, uint64_t ns);
void vn_ioloop_cancel_timer(struct vn_ioloop_timer *timer);

void vn_ioloop_add_hook(struct vn_ioloop *loop, struct vn_ioloop_hook *hook);
void vn_ioloop_remove_hook(struct vn_ioloop *loop, struct vn_ioloop_hook *hook);

// Run turns of the loop, within a call made by vn_ioloop_call(), until `done(arg)` says true or the
// loop fails: how a reset waits for requests in flight.
void vn_ioloop_run_until(struct vn_ioloop *loop, bool (*done)(void *arg), void *arg);

#endif
