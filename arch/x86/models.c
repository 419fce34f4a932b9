// SPDX-License-Identifier: Apache-2.0
//
// A model's features are written in the same words as a person's wishes, so that one parser reads
// both: a model to begin with, then what to add and to take away.
#include "arch/x86/models.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "arch/x86/features.h"

#define LEAF_FEATURES     0x1u
#define LEAF_EXTENDED     0x80000000u
#define LEAF_AMD_FEATURES 0x80000001u
#define LEAF_BRAND        0x80000002u // and the two that follow

#define BRAND_BYTES 48
#define WORD_MAX    48 // bytes of a model's or feature's name, and its NUL
#define CLOSE_MAX   4 // names that are proposed for one that is not known
#define COLUMNS     79

enum vendor { VENDOR_ANY, VENDOR_INTEL, VENDOR_AMD };

static const struct model {
	const char *name;
	enum vendor vendor;
	unsigned family, model, stepping; // 0: the host's
	const char *features;
} models[] = {
#define MODEL(name, vendor, family, model, stepping, features)                                     \
	{name, VENDOR_##vendor, family, model, stepping, features},
#include "arch/x86/models.inc"
#include "base/macros.h"
#undef MODEL
};

// Leaves that say what a processor can do beyond its features: counters, frequencies, resource and
// memory encryption controls. `host` alone has them.
static const uint32_t host_leaves[] = {
	0xa, 0xf, 0x10, 0x16, 0x1a, 0x8000001b, 0x8000001f, 0x80000020, 0x80000022};

// What words ask for.
struct wish {
	const struct model *model; // NULL: host
	struct vn_features features;
};

// Names that are most like a word that is not known, the closest first.
struct proposals {
	const char *names[CLOSE_MAX];
	unsigned distances[CLOSE_MAX];
	unsigned count;
};

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

// How many letters must be put in, taken out or replaced to make one word of the other.
static unsigned distance(const char *a, const char *b)
{
	unsigned row[WORD_MAX + 1];
	unsigned columns = (unsigned)strnlen(b, WORD_MAX);

	for (unsigned j = 0; j <= columns; j++)
		row[j] = j;
	for (unsigned i = 0; a[i]; i++) {
		unsigned corner = row[0];

		row[0] = i + 1;
		for (unsigned j = 0; j < columns; j++) {
			bool same = tolower((unsigned char)a[i]) == tolower((unsigned char)b[j]);
			unsigned replaced = corner + !same;

			corner = row[j + 1];
			row[j + 1] = least(replaced, least(row[j], row[j + 1]) + 1);
		}
	}
	return row[columns];
}

static void propose(struct proposals *proposals, const char *word, const char *name)
{
	unsigned d = strcasestr(name, word) ? 1 : distance(word, name);
	unsigned at = proposals->count;

	if (d > 1 + strlen(word) / 3)
		return;
	while (at > 0 && proposals->distances[at - 1] > d)
		at--;
	if (at == CLOSE_MAX)
		return;
	if (proposals->count < CLOSE_MAX)
		proposals->count++;
	for (unsigned i = proposals->count - 1; i > at; i--) {
		proposals->names[i] = proposals->names[i - 1];
		proposals->distances[i] = proposals->distances[i - 1];
	}
	proposals->names[at] = name;
	proposals->distances[at] = d;
}

static int unknown(const char *what, const char *word, const struct proposals *proposals,
	struct veneer_error *error)
{
	char close[CLOSE_MAX * (WORD_MAX + 4)] = "";
	size_t used = 0;

	for (unsigned i = 0; i < proposals->count; i++)
		used += (size_t)snprintf(close + used, sizeof(close) - used, "%s%s",
			i == 0                     ? "; did you mean "
			: i + 1 < proposals->count ? ", "
						   : " or ",
			proposals->names[i]);
	return vn_fail(error, -EINVAL, "there is no CPU %s '%s'%s; `veneer run --cpu ?` lists all",
		what, word, close);
}

static int unknown_model(const char *word, struct veneer_error *error)
{
	struct proposals proposals = {0};

	propose(&proposals, word, "host");
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		propose(&proposals, word, models[i].name);
	return unknown("model", word, &proposals, error);
}

static int unknown_feature(const char *word, struct veneer_error *error)
{
	struct proposals proposals = {0};

	for (unsigned i = 1; i < VN_FEATURE_COUNT; i++)
		propose(&proposals, word, vn_feature_name(i));
	return unknown("feature", word, &proposals, error);
}

static const struct model *find_model(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (strcasecmp(name, models[i].name) == 0)
			return &models[i];
	return NULL;
}

// The next of comma-separated words; NULL after the last. -EINVAL when it is too long for any name.
static int take_word(const char **at, char word[WORD_MAX], struct veneer_error *error)
{
	size_t length = strcspn(*at, ",");

	if (length >= WORD_MAX)
		return vn_fail(error, -EINVAL, "no CPU model or feature has a name like '%.*s'",
			(int)length, *at);
	memcpy(word, *at, length);
	word[length] = '\0';
	*at += length;
	*at = **at ? *at + 1 : NULL;
	return 0;
}

static int change_feature(
	struct vn_features *features, const char *word, struct veneer_error *error)
{
	enum vn_feature feature;

	if (*word != '+' && *word != '-')
		return vn_fail(error, -EINVAL,
			"CPU feature '%s': write +NAME to add it or -NAME to take it away", word);
	feature = vn_feature_find(word + 1);
	if (feature == VN_FEATURE_none)
		return unknown_feature(word + 1, error);
	if (*word == '+')
		vn_features_add(features, feature);
	else
		vn_features_remove(features, feature);
	return 0;
}

static int change_features(struct vn_features *features, const char *at, struct veneer_error *error)
{
	char word[WORD_MAX];
	int ret = 0;

	while (at && ret == 0) {
		ret = take_word(&at, word, error);
		if (ret == 0)
			ret = change_feature(features, word, error);
	}
	return ret;
}

// A model's own features: those of the model that it begins with, and the words after that. A model
// begins with one of those before it in the table, if with any.
static int model_features(
	struct vn_features *features, const struct model *model, struct veneer_error *error)
{
	const char *at = model->features;
	char word[WORD_MAX];
	int ret = take_word(&at, word, error);

	*features = (struct vn_features){0};
	if (ret == 0 && *word) {
		const struct model *first = find_model(word);

		ret = first && first < model ? model_features(features, first, error)
					     : unknown_model(word, error);
	}
	return ret < 0 ? ret : change_features(features, at, error);
}

// Each +name must have survived what was taken away after it.
static int check_additions(
	const struct vn_features *features, const char *at, struct veneer_error *error)
{
	char word[WORD_MAX];

	while (at) {
		int ret = take_word(&at, word, error);

		if (ret < 0)
			return ret;
		if (*word == '+' && !vn_features_has(features, vn_feature_find(word + 1)))
			return vn_fail(error, -EINVAL,
				"CPU feature %s is asked for, "
				"and it or what it needs is taken away",
				word + 1);
	}
	return 0;
}

// `cpu` is the model's name, alone or followed by a comma and changes of its features.
static int read_wish(struct wish *wish, const char *cpu, const struct vn_features *offered,
	struct veneer_error *error)
{
	char word[WORD_MAX];
	int ret = take_word(&cpu, word, error);

	if (ret < 0)
		return ret;
	*wish = (struct wish){.model = find_model(word), .features = *offered};
	if (wish->model) {
		ret = model_features(&wish->features, wish->model, error);
		for (unsigned i = 1; i < VN_FEATURE_COUNT && ret == 0; i++)
			if (vn_feature_kind(i) == VN_FEATURE_HOST && vn_features_has(offered, i))
				vn_features_add(&wish->features, i);
	} else if (strcasecmp(word, "host") != 0) {
		return unknown_model(word, error);
	}
	if (ret == 0)
		ret = change_features(&wish->features, cpu, error);
	return ret < 0 ? ret : check_additions(&wish->features, cpu, error);
}

// With nothing offered, what is left to find are the words.
int vn_model_check(const char *model, const char *features, struct veneer_error *error)
{
	const struct vn_features nothing = {0};
	struct wish wish;
	int ret = read_wish(&wish, model ? model : "host", &nothing, error);

	if (ret == 0 && features)
		ret = change_features(&wish.features, features, error);
	return ret == 0 && features ? check_additions(&wish.features, features, error) : ret;
}

static enum vendor vendor_of(const struct vn_cpuid *cpuid)
{
	if (vn_cpuid_is_amd(cpuid))
		return VENDOR_AMD;
	return vn_cpuid_is_intel(cpuid) ? VENDOR_INTEL : VENDOR_ANY;
}

static bool wrong_vendor(const struct vn_cpuid *cpuid, const struct model *model)
{
	return model && model->vendor != VENDOR_ANY && model->vendor != vendor_of(cpuid);
}

static int check_vendor(
	const struct vn_cpuid *cpuid, const struct model *model, struct veneer_error *error)
{
	if (!wrong_vendor(cpuid, model))
		return 0;
	return vn_fail(error, -ENOTSUP,
		"CPU model %s is %s, and this host's processor is not: "
		"KVM cannot show a guest another vendor's; baseline, "
		"x86-64-v2 and so on are any vendor's",
		model->name, model->vendor == VENDOR_INTEL ? "Intel's" : "AMD's");
}

// The first of what is wished and not offered, at `from` or after; VN_FEATURE_none: there is none.
static enum vn_feature next_missing(
	const struct vn_features *wished, const struct vn_features *offered, unsigned from)
{
	for (unsigned i = from; i < VN_FEATURE_COUNT; i++)
		if (vn_features_has(wished, i) && !vn_features_has(offered, i))
			return i;
	return VN_FEATURE_none;
}

static int check_offered(const char *cpu, const struct vn_features *wished,
	const struct vn_features *offered, struct veneer_error *error)
{
	char names[sizeof(error->message) - 192] = "";
	unsigned missing = next_missing(wished, offered, 1);
	unsigned unnamed = 0;
	size_t used = 0;

	if (missing == VN_FEATURE_none)
		return 0;
	for (; missing != VN_FEATURE_none; missing = next_missing(wished, offered, missing + 1)) {
		const char *name = vn_feature_name(missing);

		if (used + strlen(name) + 2 < sizeof(names))
			used += (size_t)snprintf(
				names + used, sizeof(names) - used, used ? " %s" : "%s", name);
		else
			unnamed++;
	}
	if (unnamed > 0)
		return vn_fail(error, -ENOTSUP,
			"CPU %.32s: this host's KVM lacks %s and %u more; "
			"name a lower model (`veneer run --cpu ?` marks those that run here)",
			cpu, names, unnamed);
	return vn_fail(error, -ENOTSUP,
		"CPU %.32s: this host's KVM lacks %s; take each away with -NAME, "
		"or name a lower model (`veneer run --cpu ?` marks those that run here)",
		cpu, names);
}

// Family, model and stepping as leaf 1 packs them.
static uint32_t signature(const struct model *model)
{
	unsigned base = least(model->family, 0xf);

	return model->stepping | (model->model & 0xf) << 4 | base << 8 | model->model >> 4 << 16 |
	       (model->family - base) << 20;
}

static void set_identity(struct vn_cpuid *cpuid, const struct model *model)
{
	struct kvm_cpuid_entry2 *entry = vn_cpuid_find(cpuid, LEAF_FEATURES, 0);
	char brand[BRAND_BYTES] = "";

	if (entry && model->family != 0)
		entry->eax = signature(model);
	entry = vn_cpuid_find(cpuid, LEAF_AMD_FEATURES, 0);
	if (entry && model->family != 0 && model->vendor == VENDOR_AMD)
		entry->eax = signature(model);
	snprintf(brand, sizeof(brand), "Veneer %s", model->name);
	for (unsigned i = 0; i < 3; i++) {
		entry = vn_cpuid_find(cpuid, LEAF_BRAND + i, 0);
		if (entry)
			memcpy(&entry->eax, brand + 16 * i, 16); // EAX, EBX, ECX and EDX
	}
}

int vn_model_apply(struct vn_cpuid *cpuid, const char *cpu, struct veneer_error *error)
{
	struct vn_features offered = vn_features_offered(cpuid);
	struct wish wish;
	int ret;

	if (!cpu)
		cpu = "host";
	ret = read_wish(&wish, cpu, &offered, error);
	if (ret == 0)
		ret = check_vendor(cpuid, wish.model, error);
	if (ret == 0)
		ret = check_offered(cpu, &wish.features, &offered, error);
	if (ret < 0)
		return ret;
	vn_features_apply(cpuid, &wish.features, wish.model != NULL);
	if (!wish.model)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(host_leaves); i++)
		vn_cpuid_drop(cpuid, host_leaves[i]);
	set_identity(cpuid, wish.model);
	return 0;
}

