// SPDX-License-Identifier: Apache-2.0
//
// What the file backend does after answers that a file system gives seldom: interruptions,
// refusals, a part of what was asked for. Every operation is carried out by io_uring on a real
// file; what the backend is then told of it, is the test's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macros.h"
#include "devices/blk/file.h"

#define FILE_SIZE (64 * KIB)
#define OFFSET    8192u // of every range
#define SIZE      16384u // of every range
#define TRUTH     INT32_MAX // among the answers: what the kernel said
#define END       INT32_MIN // after the answers

struct bench {
	struct vn_ioloop *loop;
	struct vn_blk_backend *backend;
	struct vn_blk_channel *channel;
	char path[32];
	int fd; // the file, for the test's own looks at it
	unsigned char before[FILE_SIZE];
	void *allocated; // aligned for O_DIRECT: SIZE bytes and a block beyond
	unsigned char *memory; // where operations begin in that
};

static struct bench bench;

// One operation, on its way through the backend. The loop's thread has it until it is done.
struct operation {
	struct vn_blk_io io;
	struct iovec iov[2];
	const int32_t *answers; // what is still to be told
	void (*complete)(struct vn_ioloop_op *op, int result, uint32_t flags); // the backend's
	unsigned steps;
	bool done;
	int code;
	const char *reason;
};

static struct operation *from_io(struct vn_blk_io *io)
{
	return (struct operation *)((char *)io - offsetof(struct operation, io));
}

static void done(struct vn_blk_io *io, int code, const char *reason)
{
	struct operation *operation = from_io(io);
	operation->done = true;
	operation->code = code;
	operation->reason = reason;
}

static bool is_done(void *arg)
{
	const struct operation *operation = arg;
	return operation->done;
}

static void tell(struct vn_ioloop_op *op, int result, uint32_t flags);

static void intercept(struct operation *operation)
{
	operation->complete = operation->io.op.complete;
	operation->io.op.complete = tell;
}

static void tell(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	struct operation *operation =
		(struct operation *)((char *)op - offsetof(struct operation, io.op));
	int32_t answer = *operation->answers == END ? TRUTH : *operation->answers++;
	operation->steps++;
	op->complete = operation->complete;
	op->complete(op, answer == TRUTH ? result : answer, flags);
	if (!operation->done)
		intercept(operation);
}

static void carry_out(void *arg)
{
	struct operation *operation = arg;
	bench.backend->ops->submit(bench.channel, &operation->io);
	if (!operation->done)
		intercept(operation);
	vn_ioloop_run_until(bench.loop, is_done, operation);
}

// Carry out `operation`, whose kind is set, on the range, with these answers. All must be used up,
// in as many steps as are expected.
static void run(struct operation *operation, const int32_t *answers, unsigned steps)
{
	operation->io.iov = operation->iov;
	operation->io.iov_count = 2;
	operation->iov[0] = (struct iovec){bench.memory, SIZE / 4};
	operation->iov[1] = (struct iovec){bench.memory + SIZE / 4, SIZE - SIZE / 4};
	operation->io.offset = OFFSET;
	operation->io.size = SIZE;
	operation->io.done = done;
	operation->answers = answers;
	vn_ioloop_call(bench.loop, carry_out, operation);
	assert_int_equal(operation->steps, steps);
	assert_int_equal(*operation->answers, END);
}

static void attach(void *arg)
{
	int *code = arg;
	*code = bench.backend->ops->attach(bench.backend, bench.loop, &bench.channel);
}

static void detach(void *arg)
{
	(void)arg;
	bench.backend->ops->detach(bench.channel);
}

