// SPDX-License-Identifier: Apache-2.0
//
// A placement for a guest on this host, and its explanation: a table of what runs where, then one
// line for each rule that host/placement.c went by, with what came of it.
#include "vmm/plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/loops.h"
#include "host/placement.h"
#include "vmm/config.h"
#include "vmm/device_table.h"
#include "vmm/devices.h"

// Where the explanation goes: all of it, and what is no compromise is in `text` only.
struct writer {
	FILE *text, *summary;
	const struct vn_host *host;
};

// I/O threads of one device, in the order in which veneer_create() makes them.
struct device {
	char name[24];
	unsigned threads;
};

__attribute__((format(printf, 2, 3))) static void reason(
	const struct writer *to, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vfprintf(to->text, format, arguments);
	va_end(arguments);
	fputc('\n', to->text);
}

__attribute__((format(printf, 2, 3))) static void compromise(
	const struct writer *to, const char *format, ...)
{
	char line[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	fprintf(to->text, "compromise: %s\n", line);
	fprintf(to->summary, "; compromise: %s", line);
}

static unsigned core_of(const struct vn_host *host, unsigned cpu)
{
	return host->cpus[cpu].core;
}

static unsigned l3_of(const struct vn_host *host, unsigned cpu)
{
	return host->cpus[cpu].l3;
}

static unsigned node_of(const struct vn_host *host, unsigned cpu)
{
	return host->cpus[cpu].node;
}

// The groups that CPUs are in; with `count_from_0` numbered in order, as lscpu(1) does, since the
// kernel's own numbers for cores repeat.
static struct vn_cpuset groups(const struct writer *to, const struct vn_cpuset *cpus,
	unsigned (*group_of)(const struct vn_host *host, unsigned cpu), bool count_from_0)
{
	struct vn_cpuset found = {.bits = {0}};
	vn_cpuset_for_each(cpu, cpus)
	{
		unsigned group = group_of(to->host, cpu), number = 0;
		vn_cpuset_for_each(other, &to->host->online)
		{
			if (other >= group)
				break;
			number += group_of(to->host, other) == other;
		}
		vn_cpuset_add(&found, count_from_0 ? number : group);
	}
	return found;
}

static const char *list(char text[64], struct vn_cpuset set)
{
	// Whole ranges, as many as fit, and a sign that there are more.
	if (vn_cpuset_format(&set, text, 64 - 3) >= 64 - 3)
		strcat(text, "...");
	return text;
}

static unsigned count_isolated(const struct writer *to, struct vn_cpuset cpus)
{
	vn_cpuset_and(&cpus, &to->host->isolated);
	return vn_cpuset_count(&cpus);
}

static void print_row(const struct writer *to, const char *name, const struct vn_cpuset *cpus)
{
	char text[4][64];
	if (vn_cpuset_is_empty(cpus)) {
		fprintf(to->text, "%-12s any\n", name);
		return;
	}
	unsigned isolated = count_isolated(to, *cpus);
	fprintf(to->text, "%-12s %-9s %-9s %-5s %-5s %s\n", name, list(text[0], *cpus),
		list(text[1], groups(to, cpus, core_of, true)),
		list(text[2], groups(to, cpus, l3_of, true)),
		list(text[3], groups(to, cpus, node_of, false)),
		isolated == 0                       ? "no"
		: isolated == vn_cpuset_count(cpus) ? "yes"
						    : "some");
}

static void print_table(const struct writer *to, const struct vn_placement *placement,
	unsigned vcpus, const struct device *devices, size_t device_count)
{
	unsigned next = 0;
	char name[24];
	fprintf(to->text, "%-12s %-9s %-9s %-5s %-5s %s\n", "thread", "CPUs", "core", "L3", "node",
		"isolated");
	for (unsigned i = 0; i < vcpus; i++) {
		snprintf(name, sizeof(name), "vcpu%u", i);
		print_row(to, name, &placement->vcpus[i]);
	}
	for (size_t i = 0; i < device_count; i++) {
		struct vn_cpuset cpus = {.bits = {0}};
		for (unsigned thread = 0; thread < devices[i].threads; thread++) {
			struct vn_cpuset one = vn_loops_next_cpu(&placement->iothreads, &next);
			vn_cpuset_or(&cpus, &one);
		}
		print_row(to, devices[i].name, &cpus);
	}
	print_row(to, "others", &placement->vmm);
	if (placement->fifo > 0)
		reason(to, "vCPU threads run in SCHED_FIFO with priority %u", placement->fifo);
}

static int add_device(
	struct device **devices, size_t *count, const char *kind, unsigned number, unsigned threads)
{
	struct device *list = reallocarray(*devices, *count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*devices = list;
	struct device *device = &list[(*count)++];
	snprintf(device->name, sizeof(device->name), "%s%u", kind, number);
	device->threads = threads;
	return 0;
}

// The caller's to free, whatever happens.
static int list_devices(struct device **devices, size_t *count, const struct vn_spec *spec,
	struct veneer_error *error)
{
	int code = 0;
	for (const struct vn_device_type *const *type = vn_device_types; *type; type++)
		for (unsigned i = 0; code == 0 && i < vn_devices_of_type(spec, *type); i++) {
			const void *values = vn_spec_device(spec, *type, i);
			bool own = values && (*type)->count_loops;
			unsigned threads = own ? (*type)->count_loops(values) : 0;
			if (threads > 0)
				code = add_device(devices, count, (*type)->kind, i, threads);
		}
	return code < 0 ? vn_fail(error, code, "no memory for a plan") : 0;
}

static struct vn_cpuset all_vcpus(const struct vn_placement *placement)
{
	struct vn_cpuset cpus = {.bits = {0}};
	for (unsigned i = 0; i < VN_CPUS_MAX; i++)
		vn_cpuset_or(&cpus, &placement->vcpus[i]);
	return cpus;
}

// veneer_create() warns of CPUs that are not isolated, so the summary need not.
static void explain_isolation(const struct writer *to, const struct vn_cpuset *cpus)
{
	unsigned count = vn_cpuset_count(cpus), isolated = count_isolated(to, *cpus);
	if (isolated == count)
		reason(to, "isolated CPUs first: every vCPU has one");
	else if (isolated > 0)
		reason(to, "compromise: %u of %u vCPUs are on CPUs that are not isolated",
			count - isolated, count);
	else
		reason(to, "compromise: no CPU that can be had is isolated");
}

static void explain_kinds(const struct writer *to, const struct vn_cpuset *cpus)
{
	unsigned small = 0;
	vn_cpuset_for_each(cpu, cpus) small += to->host->cpus[cpu].efficient;
	if (small > 0)
		compromise(to, "%u of %u vCPUs are on small cores", small, vn_cpuset_count(cpus));
}

static void explain_node(const struct writer *to, const struct vn_placement_guest *guest,
	const struct vn_cpuset *cpus)
{
	char text[64];
	struct vn_cpuset nodes = groups(to, cpus, node_of, false);
	if (guest->nodes[0] >= 0)
		reason(to, "memory's node: vCPUs are on node %s, where their memory is",
			list(text, nodes));
	else if (vn_cpuset_count(&nodes) == 1)
		reason(to, "one node: vCPUs are on node %s", list(text, nodes));
	else
		compromise(to, "vCPUs are on nodes %s: none has room for all", list(text, nodes));
}

static void explain_l3(const struct writer *to, const struct vn_cpuset *cpus)
{
	struct vn_cpuset caches = groups(to, cpus, l3_of, false);
	struct vn_cpuset nodes = groups(to, cpus, node_of, false);
	unsigned count = vn_cpuset_count(&caches);
	if (count == 1)
		reason(to, "one L3: vCPUs share it");
	else if (count == vn_cpuset_count(&nodes))
		reason(to, "one L3: vCPUs of a node share it");
	else
		compromise(to, "vCPUs are on %u L3 caches: none has room for all", count);
}

static void explain_cores(const struct writer *to, const struct vn_placement_guest *guest,
	const struct vn_cpuset *cpus)
{
	struct vn_cpuset cores = groups(to, cpus, core_of, false);
	unsigned count = vn_cpuset_count(&cores);
	if (guest->threads == 1)
		reason(to, "SMT: every vCPU has a core to itself");
	else if (count <= (guest->vcpus + guest->threads - 1) / guest->threads)
		reason(to, "SMT: %u vCPUs on a core, as the guest is shown", guest->threads);
	else
		compromise(
			to, "threads of a core that the guest is shown are on cores of their own");
}

static void explain_others(const struct writer *to, const struct vn_placement_guest *guest,
	const struct vn_placement *placement, const struct vn_cpuset *cpus)
{
	struct vn_cpuset theirs = groups(to, cpus, node_of, false);
	struct vn_cpuset far = groups(to, &placement->iothreads, node_of, false);
	unsigned count = vn_cpuset_count(&placement->iothreads);
	vn_cpuset_subtract(&far, &theirs);
	if (guest->iothreads > count)
		compromise(to, "%u I/O threads take turns on %u CPU%s", guest->iothreads, count,
			count == 1 ? "" : "s");
	if (guest->iothreads > 0 && !vn_cpuset_is_empty(&far))
		compromise(to, "I/O threads are on another node than vCPUs");
	else if (guest->iothreads > 0)
		reason(to, "I/O threads are beside the vCPUs, on none of their cores");
	struct vn_cpuset shared = placement->iothreads;
	vn_cpuset_and(&shared, &placement->vmm);
	if (!vn_cpuset_is_empty(&shared))
		compromise(to, "other threads take turns with I/O threads");
}

static void summarize(const struct writer *to, const struct vn_placement *placement)
{
	char text[3][64];
	struct vn_cpuset cpus = all_vcpus(placement);
	const struct vn_cpuset *sets[] = {&cpus, &placement->iothreads, &placement->vmm};
	for (unsigned i = 0; i < 3; i++)
		if (vn_cpuset_is_empty(sets[i]))
			strcpy(text[i], "any");
		else
			list(text[i], *sets[i]);
	fprintf(to->summary, "host CPUs: %s for vCPUs, %s for I/O threads, %s for others", text[0],
		text[1], text[2]);
}

static void print_warning(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)severity;
	reason(opaque, "warning: %s", text);
}

// The whole explanation of a plan whose placement is made.
static void explain(struct writer *to, const struct vn_placement *placement,
	const struct vn_placement_guest *guest, const struct device *devices, size_t device_count,
	bool chosen)
{
	struct vn_cpuset cpus = all_vcpus(placement);
	const struct vn_log log = {print_warning, to};
	print_table(to, placement, guest->vcpus, devices, device_count);
	summarize(to, placement);
	if (chosen) {
		explain_isolation(to, &cpus);
		explain_kinds(to, &cpus);
		explain_node(to, guest, &cpus);
		explain_l3(to, &cpus);
		explain_cores(to, guest, &cpus);
		explain_others(to, guest, placement, &cpus);
	} else {
		vn_placement_warn(placement, guest, to->host, &log);
	}
}

static int write_plan(struct veneer_plan *plan, const struct vn_placement *placement,
	const struct vn_placement_guest *guest, const struct vn_host *host,
	const struct device *devices, size_t device_count, bool chosen, struct veneer_error *error)
{
	size_t size;
	struct writer to = {.host = host};
	to.text = open_memstream(&plan->text, &size);
	to.summary = open_memstream(&plan->summary, &size);
	bool good = to.text && to.summary;
	if (good)
		explain(&to, placement, guest, devices, device_count, chosen);
	if (to.text && fclose(to.text) != 0)
		good = false;
	if (to.summary && fclose(to.summary) != 0)
		good = false;
	return good ? 0 : vn_fail(error, -ENOMEM, "no memory for a plan");
}

void vn_plan_placement(struct vn_placement *placement, const struct vn_spec *spec)
{
	*placement = (struct vn_placement){.iothreads = spec->cpus->iothreads,
		.vmm = spec->cpus->vmm,
		.fifo = spec->cpus->fifo};
	memcpy(placement->vcpus, spec->cpus->pinned, sizeof(placement->vcpus));
}

struct vn_placement_guest vn_plan_guest(const struct vn_spec *spec)
{
	struct vn_placement_guest guest = {.vcpus = spec->cpus->count,
		.threads = spec->cpus->topology.threads ? spec->cpus->topology.threads : 1};
	for (unsigned i = 0; i < spec->cell_count; i++)
		vn_cpuset_for_each(cpu, &spec->cells[i].cpus)
		{
			guest.nodes[cpu] = spec->cells[i].node;
		}
	return guest;
}

int vn_plan_on(struct veneer_plan *plan, struct vn_placement *placement, const struct vn_spec *spec,
	const struct vn_host *host, struct veneer_error *error)
{
	struct vn_placement_guest guest = vn_plan_guest(spec);
	struct device *devices = NULL;
	size_t device_count = 0;
	bool choose = spec->cpus->pin_auto;
	vn_plan_placement(placement, spec);
	int code = list_devices(&devices, &device_count, spec, error);
	for (size_t i = 0; i < device_count; i++)
		guest.iothreads += devices[i].threads;
	if (code == 0)
		code = vn_placement_check(placement, guest.vcpus, host, error);
	if (code == 0 && choose)
		code = vn_placement_choose(placement, &guest, host, error);
	if (code < 0)
		vn_error_set_key(error, "cpus");
	if (code == 0 && plan)
		code = write_plan(
			plan, placement, &guest, host, devices, device_count, choose, error);
	free(devices);
	return code;
}

static int set_list(struct veneer_config *config, const char *name, const struct vn_cpuset *cpus,
	struct veneer_error *error)
{
	if (vn_cpuset_is_empty(cpus))
		return 0;
	size_t size = vn_cpuset_format(cpus, NULL, 0) + 1;
	char *text = malloc(size);
	if (!text)
		return vn_fail(error, -ENOMEM, "no memory for a plan");
	vn_cpuset_format(cpus, text, size);
	int code = veneer_config_set(config, name, text, error);
	free(text);
	return code;
}

// In the place of pin=auto, the pairs that it came to.
static int set_pin(struct veneer_config *config, const struct vn_placement *placement,
	unsigned vcpus, struct veneer_error *error)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	for (unsigned i = 0; stream && i < vcpus; i++) {
		char list[VN_HOST_CPUS_MAX * 3]; // every other CPU
		vn_cpuset_format(&placement->vcpus[i], list, sizeof(list));
		fprintf(stream, "%s%u:%s", i > 0 ? "," : "", i, list);
	}
	int code = stream && fclose(stream) == 0
			   ? veneer_config_set(config, "cpus.pin", text, error)
			   : vn_fail(error, -ENOMEM, "no memory for a plan");
	free(text);
	return code;
}

