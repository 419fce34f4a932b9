// SPDX-License-Identifier: Apache-2.0
//
// The split ring against drivers of every kind: a right one, one that breaks each rule in turn, one
// that writes garbage, and one that runs on another thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/macros.h"
#include "ring.h"

#define RAM_LOW  (8 * MIB)
#define RAM_HIGH BIT64(32)
#define RINGS    MIB
#define BUFFERS  (2 * MIB)
#define SIZE     8

// RAM below the hole and RAM above it, a ring, and the queue on it.
struct bench {
	struct vn_memory memory;
	struct ring ring;
	struct vn_virtqueue vq;
	struct iovec iov[2 * SIZE];
	struct vn_chain chain;
};

static struct bench bench;

static void begin(uint16_t size, bool event_idx)
{
	struct veneer_error error;
	ring_init(&bench.ring, &bench.memory, RINGS, size);
	struct vn_virtqueue_layout layout = ring_layout(&bench.ring, event_idx, true);
	assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, &error), 0);
	bench.chain = (struct vn_chain){.iov = bench.iov, .iov_max = 2 * SIZE};
}

static int make_memory(void **state)
{
	(void)state;
	struct vn_memory_options options = {.size = 2 * RAM_LOW, .node = -1};
	struct veneer_error error;
	return vn_memory_create(&bench.memory, &options, RAM_LOW, &error);
}

static int destroy_memory(void **state)
{
	(void)state;
	vn_memory_destroy(&bench.memory);
	return 0;
}

static int begin_test(void **state)
{
	(void)state;
	begin(SIZE, true);
	return 0;
}

static uint16_t pop(void)
{
	uint16_t head = UINT16_MAX;
	assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), 1);
	return head;
}

static void assert_broken(int code, const char *reason)
{
	uint16_t head;
	assert_int_equal(code, -EPROTO);
	assert_true(vn_virtqueue_is_broken(&bench.vq));
	if (!strstr(bench.vq.broken, reason))
		fail_msg("\"%s\" does not say \"%s\"", bench.vq.broken, reason);
	// It stays so.
	assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), -EPROTO);
	assert_int_equal(vn_virtqueue_chain(&bench.vq, 0, &bench.chain), -EPROTO);
	assert_false(vn_virtqueue_enable_notify(&bench.vq));
}

// Offer the chain that starts at descriptor 0 and have it judged.
static int judge(void)
{
	ring_offer(&bench.ring, 0);
	return vn_virtqueue_chain(&bench.vq, pop(), &bench.chain);
}

static void assert_malformed(const char *reason)
{
	assert_broken(judge(), reason);
}

static void sizes_are_powers_of_two(void **state)
{
	(void)state;
	struct vn_virtqueue_layout layout = ring_layout(&bench.ring, true, true);
	static const uint16_t wrong[] = {0, 3, 6, 1023, 2048, 32768, 65535};
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		layout.size = wrong[i];
		assert_int_equal(
			vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL), -EINVAL);
	}
	layout.size = 1;
	assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL), 0);
	layout.size = VN_VIRTQUEUE_SIZE_MAX;
	assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL), 0);
}

// Each ring part: misaligned, ending with the RAM, and one byte beyond that.
static void ring_addresses_are_checked(void **state)
{
	(void)state;
	const struct vn_virtqueue_layout good = ring_layout(&bench.ring, true, true);
	static const struct {
		size_t offset;
		uint64_t align, size;
	} parts[] = {
		{offsetof(struct vn_virtqueue_layout, desc), 16, 16 * SIZE},
		{offsetof(struct vn_virtqueue_layout, avail), 2, 6 + 2 * SIZE},
		{offsetof(struct vn_virtqueue_layout, used), 4, 6 + 8 * SIZE},
	};
	for (unsigned i = 0; i < 3; i++) {
		struct vn_virtqueue_layout layout = good;
		vn_gpa *gpa = (vn_gpa *)((char *)&layout + parts[i].offset);
		uint64_t fits = (RAM_LOW - parts[i].size) & ~(parts[i].align - 1);
		const struct {
			uint64_t addr;
			int code;
		} cases[] = {
			{gpa->addr + parts[i].align / 2, -EINVAL},
			{fits, 0},
			{fits + parts[i].align, -EINVAL},
			{RAM_LOW, -EINVAL},
			{RAM_HIGH, 0},
			{RAM_HIGH + RAM_LOW, -EINVAL},
			{-parts[i].align, -EINVAL},
		};
		for (unsigned j = 0; j < ARRAY_SIZE(cases); j++) {
			gpa->addr = cases[j].addr;
			assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL),
				cases[j].code);
		}
	}
}

