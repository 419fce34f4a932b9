// SPDX-License-Identifier: Apache-2.0
//
// The lock of ranges. Exclusive ranges, and shared ones that met one, are in the common queue. All
// other shared ones are in their loops' own lists, each under a lock that only its loop takes while
// there is nothing exclusive.
//
// The two meet in this order: a shared range is put into its loop's list, and then looks for
// exclusive ones; an exclusive one is put into the queue, and then looks through the loops' lists.
// With the list's lock between, at least one sees the other.
#include "devices/blk/range.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/macros.h"

static void append(struct vn_blk_range_list *list, struct vn_blk_range *range)
{
	range->list = list;
	range->previous = list->last;
	range->next = NULL;
	*(list->last ? &list->last->next : &list->first) = range;
	list->last = range;
}

static void take_out(struct vn_blk_range *range)
{
	struct vn_blk_range_list *list = range->list;
	*(range->previous ? &range->previous->next : &list->first) = range->next;
	*(range->next ? &range->next->previous : &list->last) = range->previous;
}

static bool overlap(const struct vn_blk_range *a, const struct vn_blk_range *b)
{
	return a->start < b->end && b->start < a->end;
}

// Whether any shared range of a loop's own list overlaps this one.
static bool is_shared(struct vn_blk_loop_ranges *part, const struct vn_blk_range *range)
{
	pthread_mutex_lock(&part->lock);
	const struct vn_blk_range *held = part->held.first;
	while (held && !overlap(held, range))
		held = held->next;
	pthread_mutex_unlock(&part->lock);
	return held != NULL;
}

// Whether a range of the queue may be held now: none before it there stands in its way, and none of
// the loops' own. With the common lock.
static bool may_have(struct vn_blk_ranges *ranges, const struct vn_blk_range *range)
{
	for (const struct vn_blk_range *before = range->previous; before; before = before->previous)
		if ((before->exclusive || range->exclusive) && overlap(before, range))
			return false;
	for (unsigned i = 0; range->exclusive && i < ranges->loop_count; i++)
		if (is_shared(ranges->loops[i], range))
			return false;
	return true;
}

static void tell(struct vn_blk_range *range)
{
	struct vn_blk_loop_ranges *part = range->loop;
	struct vn_blk_range **end = &part->ready;
	if (!*end)
		eventfd_write(part->event.fd, 1);
	while (*end)
		end = &(*end)->next_ready;
	range->next_ready = NULL;
	*end = range;
}

// Whoever waited for `gone`, and for nothing else, holds its range now. With the common lock.
static void grant(struct vn_blk_ranges *ranges, const struct vn_blk_range *gone)
{
	for (struct vn_blk_range *range = ranges->queue.first; range; range = range->next)
		if (!range->held && overlap(range, gone) && may_have(ranges, range)) {
			range->held = true;
			tell(range);
		}
}

static void count_exclusive(struct vn_blk_ranges *ranges, unsigned count)
{
	atomic_fetch_add_explicit(&ranges->exclusive, count, memory_order_relaxed);
}

static void remove_from_loop(struct vn_blk_range *range)
{
	pthread_mutex_lock(&range->loop->lock);
	take_out(range);
	pthread_mutex_unlock(&range->loop->lock);
}

// With the common lock. True: it is held.
static bool enqueue(struct vn_blk_ranges *ranges, struct vn_blk_range *range)
{
	append(&ranges->queue, range);
	if (range->exclusive)
		count_exclusive(ranges, 1);
	range->held = may_have(ranges, range);
	return range->held;
}

static bool lock_exclusive(struct vn_blk_ranges *ranges, struct vn_blk_range *range)
{
	pthread_mutex_lock(&ranges->lock);
	bool held = enqueue(ranges, range);
	pthread_mutex_unlock(&ranges->lock);
	return held;
}

