// SPDX-License-Identifier: Apache-2.0
//
// A machine made from its parts, in an order that matters: everything that can be refused comes
// before memory is populated, and what is loaded comes after it, into pages that are there.
#include "vmm/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/x86/acpi.h"
#include "arch/x86/chips.h"
#include "arch/x86/crash.h"
#include "arch/x86/fdt.h"
#include "arch/x86/idle.h"
#include "arch/x86/models.h"
#include "arch/x86/vcpu_state.h"
#include "core/kvm_stats.h"
#include "vmm/builtin.h"
#include "vmm/plan.h"

static bool is_placed(const struct vn_cpus_options *cpus, const struct vn_placement *placement)
{
	bool placed = cpus->pin_auto || !vn_cpuset_is_empty(&placement->iothreads) ||
		      !vn_cpuset_is_empty(&placement->vmm) || placement->fifo > 0;
	for (unsigned i = 0; !placed && i < cpus->count; i++)
		placed = !vn_cpuset_is_empty(&placement->vcpus[i]);
	return placed;
}

// Validate placement before allocating anything; choose it here if pin=auto is still open.
static int check_placement(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_log *log, struct veneer_error *error)
{
	vn_plan_placement(&parts->placement, spec);
	if (!is_placed(spec->cpus, &parts->placement))
		return 0;
	struct vn_host *host;
	int code = vn_host_create(&host, error);
	if (code < 0)
		return code;
	struct veneer_plan plan = {.text = NULL};
	struct vn_placement_guest guest = vn_plan_guest(spec);
	bool chosen = spec->cpus->pin_auto;
	code = vn_plan_on(chosen ? &plan : NULL, &parts->placement, spec, host, error);
	if (code == 0 && chosen)
		vn_note(log, "%s", plan.summary);
	if (code == 0)
		vn_placement_warn(&parts->placement, &guest, host, log);
	parts->caches_known = code == 0 && vn_placement_caches(&parts->placement, guest.vcpus, host,
						   parts->cache_of);
	parts->helpers =
		vn_cpuset_is_empty(&parts->placement.vmm) ? host->affinity : parts->placement.vmm;
	free(plan.text);
	free(plan.summary);
	free(host);
	return code;
}

// Fill in the guest's NUMA description: cells of vCPUs, and distances.
static void describe_cells(struct vn_parts *parts, const struct vn_spec *spec)
{
	struct vn_machine_numa *numa = &parts->machine.numa;
	numa->cell_count = parts->memory.cell_count;
	numa->cell_of = parts->cell_of;
	for (unsigned from = 0; from < numa->cell_count; from++) {
		vn_cpuset_for_each(cpu, &spec->cells[from].cpus)
		{
			parts->cell_of[cpu] = (uint8_t)from;
		}
		for (unsigned to = 0; to < numa->cell_count; to++)
			numa->distance[from][to] = vn_memory_distance(&parts->memory, "", from, to);
	}
}

// Which option says how much memory there is.
static const char *memory_key(const struct vn_spec *spec)
{
	return spec->numa ? "numa" : "memory";
}

static struct vn_memory_plan memory_plan(const struct vn_spec *spec, const struct vn_parts_env *env)
{
	return (struct vn_memory_plan){.options = *spec->memory,
		.cells = spec->cells,
		.cell_count = spec->cell_count,
		.hole_start = VN_MAP_HOLE,
		.progress = env->progress,
		.log = env->log};
}

static int map_memory(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_parts_env *env, struct veneer_error *error)
{
	const struct vn_memory_plan plan = memory_plan(spec, env);
	int code = vn_memory_map(&parts->memory, &plan, error);
	if (code < 0)
		vn_error_set_key(error, "%s",
			code == -ENODEV && !spec->numa ? "memory.node" : memory_key(spec));
	else if (spec->numa)
		describe_cells(parts, spec);
	return code;
}

