// SPDX-License-Identifier: Apache-2.0
//
// Options for booting and for the machine: kernel, initrd, cmdline, name, transport.
#ifndef VN_MACHINE_OPTIONS_H
#define VN_MACHINE_OPTIONS_H

#include "base/file_prop.h"
#include "base/prop.h"

struct vn_file_options {
	struct vn_file file;
};

// One string, owned; NULL: not set.
struct vn_string_options {
	char *text;
};

enum vn_transport {
	VN_TRANSPORT_PCI,
	VN_TRANSPORT_MMIO,
	VN_TRANSPORT_DEFAULT, // PCI, but MMIO for the built-in guest
};

struct vn_transport_options {
	enum vn_transport transport;
};

extern const struct vn_option vn_kernel_option, vn_initrd_option, vn_cmdline_option, vn_name_option,
	vn_transport_option;

#endif
