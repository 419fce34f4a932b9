// SPDX-License-Identifier: Apache-2.0
//
// The run loop.
#include "core/vcpu.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/thread.h"
#include "core/kvm_stats.h"

// A standard signal: the kernel queues as many real-time signals as RLIMIT_SIGPENDING allows, and
// refuses more, but a standard one is always pending once. By default SIGURG is ignored, but the
// kernel ignores no signal that is blocked.
#define KICK_SIGNAL SIGURG

// The kernel's signal set has 64 bits, libc's more.
#define KERNEL_SIGSET_SIZE 8

// What statistics call the reasons for an exit; those without a name count as unknown.
static const char *const REASONS[] = {
	[KVM_EXIT_UNKNOWN] = "unknown",
	[KVM_EXIT_EXCEPTION] = "exception",
	[KVM_EXIT_IO] = "io",
	[KVM_EXIT_HYPERCALL] = "hypercall",
	[KVM_EXIT_DEBUG] = "debug",
	[KVM_EXIT_HLT] = "hlt",
	[KVM_EXIT_MMIO] = "mmio",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window_open",
	[KVM_EXIT_SHUTDOWN] = "shutdown",
	[KVM_EXIT_FAIL_ENTRY] = "fail_entry",
	[KVM_EXIT_INTR] = "intr",
	[KVM_EXIT_SET_TPR] = "set_tpr",
	[KVM_EXIT_TPR_ACCESS] = "tpr_access",
	[KVM_EXIT_NMI] = "nmi",
	[KVM_EXIT_INTERNAL_ERROR] = "internal_error",
	[KVM_EXIT_SYSTEM_EVENT] = "system_event",
	[KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
	[KVM_EXIT_X86_RDMSR] = "rdmsr",
	[KVM_EXIT_X86_WRMSR] = "wrmsr",
	[KVM_EXIT_X86_BUS_LOCK] = "bus_lock",
	[KVM_EXIT_NOTIFY] = "notify",
};
#define REASON_COUNT ARRAY_SIZE(REASONS)

// A counter for each, and behind them one for KVM_RUN that a signal ended.
#define COUNT_SIGNAL REASON_COUNT
#define COUNTERS     (REASON_COUNT + 1)

// Of what is sent, only the kick may interrupt KVM_RUN; it stays blocked, and so pending,
// everywhere else.
static int set_signal_mask(const struct vn_vcpu *vcpu)
{
	sigset_t set;
	vn_thread_signals(&set);
	sigdelset(&set, KICK_SIGNAL);
	_Alignas(struct kvm_signal_mask)
		uint8_t mask[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_SIZE] = {0};
	((struct kvm_signal_mask *)mask)->len = KERNEL_SIGSET_SIZE;
	memcpy(mask + sizeof(struct kvm_signal_mask), &set, KERNEL_SIGSET_SIZE);
	return vn_kvm_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, mask);
}

static vn_counter *create_counters(void)
{
	size_t lines = (COUNTERS * sizeof(vn_counter) + VN_CACHE_LINE - 1) / VN_CACHE_LINE;
	vn_counter *counters = aligned_alloc(VN_CACHE_LINE, lines * VN_CACHE_LINE);
	if (counters)
		memset(counters, 0, lines * VN_CACHE_LINE);
	return counters;
}

static void init_lock(struct vn_vcpu *vcpu)
{
	pthread_condattr_t attributes;
	pthread_mutex_init(&vcpu->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&vcpu->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

int vn_vcpu_create(struct vn_vcpu *vcpu, const struct vn_kvm *kvm, unsigned index, uint32_t apic_id,
	struct veneer_error *error)
{
	*vcpu = (struct vn_vcpu){.index = index, .kvm = kvm, .stats_fd = -1};
	init_lock(vcpu);
	vcpu->fd = vn_kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)apic_id);
	if (vcpu->fd < 0)
		return vn_fail(error, vcpu->fd, "KVM cannot create vCPU %u: %s", index,
			strerror(-vcpu->fd));
	vcpu->run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		int code = -errno;
		close(vcpu->fd);
		return vn_fail(error, code, "cannot map vCPU %u: %s", index, strerror(-code));
	}
	vcpu->stats_fd = vn_kvm_stats_open(vcpu->fd);
	vcpu->exits = create_counters();
	int code = vcpu->exits ? set_signal_mask(vcpu) : -ENOMEM;
	if (code < 0) {
		vn_vcpu_destroy(vcpu);
		return vn_fail(error, code, "vCPU %u's signal mask or counters: %s", index,
			strerror(-code));
	}
	return 0;
}

