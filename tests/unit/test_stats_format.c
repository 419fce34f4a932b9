// SPDX-License-Identifier: Apache-2.0
//
// The three formats of one snapshot. Prometheus' is judged line by line as its text format 0.0.4
// has it, and the judge itself is shown what it must refuse.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "cli/stats_format.h"
#include "stats_sample.h"

static const struct stats_guest guest = {"web", 77};

static char *format(enum stats_format which)
{
	char *text = stats_format(which, &guest, &sample_stats, NULL);
	assert_non_null(text);
	return text;
}

static void assert_has(const char *text, const char *part)
{
	if (!text || !strstr(text, part))
		fail_msg("no \"%s\" in:\n%s", part, text ? text : "");
}

static void tables_have_totals(void **state)
{
	(void)state;
	char *text = format(STATS_TEXT);
	assert_has(text, "guest web, pid 77, running for 2.5 s\n");
	// vCPU, exits, halts, host irqs, irqs in, io, mmio, other
	assert_has(text,
		"\n"
		"0               1000           0           0           0          40           "
		"2           1\n");
	assert_has(text,
		"\n"
		"all             2000           0           0           0          40           "
		"2           1\n");
	// queue, requests, errors, MiB, MiB, batches, notified, interrupts, percentiles
	assert_has(text,
		"\n"
		"blk0.0            10       1        0.0        0.0          4          6        "
		"  3      20.0 19864223.7 19864223.7\n");
	assert_has(text,
		"\n"
		"blk0.1             0       0        0.0        0.0          0          0        "
		"  0         -         -         -\n");
	free(text);
}

static void tables_have_rates_since_before(void **state)
{
	(void)state;
	static const struct veneer_latency_bucket old_buckets[] = {
		{19456, 20480, 8}, {983040, 1048576, 1}};
	static const struct veneer_latency old_latency = {9, 1160000, 2, old_buckets};
	static const struct veneer_queue_stats old_busy = {
		0, 5, 0, 0, 8192, 4, 6, 5, 3, &old_latency};
	static const struct veneer_queue_stats *const old_queues[] = {
		&old_busy, &sample_quiet, NULL};
	static const struct veneer_device_stats old_disk = {"blk0", 2, old_queues, NULL, "disk0"};
	static const struct veneer_device_stats *const old_devices[] = {&old_disk, NULL};
	struct veneer_stats before = sample_stats;
	before.time_ns -= 2000000000;
	before.running_ns -= 2000000000;
	before.devices = old_devices;
	char *text = stats_format(STATS_TEXT, &guest, &sample_stats, &before);
	assert_has(text, "; a second, over the last 2.0 s\n");
	assert_has(text,
		"\n"
		"blk0.0           2.5     0.5        0.0        0.0        0.0        0.0        "
		"0.0 19864223.7 19864223.7 19864223.7\n");
	free(text);
	// A snapshot of an earlier life is none to compare with.
	before.running_ns = sample_stats.running_ns + 1;
	text = stats_format(STATS_TEXT, &guest, &sample_stats, &before);
	assert_null(strstr(text, "a second"));
	free(text);
}

static json_t *at(json_t *value, const char *path)
{
	char words[128];
	snprintf(words, sizeof(words), "%s", path);
	for (char *rest, *word = strtok_r(words, "/", &rest); word && value;
		word = strtok_r(NULL, "/", &rest))
		value = json_is_array(value) ? json_array_get(value, strtoul(word, NULL, 10))
					     : json_object_get(value, word);
	if (!value)
		fail_msg("no %s", path);
	return value;
}

