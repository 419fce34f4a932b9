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

// What follows a lock is shared under it. Locks are taken in the order in which they stand here.
struct veneer {
	struct vn_log log;
	struct vn_end_hook end;
	struct vn_spec spec;
	struct vn_parts parts;
	struct vn_events events;
	int ended_fd; // an eventfd: the guest has ended, or has lost memory and is about to

	pthread_mutex_t control; // of whoever changes the state, and waits for vCPUs and devices

	// What comes after the end, and a reset after that: one thread at a time does it, others
	// wait for that, each within its limit.
	pthread_mutex_t finish_lock; // not held while it is done; never taken by a vCPU
	pthread_cond_t finish_changed; // one of these has changed
	bool finishing, finished;

	pthread_mutex_t lock;
	unsigned life; // how often it was reset after its end; changes under both of these locks
	enum veneer_state state;
	bool resetting, press_late; // a press of the power button waits for the reset
	bool panicked;
	char panic[VN_END_MESSAGE_MAX]; // what it said then
	uint64_t since_ns; // CLOCK_MONOTONIC: when it last began to run
	uint64_t ran_ns; // before that; or in all, while it does not run
	struct veneer_event how; // it ended last
};

static const char *const STATES[] = {
	[VENEER_STATE_CREATED] = "has not been started",
	[VENEER_STATE_RUNNING] = "is running",
	[VENEER_STATE_PAUSED] = "is paused",
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

// Under the lock: it stops running, if it does.
static void stop_clock(struct veneer *vm, uint64_t now)
{
	if (vm->state == VENEER_STATE_RUNNING)
		vm->ran_ns += now - vm->since_ns;
}

// A guest that panicked ends by that, even if someone stops it before it is done with its last
// words.
static void panicked(void *opaque, const char *message)
{
	struct veneer *vm = opaque;
	pthread_mutex_lock(&vm->lock);
	if (vm->state != VENEER_STATE_ENDED && !vm->panicked) {
		vm->panicked = true;
		snprintf(vm->panic, sizeof(vm->panic), "%s", message ? message : "");
	}
	pthread_mutex_unlock(&vm->lock);
}

// Under the lock: the end is kept, makes every vCPU leave and wakes whoever waits.
static void end_now(struct veneer *vm, enum veneer_end end, uint32_t value, const char *message)
{
	uint64_t now = vn_clock_ns();
	stop_clock(vm, now);
	vm->state = VENEER_STATE_ENDED;
	if (vm->panicked && end != VENEER_END_FAILED)
		set_end(vm, VENEER_END_PANIC, 0, vm->panic);
	else
		set_end(vm, end, value, message);
	vm->how.kind = VENEER_EVENT_ENDED;
	vm->how.time_ns = now;
	for (unsigned i = 0; i < vm->parts.vcpu_count; i++)
		if (vm->parts.vcpus[i].started)
			vn_vcpu_wish(&vm->parts.vcpus[i], VN_VCPU_STOP);
	vn_events_add(&vm->events, &vm->how);
	eventfd_write(vm->ended_fd, 1);
}

// Under the lock. The first end counts.
static void end_once(struct veneer *vm, enum veneer_end end, uint32_t value, const char *message)
{
	if (vm->state != VENEER_STATE_ENDED)
		end_now(vm, end, value, message);
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
	pthread_mutex_init(&vm->control, NULL);
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
	vm->state = VENEER_STATE_RUNNING;
	vm->since_ns = event.time_ns;
	vn_events_add(&vm->events, &event);
	return 0;
}

int veneer_start(struct veneer *vm, struct veneer_error *error)
{
	pthread_mutex_lock(&vm->control);
	pthread_mutex_lock(&vm->lock);
	int code =
		vm->state == VENEER_STATE_CREATED ? start(vm, error) : refuse(vm, "start", error);
	bool first = vm->life == 0;
	pthread_mutex_unlock(&vm->lock);
	pthread_mutex_unlock(&vm->control);
	if (code < 0)
		return code;
	// The guest runs meanwhile, and does not wait for it.
	if (!vm->parts.memory.stays && first)
		vn_memory_limits_warn(&vm->parts.memory, "", &vm->log);
	return 0;
}

// Join the vCPUs, which have been kicked and are about to leave. 0, or -ETIMEDOUT at `deadline_ns`
// (0: none).
static int join_vcpus(struct veneer *vm, uint64_t deadline_ns)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < vm->parts.vcpu_count; i++)
		if (vm->parts.vcpus[i].started)
			code = vn_vcpu_join(&vm->parts.vcpus[i], deadline_ns);
	return code;
}

