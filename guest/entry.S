// SPDX-License-Identifier: Apache-2.0
/*
 * Everything that runs in ring 0: the PVH entry, the way into 64-bit ring 3, the services that
 * ring 3 asks for with `ud2`, the interrupt handlers, and the start of further CPUs.
 *
 * Some KVMs emulate ring 0 in software, slowly and without the rarer instructions. So this is
 * short, straight, and made of plain integer instructions; all work is in ring 3.
 */
#include "layout.h"

	.section .note.Xen, "a", @note
	.balign 4
	.long	4, 8, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.quad	pvh_entry

	.section .ring0, "ax", @progbits
	.code64

/* One stub a vector; the gates in tables.S count on their address and their size. */
	.globl isr_stubs
isr_stubs:
	.set	n, 0
	.rept	VECTORS
	.balign 16, 0x90
	.if	n == VECTOR_UD
	jmp	isr_ud
	.elseif	n == VECTOR_SPURIOUS
	iretq
	.elseif	n >= VECTOR_IRQ
	push	%rax
	mov	$(n - VECTOR_IRQ), %eax
	jmp	isr_irq
	.elseif	n == 8 || (n >= 10 && n <= 14) || n == 17 || n == 21 || n == 29 || n == 30
	push	$n			/* the processor has pushed an error code */
	jmp	isr_exception
	.else
	push	$0
	push	$n
	jmp	isr_exception
	.endif
	.set	n, n + 1
	.endr

/*
 * Counts the interrupt and ends it; whoever waits looks at the count. One that lands on the `hlt`
 * of service_wait steps over it: emulated processors exist that let it in behind the `sti`, and the
 * sleep would miss what it has waited for.
 */
	.balign 16
isr_irq:
	incl	irq_counts(, %rax, 4)
	cmpq	$service_wait_hlt, 8(%rsp)
	jne	1f
	incq	8(%rsp)
1:
	cmpb	$0, x2apic_mode
	je	2f
	push	%rcx
	push	%rdx
	mov	$0x80b, %ecx		/* x2APIC end of interrupt */
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq
2:	mov	$0xfee000b0, %eax	/* xAPIC end of interrupt */
	movl	$0, (%rax)
	pop	%rax
	iretq

/* `ud2` from ring 3 with the magic in %eax is a request; anything else is an exception. */
isr_ud:
	testb	$3, 8(%rsp)
	jz	1f
	sub	$RING0_MAGIC, %eax
	cmp	$RING0_COUNT, %eax
	jae	1f
	jmp	*ring0_services(, %rax, 8)
1:	push	$0
	push	$VECTOR_UD

/*
 * Leaves the interrupted code for good: on_exception(vector, error, rip, cr2) in ring 3, on the
 * stack of its own that exception_frame names.
 */
isr_exception:
	pop	%rdi
	pop	%rsi
	mov	(%rsp), %rdx
	mov	%cr2, %rcx
	mov	$exception_frame, %esp
	iretq

service_rdmsr:
	rdmsr
	shl	$32, %rdx
	or	%rdx, %rax
	jmp	service_done
service_wrmsr:
	mov	%edi, %eax
	mov	%rdi, %rdx
	shr	$32, %rdx
	wrmsr
	jmp	service_done
service_cpuid:
	mov	%edi, %eax
	cpuid
	jmp	service_done

/*
 * Sleeps unless *%rdi has left the value %esi already. Interrupts are off from the look until the
 * instruction after `sti` has begun, so none is lost between the look and the sleep.
 */
service_wait:
	cmp	%esi, (%rdi)
	jne	service_done
	sti
service_wait_hlt:
	hlt
	cli
service_done:
	addq	$2, (%rsp)
	iretq

/* Interrupts in ring 3: on if %edi is not zero. */
service_irq:
	test	%edi, %edi
	jz	1f
	orl	$0x200, 16(%rsp)
	jmp	service_done
1:	andl	$~0x200, 16(%rsp)
	jmp	service_done

