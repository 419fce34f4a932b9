// SPDX-License-Identifier: Apache-2.0
//
// Parsing by getopt_long(3), and below it comma-separated sub-options. Everything is judged
// strictly: a number is digits and nothing else, a word is one of those listed, and what is wrong
// is named together with what would be right.
#include "vmm/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/fail.h"
#include "vmm/runtime.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)

#define MEMORY_MIN      MIB // below that, someone forgot the unit
#define TIMEOUT_MAX     1000000000ull // seconds; 31 years
#define NS_PER_S        1000000000ull
#define SERIAL_BYTES    20 // virtio 1.2 section 5.2.6: a device's identity
#define MTU_MIN         68 // RFC 791
#define NOT_COMMON      1
#define SUBOPTIONS_MAX  256 // a list of pairs is a word for each vCPU
#define FIFO_MAX        99 // the highest real-time priority of sched(7)
#define LONG_ONLY_FIRST 256 // values of options without a letter

enum {
	OPTION_CPU = LONG_ONLY_FIRST,
	OPTION_NET,
	OPTION_NUMA,
	OPTION_RNG,
	OPTION_TRANSPORT,
	OPTION_SERIAL,
	OPTION_TIMEOUT,
	OPTION_DUMP_DTB,
	OPTION_REBOOT,
	OPTION_NAME,
	OPTION_STATS,
	OPTION_JSON,
	OPTION_PROMETHEUS,
	OPTION_WATCH,
	OPTION_OUTPUT,
	OPTION_DRY_RUN,
};

static const char SHORT_OPTIONS[] = "+:k:i:a:c:m:d:h";

