// SPDX-License-Identifier: Apache-2.0
//
// Options as tables: values of each type, words that are none, and values written out again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file_prop.h"
#include "base/macros.h"
#include "base/prop.h"
#include "base/rate_prop.h"

struct thing {
	char *path, *label, *tag;
	uint8_t small;
	uint64_t large, size, little, page;
	bool readonly, fast;
	unsigned mode;
	struct vn_rate_options rate, bytes;
};

#define FIELD(field) VN_PROP_FIELD(struct thing, field)

static const char *const MODES[] = {"slow", "fast", "wild", NULL};
static const char *const PAGES[] = {"2M", "1G", NULL};

static const struct vn_prop thing_props[] = {
	{"path", "PATH", "Where.", NULL, &vn_prop_string, FIELD(path), .min = 1,
		.flags = VN_PROP_FIRST},
	{"label", "S", "Its name.", NULL, &vn_prop_string, FIELD(label), .min = 1, .max = 4},
	{"small", "N", "A byte.", "7", &vn_prop_number, FIELD(small), .min = 3, .max = 200},
	{"large", "N", "Many.", NULL, &vn_prop_number, FIELD(large), .max = UINT64_MAX},
	{"size", "SIZE", "How large.", "8M", &vn_prop_size, FIELD(size), .min = MIB},
	{"little", "SIZE", "At most.", NULL, &vn_prop_size, FIELD(little), .min = 2 * KIB,
		.max = 64 * MIB},
	{"page", "2M|1G", "Of pages.", NULL, &vn_prop_size, FIELD(page), .words = PAGES},
	{"readonly", NULL, "Not to be written.", NULL, &vn_prop_flag, FIELD(readonly)},
	{"fast", "on|off", "Or not.", NULL, &vn_prop_switch, FIELD(fast)},
	{"mode", "MODE", "How.", NULL, &vn_prop_word, FIELD(mode), .words = MODES},
	{"rate", "N[:BURST]", "How often.", NULL, &vn_prop_rate, FIELD(rate), .min = 1},
	{"bytes", "SIZE[:BURST]", "How much.", NULL, &vn_prop_byte_rate, FIELD(bytes), .min = 512},
	{.name = NULL},
};

static int check_thing(void *values, struct veneer_error *error)
{
	const struct thing *thing = values;
	return thing->readonly && thing->fast ? vn_fail(error, -EINVAL, "thing: both") : 0;
}

static const struct thing thing_defaults = {.size = 8 * MIB, .small = 7};

static const struct vn_option thing_option = {.name = "thing",
	.advice = "; a comma is ,,",
	.props = thing_props,
	.size = sizeof(struct thing),
	.defaults = &thing_defaults,
	.check = check_thing};

static struct thing good(const char *text, uint64_t *given)
{
	struct thing thing;
	struct veneer_error error = {.code = 0};
	if (vn_option_parse(&thing_option, &thing, given, text, &error) < 0)
		fail_msg("%s: %s", text, error.message);
	return thing;
}

static void words_become_fields(void **state)
{
	(void)state;
	uint64_t given;
	struct thing thing = good("a,,b,label=x=y,small=200,large=18446744073709551615,size=3G,"
				  "page=1GiB,readonly,mode=wild,rate=5:9",
		&given);
	assert_string_equal(thing.path, "a,b");
	assert_string_equal(thing.label, "x=y");
	assert_int_equal(thing.small, 200);
	assert_true(thing.large == UINT64_MAX);
	assert_true(thing.size == 3 * GIB);
	assert_true(thing.page == GIB);
	assert_true(thing.readonly);
	assert_false(thing.fast);
	assert_int_equal(thing.mode, 2);
	assert_int_equal(thing.rate.per_second, 5);
	assert_int_equal(thing.rate.burst, 9);
	vn_option_release(&thing_option, &thing);
}

