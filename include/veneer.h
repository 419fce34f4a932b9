// SPDX-License-Identifier: Apache-2.0
//
// Veneer's embedding interface: describe a guest by the same options as the command line has,
// create it, start it, wait for its end. It is all that the `veneer` program knows of a guest, and
// needs nothing but libc, in C99 or C++17.
//
//     struct veneer_error error;
//     struct veneer_config *config;
//     struct veneer *vm;
//     struct veneer_event end;
//
//     veneer_config_new(&config, &error);
//     veneer_config_set(config, "kernel", "vmlinuz", &error);
//     veneer_config_set(config, "memory", "1G,hugepages=2M", &error);
//     veneer_config_set(config, "disk", "disk.img,cache=none", &error);
//     if (veneer_create(&vm, config, NULL, &error) < 0)
//             ...error.message says why, in one line...
//     veneer_start(vm, &error);
//     veneer_wait(vm, -1, &end, sizeof(end), &error);
//     veneer_destroy(vm);
//     veneer_config_free(config);
//
// The library prints nothing, installs no signal handler, never exits and has no global state: any
// number of guests may live in one process. Where nothing else is said, a function returns 0 or a
// negative errno, may be called from any thread, and fills `error` when it fails, unless that is
// NULL. -ENOMEM can come from each of them.
//
// To have its own threads leave a guest, it sends them SIGURG, which they keep blocked: a program
// that takes SIGURG by sigwait(3) or signalfd(2) misses those of its own that reach such a thread.
//
// All descriptors that the library makes are close-on-exec. After fork(2), the child must not use
// the library, nor guest memory, which it does not have (MADV_DONTFORK); exec or exit is fine.
//
// Compatibility: structures whose size the caller gives may grow at their end, and so may those
// that belong to the library and are reached by a pointer; enumerations get new members. Those that
// never change say so. A structure that the library fills is filled as far as it knows it, and zero
// behind that; in one that it reads, what it does not know must be zero (-E2BIG). Nothing else
// changes before interface 2, which would be libveneer.so.2.
#ifndef VENEER_H
#define VENEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VENEER_API __attribute__((visibility("default")))

// The interface that this header declares. A minor version adds to it; 1.1: veneer_pause(),
// veneer_resume(), veneer_reset(), the state and events that come from them, and the
// state in struct veneer_stats.
#define VENEER_INTERFACE_MAJOR 1
#define VENEER_INTERFACE_MINOR 1

// C++ gives an enumeration no more values than its members need, unless its type is said.
#ifdef __cplusplus
#define VENEER_GROWS : int
#else
#define VENEER_GROWS
#endif

// The interface of the library that runs, MAJOR << 16 | MINOR, which may be older than that of this
// header: a member of a structure that came with 1.N is there if it is 1.N or later.
VENEER_API unsigned veneer_interface(void);

// Veneer's version, such as "0.1.0", which is not that of its interface; static.
VENEER_API const char *veneer_version(void);

// Who can mend it.
enum veneer_error_kind VENEER_GROWS {
	VENEER_ERROR_CONFIG = 1, // the configuration says what cannot be: another value is needed
	// The host lacks something (-ENOMEM, -ENOSPC, -ENODEV...), has given it to others (-EBUSY,
	// -EADDRINUSE), or refuses (-EPERM...).
	VENEER_ERROR_HOST,
	VENEER_ERROR_STATE, // the guest is not in a state for this (-EINVAL, -ETIMEDOUT)
	VENEER_ERROR_CANCELED, // by a hook of the caller's (-ECANCELED)
	VENEER_ERROR_GUEST, // what the guest holds, such as its kernel's file (-ENOEXEC)
};

// Why a call failed. It never changes.
struct veneer_error {
	enum veneer_error_kind kind;
	int code; // a negative errno, -4095 to -1, as the call returned it
	// The option or property that it is about, "disk0.queues", as veneer_config_set() takes it,
	// also of a new item that was refused; or empty. With each kind.
	char key[56];
	// One line for a person, without a newline: what is wrong and what mends it.
	char message[512];
};

