// SPDX-License-Identifier: Apache-2.0
//
// Opening KVM and making the empty machine: a VM and its memory slots.
#include "core/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/macros.h"

int vn_kvm_ioctl(int fd, unsigned long request, void *argument)
{
	int result;
	do {
		result = ioctl(fd, request, argument);
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : result;
}

int vn_kvm_capability(const struct vn_kvm *kvm, int capability)
{
	int value = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, capability);
	return value < 0 ? 0 : value;
}

static int open_system(struct veneer_error *error)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		int code = -errno;
		if (code == -ENOENT)
			return vn_fail(error, code,
				"/dev/kvm does not exist: "
				"load the kvm module (modprobe kvm-intel or kvm-amd) "
				"and enable virtualization in the firmware");
		if (code == -EACCES)
			return vn_fail(error, code,
				"no permission to open /dev/kvm: "
				"add this user to its group (usermod -aG kvm USER) "
				"and log in again");
		return vn_fail(error, code, "cannot open /dev/kvm: %s", strerror(-code));
	}
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version < 0) {
		close(fd);
		return vn_fail(error, -ENODEV, "/dev/kvm is not KVM");
	}
	if (version != KVM_API_VERSION) {
		close(fd);
		return vn_fail(error, -ENOSYS, "/dev/kvm speaks API version %d, not %d", version,
			KVM_API_VERSION);
	}
	return fd;
}

// Everything that the run loop takes for granted.
static int check_capabilities(const struct vn_kvm *kvm, struct veneer_error *error)
{
	static const struct {
		int capability;
		const char *name;
	} needed[] = {
		{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
		{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
		{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
		{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
		{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!vn_kvm_capability(kvm, needed[i].capability))
			return vn_fail(error, -ENOSYS,
				"this host's KVM lacks %s: Linux 4.13 or later is needed",
				needed[i].name);
	return 0;
}

int vn_kvm_open(struct vn_kvm *kvm, struct veneer_error *error)
{
	*kvm = (struct vn_kvm){.system_fd = open_system(error), .vm_fd = -1};
	return kvm->system_fd < 0 ? kvm->system_fd : 0;
}

int vn_kvm_create(struct vn_kvm *kvm, struct veneer_error *error)
{
	int code = vn_kvm_ioctl(kvm->system_fd, KVM_CREATE_VM, NULL);
	if (code < 0)
		return vn_fail(error, code, "KVM cannot create a VM: %s", strerror(-code));
	kvm->vm_fd = code;
	code = vn_kvm_ioctl(kvm->system_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (code < (int)sizeof(struct kvm_run))
		return vn_fail(error, -ENOSYS, "KVM_GET_VCPU_MMAP_SIZE gives %d", code);
	kvm->run_size = (size_t)code;
	return check_capabilities(kvm, error);
}

static int set_slot(const struct vn_kvm *kvm, unsigned slot, const struct vn_ram *ram)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = ram->start.addr,
		.memory_size = ram->size,
		.userspace_addr = (uintptr_t)ram->host,
	};
	return vn_kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

int vn_kvm_map_memory(
	struct vn_kvm *kvm, const struct vn_memory *memory, struct veneer_error *error)
{
	for (; kvm->slots < memory->ram_count; kvm->slots++) {
		const struct vn_ram *ram = &memory->ram[kvm->slots];
		int code = set_slot(kvm, kvm->slots, ram);
		if (code < 0)
			return vn_fail(error, code, "KVM refuses guest memory at 0x%llx: %s",
				(unsigned long long)ram->start.addr, strerror(-code));
	}
	return 0;
}

void vn_kvm_destroy(struct vn_kvm *kvm)
{
	const struct vn_ram nothing = {.size = 0};
	while (kvm->slots > 0)
		set_slot(kvm, --kvm->slots, &nothing);
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->system_fd >= 0)
		close(kvm->system_fd);
	*kvm = (struct vn_kvm){.system_fd = -1, .vm_fd = -1};
}

int vn_kvm_enable(const struct vn_kvm *kvm, uint32_t capability, uint64_t value)
{
	struct kvm_enable_cap request = {.cap = capability, .args = {value}};
	return vn_kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &request);
}

int vn_kvm_set_halt_poll(const struct vn_kvm *kvm, int64_t ns, struct veneer_error *error)
{
	if (ns == -1)
		return 0;
	if (!vn_kvm_capability(kvm, KVM_CAP_HALT_POLL))
		return vn_fail(error, -ENOTSUP,
			"halt-poll-ns: this host's KVM lacks KVM_CAP_HALT_POLL (Linux 5.8); "
			"/sys/module/kvm/parameters/halt_poll_ns sets it for all guests");
	int code = vn_kvm_enable(kvm, KVM_CAP_HALT_POLL, (uint64_t)ns);
	return code < 0 ? vn_fail(error, code, "KVM_CAP_HALT_POLL: %s", strerror(-code)) : 0;
}
