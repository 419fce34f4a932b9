// SPDX-License-Identifier: Apache-2.0
//
// virtio-blk from the driver's register accesses to the bytes of a real file: the device, the mmio
// transport, the ring, the I/O loop and io_uring together; only KVM is missing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "devices/blk/blk.h"
#include "devices/blk/file.h"
#include "mmio_driver.h"
#include "virtio/mmio.h"

#define MIB       ((uint64_t)1 << 20)
#define RINGS     MIB
#define HEADERS   (2 * MIB) // 64 bytes for each head: header, then status at 32
#define DATA      (4 * MIB)
#define DISK_SIZE (4 * MIB)
#define SECTORS   (DISK_SIZE / 512)
#define SIZE      256
#define NO_STATUS 0xee

#define ALL_FEATURES                                                                               \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_RING_F_EVENT_IDX) |                          \
		FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

// A machine with one disk, on a scratch file in the current directory, and its driver.
struct bench {
	struct vn_memory memory;
	struct vn_bus bus;
	struct vn_log log;
	struct vn_virtio_device *device;
	struct vn_virtio_mmio *mmio;
	struct ring ring;
	char path[64];
	int fd; // the file, for the test's own looks at it
	pthread_mutex_t lock;
	unsigned warnings; // under the lock, like the last one's text
	char warning[512];
};

static struct bench bench;

static void message(void *opaque, enum veneer_severity severity, const char *text)
{
	struct bench *to = opaque;
	pthread_mutex_lock(&to->lock);
	if (severity == VENEER_WARNING)
		to->warnings++;
	snprintf(to->warning, sizeof(to->warning), "%s", text);
	pthread_mutex_unlock(&to->lock);
}

static unsigned warnings(void)
{
	pthread_mutex_lock(&bench.lock);
	unsigned count = bench.warnings;
	pthread_mutex_unlock(&bench.lock);
	return count;
}

static void assert_warning(unsigned count, const char *text)
{
	assert_int_equal(warnings(), count);
	if (!strstr(bench.warning, text))
		fail_msg("\"%s\" does not say \"%s\"", bench.warning, text);
}

// What the file holds at first: each 8 bytes are their own offset.
static void fill_file(void)
{
	static uint64_t words[DISK_SIZE / 8];
	for (uint64_t i = 0; i < DISK_SIZE / 8; i++)
		words[i] = i * 8;
	assert_int_equal(pwrite(bench.fd, words, DISK_SIZE, 0), DISK_SIZE);
}

static void assert_original(const void *data, uint64_t offset, uint64_t size)
{
	const uint64_t *words = data;
	for (uint64_t i = 0; i < size / 8; i++)
		assert_int_equal(words[i], offset + i * 8);
}

static int make_bench(void **state)
{
	(void)state;
	// All of it, so that O_DIRECT disks have it registered.
	struct veneer_memory options = {.size = 16 * MIB, .node = -1, .prealloc = true};
	struct veneer_error error;
	pthread_mutex_init(&bench.lock, NULL);
	bench.log = (struct vn_log){message, &bench};
	return vn_memory_create(&bench.memory, &options, 3ull << 30, &error);
}

static int destroy_bench(void **state)
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

static int make_file(void **state)
{
	(void)state;
	make_file_in(".");
	return 0;
}

static int make_file_in_memory(void **state)
{
	(void)state;
	make_file_in("/dev/shm");
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	close(bench.fd);
	unlink(bench.path);
	return 0;
}

static void attach(const struct veneer_disk *disk)
{
	struct veneer_error error = {""};
	bench.bus = (struct vn_bus){.count = 0};
	if (vn_blk_create(&bench.device, "blk0", disk, &bench.memory, &bench.log, NULL, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(vn_virtio_mmio_create(&bench.mmio, bench.device, NULL, &bench.bus,
				 MMIO_BASE, 16, &error),
		0);
}

static void detach(void)
{
	vn_virtio_mmio_destroy(bench.mmio);
	vn_blk_destroy(bench.device);
}

static void drive(uint64_t features)
{
	assert_int_equal(mmio_negotiate(&bench.bus, features), MMIO_NEGOTIATED);
	ring_init(&bench.ring, &bench.memory, RINGS, SIZE);
	mmio_queue(&bench.bus, 0, &bench.ring);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_READY), 1);
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

static void open_disk(enum veneer_cache cache, bool readonly)
{
	struct veneer_disk disk = {
		.path = bench.path, .cache = cache, .readonly = readonly, .serial = "veneer-1"};
	attach(&disk);
	drive(mmio_features(&bench.bus));
}

static int open_writeback(void **state)
{
	make_file(state);
	open_disk(VENEER_CACHE_WRITEBACK, false);
	return 0;
}

// A file system that knows how to punch holes, but not how to zero what it has.
static int open_in_memory(void **state)
{
	(void)state;
	make_file_in("/dev/shm");
	open_disk(VENEER_CACHE_WRITEBACK, false);
	return 0;
}

static int close_disk(void **state)
{
	detach();
	return remove_file(state);
}

static void notify(void)
{
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

// The device's loop needs a moment, and what it writes through a busy disk perhaps many seconds; a
// device that needs a minute is stuck.
static uint32_t wait_used(uint32_t *id)
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

static uint64_t header_of(unsigned head)
{
	return HEADERS + 64ull * head;
}

static uint8_t *status_of(unsigned head)
{
	return ring_at(&bench.memory, header_of(head) + 32, 1);
}

static void put_header(uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	memcpy(ring_at(&bench.memory, gpa, sizeof(header)), &header, sizeof(header));
}

// The usual three descriptors of a request, or two without data, from `head` on.
static void prepare(unsigned head, uint32_t type, uint64_t sector, uint64_t data, uint32_t size)
{
	unsigned write = type == VIRTIO_BLK_T_OUT ? 0 : RING_WRITE;
	put_header(header_of(head), type, sector);
	*status_of(head) = NO_STATUS;
	ring_desc(&bench.ring, head, header_of(head), 16, RING_NEXT, size ? head + 1 : head + 2);
	ring_desc(&bench.ring, head + 1, data, size, RING_NEXT | write, head + 2);
	ring_desc(&bench.ring, head + 2, header_of(head) + 32, 1, RING_WRITE, 0);
}

// Offer one chain and wait for it; the used length.
static uint32_t carry_out(unsigned head)
{
	uint32_t id;
	ring_offer(&bench.ring, head);
	notify();
	uint32_t len = wait_used(&id);
	assert_int_equal(id, head);
	return len;
}

// A whole request. Says that the used length is right, too.
static uint8_t request(uint32_t type, uint64_t sector, uint64_t data, uint32_t size)
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

static uint8_t *data_at(uint64_t gpa, uint64_t size)
{
	return ring_at(&bench.memory, gpa, size);
}

static void assert_file(uint64_t offset, uint8_t value, uint64_t size)
{
	static uint8_t got[DISK_SIZE], want[DISK_SIZE];
	assert_int_equal(pread(bench.fd, got, size, (off_t)offset), size);
	memset(want, value, size);
	assert_memory_equal(got, want, size);
}

static void assert_words(uint64_t offset, uint64_t size)
{
	static uint64_t words[DISK_SIZE / 8];
	assert_int_equal(pread(bench.fd, words, size, (off_t)offset), size);
	assert_original(words, offset, size);
}

static struct virtio_blk_config read_config(void)
{
	struct virtio_blk_config config;
	for (unsigned i = 0; i < sizeof(config); i += 4) {
		uint32_t word = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + i);
		memcpy((char *)&config + i, &word, sizeof(config) - i < 4 ? sizeof(config) - i : 4);
	}
	return config;
}

// Whether the file system that the tests run on has an operation, which is then looked for on the
// scratch file, behind its end.
static bool host_has(int mode)
{
	bool has = fallocate(bench.fd, mode | FALLOC_FL_KEEP_SIZE, DISK_SIZE, 4096) == 0;
	fallocate(bench.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, DISK_SIZE, 4096);
	return has;
}

static void need_holes(void)
{
	if (!host_has(FALLOC_FL_PUNCH_HOLE)) {
		print_message("# this file system punches no holes: %s\n", strerror(errno));
		skip();
	}
}

static void describes_itself(void **state)
{
	(void)state;
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.seg_max, 254);
	assert_int_equal(config.blk_size, 512);
	assert_int_equal(config.num_queues, 1);
	uint64_t clearing = FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	uint64_t features = mmio_features(&bench.bus);
	assert_int_equal(features & ~ALL_FEATURES & ~clearing,
		FEATURE(VIRTIO_BLK_F_SEG_MAX) | FEATURE(VIRTIO_BLK_F_BLK_SIZE) |
			FEATURE(VIRTIO_BLK_F_TOPOLOGY) | FEATURE(VIRTIO_BLK_F_FLUSH));
	assert_int_equal(features & ALL_FEATURES, ALL_FEATURES);
	assert_int_equal(features & clearing, host_has(FALLOC_FL_PUNCH_HOLE) ? clearing : 0);
}

static void describes_its_topology(void **state)
{
	(void)state;
	struct virtio_blk_config config = read_config();
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	uint32_t physical = status.st_blksize < 4096 ? (uint32_t)status.st_blksize : 4096;
	assert_int_equal(config.blk_size << config.physical_block_exp, physical);
	assert_int_equal(config.alignment_offset, 0);
	assert_int_equal(config.min_io_size * config.blk_size, physical);
	assert_int_equal(config.opt_io_size * config.blk_size,
		status.st_blksize > 4096 ? status.st_blksize : 0);
}

static void reads(void **state)
{
	(void)state;
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, 8192), 4096, 8192);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, DISK_SIZE), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, DISK_SIZE), 0, DISK_SIZE);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	assert_int_equal(warnings(), 0);
}

static void write_and_flush(void)
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

static void writes(void **state)
{
	(void)state;
	write_and_flush();
}

static void writes_without_cache(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_NONE, false);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_FLUSH));
	write_and_flush();
	detach();
}

static void writes_through(void **state)
{
	(void)state;
	static const enum veneer_cache modes[] = {
		VENEER_CACHE_WRITETHROUGH, VENEER_CACHE_DIRECTSYNC};
	for (unsigned i = 0; i < 2; i++) {
		open_disk(modes[i], false);
		assert_false(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_FLUSH));
		write_and_flush();
		detach();
	}
}

static void writes_unsafely(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_UNSAFE, false);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_FLUSH));
	write_and_flush();
	detach();
}

// A driver that takes no notice of FLUSH has its writes made stable one by one.
static void writes_for_a_driver_without_flush(void **state)
{
	(void)state;
	drive(ALL_FEATURES);
	write_and_flush();
}

// Memory that O_DIRECT does not take goes through a buffer, also more than fits into it at once.
static void unaligned_memory_without_cache(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_NONE, false);
	uint32_t size = MIB;
	uint64_t odd = DATA + 24;
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, odd, size), VIRTIO_BLK_S_OK);
	assert_original(data_at(odd, size), 4096, size);
	memset(data_at(odd, size), 0x5a, size);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 24, odd, size), VIRTIO_BLK_S_OK);
	assert_file(24 * 512, 0x5a, size);
	assert_int_equal(warnings(), 0);
	detach();
}

