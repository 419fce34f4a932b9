// SPDX-License-Identifier: Apache-2.0
//
// From files to a guest ready to run: what kind of kernel it is, where the initrd goes, what the
// kernel finds in memory by either protocol, and the registers it is entered with.
#include "kernel_image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "arch/x86/boot.h"
#include "arch/x86/entry.h"
#include "arch/x86/image.h"
#include "arch/x86/pvh.h"
#include "base/macros.h"

#define RSDP      VN_GPA(VN_MAP_ACPI)
#define PATH_SIZE 40

static const char dtb[] = "stands for a device tree";

// A kernel loaded into memory of its own.
struct guest {
	struct vn_memory memory;
	struct vn_boot boot;
	struct vn_machine machine;
	struct veneer_error error;
};

static struct vn_file file_named(const char *name)
{
	return (struct vn_file){.name = (char *)(uintptr_t)name, .fd = -1};
}

// Whether opening writes to guest memory, the kernel says: by SIGSEGV.
static void forbid_writing(const struct vn_memory *memory, bool forbidden)
{
	for (unsigned i = 0; i < memory->ram_count; i++)
		assert_int_equal(mprotect(memory->ram[i].host, memory->ram[i].size,
					 forbidden ? PROT_NONE : PROT_READ | PROT_WRITE),
			0);
}

static int load(struct guest *guest, const struct vn_boot_files *files)
{
	struct vn_boot_source *source;
	guest->error = (struct veneer_error){.code = 0};
	forbid_writing(&guest->memory, true);
	int code = vn_boot_open(&source, &guest->boot, files, &guest->memory, &guest->error);
	forbid_writing(&guest->memory, false);
	if (code < 0)
		return code;
	code = vn_boot_load(source, &guest->boot, &guest->memory, &guest->error);
	vn_boot_close(source);
	return code;
}

static int load_bytes(
	struct guest *guest, uint64_t memory_size, const struct bytes *kernel, const char *initrd)
{
	const struct vn_file file = file_named(initrd);
	const struct vn_boot_files files = {.builtin = kernel->data,
		.builtin_size = kernel->size,
		.initrd = initrd ? &file : NULL};
	make_memory(&guest->memory, memory_size);
	guest->machine = (struct vn_machine){.memory = &guest->memory, .cmdline = "quiet"};
	return load(guest, &files);
}

static int load_path(struct guest *guest, const char *kernel)
{
	const struct vn_file file = file_named(kernel);
	make_memory(&guest->memory, ELF_MEMORY);
	return load(guest, &(const struct vn_boot_files){.kernel = &file});
}

static int finish(struct guest *guest)
{
	return vn_boot_finish(&guest->boot, &guest->machine, RSDP, dtb, sizeof(dtb), &guest->error);
}

static const void *at(const struct guest *guest, uint64_t address, size_t size)
{
	const void *host = vn_memory_at(&guest->memory, VN_GPA(address), size);
	assert_non_null(host);
	return host;
}

static struct bytes make_linux_elf(void)
{
	struct bytes file = make_elf(ELF_LOW_LEAST);
	drop_note(&file);
	return file;
}

static struct bytes make_linux_bzimage(void)
{
	struct bytes elf = make_elf(ELF_LOW_LEAST); // with a PVH note, which does not count
	struct bytes packed = compress_zstd(&elf);
	struct bytes file = make_bzimage(&packed);
	free(elf.data);
	free(packed.data);
	return file;
}

