// SPDX-License-Identifier: Apache-2.0
//
// How a device tells the vm that the guest has ended, without knowing the vm.
#ifndef VN_END_H
#define VN_END_H

#include "veneer.h"

// `ended` may be called from any thread and any number of times; the first call counts.
struct vn_end_hook {
	void (*ended)(void *opaque, enum veneer_end end, uint32_t value, const char *message);
	void *opaque;
};

#endif
