// SPDX-License-Identifier: Apache-2.0
//
// How large a guest can be.
#ifndef VN_LIMITS_H
#define VN_LIMITS_H

#define VN_CPUS_MAX   64
#define VN_CELLS_MAX  8 // NUMA cells
#define VN_QUEUES_MAX 16 // of a disk; pairs of a network

#endif