// ---- Options

// What can be configured, for programs that list it: help texts, forms, completion. All of it is
// static.

struct veneer_option {
	const char *name; // "disk"; `--disk` on the command line
	char letter; // `-d`, or 0
	bool many; // repeatable: disk0, disk1...
	const char *help; // sentences
	const char *group; // a heading, such as "Devices"
};

enum veneer_property_role VENEER_GROWS {
	VENEER_PROPERTY_WORD, // NAME=VALUE, or NAME alone
	VENEER_PROPERTY_FIRST, // the value's first word, without its name
	VENEER_PROPERTY_KIND, // the first word is this one or another of these
	VENEER_PROPERTY_SIGNED, // words that begin with + or -
};

// How a value is written, and what `min` and `max` are of. Of a number or size, more may follow, as
// `argument` shows: "N[:BURST]".
enum veneer_property_type VENEER_GROWS {
	VENEER_TYPE_OTHER, // as `argument` shows; the number in it
	VENEER_TYPE_TEXT, // its length in bytes
	VENEER_TYPE_NUMBER, // the number
	VENEER_TYPE_SIZE, // bytes: digits, alone or with K, M, G or T
	VENEER_TYPE_CHOICE, // one of `values`; of nothing
};

// A part of an option's value: "queues" in "disk.img,queues=4".
struct veneer_property {
	const char *name;
	const char *argument; // what stands for a value in help texts: "N"; NULL: it has none
	const char *help; // sentences, without what follows
	enum veneer_property_role role;
	bool required; // the option cannot do without it
	bool many; // may be given any number of times, and each adds to a list
	bool optional; // its value may be left out
	const char *default_text; // "256M", or in words; NULL: nothing
	enum veneer_property_type type;
	uint64_t min, max; // both included; max 0: no limit
	const char *const *values; // all that it can be, ends with NULL; NULL: not a list
};

// The option of this index, from 0, and its property of this number, from 0; `size` is that of the
// caller's structure. False: there is none.
VENEER_API bool veneer_get_option(unsigned index, struct veneer_option *option, size_t size);
VENEER_API bool veneer_get_option_property(
	unsigned index, unsigned number, struct veneer_property *property, size_t size);

// ---- Configuration

// What a guest is to be. While one thread changes it, no other may use it; any number may read it
// (const), and so create guests from it, at the same time. Guests without a name that are made from
// one configuration are one and the same to their networks: equal interfaces, equal MAC addresses.
struct veneer_config;

VENEER_API int veneer_config_new(struct veneer_config **config, struct veneer_error *error);
VENEER_API void veneer_config_free(struct veneer_config *config); // NULL is allowed

// Set the option `name` to `value`, both as on the command line ("disk", "disk.img,queues=4"):
// what it was is replaced, or one more is added of an option that is repeatable. "disk0" replaces
// the first disk, and the number behind the last one's adds one; there can be 256.
//
// Or set one property: "memory.node", "disk0.queues". NULL stands for a bare word ("readonly"),
// which "on" and "off" are also taken for. Where the property is a list (`many`), the value is
// added to it, or each of several with commas between them, all or none: veneer_config_unset()
// makes it empty.
//
// -EINVAL, with a line that begins with the option's name: nothing has changed. A property is
// judged by itself; what does not go with others is found by veneer_config_check() and
// veneer_create(). A whole option is judged as one, but for what depends on other options.
VENEER_API int veneer_config_set(struct veneer_config *config, const char *name, const char *value,
	struct veneer_error *error);

// Put the option ("disk0", "memory"), property ("disk0.serial", "net0.hostfwd") or descriptor
// ("serial.in") back to what a new configuration has; one of a repeatable option is removed, and
// those behind it move up by one. 0 also if it was not set. -ENOENT: there is none of this name;
// -EINVAL: its option cannot do without it.
VENEER_API int veneer_config_unset(
	struct veneer_config *config, const char *name, struct veneer_error *error);

