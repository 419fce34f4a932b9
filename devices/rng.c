// SPDX-License-Identifier: Apache-2.0
//
// virtio-rng: its one queue is served on the loop that small devices share, whose thread fills the
// driver's buffers by getrandom(2). That never waits once the host's pool is ready, which is looked
// at when the device is made, so requests end in the turn that takes them and none is ever in
// flight.
#include "devices/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/macros.h"
#include "core/loops.h"

#define QUEUE_SIZE 64

// What a driver gets for one request, however much it asks for, and requests in one turn: the
// thread's share of a processor is bounded however large the buffers are. The used length says how
// much it was, and drivers ask again (section 5.4.6.1).
#define REQUEST_MAX 4096u
#define TURN_MAX    16

// Owned by the vm. Immutable once created, but for the queue's parts, which belong to the loop from
// start to stop.
struct vn_rng {
	struct vn_virtio_device device;
	char name[16];
	struct vn_virtio_queue queue;
	struct vn_loops *loops;
	struct vn_ioloop *loop;
	struct vn_ioloop_event kick;
	struct vn_ioloop_hook hook;
	struct iovec iov[QUEUE_SIZE];
	bool stopping;
	enum vn_virtio_stop why; // it stops
};

static struct vn_rng *from_device(struct vn_virtio_device *device)
{
	return container_of(device, struct vn_rng, device);
}

// Fill buffers from the front, REQUEST_MAX bytes of them at most; how many were written.
static uint32_t fill(const struct vn_chain *chain)
{
	uint32_t written = 0;
	for (unsigned i = 0; i < chain->writable && written < REQUEST_MAX; i++) {
		size_t want = chain->iov[i].iov_len;
		if (want > REQUEST_MAX - written)
			want = REQUEST_MAX - written;
		ssize_t got = getrandom(chain->iov[i].iov_base, want, 0);
		if (got < 0)
			return written;
		written += (uint32_t)got;
		if ((size_t)got < want)
			return written;
	}
	return written;
}

// 1 when a request was carried out, 0 when there is none, or -EPROTO.
static int take(struct vn_rng *rng)
{
	struct vn_virtqueue *ring = &rng->queue.ring;
	uint16_t head;
	int code = vn_virtqueue_pop(ring, &head);
	if (code <= 0)
		return code;
	struct vn_chain chain = {.iov = rng->iov, .iov_max = QUEUE_SIZE};
	code = vn_virtqueue_chain(ring, head, &chain);
	if (code < 0)
		return code;
	if (chain.readable > 0)
		return vn_virtqueue_break(
			ring, "chain %u has a buffer that the device cannot write", head);
	uint32_t written = fill(&chain);
	vn_virtqueue_push(ring, head, written);
	vn_counter_add(&rng->queue.stats->requests, 1);
	vn_counter_add(&rng->queue.stats->read_bytes, written);
	return 1;
}

// What the budget leaves undone has its turn by a kick of our own.
static void serve(struct vn_rng *rng)
{
	struct vn_virtqueue *ring = &rng->queue.ring;
	unsigned budget = TURN_MAX;
	vn_virtqueue_disable_notify(ring);
	do {
		while (budget > 0 && take(rng) == 1)
			budget--;
	} while (budget > 0 && vn_virtqueue_enable_notify(ring));
	if (budget < TURN_MAX)
		vn_counter_add(&rng->queue.stats->batches, 1);
	if (budget == 0)
		vn_virtio_kick_again(&rng->device, 0);
	if (vn_virtqueue_is_broken(ring))
		vn_virtio_broken(&rng->device, 0, ring->broken);
}

static void flush(struct vn_ioloop_hook *hook)
{
	struct vn_rng *rng = container_of(hook, struct vn_rng, hook);
	if (!rng->stopping && !vn_virtqueue_is_broken(&rng->queue.ring))
		serve(rng);
	if (vn_virtqueue_publish(&rng->queue.ring))
		vn_virtio_interrupt(&rng->device, 0);
}

// The flush at the end of this turn looks at the ring anyway.
static void kicked(struct vn_ioloop_event *event)
{
	struct vn_rng *rng = container_of(event, struct vn_rng, kick);
	vn_virtio_notified(&rng->device, 0, event->count);
}

