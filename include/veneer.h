// SPDX-License-Identifier: Apache-2.0
//
// Veneer's embedding interface: describe a guest in a plain structure, create it, start it, wait
// for its end. This header needs nothing but libc and is all that the `veneer` program itself uses.
//
//     struct veneer_config config = VENEER_CONFIG_INIT;
//     struct veneer_error error;
//     struct veneer *vm;
//     config.kernel = "vmlinuz";
//     if (veneer_create(&vm, &config, &error) < 0)
//             ...error.message says why, in one line...
//     veneer_start(vm, &error);
//     veneer_wait(vm, &result);
//     veneer_destroy(vm);
//
// The library prints nothing, installs no signal handler, never exits and has no global state: any
// number of guests may live in one process. Functions return 0 or a negative errno, and those that
// take a `struct veneer_error` have filled it whenever they fail.
#ifndef VENEER_H
#define VENEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VENEER_API __attribute__((visibility("default")))

#define VENEER_CPUS_MAX      64
#define VENEER_QUEUES_MAX    16
#define VENEER_HOST_CPUS_MAX 1024
#define VENEER_POLL_MAX      10000 // microseconds
#define VENEER_POLL_OFF      ((unsigned)-1)
#define VENEER_CELLS_MAX     8

// A person-readable line, without a newline, that says what is wrong and what mends it.
struct veneer_error {
	char message[512];
};

// A set of the host's CPUs: CPU N is bit N % 64 of bits[N / 64].
struct veneer_cpuset {
	uint64_t bits[VENEER_HOST_CPUS_MAX / 64];
};

enum veneer_cache {
	VENEER_CACHE_WRITEBACK, // host page cache; the guest's flush reaches the disk
	VENEER_CACHE_NONE, // O_DIRECT; the guest's flush reaches the disk
	VENEER_CACHE_WRITETHROUGH, // host page cache; every write is on the disk when it completes
	VENEER_CACHE_DIRECTSYNC, // O_DIRECT; every write is on the disk when it completes
	VENEER_CACHE_UNSAFE, // host page cache; the guest's flush does nothing
};

// What becomes of a write of zeroes and nothing else.
enum veneer_detect_zeroes {
	VENEER_DETECT_ZEROES_OFF, // a write like any other
	VENEER_DETECT_ZEROES_ON, // the blocks are zeroed, and keep their room on the host
	VENEER_DETECT_ZEROES_UNMAP, // the blocks are zeroed, and their room may be given back
};

#define VENEER_BLOCK_SIZE_MIN 512
#define VENEER_BLOCK_SIZE_MAX 4096

// One virtio-blk device on a raw file or block device.
struct veneer_disk {
	const char *path;
	const char *serial; // at most 20 bytes, or NULL
	enum veneer_cache cache;
	bool readonly;
	unsigned queues; // 1 to VENEER_QUEUES_MAX, or 0: one per vCPU up to 4
	// For how many microseconds at most, up to VENEER_POLL_MAX, a queue is looked at before the
	// guest is asked to notify of more; how long it is follows use. 0: the default, which is
	// 50.
	unsigned poll_us; // or VENEER_POLL_OFF
	enum veneer_detect_zeroes detect_zeroes;
	// Limits, shared by the disk's queues: reads, writes, discards and writes of zeroes a
	// second, and bytes read and written a second, at least 1024. 0: none. `..._burst`: how
	// many may come at once after a pause; 0: a tenth of a second's worth.
	uint64_t iops, iops_burst;
	uint64_t bps, bps_burst;
	bool sqpoll; // a thread of the kernel takes each queue's submissions, and needs a CPU
	bool iopoll; // completions are looked for at the device: O_DIRECT, and polled queues
	// What the guest takes for the size of a block: 512, 1024, 2048 or 4096 bytes. 0: 512 for a
	// file, and its own for a block device.
	uint64_t block_size;
	// Take the bytes for the disk's own although they look like an image in another format
	// (qcow2, VMDK...), which is refused without this.
	bool raw;
};

enum veneer_net_backend {
	VENEER_NET_TAP, // an existing TAP interface of the host: `tap`
	VENEER_NET_USER, // through the host's own sockets, without privileges
};