static int open_bench(enum vn_blk_cache cache)
{
	struct veneer_error error = {.code = 0};
	struct vn_blk_options disk = {.path = {.name = bench.path, .fd = -1}, .cache = cache};
	struct vn_log log = {NULL, NULL};
	int code;
	strcpy(bench.path, "blk-file-XXXXXX");
	bench.fd = mkstemp(bench.path);
	assert_true(bench.fd >= 0);
	for (unsigned i = 0; i < FILE_SIZE; i++)
		bench.before[i] = (unsigned char)(i / 512 + 1);
	assert_int_equal(pwrite(bench.fd, bench.before, FILE_SIZE, 0), FILE_SIZE);
	assert_int_equal(posix_memalign(&bench.allocated, 4096, SIZE + 4096), 0);
	bench.memory = bench.allocated;
	memset(bench.memory, 0xaa, SIZE + 4096);
	if (vn_blk_file_open(&bench.backend, &disk, &log, &error) < 0 ||
		vn_ioloop_create(&bench.loop, "test", 8, NULL, &error) < 0)
		fail_msg("%s", error.message);
	vn_ioloop_call(bench.loop, attach, &code);
	return code;
}

static int open_cached(void **state)
{
	(void)state;
	return open_bench(VN_BLK_CACHE_WRITEBACK);
}

static int open_direct(void **state)
{
	(void)state;
	return open_bench(VN_BLK_CACHE_NONE);
}

static int close_bench(void **state)
{
	(void)state;
	vn_ioloop_call(bench.loop, detach, NULL);
	vn_ioloop_destroy(bench.loop);
	bench.backend->ops->destroy(bench.backend);
	free(bench.allocated);
	close(bench.fd);
	return unlink(bench.path);
}

// The file has this in the range, and around it what it had.
static void assert_range(const void *data)
{
	unsigned char now[FILE_SIZE], expected[FILE_SIZE];
	memcpy(expected, bench.before, FILE_SIZE);
	memcpy(expected + OFFSET, data, SIZE);
	assert_int_equal(pread(bench.fd, now, FILE_SIZE, 0), FILE_SIZE);
	assert_memory_equal(now, expected, FILE_SIZE);
}

static void transfer(enum vn_blk_kind kind, const int32_t *answers, unsigned steps)
{
	struct operation operation = {.io.kind = kind};
	memset(bench.memory, 0xaa, SIZE);
	run(&operation, answers, steps);
	assert_int_equal(operation.code, 0);
	if (kind == VN_BLK_READ)
		assert_memory_equal(bench.memory, bench.before + OFFSET, SIZE);
	assert_range(kind == VN_BLK_READ ? bench.before + OFFSET : bench.memory);
}

static void goes_on(enum vn_blk_kind kind)
{
	transfer(kind, (int32_t[]){-EAGAIN, END}, 2);
	transfer(kind, (int32_t[]){-EINTR, -EAGAIN, -EAGAIN, END}, 4);
	transfer(kind, (int32_t[]){512, END}, 2);
	transfer(kind, (int32_t[]){SIZE / 4, -EAGAIN, 512, SIZE / 2, END}, 5);
}

// Again after EAGAIN and EINTR, and from where a short transfer ended: within an element of the
// vector, and at its end.
static void transfers_go_on(void **state)
{
	(void)state;
	goes_on(VN_BLK_READ);
	goes_on(VN_BLK_WRITE);
}

// The same through the bounce buffer.
static void transfers_of_unaligned_memory_go_on(void **state)
{
	(void)state;
	bench.memory += 4;
	goes_on(VN_BLK_READ);
	goes_on(VN_BLK_WRITE);
}

// What was copied into the bounce buffer after guest memory was lost may be an empty page's, and is
// not written.
static void lost_memory_is_not_written(void **state)
{
	(void)state;
	struct vn_memory memory = {.lost = 0};
	struct operation operation = {.io.kind = VN_BLK_WRITE, .io.memory = &memory};
	bench.memory += 4;
	memory.lost = 1;
	run(&operation, (int32_t[]){END}, 0);
	assert_int_equal(operation.code, -EFAULT);
	assert_range(bench.before + OFFSET);
	memory.lost = 0;
	operation = (struct operation){.io.kind = VN_BLK_WRITE, .io.memory = &memory};
	run(&operation, (int32_t[]){END}, 1);
	assert_int_equal(operation.code, 0);
	assert_range(bench.memory);
}

