// SPDX-License-Identifier: Apache-2.0
//
// The program from outside. Its path is the first argument; the second is the built-in guest,
// as a file, to be started as a named kernel. A small stand-in for a shell starts it on a
// pseudo-terminal, so that job control is real and the terminal's modes can be looked at after the
// program is gone. What needs a guest is skipped where there is no /dev/kvm.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGS_MAX 12
#define LIMIT_MS 60000 // for what must happen; no test waits that long unless it fails

static const char *program;
static const char *guest;

static void need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		print_message("# no usable /dev/kvm: %s\n", strerror(errno));
		skip();
	}
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

// What this program inherits, its children would: signals that nohup, a script's background job or
// a service manager ignores, and a mask.
static void use_default_signals(void)
{
	sigset_t empty;

	for (int signal_number = 1; signal_number <= SIGRTMAX; signal_number++)
		signal(signal_number, SIG_DFL); // fails for a few, which cannot be ignored
	sigemptyset(&empty);
	sigprocmask(SIG_SETMASK, &empty, NULL);
}

static void exec_as_is(const char *const *arguments)
{
	const char *argv[ARGS_MAX + 2] = {program};
	struct rlimit none = {0, 0};

	for (int i = 0; i < ARGS_MAX && arguments[i]; i++)
		argv[i + 1] = arguments[i];
	setrlimit(RLIMIT_CORE, &none);
	execv(program, (char *const *)(uintptr_t)argv);
	_exit(99);
}

static void exec_program(const char *const *arguments)
{
	use_default_signals();
	exec_as_is(arguments);
}

// Part one: without a terminal.

struct outcome {
	int status; // as waitpid() gives it
	char out[65536];
	char err[4096];
};

static void slurp(FILE *file, char *text, size_t size)
{
	rewind(file);
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
}

// What takes far too long is killed, and so fails by its status.
static void await_end(pid_t pid, int *status)
{
	pid_t ended = 0;

	for (int i = 0; i < 2 * LIMIT_MS / 5 && ended == 0; i++) {
		ended = waitpid(pid, status, WNOHANG);
		if (ended == 0)
			nap();
	}
	if (ended == 0) {
		kill(pid, SIGKILL);
		ended = waitpid(pid, status, 0);
	}
	assert_int_equal(ended, pid);
}

// Run with `input` on standard input, which is /dev/null when NULL.
static struct outcome *run(const char *input, const char *const *arguments)
{
	static struct outcome outcome;
	FILE *in = tmpfile(), *out = tmpfile(), *err = tmpfile();

	assert_true(in && out && err);
	if (input)
		fputs(input, in);
	rewind(in);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fileno(in), 0);
		dup2(fileno(out), 1);
		dup2(fileno(err), 2);
		exec_program(arguments);
	}
	await_end(pid, &outcome.status);
	fclose(in);
	slurp(out, outcome.out, sizeof(outcome.out));
	slurp(err, outcome.err, sizeof(outcome.err));
	return &outcome;
}

#define RUN(input, ...) run(input, (const char *const[]){__VA_ARGS__, NULL})

static void expect_exit(const struct outcome *outcome, int status)
{
	if (!WIFEXITED(outcome->status) || WEXITSTATUS(outcome->status) != status)
		fail_msg("ended with %#x, not exit status %d: %s", (unsigned)outcome->status,
			status, outcome->err);
}

static void test_help(void **state)
{
	(void)state;
	const char *const nothing[] = {NULL};
	struct outcome *outcome = run(NULL, nothing);
	expect_exit(outcome, 125);
	assert_non_null(strstr(outcome->err, "veneer run"));
	assert_string_equal(outcome->out, "");
	static const char *const commands[] = {"run", "doctor", "list", "stats", "pause", "resume",
		"reset", "stop", "wait", "version"};
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		outcome = RUN(NULL, "help", commands[i]);
		expect_exit(outcome, 0);
		assert_non_null(strstr(outcome->out, commands[i]));
		char help[sizeof(outcome->out)];
		memcpy(help, outcome->out, sizeof(help));
		outcome = RUN(NULL, commands[i], "--help");
		expect_exit(outcome, 0);
		assert_string_equal(outcome->out, help);
	}
	outcome = RUN(NULL, "--help");
	expect_exit(outcome, 0);
	assert_non_null(strstr(outcome->out, "veneer run"));
	assert_string_equal(outcome->err, "");
	outcome = RUN(NULL, "run", "--help");
	expect_exit(outcome, 0);
	assert_string_equal(outcome->err, "");
	assert_non_null(strstr(outcome->out, "--kernel")); // all: options.sh
	outcome = RUN(NULL, "doctor", "--help");
	expect_exit(outcome, 0);
	assert_string_equal(outcome->err, "");
	assert_non_null(strstr(outcome->out, "--json") && strstr(outcome->out, "--cpus") &&
			strstr(outcome->out, "--disk"));
	outcome = RUN(NULL, "--version");
	expect_exit(outcome, 0);
	assert_string_equal(outcome->out, "veneer " VENEER_VERSION "\n");
}

