// SPDX-License-Identifier: Apache-2.0
/*
 * The words by which a test on the host moves single sectors, fills and checks whole disks, and
 * sees how errors arrive. For single transfers a virtio-blk status other than 0 becomes the exit
 * status, plus 10.
 */
#include "blk.h"
#include "journal.h"
#include "pattern.h"
#include "print.h"
#include "ring0.h"

#define IN_FLIGHT      8
#define MAX_BYTES      (8u << 20)
#define STATUS_BASE    10
#define ERROR_REQUESTS 64

/* A started disk and a buffer; what each command begins with. */
static int open_disk(struct blk *blk, char **buffer)
{
	*blk = (struct blk){0};
	if (!blk_find(blk))
		return fail("disk", "one", "none");
	if (blk_start(blk))
		return 1;
	*buffer = machine_alloc(MAX_BYTES, 0x200000);
	if (!*buffer)
		return fail("memory for disk buffers", "8 MiB", "less");
	return 0;
}

static int close_disk(struct blk *blk, uint64_t mark, int status)
{
	if (virtio_reset(&blk->device))
		status = fail("disk's status after a reset", "0", "not 0");
	machine_release(mark);
	return status;
}

static int exit_status(uint8_t status)
{
	return status ? status + STATUS_BASE : 0;
}

static int fail_unless_ok(const char *what, uint8_t status)
{
	return status == BLK_STATUS_OK ? 0 : fail_number(what, BLK_STATUS_OK, status);
}

/* A pass over the whole disk, several large requests in flight. */
struct sweep {
	struct blk *blk;
	char *buffer;
	uint64_t seed, next; /* next: first sector not yet submitted */
	uint64_t at[IN_FLIGHT]; /* by slot, as the next two */
	uint32_t bytes[IN_FLIGHT];
	char *data[IN_FLIGHT];
	unsigned in_flight;
	uint32_t type;
};

static void sweep_submit(struct sweep *s)
{
	struct blk *blk = s->blk;

	while (s->in_flight < IN_FLIGHT && s->next < blk->sectors) {
		uint64_t left = (blk->sectors - s->next) * BLK_SECTOR;
		int slot = blk_next_slot(blk);

		if (slot < 0 || slot >= IN_FLIGHT)
			break;
		s->bytes[slot] = left < blk->request_bytes ? (uint32_t)left : blk->request_bytes;
		s->data[slot] = s->buffer + (size_t)slot * (MAX_BYTES / IN_FLIGHT);
		s->at[slot] = s->next;
		if (s->type == BLK_WRITE)
			pattern_fill(s->data[slot], s->seed, s->next * BLK_SECTOR, s->bytes[slot]);
		else
			memset(s->data[slot], 0, s->bytes[slot]);
		blk_submit(blk, s->type, s->next, s->data[slot], s->bytes[slot]);
		s->next += s->bytes[slot] / BLK_SECTOR;
		s->in_flight++;
	}
	blk_kick(blk);
}

/* Takes one completion and judges it; returns 1 if it failed. */
static int sweep_complete(struct sweep *s)
{
	int slot = blk_complete(s->blk);
	uint64_t offset, wrong;
	uint8_t status;

	if (slot < 0)
		return 1;
	s->in_flight--;
	status = s->blk->slots[slot].status;
	offset = s->at[slot] * BLK_SECTOR;
	if (status) {
		print("FAIL: request at offset %lu, expected status 0, got %u\n", offset, status);
		return 1;
	}
	if (s->type == BLK_WRITE)
		return 0;
	wrong = pattern_mismatch(s->data[slot], s->seed, offset, s->bytes[slot]);
	if (wrong == s->bytes[slot])
		return 0;
	print("FAIL: word at offset %lu, expected %016lx, got %016lx\n", offset + wrong,
		pattern_word(s->seed, offset + wrong), *(uint64_t *)(s->data[slot] + wrong));
	return 1;
}

