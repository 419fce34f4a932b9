// SPDX-License-Identifier: Apache-2.0
//
// A virtual CPU and its thread: the run loop, the dispatch of exits to the buses, and the wish by
// which others have it run, pause or stop. The latter two come with a kick: a signal that is
// blocked in the thread except while KVM_RUN executes (KVM_SET_SIGNAL_MASK), together with
// `immediate_exit`: no handler runs, none is installed, and a kick that comes between two runs is
// not lost.
#ifndef VN_VCPU_H
#define VN_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/counter.h"
#include "base/thread.h"
#include "core/bus.h"
#include "core/end.h"
#include "core/kvm.h"

enum vn_vcpu_wish {
	VN_VCPU_RUN,
	VN_VCPU_PAUSE, // complete the exit at hand, and wait for another wish
	VN_VCPU_STOP, // end the thread
};

// Owned by the vm, used by its own thread once started; the wish and what goes with it,
// `run->immediate_exit` and the counters are what others touch.
struct vn_vcpu {
	unsigned index;
	int fd;
	struct kvm_run *run;
	const struct vn_kvm *kvm;
	const struct vn_memory *memory;
	const struct vn_bus *mmio;
	const struct vn_bus *pio;
	struct vn_end_hook end;
	// Tell a person why the vCPU cannot go on, on its thread: the architecture's part.
	void (*describe_crash)(const struct vn_vcpu *vcpu, char *text, size_t size);
	struct vn_thread_place place; // of its thread
	struct vn_cpuset helpers; // where KVM's own threads belong; empty: anywhere
	pthread_t thread;
	bool started; // until it is joined
	atomic_uint wish; // changed under the lock
	pthread_mutex_t lock;
	pthread_cond_t changed; // one of these has; by CLOCK_MONOTONIC
	bool parked, left; // under the lock: it waits for another wish; its thread is about to end
	vn_counter *exits; // to user space, by reason; on cache lines of their own
	int stats_fd; // KVM's statistics, or -1
};

int vn_vcpu_create(struct vn_vcpu *vcpu, const struct vn_kvm *kvm, unsigned index, uint32_t apic_id,
	struct veneer_error *error);

// The frequency of its time-stamp counter. -ENOTSUP where KVM cannot have it differ from the
// host's.
int vn_vcpu_set_tsc_khz(const struct vn_vcpu *vcpu, unsigned khz, struct veneer_error *error);

// Start its thread; also again, once that has been joined.
int vn_vcpu_start(struct vn_vcpu *vcpu, struct veneer_error *error);

// Tell a vCPU that has a thread what to do, from any thread, also its own. Does not wait.
// VN_VCPU_STOP stays until the next start.
void vn_vcpu_wish(struct vn_vcpu *vcpu, enum vn_vcpu_wish wish);

// Wait until it has parked, after VN_VCPU_PAUSE, or is about to end. From any thread but its own.
void vn_vcpu_await_park(struct vn_vcpu *vcpu);

// What it has counted, and KVM for it; from any thread. A negative errno.
int vn_vcpu_stats(
	const struct vn_vcpu *vcpu, struct vn_arena *arena, const struct veneer_vcpu_stats **stats);

// Wait until its thread has ended, after VN_VCPU_STOP. -ETIMEDOUT at `deadline_ns`
// (CLOCK_MONOTONIC; 0: none).
int vn_vcpu_join(struct vn_vcpu *vcpu, uint64_t deadline_ns);
void vn_vcpu_destroy(struct vn_vcpu *vcpu);

#endif
