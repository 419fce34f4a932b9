// SPDX-License-Identifier: Apache-2.0
//
// The words of an option's argument.
#include "vmm/options_words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/fail.h"

int refuse(struct veneer_error *error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fail_with_list(error, -EINVAL, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

int out_of_memory(struct veneer_error *error)
{
	refuse(error, "out of memory");
	return -ENOMEM;
}

int parse_digits(const char *text, uint64_t max, const char **end, uint64_t *value)
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

int parse_number(const char *text, uint64_t max, uint64_t *value)
{
	const char *end;
	int ret = parse_digits(text, max, &end, value);

	return ret < 0 ? ret : *end ? -EINVAL : 0;
}

int parse_size(const char *text, uint64_t *size)
{
	const char *end;
	uint64_t count;
	uint64_t unit = 1;

	int ret = parse_digits(text, UINT64_MAX, &end, &count);
	if (ret < 0)
		return ret;
	switch (*end) {
	case 'K':
		unit = KIB;
		break;
	case 'M':
		unit = MIB;
		break;
	case 'G':
		unit = GIB;
		break;
	}
	if (unit > 1)
		end++;
	if (*end)
		return -EINVAL;
	if (count > UINT64_MAX / unit)
		return -ERANGE;
	*size = count * unit;
	return 0;
}

void words_free(struct words *words)
{
	free(words->text);
}

int words_split(
	struct words *words, const char *option, const char *argument, struct veneer_error *error)
{
	words->count = 0;
	words->text = strdup(argument);
	if (!words->text)
		return out_of_memory(error);
	char *to = words->text;
	words->words[words->count++] = to;
	for (const char *from = argument; *from; from++) {
		if (from[0] != ',') {
			*to++ = *from;
		} else if (from[1] == ',') {
			*to++ = *from++;
		} else if (words->count == SUBOPTIONS_MAX) {
			words_free(words);
			return refuse(error, "%s: too many words, at most %d: %s", option,
				SUBOPTIONS_MAX, argument);
		} else {
			*to++ = '\0';
			words->words[words->count++] = to;
		}
	}
	*to = '\0';
	return 0;
}

void words_join_lists(struct words *words)
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

const char *value_of(const char *word, const char *name)
{
	size_t length = strlen(name);

	return strncmp(word, name, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

int unknown_word(
	struct veneer_error *error, const char *option, const char *word, const char *choices)
{
	return refuse(error, "%s: unknown word '%s'; it takes %s", option, word, choices);
}

int parse_switch(const char *text, bool *on)
{
	*on = strcmp(text, "on") == 0;
	return *on || strcmp(text, "off") == 0 ? 0 : -EINVAL;
}