// Who carries packets between queues and a TAP interface.
enum veneer_vhost {
	// The host's kernel (vhost-net), where this user may open it and there is no limit; else
	// Veneer.
	VENEER_VHOST_AUTO,
	VENEER_VHOST_ON,
	VENEER_VHOST_OFF,
};

// One virtio-net device.
struct veneer_net {
	enum veneer_net_backend backend;
	const char *tap; // the interface's name
	const char *const
		*forwards; // VENEER_NET_USER: "tcp:HOSTADDR:HOSTPORT:GUESTPORT" or "udp:..."
	size_t forward_count;
	// All zero: a locally administered one, from veneer_config's `identity`; another for each
	// device.
	uint8_t mac[6];
	unsigned queues; // pairs, 1 to VENEER_QUEUES_MAX, TAP only; 0: 1
	unsigned mtu; // bytes, 0: the interface's own
	enum veneer_vhost vhost; // TAP only
	// Limits, each way, all queues together, and not with VENEER_VHOST_ON: packets a second,
	// and bytes a second, at least 1024. 0: none. `..._burst`: how many may pass at once after
	// a pause, 0: a tenth of a second's worth.
	uint64_t pps, pps_burst;
	uint64_t bps, bps_burst;
	unsigned poll_us; // as a disk's, of the queues from which the guest sends; not with vhost
};

enum veneer_transport {
	VENEER_TRANSPORT_DEFAULT, // PCI, but MMIO for the guest that is built in
	VENEER_TRANSPORT_PCI,
	VENEER_TRANSPORT_MMIO,
};

struct veneer_memory {
	// Bytes; a multiple of the page size in use, and at least what the kernel's image takes, 64
	// MiB for the guest that is built in.
	uint64_t size;
	uint64_t hugepage_size; // 0: transparent huge pages; else 2 MiB or 1 GiB from hugetlbfs
	int node; // NUMA node to bind strictly to, or -1
	bool prealloc; // touch every page before the guest starts
	bool lock; // all of it in memory, never swapped
	bool merge; // let KSM merge its pages with equal ones; not with huge pages
};

// A NUMA node of the guest: some of its CPUs and the memory that is near to them.
struct veneer_cell {
	struct veneer_cpuset cpus; // of the guest's; every one is in exactly one cell
	uint64_t size; // bytes; a multiple of the page size in use
	uint64_t hugepage_size; // as in veneer_memory; 0: what that says
	int node; // of the host, to bind strictly to; -1: what veneer_memory says
};

// What a cell's memory is made of.
struct veneer_backing {
	uint64_t size; // bytes
	uint64_t page_size; // 4 KiB, or of hugetlbfs 2 MiB or 1 GiB
	int node; // bound to, or -1
	bool transparent; // of 4 KiB, and the host's kernel makes huge pages of them where it can
	bool shared; // a memfd, else private
};

// What the guest's CPUs are to each other; their product is the number of CPUs. All 0: one socket
// with a core for each CPU, or as many as there need be for none to be in two cells.
struct veneer_topology {
	unsigned sockets;
	unsigned dies; // of a socket
	unsigned cores; // of a die
	unsigned threads; // of a core
};

// What happens on the host's CPU when the guest's has nothing to do. The last two leave it with the
// guest, so they are for vCPUs that have a host CPU each to themselves.
enum veneer_idle {
	VENEER_IDLE_HALT, // KVM gives it to others
	VENEER_IDLE_POLL, // HLT and PAUSE are the guest's own: no exit, no wake-up through the host
	VENEER_IDLE_MWAIT, // as are MONITOR and MWAIT, so that it can choose C-states
};

// On which of the host's CPUs each thread runs. An empty set leaves a thread where the one that
// makes it runs.
struct veneer_placement {
	struct veneer_cpuset vcpus[VENEER_CPUS_MAX];
	struct veneer_cpuset iothreads; // one CPU for each of the devices' threads, in turn
	struct veneer_cpuset vmm; // the library's other threads; the program's are its own to place
	unsigned fifo; // the vCPU threads' priority in SCHED_FIFO, 1 to 99; 0: the maker's policy
};

