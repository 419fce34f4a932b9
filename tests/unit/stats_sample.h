// SPDX-License-Identifier: Apache-2.0
//
// A snapshot made by hand, for tests of what is made of it: two vCPUs, a disk with two queues of
// which one has done something, and statistics of KVM of each kind.
#ifndef VN_TEST_STATS_SAMPLE_H
#define VN_TEST_STATS_SAMPLE_H

#include "veneer.h"

static const uint64_t sample_exits[] = {1000}, sample_wait[] = {1500000000}, sample_pages[] = {3},
		      sample_spread[] = {1, 2, 3, 4}, sample_bytes[] = {5};

static const struct veneer_kvm_stat sample_kvm[] = {
	{"exits", VENEER_KVM_KIND_CUMULATIVE, VENEER_KVM_UNIT_NONE, 10, 0, 0, 1, sample_exits},
	{"halt_wait_ns", VENEER_KVM_KIND_CUMULATIVE, VENEER_KVM_UNIT_SECONDS, 10, -9, 0, 1,
		sample_wait},
	{"halt_wait_hist", VENEER_KVM_KIND_LOG_HISTOGRAM, VENEER_KVM_UNIT_SECONDS, 10, -9, 0, 4,
		sample_spread},
	{"pages_4k", VENEER_KVM_KIND_INSTANT, VENEER_KVM_UNIT_NONE, 10, 0, 0, 1, sample_pages},
	{"peak-size", VENEER_KVM_KIND_PEAK, VENEER_KVM_UNIT_BYTES, 2, 10, 0, 1, sample_bytes},
};
static const struct veneer_kvm_stat *const sample_vcpu_kvm[] = {
	&sample_kvm[0], &sample_kvm[1], &sample_kvm[2], NULL};
static const struct veneer_kvm_stat *const sample_vm_kvm[] = {&sample_kvm[3], &sample_kvm[4], NULL};

static const struct veneer_exit_stat sample_io = {"io", 40}, sample_mmio = {"mmio", 2},
				     sample_signal = {"signal", 1};
static const struct veneer_exit_stat *const sample_vcpu_exits[] = {
	&sample_io, &sample_mmio, &sample_signal, NULL};
static const struct veneer_exit_stat *const sample_no_exits[] = {NULL};
static const struct veneer_vcpu_stats sample_vcpu0 = {0, sample_vcpu_exits, sample_vcpu_kvm},
				      sample_vcpu1 = {1, sample_no_exits, sample_vcpu_kvm};
static const struct veneer_vcpu_stats *const sample_vcpus[] = {&sample_vcpu0, &sample_vcpu1, NULL};

// Ten requests: eight of 20 us, one of 1 ms, one of 20 s.
static const struct veneer_latency_bucket sample_buckets[] = {
	{19456, 20480, 8}, {983040, 1048576, 1}, {19327352832, 20401094656, 1}};
static const struct veneer_latency sample_latency = {10, 20001160000, 3, sample_buckets};
static const struct veneer_queue_stats sample_busy = {0, 10, 1, 40960, 8192, 4, 6, 5, 3,
					       &sample_latency},
				       sample_quiet = {.index = 1};
static const struct veneer_queue_stats *const sample_queues[] = {&sample_busy, &sample_quiet, NULL};
static const struct veneer_queue_stats *const sample_no_queues[] = {NULL};
static const uint8_t sample_mac[6] = {0x02, 0, 0x5e, 0x10, 0, 0xff};
static const struct veneer_device_stats sample_disk = {"blk0", 2, sample_queues, NULL, "disk0"},
					sample_net = {
						"net0", 1, sample_no_queues, sample_mac, "net0"};
static const struct veneer_device_stats *const sample_devices[] = {&sample_disk, &sample_net, NULL};

static const struct veneer_stats sample_stats = {
	.time_ns = 100000000000,
	.running_ns = 2500000000,
	.vcpus = sample_vcpus,
	.devices = sample_devices,
	.kvm = sample_vm_kvm,
	.state = VENEER_STATE_RUNNING,
};

#endif