// Without EVENT_IDX the fields behind the rings do not exist, and need not be RAM.
static void event_fields_are_checked_only_if_negotiated(void **state)
{
	(void)state;
	struct vn_virtqueue_layout layout = ring_layout(&bench.ring, false, false);
	layout.avail = VN_GPA(RAM_LOW - 4 - 2 * SIZE);
	assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL), 0);
	layout.event_idx = true;
	assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL), -EINVAL);
}

static void an_empty_queue_has_nothing(void **state)
{
	(void)state;
	uint16_t head;
	assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), 0);
	assert_false(vn_virtqueue_publish(&bench.vq));
}

static void a_chain_is_translated(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 5, BUFFERS, 16, RING_NEXT, 2);
	ring_desc(&bench.ring, 2, RAM_HIGH, 100, RING_NEXT, 7);
	ring_desc(&bench.ring, 7, BUFFERS + 4096, 512, RING_NEXT | RING_WRITE, 0);
	ring_desc(&bench.ring, 0, RAM_LOW - 1, 1, RING_WRITE, 99);
	ring_offer(&bench.ring, 5);
	assert_int_equal(pop(), 5);
	struct vn_chain *chain = &bench.chain;
	assert_int_equal(vn_virtqueue_chain(&bench.vq, 5, chain), 0);
	assert_int_equal(chain->readable, 2);
	assert_int_equal(chain->writable, 2);
	assert_int_equal(chain->readable_size, 116);
	assert_int_equal(chain->writable_size, 513);
	static const struct {
		uint64_t addr, len;
	} want[] = {{BUFFERS, 16}, {RAM_HIGH, 100}, {BUFFERS + 4096, 512}, {RAM_LOW - 1, 1}};
	for (unsigned i = 0; i < 4; i++) {
		assert_ptr_equal(
			chain->iov[i].iov_base, ring_at(&bench.memory, want[i].addr, want[i].len));
		assert_int_equal(chain->iov[i].iov_len, want[i].len);
	}
}

// Section 2.7.5.3.2: descriptors before an indirect one are part of the chain, and the WRITE flag
// of the one that refers to the table means nothing. The table may be at any address.
static void an_indirect_table_continues_a_chain(void **state)
{
	(void)state;
	uint64_t table = BUFFERS + 4097;
	ring_desc(&bench.ring, 0, BUFFERS, 16, RING_NEXT, 3);
	ring_desc(&bench.ring, 3, table, 3 * 16, RING_INDIRECT | RING_WRITE, 0);
	ring_table(&bench.memory, table, 0, (struct ring_desc){BUFFERS, 8, RING_NEXT, 2});
	ring_table(&bench.memory, table, 2, (struct ring_desc){BUFFERS, 1, RING_WRITE, 0});
	assert_int_equal(judge(), 0);
	assert_int_equal(bench.chain.readable, 2);
	assert_int_equal(bench.chain.writable, 1);
	assert_int_equal(bench.chain.readable_size, 24);
}

static void a_chain_may_be_as_long_as_the_queue(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		ring_desc(&bench.ring, i, BUFFERS, 1, i < SIZE - 1 ? RING_NEXT : 0, i + 1);
	assert_int_equal(judge(), 0);
	assert_int_equal(bench.chain.readable, SIZE);
}

static void head_outside_the_queue(void **state)
{
	(void)state;
	uint16_t head;
	ring_offer(&bench.ring, SIZE);
	assert_broken(vn_virtqueue_pop(&bench.vq, &head), "holds head 8 in a queue of 8");
}

static void next_outside_the_queue(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 1, RING_NEXT, SIZE);
	assert_malformed("chain 0 goes on at descriptor 8 of 8");
}

static void next_outside_an_indirect_table(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 2 * 16, RING_INDIRECT, 0);
	ring_table(&bench.memory, BUFFERS, 0, (struct ring_desc){BUFFERS, 1, RING_NEXT, 2});
	assert_malformed("chain 0 goes on at descriptor 2 of 2");
}

