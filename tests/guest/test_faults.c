// SPDX-License-Identifier: Apache-2.0
//
// How much memory the program touches before it refuses a guest: page faults of a child without
// transparent huge pages, in which each page of guest memory is one. Argument: the program.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL_PAGES(megabytes) ((megabytes)*256L)

// Of the program itself, without any of the guest's memory; a sanitizer has a few thousand.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOST_FAULTS SMALL_PAGES(32)
#else
#define MOST_FAULTS SMALL_PAGES(8)
#endif

static char *program;

static void need(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		print_message("# no usable /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	close(fd);
	if (sysconf(_SC_AVPHYS_PAGES) < SMALL_PAGES(1280)) {
		print_message("# less than 1280 MiB of memory are free\n");
		skip();
	}
}

static void become(char *const *arguments)
{
	int null = open("/dev/null", O_RDWR);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	// Without the right to a real-time priority.
	setrlimit(RLIMIT_RTPRIO, &(struct rlimit){0, 0});
	prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	execv(program, arguments);
	_exit(127);
}

// Its exit status and page faults.
static int run(const char *const *words, long *faults)
{
	char *arguments[16] = {program};
	struct rusage usage;
	int status;
	for (unsigned i = 0; words[i]; i++)
		arguments[i + 1] = (char *)(uintptr_t)words[i];
	pid_t child = fork();
	if (child == 0)
		become(arguments);
	assert_true(child > 0);
	assert_int_equal(wait4(child, &status, 0, &usage), child);
	assert_true(WIFEXITED(status));
	*faults = usage.ru_minflt;
	return WEXITSTATUS(status);
}

#define MEMORY "run", "-m", "1G,prealloc"

static void a_refused_guest_touches_none(void **state)
{
	static const char *const cases[][12] = {
		{MEMORY, "-a", "exit=0", "--disk", "/nonexistent/disk", NULL},
		{MEMORY, "-a", "exit=0", "--initrd", "/nonexistent/initrd", NULL},
		{MEMORY, "--kernel", "/etc/passwd", NULL},
		{MEMORY, "--kernel", "/nonexistent/kernel", NULL},
		// Nor does the program measure its own memory, for the built-in guest's report.
		{MEMORY, "--disk", "/nonexistent/disk", NULL},
		{MEMORY, "--cpu", "nosuch", NULL},
		{MEMORY, "--net", "tap=nosuch", NULL},
		{MEMORY, "--serial", "file:/nonexistent/log", NULL},
		{MEMORY, "--cpus", "1,sched=fifo:1", "-a", "exit=0", NULL},
		{MEMORY, "--dump-dtb", "/nonexistent/dtb", NULL},
	};
	(void)state;
	need();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		long faults;
		assert_int_not_equal(run(cases[i], &faults), 0);
		if (faults >= MOST_FAULTS)
			fail_msg("case %zu: %ld page faults", i, faults);
	}
}

// Another guest has the name.
static void a_name_that_is_taken_costs_nothing(void **state)
{
	static const char *const words[] = {MEMORY, "--name", "taken", NULL};
	char *const other[] = {program, "run", "--name", "taken", "-a", "spin", NULL};
	char directory[] = "/tmp/veneer-faults-XXXXXX", socket[96], path[64];
	long faults;
	(void)state;
	need();
	assert_non_null(mkdtemp(directory));
	assert_int_equal(setenv("XDG_RUNTIME_DIR", directory, 1), 0);
	snprintf(path, sizeof(path), "%s/veneer", directory);
	snprintf(socket, sizeof(socket), "%s/taken.sock", path);
	pid_t child = fork();
	if (child == 0)
		become(other);
	assert_true(child > 0);
	for (unsigned tries = 0; tries < 60000 && access(socket, F_OK) < 0; tries++)
		usleep(1000);
	int status = run(words, &faults);
	kill(child, SIGTERM);
	waitpid(child, NULL, 0);
	assert_int_equal(status, 125);
	assert_in_range(faults, 0, MOST_FAULTS);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(directory), 0);
}

// A command that runs no guest.
static void a_device_tree_takes_none(void **state)
{
	static const char *const words[] = {MEMORY, "--dump-dtb", "/dev/null", NULL};
	long faults;
	(void)state;
	need();
	assert_int_equal(run(words, &faults), 0);
	assert_in_range(faults, 0, MOST_FAULTS);
}

// That memory which is touched shows.
static void a_guest_that_runs_touches_all(void **state)
{
	static const char *const words[] = {MEMORY, "-a", "exit=0", NULL};
	long faults;
	(void)state;
	need();
	assert_int_equal(run(words, &faults), 0);
	assert_true(faults >= SMALL_PAGES(1024));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refused_guest_touches_none),
		cmocka_unit_test(a_name_that_is_taken_costs_nothing),
		cmocka_unit_test(a_device_tree_takes_none),
		cmocka_unit_test(a_guest_that_runs_touches_all),
	};
	if (argc != 2)
		return EXIT_FAILURE;
	program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
