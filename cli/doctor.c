// SPDX-License-Identifier: Apache-2.0
//
// The frame of `veneer doctor`: what is read once, the list of checks, and the command.
#include "cli/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpuset.h"
#include "base/error.h"
#include "base/sysfs.h"

// Device names, words of a command line: whatever they hold, one line of ASCII comes out.
static void sanitise(char *text)
{
	for (char *at = text; *at; at++) {
		if ((unsigned char)*at < ' ' || (unsigned char)*at > '~')
			*at = '?';
	}
}

__attribute__((format(printf, 3, 0))) static void append(
	char *text, size_t size, const char *format, va_list arguments)
{
	size_t used = strlen(text);

	vsnprintf(text + used, size - used, format, arguments);
	sanitise(text + used);
}

void doctor_append(char *text, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	append(text, size, format, arguments);
	va_end(arguments);
}

struct doctor_check *doctor_add(struct doctor_report *report, const char *name,
	enum doctor_status status, const char *format, ...)
{
	struct doctor_check *check = &report->spare;
	struct doctor_check *checks =
		reallocarray(report->checks, report->count + 1, sizeof(*checks));
	va_list arguments;

	if (checks) {
		report->checks = checks;
		check = &checks[report->count++];
	} else {
		report->incomplete = true;
	}
	*check = (struct doctor_check){.name = name, .status = status};
	va_start(arguments, format);
	append(check->found, sizeof(check->found), format, arguments);
	va_end(arguments);
	return check;
}

void doctor_cost(struct doctor_check *check, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	append(check->cost, sizeof(check->cost), format, arguments);
	va_end(arguments);
}

void doctor_remedy(struct doctor_check *check, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	append(check->remedy, sizeof(check->remedy), format, arguments);
	va_end(arguments);
}

void doctor_unread(struct doctor_report *report, const char *name, int code, const char *path)
{
	doctor_add(report, name, DOCTOR_UNKNOWN, "cannot read %s: %s", path, strerror(-code));
}

bool doctor_has_word(const char *text, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += length) {
		bool begins = at == text || at[-1] == ' ';
		if (begins && (at[length] == ' ' || at[length] == '\0'))
			return true;
	}
	return false;
}

bool doctor_exists(const struct doctor_host *host, const char *path)
{
	char full[4096];
	int length = snprintf(full, sizeof(full), "%s%s", host->root, path);

	return length < (int)sizeof(full) && access(full, F_OK) == 0;
}