// Under finish_lock: wait until no thread finishes this life any more, whether that succeeded or
// not, or another life has begun. 0 or -ETIMEDOUT.
static int await_finish(struct veneer *vm, unsigned life, uint64_t deadline_ns)
{
	const struct timespec until = vn_clock_timespec(deadline_ns);
	int number = 0;
	while (vm->life == life && vm->finishing && number == 0)
		number = deadline_ns ? pthread_cond_timedwait(
					       &vm->finish_changed, &vm->finish_lock, &until)
				     : pthread_cond_wait(&vm->finish_changed, &vm->finish_lock);
	return vm->life == life && vm->finishing ? -number : 0;
}

// Under finish_lock.
static void set_finishing(struct veneer *vm, bool finishing)
{
	vm->finishing = finishing;
	pthread_cond_broadcast(&vm->finish_changed);
}

// What comes after a life's end, unless it is done or another life has begun: by one thread at a
// time. When that runs out of time, the next one goes on. 0, or -ETIMEDOUT at `deadline_ns` (0:
// none).
static int finish(struct veneer *vm, unsigned life, uint64_t deadline_ns)
{
	pthread_mutex_lock(&vm->finish_lock);
	int code = await_finish(vm, life, deadline_ns);
	if (code == 0 && vm->life == life && !vm->finished) {
		set_finishing(vm, true);
		pthread_mutex_unlock(&vm->finish_lock);
		code = join_vcpus(vm, deadline_ns);
		if (code == 0)
			code = vn_devices_drain(vm->parts.devices, deadline_ns);
		pthread_mutex_lock(&vm->finish_lock);
		vm->finished = code == 0;
		set_finishing(vm, false);
	}
	pthread_mutex_unlock(&vm->finish_lock);
	return code;
}

// Under the lock.
static void wish_all(struct veneer *vm, enum vn_vcpu_wish wish)
{
	for (unsigned i = 0; i < vm->parts.vcpu_count; i++)
		vn_vcpu_wish(&vm->parts.vcpus[i], wish);
}

// Under the lock: enter a state and add its event, unless the guest has ended meanwhile.
static int enter(struct veneer *vm, enum veneer_state state, enum veneer_event_kind kind,
	const char *what, struct veneer_error *error)
{
	struct veneer_event event = {.kind = kind, .time_ns = vn_clock_ns()};
	if (vm->state == VENEER_STATE_ENDED)
		return refuse(vm, what, error);
	stop_clock(vm, event.time_ns);
	vm->state = state;
	vm->since_ns = event.time_ns;
	vn_events_add(&vm->events, &event);
	return 0;
}

// The next functions are called under the control lock and the inner one, which they give up while
// they wait. The guest may end meanwhile.

// Stop a running guest's vCPUs and devices. The devices come last: a vCPU may be in the middle of a
// register's access.
static void rest(struct veneer *vm)
{
	wish_all(vm, VN_VCPU_PAUSE);
	pthread_mutex_unlock(&vm->lock);
	for (unsigned i = 0; i < vm->parts.vcpu_count; i++)
		vn_vcpu_await_park(&vm->parts.vcpus[i]);
	vn_devices_pause(vm->parts.devices);
	pthread_mutex_lock(&vm->lock);
}

// Let devices and vCPUs of a guest that rests go on.
static int go_on(struct veneer *vm, enum veneer_event_kind kind, const char *what,
	struct veneer_error *error)
{
	pthread_mutex_unlock(&vm->lock);
	vn_parts_resume(&vm->parts, &vm->spec);
	pthread_mutex_lock(&vm->lock);
	int code = enter(vm, VENEER_STATE_RUNNING, kind, what, error);
	if (code == 0)
		wish_all(vm, VN_VCPU_RUN);
	return code;
}

// Under the lock: from here on, a press is one for the guest that has been reset.
static void press_late(struct veneer *vm)
{
	vm->resetting = false;
	if (vm->press_late)
		vn_devices_press_power_button(vm->parts.devices);
	vm->press_late = false;
}

// Reset a guest that rests and has not ended. It runs afterwards if its state is running.
static int reset_living(struct veneer *vm, struct veneer_error *error)
{
	bool running = vm->state == VENEER_STATE_RUNNING;
	pthread_mutex_unlock(&vm->lock);
	int code = vn_parts_reset(&vm->parts, &vm->spec, error);
	pthread_mutex_lock(&vm->lock);
	press_late(vm);
	if (code < 0) {
		if (vm->state != VENEER_STATE_ENDED)
			end_now(vm, VENEER_END_FAILED, 0, error->message);
		return code;
	}
	if (vm->state != VENEER_STATE_ENDED)
		vm->panicked = false;
	return running ? go_on(vm, VENEER_EVENT_RESET, "reset", error)
		       : enter(vm, VENEER_STATE_PAUSED, VENEER_EVENT_RESET, "reset", error);
}

