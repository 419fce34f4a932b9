// SPDX-License-Identifier: Apache-2.0
//
// MAC addresses for those that are given none, for hosts in a directory of our own; and the hash
// that they come from.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/siphash.h"
#include "devices/net/mac.h"

#define ID "0123456789abcdef0123456789abcdef"

static char root[] = "/tmp/veneer-mac-XXXXXX";

static void put_machine_id(const char *text)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/etc/machine-id", root);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int make_root(void **state)
{
	char path[64];
	(void)state;
	assert_non_null(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/etc", root);
	return mkdir(path, 0700);
}

static int remove_root(void **state)
{
	char path[64];
	(void)state;
	snprintf(path, sizeof(path), "%s/etc/machine-id", root);
	unlink(path);
	snprintf(path, sizeof(path), "%s/etc", root);
	rmdir(path);
	return rmdir(root);
}

// The authors' own vectors: the key 00 01 02..., and as many of the bytes 00 01 02...
static void test_siphash(void **state)
{
	static const struct {
		size_t size;
		uint64_t hash;
	} vectors[] = {
		{0, 0x726fdb47dd0e0e31},
		{1, 0x74f839c593dc67fd},
		{7, 0xab0200f58b01d137},
		{8, 0x93f5f5799a932462},
		{15, 0xa129ca6149be45e5},
		{63, 0x958a324ceb064572},
	};
	uint8_t bytes[64];
	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		assert_int_equal(vn_siphash(bytes, bytes, vectors[i].size), vectors[i].hash);
}

static uint64_t number(const uint8_t mac[6])
{
	uint64_t value = 0;
	memcpy(&value, mac, 6);
	return value;
}

static void assert_kind(const uint8_t mac[6])
{
	assert_int_equal(mac[0] & 1, 0); // of one interface
	assert_int_equal(mac[0] & 2, 2); // locally administered
}

static uint64_t derive(const char *identity, const char *device)
{
	uint8_t mac[6];
	assert_int_equal(vn_mac_derive(mac, root, identity, device, NULL), 0);
	assert_kind(mac);
	return number(mac);
}

// This address is a promise: a guest that has it keeps it.
static void test_promise(void **state)
{
	static const uint8_t expected[6] = {0x82, 0x05, 0x26, 0x0f, 0xfa, 0xb7};
	uint8_t mac[6];
	(void)state;
	put_machine_id(ID "\n");
	assert_int_equal(vn_mac_derive(mac, root, "web", "tap0", NULL), 0);
	assert_memory_equal(mac, expected, 6);
}

static void assert_distinct(const uint64_t *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < i; j++)
			assert_true(values[i] != values[j]);
}

// Of 30 guests with 30 interfaces each no two, and each the same again.
static void test_distinct(void **state)
{
	static uint64_t macs[900];
	size_t count = ARRAY_SIZE(macs);
	(void)state;
	put_machine_id(ID);
	for (unsigned pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < count; i++) {
			char name[16], tap[16];
			snprintf(name, sizeof(name), "guest%zu", i / 30);
			snprintf(tap, sizeof(tap), "tap%zu", i % 30);
			uint64_t mac = derive(name, tap);
			if (pass == 0)
				macs[i] = mac;
			assert_int_equal(mac, macs[i]);
		}
	}
	assert_distinct(macs, count);
}

// Two hosts tell guests of the same name apart. One without a machine-id goes by its name, whatever
// the file holds, since systemd writes a word into it before there is one.
static void test_hosts(void **state)
{
	(void)state;
	put_machine_id(ID "\n");
	uint64_t one = derive("web", "tap0");
	put_machine_id("fedcba9876543210fedcba9876543210\n");
	uint64_t other = derive("web", "tap0");
	put_machine_id("uninitialized\n");
	uint64_t none = derive("web", "tap0");
	const uint64_t all[] = {one, other, none};
	assert_distinct(all, 3);
	put_machine_id("");
	assert_int_equal(derive("web", "tap0"), none);
	put_machine_id(ID "0");
	assert_int_equal(derive("web", "tap0"), none);
	put_machine_id("0123456789ABCDEF0123456789abcdef");
	assert_int_equal(derive("web", "tap0"), none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash),
		cmocka_unit_test(test_promise),
		cmocka_unit_test(test_distinct),
		cmocka_unit_test(test_hosts),
	};
	return cmocka_run_group_tests_name("mac", tests, make_root, remove_root);
}
