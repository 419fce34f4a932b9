// SPDX-License-Identifier: Apache-2.0
#include "words.h"

#include <stdbool.h>

/* The C locale's, and the no-break space of Latin-1. */
static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || (unsigned char)c == 0xa0;
}

static bool is_dashes(const char *text, size_t length)
{
	return length == 2 && text[0] == '-' && text[1] == '-';
}

/*
 * Where the value begins in a word, behind the first `=` that is not the word's first byte; or 0.
 */
static size_t value_at(const char *text, size_t length)
{
	for (size_t i = 1; i < length; i++)
		if (text[i] == '=')
			return i + 1;
	return 0;
}

const char *words_next(const char *line, char *word, size_t size)
{
	bool quote = false;
	size_t used = 0;

	while (is_blank(*line))
		line++;
	const char *end = line;
	for (; *end && (quote || !is_blank(*end)); end++)
		quote ^= *end == '"';
	if (end == line)
		return NULL;
	bool whole = *line == '"';
	line += whole;
	size_t length = (size_t)(end - line), value = value_at(line, length);
	bool valued = value > 0 && value < length && line[value] == '"';
	if (length > 0 && end[-1] == '"' && (whole || valued))
		length--;
	if (is_dashes(line, length))
		return NULL;
	for (size_t i = 0; i < length && used + 1 < size; i++)
		if (!valued || i != value)
			word[used++] = line[i];
	word[used] = '\0';
	return end;
}
