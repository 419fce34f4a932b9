// SPDX-License-Identifier: Apache-2.0
//
// Opening KVM and making the empty machine: the memory slots, the pages that Intel hosts need, and
// interrupt chips.
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/x86/map.h"

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
				"/dev/kvm does not exist: load the kvm module (modprobe kvm-intel "
				"or "
				"kvm-amd) and enable virtualization in the firmware");
		if (code == -EACCES)
			return vn_fail(error, code,
				"no permission to open /dev/kvm: add this user to its group "
				"(usermod -aG kvm USER) and log in again");
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
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
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

// Three pages for Intel's real-mode emulation, and one for its identity map; both lie in the hole. Other
// hosts ignore them.
static int reserve_pages(const struct vn_kvm *kvm, struct veneer_error *error)
{
	uint64_t identity = VN_MAP_IDENTITY;
	int code = vn_kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (code < 0)
		return vn_fail(error, code, "KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(-code));
	code = vn_kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)VN_MAP_TSS);
	if (code < 0)
		return vn_fail(error, code, "KVM_SET_TSS_ADDR: %s", strerror(-code));
	return 0;
}

// Mask all lines of both 8259s, as firmware leaves them. KVM creates them with every line unmasked and
// vector base 0, and the boot CPU's LINT0 open to them: a line raised before the guest has programmed
// them, which it never does on a machine with hardware-reduced ACPI, would arrive as an exception. ICW1,
// with which a driver begins, clears the masks.
static int mask_pics(const struct vn_kvm *kvm, struct veneer_error *error)
{
	static const uint32_t pics[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE};
	for (size_t i = 0; i < sizeof(pics) / sizeof(pics[0]); i++) {
		struct kvm_irqchip chip = {.chip_id = pics[i]};
		int code = vn_kvm_ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chip);
		if (code < 0)
			return vn_fail(error, code, "KVM_GET_IRQCHIP: %s", strerror(-code));
		chip.chip.pic.imr = 0xff;
		code = vn_kvm_ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &chip);
		if (code < 0)
			return vn_fail(error, code, "KVM_SET_IRQCHIP: %s", strerror(-code));
	}
	return 0;
}

static int create_pit(const struct vn_kvm *kvm, struct veneer_error *error)
{
	struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int code = vn_kvm_ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &config);
	return code < 0 ? vn_fail(error, code, "KVM_CREATE_PIT2: %s", strerror(-code)) : 0;
}

int vn_kvm_create_chips(const struct vn_kvm *kvm, bool pit, struct veneer_error *error)
{
	int code = reserve_pages(kvm, error);
	if (code < 0)
		return code;
	code = vn_kvm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);
	if (code < 0)
		return vn_fail(error, code, "KVM_CREATE_IRQCHIP: %s", strerror(-code));
	code = mask_pics(kvm, error);
	return code == 0 && pit ? create_pit(kvm, error) : code;
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

static int enable(const struct vn_kvm *kvm, uint32_t capability, uint64_t value)
{
	struct kvm_enable_cap request = {.cap = capability, .args = {value}};
	return vn_kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &request);
}

// KVM offers all but PAUSE only where nothing is wrong with that: HLT not on CPUs whose sibling thread
// could be made to mispredict by it, MWAIT not where it stops the local APIC's timer.
int vn_kvm_set_idle(const struct vn_kvm *kvm, enum veneer_idle idle, struct veneer_error *error)
{
	if (idle == VENEER_IDLE_HALT)
		return 0;
	if (idle != VENEER_IDLE_POLL && idle != VENEER_IDLE_MWAIT)
		return vn_fail(error, -EINVAL, "idle mode %d is none of veneer.h", idle);
	static const struct {
		uint64_t bit;
		const char *name;
	} exits[] = {{KVM_X86_DISABLE_EXITS_HLT, "HLT"}, {KVM_X86_DISABLE_EXITS_PAUSE, "PAUSE"},
		{KVM_X86_DISABLE_EXITS_MWAIT, "MWAIT"}};
	const char *name = idle == VENEER_IDLE_MWAIT ? "mwait" : "poll";
	unsigned count = idle == VENEER_IDLE_MWAIT ? 3 : 2;
	uint64_t offered = (uint64_t)vn_kvm_capability(kvm, KVM_CAP_X86_DISABLE_EXITS), wanted = 0;
	for (unsigned i = 0; i < count; i++) {
		if (!(offered & exits[i].bit))
			return vn_fail(error, -ENOTSUP,
				"idle=%s: this host's KVM cannot leave %s to the guest "
				"(KVM_CAP_X86_DISABLE_EXITS is 0x%llx); idle=halt needs nothing",
				name, exits[i].name, (unsigned long long)offered);
		wanted |= exits[i].bit;
	}
	if (idle == VENEER_IDLE_MWAIT)
		wanted |= offered & KVM_X86_DISABLE_EXITS_CSTATE;
	int code = enable(kvm, KVM_CAP_X86_DISABLE_EXITS, wanted);
	return code < 0 ? vn_fail(error, code, "KVM_CAP_X86_DISABLE_EXITS: %s", strerror(-code))
			: 0;
}

int vn_kvm_set_halt_poll(const struct vn_kvm *kvm, int64_t ns, struct veneer_error *error)
{
	if (ns == -1)
		return 0;
	if (ns < 0 || ns > UINT32_MAX)
		return vn_fail(error, -EINVAL, "halt-poll-ns=%lld: must be 0 to %lu", (long long)ns,
			(unsigned long)UINT32_MAX);
	if (!vn_kvm_capability(kvm, KVM_CAP_HALT_POLL))
		return vn_fail(error, -ENOTSUP,
			"halt-poll-ns: this host's KVM lacks KVM_CAP_HALT_POLL (Linux 5.8); "
			"/sys/module/kvm/parameters/halt_poll_ns sets it for all guests");
	int code = enable(kvm, KVM_CAP_HALT_POLL, (uint64_t)ns);
	return code < 0 ? vn_fail(error, code, "KVM_CAP_HALT_POLL: %s", strerror(-code)) : 0;
}
