// SPDX-License-Identifier: Apache-2.0
//
// What tests of the embedding interface share: guests from options, their ends, their statistics,
// and what they must not leave behind. No program uses all of them, so each is marked as unused.
#ifndef VN_TEST_EMBED_H
#define VN_TEST_EMBED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "veneer.h"

#define EMBED_UNUSED __attribute__((unused))

EMBED_UNUSED static void need_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		print_message("# no usable /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	close(fd);
}

EMBED_UNUSED static int entries(const char *path)
{
	DIR *directory = opendir(path);
	int count = 0;
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

// Open descriptors and threads: what a guest must not leave behind. A thread that has been joined
// may still be listed for a moment.
EMBED_UNUSED static void expect_nothing_left(int descriptors, int threads)
{
	assert_int_equal(entries("/proc/self/fd"), descriptors);
	for (int tries = 0; tries < 1000 && entries("/proc/self/task") != threads; tries++)
		usleep(1000);
	assert_int_equal(entries("/proc/self/task"), threads);
}

// Options and their values, in turn.
#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

EMBED_UNUSED static struct veneer_config *configure(const char *const *options)
{
	struct veneer_config *config;
	struct veneer_error error;
	if (veneer_config_new(&config, &error) < 0)
		fail_msg("%s", error.message);
	for (; *options; options += 2)
		if (veneer_config_set(config, options[0], options[1], &error) < 0)
			fail_msg("%s", error.message);
	return config;
}

EMBED_UNUSED static struct veneer *make_from(struct veneer_config *config)
{
	struct veneer *vm;
	struct veneer_error error;
	if (veneer_create(&vm, config, NULL, &error) < 0)
		fail_msg("%s", error.message);
	veneer_config_free(config);
	return vm;
}

EMBED_UNUSED static struct veneer *make(const char *const *options)
{
	return make_from(configure(options));
}

EMBED_UNUSED static struct veneer_event wait_for(struct veneer *vm)
{
	struct veneer_event end;
	struct veneer_error error;
	if (veneer_wait(vm, 60000, &end, sizeof(end), &error) < 0)
		fail_msg("%s", error.message);
	return end;
}

EMBED_UNUSED static struct veneer_stats *snapshot(struct veneer *vm)
{
	struct veneer_stats *stats;
	struct veneer_error error = {.code = 0};
	if (veneer_get_stats(vm, &stats, &error) < 0)
		fail_msg("%s", error.message);
	return stats;
}

EMBED_UNUSED static uint64_t exits(
	const struct veneer_stats *stats, unsigned vcpu, const char *reason)
{
	for (unsigned i = 0; stats->vcpus[vcpu]->exits[i]; i++)
		if (strcmp(stats->vcpus[vcpu]->exits[i]->reason, reason) == 0)
			return stats->vcpus[vcpu]->exits[i]->count;
	return 0;
}

#endif
