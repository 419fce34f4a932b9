// SPDX-License-Identifier: Apache-2.0
//
// A new thread inherits its maker's signal mask, so the maker's is changed for that moment; there
// is no window in which the thread could take a signal. Its CPUs and its priority are attributes of
// its creation, so neither is there one in which it could run elsewhere.
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>

#include "base/macros.h"

static_assert(sizeof(struct vn_cpuset) == sizeof(cpu_set_t), "both are a bit a CPU");

void vn_thread_signals(sigset_t *blocked)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	sigfillset(blocked);
	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(blocked, faults[i]);
}

// 0 or an errno, as the functions of pthread_attr_t.
static int set_place(pthread_attr_t *attributes, const struct vn_thread_place *place)
{
	int code = 0;
	if (!vn_cpuset_is_empty(&place->cpus))
		code = pthread_attr_setaffinity_np(
			attributes, sizeof(place->cpus), (const cpu_set_t *)&place->cpus);
	if (code == 0 && place->fifo > 0) {
		struct sched_param priority = {.sched_priority = (int)place->fifo};
		pthread_attr_setinheritsched(attributes, PTHREAD_EXPLICIT_SCHED);
		pthread_attr_setschedpolicy(attributes, SCHED_FIFO);
		code = pthread_attr_setschedparam(attributes, &priority);
	}
	return code;
}

int vn_thread_start(
	pthread_t *thread, const struct vn_thread_place *place, void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attributes;
	sigset_t blocked, before;
	vn_thread_signals(&blocked);
	int code = pthread_attr_init(&attributes);
	if (code != 0)
		return -code;
	if (place)
		code = set_place(&attributes, place);
	if (code == 0) {
		pthread_sigmask(SIG_SETMASK, &blocked, &before);
		code = pthread_create(thread, &attributes, run, arg);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	pthread_attr_destroy(&attributes);
	return -code;
}

int vn_thread_fail(
	struct veneer_error *error, int code, const char *name, const struct vn_thread_place *place)
{
	char cpus[128];
	struct rlimit limit = {0};
	if (code == -EPERM && place && place->fifo > 0) {
		getrlimit(RLIMIT_RTPRIO, &limit);
		return vn_fail(error, code,
			"thread %s may not have the real-time priority %u: the limit is %llu; "
			"raise it (ulimit -r, LimitRTPRIO=) or give CAP_SYS_NICE",
			name, place->fifo, (unsigned long long)limit.rlim_cur);
	}
	if (code == -EINVAL && place && !vn_cpuset_is_empty(&place->cpus)) {
		vn_cpuset_format(&place->cpus, cpus, sizeof(cpus));
		return vn_fail(error, code, "thread %s may not run on CPUs %s", name, cpus);
	}
	return vn_fail(error, code, "cannot start thread %s: %s", name, strerror(-code));
}

int vn_thread_move(const struct vn_cpuset *cpus)
{
	return -pthread_setaffinity_np(pthread_self(), sizeof(*cpus), (const cpu_set_t *)cpus);
}

int vn_thread_cpus(struct vn_cpuset *cpus)
{
	return -pthread_getaffinity_np(pthread_self(), sizeof(*cpus), (cpu_set_t *)cpus);
}
