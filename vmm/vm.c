// SPDX-License-Identifier: Apache-2.0
//
// A guest's life, and the implementation of include/veneer.h.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "arch/x86/models.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/macros.h"
#include "base/sized.h"
#include "core/kvm_stats.h"
#include "core/memory_limits.h"
#include "vmm/config.h"
#include "vmm/events.h"
#include "vmm/parts.h"

// The least that a caller's struct veneer_hooks has: that of interface 1.0.
#define HOOKS_SIZE_MIN (offsetof(struct veneer_hooks, progress) + sizeof(void *))

// What follows a lock is shared under it.
struct veneer {
	struct vn_log log;
	struct vn_end_hook end;
	struct vn_spec spec;
	struct vn_parts parts;
	struct vn_events events;
	int ended_fd; // an eventfd: the guest has ended, or has lost memory and is about to

	pthread_mutex_t lock;
	enum veneer_state state;
	bool started; // vCPU threads were
	bool panicked; // and `how` says so
	uint64_t start_ns, end_ns; // CLOCK_MONOTONIC
	struct veneer_event how; // it ended

	// What comes after the end: one thread does it, others wait for that, each within its
	// limit.
	pthread_mutex_t finish_lock; // not held while it is done; never taken by a vCPU
	pthread_cond_t finish_changed; // one of the two has changed
	bool finishing, finished;
};

static const char *const STATES[] = {
	[VENEER_STATE_CREATED] = "has not been started",
	[VENEER_STATE_RUNNING] = "is running",
	[VENEER_STATE_ENDED] = "has ended",
};

unsigned veneer_interface(void)
{
	return VENEER_INTERFACE_MAJOR << 16 | VENEER_INTERFACE_MINOR;
}

const char *veneer_version(void)
{
	return VENEER_VERSION;
}

static void set_end(struct veneer *vm, enum veneer_end end, uint32_t value, const char *message)
{
	vm->how.end = end;
	vm->how.value = value;
	snprintf(vm->how.message, sizeof(vm->how.message), "%s", message ? message : "");
}

// A guest that panicked ends by that, even if someone stops it before it is done with its last
// words.
static void panicked(void *opaque, const char *message)
{
	struct veneer *vm = opaque;
	pthread_mutex_lock(&vm->lock);
	if (vm->state != VENEER_STATE_ENDED && !vm->panicked) {
		vm->panicked = true;
		set_end(vm, VENEER_END_PANIC, 0, message);
	}
	pthread_mutex_unlock(&vm->lock);
}

// Under the lock. The first end counts: it is kept, makes every vCPU leave and wakes whoever waits.
static void end_once(struct veneer *vm, enum veneer_end end, uint32_t value, const char *message)
{
	if (vm->state == VENEER_STATE_ENDED)
		return;
	vm->state = VENEER_STATE_ENDED;
	vm->end_ns = vn_clock_ns();
	if (!vm->panicked || end == VENEER_END_FAILED)
		set_end(vm, end, value, message);
	vm->how.kind = VENEER_EVENT_ENDED;
	vm->how.time_ns = vm->end_ns;
	for (unsigned i = 0; i < vm->parts.vcpu_count; i++)
		if (vm->parts.vcpus[i].started)
			vn_vcpu_kick(&vm->parts.vcpus[i]);
	vn_events_add(&vm->events, &vm->how);
	eventfd_write(vm->ended_fd, 1);
}

static void ended(void *opaque, enum veneer_end end, uint32_t value, const char *message)
{
	struct veneer *vm = opaque;
	char lost[VN_END_MESSAGE_MAX];
	// Whatever else the guest seems to do without that memory.
	vn_memory_describe_loss(&vm->parts.memory, lost, sizeof(lost));
	if (lost[0]) {
		end = VENEER_END_FAILED;
		message = lost;
	}
	pthread_mutex_lock(&vm->lock);
	end_once(vm, end, value, message);
	pthread_mutex_unlock(&vm->lock);
}