// The unit test of the options has every case; here, that they reach the user.
static void test_bad_arguments(void **state)
{
	static const struct {
		const char *arguments[4];
		const char *names;
	} cases[] = {
		{{"walk"}, "'walk'"},
		{{"run", "--bogus"}, "'--bogus'"},
		{{"doctor", "--bogus"}, "'--bogus'"},
		{{"doctor", "-c", "x"}, "'x'"},
		{{"doctor", "-c", "1020-1023"}, "CPU 1020-1023 is not online: 0"},
		{{"doctor", "here"}, "'here'"},
		{{"run", "-k"}, "'-k'"},
		{{"run", "-hda", "foo"}, "'-hda'"},
		{{"run", "--memroy", "1G"}, "'--memory'"},
		{{"help", "walk"}, "'walk'"},
		{{"run", "vmlinuz"}, "'vmlinuz'"},
		{{"run", "-c", "0"}, "'0'"},
		{{"run", "-c", "1,pit=no"}, "'no'"},
		{{"run", "-m", "1X"}, "'1X'"},
		{{"run", "-m", "1G,huge"}, "'huge'"},
		{{"run", "-d", "x,cache=fast"}, "'fast'"},
		{{"run", "--net", "wifi"}, "'wifi'"},
		{{"run", "--rng", "maybe"}, "'maybe'"},
		{{"run", "--transport", "isa"}, "'isa'"},
		{{"run", "--serial", "usb"}, "'usb'"},
		{{"run", "--timeout", "soon"}, "'soon'"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct outcome *outcome = run(NULL, cases[i].arguments);
		const char *newline = strchr(outcome->err, '\n');
		expect_exit(outcome, 125);
		if (strncmp(outcome->err, "veneer: ", 8) != 0 ||
			!strstr(outcome->err, cases[i].names) || !newline || newline[1] ||
			outcome->out[0])
			fail_msg("for %s: '%s'", cases[i].names, outcome->err);
	}
}

static void test_full_output(void **state)
{
	static const char *const cases[][3] = {
		{"--version", NULL}, {"doctor", NULL}, {"doctor", "--json", NULL}};
	int status;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			dup2(open("/dev/full", O_WRONLY), 1);
			dup2(open("/dev/null", O_WRONLY), 2);
			exec_program(cases[i]);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 125);
	}
}

static void test_exit_statuses(void **state)
{
	(void)state;
	need_kvm();
	expect_exit(RUN(NULL, "run", "-a", "exit=0"), 0);
	expect_exit(RUN(NULL, "run", "-a", "exit=119"), 119);
	struct outcome *outcome = RUN(NULL, "run", "-a", "exit=120");
	expect_exit(outcome, 119);
	assert_non_null(strstr(outcome->err, "120"));
	expect_exit(RUN(NULL, "run", "-a", "poweroff"), 0);
	expect_exit(RUN(NULL, "run", "-a", "reset"), 0);
	outcome = RUN(NULL, "run", "-a", "triple");
	expect_exit(outcome, 120);
	assert_non_null(strstr(outcome->err, "triple fault"));
	outcome = RUN(NULL, "run", "--timeout", "0.2", "-a", "spin");
	expect_exit(outcome, 124);
	assert_non_null(strstr(outcome->err, "0.2 s"));
}

// Whoever finds what is wrong, when the options are read or when the guest is made.
static void test_messages_name_the_option(void **state)
{
	static const struct {
		const char *arguments[6];
		const char *begins;
	} cases[] = {
		{{"run", "-k", "/nonexistent"}, "--kernel: /nonexistent: No such file"},
		{{"run", "-k", "/etc/passwd"}, "--kernel: /etc/passwd: neither an ELF kernel"},
		{{"run", "-i", "/nonexistent"}, "--initrd: /nonexistent: No such file"},
		{{"run", "-d", "/nonexistent"}, "--disk /nonexistent: No such file"},
		{{"run", "-m", "64M,node=1023"}, "--memory: node=1023: the host has no such"},
		{{"run", "-m", "3M"}, "--memory: '3M' is less than 4M"},
		{{"run", "-c", "1,pin=1023"}, "--cpus: "},
		{{"run", "-a", "exit=0", "--serial", "file:/nonexistent/x"},
			"--serial: cannot write '/nonexistent/x': No such file"},
		{{"run", "--dump-dtb", "/nonexistent/x"},
			"--dump-dtb: cannot write '/nonexistent/x': No such file"},
		{{"run", "--config-file", "/nonexistent"},
			"--config-file: cannot read '/nonexistent': No such file"},
	};

	(void)state;
	need_kvm();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct outcome *outcome = run(NULL, cases[i].arguments);
		expect_exit(outcome, 125);
		if (strncmp(outcome->err + strlen("veneer: "), cases[i].begins,
			    strlen(cases[i].begins)) != 0)
			fail_msg("not '%s': '%s'", cases[i].begins, outcome->err);
	}
}

