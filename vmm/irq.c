// SPDX-License-Identifier: Apache-2.0
//
// irqfd and ioeventfd: the two ends of the data path that need no exit to user space.
#include "vmm/irq.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int irqfd(const struct vn_irq *irq, uint32_t flags)
{
	struct kvm_irqfd request = {.fd = (uint32_t)irq->fd, .gsi = irq->gsi, .flags = flags};
	return vn_kvm_ioctl(irq->kvm->vm_fd, KVM_IRQFD, &request);
}

int vn_irq_open(
	struct vn_irq *irq, const struct vn_kvm *kvm, uint32_t gsi, struct veneer_error *error)
{
	*irq = (struct vn_irq){.kvm = kvm, .gsi = gsi};
	irq->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (irq->fd < 0)
		return vn_fail(
			error, -errno, "no eventfd for interrupt %u: %s", gsi, strerror(errno));
	if (!kvm)
		return 0;
	int code = irqfd(irq, 0);
	if (code < 0) {
		close(irq->fd);
		irq->fd = -1;
		return vn_fail(error, code, "KVM_IRQFD for interrupt %u: %s", gsi, strerror(-code));
	}
	return 0;
}

void vn_irq_close(struct vn_irq *irq)
{
	if (irq->fd < 0)
		return;
	if (irq->kvm)
		irqfd(irq, KVM_IRQFD_FLAG_DEASSIGN);
	close(irq->fd);
	irq->fd = -1;
}

void vn_irq_raise(const struct vn_irq *irq)
{
	// Fails only when the counter is full (EAGAIN), and then the interrupt is pending anyway.
	uint64_t one = 1;
	ssize_t written = write(irq->fd, &one, sizeof(one));
	(void)written;
}

static int ioeventfd(const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd, uint32_t flags)
{
	struct kvm_ioeventfd request = {
		.datamatch = value,
		.addr = gpa.addr,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags,
	};
	return vn_kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &request);
}

int vn_ioeventfd_add(
	const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd, struct veneer_error *error)
{
	if (!kvm)
		return 0;
	int code = ioeventfd(kvm, gpa, value, fd, 0);
	if (code < 0)
		return vn_fail(error, code, "KVM_IOEVENTFD at 0x%llx: %s",
			(unsigned long long)gpa.addr, strerror(-code));
	return 0;
}

void vn_ioeventfd_remove(const struct vn_kvm *kvm, vn_gpa gpa, uint32_t value, int fd)
{
	if (kvm)
		ioeventfd(kvm, gpa, value, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
