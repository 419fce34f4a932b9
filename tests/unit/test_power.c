// SPDX-License-Identifier: Apache-2.0
//
// The ports that end a guest: what ends it, how, and what does not.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/x86/map.h"
#include "base/macros.h"
#include "devices/power.h"

struct seen {
	unsigned count;
	enum veneer_end end;
	uint32_t value;
};

static void ended(void *opaque, enum veneer_end end, uint32_t value, const char *message)
{
	struct seen *seen = opaque;

	assert_non_null(message);
	seen->count++;
	seen->end = end;
	seen->value = value;
}

struct write_case {
	const char *what;
	uint64_t port;
	uint32_t value;
	unsigned size;
	bool ends;
	enum veneer_end end;
	uint32_t exit_value;
};

static const struct write_case writes[] = {
	{"exit, 1 byte", VN_PORT_DEBUG_EXIT, 0xab, 1, true, VENEER_END_EXIT, 0xab},
	{"exit, 1 byte of 4", VN_PORT_DEBUG_EXIT, 0x123456ab, 1, true, VENEER_END_EXIT, 0xab},
	{"exit, 2 bytes", VN_PORT_DEBUG_EXIT, 0xffff, 2, true, VENEER_END_EXIT, 0xffff},
	{"exit, 4 bytes", VN_PORT_DEBUG_EXIT, 0xfedcba98, 4, true, VENEER_END_EXIT, 0xfedcba98},
	{"exit with 0", VN_PORT_DEBUG_EXIT, 0, 4, true, VENEER_END_EXIT, 0},
	{"beside the exit port", VN_PORT_DEBUG_EXIT + 1, 7, 1, false, 0, 0},
	{"across the exit port's end", VN_PORT_DEBUG_EXIT + 2, 7, 4, false, 0, 0},
	{"soft off", VN_PORT_SLEEP_CONTROL, 0x34, 1, true, VENEER_END_POWEROFF, 0},
	{"soft off not enabled", VN_PORT_SLEEP_CONTROL, 0x14, 1, false, 0, 0},
	{"another sleep", VN_PORT_SLEEP_CONTROL, 0x2c, 1, false, 0, 0},
	{"clear the wake status", VN_PORT_SLEEP_STATUS, 0x80, 1, false, 0, 0},
	{"reset register", VN_PORT_RESET, VN_RESET_VALUE, 1, true, VENEER_END_RESET, 0},
	{"another value there", VN_PORT_RESET, 0x06, 1, false, 0, 0},
	{"kind of reset only", VN_PORT_RESET_CONTROL, 0x0a, 1, false, 0, 0},
	{"hard reset", VN_PORT_RESET_CONTROL, 0x06, 1, true, VENEER_END_RESET, 0},
	{"full reset", VN_PORT_RESET_CONTROL, 0x0e, 1, true, VENEER_END_RESET, 0},
	{"soft reset", VN_PORT_RESET_CONTROL, 0x04, 1, true, VENEER_END_RESET, 0},
	{"two bytes there", VN_PORT_RESET_CONTROL, 0x0606, 2, false, 0, 0},
	{"PCI's CONFIG_ADDRESS", VN_PORT_PCI, 0x80000606, 4, false, 0, 0},
	{"keyboard reset line", VN_PORT_KEYBOARD_COMMAND, 0xfe, 1, true, VENEER_END_RESET, 0},
	{"keyboard self-test", VN_PORT_KEYBOARD_COMMAND, 0xaa, 1, false, 0, 0},
	{"to the keyboard", VN_PORT_KEYBOARD_DATA, 0xfe, 1, false, 0, 0},
};

static void test_writes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		const struct write_case *c = &writes[i];
		struct seen seen = {0};
		struct vn_end_hook hook = {.ended = ended, .opaque = &seen};
		struct vn_power power = {0};
		struct vn_bus bus = {0};

		assert_int_equal(vn_power_add(&power, &bus, &hook, NULL), 0);
		vn_bus_write(&bus, c->port, &c->value, c->size);
		if (seen.count != (c->ends ? 1u : 0u) || (c->ends && seen.end != c->end) ||
			seen.value != c->exit_value)
			fail_msg("%s: ended %u times, as %d with %#x", c->what, seen.count,
				(int)seen.end, seen.value);
	}
}

static uint32_t read_port(const struct vn_bus *bus, uint64_t port, unsigned size)
{
	uint32_t value = 0xffffffff;

	vn_bus_read(bus, port, &value, size);
	return size == 4 ? value : value & ((1u << 8 * size) - 1);
}

static void test_reads(void **state)
{
	struct seen seen = {0};
	struct vn_end_hook hook = {.ended = ended, .opaque = &seen};
	struct vn_power power = {0};
	struct vn_bus bus = {0};

	(void)state;
	assert_int_equal(vn_power_add(&power, &bus, &hook, NULL), 0);
	assert_int_equal(read_port(&bus, VN_PORT_DEBUG_EXIT, 1), 0);
	assert_int_equal(read_port(&bus, VN_PORT_DEBUG_EXIT, 4), 0);
	assert_int_equal(read_port(&bus, VN_PORT_SLEEP_CONTROL, 1), 0);
	assert_int_equal(read_port(&bus, VN_PORT_SLEEP_STATUS, 1), 0);
	assert_int_equal(read_port(&bus, VN_PORT_RESET, 1), 0);
	// A probing driver finds data that never ends; a reset finds room for its command.
	for (int i = 0; i < 32; i++) {
		assert_int_equal(read_port(&bus, VN_PORT_KEYBOARD_COMMAND, 1) & 0x3, 0x1);
		read_port(&bus, VN_PORT_KEYBOARD_DATA, 1);
	}
	assert_int_equal(seen.count, 0);
}

static void write_port(const struct vn_bus *bus, uint64_t port, uint8_t value)
{
	vn_bus_write(bus, port, &value, 1);
}

// As Linux resets by it: the bits that it finds there and the kind of reset, then the reset.
static void test_reset_control_reads_back(void **state)
{
	struct seen seen = {0};
	struct vn_end_hook hook = {.ended = ended, .opaque = &seen};
	struct vn_power power = {0};
	struct vn_bus bus = {0};

	(void)state;
	assert_int_equal(vn_power_add(&power, &bus, &hook, NULL), 0);
	assert_int_equal(read_port(&bus, VN_PORT_RESET_CONTROL, 1), 0);
	write_port(&bus, VN_PORT_RESET_CONTROL, 0xfb);
	assert_int_equal(read_port(&bus, VN_PORT_RESET_CONTROL, 1), 0x0a);
	write_port(&bus, VN_PORT_RESET_CONTROL, 0x02);
	assert_int_equal(read_port(&bus, VN_PORT_RESET_CONTROL, 1), 0x02);
	assert_int_equal(seen.count, 0);
	write_port(&bus, VN_PORT_RESET_CONTROL, 0x06);
	assert_int_equal(read_port(&bus, VN_PORT_RESET_CONTROL, 1), 0x02);
	assert_int_equal(seen.count, 1);
}

static void test_port_taken(void **state)
{
	static const struct vn_bus_ops none = {0};
	struct vn_end_hook hook = {.ended = ended};
	struct veneer_error error = {.code = 0};
	struct vn_power power = {0};
	struct vn_bus bus = {0};

	(void)state;
	assert_int_equal(vn_bus_add(&bus, VN_PORT_RESET, 1, &none, NULL, NULL), 0);
	assert_int_equal(vn_power_add(&power, &bus, &hook, &error), -EEXIST);
	assert_string_not_equal(error.message, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes),
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_reset_control_reads_back),
		cmocka_unit_test(test_port_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