// Give a descriptor in place of a file's name: "kernel", "initrd", "disk0.path", "net0.tap", or
// "serial.in" and "serial.out", which are what the serial port reads and writes. It is duplicated,
// so the caller may close it. -EBADF: it is none; -EINVAL: the name is not one of these.
// veneer_create() opens by path what has no name here: /dev/kvm, and for a network /dev/vhost-net
// and, for further queues of a TAP, /dev/net/tun.
//
// Duplicates share the caller's open file description. Offset and flags stay as they are where
// nothing else is said. A kernel and an initrd are read. A disk is opened once more through
// /proc/self/fd, so that lock and flags are the guest's own, and a second guest is refused as by
// path (-EBUSY). `fd` must be open for what the disk needs: reading, and writing unless it is
// readonly. Where it cannot be opened again (no /proc, no permission on the file), the description
// is used as it is: O_DIRECT then must be set exactly for cache=none and directsync, O_NONBLOCK
// must not, nor O_APPEND unless readonly; a warning says that another guest with the same one would
// not be noticed, and the file stays locked until all duplicates are closed.
//
// A TAP's descriptor is a queue of an interface of the network namespace that veneer_create() is
// called in: TUNSETIFF with IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, and IFF_MULTI_QUEUE if `queues` is
// above 1 (the others are opened by the interface's name). It becomes O_NONBLOCK, stays attached
// until the last duplicate is closed, and is for one guest: nothing notices a second one. The
// serial port reads and writes where its descriptions' offsets are, and to a regular file at its
// end.
//
// Output that blocks makes the guest's driver wait, and no vCPU. Output that is refused (a full
// disk, a pipe without a reader) is lost: a message warns, and another one gives the count once
// output succeeds again or the guest is destroyed.
VENEER_API int veneer_config_set_fd(
	struct veneer_config *config, const char *name, int fd, struct veneer_error *error);

// An option ("disk0") or property ("disk0.queues") as it was set, in words that
// veneer_config_set() takes; a bare word reads "on", and a list's values have commas between them.
// Returns the length of all of it without the final 0, of which `text` gets what fits into `size`
// bytes; `text` may be NULL if `size` is 0. -ENOENT: there is none, or it was not set, whatever its
// default. -ENODATA: it was set, and no words say so: to a descriptor, or an option by properties
// without its first word, each of which can be read. -ENOMEM.
VENEER_API int veneer_config_get(
	const struct veneer_config *config, const char *name, char *text, size_t size);

// Set all that a JSON object has: {"memory": {"size": "1G", "node": 0}, "disk": [{"path":
// "disk.img"}]}. An option is an object of its properties, or a string as on the command line, or
// the value of its first property; a repeatable one, or an array of these, adds to those there are.
// A property's value is a string or a number; true and false where it is on or off, or a bare word;
// an array, of a list. Not null, nor {}. -EINVAL: nothing has changed.
VENEER_API int veneer_config_read_json(
	struct veneer_config *config, const char *text, size_t size, struct veneer_error *error);

// Check all that can be checked without making a guest, as veneer_create() does first. Opens
// nothing: that a file is there, and the host has what it takes, veneer_create() finds. -EINVAL;
// -ENOMEM and -EMFILE, as it works on a copy that has duplicates of the descriptors.
VENEER_API int veneer_config_check(const struct veneer_config *config, struct veneer_error *error);

// Which thread would run on which of the host's CPUs; the library's, given back by the caller.
struct veneer_plan {
	char *text; // lines, for a person: a table, and why; with a final newline
	char *summary; // the same in one line, without one
};

