// SPDX-License-Identifier: Apache-2.0
//
// The queue of a guest's events: order, its descriptor, what is lost when nobody looks, and
// threads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>

#include "vmm/events.h"

#define ROUNDS 20000

static bool is_readable(const struct vn_events *events)
{
	struct pollfd wait = {.fd = events->fd, .events = POLLIN};
	return poll(&wait, 1, 0) == 1;
}

static void add(struct vn_events *events, uint32_t value)
{
	const struct veneer_event event = {.kind = VENEER_EVENT_STARTED, .value = value};
	vn_events_add(events, &event);
}

static void test_order(void **state)
{
	(void)state;
	struct vn_events events;
	struct veneer_event event;
	assert_int_equal(vn_events_init(&events, NULL), 0);
	assert_false(is_readable(&events));
	assert_false(vn_events_take(&events, &event));
	for (unsigned round = 0; round < 5; round++) { // more than it has room for, in all
		for (uint32_t i = 0; i < 7; i++)
			add(&events, i);
		for (uint32_t i = 0; i < 7; i++) {
			assert_true(is_readable(&events));
			assert_true(vn_events_take(&events, &event));
			assert_int_equal(event.value, i);
		}
		assert_false(is_readable(&events));
		assert_false(vn_events_take(&events, &event));
	}
	vn_events_destroy(&events);
}

static void test_oldest_are_lost(void **state)
{
	(void)state;
	struct vn_events events;
	struct veneer_event event;
	assert_int_equal(vn_events_init(&events, NULL), 0);
	for (uint32_t i = 0; i < VN_EVENTS_MAX + 3; i++)
		add(&events, i);
	for (uint32_t i = 3; i < VN_EVENTS_MAX + 3; i++) {
		assert_true(vn_events_take(&events, &event));
		assert_int_equal(event.value, i);
	}
	assert_false(vn_events_take(&events, &event));
	vn_events_destroy(&events);
}

// One look, after which it waits again.
static void test_wake(void **state)
{
	(void)state;
	struct vn_events events;
	struct veneer_event event;
	assert_int_equal(vn_events_init(&events, NULL), 0);
	vn_events_wake(&events);
	assert_true(is_readable(&events));
	assert_false(vn_events_take(&events, &event));
	assert_false(is_readable(&events));
	vn_events_destroy(&events);
}

static void *add_many(void *arg)
{
	for (uint32_t i = 1; i <= ROUNDS; i++)
		add(arg, i);
	return NULL;
}

// Whoever polls sees the last event, whatever came between.
static void test_threads(void **state)
{
	(void)state;
	struct vn_events events;
	struct veneer_event event = {.value = 0};
	pthread_t thread;
	uint32_t last = 0;
	assert_int_equal(vn_events_init(&events, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, add_many, &events), 0);
	while (last < ROUNDS) {
		struct pollfd wait = {.fd = events.fd, .events = POLLIN};
		assert_int_equal(poll(&wait, 1, 60000), 1);
		while (vn_events_take(&events, &event)) {
			assert_true(event.value > last);
			last = event.value;
		}
	}
	pthread_join(thread, NULL);
	assert_false(is_readable(&events));
	vn_events_destroy(&events);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_oldest_are_lost),
		cmocka_unit_test(test_wake),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
