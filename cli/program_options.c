// SPDX-License-Identifier: Apache-2.0
#include "cli/program_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpuset_prop.h"
#include "base/option_limits.h"
#include "base/words.h"
#include "cli/control.h"

#define SECONDS_LIMIT 1000000000 // 31 years

// A path follows the last one.
static const char *const SERIAL_MODES[] = {[SERIAL_STDIO] = "stdio",
	[SERIAL_NONE] = "none",
	[SERIAL_PTY] = "pty",
	[SERIAL_FILE] = "file:"};

static const char *const FORMATS[] = {[STATS_TEXT] = "text", [STATS_JSON] = "json", NULL};

static int parse_serial(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	struct serial_options *serial = field;
	size_t length = strlen(SERIAL_MODES[SERIAL_FILE]);
	unsigned mode = 0;
	char *path = NULL;

	(void)prop;
	(void)why;
	while (mode < SERIAL_FILE && strcmp(value, SERIAL_MODES[mode]) != 0)
		mode++;
	if (mode == SERIAL_FILE) {
		if (strncmp(value, SERIAL_MODES[mode], length) != 0 || !value[length])
			return -EINVAL;
		path = strdup(value + length);
		if (!path)
			return -ENOMEM;
	}
	free(serial->path);
	*serial = (struct serial_options){.mode = mode, .path = path};
	return 0;
}

static void release_serial(void *field)
{
	struct serial_options *serial = field;

	free(serial->path);
	serial->path = NULL;
}

static const struct vn_prop_type prop_serial = {.parse = parse_serial, .release = release_serial};

// Seconds with up to nine decimals; without a value, one.
static int parse_seconds(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	const char *end;
	uint64_t seconds;
	uint64_t ns = 0;
	bool good = vn_parse_digits(value ? value : "1", SECONDS_LIMIT, &end, &seconds) == 0;

	(void)prop;
	(void)why;
	if (good && *end == '.') {
		const char *fraction = end + 1;
		good = vn_parse_digits(fraction, NS_PER_S - 1, &end, &ns) == 0 &&
		       end - fraction <= 9;
		for (long i = end - fraction; good && i < 9; i++)
			ns *= 10;
	}
	ns += seconds * NS_PER_S;
	if (!good || *end || seconds == SECONDS_LIMIT || ns == 0)
		return -EINVAL;
	*(uint64_t *)field = ns;
	return 0;
}

static const struct vn_prop_type prop_seconds = {.parse = parse_seconds};

// A format; without a value, the first one.
static int parse_print(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	unsigned format = 0;

	(void)why;
	while (value && prop->words[format] && strcmp(value, prop->words[format]) != 0)
		format++;
	if (!prop->words[format])
		return -EINVAL;
	*(struct print_options *)field = (struct print_options){.wanted = true, .format = format};
	return 0;
}

static const struct vn_prop_type prop_print = {.parse = parse_print};

#define SECONDS_ARE_NOT                                                                            \
	"a number of seconds, such as 10 or 0.5, above 0 and below " VN_STRING(SECONDS_LIMIT)

#define RUN(field) VN_PROP_FIELD(struct run_options, field)

