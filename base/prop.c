// SPDX-License-Identifier: Apache-2.0
//
// Parse words into fields and format fields as words, by tables of properties.
#include "base/prop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/words.h"

#define REASON_MAX 384 // bytes, of the text after the value in a message

static void *field_of(const struct vn_prop *prop, void *values)
{
	return (char *)values + prop->offset;
}

static uint64_t get_number(const struct vn_prop *prop, const void *field)
{
	uint64_t value = 0;
	memcpy(&value, field, prop->width); // little-endian
	return value;
}

static void set_number(const struct vn_prop *prop, void *field, uint64_t value)
{
	memcpy(field, &value, prop->width);
}

// A string of its own; NULL: no memory.
__attribute__((format(printf, 1, 2))) static char *print(const char *format, ...)
{
	va_list args;
	char *text;
	va_start(args, format);
	int length = vasprintf(&text, format, args);
	va_end(args);
	return length < 0 ? NULL : text;
}

static int parse_string(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)why;
	size_t length = strlen(value);
	if (length < prop->min || (prop->max > 0 && length > prop->max) ||
		(prop->accepts && !prop->accepts(value)))
		return -EINVAL;
	char *copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

static void expect_string(const struct vn_prop *prop, struct vn_text *text)
{
	if (prop->max > 0)
		vn_text_add(text, "%" PRIu64 " to %" PRIu64 " bytes long", prop->min, prop->max);
	else
		vn_text_add(text, "a %s", prop->name);
}

static char *format_string(const struct vn_prop *prop, const void *field)
{
	(void)prop;
	const char *string = *(char *const *)field;
	return strdup(string ? string : "");
}

static int copy_string(void *to, const void *from)
{
	const char *string = *(char *const *)from;
	*(char **)to = string ? strdup(string) : NULL;
	return string && !*(char **)to ? -ENOMEM : 0;
}

static void release_string(void *field)
{
	free(*(char **)field);
	*(char **)field = NULL;
}

const struct vn_prop_type vn_prop_string = {
	.kind = VENEER_TYPE_TEXT,
	.parse = parse_string,
	.expect = expect_string,
	.format = format_string,
	.copy = copy_string,
	.release = release_string,
};

static int parse_number(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)why;
	uint64_t number;
	if (vn_parse_number(value, prop->max, &number) < 0 || number < prop->min)
		return -EINVAL;
	set_number(prop, field, number);
	return 0;
}

static void expect_number(const struct vn_prop *prop, struct vn_text *text)
{
	vn_text_add(text, "a number from %" PRIu64 " to %" PRIu64, prop->min, prop->max);
}

static char *format_number(const struct vn_prop *prop, const void *field)
{
	return print("%" PRIu64, get_number(prop, field));
}

const struct vn_prop_type vn_prop_number = {.kind = VENEER_TYPE_NUMBER,
	.parse = parse_number,
	.expect = expect_number,
	.format = format_number};

static char *format_size(const struct vn_prop *prop, const void *field)
{
	char digits[32];
	struct vn_text text = VN_TEXT(digits);
	vn_text_add_size(&text, get_number(prop, field));
	return strdup(digits);
}

static bool is_listed(const char *const *sizes, uint64_t size)
{
	uint64_t listed;
	for (unsigned i = 0; sizes[i]; i++)
		if (vn_parse_size(sizes[i], &listed) == 0 && listed == size)
			return true;
	return false;
}

// False: `size` is not within the row's limits, and `why` says which.
static bool is_within(const struct vn_prop *prop, uint64_t size, struct vn_text *why)
{
	bool small = size < prop->min;
	if (!small && (prop->max == 0 || size <= prop->max))
		return true;
	vn_text_add(why, " is %s than ", small ? "less" : "more");
	vn_text_add_size(why, small ? prop->min : prop->max);
	vn_text_add(why, "; sizes are in bytes unless K, M, G or T follows");
	return false;
}

static int parse_size(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	uint64_t size;
	int code = vn_parse_size(value, &size);
	if (code == -ERANGE && !prop->words)
		vn_text_add(why, " is more than 64 bits hold");
	if (code < 0 || (prop->words ? !is_listed(prop->words, size) : !is_within(prop, size, why)))
		return -EINVAL;
	set_number(prop, field, size);
	return 0;
}

static void expect_size(const struct vn_prop *prop, struct vn_text *text)
{
	(void)prop;
	vn_text_add(text, "a size: a number, then K, M, G or T");
}