// Whatever this host is: every check is there, the exit status says whether one is wrong, and jq
// reads the same from the JSON.
static void test_doctor(void **state)
{
	static const char *const checks[] = {"kernel", "kvm", "virtualization", "bare-metal",
		"paging", "unrestricted-guest", "vpid", "apicv", "posted-interrupts", "tsc",
		"tsc-scaling", "cpus", "isolcpus", "nohz_full", "rcu_nocbs", "smt", "interrupts",
		"governor", "c-states", "mitigations", "huge-pages", "thp", "ksm", "numa-balancing",
		"swap", "memlock", "io_uring", "disk", "vhost-net", "vfio"};

	(void)state;
	struct outcome *outcome = RUN(NULL, "doctor", "--disk", program);
	size_t wrong;
	const char *summary = strstr(outcome->out, " checks, ");
	assert_non_null(summary);
	assert_int_equal(sscanf(summary, " checks, %zu wrong", &wrong), 1);
	expect_exit(outcome, wrong > 0);
	assert_string_equal(outcome->err, "");
	assert_null(strchr(outcome->out, '\033'));
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		if (!strstr(outcome->out, checks[i]))
			fail_msg("no check '%s' in: %s", checks[i], outcome->out);
	}

	outcome = RUN(NULL, "doctor", "--json", "--disk", program);
	expect_exit(outcome, wrong > 0);
	FILE *jq = popen("jq -e '.wrong == ([.checks[] | select(.status == \"warn\" "
			 "or .status == \"bad\")] | length) "
			 "and (.checks | length) >= 30 "
			 "and ([.checks[] | select(.found == null)] | length) == 0' >/dev/null",
		"w");
	assert_non_null(jq);
	fputs(outcome->out, jq);
	assert_int_equal(pclose(jq), 0);
}

static void test_piped_input(void **state)
{
	(void)state;
	need_kvm();
	// No key is an escape here.
	struct outcome *outcome =
		RUN("one\n\x01x\ntwo words\nquit\n", "run", "-a", "echo", "--timeout", "60");
	expect_exit(outcome, 0);
	assert_non_null(strstr(outcome->out, "ONE\n\x01X\nTWO WORDS\n"));
}

static void test_dump_dtb(void **state)
{
	(void)state;
	need_kvm();
	struct outcome *outcome = RUN(NULL, "run", "--dump-dtb", "-");
	expect_exit(outcome, 0);
	assert_memory_equal(outcome->out, "\xd0\x0d\xfe\xed", 4);
}

// A log of the guest's, with what an earlier run left in it; `argument` names it. Skips without
// KVM.
struct log {
	char path[64];
	char argument[80];
	int fd;
};

static struct log make_log(const char *text)
{
	struct log log = {.path = "/tmp/veneer-serial-XXXXXX"};

	need_kvm();
	log.fd = mkstemp(log.path);
	assert_int_equal(write(log.fd, text, strlen(text)), strlen(text));
	snprintf(log.argument, sizeof(log.argument), "file:%s", log.path);
	return log;
}

static void remove_log(const struct log *log)
{
	close(log->fd);
	unlink(log->path);
}

static void test_serial_file(void **state)
{
	struct log log = make_log("before\n");
	char text[64] = "";

	(void)state;
	struct outcome *outcome = RUN(NULL, "run", "-a", "flood=64", "--serial", log.argument);
	expect_exit(outcome, 0);
	assert_string_equal(outcome->out, "");
	assert_int_equal(lseek(log.fd, 0, SEEK_END), 7 + (64 << 10));
	assert_true(pread(log.fd, text, 27, 0) == 27);
	assert_memory_equal(text, "before\nflood 0000000000 of ", 27);
	remove_log(&log);
}

static void await_size(int fd, off_t size)
{
	for (int i = 0; i < LIMIT_MS / 5 && lseek(fd, 0, SEEK_END) < size; i++)
		nap();
	assert_true(lseek(fd, 0, SEEK_END) >= size);
}

