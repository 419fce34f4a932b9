// SPDX-License-Identifier: Apache-2.0
//
// Commands and their options, by getopt_long(3). Options come from tables, the library's and the
// program's own. Parsing is strict; a message names what is wrong and what would be right.
#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"
#include "cli/config_file.h"

#define GUEST_FIRST 256 // getopt's values: the library's option of this index and on,
#define OWN_FIRST   512 // the program's own
#define OPTION_HELP 'h'
#define OPTION_WORD 1

// The doctor makes no disk: of the words that a guest's disk takes, it has use for the path only.
static const struct guest_option doctor_guest_options[] = {
	{"disk", "PATH",
		"Look at the disks under this file or device, named as for run. Repeatable. Default: "
		"all fixed disks."},
	{.name = NULL},
};

const struct command_syntax run_syntax = {"run", ACTION_RUN_HELP, .all = true, .own = &run_option};
const struct command_syntax doctor_syntax = {
	"doctor", ACTION_DOCTOR_HELP, .guest = doctor_guest_options, .own = &doctor_option};
const struct command_syntax stats_syntax = {
	"stats", ACTION_STATS_HELP, .own = &stats_option, .names_guest = true};
const struct command_syntax pause_syntax = {
	"pause", ACTION_PAUSE_HELP, .own = &no_option, .names_guest = true};
const struct command_syntax resume_syntax = {
	"resume", ACTION_RESUME_HELP, .own = &no_option, .names_guest = true};
const struct command_syntax reset_syntax = {
	"reset", ACTION_RESET_HELP, .own = &no_option, .names_guest = true};
const struct command_syntax stop_syntax = {
	"stop", ACTION_STOP_HELP, .own = &stop_option, .names_guest = true};
const struct command_syntax wait_syntax = {
	"wait", ACTION_WAIT_HELP, .own = &no_option, .names_guest = true};

const struct guest_option *options_sense(const struct command_syntax *syntax, const char *name)
{
	for (unsigned i = 0; syntax->guest && syntax->guest[i].name; i++)
		if (strcmp(syntax->guest[i].name, name) == 0)
			return &syntax->guest[i];
	return NULL;
}

bool options_of_guest(
	const struct command_syntax *syntax, unsigned *index, struct veneer_option *option)
{
	while (veneer_get_option(*index, option, sizeof(*option))) {
		if (syntax->all || options_sense(syntax, option->name))
			return true;
		++*index;
	}
	return false;
}

__attribute__((format(printf, 2, 3))) static int refuse(
	struct veneer_error *error, const char *format, ...)
{
	char text[sizeof(error->message)];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return vn_fail(error, -EINVAL, "%s", text);
}

// Put dashes before the option's name, the first `length` bytes of `name`, where the message begins
// with it.
static int with_dashes(struct veneer_error *error, const char *name, size_t length, int ret)
{
	if (ret < 0 && length > 0 && length < sizeof(error->message) &&
		strncmp(error->message, name, length) == 0 && strchr(": ", error->message[length]))
		vn_error_insert(error, 0, "--");
	return ret;
}

// getopt_long()'s arguments, made from the tables.
struct table {
	const struct command_syntax *syntax;
	struct option longs[OPTIONS_MAX];
	unsigned count;
	char shorts[2 * OPTIONS_MAX + 4];
};

static void add_option(
	struct table *table, const char *name, char letter, int has_argument, int value)
{
	size_t end = strlen(table->shorts);

	table->longs[table->count++] =
		(struct option){.name = name, .has_arg = has_argument, .val = value};
	if (letter) {
		table->shorts[end++] = letter;
		if (has_argument != no_argument)
			table->shorts[end++] = ':';
		table->shorts[end] = '\0';
	}
}