const struct vn_prop_type vn_prop_size = {.kind = VENEER_TYPE_SIZE,
	.parse = parse_size,
	.expect = expect_size,
	.format = format_size};

static int parse_word(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)why;
	for (unsigned i = 0; prop->words[i]; i++) {
		if (strcmp(value, prop->words[i]) == 0) {
			set_number(prop, field, i);
			return 0;
		}
	}
	return -EINVAL;
}

static char *format_word(const struct vn_prop *prop, const void *field)
{
	const char *word = prop->words[get_number(prop, field)];
	return strdup(word ? word : ""); // "", where what it is depends on the guest
}

const struct vn_prop_type vn_prop_word = {
	.kind = VENEER_TYPE_CHOICE, .parse = parse_word, .format = format_word};

static int parse_switch(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)prop;
	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
		vn_text_add(why, " is neither on nor off");
		return -EINVAL;
	}
	*(bool *)field = strcmp(value, "on") == 0;
	return 0;
}

static char *format_switch(const struct vn_prop *prop, const void *field)
{
	(void)prop;
	return strdup(*(const bool *)field ? "on" : "off");
}

const struct vn_prop_type vn_prop_switch = {
	.kind = VENEER_TYPE_CHOICE, .parse = parse_switch, .format = format_switch};

static int parse_flag(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	return value ? parse_switch(prop, field, value, why) : (*(bool *)field = true, 0);
}

static char *format_flag(const struct vn_prop *prop, const void *field)
{
	(void)prop;
	(void)field;
	return strdup("");
}

const struct vn_prop_type vn_prop_flag = {.parse = parse_flag, .format = format_flag};

static int parse_choice(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	if (value && strcmp(value, "on") != 0) {
		vn_text_add(why, " is not on");
		return -EINVAL;
	}
	set_number(prop, field, prop->min);
	return 0;
}

const struct vn_prop_type vn_prop_choice = {.parse = parse_choice, .format = format_flag};

static bool is_word(const struct vn_prop *prop, const char *value)
{
	for (unsigned i = 0; prop->words && prop->words[i]; i++)
		if (strcmp(prop->words[i], value) == 0)
			return true;
	return false;
}

bool vn_prop_takes_boolean(const struct vn_prop *prop)
{
	return prop->type == &vn_prop_switch || prop->type == &vn_prop_flag ||
	       prop->type == &vn_prop_choice || (is_word(prop, "on") && is_word(prop, "off"));
}

// "is neither a nor b"; "is not a, b or c"
static void add_words(struct vn_text *text, const char *const *words)
{
	bool two = words[0] && words[1] && !words[2];
	vn_text_add(text, two ? " is neither " : " is not ");
	for (unsigned i = 0; words[i]; i++)
		vn_text_add(text, "%s%s",
			i == 0         ? ""
			: words[i + 1] ? ", "
			: two          ? " nor "
				       : " or ",
			words[i]);
}

static void add_reason(const struct vn_prop *prop, struct vn_text *text)
{
	if (prop->choices) {
		vn_text_add(text, " is not %s", prop->choices);
	} else if (prop->words) {
		add_words(text, prop->words);
	} else {
		vn_text_add(text, " is not ");
		prop->type->expect(prop, text);
	}
}

// What a message begins with: the option or, in a table of options, the one that the row is.
static const char *called(const struct vn_option *option, const struct vn_prop *prop)
{
	return option->name ? option->name : prop->name;
}

// Say why a value was refused: `reason`, or what the row expects; or that memory ran out.
static int refuse_value(const struct vn_option *option, const struct vn_prop *prop,
	const char *value, int code, const char *reason, struct veneer_error *error)
{
	char text[REASON_MAX];
	struct vn_text why = VN_TEXT(text);
	bool bare = prop->flags & VN_PROP_FIRST;
	if (code == -ENOMEM)
		return vn_fail(error, code, "%s: out of memory", called(option, prop));
	if (*reason)
		vn_text_add(&why, "%s", reason);
	else
		add_reason(prop, &why);
	if (!option->name)
		return vn_fail(error, code, "%s: '%s'%s", prop->name, value ? value : "", text);
	vn_fail(error, code, "%s: %s%s'%s'%s", option->name, bare ? "" : prop->name,
		bare ? "" : "=", value ? value : "", text);
	vn_error_set_key(error, "%s.%s", option->name, prop->name);
	return code;
}

