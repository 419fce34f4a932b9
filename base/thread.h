// SPDX-License-Identifier: Apache-2.0
//
// Starting a thread of the library, and where it runs.
#ifndef VN_THREAD_H
#define VN_THREAD_H

#include <pthread.h>
#include <signal.h>

#include "base/cpuset.h"
#include "base/error.h"

// What the library's threads block: all that is sent to the process, which is its program's to
// take, but not what a fault raises in the thread itself. Were that blocked, the kernel would end
// the process past its handler, with nothing reported and no terminal restored, and a vCPU would
// try for ever to get at a page that the hardware lost.
void vn_thread_signals(sigset_t *blocked);

// Where and how a thread runs.
struct vn_thread_place {
	struct vn_cpuset cpus; // empty: where its maker does
	unsigned fifo; // priority in SCHED_FIFO, 1 to 99, or 0: as its maker
};

// Start `run(arg)` with these signals blocked, in its place from its first instruction on. `place`
// may be NULL. 0, or a negative errno: -EINVAL when none of the CPUs may be used, -EPERM when the
// priority may not.
int vn_thread_start(
	pthread_t *thread, const struct vn_thread_place *place, void *(*run)(void *arg), void *arg);

// Make the line for what vn_thread_start() returned; `name` is the thread's. Returns `code`.
int vn_thread_fail(struct veneer_error *error, int code, const char *name,
	const struct vn_thread_place *place);

// Move the calling thread to these CPUs, and tell those it may run on. 0 or a negative errno.
int vn_thread_move(const struct vn_cpuset *cpus);
int vn_thread_cpus(struct vn_cpuset *cpus);

#endif
