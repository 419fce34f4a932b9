// SPDX-License-Identifier: Apache-2.0
//
// The vm: every part made in order, wired, started, and taken down in reverse; and the
// implementation of include/veneer.h.
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86/acpi.h"
#include "arch/x86/boot.h"
#include "arch/x86/chips.h"
#include "arch/x86/cpuid.h"
#include "arch/x86/crash.h"
#include "arch/x86/fdt.h"
#include "arch/x86/idle.h"
#include "arch/x86/map.h"
#include "arch/x86/models.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/cpuset.h"
#include "base/macros.h"
#include "core/bus.h"
#include "core/kvm.h"
#include "core/kvm_stats.h"
#include "core/memory.h"
#include "core/memory_limits.h"
#include "core/vcpu.h"
#include "host/placement.h"
#include "vmm/builtin.h"
#include "vmm/config.h"
#include "vmm/devices.h"

#define BUILTIN_MEMORY_MIN (64ull << 20) // the least that its report and loads are tried with

// A guest. Its parts are immutable once it runs; what follows a lock is shared under it.
struct veneer {
	struct vn_log log;
	struct vn_kvm kvm;
	struct vn_cpuid cpuid; // the processor's, without what a vCPU has to itself
	struct vn_memory memory;
	struct vn_bus pio, mmio;
	struct vn_end_hook end;
	struct veneer_placement placement;
	struct veneer_cpuset helpers; // where KVM's own threads go
	struct vn_vcpu vcpus[VENEER_CPUS_MAX];
	unsigned vcpu_count; // those created
	struct vn_devices *devices; // NULL until they are made
	struct vn_machine machine;
	uint8_t cell_of[VENEER_CPUS_MAX]; // the machine's
	uint8_t cache_of[VENEER_CPUS_MAX]; // of the host's, each vCPU's, if that is known
	bool caches_known;
	char cmdline[VN_MAP_CMDLINE_MAX];
	struct vn_boot boot;
	void *dtb;
	size_t dtb_size;
	int ended_fd;
	int stats_fd; // KVM's statistics of the VM, or -1

	pthread_mutex_t lock;
	bool started, ended;
	bool panicked; // and `result` says so
	uint64_t start_ns, end_ns; // CLOCK_MONOTONIC
	struct veneer_result result;

	pthread_mutex_t finish_lock; // taken first; never by a vCPU
	bool finished;
};

const char *veneer_version(void)
{
	return VENEER_VERSION;
}

static void set_result(struct veneer *vm, enum veneer_end end, uint32_t value, const char *message)
{
	vm->result.end = end;
	vm->result.value = value;
	snprintf(vm->result.message, sizeof(vm->result.message), "%s", message ? message : "");
}

// A guest that panicked ends by that, even if someone stops it before it is done with its last
// words.
static void panicked(void *opaque, const char *message)
{
	struct veneer *vm = opaque;
	pthread_mutex_lock(&vm->lock);
	if (!vm->ended && !vm->panicked) {
		vm->panicked = true;
		set_result(vm, VENEER_END_PANIC, 0, message);
	}
	pthread_mutex_unlock(&vm->lock);
}

// The first end counts: it keeps the result, makes every vCPU leave and wakes whoever waits.
static void ended(void *opaque, enum veneer_end end, uint32_t value, const char *message)
{
	struct veneer *vm = opaque;
	char lost[sizeof(vm->result.message)];
	// Whatever else the guest seems to do without that memory.
	vn_memory_describe_loss(&vm->memory, lost, sizeof(lost));
	if (lost[0]) {
		end = VENEER_END_FAILED;
		message = lost;
	}
	pthread_mutex_lock(&vm->lock);
	if (!vm->ended) {
		vm->ended = true;
		vm->end_ns = vn_clock_ns();
		if (!vm->panicked || end == VENEER_END_FAILED)
			set_result(vm, end, value, message);
		for (unsigned i = 0; i < vm->vcpu_count; i++)
			if (vm->vcpus[i].started)
				vn_vcpu_kick(&vm->vcpus[i]);
		eventfd_write(vm->ended_fd, 1);
	}
	pthread_mutex_unlock(&vm->lock);
}

static int read_config(
	struct veneer_config *config, const struct veneer_config *given, struct veneer_error *error)
{
	int code = vn_config_read(config, given, error);
	return code == 0 ? vn_devices_choose_transport(config, error) : code;
}

