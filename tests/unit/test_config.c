// SPDX-License-Identifier: Apache-2.0
//
// A guest's configuration: options by their names, one property at a time, as JSON and as
// descriptors; what an error says of it; and what it comes to when nothing is left open.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"
#include "devices/blk/blk.h"
#include "devices/net/net.h"
#include "devices/rng.h"
#include "vmm/config.h"

static struct veneer_config *config;

static int make(void **state)
{
	(void)state;
	return veneer_config_new(&config, NULL);
}

static int drop(void **state)
{
	(void)state;
	veneer_config_free(config);
	return 0;
}

static void set(const char *name, const char *value)
{
	struct veneer_error error;
	if (veneer_config_set(config, name, value, &error) < 0)
		fail_msg("%s", error.message);
}

// What an option or property is now; NULL: not set.
static void expect(const char *name, const char *value)
{
	char text[256];
	int size = veneer_config_get(config, name, text, sizeof(text));
	if (!value) {
		assert_int_equal(size, -ENOENT);
	} else if (size < 0) {
		fail_msg("%s is not set", name);
	} else {
		assert_string_equal(text, value);
		assert_int_equal(size, strlen(value));
	}
}

static void expect_error(
	const struct veneer_error *error, int code, const char *key, const char *message)
{
	assert_int_equal(error->code, code);
	assert_int_equal(error->kind, VENEER_ERROR_CONFIG);
	assert_string_equal(error->key, key);
	if (!strstr(error->message, message))
		fail_msg("'%s' does not say '%s'", error->message, message);
}

static void refuse(const char *name, const char *value, const char *key, const char *message)
{
	struct veneer_error error;
	assert_int_equal(veneer_config_set(config, name, value, &error), -EINVAL);
	expect_error(&error, -EINVAL, key, message);
}

static void options_are_set_whole_and_by_property(void **state)
{
	(void)state;
	expect("memory", NULL);
	set("memory", "1G,node=1,prealloc");
	expect("memory", "1G,node=1,prealloc");
	expect("memory.node", "1");
	set("memory.node", "0");
	set("memory.lock", NULL);
	set("memory.prealloc", "off");
	expect("memory", "1G,node=0,lock");
	set("memory", "64M"); // another one, of which nothing is left
	expect("memory", "64M");
	expect("memory.lock", NULL);
	set("disk", "a");
	set("disk", "b,readonly");
	set("disk0.queues", "4");
	set("disk2.path", "c,d"); // the next one
	set("disk1", "e");
	expect("disk0", "a,queues=4");
	expect("disk1", "e");
	expect("disk2", "c,,d");
	expect("disk3", NULL);
	set("disk0.readonly", NULL);
	expect("disk0.readonly", "on"); // which sets it again
	set("disk0.readonly", "on");
	expect("disk0", "a,readonly,queues=4");
	set("disk0.readonly", "off");
	expect("disk0.readonly", NULL);
	expect("disk", NULL);
	expect("disk0.none", NULL);
	expect("none", NULL);
	set("cmdline", "a,b=c,,d");
	expect("cmdline", "a,b=c,,d");
	assert_int_equal(veneer_config_get(config, "cmdline", NULL, 0), 8);
}

static void what_is_wrong_is_named(void **state)
{
	(void)state;
	refuse("memry", "1G", "memry", "did you mean 'memory'?");
	refuse("disk.queues", "4", "disk.queues", "The first one is disk0");
	refuse("disk1.queues", "4", "disk1.queues", "the next one is disk0");
	refuse("disk7", "a", "disk7", "the next one is disk0");
	refuse("memory.nodes", "4", "memory", "did you mean 'node'?");
	refuse("memory.node", NULL, "memory", "needs a value");
	refuse("memory.node", "x", "memory.node", "'x' is not the number of a NUMA node");
	refuse("memory0", "1G", "memory0", "there is no such option");
	refuse("disk00", "a", "disk00", "there is no such option");
	refuse("disk", "a,queues=99", "disk0.queues", "from 1 to 16");
	set("disk", "a");
	refuse("disk", "b,queues=99", "disk1.queues", "from 1 to 16");
	refuse("disk0", "b,queues=99", "disk0.queues", "from 1 to 16");
	refuse("disk1", "b,queues=99", "disk1.queues", "from 1 to 16");
	refuse("disk0.queues", "99", "disk0.queues", "from 1 to 16");
	refuse("cpu", "host,features=", "cpu", "unknown word 'features='");
	refuse("cpu", "host,features=avx", "cpu", "unknown word 'features=avx'");
	refuse("disk1.queues", "99", "disk1.queues", "from 1 to 16");
	refuse("disk1", "b,iopoll=on", "disk1.iopoll", "disk: iopoll=on is for cache=none");
	refuse("net", "user,hostfwd=tcp:127.0.0.1:1:2,hostfwd=tcp:127.0.0.1:1:3", "net0.hostfwd",
		"net: hostfwd: port 1 of 127.0.0.1 (tcp) is forwarded twice");
	refuse("cpu", "nosuch", "cpu.model", "cpu: there is no CPU model 'nosuch'");
	refuse("cpu", "host,+nosuch", "cpu.features", "cpu: there is no CPU feature 'nosuch'");
	refuse("cpus", "2,pin=0", "cpus.pin", "2 are needed");
	expect("disk1", NULL); // as it was
	expect("net0", NULL);
	expect("cpu", NULL);
	refuse("memory", NULL, "memory", "needs a value");
}

