// SPDX-License-Identifier: Apache-2.0
#include "cli/describe.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "base/text.h"

#define WIDTH         80 // columns of a terminal
#define TEXT_COLUMN   26 // where texts begin
#define OPTION_INDENT 2
#define WORD_INDENT   6

#define MANUAL_INDENT 7 // of a manual page's text

#define HELP_BYTES 1024 // of an option or word

// ---- A command's options, of whichever table

struct entry {
	const char *name, *group, *help;
	char letter;
	bool many;
	bool optional; // the argument
	char argument[160]; // "PATH[,WORD]...", or ""
	int guest; // index of the library's option; -1: another table's
	bool words; // that are described one by one
	struct veneer_property value; // otherwise: its only one
};

struct listing {
	unsigned count;
	struct entry entries[OPTIONS_MAX];
};

// Properties of the library's option `index` with one of these roles. False: there are no more.
static bool next_property(
	unsigned index, unsigned *number, unsigned roles, struct veneer_property *property)
{
	while (veneer_get_option_property(index, (*number)++, property, sizeof(*property)))
		if (roles >> property->role & 1)
			return true;
	return false;
}

#define ROLE(name) (1u << VENEER_PROPERTY_##name)
#define HEADS      (ROLE(FIRST) | ROLE(KIND))
#define WORDS      (ROLE(WORD) | ROLE(SIGNED))

// How a word is written: "queues=N", "readonly"; the first word has no name: "PATH".
static void add_word(struct vn_text *text, const struct veneer_property *property)
{
	bool bare =
		property->role == VENEER_PROPERTY_FIRST || property->role == VENEER_PROPERTY_SIGNED;

	vn_text_add(text, "%s%s%s%s%s", bare ? "" : property->name, property->optional ? "[" : "",
		!bare && property->argument ? "=" : "",
		property->argument ? property->argument : "", property->optional ? "]" : "");
}

// An option's argument: "PATH[,WORD]...", "tap=NAME|user[,WORD]...", "cell=N,cpus=LIST[,WORD]...".
static void name_argument(struct vn_text *text, unsigned index)
{
	struct veneer_property property;
	const char *before = "";
	bool more = false;

	for (unsigned i = 0; next_property(index, &i, HEADS, &property); before = "|") {
		vn_text_add(text, "%s", before);
		add_word(text, &property);
	}
	if (*before)
		before = ",";
	for (unsigned i = 0; next_property(index, &i, WORDS, &property);) {
		more |= !property.required;
		if (!property.required)
			continue;
		vn_text_add(text, "%s", before);
		add_word(text, &property);
		before = ",";
	}
	if (more)
		vn_text_add(text, *before ? "[,WORD]..." : "WORD[,WORD]...");
}

static void add_guest_option(struct listing *listing, const struct command_syntax *syntax,
	unsigned index, const struct veneer_option *option)
{
	const struct guest_option *sense = options_sense(syntax, option->name);
	struct entry *entry = &listing->entries[listing->count++];
	struct vn_text argument = VN_TEXT(entry->argument);
	struct veneer_property second;

	*entry = (struct entry){.name = option->name,
		.letter = option->letter,
		.group = option->group,
		.guest = -1,
		.help = sense ? sense->help : option->help};
	if (sense) {
		vn_text_add(&argument, "%s", sense->argument);
		return;
	}
	name_argument(&argument, index);
	entry->guest = (int)index;
	entry->many = option->many;
	entry->words = veneer_get_option_property(index, 1, &second, sizeof(second));
	if (!entry->words)
		veneer_get_option_property(index, 0, &entry->value, sizeof(entry->value));
}

