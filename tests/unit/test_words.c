// SPDX-License-Identifier: Apache-2.0
//
// Command lines and the words that Linux finds in them (lib/cmdline.c, next_arg(); kernel/params.c,
// parse_args()).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "guest/words.h"

// The words, each behind a `|`.
static void join(char *to, size_t size, const char *line)
{
	char word[256];
	size_t used = 0;

	to[0] = '\0';
	while ((line = words_next(line, word, sizeof(word))))
		used += (size_t)snprintf(to + used, size - used, "|%s", word);
}

static void splits_as_linux(void **state)
{
	static const struct {
		const char *line, *words;
	} cases[] = {
		{"", ""},
		{" \t\n\v\f\r", ""},
		{"quiet", "|quiet"},
		{" a  b=c\td\n", "|a|b=c|d"},
		{"a\xa0"
		 "b",
			"|a|b"}, // a blank of Latin-1
		// Quotes.
		{"run=\"tar -- x\" y", "|run=tar -- x|y"},
		{"\"run=tar -- x\" y", "|run=tar -- x|y"},
		{"\"a b\"", "|a b"},
		{"a=\"b\"", "|a=b"},
		{"a=\"\" b", "|a=|b"},
		{"\"\" b", "||b"},
		{"a=b\"c d\"e f", "|a=b\"c d\"e|f"},
		{"a=\"b\"c d", "|a=b\"c|d"},
		{"a\" \"b c", "|a\" \"b|c"},
		{"\"a=\"b c\" d", "|a=b|c\" d"},
		{"a=b=\"c d\"", "|a=b=\"c d\""},
		{"=\"a b\"", "|=\"a b\""},
		// Open to the end.
		{"a=\"b c -- d", "|a=b c -- d"},
		{"a b\"", "|a|b\""},
		{"\"", "|"},
		{"a=\"", "|a="},
		// Behind dashes all is for init.
		{"a -- b", "|a"},
		{"a --", "|a"},
		{"a -- ", "|a"},
		{"a\t--\tb", "|a"},
		{"--", ""},
		{"-- a", ""},
		{"a -- b -- c", "|a"},
		{"a \"--\" b", "|a"},
		{"a --b ---  c-- -", "|a|--b|---|c--|-"},
		{"a=-- b", "|a=--|b"},
		{"--= b", "|--=|b"},
		{"a=\"x -- y\" -- b", "|a=x -- y"},
	};
	char words[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		join(words, sizeof(words), cases[i].line);
		if (strcmp(words, cases[i].words) != 0)
			fail_msg(
				"'%s': '%s' instead of '%s'", cases[i].line, words, cases[i].words);
	}
}

// A word that does not fit is cut, and the next one is whole.
static void cuts_words(void **state)
{
	char word[4];
	const char *rest = words_next("abcdefg=\"h i\" jk", word, sizeof(word));

	(void)state;
	assert_string_equal(word, "abc");
	rest = words_next(rest, word, sizeof(word));
	assert_string_equal(word, "jk");
	assert_null(words_next(rest, word, sizeof(word)));
	assert_non_null(words_next("abc", word, 1));
	assert_string_equal(word, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_as_linux),
		cmocka_unit_test(cuts_words),
	};

	return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
