// SPDX-License-Identifier: Apache-2.0
//
// KVM's statistics read from files that look like KVM's, right and wrong, and from KVM itself.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/macros.h"
#include "core/kvm_stats.h"

#define NAME_SIZE 48
#define COUNT     3

// A file of three statistics: a counter, a time, and a histogram. A descriptor is struct
// kvm_stats_desc with room for a name.
struct desc {
	uint32_t flags;
	int16_t exponent;
	uint16_t size;
	uint32_t offset;
	uint32_t bucket_size;
	char name[NAME_SIZE];
};
_Static_assert(offsetof(struct desc, name) == sizeof(struct kvm_stats_desc), "as KVM has it");

static struct file {
	struct kvm_stats_header header;
	char id[NAME_SIZE];
	struct desc descs[COUNT];
	uint64_t data[6];
} file;

static struct vn_arena arena;
static const struct veneer_kvm_stat *const *stats;

static int make_file(void **state)
{
	(void)state;
	file = (struct file){.header = {.name_size = NAME_SIZE,
				     .num_desc = COUNT,
				     .id_offset = offsetof(struct file, id),
				     .desc_offset = offsetof(struct file, descs),
				     .data_offset = offsetof(struct file, data)},
		.descs = {{.flags = KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE,
				  .size = 1,
				  .name = "exits"},
			{.flags = KVM_STATS_TYPE_PEAK | KVM_STATS_UNIT_SECONDS |
				  KVM_STATS_BASE_POW10,
				.exponent = -9,
				.size = 1,
				.offset = 8,
				.name = "time"},
			{.flags = KVM_STATS_TYPE_LOG_HIST | KVM_STATS_BASE_POW2,
				.size = 4,
				.offset = 16,
				.name = "spread"}},
		.data = {7, 1000, 1, 2, 3, 4}};
	return 0;
}

static int free_all(void **state)
{
	(void)state;
	vn_arena_free(&arena);
	return 0;
}

static int read_bytes(size_t size)
{
	int fd = memfd_create("stats", MFD_CLOEXEC);
	assert_int_equal(write(fd, &file, size), size);
	int code = vn_kvm_stats_read(fd, &arena, &stats);
	close(fd);
	return code;
}

static void reads_by_name(void **state)
{
	(void)state;
	assert_int_equal(read_bytes(sizeof(file)), 0);
	assert_string_equal(stats[0]->name, "exits");
	assert_int_equal(stats[0]->kind, VENEER_KVM_KIND_CUMULATIVE);
	assert_int_equal(stats[0]->unit, VENEER_KVM_UNIT_NONE);
	assert_int_equal(stats[0]->values[0], 7);
	assert_string_equal(stats[1]->name, "time");
	assert_int_equal(stats[1]->kind, VENEER_KVM_KIND_PEAK);
	assert_int_equal(stats[1]->unit, VENEER_KVM_UNIT_SECONDS);
	assert_int_equal(stats[1]->base, 10);
	assert_int_equal(stats[1]->exponent, -9);
	assert_int_equal(stats[1]->values[0], 1000);
	assert_string_equal(stats[2]->name, "spread");
	assert_int_equal(stats[2]->kind, VENEER_KVM_KIND_LOG_HISTOGRAM);
	assert_int_equal(stats[2]->base, 2);
	assert_int_equal(stats[2]->value_count, 4);
	assert_memory_equal(stats[2]->values, file.data + 2, 4 * sizeof(uint64_t));
	assert_null(stats[3]);
}

static void no_descriptor_is_no_statistics(void **state)
{
	(void)state;
	assert_int_equal(vn_kvm_stats_read(-1, &arena, &stats), 0);
	assert_null(stats[0]);
}

static void what_a_newer_kernel_invents_is_a_number(void **state)
{
	(void)state;
	file.descs[0].flags = 9 << KVM_STATS_TYPE_SHIFT | 9 << KVM_STATS_UNIT_SHIFT;
	assert_int_equal(read_bytes(sizeof(file)), 0);
	assert_int_equal(stats[0]->kind, VENEER_KVM_KIND_INSTANT);
	assert_int_equal(stats[0]->unit, VENEER_KVM_UNIT_NONE);
	assert_int_equal(stats[0]->values[0], 7);
}

static void a_short_file_is_refused(void **state)
{
	(void)state;
	for (size_t size = 0; size < sizeof(file); size++)
		assert_int_equal(read_bytes(size), -EPROTO);
}

static void a_malformed_file_is_refused(void **state)
{
	uint32_t *const fields[] = {&file.header.name_size, &file.header.name_size,
		&file.header.name_size, &file.header.num_desc, &file.descs[1].offset,
		&file.descs[1].offset, &file.header.data_offset, &file.header.desc_offset};
	const uint32_t values[] = {
		0, 49, UINT32_MAX, UINT32_MAX, 12, UINT32_MAX - 7, UINT32_MAX, UINT32_MAX};
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		make_file(state);
		*fields[i] = values[i];
		assert_int_equal(read_bytes(sizeof(file)), -EPROTO);
	}
	make_file(state);
	file.descs[0].size = 0;
	assert_int_equal(read_bytes(sizeof(file)), -EPROTO);
	make_file(state);
	memset(file.descs[2].name, 'x', NAME_SIZE);
	assert_int_equal(read_bytes(sizeof(file)), -EPROTO);
}

static void kvm_has_some(void **state)
{
	(void)state;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	int fd = vm < 0 ? -1 : vn_kvm_stats_open(vm);
	if (fd < 0) {
		print_message("# no /dev/kvm with binary statistics\n");
		skip();
	}
	assert_int_equal(vn_kvm_stats_read(fd, &arena, &stats), 0);
	bool found = false;
	for (; *stats; stats++)
		found |= strcmp((*stats)->name, "remote_tlb_flush") == 0;
	assert_true(found);
	close(fd);
	close(vm);
	close(kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_by_name, make_file, free_all),
		cmocka_unit_test_setup_teardown(
			no_descriptor_is_no_statistics, make_file, free_all),
		cmocka_unit_test_setup_teardown(
			what_a_newer_kernel_invents_is_a_number, make_file, free_all),
		cmocka_unit_test_setup_teardown(a_short_file_is_refused, make_file, free_all),
		cmocka_unit_test_setup_teardown(a_malformed_file_is_refused, make_file, free_all),
		cmocka_unit_test_setup_teardown(kvm_has_some, make_file, free_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
