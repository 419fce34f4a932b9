// SPDX-License-Identifier: Apache-2.0
//
// Ranges that writes on several loops must not have at once: whose turn it is, and that it is one's
// alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "devices/blk/range.h"

#define LOOPS  3
#define RANGES 16 // of each loop, at once
#define ROUNDS 3000 // of each of those
#define BLOCKS 8

struct part {
	struct vn_ioloop *loop;
	struct vn_blk_loop_ranges ranges;
	int code;
};

static struct vn_blk_ranges ranges;
static struct part parts[LOOPS];

static void attach(void *arg)
{
	struct part *part = arg;
	part->code = vn_blk_ranges_attach(&ranges, &part->ranges, part->loop);
}

static void detach(void *arg)
{
	struct part *part = arg;
	vn_blk_ranges_detach(&part->ranges);
}

static int open_loops(void **state)
{
	(void)state;
	struct veneer_error error = {.code = 0};
	vn_blk_ranges_init(&ranges);
	for (unsigned i = 0; i < LOOPS; i++) {
		if (vn_ioloop_create(&parts[i].loop, "test", 8, NULL, &error) < 0)
			fail_msg("%s", error.message);
		vn_ioloop_call(parts[i].loop, attach, &parts[i]);
		assert_int_equal(parts[i].code, 0);
	}
	return 0;
}

static int close_loops(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LOOPS; i++) {
		vn_ioloop_call(parts[i].loop, detach, &parts[i]);
		vn_ioloop_destroy(parts[i].loop);
	}
	vn_blk_ranges_destroy(&ranges);
	return 0;
}

// One range, locked and unlocked on its loop by the test.
struct holder {
	struct vn_blk_range range;
	struct part *part;
	atomic_bool held;
};

static void now_held(struct vn_blk_range *range)
{
	atomic_store(&((struct holder *)range)->held, true);
}

static void lock_on_loop(void *arg)
{
	struct holder *holder = arg;
	holder->range.granted = now_held;
	if (vn_blk_ranges_lock(&holder->part->ranges, &holder->range))
		now_held(&holder->range);
}

static void unlock_on_loop(void *arg)
{
	struct holder *holder = arg;
	atomic_store(&holder->held, false);
	vn_blk_ranges_unlock(&holder->range);
}

static struct holder take(unsigned loop, uint64_t start, uint64_t end, bool exclusive)
{
	return (struct holder){.part = &parts[loop],
		.range = {.start = start, .end = end, .exclusive = exclusive}};
}

static bool lock(struct holder *holder)
{
	vn_ioloop_call(holder->part->loop, lock_on_loop, holder);
	return atomic_load(&holder->held);
}

static void unlock(struct holder *holder)
{
	vn_ioloop_call(holder->part->loop, unlock_on_loop, holder);
}

static void wait_held(struct holder *holder)
{
	for (unsigned i = 0; i < 100000 && !atomic_load(&holder->held); i++)
		usleep(100);
	assert_true(atomic_load(&holder->held));
}

static void whole_blocks_share(void **state)
{
	(void)state;
	struct holder a = take(0, 0, 8, false), b = take(1, 4, 12, false), c = take(0, 0, 8, false);
	assert_true(lock(&a) && lock(&b) && lock(&c));
	unlock(&b);
	unlock(&a);
	unlock(&c);
}

static void parts_exclude(void **state)
{
	(void)state;
	struct holder a = take(0, 4, 8, true), b = take(1, 4, 8, true), c = take(2, 4, 8, false);
	struct holder before = take(1, 0, 4, true), behind = take(2, 8, 12, false);
	assert_true(lock(&a));
	assert_false(lock(&b));
	assert_false(lock(&c));
	assert_true(lock(&before) && lock(&behind)); // they only touch
	unlock(&a);
	wait_held(&b);
	unlock(&before);
	assert_false(atomic_load(&c.held)); // it came behind b
	unlock(&b);
	wait_held(&c);
	unlock(&c);
	unlock(&behind);
}

