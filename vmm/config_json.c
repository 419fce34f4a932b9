// SPDX-License-Identifier: Apache-2.0
//
// Configuration from JSON: an object with a member for each option. A member is a string as on the
// command line or an object with a member for each property; a repeatable option takes an array of
// these.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_number.h"
#include "vmm/config.h"

// A JSON value as text for the property's parser. *result NULL: a word without a value; *given
// false: not set (false for such a word). `text` holds numbers. `name` is what a message begins
// with. A wrong type is -EINVAL.
static int value_text(const struct vn_prop *prop, const char *name, const json_t *value,
	char text[VN_JSON_NUMBER_BYTES], const char **result, bool *given,
	struct veneer_error *error)
{
	*given = true;
	*result = NULL;
	if (json_is_string(value)) {
		*result = json_string_value(value);
	} else if (json_is_number(value)) {
		vn_json_number(text, value);
		*result = text;
	} else if (json_is_boolean(value) && vn_prop_takes_boolean(prop)) {
		*given = prop->argument || json_is_true(value);
		if (prop->argument)
			*result = json_is_true(value) ? "on" : "off";
	} else if (json_is_boolean(value)) {
		return vn_fail(error, -EINVAL, "%s cannot be true or false", name);
	} else {
		return vn_fail(error, -EINVAL, "%s is not a string, a number, true or false", name);
	}
	return 0;
}

static int set_one(const struct vn_option *option, void *values, uint64_t *set,
	const struct vn_prop *prop, const json_t *value, struct veneer_error *error)
{
	char text[VN_JSON_NUMBER_BYTES], name[sizeof(error->key)];
	const char *word;
	bool given;
	snprintf(name, sizeof(name), "%s: %s", option->name, prop->name);
	int code = value_text(prop, name, value, text, &word, &given, error);
	if (code < 0)
		vn_error_set_key(error, "%s.%s", option->name, prop->name);
	if (code < 0 || !given)
		return code;
	code = vn_option_set(option, values, prop->name, word, error);
	if (code == 0)
		vn_option_give(option, prop, values, set);
	return code;
}

// A property's value, or an array of values for one that is a list.
static int set_member(const struct vn_option *option, void *values, uint64_t *set, const char *name,
	const json_t *value, struct veneer_error *error)
{
	const struct vn_prop *prop = vn_option_prop(option, name);
	if (!prop) // its error suggests a name
		return vn_option_set(option, values, name, "", error);
	if (!json_is_array(value) || !prop->type->count)
		return set_one(option, values, set, prop, value, error);
	size_t i;
	const json_t *item;
	int code = 0;
	json_array_foreach(value, i, item)
	{
		if (code == 0)
			code = set_one(option, values, set, prop, item, error);
	}
	return code;
}

static int parse_object(const struct vn_option *option, void *values, uint64_t *set,
	const json_t *object, struct veneer_error *error)
{
	const char *name;
	json_t *value;
	int code = 0;
	memcpy(values, option->defaults, option->size);
	*set = 0;
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		if (code == 0)
			code = set_member(option, values, set, name, value, error);
	}
	if (code == 0)
		code = vn_option_check(option, values, *set, error);
	if (code < 0)
		vn_option_release(option, values);
	return code;
}

static int read_object(struct veneer_config *config, const struct vn_option *option,
	const json_t *object, struct veneer_error *error)
{
	if (json_object_size(object) == 0)
		return vn_fail(error, -EINVAL, "%s: {} says nothing", option->name);
	void *values = malloc(option->size);
	if (!values)
		return vn_fail(error, -ENOMEM, "%s: out of memory", option->name);
	uint64_t set;
	int code = parse_object(option, values, &set, object, error);
	if (code == 0) {
		code = vn_config_put(config, option, values, set, error);
		if (code < 0)
			vn_option_release(option, values);
	}
	free(values);
	return code;
}

// A number, true or false stands for an option's first property.
static int read_value(struct veneer_config *config, const struct vn_option *option,
	const json_t *value, struct veneer_error *error)
{
	char number[VN_JSON_NUMBER_BYTES], name[sizeof(error->key)];
	const char *text;
	bool given;
	snprintf(name, sizeof(name), "%s:", option->name);
	if (json_is_array(value) || json_is_null(value))
		return vn_fail(error, -EINVAL,
			"%s: is not an object, a string, a number, true or false", option->name);
	int code = value_text(&option->props[0], name, value, number, &text, &given, error);
	return code == 0 && given ? veneer_config_set(config, option->name, text, error) : code;
}

static int read_item(struct veneer_config *config, const struct vn_option *option,
	const json_t *value, struct veneer_error *error)
{
	int code = json_is_object(value) ? read_object(config, option, value, error)
					 : read_value(config, option, value, error);
	if (code < 0) {
		vn_error_set_key(error, "%s", option->name);
		vn_config_number_key(option, vn_config_count(config, option), error);
	}
	return code;
}

// "disk: ..." becomes "disk1: ...": which one of an array.
static void number_message(
	const struct vn_option *option, unsigned number, struct veneer_error *error)
{
	size_t length = strlen(option->name);
	char digits[16];
	if (!error || strncmp(error->message, option->name, length) != 0)
		return;
	snprintf(digits, sizeof(digits), "%u", number);
	vn_error_insert(error, length, digits);
}

static int read_member(struct veneer_config *config, const char *name, const json_t *value,
	struct veneer_error *error)
{
	const struct vn_option *option = vn_config_option_named(name, strlen(name));
	if (!option)
		return vn_config_no_such_option(name, strlen(name), error);
	if (!option->many || !json_is_array(value))
		return read_item(config, option, value, error);
	size_t i;
	const json_t *item;
	int code = 0;
	json_array_foreach(value, i, item)
	{
		if (code < 0)
			break;
		code = read_item(config, option, item, error);
		if (code < 0)
			number_message(option, vn_config_count(config, option), error);
	}
	return code;
}

static int read_members(
	struct veneer_config *config, const json_t *root, struct veneer_error *error)
{
	const char *name;
	json_t *value;
	int code = 0;
	json_object_foreach((json_t *)(uintptr_t)root, name, value)
	{
		if (code == 0)
			code = read_member(config, name, value, error);
	}
	return code;
}

// Into a copy, which becomes the configuration if all of it is right.
static int read_root(struct veneer_config *config, const json_t *root, struct veneer_error *error)
{
	struct veneer_config *copy;
	int code = vn_config_copy(&copy, config, error);
	if (code < 0)
		return code;
	code = read_members(copy, root, error);
	if (code == 0) {
		const struct veneer_config before = *config;
		*config = *copy;
		*copy = before;
	}
	veneer_config_free(copy);
	return code;
}

// What is wrong with the text as a whole: no option's name goes with it.
static int not_json(struct veneer_error *error)
{
	vn_error_set_kind(error, VENEER_ERROR_CONFIG);
	return -EINVAL;
}

int veneer_config_read_json(
	struct veneer_config *config, const char *text, size_t size, struct veneer_error *error)
{
	json_error_t where;
	json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
	if (!root) {
		vn_fail(error, -EINVAL, "line %d, column %d: %s", where.line, where.column,
			where.text);
		return not_json(error);
	}
	int code;
	if (json_is_object(root)) {
		code = read_root(config, root, error);
	} else {
		vn_fail(error, -EINVAL, "is not a JSON object");
		code = not_json(error);
	}
	json_decref(root);
	return code;
}