// A request of `size` bytes at DATA + `misaligned`, in two descriptors of which the first has
// `first` bytes, or in one where that is all.
static uint8_t request_in_two(
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

// Read, change, write and read again; nothing beside the data changes, in memory or on the disk.
static void check_alignment(unsigned misaligned, uint32_t first, uint32_t size, uint64_t sector)
{
	uint64_t offset = sector * 512;
	uint8_t *data = data_at(DATA + misaligned - 64, size + 128) + 64;
	static uint8_t want[MIB];
	memset(data - 64, 0xcc, size + 128);
	assert_int_equal(request_in_two(VIRTIO_BLK_T_IN, sector, misaligned, first, size), 0);
	assert_int_equal(pread(bench.fd, want, size, (off_t)offset), size);
	assert_memory_equal(data, want, size);
	for (unsigned i = 0; i < size; i++)
		data[i] = want[i] = (uint8_t)(want[i] * 5 + i + first);
	assert_int_equal(request_in_two(VIRTIO_BLK_T_OUT, sector, misaligned, first, size), 0);
	memset(data, 0xdd, size);
	assert_int_equal(request_in_two(VIRTIO_BLK_T_IN, sector, misaligned, first, size), 0);
	assert_memory_equal(data, want, size);
	for (unsigned i = 0; i < 64; i++)
		assert_true(data[-1 - (int)i] == 0xcc && data[size + i] == 0xcc);
	assert_words(0, offset);
	assert_words(offset + size, 8192);
}

static void every_alignment_without_cache(void **state)
{
	(void)state;
	static const unsigned misaligned[] = {
		64, 65, 67, 128, 256, 511, 512, 513, 1024, 4095, 4096};
	static const uint32_t cuts[] = {1, 3, 64, 256, 511, 512, 513, 2048, 4095, 4096, 4097};
	static const uint32_t sizes[] = {512, 4096, 8192 + 512, 2 * VN_BLK_BOUNCE_SIZE + 512};
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fill_file();
		attach(&(struct veneer_disk){.path = bench.path, .cache = VENEER_CACHE_NONE});
		drive(mmio_features(&bench.bus));
		for (unsigned m = 0; m < sizeof(misaligned) / sizeof(misaligned[0]); m++)
			for (unsigned c = 0; c <= sizeof(cuts) / sizeof(cuts[0]); c++)
				if (c == sizeof(cuts) / sizeof(cuts[0]) || cuts[c] < sizes[i])
					check_alignment(misaligned[m],
						c < sizeof(cuts) / sizeof(cuts[0]) ? cuts[c]
										   : sizes[i],
						sizes[i], 8);
		detach();
	}
	assert_int_equal(warnings(), 0);
}

// Where the limit of locked memory is too small to register it all, that is said, and requests go
// without.
static void memory_that_cannot_be_registered(void **state)
{
	(void)state;
	bool root = geteuid() == 0; // whom the limit does not hold
	struct rlimit before;
	getrlimit(RLIMIT_MEMLOCK, &before);
	struct rlimit small = {.rlim_cur = 65536, .rlim_max = before.rlim_max};
	assert_int_equal(chmod(bench.path, 0666), 0);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &small), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	struct veneer_disk disk = {.path = bench.path, .cache = VENEER_CACHE_NONE};
	struct veneer_error error = {""};
	int code = vn_blk_create(
		&bench.device, "blk0", &disk, &bench.memory, &bench.log, NULL, &error);
	if (root)
		assert_int_equal(seteuid(0), 0);
	setrlimit(RLIMIT_MEMLOCK, &before);
	if (code == -ENOMEM || code == -EACCES) {
		print_message(
			"# %s\n", error.message); // nor has its ring room, or the path is closed
		skip();
	}
	assert_int_equal(code, 0);
	assert_non_null(strstr(bench.warning, "guest memory is not registered with io_uring"));
	assert_non_null(strstr(bench.warning, "raise the limit of locked memory"));
	assert_int_equal(warnings(), 0); // a note
	bench.bus = (struct vn_bus){.count = 0};
	assert_int_equal(vn_virtio_mmio_create(&bench.mmio, bench.device, NULL, &bench.bus,
				 MMIO_BASE, 16, &error),
		0);
	drive(mmio_features(&bench.bus));
	write_and_flush();
	detach();
}

static void gives_its_id(void **state)
{
	(void)state;
	static const char id[VIRTIO_BLK_ID_BYTES] = "veneer-1";
	memset(data_at(DATA, 64), 0xff, 64);
	prepare(0, VIRTIO_BLK_T_GET_ID, 0, DATA, 20);
	assert_int_equal(carry_out(0), 21);
	assert_int_equal(*status_of(0), VIRTIO_BLK_S_OK);
	assert_memory_equal(data_at(DATA, 20), id, 20);
	assert_int_equal(data_at(DATA, 64)[20], 0xff);

	// More room than an ID needs, and less.
	prepare(0, VIRTIO_BLK_T_GET_ID, 0, DATA, 64);
	assert_int_equal(carry_out(0), 20);
	assert_int_equal(*status_of(0), VIRTIO_BLK_S_OK);
	prepare(0, VIRTIO_BLK_T_GET_ID, 0, DATA + 1, 4);
	assert_int_equal(carry_out(0), 5);
	assert_memory_equal(data_at(DATA, 5), "vvene", 5);
}

static void gives_an_id_of_twenty_bytes(void **state)
{
	(void)state;
	struct veneer_disk disk = {.path = bench.path, .serial = "abcdefghijklmnopqrst"};
	attach(&disk);
	drive(mmio_features(&bench.bus));
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, DATA, 20), VIRTIO_BLK_S_OK);
	assert_memory_equal(data_at(DATA, 20), "abcdefghijklmnopqrst", 20);
	detach();
}

static void refuses_unknown_requests(void **state)
{
	(void)state;
	static const uint32_t types[] = {2, 3, 5, 10, 12, 14, 0x80000000, UINT32_MAX};
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(request(types[i], 0, DATA, 512), VIRTIO_BLK_S_UNSUPP);
}

static void read_only_disks_take_no_writes(void **state)
{
	(void)state;
	assert_int_equal(chmod(bench.path, 0400), 0);
	open_disk(VENEER_CACHE_WRITEBACK, true);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_RO));
	memset(data_at(DATA, 512), 0, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 1, DATA, 512), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, 512), 512, 512);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(warnings(), 0); // no fault of the host's
	detach();
}

static void refuses_what_is_beyond_the_end(void **state)
{
	(void)state;
	static const struct {
		uint64_t sector;
		uint32_t size;
		uint8_t status;
	} cases[] = {
		{SECTORS - 1, 512, VIRTIO_BLK_S_OK}, {SECTORS, 0, VIRTIO_BLK_S_OK},
		{SECTORS, 512, VIRTIO_BLK_S_IOERR}, {SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR},
		{SECTORS + 1, 0, VIRTIO_BLK_S_IOERR}, {UINT64_MAX, 512, VIRTIO_BLK_S_IOERR},
		{UINT64_MAX >> 9, 1024, VIRTIO_BLK_S_IOERR},
		{1ull << 55, 512, VIRTIO_BLK_S_IOERR}, // times 512: wraps to 0
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(request(VIRTIO_BLK_T_IN, cases[i].sector, DATA, cases[i].size),
			cases[i].status);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, cases[i].sector, DATA, cases[i].size),
			cases[i].status);
	}
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	assert_int_equal(status.st_size, DISK_SIZE);
}

static void refuses_parts_of_sectors(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {1, 511, 513, 1000};
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, sizes[i]), VIRTIO_BLK_S_IOERR);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, sizes[i]), VIRTIO_BLK_S_IOERR);
	}
}

// Section 2.7.4: the device assumes nothing about how a request is cut into descriptors. Headers
// of 5, 1 and 10 bytes, the last sharing its descriptor with data...
static void takes_any_framing_of_a_write(void **state)
{
	(void)state;
	uint64_t at = DATA;
	put_header(at, VIRTIO_BLK_T_OUT, 4);
	memset(data_at(at + 16, 1024), 0x77, 1024);
	ring_desc(&bench.ring, 0, at, 5, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, at + 5, 1, RING_NEXT, 2);
	ring_desc(&bench.ring, 2, at + 6, 10 + 300, RING_NEXT, 3);
	ring_desc(&bench.ring, 3, at + 316, 724, RING_NEXT, 4);
	ring_desc(&bench.ring, 4, at + 2048, 1, RING_WRITE, 0);
	assert_int_equal(carry_out(0), 1);
	assert_int_equal(*data_at(at + 2048, 1), VIRTIO_BLK_S_OK);
	assert_file(2048, 0x77, 1024);

	// ...all of a write in one descriptor, and a status among bytes that nothing writes.
	memset(data_at(at + 16, 512), 0x66, 512);
	ring_desc(&bench.ring, 0, at, 16 + 512, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, at + 2048, 3, RING_WRITE, 0);
	assert_int_equal(carry_out(0), 0);
	assert_int_equal(*data_at(at + 2050, 1), VIRTIO_BLK_S_OK);
	assert_file(2048, 0x66, 512);
}

static void takes_any_framing_of_a_read(void **state)
{
	(void)state;
	uint64_t at = DATA;
	put_header(at, VIRTIO_BLK_T_IN, 4);
	memset(data_at(at + 4096, 1025), NO_STATUS, 1025);
	ring_desc(&bench.ring, 0, at, 16, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, at + 4096, 8, RING_NEXT | RING_WRITE, 2);
	ring_desc(&bench.ring, 2, at + 4104, 1016 + 1, RING_WRITE, 0);
	assert_int_equal(carry_out(0), 1025);
	assert_original(data_at(at + 4096, 1024), 2048, 1024);
	assert_int_equal(*data_at(at + 5120, 1), VIRTIO_BLK_S_OK);
}

static void takes_as_many_segments_as_it_says(void **state)
{
	(void)state;
	uint64_t table = DATA, at = DATA + MIB;
	uint16_t segments = 254;
	put_header(at, VIRTIO_BLK_T_IN, 0);
	ring_table(&bench.memory, table, 0, (struct ring_desc){at, 16, RING_NEXT, 1});
	for (uint16_t i = 1; i <= segments; i++)
		ring_table(&bench.memory, table, i,
			(struct ring_desc){
				at + 512ull * i, 512, RING_NEXT | RING_WRITE, (uint16_t)(i + 1)});
	ring_table(&bench.memory, table, segments + 1u,
		(struct ring_desc){at + 512ull * 300, 1, RING_WRITE, 0});
	ring_desc(&bench.ring, 9, table, 16 * (segments + 2u), RING_INDIRECT, 0);
	assert_int_equal(carry_out(9), 512u * segments + 1);
	assert_original(data_at(at + 512, 512u * segments), 0, 512u * segments);
}