enum veneer_severity { VENEER_INFO, VENEER_WARNING };

// Called from any of the library's threads; must not call back into the library.
typedef void (*veneer_message_fn)(void *opaque, enum veneer_severity severity, const char *text);

// How many bytes of guest memory have been touched, of how many that will be. Called a few times a
// second by veneer_create(), in its caller's thread. False gives up: veneer_create() then fails
// with -ECANCELED.
typedef bool (*veneer_progress_fn)(void *opaque, uint64_t done, uint64_t total);

// Everything that describes a guest. Strings and arrays are copied by veneer_create(). Begin with
// VENEER_CONFIG_INIT, in C99 or later and C++11 or later: it fills in the sizes and what is not 0
// by default. Fields are only ever added at the end; `struct_size` tells the library which ones the
// caller knows.
struct veneer_config {
	size_t struct_size;
	const char *kernel; // ELF or bzImage; NULL: the guest that is built in
	const char *initrd; // or NULL
	const char *cmdline; // or NULL
	unsigned cpus; // 1 to VENEER_CPUS_MAX
	bool pit; // an i8254 timer, for kernels that cannot do without
	struct veneer_memory memory;
	const struct veneer_disk *disks;
	size_t disk_count;
	size_t disk_struct_size; // as struct_size, of each of `disks`
	const struct veneer_net *nets;
	size_t net_count;
	size_t net_struct_size;
	bool rng; // a virtio-rng device, fed by getrandom(2)
	enum veneer_transport transport;
	int serial_in; // file descriptor that feeds the serial port, or -1
	// File descriptor that the serial port writes to, at a file's end; or -1: discarded. One
	// that blocks makes the guest's driver wait, but no vCPU. What is refused (a full disk, a
	// pipe without a reader) is lost: `message` gets a warning then, and one with the count
	// once output succeeds again, or from veneer_destroy().
	int serial_out;
	veneer_message_fn message; // or NULL
	void *message_opaque;
	struct veneer_topology topology;
	enum veneer_idle idle;
	// For how many nanoseconds at most KVM waits for an interrupt before it gives a halted
	// vCPU's host CPU to others; -1: the host's own default. VENEER_IDLE_HALT only.
	int64_t halt_poll_ns;
	const struct veneer_cell *cells; // without any, the guest is not told of NUMA
	size_t cell_count; // up to VENEER_CELLS_MAX; their sizes count then, memory.size does not
	size_t cell_struct_size;
	veneer_progress_fn progress; // or NULL
	void *progress_opaque;
	// What processor the guest sees: "MODEL[,+feature][,-feature]...", or NULL: "host", all
	// that this host's KVM offers. veneer_cpu_models() lists models and features.
	const char *cpu;
	unsigned tsc_khz; // frequency of the guest's time-stamp counter; 0: the host's
	const struct veneer_placement *placement; // or NULL: no thread has a place of its own
	size_t placement_struct_size;
	// What tells this guest from others on this host, such as its name: a network device
	// without `mac` has always the same for the same identity and TAP interface (or number,
	// without one). NULL: random ones, others for each veneer_create().
	const char *identity;
};

// Every field, in order: designators in C++17 are an extension.
// clang-format off
#define VENEER_CONFIG_INIT { \
	sizeof(struct veneer_config), \
	NULL, NULL, NULL, /* kernel, initrd, cmdline */ \
	1, false, /* cpus, pit */ \
	{ (uint64_t)256 << 20, 0, -1, false, false, false }, /* memory: size, hugepage_size, node */ \
	NULL, 0, sizeof(struct veneer_disk), \
	NULL, 0, sizeof(struct veneer_net), \
	false, VENEER_TRANSPORT_DEFAULT, /* rng */ \
	-1, -1, NULL, NULL, /* serial_in, serial_out, message */ \
	{ 0, 0, 0, 0 }, VENEER_IDLE_HALT, -1, /* topology, idle, halt_poll_ns */ \
	NULL, 0, sizeof(struct veneer_cell), \
	NULL, NULL, /* progress */ \
	NULL, 0, /* cpu, tsc_khz */ \
	NULL, sizeof(struct veneer_placement), \
	NULL, /* identity */ }
