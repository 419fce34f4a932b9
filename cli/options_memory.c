// SPDX-License-Identifier: Apache-2.0
//
// `--memory` and `--numa`: how much, of what pages, and where.
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cli/options_parts.h"
#include "cli/options_words.h"

#define MEMORY_MIN MIB // below that, someone forgot the unit

static int parse_hugepages(
	uint64_t *size, const char *option, const char *value, struct veneer_error *error)
{
	if (parse_size(value, size) == 0 && (*size == 2 * MIB || *size == GIB))
		return 0;
	return refuse(error, "%s: hugepages='%s' is neither 2M nor 1G", option, value);
}

static int parse_node(int *node, const char *option, const char *value, struct veneer_error *error)
{
	uint64_t number;
	int ret = parse_number(value, INT_MAX, &number);

	if (ret == -ERANGE)
		return refuse(error,
			"%s: node='%s': the host has no such NUMA node (numactl "
			"--hardware lists them)",
			option, value);
	if (ret < 0)
		return refuse(
			error, "%s: node='%s' is not the number of a NUMA node", option, value);
	*node = (int)number;
	return 0;
}

static int parse_memory_size(
	uint64_t *size, const char *option, const char *value, struct veneer_error *error)
{
	int ret = parse_size(value, size);

	if (ret == -ERANGE)
		return refuse(error, "%s: '%s' is more than 64 bits hold", option, value);
	if (ret < 0)
		return refuse(error, "%s: '%s' is not a size: a number, then K, M, G or T", option,
			value);
	if (*size < MEMORY_MIN)
		return refuse(error,
			"%s: '%s' is less than 1M; sizes are in bytes unless K, M, G or T follows",
			option, value);
	return 0;
}

static int parse_memory_word(
	struct veneer_memory *memory, const char *word, struct veneer_error *error)
{
	const char *value;

	if ((value = value_of(word, "hugepages")))
		return parse_hugepages(&memory->hugepage_size, "--memory", value, error);
	if ((value = value_of(word, "node")))
		return parse_node(&memory->node, "--memory", value, error);
	if ((value = value_of(word, "merge"))) {
		if (parse_switch(value, &memory->merge) < 0)
			return refuse(error, "--memory: merge='%s' is neither on nor off", value);
	} else if (strcmp(word, "prealloc") == 0) {
		memory->prealloc = true;
	} else if (strcmp(word, "lock") == 0) {
		memory->lock = true;
	} else {
		return unknown_word(error, "--memory", word,
			"hugepages=2M|1G, node=N, prealloc, lock, merge=on|off");
	}
	return 0;
}

int parse_memory(struct options *options, const char *argument, struct veneer_error *error)
{
	struct veneer_memory memory = {.node = -1};
	struct words words;
	int ret = words_split(&words, "--memory", argument, error);

	if (ret < 0)
		return ret;
	ret = parse_memory_size(&memory.size, "--memory", words.words[0], error);
	for (unsigned i = 1; i < words.count && ret == 0; i++)
		ret = parse_memory_word(&memory, words.words[i], error);
	words_free(&words);
	options->memory = memory;
	options->memory_given = true;
	return ret;
}

// One cell as it is parsed; -1, 0 or NULL: not there.
struct cell_words {
	int number;
	const char *cpus;
	uint64_t size;
	uint64_t hugepage_size;
	int node;
};

static int parse_cell_word(struct cell_words *cell, const char *word, struct veneer_error *error)
{
	const char *value;
	uint64_t number;

	if ((value = value_of(word, "cpus"))) {
		cell->cpus = value;
	} else if ((value = value_of(word, "memory"))) {
		return parse_memory_size(&cell->size, "--numa: memory", value, error);
	} else if ((value = value_of(word, "node"))) {
		return parse_node(&cell->node, "--numa", value, error);
	} else if ((value = value_of(word, "hugepages"))) {
		return parse_hugepages(&cell->hugepage_size, "--numa", value, error);
	} else if ((value = value_of(word, "cell"))) {
		if (parse_number(value, VENEER_CELLS_MAX - 1, &number) < 0)
			return refuse(error, "--numa: cell='%s' is not a number from 0 to %d",
				value, VENEER_CELLS_MAX - 1);
		cell->number = (int)number;
	} else {
		return unknown_word(error, "--numa", word,
			"cell=N, cpus=LIST, memory=SIZE, node=N, hugepages=2M|1G");
	}
	return 0;
}

static int add_cell(
	struct options *options, const struct cell_words *cell, struct veneer_error *error)
{
	struct veneer_error reason;
	struct veneer_cell *to = &options->cells[cell->number];

	if (options->cells_given & 1u << cell->number)
		return refuse(error, "--numa: cell %d is there twice", cell->number);
	*to = (struct veneer_cell){
		.size = cell->size, .hugepage_size = cell->hugepage_size, .node = cell->node};
	int ret = veneer_cpuset_parse(&to->cpus, cell->cpus, &reason);
	if (ret == -ERANGE)
		return refuse(error,
			"--numa: cpus='%s' names CPUs that no guest has: %d is the last",
			cell->cpus, VENEER_CPUS_MAX - 1);
	if (ret < 0)
		return refuse(error, "--numa: cpus=%s", reason.message);
	options->cells_given |= 1u << cell->number;
	options->cell_count++;
	return 0;
}

int parse_numa(struct options *options, const char *argument, struct veneer_error *error)
{
	struct cell_words cell = {.number = -1, .node = -1};
	struct words words;
	int ret = words_split(&words, "--numa", argument, error);

	if (ret < 0)
		return ret;
	words_join_lists(&words);
	for (unsigned i = 0; i < words.count && ret == 0; i++)
		ret = parse_cell_word(&cell, words.words[i], error);
	if (ret == 0 && (cell.number < 0 || !cell.cpus || cell.size == 0))
		ret = refuse(error,
			"--numa %s: a cell needs a number, CPUs and memory, "
			"such as cell=0,cpus=0-3,memory=4G",
			argument);
	if (ret == 0)
		ret = add_cell(options, &cell, error);
	words_free(&words);
	return ret;
}

int judge_cells(struct options *options, struct veneer_error *error)
{
	uint64_t size = 0;

	if (options->cell_count == 0)
		return 0;
	for (unsigned i = 0; i < options->cell_count; i++) {
		if (!(options->cells_given & 1u << i))
			return refuse(error,
				"--numa: %u cells are numbered from 0 to %u; there is no cell %u",
				options->cell_count, options->cell_count - 1, i);
		if (options->cells[i].size > UINT64_MAX - size)
			return refuse(
				error, "--numa: the cells have more memory than 64 bits hold");
		size += options->cells[i].size;
	}
	if (options->memory_given && options->memory.size != size)
		return refuse(error,
			"--memory says %" PRIu64 "K, but the cells of --numa have %" PRIu64
			"K together",
			(uint64_t)(options->memory.size / KIB), (uint64_t)(size / KIB));
	options->memory.size = size;
	return 0;
}