static const struct option LONG_OPTIONS[] = {
	{"kernel", required_argument, NULL, 'k'},
	{"initrd", required_argument, NULL, 'i'},
	{"cmdline", required_argument, NULL, 'a'},
	{"cpus", required_argument, NULL, 'c'},
	{"cpu", required_argument, NULL, OPTION_CPU},
	{"memory", required_argument, NULL, 'm'},
	{"numa", required_argument, NULL, OPTION_NUMA},
	{"disk", required_argument, NULL, 'd'},
	{"net", required_argument, NULL, OPTION_NET},
	{"rng", required_argument, NULL, OPTION_RNG},
	{"transport", required_argument, NULL, OPTION_TRANSPORT},
	{"serial", required_argument, NULL, OPTION_SERIAL},
	{"timeout", required_argument, NULL, OPTION_TIMEOUT},
	{"dump-dtb", required_argument, NULL, OPTION_DUMP_DTB},
	{"reboot", no_argument, NULL, OPTION_REBOOT},
	{"name", required_argument, NULL, OPTION_NAME},
	{"stats", optional_argument, NULL, OPTION_STATS},
	{"dry-run", no_argument, NULL, OPTION_DRY_RUN},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static const struct option DOCTOR_LONG_OPTIONS[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	{"disk", required_argument, NULL, 'd'},
	{"cpus", required_argument, NULL, 'c'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

#define DOCTOR_CHOICES "--json, --disk, --cpus, --help"

#define RUN_CHOICES                                                                                \
	"--kernel, --initrd, --cmdline, --cpus, --cpu, --memory, --numa, --disk, --net, --rng, "   \
	"--transport, --serial, --timeout, --dump-dtb, --reboot, --name, --stats, --dry-run, "     \
	"--help"

__attribute__((format(printf, 2, 3))) static int fail(
	struct veneer_error *error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fail_with_list(error, -EINVAL, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static int out_of_memory(struct veneer_error *error)
{
	fail(error, "out of memory");
	return -ENOMEM;
}

// Digits up to a character that is none, which *end tells. -EINVAL: no digit; -ERANGE: too large.
static int parse_digits(const char *text, uint64_t max, const char **end, uint64_t *value)
{
	const char *at = text;
	uint64_t sum = 0;

	*end = text;
	*value = 0;
	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');
		if (digit > max || sum > (max - digit) / 10)
			return -ERANGE;
		sum = sum * 10 + digit;
	}
	*end = at;
	*value = sum;
	return at == text ? -EINVAL : 0;
}

static int parse_number(const char *text, uint64_t max, uint64_t *value)
{
	const char *end;
	int ret = parse_digits(text, max, &end, value);

	return ret < 0 ? ret : *end ? -EINVAL : 0;
}

static int parse_size(const char *text, uint64_t *size)
{
	const char *end;
	uint64_t count;
	uint64_t unit = 1;

	int ret = parse_digits(text, UINT64_MAX, &end, &count);
	if (ret < 0)
		return ret;
	switch (*end) {
	case 'K':
		unit = KIB;
		break;
	case 'M':
		unit = MIB;
		break;
	case 'G':
		unit = GIB;
		break;
	}
	if (unit > 1)
		end++;
	if (*end)
		return -EINVAL;
	if (count > UINT64_MAX / unit)
		return -ERANGE;
	*size = count * unit;
	return 0;
}

// The words of one option's argument: `text` is a copy that they point into.
struct words {
	char *text;
	unsigned count;
	char *words[SUBOPTIONS_MAX];
};

static void words_free(struct words *words)
{
	free(words->text);
}

// Split at commas; a doubled comma stands for one within a word. words_free() after success.
static int words_split(
	struct words *words, const char *option, const char *argument, struct veneer_error *error)
{
	words->count = 0;
	words->text = strdup(argument);
	if (!words->text)
		return out_of_memory(error);
	char *to = words->text;
	words->words[words->count++] = to;
	for (const char *from = argument; *from; from++) {
		if (from[0] != ',') {
			*to++ = *from;
		} else if (from[1] == ',') {
			*to++ = *from++;
		} else if (words->count == SUBOPTIONS_MAX) {
			words_free(words);
			return fail(error, "%s: too many words, at most %d: %s", option,
				SUBOPTIONS_MAX, argument);
		} else {
			*to++ = '\0';
			words->words[words->count++] = to;
		}
	}
	*to = '\0';
	return 0;
}

// A list's commas are the same as those between words: a word that begins with a digit goes on with
// the list before it.
static void words_join_lists(struct words *words)
{
	unsigned count = 1;

	for (unsigned i = 1; i < words->count; i++) {
		char *word = words->words[i];
		if (*word >= '0' && *word <= '9')
			word[-1] = ',';
		else
			words->words[count++] = word;
	}
	words->count = count;
}

// The value of `word` if it is NAME=VALUE.
static const char *value_of(const char *word, const char *name)
{
	size_t length = strlen(name);

	return strncmp(word, name, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

static int unknown_word(
	struct veneer_error *error, const char *option, const char *word, const char *choices)
{
	return fail(error, "%s: unknown word '%s'; it takes %s", option, word, choices);
}

// "on" or "off".
static int parse_switch(const char *text, bool *on)
{
	*on = strcmp(text, "on") == 0;
	return *on || strcmp(text, "off") == 0 ? 0 : -EINVAL;
}

// SxDxCxT, whose product is the number of CPUs.
static int parse_topology(struct options *options, const char *value, struct veneer_error *error)
{
	struct veneer_topology *topology = &options->topology;
	unsigned *counts[] = {
		&topology->sockets, &topology->dies, &topology->cores, &topology->threads};
	const char *at = value;
	uint64_t product = 1;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t count;
		const char *end;

		if (parse_digits(at, UINT16_MAX, &end, &count) < 0 || count == 0 ||
			*end != (i < 3 ? 'x' : '\0'))
			return fail(error,
				"--cpus: topology='%s' is not SOCKETSxDIESxCORESxTHREADS, such as "
				"1x1x4x2",
				value);
		*counts[i] = (unsigned)count;
		product *= count;
		at = end + 1;
	}
	if (product != options->cpus)
		return fail(error,
			"--cpus: topology=%s makes %" PRIu64
			" CPUs (sockets x dies x cores x threads), not %u",
			value, product, options->cpus);
	return 0;
}

static int parse_idle(struct options *options, const char *value, struct veneer_error *error)
{
	static const char *const names[] = {[VENEER_IDLE_HALT] = "halt",
		[VENEER_IDLE_POLL] = "poll",
		[VENEER_IDLE_MWAIT] = "mwait"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			options->idle = (enum veneer_idle)i;
			return 0;
		}
	}
	return fail(error, "--cpus: idle='%s' is not halt, poll or mwait", value);
}

static int parse_halt_poll(struct options *options, const char *value, struct veneer_error *error)
{
	uint64_t ns;

	if (parse_number(value, UINT32_MAX, &ns) < 0)
		return fail(error,
			"--cpus: halt-poll-ns='%s' is not a number of nanoseconds from 0 to "
			"%" PRIu32,
			value, UINT32_MAX);
	options->halt_poll_ns = (int64_t)ns;
	return 0;
}

// As veneer_cpuset_parse(), but not empty.
static int parse_host_cpus(
	struct veneer_cpuset *cpus, const char *name, const char *list, struct veneer_error *error)
{
	struct veneer_error why;

	if (*list && veneer_cpuset_parse(cpus, list, &why) == 0)
		return 0;
	return fail(
		error, "--cpus: %s'%s' is no list of the host's CPUs, such as 0-3,8", name, list);
}

static bool has_cpu(const struct veneer_cpuset *cpus, unsigned cpu)
{
	return cpus->bits[cpu / 64] >> cpu % 64 & 1;
}

// VCPUS:CPUS: each of the vCPUs may run on each of these CPUs, besides those named before.
static int pin_pair(struct options *options, char *item, struct veneer_error *error)
{
	char *colon = strchr(item, ':');
	struct veneer_cpuset vcpus;
	struct veneer_cpuset cpus;

	if (!colon)
		return fail(
			error, "--cpus: '%s' in pin= is no pair VCPUS:CPUS, such as 0:2-3", item);
	*colon = '\0';
	int ret = parse_host_cpus(&cpus, "pin=...:", colon + 1, error);
	if (ret == 0 && (!*item || veneer_cpuset_parse(&vcpus, item, error) < 0))
		return fail(error, "--cpus: '%s' before the colon in pin= names no vCPU", item);
	for (unsigned vcpu = 0; ret == 0 && vcpu < VENEER_HOST_CPUS_MAX; vcpu++) {
		if (!has_cpu(&vcpus, vcpu))
			continue;
		if (vcpu >= options->cpus)
			return fail(error, "--cpus: pin= names vCPU %u, and there are 0 to %u",
				vcpu, options->cpus - 1);
		for (unsigned i = 0; i < VENEER_HOST_CPUS_MAX / 64; i++)
			options->placement.vcpus[vcpu].bits[i] |= cpus.bits[i];
	}
	return ret;
}

// A CPU or a range: one for each vCPU from `vcpu` on, which moves behind them.
static int pin_each(
	struct options *options, const char *item, unsigned *vcpu, struct veneer_error *error)
{
	struct veneer_cpuset cpus;
	int ret = parse_host_cpus(&cpus, "pin=", item, error);

	for (unsigned cpu = 0; ret == 0 && cpu < VENEER_HOST_CPUS_MAX; cpu++) {
		if (!has_cpu(&cpus, cpu))
			continue;
		if (*vcpu < options->cpus)
			options->placement.vcpus[*vcpu].bits[cpu / 64] |= 1ull << cpu % 64;
		++*vcpu;
	}
	return ret;
}

static int parse_pin(struct options *options, const char *value, struct veneer_error *error)
{
	bool pairs = strchr(value, ':') != NULL;
	unsigned vcpu = 0;
	int ret = 0;

	memset(options->placement.vcpus, 0, sizeof(options->placement.vcpus));
	options->pin_auto = strcmp(value, "auto") == 0;
	if (options->pin_auto)
		return 0;
	char *list = strdup(value);
	char *rest = list;
	if (!list)
		return out_of_memory(error);
	for (char *item; ret == 0 && (item = strsep(&rest, ","));)
		ret = pairs ? pin_pair(options, item, error)
			    : pin_each(options, item, &vcpu, error);
	free(list);
	if (ret == 0 && !pairs && vcpu != options->cpus)
		return fail(error,
			"--cpus: pin= lists %u of the host's CPUs, and %u are needed, one for each "
			"vCPU (or pairs VCPUS:CPUS, such as 0:2-3)",
			vcpu, options->cpus);
	return ret;
}

static int parse_sched(struct options *options, const char *value, struct veneer_error *error)
{
	const char *fifo = "fifo:";
	uint64_t priority = 0;

	if (strncmp(value, fifo, strlen(fifo)) != 0 ||
		parse_number(value + strlen(fifo), FIFO_MAX, &priority) < 0 || priority == 0)
		return fail(error,
			"--cpus: sched='%s' is not fifo:PRIORITY, from fifo:1 to fifo:%d", value,
			FIFO_MAX);
	options->placement.fifo = (unsigned)priority;
	return 0;
}

static int parse_cpus_word(struct options *options, const char *word, struct veneer_error *error)
{
	const char *value;

	if ((value = value_of(word, "topology")))
		return parse_topology(options, value, error);
	if ((value = value_of(word, "idle")))
		return parse_idle(options, value, error);
	if ((value = value_of(word, "halt-poll-ns")))
		return parse_halt_poll(options, value, error);
	if ((value = value_of(word, "pin")))
		return parse_pin(options, value, error);
	if ((value = value_of(word, "iothreads")))
		return parse_host_cpus(&options->placement.iothreads, "iothreads=", value, error);
	if ((value = value_of(word, "vmm")))
		return parse_host_cpus(&options->placement.vmm, "vmm=", value, error);
	if ((value = value_of(word, "sched")))
		return parse_sched(options, value, error);
	if (!(value = value_of(word, "pit")))
		return unknown_word(error, "--cpus", word,
			"topology=SxDxCxT, pin=LIST, pin=auto, iothreads=LIST, vmm=LIST, "
			"sched=fifo:PRIORITY, idle=halt|poll|mwait, halt-poll-ns=N, pit=on or "
			"pit=off");
	if (parse_switch(value, &options->pit) < 0)
		return fail(error, "--cpus: pit='%s' is neither on nor off", value);
	return 0;
}

static int parse_cpus(struct options *options, const char *argument, struct veneer_error *error)
{
	struct words words;
	uint64_t count;
	int ret = words_split(&words, "--cpus", argument, error);

	if (ret < 0)
		return ret;
	words_join_lists(&words);
	if (parse_number(words.words[0], VENEER_CPUS_MAX, &count) < 0 || count == 0)
		ret = fail(error, "--cpus: '%s' is not a number from 1 to %d", words.words[0],
			VENEER_CPUS_MAX);
	options->cpus = (unsigned)count;
	options->topology = (struct veneer_topology){0};
	options->pit = false;
	options->placement = (struct veneer_placement){.fifo = 0};
	options->pin_auto = false;
	options->idle = VENEER_IDLE_HALT;
	options->halt_poll_ns = -1;
	for (unsigned i = 1; i < words.count && ret == 0; i++)
		ret = parse_cpus_word(options, words.words[i], error);
	if (ret == 0 && options->idle != VENEER_IDLE_HALT && options->halt_poll_ns >= 0)
		ret = fail(error, "--cpus: halt-poll-ns is for idle=halt; with the others no halt "
				  "reaches the host");
	words_free(&words);
	return ret;
}

static int parse_tsc_khz(struct options *options, const char *value, struct veneer_error *error)
{
	uint64_t khz;

	if (parse_number(value, INT_MAX, &khz) < 0 || khz == 0)
		return fail(error, "--cpu: tsc-khz='%s' is not a number of kHz", value);
	options->tsc_khz = (unsigned)khz;
	return 0;
}

// A model, then features, which the library judges: it knows their names, and what this host has.
static int parse_cpu_words(
	struct options *options, const struct words *words, struct veneer_error *error)
{
	char *end = options->cpu;
	int ret = 0;

	if (!*words->words[0] || strchr("+-", *words->words[0]))
		return fail(error,
			"--cpu: '%s' is not a model, such as host or x86-64-v3; ? lists them",
			words->words[0]);
	end = stpcpy(end, words->words[0]);
	for (unsigned i = 1; i < words->count && ret == 0; i++) {
		const char *word = words->words[i];
		const char *khz = value_of(word, "tsc-khz");

		if (khz)
			ret = parse_tsc_khz(options, khz, error);
		else if ((*word != '+' && *word != '-') || !word[1])
			ret = unknown_word(error, "--cpu", word, "+FEATURE, -FEATURE or tsc-khz=N");
		else
			end = stpcpy(stpcpy(end, ","), word);
	}
	return ret;
}

static int parse_cpu(struct options *options, const char *argument, struct veneer_error *error)
{
	struct words words;
	int ret;

	if (strcmp(argument, "?") == 0 || strcmp(argument, "help") == 0) {
		options->action = ACTION_CPU_MODELS;
		return 0;
	}
	free(options->cpu);
	options->tsc_khz = 0;
	options->cpu = strdup(argument); // room for what it says of model and features
	if (!options->cpu)
		return out_of_memory(error);
	ret = words_split(&words, "--cpu", argument, error);
	if (ret < 0)
		return ret;
	ret = parse_cpu_words(options, &words, error);
	words_free(&words);
	return ret;
}

static int parse_hugepages(
	uint64_t *size, const char *option, const char *value, struct veneer_error *error)
{
	if (strcmp(value, "2M") == 0)
		*size = 2 * MIB;
	else if (strcmp(value, "1G") == 0)
		*size = GIB;
	else
		return fail(error, "%s: hugepages='%s' is neither 2M nor 1G", option, value);
	return 0;
}

static int parse_node(int *node, const char *option, const char *value, struct veneer_error *error)
{
	uint64_t number;

	if (parse_number(value, INT_MAX, &number) < 0)
		return fail(error, "%s: node='%s' is not the number of a NUMA node", option, value);
	*node = (int)number;
	return 0;
}

static int parse_memory_size(
	uint64_t *size, const char *option, const char *value, struct veneer_error *error)
{
	int ret = parse_size(value, size);

	if (ret == -ERANGE)
		return fail(error, "%s: '%s' is more than 64 bits hold", option, value);
	if (ret < 0)
		return fail(
			error, "%s: '%s' is not a size: a number, then K, M or G", option, value);
	if (*size < MEMORY_MIN)
		return fail(error,
			"%s: '%s' is less than 1M; sizes are in bytes unless K, M or G follows",
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
			return fail(error, "--memory: merge='%s' is neither on nor off", value);
	} else if (strcmp(word, "prealloc") == 0) {
		memory->prealloc = true;
	} else if (strcmp(word, "lock") == 0) {
		memory->lock = true;
	} else {
		return unknown_word(error, "--memory", word,
			"hugepages=2M, hugepages=1G, node=N, prealloc, lock, merge=on or "
			"merge=off");
	}
	return 0;
}

static int parse_memory(struct options *options, const char *argument, struct veneer_error *error)
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
			return fail(error, "--numa: cell='%s' is not a number from 0 to %d", value,
				VENEER_CELLS_MAX - 1);
		cell->number = (int)number;
	} else {
		return unknown_word(error, "--numa", word,
			"cell=N, cpus=LIST, memory=SIZE, node=N, hugepages=2M or hugepages=1G");
	}
	return 0;
}

static int add_cell(
	struct options *options, const struct cell_words *cell, struct veneer_error *error)
{
	struct veneer_error reason;
	struct veneer_cell *to = &options->cells[cell->number];

	if (options->cells_given & 1u << cell->number)
		return fail(error, "--numa: cell %d is there twice", cell->number);
	*to = (struct veneer_cell){
		.size = cell->size, .hugepage_size = cell->hugepage_size, .node = cell->node};
	if (veneer_cpuset_parse(&to->cpus, cell->cpus, &reason) < 0)
		return fail(error, "--numa: cpus=%s", reason.message);
	options->cells_given |= 1u << cell->number;
	options->cell_count++;
	return 0;
}

static int parse_numa(struct options *options, const char *argument, struct veneer_error *error)
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
		ret = fail(error,
			"--numa %s: a cell needs a number, CPUs and memory, such as "
			"cell=0,cpus=0-3,memory=4G",
			argument);
	if (ret == 0)
		ret = add_cell(options, &cell, error);
	words_free(&words);
	return ret;
}

// Once all options are known.
static int judge_cells(struct options *options, struct veneer_error *error)
{
	uint64_t size = 0;

	if (options->cell_count == 0)
		return 0;
	for (unsigned i = 0; i < options->cell_count; i++) {
		if (!(options->cells_given & 1u << i))
			return fail(error,
				"--numa: %u cells are numbered from 0 to %u; there is no cell %u",
				options->cell_count, options->cell_count - 1, i);
		if (options->cells[i].size > UINT64_MAX - size)
			return fail(error, "--numa: the cells have more memory than 64 bits hold");
		size += options->cells[i].size;
	}
	if (options->memory_given && options->memory.size != size)
		return fail(error,
			"--memory says %" PRIu64 "K, but the cells of --numa have %" PRIu64
			"K together",
			(uint64_t)(options->memory.size / KIB), (uint64_t)(size / KIB));
	options->memory.size = size;
	return 0;
}

static int parse_cache(struct veneer_disk *disk, const char *value, struct veneer_error *error)
{
	static const struct {
		const char *name;
		enum veneer_cache cache;
	} modes[] = {
		{"none", VENEER_CACHE_NONE},
		{"writeback", VENEER_CACHE_WRITEBACK},
		{"writethrough", VENEER_CACHE_WRITETHROUGH},
		{"directsync", VENEER_CACHE_DIRECTSYNC},
		{"unsafe", VENEER_CACHE_UNSAFE},
	};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(value, modes[i].name) == 0) {
			disk->cache = modes[i].cache;
			return 0;
		}
	}
	return fail(error,
		"--disk: cache='%s' is not none, writeback, writethrough, directsync or unsafe",
		value);
}

