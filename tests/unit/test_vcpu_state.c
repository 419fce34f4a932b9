// SPDX-License-Identifier: Apache-2.0
//
// On /dev/kvm: a vCPU and interrupt chips that were used are as new ones once they have been given
// the state of new ones.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/x86/chips.h"
#include "arch/x86/vcpu_state.h"
#include "base/macros.h"

#define CPUS         2
#define APIC_TASKPRI 0x80
#define GSI          5

// Registers and what a guest may have there: also of those that KVM's list leaves out.
static const struct kvm_msr_entry used_msrs[] = {
	{.index = 0x174, .data = 8}, // IA32_SYSENTER_CS
	{.index = 0x200, .data = 0x80000006}, // IA32_MTRR_PHYSBASE0
	{.index = 0x201, .data = 0x80000800}, // IA32_MTRR_PHYSMASK0
	{.index = 0x250, .data = 0x0505050505050505}, // IA32_MTRR_FIX64K_00000
	{.index = 0x26f, .data = 0x0505050505050505}, // IA32_MTRR_FIX4K_F8000
	{.index = 0x2ff, .data = 0xc00}, // IA32_MTRR_DEF_TYPE
	{.index = 0x401, .data = 1ull << 63}, // IA32_MC0_STATUS: valid
};

#define USED_MSRS ARRAY_SIZE(used_msrs)

union msrs {
	struct kvm_msrs list;
	uint8_t room[sizeof(struct kvm_msrs) + USED_MSRS * sizeof(struct kvm_msr_entry)];
};

struct machine {
	struct vn_kvm kvm;
	int vcpus[CPUS];
};

static struct {
	struct machine used, fresh;
	bool made;
} bench;

static int make_machine(struct machine *machine)
{
	struct veneer_error error;
	machine->vcpus[0] = machine->vcpus[1] = -1;
	if (vn_kvm_open(&machine->kvm, &error) < 0) {
		print_message("# %s\n", error.message);
		return -1;
	}
	if (vn_kvm_create(&machine->kvm, &error) < 0 ||
		vn_chips_create(&machine->kvm, true, &error) < 0)
		fail_msg("%s", error.message);
	for (unsigned i = 0; i < CPUS; i++) {
		machine->vcpus[i] =
			vn_kvm_ioctl(machine->kvm.vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)i);
		assert_true(machine->vcpus[i] >= 0);
	}
	return 0;
}

static void drop_machine(struct machine *machine)
{
	for (unsigned i = 0; i < CPUS; i++)
		close(machine->vcpus[i]);
	vn_kvm_destroy(&machine->kvm);
}

static int make_machines(void **state)
{
	(void)state;
	bench.made = make_machine(&bench.used) == 0 && make_machine(&bench.fresh) == 0;
	return 0;
}

static int drop_machines(void **state)
{
	(void)state;
	if (bench.made) {
		drop_machine(&bench.used);
		drop_machine(&bench.fresh);
	}
	return 0;
}

static void need_kvm(void)
{
	if (!bench.made)
		skip();
}

static void call(int fd, unsigned long request, void *argument)
{
	int code = vn_kvm_ioctl(fd, request, argument);
	if (code < 0)
		fail_msg("request %#lx: %s", request, strerror(-code));
}

// Another program's traces.
static void use_vcpu(int fd)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state = {KVM_MP_STATE_RUNNABLE};
	union msrs msrs = {.list.nmsrs = USED_MSRS};
	call(fd, KVM_SET_MP_STATE, &mp_state);
	call(fd, KVM_GET_REGS, &regs);
	regs.rip = 0x1234;
	regs.rax = regs.rsp = 0x5678;
	call(fd, KVM_SET_REGS, &regs);
	call(fd, KVM_GET_SREGS, &sregs);
	sregs.cs.base = 0x8000;
	sregs.cs.selector = 0x800;
	sregs.cr2 = sregs.cr3 = 0x5000;
	call(fd, KVM_SET_SREGS, &sregs);
	call(fd, KVM_GET_LAPIC, &lapic);
	lapic.regs[APIC_TASKPRI] = 0x20;
	call(fd, KVM_SET_LAPIC, &lapic);
	call(fd, KVM_GET_DEBUGREGS, &debugregs);
	debugregs.db[0] = 0x1000;
	call(fd, KVM_SET_DEBUGREGS, &debugregs);
	memcpy(msrs.list.entries, used_msrs, sizeof(used_msrs));
	assert_int_equal(ioctl(fd, KVM_SET_MSRS, &msrs), USED_MSRS);
	call(fd, KVM_GET_VCPU_EVENTS, &events);
	events.nmi.pending = 1;
	call(fd, KVM_SET_VCPU_EVENTS, &events);
}

