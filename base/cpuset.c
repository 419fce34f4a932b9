// SPDX-License-Identifier: Apache-2.0
//
// Sets of host CPUs, and their lists.
#include "base/cpuset.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define WORDS (VN_HOST_CPUS_MAX / 64)

unsigned vn_cpuset_next(const struct vn_cpuset *set, unsigned from)
{
	for (unsigned word = from / 64; word < WORDS; word++, from = word * 64) {
		uint64_t bits = set->bits[word] >> (from % 64);
		if (bits)
			return from + (unsigned)__builtin_ctzll(bits);
	}
	return VN_HOST_CPUS_MAX;
}

unsigned vn_cpuset_count(const struct vn_cpuset *set)
{
	unsigned count = 0;
	for (unsigned word = 0; word < WORDS; word++)
		count += (unsigned)__builtin_popcountll(set->bits[word]);
	return count;
}

void vn_cpuset_and(struct vn_cpuset *set, const struct vn_cpuset *other)
{
	for (unsigned word = 0; word < WORDS; word++)
		set->bits[word] &= other->bits[word];
}

void vn_cpuset_subtract(struct vn_cpuset *set, const struct vn_cpuset *other)
{
	for (unsigned word = 0; word < WORDS; word++)
		set->bits[word] &= ~other->bits[word];
}

void vn_cpuset_or(struct vn_cpuset *set, const struct vn_cpuset *other)
{
	for (unsigned word = 0; word < WORDS; word++)
		set->bits[word] |= other->bits[word];
}

// A CPU's number at *at, which moves behind it, or -1. A number that no CPU has may come out
// smaller, but not below VN_HOST_CPUS_MAX.
static int parse_cpu(const char **at)
{
	int cpu = 0;
	if (!isdigit((unsigned char)**at))
		return -1;
	for (; isdigit((unsigned char)**at); ++*at)
		if (cpu < VN_HOST_CPUS_MAX)
			cpu = cpu * 10 + (**at - '0');
	return cpu;
}

// `N` or `N-M`; *last is the second, or the first.
static bool parse_range(struct vn_cpuset *set, const char **at, int *last)
{
	int first = parse_cpu(at);
	*last = first;
	if (first >= 0 && **at == '-') {
		++*at;
		*last = parse_cpu(at);
	}
	if (first < 0 || *last < first)
		return false;
	for (int cpu = first; cpu <= *last && cpu < VN_HOST_CPUS_MAX; cpu++)
		vn_cpuset_add(set, (unsigned)cpu);
	return true;
}

// Whether it is a list, and the highest number in it.
static bool parse_list(struct vn_cpuset *set, const char *list, int *highest)
{
	int last;
	*highest = 0;
	while (parse_range(set, &list, &last)) {
		if (last > *highest)
			*highest = last;
		if (*list == '\0')
			return true;
		if (*list++ != ',')
			return false;
	}
	return false;
}

int vn_cpuset_parse(struct vn_cpuset *set, const char *list, struct veneer_error *error)
{
	int highest;
	*set = (struct vn_cpuset){.bits = {0}};
	if (*list == '\0')
		return 0;
	if (!parse_list(set, list, &highest))
		return vn_fail(error, -EINVAL, "'%s' is no list of CPUs, such as 0-3,8", list);
	if (highest >= VN_HOST_CPUS_MAX)
		return vn_fail(error, -ERANGE,
			"'%s' names CPUs above %d, the highest number that one can have", list,
			VN_HOST_CPUS_MAX - 1);
	return 0;
}

size_t vn_cpuset_format(const struct vn_cpuset *set, char *text, size_t size)
{
	size_t used = 0;
	if (size > 0)
		text[0] = '\0';
	for (unsigned cpu = vn_cpuset_next(set, 0); cpu < VN_HOST_CPUS_MAX;) {
		unsigned last = cpu;
		while (vn_cpuset_has(set, last + 1))
			last++;
		char range[32];
		int length = snprintf(range, sizeof(range), last > cpu ? "%s%u-%u" : "%s%u",
			used ? "," : "", cpu, last);
		if (used + (size_t)length < size)
			memcpy(text + used, range, (size_t)length + 1);
		used += (size_t)length;
		cpu = vn_cpuset_next(set, last + 1);
	}
	return used;
}