// Choose host CPUs where the configuration leaves it to Veneer (cpus: pin=auto), set them in
// `config`, and say what runs where. Looks at the host, and where the calling thread may run;
// changes neither. -ENOSPC: the host lacks CPUs; -EINVAL: it has not those that are named. Given
// back with veneer_plan_free().
VENEER_API int veneer_plan_make(
	struct veneer_plan **plan, struct veneer_config *config, struct veneer_error *error);
VENEER_API void veneer_plan_free(struct veneer_plan *plan); // NULL is allowed

// Write what the option `cpu` can name, one model a line and then the features, each with a mark of
// whether this host can run it, to a file descriptor. Needs /dev/kvm; blocks as long as `fd` does.
VENEER_API int veneer_cpu_models(int fd, struct veneer_error *error);

// ---- A guest

struct veneer;

enum veneer_severity VENEER_GROWS { VENEER_SEVERITY_INFO, VENEER_SEVERITY_WARNING };

// What the library calls. `size` is that of the structure as the caller knows it (-EINVAL: it is
// none; -E2BIG: it has hooks that this library does not know); a NULL function is not called.
struct veneer_hooks {
	size_t size;
	void *opaque;

	// A line for a person, from any of the library's threads. Must not call the library.
	void (*message)(void *opaque, enum veneer_severity severity, const char *text);

	// While veneer_create() touches guest memory, a few times a second, in its caller's thread:
	// how many bytes of how many. False gives up: veneer_create() fails with -ECANCELED.
	bool (*progress)(void *opaque, uint64_t done, uint64_t total);
};

enum veneer_state VENEER_GROWS {
	VENEER_STATE_CREATED = 1, // ready for veneer_start(): new, or reset after its end
	VENEER_STATE_RUNNING, // all vCPUs have been started
	VENEER_STATE_ENDED, // no vCPU runs, or is about to; devices may until veneer_destroy()
	VENEER_STATE_PAUSED, // no vCPU runs, no request is in flight; until veneer_resume()
};

// Build a guest. All that can be wrong with the configuration is found, and all files, interfaces
// and sockets are opened, before any memory is touched. On success *vm is the caller's, who gives
// it back with veneer_destroy(); on failure nothing is left behind. `config` is not needed
// afterwards, and the guest does not see later changes of it; `hooks` (or NULL) is copied. Errors
// are those of what it opens and makes: -EINVAL and -ENOENT of the configuration, -EBUSY of a disk
// that another guest writes, -EADDRINUSE of a port that is taken, -ENODEV of a node or interface
// that the host has not, -EACCES, -EPERM, -EMFILE, -ENOMEM and -ENOSPC of the host, -ENOEXEC of
// a kernel that is none, -ECANCELED by the hook.
VENEER_API int veneer_create(struct veneer **vm, const struct veneer_config *config,
	const struct veneer_hooks *hooks, struct veneer_error *error);

// Start the guest: its vCPUs run on threads of the library. -EINVAL (VENEER_ERROR_STATE), with a
// line that names the state it is in, unless that is VENEER_STATE_CREATED. If a thread cannot be
// had (-EAGAIN, or -EPERM where the right to cpus.sched was given up since veneer_create()), the
// guest has ended, by VENEER_END_FAILED and without a STARTED event, and remains to be destroyed or
// reset.
VENEER_API int veneer_start(struct veneer *vm, struct veneer_error *error);

// Pause a running guest. On return, no vCPU runs, no virtio device has a request in flight, and
// nothing in the library touches guest memory. Serial output that the guest has sent is still
// written. Blocks as long as the host takes for the requests that have
// begun; those that have not stay in their queues until veneer_resume(). 0 also if it is paused.
// -EINVAL (VENEER_ERROR_STATE): it was not started, has ended, or ended while it was being paused.
//
// Of calls to veneer_start(), veneer_pause(), veneer_resume() and veneer_reset(), one at a time is
// carried out; the others wait. veneer_stop() and the guest's own end wait for none of them.
VENEER_API int veneer_pause(struct veneer *vm, struct veneer_error *error);

