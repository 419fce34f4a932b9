// SPDX-License-Identifier: Apache-2.0
#include "arch/x86/vcpu_state.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

// What KVM's list of registers to save leaves out, although a guest changes it: memory types,
// machine checks' banks, and, on some hosts, TSC_AUX. Those that a vCPU lacks are left out as well.
#define MSR_MTRR_VARIABLE 0x200 // base and mask of 8
#define MTRR_VARIABLES    16
#define MSR_MTRR_DEFAULT  0x2ff
#define MSR_MC0_CTL       0x400 // control, status, address, miscellaneous of each bank
#define MC_REGISTERS      (4 * 32)
#define MSR_TSC_AUX       0xc0000103
static const uint32_t mtrr_fixed[] = {
	0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
#define MSRS_MORE (MTRR_VARIABLES + ARRAY_SIZE(mtrr_fixed) + 1 + MC_REGISTERS + 1)

#define MSRS_AT_ONCE 64u // KVM takes fewer than 256

#define XSAVE_SIZE 4096 // of KVM_GET_XSAVE: without what a guest has to ask for (AMX)
#define NESTED_MAX (3 * 4096) // more than any KVM has of a hypervisor within the guest

struct vn_vcpu_state {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_msrs *msrs;
	bool has_nested, has_xsave, has_xcrs, has_debugregs, has_events; // KVM knows these
	_Alignas(64) uint8_t nested[NESTED_MAX]; // struct kvm_nested_state
	_Alignas(64) uint8_t xsave[XSAVE_SIZE];
};

// A part of the state that is one structure.
struct part {
	const char *name;
	unsigned long get, set;
	size_t offset;
	size_t has; // offset of the flag; 0: always
};

#define PART(name_, get_, set_, field)                                                             \
	{                                                                                          \
		name_, get_, set_, offsetof(struct vn_vcpu_state, field), 0                        \
	}
#define PART_IF(name_, get_, set_, field)                                                          \
	{                                                                                          \
		name_, get_, set_, offsetof(struct vn_vcpu_state, field),                          \
			offsetof(struct vn_vcpu_state, has_##field)                                \
	}

// In the order of writing, to which KVM's checks give the reasons: a hypervisor within the guest
// forbids changes of the control registers; these and XCR0 say what of the others may be; the
// APIC's base precedes the APIC; model-specific registers, which arm the APIC's timer, follow it;
// what is pending is last.
static const struct part before_msrs[] = {
	PART("run state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, mp_state),
	PART_IF("nested state", KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE, nested),
	PART("registers", KVM_GET_REGS, KVM_SET_REGS, regs),
	PART("system registers", KVM_GET_SREGS, KVM_SET_SREGS, sregs),
	PART_IF("XCR0", KVM_GET_XCRS, KVM_SET_XCRS, xcrs),
	PART_IF("FPU state", KVM_GET_XSAVE, KVM_SET_XSAVE, xsave),
	PART_IF("debug registers", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, debugregs),
	PART("local APIC", KVM_GET_LAPIC, KVM_SET_LAPIC, lapic),
};
static const struct part after_msrs[] = {
	PART_IF("pending events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, events),
};

static bool has(const struct vn_vcpu_state *state, const struct part *part)
{
	return part->has == 0 || *((const bool *)((const char *)state + part->has));
}

static size_t msrs_size(uint32_t count)
{
	return sizeof(struct kvm_msrs) + count * sizeof(struct kvm_msr_entry);
}

static void add_msr(struct kvm_msrs *msrs, uint32_t index)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++)
		if (msrs->entries[i].index == index)
			return;
	msrs->entries[msrs->nmsrs++].index = index;
}

static void add_more_msrs(struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < MTRR_VARIABLES; i++)
		add_msr(msrs, MSR_MTRR_VARIABLE + i);
	for (size_t i = 0; i < ARRAY_SIZE(mtrr_fixed); i++)
		add_msr(msrs, mtrr_fixed[i]);
	add_msr(msrs, MSR_MTRR_DEFAULT);
	for (uint32_t i = 0; i < MC_REGISTERS; i++)
		add_msr(msrs, MSR_MC0_CTL + i);
	add_msr(msrs, MSR_TSC_AUX);
}

// The registers that KVM says are to be saved, and some more. Asked with no room, it tells their
// number.
static int list_msrs(struct vn_vcpu_state *state, const struct vn_kvm *kvm)
{
	struct kvm_msr_list number = {.nmsrs = 0};
	int code = vn_kvm_ioctl(kvm->system_fd, KVM_GET_MSR_INDEX_LIST, &number);
	if (code < 0 && code != -E2BIG)
		return code;
	struct kvm_msr_list *list =
		calloc(1, sizeof(*list) + number.nmsrs * sizeof(list->indices[0]));
	uint32_t room = number.nmsrs + (uint32_t)MSRS_MORE;
	state->msrs = calloc(1, msrs_size(room));
	if (list && state->msrs) {
		list->nmsrs = number.nmsrs;
		code = vn_kvm_ioctl(kvm->system_fd, KVM_GET_MSR_INDEX_LIST, list);
		for (uint32_t i = 0; code >= 0 && i < list->nmsrs; i++)
			add_msr(state->msrs, list->indices[i]);
		add_more_msrs(state->msrs);
	} else {
		code = -ENOMEM;
	}
	free(list);
	return code < 0 ? code : 0;
}

void vn_vcpu_state_free(struct vn_vcpu_state *state)
{
	if (state)
		free(state->msrs);
	free(state);
}

int vn_vcpu_state_new(
	struct vn_vcpu_state **result, const struct vn_kvm *kvm, struct veneer_error *error)
{
	struct vn_vcpu_state *state = aligned_alloc(64, (sizeof(*state) + 63) / 64 * 64);
	if (!state)
		return vn_fail(error, -ENOMEM, "no memory for a vCPU's state");
	memset(state, 0, sizeof(*state));
	state->has_nested = vn_kvm_capability(kvm, KVM_CAP_NESTED_STATE) > 0;
	state->has_xsave = vn_kvm_capability(kvm, KVM_CAP_XSAVE) > 0;
	state->has_xcrs = vn_kvm_capability(kvm, KVM_CAP_XCRS) > 0;
	state->has_debugregs = vn_kvm_capability(kvm, KVM_CAP_DEBUGREGS) > 0;
	state->has_events = vn_kvm_capability(kvm, KVM_CAP_VCPU_EVENTS) > 0;
	int code = list_msrs(state, kvm);
	if (code < 0) {
		vn_vcpu_state_free(state);
		return vn_fail(error, code, "KVM does not list its registers: %s", strerror(-code));
	}
	*result = state;
	return 0;
}

static int fail(
	const char *what, const char *part, unsigned index, int code, struct veneer_error *error)
{
	return vn_fail(error, code, "KVM does not %s the %s of vCPU %u: %s", what, part, index,
		strerror(-code));
}

static int read_parts(struct vn_vcpu_state *state, const struct part *parts, size_t count,
	int vcpu_fd, unsigned index, struct veneer_error *error)
{
	for (size_t i = 0; i < count; i++) {
		int code = !has(state, &parts[i]) ? 0
						  : vn_kvm_ioctl(vcpu_fd, parts[i].get,
							    (char *)state + parts[i].offset);
		if (code < 0)
			return fail("tell", parts[i].name, index, code, error);
	}
	return 0;
}

static int write_parts(const struct vn_vcpu_state *state, const struct part *parts, size_t count,
	int vcpu_fd, unsigned index, struct veneer_error *error)
{
	for (size_t i = 0; i < count; i++) {
		const char *from = (const char *)state + parts[i].offset;
		int code = !has(state, &parts[i])
				   ? 0
				   : vn_kvm_ioctl(vcpu_fd, parts[i].set, (void *)(uintptr_t)from);
		if (code < 0)
			return fail("take", parts[i].name, index, code, error);
	}
	return 0;
}

static void drop_msr(struct kvm_msrs *msrs, uint32_t at)
{
	memmove(&msrs->entries[at], &msrs->entries[at + 1],
		(msrs->nmsrs - at - 1) * sizeof(msrs->entries[0]));
	msrs->nmsrs--;
}

// Read or write registers from `at` on, as many as a call takes. How many KVM did: it stops at the
// first that it refuses. *count: how many were asked for.
static int transfer_msrs(
	struct kvm_msrs *msrs, uint32_t at, int vcpu_fd, unsigned long request, uint32_t *count)
{
	union {
		struct kvm_msrs list;
		uint8_t room[sizeof(struct kvm_msrs) + MSRS_AT_ONCE * sizeof(struct kvm_msr_entry)];
	} some = {.list.nmsrs = 0};
	uint32_t left = msrs->nmsrs - at;
	*count = some.list.nmsrs = left < MSRS_AT_ONCE ? left : MSRS_AT_ONCE;
	size_t size = *count * sizeof(msrs->entries[0]);
	memcpy(some.list.entries, &msrs->entries[at], size);
	int done = vn_kvm_ioctl(vcpu_fd, request, &some);
	if (request == KVM_GET_MSRS && done >= 0)
		memcpy(&msrs->entries[at], some.list.entries, size);
	return done;
}

// A vCPU has not all that KVM's list names: what it has not is dropped.
static int read_msrs(
	struct vn_vcpu_state *state, int vcpu_fd, unsigned index, struct veneer_error *error)
{
	uint32_t at = 0, count;
	while (at < state->msrs->nmsrs) {
		int done = transfer_msrs(state->msrs, at, vcpu_fd, KVM_GET_MSRS, &count);
		if (done < 0)
			return fail("tell", "model-specific registers", index, done, error);
		at += (uint32_t)done;
		if ((uint32_t)done < count)
			drop_msr(state->msrs, at);
	}
	return 0;
}

int vn_vcpu_state_read(
	struct vn_vcpu_state *state, int vcpu_fd, unsigned index, struct veneer_error *error)
{
	((struct kvm_nested_state *)state->nested)->size = NESTED_MAX;
	int code = read_parts(state, before_msrs, ARRAY_SIZE(before_msrs), vcpu_fd, index, error);
	if (code == 0)
		code = read_msrs(state, vcpu_fd, index, error);
	return code == 0 ? read_parts(
				   state, after_msrs, ARRAY_SIZE(after_msrs), vcpu_fd, index, error)
			 : code;
}

// Those that KVM does not take back are read-only to the guest as well.
static int write_msrs(
	const struct vn_vcpu_state *state, int vcpu_fd, unsigned index, struct veneer_error *error)
{
	uint32_t at = 0, count;
	while (at < state->msrs->nmsrs) {
		int done = transfer_msrs(state->msrs, at, vcpu_fd, KVM_SET_MSRS, &count);
		if (done < 0)
			return fail("take", "model-specific registers", index, done, error);
		at += (uint32_t)done + ((uint32_t)done < count);
	}
	return 0;
}

// KVM has the vCPU take an INIT or SIPI that is on its way to it when it is asked for its run
// state, so that none comes after that has been set.
int vn_vcpu_state_write(
	const struct vn_vcpu_state *state, int vcpu_fd, unsigned index, struct veneer_error *error)
{
	struct kvm_mp_state before;
	int code = vn_kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &before);
	if (code < 0)
		return fail("tell", "run state", index, code, error);
	code = write_parts(state, before_msrs, ARRAY_SIZE(before_msrs), vcpu_fd, index, error);
	if (code == 0)
		code = write_msrs(state, vcpu_fd, index, error);
	return code == 0 ? write_parts(
				   state, after_msrs, ARRAY_SIZE(after_msrs), vcpu_fd, index, error)
			 : code;
}
