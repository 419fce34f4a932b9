// SPDX-License-Identifier: Apache-2.0
//
// pvpanic in both its forms: what a driver finds, which writes count and how often, and when a
// guest that panicked has said its last words.
#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "arch/x86/map.h"
#include "base/clock.h"
#include "base/macros.h"
#include "devices/pvpanic.h"

#define SLOT        31
#define WINDOW      (8 * GIB)
#define WINDOW_SIZE BIT64(30)
#define LIMIT_S     60 // for what must happen; ends a wait early
#define EVENTS      3
#define PANICKED    1
#define CRASH       2

static struct {
	struct vn_ioloop *loop;
	struct vn_irq irq;
	struct vn_serial *serial;
	struct vn_bus pio, mmio;
	struct vn_pci *pci;
	struct vn_pvpanic *pvpanic;
	struct vn_end_hook end;
	struct vn_log log;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned panics, notes, ends;
	enum veneer_end how;
	char message[128];
} bench;

static void panicked(void *opaque, const char *message)
{
	(void)opaque;
	bench.panics++;
	snprintf(bench.message, sizeof(bench.message), "%s", message);
}

// On the loop's thread.
static void ended(void *opaque, enum veneer_end end, uint32_t value, const char *message)
{
	(void)opaque;
	(void)value;
	(void)message;
	pthread_mutex_lock(&bench.lock);
	bench.ends++;
	bench.how = end;
	pthread_cond_signal(&bench.changed);
	pthread_mutex_unlock(&bench.lock);
}

static void said(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)opaque;
	assert_int_equal(severity, VENEER_SEVERITY_INFO);
	bench.notes++;
	snprintf(bench.message, sizeof(bench.message), "%s", text);
}

static int set_up(void **state)
{
	(void)state;
	memset(&bench, 0, sizeof(bench));
	pthread_mutex_init(&bench.lock, NULL);
	pthread_cond_init(&bench.changed, NULL);
	bench.end = (struct vn_end_hook){ended, panicked, NULL};
	bench.log = (struct vn_log){said, NULL};
	int code = vn_ioloop_create(&bench.loop, "test", 16, NULL, NULL);
	if (code == 0)
		code = vn_irq_open(&bench.irq, NULL, VN_GSI_SERIAL, NULL);
	if (code == 0)
		code = vn_serial_create(
			&bench.serial, bench.loop, &bench.irq, -1, -1, &bench.log, NULL);
	if (code == 0)
		code = vn_pci_create(
			&bench.pci, &bench.mmio, &bench.pio, WINDOW, WINDOW_SIZE, NULL);
	const struct vn_pvpanic_site site = {&bench.end, &bench.log, bench.loop, bench.serial};
	if (code == 0)
		code = vn_pvpanic_create(&bench.pvpanic, &site, NULL);
	if (code == 0)
		code = vn_pvpanic_add_port(bench.pvpanic, &bench.pio, NULL);
	return code == 0 ? vn_pvpanic_add_pci(bench.pvpanic, bench.pci, SLOT, NULL) : code;
}

static int tear_down(void **state)
{
	(void)state;
	vn_pvpanic_destroy(bench.pvpanic);
	vn_pci_destroy(bench.pci);
	vn_serial_destroy(bench.serial);
	vn_irq_close(&bench.irq);
	vn_ioloop_destroy(bench.loop);
	pthread_cond_destroy(&bench.changed);
	pthread_mutex_destroy(&bench.lock);
	return 0;
}

static uint64_t config(unsigned offset, unsigned size)
{
	uint64_t value = 0;
	vn_bus_read(&bench.mmio, VN_MAP_ECAM + (SLOT << 15) + offset, &value, size);
	return value;
}

// The BAR's address, with decoding on.
static uint64_t bar(void)
{
	const uint16_t command = PCI_COMMAND_MEMORY;
	vn_bus_write(&bench.mmio, VN_MAP_ECAM + (SLOT << 15) + PCI_COMMAND, &command, 2);
	return config(PCI_BASE_ADDRESS_0, 8) & PCI_BASE_ADDRESS_MEM_MASK;
}

