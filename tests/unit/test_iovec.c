// SPDX-License-Identifier: Apache-2.0
//
// Data in pieces, cut at every place.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/iovec.h"
#include "base/macros.h"

#define BYTES  12
#define PIECES 3

static const char DATA[] = "abcdefghijkl";

// `text` in three pieces, of which any may be empty.
static void cut(struct iovec *pieces, char *text, size_t first, size_t second)
{
	pieces[0] = (struct iovec){text, first};
	pieces[1] = (struct iovec){text + first, second - first};
	pieces[2] = (struct iovec){text + second, BYTES - second};
}

static void check_cut(size_t first, size_t second)
{
	for (size_t size = 0; size <= BYTES; size++) {
		char text[BYTES + 1] = "", back[BYTES + 1] = "";
		struct iovec pieces[PIECES], *left = pieces;
		unsigned count = PIECES;

		cut(pieces, text, first, second);
		vn_iovec_scatter(pieces, DATA, size);
		assert_memory_equal(text, DATA, size);
		assert_int_equal(strlen(text), size); // and nothing behind it
		vn_iovec_gather(back, pieces, size);
		assert_string_equal(back, text);

		vn_iovec_advance(&left, &count, size);
		vn_iovec_scatter(left, DATA + size, BYTES - size);
		assert_string_equal(text, DATA);
		assert_ptr_equal(left + count, pieces + PIECES);
		if (size == BYTES)
			assert_int_equal(count, 0);
		else
			assert_ptr_equal(left->iov_base, text + size);
	}
}

static void every_cut(void **state)
{
	(void)state;
	for (size_t first = 0; first <= BYTES; first++)
		for (size_t second = first; second <= BYTES; second++)
			check_cut(first, second);
}

// One byte that is not zero, at every place of two pieces.
static void zeroes(void **state)
{
	(void)state;
	static const size_t cuts[] = {1, 7, 63, 64, 65, 128, 129, 200};
	char bytes[300] = "";
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		const struct iovec pieces[] = {
			{bytes, cuts[i]}, {bytes + cuts[i], sizeof(bytes) - cuts[i]}};
		for (size_t at = 0; at < sizeof(bytes); at++) {
			assert_true(vn_iovec_is_zero(pieces, sizeof(bytes)));
			bytes[at] = 1;
			assert_false(vn_iovec_is_zero(pieces, sizeof(bytes)));
			assert_true(vn_iovec_is_zero(pieces, at));
			bytes[at] = 0;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cut),
		cmocka_unit_test(zeroes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