static void refused(enum vn_blk_kind kind, const int32_t *answers, unsigned steps, int code,
	unsigned moved, const char *reason)
{
	struct operation operation = {.io.kind = kind};
	run(&operation, answers, steps);
	assert_int_equal(operation.code, code);
	assert_int_equal(operation.io.offset, OFFSET + moved);
	if (reason)
		assert_string_equal(operation.reason, reason);
	else
		assert_null(operation.reason);
}

// An error ends the operation, and its offset is where that was.
static void transfers_end_with_an_error(void **state)
{
	(void)state;
	refused(VN_BLK_READ, (int32_t[]){-EIO, END}, 1, -EIO, 0, NULL);
	refused(VN_BLK_READ, (int32_t[]){1024, -EIO, END}, 2, -EIO, 1024, NULL);
	refused(VN_BLK_READ, (int32_t[]){1024, 0, END}, 2, -EIO, 1024,
		"the file has become shorter");
	refused(VN_BLK_WRITE, (int32_t[]){-ENOSPC, END}, 1, -ENOSPC, 0, NULL);
	refused(VN_BLK_WRITE, (int32_t[]){512, -EAGAIN, -ENOSPC, END}, 3, -ENOSPC, 512, NULL);
	refused(VN_BLK_WRITE, (int32_t[]){0, END}, 1, -EIO, 0, NULL);
}

// O_DIRECT cannot go on in the middle of a block.
static void direct_transfers_end_within_a_block(void **state)
{
	(void)state;
	refused(VN_BLK_READ, (int32_t[]){700, END}, 1, -EIO, 700, "the file has become shorter");
	refused(VN_BLK_WRITE, (int32_t[]){700, END}, 1, -EIO, 700, NULL);
}

static void flushes(void **state)
{
	(void)state;
	struct operation again = {.io.kind = VN_BLK_FLUSH};
	run(&again, (int32_t[]){-EINTR, -EAGAIN, END}, 3);
	assert_int_equal(again.code, 0);
	struct operation failed = {.io.kind = VN_BLK_FLUSH};
	run(&failed, (int32_t[]){-EIO, END}, 1);
	assert_int_equal(failed.code, -EIO);
}

static const unsigned char zeroes[SIZE];

static bool can_clear(void)
{
	if (bench.backend->zeroes)
		return true;
	print_message("# this file system punches no holes\n");
	return false;
}

static void clears(struct vn_blk_io what, const int32_t *answers, unsigned steps)
{
	struct operation operation = {.io = what};
	assert_int_equal(pwrite(bench.fd, bench.before, FILE_SIZE, 0), FILE_SIZE);
	run(&operation, answers, steps);
	assert_int_equal(operation.code, 0);
	assert_range(zeroes);
}

// Where the host does not know one way to zero a range, there is another; that a hole cannot be
// given blocks does not matter to the guest.
static void ways_to_zero(void **state)
{
	(void)state;
	if (!can_clear())
		skip();
	struct vn_blk_io zero = {.kind = VN_BLK_ZERO};
	struct vn_blk_io unmap = {.kind = VN_BLK_ZERO, .unmap = true};
	struct vn_blk_io stable = {.kind = VN_BLK_ZERO, .stable = true};
	clears(zero, (int32_t[]){-EAGAIN, -EINTR, -EOPNOTSUPP, END}, 5);
	clears(zero, (int32_t[]){-EOPNOTSUPP, -EAGAIN, TRUTH, -ENOSPC, END}, 4);
	clears(stable, (int32_t[]){-EOPNOTSUPP, TRUTH, -EOPNOTSUPP, END}, 4);
	clears(stable, (int32_t[]){TRUTH, -EAGAIN, END}, 3);
	clears(unmap, (int32_t[]){TRUTH, END}, 1);
}