// A rotator copies the log and truncates it.
static void test_serial_file_truncated(void **state)
{
	struct log log = make_log("before\n");
	char byte = '\0';

	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		dup2(open("/dev/null", O_RDWR), 2);
		exec_program((const char *const[]){
			"run", "--reboot", "-a", "reset", "--serial", log.argument, NULL});
	}
	await_size(log.fd, 8);
	assert_int_equal(ftruncate(log.fd, 0), 0);
	await_size(log.fd, 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(pread(log.fd, &byte, 1, 0), 1);
	remove_log(&log);
	assert_int_not_equal(byte, '\0');
}

// A device that is always full: the guest ends as ever, and two lines say what was lost.
static void test_serial_full(void **state)
{
	(void)state;
	need_kvm();
	struct outcome *outcome = RUN(NULL, "run", "-a", "flood=64", "--serial", "file:/dev/full");
	expect_exit(outcome, 0);
	assert_string_equal(outcome->err,
		"veneer: warning: serial port: output is lost from now on: "
		"No space left on device\n"
		"veneer: warning: serial port: 65536 bytes of output were lost: "
		"No space left on device\n");
}

// Output and messages go to a file that may not grow to hold them: no signal ends the program.
static void test_file_size_limit(void **state)
{
	int status;

	(void)state;
	need_kvm();
	FILE *file = tmpfile();
	pid_t pid = fork();
	if (pid == 0) {
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, 1000});
		dup2(fileno(file), 1);
		dup2(fileno(file), 2);
		exec_program((const char *const[]){"run", "-a", "flood=64", "--stats", NULL});
	}
	await_end(pid, &status);
	assert_int_equal(lseek(fileno(file), 0, SEEK_END), 1000);
	fclose(file);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// A FIFO with nobody at its other end: refused as a disk and as the serial port, not waited for.
