// SPDX-License-Identifier: Apache-2.0
//
// What every virtio device and every transport share (virtio 1.2 sections 2.1 to 2.5 and 3.1): the
// device's state machine. A transport turns register accesses into calls of the vn_virtio_*()
// functions; a device is a table of functions which these call. Neither knows the other.
//
// Who owns what:
//   kick   the eventfd that says that a queue has new buffers. The transport opens it before the
//          guest runs, has KVM signal it, and closes it; the device (or a vhost back end it sets
//          up) reads it between start and stop.
//   call   the way back. The device asks the transport, which sets what its registers must show
//          and raises the interrupt it owns: one line for all queues, or a vector for each.
//   ring   the device's loop, from `start` to `stop`; nobody's otherwise.
#ifndef VN_VIRTIO_DEVICE_H
#define VN_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "core/memory.h"
#include "virtio/stats.h"
#include "virtio/virtqueue.h"

struct vn_virtio_device;

// Why a queue is taken from its loop.
enum vn_virtio_stop {
	VN_VIRTIO_RESET, // what is in flight ends, what has not begun is forgotten
	// It goes on from here later: what is in flight ends and the driver is told, what has not
	// begun is put back (vn_virtqueue_unpop()), and nothing that the driver can see is lost.
	VN_VIRTIO_PAUSE,
};

// A device's part. All are called with the device's lock held, on the thread that accessed the
// register (or that destroys the transport).
struct vn_virtio_ops {
	// Hand queue `index`, whose ring is set up, to the loop that serves it; buffers may be
	// waiting in it already. Returns when the loop has it.
	void (*start)(struct vn_virtio_device *device, unsigned index);

	// Take the queue back. Returns when none of its requests is in flight any more and the loop
	// no longer touches its ring or its kick.
	void (*stop)(struct vn_virtio_device *device, unsigned index, enum vn_virtio_stop why);

	// The device is reset and its queues have stopped: go back to the state that the driver
	// found. A queue that is reset alone takes with it nothing that the driver set through
	// another. NULL where there is no such state.
	void (*reset)(struct vn_virtio_device *device);

	// Access the configuration space; [offset, offset + size) is within `config_size`.
	// `config_write` may be NULL where nothing can be written.
	void (*config_read)(
		struct vn_virtio_device *device, uint32_t offset, void *data, uint32_t size);
	void (*config_write)(
		struct vn_virtio_device *device, uint32_t offset, const void *data, uint32_t size);

	// Guest memory is populated; no queue has started. NULL where that does not matter.
	void (*settle)(struct vn_virtio_device *device);

	// vn_virtio_interrupt_fd() of a queue may have changed. NULL where nobody asks for that.
	void (*interrupt_moved)(struct vn_virtio_device *device, unsigned index);
};

// A transport's part, embedded in it. The interrupts may be raised from any thread and take no
// lock; `reset` is called with the device's lock held, after all queues have stopped.
struct vn_virtio_transport {
	void (*interrupt_queue)(struct vn_virtio_transport *transport, unsigned index);
	void (*interrupt_config)(struct vn_virtio_transport *transport);

	// The eventfd that raises a queue's interrupt and does all that is to be done for it, or
	// -1; with the device's lock held. NULL where there is never one.
	int (*interrupt_fd)(struct vn_virtio_transport *transport, unsigned index);

	void (*reset)(struct vn_virtio_transport *transport);
};

// One queue as the driver has configured it. Guarded by the device's lock, but for the ring, which
// is the loop's from `start` to `stop`, and the kick.
struct vn_virtio_queue {
	uint16_t size_max; // set by the device, a power of two
	uint16_t size; // what the driver chose
	bool ready;
	bool started;
	bool paused; // to be started, from `avail_next` and `used_next` on, when the device resumes
	uint16_t avail_next, used_next;
	vn_gpa desc, avail, used;
	int kick; // the transport's eventfd
	struct vn_virtqueue ring;
	struct vn_queue_stats *stats; // the loop's, like the ring
};

// A device, embedded as the first member in that of its kind, which fills the first part and then
// calls vn_virtio_device_init(). Immutable after that: the first part, and `transport` once set.
struct vn_virtio_device {
	const char *name; // for messages
	uint32_t id; // virtio device ID
	const uint8_t *mac; // MAC address, 6 bytes; NULL where the device has none
	uint64_t features; // offered; the core adds what it does itself
	uint32_t config_size; // bytes
	unsigned queue_count;
	struct vn_virtio_queue *queues; // the device's array
	const struct vn_virtio_ops *ops;
	const struct vn_memory *memory;
	const struct vn_log *log;