// clang-format on

enum veneer_end {
	VENEER_END_POWEROFF, // the guest switched itself off
	VENEER_END_RESET, // the guest asked for a reset
	VENEER_END_EXIT, // the guest wrote to the debug-exit port: `value`
	VENEER_END_CRASH, // triple fault or KVM internal error: `message`
	VENEER_END_STOPPED, // veneer_stop()
	VENEER_END_FAILED, // the host could not go on: `message`
	// The guest's kernel said by pvpanic that it panicked: `message`. It was given the time for
	// its last words: until it reset, was stopped, or had printed nothing for a second. A
	// kernel without a driver for pvpanic cannot say it, so that its panic is the reset that
	// follows, if any does.
	VENEER_END_PANIC,
};

struct veneer_result {
	enum veneer_end end;
	uint32_t value; // what the guest wrote to the debug-exit port
	char message[2048]; // lines, for a person; empty for ordinary ends
};

struct veneer;

// The library's version, such as "0.1.0"; static.
VENEER_API const char *veneer_version(void);

// A list such as "0-3,8", as the kernel writes it too; "" is the empty set. With the line: -EINVAL
// for what is no list, -ERANGE for one with a number of VENEER_HOST_CPUS_MAX or more.
VENEER_API int veneer_cpuset_parse(
	struct veneer_cpuset *set, const char *list, struct veneer_error *error);

// The shortest such list. The length of all of it, without the final 0, as snprintf(3) says it;
// `text` gets whole ranges only, as many as fit in `size` bytes.
VENEER_API size_t veneer_cpuset_format(const struct veneer_cpuset *set, char *text, size_t size);

// Write what `cpu` can name, one model a line and then the features, each with a mark of whether
// this host can run it, to a file descriptor.
VENEER_API int veneer_cpu_models(int fd, struct veneer_error *error);

// What would run where; owned by the caller.
struct veneer_plan {
	struct veneer_placement placement; // for veneer_config
	char *text; // lines, for a person: a table, and why; with a final newline
	char *summary; // the same in one line, without one
};

// Look at the host's CPUs and plan for the guest that `config` describes. With `choose`, vCPUs get
// CPUs, and so do I/O threads and others unless config->placement has some for them; without, the
// plan is config->placement. Nothing is made or moved; veneer_create() takes the placement. On
// success *plan is given back with veneer_plan_free(). -ENOSPC: the host lacks CPUs; -EINVAL: it
// has not those that are named. From any thread; where that one may run counts.
VENEER_API int veneer_plan_make(struct veneer_plan **plan, const struct veneer_config *config,
	bool choose, struct veneer_error *error);

// NULL is allowed.
VENEER_API void veneer_plan_free(struct veneer_plan *plan);

// Build a guest: memory, vCPUs, devices, loaded kernel. Nothing runs yet. On success *vm belongs
// to the caller, who gives it back with veneer_destroy(). On failure nothing is left behind.
VENEER_API int veneer_create(
	struct veneer **vm, const struct veneer_config *config, struct veneer_error *error);

// Start the vCPU and I/O threads, once for each guest. After a failure only veneer_destroy() may
// follow.
VENEER_API int veneer_start(struct veneer *vm, struct veneer_error *error);

// A file descriptor that becomes readable when the guest has ended, for poll(2). It belongs to
// the guest: the caller neither reads nor closes it.
VENEER_API int veneer_fd(const struct veneer *vm);

// Wait for the guest's end, and for its vCPU threads to have left it and its serial output to be
// written. Any number of threads may wait.
VENEER_API void veneer_wait(struct veneer *vm, struct veneer_result *result);

// Ask a running guest to stop at once, as if its power were cut. From any thread, any number of
// times; the first end of a guest is the one that counts.
VENEER_API void veneer_stop(struct veneer *vm);