static void make_table(struct table *table, const struct command_syntax *syntax)
{
	const struct vn_prop *props = syntax->own->props;
	struct veneer_option option;

	*table = (struct table){.syntax = syntax};
	strcpy(table->shorts, syntax->names_guest ? "-:" : "+:");
	for (unsigned i = 0; options_of_guest(syntax, &i, &option); i++)
		add_option(
			table, option.name, option.letter, required_argument, GUEST_FIRST + (int)i);
	for (int i = 0; props[i].name; i++)
		add_option(table, props[i].name, props[i].letter,
			!props[i].argument                    ? no_argument
			: (props[i].flags & VN_PROP_OPTIONAL) ? optional_argument
							      : required_argument,
			OWN_FIRST + i);
	add_option(table, "help", 'h', no_argument, OPTION_HELP);
}

// getopt's value of an option: a letter stands for the long name.
static int option_value(const struct table *table, int option)
{
	struct veneer_option guest;

	if (option >= GUEST_FIRST || option == OPTION_HELP)
		return option;
	for (unsigned i = 0; options_of_guest(table->syntax, &i, &guest); i++)
		if (guest.letter == option)
			return GUEST_FIRST + (int)i;
	for (int i = 0; table->syntax->own->props[i].name; i++)
		if (table->syntax->own->props[i].letter == option)
			return OWN_FIRST + i;
	return option;
}

// getopt_long() takes any unique beginning of a long option for the option, a promise that the next
// option's name would break.
static bool abbreviated(const struct table *table, const char *word, int index)
{
	return index >= 0 && strcspn(word + 2, "=") != strlen(table->longs[index].name);
}

// `docker run -it` is in many people's fingers: it is no initrd named t.
static bool is_containers(const struct table *table, const char *word)
{
	return table->syntax == &run_syntax && strcmp(word, "-it") == 0;
}

// Unknown option or word: suggest the nearest name, or say where they are listed.
static int unknown_option(
	const struct table *table, const char *what, const char *word, struct veneer_error *error)
{
	const char *name = word + strspn(word, "-");
	struct vn_nearest nearest = vn_nearest_to(name, strcspn(name, "="));

	if (is_containers(table, word))
		return refuse(error,
			"%s '%s': there is no -t, and -i is --initrd; "
			"the guest's serial port is on the terminal without them",
			what, word);
	for (unsigned i = 0; i < table->count; i++)
		vn_nearest_try(&nearest, table->longs[i].name, strlen(table->longs[i].name));
	if (nearest.name)
		return refuse(error, "%s '%s'; did you mean '--%s'?", what, word, nearest.name);
	return refuse(error, "%s '%s'; 'veneer help %s' lists the options", what, word,
		table->syntax->command);
}

// A word such as -kernel or -hv, which getopt(3) would take for a letter and its value. `-h` is the
// only letter without a value.
static bool one_dash(const struct table *table, const char *word)
{
	if (word[0] != '-' || word[1] == '-' || !word[1] || !word[2])
		return false;
	for (unsigned i = 0; i < table->count; i++)
		if (strcmp(word + 1, table->longs[i].name) == 0)
			return true;
	return word[1] == 'h' || is_containers(table, word);
}

// getopt_long() has refused `word`.
static int bad_option(
	const struct table *table, const char *word, bool missing, struct veneer_error *error)
{
	if (missing)
		return refuse(error, "'%s' needs a value", word);
	if (optopt != 0 && strncmp(word, "--", 2) == 0) // known, with a value that it does not take
		return refuse(error, "'%s': the option takes no value", word);
	return unknown_option(table, "unknown option", word, error);
}

static bool asks_for_models(const char *option, const char *argument)
{
	return strcmp(option, "cpu") == 0 &&
	       (strcmp(argument, "?") == 0 || strcmp(argument, "help") == 0);
}

static int set_guest_option(
	struct options *options, unsigned index, const char *argument, struct veneer_error *error)
{
	struct veneer_option option;

	if (!veneer_get_option(index, &option, sizeof(option)))
		return refuse(error, "there is no option %u", index);
	if (asks_for_models(option.name, argument)) {
		options->action = ACTION_CPU_MODELS;
		return 0;
	}
	int ret = veneer_config_set(options->config, option.name, argument, error);
	return with_dashes(error, option.name, strlen(option.name), ret);
}

