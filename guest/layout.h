// SPDX-License-Identifier: Apache-2.0
/*
 * Where things lie: the addresses, selectors and vectors that the assembler files, the linker
 * script and the C code of the guest agree on. Read by the assembler too, so only macros here.
 *
 * Fixed link addresses let the descriptor tables be static data: a gate or a TSS descriptor holds
 * its address in pieces, which no relocation can express, but which constants can.
 */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define TABLES_BASE 0x100000 /* tables.S: TSS, GDT, IDT, page tables (guest.ld asserts it) */
#define RING0_BASE  0x110000 /* entry.S: the interrupt stubs, 16 bytes each (asserted too) */

#define AP_TRAMPOLINE 0x8000 /* real-mode start of the other CPUs; SIPI vector is this >> 12 */

#define MAX_CPUS 64

#define SEL_CODE64      0x08
#define SEL_DATA        0x10
#define SEL_USER_CODE64 0x1b
#define SEL_USER_DATA   0x23
#define SEL_CODE32      0x28
#define SEL_TSS         0x30 /* of CPU 0; CPU n has SEL_TSS + 16 * n */

#define RFLAGS_IOPL3 0x3002 /* I/O privilege 3, interrupts off, bit 1 always set */

#define TSS_IO_BYTES 424 /* I/O bitmap: ports 0 to 0xd3f, with the PCI ones near its end */
#define TSS_LIMIT    (0x68 + TSS_IO_BYTES) /* the bitmap ends in a byte of ones */

#define VECTOR_UD       6
#define VECTOR_IRQ      0x40 /* first of the device interrupts */
#define VECTOR_TICK     0x4d /* four times a second, while interrupts are used */
#define VECTOR_WAKE     0x4e /* from CPU 0 to the others */
#define VECTOR_SPURIOUS 0x4f
#define VECTORS         0x50

/* What ring 3 may ask of ring 0: %eax at the `ud2`. README.md has the registers. */
#define RING0_MAGIC  0x564e5200
#define RING0_RDMSR  0
#define RING0_WRMSR  1
#define RING0_CPUID  2
#define RING0_WAIT   3
#define RING0_IRQ    4
#define RING0_HALT   5
#define RING0_TRIPLE 6
#define RING0_POPCNT 7
#define RING0_COUNT  8

#define PORT_SERIAL      0x3f8
#define PORT_KEYBOARD    0x64
#define PORT_DEBUG_EXIT  0xf4
#define PORT_PVPANIC     0x505
#define PORT_SLEEP       0x600
#define PORT_EVENT       0x603
#define PORT_PCI_ADDRESS 0xcf8
#define PORT_CHIPSET     0xcf9 /* reset control, alone; within PCI_ADDRESS */
#define PORT_PCI_DATA    0xcfc

#endif