// What is placed must be possible, and is judged, before anything is made.
static int judge_placement(
	struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	int code = vn_config_placement(&vm->placement, config, error);
	if (code < 0 || !config->placement)
		return code;
	struct vn_host *host;
	code = vn_host_create(&host, error);
	if (code < 0)
		return code;
	struct vn_placement_guest guest = {.vcpus = config->cpus,
		.threads = config->topology.threads ? config->topology.threads : 1};
	code = vn_placement_check(&vm->placement, config->cpus, host, error);
	if (code == 0)
		vn_placement_warn(&vm->placement, &guest, host, &vm->log);
	vm->caches_known =
		code == 0 && vn_placement_caches(&vm->placement, config->cpus, host, vm->cache_of);
	vm->helpers = vn_cpuset_is_empty(&vm->placement.vmm) ? host->affinity : vm->placement.vmm;
	free(host);
	return code;
}

// What the guest is told: who is where, and how far from each other.
static void describe_cells(struct veneer *vm, const struct veneer_cell *cells)
{
	struct vn_machine_numa *numa = &vm->machine.numa;
	numa->cell_count = vm->memory.cell_count;
	numa->cell_of = vm->cell_of;
	for (unsigned from = 0; from < numa->cell_count; from++) {
		vn_cpuset_for_each(cpu, &cells[from].cpus)
		{
			vm->cell_of[cpu] = (uint8_t)from;
		}
		for (unsigned to = 0; to < numa->cell_count; to++)
			numa->distance[from][to] = vn_memory_distance(&vm->memory, "", from, to);
	}
}

static int check_builtin_memory(
	const struct veneer_cell *cells, size_t count, struct veneer_error *error)
{
	uint64_t size = 0;
	for (size_t i = 0; i < count; i++)
		size += cells[i].size;
	if (size >= BUILTIN_MEMORY_MIN)
		return 0;
	return vn_fail(error, -EINVAL,
		"the guest that is built in needs %lluM of memory, and is given %" PRIu64 "K",
		BUILTIN_MEMORY_MIN >> 20, size / 1024);
}

static int create_memory(
	struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	struct veneer_cell *cells;
	struct vn_memory_plan plan = {.options = config->memory,
		.hole_start = VN_MAP_HOLE,
		.progress = config->progress,
		.progress_opaque = config->progress_opaque,
		.log = &vm->log};
	int code = vn_config_cells(&cells, &plan.cell_count, config, error);
	if (code < 0)
		return code;
	plan.cells = cells;
	if (!config->kernel)
		code = check_builtin_memory(cells, plan.cell_count, error);
	if (code == 0)
		code = vn_memory_create_cells(&vm->memory, &plan, error);
	if (code == 0 && config->cell_count > 0)
		describe_cells(vm, cells);
	free(cells);
	return code;
}

// Before memory is spent on a guest whose processor this host cannot show.
static int choose_processor(
	struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	int code = vn_kvm_open(&vm->kvm, error);
	if (code == 0)
		code = vn_cpuid_supported(&vm->kvm, &vm->cpuid, error);
	if (code == 0)
		code = vn_model_apply(&vm->cpuid, config->cpu, error);
	if (code == 0)
		vm->machine.address_bits = vn_machine_address_bits(&vm->cpuid);
	return code;
}

static int create_machine(
	struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	int code = create_memory(vm, config, error);
	if (code < 0)
		return code;
	vm->machine.memory = &vm->memory;
	vm->machine.cpus = config->cpus;
	code = vn_topology_make(&vm->machine.topology, &config->topology, config->cpus,
		vm->machine.numa.cell_of, vm->caches_known ? vm->cache_of : NULL, error);
	if (code < 0)
		return code;
	code = vn_kvm_create(&vm->kvm, error);
	if (code == 0)
		code = vn_kvm_map_memory(&vm->kvm, &vm->memory, error);
	if (code == 0)
		code = vn_chips_create(&vm->kvm, config->pit, error);
	if (code < 0)
		return code;
	int most = vn_kvm_capability(&vm->kvm, KVM_CAP_MAX_VCPUS);
	if (most > 0 && config->cpus > (unsigned)most)
		return vn_fail(
			error, -EINVAL, "%u CPUs: this host's KVM allows %d", config->cpus, most);
	vm->stats_fd = vn_kvm_stats_open(vm->kvm.vm_fd);
	code = vn_idle_set(&vm->kvm, config->idle, error);
	return code == 0 ? vn_kvm_set_halt_poll(&vm->kvm, config->halt_poll_ns, error) : code;
}