// What does not go together shows when all is known, of which item it is.
static void the_check_names_the_item(void **state)
{
	struct veneer_error error;
	(void)state;
	set("kernel", "k");
	set("net", "user");
	set("net", "user");
	set("net1.tap", "t");
	assert_int_equal(veneer_config_check(config, &error), -EINVAL);
	expect_error(&error, -EINVAL, "net1", "net: has both tap and user; give one of them");
	assert_int_equal(veneer_config_unset(config, "net1.tap", &error), 0);
	assert_int_equal(veneer_config_check(config, &error), 0);
	set("memory", "32M");
	assert_int_equal(veneer_config_check(config, &error), 0);
	assert_int_equal(veneer_config_unset(config, "kernel", &error), 0);
	assert_int_equal(veneer_config_check(config, &error), -EINVAL);
	expect_error(&error, -EINVAL, "memory.size", "needs 64M of memory, and is given 32768K");
}

#define TWO_FORWARDS(first, second) "tcp:127.0.0.1:" first ",tcp:127.0.0.1:" second

// What needs no look at the host is found before a guest is made.
static void the_check_finds_all_that_needs_no_host(void **state)
{
	static const struct {
		const char *settings[6]; // names and values
		const char *key, *message; // NULL: nothing is wrong
	} cases[] = {
		{{"memory", "1G,hugepages=2M,merge=on"}, "memory.merge",
			"memory: merge=on does not go with hugepages="},
		{{"memory.merge", "on", "numa", "cell=0,cpus=0,memory=64M,hugepages=2M"},
			"memory.merge", "memory: merge=on does not go with hugepages="},
		{{"memory", "1G,merge=on"}, NULL, NULL},
		{{"memory", "67108865"}, "memory.size", "memory: guest memory of 67108865 bytes"},
		{{"memory", "65M,hugepages=2M"}, "memory.size", "next larger size is 67584K"},
		{{"memory", "66M,hugepages=2M"}, NULL, NULL},
		{{"memory", "100T"}, "memory.size", "more than 64T"},
		{{"memory", "64T"}, NULL, NULL},
		{{"memory", "4M"}, NULL, NULL},
		{{"cpus", "2", "numa", "cell=1,cpus=1,memory=65M,hugepages=2M", "numa",
			 "cell=0,cpus=0,memory=64M"},
			"numa0.memory", "numa: cell 1: guest memory of"},
		{{"cpu.model", "nosuch"}, "cpu.model", "cpu: there is no CPU model 'nosuch'"},
		{{"cpu.features", "+avx,+nosuch"}, "cpu.features", "no CPU feature 'nosuch'"},
		{{"cpu.features", "+avx2,-avx"}, "cpu.features", "taken away"},
		{{"cpu.features", "+avx2,-rdrand"}, NULL, NULL},
		{{"disk", "a", "disk1.path", "b", "disk1.iopoll", "on"}, "disk1.iopoll",
			"cache=none and cache=directsync"},
		{{"disk", "a,cache=directsync", "disk0.iopoll", "on"}, NULL, NULL},
		{{"net", "user", "net0.hostfwd", TWO_FORWARDS("1:2", "1:3")}, "net0.hostfwd",
			"port 1 of 127.0.0.1 (tcp) is forwarded twice"},
		{{"net", "user", "net0.hostfwd", TWO_FORWARDS("1:3", "2:3")}, NULL, NULL},
		{{"net", "user", "net0.hostfwd", "tcp:127.0.0.1:1:3,udp:127.0.0.1:1:3"}, NULL,
			NULL},
		{{"net", "user", "net0.hostfwd", "tcp:127.0.0.1:1:3,tcp:127.0.0.2:1:3"}, NULL,
			NULL},
		{{"net", "tap=t,pps=5", "net0.vhost", "on"}, "net0.vhost", "keeps to no limit"},
		{{"cpus.pin", "0-1"}, "cpus.pin", "1 are needed"},
		{{"cpus.topology", "2x1x1x1"}, "cpus.topology", "makes 2 CPUs"},
		{{"cpus.halt-poll-ns", "1", "cpus.idle", "poll"}, "cpus.halt-poll-ns",
			"for idle=halt"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct veneer_error error = {.message = ""};
		assert_int_equal(drop(NULL) + make(NULL), 0);
		set("kernel", "k");
		for (unsigned j = 0; j < 6 && cases[i].settings[j]; j += 2)
			set(cases[i].settings[j], cases[i].settings[j + 1]);
		int code = veneer_config_check(config, &error);
		if (cases[i].key)
			expect_error(&error, -EINVAL, cases[i].key, cases[i].message);
		if (code != (cases[i].key ? -EINVAL : 0))
			fail_msg("case %zu: %s", i, error.message);
	}
}

// A device without a slot: the message begins with its option, as each does.
static void devices_without_a_slot_are_named(void **state)
{
	struct veneer_error error;
	(void)state;
	set("transport", "mmio");
	set("net", "user");
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(veneer_config_check(config, &error), 0);
		set("disk", "a");
	}
	assert_int_equal(veneer_config_check(config, &error), -EINVAL);
	expect_error(&error, -EINVAL, "net0",
		"net: 8 disks and 1 other device, but there are 8 virtio-mmio slots");
}