static int set_prop(const struct vn_option *option, void *values, const struct vn_prop *prop,
	const char *value, struct veneer_error *error)
{
	char reason[REASON_MAX];
	struct vn_text why = VN_TEXT(reason);
	int code = prop->type->parse(prop, field_of(prop, values), value, &why);
	return code < 0 ? refuse_value(option, prop, value, code, reason, error) : 0;
}

static uint64_t bit_of(const struct vn_option *option, const struct vn_prop *prop)
{
	return BIT64(prop - option->props);
}

bool vn_option_is_given(const struct vn_option *option, const struct vn_prop *prop, uint64_t given)
{
	return given & bit_of(option, prop);
}

void vn_option_give(const struct vn_option *option, const struct vn_prop *prop, const void *values,
	uint64_t *given)
{
	bool off = prop->type == &vn_prop_flag &&
		   !*(const bool *)((const char *)values + prop->offset);
	if (off)
		*given &= ~bit_of(option, prop);
	else
		*given |= bit_of(option, prop);
}

void vn_option_unset(
	const struct vn_option *option, const struct vn_prop *prop, void *values, uint64_t *given)
{
	if (prop->type->release)
		prop->type->release(field_of(prop, values));
	memcpy(field_of(prop, values), (const char *)option->defaults + prop->offset, prop->width);
	*given &= ~bit_of(option, prop);
}

const struct vn_prop *vn_option_prop(const struct vn_option *option, const char *name)
{
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		if (strcmp(prop->name, name) == 0)
			return prop;
	return NULL;
}

// How a property is written in messages: "queues=N", "readonly".
static void add_choice(const struct vn_prop *prop, struct vn_text *text)
{
	vn_text_add(text, "%s%s%s", prop->name, prop->argument ? "=" : "",
		prop->argument ? prop->argument : "");
}

// Append the kind to the option's name: "net tap".
static void add_kind(const struct vn_prop *kind, struct vn_text *text)
{
	if (kind)
		vn_text_add(text, " %s", kind->name);
}

static bool applies(
	const struct vn_option *option, const struct vn_prop *prop, const struct vn_prop *kind)
{
	if (prop->flags & (VN_PROP_FIRST | VN_PROP_KIND))
		return false;
	if (prop->kinds == 0 || !kind)
		return true;
	unsigned number = 0;
	for (const struct vn_prop *other = option->props; other != kind; other++)
		number += (other->flags & VN_PROP_KIND) != 0;
	return prop->kinds >> number & 1;
}

static int unknown_word(const struct vn_option *option, const struct vn_prop *kind,
	const char *word, struct veneer_error *error)
{
	struct vn_nearest nearest = vn_nearest_to(word, strcspn(word, "="));
	const struct vn_prop *meant = NULL;
	const char *advice = option->advice ? option->advice : "";
	char called[64], choice[128];
	struct vn_text name = VN_TEXT(called), text = VN_TEXT(choice);
	vn_text_add(&name, "%s", option->name);
	add_kind(kind, &name);
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		if (applies(option, prop, kind) && !(prop->flags & VN_PROP_SIGNED) &&
			vn_nearest_try(&nearest, prop->name, strlen(prop->name)))
			meant = prop;
	if (!meant)
		return vn_fail(error, -EINVAL,
			"%s: unknown word '%s'; 'veneer help run' lists what it takes%s", called,
			word, advice);
	add_choice(meant, &text);
	return vn_fail(error, -EINVAL, "%s: unknown word '%s'; did you mean '%s'?%s", called, word,
		choice, advice);
}

static const struct vn_prop *find_signed(
	const struct vn_option *option, const char *word, const char **value)
{
	*value = word;
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		if (prop->flags & VN_PROP_SIGNED)
			return prop;
	return NULL;
}

// The property that a word sets, and the value in it.
static const struct vn_prop *find(
	const struct vn_option *option, const char *word, const char **value)
{
	size_t length = strcspn(word, "=");
	*value = word[length] ? word + length + 1 : NULL;
	if (*word == '+' || *word == '-')
		return find_signed(option, word, value);
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		if (!(prop->flags & VN_PROP_SIGNED) && strlen(prop->name) == length &&
			memcmp(prop->name, word, length) == 0)
			return !prop->argument == !*value ? prop : NULL;
	return NULL;
}

// "tap=NAME nor user"
static void add_kinds(const struct vn_option *option, const char *between, struct vn_text *text)
{
	const char *before = "";
	for (const struct vn_prop *prop = option->props; prop->name; prop++) {
		if (!(prop->flags & VN_PROP_KIND))
			continue;
		vn_text_add(text, "%s", before);
		add_choice(prop, text);
		before = between;
	}
}