int vn_vcpu_set_tsc_khz(const struct vn_vcpu *vcpu, unsigned khz, struct veneer_error *error)
{
	int host = vn_kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
	if (host > 0 && (unsigned)host == khz)
		return 0;
	if (vn_kvm_capability(vcpu->kvm, KVM_CAP_TSC_CONTROL) == 0)
		return vn_fail(error, -ENOTSUP,
			"a time-stamp counter of %u kHz: "
			"this host's KVM cannot scale it (KVM_CAP_TSC_CONTROL), "
			"so a guest's runs at the host's %d kHz",
			khz, host > 0 ? host : 0);
	int code = vn_kvm_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)khz);
	if (code < 0)
		return vn_fail(error, code, "KVM refuses a time-stamp counter of %u kHz: %s", khz,
			strerror(-code));
	return 0;
}

void vn_vcpu_destroy(struct vn_vcpu *vcpu)
{
	free(vcpu->exits);
	if (vcpu->stats_fd >= 0)
		close(vcpu->stats_fd);
	munmap(vcpu->run, vcpu->kvm->run_size);
	close(vcpu->fd);
	pthread_cond_destroy(&vcpu->changed);
	pthread_mutex_destroy(&vcpu->lock);
}

static void handle_io(struct vn_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			vn_bus_write(vcpu->pio, run->io.port, data, run->io.size);
		else
			vn_bus_read(vcpu->pio, run->io.port, data, run->io.size);
	}
}

static void crashed(struct vn_vcpu *vcpu)
{
	char text[VN_END_MESSAGE_MAX];
	vcpu->describe_crash(vcpu, text, sizeof(text));
	vcpu->end.ended(vcpu->end.opaque, VENEER_END_CRASH, 0, text);
}

static void run_failed(struct vn_vcpu *vcpu, int code)
{
	char text[VN_END_MESSAGE_MAX], why[VN_END_MESSAGE_MAX - 256] = "";
	if (code == EFAULT)
		vn_memory_explain_fault(vcpu->memory, why, sizeof(why));
	snprintf(text, sizeof(text), "vCPU %u cannot run: %s%s", vcpu->index,
		code == EFAULT ? "the host could not provide a page of the guest's memory"
			       : strerror(code),
		why);
	vcpu->end.ended(vcpu->end.opaque, VENEER_END_FAILED, 0, text);
}

static void handle_mmio(struct vn_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	// KVM's emulator found no page there.
	if (vn_memory_at(vcpu->memory, VN_GPA(run->mmio.phys_addr), run->mmio.len))
		run_failed(vcpu, EFAULT);
	else if (run->mmio.is_write)
		vn_bus_write(vcpu->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		vn_bus_read(vcpu->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void count_exit(struct vn_vcpu *vcpu)
{
	uint32_t reason = vcpu->run->exit_reason;
	bool named = reason < REASON_COUNT && REASONS[reason];
	vn_counter_add(&vcpu->exits[named ? reason : KVM_EXIT_UNKNOWN], 1);
}

static void dispatch(struct vn_vcpu *vcpu)
{
	count_exit(vcpu);
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		break;
	default:
		crashed(vcpu);
	}
}

// KVM's first run of a guest may start a thread of this process (Linux 6.18 recovers large pages in
// one), which inherits the CPUs and the policy of the thread that runs it. So each vCPU of a guest
// that is placed runs once on the others' CPUs, where `immediate_exit` turns it back before the
// guest's first instruction.
static int run_helpers_elsewhere(struct vn_vcpu *vcpu)
{
	if (vcpu->place.fifo > 0) {
		struct sched_param priority = {.sched_priority = (int)vcpu->place.fifo};
		if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) < 0)
			return -errno;
	}
	if (vn_cpuset_is_empty(&vcpu->helpers))
		return 0;
	struct vn_cpuset own = vcpu->place.cpus;
	int code = vn_cpuset_is_empty(&own) ? vn_thread_cpus(&own) : 0;
	if (code == 0)
		code = vn_thread_move(&vcpu->helpers);
	if (code == 0) {
		// A kick that comes meanwhile is not lost with the flag: its signal stays pending.
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
		(void)ioctl(vcpu->fd, KVM_RUN, NULL);
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
		code = vn_thread_move(&own);
	}
	return code;
}

// KVM completes what an exit asked for when the vCPU is entered next, so it is entered, and turned
// back before it runs: all of its state is KVM's then.
static void complete_exit(struct vn_vcpu *vcpu)
{
	int code;
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
	while ((code = ioctl(vcpu->fd, KVM_RUN, NULL)) == 0)
		dispatch(vcpu);
	if (errno != EINTR && errno != EAGAIN)
		run_failed(vcpu, errno);
}

// Drop a kick that has done its work, or one that was none: a signal for the whole process, which
// would turn KVM_RUN back each time as long as nobody takes it.
static void drop_kick(void)
{
	const struct timespec no_time = {0};
	sigset_t kick;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	(void)sigtimedwait(&kick, NULL, &no_time);
}

