// SPDX-License-Identifier: Apache-2.0
//
// The state in which the boot CPU enters the kernel, as values; boot.c gives them to KVM.
#ifndef VN_X86_ENTRY_H
#define VN_X86_ENTRY_H

#include <linux/kvm.h>
#include <stdint.h>

#include "arch/x86/boot.h"

#define VN_ENTRY_CS        0x10 // Linux: __BOOT_CS
#define VN_ENTRY_DS        0x18 // Linux: __BOOT_DS
#define VN_ENTRY_GDT_COUNT 4

// Flat 64-bit code and data, for the Linux protocol; belongs at VN_MAP_GDT.
extern const uint64_t vn_entry_gdt[VN_ENTRY_GDT_COUNT];

// `sregs` comes with the vCPU's own reset state, of which only what the protocol rules is changed.
// Pure.
void vn_entry_state(const struct vn_boot *boot, struct kvm_regs *regs, struct kvm_sregs *sregs);

#endif
