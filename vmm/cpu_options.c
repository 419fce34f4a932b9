// SPDX-License-Identifier: Apache-2.0
#include "vmm/cpu_options.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/models.h"
#include "base/cpuset_prop.h"
#include "base/macros.h"
#include "base/option_limits.h"
#include "base/words.h"

#define TSC_KHZ_MAX 2147483647 // an int of KVM_SET_TSC_KHZ

#define CPUS_FIELD(field) VN_PROP_FIELD(struct vn_cpus_options, field)
#define CPU_FIELD(field)  VN_PROP_FIELD(struct vn_cpu_options, field)

// SxDxCxT.
static int parse_topology(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	struct vn_topology_options topology = {.sockets = 0};
	unsigned *counts[] = {
		&topology.sockets, &topology.dies, &topology.cores, &topology.threads};
	const char *at = value;
	(void)prop;
	(void)why;
	for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
		uint64_t count;
		const char *end;
		if (vn_parse_digits(at, UINT16_MAX, &end, &count) < 0 || count == 0 ||
			*end != (i < ARRAY_SIZE(counts) - 1 ? 'x' : '\0'))
			return -EINVAL;
		*counts[i] = (unsigned)count;
		at = end + 1;
	}
	*(struct vn_topology_options *)field = topology;
	return 0;
}

static char *format_topology(const struct vn_prop *prop, const void *field)
{
	const struct vn_topology_options *topology = field;
	char *text;
	(void)prop;
	int length = asprintf(&text, "%ux%ux%ux%u", topology->sockets, topology->dies,
		topology->cores, topology->threads);
	return length < 0 ? NULL : text;
}

static const struct vn_prop_type prop_topology = {
	.parse = parse_topology, .format = format_topology};

// fifo:PRIORITY.
static int parse_sched(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	static const char fifo[] = "fifo:";
	uint64_t priority;
	(void)why;
	if (strncmp(value, fifo, strlen(fifo)) != 0 ||
		vn_parse_number(value + strlen(fifo), prop->max, &priority) < 0 ||
		priority < prop->min)
		return -EINVAL;
	*(unsigned *)field = (unsigned)priority;
	return 0;
}

static void expect_sched(const struct vn_prop *prop, struct vn_text *text)
{
	vn_text_add(text, "fifo:PRIORITY, from fifo:%" PRIu64 " to fifo:%" PRIu64, prop->min,
		prop->max);
}

static char *format_sched(const struct vn_prop *prop, const void *field)
{
	char *text;
	(void)prop;
	return asprintf(&text, "fifo:%u", *(const unsigned *)field) < 0 ? NULL : text;
}

static const struct vn_prop_type prop_sched = {
	.parse = parse_sched, .expect = expect_sched, .format = format_sched};

static const struct vn_prop cpus_props[] = {
	{"count", "N", "Number of vCPUs.", "1", &vn_prop_number, CPUS_FIELD(count), .min = 1,
		.max = VN_CPUS_MAX, .flags = VN_PROP_FIRST},
	{"topology", "SxDxCxT",
		"Sockets, dies per socket, cores per die, threads per core, such as 1x1x4x2. The "
		"product is the number of vCPUs.",
		"one socket with a core for each vCPU; with --numa, as many sockets as keep each "
		"one in a single cell",
		&prop_topology, CPUS_FIELD(topology),
		.choices = "SOCKETSxDIESxCORESxTHREADS, such as 1x1x4x2"},
	{"pin", "LIST|auto",
		"Host CPUs for vCPUs: one for each vCPU, such as 0-3,8, or pairs VCPUS:CPUS, such "
		"as 0:2-3,1:4. auto: Veneer chooses CPUs for vCPUs, and for the threads of "
		"iothreads= and vmm= where these are not given; see --dry-run.",
		"not pinned", &vn_prop_string, CPUS_FIELD(pin), .min = 1,
		.choices = VN_HOST_CPUS_LIST},
	{"iothreads", "LIST", "Host CPUs for I/O threads, one CPU for each thread, in turn.",
		"any CPU, or what pin=auto chooses", &vn_prop_host_cpus, CPUS_FIELD(iothreads)},
	{"vmm", "LIST", "Host CPUs for all other threads.", "any CPU, or what pin=auto chooses",
		&vn_prop_host_cpus, CPUS_FIELD(vmm)},
	{"sched", "fifo:PRIORITY", "Run vCPU threads under SCHED_FIFO with this PRIORITY.",
		"the policy that Veneer was started with", &prop_sched, CPUS_FIELD(fifo), .min = 1,
		.max = VN_FIFO_MAX},
	{"idle", "halt|poll|mwait",
		"What an idle vCPU does. halt: it gives its host CPU to other threads. poll: HLT "
		"does not exit, and the vCPU keeps its host CPU. mwait: as poll, and the guest "
		"chooses C-states.",
		"halt", &vn_prop_word, CPUS_FIELD(idle), .words = vn_idle_names},
	{"halt-poll-ns", "N",
		"With idle=halt: how many nanoseconds KVM polls before it gives a halted vCPU's "
		"host CPU to other threads.",
		"the host's setting", &vn_prop_number, CPUS_FIELD(halt_poll_ns), .max = UINT32_MAX},
	{"pit", "on|off", "An i8254 timer, for kernels that need one.", "off", &vn_prop_switch,
		CPUS_FIELD(pit)},
	{.name = NULL},
};

