// SPDX-License-Identifier: Apache-2.0
//
// Where guest memory comes from. The order matters: address space is reserved, backed, bound to
// its node before anything touches it, and only then populated and locked; so no page ever sits on
// the wrong node, and whatever is missing is found before the guest starts.
#include "vmm/memory.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/sysfs.h"

#define MIB        ((uint64_t)1 << 20)
#define GIB        ((uint64_t)1 << 30)
#define MEMORY_MIN (4 * MIB)

// Where the kernel counts huge pages: for the whole host, or for one node.
static void hugepage_path(
	char *path, size_t size, const struct veneer_memory *options, const char *name)
{
	uint64_t kib = options->hugepage_size / 1024;
	if (options->node < 0)
		snprintf(path, size, "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s", kib,
			name);
	else
		snprintf(path, size,
			"/sys/devices/system/node/node%d/hugepages/hugepages-%" PRIu64 "kB/%s",
			options->node, kib, name);
}

// Pages that nobody has and nobody has been promised, or -errno. Promises (resv_hugepages) are
// counted for the whole host only.
static int64_t free_hugepages(const struct veneer_memory *options)
{
	char path[160];
	hugepage_path(path, sizeof(path), options, "free_hugepages");
	int64_t free, promised = 0;
	int code = vn_sysfs_number("", &free, "%s", path);
	if (code < 0 || options->node >= 0)
		return code < 0 ? code : free;
	hugepage_path(path, sizeof(path), options, "resv_hugepages");
	vn_sysfs_number("", &promised, "%s", path);
	return free - promised;
}

static int fail_hugepages(
	const struct veneer_memory *options, int64_t needed, struct veneer_error *error)
{
	const char *unit = options->hugepage_size == GIB ? "1G" : "2M";
	char node[32] = "";
	if (options->node >= 0)
		snprintf(node, sizeof(node), " on node %d", options->node);
	int64_t free = free_hugepages(options);
	if (free < 0)
		return vn_fail(
			error, -ENOMEM, "hugepages=%s: this host has no such pages%s", unit, node);

	char path[160];
	hugepage_path(path, sizeof(path), options, "nr_hugepages");
	int64_t total = 0;
	vn_sysfs_number("", &total, "%s", path);
	return vn_fail(error, -ENOMEM,
		"hugepages=%s: %" PRId64 " pages needed, %" PRId64 " free%s, %" PRId64
		" missing; reserve them: echo %" PRId64 " > %s",
		unit, needed, free, node, needed - free, total + needed - free, path);
}

static int check_hugepages(const struct veneer_memory *options, struct veneer_error *error)
{
	int64_t needed = (int64_t)(options->size / options->hugepage_size);
	return free_hugepages(options) < needed ? fail_hugepages(options, needed, error) : 0;
}

// What a node, or the whole host, can give without swapping, from a meminfo file: free pages and
// clean caches. The node's file has "Node N " before each name.
static int64_t available_bytes(int node)
{
	char path[80] = "/proc/meminfo";
	if (node >= 0)
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	static const char *const counted[] = {
		"MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"};
	int64_t total = 0;
	char line[160];
	while (fgets(line, sizeof(line), file))
		for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
			const char *at = strstr(line, counted[i]);
			if (at && (at == line || isspace((unsigned char)at[-1])))
				total += strtoll(at + strlen(counted[i]), NULL, 10) * 1024;
		}
	fclose(file);
	return total;
}

static int check_ordinary(const struct veneer_memory *options, struct veneer_error *error)
{
	if (options->node < 0 && !options->prealloc && !options->lock)
		return 0; // the host's overcommit policy decides, page by page
	int64_t available = available_bytes(options->node);
	if (available < 0 || (uint64_t)available >= options->size)
		return 0;
	char node[32] = "the host";
	if (options->node >= 0)
		snprintf(node, sizeof(node), "node %d", options->node);
	return vn_fail(error, -ENOMEM,
		"%" PRIu64 " MiB of guest memory needed, %s has %" PRId64 " MiB available, %" PRIu64
		" MiB missing; free some (echo 1 > /proc/sys/vm/drop_caches, fewer huge pages) or "
		"ask for less",
		options->size / MIB, node, available / (int64_t)MIB,
		(options->size - (uint64_t)available + MIB - 1) / MIB);
}

