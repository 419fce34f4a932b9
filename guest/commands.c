// SPDX-License-Identifier: Apache-2.0
/*
 * The ways a guest can end or hang, input and output over the serial line, and a listing of what
 * the VMM handed over: what tests of a VMM's life cycle ask for.
 */
#include "commands.h"

#include <stdbool.h>

#include "apic.h"
#include "machine.h"
#include "pci.h"
#include "print.h"
#include "ring0.h"

#define SLEEP_S5          0x34 /* SLP_TYP 5 << 2 | SLP_EN */
#define RESET_PULSE       0xfe
#define RESET_HARD        0x02
#define RESET_NOW         0x04
#define PVPANIC_PANICKED  0x01
#define PVPANIC_EVENTS    0x03 /* that, and a panic that a crash kernel takes care of */
#define GSI_SERIAL        4
#define SERIAL_IER        (PORT_SERIAL + 1)
#define SERIAL_IIR        (PORT_SERIAL + 2)
#define SERIAL_LSR        (PORT_SERIAL + 5)
#define IER_DATA          1
#define IIR_NONE          1
#define LSR_DATA          1
#define FLOOD_DEFAULT_KIB 1024
#define SETTLE_US         2000000
#define EVENT_BUTTON      1
#define EVENT_POLL_US     10000

void leave(uint32_t status)
{
	print_flush();
	out32(PORT_DEBUG_EXIT, status);
	print("no debug exit at port 0xf4; status %u\n", status);
	out8(PORT_SLEEP, SLEEP_S5);
	out8(PORT_KEYBOARD, RESET_PULSE);
	for (;;)
		ring0_call(RING0_HALT);
}

int command_exit(const char *value)
{
	uint64_t status = 0;

	parse_number(&value, &status);
	leave((uint32_t)status);
}

int command_spin(const char *value)
{
	(void)value;
	print("spin: for ever\n");
	for (;;)
		__asm__ volatile("" : : : "memory");
}

int command_hlt(const char *value)
{
	(void)value;
	print("hlt: for ever, interrupts off\n");
	ring0_call(RING0_HALT);
	return fail("hlt with interrupts off", "no return", "a return");
}

int command_triple(const char *value)
{
	(void)value;
	print("triple: fault without an IDT\n");
	ring0_call(RING0_TRIPLE);
	return fail("triple fault", "no return", "a return");
}

int command_ill0(const char *value)
{
	uint64_t rax = RING0_MAGIC + RING0_POPCNT;

	(void)value;
	print("ill0: popcnt in ring 0\n");
	__asm__ volatile("ud2" : "+a"(rax) : "D"(0xff0ff) : "memory");
	if (rax != 16)
		return fail_number("popcnt in ring 0", 16, rax);
	print("ill0: popcnt works in ring 0\n");
	return 0;
}

/* Ends that take effect a moment later, in another process: wait, and say so if they do not. */
static int end_by(const char *name, uint16_t port, uint8_t value)
{
	print("%s\n", name);
	out8(port, value);
	delay_us(SETTLE_US);
	return fail(name, "the machine's end", "none");
}

int command_reset(const char *value)
{
	if (!text_equal(value, "cf9"))
		return end_by("reset", PORT_KEYBOARD, RESET_PULSE);
	out8(PORT_CHIPSET, RESET_HARD);
	if (in8(PORT_CHIPSET) != RESET_HARD)
		return fail_number("reset control register", RESET_HARD, in8(PORT_CHIPSET));
	return end_by("reset", PORT_CHIPSET, RESET_HARD | RESET_NOW);
}

/* Says so and goes on with the next word. */
int command_panic(const char *value)
{
	uint64_t events;

	if (in8(PORT_PVPANIC) != PVPANIC_EVENTS)
		return fail_number("pvpanic's events", PVPANIC_EVENTS, in8(PORT_PVPANIC));
	if (!parse_number(&value, &events))
		events = PVPANIC_PANICKED;
	print("panic: events %lu\n", events);
	out8(PORT_PVPANIC, (uint8_t)events);
	return 0;
}

int command_poweroff(const char *value)
{
	(void)value;
	return end_by("poweroff", PORT_SLEEP, SLEEP_S5);
}

/*
 * Looks for the power button in the event device's register, which forgets what was read from it.
 */
int command_button(const char *value)
{
	uint64_t count;

	if (!parse_number(&value, &count))
		count = 1;
	print("ready\n");
	while (count > 0) {
		if (in8(PORT_EVENT) & EVENT_BUTTON) {
			print("pressed\n");
			count--;
		}
		delay_us(EVENT_POLL_US);
	}
	return 0;
}

