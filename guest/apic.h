// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupt controllers: the local APIC (x2APIC if there is one) and the IOAPIC.
 */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include <stdint.h>

/* Turns the local APIC of this CPU on. CPU 0 first: the others follow its choice of mode. */
void apic_init(void);
uint32_t apic_id(void);

/*
 * An interrupt vector that nobody has, VECTOR_IRQ and above, for this CPU, which lets ring 3 be
 * interrupted. Returns its index in irq_counts[], or -1 when none is left.
 */
int apic_vector(void);

/*
 * Routes a GSI (a pin of the IOAPIC at 0xfec00000), edge triggered and active high, to this CPU and
 * lets ring 3 be interrupted. Returns the index in irq_counts[], the same again for a GSI that is
 * routed already, or -1 when none is left.
 */
int apic_route(uint32_t gsi);

/* INIT and start-up interrupts to another CPU, which begins at AP_TRAMPOLINE. */
void apic_start_cpu(uint32_t id);

/* An interrupt to all other CPUs, which does nothing but end ring0_wait(). */
void apic_wake_others(void);

#endif
