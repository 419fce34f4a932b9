// SPDX-License-Identifier: Apache-2.0
//
// Statistics as JSON. Names are those of veneer.h and, within "kvm", of KVM.
#include <jansson.h>

#include "cli/stats_format.h"

// JSON's integers are signed here; what is beyond is no count that anything reaches.
static json_t *number(uint64_t value)
{
	return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
}

static json_t *kvm_value(const struct veneer_kvm_stat *stat)
{
	if (stat->kind != VENEER_KVM_KIND_LINEAR_HISTOGRAM &&
		stat->kind != VENEER_KVM_KIND_LOG_HISTOGRAM)
		return number(stat->values[0]);
	json_t *values = json_array();
	for (size_t i = 0; i < stat->value_count; i++)
		json_array_append_new(values, number(stat->values[i]));
	return values;
}

static json_t *kvm_object(const struct veneer_kvm_stat *const *kvm)
{
	json_t *object = json_object();

	for (; *kvm; kvm++)
		json_object_set_new(object, (*kvm)->name, kvm_value(*kvm));
	return object;
}

static json_t *vcpu_object(const struct veneer_vcpu_stats *vcpu)
{
	json_t *object = json_object(), *exits = json_object();

	for (const struct veneer_exit_stat *const *exit = vcpu->exits; *exit; exit++)
		json_object_set_new(exits, (*exit)->reason, number((*exit)->count));
	json_object_set_new(object, "index", number(vcpu->index));
	json_object_set_new(object, "user_exits", exits);
	json_object_set_new(object, "kvm", kvm_object(vcpu->kvm));
	return object;
}

static json_t *latency_object(const struct veneer_latency *latency)
{
	json_t *object = json_object(), *buckets = json_array();

	json_object_set_new(object, "count", number(latency->count));
	json_object_set_new(object, "sum_ns", number(latency->sum_ns));
	json_object_set_new(object, "p50_ns", number(veneer_percentile(latency, 50)));
	json_object_set_new(object, "p99_ns", number(veneer_percentile(latency, 99)));
	json_object_set_new(object, "p999_ns", number(veneer_percentile(latency, 99.9)));
	for (size_t i = 0; i < latency->bucket_count; i++) {
		const struct veneer_latency_bucket *bucket = &latency->buckets[i];
		json_t *triple = json_array();
		json_array_append_new(triple, number(bucket->from_ns));
		json_array_append_new(triple, number(bucket->below_ns));
		json_array_append_new(triple, number(bucket->count));
		json_array_append_new(buckets, triple);
	}
	json_object_set_new(object, "buckets", buckets);
	return object;
}

static json_t *queue_object(const struct veneer_queue_stats *queue)
{
	json_t *object = json_object();

	json_object_set_new(object, "index", number(queue->index));
	json_object_set_new(object, "requests", number(queue->requests));
	json_object_set_new(object, "errors", number(queue->errors));
	json_object_set_new(object, "read_bytes", number(queue->read_bytes));
	json_object_set_new(object, "written_bytes", number(queue->written_bytes));
	json_object_set_new(object, "batches", number(queue->batches));
	json_object_set_new(object, "notifications", number(queue->notifications));
	json_object_set_new(object, "wakeups", number(queue->wakeups));
	json_object_set_new(object, "interrupts", number(queue->interrupts));
	json_object_set_new(
		object, "latency", queue->latency ? latency_object(queue->latency) : json_null());
	return object;
}

static json_t *device_object(const struct veneer_device_stats *device)
{
	json_t *object = json_object(), *queues = json_array();
	char mac[STATS_MAC_BYTES];

	for (const struct veneer_queue_stats *const *queue = device->queues; *queue; queue++)
		json_array_append_new(queues, queue_object(*queue));
	json_object_set_new(object, "name", json_string(device->name));
	json_object_set_new(object, "virtio_id", number(device->virtio_id));
	if (stats_mac(mac, device->mac))
		json_object_set_new(object, "mac", json_string(mac));
	json_object_set_new(object, "queues", queues);
	return object;
}

void stats_format_json(FILE *out, const struct stats_guest *guest, const struct veneer_stats *stats)
{
	json_t *object = json_object(), *vcpus = json_array(), *devices = json_array();

	for (const struct veneer_vcpu_stats *const *vcpu = stats->vcpus; *vcpu; vcpu++)
		json_array_append_new(vcpus, vcpu_object(*vcpu));
	for (const struct veneer_device_stats *const *device = stats->devices; *device; device++)
		json_array_append_new(devices, device_object(*device));
	json_object_set_new(object, "guest", json_string(guest->name));
	json_object_set_new(object, "pid", json_integer(guest->pid));
	json_object_set_new(object, "state", json_string(stats_state(stats->state)));
	json_object_set_new(object, "time_ns", number(stats->time_ns));
	json_object_set_new(object, "running_ns", number(stats->running_ns));
	json_object_set_new(object, "vcpus", vcpus);
	json_object_set_new(object, "devices", devices);
	json_object_set_new(object, "kvm", kvm_object(stats->kvm));
	json_dumpf(object, out, JSON_COMPACT);
	fputc('\n', out);
	json_decref(object);
}