static void park(struct vn_vcpu *vcpu)
{
	complete_exit(vcpu);
	pthread_mutex_lock(&vcpu->lock);
	vcpu->parked = true;
	pthread_cond_broadcast(&vcpu->changed);
	while (atomic_load_explicit(&vcpu->wish, memory_order_relaxed) == VN_VCPU_PAUSE)
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	vcpu->parked = false;
	pthread_mutex_unlock(&vcpu->lock);
	// Tell a guest with kvmclock that it did not run, so that its watchdogs do not fire. KVM
	// refuses if this vCPU has no kvmclock.
	(void)vn_kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, NULL);
	// A kick that comes from here on belongs to a wish that run() has yet to read.
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
	drop_kick();
}

// The wish, which is looked at next, was there before its kick.
static void interrupted(struct vn_vcpu *vcpu)
{
	vn_counter_add(&vcpu->exits[COUNT_SIGNAL], 1);
	drop_kick();
}

static void leave(struct vn_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->left = true;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
}

static void *run(void *arg)
{
	struct vn_vcpu *vcpu = arg;
	char name[16];
	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	int code = run_helpers_elsewhere(vcpu);
	if (code < 0)
		run_failed(vcpu, -code);
	for (;;) {
		unsigned wish = atomic_load_explicit(&vcpu->wish, memory_order_acquire);
		if (wish == VN_VCPU_STOP)
			break;
		if (wish == VN_VCPU_PAUSE)
			park(vcpu);
		else if (ioctl(vcpu->fd, KVM_RUN, NULL) == 0)
			dispatch(vcpu);
		else if (errno == EINTR || errno == EAGAIN)
			interrupted(vcpu);
		else
			run_failed(vcpu, errno);
	}
	complete_exit(vcpu);
	leave(vcpu);
	return NULL;
}

int vn_vcpu_start(struct vn_vcpu *vcpu, struct veneer_error *error)
{
	char name[16];
	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	vcpu->parked = vcpu->left = false;
	atomic_store_explicit(&vcpu->wish, VN_VCPU_RUN, memory_order_relaxed);
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
	int code = vn_thread_start(&vcpu->thread, &vcpu->place, run, vcpu);
	if (code < 0)
		return vn_thread_fail(error, code, name, &vcpu->place);
	vcpu->started = true;
	return 0;
}

void vn_vcpu_wish(struct vn_vcpu *vcpu, enum vn_vcpu_wish wish)
{
	pthread_mutex_lock(&vcpu->lock);
	if (atomic_load_explicit(&vcpu->wish, memory_order_relaxed) != VN_VCPU_STOP)
		atomic_store_explicit(&vcpu->wish, wish, memory_order_release);
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	if (wish == VN_VCPU_RUN)
		return;
	// Before KVM_RUN looks at it, `immediate_exit` makes it return; after, the signal does,
	// which KVM_RUN finds pending if it came between.
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
	pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vn_vcpu_await_park(struct vn_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	while (!vcpu->parked && !vcpu->left)
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	pthread_mutex_unlock(&vcpu->lock);
}

// Until its thread is about to end: the time limit that pthread_join() lacks.
static int await_leave(struct vn_vcpu *vcpu, uint64_t deadline_ns)
{
	const struct timespec until = vn_clock_timespec(deadline_ns);
	int number = 0;
	pthread_mutex_lock(&vcpu->lock);
	while (!vcpu->left && number == 0)
		number = pthread_cond_timedwait(&vcpu->changed, &vcpu->lock, &until);
	if (vcpu->left)
		number = 0;
	pthread_mutex_unlock(&vcpu->lock);
	return -number;
}

int vn_vcpu_join(struct vn_vcpu *vcpu, uint64_t deadline_ns)
{
	int code = deadline_ns ? await_leave(vcpu, deadline_ns) : 0;
	if (code < 0)
		return code;
	pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
	return 0;
}

int vn_vcpu_stats(
	const struct vn_vcpu *vcpu, struct vn_arena *arena, const struct veneer_vcpu_stats **result)
{
	struct veneer_vcpu_stats *stats = vn_arena_alloc(arena, sizeof(*stats));
	struct veneer_exit_stat *exits = vn_arena_alloc(arena, COUNTERS * sizeof(*exits));
	const struct veneer_exit_stat **list =
		vn_arena_alloc(arena, (COUNTERS + 1) * sizeof(*list));
	if (!stats || !exits || !list)
		return -ENOMEM;
	*stats = (struct veneer_vcpu_stats){.index = vcpu->index, .exits = list};
	for (size_t i = 0; i < COUNTERS; i++) {
		uint64_t count = vn_counter_get(&vcpu->exits[i]);
		if (count == 0)
			continue;
		*exits =
			(struct veneer_exit_stat){i == COUNT_SIGNAL ? "signal" : REASONS[i], count};
		*list++ = exits++;
	}
	*result = stats;
	return vn_kvm_stats_read(vcpu->stats_fd, arena, &stats->kvm);
}