static int check_node(int node, struct veneer_error *error)
{
	if (node < 0)
		return 0;
	if (numa_available() < 0)
		return vn_fail(error, -ENODEV, "node=%d: this kernel has no NUMA support", node);
	struct bitmask *allowed = numa_get_mems_allowed();
	bool usable = node <= numa_max_node() && numa_bitmask_isbitset(allowed, (unsigned)node);
	numa_bitmask_free(allowed);
	if (!usable)
		return vn_fail(error, -ENODEV,
			"node=%d: not a memory node that this process may use; the host's nodes "
			"are "
			"0 to %d (numactl --hardware)",
			node, numa_max_node());
	return 0;
}

static int check_options(const struct veneer_memory *options, struct veneer_error *error)
{
	uint64_t huge = options->hugepage_size;
	if (huge != 0 && huge != 2 * MIB && huge != GIB)
		return vn_fail(
			error, -EINVAL, "huge pages are 2M or 1G, not %" PRIu64 " bytes", huge);
	uint64_t page = huge ? huge : (uint64_t)sysconf(_SC_PAGESIZE);
	if (options->size < MEMORY_MIN)
		return vn_fail(error, -EINVAL,
			"guest memory of %" PRIu64 " bytes is below the least, %" PRIu64 "M",
			options->size, MEMORY_MIN / MIB);
	if (options->size % page != 0)
		return vn_fail(error, -EINVAL,
			"guest memory of %" PRIu64 " bytes is no multiple of its pages' %" PRIu64
			"K; the next larger size is %" PRIu64 "K",
			options->size, page / 1024, (options->size / page + 1) * (page / 1024));
	if (options->size > (uint64_t)1 << 46)
		return vn_fail(error, -EINVAL, "guest memory of %" PRIu64 "G is more than 64T",
			options->size / GIB);
	int code = check_node(options->node, error);
	if (code < 0)
		return code;
	return huge ? check_hugepages(options, error) : check_ordinary(options, error);
}

