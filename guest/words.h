/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel command line, word by word, as Linux has it (next_arg() and parse_args()). Compiled for
 * the guest and for the host. */
#ifndef GUEST_WORDS_H
#define GUEST_WORDS_H

#include <stddef.h>

/*
 * Copy the next word of `line` to `word`, cut to fit `size` bytes, and return what is behind it;
 * NULL when there is none, at the end or before a bare `--`, behind which all is for init. Between
 * quotes a blank does not end a word; those around all of it or around what is behind its `=` are
 * taken off.
 */
const char *words_next(const char *line, char *word, size_t size);

#endif
