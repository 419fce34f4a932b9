// SPDX-License-Identifier: Apache-2.0
//
// Guest memory: where it comes from on the host (transparent huge pages, hugetlbfs, NUMA nodes)
// and the one door through which the monitor reaches it. A guest-physical address is a type of its
// own that cannot be dereferenced or added to by accident; vn_memory_at() is the only translation,
// and it checks. Needs no KVM: unit tests build a memory and hand it to devices and loaders.
#ifndef VN_MEMORY_H
#define VN_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/progress.h"
#include "core/memory_options.h"

// A guest-physical address.
typedef struct {
	uint64_t addr;
} vn_gpa;

#define VN_GPA(value) ((vn_gpa){(value)})

// A run of guest-physical addresses backed by RAM, as long as it can be: cells that lie one behind
// the other share it, as a buffer of the guest's may well do.
struct vn_ram {
	vn_gpa start;
	uint64_t size; // bytes
	uint8_t *host; // belongs to the memory
};

// A part of a cell in one piece.
struct vn_memory_part {
	vn_gpa start;
	uint64_t size; // bytes
};

// A NUMA node of the guest, with a backing of its own.
struct vn_memory_cell {
	uint64_t size; // bytes
	uint64_t page_size; // of the backing: 4096, 2 MiB or 1 GiB
	int node; // of the host, bound to; or -1
	bool transparent; // 4096, and the kernel gives transparent huge pages
	int fd; // a memfd, or -1: private memory
	bool populated; // every page is touched before the guest starts
	struct vn_memory_part parts[2]; // below the hole and from 4 GiB on, or one of them
	unsigned part_count;
};

#define VN_RAM_MAX (VN_CELLS_MAX + 1)

// Owned by the vm; everything in it but `lost` is immutable once it is made, so any thread may
// translate. What the bytes hold is the guest's, which changes them at any moment.
struct vn_memory {
	struct vn_ram ram[VN_RAM_MAX]; // ascending, with gaps between them
	// 1, or 2 where there is memory from 4 GiB on; more where large pages leave gaps.
	unsigned ram_count;
	uint64_t size; // bytes of RAM in all
	struct vn_memory_cell cells[VN_CELLS_MAX]; // ascending
	unsigned cell_count;
	uint8_t *host; // guest-physical 0
	uint64_t span; // bytes of address space from there on
	bool refused; // while it is made: huge pages that were counted as free could not be had
	bool stays; // every page is there from the start, and none is to be given back or merged
	// 0, or the guest-physical page that the host took away first, with the si_code of its
	// SIGBUS in the low bits. The one thing that changes.
	_Atomic uint64_t lost;
};

// What to make.
struct vn_memory_plan {
	struct vn_memory_options options; // for all cells, but for its size, pages and node
	const struct vn_cell_options *cells; // 1 to VN_CELLS_MAX
	size_t cell_count;
	uint64_t hole_start; // [hole_start, 4 GiB) is no RAM
	struct vn_progress progress;
	const struct vn_log *log; // what the host does not do as well as it could; or NULL
};

// Where cells lie whose sizes and pages are known: one behind the other, around the hole, and each
// from a multiple of its page size on, which may leave a gap. Fills in everything that says where,
// but for host addresses. Pure.
void vn_memory_lay_out(struct vn_memory *memory, uint64_t hole_start);

// How far two cells are from each other, for the guest's firmware tables: 10 for one and itself,
// which no other pair has; what the host, with its files below `root`, says of their nodes; or 20.
uint8_t vn_memory_distance(
	const struct vn_memory *memory, const char *root, unsigned from, unsigned to);

// Map it, and bind it to its nodes; no page is touched yet. Refuses, with the remedy, when huge
// pages or a node lack room: -ENOMEM; -EINVAL for sizes that are no multiple of the page size,
// -ENODEV for a node that is not there.
int vn_memory_map(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error);

// Touch all pages that are to be there from the start. -ENOMEM, and -ECANCELED when plan->progress
// gives up: the pages are gone then, the addresses are not before vn_memory_destroy().
int vn_memory_populate(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error);

// Both; on failure, nothing is left.
int vn_memory_make(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error);

// The same, all of it in one cell.
int vn_memory_create(struct vn_memory *memory, const struct vn_memory_options *options,
	uint64_t hole_start, struct veneer_error *error);
void vn_memory_destroy(struct vn_memory *memory);

// A thread met SIGBUS, with this si_code, at a host address: put a new page in the place of the one
// that is gone, so that the access goes on, and remember that the guest lost it. False: the address
// is not in this memory, or there is no new page. Async-signal-safe, and leaves errno as it was.
bool vn_memory_replace(struct vn_memory *memory, void *address, int si_code);

// Whether what was read from guest memory before this call may have come from an empty page.
static inline bool vn_memory_is_lost(const struct vn_memory *memory)
{
	// Those reads come first: for the compiler by this fence, and x86 keeps loads in order. The
	// partner: vn_memory_replace(), in a signal handler, sets `lost` before the empty page is
	// there.
	atomic_signal_fence(memory_order_acquire);
	return atomic_load_explicit(&memory->lost, memory_order_relaxed) != 0;
}

// Why the host may have refused a page that was touched, for a message: ": ..." or nothing.
void vn_memory_explain_fault(const struct vn_memory *memory, char *text, size_t size);

// The line that says which page was lost, and why as far as that is known. Empty when none was.
void vn_memory_describe_loss(const struct vn_memory *memory, char *text, size_t size);

// The host address of [gpa, gpa + length), or NULL unless all of it is RAM in one run. A length
// of 0 is never valid. Any thread.
void *vn_memory_at(const struct vn_memory *memory, vn_gpa gpa, uint64_t length);

// Copy out of and into guest memory; -EFAULT, with nothing copied, unless all of it is RAM.
int vn_memory_read(const struct vn_memory *memory, vn_gpa gpa, void *data, uint64_t length);
int vn_memory_write(const struct vn_memory *memory, vn_gpa gpa, const void *data, uint64_t length);

#endif
