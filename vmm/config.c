// SPDX-License-Identifier: Apache-2.0
//
// The configuration: values of options, by name. Options are known only through their tables.
#include "vmm/config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/sized.h"
#include "base/words.h"
#include "vmm/device_table.h"

static const struct vn_option *const machine_options[] = {&vn_kernel_option, &vn_initrd_option,
	&vn_cmdline_option, &vn_cpus_option, &vn_cpu_option, &vn_memory_option, &vn_cell_option,
	&vn_transport_option, &vn_name_option};

const struct vn_option *vn_config_option(unsigned index)
{
	if (index < ARRAY_SIZE(machine_options))
		return machine_options[index];
	const struct vn_device_type *const *type = vn_device_types;
	for (index -= (unsigned)ARRAY_SIZE(machine_options); *type && index > 0; index--)
		type++;
	return *type ? (*type)->option : NULL;
}

static struct vn_config_item *find_item(
	const struct veneer_config *config, const struct vn_option *option, unsigned number)
{
	for (size_t i = 0; i < config->count; i++)
		if (config->items[i].option == option && config->items[i].number == number)
			return &config->items[i];
	return NULL;
}

void *vn_config_values(
	const struct veneer_config *config, const struct vn_option *option, unsigned number)
{
	const struct vn_config_item *item = find_item(config, option, number);
	return item ? item->values : NULL;
}

unsigned vn_config_count(const struct veneer_config *config, const struct vn_option *option)
{
	unsigned count = 0;
	for (size_t i = 0; i < config->count; i++)
		count += config->items[i].option == option;
	return count;
}

static int no_memory(struct veneer_error *error)
{
	return vn_fail(error, -ENOMEM, "no memory for a guest's configuration");
}

// Append an item with the option's defaults.
static struct vn_config_item *add_item(
	struct veneer_config *config, const struct vn_option *option, unsigned number)
{
	struct vn_config_item *items =
		reallocarray(config->items, config->count + 1, sizeof(*items));
	if (!items)
		return NULL;
	config->items = items;
	struct vn_config_item *item = &items[config->count];
	*item = (struct vn_config_item){.option = option, .number = number};
	item->values = malloc(option->size);
	if (!item->values)
		return NULL;
	memcpy(item->values, option->defaults, option->size);
	config->count++;
	return item;
}

// Find the item of this number, or append it. *added says which.
static int need_item(struct vn_config_item **item, bool *added, struct veneer_config *config,
	const struct vn_option *option, unsigned number, struct veneer_error *error)
{
	*item = find_item(config, option, number);
	*added = !*item;
	if (*item)
		return 0;
	if (number >= VN_CONFIG_ITEMS_MAX)
		return vn_fail(error, -EINVAL, "%s: there are %u already, and no more can be",
			option->name, VN_CONFIG_ITEMS_MAX);
	*item = add_item(config, option, number);
	return *item ? 0 : no_memory(error);
}

// Replace an item's values, which are the item's from now on.
static void fill_item(struct vn_config_item *item, const void *values, uint64_t given)
{
	vn_option_release(item->option, item->values);
	memcpy(item->values, values, item->option->size);
	item->given = given;
}

int vn_config_put(struct veneer_config *config, const struct vn_option *option, const void *values,
	uint64_t given, struct veneer_error *error)
{
	unsigned number = option->many ? vn_config_count(config, option) : 0;
	struct vn_config_item *item;
	bool added;
	int code = need_item(&item, &added, config, option, number, error);
	if (code == 0)
		fill_item(item, values, given);
	else
		vn_error_set_key(error, "%s%u", option->name, number);
	return code;
}

static int choose_identity(struct veneer_config *config, struct veneer_error *error)
{
	uint64_t random[2];
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return vn_fail(error, -errno, "no random numbers: %s", strerror(errno));
	snprintf(config->identity, sizeof(config->identity), "%016" PRIx64 "%016" PRIx64, random[0],
		random[1]);
	return 0;
}

int veneer_config_new(struct veneer_config **result, struct veneer_error *error)
{
	struct veneer_config *config = calloc(1, sizeof(*config));
	const struct vn_option *option;
	if (!config)
		return no_memory(error);
	config->serial_in = config->serial_out = -1;
	int code = choose_identity(config, error);
	if (code < 0) {
		free(config);
		return code;
	}
	for (unsigned i = 0; (option = vn_config_option(i)); i++) {
		if (!option->many && !add_item(config, option, 0)) {
			veneer_config_free(config);
			return no_memory(error);
		}
	}
	*result = config;
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void veneer_config_free(struct veneer_config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->count; i++) {
		vn_option_release(config->items[i].option, config->items[i].values);
		free(config->items[i].values);
	}
	free(config->items);
	close_fd(&config->serial_in);
	close_fd(&config->serial_out);
	free(config);
}