static void test_fifos(void **state)
{
	char path[] = "/tmp/veneer-fifo-XXXXXX";
	char argument[64];

	(void)state;
	need_kvm();
	close(mkstemp(path));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	snprintf(argument, sizeof(argument), "file:%s", path);
	const struct {
		const char *arguments[6];
		const char *says;
	} cases[] = {
		{{"run", "-a", "blk", "-d", path}, "neither a file nor a block device"},
		{{"run", "-a", "exit=0", "--serial", argument}, "nobody reads"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct outcome *outcome = run(NULL, cases[i].arguments);
		if (!WIFEXITED(outcome->status) || WEXITSTATUS(outcome->status) != 125 ||
			!strstr(outcome->err, cases[i].says))
			fail_msg("%s: ended with %#x: '%s'", cases[i].says,
				(unsigned)outcome->status, outcome->err);
	}
	unlink(path);
}

// Files must not land on the descriptors that the shell closed, where output would follow them.
static void test_closed_descriptors(void **state)
{
	char path[64];
	char target[64] = "";
	int started[2];

	(void)state;
	need_kvm();
	assert_int_equal(pipe2(started, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		for (int fd = 0; fd < 3; fd++)
			close(fd);
		exec_program((const char *const[]){"run", "-a", "spin", NULL});
	}
	close(started[1]);
	assert_int_equal(read(started[0], target, 1), 0); // closed by the program's start
	close(started[0]);
	// Whatever is opened first lands on 0, and so on; the last of them being there, look.
	for (int fd = 2; fd >= 0; fd--) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		memset(target, 0, sizeof(target));
		for (int i = 0; i < LIMIT_MS / 5 && readlink(path, target, sizeof(target) - 1) < 0;
			i++)
			nap();
		if (strcmp(target, "/dev/null") != 0)
			break;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_string_equal(target, "/dev/null");
}

// nohup: a signal that was ignored on entry stays ignored.
static void test_ignored_signal(void **state)
{
	int status;
	int out[2];
	char byte;

	(void)state;
	need_kvm();
	assert_int_equal(pipe(out), 0);
	pid_t pid = fork();
	if (pid == 0) {
		use_default_signals();
		signal(SIGHUP, SIG_IGN);
		dup2(out[1], 1);
		dup2(open("/dev/null", O_RDWR), 2);
		exec_as_is((const char *const[]){"run", "-a", "spin", NULL});
	}
	assert_int_equal(read(out[0], &byte, 1), 1); // it runs
	kill(pid, SIGHUP); // which would be taken first
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	close(out[0]);
	close(out[1]);
}

// Part two: on a terminal.

struct job {
	int master; // our side of the terminal
	pid_t shell; // leader of its session; reports what becomes of the program
	pid_t pid; // the program
	int reports; // from the shell: a wait status each
	int commands; // to the shell: 'f' brings the program to the foreground and continues it
	struct termios before;
	char text[65536]; // all that appeared on the terminal
	size_t length;
};

static void shell_foreground(pid_t pid)
{
	tcsetpgrp(0, pid);
	kill(pid, SIGCONT);
}

// The stand-in for a shell. It leaves only when told, since the terminal's modes go with it.
static void shell(const char *const *arguments, bool background, int reports, int commands)
{
	char command;
	int status;

	signal(SIGTTOU, SIG_IGN);
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		if (!background)
			tcsetpgrp(0, getpid());
		signal(SIGTTOU, SIG_DFL);
		exec_program(arguments);
	}
	setpgid(pid, pid);
	if (write(reports, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
	if (background && read(commands, &command, 1) == 1)
		tcsetpgrp(0, pid);
	for (;;) {
		if (waitpid(pid, &status, WUNTRACED) != pid)
			_exit(1);
		tcsetpgrp(0, getpid());
		if (write(reports, &status, sizeof(status)) != sizeof(status))
			_exit(1);
		bool more = read(commands, &command, 1) == 1;
		if (!more || !WIFSTOPPED(status))
			_exit(0);
		shell_foreground(pid);
	}
}

static struct job *start(bool background, const char *const *arguments)
{
	static struct job job;
	int reports[2], commands[2];
	int slave;

	job = (struct job){0};
	assert_int_equal(openpty(&job.master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(pipe2(reports, O_CLOEXEC), 0);
	assert_int_equal(pipe2(commands, O_CLOEXEC), 0);
	fcntl(job.master, F_SETFD, FD_CLOEXEC);
	assert_int_equal(tcgetattr(slave, &job.before), 0);
	job.shell = fork();
	assert_true(job.shell >= 0);
	if (job.shell == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(commands[1]);
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		for (int fd = 0; fd < 3; fd++)
			dup2(slave, fd);
		close(slave);
		shell(arguments, background, reports[1], commands[0]);
	}
	close(slave);
	close(reports[1]);
	close(commands[0]);
	job.reports = reports[0];
	job.commands = commands[1];
	assert_int_equal(read(job.reports, &job.pid, sizeof(job.pid)), sizeof(job.pid));
	return &job;
}

#define START(...)      start(false, (const char *const[]){__VA_ARGS__, NULL})
#define BACKGROUND(...) start(true, (const char *const[]){__VA_ARGS__, NULL})

static void collect(struct job *job)
{
	struct pollfd pfd = {.fd = job->master, .events = POLLIN};

	if (poll(&pfd, 1, 10) <= 0 || !(pfd.revents & POLLIN))
		return;
	ssize_t got =
		read(job->master, job->text + job->length, sizeof(job->text) - 1 - job->length);
	if (got > 0)
		job->length += (size_t)got;
	job->text[job->length] = '\0';
}

static void await_text(struct job *job, const char *text)
{
	for (int i = 0; i < LIMIT_MS / 10; i++) {
		if (strstr(job->text, text))
			return;
		collect(job);
	}
	fail_msg("no '%s' on the terminal, but '%s'", text, job->text);
}

static bool same_modes(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

static bool is_raw(const struct job *job)
{
	struct termios now;

	assert_int_equal(tcgetattr(job->master, &now), 0);
	return !(now.c_lflag & (ICANON | ECHO | ISIG));
}

static void assert_restored(const struct job *job)
{
	struct termios now;

	assert_int_equal(tcgetattr(job->master, &now), 0);
	assert_true(same_modes(&now, &job->before));
}

static void await_raw(struct job *job)
{
	for (int i = 0; i < LIMIT_MS / 10 && !is_raw(job); i++)
		collect(job);
	assert_true(is_raw(job));
}

static void type(struct job *job, const char *keys)
{
	assert_int_equal(write(job->master, keys, strlen(keys)), strlen(keys));
}

// What the shell says next about the program.
static int await_report(struct job *job)
{
	struct pollfd pfd = {.fd = job->reports, .events = POLLIN};
	int status;

	for (int i = 0; i < LIMIT_MS / 10; i++) {
		if (poll(&pfd, 1, 0) > 0) {
			assert_int_equal(
				read(job->reports, &status, sizeof(status)), sizeof(status));
			return status;
		}
		collect(job);
	}
	kill(job->pid, SIGKILL);
	fail_msg("the program neither ended nor stopped; on the terminal: '%s'", job->text);
	return 0;
}

static void finish(struct job *job)
{
	close(job->commands);
	close(job->reports);
	waitpid(job->shell, NULL, 0);
	close(job->master);
}

static bool died_of(int status, int signal)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == signal)
		return true;
// Either takes over, reports, and exits by itself.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return WIFEXITED(status) && WEXITSTATUS(status) != 0;
#else
	return false;
#endif
}

static void expect_death(struct job *job, int signal)
{
	int status = await_report(job);

	assert_restored(job);
	if (!died_of(status, signal))
		fail_msg("signal %d: ended with %#x; on the terminal: '%s'", signal,
			(unsigned)status, job->text);
	finish(job);
}

static void expect_end(struct job *job, int exit_status)
{
	int status = await_report(job);

	assert_restored(job);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != exit_status)
		fail_msg("ended with %#x, not exit status %d; on the terminal: '%s'",
			(unsigned)status, exit_status, job->text);
	finish(job);
}

static void test_reboot(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = START("run", "--reboot", "-a", "reset");
	await_text(job, "reset\r\nreset\r\n");
	kill(job->pid, SIGTERM);
	expect_death(job, SIGTERM);
}

static bool is_one_of(int signal, const int *signals)
{
	while (*signals && *signals != signal)
		signals++;
	return *signals;
}

// Whatever ends the program gives the terminal back, and is what the program dies of.
static void test_terminal_signals(void **state)
{
	static const int harmless[] = {SIGUSR1, SIGCONT, SIGCHLD, SIGURG, SIGWINCH, SIGPIPE,
		SIGXFSZ, SIGTTIN, SIGTTOU, SIGTSTP, SIGSTOP, SIGKILL, 0};

	(void)state;
	need_kvm();
	for (int signal = 1; signal <= SIGRTMAX; signal++) {
		bool reserved = signal > SIGSYS && signal < SIGRTMIN;
		bool like_another = signal > SIGRTMIN && signal < SIGRTMAX;
		if (is_one_of(signal, harmless) || reserved || like_another)
			continue;
		struct job *job = START("run", "-a", "spin");
		await_text(job, "spin: for ever");
		await_raw(job);
		kill(job->pid, signal);
		expect_death(job, signal);
	}
}

// And what does not end it leaves it raw.
static void test_harmless_signals(void **state)
{
	static const int harmless[] = {SIGUSR1, SIGCHLD, SIGURG, SIGWINCH, SIGPIPE, SIGXFSZ};

	(void)state;
	need_kvm();
	struct job *job = START("run", "-a", "echo");
	await_text(job, "ready");
	await_raw(job);
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		kill(job->pid, harmless[i]);
	type(job, "alive\r");
	await_text(job, "ALIVE");
	assert_true(is_raw(job));
	type(job, "\x01x");
	expect_end(job, 0);
}

// The kernel's own, which nobody sent.
static void test_cpu_limit(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = START("run", "-a", "spin");
	await_text(job, "spin: for ever");
	await_raw(job);
	assert_int_equal(
		prlimit(job->pid, RLIMIT_CPU, &(struct rlimit){1, RLIM_INFINITY}, NULL), 0);
	expect_death(job, SIGXCPU);
}

// A named kernel may know the power button: the first SIGTERM presses it, the second one ends the
// run. This one does not know it, and goes on.
static void test_power_button(void **state)
{
	(void)state;
	need_kvm();
	struct job *job =
		START("run", "-k", guest, "-a", "echo", "--transport", "mmio", "--rng", "off");
	await_text(job, "ready");
	await_raw(job);
	kill(job->pid, SIGTERM);
	type(job, "alive\r");
	await_text(job, "ALIVE");
	kill(job->pid, SIGTERM);
	expect_death(job, SIGTERM);
}

// Pressed once, and again some seconds later.
static void test_power_button_again(void **state)
{
	(void)state;
	need_kvm();
	struct job *job =
		START("run", "-k", guest, "-a", "button=2", "--transport", "mmio", "--rng", "off");
	await_text(job, "ready");
	kill(job->pid, SIGTERM);
	await_text(job, "pressed\r\npressed\r\n");
	expect_end(job, 0);
}

// A guest that resets once its button was pressed is not started again.
static void test_power_button_ends_reboots(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = START("run", "-k", guest, "-a", "reset", "--transport", "mmio", "--rng",
		"off", "--reboot");
	await_text(job, "reset");
	kill(job->pid, SIGTERM);
	expect_end(job, 0);
}

// The size of a disk changes; then to one that no disk can have, which is said.
static void test_refresh(void **state)
{
	char path[] = "/tmp/veneer-disk-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	if (access("/dev/kvm", R_OK | W_OK) < 0)
		unlink(path);
	need_kvm();
	struct job *job = START("run", "-a", "spin", "-d", path);
	await_text(job, "spin: for ever");
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	kill(job->pid, SIGUSR1);
	await_text(job, "note: blk0: its size is now 2097152 bytes");
	assert_int_equal(ftruncate(fd, 1000), 0);
	kill(job->pid, SIGUSR1);
	await_text(job, "its size, 1000 bytes, is not a multiple of 512");
	kill(job->pid, SIGTERM);
	expect_death(job, SIGTERM);
	close(fd);
	unlink(path);
}

static void test_terminal_ends(void **state)
{
	(void)state;
	need_kvm();
	expect_end(START("run", "-a", "exit=5"), 5);
	expect_end(START("run", "-a", "triple"), 120);
	expect_end(START("run", "-a", "spin", "--timeout", "0.3"), 124);
	expect_end(START("run", "-k", "/nonexistent"), 125);
}

static void test_terminal_keys(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = START("run", "-a", "echo");
	await_text(job, "ready");
	await_raw(job);
	type(job, "plain\r");
	await_text(job, "PLAIN\r\n"); // output is still processed
	type(job, "\x03\x1a\x1c"
		  "c\r"); // the keys that would end or stop us reach the guest
	await_text(job, "\x03\x1a\x1c"
			"C\r\n");
	type(job, "\x01"
		  "a1\r");
	await_text(job, "\x01"
			"1\r\n");
	type(job, "\x01\x01"
		  "2\r");
	await_text(job, "\x01"
			"2\r\n");
	type(job, "\x01zd\r"); // no such escape: swallowed
	await_text(job, "\nD\r\n");
	type(job, "\x01h");
	await_text(job, "Ctrl-A x");
	type(job, "\x01");
	nap();
	type(job, "x");
	expect_end(job, 0);
}

// Stopped by another process, and continued: the terminal changes hands each time.
static void test_terminal_stop_and_go(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = START("run", "-a", "spin");
	await_text(job, "spin: for ever");
	await_raw(job);
	for (int i = 0; i < 2; i++) {
		kill(job->pid, SIGTSTP);
		int status = await_report(job);
		assert_true(WIFSTOPPED(status));
		assert_restored(job);
		assert_int_equal(write(job->commands, "f", 1), 1);
		await_raw(job);
	}
	type(job, "\x01x");
	expect_end(job, 0);
}

// Nobody set other modes while it was stopped, and it keeps in mind what they were before.
static void test_terminal_sigstop(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = START("run", "-a", "spin");
	await_text(job, "spin: for ever");
	await_raw(job);
	kill(job->pid, SIGSTOP);
	int status = await_report(job);
	assert_true(WIFSTOPPED(status));
	assert_true(is_raw(job));
	assert_int_equal(write(job->commands, "f", 1), 1);
	nap();
	type(job, "\x01x");
	expect_end(job, 0);
}

static void test_terminal_background(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = BACKGROUND("run", "-a", "echo");
	await_text(job, "ready");
	assert_restored(job); // not touched
	assert_int_equal(write(job->commands, "f", 1), 1);
	await_raw(job);
	type(job, "back\r");
	await_text(job, "BACK");
	type(job, "\x01x");
	expect_end(job, 0);
}

static void test_background_end(void **state)
{
	(void)state;
	need_kvm();
	struct job *job = BACKGROUND("run", "-a", "exit=4");
	assert_int_equal(write(job->commands, "f", 1), 1);
	expect_end(job, 4);
}

static const char *await_text_from(int fd, const char *wanted)
{
	static char text[256];
	size_t length = 0;

	memset(text, 0, sizeof(text));
	while (!strstr(text, wanted)) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		assert_int_equal(poll(&pfd, 1, LIMIT_MS), 1);
		ssize_t got = read(fd, text + length, sizeof(text) - 1 - length);
		assert_true(got > 0);
		length += (size_t)got;
	}
	return text;
}

// How often a thread has slept.
static long sleeps(pid_t thread)
{
	char path[64], line[128];
	long count = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	while (count < 0 && fgets(line, sizeof(line), file))
		sscanf(line, "voluntary_ctxt_switches: %ld", &count);
	fclose(file);
	return count;
}

static void await_rest(pid_t thread)
{
	long before = -1, now = sleeps(thread);

	for (int i = 0; i < LIMIT_MS / 300 && now != before; i++) {
		before = now;
		nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
		now = sleeps(thread);
	}
	assert_int_equal(now, before);
}

static void type_at(const char *name, const char *keys)
{
	int fd = open(name, O_WRONLY | O_NOCTTY);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, keys, strlen(keys)), strlen(keys));
	close(fd);
}