// Model and features as one text: "host,+x,-y".
static int apply_model(
	struct vn_parts *parts, const struct vn_cpu_options *cpu, struct veneer_error *error)
{
	char *text = NULL;
	if (asprintf(&text, "%s%s%s", cpu->model ? cpu->model : "host", cpu->features ? "," : "",
		    cpu->features ? cpu->features : "") < 0)
		return vn_fail(error, -ENOMEM, "no memory for a CPU model");
	int code = vn_model_apply(&parts->cpuid, text, error);
	free(text);
	if (code < 0)
		vn_error_set_key(error, "cpu");
	return code;
}

// Check the CPU model before memory is mapped.
static int choose_processor(
	struct vn_parts *parts, const struct vn_spec *spec, struct veneer_error *error)
{
	int code = vn_kvm_open(&parts->kvm, error);
	if (code == 0)
		code = vn_cpuid_supported(&parts->kvm, &parts->cpuid, error);
	if (code == 0)
		code = apply_model(parts, spec->cpu, error);
	if (code == 0)
		parts->machine.address_bits = vn_machine_address_bits(&parts->cpuid);
	return code;
}

// What of the option `cpus` is KVM's to do.
static int set_cpu_options(
	struct vn_parts *parts, const struct vn_cpus_options *cpus, struct veneer_error *error)
{
	const char *key = "cpus.idle";
	int most = vn_kvm_capability(&parts->kvm, KVM_CAP_MAX_VCPUS);
	if (most > 0 && cpus->count > (unsigned)most) {
		vn_fail(error, -EINVAL, "%u CPUs: this host's KVM allows %d", cpus->count, most);
		vn_error_set_key(error, "cpus.count");
		return -EINVAL;
	}
	int code = vn_idle_set(&parts->kvm, cpus->idle, error);
	if (code == 0) {
		key = "cpus.halt-poll-ns";
		code = vn_kvm_set_halt_poll(&parts->kvm, cpus->halt_poll_ns, error);
	}
	if (code < 0)
		vn_error_set_key(error, "%s", key);
	return code;
}

// Register memory before creating the interrupt chips: their creation starts a grace period, for
// which KVM_SET_USER_MEMORY_REGION would wait.
static int create_kvm(
	struct vn_parts *parts, const struct vn_spec *spec, struct veneer_error *error)
{
	int code = vn_kvm_create(&parts->kvm, error);
	if (code == 0)
		code = vn_kvm_map_memory(&parts->kvm, &parts->memory, error);
	if (code == 0)
		code = vn_chips_create(&parts->kvm, spec->cpus->pit, error);
	if (code < 0)
		return code;
	parts->stats_fd = vn_kvm_stats_open(parts->kvm.vm_fd);
	return set_cpu_options(parts, spec->cpus, error);
}

static int create_machine(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_parts_env *env, struct veneer_error *error)
{
	int code = map_memory(parts, spec, env, error);
	if (code < 0)
		return code;
	parts->machine.memory = &parts->memory;
	parts->machine.cpus = spec->cpus->count;
	vn_topology_make(&parts->machine.topology, &spec->cpus->topology, spec->cpus->count,
		parts->machine.numa.cell_of, parts->caches_known ? parts->cache_of : NULL);
	return create_kvm(parts, spec, error);
}

static int create_vcpu(struct vn_parts *parts, unsigned i, unsigned tsc_khz,
	const struct vn_parts_env *env, struct veneer_error *error)
{
	struct vn_vcpu *vcpu = &parts->vcpus[i];
	uint32_t apic_id = vn_topology_apic_id(&parts->machine.topology, i);
	int code = vn_vcpu_create(vcpu, &parts->kvm, i, apic_id, error);
	if (code < 0)
		return code;
	vcpu->memory = &parts->memory;
	vcpu->mmio = &parts->mmio;
	vcpu->pio = &parts->pio;
	vcpu->end = *env->end;
	vcpu->describe_crash = vn_crash_describe;
	vcpu->place = (struct vn_thread_place){parts->placement.vcpus[i], parts->placement.fifo};
	vcpu->helpers = parts->helpers;
	parts->vcpu_count++;
	code = tsc_khz ? vn_vcpu_set_tsc_khz(vcpu, tsc_khz, error) : 0;
	if (code < 0)
		vn_error_set_key(error, "cpu.tsc-khz");
	return code;
}

