// SPDX-License-Identifier: Apache-2.0
//
// Arrays from programs that were built with an older header, and from wrong ones.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpuset.h"
#include "vmm/config.h"

// A disk and a network as a header without the last members would have them.
struct old_disk {
	const char *path;
	const char *serial;
	enum veneer_cache cache;
	bool readonly;
};

struct old_net {
	enum veneer_net_backend backend;
	const char *tap;
};

static void expect_disk_error(const struct veneer_config *config, const char *text)
{
	struct veneer_error error = {""};
	struct veneer_disk *disks;
	assert_int_equal(vn_config_disks(&disks, config, &error), -EINVAL);
	assert_null(disks);
	if (!strstr(error.message, text))
		fail_msg("'%s' does not speak of '%s'", error.message, text);
}

static void expect_net_error(const struct veneer_config *config, const char *text)
{
	struct veneer_error error = {""};
	struct veneer_net *nets;
	assert_int_equal(vn_config_nets(&nets, config, &error), -EINVAL);
	assert_null(nets);
	if (!strstr(error.message, text))
		fail_msg("'%s' does not speak of '%s'", error.message, text);
}

// The initializer goes by the order of the fields.
static void test_defaults(void **state)
{
	static const struct veneer_config fixed = VENEER_CONFIG_INIT;
	struct veneer_config expected;
	(void)state;
	memset(&expected, 0, sizeof(expected));
	expected.struct_size = sizeof(struct veneer_config);
	expected.cpus = 1;
	expected.memory.size = 256 << 20;
	expected.memory.node = -1;
	expected.disk_struct_size = sizeof(struct veneer_disk);
	expected.net_struct_size = sizeof(struct veneer_net);
	expected.serial_in = -1;
	expected.serial_out = -1;
	expected.halt_poll_ns = -1;
	expected.cell_struct_size = sizeof(struct veneer_cell);
	expected.placement_struct_size = sizeof(struct veneer_placement);
	assert_memory_equal(&fixed, &expected, sizeof(expected)); // static: padding is zero, too
}

static void test_none(void **state)
{
	(void)state;
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.disk_struct_size = config.net_struct_size = 0;
	struct veneer_disk *disks;
	struct veneer_net *nets;
	assert_int_equal(vn_config_disks(&disks, &config, NULL), 0);
	assert_null(disks);
	assert_int_equal(vn_config_nets(&nets, &config, NULL), 0);
	assert_null(nets);
}

static void test_old_disks(void **state)
{
	(void)state;
	const struct old_disk old[] = {
		{.path = "a", .cache = VENEER_CACHE_NONE},
		{.path = "b", .serial = "s", .readonly = true},
		{.path = "c"},
	};
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.cpus = 3;
	config.disks = (const struct veneer_disk *)(const void *)old;
	config.disk_count = 3;
	config.disk_struct_size = sizeof(old[0]);
	struct veneer_disk *disks;
	assert_int_equal(vn_config_disks(&disks, &config, NULL), 0);
	assert_string_equal(disks[0].path, "a");
	assert_int_equal(disks[0].cache, VENEER_CACHE_NONE);
	assert_string_equal(disks[1].serial, "s");
	assert_true(disks[1].readonly);
	assert_string_equal(disks[2].path, "c");
	assert_false(disks[2].readonly);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(disks[i].queues, 3);
	free(disks);
}

static void test_default_queues(void **state)
{
	(void)state;
	static const unsigned cases[][2] = {{1, 1}, {4, 4}, {5, 4}, {64, 4}};
	const struct veneer_disk given[] = {{.path = "a"}, {.path = "b", .queues = 16}};
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.disks = given;
	config.disk_count = 2;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		config.cpus = cases[i][0];
		struct veneer_disk *disks;
		assert_int_equal(vn_config_disks(&disks, &config, NULL), 0);
		assert_int_equal(disks[0].queues, cases[i][1]);
		assert_int_equal(disks[1].queues, 16);
		free(disks);
	}
}