static void add_own_option(struct listing *listing, const struct vn_prop *prop, const char *group)
{
	struct entry *entry = &listing->entries[listing->count++];
	struct vn_text argument = VN_TEXT(entry->argument);

	*entry = (struct entry){.name = prop->name,
		.letter = prop->letter,
		.group = prop->group ? prop->group : group,
		.guest = -1,
		.optional = prop->flags & VN_PROP_OPTIONAL,
		.help = prop->help,
		.value = {.name = prop->name,
			.argument = prop->argument,
			.default_text = prop->default_text,
			.type = prop->words ? VENEER_TYPE_CHOICE : prop->type->kind,
			.min = prop->min,
			.max = prop->max,
			.values = prop->words}};
	vn_text_add(&argument, "%s", prop->argument ? prop->argument : "");
}

static void list_options(struct listing *listing, const struct command_syntax *syntax)
{
	struct veneer_option option;

	listing->count = 0;
	for (unsigned i = 0; options_of_guest(syntax, &i, &option); i++)
		add_guest_option(listing, syntax, i, &option);
	for (const struct vn_prop *prop = syntax->own->props; prop->name; prop++)
		add_own_option(listing, prop, syntax->own->group);
	listing->entries[listing->count++] = (struct entry){.name = "help",
		.letter = 'h',
		.group = "Run",
		.guest = -1,
		.help = "Print this help."};
	// A few options need no headings.
	for (unsigned i = 0; !syntax->all && i < listing->count; i++)
		listing->entries[i].group = "Options";
}

// The entries by groups, in the order in which the groups come first: the entry after `entry`, or
// the first one for NULL. NULL: there are no more.
static const struct entry *next_entry(const struct listing *listing, const struct entry *entry)
{
	const struct entry *end = listing->entries + listing->count;

	if (!entry)
		return listing->count > 0 ? listing->entries : NULL;
	for (const struct entry *next = entry + 1; next < end; next++)
		if (strcmp(next->group, entry->group) == 0)
			return next;
	// The first entry of the next group: of one that no entry before it is in.
	const struct entry *first = listing->entries;
	while (strcmp(first->group, entry->group) != 0)
		first++;
	for (const struct entry *next = first + 1; next < end; next++) {
		const struct entry *before = listing->entries;
		while (strcmp(before->group, next->group) != 0)
			before++;
		if (before == next)
			return next;
	}
	return NULL;
}

static bool begins_group(const struct listing *listing, const struct entry *entry)
{
	for (const struct entry *before = listing->entries; before < entry; before++)
		if (strcmp(before->group, entry->group) == 0)
			return false;
	return true;
}

// ---- What is said of an option or word

static void add_range(struct vn_text *text, const struct veneer_property *property)
{
	bool size = property->type == VENEER_TYPE_SIZE;

	if (property->type == VENEER_TYPE_CHOICE)
		return;
	if (size && property->min > 1) {
		vn_text_add(text, " At least ");
		vn_text_add_size(text, property->min);
		vn_text_add(text, ".");
	} else if (!size && property->max > 0) {
		vn_text_add(text, " %" PRIu64 " to %" PRIu64 "%s.", property->min, property->max,
			property->type == VENEER_TYPE_TEXT ? " bytes" : "");
	} else if (property->type == VENEER_TYPE_NUMBER && property->min > 1) {
		vn_text_add(text, " At least %" PRIu64 ".", property->min);
	}
}

// Whether the argument ("on|off") or the help ("on: ...") names a value.
static bool names_value(const struct veneer_property *property, const char *help, const char *value)
{
	size_t length = strlen(value);

	for (const char *at = property->argument; at && *at; at += strspn(at, "|")) {
		size_t choice = strcspn(at, "|");
		if (choice == length && memcmp(at, value, length) == 0)
			return true;
		at += choice;
	}
	for (const char *at = help; (at = strstr(at, value)); at++)
		if (at[length] == ':' && (at == help || at[-1] == ' '))
			return true;
	return false;
}

static void add_values(
	struct vn_text *text, const struct veneer_property *property, const char *help)
{
	const char *const *values = property->values;
	bool named = true;

