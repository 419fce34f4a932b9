// SPDX-License-Identifier: Apache-2.0
/*
 * The machine as the VMM described it: command line, memory, CPUs, devices, clock. Filled once by
 * machine_read() before anything else looks, and not changed after.
 */
#ifndef GUEST_MACHINE_H
#define GUEST_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define MAX_WORDS   128
#define MAX_RANGES  64
#define MAX_DEVICES 32

struct machine_range {
	uint64_t base, bytes;
	uint32_t type; /* as in E820; 1 is RAM */
};

struct machine_device {
	uint64_t base, bytes;
	uint32_t gsi;
};

struct machine {
	char *words[MAX_WORDS]; /* of the command line, each ended by a NUL */
	unsigned word_count;
	struct machine_range ranges[MAX_RANGES];
	unsigned range_count;
	uint32_t apic_ids[MAX_CPUS];
	unsigned cpu_count;
	struct machine_device devices[MAX_DEVICES]; /* virtio-mmio */
	unsigned device_count;
	uint64_t ecam; /* PCI configuration space of bus 0; 0: none told of */
	struct machine_range pci_window; /* where 64-bit BARs may lie */
	uint64_t tsc_hz;
	const char *tsc_source, *device_source;
};

extern struct machine machine;

struct start_info;

/*
 * Copies all that is wanted from the PVH start info; afterwards that memory is free. False: no
 * info.
 */
bool machine_read(const struct start_info *info);

/* What follows `name=` in the first such word, "" for the bare word, NULL if there is none. */
const char *machine_word(const char *name);

uint64_t machine_ram_bytes(void);

/*
 * Memory for buffers: what lies behind the guest in its range of RAM, handed out upwards, never
 * zeroed. `align` is a power of two. NULL when there is no more. machine_release() takes back all
 * that was handed out since the mark.
 */
void *machine_alloc(size_t bytes, size_t align);
uint64_t machine_available(void);
uint64_t machine_mark(void);
void machine_release(uint64_t mark);

/* Maps the RAM above 4 GiB (below 512 GiB), which the static tables leave out. */
void machine_map_high(void);

/*
 * Maps the gigabyte of registers that `address` is in; false when there is no room for its table.
 */
bool machine_map(uint64_t address);

/* Nanoseconds for a difference of two rdtsc(), and back. */
uint64_t ticks_to_ns(uint64_t ticks);
uint64_t ns_to_ticks(uint64_t ns);
void delay_us(uint64_t us);

#endif