static int parse_queues(
	unsigned *queues, const char *option, const char *value, struct veneer_error *error)
{
	uint64_t count;

	if (parse_number(value, VENEER_QUEUES_MAX, &count) < 0 || count == 0)
		return fail(error, "%s: queues='%s' is not a number from 1 to %d", option, value,
			VENEER_QUEUES_MAX);
	*queues = (unsigned)count;
	return 0;
}

static int parse_poll(unsigned *poll_us, const char *value, struct veneer_error *error)
{
	uint64_t count;

	if (parse_number(value, VENEER_POLL_MAX, &count) < 0)
		return fail(error, "--disk: poll-us='%s' is not a number from 0 to %d", value,
			VENEER_POLL_MAX);
	*poll_us = count ? (unsigned)count : VENEER_POLL_OFF;
	return 0;
}

// A limit and what may come at once: N[:BURST], or sizes.
static int parse_limit(const char *name, const char *value, bool is_size, uint64_t *rate,
	uint64_t *burst, struct veneer_error *error)
{
	char text[64];
	char *colon;
	int ret = -EINVAL;

	*burst = 0;
	if (snprintf(text, sizeof(text), "%s", value) < (int)sizeof(text)) {
		colon = strchr(text, ':');
		if (colon)
			*colon++ = '\0';
		ret = is_size ? parse_size(text, rate) : parse_number(text, UINT64_MAX, rate);
		if (ret == 0 && colon)
			ret = is_size ? parse_size(colon, burst)
				      : parse_number(colon, UINT64_MAX, burst);
		if (ret == 0 && (*rate < (is_size ? KIB : 1) || (colon && *burst == 0)))
			ret = -EINVAL;
	}
	if (ret < 0)
		return fail(error, "%s='%s' is not %s", name, value,
			is_size ? "SIZE or SIZE:BURST, of 1K a second or more"
				: "N or N:BURST, of 1 a second or more");
	return 0;
}

