// SPDX-License-Identifier: Apache-2.0
//
// The host's side of the disk tests: writes the guest's pattern to a file, or compares a file with
// it. `pattern fill|check FILE SEED`; exit status 0 when all is well, 1 with the first difference.
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/pattern.h"

#define CHUNK 65536

int main(int argc, char **argv)
{
	if (argc != 4 || (strcmp(argv[1], "fill") != 0 && strcmp(argv[1], "check") != 0)) {
		fprintf(stderr, "usage: pattern fill|check FILE SEED\n");
		return 2;
	}
	int filling = strcmp(argv[1], "fill") == 0;
	uint64_t seed = strtoull(argv[3], NULL, 0);
	int fd = open(argv[2], filling ? O_RDWR : O_RDONLY);
	if (fd < 0) {
		perror(argv[2]);
		return 2;
	}
	static uint64_t data[CHUNK / 8];
	off_t at = 0;
	ssize_t length;
	while ((length = pread(fd, data, CHUNK, at)) > 0) {
		size_t bytes = (size_t)length;
		if (filling) {
			pattern_fill(data, seed, (uint64_t)at, bytes);
			if (pwrite(fd, data, bytes, at) != length) {
				perror(argv[2]);
				return 2;
			}
		} else {
			size_t good = pattern_mismatch(data, seed, (uint64_t)at, bytes);
			if (good < bytes) {
				printf("differs at byte %" PRId64 "\n",
					(int64_t)at + (int64_t)good);
				return 1;
			}
		}
		at += length;
	}
	return length < 0 || at == 0 ? 2 : 0;
}
