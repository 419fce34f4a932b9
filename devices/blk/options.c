// SPDX-License-Identifier: Apache-2.0
#include "devices/blk/options.h"

#include <errno.h>
#include <string.h>

#include <linux/virtio_blk.h>

#include "base/limits.h"
#include "base/option_limits.h"
#include "base/spin.h"

#define FIELD(field) VN_PROP_FIELD(struct vn_blk_options, field)

static const char *const CACHE_MODES[] = {[VN_BLK_CACHE_WRITEBACK] = "writeback",
	[VN_BLK_CACHE_NONE] = "none",
	[VN_BLK_CACHE_WRITETHROUGH] = "writethrough",
	[VN_BLK_CACHE_DIRECTSYNC] = "directsync",
	[VN_BLK_CACHE_UNSAFE] = "unsafe",
	NULL};
static const char *const ZEROES_MODES[] = {"off", "on", "unmap", NULL};
static const char *const BLOCK_SIZES[] = {"512", "1024", "2048", "4096", NULL};
static const char *const FORMATS[] = {"raw", NULL};

// There is one format, and the word is for what looks like another one.
static int parse_format(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)why;
	if (strcmp(value, prop->words[0]) != 0)
		return -EINVAL;
	*(bool *)field = true;
	return 0;
}

static char *format_format(const struct vn_prop *prop, const void *field)
{
	(void)field;
	return strdup(prop->words[0]);
}

static const struct vn_prop_type prop_format = {.parse = parse_format, .format = format_format};

static const struct vn_prop props[] = {
	{"path", "PATH", "A raw file or a block device of the host.", NULL, &vn_prop_file,
		FIELD(path), .min = 1, .flags = VN_PROP_FIRST | VN_PROP_REQUIRED,
		.choices = "a path"},
	{"readonly", NULL, "The guest cannot write to the disk.", "off", &vn_prop_flag,
		FIELD(readonly)},
	{"cache", "MODE",
		"writeback: the host's page cache. none: O_DIRECT, without it. writethrough: as "
		"writeback, and each write is on the disk when it completes. directsync: as none, "
		"and each write is on the disk when it completes. unsafe: as writeback, and the "
		"guest's flush does nothing.",
		"writeback", &vn_prop_word, FIELD(cache), .words = CACHE_MODES},
	{"queues", "N", "Number of queues, each with an I/O thread.",
		"one per vCPU, at most " VN_STRING(VN_BLK_QUEUES_DEFAULT), &vn_prop_number,
		FIELD(queues), .min = 1, .max = VN_QUEUES_MAX},
	{"serial", "S", "The disk's serial number.", "none", &vn_prop_string, FIELD(serial),
		.min = 1, .max = VIRTIO_BLK_ID_BYTES},
	{"poll-us", "N",
		"Look for requests for at most N microseconds (0: never) before the I/O thread "
		"sleeps. The time adapts to the guest's use.",
		VN_STRING(VN_SPIN_US_DEFAULT), &vn_prop_number, FIELD(poll_us),
		.max = VN_SPIN_US_MAX},
	{"detect-zeroes", "off|on|unmap",
		"on: a write of nothing but zeroes zeroes the blocks without writing data. unmap: "
		"it also gives their space back to the host.",
		"off", &vn_prop_word, FIELD(detect_zeroes), .words = ZEROES_MODES},
	{"iops", "N[:BURST]",
		"Limit to N requests a second, all queues together. BURST: how many may come at "
		"once after a pause; if not given, a tenth of a second's worth.",
		"no limit", &vn_prop_rate, FIELD(iops), .min = 1},
	{"bps", "SIZE[:BURST]",
		"Limit to SIZE bytes read and written a second, all queues together. BURST: as for "
		"iops.",
		"no limit", &vn_prop_byte_rate, FIELD(bps), .min = VN_BYTE_RATE_MIN},
	{"sqpoll", "on|off",
		"io_uring's SQPOLL: a kernel thread submits each queue's requests. It needs a CPU "
		"of its own.",
		"off", &vn_prop_switch, FIELD(sqpoll)},
	{"iopoll", "on|off",
		"io_uring's IOPOLL: the I/O thread polls the device for completions. Needs "
		"cache=none or directsync, a device with polled queues, and a CPU of its own.",
		"off", &vn_prop_switch, FIELD(iopoll)},
	{"block-size", "N", "Size in bytes of the logical block that the guest sees.",
		"512 for a file, its own for a block device", &vn_prop_size, FIELD(block_size),
		.words = BLOCK_SIZES},
	{"format", "raw",
		"Use the file as raw even if it looks like another format (qcow2, VMDK, VDI, "
		"VHD...). 'qemu-img convert -O raw' makes a raw file of one.",
		"such a file is refused", &prop_format, FIELD(raw), .words = FORMATS,
		.choices =
			"raw, the only format; qemu-img convert -O raw makes a raw disk of an image"},
	{.name = NULL},
};

static int check(void *values, struct veneer_error *error)
{
	const struct vn_blk_options *options = values;
	bool direct =
		options->cache == VN_BLK_CACHE_NONE || options->cache == VN_BLK_CACHE_DIRECTSYNC;
	if (!options->iopoll || direct)
		return 0;
	vn_fail(error, -EINVAL, "disk: iopoll=on is for cache=none and cache=directsync");
	vn_error_set_key(error, "disk.iopoll");
	return -EINVAL;
}

static const struct vn_blk_options defaults = {.path = VN_NO_FILE, .poll_us = VN_SPIN_US_DEFAULT};

const struct vn_option vn_blk_option = {.name = "disk",
	.letter = 'd',
	.many = true,
	.help = "A virtio disk.",
	.advice = "; a comma within a path is written ,,",
	.props = props,
	.size = sizeof(struct vn_blk_options),
	.defaults = &defaults,
	.check = check};