static void loop_of_one(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 1, RING_NEXT, 0);
	assert_malformed("chain 0 loops");
}

static void loop_of_three(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		ring_desc(&bench.ring, i, BUFFERS, 1, RING_NEXT | RING_WRITE, (i + 1) % 3);
	assert_malformed("chain 0 loops");
}

static void loop_in_an_indirect_table(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 16, RING_INDIRECT, 0);
	ring_table(&bench.memory, BUFFERS, 0, (struct ring_desc){BUFFERS, 1, RING_NEXT, 0});
	assert_malformed("chain 0 loops");
}

static void chain_longer_than_the_queue(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, (SIZE + 1) * 16, RING_INDIRECT, 0);
	for (uint16_t i = 0; i <= SIZE; i++)
		ring_table(&bench.memory, BUFFERS, i,
			(struct ring_desc){BUFFERS, 1, RING_NEXT, (uint16_t)(i + 1)});
	assert_malformed("more than 8 buffers");
}

static void chain_longer_than_the_device_takes(void **state)
{
	(void)state;
	bench.chain.iov_max = 2;
	for (unsigned i = 0; i < 3; i++)
		ring_desc(&bench.ring, i, BUFFERS, 1, i < 2 ? RING_NEXT : 0, i + 1);
	assert_malformed("more than 2 buffers");
}

static void buffer_outside_ram(void **state)
{
	(void)state;
	static const struct {
		uint64_t addr;
		uint32_t len;
	} cases[] = {
		{RAM_LOW, 1}, // in the hole
		{RAM_LOW - 1, 2}, // into it
		{RAM_HIGH - 1, 2}, // out of it
		{RAM_HIGH + RAM_LOW - 1, 2}, // over the end
		{UINT64_MAX, 2}, // round the end of all addresses
		{UINT64_MAX - 4095, UINT32_MAX}, // round, and back into RAM
		{0, UINT32_MAX},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		begin(SIZE, true);
		ring_desc(&bench.ring, 0, cases[i].addr, cases[i].len, 0, 0);
		assert_malformed("chain 0 has a buffer outside RAM");
	}
}

static void empty_buffer(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 0, 0, 0);
	assert_malformed("chain 0 has an empty buffer");
}

static void readable_after_writable(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 1, RING_NEXT | RING_WRITE, 1);
	ring_desc(&bench.ring, 1, BUFFERS, 1, 0, 0);
	assert_malformed("chain 0 has a readable buffer after a writable one");
}

static void indirect_not_negotiated(void **state)
{
	(void)state;
	struct vn_virtqueue_layout layout = ring_layout(&bench.ring, true, false);
	assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL), 0);
	ring_desc(&bench.ring, 0, BUFFERS, 16, RING_INDIRECT, 0);
	assert_malformed("not negotiated");
}

static void indirect_in_indirect(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 16, RING_INDIRECT, 0);
	ring_table(&bench.memory, BUFFERS, 0, (struct ring_desc){BUFFERS, 16, RING_INDIRECT, 0});
	assert_malformed("chain 0 has an indirect table within another");
}

static void indirect_with_next(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, BUFFERS, 16, RING_INDIRECT | RING_NEXT, 1);
	assert_malformed("chain 0 goes on after its indirect table");
}

static void indirect_table_of_wrong_length(void **state)
{
	(void)state;
	static const uint32_t wrong[] = {0, 1, 15, 17, 4095, UINT32_MAX};
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		begin(SIZE, true);
		ring_desc(&bench.ring, 0, BUFFERS, wrong[i], RING_INDIRECT, 0);
		assert_malformed("chain 0 has an indirect table of");
	}
}

static void indirect_table_outside_ram(void **state)
{
	(void)state;
	ring_desc(&bench.ring, 0, RAM_LOW - 16, 32, RING_INDIRECT, 0);
	assert_malformed("chain 0 has an indirect table outside RAM");
}

