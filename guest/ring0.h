// SPDX-License-Identifier: Apache-2.0
/*
 * Ring 3's side of the machine: requests to ring 0 (entry.S serves them), ports, memory-mapped
 * registers, the time-stamp counter. All inline, nothing kept.
 */
#ifndef GUEST_RING0_H
#define GUEST_RING0_H

#include <stdint.h>

#include "layout.h"

/* Interrupts taken, by vector less VECTOR_IRQ; counted in ring 0. */
extern volatile uint32_t irq_counts[16];

struct cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};

static inline uint64_t ring0_rdmsr(uint32_t msr)
{
	uint64_t value;

	__asm__ volatile("ud2"
			 : "=a"(value)
			 : "a"(RING0_MAGIC + RING0_RDMSR), "c"(msr)
			 : "rdx", "memory");
	return value;
}

static inline void ring0_wrmsr(uint32_t msr, uint64_t value)
{
	uint64_t rax = RING0_MAGIC + RING0_WRMSR;

	__asm__ volatile("ud2" : "+a"(rax) : "c"(msr), "D"(value) : "rdx", "memory");
}

/* Asked of ring 0 because some KVMs show ring 3 the host's own CPUID. */
static inline struct cpuid_regs ring0_cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs r;

	__asm__ volatile("ud2"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(RING0_MAGIC + RING0_CPUID), "D"(leaf), "c"(subleaf)
			 : "memory");
	return r;
}

/* Sleeps until some interrupt has come, unless *word differs from seen already. */
static inline void ring0_wait(const volatile uint32_t *word, uint32_t seen)
{
	uint64_t rax = RING0_MAGIC + RING0_WAIT;

	__asm__ volatile("ud2" : "+a"(rax) : "D"(word), "S"(seen) : "memory");
}

static inline void ring0_irq(uint32_t on)
{
	uint64_t rax = RING0_MAGIC + RING0_IRQ;

	__asm__ volatile("ud2" : "+a"(rax) : "D"(on) : "memory");
}

/* For the services that take no argument and may not return. */
static inline void ring0_call(uint32_t service)
{
	uint64_t rax = RING0_MAGIC + service;

	__asm__ volatile("ud2" : "+a"(rax) : "D"(0) : "memory");
}

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

/* Registers in memory: one plain `mov` each, which every instruction emulator knows. */
static inline uint32_t mmio_read32(uint64_t address)
{
	uint32_t value;

	__asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline void mmio_write32(uint64_t address, uint32_t value)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* Orders a store before a later load, which x86 alone does not. */
static inline void full_fence(void)
{
	__asm__ volatile("mfence" : : : "memory");
}

#endif
