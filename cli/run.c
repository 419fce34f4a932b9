// SPDX-License-Identifier: Apache-2.0
//
// A guest's run. The library's threads run the guest; the main thread waits here, in one poll(2),
// for the guest's end, a signal, the time limit, and what is typed.
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"
#include "cli/console.h"
#include "cli/fail.h"
#include "cli/native.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/runtime.h"
#include "cli/stats_format.h"
#include "cli/stats_server.h"
#include "cli/terminal.h"

// A press is lost in a guest whose kernel hears it while nothing in its user space does, as during
// a boot. To one that powers off already, another one means nothing.
#define PRESS_INTERVAL_NS 3000000000ull

// Why the main thread stopped the guest.
enum stop_reason { STOP_NONE, STOP_QUIT, STOP_TIMEOUT, STOP_SIGNAL };

// The main thread's.
struct run {
	const struct options *options;
	const struct veneer_placement *placement; // or NULL
	struct veneer *vm; // that runs, or NULL
	bool pressed; // its power button, by SIGTERM; then again with each tick of press_fd
	struct console console;
	char name[RUNTIME_NAME_MAX + 1];
	char identity[RUNTIME_NAME_MAX + 1]; // the name where one is given, or one at random
	struct stats_server *server; // or NULL
	struct veneer_stats *stats; // of the last life, for the end
	int signal_fd;
	int timer_fd;
	int press_fd; // a timer
	enum stop_reason stop;
	int signal; // STOP_SIGNAL
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
	complain("%s: %s", severity == VENEER_WARNING ? "warning" : "note", text);
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

// The first SIGTERM presses the power button, for a kernel that may know it, and has it pressed
// again until the guest has ended. The guest that is built in does not know it. A guest that has
// ended by itself just now, by a reset perhaps, is not started again.
static bool press_power_button(struct run *run)
{
	const struct itimerspec again = {.it_value = vn_clock_timespec(PRESS_INTERVAL_NS),
		.it_interval = vn_clock_timespec(PRESS_INTERVAL_NS)};

	if (run->pressed || !run->options->kernel || !run->vm)
		return false;
	run->pressed = true;
	(void)veneer_press_power_button(run->vm);
	timerfd_settime(run->press_fd, 0, &again, NULL);
	return true;
}

static void press_again(const struct run *run)
{
	uint64_t ticks;

	if (read(run->press_fd, &ticks, sizeof(ticks)) == sizeof(ticks))
		(void)veneer_press_power_button(run->vm);
}

static void refresh_disks(const struct run *run)
{
	struct veneer_error error = {""};

	for (size_t i = 0; run->vm && i < run->options->disk_count; i++) {
		if (veneer_refresh_disk(run->vm, i, &error) < 0)
			complain("%s", error.message);
	}
}

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
		} else if (info.ssi_signo != SIGTERM || !press_power_button(run)) {
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

// Until the guest has ended or is to be stopped.
static void watch(struct run *run, int vm_fd)
{
	while (run->stop == STOP_NONE) {
		int timeout_ms = -1;
		struct pollfd fds[4 + CONSOLE_POLL_MAX + STATS_POLL_MAX] = {
			{.fd = vm_fd, .events = POLLIN},
			{.fd = run->signal_fd, .events = POLLIN},
			{.fd = run->timer_fd, .events = POLLIN},
			{.fd = run->press_fd, .events = POLLIN},
		};
		unsigned count = 4 + console_poll(&run->console, fds + 4, &timeout_ms);
		count += stats_server_poll(run->server, fds + count);
		if (poll(fds, count, timeout_ms) < 0)
			continue; // EINTR: a stop and its end
		if (fds[0].revents)
			return;
		if (fds[1].revents)
			on_signal(run);
		if (fds[2].revents && run->stop == STOP_NONE)
			run->stop = STOP_TIMEOUT;
		if (fds[3].revents)
			press_again(run);
		if (run->stop == STOP_NONE && console_relay(&run->console) == CONSOLE_QUIT)
			run->stop = STOP_QUIT;
		stats_server_serve(run->server, run->vm);
	}
}

static struct veneer_config configure(const struct run *run, const char *cmdline)
{
	const struct options *options = run->options;
	struct veneer_config config = VENEER_CONFIG_INIT;

	config.kernel = options->kernel;
	config.initrd = options->initrd;
	config.cmdline = cmdline;
	config.cpus = options->cpus;
	config.topology = options->topology;
	config.pit = options->pit;
	config.idle = options->idle;
	config.cpu = options->cpu;
	config.tsc_khz = options->tsc_khz;
	config.halt_poll_ns = options->halt_poll_ns;
	config.placement = run->placement;
	config.memory = options->memory;
	config.cells = options->cells;
	config.cell_count = options->cell_count;
	config.disks = options->disks;
	config.disk_count = options->disk_count;
	config.nets = options->nets;
	config.net_count = options->net_count;
	config.rng = options->rng;
	config.transport = options->transport;
	config.serial_in = run->console.in;
	config.serial_out = run->console.out;
	config.message = on_message;
	config.identity = run->identity[0] ? run->identity : NULL;
	return config;
}

static void keep_stats(struct run *run)
{
	struct veneer_error error = {""};

	veneer_stats_free(run->stats);
	run->stats = NULL;
	if (run->options->stats && veneer_stats(run->vm, &run->stats, &error) < 0)
		complain("%s", error.message);
}

static void print_stats(const struct run *run)
{
	const struct stats_guest guest = {run->name, getpid()};
	char *text = run->stats ? stats_format(run->options->stats_format, &guest, run->stats, NULL)
				: NULL;

	if (text)
		fputs(text, stderr);
	free(text);
}

// The CPUs of vmm=, or NULL.
static const cpu_set_t *others_cpus(const struct run *run)
{
	static const struct veneer_cpuset none;
	const struct veneer_placement *placement = run->placement;

	if (!placement || memcmp(&placement->vmm, &none, sizeof(none)) == 0)
		return NULL;
	return (const cpu_set_t *)&placement->vmm;
}

// While the guest runs, this thread is one of the others. Before, it may use all CPUs that it has,
// to preallocate memory, and the threads that are created until then inherit these.
static int move_away(const struct run *run, cpu_set_t *before, struct veneer_error *error)
{
	const cpu_set_t *cpus = others_cpus(run);

	if (!cpus || (sched_getaffinity(0, sizeof(*before), before) == 0 &&
			     sched_setaffinity(0, sizeof(*cpus), cpus) == 0))
		return 0;
	return fail_with(error, -errno, "cannot run on the CPUs of vmm=: %s", strerror(errno));
}

// The next life begins as the first.
static void move_back(const struct run *run, const cpu_set_t *before)
{
	if (others_cpus(run))
		sched_setaffinity(0, sizeof(*before), before);
}

// One life of the guest, from power-on to its end.
static int run_once(struct run *run, const char *cmdline, struct veneer_result *result,
	struct veneer_error *error)
{
	struct veneer_config config = configure(run, cmdline);
	cpu_set_t affinity;

	config.progress = on_progress;
	config.progress_opaque = run;
	run->progress = (struct progress){.begun_ns = vn_clock_ns()};
	int ret = veneer_create(&run->vm, &config, error);
	say_progress(progress_clear(&run->progress));
	if (ret == -ECANCELED && run->stop != STOP_NONE) {
		result->end = VENEER_END_STOPPED;
		return 0;
	}
	if (ret < 0)
		return ret;
	guest_of_sigbus = run->vm;
	ret = veneer_start(run->vm, error);
	if (ret == 0)
		ret = move_away(run, &affinity, error);
	if (ret == 0) {
		watch(run, veneer_fd(run->vm));
		veneer_stop(run->vm);
		console_make_room(&run->console);
		veneer_wait(run->vm, result);
		keep_stats(run);
		move_back(run, &affinity);
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
			(double)run->options->timeout_ns / 1e9);
		return STATUS_TIMEOUT;
	case STOP_SIGNAL:
		return STATUS_SIGNAL + run->signal;
	default:
		return STATUS_OK;
	}
}

