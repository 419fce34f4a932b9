// SPDX-License-Identifier: Apache-2.0
//
// Message-signalled interrupts: their state without KVM; and, where there is /dev/kvm, that what is
// raised reaches the request register of a vCPU's local APIC, at once or when it is unmasked, also
// while another thread raises. And that a pin reaches a vCPU through the 8259 only once that is
// programmed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86/chips.h"
#include "arch/x86/map.h"
#include "base/clock.h"
#include "core/irq.h"
#include "devices/event.h"

#define MSI_ADDRESS 0xfee00000ull // to the local APIC with id 0
#define VECTOR      0x41
#define OTHER       0x52
#define APIC_SPIV   0xf0
#define APIC_IRR    0x200
#define GSI_MIN     24

#define IOAPIC_LEVEL  (1u << 15)
#define IOAPIC_MASKED (1u << 16)
#define MESSAGES      2048

static struct vn_irqs *make_irqs(const struct vn_kvm *kvm)
{
	struct vn_irqs *irqs;
	struct veneer_error error;
	if (vn_irqs_create(&irqs, kvm, &error) < 0)
		fail_msg("%s", error.message);
	return irqs;
}

static void open_msi(struct vn_msi *msi, struct vn_irqs *irqs)
{
	struct veneer_error error;
	if (vn_msi_open(msi, irqs, &error) < 0)
		fail_msg("%s", error.message);
}

static void a_new_one_is_masked(void **state)
{
	(void)state;
	struct vn_irqs *irqs = make_irqs(NULL);
	struct vn_msi msi;
	open_msi(&msi, irqs);
	assert_true(msi.masked);
	assert_true(msi.irq.gsi >= GSI_MIN);
	assert_false(vn_msi_is_pending(&msi));
	vn_irq_raise(&msi.irq);
	vn_irq_raise(&msi.irq);
	assert_true(vn_msi_is_pending(&msi));
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, VECTOR), 0);
	assert_true(vn_msi_is_pending(&msi));
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_false(vn_msi_is_pending(&msi));
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_int_equal(vn_msi_mask(&msi), 0);
	assert_int_equal(vn_msi_mask(&msi), 0);
	vn_msi_close(&msi);
	vn_msi_close(&msi);
	vn_irqs_destroy(irqs);
}

static void each_has_a_gsi_of_its_own(void **state)
{
	(void)state;
	struct vn_irqs *irqs = make_irqs(NULL);
	struct vn_msi msis[40];
	for (unsigned i = 0; i < 40; i++) {
		open_msi(&msis[i], irqs);
		for (unsigned n = 0; n < i; n++)
			assert_int_not_equal(msis[i].irq.gsi, msis[n].irq.gsi);
	}
	uint32_t freed = msis[7].irq.gsi;
	vn_msi_close(&msis[7]);
	open_msi(&msis[7], irqs);
	assert_int_equal(msis[7].irq.gsi, freed);
	for (unsigned i = 0; i < 40; i++)
		vn_msi_close(&msis[i]);
	vn_irqs_destroy(irqs);
}

static void they_run_out(void **state)
{
	(void)state;
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < MESSAGES + 64) {
		print_message(
			"# at most %llu files may be open\n", (unsigned long long)limit.rlim_max);
		skip();
	}
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	struct vn_irqs *irqs = make_irqs(NULL);
	struct vn_msi *msis = calloc(MESSAGES + 1, sizeof(*msis));
	assert_non_null(msis);
	for (unsigned i = 0; i < MESSAGES; i++)
		open_msi(&msis[i], irqs);
	struct veneer_error error = {.code = 0};
	assert_int_equal(vn_msi_open(&msis[MESSAGES], irqs, &error), -ENOSPC);
	assert_non_null(strstr(error.message, "2048"));
	vn_msi_close(&msis[MESSAGES]);
	vn_msi_close(&msis[MESSAGES - 1]);
	open_msi(&msis[MESSAGES], irqs);
	for (unsigned i = 0; i <= MESSAGES; i++)
		vn_msi_close(&msis[i]);
	free(msis);
	vn_irqs_destroy(irqs);
}

