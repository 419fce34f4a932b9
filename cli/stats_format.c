// SPDX-License-Identifier: Apache-2.0
//
// Tables for a terminal, and the choice among formats.
#include "cli/stats_format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

// What is printed, and since when.
struct view {
	FILE *out;
	const struct veneer_stats *now;
	const struct veneer_stats *before; // or NULL: totals
	double seconds; // since then
};

const struct veneer_kvm_stat *stats_find_kvm(
	const struct veneer_kvm_stat *const *kvm, const char *name)
{
	for (; *kvm; kvm++) {
		if (strcmp((*kvm)->name, name) == 0)
			return *kvm;
	}
	return NULL;
}

// A column: how much there was, or how much a second.
static void print_count(const struct view *view, int width, uint64_t now, uint64_t before)
{
	if (view->before)
		fprintf(view->out, " %*.1f", width, (double)(now - before) / view->seconds);
	else
		fprintf(view->out, " %*" PRIu64, width, now);
}

static void print_mib(const struct view *view, int width, uint64_t now, uint64_t before)
{
	double mib = (double)(view->before ? now - before : now) / (double)MIB;

	fprintf(view->out, " %*.1f", width, view->before ? mib / view->seconds : mib);
}

// What KVM counts of a vCPU, by its names and by ours.
static const struct {
	const char *name;
	const char *heading;
} KVM_COLUMNS[] = {
	{"exits", "exits"},
	{"halt_exits", "halts"},
	{"irq_exits", "host irqs"},
	{"irq_injections", "irqs in"},
};
#define KVM_COLUMN_COUNT ARRAY_SIZE(KVM_COLUMNS)

// And what we count of its exits to user space.
static const char *const EXIT_COLUMNS[] = {"io", "mmio"};
#define EXIT_COLUMN_COUNT ARRAY_SIZE(EXIT_COLUMNS)

#define VCPU_COLUMNS (KVM_COLUMN_COUNT + EXIT_COLUMN_COUNT + 1)

// A row: KVM's columns, ours, and all other reasons.
static void add_vcpu(const struct veneer_vcpu_stats *vcpu, uint64_t *row)
{
	for (size_t i = 0; i < KVM_COLUMN_COUNT; i++) {
		const struct veneer_kvm_stat *stat = stats_find_kvm(vcpu->kvm, KVM_COLUMNS[i].name);
		row[i] += stat ? stat->values[0] : 0;
	}
	for (const struct veneer_exit_stat *const *exit = vcpu->exits; *exit; exit++) {
		size_t i = 0;
		while (i < EXIT_COLUMN_COUNT && strcmp((*exit)->reason, EXIT_COLUMNS[i]) != 0)
			i++;
		row[KVM_COLUMN_COUNT + i] += (*exit)->count;
	}
}

static void print_row(
	const struct view *view, const char *label, const uint64_t *now, const uint64_t *before)
{
	fprintf(view->out, "%-8s", label);
	for (size_t i = 0; i < VCPU_COLUMNS; i++)
		print_count(view, 11, now[i], before[i]);
	fputc('\n', view->out);
}

static void print_vcpus(const struct view *view)
{
	uint64_t total[VCPU_COLUMNS] = {0}, total_before[VCPU_COLUMNS] = {0};
	const struct veneer_vcpu_stats *const *vcpus = view->now->vcpus;
	size_t count = 0;

	fprintf(view->out, "%-8s", "vCPU");
	for (size_t i = 0; i < KVM_COLUMN_COUNT; i++)
		fprintf(view->out, " %11s", KVM_COLUMNS[i].heading);
	fprintf(view->out, " %11s %11s %11s\n", "user io", "user mmio", "user other");
	for (; vcpus[count]; count++) {
		uint64_t row[VCPU_COLUMNS] = {0}, before[VCPU_COLUMNS] = {0};
		char label[16];
		snprintf(label, sizeof(label), "%u", vcpus[count]->index);
		add_vcpu(vcpus[count], row);
		add_vcpu(vcpus[count], total);
		if (view->before) {
			add_vcpu(view->before->vcpus[count], before);
			add_vcpu(view->before->vcpus[count], total_before);
		}
		print_row(view, label, row, before);
	}
	if (count > 1)
		print_row(view, "all", total, total_before);
}

// What came in between two snapshots of one histogram, in `buckets`, which has room for all of
// `now`.
static struct veneer_latency latency_since(const struct veneer_latency *now,
	const struct veneer_latency *before, struct veneer_latency_bucket *buckets)
{
	struct veneer_latency latency = {.buckets = buckets};
	size_t old = 0, old_count = before ? before->bucket_count : 0;

	for (size_t i = 0; i < now->bucket_count; i++) {
		struct veneer_latency_bucket bucket = now->buckets[i];
		while (old < old_count && before->buckets[old].from_ns < bucket.from_ns)
			old++;
		if (old < old_count && before->buckets[old].from_ns == bucket.from_ns)
			bucket.count -= before->buckets[old].count;
		if (bucket.count > 0)
			buckets[latency.bucket_count++] = bucket;
		latency.count += bucket.count;
	}
	return latency;
}

