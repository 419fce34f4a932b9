// SPDX-License-Identifier: Apache-2.0
//
// How a device tells the vm that the guest has ended, without knowing the vm.
#ifndef VN_END_H
#define VN_END_H

#include "veneer.h"

#define VN_END_MESSAGE_MAX sizeof(((struct veneer_event *)0)->message)

// Both may be called from any thread and any number of times; the first call counts.
struct vn_end_hook {
	void (*ended)(void *opaque, enum veneer_end end, uint32_t value, const char *message);
	// The guest has panicked, as `message` says, and runs on for its last words: from now on,
	// whatever ends it, but a failure of the host, this is how it ended.
	void (*panicked)(void *opaque, const char *message);
	void *opaque;
};

#endif
