// SPDX-License-Identifier: Apache-2.0
//
// virtio-rng (virtio 1.2 section 5.4), fed by the host's getrandom(2).
#ifndef VN_RNG_H
#define VN_RNG_H

#include "virtio/device_type.h"

enum vn_rng_mode {
	VN_RNG_ON,
	VN_RNG_OFF,
	VN_RNG_DEFAULT, // on, but off for the built-in guest
};

struct vn_rng_options {
	enum vn_rng_mode mode;
};

// Its values are a struct vn_rng_options. -EAGAIN while the host has only just started and has no
// random numbers.
extern const struct vn_device_type vn_rng_type;

#endif