static int create_vcpu(struct veneer *vm, unsigned i, unsigned tsc_khz, struct veneer_error *error)
{
	struct vn_vcpu *vcpu = &vm->vcpus[i];
	uint32_t apic_id = vn_topology_apic_id(&vm->machine.topology, i);
	int code = vn_vcpu_create(vcpu, &vm->kvm, i, apic_id, error);
	if (code < 0)
		return code;
	vcpu->memory = &vm->memory;
	vcpu->mmio = &vm->mmio;
	vcpu->pio = &vm->pio;
	vcpu->end = vm->end;
	vcpu->describe_crash = vn_crash_describe;
	vcpu->place = (struct vn_thread_place){vm->placement.vcpus[i], vm->placement.fifo};
	vcpu->helpers = vm->helpers;
	vm->vcpu_count++;
	return tsc_khz ? vn_vcpu_set_tsc_khz(vcpu, tsc_khz, error) : 0;
}

// Its CPUID, made in `cpuid`, and the state that it starts with.
static int prepare_vcpu(struct veneer *vm, unsigned i, struct vn_cpuid *cpuid, bool mwait,
	struct veneer_error *error)
{
	const struct kvm_cpuid_entry2 host_mwait = vn_cpuid_host_mwait();
	int khz = vn_kvm_ioctl(vm->vcpus[i].fd, KVM_GET_TSC_KHZ, NULL);
	const struct vn_cpuid_guest guest = {
		.topology = vm->machine.topology,
		.tsc_khz = khz > 0 ? (uint32_t)khz : 0,
		.mwait = mwait ? &host_mwait : NULL,
	};
	vm->machine.tsc_hz = guest.tsc_khz * (uint64_t)1000;
	*cpuid = vm->cpuid;
	int code = vn_cpuid_for_vcpu(
		cpuid, &guest, vn_topology_apic_id(&vm->machine.topology, i), error);
	if (code < 0)
		return code;
	code = vn_kvm_ioctl(vm->vcpus[i].fd, KVM_SET_CPUID2, cpuid);
	if (code < 0)
		return vn_fail(error, code, "KVM refuses CPUID of vCPU %u: %s", i, strerror(-code));
	return vn_boot_prepare_vcpu(vm->vcpus[i].fd, error);
}

static int create_vcpus(
	struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	struct vn_cpuid *cpuid = malloc(sizeof(*cpuid));
	if (!cpuid)
		return vn_fail(error, -ENOMEM, "no memory for a CPUID table");
	bool mwait = config->idle == VENEER_IDLE_MWAIT;
	int code = 0;
	for (unsigned i = 0; code == 0 && i < vm->machine.cpus; i++) {
		code = create_vcpu(vm, i, config->tsc_khz, error);
		if (code == 0)
			code = prepare_vcpu(vm, i, cpuid, mwait, error);
	}
	free(cpuid);
	return code;
}

static int create_devices(
	struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	const struct vn_devices_site site = {
		.kvm = &vm->kvm,
		.memory = &vm->memory,
		.pio = &vm->pio,
		.mmio = &vm->mmio,
		.end = &vm->end,
		.log = &vm->log,
		.placement = &vm->placement,
		.machine = &vm->machine,
	};
	return vn_devices_create(&vm->devices, &site, config, error);
}

static int load(struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	int code = vn_boot_load(&vm->boot, &vm->memory, config->kernel, vn_builtin_guest,
		vn_builtin_guest_size, config->initrd, error);
	if (code < 0)
		return code;
	// Such a kernel may run for a minute before it meets an instruction that stops it.
	if (config->kernel && !vn_cpuid_host_virtualizes())
		vn_warn(&vm->log, "no VT-x or AMD-V here: guest kernels are emulated by "
				  "software; stock ones do not boot ('veneer doctor' says more)");
	vm->machine.initrd_start = vm->boot.initrd_start;
	vm->machine.initrd_end = vm->boot.initrd_end;
	code = vn_machine_write_cmdline(&vm->machine, vm->cmdline, config->cmdline, error);
	if (code < 0)
		return code;
	vm->machine.cmdline = vm->cmdline;
	code = vn_fdt_build(&vm->machine, &vm->dtb, &vm->dtb_size, error);
	if (code < 0)
		return code;
	vn_gpa rsdp;
	code = vn_acpi_write(&vm->machine, &rsdp, error);
	if (code < 0)
		return code;
	code = vn_boot_finish(&vm->boot, &vm->machine, rsdp, vm->dtb, vm->dtb_size, error);
	if (code < 0)
		return code;
	return vn_boot_enter(&vm->boot, vm->vcpus[0].fd, error);
}

