// SPDX-License-Identifier: Apache-2.0
//
// The shared rate, with a clock of the test's own, and by several threads at once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/rate.h"

#define S     NS_PER_S
#define BEGIN (1000 * S)

static struct vn_rate rate;

static void no_limit_is_none(void **state)
{
	(void)state;
	vn_rate_init(&rate, 0, 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(vn_rate_take(&rate, 1ull << 32, BEGIN), BEGIN);
	vn_rate_return(&rate, 1);
}

static void a_burst_and_then_the_rate(void **state)
{
	(void)state;
	vn_rate_init(&rate, 100, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN);
	for (unsigned i = 1; i <= 200; i++)
		assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN + i * S / 100);
	// Half full after half the time that filling takes; no more than full after any time.
	uint64_t now = BEGIN + 2 * S + S / 10;
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(vn_rate_take(&rate, 1, now), now);
	assert_int_equal(vn_rate_take(&rate, 1, now), now + S / 100);
	now += 1000 * S;
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(vn_rate_take(&rate, 1, now), now);
	assert_int_equal(vn_rate_take(&rate, 1, now), now + S / 100);
}

static void a_tenth_of_a_second_is_the_default(void **state)
{
	(void)state;
	vn_rate_init(&rate, 1000, 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN);
	assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN + S / 1000);
}

// More than the bucket ever holds: when it is full, and the debt is the others'.
static void large_amounts_are_not_refused(void **state)
{
	(void)state;
	vn_rate_init(&rate, 1000, 10);
	assert_int_equal(vn_rate_take(&rate, 5000, BEGIN), BEGIN);
	assert_int_equal(vn_rate_take(&rate, 5000, BEGIN), BEGIN + 5 * S);
	assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN + 10 * S - 9 * S / 1000);
}

// Late by less than the burst, all the time: the rate is what it should be all the same.
static void lateness_is_made_up_for(void **state)
{
	(void)state;
	vn_rate_init(&rate, 1000, 100);
	uint64_t now = BEGIN;
	for (unsigned i = 0; i < 10100; i++) {
		uint64_t turn = vn_rate_take(&rate, 1, now);
		if (turn > now)
			now = turn + i % 7 * S / 10000;
	}
	assert_true(now >= BEGIN + 10 * S && now < BEGIN + 10 * S + S / 1000);
}

static void what_is_not_used_is_given_back(void **state)
{
	(void)state;
	vn_rate_init(&rate, 10, 1);
	assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN);
	assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN + S / 10);
	vn_rate_return(&rate, 1);
	assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN + S / 10);
}

static void extremes_do_not_wrap(void **state)
{
	(void)state;
	vn_rate_init(&rate, 1, UINT64_MAX);
	assert_int_equal(vn_rate_take(&rate, 1ull << 32, BEGIN), BEGIN);
	assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN);
	vn_rate_init(&rate, UINT64_MAX, UINT64_MAX);
	assert_int_equal(vn_rate_take(&rate, 1ull << 32, BEGIN), BEGIN);
	vn_rate_init(&rate, 1024, 1024);
	uint64_t most = BIT64(32) * S / 1024;
	for (unsigned i = 0; i < 17; i++)
		assert_int_equal(vn_rate_take(&rate, 1ull << 32, BEGIN), BEGIN + i * most);
}

#define THREADS 4
#define EACH    100000

static void *take_many(void *arg)
{
	uint64_t *last = arg;
	for (unsigned i = 0; i < EACH; i++) {
		uint64_t turn = vn_rate_take(&rate, 1, BEGIN);
		if (turn < *last)
			*last = UINT64_MAX; // turns come in order
		else
			*last = turn;
	}
	return NULL;
}

static void threads_share_it_to_the_unit(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	uint64_t last[THREADS] = {0};
	vn_rate_init(&rate, 1000000, 1);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_many, &last[i]), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_not_equal(last[i], UINT64_MAX);
	}
	assert_int_equal(vn_rate_take(&rate, 1, BEGIN), BEGIN + THREADS * EACH * 1000ull);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_limit_is_none),
		cmocka_unit_test(a_burst_and_then_the_rate),
		cmocka_unit_test(a_tenth_of_a_second_is_the_default),
		cmocka_unit_test(large_amounts_are_not_refused),
		cmocka_unit_test(lateness_is_made_up_for),
		cmocka_unit_test(what_is_not_used_is_given_back),
		cmocka_unit_test(extremes_do_not_wrap),
		cmocka_unit_test(threads_share_it_to_the_unit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