static void test_kinds(void **state)
{
	(void)state;
	struct bytes files[] = {make_elf(ELF_LOW_LEAST), make_linux_elf(), make_linux_bzimage()};
	const enum vn_boot_protocol protocols[] = {VN_BOOT_PVH, VN_BOOT_LINUX64, VN_BOOT_LINUX64};
	const uint64_t entries[] = {ELF_PVH_ENTRY, ELF_ENTRY, ELF_ENTRY};
	for (unsigned i = 0; i < 3; i++) {
		char path[PATH_SIZE];
		int fd = make_file(&files[i], path, sizeof(path));
		struct guest guest;
		assert_int_equal(load_path(&guest, path), 0);
		assert_int_equal(guest.boot.protocol, protocols[i]);
		assert_int_equal(guest.boot.entry.addr, entries[i]);
		assert_int_equal(guest.boot.kernel_start, ELF_LOW_START);
		assert_int_equal(guest.boot.kernel_end, ELF_HIGH_START + ELF_HIGH_SIZE);
		assert_int_equal(guest.boot.initrd_end, 0);
		vn_memory_destroy(&guest.memory);
		close(fd);
		free(files[i].data);
	}
}

// A kernel that decompresses itself, and the initrd clear of all that it unpacks into.
static void test_own_decompressor(void **state)
{
	(void)state;
	struct bytes kernel = make_linux_bzimage();
	bzimage_header(&kernel)->payload_length = 0;
	bzimage_header(&kernel)->init_size = (uint32_t)(ELF_MEMORY - 8192 - ELF_LOW_START);
	struct bytes initrd = make_bytes(8192);
	char path[PATH_SIZE];
	int fd = make_file(&initrd, path, sizeof(path));
	struct guest guest;
	assert_int_equal(load_bytes(&guest, ELF_MEMORY, &kernel, path), 0);
	assert_int_equal(guest.boot.protocol, VN_BOOT_LINUX64);
	assert_int_equal(guest.boot.entry.addr, ELF_LOW_START + 0x200);
	assert_int_equal(guest.boot.kernel_start, ELF_LOW_START);
	assert_int_equal(guest.boot.kernel_end, ELF_MEMORY - 8192);
	assert_int_equal(guest.boot.initrd_start, ELF_MEMORY - 8192);
	assert_int_equal(finish(&guest), 0);
	const struct boot_params *params = at(&guest, VN_MAP_BOOT_PARAMS, sizeof(*params));
	assert_int_equal(params->hdr.code32_start, ELF_LOW_START);
	vn_memory_destroy(&guest.memory);

	bzimage_header(&kernel)->init_size++;
	int code = load_bytes(&guest, ELF_MEMORY, &kernel, path);
	assert_refused("init_size", code, -E2BIG, &guest.error, "an initrd of 8 KiB does not fit");
	vn_memory_destroy(&guest.memory);

	code = load_bytes(&guest, 32 * MIB, &kernel, path);
	assert_refused("memory", code, -E2BIG, &guest.error,
		"needs 48M of memory to decompress itself, and the guest has 32768K");
	vn_memory_destroy(&guest.memory);
	close(fd);
	free(initrd.data);
	free(kernel.data);
}

// Symbols behind the last segment are not read: a file of 1 TiB loads at once.
static void test_large_tail(void **state)
{
	(void)state;
	struct bytes file = make_elf(300000);
	char path[PATH_SIZE];
	int fd = make_file(&file, path, sizeof(path));
	assert_int_equal(ftruncate(fd, (off_t)(1024 * GIB)), 0);
	struct guest guest;
	assert_int_equal(load_path(&guest, path), 0);
	assert_elf_loaded(&guest.memory, &file);
	vn_memory_destroy(&guest.memory);
	close(fd);
	free(file.data);
}

static void test_entry_outside(void **state)
{
	(void)state;
	struct bytes file = make_linux_elf();
	elf_header(&file)->e_entry = ELF_HIGH_START + ELF_HIGH_FILE;
	struct guest guest;
	int code = load_bytes(&guest, ELF_MEMORY, &file, NULL);
	assert_refused("entry", code, -ENOEXEC, &guest.error,
		"the built-in guest: the entry point 0x2000900 lies outside all segments");
	vn_memory_destroy(&guest.memory);
	free(file.data);
}

// The message begins with the option and the path.
static void assert_names(const char *option, const char *path, const struct veneer_error *error)
{
	char begins[PATH_SIZE + 16];
	snprintf(begins, sizeof(begins), "%s: %s: ", option, path);
	assert_int_equal(strncmp(error->message, begins, strlen(begins)), 0);
	assert_string_equal(error->key, option);
}