static int parse_disk_switch(
	bool *on, const char *name, const char *value, struct veneer_error *error)
{
	if (parse_switch(value, on) < 0)
		return fail(error, "--disk: %s='%s' is neither on nor off", name, value);
	return 0;
}

static int parse_detect_zeroes(
	enum veneer_detect_zeroes *mode, const char *value, struct veneer_error *error)
{
	if (strcmp(value, "off") == 0)
		*mode = VENEER_DETECT_ZEROES_OFF;
	else if (strcmp(value, "on") == 0)
		*mode = VENEER_DETECT_ZEROES_ON;
	else if (strcmp(value, "unmap") == 0)
		*mode = VENEER_DETECT_ZEROES_UNMAP;
	else
		return fail(error, "--disk: detect-zeroes='%s' is not off, on or unmap", value);
	return 0;
}

static int parse_disk_word(
	struct veneer_disk *disk, const char **serial, const char *word, struct veneer_error *error)
{
	const char *value;

	if (strcmp(word, "readonly") == 0) {
		disk->readonly = true;
	} else if ((value = value_of(word, "cache"))) {
		return parse_cache(disk, value, error);
	} else if ((value = value_of(word, "queues"))) {
		return parse_queues(&disk->queues, "--disk", value, error);
	} else if ((value = value_of(word, "poll-us"))) {
		return parse_poll(&disk->poll_us, value, error);
	} else if ((value = value_of(word, "sqpoll"))) {
		return parse_disk_switch(&disk->sqpoll, "sqpoll", value, error);
	} else if ((value = value_of(word, "iopoll"))) {
		return parse_disk_switch(&disk->iopoll, "iopoll", value, error);
	} else if ((value = value_of(word, "detect-zeroes"))) {
		return parse_detect_zeroes(&disk->detect_zeroes, value, error);
	} else if ((value = value_of(word, "iops"))) {
		return parse_limit(
			"--disk: iops", value, false, &disk->iops, &disk->iops_burst, error);
	} else if ((value = value_of(word, "bps"))) {
		return parse_limit("--disk: bps", value, true, &disk->bps, &disk->bps_burst, error);
	} else if ((value = value_of(word, "serial"))) {
		if (!*value || strlen(value) > SERIAL_BYTES)
			return fail(error, "--disk: serial='%s' is not 1 to %d bytes long", value,
				SERIAL_BYTES);
		*serial = value;
	} else {
		return unknown_word(error, "--disk", word,
			"readonly, cache=none, cache=writeback, cache=writethrough, "
			"cache=directsync, cache=unsafe, queues=N, serial=S, poll-us=N, "
			"detect-zeroes=on|unmap, iops=N[:BURST], bps=SIZE[:BURST], sqpoll=on or "
			"iopoll=on; a comma within a path is written ,,");
	}
	return 0;
}

