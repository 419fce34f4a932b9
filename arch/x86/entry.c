// SPDX-License-Identifier: Apache-2.0
//
// Registers at the kernel's first instruction. Both protocols want flat segments and interrupts
// off; PVH protected mode without paging, Linux long mode on the page tables that linux.c wrote.
#include "arch/x86/entry.h"

#include "arch/x86/map.h"

#define CR0_PE          0x00000001ull
#define CR0_ET          0x00000010ull
#define CR0_PG          0x80000000ull
#define CR4_PAE         0x20ull
#define EFER_LME        0x100ull
#define EFER_LMA        0x400ull
#define RFLAGS_RESERVED 0x2ull // bit 1 is always set

// Segment types, all marked as accessed or busy already: VMX refuses to enter others.
#define TYPE_CODE 0xb // execute, read
#define TYPE_DATA 0x3 // read, write
#define TYPE_TSS  0xb // 32 or 64 bits

const uint64_t vn_entry_gdt[VN_ENTRY_GDT_COUNT] = {
	[VN_ENTRY_CS / 8] = 0x00af9b000000ffff, // G, L, present, code
	[VN_ENTRY_DS / 8] = 0x00cf93000000ffff, // G, D, present, data
};

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1};
}

static void set_segments(struct kvm_sregs *sregs)
{
	sregs->cs = flat_segment(VN_ENTRY_CS, TYPE_CODE);
	sregs->ds = flat_segment(VN_ENTRY_DS, TYPE_DATA);
	sregs->es = sregs->fs = sregs->gs = sregs->ss = sregs->ds;
	sregs->tr = (struct kvm_segment){.limit = 0x67, .type = TYPE_TSS, .present = 1};
}

static void set_long_mode(struct kvm_sregs *sregs)
{
	sregs->cs.db = 0;
	sregs->cs.l = 1;
	sregs->gdt.base = VN_MAP_GDT;
	sregs->gdt.limit = sizeof(vn_entry_gdt) - 1;
	sregs->cr3 = VN_MAP_PAGE_TABLES;
	sregs->cr4 = CR4_PAE;
	sregs->efer = EFER_LME | EFER_LMA;
	sregs->cr0 |= CR0_PG;
}

void vn_entry_state(const struct vn_boot *boot, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	*regs = (struct kvm_regs){.rip = boot->entry.addr, .rflags = RFLAGS_RESERVED};
	set_segments(sregs);
	sregs->cr0 = CR0_PE | CR0_ET; // caches on, which a reset leaves off
	if (boot->protocol == VN_BOOT_PVH) {
		regs->rbx = VN_MAP_PVH_INFO;
	} else {
		regs->rsi = VN_MAP_BOOT_PARAMS;
		set_long_mode(sregs);
	}
}