// The bytes of a chain are counted in 64 bits: 8 buffers of all RAM below the hole are fine, but a
// used length is 32 bits wide, so 2^32 is the end (section 2.7.5.2).
static void chain_of_too_many_bytes(void **state)
{
	(void)state;
	struct vn_memory large = {.ram_count = 1};
	large.ram[0] = (struct vn_ram){
		.start = VN_GPA(RAM_HIGH), .size = RAM_HIGH, .host = bench.memory.host};
	bench.vq.memory = &large; // translated, never touched
	ring_desc(&bench.ring, 0, RAM_HIGH, 1u << 31, RING_NEXT, 1);
	ring_desc(&bench.ring, 1, RAM_HIGH, 1u << 31, 0, 0);
	assert_int_equal(judge(), 0);
	vn_virtqueue_push(&bench.vq, 0, 0);
	ring_desc(&bench.ring, 1, RAM_HIGH, (1u << 31) + 1, 0, 0);
	assert_malformed("chain 0 has more than 2^32 bytes");
}

static void available_index_jumps(void **state)
{
	(void)state;
	static const uint16_t jumps[] = {SIZE + 1, 1000, 32768, UINT16_MAX};
	for (unsigned i = 0; i < ARRAY_SIZE(jumps); i++) {
		uint16_t head;
		begin(SIZE, true);
		ring_set_avail_index(&bench.ring, jumps[i]);
		assert_broken(
			vn_virtqueue_pop(&bench.vq, &head), "the available index went from 0");
	}
}

static void available_index_goes_back(void **state)
{
	(void)state;
	uint16_t head;
	ring_offer(&bench.ring, 0);
	pop();
	ring_set_avail_index(&bench.ring, 0);
	assert_broken(vn_virtqueue_pop(&bench.vq, &head), "the available index went from 1 to 0");
}

static void a_full_queue_is_no_jump(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		ring_offer(&bench.ring, i);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(pop(), i);
	uint16_t head;
	assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), 0);
}

static void head_in_flight(void **state)
{
	(void)state;
	uint16_t head;
	ring_offer(&bench.ring, 3);
	pop();
	ring_offer(&bench.ring, 3);
	assert_broken(vn_virtqueue_pop(&bench.vq, &head), "head 3, which is in flight");
}

static void a_pushed_head_may_come_again(void **state)
{
	(void)state;
	uint32_t id, len;
	for (unsigned i = 0; i < 3 * 65536; i++) { // and indices wrap, several times
		ring_offer(&bench.ring, 3);
		assert_int_equal(pop(), 3);
		vn_virtqueue_push(&bench.vq, 3, i);
		assert_false(ring_take(&bench.ring, &id, &len)); // not yet shown
		vn_virtqueue_publish(&bench.vq);
		assert_true(ring_take(&bench.ring, &id, &len));
		assert_int_equal(id, 3);
		assert_int_equal(len, i);
	}
	assert_false(vn_virtqueue_is_broken(&bench.vq));
}

static void a_head_that_is_put_back_comes_again(void **state)
{
	(void)state;
	static const uint16_t heads[] = {5, 0, 3};
	for (unsigned i = 0; i < 3; i++)
		ring_offer(&bench.ring, heads[i]);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(pop(), heads[i]);
		for (unsigned i = 3; i-- > round;)
			vn_virtqueue_unpop(&bench.vq, heads[i]);
		for (unsigned i = round; i < 3; i++)
			assert_int_equal(pop(), heads[i]);
		for (unsigned i = 3; i-- > 0;)
			vn_virtqueue_unpop(&bench.vq, heads[i]);
	}
	// Entries are read again.
	ring_set(&bench.ring, bench.ring.avail + 4, 6);
	assert_int_equal(pop(), 6);
	assert_int_equal(pop(), heads[1]);
}

// As after a pause: the same rings, and a queue that is taken over where it was left.
static void take_over(uint16_t avail_next, uint16_t used_next)
{
	struct vn_virtqueue_layout layout = ring_layout(&bench.ring, true, true);
	layout.avail_next = avail_next;
	layout.used_next = used_next;
	assert_int_equal(vn_virtqueue_init(&bench.vq, &bench.memory, &layout, NULL), 0);
}

