// SPDX-License-Identifier: Apache-2.0
//
// Sets of host CPUs (struct veneer_cpuset), and the lists that the kernel and people write for
// them: `0-3,8`.
#ifndef VN_CPUSET_H
#define VN_CPUSET_H

#include <stdbool.h>

#include "veneer.h"

static inline bool vn_cpuset_has(const struct veneer_cpuset *set, unsigned cpu)
{
	return cpu < VENEER_HOST_CPUS_MAX && (set->bits[cpu / 64] >> (cpu % 64) & 1);
}

// `cpu` is below VENEER_HOST_CPUS_MAX.
static inline void vn_cpuset_add(struct veneer_cpuset *set, unsigned cpu)
{
	set->bits[cpu / 64] |= (uint64_t)1 << (cpu % 64);
}

static inline void vn_cpuset_remove(struct veneer_cpuset *set, unsigned cpu)
{
	set->bits[cpu / 64] &= ~((uint64_t)1 << (cpu % 64));
}

// The first CPU of the set from `from` on, or VENEER_HOST_CPUS_MAX.
unsigned vn_cpuset_next(const struct veneer_cpuset *set, unsigned from);
unsigned vn_cpuset_count(const struct veneer_cpuset *set);

static inline bool vn_cpuset_is_empty(const struct veneer_cpuset *set)
{
	return vn_cpuset_next(set, 0) == VENEER_HOST_CPUS_MAX;
}

// Keep what is in both, and take away or add what is in `other`.
void vn_cpuset_and(struct veneer_cpuset *set, const struct veneer_cpuset *other);
void vn_cpuset_subtract(struct veneer_cpuset *set, const struct veneer_cpuset *other);
void vn_cpuset_or(struct veneer_cpuset *set, const struct veneer_cpuset *other);

#define vn_cpuset_for_each(cpu, set)                                                               \
	for (unsigned cpu = vn_cpuset_next((set), 0); (cpu) < VENEER_HOST_CPUS_MAX;                \
		(cpu) = vn_cpuset_next((set), (cpu) + 1))

#endif