service_halt:
	hlt
	jmp	service_halt

service_triple:
	lidt	null_pointer
	ud2

service_popcnt:
	popcnt	%rdi, %rax
	jmp	service_done

/*
 * PVH entry: 32-bit protected mode, flat segments, no paging, %ebx the start info. A command line
 * that begins with `exit=N` is answered right here; anywhere else on the line C finds it.
 */
	.code32
	.globl pvh_entry
pvh_entry:
	cld
	mov	24(%ebx), %esi		/* cmdline_paddr, low half */
	test	%esi, %esi
	jz	enter_bsp
	cmpl	$0x74697865, (%esi)	/* "exit" */
	jne	enter_bsp
	cmpb	$'=', 4(%esi)
	jne	enter_bsp
	xor	%eax, %eax
1:	movzbl	5(%esi), %ecx
	sub	$'0', %ecx
	cmp	$9, %ecx
	ja	2f
	lea	(%eax, %eax, 4), %eax
	lea	(%ecx, %eax, 2), %eax
	inc	%esi
	jmp	1b
2:	out	%eax, $PORT_DEBUG_EXIT

enter_bsp:
	mov	%ebx, %edi
	mov	$boot_frame, %ebp
	mov	$SEL_TSS, %esi
	lgdt	gdt_pointer

/* To ring 3, by the frame at %ebp, with task segment %esi and the argument %edi. */
enter_ring3:
	mov	$0x620, %eax		/* CR4: PAE, OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx	/* EFER: LME */
	mov	$0x100, %eax
	xor	%edx, %edx
	wrmsr
	mov	$0x80000033, %eax	/* CR0: PG, NE, ET, MP, PE */
	mov	%eax, %cr0
	ljmp	$SEL_CODE64, $1f
	.code64
1:	lidt	idt_pointer
	ltr	%si
	mov	%ebp, %esp
	iretq

/* What a further CPU runs at AP_TRAMPOLINE, in real mode, at cs:0. */
	.code16
	.globl ap_trampoline, ap_trampoline_bytes
ap_trampoline:
	cli
	lgdtl	%cs:(ap_gdt_pointer - ap_trampoline)
	mov	$0x33, %eax
	mov	%eax, %cr0
	ljmpl	$SEL_CODE32, $ap_start
ap_gdt_pointer:
	.word	gdt_limit
	.long	gdt
ap_trampoline_end:

	.code32
ap_start:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	ap_frame, %ebp
	mov	ap_tss, %esi
	mov	ap_argument, %edi
	jmp	enter_ring3

	.section .rodata
	.balign 8
ring0_services:
	.quad	service_rdmsr, service_wrmsr, service_cpuid, service_wait
	.quad	service_irq, service_halt, service_triple, service_popcnt
ap_trampoline_bytes:
	.quad	ap_trampoline_end - ap_trampoline
null_pointer:
	.word	0
	.quad	0

/* Frames for `iretq`. A function expects its stack as a call leaves it: 8 off a multiple of 16. */
	.section .data
	.balign 8
boot_frame:
	.quad	guest_main, SEL_USER_CODE64, RFLAGS_IOPL3, stack_top - 8, SEL_USER_DATA
exception_frame:
	.quad	on_exception, SEL_USER_CODE64, RFLAGS_IOPL3, exception_stack_top - 8, SEL_USER_DATA

	.globl x2apic_mode, ap_frame, ap_tss, ap_argument
x2apic_mode:
	.byte	0
	.balign 4
ap_frame:
	.long	0
ap_tss:
	.long	0
ap_argument:
	.long	0

	.section .bss, "aw", @nobits
	.globl irq_counts
	.balign 64
irq_counts:
	.zero	4 * 16
	.balign 16
	.zero	16384
stack_top:
	.zero	4096
exception_stack_top:
	.zero	1024
	.globl ring0_stack_top
ring0_stack_top:

	.section .note.GNU-stack, "", @progbits