static int copy_fd(int *copy, int fd)
{
	*copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && *copy < 0 ? -errno : 0;
}

static int copy_item(struct veneer_config *copy, const struct vn_config_item *item)
{
	struct vn_config_item *to = find_item(copy, item->option, item->number);
	if (!to)
		to = add_item(copy, item->option, item->number);
	if (!to)
		return -ENOMEM;
	to->given = item->given;
	int code = vn_option_copy(item->option, to->values, item->values);
	if (code < 0) // the copy owns nothing
		memcpy(to->values, item->option->defaults, item->option->size);
	return code;
}

int vn_config_copy(struct veneer_config **result, const struct veneer_config *config,
	struct veneer_error *error)
{
	struct veneer_config *copy;
	int code = veneer_config_new(&copy, error);
	if (code < 0)
		return code;
	memcpy(copy->identity, config->identity, sizeof(copy->identity));
	for (size_t i = 0; code == 0 && i < config->count; i++)
		code = copy_item(copy, &config->items[i]);
	if (code == 0)
		code = copy_fd(&copy->serial_in, config->serial_in);
	if (code == 0)
		code = copy_fd(&copy->serial_out, config->serial_out);
	if (code < 0) {
		veneer_config_free(copy);
		return vn_fail(
			error, code, "cannot copy a guest's configuration: %s", strerror(-code));
	}
	*result = copy;
	return 0;
}

// ---- Names: "memory", "memory.node", "disk" (one more), "disk0", "disk0.queues"

struct target {
	const struct vn_option *option;
	unsigned number;
	bool numbered;
	const char *property; // into the name; or NULL
};

const struct vn_option *vn_config_option_named(const char *name, size_t length)
{
	const struct vn_option *option;
	for (unsigned i = 0; (option = vn_config_option(i)); i++)
		if (strlen(option->name) == length && memcmp(option->name, name, length) == 0)
			return option;
	return NULL;
}

int vn_config_no_such_option(const char *name, size_t length, struct veneer_error *error)
{
	struct vn_nearest nearest = vn_nearest_to(name, length);
	const struct vn_option *option;
	for (unsigned i = 0; (option = vn_config_option(i)); i++)
		vn_nearest_try(&nearest, option->name, strlen(option->name));
	if (nearest.name)
		vn_fail(error, -EINVAL, "%.*s: there is no such option; did you mean '%s'?",
			(int)length, name, nearest.name);
	else
		vn_fail(error, -EINVAL, "%.*s: there is no such option", (int)length, name);
	vn_error_set_key(error, "%.*s", (int)length, name);
	return -EINVAL;
}

static int find_target(struct target *target, const char *name, struct veneer_error *error)
{
	static const char digits[] = "0123456789";
	size_t length = strcspn(name, "."), letters = strcspn(name, "0123456789.");
	uint64_t number = 0;
	const char *end;
	*target = (struct target){.property = name[length] ? name + length + 1 : NULL};
	target->option = vn_config_option_named(name, length);
	if (target->option)
		return 0;
	target->option = vn_config_option_named(name, letters);
	target->numbered = true;
	if (!target->option || !target->option->many ||
		letters + strspn(name + letters, digits) != length ||
		(name[letters] == '0' && length > letters + 1) || // one name for each
		vn_parse_digits(name + letters, UINT_MAX, &end, &number) < 0)
		return vn_config_no_such_option(name, length, error);
	target->number = (unsigned)number;
	return 0;
}

static int no_such_item(const struct veneer_config *config, const struct target *target,
	const char *name, struct veneer_error *error)
{
	const char *option = target->option->name;
	if (!target->numbered)
		vn_fail(error, -EINVAL, "%s: of which %s? The first one is %s0", name, option,
			option);
	else
		vn_fail(error, -EINVAL, "%s: the next one is %s%u", name, option,
			vn_config_count(config, target->option));
	vn_error_set_key(error, "%s", name);
	return -EINVAL;
}

// Find the item, or append it if its number is the next one; *added says which.
static int reach_item(struct vn_config_item **item, bool *added, const struct target *target,
	struct veneer_config *config, const char *name, struct veneer_error *error)
{
	bool numbered = target->numbered || !target->option->many;
	if (!numbered || target->number > vn_config_count(config, target->option))
		return no_such_item(config, target, name, error);
	int code = need_item(item, added, config, target->option, target->number, error);
	if (code < 0)
		vn_error_set_key(error, "%s", name);
	return code;
}