// Under both locks. A loss of memory that a signal handler has noted meanwhile stays for
// veneer_wait().
static void begin_life(struct veneer *vm)
{
	struct veneer_event event = {.kind = VENEER_EVENT_RESET, .time_ns = vn_clock_ns()};
	eventfd_t count;
	(void)eventfd_read(vm->ended_fd, &count);
	if (vn_memory_is_lost(&vm->parts.memory))
		eventfd_write(vm->ended_fd, 1);
	vm->life++;
	vm->panicked = vm->finished = false;
	vm->state = VENEER_STATE_CREATED;
	vn_events_add(&vm->events, &event);
}

// Keep those who wait for the end from finishing it: they wait for the reset instead.
static void take_over_finish(struct veneer *vm)
{
	pthread_mutex_lock(&vm->finish_lock);
	(void)await_finish(vm, vm->life, 0);
	set_finishing(vm, true);
	pthread_mutex_unlock(&vm->finish_lock);
}

static int refuse_to_reset(const char *why, struct veneer_error *error)
{
	vn_fail(error, -EINVAL, "cannot reset a guest %s", why);
	vn_error_set_kind(error, VENEER_ERROR_STATE);
	return -EINVAL;
}

// Its loops do not come back, and the kernel may still write to its memory.
static int check_loops(const struct veneer *vm, struct veneer_error *error)
{
	return vn_devices_have_failed(vm->parts.devices)
		       ? refuse_to_reset("of which an I/O thread has failed", error)
		       : 0;
}

// The guest has ended, and no other call changes that meanwhile. It can be started again
// afterwards.
static int revive(struct veneer *vm, struct veneer_error *error)
{
	int code = check_loops(vm, error);
	if (code < 0)
		return code;
	pthread_mutex_unlock(&vm->lock);
	take_over_finish(vm);
	(void)join_vcpus(vm, 0);
	vn_devices_pause(vm->parts.devices);
	code = vn_parts_reset(&vm->parts, &vm->spec, error);
	if (code == 0)
		vn_devices_resume(vm->parts.devices); // none of which has a driver
	pthread_mutex_lock(&vm->finish_lock);
	pthread_mutex_lock(&vm->lock);
	// A loop that failed meanwhile did so in a guest that had ended; a later failure ends the
	// new life.
	if (code == 0)
		code = check_loops(vm, error);
	if (code < 0)
		end_now(vm, VENEER_END_FAILED, 0, error->message);
	else
		begin_life(vm);
	set_finishing(vm, false);
	pthread_mutex_unlock(&vm->finish_lock);
	return code;
}

// What can be refused before anything of the guest is touched. *over: it had ended before that.
static int prepare_reset(struct veneer *vm, bool *over, struct veneer_error *error)
{
	int code = 0;
	pthread_mutex_lock(&vm->lock);
	*over = vm->state == VENEER_STATE_ENDED;
	if (vm->state == VENEER_STATE_CREATED)
		code = refuse(vm, "reset", error);
	else if (vn_memory_is_lost(&vm->parts.memory))
		code = refuse_to_reset("that has lost memory", error);
	pthread_mutex_unlock(&vm->lock);
	return code == 0 ? vn_parts_prepare_boot(&vm->parts, &vm->spec, error) : code;
}

static int reset_prepared(struct veneer *vm, bool over, struct veneer_error *error)
{
	int code;
	pthread_mutex_lock(&vm->lock);
	vm->resetting = true;
	if (vm->state == VENEER_STATE_RUNNING)
		rest(vm); // meanwhile it may end
	if (over)
		code = revive(vm, error);
	else if (vm->state == VENEER_STATE_ENDED)
		code = refuse_to_reset("that ended meanwhile", error);
	else
		code = reset_living(vm, error);
	vm->resetting = vm->press_late = false;
	pthread_mutex_unlock(&vm->lock);
	if (code < 0)
		vn_parts_forget_boot(&vm->parts);
	return code;
}

int veneer_reset(struct veneer *vm, struct veneer_error *error)
{
	struct veneer_error why = {.code = 0};
	bool over;
	pthread_mutex_lock(&vm->control);
	int code = prepare_reset(vm, &over, &why);
	if (code == 0)
		code = reset_prepared(vm, over, &why);
	pthread_mutex_unlock(&vm->control);
	if (code < 0 && error)
		*error = why;
	return code;
}

int veneer_pause(struct veneer *vm, struct veneer_error *error)
{
	int code = 0;
	pthread_mutex_lock(&vm->control);
	pthread_mutex_lock(&vm->lock);
	if (vm->state == VENEER_STATE_RUNNING)
		rest(vm);
	if (vm->state == VENEER_STATE_RUNNING)
		code = enter(vm, VENEER_STATE_PAUSED, VENEER_EVENT_PAUSED, "pause", error);
	else if (vm->state != VENEER_STATE_PAUSED)
		code = refuse(vm, "pause", error);
	pthread_mutex_unlock(&vm->lock);
	pthread_mutex_unlock(&vm->control);
	return code;
}