// The first word is not one of the kinds.
static int no_kind(const struct vn_option *option, const char *word, struct veneer_error *error)
{
	char text[REASON_MAX];
	struct vn_text list = VN_TEXT(text);
	add_kinds(option, " nor ", &list);
	return vn_fail(error, -EINVAL, "%s: '%s' is neither %s, of which one comes first",
		option->name, word, text);
}

static bool is_default(
	const struct vn_option *option, const struct vn_prop *prop, const void *values)
{
	return memcmp((const char *)values + prop->offset,
		       (const char *)option->defaults + prop->offset, prop->width) == 0;
}

// A word's value into its field.
static int take(const struct vn_option *option, void *values, uint64_t *given,
	const struct vn_prop *prop, const char *value, struct veneer_error *error)
{
	int code = set_prop(option, values, prop, value, error);
	if (code == 0)
		vn_option_give(option, prop, values, given);
	return code;
}

static int set_first(const struct vn_option *option, void *values, uint64_t *given,
	const char *word, const struct vn_prop **kind, struct veneer_error *error)
{
	const struct vn_prop *prop = option->props;
	const char *value = word;
	*kind = NULL;
	if (prop->flags & VN_PROP_KIND) {
		prop = *kind = find(option, word, &value);
		if (!prop || !(prop->flags & VN_PROP_KIND))
			return no_kind(option, word, error);
	} else if (!(prop->flags & VN_PROP_FIRST)) {
		prop = find(option, word, &value);
		if (!prop)
			return unknown_word(option, NULL, word, error);
	}
	return take(option, values, given, prop, value, error);
}

static int set_words(const struct vn_option *option, void *values, uint64_t *given,
	const struct vn_words *words, struct veneer_error *error)
{
	const struct vn_prop *kind;
	int code = set_first(option, values, given, words->words[0], &kind, error);
	for (unsigned i = 1; code == 0 && i < words->count; i++) {
		const char *value;
		const struct vn_prop *prop = find(option, words->words[i], &value);
		code = prop && applies(option, prop, kind)
			       ? take(option, values, given, prop, value, error)
			       : unknown_word(option, kind, words->words[i], error);
	}
	return code;
}

static int set_text(const struct vn_option *option, void *values, uint64_t *given, const char *text,
	struct veneer_error *error)
{
	struct vn_words words;
	int code = vn_words_split(&words, option->name, text, error);
	if (code < 0)
		return code;
	if (option->lists)
		vn_words_join_lists(&words);
	code = set_words(option, values, given, &words, error);
	vn_words_free(&words);
	return code;
}

// Return `code`; on failure, set the error's key to the option.
static int keyed(const struct vn_option *option, int code, struct veneer_error *error)
{
	if (code < 0 && option->name)
		vn_error_set_key(error, "%s", option->name);
	return code;
}

// Exactly one kind is set, and no property of another kind.
static int check_kind(const struct vn_option *option, uint64_t set, struct veneer_error *error)
{
	const struct vn_prop *kind = NULL;
	char text[REASON_MAX];
	struct vn_text list = VN_TEXT(text);
	if (!(option->props->flags & VN_PROP_KIND))
		return 0;
	for (const struct vn_prop *prop = option->props; prop->name; prop++) {
		if (!(prop->flags & VN_PROP_KIND) || !vn_option_is_given(option, prop, set))
			continue;
		if (kind)
			return vn_fail(error, -EINVAL, "%s: has both %s and %s; give one of them",
				option->name, kind->name, prop->name);
		kind = prop;
	}
	if (!kind) {
		add_kinds(option, " or ", &list);
		return vn_fail(error, -EINVAL, "%s: needs %s", option->name, text);
	}
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		if (prop != kind && vn_option_is_given(option, prop, set) &&
			!applies(option, prop, kind))
			return unknown_word(option, kind, prop->name, error);
	return 0;
}

// The properties that are not as in the defaults.
static uint64_t changed(const struct vn_option *option, const void *values)
{
	uint64_t bits = 0;
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		if (!is_default(option, prop, values))
			bits |= bit_of(option, prop);
	return bits;
}

// All that is required is set. An option that is not repeatable may also be left out altogether.
static int check_required(const struct vn_option *option, uint64_t set, struct veneer_error *error)
{
	char missing[REASON_MAX];
	struct vn_text text = VN_TEXT(missing);
	if (!option->many && set == 0)
		return 0;
	for (const struct vn_prop *prop = option->props; prop->name; prop++) {
		if (!(prop->flags & VN_PROP_REQUIRED) || vn_option_is_given(option, prop, set))
			continue;
		vn_text_add(&text, "%s", *missing ? "," : "");
		if (prop->flags & VN_PROP_FIRST)
			vn_text_add(&text, "%s", prop->argument);
		else
			add_choice(prop, &text);
	}
	return *missing ? vn_fail(error, -EINVAL, "%s: needs %s", option->name, missing) : 0;
}