// The status comes first, and then the interrupt that tells of it.
static bool needs_reset(void)
{
	return (mmio_get(&bench.bus, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET) &&
	       (mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
}

static void wait_needs_reset(void)
{
	for (unsigned i = 0; i < 100000 && !needs_reset(); i++)
		usleep(100);
	assert_true(needs_reset());
}

static void chains_without_header_or_status_break_the_queue(void **state)
{
	(void)state;
	put_header(DATA, VIRTIO_BLK_T_IN, 0);
	ring_desc(&bench.ring, 0, DATA, 15, RING_NEXT, 1); // short header
	ring_desc(&bench.ring, 1, DATA + 512, 513, RING_WRITE, 0);
	ring_offer(&bench.ring, 0);
	notify();
	wait_needs_reset();
	assert_warning(1, "blk0: the guest's driver broke queue 0: chain 0 has no room");

	drive(mmio_features(&bench.bus));
	ring_desc(&bench.ring, 0, DATA, 16, 0, 0); // no status
	ring_offer(&bench.ring, 0);
	notify();
	wait_needs_reset();
	assert_warning(2, "chain 0 has no room");
}

static void a_broken_queue_works_after_a_reset(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		ring_desc(&bench.ring, 0, DATA, 16, RING_NEXT, 0);
		ring_offer(&bench.ring, 0);
		notify();
		wait_needs_reset();
		notify(); // said once
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		drive(mmio_features(&bench.bus));
		assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
	}
	// A driver that goes on like that does not fill the log.
	assert_warning(10, "not reported from here on");
}

static void rings_outside_ram_break_the_queue(void **state)
{
	(void)state;
	mmio_negotiate(&bench.bus, mmio_features(&bench.bus));
	struct ring outside = bench.ring;
	outside.used = 1ull << 40;
	mmio_queue(&bench.bus, 0, &outside);
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	wait_needs_reset();
	assert_warning(1, "blk0: the guest's driver broke queue 0: the used ring at");
	notify();
	drive(mmio_features(&bench.bus));
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
}

// The host's troubles become I/O errors, and one line says which.
static void a_file_that_became_shorter(void **state)
{
	(void)state;
	assert_int_equal(ftruncate(bench.fd, 8192), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_warning(1, "blk0: read at byte 8192 failed: the file has become shorter");
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_warning(2, "blk0: read at byte 51200 failed: the file has become shorter");
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_int_equal(warnings(), 2);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 100, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_warning(3, "(error 4 of this disk)");
	// It goes on working where there is a file.
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
}

// The same with O_DIRECT, and an end within a sector.
static void a_direct_file_that_became_shorter(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_NONE, false);
	assert_int_equal(ftruncate(bench.fd, 8192 + 100), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_IOERR);
	assert_int_equal(warnings(), 1);
	assert_non_null(strstr(bench.warning, "the file has become shorter"));
	detach();
}

static void limit_file_size(rlim_t size)
{
	struct rlimit limit;
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = size;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// A write of which the host takes one half. The limit stands for a full disk: any user can set it.
static void a_host_that_takes_no_more(void **state)
{
	(void)state;
	memset(data_at(DATA, 8192), 0x33, 8192);
	limit_file_size(MIB);
	uint8_t status = request(VIRTIO_BLK_T_OUT, MIB / 512 - 8, DATA, 8192);
	uint8_t beyond = request(VIRTIO_BLK_T_OUT, MIB / 512, DATA, 4096);
	uint8_t before = request(VIRTIO_BLK_T_OUT, 0, DATA, 4096);
	limit_file_size(RLIM_INFINITY);
	assert_int_equal(status, VIRTIO_BLK_S_IOERR);
	assert_int_equal(beyond, VIRTIO_BLK_S_IOERR);
	assert_int_equal(before, VIRTIO_BLK_S_OK);
	assert_warning(2, "blk0: write at byte 1048576 failed: File too large");
	assert_file(MIB - 4096, 0x33, 4096);
	uint64_t after;
	assert_int_equal(pread(bench.fd, &after, 8, MIB), 8);
	assert_int_equal(after, MIB);
}

// A driver that notifies only when it is asked to, as drivers do: how many of its requests, one
// after the other, it did not notify of.
static unsigned unnotified(unsigned poll_us)
{
	attach(&(struct veneer_disk){.path = bench.path, .poll_us = poll_us});
	drive(mmio_features(&bench.bus));
	unsigned count = 0;
	uint32_t id;
	for (unsigned i = 0; i < 300; i++) {
		uint16_t index = bench.ring.avail_next;
		prepare(0, VIRTIO_BLK_T_IN, 8 * (i % 64), DATA, 4096);
		ring_offer(&bench.ring, 0);
		if (ring_avail_event(&bench.ring) == index)
			notify();
		else
			count++;
		assert_int_equal(wait_used(&id), 4097);
		assert_int_equal(*status_of(0), VIRTIO_BLK_S_OK);
	}
	detach();
	return count;
}

// Not of all of them; and none is ever forgotten, however the end of looking and the next request
// meet.
static void polled_queues_need_fewer_notifications(void **state)
{
	(void)state;
	assert_true(unnotified(VENEER_POLL_MAX) > 0);
	for (unsigned poll_us = 1; poll_us < 300; poll_us += 37)
		unnotified(poll_us);
}

// A queue that is not polled asks for a notification at once, one that is after its time.
static void idle_queues_ask_for_notifications(void **state)
{
	(void)state;
	static const unsigned times[] = {VENEER_POLL_OFF, 0, 1, 500, VENEER_POLL_MAX};
	for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		attach(&(struct veneer_disk){.path = bench.path, .poll_us = times[i]});
		// Also with a driver without EVENT_IDX, whom a flag tells.
		for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
			uint64_t without = event_idx ? 0 : FEATURE(VIRTIO_RING_F_EVENT_IDX);
			drive(mmio_features(&bench.bus) & ~without);
			for (unsigned k = 0; k < 20; k++)
				assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), 0);
			bool asks = false;
			for (unsigned k = 0; k < 100000 && !asks; k++) {
				asks = event_idx ? ring_avail_event(&bench.ring) ==
							   bench.ring.avail_next
						 : ring_used_flags(&bench.ring) == 0;
				usleep(100);
			}
			assert_true(asks);
		}
		detach();
	}
}

// Submissions taken by a thread of the kernel, awake or asleep.
static void a_kernel_thread_submits(void **state)
{
	(void)state;
	static const enum veneer_cache modes[] = {
		VENEER_CACHE_WRITEBACK, VENEER_CACHE_NONE, VENEER_CACHE_DIRECTSYNC};
	for (unsigned i = 0; i < 3; i++) {
		fill_file();
		attach(&(struct veneer_disk){
			.path = bench.path, .cache = modes[i], .sqpoll = true});
		drive(mmio_features(&bench.bus));
		assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 8192), VIRTIO_BLK_S_OK);
		assert_original(data_at(DATA, 8192), 4096, 8192);
		usleep(20000); // it sleeps by then
		write_and_flush();
		assert_int_equal(warnings(), 0);
		detach();
	}
}

// As many requests as the queue has room for, at once.
static void a_full_queue(void **state)
{
	(void)state;
	static bool seen[SIZE];
	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < 85; i++) {
		prepare(3 * i, VIRTIO_BLK_T_IN, 8 * i, DATA + 4096ull * i, 4096);
		ring_offer(&bench.ring, 3 * i);
	}
	notify();
	for (unsigned i = 0; i < 85; i++) {
		uint32_t id;
		assert_int_equal(wait_used(&id), 4097);
		assert_false(seen[id]);
		seen[id] = true;
		assert_int_equal(*status_of(id), VIRTIO_BLK_S_OK);
		assert_original(data_at(DATA + 4096ull * (id / 3), 4096), 4096ull * (id / 3), 4096);
	}
}

// Requests of one indirect descriptor each, so that a turn's budget of chains is used up, which are
// done at once, and a single notification.
static void a_queue_full_of_short_requests(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++) {
		uint64_t table = DATA + 64ull * i;
		put_header(header_of(i), VIRTIO_BLK_T_GET_ID, 0);
		ring_table(&bench.memory, table, 0,
			(struct ring_desc){header_of(i), 16, RING_NEXT, 1});
		ring_table(&bench.memory, table, 1,
			(struct ring_desc){header_of(i) + 32, 21, RING_WRITE, 0});
		ring_desc(&bench.ring, i, table, 32, RING_INDIRECT, 0);
	}
	uint32_t id;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < SIZE; i++)
			ring_offer(&bench.ring, i);
		notify();
		for (unsigned i = 0; i < SIZE; i++) {
			assert_int_equal(wait_used(&id), 21);
			assert_int_equal(id, i);
		}
	}
	// Notifications are on again, though the budget ran out.
	for (unsigned i = 0; i < 100000 && ring_avail_event(&bench.ring) != bench.ring.avail_next;
		i++)
		usleep(100);
	assert_int_equal(ring_avail_event(&bench.ring), bench.ring.avail_next);
}

static struct veneer_queue_stats counted(struct vn_arena *arena)
{
	const struct veneer_device_stats *stats;
	assert_int_equal(vn_virtio_stats(bench.device, arena, &stats), 0);
	assert_string_equal(stats->name, "blk0");
	assert_int_equal(stats->virtio_id, VIRTIO_ID_BLOCK);
	assert_null(stats->queues[1]);
	return *stats->queues[0];
}

// A request is counted before the driver can see that it is done.
static void counts_requests(void **state)
{
	struct vn_arena arena = {NULL};
	struct veneer_queue_stats stats = counted(&arena);
	assert_int_equal(stats.requests + stats.batches + stats.notifications, 0);
	a_full_queue(state);
	stats = counted(&arena);
	assert_int_equal(stats.requests, 85);
	assert_int_equal(stats.read_bytes, 85 * 4096);
	assert_int_equal(stats.written_bytes + stats.errors, 0);
	assert_int_equal(stats.notifications, 1);
	assert_int_equal(stats.wakeups, 1);
	assert_in_range(stats.batches, 1, 85);
	assert_int_equal(stats.latency->count, 85);

	assert_int_equal(request(VIRTIO_BLK_T_OUT, 16, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, SECTORS, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS, DATA, 512), VIRTIO_BLK_S_IOERR);
	stats = counted(&arena);
	assert_int_equal(stats.requests, 89);
	assert_int_equal(stats.errors, 2);
	assert_int_equal(stats.read_bytes, 85 * 4096);
	assert_int_equal(stats.written_bytes, 4096);
	assert_int_equal(stats.latency->count, 89);
	assert_in_range(stats.notifications, 1, 5);
	assert_in_range(stats.interrupts, 1, 89);

	// Counts outlive a reset; a queue full is more than one turn's, whose own kicks do not
	// count.
	drive(mmio_features(&bench.bus));
	a_queue_full_of_short_requests(state);
	stats = counted(&arena);
	assert_int_equal(stats.requests, 89 + 20 * SIZE);
	assert_in_range(stats.notifications, 1, 26); // the reset's own may be one
	vn_arena_free(&arena);
}

// Writes that take their time, and a reset while they are under way. It returns when none is, so
// nothing may change in memory or file after it, and the device starts anew.
static void a_reset_with_requests_in_flight(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_WRITETHROUGH, false);
	for (unsigned round = 0; round < 20; round++) {
		drive(mmio_features(&bench.bus));
		for (unsigned i = 0; i < 40; i++) {
			uint64_t data = DATA + 65536ull * i;
			bool write = i % 2;
			memset(data_at(data, 65536), 0x11, 65536);
			prepare(3 * i, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 128 * i, data,
				65536);
			ring_offer(&bench.ring, 3 * i);
		}
		notify();
		usleep(round * 50);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_READY), 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS), 0);

		memset(ring_at(&bench.memory, 0, 16 * MIB), 0x22, 16 * MIB);
		usleep(2000);
		const uint8_t *all = ring_at(&bench.memory, 0, 16 * MIB);
		for (uint64_t i = 0; i < 16 * MIB; i += 8) {
			uint64_t word;
			memcpy(&word, all + i, 8);
			assert_int_equal(word, 0x2222222222222222);
		}
	}
	fill_file();
	drive(mmio_features(&bench.bus));
	write_and_flush();
	detach();
}

