// SPDX-License-Identifier: Apache-2.0
//
// Buckets without gaps, and percentiles beside those of the values themselves.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/histogram.h"
#include "base/macros.h"

static void every_value_is_within_its_bucket(void **state)
{
	(void)state;
	for (unsigned i = 0; i + 1 < VN_HISTOGRAM_BUCKETS; i++) {
		uint64_t from = vn_histogram_bound(i), below = vn_histogram_bound(i + 1);
		assert_true(from < below);
		assert_int_equal(vn_histogram_bucket(from), i);
		assert_int_equal(vn_histogram_bucket(below - 1), i);
		assert_true(below - from == 1 || (below - from) * VN_HISTOGRAM_STEPS <= from);
	}
	assert_int_equal(vn_histogram_bound(0), 0);
	assert_int_equal(vn_histogram_bound(VN_HISTOGRAM_BUCKETS), 1ull << VN_HISTOGRAM_BITS);
}

static void what_is_too_long_is_in_the_last_bucket(void **state)
{
	(void)state;
	assert_int_equal(
		vn_histogram_bucket((1ull << VN_HISTOGRAM_BITS) - 1), VN_HISTOGRAM_BUCKETS - 1);
	assert_int_equal(vn_histogram_bucket(1ull << VN_HISTOGRAM_BITS), VN_HISTOGRAM_BUCKETS - 1);
	assert_int_equal(vn_histogram_bucket(UINT64_MAX), VN_HISTOGRAM_BUCKETS - 1);
}

static struct vn_histogram histogram;
static struct vn_arena arena;

static const struct veneer_latency *read_all(void)
{
	const struct veneer_latency *latency;
	assert_int_equal(vn_histogram_read(&histogram, &arena, &latency), 0);
	return latency;
}

static int clear(void **state)
{
	(void)state;
	histogram = (struct vn_histogram){0};
	vn_arena_free(&arena);
	return 0;
}

static void nothing_counted_is_nothing(void **state)
{
	(void)state;
	assert_null(read_all());
}

static void one_value(void **state)
{
	(void)state;
	vn_histogram_add(&histogram, 1000);
	const struct veneer_latency *latency = read_all();
	assert_int_equal(latency->count, 1);
	assert_int_equal(latency->sum_ns, 1000);
	assert_int_equal(latency->bucket_count, 1);
	assert_true(latency->buckets[0].from_ns <= 1000 && latency->buckets[0].below_ns > 1000);
	assert_int_equal(veneer_percentile(latency, 0), veneer_percentile(latency, 100));
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

#define VALUES 100000

// The value that `percent` of them do not exceed: the nearest rank.
static uint64_t exact(const uint64_t *sorted, double percent)
{
	double rank = percent / 100 * VALUES;
	size_t index = (size_t)rank;
	if ((double)index < rank)
		index++;
	return sorted[index > 0 ? index - 1 : 0];
}

static void check_percentiles(uint64_t *values)
{
	static const double percents[] = {0, 1, 25, 50, 90, 99, 99.9, 99.99, 100};
	uint64_t sum = 0;
	histogram = (struct vn_histogram){0};
	for (size_t i = 0; i < VALUES; i++) {
		vn_histogram_add(&histogram, values[i]);
		sum += values[i];
	}
	const struct veneer_latency *latency = read_all();
	assert_int_equal(latency->count, VALUES);
	assert_int_equal(latency->sum_ns, sum);
	qsort(values, VALUES, sizeof(values[0]), ascending);
	for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
		uint64_t want = exact(values, percents[i]);
		uint64_t got = veneer_percentile(latency, percents[i]);
		uint64_t off = got > want ? got - want : want - got;
		if (off * 2 * VN_HISTOGRAM_STEPS > want)
			fail_msg("%g %%: %llu ns, which is %llu", percents[i],
				(unsigned long long)want, (unsigned long long)got);
	}
}

static void percentiles_are_close_to_the_exact_ones(void **state)
{
	(void)state;
	static uint64_t values[VALUES];
	uint64_t seed = 1;
	for (size_t i = 0; i < VALUES; i++)
		values[i] = i; // even
	check_percentiles(values);
	for (size_t i = 0; i < VALUES; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		values[i] = (seed >> 33) >> (seed % 27); // over nine powers of ten
	}
	check_percentiles(values);
	for (size_t i = 0; i < VALUES; i++)
		values[i] = i % 1000 == 0 ? 50000000 : 90000 + i % 777; // a long tail
	check_percentiles(values);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_is_within_its_bucket),
		cmocka_unit_test(what_is_too_long_is_in_the_last_bucket),
		cmocka_unit_test_setup_teardown(nothing_counted_is_nothing, clear, clear),
		cmocka_unit_test_setup_teardown(one_value, clear, clear),
		cmocka_unit_test_setup_teardown(
			percentiles_are_close_to_the_exact_ones, clear, clear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