static void zeroing_that_fails(void **state)
{
	(void)state;
	if (!can_clear())
		skip();
	refused(VN_BLK_DISCARD, (int32_t[]){-EOPNOTSUPP, END}, 1, -EOPNOTSUPP, 0, NULL);
	refused(VN_BLK_ZERO, (int32_t[]){-EIO, END}, 1, -EIO, 0, NULL);
	refused(VN_BLK_ZERO, (int32_t[]){-EOPNOTSUPP, -EIO, END}, 2, -EIO, 0, NULL);
	refused(VN_BLK_ZERO, (int32_t[]){-EOPNOTSUPP, -EOPNOTSUPP, END}, 2, -EOPNOTSUPP, 0, NULL);
	struct operation stable = {.io = {.kind = VN_BLK_ZERO, .stable = true}};
	run(&stable, (int32_t[]){TRUTH, -EIO, END}, 2);
	assert_int_equal(stable.code, -EIO);
}

// What a program gave, and what it then finds of it.
struct given {
	char path[32];
	int fd;
	int flags;
	unsigned warnings;
};

static void count_warning(void *opaque, enum veneer_severity severity, const char *text)
{
	struct given *given = opaque;
	if (severity == VENEER_SEVERITY_WARNING && strstr(text, "cannot be opened again"))
		given->warnings++;
}

static int give(struct given *given, int flags)
{
	strcpy(given->path, "blk-file-XXXXXX");
	int fd = mkstemp(given->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FILE_SIZE), 0);
	given->fd = open(given->path, flags | O_CLOEXEC);
	close(fd);
	given->warnings = 0;
	if (given->fd < 0)
		return -errno;
	given->flags = fcntl(given->fd, F_GETFL);
	assert_int_equal(lseek(given->fd, 4711, SEEK_SET), 4711);
	return 0;
}

static void take_back(struct given *given)
{
	assert_int_equal(fcntl(given->fd, F_GETFL), given->flags);
	assert_int_equal(lseek(given->fd, 0, SEEK_CUR), 4711);
	close(given->fd);
	unlink(given->path);
}

static int open_given(struct vn_blk_backend **backend, struct given *given, bool readonly,
	enum vn_blk_cache cache, struct veneer_error *error)
{
	const struct vn_blk_options disk = {
		.path = {.fd = given->fd}, .readonly = readonly, .cache = cache};
	const struct vn_log log = {count_warning, given};
	return vn_blk_file_open(backend, &disk, &log, error);
}

static void assert_taken(struct given *given, bool readonly, enum vn_blk_cache cache)
{
	struct vn_blk_backend *backend;
	struct veneer_error error;
	if (open_given(&backend, given, readonly, cache, &error) < 0)
		fail_msg("%s", error.message);
	backend->ops->destroy(backend);
}

static void assert_refused(
	struct given *given, bool readonly, enum vn_blk_cache cache, int code, const char *text)
{
	struct vn_blk_backend *backend;
	struct veneer_error error;
	char called[32];
	snprintf(called, sizeof(called), "disk descriptor %d: ", given->fd);
	assert_int_equal(open_given(&backend, given, readonly, cache, &error), code);
	if (strncmp(error.message, called, strlen(called)) != 0 || !strstr(error.message, text))
		fail_msg("\"%s\" is not \"%s...%s\"", error.message, called, text);
}

// Flags and locks of each guest's own, whatever the program's description has.
static void descriptors_are_opened_again(void **state)
{
	(void)state;
	struct given given;
	struct vn_blk_backend *first, *second;
	struct veneer_error error;
	assert_int_equal(give(&given, O_RDWR | O_APPEND | O_NONBLOCK), 0);
	assert_taken(&given, false, VN_BLK_CACHE_NONE);
	assert_int_equal(open_given(&first, &given, false, VN_BLK_CACHE_WRITEBACK, &error), 0);
	assert_refused(&given, false, VN_BLK_CACHE_WRITEBACK, -EBUSY, "is in use");
	assert_refused(&given, true, VN_BLK_CACHE_WRITEBACK, -EBUSY, "is in use");
	first->ops->destroy(first);
	assert_int_equal(open_given(&first, &given, true, VN_BLK_CACHE_NONE, &error), 0);
	assert_int_equal(open_given(&second, &given, true, VN_BLK_CACHE_WRITEBACK, &error), 0);
	assert_refused(&given, false, VN_BLK_CACHE_WRITEBACK, -EBUSY, "is in use");
	second->ops->destroy(second);
	first->ops->destroy(first);
	assert_int_equal(given.warnings, 0);
	take_back(&given);
}