int vn_option_check(
	const struct vn_option *option, void *values, uint64_t given, struct veneer_error *error)
{
	uint64_t set = given | changed(option, values);
	int code = check_required(option, set, error);
	if (code == 0)
		code = check_kind(option, set, error);
	if (code == 0 && option->check)
		code = option->check(values, error);
	return keyed(option, code, error);
}

int vn_option_parse(const struct vn_option *option, void *values, uint64_t *given, const char *text,
	struct veneer_error *error)
{
	*given = 0;
	memcpy(values, option->defaults, option->size);
	int code = option->whole ? take(option, values, given, option->props, text, error)
				 : set_text(option, values, given, text, error);
	if (code == 0)
		code = vn_option_check(option, values, *given, error);
	if (code < 0)
		vn_option_release(option, values);
	return keyed(option, code, error);
}

static int unknown_property(
	const struct vn_option *option, const char *name, struct veneer_error *error)
{
	struct vn_nearest nearest = vn_nearest_to(name, strlen(name));
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		vn_nearest_try(&nearest, prop->name, strlen(prop->name));
	if (!option->name)
		return vn_fail(error, -EINVAL, "%s: there is no such option", name);
	if (nearest.name)
		return vn_fail(error, -EINVAL, "%s: unknown word '%s'; did you mean '%s'?",
			option->name, name, nearest.name);
	return vn_fail(error, -EINVAL,
		"%s: unknown word '%s'; 'veneer help run' lists what it takes", option->name, name);
}

// Add the values of `value`, which have commas between them, to a list: all of them or none.
static int add_to_list(const struct vn_option *option, void *values, const struct vn_prop *prop,
	const char *value, struct veneer_error *error)
{
	char *text = strdup(value), *rest = text;
	void *longer = malloc(option->size); // only the list's field is used
	int code = text && longer ? prop->type->copy(field_of(prop, longer), field_of(prop, values))
				  : -ENOMEM;
	if (code < 0) {
		refuse_value(option, prop, value, code, "", error);
	} else {
		for (const char *item; code == 0 && (item = strsep(&rest, ","));)
			code = set_prop(option, longer, prop, item, error);
		void *unwanted = field_of(prop, code == 0 ? values : longer);
		prop->type->release(unwanted);
		if (code == 0)
			memcpy(unwanted, field_of(prop, longer), prop->width);
	}
	free(longer);
	free(text);
	return code;
}

int vn_option_set(const struct vn_option *option, void *values, const char *name, const char *value,
	struct veneer_error *error)
{
	const struct vn_prop *prop = vn_option_prop(option, name);
	int code = 0;
	if (!prop)
		code = unknown_property(option, name, error);
	else if (prop->argument && !value && !(prop->flags & VN_PROP_OPTIONAL))
		code = option->name
			       ? vn_fail(error, -EINVAL, "%s: %s needs a value", option->name, name)
			       : vn_fail(error, -EINVAL, "%s: needs a value", name);
	else if (prop->type->count)
		code = add_to_list(option, values, prop, value, error);
	else
		code = set_prop(option, values, prop, value, error);
	return keyed(option, code, error);
}

int vn_option_set_fd(const struct vn_option *option, void *values, const char *name, int fd,
	struct veneer_error *error)
{
	const struct vn_prop *prop = vn_option_prop(option, name);
	if (!prop)
		return keyed(option, unknown_property(option, name, error), error);
	int code = prop->type->take_fd ? prop->type->take_fd(field_of(prop, values), fd) : -EINVAL;
	if (code == 0)
		return 0;
	if (!prop->type->take_fd)
		vn_fail(error, code, "%s: %s is no file", option->name, name);
	else
		vn_fail(error, code, "%s: %s is not descriptor %d: %s", option->name, name, fd,
			strerror(-code));
	vn_error_set_key(error, "%s.%s", option->name, name);
	return code;
}

// One word; commas in it are doubled, unless it is the only one.
static void add_word(
	FILE *stream, const struct vn_option *option, const struct vn_prop *prop, const char *value)
{
	if (!(prop->flags & (VN_PROP_FIRST | VN_PROP_SIGNED)))
		fprintf(stream, "%s%s", prop->name, prop->argument ? "=" : "");
	for (; *value; value++)
		fprintf(stream, *value == ',' && !option->whole ? ",," : "%c", *value);
}