// Let a paused guest go on from where it was. Clocks have not stopped: a guest with kvmclock is
// told that it did not run, so that its watchdogs do not fire. 0 also if it is running. -EINVAL
// (VENEER_ERROR_STATE): it was not started, or has ended.
VENEER_API int veneer_resume(struct veneer *vm, struct veneer_error *error);

// Reset the guest: vCPUs, interrupt chips and devices go back to the state before veneer_start(),
// and kernel and initrd are loaded again, from the file of their name as it is now or from the
// descriptor. The rest of guest memory keeps its contents, and all that is open stays open. A
// running guest boots at once; a paused one stays paused, and boots when it is resumed; one that
// has ended is VENEER_STATE_CREATED again, for veneer_start(). Events from before stay until they
// are taken.
//
// Blocks as veneer_pause() does; after the end, also for serial output that veneer_wait() is
// writing in another thread. -EINVAL (VENEER_ERROR_STATE): it was not started, has lost memory
// (veneer_handle_sigbus()), one of its I/O threads has failed, or it ended meanwhile. If kernel or
// initrd cannot be opened, the errors are those of veneer_create(), and the guest is as it was:
// names are resolved again, with the current directory and the rights that the caller has now; a
// program that changes these hands over descriptors (veneer_config_set_fd()). After other errors,
// of reading the files and of KVM, the guest has ended by VENEER_END_FAILED, also if it had ended
// otherwise before, and can be reset again.
VENEER_API int veneer_reset(struct veneer *vm, struct veneer_error *error);

// End the guest at once, as if its power were cut, in any state. Does not wait for it.
VENEER_API void veneer_stop(struct veneer *vm);

VENEER_API enum veneer_state veneer_get_state(struct veneer *vm);

enum veneer_event_kind VENEER_GROWS {
	VENEER_EVENT_STARTED = 1,
	VENEER_EVENT_ENDED, // with `end`, `value`, `message`
	VENEER_EVENT_PAUSED,
	VENEER_EVENT_RESUMED,
	VENEER_EVENT_RESET, // by veneer_reset(); the state says whether it runs
};

// How a guest ended.
enum veneer_end VENEER_GROWS {
	VENEER_END_POWEROFF = 1, // it switched itself off
	VENEER_END_RESET, // it asked for a reset
	VENEER_END_EXIT, // it wrote to the debug-exit port: `value`
	VENEER_END_CRASH, // triple fault or KVM internal error: `message`
	VENEER_END_STOPPED, // veneer_stop()
	VENEER_END_FAILED, // the host could not go on: `message`
	// The guest's kernel said by pvpanic that it panicked: `message`. It was given the time for
	// its last words: until it reset, was stopped, or had printed nothing for a second. A
	// kernel without a driver for pvpanic cannot say it, so that its panic is the reset that
	// follows, if any does.
	VENEER_END_PANIC,
};

struct veneer_event {
	enum veneer_event_kind kind;
	enum veneer_end end; // 0 for an event that is not the end
	uint32_t value; // what the guest wrote to the debug-exit port
	uint64_t time_ns; // CLOCK_MONOTONIC
	char message[2048]; // lines, for a person; may be empty
};

// A descriptor that is readable while there are events. It belongs to the guest, and is valid until
// veneer_destroy(): the caller polls it, and neither reads nor closes it.
VENEER_API int veneer_event_fd(const struct veneer *vm);

// Take the oldest event: 1, and *event has it; 0: there is none. 16 are kept: of a guest that has
// had more, the oldest are lost, but in VENEER_STATE_ENDED never the end.
VENEER_API int veneer_next_event(struct veneer *vm, struct veneer_event *event, size_t size);

