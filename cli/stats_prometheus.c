// SPDX-License-Identifier: Apache-2.0
//
// Statistics as Prometheus reads them: a family at a time, each with its help and type, in base
// units. KVM's own become veneer_kvm_vm_NAME and veneer_kvm_vcpu_NAME; those of them that are
// histograms are left out, since KVM keeps no sum for them.
#include <inttypes.h>
#include <string.h>

#include "base/macros.h"

#include "cli/stats_format.h"

// Bounds of the latency buckets: powers of two from 2^10 ns, 1 us, to 2^34 ns, 17 s, at which
// buckets of the finer histogram end too.
#define BOUND_FIRST 10
#define BOUND_LAST  34

static void family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_exits(
	FILE *out, const struct stats_guest *guest, const struct veneer_stats *stats)
{
	static const char name[] = "veneer_vcpu_user_exits_total";

	family(out, name, "counter", "Exits of a vCPU to user space.");
	for (const struct veneer_vcpu_stats *const *vcpu = stats->vcpus; *vcpu; vcpu++)
		for (const struct veneer_exit_stat *const *exit = (*vcpu)->exits; *exit; exit++)
			fprintf(out, "%s{guest=\"%s\",vcpu=\"%u\",reason=\"%s\"} %" PRIu64 "\n",
				name, guest->name, (*vcpu)->index, (*exit)->reason, (*exit)->count);
}

// What is counted of a queue.
static const struct {
	const char *name;
	size_t offset; // in struct veneer_queue_stats, of a uint64_t
	const char *help;
} QUEUE_FAMILIES[] = {
	{"veneer_queue_requests_total", offsetof(struct veneer_queue_stats, requests),
		"Requests completed, or packets of a network device."},
	{"veneer_queue_errors_total", offsetof(struct veneer_queue_stats, errors),
		"Requests that failed, or packets dropped."},
	{"veneer_queue_read_bytes_total", offsetof(struct veneer_queue_stats, read_bytes),
		"Bytes that the guest received."},
	{"veneer_queue_written_bytes_total", offsetof(struct veneer_queue_stats, written_bytes),
		"Bytes that the guest sent."},
	{"veneer_queue_batches_total", offsetof(struct veneer_queue_stats, batches),
		"Times that requests were taken from the queue."},
	{"veneer_queue_notifications_total", offsetof(struct veneer_queue_stats, notifications),
		"Notifications from the driver."},
	{"veneer_queue_wakeups_total", offsetof(struct veneer_queue_stats, wakeups),
		"Times that the queue's loop found notifications."},
	{"veneer_queue_interrupts_total", offsetof(struct veneer_queue_stats, interrupts),
		"Interrupts sent to the driver."},
};

// The labels of a queue's samples, in braces that are left open.
static void print_queue_labels(FILE *out, const struct stats_guest *guest,
	const struct veneer_device_stats *device, const struct veneer_queue_stats *queue)
{
	fprintf(out, "{guest=\"%s\",device=\"%s\",queue=\"%u\"", guest->name, device->name,
		queue->index);
}

static void print_queue_family(FILE *out, const struct stats_guest *guest,
	const struct veneer_stats *stats, const char *name, size_t offset)
{
	for (const struct veneer_device_stats *const *device = stats->devices; *device; device++)
		for (const struct veneer_queue_stats *const *queue = (*device)->queues; *queue;
			queue++) {
			uint64_t value;
			memcpy(&value, (const char *)*queue + offset, sizeof(value));
			fputs(name, out);
			print_queue_labels(out, guest, *device, *queue);
			fprintf(out, "} %" PRIu64 "\n", value);
		}
}

static void print_latency(FILE *out, const struct stats_guest *guest,
	const struct veneer_device_stats *device, const struct veneer_queue_stats *queue)
{
	static const char name[] = "veneer_queue_latency_seconds";
	const struct veneer_latency *latency = queue->latency;
	uint64_t below = 0;
	size_t at = 0;

	for (unsigned bound = BOUND_FIRST; bound <= BOUND_LAST; bound++) {
		uint64_t ns = BIT64(bound);
		for (; at < latency->bucket_count && latency->buckets[at].below_ns <= ns; at++)
			below += latency->buckets[at].count;
		fprintf(out, "%s_bucket", name);
		print_queue_labels(out, guest, device, queue);
		fprintf(out, ",le=\"%.9f\"} %" PRIu64 "\n", (double)ns / 1e9, below);
	}
	fprintf(out, "%s_bucket", name);
	print_queue_labels(out, guest, device, queue);
	fprintf(out, ",le=\"+Inf\"} %" PRIu64 "\n%s_sum", latency->count, name);
	print_queue_labels(out, guest, device, queue);
	fprintf(out, "} %.9f\n%s_count", (double)latency->sum_ns / 1e9, name);
	print_queue_labels(out, guest, device, queue);
	fprintf(out, "} %" PRIu64 "\n", latency->count);
}