static void refuse_path(const char *path, int expected, const char *text)
{
	struct guest guest;
	int code = load_path(&guest, path);
	assert_refused(path, code, expected, &guest.error, text);
	assert_names("kernel", path, &guest.error);
	assert_int_equal(
		guest.error.kind, code == -ENOEXEC ? VENEER_ERROR_GUEST : VENEER_ERROR_CONFIG);
	vn_memory_destroy(&guest.memory);
}

static void refuse_content(const char *content, int expected, const char *text)
{
	const struct bytes bytes = {(uint8_t *)(uintptr_t)content, strlen(content)};
	char path[PATH_SIZE];
	int fd = make_file(&bytes, path, sizeof(path));
	refuse_path(path, expected, text);
	close(fd);
}

static void test_wrong_files(void **state)
{
	(void)state;
	refuse_path("/nonexistent/vmlinuz", -ENOENT, "No such file");
	refuse_path("/", -EISDIR, "is a directory, not a regular file");
	refuse_path("/dev/null", -EINVAL, "is a character device");
	refuse_content("", -EINVAL, "the file is empty");
	refuse_content("#!", -ENOEXEC, "neither an ELF kernel nor a Linux bzImage");
	refuse_content("#!/bin/sh\n", -ENOEXEC, "neither an ELF kernel nor a Linux bzImage");
	refuse_content("\x7f\x45LF", -ENOEXEC, "ends within its headers");

	int ends[2];
	char path[PATH_SIZE];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
	refuse_path(path, -EINVAL, "is a pipe, not a regular file");
	close(ends[0]);
	close(ends[1]);

	char directory[] = "/tmp/test_boot.XXXXXX";
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/pipe", directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	refuse_path(path, -EINVAL, "is a pipe, not a regular file"); // and no waiting for a writer
	unlink(path);
	rmdir(directory);
}

static void test_shrinking_file(void **state)
{
	(void)state;
	struct bytes bytes = make_bytes(100000);
	char path[PATH_SIZE];
	int fd = make_file(&bytes, path, sizeof(path));
	struct vn_image image;
	struct veneer_error error;
	const struct vn_file file = file_named(path);
	assert_int_equal(vn_image_open(&image, &file, &error), 0);
	assert_int_equal(vn_image_read(&image, 0, bytes.data, bytes.size, &error), 0);
	assert_int_equal(ftruncate(fd, 5000), 0);
	int code = vn_image_read(&image, 0, bytes.data, bytes.size, &error);
	assert_refused("shrunk", code, -ENOEXEC, &error, "no bytes from offset 5000 on");
	code = vn_image_read(&image, 100000, bytes.data, 1, &error);
	assert_refused("past the end", code, -ENOEXEC, &error, "no bytes from offset 100000 on");
	vn_image_close(&image);
	close(fd);
	free(bytes.data);
}

static void test_initrd_place(void **state)
{
	(void)state;
	struct bytes kernel = make_elf(ELF_LOW_LEAST);
	struct bytes initrd = make_bytes(5001);
	memset(initrd.data, 0x77, initrd.size);
	char path[PATH_SIZE];
	int fd = make_file(&initrd, path, sizeof(path));
	const uint64_t sizes[] = {64 * MIB, 3 * GIB - 2 * MIB, 3 * GIB, 5 * GIB};
	const uint64_t ends[] = {64 * MIB, 3 * GIB - 2 * MIB, 3 * GIB, 3 * GIB};
	for (unsigned i = 0; i < 4; i++) {
		struct guest guest;
		assert_int_equal(load_bytes(&guest, sizes[i], &kernel, path), 0);
		assert_int_equal(guest.boot.initrd_start, ends[i] - 8192);
		assert_int_equal(guest.boot.initrd_end, ends[i] - 8192 + 5001);
		assert_memory_equal(at(&guest, guest.boot.initrd_start, 5001), initrd.data, 5001);
		vn_memory_destroy(&guest.memory);
	}
	close(fd);
	free(initrd.data);
	free(kernel.data);
}