// Opening it again gives no right that the descriptor has not.
static void descriptors_give_what_they_have(void **state)
{
	(void)state;
	struct given given;
	assert_int_equal(give(&given, O_RDONLY), 0);
	assert_refused(&given, false, VN_BLK_CACHE_WRITEBACK, -EACCES,
		"is open for reading only; open it for reading and writing, or add readonly");
	assert_taken(&given, true, VN_BLK_CACHE_WRITEBACK);
	take_back(&given);
	assert_int_equal(give(&given, O_WRONLY), 0);
	assert_refused(&given, false, VN_BLK_CACHE_WRITEBACK, -EACCES, "is not open for reading");
	assert_refused(&given, true, VN_BLK_CACHE_WRITEBACK, -EACCES, "is not open for reading");
	take_back(&given);
}

// Leave this user no permission on the file: only the descriptor is left.
static void withhold(const struct given *given)
{
	assert_int_equal(fchmod(given->fd, 0), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
}

static void permit(void)
{
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
}

// The description is used as it is, so it has to be as the disk needs it.
static void descriptors_that_cannot_be_opened_again(void **state)
{
	static const struct {
		int flags;
		bool readonly;
		enum vn_blk_cache cache;
		const char *refusal; // NULL: it is taken
	} cases[] = {
		{O_RDWR, false, VN_BLK_CACHE_WRITEBACK, NULL},
		{O_RDWR, true, VN_BLK_CACHE_WRITEBACK, NULL},
		{O_RDWR | O_APPEND, false, VN_BLK_CACHE_WRITEBACK, "with O_APPEND"},
		{O_RDWR | O_APPEND, true, VN_BLK_CACHE_WRITEBACK, NULL},
		{O_RDWR | O_NONBLOCK, false, VN_BLK_CACHE_WRITEBACK, "with O_NONBLOCK"},
		{O_WRONLY, false, VN_BLK_CACHE_WRITEBACK, "is not open for reading"},
		{O_RDWR, false, VN_BLK_CACHE_NONE, "without O_DIRECT"},
		{O_RDWR | O_DIRECT, false, VN_BLK_CACHE_WRITEBACK, "with O_DIRECT"},
		{O_RDWR | O_DIRECT, false, VN_BLK_CACHE_DIRECTSYNC, NULL},
	};
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct given given;
		if (give(&given, cases[i].flags) < 0) {
			print_message("# this file system has no O_DIRECT\n");
			unlink(given.path);
			continue;
		}
		withhold(&given);
		if (cases[i].refusal)
			assert_refused(&given, cases[i].readonly, cases[i].cache,
				cases[i].flags == O_WRONLY ? -EACCES : -EINVAL, cases[i].refusal);
		else
			assert_taken(&given, cases[i].readonly, cases[i].cache);
		permit();
		assert_int_equal(given.warnings, cases[i].refusal ? 0 : 1);
		take_back(&given);
	}
}

int main(void)
{
#define CACHED(test) cmocka_unit_test_setup_teardown(test, open_cached, close_bench)
#define DIRECT(test) cmocka_unit_test_setup_teardown(test, open_direct, close_bench)
	const struct CMUnitTest tests[] = {
		CACHED(transfers_go_on),
		CACHED(transfers_end_with_an_error),
		DIRECT(transfers_go_on),
		DIRECT(transfers_of_unaligned_memory_go_on),
		DIRECT(lost_memory_is_not_written),
		DIRECT(direct_transfers_end_within_a_block),
		CACHED(flushes),
		CACHED(ways_to_zero),
		CACHED(zeroing_that_fails),
		cmocka_unit_test(descriptors_are_opened_again),
		cmocka_unit_test(descriptors_give_what_they_have),
		cmocka_unit_test(descriptors_that_cannot_be_opened_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