int doctor_find_line(const struct doctor_host *host, const char *path, const char *start,
	char *text, size_t size)
{
	char full[4096];
	char *line = NULL;
	size_t room = 0;
	int ret = -ENODATA;

	text[0] = '\0';
	snprintf(full, sizeof(full), "%s%s", host->root, path);
	FILE *file = fopen(full, "re");
	if (!file)
		return -errno;
	while (ret < 0 && getline(&line, &room, file) > 0) {
		if (strncmp(line, start, strlen(start)) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(text, size, "%s", line + strlen(start));
		ret = 0;
	}
	free(line);
	fclose(file);
	return ret;
}

int doctor_read_cpus(const struct doctor_host *host, struct vn_cpuset *set, const char *path)
{
	char text[4096];
	struct veneer_error error;
	int ret = vn_sysfs_line(host->root, text, sizeof(text), "%s", path);

	*set = (struct vn_cpuset){.bits = {0}};
	if (ret < 0 || strstr(text, "(null)"))
		return ret;
	return vn_cpuset_parse(set, text, &error);
}

const char *doctor_list(const struct vn_cpuset *set, char text[DOCTOR_LIST_BYTES])
{
	const char *cut = ",...";
	size_t room = DOCTOR_LIST_BYTES - strlen(cut);

	if (vn_cpuset_format(set, text, room) >= room)
		strcat(text, cut);
	return text;
}

void doctor_chosen(char *text)
{
	char *open = strchr(text, '[');
	char *close = open ? strchr(open, ']') : NULL;

	if (!close)
		return;
	*close = '\0';
	memmove(text, open + 1, (size_t)(close - open));
}

// One CPU's lines stand for all.
static void read_cpuinfo(struct doctor_host *host)
{
	const char *path = "/proc/cpuinfo";

	host->cpuinfo =
		doctor_find_line(host, path, "flags\t\t: ", host->flags, sizeof(host->flags));
	(void)doctor_find_line(
		host, path, "vmx flags\t: ", host->vmx_flags, sizeof(host->vmx_flags));
	host->guest = doctor_has_word(host->flags, "hypervisor");
	host->virtualization = doctor_has_word(host->flags, "vmx")   ? DOCTOR_VENDOR_INTEL
			       : doctor_has_word(host->flags, "svm") ? DOCTOR_VENDOR_AMD
								     : DOCTOR_VENDOR_UNKNOWN;
}

const char *doctor_kvm_kind(const char *root)
{
	struct doctor_host host = {.root = root};

	read_cpuinfo(&host);
	if (host.cpuinfo < 0)
		return NULL;
	switch (host.virtualization) {
	case DOCTOR_VENDOR_INTEL:
		return "VT-x";
	case DOCTOR_VENDOR_AMD:
		return "AMD-V";
	default:
		return "software";
	}
}

bool doctor_leaves_none(const struct doctor_host *host)
{
	struct vn_cpuset others = host->online;

	vn_cpuset_subtract(&others, &host->vcpus);
	return vn_cpuset_count(&others) == 0;
}

// The CPUs that remedies name: those meant for vCPUs. Where there are none, or where they would
// leave no CPU to the host, all but the first core.
static void advise(struct doctor_host *host)
{
	struct vn_cpuset set = host->vcpus;

	if (vn_cpuset_count(&set) == 0 || doctor_leaves_none(host)) {
		struct vn_cpuset first = {.bits = {1}};
		struct vn_cpuset siblings;
		set = host->online;
		if (doctor_read_cpus(host, &siblings,
			    "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list") == 0)
			vn_cpuset_subtract(&set, &siblings);
		vn_cpuset_subtract(&set, &first);
	}
	// A list that was cut would be a remedy for some of them.
	if (vn_cpuset_count(&set) == 0 || vn_cpuset_format(&set, host->advised,
						  sizeof(host->advised)) >= sizeof(host->advised))
		snprintf(host->advised, sizeof(host->advised), "LIST");
}

void doctor_read_host(struct doctor_host *host)
{
	read_cpuinfo(host);
	host->cmdline_code =
		vn_sysfs_line(host->root, host->cmdline, sizeof(host->cmdline), "/proc/cmdline");
	host->online_code = doctor_read_cpus(host, &host->online, "/sys/devices/system/cpu/online");
	(void)doctor_read_cpus(host, &host->isolated, "/sys/devices/system/cpu/isolated");
	host->meant = vn_cpuset_count(&host->named) > 0 ? host->named : host->isolated;
	host->vcpus = host->meant;
	if (host->online_code == 0)
		vn_cpuset_and(&host->vcpus, &host->online);
	advise(host);
}

void doctor_examine(struct doctor_report *report, const struct doctor_host *host)
{
	*report = (struct doctor_report){.checks = NULL};
	doctor_check_virtualization(report, host);
	doctor_check_isolation(report, host);
	doctor_check_speed(report, host);
	doctor_check_memory(report, host);
	doctor_check_io(report, host);
}

void doctor_report_free(struct doctor_report *report)
{
	free(report->checks);
	report->checks = NULL;
	report->count = 0;
}

size_t doctor_wrong(const struct doctor_report *report)
{
	size_t wrong = 0;

	for (size_t i = 0; i < report->count; i++) {
		enum doctor_status status = report->checks[i].status;
		wrong += status == DOCTOR_WARN || status == DOCTOR_BAD;
	}
	return wrong;
}

// Colour where a person looks (https://no-color.org).
static bool wants_colour(void)
{
	const char *forbidden = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && !(forbidden && *forbidden);
}

static int print_report(const struct doctor_report *report, bool json, struct veneer_error *error)
{

	int ret = json ? doctor_print_json(report, stdout) : 0;

	if (!json)
		doctor_print(report, stdout, wants_colour());
	if (ret == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		ret = errno ? -errno : -EIO;
	return ret < 0 ? vn_fail(error, ret, "cannot write to standard output: %s", strerror(-ret))
		       : 0;
}

static int check_named(const struct doctor_host *host, struct veneer_error *error)
{
	struct vn_cpuset missing = host->named;
	char missing_text[DOCTOR_LIST_BYTES];
	char online_text[DOCTOR_LIST_BYTES];

	vn_cpuset_subtract(&missing, &host->online);
	if (host->online_code < 0 || vn_cpuset_is_empty(&missing))
		return 0;
	return vn_fail(error, -EINVAL, "--cpus: the host's CPU %s is not online: %s are",
		doctor_list(&missing, missing_text), doctor_list(&host->online, online_text));
}

static int report_on(
	const struct doctor_host *host, const struct options *options, struct veneer_error *error)
{
	struct doctor_report report;

	int ret = check_named(host, error);
	if (ret < 0)
		return ret;
	doctor_examine(&report, host);
	if (report.incomplete)
		ret = vn_fail(error, -ENOMEM, "out of memory");
	else
		ret = print_report(&report, options->doctor.json, error);
	if (ret == 0)
		ret = (int)doctor_wrong(&report);
	doctor_report_free(&report);
	return ret;
}

static void free_disks(struct doctor_disk *disks, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free((char *)(uintptr_t)disks[i].path);
	free(disks);
}

// The disks that were named, with their paths; free_disks(), also after a failure.
static int probe_disks(struct doctor_disk **disks, unsigned *count, const struct options *options)
{
	char name[32];
	char *path;

	*disks = NULL;
	for (*count = 0;; ++*count) {
		snprintf(name, sizeof(name), "disk%u.path", *count);
		path = options_get(options, name);
		if (!path)
			return 0;
		struct doctor_disk *list = reallocarray(*disks, *count + 1, sizeof(*list));
		if (!list) {
			free(path);
			return -ENOMEM;
		}
		doctor_probe_disk(&list[*count], path);
		*disks = list;
	}
}

int doctor_run(const struct options *options, struct veneer_error *error)
{
	struct doctor_probes probes;
	struct doctor_host *host = calloc(1, sizeof(*host));
	struct doctor_disk *disks;
	unsigned disk_count;
	int ret = probe_disks(&disks, &disk_count, options);

	if (host && ret == 0) {
		doctor_probe(&probes);
		*host = (struct doctor_host){.root = "",
			.probes = &probes,
			.disks = disks,
			.disk_count = disk_count,
			.named = options->doctor.cpus};
		doctor_read_host(host);
		ret = report_on(host, options, error);
	} else {
		ret = vn_fail(error, -ENOMEM, "out of memory");
	}
	free_disks(disks, disk_count);
	free(host);
	return ret;
}
