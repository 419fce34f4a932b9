// SPDX-License-Identifier: Apache-2.0
#include "core/loops.h"

#include <errno.h>
#include <stdlib.h>

#define DEDICATED_ENTRIES 256
#define SHARED_ENTRIES    64

// A dedicated loop, in the list.
struct vn_loop {
	struct vn_ioloop *loop;
	struct vn_loop *next;
};

void vn_loops_init(struct vn_loops *loops)
{
	*loops = (struct vn_loops){.shared = NULL};
	pthread_mutex_init(&loops->lock, NULL);
}

void vn_loops_destroy(struct vn_loops *loops)
{
	pthread_mutex_destroy(&loops->lock);
}

bool vn_loops_have_failed(const struct vn_loops *loops)
{
	return atomic_load_explicit(&loops->failed, memory_order_acquire);
}

// On the thread of the loop that has failed.
static void failed(void *opaque, const char *message)
{
	struct vn_loops *loops = opaque;
	const struct vn_end_hook *end = loops->end;
	atomic_store_explicit(&loops->failed, true, memory_order_release);
	if (end)
		end->ended(end->opaque, VENEER_END_FAILED, 0, message);
	pthread_mutex_lock(&loops->lock);
	for (struct vn_loop *each = loops->dedicated; each; each = each->next)
		vn_ioloop_abandon(each->loop);
	pthread_mutex_unlock(&loops->lock);
}

struct vn_cpuset vn_loops_next_cpu(const struct vn_cpuset *cpus, unsigned *next)
{
	struct vn_cpuset taken = {.bits = {0}};
	unsigned cpu = vn_cpuset_next(cpus, *next);
	if (cpu == VN_HOST_CPUS_MAX)
		cpu = vn_cpuset_next(cpus, 0);
	if (cpu < VN_HOST_CPUS_MAX)
		vn_cpuset_add(&taken, cpu);
	*next = cpu + 1;
	return taken;
}

static int take_shared(struct vn_loops *loops, struct vn_ioloop **loop, struct veneer_error *error)
{
	const struct vn_ioloop_site site = {loops->shared_cpus, failed, loops};
	int code = 0;
	if (!loops->shared)
		code = vn_ioloop_create(
			&loops->shared, VN_LOOPS_SHARED_NAME, SHARED_ENTRIES, &site, error);
	if (code < 0)
		return code;
	loops->shared_users++;
	*loop = loops->shared;
	return 0;
}

static int take_dedicated(struct vn_loops *loops, const char *name, struct vn_ioloop **loop,
	struct veneer_error *error)
{
	const struct vn_ioloop_site site = {
		vn_loops_next_cpu(&loops->dedicated_cpus, &loops->next_cpu), failed, loops};
	struct vn_loop *entry = malloc(sizeof(*entry));
	if (!entry)
		return vn_fail(error, -ENOMEM, "no memory for I/O thread %s", name);
	int code = vn_ioloop_create(&entry->loop, name, DEDICATED_ENTRIES, &site, error);
	if (code < 0) {
		free(entry);
		return code;
	}
	pthread_mutex_lock(&loops->lock);
	entry->next = loops->dedicated;
	loops->dedicated = entry;
	// A loop that failed before did not find this one in the list.
	if (vn_loops_have_failed(loops))
		vn_ioloop_abandon(entry->loop);
	pthread_mutex_unlock(&loops->lock);
	*loop = entry->loop;
	return 0;
}

int vn_loops_take(struct vn_loops *loops, const char *name, bool dedicated, struct vn_ioloop **loop,
	struct veneer_error *error)
{
	return dedicated ? take_dedicated(loops, name, loop, error)
			 : take_shared(loops, loop, error);
}

static void remove_dedicated(struct vn_loops *loops, const struct vn_ioloop *loop)
{
	pthread_mutex_lock(&loops->lock);
	struct vn_loop **at = &loops->dedicated;
	while ((*at)->loop != loop)
		at = &(*at)->next;
	struct vn_loop *entry = *at;
	*at = entry->next;
	pthread_mutex_unlock(&loops->lock);
	free(entry);
}

// Destroy without the lock: a loop that has just failed takes it before its thread ends.
void vn_loops_give_back(struct vn_loops *loops, struct vn_ioloop *loop)
{
	if (loop != loops->shared) {
		remove_dedicated(loops, loop);
		vn_ioloop_destroy(loop);
	} else if (--loops->shared_users == 0) {
		vn_ioloop_destroy(loop);
		loops->shared = NULL;
	}
}
