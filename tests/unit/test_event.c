// SPDX-License-Identifier: Apache-2.0
//
// The generic event device's register, without KVM. Its line is among the tests of `irq`.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/x86/map.h"
#include "devices/event.h"

static struct vn_event *make_event(struct vn_bus *bus)
{
	struct vn_event *event;

	assert_int_equal(vn_event_create(&event, NULL, bus, NULL), 0);
	return event;
}

static uint8_t read_register(const struct vn_bus *bus)
{
	uint8_t value = 0xff;

	vn_bus_read(bus, VN_PORT_EVENT, &value, 1);
	return value;
}

static void reading_clears(void **state)
{
	struct vn_bus bus = {0};
	struct vn_event *event = make_event(&bus);

	(void)state;
	assert_int_equal(read_register(&bus), 0);
	vn_event_raise(event, VN_EVENT_BUTTON);
	assert_int_equal(read_register(&bus), VN_EVENT_BUTTON);
	assert_int_equal(read_register(&bus), 0);
	vn_event_raise(event, VN_EVENT_BUTTON);
	vn_event_raise(event, VN_EVENT_BUTTON);
	assert_int_equal(read_register(&bus), VN_EVENT_BUTTON);
	assert_int_equal(read_register(&bus), 0);
	vn_event_destroy(event);
}

static void writing_does_nothing(void **state)
{
	const uint8_t ones = 0xff;
	struct vn_bus bus = {0};
	struct vn_event *event = make_event(&bus);

	(void)state;
	vn_bus_write(&bus, VN_PORT_EVENT, &ones, 1);
	assert_int_equal(read_register(&bus), 0);
	vn_event_raise(event, VN_EVENT_BUTTON);
	vn_bus_write(&bus, VN_PORT_EVENT, &ones, 1);
	assert_int_equal(read_register(&bus), VN_EVENT_BUTTON);
	vn_event_destroy(event);
}

static void a_reset_forgets(void **state)
{
	struct vn_bus bus = {0};
	struct vn_event *event = make_event(&bus);

	(void)state;
	vn_event_reset(event); // of nothing
	assert_int_equal(read_register(&bus), 0);
	vn_event_raise(event, VN_EVENT_BUTTON);
	vn_event_reset(event);
	assert_int_equal(read_register(&bus), 0);
	vn_event_raise(event, VN_EVENT_BUTTON);
	assert_int_equal(read_register(&bus), VN_EVENT_BUTTON);
	vn_event_destroy(event);
}

static void port_taken(void **state)
{
	static const struct vn_bus_ops none = {0};
	struct veneer_error error = {.code = 0};
	struct vn_event *event = NULL;
	struct vn_bus bus = {0};

	(void)state;
	assert_int_equal(vn_bus_add(&bus, VN_PORT_EVENT, 1, &none, NULL, NULL), 0);
	assert_int_equal(vn_event_create(&event, NULL, &bus, &error), -EEXIST);
	assert_string_not_equal(error.message, "");
	assert_null(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading_clears),
		cmocka_unit_test(writing_does_nothing),
		cmocka_unit_test(a_reset_forgets),
		cmocka_unit_test(port_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