// Whether memfds get transparent huge pages here: the bracketed word of shmem_enabled.
static bool shared_memory_has_thp(void)
{
	char text[128];
	int code = vn_sysfs_line(
		"", text, sizeof(text), "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	return code == 0 && !strstr(text, "[never]") && !strstr(text, "[deny]");
}

// Shared memory can be handed to other processes (vhost-user), so it is preferred; but most hosts
// give transparent huge pages to private memory only, and large pages are worth more.
static int open_memfd(const struct veneer_memory *options)
{
	unsigned flags = MFD_CLOEXEC;
	if (options->hugepage_size)
		flags |=
			MFD_HUGETLB | (options->hugepage_size == GIB ? MFD_HUGE_1GB : MFD_HUGE_2MB);
	else if (!shared_memory_has_thp())
		return -1;
	int fd = memfd_create("veneer-ram", flags);
	if (fd < 0)
		return -errno - 1;
	if (ftruncate(fd, (off_t)options->size) < 0) {
		int code = -errno;
		close(fd);
		return code - 1;
	}
	return fd;
}

// Map at an address aligned to the huge page size, so that guest-physical and host addresses are
// congruent and one can back the other with one page.
static uint8_t *map_aligned(uint64_t size, uint64_t align, int fd)
{
	uint8_t *area = mmap(
		NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return NULL;
	uint64_t skip = (align - (uintptr_t)area % align) % align;
	uint8_t *start = area + skip;
	int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	if (mmap(start, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
		int code = errno;
		munmap(area, size + align);
		errno = code;
		return NULL;
	}
	if (skip)
		munmap(area, skip);
	munmap(start + size, align - skip);
	return start;
}

static int bind_to_node(const struct vn_memory *memory, int node, struct veneer_error *error)
{
	struct bitmask *mask = numa_allocate_nodemask();
	if (!mask)
		return vn_fail(error, -ENOMEM, "no memory for a NUMA node mask");
	numa_bitmask_setbit(mask, (unsigned)node);
	long result = mbind(
		memory->host, memory->size, MPOL_BIND, mask->maskp, mask->size + 1, MPOL_MF_STRICT);
	int code = result < 0 ? -errno : 0;
	numa_bitmask_free(mask);
	return code < 0 ? vn_fail(error, code, "cannot bind memory to node %d: %s", node,
				  strerror(-code))
			: 0;
}

// A reservation of huge pages holds for the host, not for a node: with a node given, only having
// them all proves that they are there.
static int populate(const struct vn_memory *memory, const struct veneer_memory *options,
	struct veneer_error *error)
{
	bool prove = options->hugepage_size && options->node >= 0;
	if (!options->prealloc && !prove)
		return 0;
	if (madvise(memory->host, memory->size, MADV_POPULATE_WRITE) == 0)
		return 0;
	int code = -errno;
	if (options->hugepage_size && (code == -ENOMEM || code == -EFAULT))
		return fail_hugepages(
			options, (int64_t)(options->size / options->hugepage_size), error);
	return vn_fail(error, code, "cannot preallocate %" PRIu64 " MiB of guest memory: %s",
		options->size / MIB, strerror(-code));
}

static int lock(const struct vn_memory *memory, struct veneer_error *error)
{
	if (mlock(memory->host, memory->size) == 0)
		return 0;
	int code = -errno;
	struct rlimit limit = {0};
	getrlimit(RLIMIT_MEMLOCK, &limit);
	if (limit.rlim_cur < memory->size)
		return vn_fail(error, code,
			"cannot lock %" PRIu64 " MiB of guest memory: the limit is %" PRIu64
			" KiB; raise it (ulimit -l, LimitMEMLOCK=, CAP_IPC_LOCK)",
			memory->size / MIB, (uint64_t)limit.rlim_cur / 1024);
	return vn_fail(error, code, "cannot lock %" PRIu64 " MiB of guest memory: %s",
		memory->size / MIB, strerror(-code));
}

static void split_around_hole(struct vn_memory *memory, uint64_t hole_start)
{
	uint64_t low = memory->size < hole_start ? memory->size : hole_start;
	memory->ram[0] = (struct vn_ram){VN_GPA(0), low, memory->host};
	memory->ram_count = 1;
	if (memory->size > low) {
		memory->ram[1] =
			(struct vn_ram){VN_GPA(4 * GIB), memory->size - low, memory->host + low};
		memory->ram_count = 2;
	}
}

int vn_memory_create(struct vn_memory *memory, const struct veneer_memory *options,
	uint64_t hole_start, struct veneer_error *error)
{
	*memory = (struct vn_memory){.fd = -1};
	int code = check_options(options, error);
	if (code < 0)
		return code;
	uint64_t huge = options->hugepage_size;
	memory->size = options->size;
	memory->page_size = huge ? huge : (uint64_t)sysconf(_SC_PAGESIZE);
	memory->fd = open_memfd(options);
	if (memory->fd < -1) {
		code = memory->fd + 1;
		memory->fd = -1;
		return vn_fail(error, code, "no memfd for guest memory: %s", strerror(-code));
	}
	memory->host = map_aligned(memory->size, huge > 2 * MIB ? huge : 2 * MIB, memory->fd);
	if (!memory->host) {
		code = huge && errno == ENOMEM
			       ? fail_hugepages(options, (int64_t)(memory->size / huge), error)
			       : vn_fail(error, -errno,
					 "cannot map %" PRIu64 " MiB of guest memory: %s",
					 memory->size / MIB, strerror(errno));
		goto fail;
	}
	// These are advice: a kernel without transparent huge pages or core dump filters still runs. A
	// child that the embedder forks has no use for the memory, and sharing it would make every
	// page that the guest writes meanwhile a copy: new, small and not locked.
	if (!huge)
		madvise(memory->host, memory->size, MADV_HUGEPAGE);
	madvise(memory->host, memory->size, MADV_DONTDUMP);
	madvise(memory->host, memory->size, MADV_DONTFORK);
	code = options->node >= 0 ? bind_to_node(memory, options->node, error) : 0;
	if (code == 0)
		code = populate(memory, options, error);
	if (code == 0 && options->lock)
		code = lock(memory, error);
	if (code < 0)
		goto fail;
	split_around_hole(memory, hole_start);
	return 0;
fail:
	vn_memory_destroy(memory);
	return code;
}

void vn_memory_destroy(struct vn_memory *memory)
{
	if (memory->host)
		munmap(memory->host, memory->size);
	if (memory->fd >= 0)
		close(memory->fd);
	*memory = (struct vn_memory){.fd = -1};
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
