// SPDX-License-Identifier: Apache-2.0
//
// A new thread inherits its maker's signal mask, so the maker's is changed for that moment; there is
// no window in which the thread could take a signal.
#include "vmm/thread.h"

void vn_thread_signals(sigset_t *blocked)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	sigfillset(blocked);
	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(blocked, faults[i]);
}

int vn_thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	sigset_t blocked, before;
	vn_thread_signals(&blocked);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	int code = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -code;
}
