// SPDX-License-Identifier: Apache-2.0
//
// All virtio device types.
#ifndef VN_DEVICE_TABLE_H
#define VN_DEVICE_TABLE_H

#include "virtio/device_type.h"

// Ends with NULL. A guest's devices are made, and take their slots, in this order.
extern const struct vn_device_type *const vn_device_types[];

#endif