// A value that is as by default, too.
static void what_was_set_reads_back_and_nothing_else(void **state)
{
	char text[8];
	(void)state;
	set("cpus", "1");
	expect("cpus", "1");
	set("cpus.idle", "halt");
	expect("cpus", "1,idle=halt");
	expect("cpus.idle", "halt");
	expect("cpus.pit", NULL);
	set("memory.node", "0"); // without a first word, no text says it
	assert_int_equal(veneer_config_get(config, "memory", text, sizeof(text)), -ENODATA);
	expect("memory.node", "0");
	expect("memory.size", NULL);
	set("net0.mtu", "1500");
	assert_int_equal(veneer_config_get(config, "net0", text, sizeof(text)), -ENODATA);
	set("net0.tap", "t");
	expect("net0", "tap=t,mtu=1500");
	expect("kernel", NULL);
	set("cmdline", "");
	expect("cmdline", "");
}

static void unset(const char *name, int expected)
{
	struct veneer_error error = {.code = 0};
	assert_int_equal(veneer_config_unset(config, name, &error), expected);
	assert_int_equal(error.code, expected);
	if (expected < 0)
		assert_string_equal(error.key, name);
}

static void what_was_set_can_be_unset(void **state)
{
	(void)state;
	set("memory", "1G,node=1,lock");
	unset("memory.node", 0);
	expect("memory", "1G,lock");
	assert_int_equal(
		((struct vn_memory_options *)vn_config_values(config, &vn_memory_option, 0))->node,
		-1);
	unset("memory.node", 0);
	unset("memory", 0);
	expect("memory", NULL);
	set("net", "user,hostfwd=tcp:127.0.0.1:1:2,hostfwd=tcp:127.0.0.1:3:4");
	set("net0.hostfwd", "tcp:127.0.0.1:5:6"); // one more
	expect("net0.hostfwd", "tcp:127.0.0.1:1:2,tcp:127.0.0.1:3:4,tcp:127.0.0.1:5:6");
	unset("net0.hostfwd", 0);
	expect("net0", "user");
	set("net0.hostfwd", "tcp:127.0.0.1:1:2,udp:127.0.0.1:3:4"); // two more: all or none
	refuse("net0.hostfwd", "tcp:127.0.0.1:5:6,tcp:7", "net0.hostfwd", "'tcp:7' is not");
	refuse("net0.hostfwd", "tcp:127.0.0.1:5:6,", "net0.hostfwd", "'' is not");
	refuse("net0.hostfwd", "", "net0.hostfwd", "'' is not");
	expect("net0.hostfwd", "tcp:127.0.0.1:1:2,udp:127.0.0.1:3:4");
	unset("net0.hostfwd", 0);
	set("cpu", "host,+avx,-rdrand");
	unset("cpu.features", 0);
	expect("cpu", "host");
	set("disk", "a");
	set("disk", "b,queues=2");
	set("disk", "c");
	unset("disk1", 0);
	expect("disk0", "a");
	expect("disk1", "c");
	expect("disk2", NULL);
	set("disk", "d");
	expect("disk2", "d");
	expect("net0", "user");
	unset("disk0.path", -EINVAL); // a disk is nothing without
	expect("disk0", "a");
	unset("disk3", -ENOENT);
	unset("disk", -ENOENT);
	unset("disk0.nothing", -ENOENT);
	unset("nothing", -ENOENT);
	unset("serial.in", 0);
}

// For each option and property, words that set it.
static const struct sample {
	const char *option, *value;
} samples[] = {
	{"kernel", "a,b"},
	{"initrd", "i"},
	{"cmdline", "a=b,,c d"},
	{"cmdline", ""},
	{"name", "web-1"},
	{"transport", "pci"},
	{"transport", "mmio"},
	{"cpus", "4,topology=1x1x2x2,pin=0-2,3,iothreads=0-1,3,vmm=2,sched=fifo:1,idle=halt,"
		 "halt-poll-ns=0,pit=on"},
	{"cpus", "2,pin=0:0,1:0,idle=poll,pit=off"},
	{"cpus", "1"},
	{"cpu", "host,+avx,-rdrand,tsc-khz=1000000"},
	{"cpu", "x86-64-v3,-avx"},
	{"memory", "1G,hugepages=2M,node=0,prealloc,lock,merge=off"},
	{"memory", "256M"},
	{"numa", "cell=0,cpus=0-3,8,memory=1G,node=0,hugepages=1G"},
	{"disk", "a,,b,readonly,cache=writeback,queues=4,serial=x,,y,poll-us=50,detect-zeroes=off,"
		 "iops=5:6,bps=1M,sqpoll=off,block-size=512,format=raw"},
	{"disk", "a,cache=none,iopoll=on,detect-zeroes=unmap"},
	{"net", "tap=t0,mac=02:00:00:00:00:01,queues=2,mtu=1500,vhost=auto,poll-us=9,pps=5,bps=1M"},
	{"net", "user,hostfwd=tcp:127.0.0.1:1:2,hostfwd=udp:127.0.0.1:3:4"},
	{"rng", "on"},
	{"rng", "off"},
};