static void json_has_everything(void **state)
{
	(void)state;
	static const struct {
		const char *path;
		json_int_t value;
	} numbers[] = {
		{"pid", 77},
		{"running_ns", 2500000000},
		{"vcpus/0/user_exits/io", 40},
		{"vcpus/0/user_exits/signal", 1},
		{"vcpus/1/index", 1},
		{"vcpus/1/kvm/exits", 1000},
		{"vcpus/1/kvm/halt_wait_hist/3", 4},
		{"kvm/pages_4k", 3},
		{"devices/0/virtio_id", 2},
		{"devices/0/queues/0/requests", 10},
		{"devices/0/queues/0/errors", 1},
		{"devices/0/queues/0/read_bytes", 40960},
		{"devices/0/queues/0/written_bytes", 8192},
		{"devices/0/queues/0/batches", 4},
		{"devices/0/queues/0/notifications", 6},
		{"devices/0/queues/0/wakeups", 5},
		{"devices/0/queues/0/interrupts", 3},
		{"devices/0/queues/0/latency/count", 10},
		{"devices/0/queues/0/latency/p50_ns", 19967},
		{"devices/0/queues/0/latency/p999_ns", 19864223743},
		{"devices/0/queues/0/latency/buckets/1/1", 1048576},
		{"devices/0/queues/1/requests", 0},
	};
	char *text = format(STATS_JSON);
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	json_error_t error;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		fail_msg("%s", error.text);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (json_integer_value(at(root, numbers[i].path)) != numbers[i].value)
			fail_msg(
				"%s is not %" PRIdMAX, numbers[i].path, (intmax_t)numbers[i].value);
	assert_string_equal(json_string_value(at(root, "guest")), "web");
	assert_string_equal(json_string_value(at(root, "state")), "running");
	assert_string_equal(json_string_value(at(root, "devices/0/name")), "blk0");
	assert_null(json_object_get(at(root, "devices/0"), "mac"));
	assert_string_equal(json_string_value(at(root, "devices/1/mac")), "02:00:5e:10:00:ff");
	assert_true(json_is_null(at(root, "devices/0/queues/1/latency")));
	json_decref(root);
	free(text);
}

// The judge of Prometheus' format. What it knows of the family at hand, and of those before.
struct judge {
	char family[256];
	char type[16];
	bool helped, typed;
	char seen[200][256];
	unsigned seen_count;
	double bound, below; // of the histogram's last bucket
	char labels[256]; // of that histogram
};

static bool is_name(const char *text, size_t length)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:";
	if (length == 0 || !strchr(letters, text[0]))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!strchr(letters, text[i]) && !(text[i] >= '0' && text[i] <= '9'))
			return false;
	return true;
}

static bool judge_comment(struct judge *judge, const char *line)
{
	bool help = strncmp(line, "# HELP ", 7) == 0;
	if (!help && strncmp(line, "# TYPE ", 7) != 0)
		return false;
	const char *name = line + 7;
	size_t length = strcspn(name, " ");
	if (!is_name(name, length) || name[length] != ' ' || name[length + 1] == '\0')
		return false;
	if (!help) { // follows its family's help
		if (judge->typed || strlen(judge->family) != length ||
			strncmp(judge->family, name, length) != 0)
			return false;
		judge->typed = true;
		judge->labels[0] = '\0';
		snprintf(judge->type, sizeof(judge->type), "%s", name + length + 1);
		return strcmp(judge->type, "counter") == 0 || strcmp(judge->type, "gauge") == 0 ||
		       strcmp(judge->type, "histogram") == 0;
	}
	snprintf(judge->family, sizeof(judge->family), "%.*s", (int)length, name);
	for (unsigned i = 0; i < judge->seen_count; i++)
		if (strcmp(judge->seen[i], judge->family) == 0)
			return false; // a family's samples stand together
	strcpy(judge->seen[judge->seen_count++], judge->family);
	judge->typed = false;
	return true;
}

// {name="value",...} with nothing in the values that would need escapes; *end is behind it.
static bool judge_labels(const char *text, const char **end)
{
	if (*text++ != '{')
		return false;
	for (;;) {
		size_t length = strcspn(text, "=");
		if (!is_name(text, length) || text[length] != '=' || text[length + 1] != '"')
			return false;
		text += length + 2;
		length = strcspn(text, "\"\\\n");
		if (text[length] != '"')
			return false;
		text += length + 1;
		if (*text != ',')
			break;
		text++;
	}
	*end = text + 1;
	return *text == '}';
}