// Set a vCPU's CPUID, built in `cpuid`, and its entry state; `fd` is the vCPU's, or that of one of
// the same number in another VM.
static int prepare_vcpu(struct vn_parts *parts, const struct vn_spec *spec, unsigned i, int fd,
	struct vn_cpuid *cpuid, struct veneer_error *error)
{
	const struct kvm_cpuid_entry2 host_mwait = vn_cpuid_host_mwait();
	int khz = vn_kvm_ioctl(fd, KVM_GET_TSC_KHZ, NULL);
	const struct vn_cpuid_guest guest = {
		.topology = parts->machine.topology,
		.tsc_khz = khz > 0 ? (uint32_t)khz : 0,
		.mwait = spec->cpus->idle == VN_IDLE_MWAIT ? &host_mwait : NULL,
	};
	parts->machine.tsc_hz = guest.tsc_khz * (uint64_t)1000;
	*cpuid = parts->cpuid;
	int code = vn_cpuid_for_vcpu(
		cpuid, &guest, vn_topology_apic_id(&parts->machine.topology, i), error);
	if (code < 0)
		return code;
	code = vn_kvm_ioctl(fd, KVM_SET_CPUID2, cpuid);
	if (code < 0)
		return vn_fail(error, code, "KVM refuses CPUID of vCPU %u: %s", i, strerror(-code));
	return vn_boot_prepare_vcpu(fd, error);
}

static int create_vcpus(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_parts_env *env, struct veneer_error *error)
{
	struct vn_cpuid *cpuid = malloc(sizeof(*cpuid));
	if (!cpuid)
		return vn_fail(error, -ENOMEM, "no memory for a CPUID table");
	parts->vcpus = calloc(parts->machine.cpus, sizeof(*parts->vcpus));
	int code = parts->vcpus ? 0 : vn_fail(error, -ENOMEM, "no memory for the vCPUs");
	for (unsigned i = 0; code == 0 && i < parts->machine.cpus; i++) {
		code = create_vcpu(parts, i, spec->cpu->tsc_khz, env, error);
		if (code == 0)
			code = prepare_vcpu(parts, spec, i, parts->vcpus[i].fd, cpuid, error);
	}
	free(cpuid);
	return code;
}

static int create_devices(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_parts_env *env, struct veneer_error *error)
{
	const struct vn_devices_site site = {
		.kvm = &parts->kvm,
		.memory = &parts->memory,
		.pio = &parts->pio,
		.mmio = &parts->mmio,
		.end = env->end,
		.log = env->log,
		.placement = &parts->placement,
		.machine = &parts->machine,
	};
	return vn_devices_create(&parts->devices, &site, spec, error);
}

struct opened {
	struct vn_boot_source *source;
	struct vn_boot boot;
	struct vn_machine machine;
	void *dtb;
	size_t dtb_size;
};

// Open the files, and make the device tree of a copy of the machine, which has what depends on
// them.
static int open_boot(struct vn_parts *parts, const struct vn_spec *spec, struct opened *opened,
	struct veneer_error *error)
{
	struct vn_machine *machine = &opened->machine;
	const struct vn_boot_files files = {.kernel = spec->kernel,
		.builtin = vn_builtin_guest,
		.builtin_size = vn_builtin_guest_size,
		.initrd = spec->initrd};
	int code = vn_boot_open(&opened->source, &opened->boot, &files, &parts->memory, error);
	if (code < 0)
		return code;
	machine->initrd_start = opened->boot.initrd_start;
	machine->initrd_end = opened->boot.initrd_end;
	machine->cmdline = parts->cmdline;
	code = vn_machine_write_cmdline(machine, parts->cmdline, spec->cmdline, error);
	if (code == 0)
		code = vn_boot_check_cmdline(&opened->boot, parts->cmdline, error);
	if (code < 0) {
		vn_error_set_key(error, "cmdline");
		return code;
	}
	return vn_fdt_build(machine, &opened->dtb, &opened->dtb_size, error);
}

