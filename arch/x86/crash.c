// SPDX-License-Identifier: Apache-2.0
//
// The report of a crash. The usual one on hosts without hardware virtualization is an instruction
// that KVM's software emulator does not know, so that is said in words that help.
#include "arch/x86/crash.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "arch/x86/cpuid.h"
#include "base/text.h"

#define INSTRUCTION_MAX 15
// Where a processor starts after INIT; on AMD, KVM puts a vCPU there before it reports the fault.
#define RESET_VECTOR 0xfff0

// The bytes at the instruction pointer: from KVM where it gives them, else from guest memory.
static unsigned instruction_bytes(
	uint8_t bytes[INSTRUCTION_MAX], const struct vn_vcpu *vcpu, uint64_t linear)
{
	const struct kvm_run *run = vcpu->run;

	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
		run->emulation_failure.suberror == KVM_INTERNAL_ERROR_EMULATION &&
		run->emulation_failure.ndata >= 3 &&
		(run->emulation_failure.flags &
			KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		unsigned count = run->emulation_failure.insn_size;
		count = count > INSTRUCTION_MAX ? INSTRUCTION_MAX : count;
		memcpy(bytes, run->emulation_failure.insn_bytes, count);
		return count;
	}
	struct kvm_translation translation = {.linear_address = linear};
	if (vn_kvm_ioctl(vcpu->fd, KVM_TRANSLATE, &translation) < 0 || !translation.valid)
		return 0;
	for (unsigned count = INSTRUCTION_MAX; count > 0; count--)
		if (vn_memory_read(
			    vcpu->memory, VN_GPA(translation.physical_address), bytes, count) == 0)
			return count;
	return 0;
}

static void add_cause(struct vn_text *text, const struct vn_vcpu *vcpu, uint64_t rip)
{
	const struct kvm_run *run = vcpu->run;

	vn_text_add(text, "vCPU %u ", vcpu->index);
	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		vn_text_add(text, "had a triple fault at 0x%" PRIx64 "%s", rip,
			rip == RESET_VECTOR ? " (KVM had reset the registers by then)" : "");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vn_text_add(text,
			"could not enter the guest at 0x%" PRIx64 ": hardware reason 0x%" PRIx64,
			rip, (uint64_t)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
			vn_text_add(text,
				"stopped at 0x%" PRIx64
				": KVM cannot execute the instruction there "
				"(internal error, suberror 1)",
				rip);
		else
			vn_text_add(text,
				"stopped at 0x%" PRIx64 ": KVM internal error, suberror %u", rip,
				run->internal.suberror);
		break;
	default:
		vn_text_add(text, "stopped at 0x%" PRIx64 ": KVM exit reason %u is not known here",
			rip, run->exit_reason);
	}
}

static void add_remedy(struct vn_text *text, const struct kvm_run *run)
{
	if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR ||
		run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
		return;
	if (vn_cpuid_host_virtualizes())
		vn_text_add(text, "\n"
				  "KVM emulates some instructions in software, "
				  "accesses to devices among them, "
				  "and its emulator does not know this one.");
	else
		vn_text_add(text, "\n"
				  "This host's CPU offers neither VT-x nor AMD-V: "
				  "its KVM emulates kernel code in software "
				  "and does not know this instruction. "
				  "Run this guest on a host with hardware virtualization.");
}

static void add_segment(struct vn_text *text, const char *name, const struct kvm_segment *segment)
{
	vn_text_add(text, "%s %04x base 0x%llx limit 0x%x type %u%s dpl %u\n", name,
		segment->selector, segment->base, segment->limit, segment->type,
		segment->l ? " long" : "", segment->dpl);
}

static void add_registers(
	struct vn_text *text, const struct kvm_regs *regs, const struct kvm_sregs *sregs)
{
	vn_text_add(text,
		"rip %016llx rflags %016llx\n"
		"rax %016llx rbx %016llx rcx %016llx rdx %016llx\n"
		"rsi %016llx rdi %016llx rbp %016llx rsp %016llx\n"
		"r8  %016llx r9  %016llx r10 %016llx r11 %016llx\n"
		"r12 %016llx r13 %016llx r14 %016llx r15 %016llx\n",
		regs->rip, regs->rflags, regs->rax, regs->rbx, regs->rcx, regs->rdx, regs->rsi,
		regs->rdi, regs->rbp, regs->rsp, regs->r8, regs->r9, regs->r10, regs->r11,
		regs->r12, regs->r13, regs->r14, regs->r15);
	vn_text_add(text, "cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx\n", sregs->cr0, sregs->cr2,
		sregs->cr3, sregs->cr4, sregs->efer);
	add_segment(text, "cs", &sregs->cs);
	add_segment(text, "ss", &sregs->ss);
	vn_text_add(text, "gdt 0x%llx limit 0x%x idt 0x%llx limit 0x%x", sregs->gdt.base,
		sregs->gdt.limit, sregs->idt.base, sregs->idt.limit);
}

void vn_crash_describe(const struct vn_vcpu *vcpu, char *buffer, size_t size)
{
	struct vn_text text = vn_text_of(buffer, size);
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs = {0};
	bool known = vn_kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0 &&
		     vn_kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0;

	add_cause(&text, vcpu, regs.rip);
	if (!known) {
		vn_text_add(&text, "\nKVM does not give its registers");
		return;
	}
	uint8_t bytes[INSTRUCTION_MAX];
	uint64_t linear = regs.rip + (sregs.cs.l ? 0 : sregs.cs.base);
	unsigned count = instruction_bytes(bytes, vcpu, linear);
	if (count > 0) {
		vn_text_add(&text, "\ninstruction bytes:");
		for (unsigned i = 0; i < count; i++)
			vn_text_add(&text, " %02x", bytes[i]);
	}
	add_remedy(&text, vcpu->run);
	vn_text_add(&text, "\n");
	add_registers(&text, &regs, &sregs);
}