// The first item's name: "disk0", "memory".
static void name_first(char name[32], const struct vn_option *option)
{
	snprintf(name, 32, "%s%s", option->name, option->many ? "0" : "");
}

static uint64_t given(const struct vn_option *option)
{
	for (size_t i = 0; i < config->count; i++)
		if (config->items[i].option == option)
			return config->items[i].given;
	return 0;
}

// What each property reads sets it again, in place of a list that is emptied before.
static void set_each_to_what_it_reads(const struct vn_option *option)
{
	for (const struct vn_prop *prop = option->props; prop->name; prop++) {
		char item[32], name[64], value[256];
		if (!vn_option_is_given(option, prop, given(option)))
			continue;
		name_first(item, option);
		snprintf(name, sizeof(name), "%s.%s", item, prop->name);
		assert_in_range(veneer_config_get(config, name, value, sizeof(value)), 0, 255);
		if (prop->type->count)
			assert_int_equal(veneer_config_unset(config, name, NULL), 0);
		set(name, value);
		expect(name, value);
	}
}

// The properties of an option as an object of strings and, for lists, arrays of them.
static void write_json(char *text, size_t size, const struct vn_option *option)
{
	struct vn_text json = vn_text_of(text, size);
	const char *comma = "";
	vn_text_add(&json, "{\"%s\": {", option->name);
	for (const struct vn_prop *prop = option->props; prop->name; prop++) {
		char name[64], value[256], *rest = value, *item;
		if (!vn_option_is_given(option, prop, given(option)))
			continue;
		name_first(name, option);
		snprintf(name + strlen(name), sizeof(name) - strlen(name), ".%s", prop->name);
		assert_in_range(veneer_config_get(config, name, value, sizeof(value)), 0, 255);
		vn_text_add(&json, "%s\"%s\": ", comma, prop->name);
		comma = ", ";
		if (!prop->type->count) {
			vn_text_add(&json, "\"%s\"", value);
			continue;
		}
		for (const char *before = "["; (item = strsep(&rest, ",")); before = ", ")
			vn_text_add(&json, "%s\"%s\"", before, item);
		vn_text_add(&json, "]");
	}
	vn_text_add(&json, "}}");
}

static void read_json(const char *text)
{
	struct veneer_error error;
	if (veneer_config_read_json(config, text, strlen(text), &error) < 0)
		fail_msg("%s: %s", text, error.message);
}

// Words and JSON say what the configuration has, so that both make the same of it again.
static void what_reads_back_sets_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const char *name = samples[i].option;
		const struct vn_option *option = vn_config_option_named(name, strlen(name));
		char item[32], first[512], json[1024];
		assert_non_null(option);
		name_first(item, option);
		assert_int_equal(drop(NULL) + make(NULL), 0);
		set(name, samples[i].value);
		uint64_t bits = given(option);
		assert_in_range(veneer_config_get(config, item, first, sizeof(first)), 0, 511);
		set_each_to_what_it_reads(option);
		expect(item, first);
		write_json(json, sizeof(json), option);

		assert_int_equal(drop(NULL) + make(NULL), 0);
		set(name, first);
		expect(item, first);
		assert_true(given(option) == bits);

		assert_int_equal(drop(NULL) + make(NULL), 0);
		read_json(json);
		expect(item, first);
		assert_true(given(option) == bits);

		struct veneer_config *copy;
		assert_int_equal(vn_config_copy(&copy, config, NULL), 0);
		veneer_config_free(config);
		config = copy;
		expect(item, first);
	}
}

// A property that is added needs words here, or it is not known that it reads back.
static void each_property_has_a_sample(void **state)
{
	const struct vn_option *option;
	(void)state;
	for (unsigned i = 0; (option = vn_config_option(i)); i++) {
		uint64_t bits = 0;
		for (size_t j = 0; j < ARRAY_SIZE(samples); j++) {
			if (strcmp(samples[j].option, option->name) != 0)
				continue;
			assert_int_equal(drop(NULL) + make(NULL), 0);
			set(option->name, samples[j].value);
			bits |= given(option);
		}
		for (const struct vn_prop *prop = option->props; prop->name; prop++)
			if (!vn_option_is_given(option, prop, bits))
				fail_msg("no sample has %s.%s", option->name, prop->name);
	}
}