// On success the disk owns copies of its strings.
static int parse_disk_words(
	struct veneer_disk *disk, const struct words *words, struct veneer_error *error)
{
	const char *serial = NULL;

	if (!*words->words[0])
		return fail(error, "--disk: '' is not a path; a comma within one is written ,,");
	for (unsigned i = 1; i < words->count; i++) {
		int ret = parse_disk_word(disk, &serial, words->words[i], error);
		if (ret < 0)
			return ret;
	}
	disk->path = strdup(words->words[0]);
	disk->serial = serial ? strdup(serial) : NULL;
	if (disk->path && (!serial || disk->serial))
		return 0;
	free((char *)(uintptr_t)disk->path);
	return out_of_memory(error);
}

static int parse_disk(struct options *options, const char *argument, struct veneer_error *error)
{
	struct veneer_disk disk = {.cache = VENEER_CACHE_WRITEBACK};
	struct words words;
	struct veneer_disk *disks =
		reallocarray(options->disks, options->disk_count + 1, sizeof(*options->disks));

	if (!disks)
		return out_of_memory(error);
	options->disks = disks;
	int ret = words_split(&words, "--disk", argument, error);
	if (ret < 0)
		return ret;
	ret = parse_disk_words(&disk, &words, error);
	words_free(&words);
	if (ret == 0)
		disks[options->disk_count++] = disk;
	return ret;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);

	return c && at ? (int)(at - digits) : -1;
}

// Six bytes in hexadecimal, of one device: neither a group's address nor all zero.
static int parse_mac(uint8_t mac[6], const char *value, struct veneer_error *error)
{
	const char *at = value;
	unsigned sum = 0;
	bool good = true;

	for (unsigned i = 0; i < 6 && good; i++) {
		int high = hex_digit(at[0]);
		int low = high < 0 ? -1 : hex_digit(at[1]);
		good = low >= 0 && at[2] == (i < 5 ? ':' : '\0');
		if (good)
			mac[i] = (uint8_t)(high << 4 | low);
		sum |= mac[i];
		at += 3;
	}
	if (good && sum != 0 && !(mac[0] & 1))
		return 0;
	return fail(error,
		"--net: mac='%s' is not the address of one device, such as 02:00:00:00:00:01",
		value);
}

static bool is_port(const char *text, size_t length)
{
	char digits[6];
	uint64_t port;

	if (length >= sizeof(digits))
		return false;
	memcpy(digits, text, length);
	digits[length] = '\0';
	return parse_number(digits, UINT16_MAX, &port) == 0 && port > 0;
}

