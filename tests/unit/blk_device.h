// SPDX-License-Identifier: Apache-2.0
//
// A machine with one disk and its driver, for the tests of virtio-blk: the mmio transport, the
// device, the ring, the I/O loop and io_uring, from register accesses to the bytes of a real file;
// only KVM is missing. Each test program has one such machine, `bench`, whose disk a test opens and
// closes.
#ifndef VN_TEST_BLK_DEVICE_H
#define VN_TEST_BLK_DEVICE_H

#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/macros.h"
#include "devices/blk/blk.h"
#include "mmio_driver.h"
#include "virtio/mmio.h"

#define NO_POLLING ((unsigned)-1) // a disk of a test has the usual polling unless it says so
#define RINGS      MIB
#define HEADERS    (2 * MIB) // 64 bytes for each head: header, then status at 32
#define DATA       (4 * MIB)
#define DISK_SIZE  (4 * MIB)
#define SECTORS    (DISK_SIZE / 512)
#define SIZE       256
#define NO_STATUS  0xee

#define ALL_FEATURES                                                                               \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_RING_F_EVENT_IDX) |                          \
		FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

struct bench {
	struct vn_memory memory;
	struct vn_bus bus;
	struct vn_log log;
	struct vn_virtio_device *device;
	struct vn_virtio_mmio *mmio;
	struct ring ring;
	char path[64]; // of the disk's file, a scratch file
	int fd; // the file, for the test's own looks at it
	pthread_mutex_t lock;
	unsigned warnings; // under the lock, like the last message's text
	char warning[512];
};

extern struct bench bench;

// ---- What a test's group and each of its tests begin and end with

int make_bench(void **state);
int destroy_bench(void **state);

int make_file(void **state); // in the current directory
int make_file_in_memory(void **state);
int remove_file(void **state);

int open_writeback(void **state);
// On a file system that knows how to punch holes, but not how to zero what it has.
int open_in_memory(void **state);
int close_disk(void **state);

#define IN_MEMORY_FILE(name) cmocka_unit_test_setup_teardown(name, make_file_in_memory, remove_file)
#define WITH_FILE(name)      cmocka_unit_test_setup_teardown(name, make_file, remove_file)
#define IN_MEMORY(name)      cmocka_unit_test_setup_teardown(name, open_in_memory, close_disk)
#define WITH_DISK(name)      cmocka_unit_test_setup_teardown(name, open_writeback, close_disk)

// ---- The disk and its driver

int create_disk(struct vn_virtio_device **device, const char *name,
	const struct vn_blk_options *disk, struct veneer_error *error);

// Create the bench's disk and put it on the bus, or only the latter; and take it away.
void put_on_bus(void);
void attach(const struct vn_blk_options *disk);
void detach(void);

// Reset the device, negotiate these features, and start queue 0.
void drive(uint64_t features);

// Both, with all features that the device has; open_disk() on the bench's file.
void start_disk(const struct vn_blk_options *disk);
void open_disk(enum vn_blk_cache cache, bool readonly);

void reset(void);
void notify(void);
void wait_needs_reset(void);
struct virtio_blk_config read_config(void);

// Give the file another size, and have the device look at it.
void resize(uint64_t size);

// Creating this disk fails with this code and a message that has `text` and the disk's path.
void assert_refused(const struct vn_blk_options *disk, int code, const char *text);

unsigned warnings(void);
void assert_warning(unsigned count, const char *text);

// ---- Requests

uint8_t *data_at(uint64_t gpa, uint64_t size);
uint64_t header_of(unsigned head);
uint8_t *status_of(unsigned head);
void put_header(uint64_t gpa, uint32_t type, uint64_t sector);

// Write the usual three descriptors of a request, or two without data, from `head` on.
void prepare(unsigned head, uint32_t type, uint64_t sector, uint64_t data, uint32_t size);

// Wait for the next used entry; its length.
uint32_t wait_used(uint32_t *id);

// Offer one chain and wait for it; the used length.
uint32_t carry_out(unsigned head);

// A whole request; its status. Checks the used length, too.
uint8_t request(uint32_t type, uint64_t sector, uint64_t data, uint32_t size);

// A request of `size` bytes at DATA + `misaligned`, in two descriptors of which the first has
// `first` bytes, or in one where that is all.
uint8_t request_in_two(
	uint32_t type, uint64_t sector, unsigned misaligned, uint32_t first, uint32_t size);

// A discard or write of zeroes of `count` ranges, at DATA.
uint8_t request_clear(
	uint32_t type, const struct virtio_blk_discard_write_zeroes *ranges, unsigned count);
uint8_t clear_range(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags);

// Write 4 KiB, flush, and read them back: in the file and by the device.
void write_and_flush(void);

// ---- The file

// What it holds at first: each 8 bytes are their own offset.
void fill_file(void);

// That `data`, or the file, still holds this from `offset` on.
void assert_original(const void *data, uint64_t offset, uint64_t size);
void assert_words(uint64_t offset, uint64_t size);

// That all bytes of this part of the file have this value.
void assert_file(uint64_t offset, uint8_t value, uint64_t size);

// How many blocks of 512 bytes the file takes up.
uint64_t blocks_in_use(void);

// Pages of the file that the page cache has and the disk has not. Skips the test where the host
// does not tell.
uint64_t dirty_pages(void);

// Whether the file system that the tests run on has this operation of fallocate(2); need_holes()
// skips the test where it punches no holes.
bool host_has(int mode);
void need_holes(void);

// A block device, made of the file; only root can make one, and for others the test is skipped.
struct loop {
	int fd;
	char path[32];
};

struct loop make_loop(uint32_t block_size);

#endif
