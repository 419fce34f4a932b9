// SPDX-License-Identifier: Apache-2.0
//
// How guest memory is made. The order matters: address space is reserved, backed, bound to
// its node before anything touches it, and only then populated; so no page ever sits on
// the wrong node, and whatever is missing is found before the guest starts.
//
// A guest-physical address is at the same distance from the host address of guest-physical 0
// everywhere, with nothing mapped where there is no RAM: so cells that touch in the guest touch on
// the host, and pages of any size are aligned on both sides or on neither.
#include "core/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/memfd.h>
#include <numa.h>
#include <numaif.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/sysfs.h"
#include "core/host_memory.h"
#include "core/populate.h"

static bool is_huge(const struct vn_memory_cell *cell)
{
	return cell->page_size >= 2 * MIB;
}

// What the cell begins with a multiple of; transparent huge pages have 2 MiB.
static uint64_t alignment(const struct vn_memory_cell *cell)
{
	return cell->page_size > 2 * MIB ? cell->page_size : 2 * MIB;
}

static void add_part(
	struct vn_memory *memory, struct vn_memory_cell *cell, uint64_t start, uint64_t size)
{
	cell->parts[cell->part_count++] = (struct vn_memory_part){VN_GPA(start), size};
	struct vn_ram *last = &memory->ram[memory->ram_count];
	if (memory->ram_count > 0 && last[-1].start.addr + last[-1].size == start) {
		last[-1].size += size;
	} else {
		*last = (struct vn_ram){.start = VN_GPA(start), .size = size};
		memory->ram_count++;
	}
}

void vn_memory_lay_out(struct vn_memory *memory, uint64_t hole_start)
{
	uint64_t at = 0;
	memory->size = 0;
	memory->ram_count = 0;
	for (unsigned i = 0; i < memory->cell_count; i++) {
		struct vn_memory_cell *cell = &memory->cells[i];
		uint64_t left = cell->size;
		cell->part_count = 0;
		memory->size += left;
		at = (at + alignment(cell) - 1) & ~(alignment(cell) - 1);
		if (at < hole_start) {
			uint64_t size = left < hole_start - at ? left : hole_start - at;
			add_part(memory, cell, at, size);
			at += size;
			left -= size;
		}
		if (left > 0) {
			if (at < 4 * GIB)
				at = 4 * GIB;
			add_part(memory, cell, at, left);
			at += left;
		}
	}
	memory->span = at;
}

static void take_cells(struct vn_memory *memory, const struct vn_memory_plan *plan)
{
	memory->cell_count = (unsigned)plan->cell_count;
	for (unsigned i = 0; i < memory->cell_count; i++) {
		const struct vn_cell_options *cell = &plan->cells[i];
		memory->cells[i] = (struct vn_memory_cell){
			.size = cell->size,
			.page_size = cell->hugepage_size ? cell->hugepage_size
							 : (uint64_t)sysconf(_SC_PAGESIZE),
			.node = cell->node,
			.fd = -1,
		};
	}
}