static void json_says_the_same(void **state)
{
	(void)state;
	read_json(
		"{\"kernel\": \"k\", \"cpus\": 4, \"rng\": true,"
		" \"memory\": {\"size\": \"1G\", \"prealloc\": true, \"lock\": false, \"node\": 0},"
		" \"disk\": [{\"path\": \"a,b\", \"queues\": 2, \"sqpoll\": true}, \"c,readonly\"],"
		" \"net\": {\"user\": true, \"hostfwd\": [\"tcp:127.0.0.1:1:2\","
		" \"udp:127.0.0.1:3:4\"]}}");
	expect("kernel", "k");
	expect("cpus", "4");
	expect("rng", "on");
	expect("memory", "1G,node=0,prealloc");
	expect("disk0", "a,,b,queues=2,sqpoll=on");
	expect("disk1", "c,readonly");
	expect("net0", "user,hostfwd=tcp:127.0.0.1:1:2,hostfwd=udp:127.0.0.1:3:4");
	read_json("{\"cpus\": {\"count\": 2}, \"disk\": \"d\"}");
	expect("cpus", "2");
	expect("disk2", "d");
	read_json("{\"cpus\": 4.0, \"memory\": {\"size\": 1e9, \"merge\": true, \"lock\": false},"
		  " \"net\": {\"tap\": \"t\", \"vhost\": true}}");
	expect("cpus", "4");
	expect("memory", "1000000000,merge=on");
	read_json("{\"cpu\": {\"features\": \"+avx,-rdrand\"}}");
	expect("cpu.features", "+avx,-rdrand");
	expect("net1", "tap=t,vhost=on");
}

// All of it or nothing.
static void wrong_json_changes_nothing(void **state)
{
	static const char text[] =
		"{\"cpus\": 2, \"kernel\": \"other\", \"disk\": [\"b\", \"c\", 5,"
		" {\"queues\": 1}]}";
	struct veneer_error error;
	char identity[sizeof(config->identity)];
	(void)state;
	memcpy(identity, config->identity, sizeof(identity));
	set("kernel", "k");
	set("disk", "a");
	assert_int_equal(veneer_config_read_json(config, text, strlen(text), &error), -EINVAL);
	assert_string_equal(error.key, "disk4");
	expect("kernel", "k");
	expect("cpus", NULL);
	expect("disk0", "a");
	expect("disk1", NULL);
	read_json("{\"cpus\": 2}");
	expect("disk0", "a");
	assert_memory_equal(config->identity, identity, sizeof(identity));
}

static void no_option_is_there_without_end(void **state)
{
	struct veneer_error error;
	(void)state;
	for (unsigned i = 0; i < VN_CONFIG_ITEMS_MAX; i++)
		set("disk", "a");
	refuse("disk", "a", "disk256", "there are 256 already");
	refuse("disk256", "a", "disk256", "there are 256 already");
	refuse("disk256.path", "a", "disk256.path", "there are 256 already");
	assert_int_equal(veneer_config_read_json(config, "{\"disk\": \"a\"}", 13, &error), -EINVAL);
	assert_string_equal(error.key, "disk256");
	assert_int_equal(vn_config_count(config, vn_blk_type.option), VN_CONFIG_ITEMS_MAX);
}