int veneer_resume(struct veneer *vm, struct veneer_error *error)
{
	int code = 0;
	pthread_mutex_lock(&vm->control);
	pthread_mutex_lock(&vm->lock);
	if (vm->state == VENEER_STATE_PAUSED)
		code = go_on(vm, VENEER_EVENT_RESUMED, "resume", error);
	else if (vm->state != VENEER_STATE_RUNNING)
		code = refuse(vm, "resume", error);
	pthread_mutex_unlock(&vm->lock);
	pthread_mutex_unlock(&vm->control);
	return code;
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
	if (vm->state != VENEER_STATE_RUNNING)
		code = refuse(vm, "press the power button of", error);
	else if (vm->resetting)
		vm->press_late = true;
	else
		vn_devices_press_power_button(vm->parts.devices);
	pthread_mutex_unlock(&vm->lock);
	return code;
}

int veneer_refresh_disk(struct veneer *vm, const char *disk, struct veneer_error *error)
{
	return vn_devices_refresh(vm->parts.devices, disk, error);
}

// Until the guest has ended, or `deadline_ns` (0: none) has come: 0, or -ETIMEDOUT. That may be the
// end of a later life than *life, which is changed then.
static int await_end(struct veneer *vm, unsigned *life, uint64_t deadline_ns)
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
	// Whoever ended it may still have the lock, and look at what finish() is about to change.
	pthread_mutex_lock(&vm->lock);
	if (vm->state == VENEER_STATE_ENDED)
		*life = vm->life;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static int fail_wait(int code, int timeout_ms, struct veneer_error *error)
{
	if (code != -ETIMEDOUT)
		return vn_fail(error, code, "cannot wait for the guest's end: %s", strerror(-code));
	vn_fail(error, code, "the guest has not ended after %d ms", timeout_ms);
	vn_error_set_kind(error, VENEER_ERROR_STATE);
	return code;
}

// Which life's end there is to wait for, and whether it has come.
static int begin_wait(struct veneer *vm, unsigned *life, bool *over, struct veneer_error *error)
{
	pthread_mutex_lock(&vm->lock);
	int code = vm->state == VENEER_STATE_CREATED ? refuse(vm, "wait for the end of", error) : 0;
	*life = vm->life;
	*over = vm->state == VENEER_STATE_ENDED;
	pthread_mutex_unlock(&vm->lock);
	return code;
}

int veneer_wait(struct veneer *vm, int timeout_ms, struct veneer_event *end, size_t size,
	struct veneer_error *error)
{
	uint64_t deadline_ns =
		timeout_ms < 0 ? 0 : vn_clock_ns() + (unsigned)timeout_ms * NS_PER_MS;
	unsigned life;
	bool over;
	int code = begin_wait(vm, &life, &over, error);
	if (code < 0)
		return code;
	if (!over)
		code = await_end(vm, &life, deadline_ns);
	if (code == 0)
		code = finish(vm, life, deadline_ns);
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

// Write a copy: writing may block, and a reset replaces the device tree.
int veneer_write_dtb(const struct veneer *vm, int fd, struct veneer_error *error)
{
	pthread_mutex_t *control = (pthread_mutex_t *)&vm->control; // nothing that the caller knows
	pthread_mutex_lock(control);
	size_t size = vm->parts.dtb_size;
	char *copy = vm->parts.dtb ? malloc(size) : NULL;
	if (copy)
		memcpy(copy, vm->parts.dtb, size);
	pthread_mutex_unlock(control);
	int code = copy ? write_all(fd, copy, size, "the device tree", error)
			: vn_fail(error, -ENOMEM, "no memory for a copy of the device tree");
	free(copy);
	return code;
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
	snapshot->stats.running_ns = vm->ran_ns;
	snapshot->stats.state = vm->state;
	if (vm->state == VENEER_STATE_RUNNING)
		snapshot->stats.running_ns += snapshot->stats.time_ns - vm->since_ns;
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
		(void)finish(vm, vm->life, 0);
	vn_parts_destroy(&vm->parts);
	vn_spec_free(&vm->spec);
	if (vm->ended_fd >= 0)
		close(vm->ended_fd);
	vn_events_destroy(&vm->events);
	pthread_cond_destroy(&vm->finish_changed);
	pthread_mutex_destroy(&vm->finish_lock);
	pthread_mutex_destroy(&vm->lock);
	pthread_mutex_destroy(&vm->control);
	free(vm);
}