// For a program's handler of SIGBUS (SA_SIGINFO; the library installs none), with its si_code and
// si_addr: the host took a page of the guest's memory away, which a device was about to use: a
// limit of huge pages, or a hardware error. True: the page is that of this guest, and now an empty
// one, so that the handler returns and the thread goes on, while veneer_fd() becomes readable and
// veneer_wait() returns VENEER_END_FAILED with a message that names it. False: the signal is not
// about this guest. Async-signal-safe; between veneer_create() and the end of veneer_destroy(),
// whose own threads may be the ones that call it.
VENEER_API bool veneer_handle_sigbus(struct veneer *vm, int code, void *address);

// Press the guest's power button once, from any thread: a kernel that knows ACPI then powers off in
// its own time. One that is booting is told when its driver starts; but it forgets a press for
// which nothing in its user space listens yet, so repeat it until the guest ends. -ENOTCONN when
// the guest does not run.
VENEER_API int veneer_press_power_button(struct veneer *vm);

// Look at the size of disk `index` again and tell the guest when it has changed; from any thread.
VENEER_API int veneer_refresh_disk(struct veneer *vm, size_t index, struct veneer_error *error);

// What a guest has done since veneer_create(): a snapshot. Lists of pointers end with NULL, and a
// library of a later version may have added fields at the end of what they point to.

// How often a vCPU left the guest for user space: `reason` is KVM's exit reason in lower case
// ("io", "mmio", "shutdown", "internal_error"...), or "signal" where KVM_RUN was interrupted.
struct veneer_exit_stat {
	const char *reason;
	uint64_t count;
};

enum veneer_kvm_kind {
	VENEER_KVM_CUMULATIVE, // only grows
	VENEER_KVM_INSTANT, // a state, such as pages that are mapped
	VENEER_KVM_PEAK, // the largest there was
	VENEER_KVM_LINEAR_HISTOGRAM, // values[i]: how many in [i, i + 1) * bucket_size
	VENEER_KVM_LOG_HISTOGRAM, // values[0]: how many 0; values[i]: in [2^(i - 1), 2^i)
};

enum veneer_kvm_unit {
	VENEER_KVM_NONE, // events
	VENEER_KVM_BYTES,
	VENEER_KVM_SECONDS,
	VENEER_KVM_CYCLES,
	VENEER_KVM_BOOLEAN,
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
// at 17 minutes, also has what took longer.
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
	const char *name; // as in messages: "blk0"
	uint32_t virtio_id; // virtio 1.2 section 5: 1 network, 2 block, 4 entropy
	const struct veneer_queue_stats *const *queues;
	const uint8_t *mac; // MAC address of a network device, 6 bytes, or NULL
};

struct veneer_stats {
	uint64_t time_ns; // CLOCK_MONOTONIC, when it was taken
	uint64_t running_ns; // from the guest's start to then, or to its end
	const struct veneer_vcpu_stats *const *vcpus;
	const struct veneer_device_stats *const *devices;
	const struct veneer_kvm_stat *const *kvm; // of the VM
};

// Take a snapshot, between veneer_create() and veneer_destroy(), from any thread, while the guest
// runs or after; nothing waits for it. It belongs to the caller, who gives it back with
// veneer_stats_free(), NULL allowed, which may be later than veneer_destroy().
VENEER_API int veneer_stats(
	struct veneer *vm, struct veneer_stats **stats, struct veneer_error *error);
VENEER_API void veneer_stats_free(struct veneer_stats *stats);

// The latency, in nanoseconds, that `percent` (0 to 100) of the requests did not exceed, within
// 1/32 of it. 0 for none.
VENEER_API uint64_t veneer_percentile(const struct veneer_latency *latency, double percent);

// What backs the memory of cell `cell`; a guest without cells has one. -EINVAL: there is no such
// cell.
VENEER_API int veneer_memory_backing(
	const struct veneer *vm, size_t cell, struct veneer_backing *backing);

// Write the guest's flattened device tree to a file descriptor. After veneer_create().
VENEER_API int veneer_write_dtb(const struct veneer *vm, int fd, struct veneer_error *error);

// Stop the guest if it still runs, drain its I/O and give everything back. NULL is allowed. The
// last call for this guest: no other thread may still be in one, veneer_wait() among them.
VENEER_API void veneer_destroy(struct veneer *vm);

#ifdef __cplusplus
}
#endif

#endif
