// SPDX-License-Identifier: Apache-2.0
//
// The report for people, as one screen, and for programs, as JSON.
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "cli/doctor.h"

#define COLUMNS 80
#define INDENT  8 // the mark's column

static const struct {
	const char *word;
	const char *colour; // SGR
} MARKS[] = {
	[DOCTOR_OK] = {"ok", "32"},
	[DOCTOR_INFO] = {"info", "34"},
	[DOCTOR_WARN] = {"warn", "33"},
	[DOCTOR_BAD] = {"bad", "1;31"},
	[DOCTOR_UNKNOWN] = {"unknown", "36"},
};

// Words from column `at` on, broken where a line would be too long, and on from `indent`.
static void wrap(FILE *out, const char *text, int at, int indent)
{
	bool first = true;

	while (*text) {
		int length = (int)strcspn(text, " ");
		if (!first && at + 1 + length > COLUMNS) {
			fprintf(out, "\n%*s", indent, "");
			at = indent;
		} else if (!first) {
			fputc(' ', out);
			at++;
		}
		fprintf(out, "%.*s", length, text);
		at += length;
		text += length;
		text += *text == ' ';
		first = false;
	}
	fputc('\n', out);
}

static void print_mark(FILE *out, enum doctor_status status, bool colour)
{
	if (colour)
		fprintf(out, "\033[%sm", MARKS[status].colour);
	fprintf(out, "%-*s", INDENT, MARKS[status].word);
	if (colour)
		fputs("\033[0m", out);
}

static void print_detail(FILE *out, const char *label, const char *text)
{
	if (!*text)
		return;
	fprintf(out, "%*s%s: ", INDENT, "", label);
	wrap(out, text, INDENT + (int)strlen(label) + 2, INDENT + 2);
}

static void print_check(FILE *out, const struct doctor_check *check, bool colour)
{
	print_mark(out, check->status, colour);
	fprintf(out, "%-18s ", check->name);
	wrap(out, check->found, INDENT + 19, INDENT + 19);
	print_detail(out, "cost", check->cost);
	print_detail(out, "mend", check->remedy);
}

// How many checks from `first` on are unknown for one and the same reason.
static size_t same_reason(const struct doctor_report *report, size_t first)
{
	const struct doctor_check *checks = report->checks;
	size_t count = 1;

	while (first + count < report->count && checks[first].status == DOCTOR_UNKNOWN &&
		checks[first + count].status == DOCTOR_UNKNOWN &&
		strcmp(checks[first].found, checks[first + count].found) == 0)
		count++;
	return count;
}

// Unknown checks that share a reason share a paragraph.
static void print_unknown(FILE *out, const struct doctor_check *checks, size_t count, bool colour)
{
	char text[1024] = "";

	for (size_t i = 0; i < count; i++)
		doctor_append(text, sizeof(text), "%s%s", i > 0 ? ", " : "", checks[i].name);
	doctor_append(text, sizeof(text), ": %s", checks[0].found);
	print_mark(out, DOCTOR_UNKNOWN, colour);
	wrap(out, text, INDENT, INDENT);
}

static size_t count_unknown(const struct doctor_report *report)
{
	size_t unknown = 0;

	for (size_t i = 0; i < report->count; i++)
		unknown += report->checks[i].status == DOCTOR_UNKNOWN;
	return unknown;
}

void doctor_print(const struct doctor_report *report, FILE *out, bool colour)
{
	for (size_t i = 0; i < report->count;) {
		size_t same = same_reason(report, i);
		if (same > 1)
			print_unknown(out, &report->checks[i], same, colour);
		else
			print_check(out, &report->checks[i], colour);
		i += same;
	}
	fprintf(out, "%zu checks, %zu wrong, %zu unknown\n", report->count, doctor_wrong(report),
		count_unknown(report));
}

static json_t *text_or_null(const char *text)
{
	return *text ? json_string(text) : json_null();
}

static json_t *to_json(const struct doctor_report *report)
{
	json_t *checks = json_array();

	for (size_t i = 0; checks && i < report->count; i++) {
		const struct doctor_check *check = &report->checks[i];
		json_t *object = json_pack("{s:s, s:s, s:s, s:o, s:o}", "name", check->name,
			"status", MARKS[check->status].word, "found", check->found, "cost",
			text_or_null(check->cost), "remedy", text_or_null(check->remedy));
		if (json_array_append_new(checks, object) < 0) {
			json_decref(checks);
			return NULL;
		}
	}
	return json_pack("{s:o, s:I}", "checks", checks, "wrong", (json_int_t)doctor_wrong(report));
}

int doctor_print_json(const struct doctor_report *report, FILE *out)
{
	json_t *root = to_json(report);

	if (!root)
		return -ENOMEM;
	json_dumpf(root, out, JSON_INDENT(2));
	fputc('\n', out);
	json_decref(root);
	return 0;
}