static void start_on_loop(void *arg)
{
	struct vn_rng *rng = arg;
	rng->stopping = false;
	vn_ioloop_add_hook(rng->loop, &rng->hook);
	vn_ioloop_watch(rng->loop, &rng->kick);
	flush(&rng->hook);
}

static void start(struct vn_virtio_device *device, unsigned index)
{
	(void)index;
	struct vn_rng *rng = from_device(device);
	rng->kick.fd = rng->queue.kick;
	vn_ioloop_call(rng->loop, start_on_loop, rng);
}

static void stop_on_loop(void *arg)
{
	struct vn_rng *rng = arg;
	rng->stopping = true;
	vn_ioloop_unwatch(&rng->kick);
	if (rng->why == VN_VIRTIO_PAUSE)
		flush(&rng->hook);
	vn_ioloop_remove_hook(rng->loop, &rng->hook);
}

static void stop(struct vn_virtio_device *device, unsigned index, enum vn_virtio_stop why)
{
	(void)index;
	struct vn_rng *rng = from_device(device);
	rng->why = why;
	vn_ioloop_call(rng->loop, stop_on_loop, rng);
}

// There is no configuration space, so nothing reads it.
static const struct vn_virtio_ops rng_ops = {.start = start, .stop = stop};

// Distributions' kernels draw on one while they boot; the built-in guest has no use for it.
static bool complete(void *values, const struct vn_device_guest *guest)
{
	struct vn_rng_options *options = values;
	if (options->mode == VN_RNG_DEFAULT)
		options->mode = guest->has_kernel ? VN_RNG_ON : VN_RNG_OFF;
	return options->mode == VN_RNG_ON;
}

static int create(struct vn_virtio_device **device, const struct vn_device_env *env, void *values,
	struct veneer_error *error)
{
	char probe;
	(void)values;
	if (getrandom(&probe, sizeof(probe), GRND_NONBLOCK) < 0)
		return vn_fail(error, -errno, "%s: the host has no random numbers yet: %s",
			env->name, strerror(errno));
	struct vn_rng *rng = calloc(1, sizeof(*rng));
	if (!rng)
		return vn_fail(error, -ENOMEM, "%s: no memory", env->name);
	strncpy(rng->name, env->name, sizeof(rng->name) - 1);
	rng->queue.size_max = QUEUE_SIZE;
	rng->kick.fire = kicked;
	rng->hook.flush = flush;
	rng->device = (struct vn_virtio_device){.name = rng->name,
		.id = VIRTIO_ID_RNG,
		.queue_count = 1,
		.queues = &rng->queue,
		.ops = &rng_ops,
		.memory = env->memory,
		.log = env->log};
	int code = vn_virtio_device_init(&rng->device, error);
	if (code < 0)
		goto free_rng;
	rng->loops = env->loops;
	code = vn_loops_take(rng->loops, rng->name, false, &rng->loop, error);
	if (code < 0)
		goto destroy_device;
	*device = &rng->device;
	return 0;

destroy_device:
	vn_virtio_device_destroy(&rng->device);
free_rng:
	free(rng);
	return code;
}

static void destroy(struct vn_virtio_device *device)
{
	struct vn_rng *rng = from_device(device);
	vn_loops_give_back(rng->loops, rng->loop);
	vn_virtio_device_destroy(device);
	free(rng);
}

static const char *const MODES[] = {[VN_RNG_ON] = "on", [VN_RNG_OFF] = "off", NULL};

static const struct vn_prop props[] = {
	{"mode", "on|off", "Whether the guest has one.",
		"on with --kernel, off for the built-in guest", &vn_prop_word,
		VN_PROP_FIELD(struct vn_rng_options, mode), .words = MODES, .flags = VN_PROP_FIRST},
	{.name = NULL},
};

static const struct vn_rng_options defaults = {VN_RNG_DEFAULT};

static const struct vn_option option = {.name = "rng",
	.help = "A virtio entropy device.",
	.props = props,
	.size = sizeof(struct vn_rng_options),
	.defaults = &defaults};

const struct vn_device_type vn_rng_type = {.option = &option,
	.kind = "rng",
	.complete = complete,
	.create = create,
	.destroy = destroy};