static void print_latency(const struct view *view, const struct veneer_latency *now,
	const struct veneer_latency *before)
{
	static const double percents[] = {50, 99, 99.9};
	struct veneer_latency_bucket *buckets =
		now ? calloc(now->bucket_count, sizeof(*buckets)) : NULL;
	struct veneer_latency latency = {0};

	if (buckets)
		latency = latency_since(now, before, buckets);
	for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
		if (latency.count > 0)
			fprintf(view->out, " %9.1f",
				(double)veneer_percentile(&latency, percents[i]) / 1e3);
		else
			fprintf(view->out, " %9s", "-");
	}
	free(buckets);
}

static void print_queue(const struct view *view, const char *device,
	const struct veneer_queue_stats *now, const struct veneer_queue_stats *before)
{
	static const struct veneer_queue_stats zero;
	char label[32];

	if (!before)
		before = &zero;
	snprintf(label, sizeof(label), "%s.%u", device, now->index);
	fprintf(view->out, "%-8s", label);
	print_count(view, 11, now->requests, before->requests);
	print_count(view, 7, now->errors, before->errors);
	print_mib(view, 10, now->read_bytes, before->read_bytes);
	print_mib(view, 10, now->written_bytes, before->written_bytes);
	print_count(view, 10, now->batches, before->batches);
	print_count(view, 10, now->notifications, before->notifications);
	print_count(view, 10, now->interrupts, before->interrupts);
	print_latency(view, now->latency, before->latency);
	fputc('\n', view->out);
}

bool stats_mac(char text[STATS_MAC_BYTES], const uint8_t *mac)
{
	if (mac)
		snprintf(text, STATS_MAC_BYTES, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
			mac[2], mac[3], mac[4], mac[5]);
	return mac;
}

static void print_devices(const struct view *view)
{
	const struct veneer_device_stats *const *devices = view->now->devices;

	if (!devices[0])
		return;
	fprintf(view->out, "\n%-8s %11s %7s %10s %10s %10s %10s %10s %9s %9s %9s\n", "queue",
		"requests", "errors", "MiB read", "written", "batches", "notified", "interrupts",
		"p50 us", "p99 us", "p99.9 us");
	for (size_t i = 0; devices[i]; i++) {
		const struct veneer_queue_stats *const *queues = devices[i]->queues;
		for (size_t j = 0; queues[j]; j++)
			print_queue(view, devices[i]->name, queues[j],
				view->before ? view->before->devices[i]->queues[j] : NULL);
	}
	for (size_t i = 0; devices[i]; i++) {
		char mac[STATS_MAC_BYTES];
		if (stats_mac(mac, devices[i]->mac))
			fprintf(view->out, "%s has the MAC address %s\n", devices[i]->name, mac);
	}
}

const char *stats_state(enum veneer_state state)
{
	switch (state) {
	case VENEER_STATE_CREATED:
		return "created";
	case VENEER_STATE_RUNNING:
		return "running";
	case VENEER_STATE_PAUSED:
		return "paused";
	default:
		return "ended";
	}
}

void stats_format_text(FILE *out, const struct stats_guest *guest, const struct veneer_stats *now,
	const struct veneer_stats *before)
{
	struct view view = {.out = out, .now = now, .before = before};

	fprintf(out, "guest %s, pid %d, %s%s %.1f s", guest->name, guest->pid,
		stats_state(now->state), now->state == VENEER_STATE_RUNNING ? " for" : ", ran for",
		(double)now->running_ns / 1e9);
	if (before) {
		view.seconds = (double)(now->time_ns - before->time_ns) / 1e9;
		fprintf(out, "; a second, over the last %.1f s", view.seconds);
	}
	fputs("\n\n", out);
	print_vcpus(&view);
	print_devices(&view);
	if (!now->kvm[0])
		fputs("\nThis host's KVM has no binary statistics: what it counts is shown as 0.\n",
			out);
}

char *stats_format(enum stats_format format, const struct stats_guest *guest,
	const struct veneer_stats *now, const struct veneer_stats *before)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	switch (format) {
	case STATS_JSON:
		stats_format_json(out, guest, now);
		break;
	case STATS_PROMETHEUS:
		stats_format_prometheus(out, guest, now);
		break;
	default:
		// Those of a life before a reset say nothing about this one.
		if (before &&
			(now->time_ns <= before->time_ns || now->running_ns < before->running_ns))
			before = NULL;
		stats_format_text(out, guest, now, before);
		break;
	}
	bool failed = ferror(out);
	failed |= fclose(out) != 0;
	if (failed) {
		free(text);
		return NULL;
	}
	return text;
}
