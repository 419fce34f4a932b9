// SPDX-License-Identifier: Apache-2.0
//
// A guest's run. The library's threads run the guest; the main thread waits here, in one poll(2),
// for the guest's end, a signal, the time limit, and what is typed.
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpuset.h"
#include "base/error.h"
#include "base/macros.h"
#include "base/thread.h"
#include "cli/console.h"
#include "cli/control.h"
#include "cli/native.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/runtime.h"
#include "cli/server.h"
#include "cli/stats_format.h"
#include "cli/stats_server.h"
#include "cli/terminal.h"

// Why the main thread stopped the guest.
enum stop_reason {
	STOP_NONE,
	STOP_QUIT, // Ctrl-A x
	STOP_TIMEOUT,
	STOP_SIGNAL,
	STOP_ASKED, // `veneer stop`, when the guest did not power off in time
};

// The main thread's.
struct run {
	const struct options *options;
	struct veneer *vm; // that runs, or NULL
	struct console console; // if `has_console`
	bool has_console;
	char name[RUNTIME_NAME_MAX + 1];
	struct server *server; // or NULL
	struct stats_server stats_server;
	struct control control;
	struct veneer_stats *stats; // of the last end
	int signal_fd;
	int timer_fd;
	enum stop_reason stop;
	int signal; // STOP_SIGNAL
	enum veneer_end end;
	struct progress progress; // of making the guest
};

// For the handler below, which has no other way to it: the guest from its creation to its end.
static struct veneer *_Atomic guest_of_sigbus;
static struct sigaction next_sigbus;

// A page that was taken from the guest ends the guest; any other fault is for whoever was there
// before.
static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	struct veneer *vm = guest_of_sigbus;

	if (vm && veneer_handle_sigbus(vm, info->si_code, info->si_addr))
		return;
	if (next_sigbus.sa_flags & SA_SIGINFO) {
		next_sigbus.sa_sigaction(signal, info, context);
	} else {
		sigaction(SIGBUS, &next_sigbus, NULL);
		if (info->si_code <= 0)
			raise(signal);
	}
}

static void watch_sigbus(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	sigfillset(&action.sa_mask);
	sigaction(SIGBUS, &action, &next_sigbus);
}

static void on_message(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	complain("%s: %s", severity == VENEER_SEVERITY_WARNING ? "warning" : "note", text);
}

