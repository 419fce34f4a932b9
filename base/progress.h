// SPDX-License-Identifier: Apache-2.0
//
// Long work that says how far it is, and can be given up.
#ifndef VN_PROGRESS_H
#define VN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

// A few times a second: bytes of how many. False: give up. `report` NULL: nobody wants to know.
struct vn_progress {
	bool (*report)(void *opaque, uint64_t done, uint64_t total);
	void *opaque;
};

#endif