// tcp:ADDR:HOSTPORT:GUESTPORT or udp:...
static bool is_forward(const char *text)
{
	char address[INET_ADDRSTRLEN];
	struct in_addr unused;

	if (strncmp(text, "tcp:", 4) != 0 && strncmp(text, "udp:", 4) != 0)
		return false;
	text += 4;
	size_t length = strcspn(text, ":");
	if (length >= sizeof(address) || !text[length])
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	text += length + 1;
	length = strcspn(text, ":");
	return inet_pton(AF_INET, address, &unused) == 1 && is_port(text, length) && text[length] &&
	       is_port(text + length + 1, strlen(text + length + 1));
}

static int add_forward(struct veneer_net *net, const char *value, struct veneer_error *error)
{
	if (!is_forward(value))
		return fail(error,
			"--net: hostfwd='%s' is not tcp:ADDR:HOSTPORT:GUESTPORT or udp:..., with "
			"an IPv4 address of the host and ports from 1 to 65535",
			value);
	const char **forwards = reallocarray(
		(void *)(uintptr_t)net->forwards, net->forward_count + 1, sizeof(*forwards));
	if (!forwards)
		return out_of_memory(error);
	net->forwards = forwards;
	forwards[net->forward_count] = strdup(value);
	return forwards[net->forward_count++] ? 0 : out_of_memory(error);
}

static int parse_tap(struct veneer_net *net, const char *name, struct veneer_error *error)
{
	if (!*name || strlen(name) >= IF_NAMESIZE || strpbrk(name, "/ "))
		return fail(error, "--net: tap='%s' is not the name of an interface", name);
	net->backend = VENEER_NET_TAP;
	net->tap = strdup(name);
	return net->tap ? 0 : out_of_memory(error);
}

// The words of every network: 0, -EINVAL, or NOT_COMMON for one that is not of them.
static int parse_net_word(struct veneer_net *net, const char *word, struct veneer_error *error)
{
	const char *value;

	if ((value = value_of(word, "mac")))
		return parse_mac(net->mac, value, error);
	if ((value = value_of(word, "pps")))
		return parse_limit("--net: pps", value, false, &net->pps, &net->pps_burst, error);
	if ((value = value_of(word, "bps")))
		return parse_limit("--net: bps", value, true, &net->bps, &net->bps_burst, error);
	return NOT_COMMON;
}

static int parse_vhost(enum veneer_vhost *vhost, const char *value, struct veneer_error *error)
{
	if (strcmp(value, "on") == 0)
		*vhost = VENEER_VHOST_ON;
	else if (strcmp(value, "off") == 0)
		*vhost = VENEER_VHOST_OFF;
	else if (strcmp(value, "auto") != 0)
		return fail(error, "--net: vhost='%s' is not on, off or auto", value);
	return 0;
}

static int parse_tap_word(struct veneer_net *net, const char *word, struct veneer_error *error)
{
	const char *value;
	uint64_t mtu;

	if ((value = value_of(word, "queues")))
		return parse_queues(&net->queues, "--net", value, error);
	if ((value = value_of(word, "vhost")))
		return parse_vhost(&net->vhost, value, error);
	if (!(value = value_of(word, "mtu")))
		return unknown_word(error, "--net tap", word,
			"mac=M, queues=N, mtu=N, vhost=on|off|auto, pps=N[:BURST] or "
			"bps=SIZE[:BURST]");
	if (parse_number(value, UINT16_MAX, &mtu) < 0 || mtu < MTU_MIN)
		return fail(error, "--net: mtu='%s' is not a number from %d to %d", value, MTU_MIN,
			UINT16_MAX);
	net->mtu = (unsigned)mtu;
	return 0;
}

static int parse_user_word(struct veneer_net *net, const char *word, struct veneer_error *error)
{
	const char *value;

	if ((value = value_of(word, "hostfwd")))
		return add_forward(net, value, error);
	return unknown_word(error, "--net user", word,
		"mac=M, pps=N[:BURST], bps=SIZE[:BURST] or "
		"hostfwd=tcp:ADDR:HOSTPORT:GUESTPORT");
}

static void free_net(const struct veneer_net *net)
{
	for (size_t i = 0; i < net->forward_count; i++)
		free((char *)(uintptr_t)net->forwards[i]);
	free((void *)(uintptr_t)net->forwards);
	free((char *)(uintptr_t)net->tap);
}

static int parse_net_words(
	struct veneer_net *net, const struct words *words, struct veneer_error *error)
{
	const char *kind = words->words[0];
	const char *tap = value_of(kind, "tap");
	int ret = 0;

	if (tap)
		ret = parse_tap(net, tap, error);
	else if (strcmp(kind, "user") == 0)
		net->backend = VENEER_NET_USER;
	else
		return unknown_word(error, "--net", kind, "tap=NAME or user first");
	for (unsigned i = 1; i < words->count && ret == 0; i++) {
		ret = parse_net_word(net, words->words[i], error);
		if (ret == NOT_COMMON)
			ret = tap ? parse_tap_word(net, words->words[i], error)
				  : parse_user_word(net, words->words[i], error);
	}
	return ret;
}

// On success the net owns copies of its strings.
static int parse_net(struct options *options, const char *argument, struct veneer_error *error)
{
	struct veneer_net net = {0};
	struct words words;
	struct veneer_net *nets =
		reallocarray(options->nets, options->net_count + 1, sizeof(*options->nets));

	if (!nets)
		return out_of_memory(error);
	options->nets = nets;
	int ret = words_split(&words, "--net", argument, error);
	if (ret < 0)
		return ret;
	ret = parse_net_words(&net, &words, error);
	words_free(&words);
	if (ret == 0)
		nets[options->net_count++] = net;
	else
		free_net(&net);
	return ret;
}

static int parse_transport(
	struct options *options, const char *argument, struct veneer_error *error)
{
	if (strcmp(argument, "pci") == 0)
		options->transport = VENEER_TRANSPORT_PCI;
	else if (strcmp(argument, "mmio") == 0)
		options->transport = VENEER_TRANSPORT_MMIO;
	else
		return fail(error, "--transport: '%s' is neither pci nor mmio", argument);
	return 0;
}

