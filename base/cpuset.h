// SPDX-License-Identifier: Apache-2.0
//
// Sets of CPUs, and the lists that the kernel and people write for
// them: `0-3,8`.
#ifndef VN_CPUSET_H
#define VN_CPUSET_H

#include <stdbool.h>

#include "base/error.h"
#include "base/macros.h"

#define VN_HOST_CPUS_MAX 1024

// CPU N is bit N % 64 of bits[N / 64].
struct vn_cpuset {
	uint64_t bits[VN_HOST_CPUS_MAX / 64];
};

// A list such as "0-3,8", as the kernel writes it too; "" is the empty set. With the line: -EINVAL
// for what is no list, -ERANGE for one with a number of VN_HOST_CPUS_MAX or more.
int vn_cpuset_parse(struct vn_cpuset *set, const char *list, struct veneer_error *error);

// The shortest such list. The length of all of it, without the final 0, as snprintf(3) says it;
// `text` gets whole ranges only, as many as fit in `size` bytes.
size_t vn_cpuset_format(const struct vn_cpuset *set, char *text, size_t size);

static inline bool vn_cpuset_has(const struct vn_cpuset *set, unsigned cpu)
{
	return cpu < VN_HOST_CPUS_MAX && (set->bits[cpu / 64] >> (cpu % 64) & 1);
}

// `cpu` is below VN_HOST_CPUS_MAX.
static inline void vn_cpuset_add(struct vn_cpuset *set, unsigned cpu)
{
	set->bits[cpu / 64] |= BIT64(cpu % 64);
}

static inline void vn_cpuset_remove(struct vn_cpuset *set, unsigned cpu)
{
	set->bits[cpu / 64] &= ~BIT64(cpu % 64);
}

// The first CPU of the set from `from` on, or VN_HOST_CPUS_MAX.
unsigned vn_cpuset_next(const struct vn_cpuset *set, unsigned from);
unsigned vn_cpuset_count(const struct vn_cpuset *set);

static inline bool vn_cpuset_is_empty(const struct vn_cpuset *set)
{
	return vn_cpuset_next(set, 0) == VN_HOST_CPUS_MAX;
}

// Keep what is in both, and take away or add what is in `other`.
void vn_cpuset_and(struct vn_cpuset *set, const struct vn_cpuset *other);
void vn_cpuset_subtract(struct vn_cpuset *set, const struct vn_cpuset *other);
void vn_cpuset_or(struct vn_cpuset *set, const struct vn_cpuset *other);

#define vn_cpuset_for_each(cpu, set)                                                               \
	for (unsigned cpu = vn_cpuset_next((set), 0); (cpu) < VN_HOST_CPUS_MAX;                    \
		(cpu) = vn_cpuset_next((set), (cpu) + 1))

#endif