static void test_bad_disks(void **state)
{
	(void)state;
	struct veneer_disk disks[] = {{.path = "a"}, {.path = "b"}};
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.disks = disks;
	config.disk_count = 2;
	disks[1].queues = 17;
	expect_disk_error(&config, "disk b: 17 queues");
	disks[1].queues = 0;
	disks[1].poll_us = VENEER_POLL_MAX + 1;
	expect_disk_error(&config, "disk b: polling for 10001 us");
	disks[1].poll_us = VENEER_POLL_OFF;
	disks[1].iops_burst = 1;
	expect_disk_error(&config, "disk b: a burst without a limit");
	disks[1].iops_burst = 0;
	disks[1].bps = 1023;
	expect_disk_error(&config, "disk b: a limit of 1023 bytes a second");
	disks[1].bps = 0;
	disks[1].block_size = 768;
	expect_disk_error(&config, "disk b: blocks of 768 bytes");
	disks[1].block_size = 8192;
	expect_disk_error(&config, "disk b: blocks of 8192 bytes");
	disks[1].block_size = 0;
	disks[1].detect_zeroes = (enum veneer_detect_zeroes)3;
	expect_disk_error(&config, "disk b: unknown detect-zeroes mode 3");
	disks[1].detect_zeroes = VENEER_DETECT_ZEROES_OFF;
	disks[1].cache = (enum veneer_cache)99;
	expect_disk_error(&config, "disk b: unknown cache mode 99");
	disks[1].path = NULL;
	expect_disk_error(&config, "disk 1 has no path");
	config.disk_struct_size = 0;
	expect_disk_error(&config, "another version");
	config.disk_struct_size = sizeof(disks[0]) + 8;
	expect_disk_error(&config, "another version");
}

static void test_placement(void **state)
{
	(void)state;
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_placement placement, given = {.fifo = 5};
	memset(&placement, 0xff, sizeof(placement));
	assert_int_equal(vn_config_placement(&placement, &config, NULL), 0);
	assert_true(placement.vcpus[63].bits[0] == 0 && placement.vmm.bits[15] == 0);
	assert_int_equal(placement.fifo, 0);
	given.vcpus[1].bits[0] = 6;
	config.placement = &given;
	assert_int_equal(vn_config_placement(&placement, &config, NULL), 0);
	assert_int_equal(placement.vcpus[1].bits[0], 6);
	assert_int_equal(placement.fifo, 5);
	// An older header knew nothing of priorities.
	config.placement_struct_size = offsetof(struct veneer_placement, fifo);
	assert_int_equal(vn_config_placement(&placement, &config, NULL), 0);
	assert_int_equal(placement.vcpus[1].bits[0], 6);
	assert_int_equal(placement.fifo, 0);
	struct veneer_error error = {""};
	config.placement_struct_size = sizeof(given) + 8;
	assert_int_equal(vn_config_placement(&placement, &config, &error), -EINVAL);
	assert_non_null(strstr(error.message, "another version"));
}

static void test_nets(void **state)
{
	(void)state;
	const struct old_net old[] = {{.tap = "t0"}, {.backend = VENEER_NET_USER}};
	struct veneer_config config = VENEER_CONFIG_INIT;
	config.nets = (const struct veneer_net *)(const void *)old;
	config.net_count = 2;
	config.net_struct_size = sizeof(old[0]);
	struct veneer_net *nets;
	assert_int_equal(vn_config_nets(&nets, &config, NULL), 0);
	assert_string_equal(nets[0].tap, "t0");
	assert_int_equal(nets[0].mtu, 0);
	assert_int_equal(nets[1].backend, VENEER_NET_USER);
	assert_int_equal(nets[1].forward_count, 0);
	free(nets);

	struct veneer_net net = {.tap = "t0", .queues = 17};
	config.nets = &net;
	config.net_count = 1;
	config.net_struct_size = sizeof(net);
	expect_net_error(&config, "17 queues");
	net = (struct veneer_net){.backend = VENEER_NET_TAP};
	expect_net_error(&config, "no TAP");
	net = (struct veneer_net){.tap = "t0", .vhost = VENEER_VHOST_ON, .pps = 1};
	expect_net_error(&config, "pps and bps need it to be off or auto");
	net = (struct veneer_net){.tap = "t0", .bps_burst = 1};
	expect_net_error(&config, "network 0: a burst without a limit");
	net = (struct veneer_net){.tap = "t0", .bps = 1023};
	expect_net_error(&config, "network 0: a limit of 1023 bytes a second: must be 1024");
	net = (struct veneer_net){.tap = "t0", .vhost = (enum veneer_vhost)3};
	expect_net_error(&config, "unknown vhost mode 3");
	net = (struct veneer_net){.backend = VENEER_NET_USER, .vhost = VENEER_VHOST_ON};
	expect_net_error(&config, "vhost needs a TAP");
	net.backend = (enum veneer_net_backend)7;
	expect_net_error(&config, "unknown kind 7");
	config.net_struct_size = sizeof(net) + 1;
	expect_net_error(&config, "another version");
}