static int parse_rng(struct options *options, const char *argument, struct veneer_error *error)
{
	options->rng_given = true;
	if (parse_switch(argument, &options->rng) == 0)
		return 0;
	return fail(error, "--rng: '%s' is neither on nor off", argument);
}

static int parse_serial(struct options *options, const char *argument, struct veneer_error *error)
{
	const char *file = "file:";
	size_t length = strlen(file);

	options->serial_path = NULL;
	if (strcmp(argument, "stdio") == 0) {
		options->serial = SERIAL_STDIO;
	} else if (strcmp(argument, "none") == 0) {
		options->serial = SERIAL_NONE;
	} else if (strcmp(argument, "pty") == 0) {
		options->serial = SERIAL_PTY;
	} else if (strncmp(argument, file, length) == 0 && argument[length]) {
		options->serial = SERIAL_FILE;
		options->serial_path = argument + length;
	} else {
		return fail(error, "--serial: '%s' is not stdio, none, pty or file:PATH", argument);
	}
	return 0;
}

// Seconds with up to nine decimals.
static int parse_seconds(
	uint64_t *result, const char *option, const char *argument, struct veneer_error *error)
{
	const char *end;
	uint64_t seconds;
	uint64_t ns = 0;
	bool good = parse_digits(argument, TIMEOUT_MAX, &end, &seconds) == 0;

	if (good && *end == '.') {
		const char *fraction = end + 1;
		good = parse_digits(fraction, NS_PER_S - 1, &end, &ns) == 0 && end - fraction <= 9;
		for (long i = end - fraction; good && i < 9; i++)
			ns *= 10;
	}
	*result = seconds * NS_PER_S + ns;
	if (!good || *end || seconds == TIMEOUT_MAX || *result == 0)
		return fail(error,
			"%s: '%s' is not a number of seconds, such as 10 or 0.5, above 0 and "
			"below %llu",
			option, argument, TIMEOUT_MAX);
	return 0;
}

// Something that is a file's name and a metric's label without more ado, and no process ID.
static int parse_name(struct options *options, const char *argument, struct veneer_error *error)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	size_t length = strlen(argument);

	options->name = argument;
	if (length == 0 || length > RUNTIME_NAME_MAX || argument[0] == '-' || argument[0] == '.' ||
		strspn(argument, allowed) < length || strspn(argument, "0123456789") == length)
		return fail(error,
			"--name: '%s' is not a name: 1 to %d letters, digits and -_. with a letter "
			"or _ among them, and not beginning with - or .",
			argument, RUNTIME_NAME_MAX);
	return 0;
}

static int parse_stats(struct options *options, const char *argument, struct veneer_error *error)
{
	options->stats = true;
	options->stats_format = STATS_TEXT;
	if (!argument || strcmp(argument, "text") == 0)
		return 0;
	options->stats_format = STATS_JSON;
	if (strcmp(argument, "json") == 0)
		return 0;
	return fail(error, "--stats: '%s' is neither text nor json", argument);
}

static int parse_option(
	struct options *options, int option, const char *argument, struct veneer_error *error)
{
	switch (option) {
	case 'k':
		options->kernel = argument;
		return 0;
	case 'i':
		options->initrd = argument;
		return 0;
	case 'a':
		options->cmdline = argument;
		return 0;
	case 'c':
		return parse_cpus(options, argument, error);
	case OPTION_CPU:
		return parse_cpu(options, argument, error);
	case 'm':
		return parse_memory(options, argument, error);
	case 'd':
		return parse_disk(options, argument, error);
	case OPTION_NUMA:
		return parse_numa(options, argument, error);
	case OPTION_NET:
		return parse_net(options, argument, error);
	case OPTION_RNG:
		return parse_rng(options, argument, error);
	case OPTION_TRANSPORT:
		return parse_transport(options, argument, error);
	case OPTION_SERIAL:
		return parse_serial(options, argument, error);
	case OPTION_TIMEOUT:
		return parse_seconds(&options->timeout_ns, "--timeout", argument, error);
	case OPTION_DUMP_DTB:
		options->dump_dtb = argument;
		return 0;
	case OPTION_REBOOT:
		options->reboot = true;
		return 0;
	case OPTION_NAME:
		return parse_name(options, argument, error);
	case OPTION_STATS:
		return parse_stats(options, argument, error);
	case OPTION_DRY_RUN:
		options->dry_run = true;
		return 0;
	default:
		options->action = ACTION_RUN_HELP;
		return 0;
	}
}

static int parse_doctor_cpus(
	struct options *options, const char *argument, struct veneer_error *error)
{
	struct veneer_error reason;

	if (!*argument)
		return fail(error, "--cpus: '' names no CPU; it takes a list such as 0-3,8");
	if (veneer_cpuset_parse(&options->host_cpus, argument, &reason) < 0)
		return fail(error, "--cpus: %s", reason.message);
	return 0;
}

static int parse_doctor_option(
	struct options *options, int option, const char *argument, struct veneer_error *error)
{
	switch (option) {
	case 'c':
		return parse_doctor_cpus(options, argument, error);
	case 'd':
		return parse_disk(options, argument, error);
	case OPTION_JSON:
		options->json = true;
		return 0;
	default:
		options->action = ACTION_DOCTOR_HELP;
		return 0;
	}
}

// A command with options of its own.
struct command {
	const char *short_options;
	const struct option *long_options;
	const char *choices; // the long ones, for complaints
	int (*parse)(struct options *options, int option, const char *argument,
		struct veneer_error *error);
};

static const struct command RUN_COMMAND = {SHORT_OPTIONS, LONG_OPTIONS, RUN_CHOICES, parse_option};
static const struct command DOCTOR_COMMAND = {
	"+:c:d:h", DOCTOR_LONG_OPTIONS, DOCTOR_CHOICES, parse_doctor_option};

// getopt_long() takes any unique beginning of a long option for the option, a promise that the next
// option's name would break.
static bool abbreviated(const struct command *command, const char *word, int index)
{
	return index >= 0 && strcspn(word + 2, "=") != strlen(command->long_options[index].name);
}

