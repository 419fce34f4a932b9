// SPDX-License-Identifier: Apache-2.0
//
// A line or a few, written piece by piece into a buffer of a fixed size and cut at its end.
#ifndef VN_TEXT_H
#define VN_TEXT_H

#include <stddef.h>
#include <stdint.h>

// The buffer is the caller's; always ends with a 0.
struct vn_text {
	char *at;
	size_t left; // with the final 0
};

// `buffer` an array.
#define VN_TEXT(buffer) vn_text_of((buffer), sizeof(buffer))

static inline struct vn_text vn_text_of(char *buffer, size_t size)
{
	buffer[0] = '\0';
	return (struct vn_text){buffer, size};
}

void vn_text_add(struct vn_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

// A size in the largest unit that it is a multiple of: "1536K".
void vn_text_add_size(struct vn_text *text, uint64_t size);

#endif