// The highest run of RAM that has room for it, not one that happens to be the first.
static void test_initrd_among_gaps(void **state)
{
	(void)state;
	struct bytes kernel = make_elf(ELF_LOW_LEAST);
	struct bytes initrd = make_bytes(5 * MIB);
	char path[PATH_SIZE];
	int fd = make_file(&initrd, path, sizeof(path));
	// 49 MiB, a gap of one, 7 MiB, another gap, 4 MiB: too little.
	const struct vn_cell_options cells[] = {{.size = 49 * MIB, .node = -1},
		{.size = 7 * MIB, .node = -1}, {.size = 4 * MIB, .node = -1}};
	const struct vn_memory_plan plan = {
		.cells = cells, .cell_count = 3, .hole_start = VN_MAP_HOLE};
	struct guest guest;
	const struct vn_file file = file_named(path);
	assert_int_equal(vn_memory_map(&guest.memory, &plan, NULL), 0);
	const struct vn_boot_files files = {
		.builtin = kernel.data, .builtin_size = kernel.size, .initrd = &file};
	assert_int_equal(load(&guest, &files), 0);
	assert_int_equal(guest.boot.initrd_end, 57 * MIB);
	vn_memory_destroy(&guest.memory);
	close(fd);
	free(initrd.data);
	free(kernel.data);
}

// initrd_addr_max counts unless the kernel can do with anything; so does init_size.
static void test_initrd_limits(void **state)
{
	(void)state;
	struct bytes kernel = make_linux_bzimage();
	struct bytes initrd = make_bytes(8192);
	char path[PATH_SIZE];
	int fd = make_file(&initrd, path, sizeof(path));
	struct guest guest;

	assert_int_equal(load_bytes(&guest, 5 * GIB, &kernel, path), 0);
	assert_int_equal(guest.boot.initrd_end, 3 * GIB);
	vn_memory_destroy(&guest.memory);

	bzimage_header(&kernel)->xloadflags = XLF_KERNEL_64;
	assert_int_equal(load_bytes(&guest, 5 * GIB, &kernel, path), 0);
	assert_int_equal(guest.boot.initrd_end, 2 * GIB);
	vn_memory_destroy(&guest.memory);

	bzimage_header(&kernel)->init_size = (uint32_t)(ELF_MEMORY - 8192 - ELF_LOW_START);
	assert_int_equal(load_bytes(&guest, ELF_MEMORY, &kernel, path), 0);
	assert_int_equal(guest.boot.initrd_start, ELF_MEMORY - 8192);
	vn_memory_destroy(&guest.memory);

	bzimage_header(&kernel)->init_size++;
	int code = load_bytes(&guest, ELF_MEMORY, &kernel, path);
	assert_refused("init_size", code, -E2BIG, &guest.error, "an initrd of 8 KiB does not fit");
	vn_memory_destroy(&guest.memory);

	bzimage_header(&kernel)->init_size = 0;
	bzimage_header(&kernel)->initrd_addr_max = ELF_HIGH_START + ELF_HIGH_SIZE + 8192 - 1;
	assert_int_equal(load_bytes(&guest, ELF_MEMORY, &kernel, path), 0);
	assert_int_equal(guest.boot.initrd_start, ELF_HIGH_START + ELF_HIGH_SIZE);
	vn_memory_destroy(&guest.memory);

	bzimage_header(&kernel)->initrd_addr_max--;
	code = load_bytes(&guest, ELF_MEMORY, &kernel, path);
	assert_refused("addr_max", code, -E2BIG, &guest.error, "an initrd of 8 KiB does not fit");
	assert_names("initrd", path, &guest.error);
	vn_memory_destroy(&guest.memory);
	close(fd);
	free(initrd.data);
	free(kernel.data);
}

