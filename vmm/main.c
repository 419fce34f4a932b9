// SPDX-License-Identifier: Apache-2.0
//
// The `veneer` program: a client of veneer.h. The library's threads run the guest; the main thread
// waits here, in one poll(2), for the guest's end, a signal, the time limit, and what is typed.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "veneer.h"
#include "vmm/doctor.h"
#include "vmm/fail.h"
#include "vmm/native.h"
#include "vmm/options.h"
#include "vmm/progress.h"
#include "vmm/runtime.h"
#include "vmm/stats_client.h"
#include "vmm/stats_format.h"
#include "vmm/stats_server.h"
#include "vmm/terminal.h"

// Exit statuses; the command line is a contract.
enum {
	STATUS_OK = 0,
	STATUS_WRONG = 1, // the doctor found something
	STATUS_GUEST_MAX = 119, // the guest's own value
	STATUS_CRASH = 120,
	STATUS_TIMEOUT = 124, // as timeout(1)
	STATUS_FAILED = 125,
	STATUS_SIGNAL = 128, // plus the signal's number, as a shell says it
};

static const char HELP[] =
	"veneer, a small virtual machine monitor for Linux KVM\n"
	"\n"
	"  veneer run [OPTION]...   run a guest; without --kernel, the one that is built in\n"
	"  veneer run --help        its options\n"
	"  veneer doctor            what of this host costs guests speed, and what mends it\n"
	"  veneer doctor --help     its options\n"
	"  veneer list              the guests that are running\n"
	"  veneer stats GUEST       what one of them has done so far\n"
	"  veneer stats --help      its options\n"
	"  veneer --version         the version\n"
	"  veneer --help            this help\n";

