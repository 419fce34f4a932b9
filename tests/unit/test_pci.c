// SPDX-License-Identifier: Apache-2.0
//
// The PCI root: both ways into configuration space at every offset and width, BARs that are sized,
// moved and put over each other, and what a function is told of it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86/map.h"
#include "base/macros.h"
#include "devices/power.h"
#include "pci/root.h"

#define WINDOW      (8 * GIB)
#define WINDOW_SIZE GIB
#define BAR_SIZE    ((uint64_t)0x8000)
#define BIG_SIZE    ((uint64_t)0x100000)
#define CF8         VN_PORT_PCI
#define CFC         (VN_PORT_PCI + 4)

// A function that takes note of what it is told.
struct toy {
	struct vn_pci_function function;
	unsigned maps, unmaps;
	uint64_t mapped_at, unmapped_at;
	unsigned readings, writings, resets;
	unsigned last_offset, last_size;
	unsigned bar_reads, bar_writes, bar;
	uint64_t bar_offset, bar_value;
	unsigned bar_size;
};

static struct {
	struct vn_bus mmio, pio;
	struct vn_pci *pci;
	struct toy toys[2]; // in slots 1 and 5
} bench;

static struct toy *toy_of(struct vn_pci_function *function)
{
	return (struct toy *)((char *)function - offsetof(struct toy, function));
}

static void map(struct vn_pci_function *function, unsigned bar, vn_gpa address)
{
	struct toy *toy = toy_of(function);
	if (bar == 0) {
		toy->maps++;
		toy->mapped_at = address.addr;
	}
}

static void unmap(struct vn_pci_function *function, unsigned bar, vn_gpa address)
{
	struct toy *toy = toy_of(function);
	if (bar == 0) {
		toy->unmaps++;
		toy->unmapped_at = address.addr;
	}
}

static void note(struct vn_pci_function *function, unsigned offset, unsigned size)
{
	struct toy *toy = toy_of(function);
	assert_true(size > 0 && offset + size <= VN_PCI_CONFIG_SIZE);
	toy->last_offset = offset;
	toy->last_size = size;
}

static void config_reading(struct vn_pci_function *function, unsigned offset, unsigned size)
{
	note(function, offset, size);
	toy_of(function)->readings++;
	function->config[0x60] = 0x77;
}

static void config_written(struct vn_pci_function *function, unsigned offset, unsigned size)
{
	note(function, offset, size);
	toy_of(function)->writings++;
}

static void bar_note(struct vn_pci_function *function, unsigned bar, uint64_t offset, unsigned size)
{
	struct toy *toy = toy_of(function);
	assert_int_equal(offset % size, 0);
	assert_true(offset + size <= function->bar_size[bar]);
	toy->bar = bar;
	toy->bar_offset = offset;
	toy->bar_size = size;
}

static void bar_read(
	struct vn_pci_function *function, unsigned bar, uint64_t offset, void *data, unsigned size)
{
	bar_note(function, bar, offset, size);
	toy_of(function)->bar_reads++;
	memset(data, 0x5a, size);
}

static void bar_write(struct vn_pci_function *function, unsigned bar, uint64_t offset,
	const void *data, unsigned size)
{
	bar_note(function, bar, offset, size);
	toy_of(function)->bar_writes++;
	toy_of(function)->bar_value = 0;
	memcpy(&toy_of(function)->bar_value, data, size);
}

// Nothing of the function is decoded any more, and what was written is gone.
static void reset(struct vn_pci_function *function)
{
	toy_of(function)->resets++;
	for (unsigned bar = 0; bar < VN_PCI_BARS; bar++)
		assert_false(function->bar_mapped[bar]);
	assert_int_equal(function->config[0x70], 0);
}

static const struct vn_pci_ops ops = {.map = map,
	.unmap = unmap,
	.config_reading = config_reading,
	.config_written = config_written,
	.reset = reset,
	.bar_read = bar_read,
	.bar_write = bar_write};

