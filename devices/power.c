// SPDX-License-Identifier: Apache-2.0
//
// The ports through which a guest ends itself. Each write either ends the guest or means nothing,
// so any vCPU may write at any time without a lock; the one byte that can be read back is atomic.
#include "devices/power.h"

#include <string.h>

#include "arch/x86/map.h"
#include "base/macros.h"

// Keyboard controller (8042). A status whose output buffer never empties (bit 0) makes a driver
// that probes find no controller after a few reads, without time-outs; an input buffer that is
// always empty (bit 1 clear) lets a kernel that waits for it send its reset at once.
#define KBC_STATUS_OUTPUT_FULL 0x01
#define KBC_PULSE_RESET        0xfe

// SLEEP_CONTROL (ACPI 6.4 section 4.8.3.7): SLP_TYP is bits 2 to 4.
#define SLEEP_TYPE_SHIFT 2
#define SLEEP_TYPE_MASK  0x7

// Reset control register, as PCI chipsets have it since the PIIX3:
// RST_CPU going from 0 to 1 resets. Which parts the other two say; here it is always the machine.
#define RESET_CONTROL_SYSTEM 0x02
#define RESET_CONTROL_CPU    0x04
#define RESET_CONTROL_FULL   0x08

// Register values of up to 32 bits; wider ones do not exist on the port bus.
static uint32_t value_of(const void *data, unsigned size)
{
	uint32_t value = 0;

	memcpy(&value, data, size < sizeof(value) ? size : sizeof(value));
	return value;
}

static void end(void *opaque, enum veneer_end how, uint32_t value)
{
	const struct vn_power *power = opaque;

	power->hook->ended(power->hook->opaque, how, value, "");
}

static void read_zero(void *opaque, uint64_t offset, void *data, unsigned size)
{
	(void)opaque;
	(void)offset;
	memset(data, 0, size);
}

// Only a write at the port itself counts, with 1, 2 or 4 bytes; what is not written is zero.
static void debug_exit_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	if (offset == 0)
		end(opaque, VENEER_END_EXIT, value_of(data, size));
}

static void sleep_control_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	uint32_t value = value_of(data, size);

	(void)offset;
	if ((value & VN_SLEEP_ENABLE) &&
		((value >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK) == VN_SLEEP_S5)
		end(opaque, VENEER_END_POWEROFF, 0);
}

// SLEEP_STATUS holds one bit, WAK_STS, set when a sleep was left: no sleep is ever left here. So
// writes, which clear it, find it clear.
static void sleep_status_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)data;
	(void)size;
}

static void reset_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	(void)offset;
	if (value_of(data, size) == VN_RESET_VALUE)
		end(opaque, VENEER_END_RESET, 0);
}

static void reset_control_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	struct vn_power *power = opaque;

	(void)offset;
	(void)size;
	*(uint8_t *)data = atomic_load_explicit(&power->reset_control, memory_order_relaxed);
}

// RST_CPU is never kept, so a write that has it makes it go from 0 to 1.
static void reset_control_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	struct vn_power *power = opaque;
	uint8_t value = *(const uint8_t *)data;

	(void)offset;
	(void)size;
	atomic_store_explicit(&power->reset_control,
		value & (RESET_CONTROL_SYSTEM | RESET_CONTROL_FULL), memory_order_relaxed);
	if (value & RESET_CONTROL_CPU)
		end(power, VENEER_END_RESET, 0);
}

static void kbc_status_read(void *opaque, uint64_t offset, void *data, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	*(uint8_t *)data = KBC_STATUS_OUTPUT_FULL;
}

static void kbc_command_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	(void)offset;
	if (value_of(data, size) == KBC_PULSE_RESET)
		end(opaque, VENEER_END_RESET, 0);
}

// Bytes sent to a keyboard that is not there.
static void kbc_data_write(void *opaque, uint64_t offset, const void *data, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)data;
	(void)size;
}

static const struct vn_bus_ops debug_exit_ops = {read_zero, debug_exit_write};
static const struct vn_bus_ops sleep_control_ops = {read_zero, sleep_control_write};
static const struct vn_bus_ops sleep_status_ops = {read_zero, sleep_status_write};
static const struct vn_bus_ops reset_ops = {read_zero, reset_write};
static const struct vn_bus_ops reset_control_ops = {reset_control_read, reset_control_write};
static const struct vn_bus_ops kbc_data_ops = {read_zero, kbc_data_write};
static const struct vn_bus_ops kbc_command_ops = {kbc_status_read, kbc_command_write};

int vn_power_add(struct vn_power *power, struct vn_bus *pio, const struct vn_end_hook *hook,
	struct veneer_error *error)
{
	static const struct {
		uint64_t port;
		uint64_t size;
		const struct vn_bus_ops *ops;
	} ports[] = {
		{VN_PORT_KEYBOARD_DATA, 1, &kbc_data_ops},
		{VN_PORT_KEYBOARD_COMMAND, 1, &kbc_command_ops},
		{VN_PORT_DEBUG_EXIT, 4, &debug_exit_ops},
		{VN_PORT_SLEEP_CONTROL, 1, &sleep_control_ops},
		{VN_PORT_SLEEP_STATUS, 1, &sleep_status_ops},
		{VN_PORT_RESET, 1, &reset_ops},
	};
	int ret = 0;

	power->hook = hook;
	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(ports); i++)
		ret = vn_bus_add(pio, ports[i].port, ports[i].size, ports[i].ops, power, error);
	if (ret == 0)
		ret = vn_bus_add_within(
			pio, VN_PORT_RESET_CONTROL, 1, &reset_control_ops, power, error);
	return ret;
}

void vn_power_reset(struct vn_power *power)
{
	atomic_store_explicit(&power->reset_control, 0, memory_order_relaxed);
}