// Wait until the guest has ended, its vCPUs have stopped and its serial output is written, at most
// `timeout_ms` milliseconds (negative: without limit). Takes no event: *end is a copy, and may be
// NULL with size 0. -ETIMEDOUT, and it can be waited for again; -EINVAL: it was not started (both
// VENEER_ERROR_STATE). Any number of threads may wait, each with its own limit. If another thread
// resets the guest just after it has ended, a call may miss that end and wait for the next one.
VENEER_API int veneer_wait(struct veneer *vm, int timeout_ms, struct veneer_event *end, size_t size,
	struct veneer_error *error);

// End the guest if it still runs, drain its I/O and give everything back. NULL is allowed. The last
// call for this guest: no other thread may be in one. Takes until the host has completed what the
// devices had begun, and serial output is written: to a file, all of it; to others, until nothing
// has been taken for a while.
VENEER_API void veneer_destroy(struct veneer *vm);

// ---- What else a guest can be asked

// Press the guest's power button once: a kernel that knows ACPI then powers off in its own time.
// One that is booting is told when its driver starts; but it forgets a press for which nothing in
// its user space listens yet, so repeat it until the guest ends. During a reset it waits for the
// guest to boot again. -EINVAL: the guest does not run.
VENEER_API int veneer_press_power_button(struct veneer *vm, struct veneer_error *error);

// Look at the size of the disk of this name ("disk0") again, and tell the guest when it has
// changed. In any state, though it waits while the disk is being paused. Numbers are those that the
// configuration had in veneer_create(), and keep their meaning in the guest's life. -EINVAL: there
// is no such disk, or it cannot have the new size.
VENEER_API int veneer_refresh_disk(struct veneer *vm, const char *disk, struct veneer_error *error);

// For a program's handler of SIGBUS (SA_SIGINFO; the library installs none), with its si_code and
// si_addr: the host took a page of the guest's memory away, which a device was about to use: a
// limit of huge pages, or a hardware error. True: the page is that of this guest, and now an empty
// one, so that the handler returns and the thread goes on, while veneer_event_fd() becomes readable
// and veneer_wait() returns VENEER_END_FAILED with a message that names it. False: the signal is
// not about this guest. Async-signal-safe; between veneer_create() and the end of veneer_destroy(),
// whose own threads may be the ones that call it. So where a handler asks several guests, destroy
// one of them only while the others are paused, or cannot lose memory.
VENEER_API bool veneer_handle_sigbus(struct veneer *vm, int code, void *address);

// What a guest has done since veneer_create(): a snapshot. Lists of pointers end with NULL, and a
// library of a later version may have added fields at the end of what they point to. Counters only
// grow, and are 64 bits.

// How often a vCPU left the guest for user space: `reason` is KVM's exit reason in lower case
// ("io", "mmio", "shutdown", "internal_error"...), or "signal" where KVM_RUN was interrupted.
struct veneer_exit_stat {
	const char *reason;
	uint64_t count;
};

enum veneer_kvm_kind VENEER_GROWS {
	VENEER_KVM_KIND_CUMULATIVE, // only grows
	VENEER_KVM_KIND_INSTANT, // a state, such as pages that are mapped
	VENEER_KVM_KIND_PEAK, // the largest there was
	VENEER_KVM_KIND_LINEAR_HISTOGRAM, // values[i]: how many in [i, i + 1) * bucket_size
	VENEER_KVM_KIND_LOG_HISTOGRAM, // values[0]: how many 0; values[i]: in [2^(i - 1), 2^i)
};

enum veneer_kvm_unit VENEER_GROWS {
	VENEER_KVM_UNIT_NONE, // events
	VENEER_KVM_UNIT_BYTES,
	VENEER_KVM_UNIT_SECONDS,
	VENEER_KVM_UNIT_CYCLES,
	VENEER_KVM_UNIT_BOOLEAN,
};

// One of the statistics that KVM itself keeps, under its own name. Which there are depends on the
// host's kernel (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD).
struct veneer_kvm_stat {
	const char *name;
	enum veneer_kvm_kind kind;
	enum veneer_kvm_unit unit;
	int base, exponent; // a value is in units of base^exponent: 10^-9 seconds, say
	uint32_t bucket_size; // of a linear histogram
	size_t value_count; // 1, or a histogram's buckets, of which the last has no upper end
	const uint64_t *values;
};

