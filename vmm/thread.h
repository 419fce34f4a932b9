// SPDX-License-Identifier: Apache-2.0
//
// Starting a thread of the library.
#ifndef VN_THREAD_H
#define VN_THREAD_H

#include <pthread.h>

// Start `run(arg)` with all signals blocked: those of the process are its program's to take. 0, or a
// negative errno.
int vn_thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