static int create(struct veneer *vm, const struct veneer_config *config,
	const struct veneer_hooks *hooks, struct veneer_error *error)
{
	const struct vn_parts_env env = {
		.log = &vm->log, .end = &vm->end, .progress = {hooks->progress, hooks->opaque}};
	int code = vn_events_init(&vm->events, error);
	if (code < 0)
		return code;
	vm->ended_fd = eventfd(0, EFD_CLOEXEC);
	if (vm->ended_fd < 0)
		return vn_fail(error, -errno, "no eventfd: %s", strerror(errno));
	code = vn_spec_make(&vm->spec, config, error);
	return code == 0 ? vn_parts_create(&vm->parts, &vm->spec, &env, error) : code;
}

static int take_hooks(
	struct veneer_hooks *hooks, const struct veneer_hooks *given, struct veneer_error *error)
{
	*hooks = (struct veneer_hooks){.size = sizeof(*hooks)};
	if (!given)
		return 0;
	if (given->size < HOOKS_SIZE_MIN)
		return vn_fail(error, -EINVAL,
			"the size of the hooks is %zu bytes: set it to sizeof(struct veneer_hooks)",
			given->size);
	int code = vn_sized_in(hooks, sizeof(*hooks), given, given->size);
	if (code < 0)
		return vn_fail(error, code,
			"of %zu bytes of hooks, this library knows %zu, "
			"and what follows is not zero: the program needs a later version",
			given->size, sizeof(*hooks));
	return 0;
}