// A list of host CPUs in pin=; `what` says where.
static int check_host_list(
	struct vn_cpuset *list, const char *what, const char *text, struct veneer_error *error)
{
	char reason[512];
	struct vn_text why = VN_TEXT(reason);
	if (vn_host_cpus_parse(list, text, &why) == 0)
		return 0;
	return vn_fail(error, -EINVAL, "cpus: %s'%s'%s", what, text, reason);
}

// VCPUS:CPUS: allow each of these vCPUs to run on each of these CPUs, in addition to earlier pairs.
static int pin_pair(struct vn_cpus_options *cpus, char *pair, struct veneer_error *error)
{
	char *colon = strchr(pair, ':');
	struct vn_cpuset vcpus, list;
	if (!colon)
		return vn_fail(error, -EINVAL,
			"cpus: '%s' in pin= is no pair VCPUS:CPUS, such as 0:2-3", pair);
	*colon = '\0';
	int code = check_host_list(&list, "pin=...:", colon + 1, error);
	if (code < 0)
		return code;
	code = *pair ? vn_cpuset_parse(&vcpus, pair, NULL) : -EINVAL;
	if (code == -ERANGE)
		return vn_fail(error, -EINVAL, "cpus: pin= names vCPUs '%s', and there are 0 to %u",
			pair, cpus->count - 1);
	if (code < 0)
		return vn_fail(
			error, -EINVAL, "cpus: '%s' before the colon in pin= names no vCPU", pair);
	vn_cpuset_for_each(vcpu, &vcpus)
	{
		if (vcpu >= cpus->count)
			return vn_fail(error, -EINVAL,
				"cpus: pin= names vCPU %u, and there are 0 to %u", vcpu,
				cpus->count - 1);
		vn_cpuset_or(&cpus->pinned[vcpu], &list);
	}
	return 0;
}

// A CPU or range: one CPU for each vCPU from *vcpu on; advances *vcpu.
static int pin_each(
	struct vn_cpus_options *cpus, const char *range, unsigned *vcpu, struct veneer_error *error)
{
	struct vn_cpuset list;
	int code = check_host_list(&list, "pin=", range, error);
	if (code < 0)
		return code;
	vn_cpuset_for_each(cpu, &list)
	{
		if (*vcpu < cpus->count)
			vn_cpuset_add(&cpus->pinned[*vcpu], cpu);
		++*vcpu;
	}
	return 0;
}

static int check_pin(struct vn_cpus_options *cpus, struct veneer_error *error)
{
	memset(cpus->pinned, 0, sizeof(cpus->pinned));
	cpus->pin_auto = cpus->pin && strcmp(cpus->pin, "auto") == 0;
	if (!cpus->pin || cpus->pin_auto)
		return 0;
	bool pairs = strchr(cpus->pin, ':') != NULL;
	unsigned vcpu = 0;
	int code = 0;
	char *list = strdup(cpus->pin), *rest = list;
	if (!list)
		return vn_fail(error, -ENOMEM, "cpus: out of memory");
	for (char *item; code == 0 && (item = strsep(&rest, ","));)
		code = pairs ? pin_pair(cpus, item, error) : pin_each(cpus, item, &vcpu, error);
	free(list);
	if (code == 0 && !pairs && vcpu != cpus->count)
		return vn_fail(error, -EINVAL,
			"cpus: pin= lists %u of the host's CPUs, and %u are needed, "
			"one for each vCPU (or pairs VCPUS:CPUS, such as 0:2-3)",
			vcpu, cpus->count);
	return code;
}