static int take_guest(struct options *options, const char *word, struct veneer_error *error)
{
	if (options->guest)
		return refuse(error, "'%s' after '%s': one guest at a time", word, options->guest);
	options->guest = strdup(word);
	return options->guest ? 0 : vn_fail(error, -ENOMEM, "out of memory");
}

// `own`: the values of the program's own options.
static int take_option(struct options *options, const struct table *table, void *own, int option,
	const char *argument, struct veneer_error *error)
{
	const struct vn_option *table_of_own = table->syntax->own;

	if (option == OPTION_HELP) {
		options->action = table->syntax->help;
		return 0;
	}
	if (option == OPTION_WORD)
		return take_guest(options, argument, error);
	if (option < OWN_FIRST)
		return set_guest_option(options, (unsigned)(option - GUEST_FIRST), argument, error);
	const char *name = table_of_own->props[option - OWN_FIRST].name;
	int ret = vn_option_set(table_of_own, own, name, argument, error);
	ret = with_dashes(error, name, strlen(name), ret);
	if (ret == 0 && strcmp(name, CONFIG_FILE) == 0)
		ret = config_file_read(options, argument, error);
	return ret;
}

// Until the words end, one is wrong, or --help changes the action.
static int parse_words(struct options *options, const struct command_syntax *syntax, void *own,
	int argc, char *const argv[], struct veneer_error *error)
{
	enum action action = options->action;
	struct table table;
	int ret = 0;

	make_table(&table, syntax);
	optind = 0; // glibc: begin anew
	opterr = 0;
	while (ret == 0 && options->action == action) {
		const char *word = argv[optind ? optind : 1];
		int index = -1;
		optopt = 0;
		int option = getopt_long(argc, argv, table.shorts, table.longs, &index);
		if (option < 0)
			break;
		if (abbreviated(&table, word, index) || (option > 1 && one_dash(&table, word)))
			ret = unknown_option(&table, "unknown option", word, error);
		else if (option == '?' || option == ':')
			ret = bad_option(&table, word, option == ':', error);
		else
			ret = take_option(
				options, &table, own, option_value(&table, option), optarg, error);
	}
	if (ret == 0 && options->action == action && optind < argc)
		return unknown_option(&table, "not an option:", argv[optind], error);
	return ret;
}

static int parse_stats(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	int ret = parse_words(options, &stats_syntax, &options->query, argc, argv, error);

	if (ret < 0 || options->action != ACTION_STATS || options->guest)
		return ret;
	options->action = ACTION_LIST;
	return argc > 1 ? refuse(error, "%s: of which guest? 'veneer list' lists them", argv[1])
			: 0;
}

// Nothing of standard input is left for the serial port.
static int check_stdin(const struct options *options, struct veneer_error *error)
{
	const struct run_options *run = &options->run;
	bool runs = !run->dry_run && !run->dump_dtb;

	if (!options->took_stdin || !runs || run->serial.mode != SERIAL_STDIO)
		return 0;
	return refuse(error, "--config-file -: the serial port reads standard input too; "
			     "add --serial file:/dev/stdout, for output only, or another one");
}

static int parse_run(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	int ret = parse_words(options, &run_syntax, &options->run, argc, argv, error);

	if (ret < 0 || options->action != ACTION_RUN)
		return ret;
	ret = check_stdin(options, error);
	if (ret < 0)
		return ret;
	ret = veneer_config_check(options->config, error);
	return with_dashes(error, error->key, strcspn(error->key, ".0123456789"), ret);
}

static int parse_doctor(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	return parse_words(options, &doctor_syntax, &options->doctor, argc, argv, error);
}

static int parse_control(
	struct options *options, int argc, char *const argv[], struct veneer_error *error);
static int parse_help(
	struct options *options, int argc, char *const argv[], struct veneer_error *error);
static int parse_nothing(
	struct options *options, int argc, char *const argv[], struct veneer_error *error);

