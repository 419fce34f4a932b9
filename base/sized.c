// SPDX-License-Identifier: Apache-2.0
#include "base/sized.h"

#include <errno.h>
#include <string.h>

int vn_sized_in(void *to, size_t to_size, const void *from, size_t from_size)
{
	const unsigned char *bytes = from;
	for (size_t i = to_size; i < from_size; i++)
		if (bytes[i])
			return -E2BIG;
	memset(to, 0, to_size);
	memcpy(to, from, from_size < to_size ? from_size : to_size);
	return 0;
}

void vn_sized_out(void *to, size_t to_size, const void *from, size_t from_size)
{
	if (to_size == 0)
		return;
	memset(to, 0, to_size);
	memcpy(to, from, from_size < to_size ? from_size : to_size);
}
