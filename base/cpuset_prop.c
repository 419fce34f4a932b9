// SPDX-License-Identifier: Apache-2.0
#include "base/cpuset_prop.h"

#include <errno.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/sysfs.h"

// -EINVAL, or -ERANGE for a CPU that no host has.
static int parse_list(struct vn_cpuset *cpus, const char *list)
{
	return *list ? vn_cpuset_parse(cpus, list, NULL) : -EINVAL;
}

int vn_host_cpus_parse(struct vn_cpuset *cpus, const char *list, struct vn_text *why)
{
	struct vn_cpuset parsed;
	char online[256];
	int code = parse_list(&parsed, list);
	if (code == 0)
		*cpus = parsed;
	else if (code == -ERANGE &&
		 vn_sysfs_line("", online, sizeof(online), "/sys/devices/system/cpu/online") >= 0)
		vn_text_add(why, " names CPUs that the host does not have: %s are online", online);
	else
		vn_text_add(why, " is not " VN_HOST_CPUS_LIST);
	return code < 0 ? -EINVAL : 0;
}

static int parse_host(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)prop;
	return vn_host_cpus_parse(field, value, why);
}

static int parse_guest(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	struct vn_cpuset cpus;
	int code = parse_list(&cpus, value);
	(void)prop;
	if (code == 0 && vn_cpuset_next(&cpus, VN_CPUS_MAX) < VN_HOST_CPUS_MAX)
		code = -ERANGE;
	if (code == 0)
		*(struct vn_cpuset *)field = cpus;
	else if (code == -ERANGE)
		vn_text_add(why, " names CPUs that no guest has: %d is the last", VN_CPUS_MAX - 1);
	return code < 0 ? -EINVAL : 0;
}

static void expect_guest(const struct vn_prop *prop, struct vn_text *text)
{
	(void)prop;
	vn_text_add(text, "a list of CPUs, such as 0-3,8");
}

static char *format(const struct vn_prop *prop, const void *field)
{
	size_t size = vn_cpuset_format(field, NULL, 0) + 1;
	char *text = malloc(size);
	(void)prop;
	if (text)
		vn_cpuset_format(field, text, size);
	return text;
}

const struct vn_prop_type vn_prop_host_cpus = {.parse = parse_host, .format = format};
const struct vn_prop_type vn_prop_guest_cpus = {
	.parse = parse_guest, .expect = expect_guest, .format = format};