static int sweep(struct blk *blk, char *buffer, uint32_t type, uint64_t seed)
{
	struct sweep s = {.blk = blk, .buffer = buffer, .seed = seed, .type = type};

	do {
		int status;

		sweep_submit(&s);
		status = s.in_flight ? sweep_complete(&s) : 0;
		if (status)
			return status;
	} while (s.in_flight || s.next < blk->sectors);
	return 0;
}

int blk_command_fill(const char *value)
{
	uint64_t mark = machine_mark(), seed = 0;
	struct blk blk;
	char *buffer;
	int status;

	parse_number(&value, &seed);
	if (open_disk(&blk, &buffer))
		return 1;
	status = sweep(&blk, buffer, BLK_WRITE, seed);
	if (!status && blk.device.features & BLK_FEATURE_FLUSH)
		status = fail_unless_ok("status of a flush", blk_do(&blk, BLK_FLUSH, 0, NULL, 0));
	if (!status)
		print("blk-fill: %lu MiB, seed %lu: ok\n", blk.sectors >> 11, seed);
	return close_disk(&blk, mark, status);
}

int blk_command_check(const char *value)
{
	uint64_t mark = machine_mark(), seed = 0;
	struct blk blk;
	char *buffer;
	int status;

	parse_number(&value, &seed);
	if (open_disk(&blk, &buffer))
		return 1;
	status = sweep(&blk, buffer, BLK_READ, seed);
	if (!status)
		print("blk-check: %lu MiB, seed %lu: ok\n", blk.sectors >> 11, seed);
	return close_disk(&blk, mark, status);
}

/* The numbers from `first` on, all in flight at once; returns 1 at the first that fails. */
static int journal_batch(struct blk *blk, char *buffer, uint64_t seed, uint64_t first)
{
	uint64_t blocks = blk->sectors / (JOURNAL_BLOCK / BLK_SECTOR);

	for (unsigned i = 0; i < JOURNAL_BATCH; i++) {
		char *block = buffer + i * JOURNAL_BLOCK;
		uint64_t at = journal_place(first + i, blocks) * (JOURNAL_BLOCK / BLK_SECTOR);

		journal_fill((uint64_t *)block, seed, first + i);
		if (blk_submit(blk, BLK_WRITE, at, block, JOURNAL_BLOCK) < 0)
			return fail("room in the disk's queue", "16 requests", "less");
	}
	blk_kick(blk);
	for (unsigned i = 0; i < JOURNAL_BATCH; i++) {
		int slot = blk_complete(blk);

		if (slot < 0)
			return 1;
		if (blk->slots[slot].status != BLK_STATUS_OK)
			return fail_number("status of a write", 0, blk->slots[slot].status);
	}
	if (!(blk->device.features & BLK_FEATURE_FLUSH))
		return 0;
	return fail_unless_ok("status of a flush", blk_do(blk, BLK_FLUSH, 0, NULL, 0));
}

/* SEED[,BATCHES]: for ever, if it is not said how many. */
int blk_command_journal(const char *value)
{
	uint64_t mark = machine_mark(), seed = 0, batches = ~0ull;
	struct blk blk;
	char *buffer;
	int status = 0;

	parse_number(&value, &seed);
	if (*value == ',') {
		value++;
		parse_number(&value, &batches);
	}
	if (open_disk(&blk, &buffer))
		return 1;
	for (uint64_t i = 0; i < batches && !status; i++) {
		status = journal_batch(&blk, buffer, seed, i * JOURNAL_BATCH + 1);
		if (!status)
			print("flushed %lu\n", (i + 1) * JOURNAL_BATCH);
	}
	return close_disk(&blk, mark, status);
}

