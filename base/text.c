// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/macros.h"

void vn_text_add(struct vn_text *text, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = vsnprintf(text->at, text->left, format, args);
	va_end(args);
	size_t used = length < 0 ? 0 : (size_t)length;
	if (used >= text->left)
		used = text->left - 1;
	text->at += used;
	text->left -= used;
}

void vn_text_add_size(struct vn_text *text, uint64_t size)
{
	unsigned unit = 0;
	while (size > 0 && unit < 4 && size % KIB == 0) {
		size /= KIB;
		unit++;
	}
	vn_text_add(text, "%" PRIu64 "%.*s", size, unit > 0, &" KMGT"[unit]);
}