static uint64_t get(const struct vn_bus *bus, uint64_t address, unsigned size)
{
	uint64_t value = 0;
	vn_bus_read(bus, address, &value, size);
	return value;
}

static void set(const struct vn_bus *bus, uint64_t address, uint64_t value, unsigned size)
{
	vn_bus_write(bus, address, &value, size);
}

static void print_byte(void)
{
	vn_serial_ops.write(bench.serial, 0, "x", 1);
}

static uint64_t now_ms(void)
{
	return vn_clock_ns() / NS_PER_MS;
}

static void wait_for_end(void)
{
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += LIMIT_S;
	pthread_mutex_lock(&bench.lock);
	while (bench.ends == 0)
		assert_int_equal(pthread_cond_timedwait(&bench.changed, &bench.lock, &limit), 0);
	assert_int_equal(bench.how, VENEER_END_PANIC);
	pthread_mutex_unlock(&bench.lock);
}

static void the_port_tells_events(void **state)
{
	(void)state;
	assert_int_equal(get(&bench.pio, VN_PORT_PVPANIC, 1), EVENTS);
	assert_int_equal(get(&bench.pio, VN_PORT_PVPANIC, 2), 0xffff);
	assert_int_equal(get(&bench.pio, VN_PORT_PVPANIC, 4), 0xffffffff);
}

