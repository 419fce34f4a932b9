// SPDX-License-Identifier: Apache-2.0
//
// `--cpus` and `--cpu`: how many, which processor, and what runs where.
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/sysfs.h"
#include "cli/options_parts.h"
#include "cli/options_words.h"

#define FIFO_MAX 99 // the highest real-time priority of sched(7)

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
			return refuse(error,
				"--cpus: topology='%s' is not SOCKETSxDIESxCORESxTHREADS, "
				"such as 1x1x4x2",
				value);
		*counts[i] = (unsigned)count;
		product *= count;
		at = end + 1;
	}
	if (product != options->cpus)
		return refuse(error,
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

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(value, names[i]) == 0) {
			options->idle = (enum veneer_idle)i;
			return 0;
		}
	}
	return refuse(error, "--cpus: idle='%s' is not halt, poll or mwait", value);
}

static int parse_halt_poll(struct options *options, const char *value, struct veneer_error *error)
{
	uint64_t ns;

	if (parse_number(value, UINT32_MAX, &ns) < 0)
		return refuse(error,
			"--cpus: halt-poll-ns='%s' is not a number of nanoseconds from 0 to %" PRIu32,
			value, UINT32_MAX);
	options->halt_poll_ns = (int64_t)ns;
	return 0;
}

int parse_host_cpus(
	struct veneer_cpuset *cpus, const char *name, const char *list, struct veneer_error *error)
{
	struct veneer_error why;
	int ret = *list ? veneer_cpuset_parse(cpus, list, &why) : -EINVAL;
	char online[256];

	if (ret == 0)
		return 0;
	if (ret != -ERANGE)
		return refuse(error, "--cpus: %s'%s' is no list of the host's CPUs, such as 0-3,8",
			name, list);
	if (vn_sysfs_line("", online, sizeof(online), "/sys/devices/system/cpu/online") < 0)
		return refuse(error, "--cpus: %s%s", name, why.message);
	return refuse(error, "--cpus: %s'%s' names CPUs that the host does not have: %s are online",
		name, list, online);
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
		return refuse(
			error, "--cpus: '%s' in pin= is no pair VCPUS:CPUS, such as 0:2-3", item);
	*colon = '\0';
	int ret = parse_host_cpus(&cpus, "pin=...:", colon + 1, error);
	if (ret < 0)
		return ret;
	ret = *item ? veneer_cpuset_parse(&vcpus, item, error) : -EINVAL;
	if (ret == -ERANGE)
		return refuse(error, "--cpus: pin= names vCPUs '%s', and there are 0 to %u", item,
			options->cpus - 1);
	if (ret < 0)
		return refuse(error, "--cpus: '%s' before the colon in pin= names no vCPU", item);
	for (unsigned vcpu = 0; ret == 0 && vcpu < VENEER_HOST_CPUS_MAX; vcpu++) {
		if (!has_cpu(&vcpus, vcpu))
			continue;
		if (vcpu >= options->cpus)
			return refuse(error, "--cpus: pin= names vCPU %u, and there are 0 to %u",
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
		return refuse(error,
			"--cpus: pin= lists %u of the host's CPUs, and %u are needed, "
			"one for each vCPU (or pairs VCPUS:CPUS, such as 0:2-3)",
			vcpu, options->cpus);
	return ret;
}

static int parse_sched(struct options *options, const char *value, struct veneer_error *error)
{
	const char *fifo = "fifo:";
	uint64_t priority = 0;

	if (strncmp(value, fifo, strlen(fifo)) != 0 ||
		parse_number(value + strlen(fifo), FIFO_MAX, &priority) < 0 || priority == 0)
		return refuse(error,
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
			"topology=SxDxCxT, pin=LIST|auto, iothreads=LIST, vmm=LIST, "
			"sched=fifo:PRIORITY, idle=halt|poll|mwait, halt-poll-ns=N, pit=on|off");
	if (parse_switch(value, &options->pit) < 0)
		return refuse(error, "--cpus: pit='%s' is neither on nor off", value);
	return 0;
}

int parse_cpus(struct options *options, const char *argument, struct veneer_error *error)
{
	struct words words;
	uint64_t count;
	int ret = words_split(&words, "--cpus", argument, error);

	if (ret < 0)
		return ret;
	words_join_lists(&words);
	if (parse_number(words.words[0], VENEER_CPUS_MAX, &count) < 0 || count == 0)
		ret = refuse(error, "--cpus: '%s' is not a number from 1 to %d", words.words[0],
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
		ret = refuse(error, "--cpus: halt-poll-ns is for idle=halt; "
				    "with the others no halt reaches the host");
	words_free(&words);
	return ret;
}

static int parse_tsc_khz(struct options *options, const char *value, struct veneer_error *error)
{
	uint64_t khz;

	if (parse_number(value, INT_MAX, &khz) < 0 || khz == 0)
		return refuse(error, "--cpu: tsc-khz='%s' is not a number of kHz", value);
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
		return refuse(error,
			"--cpu: '%s' is not a model, such as host or x86-64-v3; ? lists them",
			words->words[0]);
	end = stpcpy(end, words->words[0]);
	for (unsigned i = 1; i < words->count && ret == 0; i++) {
		const char *word = words->words[i];
		const char *khz = value_of(word, "tsc-khz");

		if (khz)
			ret = parse_tsc_khz(options, khz, error);
		else if ((*word != '+' && *word != '-') || !word[1])
			ret = unknown_word(
				error, "--cpu", word, "tsc-khz=N; a feature has + or - before it");
		else
			end = stpcpy(stpcpy(end, ","), word);
	}
	return ret;
}

int parse_cpu(struct options *options, const char *argument, struct veneer_error *error)
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