	struct vn_virtio_transport *transport; // set by the transport before the guest runs
	pthread_mutex_t lock; // one register access at a time; the data path takes no lock
	uint64_t driver_features; // accepted; under the lock, fixed once FEATURES_OK is set
	atomic_uint status; // changed under the lock, but for DEVICE_NEEDS_RESET: any thread
	atomic_uint generation; // of the configuration space
	atomic_uint broken_count; // how often the driver broke it, over its whole life
	bool paused; // under the lock: no queue is started
};

int vn_virtio_device_init(struct vn_virtio_device *device, struct veneer_error *error);
void vn_virtio_device_destroy(struct vn_virtio_device *device);

// For a transport. Everything from here to the next heading is called between these two, so that
// the selectors which a transport keeps are under the same lock.
void vn_virtio_lock(struct vn_virtio_device *device);
void vn_virtio_unlock(struct vn_virtio_device *device);

// Feature bits 32 * word to 32 * word + 31: as offered, and as the driver accepts them. What it
// writes once FEATURES_OK is set is ignored.
uint32_t vn_virtio_offered(const struct vn_virtio_device *device, uint32_t word);
void vn_virtio_accept(struct vn_virtio_device *device, uint32_t word, uint32_t bits);

// The device status (section 2.1). Writing 0 resets the device and returns when nothing is in
// flight. Otherwise bits are only ever added; FEATURES_OK is refused (it stays clear) unless
// VIRTIO_F_VERSION_1 and nothing but offered features are accepted, and DRIVER_OK without it.
// DRIVER_OK starts the queues that are ready.
uint32_t vn_virtio_status(const struct vn_virtio_device *device);
void vn_virtio_set_status(struct vn_virtio_device *device, uint32_t status);

// What a driver does with status 0; takes the lock itself.
void vn_virtio_reset(struct vn_virtio_device *device);

// Take all queues from their loops, so that nothing touches guest memory and nothing is in flight;
// and give them back. While it is paused, queues that the driver starts wait, and a reset has
// nothing to wait for.
void vn_virtio_pause(struct vn_virtio_device *device);
void vn_virtio_resume(struct vn_virtio_device *device);

// The queue `index`, or NULL when the device has none such. A transport may change its size and
// addresses while it is not ready.
struct vn_virtio_queue *vn_virtio_queue(struct vn_virtio_device *device, uint32_t index);

// Make a queue ready: refused (it stays not ready) unless its size is a power of two that is at
// most size_max. Make it not ready: returns when nothing of it is in flight.
void vn_virtio_queue_enable(struct vn_virtio_device *device, uint32_t index);
void vn_virtio_queue_disable(struct vn_virtio_device *device, uint32_t index);

// Access the configuration space with any width. What lies outside reads as zero and takes no
// writes.
void vn_virtio_config_read(
	struct vn_virtio_device *device, uint64_t offset, void *data, uint32_t size);
void vn_virtio_config_write(
	struct vn_virtio_device *device, uint64_t offset, const void *data, uint32_t size);

// Guest memory is populated; before the guest runs.
void vn_virtio_settle(struct vn_virtio_device *device);

// What vn_virtio_interrupt_fd() says of a queue may have changed.
void vn_virtio_interrupt_moved(struct vn_virtio_device *device, unsigned index);

// For a device, on any thread, with or without the lock:

// Whether the driver accepted a feature; between start and stop.
bool vn_virtio_has(const struct vn_virtio_device *device, unsigned bit);

// Tell the driver that queue `index` has used buffers; between start and stop, on the queue's loop.
void vn_virtio_interrupt(struct vn_virtio_device *device, unsigned index);

// For those who serve a queue elsewhere: the eventfd to signal in place of vn_virtio_interrupt(),
// or -1 where only that will do. With the device's lock held; `interrupt_moved` says when to ask
// again.
int vn_virtio_interrupt_fd(const struct vn_virtio_device *device, unsigned index);

// On the queue's loop: `count` was read from its kick.
void vn_virtio_notified(struct vn_virtio_device *device, unsigned index, uint64_t count);

// On the queue's loop: have its kick fire once more, for what a turn's budget left undone.
void vn_virtio_kick_again(struct vn_virtio_device *device, unsigned index);

// The driver broke queue `index`: set DEVICE_NEEDS_RESET, tell the driver if it runs, and say why,
// once until the next reset. The device stops serving that queue.
void vn_virtio_broken(struct vn_virtio_device *device, unsigned index, const char *reason);

// The configuration space has changed: a new generation, and tell the driver if it runs.
void vn_virtio_config_changed(struct vn_virtio_device *device);

// What the device's queues have counted, from any thread. -ENOMEM.
int vn_virtio_stats(const struct vn_virtio_device *device, struct vn_arena *arena,
	const struct veneer_device_stats **stats);

#endif