// What comes behind one that waits waits for it, so that none waits for ever.
static void turns_are_taken(void **state)
{
	(void)state;
	struct holder a = take(0, 0, 8, false), b = take(1, 0, 4, true), c = take(0, 0, 8, false);
	struct holder d = take(2, 4, 8, false);
	assert_true(lock(&a));
	assert_false(lock(&b));
	assert_false(lock(&c));
	assert_true(lock(&d)); // beside it
	unlock(&a);
	wait_held(&b);
	assert_false(atomic_load(&c.held));
	unlock(&b);
	wait_held(&c);
	unlock(&c);
	unlock(&d);
}

// Every loop locks ranges at random, with many at once, and looks whether it has what it thinks it
// has. Each holder has put itself down in all its blocks: one that is exclusive must be the only
// one.
static atomic_int shared[BLOCKS], alone[BLOCKS];
static atomic_uint wrong, ended;

struct runner {
	struct vn_blk_range range;
	struct part *part;
	struct vn_ioloop_op op;
	uint64_t random;
	unsigned rounds;
};

static struct runner runners[LOOPS][RANGES];

static void mark(const struct vn_blk_range *range, int by)
{
	for (uint64_t i = range->start; i < range->end; i++) {
		int others = atomic_fetch_add(range->exclusive ? &alone[i] : &shared[i], by);
		if (by > 0 && range->exclusive)
			atomic_fetch_add(&wrong, others != 0 || atomic_load(&shared[i]) != 0);
		else if (by > 0)
			atomic_fetch_add(&wrong, atomic_load(&alone[i]) != 0);
	}
}

static void go(struct runner *runner);

// A turn of the loop later.
static void let_go(struct vn_ioloop_op *op, int result, uint32_t flags)
{
	(void)result;
	(void)flags;
	struct runner *runner = (struct runner *)((char *)op - offsetof(struct runner, op));
	mark(&runner->range, -1);
	vn_blk_ranges_unlock(&runner->range);
	if (--runner->rounds > 0)
		go(runner);
	else
		atomic_fetch_add(&ended, 1);
}

static void have(struct vn_blk_range *range)
{
	struct runner *runner = (struct runner *)range;
	mark(range, 1);
	runner->op.complete = let_go;
	io_uring_prep_nop(vn_ioloop_sqe(runner->part->loop, &runner->op));
}

static void go(struct runner *runner)
{
	runner->random = runner->random * 6364136223846793005 + 1442695040888963407;
	unsigned random = (unsigned)(runner->random >> 33);
	uint64_t start = random % BLOCKS;
	runner->range = (struct vn_blk_range){.start = start,
		.end = start + 1 + random / 16 % (BLOCKS - start),
		.exclusive = random / 256 % 4 == 0,
		.granted = have};
	if (vn_blk_ranges_lock(&runner->part->ranges, &runner->range))
		have(&runner->range);
}

static void start(void *arg)
{
	struct part *part = arg;
	unsigned index = (unsigned)(part - parts);
	for (unsigned i = 0; i < RANGES; i++) {
		runners[index][i] = (struct runner){
			.part = part, .random = index * RANGES + i, .rounds = ROUNDS};
		go(&runners[index][i]);
	}
}

static void many_at_once(void **state)
{
	(void)state;
	atomic_store(&ended, 0);
	for (unsigned i = 0; i < LOOPS; i++)
		vn_ioloop_call(parts[i].loop, start, &parts[i]);
	for (unsigned i = 0; i < 600000 && atomic_load(&ended) < LOOPS * RANGES; i++)
		usleep(100);
	assert_int_equal(atomic_load(&ended), LOOPS * RANGES);
	assert_int_equal(atomic_load(&wrong), 0);
	assert_int_equal(atomic_load(&ranges.exclusive), 0);
	assert_null(ranges.queue.first);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_loops, close_loops)
	const struct CMUnitTest tests[] = {
		TEST(whole_blocks_share),
		TEST(parts_exclude),
		TEST(turns_are_taken),
		TEST(many_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