static void what_is_not_named_is_as_by_default_and_the_last_word_counts(void **state)
{
	(void)state;
	uint64_t given;
	struct thing thing = good("p,label=a,label=bc,small=9,small=8", &given);
	assert_null(thing.tag);
	assert_string_equal(thing.label, "bc");
	assert_int_equal(thing.small, 8);
	assert_true(thing.size == 8 * MIB);
	vn_option_release(&thing_option, &thing);
}

static void a_wrong_word_is_named_with_what_would_be_right(void **state)
{
	static const struct {
		const char *text, *line;
	} cases[] = {
		{"", "thing: '' is not a path"},
		{"p,", "thing: unknown word ''; 'veneer help run' lists what it takes; a comma is ,,"},
		{"p,redonly",
			"thing: unknown word 'redonly'; did you mean 'readonly'?; a comma is ,,"},
		{"p,readonly=on",
			"thing: unknown word 'readonly=on'; did you mean 'readonly'?; a comma is ,,"},
		{"p,mode", "thing: unknown word 'mode'; did you mean 'mode=MODE'?; a comma is ,,"},
		{"p,mode=", "thing: mode='' is not slow, fast or wild"},
		{"p,fast=1", "thing: fast='1' is neither on nor off"},
		{"p,page=4K", "thing: page='4K' is neither 2M nor 1G"},
		{"p,label=12345", "thing: label='12345' is not 1 to 4 bytes long"},
		{"p,small=2", "thing: small='2' is not a number from 3 to 200"},
		{"p,small=0x9", "thing: small='0x9' is not a number from 3 to 200"},
		{"p,size=1.5G", "thing: size='1.5G' is not a size: a number, then K, M, G or T"},
		{"p,size=12", "thing: size='12' is less than 1M; "
			      "sizes are in bytes unless K, M, G or T follows"},
		{"p,size=99999999999T", "thing: size='99999999999T' is more than 64 bits hold"},
		{"p,little=2047", "thing: little='2047' is less than 2K; "
				  "sizes are in bytes unless K, M, G or T follows"},
		{"p,little=65M", "thing: little='65M' is more than 64M; "
				 "sizes are in bytes unless K, M, G or T follows"},
		{"p,bytes=1",
			"thing: bytes='1' is not SIZE or SIZE:BURST, of 512 a second or more, "
			"such as 100M"},
		{"p,rate=0", "thing: rate='0' is not N or N:BURST, of 1 a second or more"},
		{"p,readonly,fast=on", "thing: both"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct thing thing;
		struct veneer_error error = {.code = 0};
		uint64_t given;
		assert_int_equal(
			vn_option_parse(&thing_option, &thing, &given, cases[i].text, &error),
			-EINVAL);
		assert_string_equal(error.message, cases[i].line);
		assert_null(thing.path);
	}
}

static void a_property_is_set_by_itself(void **state)
{
	(void)state;
	uint64_t given;
	struct thing thing = good("p", &given);
	struct veneer_error error = {.code = 0};
	assert_int_equal(vn_option_set(&thing_option, &thing, "small", "5", &error), 0);
	assert_int_equal(thing.small, 5);
	assert_int_equal(vn_option_set(&thing_option, &thing, "path", "q", &error), 0);
	assert_string_equal(thing.path, "q");
	assert_int_equal(vn_option_set(&thing_option, &thing, "readonly", NULL, &error), 0);
	assert_true(thing.readonly);
	assert_int_equal(vn_option_set(&thing_option, &thing, "readonly", "off", &error), 0);
	assert_false(thing.readonly);
	assert_int_equal(vn_option_set(&thing_option, &thing, "readonly", "x", &error), -EINVAL);
	assert_string_equal(error.message, "thing: readonly='x' is neither on nor off");
	assert_string_equal(error.key, "thing.readonly");
	assert_int_equal(vn_option_set(&thing_option, &thing, "small", NULL, &error), -EINVAL);
	assert_string_equal(error.message, "thing: small needs a value");
	assert_int_equal(vn_option_set(&thing_option, &thing, "smal", "1", &error), -EINVAL);
	assert_non_null(strstr(error.message, "did you mean 'small'?"));
	vn_option_release(&thing_option, &thing);
}

static void values_are_written_as_they_are_read(void **state)
{
	static const char *const texts[] = {"p", "a,,b,label=x,,y,small=3,large=4096,size=1536K",
		"p,size=2M,page=1G,readonly,mode=fast,rate=5:9", "p,fast=on,rate=7"};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		uint64_t given;
		struct thing thing = good(texts[i], &given), copy;
		char *text;
		assert_int_equal(vn_option_format(&thing_option, &thing, given, &text), 0);
		assert_string_equal(text, texts[i]);
		free(text);
		assert_int_equal(vn_option_copy(&thing_option, &copy, &thing), 0);
		vn_option_release(&thing_option, &thing);
		assert_int_equal(vn_option_format(&thing_option, &copy, given, &text), 0);
		assert_string_equal(text, texts[i]);
		free(text);
		vn_option_release(&thing_option, &copy);
	}
}