static size_t count_values(const struct vn_prop *prop, const void *field)
{
	return prop->type->count ? prop->type->count(field) : 1;
}

// A field's value, or one of a list's: the caller's to free. -ENODATA: it cannot be written.
static int format_value(const struct vn_prop *prop, const void *field, size_t index, char **value)
{
	const struct vn_prop_type *type = prop->type;
	if (type->has_text && !type->has_text(field))
		return -ENODATA;
	*value = type->count ? type->format_item(field, index) : type->format(prop, field);
	return *value ? 0 : -ENOMEM;
}

static int add_values(
	FILE *stream, const struct vn_option *option, const struct vn_prop *prop, const void *field)
{
	size_t count = count_values(prop, field);
	int code = 0;
	for (size_t i = 0; code == 0 && i < count; i++) {
		char *value = NULL;
		code = format_value(prop, field, i, &value);
		if (code < 0)
			break;
		if (ftell(stream) > 0)
			fputc(',', stream);
		add_word(stream, option, prop, value);
		free(value);
	}
	return code;
}

// Close a stream of open_memstream(), and keep its text only if all of it is there.
static int close_text(FILE *stream, char **text, int code)
{
	bool whole = !ferror(stream);
	if (fclose(stream) != 0 || !whole)
		code = -ENOMEM;
	if (code < 0) {
		free(*text);
		*text = NULL;
	}
	return code;
}

static int format_words(
	const struct vn_option *option, const void *values, uint64_t bits, char **text)
{
	size_t size;
	int code = 0;
	*text = NULL;
	FILE *stream = open_memstream(text, &size);
	if (!stream)
		return -ENOMEM;
	for (const struct vn_prop *prop = option->props; code == 0 && prop->name; prop++)
		if (vn_option_is_given(option, prop, bits))
			code = add_values(
				stream, option, prop, (const char *)values + prop->offset);
	return close_text(stream, text, code);
}

// Is the first word among those given, where it has to be of a certain kind?
static bool has_first(const struct vn_option *option, uint64_t given)
{
	const struct vn_prop *prop = option->props;
	if (!(prop->flags & (VN_PROP_FIRST | VN_PROP_KIND)))
		return true;
	for (; prop->name; prop++)
		if ((prop->flags & (VN_PROP_FIRST | VN_PROP_KIND)) &&
			vn_option_is_given(option, prop, given))
			return true;
	return false;
}

int vn_option_format(
	const struct vn_option *option, const void *values, uint64_t given, char **text)
{
	*text = NULL;
	return has_first(option, given) ? format_words(option, values, given, text) : -ENODATA;
}

int vn_option_format_prop(const struct vn_prop *prop, const void *values, char **text)
{
	const void *field = (const char *)values + prop->offset;
	size_t size, count = count_values(prop, field);
	int code = 0;
	*text = NULL;
	if (!prop->argument) {
		*text = strdup("on");
		return *text ? 0 : -ENOMEM;
	}
	FILE *stream = open_memstream(text, &size);
	if (!stream)
		return -ENOMEM;
	for (size_t i = 0; code == 0 && i < count; i++) {
		char *value = NULL;
		code = format_value(prop, field, i, &value);
		if (code < 0)
			break;
		fprintf(stream, "%s%s", i > 0 ? "," : "", value);
		free(value);
	}
	return close_text(stream, text, code);
}

int vn_option_copy(const struct vn_option *option, void *to, const void *from)
{
	int code = 0;
	memcpy(to, from, option->size);
	for (const struct vn_prop *prop = option->props; prop->name; prop++) {
		if (!prop->type->copy)
			continue;
		if (code == 0)
			code = prop->type->copy(
				field_of(prop, to), (const char *)from + prop->offset);
		// After a failure, fields that still hold what is the original's get their
		// defaults, which own nothing, so that release does not free or close it. (Zero
		// would be a descriptor.)
		if (code < 0)
			memcpy(field_of(prop, to), (const char *)option->defaults + prop->offset,
				prop->width);
	}
	if (code < 0)
		vn_option_release(option, to);
	return code;
}

void vn_option_release(const struct vn_option *option, void *values)
{
	for (const struct vn_prop *prop = option->props; prop->name; prop++)
		if (prop->type->release)
			prop->type->release(field_of(prop, values));
}
