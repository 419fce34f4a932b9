// SPDX-License-Identifier: Apache-2.0
//
// MAC addresses for network devices that are given none: locally administered, and of one
// interface. 46 bits are left to tell them apart.
#ifndef VN_MAC_H
#define VN_MAC_H

#include <stdint.h>

#include "base/error.h"

// For printf(): the six bytes of one.
#define VN_MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"

// The one that belongs to `device` of the guest `identity` on this host, whose files are below
// `root` ("" on the live host): the first 6 bytes of SipHash-2-4 over the three, a newline between
// them. -ENOMEM.
int vn_mac_derive(uint8_t mac[6], const char *root, const char *identity, const char *device,
	struct veneer_error *error);

#endif