static const char RUN_HELP[] =
	"veneer run [OPTION]...\n"
	"\n"
	"What to boot\n"
	"  -k, --kernel FILE     ELF kernel or bzImage; default: the guest that is built in, "
	"which\n"
	"                        reports on CPU, memory and disk, guest beside host\n"
	"  -i, --initrd FILE     initial RAM disk\n"
	"  -a, --cmdline STRING  the kernel's command line\n"
	"\n"
	"Machine\n"
	"  -c, --cpus N[,topology=SxDxCxT][,pin=LIST|auto][,iothreads=LIST][,vmm=LIST]\n"
	"             [,sched=fifo:PRIORITY][,idle=halt|poll|mwait][,halt-poll-ns=N][,pit=on|off]\n"
	"                        1 to 64 CPUs, default 1. topology: sockets, dies of a socket, "
	"cores\n"
	"                        of a die, threads of a core; their product is N. pin: host CPUs\n"
	"                        such as 0-3,8, one for each vCPU, or pairs VCPUS:CPUS such as\n"
	"                        0:2-3,1:4; auto chooses them, and the others'. iothreads: one\n"
	"                        each for devices' threads; vmm: for all others. sched: real-time\n"
	"                        priority of vCPUs, 1 to 99. idle: what an idle CPU does. halt\n"
	"                        (default): leaves the host's CPU to others; poll: keeps it,\n"
	"                        without an exit; mwait: the same, and chooses C-states.\n"
	"                        halt-poll-ns: how long KVM waits before it lets go, in\n"
	"                        nanoseconds. pit=on adds an i8254 timer\n"
	"  --cpu MODEL[,+FEATURE][,-FEATURE]...[,tsc-khz=N]\n"
	"                        the processor that the guest sees: host (default, all that KVM\n"
	"                        offers here), baseline, x86-64-v2 to v4, or a generation such as\n"
	"                        Haswell or EPYC-Milan. ? lists models and features, and which of\n"
	"                        them run here. tsc-khz: frequency of the time-stamp counter\n"
	"  -m, --memory SIZE[,hugepages=2M|1G][,node=N][,prealloc][,lock][,merge=on|off]\n"
	"                        bytes, or with K, M, G; default 256M. hugepages: from the host's\n"
	"                        reserve, else transparent huge pages. node: this NUMA node and "
	"no\n"
	"                        other. prealloc: all of it before the start. lock: the same, and\n"
	"                        never swapped. merge: KSM may merge its pages with equal ones\n"
	"  --numa cell=N,cpus=LIST,memory=SIZE[,node=N][,hugepages=2M|1G]\n"
	"                        a NUMA cell of the guest, numbered from 0: which of its CPUs, "
	"how\n"
	"                        much of its memory, of which host node. Repeatable; all CPUs and\n"
	"                        all memory are in one of them\n"
	"  -d, --disk PATH[,readonly][,cache=MODE][,queues=N][,serial=S]\n"
	"       [,poll-us=N][,detect-zeroes=on|unmap][,iops=N[:BURST]][,bps=SIZE[:BURST]]\n"
	"       [,sqpoll=on|off][,iopoll=on|off]\n"
	"                        a raw file or block device as a virtio disk; repeatable. cache:\n"
	"                        writeback (default) uses the host's page cache, none goes around\n"
	"                        it; writethrough and directsync are the same, but complete a "
	"write\n"
	"                        when it is on the disk; unsafe is writeback that flushes "
	"nothing.\n"
	"                        queues: 1 to 16, default one per CPU up to 4. poll-us: how long\n"
	"                        at most to look for requests before sleeping, default 50, 0: not\n"
	"                        at all. detect-zeroes: writes of zeroes take no data, and with\n"
	"                        unmap no room on the host. iops, bps: at most so many requests\n"
	"                        and bytes a second, BURST at once after a pause (default a tenth\n"
	"                        of a second's worth). sqpoll: a thread of the kernel takes each\n"
	"                        queue's submissions. iopoll: completions are looked for at the\n"
	"                        device; O_DIRECT, on devices with queues for that. serial: up to\n"
	"                        20 bytes. A comma within PATH or S is written ,,\n"
	"  --net tap=NAME[,mac=M][,queues=N][,mtu=N][,vhost=on|off|auto]\n"
	"       [,pps=N[:BURST]][,bps=SIZE[:BURST]]\n"
	"                        a virtio network device on a TAP interface of the host; "
	"repeatable.\n"
	"                        vhost: the host's kernel carries the packets, auto: where\n"
	"                        /dev/vhost-net can be opened. pps, bps: at most so many packets\n"
	"                        and bytes a second, each way, without vhost\n"
	"  --net user[,mac=M][,pps=N[:BURST]][,bps=SIZE[:BURST]]\n"
	"       [,hostfwd=tcp|udp:ADDR:HOSTPORT:GUESTPORT]...\n"
	"                        or on the host's own sockets, without privileges. hostfwd: what\n"
	"                        reaches HOSTPORT of the host's ADDR goes to the guest's "
	"GUESTPORT\n"
	"  --rng on|off          a virtio source of randomness; default on with --kernel\n"
	"  --transport pci|mmio  how virtio devices are attached; default pci with --kernel\n"
	"\n"
	"Console\n"
	"  --serial stdio|none|file:PATH|pty\n"
	"                        the serial port; default stdio. pty prints its name\n"
	"                        On a terminal: Ctrl-A x quits, Ctrl-A h helps\n"
	"\n"
	"Run\n"
	"  --timeout SECONDS     stop the guest after that time; fractions are allowed\n"
	"  --reboot              start the guest again when it resets\n"
	"  --name NAME           what 'veneer list' and 'veneer stats' call the guest: letters,\n"
	"                        digits and -_. ; default: the process ID\n"
	"  --stats[=json]        at the end, print exits, requests and latencies to standard "
	"error\n"
	"  --dry-run             say which thread would run on which CPU, and do not run\n"
	"  --dump-dtb FILE       write the guest's device tree (-: standard output) and do not "
	"run\n"
	"  -h, --help            this help\n"
	"\n"
	"Signals\n"
	"  SIGTERM  presses the guest's power button, and it ends in its own time; a second one "
	"ends\n"
	"           the run. Where there is no button to press (the guest that is built in has "
	"none),\n"
	"           the first one does. SIGINT and SIGHUP end the run\n"
	"  SIGUSR1  makes Veneer look at the disks' sizes again, and tell the guest what changed\n"
	"\n"
	"Exit status\n"
	"  0        the guest switched itself off, or reset without --reboot, or Ctrl-A x\n"
	"  1 to 119 the guest's own value, through the debug-exit port (above that: 119)\n"
	"  120      the guest crashed\n"
	"  124      time limit\n"
	"  125      Veneer failed, or its arguments are wrong\n"
	"  128+N    ended by signal N\n"
	"\n"
	"Examples\n"
	"  veneer run\n"
	"  veneer run -k vmlinuz -i initrd.img -a 'console=ttyS0 root=/dev/vda' -d disk.img -m 1G\n"
	"  veneer run -k vmlinux -c 4 -m 8G,hugepages=1G,node=0,prealloc -d /dev/sdb,cache=none\n";