// Signals come through a descriptor. They are blocked before any thread is created, so that no
// thread takes them; one that was ignored on entry (nohup, a background job) stays ignored.
static int open_signals(void)
{
	static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGTSTP, SIGCONT};
	sigset_t watched;
	sigset_t blocked;

	sigemptyset(&watched);
	for (size_t i = 0; i < ARRAY_SIZE(handled); i++) {
		struct sigaction action;
		sigaction(handled[i], NULL, &action);
		if (action.sa_handler != SIG_IGN)
			sigaddset(&watched, handled[i]);
	}
	blocked = watched;
	sigaddset(&blocked, SIGTTOU); // restoring a terminal must not stop us half way
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); // a file too large for its limit is like a full disk
	return signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int open_timer(uint64_t ns)
{
	struct itimerspec when = {.it_value = vn_clock_timespec(ns)};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0 && timerfd_settime(fd, 0, &when, NULL) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

// Someone stops us with SIGTSTP (what is typed goes to the guest). The whole process stops, guest
// and all, with the terminal as it was.
static void suspend(void)
{
	terminal_leave();
	raise(SIGSTOP);
}

static void refresh_disks(const struct run *run)
{
	struct veneer_error error;
	char disk[24];

	for (unsigned i = 0; run->vm; i++) {
		snprintf(disk, sizeof(disk), "disk%u", i);
		if (!options_has(run->options, disk))
			return;
		if (veneer_refresh_disk(run->vm, disk, &error) < 0)
			complain("%s", error.message);
	}
}

// The first SIGTERM presses the power button, if the guest has one; the second ends the run.
static void on_signal(struct run *run)
{
	struct signalfd_siginfo info;

	while (run->stop == STOP_NONE &&
		read(run->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGTSTP) {
			suspend();
		} else if (info.ssi_signo == SIGCONT) {
			terminal_forget();
		} else if (info.ssi_signo == SIGUSR1) {
			refresh_disks(run);
		} else if (info.ssi_signo != SIGTERM || !control_press(&run->control)) {
			run->stop = STOP_SIGNAL;
			run->signal = (int)info.ssi_signo;
		}
	}
}

static void say_progress(const char *line)
{
	ssize_t written = *line ? write(STDERR_FILENO, line, strlen(line)) : 0;
	(void)written;
}

// While the guest is made, which may take as long as its memory is large.
static bool on_progress(void *opaque, uint64_t done, uint64_t total)
{
	struct run *run = opaque;
	struct pollfd fds[] = {
		{.fd = run->signal_fd, .events = POLLIN}, {.fd = run->timer_fd, .events = POLLIN}};
	char line[128];

	if (isatty(STDERR_FILENO)) {
		progress_line(&run->progress, line, vn_clock_ns(), done, total);
		say_progress(line);
	}
	if (poll(fds, 2, 0) > 0 && fds[0].revents)
		on_signal(run);
	if (fds[1].revents && run->stop == STOP_NONE)
		run->stop = STOP_TIMEOUT;
	return run->stop == STOP_NONE;
}

// Whether the guest has ended, and was not reset since. Other events are ignored.
static bool has_ended(struct veneer *vm)
{
	struct veneer_event event;

	while (veneer_next_event(vm, &event, sizeof(event)) > 0)
		if (event.kind == VENEER_EVENT_ENDED && veneer_get_state(vm) == VENEER_STATE_ENDED)
			return true;
	return false;
}

// Until the guest has ended or is to be stopped.
static void watch(struct run *run)
{
	while (run->stop == STOP_NONE) {
		int timeout_ms = -1;
		struct pollfd fds[3 + CONSOLE_POLL_MAX + SERVER_POLL_MAX] = {
			{.fd = veneer_event_fd(run->vm), .events = POLLIN},
			{.fd = run->signal_fd, .events = POLLIN},
			{.fd = run->timer_fd, .events = POLLIN},
		};
		unsigned count = 3 + console_poll(&run->console, fds + 3, &timeout_ms);
		count += server_poll(run->server, fds + count, &timeout_ms);
		control_timeout(&run->control, &timeout_ms);
		if (poll(fds, count, timeout_ms) < 0)
			continue; // EINTR: a stop and its end
		if (fds[0].revents && has_ended(run->vm))
			return;
		if (fds[1].revents)
			on_signal(run);
		if (fds[2].revents && run->stop == STOP_NONE)
			run->stop = STOP_TIMEOUT;
		if (run->stop == STOP_NONE && console_relay(&run->console) == CONSOLE_QUIT)
			run->stop = STOP_QUIT;
		server_serve(run->server);
		control_tick(&run->control);
		if (run->control.cut && run->stop == STOP_NONE)
			run->stop = STOP_ASKED;
	}
}

static void keep_stats(struct run *run)
{
	struct veneer_error error;

	veneer_stats_free(run->stats);
	run->stats = NULL;
	if (run->options->run.stats.wanted && veneer_get_stats(run->vm, &run->stats, &error) < 0)
		complain_of(&error);
}

static void print_stats(const struct run *run)
{
	const struct stats_guest guest = {run->name, getpid()};
	char *text =
		run->stats ? stats_format(run->options->run.stats.format, &guest, run->stats, NULL)
			   : NULL;

	if (text)
		fputs(text, stderr);
	free(text);
}

// The CPUs of vmm=. False: not named.
static bool others_cpus(const struct run *run, struct vn_cpuset *cpus)
{
	char *list = options_get(run->options, "cpus.vmm");
	bool named = list && vn_cpuset_parse(cpus, list, NULL) == 0;

	free(list);
	return named;
}

// While the guest runs, this thread is one of the others. Before, it may use all CPUs that it has,
// to preallocate memory, and the threads that are created until then inherit these.
static int move_away(const struct run *run, struct vn_cpuset *before, struct veneer_error *error)
{
	struct vn_cpuset cpus;

	if (!others_cpus(run, &cpus))
		return 0;
	int ret = vn_thread_cpus(before);
	if (ret == 0)
		ret = vn_thread_move(&cpus);
	return ret < 0 ? vn_fail(error, ret, "cannot run on the CPUs of vmm=: %s", strerror(-ret))
		       : 0;
}

// The next life begins as the first.
static void move_back(const struct run *run, const struct vn_cpuset *before)
{
	struct vn_cpuset cpus;

	if (others_cpus(run, &cpus))
		vn_thread_move(before);
}

static int start_and_watch(struct run *run, struct veneer_event *end, struct veneer_error *error)
{
	struct vn_cpuset affinity;

	int ret = veneer_start(run->vm, error);
	if (ret == 0)
		ret = move_away(run, &affinity, error);
	if (ret < 0)
		return ret;
	watch(run);
	veneer_stop(run->vm);
	console_make_room(&run->console);
	ret = veneer_wait(run->vm, -1, end, sizeof(*end), error);
	keep_stats(run);
	move_back(run, &affinity);
	return ret;
}

// With --reboot, a reset starts the guest again, unless someone wants it to end.
static bool is_to_reboot(const struct run *run, const struct veneer_event *end)
{
	return end->end == VENEER_END_RESET && run->options->run.reboot && run->stop == STOP_NONE &&
	       !run->control.pressed;
}

// From the guest's creation to its last end.
static int run_to_end(struct run *run, struct veneer_event *end, struct veneer_error *error)
{
	const struct veneer_hooks hooks = {.size = sizeof(hooks),
		.opaque = run,
		.message = on_message,
		.progress = on_progress};

	run->progress = (struct progress){.begun_ns = vn_clock_ns()};
	int ret = veneer_create(&run->vm, run->options->config, &hooks, error);
	say_progress(progress_clear(&run->progress));
	if (ret == -ECANCELED && run->stop != STOP_NONE) {
		*end = (struct veneer_event){.end = VENEER_END_STOPPED};
		return 0;
	}
	if (ret < 0)
		return ret;
	guest_of_sigbus = run->vm;
	ret = start_and_watch(run, end, error);
	while (ret == 0 && is_to_reboot(run, end)) {
		ret = veneer_reset(run->vm, error);
		if (ret == 0)
			ret = start_and_watch(run, end, error);
	}
	veneer_destroy(run->vm);
	guest_of_sigbus = NULL;
	run->vm = NULL;
	return ret;
}

static int stopped_status(const struct run *run)
{
	switch (run->stop) {
	case STOP_TIMEOUT:
		complain("time limit: the guest was stopped after %g s",
			(double)run->options->run.timeout_ns / 1e9);
		return STATUS_TIMEOUT;
	case STOP_SIGNAL:
		return STATUS_SIGNAL + run->signal;
	case STOP_ASKED:
		// The status of a second SIGTERM, whose form on the socket this is: a script sees
		// that the guest lost power, and a service manager that its service was stopped.
		complain("'veneer stop': the guest's power was cut");
		return STATUS_SIGNAL + SIGTERM;
	default:
		return STATUS_OK;
	}
}

static int exit_status(const struct run *run, const struct veneer_event *result)
{
	switch (result->end) {
	case VENEER_END_RESET:
		// With --reboot only a stop ends the run, also one that came just after the reset.
		return run->stop == STOP_NONE ? STATUS_OK : stopped_status(run);
	case VENEER_END_POWEROFF:
		return STATUS_OK;
	case VENEER_END_EXIT:
		if (result->value <= STATUS_GUEST_MAX)
			return (int)result->value;
		complain("the guest's exit value %" PRIu32 " (%#" PRIx32 ") is above %d",
			result->value, result->value, STATUS_GUEST_MAX);
		return STATUS_GUEST_MAX;
	case VENEER_END_CRASH:
	case VENEER_END_PANIC:
		complain("%s", result->message);
		return STATUS_CRASH;
	case VENEER_END_STOPPED:
		return stopped_status(run);
	default:
		complain("%s", result->message);
		return STATUS_FAILED;
	}
}

// A guest without a socket runs all the same; a name that another guest has is a mistake.
static int open_server(struct run *run)
{
	struct veneer_error error;
	bool named =
		veneer_config_get(run->options->config, "name", run->name, sizeof(run->name)) >= 0;

	if (!named)
		snprintf(run->name, sizeof(run->name), "%d", getpid());
	int ret = server_open(&run->server, run->name, &error);
	if (ret == 0) {
		run->stats_server = (struct stats_server){{run->name, getpid()}, &run->vm};
		server_add(run->server, stats_resources, &run->stats_server);
		server_add(run->server, control_resources, &run->control);
		return 0;
	}
	if (named && ret == -EADDRINUSE) {
		complain("--name: %s", error.message);
		return ret;
	}
	complain("warning: 'veneer list' will not find this guest: %s", error.message);
	return 0;
}

// What the serial port reads and writes.
static int connect_serial(struct run *run, struct veneer_error *error)
{
	struct veneer_config *config = run->options->config;
	int ret = 0;

	if (run->console.in >= 0)
		ret = veneer_config_set_fd(config, "serial.in", run->console.in, error);
	if (ret == 0 && run->console.out >= 0)
		ret = veneer_config_set_fd(config, "serial.out", run->console.out, error);
	return ret;
}

static void close_console(struct run *run)
{
	if (run->has_console)
		console_close(&run->console);
	run->has_console = false;
}

static int run_guest(struct run *run)
{
	struct veneer_error error;
	struct veneer_event end = {.end = VENEER_END_FAILED};

	int ret = connect_serial(run, &error);
	if (ret == 0)
		ret = run_to_end(run, &end, &error);
	console_drain(&run->console);
	close_console(run);
	if (ret < 0) {
		complain_of(&error);
		return STATUS_FAILED;
	}
	print_stats(run);
	run->end = end.end;
	return exit_status(run, &end);
}

// What is chosen is shown where someone looks, and said in a line where it goes to a log.
static int choose_cpus(const struct options *options)
{
	struct veneer_plan *plan;
	struct veneer_error error;

	if (veneer_plan_make(&plan, options->config, &error) < 0) {
		complain_of(&error);
		return STATUS_FAILED;
	}
	if (isatty(STDERR_FILENO))
		fputs(plan->text, stderr);
	else
		complain("note: %s", plan->summary);
	veneer_plan_free(plan);
	return STATUS_OK;
}

static bool is_to_choose(const struct options *options)
{
	char *pin = options_get(options, "cpus.pin");
	bool choose = pin && strcmp(pin, "auto") == 0;

	free(pin);
	return choose;
}

// The built-in guest compares itself with what is measured here.
static int add_measurements(const struct options *options)
{
	struct veneer_error error;
	char *cmdline = native_cmdline(options);
	int ret = cmdline ? veneer_config_set(options->config, "cmdline", cmdline, &error)
			  : vn_fail(&error, -ENOMEM, "out of memory");

	if (ret < 0)
		complain_of(&error);
	free(cmdline);
	return ret < 0 ? STATUS_FAILED : STATUS_OK;
}

// Properties with which a guest takes all of its memory before it starts.
static const char *const spending[] = {"memory.prealloc", "memory.lock"};

// Make the guest once without running it, or taking memory for it: what is wrong is said before
// seconds are spent on measurements, which touch memory and the disk.
static int try_guest(const struct run *run, struct veneer_error *error)
{
	struct veneer_config *config = run->options->config;
	char *before[ARRAY_SIZE(spending)];
	struct veneer *vm;

	for (size_t i = 0; i < ARRAY_SIZE(spending); i++) {
		before[i] = options_get(run->options, spending[i]);
		veneer_config_unset(config, spending[i], NULL);
	}
	int ret = veneer_create(&vm, config, NULL, error);
	if (ret == 0)
		veneer_destroy(vm);
	for (size_t i = 0; i < ARRAY_SIZE(spending); i++) {
		if (ret == 0 && before[i])
			ret = veneer_config_set(config, spending[i], before[i], error);
		free(before[i]);
	}
	return ret;
}

// Refuse a name that another guest has before anything is measured for this one.
static int check_name(const struct run *run)
{
	struct veneer_error error;
	struct server *server;
	char name[RUNTIME_NAME_MAX + 1];

	if (veneer_config_get(run->options->config, "name", name, sizeof(name)) < 0)
		return 0;
	int ret = server_open(&server, name, &error);
	if (ret == 0)
		server_close(server);
	if (ret != -EADDRINUSE)
		return 0; // open_server() warns of the rest
	complain("--name: %s", error.message);
	return ret;
}

// Seconds of it, in which signals still do what they do by default, and no time limit runs.
static int try_and_measure(const struct run *run)
{
	struct veneer_error error;

	if (options_has(run->options, "kernel") || !native_is_wanted(run->options))
		return STATUS_OK;
	if (check_name(run) < 0)
		return STATUS_FAILED;
	if (try_guest(run, &error) < 0) {
		complain_of(&error);
		return STATUS_FAILED;
	}
	return add_measurements(run->options);
}

static int open_console(struct run *run)
{
	struct veneer_error error;

	if (run->has_console)
		return STATUS_OK;
	if (console_open(&run->console, &run->options->run.serial, &error) < 0) {
		complain_of(&error);
		return STATUS_FAILED;
	}
	run->has_console = true;
	return STATUS_OK;
}

// A terminal is left as it is until the guest comes; a file that cannot be had is refused at once.
static int prepare(struct run *run)
{
	int status = STATUS_OK;

	if (run->options->run.serial.mode == SERIAL_FILE)
		status = open_console(run);
	return status == STATUS_OK ? try_and_measure(run) : status;
}

static int run_prepared(struct run *run)
{
	int status = is_to_choose(run->options) ? choose_cpus(run->options) : STATUS_OK;

	if (status == STATUS_OK)
		status = open_console(run);
	return status == STATUS_OK ? run_guest(run) : status;
}

// What GET /wait calls the ends.
static const char *const ENDS[] = {
	[VENEER_END_POWEROFF] = "poweroff",
	[VENEER_END_RESET] = "reset",
	[VENEER_END_EXIT] = "exit",
	[VENEER_END_CRASH] = "crash",
	[VENEER_END_STOPPED] = "stopped",
	[VENEER_END_FAILED] = "failed",
	[VENEER_END_PANIC] = "panic",
};

static int run_and_watch(struct run *run)
{
	int status = STATUS_FAILED;

	run->signal_fd = open_signals();
	run->timer_fd = open_timer(run->options->run.timeout_ns);
	if (run->signal_fd < 0 || run->timer_fd < 0)
		complain("no descriptor for signals or time: %s", strerror(errno));
	else if (open_server(run) == 0)
		status = run_prepared(run);
	control_end(&run->control, ENDS[run->end], status, run->server);
	server_close(run->server);
	veneer_stats_free(run->stats);
	if (run->signal_fd >= 0)
		close(run->signal_fd);
	if (run->timer_fd >= 0)
		close(run->timer_fd);
	return status;
}

int run_command(const struct options *options)
{
	struct run run = {.options = options, .end = VENEER_END_FAILED};

	// The built-in guest does not know the power button.
	run.control = (struct control){.vm = &run.vm, .has_button = options_has(options, "kernel")};
	terminal_init();
	watch_sigbus();
	int status = prepare(&run);
	if (status == STATUS_OK)
		status = run_and_watch(&run);
	close_console(&run);
	return status;
}

static int write_dtb(const struct veneer *vm, const char *path, struct veneer_error *error)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? STDOUT_FILENO
			  : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		return vn_fail(
			error, -errno, "--dump-dtb: cannot write '%s': %s", path, strerror(errno));
	int ret = veneer_write_dtb(vm, fd, error);
	if (!standard && close(fd) < 0 && ret == 0)
		ret = vn_fail(
			error, -errno, "--dump-dtb: cannot write '%s': %s", path, strerror(errno));
	return ret;
}

int run_dump_dtb(const struct options *options)
{
	// What would only cost, or be refused, for a guest that does not run.
	static const char *const unused[] = {"memory.prealloc", "memory.lock", "memory.hugepages",
		"cpus.pin", "cpus.iothreads", "cpus.vmm", "cpus.sched"};
	const struct veneer_hooks hooks = {.size = sizeof(hooks), .message = on_message};
	struct veneer_error error;
	struct veneer *vm;

	for (size_t i = 0; i < ARRAY_SIZE(unused); i++)
		veneer_config_unset(options->config, unused[i], NULL);
	int ret = veneer_create(&vm, options->config, &hooks, &error);
	if (ret == 0) {
		ret = write_dtb(vm, options->run.dump_dtb, &error);
		veneer_destroy(vm);
	}
	if (ret < 0)
		complain_of(&error);
	return ret < 0 ? STATUS_FAILED : STATUS_OK;
}

int run_dry(const struct options *options)
{
	struct veneer_plan *plan;
	struct veneer_error error;

	if (veneer_plan_make(&plan, options->config, &error) < 0) {
		complain_of(&error);
		return STATUS_FAILED;
	}
	int status = print(plan->text);
	veneer_plan_free(plan);
	return status;
}
