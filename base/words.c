// SPDX-License-Identifier: Apache-2.0
//
// Splitting, numbers and sizes, and how far a word is from another.
#include "base/words.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int vn_parse_digits(const char *text, uint64_t max, const char **end, uint64_t *value)
{
	const char *at = text;
	uint64_t sum = 0;

	*end = text;
	*value = 0;
	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');
		if (digit > max || sum > (max - digit) / 10)
			return -ERANGE;
		sum = sum * 10 + digit;
	}
	*end = at;
	*value = sum;
	return at == text ? -EINVAL : 0;
}

int vn_parse_number(const char *text, uint64_t max, uint64_t *value)
{
	const char *end;
	int ret = vn_parse_digits(text, max, &end, value);

	return ret < 0 ? ret : *end ? -EINVAL : 0;
}

// How many bits the unit at *at shifts by; it moves behind the unit.
static unsigned take_unit(const char **at)
{
	static const char units[] = "kmgt";
	const char *unit = **at ? strchr(units, tolower((unsigned char)**at)) : NULL;

	if (!unit)
		return 0;
	++*at;
	if (tolower((unsigned char)**at) == 'i')
		++*at;
	if (tolower((unsigned char)**at) == 'b')
		++*at;
	return 10 * (unsigned)(unit - units + 1);
}

int vn_parse_size(const char *text, uint64_t *size)
{
	const char *end;
	uint64_t count;

	int ret = vn_parse_digits(text, UINT64_MAX, &end, &count);
	if (ret < 0)
		return ret;
	unsigned shift = take_unit(&end);
	if (*end)
		return -EINVAL;
	if (count > UINT64_MAX >> shift)
		return -ERANGE;
	*size = count << shift;
	return 0;
}

void vn_words_free(struct vn_words *words)
{
	free(words->text);
}

int vn_words_split(struct vn_words *words, const char *option, const char *argument,
	struct veneer_error *error)
{
	words->count = 0;
	words->text = strdup(argument);
	if (!words->text)
		return vn_fail(error, -ENOMEM, "%s: out of memory", option);
	char *to = words->text;
	words->words[words->count++] = to;
	for (const char *from = argument; *from; from++) {
		if (from[0] != ',') {
			*to++ = *from;
		} else if (from[1] == ',') {
			*to++ = *from++;
		} else if (words->count == VN_WORDS_MAX) {
			vn_words_free(words);
			return vn_fail(error, -EINVAL, "%s: too many words, at most %d: %s", option,
				VN_WORDS_MAX, argument);
		} else {
			*to++ = '\0';
			words->words[words->count++] = to;
		}
	}
	*to = '\0';
	return 0;
}

void vn_words_join_lists(struct vn_words *words)
{
	unsigned count = 1;

	for (unsigned i = 1; i < words->count; i++) {
		char *word = words->words[i];
		if (*word >= '0' && *word <= '9')
			word[-1] = ',';
		else
			words->words[count++] = word;
	}
	words->count = count;
}

#define NAME_BYTES 32

// Letters that are added, left out, replaced, or swapped with their neighbour, from one to the
// other.
static unsigned distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
	unsigned char steps[NAME_BYTES + 1][NAME_BYTES + 1];

	for (size_t i = 0; i <= a_size; i++) {
		for (size_t j = 0; j <= b_size; j++) {
			unsigned least = (unsigned)(i > j ? i : j);
			if (i > 0 && j > 0) {
				least = steps[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u);
				if (steps[i - 1][j] + 1u < least)
					least = steps[i - 1][j] + 1u;
				if (steps[i][j - 1] + 1u < least)
					least = steps[i][j - 1] + 1u;
			}
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				steps[i - 2][j - 2] + 1u < least)
				least = steps[i - 2][j - 2] + 1u;
			steps[i][j] = (unsigned char)least;
		}
	}
	return steps[a_size][b_size];
}

// One letter in three may be wrong, and one of few.
struct vn_nearest vn_nearest_to(const char *word, size_t size)
{
	return (struct vn_nearest){.word = word,
		.size = size,
		.distance = size < 5 ? 2 : 1 + (unsigned)(size + 1) / 3};
}

bool vn_nearest_try(struct vn_nearest *nearest, const char *name, size_t size)
{
	if (nearest->size == 0 || nearest->size > NAME_BYTES || size > NAME_BYTES)
		return false;
	bool begins = nearest->size < size && memcmp(nearest->word, name, nearest->size) == 0;
	unsigned steps = begins ? 1 : distance(nearest->word, nearest->size, name, size);
	if (steps >= nearest->distance)
		return false;
	nearest->distance = steps;
	nearest->name = name;
	return true;
}
