// SPDX-License-Identifier: Apache-2.0
//
// Commands and their options, by getopt_long(3). Everything is judged strictly: a word is one of
// those listed, and what is wrong is named together with what would be right.
#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/macros.h"
#include "cli/options_parts.h"
#include "cli/options_words.h"
#include "cli/runtime.h"

#define TIMEOUT_MAX     1000000000ull // seconds; 31 years
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

static int parse_transport(
	struct options *options, const char *argument, struct veneer_error *error)
{
	if (strcmp(argument, "pci") == 0)
		options->transport = VENEER_TRANSPORT_PCI;
	else if (strcmp(argument, "mmio") == 0)
		options->transport = VENEER_TRANSPORT_MMIO;
	else
		return refuse(error, "--transport: '%s' is neither pci nor mmio", argument);
	return 0;
}

static int parse_rng(struct options *options, const char *argument, struct veneer_error *error)
{
	options->rng_given = true;
	if (parse_switch(argument, &options->rng) == 0)
		return 0;
	return refuse(error, "--rng: '%s' is neither on nor off", argument);
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
		return refuse(
			error, "--serial: '%s' is not stdio, none, pty or file:PATH", argument);
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
		return refuse(error,
			"%s: '%s' is not a number of seconds, such as 10 or 0.5, "
			"above 0 and below %llu",
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
		return refuse(error,
			"--name: '%s' is not a name: 1 to %d letters, digits and -_. "
			"with a letter or _ among them, and not beginning with - or .",
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
	return refuse(error, "--stats: '%s' is neither text nor json", argument);
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

static int parse_doctor_option(
	struct options *options, int option, const char *argument, struct veneer_error *error)
{
	switch (option) {
	case 'c':
		return parse_host_cpus(&options->host_cpus, "", argument, error);
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

// A command's options.
struct syntax {
	const char *command;
	const char *short_options;
	const struct option *long_options;
	int (*parse)(struct options *options, int option, const char *argument,
		struct veneer_error *error);
};

static const struct syntax RUN_SYNTAX = {"run", SHORT_OPTIONS, LONG_OPTIONS, parse_option};
static const struct syntax DOCTOR_SYNTAX = {
	"doctor", "+:c:d:h", DOCTOR_LONG_OPTIONS, parse_doctor_option};

// getopt_long() takes any unique beginning of a long option for the option, a promise that the next
// option's name would break.
static bool abbreviated(const struct syntax *syntax, const char *word, int index)
{
	return index >= 0 && strcspn(word + 2, "=") != strlen(syntax->long_options[index].name);
}

// What would be right, or where to find it: of an option, or a word that is none.
static int unknown_option(
	const struct syntax *syntax, const char *what, const char *word, struct veneer_error *error)
{
	const char *name = word + strspn(word, "-");
	struct nearest nearest = nearest_to(name, strcspn(name, "="));

	for (const struct option *option = syntax->long_options; option->name; option++)
		nearest_try(&nearest, option->name, strlen(option->name));
	if (nearest.name)
		return refuse(error, "%s '%s'; did you mean '--%s'?", what, word, nearest.name);
	return refuse(
		error, "%s '%s'; 'veneer help %s' lists the options", what, word, syntax->command);
}

// A word with one dash that getopt(3) would take for a letter and its value, but people mean
// otherwise: a long option, or several letters. `-h` is the only letter without a value.
static bool one_dash(const struct syntax *syntax, const char *word)
{
	if (word[0] != '-' || word[1] == '-' || !word[1] || !word[2])
		return false;
	for (const struct option *option = syntax->long_options; option->name; option++)
		if (strcmp(word + 1, option->name) == 0)
			return true;
	return word[1] == 'h';
}

// getopt_long() has refused `word`.
static int bad_option(
	const struct syntax *syntax, const char *word, bool missing, struct veneer_error *error)
{
	if (missing)
		return refuse(error, "'%s' needs a value", word);
	if (optopt != 0 && strncmp(word, "--", 2) == 0) // known, with a value that it does not take
		return refuse(error, "'%s': the option takes no value", word);
	return unknown_option(syntax, "unknown option", word, error);
}

// Until the words end, one is wrong, or one asks for another action (--help).
static int parse_words(struct options *options, const struct syntax *syntax, int argc,
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
			argc, argv, syntax->short_options, syntax->long_options, &index);
		if (option < 0)
			break;
		if (abbreviated(syntax, word, index) || (option > 1 && one_dash(syntax, word)))
			ret = unknown_option(syntax, "unknown option", word, error);
		else if (option == '?' || option == ':')
			ret = bad_option(syntax, word, option == ':', error);
		else
			ret = syntax->parse(options, option, optarg, error);
	}
	if (ret == 0 && options->action == action && optind < argc)
		return unknown_option(syntax, "not an option:", argv[optind], error);
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
		return *argument ? 0 : refuse(error, "--output: '' is not a path");
	case 'h':
		options->action = ACTION_STATS_HELP;
		return 0;
	default:
		if (query->guest)
			return refuse(error, "'%s' after '%s': one guest at a time", argument,
				query->guest);
		query->guest = argument;
		return 0;
	}
}

static const struct syntax STATS_SYNTAX = {
	"stats", STATS_SHORT_OPTIONS, STATS_LONG_OPTIONS, parse_stats_option};

static int parse_stats_command(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	int ret = parse_words(options, &STATS_SYNTAX, argc, argv, error);

	if (ret < 0 || options->action != ACTION_STATS || options->query.guest)
		return ret;
	options->action = ACTION_LIST;
	return argc > 1 ? refuse(error, "%s: of which guest? 'veneer list' lists them", argv[1])
			: 0;
}

static int parse_run(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	int ret = parse_words(options, &RUN_SYNTAX, argc, argv, error);

	if (!options->rng_given)
		options->rng = options->kernel != NULL;
	return ret == 0 && options->action == ACTION_RUN ? judge_cells(options, error) : ret;
}

static int parse_doctor(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	return parse_words(options, &DOCTOR_SYNTAX, argc, argv, error);
}

static int parse_help(
	struct options *options, int argc, char *const argv[], struct veneer_error *error);
static int parse_nothing(
	struct options *options, int argc, char *const argv[], struct veneer_error *error);

static const struct command {
	const char *name;
	enum action action, help;
	int (*parse)(
		struct options *options, int argc, char *const argv[], struct veneer_error *error);
} COMMANDS[] = {
	{"run", ACTION_RUN, ACTION_RUN_HELP, parse_run},
	{"doctor", ACTION_DOCTOR, ACTION_DOCTOR_HELP, parse_doctor},
	{"list", ACTION_LIST, ACTION_LIST_HELP, parse_nothing},
	{"stats", ACTION_STATS, ACTION_STATS_HELP, parse_stats_command},
	{"version", ACTION_VERSION, ACTION_HELP, parse_nothing},
	{"help", ACTION_HELP, ACTION_HELP, parse_help},
};

#define COMMAND_COUNT ARRAY_SIZE(COMMANDS)

static const struct command *find_command(const char *name, struct veneer_error *error)
{
	struct nearest nearest = nearest_to(name, strlen(name));

	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(name, COMMANDS[i].name) == 0)
			return &COMMANDS[i];
		nearest_try(&nearest, COMMANDS[i].name, strlen(COMMANDS[i].name));
	}
	if (nearest.name)
		refuse(error, "unknown command '%s'; did you mean '%s'?", name, nearest.name);
	else
		refuse(error, "unknown command '%s'; 'veneer help' lists them", name);
	return NULL;
}