static void serve(uint16_t head)
{
	uint32_t id, len;
	ring_offer(&bench.ring, head);
	assert_int_equal(pop(), head);
	vn_virtqueue_push(&bench.vq, head, head + 1u);
	vn_virtqueue_publish(&bench.vq);
	assert_true(ring_take(&bench.ring, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, head + 1);
	assert_false(ring_take(&bench.ring, &id, &len));
}

static void a_queue_goes_on_where_it_was_left(void **state)
{
	(void)state;
	uint16_t head;
	for (unsigned i = 0; i < 3 * SIZE; i++) {
		serve((uint16_t)(i * 3 % SIZE));
		take_over(bench.vq.avail_next, bench.vq.used_next);
		assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), 0);
		assert_false(vn_virtqueue_publish(&bench.vq));
	}
	// What waits there is found, also across the end of the numbers.
	ring_set_avail_index(&bench.ring, 65534);
	ring_set(&bench.ring, bench.ring.used + 2, 65534);
	bench.ring.avail_next = bench.ring.used_next = 65534;
	for (uint16_t i = 0; i < 4; i++)
		ring_offer(&bench.ring, i);
	take_over(65534, 65534);
	for (uint16_t i = 0; i < 4; i++) {
		assert_int_equal(pop(), i);
		vn_virtqueue_push(&bench.vq, i, 0);
	}
	vn_virtqueue_publish(&bench.vq);
	assert_int_equal(ring_used_index(&bench.ring), 2);
	take_over(bench.vq.avail_next, bench.vq.used_next);
	bench.ring.used_next = 2;
	serve(7);
}

// vhost has served the queue, whose used index is known from the ring alone.
static void a_queue_comes_back_from_another(void **state)
{
	(void)state;
	uint16_t head;
	serve(1);
	ring_offer(&bench.ring, 2);
	ring_offer(&bench.ring, 4);
	ring_offer(&bench.ring, 6);
	ring_set(&bench.ring, bench.ring.used + 2, 3);
	bench.ring.used_next = 3;
	vn_virtqueue_advance(&bench.vq, 3);
	assert_int_equal(pop(), 6);
	assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), 0);
	vn_virtqueue_push(&bench.vq, 6, 0);
	vn_virtqueue_publish(&bench.vq);
	assert_int_equal(ring_used_index(&bench.ring), 4);
}

static void a_device_can_break_a_queue(void **state)
{
	(void)state;
	assert_broken(
		vn_virtqueue_break(&bench.vq, "no header in chain %u", 7), "no header in chain 7");
}

// Put the used index at `at` without the thousands of buffers that lead there.
static void jump_used(uint16_t at)
{
	bench.vq.used_next = bench.vq.used_published = at;
}

static bool publish(unsigned count)
{
	while (count-- > 0)
		vn_virtqueue_push(&bench.vq, 0, 0);
	return vn_virtqueue_publish(&bench.vq);
}

// Section 2.7.7.2: an interrupt when the index passes used_event, also where either wraps.
static void event_index_arithmetic(void **state)
{
	(void)state;
	static const struct {
		uint16_t at, event;
		unsigned count;
		bool interrupt;
	} cases[] = {
		{0, 0, 1, true},
		{0, 1, 1, false},
		{0, 1, 2, true},
		{5, 4, 3, false}, // passed long ago
		{5, 5, 3, true},
		{5, 7, 3, true},
		{5, 8, 3, false},
		{65535, 65535, 1, true},
		{65535, 0, 1, false},
		{65535, 0, 2, true},
		{65530, 2, 8, false},
		{65530, 2, 9, true},
		{65530, 65529, 9, false},
		{65530, 32767, 8, false},
		{0, 65535, 8, false},
		{0, 65535, 65535, false},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		jump_used(cases[i].at);
		ring_set_used_event(&bench.ring, cases[i].event);
		if (publish(cases[i].count) != cases[i].interrupt)
			fail_msg("case %u", i);
	}
	// With EVENT_IDX the flag means nothing.
	jump_used(0);
	ring_set_used_event(&bench.ring, 0);
	ring_set_avail_flags(&bench.ring, 1);
	assert_true(publish(1));
}

static void interrupts_by_flag(void **state)
{
	(void)state;
	begin(SIZE, false);
	assert_true(publish(1));
	ring_set_avail_flags(&bench.ring, 1);
	assert_false(publish(1));
	ring_set_avail_flags(&bench.ring, 0);
	assert_true(publish(2));
	assert_false(publish(0));
}

