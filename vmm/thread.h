// SPDX-License-Identifier: Apache-2.0
//
// Starting a thread of the library.
#ifndef VN_THREAD_H
#define VN_THREAD_H

#include <pthread.h>
#include <signal.h>

// What the library's threads block: all that is sent to the process, which is its program's to take,
// but not what a fault raises in the thread itself. Were that blocked, the kernel would end the
// process past its handler, with nothing reported and no terminal restored, and a vCPU would try for
// ever to get at a page that the hardware lost.
void vn_thread_signals(sigset_t *blocked);

// Start `run(arg)` with these signals blocked. 0, or a negative errno.
int vn_thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
