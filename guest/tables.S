// SPDX-License-Identifier: Apache-2.0
/*
 * The processor's tables, complete at link time: where KVM emulates ring 0 instruction by
 * instruction, a loop that built them would cost more than all the rest of the start.
 *
 * Everything is mapped for ring 3 and writable: the guest protects nothing from itself, and ring 3
 * adds what only some runs need (mappings above 4 GiB, task segments of further CPUs).
 */
#include "layout.h"

	.section .tables, "aw", @progbits
	.globl tables_start
tables_start:

/*
 * Task segment of CPU 0: ring 0's stack, and an I/O bitmap that opens the ports below 0xd40 to
 * ring 3. IOPL 3 would do that too, but a KVM that runs without VT-x or SVM drops the IOPL.
 */
	.globl tss0
tss0:
	.long	0
	.quad	ring0_stack_top
	.zero	0x66 - 12
	.word	0x68
	.zero	TSS_IO_BYTES
	.byte	0xff
	.balign 16

	.globl gdt
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* SEL_CODE64 */
	.quad	0x00cf93000000ffff	/* SEL_DATA */
	.quad	0x00affb000000ffff	/* SEL_USER_CODE64 */
	.quad	0x00cff3000000ffff	/* SEL_USER_DATA */
	.quad	0x00cf9b000000ffff	/* SEL_CODE32 */
	.quad	(0x0000890000000000 | TSS_LIMIT) + (TABLES_BASE << 16)
	.quad	0			/* SEL_TSS: base TABLES_BASE, below 16 MiB */
	.zero	16 * (MAX_CPUS - 1)
gdt_end:
	.globl gdt_limit
	.set	gdt_limit, gdt_end - gdt - 1

	.globl gdt_pointer, idt_pointer
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt
	.balign 8
idt_pointer:
	.word	idt_end - idt - 1
	.quad	idt

/* Interrupt gates (interrupts off in the handler) to stub n at RING0_BASE + 16 * n. */
	.balign 16
idt:
	.set	n, 0
	.rept	VECTORS
	.word	(RING0_BASE + 16 * n) & 0xffff
	.word	SEL_CODE64
	.word	0x8e00
	.word	(RING0_BASE + 16 * n) >> 16
	.quad	0
	.set	n, n + 1
	.endr
idt_end:

/*
 * Identity map of the first 4 GiB in 2 MiB pages, present, writable, user, accessed and dirty: a
 * processor that need not set the last two does not write here.
 */
	.org	0x1000			/* an alignment would cost 4 KiB in the file */
	.globl pml4, pdpt
pml4:
	.quad	pdpt + 0x27
	.zero	4096 - 8
pdpt:
	.quad	pd + 0x27, pd + 0x1027, pd + 0x2027, pd + 0x3027
	.zero	4096 - 32
pd:
	.set	n, 0
	.rept	2048
	.quad	n * 0x200000 + 0xe7
	.set	n, n + 1
	.endr

	.section .note.GNU-stack, "", @progbits