// Not what differs from the defaults: what was said.
static void what_was_given_is_written(void **state)
{
	static const char *const texts[] = {"p", "p,small=7,size=8M", "p,fast=off,mode=slow"};
	struct thing thing;
	uint64_t given;
	char *text;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(vn_option_parse(&thing_option, &thing, &given, texts[i], NULL), 0);
		assert_int_equal(vn_option_format(&thing_option, &thing, given, &text), 0);
		assert_string_equal(text, texts[i]);
		free(text);
		vn_option_release(&thing_option, &thing);
	}
	// A flag that is off is a word that is not there.
	assert_int_equal(
		vn_option_parse(&thing_option, &thing, &given, "p,small=7,readonly", NULL), 0);
	assert_int_equal(vn_option_set(&thing_option, &thing, "readonly", "off", NULL), 0);
	vn_option_give(&thing_option, vn_option_prop(&thing_option, "readonly"), &thing, &given);
	assert_int_equal(vn_option_format(&thing_option, &thing, given, &text), 0);
	assert_string_equal(text, "p,small=7");
	free(text);
	// Without its first word, no text says it.
	vn_option_unset(&thing_option, vn_option_prop(&thing_option, "path"), &thing, &given);
	assert_null(thing.path);
	assert_int_equal(vn_option_format(&thing_option, &thing, given, &text), -ENODATA);
	assert_null(text);
	vn_option_release(&thing_option, &thing);
}

struct processor {
	char *model, *features;
};

#define PROCESSOR(field) VN_PROP_FIELD(struct processor, field)

static const struct vn_prop processor_props[] = {
	{"model", "MODEL", "Which.", NULL, &vn_prop_string, PROCESSOR(model), .min = 1,
		.flags = VN_PROP_FIRST},
	{"features", "+F|-F", "What else.", NULL, &vn_prop_string, PROCESSOR(features),
		.flags = VN_PROP_SIGNED},
	{.name = NULL},
};

static const struct processor no_processor;

static const struct vn_option processor_option = {.name = "processor",
	.props = processor_props,
	.size = sizeof(struct processor),
	.defaults = &no_processor};

static void signed_words_have_no_name(void **state)
{
	struct processor processor;
	struct veneer_error error;
	uint64_t given;
	(void)state;
	assert_int_equal(vn_option_parse(&processor_option, &processor, &given, "m,-x", &error), 0);
	assert_string_equal(processor.features, "-x");
	vn_option_release(&processor_option, &processor);
	assert_int_equal(
		vn_option_parse(&processor_option, &processor, &given, "m,features=+x", &error),
		-EINVAL);
	assert_non_null(strstr(error.message, "unknown word 'features=+x'"));
	assert_int_equal(
		vn_option_parse(&processor_option, &processor, &given, "m,features=", &error),
		-EINVAL);
	memset(&processor, 0, sizeof(processor));
	assert_int_equal(vn_option_set(&processor_option, &processor, "features", "+y", &error), 0);
	assert_string_equal(processor.features, "+y");
	vn_option_release(&processor_option, &processor);
}

static int fail_to_copy(void *to, const void *from)
{
	(void)from;
	*(char **)to = NULL;
	return -ENOMEM;
}