// Requests of many ranges, each of which takes the host its time: a reset waits for a range, not
// for all of them, and what is left is left undone.
static void a_reset_between_ranges(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_DIRECTSYNC, false);
	uint64_t features = mmio_features(&bench.bus);
	for (unsigned round = 0; round < 10; round++) {
		drive(features);
		struct virtio_blk_discard_write_zeroes *ranges =
			(void *)data_at(DATA, 16 * sizeof(*ranges));
		for (unsigned i = 0; i < 16; i++)
			ranges[i] = (struct virtio_blk_discard_write_zeroes){16 * i + 1, 8, i % 2};
		for (unsigned i = 0; i < 40; i++) {
			prepare(3 * i, VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, 16 * sizeof(*ranges));
			ring_desc(&bench.ring, 3 * i + 1, DATA, 16 * sizeof(*ranges), RING_NEXT,
				3 * i + 2);
			ring_offer(&bench.ring, 3 * i);
		}
		notify();
		usleep(round * 100);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
		fill_file();
		usleep(1000);
		assert_words(0, DISK_SIZE); // nothing zeroes any more
	}
	drive(features);
	write_and_flush();
	detach();
}

// A driver that offers every request again as soon as it ends: a reset that went on taking them
// would end by luck only.
static atomic_bool offering;

static void *offer_again(void *arg)
{
	(void)arg;
	uint32_t id, len;
	while (atomic_load(&offering))
		while (ring_take(&bench.ring, &id, &len))
			ring_offer(&bench.ring, id);
	return NULL;
}

static void a_reset_under_endless_requests(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_NONE, false);
	for (unsigned round = 0; round < 5; round++) {
		drive(mmio_features(&bench.bus));
		for (unsigned i = 0; i < 64; i++) {
			prepare(3 * i, VIRTIO_BLK_T_IN, 128 * i, DATA + 65536ull * i, 65536);
			ring_offer(&bench.ring, 3 * i);
		}
		pthread_t thread;
		atomic_store(&offering, true);
		assert_int_equal(pthread_create(&thread, NULL, offer_again, NULL), 0);
		notify();
		usleep(10000);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		atomic_store(&offering, false);
		pthread_join(thread, NULL);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
	}
	detach();
}

// The transport's end with requests in flight is the vm's end.
static void the_end_with_requests_in_flight(void **state)
{
	(void)state;
	open_disk(VENEER_CACHE_WRITETHROUGH, false);
	for (unsigned i = 0; i < 40; i++) {
		prepare(3 * i, VIRTIO_BLK_T_OUT, 128 * i, DATA, 65536);
		ring_offer(&bench.ring, 3 * i);
	}
	notify();
	detach();
}

// A discard or write of zeroes of `count` ranges, at DATA.
static uint8_t request_clear(
	uint32_t type, const struct virtio_blk_discard_write_zeroes *ranges, unsigned count)
{
	uint32_t size = (uint32_t)(count * sizeof(*ranges));
	memcpy(data_at(DATA, size + 1), ranges, size);
	prepare(0, type, 0, DATA, size);
	ring_desc(&bench.ring, 1, DATA, size, RING_NEXT, 2); // from the driver
	assert_int_equal(carry_out(0), 1);
	return *status_of(0);
}

static uint8_t clear_range(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {sector, sectors, flags};
	return request_clear(type, &range, 1);
}

static uint64_t blocks_in_use(void)
{
	struct stat status;
	assert_int_equal(fsync(bench.fd), 0); // allocation may be delayed until then
	assert_int_equal(fstat(bench.fd, &status), 0);
	return (uint64_t)status.st_blocks;
}

static void discards_free_blocks(void **state)
{
	(void)state;
	need_holes();
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.max_discard_sectors, 1u << 21);
	assert_int_equal(config.max_discard_seg, 16);
	assert_int_equal(
		config.discard_sector_alignment, (512u << config.physical_block_exp) / 512);
	uint64_t before = blocks_in_use();
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 2048, 2048, 0), VIRTIO_BLK_S_OK);
	assert_true(blocks_in_use() <= before - 2048);
	assert_words(0, MIB);
	assert_file(MIB, 0, MIB);
	assert_words(2 * MIB, 2 * MIB);

	// Many ranges at once: empty, overlapping, the last one up to the end.
	struct virtio_blk_discard_write_zeroes ranges[16];
	for (unsigned i = 0; i < 16; i++)
		ranges[i] = (struct virtio_blk_discard_write_zeroes){4096 + 8 * i, i % 3 * 8, 0};
	ranges[15] = (struct virtio_blk_discard_write_zeroes){SECTORS - 8, 8, 0};
	assert_int_equal(request_clear(VIRTIO_BLK_T_DISCARD, ranges, 16), VIRTIO_BLK_S_OK);
	assert_file(2 * MIB + 4096, 0, 14 * 4096);
	assert_file(DISK_SIZE - 4096, 0, 4096);
	assert_words(2 * MIB, 4096);
	assert_words(3 * MIB, MIB - 4096);
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	assert_int_equal(status.st_size, DISK_SIZE);
	assert_int_equal(warnings(), 0);
}

static void writes_zeroes(void **state)
{
	(void)state;
	need_holes();
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.max_write_zeroes_sectors, 1u << 21);
	assert_int_equal(config.max_write_zeroes_seg, 16);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
	uint64_t before = blocks_in_use();
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 2048, 2048, 0), VIRTIO_BLK_S_OK);
	assert_file(MIB, 0, MIB);
	assert_true(blocks_in_use() >= before); // the disk keeps its room
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 4096, 2048,
				 VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
		VIRTIO_BLK_S_OK);
	assert_file(2 * MIB, 0, MIB);
	assert_true(blocks_in_use() <= before - 2048);
	// Parts of the file system's blocks are zeroed, and nothing beside them.
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 3, 2, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 11, 1, 1), VIRTIO_BLK_S_OK);
	assert_words(0, 3 * 512);
	assert_file(3 * 512, 0, 2 * 512);
	assert_words(5 * 512, 6 * 512);
	assert_file(11 * 512, 0, 512);
	assert_words(12 * 512, MIB - 12 * 512);
	assert_words(3 * MIB, MIB);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 2048, DATA, MIB), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < MIB; i++)
		assert_int_equal(data_at(DATA, MIB)[i], 0);
	assert_int_equal(warnings(), 0);
}

// In every cache mode; with O_DIRECT, what is in the page cache must not come back.
static void clears_in_every_cache_mode(void **state)
{
	(void)state;
	need_holes();
	for (unsigned mode = VENEER_CACHE_WRITEBACK; mode <= VENEER_CACHE_UNSAFE; mode++) {
		fill_file();
		open_disk((enum veneer_cache)mode, false);
		assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 64, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(
			clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 64, 64, 1), VIRTIO_BLK_S_OK);
		assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 128, 64, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 192 * 512), VIRTIO_BLK_S_OK);
		for (unsigned i = 0; i < 192 * 512; i++)
			assert_int_equal(data_at(DATA, 192 * 512)[i], 0);
		assert_words(192 * 512, MIB);
		detach();
	}
}

// Pages of the file that the page cache has and the disk has not: cachestat(2), Linux 6.5, which is
// too new for some libraries' headers.
static uint64_t dirty_pages(void)
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

// What each mode promises of a write and of a flush.
static void what_is_on_the_disk(void **state)
{
	(void)state;
	static const struct {
		enum veneer_cache cache;
		bool past; // writes go around the page cache, or through it to the disk
		bool stable; // all that was done is on the disk, without a flush
	} cases[] = {
		{VENEER_CACHE_WRITEBACK, false, false},
		{VENEER_CACHE_WRITETHROUGH, true, true},
		{VENEER_CACHE_DIRECTSYNC, true, true},
		{VENEER_CACHE_NONE, true, false},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(fsync(bench.fd), 0);
		open_disk(cases[i].cache, false);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, MIB), VIRTIO_BLK_S_OK);
		if (cases[i].past)
			assert_int_equal(dirty_pages(), 0);
		// Zeroes in parts of pages, which the page cache has.
		if (clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 3, 2, 0) == VIRTIO_BLK_S_OK &&
			cases[i].stable)
			assert_int_equal(dirty_pages(), 0);
		assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(dirty_pages(), 0);
		detach();
	}
}

// The host may write to the disk at any time of its own, but not every time between two requests.
static void what_an_unsafe_disk_keeps_back(void **state)
{
	(void)state;
	uint64_t dirty = 0;
	open_disk(VENEER_CACHE_UNSAFE, false);
	for (unsigned i = 0; i < 20 && dirty == 0; i++) {
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, DATA, MIB), VIRTIO_BLK_S_OK);
		assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
		dirty = dirty_pages();
	}
	detach();
	assert_true(dirty > 0);
}

// Data that is zero to the last byte takes no data to write; what is not, does.
static void zeroes_are_detected(void **state)
{
	(void)state;
	need_holes();
	struct veneer_disk disk = {.path = bench.path};
	for (unsigned mode = 0; mode <= VENEER_DETECT_ZEROES_UNMAP; mode++) {
		disk.detect_zeroes = (enum veneer_detect_zeroes)mode;
		fill_file();
		attach(&disk);
		drive(mmio_features(&bench.bus));
		uint64_t before = blocks_in_use();
		memset(data_at(DATA, MIB), 0, MIB);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 2048, DATA, MIB), VIRTIO_BLK_S_OK);
		assert_file(MIB, 0, MIB);
		if (mode == VENEER_DETECT_ZEROES_UNMAP)
			assert_true(blocks_in_use() <= before - 2048);
		else
			assert_true(blocks_in_use() >= before);
		assert_words(0, MIB);
		assert_words(2 * MIB, 2 * MIB);

		fill_file();
		data_at(DATA, MIB)[MIB - 1] = 1;
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 2048, DATA, MIB), VIRTIO_BLK_S_OK);
		assert_file(MIB, 0, MIB - 1);
		assert_file(2 * MIB - 1, 1, 1);
		assert_true(blocks_in_use() >= before);
		// A single sector, which no block of the file system is, and the longest request.
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, DATA, 512), VIRTIO_BLK_S_OK);
		assert_words(0, 512);
		assert_file(512, 0, 512);
		assert_words(1024, MIB - 1024);
		assert_int_equal(warnings(), 0);
		detach();
	}
}

// Also by a disk whose writes are on the disk when they complete, and on which they then are.
static void detected_zeroes_are_as_stable_as_writes(void **state)
{
	(void)state;
	need_holes();
	attach(&(struct veneer_disk){.path = bench.path,
		.cache = VENEER_CACHE_WRITETHROUGH,
		.detect_zeroes = VENEER_DETECT_ZEROES_ON});
	drive(mmio_features(&bench.bus));
	assert_int_equal(fsync(bench.fd), 0);
	memset(data_at(DATA, 1024), 0, 1024);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 3, DATA, 1024), VIRTIO_BLK_S_OK);
	assert_file(3 * 512, 0, 1024);
	uint64_t dirty = dirty_pages();
	detach();
	assert_int_equal(dirty, 0);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// `count` requests of 4 KiB at once, and how long they took all in all.
static uint64_t burst_of(unsigned count, uint32_t type)
{
	uint32_t id;
	uint64_t begin = now_ns();
	for (unsigned i = 0; i < count; i++) {
		prepare(3 * i, type, 8 * i, DATA + 4096ull * i, 4096);
		ring_offer(&bench.ring, 3 * i);
	}
	notify();
	for (unsigned i = 0; i < count; i++) {
		wait_used(&id);
		assert_int_equal(*status_of(id), VIRTIO_BLK_S_OK);
	}
	return now_ns() - begin;
}

