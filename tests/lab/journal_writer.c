// SPDX-License-Identifier: Apache-2.0
//
// The built-in guest's `blk-journal` (guest/journal.h) as a program for Linux guests. It writes
// until it is killed, and says `flushed N` as that does, once nothing up to number N may be lost
// any more:
//
//   journal_writer DEVICE SEED
//           Bypasses the page cache. A batch is in flight at once; each CPU submits a part of it,
//           so that every queue of the disk has one.
//   journal_writer DIRECTORY SEED FILES
//           A block is a file, named after its place. A new version is written beside the old one,
//           a batch in flight at once, synced, and renamed to it; syncing the directory ends the
//           batch.
#include <fcntl.h>
#include <inttypes.h>
#include <linux/aio_abi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/journal.h"

struct target {
	int fd; // the device, or the directory
	uint64_t blocks;
	aio_context_t aio; // of the device
};

static _Alignas(JOURNAL_BLOCK) uint64_t batch[JOURNAL_BATCH][JOURNAL_BLOCK / 8];

// The blocks of the batch from `from` to before `to`, by this CPU.
static int submit(const struct target *target, unsigned cpu, unsigned from, unsigned to)
{
	struct iocb requests[JOURNAL_BATCH] = {0}, *list[JOURNAL_BATCH];
	cpu_set_t here;
	CPU_ZERO(&here);
	CPU_SET(cpu, &here);
	if (sched_setaffinity(0, sizeof(here), &here) < 0)
		return -1;
	for (unsigned i = from; i < to; i++) {
		list[i] = &requests[i];
		requests[i].aio_fildes = (uint32_t)target->fd;
		requests[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		requests[i].aio_buf = (uintptr_t)batch[i];
		requests[i].aio_nbytes = JOURNAL_BLOCK;
		requests[i].aio_offset =
			(int64_t)(journal_place(batch[i][0], target->blocks) * JOURNAL_BLOCK);
	}
	long count = to - from;
	return syscall(SYS_io_submit, target->aio, count, list + from) == count ? 0 : -1;
}

static int write_device(const struct target *target)
{
	struct io_event events[JOURNAL_BATCH];
	unsigned cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		unsigned from = JOURNAL_BATCH * cpu / cpus, to = JOURNAL_BATCH * (cpu + 1) / cpus;
		if (submit(target, cpu, from, to) < 0)
			return -1;
	}
	if (syscall(SYS_io_getevents, target->aio, JOURNAL_BATCH, JOURNAL_BATCH, events, NULL) !=
		JOURNAL_BATCH)
		return -1;
	for (unsigned i = 0; i < JOURNAL_BATCH; i++) {
		if (events[i].res != JOURNAL_BLOCK) {
			fprintf(stderr, "a write ended with %" PRId64 "\n", (int64_t)events[i].res);
			return -1;
		}
	}
	return fdatasync(target->fd);
}

static int write_files(const struct target *target)
{
	char name[JOURNAL_BATCH][16], fresh[JOURNAL_BATCH][16];
	int fds[JOURNAL_BATCH];
	for (unsigned i = 0; i < JOURNAL_BATCH; i++) {
		unsigned place = (unsigned)journal_place(batch[i][0], target->blocks);
		snprintf(name[i], sizeof(name[i]), "%04u", place);
		snprintf(fresh[i], sizeof(fresh[i]), "%04u.new", place);
		fds[i] = openat(target->fd, fresh[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (fds[i] < 0 || write(fds[i], batch[i], JOURNAL_BLOCK) != JOURNAL_BLOCK ||
			sync_file_range(fds[i], 0, 0, SYNC_FILE_RANGE_WRITE) < 0)
			return -1;
	}
	for (unsigned i = 0; i < JOURNAL_BATCH; i++) {
		if (fsync(fds[i]) < 0 || close(fds[i]) < 0 ||
			renameat(target->fd, fresh[i], target->fd, name[i]) < 0)
			return -1;
	}
	return fsync(target->fd);
}

static int open_target(struct target *target, int argc, char **argv)
{
	if (argc == 4) {
		target->fd = open(argv[1], O_RDONLY | O_DIRECTORY);
		target->blocks = strtoull(argv[3], NULL, 0);
		return target->fd;
	}
	target->fd = open(argv[1], O_WRONLY | O_DIRECT);
	off_t size = target->fd < 0 ? -1 : lseek(target->fd, 0, SEEK_END);
	if (size < 0)
		return -1;
	target->blocks = (uint64_t)size / JOURNAL_BLOCK;
	return (int)syscall(SYS_io_setup, JOURNAL_BATCH, &target->aio);
}

int main(int argc, char **argv)
{
	struct target target = {0};
	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: journal_writer DEVICE SEED | DIRECTORY SEED FILES\n");
		return 2;
	}
	int code = open_target(&target, argc, argv);
	uint64_t seed = strtoull(argv[2], NULL, 0);
	setlinebuf(stdout);
	for (uint64_t flushed = 0; code >= 0; flushed += JOURNAL_BATCH) {
		if (flushed > 0)
			printf("flushed %" PRIu64 "\n", flushed);
		for (unsigned i = 0; i < JOURNAL_BATCH; i++)
			journal_fill(batch[i], seed, flushed + i + 1);
		code = argc == 4 ? write_files(&target) : write_device(&target);
	}
	perror(argv[1]);
	return 1;
}