static void notifications_by_flag(void **state)
{
	(void)state;
	begin(SIZE, false);
	vn_virtqueue_disable_notify(&bench.vq);
	assert_int_equal(ring_used_flags(&bench.ring), 1);
	assert_false(vn_virtqueue_enable_notify(&bench.vq));
	assert_int_equal(ring_used_flags(&bench.ring), 0);
	ring_offer(&bench.ring, 0);
	assert_true(vn_virtqueue_enable_notify(&bench.vq));
	pop();
	assert_false(vn_virtqueue_enable_notify(&bench.vq));
}

static void notifications_by_event_index(void **state)
{
	(void)state;
	ring_offer(&bench.ring, 0);
	ring_offer(&bench.ring, 1);
	vn_virtqueue_disable_notify(&bench.vq);
	assert_int_equal(ring_used_flags(&bench.ring), 0);
	pop();
	assert_true(vn_virtqueue_enable_notify(&bench.vq)); // one is left
	pop();
	assert_false(vn_virtqueue_enable_notify(&bench.vq));
	assert_int_equal(ring_avail_event(&bench.ring), 2);
	ring_offer(&bench.ring, 2); // from here on the driver notifies
	assert_true(vn_virtqueue_enable_notify(&bench.vq));
}

// What a driver that has `old` buffers available makes of avail_event when it adds `count` (section
// 2.7.10.1).
static bool driver_would_notify(uint16_t old, uint16_t count)
{
	return (uint16_t)(old + count - ring_avail_event(&bench.ring) - 1) < count;
}

// Asked for and not yet come when something else wakes the device, which then looks by itself.
static void notification_that_was_asked_for_is_taken_back(void **state)
{
	(void)state;
	assert_false(vn_virtqueue_enable_notify(&bench.vq));
	assert_true(driver_would_notify(0, 1));
	vn_virtqueue_disable_notify(&bench.vq);
	for (uint16_t old = 0; old < SIZE; old++)
		for (uint16_t count = 1; count <= SIZE; count++)
			assert_false(driver_would_notify(old, count));
	ring_offer(&bench.ring, 0);
	assert_true(vn_virtqueue_enable_notify(&bench.vq));
	pop();
	assert_false(vn_virtqueue_enable_notify(&bench.vq));
	assert_true(driver_would_notify(1, 1));
}

// Each iteration: garbage, mostly of a plausible shape, in all that the guest can write, and the
// device takes what it can. The sanitizers judge; and every buffer handed out lies in RAM.
static uint64_t fuzz_state;

static uint64_t fuzz(uint64_t bound)
{
	// xorshift64*
	fuzz_state ^= fuzz_state >> 12;
	fuzz_state ^= fuzz_state << 25;
	fuzz_state ^= fuzz_state >> 27;
	return (fuzz_state * 0x2545f4914f6cdd1d >> 11) % bound;
}

static struct ring_desc fuzz_desc(void)
{
	struct ring_desc desc = {.addr = BUFFERS + fuzz(64) * 16,
		.len = (uint32_t)fuzz(20) * 16,
		.flags = (uint16_t)(fuzz(4) == 0 ? fuzz(8) : fuzz(2) * RING_NEXT + RING_WRITE),
		.next = (uint16_t)fuzz(SIZE)};
	if (fuzz(16) == 0)
		desc.addr = fuzz(UINT64_MAX);
	if (fuzz(16) == 0)
		desc.len = (uint32_t)fuzz(UINT32_MAX);
	if (fuzz(32) == 0)
		desc.next = (uint16_t)fuzz(65536);
	return desc;
}

static void assert_chain_in_ram(void)
{
	const uint8_t *low = bench.memory.ram[0].host, *high = bench.memory.ram[1].host;
	uint64_t sum = 0;
	for (unsigned i = 0; i < (unsigned)(bench.chain.readable + bench.chain.writable); i++) {
		const uint8_t *base = bench.iov[i].iov_base;
		size_t len = bench.iov[i].iov_len;
		assert_true(len > 0);
		assert_true((base >= low && base + len <= low + RAM_LOW) ||
			    (base >= high && base + len <= high + RAM_LOW));
		sum += len;
	}
	assert_int_equal(sum, bench.chain.readable_size + bench.chain.writable_size);
}