// Never faster than the limit; how much slower is the machine's affair.
static void limits_are_kept(void **state)
{
	(void)state;
	static const struct {
		struct veneer_disk disk;
		uint64_t least; // ns for 40 requests
	} cases[] = {
		{{.iops = 400, .iops_burst = 1}, 39 * 2500000ull},
		{{.iops = 400, .iops_burst = 20}, 20 * 2500000ull},
		{{.bps = MIB, .bps_burst = 4096}, 39 * 3906250ull},
		{{.iops = 1000000, .bps = MIB, .bps_burst = 4096}, 39 * 3906250ull},
		{{.iops = 400, .iops_burst = 1, .bps = 1ull << 40}, 39 * 2500000ull},
		{{.iops = 1ull << 40}, 0},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct veneer_disk disk = cases[i].disk;
		disk.path = bench.path;
		attach(&disk);
		drive(mmio_features(&bench.bus));
		assert_true(
			burst_of(40, i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT) >= cases[i].least);
		detach();
	}
	assert_int_equal(warnings(), 0);
}

// A disk with a limit of one request in 1000 seconds has nothing to wait for at a reset, and what
// was not begun does not count.
static void a_reset_while_held_back(void **state)
{
	(void)state;
	attach(&(struct veneer_disk){.path = bench.path, .bps = 1024, .bps_burst = MIB + 65536});
	for (unsigned round = 0; round < 3; round++) {
		drive(mmio_features(&bench.bus));
		for (unsigned i = 0; i < 8; i++) {
			prepare(3 * i, VIRTIO_BLK_T_OUT, 8 * i, DATA, i ? MIB : 4096);
			ring_offer(&bench.ring, 3 * i);
		}
		notify();
		for (unsigned i = 0; i < 100000 && ring_used_index(&bench.ring) == 0; i++)
			usleep(100);
		usleep(round * 1000);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
		assert_true(ring_used_index(&bench.ring) <= 2);
	}
	// What is left of the burst is enough for these.
	drive(mmio_features(&bench.bus));
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	detach();
}

struct bad_range {
	uint32_t type;
	struct virtio_blk_discard_write_zeroes range;
	uint8_t status;
};

static void judges_every_range(void **state)
{
	(void)state;
	need_holes();
	static const struct bad_range cases[] = {
		{VIRTIO_BLK_T_DISCARD, {SECTORS, 1, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {SECTORS - 1, 2, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {SECTORS + 1, 0, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {0, UINT32_MAX, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {0, (1u << 21) + 1, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {UINT64_MAX, 1, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {UINT64_MAX, 8, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {1ull << 55, 8, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, {8, 8, 1}, VIRTIO_BLK_S_UNSUPP}, // no unmap here
		{VIRTIO_BLK_T_DISCARD, {8, 8, 2}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {8, 8, 2}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {8, 8, 1u << 31}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {SECTORS, 1, 3}, VIRTIO_BLK_S_UNSUPP},
		{VIRTIO_BLK_T_WRITE_ZEROES, {SECTORS, 1, 1}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_WRITE_ZEROES, {SECTORS - 1, UINT32_MAX, 0}, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_WRITE_ZEROES, {UINT64_MAX - 7, 8, 0}, VIRTIO_BLK_S_IOERR},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		// Alone, and behind good ranges, none of which is carried out then.
		struct virtio_blk_discard_write_zeroes three[3] = {
			{0, 8, 0}, {16, 8, 0}, cases[i].range};
		assert_int_equal(request_clear(cases[i].type, &cases[i].range, 1), cases[i].status);
		assert_int_equal(request_clear(cases[i].type, three, 3), cases[i].status);
	}
	// No range, parts of ranges, and more than there may be.
	static const struct virtio_blk_discard_write_zeroes many[17];
	assert_int_equal(request_clear(VIRTIO_BLK_T_DISCARD, many, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(request_clear(VIRTIO_BLK_T_DISCARD, many, 17), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request_clear(VIRTIO_BLK_T_WRITE_ZEROES, many, 17), VIRTIO_BLK_S_UNSUPP);
	static const uint32_t sizes[] = {0, 1, 15, 17, 255};
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		prepare(0, VIRTIO_BLK_T_DISCARD, 0, DATA, sizes[i]);
		ring_desc(&bench.ring, 1, DATA, sizes[i], RING_NEXT, 2);
		assert_int_equal(carry_out(0), 1);
		assert_int_equal(*status_of(0), VIRTIO_BLK_S_IOERR);
	}
	// Ranges where the driver is to be written to are none.
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, DATA, 0), VIRTIO_BLK_S_IOERR);
	assert_words(0, DISK_SIZE);
	assert_int_equal(warnings(), 0);
}

static void resize(uint64_t size)
{
	struct veneer_error error = {""};
	assert_int_equal(ftruncate(bench.fd, (off_t)size), 0);
	if (vn_blk_refresh(bench.device, &error) < 0)
		fail_msg("%s", error.message);
}

static void bounds_each_range(void **state)
{
	(void)state;
	need_holes();
	uint32_t most = read_config().max_discard_sectors;
	resize(2 * 512 * (uint64_t)most);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, most, most, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(
		clear_range(VIRTIO_BLK_T_DISCARD, most - 8, most + 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(
		clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, most + 1, 1), VIRTIO_BLK_S_IOERR);
	assert_words(0, DISK_SIZE);
}

static void clears_only_what_was_negotiated(void **state)
{
	(void)state;
	drive(ALL_FEATURES);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	detach();
	open_disk(VENEER_CACHE_WRITEBACK, true);
	uint64_t clearing = FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	assert_int_equal(mmio_features(&bench.bus) & clearing, 0);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_words(0, DISK_SIZE);
}

static uint32_t generation(void)
{
	return mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG_GENERATION);
}

static uint32_t config_interrupt(void)
{
	return mmio_get(&bench.bus, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG;
}

static void a_new_size_is_told(void **state)
{
	(void)state;
	uint32_t before = generation();
	resize(DISK_SIZE);
	assert_int_equal(generation(), before); // nothing has changed
	assert_int_equal(config_interrupt(), 0);

	resize(2 * DISK_SIZE);
	assert_string_equal(bench.warning, "blk0: its size is now 8388608 bytes");
	assert_int_not_equal(generation(), before);
	assert_int_equal(config_interrupt(), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(read_config().capacity, 2 * SECTORS);
	memset(data_at(DATA, 512), 0x44, 512);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 2 * SECTORS - 1, DATA, 512), VIRTIO_BLK_S_OK);
	assert_file(2 * DISK_SIZE - 512, 0x44, 512);

	before = generation();
	mmio_set(&bench.bus, VIRTIO_MMIO_INTERRUPT_ACK, 3);
	resize(DISK_SIZE / 2);
	assert_int_not_equal(generation(), before);
	assert_int_equal(config_interrupt(), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(read_config().capacity, SECTORS / 2);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS / 2, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, SECTORS / 2, DATA, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS / 2 - 1, DATA, 512), VIRTIO_BLK_S_OK);
	struct stat status;
	assert_int_equal(fstat(bench.fd, &status), 0);
	assert_int_equal(status.st_size, DISK_SIZE / 2); // the refused write left it alone
	assert_int_equal(warnings(), 0);
}

static void a_bad_size_changes_nothing(void **state)
{
	(void)state;
	static const struct {
		off_t size;
		const char *text;
	} cases[] = {{0, "is empty"}, {DISK_SIZE + 100, "is not a multiple of 512"}};
	for (unsigned i = 0; i < 2; i++) {
		struct veneer_error error = {""};
		uint32_t before = generation();
		assert_int_equal(ftruncate(bench.fd, cases[i].size), 0);
		assert_int_equal(vn_blk_refresh(bench.device, &error), -EINVAL);
		if (!strstr(error.message, cases[i].text) || !strstr(error.message, bench.path))
			fail_msg("'%s' does not say '%s'", error.message, cases[i].text);
		assert_int_equal(read_config().capacity, SECTORS);
		assert_int_equal(generation(), before);
		assert_int_equal(config_interrupt(), 0);
	}
}

// The size changes between two values while the driver reads it, as a driver must: both halves, and
// again when the generation was another one meanwhile. No mixture may ever be seen.
#define LARGE (((uint64_t)1 << 42) + 3 * DISK_SIZE)

static void *resize_for_ever(void *arg)
{
	unsigned *wrong = arg;
	for (bool large = true; atomic_load(&offering); large = !large) {
		*wrong += ftruncate(bench.fd, large ? (off_t)LARGE : (off_t)DISK_SIZE) < 0;
		*wrong += vn_blk_refresh(bench.device, NULL) < 0;
	}
	return NULL;
}

static uint64_t read_capacity(void)
{
	uint32_t before, low, high;
	do {
		before = generation();
		low = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG);
		high = mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG + 4);
	} while (generation() != before);
	return (uint64_t)high << 32 | low;
}

static void a_size_that_keeps_changing(void **state)
{
	(void)state;
	pthread_t thread;
	unsigned large = 0, small = 0, other = 0, failed = 0, wrong = 0;
	if (ftruncate(bench.fd, LARGE) < 0) {
		print_message("# no file of 4 TiB here: %s\n", strerror(errno));
		skip();
	}
	atomic_store(&offering, true);
	assert_int_equal(pthread_create(&thread, NULL, resize_for_ever, &wrong), 0);
	for (unsigned i = 0; i < 300000 || (!other && (large < 100 || small < 100)); i++) {
		uint64_t capacity = read_capacity();
		large += capacity == LARGE / 512;
		small += capacity == SECTORS;
		other += capacity != LARGE / 512 && capacity != SECTORS;
		if (i % 4096 == 0) // and requests go on meanwhile
			failed += request(VIRTIO_BLK_T_IN, 0, DATA, 4096) != VIRTIO_BLK_S_OK;
	}
	atomic_store(&offering, false);
	pthread_join(thread, NULL);
	assert_int_equal(other, 0);
	assert_int_equal(failed, 0);
	assert_int_equal(wrong, 0);
}

static void assert_refused(const struct veneer_disk *disk, int code, const char *text)
{
	struct vn_virtio_device *device;
	struct veneer_error error = {""};
	assert_int_equal(
		vn_blk_create(&device, "blk0", disk, &bench.memory, &bench.log, NULL, &error),
		code);
	if (!strstr(error.message, text) || !strstr(error.message, disk->path))
		fail_msg("\"%s\" does not say \"%s\"", error.message, text);
}

// A block device, made of the scratch file; only root can make one.
struct loop {
	int fd;
	char path[32];
};

static struct loop make_loop(uint32_t block_size)
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

static void a_block_device(void **state)
{
	(void)state;
	need_holes();
	struct loop loop = make_loop(4096);
	attach(&(struct veneer_disk){.path = loop.path, .cache = VENEER_CACHE_NONE});
	drive(mmio_features(&bench.bus));
	struct virtio_blk_config config = read_config();
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.blk_size, 4096);
	assert_int_equal(config.physical_block_exp, 0);
	assert_int_equal(config.min_io_size, 1);
	assert_int_equal(config.discard_sector_alignment, 8);
	write_and_flush();
	fill_file();
	uint64_t before = blocks_in_use();
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 0, 2048, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 2048, 2048, 1), VIRTIO_BLK_S_OK);
	assert_true(blocks_in_use() <= before - 4096);
	assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 4096, 2048, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 3 * MIB), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 3 * MIB; i++)
		assert_int_equal(data_at(DATA, 3 * MIB)[i], 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 6144, DATA, MIB), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, MIB), 3 * MIB, MIB);
	assert_int_equal(warnings(), 0);

	struct veneer_error error;
	assert_int_equal(ftruncate(bench.fd, 2 * DISK_SIZE), 0);
	assert_int_equal(ioctl(loop.fd, LOOP_SET_CAPACITY, 0), 0);
	assert_int_equal(vn_blk_refresh(bench.device, &error), 0);
	assert_int_equal(read_config().capacity, 2 * SECTORS);
	detach();
	close(loop.fd);
}