static void print_queues(
	FILE *out, const struct stats_guest *guest, const struct veneer_stats *stats)
{
	for (size_t i = 0; i < ARRAY_SIZE(QUEUE_FAMILIES); i++) {
		family(out, QUEUE_FAMILIES[i].name, "counter", QUEUE_FAMILIES[i].help);
		print_queue_family(
			out, guest, stats, QUEUE_FAMILIES[i].name, QUEUE_FAMILIES[i].offset);
	}
	family(out, "veneer_queue_latency_seconds", "histogram",
		"Time from a request's being taken from the queue to its completion.");
	for (const struct veneer_device_stats *const *device = stats->devices; *device; device++)
		for (const struct veneer_queue_stats *const *queue = (*device)->queues; *queue;
			queue++)
			if ((*queue)->latency)
				print_latency(out, guest, *device, *queue);
}

// A name in base units: KVM's "halt_wait_ns" is "halt_wait_seconds" here, and a counter ends with
// "_total". What no metric's name may have becomes an underscore.
static void make_name(
	char *name, size_t size, const char *prefix, const struct veneer_kvm_stat *stat)
{
	size_t length = strlen(stat->name);
	const char *unit = stat->unit == VENEER_KVM_UNIT_SECONDS  ? "_seconds"
			   : stat->unit == VENEER_KVM_UNIT_BYTES  ? "_bytes"
			   : stat->unit == VENEER_KVM_UNIT_CYCLES ? "_cycles"
								  : "";

	if (stat->unit == VENEER_KVM_UNIT_SECONDS && length > 3 &&
		strcmp(stat->name + length - 3, "_ns") == 0)
		length -= 3;
	snprintf(name, size, "%s%.*s%s%s", prefix, (int)length, stat->name, unit,
		stat->kind == VENEER_KVM_KIND_CUMULATIVE ? "_total" : "");
	for (char *at = name; *at; at++) {
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", *at))
			*at = '_';
	}
}

static void print_kvm_value(FILE *out, const struct veneer_kvm_stat *stat)
{
	double scale = 1;

	for (int i = stat->exponent; i > 0; i--)
		scale *= stat->base;
	for (int i = stat->exponent; i < 0; i++)
		scale *= stat->base;
	if (stat->exponent == 0)
		fprintf(out, " %" PRIu64 "\n", stat->values[0]);
	else if (stat->exponent > 0)
		fprintf(out, " %.0f\n", (double)stat->values[0] * scale);
	else
		fprintf(out, " %.9f\n", (double)stat->values[0] / scale);
}

// False for a histogram.
static bool print_kvm_family(
	FILE *out, char *name, size_t size, const char *prefix, const struct veneer_kvm_stat *stat)
{
	if (stat->kind == VENEER_KVM_KIND_LINEAR_HISTOGRAM ||
		stat->kind == VENEER_KVM_KIND_LOG_HISTOGRAM)
		return false;
	make_name(name, size, prefix, stat);
	family(out, name, stat->kind == VENEER_KVM_KIND_CUMULATIVE ? "counter" : "gauge",
		"KVM's statistic of that name.");
	return true;
}

// All vCPUs have the same statistics in the same order.
static void print_kvm(FILE *out, const struct stats_guest *guest, const struct veneer_stats *stats)
{
	const struct veneer_vcpu_stats *const *vcpus = stats->vcpus;
	char name[256];

	for (const struct veneer_kvm_stat *const *stat = stats->kvm; *stat; stat++) {
		if (!print_kvm_family(out, name, sizeof(name), "veneer_kvm_vm_", *stat))
			continue;
		fprintf(out, "%s{guest=\"%s\"}", name, guest->name);
		print_kvm_value(out, *stat);
	}
	for (size_t i = 0; vcpus[0]->kvm[i]; i++) {
		if (!print_kvm_family(
			    out, name, sizeof(name), "veneer_kvm_vcpu_", vcpus[0]->kvm[i]))
			continue;
		for (size_t j = 0; vcpus[j]; j++) {
			fprintf(out, "%s{guest=\"%s\",vcpu=\"%u\"}", name, guest->name,
				vcpus[j]->index);
			print_kvm_value(out, vcpus[j]->kvm[i]);
		}
	}
}

void stats_format_prometheus(
	FILE *out, const struct stats_guest *guest, const struct veneer_stats *stats)
{
	static const char running[] = "veneer_guest_running_seconds";

	family(out, running, "gauge", "Time that the guest has run.");
	fprintf(out, "%s{guest=\"%s\",pid=\"%d\"} %.9f\n", running, guest->name, guest->pid,
		(double)stats->running_ns / 1e9);
	print_exits(out, guest, stats);
	print_queues(out, guest, stats);
	print_kvm(out, guest, stats);
}