// A machine with one vCPU, which never runs.
struct machine {
	struct vn_kvm kvm;
	struct vn_irqs *irqs;
	int vcpu;
};

static void get_lapic(const struct machine *machine, struct kvm_lapic_state *lapic)
{
	assert_int_equal(vn_kvm_ioctl(machine->vcpu, KVM_GET_LAPIC, lapic), 0);
}

static void set_lapic(const struct machine *machine, struct kvm_lapic_state *lapic)
{
	assert_int_equal(vn_kvm_ioctl(machine->vcpu, KVM_SET_LAPIC, lapic), 0);
}

static uint32_t *request_word(struct kvm_lapic_state *lapic, unsigned vector)
{
	return (uint32_t *)(void *)(lapic->regs + APIC_IRR + vector / 32 * 0x10);
}

// Whether an interrupt is requested; it is taken back.
static bool take(const struct machine *machine, unsigned vector)
{
	struct kvm_lapic_state lapic;
	get_lapic(machine, &lapic);
	uint32_t *word = request_word(&lapic, vector), bit = 1u << vector % 32;
	if (!(*word & bit))
		return false;
	*word &= ~bit;
	set_lapic(machine, &lapic);
	return true;
}

// KVM may deliver from a thread of its own.
static bool take_soon(const struct machine *machine, unsigned vector)
{
	const struct timespec pause = {.tv_nsec = NS_PER_MS};
	for (unsigned i = 0; i < 20000; i++) {
		if (take(machine, vector))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static int make_machine(void **state)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	struct veneer_error error;
	*state = machine;
	if (!machine)
		return -1;
	machine->vcpu = -1;
	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		machine->kvm.vm_fd = -1;
		return 0;
	}
	if (vn_kvm_open(&machine->kvm, &error) < 0 || vn_kvm_create(&machine->kvm, &error) < 0 ||
		vn_chips_create(&machine->kvm, false, &error) < 0)
		return -1;
	machine->vcpu = vn_kvm_ioctl(machine->kvm.vm_fd, KVM_CREATE_VCPU, NULL);
	if (machine->vcpu < 0)
		return -1;
	struct kvm_lapic_state lapic;
	get_lapic(machine, &lapic);
	memcpy(lapic.regs + APIC_SPIV, &(uint32_t){0x1ff}, 4); // software enable
	set_lapic(machine, &lapic);
	machine->irqs = make_irqs(&machine->kvm);
	return 0;
}

static int drop_machine(void **state)
{
	struct machine *machine = *state;
	if (machine->kvm.vm_fd >= 0) {
		vn_irqs_destroy(machine->irqs);
		close(machine->vcpu);
		vn_kvm_destroy(&machine->kvm);
	}
	free(machine);
	return 0;
}

static const struct machine *need_kvm(void **state)
{
	const struct machine *machine = *state;
	if (machine->kvm.vm_fd < 0) {
		print_message("# /dev/kvm cannot be opened\n");
		skip();
	}
	return machine;
}

static void raised_ones_arrive(void **state)
{
	const struct machine *machine = need_kvm(state);
	struct vn_msi msi, other;
	open_msi(&msi, machine->irqs);
	open_msi(&other, machine->irqs);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, VECTOR), 0);
	assert_int_equal(vn_msi_set(&other, MSI_ADDRESS, OTHER), 0);
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_int_equal(vn_msi_unmask(&other), 0);
	assert_false(take(machine, VECTOR));
	vn_irq_raise(&msi.irq);
	assert_true(take_soon(machine, VECTOR));
	assert_false(take(machine, OTHER));
	vn_irq_raise(&other.irq);
	assert_true(take_soon(machine, OTHER));
	assert_false(take(machine, VECTOR));
	vn_msi_close(&other);
	vn_msi_close(&msi);
}

