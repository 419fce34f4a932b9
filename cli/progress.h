// SPDX-License-Identifier: Apache-2.0
//
// How far the preallocation of guest memory is, on a terminal, where it takes long enough for
// someone to wonder. Only the words: who writes them, and when, is the caller's business.
#ifndef VN_PROGRESS_H
#define VN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	uint64_t begun_ns; // when it began
	bool shown; // there is something on the terminal's line
};

// What to write to the terminal, without a newline; "" while that is nothing. `now_ns` is of the
// same clock. When all is done, the line is cleared.
void progress_line(struct progress *progress, char line[static 128], uint64_t now_ns, uint64_t done,
	uint64_t total);

// What clears the line, or "" where there is nothing on it.
const char *progress_clear(struct progress *progress);

#endif