static const char DOCTOR_HELP[] =
	"veneer doctor [OPTION]...\n"
	"\n"
	"Looks at this host, and says of each thing that guests' speed depends on what it found; "
	"where\n"
	"that is wrong, also what it costs and the command or boot parameter that mends it. "
	"Changes\n"
	"nothing.\n"
	"\n"
	"      --json            for programs\n"
	"  -c, --cpus LIST       the CPUs meant for vCPUs, such as 2-7,10; default: those that "
	"are\n"
	"                        isolated\n"
	"  -d, --disk PATH       look at the disks under this file or device, named as for run;\n"
	"                        repeatable; default: all disks\n"
	"  -h, --help            this help\n"
	"\n"
	"Marks\n"
	"  ok, warn (it costs speed), bad (guests do not run), unknown (it cannot be read: the "
	"reason)\n"
	"\n"
	"Exit status\n"
	"  0        nothing is wrong: no warn and no bad\n"
	"  1        something is\n"
	"  125      the doctor failed, or its arguments are wrong\n";

static const char STATS_HELP[] =
	"veneer stats GUEST [OPTION]...\n"
	"\n"
	"What a running guest of this user has done since its start: exits, requests, latencies.\n"
	"GUEST is its name or process ID; without one, the same as 'veneer list'.\n"
	"\n"
	"  --json            as JSON, with every statistic that KVM has\n"
	"  --prometheus      in Prometheus' text format\n"
	"  --watch[=SECONDS] again and again, every second or so many, until the guest ends; as\n"
	"                    tables, what there was a second since the last time\n"
	"  --output FILE     to a file, which is replaced as a whole: for node_exporter's "
	"textfile\n"
	"                    collector, say\n"
	"  -h, --help        this help\n"
	"\n"
	"The same by HTTP, from the guest's socket in $XDG_RUNTIME_DIR/veneer, or /run/veneer for\n"
	"root, or /tmp/veneer-UID:\n"
	"  curl --unix-socket /run/veneer/GUEST.sock http://veneer/metrics   (or /json, /text)\n";

// Why the main thread stopped the guest.
enum stop_reason { STOP_NONE, STOP_QUIT, STOP_TIMEOUT, STOP_SIGNAL };

// The main thread's.
struct run {
	const struct options *options;
	const struct veneer_placement *placement; // or NULL
	struct veneer *vm; // that runs, or NULL
	bool pressed; // its power button, by SIGTERM
	struct console console;
	char name[RUNTIME_NAME_MAX + 1];
	struct stats_server *server; // or NULL
	struct veneer_stats *stats; // of the last life, for the end
	int signal_fd;
	int timer_fd;
	enum stop_reason stop;
	int signal; // STOP_SIGNAL
	struct progress progress; // of making the guest
};

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	char line[4096] = "veneer: ";
	size_t prefix = strlen(line);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line + prefix, sizeof(line) - prefix - 1, format, arguments);
	va_end(arguments);
	strcat(line, "\n");
	// One write, so that lines of several threads stay whole.
	ssize_t written = write(STDERR_FILENO, line, strlen(line));
	(void)written;
}