static const struct vn_prop run_props[] = {
	{"serial", "stdio|none|pty|file:PATH",
		"Where the serial port goes. "
		"stdio: standard input and output; "
		"on a terminal, Ctrl-A x quits and Ctrl-A h helps. "
		"none: nowhere. pty: a new pseudo-terminal, whose name is printed. "
		"file:PATH: appended to this file.",
		"stdio", &prop_serial, RUN(serial), .choices = "stdio, none, pty or file:PATH",
		.group = "Console"},
	{CONFIG_FILE, "FILE",
		"Take options from a JSON file (-: standard input), as if they stood here. "
		"Later options replace those of the file; repeatable ones are added. "
		"See 'Options from a file' in veneer(1).",
		"none", &vn_prop_string, RUN(config_file), .min = 1, .choices = "a file"},
	{"timeout", "SECONDS", "End the guest after this time, such as 10 or 0.5.", "no limit",
		&prop_seconds, RUN(timeout_ns), .choices = SECONDS_ARE_NOT},
	{"reboot", NULL, "Start the guest again when it resets.",
		"a reset ends the run with status 0", &vn_prop_flag, RUN(reboot)},
	{"stats", "text|json",
		"At the end, print exits, requests and latencies to standard error, "
		"as text (also if no format is given) or JSON.",
		"off", &prop_print, RUN(stats), .words = FORMATS, .flags = VN_PROP_OPTIONAL},
	{"dry-run", NULL,
		"Print which thread would run on which host CPU, and why. Do not run the guest.",
		NULL, &vn_prop_flag, RUN(dry_run)},
	{"dump-dtb", "FILE",
		"Write the guest's device tree to FILE (-: standard output). Do not run the guest.",
		"none", &vn_prop_string, RUN(dump_dtb), .min = 1, .choices = "a file"},
	{.name = NULL},
};

static const struct run_options run_defaults = {.serial.mode = SERIAL_STDIO};

const struct vn_option run_option = {.group = "Run",
	.props = run_props,
	.size = sizeof(struct run_options),
	.defaults = &run_defaults};

#define DOCTOR(field) VN_PROP_FIELD(struct doctor_options, field)

static const struct vn_prop doctor_props[] = {
	{"json", NULL, "Print JSON, for programs.", NULL, &vn_prop_flag, DOCTOR(json)},
	{"cpus", "LIST", "The host CPUs meant for vCPUs, such as 2-7,10.", "the isolated ones",
		&vn_prop_host_cpus, DOCTOR(cpus), .letter = 'c'},
	{.name = NULL},
};

static const struct doctor_options doctor_defaults;

const struct vn_option doctor_option = {
	.props = doctor_props, .size = sizeof(struct doctor_options), .defaults = &doctor_defaults};

#define STATS(field) VN_PROP_FIELD(struct stats_query, field)

static const struct vn_prop stats_props[] = {
	{"json", NULL, "Print JSON, with every statistic that KVM has.", NULL, &vn_prop_choice,
		STATS(format), .min = STATS_JSON},
	{"prometheus", NULL, "Print Prometheus' text format.", NULL, &vn_prop_choice, STATS(format),
		.min = STATS_PROMETHEUS},
	{"watch", "SECONDS",
		"Print again every second, or every SECONDS, until the guest ends. "
		"Tables show the change per second.",
		"print once", &prop_seconds, STATS(interval_ns), .choices = SECONDS_ARE_NOT,
		.flags = VN_PROP_OPTIONAL},
	{"output", "FILE",
		"Write to FILE, which is replaced atomically each time: "
		"for node_exporter's textfile collector.",
		"standard output", &vn_prop_string, STATS(output), .min = 1, .choices = "a path"},
	{.name = NULL},
};

static const struct stats_query stats_defaults;

const struct vn_option stats_option = {
	.props = stats_props, .size = sizeof(struct stats_query), .defaults = &stats_defaults};

static const struct vn_prop stop_props[] = {
	{"time", "SECONDS",
		"Cut the guest's power this long after the first press of its power button. 0: cut "
		"it at once.",
		VN_STRING(CONTROL_GRACE_S), &vn_prop_number,
		VN_PROP_FIELD(struct stop_options, time_s), .max = CONTROL_GRACE_MAX_S,
		.letter = 't'},
	{.name = NULL},
};

static const struct stop_options stop_defaults = {.time_s = CONTROL_GRACE_S};

const struct vn_option stop_option = {
	.props = stop_props, .size = sizeof(struct stop_options), .defaults = &stop_defaults};

static const struct vn_prop no_props[] = {{.name = NULL}};

const struct vn_option no_option = {.props = no_props};