static void release_nothing(void *field)
{
	(void)field;
}

static size_t count_two(const void *field)
{
	(void)field;
	return 2;
}

static char *fail_to_format(const void *field, size_t index)
{
	(void)field;
	return index == 0 ? strdup("first") : NULL;
}

static const struct vn_prop_type failing = {.count = count_two,
	.format_item = fail_to_format,
	.copy = fail_to_copy,
	.release = release_nothing};

struct pair {
	char *list;
	struct vn_file file;
};

static const struct vn_prop pair_props[] = {
	{"list", "L", "A list.", NULL, &failing, VN_PROP_FIELD(struct pair, list)},
	{"file", "F", "A file.", NULL, &vn_prop_file, VN_PROP_FIELD(struct pair, file),
		.flags = VN_PROP_REQUIRED},
	{.name = NULL},
};

static const struct pair pair_defaults = {.file = VN_NO_FILE};

static const struct vn_option pair_option = {.name = "pair",
	.many = true,
	.props = pair_props,
	.size = sizeof(struct pair),
	.defaults = &pair_defaults};

// Its descriptors neither: 0 is one.
static void a_copy_that_fails_owns_nothing(void **state)
{
	struct pair pair = pair_defaults, copy;
	struct veneer_error error;
	(void)state;
	int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(input >= 0);
	if (input > 0 && fcntl(0, F_GETFD) < 0)
		assert_int_equal(dup2(input, 0), 0);
	assert_int_equal(vn_option_set_fd(&pair_option, &pair, "file", input, &error), 0);
	assert_int_equal(vn_option_copy(&pair_option, &copy, &pair), -ENOMEM);
	assert_true(fcntl(0, F_GETFD) >= 0);
	assert_true(fcntl(pair.file.fd, F_GETFD) >= 0);
	assert_int_equal(copy.file.fd, -1);
	assert_null(copy.file.name);
	vn_option_release(&pair_option, &pair);
	assert_int_equal(pair.file.fd, -1);
	if (input > 0)
		close(input);
}

static void an_item_that_cannot_be_written_fails_all(void **state)
{
	struct pair pair = pair_defaults;
	char *text = (char *)"x";
	(void)state;
	assert_int_equal(vn_option_format(&pair_option, &pair, 1, &text), -ENOMEM);
	assert_null(text);
	text = (char *)"x";
	assert_int_equal(vn_option_format_prop(&pair_props[0], &pair, &text), -ENOMEM);
	assert_null(text);
}

static void descriptors_have_no_text(void **state)
{
	struct pair pair = pair_defaults, copy = pair_defaults;
	struct veneer_error error;
	char *text, called[32];
	(void)state;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(vn_option_set_fd(&pair_option, &pair, "file", fd, &error), 0);
	assert_int_equal(vn_option_format_prop(&pair_props[1], &pair, &text), -ENODATA);
	assert_int_equal(vn_option_format(&pair_option, &pair, 2, &text), -ENODATA);
	// Messages have the number that the caller knows, also those about a copy.
	assert_int_not_equal(pair.file.fd, fd);
	assert_int_equal(vn_prop_file.copy(&copy.file, &pair.file), 0);
	assert_ptr_equal(vn_file_called(&copy.file, called), called);
	assert_int_not_equal(copy.file.fd, fd);
	assert_int_equal(strtol(strrchr(called, ' '), NULL, 10), fd);
	vn_prop_file.release(&copy.file);
	assert_int_equal(vn_option_set(&pair_option, &pair, "file", "name", &error), 0);
	assert_int_equal(vn_option_format_prop(&pair_props[1], &pair, &text), 0);
	assert_string_equal(text, "name");
	free(text);
	vn_option_release(&pair_option, &pair);
	close(fd);
}

struct order {
	char *path, *owner;
	uint64_t count;
	bool urgent;
};

