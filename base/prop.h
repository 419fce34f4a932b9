// SPDX-License-Identifier: Apache-2.0
//
// A property describes one configurable value. The command line, JSON, range checks, help, manual
// page, completion and formatting all work from tables of properties: adding an option is adding a
// row.
//
// An option's value (`disk`) is a list of words separated by commas, "PATH,readonly,queues=2". Each
// word sets a property: NAME=VALUE; NAME alone for a property without values; or, as the first
// word, a value alone. A comma inside a word is doubled.
//
// The values are the fields of a plain structure. Strings in it are owned by it.
#ifndef VN_PROP_H
#define VN_PROP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

struct vn_prop;

// A type of values. `why` is empty when a function is called with it.
struct vn_prop_type {
	enum veneer_property_type kind; // for who lists properties; a row with `words` is a CHOICE

	// Parse `value` into the field and release the old content, or add it to a list. `value` is
	// NULL for a property without values. -EINVAL: not a valid value; `why` then may hold the
	// text that follows the value in the message, for example ": there is no such node"; if
	// empty, the message is "is not " and `expect`. -ENOMEM.
	int (*parse)(
		const struct vn_prop *prop, void *field, const char *value, struct vn_text *why);

	// Describe valid values, as in "a number from 1 to 16". NULL: `choices` of the property
	// does, or `parse` always says why.
	void (*expect)(const struct vn_prop *prop, struct vn_text *text);

	// The field as `parse` would take it, in a string that is the caller's to free. NULL: no
	// memory.
	char *(*format)(const struct vn_prop *prop, const void *field);

	// Instead of `format`, for a field that is a list to which each word adds: the number of
	// items, and one item, in which is no comma. Such a type has `copy` and `release`.
	size_t (*count)(const void *field);
	char *(*format_item)(const void *field, size_t index);

	// Whether the field has a text at all, which a descriptor has not. NULL: always.
	bool (*has_text)(const void *field);

	// For fields that own memory or descriptors: duplicate (negative errno: `to` owns nothing)
	// and free. NULL: the field owns nothing.
	int (*copy)(void *to, const void *from);
	void (*release)(void *field);

	// Store a duplicate of `fd` instead of a value. Negative errno. NULL: not accepted.
	int (*take_fd)(void *field, int fd);
};

enum {
	VN_PROP_FIRST = 1 << 0, // the first word is its value, without its name
	VN_PROP_KIND = 1 << 1, // the first word is this one or another of these
	VN_PROP_SIGNED = 1 << 2, // words that begin with + or - are its values
	VN_PROP_OPTIONAL = 1 << 3, // its value may be left out, and is NULL then
	VN_PROP_REQUIRED = 1 << 4, // its option cannot do without it
};

// A row. Tables have at most 64 and end with a row without a name.
struct vn_prop {
	const char *name;
	const char *argument; // what stands for a value in help texts: "N"; NULL: it has no values
	const char *help; // a sentence or two, without range and default
	const char *default_text; // a value, or in words: "any node"; NULL: nothing to say
	const struct vn_prop_type *type;
	uint32_t offset, width; // of the field in the structure, bytes: VN_PROP_FIELD()
	uint64_t min, max; // of a number or size, both included; of a string's length in bytes
	const char *const *words; // the values, ends with NULL; the field is the index
	bool (*accepts)(const char *value); // of a string: what else it must be; or NULL
	const char *choices; // what to say in place of what the type expects: "is not " and this
	unsigned flags;
	unsigned kinds; // bit N: for the option's kind N; 0: for all
	char letter; // where it is an option by itself: of the command line, or 0
	const char *group; // likewise: its heading; NULL: the table's
};

#define VN_PROP_FIELD(type, field_)                                                                \
	.offset = offsetof(type, field_), .width = sizeof(((type *)0)->field_)