static void test_wrong_initrd(void **state)
{
	(void)state;
	struct bytes kernel = make_elf(ELF_LOW_LEAST);
	const struct bytes nothing = {(uint8_t *)(uintptr_t) "", 0};
	char path[PATH_SIZE];
	int fd = make_file(&nothing, path, sizeof(path));
	struct guest guest;

	int code = load_bytes(&guest, ELF_MEMORY, &kernel, path);
	assert_refused("empty", code, -EINVAL, &guest.error, "the file is empty");
	vn_memory_destroy(&guest.memory);

	assert_int_equal(ftruncate(fd, (off_t)(1024 * GIB)), 0);
	code = load_bytes(&guest, ELF_MEMORY, &kernel, path);
	assert_refused("huge", code, -E2BIG, &guest.error, "does not fit");
	vn_memory_destroy(&guest.memory);

	code = load_bytes(&guest, ELF_MEMORY, &kernel, "/");
	assert_refused("directory", code, -EISDIR, &guest.error, "/: is a directory");
	vn_memory_destroy(&guest.memory);

	code = load_bytes(&guest, ELF_MEMORY, &kernel, "/nonexistent/initrd");
	assert_refused("missing", code, -ENOENT, &guest.error, "/nonexistent/initrd: No such");
	assert_string_equal(guest.error.key, "initrd");
	assert_int_equal(guest.error.kind, VENEER_ERROR_CONFIG);
	vn_memory_destroy(&guest.memory);
	close(fd);
	free(kernel.data);
}

// Damage far into a payload is found when it is loaded; what else is wrong, before.
static void test_damaged_payload(void **state)
{
	(void)state;
	struct bytes elf = make_elf(MIB);
	struct bytes packed = compress_zstd(&elf);
	struct bytes kernel = make_bzimage(&packed);
	kernel.data[kernel.size - BZIMAGE_TAIL - 1] ^= 1; // the size that it claims
	struct guest guest;
	int code = load_bytes(&guest, ELF_MEMORY, &kernel, "/nonexistent/initrd");
	assert_refused("initrd", code, -ENOENT, &guest.error, "/nonexistent/initrd: No such");
	vn_memory_destroy(&guest.memory);

	code = load_bytes(&guest, ELF_MEMORY, &kernel, NULL);
	assert_refused("kernel", code, -ENOEXEC, &guest.error, "to the size it claims");
	assert_string_equal(guest.error.key, "kernel");
	assert_int_equal(guest.error.kind, VENEER_ERROR_GUEST);
	assert_int_equal(guest.boot.entry.addr, ELF_ENTRY); // it had been opened
	vn_memory_destroy(&guest.memory);

	code = load_bytes(&guest, 16 * MIB, &kernel, NULL);
	assert_refused("memory", code, -ENOEXEC, &guest.error, "M of memory, and the guest has");
	vn_memory_destroy(&guest.memory);
	free(kernel.data);
	free(packed.data);
	free(elf.data);
}

static void test_cmdline(void **state)
{
	(void)state;
	struct bytes kernel = make_linux_bzimage();
	struct guest guest;
	char cmdline[VN_MAP_CMDLINE_MAX + 1];
	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[sizeof(cmdline) - 1] = '\0';

	assert_int_equal(load_bytes(&guest, ELF_MEMORY, &kernel, NULL), 0);
	int code = vn_boot_check_cmdline(&guest.boot, cmdline, &guest.error);
	assert_refused(
		"2048", code, -E2BIG, &guest.error, "has 2048 bytes; this kernel takes 2047");

	guest.machine.cmdline = cmdline + 1;
	assert_int_equal(vn_boot_check_cmdline(&guest.boot, cmdline + 1, &guest.error), 0);
	assert_int_equal(finish(&guest), 0);
	assert_string_equal(at(&guest, VN_MAP_CMDLINE, VN_MAP_CMDLINE_MAX), cmdline + 1);

	guest.boot.setup_header.cmdline_size = 255;
	code = vn_boot_check_cmdline(&guest.boot, cmdline + 1, &guest.error);
	assert_refused("255", code, -E2BIG, &guest.error, "has 2047 bytes; this kernel takes 255");
	vn_memory_destroy(&guest.memory);
	free(kernel.data);
}

