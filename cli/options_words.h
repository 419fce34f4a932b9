// SPDX-License-Identifier: Apache-2.0
//
// The words of an option's argument: splitting, numbers and sizes, and the refusal of what is none
// of them. Everything is judged strictly: a number is digits and nothing else.
#ifndef VN_OPTIONS_WORDS_H
#define VN_OPTIONS_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#include "veneer.h"

#define SUBOPTIONS_MAX 256 // a list of pairs is a word for each vCPU

// The line that names what is wrong and what would be right, and -EINVAL.
int refuse(struct veneer_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int out_of_memory(struct veneer_error *error); // -ENOMEM

// `choices`: sub-options, each with its value, between ", "; after "; ", advice that is always
// given.
int unknown_word(
	struct veneer_error *error, const char *option, const char *word, const char *choices);

// The name that someone who wrote `word` may have meant: what begins with it, or has few letters
// else.
struct nearest {
	const char *word;
	size_t size;
	const char *name; // or NULL: none is near
	size_t name_size;
	unsigned distance;
};
struct nearest nearest_to(const char *word, size_t size);
void nearest_try(struct nearest *nearest, const char *name, size_t size);

// Digits up to a character that is none, which *end tells. -EINVAL: no digit; -ERANGE: too large.
int parse_digits(const char *text, uint64_t max, const char **end, uint64_t *value);

// Digits and nothing else; or a unit behind them: K, M, G or T, 1024 to a step, alone or followed
// by B, iB or i, in any case.
int parse_number(const char *text, uint64_t max, uint64_t *value);
int parse_size(const char *text, uint64_t *size);

// "on" or "off".
int parse_switch(const char *text, bool *on);

// The words of one option's argument: `text` is a copy that they point into.
struct words {
	char *text;
	unsigned count;
	char *words[SUBOPTIONS_MAX];
};

// Split at commas; a doubled comma stands for one within a word. words_free() after success.
int words_split(
	struct words *words, const char *option, const char *argument, struct veneer_error *error);
void words_free(struct words *words);

// A list's commas are the same as those between words: a word that begins with a digit goes on with
// the list before it.
void words_join_lists(struct words *words);

// The value of `word` if it is NAME=VALUE, or NULL.
const char *value_of(const char *word, const char *name);

#endif