// All of it or, after a failure, nothing: by way of a copy.
static int keep_choice(struct veneer_config *config, const struct vn_placement *placement,
	unsigned vcpus, struct veneer_error *error)
{
	struct veneer_config *copy;
	int code = vn_config_copy(&copy, config, error);
	if (code < 0)
		return code;
	code = set_pin(copy, placement, vcpus, error);
	if (code == 0)
		code = set_list(copy, "cpus.iothreads", &placement->iothreads, error);
	if (code == 0)
		code = set_list(copy, "cpus.vmm", &placement->vmm, error);
	if (code == 0) {
		struct veneer_config before = *config;
		*config = *copy;
		*copy = before;
	}
	veneer_config_free(copy);
	return code;
}

int veneer_plan_make(
	struct veneer_plan **result, struct veneer_config *config, struct veneer_error *error)
{
	struct vn_spec spec;
	struct vn_placement placement;
	struct vn_host *host = NULL;
	struct veneer_plan *plan = calloc(1, sizeof(*plan));
	if (!plan)
		return vn_fail(error, -ENOMEM, "no memory for a plan");
	int code = vn_spec_make(&spec, config, error);
	if (code < 0) {
		free(plan);
		return code;
	}
	code = vn_host_create(&host, error);
	if (code == 0)
		code = vn_plan_on(plan, &placement, &spec, host, error);
	if (code == 0 && spec.cpus->pin_auto)
		code = keep_choice(config, &placement, spec.cpus->count, error);
	free(host);
	vn_spec_free(&spec);
	if (code < 0) {
		veneer_plan_free(plan);
		return code;
	}
	*result = plan;
	return 0;
}

void veneer_plan_free(struct veneer_plan *plan)
{
	if (!plan)
		return;
	free(plan->text);
	free(plan->summary);
	free(plan);
}
