// SPDX-License-Identifier: Apache-2.0
//
// The help texts, around what the tables say of commands and options.
#include "cli/help.h"

#include <stdlib.h>

#include "cli/describe.h"

#define SUMMARY_COLUMN 25

static const char run_intro[] =
	"Runs a guest. If an option is given twice, the last one counts, unless it is\n"
	"repeatable. A WORD is one of those listed below its option: NAME=VALUE, or NAME\n"
	"alone. A comma inside a word is doubled (,,). SIZE is in bytes, or with K, M, G\n"
	"or T: powers of 1024. LIST is of CPU numbers, such as 0-3,8.\n"
	"\n"
	"  veneer run -d root.img,cache=none,queues=2 -m 1G,prealloc ...\n";

static const struct help_section run_sections[] = {
	{"Signals",
		"  SIGTERM   presses the guest's power button, and again every 3 seconds until\n"
		"            it has ended. A second SIGTERM ends the run at once. The built-in\n"
		"            guest has no power button: the first SIGTERM ends it. A paused\n"
		"            guest is resumed, to see the button.\n"
		"  SIGINT, SIGHUP\n"
		"            end the run at once.\n"
		"  SIGUSR1   reads the sizes of the disks again and tells the guest of changes.\n"
		"  A signal that was ignored at the start (SIGHUP under nohup) stays ignored.\n"},
	{"Exit status",
		"  0         The guest powered off, or reset without --reboot; or Ctrl-A x.\n"
		"  1 to 119  The guest's own value, through debug-exit port 0xf4 (above: 119).\n"
		"  120       The guest crashed, or its kernel reported a panic by pvpanic\n"
		"            (Linux: module pvpanic-mmio or pvpanic-pci; without one, only the\n"
		"            reset that follows the panic is seen).\n"
		"  124       The time limit was reached.\n"
		"  125       Veneer failed, or its arguments are wrong.\n"
		"  128+N     Veneer died of signal N. 143 also means that 'veneer stop' cut the\n"
		"            guest's power.\n"},
	{"Examples", "  veneer run\n"
		     "  veneer run -k vmlinuz -i initrd.img -a 'console=ttyS0 root=/dev/vda' \\\n"
		     "      -d root.img,cache=none -m 1G --net user,hostfwd=tcp:127.0.0.1:2222:22\n"
		     "  veneer run -k vmlinux -c 4,pin=auto -m 8G,hugepages=1G,node=0,prealloc \\\n"
		     "      -d /dev/sdb,cache=none,queues=4\n"
		     "  veneer run --config-file guest.json --timeout 600\n"},
	{.text = NULL},
};

static const char doctor_intro[] =
	"Checks this host for everything that guests' speed depends on. Where something\n"
	"is wrong, says what it costs and the command or boot parameter that fixes it.\n"
	"Changes nothing.\n";

static const struct help_section doctor_sections[] = {
	{"Marks", "  ok        Nothing to gain.\n"
		  "  info      For something that Veneer does not do yet.\n"
		  "  warn      It costs speed.\n"
		  "  bad       Guests do not run.\n"
		  "  unknown   It cannot be read: the reason.\n"},
	{"Exit status", "  0         Nothing is wrong: no warn and no bad.\n"
			"  1         Something is wrong.\n"
			"  125       The doctor failed, or its arguments are wrong.\n"},
	{.text = NULL},
};

static const char list_intro[] =
	"Lists the running guests of this user, one a line: name, process ID and state\n"
	"(running or paused; '(does not answer)' where it does not say so in a second, as\n"
	"during a long pause or reset).\n"
	"'veneer stats GUEST' shows what one has done.\n";

static const char stats_intro[] =
	"Shows what a running guest of this user has done since its start: exits,\n"
	"requests, latencies. GUEST is its name or process ID; without it, the same as\n"
	"'veneer list'.\n";

static const struct help_section stats_sections[] = {
	{.text = "The same by HTTP, from the guest's socket in $XDG_RUNTIME_DIR/veneer, or\n"
		 "/run/veneer for root, or /tmp/veneer-UID:\n"
		 "  curl --unix-socket /run/veneer/GUEST.sock http://veneer/metrics\n"
		 "  (or /json, /text)\n"},
	{.text = NULL},
};

static const char pause_intro[] =
	"Pauses a running guest of this user. Returns when no vCPU runs and no request is\n"
	"in flight. GUEST is the guest's name or process ID. 'veneer resume GUEST' lets\n"
	"it run again. A paused guest stays paused.\n";

static const char resume_intro[] =
	"Lets a paused guest of this user run again. Its clocks have gone on during the\n"
	"pause. GUEST is the guest's name or process ID. A running guest stays as it is.\n";

