// SPDX-License-Identifier: Apache-2.0
//
// The terminal's modes: raw while the guest has it, and as they were whenever it does not.
#include "vmm/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

// Written by the main thread, read also by a signal handler on any thread: `saved` is whole before
// `raw` is set.
static struct {
	struct termios saved;
	volatile sig_atomic_t raw;
} terminal;

static const int fatal_signals[] = {
	SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGQUIT};

#define FATAL_COUNT (sizeof(fatal_signals) / sizeof(fatal_signals[0]))

static struct sigaction previous[FATAL_COUNT];

static bool in_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

bool terminal_enter(void)
{
	if (terminal.raw)
		return true;
	if (!isatty(STDIN_FILENO) || !in_foreground())
		return false;
	if (tcgetattr(STDIN_FILENO, &terminal.saved) < 0)
		return false;
	struct termios raw = terminal.saved;
	cfmakeraw(&raw);
	raw.c_oflag = terminal.saved.c_oflag;
	terminal.raw = 1;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	return true;
}

void terminal_leave(void)
{
	// In the background its modes are someone else's by now.
	if (terminal.raw && in_foreground())
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
	terminal.raw = 0;
}

void terminal_forget(void)
{
	terminal.raw = 0;
}

// Restore, and let the signal do what it would have done without us: a fault happens again when
// this returns; what was sent must be sent again.
static void on_fatal_signal(int signal, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	(void)context;
	terminal_leave();
	for (size_t i = 0; i < FATAL_COUNT; i++) {
		if (fatal_signals[i] == signal)
			sigaction(signal, &previous[i], NULL);
	}
	if (info->si_code <= 0)
		raise(signal);
	errno = saved_errno;
}

void terminal_init(void)
{
	struct sigaction action = {.sa_sigaction = on_fatal_signal, .sa_flags = SA_SIGINFO};

	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < FATAL_COUNT; i++) {
		sigaction(fatal_signals[i], NULL, &previous[i]);
		if (previous[i].sa_handler != SIG_IGN)
			sigaction(fatal_signals[i], &action, NULL);
	}
}