// The thread of a process that has this name.
static pid_t find_thread(pid_t pid, const char *name)
{
	char path[64], found[32];
	pid_t thread = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *entry; thread == 0 && (entry = readdir(dir));) {
		snprintf(path, sizeof(path), "/proc/%.16s/comm", entry->d_name);
		FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (file && fscanf(file, "%31s", found) == 1 && strcmp(found, name) == 0)
			thread = (pid_t)strtol(entry->d_name, NULL, 10);
		if (file)
			fclose(file);
	}
	closedir(dir);
	assert_true(thread > 0);
	return thread;
}

static struct job *start_pty(const char *cmdline, char name[64])
{
	struct job *job = START("run", "-a", cmdline, "--serial", "pty");

	await_text(job, "the serial port is /dev/");
	await_text(job, "\n");
	assert_int_equal(sscanf(strstr(job->text, "/dev/"), "%63[a-z0-9/]", name), 1);
	return job;
}

// Somebody writes and leaves, and somebody else reads later, from the guest's first words on. While
// nobody is there, nothing wakes up.
static void test_serial_pty(void **state)
{
	char name[64];

	(void)state;
	need_kvm();
	struct job *job = start_pty("echo", name);
	assert_false(is_raw(job)); // this terminal is not the guest's
	for (int i = 0; i < 2; i++) {
		type_at(name, "hello\r");
		int fd = open(name, O_RDONLY | O_NOCTTY);
		assert_true(fd >= 0);
		const char *text = await_text_from(fd, "HELLO");
		if (i == 0)
			assert_non_null(strstr(text, "ready"));
		close(fd);
	}
	await_rest(job->pid);
	type_at(name, "quit\r");
	expect_end(job, 0);
}