static void init_locks(struct veneer *vm)
{
	pthread_condattr_t attributes;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->finish_lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->finish_changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

int veneer_create(struct veneer **result, const struct veneer_config *config,
	const struct veneer_hooks *given, struct veneer_error *error)
{
	struct veneer_hooks hooks;
	int code = take_hooks(&hooks, given, error);
	if (code < 0)
		return code;
	struct veneer *vm = calloc(1, sizeof(*vm));
	if (!vm)
		return vn_fail(error, -ENOMEM, "no memory for a guest's description");
	vm->log = (struct vn_log){hooks.message, hooks.opaque};
	vm->end = (struct vn_end_hook){ended, panicked, vm};
	vm->ended_fd = vm->events.fd = -1;
	vm->state = VENEER_STATE_CREATED;
	vn_parts_init(&vm->parts);
	init_locks(vm);
	code = create(vm, config, &hooks, error);
	if (code < 0) {
		veneer_destroy(vm);
		return code;
	}
	*result = vm;
	return 0;
}

// Under the lock.
static int refuse(const struct veneer *vm, const char *what, struct veneer_error *error)
{
	vn_fail(error, -EINVAL, "cannot %s a guest that %s", what, STATES[vm->state]);
	vn_error_set_kind(error, VENEER_ERROR_STATE);
	return -EINVAL;
}

// Under the lock, so that an end that comes meanwhile finds every vCPU to kick. A guest of which
// some vCPUs could not be started has ended.
static int start(struct veneer *vm, struct veneer_error *error)
{
	struct veneer_event event = {.kind = VENEER_EVENT_STARTED, .time_ns = vn_clock_ns()};
	struct veneer_error why = {.code = 0};
	for (unsigned i = 0; why.code == 0 && i < vm->parts.vcpu_count; i++)
		(void)vn_vcpu_start(&vm->parts.vcpus[i], &why);
	if (why.code < 0) {
		if (error)
			*error = why;
		end_once(vm, VENEER_END_FAILED, 0, why.message);
		return why.code;
	}
	vm->started = true;
	vm->state = VENEER_STATE_RUNNING;
	vm->start_ns = event.time_ns;
	vn_events_add(&vm->events, &event);
	return 0;
}

int veneer_start(struct veneer *vm, struct veneer_error *error)
{
	pthread_mutex_lock(&vm->lock);
	int code =
		vm->state == VENEER_STATE_CREATED ? start(vm, error) : refuse(vm, "start", error);
	pthread_mutex_unlock(&vm->lock);
	if (code < 0)
		return code;
	// The guest runs meanwhile, and does not wait for it.
	if (!vm->parts.memory.stays)
		vn_memory_limits_warn(&vm->parts.memory, "", &vm->log);
	return 0;
}

void veneer_stop(struct veneer *vm)
{
	ended(vm, VENEER_END_STOPPED, 0, NULL);
}

enum veneer_state veneer_get_state(struct veneer *vm)
{
	pthread_mutex_lock(&vm->lock);
	enum veneer_state state = vm->state;
	pthread_mutex_unlock(&vm->lock);
	return state;
}

int veneer_event_fd(const struct veneer *vm)
{
	return vm->events.fd;
}

// A signal handler took no lock: whoever looks does the rest.
static void end_if_memory_is_lost(struct veneer *vm)
{
	if (vn_memory_is_lost(&vm->parts.memory))
		ended(vm, VENEER_END_FAILED, 0, NULL);
}

int veneer_next_event(struct veneer *vm, struct veneer_event *event, size_t size)
{
	struct veneer_event next;
	bool any = vn_events_take(&vm->events, &next);
	// After that read, which may have taken the wake-up of a signal handler away.
	end_if_memory_is_lost(vm);
	if (!any && !vn_events_take(&vm->events, &next))
		return 0;
	vn_sized_out(event, size, &next, sizeof(next));
	return 1;
}

// Whoever waits for the end does the rest: a signal handler may take no lock.
bool veneer_handle_sigbus(struct veneer *vm, int code, void *address)
{
	const uint64_t one = 1;
	if (code < BUS_ADRERR || code > BUS_MCEERR_AO ||
		!vn_memory_replace(&vm->parts.memory, address, code))
		return false;
	int saved_errno = errno;
	ssize_t written = write(vm->ended_fd, &one, sizeof(one));
	(void)written;
	vn_events_wake(&vm->events);
	errno = saved_errno;
	return true;
}

int veneer_press_power_button(struct veneer *vm, struct veneer_error *error)
{
	int code = 0;
	pthread_mutex_lock(&vm->lock);
	if (vm->state == VENEER_STATE_RUNNING)
		vn_devices_press_power_button(vm->parts.devices);
	else
		code = refuse(vm, "press the power button of", error);
	pthread_mutex_unlock(&vm->lock);
	return code;
}

int veneer_refresh_disk(struct veneer *vm, const char *disk, struct veneer_error *error)
{
	return vn_devices_refresh(vm->parts.devices, disk, error);
}

// Until the guest has ended, or `deadline_ns` (0: none) has come: 0, or -ETIMEDOUT.
static int await_end(struct veneer *vm, uint64_t deadline_ns)
{
	struct pollfd wait = {.fd = vm->ended_fd, .events = POLLIN};
	int ready;
	do {
		uint64_t now = vn_clock_ns();
		struct timespec left = vn_clock_timespec(deadline_ns > now ? deadline_ns - now : 0);
		ready = ppoll(&wait, 1, deadline_ns ? &left : NULL, NULL);
	} while (ready < 0 && errno == EINTR);
	if (ready < 0)
		return -errno;
	if (ready == 0)
		return -ETIMEDOUT;
	end_if_memory_is_lost(vm);
	// Whoever ended it still has the lock, and looks at what finish() is about to change.
	pthread_mutex_lock(&vm->lock);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

// The vCPUs have been kicked and are about to leave; then their output is written.
static int join_and_drain(struct veneer *vm, uint64_t deadline_ns)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < vm->parts.vcpu_count; i++)
		if (vm->parts.vcpus[i].started)
			code = vn_vcpu_join(&vm->parts.vcpus[i], deadline_ns);
	return code == 0 ? vn_devices_drain(vm->parts.devices, deadline_ns) : code;
}

// Under finish_lock: wait until the thread that finishes is done, whether it succeeded or not. 0 or
// -ETIMEDOUT.
static int await_finish(struct veneer *vm, uint64_t deadline_ns)
{
	const struct timespec until = vn_clock_timespec(deadline_ns);
	int number = 0;
	while (vm->finishing && number == 0)
		number = deadline_ns ? pthread_cond_timedwait(
					       &vm->finish_changed, &vm->finish_lock, &until)
				     : pthread_cond_wait(&vm->finish_changed, &vm->finish_lock);
	return vm->finishing ? -number : 0;
}