static void assert_pvh_memory(const struct guest *guest, const struct vn_pvh_start_info *info)
{
	assert_int_equal(info->memory_map_count, 5);
	const struct vn_pvh_memory *map = at(guest, info->memory_map, 5 * sizeof(*map));
	assert_int_equal(map[0].start, 0);
	assert_int_equal(map[0].type, 1);
	assert_int_equal(map[1].type, 2);
	assert_int_equal(map[3].start, VN_MAP_ECAM);
	assert_int_equal(map[3].type, 2);
	assert_int_equal(map[4].start, 4 * GIB);
	assert_int_equal(map[4].size, 2 * GIB);
	assert_int_equal(map[4].reserved, 0);
}

static void test_pvh_structures(void **state)
{
	(void)state;
	struct bytes kernel = make_elf(ELF_LOW_LEAST);
	char path[PATH_SIZE];
	int fd = make_file(&kernel, path, sizeof(path));
	for (unsigned with_initrd = 0; with_initrd < 2; with_initrd++) {
		struct guest guest;
		assert_int_equal(
			load_bytes(&guest, 5 * GIB, &kernel, with_initrd ? path : NULL), 0);
		assert_int_equal(finish(&guest), 0);
		const struct vn_pvh_start_info *info = at(&guest, VN_MAP_PVH_INFO, sizeof(*info));
		assert_int_equal(info->magic, 0x336ec578);
		assert_int_equal(info->version, 1);
		assert_int_equal(info->flags, 0);
		assert_int_equal(info->rsdp, VN_MAP_ACPI);
		assert_string_equal(at(&guest, info->cmdline, 6), "quiet");
		assert_pvh_memory(&guest, info);

		assert_int_equal(info->module_count, 2);
		const struct vn_pvh_module *modules =
			at(&guest, info->modules, 2 * sizeof(*modules));
		assert_int_equal(modules[0].size, with_initrd ? kernel.size : 0);
		assert_int_equal(modules[0].start, guest.boot.initrd_start);
		assert_int_equal(modules[0].cmdline, 0);
		assert_int_equal(modules[1].size, sizeof(dtb));
		assert_memory_equal(at(&guest, modules[1].start, sizeof(dtb)), dtb, sizeof(dtb));
		assert_int_equal(modules[1].start % 8, 0);
		assert_string_equal(at(&guest, modules[1].cmdline, 4), "dtb");
		vn_memory_destroy(&guest.memory);
	}
	close(fd);
	free(kernel.data);
}

static void assert_setup_data(const struct guest *guest, uint64_t first, uint8_t seed[static 32])
{
	const struct setup_data *rng = at(guest, first, sizeof(*rng) + 32);
	assert_int_equal(rng->type, SETUP_RNG_SEED);
	assert_int_equal(rng->len, 32);
	memcpy(seed, rng->data, 32);
	const struct setup_data *tree = at(guest, rng->next, sizeof(*tree) + sizeof(dtb));
	assert_int_equal(rng->next % 8, 0);
	assert_int_equal(tree->type, SETUP_DTB);
	assert_int_equal(tree->len, sizeof(dtb));
	assert_int_equal(tree->next, 0);
	assert_memory_equal(tree->data, dtb, sizeof(dtb));
}

