// SPDX-License-Identifier: Apache-2.0
//
// The machine, the driver and the file behind blk_device.h.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/spin.h"
#include "blk_device.h"

struct bench bench;

static struct vn_loops loops = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void message(void *opaque, enum veneer_severity severity, const char *text)
{
	struct bench *to = opaque;
	pthread_mutex_lock(&to->lock);
	if (severity == VENEER_SEVERITY_WARNING)
		to->warnings++;
	snprintf(to->warning, sizeof(to->warning), "%s", text);
	pthread_mutex_unlock(&to->lock);
}

unsigned warnings(void)
{
	pthread_mutex_lock(&bench.lock);
	unsigned count = bench.warnings;
	pthread_mutex_unlock(&bench.lock);
	return count;
}

void assert_warning(unsigned count, const char *text)
{
	assert_int_equal(warnings(), count);
	if (!strstr(bench.warning, text))
		fail_msg("\"%s\" does not say \"%s\"", bench.warning, text);
}

void fill_file(void)
{
	static uint64_t words[DISK_SIZE / 8];
	for (uint64_t i = 0; i < DISK_SIZE / 8; i++)
		words[i] = i * 8;
	assert_int_equal(pwrite(bench.fd, words, DISK_SIZE, 0), DISK_SIZE);
}

void assert_original(const void *data, uint64_t offset, uint64_t size)
{
	const uint64_t *words = data;
	for (uint64_t i = 0; i < size / 8; i++)
		assert_int_equal(words[i], offset + i * 8);
}

int make_bench(void **state)
{
	(void)state;
	// All of it, so that O_DIRECT disks have it registered.
	struct vn_memory_options options = {.size = 16 * MIB, .node = -1, .prealloc = true};
	struct veneer_error error;
	pthread_mutex_init(&bench.lock, NULL);
	bench.log = (struct vn_log){message, &bench};
	return vn_memory_create(&bench.memory, &options, 3 * GIB, &error);
}

int destroy_bench(void **state)
{
	(void)state;
	vn_memory_destroy(&bench.memory);
	pthread_mutex_destroy(&bench.lock);
	return 0;
}

static void make_file_in(const char *directory)
{
	snprintf(bench.path, sizeof(bench.path), "%s/blk-test-XXXXXX", directory);
	bench.fd = mkstemp(bench.path);
	assert_true(bench.fd >= 0);
	bench.warnings = 0;
	bench.warning[0] = '\0';
	fill_file();
}

int make_file(void **state)
{
	(void)state;
	make_file_in(".");
	return 0;
}

int make_file_in_memory(void **state)
{
	(void)state;
	make_file_in("/dev/shm");
	return 0;
}

int remove_file(void **state)
{
	(void)state;
	close(bench.fd);
	unlink(bench.path);
	return 0;
}

int create_disk(struct vn_virtio_device **device, const char *name,
	const struct vn_blk_options *disk, struct veneer_error *error)
{
	struct vn_blk_options values = *disk;
	vn_blk_type.complete(&values, &(const struct vn_device_guest){.cpus = 1});
	if (values.poll_us == 0)
		values.poll_us = VN_SPIN_US_DEFAULT;
	else if (values.poll_us == NO_POLLING)
		values.poll_us = 0;
	const struct vn_device_env env = {.name = name,
		.guest = "test",
		.memory = &bench.memory,
		.log = &bench.log,
		.loops = &loops};
	int code = vn_blk_type.create(device, &env, &values, error);
	if (code == 0)
		vn_virtio_settle(*device); // the bench's memory is there
	return code;
}

void put_on_bus(void)
{
	struct veneer_error error = {.code = 0};
	bench.bus = (struct vn_bus){.count = 0};
	assert_int_equal(vn_virtio_mmio_create(&bench.mmio, bench.device, NULL, &bench.bus,
				 MMIO_BASE, 16, &error),
		0);
}

void attach(const struct vn_blk_options *disk)
{
	struct veneer_error error = {.code = 0};
	if (create_disk(&bench.device, "blk0", disk, &error) < 0)
		fail_msg("%s", error.message);
	put_on_bus();
}

void detach(void)
{
	vn_virtio_mmio_destroy(bench.mmio);
	vn_blk_type.destroy(bench.device);
}

void drive(uint64_t features)
{
	assert_int_equal(mmio_negotiate(&bench.bus, features), MMIO_NEGOTIATED);
	ring_init(&bench.ring, &bench.memory, RINGS, SIZE);
	mmio_queue(&bench.bus, 0, &bench.ring);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_READY), 1);
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