// Blocks larger than a sector, of which the guest reads, writes and clears parts.
static void clear_parts(void)
{
	static const struct {
		uint64_t sector;
		uint32_t count;
	} parts[] = {{9, 1}, {16, 7}, {31, 1}, {35, 2}, {47, 2}, {59, 21}, {90, 22}, {128, 8}};
	static uint8_t want[MIB];
	for (uint32_t flags = 0; flags < 2; flags++)
		for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
			memcpy(want, data_at(DATA, MIB), MIB);
			memset(want + 512 * parts[i].sector, 0, 512ull * parts[i].count);
			assert_int_equal(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, parts[i].sector,
						 parts[i].count, flags),
				VIRTIO_BLK_S_OK);
			assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
			assert_memory_equal(data_at(DATA, MIB), want, MIB);
		}
}

// Nothing but whole blocks goes, and all of those may.
static void discard_parts(void)
{
	static uint8_t before[MIB];
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
	memcpy(before, data_at(DATA, MIB), MIB);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 513, 6, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(clear_range(VIRTIO_BLK_T_DISCARD, 513, 20, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
	memset(before + 520 * 512, 0, 4096);
	assert_memory_equal(data_at(DATA, MIB), before, MIB);
}

static void access_parts(void)
{
	static const uint32_t sizes[] = {
		512, 3584, 4096, 4608, 8192, VN_BLK_BOUNCE_SIZE, 2 * VN_BLK_BOUNCE_SIZE + 1024};
	static uint8_t want[MIB];
	memset(want, 0, MIB);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
	memcpy(want, data_at(DATA, MIB), MIB);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (uint64_t sector = 0; sector < 9; sector++) {
			uint32_t size = sizes[i];
			unsigned misaligned = sector % 2 ? 24 : 0;
			uint8_t *data = data_at(DATA + misaligned, size);
			for (uint32_t k = 0; k < size; k++)
				data[k] = want[512 * sector + k] = (uint8_t)(7 * k + sector + i);
			assert_int_equal(request_in_two(VIRTIO_BLK_T_OUT, sector, misaligned,
						 size > 512 ? 1000 : size, size),
				VIRTIO_BLK_S_OK);
			memset(data, 0xee, size);
			assert_int_equal(
				request_in_two(VIRTIO_BLK_T_IN, sector, misaligned, size, size),
				VIRTIO_BLK_S_OK);
			assert_memory_equal(data, want + 512 * sector, size);
			assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, MIB), VIRTIO_BLK_S_OK);
			assert_memory_equal(data_at(DATA, MIB), want, MIB);
		}
}

static void parts_of_blocks(void **state)
{
	(void)state;
	need_holes();
	struct loop loop = make_loop(4096);
	static const enum veneer_cache modes[] = {
		VENEER_CACHE_NONE, VENEER_CACHE_DIRECTSYNC, VENEER_CACHE_WRITEBACK};
	for (unsigned i = 0; i < 3; i++) {
		attach(&(struct veneer_disk){
			.path = loop.path, .cache = modes[i], .block_size = 512});
		drive(mmio_features(&bench.bus));
		struct virtio_blk_config config = read_config();
		assert_int_equal(config.blk_size, 512);
		assert_int_equal(config.physical_block_exp, 3);
		assert_int_equal(config.min_io_size, 8);
		access_parts();
		clear_parts();
		discard_parts();
		assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS - 1, DATA, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(
			request(VIRTIO_BLK_T_IN, SECTORS - 1, DATA, 1024), VIRTIO_BLK_S_IOERR);
		assert_int_equal(warnings(), 0);
		detach();
	}
	close(loop.fd);
}

// What a part that was written promises is what a whole block does; the loop device's file is in
// the page cache.
static void parts_on_the_disk(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	static const enum veneer_cache modes[] = {VENEER_CACHE_NONE, VENEER_CACHE_DIRECTSYNC};
	for (unsigned i = 0; i < 2; i++) {
		attach(&(struct veneer_disk){
			.path = loop.path, .cache = modes[i], .block_size = 512});
		drive(mmio_features(&bench.bus));
		assert_int_equal(fsync(bench.fd), 0);
		assert_int_equal(request(VIRTIO_BLK_T_OUT, 3, DATA, 8192), VIRTIO_BLK_S_OK);
		if (modes[i] == VENEER_CACHE_DIRECTSYNC)
			assert_int_equal(dirty_pages(), 0);
		clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 5, 2, 0);
		if (modes[i] == VENEER_CACHE_DIRECTSYNC)
			assert_int_equal(dirty_pages(), 0);
		assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(dirty_pages(), 0);
		detach();
	}
	close(loop.fd);
}

// Of a part that is detected, too.
static void zeroes_in_parts_of_blocks(void **state)
{
	(void)state;
	need_holes();
	struct loop loop = make_loop(4096);
	attach(&(struct veneer_disk){.path = loop.path,
		.cache = VENEER_CACHE_NONE,
		.block_size = 512,
		.detect_zeroes = VENEER_DETECT_ZEROES_UNMAP});
	drive(mmio_features(&bench.bus));
	memset(data_at(DATA, 8192), 0, 8192);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 1, DATA, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 8, DATA, 8192), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 25, DATA, 8192), VIRTIO_BLK_S_OK);
	assert_words(0, 512);
	assert_file(512, 0, 512);
	assert_words(1024, 3072);
	assert_file(4096, 0, 8192);
	assert_words(12288, 512);
	assert_file(12800, 0, 8192);
	assert_words(20992, 8192);
	detach();
	close(loop.fd);
}

// A block size that was asked for, and what it asks of the disk.
static void block_sizes(void **state)
{
	(void)state;
	struct veneer_disk disk = {.path = bench.path, .block_size = 4096};
	attach(&disk);
	assert_int_equal(read_config().blk_size, 4096);
	assert_int_equal(read_config().physical_block_exp, 0);
	drive(mmio_features(&bench.bus));
	assert_int_equal(request(VIRTIO_BLK_T_IN, 8, DATA, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 9, DATA, 512), VIRTIO_BLK_S_OK);
	assert_original(data_at(DATA, 512), 4608, 512);
	detach();
	assert_int_equal(ftruncate(bench.fd, DISK_SIZE + 512), 0);
	assert_refused(&disk, -EINVAL,
		"its size, 4194816 bytes, is not a multiple of its block size, 4096");
}

// Garbage requests: chains of any shape, headers of any type, buffers anywhere, in RAM and out of
// it. Whatever the device makes of them, it works after a reset.
static uint64_t fuzz_state;

static unsigned fuzz(unsigned bound)
{
	fuzz_state = fuzz_state * 6364136223846793005 + 1442695040888963407;
	return (unsigned)(fuzz_state >> 33) % bound;
}

// Three descriptors in a row are often a request: header, data, status.
static void put_garbage(void)
{
	static const uint32_t sizes[] = {1, 8, 17, 512, 513, 4096, 65536, 1u << 22, 0};
	static const uint32_t types[] = {0, 1, 0, 1, 4, 8, 99, 11, 13};
	static const uint32_t likely_sizes[] = {16, 4096, 1};
	static const uint16_t likely_flags[] = {RING_NEXT, RING_NEXT | RING_WRITE, RING_WRITE};
	for (unsigned i = 0; i < 33; i++) {
		uint64_t at = DATA + 4096ull * fuzz(64);
		put_header(at, types[fuzz(9)], fuzz(16) ? fuzz(SECTORS) : fuzz_state);
		struct ring_desc desc = {.addr = at,
			.len = likely_sizes[i % 3],
			.flags = likely_flags[i % 3],
			.next = (uint16_t)(i + 1)};
		if (fuzz(8) == 0)
			desc.len = sizes[fuzz(9)];
		if (fuzz(8) == 0)
			desc.flags = (uint16_t)fuzz(8);
		if (fuzz(16) == 0)
			desc.next = (uint16_t)fuzz(fuzz(4) ? 33 : 65536);
		if (fuzz(64) == 0)
			desc.addr = fuzz_state;
		ring_table(&bench.memory, fuzz(4) ? bench.ring.desc : DATA, i, desc);
	}
}

static void garbage_requests(void **state)
{
	(void)state;
	uint64_t features = mmio_features(&bench.bus);
	unsigned broken = 0, used = 0;
	fuzz_state = 20240229;
	for (unsigned round = 0; round < 3000; round++) {
		mmio_negotiate(&bench.bus, features);
		ring_init(&bench.ring, &bench.memory, RINGS, SIZE);
		put_garbage();
		mmio_queue(&bench.bus, 0, &bench.ring);
		for (unsigned i = fuzz(16); i > 0; i--)
			ring_offer(&bench.ring, fuzz(64) ? 3 * fuzz(11) : fuzz(65536));
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING); // serves the ring once
		broken += (mmio_get(&bench.bus, VIRTIO_MMIO_STATUS) &
				  VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		used += ring_used_index(&bench.ring) != 0;
	}
	assert_true(broken > 300); // the garbage was of the right mixture
	assert_true(used > 300);
	fill_file();
	drive(features);
	write_and_flush();
}

// Another vCPU that accesses registers without regard for what this one does, also resets.
static atomic_bool meddling;

static void *meddle(void *arg)
{
	(void)arg;
	for (unsigned i = 0; atomic_load(&meddling); i++) {
		notify();
		mmio_get(&bench.bus, VIRTIO_MMIO_STATUS);
		mmio_get(&bench.bus, VIRTIO_MMIO_CONFIG);
		mmio_set(&bench.bus, VIRTIO_MMIO_INTERRUPT_ACK, 3);
		mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_READY, i % 2);
		if (i % 16 == 0)
			mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
	}
	return NULL;
}

static void two_vcpus_at_one_device(void **state)
{
	(void)state;
	pthread_t thread;
	uint64_t features = mmio_features(&bench.bus);
	atomic_store(&meddling, true);
	assert_int_equal(pthread_create(&thread, NULL, meddle, NULL), 0);
	for (unsigned round = 0; round < 300; round++) {
		mmio_negotiate(&bench.bus, features);
		ring_init(&bench.ring, &bench.memory, RINGS + 65536 * (round % 8), SIZE);
		mmio_queue(&bench.bus, 0, &bench.ring);
		for (unsigned i = 0; i < 8; i++) {
			prepare(3 * i, i % 2, 8 * i, DATA + 4096ull * i, 4096);
			ring_offer(&bench.ring, 3 * i);
		}
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
		notify();
		usleep(50);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
	}
	atomic_store(&meddling, false);
	pthread_join(thread, NULL);
	fill_file();
	drive(features);
	write_and_flush();
}