static const struct vn_prop order_props[] = {
	{"path", "PATH", "Where.", NULL, &vn_prop_string, VN_PROP_FIELD(struct order, path),
		.flags = VN_PROP_FIRST | VN_PROP_REQUIRED},
	{"count", "N", "How many.", NULL, &vn_prop_number, VN_PROP_FIELD(struct order, count),
		.max = 9, .flags = VN_PROP_REQUIRED},
	{"owner", "S", "Whose.", NULL, &vn_prop_string, VN_PROP_FIELD(struct order, owner),
		.flags = VN_PROP_REQUIRED},
	{"urgent", NULL, "Now.", NULL, &vn_prop_flag, VN_PROP_FIELD(struct order, urgent)},
	{.name = NULL},
};

// Sees complete orders only.
static int check_order(void *values, struct veneer_error *error)
{
	const struct order *order = values;
	return strcmp(order->path, order->owner) == 0 ? vn_fail(error, -EINVAL, "order: its own")
						      : 0;
}

static const struct order order_defaults = {.count = 0};

static const struct vn_option order_option = {.name = "order",
	.many = true,
	.props = order_props,
	.size = sizeof(struct order),
	.defaults = &order_defaults,
	.check = check_order};

static void what_is_required_is_named(void **state)
{
	static const struct {
		const char *name, *value, *line;
	} steps[] = {
		{"urgent", NULL, "order: needs PATH,count=N,owner=S"},
		{"count", "0", "order: needs PATH,owner=S"},
		{"path", "a", "order: needs owner=S"},
		{"owner", "a", "order: its own"},
	};
	struct pair pair = pair_defaults;
	struct order order = order_defaults;
	struct veneer_error error;
	uint64_t given = 0;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		const char *name = steps[i].name;
		assert_int_equal(
			vn_option_set(&order_option, &order, name, steps[i].value, &error), 0);
		vn_option_give(&order_option, vn_option_prop(&order_option, name), &order, &given);
		assert_int_equal(vn_option_check(&order_option, &order, given, &error), -EINVAL);
		assert_string_equal(error.message, steps[i].line);
		assert_string_equal(error.key, "order");
	}
	vn_option_release(&order_option, &order);
	assert_int_equal(vn_option_check(&pair_option, &pair, 0, &error), -EINVAL);
	assert_string_equal(error.message, "pair: needs file=F");
	assert_string_equal(error.key, "pair");
	assert_int_equal(vn_option_set(&pair_option, &pair, "file", "name", &error), 0);
	assert_int_equal(vn_option_check(&pair_option, &pair, 0, &error), 0);
	vn_option_release(&pair_option, &pair);
}

// Where each row is an option, that is what a message begins with.
static void a_table_of_options_has_no_name(void **state)
{
	struct vn_option table = thing_option;
	struct thing thing = thing_defaults;
	struct veneer_error error;
	(void)state;
	table.name = NULL;
	assert_int_equal(vn_option_set(&table, &thing, "small", NULL, &error), -EINVAL);
	assert_string_equal(error.message, "small: needs a value");
	assert_int_equal(vn_option_set(&table, &thing, "smal", "4", &error), -EINVAL);
	assert_string_equal(error.message, "smal: there is no such option");
	assert_int_equal(vn_option_set(&table, &thing, "small", "x", &error), -EINVAL);
	assert_string_equal(error.message, "small: 'x' is not a number from 3 to 200");
}

static void on_and_off_are_true_and_false(void **state)
{
	static const char *const three[] = {"auto", "on", "off", NULL};
	const struct vn_prop word = {.name = "w", .type = &vn_prop_word, .words = three};
	(void)state;
	assert_true(vn_prop_takes_boolean(vn_option_prop(&thing_option, "readonly")));
	assert_true(vn_prop_takes_boolean(vn_option_prop(&thing_option, "fast")));
	assert_true(vn_prop_takes_boolean(&word));
	assert_false(vn_prop_takes_boolean(vn_option_prop(&thing_option, "mode")));
	assert_false(vn_prop_takes_boolean(vn_option_prop(&thing_option, "path")));
	assert_false(vn_prop_takes_boolean(vn_option_prop(&thing_option, "small")));
}