#define EXPECT_EQUAL(type, request)                                                                \
	do {                                                                                       \
		struct type one, other;                                                            \
		memset(&one, 0, sizeof(one));                                                      \
		memset(&other, 0, sizeof(other));                                                  \
		call(fd, request, &one);                                                           \
		call(as, request, &other);                                                         \
		assert_memory_equal(&one, &other, sizeof(one));                                    \
	} while (0)

static void expect_as(int fd, int as)
{
	union msrs msrs = {.list.nmsrs = USED_MSRS}, others;
	EXPECT_EQUAL(kvm_mp_state, KVM_GET_MP_STATE);
	EXPECT_EQUAL(kvm_regs, KVM_GET_REGS);
	EXPECT_EQUAL(kvm_sregs, KVM_GET_SREGS);
	EXPECT_EQUAL(kvm_lapic_state, KVM_GET_LAPIC);
	EXPECT_EQUAL(kvm_debugregs, KVM_GET_DEBUGREGS);
	EXPECT_EQUAL(kvm_vcpu_events, KVM_GET_VCPU_EVENTS);
	memcpy(msrs.list.entries, used_msrs, sizeof(used_msrs));
	others = msrs;
	assert_int_equal(ioctl(fd, KVM_GET_MSRS, &msrs), USED_MSRS);
	assert_int_equal(ioctl(as, KVM_GET_MSRS, &others), USED_MSRS);
	assert_memory_equal(&msrs, &others, sizeof(msrs));
}

static void a_vcpu_takes_the_state_of_a_new_one(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_error error = {.code = 0};
	struct vn_vcpu_state *saved;
	if (vn_vcpu_state_new(&saved, &bench.fresh.kvm, &error) < 0)
		fail_msg("%s", error.message);
	for (unsigned i = 0; i < CPUS; i++) {
		int fd = bench.used.vcpus[i], as = bench.fresh.vcpus[i];
		if (vn_vcpu_state_read(saved, as, i, &error) < 0)
			fail_msg("%s", error.message);
		for (unsigned round = 0; round < 2; round++) {
			use_vcpu(fd);
			if (vn_vcpu_state_write(saved, fd, i, &error) < 0)
				fail_msg("%s", error.message);
			expect_as(fd, as);
		}
	}
	vn_vcpu_state_free(saved);
	vn_vcpu_state_free(NULL);
}

static void use_chips(int fd)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_irq_level level = {.irq = GSI, .level = 1};
	struct kvm_pit_state2 pit;
	call(fd, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[GSI].bits = 1u << 16 | 0x41; // masked
	chip.chip.ioapic.ioregsel = 3;
	call(fd, KVM_SET_IRQCHIP, &chip);
	call(fd, KVM_IRQ_LINE, &level);
	level.level = 0;
	call(fd, KVM_IRQ_LINE, &level);
	chip = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_PIC_MASTER};
	call(fd, KVM_GET_IRQCHIP, &chip);
	chip.chip.pic.imr = 0;
	chip.chip.pic.irq_base = 0x20;
	call(fd, KVM_SET_IRQCHIP, &chip);
	call(fd, KVM_GET_PIT2, &pit);
	pit.channels[2].count = 1000;
	pit.channels[2].mode = 3;
	call(fd, KVM_SET_PIT2, &pit);
}

static void expect_chips_as(int fd, int as)
{
	static const uint32_t ids[] = {
		KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};
	struct kvm_pit_state2 pit, other_pit;
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		struct kvm_irqchip one, other;
		memset(&one, 0, sizeof(one));
		memset(&other, 0, sizeof(other));
		one.chip_id = other.chip_id = ids[i];
		call(fd, KVM_GET_IRQCHIP, &one);
		call(as, KVM_GET_IRQCHIP, &other);
		assert_memory_equal(&one, &other, sizeof(one));
	}
	call(fd, KVM_GET_PIT2, &pit);
	call(as, KVM_GET_PIT2, &other_pit);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pit.channels[i].count, other_pit.channels[i].count);
		assert_int_equal(pit.channels[i].mode, other_pit.channels[i].mode);
	}
}

static void chips_take_the_state_of_new_ones(void **state)
{
	(void)state;
	need_kvm();
	struct veneer_error error = {.code = 0};
	for (unsigned round = 0; round < 2; round++) {
		use_chips(bench.used.kvm.vm_fd);
		if (vn_chips_copy(&bench.used.kvm, &bench.fresh.kvm, true, &error) < 0)
			fail_msg("%s", error.message);
		expect_chips_as(bench.used.kvm.vm_fd, bench.fresh.kvm.vm_fd);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_machines, drop_machines)
	const struct CMUnitTest tests[] = {
		TEST(a_vcpu_takes_the_state_of_a_new_one),
		TEST(chips_take_the_state_of_new_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
