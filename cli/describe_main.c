// SPDX-License-Identifier: Apache-2.0
//
// A build-time tool that prints, from the tables of options: `describe manual` veneer(1), `describe
// options` docs/options.md, `describe completion TEMPLATE` a shell's script, and for tests
// `describe commands` and `describe ranges`.
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "cli/describe.h"
#include "cli/help.h"

// The headings that are sections of the whole page, where people look for them.
static const struct {
	const char *heading, *name;
} sections[] = {{"Signals", "SIGNALS"}, {"Exit status", "EXIT STATUS"}, {"Examples", "EXAMPLES"}};

static bool has_own_section(const struct help_section *section)
{
	for (size_t i = 0; section->heading && i < ARRAY_SIZE(sections); i++)
		if (strcmp(section->heading, sections[i].heading) == 0)
			return true;
	return false;
}

static void print_command(const struct command *command)
{
	const struct help_text text = help_text(command->help);

	fputs(".SS ", stdout);
	help_synopsis(stdout, command);
	describe_text(stdout, text.intro);
	if (command->syntax)
		describe_manual(stdout, command->syntax);
	for (const struct help_section *section = text.sections; section && section->text;
		section++) {
		if (has_own_section(section))
			continue;
		puts(".PP");
		if (section->heading)
			printf(".B %s\n", section->heading);
		describe_text(stdout, section->text);
	}
}

// What each command's help says under this heading.
static void print_section(size_t number)
{
	printf(".SH %s\n", sections[number].name);
	for (const struct command *command = command_list; command->name; command++) {
		const struct help_section *section = help_text(command->help).sections;
		for (; section && section->text; section++) {
			if (!section->heading ||
				strcmp(section->heading, sections[number].heading) != 0)
				continue;
			printf(".SS veneer %s\n", command->name);
			describe_text(stdout, section->text);
		}
	}
}

// Nothing is hyphenated: people copy paths and options from here.
static void print_head(void)
{
	printf(".TH VENEER 1 \"\" \"Veneer %s\" \"User Commands\"\n"
	       ".nh\n.ad l\n"
	       ".SH NAME\nveneer \\- a small virtual machine monitor for Linux KVM\n"
	       ".SH SYNOPSIS\n.B veneer\n\\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n"
	       ".SH DESCRIPTION\nVeneer runs guests on /dev/kvm.\n.PP\n.in -7n\n.nf\n",
		veneer_version());
	help_list_commands(stdout);
	puts(".fi\n.in");
}

static void print_file_options(void)
{
	puts(".SH OPTIONS FROM A FILE\n"
	     "A file for \\fB\\-\\-config\\-file\\fR holds one JSON object.\n"
	     "Each member is an option of \\fBveneer run\\fR by its long name without dashes.\n"
	     "Its value is a string as on the command line,\n"
	     "or an object with a member for each word;\n"
	     "a repeatable option takes an array of these.\n"
	     "In an object the first word has a name too, such as count, size or path.\n"
	     ".PP\n.nf\n"
	     "{\"kernel\": \"vmlinuz\", \"cpus\": {\"count\": 4, \"pin\": \"auto\"},\n"
	     " \"disk\": [{\"path\": \"root.img\", \"cache\": \"none\"}],\n"
	     " \"net\": {\"user\": true}}\n"
	     ".fi");
}

static void print_manual(void)
{
	print_head();
	puts(".SH COMMANDS");
	for (const struct command *command = command_list; command->name; command++)
		if (help_text(command->help).intro)
			print_command(command);
	print_file_options();
	print_section(0);
	print_section(1);
	puts(".SH FILES\n"
	     ".I $XDG_RUNTIME_DIR/veneer/\n"
	     "has the sockets of running guests; \\fI/run/veneer/\\fR those of root,\n"
	     "\\fI/tmp/veneer\\-UID/\\fR those of users without XDG_RUNTIME_DIR.");
	print_section(2);
	puts(".SH SEE ALSO\n"
	     ".BR curl (1),\n.BR qemu\\-img (1),\n.BR ip (8)");
}

static void print_run_words(void)
{
	puts("\nA WORD is a row that begins with `...,` below its option. "
	     "Words are separated by commas, and a comma\n"
	     "inside a word is doubled (`,,`). SIZE is in bytes, or with K, M, G or T: "
	     "powers of 1024. LIST is of CPU\n"
	     "numbers, such as `0-3,8`.\n\n"
	     "The key is the name for `veneer_config_set()` and, "
	     "without the option's name and number, in an\n"
	     "object of a `--config-file` ([config-file.md](config-file.md)). "
	     "Options under Console and Run\n"
	     "are the program's own; the library does not know them.");
}

static void print_options(void)
{
	puts("# Options\n\n"
	     "Made from the tables that also make `veneer help COMMAND`, veneer(1) and the shells' "
	     "completion:\n"
	     "`build/cli/describe options >docs/options.md`. "
	     "Each command also takes `-h, --help`; commands that are\n"
	     "not here take no other option.");
	for (const struct command *command = command_list; command->name; command++) {
		if (!help_has_options(command))
			continue;
		printf("\n## veneer %s\n", command->name);
		if (command->syntax->all)
			print_run_words();
		describe_markdown(stdout, command->syntax);
	}
}

// The commands that can have options, a line each.
static void print_commands(void)
{
	for (const struct command *command = command_list; command->name; command++)
		if (command->syntax)
			puts(command->name);
}

// The template with the lines of words in the place of @WORDS@.
static int print_completion(const char *path)
{
	char line[512];
	FILE *file = fopen(path, "re");

	if (!file) {
		perror(path);
		return 1;
	}
	while (fgets(line, sizeof(line), file)) {
		if (strcmp(line, "@WORDS@\n") == 0)
			describe_words(stdout);
		else
			fputs(line, stdout);
	}
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "manual") == 0)
		print_manual();
	else if (argc == 2 && strcmp(argv[1], "options") == 0)
		print_options();
	else if (argc == 2 && strcmp(argv[1], "commands") == 0)
		print_commands();
	else if (argc == 2 && strcmp(argv[1], "ranges") == 0)
		describe_ranges(stdout);
	else if (argc == 3 && strcmp(argv[1], "completion") == 0)
		return print_completion(argv[2]);
	else
		return 2;
	return 0;
}
