// SPDX-License-Identifier: Apache-2.0
//
// The ioctls of /dev/vhost-net. The kernel keeps the available index that it goes on from; the used
// index it finds in the ring.
#include "virtio/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/macros.h"

// Features that change how the kernel reads rings and buffers. The others are set on the TAP.
#define RING_FEATURES                                                                              \
	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_EVENT_IDX) |                              \
		BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_NET_F_MRG_RXBUF))

static int set_memory(int fd, const struct vn_memory *memory)
{
	struct vhost_memory *table =
		calloc(1, sizeof(*table) + memory->ram_count * sizeof(table->regions[0]));
	if (!table)
		return -ENOMEM;
	table->nregions = memory->ram_count;
	for (unsigned i = 0; i < memory->ram_count; i++) {
		const struct vn_ram *ram = &memory->ram[i];
		table->regions[i] = (struct vhost_memory_region){.guest_phys_addr = ram->start.addr,
			.memory_size = ram->size,
			.userspace_addr = (uintptr_t)ram->host};
	}
	int code = ioctl(fd, VHOST_SET_MEM_TABLE, table) < 0 ? -errno : 0;
	free(table);
	return code;
}

static int set_up(struct vn_vhost *vhost, const struct vn_memory *memory)
{
	if (ioctl(vhost->fd, VHOST_SET_OWNER) < 0 ||
		ioctl(vhost->fd, VHOST_GET_FEATURES, &vhost->features) < 0)
		return -errno;
	if ((vhost->features & RING_FEATURES) != RING_FEATURES)
		return -ENOTSUP;
	return set_memory(vhost->fd, memory);
}

int vn_vhost_open(
	struct vn_vhost *vhost, const struct vn_memory *memory, struct veneer_error *error)
{
	vhost->fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	if (vhost->fd < 0) {
		int code = -errno;
		return vn_fail(error, code, "network: vhost: cannot open /dev/vhost-net: %s%s",
			strerror(-code),
			code == -ENOENT || code == -ENODEV ? "; load it: modprobe vhost_net"
			: code == -EACCES ? "; usermod -aG kvm USER, or the group that it has"
					  : "");
	}
	int code = set_up(vhost, memory);
	if (code < 0) {
		vn_vhost_close(vhost);
		return vn_fail(error, code, "network: vhost: /dev/vhost-net cannot be set up: %s",
			strerror(-code));
	}
	return 0;
}

void vn_vhost_close(struct vn_vhost *vhost)
{
	if (vhost->fd >= 0)
		close(vhost->fd);
	vhost->fd = -1;
}

static int set_state(
	const struct vn_vhost *vhost, unsigned long request, unsigned queue, unsigned value)
{
	struct vhost_vring_state state = {.index = queue, .num = value};
	return ioctl(vhost->fd, request, &state) < 0 ? -errno : 0;
}

static int set_file(const struct vn_vhost *vhost, unsigned long request, unsigned queue, int fd)
{
	struct vhost_vring_file file = {.index = queue, .fd = fd};
	return ioctl(vhost->fd, request, &file) < 0 ? -errno : 0;
}

int vn_vhost_start(const struct vn_vhost *vhost, enum vn_vhost_queue queue, uint64_t features,
	const struct vn_virtqueue *ring, const struct vn_vhost_fds *fds)
{
	struct vhost_vring_addr rings = {.index = queue,
		.desc_user_addr = (uintptr_t)ring->desc,
		.avail_user_addr = (uintptr_t)ring->avail,
		.used_user_addr = (uintptr_t)ring->used};
	uint64_t accepted = features & RING_FEATURES;
	if (ioctl(vhost->fd, VHOST_SET_FEATURES, &accepted) < 0)
		return -errno;
	int code = set_state(vhost, VHOST_SET_VRING_NUM, queue, ring->size);
	if (code == 0)
		code = set_state(vhost, VHOST_SET_VRING_BASE, queue, ring->avail_next);
	if (code == 0 && ioctl(vhost->fd, VHOST_SET_VRING_ADDR, &rings) < 0)
		code = -errno;
	if (code == 0)
		code = set_file(vhost, VHOST_SET_VRING_ERR, queue, fds->error);
	if (code == 0)
		code = set_file(vhost, VHOST_SET_VRING_CALL, queue, fds->call);
	if (code == 0)
		code = set_file(vhost, VHOST_SET_VRING_KICK, queue, fds->kick);
	return code;
}

int vn_vhost_set_tap(const struct vn_vhost *vhost, enum vn_vhost_queue queue, int tap)
{
	return set_file(vhost, VHOST_NET_SET_BACKEND, queue, tap);
}

int vn_vhost_set_call(const struct vn_vhost *vhost, enum vn_vhost_queue queue, int call)
{
	return set_file(vhost, VHOST_SET_VRING_CALL, queue, call);
}

// None of these fails for a queue and descriptors that were accepted before.
void vn_vhost_stop(
	const struct vn_vhost *vhost, enum vn_vhost_queue queue, struct vn_virtqueue *ring)
{
	struct vhost_vring_state state = {.index = queue};
	vn_vhost_set_tap(vhost, queue, -1);
	if (ring && ioctl(vhost->fd, VHOST_GET_VRING_BASE, &state) == 0)
		vn_virtqueue_advance(ring, (uint16_t)state.num);
	set_file(vhost, VHOST_SET_VRING_KICK, queue, VHOST_FILE_UNBIND);
	set_file(vhost, VHOST_SET_VRING_CALL, queue, VHOST_FILE_UNBIND);
	set_file(vhost, VHOST_SET_VRING_ERR, queue, VHOST_FILE_UNBIND);
}