static int check_cpus(void *values, struct veneer_error *error)
{
	struct vn_cpus_options *cpus = values;
	const char *key = "cpus.topology";
	int code = vn_topology_check(&cpus->topology, cpus->count, error);
	if (code == 0) {
		key = "cpus.pin";
		code = check_pin(cpus, error);
	}
	if (code == 0 && cpus->idle != VN_IDLE_HALT && cpus->halt_poll_ns >= 0) {
		key = "cpus.halt-poll-ns";
		code = vn_fail(error, -EINVAL,
			"cpus: halt-poll-ns is for idle=halt; "
			"with the others no halt reaches the host");
	}
	if (code < 0)
		vn_error_set_key(error, "%s", key);
	return code;
}

static const struct vn_cpus_options cpus_defaults = {.count = 1, .halt_poll_ns = -1};

const struct vn_option vn_cpus_option = {.name = "cpus",
	.letter = 'c',
	.lists = true,
	.help = "The number of vCPUs, and the host CPUs that they and Veneer's other threads run on.",
	.group = "Processors and memory",
	.props = cpus_props,
	.size = sizeof(struct vn_cpus_options),
	.defaults = &cpus_defaults,
	.check = check_cpus};

static bool is_model(const char *value)
{
	return *value != '+' && *value != '-';
}

// Features, each "+NAME" or "-NAME": one string, with commas between them.
static int add_feature(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	char **features = field, *longer;
	(void)prop;
	(void)why;
	if ((value[0] != '+' && value[0] != '-') || !value[1] || strchr(value, ','))
		return -EINVAL;
	if (asprintf(&longer, "%s%s%s", *features ? *features : "", *features ? "," : "", value) <
		0)
		return -ENOMEM;
	free(*features);
	*features = longer;
	return 0;
}

static size_t count_features(const void *field)
{
	const char *at = *(char *const *)field;
	size_t count = at ? 1 : 0;
	for (; at && *at; at++)
		count += *at == ',';
	return count;
}

static char *format_feature(const void *field, size_t index)
{
	const char *at = *(char *const *)field;
	for (; index > 0; index--)
		at = strchr(at, ',') + 1;
	return strndup(at, strcspn(at, ","));
}

static int copy_features(void *to, const void *from)
{
	return vn_prop_string.copy(to, from);
}

static void release_features(void *field)
{
	vn_prop_string.release(field);
}

static const struct vn_prop_type prop_features = {.parse = add_feature,
	.count = count_features,
	.format_item = format_feature,
	.copy = copy_features,
	.release = release_features};

static const struct vn_prop cpu_props[] = {
	{"model", "MODEL",
		"host: all that KVM offers here. baseline, x86-64-v2, -v3, -v4: the psABI's levels. "
		"Or a generation, such as Haswell or EPYC-Milan. ?: list models and features, and "
		"whether this host can run them.",
		"host", &vn_prop_string, CPU_FIELD(model), .min = 1, .flags = VN_PROP_FIRST,
		.accepts = is_model, .choices = "a model, such as host or x86-64-v3; ? lists them"},
	{"features", "+FEATURE|-FEATURE",
		"Add (+) a CPUID feature and all that it needs, or remove (-) it and all that needs "
		"it. The last one counts.",
		"what the model has", &prop_features, CPU_FIELD(features), .flags = VN_PROP_SIGNED,
		.choices = "a feature with + or - before it"},
	{"tsc-khz", "N", "Frequency of the time-stamp counter in kHz.", "the host's",
		&vn_prop_number, CPU_FIELD(tsc_khz), .min = 1, .max = TSC_KHZ_MAX,
		.choices = "a number of kHz from 1 to " VN_STRING(TSC_KHZ_MAX)},
	{.name = NULL},
};

// The names are known here, whatever the host can show.
static int check_cpu(void *values, struct veneer_error *error)
{
	const struct vn_cpu_options *cpu = values;
	const char *key = "cpu.model";
	int code = vn_model_check(cpu->model, NULL, error);
	if (code == 0) {
		key = "cpu.features";
		code = vn_model_check(cpu->model, cpu->features, error);
	}
	if (code < 0) {
		vn_error_insert(error, 0, "cpu: ");
		vn_error_set_key(error, "%s", key);
	}
	return code;
}

static const struct vn_cpu_options cpu_defaults = {.tsc_khz = 0};

const struct vn_option vn_cpu_option = {.name = "cpu",
	.help = "The CPU model that the guest sees.",
	.group = "Processors and memory",
	.advice = "; a feature has + or - before it",
	.props = cpu_props,
	.size = sizeof(struct vn_cpu_options),
	.defaults = &cpu_defaults,
	.check = check_cpu};
