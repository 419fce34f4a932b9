// SPDX-License-Identifier: Apache-2.0
#include "base/rate_prop.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/words.h"

#define VALUE_MAX 64 // bytes

typedef int parse_fn(const char *text, uint64_t *value);

static int parse_count(const char *text, uint64_t *value)
{
	return vn_parse_number(text, UINT64_MAX, value);
}

static int parse(const struct vn_prop *prop, void *field, const char *value, parse_fn *take)
{
	char text[VALUE_MAX];
	struct vn_rate_options rate = {.burst = 0};
	if (snprintf(text, sizeof(text), "%s", value) >= (int)sizeof(text))
		return -EINVAL;
	char *colon = strchr(text, ':');
	if (colon)
		*colon++ = '\0';
	if (take(text, &rate.per_second) < 0 || rate.per_second < prop->min)
		return -EINVAL;
	if (colon && (take(colon, &rate.burst) < 0 || rate.burst == 0))
		return -EINVAL;
	*(struct vn_rate_options *)field = rate;
	return 0;
}

static int parse_rate(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)why;
	return parse(prop, field, value, parse_count);
}

static int parse_byte_rate(
	const struct vn_prop *prop, void *field, const char *value, struct vn_text *why)
{
	(void)why;
	return parse(prop, field, value, vn_parse_size);
}

static void expect_rate(const struct vn_prop *prop, struct vn_text *text)
{
	vn_text_add(text, "N or N:BURST, of %" PRIu64 " a second or more", prop->min);
}

static void expect_byte_rate(const struct vn_prop *prop, struct vn_text *text)
{
	vn_text_add(text, "SIZE or SIZE:BURST, of ");
	vn_text_add_size(text, prop->min);
	vn_text_add(text, " a second or more, such as 100M");
}

static char *format_rate(const struct vn_prop *prop, const void *field)
{
	(void)prop;
	const struct vn_rate_options *rate = field;
	char *text;
	int length = rate->burst > 0 ? asprintf(&text, "%" PRIu64 ":%" PRIu64, rate->per_second,
					       rate->burst)
				     : asprintf(&text, "%" PRIu64, rate->per_second);
	return length < 0 ? NULL : text;
}

const struct vn_prop_type vn_prop_rate = {.kind = VENEER_TYPE_NUMBER,
	.parse = parse_rate,
	.expect = expect_rate,
	.format = format_rate};
const struct vn_prop_type vn_prop_byte_rate = {.kind = VENEER_TYPE_SIZE,
	.parse = parse_byte_rate,
	.expect = expect_byte_rate,
	.format = format_rate};