// Buckets grow and end with +Inf, at the count.
static bool judge_histogram(
	struct judge *judge, const char *suffix, const char *labels, double value)
{
	if (strcmp(suffix, "_sum") == 0)
		return true;
	if (strcmp(suffix, "_count") == 0)
		return isinf(judge->bound) && value == judge->below;
	const char *le = strstr(labels, ",le=\"");
	if (strcmp(suffix, "_bucket") != 0 || !le)
		return false;
	double bound = strtod(le + 5, NULL);
	size_t length = (size_t)(le - labels);
	bool same = strlen(judge->labels) == length && strncmp(judge->labels, labels, length) == 0;
	if (same && !(bound > judge->bound && value >= judge->below))
		return false;
	snprintf(judge->labels, sizeof(judge->labels), "%.*s", (int)length, labels);
	judge->bound = bound;
	judge->below = value;
	return true;
}

static bool judge_sample(struct judge *judge, const char *line)
{
	size_t length = strcspn(line, "{ "), family = strlen(judge->family);
	const char *end;
	if (!judge->typed || !is_name(line, length) || length < family ||
		strncmp(line, judge->family, family) != 0)
		return false;
	if (!judge_labels(line + length, &end) || *end++ != ' ')
		return false;
	char *after;
	double value = strtod(end, &after);
	if (after == end || *after != '\0')
		return false;
	char suffix[32];
	snprintf(suffix, sizeof(suffix), "%.*s", (int)(length - family), line + family);
	if (strcmp(judge->type, "histogram") == 0)
		return judge_histogram(judge, suffix, line + length, value);
	bool total = family > 6 && strcmp(judge->family + family - 6, "_total") == 0;
	return suffix[0] == '\0' && value >= 0 && total == (strcmp(judge->type, "counter") == 0);
}

// The first line that is wrong, or NULL.
static const char *judge(const char *text)
{
	static char line[512];
	static struct judge judge;
	judge = (struct judge){0};
	while (*text) {
		size_t length = strcspn(text, "\n");
		snprintf(line, sizeof(line), "%.*s", (int)length, text);
		if (text[length] != '\n' || length >= sizeof(line))
			return line; // the last line ends too
		if (line[0] == '#' ? !judge_comment(&judge, line) : !judge_sample(&judge, line))
			return line;
		text += length + 1;
	}
	return NULL;
}

static void prometheus_is_well_formed(void **state)
{
	(void)state;
	char *text = format(STATS_PROMETHEUS);
	const char *wrong = judge(text);
	if (wrong)
		fail_msg("malformed: %s", wrong);
	assert_has(text, "\nveneer_guest_running_seconds{guest=\"web\",pid=\"77\"} 2.500000000\n");
	assert_has(text,
		"\nveneer_vcpu_user_exits_total{guest=\"web\",vcpu=\"0\",reason=\"io\"} 40\n");
	assert_has(text,
		"\n"
		"veneer_queue_read_bytes_total{guest=\"web\",device=\"blk0\",queue=\"0\"} 40960\n");
	assert_has(text, "queue=\"0\",le=\"0.000016384\"} 0\n");
	assert_has(text, "queue=\"0\",le=\"0.000032768\"} 8\n");
	assert_has(text, "queue=\"0\",le=\"0.001048576\"} 9\n");
	assert_has(text, "queue=\"0\",le=\"17.179869184\"} 9\n");
	assert_has(text, "queue=\"0\",le=\"+Inf\"} 10\n");
	assert_has(text, "_sum{guest=\"web\",device=\"blk0\",queue=\"0\"} 20.001160000\n");
	assert_has(text, "_count{guest=\"web\",device=\"blk0\",queue=\"0\"} 10\n");
	assert_has(text, "\nveneer_kvm_vcpu_exits_total{guest=\"web\",vcpu=\"1\"} 1000\n");
	assert_has(text, "\n"
			 "veneer_kvm_vcpu_halt_wait_seconds_total{guest=\"web\",vcpu=\"0\"} "
			 "1.500000000\n");
	assert_has(text, "# TYPE veneer_kvm_vm_pages_4k gauge\n");
	assert_has(text, "\nveneer_kvm_vm_peak_size_bytes{guest=\"web\"} 5120\n");
	assert_null(strstr(text, "_hist"));
	free(text);
}