static void the_function_is_what_drivers_look_for(void **state)
{
	(void)state;
	assert_int_equal(config(PCI_VENDOR_ID, 4), 0x00111b36);
	assert_int_equal(config(PCI_CLASS_REVISION, 4), 0x08800001);
	assert_int_equal(config(PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
	assert_int_equal(config(PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(config(PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(config(PCI_CAPABILITY_LIST, 1), 0);
	uint64_t address = bar();
	assert_true(address >= WINDOW && address < WINDOW + WINDOW_SIZE);
	for (unsigned size = 1; size <= 8; size *= 2) {
		assert_int_equal(get(&bench.mmio, address, size), EVENTS);
		assert_int_equal(get(&bench.mmio, address + 8, size), 0);
		assert_int_equal(get(&bench.mmio, address + 4096 - size, size), 0);
	}
}

static void what_is_no_event_does_nothing(void **state)
{
	(void)state;
	uint64_t address = bar();
	for (unsigned bit = 2; bit < 8; bit++) {
		set(&bench.pio, VN_PORT_PVPANIC, 1u << bit, 1);
		set(&bench.mmio, address, 1u << bit, 1);
	}
	set(&bench.pio, VN_PORT_PVPANIC, 0, 1);
	set(&bench.pio, VN_PORT_PVPANIC, UINT64_MAX, 2);
	set(&bench.pio, VN_PORT_PVPANIC, UINT64_MAX, 4);
	set(&bench.pio, VN_PORT_PVPANIC - 1, UINT64_MAX, 2);
	set(&bench.mmio, address, 0xffffff00, 4);
	for (unsigned offset = 1; offset < 4096; offset++)
		for (unsigned size = 1; size <= 8; size *= 2)
			set(&bench.mmio, address + offset, UINT64_MAX, size);
	assert_int_equal(bench.panics + bench.notes + bench.ends, 0);
}

static void a_crash_kernel_is_noted_once(void **state)
{
	(void)state;
	uint64_t address = bar();
	for (unsigned i = 0; i < 3; i++) {
		set(&bench.pio, VN_PORT_PVPANIC, CRASH, 1);
		set(&bench.mmio, address, CRASH, 1);
	}
	assert_int_equal(bench.notes, 1);
	assert_non_null(strstr(bench.message, "crash kernel"));
	assert_int_equal(bench.panics + bench.ends, 0);
}

// As from a guest with both drivers, and one that would not stop.
static void a_panic_counts_once(void **state)
{
	(void)state;
	uint64_t address = bar();
	for (unsigned size = 1; size <= 8; size *= 2)
		set(&bench.mmio, address, PANICKED | CRASH, size);
	for (unsigned i = 0; i < 1000; i++)
		set(&bench.pio, VN_PORT_PVPANIC, PANICKED, 1);
	assert_int_equal(bench.panics, 1);
	assert_non_null(strstr(bench.message, "panicked"));
	assert_int_equal(bench.notes, 0);
	wait_for_end();
	set(&bench.pio, VN_PORT_PVPANIC, PANICKED, 1);
	assert_int_equal(bench.panics, 1);
}

// A second without output is silence; what was printed within the first adds another.
static void silence_ends_it(void **state)
{
	(void)state;
	uint64_t begin = now_ms();
	set(&bench.pio, VN_PORT_PVPANIC, PANICKED, 1);
	print_byte();
	uint64_t took = now_ms() - begin;
	if (took > 900) {
		print_message("# this machine took %u ms for a byte\n", (unsigned)took);
		skip();
	}
	wait_for_end();
	assert_true(now_ms() - begin >= 2000);
	assert_int_equal(bench.ends, 1);
}

static void it_can_go_while_it_waits(void **state)
{
	(void)state;
	set(&bench.pio, VN_PORT_PVPANIC, PANICKED, 1);
	assert_int_equal(bench.panics, 1); // and tear_down() is next
}

static void wait_longer_than_silence(void)
{
	nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
}

static unsigned ends(void)
{
	pthread_mutex_lock(&bench.lock);
	unsigned count = bench.ends;
	pthread_mutex_unlock(&bench.lock);
	return count;
}

// A guest that is paused has not said its last words.
static void a_pause_is_no_silence(void **state)
{
	(void)state;
	vn_pvpanic_pause(bench.pvpanic); // of one that has not panicked
	vn_pvpanic_resume(bench.pvpanic);
	set(&bench.pio, VN_PORT_PVPANIC, PANICKED, 1);
	vn_pvpanic_pause(bench.pvpanic);
	wait_longer_than_silence();
	assert_int_equal(ends(), 0);
	uint64_t before = now_ms();
	vn_pvpanic_resume(bench.pvpanic);
	wait_for_end();
	assert_true(now_ms() - before >= 900);
	vn_pvpanic_resume(bench.pvpanic);
	wait_longer_than_silence();
	assert_int_equal(ends(), 1);
}

static void a_reset_forgets_a_panic(void **state)
{
	(void)state;
	set(&bench.pio, VN_PORT_PVPANIC, PANICKED, 1);
	set(&bench.pio, VN_PORT_PVPANIC, CRASH, 1);
	vn_pvpanic_reset(bench.pvpanic);
	vn_pvpanic_resume(bench.pvpanic);
	wait_longer_than_silence();
	assert_int_equal(ends(), 0);
	set(&bench.pio, VN_PORT_PVPANIC, CRASH, 1);
	set(&bench.pio, VN_PORT_PVPANIC, PANICKED, 1);
	assert_int_equal(bench.notes, 2);
	assert_int_equal(bench.panics, 2);
	wait_for_end();
}

static void places_that_are_taken(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	assert_int_equal(vn_pvpanic_add_port(bench.pvpanic, &bench.pio, &error), -EEXIST);
	assert_int_equal(vn_pvpanic_add_pci(bench.pvpanic, bench.pci, SLOT, &error), -EEXIST);
	assert_string_not_equal(error.message, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_port_tells_events),
		TEST(the_function_is_what_drivers_look_for),
		TEST(what_is_no_event_does_nothing),
		TEST(a_crash_kernel_is_noted_once),
		TEST(a_panic_counts_once),
		TEST(silence_ends_it),
		TEST(it_can_go_while_it_waits),
		TEST(a_pause_is_no_silence),
		TEST(a_reset_forgets_a_panic),
		TEST(places_that_are_taken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