static int create_all(
	struct veneer *vm, const struct veneer_config *config, struct veneer_error *error)
{
	int code = judge_placement(vm, config, error);
	if (code == 0)
		code = choose_processor(vm, config, error);
	if (code == 0)
		code = create_machine(vm, config, error);
	if (code == 0)
		code = create_vcpus(vm, config, error);
	if (code == 0)
		code = create_devices(vm, config, error);
	return code == 0 ? load(vm, config, error) : code;
}

int veneer_create(
	struct veneer **result, const struct veneer_config *given, struct veneer_error *error)
{
	struct veneer_config config;
	int code = read_config(&config, given, error);
	if (code < 0)
		return code;
	struct veneer *vm = calloc(1, sizeof(*vm));
	if (!vm)
		return vn_fail(error, -ENOMEM, "no memory for a guest's description");
	vm->log = (struct vn_log){config.message, config.message_opaque};
	vm->end = (struct vn_end_hook){ended, panicked, vm};
	vm->kvm.system_fd = vm->kvm.vm_fd = vm->stats_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->finish_lock, NULL);
	vm->ended_fd = eventfd(0, EFD_CLOEXEC);
	code = vm->ended_fd < 0 ? vn_fail(error, -errno, "no eventfd: %s", strerror(errno))
				: create_all(vm, &config, error);
	if (code < 0) {
		veneer_destroy(vm);
		return code;
	}
	*result = vm;
	return 0;
}

int veneer_start(struct veneer *vm, struct veneer_error *error)
{
	int code = 0;
	pthread_mutex_lock(&vm->lock);
	if (vm->started)
		code = vn_fail(error, -EALREADY, "this guest was started before");
	vm->started = true;
	vm->start_ns = vn_clock_ns();
	// Under the lock, so that an end that comes meanwhile finds every vCPU to kick.
	for (unsigned i = 0; code == 0 && !vm->ended && i < vm->vcpu_count; i++)
		code = vn_vcpu_start(&vm->vcpus[i], error);
	pthread_mutex_unlock(&vm->lock);
	// The guest runs meanwhile, and does not wait for it.
	if (code == 0 && !vm->memory.stays)
		vn_memory_limits_warn(&vm->memory, "", &vm->log);
	return code;
}

int veneer_fd(const struct veneer *vm)
{
	return vm->ended_fd;
}

void veneer_stop(struct veneer *vm)
{
	ended(vm, VENEER_END_STOPPED, 0, NULL);
}

// Whoever waits for the end does the rest: a signal handler may take no lock.
bool veneer_handle_sigbus(struct veneer *vm, int code, void *address)
{
	const uint64_t one = 1;
	if (code < BUS_ADRERR || code > BUS_MCEERR_AO ||
		!vn_memory_replace(&vm->memory, address, code))
		return false;
	int saved_errno = errno;
	ssize_t written = write(vm->ended_fd, &one, sizeof(one));
	(void)written;
	errno = saved_errno;
	return true;
}

int veneer_press_power_button(struct veneer *vm)
{
	pthread_mutex_lock(&vm->lock);
	bool runs = vm->started && !vm->ended;
	if (runs)
		vn_devices_press_power_button(vm->devices);
	pthread_mutex_unlock(&vm->lock);
	return runs ? 0 : -ENOTCONN;
}

int veneer_refresh_disk(struct veneer *vm, size_t index, struct veneer_error *error)
{
	return vn_devices_refresh_disk(vm->devices, index, error);
}

// Once only, by the first that waits: the vCPUs have been kicked and are about to leave.
static void finish(struct veneer *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpus[i].started)
			vn_vcpu_join(&vm->vcpus[i]);
	vn_devices_drain(vm->devices);
}

void veneer_wait(struct veneer *vm, struct veneer_result *result)
{
	struct pollfd wait = {.fd = vm->ended_fd, .events = POLLIN};
	while (poll(&wait, 1, -1) < 0 && errno == EINTR)
		;
	if (vn_memory_is_lost(&vm->memory))
		ended(vm, VENEER_END_FAILED, 0, NULL);
	pthread_mutex_lock(&vm->finish_lock);
	if (!vm->finished)
		finish(vm);
	vm->finished = true;
	pthread_mutex_unlock(&vm->finish_lock);
	pthread_mutex_lock(&vm->lock);
	*result = vm->result;
	pthread_mutex_unlock(&vm->lock);
}

int veneer_memory_backing(const struct veneer *vm, size_t cell, struct veneer_backing *backing)
{
	if (cell >= vm->memory.cell_count)
		return -EINVAL;
	const struct vn_memory_cell *from = &vm->memory.cells[cell];
	*backing = (struct veneer_backing){.size = from->size,
		.page_size = from->page_size,
		.node = from->node,
		.transparent = from->transparent,
		.shared = from->fd >= 0};
	return 0;
}

