// SPDX-License-Identifier: Apache-2.0
//
// veneer_plan_make() on a host of the caller's choice, for tests.
#ifndef VN_PLAN_H
#define VN_PLAN_H

#include "host/host.h"

// `plan` is zero before; its strings are the caller's, also after a failure.
int vn_plan_on(struct veneer_plan *plan, const struct veneer_config *config,
	const struct vn_host *host, bool choose, struct veneer_error *error);

#endif
