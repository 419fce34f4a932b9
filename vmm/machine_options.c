// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine_options.h"

#include <string.h>

#include "base/option_limits.h"

#define NAME_BYTES VN_STRING(VN_NAME_MAX)

#define FILE_FIELD(field)      VN_PROP_FIELD(struct vn_file_options, field)
#define STRING_FIELD(field)    VN_PROP_FIELD(struct vn_string_options, field)
#define TRANSPORT_FIELD(field) VN_PROP_FIELD(struct vn_transport_options, field)

static const char *const TRANSPORTS[] = {"pci", "mmio", NULL};

static const struct vn_file_options no_file = {VN_NO_FILE};
static const struct vn_string_options no_string;
static const struct vn_transport_options default_transport = {VN_TRANSPORT_DEFAULT};

// Valid as a file name and a metric label without quoting, and not a number, which would look like
// a process ID.
static bool is_name(const char *value)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	size_t length = strlen(value);
	return value[0] != '-' && value[0] != '.' && strspn(value, allowed) == length &&
	       strspn(value, "0123456789") < length;
}

// The table of an option with a single property, whose text is the option's.
#define ONLY(...)                                                                                  \
	(const struct vn_prop[2])                                                                  \
	{                                                                                          \
		{                                                                                  \
			__VA_ARGS__, .flags = VN_PROP_FIRST                                        \
		}                                                                                  \
	}

#define BOOT "What to boot"

const struct vn_option vn_kernel_option = {.name = "kernel",
	.letter = 'k',
	.whole = true,
	.help = "The guest's kernel: an ELF file (PVH or vmlinux) or a bzImage. The built-in guest "
		"measures CPU, memory and disk and compares them with the host.",
	.group = BOOT,
	.props = ONLY("path", "FILE", "The kernel's file.", "the built-in guest", &vn_prop_file,
		FILE_FIELD(file), .min = 1, .choices = "a file"),
	.size = sizeof(struct vn_file_options),
	.defaults = &no_file};

const struct vn_option vn_initrd_option = {.name = "initrd",
	.letter = 'i',
	.whole = true,
	.help = "The initial RAM disk.",
	.group = BOOT,
	.props = ONLY("path", "FILE", "The RAM disk's file.", "none", &vn_prop_file,
		FILE_FIELD(file), .min = 1, .choices = "a file"),
	.size = sizeof(struct vn_file_options),
	.defaults = &no_file};

const struct vn_option vn_cmdline_option = {.name = "cmdline",
	.letter = 'a',
	.whole = true,
	.help = "The kernel's command line. For devices on virtio-mmio, virtio_mmio.device= words "
		"are put before it.",
	.group = BOOT,
	.props = ONLY("text", "STRING", "The command line.", "empty", &vn_prop_string,
		STRING_FIELD(text)),
	.size = sizeof(struct vn_string_options),
	.defaults = &no_string};

const struct vn_option vn_name_option = {.name = "name",
	.whole = true,
	.help = "The guest's name for 'veneer list' and 'veneer stats'. A named guest keeps its MAC "
		"addresses from run to run. Letters, digits, '-', '_' and '.', of which one is no "
		"digit; not beginning with '-' or '.'.",
	.group = BOOT,
	.props = ONLY("text", "NAME", "The name.", "the process ID", &vn_prop_string,
		STRING_FIELD(text), .min = 1, .max = VN_NAME_MAX, .accepts = is_name,
		.choices = "a name: 1 to " NAME_BYTES " letters, digits and -_. "
			   "with a letter or _ among them, and not beginning with - or ."),
	.size = sizeof(struct vn_string_options),
	.defaults = &no_string};

const struct vn_option vn_transport_option = {.name = "transport",
	.whole = true,
	.help = "How virtio devices are attached: on PCI or as virtio-mmio.",
	.props = ONLY("kind", "pci|mmio", "The transport.",
		"pci with --kernel, mmio for the built-in guest", &vn_prop_word,
		TRANSPORT_FIELD(transport), .words = TRANSPORTS),
	.size = sizeof(struct vn_transport_options),
	.defaults = &default_transport};
