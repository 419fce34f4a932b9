// SPDX-License-Identifier: Apache-2.0
//
// The `veneer` program: a client of veneer.h, whose commands begin here.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/control_client.h"
#include "cli/doctor.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/stats_client.h"

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

static int print_version(void)
{
	char line[64];

	snprintf(line, sizeof(line), "veneer %s\n", veneer_version());
	return print(line);
}

static int run_doctor(const struct options *options)
{
	struct veneer_error error;
	int wrong = doctor_run(options, &error);

	if (wrong >= 0)
		return wrong > 0 ? STATUS_WRONG : STATUS_OK;
	complain("%s", error.message);
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
	struct veneer_error error;

	if (stats_client_list(&error) == 0)
		return STATUS_OK;
	complain("%s", error.message);
	return STATUS_FAILED;
}

static int show_stats(const char *guest, const struct stats_query *query)
{
	struct veneer_error error;
	int ret = stats_client_show(guest, query, &error);

	if (ret < 0)
		complain("%s", error.message);
	else if (ret > 0)
		complain("guest '%s' has ended", guest);
	return ret < 0 ? STATUS_FAILED : STATUS_OK;
}

static int control_guest(const struct options *options)
{
	static const char *const paths[] = {
		[ACTION_PAUSE] = "/pause", [ACTION_RESUME] = "/resume", [ACTION_RESET] = "/reset"};
	struct veneer_error error;
	char stop[32];
	int ret;

	if (options->action == ACTION_STOP) {
		snprintf(stop, sizeof(stop), "/stop?time=%" PRIu32, options->stop.time_s);
		ret = control_client_do(options->guest, stop, true, &error);
	} else {
		ret = control_client_do(options->guest, paths[options->action], false, &error);
	}
	if (ret == 0)
		return STATUS_OK;
	complain("%s", error.message);
	return STATUS_FAILED;
}

// The status of the guest's run.
static int wait_for_guest(const char *guest)
{
	struct veneer_error error;
	int status = control_client_wait(guest, &error);

	if (status >= 0)
		return status;
	complain("%s", error.message);
	return STATUS_FAILED;
}

// `output` writes the text and returns the exit status.
static int write_help(enum action action, int (*output)(const char *text))
{
	char *text = help_format(action);
	int status = text ? output(text) : STATUS_FAILED;

	if (!text)
		complain("out of memory");
	free(text);
	return status;
}

// Whoever forgot the command does not take this for success.
static int print_error(const char *text)
{
	fputs(text, stderr);
	return STATUS_FAILED;
}

static int act(const struct options *options)
{
	switch (options->action) {
	case ACTION_USAGE:
		return write_help(ACTION_HELP, print_error);
	case ACTION_HELP:
	case ACTION_RUN_HELP:
	case ACTION_DOCTOR_HELP:
	case ACTION_STATS_HELP:
	case ACTION_LIST_HELP:
	case ACTION_PAUSE_HELP:
	case ACTION_RESUME_HELP:
	case ACTION_RESET_HELP:
	case ACTION_STOP_HELP:
	case ACTION_WAIT_HELP:
		return write_help(options->action, print);
	case ACTION_VERSION:
		return print_version();
	case ACTION_DOCTOR:
		return run_doctor(options);
	case ACTION_CPU_MODELS:
		return list_cpu_models();
	case ACTION_STATS:
		return show_stats(options->guest, &options->query);
	case ACTION_LIST:
		return list_guests();
	case ACTION_PAUSE:
	case ACTION_RESUME:
	case ACTION_RESET:
	case ACTION_STOP:
		return control_guest(options);
	case ACTION_WAIT:
		return wait_for_guest(options->guest);
	default:
		return options->run.dry_run    ? run_dry(options)
		       : options->run.dump_dtb ? run_dump_dtb(options)
					       : run_command(options);
	}
}

// Whoever waits for this process (a shell's loop, a service manager) is to see which signal ended
// it. Returns where the process may not die of it, as a container's first may not.
static void die_of(int number)
{
	sigset_t one;

	signal(number, SIG_DFL);
	raise(number);
	sigemptyset(&one);
	sigaddset(&one, number);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
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
	// `veneer wait` exits with such a status; no signal ended it.
	bool dies = options.action == ACTION_RUN && status > STATUS_SIGNAL;
	options_free(&options);
	if (dies)
		die_of(status - STATUS_SIGNAL);
	return status;
}
