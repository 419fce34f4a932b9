// SPDX-License-Identifier: Apache-2.0
//
// Which vCPU is where among the guest's sockets, dies, cores and threads, and which APIC id that
// makes it. CPUID, ACPI, the device tree and KVM's vCPU ids all ask here. Pure.
#ifndef VN_X86_TOPOLOGY_H
#define VN_X86_TOPOLOGY_H

#include <stdint.h>

#include "base/error.h"

// What the guest's CPUs are to each other; their product is the number of CPUs. All 0: one socket
// with a core for each CPU, or as many sockets as there need be for none to be in two NUMA cells.
struct vn_topology_options {
	unsigned sockets;
	unsigned dies; // of a socket
	unsigned cores; // of a die
	unsigned threads; // of a core
};

struct vn_topology {
	unsigned sockets;
	unsigned dies; // of a socket
	unsigned cores; // of a die
	unsigned threads; // of a core
	unsigned l3_cpus; // vCPUs that share a level 3 cache; 0: those of a die
};

// Bits of an APIC id that tell apart the CPUs within each of them.
struct vn_topology_shifts {
	unsigned core, l3, die, socket;
};

// Do the numbers that were asked for, of 16 bits each, make `cpus` CPUs? Asking for nothing always
// fits. -EINVAL.
int vn_topology_check(
	const struct vn_topology_options *given, unsigned cpus, struct veneer_error *error);

// What a program asks for, which has passed vn_topology_check(); where it asks for nothing, one
// socket with a core for each CPU, or as many sockets as there need be for none to be in two NUMA
// cells. `cell_of` tells each CPU's cell, and `cache_of` which of the host's level 3 caches it runs
// under; either may be NULL. A level 3 cache is split where it would be in two cells, which kernels
// take for impossible, or span two of the host's.
void vn_topology_make(struct vn_topology *topology, const struct vn_topology_options *given,
	unsigned cpus, const uint8_t *cell_of, const uint8_t *cache_of);

// CPUs of a socket.
unsigned vn_topology_socket_cpus(const struct vn_topology *topology);

struct vn_topology_shifts vn_topology_shifts(const struct vn_topology *topology);

// The APIC id of vCPU `index`: threads of a core follow each other, then cores, dies and sockets.
// Each level has bits of its own, so that the ids have gaps where a count is no power of two.
uint32_t vn_topology_apic_id(const struct vn_topology *topology, unsigned index);

#endif