	for (unsigned i = 0; values && values[i]; i++)
		named = named && names_value(property, help, values[i]);
	for (unsigned i = 0; !named && values[i]; i++)
		vn_text_add(text, "%s%s%s",
			i == 0          ? " One of "
			: values[i + 1] ? ", "
					: " or ",
			values[i], values[i + 1] ? "" : ".");
}

// The help of a row and what the row says besides: "Number of vCPUs. 1 to 64. Default: 1."
static void add_help(
	struct vn_text *text, const char *help, const struct veneer_property *property, bool many)
{
	vn_text_add(text, "%s", help);
	if (property) {
		add_values(text, property, help);
		add_range(text, property);
	}
	if (many)
		vn_text_add(text, " Repeatable.");
	if (property && property->default_text)
		vn_text_add(text, " Default: %s.", property->default_text);
}

static void add_option_help(struct vn_text *text, const struct entry *entry)
{
	add_help(text, entry->help, entry->value.name ? &entry->value : NULL, entry->many);
}

static void add_word_help(struct vn_text *text, const struct veneer_property *property)
{
	add_help(text, property->help, property, property->many);
}

// ---- The help

// A text in lines of at most WIDTH columns, of which the first begins at `column`, the others at
// TEXT_COLUMN.
static void print_wrapped(FILE *out, unsigned column, const char *text)
{
	bool first = true;

	while (*text) {
		size_t length = strcspn(text, " ");
		if (!first && column + 1 + length > WIDTH) {
			fprintf(out, "\n%*s", TEXT_COLUMN, "");
			column = TEXT_COLUMN;
			first = true;
		}
		fprintf(out, "%s%.*s", first ? "" : " ", (int)length, text);
		column += (unsigned)length + (first ? 0 : 1);
		first = false;
		text += length;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

// What an option or word is called, and beside it what is said of it; below it where that would
// leave no gap.
static void print_entry(FILE *out, int indent, const char *head, const char *help)
{
	int length = fprintf(out, "%*s%s", indent, "", head);

	if (length > TEXT_COLUMN - 2) {
		fputc('\n', out);
		length = 0;
	}
	fprintf(out, "%*s", TEXT_COLUMN - length, "");
	print_wrapped(out, TEXT_COLUMN, help);
}

// "-d, --disk PATH[,WORD]...", "--stats[=text|json]"
static void add_option_head(struct vn_text *text, const struct entry *entry)
{
	if (entry->letter)
		vn_text_add(text, "-%c, ", entry->letter);
	vn_text_add(text, "--%s", entry->name);
	if (*entry->argument)
		vn_text_add(text, entry->optional ? "[=%s]" : " %s", entry->argument);
}

static void print_words(FILE *out, unsigned index)
{
	struct veneer_property property;

	for (unsigned i = 0; next_property(index, &i, HEADS | WORDS, &property);) {
		char head[96], help[HELP_BYTES];
		struct vn_text head_text = VN_TEXT(head), help_text = VN_TEXT(help);
		add_word(&head_text, &property);
		add_word_help(&help_text, &property);
		print_entry(out, WORD_INDENT, head, help);
	}
}

void describe_options(FILE *out, const struct command_syntax *syntax)
{
	struct listing listing;

	list_options(&listing, syntax);
	for (const struct entry *entry = NULL; (entry = next_entry(&listing, entry));) {
		char head[256], help[HELP_BYTES];
		struct vn_text head_text = VN_TEXT(head), help_text = VN_TEXT(help);
		if (begins_group(&listing, entry))
			fprintf(out, "\n%s\n", entry->group);
		add_option_head(&head_text, entry);
		add_option_help(&help_text, entry);
		print_entry(out, OPTION_INDENT, head, help);
		if (entry->words)
			print_words(out, (unsigned)entry->guest);
	}
}

// ---- The manual page

// Escapes for roff: backslashes, dashes, and a dot or quote at the start of a line.
static void print_roff(FILE *out, const char *text, size_t length)
{
	bool begins = true;

	for (; length > 0 && *text; text++, length--) {
		if (begins && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
		begins = *text == '\n';
	}
}

// A font's letter: B bold, of what is typed as it is; I italic, of what stands for something.
static void print_font(FILE *out, char font, const char *text)
{
	fprintf(out, "\\f%c", font);
	print_roff(out, text, SIZE_MAX);
	fputs("\\fR", out);
}

static void roff_option(FILE *out, const struct entry *entry)
{
	char name[64], help[HELP_BYTES];
	struct vn_text name_text = VN_TEXT(name), text = VN_TEXT(help);

	fputs(".TP\n", out);
	if (entry->letter) {
		print_font(out, 'B', (const char[]){'-', entry->letter, '\0'});
		fputs(", ", out);
	}
	vn_text_add(&name_text, "--%s", entry->name);
	print_font(out, 'B', name);
	if (*entry->argument) {
		fputs(entry->optional ? "[=" : " ", out);
		print_font(out, 'I', entry->argument);
		fputs(entry->optional ? "]" : "", out);
	}
	fputc('\n', out);
	add_option_help(&text, entry);
	print_roff(out, help, SIZE_MAX);
	fputc('\n', out);
}

static void roff_word(FILE *out, const struct veneer_property *property)
{
	bool bare =
		property->role == VENEER_PROPERTY_FIRST || property->role == VENEER_PROPERTY_SIGNED;
	char help[HELP_BYTES];
	struct vn_text text = VN_TEXT(help);

	fputs(".TP\n", out);
	if (!bare)
		print_font(out, 'B', property->name);
	if (property->argument) {
		fprintf(out, "%s%s", property->optional ? "[" : "", bare ? "" : "=");
		print_font(out, 'I', property->argument);
		fputs(property->optional ? "]" : "", out);
	}
	fputc('\n', out);
	add_word_help(&text, property);
	print_roff(out, help, SIZE_MAX);
	fputc('\n', out);
}

static void roff_words(FILE *out, unsigned index)
{
	struct veneer_property property;

	fputs(".RS\n", out);
	for (unsigned i = 0; next_property(index, &i, HEADS | WORDS, &property);)
		roff_word(out, &property);
	fputs(".RE\n", out);
}

void describe_manual(FILE *out, const struct command_syntax *syntax)
{
	struct listing listing;

	list_options(&listing, syntax);
	for (const struct entry *entry = NULL; (entry = next_entry(&listing, entry));) {
		if (begins_group(&listing, entry))
			fprintf(out, ".PP\n.B %s\n", entry->group);
		roff_option(out, entry);
		if (entry->words)
			roff_words(out, (unsigned)entry->guest);
	}
}

// The columns of the longest line from here to where it is no longer indented.
static size_t block_width(const char *text)
{
	size_t width = 0;

	while (*text == ' ') {
		size_t length = strcspn(text, "\n");
		width = length > width ? length : width;
		text += length + (text[length] == '\n');
	}
	return width;
}

void describe_text(FILE *out, const char *text)
{
	const char *end = ""; // of a block of indented lines

	while (*text) {
		size_t length = strcspn(text, "\n");
		bool begins = *text == ' ' && !*end, ends = length > 0 && *text != ' ' && *end;
		if (begins) {
			// Lines that would not fit in 80 columns go further left.
			bool wide = block_width(text) > 80 - MANUAL_INDENT;
			fputs(wide ? ".in -5n\n.nf\n" : ".nf\n", out);
			end = wide ? ".fi\n.in\n" : ".fi\n";
		} else if (ends) {
			fputs(end, out);
			end = "";
		}
		if (length == 0 && !*end)
			fputs(".PP", out);
		print_roff(out, text, length);
		fputc('\n', out);
		text += length + (text[length] == '\n');
	}
	fputs(end, out);
}

// ---- docs/options.md

// A bar would end a table's cell.
static void print_cell(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|')
			fputc('\\', out);
		fputc(*text, out);
	}
}

// `key`: or NULL, in a table without keys.
static void markdown_row(FILE *out, const char *head, const char *key, const char *help)
{
	fputs("| `", out);
	print_cell(out, head);
	fputs("` | ", out);
	if (key)
		fprintf(out, "`%s` | ", key);
	print_cell(out, help);
	fputs(" |\n", out);
}

static void markdown_words(FILE *out, const struct entry *entry)
{
	struct veneer_property property;

	for (unsigned i = 0; next_property((unsigned)entry->guest, &i, HEADS | WORDS, &property);) {
		char head[128], key[96], help[HELP_BYTES];
		struct vn_text head_text = VN_TEXT(head), key_text = VN_TEXT(key),
			       help_text = VN_TEXT(help);
		if (WORDS >> property.role & 1)
			vn_text_add(&head_text, "...,");
		add_word(&head_text, &property);
		vn_text_add(
			&key_text, "%s%s.%s", entry->name, entry->many ? "0" : "", property.name);
		add_word_help(&help_text, &property);
		markdown_row(out, head, key, help);
	}
}

// Only options of a guest have keys, and only these are in several tables.
static void markdown_head(FILE *out, const struct command_syntax *syntax, const char *group)
{
	if (syntax->all)
		fprintf(out, "\n### %s\n\n| option | key | meaning |\n|---|---|---|\n", group);
	else
		fputs("\n| option | meaning |\n|---|---|\n", out);
}

void describe_markdown(FILE *out, const struct command_syntax *syntax)
{
	struct listing listing;

	list_options(&listing, syntax);
	for (const struct entry *entry = NULL; (entry = next_entry(&listing, entry));) {
		char head[256], help[HELP_BYTES];
		struct vn_text head_text = VN_TEXT(head), help_text = VN_TEXT(help);
		if (strcmp(entry->name, "help") == 0)
			continue;
		if (begins_group(&listing, entry))
			markdown_head(out, syntax, entry->group);
		add_option_head(&head_text, entry);
		add_option_help(&help_text, entry);
		markdown_row(out, head, syntax->all ? entry->name : NULL, help);
		if (entry->words)
			markdown_words(out, entry);
	}
}

// ---- Completion

// What of an alternative in an argument is typed as it is: "auto", "2M", "file:" of "file:PATH".
static int literal_length(const char *at)
{
	size_t length = 0;

	if (isdigit((unsigned char)*at))
		return (int)strcspn(at, "|");
	while (at[length] && at[length] != '|' && at[length] != '[' &&
		!isupper((unsigned char)at[length]))
		length++;
	return (int)length;
}

// The values of a property, each after `before`: those that are listed, else those that its
// argument names. True: there are others.
static bool print_values(FILE *out, const char *before, const struct veneer_property *property)
{
	const char *at = property->argument;
	bool others = !property->values && !at;

	for (unsigned i = 0; property->values && property->values[i]; i++)
		fprintf(out, " %s%s", before, property->values[i]);
	while (!property->values && at && *at) {
		size_t length = strcspn(at, "|");
		int literal = literal_length(at);
		if (literal > 0)
			fprintf(out, " %s%.*s", before, literal, at);
		others |= literal == 0;
		at += length + (at[length] == '|');
	}
	return others;
}

static void print_property(FILE *out, const struct veneer_property *property)
{
	char before[64];
	struct vn_text text = VN_TEXT(before);

	if (property->role == VENEER_PROPERTY_FIRST) {
		print_values(out, "", property);
	} else if (property->role == VENEER_PROPERTY_SIGNED) {
		for (unsigned i = 0; property->values && property->values[i]; i++)
			fprintf(out, " +%s -%s", property->values[i], property->values[i]);
	} else {
		vn_text_add(&text, "%s=", property->name);
		if (!property->argument || property->optional)
			fprintf(out, " %s", property->name);
		if (property->argument && print_values(out, before, property))
			fprintf(out, " %s", before);
	}
}

static void print_guest_words(FILE *out, unsigned index)
{
	struct veneer_property property;
	bool heads = false;

	for (unsigned i = 0; next_property(index, &i, HEADS, &property); heads = true)
		print_property(out, &property);
	for (unsigned i = 0; !heads && next_property(index, &i, WORDS, &property);)
		print_property(out, &property);
	fputs(" ,", out);
	for (unsigned i = 0; next_property(index, &i, WORDS, &property);)
		print_property(out, &property);
}

static const char *completion_kind(const struct entry *entry)
{
	size_t length = strspn(entry->argument, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

	if (!*entry->argument)
		return "none";
	if (entry->optional)
		return "optional";
	return length == 4 && (strncmp(entry->argument, "FILE", 4) == 0 ||
				      strncmp(entry->argument, "PATH", 4) == 0)
		       ? "file"
		       : "value";
}

// The line of an option; of its letter too.
static void print_option_words(
	FILE *out, const char *command, const char *dashes, const struct entry *entry)
{
	bool letter = strlen(dashes) == 1;

	fprintf(out, "%s/%s%.*s %s", command, dashes, letter ? 1 : 64,
		letter ? &entry->letter : entry->name, completion_kind(entry));
	if (entry->words)
		print_guest_words(out, (unsigned)entry->guest);
	else if (entry->value.name)
		print_values(out, "", &entry->value);
	fputc('\n', out);
}

static void list_commands(FILE *out)
{
	for (const struct command *command = command_list; command->name; command++)
		fprintf(out, " %s", command->name);
}

static void print_command_words(FILE *out, const struct command *command)
{
	struct listing listing = {.count = 0};

	fputs(command->name, out);
	if (command->syntax && command->syntax->names_guest)
		fputs(" GUEST", out);
	if (strcmp(command->arguments, "[COMMAND]") == 0)
		list_commands(out);
	if (command->syntax)
		list_options(&listing, command->syntax);
	for (unsigned i = 0; i < listing.count; i++)
		fprintf(out, " --%s", listing.entries[i].name);
	fputs(command->syntax ? "\n" : " --help\n", out);
	for (unsigned i = 0; i < listing.count; i++) {
		print_option_words(out, command->name, "--", &listing.entries[i]);
		if (listing.entries[i].letter)
			print_option_words(out, command->name, "-", &listing.entries[i]);
	}
}

void describe_words(FILE *out)
{
	fputs("veneer", out);
	list_commands(out);
	fputs(" --help --version\n", out);
	for (const struct command *command = command_list; command->name; command++)
		print_command_words(out, command);
}

// ---- Bounds

static void print_range(FILE *out, const char *command, const char *option, const char *role,
	const struct veneer_property *property)
{
	bool size = property->type == VENEER_TYPE_SIZE;

	if ((!size && property->type != VENEER_TYPE_NUMBER) ||
		(property->min == 0 && property->max == 0))
		return;
	fprintf(out, "%s %s %s %s %" PRIu64, command, option, property->name, role, property->min);
	if (property->max > 0 && !size)
		fprintf(out, " %" PRIu64 "\n", property->max);
	else
		fputs(" -\n", out);
}

static void print_entry_ranges(FILE *out, const char *command, const struct entry *entry)
{
	struct veneer_property property;

	if (entry->guest < 0 && entry->value.name)
		print_range(out, command, entry->name, "whole", &entry->value);
	for (unsigned i = 0; entry->guest >= 0 &&
			     next_property((unsigned)entry->guest, &i, HEADS | WORDS, &property);)
		print_range(out, command, entry->name,
			property.role == VENEER_PROPERTY_FIRST ? "first" : "word", &property);
}

void describe_ranges(FILE *out)
{
	struct listing listing;

	for (const struct command *command = command_list; command->name; command++) {
		if (!command->syntax)
			continue;
		list_options(&listing, command->syntax);
		for (unsigned i = 0; i < listing.count; i++)
			print_entry_ranges(out, command->name, &listing.entries[i]);
	}
}
