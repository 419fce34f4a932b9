// SPDX-License-Identifier: Apache-2.0
//
// `veneer doctor`: what of the host costs a guest speed, and what mends it. The host's files are
// read below a root and what only a system call tells comes in one structure, so that each check is
// a function of its input: tests give it other machines' files.
#ifndef VN_DOCTOR_H
#define VN_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "cli/options.h"

#define DOCTOR_LIST_BYTES 128

enum doctor_status {
	DOCTOR_OK,
	DOCTOR_INFO, // of something that Veneer has no use for yet; not wrong
	DOCTOR_WARN, // it costs speed
	DOCTOR_BAD, // guests, or stock ones, do not run
	DOCTOR_UNKNOWN, // `found` says why; not wrong
};

// All texts are printable ASCII.
struct doctor_check {
	const char *name; // static
	enum doctor_status status;
	char found[256];
	char cost[192]; // empty unless something is wrong
	char remedy[320];
};

// doctor_report_free() after use.
struct doctor_report {
	struct doctor_check *checks;
	size_t count;
	struct doctor_check spare; // taken when memory is short,
	bool incomplete; // which this tells
};

// What system calls say. Each int is a negative errno, or what the comment says.
struct doctor_probes {
	int kvm; // opening /dev/kvm: its API version
	int tsc_control; // KVM_CAP_TSC_CONTROL: 0 or 1
	int vhost_net; // access to /dev/vhost-net: 0
	int vfio; // access to /dev/vfio/vfio: 0
	int io_uring; // io_uring_setup(2) as Veneer uses it: 0
	uint64_t memlock; // RLIMIT_MEMLOCK in bytes, UINT64_MAX: none
	bool ipc_lock; // CAP_IPC_LOCK, which that limit does not bind
	// That the cgroup's cpuset lets this process run on; empty: the kernel does not tell.
	struct vn_cpuset allowed;
};

// A path of --disk, and the device that holds it.
struct doctor_disk {
	const char *path;
	int code; // 0, or the negative errno of stat(2)
	dev_t device;
};

enum doctor_vendor { DOCTOR_VENDOR_UNKNOWN, DOCTOR_VENDOR_INTEL, DOCTOR_VENDOR_AMD };

// The first group is the caller's, the second doctor_read_host()'s.
struct doctor_host {
	const char *root; // "" on the live host
	const struct doctor_probes *probes;
	const struct doctor_disk *disks; // none: every disk of the host
	size_t disk_count;
	struct vn_cpuset named; // by --cpus; empty: none

	int cpuinfo; // 0, or the negative errno of /proc/cpuinfo
	enum doctor_vendor virtualization; // VT-x or AMD-V that the CPU offers
	bool guest; // this host is one
	char flags[4096], vmx_flags[1024];
	int cmdline_code;
	char cmdline[4096]; // the kernel's
	int online_code;
	struct vn_cpuset online, isolated;
	struct vn_cpuset meant; // for vCPUs: named, else isolated; may be empty
	struct vn_cpuset vcpus; // those of them that are online, if that is known
	char advised[DOCTOR_LIST_BYTES]; // the list of CPUs that remedies name
};

// What runs guests on the host whose files are below `root`: "VT-x", "AMD-V" or "software" (KVM
// without either emulates kernel code). NULL: /proc/cpuinfo does not tell.
const char *doctor_kvm_kind(const char *root);

// Fills in the second group.
void doctor_read_host(struct doctor_host *host);

// All checks, in the order in which they are shown.
void doctor_examine(struct doctor_report *report, const struct doctor_host *host);
void doctor_report_free(struct doctor_report *report);

// How many are wrong: warn and bad.
size_t doctor_wrong(const struct doctor_report *report);

void doctor_print(const struct doctor_report *report, FILE *out, bool colour);
// {"checks":[{"name","status","found","cost","remedy"}],"wrong":N}; what does not apply is null.
// 0 or -ENOMEM; whether `out` took it, its owner asks.
int doctor_print_json(const struct doctor_report *report, FILE *out);

// The live host.
void doctor_probe(struct doctor_probes *probes);
void doctor_probe_disk(struct doctor_disk *disk, const char *path);

// The command, on standard output: the number of wrong checks, or a negative errno with the line.
int doctor_run(const struct options *options, struct veneer_error *error);

// What the files of checks share.

// One more check. The pointer is good until the next one.
struct doctor_check *doctor_add(struct doctor_report *report, const char *name,
	enum doctor_status status, const char *format, ...) __attribute__((format(printf, 4, 5)));
void doctor_cost(struct doctor_check *check, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void doctor_remedy(struct doctor_check *check, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

// Unknown, since reading the file or directory failed with `code`.
void doctor_unread(struct doctor_report *report, const char *name, int code, const char *path);

// Append to a text of `size` bytes, as much as fits.
void doctor_append(char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

// Whether one of the words of `text`, separated by blanks, is `word`.
bool doctor_has_word(const char *text, const char *word);

bool doctor_exists(const struct doctor_host *host, const char *path);

// The rest of the first line that begins with `start`: 0, -ENODATA when there is none, or the
// negative errno of opening the file.
int doctor_find_line(const struct doctor_host *host, const char *path, const char *start,
	char *text, size_t size);

// A file that holds a list of CPUs; "(null)" is an empty one.
int doctor_read_cpus(const struct doctor_host *host, struct vn_cpuset *set, const char *path);

// Whether the CPUs meant for vCPUs are all that the host has, as far as is known.
bool doctor_leaves_none(const struct doctor_host *host);

// The set as a list for a line, cut where it is long; `text`.
const char *doctor_list(const struct vn_cpuset *set, char text[DOCTOR_LIST_BYTES]);

// The word in brackets of a list of choices, or the whole of it.
void doctor_chosen(char *text);

typedef void doctor_check_fn(struct doctor_report *report, const struct doctor_host *host);
doctor_check_fn doctor_check_virtualization, doctor_check_isolation, doctor_check_speed,
	doctor_check_memory, doctor_check_io;

#endif