static void masked_ones_wait(void **state)
{
	const struct machine *machine = need_kvm(state);
	struct vn_msi msi;
	open_msi(&msi, machine->irqs);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, VECTOR), 0);
	vn_irq_raise(&msi.irq);
	assert_true(vn_msi_is_pending(&msi));
	assert_false(take(machine, VECTOR));
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_true(take_soon(machine, VECTOR));
	assert_int_equal(vn_msi_mask(&msi), 0);
	assert_false(vn_msi_is_pending(&msi)); // delivered, and so no more
	vn_irq_raise(&msi.irq);
	assert_true(vn_msi_is_pending(&msi));
	assert_false(take(machine, VECTOR));
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_true(take_soon(machine, VECTOR));
	vn_msi_close(&msi);
}

static void a_reset_forgets_what_waits(void **state)
{
	const struct machine *machine = need_kvm(state);
	struct vn_msi msi;
	open_msi(&msi, machine->irqs);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, VECTOR), 0);
	assert_int_equal(vn_msi_reset(&msi), 0); // with nothing to forget
	vn_irq_raise(&msi.irq);
	assert_true(vn_msi_is_pending(&msi));
	assert_int_equal(vn_msi_reset(&msi), 0);
	assert_false(vn_msi_is_pending(&msi));
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_false(take(machine, VECTOR));
	vn_irq_raise(&msi.irq);
	assert_true(take_soon(machine, VECTOR));
	assert_int_equal(vn_msi_reset(&msi), 0); // which masks
	vn_irq_raise(&msi.irq);
	assert_true(vn_msi_is_pending(&msi));
	assert_false(take(machine, VECTOR));
	vn_msi_close(&msi);
}

static void the_message_may_change(void **state)
{
	const struct machine *machine = need_kvm(state);
	struct vn_msi msi;
	open_msi(&msi, machine->irqs);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, VECTOR), 0);
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, OTHER), 0);
	vn_irq_raise(&msi.irq);
	assert_true(take_soon(machine, OTHER));
	assert_int_equal(vn_msi_mask(&msi), 0);
	vn_irq_raise(&msi.irq);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, VECTOR), 0);
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_true(take_soon(machine, VECTOR));
	assert_false(take(machine, OTHER));
	vn_msi_close(&msi);
}

struct raiser {
	const struct vn_irq *irq;
	atomic_uint asked, done;
	atomic_bool stop;
};

static void *raise_when_asked(void *argument)
{
	struct raiser *raiser = argument;
	unsigned done = 0;
	while (!atomic_load(&raiser->stop)) {
		if (atomic_load(&raiser->asked) == done)
			continue;
		vn_irq_raise(raiser->irq);
		atomic_store(&raiser->done, ++done);
	}
	return NULL;
}

// Each raising is somewhere in a mask and an unmask, and none is lost.
static void none_is_lost_while_masks_change(void **state)
{
	const struct machine *machine = need_kvm(state);
	struct vn_msi msi;
	open_msi(&msi, machine->irqs);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, VECTOR), 0);
	struct raiser raiser = {.irq = &msi.irq};
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, raise_when_asked, &raiser), 0);
	for (unsigned i = 1; i <= 200; i++) {
		atomic_store(&raiser.asked, i);
		do {
			assert_int_equal(vn_msi_unmask(&msi), 0);
			assert_int_equal(vn_msi_mask(&msi), 0);
		} while (atomic_load(&raiser.done) != i);
		assert_int_equal(vn_msi_unmask(&msi), 0);
		if (!take_soon(machine, VECTOR))
			fail_msg("interrupt %u is lost", i);
		assert_int_equal(vn_msi_mask(&msi), 0);
		take(machine, VECTOR); // told of twice is allowed
	}
	atomic_store(&raiser.stop, true);
	pthread_join(thread, NULL);
	vn_msi_close(&msi);
}