static bool meets_exclusive(const struct vn_blk_ranges *ranges, const struct vn_blk_range *range)
{
	const struct vn_blk_range *other = ranges->queue.first;
	while (other && !(other->exclusive && overlap(other, range)))
		other = other->next;
	return other != NULL;
}

// There are exclusive ranges. If one overlaps, this one goes behind it in the queue; it may have
// waited for this one meanwhile.
static bool lock_among_exclusive(struct vn_blk_ranges *ranges, struct vn_blk_range *range)
{
	bool held = true;
	pthread_mutex_lock(&ranges->lock);
	if (meets_exclusive(ranges, range)) {
		remove_from_loop(range);
		held = enqueue(ranges, range);
		grant(ranges, range);
	}
	pthread_mutex_unlock(&ranges->lock);
	return held;
}

bool vn_blk_ranges_lock(struct vn_blk_loop_ranges *part, struct vn_blk_range *range)
{
	struct vn_blk_ranges *ranges = part->ranges;
	range->loop = part;
	if (range->exclusive)
		return lock_exclusive(ranges, range);
	pthread_mutex_lock(&part->lock);
	append(&part->held, range);
	pthread_mutex_unlock(&part->lock);
	return atomic_load_explicit(&ranges->exclusive, memory_order_relaxed) == 0 ||
	       lock_among_exclusive(ranges, range);
}

void vn_blk_ranges_unlock(struct vn_blk_range *range)
{
	struct vn_blk_ranges *ranges = range->loop->ranges;
	bool own = range->list == &range->loop->held;
	if (own)
		remove_from_loop(range);
	if (own && atomic_load_explicit(&ranges->exclusive, memory_order_relaxed) == 0)
		return;
	pthread_mutex_lock(&ranges->lock);
	if (!own)
		take_out(range);
	if (range->exclusive)
		count_exclusive(ranges, -1u);
	grant(ranges, range);
	pthread_mutex_unlock(&ranges->lock);
}

// Some of this loop's ranges are held now.
static void granted(struct vn_ioloop_event *event)
{
	struct vn_blk_loop_ranges *part = container_of(event, struct vn_blk_loop_ranges, event);
	pthread_mutex_lock(&part->ranges->lock);
	struct vn_blk_range *range = part->ready;
	part->ready = NULL;
	pthread_mutex_unlock(&part->ranges->lock);
	while (range) {
		struct vn_blk_range *next = range->next_ready; // it may be gone afterwards
		range->granted(range);
		range = next;
	}
}

void vn_blk_ranges_init(struct vn_blk_ranges *ranges)
{
	*ranges = (struct vn_blk_ranges){.loop_count = 0};
	pthread_mutex_init(&ranges->lock, NULL);
}

void vn_blk_ranges_destroy(struct vn_blk_ranges *ranges)
{
	pthread_mutex_destroy(&ranges->lock);
}

int vn_blk_ranges_attach(
	struct vn_blk_ranges *ranges, struct vn_blk_loop_ranges *part, struct vn_ioloop *loop)
{
	*part = (struct vn_blk_loop_ranges){
		.ranges = ranges, .event = {.fire = granted, .fd = eventfd(0, EFD_CLOEXEC)}};
	if (part->event.fd < 0)
		return -errno;
	pthread_mutex_init(&part->lock, NULL);
	pthread_mutex_lock(&ranges->lock);
	ranges->loops[ranges->loop_count++] = part;
	pthread_mutex_unlock(&ranges->lock);
	vn_ioloop_watch(loop, &part->event);
	return 0;
}

void vn_blk_ranges_detach(struct vn_blk_loop_ranges *part)
{
	struct vn_blk_ranges *ranges = part->ranges;
	vn_ioloop_unwatch(&part->event);
	pthread_mutex_lock(&ranges->lock);
	unsigned i = 0;
	while (ranges->loops[i] != part)
		i++;
	ranges->loops[i] = ranges->loops[--ranges->loop_count];
	pthread_mutex_unlock(&ranges->lock);
	pthread_mutex_destroy(&part->lock);
	close(part->event.fd);
}