static int unknown_option(
	const struct command *command, const char *word, struct veneer_error *error)
{
	return fail(error, "unknown option '%s'; there are %s", word, command->choices);
}

// getopt_long() has refused `word`.
static int bad_option(
	const struct command *command, const char *word, bool missing, struct veneer_error *error)
{
	bool known_letter = optopt > 0 && optopt < LONG_ONLY_FIRST;

	if (missing)
		return fail(error, "'%s' needs a value", word);
	if (strncmp(word, "--", 2) != 0 && known_letter)
		return fail(error, "unknown option '-%c'; there are %s", optopt, command->choices);
	if (optopt != 0) // a known long option, with a value that it does not take
		return fail(error, "'%s': the option takes no value", word);
	return unknown_option(command, word, error);
}

// Until the words end, one is wrong, or one asks for another action (--help).
static int parse_command(struct options *options, const struct command *command, int argc,
	char *const argv[], struct veneer_error *error)
{
	enum action action = options->action;
	int ret = 0;

	optind = 0; // glibc: begin anew
	opterr = 0;
	while (ret == 0 && options->action == action) {
		const char *word = argv[optind ? optind : 1];
		int index = -1;
		optopt = 0;
		int option = getopt_long(
			argc, argv, command->short_options, command->long_options, &index);
		if (option < 0)
			break;
		if (abbreviated(command, word, index))
			ret = unknown_option(command, word, error);
		else if (option == '?' || option == ':')
			ret = bad_option(command, word, option == ':', error);
		else
			ret = command->parse(options, option, optarg, error);
	}
	if (ret == 0 && options->action == action && optind < argc)
		return fail(error, "'%s' is not an option; there are %s", argv[optind],
			command->choices);
	return ret;
}

// One guest, and how to show it. Words that are no options come here as option 1.
static const char STATS_SHORT_OPTIONS[] = "-:h";

static const struct option STATS_LONG_OPTIONS[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	{"prometheus", no_argument, NULL, OPTION_PROMETHEUS},
	{"watch", optional_argument, NULL, OPTION_WATCH},
	{"output", required_argument, NULL, OPTION_OUTPUT},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static int parse_stats_option(
	struct options *options, int option, const char *argument, struct veneer_error *error)
{
	struct stats_query *query = &options->query;

	switch (option) {
	case OPTION_JSON:
		query->format = STATS_JSON;
		return 0;
	case OPTION_PROMETHEUS:
		query->format = STATS_PROMETHEUS;
		return 0;
	case OPTION_WATCH:
		query->interval_ns = NS_PER_S;
		return argument ? parse_seconds(&query->interval_ns, "--watch", argument, error)
				: 0;
	case OPTION_OUTPUT:
		query->output = argument;
		return *argument ? 0 : fail(error, "--output: '' is not a path");
	case 'h':
		options->action = ACTION_STATS_HELP;
		return 0;
	default:
		if (query->guest)
			return fail(error, "'%s' after '%s': one guest at a time", argument,
				query->guest);
		query->guest = argument;
		return 0;
	}
}

static const struct command STATS_COMMAND = {STATS_SHORT_OPTIONS, STATS_LONG_OPTIONS,
	"--json, --prometheus, --watch, --output, --help", parse_stats_option};

static int parse_stats_command(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	options->action = ACTION_STATS;
	int ret = parse_command(options, &STATS_COMMAND, argc, argv, error);

	if (ret < 0 || options->action != ACTION_STATS || options->query.guest)
		return ret;
	options->action = ACTION_LIST;
	return argc > 1 ? fail(error, "%s: of which guest? 'veneer list' lists them", argv[1]) : 0;
}

static int parse_run(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	int ret = parse_command(options, &RUN_COMMAND, argc, argv, error);

	if (!options->rng_given)
		options->rng = options->kernel != NULL;
	return ret == 0 && options->action == ACTION_RUN ? judge_cells(options, error) : ret;
}

static int parse_doctor(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	options->action = ACTION_DOCTOR;
	return parse_command(options, &DOCTOR_COMMAND, argc, argv, error);
}

int options_parse(struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	const char *command = argc > 1 ? argv[1] : "";
	const struct veneer_config defaults = VENEER_CONFIG_INIT;

	*options = (struct options){.action = ACTION_RUN,
		.cpus = defaults.cpus,
		.halt_poll_ns = -1,
		.memory = defaults.memory};
	error->message[0] = '\0';
	if (strcmp(command, "run") == 0)
		return parse_run(options, argc - 1, argv + 1, error);
	if (strcmp(command, "doctor") == 0)
		return parse_doctor(options, argc - 1, argv + 1, error);
	if (strcmp(command, "stats") == 0)
		return parse_stats_command(options, argc - 1, argv + 1, error);
	bool list = strcmp(command, "list") == 0;
	bool help = strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0;
	if (!list && !help && strcmp(command, "--version") != 0) {
		const char *choices = "it is one of run, list, stats, doctor, --help, --version";
		return argc > 1 ? fail(error, "unknown command '%s'; %s", command, choices)
				: fail(error, "no command; %s", choices);
	}
	if (argc > 2)
		return fail(error, "'%s' after '%s': nothing may follow it", argv[2], command);
	options->action = list ? ACTION_LIST : help ? ACTION_HELP : ACTION_VERSION;
	return 0;
}

void options_free(struct options *options)
{
	for (size_t i = 0; i < options->disk_count; i++) {
		free((char *)(uintptr_t)options->disks[i].path);
		free((char *)(uintptr_t)options->disks[i].serial);
	}
	free(options->disks);
	options->disks = NULL;
	options->disk_count = 0;
	for (size_t i = 0; i < options->net_count; i++)
		free_net(&options->nets[i]);
	free(options->nets);
	options->nets = NULL;
	options->net_count = 0;
	free(options->cpu);
	options->cpu = NULL;
}