int vn_parts_prepare_boot(
	struct vn_parts *parts, const struct vn_spec *spec, struct veneer_error *error)
{
	struct opened opened = {.machine = parts->machine};
	int code = open_boot(parts, spec, &opened, error);
	if (code < 0) {
		vn_boot_close(opened.source);
		return code;
	}
	vn_boot_close(parts->source); // of a reset that failed
	free(parts->dtb);
	parts->source = opened.source;
	parts->boot = opened.boot;
	parts->machine = opened.machine;
	parts->dtb = opened.dtb;
	parts->dtb_size = opened.dtb_size;
	return 0;
}

// Such a kernel may run for a minute before it meets an instruction that stops it.
static void warn_of_emulation(const struct vn_spec *spec, const struct vn_log *log)
{
	if (spec->kernel && !vn_cpuid_host_virtualizes())
		vn_warn(log, "no VT-x or AMD-V here: guest kernels are emulated by software; "
			     "stock ones do not boot ('veneer doctor' says more)");
}

static int populate(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_parts_env *env, struct veneer_error *error)
{
	const struct vn_memory_plan plan = memory_plan(spec, env);
	int code = vn_memory_populate(&parts->memory, &plan, error);
	if (code < 0) {
		vn_error_set_key(error, "%s", memory_key(spec));
		return code;
	}
	vn_devices_settle(parts->devices);
	return 0;
}

// The first to write to guest memory. Pages that the host might refuse are there by now: it would
// do so by SIGBUS, in the embedder's process.
static int load(struct vn_parts *parts, struct veneer_error *error)
{
	struct vn_machine *machine = &parts->machine;
	vn_gpa rsdp;
	int code = vn_boot_load(parts->source, &parts->boot, &parts->memory, error);
	vn_boot_close(parts->source);
	parts->source = NULL;
	if (code == 0)
		code = vn_acpi_write(machine, &rsdp, error);
	if (code == 0)
		code = vn_boot_finish(
			&parts->boot, machine, rsdp, parts->dtb, parts->dtb_size, error);
	return code == 0 ? vn_boot_enter(&parts->boot, parts->vcpus[0].fd, error) : code;
}

static void *nothing(void *arg)
{
	return arg;
}

// Whether a vCPU's thread may have its priority: its start would say so after memory is spent.
static int check_priority(const struct vn_parts *parts, struct veneer_error *error)
{
	const struct vn_thread_place place = {.fifo = parts->placement.fifo};
	pthread_t thread;
	if (place.fifo == 0)
		return 0;
	int code = vn_thread_start(&thread, &place, nothing, NULL);
	if (code < 0) {
		vn_thread_fail(error, code, "vcpu0", &place);
		vn_error_set_key(error, "cpus.sched");
		return code;
	}
	pthread_join(thread, NULL);
	return 0;
}

void vn_parts_init(struct vn_parts *parts)
{
	*parts = (struct vn_parts){.stats_fd = -1};
	parts->kvm.system_fd = parts->kvm.vm_fd = -1;
}

int vn_parts_create(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_parts_env *env, struct veneer_error *error)
{
	int code = check_placement(parts, spec, env->log, error);
	if (code == 0)
		code = check_priority(parts, error);
	if (code == 0)
		code = choose_processor(parts, spec, error);
	if (code == 0)
		code = create_machine(parts, spec, env, error);
	if (code == 0)
		code = create_vcpus(parts, spec, env, error);
	if (code == 0)
		code = create_devices(parts, spec, env, error);
	if (code == 0)
		code = vn_parts_prepare_boot(parts, spec, error);
	if (code == 0)
		warn_of_emulation(spec, env->log);
	if (code == 0)
		code = populate(parts, spec, env, error);
	return code == 0 ? load(parts, error) : code;
}

