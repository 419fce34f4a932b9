// SPDX-License-Identifier: Apache-2.0
//
// A guest's statistics as people and programs read them. Pure: snapshots in, text out.
#ifndef VN_STATS_FORMAT_H
#define VN_STATS_FORMAT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "veneer.h"

enum stats_format {
	STATS_TEXT, // tables
	STATS_JSON, // one object, on one line
	STATS_PROMETHEUS, // Prometheus' text exposition format 0.0.4
	STATS_FORMATS,
};

// Of which guest; `name` needs no escaping in any of the formats.
struct stats_guest {
	const char *name;
	int pid;
};

// The whole text, for free(3); NULL when there is no memory. With `before`, an earlier snapshot or
// NULL, STATS_TEXT has rates and latencies since then in place of totals.
char *stats_format(enum stats_format format, const struct stats_guest *guest,
	const struct veneer_stats *now, const struct veneer_stats *before);

// Each format's part.
void stats_format_text(FILE *out, const struct stats_guest *guest, const struct veneer_stats *now,
	const struct veneer_stats *before);
void stats_format_json(
	FILE *out, const struct stats_guest *guest, const struct veneer_stats *stats);
void stats_format_prometheus(
	FILE *out, const struct stats_guest *guest, const struct veneer_stats *stats);

// A MAC address as people write it. False, with `text` untouched, where there is none.
#define STATS_MAC_BYTES sizeof("02:00:00:00:00:00")
bool stats_mac(char text[STATS_MAC_BYTES], const uint8_t *mac);

// "running"
const char *stats_state(enum veneer_state state);

// The statistic that KVM calls `name`, or NULL.
const struct veneer_kvm_stat *stats_find_kvm(
	const struct veneer_kvm_stat *const *kvm, const char *name);

#endif
