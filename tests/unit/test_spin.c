// SPDX-License-Identifier: Apache-2.0
//
// The bound on looking for work, with a clock of the test's own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/spin.h"
#include "veneer.h"

#define US  1000ull
#define MAX (50 * US)

// A driver that offers work `pause` after the last was found. Looking takes a microsecond a time;
// with `shared`, the driver has no processor until we sleep. Returns for how long we looked.
static uint64_t offer(struct vn_spin *spin, uint64_t *now, uint64_t pause, bool shared)
{
	uint64_t looked = 0;
	while (vn_spin_again(spin, false, false, *now)) {
		*now += US;
		looked += US;
		if (!shared && looked >= pause)
			break;
	}
	if (shared)
		*now += pause;
	else if (looked < pause)
		*now += pause - looked;
	vn_spin_again(spin, true, false, *now);
	return looked;
}

static uint64_t offer_many(
	struct vn_spin *spin, uint64_t *now, unsigned count, uint64_t pause, bool shared)
{
	uint64_t looked = 0;
	for (unsigned i = 0; i < count; i++)
		looked += offer(spin, now, pause, shared);
	return looked;
}

static void short_pauses_are_waited_for(void **state)
{
	(void)state;
	struct vn_spin spin = {.max = MAX};
	uint64_t now = 1000000;
	offer_many(&spin, &now, 10, 20 * US, false);
	assert_true(spin.bound > 20 * US && spin.bound <= MAX);
	assert_int_equal(offer_many(&spin, &now, 100, 20 * US, false), 100 * 20 * US);
	assert_false(spin.asleep);
}

static void long_ones_are_not(void **state)
{
	(void)state;
	struct vn_spin spin = {.max = MAX};
	uint64_t now = 1000000;
	assert_int_equal(offer_many(&spin, &now, 100, 200 * US, false), 0);
	// Also not after short ones; but the first of them might be an exception.
	offer_many(&spin, &now, 10, 20 * US, false);
	uint64_t before = spin.bound;
	offer(&spin, &now, 200 * US, false);
	assert_int_equal(spin.bound, before / 2);
	offer_many(&spin, &now, 10, 200 * US, false);
	assert_int_equal(spin.bound, 0);
	assert_int_equal(offer_many(&spin, &now, 100, 200 * US, false), 0);
}

static void the_bound_is_not_passed(void **state)
{
	(void)state;
	struct vn_spin spin = {.max = 30 * US};
	uint64_t now = 1000000;
	for (unsigned i = 0; i < 1000; i++) {
		offer(&spin, &now, i % 37 * US, i % 5 == 0);
		assert_true(spin.bound <= 30 * US);
	}
}

// A driver that runs only while we sleep: the more often looking was in vain, the less it is done.
static void a_shared_processor_is_left_alone(void **state)
{
	(void)state;
	struct vn_spin spin = {.max = MAX};
	uint64_t now = 1000000;
	offer_many(&spin, &now, 5000, 5 * US, true);
	uint64_t begin = now;
	uint64_t looked = offer_many(&spin, &now, 5000, 5 * US, true);
	assert_true(looked > 0); // it is tried again
	assert_true(looked * 20 < now - begin);
	// Once it has a processor of its own, looking is worth it again, and at once from then on.
	offer_many(&spin, &now, 1100, 5 * US, false);
	assert_int_equal(offer_many(&spin, &now, 100, 5 * US, false), 100 * 5 * US);
	assert_int_equal(spin.penalty, 0);
}

static void other_events_start_the_time_anew(void **state)
{
	(void)state;
	struct vn_spin spin = {.max = MAX};
	uint64_t now = 1000000;
	offer_many(&spin, &now, 10, 20 * US, false);
	now += spin.bound;
	assert_false(vn_spin_again(&spin, false, false, now));
	assert_false(vn_spin_again(&spin, false, false, now));
	assert_true(vn_spin_again(&spin, false, true, now));
	assert_true(vn_spin_again(&spin, false, false, now + spin.bound - 1));
	assert_false(vn_spin_again(&spin, false, false, now + spin.bound));
}

static void none_is_none(void **state)
{
	(void)state;
	struct vn_spin spin = {.max = 0};
	uint64_t now = 1000000;
	assert_int_equal(offer_many(&spin, &now, 1000, 0, false), 0);
	assert_int_equal(offer_many(&spin, &now, 1000, US, true), 0);
	assert_int_equal(spin.bound, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_pauses_are_waited_for),
		cmocka_unit_test(long_ones_are_not),
		cmocka_unit_test(the_bound_is_not_passed),
		cmocka_unit_test(a_shared_processor_is_left_alone),
		cmocka_unit_test(other_events_start_the_time_anew),
		cmocka_unit_test(none_is_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