// Remove an item; those of its option behind it move up by one.
static void drop_item(struct veneer_config *config, struct vn_config_item *item)
{
	const struct vn_option *option = item->option;
	unsigned number = item->number;
	size_t index = (size_t)(item - config->items);
	vn_option_release(option, item->values);
	free(item->values);
	config->count--;
	memmove(item, item + 1, (config->count - index) * sizeof(*item));
	for (size_t i = 0; i < config->count; i++)
		if (config->items[i].option == option && config->items[i].number > number)
			config->items[i].number--;
}

void vn_config_number_key(
	const struct vn_option *option, unsigned number, struct veneer_error *error)
{
	size_t length = strlen(option->name);
	char rest[sizeof(error->key)];
	if (!error || !option->many || strncmp(error->key, option->name, length) != 0)
		return;
	if (error->key[length] != '\0' && error->key[length] != '.') // it has its number
		return;
	strcpy(rest, error->key + length);
	snprintf(error->key + length, sizeof(error->key) - length, "%u%.40s", number, rest);
}

static int set_whole(struct veneer_config *config, const struct target *target, const char *name,
	const char *value, struct veneer_error *error)
{
	const struct vn_option *option = target->option;
	void *values = malloc(option->size);
	if (!values)
		return no_memory(error);
	uint64_t given;
	int code = vn_option_parse(option, values, &given, value, error);
	if (code < 0) {
		vn_config_number_key(option,
			target->numbered ? target->number : vn_config_count(config, option), error);
		free(values);
		return code;
	}
	struct vn_config_item *item;
	bool added;
	if (!target->numbered)
		code = vn_config_put(config, option, values, given, error);
	else if ((code = reach_item(&item, &added, target, config, name, error)) == 0)
		fill_item(item, values, given);
	if (code < 0)
		vn_option_release(option, values);
	free(values);
	return code;
}

// Set one property to `value`, or to `fd` if that is not negative.
static int set_property(struct veneer_config *config, const struct target *target, const char *name,
	const char *value, int fd, struct veneer_error *error)
{
	const struct vn_option *option = target->option;
	const char *property = target->property ? target->property : option->props[0].name;
	struct vn_config_item *item;
	bool added;
	int code = reach_item(&item, &added, target, config, name, error);
	if (code < 0)
		return code;
	code = fd >= 0 ? vn_option_set_fd(option, item->values, property, fd, error)
		       : vn_option_set(option, item->values, property, value, error);
	if (code < 0) {
		vn_config_number_key(option, target->number, error);
		if (added)
			drop_item(config, item);
		return code;
	}
	vn_option_give(option, vn_option_prop(option, property), item->values, &item->given);
	return 0;
}

// `code` with what fails before the option's table is asked.
static int misused(struct veneer_error *error, int code, const char *name)
{
	vn_error_set_key(error, "%s", name);
	return code;
}

int veneer_config_set(struct veneer_config *config, const char *name, const char *value,
	struct veneer_error *error)
{
	struct target target;
	int code = find_target(&target, name, error);
	if (code < 0)
		return code;
	if (target.property)
		return set_property(config, &target, name, value, -1, error);
	if (value)
		return set_whole(config, &target, name, value, error);
	return misused(error, vn_fail(error, -EINVAL, "%s: needs a value", name), name);
}

// The field of a descriptor that is in no table, or NULL.
static int *serial_field(const struct veneer_config *config, const char *name)
{
	struct veneer_config *mine = (struct veneer_config *)(uintptr_t)config;
	if (strcmp(name, "serial.in") == 0)
		return &mine->serial_in;
	return strcmp(name, "serial.out") == 0 ? &mine->serial_out : NULL;
}

// What to unset: the item and, if the name has one, the property. -ENOENT.
static int find_set(struct vn_config_item **item, const struct vn_prop **prop,
	const struct veneer_config *config, const char *name, struct veneer_error *error)
{
	struct target target;
	*prop = NULL;
	*item = NULL;
	if (find_target(&target, name, error) < 0) {
		if (error)
			error->code = -ENOENT;
		return -ENOENT;
	}
	if (target.numbered || !target.option->many)
		*item = find_item(config, target.option, target.number);
	if (!*item)
		return misused(error, vn_fail(error, -ENOENT, "%s: there is none", name), name);
	if (!target.property)
		return 0;
	*prop = vn_option_prop(target.option, target.property);
	return *prop ? 0
		     : misused(error,
			       vn_fail(error, -ENOENT, "%s: there is no such property", name),
			       name);
}

static int unset_prop(struct vn_config_item *item, const struct vn_prop *prop, const char *name,
	struct veneer_error *error)
{
	if (item->option->many && (prop->flags & VN_PROP_REQUIRED))
		return misused(error,
			vn_fail(error, -EINVAL, "%s: '%s' cannot be left out", name,
				item->option->name),
			name);
	vn_option_unset(item->option, prop, item->values, &item->given);
	return 0;
}