static int set_up(void **state)
{
	(void)state;
	struct veneer_error error;
	memset(&bench, 0, sizeof(bench));
	if (vn_pci_create(&bench.pci, &bench.mmio, &bench.pio, WINDOW, WINDOW_SIZE, &error) < 0)
		return -1;
	for (unsigned i = 0; i < 2; i++) {
		struct vn_pci_function *function = &bench.toys[i].function;
		function->ops = &ops;
		memcpy(function->config, (uint16_t[]){0x1234, (uint16_t)(0x5678 + i)}, 4);
		function->writable[0x50] = 0x0f;
		memset(&function->writable[0x70], 0xff, 8);
		function->bar_size[0] = BAR_SIZE;
		function->bar_size[2] = BIG_SIZE;
		if (vn_pci_add(bench.pci, i == 0 ? 1 : 5, function, &error) < 0)
			return -1;
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vn_pci_destroy(bench.pci);
	return 0;
}

static uint64_t ecam(unsigned slot, unsigned function, unsigned offset)
{
	return VN_MAP_ECAM + (slot << 15) + (function << 12) + offset;
}

static uint64_t get(unsigned slot, unsigned offset, unsigned size)
{
	uint64_t value = 0;
	vn_bus_read(&bench.mmio, ecam(slot, 0, offset), &value, size);
	return value;
}

static void set(unsigned slot, unsigned offset, uint64_t value, unsigned size)
{
	vn_bus_write(&bench.mmio, ecam(slot, 0, offset), &value, size);
}

static uint32_t port_get(unsigned port, unsigned size)
{
	uint32_t value = 0;
	vn_bus_read(&bench.pio, port, &value, size);
	return value;
}

static void port_set(unsigned port, uint32_t value, unsigned size)
{
	vn_bus_write(&bench.pio, port, &value, size);
}

static uint64_t all_ones(unsigned size)
{
	return size == 8 ? UINT64_MAX : BIT64(8 * size) - 1;
}

static void decode_memory(unsigned slot, bool on)
{
	set(slot, PCI_COMMAND, on ? PCI_COMMAND_MEMORY : 0, 2);
}

static uint64_t bar_of(unsigned slot, unsigned bar)
{
	return get(slot, PCI_BASE_ADDRESS_0 + 8 * bar, 8) & PCI_BASE_ADDRESS_MEM_MASK;
}

static void slot_0_is_a_host_bridge(void **state)
{
	(void)state;
	assert_int_equal(get(0, PCI_CLASS_DEVICE, 2), 0x0600);
	assert_int_equal(get(0, PCI_HEADER_TYPE, 1), 0);
	assert_int_not_equal(get(0, PCI_VENDOR_ID, 2), 0xffff);
	assert_int_equal(get(0, PCI_INTERRUPT_PIN, 1), 0);
	set(0, PCI_BASE_ADDRESS_0, UINT32_MAX, 4);
	assert_int_equal(get(0, PCI_BASE_ADDRESS_0, 4), 0);
}

static void what_is_absent_reads_as_ones(void **state)
{
	(void)state;
	for (unsigned slot = 0; slot < VN_PCI_SLOTS; slot++)
		for (unsigned function = 0; function < 8; function++) {
			uint32_t id = 0;
			bool present = function == 0 && (slot == 0 || slot == 1 || slot == 5);
			vn_bus_read(&bench.mmio, ecam(slot, function, 0), &id, 4);
			assert_int_equal(id != UINT32_MAX, present);
			port_set(CF8, 0x80000000 | slot << 11 | function << 8, 4);
			assert_int_equal(port_get(CFC, 4), id);
		}
	port_set(CF8, 0x80000000 | 1 << 16, 4); // bus 1
	assert_int_equal(port_get(CFC, 4), UINT32_MAX);
	port_set(CF8, 1 << 11, 4); // not enabled
	assert_int_equal(port_get(CFC, 4), UINT32_MAX);
}

// Every offset and width, also those that no driver uses, reads what is there or ones, and writes
// only the bits that may be.
static void config_space_takes_any_access(void **state)
{
	(void)state;
	static uint8_t before[VN_PCI_CONFIG_SIZE];
	const struct vn_pci_function *function = &bench.toys[0].function;
	for (unsigned size = 1; size <= 8; size *= 2)
		for (unsigned offset = 0; offset < VN_PCI_CONFIG_SIZE; offset++) {
			uint64_t value = get(1, offset, size), expected = 0;
			memcpy(&expected, &function->config[offset],
				offset + size <= VN_PCI_CONFIG_SIZE ? size : 0);
			assert_int_equal(value, offset % size == 0 ? expected : all_ones(size));
			memcpy(before, function->config, sizeof(before));
			set(1, offset, 0x123456789abcdef0u * (offset + 1), size);
			for (unsigned i = 0; i < VN_PCI_CONFIG_SIZE; i++)
				assert_int_equal((before[i] ^ function->config[i]) &
							 ~function->writable[i] &
							 (i == 0x60 ? 0 : 0xff),
					0);
		}
	assert_int_equal(get(1, 0, 4), 0x56781234);
}

static void unaligned_accesses_reach_no_function(void **state)
{
	(void)state;
	struct toy *toy = &bench.toys[0];
	set(1, 0x6d, UINT64_MAX, 8);
	set(1, 0xffe, UINT32_MAX, 4);
	assert_int_equal(get(1, 0xfff, 2), 0xffff);
	assert_int_equal(toy->readings, 0);
	assert_int_equal(toy->writings, 0);
	port_set(CF8, 0x80000000 | 1 << 11 | 0x70, 4);
	port_set(CFC + 1, 0xffff, 2);
	port_set(CFC + 2, UINT32_MAX, 4); // beyond the ports
	port_set(CF8 + 2, UINT32_MAX, 4); // across both
	assert_int_equal(port_get(CF8, 4), 0x80000000 | 1 << 11 | 0x70);
	assert_int_equal(toy->writings, 0);
}

static void functions_hear_of_accesses(void **state)
{
	(void)state;
	struct toy *toy = &bench.toys[1];
	assert_int_equal(get(5, 0x60, 1), 0x77); // made when it is read
	assert_int_equal(toy->readings, 1);
	set(5, 0x50, 0xffff, 2);
	assert_int_equal(toy->writings, 1);
	assert_int_equal(toy->last_offset, 0x50);
	assert_int_equal(toy->last_size, 2);
	assert_int_equal(get(5, 0x50, 2), 0x000f);
	assert_int_equal(bench.toys[0].readings + bench.toys[0].writings, 0);
}

static void ports_reach_the_same_space(void **state)
{
	(void)state;
	port_set(CF8, 0x80000000 | 5 << 11 | 0x70, 4);
	port_set(CFC, 0x04030201, 4);
	port_set(CFC + 2, 0xbbaa, 2);
	port_set(CFC + 1, 0x99, 1);
	assert_int_equal(get(5, 0x70, 4), 0xbbaa9901);
	assert_int_equal(port_get(CFC + 3, 1), 0xbb);
	// Kernels look whether the register is there, and write a byte of it that is not.
	port_set(CF8 + 3, 0x01, 1);
	port_set(CF8, 0x80000000, 4);
	assert_int_equal(port_get(CF8, 4), 0x80000000);
	assert_int_equal(port_get(CF8, 2), 0xffff);
}

static void count_end(void *opaque, enum veneer_end end, uint32_t value, const char *message)
{
	unsigned *resets = opaque;
	(void)value;
	(void)message;
	assert_int_equal(end, VENEER_END_RESET);
	++*resets;
}

// The second byte of CONFIG_ADDRESS, alone, is the chipset's reset control register.
static void reset_control_lies_within_config_address(void **state)
{
	(void)state;
	unsigned resets = 0;
	const struct vn_end_hook hook = {.ended = count_end, .opaque = &resets};
	struct vn_power power = {0};
	assert_int_equal(vn_power_add(&power, &bench.pio, &hook, NULL), 0);
	port_set(CF8, 0x80002e06, 4); // slot 5, function 6; each byte would reset
	assert_int_equal(port_get(CF8, 4), 0x80002e06);
	assert_int_equal(port_get(VN_PORT_RESET_CONTROL, 1), 0);
	port_set(CF8, 0x0606, 2);
	port_set(CF8 + 3, 0x06, 1);
	port_set(VN_PORT_RESET_CONTROL, 0x02, 1);
	assert_int_equal(resets, 0);
	assert_int_equal(port_get(CF8, 4), 0x80002e06);
	port_set(VN_PORT_RESET_CONTROL, 0x06, 1);
	assert_int_equal(resets, 1);
}

static void bars_have_places(void **state)
{
	(void)state;
	uint64_t taken[4];
	for (unsigned i = 0; i < 4; i++) {
		unsigned bar = i % 2 * 2;
		uint64_t size = bar == 0 ? BAR_SIZE : BIG_SIZE;
		taken[i] = bar_of(i < 2 ? 1 : 5, bar);
		assert_int_equal(taken[i] % size, 0);
		assert_true(taken[i] >= WINDOW && taken[i] + size <= WINDOW + WINDOW_SIZE);
		for (unsigned n = 0; n < i; n++)
			assert_true(taken[n] + (n % 2 ? BIG_SIZE : BAR_SIZE) <= taken[i]);
	}
	assert_int_equal(get(1, PCI_BASE_ADDRESS_0, 1) & 0xf, PCI_BASE_ADDRESS_MEM_TYPE_64);
	assert_int_equal(get(1, PCI_BASE_ADDRESS_2, 8), 0); // there is none
	assert_false(get(1, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY);
}

static void bars_are_sized(void **state)
{
	(void)state;
	uint64_t before = get(1, PCI_BASE_ADDRESS_0, 8);
	decode_memory(1, true);
	set(1, PCI_BASE_ADDRESS_0, UINT32_MAX, 4);
	set(1, PCI_BASE_ADDRESS_1, UINT32_MAX, 4);
	assert_int_equal(get(1, PCI_BASE_ADDRESS_0, 8), ~(BAR_SIZE - 1) | 4);
	assert_int_equal(bench.toys[0].maps, 1);
	assert_int_equal(bench.toys[0].unmaps, 1);
	assert_false(bench.toys[0].function.bar_mapped[0]);
	set(1, PCI_BASE_ADDRESS_0, before, 8);
	assert_int_equal(bench.toys[0].maps, 2);
	assert_int_equal(bench.toys[0].mapped_at, bar_of(1, 0));
}

static void command_turns_decoding_on_and_off(void **state)
{
	(void)state;
	struct toy *toy = &bench.toys[0];
	uint64_t address = bar_of(1, 0), value = 0;
	vn_bus_read(&bench.mmio, address, &value, 8);
	assert_int_equal(value, UINT64_MAX);
	decode_memory(1, true);
	decode_memory(1, true);
	assert_int_equal(toy->maps, 1);
	assert_int_equal(toy->mapped_at, address);
	vn_bus_read(&bench.mmio, address + BAR_SIZE - 8, &value, 8);
	assert_int_equal(value, 0x5a5a5a5a5a5a5a5a);
	assert_int_equal(toy->bar_offset, BAR_SIZE - 8);
	decode_memory(1, false);
	assert_int_equal(toy->unmaps, 1);
	assert_int_equal(toy->unmapped_at, address);
	vn_bus_write(&bench.mmio, address, &value, 4);
	assert_int_equal(toy->bar_writes, 0);
}

static void bars_move(void **state)
{
	(void)state;
	struct toy *toy = &bench.toys[0];
	const uint64_t there = WINDOW + WINDOW_SIZE - BAR_SIZE, out = there + BAR_SIZE;
	uint64_t here = bar_of(1, 0);
	uint32_t value = 0x11223344;
	decode_memory(1, true);
	set(1, PCI_BASE_ADDRESS_0, there | 4, 8);
	assert_int_equal(toy->unmapped_at, here);
	assert_int_equal(toy->mapped_at, there);
	vn_bus_write(&bench.mmio, here, &value, 4);
	assert_int_equal(toy->bar_writes, 0);
	vn_bus_write(&bench.mmio, there + 0x104, &value, 4);
	assert_int_equal(toy->bar_writes, 1);
	assert_int_equal(toy->bar_offset, 0x104);
	assert_int_equal(toy->bar_value, value);
	const uint64_t nowhere[] = {out, WINDOW - BAR_SIZE, 0, VN_MAP_ECAM, ~(BAR_SIZE - 1)};
	for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
		set(1, PCI_BASE_ADDRESS_0, nowhere[i], 8);
		assert_false(toy->function.bar_mapped[0]);
		assert_int_equal(toy->maps, toy->unmaps);
		assert_int_equal(bar_of(1, 0), nowhere[i]);
	}
	assert_int_equal(get(1, PCI_VENDOR_ID, 2), 0x1234); // ECAM is where it was
}

static void bars_over_each_other_stay_apart(void **state)
{
	(void)state;
	uint64_t address = bar_of(1, 0);
	uint32_t value = 1;
	decode_memory(1, true);
	decode_memory(5, true);
	set(5, PCI_BASE_ADDRESS_0, address, 8);
	vn_bus_write(&bench.mmio, address, &value, 4);
	assert_int_equal(bench.toys[0].bar_writes, 1);
	assert_int_equal(bench.toys[1].bar_writes, 0);
	decode_memory(1, false);
	vn_bus_write(&bench.mmio, address, &value, 4);
	assert_int_equal(bench.toys[1].bar_writes, 1);
}

static void bar_accesses_are_aligned_and_within(void **state)
{
	(void)state;
	struct toy *toy = &bench.toys[0];
	uint64_t address = bar_of(1, 0), value;
	unsigned answered = 0;
	decode_memory(1, true);
	for (unsigned size = 1; size <= 8; size *= 2)
		for (unsigned offset = 0; offset < 32; offset++) {
			value = 0;
			vn_bus_read(&bench.mmio, address + offset, &value, size);
			answered += offset % size == 0;
			assert_int_equal(toy->bar_reads, answered);
			if (offset % size != 0)
				assert_int_equal(value, all_ones(size));
		}
	vn_bus_read(&bench.mmio, address + BAR_SIZE - 2, &value, 4);
	assert_int_equal(toy->bar_reads, answered);
}

// A guest that writes anything anywhere: nothing but BARs within the window is ever mapped.
static void random_writes_do_no_harm(void **state)
{
	(void)state;
	uint32_t seed = 1;
	for (unsigned i = 0; i < 200000; i++) {
		seed = seed * 1664525 + 1013904223;
		unsigned slot = seed >> 29 & 1 ? 1 : 5;
		unsigned size = 1u << (seed >> 27 & 3);
		unsigned offset = seed >> 12 & (seed & 0x80000000 ? 0x1f : 0xfff);
		set(slot, offset, WINDOW + (seed >> 4), size);
		for (unsigned n = 0; n < 2; n++) {
			const struct toy *toy = &bench.toys[n];
			const struct vn_pci_function *function = &toy->function;
			assert_int_equal(toy->maps - toy->unmaps, function->bar_mapped[0]);
			if (function->bar_mapped[0]) {
				assert_true(function->bar_address[0] >= WINDOW);
				assert_true(function->bar_address[0] + BAR_SIZE <=
					    WINDOW + WINDOW_SIZE);
			}
		}
	}
	assert_true(bench.toys[0].maps > 0);
}

static void a_reset_makes_all_as_it_was(void **state)
{
	(void)state;
	static uint8_t before[2][VN_PCI_CONFIG_SIZE];
	uint64_t home = bar_of(1, 0), value = 0;
	for (unsigned n = 0; n < 2; n++)
		memcpy(before[n], bench.toys[n].function.config, VN_PCI_CONFIG_SIZE);
	for (unsigned n = 0; n < 2; n++) {
		unsigned slot = n == 0 ? 1 : 5;
		set(slot, PCI_COMMAND, 0xffff, 2);
		set(slot, PCI_BASE_ADDRESS_0, (WINDOW + WINDOW_SIZE - (n + 1) * BAR_SIZE) | 4, 8);
		set(slot, PCI_INTERRUPT_LINE, 0xff, 1);
		set(slot, 0x50, 0xff, 1);
		set(slot, 0x70, UINT64_MAX, 8);
	}
	port_set(CF8, 0x80000000 | 5 << 11, 4);
	vn_pci_reset(bench.pci);
	for (unsigned n = 0; n < 2; n++) {
		assert_memory_equal(bench.toys[n].function.config, before[n], VN_PCI_CONFIG_SIZE);
		assert_int_equal(bench.toys[n].resets, 1);
		assert_int_equal(bench.toys[n].maps, bench.toys[n].unmaps);
	}
	assert_int_equal(port_get(CF8, 4), 0);
	vn_bus_read(&bench.mmio, home, &value, 8);
	assert_int_equal(value, UINT64_MAX);
	decode_memory(1, true);
	assert_int_equal(bench.toys[0].mapped_at, home);
	vn_bus_read(&bench.mmio, home, &value, 8);
	assert_int_equal(value, 0x5a5a5a5a5a5a5a5a);
}

// Wherever a guest has put its BARs, and whatever it was in the middle of.
static void a_reset_follows_random_writes(void **state)
{
	(void)state;
	static uint8_t before[2][VN_PCI_CONFIG_SIZE];
	for (unsigned n = 0; n < 2; n++)
		memcpy(before[n], bench.toys[n].function.config, VN_PCI_CONFIG_SIZE);
	random_writes_do_no_harm(state);
	vn_pci_reset(bench.pci);
	for (unsigned n = 0; n < 2; n++) {
		before[n][0x60] = bench.toys[n].function.config[0x60]; // made when it is read
		assert_memory_equal(bench.toys[n].function.config, before[n], VN_PCI_CONFIG_SIZE);
	}
}

static void refusals(void **state)
{
	(void)state;
	struct vn_pci_function function = {.ops = &ops, .bar_size = {2 * GIB}};
	struct veneer_error error = {.code = 0};
	assert_int_equal(vn_pci_add(bench.pci, 1, &function, &error), -EEXIST);
	assert_int_equal(vn_pci_add(bench.pci, 0, &function, &error), -EEXIST);
	assert_int_equal(vn_pci_add(bench.pci, VN_PCI_SLOTS, &function, &error), -EEXIST);
	assert_int_equal(vn_pci_add(bench.pci, 2, &function, &error), -ENOSPC);
	assert_non_null(strstr(error.message, "slot 2"));
	assert_int_equal(get(2, 0, 4), UINT32_MAX);
	struct vn_pci *second;
	assert_int_equal(
		vn_pci_create(&second, &bench.mmio, &bench.pio, WINDOW, GIB, &error), -EEXIST);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(slot_0_is_a_host_bridge),
		TEST(what_is_absent_reads_as_ones),
		TEST(config_space_takes_any_access),
		TEST(unaligned_accesses_reach_no_function),
		TEST(functions_hear_of_accesses),
		TEST(ports_reach_the_same_space),
		TEST(reset_control_lies_within_config_address),
		TEST(bars_have_places),
		TEST(bars_are_sized),
		TEST(command_turns_decoding_on_and_off),
		TEST(bars_move),
		TEST(bars_over_each_other_stay_apart),
		TEST(bar_accesses_are_aligned_and_within),
		TEST(random_writes_do_no_harm),
		TEST(a_reset_makes_all_as_it_was),
		TEST(a_reset_follows_random_writes),
		TEST(refusals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