static void assert_zero_page(const struct guest *guest, const struct boot_params *params)
{
	assert_int_equal(params->hdr.boot_flag, 0xaa55);
	assert_int_equal(params->hdr.header, 0x53726448);
	assert_int_equal(params->hdr.version, 0x020f);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_true(params->hdr.loadflags & LOADED_HIGH);
	assert_int_equal(params->sentinel, 0);
	assert_int_equal(params->acpi_rsdp_addr, VN_MAP_ACPI);
	assert_int_equal(params->ext_cmd_line_ptr, 0);
	assert_string_equal(at(guest, params->hdr.cmd_line_ptr, 6), "quiet");
	assert_int_equal(params->hdr.ramdisk_image, guest->boot.initrd_start);
	assert_int_equal(params->hdr.ramdisk_size, 4096);
	assert_int_equal(params->ext_ramdisk_image, 0);
	assert_int_equal(params->ext_ramdisk_size, 0);
	assert_int_equal(params->e820_entries, 5);
	assert_int_equal(params->e820_table[2].addr, MIB);
	assert_int_equal(params->e820_table[2].size, 3 * GIB - MIB);
	assert_int_equal(params->e820_table[2].type, 1);
	assert_int_equal(params->e820_table[3].addr, VN_MAP_ECAM);
	assert_int_equal(params->e820_table[4].size, 2 * GIB);
}

static void test_linux_structures(void **state)
{
	(void)state;
	struct bytes kernels[] = {make_linux_elf(), make_linux_bzimage()};
	struct bytes initrd = make_bytes(4096);
	char path[PATH_SIZE];
	int fd = make_file(&initrd, path, sizeof(path));
	uint8_t seeds[2][32];
	for (unsigned i = 0; i < 2; i++) {
		struct guest guest;
		assert_int_equal(load_bytes(&guest, 5 * GIB, &kernels[i], path), 0);
		assert_int_equal(finish(&guest), 0);
		const struct boot_params *params = at(&guest, VN_MAP_BOOT_PARAMS, sizeof(*params));
		assert_zero_page(&guest, params);
		assert_setup_data(&guest, params->hdr.setup_data, seeds[i]);
		assert_int_equal(params->hdr.init_size, i == 0 ? 0 : 4 * MIB);
		vn_memory_destroy(&guest.memory);
		free(kernels[i].data);
	}
	assert_memory_not_equal(seeds[0], seeds[1], 32);
	close(fd);
	free(initrd.data);
}

static void test_large_device_tree(void **state)
{
	(void)state;
	struct bytes kernels[] = {make_elf(ELF_LOW_LEAST), make_linux_elf()};
	const size_t overheads[] = {0, 2 * sizeof(struct setup_data) + 32};
	struct bytes tree = make_bytes(VN_MAP_SETUP_DATA_END - VN_MAP_SETUP_DATA + 1);
	for (unsigned i = 0; i < 2; i++) {
		struct guest guest;
		assert_int_equal(load_bytes(&guest, ELF_MEMORY, &kernels[i], NULL), 0);
		size_t room = tree.size - 1 - overheads[i];
		assert_int_equal(vn_boot_finish(&guest.boot, &guest.machine, RSDP, tree.data, room,
					 &guest.error),
			0);
		int code = vn_boot_finish(
			&guest.boot, &guest.machine, RSDP, tree.data, room + 1, &guest.error);
		assert_refused("tree", code, -E2BIG, &guest.error, "is too large to hand over");
		vn_memory_destroy(&guest.memory);
		free(kernels[i].data);
	}
	free(tree.data);
}

static void test_pvh_entry(void **state)
{
	(void)state;
	const struct vn_boot boot = {.protocol = VN_BOOT_PVH, .entry = VN_GPA(0x123456)};
	struct kvm_regs regs;
	struct kvm_sregs sregs = {.cr0 = 0x60000010, .apic_base = 0xfee00900};
	vn_entry_state(&boot, &regs, &sregs);
	assert_int_equal(regs.rip, 0x123456);
	assert_int_equal(regs.rbx, VN_MAP_PVH_INFO);
	assert_int_equal(regs.rsi, 0);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(sregs.cr0, 0x11);
	assert_int_equal(sregs.cr4, 0);
	assert_int_equal(sregs.efer, 0);
	assert_int_equal(sregs.apic_base, 0xfee00900); // the vCPU's own
	assert_int_equal(sregs.cs.limit, 0xffffffff);
	assert_int_equal(sregs.cs.base, 0);
	assert_int_equal(sregs.cs.db, 1);
	assert_int_equal(sregs.cs.l, 0);
	assert_int_equal(sregs.cs.type, 0xb);
	assert_int_equal(sregs.ss.type, 3);
	assert_int_equal(sregs.ss.db, 1);
	assert_int_equal(sregs.es.limit, 0xffffffff);
	assert_int_equal(sregs.tr.type, 0xb);
	assert_int_equal(sregs.tr.limit, 0x67);
	assert_int_equal(sregs.tr.s, 0);
}