// Address space for all, with nothing behind it yet, aligned so that guest-physical and host
// addresses are congruent.
static int reserve(struct vn_memory *memory, struct veneer_error *error)
{
	uint64_t align = 0;
	for (unsigned i = 0; i < memory->cell_count; i++)
		if (alignment(&memory->cells[i]) > align)
			align = alignment(&memory->cells[i]);
	uint64_t span = memory->span;
	uint8_t *area = mmap(
		NULL, span + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return vn_fail(error, -errno,
			"no room for %" PRIu64
			" MiB of guest memory among the process's addresses: %s",
			span / MIB, strerror(errno));
	uint64_t skip = (align - (uintptr_t)area % align) % align;
	memory->host = area + skip;
	if (skip)
		munmap(area, skip);
	munmap(memory->host + span, align - skip);
	for (unsigned i = 0; i < memory->ram_count; i++)
		memory->ram[i].host = memory->host + memory->ram[i].start.addr;
	return 0;
}

// Shared memory can be handed to other processes (vhost-user), so it is preferred; but most hosts
// give transparent huge pages to private memory only, and large pages are worth more; and KSM
// merges private memory only.
static int open_memfd(struct vn_memory_cell *cell, bool merge, struct veneer_error *error)
{
	unsigned flags = MFD_CLOEXEC;
	if (is_huge(cell)) {
		flags |= MFD_HUGETLB | (cell->page_size == GIB ? MFD_HUGE_1GB : MFD_HUGE_2MB);
	} else if (merge || !vn_host_memory_shared_thp()) {
		cell->transparent = vn_host_memory_private_thp();
		return 0;
	}
	cell->transparent = !is_huge(cell);
	cell->fd = memfd_create("veneer-ram", flags);
	if (cell->fd < 0 || ftruncate(cell->fd, (off_t)cell->size) < 0)
		return vn_fail(error, -errno, "no memfd for guest memory: %s", strerror(errno));
	return 0;
}

// `what` could not be done to so many bytes of the cell. Huge pages had passed the check: they were
// free, or the kernel was to add them. give_up() finds out which.
static int fail_part(struct vn_memory *memory, int number, const char *what,
	const struct vn_memory_cell *cell, uint64_t size, struct veneer_error *error)
{
	memory->refused = is_huge(cell) && number == ENOMEM;
	return vn_fail(error, -number, "cannot %s %" PRIu64 " MiB of guest memory: %s", what,
		size / MIB,
		memory->refused ? "others took the huge pages that were free" : strerror(number));
}

static int map_parts(
	struct vn_memory *memory, const struct vn_memory_cell *cell, struct veneer_error *error)
{
	int flags = cell->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint64_t offset = 0;
	// A reservation would count the pages that this thread's memory policy allows. The cell's
	// own replaces that one, and having the pages is what counts.
	if (is_huge(cell) && cell->node >= 0)
		flags |= MAP_NORESERVE;
	for (unsigned i = 0; i < cell->part_count; i++) {
		const struct vn_memory_part *part = &cell->parts[i];
		void *at = mmap(memory->host + part->start.addr, part->size, PROT_READ | PROT_WRITE,
			flags | MAP_FIXED, cell->fd, (off_t)offset);
		if (at == MAP_FAILED)
			return fail_part(memory, errno, "map", cell, part->size, error);
		offset += part->size;
	}
	return 0;
}

static int bind_to_node(uint8_t *host, uint64_t size, int node, struct veneer_error *error)
{
	struct bitmask *mask = numa_allocate_nodemask();
	if (!mask)
		return vn_fail(error, -ENOMEM, "no memory for a NUMA node mask");
	numa_bitmask_setbit(mask, (unsigned)node);
	long result = mbind(host, size, MPOL_BIND, mask->maskp, mask->size + 1, MPOL_MF_STRICT);
	int code = result < 0 ? -errno : 0;
	numa_bitmask_free(mask);
	return code < 0 ? vn_fail(error, code, "cannot bind memory to node %d: %s", node,
				  strerror(-code))
			: 0;
}

// Nothing is touched by this: what populates it comes later, with many threads.
static int lock(uint8_t *host, uint64_t size, uint64_t total, struct veneer_error *error)
{
	if (mlock2(host, size, MLOCK_ONFAULT) == 0)
		return 0;
	int code = -errno;
	struct rlimit limit = {0};
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur < total)
		return vn_fail(error, code,
			"cannot lock %" PRIu64 " MiB of guest memory: the limit is %" PRIu64
			" KiB; raise it (ulimit -l, LimitMEMLOCK=, CAP_IPC_LOCK)",
			total / MIB, (uint64_t)limit.rlim_cur / 1024);
	return vn_fail(error, code, "cannot lock %" PRIu64 " MiB of guest memory: %s", total / MIB,
		strerror(-code));
}

