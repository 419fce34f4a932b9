// SPDX-License-Identifier: Apache-2.0
//
// What is left on a disk of the guest's `blk-journal`, after its monitor or its disk's power has
// gone: `journal FILE SEED FLUSHED`, where FLUSHED is the last number that the guest said was
// flushed. Exit status 1, with the first block that is wrong, unless every block is whole, and
// every number up to FLUSHED, and up to the batch before that of the newest block found, is where
// it belongs or has been overwritten by a later one.
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest/journal.h"

static int check_blocks(int fd, uint64_t seed, uint64_t *numbers, uint64_t blocks)
{
	static uint64_t block[JOURNAL_BLOCK / 8];
	for (uint64_t i = 0; i < blocks; i++) {
		off_t at = (off_t)(i * JOURNAL_BLOCK);
		if (pread(fd, block, JOURNAL_BLOCK, at) != JOURNAL_BLOCK) {
			perror("read");
			return 2;
		}
		uint64_t any = 0;
		for (unsigned k = 0; k < JOURNAL_BLOCK / 8; k++)
			any |= block[k];
		numbers[i] = block[0];
		if (any == 0)
			continue;
		if (!journal_is_whole(block, seed) || journal_place(block[0], blocks) != i) {
			printf("block %" PRIu64 " is not whole: it says %" PRIu64 "\n", i,
				block[0]);
			return 1;
		}
	}
	return 0;
}

static int check_numbers(const uint64_t *numbers, uint64_t blocks, uint64_t flushed)
{
	uint64_t newest = 0;
	for (uint64_t i = 0; i < blocks; i++)
		newest = numbers[i] > newest ? numbers[i] : newest;
	uint64_t floor = newest > 0 ? (newest - 1) / JOURNAL_BATCH * JOURNAL_BATCH : 0;
	if (flushed > floor)
		floor = flushed;
	for (uint64_t number = 1; number <= floor; number++) {
		uint64_t place = journal_place(number, blocks);
		if (numbers[place] < number) {
			printf("number %" PRIu64 " is lost: block %" PRIu64 " holds %" PRIu64
			       "; flushed %" PRIu64 ", newest %" PRIu64 "\n",
				number, place, numbers[place], flushed, newest);
			return 1;
		}
	}
	printf("flushed %" PRIu64 ", newest %" PRIu64 "\n", flushed, newest);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: journal FILE SEED FLUSHED\n");
		return 2;
	}
	int fd = open(argv[1], O_RDONLY);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	if (size < 0) {
		perror(argv[1]);
		return 2;
	}
	uint64_t blocks = (uint64_t)size / JOURNAL_BLOCK;
	uint64_t *numbers = calloc(blocks + 1, sizeof(*numbers));
	if (!numbers)
		return 2;
	int code = check_blocks(fd, strtoull(argv[2], NULL, 0), numbers, blocks);
	if (code == 0)
		code = check_numbers(numbers, blocks, strtoull(argv[3], NULL, 0));
	free(numbers);
	close(fd);
	return code;
}