static void opening_fails_in_words(void **state)
{
	(void)state;
	assert_refused(&(struct veneer_disk){.path = "no/such/file"}, -ENOENT,
		"disk no/such/file: No such file or directory");
	assert_refused(&(struct veneer_disk){.path = "."}, -EISDIR, "is a directory");
	assert_refused(
		&(struct veneer_disk){.path = ".", .readonly = true}, -EISDIR, "is a directory");
	assert_refused(&(struct veneer_disk){.path = "/dev/null"}, -EINVAL,
		"is neither a file nor a block device");
	struct veneer_disk disk = {.path = bench.path};
	disk.iopoll = true;
	assert_refused(&disk, -EINVAL, "iopoll=on is for cache=none and cache=directsync");
	disk.iopoll = false;
	disk.readonly = true;
	disk.detect_zeroes = VENEER_DETECT_ZEROES_ON;
	assert_refused(&disk, -EOPNOTSUPP, "detect-zeroes: it is read-only");
	disk = (struct veneer_disk){.path = bench.path};
	assert_int_equal(ftruncate(bench.fd, 0), 0);
	assert_refused(&disk, -EINVAL, "is empty");
	assert_int_equal(ftruncate(bench.fd, 1000), 0);
	assert_refused(&disk, -EINVAL, "its size, 1000 bytes, is not a multiple of 512");
	disk.cache = VENEER_CACHE_NONE;
	assert_refused(&disk, -EINVAL, "its size, 1000 bytes, is not a multiple of 512");
}

static void fifos_are_not_waited_for(void **state)
{
	(void)state;
	assert_int_equal(unlink(bench.path), 0);
	assert_int_equal(mkfifo(bench.path, 0600), 0);
	struct veneer_disk disk = {.path = bench.path, .readonly = true};
	assert_refused(&disk, -EINVAL, "is neither a file nor a block device");
}

// What is said, behind the reason, of a file that this user may not write to. Root may to any, so
// it is somebody else meanwhile.
static const char *permission_failure(void)
{
	static struct veneer_error error;
	struct veneer_disk disk = {.path = bench.path};
	struct vn_virtio_device *device;
	bool root = geteuid() == 0;
	if (root)
		assert_int_equal(seteuid(65534), 0);
	int code = vn_blk_create(&device, "blk0", &disk, &bench.memory, &bench.log, NULL, &error);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(code, -EACCES);
	const char *reason = strstr(error.message, "Permission denied");
	assert_non_null(reason);
	return reason + strlen("Permission denied");
}

static void files_without_permission_are_refused(void **state)
{
	(void)state;
	// That helps only where it may be read.
	assert_int_equal(chmod(bench.path, 0444), 0);
	assert_string_equal(permission_failure(), "; add readonly if it is to be read only");
	assert_int_equal(chmod(bench.path, 0), 0);
	assert_string_equal(permission_failure(), "");
}

// What files in other formats begin or end with.
static void images_are_refused(void **state)
{
	(void)state;
	struct veneer_disk disk = {.path = bench.path};
	struct vn_virtio_device *device;
	struct veneer_error error = {""};
	char line[256];
	snprintf(line, sizeof(line),
		"is a qcow2 image, %s'qemu-img convert -f qcow2 -O raw %s NEW'%s",
		"not a raw disk: convert it with ", bench.path, ", or add format=raw if");
	assert_int_equal(pwrite(bench.fd, "QFI\xfb\0\0\0\3", 8, 0), 8);
	assert_refused(&disk, -EINVAL, line);
	assert_int_equal(ftruncate(bench.fd, 196616), 0); // as large as an empty one
	assert_refused(&disk, -EINVAL, "is a qcow2 image");
	assert_int_equal(ftruncate(bench.fd, 0), 0); // a fixed VHD: a disk, and this
	assert_int_equal(pwrite(bench.fd, "conectix", 8, MIB), 8);
	assert_int_equal(ftruncate(bench.fd, MIB + 512), 0);
	assert_refused(&disk, -EINVAL, "is a VHD image");
	disk.raw = true;
	if (vn_blk_create(&device, "blk0", &disk, &bench.memory, &bench.log, NULL, &error) < 0)
		fail_msg("%s", error.message);
	vn_blk_destroy(device);
}

static void files_are_locked(void **state)
{
	(void)state;
	struct veneer_disk writer = {.path = bench.path};
	struct veneer_disk reader = {.path = bench.path, .readonly = true};
	struct vn_virtio_device *first, *second;
	struct veneer_error error;
	assert_int_equal(
		vn_blk_create(&first, "blk0", &writer, &bench.memory, &bench.log, NULL, &error), 0);
	assert_refused(&writer, -EBUSY, "is in use");
	assert_refused(&reader, -EBUSY, "is in use");
	vn_blk_destroy(first);
	assert_int_equal(
		vn_blk_create(&first, "blk0", &reader, &bench.memory, &bench.log, NULL, &error), 0);
	assert_int_equal(
		vn_blk_create(&second, "blk1", &reader, &bench.memory, &bench.log, NULL, &error),
		0);
	assert_refused(&writer, -EBUSY, "is in use");
	vn_blk_destroy(second);
	vn_blk_destroy(first);
}

// Several queues, each with a driver's thread of its own and a part of the disk that no other one
// touches: batches of writes, discards and zeroes, read back at once. cmocka's assertions belong to
// the main thread, so what goes wrong is counted.
#define QUEUES      4
#define BATCH       32
#define CHUNK       4096
#define PART        (BATCH * CHUNK)
#define RANGES(w)   (DATA - 65536 * (uint64_t)(QUEUES - (w)->index))
#define BUFFER(w)   (DATA + 2 * PART * (uint64_t)(w)->index)
#define REQUESTS(w) (HEADERS + 65536 * (uint64_t)(w)->index)

struct worker {
	unsigned index;
	struct ring ring;
	unsigned wrong;
	uint64_t done;
	pthread_t thread;
};

static struct worker workers[QUEUES];
static bool host_can_clear;

static void put_at(struct worker *worker, unsigned i, uint32_t type, uint64_t sector, uint32_t size)
{
	uint64_t header = REQUESTS(worker) + 64ull * i;
	uint64_t data = BUFFER(worker) + (type == VIRTIO_BLK_T_IN ? PART : 0) + CHUNK * (uint64_t)i;
	if (type == VIRTIO_BLK_T_WRITE_ZEROES) {
		struct virtio_blk_discard_write_zeroes range = {sector, size / 512, i % 2};
		data = RANGES(worker) + 16ull * i;
		size = sizeof(range);
		memcpy(data_at(data, size), &range, size);
	}
	put_header(header, type, sector);
	*data_at(header + 32, 1) = NO_STATUS;
	uint16_t write = type == VIRTIO_BLK_T_IN ? RING_WRITE : 0;
	ring_desc(&worker->ring, 3 * i, header, 16, RING_NEXT, 3 * i + 1);
	ring_desc(&worker->ring, 3 * i + 1, data, size, RING_NEXT | write, 3 * i + 2);
	ring_desc(&worker->ring, 3 * i + 2, header + 32, 1, RING_WRITE, 0);
	ring_offer(&worker->ring, 3 * i);
}

static void put_request(struct worker *worker, unsigned i, uint32_t type)
{
	put_at(worker, i, type, (worker->index * (uint64_t)PART + i * (uint64_t)CHUNK) / 512,
		CHUNK);
}

// Every fourth sector.
static void put_part(struct worker *worker, unsigned i, uint32_t type)
{
	put_at(worker, i, type, i * QUEUES + worker->index, 512);
}

static void await_batch(struct worker *worker)
{
	uint32_t id, len;
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, worker->index);
	unsigned got = 0;
	for (unsigned i = 0; i < 100000 && got < BATCH; i++) {
		while (got < BATCH && ring_take(&worker->ring, &id, &len)) {
			uint64_t header = REQUESTS(worker) + 64ull * (id / 3);
			worker->wrong += *data_at(header + 32, 1) != VIRTIO_BLK_S_OK;
			got++;
		}
		if (got < BATCH)
			usleep(100);
	}
	worker->wrong += BATCH - got;
	worker->done += got;
}

static void batch(struct worker *worker, uint32_t type)
{
	for (unsigned i = 0; i < BATCH; i++)
		put_request(worker, i, type);
	await_batch(worker);
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	uint8_t *written = data_at(BUFFER(worker), PART);
	uint8_t *got = data_at(BUFFER(worker) + PART, PART);
	for (unsigned round = 0; round < 30 && !worker->wrong; round++) {
		memset(written, (int)(round * QUEUES + worker->index + 1), PART);
		batch(worker, VIRTIO_BLK_T_OUT);
		memset(got, 0, PART);
		batch(worker, VIRTIO_BLK_T_IN);
		worker->wrong += memcmp(written, got, PART) != 0;
		if (round % 3 == 0 && host_can_clear) {
			batch(worker, VIRTIO_BLK_T_WRITE_ZEROES);
			batch(worker, VIRTIO_BLK_T_IN);
			memset(written, 0, PART);
			worker->wrong += memcmp(written, got, PART) != 0;
		}
	}
	return NULL;
}

static void *one_batch(void *arg)
{
	batch(arg, VIRTIO_BLK_T_IN);
	return NULL;
}

static void drive_queues(void)
{
	assert_int_equal(mmio_negotiate(&bench.bus, mmio_features(&bench.bus)), MMIO_NEGOTIATED);
	for (unsigned i = 0; i < QUEUES; i++) {
		workers[i] = (struct worker){.index = i};
		ring_init(&workers[i].ring, &bench.memory, RINGS + 65536 * i, SIZE);
		mmio_queue(&bench.bus, i, &workers[i].ring);
	}
	mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, MMIO_RUNNING);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), MMIO_RUNNING);
}

static void start_workers(void)
{
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
}

static void open_queues(enum veneer_cache cache)
{
	attach(&(struct veneer_disk){.path = bench.path, .cache = cache, .queues = QUEUES});
	host_can_clear = mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
}

static void four_queues_at_once(void **state)
{
	(void)state;
	open_queues(VENEER_CACHE_WRITEBACK);
	assert_true(mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_MQ));
	assert_int_equal(read_config().num_queues, QUEUES);
	mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_SEL, QUEUES);
	assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	drive_queues();
	start_workers();
	for (unsigned i = 0; i < 20; i++) {
		resize(DISK_SIZE + i % 2 * MIB); // meanwhile
		usleep(1000);
	}
	for (unsigned i = 0; i < QUEUES; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i < QUEUES; i++) {
		assert_int_equal(workers[i].wrong, 0);
		assert_true(workers[i].done >= 60 * BATCH);
	}
	assert_int_equal(warnings(), 0);
	detach();
}

// One queue taken back while the others work, and started again.
static void one_queue_of_four_stops(void **state)
{
	(void)state;
	open_queues(VENEER_CACHE_NONE);
	drive_queues();
	workers[0].wrong = 1; // it has nothing to do
	start_workers();
	pthread_join(workers[0].thread, NULL);
	for (unsigned i = 0; i < 20; i++) {
		workers[0].wrong = 0;
		batch(&workers[0], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[0].wrong, 0);
		mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_SEL, 0);
		mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_READY, 0);
		ring_init(&workers[0].ring, &bench.memory, RINGS, SIZE);
		mmio_queue(&bench.bus, 0, &workers[0].ring);
	}
	for (unsigned i = 1; i < QUEUES; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong, 0);
	}
	detach();
}