static int exit_status(const struct run *run, const struct veneer_result *result)
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

// A guest of which nobody can ask for statistics is still a guest; one whose name another has is a
// mistake.
static int open_server(struct run *run)
{
	struct veneer_error error = {""};
	const char *name = run->options->name;

	if (name)
		snprintf(run->name, sizeof(run->name), "%s", name);
	else
		snprintf(run->name, sizeof(run->name), "%d", getpid());
	int ret = stats_server_open(&run->server, run->name, &error);
	if (ret == 0)
		return 0;
	if (name && ret == -EADDRINUSE) {
		complain("--name: %s", error.message);
		return ret;
	}
	complain("warning: 'veneer stats' will not find this guest: %s", error.message);
	return 0;
}

// It outlasts --reboot, as the addresses that are made from it do. A process ID would not tell
// guests of two containers apart.
static int choose_identity(struct run *run, struct veneer_error *error)
{
	uint64_t random[2];

	if (run->options->name) {
		snprintf(run->identity, sizeof(run->identity), "%s", run->options->name);
		return 0;
	}
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return fail_with(error, -errno, "no random numbers: %s", strerror(errno));
	snprintf(run->identity, sizeof(run->identity), "%016" PRIx64 "%016" PRIx64, random[0],
		random[1]);
	return 0;
}