// What comes after the end, unless it is done: by one thread at a time. When that runs out of time,
// the next one goes on. 0, or -ETIMEDOUT at `deadline_ns` (0: none).
static int finish(struct veneer *vm, uint64_t deadline_ns)
{
	pthread_mutex_lock(&vm->finish_lock);
	int code = await_finish(vm, deadline_ns);
	if (code == 0 && !vm->finished) {
		vm->finishing = true;
		pthread_mutex_unlock(&vm->finish_lock);
		code = join_and_drain(vm, deadline_ns);
		pthread_mutex_lock(&vm->finish_lock);
		vm->finishing = false;
		vm->finished = code == 0;
		pthread_cond_broadcast(&vm->finish_changed);
	}
	pthread_mutex_unlock(&vm->finish_lock);
	return code;
}

static int fail_wait(int code, int timeout_ms, struct veneer_error *error)
{
	if (code != -ETIMEDOUT)
		return vn_fail(error, code, "cannot wait for the guest's end: %s", strerror(-code));
	vn_fail(error, code, "the guest has not ended after %d ms", timeout_ms);
	vn_error_set_kind(error, VENEER_ERROR_STATE);
	return code;
}

int veneer_wait(struct veneer *vm, int timeout_ms, struct veneer_event *end, size_t size,
	struct veneer_error *error)
{
	uint64_t deadline_ns =
		timeout_ms < 0 ? 0 : vn_clock_ns() + (unsigned)timeout_ms * NS_PER_MS;
	int code = 0;
	pthread_mutex_lock(&vm->lock);
	if (vm->state == VENEER_STATE_CREATED)
		code = refuse(vm, "wait for the end of", error);
	pthread_mutex_unlock(&vm->lock);
	if (code < 0)
		return code;
	code = await_end(vm, deadline_ns);
	if (code == 0)
		code = finish(vm, deadline_ns);
	if (code < 0)
		return fail_wait(code, timeout_ms, error);
	pthread_mutex_lock(&vm->lock);
	vn_sized_out(end, end ? size : 0, &vm->how, sizeof(vm->how));
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int veneer_memory_backing(
	const struct veneer *vm, size_t cell, struct veneer_backing *backing, size_t size)
{
	if (cell >= vm->parts.memory.cell_count)
		return -EINVAL;
	const struct vn_memory_cell *from = &vm->parts.memory.cells[cell];
	const struct veneer_backing all = {.size = from->size,
		.page_size = from->page_size,
		.node = from->node,
		.transparent = from->transparent,
		.shared = from->fd >= 0};
	vn_sized_out(backing, size, &all, sizeof(all));
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
	return write_all(fd, vm->parts.dtb, vm->parts.dtb_size, "the device tree", error);
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
		vn_arena_alloc(arena, (vm->parts.vcpu_count + 1) * sizeof(*vcpus));
	if (!vcpus)
		return -ENOMEM;
	snapshot->stats.vcpus = vcpus;
	int code = vn_kvm_stats_read(vm->parts.stats_fd, arena, &snapshot->stats.kvm);
	for (unsigned i = 0; code == 0 && i < vm->parts.vcpu_count; i++)
		code = vn_vcpu_stats(&vm->parts.vcpus[i], arena, &vcpus[i]);
	if (code == 0)
		code = vn_devices_stats(vm->parts.devices, arena, &snapshot->stats.devices);
	pthread_mutex_lock(&vm->lock);
	snapshot->stats.time_ns = vn_clock_ns();
	uint64_t until = vm->state == VENEER_STATE_ENDED ? vm->end_ns : snapshot->stats.time_ns;
	snapshot->stats.running_ns = vm->started ? until - vm->start_ns : 0;
	pthread_mutex_unlock(&vm->lock);
	return code;
}

int veneer_get_stats(struct veneer *vm, struct veneer_stats **stats, struct veneer_error *error)
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
	veneer_stop(vm);
	// Output to a file is written, however long that takes; other output as long as it is
	// taken.
	if (vm->parts.devices)
		(void)finish(vm, 0);
	vn_parts_destroy(&vm->parts);
	vn_spec_free(&vm->spec);
	if (vm->ended_fd >= 0)
		close(vm->ended_fd);
	vn_events_destroy(&vm->events);
	pthread_cond_destroy(&vm->finish_changed);
	pthread_mutex_destroy(&vm->finish_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}