static void on_message(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	complain("%s: %s", severity == VENEER_WARNING ? "warning" : "note", text);
}

// A descriptor below 3 that is closed would be given to the next file opened, and then be written
// to as standard output.
static void open_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

// Signals come through a descriptor. They are blocked before any thread is created, so that no
// thread takes them; one that was ignored on entry (nohup, a background job) stays ignored.
static int open_signals(void)
{
	static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGTSTP, SIGCONT};
	sigset_t watched;
	sigset_t blocked;

	sigemptyset(&watched);
	for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++) {
		struct sigaction action;
		sigaction(handled[i], NULL, &action);
		if (action.sa_handler != SIG_IGN)
			sigaddset(&watched, handled[i]);
	}
	blocked = watched;
	sigaddset(&blocked, SIGTTOU); // restoring a terminal must not stop us half way
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int open_timer(uint64_t ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(ns / 1000000000),
					  .tv_nsec = (long)(ns % 1000000000)}};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd >= 0 && timerfd_settime(fd, 0, &when, NULL) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// Someone stops us with SIGTSTP (what is typed goes to the guest). The whole process stops, guest
// and all, with the terminal as it was.
static void suspend(void)
{
	terminal_leave();
	raise(SIGSTOP);
}

// The first SIGTERM presses the power button, for a kernel that may know it. The guest that is built
// in does not. A guest that has ended by itself just now, by a reset perhaps, is not started again.
static bool press_power_button(struct run *run)
{
	if (run->pressed || !run->options->kernel || !run->vm)
		return false;
	run->pressed = true;
	(void)veneer_press_power_button(run->vm);
	return true;
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
		progress_line(&run->progress, line, now_ns(), done, total);
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
		struct pollfd fds[3 + CONSOLE_POLL_MAX + STATS_POLL_MAX] = {
			{.fd = vm_fd, .events = POLLIN},
			{.fd = run->signal_fd, .events = POLLIN},
			{.fd = run->timer_fd, .events = POLLIN},
		};
		unsigned count = 3 + console_poll(&run->console, fds + 3, &timeout_ms);
		count += stats_server_poll(run->server, fds + count);
		if (poll(fds, count, timeout_ms) < 0)
			continue; // EINTR: a stop and its end
		if (fds[0].revents)
			return;
		if (fds[1].revents)
			on_signal(run);
		if (fds[2].revents && run->stop == STOP_NONE)
			run->stop = STOP_TIMEOUT;
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

// While the guest runs, this thread is one of the others. Before, it may use all CPUs that it has, to
// preallocate memory.
static int move_away(const struct veneer_placement *placement, struct veneer_error *error)
{
	static const struct veneer_cpuset none;

	if (!placement || memcmp(&placement->vmm, &none, sizeof(none)) == 0 ||
		sched_setaffinity(0, sizeof(placement->vmm), (const cpu_set_t *)&placement->vmm) ==
			0)
		return 0;
	return fail_with(error, -errno, "cannot run on the CPUs of vmm=: %s", strerror(errno));
}

// One life of the guest, from power-on to its end.
static int run_once(struct run *run, const char *cmdline, struct veneer_result *result,
	struct veneer_error *error)
{
	struct veneer_config config = configure(run, cmdline);

	config.progress = on_progress;
	config.progress_opaque = run;
	run->progress = (struct progress){.begun_ns = now_ns()};
	int ret = veneer_create(&run->vm, &config, error);
	say_progress(progress_clear(&run->progress));
	if (ret == -ECANCELED && run->stop != STOP_NONE) {
		result->end = VENEER_END_STOPPED;
		return 0;
	}
	if (ret < 0)
		return ret;
	ret = move_away(run->placement, error);
	if (ret == 0)
		ret = veneer_start(run->vm, error);
	if (ret == 0) {
		watch(run, veneer_fd(run->vm));
		veneer_stop(run->vm);
		veneer_wait(run->vm, result);
		keep_stats(run);
	}
	veneer_destroy(run->vm);
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

static int run_guest(struct run *run, const char *cmdline)
{
	struct veneer_error error = {""};
	struct veneer_result result = {0};
	int ret = console_open(&run->console, run->options, &error);

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

static int run_command(const struct options *options)
{
	struct run run = {.options = options};
	char *cmdline = options->kernel ? NULL : native_cmdline(options);
	int status = STATUS_FAILED;

	terminal_init();
	run.signal_fd = open_signals();
	run.timer_fd = open_timer(options->timeout_ns);
	if (run.signal_fd < 0 || run.timer_fd < 0)
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

static int dump_dtb(const struct options *options)
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

static int print(const char *text)
{
	if (fputs(text, stdout) >= 0 && fflush(stdout) == 0)
		return STATUS_OK;
	complain("cannot write to standard output: %s", strerror(errno));
	return STATUS_FAILED;
}

static int dry_run(const struct options *options)
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

static int print_version(void)
{
	char line[64];

	snprintf(line, sizeof(line), "veneer %s\n", veneer_version());
	return print(line);
}

static int run_doctor(const struct options *options)
{
	int wrong = doctor_run(options);

	if (wrong >= 0)
		return wrong > 0 ? STATUS_WRONG : STATUS_OK;
	if (wrong == -ENOMEM)
		complain("out of memory");
	else
		complain("cannot write to standard output: %s", strerror(-wrong));
	return STATUS_FAILED;
}

static int list_cpu_models(void)
{
	struct veneer_error error;

	if (veneer_cpu_models(STDOUT_FILENO, &error) == 0)
		return STATUS_OK;
	complain("%s", error.message);
	return STATUS_FAILED;
}

static int list_guests(void)
{
	struct veneer_error error = {""};

	if (stats_client_list(&error) == 0)
		return STATUS_OK;
	complain("%s", error.message);
	return STATUS_FAILED;
}

static int show_stats(const struct stats_query *query)
{
	struct veneer_error error = {""};
	int ret = stats_client_show(query, &error);

	if (ret < 0)
		complain("%s", error.message);
	else if (ret > 0)
		complain("guest '%s' has ended", query->guest);
	return ret < 0 ? STATUS_FAILED : STATUS_OK;
}

static int act(const struct options *options)
{
	switch (options->action) {
	case ACTION_HELP:
		return print(HELP);
	case ACTION_RUN_HELP:
		return print(RUN_HELP);
	case ACTION_VERSION:
		return print_version();
	case ACTION_DOCTOR_HELP:
		return print(DOCTOR_HELP);
	case ACTION_DOCTOR:
		return run_doctor(options);
	case ACTION_CPU_MODELS:
		return list_cpu_models();
	case ACTION_STATS_HELP:
		return print(STATS_HELP);
	case ACTION_STATS:
		return show_stats(&options->query);
	case ACTION_LIST:
		return list_guests();
	default:
		return options->dry_run    ? dry_run(options)
		       : options->dump_dtb ? dump_dtb(options)
					   : run_command(options);
	}
}

int main(int argc, char *argv[])
{
	struct veneer_error error;
	struct options options;
	int status = STATUS_FAILED;

	open_standard_descriptors();
	if (options_parse(&options, argc, argv, &error) < 0)
		complain("%s", error.message);
	else
		status = act(&options);
	options_free(&options);
	return status;
}
