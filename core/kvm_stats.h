// SPDX-License-Identifier: Apache-2.0
//
// KVM's binary statistics (Linux Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD): a descriptor of
// the VM or of a vCPU that holds counters together with their names and units, so that whatever
// this host's kernel counts can be read without knowing it.
#ifndef VN_KVM_STATS_H
#define VN_KVM_STATS_H

#include "base/arena.h"
#include "veneer.h"

// The statistics of a VM's or vCPU's descriptor: a descriptor to close, or -1 where this host's KVM
// has none. Before the vCPU runs: KVM_RUN holds a lock that this waits for.
int vn_kvm_stats_open(int fd);

// Read all of them, from any thread, with `fd` from vn_kvm_stats_open(). A NULL-terminated list,
// empty for -1. A negative errno, -EPROTO for what does not follow the format.
int vn_kvm_stats_read(int fd, struct vn_arena *arena, const struct veneer_kvm_stat *const **stats);

#endif
