// SPDX-License-Identifier: Apache-2.0
//
// Sets of host CPUs, and their lists.
#include "vmm/cpuset.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/error.h"

#define WORDS (VENEER_HOST_CPUS_MAX / 64)

unsigned vn_cpuset_next(const struct veneer_cpuset *set, unsigned from)
{
	for (unsigned word = from / 64; word < WORDS; word++, from = word * 64) {
		uint64_t bits = set->bits[word] >> (from % 64);
		if (bits)
			return from + (unsigned)__builtin_ctzll(bits);
	}
	return VENEER_HOST_CPUS_MAX;
}

unsigned vn_cpuset_count(const struct veneer_cpuset *set)
{
	unsigned count = 0;
	for (unsigned word = 0; word < WORDS; word++)
		count += (unsigned)__builtin_popcountll(set->bits[word]);
	return count;
}

void vn_cpuset_and(struct veneer_cpuset *set, const struct veneer_cpuset *other)
{
	for (unsigned word = 0; word < WORDS; word++)
		set->bits[word] &= other->bits[word];
}

void vn_cpuset_subtract(struct veneer_cpuset *set, const struct veneer_cpuset *other)
{
	for (unsigned word = 0; word < WORDS; word++)
		set->bits[word] &= ~other->bits[word];
}

void vn_cpuset_or(struct veneer_cpuset *set, const struct veneer_cpuset *other)
{
	for (unsigned word = 0; word < WORDS; word++)
		set->bits[word] |= other->bits[word];
}

// A CPU's number at *at, which moves behind it; or -1.
static long parse_cpu(const char **at)
{
	char *end;
	if (!isdigit((unsigned char)**at))
		return -1;
	errno = 0;
	unsigned long cpu = strtoul(*at, &end, 10);
	if (errno != 0 || cpu >= VENEER_HOST_CPUS_MAX)
		return -1;
	*at = end;
	return (long)cpu;
}

// `N` or `N-M`.
static bool parse_range(struct veneer_cpuset *set, const char **at)
{
	long first = parse_cpu(at), last = first;
	if (first >= 0 && **at == '-') {
		++*at;
		last = parse_cpu(at);
	}
	if (first < 0 || last < first)
		return false;
	for (long cpu = first; cpu <= last; cpu++)
		vn_cpuset_add(set, (unsigned)cpu);
	return true;
}

int veneer_cpuset_parse(struct veneer_cpuset *set, const char *list, struct veneer_error *error)
{
	const char *at = list;
	*set = (struct veneer_cpuset){.bits = {0}};
	if (*at == '\0')
		return 0;
	while (parse_range(set, &at)) {
		if (*at == '\0')
			return 0;
		if (*at++ != ',')
			break;
	}
	return vn_fail(error, -EINVAL,
		"'%s' is no list of CPUs: numbers and ranges up to %d, such as 0-3,8", list,
		VENEER_HOST_CPUS_MAX - 1);
}

size_t veneer_cpuset_format(const struct veneer_cpuset *set, char *text, size_t size)
{
	size_t used = 0;
	if (size > 0)
		text[0] = '\0';
	for (unsigned cpu = vn_cpuset_next(set, 0); cpu < VENEER_HOST_CPUS_MAX;) {
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