void start_disk(const struct vn_blk_options *disk)
{
	attach(disk);
	drive(mmio_features(&bench.bus));
}

void open_disk(enum vn_blk_cache cache, bool readonly)
{
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1},
		.cache = cache,
		.readonly = readonly,
		.serial = "veneer-1"};
	start_disk(&disk);
}

int open_writeback(void **state)
{
	make_file(state);
	open_disk(VN_BLK_CACHE_WRITEBACK, false);
	return 0;
}

int open_in_memory(void **state)
{
	(void)state;
	make_file_in("/dev/shm");
	open_disk(VN_BLK_CACHE_WRITEBACK, false);
	return 0;
}

int close_disk(void **state)
{
	detach();
	return remove_file(state);
}

void notify(void)
{
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

void reset(void)
{
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
}

// The device's loop needs a moment, and what it writes through a busy disk perhaps many seconds; a
// device that needs a minute is stuck.
uint32_t wait_used(uint32_t *id)
{
	uint32_t len;
	*id = UINT32_MAX;
	for (unsigned i = 0; i < 600000; i++) {
		if (ring_take(&bench.ring, id, &len))
			return len;
		usleep(100);
	}
	fail_msg("no request completes");
	return 0;
}

uint64_t header_of(unsigned head)
{
	return HEADERS + 64ull * head;
}

uint8_t *status_of(unsigned head)
{
	return ring_at(&bench.memory, header_of(head) + 32, 1);
}

void put_header(uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	memcpy(ring_at(&bench.memory, gpa, sizeof(header)), &header, sizeof(header));
}

void prepare(unsigned head, uint32_t type, uint64_t sector, uint64_t data, uint32_t size)
{
	unsigned write = type == VIRTIO_BLK_T_OUT ? 0 : RING_WRITE;
	put_header(header_of(head), type, sector);
	*status_of(head) = NO_STATUS;
	ring_desc(&bench.ring, head, header_of(head), 16, RING_NEXT, size ? head + 1 : head + 2);
	ring_desc(&bench.ring, head + 1, data, size, RING_NEXT | write, head + 2);
	ring_desc(&bench.ring, head + 2, header_of(head) + 32, 1, RING_WRITE, 0);
}

uint32_t carry_out(unsigned head)
{
	uint32_t id;
	ring_offer(&bench.ring, head);
	notify();
	uint32_t len = wait_used(&id);
	assert_int_equal(id, head);
	return len;
}

uint8_t request(uint32_t type, uint64_t sector, uint64_t data, uint32_t size)
{
	prepare(0, type, sector, data, size);
	uint32_t len = carry_out(0);
	uint8_t status = *status_of(0);
	bool reads = size > 0 && type != VIRTIO_BLK_T_OUT;
	if (!reads)
		assert_int_equal(len, 1);
	else if (type == VIRTIO_BLK_T_IN)
		assert_int_equal(len, status == VIRTIO_BLK_S_OK ? size + 1 : 0);
	return status;
}

uint8_t *data_at(uint64_t gpa, uint64_t size)
{
	return ring_at(&bench.memory, gpa, size);
}

void assert_file(uint64_t offset, uint8_t value, uint64_t size)
{
	static uint8_t got[DISK_SIZE], want[DISK_SIZE];
	assert_int_equal(pread(bench.fd, got, size, (off_t)offset), size);
	memset(want, value, size);
	assert_memory_equal(got, want, size);
}

void assert_words(uint64_t offset, uint64_t size)
{
	static uint64_t words[DISK_SIZE / 8];
	assert_int_equal(pread(bench.fd, words, size, (off_t)offset), size);
	assert_original(words, offset, size);
}

struct virtio_blk_config read_config(void)
{
	struct virtio_blk_config config;
	for (unsigned i = 0; i < sizeof(config); i += 4) {
		uint32_t word = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + i);
		memcpy((char *)&config + i, &word, sizeof(config) - i < 4 ? sizeof(config) - i : 4);
	}
	return config;
}

bool host_has(int mode)
{
	bool has = fallocate(bench.fd, mode | FALLOC_FL_KEEP_SIZE, DISK_SIZE, 4096) == 0;
	fallocate(bench.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, DISK_SIZE, 4096);
	return has;
}

void need_holes(void)
{
	if (!host_has(FALLOC_FL_PUNCH_HOLE)) {
		print_message("# this file system punches no holes: %s\n", strerror(errno));
		skip();
	}
}