static int write_all(
	int fd, const char *at, size_t left, const char *what, struct veneer_error *error)
{
	while (left > 0) {
		ssize_t written = write(fd, at, left);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return vn_fail(error, written < 0 ? -errno : -EIO, "cannot write %s: %s",
				what, strerror(written < 0 ? errno : EIO));
		at += written;
		left -= (size_t)written;
	}
	return 0;
}

int veneer_write_dtb(const struct veneer *vm, int fd, struct veneer_error *error)
{
	return write_all(fd, vm->dtb, vm->dtb_size, "the device tree", error);
}

// The list as text, the caller's to free whatever happens.
static int list_models(
	char **text, size_t *size, struct vn_cpuid *cpuid, struct veneer_error *error)
{
	FILE *out = open_memstream(text, size);
	if (!out)
		return vn_fail(error, -ENOMEM, "no memory for the list of CPU models");
	int code = vn_model_list(cpuid, out, error);
	bool whole = !ferror(out);
	if (fclose(out) != 0 || !whole)
		return vn_fail(error, -ENOMEM, "no memory for the list of CPU models");
	return code;
}

int veneer_cpu_models(int fd, struct veneer_error *error)
{
	struct vn_kvm kvm;
	int code = vn_kvm_open(&kvm, error);
	if (code < 0)
		return code;
	struct vn_cpuid *cpuid = malloc(sizeof(*cpuid));
	char *text = NULL;
	size_t size = 0;
	code = cpuid ? vn_cpuid_supported(&kvm, cpuid, error)
		     : vn_fail(error, -ENOMEM, "no memory for a CPUID table");
	if (code == 0)
		code = list_models(&text, &size, cpuid, error);
	if (code == 0)
		code = write_all(fd, text, size, "the list of CPU models", error);
	free(text);
	free(cpuid);
	vn_kvm_destroy(&kvm);
	return code;
}

// A snapshot with the memory it is made of.
struct snapshot {
	struct veneer_stats stats;
	struct vn_arena arena;
};

static int read_stats(struct veneer *vm, struct snapshot *snapshot)
{
	struct vn_arena *arena = &snapshot->arena;
	const struct veneer_vcpu_stats **vcpus =
		vn_arena_alloc(arena, (vm->vcpu_count + 1) * sizeof(*vcpus));
	if (!vcpus)
		return -ENOMEM;
	snapshot->stats.vcpus = vcpus;
	int code = vn_kvm_stats_read(vm->stats_fd, arena, &snapshot->stats.kvm);
	for (unsigned i = 0; code == 0 && i < vm->vcpu_count; i++)
		code = vn_vcpu_stats(&vm->vcpus[i], arena, &vcpus[i]);
	if (code == 0)
		code = vn_devices_stats(vm->devices, arena, &snapshot->stats.devices);
	pthread_mutex_lock(&vm->lock);
	snapshot->stats.time_ns = vn_clock_ns();
	uint64_t until = vm->ended ? vm->end_ns : snapshot->stats.time_ns;
	snapshot->stats.running_ns = vm->started ? until - vm->start_ns : 0;
	pthread_mutex_unlock(&vm->lock);
	return code;
}

int veneer_stats(struct veneer *vm, struct veneer_stats **stats, struct veneer_error *error)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	int code = snapshot ? read_stats(vm, snapshot) : -ENOMEM;
	if (code < 0) {
		if (snapshot)
			veneer_stats_free(&snapshot->stats);
		return vn_fail(error, code, "cannot read statistics: %s", strerror(-code));
	}
	*stats = &snapshot->stats;
	return 0;
}

void veneer_stats_free(struct veneer_stats *stats)
{
	if (!stats)
		return;
	struct snapshot *snapshot = container_of(stats, struct snapshot, stats);
	vn_arena_free(&snapshot->arena);
	free(snapshot);
}

void veneer_destroy(struct veneer *vm)
{
	if (!vm)
		return;
	if (vm->started) {
		struct veneer_result result;
		veneer_stop(vm);
		veneer_wait(vm, &result);
	}
	free(vm->dtb);
	if (vm->devices)
		vn_devices_destroy(vm->devices);
	for (unsigned i = vm->vcpu_count; i-- > 0;)
		vn_vcpu_destroy(&vm->vcpus[i]);
	if (vm->stats_fd >= 0)
		close(vm->stats_fd);
	vn_kvm_destroy(&vm->kvm);
	vn_memory_destroy(&vm->memory);
	if (vm->ended_fd >= 0)
		close(vm->ended_fd);
	pthread_mutex_destroy(&vm->finish_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}