static void the_judge_refuses(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"x_total{a=\"b\"} 1\n", // no type
		"# TYPE x_total counter\nx_total{a=\"b\"} 1\n", // no help
		"# HELP x_total x\n# TYPE x_total counter\ny_total{a=\"b\"} 1\n",
		"# HELP x_total x\n# TYPE x_total counter\nx_total{a=\"b\"} 1", // no newline
		"# HELP x_total x\n# TYPE x_total counter\nx_total{a=\"b\"} one\n",
		"# HELP x_total x\n# TYPE x_total counter\nx_total{a=b} 1\n",
		"# HELP x_total x\n# TYPE x_total counter\nx_total{a-c=\"b\"} 1\n",
		"# HELP x_total x\n# TYPE x_total counter\nx_total{a=\"b\"}1\n",
		"# HELP x x\n# TYPE x counter\nx{a=\"b\"} 1\n", // a counter without _total
		"# HELP x_total x\n# TYPE x_total meter\n",
		"# HELP x x\n# TYPE x gauge\n# HELP x x\n# TYPE x gauge\n", // twice
		"# HELP 9x x\n",
		"# HELP x x\n# TYPE x histogram\nx_bucket{a=\"b\",le=\"1\"} 2\n"
		"x_bucket{a=\"b\",le=\"2\"} 1\n", // shrinks
		"# HELP x x\n# TYPE x histogram\nx_bucket{a=\"b\",le=\"2\"} 1\n"
		"x_bucket{a=\"b\",le=\"1\"} 1\n",
		"# HELP x x\n# TYPE x histogram\nx_bucket{a=\"b\",le=\"1\"} 1\n"
		"x_count{a=\"b\"} 1\n", // no +Inf
		"# HELP x x\n# TYPE x histogram\nx_bucket{a=\"b\",le=\"+Inf\"} 1\n"
		"x_count{a=\"b\"} 2\n",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!judge(bad[i]))
			fail_msg("not refused: %s", bad[i]);
	assert_null(judge("# HELP x x\n# TYPE x histogram\nx_bucket{a=\"b\",le=\"1\"} 1\n"
			  "x_bucket{a=\"b\",le=\"+Inf\"} 1\nx_sum{a=\"b\"} 0.5\n"
			  "x_count{a=\"b\"} 1\n"));
}

static void a_host_without_statistics_is_said(void **state)
{
	(void)state;
	static const struct veneer_kvm_stat *const none[] = {NULL};
	static const struct veneer_vcpu_stats vcpu = {0, sample_vcpu_exits, none};
	static const struct veneer_vcpu_stats *const vcpus[] = {&vcpu, NULL};
	static const struct veneer_device_stats *const devices[] = {NULL};
	const struct veneer_stats stats = {.vcpus = vcpus, .devices = devices, .kvm = none};
	char *text = stats_format(STATS_TEXT, &guest, &stats, NULL);
	assert_has(text, "no binary statistics");
	assert_null(strstr(text, "queue"));
	free(text);
	text = stats_format(STATS_PROMETHEUS, &guest, &stats, NULL);
	assert_null(judge(text));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_have_totals),
		cmocka_unit_test(tables_have_rates_since_before),
		cmocka_unit_test(json_has_everything),
		cmocka_unit_test(prometheus_is_well_formed),
		cmocka_unit_test(the_judge_refuses),
		cmocka_unit_test(a_host_without_statistics_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