// The pins stay as KVM has them by itself: GSI 5 is the IOAPIC's pin 5.
static void pins_keep_their_numbers(void **state)
{
	const struct machine *machine = need_kvm(state);
	struct vn_msi msi;
	struct vn_irq pin;
	struct veneer_error error;
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	open_msi(&msi, machine->irqs);
	assert_int_equal(vn_msi_set(&msi, MSI_ADDRESS, OTHER), 0);
	assert_int_equal(vn_msi_unmask(&msi), 0);
	assert_int_equal(vn_kvm_ioctl(machine->kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	chip.chip.ioapic.redirtbl[5].bits = VECTOR; // edge, not masked, to APIC id 0
	assert_int_equal(vn_kvm_ioctl(machine->kvm.vm_fd, KVM_SET_IRQCHIP, &chip), 0);
	assert_int_equal(vn_irq_open(&pin, &machine->kvm, 5, &error), 0);
	vn_irq_raise(&pin);
	assert_true(take_soon(machine, VECTOR));
	vn_irq_close(&pin);
	vn_msi_close(&msi);
}

static void get_ioapic(const struct machine *machine, struct kvm_irqchip *chip)
{
	*chip = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_IOAPIC};
	assert_int_equal(vn_kvm_ioctl(machine->kvm.vm_fd, KVM_GET_IRQCHIP, chip), 0);
}

static void set_event_pin(const struct machine *machine, uint64_t entry)
{
	struct kvm_irqchip chip;
	get_ioapic(machine, &chip);
	chip.chip.ioapic.redirtbl[VN_GSI_EVENT].bits = entry;
	assert_int_equal(vn_kvm_ioctl(machine->kvm.vm_fd, KVM_SET_IRQCHIP, &chip), 0);
}

static bool event_line_is_up(const struct machine *machine)
{
	struct kvm_irqchip chip;
	get_ioapic(machine, &chip);
	return chip.chip.ioapic.irr & 1u << VN_GSI_EVENT;
}

// The pin is masked and edge-triggered, as it is before a driver sets it up, when the event comes.
static void an_event_waits_for_its_driver(void **state)
{
	const struct machine *machine = need_kvm(state);
	struct vn_bus pio = {0};
	struct vn_event *event;
	uint8_t pending;
	assert_int_equal(vn_event_create(&event, &machine->kvm, &pio, NULL), 0);
	vn_event_raise(event, VN_EVENT_BUTTON);
	assert_false(take(machine, VECTOR));
	set_event_pin(machine, IOAPIC_MASKED | IOAPIC_LEVEL | VECTOR);
	assert_false(take(machine, VECTOR));
	set_event_pin(machine, IOAPIC_LEVEL | VECTOR);
	assert_true(take_soon(machine, VECTOR));
	assert_true(event_line_is_up(machine));
	vn_bus_read(&pio, VN_PORT_EVENT, &pending, 1);
	assert_int_equal(pending, VN_EVENT_BUTTON);
	assert_false(event_line_is_up(machine));
	vn_event_destroy(event);
}

// A program in real mode that lets interrupts in, then programs the master 8259 to deliver line 4
// alone, from vector 0x20 on, and lets them in again. It stops for the host with a write to a port,
// between and after; the handlers of vectors 4 and 0x24 do so too.
#define PROGRAM     0x1000
#define HANDLERS    0x2000
#define HANDLER     0x10 // bytes of each
#define PORT_STEP   0x80
#define PORT_VECTOR 0x81
#define LINE        4

static const uint8_t program[] = {
	0xfb, 0xb9, 0x00, 0x10, 0xe2, 0xfe, // sti; mov $4096, %cx; loop .
	0xb0, 1, 0xe6, PORT_STEP, // mov $1, %al; out %al, $PORT_STEP
	0xfa, // cli
	0xb0, 0x11, 0xe6, 0x20, // ICW1: edge-triggered, cascaded, ICW4 follows
	0xb0, 0x20, 0xe6, 0x21, // ICW2: vectors from 0x20 on
	0xb0, 0x04, 0xe6, 0x21, // ICW3: the slave is on line 2
	0xb0, 0x01, 0xe6, 0x21, // ICW4: 8086 mode
	0xb0, 0xff & ~(1 << LINE), 0xe6, 0x21, // OCW1
	0xb0, 2, 0xe6, PORT_STEP, // the host raises the line
	0xfb, 0xb9, 0x00, 0x10, 0xe2, 0xfe, // sti; mov $4096, %cx; loop .
	0xb0, 3, 0xe6, PORT_STEP, //
};

static void add_handler(uint8_t *memory, uint8_t vector)
{
	const uint16_t at = (uint16_t)(HANDLERS + vector * HANDLER);
	const uint8_t code[] = {0xb0, vector, 0xe6, PORT_VECTOR, 0xcf}; // and iret

	memcpy(memory + at, code, sizeof(code));
	memcpy(memory + 4 * vector, &at, sizeof(at));
}

static uint8_t *load_program(const struct machine *machine)
{
	uint8_t *memory =
		mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	memcpy(memory + PROGRAM, program, sizeof(program));
	add_handler(memory, LINE);
	add_handler(memory, 0x20 + LINE);
	struct kvm_userspace_memory_region region = {
		.memory_size = 0x10000, .userspace_addr = (uintptr_t)memory};
	assert_int_equal(vn_kvm_ioctl(machine->kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	struct kvm_sregs sregs;
	assert_int_equal(vn_kvm_ioctl(machine->vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	assert_int_equal(vn_kvm_ioctl(machine->vcpu, KVM_SET_SREGS, &sregs), 0);
	struct kvm_regs regs = {.rip = PROGRAM, .rsp = 0x8000, .rflags = 2};
	assert_int_equal(vn_kvm_ioctl(machine->vcpu, KVM_SET_REGS, &regs), 0);
	return memory;
}

// Run to the next write to `port`, which must be of `value`.
static void run_to(const struct machine *machine, struct kvm_run *run, uint16_t port, uint8_t value)
{
	assert_int_equal(vn_kvm_ioctl(machine->vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	uint8_t written = *((uint8_t *)run + run->io.data_offset);
	if (run->io.port != port || written != value)
		fail_msg("0x%x to port 0x%x, not 0x%x to 0x%x", written, run->io.port, value, port);
}

// KVM raises pins from a thread of its own.
static void raise_line(const struct machine *machine, const struct vn_irq *pin)
{
	const struct timespec pause = {.tv_nsec = NS_PER_MS};
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
	vn_irq_raise(pin);
	for (unsigned i = 0; i < 20000 && !(chip.chip.pic.irr & 1 << LINE); i++) {
		nanosleep(&pause, NULL);
		assert_int_equal(vn_kvm_ioctl(machine->kvm.vm_fd, KVM_GET_IRQCHIP, &chip), 0);
	}
	assert_true(chip.chip.pic.irr & 1 << LINE);
}

static void the_8259_is_silent_until_programmed(void **state)
{
	const struct machine *machine = need_kvm(state);
	uint8_t *memory = load_program(machine);
	struct kvm_run *run = mmap(
		NULL, machine->kvm.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu, 0);
	struct veneer_error error;
	struct vn_irq pin;
	assert_ptr_not_equal(run, MAP_FAILED);
	assert_int_equal(vn_irq_open(&pin, &machine->kvm, LINE, &error), 0);
	raise_line(machine, &pin);
	run_to(machine, run, PORT_STEP, 1);
	run_to(machine, run, PORT_STEP, 2);
	raise_line(machine, &pin);
	run_to(machine, run, PORT_VECTOR, 0x20 + LINE);
	run_to(machine, run, PORT_STEP, 3);
	vn_irq_close(&pin);
	munmap(run, machine->kvm.run_size);
	munmap(memory, 0x10000);
}

int main(void)
{
#define WITH_KVM(name) cmocka_unit_test_setup_teardown(name, make_machine, drop_machine)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_one_is_masked),
		cmocka_unit_test(each_has_a_gsi_of_its_own),
		cmocka_unit_test(they_run_out),
		WITH_KVM(raised_ones_arrive),
		WITH_KVM(masked_ones_wait),
		WITH_KVM(a_reset_forgets_what_waits),
		WITH_KVM(the_message_may_change),
		WITH_KVM(none_is_lost_while_masks_change),
		WITH_KVM(pins_keep_their_numbers),
		WITH_KVM(an_event_waits_for_its_driver),
		WITH_KVM(the_8259_is_silent_until_programmed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