int veneer_config_unset(struct veneer_config *config, const char *name, struct veneer_error *error)
{
	struct vn_config_item *item;
	const struct vn_prop *prop;
	int *fd = serial_field(config, name);
	if (fd) {
		close_fd(fd);
		return 0;
	}
	int code = find_set(&item, &prop, config, name, error);
	if (code < 0)
		return code;
	if (prop)
		return unset_prop(item, prop, name, error);
	if (item->option->many) {
		drop_item(config, item);
		return 0;
	}
	vn_option_release(item->option, item->values);
	memcpy(item->values, item->option->defaults, item->option->size);
	item->given = 0;
	return 0;
}

static int set_serial_fd(int *field, const char *name, int fd, struct veneer_error *error)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return misused(error,
			vn_fail(error, -errno, "%s: descriptor %d: %s", name, fd, strerror(errno)),
			name);
	close_fd(field);
	*field = copy;
	return 0;
}

int veneer_config_set_fd(
	struct veneer_config *config, const char *name, int fd, struct veneer_error *error)
{
	struct target target;
	int *serial = serial_field(config, name);
	if (fd < 0)
		return misused(error,
			vn_fail(error, -EBADF, "%s: %d is not a descriptor", name, fd), name);
	if (serial)
		return set_serial_fd(serial, name, fd, error);
	int code = find_target(&target, name, error);
	return code == 0 ? set_property(config, &target, name, NULL, fd, error) : code;
}

static int format_item(const struct vn_config_item *item, const char *property, char **value)
{
	const struct vn_prop *prop = property ? vn_option_prop(item->option, property) : NULL;
	if (!property)
		return item->given
			       ? vn_option_format(item->option, item->values, item->given, value)
			       : -ENOENT;
	if (!prop || !vn_option_is_given(item->option, prop, item->given))
		return -ENOENT;
	return vn_option_format_prop(prop, item->values, value);
}

int veneer_config_get(const struct veneer_config *config, const char *name, char *text, size_t size)
{
	struct target target;
	char *value = NULL;
	const int *fd = serial_field(config, name);
	if (fd)
		return *fd < 0 ? -ENOENT : -ENODATA;
	if (find_target(&target, name, NULL) < 0 || (target.option->many && !target.numbered))
		return -ENOENT;
	const struct vn_config_item *item = find_item(config, target.option, target.number);
	int code = item ? format_item(item, target.property, &value) : -ENOENT;
	if (code == 0)
		code = snprintf(text, size, "%s", value);
	free(value);
	return code;
}

// ---- Listing options

bool veneer_get_option(unsigned index, struct veneer_option *result, size_t size)
{
	const struct vn_option *option = vn_config_option(index);
	if (!option)
		return false;
	const struct veneer_option all = {.name = option->name,
		.letter = option->letter,
		.many = option->many,
		.help = option->help,
		.group = option->group ? option->group : "Devices"};
	vn_sized_out(result, size, &all, sizeof(all));
	return true;
}

static enum veneer_property_role role_of(const struct vn_prop *prop)
{
	return prop->flags & VN_PROP_FIRST    ? VENEER_PROPERTY_FIRST
	       : prop->flags & VN_PROP_KIND   ? VENEER_PROPERTY_KIND
	       : prop->flags & VN_PROP_SIGNED ? VENEER_PROPERTY_SIGNED
					      : VENEER_PROPERTY_WORD;
}

static const char *const *values_of(const struct vn_prop *prop)
{
	static const char *const on_off[] = {"on", "off", NULL};
	return prop->words ? prop->words : prop->type == &vn_prop_switch ? on_off : NULL;
}

bool veneer_get_option_property(
	unsigned index, unsigned number, struct veneer_property *property, size_t size)
{
	const struct vn_option *option = vn_config_option(index);
	if (!option)
		return false;
	const struct vn_prop *prop = option->props;
	for (; prop->name && number > 0; number--)
		prop++;
	if (!prop->name)
		return false;
	const struct veneer_property all = {.name = prop->name,
		.argument = prop->argument,
		.help = prop->help,
		.role = role_of(prop),
		.required = prop->flags & VN_PROP_REQUIRED,
		.many = prop->type->count != NULL,
		.optional = prop->flags & VN_PROP_OPTIONAL,
		.default_text = prop->default_text,
		.type = prop->words ? VENEER_TYPE_CHOICE : prop->type->kind,
		.min = prop->min,
		.max = prop->max,
		.values = values_of(prop)};
	vn_sized_out(property, size, &all, sizeof(all));
	return true;
}