static void garbage_rings(void **state)
{
	(void)state;
	unsigned chains = 0, broken = 0;
	fuzz_state = 20240229;
	for (unsigned round = 0; round < 200000; round++) {
		if (vn_virtqueue_is_broken(&bench.vq) || round % 64 == 0)
			begin(SIZE, fuzz(2));
		for (unsigned i = 0; i < SIZE; i++) {
			ring_table(&bench.memory, bench.ring.desc, i, fuzz_desc());
			ring_table(&bench.memory, BUFFERS, (unsigned)fuzz(64), fuzz_desc());
		}
		for (uint64_t offers = fuzz(4); offers > 0; offers--)
			ring_offer(&bench.ring, (unsigned)fuzz(fuzz(64) ? SIZE : 65536));
		if (fuzz(256) == 0)
			ring_set_avail_index(&bench.ring, (uint16_t)fuzz(65536));
		uint16_t head;
		while (vn_virtqueue_pop(&bench.vq, &head) == 1) {
			if (vn_virtqueue_chain(&bench.vq, head, &bench.chain) < 0)
				break;
			assert_chain_in_ram();
			chains++;
			if (fuzz(8) > 0)
				vn_virtqueue_push(&bench.vq, head, (uint32_t)fuzz(4096));
		}
		vn_virtqueue_publish(&bench.vq);
		vn_virtqueue_enable_notify(&bench.vq);
		broken += vn_virtqueue_is_broken(&bench.vq);
	}
	// The garbage was of the right mixture.
	assert_true(chains > 20000);
	assert_true(broken > 20000);
}

// A driver on another thread, which sleeps until it is interrupted and a device which sleeps until
// it is notified: a lost wake-up on either side ends in the test's time limit, and a missing order
// in a thread sanitizer's report. Sleeping is a flag, so that nothing but the rings orders the two.
#define MESSAGES 200000
#define DEPTH    2 // so that both sides often find nothing

static atomic_bool kicked, interrupted;

static void wait_for(atomic_bool *flag)
{
	// Mostly spinning: the races that matter are a store buffer wide.
	for (unsigned i = 1; !atomic_load_explicit(flag, memory_order_relaxed); i++)
		if (i % 1024 == 0)
			sched_yield();
	atomic_exchange_explicit(flag, false, memory_order_relaxed);
}

// Messages go to and fro: the device adds 1 to each number it is given.
static uint32_t *number(unsigned head)
{
	return ring_at(&bench.memory, BUFFERS + 64ull * head, 8);
}

static bool driver_passed(uint16_t event, uint16_t after, uint16_t before)
{
	return (uint16_t)(after - event - 1) < (uint16_t)(after - before);
}

static void offer_number(struct ring *ring, unsigned head, uint32_t value, bool event_idx)
{
	number(head)[0] = value;
	uint16_t before = ring->avail_next;
	ring_offer(ring, head);
	if (event_idx ? driver_passed(ring_avail_event(ring), ring->avail_next, before)
		      : ring_used_flags(ring) == 0)
		atomic_store_explicit(&kicked, true, memory_order_relaxed);
}

static void collect_number(struct ring *ring, uint32_t *id, bool event_idx)
{
	uint32_t len;
	while (!ring_take(ring, id, &len)) {
		if (event_idx)
			ring_set_used_event(ring, ring->used_next);
		else
			ring_set_avail_flags(ring, 0);
		if (ring_used_index(ring) != ring->used_next)
			continue;
		wait_for(&interrupted);
		if (!event_idx)
			ring_set_avail_flags(ring, 1);
	}
}

struct driver {
	struct ring ring;
	bool event_idx;
	unsigned wrong;
};

static void *drive(void *arg)
{
	struct driver *driver = arg;
	struct ring *ring = &driver->ring;
	unsigned sent = 0;
	for (; sent < DEPTH; sent++)
		offer_number(ring, sent, sent, driver->event_idx);
	for (unsigned received = 0; received < MESSAGES; received++) {
		uint32_t id;
		collect_number(ring, &id, driver->event_idx);
		if (id >= DEPTH || number(id)[1] != number(id)[0] + 1)
			driver->wrong++;
		else if (sent < MESSAGES)
			offer_number(ring, id, sent++, driver->event_idx);
	}
	return NULL;
}

