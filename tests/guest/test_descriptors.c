// SPDX-License-Identifier: Apache-2.0
//
// Descriptors in place of files and interfaces, as an embedding program gives them: a guest runs
// with them, and what the program keeps of them is as it was. `test_descriptors GUEST`, the
// built-in guest's ELF file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <libfdt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "guest/pattern.h"
#include "tests/unit/netns.h"
#include "veneer.h"

#define DISK_SIZE   MIB
#define INITRD_SIZE 12345
#define OFFSET      4711 // of the program's descriptors

static const char *guest_path;
static const char *no_network; // why there is none, or NULL

static void need_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		print_message("# no usable /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	close(fd);
}

// A file that has lost its name.
static int make_file(size_t size, int flags)
{
	char path[] = "descriptors-XXXXXX";
	int first = mkstemp(path);
	assert_true(first >= 0);
	assert_int_equal(ftruncate(first, (off_t)size), 0);
	int fd = open(path, flags | O_CLOEXEC);
	assert_true(fd >= 0);
	close(first);
	unlink(path);
	return fd;
}

// A disk that `blk-check=5` takes, and a description of it with these flags.
static int make_disk(int flags)
{
	static uint64_t data[DISK_SIZE / 8];
	int fd = make_file(DISK_SIZE, O_RDWR);
	pattern_fill(data, 5, 0, DISK_SIZE);
	assert_int_equal(pwrite(fd, data, DISK_SIZE, 0), DISK_SIZE);
	assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
	assert_int_equal(lseek(fd, OFFSET, SEEK_SET), OFFSET);
	return fd;
}

static void assert_holds(int fd, uint64_t seed)
{
	static uint64_t data[DISK_SIZE / 8];
	struct stat status;
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, DISK_SIZE);
	assert_int_equal(pread(fd, data, DISK_SIZE, 0), DISK_SIZE);
	assert_int_equal(pattern_mismatch(data, seed, 0, DISK_SIZE), DISK_SIZE);
}

// The program's descriptor is as before. Closes it.
static void take_back(int fd, int flags)
{
	assert_int_equal(fcntl(fd, F_GETFL), flags);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), OFFSET);
	close(fd);
}

static void set(struct veneer_config *config, const char *name, const char *value)
{
	struct veneer_error error;
	if (veneer_config_set(config, name, value, &error) < 0)
		fail_msg("%s", error.message);
}

static void set_fd(struct veneer_config *config, const char *name, int fd)
{
	struct veneer_error error;
	if (veneer_config_set_fd(config, name, fd, &error) < 0)
		fail_msg("%s", error.message);
}

static struct veneer_config *configure(const char *cmdline)
{
	struct veneer_config *config;
	assert_int_equal(veneer_config_new(&config, NULL), 0);
	set(config, "memory", "64M");
	set(config, "cmdline", cmdline);
	return config;
}

static struct veneer_config *configure_disk(const char *cmdline, int fd, const char *cache)
{
	struct veneer_config *config = configure(cmdline);
	set_fd(config, "disk0.path", fd);
	if (cache)
		set(config, "disk0.cache", cache);
	return config;
}

static struct veneer *make(const struct veneer_config *config)
{
	struct veneer *vm;
	struct veneer_error error;
	if (veneer_create(&vm, config, NULL, &error) < 0)
		fail_msg("%s", error.message);
	return vm;
}

static void start(struct veneer *vm)
{
	struct veneer_error error;
	if (veneer_start(vm, &error) < 0)
		fail_msg("%s", error.message);
}

// The guest finds all as it should be.
static void finish(struct veneer *vm)
{
	struct veneer_event end;
	struct veneer_error error;
	if (veneer_wait(vm, 60000, &end, sizeof(end), &error) < 0)
		fail_msg("%s", error.message);
	veneer_destroy(vm);
	assert_int_equal(end.end, VENEER_END_EXIT);
	assert_int_equal(end.value, 0);
}

static void assert_refused(
	const struct veneer_config *config, int code, const char *key, const char *text)
{
	struct veneer *vm = NULL;
	struct veneer_error error;
	assert_int_equal(veneer_create(&vm, config, NULL, &error), code);
	assert_null(vm);
	if (strcmp(error.key, key) != 0 || !strstr(error.message, text) ||
		strchr(error.message, '\n'))
		fail_msg("'%s' \"%s\" is not '%s' \"%s\"", error.key, error.message, key, text);
}