// An embedder that has KSM merge all its memory (PR_SET_MEMORY_MERGE) has not been asked for this.
static int advise_merging(uint8_t *host, uint64_t size, bool merge, struct veneer_error *error)
{
	if (madvise(host, size, merge ? MADV_MERGEABLE : MADV_UNMERGEABLE) == 0 || !merge)
		return 0;
	return vn_fail(error, -errno, "merge=on: KSM does not take the guest's memory: %s",
		strerror(errno));
}

// What has to be said of memory before it is touched.
static int prepare(const struct vn_memory *memory, const struct vn_memory_cell *cell,
	const struct vn_memory_part *part, const struct vn_memory_options *options,
	struct veneer_error *error)
{
	uint8_t *host = memory->host + part->start.addr;
	uint64_t size = part->size;
	// These are advice: a kernel without transparent huge pages or core dump filters still
	// runs. A child that the embedder forks has no use for the memory, and sharing it would
	// make every page that the guest writes meanwhile a copy: new, small and not locked.
	if (!is_huge(cell))
		madvise(host, size, MADV_HUGEPAGE);
	madvise(host, size, MADV_DONTDUMP);
	madvise(host, size, MADV_DONTFORK);
	int code = cell->node >= 0 ? bind_to_node(host, size, cell->node, error) : 0;
	if (code == 0 && !is_huge(cell))
		code = advise_merging(host, size, options->merge, error);
	if (code == 0 && !is_huge(cell) && options->lock) // hugetlbfs never swaps
		code = lock(host, size, memory->size, error);
	return code;
}

static int make_cell(struct vn_memory *memory, struct vn_memory_cell *cell,
	const struct vn_memory_options *options, struct veneer_error *error)
{
	int code = open_memfd(cell, options->merge, error);
	if (code == 0)
		code = map_parts(memory, cell, error);
	for (unsigned i = 0; code == 0 && i < cell->part_count; i++)
		code = prepare(memory, cell, &cell->parts[i], options, error);
	return code;
}

// A reservation of huge pages holds for the host: where a node or a limit may refuse them later,
// only having them all proves that they are there.
static void choose_populated(struct vn_memory *memory, const struct vn_memory_options *options,
	const struct vn_memory_reach *reach)
{
	memory->stays = !options->merge;
	for (unsigned i = 0; i < memory->cell_count; i++) {
		struct vn_memory_cell *cell = &memory->cells[i];
		cell->populated =
			options->prealloc || options->lock ||
			(is_huge(cell) && (cell->node >= 0 || vn_memory_limits_bind_late(
								      cell->page_size, reach)));
		memory->stays &= cell->populated;
	}
}

static int populate(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error)
{
	struct vn_populate_range ranges[2 * VN_CELLS_MAX];
	const struct vn_memory_cell *cells[2 * VN_CELLS_MAX]; // of each range
	unsigned count = 0, failed;
	for (unsigned i = 0; i < memory->cell_count; i++) {
		const struct vn_memory_cell *cell = &memory->cells[i];
		for (unsigned n = 0; cell->populated && n < cell->part_count; n++) {
			const struct vn_memory_part *part = &cell->parts[n];
			cells[count] = cell;
			ranges[count++] =
				(struct vn_populate_range){memory->host + part->start.addr,
					part->size, cell->page_size, cell->node};
		}
	}
	if (count == 0)
		return 0;
	int code = vn_populate(ranges, count, &plan->progress, &failed);
	if (code == 0)
		return 0;
	if (code == -ECANCELED)
		return vn_fail(error, code, "given up while guest memory was preallocated");
	// What would be SIGBUS to who touches a page: there is none to be had.
	if (code == -EFAULT)
		code = -ENOMEM;
	return fail_part(memory, -code, "preallocate", cells[failed], ranges[failed].size, error);
}