const struct command command_list[] = {
	{"run", "", "run a guest; without --kernel, the built-in one", ACTION_RUN, ACTION_RUN_HELP,
		&run_syntax, parse_run},
	{"list", "", "list the running guests", ACTION_LIST, ACTION_LIST_HELP, NULL, parse_nothing},
	{"stats", "GUEST", "show what a guest has done: exits, requests, latencies", ACTION_STATS,
		ACTION_STATS_HELP, &stats_syntax, parse_stats},
	{"pause", "GUEST", "pause a running guest", ACTION_PAUSE, ACTION_PAUSE_HELP, &pause_syntax,
		parse_control},
	{"resume", "GUEST", "let a paused guest run again", ACTION_RESUME, ACTION_RESUME_HELP,
		&resume_syntax, parse_control},
	{"reset", "GUEST", "reset a guest, as its reset button would", ACTION_RESET,
		ACTION_RESET_HELP, &reset_syntax, parse_control},
	{"stop", "GUEST", "press a guest's power button; later cut its power", ACTION_STOP,
		ACTION_STOP_HELP, &stop_syntax, parse_control},
	{"wait", "GUEST", "wait for a guest's end; exit as its run does", ACTION_WAIT,
		ACTION_WAIT_HELP, &wait_syntax, parse_control},
	{"doctor", "", "check what slows guests down on this host", ACTION_DOCTOR,
		ACTION_DOCTOR_HELP, &doctor_syntax, parse_doctor},
	{"version", "", "print the version", ACTION_VERSION, ACTION_HELP, NULL, parse_nothing},
	{"help", "[COMMAND]", "print this help, or a command's (or COMMAND --help)", ACTION_HELP,
		ACTION_HELP, NULL, parse_help},
	{.name = NULL},
};

static const struct command *find_command(const char *name, struct veneer_error *error)
{
	struct vn_nearest nearest = vn_nearest_to(name, strlen(name));

	for (const struct command *command = command_list; command->name; command++) {
		if (strcmp(name, command->name) == 0)
			return command;
		vn_nearest_try(&nearest, command->name, strlen(command->name));
	}
	if (nearest.name)
		refuse(error, "unknown command '%s'; did you mean '%s'?", name, nearest.name);
	else
		refuse(error, "unknown command '%s'; 'veneer help' lists them", name);
	return NULL;
}

// A command about one guest. `stop` alone has options of its own.
static int parse_control(
	struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	const struct command *command = find_command(argv[0], error);
	int ret = parse_words(options, command->syntax, &options->stop, argc, argv, error);

	if (ret < 0 || options->action != command->action || options->guest)
		return ret;
	return refuse(error, "%s: which guest? 'veneer list' lists them", argv[0]);
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

// `veneer --help` and `veneer --version` are commands under other names.
static const char *command_name(const char *word)
{
	return asks_for_help(word) ? "help" : strcmp(word, "--version") == 0 ? "version" : word;
}

int options_parse(struct options *options, int argc, char *const argv[], struct veneer_error *error)
{
	const struct command *command;

	*options = (struct options){.action = ACTION_USAGE};
	memcpy(&options->run, run_option.defaults, sizeof(options->run));
	memcpy(&options->stop, stop_option.defaults, sizeof(options->stop));
	*error = (struct veneer_error){.code = 0};
	if (argc < 2)
		return 0;
	command = find_command(command_name(argv[1]), error);
	if (!command)
		return -EINVAL;
	options->action = command->action;
	int ret = veneer_config_new(&options->config, error);
	return ret < 0 ? ret : command->parse(options, argc - 1, argv + 1, error);
}

void options_free(struct options *options)
{
	veneer_config_free(options->config);
	vn_option_release(&run_option, &options->run);
	vn_option_release(&doctor_option, &options->doctor);
	vn_option_release(&stats_option, &options->query);
	vn_option_release(&stop_option, &options->stop);
	free(options->guest);
	*options = (struct options){.action = ACTION_USAGE};
}

bool options_has(const struct options *options, const char *name)
{
	return veneer_config_get(options->config, name, NULL, 0) >= 0;
}

char *options_get(const struct options *options, const char *name)
{
	int size = veneer_config_get(options->config, name, NULL, 0);
	char *text = size >= 0 ? malloc((size_t)size + 1) : NULL;

	if (text)
		veneer_config_get(options->config, name, text, (size_t)size + 1);
	return text;
}
