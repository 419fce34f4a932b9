// SPDX-License-Identifier: Apache-2.0
//
// A virtual CPU and its thread: the run loop, the dispatch of exits to the buses, and the kick that
// makes it leave the guest. The kick is a signal that is blocked in the thread except while KVM_RUN
// executes (KVM_SET_SIGNAL_MASK), together with `immediate_exit`: no handler runs, none is
// installed, and a kick that comes between two runs is not lost.
#ifndef VN_VCPU_H
#define VN_VCPU_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/counter.h"
#include "base/thread.h"
#include "core/bus.h"
#include "core/end.h"
#include "core/kvm.h"

// Owned by the vm, used by its own thread once started; `stop`, `run->immediate_exit` and the
// counters are what others touch.
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
	sem_t left; // posted when its thread is about to end
	atomic_bool stop;
	vn_counter *exits; // to user space, by reason; on cache lines of their own
	int stats_fd; // KVM's statistics, or -1
};

int vn_vcpu_create(struct vn_vcpu *vcpu, const struct vn_kvm *kvm, unsigned index, uint32_t apic_id,
	struct veneer_error *error);

// The frequency of its time-stamp counter. -ENOTSUP where KVM cannot have it differ from the
// host's.
int vn_vcpu_set_tsc_khz(const struct vn_vcpu *vcpu, unsigned khz, struct veneer_error *error);

int vn_vcpu_start(struct vn_vcpu *vcpu, struct veneer_error *error);

// Make the vCPU leave the guest for good, from any thread, also its own. Does not wait.
void vn_vcpu_kick(struct vn_vcpu *vcpu);

// What it has counted, and KVM for it; from any thread. A negative errno.
int vn_vcpu_stats(
	const struct vn_vcpu *vcpu, struct vn_arena *arena, const struct veneer_vcpu_stats **stats);

// Wait until its thread has ended, after a kick. -ETIMEDOUT at `deadline_ns` (CLOCK_MONOTONIC; 0:
// none).
int vn_vcpu_join(struct vn_vcpu *vcpu, uint64_t deadline_ns);
void vn_vcpu_destroy(struct vn_vcpu *vcpu);

#endif
