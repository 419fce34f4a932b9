// SPDX-License-Identifier: Apache-2.0
//
// A new thread inherits its maker's signal mask, so the maker's is changed for that moment; there is
// no window in which the thread could take a signal.
#include "vmm/thread.h"

#include <signal.h>

int vn_thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int code = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -code;
}
