// SPDX-License-Identifier: Apache-2.0
//
// Loading a kernel: what file it is, where its pieces go in guest memory, and the state in which
// the boot CPU enters it. Two protocols: PVH (an ELF with the Xen PHYS32_ENTRY note; the CPU starts
// in 32-bit protected mode) and the 64-bit Linux boot protocol (other ELF kernels, and bzImage,
// whose payload is decompressed here if it can be, else by the kernel itself).
#ifndef VN_X86_BOOT_H
#define VN_X86_BOOT_H

#include <asm/bootparam.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/x86/machine.h"
#include "base/file_prop.h"
#include "core/memory.h"

enum vn_boot_protocol { VN_BOOT_PVH, VN_BOOT_LINUX64 };

// What is known of a kernel once it is opened. A plain value: nothing in it needs to be given back.
struct vn_boot {
	enum vn_boot_protocol protocol;
	vn_gpa entry;
	struct setup_header setup_header; // the bzImage's own, or one made for an ELF
	uint64_t kernel_start, kernel_end; // guest-physical; all that is loaded or unpacked
	uint64_t initrd_start, initrd_end; // both 0 without an initrd
};

// What to boot from. All of it outlives the source.
struct vn_boot_files {
	const struct vn_file *kernel; // NULL: the ELF at `builtin`
	const void *builtin;
	size_t builtin_size;
	const struct vn_file *initrd; // or NULL
};

struct vn_boot_source;

// Open the files, check their headers, and decide where everything goes: the initrd as high as the
// kernel allows, below the hole, page aligned. Touches no guest memory. -ENOENT..., or -ENOEXEC
// with one clear line for every kind of malformed header, -E2BIG for what does not fit.
int vn_boot_open(struct vn_boot_source **source, struct vn_boot *boot,
	const struct vn_boot_files *files, const struct vn_memory *memory,
	struct veneer_error *error);

// Put the kernel and the initrd into guest memory, once. What can still fail is reading, and
// decompressing a damaged payload (-ENOEXEC); guest memory is undefined then.
int vn_boot_load(struct vn_boot_source *source, const struct vn_boot *boot,
	const struct vn_memory *memory, struct veneer_error *error);

void vn_boot_close(struct vn_boot_source *source); // NULL is allowed

// -E2BIG when the command line is longer than this kernel takes.
int vn_boot_check_cmdline(
	const struct vn_boot *boot, const char *cmdline, struct veneer_error *error);

// Put the command line, which has passed vn_boot_check_cmdline(), memory map, and the protocol's
// structures into guest memory: boot_params with SETUP_RNG_SEED and SETUP_DTB, page tables and GDT;
// or start_info with module 0 the initrd (or an empty entry) and module 1, whose command line is
// "dtb", the device tree. `rsdp` 0: no ACPI. -E2BIG when the device tree is too long.
int vn_boot_finish(const struct vn_boot *boot, const struct vn_machine *machine, vn_gpa rsdp,
	const void *dtb, size_t dtb_size, struct veneer_error *error);

// Do to any vCPU what firmware does before a kernel runs: memory is cached unless the kernel says
// otherwise, and string instructions are fast. For every vCPU, once CPUID is set.
int vn_boot_prepare_vcpu(int vcpu_fd, struct veneer_error *error);

// Give vCPU 0 the registers with which the protocol enters the kernel. Other vCPUs wait for
// INIT and SIPI, as KVM creates them.
int vn_boot_enter(const struct vn_boot *boot, int vcpu_fd, struct veneer_error *error);

#endif