// The addresses of the networks in one guest.
static void get_macs(uint8_t macs[4][6], const char *identity)
{
	const struct veneer_net given[] = {{.tap = "t0"}, {.tap = "t1"},
		{.backend = VENEER_NET_USER}, {.backend = VENEER_NET_USER}};
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_net *nets;
	config.nets = given;
	config.net_count = 4;
	config.identity = identity;
	assert_int_equal(vn_config_nets(&nets, &config, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		memcpy(macs[i], nets[i].mac, 6);
		assert_int_equal(macs[i][0] & 3, 2);
	}
	free(nets);
}

static void test_macs(void **state)
{
	(void)state;
	static const char *const identities[] = {"web", "db", NULL, NULL};
	uint8_t macs[16][6], again[4][6];
	for (unsigned i = 0; i < 4; i++)
		get_macs(macs + 4 * i, identities[i]);
	for (unsigned i = 0; i < 16; i++)
		for (unsigned j = 0; j < i; j++)
			assert_memory_not_equal(macs[i], macs[j], 6);
	get_macs(again, "web");
	assert_memory_equal(again, macs, sizeof(again));

	const struct veneer_net net = {.tap = "t0", .mac = {0x52, 0x54, 0, 1, 2, 3}};
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_net *nets;
	config.nets = &net;
	config.net_count = 1;
	config.identity = "web";
	assert_int_equal(vn_config_nets(&nets, &config, NULL), 0);
	assert_memory_equal(nets[0].mac, net.mac, 6);
	free(nets);
}

static void test_no_cells(void **state)
{
	(void)state;
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_cell *cells;
	size_t count;
	config.cpus = 3;
	config.memory = (struct veneer_memory){.size = 7, .hugepage_size = 5, .node = 2};
	assert_int_equal(vn_config_cells(&cells, &count, &config, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(cells[0].cpus.bits[0], 7);
	assert_int_equal(cells[0].size, 7);
	assert_int_equal(cells[0].hugepage_size, 5);
	assert_int_equal(cells[0].node, 2);
	free(cells);
}

static void test_cells(void **state)
{
	(void)state;
	struct veneer_cell given[2] = {
		{.cpus = {.bits = {0xa}}, .size = 1 << 20, .node = -1},
		{.cpus = {.bits = {0x5}}, .size = 2 << 20, .node = 0, .hugepage_size = 1 << 30},
	};
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_cell *cells;
	size_t count;
	config.cpus = 4;
	config.memory.node = 3;
	config.memory.hugepage_size = 2 << 20;
	config.cells = given;
	config.cell_count = 2;
	assert_int_equal(vn_config_cells(&cells, &count, &config, NULL), 0);
	assert_int_equal(count, 2);
	assert_int_equal(cells[0].cpus.bits[0], 0xa);
	assert_int_equal(cells[0].node, 3);
	assert_int_equal(cells[0].hugepage_size, 2 << 20);
	assert_int_equal(cells[1].node, 0);
	assert_int_equal(cells[1].hugepage_size, 1 << 30);
	assert_int_equal(cells[1].size, 2 << 20);
	free(cells);
}

static void expect_cell_error(
	const struct veneer_cell *given, size_t count, unsigned cpus, const char *text)
{
	struct veneer_error error = {""};
	struct veneer_config config = VENEER_CONFIG_INIT;
	struct veneer_cell *cells;
	config.cpus = cpus;
	config.cells = given;
	config.cell_count = count;
	assert_int_equal(vn_config_cells(&cells, &count, &config, &error), -EINVAL);
	assert_null(cells);
	if (!strstr(error.message, text))
		fail_msg("'%s' does not speak of '%s'", error.message, text);
}

static void test_bad_cells(void **state)
{
	(void)state;
	struct veneer_cell cells[VENEER_CELLS_MAX + 1] = {
		{.cpus = {.bits = {0x3}}}, {.cpus = {.bits = {0xc}}}};
	expect_cell_error(cells, VENEER_CELLS_MAX + 1, 4, "at most 8");
	expect_cell_error(cells, 2, 3, "cell 1 has CPU 3; the guest's last CPU is 2");
	expect_cell_error(cells, 2, 5, "CPU 4 is in none");
	expect_cell_error(cells, 3, 4, "cell 2 has no CPUs");
	vn_cpuset_add(&cells[1].cpus, 0);
	expect_cell_error(cells, 2, 4, "CPU 0 is in cell 1 and in one before it");
	cells[1].cpus = (struct veneer_cpuset){.bits = {0xc}};
	vn_cpuset_add(&cells[0].cpus, VENEER_HOST_CPUS_MAX - 1);
	expect_cell_error(cells, 2, 4, "cell 0 has CPU 1023");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_old_disks),
		cmocka_unit_test(test_default_queues),
		cmocka_unit_test(test_bad_disks),
		cmocka_unit_test(test_placement),
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_macs),
		cmocka_unit_test(test_no_cells),
		cmocka_unit_test(test_cells),
		cmocka_unit_test(test_bad_cells),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