// A word on a line, or on the next one, under `indent`, where it does not fit.
static void print_word(
	FILE *out, unsigned *column, unsigned indent, const char *mark, const char *word)
{
	unsigned length = (unsigned)(strlen(mark) + strlen(word));

	if (*column + 1 + length > COLUMNS) {
		fprintf(out, "\n%*s", (int)indent, "");
		*column = indent;
	}
	fprintf(out, " %s%s", mark, word);
	*column += 1 + length;
}

static int list_model(FILE *out, const struct vn_cpuid *cpuid, const struct vn_features *offered,
	const struct model *model, struct veneer_error *error)
{
	struct vn_features features;
	int ret = model_features(&features, model, error);
	bool foreign = wrong_vendor(cpuid, model);
	unsigned column = 22;
	unsigned missing;

	if (ret < 0)
		return ret;
	missing = next_missing(&features, offered, 1);
	if (!foreign && missing == VN_FEATURE_none) {
		fprintf(out, "+ %s\n", model->name);
		return 0;
	}
	fprintf(out, "- %-20s", model->name);
	if (foreign)
		print_word(
			out, &column, 22, "", model->vendor == VENDOR_INTEL ? "(Intel)" : "(AMD)");
	for (; !foreign && missing != VN_FEATURE_none;
		missing = next_missing(&features, offered, missing + 1))
		print_word(out, &column, 22, "", vn_feature_name(missing));
	fputc('\n', out);
	return 0;
}

int vn_model_list(struct vn_cpuid *cpuid, FILE *out, struct veneer_error *error)
{
	struct vn_features offered = vn_features_offered(cpuid);
	unsigned column = 0;
	int ret = 0;

	fputs("Models: + runs on this host; - does not, for want of what stands beside it\n"
	      "+ host                 all that this host offers\n",
		out);
	for (size_t i = 0; i < ARRAY_SIZE(models) && ret == 0; i++)
		ret = list_model(out, cpuid, &offered, &models[i], error);
	fputs("\nFeatures: + this host offers it; - it does not\n", out);
	for (unsigned i = 1; i < VN_FEATURE_COUNT; i++)
		print_word(out, &column, 0, vn_features_has(&offered, i) ? "+" : "-",
			vn_feature_name(i));
	fputc('\n', out);
	return ret;
}
