// SPDX-License-Identifier: Apache-2.0
//
// Parsing of user input: comma-separated words, numbers, sizes, and misspelt names. Everything is
// checked strictly: a number is digits and nothing else.
#ifndef VN_WORDS_H
#define VN_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define VN_WORDS_MAX 256 // a list of pairs is a word for each vCPU

// The known name nearest to `word`: one that begins with it, or differs in few letters.
struct vn_nearest {
	const char *word;
	size_t size;
	const char *name; // or NULL: none is near
	unsigned distance;
};
struct vn_nearest vn_nearest_to(const char *word, size_t size);

// True: it is nearer than those that were tried before.
bool vn_nearest_try(struct vn_nearest *nearest, const char *name, size_t size);

// Digits up to a character that is none, which *end tells. -EINVAL: no digit; -ERANGE: too large.
int vn_parse_digits(const char *text, uint64_t max, const char **end, uint64_t *value);

// Digits and nothing else; or a unit behind them: K, M, G or T, 1024 to a step, alone or followed
// by B, iB or i, in any case.
int vn_parse_number(const char *text, uint64_t max, uint64_t *value);
int vn_parse_size(const char *text, uint64_t *size);

// The words of one option's argument: `text` is a copy that they point into.
struct vn_words {
	char *text;
	unsigned count;
	char *words[VN_WORDS_MAX];
};

// Split at commas; a doubled comma stands for one within a word. vn_words_free() after success.
int vn_words_split(struct vn_words *words, const char *option, const char *argument,
	struct veneer_error *error);
void vn_words_free(struct vn_words *words);

// A list uses commas too: join each word that begins with a digit to the word before it.
void vn_words_join_lists(struct vn_words *words);

#endif