// As the guest's device tree has it.
static uint64_t initrd_size(struct veneer *vm)
{
	static char tree[65536];
	int fd = make_file(0, O_RDWR), size = 0;
	assert_int_equal(veneer_write_dtb(vm, fd, NULL), 0);
	assert_true(pread(fd, tree, sizeof(tree), 0) > 0);
	close(fd);
	int chosen = fdt_path_offset(tree, "/chosen");
	const fdt64_t *from = fdt_getprop(tree, chosen, "linux,initrd-start", &size);
	assert_int_equal(size, sizeof(*from));
	const fdt64_t *end = fdt_getprop(tree, chosen, "linux,initrd-end", &size);
	assert_int_equal(size, sizeof(*end));
	return fdt64_ld(end) - fdt64_ld(from);
}

// The program closes its own descriptors at once.
static void a_guest_runs_from_descriptors(void **state)
{
	(void)state;
	need_kvm();
	int kernel = open(guest_path, O_RDONLY | O_CLOEXEC);
	int initrd = make_file(INITRD_SIZE, O_RDWR), disk = make_disk(O_RDWR);
	int look = fcntl(disk, F_DUPFD_CLOEXEC, 0), flags = fcntl(disk, F_GETFL);
	assert_true(kernel >= 0);
	struct veneer_config *config = configure("blk-check=5 blk-fill=6 blk-check=6");
	set_fd(config, "kernel", kernel);
	set_fd(config, "initrd", initrd);
	set_fd(config, "disk0.path", disk);
	close(kernel);
	close(initrd);
	close(disk);
	struct veneer *vm = make(config);
	veneer_config_free(config);
	assert_int_equal(initrd_size(vm), INITRD_SIZE);
	start(vm);
	finish(vm);
	assert_holds(look, 6);
	take_back(look, flags);
}

// From the same configuration, and from one of its own.
static void one_disk_is_one_guests(void **state)
{
	(void)state;
	need_kvm();
	int disk = make_disk(O_RDWR), flags = fcntl(disk, F_GETFL);
	struct veneer_config *config = configure_disk("blk-check=5", disk, NULL);
	struct veneer_config *other = configure_disk("blk-check=5", disk, NULL);
	struct veneer_config *reader = configure_disk("blk-check=5", disk, NULL);
	set(reader, "disk0.readonly", NULL);
	struct veneer *vm = make(config);
	assert_refused(config, -EBUSY, "disk0", "is in use");
	assert_refused(other, -EBUSY, "disk0", "is in use");
	assert_refused(reader, -EBUSY, "disk0", "is in use");
	start(vm);
	finish(vm);
	vm = make(other); // the lock was the guest's
	start(vm);
	finish(vm);
	veneer_config_free(config);
	veneer_config_free(other);
	veneer_config_free(reader);
	take_back(disk, flags);
}

static void appending_is_the_programs_own(void **state)
{
	(void)state;
	need_kvm();
	int disk = make_disk(O_RDWR | O_APPEND | O_NONBLOCK), flags = fcntl(disk, F_GETFL);
	assert_true(flags & O_APPEND);
	struct veneer_config *config = configure_disk("blk-fill=7 blk-check=7", disk, NULL);
	struct veneer *vm = make(config);
	start(vm);
	finish(vm);
	veneer_config_free(config);
	assert_holds(disk, 7);
	take_back(disk, flags);
}

// Two guests at once, one with O_DIRECT, of descriptors that share a description.
static void cache_modes_do_not_meet(void **state)
{
	(void)state;
	need_kvm();
	int disk = make_disk(O_RDWR), again = fcntl(disk, F_DUPFD_CLOEXEC, 0);
	int flags = fcntl(disk, F_GETFL);
	struct veneer_error error;
	struct veneer *vms[2];
	struct veneer_config *none = configure_disk("blk-check=5 blk-check=5", disk, "none");
	struct veneer_config *writeback =
		configure_disk("blk-check=5 blk-check=5", again, "writeback");
	set(none, "disk0.readonly", NULL);
	set(writeback, "disk0.readonly", NULL);
	if (veneer_create(&vms[0], none, NULL, &error) < 0) {
		if (!strstr(error.message, "has no O_DIRECT"))
			fail_msg("%s", error.message);
		print_message("# %s\n", error.message);
		skip();
	}
	start(vms[0]);
	vms[1] = make(writeback);
	start(vms[1]);
	for (unsigned i = 0; i < 2; i++)
		finish(vms[i]);
	veneer_config_free(none);
	veneer_config_free(writeback);
	close(again);
	take_back(disk, flags);
}

static void a_descriptor_gives_no_more_than_it_has(void **state)
{
	(void)state;
	need_kvm();
	int disk = make_disk(O_RDWR);
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	int reading = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(reading >= 0);
	struct veneer_config *config = configure_disk("blk-check=5", reading, NULL);
	assert_refused(config, -EACCES, "disk0", "is open for reading only");
	set(config, "disk0.readonly", NULL);
	struct veneer *vm = make(config);
	start(vm);
	finish(vm);
	veneer_config_free(config);
	close(reading);
	close(disk);
}

