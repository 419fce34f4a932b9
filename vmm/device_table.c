// SPDX-License-Identifier: Apache-2.0
#include "vmm/device_table.h"

#include "devices/blk/blk.h"
#include "devices/net/net.h"
#include "devices/rng.h"

const struct vn_device_type *const vn_device_types[] = {
	&vn_blk_type,
	&vn_net_type,
	&vn_rng_type,
	NULL,
};