static void wrong_json_is_refused(void **state)
{
	static const struct {
		const char *text, *key, *message;
	} cases[] = {
		{"", "", "line 1"},
		{"{\"cpus\": 1,\n \"cpus\": 2}", "", "line 2"},
		{"[]", "", "not a JSON object"},
		{"{\"cpu\": {\"modl\": \"x\"}}", "cpu", "did you mean 'model"},
		{"{\"cpus\": []}", "cpus", "is not an object, a string, a number"},
		{"{\"cpus\": null}", "cpus", "is not an object, a string, a number"},
		{"{\"cpus\": 65}", "cpus.count", "from 1 to 64"},
		{"{\"cpus\": 1.5}", "cpus.count", "'1.5' is not a number"},
		{"{\"cpus\": true}", "cpus", "cpus: cannot be true or false"},
		{"{\"memory\": {\"size\": {}}}", "memory.size", "size is not a string, a number"},
		{"{\"memory\": {\"size\": null}}", "memory.size", "size is not a string, a number"},
		{"{\"memory\": {\"size\": true}}", "memory.size",
			"memory: size cannot be true or false"},
		{"{\"memory\": {\"size\": [\"1G\"]}}", "memory.size", "size is not a string"},
		{"{\"disk\": [{\"queues\": 2}]}", "disk0", "needs"},
		{"{\"disk\": [{\"path\": true}]}", "disk0.path",
			"disk0: path cannot be true or false"},
		{"{\"disk\": [{}]}", "disk0", "disk0: {} says nothing"},
		{"{\"disk\": {\"readonly\": true}}", "disk0", "disk: needs PATH"},
		{"{\"disk\": [null]}", "disk0", "is not an object, a string, a number"},
		{"{\"disk\": true}", "disk0", "disk: cannot be true or false"},
		{"{\"disk0\": \"a\"}", "disk0", "there is no such option"},
		{"{\"cmdline.text\": \"root=/dev/vda\"}", "cmdline.text",
			"there is no such option"},
		{"{\"name\": false}", "name", "name: cannot be true or false"},
		{"{\"kernel\": {}}", "kernel", "kernel: {} says nothing"},
		{"{\"rng\": {}}", "rng", "rng: {} says nothing"},
		{"{\"transport\": {}}", "transport", "transport: {} says nothing"},
		{"{\"name\": {}}", "name", "name: {} says nothing"},
		{"{\"disk\": [{\"path\": \"a\", \"queues\": 4}, {\"path\": \"b\", \"queues\": 44}]}",
			"disk1.queues", "disk1: queues='44' is not a number from 1 to 16"},
		{"{\"disk\": [\"a\", \"b,queues=44\"]}", "disk1.queues", "disk1: queues='44' is"},
		{"{\"disk\": {\"path\": \"\"}}", "disk0.path", "disk: '' is not a path"},
		{"{\"cpu\": {\"features\": \"+avx,sse\"}}", "cpu.features",
			"'sse' is not a feature"},
		{"{\"net\": {\"queues\": 2}}", "net0", "net: needs tap=NAME or user"},
		{"{\"net\": {\"user\": false}}", "net0", "net: needs tap=NAME or user"},
		{"{\"net\": [{\"user\": true}, {\"user\": true, \"mtu\": 1500}]}", "net1",
			"net1 user: unknown word 'mtu'"},
		{"{\"net\": {\"user\": true, \"queues\": 2}}", "net0",
			"net user: unknown word 'queues'"},
		{"{\"net\": {\"user\": true, \"tap\": \"t\"}}", "net0",
			"net: has both tap and user"},
		{"{\"net\": {\"user\": true, \"vhost\": \"auto\"}}", "net0",
			"net user: unknown word 'vhost'"},
		{"{\"dsik\": \"a\"}", "dsik", "did you mean 'disk'?"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct veneer_error error;
		assert_int_equal(veneer_config_read_json(
					 config, cases[i].text, strlen(cases[i].text), &error),
			-EINVAL);
		if (!strstr(error.message, cases[i].message))
			fail_msg("case %zu: '%s' does not say '%s'", i, error.message,
				cases[i].message);
		assert_string_equal(error.key, cases[i].key);
		assert_int_equal(error.kind, VENEER_ERROR_CONFIG);
	}
	expect("kernel", NULL);
	expect("cmdline", NULL);
	expect("disk0", NULL);
	expect("net0", NULL);
}

static int descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static void descriptors_are_copied(void **state)
{
	struct vn_spec spec;
	struct veneer_error error;
	int before = descriptors(), fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	(void)state;
	assert_int_equal(veneer_config_set_fd(config, "kernel", fd, &error), 0);
	assert_int_equal(veneer_config_set_fd(config, "disk0.path", fd, &error), 0);
	assert_int_equal(veneer_config_set_fd(config, "serial.out", fd, &error), 0);
	assert_int_equal(veneer_config_set_fd(config, "serial.out", fd, &error), 0);
	assert_int_equal(descriptors(), before + 4);
	close(fd);
	assert_int_equal(veneer_config_get(config, "kernel", NULL, 0), -ENODATA);
	assert_int_equal(veneer_config_get(config, "disk0", NULL, 0), -ENODATA);
	assert_int_equal(veneer_config_get(config, "disk0.path", NULL, 0), -ENODATA);
	assert_int_equal(veneer_config_get(config, "serial.out", NULL, 0), -ENODATA);
	assert_int_equal(veneer_config_get(config, "serial.in", NULL, 0), -ENOENT);
	assert_int_equal(vn_spec_make(&spec, config, &error), 0);
	assert_true(spec.kernel->fd >= 0 && spec.config->serial_out >= 0);
	assert_int_equal(descriptors(), before + 6);
	vn_spec_free(&spec);
	set("kernel", "k"); // in its place
	assert_int_equal(descriptors(), before + 2);
	assert_int_equal(veneer_config_set_fd(config, "kernel", 999, &error), -EBADF);
	assert_non_null(strstr(error.message, "descriptor 999"));
	expect("kernel", "k");
	assert_int_equal(veneer_config_set_fd(config, "memory.node", 0, &error), -EINVAL);
	assert_int_equal(veneer_config_set_fd(config, "disk", 0, &error), -EINVAL);
	assert_int_equal(veneer_config_set_fd(config, "kernel", -1, &error), -EBADF);
	expect_error(&error, -EBADF, "kernel", "-1 is not a descriptor");
	assert_int_equal(veneer_config_set_fd(config, "serial.in", 999, &error), -EBADF);
	expect_error(&error, -EBADF, "serial.in", "descriptor 999");
	unset("serial.out", 0);
	assert_int_equal(veneer_config_get(config, "serial.out", NULL, 0), -ENOENT);
	unset("disk0", 0);
	assert_int_equal(descriptors(), before);
}

static struct vn_spec complete(void)
{
	struct vn_spec spec;
	struct veneer_error error;
	if (vn_spec_make(&spec, config, &error) < 0)
		fail_msg("%s", error.message);
	return spec;
}

static void nothing_is_left_open(void **state)
{
	static const unsigned queues[][2] = {{1, 1}, {4, 4}, {5, 4}, {64, 4}};
	(void)state;
	struct vn_spec spec = complete();
	assert_int_equal(spec.memory->size, 256 * MIB);
	assert_int_equal(spec.cell_count, 1);
	assert_int_equal(spec.cells[0].size, 256 * MIB);
	assert_int_equal(spec.cells[0].node, -1);
	assert_false(spec.numa);
	assert_int_equal(spec.transport, VN_TRANSPORT_MMIO);
	assert_null(vn_spec_device(&spec, &vn_rng_type, 0));
	assert_null(spec.kernel);
	vn_spec_free(&spec);
	set("kernel", "k");
	set("disk", "a");
	set("disk", "b,queues=16");
	set("net", "user");
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		char count[8];
		snprintf(count, sizeof(count), "%u", queues[i][0]);
		set("cpus", count);
		spec = complete();
		assert_int_equal(
			((struct vn_blk_options *)vn_spec_device(&spec, &vn_blk_type, 0))->queues,
			queues[i][1]);
		assert_int_equal(
			((struct vn_blk_options *)vn_spec_device(&spec, &vn_blk_type, 1))->queues,
			16);
		assert_int_equal(spec.transport, VN_TRANSPORT_PCI);
		assert_non_null(vn_spec_device(&spec, &vn_rng_type, 0));
		assert_non_null(vn_spec_device(&spec, &vn_net_type, 0));
		assert_null(vn_spec_device(&spec, &vn_net_type, 1));
		vn_spec_free(&spec);
	}
	set("rng", "off");
	spec = complete();
	assert_null(vn_spec_device(&spec, &vn_rng_type, 0));
	vn_spec_free(&spec);
}