// Follow the tables as the processor would.
static uint64_t walk(const struct guest *guest, uint64_t cr3, uint64_t address)
{
	uint64_t table = cr3;
	for (unsigned shift = 39; shift >= 21; shift -= 9) {
		const uint64_t *entries = at(guest, table, 4096);
		uint64_t entry = entries[(address >> shift) & 511];
		assert_int_equal(entry & 3, 3);
		table = entry & 0x000ffffffffff000;
		assert_int_equal(entry >> 7 & 1, shift == 21);
	}
	return table + (address & ((1 << 21) - 1));
}

static void test_linux_entry(void **state)
{
	(void)state;
	struct bytes kernel = make_linux_elf();
	struct guest guest;
	assert_int_equal(load_bytes(&guest, ELF_MEMORY, &kernel, NULL), 0);
	assert_int_equal(finish(&guest), 0);
	struct kvm_regs regs;
	struct kvm_sregs sregs = {.cr0 = 0x60000010};
	vn_entry_state(&guest.boot, &regs, &sregs);
	assert_int_equal(regs.rip, ELF_ENTRY);
	assert_int_equal(regs.rsi, VN_MAP_BOOT_PARAMS);
	assert_int_equal(regs.rbx, 0);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(sregs.cr0, 0x80000011);
	assert_int_equal(sregs.cr4, 0x20);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.cs.selector, 0x10);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.cs.db, 0);
	assert_int_equal(sregs.ss.selector, 0x18);
	assert_int_equal(sregs.ds.selector, 0x18);

	assert_int_equal(sregs.gdt.limit, 31);
	const uint64_t *gdt = at(&guest, sregs.gdt.base, 32);
	assert_int_equal(gdt[0], 0);
	assert_int_equal(gdt[2], 0x00af9b000000ffff);
	assert_int_equal(gdt[3], 0x00cf93000000ffff);
	const uint64_t addresses[] = {0, ELF_ENTRY, GIB - 1, 3 * GIB + 5, 4 * GIB - 1};
	for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++)
		assert_int_equal(walk(&guest, sregs.cr3, addresses[i]), addresses[i]);
	vn_memory_destroy(&guest.memory);
	free(kernel.data);
}

static void test_kvm_failures(void **state)
{
	(void)state;
	const struct vn_boot boot = {.protocol = VN_BOOT_PVH};
	struct veneer_error error;
	int code = vn_boot_enter(&boot, -1, &error);
	assert_refused("enter", code, -EBADF, &error, "KVM_GET_SREGS: Bad file descriptor");
	code = vn_boot_prepare_vcpu(-1, &error);
	assert_refused("prepare", code, -EBADF, &error, "MSRs");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_own_decompressor),
		cmocka_unit_test(test_large_tail),
		cmocka_unit_test(test_entry_outside),
		cmocka_unit_test(test_wrong_files),
		cmocka_unit_test(test_shrinking_file),
		cmocka_unit_test(test_initrd_place),
		cmocka_unit_test(test_initrd_among_gaps),
		cmocka_unit_test(test_initrd_limits),
		cmocka_unit_test(test_wrong_initrd),
		cmocka_unit_test(test_damaged_payload),
		cmocka_unit_test(test_cmdline),
		cmocka_unit_test(test_pvh_structures),
		cmocka_unit_test(test_linux_structures),
		cmocka_unit_test(test_large_device_tree),
		cmocka_unit_test(test_pvh_entry),
		cmocka_unit_test(test_linux_entry),
		cmocka_unit_test(test_kvm_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