// Nobody at the pty: the guest's output does not hold it up, though it is more than all buffers on
// its way hold.
static void test_serial_pty_alone(void **state)
{
	(void)state;
	need_kvm();
	expect_exit(RUN(NULL, "run", "-a", "flood=256", "--serial", "pty", "--timeout", "100"), 0);
}

// A reader holds the guest's output up until all buffers on its way are full, and begins to read at
// the guest's end: it gets all of it, to the last byte that the port took.
static void test_serial_pty_slow(void **state)
{
	char name[64], text[4096];
	size_t length = 0;
	ssize_t got;

	(void)state;
	need_kvm();
	struct job *job = start_pty("flood=1024", name);
	int fd = open(name, O_RDONLY | O_NOCTTY);
	assert_true(fd >= 0);
	await_text_from(fd, "flood");
	await_rest(find_thread(job->pid, "devices"));
	kill(job->pid, SIGTERM);
	while ((got = read(fd, text, sizeof(text))) > 0) {
		length += (size_t)got;
		nap();
	}
	close(fd);
	assert_true(length > 2 * 65536);
	collect(job);
	assert_null(strstr(job->text, "lost"));
	expect_death(job, SIGTERM);
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_bad_arguments),
		cmocka_unit_test(test_full_output),
		cmocka_unit_test(test_exit_statuses),
		cmocka_unit_test(test_messages_name_the_option),
		cmocka_unit_test(test_doctor),
		cmocka_unit_test(test_piped_input),
		cmocka_unit_test(test_dump_dtb),
		cmocka_unit_test(test_serial_file),
		cmocka_unit_test(test_serial_file_truncated),
		cmocka_unit_test(test_serial_full),
		cmocka_unit_test(test_file_size_limit),
		cmocka_unit_test(test_fifos),
		cmocka_unit_test(test_closed_descriptors),
		cmocka_unit_test(test_ignored_signal),
		cmocka_unit_test(test_reboot),
		cmocka_unit_test(test_terminal_signals),
		cmocka_unit_test(test_harmless_signals),
		cmocka_unit_test(test_cpu_limit),
		cmocka_unit_test(test_power_button),
		cmocka_unit_test(test_power_button_again),
		cmocka_unit_test(test_power_button_ends_reboots),
		cmocka_unit_test(test_refresh),
		cmocka_unit_test(test_terminal_ends),
		cmocka_unit_test(test_terminal_keys),
		cmocka_unit_test(test_terminal_stop_and_go),
		cmocka_unit_test(test_terminal_sigstop),
		cmocka_unit_test(test_terminal_background),
		cmocka_unit_test(test_background_end),
		cmocka_unit_test(test_serial_pty),
		cmocka_unit_test(test_serial_pty_alone),
		cmocka_unit_test(test_serial_pty_slow),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: %s VENEER GUEST\n", argv[0]);
		return 2;
	}
	use_default_signals();
	signal(SIGHUP, SIG_IGN); // as under nohup: no child may depend on what it inherits
	program = argv[1];
	guest = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