// What was asked for and works, but not as well as people expect of it.
static void say_what_is_slow(const struct vn_memory *memory, const struct vn_memory_plan *plan)
{
	int64_t run = 0;
	if (plan->options.merge && vn_sysfs_number("", &run, "/sys/kernel/mm/ksm/run") == 0 &&
		run != 1)
		vn_warn(plan->log, "merge=on: KSM does not run and merges nothing; start it: "
				   "echo 1 > /sys/kernel/mm/ksm/run");
	for (unsigned i = 0; i < memory->cell_count; i++)
		if (!is_huge(&memory->cells[i]) && !memory->cells[i].transparent) {
			vn_note(plan->log,
				"guest memory is in pages of 4 KiB: "
				"this host gives no transparent huge pages; either allow them: "
				"echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, "
				"or use hugepages=2M");
			return;
		}
}

static int make(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error)
{
	vn_memory_lay_out(memory, plan->hole_start);
	int code = reserve(memory, error);
	for (unsigned i = 0; code == 0 && i < memory->cell_count; i++)
		code = make_cell(memory, &memory->cells[i], &plan->options, error);
	return code;
}

// Give the pages back and keep the addresses: KVM and devices may know them, and the program must
// not be given them for something else.
static void give_pages_back(struct vn_memory *memory)
{
	if (memory->host)
		mmap(memory->host, memory->span, PROT_NONE,
			MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (unsigned i = 0; i < memory->cell_count; i++) {
		if (memory->cells[i].fd >= 0)
			close(memory->cells[i].fd);
		memory->cells[i].fd = -1;
	}
}

// The check allowed this memory, and the kernel then refused it. All is given back before, so that
// what is still in use belongs to others: check again. `refused`: it was huge pages that the kernel
// refused. Where nothing is short any more, the error stays as it is.
static int give_up(struct vn_memory *memory, const struct vn_memory_plan *plan, int code,
	struct veneer_error *error)
{
	struct vn_memory_reach reach;
	struct vn_memory wanted = {0};
	bool refused = memory->refused;
	give_pages_back(memory);
	if (code != -ENOMEM)
		return code;
	take_cells(&wanted, plan);
	vn_memory_reach_find(&reach, &wanted);
	if (vn_host_memory_check(&wanted, &plan->options, &reach, error) < 0 || !refused)
		return code;
	// All fits only with pages that the kernel was to add, and it did not find the memory for
	// them.
	reach.fixed = true;
	(void)vn_host_memory_check(&wanted, &plan->options, &reach, error);
	return code;
}

int vn_memory_map(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error)
{
	struct vn_memory_reach reach;
	*memory = (struct vn_memory){0};
	take_cells(memory, plan);
	vn_memory_reach_find(&reach, memory);
	int code = vn_host_memory_check(memory, &plan->options, &reach, error);
	if (code < 0)
		return code;
	choose_populated(memory, &plan->options, &reach);
	code = make(memory, plan, error);
	if (code < 0) {
		give_up(memory, plan, code, error);
		vn_memory_destroy(memory);
		return code;
	}
	say_what_is_slow(memory, plan);
	return 0;
}

int vn_memory_populate(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error)
{
	int code = populate(memory, plan, error);
	return code < 0 ? give_up(memory, plan, code, error) : 0;
}

int vn_memory_make(
	struct vn_memory *memory, const struct vn_memory_plan *plan, struct veneer_error *error)
{
	int code = vn_memory_map(memory, plan, error);
	if (code < 0)
		return code;
	code = vn_memory_populate(memory, plan, error);
	if (code < 0)
		vn_memory_destroy(memory);
	return code;
}

int vn_memory_create(struct vn_memory *memory, const struct vn_memory_options *options,
	uint64_t hole_start, struct veneer_error *error)
{
	const struct vn_cell_options cell = {.size = options->size,
		.hugepage_size = options->hugepage_size,
		.node = options->node};
	const struct vn_memory_plan plan = {
		.options = *options, .cells = &cell, .cell_count = 1, .hole_start = hole_start};
	return vn_memory_make(memory, &plan, error);
}

void vn_memory_destroy(struct vn_memory *memory)
{
	if (memory->host)
		munmap(memory->host, memory->span);
	for (unsigned i = 0; i < memory->cell_count; i++)
		if (memory->cells[i].fd >= 0)
			close(memory->cells[i].fd);
	*memory = (struct vn_memory){0};
}

// The page that has the offset from guest-physical 0. False: there is none.
static bool find_page(
	const struct vn_memory *memory, uint64_t offset, uint64_t *start, uint64_t *size)
{
	for (unsigned i = 0; i < memory->cell_count; i++)
		for (unsigned n = 0; n < memory->cells[i].part_count; n++) {
			const struct vn_memory_part *part = &memory->cells[i].parts[n];
			if (offset - part->start.addr >= part->size)
				continue;
			*size = memory->cells[i].page_size;
			*start = offset & ~(*size - 1);
			return true;
		}
	return false;
}

bool vn_memory_replace(struct vn_memory *memory, void *address, int si_code)
{
	uint64_t offset = (uintptr_t)address - (uintptr_t)memory->host, start, size, none = 0;
	int saved_errno = errno;
	if (!memory->host || !find_page(memory, offset, &start, &size))
		return false;
	// Before the page is there, so that what it does not hold is not taken for the guest's.
	atomic_compare_exchange_strong(&memory->lost, &none, start | (unsigned)si_code);
	void *page = mmap(memory->host + start, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	errno = saved_errno;
	return page != MAP_FAILED;
}

void vn_memory_describe_loss(const struct vn_memory *memory, char *text, size_t size)
{
	uint64_t lost = atomic_load(&memory->lost);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int si_code = (int)(lost & (page - 1));
	char why[PATH_MAX + 64];
	text[0] = '\0';
	if (lost == 0)
		return;
	if (si_code == BUS_MCEERR_AR || si_code == BUS_MCEERR_AO)
		snprintf(why, sizeof(why), ": a hardware error of the host's memory");
	else
		vn_memory_explain_fault(memory, why, sizeof(why));
	snprintf(text, size, "the host no longer provides the guest's memory at 0x%" PRIx64 "%s",
		lost & ~(page - 1), why);
}

void vn_memory_explain_fault(const struct vn_memory *memory, char *text, size_t size)
{
	struct vn_memory_reach reach;
	vn_memory_reach_find(&reach, memory);
	vn_memory_limits_explain(text, size, memory, &reach);
}

uint8_t vn_memory_distance(
	const struct vn_memory *memory, const char *root, unsigned from, unsigned to)
{
	enum { ITSELF = 10, NEXT = 11, REMOTE = 20 }; // ACPI 6.3 section 5.2.17
	int near = memory->cells[from].node, far = memory->cells[to].node;
	if (from == to)
		return ITSELF;
	unsigned distance = near >= 0 && far >= 0 ? vn_host_memory_distance(root, near, far) : 0;
	if (distance == 0)
		return REMOTE;
	return distance > ITSELF ? (uint8_t)distance : NEXT;
}

void *vn_memory_at(const struct vn_memory *memory, vn_gpa gpa, uint64_t length)
{
	if (length == 0)
		return NULL;
	for (unsigned i = 0; i < memory->ram_count; i++) {
		const struct vn_ram *ram = &memory->ram[i];
		uint64_t offset = gpa.addr - ram->start.addr; // wraps to a huge number below start
		if (offset < ram->size && length <= ram->size - offset)
			return ram->host + offset;
	}
	return NULL;
}

int vn_memory_read(const struct vn_memory *memory, vn_gpa gpa, void *data, uint64_t length)
{
	const void *source = vn_memory_at(memory, gpa, length);
	if (!source)
		return -EFAULT;
	memcpy(data, source, length);
	return 0;
}

int vn_memory_write(const struct vn_memory *memory, vn_gpa gpa, const void *data, uint64_t length)
{
	void *target = vn_memory_at(memory, gpa, length);
	if (!target)
		return -EFAULT;
	memcpy(target, data, length);
	return 0;
}