static bool asks_for_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int parse_nothing(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	if (argc > 1 && asks_for_help(argv[1]))
		options->action = find_command(argv[0], error)->help;
	else if (argc > 1)
		return refuse(error, "'%s' after '%s': nothing may follow it", argv[1], argv[0]);
	return 0;
}

// help [COMMAND]
static int parse_help(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	const struct command *command;

	if (argc > 2)
		return refuse(error, "'%s' after '%s': one command at a time", argv[2], argv[1]);
	if (argc < 2 || asks_for_help(argv[1]))
		return 0;
	command = find_command(argv[1], error);
	if (command)
		options->action = command->help;
	return command ? 0 : -EINVAL;
}

// The program's own options are commands by other names.
static const char *command_name(const char *word)
{
	return asks_for_help(word) ? "help" : strcmp(word, "--version") == 0 ? "version" : word;
}

int options_parse(struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	const struct veneer_config defaults = VENEER_CONFIG_INIT;
	const struct command *command;

	*options = (struct options){.action = ACTION_USAGE,
		.cpus = defaults.cpus,
		.halt_poll_ns = -1,
		.memory = defaults.memory};
	error->message[0] = '\0';
	if (argc < 2)
		return 0;
	command = find_command(command_name(argv[1]), error);
	if (!command)
		return -EINVAL;
	options->action = command->action;
	return command->parse(options, argc - 1, argv + 1, error);
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
