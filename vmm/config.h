// SPDX-License-Identifier: Apache-2.0
//
// A guest's configuration: the values of each option.
#ifndef VN_CONFIG_H
#define VN_CONFIG_H

#include "base/prop.h"
#include "core/memory_options.h"
#include "virtio/device_type.h"
#include "vmm/cpu_options.h"
#include "vmm/machine_options.h"

#define VN_CONFIG_ITEMS_MAX 256 // of one option

// One option's values. Options that are not repeatable always have one item.
struct vn_config_item {
	const struct vn_option *option;
	unsigned number; // among those of its option
	uint64_t given; // the properties that the caller set, as vn_option_parse() has them
	void *values; // as option->props describes them; owned
};

struct veneer_config {
	struct vn_config_item *items;
	size_t count;
	int serial_in, serial_out; // owned, or -1
	// Random. Stands for the name of unnamed guests made from this configuration, so that their
	// MAC addresses outlast a restart.
	char identity[33];
};

// All options, in the order of help texts; NULL behind the last.
const struct vn_option *vn_config_option(unsigned index);

// The option whose name is the first `length` bytes of `name`, or NULL.
const struct vn_option *vn_config_option_named(const char *name, size_t length);

// Say that there is none of this name, and which one is near. -EINVAL.
int vn_config_no_such_option(const char *name, size_t length, struct veneer_error *error);

// The values of the option's item `number`, or NULL where there is none.
void *vn_config_values(
	const struct veneer_config *config, const struct vn_option *option, unsigned number);

// How many items an option has.
unsigned vn_config_count(const struct veneer_config *config, const struct vn_option *option);

// Move `values`, as vn_option_parse() fills them, into the configuration: replace the
// option's values, or add an item if it is repeatable. -ENOMEM; -EINVAL: it has too many. The
// caller still owns them then.
int vn_config_put(struct veneer_config *config, const struct vn_option *option, const void *values,
	uint64_t given, struct veneer_error *error);

// Put the item's number into the error's key: "disk.queues" becomes "disk1.queues".
void vn_config_number_key(
	const struct vn_option *option, unsigned number, struct veneer_error *error);

// A copy that owns all that it has, descriptors too.
int vn_config_copy(struct veneer_config **copy, const struct veneer_config *config,
	struct veneer_error *error);

// What a guest is made from: a copy in which nothing is left open, and views of it.
struct vn_spec {
	struct veneer_config *config; // owned
	const struct vn_file *kernel, *initrd; // NULL: the built-in guest; none
	const char *cmdline, *name; // or NULL
	const struct vn_cpus_options *cpus;
	const struct vn_cpu_options *cpu;
	const struct vn_memory_options *memory; // its size is that of all cells
	struct vn_cell_options cells[VN_CELLS_MAX]; // at least one; pages and nodes are definite
	unsigned cell_count;
	bool numa; // the guest is told of its cells
	enum vn_transport transport;
};

// Check each option, then all against each other, and fill in defaults. -EINVAL.
int vn_spec_make(
	struct vn_spec *spec, const struct veneer_config *config, struct veneer_error *error);
void vn_spec_free(struct vn_spec *spec);

// Values of the type's device `number`; NULL: the guest has no such device.
void *vn_spec_device(
	const struct vn_spec *spec, const struct vn_device_type *type, unsigned number);

#endif