struct veneer_vcpu_stats {
	unsigned index;
	const struct veneer_exit_stat *const *exits; // the reasons that there were
	const struct veneer_kvm_stat *const *kvm;
};

// Times in [from_ns, below_ns), which are at most 1/16 apart; the last bucket of all, which begins
// at 17 minutes, also has what took longer. It never changes: there are arrays of it.
struct veneer_latency_bucket {
	uint64_t from_ns, below_ns;
	uint64_t count;
};

struct veneer_latency {
	uint64_t count;
	uint64_t sum_ns;
	size_t bucket_count;
	const struct veneer_latency_bucket *buckets; // those that are not empty, ascending
};

struct veneer_queue_stats {
	unsigned index;
	uint64_t requests; // completed; packets of a network device
	uint64_t errors; // of these, those that failed; packets that were dropped
	uint64_t read_bytes; // that the guest received
	uint64_t written_bytes; // that it sent
	uint64_t batches; // times that the loop took requests from the queue
	uint64_t notifications; // that the driver sent and KVM passed on
	uint64_t wakeups; // times that the loop found one or more of these
	uint64_t interrupts; // sent to the driver
	const struct veneer_latency *latency; // from taken to done; NULL where none was timed
};

struct veneer_device_stats {
	const char *name; // as in messages: "blk0" is disk0, "net0" is net0
	uint32_t virtio_id; // virtio 1.2 section 5: 1 network, 2 block, 4 entropy
	const struct veneer_queue_stats *const *queues;
	const uint8_t *mac; // MAC address of a network device, 6 bytes, or NULL
	const char *key; // as in the configuration: "disk0"
};

struct veneer_stats {
	uint64_t time_ns; // CLOCK_MONOTONIC, when it was taken
	uint64_t running_ns; // that the guest has been VENEER_STATE_RUNNING, in all its lives
	const struct veneer_vcpu_stats *const *vcpus;
	const struct veneer_device_stats *const *devices;
	const struct veneer_kvm_stat *const *kvm; // of the VM
	enum veneer_state state; // at that time (1.1)
};

// Take a snapshot, between veneer_create() and veneer_destroy(), from any thread, in any state;
// nothing waits for it. It belongs to the caller, who gives it back with veneer_stats_free(), NULL
// allowed, which may be later than veneer_destroy(). -ENOMEM, or what reading KVM's gave.
VENEER_API int veneer_get_stats(
	struct veneer *vm, struct veneer_stats **stats, struct veneer_error *error);
VENEER_API void veneer_stats_free(struct veneer_stats *stats);

// The latency, in nanoseconds, that `percent` (0 to 100) of the requests did not exceed, within
// 1/32 of it. 0 for none.
VENEER_API uint64_t veneer_percentile(const struct veneer_latency *latency, double percent);

// What a cell's memory is made of.
struct veneer_backing {
	uint64_t size; // bytes
	uint64_t page_size; // 4 KiB, or of hugetlbfs 2 MiB or 1 GiB
	int node; // bound to, or -1
	bool transparent; // of 4 KiB, and the host's kernel makes huge pages of them where it can
	bool shared; // a memfd, else private
};

// What backs the memory of cell `cell`, from 0, in any state; a guest without cells has one.
// -EINVAL: there is no such cell.
VENEER_API int veneer_memory_backing(
	const struct veneer *vm, size_t cell, struct veneer_backing *backing, size_t size);

// Write the guest's flattened device tree to a file descriptor, in any state; blocks as long as
// `fd` does, and as a pause or a reset that another thread is in. Errors are those of write(2).
VENEER_API int veneer_write_dtb(const struct veneer *vm, int fd, struct veneer_error *error);

#ifdef __cplusplus
}
#endif

#endif
