// SPDX-License-Identifier: Apache-2.0
/*
 * Local APIC and IOAPIC. The x2APIC is a set of MSRs, which only ring 0 may use; where it is
 * lacking (QEMU's TCG), the same registers lie in memory at 0xfee00000.
 */
#include "apic.h"

#include "machine.h"
#include "ring0.h"

#define MSR_APIC_BASE      0x1b
#define APIC_BASE_ENABLE   (3ull << 10) /* global enable, x2APIC */
#define MSR_X2APIC         0x800
#define XAPIC              0xfee00000u
#define REGISTER_ID        0x02
#define REGISTER_SPURIOUS  0x0f
#define REGISTER_ICR       0x30
#define REGISTER_ICR_HIGH  0x31
#define REGISTER_TIMER     0x32
#define REGISTER_COUNT     0x38
#define REGISTER_DIVIDE    0x3e
#define TIMER_PERIODIC     0x20000
#define DIVIDE_BY_1        0xb
#define TICK_COUNT         250000000 /* a quarter of a second at KVM's and QEMU's 1 GHz */
#define REGISTER_LINT0     0x35
#define LVT_MASKED         0x10000
#define SPURIOUS_ENABLE    0x100
#define ICR_INIT           0x4500 /* level assert */
#define ICR_STARTUP        0x4600
#define ICR_ALL_OTHERS     0xc4000 /* fixed, assert */
#define IOAPIC_SELECT      0xfec00000u
#define IOAPIC_WINDOW      0xfec00010u
#define IOAPIC_REDIRECTION 0x10

extern uint8_t x2apic_mode;

static unsigned routed;

static void write_register(unsigned number, uint32_t value)
{
	if (x2apic_mode)
		ring0_wrmsr(MSR_X2APIC + number, value);
	else
		mmio_write32(XAPIC + number * 16, value);
}

void apic_init(void)
{
	if (ring0_cpuid(1, 0).ecx & (1u << 21)) {
		ring0_wrmsr(MSR_APIC_BASE, ring0_rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE);
		x2apic_mode = 1;
	}
	/* A PC's 8259 hangs on LINT0, and would deliver what the IOAPIC delivers once more. */
	write_register(REGISTER_LINT0, LVT_MASKED);
	write_register(REGISTER_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
}

uint32_t apic_id(void)
{
	if (x2apic_mode)
		return (uint32_t)ring0_rdmsr(MSR_X2APIC + REGISTER_ID);
	return mmio_read32(XAPIC + REGISTER_ID * 16) >> 24;
}

/*
 * A tick, so that a sleep ends though the interrupt that it waits for never comes: then the sleeper
 * can say so. It also bounds what a lost wake-up costs on emulated machines that lose some.
 */
static void start_tick(void)
{
	write_register(REGISTER_DIVIDE, DIVIDE_BY_1);
	write_register(REGISTER_TIMER, TIMER_PERIODIC | VECTOR_TICK);
	write_register(REGISTER_COUNT, TICK_COUNT);
}

int apic_vector(void)
{
	apic_init();
	if (!routed)
		start_tick();
	if (VECTOR_IRQ + routed == VECTOR_TICK)
		return -1;
	ring0_irq(1);
	return (int)routed++;
}

int apic_route(uint32_t gsi)
{
	static uint32_t routes[VECTOR_TICK - VECTOR_IRQ]; /* a GSI plus one for each vector */
	uint32_t entry = IOAPIC_REDIRECTION + 2 * gsi;
	int irq;

	for (irq = 0; irq < (int)routed; irq++) {
		if (routes[irq] == gsi + 1)
			return irq;
	}
	irq = apic_vector();
	if (irq < 0)
		return -1;
	routes[irq] = gsi + 1;
	mmio_write32(IOAPIC_SELECT, entry + 1);
	mmio_write32(IOAPIC_WINDOW, apic_id() << 24);
	mmio_write32(IOAPIC_SELECT, entry);
	mmio_write32(IOAPIC_WINDOW, VECTOR_IRQ + (uint32_t)irq);
	return irq;
}

static void send(uint32_t id, uint32_t command)
{
	if (x2apic_mode) {
		ring0_wrmsr(MSR_X2APIC + REGISTER_ICR, (uint64_t)id << 32 | command);
		return;
	}
	mmio_write32(XAPIC + REGISTER_ICR_HIGH * 16, id << 24);
	mmio_write32(XAPIC + REGISTER_ICR * 16, command);
}

void apic_start_cpu(uint32_t id)
{
	send(id, ICR_INIT);
	delay_us(200);
	send(id, ICR_STARTUP | AP_TRAMPOLINE >> 12);
}

void apic_wake_others(void)
{
	send(0, ICR_ALL_OTHERS | VECTOR_WAKE);
}
