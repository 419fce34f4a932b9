// SPDX-License-Identifier: Apache-2.0
//
// A team of threads for each range, which take slices of it until there are none, or until
// something went wrong anywhere. The caller waits, and tells how far they are.
#include "core/populate.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "base/cpuset.h"
#include "base/macros.h"
#include "base/sysfs.h"
#include "base/thread.h"

#define SLICE       (64 * MIB) // some 10 ms of work
#define TEAM_MAX    32 // more do not clear memory faster than its bus allows
#define INTERVAL_NS (100 * NS_PER_MS) // between two calls of `progress`

// Shared by all, under its lock.
struct work {
	pthread_mutex_t lock;
	pthread_cond_t changed; // `running` has become 0
	uint64_t done, total; // bytes
	unsigned running; // threads
	int code; // the first failure
	unsigned failed; // its range
};

// A range and those who work on it.
struct team {
	struct work *work;
	const struct vn_populate_range *range;
	unsigned index; // of the range
	// Near the node, which is faster; where pages come from is their policy's to say.
	struct vn_thread_place place;
	uint64_t slice; // bytes
	_Atomic uint64_t next; // offset of the first slice that nobody has taken
	pthread_t threads[TEAM_MAX];
	unsigned count;
};

static void stop(struct work *work, int code, unsigned index)
{
	pthread_mutex_lock(&work->lock);
	if (work->code == 0) {
		work->code = code;
		work->failed = index;
	}
	pthread_mutex_unlock(&work->lock);
}

// The next slice of the team's range: what is left to do of all, or false.
static bool next_slice(struct team *team)
{
	const struct vn_populate_range *range = team->range;
	struct work *work = team->work;
	uint64_t offset = atomic_fetch_add(&team->next, team->slice);
	if (offset >= range->size)
		return false;
	uint64_t left = range->size - offset;
	uint64_t size = left < team->slice ? left : team->slice;
	if (madvise(range->host + offset, size, MADV_POPULATE_WRITE) < 0)
		stop(work, -errno, team->index);
	pthread_mutex_lock(&work->lock);
	work->done += size;
	bool go_on = work->code == 0;
	pthread_mutex_unlock(&work->lock);
	return go_on;
}

static void *run(void *arg)
{
	struct team *team = arg;
	struct work *work = team->work;
	while (next_slice(team))
		;
	pthread_mutex_lock(&work->lock);
	if (--work->running == 0)
		pthread_cond_signal(&work->changed);
	pthread_mutex_unlock(&work->lock);
	return NULL;
}

// The node's CPUs as far as this thread may use them: nobody's isolated CPU is taken away, and what
// taskset(1) said holds.
static void choose_cpus(struct vn_cpuset *cpus, int node)
{
	struct vn_cpuset near;
	struct veneer_error error;
	char list[4096];
	if (vn_thread_cpus(cpus) < 0)
		*cpus = (struct vn_cpuset){.bits = {0}};
	if (node < 0)
		return;
	vn_sysfs_line("", list, sizeof(list), "/sys/devices/system/node/node%d/cpulist", node);
	if (vn_cpuset_parse(&near, list, &error) < 0)
		return;
	vn_cpuset_and(&near, cpus);
	if (vn_cpuset_count(&near) > 0)
		*cpus = near;
}

static void start_team(struct team *team)
{
	struct work *work = team->work;
	uint64_t slices = (team->range->size + team->slice - 1) / team->slice;
	uint64_t wanted = vn_cpuset_count(&team->place.cpus);
	if (wanted > slices)
		wanted = slices;
	if (wanted > TEAM_MAX)
		wanted = TEAM_MAX;
	if (wanted == 0) // the host has more CPUs than a set holds
		wanted = 1;
	for (team->count = 0; team->count < wanted; team->count++) {
		pthread_mutex_lock(&work->lock);
		work->running++;
		pthread_mutex_unlock(&work->lock);
		int code = vn_thread_start(&team->threads[team->count], &team->place, run, team);
		if (code == 0)
			continue;
		stop(work, code, team->index);
		pthread_mutex_lock(&work->lock);
		work->running--;
		pthread_mutex_unlock(&work->lock);
		return;
	}
}

// Until no thread runs; the last call of `progress` comes after that. Called with the lock, which
// is released while `progress` runs.
static void watch(struct work *work, const struct vn_progress *progress)
{
	uint64_t next = vn_clock_ns();
	bool running;
	do {
		next += INTERVAL_NS;
		const struct timespec until = vn_clock_timespec(next);
		while (work->running > 0 &&
			pthread_cond_timedwait(&work->changed, &work->lock, &until) != ETIMEDOUT)
			;
		running = work->running > 0;
		uint64_t done = work->done;
		pthread_mutex_unlock(&work->lock);
		if (progress->report && !progress->report(progress->opaque, done, work->total))
			stop(work, -ECANCELED, 0);
		pthread_mutex_lock(&work->lock);
	} while (running);
}

static void populate_with_threads(
	struct team *teams, unsigned count, struct work *work, const struct vn_progress *progress)
{
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&work->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	for (unsigned i = 0; i < count; i++)
		start_team(&teams[i]);
	pthread_mutex_lock(&work->lock);
	watch(work, progress);
	pthread_mutex_unlock(&work->lock);
	for (unsigned i = 0; i < count; i++)
		for (unsigned n = 0; n < teams[i].count; n++)
			pthread_join(teams[i].threads[n], NULL);
	pthread_cond_destroy(&work->changed);
}

int vn_populate(const struct vn_populate_range *ranges, unsigned count,
	const struct vn_progress *progress, unsigned *failed)
{
	struct work work = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct team *teams = calloc(count, sizeof(*teams));
	*failed = 0;
	if (!teams)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		struct team *team = &teams[i];
		*team = (struct team){.work = &work, .range = &ranges[i], .index = i};
		team->slice = ranges[i].page_size > SLICE ? ranges[i].page_size : SLICE;
		work.total += ranges[i].size;
	}
	if (work.total <= SLICE) { // a thread's start costs more
		for (unsigned i = 0; i < count && work.code == 0; i++)
			while (next_slice(&teams[i]))
				;
	} else {
		for (unsigned i = 0; i < count; i++)
			choose_cpus(&teams[i].place.cpus, ranges[i].node);
		populate_with_threads(teams, count, &work, progress);
	}
	*failed = work.failed;
	int code = work.code;
	pthread_mutex_destroy(&work.lock);
	free(teams);
	return code;
}