/* One character from the serial port, asleep until its interrupt. */
static char serial_get(int irq)
{
	for (;;) {
		uint32_t seen = irq_counts[irq];

		if (in8(SERIAL_LSR) & LSR_DATA)
			return (char)in8(PORT_SERIAL);
		/* An interrupt still asserted would raise no further edge: read it away first. */
		if (in8(SERIAL_IIR) & IIR_NONE)
			ring0_wait(&irq_counts[irq], seen);
	}
}

/* "quit", or "quit" with the exit status. */
static bool is_quit(const char *line, uint64_t *status)
{
	const char *number = line + 5;

	if (text_equal(line, "quit"))
		return true;
	return !memcmp(line, "quit ", 5) && parse_number(&number, status) && !*number;
}

int command_echo(const char *value)
{
	int irq = apic_route(GSI_SERIAL);
	uint64_t status = 0;
	char text[256];
	size_t n = 0;

	(void)value;
	if (irq < 0)
		return fail("interrupt vector for the serial port", "one", "none");
	print("ready\n");
	out8(SERIAL_IER, IER_DATA);
	for (;;) {
		char c = serial_get(irq);

		if (c != '\n' && c != '\r') {
			if (n + 1 < sizeof(text))
				text[n++] = c;
			continue;
		}
		text[n] = '\0';
		n = 0;
		if (is_quit(text, &status))
			break;
		for (char *p = text; *p; p++) {
			if (*p >= 'a' && *p <= 'z')
				*p = (char)(*p - 'a' + 'A');
		}
		print("%s\n", text);
	}
	out8(SERIAL_IER, 0);
	print("echo: quit\n");
	return (int)status;
}

int command_flood(const char *value)
{
	uint64_t kib;

	if (!parse_number(&value, &kib))
		kib = FLOOD_DEFAULT_KIB;
	for (uint64_t i = 0; i < kib * 16; i++)
		print("flood %010lu of %010lu: abcdefghijklmnopqrstuvwxyz 0123\n", i, kib * 16);
	return 0;
}

/* The last word of the memory for buffers, which nothing else here reaches so far: a reset keeps
 * it. */
int command_keep(const char *value)
{
	uint64_t mark = machine_mark(), bytes = machine_available(), word = 0;
	uint64_t *place;

	parse_number(&value, &word);
	if (bytes < sizeof(*place))
		return fail_number("keep: bytes of memory for buffers", sizeof(*place), bytes);
	place = (uint64_t *)(uintptr_t)((mark + bytes - sizeof(*place)) & ~(uint64_t)7);
	print("keep: found %lx, leaves %lx\n", *place, word);
	*place = word;
	return 0;
}

int command_dump(const char *value)
{
	(void)value;
	print("dump: %u words on the command line\n", machine.word_count);
	for (unsigned i = 0; i < machine.word_count; i++)
		print("word %s\n", machine.words[i]);
	for (unsigned i = 0; i < machine.range_count; i++) {
		const struct machine_range *r = &machine.ranges[i];

		print("memory %016lx-%016lx type %u%s\n", r->base, r->base + r->bytes - 1, r->type,
			r->type == 1 ? " RAM" : "");
	}
	print("RAM %lu KiB\n", machine_ram_bytes() >> 10);
	print("devices from the %s\n", machine.device_source);
	for (unsigned i = 0; i < machine.device_count; i++) {
		const struct machine_device *d = &machine.devices[i];

		print("virtio-mmio %lx size %lx gsi %u: device ID %u\n", d->base, d->bytes, d->gsi,
			mmio_read32(d->base + 8));
	}
	for (unsigned i = 0; i < pci_scan(); i++) {
		const struct pci_function *f = &pci_functions[i];

		print("pci slot %u: %04x:%04x, %u MSI-X vectors\n", f->slot, f->vendor, f->device,
			f->vectors);
		for (unsigned bar = 0; bar < PCI_BARS; bar++) {
			if (f->bars[bar].bytes)
				print("  bar %u at %lx size %lx\n", bar, f->bars[bar].base,
					f->bars[bar].bytes);
		}
	}
	for (unsigned i = 0; i < machine.cpu_count; i++)
		print("cpu %u: APIC ID %u\n", i, machine.apic_ids[i]);
	print("tsc %lu Hz from %s\n", machine.tsc_hz, machine.tsc_source);
	return 0;
}