// Write the state of a new vCPU, made in the VM `fresh`, to vCPU `i`.
static int reset_vcpu(struct vn_parts *parts, const struct vn_spec *spec, unsigned i,
	const struct vn_kvm *fresh, struct vn_vcpu_state *state, struct vn_cpuid *cpuid,
	struct veneer_error *error)
{
	struct vn_vcpu vcpu;
	uint32_t apic_id = vn_topology_apic_id(&parts->machine.topology, i);
	int code = vn_vcpu_create(&vcpu, fresh, i, apic_id, error);
	if (code < 0)
		return code;
	if (spec->cpu->tsc_khz)
		code = vn_vcpu_set_tsc_khz(&vcpu, spec->cpu->tsc_khz, error);
	if (code == 0)
		code = prepare_vcpu(parts, spec, i, vcpu.fd, cpuid, error);
	if (code == 0)
		code = vn_vcpu_state_read(state, vcpu.fd, i, error);
	vn_vcpu_destroy(&vcpu);
	return code == 0 ? vn_vcpu_state_write(state, parts->vcpus[i].fd, i, error) : code;
}

static int reset_vcpus(struct vn_parts *parts, const struct vn_spec *spec,
	const struct vn_kvm *fresh, struct veneer_error *error)
{
	struct vn_vcpu_state *state = NULL;
	struct vn_cpuid *cpuid = malloc(sizeof(*cpuid));
	int code = cpuid ? vn_vcpu_state_new(&state, fresh, error)
			 : vn_fail(error, -ENOMEM, "no memory for a CPUID table");
	for (unsigned i = 0; code == 0 && i < parts->vcpu_count; i++)
		code = reset_vcpu(parts, spec, i, fresh, state, cpuid, error);
	vn_vcpu_state_free(state);
	free(cpuid);
	return code;
}

static int reset_kvm(struct vn_parts *parts, const struct vn_spec *spec, struct veneer_error *error)
{
	struct vn_kvm fresh = {.system_fd = parts->kvm.system_fd, .vm_fd = -1};
	bool pit = spec->cpus->pit;
	int code = vn_kvm_create(&fresh, error);
	if (code == 0)
		code = vn_chips_create(&fresh, pit, error);
	if (code == 0)
		code = vn_chips_copy(&parts->kvm, &fresh, pit, error);
	if (code == 0)
		code = reset_vcpus(parts, spec, &fresh, error);
	fresh.system_fd = -1; // it is the VM's
	vn_kvm_destroy(&fresh);
	return code;
}

void vn_parts_forget_boot(struct vn_parts *parts)
{
	vn_boot_close(parts->source);
	parts->source = NULL;
}

int vn_parts_reset(struct vn_parts *parts, const struct vn_spec *spec, struct veneer_error *error)
{
	vn_devices_reset(parts->devices);
	int code = reset_kvm(parts, spec, error);
	return code == 0 ? load(parts, error) : code;
}

void vn_parts_resume(const struct vn_parts *parts, const struct vn_spec *spec)
{
	vn_chips_resume(&parts->kvm, spec->cpus->pit);
	vn_devices_resume(parts->devices);
}

void vn_parts_destroy(struct vn_parts *parts)
{
	free(parts->dtb);
	vn_boot_close(parts->source);
	if (parts->devices)
		vn_devices_destroy(parts->devices);
	for (unsigned i = parts->vcpu_count; i-- > 0;)
		vn_vcpu_destroy(&parts->vcpus[i]);
	free(parts->vcpus);
	if (parts->stats_fd >= 0)
		close(parts->stats_fd);
	vn_kvm_destroy(&parts->kvm);
	vn_memory_destroy(&parts->memory);
}