static void assert_not_set(const char *name, int fd)
{
	struct veneer_config *config = configure("exit=0");
	struct veneer_error error;
	assert_int_equal(veneer_config_set_fd(config, name, fd, &error), -EBADF);
	if (strncmp(error.key, name, strcspn(name, ".")) != 0 || !error.message[0])
		fail_msg("%s: '%s' \"%s\"", name, error.key, error.message);
	veneer_config_free(config);
}

static void what_is_no_descriptor_is_refused(void **state)
{
	static const char *const names[] = {
		"kernel", "initrd", "disk0.path", "net0.tap", "serial.in", "serial.out"};
	(void)state;
	int closed = dup(0);
	close(closed);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		assert_not_set(names[i], -1);
		assert_not_set(names[i], closed);
	}
}

static void assert_not_taken(const char *name, int fd, int code, const char *key)
{
	struct veneer_config *config = configure("exit=0");
	char called[32];
	snprintf(called, sizeof(called), "descriptor %d", fd);
	set_fd(config, name, fd);
	assert_refused(config, code, key, called);
	veneer_config_free(config);
}

static void other_kinds_are_refused(void **state)
{
	(void)state;
	need_kvm();
	int directory = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), pipes[2];
	int path = open(guest_path, O_PATH | O_CLOEXEC);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_not_taken("disk0.path", directory, -EISDIR, "disk0");
	assert_not_taken("disk0.path", pipes[0], -EINVAL, "disk0");
	assert_not_taken("disk0.path", path, -EACCES, "disk0");
	assert_not_taken("kernel", directory, -EISDIR, "kernel");
	assert_not_taken("kernel", pipes[0], -EINVAL, "kernel");
	assert_not_taken("initrd", directory, -EISDIR, "initrd");
	assert_not_taken("initrd", pipes[0], -EINVAL, "initrd");
	assert_not_taken("net0.tap", directory, -EINVAL, "net0");
	assert_not_taken("net0.tap", pipes[0], -EINVAL, "net0");
	close(directory);
	close(path);
	close(pipes[0]);
	close(pipes[1]);
}

// What a program may have done with more privileges than it has left. The interface is up once its
// queue is there, so that nothing is lost.
static int make_tap(void)
{
	struct ifreq request = netns_named("vn0");
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	assert_true(netns_set_up("vn0", true));
	return fd;
}

static void a_guest_sends_through_a_descriptor(void **state)
{
	(void)state;
	need_kvm();
	if (no_network) {
		print_message("# %s\n", no_network);
		skip();
	}
	uint8_t frame[2048];
	int tap = make_tap(), wire = netns_packets("vn0", ETH_P_IP);
	assert_true(wire >= 0);
	struct veneer_config *config = configure("net-send=50,64");
	set_fd(config, "net0.tap", tap);
	close(tap);
	struct veneer *vm = make(config);
	veneer_config_free(config); // the guest has the last one
	start(vm);
	for (uint64_t n = 0; n < 50; n++) { // virtio-net header, Ethernet, IP, UDP; its number
		ssize_t size = recv(wire, frame, sizeof(frame), 0);
		assert_int_equal(size, 10 + 14 + 20 + 8 + 64);
		assert_memory_equal(frame + 10 + 14 + 20 + 8, &n, sizeof(n));
	}
	finish(vm);
	close(wire);
}

static void a_single_queue_is_not_several(void **state)
{
	(void)state;
	need_kvm();
	if (no_network) {
		print_message("# %s\n", no_network);
		skip();
	}
	int tap = make_tap(), flags = fcntl(tap, F_GETFL);
	struct veneer_config *config = configure("exit=0");
	set_fd(config, "net0.tap", tap);
	set(config, "net0.queues", "2");
	assert_refused(config, -EINVAL, "net0", "make it with IFF_MULTI_QUEUE");
	veneer_config_free(config);
	assert_int_equal(fcntl(tap, F_GETFL), flags);
	close(tap);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: %s GUEST\n", argv[0]);
		return 2;
	}
	guest_path = argv[1];
	no_network = netns_enter();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_runs_from_descriptors),
		cmocka_unit_test(one_disk_is_one_guests),
		cmocka_unit_test(appending_is_the_programs_own),
		cmocka_unit_test(cache_modes_do_not_meet),
		cmocka_unit_test(a_descriptor_gives_no_more_than_it_has),
		cmocka_unit_test(what_is_no_descriptor_is_refused),
		cmocka_unit_test(other_kinds_are_refused),
		cmocka_unit_test(a_guest_sends_through_a_descriptor),
		cmocka_unit_test(a_single_queue_is_not_several),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