// Who can mend it, by the errno, unless someone has said so.
static void a_failure_is_of_a_kind(void **state)
{
	static const struct {
		int code;
		enum veneer_error_kind kind, keyed;
	} cases[] = {
		{-EINVAL, VENEER_ERROR_HOST, VENEER_ERROR_CONFIG},
		{-ENOENT, VENEER_ERROR_HOST, VENEER_ERROR_CONFIG},
		{-ENOMEM, VENEER_ERROR_HOST, VENEER_ERROR_HOST},
		{-EMFILE, VENEER_ERROR_HOST, VENEER_ERROR_HOST},
		{-EBUSY, VENEER_ERROR_HOST, VENEER_ERROR_HOST},
		{-EPERM, VENEER_ERROR_HOST, VENEER_ERROR_HOST},
		{-EADDRINUSE, VENEER_ERROR_HOST, VENEER_ERROR_HOST},
		{-ENODEV, VENEER_ERROR_HOST, VENEER_ERROR_HOST},
		{-ECANCELED, VENEER_ERROR_CANCELED, VENEER_ERROR_CANCELED},
		{-ENOEXEC, VENEER_ERROR_GUEST, VENEER_ERROR_GUEST},
	};
	struct veneer_error error;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(vn_fail(&error, cases[i].code, "x"), cases[i].code);
		assert_int_equal(error.kind, cases[i].kind);
		vn_error_set_key(&error, "disk%u", 1);
		assert_int_equal(error.kind, cases[i].keyed);
		vn_error_set_key(&error, "later");
		assert_string_equal(error.key, "disk1");
	}
	vn_fail(&error, -EINVAL, "x");
	vn_error_set_kind(&error, VENEER_ERROR_STATE);
	vn_error_set_key(&error, "disk0");
	assert_int_equal(error.kind, VENEER_ERROR_STATE);
}

static void keep(void *opaque, enum veneer_severity severity, const char *text)
{
	(void)severity;
	snprintf(opaque, 64, "%s", text);
}

static void a_line_is_one_line(void **state)
{
	char text[64];
	const struct vn_log log = {keep, text};
	struct veneer_error error;
	char longest[sizeof(error.message)];
	(void)state;
	vn_warn(&log, "disk %s: full", "a\nb\033[0m");
	assert_string_equal(text, "disk a?b?[0m: full");
	vn_fail(&error, -EINVAL, "disk %s", "a\nb\x7f");
	assert_string_equal(error.message, "disk a?b?");
	vn_error_insert(&error, 4, "1:");
	vn_error_insert(&error, 0, "--");
	assert_string_equal(error.message, "--disk1: a?b?");
	memset(longest, 'x', sizeof(longest));
	vn_fail(&error, -EINVAL, "%.*s", (int)sizeof(longest), longest);
	vn_error_insert(&error, 0, "--");
	assert_int_equal(strlen(error.message), sizeof(error.message) - 1);
	assert_memory_equal(error.message, "--x", 3);
	vn_error_insert(NULL, 0, "--");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_become_fields),
		cmocka_unit_test(what_is_not_named_is_as_by_default_and_the_last_word_counts),
		cmocka_unit_test(a_wrong_word_is_named_with_what_would_be_right),
		cmocka_unit_test(a_property_is_set_by_itself),
		cmocka_unit_test(values_are_written_as_they_are_read),
		cmocka_unit_test(what_was_given_is_written),
		cmocka_unit_test(signed_words_have_no_name),
		cmocka_unit_test(a_copy_that_fails_owns_nothing),
		cmocka_unit_test(an_item_that_cannot_be_written_fails_all),
		cmocka_unit_test(descriptors_have_no_text),
		cmocka_unit_test(what_is_required_is_named),
		cmocka_unit_test(a_table_of_options_has_no_name),
		cmocka_unit_test(on_and_off_are_true_and_false),
		cmocka_unit_test(a_failure_is_of_a_kind),
		cmocka_unit_test(a_line_is_one_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