static int run_guest(struct run *run, const char *cmdline)
{
	struct veneer_error error = {""};
	struct veneer_result result = {0};
	int ret = choose_identity(run, &error);

	if (ret == 0)
		ret = console_open(&run->console, run->options, &error);
	if (ret < 0) {
		complain("%s", error.message);
		return STATUS_FAILED;
	}
	do {
		ret = run_once(run, cmdline, &result, &error);
	} while (ret == 0 && result.end == VENEER_END_RESET && run->options->reboot &&
		 run->stop == STOP_NONE && !run->pressed);
	console_drain(&run->console);
	console_close(&run->console);
	if (ret < 0) {
		complain("%s", error.message);
		return STATUS_FAILED;
	}
	print_stats(run);
	return exit_status(run, &result);
}

static bool is_placed(const struct options *options)
{
	static const struct veneer_placement nowhere;

	return memcmp(&options->placement, &nowhere, sizeof(nowhere)) != 0;
}

static int make_plan(
	struct veneer_plan **plan, const struct options *options, struct veneer_error *error)
{
	const struct run run = {.options = options,
		.placement = &options->placement,
		.console = {.in = -1, .out = -1}};
	const struct veneer_config config = configure(&run, NULL);

	return veneer_plan_make(plan, &config, options->pin_auto, error);
}

// What was chosen is shown where someone looks, and said in a line where it goes to a log.
static void show_choice(const struct veneer_plan *plan)
{
	if (isatty(STDERR_FILENO))
		fputs(plan->text, stderr);
	else
		complain("note: %s", plan->summary);
}

static int run_placed(struct run *run, const char *cmdline)
{
	struct veneer_plan *plan;
	struct veneer_error error;

	if (!run->options->pin_auto) {
		run->placement = is_placed(run->options) ? &run->options->placement : NULL;
		return run_guest(run, cmdline);
	}
	if (make_plan(&plan, run->options, &error) < 0) {
		complain("%s", error.message);
		return STATUS_FAILED;
	}
	show_choice(plan);
	run->placement = &plan->placement;
	int status = run_guest(run, cmdline);
	veneer_plan_free(plan);
	return status;
}

int run_command(const struct options *options)
{
	struct run run = {.options = options};
	char *cmdline = options->kernel ? NULL : native_cmdline(options);
	int status = STATUS_FAILED;

	terminal_init();
	watch_sigbus();
	run.signal_fd = open_signals();
	run.timer_fd = open_timer(options->timeout_ns);
	run.press_fd = open_timer(0); // which is never
	if (run.signal_fd < 0 || run.timer_fd < 0 || run.press_fd < 0)
		complain("no descriptor for signals or time: %s", strerror(errno));
	else if (!options->kernel && !cmdline)
		complain("out of memory");
	else if (open_server(&run) == 0)
		status = run_placed(&run, options->kernel ? options->cmdline : cmdline);
	stats_server_close(run.server);
	veneer_stats_free(run.stats);
	if (run.signal_fd >= 0)
		close(run.signal_fd);
	if (run.timer_fd >= 0)
		close(run.timer_fd);
	if (run.press_fd >= 0)
		close(run.press_fd);
	free(cmdline);
	return status;
}

static int write_dtb(const struct veneer *vm, const char *path, struct veneer_error *error)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? STDOUT_FILENO
			  : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		return fail_with(
			error, -errno, "--dump-dtb: cannot write '%s': %s", path, strerror(errno));
	int ret = veneer_write_dtb(vm, fd, error);
	if (!standard && close(fd) < 0 && ret == 0)
		ret = fail_with(
			error, -errno, "--dump-dtb: cannot write '%s': %s", path, strerror(errno));
	return ret;
}

int run_dump_dtb(const struct options *options)
{
	const struct run run = {.options = options, .console = {.in = -1, .out = -1}};
	struct veneer_config config = configure(&run, options->cmdline);
	struct veneer_error error = {""};
	struct veneer *vm;

	int ret = veneer_create(&vm, &config, &error);
	if (ret == 0) {
		ret = write_dtb(vm, options->dump_dtb, &error);
		veneer_destroy(vm);
	}
	if (ret < 0)
		complain("%s", error.message);
	return ret < 0 ? STATUS_FAILED : STATUS_OK;
}

int run_dry(const struct options *options)
{
	struct veneer_plan *plan;
	struct veneer_error error;

	if (make_plan(&plan, options, &error) < 0) {
		complain("%s", error.message);
		return STATUS_FAILED;
	}
	int status = print(plan->text);
	veneer_plan_free(plan);
	return status;
}
