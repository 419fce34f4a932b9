// SPDX-License-Identifier: Apache-2.0
//
// KVM_CREATE_IRQCHIP and what belongs to it.
#include "arch/x86/chips.h"

#include <string.h>

#include "arch/x86/map.h"
#include "base/macros.h"

// Three pages for Intel's real-mode emulation, and one for its identity map; both lie in the hole.
// Other hosts ignore them.
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

// Mask all lines of both 8259s, as firmware leaves them. KVM creates them with every line unmasked
// and vector base 0, and the boot CPU's LINT0 open to them: a line raised before the guest has
// programmed them, which it never does on a machine with hardware-reduced ACPI, would arrive as an
// exception. ICW1, with which a driver begins, clears the masks.
static int mask_pics(const struct vn_kvm *kvm, struct veneer_error *error)
{
	static const uint32_t pics[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE};
	for (size_t i = 0; i < ARRAY_SIZE(pics); i++) {
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

int vn_chips_create(const struct vn_kvm *kvm, bool pit, struct veneer_error *error)
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

static int copy_chip(
	const struct vn_kvm *to, const struct vn_kvm *from, uint32_t id, struct veneer_error *error)
{
	struct kvm_irqchip chip = {.chip_id = id};
	int code = vn_kvm_ioctl(from->vm_fd, KVM_GET_IRQCHIP, &chip);
	if (code == 0)
		code = vn_kvm_ioctl(to->vm_fd, KVM_SET_IRQCHIP, &chip);
	return code < 0 ? vn_fail(error, code, "KVM does not copy interrupt chip %u: %s", id,
				  strerror(-code))
			: 0;
}

static int copy_pit(const struct vn_kvm *to, const struct vn_kvm *from, struct veneer_error *error)
{
	struct kvm_pit_state2 state;
	int code = vn_kvm_ioctl(from->vm_fd, KVM_GET_PIT2, &state);
	if (code == 0)
		code = vn_kvm_ioctl(to->vm_fd, KVM_SET_PIT2, &state);
	return code < 0 ? vn_fail(error, code, "KVM does not copy the i8254: %s", strerror(-code))
			: 0;
}

// The i8254 first, whose tick would stay pending in the others.
int vn_chips_copy(
	const struct vn_kvm *to, const struct vn_kvm *from, bool pit, struct veneer_error *error)
{
	static const uint32_t chips[] = {
		KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};
	int code = pit ? copy_pit(to, from, error) : 0;
	for (size_t i = 0; code == 0 && i < ARRAY_SIZE(chips); i++)
		code = copy_chip(to, from, chips[i], error);
	return code;
}

void vn_chips_resume(const struct vn_kvm *kvm, bool pit)
{
	if (pit)
		(void)copy_pit(kvm, kvm, NULL);
}