// A reset takes back all queues, with requests in flight in each.
static void a_reset_of_four_queues(void **state)
{
	(void)state;
	open_queues(VENEER_CACHE_DIRECTSYNC);
	for (unsigned round = 0; round < 20; round++) {
		drive_queues();
		for (unsigned i = 0; i < QUEUES; i++) {
			for (unsigned k = 0; k < BATCH; k++)
				put_request(
					&workers[i], k, k % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
			mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, i);
		}
		usleep(round * 50);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
		for (unsigned i = 0; i < QUEUES; i++) {
			uint16_t before = ring_used_index(&workers[i].ring);
			usleep(100);
			assert_int_equal(ring_used_index(&workers[i].ring), before);
		}
	}
	drive_queues();
	for (unsigned i = 0; i < QUEUES; i++) {
		batch(&workers[i], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[i].wrong, 0);
	}
	detach();
}

// On a device of 4096-byte blocks, all queues write and clear sectors of the same blocks, each its
// own ones.
static void *work_in_parts(void *arg)
{
	struct worker *worker = arg;
	uint8_t *data = data_at(BUFFER(worker), PART);
	for (unsigned round = 0; round < 20 && !worker->wrong; round++) {
		bool clears = host_can_clear && round % 4 == worker->index;
		memset(data, (int)(round * QUEUES + worker->index + 1), PART);
		for (unsigned i = 0; i < BATCH; i++)
			put_part(worker, i, clears ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_OUT);
		await_batch(worker);
		if (clears)
			memset(data, 0, PART);
		for (unsigned i = 0; i < BATCH; i++)
			put_part(worker, i, VIRTIO_BLK_T_IN);
		await_batch(worker);
		for (unsigned i = 0; i < BATCH; i++)
			worker->wrong +=
				memcmp(data + CHUNK * i, data + PART + CHUNK * i, 512) != 0;
	}
	return NULL;
}

static void open_parts(const struct loop *loop, enum veneer_cache cache, bool sqpoll)
{
	attach(&(struct veneer_disk){.path = loop->path,
		.cache = cache,
		.queues = QUEUES,
		.block_size = 512,
		.sqpoll = sqpoll});
	host_can_clear = mmio_features(&bench.bus) & FEATURE(VIRTIO_BLK_F_WRITE_ZEROES);
	drive_queues();
}

static void four_queues_in_the_same_blocks(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	static const enum veneer_cache modes[] = {
		VENEER_CACHE_NONE, VENEER_CACHE_DIRECTSYNC, VENEER_CACHE_NONE};
	for (unsigned mode = 0; mode < 3; mode++) {
		open_parts(&loop, modes[mode], mode == 2);
		for (unsigned i = 0; i < QUEUES; i++)
			assert_int_equal(pthread_create(&workers[i].thread, NULL, work_in_parts,
						 &workers[i]),
				0);
		for (unsigned i = 0; i < QUEUES; i++) {
			pthread_join(workers[i].thread, NULL);
			assert_int_equal(workers[i].wrong, 0);
			assert_int_equal(workers[i].done, 40 * BATCH);
		}
		assert_words(BATCH * QUEUES * 512, MIB); // and nothing behind
		detach();
	}
	close(loop.fd);
}

// One queue writes whole blocks while another one writes a sector in each of them: whichever is
// last there, the rest of the block is the first one's.
static void whole_blocks_and_parts_of_them(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	open_parts(&loop, VENEER_CACHE_NONE, false);
	uint8_t *blocks = data_at(BUFFER(&workers[0]), PART);
	uint8_t *got = data_at(BUFFER(&workers[0]) + PART, PART);
	for (unsigned round = 0; round < 100; round++) {
		memset(blocks, (int)round, PART);
		memset(data_at(BUFFER(&workers[1]), PART), 0xff, PART);
		for (unsigned i = 0; i < BATCH; i++) {
			put_request(&workers[0], i, VIRTIO_BLK_T_OUT);
			put_at(&workers[1], i, VIRTIO_BLK_T_OUT, 8 * i + 3, 512);
		}
		mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, round % 2);
		await_batch(&workers[!(round % 2)]);
		await_batch(&workers[round % 2]);
		batch(&workers[0], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[0].wrong + workers[1].wrong, 0);
		for (unsigned i = 0; i < PART; i++)
			if (i / 512 % 8 != 3)
				assert_int_equal(got[i], round);
	}
	detach();
	close(loop.fd);
}

// A reset while writes wait for blocks and buffers.
static void a_reset_in_the_same_blocks(void **state)
{
	(void)state;
	struct loop loop = make_loop(4096);
	open_parts(&loop, VENEER_CACHE_NONE, false);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < QUEUES; i++) {
			for (unsigned k = 0; k < BATCH; k++)
				put_at(&workers[i], k, VIRTIO_BLK_T_OUT, (i + k) % 8, 512);
			mmio_set(&bench.bus, VIRTIO_MMIO_QUEUE_NOTIFY, i);
		}
		usleep(round * 50);
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(mmio_get(&bench.bus, VIRTIO_MMIO_STATUS), 0);
		drive_queues();
	}
	for (unsigned i = 0; i < QUEUES; i++) {
		batch(&workers[i], VIRTIO_BLK_T_IN);
		assert_int_equal(workers[i].wrong, 0);
	}
	detach();
	close(loop.fd);
}

// Four queues at once have what one would have, to the request.
static void four_queues_share_a_limit(void **state)
{
	(void)state;
	attach(&(struct veneer_disk){
		.path = bench.path, .queues = QUEUES, .iops = 1000, .iops_burst = 8});
	drive_queues();
	uint64_t begin = now_ns();
	for (unsigned i = 0; i < QUEUES; i++)
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, one_batch, &workers[i]), 0);
	for (unsigned i = 0; i < QUEUES; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].wrong, 0);
	}
	assert_true(now_ns() - begin >= (QUEUES * BATCH - 8) * 1000000ull);
	detach();
}

static void kernel_threads_submit_for_four_queues(void **state)
{
	(void)state;
	attach(&(struct veneer_disk){
		.path = bench.path, .cache = VENEER_CACHE_NONE, .queues = QUEUES, .sqpoll = true});
	for (unsigned round = 0; round < 5; round++) {
		drive_queues();
		for (unsigned i = 0; i < QUEUES; i++) {
			batch(&workers[i], VIRTIO_BLK_T_OUT);
			batch(&workers[i], VIRTIO_BLK_T_IN);
			assert_int_equal(workers[i].wrong, 0);
		}
		mmio_set(&bench.bus, VIRTIO_MMIO_STATUS, 0);
	}
	detach();
}

static void too_many_queues(void **state)
{
	(void)state;
	struct veneer_disk disk = {.path = bench.path, .queues = VENEER_QUEUES_MAX + 1};
	assert_refused(&disk, -EINVAL, "17 queues: must be 1 to 16");
	disk.queues = VENEER_QUEUES_MAX;
	attach(&disk);
	assert_int_equal(read_config().num_queues, VENEER_QUEUES_MAX);
	drive(mmio_features(&bench.bus) & ~FEATURE(VIRTIO_BLK_F_MQ)); // one will do
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, DATA, 4096), VIRTIO_BLK_S_OK);
	detach();
}

#define IN_MEMORY_FILE(name) cmocka_unit_test_setup_teardown(name, make_file_in_memory, remove_file)
#define WITH_FILE(name)      cmocka_unit_test_setup_teardown(name, make_file, remove_file)
#define IN_MEMORY(name)      cmocka_unit_test_setup_teardown(name, open_in_memory, close_disk)
#define WITH_DISK(name)      cmocka_unit_test_setup_teardown(name, open_writeback, close_disk)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DISK(describes_itself),
		WITH_DISK(describes_its_topology),
		WITH_DISK(reads),
		WITH_DISK(writes),
		WITH_FILE(writes_without_cache),
		WITH_FILE(writes_through),
		WITH_FILE(writes_unsafely),
		WITH_DISK(writes_for_a_driver_without_flush),
		WITH_FILE(what_is_on_the_disk),
		WITH_FILE(what_an_unsafe_disk_keeps_back),
		WITH_FILE(unaligned_memory_without_cache),
		WITH_FILE(every_alignment_without_cache),
		WITH_FILE(memory_that_cannot_be_registered),
		WITH_DISK(gives_its_id),
		WITH_FILE(gives_an_id_of_twenty_bytes),
		WITH_DISK(refuses_unknown_requests),
		WITH_FILE(read_only_disks_take_no_writes),
		WITH_DISK(refuses_what_is_beyond_the_end),
		WITH_DISK(refuses_parts_of_sectors),
		WITH_DISK(takes_any_framing_of_a_write),
		WITH_DISK(takes_any_framing_of_a_read),
		WITH_DISK(takes_as_many_segments_as_it_says),
		WITH_DISK(chains_without_header_or_status_break_the_queue),
		WITH_DISK(a_broken_queue_works_after_a_reset),
		WITH_DISK(rings_outside_ram_break_the_queue),
		WITH_DISK(a_file_that_became_shorter),
		WITH_FILE(a_direct_file_that_became_shorter),
		WITH_DISK(a_host_that_takes_no_more),
		WITH_FILE(polled_queues_need_fewer_notifications),
		WITH_FILE(idle_queues_ask_for_notifications),
		WITH_FILE(a_kernel_thread_submits),
		WITH_DISK(a_full_queue),
		WITH_DISK(a_queue_full_of_short_requests),
		WITH_DISK(counts_requests),
		WITH_FILE(a_reset_with_requests_in_flight),
		WITH_FILE(a_reset_between_ranges),
		WITH_FILE(a_reset_under_endless_requests),
		WITH_FILE(the_end_with_requests_in_flight),
		WITH_DISK(discards_free_blocks),
		WITH_DISK(writes_zeroes),
		IN_MEMORY(discards_free_blocks),
		IN_MEMORY(writes_zeroes),
		WITH_FILE(clears_in_every_cache_mode),
		WITH_FILE(zeroes_are_detected),
		IN_MEMORY_FILE(zeroes_are_detected),
		WITH_FILE(detected_zeroes_are_as_stable_as_writes),
		WITH_FILE(limits_are_kept),
		WITH_FILE(a_reset_while_held_back),
		WITH_FILE(a_block_device),
		WITH_FILE(parts_of_blocks),
		WITH_FILE(parts_on_the_disk),
		WITH_FILE(zeroes_in_parts_of_blocks),
		WITH_FILE(block_sizes),
		WITH_DISK(judges_every_range),
		WITH_DISK(bounds_each_range),
		WITH_DISK(clears_only_what_was_negotiated),
		WITH_DISK(a_new_size_is_told),
		WITH_DISK(a_bad_size_changes_nothing),
		WITH_DISK(a_size_that_keeps_changing),
		WITH_FILE(four_queues_at_once),
		WITH_FILE(one_queue_of_four_stops),
		WITH_FILE(a_reset_of_four_queues),
		WITH_FILE(four_queues_in_the_same_blocks),
		WITH_FILE(whole_blocks_and_parts_of_them),
		WITH_FILE(a_reset_in_the_same_blocks),
		WITH_FILE(four_queues_share_a_limit),
		WITH_FILE(kernel_threads_submit_for_four_queues),
		WITH_FILE(too_many_queues),
		WITH_DISK(garbage_requests),
		WITH_DISK(two_vcpus_at_one_device),
		WITH_FILE(opening_fails_in_words),
		WITH_FILE(fifos_are_not_waited_for),
		WITH_FILE(files_without_permission_are_refused),
		WITH_FILE(images_are_refused),
		WITH_FILE(files_are_locked),
	};
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, make_bench, destroy_bench);
}
