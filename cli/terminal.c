// SPDX-License-Identifier: Apache-2.0
//
// The terminal's modes: raw while the guest has it, and as they were whenever it does not.
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "base/macros.h"

// Written by the main thread, read also by a signal handler on any thread: `saved` is whole before
// `raw` is set.
static struct {
	struct termios saved;
	struct termios ours; // what it was set to
	volatile sig_atomic_t raw;
} terminal;

static struct sigaction previous[NSIG];

static bool in_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

static bool same_modes(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

bool terminal_enter(void)
{
	struct termios now;

	if (terminal.raw)
		return true;
	if (!isatty(STDIN_FILENO) || !in_foreground() || tcgetattr(STDIN_FILENO, &now) < 0)
		return false;
	// After a SIGSTOP that nobody answered by modes of his own, they are still ours.
	if (!same_modes(&now, &terminal.ours)) {
		terminal.saved = terminal.ours = now;
		cfmakeraw(&terminal.ours);
		terminal.ours.c_oflag = now.c_oflag;
	}
	terminal.raw = 1;
	tcsetattr(STDIN_FILENO, TCSANOW, &terminal.ours);
	return true;
}

static void restore(void)
{
	// In the background its modes are someone else's by now.
	if (terminal.raw && in_foreground())
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.saved);
}

void terminal_leave(void)
{
	restore();
	terminal.raw = 0;
}

void terminal_forget(void)
{
	terminal.raw = 0;
}

// Restore, and let the signal do what it would have done without us. It is sent once more, as it
// came, to this thread, which takes it when this returns: before a faulting instruction is run
// again. `raw` stays set, so that the main thread does not enter it again meanwhile.
static void on_fatal_signal(int signal, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	(void)context;
	restore();
	sigaction(signal, &previous[signal], NULL);
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signal, info) < 0)
		raise(signal);
	errno = saved_errno;
}

// Whether it ends a process that does nothing about it, and lets it.
static bool is_fatal(int signal)
{
	static const int others[] = {SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD,
		SIGURG, SIGWINCH, SIGPIPE, SIGXFSZ};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (others[i] == signal)
			return false;
	}
	return true;
}

// A fault whose signal is blocked would end the process without its handler.
void terminal_init(void)
{
	struct sigaction action = {.sa_sigaction = on_fatal_signal, .sa_flags = SA_SIGINFO};
	sigset_t none;

	sigfillset(&action.sa_mask);
	for (int signal = 1; signal <= SIGRTMAX; signal++) {
		if (is_fatal(signal) && sigaction(signal, NULL, &previous[signal]) == 0 &&
			previous[signal].sa_handler != SIG_IGN)
			sigaction(signal, &action, NULL);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	atexit(terminal_leave);
}
