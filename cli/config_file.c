// SPDX-License-Identifier: Apache-2.0
#include "cli/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_number.h"
#include "base/macros.h"

#define FILE_MAX (16 * MIB) // bytes

static int with_path(struct veneer_error *error, const char *path, int ret)
{
	char message[sizeof(error->message)];

	if (ret < 0) {
		snprintf(message, sizeof(message), "%s: %.*s", path, (int)sizeof(message) - 64,
			error->message);
		memcpy(error->message, message, sizeof(message));
	}
	return ret;
}

static int cannot_read(struct veneer_error *error, int number, const char *path)
{
	return vn_fail(
		error, -number, "--config-file: cannot read '%s': %s", path, strerror(number));
}

// All of the file, with a 0 behind it: the caller's to free.
static int read_file(char **text, size_t *size, const char *path, struct veneer_error *error)
{
	bool standard = strcmp(path, "-") == 0;
	FILE *file = standard ? stdin : fopen(path, "re");
	int ret = 0;

	*text = NULL;
	*size = 0;
	if (!file)
		return cannot_read(error, errno, path);
	*text = malloc(FILE_MAX + 1);
	*size = *text ? fread(*text, 1, FILE_MAX + 1, file) : 0;
	if (!*text)
		ret = vn_fail(error, -ENOMEM, "out of memory");
	else if (ferror(file))
		ret = cannot_read(error, errno, path);
	else if (*size > FILE_MAX)
		ret = vn_fail(error, -EFBIG, "--config-file: '%s' has more than %u MiB", path,
			(unsigned)(FILE_MAX / MIB));
	else
		(*text)[*size] = '\0';
	if (!standard)
		fclose(file);
	return ret;
}

// Back to its default, whatever the command line said before.
static void reset_own(struct options *options, const struct vn_prop *prop)
{
	char *field = (char *)&options->run + prop->offset;

	if (prop->type->release)
		prop->type->release(field);
	memcpy(field, (const char *)run_option.defaults + prop->offset, prop->width);
}

// One of the program's own options.
static int set_own(struct options *options, const struct vn_prop *prop, const json_t *value,
	struct veneer_error *error)
{
	const char *text = json_string_value(value);
	bool bare = !prop->argument || (prop->flags & VN_PROP_OPTIONAL);
	char number[VN_JSON_NUMBER_BYTES];

	if (strcmp(prop->name, CONFIG_FILE) == 0)
		return vn_fail(error, -EINVAL, "%s: a file names no other", prop->name);
	if (json_is_false(value)) {
		reset_own(options, prop);
		return 0;
	}
	if (json_is_true(value) && !bare)
		return vn_fail(error, -EINVAL, "%s: needs a value", prop->name);
	if (json_is_number(value)) {
		vn_json_number(number, value);
		text = number;
	} else if (!text && !json_is_true(value)) {
		return vn_fail(
			error, -EINVAL, "%s: is not a string, a number, true or false", prop->name);
	}
	return vn_option_set(&run_option, &options->run, prop->name, text, error);
}

// The program's own options are set and taken out.
static int take_own(struct options *options, json_t *root, struct veneer_error *error)
{
	int ret = 0;

	for (const struct vn_prop *prop = run_option.props; ret == 0 && prop->name; prop++) {
		const json_t *value = json_object_get(root, prop->name);
		if (!value)
			continue;
		ret = set_own(options, prop, value, error);
		json_object_del(root, prop->name);
	}
	return ret;
}

static int read_object(struct options *options, json_t *root, struct veneer_error *error)
{
	int ret = take_own(options, root, error);
	char *rest = ret == 0 ? json_dumps(root, JSON_COMPACT) : NULL;

	if (rest)
		ret = veneer_config_read_json(options->config, rest, strlen(rest), error);
	else if (ret == 0)
		ret = vn_fail(error, -ENOMEM, "out of memory");
	free(rest);
	return ret;
}

static int parse(struct options *options, const char *text, size_t size, struct veneer_error *error)
{
	json_error_t where;
	json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);

	if (!root)
		return vn_fail(error, -EINVAL, "line %d, column %d: %s", where.line, where.column,
			where.text);
	int ret = json_is_object(root) ? read_object(options, root, error)
				       : vn_fail(error, -EINVAL, "is not a JSON object");
	json_decref(root);
	return ret;
}

int config_file_read(struct options *options, const char *path, struct veneer_error *error)
{
	bool standard = strcmp(path, "-") == 0;
	char *text;
	size_t size;

	if (standard && options->took_stdin)
		return vn_fail(error, -EINVAL, "--config-file -: standard input was read already");
	options->took_stdin |= standard;
	int ret = read_file(&text, &size, path, error);
	if (ret == 0)
		ret = with_path(error, standard ? "standard input" : path,
			parse(options, text, size, error));
	free(text);
	return ret;
}
