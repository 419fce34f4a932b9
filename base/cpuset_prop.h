// SPDX-License-Identifier: Apache-2.0
//
// Property types for sets of CPUs, which are written as lists: "0-3,8".
#ifndef VN_CPUSET_PROP_H
#define VN_CPUSET_PROP_H

#include "base/cpuset.h"
#include "base/prop.h"

// What such a list is called in messages.
#define VN_HOST_CPUS_LIST "a list of the host's CPUs, such as 0-3,8"

// The field is a struct vn_cpuset; the value is not empty.
extern const struct vn_prop_type vn_prop_host_cpus; // below VN_HOST_CPUS_MAX
extern const struct vn_prop_type vn_prop_guest_cpus; // below VN_CPUS_MAX

// Parse a list of host CPUs that is not empty. -EINVAL: `why` holds the text that follows the list
// in the message, and *cpus has not changed.
int vn_host_cpus_parse(struct vn_cpuset *cpus, const char *list, struct vn_text *why);

#endif
