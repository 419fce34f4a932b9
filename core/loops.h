// SPDX-License-Identifier: Apache-2.0
//
// The loops of one guest. Each queue of a disk and each queue pair of a network device has a
// dedicated loop, because its thread is as busy as the queue. All other devices have little to do
// and share one loop, which is created for the first of them.
//
// When a loop fails, the guest ends. Its other dedicated loops are abandoned, because a request on
// one may wait for a request on another. The shared loop goes on, unless it is the one that failed,
// and writes the guest's last output.
#ifndef VN_LOOPS_H
#define VN_LOOPS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/cpuset.h"
#include "base/error.h"
#include "core/end.h"
#include "core/ioloop.h"

#define VN_LOOPS_SHARED_NAME "devices"

// Owned by the vm. One thread at a time takes loops and gives them back. Set the first fields after
// vn_loops_init().
struct vn_loops {
	struct vn_cpuset dedicated_cpus; // one for each loop in turn; empty: any CPU
	struct vn_cpuset shared_cpus; // empty: any CPU
	const struct vn_end_hook *end; // or NULL
	unsigned next_cpu;

	struct vn_ioloop *shared; // or NULL
	unsigned shared_users;
	atomic_bool failed; // at least one loop has; for good
	pthread_mutex_t lock;
	struct vn_loop *dedicated; // under the lock: a list
};

void vn_loops_init(struct vn_loops *loops);

// All loops must have been given back.
void vn_loops_destroy(struct vn_loops *loops);

// Take a loop for the device or queue of this name: a dedicated one, whose thread has this name, or
// the shared one.
int vn_loops_take(struct vn_loops *loops, const char *name, bool dedicated, struct vn_ioloop **loop,
	struct veneer_error *error);

// The caller's operations on it must have completed, unless it has failed, and the caller's hooks
// be gone. Its last user destroys it.
void vn_loops_give_back(struct vn_loops *loops, struct vn_ioloop *loop);

// From any thread.
bool vn_loops_have_failed(const struct vn_loops *loops);

// The next one of these CPUs, in turn; an empty set if there are none. `next` begins at 0.
struct vn_cpuset vn_loops_next_cpu(const struct vn_cpuset *cpus, unsigned *next);

#endif