void write_and_flush(void)
{
	memset(data_at(DATA, 4096), 0xa5, 4096);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 16, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_file(8192, 0xa5, 4096);
	uint64_t beside[2];
	assert_int_equal(pread(bench.fd, &beside[0], 8, 8184), 8);
	assert_int_equal(pread(bench.fd, &beside[1], 8, 12288), 8);
	assert_int_equal(beside[0], 8184);
	assert_int_equal(beside[1], 12288);
	memset(data_at(DATA, 4096), 0, 4096);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 16, DATA, 4096), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(data_at(DATA, 4096)[i], 0xa5);
}

uint8_t request_in_two(
	uint32_t type, uint64_t sector, unsigned misaligned, uint32_t first, uint32_t size)
{
	uint64_t at = DATA + misaligned;
	unsigned write = type == VIRTIO_BLK_T_OUT ? 0 : RING_WRITE;
	put_header(header_of(0), type, sector);
	*status_of(0) = NO_STATUS;
	ring_desc(&bench.ring, 0, header_of(0), 16, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, at, first, RING_NEXT | write, first < size ? 2 : 3);
	ring_desc(&bench.ring, 2, at + first, size - first, RING_NEXT | write, 3);
	ring_desc(&bench.ring, 3, header_of(0) + 32, 1, RING_WRITE, 0);
	carry_out(0);
	return *status_of(0);
}

// The status comes first, and then the interrupt that tells of it.
static bool needs_reset(void)
{
	return (mmio_get(&bench.bus, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET) &&
	       (mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
}

void wait_needs_reset(void)
{
	for (unsigned i = 0; i < 100000 && !needs_reset(); i++)
		usleep(100);
	assert_true(needs_reset());
}

uint8_t request_clear(
	uint32_t type, const struct virtio_blk_discard_write_zeroes *ranges, unsigned count)
{
	uint32_t size = (uint32_t)(count * sizeof(*ranges));
	memcpy(data_at(DATA, size + 1), ranges, size);
	prepare(0, type, 0, DATA, size);
	ring_desc(&bench.ring, 1, DATA, size, RING_NEXT, 2); // from the driver
	assert_int_equal(carry_out(0), 1);
	return *status_of(0);
}

uint8_t clear_range(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {sector, sectors, flags};
	return request_clear(type, &range, 1);
}

uint64_t blocks_in_use(void)
{
	struct stat status;
	assert_int_equal(fsync(bench.fd), 0); // allocation may be delayed until then
	assert_int_equal(fstat(bench.fd, &status), 0);
	return (uint64_t)status.st_blocks;
}

// Pages of the file that the page cache has and the disk has not: cachestat(2), Linux 6.5, which is
// too new for some libraries' headers.
uint64_t dirty_pages(void)
{
	enum { CACHESTAT = 451 };
	const struct {
		uint64_t offset, length;
	} range = {0, DISK_SIZE};
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} pages = {0};
	struct statfs system;
	assert_int_equal(fstatfs(bench.fd, &system), 0);
	if (system.f_type == TMPFS_MAGIC || syscall(CACHESTAT, bench.fd, &range, &pages, 0) < 0) {
		print_message("# nothing here tells which pages are dirty\n");
		skip();
	}
	return pages.dirty + pages.writeback;
}

void resize(uint64_t size)
{
	struct veneer_error error = {.code = 0};
	assert_int_equal(ftruncate(bench.fd, (off_t)size), 0);
	if (vn_blk_refresh(bench.device, &error) < 0)
		fail_msg("%s", error.message);
}

void assert_refused(const struct vn_blk_options *disk, int code, const char *text)
{
	struct vn_virtio_device *device;
	struct veneer_error error = {.code = 0};
	assert_int_equal(create_disk(&device, "blk0", disk, &error), code);
	if (!strstr(error.message, text) || !strstr(error.message, disk->path.name))
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
}

struct loop make_loop(uint32_t block_size)
{
	struct loop loop = {.fd = -1};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	for (unsigned i = 0; control >= 0 && i < 10; i++) { // another process may be faster
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		struct loop_config config = {.fd = (uint32_t)bench.fd, .block_size = block_size};
		config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
		snprintf(loop.path, sizeof(loop.path), "/dev/loop%d", number);
		loop.fd = open(loop.path, O_RDWR | O_CLOEXEC);
		if (loop.fd >= 0 && ioctl(loop.fd, LOOP_CONFIGURE, &config) == 0)
			break;
		if (loop.fd >= 0)
			close(loop.fd);
		loop.fd = -1;
	}
	int reason = errno;
	if (control >= 0)
		close(control);
	if (loop.fd < 0) {
		print_message("# no loop device can be made here: %s\n", strerror(reason));
		skip();
	}
	return loop;
}