// The field is a `char *`, NULL unless set; the value has min to max bytes (max 0: any number).
extern const struct vn_prop_type vn_prop_string;
// The field is an unsigned integer of any width.
extern const struct vn_prop_type vn_prop_number;
// The same in bytes: digits and K, M, G or T, 1024 to a step, alone or followed by B, iB or i, in
// any case.
extern const struct vn_prop_type vn_prop_size;
// The field is a bool: on, off.
extern const struct vn_prop_type vn_prop_switch;
// The field is a bool that the bare word sets; vn_option_set() also takes on and off.
extern const struct vn_prop_type vn_prop_flag;
// The field is an unsigned or an enumeration, of `words`.
extern const struct vn_prop_type vn_prop_word;
// The field is an unsigned or an enumeration that the bare word sets to `min`.
extern const struct vn_prop_type vn_prop_choice;

// Whether true and false can stand for its values: on and off, or a bare word and none.
bool vn_prop_takes_boolean(const struct vn_prop *prop);

struct vn_option {
	const char *name; // NULL: its properties are options by themselves
	char letter; // of the command line, or 0
	bool many; // repeatable
	bool whole; // the value is one word, the first property's, commas and all
	bool lists; // a word that begins with a digit continues the list in the word before
	const char *help; // a sentence
	const char *group; // its heading in help texts; NULL: "Devices"
	const char *advice; // appended to the message for an unknown word: "; ...", or NULL
	const struct vn_prop *props;
	size_t size; // of the structure
	const void *defaults; // such a structure, which owns nothing
	// Refuse values that contradict each other; may fill in defaults. What is required is there
	// by then. NULL: none do.
	int (*check)(void *values, struct veneer_error *error);
};

// On any failure of these functions, the error's key is the option's name, or "option.property"
// where that is known, and the message begins with option->name.

// Fill `values` from the defaults and then from `text`, and *given with the properties that were
// given: bit N for row N of the table. A value that is as in the defaults counts; a flag that is
// set to off does not. -EINVAL, -ENOMEM: `values` owns nothing then.
int vn_option_parse(const struct vn_option *option, void *values, uint64_t *given, const char *text,
	struct veneer_error *error);

bool vn_option_is_given(const struct vn_option *option, const struct vn_prop *prop, uint64_t given);

// Note in *given that the property has been set in `values`.
void vn_option_give(const struct vn_option *option, const struct vn_prop *prop, const void *values,
	uint64_t *given);

// Put one property back to its default.
void vn_option_unset(
	const struct vn_option *option, const struct vn_prop *prop, void *values, uint64_t *given);

// Set one property in `values`, which vn_option_parse() or the defaults have filled; `value` NULL
// for one without values. To a list it adds one value, or several with commas between them, all or
// none. Without the option's check. -EINVAL, -ENOMEM: nothing has changed.
int vn_option_set(const struct vn_option *option, void *values, const char *name, const char *value,
	struct veneer_error *error);

// Likewise from a descriptor.
int vn_option_set_fd(const struct vn_option *option, void *values, const char *name, int fd,
	struct veneer_error *error);

// Check that what the option requires is there, and the values against each other; may fill in
// defaults. What was given for another kind is refused even if it is as by default. -EINVAL,
// -ENOMEM.
int vn_option_check(
	const struct vn_option *option, void *values, uint64_t given, struct veneer_error *error);

// The row of this name, or NULL.
const struct vn_prop *vn_option_prop(const struct vn_option *option, const char *name);

// The properties that were given, as vn_option_parse() takes them: the caller's to free. -ENODATA:
// no text says it, as the first word was not given, or one of them is a descriptor. -ENOMEM.
int vn_option_format(
	const struct vn_option *option, const void *values, uint64_t given, char **text);

// One property's value; "on" for one without values; a list's items with commas between them.
// -ENODATA: it is a descriptor.
int vn_option_format_prop(const struct vn_prop *prop, const void *values, char **text);

// A negative errno: `to` owns nothing.
int vn_option_copy(const struct vn_option *option, void *to, const void *from);
void vn_option_release(const struct vn_option *option, void *values);

#endif
