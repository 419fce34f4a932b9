// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk (virtio 1.2, section 5.2): one device, one queue, up to BLK_SLOTS requests in flight.
 */
#ifndef GUEST_BLK_H
#define GUEST_BLK_H

#include "virtio.h"

#define BLK_SECTOR   512
#define BLK_SLOTS    128
#define BLK_SEGMENTS 16 /* data descriptors in one request */

#define BLK_READ   0
#define BLK_WRITE  1
#define BLK_FLUSH  4
#define BLK_GET_ID 8

#define BLK_STATUS_OK     0
#define BLK_STATUS_IOERR  1
#define BLK_STATUS_UNSUPP 2
#define BLK_STATUS_NONE   0xff /* what the driver puts there: the device has not answered */

#define BLK_FEATURE_SIZE_MAX (1ull << 1)
#define BLK_FEATURE_SEG_MAX  (1ull << 2)
#define BLK_FEATURE_RO       (1ull << 5)
#define BLK_FEATURE_BLK_SIZE (1ull << 6)
#define BLK_FEATURE_FLUSH    (1ull << 9)

#define BLK_ID_BYTES 20

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* What the device reads and writes beside the data; one for each slot. */
struct blk_slot {
	struct blk_header header;
	volatile uint8_t status;
	struct virtio_desc table[BLK_SEGMENTS + 2] __attribute__((aligned(16)));
};

typedef unsigned __int128 blk_slots; /* a bit a slot */

/* Shifts of one word only: for two, clang calls its library, and there is none here. */
static inline blk_slots blk_slot_bit(unsigned slot)
{
	return slot < 64 ? (blk_slots)((uint64_t)1 << slot)
			 : (blk_slots)((uint64_t)1 << (slot - 64)) << 64;
}

struct blk {
	struct virtio_device device;
	struct virtio_queue queue;
	struct blk_slot *slots;
	uint64_t started[BLK_SLOTS]; /* rdtsc at submission */
	blk_slots free;
	uint64_t sectors;
	uint32_t block_bytes;
	uint32_t request_bytes; /* the most that one request may carry */
	uint32_t segment_bytes;
	uint16_t segments;
	bool read_only, interrupts;
	bool armed; /* an interrupt tells of the next completion; no look at the ring before */
	bool spin; /* wait for interrupts in ring 3, not asleep */
	int irq; /* index in irq_counts[], -1 before the first use of interrupts */
	uint64_t notifications; /* sent since the start */
	uint32_t irq_seen; /* the count up to which interrupts are acknowledged */
};

/*
 * Finds the disk that `disk=N` names (the first one by default) and starts it. blk_find() returns
 * false if the machine has none; blk_start() may be called again at any time, resets the device,
 * and returns 0, or prints a FAIL line and returns 1.
 */
bool blk_find(struct blk *blk);
int blk_start(struct blk *blk);

/* Waiting by interrupt (asleep, or spinning with `wait=spin`) or by looking at the ring. */
int blk_use_interrupts(struct blk *blk, bool interrupts);

/* The slot that the next request will have, or -1 if none is free. */
int blk_next_slot(const struct blk *blk);

/*
 * Puts a request into a free slot; `bytes` is at most request_bytes. Returns the slot, or -1 when
 * none is free. The device need not look before blk_kick().
 */
int blk_submit(struct blk *blk, uint32_t type, uint64_t sector, void *data, uint32_t bytes);
void blk_kick(struct blk *blk);

/*
 * Waits for one request to complete and frees its slot; its status is still in
 * blk->slots[slot].status. Returns the slot, or -1, with a FAIL line, after ten seconds or with an
 * answer that makes no sense.
 */
int blk_complete(struct blk *blk);

/*
 * One request, from start to end, in as many parts as it takes: a virtio-blk status, NONE if lost.
 */
uint8_t blk_do(struct blk *blk, uint32_t type, uint64_t sector, void *data, uint64_t bytes);

/* Requests of one kind, as many in flight as there is room for up to `depth`. */
struct blk_load {
	uint32_t type; /* BLK_READ or BLK_WRITE */
	uint32_t bytes; /* each, at most request_bytes */
	bool random; /* anywhere, else in order and from the start again */
	unsigned depth; /* at most BLK_SLOTS */
	uint64_t count; /* ends after so many requests, */
	uint64_t ns; /* or after so long */
};

struct blk_result {
	uint64_t count, ns;
	uint32_t p50, p99; /* ns from submission to completion */
	uint64_t notifications, interrupts;
};

/* Runs a load with buffers of depth * bytes. Returns 0, or 1 with a FAIL line. */
int blk_load_run(
	struct blk *blk, const struct blk_load *load, char *buffers, struct blk_result *result);

/* The commands of the same names in README.md, each returning the exit status it calls for. */
int report_blk(void);
int blk_command_load(const char *value);
int blk_command_fill(const char *value);
int blk_command_check(const char *value);
int blk_command_journal(const char *value);
int blk_command_errors(const char *value);
int blk_command_read(const char *value);
int blk_command_write(const char *value);
int blk_command_id(const char *value);
int blk_command_flush(const char *value);

#endif