static void serve_once(unsigned *served)
{
	uint16_t head;
	while (vn_virtqueue_pop(&bench.vq, &head) == 1) {
		assert_int_equal(vn_virtqueue_chain(&bench.vq, head, &bench.chain), 0);
		uint32_t value = *(uint32_t *)bench.iov[0].iov_base;
		*(uint32_t *)bench.iov[1].iov_base = value + 1;
		vn_virtqueue_push(&bench.vq, head, 4);
		++*served;
	}
}

static void two_threads(bool event_idx)
{
	begin(SIZE, event_idx);
	for (unsigned i = 0; i < DEPTH; i++) {
		ring_desc(&bench.ring, i, BUFFERS + 64ull * i, 4, RING_NEXT, DEPTH + i);
		ring_desc(&bench.ring, DEPTH + i, BUFFERS + 64ull * i + 4, 4, RING_WRITE, 0);
	}
	atomic_store(&kicked, false);
	atomic_store(&interrupted, false);
	vn_virtqueue_enable_notify(&bench.vq);
	struct driver driver = {.ring = bench.ring, .event_idx = event_idx};
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, drive, &driver), 0);
	unsigned served = 0;
	while (served < MESSAGES) {
		wait_for(&kicked);
		vn_virtqueue_disable_notify(&bench.vq);
		do {
			serve_once(&served);
		} while (vn_virtqueue_enable_notify(&bench.vq));
		if (vn_virtqueue_publish(&bench.vq))
			atomic_store_explicit(&interrupted, true, memory_order_relaxed);
	}
	pthread_join(thread, NULL);
	assert_int_equal(driver.wrong, 0);
	assert_int_equal(served, MESSAGES);
	assert_false(vn_virtqueue_is_broken(&bench.vq));
}

static void two_threads_with_event_index(void **state)
{
	(void)state;
	two_threads(true);
}

static void two_threads_with_flags(void **state)
{
	(void)state;
	two_threads(false);
}

// What a ring holds is not the driver's any more.
static void nothing_is_taken_from_lost_memory(void **state)
{
	(void)state;
	uint16_t head;
	ring_offer(&bench.ring, 0);
	bench.memory.lost = 1;
	assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), 0);
	assert_false(vn_virtqueue_enable_notify(&bench.vq));
	bench.memory.lost = 0;
	assert_true(vn_virtqueue_enable_notify(&bench.vq));
	assert_int_equal(vn_virtqueue_pop(&bench.vq, &head), 1);
}

#define TEST(name) cmocka_unit_test_setup(name, begin_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sizes_are_powers_of_two),
		TEST(ring_addresses_are_checked),
		TEST(event_fields_are_checked_only_if_negotiated),
		TEST(an_empty_queue_has_nothing),
		TEST(a_chain_is_translated),
		TEST(nothing_is_taken_from_lost_memory),
		TEST(an_indirect_table_continues_a_chain),
		TEST(a_chain_may_be_as_long_as_the_queue),
		TEST(head_outside_the_queue),
		TEST(next_outside_the_queue),
		TEST(next_outside_an_indirect_table),
		TEST(loop_of_one),
		TEST(loop_of_three),
		TEST(loop_in_an_indirect_table),
		TEST(chain_longer_than_the_queue),
		TEST(chain_longer_than_the_device_takes),
		TEST(buffer_outside_ram),
		TEST(empty_buffer),
		TEST(readable_after_writable),
		TEST(indirect_not_negotiated),
		TEST(indirect_in_indirect),
		TEST(indirect_with_next),
		TEST(indirect_table_of_wrong_length),
		TEST(indirect_table_outside_ram),
		TEST(chain_of_too_many_bytes),
		TEST(available_index_jumps),
		TEST(available_index_goes_back),
		TEST(a_full_queue_is_no_jump),
		TEST(head_in_flight),
		TEST(a_pushed_head_may_come_again),
		TEST(a_head_that_is_put_back_comes_again),
		TEST(a_queue_goes_on_where_it_was_left),
		TEST(a_queue_comes_back_from_another),
		TEST(a_device_can_break_a_queue),
		TEST(event_index_arithmetic),
		TEST(interrupts_by_flag),
		TEST(notifications_by_flag),
		TEST(notifications_by_event_index),
		TEST(notification_that_was_asked_for_is_taken_back),
		TEST(garbage_rings),
		TEST(two_threads_with_event_index),
		TEST(two_threads_with_flags),
	};
	return cmocka_run_group_tests(tests, make_memory, destroy_memory);
}