/* Reads in at most ERROR_REQUESTS parts of up to 1 MiB; beyond, only the changes are printed. */
static void read_everywhere(struct blk *blk, char *buffer)
{
	uint64_t each = (blk->sectors / ERROR_REQUESTS + 7) & ~7ull, requests;
	uint8_t status, last = BLK_STATUS_NONE;

	if (each < 8)
		each = 8;
	if (each > blk->request_bytes / BLK_SECTOR)
		each = blk->request_bytes / BLK_SECTOR;
	requests = (blk->sectors + each - 1) / each;
	for (uint64_t sector = 0; sector < blk->sectors; sector += each) {
		uint64_t count = blk->sectors - sector < each ? blk->sectors - sector : each;

		status = blk_do(blk, BLK_READ, sector, buffer, count * BLK_SECTOR);
		if (requests <= ERROR_REQUESTS + 8 || status != last)
			print("blk-io-error: read sector %lu: status %u\n", sector, status);
		last = status;
		if (status == BLK_STATUS_NONE)
			return;
	}
}

int blk_command_errors(const char *value)
{
	uint64_t mark = machine_mark(), places[3];
	struct blk blk;
	char *buffer;

	(void)value;
	if (open_disk(&blk, &buffer))
		return 1;
	read_everywhere(&blk, buffer);
	places[0] = 0;
	places[1] = blk.sectors / 2 & ~7ull;
	places[2] = blk.sectors < 8 ? 0 : (blk.sectors - 8) & ~7ull;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t bytes = blk.sectors < 8 ? blk.sectors * BLK_SECTOR : 8 * BLK_SECTOR;

		pattern_fill(buffer, 0, places[i] * BLK_SECTOR, bytes);
		print("blk-io-error: write sector %lu: status %u\n", places[i],
			blk_do(&blk, BLK_WRITE, places[i], buffer, bytes));
	}
	print("blk-io-error: flush: status %u\n", blk_do(&blk, BLK_FLUSH, 0, NULL, 0));
	return close_disk(&blk, mark, 0);
}

/* SECTOR,COUNT[,SEED] */
static bool parse_transfer(const char *value, uint64_t *sector, uint64_t *count, uint64_t *seed)
{
	*seed = 0;
	if (!parse_number(&value, sector) || *value++ != ',' || !parse_number(&value, count))
		return false;
	if (*value == ',') {
		value++;
		return parse_number(&value, seed);
	}
	return true;
}

static int transfer(const char *name, uint32_t type, const char *value)
{
	uint64_t mark = machine_mark(), sector, count, seed;
	struct blk blk;
	uint8_t status;
	char *buffer;

	if (!parse_transfer(value, &sector, &count, &seed) || count > MAX_BYTES / BLK_SECTOR)
		return fail(name, "SECTOR,COUNT[,SEED], at most 8 MiB", value);
	if (open_disk(&blk, &buffer))
		return 1;
	if (type == BLK_WRITE)
		pattern_fill(buffer, seed, sector * BLK_SECTOR, count * BLK_SECTOR);
	status = blk_do(&blk, type, sector, buffer, count * BLK_SECTOR);
	print("%s: sector %lu count %lu: status %u\n", name, sector, count, status);
	return close_disk(&blk, mark, exit_status(status));
}

int blk_command_read(const char *value)
{
	return transfer("blk-read", BLK_READ, value);
}

int blk_command_write(const char *value)
{
	return transfer("blk-write", BLK_WRITE, value);
}

int blk_command_id(const char *value)
{
	char id[BLK_ID_BYTES + 1] = {0};
	uint64_t mark = machine_mark();
	struct blk blk;
	uint8_t status;
	char *buffer;

	(void)value;
	if (open_disk(&blk, &buffer))
		return 1;
	memset(buffer, 0, BLK_ID_BYTES);
	status = blk_do(&blk, BLK_GET_ID, 0, buffer, BLK_ID_BYTES);
	memcpy(id, buffer, BLK_ID_BYTES);
	print("blk-id: %s: status %u\n", id, status);
	return close_disk(&blk, mark, exit_status(status));
}

int blk_command_flush(const char *value)
{
	uint64_t mark = machine_mark();
	struct blk blk;
	uint8_t status;
	char *buffer;

	(void)value;
	if (open_disk(&blk, &buffer))
		return 1;
	status = blk_do(&blk, BLK_FLUSH, 0, NULL, 0);
	print("blk-flush: status %u\n", status);
	return close_disk(&blk, mark, exit_status(status));
}