static const char reset_intro[] =
	"Resets a guest of this user, as its reset button would: its kernel is loaded and\n"
	"started again, and data that it had not written is lost. If kernel or initrd\n"
	"cannot be opened, the guest stays as it was. GUEST is the guest's name or process\n"
	"ID. A paused guest stays paused.\n";

static const char stop_intro[] =
	"Ends a guest of this user: presses its power button, and again every 3 seconds;\n"
	"if the guest has not powered off in time, cuts its power. Returns when the guest\n"
	"has ended. GUEST is the guest's name or process ID. A paused guest is resumed,\n"
	"to see the button. The built-in guest has no power button: its power is cut at\n"
	"once.\n"
	"\n"
	"The run whose guest powers off exits with 0; the run whose power is cut dies of\n"
	"SIGTERM (status 143), as by a second SIGTERM.\n";

static const char wait_intro[] =
	"Waits for the end of the run of a guest of this user, and exits with the run's\n"
	"status (128+N if the run dies of signal N). GUEST is the guest's name or process\n"
	"ID. A guest that --reboot starts again has not ended.\n";

static const struct help_section control_sections[] = {
	{"Exit status",
		"  0         Done.\n"
		"  125       There is no such guest, it refused or did not answer within a\n"
		"            minute, or the arguments are wrong.\n"},
	{.text = NULL},
};

static const struct help_section stop_sections[] = {
	{"Exit status",
		"  0         The guest has ended, by its power button or without.\n"
		"  125       There is no such guest, its run was killed, or the arguments are\n"
		"            wrong.\n"},
	{.text = NULL},
};

static const struct help_section wait_sections[] = {
	{"Exit status",
		"  That of the guest's run ('veneer help run'); besides:\n"
		"  125       There is no such guest, its run was killed, or the arguments are\n"
		"            wrong.\n"},
	{.text = NULL},
};

struct help_text help_text(enum action action)
{
	switch (action) {
	case ACTION_RUN_HELP:
		return (struct help_text){run_intro, run_sections};
	case ACTION_DOCTOR_HELP:
		return (struct help_text){doctor_intro, doctor_sections};
	case ACTION_STATS_HELP:
		return (struct help_text){stats_intro, stats_sections};
	case ACTION_PAUSE_HELP:
		return (struct help_text){pause_intro, control_sections};
	case ACTION_RESUME_HELP:
		return (struct help_text){resume_intro, control_sections};
	case ACTION_RESET_HELP:
		return (struct help_text){reset_intro, control_sections};
	case ACTION_STOP_HELP:
		return (struct help_text){stop_intro, stop_sections};
	case ACTION_WAIT_HELP:
		return (struct help_text){wait_intro, wait_sections};
	case ACTION_LIST_HELP:
		return (struct help_text){.intro = list_intro};
	default:
		return (struct help_text){.intro = NULL};
	}
}

// "veneer stats GUEST": returns its length.
static int print_name(FILE *out, const struct command *command)
{
	return fprintf(out, "veneer %s%s%s", command->name, *command->arguments ? " " : "",
		command->arguments);
}

bool help_has_options(const struct command *command)
{
	const struct command_syntax *syntax = command->syntax;

	return syntax && (syntax->all || syntax->guest || syntax->own != &no_option);
}

void help_synopsis(FILE *out, const struct command *command)
{
	print_name(out, command);
	fputs(help_has_options(command) ? " [OPTION]...\n" : "\n", out);
}

void help_list_commands(FILE *out)
{
	for (const struct command *command = command_list; command->name; command++) {
		int column = fprintf(out, "  ") + print_name(out, command);
		fprintf(out, "%*s%s\n", SUMMARY_COLUMN - column, "", command->summary);
	}
}

static void print_overview(FILE *out)
{
	fputs("veneer, a small virtual machine monitor for Linux KVM\n\n", out);
	help_list_commands(out);
	fputs("\nFor a first look: veneer run\n", out);
}

static void print_command(FILE *out, const struct command *command)
{
	const struct help_text text = help_text(command->help);

	help_synopsis(out, command);
	fprintf(out, "\n%s", text.intro);
	if (command->syntax)
		describe_options(out, command->syntax);
	for (const struct help_section *section = text.sections; section && section->text;
		section++)
		fprintf(out, "\n%s%s%s", section->heading ? section->heading : "",
			section->heading ? "\n" : "", section->text);
}

char *help_format(enum action action)
{
	const struct command *command = command_list;
	char *result = NULL;
	size_t size;
	FILE *stream = open_memstream(&result, &size);

	if (!stream)
		return NULL;
	while (command->name && command->help != action)
		command++;
	if (action == ACTION_HELP || !command->name)
		print_overview(stream);
	else
		print_command(stream, command);
	if (fclose(stream) == 0)
		return result;
	free(result);
	return NULL;
}
