// SPDX-License-Identifier: Apache-2.0
#include "arch/x86/idle.h"

#include <errno.h>
#include <string.h>

const char *const vn_idle_names[] = {
	[VN_IDLE_HALT] = "halt", [VN_IDLE_POLL] = "poll", [VN_IDLE_MWAIT] = "mwait", NULL};

// KVM offers all but PAUSE only where nothing is wrong with that: HLT not on CPUs whose sibling
// thread could be made to mispredict by it, MWAIT not where it stops the local APIC's timer.
int vn_idle_set(const struct vn_kvm *kvm, enum vn_idle idle, struct veneer_error *error)
{
	if (idle == VN_IDLE_HALT)
		return 0;
	static const struct {
		uint64_t bit;
		const char *name;
	} exits[] = {{KVM_X86_DISABLE_EXITS_HLT, "HLT"}, {KVM_X86_DISABLE_EXITS_PAUSE, "PAUSE"},
		{KVM_X86_DISABLE_EXITS_MWAIT, "MWAIT"}};
	unsigned count = idle == VN_IDLE_MWAIT ? 3 : 2;
	uint64_t offered = (uint64_t)vn_kvm_capability(kvm, KVM_CAP_X86_DISABLE_EXITS), wanted = 0;
	for (unsigned i = 0; i < count; i++) {
		if (!(offered & exits[i].bit))
			return vn_fail(error, -ENOTSUP,
				"idle=%s: "
				"this host's KVM cannot leave %s to the guest "
				"(KVM_CAP_X86_DISABLE_EXITS is 0x%llx); idle=halt needs nothing",
				vn_idle_names[idle], exits[i].name, (unsigned long long)offered);
		wanted |= exits[i].bit;
	}
	if (idle == VN_IDLE_MWAIT)
		wanted |= offered & KVM_X86_DISABLE_EXITS_CSTATE;
	int code = vn_kvm_enable(kvm, KVM_CAP_X86_DISABLE_EXITS, wanted);
	return code < 0 ? vn_fail(error, code, "KVM_CAP_X86_DISABLE_EXITS: %s", strerror(-code))
			: 0;
}