static void cells_are_sorted_and_completed(void **state)
{
	(void)state;
	set("cpus", "4");
	set("numa", "cell=1,cpus=1-3,memory=2G,hugepages=2M");
	set("numa", "cell=0,cpus=0,memory=1G,node=1");
	set("memory.hugepages", "1G");
	set("memory.node", "0");
	struct vn_spec spec = complete();
	assert_true(spec.numa);
	assert_int_equal(spec.cell_count, 2);
	assert_int_equal(spec.memory->size, 3 * GIB);
	assert_int_equal(spec.cells[0].hugepage_size, GIB);
	assert_int_equal(spec.cells[0].node, 1);
	assert_int_equal(spec.cells[1].hugepage_size, 2 * MIB);
	assert_int_equal(spec.cells[1].node, 0);
	assert_int_equal(spec.cells[1].cpus.bits[0], 0xe);
	vn_spec_free(&spec);
}

// What is wrong with cells shows only when all options are known.
static void cells_must_fit(void **state)
{
	static const struct {
		const char *cells[2], *memory, *key, *message;
	} cases[] = {
		{{"cell=0,cpus=0-1,memory=1G", "cell=0,cpus=2-3,memory=1G"}, NULL, "numa1.cell",
			"there twice"},
		{{"cell=0,cpus=0-1,memory=1G", "cell=2,cpus=2-3,memory=1G"}, NULL, "numa",
			"no cell 1"},
		{{"cell=0,cpus=0-1,memory=1G", "cell=1,cpus=1-3,memory=1G"}, NULL, "numa1.cpus",
			"CPU 1 is in cell 1 and in one before it"},
		{{"cell=0,cpus=0-1,memory=1G", "cell=1,cpus=2-4,memory=1G"}, NULL, "numa1.cpus",
			"cell 1 has CPU 4; the guest's last CPU is 3"},
		{{"cell=0,cpus=0-1,memory=1G", "cell=1,cpus=2,memory=1G"}, NULL, "numa",
			"CPU 3 is in none of the 2 cells"},
		{{"cell=0,cpus=0-1,memory=1G", "cell=1,cpus=2-3,memory=1G"}, "3G", "memory.size",
			"memory: it is 3145728K, "
			"but the cells of numa have 2097152K together"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct veneer_error error;
		assert_int_equal(drop(NULL) + make(NULL), 0);
		set("cpus", "4");
		set("numa", cases[i].cells[0]);
		set("numa", cases[i].cells[1]);
		if (cases[i].memory)
			set("memory", cases[i].memory);
		assert_int_equal(veneer_config_check(config, &error), -EINVAL);
		expect_error(&error, -EINVAL, cases[i].key, cases[i].message);
	}
}

// What a program lists is what there is.
static void options_can_be_listed(void **state)
{
	struct veneer_option option;
	struct veneer_property property;
	bool disk = false;
	(void)state;
	for (unsigned i = 0; veneer_get_option(i, &option, sizeof(option)); i++) {
		const struct vn_option *table = vn_config_option(i);
		unsigned count = 0;
		assert_string_equal(option.name, table->name);
		assert_true(option.help && option.help[0]);
		while (veneer_get_option_property(i, count, &property, sizeof(property))) {
			assert_string_equal(property.name, table->props[count].name);
			assert_true(property.help && property.help[0]);
			count++;
		}
		assert_null(table->props[count].name);
		assert_true(count > 0);
		if (strcmp(option.name, "disk") == 0) {
			disk = true;
			assert_int_equal(option.letter, 'd');
			assert_true(option.many);
			assert_true(veneer_get_option_property(i, 0, &property, sizeof(property)));
			assert_int_equal(property.role, VENEER_PROPERTY_FIRST);
			assert_string_equal(option.group, "Devices");
		}
	}
	assert_true(disk);
	assert_false(veneer_get_option_property(1000, 0, &property, sizeof(property)));
}

static struct veneer_property property_of(const char *option, const char *name)
{
	struct veneer_option all;
	struct veneer_property property;
	for (unsigned i = 0; veneer_get_option(i, &all, sizeof(all)); i++)
		for (unsigned j = 0; strcmp(all.name, option) == 0 &&
				     veneer_get_option_property(i, j, &property, sizeof(property));
			j++)
			if (strcmp(property.name, name) == 0)
				return property;
	fail_msg("there is no %s.%s", option, name);
	return property;
}

// What a form needs: what a value can be.
static void properties_say_what_they_take(void **state)
{
	(void)state;
	struct veneer_property property = property_of("cpus", "count");
	assert_int_equal(property.min, 1);
	assert_int_equal(property.max, 64);
	assert_false(property.many || property.required);
	assert_null(property.values);
	property = property_of("disk", "cache");
	assert_string_equal(property.values[0], "writeback");
	property = property_of("disk", "sqpoll"); // a switch
	assert_string_equal(property.values[0], "on");
	assert_string_equal(property.values[1], "off");
	assert_null(property.values[2]);
	assert_true(property_of("disk", "path").required);
	assert_true(property_of("numa", "cell").required);
	assert_string_equal(property_of("memory", "size").default_text, "256M");
	assert_true(property_of("net", "hostfwd").many);
	assert_true(property_of("cpu", "features").many);
	assert_int_equal(property_of("cpu", "features").role, VENEER_PROPERTY_SIGNED);
}

// A program that was built for another version has larger or smaller structures.
static void structures_have_the_callers_size(void **state)
{
	struct {
		struct veneer_option option;
		unsigned char later[16];
	} larger;
	struct {
		struct veneer_property property;
		unsigned char later[16];
	} property;
	const unsigned char zero[16] = {0};
	const char *name = "untouched";
	(void)state;
	memset(&larger, 0xff, sizeof(larger));
	assert_true(veneer_get_option(0, &larger.option, sizeof(larger)));
	assert_memory_equal(larger.later, zero, sizeof(zero));
	assert_string_equal(larger.option.name, vn_config_option(0)->name);
	memset(&larger, 0xff, sizeof(larger));
	assert_true(veneer_get_option(0, &larger.option, sizeof(name)));
	assert_string_equal(larger.option.name, vn_config_option(0)->name);
	assert_int_equal((unsigned char)larger.option.letter, 0xff);
	memset(&property, 0xff, sizeof(property));
	assert_true(veneer_get_option_property(0, 0, &property.property, sizeof(property)));
	assert_memory_equal(property.later, zero, sizeof(zero));
	assert_true(veneer_get_option(0, NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(options_are_set_whole_and_by_property, make, drop),
		cmocka_unit_test_setup_teardown(what_is_wrong_is_named, make, drop),
		cmocka_unit_test_setup_teardown(the_check_names_the_item, make, drop),
		cmocka_unit_test_setup_teardown(the_check_finds_all_that_needs_no_host, make, drop),
		cmocka_unit_test_setup_teardown(devices_without_a_slot_are_named, make, drop),
		cmocka_unit_test_setup_teardown(
			what_was_set_reads_back_and_nothing_else, make, drop),
		cmocka_unit_test_setup_teardown(what_was_set_can_be_unset, make, drop),
		cmocka_unit_test_setup_teardown(what_reads_back_sets_the_same, make, drop),
		cmocka_unit_test_setup_teardown(each_property_has_a_sample, make, drop),
		cmocka_unit_test_setup_teardown(wrong_json_changes_nothing, make, drop),
		cmocka_unit_test_setup_teardown(no_option_is_there_without_end, make, drop),
		cmocka_unit_test_setup_teardown(json_says_the_same, make, drop),
		cmocka_unit_test_setup_teardown(wrong_json_is_refused, make, drop),
		cmocka_unit_test_setup_teardown(descriptors_are_copied, make, drop),
		cmocka_unit_test_setup_teardown(nothing_is_left_open, make, drop),
		cmocka_unit_test_setup_teardown(cells_are_sorted_and_completed, make, drop),
		cmocka_unit_test_setup_teardown(cells_must_fit, make, drop),
		cmocka_unit_test_setup_teardown(options_can_be_listed, make, drop),
		cmocka_unit_test(properties_say_what_they_take),
		cmocka_unit_test(structures_have_the_callers_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
